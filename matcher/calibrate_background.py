"""Draws the background of a calibration from the catalogue, see :mod:`matcher.background`.

Shape letters: ``n`` frames of a program, ``m`` frames of the background, ``d`` dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.view import CatalogView
from matcher.background import Background
from matcher.encoders.base import unit_rows

#: Of one program: fewer say nothing of it, more make a long series no better known.
FEWEST_FRAMES, MOST_FRAMES = 3, 40
#: The lowest level is that of the frame in a hundred that resembles least. A frame below it has fallen into
#: a gap of a small sample: that is no better proof of a match than the rarest frame that was sampled.
LEAST_QUANTILE = 0.01


def draw_background(view: CatalogView, *, frames: int, seed: int) -> Background:
    """Frames of many programs, the same number of each, evenly over the frames that it has.

    Args:
        view: The catalogue; ``program`` of the background are its positions.
        frames: At most so many in all.
        seed: Draws the programs, where there are too many for :data:`FEWEST_FRAMES` of each.

    Returns:
        The background, its vectors rounded as its file rounds them.
    """
    frames_of = _rows_by_program(view)
    positions = [position for position, rows in enumerate(frames_of) if rows.size]
    n_programs = min(len(positions), max(1, frames // FEWEST_FRAMES))
    rng = np.random.default_rng(seed)
    chosen = (
        sorted(int(position) for position in rng.choice(positions, n_programs, replace=False))
        if positions
        else []
    )
    each = min(MOST_FRAMES, frames // max(1, n_programs))
    drawn = [_evenly(frames_of[position], each) for position in chosen]
    rows = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
    program = np.repeat(np.array(chosen, np.int32), [part.size for part in drawn])
    # Stored vectors are rounded, so their length is 1 only nearly.
    vectors = unit_rows(view.vectors_at(rows).astype(np.float32)).astype(np.float16).astype(np.float32)
    return Background(vectors, program, _least(vectors, program))


def _rows_by_program(view: CatalogView) -> list[NDArray[np.int64]]:
    """Each program's rows, in time order, one asset after the other."""
    _, rows = view.live_rows()
    program = np.repeat(view.program_position, view.frame_count)
    order = np.argsort(program, kind="stable")
    ends = np.searchsorted(program[order], np.arange(1, len(view.program_records)))
    return [np.asarray(part, np.int64) for part in np.split(rows[order], ends)]


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``rows``, from the middles of as many equal parts."""
    if rows.size <= most:
        return rows
    return rows[((np.arange(most) + 0.5) * rows.size / most).astype(np.int64)]


def _least(vectors: NDArray[np.float32], program: NDArray[np.int32]) -> float:
    """:data:`LEAST_QUANTILE` of the levels of the background's own frames; 0 where it has but one program."""
    background = Background(vectors, program, 0.0)
    if background.n_programs < 2:
        return 0.0
    # A frame's own program is its best, and is passed over there as that of a known clip is.
    return max(0.0, float(np.quantile(background.levels(vectors), LEAST_QUANTILE)))
