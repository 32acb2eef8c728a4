"""Blank pictures, bars and squashing on pictures whose right answer is obvious."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.views import LEAST_LEFT, Box, View, grey, is_blank, square, trim_bars

Picture = NDArray[np.uint8]


def textured(h: int, w: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def flat(h: int, w: int, colour: tuple[int, int, int] | int) -> Picture:
    return np.broadcast_to(np.asarray(colour, np.uint8), (h, w, 3)).copy()


def with_bars(
    content: Picture, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0, colour: int = 0
) -> Picture:
    h, w = content.shape[:2]
    canvas = flat(h + top + bottom, w + left + right, colour)
    canvas[top : top + h, left : left + w] = content
    return canvas


# ---------------------------------------------------------------- grey, blank


def test_grey_is_the_weighted_sum_of_each_pixel() -> None:
    picture = textured(5, 4)
    want = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in picture.tolist()]
    np.testing.assert_allclose(grey(picture), want, rtol=1e-5)


@pytest.mark.parametrize("colour", [0, 16, 128, 255, (200, 30, 60)])
def test_one_colour_is_blank(colour: tuple[int, int, int] | int) -> None:
    assert is_blank(flat(40, 60, colour))


def test_one_colour_with_a_codecs_noise_is_blank() -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (40, 60, 1))
    assert is_blank((flat(40, 60, 20) + noise).astype(np.uint8))


def test_a_fade_to_black_is_blank_near_its_end_only() -> None:
    picture = textured(40, 60)
    assert not is_blank(picture)
    assert not is_blank((picture * 0.3).astype(np.uint8))
    assert is_blank((picture * 0.02).astype(np.uint8))


def test_a_white_line_on_black_is_not_blank() -> None:
    """A title card is a picture, though a dull one."""
    picture = flat(40, 60, 0)
    picture[18:22, 10:50] = 255
    assert not is_blank(picture)


# ---------------------------------------------------------------- bars


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    bars=st.tuples(*[st.integers(0, 18)] * 4),
    colour=st.sampled_from([0, 16, 128, 255]),
)
def test_bars_of_any_width_and_colour_are_cut_off(
    seed: int, bars: tuple[int, int, int, int], colour: int
) -> None:
    content = textured(40, 60, seed)
    top, bottom, left, right = bars
    picture = with_bars(content, top=top, bottom=bottom, left=left, right=right, colour=colour)
    np.testing.assert_array_equal(trim_bars(picture), content)


def test_bars_with_a_codecs_noise_are_cut_off() -> None:
    picture = with_bars(textured(40, 60), top=12, bottom=12).astype(np.int64)
    noise = np.random.default_rng(0).integers(-1, 2, picture.shape)
    trimmed = trim_bars((picture + noise).clip(0, 255).astype(np.uint8))
    assert trimmed.shape[:2] == (40, 60)


def test_a_picture_without_bars_stays_whole() -> None:
    picture = textured(40, 60)
    assert trim_bars(picture) is picture or np.array_equal(trim_bars(picture), picture)


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_a_picture_of_one_colour_stays_whole(colour: int) -> None:
    assert trim_bars(flat(40, 60, colour)).shape == (40, 60, 3)


def test_where_too_little_would_be_left_the_picture_stays_whole() -> None:
    """A white dot on black is a picture of a dot, and not bars around one."""
    picture = with_bars(textured(6, 6), top=30, bottom=30, left=40, right=40)
    assert trim_bars(picture).shape == picture.shape
    enough = int(np.ceil(LEAST_LEFT * 100))
    assert trim_bars(with_bars(textured(enough, 100), top=100 - enough)).shape[0] == enough
    assert trim_bars(with_bars(textured(enough - 2, 100), top=102 - enough)).shape[0] == 100


def test_bars_of_two_colours_are_cut_to_the_change() -> None:
    """What changes colour inside a border is content: a caption strip on black, a flag."""
    content = textured(40, 60)
    picture = with_bars(with_bars(content, top=8, colour=200), top=8, colour=0)
    assert trim_bars(picture).shape[:2] == (48, 60)


def test_a_gradient_is_no_bar() -> None:
    """Each row is flat, but it differs from the edge."""
    ramp = np.broadcast_to(np.linspace(0, 250, 40)[:, None, None], (40, 60, 3)).astype(np.uint8)
    assert trim_bars(ramp).shape[0] >= 37


def test_a_trimmed_picture_is_trimmed() -> None:
    once = trim_bars(with_bars(textured(40, 60), top=9, left=5))
    np.testing.assert_array_equal(trim_bars(once), once)


def test_bars_and_content_stay_a_view() -> None:
    picture = with_bars(textured(40, 60), top=9)
    assert np.shares_memory(trim_bars(picture), picture)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_pictures_are_taken(h: int, w: int) -> None:
    picture = textured(h, w)
    assert min(trim_bars(picture).shape) >= 1
    assert square(trim_bars(picture), 8).shape == (8, 8, 3)
    assert isinstance(is_blank(picture), bool)


# ---------------------------------------------------------------- square


@pytest.mark.parametrize(("h", "w"), [(40, 60), (60, 40), (7, 200), (16, 16), (3, 3)])
def test_any_shape_becomes_a_square(h: int, w: int) -> None:
    out = square(textured(h, w), 24)
    assert out.shape == (24, 24, 3)
    assert out.dtype == np.uint8


def test_a_square_of_the_right_size_is_left_alone() -> None:
    picture = textured(24, 24)
    assert square(picture, 24) is picture


def test_nothing_is_cut_off() -> None:
    """Four coloured quarters stay four quarters, whatever the ratio of sides."""
    picture = np.zeros((60, 200, 3), np.uint8)
    picture[:30, :100], picture[:30, 100:], picture[30:, :100], picture[30:, 100:] = (
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255),
    )  # fmt: skip
    out = square(picture, 32)
    corners = [out[2, 2], out[2, -3], out[-3, 2], out[-3, -3]]
    assert [corner.tolist() for corner in corners] == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255] * 3]


def test_a_stretched_copy_looks_the_same() -> None:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    stretched = np.repeat(picture, 2, axis=1)
    difference = square(picture, 32).astype(int) - square(stretched, 32).astype(int)
    assert np.abs(difference).mean() < 3


# ---------------------------------------------------------------- boxes and views


shares = st.integers(0, 10).map(lambda tenths: tenths / 10)
ends = st.lists(shares, min_size=2, max_size=2, unique=True).map(sorted)
boxes = st.tuples(ends, ends).map(lambda b: Box(b[0][0], b[1][0], b[0][1], b[1][1]))


@pytest.mark.parametrize(
    "sides",
    [
        (0.5, 0, 0.5, 1),
        (0, 0.7, 1, 0.3),
        (-0.1, 0, 1, 1),
        (0, 0, 1.01, 1),
        (0, 0, float("nan"), 1),
        (0, 0, 0, 0),
    ],
)
def test_a_box_outside_the_picture_or_without_inside_is_refused(sides: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="not a box"):
        Box(*sides)


@given(a=boxes, b=boxes)
def test_iou_is_that_of_counted_cells(a: Box, b: Box) -> None:
    """On a grid of ten by ten every side of these boxes lies between cells."""
    cells = [((x + 0.5) / 10, (y + 0.5) / 10) for x in range(10) for y in range(10)]
    inside = [[box.left < x < box.right and box.top < y < box.bottom for x, y in cells] for box in (a, b)]
    both = sum(p and q for p, q in zip(*inside, strict=True))
    either = sum(p or q for p, q in zip(*inside, strict=True))
    assert a.iou(b) == pytest.approx(both / either) == b.iou(a)
    assert a.area == pytest.approx(sum(inside[0]) / 100)
    assert a.iou(a) == pytest.approx(1.0)


def test_a_box_cuts_rows_and_columns() -> None:
    picture = textured(40, 60)
    cut = Box(0.1, 0.25, 0.5, 1.0).cut(picture)
    np.testing.assert_array_equal(cut, picture[10:40, 6:30])
    assert np.shares_memory(cut, picture)
    np.testing.assert_array_equal(Box(0, 0, 1, 1).cut(picture), picture)


@settings(deadline=None)
@given(box=boxes, h=st.integers(1, 12), w=st.integers(1, 12))
def test_a_cut_is_never_empty_and_lies_in_the_picture(box: Box, h: int, w: int) -> None:
    cut = box.cut(textured(h, w))
    assert 1 <= cut.shape[0] <= h
    assert 1 <= cut.shape[1] <= w


def test_halves_share_no_pixel_and_miss_none() -> None:
    picture = textured(7, 9)
    left, right = Box(0, 0, 0.5, 1).cut(picture), Box(0.5, 0, 1, 1).cut(picture)
    np.testing.assert_array_equal(np.concatenate([left, right], axis=1), picture)


def test_a_view_of_the_whole_trims_bars() -> None:
    content = textured(40, 60)
    np.testing.assert_array_equal(View("whole").through(with_bars(content, top=9, left=4)), content)


def test_a_view_of_a_part_trims_the_parts_own_bars() -> None:
    """A split screen of two films, each with bars of its own, inside no bars at all."""
    left, right = textured(40, 60, 1), textured(60, 60, 2)
    picture = np.concatenate([with_bars(left, top=10, bottom=10), right], axis=1)
    np.testing.assert_array_equal(View("left half", Box(0, 0, 0.5, 1)).through(picture), left)
    np.testing.assert_array_equal(View("right half", Box(0.5, 0, 1, 1)).through(picture), right)
    np.testing.assert_array_equal(View("whole").through(picture), picture)


def test_a_mirror_changes_left_and_right_after_the_cut() -> None:
    picture = textured(40, 60)
    seen = View("mirror", Box(0, 0, 0.5, 1), is_mirrored=True).through(picture)
    np.testing.assert_array_equal(seen, picture[:, 29::-1])
    twice = View("mirror", is_mirrored=True)
    np.testing.assert_array_equal(twice.through(twice.through(picture)), picture)
