"""The benchmark of the clip model: what it counts, and what it holds against what."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Run

from eval.bench_fusion import FusionBench, FusionRow, bench_fusion, goal_lines, table_rows
from matcher.fusion.config import ClipModelConfig, FramesConfig, HeadConfig

SMALL = ClipModelConfig(
    heads=(HeadConfig("tier1", 3),),
    picture=FramesConfig(d=8, d_out=8, n_clusters=4, n_groups=2),
    sound=FramesConfig(d=4, d_out=4, n_clusters=2, n_groups=1),
    d_text=4, d_embedding=8,
)  # fmt: skip


def row(name: str, seconds: tuple[float, ...], cpu: tuple[float, ...] = (1.0, 1.0, 1.0)) -> FusionRow:
    return FusionRow(name, 1000, seconds, cpu)


def bench_of(*rows: FusionRow) -> FusionBench:
    return FusionBench(rows, 2, 12, 512, {}, 1, "here", "some")


def test_rates_and_ratios_are_those_of_the_median_round() -> None:
    bench = bench_of(
        row("inference: folded, from the store", (0.1, 0.4, 0.2), (0.5, 0.25, 0.4)),
        row("training: bare steps", (1.0, 2.0, 4.0)),
        row("training: loop, from memory", (2.0, 2.5, 4.0)),
    )
    store, _, loop = bench.rows
    assert store.clips_per_second == 5000
    assert store.clips_per_second_alone(2) == 5000
    assert bench.ratio(store) is None
    assert bench.ratio(loop) == 0.8, "of 0.5, 0.8 and 1 of the rounds"
    assert [found for _, found, _ in bench.goals] == [5000, 0.8]
    assert [line.rsplit(": ")[-1] for line in goal_lines(bench.goals)] == ["met", "met"]
    assert goal_lines([("x", 0.79, 0.8)]) == ["x: 0.79, wanted at least 0.8: not met"]
    assert table_rows(bench)[2] == ("training: loop, from memory", "400", "0.80", "2000", "1.00")
    assert [one["goal_is_met"] for one in bench.to_json()["goals"]] == [True, True]


def test_every_way_goes_through_all_clips(tmp_path: Path) -> None:
    said: list[str] = []
    bench = bench_fusion(
        tmp_path, clips=64, steps=3, repeats=1, frames=2, threads=1, batch_size=16, config=SMALL,
        precision="bf16", on_step=said.append,
    )  # fmt: skip
    assert {one.name: one.clips for one in bench.rows} == {
        "inference: as trained": 64,
        "inference: folded, fp32": 64,
        "inference: folded, bf16": 64,
        "inference: folded, from the store": 64,
        "training: bare steps": 48,
        "training: loop, from memory": 48,
        "training: loop, from the store": 48,
    }
    assert all(min(one.seconds) > 0 for one in bench.rows)
    assert said == ["keeping 64 clips", "warming up", "round 1 of 1"]
    with pytest.raises(ValueError, match="32 clips are needed"):
        bench_fusion(tmp_path / "x", clips=16, batch_size=16)


def test_the_command_says_what_it_cannot_do(matcher: Run) -> None:
    ran = matcher("bench", "fusion", "--precision", "fp8")
    assert (ran.code, "use auto, fp32 or bf16" in ran.lines[-1]) == (2, True)
    ran = matcher("bench", "fusion", "--clips", "10")
    assert (ran.code, "1024 clips are needed" in ran.lines[-1]) == (2, True)
