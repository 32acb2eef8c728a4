"""Clips that are nothing but sound: stretches of programs, drawn by a seed and edited as uploaders edit.

Every stretch goes through every edit, so that the figures of two edits differ by the edit alone. What is
laid over a stretch is never of the catalogue, for it would be a second truth: tunes made up on the spot, and
the sounds of generated dramas that are outside. Clips of programs outside the catalogue go through the same
edits in turn.

Shape letters: ``n`` samples at ``RATE_HZ``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eval.benchmark import Group, Source
from eval.drama_sound import SOUND_RATE_HZ, music
from eval.video_reader import read_shape
from matcher.decode_sound import SoundPiece, read_sound
from matcher.errors import InputError
from matcher.listen import Listener
from matcher.records import Look, rounded
from matcher.sound import RATE_HZ, mel_columns
from matcher.training.sound_edits import AUDIBLE, edit_sound, loudness, mixed
from matcher.training.sound_filters import Samples, filtered, fitted, through_aac

#: Of a stretch, where its file is as long.
CLIP_SECONDS = 10.0
UNTOUCHED = "untouched"
#: Rates at which uploads are coded.
_AAC_RATES = (16000, 32000, 44100)
_AAC_BITS_A_SECOND = 24000
_FASTER = 1.25
# First words of the seeds of what is drawn, so that no two draws share a stream.
_STARTS, _OVER, _EDITS, _SILENT = 60, 61, 62, 63


@dataclass(frozen=True)
class Stretch:
    """A part of a program that clips are made of.

    Attributes:
        number: Among the stretches of its side.
        source: The file.
        start_seconds: In it.
        seconds: How long.
    """

    number: int
    source: Source
    start_seconds: float
    seconds: float

    @property
    def samples(self) -> Samples:
        """(n,) what is heard, read anew."""
        return read_sound(self.source.path, self.start_seconds, self.start_seconds + self.seconds)


@dataclass(frozen=True)
class HeardClip:
    """One clip, as the linker takes it.

    Attributes:
        clip_id: Its name.
        edit: What was done to it, or which silence it is.
        group: Of its program; None of a made-up silence.
        program_id: Its program, in the catalogue; None of other clips.
        seconds: Its length.
        look: Its patches.
        pieces: What they are described from: a clip may be heard again.
    """

    clip_id: str
    edit: str
    group: Group | None
    program_id: str | None
    seconds: float
    look: Look
    pieces: tuple[SoundPiece, ...] = ()


@dataclass(frozen=True)
class HeardStretch:
    """A stretch's clips; none where it is silent."""

    stretch: Stretch
    clips: tuple[HeardClip, ...]


# --- What is drawn ---


def audible(sources: Sequence[Source]) -> list[Source]:
    """Those whose file has a sound track.

    Raises:
        InputError: A file cannot be read.
    """
    found = []
    for source in sources:
        try:
            if read_shape(source.path).has_sound:
                found.append(source)
        except (OSError, ValueError) as error:
            raise InputError(f"{source.path} cannot be read as a video: {error}") from error
    return found


def stretches_of(sources: Sequence[Source], per_program: int, seed: int) -> list[Stretch]:
    """So many stretches of each file, spread over it; one of a file that is no longer than one."""
    found: list[Stretch] = []
    for place, source in enumerate(sources):
        rng = np.random.default_rng([seed, _STARTS, 1, place])
        seconds = min(CLIP_SECONDS, source.seconds)
        room = source.seconds - seconds
        count = per_program if room > 0 else 1
        for i in range(count):
            start = (i + float(rng.uniform())) * room / count
            found.append(Stretch(len(found), source, start, seconds))
    return found


def outside_stretches(sources: Sequence[Source], seed: int) -> Iterator[Stretch]:
    """Stretches without end, from anywhere in every file in turn; none without files."""
    rng = np.random.default_rng([seed, _STARTS, 0])
    number = 0
    while sources:
        for i in rng.permutation(len(sources)):
            source = sources[int(i)]
            seconds = min(CLIP_SECONDS, source.seconds)
            start = float(rng.uniform(0, source.seconds - seconds))
            yield Stretch(number, source, start, seconds)
            number += 1


def overlay(stretch: Stretch, outside: Sequence[Source], rng: np.random.Generator) -> Samples:
    """What is laid over a stretch: a tune made up, or every other time a drama outside the catalogue.

    Args:
        stretch: Nothing of its own family is laid over it.
        outside: Sources outside the catalogue, of which the dramas are taken.
        rng: Draws it.
    """
    others = [s for s in outside if s.group == "dramas" and s.family != stretch.source.family]
    if others and rng.random() < 0.5:
        other = others[int(rng.integers(len(others)))]
        start = float(rng.uniform(0, max(0.0, other.seconds - stretch.seconds)))
        heard = read_sound(other.path, start, min(other.seconds, start + stretch.seconds))
        if loudness(heard) >= AUDIBLE:
            return heard
    tune = music(rng, style_seed=int(rng.integers(2**31)), seconds=stretch.seconds + 0.5)
    return filtered(tune, f"asetrate={SOUND_RATE_HZ}", f"aresample={RATE_HZ}")


# --- Edits: a stretch, what may be laid over it, random numbers; out comes a clip ---

_Edit = Callable[[Samples, Samples, np.random.Generator], Samples]


def _untouched(samples: Samples, over: Samples, rng: np.random.Generator) -> Samples:  # noqa: ARG001
    return samples


def _over(decibels: float) -> _Edit:
    def edit(samples: Samples, over: Samples, rng: np.random.Generator) -> Samples:  # noqa: ARG001
        return mixed(samples, over, decibels)

    return edit


def _aac(samples: Samples, over: Samples, rng: np.random.Generator) -> Samples:  # noqa: ARG001
    return through_aac(samples, _AAC_BITS_A_SECOND, rate_hz=int(rng.choice(_AAC_RATES)))


def _filter(speed: float, *filters: str) -> _Edit:
    """Filters that play so many times as fast."""

    def edit(samples: Samples, over: Samples, rng: np.random.Generator) -> Samples:  # noqa: ARG001
        return fitted(filtered(samples, *filters), round(samples.size / speed))

    return edit


def _reverb(samples: Samples, over: Samples, rng: np.random.Generator) -> Samples:
    return edit_sound("reverb", samples, over, rng).samples


_MUSIC, _LOUD_MUSIC = "music, 0 dB", "music, -6 dB"
#: Edits in which something else is heard as well.
SHOW_OVER = frozenset({_MUSIC, _LOUD_MUSIC})
_HIGHER_HZ = round(RATE_HZ * 2 ** (2 / 12))
#: By name; decibels are those of the program over what is laid over it.
EDITS: dict[str, _Edit] = {
    UNTOUCHED: _untouched,
    _MUSIC: _over(0.0),
    _LOUD_MUSIC: _over(-6.0),
    "AAC 24 kb/s": _aac,
    "tempo 1.25": _filter(_FASTER, f"atempo={_FASTER}"),
    "speed 1.25": _filter(_FASTER, f"asetrate={round(RATE_HZ * _FASTER)}", f"aresample={RATE_HZ}"),
    "pitch +2": _filter(
        1.0, f"asetrate={_HIGHER_HZ}", f"aresample={RATE_HZ}", f"atempo={RATE_HZ / _HIGHER_HZ:.6f}"
    ),
    "reverberation": _reverb,
}


def _mute(rng: np.random.Generator, size: int) -> Samples:  # noqa: ARG001
    return np.zeros(size, np.float32)


def _faint(rng: np.random.Generator, size: int) -> Samples:
    """What a microphone makes of an empty room: noise at -75 dB."""
    return (rng.normal(size=size) * 10 ** (-75 / 20)).astype(np.float32)


def _hum(rng: np.random.Generator, size: int) -> Samples:
    """Mains hum with its harmonics up to 3 kHz, at -30 dB."""
    t_seconds = np.arange(size) / RATE_HZ
    mains_hz = float(rng.choice([50.0, 60.0]))
    wave = np.zeros(size)
    for k in range(1, int(3000 / mains_hz)):
        wave += np.sin(2 * np.pi * k * mains_hz * t_seconds + rng.uniform(0, 2 * np.pi)) / k
    return (wave / max(loudness(wave.astype(np.float32)), 1e-9) * 10 ** (-30 / 20)).astype(np.float32)


def _hiss(rng: np.random.Generator, size: int) -> Samples:
    """White noise at -40 dB."""
    return (rng.normal(size=size) * 10 ** (-40 / 20)).astype(np.float32)


#: Clips in which nothing is said, by name.
SILENCES: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    "mute": _mute,
    "faint noise": _faint,
    "hum": _hum,
    "hiss": _hiss,
}


# --- Listening ---


def known_clips(stretch: Stretch, outside: Sequence[Source], listener: Listener, seed: int) -> HeardStretch:
    """A stretch of the catalogue through every edit; no clip where nothing is heard in it untouched."""
    samples = stretch.samples
    if not _is_heard(listener, samples):
        return HeardStretch(stretch, ())
    over = overlay(stretch, outside, np.random.default_rng([seed, _OVER, 1, stretch.number]))
    clips = []
    for number, (name, edit) in enumerate(EDITS.items()):
        edited = edit(samples, over, np.random.default_rng([seed, _EDITS, 1, stretch.number, number]))
        clips.append(_clip_of(listener, stretch, name, edited, program_id=stretch.source.program_id))
    return HeardStretch(stretch, tuple(clips))


def unknown_clip(
    stretch: Stretch, outside: Sequence[Source], listener: Listener, seed: int, turn: int
) -> HeardStretch:
    """A stretch from outside through the edit whose turn it is; no clip where nothing is heard in it."""
    samples = stretch.samples
    if not _is_heard(listener, samples):
        return HeardStretch(stretch, ())
    name = list(EDITS)[turn % len(EDITS)]
    over = samples  # of which nothing is heard
    if name in SHOW_OVER:
        over = overlay(stretch, outside, np.random.default_rng([seed, _OVER, 0, stretch.number]))
    edited = EDITS[name](samples, over, np.random.default_rng([seed, _EDITS, 0, stretch.number]))
    return HeardStretch(stretch, (_clip_of(listener, stretch, name, edited, program_id=None),))


def silent_clip(number: int, listener: Listener, seed: int) -> HeardClip:
    """The silence whose turn it is, coded as an upload is."""
    name = list(SILENCES)[number % len(SILENCES)]
    rng = np.random.default_rng([seed, _SILENT, number])
    samples = SILENCES[name](rng, round(CLIP_SECONDS * RATE_HZ))
    coded = edit_sound("low_bit_rate", samples, samples, rng).samples
    return _clip(listener, f"s{number:05d}-{name}", name, coded, group=None, program_id=None)


def _is_heard(listener: Listener, samples: Samples) -> bool:
    return len(listener.look(_pieces(samples))) > 0


def _clip_of(
    listener: Listener, stretch: Stretch, edit: str, samples: Samples, *, program_id: str | None
) -> HeardClip:
    source = stretch.source
    side = "u" if program_id is None else "k"
    clip_id = f"{side}{stretch.number:05d}-{source.program_id}-{stretch.start_seconds:.1f}-{edit}"
    return _clip(listener, clip_id, edit, samples, group=source.group, program_id=program_id)


def _clip(
    listener: Listener,
    clip_id: str,
    edit: str,
    samples: Samples,
    *,
    group: Group | None,
    program_id: str | None,
) -> HeardClip:
    pieces = _pieces(samples)
    look = rounded(listener.look(pieces))  # as a store rounds it
    return HeardClip(clip_id, edit, group, program_id, samples.size / RATE_HZ, look, pieces)


def _pieces(samples: Samples) -> tuple[SoundPiece, ...]:
    return (SoundPiece(0.0, mel_columns(samples)),)
