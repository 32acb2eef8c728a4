"""Helpers on single pictures for the edits, and what edits show beside, behind or before a clip."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.drama_cast import N_TALK_POSES, N_WALK_POSES, figure, make_person
from eval.edit_base import Colour, Picture, TimedFrames
from eval.video_reader import even, read_frames

#: What is shown beside a clip is read at this size at most: no clip shows it larger.
_OTHER_MAX_SIDE = 400
#: How long the last frame of a round stands before the first one comes again.
_LAST_FRAME_SECONDS = 0.04


# --- Sizes ---


def resize(image: Picture, width: float, height: float) -> Picture:
    """Scale to the nearest even size."""
    size = (even(width), even(height))
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def fit(image: Picture, width: int, height: int) -> Picture:
    """Scale into a box of even size and fill what is left with black."""
    scale = min(width / image.shape[1], height / image.shape[0])
    small = resize(image, image.shape[1] * scale, image.shape[0] * scale)[:height, :width]
    out = np.zeros((height, width, 3), np.uint8)
    place(out, small, (width - small.shape[1]) // 2, (height - small.shape[0]) // 2)
    return out


def cover(image: Picture, width: int, height: int, *, x: float = 0.5) -> Picture:
    """Scale until a box of even size is full and cut off what sticks out; ``x`` says from which side."""
    high, wide = image.shape[:2]
    scale = max(width / wide, height / high)
    own_width, own_height = min(wide, width / scale), min(high, height / scale)
    left, top = x * (wide - own_width), 0.5 * (high - own_height)
    # Rounding may push the box a hair beyond the edge, which the library refuses.
    box = (left, top, min(wide, left + own_width), min(high, top + own_height))
    source = Image.fromarray(image)
    return np.asarray(source.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))


def place(base: Picture, image: Picture, left: int, top: int) -> None:
    """Put ``image`` into ``base``; all of it must lie within."""
    base[top : top + image.shape[0], left : left + image.shape[1]] = image


def cut(image: Picture, width: float, height: float, x: float, y: float) -> Picture:
    """Cut an even box at the fractions ``x`` and ``y`` of the room there is."""
    wide, high = min(even(width), image.shape[1]), min(even(height), image.shape[0])
    left, top = int(x * (image.shape[1] - wide)), int(y * (image.shape[0] - high))
    return image[top : top + high, left : left + wide]


def pasted(image: Picture, stickers: Sequence[tuple[Image.Image, int, int]]) -> Picture:
    """Lay RGBA pictures over ``image``, each at its (left, top)."""
    canvas = Image.fromarray(image)
    for sticker, left, top in stickers:
        canvas.paste(sticker, (left, top), sticker)
    return np.asarray(canvas)


# --- Words and stickers ---


@functools.lru_cache(maxsize=256)
def text(words: str, size: int, ink: Colour, back: Colour | None = None) -> Image.Image:
    """One line as an RGBA picture, with a dark edge or on a rounded patch of the colour ``back``."""
    font = ImageFont.load_default(size=max(8, size))
    left, top, right, low = font.getbbox(words, stroke_width=1)
    pad = 1 if back is None else size // 3
    image = Image.new("RGBA", (int(right - left) + 2 * pad, int(low - top) + 2 * pad))
    draw = ImageDraw.Draw(image)
    if back is not None:
        draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), size // 3, fill=(*back, 255))
    edge = 0 if back is not None else 1
    draw.text(
        (pad - left, pad - top),
        words,
        font=font,
        fill=(*ink, 255),
        stroke_width=edge,
        stroke_fill=(0, 0, 0, 255),
    )
    return image


def text_block(words: str, width: int, height: int, ink: Colour) -> Image.Image:
    """Words in as many centred lines as they need, as large as fits into a box, as an RGBA picture."""
    block = Image.new("RGBA", (width, height))
    for size in range(max(9, height // 3), 8, -2):
        font = ImageFont.load_default(size=size)
        lines = textwrap.wrap(words, max(1, int(width * 0.92 / font.getlength("n"))))
        is_narrow = all(font.getlength(line) <= width * 0.94 for line in lines)
        if is_narrow and len(lines) * size * 1.25 <= height * 0.9:
            break
    top = (height - len(lines) * size * 1.25) / 2
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        at = (width / 2, top + (number + 0.5) * size * 1.25)
        draw.text(at, line, font=font, fill=(*ink, 255), anchor="mm", stroke_width=1, stroke_fill=(0, 0, 0))
    return block


_ARROW = ((0, 0.35), (0.55, 0.35), (0.55, 0.1), (1, 0.5), (0.55, 0.9), (0.55, 0.65), (0, 0.65))


@functools.lru_cache(maxsize=64)
def sticker(kind: int, size: int) -> Image.Image:
    """A heart (0), star (1), arrow (2) or laughing face (any other) as an RGBA square."""
    size = max(8, size)
    image = Image.new("RGBA", (size, size))
    draw, s = ImageDraw.Draw(image), float(size)
    white = (255, 255, 255, 255)
    if kind == 0:
        red = (235, 50, 85, 255)
        draw.ellipse((0, 0, s * 0.55, s * 0.55), fill=red)
        draw.ellipse((s * 0.42, 0, s * 0.97, s * 0.55), fill=red)
        draw.polygon([(s * 0.03, s * 0.38), (s * 0.95, s * 0.38), (s * 0.49, s)], fill=red)
    elif kind == 1:
        angles = np.arange(10) * np.pi / 5 - np.pi / 2
        reach = np.where(np.arange(10) % 2, 0.2, 0.49) * s
        points = [(s / 2 + r * np.cos(a), s / 2 + r * np.sin(a)) for a, r in zip(angles, reach, strict=True)]
        draw.polygon(points, fill=(255, 205, 40, 255), outline=white)
    elif kind == 2:
        draw.polygon(
            [(s * x, s * y) for x, y in _ARROW],
            fill=(255, 60, 40, 255),
            outline=white,
        )
    else:
        draw.ellipse((0, 0, s - 1, s - 1), fill=(255, 214, 70, 255), outline=(120, 80, 0, 255))
        for x in (0.3, 0.62):
            draw.ellipse((s * x, s * 0.28, s * (x + 0.1), s * 0.42), fill=(60, 40, 10, 255))
        draw.pieslice((s * 0.22, s * 0.35, s * 0.78, s * 0.85), 0, 180, fill=(130, 40, 30, 255))
    return image


# --- What is shown beside, behind or before a clip ---


class Scene(Protocol):
    """Something with a clock of its own that fills a box."""

    def at(self, seconds: float, width: int, height: int) -> Picture:
        """A fresh picture of (``height``, ``width``); ``seconds`` never go back."""
        ...


class Patterns:
    """Something that has nothing to do with any program: drifting blocks and balls."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.cells = rng.integers(20, 235, (9, 32, 3)).astype(np.uint8)
        self.balls = rng.uniform(0, 1, (12, 7))

    def at(self, seconds: float, width: int, height: int) -> Picture:
        """The blocks and balls at this time."""
        shift = int(seconds * 3) % self.cells.shape[1]
        window = np.roll(self.cells, -shift, axis=1)[:, :16]
        image = Image.fromarray(np.ascontiguousarray(window)).resize(
            (width, height), Image.Resampling.NEAREST
        )
        draw = ImageDraw.Draw(image)
        for x, y, vx, vy, red, green, blue in self.balls:
            cx = abs((x + vx * seconds) % 2 - 1) * width
            cy = abs((y + vy * seconds) % 2 - 1) * height
            radius = height * (0.03 + 0.08 * red)
            ink = (int(255 * red), int(255 * green), int(255 * blue))
            draw.ellipse(
                (cx - radius, cy - radius, cx + radius, cy + radius), fill=ink, outline=(255, 255, 255)
            )
        return np.array(image)


class Loop:
    """A video's frames by time, round and round.

    Args:
        path: The video.
        start_seconds: Where its first round begins.
        is_whole: Shown with bars rather than cut to the box.
        fps: How often it will be looked at; frames between are not read. None reads all.

    Raises:
        ValueError: The video ends before ``start_seconds``.
    """

    def __init__(
        self, path: Path, start_seconds: float = 0.0, *, is_whole: bool = False, fps: float | None = None
    ) -> None:
        self.path, self.fps, self.is_whole = path, fps, is_whole
        self.frames = self._round(start_seconds)
        first = next(self.frames, None)
        if first is None:
            raise ValueError(f"{path} ends before {start_seconds:.1f} s")
        self.last, self.image = first
        self.offset = -self.last
        self.shown: Picture | None = None

    def _round(self, start_seconds: float) -> TimedFrames:
        stop = float("inf")
        return read_frames(self.path, start_seconds, stop, max_side=_OTHER_MAX_SIDE, fps=self.fps)

    def at(self, seconds: float, width: int, height: int) -> Picture:
        """The first frame that is not before this time."""
        while self.last + self.offset < seconds:
            ahead = next(self.frames, None)
            if ahead is None:
                self.offset += self.last + _LAST_FRAME_SECONDS
                self.frames = self._round(0.0)
                ahead = next(self.frames)
            self.last, self.image = ahead
            self.shown = None
        if self.shown is None or self.shown.shape[:2] != (height, width):
            self.shown = (fit if self.is_whole else cover)(self.image, width, height)
        return self.shown.copy()


class Talker:
    """A made-up person who talks in front of a plain wall."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.person = make_person(rng, ((200, 60, 60), (60, 120, 200), (240, 190, 60)), robe_chance=0)
        wall = [int(v) for v in rng.integers(60, 220, 3)]
        self.wall = (wall[0], wall[1], wall[2])
        self.drawn: dict[tuple[int, int, int], Picture] = {}

    def at(self, seconds: float, width: int, height: int) -> Picture:
        """The pose of this time, as large as the box."""
        pose = N_WALK_POSES + int(seconds * 5) % N_TALK_POSES
        key = (pose, width, height)
        if key not in self.drawn:
            self.drawn[key] = self._draw(pose, width, height)
        return self.drawn[key].copy()

    def _draw(self, pose: int, width: int, height: int) -> Picture:
        tall = min(height, width * 5 // 4)
        bust = figure(self.person, pose, is_bust=True).resize((tall * 4 // 3, tall))
        image = Image.new("RGB", (width, height), self.wall)
        image.paste(bust, ((width - bust.width) // 2, height - tall), bust)
        return np.asarray(image)


_CARD_LINES = (
    "wait until the end",
    "you will not believe part 3",
    "best scenes of the week",
    "follow for more",
    "link in the profile",
    "the moment everybody cried",
)


class Card:
    """Words on a plain ground: what stands before and after many uploads."""

    def __init__(self, rng: np.random.Generator) -> None:
        ground = [int(v) for v in rng.integers(0, 90, 3)]
        self.ground = np.array(ground, np.uint8)
        self.words = str(rng.choice(_CARD_LINES))
        self.ink = [(255, 255, 255), (255, 225, 60), (120, 230, 255)][int(rng.integers(3))]
        self.drawn: Picture | None = None

    def at(self, seconds: float, width: int, height: int) -> Picture:
        """The same at any time."""
        del seconds
        if self.drawn is None or self.drawn.shape[:2] != (height, width):
            plain = np.full((height, width, 3), self.ground, np.uint8)
            self.drawn = pasted(plain, [(text_block(self.words, width, height, self.ink), 0, 0)])
        return self.drawn.copy()
