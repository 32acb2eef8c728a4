"""A trained clip model over many clips, batch by batch.

Shape letters: ``N`` clips, ``B`` of them in a batch, ``D`` dimensions of the embedding, ``C`` classes of a
head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.folded import Precision, folded
from matcher.training.fusion_data import ClipSource
from matcher.training.prefetch import prefetched
from matcher.training.processes import choose_device

#: Large enough for the products, small enough for the caches.
BATCH_SIZE = 256


@dataclass(frozen=True)
class Answered:
    """What the model says of some clips.

    Attributes:
        rows: (B,) positions in the source.
        embedding: (B, D) float32 rows of length 1.
        log_odds: By head (B, C) float32.
    """

    rows: NDArray[np.int64]
    embedding: NDArray[np.float32]
    log_odds: dict[str, NDArray[np.float32]]


def answers(
    model: ClipModel,
    source: ClipSource,
    *,
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> Iterator[Answered]:
    """Ask the model about every clip, in order, never holding more than a few batches.

    Args:
        model: It stays as it is: a copy is folded (:mod:`matcher.fusion.folded`) and asked.
        source: Features.
        rows: Which of them; all where None.
        batch_size: Clips at once.
        device: As :func:`~matcher.training.processes.choose_device` takes it.
        precision: Of the products: fp32; bf16, which is 2 times as fast where a processor has instructions
            for it; or auto, which is bf16 just there.

    Yields:
        One batch after the other.

    Raises:
        InputError: There is no such device.
        ValueError: The source has other dimensions than the model.
    """
    chosen = choose_device(device)
    rows = np.arange(len(source)) if rows is None else rows
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    fast = folded(model, chosen, precision)

    def read(part: NDArray[np.int64]) -> tuple[NDArray[np.int64], ClipBatch]:
        return part, source.batch(part)

    with prefetched(parts, read) as batches:
        for part, batch in batches:
            with torch.inference_mode():
                said = fast(batch.to(chosen))
                yield Answered(
                    part,
                    said.embedding.float().cpu().numpy(),
                    {name: one.float().cpu().numpy() for name, one in said.log_odds.items()},
                )


def embed(
    model: ClipModel,
    source: ClipSource,
    *,
    rows: NDArray[np.int64] | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """The fused embedding of every clip: (N, D) float32, rows of length 1; see :func:`answers`."""
    found = answers(model, source, rows=rows, batch_size=batch_size, device=device)
    return np.concatenate(
        [np.zeros((0, model.config.d_embedding), np.float32), *(one.embedding for one in found)]
    )
