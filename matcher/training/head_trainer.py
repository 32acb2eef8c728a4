"""The steps of training one tier's head, on embeddings that fit in memory.

Shape letters: ``N`` clips, ``D`` dimensions, ``C`` classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from numpy.typing import NDArray
from torch import nn

from matcher.category_head import Floats
from matcher.fusion.experts import LogisticHead, MixtureOfExperts
from matcher.training.embedding_augmentation import ClassNoise, augment
from matcher.training.head_config import HeadTraining


class HeadTrainer:
    """A head in training: one batch a step, every clip once before any comes again.

    Args:
        x: (N, D) embeddings, centred and scaled.
        targets: (N, C).
        config: How.
    """

    def __init__(self, x: NDArray[np.float32], targets: NDArray[np.float32], config: HeadTraining) -> None:
        self._config = config
        self._rng = np.random.default_rng(config.seed)
        self._x = torch.from_numpy(x)
        self._targets = torch.from_numpy(targets)
        counts = targets.sum(axis=0)
        factors = np.where(counts > 0, (counts.max() / np.maximum(counts, 1)) ** config.balance, 1.0)
        #: (C,) what the balance of classes adds to the log odds.
        self.offsets = np.log(factors).astype(np.float32)
        self._factors = torch.from_numpy(factors.astype(np.float32))
        self.module = make_module(x.shape[1], prior=balanced_prior(counts, factors, len(x)), config=config)
        self._optimizer = torch.optim.AdamW(self._parameters(), lr=config.learning_rate)
        is_noisy = config.augmentation.noise > 0
        shrink = config.augmentation.shrink_examples
        self._noise = ClassNoise(self._x, self._targets, shrink_examples=shrink) if is_noisy else None
        rare = (targets > 0) & (counts < config.augment_below)
        self._is_rare = torch.from_numpy(rare.any(axis=1))
        self._order = np.zeros(0, np.int64)

    def step(self) -> None:
        """Learn from the next batch."""
        if not len(self._order):
            self._order = self._rng.permutation(len(self._x))
        picked, self._order = np.split(self._order, [self._config.batch])
        rows = torch.from_numpy(picked)
        noise = self._noise.draw(rows, self._rng) if self._noise is not None else None
        x, targets = augment(
            self._x[rows],
            self._targets[rows],
            noise,
            self._is_rare[rows],
            self._config.augmentation,
            self._rng,
        )
        self._optimizer.zero_grad()
        losses = F.binary_cross_entropy_with_logits(
            self.module(x), targets, reduction="none", pos_weight=self._factors
        )
        loss: torch.Tensor = losses.sum(dim=1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def log_odds(self, x: NDArray[np.float32]) -> Floats:
        """(N, C) of embeddings (N, D), with what the balance added taken off."""
        self.module.eval()
        with torch.inference_mode():
            raw = self.module(torch.from_numpy(x)).double().numpy()
        self.module.train()
        odds: Floats = raw - self.offsets
        return odds

    def state(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the weights by name."""
        return {name: one.detach().numpy().copy() for name, one in self.module.state_dict().items()}

    def _parameters(self) -> list[dict[str, object]]:
        """Biases hold how common a class is, and do not decay."""
        named = list(self.module.named_parameters())
        return [
            {
                "params": [one for name, one in named if not name.endswith("bias")],
                "weight_decay": self._config.weight_decay,
            },
            {"params": [one for name, one in named if name.endswith("bias")], "weight_decay": 0.0},
        ]


def balanced_prior(counts: Floats, factors: Floats, n: int) -> Floats:
    """(C,) how often each class comes among ``n`` clips when its positives count ``factors`` times."""
    weighted = counts * factors
    prior: Floats = np.clip(weighted / np.maximum(weighted + n - counts, 1e-9), 1e-4, 0.9)
    return prior


def make_module(d: int, *, prior: Floats, config: HeadTraining) -> nn.Module:
    """An untrained head (N, d) → (N, C) that says ``prior`` (C,) on average: no step is spent on that."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.form == "logistic":
            logistic = LogisticHead(d, len(prior))
            with torch.no_grad():
                logistic.linear.bias.copy_(torch.from_numpy(np.log(prior / (1 - prior))))
            return logistic
        experts = MixtureOfExperts(d, len(prior), n_experts=config.n_experts)
        # The dummy has one share in H + 1, of which the experts must make up.
        own = np.minimum(prior * (config.n_experts + 1) / config.n_experts, 0.95)
        with torch.no_grad():
            experts.experts.bias.copy_(
                torch.from_numpy(np.log(own / (1 - own))).repeat_interleave(config.n_experts)
            )
        return experts
