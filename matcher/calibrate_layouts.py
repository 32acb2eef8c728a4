"""Canvases on which uploaders put a picture, whole: bands, blurred fill, other people's pictures.

Unlike :mod:`matcher.training.frame_edits`, which cuts the picture out again, these leave that to the matcher.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

#: The picture, then one of another program.
Layout = Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]
#: Height of a phone's screen over its width.
UPRIGHT = 16 / 9


def blurred_fill(picture: Image.Image, foreign: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001, one signature
    """9:16, the picture as wide as that before a blurred copy of itself."""
    w, h = picture.width, round(picture.width * UPRIGHT)
    canvas = _covering(picture, w, h).filter(ImageFilter.GaussianBlur(rng.uniform(6, 16)))
    canvas = ImageEnhance.Brightness(canvas).enhance(rng.uniform(0.5, 1.0))
    canvas.paste(picture, (0, round((h - picture.height) * rng.uniform(0.35, 0.65))))
    return canvas


def captioned_canvas(picture: Image.Image, foreign: Image.Image, rng: np.random.Generator) -> Image.Image:  # noqa: ARG001, one signature
    """9:16, the picture as wide as that, lines of text on one colour above and below."""
    w, h = picture.width, round(picture.width * UPRIGHT)
    canvas = Image.new("RGB", (w, h), _colour(rng))
    y = round((h - picture.height) * rng.uniform(0.35, 0.65))
    canvas.paste(picture, (0, y))
    draw, size, ink = ImageDraw.Draw(canvas), w * rng.uniform(0.06, 0.11), _colour(rng)
    for at in (max(0.0, y - 2.0 * size), y + picture.height + 0.7 * size):
        draw.text(
            (w * rng.uniform(0.02, 0.3), at), f"PART {int(rng.integers(99))} OF IT", fill=ink, font_size=size
        )
    return canvas


def inset_over(picture: Image.Image, foreign: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture at 40 to 65 % of the size, anywhere over the foreign one."""
    return _pasted(_covering(foreign, *picture.size), picture, rng.uniform(0.4, 0.65), rng)


def foreign_inset(picture: Image.Image, foreign: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The foreign picture at 20 to 35 % of the size, anywhere over this one."""
    return _pasted(picture.copy(), _covering(foreign, *picture.size), rng.uniform(0.2, 0.35), rng)


def halves(picture: Image.Image, foreign: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Side by side or one above the other, the picture first or second."""
    w, h = picture.size
    pair = [picture, _covering(foreign, w, h)]
    if rng.random() < 0.5:
        pair.reverse()
    is_stacked = rng.random() < 0.5
    canvas = Image.new("RGB", (w, 2 * h) if is_stacked else (2 * w, h))
    canvas.paste(pair[0], (0, 0))
    canvas.paste(pair[1], (0, h) if is_stacked else (w, 0))
    return canvas


#: Layouts of the picture alone, and those that show a foreign one: the clip is then from both programs.
OWN_LAYOUTS: dict[str, Layout] = {f.__name__: f for f in (blurred_fill, captioned_canvas)}
FOREIGN_LAYOUTS: dict[str, Layout] = {f.__name__: f for f in (inset_over, foreign_inset, halves)}


def _covering(picture: Image.Image, w: int, h: int) -> Image.Image:
    """The middle of the picture, enlarged until (w, h) is covered."""
    scale = max(w / picture.width, h / picture.height)
    bw, bh = max(w, round(picture.width * scale)), max(h, round(picture.height * scale))
    x, y = (bw - w) // 2, (bh - h) // 2
    return picture.resize((bw, bh), Image.Resampling.BILINEAR).crop((x, y, x + w, y + h))


def _pasted(canvas: Image.Image, small: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    w, h = max(1, round(small.width * share)), max(1, round(small.height * share))
    at = int(rng.integers(0, canvas.width - w + 1)), int(rng.integers(0, canvas.height - h + 1))
    canvas.paste(small.resize((w, h), Image.Resampling.BILINEAR), at)
    return canvas


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue
