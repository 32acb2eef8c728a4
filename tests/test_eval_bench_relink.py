"""The bench of the re-link: links made by construction are true, a night leaves what a full one would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Run

from eval import relink_store
from eval.bench_relink import (
    GOAL,
    NightCost,
    RelinkBench,
    bench_relink,
    cheaper_from,
    difference,
    parse_shares,
    rests_on_the_same,
    sample_of,
    table_rows,
    words_of,
    write_plot,
)
from eval.relink_store import Size, bars_of, clip_number, open_store
from index.rows import LinkBasis, LinkRecord
from matcher.staging import PART_CLIPS

#: Programs in fewer dimensions than these come as near to each other as chance allows.
SIZE = Size(clips=600, programs=30, seed=3, d=128)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> RelinkBench:
    folder = tmp_path_factory.mktemp("bench")
    return bench_relink(folder, SIZE, changed=0.1, shares=(0.1, 0.3), full_sample=PART_CLIPS)


def test_links_made_by_construction_rest_on_what_real_ones_do(bench: RelinkBench) -> None:
    assert bench.verified["clips"] >= PART_CLIPS
    assert bench.verified["different"] == 0


def test_a_night_leaves_what_a_full_one_would(bench: RelinkBench) -> None:
    night = bench.nights[0]
    assert set(bench.compared) == {"answered", "left alone"}
    assert bench.compared["answered"] == night.answered == sum(night.why.values())
    assert bench.differences == {}
    assert bench.goals["same"]


def test_a_night_answers_clips_of_changed_programs_alone(bench: RelinkBench) -> None:
    night = bench.nights[0]
    assert (night.programs, night.new_vectors, night.way) == (3, 200, "new against kept")
    assert set(night.why) == {"program gone", "program new"}
    assert 20 < night.answered < 100  # of three of 33 programs, out of 600
    assert sum(night.changes.values()) == night.answered
    assert set(night.changes) <= {"added", "removed", "moved", "raised", "lowered", "retimed", "same"}


def test_the_full_run_is_measured_on_a_sample_and_multiplied(bench: RelinkBench) -> None:
    full = bench.full
    assert full.measured == PART_CLIPS
    assert full.cpu_seconds == pytest.approx(full.measured_cpu_seconds / PART_CLIPS * SIZE.clips)
    assert bench.nights[0].ratio == pytest.approx(bench.nights[0].cpu_seconds / full.cpu_seconds)
    assert bench.goals["cost"] == (bench.nights[0].ratio <= GOAL)
    assert any(f"measured on {PART_CLIPS} of them and multiplied" in line for line in words_of(bench))
    assert [row[0] for row in table_rows(bench)] == ["10.00%", "10.00%", "30.00%", "full"]


def test_the_plot_is_a_small_picture(bench: RelinkBench, tmp_path: Path) -> None:
    write_plot(bench, tmp_path / "cost.png")
    content = (tmp_path / "cost.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 200_000


def test_a_kept_store_is_gone_on_with_and_a_full_night_is_measured_whole(tmp_path: Path) -> None:
    size = replace(SIZE, clips=120, programs=9)
    steps: list[str] = []
    first = bench_relink(tmp_path / "kept", size, changed=0.3, full_sample=64, on_step=steps.append)
    assert any(step.startswith("making") for step in steps)
    steps.clear()
    second = bench_relink(tmp_path / "kept", size, changed=0.3, full_sample=0, on_step=steps.append)
    assert not any(step.startswith("making") for step in steps)
    assert first.full.measured == 120  # of less than a part all are taken
    assert second.full.measured == 120
    assert second.full.cpu_seconds == second.full.measured_cpu_seconds
    assert not any("multiplied" in line for line in words_of(second))
    with pytest.raises(ValueError, match="name another folder"):
        bench_relink(tmp_path / "kept", replace(size, seed=4))
    (tmp_path / "half" / "store").mkdir(parents=True)
    with pytest.raises(ValueError, match="not finished"):
        open_store(tmp_path / "half", size)


def test_what_several_processes_make_is_what_one_makes(tmp_path: Path) -> None:
    size = Size(clips=40, programs=4, d=8)
    catalog = open_store(tmp_path, size)
    maker = replace(relink_store._Maker.of(catalog, size, "e", tmp_path / "frames"), at_once=8)
    made = list(relink_store._made(maker))
    assert [len(links) for _, links in made] == [8] * 5
    for number, (stored, links) in enumerate(made):
        vectors, own = maker.make(8 * number)
        np.testing.assert_array_equal(np.stack([clip.vectors for clip in stored]), vectors)
        assert all(map(rests_on_the_same, links, own))
        assert [clip.record.clip_id for clip in stored] == [link.clip_id for link in links]
        assert clip_number(links[0].clip_id) == 8 * number
    assert catalog.counts()["clips"] == catalog.counts()["links"] == size.clips


def test_bars_are_those_of_the_last_of_k_neighbours_above_chance() -> None:
    similar = np.array([[0.9, 0.8, 0.7], [0.5, 0.4, 0.3]], np.float32)
    levels = np.full(2, 0.6, np.float32)
    bars, is_near = bars_of(similar, levels, 2)
    np.testing.assert_array_equal(bars, np.array([0.8, 0.6], np.float32))
    assert is_near
    bars, is_near = bars_of(similar[1:], levels[1:], 4)
    assert bars.tolist() == levels[1:].tolist()
    assert not is_near


def test_samples_are_whole_parts() -> None:
    size = Size(clips=10 * PART_CLIPS + 7, programs=5)
    sample = sample_of(size, 3 * PART_CLIPS - 1)
    firsts = sample[np.diff(sample, prepend=-2) != 1]
    assert (firsts % PART_CLIPS == 0).all()
    assert sample.size in (3 * PART_CLIPS, 2 * PART_CLIPS + 7)
    assert sample_of(size, 0).size == 0
    assert sample_of(size, 10**6).tolist() == list(range(size.clips))


def link(program_id: str = "p", confidence: float = 0.9, start: float = 0.0) -> LinkRecord:
    segment = {
        "clip_start_seconds": 0.0, "clip_end_seconds": 2.0, "asset_id": "a", "asset_start_seconds": start,
        "asset_end_seconds": start + 2.0,
    }  # fmt: skip
    links = [{"program_id": program_id, "confidence": confidence, "segments": [segment]}]
    answer = json.dumps({"links": links, "review": []})
    return LinkRecord("c", "linked", program_id, confidence, 1, answer)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (link(), ""),
        (link(confidence=0.900001), ""),
        (link("q"), "programs"),
        (link(confidence=0.8), "confidence"),
        (link(start=1.0), "segments"),
        (replace(link(), decision="none", answer='{"links": [], "review": []}'), "decision"),
    ],
)
def test_links_differ_in_what_they_say(other: LinkRecord, what: str) -> None:
    assert difference(link(), other) == what


def test_links_rest_on_programs_and_bars() -> None:
    basis = LinkBasis("e", 5, numbers=np.array([3]), bars=np.array([0.65, 0.7], np.float32))

    def rests(**other: object) -> bool:
        return rests_on_the_same(
            replace(link(), basis=basis), replace(link(), basis=replace(basis, **other))  # type: ignore[arg-type]
        )  # fmt: skip

    assert rests(night=7)
    assert rests(bars=basis.bars - np.float32(2.0**-12))
    assert not rests(bars=basis.bars - np.float32(0.01))
    assert not rests(bars=basis.bars[:1])
    assert not rests(numbers=np.array([4]))
    assert not rests(epoch="f")
    assert not rests_on_the_same(link(), link())


def night(share: float, cpu_seconds: float, way: str = "new against kept") -> NightCost:
    return NightCost(share, 1, cpu_seconds, 1.0, 0.0, 0.0, way, 1, 1, {}, {}, 0.0)


def test_where_a_full_run_is_cheaper_is_where_the_line_reaches_it() -> None:
    nights = [night(0.3, 30.0), night(0.1, 10.0), night(0.9, 5.0, "full")]
    assert cheaper_from(nights, 50.0) == pytest.approx(0.5)
    assert cheaper_from(nights, 500.0) is None
    assert cheaper_from(nights[:1], 50.0) is None
    assert cheaper_from([night(0.1, 10.0), night(0.3, 9.0)], 50.0) is None


def test_shares_are_read_and_refused(tmp_path: Path) -> None:
    assert parse_shares("0.001, 0.1") == (0.001, 0.1)
    assert parse_shares("") == ()
    with pytest.raises(ValueError, match="are no shares"):
        parse_shares("much")
    with pytest.raises(ValueError, match="at most 1"):
        bench_relink(tmp_path, SIZE, changed=1.5)
    with pytest.raises(ValueError, match="at least 1"):
        Size(0, 5)


def test_the_command_shows_one_object(matcher: Run, tmp_path: Path) -> None:
    told = matcher("bench", "relink", "--clips", "40", "--programs", "9", "--full-sample", "40", "--changed",
                   "0.3", "--plot", str(tmp_path / "p.png"), "--json")  # fmt: skip
    assert told.code == 0, told.err
    (line,) = told.out.splitlines()
    assert json.loads(line)["verified"]["different"] == 0
    assert (tmp_path / "p.png").is_file()
    told = matcher("bench", "relink", "--shares", "much")
    assert (told.code, len(told.err.splitlines())) == (2, 1)
