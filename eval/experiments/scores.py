"""How right answers of exclusive classes are, and how far their probabilities can be taken at their word.

Shape letters: ``B`` clips, ``C`` classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from eval.metrics import expected_calibration_error

Floats = NDArray[np.float64]
#: Bounds of the logarithm of a temperature: from a twentieth to twenty.
_EDGE = 3.0
_LEAST = 1e-12


def check_probabilities(probabilities: Floats, classes: NDArray[np.int64]) -> None:
    """Raise ValueError unless they are (B, C), sum to 1 a row, and ``classes`` (B,) are among the C."""
    if probabilities.ndim != 2 or classes.shape != probabilities.shape[:1] or len(classes) == 0:
        raise ValueError(f"probabilities {probabilities.shape} and classes {classes.shape} do not fit")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4) or (probabilities < 0).any():
        raise ValueError("probabilities must not be negative and must sum to 1 a row")
    if classes.min() < 0 or classes.max() >= probabilities.shape[1]:
        raise ValueError(f"classes must be from 0 to {probabilities.shape[1] - 1}")


def accuracy(probabilities: Floats, classes: NDArray[np.int64]) -> float:
    """Share of clips whose likeliest class is theirs."""
    check_probabilities(probabilities, classes)
    return float((probabilities.argmax(axis=1) == classes).mean())


def brier_score(probabilities: Floats, classes: NDArray[np.int64]) -> float:
    """Mean over clips of the sum over classes of (p - truth)²: from 0 (sure and right) to 2.

    Source: Brier 1950, in its form for several classes.
    """
    check_probabilities(probabilities, classes)
    off = probabilities - np.eye(probabilities.shape[1])[classes]
    return float((off**2).sum(axis=1).mean())


def log_loss(probabilities: Floats, classes: NDArray[np.int64]) -> float:
    """Mean of -log p of the true class, in nats (NLL)."""
    check_probabilities(probabilities, classes)
    own = probabilities[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(own, _LEAST)).mean())


def top_calibration_error(probabilities: Floats, classes: NDArray[np.int64]) -> float:
    """ECE of the likeliest class's probability, ten equal bins (:mod:`eval.metrics`)."""
    check_probabilities(probabilities, classes)
    top = np.clip(probabilities.max(axis=1), 0, 1)
    return expected_calibration_error(top, probabilities.argmax(axis=1) == classes)


def shared_out(log_odds: Floats) -> Floats:
    """Log odds (B, C) of classes that were learned one by one → probabilities that sum to 1.

    Each class's sigmoid, divided by their sum: the clips have exactly one class a tier.
    """
    log_p = -np.logaddexp(0, -np.asarray(log_odds, dtype=np.float64))
    return _summing_to_1(log_p)


def with_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Each p becomes p ** (1 / temperature), divided by their sum; above 1 they are less sure."""
    log_p = np.log(np.maximum(probabilities, _LEAST))
    return _summing_to_1(log_p / temperature)


def fit_temperature(probabilities: Floats, classes: NDArray[np.int64]) -> float:
    """The temperature of least log loss on clips that were not learned from.

    Source: Guo et al. 2017 (temperature scaling), here of log probabilities, so that it is the same for
    sigmoids and for a softmax.
    """
    check_probabilities(probabilities, classes)

    def loss(log_temperature: float) -> float:
        return log_loss(with_temperature(probabilities, float(np.exp(log_temperature))), classes)

    found = minimize_scalar(loss, bounds=(-_EDGE, _EDGE), method="bounded")
    return float(np.exp(found.x))


def _summing_to_1(log_p: Floats) -> Floats:
    shares: Floats = np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))
    return shares
