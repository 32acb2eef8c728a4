"""What becomes of a clip model whose modalities fail it: title shortcut (a), missing modalities (e)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from eval.experiments.clips import Clips, Parts, make_parts, retitle
from eval.experiments.learning import TIERS, learn, model_config
from eval.experiments.results import Collector, Measure, Row
from eval.experiments.scale import OnStep, Scale
from eval.experiments.tier_scores import tier_accuracy
from eval.experiments.world import Difficulty
from matcher.fusion.config import Absence
from matcher.fusion.features import MODALITIES

SHORTCUT_MEASURES = tuple(
    Measure(f"tier {tier} {title}", is_drawn=tier == 3, is_shown=tier > 1)
    for tier in TIERS
    for title in ("with keywords", "without")
)

#: What a clip still has at test.
LEFT = {
    "all": MODALITIES,
    "no picture": ("sound", "text"),
    "no sound": ("picture", "text"),
    "no text": ("picture", "sound"),
    "picture alone": ("picture",),
    "sound alone": ("sound",),
    "text alone": ("text",),
}
_DRAWN = ("all", "no picture", "no sound", "no text")
MISSING_MEASURES = tuple(
    Measure(f"tier {tier}, {left}", is_shown=tier == 2, is_drawn=tier == 2 and left in _DRAWN)
    for tier in TIERS
    for left in LEFT
)


def collected_by_title(difficulty: Difficulty) -> Difficulty:
    """Clips found by searching titles for the category's words: every title holds one, and it is right."""
    return replace(difficulty, title_missing=0.0, title_tier3=1.0, title_misleading=0.0, label_noise=0.0)


def run_title_shortcut(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """One head for all against a head a modality, each with and without modality dropout.

    Trained and stopped on clips collected by title keywords, as nobody would have others; tested on such
    clips and on the same ones under titles without any class word. The last row is trained on clips as they
    come, for what could be reached.
    """
    found = Collector()
    told = collected_by_title(scale.difficulty)
    bare = replace(scale.difficulty, title_tier2=0.0, title_tier3=0.0)
    for seed in seeds:
        by_title = make_parts(told, seed=seed, sizes=scale.sizes)
        as_they_come = make_parts(scale.difficulty, seed=seed, sizes=scale.sizes)
        without = retitle(by_title.test, by_title.world, bare, np.random.default_rng([seed, 9]))
        conditions: list[tuple[str, Parts, float, float]] = [
            (f"{heads}, {dropped}", by_title, weight, rate)
            for heads, weight in (("one head for all", 0.0), ("a head a modality", 1.0))
            for dropped, rate in (("no modality dropout", 0.0), ("modality dropout", 0.3))
        ]
        conditions.append(("trained on clips as they come", as_they_come, 1.0, 0.3))
        for name, parts, weight, rate in conditions:
            on_step(f"seed {seed}: {name}")
            learned = learn(
                parts, model_config(told, modality_dropout=rate),
                replace(scale.loop, modality_weight=weight), seed=seed, device=scale.device,
            )  # fmt: skip
            values = {}
            for title, clips in (("with keywords", by_title.test), ("without", without)):
                for tier, share in tier_accuracy(learned.probabilities(clips), clips).items():
                    values[f"tier {tier} {title}"] = share
            found.add(name, values)
    return found.rows()


def run_missing(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """Learned tokens against zeros, each with and without modality dropout; modalities taken away at test."""
    found = Collector()
    for seed in seeds:
        parts = make_parts(scale.difficulty, seed=seed, sizes=scale.sizes)
        tests = {left: keep_only(parts.test, kept) for left, kept in LEFT.items()}
        for dropped, rate in (("modality dropout", 0.3), ("no dropout", 0.0)):
            for absence in get_args(Absence):
                name = f"{dropped}, {absence}"
                on_step(f"seed {seed}: {name}")
                config = model_config(scale.difficulty, modality_dropout=rate, absence=absence)
                learned = learn(parts, config, scale.loop, seed=seed, device=scale.device)
                found.add(name, {
                    f"tier {tier}, {left}": share
                    for left, clips in tests.items()
                    for tier, share in tier_accuracy(learned.probabilities(clips), clips).items()
                })  # fmt: skip
    return found.rows()


def keep_only(clips: Clips, kept: Sequence[str]) -> Clips:
    """The same clips, of whose other modalities nothing is known."""
    lost: dict[str, Any] = {name: None for name in MODALITIES if name not in kept}
    return replace(clips, features=[replace(one, **lost) for one in clips.features])
