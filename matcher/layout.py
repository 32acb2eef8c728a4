"""Where in a clip's pictures another picture stands: insets, split screens, the middle of a 9:16 fill.

What was put together by an editor is put together along straight lines that stay where they are,
whatever moves on either side of them. :func:`find_boxes` looks for rectangles whose every side is such a
line or the picture's own border.

Shape letters: ``n`` pictures of one clip, ``h w`` their size after shrinking.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matcher.views import Box, Picture

#: Pictures are shrunk to this longest side: layout is coarse, and noise averages out.
LONG_SIDE = 160
#: At most so many pictures are looked at, evenly spread.
MOST_PICTURES = 12
#: A step in grey values counts up to this: a line is long, not strong in a few places.
STEP_CLIP = 10.0
#: Mean step along every side of a box, in grey levels, that is no accident of the scene.
LEAST_STEP = 4.0
#: Share of a side's length that shows the step.
LEAST_SUPPORT = 0.6
#: By how many of a box's sides are lines: where two fit, each of them alone fits better by chance.
SIDES_FACTOR = (0.0, 0.9, 1.0, 1.05, 1.1)
#: Lines that a box may be made of, in each direction.
MOST_LINES = 7
#: Width over height of what films show, cropped or not.
FILM_FORMS = (1.2, 2.7)
#: Bands beside a film step more than this; what lies across a scene, a horizon or a table, hardly does.
BAND_STEP = 6.5
#: So far, as a share of the height, may the middle of a film between two bands be from that of the picture.
OFF_CENTRE = 0.1
#: A box is at least this share of either side and at most this share of the area.
LEAST_SIDE = 0.2
MOST_AREA = 0.92


def find_boxes(pictures: Sequence[Picture], *, most: int = 5) -> list[Box]:
    """Boxes that stand still over the pictures of a clip, the clearest first.

    Args:
        pictures: (h, w, 3) uint8 each, of one size (those of another size than the first are passed over).
        most: At most so many are returned; none is nearly the same as a clearer one.

    Returns:
        None where fewer than two pictures say anything about what stands still.
    """
    boxes: list[Box] = []
    for _, box in _all_boxes(pictures):
        if all(box.iou(other) < 0.75 for other in boxes):
            boxes.append(box)
        if len(boxes) == most:
            break
    return boxes


def inner_box(pictures: Sequence[Picture]) -> Box | None:
    """The wide picture inside an upright one: what stands between two bands of fill or captions.

    Only where the pictures are at least as high as wide and a clear box of their whole width, with something
    above it and about as much below, has the form of a film: that is how phones are fed, and hardly ever an
    accident. The first look goes through it.
    """
    if not pictures or pictures[0].shape[0] < pictures[0].shape[1]:
        return None
    height, width = pictures[0].shape[:2]
    for clear, box in _all_boxes(pictures):
        form = (box.right - box.left) * width / ((box.bottom - box.top) * height)
        is_film = FILM_FORMS[0] <= form <= FILM_FORMS[1]
        if clear >= BAND_STEP and is_film and _is_between_bands(box):
            return box
    return None


def _is_between_bands(box: Box) -> bool:
    is_across = box.left == 0 and box.right == 1
    # One line alone parts many a picture.
    is_inside = box.top > 0 and box.bottom < 1
    return is_across and is_inside and abs((box.top + box.bottom) / 2 - 0.5) <= OFF_CENTRE


def _all_boxes(pictures: Sequence[Picture]) -> Iterator[tuple[float, Box]]:
    """Every box that may stand in the pictures and its clearness, the clearest first, near copies too."""
    luma = _shrunk(pictures)
    if luma is None:
        return
    h, w = luma.shape[1:]
    # Steps across vertical lines lie between columns, those across horizontal lines between rows.
    columns = _ridges(luma)
    rows = _ridges(luma.transpose(0, 2, 1))
    for clear, left, top, right, bottom in _boxes(columns, rows, _lines(columns), _lines(rows)):
        yield clear, Box(left / w, top / h, right / w, bottom / h)


def _shrunk(pictures: Sequence[Picture]) -> NDArray[np.float32] | None:
    """(n, h, w) luma of evenly spread pictures of the first one's size, or None with fewer than two."""
    same = [picture for picture in pictures if picture.shape == pictures[0].shape]
    if len(same) < 2:
        return None
    chosen = [same[int(i)] for i in np.unique(np.linspace(0, len(same) - 1, MOST_PICTURES).round())]
    height, width = chosen[0].shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    grey = [Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BOX) for picture in chosen]
    return np.stack([np.asarray(picture, np.float32) for picture in grey])


def _ridges(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much more the picture steps at each place between two columns than beside it.

    Args:
        luma: (n, h, w).

    Returns:
        (h, w) clipped mean step at the left edge of each column, over the pictures, less the steps a few
        columns to the left and right: what moves steps everywhere in turn, a line steps in its place.
    """
    n, h, w = luma.shape
    step = np.zeros((n, h, w), np.float32)
    # Over two columns, since codecs and scaling smear an edge over that many.
    step[:, :, 1:] = np.abs(np.diff(luma, axis=2))
    step[:, :, 2:] = np.maximum(step[:, :, 2:], np.abs(luma[:, :, 2:] - luma[:, :, :-2]) * 0.75)
    mean = np.minimum(step, 3 * STEP_CLIP).mean(axis=0)
    padded = np.pad(mean, ((0, 0), (4, 4)), mode="edge")
    beside = 0.5 * (padded[:, :w] + padded[:, 8:])
    ridges: NDArray[np.float32] = np.clip(mean - beside, -STEP_CLIP / 2, STEP_CLIP)
    return ridges


def _lines(ridges: NDArray[np.float32]) -> list[int]:
    """Columns with a long line somewhere, ascending, the picture's own borders among them."""
    h, w = ridges.shape
    sums = np.concatenate([np.zeros((1, w), np.float32), np.cumsum(ridges, axis=0)])
    best = np.full(w, -np.inf, np.float32)
    for share in (LEAST_SIDE, 0.35, 0.6, 1.0):
        length = max(2, int(share * h))
        means = (sums[length:] - sums[:-length]) / length
        best = np.maximum(best, means.max(axis=0) * np.sqrt(share))
    best[:3] = best[w - 2 :] = -np.inf
    lines: list[int] = []
    for column in np.argsort(-best, kind="stable"):
        if best[column] < 0.15 * LEAST_STEP or len(lines) == MOST_LINES:
            break
        if all(abs(int(column) - line) > 2 for line in lines):
            lines.append(int(column))
    return sorted([0, w, *lines])


def _boxes(
    columns: NDArray[np.float32], rows: NDArray[np.float32], xs: Sequence[int], ys: Sequence[int]
) -> list[tuple[float, int, int, int, int]]:
    """(clearness, left, top, right, bottom) of every box whose sides are all lines; the clearest first."""
    h, w = columns.shape
    steps = [_along(ridge) for ridge in (columns, rows)]
    found = []
    for left, right in itertools.combinations(xs, 2):
        if right - left < LEAST_SIDE * w:
            continue
        for top, bottom in itertools.combinations(ys, 2):
            share = (right - left) * (bottom - top) / (w * h)
            if bottom - top < LEAST_SIDE * h or share > MOST_AREA:
                continue
            sides = [(steps[0], x, top, bottom) for x in (left, right) if 0 < x < w]
            sides += [(steps[1], y, left, right) for y in (top, bottom) if 0 < y < h]
            clear = min((_clearness(*side) for side in sides), default=0.0)
            if clear >= LEAST_STEP:
                found.append((clear * SIDES_FACTOR[len(sides)], left, top, right, bottom))
    return sorted(found, key=lambda box: (-box[0], *box[1:]))


def _along(ridges: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Running sums down every column of the ridge and of where it shows; of two neighbours the better one."""
    wide = ridges.copy()
    wide[:, 1:] = np.maximum(wide[:, 1:], ridges[:, :-1])
    wide[:, :-1] = np.maximum(wide[:, :-1], ridges[:, 1:])
    zero = np.zeros((1, ridges.shape[1]), np.float32)
    return (
        np.concatenate([zero, np.cumsum(wide, axis=0)]),
        np.concatenate([zero, np.cumsum(wide > 0.5, axis=0, dtype=np.float32)]),
    )


def _clearness(
    sums: tuple[NDArray[np.float32], NDArray[np.float32]], column: int, start: int, stop: int
) -> float:
    """Mean step along one side; 0 where too little of it shows one."""
    length = stop - start
    mean, support = ((part[stop, column] - part[start, column]) / length for part in sums)
    return float(mean) if support >= LEAST_SUPPORT else 0.0
