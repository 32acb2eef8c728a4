"""The bench of two stages: one store for both, figures that say what they are, one object or one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Run

from eval.bench_index import PROGRAM_FRAMES
from eval.bench_two_stage import SETTINGS, bench_two_stage, make_store
from index.engines import bytes_a_vector
from index.stretches import Cut

D = 32


def test_two_stages_are_held_against_one(tmp_path: Path) -> None:
    catalog = make_store(tmp_path / "store", 2 * PROGRAM_FRAMES, d=D)
    steps: list[str] = []
    bench = bench_two_stage(
        catalog, settings=[(Cut(), 10**6), (Cut(0.0), 1)], n_clips=3, repeats=1, on_step=steps.append
    )
    one, every, least = bench.rows
    assert (bench.n, bench.d, bench.clips) == (2 * PROGRAM_FRAMES, D, 3)
    assert (one.recall, one.read, one.vector_bytes) == (1.0, 0, bytes_a_vector("flat", D))
    assert (every.recall, every.right, every.read) == (1.0, one.right, 2 * PROGRAM_FRAMES)
    assert least.read < every.read
    assert least.recall < 1.0
    assert least.vector_bytes < every.vector_bytes < one.vector_bytes / 3
    assert steps[-1] == least.name == "two-stage, 30 s, 1"
    assert json.loads(json.dumps(bench.to_json()))["rows"][0]["name"] == "one-stage, flat"


def test_less_than_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1000"):
        make_store(tmp_path / "store", PROGRAM_FRAMES - 1)


@pytest.mark.slow
def test_the_command_shows_one_object(matcher: Run) -> None:
    told = matcher("bench", "two-stage", "--size", "1k", "--repeat", "1", "--json")
    assert told.code == 0, told.err
    assert len(json.loads(told.out)["rows"]) == 1 + len(SETTINGS)
    told = matcher("bench", "two-stage", "--size", "1G")
    assert (told.code, len(told.err.splitlines())) == (2, 1)
