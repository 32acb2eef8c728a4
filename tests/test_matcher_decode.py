"""matcher.decode against a slow, plain reading of its own definition, on media made here."""

from __future__ import annotations

import gc
import logging
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eval.video_writer import write_video
from matcher import decode
from matcher.decode import Sampling, decode_all, probe, sample_frames, tone_map
from matcher.errors import InputError, VideoError

FILMS = Path(os.environ.get("MATCHER_FILMS", Path(__file__).resolve().parents[2] / "shared" / "films"))
TICK_CAP = Fraction(1, 2000)


def every_frame(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame, Fraction]]:
    """(time from the first frame, frame, half a tick), in the order of showing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        half_tick = min(stream.time_base / 2, TICK_CAP)
        first, last = None, Fraction(-1)
        for frame in container.decode(stream):
            first = frame.pts if first is None else first
            t_seconds = (frame.pts - first) * stream.time_base
            if t_seconds > last:
                last = t_seconds
                yield t_seconds, frame, half_tick


def image_of(path: Path, frame: av.VideoFrame, max_side: int = 320) -> NDArray[np.uint8]:
    with decode._open(path, threads=1) as source:
        return decode._Images(source, max_side).convert(frame)


def on_grid(path: Path, fps: float) -> list[tuple[float, NDArray[np.uint8]]]:
    """For every grid time the frame at it, or the first after it; each once."""
    frames = list(every_frame(path))
    step = 1 / Fraction(fps).limit_denominator(1000)
    taken: list[int] = []
    for i in range(math.floor(frames[-1][0] / step) + 2):
        at = next((n for n, (t, _, half) in enumerate(frames) if t + half >= i * step), None)
        if at is not None and at not in taken:
            taken.append(at)
    return [(float(frames[n][0]), image_of(path, frames[n][1])) for n in taken]


def by_key(path: Path, min_gap: float, max_gap: float) -> list[tuple[float, NDArray[np.uint8]]]:
    taken: list[tuple[float, NDArray[np.uint8]]] = []
    for t, frame, half in every_frame(path):
        gap = float(t + half) - taken[-1][0] if taken else math.inf
        if gap >= max_gap or (frame.key_frame and gap >= min_gap):
            taken.append((float(t), image_of(path, frame)))
    return taken


def sampled(path: Path, sampling: Sampling, threads: int = 1) -> list[tuple[float, NDArray[np.uint8]]]:
    return [(frame.t_seconds, frame.image) for frame in sample_frames(path, sampling, threads=threads)]


def assert_same(
    got: list[tuple[float, NDArray[np.uint8]]], wanted: list[tuple[float, NDArray[np.uint8]]]
) -> None:
    assert [t for t, _ in got] == [t for t, _ in wanted]
    for (t, image), (_, wanted_image) in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(image, wanted_image, err_msg=f"at {t} s")


def moving(n: int) -> Iterator[NDArray[np.uint8]]:
    return (media.moving(i) for i in range(n))


def times(path: Path, **kwargs: object) -> list[float]:
    return [round(t, 4) for t, _ in sampled(path, Sampling(**kwargs))]  # type: ignore[arg-type]


# --- Which frames ----------------------------------------------------------------------------------

STREAMS = {
    "h264-b-pyramid": ("libx264", "mp4", {"bf": "5", "b-pyramid": "normal", "x264-params": "b-adapt=0"}),
    "h264-open-gop": ("libx264", "mkv", {"bf": "3", "x264-params": "open-gop=1:b-adapt=0"}),
    "h264-transport": ("libx264", "ts", {"bf": "3", "x264-params": "b-adapt=0"}),
    "h264-interlaced": ("libx264", "mp4", {"bf": "2", "x264-params": "interlaced=1:b-adapt=0"}),
    "h264-avi": ("libx264", "avi", {"bf": "0"}),
    "h264-no-b": ("libx264", "flv", {"bf": "0"}),
    "hevc": ("libx265", "mp4", {"x265-params": "log-level=none:bframes=4:b-adapt=0:b-pyramid=1"}),
    "hevc-layers": ("libx265", "mp4", {"x265-params": "log-level=none:bframes=4:temporal-layers=3"}),
    "mpeg1": ("mpeg1video", "mpg", {"bf": "2", "b": "2M"}),
    "mpeg2": ("mpeg2video", "ts", {"bf": "2", "b": "2M"}),
    "mpeg2-interlaced": ("mpeg2video", "ts", {"bf": "2", "b": "2M", "flags": "+ildct+ilme"}),
    "mpeg4": ("mpeg4", "mp4", {"bf": "2", "b": "2M"}),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    "mjpeg": ("mjpeg", "avi", {}),
    "ffv1": ("ffv1", "mkv", {}),
}


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("streams")
    made = {}
    for name, (codec, suffix, options) in STREAMS.items():
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        path = folder / f"{name}.{suffix}"
        made[name] = media.write(path, moving(90), codec=codec, options=options, gop=30, pix_fmt=pix_fmt)
    return made


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(("fps", "threads"), [(1.0, 1), (7.3, 2), (2.5, 0), (60.0, 1)])
def test_grid_frames_are_those_of_plain_decoding(
    streams: dict[str, Path], name: str, fps: float, threads: int
) -> None:
    """Leaving frames undecoded changes neither which are taken nor one of their pixels."""
    path = streams[name]
    assert_same(sampled(path, Sampling(fps=fps), threads), on_grid(path, fps))


def test_frames_are_left_undecoded(streams: dict[str, Path]) -> None:
    """The saving is real: of a stream with B-frames the decoder gives fewer frames than there are."""
    path = streams["h264-b-pyramid"]
    with decode._open(path, threads=1) as source:
        clock = decode._Clock(source)
        spare = decode._sparing_decoder(source, clock, grid := decode._Grid(1.0, clock.tolerance_seconds))
        n_decoded = 0
        for packet in decode._packets(source):
            frames = spare(packet)
            n_decoded += len(frames)
            list(decode._taken(frames, clock, grid))
    assert n_decoded < 60 < decode_all(path) == 90


@pytest.mark.parametrize(
    "name", ["h264-b-pyramid", "h264-transport", "hevc", "mpeg2", "vp9", "mjpeg", "ffv1"]
)
@pytest.mark.parametrize("gap", [0.0, 1.0, 1.3])
def test_key_frames_are_those_of_plain_decoding(streams: dict[str, Path], name: str, gap: float) -> None:
    path = streams[name]
    got = sampled(path, Sampling(mode="keyframes", min_gap_seconds=gap))
    assert_same(got, by_key(path, gap, 10.0))
    assert gap > 0.0 or len(got) >= 3


@pytest.mark.parametrize("max_gap", [2.0, 3.0, 7.5])
def test_key_frames_far_apart_are_filled_in(tmp_path: Path, max_gap: float) -> None:
    """Where the next key frame is too far, a frame every ``max_gap_seconds`` is taken, else keys only."""
    frames = []
    for i in range(120):
        frame = av.VideoFrame.from_ndarray(media.moving(i), format="rgb24").reformat(format="yuv420p")
        frame.pict_type = 1 if i in (0, 5, 11, 17, 80, 87) else 0
        frames.append(frame)
    options = {"forced-idr": "1", "bf": "2"}
    path = media.write(
        tmp_path / "gaps.mp4", frames, time_base=Fraction(1, 5), rate=5, gop=10000, options=options
    )
    sampling = Sampling(mode="keyframes", min_gap_seconds=1.0, max_gap_seconds=max_gap)
    got = sampled(path, sampling)
    assert_same(got, by_key(path, 1.0, max_gap))
    assert {0.0, 1.0, 2.2, 3.4} <= {round(t, 4) for t, _ in got}
    assert max(np.diff([t for t, _ in got])) <= max_gap + 0.2


def test_one_endless_group_of_pictures(tmp_path: Path) -> None:
    path = media.write(tmp_path / "gop.mp4", moving(125), time_base=Fraction(1, 5), rate=5, gop=10000)
    assert times(path, mode="keyframes") == [0.0, 10.0, 20.0]


def test_too_many_gaps_to_remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every group of pictures is decoded: slower, and the same frames."""
    path = media.write(tmp_path / "v.mp4", moving(100), time_base=Fraction(1, 5), rate=5, gop=25)
    sampling = Sampling(mode="keyframes", max_gap_seconds=2.0)
    plenty = sampled(path, sampling)
    monkeypatch.setattr(decode, "_MAX_REMEMBERED", 1)
    assert decode._long_gaps(path, 2.0) is None
    assert_same(sampled(path, sampling), plenty)


def test_grid_forgets_rather_than_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_MAX_REMEMBERED", 10)
    grid = decode._Grid(1.0, 1e-9)
    assert all(grid.may_take(float(t)) for t in range(1000))
    assert len(grid.earliest) <= 10


# --- Times -----------------------------------------------------------------------------------------


def numbered(path: Path, pts: list[int], **kwargs: object) -> Path:
    images = [media.flat(media.level(i)) for i in range(len(pts))]
    return media.write(path, images, pts=pts, **kwargs)  # type: ignore[arg-type]


def numbers(path: Path, **kwargs: object) -> list[int]:
    """Which frames came, told by their grey."""
    greys = {media.level(i): i for i in range(32)}
    found = []
    for _, image in sampled(path, Sampling(**kwargs)):  # type: ignore[arg-type]
        grey = int(np.median(image))
        nearest = min(greys, key=lambda known: abs(known - grey))
        assert abs(nearest - grey) <= 2
        found.append(greys[nearest])
    return found


def test_variable_frame_rate_by_hand(tmp_path: Path) -> None:
    """Worked by hand; a gap longer than the grid's step gives no frame twice and the grid goes on."""
    pts = [0, 100, 999, 1001, 1500, 2000, 5400, 5600, 6000, 6100, 9900]
    path = numbered(tmp_path / "vfr.mp4", pts, time_base=Fraction(1, 1000))
    assert times(path) == [0.0, 1.001, 2.0, 5.4, 6.0, 9.9]
    assert numbers(path) == [0, 3, 5, 6, 8, 10]
    assert times(path, fps=0.5) == [0.0, 2.0, 5.4, 6.0, 9.9]


def test_grid_forgives_the_rounding_of_timestamps(tmp_path: Path) -> None:
    """Matroska's milliseconds make 1/3 s 0.333 s, which is not before the grid time."""
    path = numbered(tmp_path / "thirds.mkv", list(range(30)), time_base=Fraction(1, 30), rate=30)
    assert numbers(path, fps=3.0) == [0, 10, 20]


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4", "mov"])
def test_times_count_from_the_first_frame(tmp_path: Path, suffix: str) -> None:
    path = numbered(tmp_path / f"late.{suffix}", [i + 1000 for i in range(30)], options={"bf": "2"})
    assert times(path, fps=5.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert numbers(path, fps=5.0) == [0, 5, 10, 15, 20, 25]


def test_edit_list_hides_the_start(tmp_path: Path) -> None:
    """Frames before time 0 are cut away by MP4's edit list, also where the first shown is no key frame."""
    path = numbered(tmp_path / "cut.mp4", [i - 10 for i in range(30)], options={"bf": "2"})
    shown = [t for t, _, _ in every_frame(path)]
    assert len(shown) == 20
    assert numbers(path, fps=5.0) == [10, 15, 20, 25]
    assert numbers(path, mode="keyframes", min_gap_seconds=0.0)[:2] == [10, 12]
    assert times(path, mode="keyframes", min_gap_seconds=0.0)[:2] == [0.0, 0.08]


def test_negative_times(tmp_path: Path) -> None:
    path = numbered(tmp_path / "early.mkv", [i - 10 for i in range(30)])
    assert numbers(path, fps=5.0) == [0, 5, 10, 15, 20, 25]


def test_clock_set_back_goes_on(tmp_path: Path) -> None:
    """Two recordings joined: the second starts again at its own time, the times go on."""
    one = numbered(tmp_path / "1.ts", list(range(100, 130)), gop=5, options={"bf": "2"})
    two = numbered(tmp_path / "2.ts", list(range(30)), gop=5, options={"bf": "2"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    got = times(joined, fps=5.0)
    assert got == sorted(set(got))
    assert 10 <= len(got) <= 13
    assert 2.0 <= got[-1] <= 2.4
    keys = times(joined, mode="keyframes", min_gap_seconds=0.1)
    assert keys == sorted(set(keys))
    assert len(keys) >= 9


def test_frames_out_of_order_are_left_out(tmp_path: Path) -> None:
    with decode._open(numbered(tmp_path / "v.mp4", [0, 1]), threads=1) as source:
        clock = decode._Clock(source)
        frame = av.VideoFrame(16, 16, "yuv420p")
        found = []
        for pts in (512, 1024, 1000, 1024, 1536, -9, 2048, None, 2050, None):
            frame.pts = pts
            frame.dts = None
            found.append(clock.of_frame(frame))
    ticks = [None if t is None else round(t * 12800) for t in found]
    assert ticks == [0, 512, None, None, 1024, None, 1536, 2048, None, 2560]
    assert not clock.steady


def test_jumps_in_time_cost_nothing(tmp_path: Path) -> None:
    path = numbered(tmp_path / "jump.mkv", [0, 1, 2, 40_000_000, 40_000_001], time_base=Fraction(1, 25))
    assert times(path, fps=10.0) == [0.0, 1600000.0]


def test_stream_without_timestamps(tmp_path: Path) -> None:
    """A bare H.264 stream has none for its B-frames: order and rate give them."""
    path = media.write(tmp_path / "bare.h264", moving(50), options={"bf": "2"}, container_format="h264")
    got = times(path, fps=5.0)
    assert got[0] == 0.0
    np.testing.assert_allclose(np.diff(got), 0.2, atol=0.041)
    assert len(got) == 10
    assert times(path, mode="keyframes", min_gap_seconds=0.0)[0] == 0.0


@pytest.mark.parametrize("threads", [1, 2])
def test_avi_with_b_frames(tmp_path: Path, threads: int) -> None:
    """AVI's packets are numbered as stored; frames still come in order and in time."""
    path = numbered(tmp_path / "b.avi", list(range(30)), options={"bf": "3", "x264-params": "b-adapt=0"})
    assert numbers(path, fps=5.0) == [0, 5, 10, 15, 20, 25]
    got = [t for t, _ in sampled(path, Sampling(fps=5.0), threads)]
    np.testing.assert_allclose(got, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_one_frame(tmp_path: Path, suffix: str) -> None:
    path = numbered(tmp_path / f"one.{suffix}", [0])
    assert times(path) == times(path, mode="keyframes") == [0.0]


# --- Images ----------------------------------------------------------------------------------------


def by_matrix(image: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """Sends every pixel to its place by the definition in libavutil/display.h."""
    a, b, _, c, d = (round(v / 65536) for v in matrix[:5])
    height, width = image.shape[:2]
    q, p = np.mgrid[0:height, 0:width]
    x, y = a * p + c * q, b * p + d * q
    turned = np.zeros((y.max() - y.min() + 1, x.max() - x.min() + 1, 3), dtype=np.uint8)
    turned[y - y.min(), x - x.min()] = image
    return turned


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True)])
def test_display_matrix(tmp_path: Path, degrees: int, mirror: tuple[bool, bool]) -> None:
    rotation = (degrees, *mirror)
    path = media.write(tmp_path / "turned.mp4", [media.corners()] * 2, rotation=rotation)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        side_data = frame.side_data.get("DISPLAYMATRIX")
        matrix = (65536, 0, 0, 0, 65536)
        if side_data is not None:
            matrix = tuple(int(v) for v in np.frombuffer(bytes(side_data), dtype=np.int32))
        counterclockwise = frame.rotation
    ((_, image),) = sampled(path, Sampling())
    wanted = by_matrix(media.corners(), matrix)
    assert image.shape == wanted.shape
    inner = np.s_[8:-8:16, 8:-8:16]  # away from the edges, which coding blurs
    np.testing.assert_allclose(image[inner].astype(int), wanted[inner].astype(int), atol=5)
    info = probe(path)
    assert (info.height, info.width) == wanted.shape[:2]
    if mirror == (False, False):
        np.testing.assert_array_equal(np.rot90(media.corners(), counterclockwise // 90), wanted)
        assert info.rotation_degrees == -counterclockwise % 360


def test_matrix_that_is_no_quarter_turn(tmp_path: Path) -> None:
    path = media.write(tmp_path / "slant.mp4", [media.corners()] * 2, rotation=(30.0, False, False))
    assert sampled(path, Sampling())[0][1].shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("sar", "size"), [(Fraction(2), (64, 192)), (Fraction(1, 2), (64, 48)), (Fraction(1000), (64, 96))]
)
def test_pixels_are_made_square(tmp_path: Path, sar: Fraction, size: tuple[int, int]) -> None:
    """And an aspect that no video has is taken for the nonsense it is."""
    path = media.write(tmp_path / "sar.mp4", [media.corners()] * 2, sar=sar)
    info = probe(path)
    assert (info.height, info.width) == size
    assert sampled(path, Sampling())[0][1].shape == (*size, 3)
    longest = sampled(path, Sampling(max_side=30))[0][1].shape
    assert max(longest) == 30


def test_square_pixels_come_before_turning(tmp_path: Path) -> None:
    path = media.write(
        tmp_path / "t.mp4", [media.corners()] * 2, sar=Fraction(2), rotation=(90, False, False)
    )
    assert sampled(path, Sampling())[0][1].shape == (192, 64, 3)


@pytest.mark.parametrize(
    ("width", "height", "wanted"),
    [(1, 1, (1, 1)), (3, 5, (5, 3)), (2, 2, (2, 2)), (20000, 20, (1, 320)), (20, 20000, (320, 1)),
     (641, 359, (179, 320)), (320, 180, (180, 320))],
)  # fmt: skip
@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "bgr0"), ("rawvideo", "yuv420p")])
def test_extreme_shapes(
    tmp_path: Path, width: int, height: int, wanted: tuple[int, int], codec: str, pix_fmt: str
) -> None:
    images = [media.corners(width, height)] * 2
    path = media.write(tmp_path / "shape.nut", images, codec=codec, pix_fmt=pix_fmt)
    ((_, image),) = sampled(path, Sampling())
    assert image.shape == (*wanted, 3)
    info = probe(path)
    assert (info.width, info.height) == (width, height)
    if codec == "ffv1" and max(width, height) <= 320:
        np.testing.assert_array_equal(image, media.corners(width, height))


@pytest.mark.parametrize("colorspace", [1, 5, 6, 9])
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p10le"])
def test_matrix_and_range_are_honoured(
    tmp_path: Path, colorspace: int, color_range: int, pix_fmt: str
) -> None:
    """The Y'CbCr values are computed here from BT.601, BT.709 and BT.2020's own weights."""
    image = media.corners(64, 64)
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[colorspace]
    rgb = image.astype(np.float64) / 255
    luma = rgb @ np.array([kr, 1 - kr - kb, kb])
    cb, cr = (rgb[..., 2] - luma) / (2 - 2 * kb), (rgb[..., 0] - luma) / (2 - 2 * kr)
    frame = av.VideoFrame(64, 64, pix_fmt)
    bits = 10 if pix_fmt.endswith("10le") else 8
    scale = 2 ** (bits - 8)
    for plane, value in zip(frame.planes, (luma, cb, cr), strict=True):
        is_luma = value is luma
        if color_range == 1:
            coded = (219 * value + 16 if is_luma else 224 * value + 128) * scale
        else:
            coded = value * (2**bits - 1) + (0 if is_luma else 128 * scale)
        step = 64 // plane.width
        write_plane(plane, np.round(coded).clip(0, 2**bits - 1)[::step, ::step], bits)
    tags = {"colorspace": colorspace, "color_range": color_range}
    path = media.write(tmp_path / "c.mkv", [frame] * 2, codec="ffv1", pix_fmt=pix_fmt, tags=tags)
    ((_, got),) = sampled(path, Sampling())
    inner = np.s_[8:-8:16, 8:-8:16]
    np.testing.assert_allclose(got[inner].astype(int), image[inner].astype(int), atol=3)


def write_plane(plane: av.video.plane.VideoPlane, values: NDArray[np.float64], bits: int) -> None:
    sample = np.dtype("<u2" if bits > 8 else "u1")
    rows = np.zeros((plane.height, plane.line_size // sample.itemsize), dtype=sample)
    rows[:, : plane.width] = values
    plane.update(rows.tobytes())


@pytest.mark.parametrize(("size", "colorspace"), [((96, 64), 5), ((1280, 720), 1)])
def test_untagged_colours_go_by_size(tmp_path: Path, size: tuple[int, int], colorspace: int) -> None:
    frame = av.VideoFrame.from_ndarray(media.corners(*size), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=colorspace)
    frame.colorspace = 2
    path = media.write(tmp_path / "u.mp4", [frame] * 2, options={"crf": "1"})
    ((_, image),) = sampled(path, Sampling(max_side=96))
    height, width = image.shape[:2]
    np.testing.assert_allclose(image[height // 4, width // 4], (230, 20, 20), atol=4)
    np.testing.assert_allclose(image[height // 4, 3 * width // 4], (20, 230, 20), atol=4)


def test_alpha_is_laid_over_black(tmp_path: Path) -> None:
    rgba = np.dstack([media.corners(), np.zeros((64, 96), np.uint8)])
    rgba[:, :48, 3], rgba[:, 48:, 3] = 255, 128
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    path = media.write(tmp_path / "a.mov", [frame] * 2, codec="png", pix_fmt="rgba")
    ((_, image),) = sampled(path, Sampling())
    np.testing.assert_array_equal(image[:, :48], media.corners()[:, :48])
    np.testing.assert_allclose(image[:, 48:], media.corners()[:, 48:] * (128 / 255), atol=1)


def test_scaling_is_an_average(tmp_path: Path) -> None:
    """Fine stripes become grey and not stripes again."""
    stripes = np.zeros((64, 640, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    path = media.write(tmp_path / "s.mkv", [stripes] * 2, codec="ffv1", pix_fmt="bgr0")
    ((_, image),) = sampled(path, Sampling(max_side=64))
    np.testing.assert_allclose(image, 100, atol=2)


def test_resolution_changes_in_the_middle(tmp_path: Path) -> None:
    one = media.write(tmp_path / "1.ts", [media.corners(96, 64)] * 25)
    two = media.write(tmp_path / "2.ts", [media.corners(64, 128)] * 25, pts=list(range(25, 50)))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    shapes = [image.shape[:2] for _, image in sampled(joined, Sampling(fps=5.0))]
    assert shapes[0] == (64, 96)
    assert shapes[-1] == (128, 64)


def hdr_file(path: Path, signals: list[float], transfer: int) -> Path:
    """Grey fields of the given R' = G' = B', 10 bits, narrow range."""
    frames = []
    for signal in signals:
        frame = av.VideoFrame(64, 64, "yuv420p10le")
        for plane, value in zip(frame.planes, (round(64 + 876 * signal), 512, 512), strict=True):
            write_plane(plane, np.full((plane.height, plane.width), float(value)), 10)
        frames.append(frame)
    tags = {"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": 9}
    options = {"x265-params": "log-level=none:lossless=1"}
    return media.write(path, frames, codec="libx265", pix_fmt="yuv420p10le", tags=tags, options=options)


def srgb(light: float) -> float:
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def test_hdr_files_come_out_as_sdr(tmp_path: Path) -> None:
    """Anchors of the standards: PQ 0.5081 is 100 cd/m², 0.7518 is 1000; HLG 0.75 and PQ 0.5807 are 203."""
    pq = hdr_file(tmp_path / "pq.mp4", [0.0, 0.4, 0.5081, 0.5807, 0.7518, 1.0], 16)
    hlg = hdr_file(tmp_path / "hlg.mp4", [0.0, 0.75, 1.0], 18)
    assert probe(pq).is_hdr
    assert probe(hlg).is_hdr
    greys_pq = [image.reshape(-1, 3) for _, image in sampled(pq, Sampling(fps=25.0))]
    greys_hlg = [image.reshape(-1, 3) for _, image in sampled(hlg, Sampling(fps=25.0))]
    assert all(np.ptp(grey) <= 2 for grey in greys_pq + greys_hlg)
    values = [float(grey.mean()) for grey in greys_pq]
    assert values[0] < 1
    assert values[1] == pytest.approx(srgb(32.5 / 203), abs=2)  # PQ 0.4 is 32.5 cd/m², below the knee
    assert values[2] == pytest.approx(srgb(100 / 203), abs=3)
    assert values[2] < values[3] < srgb(1.0) - 5
    assert values[4] > 253
    assert values[5] == 255
    assert float(greys_hlg[1].mean()) == pytest.approx(values[3], abs=3)
    assert float(greys_hlg[2].mean()) > 253


def test_tone_map_against_the_formulas() -> None:
    """One pixel at a time, the report's formulas written out; coloured and grey, PQ."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875

    def eotf(e: float) -> float:
        p = e ** (1 / m2)
        return float(10000 * (max(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1))

    def inverse(f: float) -> float:
        y = (f / 10000) ** m1
        return float(((c1 + c2 * y) / (1 + c3 * y)) ** m2)

    def roll_off(f: float) -> float:
        e1, max_lum = min(inverse(f) / inverse(1000), 1.0), inverse(203) / inverse(1000)
        ks = 1.5 * max_lum - 0.5
        if e1 >= ks:
            t = (e1 - ks) / (1 - ks)
            e1 = (
                (2 * t**3 - 3 * t**2 + 1) * ks
                + (t**3 - 2 * t**2 + t) * (1 - ks)
                + (-2 * t**3 + 3 * t**2) * max_lum
            )
        return eotf(e1 * inverse(1000))

    rng = np.random.default_rng(3)
    coded = (rng.random((6, 7, 3)) * 0.75 * 65535).astype(np.uint16)
    got = tone_map(coded, "pq")
    to_709 = np.linalg.inv(
        np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
    )
    for y, x in np.ndindex(6, 7):
        nits = np.array([eotf(v / 65535) for v in coded[y, x]])
        light = to_709 @ (nits * roll_off(nits.max()) / nits.max() / 203)
        wanted = [srgb(min(max(v, 0.0), 1.0)) for v in light]
        np.testing.assert_allclose(got[y, x].astype(float), wanted, atol=1.5)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_tone_map_grows_and_stays_grey(transfer: str) -> None:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16)
    out = tone_map(np.stack([ramp] * 3, axis=1)[None], transfer)[0].astype(int)  # type: ignore[arg-type]
    assert np.all(np.diff(out[:, 1]) >= 0)
    assert np.ptp(out, axis=1).max() <= 1
    assert out[0].max() == 0
    assert out[-1].min() == 255


# --- Bad input -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.mp4"
    write_video(path, moving(50), fps=25, keyframe_interval=10, sound=np.zeros(32000, np.float32))
    return path


def refusal(path: Path) -> str:
    """The message, the same from every entrance: one line, with the file's name."""
    messages = []
    for enter in (probe, decode_all, lambda p: list(sample_frames(p, Sampling())),
                  lambda p: list(sample_frames(p, Sampling("keyframes")))):  # fmt: skip
        with pytest.raises(VideoError) as caught:
            enter(path)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1
    assert messages[0].startswith(repr(str(path)))
    assert messages[0].isprintable()
    return messages[0]


def make_missing(path: Path) -> None:
    pass


def make_folder(path: Path) -> None:
    path.mkdir()


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("<html>Not found</html>\n" * 30)


def make_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def make_sound(path: Path) -> None:
    media.write_sound(path.with_suffix(".m4a"))
    path.with_suffix(".m4a").rename(path)


def make_cover(path: Path) -> None:
    media.write_sound(path.with_suffix(".mp3"), cover=True)
    path.with_suffix(".mp3").rename(path)


def make_png(path: Path) -> None:
    Image.fromarray(media.corners()).save(path, format="PNG")


def make_jpeg(path: Path) -> None:
    Image.fromarray(media.corners()).save(path, format="JPEG")


def make_avif(path: Path) -> None:
    if not Image.registered_extensions().get(".avif"):
        pytest.skip("this Pillow writes no AVIF")
    Image.fromarray(media.corners()).save(path, format="AVIF")


def make_no_frames(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        out.start_encoding()


def make_all_damaged(path: Path) -> None:
    media.spoil(media.write(path, moving(30)), range(30))


def make_cut_before_its_index(path: Path) -> None:
    media.truncate(media.write(path, moving(50)), 0.5)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_hls(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ngood.mp4\n#EXT-X-ENDLIST\n")


def make_concat(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile good.mp4\n")


def make_dash(path: Path) -> None:
    path.write_text('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>')


BAD = {
    make_missing: "does not exist",
    make_folder: "is a folder",
    make_empty: "is empty",
    make_text: "is text",
    make_noise: "is not a video that can be read",
    make_sound: "holds sound but no video",
    make_cover: "holds sound but no video",
    make_png: "is a picture",
    make_jpeg: "is a picture",
    make_avif: "is a picture",
    make_no_frames: "holds no video",
    make_all_damaged: "has no frame that can be decoded",
    make_cut_before_its_index: "is not a video that can be read",
    make_pipe: "is not a regular file",
    make_hls: "is a playlist",
    make_concat: "is a playlist",
    make_dash: "is a playlist",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_is_one_clear_line(tmp_path: Path, good: Path, make: object) -> None:
    shutil.copy(good, tmp_path / "good.mp4")
    path = tmp_path / "bad film.mp4"
    make(path)  # type: ignore[operator]
    message = refusal(path)
    assert BAD[make] in message  # type: ignore[index]
    assert ": " in message  # what is wrong, then what to do


def test_a_picture_whose_name_is_a_pattern(tmp_path: Path) -> None:
    """FFmpeg would read it as a sequence of numbered pictures, and other files with it."""
    for i in range(3):
        Image.fromarray(media.flat(50 * i)).save(tmp_path / f"p{i}.png")
    Image.fromarray(media.flat(0)).save(tmp_path / "p%d.png")
    assert "is a picture" in refusal(tmp_path / "p%d.png")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_devices_are_refused(device: str) -> None:
    assert "is not a regular file" in refusal(Path(device))


def test_no_permission(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(good, tmp_path / "v.mp4"))
    if os.geteuid() == 0:  # root may read everything

        def denied(self: Path, *_: object) -> object:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
    else:
        path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_name_with_a_null_byte() -> None:
    assert "cannot be read" in refusal(Path("nul\0.mp4"))


@pytest.mark.parametrize(
    "name",
    ["a b", "q'\"x", "new\nline", "中文", "http:x", "file:x", "pipe:0", "a%03d", "-i", "a\\b", "x\udcff"],
)
def test_any_name_will_do(tmp_path: Path, good: Path, name: str) -> None:
    path = Path(shutil.copy(good, tmp_path / f"{name}.mp4"))
    assert times(path) == [0.0, 1.0]
    assert probe(path).path == path


def test_any_name_is_told_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nb \x1b[31m 中.mp4"
    make_empty(path)
    assert "中" in refusal(path)


def test_relative_path(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(good.parent)
    assert times(Path("good.mp4")) == [0.0, 1.0]


def test_nothing_is_fetched_from_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v.ts"
        playlist = tmp_path / "list.mp4"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n")
        assert "is a playlist" in refusal(playlist)
        assert "does not exist" in refusal(Path(url))
        with pytest.raises(TimeoutError):
            server.accept()


def test_too_large(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the header, and where the stream grows later, those frames are left out."""
    one = media.write(tmp_path / "1.ts", [media.corners(96, 64)] * 25)
    two = media.write(tmp_path / "2.ts", [media.corners(640, 640)] * 25, pts=list(range(25, 50)))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    monkeypatch.setattr(decode, "_MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(VideoError, match="96×64"):
        probe(good)
    monkeypatch.setattr(decode, "_MAX_PIXELS", 200 * 200)
    assert {image.shape for _, image in sampled(joined, Sampling(fps=5.0))} == {(64, 96, 3)}


def test_picture_too_large_for_conversion(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with decode._open(good, threads=1) as source:
        images = decode._Images(source, 320)
        monkeypatch.setattr(decode, "_MAX_PIXELS", 100)
        with pytest.raises(VideoError, match="16×16"):
            images.convert(av.VideoFrame(16, 16, "yuv420p"))


def test_picture_that_cannot_be_converted(good: Path) -> None:
    class Refuses:
        def reformat(self, *_: object, **__: object) -> None:
            raise av.error.NotImplementedError(38, "Function not implemented")

    with decode._open(good, threads=1) as source:
        images = decode._Images(source, 320, Refuses())  # type: ignore[arg-type]
        with pytest.raises(VideoError, match=r"cannot be converted \(yuv420p, 16×16; Function not"):
            images.convert(av.VideoFrame(16, 16, "yuv420p"))


def test_film_that_breaks_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is there is read, and one line says how much of how much."""
    path = tmp_path / "cut.mp4"
    media.write(path, moving(250), container_options={"movflags": "faststart"})
    whole = on_grid(path, 1.0)
    media.truncate(path, 0.5)
    for sampling in (Sampling(), Sampling("keyframes")):
        caplog.clear()
        got = sampled(path, sampling)
        assert 3 <= len(got) < 8
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith(repr(str(path)))
        assert "breaks off" in line
        assert "of 10.0 seconds" in line
    got = sampled(path, Sampling())
    assert_same(got, whole[: len(got)])


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_stream_that_breaks_off(tmp_path: Path, suffix: str) -> None:
    path = media.truncate(media.write(tmp_path / f"cut.{suffix}", moving(200)), 0.6)
    assert times(path)[:4] == [0.0, 1.0, 2.0, 3.0]


def test_no_warning_for_a_whole_file(good: Path, caplog: pytest.LogCaptureFixture) -> None:
    for sampling in (Sampling(), Sampling("keyframes")):
        sampled(good, sampling)
    assert not caplog.records


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damage_in_the_middle_is_passed_over(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = media.write(tmp_path / f"v.{suffix}", moving(250))
    media.spoil(path, range(60, 90))
    got = times(path)
    assert got[:2] == [0.0, 1.0]
    assert got[-3:] == [7.0, 8.0, 9.0]
    assert got == sorted(set(got))
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 1


def test_the_next_frame_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    """Frame 10, the one to take, is damaged: 11 is taken, although nothing refers to it."""
    options = {"bf": "2", "x264-params": "b-adapt=0:b-pyramid=none"}
    path = media.write(tmp_path / "v.mp4", moving(31), gop=60, options=options)
    assert times(path, fps=2.5) == [0.0, 0.4, 0.8, 1.2]
    with av.open(str(path)) as container:
        packets = [p.pts for p in container.demux(video=0) if p.size]
    number = packets.index(sorted(packets)[10])
    assert packets[number + 1] == sorted(packets)[11]
    media.spoil(path, [number])
    assert times(path, fps=2.5) == [0.0, 0.44, 0.8, 1.2]


def test_stream_that_appears_on_the_way(good: Path) -> None:
    """PyAV then raises IndexError where the end should be."""
    with decode._open(good, threads=1) as source:
        whole = len(list(decode._packets(source)))
    with decode._open(good, threads=1) as source:
        container = source.container

        class Stumbles:
            def demux(self, stream: object) -> Iterator[object]:
                yield from container.demux(stream)  # type: ignore[call-overload]
                raise IndexError("list index out of range")

        source.container = Stumbles()  # type: ignore[assignment]
        assert len(list(decode._packets(source))) == whole


def test_endless_damage_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.spoil(media.write(tmp_path / "v.mp4", moving(250)), range(60, 200))
    monkeypatch.setattr(decode, "_MAX_CONSECUTIVE_FAULTS", 20)
    got = times(path)
    assert got[0] == 0.0
    assert got[-1] < 4.0
    assert decode_all(path) <= 60
    path = media.write(tmp_path / "v.avi", moving(100), codec="mjpeg", pix_fmt="yuvj420p")
    media.spoil(path, range(30, 80))
    assert times(path, mode="keyframes", min_gap_seconds=0.0)[-1] < 1.2


def test_demuxer_that_only_fails(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with decode._open(good, threads=1) as source:

        class Broken:
            def demux(self, _: object) -> Iterator[object]:
                raise av.error.InvalidDataError(1, "bad")

        source.container = Broken()  # type: ignore[assignment]
        assert list(decode._packets(source)) == []
        assert source.gives_up


def test_libav_is_silent(tmp_path: Path) -> None:
    path = media.spoil(media.write(tmp_path / "v.mp4", moving(100)), range(40, 60))
    code = (
        "import sys; from pathlib import Path; from matcher.decode import *\n"
        "print(len(list(sample_frames(Path(sys.argv[1]), Sampling(fps=5.0), threads=2))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert int(done.stdout) > 10
    assert len(done.stderr.splitlines()) <= 1  # the warning of this module, nothing of libav's
    assert "[h264" not in done.stderr


def open_files(path: Path) -> int:
    return sum(os.path.realpath(entry) == str(path.resolve()) for entry in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("mode", ["fps", "keyframes"])
def test_files_are_closed(good: Path, mode: str) -> None:
    frames = sample_frames(good, Sampling(mode=mode, fps=25.0, min_gap_seconds=0.0), threads=2)  # type: ignore[arg-type]
    assert open_files(good) == 0
    next(frames)
    assert open_files(good) == 1
    frames.close()  # type: ignore[attr-defined]
    assert open_files(good) == 0
    frames = sample_frames(good, Sampling(mode=mode))  # type: ignore[arg-type]
    next(frames)
    del frames
    gc.collect()
    assert open_files(good) == 0


def test_probe(good: Path) -> None:
    info = probe(good)
    assert (info.width, info.height, info.rotation_degrees) == (96, 64, 0)
    assert info.codec == "h264"
    assert info.frame_rate == 25.0
    assert info.duration_seconds == pytest.approx(2.0, abs=0.05)
    assert info.has_sound
    assert not info.is_hdr


def test_probe_of_a_silent_file_that_starts_late(tmp_path: Path) -> None:
    info = probe(numbered(tmp_path / "late.mkv", [i + 1000 for i in range(50)]))
    assert not info.has_sound
    assert info.duration_seconds == pytest.approx(2.0, abs=0.05)


# --- Settings --------------------------------------------------------------------------------------


def test_parse() -> None:
    assert Sampling.parse("fps=2") == Sampling(fps=2.0)
    assert Sampling.parse(" fps=0.5 ", max_side=64) == Sampling(fps=0.5, max_side=64)
    assert Sampling.parse("keyframes") == Sampling(mode="keyframes")
    assert Sampling.parse("keyframes=1.5") == Sampling(mode="keyframes", min_gap_seconds=1.5)
    assert Sampling.parse("keyframes=30").max_gap_seconds == 30.0


@pytest.mark.parametrize(
    "words",
    ["", "fps", "fps=", "fps=0", "fps=-1", "fps=nan", "fps=inf", "fps=x", "keyframes=", "keyframes=-1",
     "keyframes=nan", "2", "FPS=2"],
)  # fmt: skip
def test_parse_refuses_and_tells_the_forms(words: str) -> None:
    with pytest.raises(InputError, match=r"fps=RATE .* keyframes=SECONDS"):
        Sampling.parse(words)


@pytest.mark.parametrize(
    "kwargs",
    [{"mode": "all"}, {"fps": 0.0}, {"fps": math.nan}, {"min_gap_seconds": -1.0}, {"max_gap_seconds": 0.5},
     {"max_gap_seconds": math.inf}, {"max_side": 0}],
)  # fmt: skip
def test_sampling_checks_itself(kwargs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Sampling(**kwargs)  # type: ignore[arg-type]


def test_threads_must_not_be_negative(good: Path) -> None:
    with pytest.raises(ValueError, match="threads"):
        list(sample_frames(good, Sampling(), threads=-1))


# --- Real films ------------------------------------------------------------------------------------


@pytest.mark.films
@pytest.mark.parametrize("name", ["coffee-run", "llama-drama", "mdn-clip", "nasa-13013", "toy-elf"])
@pytest.mark.parametrize("threads", [1, 2])
def test_films(name: str, threads: int) -> None:
    """Pixels and times of real encoders' streams are those of plain decoding."""
    path = FILMS / f"{name}.mp4"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert_same(sampled(path, Sampling(fps=2.0), threads), on_grid(path, 2.0))
    assert_same(sampled(path, Sampling("keyframes"), threads), by_key(path, 1.0, 10.0))
