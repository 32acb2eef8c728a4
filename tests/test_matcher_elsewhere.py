"""Where else a run fits: on synthetic programs with known repeats, and against literal loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from trajectories import Trajectory, noisy

from matcher.elsewhere import (
    ALSO_SIMILARITY,
    MAX_ALSO,
    MAX_FRAMES,
    NEAR_SECONDS,
    Doubt,
    Run,
    _slack,
    look_elsewhere,
)
from matcher.lines import Line
from matcher.refine import SLACK_SIMILARITY
from matcher.voting import Hits

Floats = NDArray[np.float64]
FLOOR = 0.5


def doubt_of(
    clip_seconds: Floats,
    clip: NDArray[np.float32],
    assets: list[NDArray[np.float32]],
    line: Line,
    *,
    asset: int = 0,
) -> Doubt:
    """The doubt of a run that is all of a clip, among assets of one frame a second."""
    positions = np.concatenate([np.full(len(a), i, np.int32) for i, a in enumerate(assets)])
    seconds = np.concatenate([np.arange(float(len(a))) for a in assets])
    similarity = clip @ np.concatenate(assets).T
    frame, column = np.nonzero(similarity >= FLOOR)
    hits = Hits(
        frame, np.zeros(frame.size, np.int32), positions[column], seconds[column], similarity[frame, column]
    )

    def read_band(i: int, start: float, stop: float) -> tuple[Floats, NDArray[np.float32]]:
        own = np.arange(float(len(assets[i])))
        inside = (own >= start) & (own < stop)
        return own[inside], assets[i][inside]

    end = float(clip_seconds[-1]) + 0.5
    floor = np.full(len(clip), FLOOR, np.float32)
    return look_elsewhere(Run(clip_seconds, clip, floor, asset, line, 0.0, end), hits, read_band)


CLIP = np.arange(0, 10, 0.5)
ASSET = np.arange(0.0, 120.0)


def test_a_moving_scene_has_one_place() -> None:
    curve = Trajectory(1)
    doubt = doubt_of(CLIP, curve(CLIP + 40.0), [curve(ASSET)], Line(1.0, 40.0, 1.0))
    assert doubt.ambiguity < 0.1
    assert doubt.offset_slack_seconds <= 1.0
    assert doubt.also == ()


def test_a_still_scene_fits_anywhere_in_it() -> None:
    """Thirty seconds of one picture, ten of them in the clip."""
    curve = Trajectory(2)
    asset = curve(np.clip(ASSET, None, 50) + np.clip(ASSET - 80, 0, None))
    doubt = doubt_of(CLIP, curve(np.full(CLIP.size, 50.0)), [asset], Line(1.0, 60.0, 1.0))
    assert doubt.ambiguity == 1.0
    # From the clip's start at 50 until its last frame, 9.5 s later, is at 80.
    assert doubt.offset_slack_seconds == pytest.approx(20.5, abs=1.0)
    assert doubt.also == ()


def test_the_same_footage_in_other_assets_is_told() -> None:
    titles, others = Trajectory(3), [Trajectory(10 + i) for i in range(3)]
    starts = [5.0, 0.0, 30.0]
    assets = []
    for film, start in zip(others, starts, strict=True):
        into = ASSET - start
        shown = (into >= 0) & (into < 20)
        assets.append(np.where(shown[:, None], titles(into), film(ASSET)))
    assets[1] = noisy(assets[1], 1, 0.1)  # encoded again, a little worse
    doubt = doubt_of(CLIP, titles(CLIP + 4.0), assets, Line(1.0, 9.0, 1.0))
    assert [place.asset for place in doubt.also] == [2, 1]
    assert doubt.also[0].asset_start_seconds == pytest.approx(34.0, abs=0.25)
    assert doubt.also[0].asset_end_seconds == pytest.approx(44.0, abs=0.25)
    assert doubt.also[0].similarity == pytest.approx(0.95, abs=0.05)
    assert doubt.also[1].asset_start_seconds == pytest.approx(4.0, abs=0.25)
    assert doubt.ambiguity < 0.1  # only other assets show it


def test_a_recap_in_the_same_asset_is_told_and_is_ambiguous() -> None:
    curve = Trajectory(4)
    asset = curve(np.where(ASSET < 20, ASSET + 70, ASSET))
    doubt = doubt_of(CLIP, curve(CLIP + 75.0), [asset], Line(1.0, 75.0, 1.0))
    assert doubt.ambiguity == pytest.approx(1.0, abs=0.02)
    (place,) = doubt.also
    assert place[:3] == pytest.approx((0, 5.0, 15.0), abs=0.25)


def test_of_many_places_the_best_few_are_told() -> None:
    curve = Trajectory(5)
    assets = [noisy(curve(ASSET), i, 0.02 * (i % 4)) for i in range(9)]
    doubt = doubt_of(CLIP, curve(CLIP + 40.0), assets, Line(1.0, 40.0, 1.0))
    assert len(doubt.also) == MAX_ALSO
    values = [place.similarity for place in doubt.also]
    assert values == sorted(values, reverse=True)
    assert len({place.asset for place in doubt.also}) == MAX_ALSO


def test_what_is_clearly_less_similar_is_not_told() -> None:
    curve = Trajectory(6)
    assets = [curve(ASSET), noisy(curve(ASSET), 1, 0.5)]
    clip = curve(CLIP + 40.0)
    own, noised = (float((clip[0::2] * asset[40:50]).sum(axis=1).mean()) for asset in assets)
    assert own - noised > 2 * ALSO_SIMILARITY
    assert doubt_of(CLIP, clip, assets, Line(1.0, 40.0, 1.0)).also == ()


def test_places_of_reversed_play_start_before_they_end() -> None:
    curve = Trajectory(7)
    assets = [curve(ASSET), curve(ASSET + 30.0)]
    doubt = doubt_of(CLIP, curve(60.0 - CLIP), assets, Line(-1.0, 60.0, 1.0))
    (place,) = doubt.also
    assert place.asset == 1
    assert place.asset_start_seconds == pytest.approx(20.0, abs=0.5)
    assert place.asset_end_seconds == pytest.approx(30.0, abs=0.5)


def test_without_similarity_above_the_floor_any_place_is_as_good() -> None:
    """Nothing tells the places apart, and nothing is divided by zero."""
    curve, stranger = Trajectory(8), Trajectory(9)
    doubt = doubt_of(CLIP, stranger(CLIP), [curve(ASSET)], Line(1.0, 40.0, 1.0))
    assert doubt.ambiguity == 1.0
    assert np.isfinite(doubt.offset_slack_seconds)


def test_a_long_run_is_thinned_evenly() -> None:
    n = 1000
    run = Run(
        np.arange(float(n)), np.zeros((n, 2), np.float32), np.zeros(n, np.float32), 3, Line(1.0, 0.0, 1.0),
        0.0, float(n),
    )  # fmt: skip
    thin = run.thinned()
    assert thin.seconds.size == len(thin.vectors) == thin.floor.size == MAX_FRAMES
    assert (thin.seconds[0], thin.seconds[-1]) == (0.0, n - 1.0)
    assert np.ptp(np.diff(thin.seconds)) <= 1.0
    assert (thin.asset, thin.end_seconds) == (3, float(n))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.data())
def test_slack_is_the_stretch_around_the_centre_that_fits_as_well(
    levels: list[int], data: st.DataObject
) -> None:
    centre = data.draw(st.integers(0, len(levels) - 1))
    means = np.array(levels) * 0.008  # one level lower is within the slack, two are not
    low = high = centre
    while low > 0 and means[low - 1] >= means[centre] - SLACK_SIMILARITY:
        low -= 1
    while high < len(levels) - 1 and means[high + 1] >= means[centre] - SLACK_SIMILARITY:
        high += 1
    assert _slack(means.astype(np.float32), centre) == (low, high)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), speed=st.sampled_from([1.0, -1.0, 0.7]))
def test_whatever_the_run_its_doubt_is_sound(seed: int, n: int, speed: float) -> None:
    rng = np.random.default_rng(seed)
    assets = [Trajectory(int(rng.integers(3)))(np.arange(float(rng.integers(1, 60)))) for _ in range(3)]
    clip = assets[0][rng.integers(0, len(assets[0]), n)]
    doubt = doubt_of(np.arange(n) / 2, clip, assets, Line(speed, float(rng.uniform(0, 60)), 1.0))
    assert 0.0 <= doubt.ambiguity <= 1.0
    assert 0.0 <= doubt.offset_slack_seconds <= 2 * NEAR_SECONDS
    assert len(doubt.also) <= MAX_ALSO
    for place in doubt.also:
        assert 0.0 <= place.asset_start_seconds <= place.asset_end_seconds


def test_a_run_without_hits_has_no_other_place() -> None:
    curve = Trajectory(1)
    empty = Hits(
        np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0),
        np.zeros(0, np.float32),
    )  # fmt: skip
    run = Run(CLIP, curve(CLIP + 40), np.full(20, FLOOR, np.float32), 0, Line(1.0, 40.0, 1.0), 0.0, 10.0)
    doubt = look_elsewhere(run, empty, lambda *_: (ASSET, curve(ASSET)))
    assert doubt.also == ()
    assert doubt.ambiguity < 0.1
