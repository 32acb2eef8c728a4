"""Clips of one program near each other, those of different ones apart: the supervised contrastive loss.

Shape letters: ``N`` clips, ``V`` views of clips, ``D`` dimensions of the embedding.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.training.fusion_data import NO_PROGRAM, Labelled

#: Cosines are divided by it.
TEMPERATURE = 0.1
#: Clips of a program that are shown together: without company a clip has no positive.
TOGETHER = 4


def program_loss(
    embedding: torch.Tensor,
    clip: torch.Tensor,
    program: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The supervised contrastive loss with programs as classes.

    For an anchor i, P(i) are the other clips' views of its program and A(i) those together with the views of
    other programs::

        loss(i) = -1 / |P(i)| sum over p in P(i) of
                  log( exp(s[i, p] / temperature) / sum over a in A(i) of exp(s[i, a] / temperature) )

    Args:
        embedding: (V, D) rows of length 1.
        clip: (V,) int64, which clip each is a view of.
        program: (V,) int64; below 0 where nobody knows.
        temperature: Above 0.

    Returns:
        The sum over the anchors that have a positive, and how many they are.

    Source: Khosla et al. 2020 (supervised contrastive learning), equation 2, over fewer pairs.
    """
    # Half precision has too few digits for cosines of neighbours.
    with torch.autocast(embedding.device.type, enabled=False):
        rows = embedding.float() if embedding.dtype != torch.float64 else embedding
        similarity = rows @ rows.T / temperature
    is_known = (program >= 0)[:, None] & (program >= 0)[None, :]
    is_other_clip = clip[:, None] != clip[None, :]
    counts = is_known & is_other_clip
    is_positive = counts & (program[:, None] == program[None, :])
    n_positives = is_positive.sum(dim=1)
    # The least finite number and not -inf: an anchor with nobody to compare would have a gradient of NaN.
    others = similarity.masked_fill(~counts, torch.finfo(similarity.dtype).min).logsumexp(dim=1)
    log_shares = (similarity - others[:, None]).masked_fill(~is_positive, 0.0).sum(dim=1)
    return -(log_shares / n_positives.clamp(min=1)).sum(), (n_positives > 0).sum()


def rows_by_program(labelled: Labelled) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and their programs, those of a program next to each other."""
    rows = labelled.positions
    program = labelled.targets.program[rows]
    order = np.argsort(program, kind="stable")
    return rows[order], program[order]


def has_company(program: NDArray[np.int64]) -> bool:
    """Whether any program has two clips, of (N,) programs."""
    known = program[program != NO_PROGRAM]
    return len(np.unique(known)) < len(known)
