"""Every edit gives a picture, the same for the same seed, and does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from matcher.training.frame_edits import (
    EDITS,
    blur,
    crop,
    crop_upright,
    grey_grain,
    letterbox,
    mirror,
    overlay,
    random_edit,
    recolour,
)
from matcher.views import trim_bars

SEEDS = range(12)


def a_picture(w: int = 120, h: int = 80) -> Image.Image:
    """Smooth, coloured, different everywhere, and not symmetric."""
    y, x = np.mgrid[0:h, 0:w]
    channels = [x * 255 / max(1, w - 1), y * 255 / max(1, h - 1), 60 + 60 * np.sin(x / 9 + y / 5)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def is_window_of(part: np.ndarray, whole: np.ndarray) -> bool:
    h, w = part.shape[:2]
    return any(
        np.array_equal(part, whole[y : y + h, x : x + w])
        for y in range(whole.shape[0] - h + 1)
        for x in range(whole.shape[1] - w + 1)
    )


@pytest.mark.parametrize("name", sorted(EDITS))
@pytest.mark.parametrize("size", [(120, 80), (40, 90), (1, 1), (2, 17), (33, 3)])
def test_every_edit_takes_every_size(name: str, size: tuple[int, int]) -> None:
    for seed in SEEDS:
        out = EDITS[name](a_picture(*size), np.random.default_rng(seed))
        assert out.mode == "RGB"
        assert min(out.size) >= 1


@pytest.mark.parametrize("name", sorted(EDITS))
def test_an_edit_is_the_same_for_the_same_seed_and_leaves_its_input_alone(name: str) -> None:
    picture, untouched = a_picture(), np.asarray(a_picture())
    first = np.asarray(EDITS[name](picture, np.random.default_rng(5)))
    np.testing.assert_array_equal(np.asarray(picture), untouched)
    np.testing.assert_array_equal(first, np.asarray(EDITS[name](picture, np.random.default_rng(5))))
    assert not np.array_equal(first, untouched)


def test_a_crop_is_a_window_of_the_picture() -> None:
    whole = np.asarray(a_picture())
    for seed in SEEDS:
        part = np.asarray(crop(a_picture(), np.random.default_rng(seed)))
        assert is_window_of(part, whole)
        assert 0.58 <= part.shape[0] / 80 <= 0.96
        assert part.shape[1] / 120 == pytest.approx(part.shape[0] / 80, abs=0.02)


def test_an_upright_crop_keeps_the_height() -> None:
    whole = np.asarray(a_picture())
    for seed in SEEDS:
        part = np.asarray(crop_upright(a_picture(), np.random.default_rng(seed)))
        assert is_window_of(part, whole)
        assert part.shape[0] == 80
        assert 0.39 <= part.shape[1] / 120 <= 0.71


def test_a_letterbox_puts_bars_of_one_colour_around_the_whole_picture() -> None:
    whole, colours = np.asarray(a_picture()), set()
    for seed in SEEDS:
        boxed = np.asarray(letterbox(a_picture(), np.random.default_rng(seed)))
        bar = (boxed.shape[0] - 80) // 2
        assert 4 <= bar <= 16
        np.testing.assert_array_equal(boxed[bar : bar + 80], whole)
        assert len(np.unique(np.concatenate([boxed[:bar], boxed[-bar:]]).reshape(-1, 3), axis=0)) == 1
        np.testing.assert_array_equal(trim_bars(boxed), whole)
        colours.add(tuple(boxed[0, 0].tolist()))
    assert (0, 0, 0) in colours
    assert len(colours) > 2


def test_an_overlay_leaves_most_of_the_picture() -> None:
    whole = np.asarray(a_picture())
    for seed in SEEDS:
        laid = np.asarray(overlay(a_picture(), np.random.default_rng(seed)))
        assert laid.shape == whole.shape
        changed = (laid != whole).any(axis=2).mean()
        assert 0.0 < changed < 0.5


def test_a_mirror_exchanges_left_and_right() -> None:
    mirrored = mirror(a_picture(), np.random.default_rng(0))
    np.testing.assert_array_equal(np.asarray(mirrored), np.asarray(a_picture())[:, ::-1])


def test_recolouring_keeps_the_order_of_brightness_in_each_channel() -> None:
    whole = np.asarray(a_picture()).astype(int)
    for seed in SEEDS:
        out = np.asarray(recolour(a_picture(), np.random.default_rng(seed))).astype(int)
        for channel in range(3):
            order = np.argsort(whole[..., channel], axis=None, kind="stable")
            assert np.all(np.diff(out[..., channel].ravel()[order]) >= 0)


def test_grey_grain_has_no_colour() -> None:
    for seed in SEEDS:
        out = np.asarray(grey_grain(a_picture(), np.random.default_rng(seed)))
        assert np.all(out == out[..., :1])


def test_blur_lowers_contrast_between_neighbours() -> None:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    for seed in SEEDS:
        out = np.asarray(blur(noisy, np.random.default_rng(seed))).astype(int)
        before = np.abs(np.diff(np.asarray(noisy).astype(int), axis=1)).mean()
        assert np.abs(np.diff(out, axis=1)).mean() < 0.9 * before


def test_a_random_edit_names_itself_and_all_are_used() -> None:
    rng = np.random.default_rng(0)
    image = np.asarray(a_picture())
    names = set()
    for _ in range(80):
        name, out = random_edit(image, rng)
        assert out.ndim == 3
        assert out.shape[2] == 3
        assert out.dtype == np.uint8
        assert min(out.shape[:2]) >= 16
        names.add(name)
    assert names == set(EDITS)


def test_a_random_edit_is_the_same_for_the_same_seed() -> None:
    image = np.asarray(a_picture())
    one, two = (random_edit(image, np.random.default_rng(9)) for _ in range(2))
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])
