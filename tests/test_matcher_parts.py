"""Better lines for a run: against literal loops, and on similarities whose peaks are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.lines import TOLERANCE_SECONDS, Line
from matcher.parts import LEAST_GAIN, SPLINTER_FRAMES, SPLIT_GAIN, best_split, better_line
from matcher.refine import Block

Floats = NDArray[np.float64]


def block_of(true: Floats, *, slope: float = 0.2, gap: float = 1.0) -> Block:
    """A run of two frames a second whose similarity falls linearly off the ``true`` asset times."""
    band = np.arange(0.0, 80.0, gap)
    similarity = np.maximum(0.9 - slope * np.abs(band[None] - true[:, None]), 0.0)
    return Block(np.arange(true.size) / 2, band, similarity.astype(np.float32))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 14), step=st.sampled_from([0.25, 0.5, 1.0]))
def test_the_best_split_is_that_of_trying_all(seed: int, n: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    shifts = np.arange(-2, 3) * step
    table = rng.uniform(0, 1, (n, 5)).astype(np.float32)
    single = float(table.sum(axis=0).max())
    best, where = -np.inf, (0, 0.0, 0.0)
    for cut in range(SPLINTER_FRAMES, n - SPLINTER_FRAMES + 1):
        for i in range(5):
            for j in range(5):
                total = float(table[:cut, i].sum() + table[cut:, j].sum())
                if total > best:
                    best, where = total, (cut, float(shifts[i]), float(shifts[j]))
    found = best_split(table, shifts, single)
    cut, before, after = where
    enough = max(LEAST_GAIN, SPLIT_GAIN * min(cut, n - cut))
    if cut == 0 or best - single < enough or abs(before - after) < TOLERANCE_SECONDS:
        assert found is None
    else:
        assert found is not None
        assert (found.cut, found.before, found.after) == where
        assert found.total == pytest.approx(best, rel=1e-5)


def test_a_line_that_fits_is_left_alone() -> None:
    clip = np.arange(24) / 2
    for speed in (1.0, 1.4, 0.6, -1.0):
        block = block_of(speed * clip + 30.0)
        assert better_line([block], Line(speed, 30.0, 1.0)) is None


def test_a_pause_parts_a_run_in_two() -> None:
    """A line midway between the two; the larger part gets its own."""
    clip = np.arange(24) / 2
    true = np.where(clip < 7, clip + 30.0, clip + 28.0)
    better = better_line([block_of(true)], Line(1.0, 29.0, 1.0))
    assert better is not None
    assert better.part == slice(0, 14)
    assert better.line.speed == 1.0
    assert better.line.offset_seconds == pytest.approx(30.0, abs=0.05)


@pytest.mark.parametrize("pause", [0.2, 0.5, 0.7])
def test_a_short_pause_is_one_run(pause: float) -> None:
    clip = np.arange(24) / 2
    true = np.where(clip < 6, clip + 30.0, clip + 30.0 - pause)
    assert better_line([block_of(true)], Line(1.0, 30.0 - pause / 2, 1.0)) is None


def test_a_line_tilted_over_a_jump_becomes_two_of_speed_1() -> None:
    clip = np.arange(20) / 2
    true = np.where(clip < 4, clip + 30.0, clip + 33.0)
    better = better_line([block_of(true)], Line(1.4, 29.3, 1.0))
    assert better is not None
    assert better.part == slice(8, 20)
    assert better.line.speed == 1.0
    assert better.line.offset_seconds == pytest.approx(33.0, abs=0.05)


def test_two_lines_that_one_of_another_speed_serves_become_that() -> None:
    """A clip slowed down to three quarters, taken for one at speed 1."""
    clip = np.arange(24) / 2
    better = better_line([block_of(0.75 * clip + 30.0)], Line(1.0, 28.5, 1.0))
    assert better is not None
    assert better.part == slice(0, 24)
    np.testing.assert_allclose(better.line.at(clip), 0.75 * clip + 30.0, atol=0.3)


def test_a_still_scene_has_speed_1() -> None:
    """Every slope fits: the plain one is taken."""
    better = better_line([block_of(np.full(12, 40.0), slope=0.0)], Line(1.5, 30.0, 1.0))
    assert better is not None
    assert better.part == slice(0, 12)
    assert better.line.speed == 1.0
    assert better.line.at(2.75) == pytest.approx(1.5 * 2.75 + 30.0, abs=0.01)


def test_sparse_samples_cannot_tell() -> None:
    true = np.where(np.arange(24) < 12, 30.0, 28.0) + np.arange(24) / 2
    assert better_line([block_of(true, gap=4.0)], Line(1.0, 29.0, 1.0)) is None
