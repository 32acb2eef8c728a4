"""More examples out of few, made from embeddings: no video is looked at again.

Shape letters: ``B`` clips of a batch, ``N`` clips, ``D`` dimensions, ``C`` classes.
"""

from __future__ import annotations

import numpy as np
import torch

from matcher.training.head_config import AugmentationConfig


def mix_up(
    x: torch.Tensor, targets: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each clip mixed with another of the batch, and its targets likewise.

    The share of a clip itself is at least one half, so that a row keeps its place.

    Args:
        x: (B, D).
        targets: (B, C).
        alpha: Of Beta(alpha, alpha), from which the shares are drawn.
        rng: Where chance comes from.

    Source: Zhang et al. 2018 (mixup).
    """
    shares = rng.beta(alpha, alpha, size=(len(x), 1))
    share = torch.from_numpy(np.maximum(shares, 1 - shares)).to(x)
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    return share * x + (1 - share) * x[other], share * targets + (1 - share) * targets[other]


def drop_dimensions(x: torch.Tensor, rate: float, rng: np.random.Generator) -> torch.Tensor:
    """Views (B, D) of which every dimension is lost at ``rate`` and the rest scaled up to make up for it."""
    kept = torch.from_numpy(rng.random(tuple(x.shape)) >= rate).to(x.device)
    return x * kept / (1 - rate)


class ClassNoise:
    """Noise with the spread of a clip's own class, as far as its examples tell it.

    The covariance of class c with n clips is shrunk towards the one common to all classes::

        (1 - s) * own covariance + s * common covariance,   s = m / (m + n - 1)

    so that one example alone wanders as the clips of other classes do. The noise is drawn as a random
    combination of residuals, which has just these covariances without any (D, D) matrix.

    Args:
        x: (N, D) clips that are learned from.
        targets: (N, C); a clip of several classes wanders as the rarest of them does.
        shrink_examples: m.

    Raises:
        ValueError: The shapes disagree.
    """

    #: Residuals that one draw of the common covariance combines: more would change nothing but the time.
    N_COMBINED = 16

    def __init__(self, x: torch.Tensor, targets: torch.Tensor, *, shrink_examples: float) -> None:
        if x.ndim != 2 or targets.shape[:1] != x.shape[:1]:
            raise ValueError(f"x {tuple(x.shape)} and targets {tuple(targets.shape)} must have as many rows")
        counts = targets.sum(dim=0)
        rarity = torch.where(targets > 0, counts, torch.inf)
        self._class_of = torch.where(targets.any(dim=1), rarity.argmin(dim=1), -1)
        self._residuals = torch.zeros_like(x)
        self._rows = {c: torch.where(self._class_of == c)[0] for c in set(self._class_of.tolist()) if c >= 0}
        for rows in self._rows.values():
            self._residuals[rows] = x[rows] - x[rows].mean(dim=0)
        degrees = sum(len(rows) - 1 for rows in self._rows.values())
        #: Rows whose class has more than one: a single one's residual is 0 and says nothing.
        several = [rows for rows in self._rows.values() if len(rows) > 1]
        self._common = torch.cat(several) if several else torch.zeros(0, dtype=torch.long)
        self._common_scale = (len(self._common) / degrees) ** 0.5 if degrees else 0.0
        self._shrink = {
            c: shrink_examples / (shrink_examples + len(rows) - 1) for c, rows in self._rows.items()
        }

    def draw(self, rows: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(B, D) noise for the clips at places ``rows`` (B,); zeros for a clip of no class.

        Where no class has two clips, no spread is known and all is zeros.
        """
        noise = self._residuals.new_zeros(len(rows), self._residuals.shape[1])
        if not len(self._common):
            return noise
        own = self._class_of[rows]
        shares = torch.tensor([self._shrink.get(c, 0.0) for c in own.tolist()]).to(noise)[:, None]
        is_classed = (own >= 0).to(noise)[:, None]
        common = self._combine(self._common, len(rows), rng) * self._common_scale
        noise += is_classed * shares.sqrt() * common
        for c in set(own.tolist()):
            members = self._rows.get(c)
            if members is not None and len(members) > 1:
                places = torch.where(own == c)[0]
                spread = self._combine(members, len(places), rng)
                spread *= (len(members) / (len(members) - 1)) ** 0.5
                noise[places] += (1 - shares[places]).sqrt() * spread
        return noise

    def _combine(self, members: torch.Tensor, n: int, rng: np.random.Generator) -> torch.Tensor:
        """(n, D) combinations of members' residuals whose covariance is their mean outer product."""
        m = min(self.N_COMBINED, len(members))
        picked = torch.from_numpy(rng.integers(len(members), size=(n, m))).to(members.device)
        signs = torch.from_numpy(rng.standard_normal((n, 1, m)) / m**0.5).to(self._residuals)
        combined: torch.Tensor = (signs @ self._residuals[members[picked]]).squeeze(1)
        return combined


def augment(
    x: torch.Tensor,
    targets: torch.Tensor,
    noise: torch.Tensor | None,
    is_rare: torch.Tensor,
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One new view of a batch: noise, then lost dimensions, then mix-up.

    Args:
        x: (B, D).
        targets: (B, C).
        noise: (B, D) of :class:`ClassNoise`; None where there is none.
        is_rare: (B,) whether a clip gets noise and loses dimensions; mix-up is for all.
        config: How much of each.
        rng: Where chance comes from.
    """
    rare = is_rare[:, None]
    if noise is not None:
        x = x + torch.where(rare, config.noise * noise, 0.0)
    if config.dropout > 0:
        x = torch.where(rare, drop_dimensions(x, config.dropout, rng), x)
    if config.mixup > 0:
        x, targets = mix_up(x, targets, config.mixup, rng)
    return x, targets
