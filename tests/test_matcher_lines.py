"""Lines of reversed play, by value against windows and loops; forward ones are tested with localize."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher import lines
from matcher.lines import (
    OTHER_SPEED_FRAMES,
    OTHER_SPEED_PENALTY,
    REVERSED_PENALTY,
    STRIDES,
    Line,
    brute_force_line,
    find_line,
    penalties,
    reversed_grid,
    speed_grid,
)

Floats = NDArray[np.float64]
sizes = {"seed": st.integers(0, 2**32 - 1), "m": st.integers(1, 14), "on_line": st.integers(0, 8)}


def scattered(seed: int, m: int, on_line: int) -> tuple[Floats, Floats, Floats]:
    """Hits on a grid of quarters, some of them on a reversed line."""
    rng = np.random.default_rng(seed)
    clip, asset = rng.integers(0, 40, m) / 4, rng.integers(0, 200, m) / 4
    speed, offset = rng.choice([-0.5, -0.8, -1.0, -1.5]), rng.integers(60, 120) / 4
    true = rng.integers(0, 40, on_line) / 4
    clip, asset = np.concatenate([clip, true]), np.concatenate([asset, np.round(speed * true + offset)])
    return clip, asset, rng.integers(1, 9, m + on_line) / 8


def factor_of(speed: float) -> float:
    factor = 1.0 if abs(abs(speed) - 1) < 1e-9 else OTHER_SPEED_PENALTY
    return factor * (REVERSED_PENALTY if speed < 0 else 1.0)


def heaviest_window(clip: Floats, asset: Floats, weights: Floats, width: float, tolerance: float) -> float:
    """The best line whose hits lie in one closed window of offsets, by literal loops."""
    best = 0.0
    duration = float(np.ptp(clip))
    for speed in [*speed_grid(duration, tolerance), *reversed_grid(duration, tolerance)]:
        offsets = asset - speed * clip
        for low in offsets:
            by_time: dict[float, float] = {}
            inside = np.flatnonzero((offsets >= low) & (offsets <= low + width))
            for i in inside:
                by_time[clip[i]] = max(by_time.get(clip[i], 0.0), weights[i])
            if abs(speed - 1) < 1e-9 or len({asset[i] for i in inside}) >= OTHER_SPEED_FRAMES:
                best = max(best, sum(by_time.values()) * factor_of(speed))
    return best


@settings(deadline=None, max_examples=50)
@given(**sizes, tolerance=st.sampled_from([0.5, 1.0, 1.7]))
def test_a_lines_score_lies_between_the_best_windows_of_both_directions(
    seed: int, m: int, on_line: int, tolerance: float
) -> None:
    hits = scattered(seed, m, on_line)
    line = find_line(*hits, tolerance_seconds=tolerance, allow_reversed=True)
    assert line is not None
    least = heaviest_window(*hits, (2 - 1 / STRIDES) * tolerance * (1 - 1e-9), tolerance)
    literal = brute_force_line(*hits, tolerance_seconds=tolerance, allow_reversed=True)
    assert least * (1 - 1e-6) <= line.score <= literal * (1 + 1e-6)
    assert literal <= heaviest_window(*hits, 2 * tolerance * (1 + 1e-9), tolerance) * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(**sizes)
def test_the_order_of_hits_is_of_no_consequence(seed: int, m: int, on_line: int) -> None:
    hits = scattered(seed, m, on_line)
    order = np.random.default_rng(seed + 1).permutation(m + on_line)
    one = find_line(*hits, tolerance_seconds=1.0, allow_reversed=True)
    other = find_line(*(x[order] for x in hits), tolerance_seconds=1.0, allow_reversed=True)
    assert one is not None
    assert other is not None
    assert other.speed == one.speed
    assert other.offset_seconds == pytest.approx(one.offset_seconds)
    assert other.score == pytest.approx(one.score)


@settings(deadline=None, max_examples=20)
@given(**sizes)
def test_how_many_speeds_are_tried_at_once_is_of_no_consequence(seed: int, m: int, on_line: int) -> None:
    hits = scattered(seed, m, on_line)
    together = find_line(*hits, tolerance_seconds=1.0, allow_reversed=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "VOTES_AT_ONCE", 1)
        assert find_line(*hits, tolerance_seconds=1.0, allow_reversed=True) == together


@pytest.mark.parametrize("speed", [-0.5, -0.75, -1.0, -1.3, -2.0])
def test_a_clean_reversed_line_among_noise_is_found(speed: float) -> None:
    rng = np.random.default_rng(5)
    clip = np.arange(0, 20, 0.5)
    asset = np.concatenate([speed * clip + 90, rng.uniform(0, 600, 120)])
    hits = np.concatenate([clip, rng.choice(clip, 120)]), asset, np.ones(160)
    line = find_line(*hits, tolerance_seconds=1.0, allow_reversed=True)
    assert line is not None
    assert line.is_reversed
    assert line.at(10.0) == pytest.approx(speed * 10 + 90, abs=1.0)
    if speed == -1.0:
        assert line.speed == -1.0
    forward = find_line(*hits, tolerance_seconds=1.0)
    assert forward is not None
    assert not forward.is_reversed


def test_forward_wins_where_both_directions_fit() -> None:
    """Four frames of the asset at one place of the clip each way: nothing tells the direction."""
    clip = np.array([0.0, 0.5, 0.5, 1.0])
    asset = np.array([10.0, 10.5, 10.6, 10.1])
    line = find_line(clip, asset, np.ones(4), tolerance_seconds=1.0, allow_reversed=True)
    assert line is not None
    assert line.speed == 1.0


def test_a_reversed_line_goes_through_enough_different_frames() -> None:
    """Three frames of the asset, each shown for long, make no reversed line."""
    clip = np.arange(12) / 2
    for frames, is_reversed in ((3, False), (OTHER_SPEED_FRAMES + 1, True)):
        shown = 50 - np.round(clip * (frames - 1) / 5.5 + 1e-9) * 2
        line = find_line(clip, shown, np.ones(12), tolerance_seconds=1.0, allow_reversed=True)
        assert line is not None
        assert line.is_reversed is is_reversed


@given(duration=st.floats(0.0, 1e5), tolerance=st.floats(0.05, 5.0))
def test_reversed_speeds_run_from_double_to_half_in_fewer_steps(duration: float, tolerance: float) -> None:
    grid = reversed_grid(duration, tolerance)
    assert np.all(np.diff(grid) > 0)
    assert grid[0] == pytest.approx(-2.0)
    assert grid[-1] == pytest.approx(-0.5)
    assert np.count_nonzero(grid == -1.0) == 1
    assert grid.size <= speed_grid(duration, tolerance).size


def test_penalties_by_hand() -> None:
    speeds = np.array([1.0, 1.2, -1.0, -0.5])
    expected = [1.0, OTHER_SPEED_PENALTY, REVERSED_PENALTY, OTHER_SPEED_PENALTY * REVERSED_PENALTY]
    assert penalties(speeds).tolist() == pytest.approx(expected)
    assert REVERSED_PENALTY < OTHER_SPEED_PENALTY < 1.0


def test_ties_go_to_the_earlier_offset() -> None:
    """Two places that fit equally but for the last digit of a similarity of single precision."""
    clip = np.tile(np.arange(6.0), 2)
    asset = np.concatenate([np.arange(6.0) + 20, np.arange(6.0) + 70])
    weights = np.concatenate([np.full(6, 0.25), np.full(6, 0.25 + 1e-8)])
    line = find_line(clip, asset, weights, tolerance_seconds=1.0)
    assert line == Line(1.0, pytest.approx(20.0), pytest.approx(1.5))
