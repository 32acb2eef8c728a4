"""Boxes of composites whose layout is known, over generated dramas that move, cut and pan behind them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from eval.dramas import catalogue, render_episode
from eval.edit_drawing import cover, place, resize, text_block
from matcher.layout import FILM_FORMS, LEAST_SIDE, MOST_AREA, find_boxes, inner_box
from matcher.views import Box, Picture

N_CASES = 40
#: Pictures of each scene, one a second.
N_PICTURES = 12
WORDS = ("When the boss finds out", "Nobody expected this", "Full episode in the comments", "Part 12")

Scenes = list[list[Picture]]
#: From a case's own random numbers and the scenes to its pictures and where the film is in them.
Compose = Callable[[np.random.Generator, Scenes], tuple[list[Picture], Box]]


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    """Twelve pictures each of ten dramas, behind their titles."""
    specs = catalogue(
        10, seed=5, n_twin_pairs=0, n_episodes=1, episode_seconds=20.0, width=256, height=144, fps=1
    )
    return [list(itertools.islice(render_episode(spec, 1), 4, 4 + N_PICTURES)) for spec in specs]


def two_of(rng: np.random.Generator, scenes: Scenes) -> tuple[list[Picture], list[Picture]]:
    first, second = rng.choice(len(scenes), 2, replace=False)
    return scenes[first], scenes[second]


# ---------------------------------------------------------------- composites


def inset(rng: np.random.Generator, scenes: Scenes) -> tuple[list[Picture], Box]:
    """A film small in a corner, or in the middle, over another one that moves."""
    small, behind = two_of(rng, scenes)
    share = float(rng.choice([0.3, 0.35, 0.4, 0.5, 0.6]))
    x, y = rng.choice([0.0, 0.04, 0.5, 0.96, 1.0], 2)
    height, width = behind[0].shape[:2]
    size = resize(small[0], width * share, height * share).shape
    left, top = int(x * (width - size[1])), int(y * (height - size[0]))
    pictures = []
    for own, other in zip(small, behind, strict=True):
        out = other.copy()
        place(out, resize(own, width * share, height * share), left, top)
        pictures.append(out)
    box = Box(left / width, top / height, (left + size[1]) / width, (top + size[0]) / height)
    return pictures, box


def beside(rng: np.random.Generator, scenes: Scenes) -> tuple[list[Picture], Box]:
    first, second = two_of(rng, scenes)
    height, width = first[0].shape[:2]
    halves = [[cover(picture, width // 2, height) for picture in film] for film in (first, second)]
    pictures = [np.concatenate(pair, axis=1) for pair in zip(*halves, strict=True)]
    return pictures, Box(0.0, 0.0, 0.5, 1.0) if rng.random() < 0.5 else Box(0.5, 0.0, 1.0, 1.0)


def stacked(rng: np.random.Generator, scenes: Scenes) -> tuple[list[Picture], Box]:
    """One above the other, in a frame for phones."""
    first, second = two_of(rng, scenes)
    halves = [[cover(picture, 144, 128) for picture in film] for film in (first, second)]
    pictures = [np.concatenate(pair, axis=0) for pair in zip(*halves, strict=True)]
    return pictures, Box(0.0, 0.0, 1.0, 0.5) if rng.random() < 0.5 else Box(0.0, 0.5, 1.0, 1.0)


def blurred(image: Picture, width: int, height: int) -> Picture:
    small = Image.fromarray(cover(image, width // 6, height // 6)).filter(ImageFilter.BoxBlur(3))
    dark = small.point([int(v * 0.8) for v in range(256)] * 3)
    return np.array(dark.resize((width, height), Image.Resampling.BICUBIC))


def upright(
    film: list[Picture], ground: Callable[[Picture], Picture], high: int, *, words: Image.Image | None = None
) -> tuple[list[Picture], Box]:
    """A film across a frame of 144 x 256, as high as ``high``."""
    top = (256 - high) // 2
    pictures = []
    for picture in film:
        canvas = Image.fromarray(ground(picture))
        if words is not None:
            canvas.paste(words, (0, 0), words)
        canvas.paste(Image.fromarray(cover(picture, 144, high)), (0, top))
        pictures.append(np.asarray(canvas))
    return pictures, Box(0.0, top / 256, 1.0, (top + high) / 256)


def filled(rng: np.random.Generator, scenes: Scenes) -> tuple[list[Picture], Box]:
    """The whole film between two bands of its own blurred picture."""
    film, _ = two_of(rng, scenes)
    return upright(film, lambda picture: blurred(picture, 144, 256), 80)


def captioned(rng: np.random.Generator, scenes: Scenes) -> tuple[list[Picture], Box]:
    """The film between two bands of large words, on one colour or on its own blurred picture."""
    film, _ = two_of(rng, scenes)
    high = int(rng.choice([64, 80, 96]))
    band = (256 - high) // 2
    tone = np.array([[0, 0, 0], [255, 255, 255], [30, 60, 120]], np.uint8)[rng.integers(3)]
    ink = (20, 20, 20) if tone.mean() > 128 else (255, 255, 255)
    words = Image.new("RGBA", (144, 256))
    for said, top in zip(rng.choice(WORDS, 2, replace=False), (0, 256 - band), strict=True):
        words.paste(text_block(str(said), 144, band, ink), (0, top))
    if rng.random() < 0.5:
        return upright(film, lambda picture: blurred(picture, 144, 256), high, words=words)
    return upright(film, lambda _: np.full((256, 144, 3), tone), high, words=words)


def cases(compose: Compose, scenes: Scenes) -> list[tuple[list[Picture], Box]]:
    return [compose(np.random.default_rng([7, seed]), scenes) for seed in range(N_CASES)]


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("compose", [inset, beside, stacked, filled, captioned])
def test_the_box_of_a_composite_is_found(compose: Compose, scenes: Scenes) -> None:
    found = 0
    for pictures, box in cases(compose, scenes):
        best = max((box.iou(other) for other in find_boxes(pictures)), default=0.0)
        found += best > 0.8
    assert found >= 0.9 * N_CASES


@pytest.mark.parametrize("compose", [filled, captioned])
def test_the_film_between_two_bands_is_the_inner_box(compose: Compose, scenes: Scenes) -> None:
    found = 0
    for pictures, box in cases(compose, scenes):
        inner = inner_box(pictures)
        found += inner is not None and inner.iou(box) > 0.8
    assert found >= 0.9 * N_CASES


@pytest.mark.parametrize("compose", [inset, beside])
def test_a_wide_picture_has_no_inner_box(compose: Compose, scenes: Scenes) -> None:
    assert all(inner_box(pictures) is None for pictures, _ in cases(compose, scenes)[:10])


def test_two_films_one_above_the_other_are_no_film_between_bands(scenes: Scenes) -> None:
    """Neither goes before the other, so the first look takes in both; but a hard edge may pass for a band."""
    taken = [inner_box(pictures) for pictures, _ in cases(stacked, scenes)]
    assert sum(box is not None for box in taken) <= 0.1 * N_CASES


@pytest.mark.parametrize("width", [81, 108, 144])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_an_upright_cut_out_of_a_film_has_no_inner_box(scenes: Scenes, width: int, x: float) -> None:
    """Horizons, sofas and walls lie across it, but a first look through a part would be a loss."""
    for film in scenes:
        assert inner_box([cover(picture, width, 144, x=x) for picture in film]) is None


def test_a_bright_square_on_moving_noise_is_found_to_the_pixel() -> None:
    """Nothing but the layout stands still; so there is but one box."""
    rng = np.random.default_rng(1)
    pictures = []
    for _ in range(8):
        picture = rng.integers(0, 90, (120, 160, 3), dtype=np.uint8)
        picture[30:90, 40:120] = rng.integers(160, 256, (60, 80, 3), dtype=np.uint8)
        pictures.append(picture)
    (box, *_) = find_boxes(pictures)
    assert box.iou(Box(0.25, 0.25, 0.75, 0.75)) > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_what_moves_everywhere_has_no_box(seed: int) -> None:
    """A pan over clouds of strong contrast: what steps at one place steps at all of them in turn."""
    rng = np.random.default_rng(seed)
    clouds = Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8))
    world = np.asarray(clouds.resize((900, 500), Image.Resampling.BICUBIC))
    corners = np.stack([np.linspace(0, 390, 12), np.linspace(0, 720, 12)]).astype(int).T
    assert find_boxes([world[y : y + 100, x : x + 160] for y, x in corners]) == []


def test_flat_pictures_have_no_box() -> None:
    assert find_boxes([np.full((90, 160, 3), grey, np.uint8) for grey in (0, 40, 200)]) == []
    assert inner_box([np.full((160, 90, 3), grey, np.uint8) for grey in (0, 40, 200)]) is None


# ---------------------------------------------------------------- what is returned


def test_boxes_are_large_and_different_and_as_many_as_asked_for(scenes: Scenes) -> None:
    for pictures, _ in cases(inset, scenes)[:10]:
        boxes = find_boxes(pictures, most=20)
        for a, b in itertools.combinations(boxes, 2):
            assert a.iou(b) < 0.75
        for box in boxes:
            sides = box.right - box.left, box.bottom - box.top
            assert min(sides) >= LEAST_SIDE - 1e-9
            assert box.area <= MOST_AREA + 1e-9
        for most in (1, 2, 5):
            assert find_boxes(pictures, most=most) == boxes[:most]


def test_boxes_are_shares_whatever_the_size(scenes: Scenes) -> None:
    """The same layout in pictures three times as large, and in small ones, is the same boxes, nearly."""
    for pictures, box in cases(inset, scenes)[2:6]:
        for width, height in ((768, 432), (128, 72)):
            scaled = [np.asarray(Image.fromarray(picture).resize((width, height))) for picture in pictures]
            assert max(box.iou(other) for other in find_boxes(scaled)) > 0.75


def test_the_same_pictures_give_the_same_boxes(scenes: Scenes) -> None:
    pictures, _ = cases(inset, scenes)[0]
    assert find_boxes(pictures) == find_boxes([picture.copy() for picture in pictures])


def test_the_order_of_pictures_is_of_no_consequence(scenes: Scenes) -> None:
    pictures, _ = cases(beside, scenes)[0]
    assert find_boxes(pictures) == find_boxes(pictures[::-1])


def test_of_many_pictures_some_are_enough(scenes: Scenes) -> None:
    pictures, box = cases(inset, scenes)[3]
    many = [picture for picture in pictures for _ in range(20)]
    assert max(box.iou(other) for other in find_boxes(many)) > 0.8


# ---------------------------------------------------------------- odd input


@pytest.mark.parametrize("n", [0, 1])
def test_what_stands_still_cannot_be_told_from_fewer_than_two_pictures(scenes: Scenes, n: int) -> None:
    pictures, _ = cases(filled, scenes)[0]
    assert find_boxes(pictures[:n]) == []
    assert inner_box(pictures[:n]) is None


def test_pictures_of_another_size_are_passed_over(scenes: Scenes) -> None:
    pictures, _ = cases(inset, scenes)[2]
    mixed = [part for picture in pictures for part in (picture, picture[:-2])]
    assert find_boxes(mixed) == find_boxes(pictures)
    assert find_boxes([pictures[0], pictures[1][:-2]]) == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (30, 1), (5, 5), (9, 16), (400, 3)])
def test_tiny_pictures_are_taken(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    pictures: list[NDArray[np.uint8]] = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(4)
    ]
    assert isinstance(find_boxes(pictures), list)
    inner = inner_box(pictures)
    assert inner is None or inner.area < 1


def test_only_what_has_the_form_of_a_film_is_an_inner_box(scenes: Scenes) -> None:
    """A strip as thin as a line of words between two bands is none, nor is a square."""
    film = scenes[0]
    for high in (16, 40, 160, 230):
        pictures, box = upright(film, lambda picture: blurred(picture, 144, 256), high)
        form = 144 / high
        assert not FILM_FORMS[0] <= form <= FILM_FORMS[1]
        inner = inner_box(pictures)
        assert inner is None or inner.iou(box) < 0.8


def test_a_film_far_from_the_middle_is_left_to_the_second_look(scenes: Scenes) -> None:
    film = scenes[1]
    pictures, _ = upright(film, lambda picture: blurred(picture, 144, 256), 80)
    assert inner_box(pictures) is not None
    above = []
    for picture in film:
        above.append(blurred(picture, 144, 256))
        place(above[-1], cover(picture, 144, 80), 0, 16)
    assert inner_box(above) is None
    assert max(Box(0, 16 / 256, 1, 96 / 256).iou(box) for box in find_boxes(above)) > 0.8


def test_a_film_with_one_band_alone_has_no_inner_box(scenes: Scenes) -> None:
    """Subtitles under a square picture: there is no second line to say where the film ends."""
    for film in scenes:
        pictures = []
        for picture in film:
            pictures.append(np.full((144, 144, 3), 250, np.uint8))
            place(pictures[-1], cover(picture, 144, 118), 0, 0)
        inner = inner_box(pictures)
        assert inner is None or inner.iou(Box(0, 0, 1, 118 / 144)) < 0.9
        assert max(Box(0, 0, 1, 118 / 144).iou(box) for box in find_boxes(pictures)) > 0.8
