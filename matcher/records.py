"""The records that flow through the pipeline: frozen, and checked when made.

Shape letters: ``n`` frames, ``d`` descriptor dimensions. Times are seconds from the first frame
of their own file. Similarities are cosines: higher is better.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Decision = Literal["linked", "review", "none"]


@dataclass(frozen=True)
class Frame:
    """One decoded picture.

    Attributes:
        t_seconds: Presentation time, from the first frame of the file.
        image: (height, width, 3) uint8 sRGB, upright, square pixels, at most as large as asked for.
    """

    t_seconds: float
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (h, w, 3) uint8, got {self.image.shape} {self.image.dtype}")


@dataclass(frozen=True)
class Descriptors:
    """The unit-length descriptors of one file's informative frames, in time order.

    Attributes:
        t_seconds: (n,) float64, strictly increasing.
        vectors: (n, d) float32, each of length 1.
        duration_seconds: Length of the file, frames skipped as blank included.
        frames_seen: Frames decoded, blank ones included.
    """

    t_seconds: NDArray[np.float64]
    vectors: NDArray[np.float32]
    duration_seconds: float
    frames_seen: int

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.t_seconds.shape != (self.vectors.shape[0],):
            raise ValueError(f"t_seconds {self.t_seconds.shape} does not fit vectors {self.vectors.shape}")
        if self.t_seconds.size > 1 and not bool(np.all(np.diff(self.t_seconds) > 0)):
            raise ValueError("t_seconds must be strictly increasing")

    def __len__(self) -> int:
        return int(self.t_seconds.size)
