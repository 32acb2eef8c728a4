"""Edits that put the picture into another frame: 9:16, bars, a corner, one half, a caption around it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from eval.edit_base import Edit, EditContext, Picture, TimedFrames, per_frame
from eval.edit_drawing import Loop, Patterns, Scene, Talker, cover, cut, place, resize, text_block
from eval.video_reader import even

Side = Literal["left", "right", "top", "bottom"]


def vertical_crop(*, x: float = 0.5) -> Edit:
    """The middle (or left, or right) third of the picture, as 9:16."""

    def change(image: Picture) -> Picture:
        return cut(image, image.shape[0] * 9 / 16, image.shape[0], x, 0.5)

    return Edit("vertical crop", "heavy", per_frame(change))


def _blurred(image: Picture, width: int, height: int) -> Picture:
    """A dark, soft copy that fills a box."""
    filling = cut(image, image.shape[0] * width / height, image.shape[0], 0.5, 0.5)
    small = Image.fromarray(filling).resize((width // 6, height // 6), Image.Resampling.BILINEAR)
    soft = small.filter(ImageFilter.BoxBlur(3)).point([int(v * 0.8) for v in range(256)] * 3)
    return np.array(soft.resize((width, height), Image.Resampling.BICUBIC))


def vertical_blur(*, width: int = 216, height: int = 384) -> Edit:
    """The whole picture across a 9:16 frame that a blurred copy of it fills."""

    def change(image: Picture) -> Picture:
        out = _blurred(image, width, height)
        inner = resize(image, width, image.shape[0] * width / image.shape[1])[:height]
        place(out, inner, 0, (height - inner.shape[0]) // 2)
        return out

    return Edit("vertical blurred fill", "heavy", per_frame(change))


_CAPTIONS = (
    "When the boss finds out who she really is",
    "He waited ten years for this moment",
    "Full episode in the comments",
    "Nobody expected this ending",
    "POV: you should not have opened that door",
    "Part 12, watch until the end",
    "The scene everybody talks about",
    "Rate this from 1 to 10",
)


def captioned_bands(
    *, share: float = 0.45, is_blurred: bool = False, width: int = 216, height: int = 384
) -> Edit:
    """Three parts in a 9:16 frame: large words, the picture, large words again.

    Args:
        share: Of the height that the picture takes; what does not fit is cut off at its sides.
        is_blurred: The bands hold a blurred copy of the picture instead of one colour.
        width: Of the frame.
        height: Likewise.
    """
    if not 0.25 <= share <= 0.8:
        raise ValueError(f"share must be from 0.25 to 0.8, got {share}")
    high = even(height * share)
    band = (height - high) // 2

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        above, below = (str(words) for words in rng.choice(_CAPTIONS, 2, replace=False))
        grounds = np.array([[0, 0, 0], [255, 255, 255], rng.integers(0, 256, 3)], np.uint8)
        ground = grounds[int(rng.integers(3))]
        is_light = not is_blurred and ground.mean() > 128
        ink = (20, 20, 20) if is_light else (255, 255, 255)
        words = Image.new("RGBA", (width, height))
        words.paste(text_block(above, width, band, ink), (0, 0))
        words.paste(
            text_block(below, width, band, (220, 30, 30) if is_light else (255, 225, 60)), (0, height - band)
        )
        for seconds, image in frames:
            canvas = _blurred(image, width, height) if is_blurred else np.full((height, width, 3), ground)
            out = Image.fromarray(canvas)
            out.paste(words, (0, 0), words)
            out.paste(Image.fromarray(cover(image, width, high)), (0, band))
            yield seconds, np.asarray(out)

    kind = "blurred" if is_blurred else "plain"
    return Edit(f"captioned bands {kind} {share:.2f}", "heavy", apply)


def _patterned(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Stripes, checks or a smooth run from one colour to another."""
    ends = rng.integers(0, 256, (2, 3))
    y, x = np.mgrid[0:height, 0:width]
    step, kind = int(rng.integers(8, 24)), int(rng.integers(3))
    if kind == 0:
        mix = ((x + y) // step % 2).astype(float)
    elif kind == 1:
        mix = ((x // step + y // step) % 2).astype(float)
    else:
        mix = (x + y) / (height + width)
    return np.asarray(ends[0] + mix[..., None] * (ends[1] - ends[0]), np.uint8)


def borders(
    *,
    kind: Literal["letterbox", "pillarbox"] = "letterbox",
    share: float = 0.15,
    is_patterned: bool = False,
) -> Edit:
    """Bars, each ``share`` of the picture's height or width, around the picture as it is."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        tone = rng.choice([0, 0, 255]) if rng.random() < 0.7 else rng.integers(0, 256, 3)
        ground: Picture | None = None
        for seconds, image in frames:
            height, width = image.shape[:2]
            bar = even((height if kind == "letterbox" else width) * share)
            high, wide = (height + 2 * bar, width) if kind == "letterbox" else (height, width + 2 * bar)
            if ground is None:
                ground = np.empty((high, wide, 3), np.uint8)
                ground[:] = _patterned(rng, high, wide) if is_patterned else tone
            out = ground.copy()
            place(out, image, (wide - width) // 2, (high - height) // 2)
            yield seconds, out

    name = f"patterned {kind}" if is_patterned else kind
    return Edit(f"{name} {share:.2f}", "light", apply)


def picture_in_picture(
    *, share: float = 0.5, over: Path | None = None, over_start_seconds: float = 0.0
) -> Edit:
    """The clip small in a corner over something else.

    Args:
        share: Of the frame's width that the clip keeps.
        over: A video to show behind, round and round; None for moving patterns.
        over_start_seconds: Where in that video its first round begins.
    """
    if not 0.1 <= share <= 0.9:
        raise ValueError(f"share must be from 0.1 to 0.9, got {share}")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        x, y = context.rng.choice([0.04, 0.96], 2)
        behind: Scene = Patterns(context.rng)
        if over is not None:
            behind = Loop(over, over_start_seconds, is_whole=True, fps=context.fps)
        for seconds, image in frames:
            height, width = image.shape[:2]
            out = behind.at(seconds, width, height)
            small = resize(image, width * share, height * share)
            left, top = int(x * (width - small.shape[1])), int(y * (height - small.shape[0]))
            place(out, small, left, top)
            yield seconds, out

    return Edit(f"picture in picture {share:.2f}", "heavy", apply)


def reaction(*, share: float = 0.33, over: Path | None = None, over_start_seconds: float = 0.0) -> Edit:
    """Somebody's talking face, or another video, in a corner over the clip.

    Args:
        share: Of the frame's height, and a fifth more, that the square takes.
        over: The other video; None for a made-up person.
        over_start_seconds: Where in that video its first round begins.
    """

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        scene: Scene = Talker(rng)
        if over is not None:
            scene = Loop(over, over_start_seconds, fps=context.fps)
        corner = int(rng.integers(4))
        for seconds, image in frames:
            height, width = image.shape[:2]
            side = min(even(height * share * 1.2), width, height)
            out = image.copy()
            left = 0 if corner % 2 == 0 else width - side
            place(out, scene.at(seconds, side, side), left, 0 if corner < 2 else height - side)
            yield seconds, out

    return Edit(f"reaction face {share:.2f}", "heavy", apply)


def _halves(image: Picture, side: Side, share: float) -> tuple[int, int, int, int]:
    """Width and height of the whole frame, and of the clip's part of it."""
    if side in ("left", "right"):
        height, width = image.shape[:2]
        return width, height, min(even(width * share), width - 2), height
    # One above the other makes a tall frame, as it is watched on a phone.
    longest = max(image.shape[:2])
    width, height = even(longest * 9 / 16), even(longest)
    return width, height, width, min(even(height * share), height - 2)


def reaction_split(
    side: Side = "left", *, share: float = 0.5, over: Path | None = None, over_start_seconds: float = 0.0
) -> Edit:
    """The clip in one half, a talking person or another video in the other.

    Args:
        side: Where the clip is. At the top or bottom the frame becomes 9:16.
        share: Of the frame that the clip takes; it fills that, and what sticks out is cut off.
        over: The other video; None for a made-up person.
        over_start_seconds: Where in that video its first round begins.
    """
    if not 0.25 <= share <= 0.75:
        raise ValueError(f"share must be from 0.25 to 0.75, got {share}")
    is_first, is_beside = side in ("left", "top"), side in ("left", "right")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        scene: Scene = Talker(context.rng)
        if over is not None:
            scene = Loop(over, over_start_seconds, fps=context.fps)
        for seconds, image in frames:
            width, height, own_width, own_height = _halves(image, side, share)
            own = cover(image, own_width, own_height)
            rest = (width - own_width, height) if is_beside else (width, height - own_height)
            other = scene.at(seconds, *rest)
            yield seconds, np.concatenate([own, other] if is_first else [other, own], axis=int(is_beside))

    return Edit(f"reaction split {side} {share:.2f}", "heavy", apply)
