"""Parts of a run that another line serves better than the run's own.

A clip that stands still for a moment, or skips one, follows one line before and another after, and the
best single line lies between the two or is tilted over both. :func:`better_line` tells.

Shape letters: ``n`` frames of the run, ``j`` offsets tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matcher.lines import MAX_SPEED, MIN_SPEED, TOLERANCE_SECONDS, Line
from matcher.refine import (
    SHIFT_SECONDS,
    SLACK_SIMILARITY,
    Block,
    even_shifts,
    frame_gap,
    near_line,
    refine_blocks,
    select_rows,
)

#: With fewer frames a segment cannot place a line of its own.
SPLINTER_FRAMES = 3
#: The parts of a run are looked for so far off the run's line, if they have its speed.
SPLIT_SECONDS = 2.5
#: A line of another speed may be two of speed 1 with a jump between them, so far off its ends.
TILT_SECONDS = 6.0
#: Similarity that a frame of the smaller part must gain, in the mean, for a run to be split in two,
SPLIT_GAIN = 0.05
#: and that all must gain together: of the many ways to split a run, one gains a little by chance.
LEAST_GAIN = 0.4


@dataclass(frozen=True)
class Better:
    """A line that serves a part of a run better than the run's own: all of it, or the larger part."""

    part: slice
    line: Line


@dataclass(frozen=True)
class Split:
    """A run on two lines of one speed.

    Attributes:
        cut: How many of its frames come before.
        before: Shift of the line before, in seconds.
        after: And after.
        total: Sum of similarities on the two.
    """

    cut: int
    before: float
    after: float
    total: float


def better_line(blocks: Sequence[Block], line: Line) -> Better | None:
    """A better line for a run, or for the larger part of it.

    A line of another speed gives way to one of speed 1 that fits as well, for a few frames of a calm
    scene lie on lines of any slope, and to two with a jump between them, over which such a line lies
    well. A line of any speed gives way to two of its own, unless one of another speed serves both.

    Args:
        blocks: The run's frames, with the asset's at least as far around the line as is looked.
        line: Of the run.

    Returns:
        None where the line is as good as any, or the asset's samples are too sparse to tell.
    """
    n = sum(block.clip_seconds.size for block in blocks)
    if n < SPLINTER_FRAMES or frame_gap(blocks) > 2 * TOLERANCE_SECONDS:
        return None
    shifts = even_shifts(SPLIT_SECONDS)
    table = near_line(blocks, line, shifts)
    single = float(table.sum(axis=0, dtype=np.float64).max())
    better = _plainer(blocks, line, single)
    if better is not None:
        return better
    split = best_split(table, shifts, single)
    if split is None:
        return None
    tilted = _tilted(blocks, line, split)
    return Better(slice(0, n), tilted) if tilted is not None else _larger_part(blocks, line, split)


def _plainer(blocks: Sequence[Block], line: Line, single: float) -> Better | None:
    """The line at speed 1 (or -1) in place of one of another speed, or the larger part of two of them.

    Args:
        blocks: The run's frames.
        line: Of the run, of any speed.
        single: What the run's similarities sum up to on its line.
    """
    direction = float(np.sign(line.speed))
    times = _times(blocks)
    tilt = 0.5 * abs(line.speed - direction) * float(np.ptp(times))
    if line.speed == direction or tilt > TILT_SECONDS:
        return None
    middle = 0.5 * float(times[0] + times[-1])
    plain = Line(direction, line.at(middle) - direction * middle, line.score)
    shifts = even_shifts(min(TILT_SECONDS, tilt + SPLIT_SECONDS))
    table = near_line(blocks, plain, shifts)
    sums = table.sum(axis=0, dtype=np.float64)
    if sums.max() >= single - SLACK_SIMILARITY * times.size:
        return Better(slice(0, times.size), _moved(plain, _nearest_best(sums, shifts)))
    split = best_split(table, shifts, single)
    return None if split is None else _larger_part(blocks, plain, split)


def _tilted(blocks: Sequence[Block], line: Line, split: Split) -> Line | None:
    """One line of another speed through both parts of a split run, if it fits as well as the two."""
    times = _times(blocks)
    first, last = float(times[: split.cut].mean()), float(times[split.cut :].mean())
    speed = line.speed + (split.after - split.before) / (last - first)
    if not MIN_SPEED <= speed * np.sign(line.speed) <= MAX_SPEED:
        return None
    tilted = Line(speed, line.at(first) + split.before - speed * first, line.score)
    shifts = even_shifts(0.5 * TOLERANCE_SECONDS)
    enough = split.total - SLACK_SIMILARITY * times.size
    for one in (tilted, refine_blocks(blocks, tilted)):
        sums = near_line(blocks, one, shifts).sum(axis=0, dtype=np.float64)
        if sums.max() >= enough:
            return _moved(one, _nearest_best(sums, shifts))
    return None


def _larger_part(blocks: Sequence[Block], line: Line, split: Split) -> Better | None:
    """The larger part of a run that is split and its line; the first if they are equal.

    None where both parts, each refined by itself, come to lie on about the same line after all.
    """
    n = _times(blocks).size
    rows = np.split(np.arange(n), [split.cut])
    shifted = [_moved(line, shift) for shift in (split.before, split.after)]
    before, after = (
        refine_blocks(select_rows(blocks, own), one) for own, one in zip(rows, shifted, strict=True)
    )
    seam = float(_times(blocks)[split.cut])
    if abs(before.at(seam) - after.at(seam)) < TOLERANCE_SECONDS - SHIFT_SECONDS:
        return None
    return Better(slice(0, split.cut), before) if 2 * split.cut >= n else Better(slice(split.cut, n), after)


def _nearest_best(sums: NDArray[np.float64], shifts: NDArray[np.float64]) -> float:
    """Of the shifts that are as good as the best, the nearest to 0: nothing moves without a reason."""
    good = shifts[sums >= sums.max() - 1e-3]
    return float(good[np.abs(good).argmin()])


def _times(blocks: Sequence[Block]) -> NDArray[np.float64]:
    return np.concatenate([block.clip_seconds for block in blocks])


def _moved(line: Line, shift_seconds: float) -> Line:
    return replace(line, offset_seconds=line.offset_seconds + shift_seconds)


def best_split(table: NDArray[np.float32], shifts: NDArray[np.float64], single: float) -> Split | None:
    """Where a run changes from one offset to another, by trying every place and every pair of offsets.

    Args:
        table: (n, j) similarity of each frame at each shift.
        shifts: (j,) ascending, 0 in the middle.
        single: Sum of similarities on the one line that the two must beat.

    Returns:
        None where two lines gain too little, or are closer than a tolerance: they are then as well taken
        as one.
    """
    n = len(table)
    # Nearest 0 first, so that ties go to the line as it is.
    order = np.argsort(np.abs(shifts), kind="stable")
    sums = np.cumsum(table[:, order], axis=0, dtype=np.float64)
    cuts = np.arange(SPLINTER_FRAMES, n - SPLINTER_FRAMES + 1)
    if cuts.size == 0:
        return None
    head, tail = sums[cuts - 1], sums[-1] - sums[cuts - 1]
    both = head.max(axis=1) + tail.max(axis=1)
    best = int(np.argmax(both))
    cut = int(cuts[best])
    before, after = (float(shifts[order[int(part[best].argmax())]]) for part in (head, tail))
    enough = max(LEAST_GAIN, SPLIT_GAIN * min(cut, n - cut))
    if both[best] - single < enough or abs(before - after) < TOLERANCE_SECONDS:
        return None
    return Split(cut, before, after, float(both[best]))
