"""The bench of a cluster: its figures, and a small run of it."""

from __future__ import annotations

from pathlib import Path

import made_store
import pytest
from commands import Run

from eval.bench_cluster import COLUMNS, Round, Row


def test_a_row_gives_medians_and_is_held_against_the_first() -> None:
    alone = Row(
        "alone", 60, (Round(0.0, 1.0, 10.0, 9.0), Round(0.0, 1.0, 30.0, 9.0), Round(0.0, 1.0, 20.0, 9.0))
    )
    two = Row("two", 60, (Round(8.0, 2.0, 12.0, 10.0, other=1), Round(6.0, 2.0, 12.0, 10.0)))
    assert alone.rate == 3.0
    cells = two.cells(alone)
    assert cells == ("two", "7.0 s", "2.0 s", "12.0 s", "10.0 s", "5.0", "1.67", "1")
    assert len(cells) == len(COLUMNS)
    assert two.to_json()["rounds"][0]["other"] == 1


def test_a_store_without_clips_is_one_line(matcher: Run, tmp_path: Path) -> None:
    store = made_store.make_store(tmp_path / "store", programs=2, clips=0)
    ran = matcher("bench", "cluster", "--store", store)
    assert (ran.code, len(ran.lines)) == (2, 1)
    assert "keeps no clips" in ran.err


@pytest.mark.slow
def test_workers_answer_as_this_process_does(matcher: Run, tmp_path: Path) -> None:
    store = made_store.make_store(tmp_path / "store")
    ran = matcher("bench", "cluster", "--store", store, "--clips", "12", "--workers", "1", "--json")
    assert ran.code == 0
    assert [row["step"] for row in ran.objects] == ["one process", "Ray, 1 worker"]
    assert [row["clips"] for row in ran.objects] == [12, 12]
    assert all(one["other"] == 0 and one["cpu"] > 0 for row in ran.objects for one in row["rounds"])
