"""Clips of unequal length as tensors.

Shape letters: ``B`` clips, ``T`` frames and ``S`` sound patches of the longest, ``P``, ``Q`` and ``R``
dimensions of picture, sound and text, ``M`` modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.fusion.features import MODALITIES, ClipFeatures, ModalityState, check_dimensions


@dataclass(frozen=True)
class ClipBatch:
    """What the clip model takes.

    Vectors that wait may be of half precision, as they are stored; :meth:`to` makes them single.

    Attributes:
        picture: (B, T, P) frames, padded.
        picture_mask: (B, T) bool, true where there is a frame.
        sound: (B, S, Q) patches, padded.
        sound_mask: (B, S) bool.
        text: (B, R).
        states: (B, M) int64, values of :class:`~matcher.fusion.features.ModalityState`, in the order of
            ``MODALITIES``. What is not present is not looked at.

    Raises:
        ValueError: The shapes or types disagree, or a clip's picture or sound is said to be present where the
            mask has none of it.
    """

    picture: torch.Tensor
    picture_mask: torch.Tensor
    sound: torch.Tensor
    sound_mask: torch.Tensor
    text: torch.Tensor
    states: torch.Tensor

    def __post_init__(self) -> None:
        n = len(self.states)
        if self.states.shape != (n, len(MODALITIES)) or self.states.dtype != torch.int64:
            raise ValueError(
                f"states must be (B, {len(MODALITIES)}) int64, got {tuple(self.states.shape)}"
                f" {self.states.dtype}"
            )
        if self.text.ndim != 2 or len(self.text) != n:
            raise ValueError(f"text must be ({n}, R), got {tuple(self.text.shape)}")
        for number, name in enumerate(MODALITIES[:2]):
            rows, mask = getattr(self, name), getattr(self, f"{name}_mask")
            if rows.ndim != 3 or len(rows) != n or mask.shape != rows.shape[:2] or mask.dtype != torch.bool:
                raise ValueError(
                    f"{name} and its mask must be ({n}, T, D) and ({n}, T) bool, got {tuple(rows.shape)} and"
                    f" {tuple(mask.shape)} {mask.dtype}"
                )
            if ((self.states[:, number] == ModalityState.PRESENT) & ~mask.any(dim=1)).any():
                raise ValueError(f"a clip's {name} is said to be present and has no rows")

    def __len__(self) -> int:
        return len(self.states)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        """The same on a device; vectors, not masks and states, in a type."""

        def moved(x: torch.Tensor) -> torch.Tensor:
            return x.to(device, dtype) if x.is_floating_point() else x.to(device)

        return type(self)(**{field.name: moved(getattr(self, field.name)) for field in fields(self)})

    @classmethod
    def of(cls, clips: Sequence[ClipFeatures], *, dimensions: Sequence[int]) -> ClipBatch:
        """Pad ``clips`` to one length.

        Args:
            clips: B of them.
            dimensions: P, Q and R.

        Raises:
            ValueError: An array has other dimensions.
        """
        check_dimensions(clips, dimensions)
        picture, picture_mask = _padded([clip.picture for clip in clips], dimensions[0])
        sound, sound_mask = _padded([clip.sound for clip in clips], dimensions[1])
        text, _ = _padded([None if clip.text is None else clip.text[None] for clip in clips], dimensions[2])
        states = [[int(clip.state(modality)) for modality in MODALITIES] for clip in clips]
        return cls(
            picture, picture_mask, sound, sound_mask, text[:, 0],
            torch.tensor(states, dtype=torch.int64).reshape(len(clips), len(MODALITIES)),
        )  # fmt: skip


def _padded(arrays: Sequence[NDArray[np.float32] | None], d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Arrays (T, d), or None for no rows, as (B, longest T, d) and their mask; at least one row long."""
    lengths = np.array([0 if one is None else len(one) for one in arrays], dtype=np.int64)
    longest = max(1, int(lengths.max(initial=0)))
    rows: NDArray[Any] = np.zeros((len(arrays), longest, d), np.float32)
    for row, length, one in zip(rows, lengths, arrays, strict=True):
        if one is not None:
            row[:length] = one
    return torch.from_numpy(rows), torch.from_numpy(np.arange(longest) < lengths[:, None])
