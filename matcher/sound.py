"""Log-mel patches of a file's sound: what a sound descriptor is made from, and which stretches have none.

Sound is mono at 16 kHz. Its power in 64 mel bands is measured every 20 ms, the logarithms of five such
measures are averaged to a *column* of 100 ms, and 20 columns are a *patch*: 64 × 20 values for two seconds.
From each band of a patch its mean over time is taken away, which takes away what a gain or an equalizer
adds, and the patch is scaled to length 1.

Silence resembles silence, and a hum resembles any other: a patch that is too quiet, or in which hardly
anything changes, is no evidence of anything and is passed over.

Shape letters: ``n`` samples, ``c`` columns, ``p`` patches, ``b`` = 64 bands, ``w`` = 20 columns of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000
BANDS = 64
LOW_HZ, HIGH_HZ = 200.0, 6000.0
#: Samples of one Fourier transform, and from one to the next.
WINDOW, HOP = 1024, 320
#: Frequencies of the transform between the two limits.
BINS = slice(int(LOW_HZ * WINDOW / RATE_HZ), int(HIGH_HZ * WINDOW / RATE_HZ) + 1)
HOPS_A_COLUMN = 5
COLUMN_SECONDS = HOPS_A_COLUMN * HOP / RATE_HZ
COLUMNS_A_PATCH = 20
#: From the first sample of a patch to its middle: patches are told by the time of their middle, which stays
#: where it is at whatever speed they are played.
HALF_PATCH_SECONDS = ((COLUMNS_A_PATCH * HOPS_A_COLUMN - 1) * HOP + WINDOW) / 2 / RATE_HZ
RAW_DIMENSIONS = BANDS * COLUMNS_A_PATCH
#: Power that is silence, of a full scale of 1: -90 dB a band.
LEAST_POWER = 1e-9
#: How far, in nepers of power, a band may fall below its loudest column of the patch: 26 dB. What is quieter
#: is what a codec or the next sound over it makes of silence.
DEPTH = 6.0
#: A patch of which no column reaches this power in all bands together (-65 dB) is near-silence.
LEAST_LOUD = 10.0**-6.5
#: A patch in which the bands change less than this over time, in nepers of power in the mean, is a hum or a
#: hiss: white noise has 0.28, the roar of a rocket engine 0.5, speech and music 1 to 3.
LEAST_CHANGE = 0.4
#: Transforms at a time, and samples that are gathered for them: what memory takes, and few calls.
_BLOCK, _FEED_SAMPLES = 500, 10 * RATE_HZ


@cache
def mel_bank() -> NDArray[np.float32]:
    """(f, b) triangular filters, even on the mel scale ``2595 log10(1 + f / 700)``.

    Rows are the ``f`` frequencies of :data:`BINS`; the other ones are in no filter.
    """
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (LOW_HZ, HIGH_HZ))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    bins = np.arange(BINS.start, BINS.stop) * RATE_HZ / WINDOW
    rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    bank: NDArray[np.float32] = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return bank


@cache
def _window() -> NDArray[np.float32]:
    """(WINDOW,) periodic Hann, scaled so that the powers of all frequencies, negative ones too, add up to the
    mean square of the samples.
    """
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
    scaled: NDArray[np.float32] = (hann / np.sqrt(WINDOW * np.sum(hann**2))).astype(np.float32)
    return scaled


def mel_columns(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The whole columns that ``samples`` hold.

    Args:
        samples: (n,) mono at ``RATE_HZ``, full scale 1.

    Returns:
        (c, b) mean logarithm of the power in each band; the column ``i`` begins at sample ``1600 i``.
    """
    count = (samples.size - WINDOW) // HOP + 1 if samples.size >= WINDOW else 0
    count -= count % HOPS_A_COLUMN
    if count <= 0:
        return np.zeros((0, BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP][:count]
    logs = np.concatenate([_log_bands(frames[i : i + _BLOCK]) for i in range(0, count, _BLOCK)])
    mean: NDArray[np.float32] = logs.reshape(-1, HOPS_A_COLUMN, BANDS).mean(axis=1)
    return mean


def _log_bands(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, WINDOW) samples to (n, b) logarithms of power."""
    spectrum = np.fft.rfft(frames * _window(), axis=1)[:, BINS]
    power = spectrum.real**2 + spectrum.imag**2
    # n transforms, f frequencies, b bands; see Whitening.apply for why this is no BLAS product.
    bands = np.einsum("nf,fb->nb", power, mel_bank())
    logs: NDArray[np.float32] = np.log(bands + np.float32(LEAST_POWER))
    return logs


def slowed(columns: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """The columns of a sound as it was before it was played ``speed`` times as fast, and as much higher.

    Both axes are stretched linearly between columns and between bands. Bands whose sound the playback has
    moved beyond the limits are silent.

    Args:
        columns: (c, b) from :func:`mel_columns`.
        speed: Above 0; below 1 the sound was played slower.

    Returns:
        (about c * speed, b).
    """
    if len(columns) < 2:
        return columns
    at = np.arange(0.0, len(columns) - 1 + 1e-9, 1.0 / speed)
    before = np.minimum(at.astype(np.int64), len(columns) - 2)
    share = (at - before)[:, None].astype(np.float32)
    timed = (1 - share) * columns[before] + share * columns[before + 1]
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (LOW_HZ, HIGH_HZ))
    middles = low + (high - low) * np.arange(1, BANDS + 1) / (BANDS + 1)
    heard_hz = speed * 700.0 * (10.0 ** (middles / 2595.0) - 1.0)
    bands = (2595.0 * np.log10(1.0 + heard_hz / 700.0) - low) / (high - low) * (BANDS + 1) - 1.0
    first = np.clip(bands.astype(np.int64), 0, BANDS - 2)
    part = np.clip(bands - first, 0.0, 1.0).astype(np.float32)
    out = (1 - part) * timed[:, first] + part * timed[:, first + 1]
    out[:, (bands < -0.5) | (bands > BANDS - 0.5)] = np.log(np.float32(LEAST_POWER))
    # A power stretched over more or fewer bands is not corrected: every band's mean is taken away later.
    slow: NDArray[np.float32] = out.astype(np.float32)
    return slow


@dataclass
class ColumnStream:
    """Columns of a sound that comes piece by piece: the same as of all of it at once."""

    _held: list[NDArray[np.float32]] = field(default_factory=list)
    _n_held: int = 0
    _columns: list[NDArray[np.float32]] = field(default_factory=list)

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take in the next (n,) samples."""
        self._held.append(samples)
        self._n_held += samples.size
        if self._n_held >= _FEED_SAMPLES:
            self.settle()

    def columns(self) -> NDArray[np.float32]:
        """(c, b) of everything so far; see :func:`mel_columns`."""
        self.settle()
        return np.concatenate([np.zeros((0, BANDS), np.float32), *self._columns])

    def settle(self) -> None:
        """Measure what was gathered, and hold no more than the samples that further columns need."""
        held = np.concatenate([np.zeros(0, np.float32), *self._held])
        found = mel_columns(held)
        self._columns.append(found)
        rest = held[len(found) * HOPS_A_COLUMN * HOP :].copy()  # a view would hold all of them
        self._held, self._n_held = [rest], rest.size


@dataclass(frozen=True)
class Patches:
    """Patches of a sound that say something.

    Attributes:
        rows: (p,) the first column of each, ascending.
        values: (p, b * w) float32 of length 1, band by band.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]


def patches(columns: NDArray[np.float32], step: int) -> Patches:
    """Cut columns into patches, one every ``step`` columns, and leave out silence and hums.

    Args:
        columns: (c, b) from :func:`mel_columns`.
        step: Columns from one patch to the next, at least 1.
    """
    if step < 1:
        raise ValueError(f"step must be at least 1, got {step}")
    if len(columns) < COLUMNS_A_PATCH:
        return Patches(np.zeros(0, np.int64), np.zeros((0, RAW_DIMENSIONS), np.float32))
    # (p, b, w)
    cut = np.lib.stride_tricks.sliding_window_view(columns, COLUMNS_A_PATCH, axis=0)[::step]
    deep = np.maximum(cut, cut.max(axis=2, keepdims=True) - np.float32(DEPTH))
    change = deep - deep.mean(axis=2, keepdims=True)
    # The loudest column of all bands together; the logarithm's mean is a little less than the mean's.
    loud = np.exp(cut).sum(axis=1).max(axis=1)
    told = (loud >= LEAST_LOUD) & (change.std(axis=2).mean(axis=1) >= LEAST_CHANGE)
    values = change[told].reshape(-1, RAW_DIMENSIONS)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return Patches(np.flatnonzero(told) * step, values)
