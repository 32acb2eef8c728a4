"""What uploaders do to a sound, at random strengths: one stretch in, its edited copy out.

The counterpart of :mod:`matcher.training.frame_edits`: augmentations for training; whole edited clips are
made in ``eval``. An edit may play a sound faster or slower and says so: what is heard at ``t`` of the edited
sound was at ``speed * t`` of the original. Filters of FFmpeg that look ahead make up for it; what is left is
below 20 ms.

Shape letters: ``n`` samples at ``RATE_HZ``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from matcher.sound import RATE_HZ
from matcher.training.sound_filters import Samples, filtered, fitted, through_aac

#: Rates at which uploads are coded.
_AAC_RATES = (16000, 32000, 44100)
#: Louder than this (root mean square) is a sound that can be laid over another.
AUDIBLE = 1e-3


@dataclass(frozen=True)
class EditedSound:
    """An edited copy.

    Attributes:
        samples: (round(n / speed),) mono at ``RATE_HZ``.
        speed: How many seconds of the original pass in one of this.
    """

    samples: Samples
    speed: float = 1.0


Edit = Callable[[Samples, np.random.Generator], EditedSound]
#: The sound, then one of another film.
ForeignEdit = Callable[[Samples, Samples, np.random.Generator], EditedSound]


def loudness(samples: Samples) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def mixed(samples: Samples, over: Samples, decibels: float) -> Samples:
    """Lay ``over`` on ``samples``, which stay ``decibels`` louder than it."""
    return samples + _levelled(over, samples, decibels)


def sound_over(samples: Samples, foreign: Samples, rng: np.random.Generator) -> EditedSound:
    """Music or another scene under it, 8 dB quieter to as loud."""
    return EditedSound(mixed(samples, foreign, rng.uniform(0, 8)))


def loud_sound_over(samples: Samples, foreign: Samples, rng: np.random.Generator) -> EditedSound:
    """Music or another scene on top, as loud to 8 dB louder."""
    return EditedSound(mixed(samples, foreign, rng.uniform(-8, 0)))


def talk_over(samples: Samples, foreign: Samples, rng: np.random.Generator) -> EditedSound:
    """The band of voices, in turns of half a second to three, over a sound that steps back meanwhile."""
    voice = filtered(foreign, "highpass=f=150", f"lowpass=f={rng.uniform(3000, 5000):.0f}")
    turns = np.zeros(samples.size, np.float32)
    at = int(rng.uniform(0, 1) * RATE_HZ)
    while at < turns.size:
        stop = at + int(rng.uniform(0.5, 3) * RATE_HZ)
        turns[at:stop] = 1.0
        at = stop + int(rng.uniform(0.2, 2) * RATE_HZ)
    # Turns begin and end within 40 ms.
    fade = np.full(RATE_HZ // 25, 25.0 / RATE_HZ, np.float32)
    turns = np.convolve(turns, fade, "same") if turns.size >= fade.size else turns
    over = _levelled(voice, samples, rng.uniform(-6, 4))
    ducked = np.float32(1 - 10 ** (-rng.uniform(0, 9) / 20))
    return EditedSound(samples * (1 - ducked * turns) + over * turns)


def noise(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """White or pink noise, 15 dB quieter to as loud."""
    hiss = rng.normal(size=max(2, samples.size))
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(hiss)
        spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
        hiss = np.fft.irfft(spectrum, hiss.size)
    return EditedSound(mixed(samples, hiss.astype(np.float32), rng.uniform(0, 15)))


def equalize(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """Bass, treble and two bands between, each up or down by up to 12 dB."""
    bass, treble, *gains = rng.uniform(-12, 12, 4)
    return EditedSound(filtered(samples, f"bass=g={bass:.2f}", f"treble=g={treble:.2f}", *_bands(rng, gains)))


def narrow_band(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """As over a telephone or out of a small loudspeaker."""
    low, high = rng.uniform(200, 500), rng.uniform(2800, 5000)
    return EditedSound(filtered(samples, f"highpass=f={low:.0f}", f"lowpass=f={high:.0f}"))


def low_bit_rate(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """AAC of 24 to 64 kb/s, at the rate of a call or of a film."""
    return EditedSound(
        through_aac(samples, int(rng.integers(24, 65)) * 1000, rate_hz=int(rng.choice(_AAC_RATES)))
    )


def limit(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """Driven 6 to 20 dB into a limiter, hard or soft, after a compressor or not."""
    if rng.random() < 0.5:
        ratio, threshold = rng.uniform(3, 12), max(1e-3, loudness(samples))
        samples = fitted(
            filtered(samples, f"acompressor=ratio={ratio:.1f}:threshold={min(1.0, threshold):.5f}"),
            samples.size,
        )
    ceiling = np.float32(max(1e-6, np.abs(samples).max(initial=0.0) * 10 ** (-rng.uniform(6, 20) / 20)))
    if rng.random() < 0.5:
        return EditedSound(np.clip(samples, -ceiling, ceiling))
    return EditedSound(ceiling * np.tanh(samples / ceiling))


def reverb(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """In a room: eight echoes within 0.2 seconds, dying away."""
    delays = np.sort(rng.uniform(8, 200, 8))
    decays = rng.uniform(0.3, 0.7) * np.exp(-delays / rng.uniform(60, 200))
    words = ("|".join(f"{number:.3f}" for number in row) for row in (delays, np.maximum(decays, 0.01)))
    return EditedSound(filtered(samples, "aecho=0.8:0.8:" + ":".join(words)))


def one_channel(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """One channel of two: modelled, as other bands and one reflection are louder in it than in the mean."""
    gains = rng.uniform(-9, 9, 3)
    echo = f"aecho=0.9:0.9:{rng.uniform(1, 25):.1f}:{rng.uniform(0.05, 0.5):.2f}"
    return EditedSound(filtered(samples, *_bands(rng, list(gains)), echo))


def volume(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """20 dB quieter to 10 dB louder, cut at full scale."""
    gain = np.float32(10 ** (rng.uniform(-20, 10) / 20))
    return EditedSound(np.clip(samples * gain, -1, 1))


def tempo(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """0.8 to 1.5 times as fast, at the old pitch."""
    speed = float(rng.uniform(0.8, 1.5))
    return EditedSound(filtered(samples, f"atempo={speed:.6f}"), speed)


def playback_speed(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """0.89 to 1.12 times as fast, and as much higher: up to two semitones.

    Beyond that no patch is left of what it was (at 1.5 the bands of a voice lie a fifth higher): such pairs
    differ as strangers do. To learn from them up to 1.5 finds 6 in 100 patches more of these, and takes 1 to
    7 points of recall at 1 % strangers from other edits (4 from a louder sound over it).
    """
    rate = round(RATE_HZ * 2 ** (rng.uniform(-2, 2) / 12))
    return EditedSound(filtered(samples, f"asetrate={rate}", f"aresample={RATE_HZ}"), rate / RATE_HZ)


def pitch(samples: Samples, rng: np.random.Generator) -> EditedSound:
    """Up to two semitones up or down, at the old speed."""
    rate = round(RATE_HZ * 2 ** (rng.uniform(-2, 2) / 12))
    return EditedSound(
        filtered(samples, f"asetrate={rate}", f"aresample={RATE_HZ}", f"atempo={RATE_HZ / rate:.6f}")
    )


EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        noise, equalize, narrow_band, low_bit_rate, limit, reverb, one_channel, volume, tempo,
        playback_speed, pitch,
    )
}  # fmt: skip
FOREIGN_EDITS: dict[str, ForeignEdit] = {
    edit.__name__: edit for edit in (sound_over, loud_sound_over, talk_over)
}
#: Every kind that :func:`edit_sound` knows; ``two`` is two others, one after the other.
KINDS = (*EDITS, *FOREIGN_EDITS, "two")
#: Those in which another film may be heard.
SHOW_FOREIGN = frozenset({*FOREIGN_EDITS, "two"})


def edit_sound(kind: str, samples: Samples, foreign: Samples, rng: np.random.Generator) -> EditedSound:
    """One edit of ``samples`` (n,).

    Args:
        kind: One of :data:`KINDS`.
        samples: A stretch of a film, at ``RATE_HZ``.
        foreign: A stretch of another film (its own length, at least a sample), for edits that let one be
            heard.
        rng: Draws every strength; the same state gives the same sound.

    Raises:
        ValueError: The kind is none of these.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown edit {kind!r}: use one of {', '.join(KINDS)}")
    names = rng.choice(KINDS[:-1], 2, replace=False) if kind == "two" else [kind]
    heard, speed = samples, 1.0
    for name in map(str, names):
        if name in FOREIGN_EDITS:
            edited = FOREIGN_EDITS[name](heard, foreign, rng)
        else:
            edited = EDITS[name](heard, rng)
        speed *= edited.speed
        heard = fitted(edited.samples.astype(np.float32, copy=False), round(samples.size / speed))
    return EditedSound(heard, speed)


def _levelled(over: Samples, samples: Samples, decibels: float) -> Samples:
    """As much of ``over`` as there is of ``samples``, and so much quieter; a shorter one begins again."""
    over = np.resize(over, samples.shape)
    share = loudness(samples) / max(loudness(over), 1e-9) * 10 ** (-decibels / 20)
    return np.float32(share) * over


def _bands(rng: np.random.Generator, gains: list[float]) -> list[str]:
    return [
        f"equalizer=f={200 * 30 ** rng.random():.0f}:t=o:w={rng.uniform(0.5, 2):.2f}:g={gain:.2f}"
        for gain in gains
    ]
