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
    CLEARLY_SEEN,
    DUEL_WEIGHT,
    FEATURES,
    LEAD_SCALE,
    SAME_FRAME_DROP,
    SIGHT_FEATURES,
    UNSEEN,
    Evidence,
    Sight,
    SoundWeights,
    Weights,
    all_of,
    decide,
    different_frames,
    explained_frames,
    weigh,
)
from matcher.localize import Line, Match

N = len(FEATURES)
PLAIN = Evidence(similarity=0.9, excess=0.6, lead=0.02, frames=6.0, coverage=0.75, speed=0.25)
#: Of the form that a fit gives: everything that speaks for a match counts for it.
WEIGHTS = Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5, 1.0), -6.8)


def unit(x: NDArray[np.floating]) -> NDArray[np.float32]:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def a_match(frames: list[int], similarities: NDArray[np.float32], speed: float = 1.0) -> Match:
    rows = np.array(frames, np.int64)
    return Match(0, 0.0, 1.0, Line(speed, 0.0, 1.0), rows, similarities, rows, similarities)


evidence = st.builds(
    Evidence,
    similarity=st.floats(-1, 1),
    excess=st.floats(-1, 1),
    lead=st.floats(-2, 2),
    frames=st.floats(1, 1e4),
    coverage=st.floats(0, 1),
    speed=st.floats(0, 1),
    is_reversed=st.booleans(),
    is_further=st.booleans(),
    pieces=st.floats(1, 20),
    agreement=st.floats(-1, 10),
)


# ---------------------------------------------------------------- weigh


def zeros(nq: int) -> NDArray[np.float32]:
    return np.zeros(nq, np.float32)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), nq=st.integers(1, 12), pieces=st.integers(1, 3), is_further=st.booleans()
)
def test_evidence_is_that_of_the_loops(seed: int, nq: int, pieces: int, is_further: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(nq, 3)))
    rival = rng.uniform(-1, 1, nq).astype(np.float32)
    level = rng.uniform(-1, 1, nq).astype(np.float32)
    owner = rng.integers(-1, pieces, nq)
    matches = [
        a_match(
            rows, rng.uniform(-1, 1, len(rows)).astype(np.float32), rng.choice([-1, 1]) * rng.uniform(0.5, 2)
        )
        for piece in range(pieces)
        if (rows := np.nonzero(owner == piece)[0].tolist())
    ]
    got = weigh(matches, vectors, rival, level, is_further=is_further)
    if not matches:
        assert got is None
        return

    values, excesses, leads, speeds, backwards = [], [], [], [], []
    for match in matches:
        for row, value in zip(match.frames.tolist(), match.similarities.tolist(), strict=True):
            values.append(value)
            excesses.append((value - float(level[row])) / max(1 - float(level[row]), 0.01))
            leads.append(value - float(rival[row]))
            speeds.append(abs(math.log(abs(match.line.speed)) / math.log(2)))
            backwards.append(match.line.speed < 0)
    rows = [row for row in range(nq) if owner[row] >= 0]
    assert got is not None
    assert got.similarity == pytest.approx(sum(values) / len(values))
    assert got.excess == pytest.approx(sum(excesses) / len(values), rel=1e-4, abs=1e-6)
    assert got.lead == pytest.approx(sum(leads) / len(values), abs=1e-6)
    assert got.frames == pytest.approx(different_by_loops(vectors[rows]))
    assert got.coverage == len(rows) / nq
    assert got.speed == pytest.approx(sum(speeds) / len(speeds))
    assert got.is_reversed == (sum(backwards) > len(backwards) / 2)
    assert got.is_further == is_further
    lengths = [len(match.run) for match in matches]
    assert got.pieces == pytest.approx(sum(lengths) ** 2 / sum(n * n for n in lengths))
    assert np.isfinite(got.features()).all()
    reversed_order = weigh(matches[::-1], vectors, rival, level, is_further=is_further)
    assert reversed_order is not None
    np.testing.assert_allclose(reversed_order.features(), got.features(), rtol=1e-6, atol=1e-9)


def test_all_but_the_similarity_counts_over_the_whole_run() -> None:
    """On the frames that one twin happens to have sampled, the other always looks worse."""
    similarities = np.array([0.99, 0.97, 0.99, 0.97], np.float32)
    rival = np.array([0.97, 0.99, 0.97, 0.99], np.float32)
    sampled = np.array([0, 2])
    match = Match(
        0, 0.0, 2.0, Line(1.0, 0.0, 1.0), sampled, similarities[sampled], np.arange(4), similarities
    )
    got = weigh([match], np.eye(4, dtype=np.float32), rival, zeros(4))
    assert got is not None
    assert got.lead == pytest.approx(0.0, abs=1e-6)
    assert got.excess == pytest.approx(0.98)
    assert (got.frames, got.coverage) == (4.0, 1.0)
    assert got.similarity == pytest.approx(0.99)


def test_frames_that_another_program_explains_are_no_gap_in_this_one() -> None:
    """Of a montage's six frames two are this program's and three another's; its own are never taken away."""
    match = a_match([0, 1], np.full(2, 0.9, np.float32))
    explained = np.array([0, 1, 1, 1, 1, 0], bool)
    vectors = np.eye(6, dtype=np.float32)
    alone = weigh([match], vectors, zeros(6), zeros(6))
    beside = weigh([match], vectors, zeros(6), zeros(6), explained=explained)
    assert alone is not None
    assert beside is not None
    assert alone.coverage == pytest.approx(2 / 6)
    assert beside == replace(alone, coverage=2 / 3)


def test_only_a_clear_match_explains_its_frames() -> None:
    """Halfway from chance to identity is clear, a third of the way is not."""
    level = np.full(5, 0.4, np.float32)
    clear = [a_match([1, 2], np.full(2, 0.7, np.float32)), a_match([4], np.full(1, 0.7, np.float32))]
    assert explained_frames(clear, level).tolist() == [False, True, True, False, True]
    poor = [a_match([1, 2], np.full(2, 0.6, np.float32))]
    assert not explained_frames(poor, level).any()
    assert explained_frames([], level).tolist() == [False] * 5


def test_pieces_count_by_their_lengths() -> None:
    """Two halves are two pieces; a splinter beside a long run is hardly one."""
    vectors = np.eye(12, dtype=np.float32)

    def pieces(*lengths: int) -> float:
        starts = np.cumsum([0, *lengths])
        matches = [
            a_match(list(range(start, start + n)), np.full(n, 0.9, np.float32))
            for start, n in zip(starts.tolist(), lengths, strict=False)
        ]
        got = weigh(matches, vectors, zeros(12), zeros(12))
        assert got is not None
        return got.pieces

    assert pieces(12) == pytest.approx(1.0)
    assert pieces(6, 6) == pytest.approx(2.0)
    assert pieces(4, 4, 4) == pytest.approx(3.0)
    assert pieces(11, 1) == pytest.approx(144 / 122)


def test_without_matches_there_is_no_evidence() -> None:
    assert weigh([], np.zeros((0, 3), np.float32), zeros(0), zeros(0)) is None
    assert weigh([], np.eye(4, dtype=np.float32), zeros(4), zeros(4)) is None


def test_one_frame_is_evidence() -> None:
    match = a_match([0], np.array([0.9], np.float32))
    level = np.array([0.5], np.float32)
    got = weigh([match], np.eye(1, 3, dtype=np.float32), np.array([0.6], np.float32), level)
    assert got is not None
    assert (got.frames, got.coverage, got.speed) == (1.0, 1.0, 0.0)
    assert (got.similarity, got.excess, got.lead) == pytest.approx((0.9, 0.8, 0.3))
    assert (got.is_reversed, got.is_further) == (False, False)


def test_a_frame_that_chance_resembles_fully_keeps_the_excess_finite() -> None:
    """Identity is no more than chance there; rounding may take either above 1."""
    values = np.array([1.0, 1.0000001], np.float32)
    got = weigh([a_match([0, 1], values)], np.eye(2, dtype=np.float32), zeros(2), values[::-1])
    assert got is not None
    assert got.excess == pytest.approx(0.0, abs=1e-3)


def test_what_resembles_frames_outside_the_match_is_of_no_consequence() -> None:
    vectors = np.eye(6, dtype=np.float32)
    rival = np.array([0.99, 0.5, 0.5, 0.5, 0.99, 0.99], np.float32)
    level = np.array([1.0, 0.4, 0.4, 0.4, 1.0, 1.0], np.float32)
    got = weigh([a_match([1, 2, 3], np.full(3, 0.9, np.float32))], vectors, rival, level)
    assert got is not None
    assert got.lead == pytest.approx(0.4)
    assert got.excess == pytest.approx(0.5 / 0.6)
    assert got.frames == 3.0
    assert got.coverage == 0.5


def test_it_is_played_backwards_where_most_of_its_frames_are() -> None:
    """Not most of its matches: a splinter of two frames may lie on any line."""
    long, short = a_match([0, 1, 2], np.ones(3, np.float32), -1.0), a_match([3], np.ones(1, np.float32), 1.0)
    vectors = np.eye(4, dtype=np.float32)
    got = weigh([long, short], vectors, zeros(4), zeros(4))
    assert got is not None
    assert (got.is_reversed, got.speed) == (True, 0.0)
    forward = weigh(
        [replace(long, line=short.line), replace(short, line=long.line)], vectors, zeros(4), zeros(4)
    )
    assert forward is not None
    assert not forward.is_reversed


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


def match_by_loops(weights: Weights, a: Evidence) -> float:
    return weights.bias + sum(w * x for w, x in zip(weights.weights, a.features().tolist(), strict=True))


def test_the_features_are_named_and_keep_the_order_of_the_evidence() -> None:
    want = [
        -math.log(0.15), -math.log(0.45), math.tanh(0.02 / LEAD_SCALE), math.log(6.0), 0.75, 0.25,
        0.0, 0.0, 0.0, 0.0,
    ]  # fmt: skip
    assert PLAIN.features().tolist() == pytest.approx(want)
    assert tuple(field.name for field in fields(Evidence)) == (*FEATURES, "sight")
    assert replace(PLAIN, sight=Sight(0.5, 2.0)).features().tolist() == PLAIN.features().tolist()
    flagged = replace(PLAIN, is_reversed=True, is_further=True, pieces=3.0, agreement=1.5)
    assert flagged.features().tolist() == pytest.approx([*want[:-4], 1.0, 1.0, math.log(3.0), 1.5])
    # Rounding takes a cosine above 1, and it is identity all the same.
    beyond = replace(PLAIN, similarity=1.0000002, excess=1.001)
    assert beyond.features()[:2].tolist() == pytest.approx([-math.log(0.05)] * 2)


def test_half_and_double_speed_are_equally_far_from_the_true_one() -> None:
    vectors, rival, one = np.eye(1, 3, dtype=np.float32), zeros(1), np.ones(1, np.float32)
    speeds = [
        weigh([a_match([0], one, speed)], vectors, rival, rival) for speed in (0.5, 1.0, 2.0, -1.0, -2.0)
    ]
    assert [got.speed for got in speeds if got is not None] == pytest.approx([1.0, 0.0, 1.0, 0.0, 1.0])


@pytest.mark.parametrize("n", [0, 4, N - 1, N + 1])
def test_weights_for_other_features_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} weights for {N}"):
        Weights((1.0,) * n, 0.0)


all_weights = st.builds(Weights, st.tuples(*[st.floats(-40, 40)] * N), st.floats(-50, 50))


@settings(deadline=None)
@given(a=evidence, weights=all_weights)
def test_confidence_is_that_of_a_match_times_that_of_the_duel(a: Evidence, weights: Weights) -> None:
    got = weights.confidence(a)
    z = match_by_loops(weights, a)
    assert weights.match(a) == pytest.approx(z, abs=1e-9)
    assert got == pytest.approx(logistic(z) * logistic(DUEL_WEIGHT * a.lead * a.frames), abs=1e-9)
    assert 0.0 <= got <= 1.0


@settings(deadline=None)
@given(a=evidence, weights=all_weights)
def test_log_odds_are_those_of_the_confidence_and_finite(a: Evidence, weights: Weights) -> None:
    """Where the product is neither 0 nor 1 in floating point, by its definition."""
    log_odds = weights.log_odds(a)
    assert math.isfinite(log_odds)
    product = logistic(match_by_loops(weights, a)) * logistic(DUEL_WEIGHT * a.lead * a.frames)
    if 1e-9 < product < 1 - 1e-9:
        assert log_odds == pytest.approx(math.log(product / (1 - product)), abs=1e-4)
    # No better than either of the two; where both are likely, not much worse than the less likely one.
    lesser = min(match_by_loops(weights, a), DUEL_WEIGHT * a.lead * a.frames)
    assert log_odds <= lesser + 1e-6
    if lesser >= 0:
        assert log_odds >= min(lesser, 600.0) - math.log(3) - 1e-6


def test_log_odds_tell_apart_what_the_confidence_squeezes_together() -> None:
    """Clips are ranked by them: far above all doubt, and far below all hope."""
    good = [replace(PLAIN, excess=0.9, lead=0.3, frames=n) for n in (1e8, 1e9, 1e10)]
    strong = Weights((0.0, 0.0, 0.0, 10.0, *[0.0] * (N - 4)), 0.0)
    assert [strong.confidence(a) for a in good] == [1.0] * 3
    odds = [strong.log_odds(a) for a in good]
    assert odds == sorted(odds)
    assert len(set(odds)) == 3
    poor = [replace(PLAIN, lead=-0.5, frames=n) for n in (200.0, 100.0, 50.0)]
    assert [WEIGHTS.confidence(a) for a in poor] == pytest.approx([0.0] * 3, abs=1e-20)
    odds = [WEIGHTS.log_odds(a) for a in poor]
    assert odds == sorted(odds)
    assert len(set(odds)) == 3


fitted = st.one_of(
    st.just(WEIGHTS),
    st.builds(Weights, st.tuples(*[st.floats(-5, 5)] * N), st.floats(-5, 5)),
)


@settings(deadline=None)
@given(a=evidence, weights=fitted, name=st.sampled_from(FEATURES), more=st.floats(0, 3))
def test_confidence_follows_the_sign_of_each_weight(
    a: Evidence, weights: Weights, name: str, more: float
) -> None:
    """More of one thing, all else equal: up where its weight is positive, down where it is negative.

    The duel pulls with the lead, and with more frames towards the side on which the lead is: where it
    pulls against the weight nothing is promised.
    """
    weight = weights.weights[FEATURES.index(name)]
    duel = {"lead": 1.0, "frames": a.lead}.get(name, 0.0)
    if weight * duel < 0:
        return
    before = getattr(a, name)
    raised = replace(a, **{name: True if isinstance(before, bool) else before + more})
    change = weights.confidence(raised) - weights.confidence(a)
    assert change * (np.sign(weight) or np.sign(duel)) >= -1e-12
    by_odds = weights.log_odds(raised) - weights.log_odds(a)
    assert by_odds * (np.sign(weight) or np.sign(duel)) >= -1e-6


def test_weights_tell_good_from_poor() -> None:
    """Nearly the same pictures, far ahead, are a link; one frame like any other is none."""
    good = Evidence(similarity=0.99, excess=0.95, lead=0.1, frames=10.0, coverage=1.0, speed=0.0)
    poor = Evidence(similarity=0.8, excess=0.0, lead=0.0, frames=1.0, coverage=0.1, speed=1.0)
    assert WEIGHTS.confidence(good) > 0.95
    assert WEIGHTS.confidence(poor) < 0.1


@given(similarity=st.floats(-1, 1), frames=st.floats(1, 1e4))
def test_without_a_lead_it_is_at_best_a_coins_throw(similarity: float, frames: float) -> None:
    a = Evidence(similarity, 1.0, 0.0, frames, 1.0, 0.0)
    assert WEIGHTS.confidence(a) <= 0.5
    assert WEIGHTS.log_odds(a) <= 0.0


# ---------------------------------------------------------------- several questions at once


@given(st.lists(st.floats(-12, 12), min_size=1, max_size=4))
def test_all_of_is_the_product_of_plain_probabilities(log_odds: list[float]) -> None:
    p = math.prod(1 / (1 + math.exp(-z)) for z in log_odds)
    assert all_of(*log_odds) == pytest.approx(math.log(p / (1 - p)), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=4))
def test_all_of_is_finite_in_any_order_and_no_better_than_the_least(log_odds: list[float]) -> None:
    got = all_of(*log_odds)
    assert math.isfinite(got)
    assert got <= min(log_odds) + 1e-6
    assert all_of(*log_odds[::-1]) == pytest.approx(got, rel=1e-9, abs=1e-9)


@given(st.floats(-500, 500))
def test_one_question_is_its_own_answer_and_a_sure_one_changes_nothing(z: float) -> None:
    assert all_of(z) == pytest.approx(z, rel=1e-6, abs=1e-6)
    assert all_of(z, math.inf) == pytest.approx(all_of(z))


SOUND = SoundWeights(WEIGHTS, (10.0, 0.3, 30.0), -1.0)
sight = st.builds(Sight, seen=st.floats(-0.25, 1), stands_out=st.floats(-4, 4))


@settings(deadline=None)
@given(a=evidence, shown=st.none() | sight)
def test_a_sound_is_the_clips_where_it_is_the_programs_and_its_pictures_are_too(
    a: Evidence, shown: Sight | None
) -> None:
    """Three plain probabilities: it matches, no other does better, the pictures are those of the place."""
    if shown is None:
        z = UNSEEN
    else:
        z = -1.0 + 10 * shown.seen + 0.3 * shown.stands_out + 30 * min(max(shown.seen, 0.0), CLEARLY_SEEN)
    assert SOUND.shown(shown) == pytest.approx(z)
    product = logistic(match_by_loops(WEIGHTS, a)) * logistic(DUEL_WEIGHT * a.lead * a.frames) * logistic(z)
    got = SOUND.log_odds(replace(a, sight=shown))
    assert math.isfinite(got)
    assert logistic(got) == pytest.approx(product, abs=1e-9)
    # The pictures can only take away.
    assert got <= WEIGHTS.log_odds(a) + 1e-6


def test_how_far_beyond_chance_counts_up_to_what_is_clear() -> None:
    for seen, beyond in (
        (-0.2, 0.0),
        (0.0, 0.0),
        (0.1, 0.1),
        (CLEARLY_SEEN, CLEARLY_SEEN),
        (0.9, CLEARLY_SEEN),
    ):
        assert Sight(seen, 1.5).features().tolist() == pytest.approx([seen, 1.5, beyond])
    assert len(Sight(0.5, 0.0).features()) == len(SIGHT_FEATURES)


@pytest.mark.parametrize("n", [0, len(SIGHT_FEATURES) - 1, len(SIGHT_FEATURES) + 1])
def test_sight_weights_for_other_features_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} weights for {len(SIGHT_FEATURES)}"):
        SoundWeights(WEIGHTS, (1.0,) * n, 0.0)


# ---------------------------------------------------------------- decide


@pytest.mark.parametrize(
    ("confidence", "decision"),
    [(1.0, "linked"), (0.9, "linked"), (0.8999, "review"), (0.5, "review"), (0.4999, "none"), (0.0, "none")],
)
def test_the_thresholds_themselves_count_as_reached(confidence: float, decision: str) -> None:
    assert decide(confidence, link=0.9, review=0.5) == decision


def test_a_confidence_that_is_no_number_links_nothing() -> None:
    assert decide(float("nan"), link=0.9, review=0.5) == "none"
