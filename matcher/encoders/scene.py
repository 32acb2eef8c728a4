"""What a second of sound is like, for what identification does not need: speech, music, laughter, crowd.

Both encoders take the log-mel columns of :mod:`matcher.sound` and give one vector a second. ``melstats``
measures the same statistics of every sound and was never trained; ``scene@FILE`` is a small net that
:mod:`matcher.training.scene` trains on labelled sounds. A second of silence is a row of zeros from both, and
no other second is: silence is a known state, not a sound.

A column is 100 ms long, so that nothing faster than 5 Hz shows: laughter of six bursts a second looks like
four, half as deep.

Shape letters: ``c`` columns, ``b`` = 64 bands, ``s`` seconds, ``w`` = 30 columns around a second, ``d`` = 64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from matcher.encoders.base import ModelInfo, fingerprint
from matcher.errors import InputError
from matcher.sound import BANDS, COLUMN_SECONDS, DEPTH, LEAST_LOUD

SPEC, TRAINED = "melstats", "scene"
D = 64
COLUMNS_A_SECOND = round(1 / COLUMN_SECONDS)
#: Columns before and after a second that are looked at besides.
CONTEXT_COLUMNS = COLUMNS_A_SECOND
#: Part of the fingerprint: raise it when anything here changes the numbers.
REVISION = "melstats-r1"
#: The modulations, as multiples of 1/3 Hz: sustained sound; beats; syllables; quick bursts.
_MODULATIONS = (slice(1, 5), slice(5, 9), slice(9, 13), slice(13, 16))
#: Nepers of power below the loudest column of the window at which a column is a pause.
_PAUSE = 3.0
#: Power of modulation, in squared nepers, that is none.
_NO_MODULATION = 1e-3
#: Seconds at a time: a film of hours has 70,000 columns.
_BLOCK_SECONDS = 600


class SceneEncoder(Protocol):
    """Describes a sound second by second."""

    @property
    def info(self) -> ModelInfo:
        """Words, fingerprint and dimensions."""
        ...

    def describe(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """(c, 64) log-mel columns → (s, 64), a row a begun second; zeros where it is silent."""
        ...


def is_silent(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(s, d) of a :class:`SceneEncoder` → (s,) which of the seconds are silent."""
    silent: NDArray[np.bool_] = np.logical_not(vectors.any(axis=1))
    return silent


def whole_seconds(columns: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Fill up the last second and find the silent ones.

    Args:
        columns: (c, b) from :func:`matcher.sound.mel_columns`.

    Returns:
        (10 s, b), the last column repeated to the end of its second, and (s,) whether no column of a second
        reaches -65 dB.

    Raises:
        ValueError: They have another shape, or hold a NaN or an infinity.
    """
    if columns.ndim != 2 or columns.shape[1] != BANDS:
        raise ValueError(f"columns must be (c, {BANDS}), got {columns.shape}")
    if not np.isfinite(columns).all():
        raise ValueError("columns hold numbers that are not finite")
    missing = -len(columns) % COLUMNS_A_SECOND
    filled = np.concatenate([columns, np.repeat(columns[-1:], missing, axis=0)]).astype(np.float32)
    loud = np.exp(filled).sum(axis=1).reshape(-1, COLUMNS_A_SECOND).max(axis=1, initial=0.0)
    return filled, loud < LEAST_LOUD


class MelStatistics:
    """The fixed statistics of a second and of the one before and after it.

    A band is looked at down to 26 dB below its loudest column of the three seconds. In nepers of power, and
    scaled so that over speech, music, laughter and crowds most numbers deviate by 0.3 to 1.5:

    ======= ================================================================================================
    0–15    level of 16 groups of 4 bands over that of all, mean of the second (halved)
    16–31   deviation of these groups' bands over the second
    32–39   flux of 8 groups of 8 bands: the mean absolute change from column to column
    40–55   modulation of 4 groups of 16 bands over three seconds: the share of its power at 0.3–1.3, 1.7–2.7,
            3–4 (syllables: the 4 Hz of speech, Houtgast and Steeneken 1985) and 4.3–5 Hz (doubled)
    56, 57  peaks: how much bands differ from the middle of their neighbours, as harmonics make them; mean
            and deviation over the second
    58, 59  centre of the power over the bands, -2 to 2; and its deviation (times 4)
    60      pauses: the share of columns 13 dB below the loudest of the three seconds (doubled)
    61      deviation of the loudness over three seconds
    62      steadiness: the mean cosine of successive columns less their means
    63      1: there is sound
    ======= ================================================================================================
    """

    def __init__(self) -> None:
        self.info = ModelInfo(SPEC, fingerprint([REVISION]), D)

    def describe(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """(c, 64) → (s, 64); see the class."""
        filled, silent = whole_seconds(columns)
        if len(filled) == 0:
            return np.zeros((0, D), np.float32)
        around = np.pad(filled, ((CONTEXT_COLUMNS, CONTEXT_COLUMNS), (0, 0)), mode="edge")
        span = COLUMNS_A_SECOND + 2 * CONTEXT_COLUMNS
        # (s, b, w) → (s, w, b)
        windows = np.lib.stride_tricks.sliding_window_view(around, span, axis=0)[::COLUMNS_A_SECOND]
        windows = windows.transpose(0, 2, 1)
        blocks = [
            _statistics(windows[start : start + _BLOCK_SECONDS])
            for start in range(0, len(windows), _BLOCK_SECONDS)
        ]
        vectors = np.concatenate(blocks).astype(np.float32)
        vectors[silent] = 0.0
        return vectors


def _grouped(x: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """(…, b) → (…, groups): the means of bands next to each other."""
    means: NDArray[np.float64] = x.reshape(*x.shape[:-1], groups, -1).mean(axis=-1)
    return means


def _statistics(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(s, w, b) → (s, d)."""
    deep = np.maximum(windows, windows.max(axis=1, keepdims=True) - DEPTH).astype(np.float64)
    second = slice(CONTEXT_COLUMNS, CONTEXT_COLUMNS + COLUMNS_A_SECOND)
    own = deep[:, second]
    level = own.mean(axis=1)
    # From the column before the second on.
    change = np.abs(np.diff(deep[:, second.start - 1 : second.stop], axis=1)).mean(axis=1)
    loudness = np.log(np.exp(deep).sum(axis=2))
    pauses = (loudness < loudness.max(axis=1, keepdims=True) - _PAUSE).mean(axis=1)
    peaks = np.abs(np.diff(own, n=2, axis=2)).mean(axis=2)
    power = np.exp(own)
    centre = (power @ np.linspace(-2.0, 2.0, BANDS)) / power.sum(axis=2)
    return np.concatenate(
        [
            _grouped(level - level.mean(axis=1, keepdims=True), 16) / 2.0,
            _grouped(own.std(axis=1), 16),
            _grouped(change, 8),
            _modulation(deep).reshape(len(deep), -1) * 2.0,
            np.stack(
                [
                    peaks.mean(axis=1), peaks.std(axis=1), centre.mean(axis=1), centre.std(axis=1) * 4.0,
                    pauses * 2.0, loudness.std(axis=1), _steadiness(own), np.ones(len(deep)),
                ],
                axis=1,
            ),
        ],
        axis=1,
    )  # fmt: skip


def _modulation(deep: NDArray[np.float64]) -> NDArray[np.float64]:
    """(s, w, b) → (s, 4 groups, 4 ranges): each range's share of the power of modulation."""
    slow = _grouped(deep, 4)
    hann = np.hanning(slow.shape[1] + 2)[1:-1, None]
    spectrum = np.abs(np.fft.rfft((slow - slow.mean(axis=1, keepdims=True)) * hann, axis=1)) ** 2
    ranges = np.stack([spectrum[:, part].sum(axis=1) for part in _MODULATIONS], axis=2)
    shares: NDArray[np.float64] = ranges / (ranges.sum(axis=2, keepdims=True) + _NO_MODULATION)
    return shares


def _steadiness(own: NDArray[np.float64]) -> NDArray[np.float64]:
    """(s, 10, b) → (s,)."""
    shape = own - own.mean(axis=2, keepdims=True)
    shape /= np.linalg.norm(shape, axis=2, keepdims=True) + 1e-9
    steady: NDArray[np.float64] = (shape[:, 1:] * shape[:, :-1]).sum(axis=2).mean(axis=1)
    return steady


def load_scene_encoder(spec: str = SPEC) -> SceneEncoder:
    """The encoder of some words: ``melstats``, or ``scene@FILE`` with a trained net, which runs on the CPU.

    Raises:
        InputError: The words name none, or the file is missing or no such net.
    """
    if spec == SPEC:
        return MelStatistics()
    name, _, file = spec.partition("@")
    if name == TRAINED and file:
        from matcher.encoders.scene_net import load_trained_scene

        return load_trained_scene(Path(file), spec=spec)
    raise InputError(f"unknown scene encoder {spec!r}: use {SPEC} or {TRAINED}@FILE")
