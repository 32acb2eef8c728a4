"""The two-threaded stream gives what one frame after the other gives, and never hangs or piles up."""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import media
import numpy as np
import pytest
from numpy.typing import NDArray

import matcher.describe as describe_module
from eval.video_writer import write_video
from matcher.decode import Sampling, sample_frames
from matcher.describe import (
    ALBUM_PICTURES,
    LAYOUT_PICTURES,
    QUEUE_BATCHES,
    Album,
    Described,
    describe_clip,
    describe_file,
    describe_files,
)
from matcher.encoders.base import ModelInfo, check_images, unit_rows
from matcher.errors import InputError, MatcherError, VideoError
from matcher.records import WHOLE, Descriptors, Frame
from matcher.views import Box, View, is_blank, square, trim_bars

SIDE = 16
D = 6
SAMPLING = Sampling(fps=5.0)


class FakeEncoder:
    """Fixed random directions of the picture: what a row gives depends on that row alone."""

    input_side = SIDE
    engine = "fake"
    info = ModelInfo("fake", "fp", D)

    def __init__(self, batch_size: int = 3) -> None:
        self.batch_size = batch_size
        self.calls: list[int] = []
        self._directions = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, D))

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_images(images, SIDE)
        self.calls.append(len(images))
        return unit_rows((images.reshape(len(images), -1) / 255.0 - 0.5) @ self._directions)


def one_by_one(
    path: Path, sampling: Sampling = SAMPLING
) -> tuple[list[float], list[NDArray[np.float32]], int]:
    """Times, vectors and frames seen, one frame at a time in one thread."""
    encoder, times, vectors, seen = FakeEncoder(1), [], [], 0
    for frame in sample_frames(path, sampling):
        seen += 1
        if not is_blank(frame.image):
            times.append(frame.t_seconds)
            vectors.append(encoder.encode(square(trim_bars(frame.image), SIDE)[None])[0])
    return times, vectors, seen


def assert_is(got: Descriptors, path: Path, sampling: Sampling = SAMPLING) -> None:
    times, vectors, seen = one_by_one(path, sampling)
    assert got.t_seconds.tolist() == times
    assert got.frames_seen == seen
    assert got.vectors.shape == (len(times), D)
    assert got.vectors.dtype == np.float32
    if vectors:
        np.testing.assert_allclose(got.vectors, np.stack(vectors), atol=1e-6)


def letterboxed(number: int) -> NDArray[np.uint8]:
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[16:80] = media.moving(number)
    return picture


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lengths that are and are no multiple of a batch, bars, blank stretches, one frame, no frame."""
    folder = tmp_path_factory.mktemp("videos")
    frames: dict[str, list[NDArray[np.uint8]]] = {
        "long": [media.moving(i) for i in range(100)],
        "bars": [letterboxed(i) for i in range(60)],
        "blank_between": [media.flat(0, 96, 64) if 20 <= i < 55 else media.moving(i) for i in range(75)],
        "blank": [media.flat(0, 96, 64)] * 30,
        "one": [media.moving(3)],
        "short": [media.moving(i) for i in range(30)],
    }
    made = {name: folder / f"{name}.mp4" for name in frames}
    for name, images in frames.items():
        write_video(made[name], images, fps=25)
    made["bad"] = folder / "bad.mp4"
    made["bad"].write_bytes(b"this is no video" * 100)
    made["missing"] = folder / "missing.mp4"
    return made


def decode_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "decode"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert decode_threads() == []
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while decode_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decode_threads() == []


# ---------------------------------------------------------------- by value


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
@pytest.mark.parametrize("name", ["long", "bars", "blank_between", "one"])
def test_one_file_is_as_frame_by_frame(videos: dict[str, Path], name: str, batch_size: int) -> None:
    encoder = FakeEncoder(batch_size)
    got = describe_file(videos[name], encoder, SAMPLING)
    assert len(got) > 0
    assert_is(got, videos[name])
    assert all(n == batch_size for n in encoder.calls[:-1])
    assert encoder.calls[-1] <= batch_size


@pytest.mark.parametrize("fps", [1.0, 25.0])
def test_other_samplings_are_as_frame_by_frame(videos: dict[str, Path], fps: float) -> None:
    sampling = Sampling(fps=fps)
    assert_is(describe_file(videos["short"], FakeEncoder(), sampling), videos["short"], sampling)


def test_several_files_come_in_order_and_each_as_if_alone(videos: dict[str, Path]) -> None:
    names = ["long", "one", "blank", "bars", "short", "long"]
    got = list(describe_files([videos[n] for n in names], FakeEncoder(), SAMPLING))
    assert [result.path for result in got] == [videos[n] for n in names]
    for result in got:
        assert result.error is None
        assert result.descriptors is not None
        assert_is(result.descriptors, result.path)


def test_blank_frames_are_skipped_and_counted(videos: dict[str, Path]) -> None:
    got = describe_file(videos["blank_between"], FakeEncoder(), SAMPLING)
    assert got.frames_seen == 15
    assert len(got) < 15
    assert not np.any((got.t_seconds > 0.85) & (got.t_seconds < 2.1))
    assert got.duration_seconds == pytest.approx(3.0, abs=0.05)


def test_a_blank_video_has_no_descriptors_and_no_error(videos: dict[str, Path]) -> None:
    encoder = FakeEncoder()
    got = describe_file(videos["blank"], encoder, SAMPLING)
    assert got.vectors.shape == (0, D)
    assert got.vectors.dtype == np.float32
    assert got.t_seconds.shape == (0,)
    assert got.frames_seen == 6
    assert encoder.calls == []


def test_duration_is_the_files(videos: dict[str, Path]) -> None:
    assert describe_file(videos["long"], FakeEncoder(), SAMPLING).duration_seconds == pytest.approx(4.0)
    assert describe_file(videos["one"], FakeEncoder(), SAMPLING).duration_seconds == 0.0


def test_bars_make_no_difference(videos: dict[str, Path]) -> None:
    """The letterboxed video resembles the plain one frame by frame, far more than its neighbours."""
    plain = describe_file(videos["long"], FakeEncoder(), SAMPLING)
    boxed = describe_file(videos["bars"], FakeEncoder(), SAMPLING)
    similarity = boxed.vectors @ plain.vectors[: len(boxed)].T
    assert (similarity.argmax(axis=1) == np.arange(len(boxed))).all()
    assert similarity.diagonal().min() > 0.97


def test_no_files_give_no_results() -> None:
    assert list(describe_files([], FakeEncoder(), SAMPLING)) == []


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("wrong", ["bad", "missing"])
def test_a_bad_file_gives_its_error_and_the_rest_goes_on(videos: dict[str, Path], wrong: str) -> None:
    paths = [videos["short"], videos[wrong], videos["bars"], videos[wrong]]
    got = list(describe_files(paths, FakeEncoder(), SAMPLING))
    assert [result.path for result in got] == paths
    for result in (got[1], got[3]):
        assert result.descriptors is None
        assert isinstance(result.error, InputError)
        assert videos[wrong].name in str(result.error)
    for result in (got[0], got[2]):
        assert result.descriptors is not None
        assert_is(result.descriptors, result.path)


def test_one_bad_file_alone_raises(videos: dict[str, Path]) -> None:
    with pytest.raises(InputError):
        describe_file(videos["bad"], FakeEncoder(), SAMPLING)


def test_a_file_that_breaks_off_leaves_nothing_behind_in_the_next(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of the broken file that were decoded already do not slip into its successor."""

    def breaking(path: Path, sampling: Sampling) -> Iterator[Any]:
        for i, frame in enumerate(sample_frames(path, sampling)):
            if path == videos["long"] and i == 7:
                raise VideoError(f"{path} breaks off")
            yield frame

    monkeypatch.setattr(describe_module, "sample_frames", breaking)
    broken, whole = describe_files([videos["long"], videos["short"]], FakeEncoder(), SAMPLING)
    assert isinstance(broken.error, VideoError)
    assert broken.descriptors is None
    assert whole.descriptors is not None
    assert_is(whole.descriptors, videos["short"])


class Broken(FakeEncoder):
    """Fails at its second call."""

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.calls:
            raise RuntimeError("out of memory")
        return super().encode(images)


def test_an_encoders_error_reaches_the_caller_and_the_decoder_ends(videos: dict[str, Path]) -> None:
    results = describe_files([videos["long"]] * 20, Broken(1), SAMPLING)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(results)
    assert decode_threads() == []


def test_a_decoders_own_error_is_the_programs_fault_and_keeps_its_cause(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, sampling: Sampling) -> Iterator[Any]:
        raise ZeroDivisionError("by nought")
        yield

    monkeypatch.setattr(describe_module, "sample_frames", failing)
    with pytest.raises(MatcherError, match="ZeroDivisionError: by nought") as raised:
        list(describe_files([videos["one"]], FakeEncoder(), SAMPLING))
    assert not isinstance(raised.value, InputError)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "error", [InputError("line 3 of the manifest"), MatcherError("x"), KeyboardInterrupt()]
)
def test_what_the_list_of_files_raises_ends_the_stream_as_it_is(
    videos: dict[str, Path], error: BaseException
) -> None:
    """An InputError of the list is not taken for one of a file: nothing comes after it."""

    def paths() -> Iterator[Path]:
        yield videos["one"]
        raise error

    results = describe_files(paths(), FakeEncoder(), SAMPLING)
    assert next(results).path == videos["one"]
    with pytest.raises(type(error)) as raised:
        next(results)
    assert raised.value is error


# ---------------------------------------------------------------- threads and memory


def test_leaving_early_ends_the_decoder(videos: dict[str, Path]) -> None:
    results = describe_files([videos["long"]] * 50, FakeEncoder(1), SAMPLING)
    next(results)
    (decoder,) = decode_threads()
    results.close()  # type: ignore[attr-defined]
    assert not decoder.is_alive()


def test_dropping_the_stream_ends_the_decoder(videos: dict[str, Path]) -> None:
    results = describe_files([videos["long"]] * 50, FakeEncoder(1), SAMPLING)
    next(results)
    (decoder,) = decode_threads()
    del results
    gc.collect()
    decoder.join(timeout=5)
    assert not decoder.is_alive()


def test_nothing_starts_before_the_first_result_is_asked_for(videos: dict[str, Path]) -> None:
    def untouched() -> Iterator[Path]:
        pytest.fail("read ahead of time")
        yield

    describe_files(untouched(), FakeEncoder(), SAMPLING)
    assert decode_threads() == []


def test_the_decoder_runs_ahead_by_no_more_than_the_queue(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time: the queue's blocks, one being encoded, one waiting to get in; so memory is bounded."""
    lengths: list[int] = []
    ahead: list[int] = []
    full = threading.Event()

    class Watched(queue.Queue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put(item, block, timeout)
            lengths.append(self.qsize())
            if self.full():
                full.set()

    class Waiting(FakeEncoder):
        """Lets the decoder run ahead as far as it may."""

        def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            assert full.wait(10)
            time.sleep(0.002)
            return super().encode(images)

    encoder = Waiting(1)

    def counted(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        ahead.append(len(ahead) + 1 - len(encoder.calls))
        return square(picture, side)

    watched = SimpleNamespace(Queue=Watched, Empty=queue.Empty, Full=queue.Full)
    monkeypatch.setattr(describe_module, "queue", watched)
    monkeypatch.setattr(describe_module, "square", counted)
    results = list(describe_files([videos["long"]] * 3, encoder, SAMPLING))
    assert len(results) == 3
    assert max(lengths) == QUEUE_BATCHES
    assert QUEUE_BATCHES < max(ahead) <= QUEUE_BATCHES + 2


def test_the_decoder_works_while_the_caller_encodes(videos: dict[str, Path]) -> None:
    """It is on the second file before the first result is taken."""
    begun = threading.Event()

    def paths() -> Iterator[Path]:
        yield videos["one"]
        begun.set()
        yield videos["short"]

    results = describe_files(paths(), FakeEncoder(), SAMPLING)
    next(results)
    assert begun.wait(5)
    assert isinstance(next(results), Described)
    results.close()  # type: ignore[attr-defined]


def test_progress_tells_the_file_and_the_time_reached(videos: dict[str, Path]) -> None:
    told: list[tuple[Path, float]] = []
    paths = [videos["long"], videos["blank"], videos["bad"]]
    list(describe_files(paths, FakeEncoder(), SAMPLING, on_frames=lambda p, t: told.append((p, t))))
    by_file = {path: [t for p, t in told if p == path] for path in paths}
    assert len(by_file[videos["long"]]) == 7
    for times in by_file.values():
        assert times == sorted(times)
    assert by_file[videos["long"]][-1] == pytest.approx(3.8)
    assert by_file[videos["blank"]] == pytest.approx([1.0])
    assert by_file[videos["bad"]] == [0.0]


# ---------------------------------------------------------------- clips


def upright(number: int) -> NDArray[np.uint8]:
    """A moving film across a frame for phones, between bright bands with words that stand still."""
    picture = np.full((160, 96, 3), 235, np.uint8)
    picture[12:28:4, 10:80] = picture[130:146:4, 20:70] = 20
    picture[48:112] = media.moving(number) // 2
    return picture


INNER = Box(0.0, 48 / 160, 1.0, 112 / 160)


def frames_of(pictures: list[NDArray[np.uint8]], *, step: float = 0.5) -> list[Frame]:
    return [Frame(step * i, picture) for i, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phone") / "phone.mp4"
    write_video(path, [upright(i) for i in range(100)], fps=25)
    return path


def test_programs_have_no_album_and_clips_have_one(videos: dict[str, Path]) -> None:
    (program,) = describe_files([videos["short"]], FakeEncoder(), SAMPLING)
    assert program.album is None
    (clip,) = describe_files([videos["short"]], FakeEncoder(), SAMPLING, are_clips=True)
    assert clip.descriptors is not None
    assert_is(clip.descriptors, videos["short"])
    album = clip.album
    assert album is not None
    assert (album.stride, album.view) == (1, View(WHOLE))
    assert album.t_seconds == clip.descriptors.t_seconds.tolist()
    kept = [frame.image for frame in sample_frames(videos["short"], SAMPLING)]
    for picture, image in zip(album.pictures, kept, strict=True):
        np.testing.assert_array_equal(picture, image)


def test_each_clip_has_its_own_album_without_blank_pictures(videos: dict[str, Path]) -> None:
    names = ["one", "bad", "blank", "blank_between", "short"]
    got = list(describe_files([videos[n] for n in names], FakeEncoder(), SAMPLING, are_clips=True))
    for result in got:
        if result.descriptors is None:
            assert result.album is None
            continue
        assert result.album is not None
        assert result.album.t_seconds == result.descriptors.t_seconds.tolist()
        assert len(result.album.pictures) == len(result.descriptors)
    assert [result.error is None for result in got] == [True, False, True, True, True]


def test_an_upright_clip_is_looked_at_through_its_inner_picture(phone: Path) -> None:
    """As its film would be without the bands; a program of the same form is taken as it is."""
    (clip,) = describe_files([phone], FakeEncoder(), SAMPLING, are_clips=True)
    assert clip.album is not None
    assert clip.descriptors is not None
    view = clip.album.view
    assert (view.name, view.is_mirrored) == (WHOLE, False)
    assert view.box is not None
    assert view.box.iou(INNER) > 0.9
    frames = list(sample_frames(phone, SAMPLING))
    assert clip.descriptors.t_seconds.tolist() == [frame.t_seconds for frame in frames]
    encoder = FakeEncoder(len(frames))
    seen = encoder.encode(np.stack([square(view.through(frame.image), SIDE) for frame in frames]))
    np.testing.assert_allclose(clip.descriptors.vectors, seen, atol=1e-6)
    (program,) = describe_files([phone], FakeEncoder(), SAMPLING)
    assert program.descriptors is not None
    assert_is(program.descriptors, phone)
    whole = encoder.encode(np.stack([square(trim_bars(frame.image), SIDE) for frame in frames]))
    assert np.abs(whole - seen).max() > 0.1


def test_a_clips_layout_is_read_off_its_first_pictures_and_no_frame_is_lost() -> None:
    taken = []

    def frames() -> Iterator[Frame]:
        for frame in frames_of([upright(5 * i) for i in range(20)]):
            taken.append(frame.t_seconds)
            yield frame

    kept, view = describe_module._first_view(frames())
    assert len(taken) == LAYOUT_PICTURES
    assert view.box is not None
    assert view.box.iou(INNER) > 0.9
    assert [frame.t_seconds for frame in kept] == [0.5 * i for i in range(20)]


def test_a_wide_clip_is_not_read_ahead_of() -> None:
    taken = []

    def frames() -> Iterator[Frame]:
        for frame in frames_of([media.moving(i) for i in range(20)]):
            taken.append(frame.t_seconds)
            yield frame

    kept, view = describe_module._first_view(frames())
    assert len(taken) == 1
    assert view == View(WHOLE)
    assert len(list(kept)) == 20


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_clip_of_few_pictures_is_described(n: int) -> None:
    found, album = describe_clip(frames_of([upright(9 * i) for i in range(n)]), FakeEncoder())
    assert len(found) == found.frames_seen == len(album.pictures) == n
    assert found.vectors.shape == (n, D)


def test_blank_pictures_at_the_beginning_do_not_hide_the_layout() -> None:
    blank = [media.flat(0, 96, 160)] * 3
    found, album = describe_clip(frames_of(blank + [upright(5 * i) for i in range(10)]), FakeEncoder())
    assert album.view.box is not None
    assert (len(found), found.frames_seen) == (10, 13)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_clip_in_memory_is_described_as_its_file_is(phone: Path, batch_size: int) -> None:
    (by_file,) = describe_files([phone], FakeEncoder(batch_size), SAMPLING, are_clips=True)
    found, album = describe_clip(sample_frames(phone, SAMPLING), FakeEncoder(batch_size))
    assert by_file.descriptors is not None
    assert by_file.album is not None
    np.testing.assert_array_equal(found.t_seconds, by_file.descriptors.t_seconds)
    np.testing.assert_allclose(found.vectors, by_file.descriptors.vectors, atol=1e-6)
    assert (found.duration_seconds, found.frames_seen) == (
        by_file.descriptors.duration_seconds,
        by_file.descriptors.frames_seen,
    )
    assert (album.view, album.t_seconds) == (by_file.album.view, by_file.album.t_seconds)


@pytest.mark.parametrize("n", [0, 1, ALBUM_PICTURES, ALBUM_PICTURES + 1, 2 * ALBUM_PICTURES + 1, 1000, 5000])
def test_an_album_is_bounded_and_evenly_spread(n: int) -> None:
    """Every picture up to the limit; then every second, fourth, … one, from the first to nearly the last."""
    album, picture = Album(), np.zeros((1, 1, 3), np.uint8)
    for i in range(n):
        album.keep(Frame(float(i), picture))
    assert len(album.pictures) == len(album.t_seconds) <= ALBUM_PICTURES
    assert album.t_seconds == [float(i) for i in range(0, n, album.stride)]
    smallest = 1
    while -(-n // smallest) > ALBUM_PICTURES:
        smallest *= 2
    assert album.stride == smallest
