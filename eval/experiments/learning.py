"""From generated clips to a trained clip model and its probabilities.

Shape letters: ``B`` clips, ``C`` classes, ``D`` dimensions of the embedding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.experiments.clips import Clips, Parts
from eval.experiments.scores import shared_out
from eval.experiments.world import Difficulty
from matcher.fusion.clip_model import ClipModel, make_clip_model
from matcher.fusion.config import ClipModelConfig, FramesConfig, HeadConfig
from matcher.training.fusion_data import ArraySource, Labelled, Targets
from matcher.training.fusion_loop import fit
from matcher.training.inference import answers, embed
from matcher.training.loop_records import LoopConfig

TIERS = (1, 2, 3)
Floats = NDArray[np.float64]


def head_name(tier: int) -> str:
    """The head's name of a tier."""
    return f"tier{tier}"


def source_of(clips: Clips, difficulty: Difficulty) -> ArraySource:
    """Features as the training reads them."""
    return ArraySource(clips.features, difficulty.dimensions)


def labelled(clips: Clips, difficulty: Difficulty) -> Labelled:
    """Clips and the catalogue's categories, one a tier."""
    classes = {
        head_name(tier): [[int(found)] for found in clips.of_tier(tier, labelled=True)] for tier in TIERS
    }
    n_classes = {head_name(tier): difficulty.n_classes[tier - 1] for tier in TIERS}
    return Labelled(source_of(clips, difficulty), Targets.of_classes(classes, n_classes, clips.programs))


@dataclass(frozen=True)
class Learned:
    """A trained model.

    Attributes:
        model: On the CPU or a GPU.
        difficulty: Of the clips it was made for.
        seconds: That training took.
        device: Where it answers.
    """

    model: ClipModel
    difficulty: Difficulty
    seconds: float
    device: str = "cpu"

    def probabilities(self, clips: Clips) -> dict[int, Floats]:
        """By tier (B, C), summing to 1."""
        said = list(answers(self.model, source_of(clips, self.difficulty), device=self.device))
        return {
            tier: shared_out(np.concatenate([one.log_odds[head_name(tier)] for one in said]))
            for tier in TIERS
            if head_name(tier) in said[0].log_odds
        }

    def embed(self, clips: Clips) -> NDArray[np.float32]:
        """(B, D) rows of length 1."""
        return embed(self.model, source_of(clips, self.difficulty), device=self.device)


def learn(
    parts: Parts,
    config: ClipModelConfig,
    loop: LoopConfig,
    *,
    seed: int,
    device: str = "cpu",
    weights: NDArray[np.float64] | None = None,
    start: Learned | None = None,
) -> Learned:
    """Train a clip model on a world's training part, stopped by its validation part.

    Args:
        parts: Of one world.
        config: How the model is built.
        loop: How it is trained.
        seed: Of weights, order and what is dropped.
        device: As the training takes it.
        weights: How often each training clip is shown in an epoch.
        start: A model whose weights and scales are gone on from; a new one where None. It stays as it is.
    """
    difficulty = parts.world.difficulty
    train = replace(labelled(parts.train, difficulty), weights=weights)
    clock = time.perf_counter()
    model = make_clip_model(config, seed=seed)
    if start is not None:
        model.load_state_dict(start.model.state_dict())
    fit(
        model, train, labelled(parts.validation, difficulty), replace(loop, seed=seed), device=device,
        has_statistics=start is not None,
    )  # fmt: skip
    return Learned(model, difficulty, time.perf_counter() - clock, device)


def model_config(difficulty: Difficulty, **changes: Any) -> ClipModelConfig:
    """The clip model of the experiments, but for ``changes``.

    The shipped one's shape with fewer clusters, as the clips have fewer dimensions, and with dropout, as
    they are fewer.
    """
    d_picture, d_sound, d_text = difficulty.dimensions
    config = ClipModelConfig(
        heads=tuple(HeadConfig(head_name(tier), difficulty.n_classes[tier - 1]) for tier in TIERS),
        picture=FramesConfig(d=d_picture, d_out=d_picture, n_clusters=16, n_groups=8),
        sound=FramesConfig(d=d_sound, d_out=d_sound, n_clusters=8, n_groups=4),
        d_text=d_text,
        d_embedding=256,
        dropout=0.5,
    )
    return replace(config, **changes)
