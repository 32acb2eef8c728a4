"""Metric and map of a bank of examples, fitted on classes that are known well.

The **metric** makes clips of one class differ by as much in every direction: the inverse square root of the
covariance within classes, shrunk as Ledoit and Wolf (2004) have it. What programs of one class differ by then
counts less than what classes differ by.

For the **map** each class is taken for a new one of which k clips are known, again and again: how alike are
other programs' clips of it, and those of other classes? What a probability of a class with k examples should
be is read off that. The metric is one of other classes then, as it will be for a class that is really new.

Shape letters: ``N`` clips, ``D`` dimensions, ``C`` classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from matcher.category_examples import FIXED_MAP, ExampleBank, LikenessMap
from matcher.category_head import Floats

#: Examples of a class that is taken for a new one.
COUNTS = (1, 2, 3, 5, 10)
#: How often each class is, with each number of examples.
DRAWS = 3
#: Clips that are asked about each time.
ASKED = 300
#: Classes that are taken for new ones; more would only take longer.
CLASSES = 30


def fit_likeness(
    x: NDArray[np.float32],
    targets: NDArray[np.float32],
    groups: NDArray[np.int64],
    *,
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
) -> LikenessMap:
    """Fit a map to labelled clips.

    Args:
        x: (N, D) embeddings.
        targets: (N, C) of one tier.
        groups: (N,) programs. Examples and the clips that are asked about are of different ones.
        counts: Numbers of examples to learn for.
        seed: Of what is drawn.

    Returns:
        The fixed map where there are too few classes and programs, or where likeness says nothing.
    """
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng([seed, 11])
    center = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    half = rng.permutation(targets.shape[1]) % 2
    found: list[tuple[Floats, Floats, NDArray[np.bool_]]] = []
    for side in (0, 1):
        metric = fit_metric(x, targets * (half != side))
        empty = ExampleBank(x[:0], (), center, metric=metric)
        found += _episodes(x, targets, groups, np.flatnonzero(half == side), counts, empty, rng)
    if not found:
        return FIXED_MAP
    likeness, logs, is_of = (np.concatenate(column) for column in zip(*found, strict=True))
    if is_of.all() or not is_of.any():
        return FIXED_MAP
    features = np.column_stack([likeness, logs, likeness * logs])
    fitted = LogisticRegression(C=1e3, max_iter=1000).fit(features, is_of)
    slope, per_log, both = (float(weight) for weight in fitted.coef_[0])
    if min(slope, slope + both * float(np.log(max(counts)))) <= 0:
        return FIXED_MAP
    return LikenessMap(slope, per_log, both, float(fitted.intercept_[0]), is_calibrated=True)


def fit_metric(x: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """(D, D) by which centred embeddings (N, D) are multiplied; None where no class has two clips.

    Clips of several classes, or of none, of ``targets`` (N, C) take no part.
    """
    from sklearn.covariance import LedoitWolf

    is_one = targets.sum(axis=1) == 1
    own, classes = x[is_one].astype(np.float64), targets[is_one].argmax(axis=1)
    parts = [own[classes == c] for c in np.unique(classes)]
    several = [part - part.mean(axis=0) for part in parts if len(part) > 1]
    if not several:
        return None
    residuals = np.concatenate(several)
    if not residuals.any():
        return None
    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_
    values, vectors = np.linalg.eigh(covariance)
    # A direction in which nothing differs must not count infinitely.
    values = np.maximum(values, 1e-6 * values.max())
    metric: NDArray[np.float32] = ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)
    return metric


def _episodes(
    x: NDArray[np.float32],
    targets: NDArray[np.float32],
    groups: NDArray[np.int64],
    classes: NDArray[np.int64],
    counts: Sequence[int],
    empty: ExampleBank,
    rng: np.random.Generator,
) -> Iterator[tuple[Floats, Floats, NDArray[np.bool_]]]:
    """Likeness, log k and truth of the clips asked about, class by class and number by number."""
    n_programs = np.array([len(np.unique(groups[column > 0])) for column in targets.T])
    for c in rng.permutation(classes[n_programs[classes] >= 2])[:CLASSES]:
        is_of = targets[:, c] > 0
        for k in (k for k in counts for _ in range(DRAWS)):
            programs = rng.permutation(np.unique(groups[is_of]))
            is_lent = np.isin(groups, programs[: max(1, len(programs) // 2)])
            lent = np.flatnonzero(is_lent & is_of)
            if len(lent) < k:
                continue
            examples = rng.choice(lent, k, replace=False)
            others = np.flatnonzero(~is_lent)
            asked = rng.choice(others, min(ASKED, len(others)), replace=False)
            likeness = empty.add(x[examples], ["c"] * k).likenesses(x[asked])[:, 0]
            yield likeness, np.full(len(asked), np.log(k)), is_of[asked]
