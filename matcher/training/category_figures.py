"""How well a tier's head answers, and how far its probabilities are to be believed.

Shape letters: ``N`` clips, ``C`` classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from matcher.category_head import Floats, calibrate, logistic

#: Temperatures are looked for between these.
TEMPERATURES = (0.05, 20.0)
N_BINS = 15


def calibration_error(confidence: Floats, is_right: NDArray[np.bool_], *, n_bins: int = N_BINS) -> float:
    """Expected calibration error: |mean confidence - share right|, averaged over bins of equal mass.

    Each bin has as many answers, as most confidences lie near 0 and 1: in bins of equal width a few answers
    in the middle would stand for nothing.

    Args:
        confidence: (N,) in [0, 1].
        is_right: (N,).
        n_bins: At most so many bins, and no more than answers.

    Raises:
        ValueError: There is no answer, or the shapes disagree.

    Source: Guo et al. 2017, section 2, with the bins of Nguyen and O'Connor 2015.
    """
    if confidence.ndim != 1 or confidence.shape != is_right.shape or len(confidence) == 0:
        raise ValueError(
            f"confidence {confidence.shape} and is_right {is_right.shape} must be one (N,), N > 0"
        )
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    gaps = [abs(float(confidence[own].mean() - is_right[own].mean())) * len(own) for own in bins]
    return float(sum(gaps) / len(order))


def best_answers(log_odds: Floats, targets: NDArray[np.float32]) -> tuple[Floats, NDArray[np.bool_]]:
    """(N,) probability of each clip's most probable class, and (N,) whether the clip is of it."""
    best = log_odds.argmax(axis=1)
    rows = np.arange(len(best))
    return logistic(log_odds[rows, best]), targets[rows, best] > 0.5


def negative_log_likelihood(log_odds: Floats, targets: NDArray[np.float32]) -> float:
    """Binary cross-entropy, summed over classes and averaged over clips; -inf counts nothing.

    Args:
        log_odds: (N, C).
        targets: (N, C) in [0, 1].
    """
    is_asked = np.isfinite(log_odds)
    z = np.where(is_asked, log_odds, 0.0)
    losses = np.logaddexp(0.0, z) - targets * z
    return float(losses[is_asked].sum() / max(1, len(log_odds)))


def fit_calibration(
    log_odds: Floats, targets: NDArray[np.float32], *, rivals: bool = True
) -> tuple[float, float]:
    """The temperature and the rivalry that make the targets most likely.

    Args:
        log_odds: (N, C) of clips that the head did not learn from; -inf where a class was not learned.
        targets: (N, C).
        rivals: Whether there is any rivalry; else the temperature is fitted alone.

    Returns:
        For :func:`matcher.category_head.calibrate`. (1, 0) where there is nothing to tell by.

    Source: after Guo et al. 2017, section 4.2; found by L-BFGS-B.
    """
    from scipy.optimize import minimize

    is_asked = np.isfinite(log_odds).any(axis=1)
    if not is_asked.any():
        return 1.0, 0.0
    # With one class that may be asked of a clip there is no other to rival it.
    has_others = bool((np.isfinite(log_odds[is_asked]).sum(axis=1) > 1).all())
    most_rivalry = 1.0 if rivals and has_others else 0.0

    def loss(values: Floats) -> float:
        calibrated = calibrate(
            log_odds[is_asked], temperature=float(np.exp(values[0])), rivalry=float(values[1])
        )
        return negative_log_likelihood(calibrated, targets[is_asked])

    limits = [tuple(np.log(TEMPERATURES)), (0.0, most_rivalry)]
    found = minimize(loss, np.array([0.0, most_rivalry / 2]), method="L-BFGS-B", bounds=limits)
    return float(np.exp(found.x[0])), float(found.x[1])
