"""Frames with timestamps out of video files; with its sound side the only import of av (PyAV, FFmpeg) here.

Times are seconds from the first frame of the file. A file is read once, front to back, and never held
in memory: what is alive at any moment is a few packets, the decoder's own frames and one image.

How a frame is chosen
    ``fps``: the time line is cut into cells ``[i / fps, (i + 1) / fps)`` and the first frame of every cell
    that has one is taken: the frame at, or first after, each grid time, and never one twice.
    ``keyframes``: key frames only, none closer than ``min_gap_seconds`` to the one before; where a file
    has none for ``max_gap_seconds``, the frames between are decoded too and one every
    ``max_gap_seconds`` is taken, so that a file of one endless group of pictures is still covered.
    Timestamps are rounded to the container's ticks, so both compare within half a tick (at most 0.5 ms).

How decoding is saved in ``fps`` mode
    A frame that no other frame refers to may be dropped undecoded without a change to any other frame.
    It is dropped if its cell already holds an earlier frame, for then it cannot be the one taken; the
    frames handed out are bit for bit those of plain decoding (``tests/test_matcher_decode.py``).
"""

from __future__ import annotations

import logging
import math
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from matcher.decode_sound import SoundPiece, SoundThread, SoundTrack
from matcher.errors import InputError, VideoError
from matcher.records import Frame

if TYPE_CHECKING:
    from av.buffer import Buffer

_log = logging.getLogger(__name__)

_MAX_PIXELS = 100_000_000
_MAX_CONSECUTIVE_FAULTS = 1000
_RESET_SECONDS = 1.0  # a step back by more than this is a restarted clock, by less a frame out of order
_MAX_TOLERANCE_SECONDS = 0.0005
_MAX_REMEMBERED = 4096  # cells and long gaps remembered at most, so that no file can make memory grow

# Only containers that hold their own data: no playlist (hls, dash, concat), no image sequence, no device.
# The sound-only ones are here for read_pieces, and so that an error can say what the file is.
_CONTAINERS = (
    "3dostr,4xm,aac,ac3,aiff,amr,amv,apng,asf,ast,av1,avi,avs,avs2,avs3,bink,caf,cavsvideo,cine,dhav,dirac,"
    "dnxhd,dv,dxa,eac3,evc,film_cpk,flac,flic,flv,gif,gxf,h261,h263,h264,hevc,idcin,ifv,ivf,jpegxl_anim,"
    "live_flv,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mjpeg,mjpeg_2000,mods,moflex,mp3,mpeg,mpegts,"
    "mpegvideo,mtv,mv,mxf,nsv,nut,nuv,obu,ogg,r3d,rm,roq,smjpeg,smk,swf,thp,txd,ty,vc1,vc1test,vivo,vmd,"
    "vvc,w64,wav,webm,wtv,wv,xmv,yop,yuv4mpegpipe"
)
_PICTURE_CONTAINERS = ",".join(sorted(name for name in av.formats_available if name.endswith("_pipe")))
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_PICTURE_BRANDS = frozenset({"avif", "heic", "heix", "heim", "heis", "mif1"})

# A frame of these that the bitstream marks as no reference may be left out. HEVC's mark is relative to
# the temporal layer (H.265 7.4.2.2), so HEVC counts only where there is one layer; MPEG-4 part 2 packs
# two frames into a packet; VP9 and AV1 have no such mark.
_CODECS_WITH_DROPPABLE = frozenset({"h264", "mpeg1video", "mpeg2video"})

_SWS_FLAGS = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_ALPHA_FORMATS = frozenset({"pal8"})  # besides those whose description says so

# AVColorSpace → SWS_CS_*, as av.video.reformatter wants it.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_UNSPECIFIED = 2
_RGB = 0


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of itself, checked by decoding its first frame.

    Attributes:
        path: The file.
        duration_seconds: As the container declares it, or None; never relied on.
        width: Pixels of the upright picture with square pixels.
        height: Likewise.
        rotation_degrees: How far the stored picture is turned clockwise to stand upright: 0, 90, 180, 270.
        codec: FFmpeg's name of the codec.
        frame_rate: Average frames a second, or None.
        has_sound: There is a sound stream.
        is_hdr: Transfer characteristics are PQ or HLG; images come out tone-mapped.
    """

    path: Path
    duration_seconds: float | None
    width: int
    height: int
    rotation_degrees: int
    codec: str
    frame_rate: float | None
    has_sound: bool
    is_hdr: bool


@dataclass(frozen=True)
class Sampling:
    """Which frames to hand out, and how large.

    Attributes:
        mode: ``fps`` or ``keyframes``, see the module.
        fps: Grid points a second in ``fps`` mode.
        min_gap_seconds: ``keyframes`` mode: no two frames closer than this.
        max_gap_seconds: ``keyframes`` mode: where key frames are farther apart, others fill in.
        max_side: Longest side of the images; smaller videos are not enlarged.
    """

    mode: Literal["fps", "keyframes"] = "fps"
    fps: float = 1.0
    min_gap_seconds: float = 1.0
    max_gap_seconds: float = 10.0
    max_side: int = 320

    def __post_init__(self) -> None:
        if self.mode not in ("fps", "keyframes"):
            raise ValueError(f"mode must be 'fps' or 'keyframes', got {self.mode!r}")
        if not 0.0 < self.fps <= 1000.0:
            raise ValueError(f"fps must be above 0 and at most 1000, got {self.fps!r}")
        if not 0.0 <= self.min_gap_seconds <= 86400.0:
            raise ValueError(f"min_gap_seconds must be from 0 to 86400, got {self.min_gap_seconds!r}")
        if not max(self.min_gap_seconds, 0.001) <= self.max_gap_seconds < math.inf:
            raise ValueError(
                f"max_gap_seconds must be at least min_gap_seconds ({self.min_gap_seconds!r}), "
                f"got {self.max_gap_seconds!r}"
            )
        if not 1 <= self.max_side <= 16384:
            raise ValueError(f"max_side must be from 1 to 16384, got {self.max_side!r}")

    @classmethod
    def parse(cls, words: str, *, max_side: int = 320) -> Sampling:
        """Read the command line's words: ``fps=2``, ``keyframes`` or ``keyframes=1.5``.

        Raises:
            InputError: The words are none of these.
        """
        mode, separator, number = words.strip().partition("=")
        try:
            if mode == "fps" and separator:
                return cls(mode="fps", fps=float(number), max_side=max_side)
            if mode == "keyframes" and not separator:
                return cls(mode="keyframes", max_side=max_side)
            if mode == "keyframes":
                gap = float(number)
                return cls("keyframes", 1.0, gap, max(10.0, gap), max_side)
        except ValueError as error:
            raise InputError(f"sampling {words!r}: {error}; {_FORMS}") from error
        raise InputError(f"sampling {words!r} is not known; {_FORMS}")


_FORMS = "write fps=RATE (fps=2: two frames a second), keyframes, or keyframes=SECONDS (least distance)"


def probe(path: Path) -> VideoInfo:
    """Open ``path``, decode its first frame and say what it is.

    Raises:
        VideoError: It is no file that holds a video, or none that can be decoded.
    """
    with _open(path, threads=1) as source:
        frame = next(_all_frames(source), None)
        if frame is None:
            raise source.no_frames()
        geometry = _geometry(frame, source, max_side=None)
        return VideoInfo(
            path=path,
            duration_seconds=source.declared_seconds(),
            width=geometry.upright_width,
            height=geometry.upright_height,
            rotation_degrees=geometry.rotation_degrees,
            codec=source.codec.name,
            frame_rate=source.frame_rate(),
            has_sound=bool(source.container.streams.audio),
            is_hdr=frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67),
        )


def sample_frames(
    path: Path, sampling: Sampling, *, threads: int = 0, sound: SoundTrack | None = None
) -> Iterator[Frame]:
    """Hand out the frames of ``path`` that ``sampling`` chooses, in time order.

    The file is opened at the first ``next`` and closed when the last frame is out, on an error, and when
    the iterator is dropped.

    Args:
        path: A local file.
        sampling: Which frames, how large.
        threads: Of the decoder; 0 is one a core, but a single one where there are but two cores: a second
            thread costs a fifth more work there and gains next to nothing. The frames do not depend on it.
        sound: Where the file's sound goes, in the same pass; whole when the last frame is out.

    Yields:
        Frames with strictly increasing times, the first one at 0.

    Raises:
        VideoError: It is no file that holds a video, or not one frame can be decoded. A file that breaks
            off or has damaged stretches gives what there is, and a warning in the log.
    """
    long_gaps: frozenset[int] | None = None
    if sampling.mode == "keyframes":
        long_gaps = _long_gaps(path, sampling.max_gap_seconds)
    with _open(path, threads=threads, sound=sound) as source:
        clock = _Clock(source)
        if sampling.mode == "keyframes":
            chosen = _Keyframes(source, clock, sampling, long_gaps).choose()
        else:
            chosen = _choose_on_grid(source, clock, sampling.fps)
        images = _Images(source, sampling.max_side)
        n_frames = 0
        for t_seconds, frame in chosen:
            image = images.convert(frame)
            n_frames += 1
            yield Frame(t_seconds, image)
        if n_frames == 0:
            raise source.no_frames()
        if sound is not None and source.sound is not None:
            source.sound.wait()
            if clock.base is not None:
                sound.base_seconds = float(clock.base * source.time_base)
            sound.finish(source.name)
        source.warn_if_incomplete()


def decode_all(path: Path, *, threads: int = 0) -> int:
    """Decode every frame plainly and convert none: the baseline of benchmarks.

    Returns:
        How many frames there are.

    Raises:
        VideoError: As :func:`sample_frames`.
    """
    with _open(path, threads=threads) as source:
        n_frames = sum(1 for _ in _all_frames(source))
        if n_frames == 0:
            raise source.no_frames()
        return n_frames


def read_pieces(path: Path) -> list[SoundPiece]:
    """The whole sound of a file, with pictures or without; no picture is decoded.

    Args:
        path: A local file, a film or a sound.

    Returns:
        Its pieces in time order, none without a sound track. Times are from the first frame, as the header
        tells; from the first sample where there are no pictures.

    Raises:
        VideoError: It is no file that can be read. A file that breaks off or is damaged gives what there is.
    """
    track = SoundTrack()
    with _container(path) as container:
        stream = track.attach(container)
        if stream is None:
            return []
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        for packet in _sound_packets(container, stream):
            track.take(packet)
        track.finish(_display(path))
        pictures = _picture_streams(container)
        if pictures:
            track.base_seconds = float((pictures[0].start_time or 0) * (pictures[0].time_base or 0))
        pieces = track.pieces()
    if pictures or not pieces:
        return pieces
    return [replace(one, start_seconds=one.start_seconds - pieces[0].start_seconds) for one in pieces]


# --- Opening ---------------------------------------------------------------------------------------


@dataclass
class _Source:
    """An open file and what has been seen of it."""

    name: str
    container: InputContainer
    stream: VideoStream
    codec: VideoCodecContext
    time_base: Fraction
    sound: SoundThread | None = None
    sound_stream: AudioStream | None = None
    n_faults: int = 0
    n_consecutive_faults: int = 0
    first_pts: int | None = None
    last_pts: int | None = None
    last_dts: int | None = None
    is_set_back: bool = False  # a packet's clock fell behind that of the one before
    shows_order_of_storage: bool = False  # the timestamps do not tell the order of showing (AVI)

    def declared_seconds(self) -> float | None:
        if self.stream.duration is not None and self.stream.duration > 0:
            return float(self.stream.duration * self.time_base)
        if self.container.duration is not None and self.container.duration > 0:
            # Matroska declares where the last frame ends, not how long it is to there from the first.
            skipped = (self.container.start_time or 0) if "matroska" in self.container.format.name else 0
            seconds = (self.container.duration - max(0, skipped)) / av.time_base
            return seconds if seconds > 0 else None
        return None

    def frame_rate(self) -> float | None:
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(rate) if rate else None

    @property
    def gives_up(self) -> bool:
        return self.n_consecutive_faults >= _MAX_CONSECUTIVE_FAULTS

    def fault(self) -> None:
        """Count something unreadable."""
        self.n_faults += 1
        self.n_consecutive_faults += 1

    def saw(self, packet: Packet[VideoStream]) -> None:
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None:
            self.first_pts = pts if self.first_pts is None else min(self.first_pts, pts)
            self.last_pts = pts if self.last_pts is None else max(self.last_pts, pts)
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is not None:
            if self.last_dts is not None and (dts - self.last_dts) * self.time_base < -_RESET_SECONDS:
                self.is_set_back = True
            self.last_dts = dts

    def no_frames(self) -> VideoError:
        return VideoError(f"{self.name} has no frame that can be decoded: export it again or leave it out")

    def warn_if_incomplete(self) -> None:
        """One line in the log if not everything could be read."""
        said = []
        declared = self.declared_seconds()
        if declared is not None and self.first_pts is not None and self.last_pts is not None:
            read = float((self.last_pts - self.first_pts) * self.time_base)
            if read < declared - max(2.0, 0.02 * declared):
                said.append(f"breaks off, {read:.1f} of {declared:.1f} seconds were read")
        if self.n_faults:
            said.append(f"is damaged, {self.n_faults} packets or more were passed over")
        if said:
            _log.warning("%s %s", self.name, "; it ".join(said))


def _display(path: Path) -> str:
    """The name in quotes, on one line whatever it holds."""
    return repr(os.fspath(path))


def _why(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def _check_file(path: Path) -> bytes:
    """Refuse what is no regular file before anything opens it: opening a pipe would wait for ever.

    Returns:
        The first bytes.
    """
    name = _display(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise VideoError(f"{name} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{name} cannot be read ({_why(error)}): check the path") from error
    if stat.S_ISDIR(mode):
        raise VideoError(f"{name} is a folder, not a video: name the files in it")
    if not stat.S_ISREG(mode):
        raise VideoError(f"{name} is not a regular file (a pipe or a device): save the video to a file first")
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise VideoError(f"{name} cannot be read ({_why(error)}): check its permissions") from error
    if not head:
        raise VideoError(f"{name} is empty (0 bytes): copy or download it again")
    return head


def _unreadable(name: str, head: bytes, error: Exception) -> VideoError:
    """Why libav would not open the file, in words for who gave it."""
    if head.startswith(_PICTURE_STARTS):
        return VideoError(f"{name} is a picture, not a video: give a video file")
    if head.lstrip().startswith((b"#EXTM3U", b"ffconcat", b"[playlist]")) or b"<MPD" in head:
        return VideoError(f"{name} is a playlist, not a video: give the video files themselves")
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return VideoError(f"{name} is text, not a video: check that the download gave the video itself")
    return VideoError(
        f"{name} is not a video that can be read ({_why(error)}): "
        "check that it is complete and a video file, or export it again as MP4"
    )


def _container(path: Path) -> InputContainer:
    """Open a file that holds its own data.

    Raises:
        VideoError: It is none that libav reads.
    """
    head = _check_file(path)
    try:
        return av.open(
            "file:" + os.path.abspath(path),  # noqa: PTH100 - resolve() would follow links
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": f"{_CONTAINERS},{_PICTURE_CONTAINERS}",
            },
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise _unreadable(_display(path), head, error) from error


@contextmanager
def _open(path: Path, *, threads: int, sound: SoundTrack | None = None) -> Iterator[_Source]:
    if threads < 0:
        raise ValueError(f"threads must be 0 or more, got {threads}")
    name = _display(path)
    with _container(path) as container:
        stream = _video_stream(container, name)
        codec = stream.codec_context
        if codec.width * codec.height > _MAX_PIXELS:
            raise VideoError(f"{name} has frames of {codec.width}×{codec.height}, {_TOO_LARGE}")
        codec.options = {"max_pixels": str(_MAX_PIXELS)}
        # AVI numbers packets as they are stored; only without threads do frames come out with the number
        # of the packet that brought them out, which grows from frame to frame.
        shows_order_of_storage = container.format.name == "avi" and codec.codec.reorder
        if shows_order_of_storage or (threads == 0 and (os.cpu_count() or 1) <= 2):
            threads = 1
        codec.thread_count = threads
        codec.thread_type = "NONE" if threads == 1 else "AUTO"
        heard = None if sound is None else sound.attach(container)
        for other in container.streams:
            if other is not stream and other is not heard:
                other.discard = av.stream.Discard.all
        time_base = stream.time_base or Fraction(1, av.time_base)
        listening = None if sound is None else SoundThread(sound)
        try:
            yield _Source(
                name, container, stream, codec, time_base, listening, heard,
                shows_order_of_storage=shows_order_of_storage,
            )  # fmt: skip
        finally:
            if listening is not None:
                listening.wait()


_TOO_LARGE = f"more than the {_MAX_PIXELS // 1_000_000} million pixels allowed: scale it down first"


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    format_name = container.format.name
    if format_name.endswith("_pipe") or container.metadata.get("major_brand") in _PICTURE_BRANDS:
        raise VideoError(f"{name} is a picture, not a video: give a video file")
    streams = _picture_streams(container)
    if not streams:
        holds = "holds sound but no video" if container.streams.audio else "holds no video"
        raise VideoError(f"{name} {holds}: give a file with a picture track")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise VideoError(f"{name} uses a video codec that is not known here: convert it to H.264")
    best = container.streams.best("video")
    return next(
        (stream for stream in decodable if best is not None and stream.index == best.index), decodable[0]
    )


def _picture_streams(container: InputContainer) -> list[VideoStream]:
    """Those of moving pictures: a cover or thumbnails are none."""
    not_video = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & not_video]


# --- Reading ---------------------------------------------------------------------------------------


def _packets(source: _Source) -> Iterator[Packet[VideoStream]]:
    """All packets of the pictures, past damaged places; those of the sound go to its track."""
    streams = [source.stream] if source.sound_stream is None else [source.stream, source.sound_stream]
    while True:
        try:
            for packet in source.container.demux(streams):
                if packet.stream is source.sound_stream:
                    if packet.size and source.sound is not None:
                        source.sound.take(cast("Packet[AudioStream]", packet))
                elif packet.size:  # not the empty ones that mark the end, nor AVI's dropped frames
                    shown = cast("Packet[VideoStream]", packet)
                    source.saw(shown)
                    yield shown
        except (av.FFmpegError, MemoryError):
            source.fault()
            if not source.gives_up:
                continue
        except IndexError:
            # PyAV stumbles at the end over streams that appeared on the way (MPEG-TS, FLV): seen in
            # av 18.1's InputContainer.demux, which flushes more streams than it has listed.
            pass
        return


def _sound_packets(container: InputContainer, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
    """All packets of one stream, past damaged places."""
    faults = 0
    while faults < _MAX_CONSECUTIVE_FAULTS:
        try:
            for packet in container.demux(stream):
                faults = 0
                if packet.size:
                    yield packet
        except (av.FFmpegError, MemoryError):
            faults += 1
            continue
        except IndexError:
            pass  # see _packets
        return


def _decode(source: _Source, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
    """The frames that come out for a packet, or for None those still inside; none if it is damaged."""
    try:
        frames = source.codec.decode(packet)
    except (av.FFmpegError, MemoryError):
        source.fault()
        return []
    if frames:
        source.n_consecutive_faults = 0
    return frames


def _all_frames(source: _Source) -> Iterator[VideoFrame]:
    for packet in _packets(source):
        yield from _decode(source, packet)
        if source.gives_up:
            return
    yield from _decode(source, None)


@dataclass
class _Clock:
    """Seconds from the first frame, for frames in the order in which they are shown."""

    source: _Source
    base: int | None = None
    shift_seconds: float = 0.0
    last_seconds: float = -1.0
    steady: bool = True  # every timestamp so far is there and none is set back: packets' can be relied on

    def __post_init__(self) -> None:
        tick = float(self.source.time_base)
        self.tolerance_seconds = min(tick / 2, _MAX_TOLERANCE_SECONDS) + 1e-9
        self.step_seconds = 1.0 / (self.source.frame_rate() or 25.0)
        self.steady = not self.source.shows_order_of_storage

    def of_packet(self, packet: Packet[VideoStream]) -> float | None:
        """When the packet's frame will be shown, or None where that is not known for sure."""
        if packet.pts is None or self.source.is_set_back:
            self.steady = False
        if packet.pts is None or packet.is_discard or packet.is_corrupt or self.base is None:
            return None
        return self._of_pts(packet.pts) if self.steady else None

    def of_frame(self, frame: VideoFrame) -> float | None:
        """The frame's time, or None for one that comes out of order and is to be left out."""
        pts = frame.pts
        if pts is None or self.source.shows_order_of_storage:
            pts = frame.dts
        if self.last_seconds < 0.0:
            self.base = pts
            self.last_seconds = 0.0
            return 0.0
        t_seconds = self.last_seconds + self.step_seconds
        if pts is None or self.base is None:
            self.steady = False
        elif self.source.is_set_back and self._of_pts(pts) < self.last_seconds - _RESET_SECONDS:
            # The clock starts again, as where recordings are joined: go on from here.
            self.shift_seconds += t_seconds - self._of_pts(pts)
            self.source.is_set_back = False
        else:
            t_seconds = self._of_pts(pts)
        if t_seconds <= self.last_seconds:
            return None
        self.last_seconds = t_seconds
        return t_seconds

    def _of_pts(self, pts: int) -> float:
        assert self.base is not None
        ticks = (pts - self.base) * self.source.time_base.numerator
        return ticks / self.source.time_base.denominator + self.shift_seconds


# --- Choosing --------------------------------------------------------------------------------------


@dataclass
class _Grid:
    """Takes the first frame of every cell ``[i / fps, (i + 1) / fps)``."""

    fps: float
    tolerance_seconds: float
    last_cell: int = -1
    earliest: dict[int, float] = field(default_factory=dict)

    def _cell(self, t_seconds: float) -> int:
        return math.floor((t_seconds + self.tolerance_seconds) * self.fps)

    def takes(self, t_seconds: float) -> bool:
        """Whether the frame, given in the order of showing, is the first of its cell."""
        cell = self._cell(t_seconds)
        if cell <= self.last_cell:
            return False
        self.last_cell = cell
        self.earliest = {c: t for c, t in self.earliest.items() if c > cell}
        return True

    def may_take(self, t_seconds: float) -> bool:
        """Whether the frame, given in the order of decoding, can still be the first of its cell.

        What is answered with True must be decoded: later answers rely on it.
        """
        cell = self._cell(t_seconds)
        if cell <= self.last_cell or self.earliest.get(cell, math.inf) < t_seconds:
            return False
        if len(self.earliest) >= _MAX_REMEMBERED:
            self.earliest.clear()
        self.earliest[cell] = t_seconds
        return True


def _choose_on_grid(source: _Source, clock: _Clock, fps: float) -> Iterator[tuple[float, VideoFrame]]:
    grid = _Grid(fps, clock.tolerance_seconds)
    decode = _sparing_decoder(source, clock, grid)
    for packet in _packets(source):
        yield from _taken(decode(packet), clock, grid)
        if source.gives_up:
            return
    yield from _taken(_decode(source, None), clock, grid)


def _taken(frames: list[VideoFrame], clock: _Clock, grid: _Grid) -> Iterator[tuple[float, VideoFrame]]:
    for frame in frames:
        if frame.interlaced_frame:
            # Two fields may come as two packets, of which the second must not be dropped alone.
            clock.steady = False
        t_seconds = clock.of_frame(frame)
        if t_seconds is not None and grid.takes(t_seconds):
            yield t_seconds, frame


def _sparing_decoder(
    source: _Source, clock: _Clock, grid: _Grid
) -> Callable[[Packet[VideoStream]], list[VideoFrame]]:
    """Decoding that leaves out frames which ``grid`` cannot take and no other frame needs."""
    codec = source.codec
    is_intra = codec.codec.intra_only
    if not is_intra and not _has_droppable(codec):
        return lambda packet: _decode(source, packet)
    skips = False

    def decode(packet: Packet[VideoStream]) -> list[VideoFrame]:
        nonlocal skips
        t_seconds = clock.of_packet(packet)
        skip = t_seconds is not None and not grid.may_take(t_seconds)
        if is_intra:
            return [] if skip and packet.is_keyframe else _decode(source, packet)
        if skip is not skips:
            codec.skip_frame = "NONREF" if skip else "DEFAULT"
            skips = skip
        n_faults = source.n_faults
        frames = _decode(source, packet)
        if source.n_faults > n_faults:
            grid.earliest.clear()  # the damaged frame may have been the one to take
        return frames

    return decode


def _has_droppable(codec: VideoCodecContext) -> bool:
    if codec.name == "hevc":
        return _hevc_layers(codec.extradata) == 1
    return codec.name in _CODECS_WITH_DROPPABLE


def _hevc_layers(extradata: bytes | None) -> int | None:
    """``numTemporalLayers`` of HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1).

    0 or None if unknown.
    """
    if extradata is None or len(extradata) < 23 or extradata[0] != 1:
        return None
    return (extradata[21] >> 3) & 7


def _long_gaps(path: Path, max_gap_seconds: float) -> frozenset[int] | None:
    """Which key frames, by their number, are followed by none for longer than the limit.

    Reads the file once without decoding. None, for "any", when there are too many to remember.
    """
    gaps: set[int] = set()
    number, since = -1, None
    with _open(path, threads=1) as source:
        for packet in _packets(source):
            pts = packet.pts if packet.pts is not None else packet.dts
            if packet.is_keyframe:
                number, since = number + 1, pts
            elif pts is not None and since is not None and (pts - since) * source.time_base > max_gap_seconds:
                gaps.add(number)
                if len(gaps) > _MAX_REMEMBERED:
                    return None
    return frozenset(gaps)


@dataclass
class _Keyframes:
    """Takes key frames, each decoded on its own, and fills in where the next one is far."""

    source: _Source
    clock: _Clock
    sampling: Sampling
    long_gaps: frozenset[int] | None
    number: int = -1  # of the last key packet
    taken_seconds: float = -math.inf

    def choose(self) -> Iterator[tuple[float, VideoFrame]]:
        for packet in _packets(self.source):
            if packet.is_keyframe:
                self.number += 1
                if self._started and not self._is_long and self._far_enough(packet):
                    yield from self._taken(_decode(self.source, packet) + self._drained())
            # The file's first frame may come late and need not be a key frame (edit lists).
            if self._is_long or not self._started:
                yield from self._taken(_decode(self.source, packet))
            if self.source.gives_up:
                return
        yield from self._taken(self._drained())

    @property
    def _started(self) -> bool:
        return self.taken_seconds >= 0.0

    @property
    def _is_long(self) -> bool:
        return self.long_gaps is None or self.number in self.long_gaps

    def _far_enough(self, packet: Packet[VideoStream]) -> bool:
        t_seconds = self.clock.of_packet(packet)
        return t_seconds is None or self._gap(t_seconds) >= self.sampling.min_gap_seconds

    def _gap(self, t_seconds: float) -> float:
        return t_seconds - self.taken_seconds + self.clock.tolerance_seconds

    def _drained(self) -> list[VideoFrame]:
        frames = _decode(self.source, None)
        self.source.codec.flush_buffers()
        return frames

    def _taken(self, frames: list[VideoFrame]) -> Iterator[tuple[float, VideoFrame]]:
        for frame in frames:
            t_seconds = self.clock.of_frame(frame)
            if t_seconds is None:
                continue
            gap = self._gap(t_seconds)
            fills_in = gap >= self.sampling.max_gap_seconds and not frame.is_corrupt
            if fills_in or not self._started or (frame.key_frame and gap >= self.sampling.min_gap_seconds):
                self.taken_seconds = t_seconds
                yield t_seconds, frame


# --- Images ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Geometry:
    """How a stored picture becomes an upright one with square pixels.

    ``width`` and ``height`` are of the scaled picture before it is turned.
    """

    width: int
    height: int
    transpose: bool
    flip_x: bool
    flip_y: bool

    @property
    def upright_width(self) -> int:
        return self.height if self.transpose else self.width

    @property
    def upright_height(self) -> int:
        return self.width if self.transpose else self.height

    @property
    def rotation_degrees(self) -> int:
        """Clockwise; of a mirrored picture, the turn that goes with a horizontal mirror."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


def _geometry(frame: VideoFrame, source: _Source, *, max_side: int | None) -> _Geometry:
    sar = source.stream.sample_aspect_ratio or source.codec.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 20) <= sar <= 20:  # no real video; nonsense in the header
        sar = Fraction(1)
    width, height = frame.width * sar, Fraction(frame.height)
    scale = Fraction(1) if max_side is None else min(Fraction(1), max_side / max(width, height))
    turns = _turns(frame)
    return _Geometry(max(1, round(width * scale)), max(1, round(height * scale)), *turns)


def _turns(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, mirror x, mirror y) nearest to the display matrix.

    The matrix (a b u; c d v; x y w) sends the stored point (p, q) to (a·p + c·q, b·p + d·q); see
    libavutil/display.h.
    """
    data = bytes(cast("Buffer", frame.side_data.get("DISPLAYMATRIX", b"")))
    if len(data) < 36:
        return False, False, False
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


@dataclass
class _Images:
    """Turns decoded frames into small upright RGB images; keeps the scaler's tables from frame to frame."""

    source: _Source
    max_side: int
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        source = self.source
        if frame.width * frame.height > _MAX_PIXELS:
            raise VideoError(f"{source.name} has frames of {frame.width}×{frame.height}, {_TOO_LARGE}")
        geometry = _geometry(frame, source, max_side=self.max_side)
        try:
            image = self._scaled(frame, geometry)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise VideoError(
                f"{source.name} has pictures that cannot be converted "
                f"({frame.format.name}, {frame.width}×{frame.height}; {_why(error)}): convert it to H.264"
            ) from error
        if geometry.transpose:
            image = image.transpose(1, 0, 2)
        if geometry.flip_x:
            image = image[:, ::-1]
        if geometry.flip_y:
            image = image[::-1]
        return np.ascontiguousarray(image)

    def _scaled(self, frame: VideoFrame, geometry: _Geometry) -> NDArray[np.uint8]:
        transfer = frame.color_trc
        if transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
            return tone_map(
                self._reformat(frame, geometry, "rgb48le"), "pq" if transfer == ColorTrc.SMPTE2084 else "hlg"
            )
        if frame.format.name in _ALPHA_FORMATS or any(c.is_alpha for c in frame.format.components):
            rgba = self._reformat(frame, geometry, "rgba").astype(np.uint16)
            return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
        return self._reformat(frame, geometry, "rgb24").astype(np.uint8, copy=False)

    def _reformat(self, frame: VideoFrame, geometry: _Geometry, pixel_format: str) -> NDArray[Any]:
        small = self.reformatter.reformat(
            frame,
            geometry.width,
            geometry.height,
            pixel_format,
            src_colorspace=_matrix(frame),
            interpolation=_SWS_FLAGS,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return small.to_ndarray()


def _matrix(frame: VideoFrame) -> int | None:
    """Which YCbCr matrix: as tagged, else by size as players do: BT.709 for HD, BT.601 below."""
    if frame.colorspace == _RGB:
        return None
    tagged = _SWS_MATRIX.get(frame.colorspace)
    if tagged is not None:
        return tagged
    if frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        return 9
    return 1 if frame.width >= 1280 or frame.height > 576 else 5


# --- High dynamic range ------------------------------------------------------------------------------

_PEAK_NITS = 1000.0  # what nearly all PQ is graded for, and the nominal peak of HLG (BT.2100)
_WHITE_NITS = 203.0  # HDR reference white (BT.2408 table 1), which becomes the white of SDR

# BT.2020 → BT.709 primaries, both D65 (BT.2087-0 annex 2, inverted).
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)

_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073


def tone_map(coded: NDArray[np.uint16], transfer: Literal["pq", "hlg"]) -> NDArray[np.uint8]:
    """HDR to SDR: decode to light, roll the highlights off, BT.2020 → BT.709 primaries, encode as sRGB.

    The roll-off is that of BT.2390-10 section 5.4.1: what is below the knee (96 cd/m²) is unchanged, and
    1000 cd/m² becomes SDR white. It acts on the largest of R, G and B and scales all three, which keeps hues.

    Args:
        coded: (h, w, 3) R'G'B' of BT.2100, full range.
        transfer: PQ is SMPTE ST 2084; HLG is ARIB STD-B67, for a display of 1000 cd/m².

    Returns:
        (h, w, 3) sRGB.
    """
    signal = coded.astype(np.float32) / np.float32(65535)
    nits = _pq_to_nits(signal) if transfer == "pq" else _hlg_to_nits(signal)
    largest = np.maximum(nits.max(axis=2, keepdims=True), 1e-4)
    light = nits * (_roll_off(largest) / largest) / _WHITE_NITS
    light = np.clip(light @ _BT2020_TO_BT709.T, 0.0, 1.0)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return np.asarray(srgb * 255.0 + 0.5).astype(np.uint8)


def _pq_to_nits(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """EOTF of SMPTE ST 2084 (BT.2100 table 4)."""
    power = signal ** (1 / _PQ_M2)
    light = np.maximum(power - _PQ_C1, 0.0) / (_PQ_C2 - _PQ_C3 * power)
    return np.asarray(10000.0 * light ** (1 / _PQ_M1), dtype=np.float32)


def _nits_to_pq(nits: NDArray[np.float32]) -> NDArray[np.float32]:
    power = (nits / 10000.0) ** _PQ_M1
    return np.asarray(((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2, dtype=np.float32)


def _hlg_to_nits(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse OETF, then the OOTF with gamma 1.2, of HLG (BT.2100 table 5)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    luma = np.maximum(scene @ _BT2020_LUMA, 1e-6)[..., None]
    return np.asarray(_PEAK_NITS * luma**0.2 * scene, dtype=np.float32)


def _roll_off(nits: NDArray[np.float32]) -> NDArray[np.float32]:
    """EETF of BT.2390-10 section 5.4.1, black levels of 0."""
    peak, white = (float(_nits_to_pq(np.array(n, dtype=np.float32))) for n in (_PEAK_NITS, _WHITE_NITS))
    e1 = np.minimum(_nits_to_pq(nits) / peak, 1.0)
    target = white / peak
    knee = 1.5 * target - 0.5
    t = np.maximum(e1 - knee, 0.0) / (1.0 - knee)
    rise = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1.0 - knee)
    spline = rise + (3 * t**2 - 2 * t**3) * target
    return _pq_to_nits((np.where(e1 < knee, e1, spline) * peak).astype(np.float32))
