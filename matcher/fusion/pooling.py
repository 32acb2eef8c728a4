"""The plain ways to sum up a clip's frames, for NeXtVLAD to be measured against.

Shape letters: ``B`` clips, ``T`` frames, ``D`` dimensions, ``H`` hidden dimensions, ``E`` dimensions
that come out.
"""

from __future__ import annotations

import torch
from torch import nn

from matcher.fusion.masking import NormalizedLinear, check_frames, zero_masked


class MeanPooling(nn.Module):
    """The mean of the frames that count: (B, T, D) and (B, T) → (B, D)."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Zeros for a clip without a frame that counts."""
        check_frames(x, mask, x.shape[-1])
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return zero_masked(x, mask).sum(dim=1) / count


class MaxPooling(nn.Module):
    """The largest value a dimension of the frames that count: (B, T, D) and (B, T) → (B, D)."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Zeros for a clip without a frame that counts."""
        check_frames(x, mask, x.shape[-1])
        if x.shape[1] == 0:
            return x.new_zeros(len(x), x.shape[2])  # there is no largest of none
        largest = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
        return zero_masked(largest, mask.any(dim=1))


class AttentionPooling(nn.Module):
    """A weighted mean of the frames that count, the weights learned: (B, T, D) and (B, T) → (B, D).

    weight[t] = softmax over t of  score · tanh(hidden x[t])

    Args:
        d: D.
        d_hidden: H.

    Source: Ilse et al. 2018 (attention-based multiple instance learning), equation 8.
    """

    def __init__(self, d: int, *, d_hidden: int) -> None:
        super().__init__()
        self.d = d
        self.hidden = nn.Linear(d, d_hidden)
        self.score = nn.Linear(d_hidden, 1, bias=False)  # a softmax does not feel one

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Zeros for a clip without a frame that counts."""
        check_frames(x, mask, self.d)
        frames = zero_masked(x, mask)
        scores: torch.Tensor = self.score(self.hidden(frames).tanh()).squeeze(-1)
        # The least finite number and not -inf: a softmax of -inf alone is NaN, and so is its gradient.
        kept = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # Where no frame counts they are all 1 / T, over frames that are zeros.
        weights = kept.softmax(dim=1)
        return torch.einsum("bt,btd->bd", weights, frames)


class ReducedPooling(nn.Module):
    """A plain pooling, then a linear map and batch normalization as after NeXtVLAD: (B, T, D) → (B, E).

    Args:
        pool: (B, T, D) and (B, T) → (B, D).
        d: D.
        d_out: E.
    """

    def __init__(self, pool: nn.Module, d: int, d_out: int) -> None:
        super().__init__()
        self.pool = pool
        self.reduce = NormalizedLinear(d, d_out)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Zeros for a clip without a frame that counts."""
        pooled: torch.Tensor = self.reduce(self.pool(x, mask), mask.any(dim=1))
        return pooled
