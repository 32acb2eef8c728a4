"""Evidence against loops over frames; confidence rises with what speaks for a candidate."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.decision import (
    DUEL_WEIGHT,
    LEAD_SCALE,
    SAME_FRAME_DROP,
    SHIPPED,
    Calibration,
    Evidence,
    decide,
    different_frames,
    weigh,
)
from matcher.localize import Line, Match

NAMES = [field.name for field in fields(Evidence)]
PLAIN = Evidence(similarity=0.9, lead=0.02, frames=6.0, speed=0.25)


def unit(x: NDArray[np.floating]) -> NDArray[np.float32]:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def a_match(frames: list[int], similarities: NDArray[np.float32], speed: float = 1.0) -> Match:
    rows = np.array(frames, np.int64)
    return Match(0, 0.0, 1.0, Line(speed, 0.0, 1.0), rows, similarities, rows, similarities)


evidence = st.builds(
    Evidence,
    similarity=st.floats(-1, 1),
    lead=st.floats(-2, 2),
    frames=st.floats(1, 1e4),
    speed=st.floats(0, 1),
)


# ---------------------------------------------------------------- weigh


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nq=st.integers(1, 12), pieces=st.integers(1, 3))
def test_evidence_is_that_of_the_loops(seed: int, nq: int, pieces: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(nq, 3)))
    rival = rng.uniform(-1, 1, nq).astype(np.float32)
    owner = rng.integers(-1, pieces, nq)
    matches = [
        a_match(rows, rng.uniform(-1, 1, len(rows)).astype(np.float32), rng.uniform(0.5, 2))
        for piece in range(pieces)
        if (rows := np.nonzero(owner == piece)[0].tolist())
    ]
    got = weigh(matches, vectors, rival)
    if not matches:
        assert got is None
        return

    values, leads, speeds = [], [], []
    for match in matches:
        for row, value in zip(match.frames, match.similarities, strict=True):
            values.append(float(value))
            leads.append(float(value) - float(rival[row]))
            speeds.append(abs(math.log(match.line.speed) / math.log(2)))
    rows = [row for row in range(nq) if owner[row] >= 0]
    assert got is not None
    assert got.similarity == pytest.approx(sum(values) / len(values))
    assert got.lead == pytest.approx(sum(leads) / len(values), abs=1e-6)
    assert got.frames == pytest.approx(different_by_loops(vectors[rows]))
    assert got.speed == pytest.approx(sum(speeds) / len(speeds))
    assert np.isfinite(got.features()).all()
    reversed_order = weigh(matches[::-1], vectors, rival)
    assert reversed_order is not None
    np.testing.assert_allclose(reversed_order.features(), got.features(), rtol=1e-6, atol=1e-9)


def test_the_lead_counts_over_the_whole_run() -> None:
    """On the frames that one twin happens to have sampled, the other always looks worse."""
    similarities = np.array([0.99, 0.97, 0.99, 0.97], np.float32)
    rival = np.array([0.97, 0.99, 0.97, 0.99], np.float32)
    sampled = np.array([0, 2])
    match = Match(
        0, 0.0, 2.0, Line(1.0, 0.0, 1.0), sampled, similarities[sampled], np.arange(4), similarities
    )
    got = weigh([match], np.eye(4, dtype=np.float32), rival)
    assert got is not None
    assert got.lead == pytest.approx(0.0, abs=1e-6)
    assert got.similarity == pytest.approx(0.99)


def test_without_matches_there_is_no_evidence() -> None:
    assert weigh([], np.zeros((0, 3), np.float32), np.zeros(0, np.float32)) is None


def test_one_frame_is_evidence() -> None:
    match = a_match([0], np.array([0.9], np.float32))
    got = weigh([match], np.eye(1, 3, dtype=np.float32), np.array([0.6], np.float32))
    assert got is not None
    assert (got.frames, got.speed) == (1.0, 0.0)
    assert (got.similarity, got.lead) == pytest.approx((0.9, 0.3))


def test_what_resembles_frames_outside_the_match_is_of_no_consequence() -> None:
    vectors = np.eye(6, dtype=np.float32)
    rival = np.array([0.99, 0.5, 0.5, 0.5, 0.99, 0.99], np.float32)
    got = weigh([a_match([1, 2, 3], np.full(3, 0.9, np.float32))], vectors, rival)
    assert got is not None
    assert got.lead == pytest.approx(0.4)
    assert got.frames == 3.0


# ---------------------------------------------------------------- different frames


def different_by_loops(vectors: NDArray[np.float32]) -> float:
    total = 1.0
    for before, after in pairwise(vectors):
        drop = 1.0 - sum(float(a) * float(b) for a, b in zip(before, after, strict=True))
        total += min(1.0, max(0.0, drop / SAME_FRAME_DROP))
    return total


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), spread=st.sampled_from([0.0, 0.05, 0.2, 2.0]))
def test_different_frames_are_those_of_the_loops(seed: int, n: int, spread: float) -> None:
    vectors = unit(np.ones(4) + spread * np.random.default_rng(seed).normal(size=(n, 4)))
    got = different_frames(vectors)
    assert got == pytest.approx(different_by_loops(vectors), abs=1e-4)
    assert 1.0 <= got <= n


@pytest.mark.parametrize("n", [1, 2, 100])
def test_a_still_picture_is_one_frame_however_long(n: int) -> None:
    assert different_frames(np.tile(unit(np.ones((1, 7))), (n, 1))) == pytest.approx(1.0, abs=1e-3)


def test_frames_that_have_nothing_in_common_all_count() -> None:
    assert different_frames(np.eye(9, dtype=np.float32)) == 9.0


def test_opposite_frames_count_once_each() -> None:
    """A cosine below zero is no more than different."""
    assert different_frames(unit(np.array([[1.0, 0], [-1, 0], [1, 0]]))) == 3.0


def test_no_frame_is_none() -> None:
    assert different_frames(np.zeros((0, 4), np.float32)) == 0.0


# ---------------------------------------------------------------- confidence


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-min(60.0, max(-60.0, z))))


def test_the_features_keep_the_order_of_the_evidence() -> None:
    want = [0.9, math.tanh(0.02 / LEAD_SCALE), math.log(6.0), 0.25]
    assert PLAIN.features().tolist() == pytest.approx(want)


def test_half_and_double_speed_are_equally_far_from_the_true_one() -> None:
    vectors, rival, one = np.eye(1, 3, dtype=np.float32), np.zeros(1, np.float32), np.ones(1, np.float32)
    speeds = [weigh([a_match([0], one, speed)], vectors, rival) for speed in (0.5, 1.0, 2.0)]
    assert [got.speed for got in speeds if got is not None] == pytest.approx([1.0, 0.0, 1.0])


@settings(deadline=None)
@given(a=evidence, weights=st.tuples(*[st.floats(-40, 40)] * 4), bias=st.floats(-50, 50))
def test_confidence_is_that_of_a_match_times_that_of_the_duel(
    a: Evidence, weights: tuple[float, float, float, float], bias: float
) -> None:
    got = Calibration(weights, bias).confidence(a)
    z = bias + sum(w * x for w, x in zip(weights, a.features().tolist(), strict=True))
    assert got == pytest.approx(logistic(z) * logistic(DUEL_WEIGHT * a.lead * a.frames), abs=1e-9)
    assert 0.0 <= got <= 1.0


calibrations = st.one_of(
    st.just(SHIPPED),
    st.builds(Calibration, st.tuples(*[st.floats(-5, 5)] * 4), st.floats(-5, 5)),
)


@settings(deadline=None)
@given(a=evidence, calibration=calibrations, name=st.sampled_from(NAMES), more=st.floats(0, 3))
def test_confidence_follows_the_sign_of_each_weight(
    a: Evidence, calibration: Calibration, name: str, more: float
) -> None:
    """More of one thing, all else equal: up where its weight is positive, down where it is negative.

    The duel pulls with the lead, and with more frames towards the side on which the lead is: where it
    pulls against the weight nothing is promised.
    """
    weight = calibration.weights[NAMES.index(name)]
    duel = {"lead": 1.0, "frames": a.lead}.get(name, 0.0)
    if weight * duel < 0:
        return
    raised = replace(a, **{name: getattr(a, name) + more})
    change = calibration.confidence(raised) - calibration.confidence(a)
    assert change * (np.sign(weight) or np.sign(duel)) >= -1e-12


def test_the_shipped_calibration_knows_good_from_poor() -> None:
    """Whatever the fit: nearly the same pictures, far ahead, are a link; one frame like any other is none."""
    assert SHIPPED.confidence(Evidence(similarity=0.99, lead=0.1, frames=10.0, speed=0.0)) > 0.95
    assert SHIPPED.confidence(Evidence(similarity=0.8, lead=0.0, frames=1.0, speed=1.0)) < 0.1
    signs = dict(zip(NAMES, np.sign(SHIPPED.weights).tolist(), strict=True))
    assert signs == {"similarity": 1.0, "lead": 1.0, "frames": 1.0, "speed": -1.0}


@given(similarity=st.floats(-1, 1), frames=st.floats(1, 1e4))
def test_without_a_lead_it_is_at_best_a_coins_throw(similarity: float, frames: float) -> None:
    assert SHIPPED.confidence(Evidence(similarity, 0.0, frames, 0.0)) <= 0.5


# ---------------------------------------------------------------- decide


@pytest.mark.parametrize(
    ("confidence", "decision"),
    [(1.0, "linked"), (0.9, "linked"), (0.8999, "review"), (0.5, "review"), (0.4999, "none"), (0.0, "none")],
)
def test_the_thresholds_themselves_count_as_reached(confidence: float, decision: str) -> None:
    assert decide(confidence, link=0.9, review=0.5) == decision


def test_a_confidence_that_is_no_number_links_nothing() -> None:
    assert decide(float("nan"), link=0.9, review=0.5) == "none"
