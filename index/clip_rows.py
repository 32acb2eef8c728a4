"""Descriptors of many kept clips at once, as the columns of Arrow that they are stored in.

Shape letters: ``n`` clips, ``r`` descriptors of frames and ``rs`` of sounds of all of them, ``d`` and ``ds``
their dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.link_rows import Ragged, ragged

CLIP_COLUMNS = ("clip_id", "kept_at", "vectors", "sound_vectors")


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Some kept clips, in no promised order.

    Attributes:
        clip_ids: Of each.
        kept_at: When each one's descriptors were kept.
        frames: (r, d) float16: of each clip its first look, then the further ones.
        frame_starts: (n + 1,) where each clip's frames begin, and the end.
        sounds: (rs, ds) float16.
        sound_starts: (n + 1,) likewise.
    """

    clip_ids: list[str]
    kept_at: list[str]
    frames: NDArray[np.float16]
    frame_starts: NDArray[np.int64]
    sounds: NDArray[np.float16]
    sound_starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.clip_ids)

    @classmethod
    def of(cls, batch: pa.RecordBatch, d: int, sound_d: int) -> ClipBatch:
        """From a batch of :data:`CLIP_COLUMNS`; no vector is copied."""
        frames = ragged(batch["vectors"], "<f2")
        empty = Ragged(np.zeros(0, "<f2"), np.zeros(len(batch) + 1, np.int64))
        sounds = ragged(batch["sound_vectors"], "<f2") if "sound_vectors" in batch.schema.names else empty
        # A reader may not know yet which model made the first sounds: to it, they are not there.
        sounds = sounds if sound_d else empty
        return cls(
            batch["clip_id"].to_pylist(), batch["kept_at"].to_pylist(),
            frames.values.reshape(-1, d), frames.starts // d,
            sounds.values.reshape(-1, max(sound_d, 1)), sounds.starts // max(sound_d, 1),
        )  # fmt: skip
