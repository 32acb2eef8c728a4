"""Heads: from a vector to the log odds of classes that do not exclude each other.

Every head gives log odds, log(p / (1 - p)), so that one loss serves them all and no probability is rounded
to 0 or 1 on its way there. ``sigmoid`` makes them probabilities.

Shape letters: ``B`` clips, ``D`` dimensions, ``C`` classes, ``H`` experts a class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import nn


class MixtureOfExperts(nn.Module):
    """For every class a few logistic experts, and gates that say whom to trust: (B, D) → (B, C) log odds.

    A class's gates are a softmax over H experts and a dummy who always says no; they have no bias, so that
    whom to trust depends on the clip alone::

        p[c] = sum over h of  gate[c, h] * sigmoid(expert[c, h])

    Args:
        d: D.
        n_classes: C.
        n_experts: H, the dummy not counted.

    Raises:
        ValueError: A number is below 1.

    Source: Abu-El-Haija et al. 2016 (YouTube-8M), mixture of experts.
    """

    def __init__(self, d: int, n_classes: int, *, n_experts: int = 2) -> None:
        super().__init__()
        if min(d, n_classes, n_experts) < 1:
            raise ValueError(
                f"dimensions ({d}), classes ({n_classes}) and experts ({n_experts}) must be at least 1"
            )
        self.n_classes = n_classes
        self.gates = nn.Linear(d, n_classes * (n_experts + 1), bias=False)
        self.experts = nn.Linear(d, n_classes * n_experts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log odds (B, C) of rows (B, D)."""
        gates = self.gates(x).unflatten(-1, (self.n_classes, -1)).log_softmax(dim=-1)
        experts = self.experts(x).unflatten(-1, (self.n_classes, -1))
        trust, dummy = gates[..., :-1], gates[..., -1:]
        log_yes = (trust + F.logsigmoid(experts)).logsumexp(dim=-1)
        # 1 - p is a sum of positive terms too: nothing is taken away that could round to 0.
        log_no = torch.cat([trust + F.logsigmoid(-experts), dummy], dim=-1).logsumexp(dim=-1)
        log_odds: torch.Tensor = log_yes - log_no
        return log_odds


class LogisticHead(nn.Module):
    """One linear map, a logistic regression a class: (B, D) → (B, C) log odds.

    Args:
        d: D.
        n_classes: C.

    Raises:
        ValueError: A number is below 1.
    """

    def __init__(self, d: int, n_classes: int) -> None:
        super().__init__()
        if min(d, n_classes) < 1:
            raise ValueError(f"dimensions ({d}) and classes ({n_classes}) must be at least 1")
        self.linear = nn.Linear(d, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log odds (B, C) of rows (B, D)."""
        log_odds: torch.Tensor = self.linear(x)
        return log_odds


def binary_loss(
    log_odds: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    *,
    count: torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross-entropy, summed over classes and averaged over the clips that count.

    Summed, as a clip with one of a thousand classes would else hardly move anything.

    Args:
        log_odds: (B, C) of a head.
        targets: (B, C) in [0, 1].
        mask: (B,) bool, the clips that count.
        count: What the sum is divided by, above 0; by default how many count, or 1 where none does.

    Returns:
        A scalar; 0 where no clip counts.

    Raises:
        ValueError: The shapes disagree.
    """
    if log_odds.shape != targets.shape or mask.shape != log_odds.shape[:1]:
        raise ValueError(
            f"log odds {tuple(log_odds.shape)}, targets {tuple(targets.shape)} and mask {tuple(mask.shape)}"
            " must be (B, C), (B, C) and (B,)"
        )
    losses = F.binary_cross_entropy_with_logits(log_odds, targets, reduction="none").sum(dim=-1)
    return losses.masked_fill(~mask, 0.0).sum() / (mask.sum().clamp(min=1) if count is None else count)
