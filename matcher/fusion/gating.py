"""Gates by which a vector weighs its own dimensions.

Shape letters: ``B`` clips, ``D`` dimensions, ``R`` dimensions of the bottleneck.
"""

from __future__ import annotations

import torch
from torch import nn


class ContextGating(nn.Module):
    """y = sigmoid(W x + b) * x: (B, D) → (B, D).

    A dimension passes as far as the others make it likely.

    Args:
        d: D.

    Source: Miech et al. 2017, equation 1.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh each row of ``x`` (B, D)."""
        gated: torch.Tensor = self.gate(x).sigmoid() * x
        return gated


class ExcitationGating(nn.Module):
    """y = sigmoid(W2 relu(W1 x + b1) + b2) * x: (B, D) → (B, D), with D / R times fewer weights.

    Args:
        d: D.
        reduction: D / R; R is rounded down but at least 1.

    Raises:
        ValueError: ``reduction`` is below 1.

    Source: Hu et al. 2018 (squeeze-and-excitation), equation 3; as gates of a clip's vector, Lin et al.
    2018 (NeXtVLAD).
    """

    def __init__(self, d: int, *, reduction: int = 8) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        narrow = max(1, d // reduction)
        self.squeeze = nn.Linear(d, narrow)
        self.excite = nn.Linear(narrow, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh each row of ``x`` (B, D)."""
        gated: torch.Tensor = self.excite(self.squeeze(x).relu()).sigmoid() * x
        return gated
