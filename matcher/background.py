"""What chance looks like: frames of many programs, frozen, against which every similarity is measured.

A black frame, a title card, a face before a grey wall, a quarter of a sky: such frames resemble
something in every program, and in a large catalogue something resembles them closely. How closely is a
property of the frame, not of the candidate, and it is measured on a fixed set of frames: a new program
moves the score of no clip that it does not itself resemble.

Shape letters: ``nq`` frames, ``m`` frames of the background, ``p`` its programs, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: The best program of the background is passed over, since it may be the clip's own; the level is the
#: mean of the next ones.
SKIPPED = 1
AVERAGED = 5


@dataclass(frozen=True)
class Background:
    """Frames of many programs, grouped by program.

    Attributes:
        vectors: (m, d) float32, each of length 1.
        program: (m,) number of each frame's program, ascending.
        least: Level where the background says less.
    """

    vectors: NDArray[np.float32]
    program: NDArray[np.int32]
    least: float

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.program.shape != (self.vectors.shape[0],):
            raise ValueError(f"program {self.program.shape} does not fit vectors {self.vectors.shape}")
        if self.program.size > 1 and bool(np.any(np.diff(self.program) < 0)):
            raise ValueError("frames must be grouped by program, ascending")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.r_[True, np.diff(self.program) != 0])

    @property
    def n_programs(self) -> int:
        """How many programs it is drawn from."""
        return int(self._starts.size) if self.program.size else 0

    def levels(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What chance gives each frame.

        Args:
            vectors: (nq, d).

        Returns:
            (nq,) mean over the background's second to sixth best program of the frame's best similarity
            there, and no less than ``least``.
        """
        least: NDArray[np.float32] = np.full(len(vectors), self.least, np.float32)
        if self.n_programs <= SKIPPED or len(vectors) == 0:
            return least
        best = np.maximum.reduceat(vectors @ self.vectors.T, self._starts, axis=1)
        ranked = -np.sort(-best, axis=1)[:, SKIPPED : SKIPPED + AVERAGED]
        level: NDArray[np.float32] = np.maximum(least, ranked.mean(axis=1))
        return level

    def without(self, program: int) -> Background:
        """The background less one program."""
        kept = self.program != program
        return Background(self.vectors[kept], self.program[kept], self.least)

    def to_bytes(self) -> bytes:
        """What a calibration's version hashes."""
        return self.vectors.astype(np.float16).tobytes() + self.program.astype(np.int32).tobytes()

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a file holds it; vectors as float16."""
        return {"vectors": self.vectors.astype(np.float16), "program": self.program}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, NDArray[np.generic]], *, least: float) -> Background:
        """The reverse of :meth:`tensors`."""
        return cls(tensors["vectors"].astype(np.float32), tensors["program"].astype(np.int32), least)

    @classmethod
    def empty(cls, d: int, *, least: float) -> Background:
        """One that says ``least`` of every frame."""
        return cls(np.zeros((0, d), np.float32), np.zeros(0, np.int32), least)
