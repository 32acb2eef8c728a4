"""The likeness map of a bank of examples, fitted on classes that are known well.

Each is taken for a new one of which k clips are known, again and again: how alike are other programs' clips
of it, and those of other classes? What a probability of a class with k examples should be is read off that.

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
CLASSES = 60


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
    found = list(_episodes(x, targets, groups, counts, rng))
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


def _episodes(
    x: NDArray[np.float32],
    targets: NDArray[np.float32],
    groups: NDArray[np.int64],
    counts: Sequence[int],
    rng: np.random.Generator,
) -> Iterator[tuple[Floats, Floats, NDArray[np.bool_]]]:
    """Likeness, log k and truth of the clips asked about, class by class and number by number."""
    center = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    n_programs = [len(np.unique(groups[column > 0])) for column in targets.T]
    usable = np.flatnonzero(np.array(n_programs) >= 2)
    for c in rng.permutation(usable)[:CLASSES]:
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
            bank = ExampleBank(x[examples], ("c",) * k, center)
            likeness = bank.likenesses(x[asked])[:, 0]
            yield likeness, np.full(len(asked), np.log(k)), is_of[asked]
