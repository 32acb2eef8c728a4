"""NetVLAD: what NeXtVLAD grew out of, to compare with.

Shape letters: ``B`` clips, ``T`` frames, ``D`` dimensions, ``K`` clusters, ``E`` dimensions that come out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import nn

from matcher.fusion.masking import NormalizedLinear, check_frames, zero_masked


class NetVLAD(nn.Module):
    """Pool frames (B, T, D) to one vector a clip (B, E).

    Every frame is dealt to K clusters by a softmax, and its residuals to their centres are summed::

        v[k] = sum over t of  assignment[t, k] * (x[t] - centre[k])

    Every v[k] is scaled to length 1, then all of them together; a linear map and batch normalization follow,
    as after the project's NeXtVLAD. Assignment and centres are learned apart from each other.

    Args:
        d: D.
        d_out: E.
        n_clusters: K.

    Raises:
        ValueError: A number is below 1.

    Source: Arandjelović et al. 2016 (NetVLAD), equation 4; for frames of a video, Miech et al. 2017.
    """

    def __init__(self, d: int, *, d_out: int, n_clusters: int) -> None:
        super().__init__()
        if min(d, n_clusters) < 1:
            raise ValueError(f"dimensions ({d}) and clusters ({n_clusters}) must be at least 1")
        self.d = d
        self.assign = nn.Linear(d, n_clusters)
        self.centres = nn.Parameter(torch.randn(n_clusters, d) / math.sqrt(d))
        self.reduce = NormalizedLinear(n_clusters * d, d_out)

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
        frames = zero_masked(x, mask)
        assignment = zero_masked(self.assign(frames).softmax(dim=-1), mask)
        # b clips, t frames, k clusters, d dimensions
        sums = torch.einsum("btk,btd->bkd", assignment, frames)
        residuals = sums - assignment.sum(dim=1).unsqueeze(-1) * self.centres
        unit = F.normalize(F.normalize(residuals, dim=-1).flatten(1), dim=-1)
        pooled: torch.Tensor = self.reduce(unit, mask.any(dim=1))
        return pooled
