"""Every edit gives a picture, the same for the same seed, and does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from matcher.training import frame_edits
from matcher.training.frame_edits import (
    EDITS,
    FOREIGN_EDITS,
    KINDS,
    SHOW_FOREIGN,
    blur,
    captioned_bands,
    crop,
    crop_upright,
    edit_picture,
    filmed_screen,
    grey_grain,
    heavy_grain,
    inset,
    letterbox,
    low_resolution,
    mirror,
    overlay,
    recolour,
    rotate,
    stickers,
    zoom,
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


FOREIGN = np.full((50, 70, 3), (0, 255, 0), np.uint8)


def edited(name: str, picture: Image.Image, seed: int) -> Image.Image:
    """One edit without the re-encoding."""
    rng = np.random.default_rng(seed)
    if name in FOREIGN_EDITS:
        return FOREIGN_EDITS[name](picture, Image.fromarray(FOREIGN), rng)
    return EDITS[name](picture, rng)


@pytest.mark.parametrize("name", sorted({*EDITS, *FOREIGN_EDITS}))
@pytest.mark.parametrize("size", [(120, 80), (40, 90), (1, 1), (2, 17), (33, 3)])
def test_every_edit_takes_every_size(name: str, size: tuple[int, int]) -> None:
    for seed in SEEDS:
        out = edited(name, a_picture(*size), seed)
        assert out.mode == "RGB"
        assert min(out.size) >= 1


@pytest.mark.parametrize("name", sorted({*EDITS, *FOREIGN_EDITS}))
def test_an_edit_is_the_same_for_the_same_seed_and_leaves_its_input_alone(name: str) -> None:
    picture, untouched = a_picture(), np.asarray(a_picture())
    first = np.asarray(edited(name, picture, 5))
    np.testing.assert_array_equal(np.asarray(picture), untouched)
    np.testing.assert_array_equal(first, np.asarray(edited(name, picture, 5)))
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


def test_heavy_grain_is_grey_noise_of_every_pixel_by_itself() -> None:
    grey, sigmas = Image.new("RGB", (160, 120), (128, 128, 128)), []
    for seed in SEEDS:
        out = np.asarray(heavy_grain(grey, np.random.default_rng(seed))).astype(float)
        assert np.all(out == out[..., :1])
        noise = out[..., 0] - 128
        sigmas.append(noise.std())
        # Neighbours know nothing of each other.
        assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.05
    assert min(sigmas) > 7.5
    assert max(sigmas) < 30.5
    assert max(sigmas) - min(sigmas) > 8


def test_low_resolution_keeps_the_size_and_loses_what_is_fine() -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (200, 320, 3), dtype=np.uint8))
    for seed in SEEDS:
        out = low_resolution(noisy, np.random.default_rng(seed))
        assert out.size == noisy.size
        fine = np.abs(np.diff(np.asarray(out).astype(int), axis=1)).mean()
        assert fine < 0.5 * np.abs(np.diff(np.asarray(noisy).astype(int), axis=1)).mean()


@pytest.mark.parametrize("size", [(320, 180), (180, 320), (200, 200)])
def test_a_rotation_shows_no_corner_and_keeps_the_form(size: tuple[int, int]) -> None:
    white = Image.new("RGB", size, (255, 255, 255))
    for seed in SEEDS:
        out = rotate(white, np.random.default_rng(seed))
        # The outermost line may be mixed with the black outside by interpolation.
        assert np.asarray(out)[1:-1, 1:-1].min() > 250
        assert 0.6 < out.width / size[0] < 0.96
        assert out.width / out.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_rotation_turns_either_way_by_3_to_12_degrees() -> None:
    """A vertical edge through the middle leans as far as the picture is turned."""
    x = np.zeros((240, 320, 3), np.uint8)
    x[:, 160:] = 255
    degrees = []
    for seed in range(24):
        out = np.asarray(rotate(Image.fromarray(x), np.random.default_rng(seed)))[..., 0]
        edges = (out < 128).sum(axis=1)
        degrees.append(float(np.degrees(np.arctan2(int(edges[-20]) - int(edges[20]), len(edges) - 40))))
    assert min(map(abs, degrees)) > 2.5
    assert max(map(abs, degrees)) < 12.5
    assert min(degrees) < 0 < max(degrees)


def test_a_zoom_shows_the_middle_at_the_old_size() -> None:
    """The middle stays about where it was, and a step in the picture grows by 2 to 43 %."""
    ramp = np.repeat(np.linspace(0, 255, 256)[None, :, None], 100, axis=0).repeat(3, axis=2).astype(np.uint8)
    for seed in SEEDS:
        out = np.asarray(zoom(Image.fromarray(ramp), np.random.default_rng(seed))).astype(float)[..., 0]
        assert out.shape == (100, 256)
        assert abs(out[50, 128] - 128) < 20
        assert 0.69 < (out[50, 200] - out[50, 50]) / 150 < 0.99


def test_a_filmed_screen_is_the_picture_askew_before_a_dark_room() -> None:
    white = Image.new("RGB", (160, 100), (255, 255, 255))
    shares = set()
    for seed in SEEDS:
        out = np.asarray(filmed_screen(white, np.random.default_rng(seed))).astype(float).mean(axis=2)
        assert out.shape == (100, 160)
        assert out[40:60, 60:100].mean() > 130
        shares.add(round(float((out < 110).mean()), 3))
    assert len(shares) > 4
    assert max(shares) < 0.45


def test_the_corners_of_a_perspective_lie_where_they_are_put() -> None:
    corners = [(3.0, 2.0), (90.0, 5.0), (95.0, 58.0), (1.0, 55.0)]
    a, b, c, d, e, f, g, h = frame_edits._perspective(corners, 100, 60)
    for (x, y), wanted in zip(corners, [(0, 0), (100, 0), (100, 60), (0, 60)], strict=True):
        below = g * x + h * y + 1
        found = ((a * x + b * y + c) / below, (d * x + e * y + f) / below)
        assert found == pytest.approx(wanted, abs=1e-6)


def test_stickers_leave_most_of_the_picture() -> None:
    whole = np.asarray(a_picture())
    shares = []
    for seed in range(30):
        laid = np.asarray(stickers(a_picture(), np.random.default_rng(seed)))
        assert laid.shape == whole.shape
        shares.append((laid != whole).any(axis=2).mean())
    assert min(shares) > 0.0
    assert max(shares) < 0.4


@pytest.mark.parametrize("size", [(320, 180), (160, 300)])
def test_captioned_bands_leave_the_frame_with_an_error_of_four_percent_at_most(size: tuple[int, int]) -> None:
    """Of a plain white picture: what is not white is band, and what is missing was cut off."""
    w, h = size
    heights, borders = [], []
    for seed in range(30):
        out = np.asarray(
            captioned_bands(Image.new("RGB", size, (255, 255, 255)), np.random.default_rng(seed))
        )
        assert 0.91 * w <= out.shape[1] <= w
        assert 0.91 * h <= out.shape[0] <= 1.09 * h
        foreign = int((out != 255).any(axis=2).any(axis=1).sum())
        assert foreign <= 0.08 * h + 2
        heights.append(out.shape[0])
        borders.append(foreign)
    assert min(heights) < 0.98 * h < 1.02 * h < max(heights)
    assert min(borders) == 0 < max(borders)


def test_an_inset_shows_something_foreign_at_one_or_two_borders() -> None:
    red = Image.new("RGB", (320, 180), (255, 0, 0))
    counts = []
    for seed in range(40):
        out = np.asarray(inset(red, Image.fromarray(FOREIGN), np.random.default_rng(seed)))
        green = out[..., 1] > 128
        middle_row, middle_column = green[len(green) // 2], green[:, green.shape[1] // 2]
        ends = [middle_row[0], middle_row[-1], middle_column[0], middle_column[-1]]
        counts.append(sum(map(bool, ends)))
        # Two strips of 6 % each way, if they lie on opposite borders.
        assert max(middle_row.mean(), middle_column.mean()) < 0.13
    assert set(counts) <= {0, 1, 2}  # 0 where the inset lies at the canvas's own border
    assert np.mean([count > 0 for count in counts]) > 0.8
    assert {1, 2} <= set(counts)


def test_an_edit_picture_is_re_encoded_and_every_kind_is_known() -> None:
    image = np.asarray(a_picture())
    for kind in KINDS:
        out = edit_picture(kind, image, FOREIGN, np.random.default_rng(0))
        assert out.ndim == 3
        assert out.shape[2] == 3
        assert out.dtype == np.uint8
        assert min(out.shape[:2]) >= 16
    assert len(set(KINDS)) == len(KINDS) == len(EDITS) + 2
    with pytest.raises(ValueError, match="unknown edit 'three': use one of crop, "):
        edit_picture("three", image, FOREIGN, np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_picture_is_the_same_for_the_same_seed(kind: str) -> None:
    image = np.asarray(a_picture())
    one, two = (edit_picture(kind, image, FOREIGN, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_what_may_show_the_foreign_picture_is_named_and_nothing_else_does() -> None:
    image, red = np.asarray(a_picture()), np.full((50, 70, 3), (255, 0, 0), np.uint8)
    shows = set()
    for kind in KINDS:
        for seed in range(20):
            with_green = edit_picture(kind, image, FOREIGN, np.random.default_rng(seed))
            with_red = edit_picture(kind, image, red, np.random.default_rng(seed))
            if with_green.shape != with_red.shape or not np.array_equal(with_green, with_red):
                shows.add(kind)
    assert shows == SHOW_FOREIGN


def test_two_are_two_different_edits_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def marking(name: str) -> frame_edits.Edit:
        def edit(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
            done.append(name)
            return picture

        return edit

    monkeypatch.setattr(frame_edits, "EDITS", {name: marking(name) for name in EDITS})
    monkeypatch.setattr(
        frame_edits, "FOREIGN_EDITS", {"inset": lambda picture, _, rng: marking("inset")(picture, rng)}
    )
    orders = set()
    for seed in range(60):
        done.clear()
        edit_picture("two", np.asarray(a_picture()), FOREIGN, np.random.default_rng(seed))
        assert len(set(done)) == len(done) == 2
        orders.add(tuple(done))
    assert len(orders) > 30
    assert {name for order in orders for name in order} == set(KINDS) - {"two"}
