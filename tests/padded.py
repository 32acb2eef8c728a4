"""Clips of unequal length, in a padded batch and one by one, and batch normalization in sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from matcher.fusion.masking import MaskedBatchNorm

Array = NDArray[np.float64]
#: Of the clips of most tests: one long, one frame, none at all, some.
LENGTHS = (4, 1, 0, 3)


def ragged(seed: int, lengths: tuple[int, ...], d: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, d)) for n in lengths]


def pad(clips: list[Array], *, extra: int = 0, fill: float = math.nan) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, D) double with ``fill`` behind each clip's frames, and the mask."""
    longest = max(len(clip) for clip in clips) + extra
    x = np.full((len(clips), longest, clips[0].shape[1]), fill)
    mask = np.zeros(x.shape[:2], bool)
    for number, clip in enumerate(clips):
        x[number, : len(clip)] = clip
        mask[number, : len(clip)] = True
    return torch.from_numpy(x), torch.from_numpy(mask)


def modules(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module in double precision, none of whose numbers is one that hides an error (0 or 1)."""
    torch.manual_seed(seed)
    module = make().double()
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_var", "norm.weight")):
            tensor.copy_(0.5 + torch.rand_like(tensor))
        else:
            tensor.copy_(torch.randn_like(tensor) * 0.7)
    return module


def numbers(module: nn.Module) -> dict[str, Array]:
    """A copy of all parameters and buffers by name."""
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def norms_of(module: nn.Module) -> Iterator[MaskedBatchNorm]:
    return (part for part in module.modules() if isinstance(part, MaskedBatchNorm))


def normalized_by_sums(rows: Array, state: dict[str, Array], prefix: str, *, training: bool) -> Array:
    """Batch normalization of rows (n, d), each entry from explicit sums."""
    n, d = rows.shape
    out = np.zeros((n, d))
    for j in range(d):
        mean, variance = state[f"{prefix}.running_mean"][j], state[f"{prefix}.running_var"][j]
        if training and n >= 2:
            mean = sum(rows[i, j] for i in range(n)) / n
            variance = sum((rows[i, j] - mean) ** 2 for i in range(n)) / n
        for i in range(n):
            unit = (rows[i, j] - mean) / math.sqrt(variance + 1e-5)
            out[i, j] = unit * state[f"{prefix}.weight"][j] + state[f"{prefix}.bias"][j]
    return out


def reduced_by_sums(
    pooled: list[Array | None], state: dict[str, Array], d_out: int, *, training: bool
) -> Array:
    """Linear map and batch normalization of the clips that have frames (the others None): (B, d_out)."""
    weight = state["reduce.linear.weight"]
    present = [i for i, one in enumerate(pooled) if one is not None]
    mapped = np.array([[float(weight[e] @ pooled[i]) for e in range(d_out)] for i in present])
    out = np.zeros((len(pooled), d_out))
    if present:
        out[present] = normalized_by_sums(mapped, state, "reduce.norm", training=training)
    return out


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(row: Array) -> Array:
    powers = np.array([math.exp(x - row.max()) for x in row])
    return powers / powers.sum()
