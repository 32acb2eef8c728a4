"""The clip model's parts, each against its alternatives: pooling (b), gating (c), heads (d).

Every condition is trained on the same clips of a seed, from the same seed, and judged on other programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from eval.experiments.clips import make_parts
from eval.experiments.learning import learn, model_config
from eval.experiments.main_run import MAIN_MEASURES
from eval.experiments.results import Collector, Measure, Row
from eval.experiments.scale import OnStep, Scale
from eval.experiments.tier_scores import tier_scores
from eval.experiments.world import Difficulty
from matcher.fusion.clip_model import make_clip_model, n_parameters
from matcher.fusion.config import ClipModelConfig, Gating, Pooling

PART_MEASURES = (*MAIN_MEASURES, Measure("parameters", "count"), Measure("training", "seconds"))


def run_pooling(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """NeXtVLAD and what it is measured against, each with as many numbers to learn in the whole model."""
    wanted = n_parameters(make_clip_model(model_config(scale.difficulty), seed=0))
    configs = {name: matched(scale.difficulty, name, wanted) for name in get_args(Pooling)}
    return compare(configs, seeds, scale, on_step)


def run_gating(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """Context gating, its squeezed form, none."""
    configs = {name: model_config(scale.difficulty, gating=name) for name in get_args(Gating)}
    return compare(configs, seeds, scale, on_step)


def run_experts(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """A logistic regression a class against mixtures of two and four experts, in every head."""
    configs = {"logistic": model_config(scale.difficulty, head="logistic")}
    for n in (2, 4):
        configs[f"{n} experts"] = model_config(scale.difficulty, head="experts", n_experts=n)
    return compare(configs, seeds, scale, on_step)


def compare(
    configs: dict[str, ClipModelConfig], seeds: Sequence[int], scale: Scale, on_step: OnStep
) -> tuple[Row, ...]:
    """Train each on each seed's clips."""
    found = Collector()
    for seed in seeds:
        parts = make_parts(scale.difficulty, seed=seed, sizes=scale.sizes)
        for name, config in configs.items():
            on_step(f"seed {seed}: {name}")
            learned = learn(parts, config, scale.loop, seed=seed, device=scale.device)
            values = tier_scores(
                parts, learned.probabilities(parts.validation), learned.probabilities(parts.test)
            )
            found.add(
                name, {**values, "parameters": n_parameters(learned.model), "training": learned.seconds}
            )
    return found.rows()


def matched(difficulty: Difficulty, pooling: Pooling, wanted: int) -> ClipModelConfig:
    """A clip model whose frames are pooled so, with about ``wanted`` parameters.

    NetVLAD gets more or fewer clusters. The plain ways have no such knob: more dimensions come out of them,
    which the joined vector, the gate and the heads of the modality then have to learn from.
    """
    config = model_config(difficulty)
    picture = replace(config.picture, pooling=pooling, d_hidden=config.picture.d)
    if pooling == "nextvlad":
        return replace(config, picture=picture)

    def sized(size: int) -> ClipModelConfig:
        other = replace(picture, n_clusters=size) if pooling == "netvlad" else replace(picture, d_out=size)
        return replace(config, picture=other)

    def off(size: int) -> int:
        return n_parameters(make_clip_model(sized(size), seed=0)) - wanted

    low, high = 1, 16 * config.picture.d
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if off(middle) <= 0 else (low, middle)
    return sized(min((low, high), key=lambda size: abs(off(size))))
