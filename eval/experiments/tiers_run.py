"""One model for all tiers against a head a tier (g): what a new tier-3 category costs and changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eval.experiments.clips import Clips, Parts, make_parts
from eval.experiments.learning import TIERS, Learned, learn, model_config
from eval.experiments.results import Collector, Measure, Row
from eval.experiments.scale import OnStep, Scale
from matcher.category_head import TierHead
from matcher.training.category_heads import HeadOrigin, train_head
from matcher.training.head_config import HeadTraining

Ints = NDArray[np.int64]
#: So many categories are new at once: with one alone, its 40 test clips would decide.
N_NEW = 3

TIERS_MEASURES = (
    Measure("tier 3, old categories", is_drawn=True),
    Measure("tier 3, new ones", is_drawn=True),
    *(Measure(f"tier {tier} changed", is_drawn=tier == 3) for tier in TIERS),
    Measure("tier 2"),
    Measure("tier 1", is_shown=False),
    Measure("training", "seconds"),
)


def run_tiers(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """Three tier-3 categories are added to a trained model; three ways to learn them.

    "Changed" is the share of test clips of old categories whose answer on a tier is another than before.
    """
    found = Collector()
    for seed in seeds:
        parts = make_parts(scale.difficulty, seed=seed, sizes=scale.sizes)
        new = new_categories(scale.difficulty.n_classes[2], seed=seed)
        before = without(parts, new)
        config = model_config(scale.difficulty)
        on_step(f"seed {seed}: before")
        one_model = learn(before, config, scale.loop, seed=seed, device=scale.device)
        said_before = _answers_of(one_model, parts.test)
        embedded = {
            name: one_model.embed(part) for name, part in (("train", parts.train), ("test", parts.test))
        }
        is_old = ~np.isin(parts.train.tier3, new)
        heads = {tier: _head(embedded["train"], parts.train, is_old, tier, scale, seed) for tier in TIERS}
        heads_before = {tier: _said(heads[tier], embedded["test"]) for tier in TIERS}
        found.add("before, one model", _scores(said_before, None, parts.test, new))
        found.add("before, a head a tier", _scores(heads_before, None, parts.test, new))
        for name, start, again in (
            ("all retrained", None, seed + 1000), ("all trained on", one_model, seed),
        ):  # fmt: skip
            on_step(f"seed {seed}: {name}")
            model = learn(parts, config, scale.loop, seed=again, device=scale.device, start=start)
            said = _answers_of(model, parts.test)
            found.add(name, _scores(said, said_before, parts.test, new, model.seconds))
        on_step(f"seed {seed}: the tier's head")
        clock = time.perf_counter()
        everyone = np.ones(len(parts.train), dtype=bool)
        head = _head(embedded["train"], parts.train, everyone, 3, scale, seed)
        seconds = time.perf_counter() - clock
        said = {**heads_before, 3: _said(head, embedded["test"])}
        found.add("tier 3's head alone", _scores(said, heads_before, parts.test, new, seconds))
    return found.rows()


def new_categories(n: int, *, seed: int) -> Ints:
    """Tier-3 classes that are not there at first, drawn by the seed."""
    return np.sort(np.random.default_rng([seed, 40]).permutation(n)[:N_NEW])


def without(parts: Parts, classes: Ints) -> Parts:
    """The parts to learn from and to stop by, without clips that are of these classes or are said to be."""

    def kept(clips: Clips) -> Clips:
        is_gone = np.isin(clips.tier3, classes) | np.isin(clips.labelled, classes)
        return clips.take(np.flatnonzero(~is_gone))

    return replace(parts, train=kept(parts.train), validation=kept(parts.validation))


def _answers_of(learned: Learned, clips: Clips) -> dict[int, Ints]:
    return {tier: found.argmax(axis=1) for tier, found in learned.probabilities(clips).items()}


def _head(
    embedded: NDArray[np.float32], clips: Clips, rows: NDArray[np.bool_], tier: int, scale: Scale, seed: int
) -> TierHead:
    """A head of a tier on frozen embeddings (B, D), of the clips where ``rows`` is true."""
    difficulty = scale.difficulty
    labels = clips.of_tier(tier, labelled=True)
    targets = np.eye(difficulty.n_classes[tier - 1], dtype=np.float32)[labels]
    names = tuple("/".join(["any"] * (tier - 1) + [str(number)]) for number in range(targets.shape[1]))
    # A head for every category that is shown at all, as the one model has.
    config = HeadTraining(seed=seed, min_examples=2)
    return train_head(embedded, targets, rows, clips.programs, config, HeadOrigin(tier, names))


def _said(head: TierHead, embedded: NDArray[np.float32]) -> Ints:
    """(B,) classes, by the numbers in their names."""
    numbers = np.array([int(name.rsplit("/", 1)[-1]) for name in head.class_paths])
    classes: Ints = numbers[head.log_odds(embedded).argmax(axis=1)]
    return classes


def _scores(
    said: dict[int, Ints],
    before: dict[int, Ints] | None,
    clips: Clips,
    new: Ints,
    seconds: float = 0.0,
) -> dict[str, float]:
    is_new = np.isin(clips.tier3, new)
    is_right = said[3] == clips.tier3
    values = {
        "tier 3, old categories": float(is_right[~is_new].mean()),
        "tier 3, new ones": float(is_right[is_new].mean()),
        "tier 2": float((said[2] == clips.of_tier(2)).mean()),
        "tier 1": float((said[1] == clips.of_tier(1)).mean()),
    }
    if before is not None:
        for tier in TIERS:
            values[f"tier {tier} changed"] = float((said[tier] != before[tier])[~is_new].mean())
        values["training"] = seconds
    return values
