"""Lines ``asset = speed * clip + offset`` through the hits of a candidate, by Hough voting.

An edit at constant speed puts the hits of a true match on such a line; played backwards, its speed is
negative. :func:`find_line` votes over a grid of speeds, :func:`brute_force_line` says the same without
bins.

Shape letters: ``m`` hits, ``s`` speeds, ``b`` bins of offsets that hold a hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

MIN_SPEED = 0.5
MAX_SPEED = 2.0
#: Speeds this close to 1, or to -1, are taken as that: the clock of a re-encoding is exact.
UNIT_SPEED_BAND = 0.03
#: A line at another speed must beat the one at speed 1 by this factor: most clips are not sped up.
OTHER_SPEED_PENALTY = 0.92
#: A line of reversed play must beat it by this one: hardly any clip is played backwards, and frames that
#: resemble their neighbours lie on a reversed line about as well, for as long as a tolerance lasts.
REVERSED_PENALTY = 0.85
#: Hits this far off the line still belong to it, at a reference of one frame a second or denser.
TOLERANCE_SECONDS = 1.0
#: Bins of offsets begin this many times a tolerance: a line's hits lose at most a part of them to an edge.
STRIDES = 4
#: A line at another speed than 1 must pass so many different frames of the asset: through two goes any.
OTHER_SPEED_FRAMES = 4
#: Bins this much lighter than the heaviest weigh the same: similarities are of single precision.
TIE = 5e-7
#: At most so many votes are sorted at once, which bounds the memory that a clip of hours takes.
VOTES_AT_ONCE = 1 << 18

Times = TypeVar("Times", float, NDArray[np.float64])


@dataclass(frozen=True)
class Line:
    """``asset_seconds = speed * clip_seconds + offset_seconds`` with its weight of hits.

    A negative speed is reversed play: the asset's time runs backwards while the clip's goes on.
    """

    speed: float
    offset_seconds: float
    score: float

    @property
    def is_reversed(self) -> bool:
        """Whether it is played backwards."""
        return self.speed < 0

    def at(self, clip_seconds: Times) -> Times:
        """Asset times of clip times, or of one."""
        return self.speed * clip_seconds + self.offset_seconds


def speed_grid(duration_seconds: float, tolerance_seconds: float) -> NDArray[np.float64]:
    """Speeds from 0.5 to 2, 1 among them, so close that none is off by the tolerance at the clip's ends.

    Steps are between 1.1 and 9 %: beyond three minutes, at a tolerance of a second, a sped-up clip is
    found in part, and the refinement and the next segments take up the rest.
    """
    return _grid(duration_seconds, tolerance_seconds, finest=64, coarsest=8)


def reversed_grid(duration_seconds: float, tolerance_seconds: float) -> NDArray[np.float64]:
    """Speeds from -2 to -0.5, -1 among them, in fewer steps than forwards: between 4.4 and 19 %.

    Reversed clips are short, and nearly all of them run at -1, which the grid holds exactly.
    """
    return -_grid(duration_seconds, tolerance_seconds, finest=16, coarsest=4)[::-1]


def _grid(duration: float, tolerance: float, *, finest: int, coarsest: int) -> NDArray[np.float64]:
    """Geometric from 0.5 to 2, between ``coarsest`` and ``finest`` steps to an octave."""
    step = max(np.log(2.0) / finest, min(np.log(2.0) / coarsest, 2 * tolerance / max(duration, 1e-9)))
    half = int(np.ceil(np.log(MAX_SPEED) / step))
    exponents = np.linspace(-1.0, 1.0, 2 * half + 1)
    speeds: NDArray[np.float64] = np.exp(exponents * np.log(MAX_SPEED))
    return speeds


def penalties(speeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(s,) factor of a line's weight at each speed: 1 at speed 1, less at others, least in reverse."""
    factors = np.where(np.abs(np.abs(speeds) - 1.0) < 1e-9, 1.0, OTHER_SPEED_PENALTY)
    return factors * np.where(speeds < 0, REVERSED_PENALTY, 1.0)


def _speeds(duration: float, tolerance: float, *, allow_reversed: bool) -> NDArray[np.float64]:
    """All speeds to try, those nearest 1 first, forward ones before reversed ones."""
    speeds = speed_grid(duration, tolerance)
    if allow_reversed:
        speeds = np.concatenate([speeds, reversed_grid(duration, tolerance)])
    return speeds[np.lexsort((np.abs(np.log(np.abs(speeds))), speeds < 0))]


def find_line(
    clip_seconds: NDArray[np.float64],
    asset_seconds: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    tolerance_seconds: float,
    allow_reversed: bool = False,
) -> Line | None:
    """The line that most hits lie on, by weight; each clip time counts once, with its best hit.

    Offsets are voted for in overlapping bins of twice the tolerance, so a line's hits that agree
    within the tolerance always share a bin. :func:`brute_force_line` says the same without bins.

    Args:
        clip_seconds: (m,) of each hit.
        asset_seconds: (m,).
        weights: (m,) positive.
        tolerance_seconds: How far from the line a hit may lie.
        allow_reversed: Whether reversed play is looked for too.

    Returns:
        The heaviest line, centred on its hits; None without hits. Ties go to the speed nearest 1,
        then to the earlier offset.
    """
    if clip_seconds.size == 0:
        return None
    votes = _Votes.of(clip_seconds, asset_seconds, weights, tolerance_seconds)
    duration = float(np.ptp(clip_seconds))
    speed, low, best = 1.0, 0.0, 0.0
    for speeds in _in_turns(duration, tolerance_seconds, clip_seconds.size, allow_reversed=allow_reversed):
        factors = penalties(speeds)
        # No bin weighs more than all clip times together: at speed 1 a clean match ends the search here.
        if votes.total * factors.max() <= best * (1 + 1e-9):
            continue
        edges, scores = votes.heaviest(speeds, factors, above=best)
        for i in np.flatnonzero(scores > best * (1 + 1e-9)):
            if scores[i] > best * (1 + 1e-9):
                speed, low, best = float(speeds[i]), float(edges[i]), float(scores[i])
    offsets = asset_seconds - speed * clip_seconds
    inside = (offsets >= low) & (offsets < low + 2 * tolerance_seconds)
    return Line(speed, float(np.average(offsets[inside], weights=weights[inside])), best)


def _in_turns(
    duration: float, tolerance: float, m: int, *, allow_reversed: bool
) -> list[NDArray[np.float64]]:
    """The speeds in the order in which they are tried, as many at once as memory allows: 1 alone first."""
    speeds = _speeds(duration, tolerance, allow_reversed=allow_reversed)
    at_once = max(1, VOTES_AT_ONCE // (2 * STRIDES * m))
    forward, backward = speeds[speeds > 0], speeds[speeds < 0]
    turns = [forward[:1]]
    for part in (forward[1:], backward):
        turns += [part[i : i + at_once] for i in range(0, part.size, at_once)]
    return turns


@dataclass(frozen=True)
class _Votes:
    """Hits prepared for voting at many speeds.

    Attributes:
        clip_seconds: (m,) of hits by ascending weight, so that the last of a group is its best.
        asset_seconds: (m,).
        weights: (m,).
        row: (m,) which clip time a hit is of.
        frame: (m,) which asset time.
        tolerance: Half a bin.
        total: Of each clip time's best hit: no line weighs more.
    """

    clip_seconds: NDArray[np.float64]
    asset_seconds: NDArray[np.float64]
    weights: NDArray[np.float64]
    row: NDArray[np.int64]
    frame: NDArray[np.int64]
    tolerance: float
    total: float

    @classmethod
    def of(
        cls,
        clip_seconds: NDArray[np.float64],
        asset_seconds: NDArray[np.float64],
        weights: NDArray[np.float64],
        tolerance: float,
    ) -> _Votes:
        """In the order that :meth:`heaviest` needs, equal weights by time, so that hits may come in any."""
        order = np.lexsort((clip_seconds, asset_seconds, weights))
        clip, asset, weights = clip_seconds[order], asset_seconds[order], weights[order]
        row = np.unique(clip, return_inverse=True)[1]
        best = np.zeros(int(row.max()) + 1)
        best[row] = weights  # ascending, so the last that is written is the greatest
        frame = np.unique(asset, return_inverse=True)[1]
        return cls(clip, asset, weights, row, frame, tolerance, float(best.sum()))

    def heaviest(
        self, speeds: NDArray[np.float64], factors: NDArray[np.float64], *, above: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The best bin at each speed: (s,) its lower edge and (s,) its weight times the speed's factor.

        Weights that are not greater than ``above`` may be given too high or as 0: they are of no use.
        """
        stride = self.tolerance / STRIDES
        cell = np.floor((self.asset_seconds - speeds[:, None] * self.clip_seconds) / stride).astype(np.int64)
        lowest = int(cell.min()) - 2 * STRIDES
        width = int(cell.max()) - lowest + 1
        # (s, 2 * STRIDES, m): every hit is in so many bins, each named by its speed and lower edge.
        bins = cell[:, None, :] - np.arange(2 * STRIDES)[:, None] - lowest
        bins += (np.arange(speeds.size) * width)[:, None, None]
        names, totals = self._totals(bins)
        own = names // width
        totals *= factors[own]
        needed = np.where(np.abs(speeds - 1.0) < 1e-9, 1, OTHER_SPEED_FRAMES)
        if needed.max() > 1:
            useful = np.flatnonzero((totals > above) & (needed[own] > 1))
            few = self._frames(bins, names[useful], speeds.size * width) < OTHER_SPEED_FRAMES
            totals[useful[few]] = 0.0
        first = np.flatnonzero(_is_new(own))
        most = np.maximum.reduceat(totals, first)
        tied = np.flatnonzero(totals >= most[own] * (1 - TIE))
        winners = tied[np.searchsorted(tied, first)]
        edges = (names[winners] - own[winners] * width + lowest).astype(np.float64) * stride
        return edges, totals[winners]

    def _totals(self, bins: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(b,) bins that hold a hit, ascending, and (b,) the sum of the best hit of each clip time there.

        One sort of plain numbers: bin, clip time and rank by weight side by side, in as many bits as
        they need. The last of each (bin, clip time) is its best hit.
        """
        rank_bits = int(self.weights.size - 1).bit_length()
        row_bits = int(self.row.max()).bit_length()
        key = (bins << (row_bits + rank_bits)) | ((self.row << rank_bits) | np.arange(self.weights.size))
        key = np.sort(key, axis=None)
        group = key >> rank_bits
        last = np.append(np.flatnonzero(_is_new(group))[1:], group.size) - 1
        weights = self.weights[key[last] & ((1 << rank_bits) - 1)]
        name = group[last] >> row_bits
        first = np.flatnonzero(_is_new(name))
        return name[first], np.add.reduceat(weights, first)

    def _frames(self, bins: NDArray[np.int64], names: NDArray[np.int64], n_bins: int) -> NDArray[np.int64]:
        """How many different asset frames each of the bins ``names`` holds; bins are below ``n_bins``."""
        wanted = np.zeros(n_bins, dtype=bool)
        wanted[names] = True
        bits = int(self.frame.max()).bit_length()
        key = np.sort(((bins << bits) | self.frame)[wanted[bins]])
        key = key[_is_new(key)] >> bits
        return np.diff(np.searchsorted(key, names), append=key.size)


def _is_new(x: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a sorted array has another value than just before; also at its first."""
    new = np.ones(x.size, dtype=bool)
    np.not_equal(x[1:], x[:-1], out=new[1:])
    return new


def brute_force_line(
    clip_seconds: NDArray[np.float64],
    asset_seconds: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    tolerance_seconds: float,
    allow_reversed: bool = False,
) -> float:
    """Specification of :func:`find_line`'s score: every speed, a window begun at every hit."""
    best = 0.0
    duration = float(np.ptp(clip_seconds))
    speeds = speed_grid(duration, tolerance_seconds)
    if allow_reversed:
        speeds = np.concatenate([speeds, reversed_grid(duration, tolerance_seconds)])
    for speed, factor in zip(speeds, penalties(speeds), strict=True):
        offsets = asset_seconds - speed * clip_seconds
        for low in offsets:
            inside = (offsets >= low) & (offsets < low + 2 * tolerance_seconds)
            if abs(speed - 1.0) >= 1e-9 and np.unique(asset_seconds[inside]).size < OTHER_SPEED_FRAMES:
                continue
            score = sum(
                float(weights[inside & (clip_seconds == t)].max()) for t in np.unique(clip_seconds[inside])
            )
            best = max(best, score * factor)
    return best
