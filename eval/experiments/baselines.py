"""What the clip model must beat: the mean over time and a logistic regression (scikit-learn).

Shape letters: ``B`` clips, ``D`` dimensions of all modalities together, ``C`` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from matcher.fusion.features import MODALITIES, ClipFeatures, ModalityState

Floats = NDArray[np.float64]
#: Inverse strengths of the penalty that are tried, weakest last.
STRENGTHS = tuple(10 ** (step / 2) for step in range(-10, 1))
_STEPS = 300


@dataclass(frozen=True)
class MeanFeatures:
    """Clips → the joined means of their modalities, standardized by the clips it was fitted to.

    A modality that is missing is zeros, the mean of the others, and two numbers a modality say so
    (missing, silent).

    Attributes:
        mean: (D,).
        scale: (D,).
        dimensions: Of picture, sound and text.
        with_maximum: Whether the largest value over time is joined too.
    """

    mean: Floats
    scale: Floats
    dimensions: tuple[int, int, int]
    with_maximum: bool

    @classmethod
    def fit(
        cls, clips: Sequence[ClipFeatures], dimensions: tuple[int, int, int], *, with_maximum: bool = False
    ) -> Self:
        """Take the statistics of the modalities that are present."""
        rows = _joined(clips, dimensions, with_maximum)
        is_known = ~np.isnan(rows)
        count = np.maximum(is_known.sum(axis=0), 1)
        mean = np.where(is_known, rows, 0).sum(axis=0) / count
        deviation = np.sqrt((np.where(is_known, rows - mean, 0) ** 2).sum(axis=0) / count)
        return cls(mean, np.where(deviation > 0, deviation, 1), dimensions, with_maximum)

    def __call__(self, clips: Sequence[ClipFeatures]) -> Floats:
        """(B, D + 6)."""
        rows = np.nan_to_num((_joined(clips, self.dimensions, self.with_maximum) - self.mean) / self.scale)
        states = np.array([[clip.state(name) for name in MODALITIES] for clip in clips])
        absent = [states == ModalityState.MISSING, states == ModalityState.SILENT]
        return np.concatenate([rows, *absent], axis=1)


def _joined(clips: Sequence[ClipFeatures], dimensions: tuple[int, int, int], with_maximum: bool) -> Floats:
    """(B, D), NaN where a modality is not there."""
    rows = []
    for clip in clips:
        parts = []
        for name, d in zip(MODALITIES, dimensions, strict=True):
            found = clip.of(name)
            is_there = found is not None and clip.state(name) == ModalityState.PRESENT
            frames = found.reshape(-1, d) if found is not None and is_there else np.full((1, d), np.nan)
            parts.append(frames.mean(axis=0, dtype=np.float64))
            if with_maximum and name != "text":
                parts.append(frames.max(axis=0).astype(np.float64))
        rows.append(np.concatenate(parts))
    return np.stack(rows)


@dataclass(frozen=True)
class Regression:
    """A logistic regression over all classes (a softmax).

    Attributes:
        strength: The inverse strength of its penalty that was chosen.
        model: scikit-learn's.
        n_classes: C, those that no clip to learn from has included.
    """

    strength: float
    model: Any
    n_classes: int

    def __call__(self, rows: Floats) -> Floats:
        """(B, C) probabilities that sum to 1."""
        found = np.zeros((len(rows), self.n_classes))
        found[:, self.model.classes_] = self.model.predict_proba(rows)
        return found


def fit_regression(
    train: tuple[Floats, NDArray[np.int64]], validation: tuple[Floats, NDArray[np.int64]], n_classes: int
) -> Regression:
    """Of several strengths of the penalty the one that is most often right on the validation part.

    Args:
        train: (B, D) rows and (B,) classes.
        validation: Likewise, of other programs.
        n_classes: C.
    """
    from sklearn.linear_model import LogisticRegression

    best: tuple[float, Regression] | None = None
    previous: Any = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=_STEPS, warm_start=True)
        if previous is not None:  # begins where the stronger penalty ended: the same optimum, sooner
            model.coef_, model.intercept_ = previous.coef_.copy(), previous.intercept_.copy()
        previous = model.fit(*train)
        share = float((model.predict(validation[0]) == validation[1]).mean())
        if best is None or share > best[0]:
            best = share, Regression(strength, model, n_classes)
    assert best is not None
    return best[1]
