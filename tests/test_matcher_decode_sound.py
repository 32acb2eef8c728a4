"""matcher.decode_sound: rates, channels, formats, gaps and damage, in files made here."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import media
import numpy as np
import pytest
from numpy.typing import NDArray
from test_matcher_sound import talk

from matcher import decode_sound
from matcher.decode import Sampling, read_pieces, sample_frames
from matcher.decode_sound import SoundPiece, SoundThread, SoundTrack, read_sound, sound_seconds
from matcher.encoders.sound import shipped_sound_encoder
from matcher.errors import VideoError
from matcher.records import Frame
from matcher.sound import COLUMN_SECONDS, RATE_HZ, mel_columns

Samples = NDArray[np.float32]
FPS2 = Sampling("fps", 2.0)
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
SECONDS = 8.0


@dataclass
class Track:
    """One stream of sound.

    Attributes:
        parts: (seconds, samples (n,) or (channels, n)) each; what is mono is in all channels alike.
    """

    parts: Sequence[tuple[float, Samples]]
    rate_hz: int = 48000
    layout: str = "mono"
    codec: str = "pcm_s16le"
    sample_format: str = "s16"
    is_default: bool = False
    options: dict[str, str] = field(default_factory=dict)


def write(
    path: Path,
    tracks: Sequence[Track] = (),
    *,
    seconds: float = SECONDS,
    video_start: float = 0.0,
    video_codec: str = "mpeg4",
    options: dict[str, str] | None = None,
) -> Path:
    """Pictures at 10 a second, each of another grey, and ``tracks``."""
    form = {".mkv": "matroska", ".ts": "mpegts"}.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=form, options=options or {}) as out:
        video = out.add_stream(video_codec, rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.gop_size = 10
        streams = []
        for track in tracks:
            stream = out.add_stream(
                track.codec, rate=track.rate_hz, layout=track.layout, options=track.options
            )
            stream.codec_context.format = track.sample_format
            stream.disposition = av.stream.Disposition.default if track.is_default else 0
            streams.append(stream)
        packets = []
        for number in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(media.flat(media.level(number), 64, 48), format="rgb24")
            frame.pts, frame.time_base = number + round(video_start * 10), Fraction(1, 10)
            packets += video.encode(frame)
        packets += video.encode(None)
        for track, stream in zip(tracks, streams, strict=True):
            for block in sound_frames(track):
                packets += stream.encode(block)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            out.mux(packet)
    return path


def sound_frames(track: Track) -> list[av.AudioFrame]:
    frames, channels = [], av.AudioLayout(track.layout).nb_channels
    for start_seconds, part in track.parts:
        both = np.broadcast_to(part, (channels, part.shape[-1]))
        for first in range(0, both.shape[1], 1024):
            block = np.zeros((channels, 1024), np.float32)
            some = both[:, first : first + 1024]
            block[:, : some.shape[1]] = some
            frame = av.AudioFrame.from_ndarray(*as_stored(block, track.sample_format), layout=track.layout)
            frame.sample_rate, frame.time_base = track.rate_hz, Fraction(1, track.rate_hz)
            frame.pts = round(start_seconds * track.rate_hz) + first
            frames.append(frame)
    return frames


def as_stored(block: Samples, sample_format: str) -> tuple[NDArray[Any], str]:
    kind = sample_format.rstrip("p")
    if kind == "u8":
        stored = np.round(block * 127 + 128).astype(np.uint8)
    elif kind.startswith("s"):
        bits = int(kind[1:])
        stored = np.round(block.astype(np.float64) * (2 ** (bits - 1) - 1)).astype(f"i{bits // 8}")
    else:
        stored = block.astype({"flt": np.float32, "dbl": np.float64}[kind])
    if not sample_format.endswith("p"):
        stored = np.ascontiguousarray(stored.T.reshape(1, -1))
    return stored, sample_format


def listen(path: Path, sampling: Sampling = FPS2) -> tuple[list[SoundPiece], list[Frame]]:
    track = SoundTrack()
    frames = list(sample_frames(path, sampling, sound=track))
    return track.pieces(), frames


def assert_same_frames(path: Path) -> None:
    """With and without listening."""
    for sampling in (
        FPS2,
        Sampling("fps", 30.0),
        Sampling("keyframes"),
        Sampling("keyframes", 1.0, 0.5, 1.5),
    ):
        plain, heard = list(sample_frames(path, sampling)), listen(path, sampling)[1]
        assert [f.t_seconds for f in heard] == [f.t_seconds for f in plain]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(heard, plain, strict=True))
        assert plain


def assert_same_alone(path: Path, pieces: Sequence[SoundPiece]) -> None:
    """The same sound is read without a look at the pictures."""
    alone = read_pieces(path)
    assert [one.start_seconds for one in alone] == [one.start_seconds for one in pieces]
    for one, other in zip(alone, pieces, strict=True):
        np.testing.assert_array_equal(one.columns, other.columns)


def loudest_seconds(pieces: Sequence[SoundPiece]) -> float:
    """Middle of the only thing that is heard."""
    times = np.concatenate([p.start_seconds + np.arange(len(p.columns)) * COLUMN_SECONDS for p in pieces])
    power = np.concatenate([np.exp(p.columns).sum(axis=1) for p in pieces])
    power[power < power.max() / 100] = 0
    return float((power * (times + (4 * 320 + 1024) / 2 / RATE_HZ)).sum() / power.sum())


def chirps(at_seconds: float, seconds: float, rate_hz: int = 48000) -> Samples:
    """Silence, but for 0.3 seconds of chirps around a time."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz - at_seconds
    wave = sum(np.sin(2 * np.pi * f * t * (1 + t)) for f in (500, 1300, 2900))
    return np.asarray(0.2 * wave * (np.abs(t) < 0.15), np.float32)


def closeness(pieces: Sequence[SoundPiece], reference: Samples, *, late: float = 0.0) -> float:
    """Median cosine of the reference's descriptors, each with that of the file nearest in time."""
    encoder = shipped_sound_encoder()
    times, vectors = encoder.describe(mel_columns(reference), step=2)
    (piece,) = pieces
    heard_times, heard = encoder.describe(piece.columns, step=1)
    heard_times = heard_times + piece.start_seconds - late
    times, vectors = times[times < heard_times[-1]], vectors[times < heard_times[-1]]
    assert len(times) > 5
    near = np.abs(heard_times[None] - times[:, None]).argmin(axis=1)
    assert np.abs(heard_times[near] - times).max() < 0.06
    return float(np.median((heard[near] * vectors).sum(axis=1)))


# ---------------------------------------------------------------- rates, channels, formats


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_a_rate_gives_the_descriptors_of_16_khz(tmp_path: Path, rate_hz: int, suffix: str) -> None:
    """Of 8 and 11 kHz the bands above 4 and 5.5 kHz are not there: six and two of 64."""
    path = write(tmp_path / f"a{suffix}", [Track([(0.0, talk(1, SECONDS, rate_hz))], rate_hz)])
    cosine = closeness(listen(path)[0], talk(1, SECONDS))
    assert cosine > {8000: 0.6, 11025: 0.75}.get(rate_hz, 0.95)


@pytest.mark.parametrize("channels", LAYOUTS)
@pytest.mark.parametrize("sample_format", ["s16", "flt"])
def test_every_number_of_channels_is_heard_alike(tmp_path: Path, channels: int, sample_format: str) -> None:
    codec = {"s16": "pcm_s16le", "flt": "pcm_f32le"}[sample_format]
    sound = talk(2, SECONDS, 48000)
    track = Track([(0.0, sound)], 48000, LAYOUTS[channels], codec, sample_format)
    path = write(tmp_path / "a.mkv", [track])
    assert closeness(listen(path)[0], talk(2, SECONDS)) > 0.95
    np.testing.assert_allclose(read_sound(path, 2.0, 5.0), talk(2, SECONDS)[32_000:80_000], atol=0.01)


@pytest.mark.parametrize("channels", [10, 16, 24])
def test_more_channels_than_a_cinema_has_are_heard(tmp_path: Path, channels: int) -> None:
    layout = {10: "5.1.4", 16: "hexadecagonal", 24: "22.2"}[channels]
    track = Track([(0.0, talk(2, 4.0, 48000))], 48000, layout)
    path = write(tmp_path / "a.mov", [track], seconds=4.0)
    assert closeness(listen(path)[0], talk(2, 4.0)) > 0.95


def test_one_channel_alone_is_heard_among_silent_ones(tmp_path: Path) -> None:
    sound = np.zeros((6, round(SECONDS * 48000)), np.float32)
    sound[4] = talk(3, SECONDS, 48000)
    path = write(tmp_path / "a.mkv", [Track([(0.0, sound)], 48000, "5.1", "pcm_f32le", "flt")])
    assert closeness(listen(path)[0], talk(3, SECONDS)) > 0.9
    np.testing.assert_allclose(read_sound(path, 2.0, 5.0), talk(3, SECONDS)[32_000:80_000] / 6, atol=0.003)


@pytest.mark.parametrize("channels", range(1, 7))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_aac_is_heard_like_what_it_was_made_of(tmp_path: Path, channels: int, suffix: str) -> None:
    layout = {**LAYOUTS, 3: "3.0"}[channels]
    track = Track([(0.0, talk(4, SECONDS, 44100))], 44100, layout, "aac", "fltp")
    assert closeness(listen(write(tmp_path / f"a{suffix}", [track]))[0], talk(4, SECONDS)) > 0.9


@pytest.mark.parametrize(
    ("codec", "sample_format", "suffix", "least"),
    [
        ("pcm_u8", "u8", ".mov", 0.9), ("pcm_s32le", "s32", ".mkv", 0.95), ("pcm_f64le", "dbl", ".mkv", 0.95),
        ("flac", "s16", ".mkv", 0.95), ("ac3", "fltp", ".ts", 0.9), ("mp2", "s16", ".ts", 0.9),
        ("pcm_alaw", "s16", ".mov", 0.9), ("pcm_s16le", "s16", ".avi", 0.95),
    ],
)  # fmt: skip
def test_a_format_is_heard(tmp_path: Path, codec: str, sample_format: str, suffix: str, least: float) -> None:
    track = Track([(0.0, talk(5, SECONDS, 48000))], 48000, "stereo", codec, sample_format)
    path = write(tmp_path / f"a{suffix}", [track])
    assert closeness(listen(path)[0], talk(5, SECONDS)) > (least if codec != "pcm_u8" else 0.8)


def test_numbers_that_are_none_are_silence(tmp_path: Path) -> None:
    sound = talk(5, SECONDS, 16000)
    sound[40_000:40_100], sound[60_000:60_100], sound[70_000] = np.nan, np.inf, 1e30
    path = write(tmp_path / "a.mkv", [Track([(0.0, sound)], 16000, "mono", "pcm_f32le", "flt")])
    (piece,), _ = listen(path)
    assert np.isfinite(piece.columns).all()
    np.testing.assert_allclose(piece.columns[:20], mel_columns(sound[:40_000])[:20], atol=1e-4)
    assert np.abs(read_sound(path, 0.0, SECONDS)).max() == 16.0


def test_columns_are_those_of_the_samples_in_the_file(tmp_path: Path) -> None:
    """At the rate of the descriptors nothing is resampled: by value, and the time of the first."""
    sound = talk(6, SECONDS)
    path = write(tmp_path / "a.mkv", [Track([(0.0, sound)], 16000, "mono", "pcm_f32le", "flt")])
    (piece,), _ = listen(path)
    assert piece.start_seconds == 0.0
    np.testing.assert_allclose(piece.columns, mel_columns(np.pad(sound, (0, -sound.size % 1024))), atol=1e-4)
    assert sound_seconds([piece, piece]) == pytest.approx(2 * len(piece.columns) * 0.1)


# ---------------------------------------------------------------- times


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".mov"])
@pytest.mark.parametrize("video_start", [0.0, 2.5])
@pytest.mark.parametrize("sound_start", [0.0, 0.7, 3.0])
def test_an_event_is_found_at_its_time_from_the_first_frame(
    tmp_path: Path, suffix: str, video_start: float, sound_start: float
) -> None:
    """With a sound that starts late, one that starts before the pictures, and both at once."""
    codec, sample_format = ("pcm_s16le", "s16") if suffix in (".mkv", ".mov") else ("aac", "fltp")
    sound = chirps(5.3 - sound_start, SECONDS)
    track = Track([(sound_start, sound)], 48000, "mono", codec, sample_format)
    path = write(tmp_path / f"a{suffix}", [track], video_start=video_start)
    pieces, frames = listen(path)
    assert frames[0].t_seconds == 0.0
    assert loudest_seconds(pieces) == pytest.approx(5.3 - video_start, abs=0.05)
    assert pieces[0].start_seconds == pytest.approx(sound_start - video_start, abs=0.06)
    heard = read_sound(path, 1.0, 6.0)
    assert heard.shape == (80_000,)
    middle = float(np.average(np.arange(80_000), weights=heard**2)) / RATE_HZ
    assert middle == pytest.approx(4.3 - video_start, abs=0.02)
    assert_same_frames(path)
    assert_same_alone(path, pieces)


def test_a_sound_that_ends_early_ends_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [Track([(0.0, talk(1, 3.0, 48000))])])
    (piece,), frames = listen(path)
    assert len(piece.columns) == 29  # of three seconds
    assert len(frames) == 16
    assert not read_sound(path, 3.1, 9.0).any()


def test_a_gap_begins_a_new_piece_at_its_time(tmp_path: Path) -> None:
    sound = talk(7, 8.0, 48000)
    parts = [(0.0, sound[: 3 * 48000]), (4.5, sound[round(4.5 * 48000) :])]
    path = write(tmp_path / "a.mkv", [Track(parts)])
    (one, two), _ = listen(path)
    assert one.start_seconds == 0.0
    assert two.start_seconds == pytest.approx(4.5, abs=0.002)
    assert closeness([two], talk(7, 8.0)[72_000:], late=4.5) > 0.95
    heard = read_sound(path, 0.0, 8.0)
    np.testing.assert_allclose(heard[73_000:120_000], talk(7, 8.0)[73_000:120_000], atol=0.01)
    assert not heard[50_000:71_900].any()
    assert_same_frames(path)


def test_a_small_step_of_the_timestamps_is_none(tmp_path: Path) -> None:
    """Rounding, and the few milliseconds by which recorders are off."""
    sound = talk(7, 8.0, 48000)
    path = write(tmp_path / "a.mkv", [Track([(0.0, sound[:144_000]), (3.15, sound[144_000:])])])
    (piece,), _ = listen(path)
    assert closeness([piece], talk(7, 8.0)) > 0.95


def concatenated(tmp_path: Path, tracks: Sequence[Track], seconds: float = 5.0) -> Path:
    """MPEG-TS one after another, the clock of each starts at 0."""
    parts = [write(tmp_path / f"{n}.ts", [track], seconds=seconds) for n, track in enumerate(tracks)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_clock_that_starts_again_goes_on(tmp_path: Path) -> None:
    tracks = [Track([(0.0, chirps(at, 5.0))], 48000, "mono", "aac", "fltp") for at in (9.9, 2.0)]
    path = concatenated(tmp_path, tracks)
    pieces, frames = listen(path)
    assert frames[-1].t_seconds > 9.0
    assert loudest_seconds(pieces) == pytest.approx(7.0, abs=0.1)
    assert_same_frames(path)


@pytest.mark.parametrize("channels", [(6, 1), (1, 6), (2, 6), (6, 2)])
@pytest.mark.parametrize("rates_hz", [(48000, 48000), (48000, 32000)])
def test_channels_and_rate_may_change_midway(
    tmp_path: Path, channels: tuple[int, int], rates_hz: tuple[int, int]
) -> None:
    """As where advertisements are cut in: PyAV's fifo alone would read memory that is not there."""
    tracks = [
        Track([(0.0, talk(1, 5.0, rate))], rate, LAYOUTS[n], "aac", "fltp")
        for n, rate in zip(channels, rates_hz, strict=True)
    ]
    path = concatenated(tmp_path, tracks)
    pieces, _ = listen(path)
    assert 9.0 < sound_seconds(pieces) < 10.5
    (piece,) = pieces
    assert closeness([piece], talk(1, 5.0)) > 0.9
    # The last block of the first part is filled up, so the second begins up to half a column late.
    assert closeness([piece], talk(1, 5.0), late=5.0) > 0.7
    assert_same_frames(path)


# ---------------------------------------------------------------- which track, and none


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_of_two_tracks_is_heard(tmp_path: Path, default: int) -> None:
    tracks = [Track([(0.0, talk(seed, SECONDS, 48000))], is_default=seed == default) for seed in (0, 1)]
    path = write(tmp_path / "a.mkv", tracks)
    assert closeness(listen(path)[0], talk(default, SECONDS)) > 0.95
    np.testing.assert_allclose(read_sound(path, 1.0, 2.0), talk(default, 8.0)[16_000:32_000], atol=0.01)
    assert_same_frames(path)


@pytest.mark.parametrize(("suffix", "cover"), [(".mp3", False), (".mp3", True), (".m4a", False)])
def test_a_sound_without_pictures_begins_at_its_first_sample(
    tmp_path: Path, suffix: str, cover: bool
) -> None:
    (piece,) = read_pieces(media.write_sound(tmp_path / f"a{suffix}", cover=cover))
    assert piece.start_seconds == 0.0
    assert len(piece.columns) * COLUMN_SECONDS == pytest.approx(1.0, abs=0.15)


def test_what_is_no_file_of_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("words")
    with pytest.raises(VideoError, match="is text"):
        read_pieces(tmp_path / "a.wav")
    with pytest.raises(VideoError, match="does not exist"):
        read_pieces(tmp_path / "b.wav")


def test_a_file_without_sound_gives_no_piece(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv")
    pieces, frames = listen(path)
    assert (pieces, len(frames)) == ([], 16)
    assert read_pieces(path) == []
    assert read_sound(path, 1.0, 3.0).tolist() == [0.0] * 32_000


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".ts"])
def test_a_track_without_a_sample_gives_no_piece(tmp_path: Path, suffix: str) -> None:
    codec, sample_format = ("aac", "fltp") if suffix == ".ts" else ("pcm_s16le", "s16")
    path = write(tmp_path / f"a{suffix}", [Track([], 48000, "mono", codec, sample_format)])
    assert listen(path)[0] == []
    assert not read_sound(path, 0.0, 2.0).any()
    assert_same_frames(path)


def test_a_codec_that_is_not_known_is_no_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [Track([(0.0, talk(1, 4.0, 48000))])], seconds=4.0)
    data = path.read_bytes()
    assert data.count(b"A_PCM/INT/LIT") == 1
    path.write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_PCM/NEW/LIT"))
    assert listen(path)[0] == []
    assert not read_sound(path, 0.0, 2.0).any()
    assert_same_frames(path)


# ---------------------------------------------------------------- damage


def damaged_kinds() -> list[tuple[str, Track, dict[str, str]]]:
    sound = talk(3, SECONDS, 48000)
    pcm, aac = Track([(0.0, sound)]), Track([(0.0, sound)], 48000, "stereo", "aac", "fltp")
    return [
        (".mkv", pcm, {}), (".mkv", aac, {}), (".mp4", aac, {"movflags": "faststart"}), (".ts", aac, {}),
        (".avi", pcm, {}), (".mov", pcm, {"movflags": "faststart"}),
    ]  # fmt: skip


KINDS = damaged_kinds()
NAMES = [f"{suffix[1:]}-{track.codec}" for suffix, track, _ in KINDS]


@pytest.mark.parametrize("share", [0.5, 0.83])
@pytest.mark.parametrize(("suffix", "track", "options"), KINDS, ids=NAMES)
def test_a_file_that_breaks_off_is_heard_to_there(
    tmp_path: Path, suffix: str, track: Track, options: dict[str, str], share: float
) -> None:
    path = media.truncate(write(tmp_path / f"a{suffix}", [track], options=options), share)
    pieces, frames = listen(path)
    assert closeness(pieces, talk(3, SECONDS)) > 0.9
    assert SECONDS * share - 1.5 < sound_seconds(pieces) < SECONDS * share + 1.5
    assert frames[-1].t_seconds > SECONDS * share - 1.5
    assert_same_frames(path)
    assert_same_alone(path, pieces)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("suffix", "track", "options"), KINDS, ids=NAMES)
def test_damage_in_the_middle_stops_neither_pictures_nor_sound(
    tmp_path: Path, suffix: str, track: Track, options: dict[str, str], seed: int
) -> None:
    path = write(tmp_path / f"a{suffix}", [track], options=options)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for _ in range(3):
        at = int(rng.uniform(0.3, 0.6) * len(data))
        data[at : at + 2000] = rng.bytes(2000)
    path.write_bytes(bytes(data))
    pieces, _ = listen(path)
    for piece in pieces:
        assert np.isfinite(piece.columns).all()
        assert np.isfinite(piece.start_seconds)
    assert sound_seconds(pieces) > 2.0
    assert read_sound(path, 0.0, SECONDS).shape == (128_000,)
    assert_same_frames(path)
    assert_same_alone(path, pieces)


def test_damaged_packets_are_counted_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.mkv", [Track([(0.0, talk(3, 8.0, 48000))], 48000, "mono", "flac", "s16")])
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.pos is not None and p.size]
    for pos, size in places[10:14]:
        data[pos + 8 : pos + 8 + size - 16] = bytes(size - 16)
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING):
        pieces, _ = listen(path)
    (line,) = [line for line in caplog.messages if "damaged sound" in line]
    assert f"{str(path)!r} has damaged sound, " in line
    assert sound_seconds(pieces) > 7.0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e300, 1.0, 100.0, 2e9])
def test_a_nonsense_rate_in_the_header_is_no_sound(tmp_path: Path, rate: float) -> None:
    path = write(tmp_path / "a.mkv", [Track([(0.0, talk(3, 4.0, 48000))])], seconds=4.0)
    data = path.read_bytes()
    assert data.count(struct.pack(">d", 48000.0)) == 1
    path.write_bytes(data.replace(struct.pack(">d", 48000.0), struct.pack(">d", rate)))
    pieces, _ = listen(path)
    assert sound_seconds(pieces) < 60.0  # Matroska's own default of 8 kHz may hold
    assert read_sound(path, 0.0, 2.0).shape == (32_000,)
    assert_same_frames(path)


# ---------------------------------------------------------------- frames that no decoder should give


def frame_of(samples: Samples, rate_hz: int, pts: int | None, layout: str = "mono") -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.atleast_2d(samples), format="flt", layout=layout)
    frame.sample_rate, frame.pts = rate_hz, pts
    return frame


def given(
    frames: Sequence[av.AudioFrame | Exception], rate_hz: int = RATE_HZ
) -> tuple[SoundTrack, Callable[[], None]]:
    """A track to which each packet brings the next of some frames, and what hands it all of them."""
    left = list(frames)

    def decode(packet: object) -> list[av.AudioFrame]:
        if packet is None:
            return []
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return [found]

    track = SoundTrack(_tick=1.0 / rate_hz)
    track._stream = SimpleNamespace(codec_context=SimpleNamespace(decode=decode))

    def run() -> None:
        while left:
            track.take(SimpleNamespace())
        track.finish("it")

    return track, run


@pytest.mark.parametrize(
    ("rate_hz", "layout"),
    [(0, "mono"), (-5, "mono"), (1, "mono"), (2_000_000_000, "mono"), (16000, "100 channels")],
)
def test_nonsense_frames_are_passed_over_and_take_no_memory(
    rate_hz: int, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    channels = av.AudioLayout(layout).nb_channels
    bad = [frame_of(np.ones(1600 * channels, np.float32), rate_hz, 1600 * n, layout) for n in range(50)]
    good = [frame_of(talk(1, 3.0)[n * 1600 :][:1600], RATE_HZ, 80_000 + n * 1600) for n in range(30)]
    track, run = given([*bad, *good])
    run()
    (piece,) = track.pieces()
    assert piece.start_seconds == 5.0
    np.testing.assert_allclose(piece.columns, mel_columns(talk(1, 3.0)), atol=1e-4)
    assert "it has damaged sound, 50 packets were passed over" in caplog.messages


def test_a_track_of_nothing_but_damage_is_given_up() -> None:
    calls = 0

    def decode(packet: object) -> list[av.AudioFrame]:
        nonlocal calls
        calls += 1
        raise ValueError("no")

    track = SoundTrack(_stream=SimpleNamespace(codec_context=SimpleNamespace(decode=decode)))
    for _ in range(3000):
        track.take(SimpleNamespace())
    track.finish("it")
    assert calls == 1000
    assert track.pieces() == []


def test_a_fault_of_the_resampler_loses_what_was_gathered_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = talk(2, 4.0)
    frames = [frame_of(sound[n * 1600 :][:1600], RATE_HZ, n * 1600) for n in range(40)]
    track, run = given(frames)
    whole, run_whole = given([frame_of(sound[n * 1600 :][:1600], RATE_HZ, n * 1600) for n in range(40)])
    run_whole()
    assert len(whole.pieces()[0].columns) == 39

    class Broken:
        def __init__(self, **words: object) -> None:
            raise MemoryError

    monkeypatch.setattr(decode_sound, "AudioResampler", Broken)
    run()
    assert track.pieces() == []
    assert track._fifo.samples == 0


def test_timestamps_of_no_time_are_counted_on() -> None:
    """None at all, and one that no file reaches."""
    sound = talk(4, 3.0)
    pts = [None, None, 1600 * 2, 2**62, -(2**62), *[None] * 25]
    track, run = given([frame_of(sound[n * 1600 :][:1600], RATE_HZ, p) for n, p in enumerate(pts)])
    run()
    (piece,) = track.pieces()
    assert piece.start_seconds == 0.0
    np.testing.assert_allclose(piece.columns, mel_columns(sound), atol=1e-4)


def test_pieces_come_in_the_order_of_time_and_overlap_where_timestamps_do() -> None:
    """A step back by less than a second is an overlap, by more a clock that starts again."""
    sound = talk(4, 3.0)
    pts = {0: 160_000, 10: 160_000 + 8000, 20: 0}
    now, frames = 0, []
    for n in range(30):
        now = pts.get(n, now)
        frames.append(frame_of(sound[n * 1600 :][:1600], RATE_HZ, now))
        now += 1600
    track, run = given(frames)
    track.base_seconds = 10.0
    run()
    assert [piece.start_seconds for piece in track.pieces()] == pytest.approx([0.0, 0.5])
    assert [len(piece.columns) for piece in track.pieces()] == [9, 19]
    assert track.reached_seconds == pytest.approx(2.5)
    assert SoundTrack().reached_seconds == -np.inf


@pytest.mark.parametrize("bad_seconds", [0.5, 2.0, 3600.0, 6.3])
@pytest.mark.parametrize("at", [1, 25, 59])
def test_one_damaged_timestamp_moves_nothing(bad_seconds: float, at: int) -> None:
    sound = talk(4, 6.0)
    frames = [frame_of(sound[n * 1600 :][:1600], RATE_HZ, n * 1600) for n in range(60)]
    frames[at].pts = round(bad_seconds * RATE_HZ)
    track, run = given(frames)
    run()
    first = track.pieces()[0]
    assert first.start_seconds == 0.0
    if at < 59:  # nothing tells of the last one that it is damaged
        assert len(track.pieces()) == 1
        np.testing.assert_allclose(first.columns, mel_columns(sound), atol=1e-4)


def test_a_gap_is_told_by_the_frame_after_it() -> None:
    """Both frames are in the new piece, and where it begins is exact."""
    sound = talk(4, 6.0)
    frames = [
        frame_of(sound[n * 1600 :][:1600], RATE_HZ, n * 1600 + (16_000 if n >= 30 else 0)) for n in range(60)
    ]
    track, run = given(frames)
    run()
    assert [piece.start_seconds for piece in track.pieces()] == pytest.approx([0.0, 4.0])
    for piece, part in zip(track.pieces(), (sound[:48_000], sound[48_000:]), strict=True):
        np.testing.assert_allclose(piece.columns, mel_columns(part), atol=1e-4)


def test_more_gaps_than_allowed_leave_the_rest_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than place it wrongly; and no ended piece holds more than its columns."""
    monkeypatch.setattr(decode_sound, "_MOST_PIECES", 3)
    block = talk(4, 1.0)
    track, run = given([frame_of(block, RATE_HZ, 32_000 * n) for n in range(6)])
    run()
    assert [piece.start_seconds for piece in track.pieces()] == [0.0, 2.0, 4.0]
    assert all(piece.stream._n_held < 4000 for piece in track._pieces[:-1])
    assert track._n_faults == 3


# ---------------------------------------------------------------- reading a stretch


def test_a_stretch_is_that_of_the_samples_and_silent_beyond_them(tmp_path: Path) -> None:
    sound = talk(6, 6.0)
    path = write(tmp_path / "a.mkv", [Track([(0.5, sound)], 16000, "mono", "pcm_f32le", "flt")])
    whole = np.zeros(round(20 * RATE_HZ), np.float32)
    whole[5 * RATE_HZ + 8000 :][: sound.size] = sound  # from five seconds before the first frame on
    for start, stop in (
        (0.0, 8.0),
        (1.25, 3.5),
        (-2.0, 1.0),
        (6.0, 9.0),
        (12.0, 14.0),
        (-4.0, -1.0),
        (-1, 10),
    ):
        expected = whole[round((start + 5) * RATE_HZ) : round((stop + 5) * RATE_HZ)]
        found = read_sound(path, start, stop)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert read_sound(path, 3.0, 3.0).shape == (0,)
    assert read_sound(path, 3.0, 2.0).shape == (0,)


def test_a_stretch_at_the_start_does_not_read_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", [Track([(0.0, talk(6, SECONDS, 48000))])])
    taken = []
    take = SoundTrack.take
    monkeypatch.setattr(SoundTrack, "take", lambda track, packet: (taken.append(packet), take(track, packet)))
    read_sound(path, 0.0, 1.0)
    early = len(taken)
    read_sound(path, 0.0, SECONDS)
    assert early < (len(taken) - early) / 4


@pytest.mark.parametrize("content", [b"", b"no film at all", b"\0" * 5000])
def test_a_stretch_of_no_film_is_silent_and_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert read_sound(path, 0.0, 1.0).tolist() == [0.0] * 16_000
    assert "its sound cannot be read" in caplog.text
    assert not read_sound(tmp_path / "none.mp4", 0.0, 1.0).any()


# ---------------------------------------------------------------- on a thread of its own


def listeners() -> set[threading.Thread]:
    """The threads that take in sound now."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("listen")}


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 64 * 20 + 7])
def test_a_thread_hands_over_every_packet_in_order(n: int) -> None:
    taken: list[object] = []
    threads: set[str] = set()

    def decode(packet: object) -> list[av.AudioFrame]:
        taken.append(packet)
        threads.add(threading.current_thread().name)
        return []

    before = listeners()
    track = SoundTrack(_stream=SimpleNamespace(codec_context=SimpleNamespace(decode=decode)))
    aside = SoundThread(track)
    packets = [SimpleNamespace(number=i) for i in range(n)]
    for packet in packets:
        aside.take(packet)
    aside.wait()
    assert taken == packets
    assert all(name.startswith("listen") for name in threads)
    assert listeners() <= before
    aside.wait()  # nothing more to wait for


def test_no_more_packets_wait_than_memory_is_meant_to_hold() -> None:
    go, begun = threading.Event(), threading.Event()

    def decode(packet: object) -> list[av.AudioFrame]:
        begun.set()
        go.wait(10)
        return []

    track = SoundTrack(_stream=SimpleNamespace(codec_context=SimpleNamespace(decode=decode)))
    aside = SoundThread(track)
    given = 0

    def give() -> None:
        nonlocal given
        for _ in range(64 * 40):
            aside.take(SimpleNamespace())
            given += 1

    giver = threading.Thread(target=give)
    giver.start()
    begun.wait(10)
    giver.join(0.3)
    assert giver.is_alive()
    assert given < 64 * 18
    go.set()
    giver.join(10)
    aside.wait()
    assert given == 64 * 40


def test_a_fault_that_is_no_files_is_raised_to_the_reader() -> None:
    def decode(packet: object) -> list[av.AudioFrame]:
        raise RuntimeError("not the file's fault")

    before = listeners()
    aside = SoundThread(SoundTrack(_stream=SimpleNamespace(codec_context=SimpleNamespace(decode=decode))))
    aside.take(SimpleNamespace())
    with pytest.raises(RuntimeError, match="not the file's fault"):
        aside.wait()
    assert listeners() <= before


def test_a_reader_that_stops_early_leaves_no_thread(tmp_path: Path) -> None:
    path = write(tmp_path / "long.mkv", [Track([(0.0, talk(1, 20.0))], rate_hz=RATE_HZ)], seconds=20.0)
    before = listeners()
    frames = sample_frames(path, FPS2, sound=SoundTrack())
    next(frames)
    frames.close()
    assert listeners() <= before
