"""Makes odd media for the tests: everything is generated, nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def level(number: int) -> int:
    """The grey of frame ``number``: neighbours differ by much, and 32 of them all differ."""
    return 16 + (number * 7) % 32 * 7


def moving(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """A picture with detail that moves, so that encoders use B-frames and frames differ everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(0, 60, (height, width))
    red = (x * 2 + number * 5) % 200 + np.roll(noise, number, axis=1) // 2
    green = (y * 3 + number * 3) % 200
    blue = np.roll(noise, -2 * number, axis=0) + 60
    return np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8)


def corners(width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Red top left, green top right, blue bottom left, white bottom right: tells the eight turns apart."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (230, 20, 20)
    image[: height // 2, width // 2 :] = (20, 230, 20)
    image[height // 2 :, : width // 2] = (20, 20, 230)
    image[height // 2 :, width // 2 :] = (230, 230, 230)
    return image


def flat(grey: int, width: int = 32, height: int = 32) -> NDArray[np.uint8]:
    return np.full((height, width, 3), grey, dtype=np.uint8)


def write(
    path: Path,
    images: Iterable[NDArray[np.uint8] | av.VideoFrame],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    gop: int = 12,
    sar: Fraction | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    tags: dict[str, int] | None = None,
    sound_seconds: float = 0.0,
) -> Path:
    """Write one video stream, frame by frame with the given timestamps.

    Args:
        path: Where to.
        images: RGB arrays, or frames that are already in ``pix_fmt``.
        pts: Timestamps in ``time_base``; 0, 1, 2, … by default.
        time_base: Of ``pts``.
        codec: FFmpeg's encoder name.
        pix_fmt: What is stored.
        rate: Frames a second as the header says.
        options: For the encoder.
        container_options: For the muxer.
        container_format: Else by the suffix.
        gop: Frames from key frame to key frame.
        sar: Width of a pixel over its height.
        rotation: (degrees, mirror x, mirror y) for the display matrix.
        tags: ``color_range``, ``colorspace``, ``color_trc``, ``color_primaries``.
        sound_seconds: Length of a silent track, in front of it.
    """
    muxer = container_format or _format(path)
    # Opened here, as FFmpeg reads some names as patterns or protocols.
    with (
        path.open("wb") as target,
        av.open(target, "w", format=muxer, options=container_options or {}) as out,
    ):
        stream = None
        for number, image in enumerate(images):
            if isinstance(image, av.VideoFrame):
                frame = image
            else:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if stream is None:
                # No key frames but those asked for: scenes change with every frame here.
                defaults = {"sc_threshold": "0"} if codec == "libx264" else {}
                stream = out.add_stream(codec, rate=rate, options={**defaults, **(options or {})})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.gop_size = gop
                stream.codec_context.time_base = time_base
                for name, value in (tags or {}).items():
                    setattr(stream.codec_context, name, value)
                if sar is not None:
                    stream.codec_context.sample_aspect_ratio = sar
                if rotation is not None:
                    stream.set_display_rotation(*rotation)
                if sound_seconds:
                    _silence(out, sound_seconds)
            if frame.format.name != pix_fmt:
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace=(tags or {}).get("colorspace"),
                    dst_color_range=(tags or {}).get("color_range"),
                )
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            frame.pts = number if pts is None else pts[number]
            frame.time_base = time_base
            out.mux(stream.encode(frame))
        if stream is not None:
            out.mux(stream.encode(None))
    return path


def _format(path: Path) -> str:
    return {".mkv": "matroska", ".ts": "mpegts", ".mpg": "mpeg"}.get(path.suffix, path.suffix[1:])


def _silence(out: av.container.OutputContainer, seconds: float) -> None:
    stream = out.add_stream("aac", rate=32000, layout="mono")
    for start in range(0, int(seconds * 32000), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 32000, start, Fraction(1, 32000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def write_sound(path: Path, *, cover: bool = False) -> Path:
    """A sound file, with a cover picture if asked for."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame" if path.suffix == ".mp3" else "aac", rate=32000, layout="mono")
        picture = None
        if cover:
            picture = out.add_stream("mjpeg", rate=25)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(flat(90), format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            packets = picture.encode(frame) + picture.encode(None)
            out.start_encoding()
            out.mux(packets)
        for start in range(0, 32000, 1152):
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1152), dtype=np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts, sound.time_base = 32000, start, Fraction(1, 32000)
            out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    return path


def truncate(path: Path, share: float) -> Path:
    """Cut the file off after ``share`` of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def spoil(path: Path, numbers: Iterable[int]) -> Path:
    """Overwrite the packets of these numbers (in the order of the file) with zeros."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.pos is not None and p.size]
    for number in numbers:
        pos, size = places[number]
        data[pos : pos + size] = bytes(size)
    path.write_bytes(bytes(data))
    return path
