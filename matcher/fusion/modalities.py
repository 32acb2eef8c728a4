"""What each modality goes through before fusion: its scale, its absence, its loss in training.

Shape letters: ``B`` clips, ``D`` dimensions, ``M`` modalities, ``...`` any leading axes.
"""

from __future__ import annotations

import torch
from torch import nn

from matcher.fusion.features import ModalityState

#: A dimension that varies less than this share of the widest one is not blown up to the others' size.
LEAST_SHARE = 1e-3


class StoredNormalization(nn.Module):
    """(x - mean) / scale by statistics of the training set, which are stored with the model: (..., D) → same.

    Before :meth:`fit` it leaves everything as it is.

    Args:
        d: D.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.ones(d))

    @torch.no_grad()
    def fit(self, rows: torch.Tensor) -> None:
        """Take mean and standard deviation (biased) from ``rows`` (N, D).

        Raises:
            ValueError: There is no row, the dimensions differ, or a number is not finite.
        """
        if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] != len(self.mean):
            raise ValueError(f"rows must be (N, {len(self.mean)}) and at least one, got {tuple(rows.shape)}")
        if not rows.isfinite().all():
            raise ValueError("rows hold numbers that are not finite")
        rows = rows.to(torch.float64)
        deviation = rows.std(dim=0, correction=0)
        scale = deviation.clamp(min=LEAST_SHARE * float(deviation.max()))
        self.mean.copy_(rows.mean(dim=0))
        # Where all rows are alike there is nothing to scale by but the error of their mean.
        self.scale.copy_(torch.where(scale > 1e-9 * rows.abs().max(), scale, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize ``x`` (..., D)."""
        return (x - self.mean) / self.scale


class AbsenceTokens(nn.Module):
    """A learned vector for each way in which a modality is not there: missing, silent, or another's.

    They begin as zeros, which is the mean of a normalized modality.

    Args:
        d: D.
        is_learned: Else they stay zeros, to measure what learning them brings.
    """

    tokens: torch.Tensor

    def __init__(self, d: int, *, is_learned: bool = True) -> None:
        super().__init__()
        if is_learned:
            self.tokens = nn.Parameter(torch.zeros(len(ModalityState) - 1, d))
        else:
            self.register_buffer("tokens", torch.zeros(len(ModalityState) - 1, d))

    def forward(self, x: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Take ``x`` (B, D) where ``states`` (B,) say that it is present, else the state's token."""
        absent = self.tokens[(states - ModalityState.MISSING).clamp(min=0)]
        return torch.where((states == ModalityState.PRESENT).unsqueeze(-1), x, absent)


class ModalityDropout(nn.Module):
    """In training, let a clip lose whole modalities, so that none is relied on alone.

    Each modality that is present becomes missing at ``rate``, but the last one never: where all that a clip
    has would go, one of them stays, each as likely. Of m that are present, one is thus lost with
    probability rate - rate^m / m.

    Args:
        rate: From 0 (never) to 1 (one alone stays).

    Raises:
        ValueError: ``rate`` is outside.

    Source: after Neverova et al. 2016 (ModDrop), where a sample may lose all.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be from 0 to 1, got {rate}")
        self.rate = rate

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States (B, M) of modalities, some of them now missing; the same ones outside of training."""
        if not self.training or self.rate == 0:
            return states
        is_present = states == ModalityState.PRESENT
        luck = torch.rand(states.shape, device=states.device)
        # The luckiest of those present stays. If any stays by luck it is among them, so nothing else changes.
        luckiest = luck.masked_fill(~is_present, -1.0).argmax(dim=1, keepdim=True)
        is_lost = (is_present & (luck < self.rate)).scatter(1, luckiest, value=False)
        return states.masked_fill(is_lost, int(ModalityState.MISSING))
