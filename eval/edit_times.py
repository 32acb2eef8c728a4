"""Edits that touch the clock: speed, dropped and held frames, backwards, what stands before and after, fades.

Where the time of the clip changes, the edit's plan says how, and the truth and the sound follow from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from eval.edit_base import SOUND_RATE_HZ, Edit, EditContext, Picture, Sound, Stretch, TimedFrames
from eval.edit_drawing import Card, Loop, Patterns, Scene, Talker
from eval.video_reader import read_sound

Insert = Literal["card", "person", "patterns"]


def speed(factor: float) -> Edit:
    """Faster (above 1) or slower, picture and sound."""

    def apply(frames: TimedFrames, _: EditContext) -> TimedFrames:
        for seconds, image in frames:
            yield seconds / factor, image

    return Edit(f"speed {factor:.2f}", "light" if 0.8 <= factor <= 1.25 else "heavy", apply, speed=factor)


# --- Frames that are missing or held ---


def decimate(every: int = 2) -> Edit:
    """Keep one frame of ``every``, evenly; the clock goes on."""
    if every < 2:
        raise ValueError(f"every must be at least 2, got {every}")

    def apply(frames: TimedFrames, _: EditContext) -> TimedFrames:
        return itertools.islice(frames, 0, None, every)

    return Edit(f"one frame of {every}", "light", apply)


def drop_frames(chance: float = 0.3, *, longest: int = 2) -> Edit:
    """Lose frames at random; the clock goes on.

    Args:
        chance: Of each frame to be lost.
        longest: At most so many in a row.
    """
    if not 0 <= chance <= 1 or longest < 1:
        raise ValueError(f"chance must be in [0, 1] and longest at least 1, got {chance} and {longest}")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        n_lost = longest  # the first frame stays, so that there is something to show
        for frame in frames:
            is_lost = n_lost < longest and context.rng.random() < chance
            n_lost = n_lost + 1 if is_lost else 0
            if not is_lost:
                yield frame

    return Edit(f"dropped frames {chance:.2f}", "light", apply)


def freeze(at: float = 0.5, seconds: float = 1.0, *, is_inserted: bool = True) -> Edit:
    """Hold a frame.

    Args:
        at: Where, as a share of the clip.
        seconds: For how long; at most half of the rest of the clip if the clock goes on.
        is_inserted: The clip goes on where it stopped and becomes longer. Otherwise its clock and its
            sound go on meanwhile, and what happens behind the held frame is not seen.
    """
    if not 0 < at < 1 or seconds <= 0:
        raise ValueError(f"a frame must be held within the clip and for some time, got {at} and {seconds}")

    def hold(duration: float) -> tuple[float, float]:
        start = at * duration
        return start, seconds if is_inserted else min(seconds, (duration - start) / 2)

    def plan(duration: float) -> tuple[Stretch, ...]:
        start, length = hold(duration)
        resume = start if is_inserted else start + length
        return (
            Stretch(start, (0.0, start)),
            Stretch(length, (start, start)),
            Stretch(duration - resume, (resume, duration)),
        )

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        start, length = hold(context.duration_seconds)
        if is_inserted:
            return _delayed_after(frames, start, length)
        return _hidden_between(frames, start, start + length)

    kind = "inserted" if is_inserted else "over"
    return Edit(
        f"freeze {kind} {seconds:.1f} s", "heavy", apply, plan=plan, sound=None if is_inserted else _as_it_is
    )


def _as_it_is(sound: Sound, _: EditContext) -> Sound:
    return sound


def _delayed_after(frames: TimedFrames, start: float, length: float) -> TimedFrames:
    for seconds, image in frames:
        yield (seconds + length if seconds > start else seconds), image


def _hidden_between(frames: TimedFrames, start: float, stop: float) -> TimedFrames:
    hidden: Picture | None = None
    for seconds, image in frames:
        if start < seconds <= stop:
            hidden = image
            continue
        if hidden is not None and seconds > stop:
            yield stop, hidden
            hidden = None
        yield seconds, image
    if hidden is not None:
        yield stop, hidden


def reverse() -> Edit:
    """Backwards, picture and sound."""

    def plan(duration: float) -> tuple[Stretch, ...]:
        return (Stretch(duration, (duration, 0.0)),)

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        known = list(frames)
        ends = [*(seconds for seconds, _ in known[1:]), context.duration_seconds]
        # A frame that was shown until its end is now shown from there.
        for (_, image), end in zip(reversed(known), reversed(ends), strict=True):
            yield max(0.0, context.duration_seconds - end), image

    return Edit("reversed", "heavy", apply, plan=plan)


# --- What stands before and after ---


def _scene(kind: Insert, over: Path | None, over_start_seconds: float) -> Callable[[EditContext], Scene]:
    def make(context: EditContext) -> Scene:
        rng = context.rng
        if over is not None:
            return Loop(over, over_start_seconds, fps=context.fps)
        if kind == "card":
            return Card(rng)
        return Talker(rng) if kind == "person" else Patterns(rng)

    return make


def _filled(scene: Scene, start: float, seconds: float, shape: Sequence[int], fps: float) -> TimedFrames:
    for tick in range(max(1, int(np.ceil(seconds * fps - 1e-6)))):
        yield start + tick / fps, scene.at(tick / fps, shape[1], shape[0])


def _scene_sound(over: Path | None, over_start_seconds: float, seconds: float) -> Sound:
    if over is None:
        return np.zeros(round(seconds * SOUND_RATE_HZ), np.float32)
    return read_sound(over, over_start_seconds, over_start_seconds + seconds, rate_hz=SOUND_RATE_HZ)


def intro(
    seconds: float = 2.0,
    *,
    kind: Insert = "card",
    over: Path | None = None,
    over_start_seconds: float = 0.0,
) -> Edit:
    """Something else before the clip, which begins that much later.

    Args:
        seconds: How long.
        kind: What is shown if there is no other video.
        over: The other video, with its sound.
        over_start_seconds: Where in it to begin.
    """
    make = _scene(kind, over, over_start_seconds)

    def plan(duration: float) -> tuple[Stretch, ...]:
        return (Stretch(seconds), Stretch(duration, (0.0, duration)))

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        first = next(frames, None)
        if first is None:
            return
        yield from _filled(make(context), 0.0, seconds, first[1].shape, context.fps)
        # The first frame may be a little late; nothing of the intro may be left standing until then.
        yield seconds, first[1]
        for time, image in frames:
            yield time + seconds, image

    def sound(heard: Sound, _: EditContext) -> Sound:
        return np.concatenate([_scene_sound(over, over_start_seconds, seconds), heard])

    name = f"intro {kind if over is None else 'video'} {seconds:.1f} s"
    return Edit(name, "heavy", apply, plan=plan, sound=sound)


def outro(
    seconds: float = 2.0,
    *,
    kind: Insert = "card",
    over: Path | None = None,
    over_start_seconds: float = 0.0,
) -> Edit:
    """Something else after the clip; as :func:`intro`."""
    make = _scene(kind, over, over_start_seconds)

    def plan(duration: float) -> tuple[Stretch, ...]:
        return (Stretch(duration, (0.0, duration)), Stretch(seconds))

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        shape: Sequence[int] | None = None
        for time, image in frames:
            shape = image.shape
            yield time, image
        if shape is not None:
            yield from _filled(make(context), context.duration_seconds, seconds, shape, context.fps)

    def sound(heard: Sound, context: EditContext) -> Sound:
        n_before = round(context.duration_seconds * SOUND_RATE_HZ)
        before = np.zeros(n_before, np.float32)
        before[: len(heard)] = heard[:n_before]
        return np.concatenate([before, _scene_sound(over, over_start_seconds, seconds)])

    name = f"outro {kind if over is None else 'video'} {seconds:.1f} s"
    return Edit(name, "heavy", apply, plan=plan, sound=sound)


# --- Brightness over time ---


def _towards(image: Picture, target: int, share: float) -> Picture:
    table = np.round(np.arange(256) * (1 - share) + target * share).astype(np.uint8)
    return table[image]


def fades(
    seconds: float = 0.7, *, is_in: bool = True, is_out: bool = True, flashes: Sequence[float] = ()
) -> Edit:
    """From black and to black, and white flashes of a third of a second as between scenes.

    Args:
        seconds: Length of a fade, at most a third of the clip.
        is_in: From black at the beginning.
        is_out: To black at the end.
        flashes: When, as shares of the clip.
    """
    if seconds <= 0:
        raise ValueError(f"a fade must last, got {seconds}")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        whole = context.duration_seconds
        length = min(seconds, whole / 3)
        for time, image in frames:
            edge = min(time if is_in else whole, whole - time if is_out else whole)
            if edge < length:
                yield time, _towards(image, 0, 1 - max(0.0, edge) / length)
                continue
            near = min((abs(time - flash * whole) for flash in flashes), default=1.0)
            yield time, _towards(image, 255, 1 - near / 0.17) if near < 0.17 else image

    parts = [*(["in"] if is_in else []), *(["out"] if is_out else []), *(["flash"] if flashes else [])]
    return Edit(f"fades {' '.join(parts)} {seconds:.1f} s", "light", apply)
