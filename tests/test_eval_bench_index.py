"""The bench of the index: its vectors are scenes, both sides hold the same, the figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run

from eval import bench_index as bench_module
from eval.bench_index import (
    BATCHES,
    PROGRAM_COSINE,
    PROGRAM_FRAMES,
    QUERY_COSINE,
    SCENE_COSINE,
    SCENE_FRAMES,
    IndexBench,
    bench_index,
    growth,
    parse_size,
    program_ids,
    program_vectors,
    programs,
    queries,
)
from eval.plots import cost_plot
from index.drift import recall_of
from index.engines import KINDS, engine_bytes
from index.rows import id_range

D = 64


@pytest.mark.parametrize(
    ("words", "n"),
    [("100k", 100_000), ("1M", 1_000_000), ("10M", 10_000_000), ("1.5k", 1500), ("2000", 2000)],
)
def test_sizes_are_read(words: str, n: int) -> None:
    assert parse_size(words) == n


@pytest.mark.parametrize("words", ["", "k", "many", "1G", "-5k", "999", "nan", "inf"])
def test_what_is_no_size_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"write 100k|less than one program"):
        parse_size(words)


def test_a_program_is_a_bundle_of_scenes() -> None:
    frames = program_vectors(3, PROGRAM_FRAMES, 512, seed=1)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=1), 1.0, atol=1e-3)
    np.testing.assert_array_equal(frames, frames.astype(np.float16))
    similarity = frames @ frames.T
    scene = np.arange(PROGRAM_FRAMES) // SCENE_FRAMES
    same = (scene[:, None] == scene) & ~np.eye(PROGRAM_FRAMES, dtype=bool)
    assert similarity[same].mean() == pytest.approx(SCENE_COSINE**2, abs=0.02)
    apart = similarity[scene[:, None] != scene].mean()
    assert apart == pytest.approx((SCENE_COSINE * PROGRAM_COSINE) ** 2, abs=0.02)
    other = program_vectors(4, PROGRAM_FRAMES, 512, seed=1)
    assert abs((frames @ other.T).mean()) < 0.04


def test_vectors_depend_on_seed_and_number_alone() -> None:
    some = list(programs(2 * PROGRAM_FRAMES + 300, D, seed=5))
    assert [len(ids) for ids, _ in some] == [PROGRAM_FRAMES, PROGRAM_FRAMES, 300]
    np.testing.assert_array_equal(some[1][1], program_vectors(1, PROGRAM_FRAMES, D, seed=5))
    assert not np.array_equal(some[1][1], program_vectors(1, PROGRAM_FRAMES, D, seed=6))
    for number, (ids, _) in enumerate(some):
        np.testing.assert_array_equal(ids, program_ids(number, len(ids)))
        low, high = id_range(number + 1)
        assert low <= ids.min()
        assert ids.max() < high


def test_queries_are_near_what_is_stored() -> None:
    every = np.concatenate([vectors for _, vectors in programs(3 * PROGRAM_FRAMES, 256, seed=2)])
    nearest = (queries(3 * PROGRAM_FRAMES, 40, 256, seed=2) @ every.T).max(axis=1)
    assert float(np.mean(nearest)) == pytest.approx(QUERY_COSINE, abs=0.05)


def test_recall_counts_what_is_wanted() -> None:
    got = np.array([[1, 2, 3], [4, 5, 6]])
    assert recall_of(got, got[:, ::-1]) == 1.0
    assert recall_of(got, np.array([[1, 9, 8], [7, 7, 7]])) == pytest.approx(1 / 6)
    assert recall_of(got, np.array([[1, -1, -1], [4, 5, -1]])) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_taken(kind: str, tmp_path: Path) -> None:
    steps: list[str] = []
    n = 5 * PROGRAM_FRAMES
    bench = bench_index(n, tmp_path, kind=kind, d=D, repeats=1, on_step=steps.append)
    assert (bench.n, bench.kind, bench.d) == (n, kind, D)
    rows = {row.name: row for row in bench.rows}
    assert list(rows) == [
        *(f"search, batch {batch}" for batch in BATCHES), "recall@10", "add", "peak memory", "open",
        "bytes a vector", "remove a program",
    ]  # fmt: skip
    assert rows["recall@10"].ours >= (1.0 if kind == "flat" else 0.9)
    assert rows["bytes a vector"].is_met
    assert rows["bytes a vector"].raw == engine_bytes(kind, D, n, bench.nlist) / n
    assert all(row.ours > 0 for row in bench.rows)
    assert list(tmp_path.iterdir()) == []
    assert steps[0] == f"training {kind}"


def test_what_does_not_fit_into_memory_twice_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "available_bytes", lambda: 1000)
    names = [row.name for row in bench_index(PROGRAM_FRAMES, tmp_path, d=D, repeats=1).rows]
    assert "open" not in names
    assert "bytes a vector" in names
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert 1 << 20 < bench_module.available_bytes() < 1 << 50


def test_less_than_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1000"):
        bench_index(PROGRAM_FRAMES - 1, tmp_path)


def test_the_command_shows_a_table_or_one_object(matcher: Run) -> None:
    told = matcher("bench", "index", "--size", "2k", "--repeat", "1")
    assert told.code == 0
    assert "recall@10" in told.out
    told = matcher("bench", "index", "--size", "2k", "--repeat", "1", "--kind", "ivf-fp16", "--json")
    value = json.loads(told.out)
    assert (value["n"], value["kind"], value["device"]) == (2000, "ivf-fp16", "cpu")
    assert {row["name"] for row in value["rows"]} > {"add", "open"}
    for words in (["--size", "1G"], ["--kind", "hnsw"]):
        told = matcher("bench", "index", *words)
        assert told.code == 2
        assert len(told.err.splitlines()) == 1


def test_a_bench_is_one_object(tmp_path: Path) -> None:
    bench = bench_index(PROGRAM_FRAMES, tmp_path, d=D, repeats=1)
    assert isinstance(bench, IndexBench)
    assert json.loads(json.dumps(bench.to_json()))["rows"][0]["name"] == "search, batch 1"


@pytest.mark.slow
def test_lancedb_is_measured_at_equal_recall_and_runs_are_drawn(matcher: Run, tmp_path: Path) -> None:
    """Two sizes, one with LanceDB; both are kept and drawn, and nothing is left of the tables."""
    runs, picture = tmp_path / "runs.jsonl", tmp_path / "growth.png"
    common = ["bench", "index", "--repeat", "1", "--runs", str(runs), "--plot", str(picture), "--json"]
    first = matcher(*common, "--size", "2k")
    value = json.loads(matcher(*common, "--size", "4k", "--kind", "ivf-fp16", "--lancedb").out)
    rows = {row["name"]: row for row in value["rows"]}
    for batch in (1, 64):
        row = rows[f"LanceDB, batch {batch}"]
        assert row["ratio"] == pytest.approx(row["raw"] / row["ours"])
        assert row["is_met"] is None
        assert "recall" in row["goal"]
    assert [json.loads(line) for line in runs.read_text().splitlines()] == [json.loads(first.out), value]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"runs.jsonl", "growth.png"}


def test_growth_has_a_line_for_each_kind_and_device() -> None:
    def bench(n: int, kind: str, device: str) -> dict[str, Any]:
        rows = [
            {"name": "search, batch 64", "ours": n / 1e6, "raw": 1.0},
            {"name": "bytes a vector", "ours": 100.0, "raw": 100.0},
            {"name": "LanceDB, batch 64", "ours": 1.0, "raw": n / 1e5},
        ]
        return {"n": n, "kind": kind, "device": device, "rows": rows}

    runs = [bench(1000, "flat", "cpu"), bench(10**6, "ivf-fp16", "cpu"), bench(10**6, "flat", "cuda")]
    panels = growth([bench(1000, "flat", "cpu"), *runs])
    cost, memory = panels.values()
    assert cost["LanceDB"] == [(1000, 0.15625), (10**6, 156.25), (10**6, 156.25)]
    assert cost["flat"] == [(1000, pytest.approx(1 / 64))]
    assert memory == {"flat": [(1000, 1e-4)], "ivf-fp16": [(10**6, 0.1)], "flat on a GPU": [(10**6, 0.1)]}
    figure = cost_plot(panels, "vectors")
    assert [{line.get_label() for line in axes.lines} for axes in figure.axes] == [set(cost), set(memory)]
    for axes, lines in zip(figure.axes, (cost, memory), strict=True):
        for line in axes.lines:
            assert list(zip(*line.get_data(), strict=True)) == sorted(lines[str(line.get_label())])
