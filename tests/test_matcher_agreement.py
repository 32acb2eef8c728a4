"""Votes that agree in time, by value against literal loops, and on planted sounds among strangers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.agreement import (
    AROUND_SECONDS,
    CELL_SECONDS,
    LEAST_STANDING,
    LEAST_VOTES,
    LINES,
    MOST_ROWS,
    ROUNDING_SECONDS,
    SHIFT_SECONDS,
    SHIFT_STEP_SECONDS,
    SPEEDS,
    Agreement,
    agreements,
    measured,
    rank_agreed,
    voted_lines,
)
from matcher.elsewhere import BandReader
from matcher.lines import OTHER_SPEED_PENALTY, Line
from matcher.voting import Candidate, Hits, collect_hits

D = 64
HOP, REFERENCE_HOP = 0.2, 0.5


def hits_at_random(
    seed: int, n_rows: int, m: int, *, length: float = 60.0
) -> tuple[NDArray[np.float64], Hits, NDArray[np.float32]]:
    """Times of a look's rows, hits at four assets of two programs, and levels."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.uniform(0, 10, n_rows))
    asset = rng.integers(0, 4, m).astype(np.int32)
    hits = Hits(
        rng.integers(0, n_rows, m), asset // 2, asset, rng.uniform(0, length, m),
        rng.uniform(0.3, 1, m).astype(np.float32),
    )  # fmt: skip
    return seconds, hits, rng.uniform(0, 0.3, n_rows).astype(np.float32)


def cells_by_loops(
    seconds: NDArray[np.float64], hits: Hits, level: NDArray[np.float32]
) -> dict[tuple[int, float, int], float]:
    """Weight of each (asset, speed, half cell at which it begins), as the docstring says it."""
    best: dict[tuple[int, float, int], dict[int, float]] = defaultdict(dict)
    for i in range(len(hits)):
        row = int(hits.frame[i])
        weight = (float(hits.similarity[i]) - float(level[row])) ** 2
        for speed in SPEEDS:
            begins = int(np.floor((hits.asset_seconds[i] - speed * seconds[row]) / (CELL_SECONDS / 2)))
            for cell in (begins, begins - 1):
                rows = best[int(hits.asset[i]), speed, cell]
                rows[row] = max(rows.get(row, 0.0), weight)
    return {
        (asset, speed, cell): sum(rows.values()) * (1.0 if speed == 1.0 else OTHER_SPEED_PENALTY)
        for (asset, speed, cell), rows in best.items()
    }


@given(
    seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 12), m=st.integers(1, 60),
    length=st.sampled_from([0.5, 3.0, 60.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_each_programs_heaviest_cell_is_found(seed: int, n_rows: int, m: int, length: float) -> None:
    seconds, hits, level = hits_at_random(seed, n_rows, m, length=length)
    cells = cells_by_loops(seconds, hits, level)
    found = voted_lines(seconds, hits, level)
    assert sorted(program for program, _, _ in found) == np.unique(hits.program).tolist()
    assert [line.score for _, _, line in found] == sorted((line.score for _, _, line in found), reverse=True)
    for program, asset, line in found:
        own = {name: weight for name, weight in cells.items() if name[0] // 2 == program}
        assert line.score == pytest.approx(max(own.values()), abs=1e-6)
        begins = round((line.offset_seconds - CELL_SECONDS / 2) / (CELL_SECONDS / 2))
        assert own[asset, line.speed, begins] == pytest.approx(line.score, abs=1e-6)


def test_so_many_programs_are_measured() -> None:
    n = LINES + 5
    program = np.arange(n, dtype=np.int32)
    similarity = np.linspace(0.5, 0.9, n).astype(np.float32)
    hits = Hits(np.zeros(n, np.int64), program, program, np.full(n, 3.0), similarity)
    found = voted_lines(np.zeros(1), hits, np.zeros(1, np.float32))
    assert [found_program for found_program, _, _ in found] == list(range(n - 1, 4, -1))


def test_without_hits_nothing_agrees() -> None:
    none = np.zeros(0)
    nowhere = none.astype(np.int32)
    hits = Hits(none.astype(np.int64), nowhere, nowhere, none, none.astype(np.float32))
    assert voted_lines(np.arange(3.0), hits, np.zeros(3, np.float32)) == []
    assert (
        agreements(np.arange(3.0), np.eye(3, dtype=np.float32), hits, np.zeros(3, np.float32), _nowhere) == []
    )


def _nowhere(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    raise AssertionError(f"asset {asset} was read from {start} to {stop}")


def measured_by_loops(
    seconds: NDArray[np.float64],
    vectors: NDArray[np.float32],
    line: Line,
    times: NDArray[np.float64],
    band: NDArray[np.float32],
) -> tuple[float, float, float]:
    """Offset, mean similarity and root of the count, as the docstring says them."""
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    near = step / 2 + ROUNDING_SECONDS
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    half = (1 + (seconds[-1] - seconds[0]) * line.speed / gap) / 2
    best = (-np.inf, 0.0, 0.0)
    for k in range(round(2 * SHIFT_SECONDS / SHIFT_STEP_SECONDS) + 1):
        offset = line.offset_seconds - SHIFT_SECONDS + k * SHIFT_STEP_SECONDS
        total, count = 0.0, 0
        for time, vector in zip(times, band, strict=True):
            moment = (time - offset) / line.speed
            if not seconds[0] - near <= moment <= seconds[-1] + near:
                continue
            count += 1
            row = int(np.abs(seconds - moment).argmin())
            if abs(seconds[row] - moment) <= near:
                total += float(vectors[row] @ vector)
        n = max(count, half)
        if total / n > best[0] + 1e-9:
            best = (total / n, offset, n)
    return best[1], best[0], float(np.sqrt(best[2]))


def unit(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    v = rng.normal(size=(n, D))
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True), np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    nq=st.integers(1, 25),
    nr=st.integers(1, 20),
    speed=st.sampled_from(SPEEDS),
)
@settings(max_examples=60, deadline=None)
def test_a_line_is_measured_as_loops_do(seed: int, nq: int, nr: int, speed: float) -> None:
    rng = np.random.default_rng(seed)
    # Off the grid of the shifts, so that no two moments are as near to each other as rounding is.
    seconds = np.cumsum(rng.uniform(0.15, 0.6, nq))
    times = 3.0 + np.cumsum(rng.uniform(0.3, 0.9, nr))
    line = Line(speed, float(rng.uniform(2, 4)), 1.0)
    q, r = unit(rng, nq), unit(rng, nr)
    moved, similarity, root = measured(seconds, q, line, times, r)
    offset, mean, count = measured_by_loops(seconds, q, line, times, r)
    assert similarity == pytest.approx(mean, abs=1e-6)
    assert root == pytest.approx(count)
    assert moved.offset_seconds == pytest.approx(offset, abs=1e-6)
    assert (moved.speed, moved.score) == (line.speed, line.score)


def test_a_look_of_hours_is_compared_at_some_moments() -> None:
    """As well as at all, and in no more memory."""
    rng = np.random.default_rng(3)
    times = np.arange(0, 3600, REFERENCE_HOP, dtype=np.float64)
    band = unit(rng, times.size)
    seconds = np.arange(0, 3500, REFERENCE_HOP, dtype=np.float64)
    vectors = band[20 : 20 + seconds.size]
    moved, similarity, root = measured(seconds, vectors, Line(1.0, 10.2, 1.0), times, band)
    assert moved.offset_seconds == pytest.approx(10.0, abs=0.5 * REFERENCE_HOP)
    assert similarity == pytest.approx(1.0, abs=1e-5)
    assert root**2 == pytest.approx(MOST_ROWS * seconds.size / times.size, rel=0.01)


# --- Planted sounds ---

#: Seconds after which a sound is quite another.
_CHANGES_SECONDS = 0.3


def sound(seed: int, seconds: float) -> Callable[[NDArray[np.float64]], NDArray[np.float32]]:
    """A sound that changes smoothly; gives its descriptors at any times."""
    knots = unit(np.random.default_rng(seed), int(seconds / _CHANGES_SECONDS) + 3)

    def at(times: NDArray[np.float64]) -> NDArray[np.float32]:
        place = np.clip(times / _CHANGES_SECONDS, 0, len(knots) - 2)
        first = place.astype(np.int64)
        share = (place - first)[:, None].astype(np.float32)
        v = (1 - share) * knots[first] + share * knots[first + 1]
        return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True), np.float32)

    return at


PROGRAMS = 40
REFERENCE_TIMES = np.arange(0, 120, REFERENCE_HOP, dtype=np.float64)


@pytest.fixture(scope="module")
def programs() -> NDArray[np.float32]:
    """(programs, nr, d)."""
    return np.stack([sound(i, 120)(REFERENCE_TIMES) for i in range(PROGRAMS)])


def reader(programs: NDArray[np.float32]) -> BandReader:
    def read(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        low, high = np.searchsorted(REFERENCE_TIMES, [start, stop])
        return REFERENCE_TIMES[low:high], programs[asset, low:high]

    return read


def asked(
    programs: NDArray[np.float32], seconds: NDArray[np.float64], vectors: NDArray[np.float32], k: int = 40
) -> list[Agreement]:
    """Agreements of a look with all programs, by exact search; each program is one asset."""
    similarity = vectors @ programs.reshape(-1, D).T
    nearest = np.argsort(-similarity, axis=1)[:, :k]
    asset = (nearest // len(REFERENCE_TIMES)).astype(np.int32)
    level = np.full(len(seconds), 0.2, np.float32)
    hits = collect_hits(
        np.take_along_axis(similarity, nearest, 1), asset, asset,
        REFERENCE_TIMES[nearest % len(REFERENCE_TIMES)], floor=level, per_program=4,
    )  # fmt: skip
    return agreements(seconds, vectors, hits, level, reader(programs))


def under(vectors: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """What is left of descriptors under another sound; of their length it takes so much."""
    other = sound(seed, 20)(HOP * np.arange(len(vectors), dtype=np.float64))
    mixed = share * vectors + (1 - share) * other
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("start", [10.0, 33.13, 71.9])
def test_a_planted_stretch_is_found_to_a_tenth(
    programs: NDArray[np.float32], speed: float, start: float
) -> None:
    seconds = np.arange(0, 10, HOP)
    (best, second, *_) = asked(programs, seconds, sound(7, 120)(start + speed * seconds))
    assert best.program == 7
    assert best.line.speed == speed
    assert best.line.at(5.0) == pytest.approx(start + speed * 5.0, abs=0.15)
    assert best.standing > 2 * second.standing


@pytest.mark.parametrize("seed", range(8))
def test_what_votes_by_program_lose_under_a_louder_sound_is_found(
    programs: NDArray[np.float32], seed: int
) -> None:
    seconds = np.arange(0, 10, HOP)
    own = seed + 20
    vectors = under(sound(own, 120)(30.05 + seconds), 0.33, 1000 + seed)
    best = asked(programs, seconds, vectors)[0]
    assert best.program == own
    assert best.line.at(5.0) == pytest.approx(35.05, abs=0.15)
    assert best.standing >= LEAST_STANDING


@pytest.mark.parametrize("seconds", [4.0, 10.0, 40.0])
def test_what_chance_reaches_does_not_grow_with_the_look(
    programs: NDArray[np.float32], seconds: float
) -> None:
    times = np.arange(0, seconds, HOP)
    best = [asked(programs, times, sound(5000 + i, seconds)(times))[0].standing for i in range(12)]
    assert 0.3 < float(np.median(best)) < 1.1


def test_no_more_of_an_asset_is_read_than_the_line_needs(programs: NDArray[np.float32]) -> None:
    read = reader(programs)
    widest = 0.0

    def watched(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        nonlocal widest
        widest = max(widest, stop - start)
        return read(asset, start, stop)

    seconds = np.arange(0, 10, HOP)
    vectors = sound(3, 120)(40 + seconds)
    hits = Hits(
        np.arange(len(seconds)), np.full(len(seconds), 3, np.int32), np.full(len(seconds), 3, np.int32),
        40 + seconds, np.ones(len(seconds), np.float32),
    )  # fmt: skip
    (found,) = agreements(seconds, vectors, hits, np.zeros(len(seconds), np.float32), watched)
    assert found.similarity > 0.9
    assert widest <= max(SPEEDS) * 10 + 2 * AROUND_SECONDS


# --- Ranking ---


def agreement(program: int, standing: float, votes: float) -> Agreement:
    return Agreement(program, program, Line(1.0, 0.0, votes), standing / 4, standing)


def test_those_that_agree_are_aligned_and_the_others_are_guesses() -> None:
    agreed = [
        agreement(5, 2.0, 0.01), agreement(4, LEAST_STANDING, 0.0), agreement(3, 0.5, LEAST_VOTES),
        agreement(2, 0.4, LEAST_VOTES / 2),
    ]  # fmt: skip
    voted = [Candidate(2, 3.0), Candidate(3, 2.0), Candidate(1, 1.0), Candidate(0, 0.5)]
    assert rank_agreed(agreed, voted, 5) == [
        Candidate(5, 0.0, 2.0), Candidate(4, 0.0, LEAST_STANDING), Candidate(3, 2.0, 0.5),
        Candidate(2, 3.0, is_weak=True), Candidate(1, 1.0, is_weak=True),
    ]  # fmt: skip
    assert [one.program for one in rank_agreed(agreed, voted, 2)] == [5, 4, 3]
    assert rank_agreed([], [], 5) == []
