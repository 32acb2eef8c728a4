"""Votes by value against literal loops; order, ties and odd input are of no consequence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.voting import Candidate, Hits, best_rival, collect_hits, frame_program_table, vote


class Neighbours(NamedTuple):
    """A search result as :func:`collect_hits` takes it, all (nq, k)."""

    similarity: NDArray[np.float32]
    program: NDArray[np.int32]
    asset: NDArray[np.int32]
    asset_seconds: NDArray[np.float64]


def make_neighbours(seed: int, nq: int, k: int, *, programs: int = 4, coarse: bool = True) -> Neighbours:
    """Random neighbours; ``coarse`` similarities make ties. Two assets a program, some places empty."""
    rng = np.random.default_rng(seed)
    similarity = rng.uniform(-1, 1, (nq, k))
    if coarse:
        similarity = np.round(similarity * 8) / 8
    program = rng.integers(-1, programs, (nq, k)).astype(np.int32)
    own_assets = 2 * (programs - 1 - program)  # so that a lower program has the higher assets
    asset = np.where(program < 0, -1, own_assets + rng.integers(0, 2, (nq, k))).astype(np.int32)
    seconds = np.where(program < 0, np.nan, rng.integers(0, 6, (nq, k)) / 2)
    return Neighbours(np.where(program < 0, -np.inf, similarity).astype(np.float32), program, asset, seconds)


def collect_by_loops(neighbours: Neighbours, *, floor: float, per_program: int) -> list[tuple[float, ...]]:
    """(frame, program, asset, seconds, similarity) of each hit, as the docstring says it."""
    kept = []
    for frame in range(neighbours.similarity.shape[0]):
        row = [
            (int(p), int(a), float(t), float(s))
            for s, p, a, t in zip(*(x[frame] for x in neighbours), strict=True)
            if p >= 0 and s >= floor
        ]
        row.sort(key=lambda hit: (-hit[3], hit[1], hit[2]))
        used: dict[int, int] = {}
        for p, a, t, s in row:
            used[p] = used.get(p, 0) + 1
            if used[p] <= per_program:
                kept.append((frame, p, a, t, s))
    return kept


def as_tuples(hits: Hits) -> list[tuple[float, ...]]:
    columns = (hits.frame, hits.program, hits.asset, hits.asset_seconds, hits.similarity)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def best_by_loops(hits: Hits, nq: int, floor: float) -> list[dict[int, float]]:
    """For each frame its best similarity in each program that any frame hits."""
    programs = set(hits.program.tolist())
    table = [dict.fromkeys(programs, float(np.float32(floor))) for _ in range(nq)]
    for frame, program, _, _, similarity in as_tuples(hits):
        table[int(frame)][int(program)] = max(table[int(frame)][int(program)], similarity)
    return table


def votes_by_loops(hits: Hits, nq: int, *, floor: float, hub_margin: float) -> dict[int, float]:
    votes: dict[int, float] = {}
    for row in best_by_loops(hits, nq, floor):
        for program, own in row.items():
            about_as_close = sum(other >= np.float32(own) - np.float32(hub_margin) for other in row.values())
            if own > np.float32(floor):
                votes[program] = votes.get(program, 0.0) + (own - floor) / (1 - floor) / about_as_close
    return votes


def rival_by_loops(hits: Hits, nq: int, program: int, *, floor: float, background: float) -> list[float]:
    return [
        max([background, *(s for p, s in row.items() if p != program)])
        for row in best_by_loops(hits, nq, floor)
    ]


sizes = {
    "seed": st.integers(0, 2**32 - 1),
    "nq": st.integers(0, 6),
    "k": st.integers(0, 12),
    "programs": st.integers(1, 6),
    "coarse": st.booleans(),
}
floors = st.sampled_from([-0.75, -0.25, 0.0, 0.3, 0.5])


# ---------------------------------------------------------------- collect_hits


@settings(deadline=None)
@given(**sizes, floor=floors, per_program=st.integers(1, 4))
def test_hits_are_those_of_the_loops_in_their_order(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float, per_program: int
) -> None:
    neighbours = make_neighbours(seed, nq, k, programs=programs, coarse=coarse)
    hits = collect_hits(*neighbours, floor=floor, per_program=per_program)
    assert as_tuples(hits) == collect_by_loops(neighbours, floor=floor, per_program=per_program)
    assert len(hits) == len(as_tuples(hits))


@settings(deadline=None)
@given(**sizes, floor=floors, per_program=st.integers(1, 4))
def test_the_order_of_neighbours_in_a_row_is_of_no_consequence(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float, per_program: int
) -> None:
    neighbours = make_neighbours(seed, nq, k, programs=programs, coarse=coarse)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(k), (nq, 1)), axis=1)
    shuffled = Neighbours(*(np.take_along_axis(x, order, axis=1) for x in neighbours))
    whole = collect_hits(*neighbours, floor=floor, per_program=per_program)
    assert as_tuples(whole) == as_tuples(collect_hits(*shuffled, floor=floor, per_program=per_program))


def test_ties_go_to_the_lower_asset_then_the_earlier_time() -> None:
    neighbours = Neighbours(
        np.full((1, 4), 0.5, np.float32),
        np.zeros((1, 4), np.int32),
        np.array([[3, 1, 1, 2]], np.int32),
        np.array([[0.0, 9.0, 4.0, 1.0]]),
    )
    hits = collect_hits(*neighbours, floor=0.5, per_program=3)
    assert hits.asset.tolist() == [1, 1, 2]
    assert hits.asset_seconds.tolist() == [4.0, 9.0, 1.0]


def test_a_crowd_of_one_program_leaves_room_for_another() -> None:
    """Only neighbours of the crowding program are cut, and its best are kept."""
    similarity = np.array([[0.95, 0.94, 0.93, 0.92, 0.9]], np.float32)
    program = np.array([[7, 7, 7, 7, 2]], np.int32)
    seconds = np.arange(5.0)[None]
    hits = collect_hits(similarity, program, program, seconds, floor=0.0, per_program=2)
    assert hits.program.tolist() == [7, 7, 2]
    assert hits.similarity.tolist() == similarity[0, [0, 1, 4]].tolist()


def test_neighbours_that_are_no_number_or_missing_are_no_hits() -> None:
    similarity = np.array([[np.nan, -np.inf, 0.9, 0.4]], np.float32)
    program = np.array([[1, -1, -1, 3]], np.int32)
    hits = collect_hits(similarity, program, program, np.zeros((1, 4)), floor=-1.0, per_program=5)
    assert hits.program.tolist() == [3]


def test_negative_similarities_count_above_a_negative_floor() -> None:
    similarity = np.array([[-0.2, -0.6]], np.float32)
    program = np.array([[1, 2]], np.int32)
    hits = collect_hits(similarity, program, program, np.zeros((1, 2)), floor=-0.5, per_program=1)
    assert hits.program.tolist() == [1]
    (candidate,) = vote(hits, 1, floor=-0.5, hub_margin=0.0, candidates=5)
    assert candidate == Candidate(1, pytest.approx(0.3 / 1.5, rel=1e-5))


@pytest.mark.parametrize("wrong", range(4))
def test_shapes_that_disagree_are_refused(wrong: int) -> None:
    arrays = list(make_neighbours(1, 2, 3))
    arrays[wrong] = arrays[wrong][:, :2]
    with pytest.raises(ValueError, match=r"\(nq, k\)"):
        collect_hits(*arrays, floor=0.0, per_program=1)


def test_one_row_without_its_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(nq, k\)"):
        collect_hits(*(x[0] for x in make_neighbours(1, 2, 3)), floor=0.0, per_program=1)


# ---------------------------------------------------------------- table, votes, rival


def some_hits(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float, per_program: int = 3
) -> Hits:
    neighbours = make_neighbours(seed, nq, k, programs=programs, coarse=coarse)
    return collect_hits(*neighbours, floor=floor, per_program=per_program)


@settings(deadline=None)
@given(**sizes, floor=floors)
def test_the_table_holds_each_frames_best(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float
) -> None:
    hits = some_hits(seed, nq, k, programs, coarse, floor)
    names, table = frame_program_table(hits, nq, floor=floor)
    want = best_by_loops(hits, nq, floor)
    assert names.tolist() == sorted(set(hits.program.tolist()))
    assert table.shape == (nq, names.size)
    assert [dict(zip(names.tolist(), row.tolist(), strict=True)) for row in table] == want


@settings(deadline=None)
@given(**sizes, floor=floors, hub_margin=st.sampled_from([0.0, 0.0625, 0.2, 3.0]), top=st.integers(1, 7))
def test_votes_are_those_of_the_loops(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float, hub_margin: float, top: int
) -> None:
    hits = some_hits(seed, nq, k, programs, coarse, floor)
    got = vote(hits, nq, floor=floor, hub_margin=hub_margin, candidates=top)
    want = votes_by_loops(hits, nq, floor=floor, hub_margin=hub_margin)
    assert len(got) == min(top, len(want))
    for candidate in got:
        assert candidate.votes == pytest.approx(want[candidate.program], rel=1e-4, abs=1e-6)
        assert 0 < candidate.votes <= nq
    assert [c.votes for c in got] == sorted((c.votes for c in got), reverse=True)
    left_out = [votes for program, votes in want.items() if program not in {c.program for c in got}]
    if got and left_out:
        assert max(left_out) <= got[-1].votes + 1e-5


@settings(deadline=None)
@given(**sizes, floor=floors)
def test_the_order_of_hits_is_of_no_consequence_to_votes_and_the_rival(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float
) -> None:
    hits = some_hits(seed, nq, k, programs, coarse, floor)
    shuffled = hits.select(np.random.default_rng(seed).permutation(len(hits)))
    assert vote(hits, nq, floor=floor, hub_margin=0.1, candidates=9) == vote(
        shuffled, nq, floor=floor, hub_margin=0.1, candidates=9
    )
    np.testing.assert_array_equal(
        best_rival(hits, nq, 0, floor=floor, background=0.1),
        best_rival(shuffled, nq, 0, floor=floor, background=0.1),
    )


@settings(deadline=None)
@given(**sizes, floor=floors, above_floor=st.sampled_from([0.0, 0.2, 0.4]), program=st.integers(0, 6))
def test_the_best_rival_is_that_of_the_loops(
    seed: int, nq: int, k: int, programs: int, coarse: bool, floor: float, above_floor: float, program: int
) -> None:
    hits, background = some_hits(seed, nq, k, programs, coarse, floor), floor + above_floor
    got = best_rival(hits, nq, program, floor=floor, background=background)
    assert (got.shape, got.dtype) == ((nq,), np.float32)
    want = rival_by_loops(hits, nq, program, floor=floor, background=background)
    np.testing.assert_allclose(got, want, atol=1e-6)


def one_frame(similarities: dict[int, float]) -> Hits:
    """Hits of frame 0, one a program."""
    n = len(similarities)
    return Hits(
        np.zeros(n, np.int64),
        np.array(list(similarities), np.int32),
        np.array(list(similarities), np.int32),
        np.zeros(n),
        np.array(list(similarities.values()), np.float32),
    )


def test_what_resembles_everything_says_little() -> None:
    """A frame close to ten programs gives each a tenth; one close to a single program gives it all."""
    everyone = vote(one_frame(dict.fromkeys(range(10), 0.9)), 1, floor=0.5, hub_margin=0.05, candidates=10)
    alone = vote(one_frame({3: 0.9}), 1, floor=0.5, hub_margin=0.05, candidates=10)
    assert [c.program for c in everyone] == list(range(10))
    assert everyone[0].votes == pytest.approx(alone[0].votes / 10)
    assert alone[0].votes == pytest.approx(0.8, rel=1e-5)


def test_a_worse_program_does_not_share_the_vote_of_a_better_one() -> None:
    votes = vote(one_frame({1: 0.9, 2: 0.7}), 1, floor=0.5, hub_margin=0.1, candidates=5)
    assert votes[0] == Candidate(1, pytest.approx(0.8, rel=1e-5))
    assert votes[1] == Candidate(2, pytest.approx(0.4 / 2, rel=1e-5))


@pytest.mark.parametrize("nq", [0, 1, 3])
def test_without_hits_there_is_no_candidate_and_the_rival_is_the_background(nq: int) -> None:
    hits = some_hits(0, 0, 0, 1, True, 0.5)
    assert vote(hits, nq, floor=0.5, hub_margin=0.1, candidates=5) == []
    got = best_rival(hits, nq, 3, floor=0.5, background=0.625)
    np.testing.assert_array_equal(got, np.full(nq, 0.625))


def test_strangers_below_the_background_count_as_the_background() -> None:
    """So that a small catalogue, which has few strangers, does not make a lead look large."""
    assert best_rival(one_frame({1: 0.9, 2: 0.55}), 1, 1, floor=0.5, background=0.625) == 0.625
    hits = one_frame({1: 0.9, 2: 0.7, 3: 0.55})
    assert best_rival(hits, 1, 1, floor=0.5, background=0.625) == pytest.approx(0.7)
    assert best_rival(hits, 1, 2, floor=0.5, background=0.625) == pytest.approx(0.9)


def test_a_hit_at_the_floor_itself_is_no_vote() -> None:
    assert vote(one_frame({1: 0.5}), 1, floor=0.5, hub_margin=0.1, candidates=5) == []


def test_frames_that_hit_nothing_change_nothing() -> None:
    """Blank or foreign frames around a match neither help nor hurt a candidate."""
    hits = one_frame({1: 0.9, 2: 0.6})
    alone = vote(hits, 1, floor=0.5, hub_margin=0.1, candidates=5)
    among = vote(hits, 40, floor=0.5, hub_margin=0.1, candidates=5)
    assert alone == among


def test_a_repeated_frame_votes_again_and_again() -> None:
    hits = one_frame({1: 0.9, 2: 0.6})
    (one, *_), n = vote(hits, 1, floor=0.5, hub_margin=0.1, candidates=5), 5
    repeated = Hits(
        np.repeat(np.arange(n), 2),
        *(np.tile(x, n) for x in (hits.program, hits.asset, hits.asset_seconds, hits.similarity)),
    )
    (many, *_) = vote(repeated, n, floor=0.5, hub_margin=0.1, candidates=5)
    assert many.votes == pytest.approx(n * one.votes)


def test_rows_are_selected_by_mask_or_position() -> None:
    hits = one_frame({1: 0.9, 2: 0.6, 3: 0.7})
    assert as_tuples(hits.select(np.array([2, 0]))) == [as_tuples(hits)[2], as_tuples(hits)[0]]
    assert as_tuples(hits.select(hits.similarity > 0.65)) == [as_tuples(hits)[0], as_tuples(hits)[2]]
