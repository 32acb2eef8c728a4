"""Batches whose clips differ in length: padding must not be felt, in sums or in batch statistics.

Shape letters: ``B`` clips, ``T`` frames of the longest, ``D`` dimensions, ``E`` dimensions that come out,
``...`` any leading axes (rows). A mask is true where a row counts.
"""

from __future__ import annotations

import torch
from torch import nn


def check_frames(x: torch.Tensor, mask: torch.Tensor, d: int) -> None:
    """Raise ValueError unless ``x`` is (B, T, d) and ``mask`` (B, T) bool."""
    if x.ndim != 3 or x.shape[2] != d:
        raise ValueError(f"frames must be (B, T, {d}), got {tuple(x.shape)}")
    if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(f"the mask must be {tuple(x.shape[:2])} bool, got {tuple(mask.shape)} {mask.dtype}")


def zero_masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``x`` (..., D) with zeros where ``mask`` (...) is false, whatever stood there, NaN too."""
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


class MaskedBatchNorm(nn.Module):
    """Batch normalization over the rows that count.

    In training a row that counts is normalized by the mean and (biased) variance of the rows that count, and
    both, the variance unbiased, move the running ones. Fewer than two rows have no variance: they are
    normalized by the running statistics, which then stay as they are. Rows that do not count come out as
    zeros.

    Args:
        d: D.
        momentum: Share of the batch in the running statistics.
        eps: Added to the variance.

    Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, d: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d))
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalize ``x`` (..., D) where ``mask`` (...) is true."""
        # Under autocast x is of half precision, in which sums over many frames would be rough.
        x = zero_masked(x.to(self.running_mean.dtype), mask)
        if self.training:
            mean, variance = self._statistics(x.flatten(0, -2), mask.flatten())
        else:
            mean, variance = self.running_mean, self.running_var
        y = (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return zero_masked(y, mask)

    def _statistics(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance (D,) that normalize rows (N, D) of which ``mask`` (N,) count."""
        # The count stays a tensor: to ask its value would make the CPU wait for the GPU.
        count = mask.sum()
        is_enough = count >= 2
        batch_mean = x.sum(dim=0) / count.clamp(min=1)
        squares = zero_masked(x - batch_mean, mask).square().sum(dim=0)
        mean = torch.where(is_enough, batch_mean, self.running_mean)
        variance = torch.where(is_enough, squares / count.clamp(min=1), self.running_var)
        with torch.no_grad():
            unbiased = torch.where(is_enough, squares / (count - 1).clamp(min=1), self.running_var)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        return mean, variance


class NormalizedLinear(nn.Module):
    """A linear map and batch normalization of what comes out, with no ReLU after it.

    Half of an embedding's directions would be lost to a ReLU, and its zeros make clips alike that share
    nothing.

    Args:
        d: D.
        d_out: E.
    """

    def __init__(self, d: int, d_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d, d_out, bias=False)  # the normalization brings one
        self.norm = MaskedBatchNorm(d_out)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(..., D) and (...) → (..., E); zeros where ``mask`` is false."""
        y: torch.Tensor = self.norm(self.linear(zero_masked(x, mask)), mask)
        return y
