"""What uploaders do to clips: cut, crop, reframe, decorate, recolour, speed up, put in a corner, mix.

An :class:`Edit` is a function from a stream of timed frames to a stream of timed frames; edits compose
from left to right. :func:`write_clip` and :func:`write_montage` cut from programs, apply the edits, write
the file and return the truth: which seconds of the clip show which seconds of which file.

Images are (height, width, 3) uint8 RGB with even sides; times are seconds from the clip's start. All
randomness comes from the ``rng`` in :class:`EditContext`, so the same seed makes the same clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from eval.drama_cast import N_TALK_POSES, N_WALK_POSES, figure, make_person
from eval.video_reader import even, read_frames, read_shape, read_sound
from eval.video_writer import write_video

Picture = NDArray[np.uint8]
TimedFrames = Iterator[tuple[float, Picture]]
Strength = Literal["light", "heavy"]
Colour = tuple[int, int, int]

SOUND_RATE_HZ = 32000


@dataclass
class EditContext:
    """What an edit may know beyond the frames.

    Attributes:
        rng: The only source of randomness.
        duration_seconds: Length of the clip before speed is changed.
    """

    rng: np.random.Generator
    duration_seconds: float


@dataclass(frozen=True)
class Edit:
    """One thing done to a clip.

    Attributes:
        name: With its parameters, as "crop 0.80".
        strength: "light" or "heavy": how much of a burden it is on matching.
        apply: From frames to frames.
        speed: By how much the times are divided; the sound follows.
        is_mirrored: Left and right change places.
        crf: Asks for this quality of the file; the last edit that asks wins.
        is_mute: Takes the sound away.
    """

    name: str
    strength: Strength
    apply: Callable[[TimedFrames, EditContext], TimedFrames]
    speed: float = 1.0
    is_mirrored: bool = False
    crf: int | None = None
    is_mute: bool = False

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed <= 4:
            raise ValueError(f"speed must be from 0.25 to 4, got {self.speed}")


@dataclass(frozen=True)
class TruthSegment:
    """Seconds of a clip that show seconds of a program, half open."""

    clip_start_seconds: float
    clip_end_seconds: float
    source: Path
    asset_id: str
    program_id: str
    asset_start_seconds: float
    asset_end_seconds: float

    def asset_time(self, clip_seconds: float) -> float:
        """The moment of the asset that is shown ``clip_seconds`` into the clip."""
        share = (clip_seconds - self.clip_start_seconds) / (self.clip_end_seconds - self.clip_start_seconds)
        return self.asset_start_seconds + share * (self.asset_end_seconds - self.asset_start_seconds)


@dataclass(frozen=True)
class ClipTruth:
    """What a written clip really shows.

    Attributes:
        path: The clip.
        segments: In the clip's order; one but for a montage.
        edits: Names of the edits, in the order applied.
        strength: "heavy" if any edit is, or the clip is a montage.
        speed: Asset seconds for each clip second.
        is_mirrored: Left and right are exchanged.
        duration_seconds: Length of the clip.
        seed: Of the edits' randomness.
    """

    path: Path
    segments: tuple[TruthSegment, ...]
    edits: tuple[str, ...]
    strength: Strength
    speed: float
    is_mirrored: bool
    duration_seconds: float
    seed: int


@dataclass(frozen=True)
class ClipPart:
    """What is cut from where.

    Attributes:
        source: The program's file.
        start_seconds: From its first frame.
        duration_seconds: Before speed is changed.
        asset_id: The file's name in the catalogue; its stem unless given.
        program_id: Likewise.
    """

    source: Path
    start_seconds: float
    duration_seconds: float
    asset_id: str = ""
    program_id: str = ""

    def __post_init__(self) -> None:
        if self.start_seconds < 0 or self.duration_seconds <= 0:
            raise ValueError(f"a part must start at 0 or later and last, got {self}")


# --- Helpers on one picture ---


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
    _place(out, small, (width - small.shape[1]) // 2, (height - small.shape[0]) // 2)
    return out


def _place(base: Picture, image: Picture, left: int, top: int) -> None:
    base[top : top + image.shape[0], left : left + image.shape[1]] = image


def _crop(image: Picture, width: float, height: float, x: float, y: float) -> Picture:
    """Cut an even box at the fractions ``x`` and ``y`` of the room there is."""
    wide, high = min(even(width), image.shape[1]), min(even(height), image.shape[0])
    left, top = int(x * (image.shape[1] - wide)), int(y * (image.shape[0] - high))
    return image[top : top + high, left : left + wide]


def _per_frame(change: Callable[[Picture], Picture]) -> Callable[[TimedFrames, EditContext], TimedFrames]:
    def apply(frames: TimedFrames, _: EditContext) -> TimedFrames:
        for seconds, image in frames:
            yield seconds, change(image)

    return apply


def _text(text: str, size: int, ink: Colour, back: Colour | None = None) -> Image.Image:
    font = ImageFont.load_default(size=max(8, size))
    left, top, right, low = font.getbbox(text, stroke_width=1)
    pad = 1 if back is None else size // 3
    image = Image.new("RGBA", (int(right - left) + 2 * pad, int(low - top) + 2 * pad))
    draw = ImageDraw.Draw(image)
    if back is not None:
        draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), size // 3, fill=(*back, 255))
    edge = 0 if back is not None else 1
    draw.text(
        (pad - left, pad - top),
        text,
        font=font,
        fill=(*ink, 255),
        stroke_width=edge,
        stroke_fill=(0, 0, 0, 255),
    )
    return image


def _pasted(image: Picture, stickers: Sequence[tuple[Image.Image, int, int]]) -> Picture:
    canvas = Image.fromarray(image)
    for sticker, left, top in stickers:
        canvas.paste(sticker, (left, top), sticker)
    return np.asarray(canvas)


# --- Edits ---


def reencode(*, crf: int = 34, max_side: int | None = 240) -> Edit:
    """Uploaded once too often: small and coarse."""

    def change(image: Picture) -> Picture:
        scale = min(1.0, max_side / max(image.shape[:2])) if max_side else 1.0
        return resize(image, image.shape[1] * scale, image.shape[0] * scale)

    return Edit(f"reencode crf {crf} side {max_side or 'same'}", "light", _per_frame(change), crf=crf)


def crop(share: float = 0.8, *, x: float = 0.5, y: float = 0.5) -> Edit:
    """Keep ``share`` of each side; ``x`` and ``y`` in [0, 1] say where."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")

    def change(image: Picture) -> Picture:
        return _crop(image, image.shape[1] * share, image.shape[0] * share, x, y)

    return Edit(f"crop {share:.2f}", "light" if share >= 0.75 else "heavy", _per_frame(change))


def vertical_crop(*, x: float = 0.5) -> Edit:
    """The middle (or left, or right) third of the picture, as 9:16."""

    def change(image: Picture) -> Picture:
        return _crop(image, image.shape[0] * 9 / 16, image.shape[0], x, 0.5)

    return Edit("vertical crop", "heavy", _per_frame(change))


def vertical_blur(*, width: int = 216, height: int = 384) -> Edit:
    """The whole picture across a 9:16 frame that a blurred copy of it fills."""

    def change(image: Picture) -> Picture:
        filling = _crop(image, image.shape[0] * width / height, image.shape[0], 0.5, 0.5)
        small = Image.fromarray(filling).resize((width // 6, height // 6), Image.Resampling.BILINEAR)
        soft = small.filter(ImageFilter.BoxBlur(3)).point(lambda v: int(v * 0.8))
        out = np.array(soft.resize((width, height), Image.Resampling.BICUBIC))
        inner = resize(image, width, image.shape[0] * width / image.shape[1])[:height]
        _place(out, inner, 0, (height - inner.shape[0]) // 2)
        return out

    return Edit("vertical blurred fill", "heavy", _per_frame(change))


def borders(*, kind: Literal["letterbox", "pillarbox"] = "letterbox", share: float = 0.15) -> Edit:
    """Bars, each ``share`` of the picture's height or width, around the picture as it is."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        tone = (
            context.rng.choice([0, 0, 255]) if context.rng.random() < 0.7 else context.rng.integers(0, 256, 3)
        )
        for seconds, image in frames:
            height, width = image.shape[:2]
            bar = even((height if kind == "letterbox" else width) * share)
            high, wide = (height + 2 * bar, width) if kind == "letterbox" else (height, width + 2 * bar)
            out = np.empty((high, wide, 3), np.uint8)
            out[:] = tone
            _place(out, image, (wide - width) // 2, (high - height) // 2)
            yield seconds, out

    return Edit(f"{kind} {share:.2f}", "light", apply)


_LINES = ("WAIT FOR IT", "best scene ever", "who else cried?", "part 7", "ep 12 spoiler!!", "follow for more")


def logo_and_subtitles() -> Edit:
    """An uploader's logo in a corner and a caption over the lower part that changes every two seconds."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        corner, order = int(rng.integers(4)), rng.permutation(len(_LINES))
        ink = [(255, 255, 255), (255, 225, 60), (120, 230, 255)][int(rng.integers(3))]
        name = f"@{rng.choice(['clips', 'drama', 'reel', 'cut'])}{int(rng.integers(10, 99))}"
        for seconds, image in frames:
            height, width = image.shape[:2]
            logo = _text(name, height // 11, (255, 255, 255), (200, 30, 70))
            line = _text(_LINES[int(order[int(seconds / 2) % len(order)])], height // 9, ink)
            left = 4 if corner % 2 == 0 else width - logo.width - 4
            top = 4 if corner < 2 else int(height * 0.6)
            middle = ((width - line.width) // 2, int(height * 0.78))
            yield seconds, _pasted(image, [(logo, left, top), (line, *middle)])

    return Edit("logo and subtitles", "light", apply)


def mirror() -> Edit:
    """Left and right change places."""
    return Edit(
        "mirror", "light", _per_frame(lambda image: np.ascontiguousarray(image[:, ::-1])), is_mirrored=True
    )


def colour(
    *, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0, hue_degrees: float = 0.0
) -> Edit:
    """A filter: all factors are 1 for no change; hue is turned around the grey axis."""
    angle = np.deg2rad(hue_degrees)
    # Rotation of RGB about (1, 1, 1), after scaling the distance from grey by the saturation.
    third, side = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    turn = np.full((3, 3), third) + np.eye(3) * np.cos(angle)
    turn += side * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    matrix = (turn @ (saturation * np.eye(3) + (1 - saturation) / 3)).astype(np.float32)

    def change(image: Picture) -> Picture:
        mixed = image.astype(np.float32) @ matrix.T
        mixed = ((mixed - 128) * contrast + 128) * brightness
        return np.asarray(np.clip(np.round(mixed), 0, 255), np.uint8)

    far = max(abs(brightness - 1), abs(contrast - 1), abs(saturation - 1), abs(hue_degrees) / 60)
    name = f"colour b{brightness:.2f} c{contrast:.2f} s{saturation:.2f} h{hue_degrees:.0f}"
    return Edit(name, "light" if far <= 0.35 else "heavy", _per_frame(change))


def grey_noise(*, sigma: float = 12.0) -> Edit:
    """Black and white with grain."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        for seconds, image in frames:
            grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            grey += context.rng.normal(0, sigma, grey.shape).astype(np.float32)
            flat = np.clip(grey, 0, 255).astype(np.uint8)
            yield seconds, np.repeat(flat[..., None], 3, axis=2)

    return Edit(f"grey and noise {sigma:.0f}", "heavy", apply)


def blur(radius: float = 2.0) -> Edit:
    """Out of focus by ``radius`` pixels."""

    def change(image: Picture) -> Picture:
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))

    return Edit(f"blur {radius:.1f}", "light" if radius <= 2 else "heavy", _per_frame(change))


def speed(factor: float) -> Edit:
    """Faster (above 1) or slower, picture and sound."""

    def apply(frames: TimedFrames, _: EditContext) -> TimedFrames:
        for seconds, image in frames:
            yield seconds / factor, image

    return Edit(f"speed {factor:.2f}", "light" if 0.8 <= factor <= 1.25 else "heavy", apply, speed=factor)


def mute() -> Edit:
    """Without sound."""
    return Edit("mute", "light", _per_frame(lambda image: image), is_mute=True)


def picture_in_picture(*, share: float = 0.5, over: Path | None = None) -> Edit:
    """The clip small in a corner over something else.

    Args:
        share: Of the frame's width that the clip keeps.
        over: A video to show behind, from its beginning and round again; None for moving patterns.
    """
    if not 0.1 <= share <= 0.9:
        raise ValueError(f"share must be from 0.1 to 0.9, got {share}")

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        x, y = context.rng.choice([0.04, 0.96], 2)
        backdrop = _Loop(over) if over is not None else _Patterns(context.rng)
        for seconds, image in frames:
            height, width = image.shape[:2]
            out = backdrop.at(seconds, width, height)
            small = resize(image, width * share, height * share)
            left, top = int(x * (width - small.shape[1])), int(y * (height - small.shape[0]))
            _place(out, small, left, top)
            yield seconds, out

    return Edit(f"picture in picture {share:.2f}", "heavy", apply)


def reaction(*, share: float = 0.33) -> Edit:
    """Somebody's talking face in a corner over the clip."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        person = make_person(rng, ((200, 60, 60), (60, 120, 200), (240, 190, 60)), robe_chance=0)
        corner, back = int(rng.integers(4)), tuple(int(v) for v in rng.integers(60, 220, 3))
        for seconds, image in frames:
            height, width = image.shape[:2]
            side = even(height * share * 1.2)
            pose = N_WALK_POSES + int(seconds * 5) % N_TALK_POSES
            bust = figure(person, pose, is_bust=True).resize((side * 4 // 3, side))
            face = Image.new("RGB", (side, side), (back[0], back[1], back[2]))
            face.paste(bust, ((side - bust.width) // 2, 0), bust)
            out = image.copy()
            left = 0 if corner % 2 == 0 else width - side
            _place(out, np.asarray(face)[:height, :width], max(0, left), 0 if corner < 2 else height - side)
            yield seconds, out

    return Edit(f"reaction face {share:.2f}", "heavy", apply)


def stickers(count: int = 5) -> Edit:
    """Hearts, stars, arrows and laughing faces, some of which wander."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        places, moves = rng.uniform(0, 0.85, (count, 2)), rng.uniform(-0.08, 0.08, (count, 2))
        kinds, sizes = rng.integers(0, 4, count), rng.uniform(0.12, 0.24, count)
        for seconds, image in frames:
            height, width = image.shape[:2]
            pasted = []
            for place, move, kind, size in zip(places, moves, kinds, sizes, strict=True):
                spot = place + move * np.sin(seconds * 2)
                pasted.append(
                    (_sticker(int(kind), int(size * height)), int(spot[0] * width), int(spot[1] * height))
                )
            yield seconds, _pasted(image, pasted)

    return Edit(f"stickers {count}", "light" if count <= 5 else "heavy", apply)


_ARROW = ((0, 0.35), (0.55, 0.35), (0.55, 0.1), (1, 0.5), (0.55, 0.9), (0.55, 0.65), (0, 0.65))


def _sticker(kind: int, size: int) -> Image.Image:
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


class _Patterns:
    """Something that has nothing to do with any program: drifting blocks and balls."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.cells = rng.integers(20, 235, (9, 32, 3)).astype(np.uint8)
        self.balls = rng.uniform(0, 1, (12, 7))

    def at(self, seconds: float, width: int, height: int) -> Picture:
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


class _Loop:
    """A video's frames by time, round and round."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.last = path, 0.0, 0.0
        self.frames = read_frames(path, 0.0, float("inf"))
        self.image: Picture = next(self.frames)[1]

    def at(self, seconds: float, width: int, height: int) -> Picture:
        while self.last + self.offset < seconds:
            ahead = next(self.frames, None)
            if ahead is None:
                self.offset += self.last + 1e-3
                self.frames = read_frames(self.path, 0.0, float("inf"))
                ahead = next(self.frames)
            self.last, self.image = ahead
        return fit(self.image, width, height)


# --- Writing clips ---


def resample(frames: TimedFrames, *, fps: Fraction, duration_seconds: float) -> Iterator[Picture]:
    """The picture on show at each tick of a constant rate: the last one whose time has come."""
    tick, n_ticks = 0, max(1, round(duration_seconds * float(fps)))
    held: Picture | None = None
    for seconds, image in frames:
        while held is not None and tick < n_ticks and tick / float(fps) < seconds - 1e-6:
            yield held
            tick += 1
        held = image
    while held is not None and tick < n_ticks:
        yield held
        tick += 1


def _part_frames(part: ClipPart, offset: float, size: tuple[int, int], max_side: int | None) -> TimedFrames:
    stop = part.start_seconds + part.duration_seconds
    for seconds, image in read_frames(part.source, part.start_seconds, stop, max_side=max_side):
        shown = image if image.shape[:2] == (size[1], size[0]) else fit(image, *size)
        yield offset + max(0.0, seconds - part.start_seconds), shown


def _sound(parts: Sequence[ClipPart], factor: float) -> NDArray[np.float32]:
    pieces = [
        read_sound(p.source, p.start_seconds, p.start_seconds + p.duration_seconds, rate_hz=SOUND_RATE_HZ)
        for p in parts
    ]
    whole = np.concatenate(pieces)
    if factor == 1.0 or len(whole) < 2:
        return whole
    at = np.arange(0, len(whole) - 1, factor)
    return np.asarray(np.interp(at, np.arange(len(whole)), whole), np.float32)


def _within(part: ClipPart) -> ClipPart:
    """The part without what lies beyond the end of its file."""
    left = read_shape(part.source).duration_seconds - part.start_seconds
    if left < 0.1:
        raise ValueError(f"{part.source} ends before {part.start_seconds:.1f} s")
    return replace(
        part,
        duration_seconds=min(part.duration_seconds, left),
        asset_id=part.asset_id or part.source.stem,
        program_id=part.program_id or part.source.stem,
    )


def write_montage(
    parts: Sequence[ClipPart],
    edits: Sequence[Edit],
    out: Path,
    *,
    seed: int,
    crf: int = 26,
    fps: Fraction | int | None = None,
    max_side: int | None = None,
) -> ClipTruth:
    """Cut ``parts``, put them one after another, apply ``edits`` to the whole and write it.

    Args:
        parts: What is shown, in order; all are fitted into the first one's frame.
        edits: Applied from left to right.
        out: The file to write; its folder is made.
        seed: Of all randomness in the edits.
        crf: Constant rate factor, unless an edit asks for another.
        fps: Of the clip; None takes that of the first part.
        max_side: Longest side the sources are read at; None keeps their size.

    Returns:
        The truth about the file.

    Raises:
        ValueError: There is no part, or one starts after its file's end.
    """
    if not parts:
        raise ValueError("a clip needs at least one part")
    parts = [_within(part) for part in parts]
    shape = read_shape(parts[0].source)
    rate = Fraction(fps) if fps is not None else shape.fps
    scale = min(1.0, max_side / max(shape.width, shape.height)) if max_side else 1.0
    size = (even(shape.width * scale), even(shape.height * scale))
    factor = float(np.prod([edit.speed for edit in edits])) if edits else 1.0
    total = sum(part.duration_seconds for part in parts)
    offsets = [0.0, *itertools.accumulate(part.duration_seconds for part in parts)]
    frames: TimedFrames = itertools.chain.from_iterable(
        _part_frames(part, offset, size, max_side) for part, offset in zip(parts, offsets, strict=False)
    )
    for number, edit in enumerate(edits):
        frames = edit.apply(frames, EditContext(np.random.default_rng([seed, number]), total))
    out.parent.mkdir(parents=True, exist_ok=True)
    has_sound = not any(edit.is_mute for edit in edits)
    n_frames = write_video(
        out,
        resample(frames, fps=rate, duration_seconds=total / factor),
        fps=rate,
        crf=next((edit.crf for edit in reversed(edits) if edit.crf is not None), crf),
        sound=_sound(parts, factor) if has_sound else None,
        sound_rate_hz=SOUND_RATE_HZ,
        preset="superfast",  # the same file every time; see write_video
        options={"threads": "1"},
    )
    return ClipTruth(
        path=out,
        segments=_segments(parts, offsets, factor),
        edits=tuple(edit.name for edit in edits),
        strength="heavy" if len(parts) > 1 or any(edit.strength == "heavy" for edit in edits) else "light",
        speed=factor,
        is_mirrored=sum(edit.is_mirrored for edit in edits) % 2 == 1,
        duration_seconds=n_frames / float(rate),
        seed=seed,
    )


def _segments(parts: Sequence[ClipPart], offsets: Sequence[float], factor: float) -> tuple[TruthSegment, ...]:
    return tuple(
        TruthSegment(
            clip_start_seconds=offset / factor,
            clip_end_seconds=(offset + part.duration_seconds) / factor,
            source=part.source,
            asset_id=part.asset_id,
            program_id=part.program_id,
            asset_start_seconds=part.start_seconds,
            asset_end_seconds=part.start_seconds + part.duration_seconds,
        )
        for part, offset in zip(parts, offsets, strict=False)
    )


def write_clip(
    source: Path,
    start_seconds: float,
    duration_seconds: float,
    edits: Sequence[Edit],
    out: Path,
    *,
    seed: int,
    crf: int = 26,
    fps: Fraction | int | None = None,
    max_side: int | None = None,
    asset_id: str = "",
    program_id: str = "",
) -> ClipTruth:
    """Cut one stretch of ``source``, edit it and write it; :func:`write_montage` of one part."""
    part = ClipPart(source, start_seconds, duration_seconds, asset_id, program_id)
    return write_montage([part], edits, out, seed=seed, crf=crf, fps=fps, max_side=max_side)


def demo_edits(rng: np.random.Generator) -> list[Edit]:
    """One of each kind, with parameters drawn from ``rng``; light ones first."""
    x = float(rng.uniform(0.2, 0.8))
    kinds = [
        reencode(crf=int(rng.integers(30, 37)), max_side=int(rng.choice([200, 240, 280]))),
        crop(float(rng.uniform(0.75, 0.9)), x=x, y=float(rng.uniform(0.2, 0.8))),
        borders(kind="letterbox", share=float(rng.uniform(0.1, 0.25))),
        borders(kind="pillarbox", share=float(rng.uniform(0.1, 0.25))),
        logo_and_subtitles(),
        mirror(),
        colour(
            brightness=float(rng.uniform(0.8, 1.2)),
            contrast=float(rng.uniform(0.75, 1.3)),
            saturation=float(rng.uniform(0.7, 1.3)),
            hue_degrees=float(rng.uniform(-20, 20)),
        ),
        blur(float(rng.uniform(1.0, 2.0))),
        stickers(4),
        vertical_crop(x=x),
        vertical_blur(),
        grey_noise(sigma=float(rng.uniform(6, 14))),
        speed(float(rng.choice([0.5, 0.75, 1.5, 2.0]))),
        picture_in_picture(share=float(rng.uniform(0.45, 0.6))),
        reaction(),
    ]
    return sorted(kinds, key=lambda edit: edit.strength == "heavy")
