"""What a frame is looked at through, before an encoder sees it.

Shape letters: ``h w`` picture size, ``s`` the encoder's input side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

#: A picture whose grey values deviate less than this from their mean shows nothing (0 to 255).
BLANK_DEVIATION = 6.0
#: A border line deviates less than this within itself; codecs leave about one grey level.
BAR_DEVIATION = 3.0
#: At least this share of a side is left, or the picture is taken whole.
LEAST_LEFT = 0.35


@dataclass(frozen=True)
class Box:
    """A rectangle, as shares of the picture's width and height.

    Attributes:
        left: From 0 at the left edge.
        top: From 0 at the top.
        right: Up to 1.
        bottom: Up to 1.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(f"not a box inside the picture: {self}")

    @property
    def area(self) -> float:
        """Share of the picture."""
        return (self.right - self.left) * (self.bottom - self.top)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        common = max(0.0, wide) * max(0.0, high)
        return common / (self.area + other.area - common)

    def cut(self, image: Picture) -> Picture:
        """The part of ``image`` (h, w, 3) in the box, at least one pixel each way; a view."""
        h, w = image.shape[:2]
        left, top = min(round(self.left * w), w - 1), min(round(self.top * h), h - 1)
        right, bottom = max(left + 1, round(self.right * w)), max(top + 1, round(self.bottom * h))
        return image[top:bottom, left:right]


@dataclass(frozen=True)
class View:
    """One way to look at a picture: a part of it, trimmed of bars, and perhaps mirrored.

    Attributes:
        name: For the evidence: "whole", "mirror", "centre", "inset 0.04,0.04,0.50,0.51".
        box: The part; None for all.
        is_mirrored: Left and right change places.
    """

    name: str
    box: Box | None = None
    is_mirrored: bool = False

    def through(self, image: Picture) -> Picture:
        """What of ``image`` (h, w, 3) is seen."""
        seen = trim_bars(image if self.box is None else self.box.cut(image))
        return seen[:, ::-1] if self.is_mirrored else seen


def grey(image: Picture) -> NDArray[np.float32]:
    """Luma (h, w) of ``image`` (h, w, 3), 0 to 255 (BT.601 weights)."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return image.astype(np.float32) @ weights


def is_blank(image: Picture) -> bool:
    """Whether a picture (h, w, 3) is near one colour: black frames, fades, flashes."""
    return bool(grey(image).std() < BLANK_DEVIATION)


def trim_bars(image: Picture) -> Picture:
    """Cut off letterbox and pillarbox bars: border rows and columns of one flat colour.

    Returns:
        A view into ``image``; the whole picture where too little would be left.
    """
    luma = grey(image)
    top, bottom = _content(luma, axis=1)
    left, right = _content(luma[top:bottom], axis=0)
    h, w = luma.shape
    if bottom - top < LEAST_LEFT * h or right - left < LEAST_LEFT * w:
        return image
    return image[top:bottom, left:right]


def _content(luma: NDArray[np.float32], *, axis: int) -> tuple[int, int]:
    """First and one past the last line along the other axis that is not a flat continuation of the edge."""
    deviation = luma.std(axis=axis)
    level = luma.mean(axis=axis)
    n = len(level)

    def bar_length(order: NDArray[np.int64]) -> int:
        flat = (deviation[order] < BAR_DEVIATION) & (np.abs(level[order] - level[order[0]]) < BAR_DEVIATION)
        return n if bool(flat.all()) else int(np.argmin(flat))

    start = bar_length(np.arange(n))
    stop = n - bar_length(np.arange(n)[::-1])
    return (0, n) if start >= stop else (start, stop)


def square(image: Picture, side: int) -> Picture:
    """Squash a picture (h, w, 3) to (s, s, 3), so that nothing of it is lost.

    The ratio of sides is given up on purpose: it then makes no difference whether a re-upload
    was stretched.
    """
    if image.shape[:2] == (side, side):
        return image
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized)
