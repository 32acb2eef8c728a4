"""The sound of generated dramas: chords with a tempo and a timbre, and bursts that sound like speech."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

SOUND_RATE_HZ = 32000

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9, 12, 14), (0, 3, 5, 7, 10, 12, 15))


@functools.lru_cache(maxsize=512)
def _note(pitch_hz: float, seconds: float, timbre_seed: int) -> NDArray[np.float32]:
    """One struck note: harmonics whose weights are the instrument."""
    rng = np.random.default_rng(timbre_seed)
    weights = rng.random(6) / (1 + np.arange(6)) ** rng.uniform(0.6, 2.0)
    attack, decay = rng.uniform(0.004, 0.08), rng.uniform(1.5, 6.0)
    t = np.arange(int(seconds * SOUND_RATE_HZ), dtype=np.float32) / SOUND_RATE_HZ
    wave = sum(
        weight * np.sin(2 * np.pi * pitch_hz * (k + 1) * t, dtype=np.float32)
        for k, weight in enumerate(weights)
    )
    envelope = np.minimum(1, t / attack) * np.exp(-decay * t) * np.minimum(1, (seconds - t) / 0.02)
    return np.asarray(wave * envelope / weights.sum(), np.float32)


def music(rng: np.random.Generator, *, style_seed: int, seconds: float) -> NDArray[np.float32]:
    """Broken chords with bass.

    Args:
        rng: Decides the tune.
        style_seed: Decides tempo, key, scale and timbre, so that a program's tunes are kin.
        seconds: How long.

    Returns:
        (samples,) float32 in [-1, 1] at ``SOUND_RATE_HZ``.
    """
    style = np.random.default_rng([style_seed, 77])
    beat = 60 / style.uniform(70, 170)
    root = 110 * 2 ** (style.integers(0, 12) / 12)
    scale = _SCALES[int(style.integers(len(_SCALES)))]
    timbre = int(style.integers(2**31))
    out = np.zeros(int(seconds * SOUND_RATE_HZ), np.float32)
    degrees = rng.integers(0, len(scale), 4)
    figure = rng.integers(0, 4, 8)
    for step in range(int(seconds / (beat / 2))):
        degree = int(degrees[(step // 8) % 4])
        tone = scale[(degree + 2 * int(figure[step % 8])) % len(scale)]
        notes = [(tone + 12, 0.5)] if rng.random() < 0.85 else []
        if step % 8 == 0:
            notes += [(scale[degree] - 12, 0.8), (scale[(degree + 4) % len(scale)], 0.4)]
        start = int(step * beat / 2 * SOUND_RATE_HZ)
        for semitones, loudness in notes:
            note = _note(float(root * 2 ** (semitones / 12)), float(round(min(2.5 * beat, 1.5), 3)), timbre)
            note = note[: len(out) - start]
            out[start : start + len(note)] += loudness * note
    return np.asarray(np.clip(out * 0.5, -1, 1), np.float32)


@functools.lru_cache(maxsize=512)
def _syllable(voice_hz: float, number: int) -> NDArray[np.float32]:
    """A voiced burst with three formants and a falling pitch, after a breath of noise."""
    rng = np.random.default_rng([number, 31])
    seconds = float(rng.uniform(0.12, 0.26))
    t = np.arange(int(seconds * SOUND_RATE_HZ), dtype=np.float32) / SOUND_RATE_HZ
    pitch = voice_hz * (1.08 - 0.2 * t / seconds * rng.uniform(-0.5, 1.5))
    phase = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE_HZ
    formants = (rng.uniform(280, 850), rng.uniform(900, 2300), rng.uniform(2400, 3200))
    wave = np.zeros_like(t)
    for harmonic in range(1, int(3600 / voice_hz)):
        gain = sum(1 / (1 + ((harmonic * voice_hz - formant) / 120) ** 2) for formant in formants)
        wave += gain * np.sin(phase * harmonic)
    breath = rng.normal(0, 1, len(t)) * np.exp(-t * 60)
    wave = wave * np.sin(np.pi * t / seconds) ** 0.6 + breath * rng.uniform(0, 1)
    return np.asarray(wave / max(1e-6, float(np.abs(wave).max())), np.float32)


def speech(rng: np.random.Generator, *, voice_hz: float, seconds: float) -> NDArray[np.float32]:
    """Syllables with pauses, nobody's language.

    Args:
        rng: Decides what is said.
        voice_hz: Pitch of the voice.
        seconds: How long.

    Returns:
        (samples,) float32 in [-1, 1] at ``SOUND_RATE_HZ``.
    """
    out = np.zeros(int(seconds * SOUND_RATE_HZ), np.float32)
    start = int(0.15 * SOUND_RATE_HZ)
    while start < len(out):
        syllable = _syllable(voice_hz, int(rng.integers(24)))[: len(out) - start]
        out[start : start + len(syllable)] += syllable * rng.uniform(0.3, 0.7)
        pause = rng.uniform(0.25, 0.6) if rng.random() < 0.15 else rng.uniform(0.0, 0.06)
        start += len(syllable) + int(pause * SOUND_RATE_HZ)
    return out
