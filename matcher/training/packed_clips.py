"""Many clips' features in a few arrays, from which a batch is one gather.

Shape letters: ``N`` clips, ``B`` of them in a batch, ``T`` rows (frames, sound patches) of the longest, ``D``
dimensions of a modality, ``L`` rows of all clips, ``M`` modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.fusion.batch import ClipBatch
from matcher.fusion.features import MODALITIES, ClipFeatures, ModalityState, check_dimensions

#: Half precision keeps a unit vector's cosines to about three places, in half of the memory.
Floats = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class Ragged:
    """Arrays (T, D) of unequal length, end to end.

    Attributes:
        rows: (L, D) float16 or float32.
        starts: (N + 1,) int64: the rows of clip i are ``starts[i]`` to before ``starts[i + 1]``.

    Raises:
        ValueError: The starts do not run from 0 to L, or another shape or type.
    """

    rows: Floats
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.dtype not in (np.float16, np.float32):
            raise ValueError(
                f"rows must be (L, D) float16 or float32, got {self.rows.shape} {self.rows.dtype}"
            )
        ends = self.starts[[0, -1]].tolist() if self.starts.ndim == 1 and len(self.starts) else []
        if ends != [0, len(self.rows)] or (np.diff(self.starts) < 0).any():
            raise ValueError(f"starts must rise from 0 to {len(self.rows)}")

    def padded(self, clips: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
        """Rows of ``clips`` (B,), padded with zeros: (B, T, D), and the mask (B, T); T is at least 1."""
        starts = self.starts[clips]
        lengths = self.starts[clips + 1] - starts
        longest = max(1, int(lengths.max(initial=0)))
        places = np.arange(longest)
        mask = places < lengths[:, None]
        if len(self.rows) == 0:
            return np.zeros((*mask.shape, self.rows.shape[1]), self.rows.dtype), mask
        # Past a clip's end stands whatever row is there; it is zeroed after.
        wanted = np.minimum(starts[:, None] + places, len(self.rows) - 1)
        found: Floats = np.take(self.rows, wanted, axis=0)
        if not mask.all():
            found[~mask] = 0.0
        return found, mask


@dataclass(frozen=True)
class PackedClips:
    """Features of N clips.

    Attributes:
        picture: Frames.
        sound: Patches.
        text: (N, R) float16 or float32, zeros where there is none.
        states: (N, M) int64, values of :class:`~matcher.fusion.features.ModalityState`.

    Raises:
        ValueError: The parts are not of the same number of clips, or hold numbers that are not finite.
    """

    picture: Ragged
    sound: Ragged
    text: Floats
    states: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.states)
        counts = len(self.picture.starts) - 1, len(self.sound.starts) - 1, len(self.text)
        if counts != (n, n, n) or self.states.shape != (n, len(MODALITIES)) or self.text.ndim != 2:
            raise ValueError(f"picture, sound and text are of {counts} clips, the states of {n}")
        for name, rows in zip(MODALITIES, (self.picture.rows, self.sound.rows, self.text), strict=True):
            if not _is_finite(rows):
                raise ValueError(f"{name} holds numbers that are not finite")

    def __len__(self) -> int:
        return len(self.states)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text."""
        return self.picture.rows.shape[1], self.sound.rows.shape[1], self.text.shape[1]

    def batch(self, clips: NDArray[np.int64]) -> ClipBatch:
        """``clips`` (B,), positions in any order and any of them repeated, padded to the longest.

        The vectors stay of the type that they are kept in: batches are made in a thread, where torch would
        make them single with threads that the model is using.
        """
        picture, picture_mask = self.picture.padded(clips)
        sound, sound_mask = self.sound.padded(clips)
        parts: list[NDArray[Any]] = [
            picture, picture_mask, sound, sound_mask, self.text[clips], self.states[clips]
        ]  # fmt: skip
        return ClipBatch(*(torch.from_numpy(part) for part in parts))

    def read(self, clips: NDArray[np.int64]) -> list[ClipFeatures]:
        """The same one by one."""
        return [self._one(int(clip)) for clip in clips]

    def _one(self, clip: int) -> ClipFeatures:
        found: list[NDArray[np.float32] | None] = []
        for number, part in enumerate((self.picture, self.sound)):
            rows = part.rows[part.starts[clip] : part.starts[clip + 1]].astype(np.float32)
            found.append(None if self.states[clip, number] == ModalityState.MISSING else rows)
        text = self.text[clip].astype(np.float32)
        is_missing = self.states[clip, 2] == ModalityState.MISSING
        is_replaced = bool(self.states[clip, 1] == ModalityState.REPLACED)
        return ClipFeatures(found[0], found[1], None if is_missing else text, is_replaced)

    @classmethod
    def of(
        cls, clips: Sequence[ClipFeatures], *, dimensions: Sequence[int], dtype: type = np.float32
    ) -> PackedClips:
        """Pack ``clips``.

        Args:
            clips: N of them.
            dimensions: Of picture, sound and text.
            dtype: float32, or float16 for half the memory.

        Raises:
            ValueError: An array has other dimensions, or numbers that the type cannot hold.
        """
        check_dimensions(clips, dimensions)
        states = [[int(clip.state(modality)) for modality in MODALITIES] for clip in clips]
        text: Floats = np.zeros((len(clips), dimensions[2]), dtype)
        for row, clip in zip(text, clips, strict=True):
            if clip.text is not None:
                row[:] = clip.text
        return cls(
            _joined([clip.picture for clip in clips], dimensions[0], dtype),
            _joined([clip.sound for clip in clips], dimensions[1], dtype),
            text,
            np.array(states, np.int64).reshape(len(clips), len(MODALITIES)),
        )


def _is_finite(rows: Floats) -> bool:
    """Whether every number is one: by its exponent, as numpy takes 10 times as long for half precision."""
    if rows.dtype == np.float32:
        return bool(np.isfinite(rows).all())
    exponent = np.uint16(0x7C00)
    return not bool(((rows.view(np.uint16) & exponent) == exponent).any())


def _joined(arrays: Sequence[NDArray[np.float32] | None], d: int, dtype: type) -> Ragged:
    lengths = [0 if one is None else len(one) for one in arrays]
    rows: Floats = np.zeros((sum(lengths), d), dtype)
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    for start, one in zip(starts, arrays, strict=False):
        if one is not None:
            rows[start : start + len(one)] = one
    return Ragged(rows, starts)
