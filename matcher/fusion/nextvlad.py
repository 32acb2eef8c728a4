"""NeXtVLAD: a clip's frames summed up by their residuals to learned centres, in groups.

Shape letters: ``B`` clips, ``T`` frames, ``D`` dimensions, ``L`` expanded dimensions, ``G`` groups,
``F = L / G`` dimensions of a group, ``K`` clusters, ``E`` dimensions that come out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import nn

from matcher.fusion.masking import MaskedBatchNorm, NormalizedLinear, check_frames, zero_masked


class NeXtVLAD(nn.Module):
    """Pool frames (B, T, D) to one vector a clip (B, E).

    A frame is expanded from D to L, and its L numbers are cut into G groups. Each group has a say of its own
    (attention, a sigmoid) and is dealt to K clusters (a softmax), both by the whole expanded frame. The
    residuals to the K centres, which all groups share, are summed over frames and groups::

        v[k] = sum over t, g of  attention[t, g] * assignment[t, g, k] * (x[t, g] - centre[k])

    Every v[k] is scaled to length 1; all of them together go through a linear map and batch normalization,
    with no ReLU. The map has K F E weights where NetVLAD's has K D E.

    As in the authors' own code, and not in the paper's equations, the assignment's logits are normalized
    over the batch in place of a bias. Their second normalization, of all v before the linear map, is left
    out: the one after the map does the same for what comes out.

    Args:
        d: D.
        d_out: E.
        n_clusters: K.
        n_groups: G.
        expansion: L / D.

    Raises:
        ValueError: A number is below 1, or the groups do not divide L.

    Source: Lin et al. 2018 (NeXtVLAD).
    """

    def __init__(self, d: int, *, d_out: int, n_clusters: int, n_groups: int, expansion: int = 2) -> None:
        super().__init__()
        _check(d, n_clusters=n_clusters, n_groups=n_groups, expansion=expansion)
        self.d, self.n_groups, self.n_clusters = d, n_groups, n_clusters
        expanded = expansion * d
        d_group = expanded // n_groups
        self.expand = nn.Linear(d, expanded)
        self.attend = nn.Linear(expanded, n_groups)
        self.assign = nn.Linear(expanded, n_groups * n_clusters, bias=False)
        self.assign_norm = MaskedBatchNorm(n_groups * n_clusters)
        self.centres = nn.Parameter(torch.randn(n_clusters, d_group) / math.sqrt(d_group))
        self.reduce = NormalizedLinear(n_clusters * d_group, d_out)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool the frames that count.

        Args:
            x: (B, T, D); what stands where the mask is false is of no consequence.
            mask: (B, T) bool.

        Returns:
            (B, E); zeros for a clip without a frame that counts.

        Raises:
            ValueError: The shapes disagree.
        """
        check_frames(x, mask, self.d)
        frames = self.expand(zero_masked(x, mask))
        weights = self._weights(frames, mask)
        groups = frames.unflatten(-1, (self.n_groups, -1))
        # b clips, t frames, g groups, k clusters, f dimensions of a group
        sums = torch.einsum("btgk,btgf->bkf", weights, groups)
        residuals = sums - weights.sum(dim=(1, 2)).unsqueeze(-1) * self.centres
        unit = F.normalize(residuals, dim=-1)
        pooled: torch.Tensor = self.reduce(unit.flatten(1), mask.any(dim=1))
        return pooled

    def _weights(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """How much each group of each expanded frame counts for each cluster: (B, T, G, K)."""
        attention = zero_masked(self.attend(frames).sigmoid(), mask)
        logits = self.assign_norm(self.assign(frames), mask)
        assignment = logits.unflatten(-1, (self.n_groups, self.n_clusters)).softmax(dim=-1)
        weights: torch.Tensor = assignment * attention.unsqueeze(-1)
        return weights


def _check(d: int, *, n_clusters: int, n_groups: int, expansion: int) -> None:
    if min(d, n_clusters, n_groups, expansion) < 1:
        raise ValueError(
            f"dimensions ({d}), clusters ({n_clusters}), groups ({n_groups}) and expansion ({expansion})"
            " must be at least 1"
        )
    if expansion * d % n_groups:
        raise ValueError(f"{n_groups} groups do not divide {expansion} x {d} dimensions")
