"""Figures by hand, aligners by value against trying everything, and simulated clips whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval.aligners import (
    ALIGNERS,
    LEAST_FRAMES,
    TOP_MATCHES,
    WINDOW_SECONDS,
    Aligned,
    Matrix,
    best_alignment,
    heaviest_path,
    hough,
)
from eval.alignment import Row, by_name, compare, interval_iou, overlap, table, table_rows
from eval.trajectories import CLIP_STEP_SECONDS, Case, Film, Piece, make_case, simulated_cases

FLOOR = 0.35


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.0, 10.0), (0.0, 10.0), 1.0),
        ((0.0, 10.0), (5.0, 15.0), 5 / 15),
        ((0.0, 10.0), (2.0, 4.0), 0.2),
        ((0.0, 1.0), (1.0, 2.0), 0.0),
        ((3.0, 3.0), (3.0, 3.0), 0.0),
    ],
)
def test_iou_of_intervals_by_hand(a: tuple[float, float], b: tuple[float, float], expected: float) -> None:
    assert interval_iou(a, b) == pytest.approx(expected)
    assert interval_iou(b, a) == pytest.approx(expected)


def test_overlap_is_the_lesser_of_both_sides() -> None:
    true = Aligned(0.0, 10.0, 1, 50.0, 60.0)
    assert overlap(true, true) == 1.0
    assert overlap(Aligned(0.0, 10.0, 1, 55.0, 65.0), true) == pytest.approx(5 / 15)
    assert overlap(Aligned(0.0, 5.0, 1, 50.0, 60.0), true) == pytest.approx(0.5)
    assert overlap(Aligned(0.0, 10.0, 2, 50.0, 60.0), true) == 0.0
    assert overlap(Aligned(0.0, 10.0, 1, 50.0, 60.0, is_reversed=True), true) == 0.0


def case_of(*truth: Aligned, name: str = "by hand") -> Case:
    matrix = Matrix(
        np.zeros((2, 2), np.float32), np.array([0.0, 0.5]), np.zeros(2, np.int32), np.arange(2.0), 1.0, FLOOR
    )
    return Case(name, matrix, truth)


def ticking() -> Iterator[float]:
    """A clock on which every look is 2 ms later."""
    now = 0.0
    while True:
        yield now
        now += 0.002


def test_rows_by_hand() -> None:
    """Two clips, three true segments: one half a second off, one missed, one exact; and one made up."""
    first = case_of(Aligned(0, 10, 0, 20, 30), Aligned(10, 14, 0, 60, 64))
    second = case_of(Aligned(0, 8, 1, 5, 13))
    answers = {
        id(first.matrix): [Aligned(0, 10, 0, 20.5, 30.5), Aligned(11, 13, 3, 0, 2)],
        id(second.matrix): [Aligned(0, 8, 1, 5, 13)],
    }
    clock = ticking()
    (row,) = compare([first, second], {"it": lambda matrix: answers[id(matrix)]}, clock=lambda: next(clock))
    assert row == Row(
        aligner="it",
        iou=pytest.approx(9.5 / 10.5),
        start_error_seconds=pytest.approx(0.25),
        recall=pytest.approx(2 / 3),
        false_segments=0.5,
        milliseconds=pytest.approx(2.0),
    )


def test_nothing_found_is_told_as_such() -> None:
    (row,) = compare([case_of(Aligned(0, 10, 0, 20, 30))], {"none": lambda matrix: []})
    assert (row.iou, row.recall, row.false_segments) == (0.0, 0.0, 0.0)
    assert row.start_error_seconds == float("inf")


def test_no_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compare([])


def test_a_report_gets_the_rows_of_the_table_as_json_can_hold_them() -> None:
    """An aligner that finds nothing has no start error."""
    cases = [case for case in simulated_cases([0]) if case.name == "reversed"]
    rows = table_rows(cases, {"network": ALIGNERS["network"], "hough": ALIGNERS["hough"]})
    assert [(row["clips"], row["aligner"]) for row in rows] == [
        ("all", "network"), ("all", "hough"), ("reversed", "network"), ("reversed", "hough")
    ]  # fmt: skip
    assert rows[0]["start error, s"] is None
    assert rows[1]["start error, s"] < 1
    assert rows[1] | {"ms a clip": 0} == rows[3] | {"clips": "all", "ms a clip": 0}
    json.dumps(rows, allow_nan=False)


def test_the_table_has_a_line_for_every_kind_and_aligner() -> None:
    cases = [case_of(Aligned(0, 10, 0, 20, 30), name=name) for name in ("a", "b", "a")]
    lines = table(cases, {"x": lambda matrix: [], "y": lambda matrix: list(cases[0].truth)}).splitlines()
    assert len(lines) == 2 + 3 * 2
    assert lines[2].startswith("| all | x | 0.000 | inf | 0.00 |")
    assert lines[5].startswith("| a | y | 1.000 | 0.00 | 1.00 | 0.00 |")
    assert {name: len(own) for name, own in by_name(cases).items()} == {"a": 2, "b": 1}


# ---------------------------------------------------------------- aligners by value


def all_paths(
    similarity: NDArray[np.float32], clip: NDArray[np.float64], asset: NDArray[np.float64]
) -> float:
    """The heaviest path of a network, by walking all of them."""
    nodes = [
        (i, j)
        for i, row in enumerate(similarity)
        for j in np.argsort(-row, kind="stable")[:TOP_MATCHES]
        if row[j] >= FLOOR
    ]

    def heaviest_from(node: tuple[int, int]) -> float:
        i, j = node
        rest = [
            heaviest_from((a, b))
            for a, b in nodes
            if 0 < clip[a] - clip[i] <= WINDOW_SECONDS and 0 <= asset[b] - asset[j] <= WINDOW_SECONDS
        ]
        return float(similarity[i, j]) - FLOOR + max(rest, default=0.0)

    return max((heaviest_from(node) for node in nodes), default=0.0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), nq=st.integers(1, 5), nr=st.integers(1, 5))
def test_the_network_has_the_heaviest_of_all_paths(seed: int, nq: int, nr: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.uniform(0.2, 1.0, (nq, nr)).astype(np.float32)
    clip, asset = np.arange(nq) / 2, np.arange(float(nr))
    path = heaviest_path(similarity, clip, asset, FLOOR)
    if path is None:
        return
    rows, seconds, weight = path
    assert weight == pytest.approx(all_paths(similarity, clip, asset), rel=1e-5)
    assert rows.size == seconds.size >= LEAST_FRAMES
    assert np.all(np.diff(rows) > 0)
    assert np.all((np.diff(seconds) >= 0) & (np.diff(seconds) <= WINDOW_SECONDS))


def best_by_recursion(scores: NDArray[np.float64]) -> float:
    """The best local alignment, by trying every end and every step back."""
    n, m = scores.shape

    def ending_at(i: int, j: int) -> float:
        steps = [0.0]
        if i > 0 and j > 0:
            steps.append(ending_at(i - 1, j - 1))
        if i > 0 and j > 1:
            steps.append(ending_at(i - 1, j - 2))
        if i > 0:
            steps.append(scores[i - 1, j] + (ending_at(i - 2, j - 1) if i > 1 and j > 0 else 0.0))
        return max(0.0, float(scores[i, j]) + max(steps))

    return max(ending_at(i, j) for i in range(n) for j in range(m))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 6), m=st.integers(1, 6))
def test_the_alignment_is_the_best_of_all(seed: int, n: int, m: int) -> None:
    scores = np.random.default_rng(seed).uniform(-1, 1, (n, m))
    cells, weight = best_alignment(scores)
    assert weight == pytest.approx(best_by_recursion(scores))
    assert sum(scores[i, j] for i, j in cells) == pytest.approx(weight)
    rows = [i for i, _ in cells]
    assert rows == list(range(rows[0], rows[0] + len(rows))) if rows else weight == 0.0


def test_without_a_positive_score_there_is_no_alignment() -> None:
    assert best_alignment(np.full((3, 4), -0.1)) == ([], 0.0)


@pytest.mark.parametrize("name", ALIGNERS)
def test_every_aligner_finds_a_plain_clip(name: str) -> None:
    films = [Film(1), Film(2)]
    case = make_case("plain", films, [Piece(10.0, 1, 50.25)], 3)
    (said,) = ALIGNERS[name](case.matrix)
    assert said.asset == 1
    assert overlap(said, case.truth[0]) >= 0.9
    assert (said.clip_start_seconds, said.clip_end_seconds) == (0.0, 10.0)


@pytest.mark.parametrize("name", ALIGNERS)
def test_every_aligner_finds_both_parts_of_a_montage(name: str) -> None:
    films = [Film(1), Film(2)]
    case = make_case("montage", films, [Piece(8.0, 1, 50.25), Piece(3.0, -1, 0.0), Piece(7.0, 0, 90.5)], 3)
    said = ALIGNERS[name](case.matrix)
    assert [max(overlap(one, true) for one in said) >= 0.7 for true in case.truth] == [True, True]


@pytest.mark.parametrize("name", ALIGNERS)
def test_no_aligner_finds_a_stranger(name: str) -> None:
    case = make_case("stranger", [Film(1)], [Piece(8.0, -1, 0.0)], 3)
    assert case.truth == ()
    assert ALIGNERS[name](case.matrix) == []


def test_only_voting_finds_reversed_play() -> None:
    case = make_case("reversed", [Film(1)], [Piece(10.0, 0, 60.0, -1.0)], 3)
    (said,) = hough(case.matrix)
    assert said.is_reversed
    assert overlap(said, case.truth[0]) >= 0.9


# ---------------------------------------------------------------- simulated clips


def test_the_truth_of_pieces_by_hand() -> None:
    """A stranger and a frozen picture are no segments; a reversed one runs from low to high."""
    pieces = [
        Piece(4.0, 0, 10.0), Piece(2.0, -1, 0.0), Piece(1.0, 0, 14.0, 0.0), Piece(3.0, 1, 50.0, -2.0),
    ]  # fmt: skip
    case = make_case("all", [Film(1), Film(2)], pieces, 1)
    assert case.truth == (
        Aligned(0.0, 4.0, 0, 10.0, 14.0), Aligned(7.0, 10.0, 1, 44.0, 50.0, is_reversed=True)
    )  # fmt: skip
    assert case.matrix.similarity.shape == (20, 480)
    assert case.matrix.clip_end_seconds == 10.0
    assert case.matrix.step_seconds == CLIP_STEP_SECONDS


def test_frames_resemble_their_place_most() -> None:
    case = make_case("plain", [Film(1)], [Piece(10.0, 0, 50.0)], 3, noise=0.1)
    best = case.matrix.asset_seconds[case.matrix.similarity.argmax(axis=1)]
    assert np.abs(best - (50.0 + case.matrix.clip_seconds)).max() <= 1.0


def test_cases_of_a_seed_are_always_the_same_and_every_kind_is_there() -> None:
    one, two = simulated_cases([4]), simulated_cases([4])
    assert len({case.name for case in one}) == len(one) == 14
    for a, b in zip(one, two, strict=True):
        assert a.truth == b.truth
        np.testing.assert_array_equal(a.matrix.similarity, b.matrix.similarity)


def test_ours_finds_nearly_all_and_places_them_best() -> None:
    """What the comparison is for; on few seeds, with room."""
    rows = {row.aligner: row for row in compare(simulated_cases([100, 101]))}
    ours = rows["hough"]
    assert ours.recall >= 0.9
    assert ours.iou >= 0.93
    assert ours.start_error_seconds <= 0.25
    assert ours.iou >= max(rows["network"].iou, rows["dynamic"].iou)
