"""What is known of a clip before anything is fused, and its embedding where no model is trained.

Apart from the torch modules, so that a store without a trained model never imports torch.

Shape letters: ``B`` clips, ``T`` frames or sound patches of one clip, ``D`` dimensions of a modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from matcher.encoders.base import unit_rows

Modality = Literal["picture", "sound", "text"]
#: In the order in which vectors are joined and states are counted.
MODALITIES: tuple[Modality, ...] = get_args(Modality)


class ModalityState(IntEnum):
    """What is known of one modality of one clip; the values are those of ``ClipBatch.states``."""

    #: It is there.
    PRESENT = 0
    #: Nobody knows: no sound track was read, no title was given.
    MISSING = 1
    #: It was looked at and there is nothing: a silent track, an empty title.
    SILENT = 2
    #: It is there, and known to be another's: music laid over what the clip was cut from.
    REPLACED = 3


@dataclass(frozen=True)
class ClipFeatures:
    """One clip's descriptors by modality.

    Attributes:
        picture: (T, D) frames in time order; None where nobody knows, no rows where there is nothing to see.
        sound: (T, D) patches likewise.
        text: (D,) vector; None where nobody knows, all zeros where the text is known to be empty.
        is_sound_replaced: The sound is known not to be that of the pictures. It is kept, and says nothing.

    Raises:
        ValueError: An array has another number of axes, or holds a NaN or an infinity; or there is no sound
            to be replaced.
    """

    picture: NDArray[np.float32] | None = None
    sound: NDArray[np.float32] | None = None
    text: NDArray[np.float32] | None = None
    is_sound_replaced: bool = False

    def __post_init__(self) -> None:
        for name in MODALITIES:
            found = self.of(name)
            axes = 1 if name == "text" else 2
            if found is not None and found.ndim != axes:
                raise ValueError(f"{name} must have {axes} axes, got shape {found.shape}")
            if found is not None and not np.isfinite(found).all():
                raise ValueError(f"{name} holds numbers that are not finite")
        if self.is_sound_replaced and (self.sound is None or len(self.sound) == 0):
            raise ValueError("no sound is there to be replaced")

    def of(self, modality: Modality) -> NDArray[np.float32] | None:
        """The array of one modality."""
        found: NDArray[np.float32] | None = getattr(self, modality)
        return found

    def state(self, modality: Modality) -> ModalityState:
        """Whether a modality is there, silent, missing, or another's."""
        found = self.of(modality)
        if found is None:
            return ModalityState.MISSING
        if modality == "sound" and self.is_sound_replaced:
            return ModalityState.REPLACED
        is_there = found.any() if modality == "text" else len(found) > 0
        return ModalityState.PRESENT if is_there else ModalityState.SILENT


def check_dimensions(clips: Sequence[ClipFeatures], dimensions: Sequence[int]) -> None:
    """Raise ValueError unless every array of ``clips`` has the dimensions of its modality.

    ``dimensions`` are those of picture, sound and text.
    """
    if len(dimensions) != len(MODALITIES):
        raise ValueError(f"dimensions must be of {', '.join(MODALITIES)}; got {len(dimensions)} numbers")
    for number, clip in enumerate(clips):
        for modality, d in zip(MODALITIES, dimensions, strict=True):
            found = clip.of(modality)
            if found is not None and found.shape[-1] != d:
                raise ValueError(
                    f"clip {number} has a {modality} of {found.shape[-1]} dimensions, wanted {d}"
                )


def parameter_free_embedding(
    clips: Sequence[ClipFeatures], *, dimensions: Sequence[int]
) -> NDArray[np.float32]:
    """Join each modality's mean direction: what stands in for a trained clip model.

    Of rows of length 1 the mean is the shorter the less they agree, and it is left so: frames that all show
    one set say more of the program than patches of sound that have nothing in common. (Each mean scaled to
    length 1, windows of a program's second half found its first half among 114 programs in 9 instead of 35 of
    100 cases, for the sound's mean, of a length of 0.15, then counted as much as the picture's, of 0.92.) A
    modality that is not there, or another's, is zeros.

    Args:
        clips: B of them.
        dimensions: D of picture, sound and text.

    Returns:
        (B, sum of D) float32 rows of length 1; a row of zeros where a clip has nothing at all.

    Raises:
        ValueError: An array has other dimensions.
    """
    check_dimensions(clips, dimensions)
    joined = [
        np.stack([_mean(_own(clip, modality), d) for clip in clips]) if clips else np.zeros((0, d))
        for modality, d in zip(MODALITIES, dimensions, strict=True)
    ]
    return unit_rows(np.concatenate(joined, axis=1))


def _own(clip: ClipFeatures, modality: Modality) -> NDArray[np.float32] | None:
    return clip.of(modality) if clip.state(modality) == ModalityState.PRESENT else None


def _mean(found: NDArray[np.float32] | None, d: int) -> NDArray[np.float64]:
    """(T, D) or (D,) → (D,) mean of the rows at length 1; in double precision, or their order would show."""
    if found is None or len(found) == 0:
        return np.zeros(d)
    rows = found.reshape(-1, d).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    mean: NDArray[np.float64] = (rows / np.maximum(lengths, 1e-12)).mean(axis=0)
    return mean
