"""Writes videos for demonstrations, edits and tests.

With ``eval.video_reader`` and ``matcher.decode`` the only import of av.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: Fraction | int,
    crf: int = 23,
    preset: str = "veryfast",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    keyframe_interval: int = 250,
    sound: NDArray[np.float32] | None = None,
    sound_rate_hz: int = 32000,
    options: dict[str, str] | None = None,
) -> int:
    """Encode ``frames`` (each (h, w, 3) uint8 RGB, all of one even size) and, if given, mono sound.

    Args:
        path: Where to; the container follows the suffix.
        frames: Read one at a time, so any length fits into memory.
        fps: Frames a second.
        crf: Constant rate factor of x264 and x265.
        preset: Speed preset of x264 and x265. "superfast" with one thread gives the same file every time;
            from "veryfast" on x264's macroblock tree reads memory that nobody wrote.
        codec: FFmpeg's encoder name.
        pix_fmt: Pixel format of the stream.
        keyframe_interval: At most so many frames from one key frame to the next.
        sound: (samples,) float32 in [-1, 1], or None for a silent file.
        sound_rate_hz: Sampling rate of ``sound``.
        options: More options for the video encoder.

    Returns:
        How many frames were written.

    Raises:
        ValueError: There is no frame.
    """
    n_frames, rate = 0, Fraction(fps)
    with av.open(str(path), "w") as container:
        stream: VideoStream | None = None
        track: _SoundTrack | None = None
        for image in frames:
            if stream is None:
                stream = cast(VideoStream, container.add_stream(codec, rate=rate))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.gop_size = keyframe_interval
                stream.options = {"crf": str(crf), "preset": preset, **(options or {})}
                if sound is not None:
                    track = _SoundTrack(container, sound, sound_rate_hz)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = n_frames
            frame.time_base = 1 / rate
            n_frames += 1
            container.mux(stream.encode(frame))
            if track is not None:
                track.write_until(float(n_frames / rate))
        if stream is None:
            raise ValueError(f"no frames for {path}")
        container.mux(stream.encode(None))
        if track is not None:
            track.finish()
    return n_frames


class _SoundTrack:
    """A mono AAC stream written in step with the pictures, so that neither waits in memory."""

    def __init__(self, container: OutputContainer, sound: NDArray[np.float32], rate_hz: int) -> None:
        self.container, self.sound, self.rate_hz = container, sound, rate_hz
        self.stream = container.add_stream(
            "aac", rate=rate_hz, options={"aac_coder": "fast"}, layout="mono", bit_rate=64000
        )
        self.position = 0

    def write_until(self, seconds: float) -> None:
        """Encode the whole blocks of 1024 samples before ``seconds``."""
        stop = min(len(self.sound), int(seconds * self.rate_hz) // 1024 * 1024)
        self._write(stop)

    def finish(self) -> None:
        """Encode the rest and close the stream."""
        self._write(len(self.sound))
        self.container.mux(self.stream.encode(None))

    def _write(self, stop: int) -> None:
        while self.position < stop:
            samples = self.sound[self.position : min(stop, self.position + 1024)]
            # A short last block is filled up here: the encoder would fill it with whatever was in memory.
            block = np.zeros((1, 1024), np.float32)
            block[0, : len(samples)] = samples
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate = self.rate_hz
            frame.pts = self.position
            frame.time_base = Fraction(1, self.rate_hz)
            self.position += len(samples)
            self.container.mux(self.stream.encode(frame))
