"""The benchmark is what its plan says: two sides that never mix, every kind of edit, the same files again."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from media import moving, write

from eval import benchmark as module
from eval import benchmark_material as making
from eval.benchmark import (
    BenchmarkPlan,
    Group,
    Slot,
    Source,
    drama_specs,
    draw_clip,
    slots,
    sort_counts,
    sources,
)
from eval.benchmark_material import Material, make_clip, make_material, plan_of, truth_rows
from eval.edit_menu import KINDS, EditKind
from eval.edits import Edit, mirror
from eval.ground_truth import read_truth
from eval.making import read_json, truth_from_json
from eval.run_files import load_clips
from eval.video_reader import read_frames
from matcher.errors import InputError
from matcher.inputs import read_clip_manifest, read_program_manifest

FILMS = Path(os.environ.get("MATCHER_FILMS") or ROOT.parent / "shared" / "films")
TINY = BenchmarkPlan(
    seed=3,
    n_dramas=4,
    clips_per_known=2,
    min_per_kind=0,
    n_unknown=3,
    clip_seconds=(2.0, 3.0),
    fps=6,
    episode_seconds=8.0,
    drama_width=128,
    drama_height=72,
    drama_fps=6,
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven short films in five series."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("toy-cat", "toy-dog", "toy-owl", "lake", "hill", "road", "snow"):
        write(folder / f"{name}.mp4", (moving(n) for n in range(30)), rate=6, time_base=Fraction(1, 6))
    (folder / "films.csv").write_text("not a film")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(TINY, tmp_path_factory.mktemp("benchmark") / "material", workers=0)


@pytest.fixture
def copy(made: Material, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- The plan ---


def test_a_plan_survives_its_json(tmp_path: Path) -> None:
    for plan in (TINY, replace(TINY, films=tmp_path), BenchmarkPlan.quick(), BenchmarkPlan()):
        assert BenchmarkPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"n_dramas": 1},
        {"n_dramas": -1},
        {"n_unknown": -1},
        {"clips_per_known": 0},
        {"min_per_kind": -1},
        {"outside_share": 0.0},
        {"outside_share": 1.0},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        replace(TINY, **wrong)  # type: ignore[arg-type]


def test_clip_lengths_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="clips must last"):
        replace(TINY, clip_seconds=(5.0, 4.0))


# --- Programs ---


def test_a_series_stands_on_one_side_and_so_do_twins(films: Path, tmp_path: Path) -> None:
    """Over many seeds each series is drawn to either side, and never to both."""
    toys, twins = set(), set()
    for seed in range(12):
        plan = replace(TINY, films=films, seed=seed)
        found = sources(plan, tmp_path)
        sides: dict[str, set[bool]] = {}
        for source in found:
            sides.setdefault(source.family, set()).add(source.is_known)
        assert all(len(side) == 1 for side in sides.values())
        toys |= sides["toy"]
        twins |= sides[next(spec.twin_of for spec in drama_specs(plan) if spec.twin_of)]
        # Of 5 series 0.3 are 1.5, of 3 looks 0.9: hand-counted.
        outside = {(s.group, s.family) for s in found if not s.is_known}
        assert Counter(group for group, _ in outside) == {"films": 2, "dramas": 1}
    assert toys == twins == {True, False}


def test_another_folder_draws_the_same_sides(films: Path, tmp_path: Path) -> None:
    plan = replace(TINY, films=films)
    here, there = (sources(plan, tmp_path / name) for name in "ab")
    assert [(s.program_id, s.is_known) for s in here] == [(s.program_id, s.is_known) for s in there]


def test_films_are_only_what_looks_like_one(films: Path, tmp_path: Path) -> None:
    found = sources(replace(TINY, films=films, n_dramas=0), tmp_path)
    assert [s.program_id for s in found] == ["hill", "lake", "road", "snow", "toy-cat", "toy-dog", "toy-owl"]
    assert found[0].seconds == pytest.approx(5.0)


def test_a_folder_without_films_or_with_a_broken_one_is_one_clear_error(films: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the folder"):
        sources(replace(TINY, films=tmp_path / "none"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no film in"):
        sources(replace(TINY, films=tmp_path / "empty"), tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "x.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match=r"x\.mp4 cannot be read"):
        sources(replace(TINY, films=broken), tmp_path)
    same = tmp_path / "same"
    same.mkdir()
    shutil.copy(films / "lake.mp4", same / "p01.mp4")
    with pytest.raises(InputError, match="two programs are called p01"):
        sources(replace(TINY, films=same), tmp_path)


# --- Clips ---


def test_sorts_of_clips_by_hand() -> None:
    """Of 50: 4 untouched, 11 with several edits, 5 montages, and 30 with one edit."""
    assert sort_counts(50, 0, can_mix=True) == {"none": 4, "single": 30, "stacked": 11, "montage": 5}
    assert sort_counts(50, 0, can_mix=False) == {"none": 4, "single": 35, "stacked": 11, "montage": 0}
    assert sort_counts(50, 72, can_mix=True)["single"] == 72
    assert sum(sort_counts(0, 0, can_mix=True).values()) == 0


def test_every_kind_of_edit_has_its_known_clips_in_both_groups(films: Path, tmp_path: Path) -> None:
    plan = replace(TINY, films=films, min_per_kind=2, n_unknown=21)
    found = slots(plan, tmp_path)
    single = [slot for slot in found if slot.is_known and slot.sort == "single"]
    for group in ("films", "dramas"):
        kinds = Counter(
            module._one_in_turn(plan, tuple(KINDS), slot, module._KINDS)
            for slot in single
            if slot.group == group
        )
        assert set(kinds) == set(KINDS)
        assert min(kinds.values()) >= 2
    unknown = [slot for slot in found if not slot.is_known]
    assert len(unknown) == 21
    assert [slot.number for slot in unknown] == list(range(21))
    assert Counter(slot.group for slot in unknown) == {"films": 10, "dramas": 11}


def test_a_round_shows_every_name_once_and_rounds_differ(tmp_path: Path) -> None:
    names = [str(n) for n in range(10)]
    order = [
        module._one_in_turn(TINY, names, Slot(n, True, "dramas", "single", n), module._PROGRAMS)
        for n in range(30)
    ]
    rounds = [order[0:10], order[10:20], order[20:30]]
    assert all(sorted(part) == names for part in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Path]]:
    """A menu of two kinds that remember what they might have shown."""
    offered: list[Sequence[Path]] = []

    def draw(rng: np.random.Generator, strength: float, others: Sequence[Path]) -> Edit:
        assert 0 <= strength <= 1
        offered.append(others)
        return mirror()

    def draw_edits(
        rng: np.random.Generator, n: int, *, others: Sequence[Path]
    ) -> tuple[tuple[str, ...], list[Edit]]:
        offered.append(others)
        return ("left", "right", "left")[:n], [mirror()] * n

    kinds = {
        "left": EditKind("left", "light", draw, "framing"),
        "right": EditKind("right", "heavy", draw, "framing"),
    }
    monkeypatch.setattr(module, "KINDS", kinds)
    monkeypatch.setattr(module, "draw_edits", draw_edits)
    return offered


def test_clips_are_of_their_side_and_what_is_shown_beside_them_is_of_outside(
    films: Path, tmp_path: Path, seen: list[Sequence[Path]]
) -> None:
    plan = replace(TINY, films=films, n_unknown=60, clips_per_known=10, seed=8)
    found = {s.program_id: s for s in sources(plan, tmp_path)}
    outside = {s.path for s in found.values() if not s.is_known}
    levels = set()
    for slot in slots.__wrapped__(plan, tmp_path):  # the cache knows the real menu
        seen.clear()
        order = draw_clip(plan, tmp_path, slot)
        levels.add(order.level)
        programs = [found[part.program_id] for part in order.parts]
        assert {p.is_known for p in programs} == {slot.is_known}
        assert {p.group for p in programs} == {slot.group}
        assert len(programs) == len({p.program_id for p in programs})
        assert (len(programs) > 1) == (order.level == "montage")
        for others in seen:
            own = {s.path for s in found.values() if s.family == programs[0].family}
            assert set(others) == outside - own
        for part, program in zip(order.parts, programs, strict=True):
            assert part.source == program.path
            assert part.start_seconds + part.duration_seconds <= program.seconds + 1e-9
        letter = "k" if slot.is_known else "u"
        assert order.clip_id == f"{letter}{slot.number:05d}-{'+'.join(order.kinds) or order.level}"
    assert levels == {"none", "light", "heavy", "stacked", "montage"}


def test_a_clip_is_as_long_as_asked_also_when_it_is_sped_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = replace(mirror(), speed=2.0)
    kinds = {"fast": EditKind("fast", "heavy", lambda *_: fast, "speed")}
    monkeypatch.setattr(module, "KINDS", kinds)
    for turn in range(10):
        order = draw_clip(TINY, tmp_path, Slot(turn, True, "dramas", "single", turn))
        assert 2.0 <= order.parts[0].duration_seconds / 2 <= 3.05


def test_a_file_shorter_than_a_clip_is_shown_whole() -> None:
    rng = np.random.default_rng(0)
    part = module._cut(Source("p", "p", Path("p.mp4"), 1.5, "films", "p", "p"), 8.0, rng)
    assert (part.start_seconds, part.duration_seconds) == (0.0, 1.5)


# --- Making ---


def test_the_tables_hold_the_catalogue_the_clips_and_the_truth(made: Material) -> None:
    programs, refused = read_program_manifest(made.programs_manifest)
    assert not refused
    known = {s.program_id for s in sources(TINY, made.folder) if s.is_known}
    assert {job.program_id for job in programs} == known
    assert len(known) < TINY.n_dramas
    clips, refused = read_clip_manifest(made.clips_manifest)
    assert not refused
    assert [job.clip_id for job in clips] == [clip.info.clip_id for clip in made.clips]
    assert load_clips(made.folder / "clips.parquet") == [clip.info for clip in made.clips]
    truth = read_truth(made.folder / "truth.csv")
    assert truth == made.truth
    assert {row.clip_id for row in truth} == {c.info.clip_id for c in made.clips if c.info.is_known}
    assert {row.program_id for row in truth} <= known
    for clip in made.clips:
        shown = {row.program_id for row in truth_rows(clip)}
        assert shown
        assert bool(shown & known) == clip.info.is_known == clip.info.clip_id.startswith("k")
    assert sum(not clip.info.is_known for clip in made.clips) == 3
    assert not list(made.folder.rglob(".*part*"))


def _check_truth(plan: BenchmarkPlan, folder: Path, group: Group) -> None:
    """An unedited clip's pictures are those of its source at the times that the truth says."""
    name = make_clip(plan, folder, Slot(9999, True, group, "none", 0))
    (segment,) = truth_from_json((read_json(folder / "clips" / f"{name}.json") or {})["truth"]).segments
    clip = list(read_frames(folder / "clips" / f"{name}.mp4", 0, 100, max_side=96))
    assert len(clip) == round(segment.clip_end_seconds * plan.fps)
    for seconds, image in (clip[1], clip[len(clip) // 2], clip[-2]):
        at = segment.asset_time(seconds)
        *_, (_, shown) = read_frames(folder / segment.source, max(0, at - 0.5), at + 0.001, max_side=96)
        assert np.abs(image.astype(int) - shown).mean() < 6


def test_the_truth_names_the_seconds_that_a_clip_shows(copy: Path) -> None:
    _check_truth(TINY, copy, "dramas")


@pytest.mark.films
@pytest.mark.skipif(not FILMS.is_dir(), reason=f"no films in {FILMS}; MATCHER_FILMS names their folder")
def test_the_truth_names_the_seconds_that_a_clip_of_a_real_film_shows(tmp_path: Path) -> None:
    for seed in range(3):
        plan = replace(TINY, films=FILMS, n_dramas=0, seed=seed)
        assert len({s.is_known for s in sources(plan, tmp_path) if s.family == "toy"}) == 1
        _check_truth(plan, tmp_path, "films")


def test_workers_make_the_same_files(made: Material, tmp_path: Path) -> None:
    other = make_material(TINY, tmp_path / "other", workers=2)
    assert _files(other.folder) == _files(made.folder)


def test_what_is_missing_is_made_again_and_nothing_else(made: Material, copy: Path) -> None:
    before = _files(copy)
    ids = [clip.info.clip_id for clip in made.clips]
    lost = [f"clips/{ids[0]}.mp4", f"clips/{ids[1]}.json", "dramas/p02-e01.mp4", "programs.csv"]
    for name in lost:
        (copy / name).unlink()
    stamps = {p: p.stat().st_mtime_ns for p in copy.glob("[cd]*/*.mp4") if ids[1] not in p.name}
    again = make_material(TINY, copy, workers=0)
    assert _files(copy) == before
    assert [clip.info for clip in again.clips] == [clip.info for clip in made.clips]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_a_folder_that_is_whole_is_taken_as_it_is_by_any_version(
    made: Material, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The menu has changed since: nothing is drawn again."""
    monkeypatch.setattr(making, "KINDS", {})
    monkeypatch.setattr(making, "slots", None)
    monkeypatch.setattr(making, "draw_clip", None)
    again = make_material(TINY, copy, workers=0)
    assert [c.info for c in again.clips] == [c.info for c in made.clips]
    assert again.truth == made.truth


def test_a_part_made_with_other_edits_is_not_gone_on_with(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(copy.glob("clips/*.mp4")).unlink()
    monkeypatch.setattr(making, "KINDS", {"new": None})
    with pytest.raises(InputError, match="other kinds of edits"):
        make_material(TINY, copy, workers=0)


def test_another_plan_or_a_foreign_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    assert plan_of(copy) == TINY
    before = _files(copy)
    with pytest.raises(InputError, match="another plan"):
        make_material(replace(TINY, seed=4), copy, workers=0)
    assert _files(copy) == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    assert plan_of(foreign) is None
    with pytest.raises(InputError, match="holds no benchmark"):
        make_material(TINY, foreign, workers=0)
    (copy / "benchmark.json").write_text('{"format": 0}')
    with pytest.raises(InputError, match="cannot read"):
        plan_of(copy)


def test_damaged_truth_is_said_and_not_guessed(made: Material, copy: Path) -> None:
    (copy / "clips" / f"{made.clips[0].info.clip_id}.json").write_text("{ half")
    with pytest.raises(InputError, match="is damaged"):
        make_material(TINY, copy, workers=0)


def test_the_manifests_paths_hold_where_the_folder_is_moved(copy: Path) -> None:
    with (copy / "clips.csv").open(newline="") as file:
        assert all((copy / row["path"]).exists() for row in csv.DictReader(file))
    with (copy / "programs.csv").open(newline="") as file:
        assert all((copy / row["path"]).exists() for row in csv.DictReader(file))
