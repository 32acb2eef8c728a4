"""Edits that look at the picture through another camera: turned, zoomed, or filmed off a screen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from eval.edit_base import Edit, EditContext, Picture, TimedFrames, per_frame

Corners = NDArray[np.float64]


def rotate(degrees: float = 6.0) -> Edit:
    """Turned by a fixed angle, clockwise if positive, and enlarged until no corner is empty."""
    if abs(degrees) > 45:
        raise ValueError(f"degrees must be from -45 to 45, got {degrees}")
    angle = np.deg2rad(degrees)

    def change(image: Picture) -> Picture:
        height, width = image.shape[:2]
        aspect = max(width / height, height / width)
        inside = 1 / (np.cos(angle) + aspect * abs(np.sin(angle)))
        c, s = np.cos(angle) * inside, np.sin(angle) * inside
        x, y = width / 2, height / 2
        back = (c, s, x - c * x - s * y, -s, c, y + s * x - c * y)
        return np.asarray(
            Image.fromarray(image).transform(
                (width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR
            )
        )

    return Edit(f"rotation {degrees:.0f}", "light" if abs(degrees) < 3 else "heavy", per_frame(change))


def slow_zoom(factor: float = 1.3, *, x: float = 0.5, y: float = 0.5, is_in: bool = True) -> Edit:
    """Closer and closer, or away, over the whole clip.

    Args:
        factor: How much larger things are at the near end.
        x: Where to, as a share of the room there is.
        y: Likewise.
        is_in: Closer; otherwise away.
    """
    if not 1 <= factor <= 3:
        raise ValueError(f"factor must be from 1 to 3, got {factor}")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        for seconds, image in frames:
            way = min(1.0, seconds / context.duration_seconds)
            share = factor ** -(way if is_in else 1 - way)
            height, width = image.shape[:2]
            left, top = x * width * (1 - share), y * height * (1 - share)
            # Rounding may push the box a hair beyond the edge, which the library refuses.
            box = (left, top, min(width, left + width * share), min(height, top + height * share))
            source = Image.fromarray(image)
            yield seconds, np.asarray(source.resize((width, height), Image.Resampling.BILINEAR, box=box))

    return Edit(f"slow zoom {factor:.2f}", "light" if factor <= 1.35 else "heavy", apply)


# --- Filmed off a screen ---


def _perspective(seen: Corners, source: Corners) -> tuple[float, ...]:
    """The eight numbers that take each ``seen`` point to its ``source`` point, as PIL wants them.

    With (x, y) seen and (u, v) in the source: u = (a x + b y + c) / (g x + h y + 1), and v likewise with
    d, e, f. Multiplied out, four pairs of points make eight linear equations.
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(seen, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(float(number) for number in np.linalg.solve(np.array(rows), np.array(values)))


def _moire(rng: np.random.Generator, height: int, width: int, depth: float) -> list[Image.Image]:
    """Dark bands where the grids of screen and sensor meet, at eight moments of their drift."""
    y, x = np.mgrid[0:height, 0:width]
    bend = 6 * np.sin(y / height * 3 + rng.uniform(0, 6))
    waves = []
    for _ in range(2):
        angle, length = rng.uniform(0, np.pi), rng.uniform(5, 16)
        waves.append((x + bend) * np.cos(angle) / length * 2 * np.pi + y * np.sin(angle) / length * 2 * np.pi)
    drawn = []
    for step in range(8):
        phase = 2 * np.pi * step / 8
        tint = [
            1 - depth * (0.5 + 0.5 * np.cos(waves[0] + phase + k) * np.cos(waves[1] + k)) for k in range(3)
        ]
        drawn.append(Image.fromarray(np.asarray(np.stack(tint, axis=2) * 255, np.uint8)))
    return drawn


def _glare(rng: np.random.Generator, height: int, width: int, level: float) -> Image.Image:
    """Light of a lamp or window on the glass."""
    small = Image.new("L", (width // 8 + 1, height // 8 + 1))
    draw = ImageDraw.Draw(small)
    for _ in range(int(rng.integers(1, 3))):
        x, y = rng.uniform(0.05, 0.95, 2) * small.size
        rx, ry = rng.uniform(0.06, 0.25, 2) * small.size
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=int(255 * level * rng.uniform(0.5, 1)))
    soft = small.filter(ImageFilter.GaussianBlur(max(2, small.height // 9)))
    return soft.resize((width, height), Image.Resampling.BICUBIC).convert("RGB")


class _Room:
    """A screen in a dark room, seen by a hand-held camera: drawn once, then looked at frame by frame."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, strength: float) -> None:
        self.width, self.height = width, height
        self.bezel = max(2, height // 40)
        # The room reaches a quarter of the picture beyond each edge of the screen.
        self.left, self.top = width // 4, height // 4
        wide, high = width + 2 * self.left, height + 2 * self.top
        tone = rng.integers(8, 60, 3)
        light = np.linspace(rng.uniform(0.3, 1), rng.uniform(0.3, 1), wide)[None, :, None]
        wall = np.asarray(np.broadcast_to(light * tone, (high, wide, 3)), np.uint8)
        self.room = Image.fromarray(wall)
        frame = (self.left, self.top, self.left + width - 1, self.top + height - 1)
        grown = (frame[0] - self.bezel, frame[1] - self.bezel, frame[2] + self.bezel, frame[3] + self.bezel)
        ImageDraw.Draw(self.room).rectangle(grown, fill=(12, 12, 14))
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        self.screen = unit * (width, height) + np.array([self.left, self.top])
        self.moire = _moire(rng, height, width, 0.12 + 0.3 * strength)
        self.glare = _glare(rng, height, width, 0.35 + 0.45 * strength)
        # Where the screen's corners are seen: smaller than the picture and askew.
        share = 0.94 - 0.2 * strength
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * share / 2 + 0.5
        askew = rng.uniform(-1, 1, (4, 2)) * (0.02 + 0.06 * strength)
        self.corners = (square + askew) * (width, height)
        self.shake = rng.uniform(0, 2 * np.pi, (2, 2))
        self.reach = (0.002 + 0.006 * strength) * height

    def view(self, image: Picture, seconds: float) -> Picture:
        """What the camera sees at this time."""
        dimmed = ImageChops.multiply(Image.fromarray(image), self.moire[int(seconds * 6) % 8])
        screen = ImageChops.screen(dimmed, self.glare)
        self.room.paste(screen, (self.left, self.top))
        drift = np.sin(self.shake + seconds * np.array([[2.1, 3.3], [5.2, 4.1]])).sum(axis=0) * self.reach
        numbers = _perspective(self.corners + drift, self.screen)
        seen = self.room.transform(
            (self.width, self.height),
            Image.Transform.PERSPECTIVE,
            numbers,
            Image.Resampling.BILINEAR,
            fillcolor=(10, 10, 12),
        )
        return np.asarray(seen)


def filmed_screen(strength: float = 0.5) -> Edit:
    """Filmed off a screen by hand: askew, in a dark room, with moire and glare.

    Args:
        strength: In [0, 1]: how small and askew the screen is seen and how strong its light is disturbed.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in [0, 1], got {strength}")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        room: _Room | None = None
        for seconds, image in frames:
            if room is None:
                room = _Room(context.rng, image.shape[0], image.shape[1], strength)
            yield seconds, room.view(image, seconds)

    return Edit(f"filmed screen {strength:.2f}", "heavy", apply)
