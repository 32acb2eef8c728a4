"""What uploaders do to a picture, at random strengths: one frame in, its edited copy out.

These are augmentations for training and act on single pictures; whole edited clips are made in
``eval``. Every edit ends in a re-encoding at a random size and quality, as every upload does.
Where a layout hides the frame among other things (a canvas, a foreign picture), what comes out is
what a matcher cuts out of it: the frame with a small error at its borders.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from matcher.views import Picture

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
#: The picture, then one of another film.
ForeignEdit = Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]


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


def heavy_grain(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """No colour, and noise of a standard deviation of 8 to 30 in every pixel."""
    x = np.asarray(picture.convert("L").convert("RGB")).astype(np.float32)
    return _picture(x + rng.normal(0, rng.uniform(8, 30), (*x.shape[:2], 1)))


def low_resolution(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brought to 96 to 160 pixels on the long side, and back."""
    w, h = picture.size
    # A picture that is small already loses a quarter at least.
    scale = min(rng.uniform(96, 160) / max(w, h), 0.75)
    small = picture.resize((max(1, round(w * scale)), max(1, round(h * scale))), Image.Resampling.BILINEAR)
    return small.resize((w, h), Image.Resampling.BILINEAR)


def rotate(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by 3 to 12 degrees either way, and cropped until no corner shows."""
    w, h = picture.size
    degrees = rng.uniform(3, 12) * rng.choice([-1, 1])
    sine, cosine = abs(math.sin(math.radians(degrees))), math.cos(math.radians(degrees))
    # The largest window of the same form whose corners, turned back, lie inside the picture.
    share = min(w / (w * cosine + h * sine), h / (w * sine + h * cosine))
    turned = picture.rotate(degrees, Image.Resampling.BILINEAR)
    return _centre(turned, max(1, int(w * share)), max(1, int(h * share)))


def zoom(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One moment of a slow zoom: 70 to 98 % of each side about the middle, at the old size."""
    w, h = picture.size
    share = rng.uniform(0.7, 0.98)
    x, y = (side * (1 - share) * rng.uniform(0.3, 0.7) for side in (w, h))
    box = (x, y, x + w * share, y + h * share)
    return picture.resize((w, h), Image.Resampling.BICUBIC, box=box)


def filmed_screen(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Filmed off a screen: askew before a dark room, with moiré and a glare."""
    w, h = picture.size
    near = rng.uniform(0, 0.1, 8)
    corners = [
        (w * near[0], h * near[1]), (w * (1 - near[2]), h * near[3]),
        (w * (1 - near[4]), h * (1 - near[5])), (w * near[6], h * (1 - near[7])),
    ]  # fmt: skip
    room = tuple(int(v) for v in rng.integers(0, 50, 3))
    askew = picture.transform(
        (w, h), Image.Transform.PERSPECTIVE, _perspective(corners, w, h), Image.Resampling.BILINEAR,
        fillcolor=room,
    )  # fmt: skip
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    wave = np.sin(x * rng.uniform(0.4, 2.5) + y * rng.uniform(-0.8, 0.8) + rng.uniform(0, 6))
    at, size = rng.uniform(0, 1, 2), rng.uniform(0.08, 0.25)
    distance = (x / w - at[0]) ** 2 + (y / h - at[1]) ** 2
    light = rng.uniform(3, 12) * wave + rng.uniform(20, 110) * np.exp(-distance / (2 * size**2))
    tint = rng.uniform(0.85, 1.1, 3) * rng.uniform(0.7, 1.05)
    lit = np.asarray(askew).astype(np.float32) * tint + light[..., None]
    return _picture(lit)


def stickers(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One to four drawn faces, stars and plates on top."""
    picture = picture.copy()
    w, h = picture.size
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 5))):
        side = max(2.0, min(w, h) * rng.uniform(0.1, 0.28))
        x, y = rng.uniform(0, max(1.0, w - side)), rng.uniform(0, max(1.0, h - side))
        colour, form = _colour(rng), rng.integers(3)
        if form == 0:
            draw.ellipse((x, y, x + side, y + side), fill=colour)
            for eye in (0.3, 0.6):
                draw.ellipse(_part((x, y), side, eye, 0.3, eye + 0.12, 0.45), fill=_colour(rng))
            draw.arc(_part((x, y), side, 0.25, 0.35, 0.75, 0.8), 20, 160, fill=(0, 0, 0), width=2)
        elif form == 1:
            draw.polygon(_star((x + side / 2, y + side / 2), side / 2, rng.uniform(0, 6)), fill=colour)
        else:
            draw.rounded_rectangle(
                (x, y, x + side, y + side / 2), side / 8, fill=colour, outline=_colour(rng)
            )
            draw.text((x + 2, y + 1), "WOW!", fill=_colour(rng), font_size=max(4.0, side / 3))
    return picture


def captioned_bands(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The frame in the middle of a captioned 9:16 canvas, cut out with an error of up to 4 % a side."""
    w, h = picture.size
    band = max(4, (w * 16 // 9 - h) // 2, h // 8)
    canvas = Image.new("RGB", (w, h + 2 * band), _colour(rng))
    draw = ImageDraw.Draw(canvas)
    size = max(4.0, w * rng.uniform(0.07, 0.12))
    # Close enough to the frame that a cut which is too wide takes some of the letters along.
    for y in (band - 1.3 * size, band + h + 0.1 * size):
        draw.text((w * rng.uniform(0, 0.2), y), f"BEST SCENE {int(rng.integers(99))}",
                  fill=_colour(rng), font_size=size)  # fmt: skip
    canvas.paste(picture, (0, band))
    return _cut_with_error(canvas, (0, band, w, band + h), rng.uniform(-0.04, 0.04, 4))


def inset(picture: Image.Image, foreign: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The frame small inside ``foreign``, cut out so that one or two borders show up to 6 % of it."""
    w, h = picture.size
    canvas = foreign.resize((w, h), Image.Resampling.BILINEAR)
    share = rng.uniform(0.35, 0.65)
    iw, ih = max(1, int(w * share)), max(1, int(h * share))
    x, y = int(rng.integers(0, w - iw + 1)), int(rng.integers(0, h - ih + 1))
    canvas.paste(picture.resize((iw, ih), Image.Resampling.BILINEAR), (x, y))
    errors = rng.uniform(-0.02, 0, 4)
    wrong = rng.choice(4, int(rng.integers(1, 3)), replace=False)
    errors[wrong] = rng.uniform(0.02, 0.06, len(wrong))
    return _cut_with_error(canvas, (x, y, x + iw, y + ih), errors)


EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        crop, crop_upright, letterbox, overlay, mirror, recolour, grey_grain, blur, heavy_grain,
        low_resolution, rotate, zoom, filmed_screen, stickers, captioned_bands,
    )
}  # fmt: skip
FOREIGN_EDITS: dict[str, ForeignEdit] = {"inset": inset}
#: Every kind that :func:`edit_picture` knows; ``two`` is two others, one after the other.
KINDS = (*EDITS, *FOREIGN_EDITS, "two")
#: Those that may show a foreign picture.
SHOW_FOREIGN = frozenset({*FOREIGN_EDITS, "two"})


def edit_picture(kind: str, image: Picture, foreign: Picture, rng: np.random.Generator) -> Picture:
    """One edit of ``image`` (h, w, 3), re-encoded.

    Args:
        kind: One of :data:`KINDS`.
        image: The frame.
        foreign: A frame of another film (its own size), for edits that show one.
        rng: Draws every strength; the same state gives the same picture.

    Raises:
        ValueError: The kind is none of these.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown edit {kind!r}: use one of {', '.join(KINDS)}")
    names = rng.choice(KINDS[:-1], 2, replace=False) if kind == "two" else [kind]
    picture = Image.fromarray(image)
    for name in map(str, names):
        if name in FOREIGN_EDITS:
            picture = FOREIGN_EDITS[name](picture, Image.fromarray(foreign), rng)
        else:
            picture = EDITS[name](picture, rng)
    return np.asarray(_reencode(picture, rng))


def _cut_with_error(
    canvas: Image.Image, box: tuple[int, int, int, int], errors: NDArray[np.float64]
) -> Image.Image:
    """Cut ``box`` out, each side (left, top, right, bottom) moved outwards by its share of the box."""
    left, top, right, bottom = box
    w, h = right - left, bottom - top
    x0, y0 = max(0, round(left - errors[0] * w)), max(0, round(top - errors[1] * h))
    x1 = min(canvas.width, round(right + errors[2] * w))
    y1 = min(canvas.height, round(bottom + errors[3] * h))
    return canvas.crop((x0, y0, max(x0 + 1, x1), max(y0 + 1, y1)))


def _perspective(corners: list[tuple[float, float]], w: int, h: int) -> list[float]:
    """The eight numbers by which PIL finds, for a place in the output, the place in a picture (w, h).

    ``corners`` are where the picture's corners come to lie, clockwise from the top left one.
    """
    rows: list[list[float]] = []
    places: list[float] = []
    for (x, y), (u, v) in zip(corners, ((0, 0), (w, 0), (w, h), (0, h)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        places += [u, v]
    return [float(number) for number in np.linalg.solve(np.array(rows), np.array(places))]


def _part(
    at: tuple[float, float], side: float, x0: float, y0: float, x1: float, y1: float
) -> tuple[float, float, float, float]:
    return at[0] + x0 * side, at[1] + y0 * side, at[0] + x1 * side, at[1] + y1 * side


def _star(centre: tuple[float, float], radius: float, turn: float) -> list[tuple[float, float]]:
    points = []
    for number in range(10):
        reach = radius if number % 2 == 0 else radius / 2
        angle = turn + number * math.pi / 5
        points.append((centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)))
    return points


def _centre(picture: Image.Image, w: int, h: int) -> Image.Image:
    x, y = (picture.width - w) // 2, (picture.height - h) // 2
    return picture.crop((x, y, x + w, y + h))


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
