"""Draws the people of generated dramas: made-up figures with faces, clothes and a few poses.

Lengths are in heads: a figure is about seven heads tall, its crown is at height 0 and its feet are
at 7. Poses are drawn once at a large size, cached, and scaled by the shots.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from eval.drama_sets import Colour, Rng, hsv, noise, shade

N_WALK_POSES = 6
N_TALK_POSES = 6

_SKINS: tuple[Colour, ...] = (
    (244, 208, 180),
    (232, 186, 150),
    (214, 164, 124),
    (184, 130, 94),
    (142, 94, 66),
    (104, 68, 48),
)
_HAIRS: tuple[Colour, ...] = (
    (26, 22, 24),
    (62, 40, 28),
    (110, 70, 40),
    (190, 146, 84),
    (150, 60, 36),
    (176, 174, 172),
)

_STYLES = ("short", "long", "bun", "bob", "bald", "hat", "crown")
_STYLE_SHARES = (0.3, 0.2, 0.15, 0.15, 0.07, 0.09, 0.04)


@dataclass(frozen=True)
class Person:
    """How one member of the cast looks and sounds.

    Attributes:
        skin: Of face and hands.
        hair: Colour of the hair.
        style: "short", "long", "bun", "bob", "bald", "hat" or "crown".
        top: Upper clothes.
        bottom: Trousers or skirt.
        trim: Collar, belt, buttons, hat.
        cloth: "plain", "stripes", "checks" or "dots".
        has_robe: Wears a robe to the feet.
        build: Width, 1 is usual.
        tall: Height, 1 is usual.
        has_beard: Wears a beard.
        has_glasses: Wears glasses.
        voice_hz: Pitch of the voice.
        seed: Of the grain of the clothes.
    """

    skin: Colour
    hair: Colour
    style: str
    top: Colour
    bottom: Colour
    trim: Colour
    cloth: str
    has_robe: bool
    build: float
    tall: float
    has_beard: bool
    has_glasses: bool
    voice_hz: float
    seed: int


def make_person(rng: Rng, accents: tuple[Colour, ...], *, robe_chance: float) -> Person:
    """Draw one person whose clothes take up the program's accents."""

    def cloth_colour() -> Colour:
        if rng.random() < 0.6:
            return shade(accents[int(rng.integers(len(accents)))], rng.uniform(0.6, 1.2))
        return hsv(rng.random(), rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.9))

    is_low = bool(rng.random() < 0.5)
    return Person(
        skin=_SKINS[int(rng.integers(len(_SKINS)))],
        hair=_HAIRS[int(rng.integers(len(_HAIRS)))],
        style=str(rng.choice(_STYLES, p=_STYLE_SHARES)),
        top=cloth_colour(),
        bottom=cloth_colour(),
        trim=cloth_colour(),
        cloth=str(rng.choice(["plain", "plain", "stripes", "checks", "dots"])),
        has_robe=bool(rng.random() < robe_chance),
        build=float(rng.uniform(0.82, 1.2)),
        tall=float(rng.uniform(0.92, 1.06)),
        has_beard=bool(is_low and rng.random() < 0.35),
        has_glasses=bool(rng.random() < 0.25),
        voice_hz=float(rng.uniform(90, 150) if is_low else rng.uniform(170, 250)),
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Pose:
    """Angles in radians from hanging straight down, lengths in heads.

    Attributes:
        arms: Left and right upper arm, outwards positive.
        elbows: Left and right lower arm, added to the upper arm.
        stride: How far the feet are apart.
        mouth: How far the mouth is open.
        is_blinking: Eyes shut.
    """

    arms: tuple[float, float]
    elbows: tuple[float, float]
    stride: float
    mouth: float
    is_blinking: bool


def pose(number: int) -> Pose:
    """Pose ``number``: first the ``N_WALK_POSES`` of a step, then the ``N_TALK_POSES`` of speech."""
    if number < N_WALK_POSES:
        swing = float(np.sin(2 * np.pi * (number + 0.25) / N_WALK_POSES))
        return Pose((0.15 + 0.45 * swing, 0.15 - 0.45 * swing), (0.25, 0.25), 0.75 * swing, 0.0, False)
    talk = number - N_WALK_POSES
    lifts = ((0.2, 0.2), (0.25, 0.9), (0.3, 1.3), (0.9, 0.4), (0.7, 0.9), (0.2, 0.25))
    bends = ((0.1, 0.1), (0.2, -1.6), (0.2, -2.2), (-1.7, 0.2), (-1.6, -1.7), (0.15, 0.1))
    mouths = (0.0, 0.1, 0.17, 0.06, 0.13, 0.03)
    return Pose(lifts[talk], bends[talk], 0.0, mouths[talk], talk == 5)


class _Figure:
    """One drawing of one person: a canvas and a scale in pixels a head."""

    def __init__(self, person: Person, width: int, height: int, unit: float) -> None:
        self.person, self.unit, self.middle = person, unit, width / 2
        self.image = Image.new("RGBA", (width, height))
        self.draw = ImageDraw.Draw(self.image)

    def xy(self, x: float, y: float) -> tuple[float, float]:
        return self.middle + x * self.unit, (y + 0.35) * self.unit

    def shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon([self.xy(x, y) for x, y in points], fill=(*colour, 255))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.draw.ellipse((*self.xy(x - rx, y - ry), *self.xy(x + rx, y + ry)), fill=(*colour, 255))

    def limb(self, points: list[tuple[float, float]], thick: float, colour: Colour) -> None:
        line = [self.xy(x, y) for x, y in points]
        self.draw.line(line, fill=(*colour, 255), width=max(2, int(thick * self.unit)), joint="curve")
        for x, y in points:
            self.oval(x, y, thick / 2, thick / 2, colour)

    def arc(self, x: float, y: float, rx: float, ry: float, span: tuple[int, int], colour: Colour) -> None:
        box = (*self.xy(x - rx, y - ry), *self.xy(x + rx, y + ry))
        self.draw.pieslice(box, *span, fill=(*colour, 255))

    def stroke(self, points: list[tuple[float, float]], thick: float, colour: Colour) -> None:
        line = [self.xy(x, y) for x, y in points]
        self.draw.line(line, fill=(*colour, 255), width=max(1, int(thick * self.unit)))


def _cloth(person: Person, width: int, height: int, unit: float) -> Image.Image:
    """The stuff of the upper clothes, as large as the canvas."""
    rng = np.random.default_rng(person.seed)
    image = Image.new("RGB", (width, height), person.top)
    draw, step = ImageDraw.Draw(image), max(4, int(unit * rng.uniform(0.18, 0.35)))
    ink = person.trim if rng.random() < 0.6 else shade(person.top, 0.6)
    if person.cloth in ("stripes", "checks"):
        for x in range(0, max(width, height), step):
            draw.line((0, x, width, x), fill=ink, width=max(1, step // 3))
            if person.cloth == "checks":
                draw.line((x, 0, x, height), fill=shade(ink, 0.8), width=max(1, step // 4))
    elif person.cloth == "dots":
        for row, y in enumerate(range(0, height, step)):
            for x in range((row % 2) * step // 2, width, step):
                draw.ellipse((x, y, x + step * 0.4, y + step * 0.4), fill=ink)
    return image


def _hair_behind(f: _Figure) -> None:
    hair, style = f.person.hair, f.person.style
    if style == "long":
        f.shape([(-0.46, 0.4), (0.46, 0.4), (0.58, 1.75), (0.3, 1.95), (-0.3, 1.95), (-0.58, 1.75)], hair)
    elif style == "bob":
        f.shape([(-0.48, 0.35), (0.48, 0.35), (0.54, 1.05), (-0.54, 1.05)], hair)
    elif style == "bun":
        f.oval(0, -0.14, 0.22, 0.2, hair)


def _hair_front(f: _Figure) -> None:
    hair, style = f.person.hair, f.person.style
    if style != "bald":
        f.arc(0, 0.42, 0.43, 0.5, (180, 360), hair)
        f.shape(
            [
                (-0.42, 0.44),
                (-0.3, 0.42),
                (-0.08, 0.22),
                (0.3, 0.42),
                (0.42, 0.46),
                (0.36, 0.1),
                (-0.36, 0.1),
            ],
            hair,
        )
        f.stroke([(-0.2, 0.02), (0.05, -0.03), (0.25, 0.08)], 0.03, shade(hair, 1.7))
    if style == "hat":
        f.shape([(-0.72, 0.2), (0.72, 0.2), (0.5, 0.08), (-0.5, 0.08)], f.person.trim)
        f.shape([(-0.42, 0.1), (0.42, 0.1), (0.34, -0.3), (-0.34, -0.3)], shade(f.person.trim, 1.15))
    elif style == "crown":
        gold = (222, 178, 62)
        f.shape(
            [
                (-0.3, 0.06),
                (0.3, 0.06),
                (0.36, -0.28),
                (0.17, -0.08),
                (0, -0.32),
                (-0.17, -0.08),
                (-0.36, -0.28),
            ],
            gold,
        )
        f.oval(0, -0.05, 0.06, 0.06, f.person.trim)


def _face(f: _Figure, p: Pose) -> None:
    skin, person = f.person.skin, f.person
    for side in (-1, 1):
        f.oval(side * 0.38, 0.52, 0.07, 0.12, shade(skin, 0.9))
    f.oval(0, 0.46, 0.38, 0.48, skin)
    f.arc(0.02, 0.5, 0.36, 0.44, (-60, 60), shade(skin, 0.93))
    for side in (-1, 1):
        f.oval(
            side * 0.2, 0.64, 0.09, 0.07, (*shade(skin, 1.0)[:1], int(skin[1] * 0.88), int(skin[2] * 0.86))
        )
        if p.is_blinking:
            f.stroke([(side * 0.16 - 0.08, 0.49), (side * 0.16 + 0.08, 0.49)], 0.03, shade(skin, 0.4))
        else:
            f.oval(side * 0.16, 0.48, 0.085, 0.055, (248, 248, 246))
            f.oval(side * 0.155, 0.48, 0.045, 0.05, shade(person.hair, 0.8))
        f.stroke(
            [(side * 0.06, 0.38), (side * 0.17, 0.35), (side * 0.26, 0.39)], 0.04, shade(person.hair, 0.8)
        )
        if person.has_glasses:
            box = (*f.xy(side * 0.16 - 0.12, 0.38), *f.xy(side * 0.16 + 0.12, 0.58))
            f.draw.ellipse(box, outline=(30, 28, 30, 255), width=max(1, int(0.03 * f.unit)))
    f.stroke([(0.01, 0.5), (0.05, 0.64), (-0.02, 0.66)], 0.025, shade(skin, 0.72))
    if person.has_beard:
        f.arc(0, 0.62, 0.34, 0.36, (10, 170), person.hair)
    f.oval(0, 0.78, 0.12, 0.025 + p.mouth * 0.6, (126, 44, 46))
    if p.mouth > 0.08:
        f.oval(0, 0.755, 0.08, 0.02, (244, 240, 234))


def _legs(f: _Figure, p: Pose) -> None:
    person = f.person
    if person.has_robe:
        sway = p.stride * 0.25
        f.shape([(-0.6, 2.6), (0.6, 2.6), (1.05 + sway, 6.75), (-1.05 + sway, 6.75)], person.bottom)
        for fold in (-0.6, -0.2, 0.25, 0.65):
            f.stroke([(fold * 0.6, 3.1), (fold + sway, 6.7)], 0.05, shade(person.bottom, 0.72))
        f.stroke([(-1.05 + sway, 6.65), (1.05 + sway, 6.65)], 0.12, person.trim)
        return
    for side in (1, -1):
        step = side * p.stride
        tone = person.bottom if side < 0 else shade(person.bottom, 0.82)
        foot = 6.75 - 0.2 * abs(p.stride)
        f.limb([(side * 0.26, 3.3), (side * 0.28 + step * 0.55, 5.0), (side * 0.28 + step, foot)], 0.46, tone)
        f.oval(side * 0.32 + step + 0.06, foot + 0.1, 0.3, 0.14, (34, 30, 30))


def _arms(f: _Figure, p: Pose, side: int) -> None:
    person, wide = f.person, f.person.build
    arm, bend = p.arms[0 if side < 0 else 1], p.elbows[0 if side < 0 else 1]
    shoulder = (side * 0.74 * wide, 1.5)
    elbow = (shoulder[0] + side * 1.05 * np.sin(arm), shoulder[1] + 1.05 * np.cos(arm))
    hand = (elbow[0] + side * 0.95 * np.sin(arm + bend), elbow[1] + 0.95 * np.cos(arm + bend))
    f.limb([shoulder, elbow, hand], 0.5 if person.has_robe else 0.36, shade(person.top, 0.8))
    f.oval(hand[0], hand[1] + 0.05, 0.17, 0.19, person.skin)


def _torso(f: _Figure) -> None:
    person, wide = f.person, f.person.build
    outline = [(-0.3, 1.1), (0.3, 1.1), (0.85 * wide, 1.32), (0.72 * wide, 2.4), (0.66 * wide, 3.5)]
    outline += [(-0.66 * wide, 3.5), (-0.72 * wide, 2.4), (-0.85 * wide, 1.32)]
    mask = Image.new("L", f.image.size)
    ImageDraw.Draw(mask).polygon([f.xy(x, y) for x, y in outline], fill=255)
    f.image.paste(_cloth(person, *f.image.size, f.unit), (0, 0), mask)
    f.shape([(-0.14, 0.85), (0.14, 0.85), (0.17, 1.2), (0, 1.42), (-0.17, 1.2)], shade(person.skin, 0.86))
    f.shape([(-0.3, 1.08), (-0.15, 1.05), (0.04, 1.6), (-0.1, 1.75)], person.trim)
    f.shape([(0.3, 1.08), (0.15, 1.05), (-0.04, 1.6), (0.1, 1.75)], shade(person.trim, 0.85))
    if person.has_robe:
        f.stroke([(-0.7 * wide, 2.75), (0.7 * wide, 2.75)], 0.3, person.trim)
    else:
        for y in (1.95, 2.35, 2.75):
            f.oval(0.03, y, 0.05, 0.05, shade(person.trim, 1.2))


@functools.lru_cache(maxsize=256)
def figure(person: Person, number: int, *, is_bust: bool) -> Image.Image:
    """Draw ``person`` in pose ``number`` with light from the left.

    Args:
        person: Whom.
        number: See :func:`pose`.
        is_bust: Head and shoulders, large; otherwise from head to foot.

    Returns:
        RGBA, 400 by 300 for a bust and 270 by 400 for a whole figure.
    """
    width, height, unit = (400, 300, 105.0) if is_bust else (270, 400, 53.0)
    f, p = _Figure(person, width, height, unit), pose(number)
    _hair_behind(f)
    if not is_bust:
        _legs(f, p)
    _arms(f, p, 1)
    _torso(f)
    _arms(f, p, -1)
    _face(f, p)
    _hair_front(f)
    grain = noise(np.random.default_rng([person.seed, is_bust]), height, width)
    light = np.linspace(1.0, 0.7, width, dtype=np.float32)[None, :] * (0.85 + 0.3 * grain)
    multiplier = Image.fromarray(np.clip(light * 255, 0, 255).astype(np.uint8))
    lit = ImageChops.multiply(f.image.convert("RGB"), Image.merge("RGB", [multiplier] * 3))
    lit.putalpha(f.image.getchannel("A"))
    return lit
