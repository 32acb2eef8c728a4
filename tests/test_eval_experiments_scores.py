"""Scores of exclusive classes against examples worked by hand; the baseline's handling of what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from eval.experiments.baselines import STRENGTHS, MeanFeatures, fit_regression
from eval.experiments.scores import (
    accuracy,
    brier_score,
    fit_temperature,
    log_loss,
    shared_out,
    top_calibration_error,
    with_temperature,
)
from matcher.fusion.features import ClipFeatures

#: Three clips of classes 0, 1 and 0, of which the last is got wrong.
P = np.array([[0.8, 0.2, 0.0], [0.25, 0.5, 0.25], [0.1, 0.6, 0.3]])
TRUE = np.array([0, 1, 0])


def test_accuracy_counts_the_likeliest() -> None:
    assert accuracy(P, TRUE) == pytest.approx(2 / 3)


def test_brier_is_the_sum_over_classes() -> None:
    by_hand = [0.04 + 0.04, 0.0625 + 0.25 + 0.0625, 0.81 + 0.36 + 0.09]
    assert brier_score(P, TRUE) == pytest.approx(sum(by_hand) / 3)


def test_log_loss_is_of_the_true_class() -> None:
    assert log_loss(P, TRUE) == pytest.approx(-np.log([0.8, 0.5, 0.1]).mean())


def test_calibration_error_is_of_the_likeliest_class() -> None:
    # Each alone in its bin, but 0.5 and 0.6 in [0.5, 0.6) and [0.6, 0.7).
    assert top_calibration_error(P, TRUE) == pytest.approx((0.2 + 0.5 + 0.6) / 3)


def test_shared_out_probabilities_are_sigmoids_over_their_sum() -> None:
    log_odds = np.log([[3.0, 1.0, 1 / 3]])  # sigmoids 3/4, 1/2 and 1/4
    np.testing.assert_allclose(shared_out(log_odds), [[0.5, 1 / 3, 1 / 6]])


def test_the_fitted_temperature_gives_back_what_was_distorted() -> None:
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(4), size=20_000)
    classes = (honest.cumsum(axis=1) < rng.random((len(honest), 1))).sum(axis=1)
    too_sure = with_temperature(honest, 0.5)
    assert fit_temperature(too_sure, classes) == pytest.approx(2, rel=0.05)
    assert fit_temperature(honest, classes) == pytest.approx(1, rel=0.05)
    np.testing.assert_allclose(with_temperature(too_sure, 2.0), honest, atol=1e-9)


@pytest.mark.parametrize(
    ("probabilities", "classes"),
    [(P * 2, TRUE), (P, TRUE[:2]), (P, TRUE + 2), (P[:0], TRUE[:0]), (P - [[1, -1, 0]], TRUE)],
)
def test_what_are_no_probabilities_is_refused(probabilities: np.ndarray, classes: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must|fit"):
        accuracy(probabilities, classes)


def test_missing_modalities_are_the_mean_and_are_told_apart() -> None:
    there = [ClipFeatures(np.full((2, 2), v), np.full((1, 1), v), np.array([v])) for v in (1.0, 3.0)]
    means = MeanFeatures.fit(there, (2, 1, 1))
    gone = means([ClipFeatures(None, np.zeros((0, 1)), np.array([3.0]))])
    # picture, sound and text standardized; then what is missing; then what is silent
    assert gone.tolist() == [[0, 0, 0, 1, 1, 0, 0, 0, 1, 0]]


def test_the_maximum_over_time_joins_the_mean() -> None:
    clip = ClipFeatures(np.array([[0.0, 4.0], [2.0, 0.0]]), None, None)
    other = ClipFeatures(np.array([[0.0, 0.0]]), np.zeros((1, 1)), np.zeros(1))
    rows = MeanFeatures.fit([clip, other], (2, 1, 1), with_maximum=True)
    np.testing.assert_allclose(rows.mean[:4], [0.5, 1.0, 1.0, 2.0])


def test_the_regression_takes_the_strength_that_serves_the_validation_part() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(120) % 3
    rows = np.concatenate([np.eye(3)[classes], np.zeros((120, 60))], axis=1)
    rows += 0.8 * rng.standard_normal(rows.shape)
    train, validation = (rows[:60], classes[:60]), (rows[60:], classes[60:])
    shares = [LogisticRegression(C=c, max_iter=300).fit(*train).score(*validation) for c in STRENGTHS]
    assert len(set(shares)) > 2
    found = fit_regression(train, validation, n_classes=5)
    assert accuracy(found(rows[60:]), classes[60:]) == pytest.approx(max(shares), abs=0.02)


def test_classes_that_nobody_showed_have_no_probability() -> None:
    rows, classes = np.eye(3).repeat(4, axis=0), np.array([0, 1, 3]).repeat(4)
    found = fit_regression((rows, classes), (rows, classes), n_classes=5)(rows)
    assert found.shape == (12, 5)
    assert not found[:, [2, 4]].any()
    assert found.argmax(axis=1).tolist() == classes.tolist()
