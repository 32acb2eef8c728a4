"""Edits of sounds: each changes what is heard, stays in step, and is drawn by its random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media import flat, write
from numpy.typing import NDArray

from eval.video_writer import write_video
from matcher.sound import RATE_HZ, mel_columns, patches
from matcher.training.sound_edits import (
    EDITS,
    FOREIGN_EDITS,
    KINDS,
    SHOW_FOREIGN,
    EditedSound,
    edit_sound,
    loudness,
    mixed,
)
from matcher.training.sound_filters import filtered, fitted, read_mono, through_aac

Samples = NDArray[np.float32]
#: Samples of an envelope's step: 5 ms.
STEP = RATE_HZ // 200


def made_up(seed: int, seconds: float = 9.0) -> Samples:
    """Bursts of harmonics, 0.1 to 0.5 seconds each, and as much silence: no moment is like another."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE_HZ), np.float32)
    at = 0
    while at < out.size:
        n = int(rng.uniform(0.1, 0.5) * RATE_HZ)
        t = np.arange(n) / RATE_HZ
        tone = sum(np.sin(2 * np.pi * rng.uniform(120, 300) * k * t + k) / k for k in range(1, 15))
        burst = 0.1 * tone * np.minimum(1, np.minimum(t, t[::-1]) * 200)
        out[at : at + n] += burst[: out.size - at].astype(np.float32)
        at += n + int(rng.uniform(0.05, 0.5) * RATE_HZ)
    return out


def envelope(samples: Samples) -> Samples:
    n = samples.size // STEP
    return np.sqrt((samples[: n * STEP].reshape(n, STEP) ** 2).mean(axis=1))


def lag_seconds(original: Samples, edited: EditedSound, start: float, length: float = 2.0) -> float:
    """How much later than said ``length`` seconds from ``start`` are found in the original."""
    heard, known = envelope(edited.samples), envelope(original)
    first, count = round(start * 200), round(length * 200)
    span = np.arange(round(count * edited.speed))
    piece = np.interp(span / edited.speed, np.arange(count), heard[first : first + count])
    scores = {}
    for shift in range(-30, 31):
        there = known[round(first * edited.speed) + shift + span]
        scores[shift] = np.corrcoef(piece, there)[0, 1]
    return max(scores, key=lambda shift: scores[shift]) / 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_an_edit_changes_the_sound_and_says_how_long_it_is(kind: str, seed: int) -> None:
    samples, foreign = made_up(1), made_up(2, 4.0)
    before = samples.copy(), foreign.copy()
    edited = edit_sound(kind, samples, foreign, np.random.default_rng(seed))
    assert edited.samples.dtype == np.float32
    assert edited.samples.shape == (round(samples.size / edited.speed),)
    assert np.isfinite(edited.samples).all()
    assert loudness(edited.samples) > 1e-3
    n = min(samples.size, edited.samples.size)
    assert loudness(edited.samples[:n] - samples[:n]) > 0.005 * loudness(samples)
    np.testing.assert_array_equal(samples, before[0])
    np.testing.assert_array_equal(foreign, before[1])
    if kind not in ("tempo", "playback_speed", "two"):
        assert edited.speed == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_random_numbers_give_the_same_sound_and_others_another(kind: str) -> None:
    samples, foreign = made_up(1, 3.0), made_up(2, 3.0)
    one, two, other = (edit_sound(kind, samples, foreign, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.samples, two.samples)
    assert one.speed == two.speed
    assert one.samples.shape != other.samples.shape or not np.array_equal(one.samples, other.samples)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SHOW_FOREIGN])
@pytest.mark.parametrize("seed", range(3))
def test_an_edit_stays_in_step_within_20_ms(kind: str, seed: int) -> None:
    samples = made_up(5)
    edited = edit_sound(kind, samples, samples[:1], np.random.default_rng(seed))
    for start in (0.5, 2.0, 3.5):
        assert abs(lag_seconds(samples, edited, start)) <= 0.02, start


@pytest.mark.parametrize("kind", sorted(FOREIGN_EDITS))
def test_what_is_laid_over_a_sound_leaves_it_where_it_is(kind: str) -> None:
    """With silence over it only what steps back has changed."""
    samples = made_up(5)
    edited = edit_sound(kind, samples, np.zeros(RATE_HZ, np.float32), np.random.default_rng(3))
    if kind == "talk_over":
        assert abs(lag_seconds(samples, edited, 2.0)) <= 0.005
    else:
        np.testing.assert_allclose(edited.samples, samples, atol=1e-6)


@pytest.mark.parametrize("speed", [0.8, 1.25, 1.5])
@pytest.mark.parametrize("keeps_pitch", [True, False])
def test_a_faster_sound_is_in_step_at_its_own_speed(speed: float, keeps_pitch: bool) -> None:
    samples = made_up(6, 12.0)
    words = (
        [f"atempo={speed}"] if keeps_pitch else [f"asetrate={int(RATE_HZ * speed)}", f"aresample={RATE_HZ}"]
    )
    edited = EditedSound(filtered(samples, *words), speed)
    for start in (0.5, 2.0, 4.0):
        assert abs(lag_seconds(samples, edited, start)) <= 0.02
    # And not at another.
    assert abs(lag_seconds(samples, EditedSound(edited.samples, 1.1), 4.0)) > 0.02


@pytest.mark.parametrize("rate_hz", [16000, 32000, 44100])
@pytest.mark.parametrize("kilobits", [24, 64])
def test_a_coded_sound_is_in_step_to_the_sample(rate_hz: int, kilobits: int) -> None:
    """The coder's first block of silence is taken away: moved by one sample they agree less."""
    samples = made_up(7, 4.0)
    coded = through_aac(samples, kilobits * 1000, rate_hz=rate_hz)
    assert coded.shape == samples.shape
    assert not np.array_equal(coded, samples)
    agree = {
        shift: float(np.dot(samples[2000:-2000], np.roll(coded, shift)[2000:-2000]))
        for shift in range(-60, 61)
    }
    assert abs(max(agree, key=lambda shift: agree[shift])) <= 1
    assert np.corrcoef(samples, coded)[0, 1] > 0.9


def test_fewer_bits_are_heard() -> None:
    samples = made_up(8, 4.0)
    error = [loudness(through_aac(samples, bits) - samples) for bits in (16000, 24000, 64000)]
    assert error[0] > error[1] > error[2]


@pytest.mark.parametrize("decibels", [-6.0, 0.0, 10.0])
def test_a_mix_has_the_loudness_asked_for(decibels: float) -> None:
    samples, over = made_up(1), made_up(2, 2.0)
    added = mixed(samples, over, decibels) - samples
    assert 20 * np.log10(loudness(samples) / loudness(added)) == pytest.approx(decibels, abs=0.01)
    # A shorter one begins again.
    np.testing.assert_allclose(added[: over.size], added[over.size : 2 * over.size], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 500])
def test_silence_and_next_to_nothing_are_edited_too(kind: str, size: int) -> None:
    edited = edit_sound(kind, np.zeros(size, np.float32), made_up(1, 1.0), np.random.default_rng(0))
    assert edited.samples.shape == (round(size / edited.speed),)
    assert np.isfinite(edited.samples).all()
    assert loudness(edited.samples) < 1e-6


def test_an_unknown_edit_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown edit 'louder': use one of noise"):
        edit_sound("louder", made_up(1, 1.0), made_up(2, 1.0), np.random.default_rng(0))
    assert set(KINDS) == {*EDITS, *FOREIGN_EDITS, "two"}


def test_two_edits_are_both_heard_and_their_speeds_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {name: (lambda samples, rng: EditedSound(np.repeat(samples, 2), 0.5)) for name in EDITS}
    monkeypatch.setattr("matcher.training.sound_edits.EDITS", twice)
    monkeypatch.setattr("matcher.training.sound_edits.FOREIGN_EDITS", {})
    monkeypatch.setattr("matcher.training.sound_edits.KINDS", (*twice, "two"))
    samples = made_up(1, 0.5)
    edited = edit_sound("two", samples, samples, np.random.default_rng(0))
    assert edited.speed == 0.25
    np.testing.assert_array_equal(edited.samples, np.repeat(samples, 4))


def test_the_first_sound_of_a_file_is_read_and_none_of_a_silent_film(tmp_path: Path) -> None:
    samples = made_up(9, 4.0)
    write(tmp_path / "silent.mp4", [flat(90)] * 20)
    assert read_mono(tmp_path / "silent.mp4").shape == (0,)
    frames = (flat(90) for _ in range(40))
    write_video(tmp_path / "film.mp4", frames, fps=10, sound=samples, sound_rate_hz=RATE_HZ)
    heard = fitted(read_mono(tmp_path / "film.mp4"), samples.size)
    found = [patches(mel_columns(sound), 5).values for sound in (samples, heard)]
    assert len(found[0]) == len(found[1]) > 2
    assert (found[0] * found[1]).sum(axis=1).min() > 0.9
