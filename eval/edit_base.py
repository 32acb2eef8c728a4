"""What an edit is, what it does to the clock, and the truth about a clip that follows from it.

An :class:`Edit` is a function from a stream of timed frames to a stream of timed frames; edits compose
from left to right. An edit that touches the clock also says, as a list of :class:`Stretch`, which seconds
before the edit its output shows; truth and sound follow from that list alone (:func:`edited_segments`).

Images are (height, width, 3) uint8 RGB with even sides; times are seconds from the clip's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Sound = NDArray[np.float32]
TimedFrames = Iterator[tuple[float, Picture]]
Strength = Literal["light", "heavy"]
Colour = tuple[int, int, int]

SOUND_RATE_HZ = 32000

#: Pieces of truth shorter than this are rounding, not pictures.
_SHORTEST_SECONDS = 1e-6


@dataclass
class EditContext:
    """What an edit may know beyond the frames.

    Attributes:
        rng: The only source of randomness.
        duration_seconds: Length of what the edit is given.
        fps: Frames a second of the clip to be written, for edits that add pictures of their own.
    """

    rng: np.random.Generator
    duration_seconds: float
    fps: float = 25.0


@dataclass(frozen=True)
class Stretch:
    """A piece of what an edit puts out.

    Attributes:
        seconds: How long the piece is.
        shown: The clip seconds before the edit that it begins and ends with; the second is smaller where
            it runs backwards and the same where one frame is held. None: it shows something else.
    """

    seconds: float
    shown: tuple[float, float] | None = None

    @property
    def is_playing(self) -> bool:
        """The clip runs here, forwards or backwards."""
        return self.shown is not None and self.shown[0] != self.shown[1]


@dataclass(frozen=True)
class Edit:
    """One thing done to a clip.

    Attributes:
        name: With its parameters, as "crop 0.80".
        strength: "light" or "heavy": how much of a burden it is on matching.
        apply: From frames to frames.
        speed: By how much the times are divided; the sound follows.
        is_mirrored: Left and right change places.
        crf: Asks for this quality of the file; the last edit that asks wins.
        is_mute: Takes the sound away.
        plan: From the length of the clip to what is shown when, one piece after another; None where
            nothing but the speed changes.
        sound: From the sound before to the sound after; None lets it follow ``plan`` and ``speed``.
    """

    name: str
    strength: Strength
    apply: Callable[[TimedFrames, EditContext], TimedFrames]
    speed: float = 1.0
    is_mirrored: bool = False
    crf: int | None = None
    is_mute: bool = False
    plan: Callable[[float], tuple[Stretch, ...]] | None = None
    sound: Callable[[Sound, EditContext], Sound] | None = None

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed <= 4:
            raise ValueError(f"speed must be from 0.25 to 4, got {self.speed}")
        if self.plan is not None and self.speed != 1:
            raise ValueError("an edit must change the speed or have a plan, not both")

    def stretches(self, duration_seconds: float) -> tuple[Stretch, ...]:
        """What is shown when of a clip of ``duration_seconds``."""
        if self.plan is not None:
            return self.plan(duration_seconds)
        return (Stretch(duration_seconds / self.speed, (0.0, duration_seconds)),)


@dataclass(frozen=True)
class TruthSegment:
    """Seconds of a clip that show seconds of a program, half open.

    ``asset_start_seconds`` is the smaller asset time even where the clip ``is_reversed`` there.
    """

    clip_start_seconds: float
    clip_end_seconds: float
    source: Path
    asset_id: str
    program_id: str
    asset_start_seconds: float
    asset_end_seconds: float
    is_reversed: bool = False

    def asset_time(self, clip_seconds: float) -> float:
        """The moment of the asset that is shown ``clip_seconds`` into the clip."""
        share = (clip_seconds - self.clip_start_seconds) / (self.clip_end_seconds - self.clip_start_seconds)
        if self.is_reversed:
            share = 1 - share
        return self.asset_start_seconds + share * (self.asset_end_seconds - self.asset_start_seconds)


@dataclass(frozen=True)
class ClipPart:
    """What is cut from where.

    Attributes:
        source: The program's file.
        start_seconds: From its first frame.
        duration_seconds: Before speed is changed.
        asset_id: The file's name in the catalogue; its stem unless given.
        program_id: Likewise.
    """

    source: Path
    start_seconds: float
    duration_seconds: float
    asset_id: str = ""
    program_id: str = ""

    def __post_init__(self) -> None:
        if self.start_seconds < 0 or self.duration_seconds <= 0:
            raise ValueError(f"a part must start at 0 or later and last, got {self}")


def per_frame(change: Callable[[Picture], Picture]) -> Callable[[TimedFrames, EditContext], TimedFrames]:
    """What does the same to every picture and leaves the clock alone."""

    def apply(frames: TimedFrames, _: EditContext) -> TimedFrames:
        for seconds, image in frames:
            yield seconds, change(image)

    return apply


def total_seconds(stretches: Sequence[Stretch]) -> float:
    """Length of all pieces together."""
    return sum(stretch.seconds for stretch in stretches)


def _seen_through(segment: TruthSegment, stretch: Stretch, offset: float) -> TruthSegment | None:
    """What is left of ``segment`` in a piece that begins at ``offset`` of the edited clip."""
    if stretch.shown is None or not stretch.is_playing:
        return None
    first, last = stretch.shown
    low = max(segment.clip_start_seconds, min(first, last))
    high = min(segment.clip_end_seconds, max(first, last))
    if high - low < _SHORTEST_SECONDS:
        return None
    clip = sorted(offset + (t - first) / (last - first) * stretch.seconds for t in (low, high))
    asset = sorted(segment.asset_time(t) for t in (low, high))
    return replace(
        segment,
        clip_start_seconds=clip[0],
        clip_end_seconds=clip[1],
        asset_start_seconds=asset[0],
        asset_end_seconds=asset[1],
        is_reversed=segment.is_reversed != (last < first),
    )


def edited_segments(
    segments: Sequence[TruthSegment], stretches: Sequence[Stretch]
) -> tuple[TruthSegment, ...]:
    """The truth after an edit.

    Held frames and pictures that are not the clip's are claimed by no segment: a link may cover the
    first or not, and must not cover the second.

    Args:
        segments: The truth before.
        stretches: What the edit shows when.

    Returns:
        One segment for each run of one segment through one piece, by clip time.
    """
    found, offset = [], 0.0
    for stretch in stretches:
        pieces = (_seen_through(segment, stretch, offset) for segment in segments)
        found += [piece for piece in pieces if piece is not None]
        offset += stretch.seconds
    return tuple(sorted(found, key=lambda piece: piece.clip_start_seconds))


def edited_sound(sound: Sound, edit: Edit, context: EditContext) -> Sound:
    """The sound after an edit: what it makes of it, else the pieces of its plan, silent where it is held."""
    if edit.sound is not None:
        return edit.sound(sound, context)
    if edit.plan is None:
        return _warped(sound, edit.speed)
    pieces = [_heard(sound, stretch) for stretch in edit.plan(context.duration_seconds)]
    return np.concatenate(pieces) if pieces else sound[:0]


def _heard(sound: Sound, stretch: Stretch) -> Sound:
    n_samples = round(stretch.seconds * SOUND_RATE_HZ)
    out = np.zeros(n_samples, np.float32)
    if stretch.shown is None or not stretch.is_playing:
        return out
    first, last = stretch.shown
    piece = sound[round(min(first, last) * SOUND_RATE_HZ) : round(max(first, last) * SOUND_RATE_HZ)]
    if last < first:
        piece = piece[::-1]
    piece = _warped(piece, abs(last - first) / stretch.seconds)[:n_samples]
    out[: len(piece)] = piece
    return out


def _warped(sound: Sound, factor: float) -> Sound:
    if abs(factor - 1.0) < 1e-9 or len(sound) < 2:
        return sound
    at = np.arange(0, len(sound) - 1, factor)
    return np.asarray(np.interp(at, np.arange(len(sound)), sound), np.float32)
