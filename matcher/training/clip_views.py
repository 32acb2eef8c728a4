"""A clip as it is shown in one step: a few of its frames, others each time.

Shape letters: ``B`` clips, ``T`` frames of the longest, ``n`` of them that are shown, ``D`` dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from matcher.fusion.batch import ClipBatch


def fewer_rows(batch: ClipBatch, n: int | None, rng: np.random.Generator) -> ClipBatch:
    """The same clips with at most ``n`` of their frames and of their sound patches, drawn evenly.

    They stay in order of time. Where ``n`` is None, or all clips are as short, the batch itself.
    """
    if n is None:
        return batch
    picture, picture_mask = _fewer(batch.picture, batch.picture_mask, n, rng)
    sound, sound_mask = _fewer(batch.sound, batch.sound_mask, n, rng)
    return replace(batch, picture=picture, picture_mask=picture_mask, sound=sound, sound_mask=sound_mask)


def _fewer(
    x: torch.Tensor, mask: torch.Tensor, n: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, D) and (B, T) → (B, n, D) and (B, n)."""
    if x.shape[1] <= n:
        return x, mask
    # By numpy: torch would gather with threads that the model is using.
    counts = mask.numpy()
    luck = rng.random(counts.shape)
    luck[~counts] = 2.0  # what does not count is taken only where there is not enough that does
    chosen = np.sort(np.argpartition(luck, n - 1, axis=1)[:, :n], axis=1)
    clips = np.arange(len(chosen))[:, None]
    return torch.from_numpy(x.numpy()[clips, chosen]), torch.from_numpy(counts[clips, chosen])
