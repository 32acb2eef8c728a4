"""Where else a match would fit: a still scene, the opening titles of another episode, a recap.

A match says one place. :func:`look_elsewhere` tells how sure that place is, by laying the same line
elsewhere and comparing the same frames: close by, at every offset; far away, where hits point.

Shape letters: ``n`` frames of the run, ``m`` hits of these frames, ``j`` offsets tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.lines import TOLERANCE_SECONDS, Line
from matcher.refine import SLACK_SIMILARITY, Block, even_shifts, near_line, similarity_on_line
from matcher.voting import Hits

#: Offsets up to so far from the line are all tried.
NEAR_SECONDS = 15.0
#: A mean similarity this much lower at another place is the same footage once more.
ALSO_SIMILARITY = 0.02
#: Other places closer than this are the same one.
SAME_PLACE_SECONDS = 2 * TOLERANCE_SECONDS
#: At most so many other places are told.
MAX_ALSO = 5
#: At most so many that hits point to are read and compared.
MAX_CHECKED = 8
#: A hit this much less similar than the frame is on the line does not point to the same footage.
POINTER_DROP = 0.1
#: Of a place that as large a part of the run points to, the rest may be missing among the hits.
POINTER_SHARE = 0.05
#: At most so many frames of a run are compared, evenly spread.
MAX_FRAMES = 128

#: ``(asset, start_seconds, stop_seconds) -> (nr,) times, (nr, d) descriptors`` in time order.
BandReader = Callable[[int, float, float], tuple[NDArray[np.float64], NDArray[np.float32]]]


class Place(NamedTuple):
    """A stretch of an asset that a run matches as well.

    Attributes:
        asset: Position of the asset.
        asset_start_seconds: Where it starts.
        asset_end_seconds: Where it ends.
        similarity: Mean cosine of the run's frames there.
    """

    asset: int
    asset_start_seconds: float
    asset_end_seconds: float
    similarity: float


@dataclass(frozen=True)
class Doubt:
    """What else would fit.

    Attributes:
        ambiguity: The share, 0 to 1, of the similarity above the floor that the best other place of the
            same asset reaches: 1 where another fits as well.
        offset_slack_seconds: Width of the offsets around the line that fit about as well: up to twice
            ``NEAR_SECONDS``.
        also: Other places that fit as well, best first.
    """

    ambiguity: float
    offset_slack_seconds: float
    also: tuple[Place, ...]


@dataclass(frozen=True)
class Run:
    """Frames of a clip on a line.

    Attributes:
        seconds: (n,) their times.
        vectors: (n, d) their descriptors.
        floor: (n,) similarity that is chance.
        asset: Position of the asset.
        line: From clip time to asset time.
        start_seconds: Where the run starts in the clip.
        end_seconds: Where it ends.
    """

    seconds: NDArray[np.float64]
    vectors: NDArray[np.float32]
    floor: NDArray[np.float32]
    asset: int
    line: Line
    start_seconds: float
    end_seconds: float

    def thinned(self) -> Run:
        """At most so many frames as are compared."""
        if self.seconds.size <= MAX_FRAMES:
            return self
        kept = np.linspace(0, self.seconds.size - 1, MAX_FRAMES).round().astype(np.int64)
        return Run(
            self.seconds[kept], self.vectors[kept], self.floor[kept], self.asset, self.line,
            self.start_seconds, self.end_seconds,
        )  # fmt: skip

    def laid(self, asset: int, offset_seconds: float, reach_seconds: float, read_band: BandReader) -> Block:
        """The run's frames and those of an asset around its line laid at an offset."""
        line = replace(self.line, offset_seconds=offset_seconds)
        places = line.at(self.seconds)
        margin = reach_seconds + 2 * TOLERANCE_SECONDS
        seconds, band = read_band(asset, float(places.min()) - margin, float(places.max()) + margin)
        return Block(self.seconds, seconds, self.vectors @ band.T)

    def place(self, asset: int, offset_seconds: float, similarity: float) -> Place:
        """The stretch under the run when its line is laid at an offset."""
        ends = [self.line.speed * t + offset_seconds for t in (self.start_seconds, self.end_seconds)]
        return Place(asset, max(0.0, min(ends)), max(0.0, max(ends)), similarity)


def look_elsewhere(run: Run, hits: Hits, read_band: BandReader) -> Doubt:
    """Compare a run with the rest of its asset nearby, and with the places that its hits point to.

    Args:
        run: What was matched.
        hits: Of the run's frames; ``frame`` is the position in the run.
        read_band: Gives the frames of an asset between two times.
    """
    probe = run.thinned()
    shifts = even_shifts(NEAR_SECONDS)
    block = probe.laid(run.asset, run.line.offset_seconds, NEAR_SECONDS, read_band)
    centre = shifts.size // 2
    low, high = _slack(near_line([block], run.line, shifts).mean(axis=0), centre)
    nearby = _at(block, run.line, shifts)
    own = nearby[:, centre]
    excess = _excess(nearby, probe.floor)
    distinct = excess[np.abs(shifts) > SAME_PLACE_SECONDS]
    groups = _pointers(run, hits, shifts[low] - SAME_PLACE_SECONDS, shifts[high] + SAME_PLACE_SECONDS)
    level = float(own.mean()) - ALSO_SIMILARITY
    also, rest = _check(probe, groups, read_band, pointed_above=float(own.mean()) - POINTER_DROP)
    other = max([float(distinct.max()), *rest, *(g.excess for g in groups if g.asset == run.asset)])
    found = sorted((place for place in also if place.similarity >= level), key=lambda p: -p.similarity)
    return Doubt(
        ambiguity=min(1.0, other / float(excess[centre])) if excess[centre] > 0 else 1.0,
        offset_slack_seconds=float(shifts[high] - shifts[low]),
        also=tuple(found[:MAX_ALSO]),
    )


def _at(block: Block, line: Line, shifts: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n, j) similarity of a run's frames on a line moved by each of ``shifts``."""
    return similarity_on_line(
        block.similarity, block.band_seconds, line.at(block.clip_seconds)[:, None] + shifts
    )


def _excess(similarity: NDArray[np.float32], floor: NDArray[np.float32]) -> NDArray[np.float64]:
    """(j,) mean similarity above the floor, of (n, j) and (n,); a frame below it counts 0."""
    above: NDArray[np.float64] = np.maximum(similarity - floor[:, None], 0.0).mean(axis=0, dtype=np.float64)
    return above


def _slack(means: NDArray[np.float32], centre: int) -> tuple[int, int]:
    """First and last of the offsets around the centre without a gap that fit about as well."""
    worse = np.flatnonzero(means < means[centre] - SLACK_SIMILARITY)
    before, after = worse[worse < centre], worse[worse > centre]
    return (
        int(before[-1]) + 1 if before.size else 0,
        int(after[0]) - 1 if after.size else means.size - 1,
    )


@dataclass(frozen=True)
class _Pointer:
    """A place that hits point to.

    Attributes:
        asset: Position of the asset.
        offset_seconds: Of a line of the run's speed, by the weighted mean of the hits.
        excess: Sum of the best hits' similarity above the floor, over the frames of the run.
        similarity: Mean of these hits.
        frames: How many frames have one.
    """

    asset: int
    offset_seconds: float
    excess: float
    similarity: float
    frames: int


def _pointers(run: Run, hits: Hits, low: float, high: float) -> list[_Pointer]:
    """Places that hits point to, the heaviest first, without the run's own: offsets from low to high.

    Hits are gathered in cells of offsets as wide as a place; one cut in two by an edge is found by its
    larger part.
    """
    offsets = hits.asset_seconds - run.line.speed * run.seconds[hits.frame]
    moved = offsets - run.line.offset_seconds
    rows = np.flatnonzero((hits.asset != run.asset) | (moved < low) | (moved > high))
    if rows.size == 0:
        return []
    cell = np.floor(offsets[rows] / SAME_PLACE_SECONDS).astype(np.int64)
    order = np.lexsort((hits.similarity[rows], hits.frame[rows], cell, hits.asset[rows]))
    rows, cell = rows[order], cell[order]
    asset, frame = hits.asset[rows], hits.frame[rows]
    new_cell = np.r_[True, (np.diff(cell) != 0) | (np.diff(asset) != 0)]
    # The last of a frame in a cell is its best.
    last = np.r_[new_cell[1:] | (np.diff(frame) != 0), True]
    group = (np.cumsum(new_cell) - 1)[last]
    rows = rows[last]
    frames = np.bincount(group)
    above = np.maximum(hits.similarity[rows] - run.floor[hits.frame[rows]], 0.0).astype(np.float64)
    excess = np.bincount(group, weights=above) / run.seconds.size
    weights = above + 1e-9
    centre = np.bincount(group, weights=weights * offsets[rows]) / np.bincount(group, weights=weights)
    similarity = np.bincount(group, weights=hits.similarity[rows]) / frames
    own_asset = hits.asset[rows][np.searchsorted(group, np.arange(frames.size))]
    return [
        _Pointer(int(own_asset[g]), float(centre[g]), float(excess[g]), float(similarity[g]), int(frames[g]))
        for g in np.argsort(-excess, kind="stable")
    ]


def _check(
    run: Run, pointers: list[_Pointer], read_band: BandReader, *, pointed_above: float
) -> tuple[list[Place], list[float]]:
    """Lay the run at the places pointed to: where it lies best there, and what the own asset's reach."""
    needed = min(run.seconds.size, max(2, round(POINTER_SHARE * run.seconds.size)))
    shifts = even_shifts(TOLERANCE_SECONDS)
    checked: list[tuple[int, float]] = []
    places, in_own = [], []
    for pointer in pointers:
        if pointer.frames < needed or pointer.similarity < pointed_above:
            continue
        if any(_is_same(pointer.asset, pointer.offset_seconds, *one) for one in checked):
            continue
        if len(checked) == MAX_CHECKED:
            break
        block = run.laid(pointer.asset, pointer.offset_seconds, TOLERANCE_SECONDS, read_band)
        table = _at(block, replace(run.line, offset_seconds=pointer.offset_seconds), shifts)
        means = table.mean(axis=0)
        best = int(np.lexsort((np.abs(shifts), -means))[0])
        offset = pointer.offset_seconds + float(shifts[best])
        if any(_is_same(pointer.asset, offset, *one) for one in checked):
            continue
        checked.append((pointer.asset, offset))
        places.append(run.place(pointer.asset, offset, float(means[best])))
        if pointer.asset == run.asset:
            in_own.append(float(_excess(table, run.floor)[best]))
    return places, in_own


def _is_same(asset: int, offset: float, other_asset: int, other_offset: float) -> bool:
    return asset == other_asset and abs(offset - other_offset) <= SAME_PLACE_SECONDS
