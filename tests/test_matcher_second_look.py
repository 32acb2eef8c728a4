"""Probes through every view, full looks through those that promise something: right frames, right views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import media
import numpy as np
import pytest
from numpy.typing import NDArray

import matcher.second_look as module
from eval.video_writer import write_video
from matcher.decode import Sampling, sample_frames
from matcher.describe import ALBUM_PICTURES, Album, describe_files
from matcher.encoders.base import ModelInfo, check_images, unit_rows
from matcher.records import WHOLE, Descriptors, Frame, Look
from matcher.second_look import (
    FULL_LOOKS,
    LEAST_PIXELS,
    PROBES,
    STANDING_VIEWS,
    SecondLook,
    views_of,
)
from matcher.views import Box, Picture, View, is_blank, square

SIDE = 16
D = 6
SAMPLING = Sampling(fps=5.0)
NOWHERE = Path("/nowhere/clip.mp4")


class FakeEncoder:
    """Fixed random directions of the picture: what a row gives depends on that row alone."""

    input_side = SIDE
    batch_size = 32
    engine = "fake"
    info = ModelInfo("fake", "fp", D)

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._directions = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, D))

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_images(images, SIDE)
        self.calls.append(len(images))
        return unit_rows((images.reshape(len(images), -1) / 255.0 - 0.5) @ self._directions)


def pictures_of(n: int, width: int = 160, height: int = 120) -> list[Picture]:
    return [media.moving(3 * i, width, height) for i in range(n)]


def album_of(pictures: Iterable[Picture], view: View | None = None) -> Album:
    album = Album() if view is None else Album(view)
    for i, picture in enumerate(pictures):
        album.keep(Frame(0.5 * i, picture))
    return album


def clip_of(n: int) -> Descriptors:
    """What the first look gave; the second only passes it on."""
    vectors = unit_rows(np.random.default_rng(5).normal(size=(n, D)))
    return Descriptors(np.arange(n) / 2, vectors, n / 2, n)


class Looking:
    """Both steps of a second look, with views that promise something given by name."""

    def __init__(self, encoder: FakeEncoder, *names: str) -> None:
        self.second_look, self.names = SecondLook(encoder, SAMPLING), names

    def at(self, path: Path, clip: Descriptors, album: Album) -> Descriptors:
        probes = self.second_look.probes(album)
        further = self.second_look.full(path, album, probes, self.names) if self.names else probes
        return replace(clip, further=further)


LEFT, RIGHT = Box(0.0, 0.0, 0.5, 1.0), Box(0.5, 0.0, 1.0, 1.0)


def view_at(album: Album, box: Box) -> View:
    """The view of nearly this part: a standing one, or one that was found by its edges."""
    (view,) = [view for view in views_of(album) if view.box is not None and view.box.iou(box) > 0.9]
    return view


def by_loop(view: View, pictures: Sequence[Picture], times: Sequence[float]) -> Look:
    """One picture at a time."""
    encoder, kept, vectors = FakeEncoder(), [], [np.zeros((0, D), np.float32)]
    for picture, t_seconds in zip(pictures, times, strict=True):
        seen = view.through(picture)
        if not is_blank(seen):
            kept.append(t_seconds)
            vectors.append(encoder.encode(square(seen, SIDE)[None]))
    return Look(view.name, np.array(kept, np.float64), np.concatenate(vectors))


def assert_same(got: Look, want: Look) -> None:
    assert got.view == want.view
    np.testing.assert_array_equal(got.t_seconds, want.t_seconds)
    assert got.vectors.shape == want.vectors.shape
    assert got.vectors.dtype == np.float32
    np.testing.assert_allclose(got.vectors, want.vectors, atol=1e-6)


# ---------------------------------------------------------------- probes and full looks


@pytest.mark.parametrize("n", [1, 2, 3, PROBES, 5, 10, ALBUM_PICTURES])
def test_probes_are_spread_over_the_clip_through_every_view(n: int) -> None:
    """First and last picture among them; nothing promising, so there is nothing else."""
    album, clip, encoder = album_of(pictures_of(n)), clip_of(n), FakeEncoder()
    got = Looking(encoder).at(NOWHERE, clip, album)
    views = views_of(album)
    rows = sorted({round(i * (n - 1) / (PROBES - 1)) for i in range(PROBES)})
    assert rows[0] == 0
    assert rows[-1] == n - 1
    assert [look.view for look in got.further] == [view.name for view in views]
    for look, view in zip(got.further, views, strict=True):
        assert_same(look, by_loop(view, [album.pictures[row] for row in rows], [0.5 * row for row in rows]))
    assert encoder.calls == [len(rows) * len(views)]
    assert (got.t_seconds is clip.t_seconds, got.vectors is clip.vectors) == (True, True)


def test_a_promising_view_is_taken_of_all_frames_and_the_others_stay_probes() -> None:
    n = 20
    album, clip = album_of(pictures_of(n)), clip_of(n)
    got = Looking(FakeEncoder(), "mirror").at(NOWHERE, clip, album)
    views = {view.name: view for view in views_of(album)}
    assert [look.view for look in got.further] == list(views)
    for look in got.further:
        rows = range(n) if look.view == "mirror" else [0, 6, 13, 19]
        want = by_loop(views[look.view], [album.pictures[row] for row in rows], [0.5 * row for row in rows])
        assert_same(look, want)


def test_no_more_views_than_the_limit_are_taken_of_all_frames_the_best_first() -> None:
    assert FULL_LOOKS == 2
    album = album_of(pictures_of(10))
    names = [view.name for view in views_of(album)]
    assert len(names) >= 4
    got = Looking(FakeEncoder(), names[3], names[1], names[0]).at(NOWHERE, clip_of(10), album)
    assert [look.view for look in got.further] == names
    assert [len(look) for look in got.further[:4]] == [PROBES, 10, PROBES, 10]


def test_a_view_that_was_not_tried_is_not_looked_through() -> None:
    """Such as the first look itself."""
    album = album_of(pictures_of(10))
    got = Looking(FakeEncoder(), WHOLE, "other").at(NOWHERE, clip_of(10), album)
    assert {len(look) for look in got.further} == {PROBES}


def test_an_empty_album_gives_the_clip_as_it_was() -> None:
    encoder, clip = FakeEncoder(), clip_of(0)
    got = Looking(encoder, "mirror").at(NOWHERE, clip, Album())
    assert got.further == ()
    assert encoder.calls == []


def test_what_is_blank_through_a_view_is_left_out() -> None:
    """A film in the right half only, then all over: the left half says something of the last ones alone."""
    pictures = pictures_of(10)
    for picture in pictures[:7]:
        picture[:, :80] = 30
    album = album_of(pictures)
    left, right = view_at(album, LEFT), view_at(album, RIGHT)
    got = Looking(FakeEncoder(), left.name).at(NOWHERE, clip_of(10), album)
    looks = {look.view: look for look in got.further}
    assert looks[left.name].t_seconds.tolist() == [3.5, 4.0, 4.5]
    assert_same(looks[left.name], by_loop(left, pictures[7:], [3.5, 4.0, 4.5]))
    assert looks[right.name].t_seconds.tolist() == [0.0, 1.5, 3.0, 4.5]


def test_a_view_that_shows_nothing_at_all_is_an_empty_look() -> None:
    pictures = pictures_of(6)
    for picture in pictures:
        picture[:, :80] = 30
    album = album_of(pictures)
    left = view_at(album, LEFT).name
    got = Looking(FakeEncoder(), left).at(NOWHERE, clip_of(6), album)
    (look,) = [look for look in got.further if look.view == left]
    assert len(look) == 0
    assert look.vectors.shape == (0, D)


# ---------------------------------------------------------------- clips longer than an album


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 frames a fifth of a second apart; a stretch with a blank left half."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    frames = [media.moving(3 * i, 128, 96) for i in range(300)]
    for frame in frames[100:200]:
        frame[:, :64] = 30
    write_video(path, frames, fps=10)
    return path


def test_a_clip_longer_than_its_album_is_read_again_for_a_full_look(long_clip: Path) -> None:
    encoder = FakeEncoder()
    (described,) = describe_files([long_clip], encoder, SAMPLING, are_clips=True)
    clip, album = described.descriptors, described.album
    assert clip is not None
    assert album is not None
    assert (len(clip), len(album.pictures), album.stride) == (150, 75, 2)
    encoder.calls.clear()
    left = view_at(album, LEFT).name
    names = (left, "mirror")
    got = Looking(encoder, *names).at(long_clip, clip, album)
    views = {view.name: view for view in views_of(album)}
    frames = list(sample_frames(long_clip, SAMPLING))
    rows = [0, 25, 49, 74]
    for look in got.further:
        pictures, times = [frame.image for frame in frames], [frame.t_seconds for frame in frames]
        if look.view not in names:
            pictures, times = [album.pictures[row] for row in rows], [album.t_seconds[row] for row in rows]
        assert_same(look, by_loop(views[look.view], pictures, times))
    sizes = {look.view: len(look) for look in got.further}
    assert sizes["mirror"] == 150
    assert sizes[left] == 100
    assert max(encoder.calls[1:]) <= encoder.batch_size


def test_a_short_clips_file_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        pytest.fail("read again")

    monkeypatch.setattr(module, "sample_frames", unread)
    album = album_of(pictures_of(ALBUM_PICTURES))
    assert album.stride == 1
    got = Looking(FakeEncoder(), "mirror").at(NOWHERE, clip_of(3), album)
    assert {len(look) for look in got.further if look.view == "mirror"} == {ALBUM_PICTURES}


# ---------------------------------------------------------------- views


def insets(views: Sequence[View]) -> list[View]:
    return [view for view in views if view.name.startswith("inset")]


def composite(n: int, inside: slice, across: slice, width: int = 160, height: int = 120) -> list[Picture]:
    """One film over another: what lies inside is bright, and nothing but the edge stands still."""
    rng = np.random.default_rng(1)
    pictures = []
    for _ in range(n):
        picture = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        part = picture[inside, across]
        picture[inside, across] = rng.integers(160, 256, part.shape, dtype=np.uint8)
        pictures.append(picture)
    return pictures


def test_an_inset_is_among_the_views_by_its_place() -> None:
    views = views_of(album_of(composite(8, slice(60, 114), slice(8, 88))))
    (inset, *_) = insets(views)
    assert inset.box is not None
    assert inset.box.iou(Box(0.05, 0.5, 0.55, 0.95)) > 0.9
    sides = inset.box.left, inset.box.top, inset.box.right, inset.box.bottom
    assert inset.name == "inset " + ",".join(f"{side:.2f}" for side in sides)
    assert not inset.is_mirrored


def test_views_have_names_of_their_own_and_none_is_that_of_the_first_look() -> None:
    for album in (album_of(pictures_of(8)), album_of(composite(8, slice(60, 114), slice(8, 88)))):
        names = [view.name for view in views_of(album)]
        assert len(set(names)) == len(names)
        assert WHOLE not in names
        assert names[0] == "mirror"


def test_a_half_that_was_found_by_its_edge_is_not_tried_twice() -> None:
    views = views_of(album_of(composite(8, slice(0, 120), slice(0, 80))))
    names = [view.name for view in views]
    assert insets(views)
    assert "left half" not in names
    assert "right half" not in names
    assert {"centre", "top half", "bottom half"} <= set(names)


def test_a_plain_clip_is_tried_through_the_standing_views() -> None:
    rng = np.random.default_rng(0)
    views = views_of(album_of(rng.integers(0, 256, (8, 120, 160, 3), dtype=np.uint8)))
    assert views == [View("mirror", is_mirrored=True), *STANDING_VIEWS]


def test_the_mirror_is_that_of_the_first_look() -> None:
    """Of the film between two bands, where the first look went through it."""
    box = Box(0.0, 0.25, 1.0, 0.75)
    (mirror, *_) = views_of(album_of(pictures_of(5), View(WHOLE, box)))
    assert mirror == View("mirror", box, is_mirrored=True)


def test_views_of_too_few_pixels_are_not_tried() -> None:
    """A quarter of a thumbnail shows nothing that an encoder could tell."""
    small = album_of(pictures_of(5, 2 * LEAST_PIXELS, LEAST_PIXELS))
    assert [view.name for view in views_of(small) if not view.name.startswith("inset")] == [
        "mirror",
        "left half",
        "right half",
    ]
    assert [view.name for view in views_of(album_of(pictures_of(5, 40, 30)))] == ["mirror"]


def test_without_pictures_there_is_no_view() -> None:
    assert views_of(Album()) == []


def test_one_picture_has_no_insets() -> None:
    (picture,) = composite(1, slice(60, 114), slice(8, 88))
    assert insets(views_of(album_of([picture]))) == []
