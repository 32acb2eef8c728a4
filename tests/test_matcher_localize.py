"""Lines and segments: by value against windows and loops, and on synthetic programs with a known cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from trajectories import D, Trajectory, noisy, unit

from matcher import localize as localize_module
from matcher import refine as refine_module
from matcher.lines import (
    MAX_SPEED,
    MIN_SPEED,
    OTHER_SPEED_FRAMES,
    OTHER_SPEED_PENALTY,
    STRIDES,
    TOLERANCE_SECONDS,
    Line,
    brute_force_line,
    find_line,
    speed_grid,
)
from matcher.localize import MAX_SEGMENTS, RIVAL_MARGIN, Match, _best_line, count_places, localize
from matcher.refine import between_samples, refine, similarity_on_line
from matcher.voting import Hits

Floats = NDArray[np.float64]
FLOOR = 0.5
SHARP = 1e-9


@dataclass
class Scattered:
    """Hits for :func:`find_line`; times on a grid of quarters, so that ties and edges are met."""

    clip: Floats
    asset: Floats
    weights: Floats


def scattered(seed: int, m: int, *, on_line: int = 0) -> Scattered:
    rng = np.random.default_rng(seed)
    clip, asset = rng.integers(0, 40, m) / 4, rng.integers(0, 200, m) / 4
    speed, offset = rng.choice([0.5, 0.8, 1.0, 1.5, 2.0]), rng.integers(0, 80) / 4
    true = rng.integers(0, 40, on_line) / 4
    clip, asset = np.concatenate([clip, true]), np.concatenate([asset, np.round(speed * true + offset)])
    return Scattered(clip, asset, rng.integers(1, 9, m + on_line) / 8)


def heaviest_window(hits: Scattered, *, width: float, tolerance: float) -> float:
    """The best score of any line whose hits lie in one closed window of offsets, by literal loops."""
    best = 0.0
    for speed in speed_grid(float(np.ptp(hits.clip)), tolerance):
        is_unit = abs(speed - 1) < 1e-6
        offsets = hits.asset - speed * hits.clip
        for low in offsets:
            by_time: dict[float, float] = {}
            asset_frames = set()
            for offset, t, asset, weight in zip(offsets, hits.clip, hits.asset, hits.weights, strict=True):
                if low <= offset <= low + width:
                    by_time[t] = max(by_time.get(t, 0.0), weight)
                    asset_frames.add(asset)
            if is_unit or len(asset_frames) >= OTHER_SPEED_FRAMES:
                best = max(best, sum(by_time.values()) * (1.0 if is_unit else OTHER_SPEED_PENALTY))
    return best


hit_sizes = {"seed": st.integers(0, 2**32 - 1), "m": st.integers(1, 14), "on_line": st.integers(0, 6)}
tolerances = st.sampled_from([0.5, 1.0, 1.7])


# ---------------------------------------------------------------- find_line


@settings(deadline=None, max_examples=60)
@given(**hit_sizes, tolerance=tolerances)
def test_a_lines_score_lies_between_the_best_windows(
    seed: int, m: int, on_line: int, tolerance: float
) -> None:
    """At least: hits closer to each other than a bin less its stride always share one. At most: a bin is
    as wide as two tolerances, so what it holds fits into the window begun at its earliest hit.
    """
    hits = scattered(seed, m, on_line=on_line)
    line = find_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=tolerance)
    assert line is not None
    width = (2 - 1 / STRIDES) * tolerance * (1 - SHARP)
    assert width >= tolerance
    least = heaviest_window(hits, width=width, tolerance=tolerance)
    most = heaviest_window(hits, width=2 * tolerance * (1 + SHARP), tolerance=tolerance)
    assert least * (1 - 1e-6) <= line.score <= most * (1 + 1e-6)
    literal = brute_force_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=tolerance)
    assert line.score <= literal * (1 + 1e-6)


@settings(deadline=None, max_examples=25)
@given(**hit_sizes, tolerance=tolerances)
def test_the_specification_is_the_best_half_open_window_of_two_tolerances(
    seed: int, m: int, on_line: int, tolerance: float
) -> None:
    hits = scattered(seed, m, on_line=on_line)
    rng = np.random.default_rng(seed)
    hits.asset = hits.asset + rng.uniform(0, 0.01, hits.asset.size)  # open or closed is then all the same
    literal = brute_force_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=tolerance)
    assert literal == pytest.approx(heaviest_window(hits, width=2 * tolerance, tolerance=tolerance))


@settings(deadline=None, max_examples=40)
@given(**hit_sizes, tolerance=tolerances)
def test_a_line_runs_through_the_hits_that_it_counts(
    seed: int, m: int, on_line: int, tolerance: float
) -> None:
    hits = scattered(seed, m, on_line=on_line)
    line = find_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=tolerance)
    assert line is not None
    assert MIN_SPEED - SHARP <= line.speed <= MAX_SPEED + SHARP
    near = np.abs(hits.asset - line.at(hits.clip)) <= 2 * tolerance + SHARP
    reachable = sum(hits.weights[near & (hits.clip == t)].max() for t in np.unique(hits.clip[near]))
    assert line.score <= reachable * (1 + 1e-9)
    if abs(line.speed - 1) > 1e-6:
        assert np.unique(hits.asset[near]).size >= OTHER_SPEED_FRAMES


@settings(deadline=None, max_examples=40)
@given(**hit_sizes)
def test_the_order_of_hits_is_of_no_consequence_to_a_line(seed: int, m: int, on_line: int) -> None:
    hits = scattered(seed, m, on_line=on_line)
    order = np.random.default_rng(seed + 1).permutation(hits.clip.size)
    whole = find_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=1.0)
    shuffled = find_line(hits.clip[order], hits.asset[order], hits.weights[order], tolerance_seconds=1.0)
    assert_same_line(whole, shuffled)


@settings(deadline=None, max_examples=40)
@given(**hit_sizes, shift=st.integers(-50, 5000), tolerance=st.sampled_from([0.5, 1.0]))
def test_a_line_moves_with_the_asset(seed: int, m: int, on_line: int, shift: int, tolerance: float) -> None:
    """Whole seconds are whole bins, so it is the same line exactly."""
    hits = scattered(seed, m, on_line=on_line)
    here = find_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=tolerance)
    there = find_line(hits.clip, hits.asset + shift, hits.weights, tolerance_seconds=tolerance)
    assert here is not None
    assert_same_line(there, Line(here.speed, here.offset_seconds + shift, here.score))


@settings(deadline=None, max_examples=25)
@given(**hit_sizes)
def test_a_repeated_hit_counts_once(seed: int, m: int, on_line: int) -> None:
    hits = scattered(seed, m, on_line=on_line)
    once = find_line(hits.clip, hits.asset, hits.weights, tolerance_seconds=1.0)
    twice = find_line(*(np.tile(x, 2) for x in (hits.clip, hits.asset, hits.weights)), tolerance_seconds=1.0)
    assert_same_line(once, twice)


def assert_same_line(got: Line | None, want: Line | None) -> None:
    assert got is not None
    assert want is not None
    assert got.speed == want.speed
    assert got.offset_seconds == pytest.approx(want.offset_seconds, abs=1e-5)
    assert got.score == pytest.approx(want.score, rel=1e-5)


def test_without_hits_there_is_no_line() -> None:
    nothing = np.zeros(0)
    assert find_line(nothing, nothing, nothing, tolerance_seconds=1.0) is None


def test_one_hit_is_a_line_at_speed_1_through_it() -> None:
    line = find_line(np.array([3.0]), np.array([70.3]), np.array([0.25]), tolerance_seconds=1.0)
    assert_same_line(line, Line(1.0, 67.3, 0.25))


def test_hits_of_one_clip_time_count_as_their_best() -> None:
    clip, asset = np.zeros(3), np.array([5.0, 5.2, 5.4])
    line = find_line(clip, asset, np.array([0.2, 0.7, 0.1]), tolerance_seconds=1.0)
    assert line is not None
    assert line.score == pytest.approx(0.7)


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.0, 1.25, 2.0])
def test_a_clean_line_among_noise_is_found_at_its_speed(speed: float) -> None:
    rng = np.random.default_rng(5)
    clip = np.arange(0, 30, 0.5)
    asset = np.concatenate([speed * clip + 40, rng.uniform(0, 600, 200)])
    line = find_line(
        np.concatenate([clip, rng.choice(clip, 200)]), asset, np.ones(260), tolerance_seconds=1.0
    )
    assert line is not None
    grid = speed_grid(30.0, 1.0)
    # Neighbours on the grid hold as many hits; which of them wins is the refinement's to mend.
    assert abs(np.log(line.speed / speed)) <= 1.5 * np.diff(np.log(grid)).max()
    middle = np.array([15.0])
    assert line.at(middle)[0] == pytest.approx(speed * 15 + 40, abs=1.0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 60), assets=st.integers(1, 12))
def test_the_best_line_over_all_assets_is_that_of_looking_at_each(seed: int, m: int, assets: int) -> None:
    """Assets that cannot win are passed over; none that can."""
    rng = np.random.default_rng(seed)
    frame = np.sort(rng.integers(0, 12, m))
    hits = Hits(
        frame, np.zeros(m, np.int32), rng.integers(0, assets, m).astype(np.int32), rng.uniform(0, 60, m),
        rng.uniform(0.5, 1, m).astype(np.float32),
    )  # fmt: skip
    clip_seconds = np.arange(12) / 2
    found = _best_line(clip_seconds, hits, FLOOR)
    lines = {}
    for asset in set(hits.asset.tolist()):
        own = hits.select(hits.asset == asset)
        lines[asset] = find_line(
            clip_seconds[own.frame], own.asset_seconds, (own.similarity - FLOOR).astype(float) ** 2 + 1e-9,
            tolerance_seconds=TOLERANCE_SECONDS,
        )  # fmt: skip
    assert found is not None
    asset, line, rows = found
    assert line.score == pytest.approx(max(one.score for one in lines.values() if one is not None), rel=1e-5)
    assert_same_line(lines[asset], line)
    own = hits.select(hits.asset == asset)
    assert set(rows.tolist()) <= set(own.frame.tolist())


# ---------------------------------------------------------------- speeds


@given(duration=st.floats(0.0, 1e5), tolerance=st.floats(0.05, 5.0))
def test_speeds_run_from_half_to_double_with_1_among_them(duration: float, tolerance: float) -> None:
    grid = speed_grid(duration, tolerance)
    assert np.all(np.diff(grid) > 0)
    assert grid[0] == pytest.approx(MIN_SPEED)
    assert grid[-1] == pytest.approx(MAX_SPEED)
    assert np.count_nonzero(np.isclose(grid, 1.0)) == 1
    np.testing.assert_allclose(grid * grid[::-1], 1.0)
    assert grid.size <= 200


@given(in_tolerances=st.floats(0.5, 150.0), speed=st.floats(MIN_SPEED, MAX_SPEED))
def test_no_speed_is_off_by_the_tolerance_at_the_ends_of_a_clip(in_tolerances: float, speed: float) -> None:
    """A line through the clip's middle. Beyond 150 tolerances the grid is as fine as it gets."""
    grid = speed_grid(in_tolerances, 1.0)
    assert np.abs(grid - speed).min() * in_tolerances / 2 <= 1.0


# ---------------------------------------------------------------- on the line


def on_line_by_loops(similarity: NDArray[np.float32], band: Floats, times: Floats) -> list[float]:
    values = []
    for i, t in enumerate(times):
        if t < band[0] - TOLERANCE_SECONDS or t > band[-1] + TOLERANCE_SECONDS:
            values.append(-1.0)
            continue
        after = next((j for j, b in enumerate(band) if b >= t), band.size - 1)
        values.append(float(max(similarity[i, after], similarity[i, max(after - 1, 0)])))
    return values


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nq=st.integers(1, 6), nr=st.integers(1, 8))
def test_similarity_on_the_line_is_that_of_the_loops(seed: int, nq: int, nr: int) -> None:
    rng = np.random.default_rng(seed)
    band = np.sort(rng.choice(np.arange(40) / 2, nr, replace=False))
    similarity = rng.uniform(-1, 1, (nq, nr)).astype(np.float32)
    times = rng.integers(-4, 48, nq) / 2
    got = similarity_on_line(similarity, band, times)
    assert got.tolist() == on_line_by_loops(similarity, band, times)


# ---------------------------------------------------------------- refine


@given(
    offset=st.floats(20.0, 21.0),
    speed=st.sampled_from([1.0, 0.6, 1.3, 1.9]),
    off_by=st.floats(-0.5, 0.5),
    slope=st.floats(0.05, 0.4),
)
def test_peaks_of_equal_slopes_give_back_the_line(
    offset: float, speed: float, off_by: float, slope: float
) -> None:
    """Where similarity falls off linearly the peak between samples is exact."""
    clip, band = np.arange(0, 12, 0.5), np.arange(0.0, 60.0)
    true = speed * clip + offset
    similarity = 0.9 - slope * np.abs(band[None] - true[:, None])
    line = refine(clip, band, similarity.astype(np.float32), Line(speed, offset + off_by, 3.0))
    np.testing.assert_allclose(line.at(clip), true, atol=1e-3)
    assert line.score == 3.0


def test_a_static_scene_leaves_the_line_within_reach() -> None:
    clip, band = np.arange(0, 6, 0.5), np.arange(0.0, 40.0)
    line = refine(clip, band, np.full((clip.size, band.size), 0.9, np.float32), Line(1.0, 10.0, 1.0))
    assert line.speed == 1.0
    assert abs(line.offset_seconds - 10.0) <= 1.5 * TOLERANCE_SECONDS + 0.5


def test_moving_frames_place_a_mostly_static_scene() -> None:
    clip, band = np.arange(0, 12, 0.5), np.arange(0.0, 60.0)
    similarity = np.full((clip.size, band.size), 0.9)
    moving = slice(8, 14)
    true = clip + 20.3
    similarity[moving] = 0.9 - 0.2 * np.abs(band[None] - true[moving, None])
    line = refine(clip, band, similarity.astype(np.float32), Line(1.0, 20.0, 1.0))
    assert line.offset_seconds == pytest.approx(20.3, abs=0.02)


@pytest.mark.parametrize("offset", [-50.0, 500.0])
def test_a_line_outside_the_asset_stays_as_it_is(offset: float) -> None:
    clip, band = np.arange(0, 6, 0.5), np.arange(0.0, 10.0)
    line = Line(1.0, offset, 1.0)
    assert refine(clip, band, np.ones((clip.size, band.size), np.float32), line) == line


def test_a_few_frames_that_peak_elsewhere_do_not_move_the_line() -> None:
    clip, band = np.arange(0, 12, 0.5), np.arange(0.0, 60.0)
    true = clip + 20.0
    peaks = true.copy()
    peaks[[3, 11, 17]] += 1.0
    similarity = 0.9 - 0.2 * np.abs(band[None] - peaks[:, None])
    line = refine(clip, band, similarity.astype(np.float32), Line(1.0, 20.0, 1.0))
    assert line.offset_seconds == pytest.approx(20.0, abs=0.02)


# ---------------------------------------------------------------- localize


def no_rival(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """No other program resembles any frame."""
    return np.full(len(clip), -1.0, np.float32)


@dataclass
class Program:
    """Assets with their frames, and what :func:`localize` needs of them."""

    seconds: Sequence[Floats]
    vectors: Sequence[NDArray[np.float32]]

    def read_band(self, asset: int, start: float, stop: float) -> tuple[Floats, NDArray[np.float32]]:
        own = self.seconds[asset]
        inside = (own >= start) & (own < stop)
        return own[inside], self.vectors[asset][inside]

    def hits(self, clip: NDArray[np.float32], *, floor: float = FLOOR, per_program: int = 6) -> Hits:
        """As a search gives them: each frame's best, ties to the earlier asset and time."""
        similarity = clip @ np.concatenate(self.vectors).T
        asset = np.concatenate([np.full(t.size, i, np.int32) for i, t in enumerate(self.seconds)])
        top = np.argsort(-similarity, axis=1, kind="stable")[:, :per_program]
        frame, rank = np.nonzero(np.take_along_axis(similarity, top, axis=1) >= floor)
        column = top[frame, rank]
        return Hits(
            frame, np.zeros(frame.size, np.int32), asset[column], np.concatenate(self.seconds)[column],
            similarity[frame, column],
        )  # fmt: skip

    def localize(
        self,
        clip_seconds: Floats,
        clip: NDArray[np.float32],
        *,
        floor: float = FLOOR,
        end: float | None = None,
        rival: NDArray[np.float32] | None = None,
        allow_reversed: bool = False,
    ) -> list[Match]:
        step = clip_seconds[1] - clip_seconds[0] if clip_seconds.size > 1 else 1.0
        end = float(clip_seconds[-1] + step) if end is None else end
        hits = self.hits(clip, floor=floor)
        return localize(
            clip_seconds, clip, hits, self.read_band,
            floor=floor, rival=no_rival(clip) if rival is None else rival, clip_end_seconds=end,
            allow_reversed=allow_reversed,
        )  # fmt: skip


def program_of(*trajectories: Trajectory, length: float = 120.0, gap: float = 1.0) -> Program:
    seconds = [np.arange(0, length, gap) for _ in trajectories]
    return Program(seconds, [curve(t) for curve, t in zip(trajectories, seconds, strict=True)])


def covered(matches: list[Match]) -> float:
    """Seconds of the clip."""
    return sum(match.clip_end_seconds - match.clip_start_seconds for match in matches)


def longest(matches: list[Match]) -> Match:
    return max(matches, key=lambda match: match.clip_end_seconds - match.clip_start_seconds)


def assert_sound(matches: list[Match], clip_seconds: Floats, *, end: float, floor: float) -> None:
    """What holds of every answer, right or wrong."""
    assert len(matches) <= MAX_SEGMENTS
    frames = [int(f) for match in matches for f in match.frames]
    assert len(frames) == len(set(frames))
    assert [m.clip_start_seconds for m in matches] == sorted(m.clip_start_seconds for m in matches)
    for match in matches:
        assert match.frames.size == match.similarities.size >= 1
        assert np.all(np.diff(match.frames) > 0)
        assert np.all(match.similarities >= floor)
        assert 0.0 <= match.clip_start_seconds <= match.clip_end_seconds <= end
        assert 0.0 <= match.asset_start_seconds <= match.asset_end_seconds
        assert MIN_SPEED <= match.line.speed <= MAX_SPEED
        inside = clip_seconds[match.frames]
        assert np.all((inside >= match.clip_start_seconds) & (inside <= match.clip_end_seconds))


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.0, 1.25, 2.0])
def test_a_cut_is_found_at_its_place_and_speed(speed: float) -> None:
    """A reference of one frame a second, a clip of two, begun between the reference's frames."""
    for seed in range(5):
        offset = 30 + np.random.default_rng(seed).uniform(0, 1)
        curve = Trajectory(seed)
        clip_seconds = np.arange(0, 20, 0.5)
        clip = noisy(curve(offset + speed * clip_seconds), seed)
        matches = program_of(curve).localize(clip_seconds, clip)
        assert_sound(matches, clip_seconds, end=20.0, floor=FLOOR)
        match = longest(matches)
        assert covered(matches) >= 0.9 * 20
        assert match.asset == 0
        assert match.line.speed == pytest.approx(speed, abs=0.02)
        start = match.line.at(np.array([0.0]))[0]
        end = match.line.at(np.array([20.0]))[0]
        assert start == pytest.approx(offset, abs=0.15)
        assert end == pytest.approx(offset + 20 * speed, abs=0.3)


def test_a_clip_of_the_middle_starts_and_ends_where_it_does() -> None:
    """Foreign frames before and after take no part."""
    curve, other = Trajectory(1), Trajectory(2)
    clip_seconds = np.arange(0, 30, 0.5)
    clip = other(clip_seconds)
    clip[20:40] = curve(clip_seconds[20:40] + 33.4)
    (match,) = program_of(curve).localize(clip_seconds, clip)
    assert match.clip_start_seconds == pytest.approx(10.0, abs=0.5)
    assert match.clip_end_seconds == pytest.approx(20.0, abs=0.5)
    assert match.asset_start_seconds == pytest.approx(43.4, abs=0.5)
    assert match.asset_end_seconds == pytest.approx(53.4, abs=0.5)


@pytest.mark.parametrize("shift", [7.0, 1000.0, 33.37])
def test_matches_move_with_the_asset(shift: float) -> None:
    curve = Trajectory(3)
    program = program_of(curve)
    clip_seconds = np.arange(0, 12, 0.5)
    clip = noisy(curve(clip_seconds + 40.4), 3)
    (here,) = program.localize(clip_seconds, clip)
    (there,) = Program([program.seconds[0] + shift], program.vectors).localize(clip_seconds, clip)
    np.testing.assert_array_equal(here.frames, there.frames)
    assert there.clip_start_seconds == here.clip_start_seconds
    assert there.clip_end_seconds == here.clip_end_seconds
    assert there.asset_start_seconds == pytest.approx(here.asset_start_seconds + shift, abs=1e-6)
    assert there.asset_end_seconds == pytest.approx(here.asset_end_seconds + shift, abs=1e-6)


@pytest.mark.parametrize("speed", [1.0, 1.5])
def test_the_line_moves_against_the_clip(speed: float) -> None:
    """The same frames, later in the clip: the same asset seconds."""
    curve = Trajectory(4)
    clip_seconds = np.arange(0, 16, 0.5)
    clip = noisy(curve(speed * clip_seconds + 40.4), 4)
    (here,) = program_of(curve).localize(clip_seconds, clip)
    (there,) = program_of(curve).localize(clip_seconds + 100.0, clip)
    assert there.line.speed == pytest.approx(here.line.speed, abs=1e-6)
    np.testing.assert_allclose(there.line.at(clip_seconds + 100), here.line.at(clip_seconds), atol=1e-4)
    assert there.clip_start_seconds == pytest.approx(here.clip_start_seconds + 100)
    assert there.clip_end_seconds == pytest.approx(here.clip_end_seconds + 100)


def test_two_segments_of_two_assets_are_both_found() -> None:
    curves = Trajectory(5), Trajectory(6)
    clip_seconds = np.arange(0, 24, 0.5)
    first = clip_seconds < 10
    clip = np.where(first[:, None], curves[1](clip_seconds + 60.3), curves[0](clip_seconds + 20.7))
    matches = program_of(*curves).localize(clip_seconds, noisy(clip.astype(np.float32), 5))
    assert_sound(matches, clip_seconds, end=24.0, floor=FLOOR)
    assert [match.asset for match in matches] == [1, 0]
    assert matches[0].line.offset_seconds == pytest.approx(60.3, abs=0.15)
    assert matches[1].line.offset_seconds == pytest.approx(20.7, abs=0.15)
    assert matches[0].clip_end_seconds == pytest.approx(10.0, abs=0.5)
    assert matches[1].clip_start_seconds == pytest.approx(10.0, abs=0.5)


def test_a_jump_within_one_asset_makes_two_segments() -> None:
    curve = Trajectory(7)
    clip_seconds = np.arange(0, 20, 0.5)
    asset_seconds = np.where(clip_seconds < 10, clip_seconds + 80.2, clip_seconds + 5.6)
    matches = program_of(curve).localize(clip_seconds, curve(asset_seconds))
    assert_sound(matches, clip_seconds, end=20.0, floor=FLOOR)
    assert [round(match.line.offset_seconds, 1) for match in matches] == [80.2, 5.6]


def test_no_more_than_so_many_segments() -> None:
    curve = Trajectory(8)
    pieces = MAX_SEGMENTS + 3
    clip_seconds = np.arange(0, 6.0 * pieces, 0.5)
    starts = 10 + 11.7 * np.random.default_rng(0).permutation(pieces)
    asset_seconds = starts[(clip_seconds // 6).astype(int)] + clip_seconds % 6
    matches = program_of(curve, length=160).localize(clip_seconds, curve(asset_seconds))
    assert_sound(matches, clip_seconds, end=6.0 * pieces, floor=FLOOR)
    assert len(matches) == MAX_SEGMENTS


def test_a_still_picture_matches_as_a_whole_and_where_it_stands() -> None:
    """Half a minute of one picture in the asset, ten seconds of it in the clip: all lines are as good."""
    curve = Trajectory(9)
    seconds = np.arange(0.0, 120.0)
    program = Program([seconds], [curve(np.clip(seconds, None, 50) + np.clip(seconds - 80, 0, None))])
    clip_seconds = np.arange(0, 10, 0.5)
    matches = program.localize(clip_seconds, curve(np.full(clip_seconds.size, 50.0)))
    assert_sound(matches, clip_seconds, end=10.0, floor=FLOOR)
    assert covered(matches) >= 0.9 * 10
    for match in matches:
        assert match.asset_start_seconds >= 49 - TOLERANCE_SECONDS
        assert match.asset_end_seconds <= 81 + TOLERANCE_SECONDS
        assert np.isfinite(match.line.offset_seconds)


def test_what_resembles_another_program_more_is_not_part_of_the_match() -> None:
    """The second half of the clip is in this program, but another one has it clearly better."""
    curve = Trajectory(17)
    clip_seconds = np.arange(0, 20, 0.5)
    clip = noisy(curve(clip_seconds + 40.0), 17)
    rival = np.where(clip_seconds < 10, -1.0, 1.0 + RIVAL_MARGIN + 1e-3).astype(np.float32)
    (match,) = program_of(curve).localize(clip_seconds, clip, rival=rival)
    assert match.clip_start_seconds == 0.0
    assert match.clip_end_seconds == pytest.approx(10.0, abs=0.5)
    (whole,) = program_of(curve).localize(clip_seconds, clip, rival=np.full(40, FLOOR, np.float32))
    assert whole.clip_end_seconds == 20.0


@pytest.mark.parametrize("seed", range(4))
def test_a_sparse_reference_places_a_clip_within_a_second(seed: int) -> None:
    """Key frames every 4 s of a calm scene."""
    curve = Trajectory(seed, pace=0.3)
    clip_seconds = np.arange(0, 20, 0.5)
    offset = 30.6 + seed
    matches = program_of(curve, gap=4.0).localize(clip_seconds, noisy(curve(clip_seconds + offset), seed))
    assert_sound(matches, clip_seconds, end=20.0, floor=FLOOR)
    assert covered(matches) >= 0.8 * 20
    for match in matches:
        middle = (match.clip_start_seconds + match.clip_end_seconds) / 2
        # A frame is up to half a gap from its nearest key frame, which may lie off the line.
        allowed = 1.0 if match is longest(matches) else 2.0 + TOLERANCE_SECONDS
        assert match.line.at(np.array([middle]))[0] == pytest.approx(middle + offset, abs=allowed)


def test_repeated_frames_give_the_same_line() -> None:
    """A clip at twice the frame rate, every picture shown twice: as uploads at 60 frames a second are."""
    curve = Trajectory(10)
    clip_seconds = np.arange(0, 12, 0.5)
    clip = curve(clip_seconds + 40.4)
    (once,) = program_of(curve).localize(clip_seconds, clip)
    (twice,) = program_of(curve).localize(np.arange(0, 12, 0.25), np.repeat(clip, 2, axis=0))
    assert twice.asset_start_seconds == pytest.approx(once.asset_start_seconds, abs=0.3)
    assert twice.asset_end_seconds == pytest.approx(once.asset_end_seconds, abs=0.3)
    assert (twice.clip_start_seconds, twice.clip_end_seconds) == (0.0, 12.0)


def test_one_frame_matches_where_it_is() -> None:
    curve = Trajectory(11)
    (match,) = program_of(curve).localize(np.zeros(1), curve(np.array([57.0])), end=0.5)
    assert match.frames.tolist() == [0]
    assert (match.clip_start_seconds, match.clip_end_seconds) == (0.0, 0.5)
    assert match.asset_start_seconds == pytest.approx(57.0, abs=0.5)
    assert match.similarities[0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("nq", [0, 1, 5])
def test_without_hits_there_is_no_match(nq: int) -> None:
    program = program_of(Trajectory(12))
    clip = Trajectory(13)(np.arange(nq) / 2)
    hits = program.hits(clip, floor=0.99)
    assert len(hits) == 0
    assert program.localize(np.arange(nq) / 2, clip, floor=0.99, end=nq / 2) == []


def test_an_asset_without_frames_there_gives_no_match() -> None:
    """The hits are of a state of the store in which the asset is gone: nothing to align with."""
    curve = Trajectory(14)
    clip_seconds = np.arange(0, 6, 0.5)
    clip = curve(clip_seconds + 20)
    hits = program_of(curve).hits(clip)

    def gone(asset: int, start: float, stop: float) -> tuple[Floats, NDArray[np.float32]]:
        return np.zeros(0), np.zeros((0, D), np.float32)

    found = localize(clip_seconds, clip, hits, gone, floor=FLOOR, rival=no_rival(clip), clip_end_seconds=6.0)
    assert found == []


def test_negative_similarities_match_above_a_negative_floor() -> None:
    """Nothing takes the sign of a similarity for granted."""
    curve = Trajectory(15)
    program = program_of(curve)
    clip_seconds = np.arange(0, 8, 0.5)
    clip = unit(noisy(curve(clip_seconds + 40), 15) - 1.2 * noisy(curve(clip_seconds + 40), 16))
    matches = program.localize(clip_seconds, clip, floor=-0.9)
    assert_sound(matches, clip_seconds, end=8.0, floor=-0.9)
    assert matches


def test_a_match_at_the_very_beginning_does_not_start_before_it() -> None:
    """A clip with two seconds of its own before the asset's first frame."""
    curve = Trajectory(16)
    clip_seconds = np.arange(0, 12, 0.5)
    matches = program_of(curve).localize(clip_seconds, curve(clip_seconds - 2.0))
    assert_sound(matches, clip_seconds, end=12.0, floor=FLOOR)
    assert longest(matches).asset_start_seconds <= 0.5
    assert longest(matches).asset_end_seconds == pytest.approx(10.0, abs=0.5)


def test_matches_share_no_time_of_the_clip() -> None:
    """Between two matches the frames of one are not those of the other, compared or not."""
    curve = Trajectory(16)
    clip_seconds = np.arange(0, 12, 0.5)
    matches = program_of(curve).localize(clip_seconds, curve(clip_seconds - 2.0))
    for before, after in pairwise(matches):
        assert before.clip_end_seconds <= after.clip_start_seconds


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    nq=st.integers(1, 20),
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    floor=st.sampled_from([-0.5, 0.0, 0.3]),
)
@example(seed=1746, nq=8, sizes=[1, 5, 25], floor=-0.5)  # once bridged a gap over a frame already taken
def test_whatever_the_descriptors_the_matches_are_sound_and_the_order_of_hits_is_of_no_consequence(
    seed: int, nq: int, sizes: list[int], floor: float
) -> None:
    rng = np.random.default_rng(seed)
    program = Program(
        [np.cumsum(rng.uniform(0.2, 5.0, n)) for n in sizes], [unit(rng.normal(size=(n, 5))) for n in sizes]
    )
    clip_seconds = np.arange(nq) / 2
    clip = unit(rng.normal(size=(nq, 5)))
    matches = program.localize(clip_seconds, clip, floor=floor, end=nq / 2)
    assert_sound(matches, clip_seconds, end=nq / 2, floor=floor)
    hits = program.hits(clip, floor=floor)
    shuffled = localize(
        clip_seconds, clip, hits.select(rng.permutation(len(hits))), program.read_band,
        floor=floor, rival=no_rival(clip), clip_end_seconds=nq / 2,
    )  # fmt: skip
    assert len(shuffled) == len(matches)
    for ours, theirs in zip(matches, shuffled, strict=True):
        np.testing.assert_array_equal(ours.frames, theirs.frames)
        assert (ours.asset, ours.line.speed) == (theirs.asset, pytest.approx(theirs.line.speed))
        assert ours.line.offset_seconds == pytest.approx(theirs.line.offset_seconds, abs=1e-6)


# ---------------------------------------------------------------- splinters


def piece(start: float, end: float, offset: float, n_frames: int, *, asset: int = 0) -> Match:
    frames = np.arange(n_frames) + int(2 * start)
    values = np.full(n_frames, 0.9, np.float32)
    return Match(asset, start, end, Line(1.0, offset, 1.0), frames, values, frames, values)


def test_a_splinter_joins_the_neighbour_that_nearly_goes_through_it() -> None:
    """Its time and frames are kept, its line is not: one frame cannot place a line."""
    joined = localize_module._joined([piece(0.0, 0.5, 12.6, 1), piece(0.5, 9.0, 14.0, 9)])
    assert [(m.clip_start_seconds, m.clip_end_seconds, m.line.offset_seconds) for m in joined] == [
        (0.0, 9.0, 14.0)
    ]
    assert joined[0].frames.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert joined[0].run.tolist() == joined[0].frames.tolist()
    assert joined[0].similarities.size == joined[0].run_similarities.size == 10


@pytest.mark.parametrize(
    "after",
    [
        piece(0.5, 9.0, 14.0 + 3 * TOLERANCE_SECONDS, 9),
        piece(0.5, 9.0, 14.0, 9, asset=1),
        piece(6.0, 9.0, 14.0, 6),
    ],
)
def test_other_neighbours_stay_apart(after: Match) -> None:
    """Farther off in the asset, in another asset, or after a long gap: a segment of its own."""
    before = piece(0.0, 0.5, 13.5, 1)
    assert localize_module._joined([before, after]) == [before, after]


def test_two_long_segments_stay_apart_however_near() -> None:
    """A jump cut of a second and a half is what the uploader did, and is said."""
    parts = [piece(0.0, 4.0, 12.6, 8), piece(4.0, 9.0, 14.0, 9)]
    assert localize_module._joined(parts) == parts


def test_one_stored_frame_of_an_asset_is_enough() -> None:
    """No gap between samples is known then, and nothing may be tried over an endless reach."""
    clip_seconds = np.arange(6) / 2
    similarity = np.linspace(0.9, 0.99, 6, dtype=np.float32)[:, None]
    line = refine(clip_seconds, np.array([3.0]), similarity, Line(1.0, 2.0, 1.0))
    assert np.isfinite(line.offset_seconds)
    assert line.speed == 1.0


# ---------------------------------------------------------------- reversed play


@pytest.mark.parametrize("speed", [-0.6, -1.0, -1.5])
def test_a_reversed_cut_is_found_at_its_place_and_speed(speed: float) -> None:
    for seed in range(4):
        offset = 80 + np.random.default_rng(seed).uniform(0, 1)
        curve = Trajectory(seed)
        clip_seconds = np.arange(0, 16, 0.5)
        clip = noisy(curve(offset + speed * clip_seconds), seed)
        matches = program_of(curve).localize(clip_seconds, clip, allow_reversed=True)
        match = longest(matches)
        assert covered(matches) >= 0.9 * 16
        assert match.is_reversed
        assert match.line.speed == pytest.approx(speed, abs=0.03)
        assert match.asset_end_seconds == pytest.approx(offset, abs=0.2)
        assert match.asset_start_seconds == pytest.approx(offset + 16 * speed, abs=0.3)


@pytest.mark.parametrize("speed", [-1.02, -0.98])
def test_a_reversed_speed_next_to_1_is_1(speed: float) -> None:
    clip, band = np.arange(0, 12, 0.5), np.arange(0.0, 60.0)
    true = 40.0 - clip
    similarity = (0.9 - 0.2 * np.abs(band[None] - true[:, None])).astype(np.float32)
    line = refine(clip, band, similarity, Line(speed, 40.2, 1.0))
    assert line.speed == -1.0
    assert line.offset_seconds == pytest.approx(40.0, abs=0.05)


def test_a_sparse_reference_places_reversed_play() -> None:
    """Key frames every 4 s of the asset."""
    curve = Trajectory(2, pace=0.3)
    clip_seconds = np.arange(0, 24, 0.5)
    program = program_of(curve, gap=4.0)
    matches = program.localize(clip_seconds, curve(70.0 - clip_seconds), allow_reversed=True)
    match = longest(matches)
    assert match.line.speed == -1.0
    assert match.line.at(12.0) == pytest.approx(58.0, abs=1.0)


def test_forward_clips_are_not_reversed() -> None:
    """Allowing reversed play changes nothing for a clip that is not."""
    for seed in range(4):
        curve = Trajectory(seed, pace=0.4)
        clip_seconds = np.arange(0, 12, 0.5)
        clip = noisy(curve(clip_seconds + 40.4), seed)
        (plain,) = program_of(curve).localize(clip_seconds, clip)
        (allowed,) = program_of(curve).localize(clip_seconds, clip, allow_reversed=True)
        assert not allowed.is_reversed
        assert allowed.line == plain.line


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), nq=st.integers(1, 20), size=st.integers(1, 40))
def test_reversed_matches_are_sound_too(seed: int, nq: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    program = Program([np.cumsum(rng.uniform(0.2, 3.0, size))], [unit(rng.normal(size=(size, 5)))])
    clip = unit(rng.normal(size=(nq, 5)))
    for match in program.localize(np.arange(nq) / 2, clip, floor=0.0, end=nq / 2, allow_reversed=True):
        assert MIN_SPEED <= abs(match.line.speed) <= MAX_SPEED
        assert match.is_reversed is (match.line.speed < 0)
        assert 0.0 <= match.asset_start_seconds <= match.asset_end_seconds
        assert 0.0 <= match.ambiguity <= 1.0
        assert np.all(match.similarities >= 0.0)


# ---------------------------------------------------------------- a floor for each frame


def test_one_floor_for_all_is_the_same_as_that_of_each() -> None:
    curve = Trajectory(21)
    clip_seconds = np.arange(0, 12, 0.5)
    clip, program = noisy(curve(clip_seconds + 40.4), 21), program_of(curve)
    hits = program.hits(clip)
    floors = np.full(clip_seconds.size, FLOOR, np.float32)
    one, each = (
        localize(
            clip_seconds, clip, hits, program.read_band,
            floor=floor, rival=no_rival(clip), clip_end_seconds=12.0,
        )
        for floor in (FLOOR, floors)
    )  # fmt: skip
    assert [m.line for m in one] == [m.line for m in each]
    assert [m.run.tolist() for m in one] == [m.run.tolist() for m in each]


def test_a_frame_below_its_own_floor_carries_nothing() -> None:
    """A caption that is everywhere: the last frames resemble this asset as they do any."""
    curve = Trajectory(22)
    clip_seconds = np.arange(0, 20, 0.5)
    clip, program = noisy(curve(clip_seconds + 40.4), 22), program_of(curve)
    floors = np.where(clip_seconds < 12, FLOOR, 1.1).astype(np.float32)
    (match,) = localize(
        clip_seconds, clip, program.hits(clip), program.read_band,
        floor=floors, rival=no_rival(clip), clip_end_seconds=20.0,
    )  # fmt: skip
    assert match.clip_start_seconds == 0.0
    assert match.clip_end_seconds == 11.75
    none = localize(
        clip_seconds, clip, program.hits(clip), program.read_band,
        floor=np.full(40, 1.1, np.float32), rival=no_rival(clip), clip_end_seconds=20.0,
    )  # fmt: skip
    assert none == []


def test_hits_below_their_frames_floor_do_not_vote() -> None:
    """Another asset that resembles the clip less than chance does: the farther below, the less it counts."""
    curve = Trajectory(20)
    seconds = np.arange(0.0, 120.0)
    worse = noisy(curve(seconds + 17.0), 1, 1.5)
    program = Program([seconds, seconds], [worse, curve(seconds)])
    clip_seconds = np.arange(0, 12, 0.5)
    clip = curve(clip_seconds + 40.0)
    (match,) = localize(
        clip_seconds, clip, program.hits(clip, floor=0.3), program.read_band,
        floor=np.full(24, 0.85, np.float32), rival=no_rival(clip), clip_end_seconds=12.0,
    )  # fmt: skip
    assert match.asset == 1
    assert match.line.offset_seconds == pytest.approx(40.0, abs=0.1)


# ---------------------------------------------------------------- borders


def test_a_border_lies_half_way_to_the_frame_that_does_not_match() -> None:
    curve, other = Trajectory(1), Trajectory(2)
    clip_seconds = np.arange(0, 30, 0.5)
    clip = other(clip_seconds)
    clip[20:40] = curve(clip_seconds[20:40] + 33.4)
    (match,) = program_of(curve).localize(clip_seconds, clip)
    assert (match.clip_start_seconds, match.clip_end_seconds) == (9.75, 19.75)


def test_borders_of_uneven_frames_stay_between_neighbours() -> None:
    """Frames 0.2 s before and after the part that matches: half-way is 0.1 s off."""
    clip_seconds = np.concatenate([np.arange(0, 4, 0.5), 3.7 + np.arange(12) / 2, [9.4, 9.9, 10.4, 10.9]])
    curve, other = Trajectory(3), Trajectory(4)
    clip = other(clip_seconds)
    clip[8:20] = curve(clip_seconds[8:20] + 50.0)
    (match,) = program_of(curve).localize(clip_seconds, clip)
    assert match.clip_start_seconds == pytest.approx(3.6)
    assert match.clip_end_seconds == pytest.approx(9.3)


def test_half_a_step_is_the_better_border_in_the_mean() -> None:
    """Montages cut anywhere: against borders on the first frame and a whole step after the last."""
    curve, other = Trajectory(5), Trajectory(6)
    clip_seconds = np.arange(0, 20, 0.5)
    errors, whole_step = [], []
    for seed in range(20):
        start, end = np.random.default_rng(seed).uniform([4, 12], [7, 16])
        inside = (clip_seconds >= start) & (clip_seconds < end)
        clip = np.where(inside[:, None], curve(clip_seconds + 40.0), other(clip_seconds))
        match = longest(program_of(curve).localize(clip_seconds, noisy(clip.astype(np.float32), seed)))
        errors += [abs(match.clip_start_seconds - start), abs(match.clip_end_seconds - end)]
        first, last = clip_seconds[match.run[[0, -1]]]
        whole_step += [abs(first - start), abs(last + 0.5 - end)]
    assert np.mean(errors) <= 0.15
    assert np.mean(errors) < 0.7 * np.mean(whole_step)


# ---------------------------------------------------------------- pauses, jumps, titles


@pytest.mark.parametrize("pause", [1.5, 2.0])
def test_a_frozen_picture_parts_two_segments(pause: float) -> None:
    """The clip stands still and goes on: two lines at speed 1, each with its own times."""
    curve = Trajectory(23)
    clip_seconds = np.arange(0, 14 + pause, 0.5)
    shown = np.where(clip_seconds < 7, clip_seconds, np.maximum(clip_seconds - pause, 7.0)) + 40.3
    before, after = program_of(curve).localize(clip_seconds, noisy(curve(shown), 23))
    assert before.line.speed == after.line.speed == 1.0
    assert before.line.offset_seconds == pytest.approx(40.3, abs=0.2)
    assert after.line.offset_seconds == pytest.approx(40.3 - pause, abs=0.2)
    assert 6.5 <= before.clip_end_seconds <= after.clip_start_seconds <= 7.5 + pause


def test_a_shorter_pause_than_the_tolerance_is_one_segment() -> None:
    curve = Trajectory(24)
    clip_seconds = np.arange(0, 14, 0.5)
    shown = np.where(clip_seconds < 7, clip_seconds, clip_seconds - 0.5) + 40.3
    (match,) = program_of(curve).localize(clip_seconds, noisy(curve(shown), 24))
    assert (match.clip_start_seconds, match.clip_end_seconds) == (0.0, 14.0)


@pytest.mark.parametrize("jump", [1.5, 3.0, 6.0])
def test_a_cut_of_the_asset_within_the_clip_makes_two_segments_of_speed_1(jump: float) -> None:
    """No line of another speed is laid over both."""
    curve = Trajectory(25)
    clip_seconds = np.arange(0, 14, 0.5)
    shown = np.where(clip_seconds < 7, clip_seconds, clip_seconds + jump) + 40.3
    before, after = program_of(curve).localize(clip_seconds, noisy(curve(shown), 25))
    assert before.line.speed == after.line.speed == 1.0
    assert before.line.offset_seconds == pytest.approx(40.3, abs=0.2)
    assert after.line.offset_seconds == pytest.approx(40.3 + jump, abs=0.2)


def test_dropped_frames_do_not_move_the_line() -> None:
    """A fifth of the frames show the one before."""
    curve = Trajectory(26)
    clip_seconds = np.arange(0, 16, 0.5)
    late = np.random.default_rng(26).random(32) < 0.2
    (match,) = program_of(curve).localize(clip_seconds, noisy(curve(clip_seconds - 0.5 * late + 40.3), 26))
    assert match.line.speed == 1.0
    assert match.line.offset_seconds == pytest.approx(40.3, abs=0.2)
    assert (match.clip_start_seconds, match.clip_end_seconds) == (0.0, 16.0)


def episodes(n: int, *, titles_at: Sequence[float]) -> tuple[Program, list[Trajectory], Trajectory]:
    """Episodes that all show the same twenty seconds of titles, each from its own time on."""
    films, titles = [Trajectory(100 + i) for i in range(n)], Trajectory(99)
    seconds = np.arange(0.0, 120.0)
    vectors = []
    for film, start in zip(films, titles_at, strict=True):
        into = seconds - start
        shown = (into >= 0) & (into < 20)
        vectors.append(np.where(shown[:, None], titles(into), film(seconds)))
    return Program([seconds] * n, vectors), films, titles


def test_titles_join_the_episode_whose_own_frames_follow_them() -> None:
    """More of the clip is titles, of which the search found those of other episodes alone."""
    program, films, titles = episodes(8, titles_at=[10.0 + 3 * i for i in range(8)])
    clip_seconds = np.arange(0, 14, 0.5)
    start = 10.0 + 3 * 7 + 12.0  # eight seconds of the last one's titles, then six of its own
    clip = np.where((clip_seconds < 8)[:, None], titles(clip_seconds + 12.0), films[7](clip_seconds + start))
    (match,) = program.localize(clip_seconds, noisy(clip.astype(np.float32), 1, 0.1))
    assert match.asset == 7
    assert match.asset_start_seconds == pytest.approx(start, abs=0.2)
    assert (match.clip_start_seconds, match.clip_end_seconds) == (0.0, 14.0)
    assert match.also == ()


def test_titles_alone_are_told_with_the_other_episodes_that_have_them() -> None:
    program, _, titles = episodes(3, titles_at=[10.0, 20.0, 30.0])
    clip_seconds = np.arange(0, 10, 0.5)
    (match,) = program.localize(clip_seconds, titles(clip_seconds + 5.0))
    assert match.asset == 0
    assert sorted(place.asset for place in match.also) == [1, 2]
    for place in match.also:
        assert place.asset_start_seconds == pytest.approx(15.0 + 10 * place.asset, abs=0.25)
        assert place.asset_end_seconds == pytest.approx(25.0 + 10 * place.asset, abs=0.25)
        assert place.similarity == pytest.approx(float(match.run_similarities.mean()), abs=0.02)


def test_a_still_scene_says_that_it_fits_anywhere() -> None:
    """And takes the earliest."""
    curve = Trajectory(9)
    seconds = np.arange(0.0, 120.0)
    program = Program([seconds], [curve(np.clip(seconds, None, 50) + np.clip(seconds - 80, 0, None))])
    clip_seconds = np.arange(0, 10, 0.5)
    matches = program.localize(clip_seconds, curve(np.full(clip_seconds.size, 50.0)))
    still = longest(matches)
    assert still.ambiguity == pytest.approx(1.0, abs=0.01)
    assert still.offset_slack_seconds >= 5.0
    moving = longest(program.localize(clip_seconds, curve(clip_seconds + 20.0)))
    assert moving.ambiguity < 0.2
    assert moving.offset_slack_seconds <= 1.0


def test_places_by_hand() -> None:
    """Frame 0: two assets, and one place of the first twice over; frame 1: one is clearly best."""
    rows = [
        (0, 0, 10.0, 0.90), (0, 0, 12.0, 0.89), (0, 0, 40.0, 0.885), (0, 1, 10.0, 0.90), (0, 2, 5.0, 0.80),
        (1, 0, 10.0, 0.95), (1, 1, 10.0, 0.90),
    ]  # fmt: skip
    frame, asset, seconds, similarity = (np.array(column) for column in zip(*rows, strict=True))
    hits = Hits(frame, np.zeros(7, np.int32), asset.astype(np.int32), seconds, similarity.astype(np.float32))
    assert count_places(hits).tolist() == [3, 3, 3, 3, 3, 1, 1]
    order = np.random.default_rng(0).permutation(7)
    assert count_places(hits.select(order)).tolist() == np.array([3, 3, 3, 3, 3, 1, 1])[order].tolist()
    assert count_places(hits.select(np.zeros(7, dtype=bool))).tolist() == []


# ---------------------------------------------------------------- long clips


@pytest.mark.parametrize("gap", [1.0, 4.0])
@pytest.mark.parametrize("speed", [1.0, 1.25, -1.0])
def test_a_clip_in_blocks_is_aligned_as_a_whole_one(
    speed: float, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = Trajectory(27, pace=0.4)
    clip_seconds = np.arange(0, 40, 0.5)
    clip = noisy(curve((30.3 if speed > 0 else 90.3) + speed * clip_seconds), 27)
    program = program_of(curve, gap=gap)
    whole = program.localize(clip_seconds, clip, allow_reversed=True)
    monkeypatch.setattr(refine_module, "BLOCK_FRAMES", 16)
    parts = program.localize(clip_seconds, clip, allow_reversed=True)
    assert len(parts) == len(whole)
    for one, other in zip(parts, whole, strict=True):
        assert one.line.speed == pytest.approx(other.line.speed, abs=0.01)
        np.testing.assert_allclose(one.line.at(clip_seconds), other.line.at(clip_seconds), atol=0.2)
        assert one.clip_start_seconds == other.clip_start_seconds
        assert one.clip_end_seconds == other.clip_end_seconds


def test_a_long_clip_takes_the_memory_of_a_band() -> None:
    """An hour against an hour: the whole matrix alone would be 100 MB."""
    n = 3600
    curve = Trajectory(28)
    seconds, clip_seconds = np.arange(float(n)), np.arange(2 * n) / 2
    program = Program([seconds], [curve(seconds)])
    clip = curve(clip_seconds)
    near = np.minimum(np.round(clip_seconds), n - 1)
    hits = Hits(
        np.arange(2 * n), np.zeros(2 * n, np.int32), np.zeros(2 * n, np.int32), near,
        np.einsum("nd,nd->n", clip, program.vectors[0][near.astype(int)]),
    )  # fmt: skip
    tracemalloc.start()
    (match,) = localize(
        clip_seconds, clip, hits, program.read_band, floor=FLOOR, rival=no_rival(clip), clip_end_seconds=n
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (match.line.speed, match.clip_start_seconds, match.clip_end_seconds) == (1.0, 0.0, n)
    assert peak < 25e6


@given(seed=st.integers(0, 2**32 - 1), nq=st.integers(1, 5), nr=st.integers(1, 8))
def test_between_samples_is_linear(seed: int, nq: int, nr: int) -> None:
    rng = np.random.default_rng(seed)
    band = np.sort(rng.choice(np.arange(40) / 2, nr, replace=False))
    similarity = rng.uniform(-1, 1, (nq, nr)).astype(np.float32)
    times = rng.uniform(-3, 23, (nq, 3))
    got = between_samples(similarity, band, times)
    for i in range(nq):
        for j in range(3):
            inside = band[0] - TOLERANCE_SECONDS <= times[i, j] <= band[-1] + TOLERANCE_SECONDS
            expected = np.interp(times[i, j], band, similarity[i]) if inside else -1.0
            assert got[i, j] == pytest.approx(expected, abs=1e-5)
