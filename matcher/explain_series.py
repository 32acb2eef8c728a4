"""What an explanation shows of each frame of a clip: in one program, in the others, and by chance.

A moment of sound is shown like a frame: here, a frame is either.

Shape letters: ``n`` clip frames, ``nr`` asset frames, ``k`` neighbours of a frame.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.protocols import CatalogIndex
from index.view import CatalogView
from matcher.localize import Match
from matcher.records import Look
from matcher.voting import Candidate, ballot, collect_hits, vote

#: An asset up to so long is shown whole.
WHOLE_ASSET_SECONDS = 120.0
#: Of a longer one, so much is shown on either side of what matches.
MARGIN_SECONDS = 20.0
#: The picture of similarities has at most so many rows and as many columns; more are put together.
MATRIX_SIDE = 600
#: Programs whose votes are told.
MAX_VOTES = 8
#: Clip frames compared with an asset at once.
_BLOCK = 512


@dataclass(frozen=True)
class Series:
    """What is known of every frame of the look that is explained.

    Attributes:
        t_seconds: (n,) clip times.
        similarity: (n,) the best in the program, by brute force over its frames; NaN without a program.
        asset: (n,) position of the asset of that best frame, -1 without one.
        asset_seconds: (n,) its time there.
        aligned: (n,) similarity on the match's line; NaN where the frame does not match.
        other: (n,) the best in any other program among the neighbours found; NaN where there is none.
        other_program: (n,) its position, or -1.
        chance: (n,) what chance gives; no neighbour below it counts.
    """

    t_seconds: NDArray[np.float64]
    similarity: NDArray[np.float32]
    asset: NDArray[np.int32]
    asset_seconds: NDArray[np.float64]
    aligned: NDArray[np.float32]
    other: NDArray[np.float32]
    other_program: NDArray[np.int32]
    chance: NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = {part.shape for part in vars(self).values()}
        if len(shapes) != 1:
            raise ValueError(f"a series has one shape, got {sorted(shapes)}")

    @property
    def matched(self) -> NDArray[np.bool_]:
        """(n,) whether the frame matches."""
        return np.isfinite(self.aligned)

    @property
    def above_chance(self) -> NDArray[np.bool_]:
        """(n,) whether the program resembles the frame more than chance does."""
        return self.similarity > self.chance

    def rival(self) -> int:
        """Position of the program that most resembles the matched frames (all, if none match); -1: none does.

        Only frames that it resembles more than chance does speak for it.
        """
        rows = (self.matched if self.matched.any() else np.ones(self.matched.shape, bool)) & (
            self.other > self.chance
        )
        if not rows.any():
            return -1
        weights = np.bincount(self.other_program[rows], weights=self.other[rows])
        return int(weights.argmax())


@dataclass(frozen=True)
class Matrix:
    """Similarities of the clip's frames and those of one asset, around what matches.

    Attributes:
        asset: Position of the asset.
        clip_seconds: (n,) at most ``MATRIX_SIDE``.
        asset_seconds: (nr,) likewise.
        similarity: (n, nr); where frames were put together, the best of them.
        is_whole: Whether all of the asset is shown.
    """

    asset: int
    clip_seconds: NDArray[np.float64]
    asset_seconds: NDArray[np.float64]
    similarity: NDArray[np.float32]
    is_whole: bool

    def __post_init__(self) -> None:
        if self.similarity.shape != (self.clip_seconds.size, self.asset_seconds.size):
            raise ValueError(f"similarity {self.similarity.shape} does not fit its times")


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of a look's frames, whatever their similarity.

    Attributes:
        similarity: (n, k) cosines.
        program: (n, k) positions; -1 where there is no neighbour.
        asset: (n, k) likewise.
        t_seconds: (n, k) times in the asset.
    """

    similarity: NDArray[np.float32]
    program: NDArray[np.int32]
    asset: NDArray[np.int32]
    t_seconds: NDArray[np.float64]

    def most_similar(self, *, but: Collection[int] = ()) -> int | None:
        """The program with the highest sum of each frame's best similarity; None without neighbours.

        Args:
            but: Programs that are passed over, unless there are no others.
        """
        counts = self.program >= 0
        others = counts & ~np.isin(self.program, list(but))
        counts = others if others.any() else counts
        if not counts.any():
            return None
        table = np.zeros((len(self.program), int(self.program.max()) + 1), np.float32)
        frame, column = np.nonzero(counts)
        np.maximum.at(table, (frame, self.program[frame, column]), self.similarity[frame, column])
        return int(table.sum(axis=0).argmax())

    def best_other(self, program: int | None) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """(n,) best similarity in another program, NaN without one, and (n,) which, else -1."""
        is_other = self.program >= 0
        if program is not None:
            is_other &= self.program != program
        value = np.full(len(self.program), np.nan, np.float32)
        which = np.full(len(self.program), -1, np.int32)
        rows = np.flatnonzero(is_other.any(axis=1))
        best = np.where(is_other, self.similarity, -np.inf)[rows].argmax(axis=1) if rows.size else rows
        value[rows], which[rows] = self.similarity[rows, best], self.program[rows, best]
        return value, which

    def votes(
        self, chance: NDArray[np.float32], *, per_program: int, hub_margin: float
    ) -> tuple[Candidate, ...]:
        """The programs voted for, as a query counts."""
        hits = collect_hits(
            self.similarity, self.program, self.asset, self.t_seconds,
            floor=chance, per_program=per_program,
        )  # fmt: skip
        voted = ballot(hits, chance)
        return tuple(vote(voted, hub_margin=hub_margin, candidates=MAX_VOTES))


def neighbours(live: CatalogIndex, view: CatalogView, look: Look, k: int) -> Neighbours:
    """The ``k`` nearest frames of each of a look's frames; none in an empty store."""
    if len(look) == 0 or live.ntotal == 0:
        empty = np.zeros((len(look), 0))
        nowhere = empty.astype(np.int32)
        return Neighbours(empty.astype(np.float32), nowhere, nowhere, empty)
    found = live.search(look.vectors, k)
    where = view.locate(found.ids)
    return Neighbours(found.similarities, where.program_position, where.asset_position, where.t_seconds)


def series_of(
    view: CatalogView,
    look: Look,
    program: int | None,
    matches: tuple[Match, ...],
    near: Neighbours,
    chance: NDArray[np.float32],
) -> Series:
    """Put together what is known of each frame of a look.

    Args:
        view: The catalogue.
        look: What the clip was looked at through.
        program: Position of the program that is explained, or None.
        matches: What aligns with it; rows are frames of ``look``.
        near: The frames' neighbours.
        chance: (n,) what chance gives each.
    """
    similarity, asset, asset_seconds = _best_in_program(view, look, program)
    aligned = np.full(len(look), np.nan, np.float32)
    for match in matches:
        aligned[match.run] = match.run_similarities
    other, other_program = near.best_other(program)
    return Series(
        look.t_seconds, similarity, asset, asset_seconds, aligned, other, other_program,
        chance.astype(np.float32),
    )  # fmt: skip


def _best_in_program(
    view: CatalogView, look: Look, program: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float64]]:
    """(n,) best similarity over all frames of a program, (n,) in which asset and (n,) when."""
    n = len(look)
    best = np.full(n, -np.inf, np.float32)
    where, when = np.full(n, -1, np.int32), np.full(n, np.nan)
    own = () if program is None else np.flatnonzero(view.program_position == program)
    for asset in own:
        _, seconds, vectors = view.frames_of_asset(int(asset))
        for first in range(0, n if seconds.size else 0, _BLOCK):
            rows = slice(first, min(first + _BLOCK, n))
            table = look.vectors[rows] @ vectors.T
            column = table.argmax(axis=1)
            value = table.max(axis=1)
            better = np.flatnonzero(value > best[rows]) + first
            best[better], where[better] = value[better - first], asset
            when[better] = seconds[column[better - first]]
    return np.where(where >= 0, best, np.float32(np.nan)), where, when


# ---------------------------------------------------------------- where


def matrix_of(view: CatalogView, look: Look, series: Series, matches: tuple[Match, ...]) -> Matrix | None:
    """Around the longest match's asset; without one, around the most similar frames."""
    window = _window(view, series, matches)
    if window is None:
        return None
    asset, start, stop = window
    _, seconds, vectors = view.frames_between(asset, start, stop)
    if seconds.size == 0:
        return None
    rows, columns = _groups(len(look)), _groups(seconds.size)
    table = np.stack([
        np.maximum.reduceat((look.vectors[first:last] @ vectors.T).max(axis=0), columns)
        for first, last in zip(rows, [*rows[1:], len(look)], strict=True)
    ])  # fmt: skip
    is_whole = seconds.size == int(view.frame_count[asset])
    return Matrix(asset, look.t_seconds[rows], seconds[columns], table, is_whole)


def _groups(n: int) -> NDArray[np.int64]:
    """Where each of at most ``MATRIX_SIDE`` even groups of n ≥ 1 things begins."""
    return np.unique(np.linspace(0, n, min(n, MATRIX_SIDE), endpoint=False).astype(np.int64))


def _window(view: CatalogView, series: Series, matches: tuple[Match, ...]) -> tuple[int, float, float] | None:
    """The asset to be shown, from and to when; None where there is nothing to show."""
    if matches:
        longest = max(matches, key=lambda match: match.run.size)
        own = [match for match in matches if match.asset == longest.asset]
        asset = longest.asset
        start = min(match.asset_start_seconds for match in own)
        stop = max(match.asset_end_seconds for match in own)
    else:
        found = series.asset >= 0
        if not found.any():
            return None
        asset = int(np.bincount(series.asset[found]).argmax())
        best = np.where(series.asset == asset, series.similarity, -np.inf).argmax()
        start = stop = float(series.asset_seconds[best])
    if view.assets[asset].duration_seconds <= WHOLE_ASSET_SECONDS:
        return asset, -np.inf, np.inf
    clip_seconds = float(series.t_seconds[-1] - series.t_seconds[0])
    margin = max(MARGIN_SECONDS, clip_seconds)
    return asset, start - margin, stop + margin
