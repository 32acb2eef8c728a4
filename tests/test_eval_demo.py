"""The demo makes what it says, tells right from wrong by the truth alone, and goes on where it was."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval import demo as module
from eval.demo import (
    MONTAGE,
    UNKNOWN,
    ClipOrder,
    DemoPlan,
    Outcome,
    Verdict,
    clip_orders,
    demonstrate,
    edit_class,
    films,
    frame_at,
    judge,
    make_clip,
    make_film,
    sheet_choice,
)
from eval.edits import ClipTruth, TruthSegment, demo_edits
from matcher.errors import InputError, MatcherError
from matcher.inputs import read_clip_manifest, read_program_manifest
from matcher.linking import Linker
from matcher.records import Answer, Decision, Failure, Guess, Link, Segment

PLAN = DemoPlan(
    seed=5,
    n_programs=4,
    n_edited=3,
    n_plain=2,
    n_mixed=1,
    n_montages=1,
    n_unknown=2,
    n_outsiders=1,
    n_episodes=1,
    episode_seconds=12.0,
)


@dataclass(frozen=True)
class Made:
    keep: Path
    outcomes: Sequence[Outcome]
    stdout: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A whole tiny demo, made by spawned workers."""
    keep = tmp_path_factory.mktemp("demo") / "kept"
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        outcomes = demonstrate(keep, PLAN, as_json=False)
    return Made(keep, outcomes, stdout.getvalue())


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.keep, tmp_path / "copy"))


def _stamps(keep: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in keep.glob("[fc]*/**/*.mp4")}


def test_everything_lies_in_one_folder_and_nothing_is_left_over(made: Made) -> None:
    names = {path.name for path in made.keep.iterdir()}
    assert names == {
        "films", "clips", "store", "programs.csv", "clips.csv", "truth.json", "demo.json",
        "contact-sheet.png",
    }  # fmt: skip
    assert not list(made.keep.rglob(".*.part*"))
    programs, refused = read_program_manifest(made.keep / "programs.csv")
    assert [p.program_id for p in programs] == ["p01", "p02", "p03", "p04"]
    assert not refused
    clips, refused = read_clip_manifest(made.keep / "clips.csv")
    assert len(clips) == PLAN.n_clips == len(made.outcomes)
    assert not refused
    truth = json.loads((made.keep / "truth.json").read_text())
    assert list(truth) == [clip.clip_id for clip in clips]
    with Image.open(made.keep / "contact-sheet.png") as sheet:
        assert sheet.width > 600
    assert (made.keep / "contact-sheet.png").stat().st_size < 700_000


def test_tables_name_every_clip_and_count_every_verdict(made: Made) -> None:
    for outcome in made.outcomes:
        assert outcome.answer.clip_id in made.stdout
    for words in ("right", "wrong program", "review", "missed", "unknown linked", "montage", UNKNOWN):
        assert words in made.stdout
    assert " link --manifest clips.csv" in made.stdout
    assert str(made.keep / "store") in made.stdout


def test_plain_cuts_of_a_small_catalogue_are_found_where_they_are(made: Made) -> None:
    plain = [o for o in made.outcomes if o.kind == module.PLAIN]
    assert len(plain) == PLAN.n_plain
    for outcome in plain:
        best = outcome.answer.links[0]
        assert best.program_id == outcome.truth.segments[0].program_id
        assert outcome.start_error_seconds is not None
        assert abs(outcome.start_error_seconds) < 2.0


def test_a_second_run_makes_nothing_and_prints_one_object_a_clip(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(module, "make_film", never)
    monkeypatch.setattr(module, "make_clip", never)
    before = _stamps(made.keep)
    again = demonstrate(made.keep, PLAN, as_json=True)
    assert _stamps(made.keep) == before
    assert [o.verdict for o in again] == [o.verdict for o in made.outcomes]
    out, err = capsys.readouterr()
    assert "4 unchanged" in err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["clip_id"] for row in rows] == [o.answer.clip_id for o in made.outcomes]
    for row, outcome in zip(rows, again, strict=True):
        assert set(row) == {*outcome.answer.to_json(), "truth"}
        assert row["truth"]["verdict"] == outcome.verdict
        assert row["truth"]["program_ids"] == list(outcome.programs)
        assert row["truth"]["segments"][0]["asset_start_seconds"] >= 0


def test_what_is_missing_is_made_again_the_same_bit_for_bit(
    made: Made, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = [Path("films/p02-e01.mp4"), Path("clips/c01.mp4"), Path("clips/c07.mp4")]
    for path in lost:
        (copy / path).unlink()
    kept = _stamps(copy)
    demonstrate(copy, PLAN, as_json=False, workers=0)
    for path in lost:
        assert (copy / path).read_bytes() == (made.keep / path).read_bytes()
    assert kept.items() <= _stamps(copy).items()
    assert (copy / "truth.json").read_text() == (made.keep / "truth.json").read_text()
    assert "films: 1 made, 4 there already" in capsys.readouterr().err


def test_a_clip_without_its_truth_is_never_taken_for_whole(copy: Path) -> None:
    orders = clip_orders(PLAN)
    (copy / "truth.json").write_text("{ half")
    assert module._read_truths(copy, orders) == {}


def test_a_linker_that_lies_is_called_wrong(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((copy / "truth.json").read_text())

    def lie(self: Linker, clip_id: str, path: str, *_: object, **__: object) -> Answer:
        shown = {segment["program_id"] for segment in truth[clip_id]["segments"]}
        other = next(name for name in ("p01", "p02", "p03", "p04") if name not in shown)
        return _answer("linked", other, clip_id=clip_id, path=path)

    monkeypatch.setattr(Linker, "answer", lie)
    outcomes = demonstrate(copy, PLAN, as_json=False, workers=0)
    verdicts = {o.answer.clip_id: o.verdict for o in outcomes}
    unknown = [o for o in outcomes if o.kind == UNKNOWN]
    assert {o.verdict for o in unknown} == {"unknown linked"}
    assert {o.verdict for o in outcomes if o.kind != UNKNOWN} == {"wrong program"}
    out = capsys.readouterr().out
    lines = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│ c")}
    for clip_id, verdict in verdicts.items():
        assert verdict in lines[clip_id]
        assert "right" not in lines[clip_id]
    assert "No clip was linked rightly" in out


def test_another_plan_clears_the_folder_and_another_encoder_only_the_store(copy: Path) -> None:
    module._prepare(copy, PLAN, "other-model")
    assert not (copy / "store").exists()
    assert (copy / "films" / "p01-e01.mp4").exists()
    module._prepare(copy, replace(PLAN, seed=6), "other-model")
    assert {path.name for path in copy.iterdir()} == {"demo.json"}


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no demo"):
        demonstrate(tmp_path, PLAN, as_json=False)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--keep"):
        demonstrate(tmp_path / "file" / "demo", PLAN, as_json=False)


def test_a_disk_without_room_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="make room"):
        module._prepare(tmp_path / "demo", PLAN, "model")


def test_a_disk_that_fills_up_is_an_input_error_whoever_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "x.mp4")

    monkeypatch.setattr(module, "write_episode", full)
    with pytest.raises(InputError, match=r"p01-e01\.mp4: No space left"):
        make_film(tmp_path, films(PLAN)[0])
    monkeypatch.setattr(module, "write_montage", full)
    with pytest.raises(InputError, match=r"c01\.mp4: No space left"):
        make_clip(tmp_path, PLAN, 0)
    with pytest.raises(InputError, match="no space left"), module._disk_faults(tmp_path):
        raise RuntimeError("lance error: No space left on device")
    with pytest.raises(RuntimeError, match="odd"), module._disk_faults(tmp_path):
        raise RuntimeError("odd")
    with pytest.raises(BrokenPipeError), module._disk_faults(tmp_path):
        raise BrokenPipeError


def test_workers_end_when_the_user_interrupts() -> None:
    others = set(multiprocessing.active_children())
    started = time.monotonic()

    def interrupted() -> None:
        with module._workers(2) as submit:
            submit(time.sleep, 300)
            submit(time.sleep, 300)
            assert set(multiprocessing.active_children()) - others
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not set(multiprocessing.active_children()) - others
    assert time.monotonic() - started < 60


def test_a_worker_ended_from_outside_is_said_in_one_line() -> None:
    with pytest.raises(MatcherError, match="run the demo again"), module._workers(1) as submit:
        submit(os._exit, 9).result()


# --- The plan ---


def test_the_plan_holds_what_the_demo_promises() -> None:
    plan = DemoPlan()
    orders = clip_orders(plan)
    known = [order for order in orders if order.kind != UNKNOWN]
    shown = {part.program_id for order in known for part in order.parts}
    inside = {spec.program_id for spec in plan.programs}
    assert len(known) >= 40
    assert shown == inside
    twins = [spec for spec in plan.programs if spec.twin_of]
    assert len(twins) == 1
    assert {twins[0].program_id, twins[0].twin_of} <= shown
    kinds = {order.kind for order in orders}
    assert {edit_class(edit.name) for edit in module._edits(plan, 0)} < kinds
    assert {len({p.program_id for p in o.parts}) for o in orders if o.kind == MONTAGE} == {2, 3}
    unknown = [order for order in orders if order.kind == UNKNOWN]
    assert len(unknown) == 10
    assert not {part.program_id for order in unknown for part in order.parts} & inside
    looks = {spec.look_seed for spec in plan.programs}
    assert not looks & {spec.look_seed for spec in plan.outsiders}
    assert len({order.clip_id for order in orders}) == plan.n_clips


def test_equal_plans_order_equal_clips_and_other_seeds_others() -> None:
    def words(orders: Sequence[ClipOrder]) -> list[Any]:
        return [(o.clip_id, o.kind, o.parts, [e.name for e in o.edits], o.seed) for o in orders]

    first = words(clip_orders(PLAN))
    clip_orders.cache_clear()
    assert words(clip_orders(replace(PLAN))) == first
    assert words(clip_orders(replace(PLAN, seed=6))) != first


def test_parts_lie_within_their_films() -> None:
    for plan in (DemoPlan(), PLAN, replace(PLAN, n_edited=15)):
        for part in (part for order in clip_orders(plan) for part in order.parts):
            assert part.start_seconds + part.duration_seconds <= plan.episode_seconds + 1e-6


def test_plans_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        DemoPlan(seed=-1)
    with pytest.raises(ValueError, match="4 programs"):
        DemoPlan(n_programs=3)


def test_run_demo_makes_the_plan_of_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "demonstrate", lambda *words, **named: seen.append((words, named)))
    module.run_demo(tmp_path, n_programs=14, seed=3, as_json=True)
    assert seen == [((tmp_path, DemoPlan(seed=3, n_programs=14)), {"as_json": True})]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reencode crf 35 side 240", "reencode"),
        ("colour b0.93 c1.11 s1.21 h-15", "colour"),
        ("picture in picture 0.58", "picture in picture"),
        ("logo and subtitles", "logo and subtitles"),
    ],
)
def test_an_edit_class_has_no_parameters(name: str, expected: str) -> None:
    assert edit_class(name) == expected


def test_every_kind_of_edit_is_a_class_of_its_own() -> None:
    rng = module.np.random.default_rng(0)
    names = [edit_class(edit.name) for edit in demo_edits(rng)]
    assert len(set(names)) == len(names)
    assert not any(char.isdigit() for name in names for char in name)


# --- Right and wrong ---


def _segment(start: float = 4.0, asset_id: str = "p01-e01") -> Segment:
    return Segment(0.0, 6.0, asset_id, start, start + 6.0, 0.95)


def _answer(decision: Decision, *programs: str, clip_id: str = "c1", path: str = "c1.mp4") -> Answer:
    links = tuple(Link(name, 0.97, (_segment(asset_id=f"{name}-e01"),)) for name in programs)
    guesses = tuple(Guess(name, name, 0.97, 0.95) for name in programs or ("p02",))
    return Answer(clip_id, path, decision, links, guesses, "model", 1)


def _truth(*programs: str, asset: str = "e01") -> ClipTruth:
    segments = tuple(
        TruthSegment(6.0 * n, 6.0 * n + 6.0, Path("f.mp4"), f"{name}-{asset}", name, 4.5, 10.5)
        for n, name in enumerate(programs)
    )
    return ClipTruth(Path("c1.mp4"), segments, (), "light", 1.0, False, 6.0 * len(programs), 1)


CATALOGUE = {"p01", "p02", "p03"}


@pytest.mark.parametrize(
    ("decision", "links", "shown", "verdict"),
    [
        ("linked", ["p01"], ["p01"], "right"),
        ("linked", ["p02"], ["p01"], "wrong program"),
        # The best is right, and yet a program is linked that the clip does not show.
        ("linked", ["p01", "p02"], ["p01"], "wrong program"),
        ("linked", ["p02", "p01"], ["p01", "p02"], "right"),
        ("linked", ["p02"], ["p01", "p02"], "partly"),
        ("linked", ["p02", "p03"], ["p01", "p02"], "wrong program"),
        ("review", ["p01"], ["p01"], "review"),
        ("review", ["p01"], ["x01"], "review"),
        ("none", [], ["p01"], "missed"),
        ("none", [], ["x01"], "rightly none"),
        ("linked", ["p01"], ["x01"], "unknown linked"),
        # A montage of which the catalogue holds one part.
        ("linked", ["p01"], ["p01", "x01"], "right"),
    ],
)
def test_verdicts(decision: Decision, links: list[str], shown: list[str], verdict: Verdict) -> None:
    outcome = judge(_answer(decision, *links), _truth(*shown), "plain cut", CATALOGUE)
    assert outcome.verdict == verdict


def test_a_file_that_could_not_be_read_is_neither_right_nor_missed() -> None:
    answer = replace(_answer("none"), error=Failure("video", "no video"))
    for shown in ("p01", "x01"):
        outcome = judge(answer, _truth(shown), "plain cut", CATALOGUE)
        assert outcome.verdict == "failed"
        assert module._clip_row(outcome)[3] == "failed"
    assert sheet_choice([outcome]) == []


def test_the_start_error_is_signed_and_none_in_another_episode() -> None:
    outcome = judge(_answer("linked", "p01"), _truth("p01"), "plain cut", CATALOGUE)
    assert outcome.start_error_seconds == pytest.approx(-0.5)
    assert module._error_words(outcome) == "-0.5 s"
    other = judge(_answer("linked", "p01"), _truth("p01", asset="e02"), "plain cut", CATALOGUE)
    assert other.start_error_seconds is None
    assert module._error_words(other) == "wrong episode"
    assert "1 in another episode" in module._start_errors([outcome, other])
    wrong = judge(_answer("linked", "p02"), _truth("p01"), "plain cut", CATALOGUE)
    assert module._error_words(wrong) == "wrong program"


def test_of_a_montage_the_part_that_the_segment_shows_counts() -> None:
    link = Link("p01", 0.97, (Segment(6.0, 12.0, "p01-e01", 30.0, 36.0, 0.95),))
    early = TruthSegment(0.0, 6.0, Path("f"), "p01-e01", "p01", 4.0, 10.0)
    late = TruthSegment(6.0, 12.0, Path("f"), "p01-e01", "p01", 29.0, 35.0)
    truth = replace(_truth("p01"), segments=(early, late))
    answer = replace(_answer("linked", "p01"), links=(link,))
    assert judge(answer, truth, MONTAGE, CATALOGUE).start_error_seconds == pytest.approx(1.0)


def test_a_review_says_whether_it_names_the_right_program() -> None:
    right = judge(_answer("review", "p01"), _truth("p01"), "plain cut", CATALOGUE)
    wrong = judge(_answer("review", "p01"), _truth("x01"), UNKNOWN, CATALOGUE)
    assert module._mark(right) == "review, right program"
    assert module._mark(wrong) == "review, wrong program"
    assert sheet_choice([right, wrong]) == [wrong, right]


def test_the_sheet_shows_faults_first_and_right_ones_of_every_edit() -> None:
    def many(n: int, kind: str, decision: Decision, links: list[str], shown: str) -> list[Outcome]:
        return [judge(_answer(decision, *links), _truth(shown), kind, CATALOGUE) for _ in range(n)]

    right = [o for kind in "abcdefgh" for o in many(9, kind, "linked", ["p01"], "p01")]
    outcomes = (
        right + many(9, UNKNOWN, "none", [], "x01") + many(2, "a", "none", [], "p01")
        + many(2, "a", "linked", ["p02"], "p01")
    )  # fmt: skip
    chosen = sheet_choice(outcomes)
    assert len(chosen) == module._SHEET_ROWS
    assert [o.verdict for o in chosen[:4]] == ["wrong program"] * 2 + ["missed"] * 2
    assert {o.kind for o in chosen if o.verdict == "right"} == set("abcdefgh")
    assert sum(o.verdict == "rightly none" for o in chosen) == module._SHEET_UNKNOWN
    assert len(sheet_choice(many(40, "a", "none", [], "p01") + right)) == module._SHEET_ROWS


def test_a_frame_is_shown_even_after_the_end(made: Made) -> None:
    path = made.keep / "films" / "p01-e01.mp4"
    assert frame_at(path, 5.0).shape == (216, 384, 3)
    assert frame_at(path, 1000.0).shape == (216, 384, 3)
    with pytest.raises(InputError, match="no picture"):
        frame_at(path, -1.0)


def test_the_command_is_the_one_beside_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    monkeypatch.setattr(module.sys, "executable", str(python))
    assert module._command().endswith("-m matcher")
    python.with_name("matcher").write_text("")
    monkeypatch.chdir(tmp_path)
    assert module._command() == ".venv/bin/matcher"
