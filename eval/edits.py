"""Cuts clips from programs, edits them as uploaders do, writes them, and says what they really show.

:func:`write_clip` and :func:`write_montage` cut, apply the edits, write the file and return the truth:
which seconds of the clip show which seconds of which file. The edits themselves are in the modules
``eval.edit_*``; the usual ones can be imported from here too.

All randomness comes from the ``rng`` in :class:`EditContext`, so the same seed makes the same clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from eval.edit_base import (
    SOUND_RATE_HZ,
    ClipPart,
    Colour,
    Edit,
    EditContext,
    Picture,
    Sound,
    Strength,
    Stretch,
    TimedFrames,
    TruthSegment,
    edited_segments,
    edited_sound,
    total_seconds,
)
from eval.edit_drawing import fit, resize
from eval.edit_layouts import borders, picture_in_picture, reaction, vertical_blur, vertical_crop
from eval.edit_menu import demo_edits
from eval.edit_pictures import (
    blur,
    colour,
    crop,
    grey_noise,
    logo_and_subtitles,
    mirror,
    reencode,
    stickers,
)
from eval.edit_sounds import mute
from eval.edit_times import speed
from eval.video_reader import even, read_frames, read_shape, read_sound
from eval.video_writer import write_video

__all__ = [
    "SOUND_RATE_HZ",
    "ClipPart",
    "ClipTruth",
    "Colour",
    "Edit",
    "EditContext",
    "Picture",
    "Strength",
    "Stretch",
    "TimedFrames",
    "TruthSegment",
    "blur",
    "borders",
    "colour",
    "crop",
    "demo_edits",
    "fit",
    "grey_noise",
    "logo_and_subtitles",
    "mirror",
    "mute",
    "picture_in_picture",
    "reaction",
    "reencode",
    "resample",
    "resize",
    "speed",
    "stickers",
    "vertical_blur",
    "vertical_crop",
    "write_clip",
    "write_montage",
]


@dataclass(frozen=True)
class ClipTruth:
    """What a written clip really shows.

    Attributes:
        path: The clip.
        segments: In the clip's order: one for each part of a montage, and a part that is interrupted has
            several. What no segment covers is something else, or a held frame.
        edits: Names of the edits, in the order applied.
        strength: "heavy" if any edit is, or the clip is a montage.
        speed: Asset seconds for each clip second.
        is_mirrored: Left and right are exchanged.
        duration_seconds: Length of the clip.
        seed: Of the edits' randomness.
    """

    path: Path
    segments: tuple[TruthSegment, ...]
    edits: tuple[str, ...]
    strength: Strength
    speed: float
    is_mirrored: bool
    duration_seconds: float
    seed: int


def resample(frames: TimedFrames, *, fps: Fraction, duration_seconds: float) -> Iterator[Picture]:
    """The picture on show at each tick of a constant rate: the last one whose time has come."""
    tick, n_ticks = 0, max(1, round(duration_seconds * float(fps)))
    held: Picture | None = None
    for seconds, image in frames:
        while held is not None and tick < n_ticks and tick / float(fps) < seconds - 1e-6:
            yield held
            tick += 1
        if tick >= n_ticks:
            return
        held = image
    while held is not None and tick < n_ticks:
        yield held
        tick += 1


def _part_frames(
    part: ClipPart, offset: float, size: tuple[int, int], max_side: int | None, fps: float
) -> TimedFrames:
    """The part's frames by the clip's clock; only those that a clip of this rate can show."""
    stop = part.start_seconds + part.duration_seconds
    phase = np.ceil(offset * fps - 1e-6) / fps - offset
    frames = read_frames(
        part.source, part.start_seconds, stop, max_side=max_side, fps=fps, phase_seconds=float(phase)
    )
    for seconds, image in frames:
        shown = image if image.shape[:2] == (size[1], size[0]) else fit(image, *size)
        yield offset + max(0.0, seconds - part.start_seconds), shown


def _within(part: ClipPart) -> ClipPart:
    """The part without what lies beyond the end of its file."""
    left = read_shape(part.source).duration_seconds - part.start_seconds
    if left < 0.1:
        raise ValueError(f"{part.source} ends before {part.start_seconds:.1f} s")
    return replace(
        part,
        duration_seconds=min(part.duration_seconds, left),
        asset_id=part.asset_id or part.source.stem,
        program_id=part.program_id or part.source.stem,
    )


def _cut_frames(parts: Sequence[ClipPart], max_side: int | None, fps: float) -> TimedFrames:
    """The frames of all parts, one part after another, fitted into the first one's frame."""
    shape = read_shape(parts[0].source)
    scale = min(1.0, max_side / max(shape.width, shape.height)) if max_side else 1.0
    size = (even(shape.width * scale), even(shape.height * scale))
    offset = 0.0
    for part in parts:
        yield from _part_frames(part, offset, size, max_side, fps)
        offset += part.duration_seconds


def _cut_sound(parts: Sequence[ClipPart]) -> Sound:
    return np.concatenate(
        [
            read_sound(p.source, p.start_seconds, p.start_seconds + p.duration_seconds, rate_hz=SOUND_RATE_HZ)
            for p in parts
        ]
    )


def _cut_segments(parts: Sequence[ClipPart]) -> tuple[TruthSegment, ...]:
    ends = list(itertools.accumulate(part.duration_seconds for part in parts))
    return tuple(
        TruthSegment(
            clip_start_seconds=end - part.duration_seconds if number else 0.0,
            clip_end_seconds=end,
            source=part.source,
            asset_id=part.asset_id,
            program_id=part.program_id,
            asset_start_seconds=part.start_seconds,
            asset_end_seconds=part.start_seconds + part.duration_seconds,
        )
        for number, (part, end) in enumerate(zip(parts, ends, strict=True))
    )


@dataclass(frozen=True)
class _Cut:
    """A clip on its way through the edits; its frames are made only while the file is written."""

    frames: TimedFrames
    segments: tuple[TruthSegment, ...]
    seconds: float
    sound: Sound | None


def _edited(cut: _Cut, edit: Edit, *, seed: Sequence[int], fps: float) -> _Cut:
    """Frames, truth, length and sound after one edit."""
    context = EditContext(np.random.default_rng(seed), cut.seconds, fps)
    stretches = edit.stretches(cut.seconds)
    heard: Sound | None = None
    if not edit.is_mute and (cut.sound is not None or edit.sound is not None):
        # A stream of numbers of its own: the pictures take theirs later, while the file is written.
        listener = EditContext(np.random.default_rng([*seed, 1]), cut.seconds, fps)
        silence = np.zeros(round(cut.seconds * SOUND_RATE_HZ), np.float32)
        heard = edited_sound(silence if cut.sound is None else cut.sound, edit, listener)
    return _Cut(
        edit.apply(cut.frames, context),
        edited_segments(cut.segments, stretches),
        total_seconds(stretches),
        heard,
    )


def write_montage(
    parts: Sequence[ClipPart],
    edits: Sequence[Edit],
    out: Path,
    *,
    seed: int,
    crf: int = 26,
    fps: Fraction | int | None = None,
    max_side: int | None = None,
) -> ClipTruth:
    """Cut ``parts``, put them one after another, apply ``edits`` to the whole and write it.

    Args:
        parts: What is shown, in order; all are fitted into the first one's frame.
        edits: Applied from left to right.
        out: The file to write; its folder is made.
        seed: Of all randomness in the edits.
        crf: Constant rate factor, unless an edit asks for another.
        fps: Of the clip; None takes that of the first part.
        max_side: Longest side the sources are read at; None keeps their size.

    Returns:
        The truth about the file.

    Raises:
        ValueError: There is no part, or one starts after its file's end.
    """
    if not parts:
        raise ValueError("a clip needs at least one part")
    parts = [_within(part) for part in parts]
    rate = Fraction(fps) if fps is not None else read_shape(parts[0].source).fps
    factor = float(np.prod([edit.speed for edit in edits])) if edits else 1.0
    cut = _Cut(
        _cut_frames(parts, max_side, float(rate) / factor),
        _cut_segments(parts),
        sum(part.duration_seconds for part in parts),
        None if any(edit.is_mute for edit in edits) else _cut_sound(parts),
    )
    for number, edit in enumerate(edits):
        cut = _edited(cut, edit, seed=[seed, number], fps=float(rate))
    out.parent.mkdir(parents=True, exist_ok=True)
    n_frames = write_video(
        out,
        resample(cut.frames, fps=rate, duration_seconds=cut.seconds),
        fps=rate,
        crf=next((edit.crf for edit in reversed(edits) if edit.crf is not None), crf),
        sound=cut.sound,
        sound_rate_hz=SOUND_RATE_HZ,
        preset="superfast",  # the same file every time; see write_video
        options={"threads": "1"},
    )
    return ClipTruth(
        path=out,
        segments=cut.segments,
        edits=tuple(edit.name for edit in edits),
        strength="heavy" if len(parts) > 1 or any(edit.strength == "heavy" for edit in edits) else "light",
        speed=factor,
        is_mirrored=sum(edit.is_mirrored for edit in edits) % 2 == 1,
        duration_seconds=n_frames / float(rate),
        seed=seed,
    )


def write_clip(
    source: Path,
    start_seconds: float,
    duration_seconds: float,
    edits: Sequence[Edit],
    out: Path,
    *,
    seed: int,
    crf: int = 26,
    fps: Fraction | int | None = None,
    max_side: int | None = None,
    asset_id: str = "",
    program_id: str = "",
) -> ClipTruth:
    """Cut one stretch of ``source``, edit it and write it; :func:`write_montage` of one part."""
    part = ClipPart(source, start_seconds, duration_seconds, asset_id, program_id)
    return write_montage([part], edits, out, seed=seed, crf=crf, fps=fps, max_side=max_side)
