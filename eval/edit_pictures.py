"""Edits that change every picture by itself: quality, colour, sharpness, and what is drawn on top."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from eval.edit_base import Edit, EditContext, Picture, TimedFrames, per_frame
from eval.edit_drawing import cut, pasted, resize, sticker, text


def reencode(*, crf: int = 34, max_side: int | None = 240) -> Edit:
    """Uploaded once too often: small and coarse."""

    def change(image: Picture) -> Picture:
        scale = min(1.0, max_side / max(image.shape[:2])) if max_side else 1.0
        return resize(image, image.shape[1] * scale, image.shape[0] * scale)

    return Edit(f"reencode crf {crf} side {max_side or 'same'}", "light", per_frame(change), crf=crf)


def low_resolution(*, max_side: int = 128) -> Edit:
    """Shrunk to ``max_side`` and enlarged again, as by a site that keeps thumbnails only."""

    def change(image: Picture) -> Picture:
        scale = min(1.0, max_side / max(image.shape[:2]))
        small = resize(image, image.shape[1] * scale, image.shape[0] * scale)
        return resize(small, image.shape[1], image.shape[0])

    return Edit(f"low resolution {max_side}", "light" if max_side >= 96 else "heavy", per_frame(change))


def crop(share: float = 0.8, *, x: float = 0.5, y: float = 0.5) -> Edit:
    """Keep ``share`` of each side; ``x`` and ``y`` in [0, 1] say where."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")

    def change(image: Picture) -> Picture:
        return cut(image, image.shape[1] * share, image.shape[0] * share, x, y)

    return Edit(f"crop {share:.2f}", "light" if share >= 0.75 else "heavy", per_frame(change))


def _mirrored(image: Picture) -> Picture:
    return np.ascontiguousarray(image[:, ::-1])


def mirror() -> Edit:
    """Left and right change places."""
    return Edit("mirror", "light", per_frame(_mirrored), is_mirrored=True)


def mirror_and_crop(share: float = 0.7, *, x: float = 0.5, y: float = 0.5) -> Edit:
    """Left and right change places and ``share`` of each side is kept, as against copy detection."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")

    def change(image: Picture) -> Picture:
        return cut(_mirrored(image), image.shape[1] * share, image.shape[0] * share, x, y)

    return Edit(f"mirror and crop {share:.2f}", "heavy", per_frame(change), is_mirrored=True)


def colour(
    *, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0, hue_degrees: float = 0.0
) -> Edit:
    """A filter: all factors are 1 for no change; hue is turned around the grey axis."""
    angle = np.deg2rad(hue_degrees)
    # Rotation of RGB about (1, 1, 1), after scaling the distance from grey by the saturation.
    third, side = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    turn = np.full((3, 3), third) + np.eye(3) * np.cos(angle)
    turn += side * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    # Contrast turns about 128, then brightness scales: both are linear, so one matrix does it all.
    matrix = turn @ (saturation * np.eye(3) + (1 - saturation) / 3) * contrast * brightness
    shift = np.full((3, 1), 128 * (1 - contrast) * brightness)
    rows = [float(value) for value in np.hstack([matrix, shift]).ravel()]
    twelve = (*rows[:4], *rows[4:8], *rows[8:])

    def change(image: Picture) -> Picture:
        return np.asarray(Image.fromarray(image).convert("RGB", twelve))

    far = max(abs(brightness - 1), abs(contrast - 1), abs(saturation - 1), abs(hue_degrees) / 60)
    name = f"colour b{brightness:.2f} c{contrast:.2f} s{saturation:.2f} h{hue_degrees:.0f}"
    return Edit(name, "light" if far <= 0.35 else "heavy", per_frame(change))


def grey_noise(*, sigma: float = 12.0) -> Edit:
    """Black and white with grain."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        plate: NDArray[np.int16] | None = None
        for seconds, image in frames:
            height, width = image.shape[:2]
            if plate is None or plate.shape[0] <= height or plate.shape[1] <= width:
                # One field of noise, looked at through another window for every picture.
                grain = context.rng.normal(0, sigma, (height + 64, width + 64))
                plate = np.round(grain).astype(np.int16)
            top, left = context.rng.integers(0, 64, 2)
            grey = np.asarray(Image.fromarray(image).convert("L"), np.int16)
            flat = np.clip(grey + plate[top : top + height, left : left + width], 0, 255).astype(np.uint8)
            yield seconds, np.repeat(flat[..., None], 3, axis=2)

    return Edit(f"grey and noise {sigma:.0f}", "heavy", apply)


def blur(radius: float = 2.0) -> Edit:
    """Out of focus by ``radius`` pixels."""

    def change(image: Picture) -> Picture:
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))

    return Edit(f"blur {radius:.1f}", "light" if radius <= 2 else "heavy", per_frame(change))


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
            logo = text(name, height // 11, (255, 255, 255), (200, 30, 70))
            line = text(_LINES[int(order[int(seconds / 2) % len(order)])], height // 9, ink)
            left = 4 if corner % 2 == 0 else width - logo.width - 4
            top = 4 if corner < 2 else int(height * 0.6)
            middle = ((width - line.width) // 2, int(height * 0.78))
            yield seconds, pasted(image, [(logo, left, top), (line, *middle)])

    return Edit("logo and subtitles", "light", apply)


def stickers(count: int = 5) -> Edit:
    """Hearts, stars, arrows and laughing faces, some of which wander."""

    def apply(frames: TimedFrames, context: EditContext) -> TimedFrames:
        rng = context.rng
        places, moves = rng.uniform(0, 0.85, (count, 2)), rng.uniform(-0.08, 0.08, (count, 2))
        kinds, sizes = rng.integers(0, 4, count), rng.uniform(0.12, 0.24, count)
        for seconds, image in frames:
            height, width = image.shape[:2]
            laid = []
            for spot, kind, size in zip(places + moves * np.sin(seconds * 2), kinds, sizes, strict=True):
                drawn = sticker(int(kind), int(size * height))
                laid.append((drawn, int(spot[0] * width), int(spot[1] * height)))
            yield seconds, pasted(image, laid)

    return Edit(f"stickers {count}", "light" if count <= 5 else "heavy", apply)
