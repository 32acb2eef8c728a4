"""Generated dramas: whole catalogues of programs for demonstrations, tests and experiments.

Every program has its own sets, cast, palette, title card and music, all drawn from seeds; its
episodes cut between those sets as dramas do, with people who walk and talk, a camera that pans,
zooms and shakes, changing light, rain or snow, subtitles, a channel's logo and fades to black. A
program may be a twin of another, as a sequel is: the same look, other shots. The same specification
gives the same frames, bit for bit.
"""

from __future__ import annotations

import csv
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from eval.drama_cast import N_TALK_POSES, N_WALK_POSES, Person, figure, make_person
from eval.drama_sets import Palette, Rng, make_palette, paint_set, shade
from eval.drama_sound import SOUND_RATE_HZ, music, speech
from eval.video_writer import write_video

N_SETS = 7
N_CAST = 5
TITLE_SECONDS = 3.0
_SET_SIZE = (768, 432)


@dataclass(frozen=True)
class _Genre:
    """What a category of programs has in common."""

    sets: tuple[str, ...]
    robe_chance: float
    night_chance: float
    saturation: float
    words: tuple[tuple[str, ...], tuple[str, ...]]


_GENRES: dict[str, _Genre] = {
    "drama/costume/palace": _Genre(
        ("palace", "courtyard", "palace", "valley", "courtyard", "forest"),
        0.9,
        0.3,
        0.8,
        (
            ("Jade", "Crimson", "Silent", "Golden", "Paper", "Ninth"),
            ("Court", "Throne", "Lantern", "Pavilion", "Garden"),
        ),
    ),
    "drama/modern/romance": _Genre(
        ("living", "street", "sea", "bar", "kitchen", "city"),
        0.0,
        0.3,
        0.6,
        (
            ("Second", "Rainy", "Borrowed", "Slow", "Sunday"),
            ("Letters", "Summer", "Balcony", "Promise", "Umbrella"),
        ),
    ),
    "drama/modern/workplace": _Genre(
        ("office", "corridor", "city", "office", "bar", "street"),
        0.0,
        0.2,
        0.4,
        (
            ("Thirtieth", "Open", "Night", "Last", "Corner"),
            ("Floor", "Contract", "Quarter", "Merger", "Desk"),
        ),
    ),
    "drama/crime/detective": _Genre(
        ("street", "office", "corridor", "bar", "city", "sea"),
        0.0,
        0.75,
        0.35,
        (("Cold", "Harbour", "Broken", "Dead", "Grey"), ("Witness", "Alibi", "Tide", "Precinct", "Ledger")),
    ),
    "film/fantasy/quest": _Genre(
        ("forest", "peaks", "valley", "palace", "desert", "sea"),
        0.6,
        0.25,
        0.7,
        (("Winter", "Ember", "Hollow", "Raven", "Starlit"), ("Crown", "Road", "Oath", "Mountain", "Blade")),
    ),
    "film/science-fiction/space": _Genre(
        ("spaceship", "corridor", "desert", "spaceship", "city", "peaks"),
        0.2,
        0.6,
        0.6,
        (
            ("Orbit", "Lunar", "Silent", "Seventh", "Deep"),
            ("Colony", "Signal", "Engine", "Horizon", "Station"),
        ),
    ),
    "drama/family/village": _Genre(
        ("village", "kitchen", "living", "valley", "market", "forest"),
        0.1,
        0.15,
        0.6,
        (
            ("Our", "Apple", "Far", "Grandmother's", "Little"),
            ("Orchard", "Kitchen", "River", "Harvest", "Yard"),
        ),
    ),
    "drama/youth/school": _Genre(
        ("classroom", "library", "corridor", "street", "stadium", "classroom"),
        0.0,
        0.1,
        0.65,
        (
            ("Class", "First", "Spring", "Noisy", "Paper"),
            ("Bell", "Semester", "Window", "Rooftop", "Notebook"),
        ),
    ),
    "show/food/contest": _Genre(
        ("kitchen", "market", "kitchen", "bar", "stadium", "village"),
        0.0,
        0.1,
        0.8,
        (("Sharp", "Hungry", "Salt", "Copper", "Grand"), ("Spoon", "Knife", "Table", "Wok", "Pantry")),
    ),
    "show/travel/nature": _Genre(
        ("sea", "peaks", "desert", "valley", "forest", "market"),
        0.0,
        0.15,
        0.7,
        (("Long", "High", "Salt", "Wild", "Northern"), ("Passage", "Coast", "Trail", "Valley", "Island")),
    ),
    "show/sport/league": _Genre(
        ("stadium", "street", "stadium", "corridor", "bar", "office"),
        0.0,
        0.3,
        0.8,
        (("Extra", "Home", "Golden", "Iron", "Final"), ("Time", "League", "Whistle", "Season", "Derby")),
    ),
    "drama/history/war": _Genre(
        ("desert", "village", "courtyard", "library", "peaks", "street"),
        0.4,
        0.3,
        0.3,
        (
            ("Burning", "Northern", "Iron", "Fallen", "Distant"),
            ("Border", "Regiment", "Bridge", "Winter", "Banner"),
        ),
    ),
}

_CHANNELS: tuple[str | None, ...] = ("NOVA", "KITE tv", None, "ch 8")
_OPENERS = (
    "I told you that",
    "You never said that",
    "They all know that",
    "Nobody believed that",
    "I am sure that",
)
_MIDDLES = (
    "the letter",
    "my brother",
    "this house",
    "the last train",
    "your ring",
    "the captain",
    "the old song",
)
_ENDINGS = (
    "was gone by morning.",
    "would change everything.",
    "had been waiting.",
    "never came back.",
    "was real.",
)
_CRIES = (
    "Tell me.",
    "Not here.",
    "Wait for me!",
    "Who was it?",
    "We leave at dawn.",
    "I remember.",
    "Is that all?",
)
_LIGHTS: tuple[tuple[float, float, float], ...] = (
    (1.0, 1.0, 1.0),
    (1.08, 0.96, 0.82),
    (0.82, 0.92, 1.08),
    (0.72, 0.8, 1.0),
    (1.12, 0.86, 0.68),
    (0.92, 1.02, 0.9),
)


@dataclass(frozen=True)
class DramaSpec:
    """One generated program.

    Attributes:
        program_id: As in the catalogue.
        title: ASCII.
        category: "tier1/tier2/tier3"; decides which sets and clothes are likely.
        seed: Of the shots: what happens.
        look_seed: Of sets, cast, palette and music; twins share it.
        channel: Burned-in logo, or None.
        twin_of: The program whose look this one shares, or None.
        n_episodes: How many.
        episode_seconds: Length of each.
        width: Of the frames, even.
        height: Of the frames, even.
        fps: Frames a second.
    """

    program_id: str
    title: str
    category: str
    seed: int
    look_seed: int
    channel: str | None = None
    twin_of: str | None = None
    n_episodes: int = 2
    episode_seconds: float = 48.0
    width: int = 384
    height: int = 216
    fps: int = 12

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 64:
            raise ValueError(f"width and height must be even and at least 64, got {self.width}x{self.height}")
        if self.category not in _GENRES:
            raise ValueError(f"no such category: {self.category}; there are {', '.join(_GENRES)}")
        if self.n_episodes < 1 or self.fps < 1 or self.episode_seconds <= TITLE_SECONDS + 2:
            raise ValueError(f"{self.program_id} needs an episode, a frame rate and more than 5 seconds")

    @property
    def n_frames(self) -> int:
        """Frames in each episode."""
        return round(self.episode_seconds * self.fps)


@dataclass(frozen=True)
class CatalogueRow:
    """One written episode, as a manifest wants it."""

    program_id: str
    path: Path
    asset_id: str
    title: str
    category: str


@dataclass(frozen=True)
class _Look:
    """What all episodes of a program, and its twins, share."""

    palette: Palette
    sets: tuple[str, ...]
    cast: tuple[Person, ...]
    weather: str
    logo_at_left: bool


@dataclass(frozen=True)
class _Shot:
    """One take: where, who, how it is framed, and what is said."""

    n_frames: int
    kind: str
    set_number: int
    cast: tuple[int, ...]
    light: int
    subtitle: str
    seed: int
    fades_in: bool
    fades_out: bool


@functools.lru_cache(maxsize=8)
def _look(look_seed: int, category: str) -> _Look:
    genre, rng = _GENRES[category], np.random.default_rng([look_seed, 1])
    palette = make_palette(
        rng,
        hue=rng.random(),
        saturation=genre.saturation * rng.uniform(0.7, 1.1),
        night_chance=genre.night_chance,
    )
    extra = str(rng.choice(genre.sets))
    sets = (*genre.sets, extra)[:N_SETS]
    cast = tuple(make_person(rng, palette.accents, robe_chance=genre.robe_chance) for _ in range(N_CAST))
    return _Look(
        palette, sets, cast, str(rng.choice(["rain", "snow", "none", "none"])), bool(rng.random() < 0.5)
    )


@functools.lru_cache(maxsize=2 * N_SETS)
def _set(look_seed: int, category: str, number: int) -> Image.Image:
    look = _look(look_seed, category)
    rng = np.random.default_rng([look_seed, 2, number])
    return paint_set(look.sets[number], look.palette, rng, *_SET_SIZE)


def _sentence(rng: Rng) -> str:
    if rng.random() < 0.25:
        return str(rng.choice(_CRIES))
    return " ".join(str(rng.choice(words)) for words in (_OPENERS, _MIDDLES, _ENDINGS))


@functools.lru_cache(maxsize=8)
def _plan(spec: DramaSpec, episode: int) -> tuple[_Shot, ...]:
    """The shots of one episode: scenes of two to four shots, each scene on one set with its own light."""
    rng = np.random.default_rng([spec.seed, 3, episode])
    title = round(TITLE_SECONDS * spec.fps)
    shots = [_Shot(title, "title", 0, (), 0, "", 0, fades_in=True, fades_out=True)]
    left = spec.n_frames - title
    shortest = round(2 * spec.fps)
    while left > 0:
        set_number, light = int(rng.integers(N_SETS)), int(rng.integers(len(_LIGHTS)))
        people = tuple(int(i) for i in rng.choice(N_CAST, size=2, replace=False))
        n_shots = int(rng.integers(2, 5))
        for number in range(n_shots):
            n_frames = min(left, round(rng.uniform(2, 5.5) * spec.fps))
            n_frames = left if left - n_frames < shortest else n_frames
            if n_frames <= 0:
                break
            kind = "wide" if number == 0 else str(rng.choice(["wide", "medium", "close", "close", "insert"]))
            cast = {"wide": people[: int(rng.integers(1, 3))], "medium": people, "insert": ()}.get(
                kind, people if number % 2 else people[::-1]
            )
            subtitle = _sentence(rng) if cast and rng.random() < 0.85 else ""
            left -= n_frames
            shots.append(
                _Shot(
                    n_frames,
                    kind,
                    set_number,
                    cast,
                    light,
                    subtitle,
                    int(rng.integers(2**31)),
                    fades_in=number == 0 and bool(rng.random() < 0.3),
                    fades_out=left == 0,
                )
            )
    return tuple(shots)


@functools.lru_cache(maxsize=32)
def _text(text: str, size: int, *, width: int, ink: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Outlined text as RGBA, folded to two lines where it is wider than ``width``."""
    font = ImageFont.load_default(size=size)
    words = text.split()
    if font.getlength(text) > width and len(words) > 1:
        half = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(text) / 2))
        text = " ".join(words[:half]) + "\n" + " ".join(words[half:])
    edge = max(1, size // 10)
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = probe.multiline_textbbox((0, 0), text, font=font, stroke_width=edge, align="center")
    image = Image.new("RGBA", (int(box[2] - box[0]) + 2, int(box[3] - box[1]) + 2))
    ImageDraw.Draw(image).multiline_text(
        (1 - box[0], 1 - box[1]),
        text,
        font=font,
        fill=(*ink, 255),
        stroke_width=edge,
        stroke_fill=(12, 12, 16, 255),
        align="center",
    )
    return image


def _light(picture: Image.Image, gains: tuple[float, float, float], rng: Rng) -> Image.Image:
    """Colour, a fall-off to one side and a darker rim."""
    width, height = picture.size
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    side, up, level = rng.uniform(-0.25, 0.25), rng.uniform(-0.15, 0.1), rng.uniform(0.88, 1.16)
    gain = (1 + side * x + up * y - 0.18 * (x * x + y * y)) * level
    lit = np.asarray(picture, np.float32) * gain[..., None] * np.asarray(gains, np.float32)
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class _Actor:
    """One person in one shot: a picture and a mask for each pose used, and a way to go."""

    poses: tuple[tuple[Image.Image, Image.Image], ...]
    x0: float
    x1: float
    y: float
    walks: bool
    beat: float

    def paste(self, canvas: Image.Image, seconds: float, share: float) -> None:
        if self.walks:
            number = int(seconds * 7 * self.beat) % N_WALK_POSES
        else:
            number = (
                int(np.abs(np.sin(seconds * 2.1 * self.beat) * 3.7 + seconds * 2.9 * self.beat))
                % N_TALK_POSES
            )
        picture, mask = self.poses[number % len(self.poses)]
        bob = np.sin(seconds * 3.3 * self.beat) * 0.006 * canvas.height
        x = self.x0 + (self.x1 - self.x0) * share - picture.width / 2
        canvas.paste(picture, (int(x), int(self.y + bob)), mask)


def _actor(person: Person, shot: _Shot, place: int, size: tuple[int, int], zoom: float, rng: Rng) -> _Actor:
    width, height = size
    walks = shot.kind == "wide" and bool(rng.random() < 0.6)
    behind = shot.kind == "close" and place == 1
    scale = {
        "wide": rng.uniform(0.55, 0.85),
        "medium": rng.uniform(0.75, 0.95) * zoom,
        "close": rng.uniform(1.0, 1.15) * zoom,
    }[shot.kind]
    tall = int(height * scale * (person.tall if shot.kind == "wide" else 1) * (1.25 if behind else 1))
    mirrored = bool(rng.random() < 0.5)
    first = 0 if walks else N_WALK_POSES
    numbers = (
        range(first, first + 1) if behind else range(first, first + (N_WALK_POSES if walks else N_TALK_POSES))
    )
    poses = []
    for number in numbers:
        drawn = figure(person, number, is_bust=shot.kind != "wide")
        drawn = drawn.resize((max(2, drawn.width * tall // drawn.height), tall), Image.Resampling.BILINEAR)
        if mirrored:
            drawn = drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if behind:
            drawn = drawn.filter(ImageFilter.GaussianBlur(tall / 60))
        gains = tuple(gain * (0.45 if behind else 0.95) for gain in _LIGHTS[shot.light])
        bands = [
            band.point(lambda v, g=gain: min(255, int(v * g)))
            for band, gain in zip(drawn.split()[:3], gains, strict=True)
        ]
        poses.append((Image.merge("RGB", bands), drawn.getchannel("A")))
    if shot.kind == "close":
        x0 = width * (rng.choice([0.16, 0.84]) if behind else rng.uniform(0.42, 0.58))
    else:
        x0 = width * (rng.uniform(0.25, 0.45) + 0.3 * place)
    x1 = x0 + (
        rng.choice([-1, 1]) * rng.uniform(0.15, 0.4) * width if walks else rng.uniform(-0.02, 0.02) * width
    )
    y = height * rng.uniform(0.9, 0.99) - tall if shot.kind == "wide" else height * 1.02 - tall
    return _Actor(
        tuple(poses),
        float(x0),
        float(x1),
        float(y + (0.12 * tall if behind else 0)),
        walks,
        float(rng.uniform(0.75, 1.3)),
    )


def _backdrop(spec: DramaSpec, shot: _Shot, size: tuple[int, int], rng: Rng) -> Image.Image:
    """The part of the set that a shot sees, in its light, at ``size``."""
    picture = _set(spec.look_seed, spec.category, shot.set_number)
    share = {
        "wide": rng.uniform(0.8, 1.0),
        "medium": rng.uniform(0.5, 0.72),
        "close": rng.uniform(0.3, 0.5),
        "insert": rng.uniform(0.36, 0.5),
    }[shot.kind]
    left = rng.uniform(0, 1 - share) * picture.width
    top = rng.uniform(*((0.25, 0.9) if shot.kind == "insert" else (0.0, 0.55))) * (1 - share) * picture.height
    box = (left, top, left + share * picture.width, top + share * picture.height)
    seen = picture.resize(size, Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.3:
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if shot.kind == "close" else seen
    if shot.kind in ("medium", "close"):
        seen = seen.filter(ImageFilter.BoxBlur(size[1] / (400 if shot.kind == "medium" else 110)))
    return _light(seen, _LIGHTS[shot.light], rng)


@dataclass(frozen=True)
class _Camera:
    """A view that goes from one box to another, with a shaking hand. Fractions of the canvas."""

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    shake: float
    phase: float
    is_low: bool

    @property
    def zoom(self) -> float:
        """The share of the canvas that is seen, on average."""
        return (self.start[2] + self.stop[2]) / 2

    def box(self, size: tuple[int, int], seconds: float, share: float) -> tuple[float, float, float, float]:
        ease = share * share * (3 - 2 * share)
        x, y, zoom = (a + (b - a) * ease for a, b in zip(self.start, self.stop, strict=True))
        width, height = size[0] * zoom, size[1] * zoom
        sway = self.shake * size[0]
        left = x * (size[0] - width) + sway * np.sin(seconds * 2.3 + self.phase)
        top = (1.0 if self.is_low else y) * (size[1] - height) + sway * 0.7 * np.sin(
            seconds * 3.1 + 2 * self.phase
        )
        left, top = min(max(0.0, left), size[0] - width), min(max(0.0, top), size[1] - height)
        return left, top, left + width, top + height


def _camera(shot: _Shot, rng: Rng) -> _Camera:
    near, far = rng.uniform(0.66, 0.76), rng.uniform(0.8, 0.96)
    move = str(rng.choice(["still", "pan", "in", "out"]))
    x, y = rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.8)
    start, stop = (x, y, far), (x, y, far)
    if move == "pan":
        start, stop = (0.05, y, near), (0.95, y, near)
        if rng.random() < 0.5:
            start, stop = stop, start
    elif move == "in":
        stop = (x, y, near)
    elif move == "out":
        start = (x, y, near)
    shake = 0.008 if move == "still" else rng.choice([0.0, 0.004])
    return _Camera(start, stop, float(shake), float(rng.uniform(0, 6)), shot.kind in ("medium", "close"))


@functools.lru_cache(maxsize=4)
def _weather(kind: str, width: int, height: int) -> Image.Image:
    """A sheet of rain or snow, as an opacity, twice as tall as the frame so that it can fall."""
    rng, sheet = np.random.default_rng(9), Image.new("L", (width, height))
    draw = ImageDraw.Draw(sheet)
    for _ in range(150):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.5, 1.6)
        if kind == "rain":
            draw.line((x, y, x - 3, y + 13 * size), fill=110)
        else:
            draw.ellipse((x, y, x + 2 * size, y + 2 * size), fill=200)
    both = Image.new("L", (width, 2 * height))
    both.paste(sheet, (0, 0))
    both.paste(sheet, (0, height))
    return both


@functools.lru_cache(maxsize=8)
def _logo(channel: str, height: int) -> tuple[Image.Image, Image.Image]:
    logo = _text(channel, max(9, height // 15), width=10 * height)
    return logo.convert("RGB"), logo.getchannel("A").point(lambda v: int(v * 0.75))


def _overlay(frame: Image.Image, spec: DramaSpec, look: _Look) -> None:
    if spec.channel is not None:
        logo, mask = _logo(spec.channel, spec.height)
        x = spec.width // 40 if look.logo_at_left else spec.width - logo.width - spec.width // 40
        frame.paste(logo, (x, spec.height // 28), mask)


def _exposure(frame: Image.Image, level: float) -> Image.Image:
    return (
        frame if abs(level - 1) < 0.004 else frame.point([min(255, int(v * level)) for v in range(256)] * 3)
    )


def _fade(shot: _Shot, number: int, fps: int) -> float:
    """Brightness in [0, 1] of one frame of a shot that may come from and go to black."""
    ramp = max(1, round(0.5 * fps))
    level = 1.0
    if shot.fades_in:
        level = min(level, number / ramp)
    if shot.fades_out:
        level = min(level, (shot.n_frames - 1 - number) / ramp)
    return level


def _title_frames(spec: DramaSpec, shot: _Shot) -> Iterator[Image.Image]:
    """The opening: the same in all episodes."""
    rng = np.random.default_rng([spec.look_seed, 4])
    look = _look(spec.look_seed, spec.category)
    picture = _set(spec.look_seed, spec.category, int(rng.integers(N_SETS)))
    tint = Image.new("RGB", picture.size, shade(look.palette.accents[0], 1.2))
    back = Image.blend(picture, ImageChops.multiply(picture, tint), 0.6).filter(ImageFilter.BoxBlur(2))
    red, green, blue = look.palette.accents[1]
    ink = ((red + 3 * 255) // 4, (green + 3 * 245) // 4, (blue + 3 * 225) // 4)
    text = _text(spec.title, spec.height // 6, width=int(spec.width * 0.85), ink=ink)
    for number in range(shot.n_frames):
        cut = 0.2 * number / shot.n_frames
        box = (
            cut * back.width / 2,
            cut * back.height / 2,
            back.width * (1 - cut / 2),
            back.height * (1 - cut / 2),
        )
        frame = back.resize((spec.width, spec.height), Image.Resampling.BILINEAR, box=box)
        seen = min(1.0, number / (0.3 * shot.n_frames))
        mask = text.getchannel("A").point([int(v * seen) for v in range(256)])
        frame.paste(text, ((spec.width - text.width) // 2, (spec.height - text.height) // 2), mask)
        yield _exposure(frame, _fade(shot, number, spec.fps))


def _shot_frames(spec: DramaSpec, shot: _Shot) -> Iterator[Image.Image]:
    rng, look = np.random.default_rng([shot.seed, 5]), _look(spec.look_seed, spec.category)
    size = (int(spec.width * 1.3), int(spec.height * 1.3))
    backdrop, camera = _backdrop(spec, shot, size, rng), _camera(shot, rng)
    actors = [
        _actor(look.cast[who], shot, place, size, camera.zoom, rng) for place, who in enumerate(shot.cast)
    ]
    drift = rng.uniform(-0.12, 0.12) if rng.random() < 0.5 else 0.0
    outside = look.sets[shot.set_number] in (
        "street",
        "village",
        "courtyard",
        "valley",
        "forest",
        "peaks",
        "city",
    )
    falls = _weather(look.weather, spec.width, spec.height) if outside and look.weather != "none" else None
    line = (
        _text(shot.subtitle, max(10, spec.height // 14), width=int(spec.width * 0.9))
        if shot.subtitle
        else None
    )
    for number in range(shot.n_frames):
        seconds, share = number / spec.fps, number / max(1, shot.n_frames - 1)
        canvas = backdrop.copy()
        for actor in actors:
            actor.paste(canvas, seconds, share)
        box = camera.box(size, seconds, share)
        frame = canvas.resize((spec.width, spec.height), Image.Resampling.BILINEAR, box=box)
        if falls is not None:
            speed = 1.9 if look.weather == "rain" else 0.35
            top = spec.height - int(seconds * speed * spec.height) % spec.height
            frame.paste((225, 230, 240), None, falls.crop((0, top, spec.width, top + spec.height)))
        frame = _exposure(frame, 1 + drift * (2 * share - 1))
        if line is not None and 0.08 < share < 0.94:
            frame.paste(
                line, ((spec.width - line.width) // 2, spec.height - line.height - spec.height // 24), line
            )
        _overlay(frame, spec, look)
        yield _exposure(frame, _fade(shot, number, spec.fps))


def render_episode(spec: DramaSpec, episode: int) -> Iterator[NDArray[np.uint8]]:
    """Draw one episode.

    Args:
        spec: The program.
        episode: From 1.

    Yields:
        ``spec.n_frames`` frames, each (height, width, 3) uint8 RGB.

    Raises:
        ValueError: There is no such episode.
    """
    if not 1 <= episode <= spec.n_episodes:
        raise ValueError(f"{spec.program_id} has episodes 1 to {spec.n_episodes}, not {episode}")
    for shot in _plan(spec, episode):
        frames = _title_frames(spec, shot) if shot.kind == "title" else _shot_frames(spec, shot)
        for frame in frames:
            yield np.asarray(frame)


def episode_sound(spec: DramaSpec, episode: int) -> NDArray[np.float32]:
    """The theme under the title, then music scene by scene, and speech where somebody has a line.

    Returns:
        (samples,) float32 in [-1, 1], mono, at ``SOUND_RATE_HZ``, as long as the episode.
    """
    out = np.zeros(round(spec.n_frames / spec.fps * SOUND_RATE_HZ), np.float32)
    cast = _look(spec.look_seed, spec.category).cast
    theme = music(
        np.random.default_rng([spec.look_seed, 6]), style_seed=spec.look_seed, seconds=TITLE_SECONDS
    )
    out[: len(theme)] += theme
    frame = 0
    for shot in _plan(spec, episode):
        start, seconds = round(frame / spec.fps * SOUND_RATE_HZ), shot.n_frames / spec.fps
        frame += shot.n_frames
        rng = np.random.default_rng([shot.seed, 7])
        layers = []
        if shot.kind != "title" and rng.random() < 0.7:
            layers.append(music(rng, style_seed=spec.look_seed, seconds=seconds) * np.float32(0.5))
        if shot.subtitle:
            layers.append(
                speech(rng, voice_hz=cast[shot.cast[0]].voice_hz, seconds=seconds) * np.float32(0.6)
            )
        for layer in layers:
            layer = layer[: len(out) - start]
            out[start : start + len(layer)] += layer
    return np.clip(out, -1, 1)


def asset_id(spec: DramaSpec, episode: int) -> str:
    """The asset's name, as "p07-e01"."""
    return f"{spec.program_id}-e{episode:02d}"


def write_episode(spec: DramaSpec, episode: int, path: Path, *, crf: int = 24) -> None:
    """Render and encode one episode (H.264, and AAC where the container has sound).

    Args:
        spec: The program.
        episode: From 1.
        path: Where to; its folder is made.
        crf: Constant rate factor.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(
        path,
        render_episode(spec, episode),
        fps=spec.fps,
        crf=crf,
        preset="superfast",
        keyframe_interval=4 * spec.fps,
        sound=episode_sound(spec, episode),
        sound_rate_hz=SOUND_RATE_HZ,
        options={"threads": "1"},
    )


def _titles(category: str, count: int, rng: Rng) -> list[str]:
    first, second = _GENRES[category].words
    pairs = [
        f"{'' if a in ('Our', 'Class') or a.endswith('s') else 'The '}{a} {b}" for a in first for b in second
    ]
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    numerals = range(2, 2 + count // len(order) + 1)
    return (order + [f"{title} of {1900 + 7 * n}" for n in numerals for title in order])[:count]


def catalogue(
    n_programs: int,
    *,
    seed: int,
    n_twin_pairs: int = 1,
    n_episodes: int = 2,
    episode_seconds: float = 48.0,
    width: int = 384,
    height: int = 216,
    fps: int = 12,
) -> list[DramaSpec]:
    """Draw up a catalogue of distinct programs; the last ``n_twin_pairs`` are sequels of the first ones.

    Args:
        n_programs: How many, sequels included.
        seed: The same seed gives the same catalogue, and a longer one begins with the same looks.
        n_twin_pairs: How many programs look like another.
        n_episodes: Of each program.
        episode_seconds: Of each episode.
        width: Of the frames.
        height: Of the frames.
        fps: Frames a second.

    Returns:
        The programs, ids "p01", "p02" and so on.

    Raises:
        ValueError: There are more sequels than programs to follow.
    """
    if n_programs < 1 or not 0 <= 2 * n_twin_pairs <= n_programs:
        raise ValueError(f"{n_programs} programs cannot hold {n_twin_pairs} pairs of twins")
    categories = list(_GENRES)
    titles = {
        category: iter(
            _titles(category, n_programs // len(categories) + 1, np.random.default_rng([seed, 8, k]))
        )
        for k, category in enumerate(categories)
    }
    digits = max(2, len(str(n_programs)))
    specs: list[DramaSpec] = []
    for number in range(n_programs):
        program_id = f"p{number + 1:0{digits}d}"
        rng = np.random.default_rng([seed, 9, number])
        shots_seed, look_seed = int(rng.integers(2**31)), int(rng.integers(2**31))
        original = (
            specs[number - (n_programs - n_twin_pairs)] if number >= n_programs - n_twin_pairs else None
        )
        category = original.category if original else categories[number % len(categories)]
        specs.append(
            DramaSpec(
                program_id=program_id,
                title=f"{original.title} 2" if original else next(titles[category]),
                category=category,
                seed=shots_seed,
                look_seed=original.look_seed if original else look_seed,
                channel=original.channel if original else _CHANNELS[int(rng.integers(len(_CHANNELS)))],
                twin_of=original.program_id if original else None,
                n_episodes=n_episodes,
                episode_seconds=episode_seconds,
                width=width,
                height=height,
                fps=fps,
            )
        )
    return specs


def _write_program(spec: DramaSpec, folder: Path) -> list[CatalogueRow]:
    rows = []
    for episode in range(1, spec.n_episodes + 1):
        name = asset_id(spec, episode)
        path = folder / f"{name}.mp4"
        write_episode(spec, episode, path)
        rows.append(CatalogueRow(spec.program_id, path, name, spec.title, spec.category))
    return rows


def write_catalogue(
    specs: Sequence[DramaSpec],
    folder: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[CatalogueRow]:
    """Write all episodes of all programs into one folder as ``<asset_id>.mp4``.

    Args:
        specs: The programs.
        folder: Made if it is not there.
        workers: Processes (spawned); 1 works in this one.
        progress: Told (programs done, programs) after each program.

    Returns:
        A row an episode, in the order of ``specs``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[CatalogueRow]] = {}
    if workers <= 1:
        for spec in specs:
            done[spec.program_id] = _write_program(spec, folder)
            if progress:
                progress(len(done), len(specs))
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(_write_program, spec, folder): spec.program_id for spec in specs}
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                if progress:
                    progress(len(done), len(specs))
    return [row for spec in specs for row in done[spec.program_id]]


def write_manifest(rows: Iterable[CatalogueRow], path: Path) -> None:
    """Write ``programs.csv`` for ``matcher add --manifest``; paths are relative to its folder."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["program_id", "path", "asset_id", "title", "category"])
        for row in rows:
            inside = Path(os.path.relpath(row.path.resolve(), path.parent.resolve())).as_posix()
            writer.writerow([row.program_id, inside, row.asset_id, row.title, row.category])
