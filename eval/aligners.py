"""Three ways from a similarity matrix to segments, under one interface, to be compared.

``hough``
    Ours, :func:`matcher.localize.localize`: lines by voting, refined between samples.
``network``
    Temporal network, Tan et al. 2009, "Scalable detection of partial near-duplicate videos by
    visual-temporal consistency": the best frame matches are nodes, those that may follow each other are
    joined, the heaviest path is a segment.
``dynamic``
    Local alignment by dynamic programming, Smith and Waterman 1981, with slopes from 0.5 to 2.

The last two are plain and exact, one asset after the other; neither knows reversed play.

Shape letters: ``nq`` clip frames, ``nr`` asset frames, ``n`` nodes of a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.localize import MAX_SEGMENTS, localize
from matcher.voting import Hits

#: Matches of one clip frame that are looked at: by the network of each asset, by voting of all.
TOP_MATCHES = 6
#: Nodes of a path are at most so far apart, in the clip and in the asset.
WINDOW_SECONDS = 3.0
#: A path of fewer clip frames is chance.
LEAST_FRAMES = 3


@dataclass(frozen=True)
class Aligned:
    """A stretch of a clip and the stretch of an asset that it shows, in seconds, half-open."""

    clip_start_seconds: float
    clip_end_seconds: float
    asset: int
    asset_start_seconds: float
    asset_end_seconds: float
    is_reversed: bool = False


@dataclass(frozen=True)
class Matrix:
    """Similarities of a clip's frames to those of all assets of a program.

    Attributes:
        similarity: (nq, nr).
        clip_seconds: (nq,) evenly spaced.
        asset: (nr,) which asset a column is of, ascending.
        asset_seconds: (nr,) its time there, ascending within an asset.
        clip_end_seconds: Where the clip ends.
        floor: Similarity that is chance.
    """

    similarity: NDArray[np.float32]
    clip_seconds: NDArray[np.float64]
    asset: NDArray[np.int32]
    asset_seconds: NDArray[np.float64]
    clip_end_seconds: float
    floor: float

    @property
    def step_seconds(self) -> float:
        """Time between clip frames."""
        return float(self.clip_seconds[1] - self.clip_seconds[0]) if self.clip_seconds.size > 1 else 1.0


Aligner = Callable[[Matrix], list[Aligned]]
#: A path through one asset: clip rows and the asset's seconds at them, both ascending; its weight.
Path = tuple[NDArray[np.int64], NDArray[np.float64], float]


def hough(matrix: Matrix) -> list[Aligned]:
    """Voting for lines; see :func:`matcher.localize.localize`.

    It wants descriptors: with the columns as unit vectors, a row of the matrix is its own descriptor.
    """
    unit = np.eye(matrix.asset.size, dtype=np.float32)

    def read_band(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        inside = (matrix.asset == asset) & (matrix.asset_seconds >= start) & (matrix.asset_seconds < stop)
        return matrix.asset_seconds[inside], unit[inside]

    matches = localize(
        matrix.clip_seconds, matrix.similarity, _top_hits(matrix), read_band,
        floor=matrix.floor, rival=np.full(matrix.clip_seconds.size, -1.0, np.float32),
        clip_end_seconds=matrix.clip_end_seconds, allow_reversed=True,
    )  # fmt: skip
    return [
        Aligned(m.clip_start_seconds, m.clip_end_seconds, m.asset, m.asset_start_seconds, m.asset_end_seconds,
                m.is_reversed)
        for m in matches
        if m.run.size >= LEAST_FRAMES
    ]  # fmt: skip


def _top_hits(matrix: Matrix) -> Hits:
    """Each clip frame's best matches above the floor; ties go to the earlier column."""
    top = np.argsort(-matrix.similarity, axis=1, kind="stable")[:, :TOP_MATCHES]
    frame, rank = np.nonzero(np.take_along_axis(matrix.similarity, top, axis=1) >= matrix.floor)
    column = top[frame, rank]
    return Hits(
        frame, np.zeros(frame.size, np.int32), matrix.asset[column], matrix.asset_seconds[column],
        matrix.similarity[frame, column],
    )  # fmt: skip


def network(matrix: Matrix) -> list[Aligned]:
    """The heaviest paths of the temporal network, one after the other."""
    return _one_after_another(matrix, heaviest_path)


def dynamic(matrix: Matrix) -> list[Aligned]:
    """The best local alignments, one after the other."""
    return _one_after_another(matrix, local_alignment)


def _one_after_another(
    matrix: Matrix,
    best_path: Callable[[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], float], Path | None],
) -> list[Aligned]:
    """The best path of all assets, then the best through the clip frames that are left, and so on.

    A path may not pass through clip frames that are taken, so only the longest free stretches are asked.
    """
    free = np.ones(matrix.clip_seconds.size, dtype=bool)
    found: list[Aligned] = []
    for _ in range(MAX_SEGMENTS):
        best: tuple[int, Path] | None = None
        for rows in _stretches(free):
            for asset in np.unique(matrix.asset):
                own = matrix.asset == asset
                path = best_path(
                    matrix.similarity[rows][:, own], matrix.clip_seconds[rows], matrix.asset_seconds[own],
                    matrix.floor,
                )  # fmt: skip
                if path is not None and (best is None or path[2] > best[1][2]):
                    best = int(asset), (rows[path[0]], path[1], path[2])
        if best is None:
            break
        found.append(_as_segment(matrix, *best))
        free[best[1][0][0] : best[1][0][-1] + 1] = False
    return sorted(found, key=lambda one: one.clip_start_seconds)


def _stretches(free: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Runs of free rows that are long enough for a path."""
    rows = np.flatnonzero(free)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [run for run in runs if run.size >= LEAST_FRAMES]


def _as_segment(matrix: Matrix, asset: int, path: Path) -> Aligned:
    """A path with borders half a step beyond its ends, which at the clip's ends go to its end."""
    rows, seconds, _ = path
    half = 0.5 * matrix.step_seconds
    clip = matrix.clip_seconds[rows[[0, -1]]]
    speed = float((seconds[-1] - seconds[0]) / (clip[1] - clip[0]))
    start = 0.0 if rows[0] == 0 else float(clip[0]) - half
    end = matrix.clip_end_seconds if rows[-1] == matrix.clip_seconds.size - 1 else float(clip[1]) + half
    return Aligned(
        start, end, asset,
        max(0.0, float(seconds[0]) - speed * (float(clip[0]) - start)),
        float(seconds[-1]) + speed * (end - float(clip[1])),
    )  # fmt: skip


def heaviest_path(
    similarity: NDArray[np.float32],
    clip_seconds: NDArray[np.float64],
    asset_seconds: NDArray[np.float64],
    floor: float,
) -> Path | None:
    """The heaviest path of a temporal network; None when it has too few clip frames.

    Nodes are each clip frame's best matches above the floor, weighted by what they are above it. One may
    follow another that is earlier in the clip, no later in the asset, and within the window in both.
    """
    top = np.argsort(-similarity, axis=1, kind="stable")[:, :TOP_MATCHES]
    row, rank = np.nonzero(np.take_along_axis(similarity, top, axis=1) >= floor)
    column = top[row, rank]
    weight = (similarity[row, column] - floor).astype(np.float64)
    total, before = weight.copy(), np.full(row.size, -1)
    for node in range(row.size):
        # Nodes are in the order of the clip, so all that may come before are done.
        later_clip = clip_seconds[row[node]] - clip_seconds[row[:node]]
        later_asset = asset_seconds[column[node]] - asset_seconds[column[:node]]
        joined = (later_clip > 0) & (later_clip <= WINDOW_SECONDS)
        joined &= (later_asset >= 0) & (later_asset <= WINDOW_SECONDS)
        candidates = np.flatnonzero(joined)
        if candidates.size:
            before[node] = candidates[np.argmax(total[candidates])]
            total[node] += total[before[node]]
    if row.size == 0:
        return None
    nodes = [int(np.argmax(total))]
    while before[nodes[-1]] >= 0:
        nodes.append(int(before[nodes[-1]]))
    nodes.reverse()
    if len(nodes) < LEAST_FRAMES:
        return None
    return row[nodes].astype(np.int64), asset_seconds[column[nodes]], float(total[nodes[-1]])


def local_alignment(
    similarity: NDArray[np.float32],
    clip_seconds: NDArray[np.float64],
    asset_seconds: NDArray[np.float64],
    floor: float,
) -> Path | None:
    """The best local alignment; None when it has too few clip frames.

    The asset is first sampled as densely as the clip, by linear interpolation of its similarities.
    """
    step = float(clip_seconds[1] - clip_seconds[0])
    grid = np.arange(asset_seconds[0], asset_seconds[-1] + step / 2, step)
    scores = np.stack([np.interp(grid, asset_seconds, row) for row in similarity]) - floor
    cells, weight = best_alignment(scores)
    if len(cells) < LEAST_FRAMES:
        return None
    rows = np.array([i for i, _ in cells])
    return rows, grid[[j for _, j in cells]], weight


def best_alignment(scores: NDArray[np.float64]) -> tuple[list[tuple[int, int]], float]:
    """The cells of the best path through (nq, nr) scores, one a row, and their sum.

    From one row to the next a path goes one or two columns on, or it takes two rows in the next column:
    that is a speed of 0.5 to 2 everywhere. Every row on the way counts once.

    Returns:
        Cells by row, none and 0 where no score is positive.
    """
    n, m = scores.shape
    # Two rows and columns of nothing before the first, so that every step back has a place to go.
    best, move = np.zeros((n + 2, m + 2)), np.zeros((n + 2, m + 2), np.int8)
    above = np.zeros(m)
    for i in range(n):
        s = scores[i]
        choices = np.stack([
            s,
            best[i + 1, 1:-1] + s,
            best[i + 1, :-2] + s,
            best[i, 1:-1] + s + above if i else np.full(m, -np.inf),
        ])  # fmt: skip
        move[i + 2, 2:] = choices.argmax(axis=0)
        best[i + 2, 2:] = np.maximum(choices.max(axis=0), 0.0)
        above = s
    i, j = (int(x) for x in np.unravel_index(np.argmax(best), best.shape))
    weight = float(best[i, j])
    cells: list[tuple[int, int]] = []
    while best[i, j] > 0:
        cells.append((i - 2, j - 2))
        if move[i, j] == 3:
            cells.append((i - 3, j - 2))
        di, dj = ((n + 2, 0), (1, 1), (1, 2), (2, 1))[move[i, j]]
        if di > i:
            break
        i, j = i - di, j - dj
    return cells[::-1], weight


ALIGNERS: dict[str, Aligner] = {"hough": hough, "network": network, "dynamic": dynamic}
