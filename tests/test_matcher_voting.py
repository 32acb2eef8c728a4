"""Votes by value against literal loops; order, ties and odd input are of no consequence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.voting import Candidate, Hits, ballot, best_rival, collect_hits, vote


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


def random_levels(seed: int, nq: int) -> NDArray[np.float32]:
    """(nq,) floors or levels; coarse, so that some hits lie exactly on them."""
    return np.random.default_rng(seed + 1).choice([-0.75, -0.25, 0.0, 0.25, 0.5], nq).astype(np.float32)


def collect_by_loops(
    neighbours: Neighbours, *, floor: NDArray[np.float32], per_program: int
) -> list[tuple[float, ...]]:
    """(frame, program, asset, seconds, similarity) of each hit, as the docstring says it."""
    kept = []
    for frame in range(neighbours.similarity.shape[0]):
        row = [
            (int(p), int(a), float(t), float(s))
            for s, p, a, t in zip(*(x[frame] for x in neighbours), strict=True)
            if p >= 0 and s >= floor[frame]
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


def best_by_loops(hits: Hits, level: NDArray[np.float32]) -> list[dict[int, float]]:
    """For each frame its best similarity in each program that any frame hits."""
    programs = set(hits.program.tolist())
    table = [dict.fromkeys(programs, float(own)) for own in level]
    for frame, program, _, _, similarity in as_tuples(hits):
        table[int(frame)][int(program)] = max(table[int(frame)][int(program)], similarity)
    return table


def votes_by_loops(hits: Hits, level: NDArray[np.float32], *, hub_margin: float) -> dict[int, float]:
    votes: dict[int, float] = {}
    for row, chance in zip(best_by_loops(hits, level), level.tolist(), strict=True):
        for program, own in row.items():
            about_as_close = sum(other >= np.float32(own) - np.float32(hub_margin) for other in row.values())
            if own > chance:
                votes[program] = votes.get(program, 0.0) + (own - chance) / (1 - chance) / about_as_close
    return votes


def rival_by_loops(hits: Hits, level: NDArray[np.float32], program: int) -> list[float]:
    return [
        max([chance, *(s for p, s in row.items() if p != program)])
        for row, chance in zip(best_by_loops(hits, level), level.tolist(), strict=True)
    ]


sizes = {
    "seed": st.integers(0, 2**32 - 1),
    "nq": st.integers(0, 6),
    "k": st.integers(0, 12),
    "programs": st.integers(1, 6),
    "coarse": st.booleans(),
}


# ---------------------------------------------------------------- collect_hits


@settings(deadline=None)
@given(**sizes, per_program=st.integers(1, 4))
def test_hits_are_those_of_the_loops_in_their_order(
    seed: int, nq: int, k: int, programs: int, coarse: bool, per_program: int
) -> None:
    neighbours, floor = (
        make_neighbours(seed, nq, k, programs=programs, coarse=coarse),
        random_levels(seed, nq),
    )
    hits = collect_hits(*neighbours, floor=floor, per_program=per_program)
    assert as_tuples(hits) == collect_by_loops(neighbours, floor=floor, per_program=per_program)
    assert len(hits) == len(as_tuples(hits))


@settings(deadline=None)
@given(**sizes, per_program=st.integers(1, 4))
def test_the_order_of_neighbours_in_a_row_is_of_no_consequence(
    seed: int, nq: int, k: int, programs: int, coarse: bool, per_program: int
) -> None:
    neighbours, floor = (
        make_neighbours(seed, nq, k, programs=programs, coarse=coarse),
        random_levels(seed, nq),
    )
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(k), (nq, 1)), axis=1)
    shuffled = Neighbours(*(np.take_along_axis(x, order, axis=1) for x in neighbours))
    whole = collect_hits(*neighbours, floor=floor, per_program=per_program)
    assert as_tuples(whole) == as_tuples(collect_hits(*shuffled, floor=floor, per_program=per_program))


def flat(value: float, nq: int = 1) -> NDArray[np.float32]:
    """The same level for every frame."""
    return np.full(nq, value, np.float32)


def test_each_frame_has_its_own_floor() -> None:
    """A black frame resembles everything: what is evidence for a face is chance for it."""
    similarity = np.array([[0.9, 0.7], [0.9, 0.7], [0.9, 0.7]], np.float32)
    program = np.array([[1, 2]] * 3, np.int32)
    floor = np.array([0.5, 0.8, 0.95], np.float32)
    hits = collect_hits(similarity, program, program, np.zeros((3, 2)), floor=floor, per_program=9)
    assert list(zip(hits.frame.tolist(), hits.program.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 1)]


def test_ties_go_to_the_lower_asset_then_the_earlier_time() -> None:
    neighbours = Neighbours(
        np.full((1, 4), 0.5, np.float32),
        np.zeros((1, 4), np.int32),
        np.array([[3, 1, 1, 2]], np.int32),
        np.array([[0.0, 9.0, 4.0, 1.0]]),
    )
    hits = collect_hits(*neighbours, floor=flat(0.5), per_program=3)
    assert hits.asset.tolist() == [1, 1, 2]
    assert hits.asset_seconds.tolist() == [4.0, 9.0, 1.0]


def test_a_crowd_of_one_program_leaves_room_for_another() -> None:
    """Only neighbours of the crowding program are cut, and its best are kept."""
    similarity = np.array([[0.95, 0.94, 0.93, 0.92, 0.9]], np.float32)
    program = np.array([[7, 7, 7, 7, 2]], np.int32)
    seconds = np.arange(5.0)[None]
    hits = collect_hits(similarity, program, program, seconds, floor=flat(0.0), per_program=2)
    assert hits.program.tolist() == [7, 7, 2]
    assert hits.similarity.tolist() == similarity[0, [0, 1, 4]].tolist()


def test_neighbours_that_are_no_number_or_missing_are_no_hits() -> None:
    similarity = np.array([[np.nan, -np.inf, 0.9, 0.4]], np.float32)
    program = np.array([[1, -1, -1, 3]], np.int32)
    hits = collect_hits(similarity, program, program, np.zeros((1, 4)), floor=flat(-1.0), per_program=5)
    assert hits.program.tolist() == [3]


def test_negative_similarities_count_above_a_negative_floor() -> None:
    similarity = np.array([[-0.2, -0.6]], np.float32)
    program = np.array([[1, 2]], np.int32)
    hits = collect_hits(similarity, program, program, np.zeros((1, 2)), floor=flat(-0.5), per_program=1)
    assert hits.program.tolist() == [1]
    (candidate,) = vote(ballot(hits, flat(-0.5)), hub_margin=0.0, candidates=5)
    assert candidate == Candidate(1, pytest.approx(0.3 / 1.5, rel=1e-5))


@pytest.mark.parametrize("wrong", range(4))
def test_shapes_that_disagree_are_refused(wrong: int) -> None:
    arrays = list(make_neighbours(1, 2, 3))
    arrays[wrong] = arrays[wrong][:, :2]
    with pytest.raises(ValueError, match=r"\(nq, k\)"):
        collect_hits(*arrays, floor=flat(0.0, 2), per_program=1)


def test_one_row_without_its_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(nq, k\)"):
        collect_hits(*(x[0] for x in make_neighbours(1, 2, 3)), floor=flat(0.0), per_program=1)


# ---------------------------------------------------------------- ballot, votes, rival


def some_hits(
    seed: int, nq: int, k: int, programs: int, coarse: bool, per_program: int = 3
) -> tuple[Hits, NDArray[np.float32]]:
    """Hits and the level that they lie above."""
    neighbours, level = (
        make_neighbours(seed, nq, k, programs=programs, coarse=coarse),
        random_levels(seed, nq),
    )
    return collect_hits(*neighbours, floor=level, per_program=per_program), level


@settings(deadline=None)
@given(**sizes)
def test_the_ballot_holds_each_frames_best(seed: int, nq: int, k: int, programs: int, coarse: bool) -> None:
    hits, level = some_hits(seed, nq, k, programs, coarse)
    got = ballot(hits, level)
    names = got.programs.tolist()
    assert names == sorted(set(hits.program.tolist()))
    assert got.similarity.dtype == np.float32
    np.testing.assert_array_equal(got.level, level)
    table = [dict.fromkeys(names, float(one)) for one in level]
    entries = list(zip(got.frame.tolist(), got.column.tolist(), got.similarity.tolist(), strict=True))
    for frame, column, similarity in entries:
        table[frame][names[column]] = similarity
    assert table == best_by_loops(hits, level)
    assert entries == sorted(entries, key=lambda entry: (entry[0], -entry[2], entry[1]))
    assert len({entry[:2] for entry in entries}) == len(entries)


@settings(deadline=None)
@given(**sizes, hub_margin=st.sampled_from([0.0, 0.0625, 0.2, 3.0]), top=st.integers(1, 7))
def test_votes_are_those_of_the_loops(
    seed: int, nq: int, k: int, programs: int, coarse: bool, hub_margin: float, top: int
) -> None:
    hits, level = some_hits(seed, nq, k, programs, coarse)
    got = vote(ballot(hits, level), hub_margin=hub_margin, candidates=top)
    want = votes_by_loops(hits, level, hub_margin=hub_margin)
    assert len(got) == min(top, len(want))
    for candidate in got:
        assert candidate.votes == pytest.approx(want[candidate.program], rel=1e-4, abs=1e-6)
        assert 0 < candidate.votes <= nq
    assert [c.votes for c in got] == sorted((c.votes for c in got), reverse=True)
    left_out = [votes for program, votes in want.items() if program not in {c.program for c in got}]
    if got and left_out:
        assert max(left_out) <= got[-1].votes + 1e-5


@settings(deadline=None)
@given(**sizes)
def test_the_order_of_hits_is_of_no_consequence_to_votes_and_the_rival(
    seed: int, nq: int, k: int, programs: int, coarse: bool
) -> None:
    hits, level = some_hits(seed, nq, k, programs, coarse)
    shuffled = hits.select(np.random.default_rng(seed).permutation(len(hits)))
    whole, mixed = ballot(hits, level), ballot(shuffled, level)
    assert vote(whole, hub_margin=0.1, candidates=9) == vote(mixed, hub_margin=0.1, candidates=9)
    np.testing.assert_array_equal(best_rival(whole, 0), best_rival(mixed, 0))


@settings(deadline=None)
@given(**sizes, program=st.integers(0, 6))
def test_the_best_rival_is_that_of_the_loops(
    seed: int, nq: int, k: int, programs: int, coarse: bool, program: int
) -> None:
    hits, level = some_hits(seed, nq, k, programs, coarse)
    got = best_rival(ballot(hits, level), program)
    assert (got.shape, got.dtype) == ((nq,), np.float32)
    np.testing.assert_array_equal(got, np.array(rival_by_loops(hits, level, program), np.float32))


def below(level: NDArray[np.float32], seed: int, k: int, program: int) -> Neighbours:
    """``k`` neighbours a frame of one program, every one of them less similar than chance."""
    rng = np.random.default_rng(seed)
    similarity = np.nextafter(level, np.float32(-2))[:, None] - rng.integers(0, 3, (level.size, k)) / 16
    return Neighbours(
        similarity.astype(np.float32),
        np.full((level.size, k), program, np.int32),
        np.full((level.size, k), 90 + program, np.int32),
        rng.uniform(0, 9, (level.size, k)),
    )


@settings(deadline=None)
@given(**sizes, extra=st.integers(1, 5), program=st.integers(0, 9))
def test_a_program_below_the_level_of_every_frame_changes_nothing(
    seed: int, nq: int, k: int, programs: int, coarse: bool, extra: int, program: int
) -> None:
    """What makes the incremental re-link exact, also where the new program has a low position."""
    level = random_levels(seed, nq)
    old = make_neighbours(seed, nq, k, programs=programs, coarse=coarse)
    old = old._replace(program=np.where(old.program >= program, old.program + 1, old.program))
    new = below(level, seed, extra, program)
    both = Neighbours(*(np.concatenate(pair, axis=1) for pair in zip(old, new, strict=True)))
    before, after = (
        ballot(collect_hits(*neighbours, floor=level, per_program=3), level) for neighbours in (old, both)
    )
    assert vote(before, hub_margin=0.1, candidates=99) == vote(after, hub_margin=0.1, candidates=99)
    for other in (*before.programs.tolist(), program, 77):
        np.testing.assert_array_equal(best_rival(before, other), best_rival(after, other))


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


def votes_of(
    similarities: dict[int, float], *, hub_margin: float = 0.1, level: float = 0.5, nq: int = 1
) -> list[Candidate]:
    """Votes of ``nq`` frames of which the first hits something."""
    return vote(ballot(one_frame(similarities), flat(level, nq)), hub_margin=hub_margin, candidates=10)


def test_what_resembles_everything_says_little() -> None:
    """A frame close to ten programs gives each a tenth; one close to a single program gives it all."""
    everyone = votes_of(dict.fromkeys(range(10), 0.9), hub_margin=0.05)
    alone = votes_of({3: 0.9}, hub_margin=0.05)
    assert [c.program for c in everyone] == list(range(10))
    assert everyone[0].votes == pytest.approx(alone[0].votes / 10)
    assert alone[0].votes == pytest.approx(0.8, rel=1e-5)


def test_a_worse_program_does_not_share_the_vote_of_a_better_one() -> None:
    votes = votes_of({1: 0.9, 2: 0.7})
    assert votes[0] == Candidate(1, pytest.approx(0.8, rel=1e-5))
    assert votes[1] == Candidate(2, pytest.approx(0.4 / 2, rel=1e-5))


def test_the_same_similarity_says_less_where_chance_gives_more() -> None:
    assert votes_of({1: 0.9}, level=0.8)[0].votes == pytest.approx(0.5, rel=1e-5)
    assert votes_of({1: 0.9}, level=0.6)[0].votes == pytest.approx(0.75, rel=1e-5)
    assert votes_of({1: 0.9}, level=0.9) == []


@pytest.mark.parametrize("level", [0.999, 1.0, 1.0000001])
def test_a_frame_that_chance_resembles_fully_gives_no_more_than_its_vote(level: float) -> None:
    """No division by nothing; also where rounding takes a cosine above 1."""
    votes = votes_of({1: 1.0000002}, level=level)
    assert all(np.isfinite(c.votes) and 0 < c.votes < 1.01 for c in votes)


@pytest.mark.parametrize("nq", [0, 1, 3])
def test_without_hits_there_is_no_candidate_and_the_rival_is_the_level(nq: int) -> None:
    hits, _ = some_hits(0, 0, 0, 1, True)
    level = np.linspace(0.5, 0.625, nq, dtype=np.float32)
    none = ballot(hits, level)
    assert vote(none, hub_margin=0.1, candidates=5) == []
    np.testing.assert_array_equal(best_rival(none, 3), level)


def test_strangers_below_the_level_count_as_the_level() -> None:
    """So that a small catalogue, which has few strangers, does not make a lead look large."""
    assert best_rival(ballot(one_frame({1: 0.9, 2: 0.55}), flat(0.625)), 1) == 0.625
    three = ballot(one_frame({1: 0.9, 2: 0.7, 3: 0.55}), flat(0.625))
    assert best_rival(three, 1) == pytest.approx(0.7)
    assert best_rival(three, 2) == pytest.approx(0.9)


def test_a_hit_at_the_level_itself_is_no_vote() -> None:
    assert votes_of({1: 0.5}) == []


def test_frames_that_hit_nothing_change_nothing() -> None:
    """Blank or foreign frames around a match neither help nor hurt a candidate."""
    assert votes_of({1: 0.9, 2: 0.6}) == votes_of({1: 0.9, 2: 0.6}, nq=40)


def test_a_repeated_frame_votes_again_and_again() -> None:
    hits, n = one_frame({1: 0.9, 2: 0.6}), 5
    (one, *_) = vote(ballot(hits, flat(0.5)), hub_margin=0.1, candidates=5)
    repeated = Hits(
        np.repeat(np.arange(n), 2),
        *(np.tile(x, n) for x in (hits.program, hits.asset, hits.asset_seconds, hits.similarity)),
    )
    (many, *_) = vote(ballot(repeated, flat(0.5, n)), hub_margin=0.1, candidates=5)
    assert many.votes == pytest.approx(n * one.votes)


def test_rows_are_selected_by_mask_or_position() -> None:
    hits = one_frame({1: 0.9, 2: 0.6, 3: 0.7})
    assert as_tuples(hits.select(np.array([2, 0]))) == [as_tuples(hits)[2], as_tuples(hits)[0]]
    assert as_tuples(hits.select(hits.similarity > 0.65)) == [as_tuples(hits)[0], as_tuples(hits)[2]]
