"""One tier's head, trained on embeddings and calibrated on programs that it did not learn from.

The programs are dealt to folds. For each fold a head learns from the others until the fold's loss rises; the
answers that it gives to its fold are those to unknown programs. All folds' together give the calibration and
the figures. The head that is kept then learns from all programs for as many steps as the folds' took on
average, so that the few clips of a rare class are not spent on holding out.

``balance`` lets the positives of a class with n clips count (most / n) ^ ``balance`` times. It shifts the
class's log odds by the logarithm of that factor (Elkan 2001), which is taken back in the answers, so that
they stay calibrated to the classes as often as they come. It is off by default: a head begins at how common
each class is, so that a rare one needs no weight to be heard, and the balance lost on common and rare classes
alike (docs/categories.md), as the few clips of a rare class are then learned by heart.

Shape letters: ``N`` clips, ``D`` dimensions, ``C`` classes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from index.rows import now_utc
from matcher.category_head import Floats, TierHead, calibrate
from matcher.errors import InputError
from matcher.training.category_figures import (
    best_answers,
    calibration_error,
    fit_calibration,
    negative_log_likelihood,
)
from matcher.training.head_config import HeadTraining
from matcher.training.head_trainer import HeadTrainer


@dataclass(frozen=True)
class HeadOrigin:
    """What a head is of: kept in its file.

    Attributes:
        tier: 1, 2 or 3.
        class_paths: (C,) of the targets' columns.
        taxonomy: ``name@version``.
        taxonomy_fingerprint: Its hash.
        model: Fingerprint of the model that made the embeddings.
    """

    tier: int
    class_paths: tuple[str, ...]
    taxonomy: str = ""
    taxonomy_fingerprint: str = ""
    model: str = ""


@dataclass(frozen=True)
class _Sample:
    """Clips of one tier.

    Attributes:
        x: (N, D), centred and scaled.
        targets: (N, C).
        groups: (N,) programs.
    """

    x: NDArray[np.float32]
    targets: NDArray[np.float32]
    groups: NDArray[np.int64]

    def rows(self, which: NDArray[np.bool_]) -> _Sample:
        return _Sample(self.x[which], self.targets[which], self.groups[which])


def train_head(
    x: NDArray[np.float32],
    targets: NDArray[np.float32],
    known: NDArray[np.bool_],
    groups: NDArray[np.int64],
    config: HeadTraining,
    origin: HeadOrigin,
) -> TierHead:
    """Train, calibrate and measure one tier's head.

    Args:
        x: (N, D) embeddings.
        targets: (N, C) 1 where a clip is of a class.
        known: (N,) whether that is known on this tier; the others take no part.
        groups: (N,) the program of each clip, as a number.
        config: How.
        origin: What of. Classes with fewer than ``config.min_examples`` clips are not among the head's.

    Returns:
        A head whose ``figures`` are of held-out programs: ``accuracy`` of the best class, ``nll``, ``ece``,
        ``nll_before`` and ``ece_before`` without calibration, ``nll_temperature`` and ``ece_temperature`` by
        temperature alone; how many clips and programs were ``measured``.

    Raises:
        ValueError: The shapes disagree.
        InputError: No class has enough clips, or all of them are of one program.
    """
    _check(x, targets, known, groups, origin)
    x, targets, groups = x[known], targets[known], groups[known]
    counts = targets.sum(axis=0)
    columns = np.flatnonzero(counts >= config.min_examples)
    if not len(columns):
        raise InputError(
            f"tier {origin.tier}: no category has {config.min_examples} labelled clips with features;"
            " label more"
        )
    if len(np.unique(groups)) < 2:
        raise InputError(
            f"tier {origin.tier}: its labelled clips are of one program, so nothing can be held out;"
            " label clips of more programs, or give their program_id"
        )
    center = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = float(max((x - center).std(dtype=np.float64), 1e-6))
    sample = _Sample((x - center) / np.float32(scale), targets[:, columns], groups)
    held_out, steps = _answer_by_folds(sample, config)
    trainer = HeadTrainer(sample.x, sample.targets, config)
    for _ in range(steps):
        trainer.step()
    temperature, rivalry = fit_calibration(held_out.log_odds, held_out.targets)
    return TierHead(
        tier=origin.tier,
        class_paths=tuple(origin.class_paths[column] for column in columns),
        form=config.form,
        weights=trainer.state(),
        center=center,
        scale=scale,
        offsets=trainer.offsets,
        temperature=temperature,
        rivalry=rivalry,
        taxonomy=origin.taxonomy,
        taxonomy_fingerprint=origin.taxonomy_fingerprint,
        model=origin.model,
        figures=_figures(held_out) | {"steps": float(steps), "trained": float(len(sample.x))},
        trained_at=now_utc(),
        notes={"config": json.dumps(asdict(config))},
    )


def deal_programs(groups: NDArray[np.int64], targets: NDArray[np.float32], folds: int) -> NDArray[np.int64]:
    """(N,) the fold of each clip, at most ``folds``: a program's clips stand in one fold.

    Programs are dealt so that the clips of every class are spread over as many folds as can be
    (scikit-learn's stratified group folds, by the rarest class of each clip).
    """
    import warnings

    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    n_folds = min(folds, len(np.unique(groups)))
    counts = targets.sum(axis=0)
    rarest = np.where(targets > 0, counts, np.inf).argmin(axis=1)
    strata = np.where(targets.any(axis=1), rarest, -1)
    fold = np.zeros(len(groups), np.int64)
    with warnings.catch_warnings():
        # It says that a class has fewer clips than there are folds: some always have.
        warnings.simplefilter("ignore", UserWarning)
        is_enough = max(np.unique(strata, return_counts=True)[1]) >= n_folds
        dealer = StratifiedGroupKFold(n_folds) if is_enough else GroupKFold(n_folds)
        for number, (_, rows) in enumerate(dealer.split(groups, strata, groups)):
            fold[rows] = number
    return fold


@dataclass(frozen=True)
class _HeldOut:
    """Answers of heads to clips of programs that they did not learn from.

    Attributes:
        log_odds: (N, C) not calibrated; -inf where the head had no example of the class.
        targets: (N, C).
        folds: (N,).
        groups: (N,).
    """

    log_odds: Floats
    targets: NDArray[np.float32]
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]


def _answer_by_folds(sample: _Sample, config: HeadTraining) -> tuple[_HeldOut, int]:
    """Every clip answered by the head of the other folds, and the steps that these took on average."""
    folds = deal_programs(sample.groups, sample.targets, config.folds)
    log_odds = np.full(sample.targets.shape, -np.inf)
    steps = []
    for fold in np.unique(folds):
        train, held = sample.rows(folds != fold), sample.rows(folds == fold)
        is_learned = train.targets.sum(axis=0) > 0
        own, taken = _answer_unknown(train, held, config)
        log_odds[folds == fold] = np.where(is_learned, own, -np.inf)
        steps.append(taken)
    return _HeldOut(log_odds, sample.targets, folds, sample.groups), max(1, round(float(np.mean(steps))))


def _figures(held_out: _HeldOut) -> dict[str, float]:
    """Before and after a calibration that comes from the other folds.

    A clip of classes that its fold's head has no example of is not measured: no head could answer it.
    """
    is_learned = np.isfinite(held_out.log_odds)
    has_class = held_out.targets.any(axis=1)
    is_asked = (has_class & (held_out.targets * is_learned).any(axis=1)) | (
        ~has_class & is_learned.any(axis=1)
    )
    figures = {
        "measured": float(is_asked.sum()),
        "measured_programs": float(len(np.unique(held_out.groups[is_asked]))),
    }
    if not is_asked.any():
        return figures
    targets = held_out.targets[is_asked]
    ways = {
        "_before": held_out.log_odds,
        "_temperature": _calibrated_by_others(held_out, rivals=False),
        "": _calibrated_by_others(held_out, rivals=True),
    }
    for name, every in ways.items():
        log_odds = every[is_asked]
        confidence, is_right = best_answers(log_odds, targets)
        figures[f"nll{name}"] = negative_log_likelihood(log_odds, targets)
        figures[f"ece{name}"] = calibration_error(confidence, is_right)
    is_one = targets.any(axis=1)  # the best class of a clip of none is never right
    figures["accuracy"] = float(is_right[is_one].mean()) if is_one.any() else 0.0
    return figures


def _calibrated_by_others(held_out: _HeldOut, *, rivals: bool) -> Floats:
    """(N, C) log odds, each fold's calibrated by what was fitted to the others."""
    log_odds = held_out.log_odds.copy()
    for fold in np.unique(held_out.folds):
        others = held_out.folds != fold
        temperature, rivalry = fit_calibration(
            held_out.log_odds[others], held_out.targets[others], rivals=rivals
        )
        log_odds[~others] = calibrate(held_out.log_odds[~others], temperature=temperature, rivalry=rivalry)
    return log_odds


#: What a look must gain of the held-out loss, in nats a clip: where categories are clear it falls for ever.
LEAST_GAIN = 0.002


def _answer_unknown(train: _Sample, held: _Sample, config: HeadTraining) -> tuple[Floats, int]:
    """Log odds of ``held`` by a head that learns from ``train`` until their loss rises, and its steps."""
    trainer = HeadTrainer(train.x, train.targets, config)
    is_learned = train.targets.sum(axis=0) > 0
    best, best_steps, answers = np.inf, 1, trainer.log_odds(held.x)
    for step in range(1, config.max_steps + 1):
        trainer.step()
        if step % config.check_steps and step < config.max_steps:
            continue
        log_odds = trainer.log_odds(held.x)
        loss = negative_log_likelihood(np.where(is_learned, log_odds, -np.inf), held.targets)
        if loss < best - LEAST_GAIN:
            best, best_steps, answers = loss, step, log_odds
        elif step - best_steps >= config.patience * config.check_steps:
            break
    return answers, best_steps


def _check(
    x: NDArray[np.float32],
    targets: NDArray[np.float32],
    known: NDArray[np.bool_],
    groups: NDArray[np.int64],
    origin: HeadOrigin,
) -> None:
    n = len(x)
    if x.ndim != 2 or targets.shape != (n, len(origin.class_paths)) or known.shape != (n,):
        raise ValueError(
            f"embeddings {x.shape}, targets {targets.shape} and known {known.shape} must be (N, D), (N, C)"
            f" and (N,) with C = {len(origin.class_paths)}"
        )
    if groups.shape != (n,) or not np.isfinite(x).all():
        raise ValueError("groups must be (N,), and embeddings finite")
