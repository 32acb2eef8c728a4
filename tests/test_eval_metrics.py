"""eval.metrics: worked examples by hand, and naive transcriptions of the definitions over random cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import (
    Match,
    common_length,
    covered_length,
    expected_calibration_error,
    false_link_bound,
    micro_average_precision,
    precision_recall,
    recall_at_false_links,
    recall_at_precision,
    reliability_bins,
    segment_agreement,
    segment_average_precision,
    segment_precision_recall,
    start_error_seconds,
    top1,
    wilson_interval,
)

INF = float("inf")


def match(
    clip: tuple[float, float], asset: tuple[float, float], score: float = 1.0, **other: object
) -> Match:
    names: dict[str, object] = {"clip_id": "q", "asset_id": "r"} | other
    return Match(
        clip_start_seconds=clip[0], clip_end_seconds=clip[1], asset_start_seconds=asset[0],
        asset_end_seconds=asset[1], score=score, **names,  # type: ignore[arg-type]
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- ranked lists


def naive_points(
    scores: Sequence[float], right: Sequence[bool], n_positives: int
) -> list[tuple[float, float, float]]:
    """(threshold, precision, recall) by counting anew at each threshold."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        above = [is_right for score, is_right in zip(scores, right, strict=True) if score >= threshold]
        points.append((threshold, sum(above) / len(above), sum(above) / n_positives))
    return points


def naive_average_precision(scores: Sequence[float], right: Sequence[bool], n_positives: int) -> float:
    total, before = 0.0, 0.0
    for _, precision, recall in naive_points(scores, right, n_positives):
        total += precision * (recall - before)
        before = recall
    return total


predictions = st.lists(
    st.tuples(st.sampled_from([-2.5, -1.0, 0.0, 0.5, 0.7, 3.0]), st.booleans()), max_size=14
)


def test_top1_counts_clips_whose_best_guess_is_among_the_right_ones() -> None:
    assert top1(["a", "b", None, "c"], [{"a"}, {"a"}, {"a"}, {"b", "c"}]) == 0.5
    with pytest.raises(ValueError, match="no clips"):
        top1([], [])
    with pytest.raises(ValueError, match="shorter"):
        top1(["a", "b"], [{"a"}])


def test_micro_average_precision_of_a_worked_example() -> None:
    # By rank: right (P 1/1, R 1/3), wrong, right (P 2/3, R 2/3); the third positive is never predicted.
    assert micro_average_precision([0.9, 0.8, 0.7], [True, False, True], 3) == pytest.approx(
        1 / 3 + 2 / 3 * 1 / 3
    )


def test_micro_average_precision_takes_a_tie_as_one_group() -> None:
    # The two at 0.8 come together: P 2/3 at R 2/2, whichever of them stands first.
    worked = 1 * 1 / 2 + 2 / 3 * 1 / 2
    assert micro_average_precision([0.9, 0.8, 0.8], [True, False, True], 2) == pytest.approx(worked)
    assert micro_average_precision([0.9, 0.8, 0.8], [True, True, False], 2) == pytest.approx(worked)
    # All in one group: precision 1/4 at once.
    assert micro_average_precision([0.5] * 4, [False, True, False, False], 1) == pytest.approx(0.25)


def test_micro_average_precision_ranks_negative_scores_as_any_others() -> None:
    assert micro_average_precision([-3.0, -1.0, -2.0], [False, True, True], 2) == 1.0
    assert micro_average_precision([-3.0, -1.0, 2.0], [True, False, False], 1) == pytest.approx(1 / 3)
    assert micro_average_precision([-INF, 0.0, INF], [False, True, True], 2) == 1.0


def test_without_predictions_the_average_precision_is_0() -> None:
    assert micro_average_precision([], [], 4) == 0.0
    assert recall_at_precision([], [], 4, 0.9) == 0.0


@pytest.mark.parametrize(
    ("scores", "right", "positives", "message"),
    [
        ([], [], 0, "n_positives"),
        ([1.0, 2.0], [True, True], 1, "n_positives"),
        ([math.nan], [True], 1, "NaN"),
        ([1.0], [True, False], 2, "does not fit"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    scores: list[float], right: list[bool], positives: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        micro_average_precision(scores, right, positives)


@given(predictions, st.integers(0, 3), st.randoms())
def test_the_curve_equals_counting_anew_at_each_threshold(
    cases: list[tuple[float, bool]], missed: int, random: object
) -> None:
    """Also in any other order."""
    n_positives = max(1, sum(right for _, right in cases) + missed)
    shuffled = list(cases)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    scores, right = [c[0] for c in cases], [c[1] for c in cases]
    naive = np.asarray(naive_points(scores, right, n_positives)).reshape(-1, 3)
    curve = precision_recall([c[0] for c in shuffled], [c[1] for c in shuffled], n_positives)
    np.testing.assert_allclose(
        np.stack([curve.thresholds, curve.precision, curve.recall], axis=1), naive, rtol=1e-12
    )
    assert curve.average_precision() == pytest.approx(naive_average_precision(scores, right, n_positives))


def test_recall_at_precision_takes_the_last_threshold_that_is_precise_enough() -> None:
    # Precision by rank: 1, 1, 2/3, 3/4, 4/5; recall of 5 positives: .2, .4, .4, .6, .8.
    scores, right = [5.0, 4.0, 3.0, 2.0, 1.0], [True, True, False, True, True]
    assert recall_at_precision(scores, right, 5, 0.9) == pytest.approx(0.4)
    assert recall_at_precision(scores, right, 5, 0.8) == pytest.approx(0.8)
    assert recall_at_precision(scores, right, 5, 0.75) == pytest.approx(0.8)
    # The two at the top tie, one is wrong: no threshold is more than 1/2 precise.
    assert recall_at_precision([2.0, 2.0], [True, False], 1, 0.9) == 0.0


@pytest.mark.parametrize("precision", [0.0, -0.1, 1.1, math.nan])
def test_a_precision_out_of_range_is_refused(precision: float) -> None:
    with pytest.raises(ValueError, match="precision"):
        recall_at_precision([1.0], [True], 1, precision)


@given(predictions, st.sampled_from([0.3, 0.5, 2 / 3, 0.9, 1.0]))
def test_recall_at_precision_equals_trying_each_threshold(
    cases: list[tuple[float, bool]], precision: float
) -> None:
    scores, right = [c[0] for c in cases], [c[1] for c in cases]
    n_positives = max(1, sum(right))
    tried = [r for _, p, r in naive_points(scores, right, n_positives) if p >= precision]
    assert recall_at_precision(scores, right, n_positives, precision) == max(tried, default=0.0)


def naive_recall_at_false_links(
    known: Sequence[tuple[float, bool]], unknown: Sequence[float], rate: float
) -> float:
    """Try every threshold there is, the smallest first."""
    values = sorted({score for score, _ in known} | set(unknown))
    # Between and around all scores, and at them.
    tries = [-INF, *values, *((a + b) / 2 for a, b in itertools.pairwise(values)), INF]
    for threshold in sorted(tries):
        if sum(score >= threshold for score in unknown) <= rate * len(unknown) + 1e-9:
            return sum(right for score, right in known if score >= threshold) / len(known)
    raise AssertionError


def test_recall_at_false_links_of_a_worked_example() -> None:
    known, right = [0.9, 0.8, 0.6, 0.4], [True, True, False, True]
    unknown = [0.7, 0.5, 0.3, 0.1]
    # One of four may be linked: 0.5 may not, so 0.9 and 0.8 count, 0.6 is wrong, 0.4 is too low.
    assert recall_at_false_links(known, right, unknown, 0.25) == 0.5
    # None may: only above 0.7.
    assert recall_at_false_links(known, right, unknown, 0.24) == 0.5
    # Two may: 0.4 counts as well.
    assert recall_at_false_links(known, right, unknown, 0.5) == 0.75
    assert recall_at_false_links(known, right, unknown, 1.0) == 0.75


def test_a_tie_of_known_and_unknown_counts_against() -> None:
    assert recall_at_false_links([0.7, 0.8], [True, True], [0.7, 0.1], 0.0) == 0.5
    # Three unknown clips tie, one may be linked: none can be, without the others.
    assert false_link_bound([0.7, 0.7, 0.7, 0.1], 0.25) == 0.7
    assert recall_at_false_links([0.7, 0.8], [True, True], [0.7, 0.7, 0.7, 0.1], 0.25) == 0.5


def test_a_share_that_is_a_whole_count_is_that_count() -> None:
    # 0.29 * 100 is 28.999999999999996.
    unknown = np.arange(100.0)
    assert false_link_bound(unknown, 0.29) == 70.0
    assert false_link_bound(unknown, 0.01) == 98.0
    assert false_link_bound(unknown, 0.001) == 99.0


def test_false_links_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no unknown clips"):
        recall_at_false_links([0.5], [True], [], 0.01)
    with pytest.raises(ValueError, match="no known clips"):
        recall_at_false_links([], [], [0.5], 0.01)
    with pytest.raises(ValueError, match="rate"):
        false_link_bound([0.5], 1.5)


@given(
    st.lists(st.tuples(st.sampled_from([-2.0, 0.0, 1.0, 2.0, 3.0]), st.booleans()), min_size=1, max_size=10),
    st.lists(st.sampled_from([-2.0, 0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=10),
    st.sampled_from([0.0, 0.01, 0.1, 0.2, 0.3, 0.5, 1.0]),
)
def test_recall_at_false_links_equals_trying_each_threshold(
    known: list[tuple[float, bool]], unknown: list[float], rate: float
) -> None:
    got = recall_at_false_links([k[0] for k in known], [k[1] for k in known], unknown, rate)
    assert got == pytest.approx(naive_recall_at_false_links(known, unknown, rate))


# ---------------------------------------------------------------------------------------- segments


whole_intervals = st.tuples(st.integers(0, 11), st.integers(0, 5)).map(lambda p: (p[0], p[0] + p[1]))


@given(st.lists(whole_intervals, max_size=5), st.lists(whole_intervals, max_size=5))
def test_lengths_of_unions_equal_counting_seconds(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    seconds = [{t for start, end in part for t in range(start, end)} for part in (one, other)]
    assert covered_length(one) == len(seconds[0])
    assert common_length(one, other) == len(seconds[0] & seconds[1])


def naive_segment_average_precision(predicted: Sequence[Match], true: Sequence[Match]) -> float:
    """On whole seconds: sets of (pair, axis, second), built anew at each threshold."""

    def cells(matches: Sequence[Match], axis: str) -> set[tuple[str, str, int]]:
        found = set()
        for m in matches:
            start, end = m.clip_interval if axis == "clip" else m.asset_interval
            found |= {(m.clip_id, m.asset_id, t) for t in range(int(start), int(end))}
        return found

    def boxes(m: Match) -> set[tuple[str, str, int, int]]:
        return {
            (m.clip_id, m.asset_id, a, b)
            for a in range(int(m.clip_start_seconds), int(m.clip_end_seconds))
            for b in range(int(m.asset_start_seconds), int(m.asset_end_seconds))
        }

    total, before = 0.0, 0.0
    for threshold in sorted({m.score for m in predicted}, reverse=True):
        chosen = [m for m in predicted if m.score >= threshold]
        met = [g for g in true if any(boxes(g) & boxes(m) for m in chosen)]
        precision, recall = 1.0, 1.0
        for axis in ("clip", "asset"):
            covered, common = cells(chosen, axis), len(cells(chosen, axis) & cells(met, axis))
            precision *= common / len(covered) if covered else 0.0
            recall *= common / len(cells(true, axis))
        total += math.sqrt(precision) * (math.sqrt(recall) - before)
        before = math.sqrt(recall)
    return total


matches = st.builds(
    lambda clip, asset, score, q, r: match(clip, asset, score, clip_id=q, asset_id=r),
    whole_intervals,
    whole_intervals,
    st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    st.sampled_from("ab"),
    st.sampled_from("rs"),
)


def test_segment_ap_of_worked_examples() -> None:
    truth = [match((0, 10), (100, 110))]
    assert segment_average_precision(truth, truth) == 1.0
    assert segment_average_precision([], truth) == 0.0
    # Half of the clip, and of the asset: P 1, R 1/2.
    assert segment_average_precision([match((0, 5), (100, 105))], truth) == pytest.approx(0.5)
    # Twice as long on both axes: P 1/2, R 1.
    assert segment_average_precision([match((0, 20), (100, 120))], truth) == pytest.approx(0.5)
    # Right on the clip's axis, half on the asset's: P and R sqrt(1 * 1/2).
    assert segment_average_precision([match((0, 10), (105, 115))], truth) == pytest.approx(0.5)
    # Four times too long on the asset's axis only: P sqrt(1 * 1/4), R 1.
    assert segment_average_precision([match((0, 10), (100, 140))], truth) == pytest.approx(0.5)


def test_segment_ap_adds_up_over_thresholds_and_pairs() -> None:
    truth = [match((0, 10), (0, 10)), match((0, 10), (50, 60), clip_id="q2")]
    guesses = [
        match((0, 10), (0, 10), 0.9),  # P 1, R 10/20
        match((0, 10), (0, 10), 0.8, asset_id="other"),  # P 10/20, R the same
        match((0, 10), (50, 60), -0.7, clip_id="q2"),  # P 20/30, R 1
    ]
    assert segment_average_precision(guesses, truth) == pytest.approx(0.5 + 2 / 3 * 0.5)
    curve = segment_precision_recall(guesses, truth)
    np.testing.assert_allclose(curve.precision, [1, 0.5, 2 / 3])
    np.testing.assert_allclose(curve.recall, [0.5, 0.5, 1])
    # A tie of the wrong with the last: one group, P 20/30.
    tied = [guesses[0], match((0, 10), (0, 10), -0.7, asset_id="other"), guesses[2]]
    assert segment_average_precision(tied, truth) == pytest.approx(0.5 + 2 / 3 * 0.5)
    assert segment_precision_recall(tied, truth).thresholds.tolist() == [0.9, -0.7]


def test_the_right_stretch_of_the_clip_at_a_wrong_place_of_the_asset_earns_nothing() -> None:
    truth = [match((0, 10), (100, 110))]
    assert segment_average_precision([match((0, 10), (300, 310))], truth) == 0.0
    # Nor does a box that only touches the truth's corner.
    assert segment_average_precision([match((0, 10), (110, 120))], truth) == 0.0


def test_what_two_predictions_cover_counts_once() -> None:
    truth = [match((0, 10), (100, 110))]
    twice = [match((0, 10), (100, 110), 0.9), match((0, 10), (100, 110), 0.8)]
    assert segment_average_precision(twice, truth) == 1.0


def test_segment_ap_without_a_true_length_is_refused() -> None:
    for truth in ([], [match((3, 3), (4, 9))]):
        with pytest.raises(ValueError, match="no true match"):
            segment_average_precision([match((0, 1), (0, 1))], truth)
    with pytest.raises(ValueError, match="NaN"):
        segment_average_precision([match((0, 1), (0, 1), math.nan)], [match((0, 1), (0, 1))])
    # A prediction without a length takes and earns nothing.
    assert segment_average_precision([match((0, 0), (0, 0))], [match((0, 1), (0, 1))]) == 0.0


@given(st.lists(matches, max_size=6), st.lists(matches, min_size=1, max_size=4), st.randoms())
def test_segment_ap_equals_counting_seconds_anew_at_each_threshold(
    predicted: list[Match], true: list[Match], random: object
) -> None:
    """Also in any other order."""
    lengths = [sum(end > start for start, end in axis) for axis in zip(
        *((m.clip_interval, m.asset_interval) for m in true), strict=True
    )]  # fmt: skip
    if min(lengths) == 0:
        return
    shuffled = list(predicted)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    naive = naive_segment_average_precision(predicted, true)
    assert segment_average_precision(shuffled, true) == pytest.approx(naive, abs=1e-9)


def test_segment_agreement_of_worked_examples() -> None:
    truth = [match((0, 10), (100, 110))]
    # 8 of 12 predicted seconds are right, of 10 true; 14 are either, on both axes.
    got = segment_agreement([match((2, 14), (102, 114))], truth)
    assert (got.precision, got.recall, got.iou) == pytest.approx((8 / 12, 8 / 10, 8 / 14))
    # Half is right on the asset's axis only: the geometric mean of 1 and 1/2, and of 1 and 5/15.
    got = segment_agreement([match((0, 10), (105, 115))], truth)
    assert (got.precision, got.recall) == pytest.approx((math.sqrt(0.5),) * 2)
    assert got.iou == pytest.approx(math.sqrt(1 / 3))
    wrong = segment_agreement([match((0, 10), (100, 110), asset_id="other")], truth)
    assert (wrong.precision, wrong.recall, wrong.iou) == (0, 0, 0)


def test_segment_agreement_of_nothing() -> None:
    one = [match((0, 10), (100, 110))]
    nothing = segment_agreement([], [])
    assert (nothing.precision, nothing.recall, nothing.iou) == (1, 1, 1)
    for got in (segment_agreement([], one), segment_agreement(one, [])):
        assert (got.precision, got.recall, got.iou) == (0, 0, 0)


@given(st.lists(matches, max_size=5), st.lists(matches, max_size=5))
def test_agreement_is_of_shares_and_the_iou_is_the_least(predicted: list[Match], true: list[Match]) -> None:
    got = segment_agreement(predicted, true)
    assert 0 <= got.iou <= min(got.precision, got.recall) + 1e-9
    assert max(got.precision, got.recall) <= 1


def test_the_start_error_is_measured_on_the_line() -> None:
    truth = [match((0, 10), (100, 110))]
    # Begins 2 s later in the clip, and rightly so in the asset: not off.
    assert start_error_seconds([match((2, 10), (102, 110))], truth) == 0
    assert start_error_seconds([match((2, 10), (103.5, 110))], truth) == pytest.approx(1.5)
    # Begins before the truth does: judged at the truth's first moment, where it says 101.
    assert start_error_seconds([match((0, 10), (100, 110))], [match((1, 9), (103, 111))]) == pytest.approx(2)
    assert start_error_seconds([match((0, 10), (100, 110), asset_id="other")], truth) is None
    assert start_error_seconds([match((10, 12), (110, 112))], truth) is None
    assert start_error_seconds([], truth) is None


def test_the_start_error_follows_speed_and_direction() -> None:
    fast = [match((0, 10), (100, 120))]
    assert start_error_seconds([match((5, 10), (110, 120))], fast) == pytest.approx(0)
    # At 5 s, the first moment of both, either says 105; before it, the truth says nothing.
    assert start_error_seconds([match((0, 10), (100, 110))], [match((5, 10), (105, 115))]) == pytest.approx(0)
    # Backwards, the clip's start shows the asset's end: 110 in truth, 108 as predicted.
    back = [match((0, 10), (100, 110), is_reversed=True)]
    assert start_error_seconds([match((0, 8), (100, 108))], back) == pytest.approx(2)


def test_the_start_error_is_that_of_the_earliest_moment() -> None:
    truth = [match((0, 5), (100, 105)), match((5, 10), (300, 305))]
    late = match((5, 10), (307, 312))
    assert start_error_seconds([late], truth) == pytest.approx(7)
    assert start_error_seconds([late, match((0, 5), (101, 106))], truth) == pytest.approx(1)


def test_a_match_must_not_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="ends before"):
        match((3, 2), (0, 1))
    with pytest.raises(ValueError, match="ends before"):
        match((0, 1), (3, 2))
    with pytest.raises(ValueError, match="ends before"):
        match((0, math.nan), (3, 4))


# ---------------------------------------------------------------------------------------- confidence


def test_calibration_of_a_worked_example() -> None:
    confidences, right = [0.95, 0.85, 0.82, 0.1], [True, True, False, False]
    bins = reliability_bins(confidences, right, 5)
    assert [(b.lower, b.upper, b.count) for b in bins] == [(0.0, 0.2, 1), (0.8, 1.0, 3)]
    assert bins[1].mean_confidence == pytest.approx(2.62 / 3)
    assert bins[1].share_right == pytest.approx(2 / 3)
    # (1 * 0.1 + 3 * (2.62 - 2) / 3) / 4
    assert expected_calibration_error(confidences, right, 5) == pytest.approx(0.72 / 4)


def test_a_bin_holds_its_lower_edge_and_the_last_holds_1() -> None:
    bins = reliability_bins([0.0, 0.1, 0.3, 0.7, 1.0], [False] * 5)
    assert [b.lower for b in bins] == [0.0, 0.1, 0.3, 0.7, 0.9]
    # One bin: the mean confidence against the share of right ones.
    assert expected_calibration_error([0.5, 1.0], [True, False], 1) == pytest.approx(0.25)


def test_perfect_confidences_have_no_error_and_reversed_ones_have_all() -> None:
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0
    assert expected_calibration_error([0.0, 1.0], [True, False]) == 1


def test_confidences_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        expected_calibration_error([], [])
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"in \[0, 1\]|NaN"):
            expected_calibration_error([bad], [True])
    with pytest.raises(ValueError, match="n_bins"):
        expected_calibration_error([0.5], [True], 0)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20),
    st.integers(1, 12),
)
def test_the_calibration_error_equals_sorting_into_bins_one_by_one(
    cases: list[tuple[float, bool]], n_bins: int
) -> None:
    total = 0.0
    for b in range(n_bins):
        inside = [
            (c, r)
            for c, r in cases
            if b / n_bins <= c and (c < (b + 1) / n_bins or (b == n_bins - 1 and c == 1))
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            share = sum(r for _, r in inside) / len(inside)
            total += len(inside) / len(cases) * abs(confidence - share)
    got = expected_calibration_error([c for c, _ in cases], [r for _, r in cases], n_bins)
    assert got == pytest.approx(total, abs=1e-9)


def test_wilson_intervals_of_the_books() -> None:
    # n = 10, p = 1/2: centre 1/2, half width z / (2 sqrt(n + z²)).
    half = 1.959964 / (2 * math.sqrt(10 + 1.959964**2))
    assert wilson_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    # None of n: from 0 to z² / (n + z²); all of n is the mirror image.
    assert wilson_interval(0, 10) == (0.0, pytest.approx(1.959964**2 / (10 + 1.959964**2), abs=1e-6))
    assert wilson_interval(10, 10) == (pytest.approx(10 / (10 + 1.959964**2), abs=1e-6), 1.0)
    for bad in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="n_right"):
            wilson_interval(*bad)


@given(st.integers(1, 400), st.data())
def test_a_wilson_interval_solves_its_equation(n: int, data: st.DataObject) -> None:
    """Its bounds are the shares from which the one seen lies just z standard deviations away."""
    k = data.draw(st.integers(0, n))
    for bound in wilson_interval(k, n):
        away = abs(k / n - bound)
        assert away == pytest.approx(1.959963984540054 * math.sqrt(bound * (1 - bound) / n), abs=1e-9)
