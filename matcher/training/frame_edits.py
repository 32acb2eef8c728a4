"""What uploaders do to a picture, at random strengths: one frame in, its edited copy out.

These are augmentations for training and act on single pictures; whole edited clips are made in
``eval``. Every edit ends in a re-encoding at a random size and quality, as every upload does.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from matcher.views import Picture

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Keep 60 to 95 % of each side, anywhere."""
    w, h = picture.size
    share = rng.uniform(0.6, 0.95)
    return _window(picture, rng, int(w * share), int(h * share))


def crop_upright(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Keep the full height and 40 to 70 % of the width, as for a phone screen."""
    w, h = picture.size
    return _window(picture, rng, int(w * rng.uniform(0.4, 0.7)), h)


def letterbox(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Bars above and below, black or coloured."""
    w, h = picture.size
    bar = int(h * rng.uniform(0.05, 0.2))
    colour = _colour(rng) if rng.random() < 0.5 else (0, 0, 0)
    canvas = Image.new("RGB", (w, h + 2 * bar), colour)
    canvas.paste(picture, (0, bar))
    return canvas


def overlay(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A logo and one to three lines of text."""
    picture = picture.copy()
    w, h = picture.size
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 4))):
        at = (int(rng.integers(0, max(1, w // 2))), int(rng.integers(0, max(1, h - 12))))
        draw.text(at, f"a line of subtitles {int(rng.integers(999))}", fill=_colour(rng))
    side = int(rng.integers(min(10, w // 8), max(11, w // 4)))
    x, y = int(rng.integers(0, max(1, w - side))), int(rng.integers(0, max(1, h - side)))
    draw.ellipse((x, y, x + side, y + side // 2), fill=_colour(rng))
    return picture


def mirror(picture: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001, one signature
    """Left and right exchanged."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def recolour(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Contrast, brightness and a tint."""
    x = np.asarray(picture).astype(np.float32)
    x = (x - 128) * rng.uniform(0.6, 1.5) + 128 + rng.uniform(-40, 40)
    return _picture(x * rng.uniform(0.8, 1.2, 3))


def grey_grain(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """No colour, and film grain."""
    x = np.asarray(picture.convert("L").convert("RGB")).astype(np.float32)
    return _picture(x + rng.normal(0, rng.uniform(3, 18), (*x.shape[:2], 1)))


def blur(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus by half a pixel to three."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3)))


EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (crop, crop_upright, letterbox, overlay, mirror, recolour, grey_grain, blur)
}


def random_edit(image: Picture, rng: np.random.Generator) -> tuple[str, Picture]:
    """One edit of ``image`` (h, w, 3) at random, re-encoded; its name and the edited picture."""
    name = str(rng.choice(list(EDITS)))
    return name, np.asarray(_reencode(EDITS[name](Image.fromarray(image), rng), rng))


def _reencode(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    scale = rng.uniform(0.4, 1.0)
    w, h = (max(16, int(side * scale)) for side in picture.size)
    buffer = io.BytesIO()
    picture.resize((w, h), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=int(rng.integers(20, 80)))
    return Image.open(buffer).convert("RGB")


def _window(picture: Image.Image, rng: np.random.Generator, w: int, h: int) -> Image.Image:
    w, h = max(1, w), max(1, h)
    x = int(rng.integers(0, picture.width - w + 1))
    y = int(rng.integers(0, picture.height - h + 1))
    return picture.crop((x, y, x + w, y + h))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _picture(x: NDArray[np.floating[Any]]) -> Image.Image:
    return Image.fromarray(x.clip(0, 255).astype(np.uint8))
