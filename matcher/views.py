"""What a frame is looked at through, before an encoder sees it.

Shape letters: ``h w`` picture size, ``s`` the encoder's input side.
"""

from __future__ import annotations

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
