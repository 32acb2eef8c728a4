"""eval.bench: what is timed, in which order, and what the ratios are made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import media
import numpy as np
import pytest
from numpy.typing import NDArray

from eval import bench
from eval.bench import BenchRow, BenchTable, Machine, bench_ingest, bench_query, machine_of, words_of
from matcher.decode import Sampling
from matcher.encoders.base import ModelInfo, unit_rows
from matcher.errors import InputError
from matcher.records import Descriptors

FPS5 = Sampling(mode="fps", fps=5.0)
PAPER = Machine("a processor", 2, "nothing, on paper", {"python": "3.11.0"})


@dataclass
class FakeEncoder:
    """Describes a picture by its mean colours, and remembers the calls."""

    info: ModelInfo = field(default_factory=lambda: ModelInfo("fake", "f" * 16, 3))
    input_side: int = 16
    batch_size: int = 4
    engine: str = "nothing, on paper"
    batches: list[int] = field(default_factory=list)
    on_encode: Callable[[], None] = lambda: None

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.shape[1:] == (16, 16, 3)
        assert images.dtype == np.uint8
        self.batches.append(len(images))
        self.on_encode()
        return unit_rows(images.mean(axis=(1, 2)).astype(np.float32))


class Clock:
    """Stands still but for what the steps are said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """2 s and 1.2 s at 25 frames a second: 10 and 6 frames at 5 a second."""
    folder = tmp_path_factory.mktemp("bench")
    return [
        media.write(folder / "long.mp4", [media.moving(i) for i in range(50)]),
        media.write(folder / "short.mp4", [media.moving(i) for i in range(30)]),
    ]


def names(table: BenchTable) -> list[str]:
    return [row.name for row in table.rows]


def row(table: BenchTable, name: str) -> BenchRow:
    return next(row for row in table.rows if row.name == name)


def stage(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, list[float]]) -> tuple[Clock, list[str]]:
    """Let each step take what ``seconds`` says, round by round (the uncounted one first)."""
    clock, order = Clock(), []
    take_turns = bench.take_turns

    def staged(steps, repeats, clock):
        def timed(name: str) -> Callable[[], int]:
            left = iter(seconds[name])

            def step() -> int:
                order.append(name)
                clock.pass_by(next(left))
                return steps[name]()

            return step

        return take_turns({name: timed(name) for name in steps}, repeats, clock)

    monkeypatch.setattr(bench, "take_turns", staged)
    return clock, order


# --- Ingest ----------------------------------------------------------------------------------------


def test_ingest_ratio_is_the_pipelines_rate_over_the_slower_sides(videos, monkeypatch):
    clock, _ = stage(
        monkeypatch,
        {
            "plain decoding": [50, 8, 8, 8],
            "decode": [50, 4, 5, 6],
            "encode": [50, 2, 2, 9],
            "pipeline": [50, 5, 8, 10],
        },
    )
    table = bench_ingest(videos, FakeEncoder(), FPS5, repeats=3, clock=clock)
    assert names(table) == ["plain decoding", "decode", "encode", "pipeline"]
    # Medians: decode 5 s, encode 2 s, both together 8 s.
    assert table.ratio == 5 / 8
    assert [r.ratio for r in table.rows] == [8 / 8, 5 / 8, 2 / 8, 1.0]
    # By round 4/5, 5/8 and 9/10: in the last the encoder was the slower side.
    assert table.ratio_range == (5 / 8, 9 / 10)
    assert not table.goal_is_met


def test_ingest_ratio_takes_the_encoder_where_it_is_the_slower_side(videos, monkeypatch):
    clock, _ = stage(
        monkeypatch, {"plain decoding": [0, 1], "decode": [0, 2], "encode": [0, 9], "pipeline": [0, 10]}
    )
    table = bench_ingest(videos, FakeEncoder(), FPS5, repeats=1, clock=clock)
    assert table.ratio == 0.9
    assert table.goal_is_met
    assert table.ratio_range == (0.9, 0.9)


def test_ingest_counts_frames_and_rates(videos, monkeypatch):
    clock, _ = stage(
        monkeypatch, {"plain decoding": [0, 4], "decode": [0, 2], "encode": [0, 1], "pipeline": [0, 8]}
    )
    table = bench_ingest(videos, FakeEncoder(), FPS5, repeats=1, clock=clock)
    assert [r.frames for r in table.rows] == [80, 16, 16, 16]
    assert [r.frames_per_second for r in table.rows] == [20.0, 8.0, 16.0, 2.0]


def test_steps_take_turns_and_the_first_round_does_not_count(videos, monkeypatch):
    steps = ["plain decoding", "decode", "encode", "pipeline"]
    clock, order = stage(monkeypatch, {name: [1000, 1, 2] for name in steps})
    table = bench_ingest(videos, FakeEncoder(), FPS5, repeats=2, clock=clock)
    assert order == steps * 3
    assert all(r.rounds_seconds == (1.0, 2.0) and r.seconds == 1.5 for r in table.rows)
    assert table.repeats == 2


def test_only_the_steps_own_time_is_counted(videos):
    """Without any staging: the clock moves in the encoder alone, so decoding takes no time."""
    clock = Clock()
    encoder = FakeEncoder(on_encode=lambda: clock.pass_by(0.5))
    table = bench_ingest(videos, encoder, FPS5, repeats=2, clock=clock)
    # Ten frames are 4 + 4 + 2, six are 4 + 2: five batches.
    assert row(table, "encode").rounds_seconds == (2.5, 2.5)
    assert row(table, "pipeline").rounds_seconds == (2.5, 2.5)
    assert row(table, "decode").seconds == row(table, "plain decoding").seconds == 0.0
    assert row(table, "decode").frames_per_second == 0.0
    assert table.ratio == 1.0


def test_encoder_alone_gets_the_pictures_and_batches_of_the_pipeline(videos):
    seen: list[NDArray[np.uint8]] = []

    class Recorder(FakeEncoder):
        def encode(self, images):
            seen.append(images.copy())
            return super().encode(images)

    bench_ingest(videos, Recorder(), FPS5, repeats=1)
    assert [len(images) for images in seen] == [4, 4, 2, 4, 2] * 4  # two rounds of encode and pipeline
    alone, pipeline = seen[:5], seen[5:10]
    assert all(np.array_equal(a, b) for a, b in zip(alone, pipeline, strict=True))


def test_blank_frames_are_sampled_but_not_encoded(tmp_path):
    images = [media.moving(i) for i in range(25)] + [media.flat(16, 96, 64)] * 25
    video = media.write(tmp_path / "fades.mp4", images)
    encoder = FakeEncoder()
    table = bench_ingest([video], encoder, FPS5, repeats=1)
    assert row(table, "decode").frames == row(table, "encode").frames == row(table, "pipeline").frames == 10
    assert encoder.batches == [4, 1] * 4


def test_a_film_of_blank_frames_gives_the_encoder_nothing(tmp_path):
    video = media.write(tmp_path / "dark.mp4", [media.flat(16, 96, 64)] * 25)
    encoder = FakeEncoder()
    table = bench_ingest([video], encoder, FPS5, repeats=1)
    assert encoder.batches == []
    assert row(table, "encode").frames == 5


def test_pictures_beyond_the_limit_are_stood_in_for_by_kept_ones_of_the_same_size(videos, monkeypatch):
    monkeypatch.setattr(bench, "KEPT_IMAGES", 8)
    batches, n_sampled = bench._prepared([videos[0], videos[0], videos[1]], FakeEncoder(), FPS5)
    assert n_sampled == 26
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2, 4, 2]
    kept = {id(batch) for batch in batches}
    assert len(kept) == 3  # two of four, and one of two although the limit was reached
    assert {id(batches[3]), id(batches[4])} == {id(batches[0]), id(batches[1])}


def test_keyframes(videos):
    table = bench_ingest(videos, FakeEncoder(), Sampling.parse("keyframes=0.4"), repeats=1)
    assert table.sampling == "keyframes=0.4"
    # A key frame every 0.48 s: five of 2 s, three of 1.2 s.
    assert row(table, "pipeline").frames == 8


@pytest.mark.parametrize("run", ["ingest", "query"])
def test_a_bad_file_is_an_input_error(videos, tmp_path, run):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    with pytest.raises(InputError, match=r"bad\.mp4"):
        measure(run, [videos[1], bad], repeats=1)


@pytest.mark.parametrize("run", ["ingest", "query"])
def test_no_file_or_no_round_is_refused(videos, run):
    with pytest.raises(ValueError, match="no file"):
        measure(run, [], repeats=1)
    with pytest.raises(ValueError, match="repeats must be 1 or more, got 0"):
        measure(run, videos, repeats=0)


def measure(run: str, paths: list[Path], *, repeats: int) -> BenchTable:
    if run == "ingest":
        return bench_ingest(paths, FakeEncoder(), FPS5, repeats=repeats)
    return bench_query(paths, FakeEncoder(), FPS5, lambda path, clip: None, repeats=repeats)


# --- Query -----------------------------------------------------------------------------------------


def test_query_ratio_is_its_time_over_plain_decoding(videos, monkeypatch):
    clock, order = stage(
        monkeypatch,
        {
            "plain decoding": [9, 2, 4, 5],
            "decode": [9, 1, 1, 1],
            "link": [9, 0.5, 0.5, 0.5],
            "query": [9, 3, 5, 9],
        },
    )
    table = bench_query(videos, FakeEncoder(), FPS5, lambda path, clip: None, repeats=3, clock=clock)
    assert names(table) == ["plain decoding", "decode", "link", "query"]
    assert order == names(table) * 4
    assert table.ratio == 5 / 4
    assert table.ratio_range == (5 / 4, 9 / 5)
    assert [r.ratio for r in table.rows] == [5 / 4, 5.0, 10.0, 1.0]
    assert [r.frames for r in table.rows] == [80, 16, 16, 16]
    assert table.goal_is_met


@pytest.mark.parametrize(
    ("kind", "ratio", "is_met"),
    [("query", 1.6, True), ("query", 1.61, False), ("ingest", 0.85, True), ("ingest", 0.84, False)],
)
def test_query_goal_is_at_most_and_ingest_goal_at_least(kind, ratio, is_met):
    goal = bench.QUERY_GOAL if kind == "query" else bench.INGEST_GOAL
    assert BenchTable(kind, (), ratio, (ratio, ratio), goal, 1, "fps=2", PAPER).goal_is_met is is_met


def test_every_clip_is_linked_in_each_round_with_its_own_descriptors(videos):
    linked: list[tuple[str, int]] = []

    def link(path: Path, clip: Descriptors) -> None:
        linked.append((path.name, len(clip)))

    bench_query(videos, FakeEncoder(), FPS5, link, repeats=2)
    # "link" and "query", in one uncounted round and two that count.
    assert linked == [("long.mp4", 10), ("short.mp4", 6)] * 6


def test_query_time_holds_encoding_and_linking(videos):
    clock = Clock()
    encoder = FakeEncoder(on_encode=lambda: clock.pass_by(1.0))
    table = bench_query(videos, encoder, FPS5, lambda path, clip: clock.pass_by(10.0), repeats=1, clock=clock)
    assert row(table, "query").seconds == 25.0  # five batches, two links
    assert row(table, "link").seconds == 20.0
    assert row(table, "plain decoding").seconds == 0.0
    assert table.ratio == 0.0  # over no time at all


# --- The table -------------------------------------------------------------------------------------


def test_json():
    table = BenchTable(
        bench="ingest",
        rows=(
            BenchRow("decode", 30, (2.0, 3.0, 7.0), 1 / 3),
            BenchRow("pipeline", 30, (9.0, 9.0, 9.0), 1.0),
        ),
        ratio=1 / 3,
        ratio_range=(2 / 9, 7 / 9),
        goal=0.85,
        files=1,
        sampling="fps=1",
        machine=PAPER,
    )
    said = table.to_json()
    assert json.loads(json.dumps(said)) == said
    assert said == {
        "bench": "ingest",
        "sampling": "fps=1",
        "files": 1,
        "repeats": 3,
        "rows": [
            {
                "name": "decode",
                "frames": 30,
                "seconds": 3.0,
                "frames_per_second": 10.0,
                "ratio": 0.3333,
                "rounds_seconds": [2.0, 3.0, 7.0],
            },
            {
                "name": "pipeline",
                "frames": 30,
                "seconds": 9.0,
                "frames_per_second": 3.33,
                "ratio": 1.0,
                "rounds_seconds": [9.0, 9.0, 9.0],
            },
        ],
        "ratio": 0.3333,
        "ratio_range": [0.2222, 0.7778],
        "goal": 0.85,
        "goal_is_met": False,
        "machine": {
            "processor": "a processor",
            "cpu_count": 2,
            "engine": "nothing, on paper",
            "versions": {"python": "3.11.0"},
        },
    }


@pytest.mark.parametrize("rounds", [(), (1.0, -0.5)])
def test_rows_check_their_times(rounds):
    with pytest.raises(ValueError, match="decode: rounds must be one or more times"):
        BenchRow("decode", 1, rounds, 1.0)


@pytest.mark.parametrize("words", ["fps=1", "fps=0.5", "fps=2", "keyframes=1", "keyframes=2.5"])
def test_words_of_a_sampling_read_back(words):
    assert words_of(Sampling.parse(words)) == words


def test_words_of_plain_keyframes_mean_the_same():
    plain = Sampling.parse("keyframes")
    assert Sampling.parse(words_of(plain)) == plain


def test_machine(monkeypatch):
    machine = machine_of(FakeEncoder())
    assert machine.engine == "nothing, on paper"
    assert machine.cpu_count >= 1
    assert machine.processor
    assert machine.versions["numpy"] == np.__version__
    monkeypatch.setattr(bench, "_PACKAGES", ("no-such-package",))
    assert list(machine_of(FakeEncoder()).versions) == ["python"]


def test_processor_name(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast One: II\nflags\t: fpu\n")
    assert bench.processor_name(cpuinfo) == "Fast One: II"
    cpuinfo.write_text("Hardware\t: something\n")
    assert bench.processor_name(cpuinfo)
    assert bench.processor_name(tmp_path / "missing") == bench.processor_name(cpuinfo)


def test_cores_where_the_system_cannot_tell_which_are_allowed(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert bench._cpu_count() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert bench._cpu_count() == 1
