"""The clip model on generated clips beside plainer ways and the best that can be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eval.experiments.baselines import MeanFeatures, fit_regression
from eval.experiments.clips import Parts, make_parts
from eval.experiments.learning import TIERS, learn, model_config
from eval.experiments.oracle import oracle_probabilities
from eval.experiments.results import Collector, Measure, Row
from eval.experiments.scale import OnStep, Scale
from eval.experiments.tier_scores import tier_accuracy, tier_scores
from matcher.fusion.config import Pooling

Floats = NDArray[np.float64]
BASELINE = "mean, logistic regression"

MAIN_MEASURES = (
    *(Measure(f"tier {tier}", is_drawn=True) for tier in TIERS),
    *(Measure(f"tier {tier} log loss", "number", is_shown=tier > 1) for tier in TIERS),
    *(Measure(f"tier {tier} Brier", "number", is_shown=tier == 3) for tier in TIERS),
    *(Measure(f"tier {tier} ECE", is_shown=tier > 1) for tier in TIERS),
    *(Measure(f"tier {tier} ECE before", is_shown=tier == 3) for tier in TIERS),
    *(Measure(f"tier {tier} ECE, clean", is_shown=tier == 3) for tier in TIERS),
)
DIFFICULTY_MEASURES = tuple(Measure(f"tier {tier}", is_drawn=tier > 1) for tier in TIERS)


def run_main(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """Accuracy and calibration on held-out programs."""
    found = Collector()
    for seed in seeds:
        parts = make_parts(scale.difficulty, seed=seed, sizes=scale.sizes)
        on_step(f"seed {seed}: logistic regressions")
        found.add(BASELINE, tier_scores(parts, *regress(parts)))
        found.add(
            "mean and maximum, logistic regression", tier_scores(parts, *regress(parts, with_maximum=True))
        )
        poolings: dict[Pooling, str] = {"mean": "clip model, mean pooling", "nextvlad": "clip model"}
        for pooling, name in poolings.items():
            on_step(f"seed {seed}: {name}")
            found.add(name, tier_scores(parts, *_clip_model(parts, scale, pooling, seed)))
        best = oracle_probabilities(parts.world, parts.test)
        found.add("best possible", tier_scores(parts, None, best))
    return found.rows()


def run_difficulty(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """The same comparison where pairs of cues tell nothing or everything, and with fewer or more programs."""
    n_programs, n_clips = scale.sizes.train
    settings = {
        "no class told by pairs": (replace(scale.difficulty, set_share=0.0), n_programs),
        "half of them (the main setting)": (scale.difficulty, n_programs),
        "all of them": (replace(scale.difficulty, set_share=1.0), n_programs),
        "a quarter of the programs": (scale.difficulty, max(2, n_programs // 4)),
        "twice the programs": (scale.difficulty, 2 * n_programs),
    }
    found = Collector()
    for seed in seeds:
        for name, (difficulty, n) in settings.items():
            parts = make_parts(difficulty, seed=seed, sizes=replace(scale.sizes, train=(n, n_clips)))
            on_step(f"seed {seed}: {name}")
            _, regression = regress(parts)
            _, model = _clip_model(parts, scale, "nextvlad", seed)
            best = oracle_probabilities(parts.world, parts.test)
            for way, said in ((BASELINE, regression), ("clip model", model), ("best possible", best)):
                shares = tier_accuracy(said, parts.test)
                found.add(f"{name}: {way}", {f"tier {tier}": share for tier, share in shares.items()})
    return found.rows()


def regress(parts: Parts, *, with_maximum: bool = False) -> tuple[dict[int, Floats], dict[int, Floats]]:
    """The baseline's probabilities by tier, of the validation and the test part; a regression a tier."""
    difficulty = parts.world.difficulty
    means = MeanFeatures.fit(parts.train.features, difficulty.dimensions, with_maximum=with_maximum)
    train, validation, test = (means(part.features) for part in (parts.train, parts.validation, parts.test))
    said: list[dict[int, Floats]] = [{}, {}]
    for tier in TIERS:
        labels = [part.of_tier(tier, labelled=True) for part in (parts.train, parts.validation)]
        model = fit_regression((train, labels[0]), (validation, labels[1]), difficulty.n_classes[tier - 1])
        said[0][tier], said[1][tier] = model(validation), model(test)
    return said[0], said[1]


def _clip_model(
    parts: Parts, scale: Scale, pooling: Pooling, seed: int
) -> tuple[dict[int, Floats], dict[int, Floats]]:
    config = model_config(parts.world.difficulty)
    config = replace(
        config,
        picture=replace(config.picture, pooling=pooling),
        sound=replace(config.sound, pooling=pooling),
    )
    learned = learn(parts, config, scale.loop, seed=seed, device=scale.device)
    return learned.probabilities(parts.validation), learned.probabilities(parts.test)
