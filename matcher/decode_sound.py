"""The sound of a file, out of the same pass over it as its frames; imports av for that.

A :class:`SoundTrack` is handed to :func:`matcher.decode.sample_frames`, which gives it the packets of the
file's sound as they come by. It decodes them, mixes all channels to one, resamples and measures columns
(:mod:`matcher.sound`), and never stops the pictures: what cannot be decoded is passed over.

Times are those of the frames: seconds from the first frame of the file. A track may begin before or after
it and end early; where its timestamps jump, a new piece begins.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from matcher.sound import COLUMN_SECONDS, RATE_HZ, ColumnStream

_log = logging.getLogger(__name__)

#: Rates and channels of a sound; others are nonsense in a header.
_RATES_HZ, _MOST_CHANNELS = (4000, 768_000), 64
#: Timestamps that are farther off than this from where the samples have come to begin a new piece.
_JUMP_SECONDS = 0.2
#: A step back by more than this is a clock that starts again, as where recordings are joined.
_RESET_SECONDS = 1.0
#: Pieces at most, so that no file can make memory grow; what comes after the last is passed over.
_MOST_PIECES = 10_000
#: Damaged packets in a row after which a track is given up.
_MOST_FAULTS = 1000
#: Samples that are gathered before they are resampled: every call takes as long as a thousand of them.
_GATHERED = 65536
#: Packets that are handed to the sound's thread at one go, and how many of these may wait there.
_PACKETS, _MOST_WAITING = 64, 16
#: No file is longer than this: a timestamp beyond it is nonsense.
_LATEST_SECONDS = 1e8


@dataclass(frozen=True)
class SoundPiece:
    """A stretch of sound without a gap.

    Attributes:
        start_seconds: From the first frame of the file to the first column; may be negative.
        columns: (c, 64) see :func:`matcher.sound.mel_columns`.
    """

    start_seconds: float
    columns: NDArray[np.float32]


@dataclass
class _Piece:
    start_seconds: float
    n_samples: int = 0
    stream: ColumnStream = field(default_factory=ColumnStream)


@dataclass
class SoundTrack:
    """Gathers the sound of one file while its frames are read; of no use for a second file.

    Attributes:
        base_seconds: Time of the file's first frame on the clock of the container, set by the reader.
    """

    base_seconds: float = 0.0
    _stream: AudioStream | None = None
    _tick: float = 1.0 / RATE_HZ
    _fifo: AudioFifo = field(default_factory=AudioFifo)
    _resampler: AudioResampler | None = None
    _shape: tuple[int, int, str] | None = None  # channels, rate and format of what is gathered
    _pieces: list[_Piece] = field(default_factory=list)
    _end_seconds: float | None = None  # of the last frame, on the clock of the stream
    _doubtful: tuple[AudioFrame, float] | None = None  # a frame that jumps, and its time
    _shift_seconds: float = 0.0  # from that clock to the container's
    _n_faults: int = 0
    _n_consecutive_faults: int = 0

    def attach(self, container: InputContainer) -> AudioStream | None:
        """Choose the stream to listen to, where there is one: the container's default, or the first."""
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        if not streams:
            return None
        best = container.streams.best("audio")
        chosen = next((s for s in streams if best is not None and s.index == best.index), streams[0])
        self._stream = chosen
        self._tick = float(chosen.time_base or self._tick)
        return chosen

    def take(self, packet: Packet[AudioStream] | None) -> None:
        """Take in the next packet of the stream; None at the end of the file."""
        if self._stream is None or self._n_consecutive_faults >= _MOST_FAULTS:
            return
        try:
            for frame in self._stream.codec_context.decode(packet):
                self._take_frame(frame)
            self._n_consecutive_faults = 0
        except (av.FFmpegError, ValueError, MemoryError):
            self._n_faults += 1
            self._n_consecutive_faults += 1

    def finish(self, name: str) -> None:
        """The file is read to its end; ``name`` is what a warning calls it."""
        self.take(None)
        try:
            self._settle_doubt(None)
            self._drain()
        except (av.FFmpegError, ValueError, MemoryError):
            self._n_faults += 1
        if self._n_faults:
            _log.warning("%s has damaged sound, %d packets were passed over", name, self._n_faults)

    @property
    def reached_seconds(self) -> float:
        """How far it has been read, from the first frame of the file; -inf before there is a sound."""
        if self._end_seconds is None:
            return -math.inf
        return self._end_seconds + self._shift_seconds - self.base_seconds

    def pieces(self) -> list[SoundPiece]:
        """What there is to hear, in time order; none for a file without sound."""
        found = [SoundPiece(p.start_seconds - self.base_seconds, p.stream.columns()) for p in self._pieces]
        return sorted((piece for piece in found if len(piece.columns)), key=lambda piece: piece.start_seconds)

    def _take_frame(self, frame: AudioFrame) -> None:
        pts = frame.pts
        shape = frame.layout.nb_channels, frame.sample_rate, frame.format.name
        if shape != self._shape:
            # PyAV's fifo does not see a change of channels: it would read planes that are not there.
            self._settle_doubt(None)
            self._drain()
            self._shape = _checked(shape)
        t_seconds = None if pts is None or not abs(pts * self._tick) < _LATEST_SECONDS else pts * self._tick
        if self._doubtful is not None:
            self._settle_doubt(t_seconds)
        if self._end_seconds is None:
            self._place(t_seconds)
        elif t_seconds is not None and abs(t_seconds - self._end_seconds) > _JUMP_SECONDS:
            self._doubtful = frame, t_seconds
            return
        self._write(frame)

    def _settle_doubt(self, next_seconds: float | None) -> None:
        """Place the frame that jumped, now that the time of the next one is known, or that there is none.

        Where that one follows what came before, it was but a damaged timestamp.
        """
        if self._doubtful is None:
            return
        frame, t_seconds = self._doubtful
        self._doubtful = None
        assert self._end_seconds is not None
        after = self._end_seconds + frame.samples / frame.sample_rate
        try:
            if next_seconds is None or abs(next_seconds - after) > _JUMP_SECONDS:
                self._place(t_seconds)
            self._write(frame)
        except (av.FFmpegError, ValueError, MemoryError):  # this frame's fault, not the next one's
            self._n_faults += 1

    def _write(self, frame: AudioFrame) -> None:
        frame.pts = None  # where samples go is decided by counting them
        self._fifo.write(frame)
        assert self._end_seconds is not None
        self._end_seconds += frame.samples / frame.sample_rate
        if self._fifo.samples >= _GATHERED:
            self._resample()

    def _place(self, t_seconds: float | None) -> None:
        """Begin a new piece where a frame does not follow what has come before."""
        if self._end_seconds is None:
            self._end_seconds = 0.0 if t_seconds is None else t_seconds
            self._pieces.append(_Piece(self._end_seconds))
        elif t_seconds is not None and t_seconds < self._end_seconds - _RESET_SECONDS:
            # The clock starts again: what comes goes on from here.
            self._shift_seconds += self._end_seconds - t_seconds
            self._end_seconds = t_seconds
        elif t_seconds is not None:
            if len(self._pieces) >= _MOST_PIECES:
                raise ValueError(f"more than {_MOST_PIECES} gaps")
            self._drain()
            self._pieces[-1].stream.settle()
            self._end_seconds = t_seconds
            self._pieces.append(_Piece(t_seconds + self._shift_seconds))

    def _drain(self) -> None:
        """What is held belongs to the last piece."""
        try:
            self._resample()
            if self._resampler is not None:
                self._feed(self._resampler.resample(None))
        finally:
            self._resampler, self._fifo = None, AudioFifo()

    def _resample(self) -> None:
        """Resample what was gathered."""
        held = self._fifo.read()
        if held is None:
            return
        if self._resampler is None:
            self._resampler = AudioResampler(format="flt", rate=RATE_HZ)
        held.pts = None
        self._feed(self._resampler.resample(held))

    def _feed(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            samples = _mono(frame)
            self._keep(samples)
            self._pieces[-1].n_samples += samples.size

    def _keep(self, samples: NDArray[np.float32]) -> None:
        """Take in the next samples of the last piece."""
        self._pieces[-1].stream.feed(samples)


class SoundThread:
    """Hands packets to a track on a thread of its own: pictures set the pace, and wait for no sound.

    Args:
        track: Not to be used elsewhere before :meth:`wait`.
    """

    def __init__(self, track: SoundTrack) -> None:
        self._track = track
        self._thread: ThreadPoolExecutor | None = None
        self._held: list[Packet[AudioStream]] = []
        self._waiting: deque[Future[None]] = deque()

    def take(self, packet: Packet[AudioStream]) -> None:
        """Hand over the next packet of the stream."""
        self._held.append(packet)
        if len(self._held) == _PACKETS:
            self._hand_over()

    def wait(self) -> None:
        """Until the track has all of them. The thread ends, so that the file can be closed."""
        self._hand_over()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()
        while self._waiting:
            self._waiting.popleft().result()

    def _hand_over(self) -> None:
        held, self._held = self._held, []
        if not held:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="listen")
        while len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._take_all, held))

    def _take_all(self, packets: list[Packet[AudioStream]]) -> None:
        for packet in packets:
            self._track.take(packet)


def _checked(shape: tuple[int, int, str]) -> tuple[int, int, str]:
    """The same channels, rate and format.

    Raises:
        ValueError: They are nonsense.
    """
    channels, rate_hz, _ = shape
    if not (_RATES_HZ[0] <= rate_hz <= _RATES_HZ[1] and 1 <= channels <= _MOST_CHANNELS):
        raise ValueError(f"{channels} channels at {rate_hz} Hz are no sound")
    return shape


def _mono(frame: AudioFrame) -> NDArray[np.float32]:
    """(n,) finite samples of a packed frame ("flt"); all channels count alike, whichever are there.

    Not of a planar one: from eight channels on, PyAV 18.1's ``AudioFrame.planes`` runs past the last plane.
    """
    channels = np.asarray(frame.to_ndarray(), np.float32).reshape(-1, frame.layout.nb_channels)
    mono: NDArray[np.float32] = channels.mean(axis=1)
    return np.clip(np.nan_to_num(mono, nan=0.0, posinf=1.0, neginf=-1.0), -16.0, 16.0)


def sound_seconds(pieces: list[SoundPiece]) -> float:
    """How long the pieces are together, in whole columns."""
    return math.fsum(len(piece.columns) * COLUMN_SECONDS for piece in pieces)


def read_sound(path: Path, start_seconds: float, stop_seconds: float) -> NDArray[np.float32]:
    """The samples of a stretch, mono at ``RATE_HZ``, silent where there are none.

    Args:
        path: A file whose pictures can be decoded.
        start_seconds: From its first frame, as the header tells.
        stop_seconds: Likewise.

    Returns:
        (n,) float32; all zeros without a sound track.
    """
    track = _Stretch(start_seconds=start_seconds, n_samples=round((stop_seconds - start_seconds) * RATE_HZ))
    try:
        with av.open(
            f"file:{path}", container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
        ) as container:
            for video in container.streams.video[:1]:
                track.base_seconds = float((video.start_time or 0) * (video.time_base or 0))
            stream = track.attach(container)
            if stream is not None:
                _read_until(stop_seconds, container, stream, track, str(path))
    except (av.FFmpegError, ValueError, MemoryError, IndexError) as error:  # IndexError: see decode._packets
        _log.warning("%s: its sound cannot be read (%s)", path, error)
    return track.out


def _read_until(
    stop_seconds: float, container: InputContainer, stream: AudioStream, track: SoundTrack, name: str
) -> None:
    try:
        for packet in container.demux(stream):
            if packet.size:
                track.take(packet)
            if track.reached_seconds > stop_seconds:
                return
    finally:
        track.finish(name)


@dataclass
class _Stretch(SoundTrack):
    """Gathers the samples of a stretch instead of measuring columns."""

    start_seconds: float = 0.0
    n_samples: int = 0
    out: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.out = np.zeros(max(0, self.n_samples), np.float32)

    def _keep(self, samples: NDArray[np.float32]) -> None:
        piece = self._pieces[-1]
        begin_seconds = piece.start_seconds - self.base_seconds - self.start_seconds
        first = round(begin_seconds * RATE_HZ) + piece.n_samples
        low, high = max(0, first), min(self.out.size, first + samples.size)
        if low < high:
            self.out[low:high] = samples[low - first : high - first]
