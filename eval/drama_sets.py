"""Paints the sets of generated dramas: textures, furniture, streets and landscapes.

Everything is drawn once for a set, at twice the size of a frame, with Pillow's shapes over noise
textures, so that a shot only has to crop, light and scale it. Colours are (r, g, b) in 0 to 255;
boxes are (x0, y0, x1, y1) in pixels.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
Rng = np.random.Generator

_POOL_SIZE = (640, 1120)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """One colour from hue, saturation and value in [0, 1]; the hue wraps."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return int(255 * red), int(255 * green), int(255 * blue)


def shade(colour: Colour, factor: float) -> Colour:
    """``colour`` made darker (below 1) or lighter (above 1)."""
    red, green, blue = (min(255, max(0, int(channel * factor))) for channel in colour)
    return red, green, blue


@dataclass(frozen=True)
class Palette:
    """The colours that one program is made of.

    Attributes:
        wall: Walls and facades.
        floor: Floors, roads, ground.
        wood: Furniture.
        accents: Five colours for cloth, signs, books and doors.
        sky_top: The sky at the zenith.
        sky_low: The sky at the horizon.
        leaf: Trees and grass.
        water: Sea and river.
        is_night: Windows are lit and the sky has stars.
    """

    wall: Colour
    floor: Colour
    wood: Colour
    accents: tuple[Colour, ...]
    sky_top: Colour
    sky_low: Colour
    leaf: Colour
    water: Colour
    is_night: bool


def make_palette(rng: Rng, *, hue: float, saturation: float, night_chance: float) -> Palette:
    """Draw a palette around one hue; ``saturation`` in [0, 1] goes from bleak to gaudy."""
    is_night = bool(rng.random() < night_chance)
    sky_hue = 0.58 + rng.uniform(-0.08, 0.12)
    return Palette(
        wall=hsv(hue + rng.uniform(-0.06, 0.06), saturation * rng.uniform(0.3, 0.8), rng.uniform(0.5, 0.85)),
        floor=hsv(rng.uniform(0.04, 0.13), rng.uniform(0.15, 0.5), rng.uniform(0.35, 0.65)),
        wood=hsv(rng.uniform(0.03, 0.11), rng.uniform(0.35, 0.7), rng.uniform(0.25, 0.65)),
        accents=tuple(
            hsv(
                hue + offset + rng.uniform(-0.06, 0.06),
                saturation * rng.uniform(0.7, 1.15),
                rng.uniform(0.4, 0.85),
            )
            for offset in (0.0, 0.12, 0.33, 0.5, 0.72)
        ),
        sky_top=hsv(sky_hue + 0.04, 0.6, 0.14 if is_night else rng.uniform(0.5, 0.8)),
        sky_low=hsv(
            rng.choice([sky_hue, 0.07, 0.95]),
            rng.uniform(0.15, 0.45),
            0.3 if is_night else rng.uniform(0.8, 1),
        ),
        leaf=hsv(rng.choice([0.28, 0.33, 0.2, 0.1]), rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.6)),
        water=hsv(rng.uniform(0.46, 0.62), rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.7)),
        is_night=is_night,
    )


@functools.lru_cache(maxsize=1)
def _noise_pool() -> NDArray[np.float32]:
    """(8, h, w) fractal noise in [0, 1]: made once, cropped by everyone."""
    rng = np.random.default_rng(20240611)
    height, width = _POOL_SIZE
    fields = []
    for _ in range(8):
        total = np.zeros(_POOL_SIZE, np.float32)
        for octave in range(7):
            cells = 5 * 2**octave
            small = rng.random((max(2, cells * height // width), cells), dtype=np.float32)
            big = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
            total += 0.6**octave * np.asarray(big)
        low, high = np.percentile(total, [1, 99])
        fields.append(np.clip((total - low) / (high - low), 0, 1))
    return np.stack(fields).astype(np.float32)


def noise(rng: Rng, height: int, width: int, *, stretch: tuple[float, float] = (1, 1)) -> NDArray[np.float32]:
    """(height, width) fractal noise in [0, 1].

    Args:
        rng: Where from and which way round.
        height: Rows, at most 640.
        width: Columns, at most 1120.
        stretch: How many times longer the grain is down and across (1 or more).
    """
    pool = _noise_pool()
    field = pool[rng.integers(len(pool))][:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    need_h = min(_POOL_SIZE[0], max(2, int(np.ceil(height / stretch[0]))))
    need_w = min(_POOL_SIZE[1], max(2, int(np.ceil(width / stretch[1]))))
    top = int(rng.integers(_POOL_SIZE[0] - need_h + 1))
    left = int(rng.integers(_POOL_SIZE[1] - need_w + 1))
    part = np.ascontiguousarray(field[top : top + need_h, left : left + need_w])
    if part.shape == (height, width):
        return part
    wide = Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(wide), 0, 1), np.float32)


def _mix(low: Colour, high: Colour, amount: NDArray[np.float32]) -> Image.Image:
    base = np.asarray(low, np.float32)
    mixed = base + (np.asarray(high, np.float32) - base) * amount[..., None]
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


class _Stage:
    """A canvas with the tools that the painters share."""

    def __init__(self, width: int, height: int, palette: Palette, rng: Rng) -> None:
        self.width, self.height, self.palette, self.rng = width, height, palette, rng
        self.image = Image.new("RGB", (width, height))
        self.draw = ImageDraw.Draw(self.image)

    def at(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        """A pixel box from fractions of the canvas."""
        left, top = int(x0 * self.width), int(y0 * self.height)
        return left, top, max(left + 2, int(x1 * self.width)), max(top + 2, int(y1 * self.height))

    def accent(self) -> Colour:
        return self.palette.accents[int(self.rng.integers(len(self.palette.accents)))]

    def fill(self, box: Box, texture: Image.Image, mask: Image.Image | None = None) -> None:
        self.image.paste(texture, box[:2], mask)

    def rough(
        self, box: Box, colour: Colour, *, depth: float = 0.35, stretch: tuple[float, float] = (1, 1)
    ) -> None:
        """A box of one colour with grain."""
        grain = noise(self.rng, box[3] - box[1], box[2] - box[0], stretch=stretch)
        self.fill(box, _mix(shade(colour, 1 - depth), shade(colour, 1 + depth), grain))

    def rough_polygon(
        self, points: list[tuple[float, float]], colour: Colour, *, depth: float = 0.35
    ) -> None:
        """A polygon (in pixels) of one colour with grain."""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, top = max(0, int(min(xs))), max(0, int(min(ys)))
        right, low = min(self.width, int(max(xs)) + 1), min(self.height, int(max(ys)) + 1)
        if right - left < 2 or low - top < 2:
            return
        mask = Image.new("L", (right - left, low - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
        grain = noise(self.rng, low - top, right - left)
        self.image.paste(_mix(shade(colour, 1 - depth), shade(colour, 1 + depth), grain), (left, top), mask)

    def blob(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float = 0.8) -> None:
        """Adds light around a point."""
        size = int(2 * radius)
        box = (int(x - radius), int(y - radius))
        light = Image.radial_gradient("L").resize((size, size)).point(lambda v: int(max(0, 255 - v * 1.42)))
        layer = Image.new("RGB", self.image.size)
        layer.paste(shade(colour, strength), box, light)
        self.image.paste(ImageChops.add(self.image, layer))

    def sign(self, box: Box, text: str, back: Colour, ink: Colour) -> None:
        self.draw.rectangle(box, fill=back, outline=shade(back, 0.5))
        size = max(8, int((box[3] - box[1]) * 0.75))
        font = ImageFont.load_default(size=size)
        self.draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, fill=ink, font=font, anchor="mm")


def _sky(s: _Stage, low: float) -> None:
    """Sky from the top to the fraction ``low``: gradient, clouds, and stars and a moon or a sun."""
    box = s.at(0, 0, 1, low)
    height, width = box[3] - box[1], box[2] - box[0]
    ramp = np.broadcast_to(np.linspace(0, 1, height, dtype=np.float32)[:, None], (height, width))
    clouds = np.clip(noise(s.rng, height, width, stretch=(1, 2.5)) * 1.8 - s.rng.uniform(0.6, 1.0), 0, 1)
    amount = ramp + clouds * (0.25 if s.palette.is_night else 0.55)
    s.fill(box, _mix(s.palette.sky_top, s.palette.sky_low, np.asarray(amount, np.float32)))
    x, y = s.rng.uniform(0.1, 0.9) * s.width, s.rng.uniform(0.08, low * 0.6) * s.height
    if s.palette.is_night:
        for _ in range(90):
            spot = (s.rng.uniform(0, s.width), s.rng.uniform(0, low * s.height * 0.9))
            s.draw.point(spot, fill=shade((230, 230, 255), s.rng.uniform(0.4, 1)))
        s.blob(x, y, s.height * 0.045, (235, 232, 210))
    else:
        s.glow(x, y, s.height * 0.2, (255, 235, 190))
        s.blob(x, y, s.height * s.rng.uniform(0.03, 0.06), (255, 244, 214))


def _hills(s: _Stage, top: float, low: float, layers: int, colour: Colour, *, jagged: float) -> None:
    for layer in range(layers):
        level = top + (low - top) * layer / layers
        xs = np.linspace(0, s.width, 60)
        profile = sum(
            np.sin(xs / s.width * s.rng.uniform(3, 9) * (k + 1) + s.rng.uniform(0, 6)) / (k + 1)
            for k in range(4)
        )
        ys = (level + 0.07 * (1 - 0.4 * layer / layers) * np.asarray(profile)) * s.height
        ys += s.rng.normal(0, jagged * s.height, len(xs))
        haze = 1 - 0.75 * (1 - (layer + 1) / layers)
        tone = tuple(int(a * haze + b * (1 - haze)) for a, b in zip(colour, s.palette.sky_low, strict=True))
        points = [*zip(xs.tolist(), ys.tolist(), strict=True), (s.width, s.height), (0, s.height)]
        s.rough_polygon(points, (tone[0], tone[1], tone[2]), depth=0.3)


def _tree(s: _Stage, x: float, foot: float, height: float, *, conifer: bool) -> None:
    trunk = shade(s.palette.wood, s.rng.uniform(0.5, 0.9))
    width = height * s.rng.uniform(0.04, 0.07)
    s.draw.polygon(
        [
            (x - width, foot),
            (x + width, foot),
            (x + width / 2, foot - height),
            (x - width / 2, foot - height),
        ],
        fill=trunk,
    )
    for step in range(26):
        tone = shade(s.palette.leaf, s.rng.uniform(0.45, 1.4))
        if conifer:
            level = step / 26
            half = height * 0.28 * (1 - level) + 2
            y = foot - height * (0.18 + 0.85 * level)
            s.draw.polygon([(x - half, y), (x + half, y), (x, y - height * 0.13)], fill=tone)
        else:
            angle, reach = s.rng.uniform(0, 6.28), height * 0.3 * np.sqrt(s.rng.random())
            s.blob(
                x + np.cos(angle) * reach,
                foot - height * 0.85 + np.sin(angle) * reach * 0.8,
                height * s.rng.uniform(0.05, 0.13),
                tone,
            )


def _building(s: _Stage, box: Box, colour: Colour, *, columns: int, rows: int) -> None:
    s.rough(box, colour, depth=0.2)
    left, top, right, low = box
    step_x, step_y = (right - left) / columns, (low - top) / rows
    lit_share = 0.55 if s.palette.is_night else 0.15
    style = int(s.rng.integers(3))
    for row in range(rows):
        for column in range(columns):
            x, y = left + (column + 0.2) * step_x, top + (row + 0.2) * step_y
            lit = s.rng.random() < lit_share
            tone = (
                hsv(s.rng.uniform(0.09, 0.15), 0.45, s.rng.uniform(0.8, 1))
                if lit
                else shade(s.palette.sky_low, s.rng.uniform(0.25, 0.6))
            )
            window = (x, y, x + step_x * 0.6, y + step_y * 0.62)
            s.draw.rectangle(window, fill=tone, outline=shade(colour, 0.55) if style else None)
            if style == 1:
                s.draw.line((x, window[3], window[2], window[3]), fill=shade(colour, 1.5), width=2)
            elif style == 2:
                mid = x + step_x * 0.3
                s.draw.line((mid, y, mid, window[3]), fill=shade(colour, 0.5))


def _skyline(s: _Stage, box: Box, n: int) -> None:
    left, top, right, low = box
    for depth in (0.55, 0.8):
        x = float(left)
        while x < right:
            width = (right - left) / n * s.rng.uniform(0.6, 1.6)
            crest = low - (low - top) * s.rng.uniform(0.3, 1.0) * (1.25 - depth * 0.5)
            body = (int(x), int(max(0, crest)), int(min(right, x + width)), low)
            if body[2] - body[0] > 3 and body[3] - body[1] > 3:
                tone = shade(
                    s.accent() if s.rng.random() < 0.3 else s.palette.wall, depth * s.rng.uniform(0.5, 1)
                )
                rows = max(2, (body[3] - body[1]) // 16)
                _building(s, body, tone, columns=max(2, (body[2] - body[0]) // 14), rows=rows)
            x += width


def _planks(s: _Stage, box: Box, colour: Colour) -> None:
    """A floor of boards that widen towards the viewer."""
    s.rough(box, colour, depth=0.3, stretch=(1, 6))
    left, top, right, low = box
    middle = (left + right) / 2
    for slot in np.linspace(-2.2, 2.2, 22):
        s.draw.line(
            (middle + slot * (right - left) * 0.35, top, middle + slot * (right - left), low),
            fill=shade(colour, 0.55),
        )
    for level in (0.12, 0.3, 0.55, 0.85):
        y = top + (low - top) * level
        s.draw.line((left, y, right, y), fill=shade(colour, 0.6))


def _tiles(s: _Stage, box: Box, colour: Colour, step: int, *, offset: bool) -> None:
    s.rough(box, colour, depth=0.22)
    left, top, right, low = box
    for row, y in enumerate(range(top, low, step)):
        s.draw.line((left, y, right, y), fill=shade(colour, 0.6))
        start = left + (step if offset and row % 2 else 0)
        for x in range(start, right, step * 2 if offset else step):
            tone = shade(colour, s.rng.uniform(0.75, 1.2))
            if s.rng.random() < 0.4:
                s.draw.rectangle((x + 1, y + 1, min(right, x + step - 1), min(low, y + step - 1)), fill=tone)
            s.draw.line((x, y, x, min(low, y + step)), fill=shade(colour, 0.6))


def _wallpaper(s: _Stage, box: Box, colour: Colour) -> None:
    left, top, right, low = box
    style = int(s.rng.integers(5))
    if style == 4:
        return _tiles(s, box, colour, int(s.rng.integers(12, 22)), offset=True)
    s.rough(box, colour, depth=0.18)
    ink, step = shade(colour, s.rng.choice([0.75, 1.2])), int(s.rng.integers(16, 40))
    for row, x in enumerate(range(left, right, step)):
        if style == 0:
            s.draw.rectangle((x, top, x + step // 2, low), fill=ink)
        elif style == 1:
            for y in range(top + (row % 2) * step // 2, low, step):
                s.draw.ellipse((x, y, x + step * 0.4, y + step * 0.4), fill=ink)
        elif style == 2:
            for y in range(top, low, step):
                diamond = [
                    (x + step / 2, y),
                    (x + step, y + step / 2),
                    (x + step / 2, y + step),
                    (x, y + step / 2),
                ]
                s.draw.polygon(diamond, outline=ink)
        else:
            s.draw.line((x, top, x, low), fill=ink, width=2)
    return None


def _window(s: _Stage, box: Box) -> None:
    left, top, right, low = box
    inner = _Stage(right - left, low - top, s.palette, s.rng)
    _sky(inner, 1)
    if s.rng.random() < 0.5:
        _skyline(inner, inner.at(0, 0.35, 1, 1), 7)
    else:
        _hills(inner, 0.6, 1, 2, s.palette.leaf, jagged=0.01)
    s.fill(box, inner.image)
    frame = shade(s.palette.wood, s.rng.choice([0.5, 1.7]))
    s.draw.rectangle(box, outline=frame, width=5)
    for x in np.linspace(left, right, int(s.rng.integers(3, 5)))[1:-1]:
        s.draw.line((x, top, x, low), fill=frame, width=4)
    style, cloth, width = int(s.rng.integers(3)), s.accent(), right - left
    if style == 0:
        for y in range(top, top + int((low - top) * s.rng.uniform(0.3, 0.9)), 6):
            s.draw.line((left, y, right, y), fill=(225, 222, 212), width=3)
    elif style == 1:
        for fold in range(7):
            x, tone = fold * width * 0.045, shade(cloth, 0.65 + 0.4 * (fold % 2))
            s.draw.rectangle((left - 12 + x, top - 8, left - 12 + x + width * 0.05, low + 18), fill=tone)
            s.draw.rectangle((right + 12 - x - width * 0.05, top - 8, right + 12 - x, low + 18), fill=tone)


def _picture(s: _Stage, box: Box) -> None:
    left, top, right, low = box
    low_tone, high_tone = s.accent(), s.accent()
    art = np.round(noise(s.rng, low - top, right - left) * s.rng.integers(3, 9)) / 5
    s.fill(box, _mix(shade(low_tone, 0.6), shade(high_tone, 1.3), np.asarray(art, np.float32)))
    s.draw.rectangle(box, outline=shade(s.palette.wood, s.rng.choice([0.4, 1.8])), width=4)


def _shelf(s: _Stage, box: Box, rows: int) -> None:
    """A bookcase; some boards carry pots instead of books."""
    s.rough(box, shade(s.palette.wood, 0.5), stretch=(4, 1))
    left, top, right, low = box
    step = (low - top) / rows
    for row in range(rows):
        base, x = top + (row + 1) * step - 4, left + 5.0
        while x < right - 8:
            width, height = s.rng.uniform(4, 13), step * s.rng.uniform(0.5, 0.85)
            tone = shade(s.accent(), s.rng.uniform(0.4, 1.1))
            kind = s.rng.random()
            if kind < 0.85:
                s.draw.rectangle((x, base - height, x + width, base), fill=tone, outline=shade(tone, 0.6))
                if width > 8:
                    y = base - height * 0.75
                    s.draw.line((x + 2, y, x + width - 2, y), fill=shade(tone, 1.8), width=2)
            elif kind < 0.93:
                s.draw.ellipse((x, base - step * 0.4, x + 16, base), fill=tone)
                width = 17
            x += width + 1
        s.draw.rectangle((left, base, right, base + 4), fill=shade(s.palette.wood, 0.9))
    s.draw.rectangle(box, outline=shade(s.palette.wood, 0.35), width=4)


def _sofa(s: _Stage, box: Box) -> None:
    left, top, right, low = box
    colour, height, width = s.accent(), low - top, right - left
    s.rough(box, shade(colour, 0.75), depth=0.2)
    seats = int(s.rng.integers(2, 4))
    for seat in range(seats):
        x0, x1 = left + width * seat / seats, left + width * (seat + 1) / seats
        s.draw.rounded_rectangle((x0 + 3, top + height * 0.45, x1 - 3, low - height * 0.2), 8, fill=colour)
        s.draw.rounded_rectangle((x0 + 3, top + 4, x1 - 3, top + height * 0.45), 8, fill=shade(colour, 0.88))
    for x in (float(left), float(right)):
        arm = (x - width * 0.05, top + height * 0.3, x + width * 0.05, low)
        s.draw.rounded_rectangle(arm, 8, fill=shade(colour, 1.15))
    cushion = s.accent()
    x = s.rng.uniform(left + width * 0.1, right - width * 0.3)
    s.draw.rounded_rectangle((x, top + height * 0.2, x + height * 0.45, top + height * 0.6), 6, fill=cushion)


def _table(s: _Stage, box: Box) -> None:
    left, top, right, low = box
    for x in (left + 6.0, right - 12.0):
        s.draw.rectangle((x, top, x + 7, low), fill=shade(s.palette.wood, 0.6))
    s.rough((left, top, right, min(low, top + 11)), s.palette.wood, stretch=(1, 5))
    for _ in range(int(s.rng.integers(3, 7))):
        x, tone = s.rng.uniform(left + 8, right - 22), shade(s.accent(), s.rng.uniform(0.7, 1.4))
        height = s.rng.uniform(8, 30)
        if s.rng.random() < 0.5:
            s.draw.rectangle((x, top - height, x + s.rng.uniform(6, 14), top), fill=tone)
        else:
            s.draw.ellipse((x, top - height * 0.7, x + height * 0.7, top), fill=tone)


def _lamp(s: _Stage, x: float, y: float, *, hanging: bool) -> None:
    size = s.height * s.rng.uniform(0.05, 0.08)
    stem = (x, 0, x, y) if hanging else (x, y, x, s.height * 0.82)
    s.draw.line(stem, fill=shade(s.palette.wood, 0.4), width=3)
    s.draw.polygon(
        [
            (x - size * 0.5, y - size * 0.6),
            (x + size * 0.5, y - size * 0.6),
            (x + size, y + size * 0.5),
            (x - size, y + size * 0.5),
        ],
        fill=shade(s.accent(), 1.2),
    )
    s.glow(x, y + size * 0.5, size * 3.2, (255, 214, 140), 0.6)


def _plant(s: _Stage, x: float, foot: float, height: float) -> None:
    pot = s.accent()
    s.draw.polygon(
        [
            (x - height * 0.16, foot - height * 0.3),
            (x + height * 0.16, foot - height * 0.3),
            (x + height * 0.11, foot),
            (x - height * 0.11, foot),
        ],
        fill=pot,
    )
    for _ in range(22):
        angle, length = s.rng.uniform(-1.3, 1.3), height * s.rng.uniform(0.35, 0.75)
        tip = (x + np.sin(angle) * length, foot - height * 0.3 - np.cos(angle) * length)
        side, middle = height * 0.05, ((x + tip[0]) / 2, (foot - height * 0.3 + tip[1]) / 2)
        s.draw.polygon(
            [(x, foot - height * 0.3), (middle[0] + side, middle[1]), tip, (middle[0] - side, middle[1])],
            fill=shade(s.palette.leaf, s.rng.uniform(0.5, 1.5)),
        )


def _door(s: _Stage, box: Box) -> None:
    left, top, right, low = box
    colour = shade(s.accent(), 0.7)
    s.rough(box, colour, depth=0.25, stretch=(5, 1))
    s.draw.rectangle(box, outline=shade(colour, 0.5), width=4)
    width, height = right - left, low - top
    for y0, y1 in ((0.08, 0.45), (0.53, 0.92)):
        panel = (left + width * 0.18, top + height * y0, right - width * 0.18, top + height * y1)
        s.draw.rectangle(panel, outline=shade(colour, 1.4), width=2)
    s.blob(right - width * 0.1, top + height * 0.5, 4, (220, 190, 90))


def _desk(s: _Stage, box: Box) -> None:
    """A desk with a screen, papers and a chair."""
    left, top, right, low = box
    _table(s, box)
    width = right - left
    screen = (left + width * 0.3, top - width * 0.38, left + width * 0.8, top - width * 0.07)
    s.draw.rectangle(screen, fill=(24, 26, 32), outline=(90, 92, 98), width=3)
    for line in range(6):
        y = screen[1] + 8 + line * (screen[3] - screen[1] - 12) / 6
        ink = shade(s.accent(), 1.2)
        s.draw.line(
            (screen[0] + 8, y, screen[0] + 8 + s.rng.uniform(0.2, 0.8) * width * 0.45, y), fill=ink, width=3
        )
    s.draw.rectangle((left + width * 0.52, screen[3], left + width * 0.58, top), fill=(60, 60, 66))
    seat = s.accent()
    s.draw.rounded_rectangle(
        (left + width * 0.1, top + 10, left + width * 0.35, low + 6), 10, fill=shade(seat, 0.7)
    )


def _room(s: _Stage) -> float:
    """Wall, skirting board and floor; gives the floor's line as a fraction of the height."""
    line = s.rng.uniform(0.66, 0.76)
    _wallpaper(s, s.at(0, 0, 1, line), s.palette.wall)
    if s.rng.random() < 0.6:
        _planks(s, s.at(0, line, 1, 1), s.palette.floor)
    else:
        _tiles(s, s.at(0, line, 1, 1), s.palette.floor, 26, offset=False)
    s.draw.rectangle(s.at(0, line - 0.025, 1, line), fill=shade(s.palette.wood, s.rng.choice([0.5, 1.6])))
    return line


def _living(s: _Stage) -> None:
    line = _room(s)
    x = s.rng.uniform(0.04, 0.5)
    _window(s, s.at(x, 0.1, x + 0.28, 0.5))
    others = [slot for slot in (0.05, 0.24, 0.42, 0.62, 0.8) if not x - 0.18 < slot < x + 0.3]
    for slot in others:
        y = s.rng.uniform(0.1, 0.25)
        _picture(s, s.at(slot, y, slot + s.rng.uniform(0.08, 0.14), y + s.rng.uniform(0.14, 0.24)))
    shelf = s.rng.choice([0.03, 0.8])
    _shelf(s, s.at(shelf, 0.22, shelf + 0.17, line + 0.06), int(s.rng.integers(4, 6)))
    sofa = s.rng.uniform(0.25, 0.45)
    _sofa(s, s.at(sofa, line - 0.14, sofa + 0.33, line + 0.12))
    s.draw.ellipse(s.at(0.2, 0.88, 0.85, 1.06), fill=s.accent(), outline=s.accent(), width=6)
    _lamp(s, s.rng.uniform(0.1, 0.9) * s.width, 0.32 * s.height, hanging=bool(s.rng.random() < 0.5))
    _plant(
        s, s.rng.uniform(0.15, 0.95) * s.width, (line + 0.1) * s.height, s.height * s.rng.uniform(0.22, 0.42)
    )


def _office(s: _Stage) -> None:
    line = _room(s)
    for slot in np.arange(0.03, 0.9, 0.24):
        _window(s, s.at(slot, 0.07, slot + 0.2, 0.42))
    _shelf(s, s.at(0.84, 0.2, 0.99, line + 0.05), 5)
    s.draw.ellipse(s.at(0.46, 0.02, 0.5, 0.09), fill=(240, 240, 235), outline=(30, 30, 30), width=2)
    for slot in np.arange(s.rng.uniform(0, 0.1), 0.85, s.rng.uniform(0.24, 0.32)):
        _desk(s, s.at(slot, line - 0.03, slot + 0.2, line + 0.17))
    _plant(s, s.rng.uniform(0.1, 0.8) * s.width, (line + 0.12) * s.height, s.height * 0.3)


def _kitchen(s: _Stage) -> None:
    line = s.rng.uniform(0.68, 0.75)
    _tiles(s, s.at(0, 0, 1, line), shade(s.palette.wall, 1.15), int(s.rng.integers(16, 26)), offset=True)
    _tiles(s, s.at(0, line, 1, 1), s.palette.floor, 30, offset=False)
    colour = s.accent()
    for slot in np.arange(0.02, 0.95, 0.14):
        if s.rng.random() < 0.75:
            cupboard = s.at(slot, 0.04, slot + 0.13, 0.3)
            s.rough(cupboard, colour, depth=0.15)
            s.draw.rectangle(cupboard, outline=shade(colour, 0.6), width=3)
        s.rough(s.at(slot, 0.53, slot + 0.13, line + 0.06), shade(colour, 0.85), depth=0.15)
        s.draw.rectangle(s.at(slot, 0.53, slot + 0.13, line + 0.06), outline=shade(colour, 0.5), width=3)
        s.blob((slot + 0.11) * s.width, 0.6 * s.height, 3, (230, 230, 220))
    s.rough(s.at(0, 0.5, 1, 0.54), shade(s.palette.wood, 1.3), stretch=(1, 6))
    for _ in range(16):
        x, tone = s.rng.uniform(0.02, 0.95) * s.width, shade(s.accent(), s.rng.uniform(0.6, 1.4))
        size = s.height * s.rng.uniform(0.03, 0.1)
        base = 0.5 * s.height
        if s.rng.random() < 0.5:
            s.draw.rectangle((x, base - size, x + size * 0.7, base), fill=tone, outline=shade(tone, 0.6))
        else:
            s.draw.ellipse((x, base - size, x + size, base), fill=tone)
    fridge = s.at(0.84, 0.18, 0.98, line + 0.08)
    s.rough(fridge, shade((205, 208, 214), 0.9), depth=0.1, stretch=(6, 1))
    s.draw.line((fridge[0], 0.4 * s.height, fridge[2], 0.4 * s.height), fill=(110, 110, 115), width=3)
    for slot in (0.25, 0.5, 0.7):
        _lamp(s, slot * s.width, 0.22 * s.height, hanging=True)


def _classroom(s: _Stage) -> None:
    line = _room(s)
    board = s.at(0.25, 0.1, 0.78, 0.46)
    s.rough(board, hsv(s.rng.choice([0.4, 0.6]), 0.4, 0.25), depth=0.25)
    s.draw.rectangle(board, outline=s.palette.wood, width=6)
    for line_number in range(5):
        y, x = board[1] + 18.0 + line_number * 24, board[0] + 20.0
        while x < board[2] - 40:
            width = s.rng.uniform(8, 40)
            s.draw.line((x, y, x + width, y + s.rng.uniform(-3, 3)), fill=(215, 220, 215), width=2)
            x += width + s.rng.uniform(5, 30)
    _window(s, s.at(0.02, 0.08, 0.2, 0.5))
    for slot in (0.82, 0.91):
        _picture(s, s.at(slot, 0.1, slot + 0.07, 0.3))
    for row, scale in ((line, 0.12), (line + 0.12, 0.17)):
        for slot in np.arange(s.rng.uniform(0, 0.08), 0.95, scale * 1.5):
            _table(s, s.at(slot, row, slot + scale, row + scale))


def _library(s: _Stage) -> None:
    line = _room(s)
    for slot in np.arange(0, 1, 0.2):
        _shelf(s, s.at(slot, 0.03, slot + 0.19, line + 0.05), int(s.rng.integers(5, 8)))
    _table(s, s.at(0.3, line + 0.04, 0.7, line + 0.2))
    for slot in (0.2, 0.5, 0.8):
        _lamp(s, slot * s.width, 0.16 * s.height, hanging=True)


def _bar(s: _Stage) -> None:
    s.rough(s.at(0, 0, 1, 1), shade(s.palette.wall, 0.35))
    for level in (0.14, 0.3, 0.46):
        s.rough(s.at(0.05, level + 0.12, 0.95, level + 0.14), s.palette.wood, stretch=(1, 5))
        x = 0.06 * s.width
        while x < 0.93 * s.width:
            tone, base, size = (
                shade(s.accent(), s.rng.uniform(0.5, 1.4)),
                (level + 0.12) * s.height,
                s.height * 0.09,
            )
            s.draw.rectangle((x, base - size * 0.7, x + 10, base), fill=tone)
            s.draw.rectangle(
                (x + 3, base - size * s.rng.uniform(0.85, 1.2), x + 7, base - size * 0.6), fill=tone
            )
            x += s.rng.uniform(12, 26)
    s.rough(s.at(0, 0.66, 1, 1), shade(s.palette.wood, 0.8), stretch=(1, 8))
    s.rough(s.at(0, 0.63, 1, 0.68), shade(s.palette.wood, 1.5), stretch=(1, 8))
    for slot in np.arange(0.06, 0.95, 0.15):
        seat = s.at(slot, 0.74, slot + 0.09, 0.79)
        s.draw.ellipse(seat, fill=s.accent())
        s.draw.line(
            ((slot + 0.045) * s.width, seat[3], (slot + 0.045) * s.width, s.height),
            fill=(150, 150, 155),
            width=4,
        )
    for _ in range(9):
        x, y = s.rng.uniform(0, s.width), s.rng.uniform(0, 0.5 * s.height)
        s.glow(x, y, s.height * s.rng.uniform(0.08, 0.3), s.accent(), 0.55)
    s.sign(
        s.at(0.36, 0.02, 0.64, 0.12),
        str(s.rng.choice(["COCKTAILS", "JAZZ", "BLUE ROOM", "OPEN LATE"])),
        (20, 14, 24),
        s.accent(),
    )


def _corridor(s: _Stage) -> None:
    cx, cy = s.rng.uniform(0.4, 0.6), s.rng.uniform(0.42, 0.5)
    w, h = s.width, s.height
    far = (cx * w - 0.12 * w, cy * h - 0.16 * h, cx * w + 0.12 * w, cy * h + 0.2 * h)
    s.rough_polygon([(0, 0), (w, 0), (far[2], far[1]), (far[0], far[1])], shade(s.palette.wall, 1.2))
    s.rough_polygon([(0, h), (w, h), (far[2], far[3]), (far[0], far[3])], s.palette.floor)
    s.rough_polygon([(0, 0), (far[0], far[1]), (far[0], far[3]), (0, h)], s.palette.wall)
    s.rough_polygon([(w, 0), (far[2], far[1]), (far[2], far[3]), (w, h)], shade(s.palette.wall, 0.8))
    _window(s, (int(far[0]), int(far[1]), int(far[2]), int(far[3])))
    for side, x_far in ((0.0, far[0]), (float(w), far[2])):
        for near, deep in ((0.05, 0.3), (0.45, 0.62), (0.72, 0.84)):
            xs = [side + (x_far - side) * part for part in (near, deep)]
            tops = [h * 0.16 + (far[1] + 20 - h * 0.16) * part for part in (near, deep)]
            lows = [h + (far[3] - h) * part for part in (near, deep)]
            points = [(xs[0], tops[0]), (xs[1], tops[1]), (xs[1], lows[1]), (xs[0], lows[0])]
            s.rough_polygon(points, shade(s.accent(), 0.8))
            s.draw.polygon(points, outline=shade(s.palette.wood, 0.5))
    for part in (0.1, 0.4, 0.65, 0.85):
        x, y = w / 2 + (cx * w - w / 2) * part, far[1] * part
        size = w * 0.09 * (1.1 - part)
        s.draw.rectangle((x - size, y, x + size, y + size * 0.25), fill=(250, 248, 225))
        s.glow(x, y, size * 1.8, (255, 250, 220), 0.5)


def _palace(s: _Stage) -> None:
    line = s.rng.uniform(0.68, 0.75)
    _wallpaper(s, s.at(0, 0, 1, line), shade(s.palette.wall, 0.7))
    _tiles(s, s.at(0, line, 1, 1), s.palette.floor, 34, offset=False)
    for slot in np.arange(0.06, 0.95, 0.24):
        lattice = s.at(slot, 0.2, slot + 0.16, line)
        s.rough(lattice, shade((240, 220, 170), 0.9), depth=0.15)
        step = int(s.rng.integers(9, 16))
        for x in range(lattice[0], lattice[2], step):
            s.draw.line((x, lattice[1], x, lattice[3]), fill=shade(s.palette.wood, 0.6), width=2)
        for y in range(lattice[1], lattice[3], step):
            s.draw.line((lattice[0], y, lattice[2], y), fill=shade(s.palette.wood, 0.6), width=2)
    beam = s.palette.accents[2]
    s.rough(s.at(0, 0, 1, 0.13), beam, depth=0.3)
    for x in range(0, s.width, 28):
        s.draw.rectangle(
            (x, int(0.04 * s.height), x + 18, int(0.1 * s.height)),
            fill=s.palette.accents[1],
            outline=(230, 190, 80),
        )
    for slot in np.arange(0, 1, 0.24):
        s.rough(s.at(slot, 0.08, slot + 0.045, line + 0.08), shade(s.palette.accents[0], 0.9), stretch=(6, 1))
        s.rough(s.at(slot - 0.01, line + 0.05, slot + 0.055, line + 0.1), (150, 145, 140))
    throne = s.rng.uniform(0.3, 0.6)
    s.rough(s.at(throne, line - 0.3, throne + 0.14, line + 0.04), (170, 120, 40))
    s.rough(s.at(throne + 0.02, line - 0.24, throne + 0.12, line), s.accent())
    for _ in range(5):
        hang, drop = s.rng.uniform(0.05, 0.95) * s.width, s.rng.uniform(0.16, 0.3) * s.height
        s.draw.line((hang, 0.1 * s.height, hang, drop), fill=(40, 20, 10), width=2)
        s.draw.ellipse(
            (hang - 13, drop, hang + 13, drop + 30), fill=(225, 60, 40), outline=(250, 200, 90), width=2
        )
        s.glow(hang, drop + 15, 50, (255, 150, 70), 0.5)


def _spaceship(s: _Stage) -> None:
    s.rough(s.at(0, 0, 1, 1), hsv(0.6, 0.12, 0.3))
    _tiles(s, s.at(0, 0.72, 1, 1), hsv(0.6, 0.1, 0.25), 36, offset=False)
    port = s.at(0.2, 0.1, 0.8, 0.5)
    sky = noise(s.rng, port[3] - port[1], port[2] - port[0])
    s.fill(port, _mix((4, 5, 16), shade(s.accent(), 0.6), np.asarray(sky**3, np.float32)))
    for _ in range(150):
        spot = (s.rng.uniform(port[0], port[2]), s.rng.uniform(port[1], port[3]))
        s.draw.point(spot, fill=(230, 235, 255))
    x, y = s.rng.uniform(0.3, 0.7) * s.width, s.rng.uniform(0.2, 0.42) * s.height
    radius = s.height * s.rng.uniform(0.05, 0.12)
    s.blob(x, y, radius, s.accent())
    s.draw.ellipse(
        (x - radius * 1.7, y - 5, x + radius * 1.7, y + 5), outline=shade(s.accent(), 1.3), width=2
    )
    s.draw.rectangle(port, outline=(130, 136, 150), width=8)
    for slot in np.arange(0, 1, 0.07):
        s.draw.line((slot * s.width, 0, slot * s.width, 0.1 * s.height), fill=(30, 34, 42), width=3)
        for level in (0.55, 0.6, 0.65):
            for k in range(5):
                lamp = s.at(slot + k * 0.012, level, slot + k * 0.012 + 0.008, level + 0.02)
                s.draw.rectangle(lamp, fill=shade(s.accent(), s.rng.choice([0.3, 1.2])))
    for slot in (0.03, 0.85):
        _picture(s, s.at(slot, 0.15, slot + 0.12, 0.45))
    for slot in np.arange(0.08, 0.9, s.rng.uniform(0.2, 0.3)):
        _desk(s, s.at(slot, 0.7, slot + 0.16, 0.86))


def _street(s: _Stage) -> None:
    _sky(s, 0.6)
    _skyline(s, s.at(0, 0.1, 1, 0.6), 9)
    x = 0.0
    names = ["BAKERY", "HOTEL", "NOODLES", "BOOKS", "CINEMA", "TAILOR", "TEA", "MUSIC", "24 H", "PHARMACY"]
    while x < 1:
        width = s.rng.uniform(0.14, 0.26)
        top, tone = (
            s.rng.uniform(0.02, 0.3),
            shade(s.accent() if s.rng.random() < 0.5 else s.palette.wall, s.rng.uniform(0.5, 1)),
        )
        body = s.at(x, top, min(1, x + width), 0.78)
        _building(s, body, tone, columns=int(s.rng.integers(3, 6)), rows=int(s.rng.integers(4, 8)))
        shop = s.at(x + 0.01, 0.6, min(1, x + width - 0.01), 0.78)
        s.rough(shop, (60, 52, 48) if not s.palette.is_night else (220, 180, 110), depth=0.4)
        s.sign(
            s.at(x + 0.02, 0.54, min(1, x + width - 0.02), 0.6),
            str(s.rng.choice(names)),
            s.accent(),
            (245, 240, 225),
        )
        awning = s.at(x + 0.01, 0.61, min(1, x + width - 0.01), 0.65)
        cloth = s.accent()
        for k, left in enumerate(range(awning[0], awning[2], 10)):
            stripe = cloth if k % 2 else (240, 236, 226)
            s.draw.rectangle((left, awning[1], min(awning[2], left + 10), awning[3]), fill=stripe)
        x += width
    s.rough(s.at(0, 0.77, 1, 0.83), (150, 146, 140), depth=0.2)
    s.rough(s.at(0, 0.83, 1, 1), (66, 66, 72), depth=0.3, stretch=(1, 3))
    for slot in np.arange(0, 1, 0.12):
        s.draw.rectangle(s.at(slot, 0.9, slot + 0.06, 0.915), fill=(220, 215, 190))
    for slot in s.rng.uniform(0, 0.85, 3):
        _car(s, s.at(slot, 0.78, slot + 0.16, 0.9))
    for slot in np.arange(s.rng.uniform(0, 0.2), 1, 0.33):
        s.draw.line(
            (slot * s.width, 0.3 * s.height, slot * s.width, 0.82 * s.height), fill=(40, 42, 46), width=5
        )
        s.blob(slot * s.width, 0.3 * s.height, 8, (255, 240, 190))
        if s.palette.is_night:
            s.glow(slot * s.width, 0.3 * s.height, 90, (255, 220, 140), 0.6)


def _car(s: _Stage, box: Box) -> None:
    left, top, right, low = box
    colour, width, height = s.accent(), right - left, low - top
    roof = [(left + width * 0.2, top + height * 0.45), (left + width * 0.32, top), (left + width * 0.7, top)]
    s.draw.polygon(
        [*roof, (left + width * 0.85, top + height * 0.45)], fill=(170, 195, 205), outline=shade(colour, 0.6)
    )
    s.draw.rounded_rectangle(
        (left, top + height * 0.4, right, low - height * 0.12), 8, fill=colour, outline=shade(colour, 0.6)
    )
    for part in (0.22, 0.78):
        s.blob(left + width * part, low - height * 0.12, height * 0.2, (20, 20, 22))
        s.blob(left + width * part, low - height * 0.12, height * 0.09, (160, 160, 165))


def _city(s: _Stage) -> None:
    _sky(s, 0.9)
    _skyline(s, s.at(0, 0.15, 1, 0.86), 12)
    s.rough(s.at(0, 0.84, 1, 1), shade(s.palette.floor, 0.7))
    s.draw.rectangle(s.at(0, 0.8, 1, 0.82), fill=(50, 52, 58))
    for slot in np.arange(0, 1, 0.03):
        s.draw.line(
            (slot * s.width, 0.8 * s.height, slot * s.width, 0.9 * s.height), fill=(50, 52, 58), width=3
        )


def _forest(s: _Stage) -> None:
    _sky(s, 0.6)
    _hills(s, 0.35, 0.6, 2, shade(s.palette.leaf, 0.7), jagged=0.012)
    s.rough(s.at(0, 0.6, 1, 1), shade(s.palette.leaf, 0.6), depth=0.5, stretch=(1, 2))
    s.rough_polygon(
        [
            (0.42 * s.width, 0.6 * s.height),
            (0.5 * s.width, 0.6 * s.height),
            (0.85 * s.width, s.height),
            (0.2 * s.width, s.height),
        ],
        s.palette.floor,
    )
    conifer = bool(s.rng.random() < 0.5)
    for foot in np.sort(s.rng.uniform(0.58, 0.95, 16)):
        near = (foot - 0.5) * 2
        _tree(s, s.rng.uniform(0, s.width), foot * s.height, s.height * (0.35 + 0.5 * near), conifer=conifer)


def _valley(s: _Stage) -> None:
    _sky(s, 0.65)
    _hills(s, s.rng.uniform(0.2, 0.35), 0.6, 3, s.palette.wall, jagged=0.015)
    _hills(s, 0.6, 0.95, 3, s.palette.leaf, jagged=0.003)
    for foot in np.sort(s.rng.uniform(0.68, 0.9, 9)):
        size = s.height * (foot - 0.55) * 0.7
        if s.rng.random() < 0.6:
            _tree(s, s.rng.uniform(0, s.width), foot * s.height, size * 1.6, conifer=False)
        else:
            _house(s, s.rng.uniform(0, 0.9) * s.width, foot * s.height, size)


def _house(s: _Stage, x: float, foot: float, size: float) -> None:
    body = (int(x), int(foot - size * 0.7), int(x + size * 1.2) + 4, int(foot) + 3)
    s.rough(body, shade(s.palette.wall, 1.1), depth=0.15)
    roof = [
        (x - size * 0.2, foot - size * 0.68),
        (x + size * 0.6, foot - size * 1.3),
        (x + size * 1.4, foot - size * 0.68),
    ]
    s.rough_polygon(roof, shade(s.accent(), 0.8))
    s.draw.rectangle(
        (x + size * 0.15, foot - size * 0.5, x + size * 0.4, foot - size * 0.25),
        fill=(250, 225, 150),
        outline=(60, 40, 30),
    )
    s.draw.rectangle(
        (x + size * 0.7, foot - size * 0.45, x + size * 0.95, foot), fill=s.palette.wood, outline=(60, 40, 30)
    )


def _village(s: _Stage) -> None:
    _sky(s, 0.6)
    _hills(s, 0.4, 0.6, 2, s.palette.leaf, jagged=0.004)
    s.rough(s.at(0, 0.62, 1, 1), s.palette.floor, depth=0.35)
    for foot in np.sort(s.rng.uniform(0.64, 0.86, 7)):
        _house(s, s.rng.uniform(-0.05, 0.9) * s.width, foot * s.height, s.height * (foot - 0.4) * 0.8)
    for foot in np.sort(s.rng.uniform(0.66, 0.9, 6)):
        _tree(s, s.rng.uniform(0, s.width), foot * s.height, s.height * foot * 0.5, conifer=False)
    for x in range(0, s.width, 26):
        s.draw.rectangle((x, 0.88 * s.height, x + 7, 0.98 * s.height), fill=shade(s.palette.wood, 1.2))
    s.draw.rectangle(s.at(0, 0.91, 1, 0.925), fill=shade(s.palette.wood, 1.1))


def _sea(s: _Stage) -> None:
    line = s.rng.uniform(0.4, 0.55)
    _sky(s, line)
    if s.rng.random() < 0.6:
        _hills(s, line - 0.1, line, 2, s.palette.wall, jagged=0.01)
    box = s.at(0, line, 1, 1)
    ripples = noise(s.rng, box[3] - box[1], box[2] - box[0], stretch=(1, 7))
    s.fill(
        box,
        _mix(shade(s.palette.water, 0.55), shade(s.palette.water, 1.7), np.asarray(ripples**1.5, np.float32)),
    )
    for _ in range(5):
        x, y = s.rng.uniform(0, s.width), s.rng.uniform(line + 0.02, 0.75) * s.height
        size = s.height * 0.05 + (y / s.height - line) * s.height * 0.5
        s.draw.polygon(
            [
                (x - size, y),
                (x + size, y),
                (x + size * 0.7, y + size * 0.3),
                (x - size * 0.7, y + size * 0.3),
            ],
            fill=s.accent(),
        )
        s.draw.polygon([(x, y - size * 1.6), (x, y - 4), (x + size * 0.8, y - 4)], fill=(238, 234, 222))
        s.draw.line((x, y, x, y - size * 1.7), fill=(60, 40, 30), width=2)
    if s.rng.random() < 0.6:
        points = [(0.0, 0.86 * s.height), (0.35 * s.width, 0.8 * s.height), (s.width, 0.9 * s.height)]
        s.rough_polygon([*points, (s.width, s.height), (0, s.height)], (205, 180, 130), depth=0.2)
    else:
        _planks(s, s.at(0, 0.84, 1, 1), s.palette.wood)


def _courtyard(s: _Stage) -> None:
    _sky(s, 0.6)
    _hills(s, 0.3, 0.6, 2, s.palette.leaf, jagged=0.01)
    s.rough(s.at(0, 0.35, 1, 0.74), shade(s.palette.wall, 0.9))
    w, h = s.width, s.height
    x = -0.05
    while x < 1:
        width, top = s.rng.uniform(0.25, 0.42), s.rng.uniform(0.16, 0.28)
        s.rough(
            s.at(max(0, x + 0.03), top + 0.16, min(1, x + width - 0.03), 0.74),
            shade(s.palette.accents[0], 0.75),
        )
        eave, ridge = (top + 0.17) * h, top * h
        roof = [((x - 0.02) * w, eave - 8), ((x + 0.06) * w, ridge + 14), ((x + width * 0.3) * w, ridge)]
        roof += [
            ((x + width * 0.7) * w, ridge),
            ((x + width - 0.06) * w, ridge + 14),
            ((x + width + 0.02) * w, eave - 8),
        ]
        s.rough_polygon(
            [*roof, ((x + width - 0.02) * w, eave + 6), ((x + 0.02) * w, eave + 6)],
            shade(s.palette.accents[3], 0.5),
        )
        for k in np.linspace(0.02, width - 0.02, 14):
            s.draw.line(
                ((x + k) * w, eave, (x + width * 0.2 + k * 0.6) * w, ridge + 2),
                fill=shade(s.palette.accents[3], 0.8),
            )
        for k in np.linspace(0.04, width - 0.06, 4):
            s.rough(
                s.at(max(0, x + k), top + 0.19, max(0.01, x + k + 0.02), 0.76),
                s.palette.accents[0],
                stretch=(5, 1),
            )
        x += width + 0.02
    _tiles(s, s.at(0, 0.74, 1, 1), shade(s.palette.floor, 1.1), 30, offset=True)
    for slot in s.rng.uniform(0.05, 0.95, 2):
        _tree(s, slot * w, 0.82 * h, 0.5 * h, conifer=False)
    for slot in s.rng.uniform(0.05, 0.95, 4):
        s.draw.ellipse((slot * w - 11, 0.4 * h, slot * w + 11, 0.46 * h), fill=(230, 66, 44))


def _market(s: _Stage) -> None:
    _sky(s, 0.4)
    _skyline(s, s.at(0, 0.08, 1, 0.6), 10)
    s.rough(s.at(0, 0.58, 1, 1), s.palette.floor, depth=0.35)
    for row, scale in ((0.48, 0.2), (0.6, 0.28)):
        for slot in np.arange(s.rng.uniform(-0.1, 0), 1, scale * 1.2):
            cloth = s.accent()
            roof = s.at(max(0, slot), row - 0.2, min(1, slot + scale), row - 0.1)
            for k, x in enumerate(range(roof[0], roof[2], 14)):
                stripe = cloth if k % 2 else (242, 236, 220)
                s.draw.polygon(
                    [(x + 4, roof[1]), (x + 14, roof[1]), (x + 14, roof[3]), (x, roof[3])], fill=stripe
                )
            for post in (slot + 0.01, slot + scale - 0.02):
                s.draw.line(
                    (post * s.width, roof[3], post * s.width, (row + 0.2) * s.height),
                    fill=shade(s.palette.wood, 0.6),
                    width=4,
                )
            for crate in range(4):
                x0 = slot + scale * crate / 4
                tone = hsv(s.rng.random(), 0.75, s.rng.uniform(0.6, 0.95))
                s.rough(s.at(max(0, x0), row + 0.07, max(0.01, x0 + scale / 4.4), row + 0.18), s.palette.wood)
                for _ in range(22):
                    spot = (
                        s.rng.uniform(x0, x0 + scale / 4.6) * s.width,
                        s.rng.uniform(row + 0.02, row + 0.08) * s.height,
                    )
                    s.blob(*spot, s.height * 0.014, shade(tone, s.rng.uniform(0.6, 1.2)))


def _desert(s: _Stage) -> None:
    _sky(s, 0.62)
    sand = hsv(s.rng.uniform(0.05, 0.11), 0.5, 0.8)
    _hills(s, 0.42, 0.9, 4, sand, jagged=0.002)
    for _ in range(9):
        x, y = s.rng.uniform(0, s.width), s.rng.uniform(0.6, 0.9) * s.height
        size = s.height * s.rng.uniform(0.03, 0.14)
        rock = [
            (x + np.cos(a) * size * s.rng.uniform(0.7, 1.3), y + np.sin(a) * size * 0.6)
            for a in np.linspace(0, 6.28, 9)
        ]
        s.rough_polygon(rock, shade(s.palette.wood, s.rng.uniform(0.7, 1.3)), depth=0.5)


def _peaks(s: _Stage) -> None:
    _sky(s, 0.7)
    for layer in range(3):
        for _ in range(5):
            x, top = (
                s.rng.uniform(-0.1, 1.1) * s.width,
                s.rng.uniform(0.1, 0.35) * s.height + layer * 0.12 * s.height,
            )
            half, foot = s.width * s.rng.uniform(0.12, 0.25), 0.8 * s.height
            tone = shade(s.palette.wall, 0.5 + 0.15 * layer)
            s.rough_polygon([(x - half, foot), (x, top), (x + half, foot)], tone, depth=0.5)
            snow = [
                (x, top),
                (x + half * 0.3, top + (foot - top) * 0.3),
                (x + half * 0.08, top + (foot - top) * 0.22),
            ]
            snow += [(x - half * 0.05, top + (foot - top) * 0.34), (x - half * 0.3, top + (foot - top) * 0.3)]
            s.rough_polygon(snow, (215, 222, 232), depth=0.15)
    s.rough(s.at(0, 0.78, 1, 1), (200, 208, 220) if s.rng.random() < 0.5 else s.palette.leaf, depth=0.2)
    for foot in np.sort(s.rng.uniform(0.78, 0.97, 11)):
        _tree(s, s.rng.uniform(0, s.width), foot * s.height, s.height * 0.3, conifer=True)


def _stadium(s: _Stage) -> None:
    s.rough(s.at(0, 0, 1, 0.6), shade(s.palette.wall, 0.4))
    for row in np.arange(0.08, 0.56, 0.035):
        for x in np.arange(0, 1, 0.014):
            spot = ((x + s.rng.uniform(-0.003, 0.003)) * s.width, row * s.height)
            s.blob(*spot, s.height * 0.011, shade(s.accent(), s.rng.uniform(0.4, 1.2)))
    s.rough(s.at(0, 0.58, 1, 0.64), shade(s.accent(), 0.8))
    s.sign(
        s.at(0.3, 0.585, 0.7, 0.635),
        str(s.rng.choice(["GRAND FINAL", "LIVE", "SEASON OPEN"])),
        (22, 22, 30),
        (250, 240, 200),
    )
    for k, top in enumerate(np.linspace(0.64, 1, 8)):
        s.rough(s.at(0, top, 1, top + 0.06), shade(s.palette.leaf, 1.2 if k % 2 else 0.95), depth=0.15)
    s.draw.ellipse(s.at(0.3, 0.72, 0.7, 0.95), outline=(240, 240, 235), width=3)
    for slot in (0.1, 0.5, 0.9):
        s.glow(slot * s.width, 0.03 * s.height, s.height * 0.3, (255, 255, 235), 0.7)


PAINTERS: dict[str, Callable[[_Stage], None]] = {
    "living": _living,
    "office": _office,
    "kitchen": _kitchen,
    "classroom": _classroom,
    "library": _library,
    "bar": _bar,
    "corridor": _corridor,
    "palace": _palace,
    "spaceship": _spaceship,
    "street": _street,
    "city": _city,
    "forest": _forest,
    "valley": _valley,
    "village": _village,
    "sea": _sea,
    "courtyard": _courtyard,
    "market": _market,
    "desert": _desert,
    "peaks": _peaks,
    "stadium": _stadium,
}


def paint_set(kind: str, palette: Palette, rng: Rng, width: int, height: int) -> Image.Image:
    """Paint one set.

    Args:
        kind: A key of ``PAINTERS``.
        palette: The program's colours.
        rng: Decides everything else.
        width: Of the picture, at most 1120.
        height: Of the picture, at most 640.

    Returns:
        An RGB picture of the set without people.
    """
    stage = _Stage(width, height, palette, rng)
    PAINTERS[kind](stage)
    grain = rng.normal(0, 5, (height, width, 1)).astype(np.float32)
    rough = np.asarray(stage.image, np.float32) + grain
    return Image.fromarray(np.clip(rough, 0, 255).astype(np.uint8)).filter(ImageFilter.SMOOTH)
