"""Reads every frame of a stretch of a video, and its sound, to cut clips from it.

``matcher.decode`` samples whole files robustly; this one seeks and is exact, for files that are sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoShape:
    """What clips need to know of a file.

    Attributes:
        width: Pixels of a frame, made square and even.
        height: Likewise.
        fps: Average frames a second.
        duration_seconds: Of the pictures, as declared.
        has_sound: There is a sound stream.
    """

    width: int
    height: int
    fps: Fraction
    duration_seconds: float
    has_sound: bool


def even(size: float) -> int:
    """The nearest even number that is at least 2, as 4:2:0 video needs."""
    return max(2, 2 * round(size / 2))


def _size(container: InputContainer, max_side: int | None) -> tuple[int, int]:
    stream = container.streams.video[0]
    aspect = float(stream.codec_context.sample_aspect_ratio or 1) or 1.0
    width, height = stream.codec_context.width * aspect, float(stream.codec_context.height)
    scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return even(width * scale), even(height * scale)


def read_shape(path: Path) -> VideoShape:
    """Open ``path`` and read its header.

    Raises:
        ValueError: It holds no video.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no video")
        width, height = _size(container, None)
        stream = container.streams.video[0]
        length = float((stream.duration or 0) * (stream.time_base or 0))
        return VideoShape(
            width=width,
            height=height,
            fps=Fraction(stream.average_rate or 25),
            duration_seconds=length or (container.duration or 0) / av.time_base,
            has_sound=bool(container.streams.audio),
        )


def _timed(container: InputContainer, first_pts: int) -> Iterator[tuple[float, VideoFrame]]:
    stream = container.streams.video[0]
    base = float(stream.time_base or Fraction(1, 90000))
    for frame in container.decode(stream):
        if frame.pts is not None:
            yield (frame.pts - first_pts) * base, frame


def _frames_from(container: InputContainer, start_seconds: float) -> Iterator[tuple[float, VideoFrame]]:
    """Frames with their times from the first one, beginning at or before ``start_seconds``.

    Containers without an index (MPEG-TS) may seek too far; then the file is read from its beginning.
    """
    stream = container.streams.video[0]
    first = next(container.decode(stream), None)
    if first is None or first.pts is None:
        return
    ticks = int((start_seconds - 0.05) / float(stream.time_base or Fraction(1, 90000)))
    if ticks > 0:
        container.seek(first.pts + ticks, stream=stream, backward=True)
        frames = _timed(container, first.pts)
        ahead = next(frames, None)
        if ahead is not None and ahead[0] <= start_seconds:
            yield ahead
            yield from frames
            return
    container.seek(first.pts, stream=stream, backward=True)
    yield from _timed(container, first.pts)


def _within(
    container: InputContainer, start_seconds: float, stop_seconds: float
) -> Iterator[tuple[float, VideoFrame]]:
    for seconds, frame in _frames_from(container, start_seconds):
        if seconds >= stop_seconds - 0.0005:
            return
        if seconds >= start_seconds - 0.0005:
            yield seconds, frame


def _on_show(
    frames: Iterator[tuple[float, VideoFrame]], first_tick_seconds: float, fps: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Only frames that are the last to have come at some tick, and the first of all."""
    held, tick = next(frames, None), 0
    for frame in frames:
        if held is not None and first_tick_seconds + tick / fps < frame[0] - 1e-6:
            yield held
        held, tick = frame, max(0, math.ceil((frame[0] - first_tick_seconds - 1e-6) * fps))
    if held is not None:
        yield held


def read_frames(
    path: Path,
    start_seconds: float,
    stop_seconds: float,
    *,
    max_side: int | None = None,
    fps: float | None = None,
    phase_seconds: float = 0.0,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Read every frame shown in ``[start_seconds, stop_seconds)``, or those that a slower rate shows.

    Args:
        path: The video.
        start_seconds: From the first frame of the file; compared with half a millisecond to spare.
        stop_seconds: Likewise; this frame is no longer read.
        max_side: Longest side of the images; None keeps the size.
        fps: Only frames that are on show at some tick of this rate are turned into images; None for all.
        phase_seconds: The first tick, after ``start_seconds``.

    Yields:
        (seconds from the first frame of the file, (height, width, 3) uint8 RGB with even sides).
    """
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        width, height = _size(container, max_side)
        # One for all frames: to set up the scaling takes as long as to scale.
        scaler = VideoReformatter()
        frames = _within(container, start_seconds, stop_seconds)
        if fps is not None:
            frames = _on_show(frames, start_seconds + phase_seconds, fps)
        for seconds, frame in frames:
            image = scaler.reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
            yield seconds, cast("NDArray[np.uint8]", image)


def read_sound(path: Path, start_seconds: float, stop_seconds: float, *, rate_hz: int) -> NDArray[np.float32]:
    """Read the sound of ``[start_seconds, stop_seconds)`` as mono.

    Args:
        path: The video.
        start_seconds: From the first frame of the file.
        stop_seconds: Likewise.
        rate_hz: To resample to.

    Returns:
        (samples,) float32, padded with silence to the length asked for; all silence without a sound stream.
    """
    out = np.zeros(max(0, round((stop_seconds - start_seconds) * rate_hz)), np.float32)
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return out
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
        base = float(stream.time_base or Fraction(1, rate_hz))
        container.seek(max(0, int((start_seconds - 0.2) / base)), stream=stream, backward=True)
        position: int | None = None
        for frame in container.decode(stream):
            if position is None:
                position = round(((frame.pts or 0) * base - start_seconds) * rate_hz)
            for block in resampler.resample(frame):
                samples = np.asarray(block.to_ndarray(), np.float32)[0]
                low, high = max(0, position), min(len(out), position + len(samples))
                if low < high:
                    out[low:high] = samples[low - position : high - position]
                position += len(samples)
            if position >= len(out):
                break
    return out
