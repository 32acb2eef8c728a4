"""Truth and sound follow from what an edit says it shows when; a lookup second by second is the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.edit_base import (
    SOUND_RATE_HZ,
    Edit,
    EditContext,
    Stretch,
    TruthSegment,
    edited_segments,
    edited_sound,
    per_frame,
    total_seconds,
)
from eval.edit_sounds import mute, replace_sound
from eval.edit_times import freeze, intro, outro, reverse, speed
from eval.edits import write_clip
from eval.video_reader import read_shape, read_sound
from eval.video_writer import write_video


def _segment(start: float, end: float, asset_start: float, *, rate: float = 1.0) -> TruthSegment:
    length = (end - start) * rate
    return TruthSegment(start, end, Path("f.mp4"), "a", "p", asset_start, asset_start + length)


def _times(segments: tuple[TruthSegment, ...]) -> list[tuple[float, float, float, float, bool]]:
    return [
        (
            s.clip_start_seconds,
            s.clip_end_seconds,
            s.asset_start_seconds,
            s.asset_end_seconds,
            s.is_reversed,
        )
        for s in segments
    ]


def test_worked_example() -> None:
    """Two seconds of card, one backwards at half speed, one held, the rest: of [0, 3) of 10 to 13."""
    stretches = (Stretch(2), Stretch(2, (1, 0)), Stretch(1, (1, 1)), Stretch(2, (1, 3)))
    assert total_seconds(stretches) == 7
    found = edited_segments([_segment(0, 3, 10)], stretches)
    assert _times(found) == [(2, 4, 10, 11, True), (5, 7, 11, 13, False)]
    assert [found[0].asset_time(t) for t in (2, 3, 4)] == [11, 10.5, 10]
    assert [found[1].asset_time(t) for t in (5, 6, 7)] == [11, 12, 13]


def test_backwards_twice_is_forwards_and_keeps_the_asset_order() -> None:
    back = (Stretch(3, (3, 0)),)
    once = edited_segments([_segment(0, 1, 10), _segment(1, 3, 50)], back)
    assert _times(once) == [(0, 2, 50, 52, True), (2, 3, 10, 11, True)]
    assert _times(edited_segments(once, back)) == [(0, 1, 10, 11, False), (1, 3, 50, 52, False)]


_shown = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (p[0] / 4, p[1] / 4))
_stretch = st.builds(Stretch, st.integers(1, 20).map(lambda n: n / 4), st.none() | _shown)


def _naive(t: float, segments: list[TruthSegment], stretches: list[Stretch]) -> float | None:
    """The asset time shown ``t`` seconds into the edited clip."""
    for stretch in stretches:
        if t < stretch.seconds:
            if stretch.shown is None or stretch.shown[0] == stretch.shown[1]:
                return None
            before = stretch.shown[0] + t / stretch.seconds * (stretch.shown[1] - stretch.shown[0])
            for segment in segments:
                if segment.clip_start_seconds <= before < segment.clip_end_seconds:
                    return segment.asset_time(before)
            return None
        t -= stretch.seconds
    return None


@given(st.lists(_stretch, min_size=1, max_size=5), st.lists(st.integers(1, 16), min_size=1, max_size=4))
def test_segments_agree_with_a_lookup_second_by_second(stretches: list[Stretch], lengths: list[int]) -> None:
    ends = np.cumsum(lengths) / 4
    segments = [
        _segment(end - n / 4, end, 100.0 * k, rate=0.5 + k)
        for k, (n, end) in enumerate(zip(lengths, ends, strict=True))
    ]
    found = edited_segments(segments, stretches)
    assert all(s.asset_start_seconds < s.asset_end_seconds for s in found)
    # Odd steps, so that no sample falls on a border, where half-open stretches that run back differ.
    for t in np.arange(0.0171, total_seconds(stretches), 0.1733):
        claims = [s for s in found if s.clip_start_seconds <= t < s.clip_end_seconds]
        wanted = _naive(float(t), segments, stretches)
        assert len(claims) == (wanted is not None)
        if wanted is not None:
            assert claims[0].asset_time(float(t)) == pytest.approx(wanted, abs=1e-6)


def test_an_edit_says_only_once_what_it_does_to_the_clock() -> None:
    with pytest.raises(ValueError, match="not both"):
        Edit("x", "light", per_frame(lambda i: i), speed=2.0, plan=lambda d: (Stretch(d, (0, d)),))
    assert speed(2).stretches(8) == (Stretch(4, (0, 8)),)


# --- Sound ---


def _ramp(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Every sample says when it was heard."""
    return np.arange(round(seconds * SOUND_RATE_HZ), dtype=np.float32) / SOUND_RATE_HZ / 10


def _heard(edit: Edit, seconds: float = 4.0) -> list[float]:
    """At each quarter of a second, which second of the sound is heard; 0 is silence."""
    context = EditContext(np.random.default_rng(0), seconds)
    out = edited_sound(_ramp(seconds), edit, context)
    assert out.dtype == np.float32
    assert len(out) == pytest.approx(total_seconds(edit.stretches(seconds)) * SOUND_RATE_HZ, abs=2)
    at = (np.arange(0.125, len(out) / SOUND_RATE_HZ, 0.25) * SOUND_RATE_HZ).astype(int)
    return [float(v) * 10 for v in out[at]]


@pytest.mark.parametrize(
    "edit",
    [speed(2.0), speed(0.5), reverse(), freeze(0.5, 1.0), intro(1.0), outro(1.5)],
    ids=lambda e: e.name,
)
def test_sound_follows_the_plan(edit: Edit) -> None:
    whole = [_segment(0, 4, 0)]
    times = np.arange(0.125, total_seconds(edit.stretches(4.0)), 0.25)
    wanted = [_naive(float(t), whole, list(edit.stretches(4.0))) or 0.0 for t in times]
    np.testing.assert_allclose(_heard(edit), wanted, atol=0.001)


def test_sound_goes_on_behind_a_frame_that_is_held_over_the_clip() -> None:
    np.testing.assert_allclose(
        _heard(freeze(0.5, 1.0, is_inserted=False)), np.arange(0.125, 4, 0.25), atol=1e-3
    )


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """One second of grey with a loud tone."""
    tone = (0.5 * np.sin(np.arange(SOUND_RATE_HZ) * 0.1)).astype(np.float32)
    path = tmp_path / "other.mp4"
    frames = (np.full((32, 32, 3), 90, np.uint8) for _ in range(10))
    write_video(path, frames, fps=10, sound=tone, sound_rate_hz=SOUND_RATE_HZ)
    return path


def test_another_sound_replaces_or_joins_the_clip_s(other: Path) -> None:
    context = EditContext(np.random.default_rng(0), 2.0)
    own = np.full(2 * SOUND_RATE_HZ, 0.25, np.float32)
    out = edited_sound(own, replace_sound(other), context)
    assert len(out) == len(own)
    assert np.abs(out[: SOUND_RATE_HZ // 2]).mean() > 0.2
    assert not out[-SOUND_RATE_HZ // 2 :].any()
    both = edited_sound(own, replace_sound(other, rest=0.4), context)
    np.testing.assert_allclose(both[-SOUND_RATE_HZ // 2 :], 0.1, atol=1e-6)
    tune, next_tune = (edited_sound(own, replace_sound(), context) for _ in range(2))
    assert tune.std() > 0.01
    assert not np.array_equal(tune, next_tune)
    again = edited_sound(own, replace_sound(), EditContext(np.random.default_rng(0), 2.0))
    np.testing.assert_array_equal(tune, again)
    with pytest.raises(ValueError, match="rest must"):
        replace_sound(rest=2)


def test_an_intro_brings_its_own_sound_even_to_a_muted_clip(other: Path, tmp_path: Path) -> None:
    edits = [mute(), intro(1.0, over=other)]
    truth = write_clip(other, 0, 1, edits, tmp_path / "a.mp4", seed=1)
    heard = read_sound(truth.path, 0, 2, rate_hz=8000)
    assert np.abs(heard[2000:6000]).mean() > 0.2
    assert np.abs(heard[10000:14000]).mean() < 0.01
    silent = write_clip(other, 0, 1, edits[::-1], tmp_path / "b.mp4", seed=1)
    assert not read_shape(silent.path).has_sound


def test_muting_after_and_before_another_sound(other: Path, tmp_path: Path) -> None:
    loud = write_clip(other, 0, 1, [mute(), replace_sound(other)], tmp_path / "a.mp4", seed=1)
    assert read_shape(loud.path).has_sound
    silent = write_clip(other, 0, 1, [replace_sound(other), mute()], tmp_path / "b.mp4", seed=1)
    assert not read_shape(silent.path).has_sound
