"""How right a model is on each tier of the test part, and how far its probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eval.experiments.clips import Clips, Parts
from eval.experiments.scores import (
    accuracy,
    brier_score,
    fit_temperature,
    log_loss,
    top_calibration_error,
    with_temperature,
)

Floats = NDArray[np.float64]


def tier_accuracy(said: Mapping[int, Floats], clips: Clips) -> dict[int, float]:
    """Share of clips whose likeliest class is theirs, by tier.

    Args:
        said: By tier (B, C) probabilities.
        clips: B of them.
    """
    return {tier: accuracy(found, clips.of_tier(tier)) for tier, found in said.items()}


def tier_scores(
    parts: Parts, on_validation: Mapping[int, Floats] | None, on_test: Mapping[int, Floats]
) -> dict[str, float]:
    """Accuracy, log loss, Brier score and calibration error by tier, of programs never seen.

    Args:
        parts: Whose test part was asked about.
        on_validation: By tier probabilities of the validation part. They give each tier's temperature, by
            which the test part's are calibrated, all but "ECE before"; nothing is where None.
        on_test: By tier probabilities of the test part.
    """
    values = {}
    for tier in on_test:
        classes = parts.test.of_tier(tier)
        values[f"tier {tier}"] = accuracy(on_test[tier], classes)
        values[f"tier {tier} ECE before"] = top_calibration_error(on_test[tier], classes)
        said = on_test[tier]
        if on_validation is not None:
            labels = parts.validation.of_tier(tier, labelled=True)
            said = with_temperature(said, fit_temperature(on_validation[tier], labels))
            own = parts.validation.of_tier(tier)
            clean = with_temperature(on_test[tier], fit_temperature(on_validation[tier], own))
            values[f"tier {tier} ECE, clean"] = top_calibration_error(clean, classes)
        values[f"tier {tier} log loss"] = log_loss(said, classes)
        values[f"tier {tier} Brier"] = brier_score(said, classes)
        values[f"tier {tier} ECE"] = top_calibration_error(said, classes)
    return values
