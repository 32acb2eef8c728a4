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
from collections.abc import Iterator
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
#: Pieces at most, and damaged packets in a row after which a track is given up.
_MOST_PIECES, _MOST_FAULTS = 1000, 1000
#: Samples that are gathered before they are resampled: every call takes as long as a thousand of them.
_GATHERED = 65536
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
    _pieces: list[_Piece] = field(default_factory=list)
    _end_seconds: float | None = None  # of the last frame, on the clock of the stream
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
            self._drain()
        except (av.FFmpegError, ValueError, MemoryError):
            self._n_faults += 1
        if self._n_faults:
            _log.warning("%s has damaged sound, %d packets were passed over", name, self._n_faults)

    def pieces(self) -> list[SoundPiece]:
        """What there is to hear, in time order; none for a file without sound."""
        found = [SoundPiece(p.start_seconds - self.base_seconds, p.stream.columns()) for p in self._pieces]
        return sorted((piece for piece in found if len(piece.columns)), key=lambda piece: piece.start_seconds)

    def _take_frame(self, frame: AudioFrame) -> None:
        pts = frame.pts
        # The common case first: thousands of small frames a minute, each of which follows the last.
        if (
            pts is None
            or self._end_seconds is None
            or abs(pts * self._tick - self._end_seconds) > _JUMP_SECONDS
        ):
            self._place(pts)
        frame.pts = None  # where samples go is decided by counting them
        try:
            self._fifo.write(frame)
        except ValueError:  # another format, rate or number of channels from here on
            self._drain()
            self._fifo.write(frame)
        assert self._end_seconds is not None
        self._end_seconds += frame.samples / frame.sample_rate
        if self._fifo.samples >= _GATHERED:
            self._resample()

    def _place(self, pts: int | None) -> None:
        """Begin a new piece where a frame does not follow what has come before."""
        t_seconds = None if pts is None or not abs(pts * self._tick) < _LATEST_SECONDS else pts * self._tick
        if self._end_seconds is None:
            self._end_seconds = 0.0 if t_seconds is None else t_seconds
            self._pieces.append(_Piece(self._end_seconds))
        elif t_seconds is not None and t_seconds < self._end_seconds - _RESET_SECONDS:
            # The clock starts again: what comes goes on from here.
            self._shift_seconds += self._end_seconds - t_seconds
            self._end_seconds = t_seconds
        elif t_seconds is not None and len(self._pieces) < _MOST_PIECES:
            self._drain()
            self._end_seconds = t_seconds
            self._pieces.append(_Piece(t_seconds + self._shift_seconds))

    def _drain(self) -> None:
        """What is held belongs to the last piece."""
        self._resample()
        if self._resampler is not None:
            self._feed(self._resampler.resample(None))
        self._resampler, self._fifo = None, AudioFifo()

    def _resample(self) -> None:
        """Resample what was gathered."""
        held = self._fifo.read()
        if held is None:
            return
        if self._resampler is None:
            channels, (low, high) = held.layout.nb_channels, _RATES_HZ
            if not (low <= held.sample_rate <= high and 1 <= channels <= _MOST_CHANNELS):
                raise ValueError(f"{channels} channels at {held.sample_rate} Hz are no sound")
            self._resampler = AudioResampler(format="fltp", rate=RATE_HZ)
        held.pts = None
        self._feed(self._resampler.resample(held))

    def _feed(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            # (channels, n): all of them count alike, so that it matters little which are there.
            samples = np.asarray(frame.to_ndarray(), np.float32).mean(axis=0)
            finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
            self._pieces[-1].stream.feed(np.clip(finite, -16.0, 16.0))


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
    out = np.zeros(max(0, round((stop_seconds - start_seconds) * RATE_HZ)), np.float32)
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            for t_seconds, samples in _decoded(container, stop_seconds):
                first = round((t_seconds - start_seconds) * RATE_HZ)
                low, high = max(0, first), min(out.size, first + samples.size)
                if low < high:
                    out[low:high] = samples[low - first : high - first]
    except (av.FFmpegError, ValueError, MemoryError) as error:
        _log.warning("%s: its sound cannot be read (%s)", path, error)
    return out


def _decoded(container: InputContainer, stop_seconds: float) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Pieces of mono samples with the time of the first, from the file's first frame on."""
    if not container.streams.audio:
        return
    sound = container.streams.best("audio") or container.streams.audio[0]
    base = 0.0
    for video in container.streams.video[:1]:
        base = float((video.start_time or 0) * (video.time_base or 0))
    resampler = AudioResampler(format="fltp", rate=RATE_HZ)
    at: float | None = None
    for frame in container.decode(sound):
        assert isinstance(frame, AudioFrame)
        if at is None:
            at = float((frame.pts or 0) * (frame.time_base or 0)) - base
        frame.pts = None
        for block in resampler.resample(frame):
            samples = np.asarray(block.to_ndarray(), np.float32).mean(axis=0)
            yield at, samples
            at += samples.size / RATE_HZ
        if at > stop_seconds:
            return
