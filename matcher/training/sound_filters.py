"""Sound through FFmpeg: files read, filters run and low bit rates coded, all in memory.

A seam of its own, because the edits that training makes are FFmpeg's filters and coder (what uploaders
use), and no other part of the package edits anything. Everything here is mono at ``RATE_HZ``.

Shape letters: ``n`` samples.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from matcher.sound import RATE_HZ

Samples = NDArray[np.float32]

#: Samples of a block of AAC; the coder puts one before the first sample ("priming"), and ADTS, which has no
#: list of edits, keeps it.
_AAC_BLOCK = 1024
_BLOCK = 4096


def read_mono(path: Path) -> Samples:
    """The first sound stream of a file that :func:`matcher.decode.probe` has looked at.

    Returns:
        (n,) the mean of all channels, up to where the file is damaged; of no samples where there is none.
    """
    blocks = [np.zeros(0, np.float32)]
    with contextlib.suppress(av.FFmpegError, ValueError), av.open(f"file:{path}") as container:
        # Packed: PyAV reads past the last of eight planes.
        resampler = av.AudioResampler(format="flt", rate=RATE_HZ)
        for stream in container.streams.audio[:1]:
            for frame in itertools.chain(container.decode(stream), [None]):
                for block in resampler.resample(frame):
                    channels = block.to_ndarray().reshape(-1, block.layout.nb_channels)
                    blocks.append(channels.mean(axis=1))
    return np.concatenate(blocks)


def filtered(samples: Samples, *filters: str) -> Samples:
    """Run filters one after the other.

    Args:
        samples: (n,).
        filters: As FFmpeg writes them, ``name=arguments``.

    Returns:
        What comes out at the end, at ``RATE_HZ``.
    """
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=RATE_HZ, format="fltp", layout="mono", time_base=Fraction(1, RATE_HZ)
    )
    last = source
    out = f"aformat=sample_fmts=fltp:sample_rates={RATE_HZ}:channel_layouts=mono"
    for words in (*filters, out, "abuffersink"):
        name, _, arguments = words.partition("=")
        link = graph.add(name, arguments) if arguments else graph.add(name)
        last.link_to(link)
        last = link
    graph.configure()
    blocks = [np.zeros(0, np.float32)]
    for frame in (*_frames(samples, RATE_HZ, _BLOCK), None):
        source.push(frame)
        while True:
            try:
                blocks.append(_samples(cast(AudioFrame, last.pull())))
            except (av.BlockingIOError, av.EOFError):
                break
    return np.concatenate(blocks)


def through_aac(samples: Samples, bits_a_second: int, *, rate_hz: int = RATE_HZ) -> Samples:
    """Code and decode.

    Args:
        samples: (n,).
        bits_a_second: Of the coder.
        rate_hz: At which it is coded.

    Returns:
        (n,) in step with ``samples``.
    """
    if not samples.size:
        return samples
    given = samples if rate_hz == RATE_HZ else _resampled(samples, RATE_HZ, rate_hz)
    file = io.BytesIO()
    with av.open(file, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=rate_hz, layout="mono", bit_rate=bits_a_second)
        for frame in _frames(given, rate_hz, _AAC_BLOCK):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as coded:
        blocks = [np.zeros(0, np.float32), *(_samples(frame) for frame in coded.decode(audio=0))]
    decoded = np.concatenate(blocks)[_AAC_BLOCK:]
    if rate_hz != RATE_HZ:
        decoded = _resampled(decoded, rate_hz, RATE_HZ)
    return fitted(decoded, samples.size)


def fitted(samples: Samples, size: int) -> Samples:
    """Cut, or filled up with silence, to (size,)."""
    return np.pad(samples[:size], (0, max(0, size - samples.size)))


def _resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=to_hz)
    frames = [*_frames(samples, from_hz, _BLOCK), None]
    return np.concatenate([_samples(block) for frame in frames for block in resampler.resample(frame)])


def _frames(samples: Samples, rate_hz: int, size: int) -> Iterator[AudioFrame]:
    """Blocks of ``size``; the last one is filled up, for a coder would do so with whatever was in memory."""
    for start in range(0, samples.size, size):
        block = fitted(samples[start : start + size], size)[None]
        # One channel is the same packed and planar; the AAC coder takes planar alone.
        frame = AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        frame.pts = start
        frame.time_base = Fraction(1, rate_hz)
        yield frame


def _samples(frame: AudioFrame) -> Samples:
    samples: Samples = frame.to_ndarray()[0].astype(np.float32)
    return samples
