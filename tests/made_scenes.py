"""Sounds of four kinds made by code: speech, music, laughter and a crowd; none is like another of its kind.

Each has a voice, an instrument, a room and a background of its own, drawn from its seed.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from matcher.sound import RATE_HZ, mel_columns
from matcher.training.scene import Stretch

KINDS = ("crowd", "laughter", "music", "speech")
Samples = np.ndarray


def stretches(seeds: range, seconds: float) -> list[Stretch]:
    """One of each kind and seed."""
    return [Stretch(columns(kind, seed, seconds), kind) for kind in KINDS for seed in seeds]


def columns(kind: str, seed: int, seconds: float) -> np.ndarray:
    """(c, 64) log-mel columns of :func:`samples`."""
    return mel_columns(samples(kind, seed, seconds))


def samples(kind: str, seed: int, seconds: float) -> Samples:
    """(n,) over noise and a sound of another kind, through an equalizer, at any level."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    sound = _power_1(_MAKERS[kind](rng, seconds))
    other = _MAKERS[str(rng.choice([name for name in KINDS if name != kind]))]
    sound = sound + 10 ** rng.uniform(-1, -0.4) * _power_1(other(rng, seconds))  # 8 to 20 dB below
    sound = _equalized(sound + 10 ** rng.uniform(-1.5, -0.3) * _noise(rng, len(sound)), rng)
    return (10 ** rng.uniform(-2, -0.5) * _power_1(sound)).astype(np.float32)


def write_wav(path: Path, sound: Samples) -> Path:
    """A sound file of 16 bits, mono at ``RATE_HZ``."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def _power_1(sound: Samples) -> Samples:
    return sound / (np.sqrt(np.mean(sound**2)) + 1e-9)


def _noise(rng: np.random.Generator, n: int) -> Samples:
    """Between white and pink, of power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum /= np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 20) ** rng.uniform(0, 0.5)
    out = np.fft.irfft(spectrum, n)
    return _power_1(out)


def _equalized(sound: Samples, rng: np.random.Generator) -> Samples:
    """Up to 6 dB up or down, smoothly over the frequencies."""
    spectrum = np.fft.rfft(sound)
    at = np.linspace(0, 1, len(spectrum))
    decibels = sum(rng.uniform(-3, 3) * np.cos(np.pi * i * at) for i in range(1, 4))
    return np.fft.irfft(spectrum * 10 ** (decibels / 20), len(sound))


def _voice(pitch: Samples, formants: Samples, harmonics: int) -> Samples:
    """Harmonics of a pitch in Hz over time, each as loud as two formants (Hz) make it."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    out = np.zeros_like(pitch)
    for h in range(1, harmonics + 1):
        hz = h * float(pitch.mean())
        loud = sum(np.exp(-(((hz - f) / 350) ** 2)) for f in formants) + 0.05
        out += loud / h**0.5 * np.sin(h * phase)
    return out


def _hump(n: int) -> Samples:
    return np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 0.7


def _speech(rng: np.random.Generator, seconds: float, harmonics: int = 18) -> Samples:
    """Syllables, 3 to 5 a second with a vowel each, some begun by a hiss; a breath after some of them."""
    out = np.zeros(int(seconds * RATE_HZ))
    low, rate = rng.uniform(90, 230), rng.uniform(3, 5)
    at = int(rng.uniform(0, 0.3) * RATE_HZ)
    left = int(rng.integers(4, 12))
    while at < len(out):
        n = min(int(RATE_HZ / rate * rng.uniform(0.7, 1.3)), len(out) - at)
        voiced = int(n * rng.uniform(0.6, 0.85))
        start = n - voiced
        if voiced > 400:
            pitch = low * (1 + rng.uniform(-0.15, 0.2)) * np.linspace(1, rng.uniform(0.85, 1.1), voiced)
            formants = np.array([rng.uniform(280, 850), rng.uniform(900, 2400)])
            out[at + start : at + n] += (
                rng.uniform(0.5, 1) * _hump(voiced) * _voice(pitch, formants, harmonics)
            )
        if start > 400 and rng.random() < 0.5:
            hiss = np.diff(rng.standard_normal(start + 1))
            out[at : at + start] += 0.25 * _hump(start) * hiss
        at += n
        left -= 1
        if left == 0:
            at, left = at + int(rng.uniform(0.2, 0.6) * RATE_HZ), int(rng.integers(4, 12))
    return out


def _music(rng: np.random.Generator, seconds: float) -> Samples:
    """A chord on every beat that fades, with a drum under some of them."""
    n = int(seconds * RATE_HZ)
    beat = int(60 / rng.uniform(80, 150) * RATE_HZ)
    out = np.zeros(n + 4 * beat)
    root, fading = rng.uniform(110, 260), rng.uniform(0.6, 4)
    fullness = int(rng.integers(4, 9))
    for i, at in enumerate(range(0, n, beat)):
        held = beat * int(rng.integers(1, 4))
        t = np.arange(held) / RATE_HZ
        if i % 2 == 0 or rng.random() < 0.6:
            step = rng.choice([0, 3, 5, 7, 8])
            for note in rng.choice([[0, 4, 7], [0, 3, 7], [0, 5, 9]]):
                hz = root * 2 ** ((step + note) / 12)
                tone = sum(np.sin(2 * np.pi * hz * h * t) / h for h in range(1, fullness))
                out[at : at + held] += tone * np.exp(-fading * t) * np.minimum(1, t * 200)
        if rng.random() < 0.7:
            hit = min(held, int(0.15 * RATE_HZ))
            out[at : at + hit] += rng.uniform(0.3, 1.2) * rng.standard_normal(hit) * np.exp(-30 * t[:hit])
    return out[:n]


def _laughter(rng: np.random.Generator, seconds: float) -> Samples:
    """Bouts of bursts, 4 to 6 a second, half breath and half voice, whose pitch and loudness fall."""
    out = np.zeros(int(seconds * RATE_HZ))
    low = rng.uniform(180, 400)
    at = int(rng.uniform(0, 0.2) * RATE_HZ)
    while at < len(out):
        rate, bursts = rng.uniform(4, 6), int(rng.integers(5, 11))
        formants = np.array([rng.uniform(600, 900), rng.uniform(1200, 1700)])
        for i in range(bursts):
            n = min(int(RATE_HZ / rate * 0.6), len(out) - at)
            if n < 400:
                break
            pitch = low * 1.4 * 0.94**i * np.linspace(1.1, 0.85, n)
            breath = np.convolve(rng.standard_normal(n + 3), [1, 1, 1, 1], "valid") / 2
            burst = _voice(pitch, formants, 10) + rng.uniform(0.3, 0.8) * breath
            out[at : at + n] += 0.93**i * _hump(n) * burst
            at += int(RATE_HZ / rate)
        at += int(rng.uniform(0.2, 0.7) * RATE_HZ)
    return out


def _crowd(rng: np.random.Generator, seconds: float) -> Samples:
    """Many voices at once, near and far, in the noise of a hall."""
    voices = [
        rng.uniform(0.3, 1) * _speech(rng, seconds, harmonics=8) for _ in range(int(rng.integers(8, 16)))
    ]
    sound = np.sum(voices, axis=0)
    return _power_1(sound) + rng.uniform(0.2, 0.6) * _noise(rng, len(sound))


_MAKERS = {"crowd": _crowd, "laughter": _laughter, "music": _music, "speech": _speech}
