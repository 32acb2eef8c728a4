"""Clips of what a store has not seen: where they are cut from, what their titles say, and what is counted."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from commands import ROOT, Run, files_below
from hypothesis import given, settings
from hypothesis import strategies as st
from media import flat, moving
from numpy.typing import NDArray
from test_eval_link_run import ThumbnailEncoder

from eval import related_material
from eval.edits import ClipPart
from eval.related_figures import VOTES, equal_bins, named_of, refit, related_figures
from eval.related_material import (
    GAP_SECONDS,
    KINDS,
    LEAST_FILM_SECONDS,
    PIECE_SECONDS,
    PIECES,
    UNSEEN_SECONDS,
    LookBack,
    RelatedPlan,
    halved_programs,
    look_back,
    related_orders,
)
from eval.related_run import WAYS, run_related
from eval.related_titles import MIX, NAMES, Names, Says, deal_says, half, misspelt, second_titles, write_title
from eval.video_writer import write_video
from matcher import cli
from matcher.config import Settings
from matcher.errors import InputError
from matcher.related import EVIDENCE, SHIPPED

SETTINGS = Settings()
PLAN = RelatedPlan(n_dramas=3, clips_per_program=1, episode_seconds=12.0)


@dataclass(frozen=True)
class Finished:
    out: Path
    value: dict[str, Any]
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("related") / "out"
    value = run_related([PLAN], out, SETTINGS, ThumbnailEncoder(), workers=0)
    rows = json.loads((out / "seed-1" / "rows.json").read_text())["rows"]
    return Finished(out, value, rows)


# ---------------------------------------------------------------- where clips are cut from


@contextmanager
def films_of(lengths: Mapping[str, float]) -> Iterator[Path]:
    """A folder of films that are nothing but their lengths in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            related_material, "film_paths", lambda folder: [folder / f"{name}.mp4" for name in lengths]
        )
        patch.setattr(related_material, "film_seconds", lambda path: lengths[path.stem])
        yield Path("films")


@settings(max_examples=80, deadline=None)
@given(
    seconds=st.lists(st.floats(1, 400), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    n_dramas=st.integers(2, 6),
)
def test_no_clip_touches_what_the_store_has(seconds: list[float], seed: int, n_dramas: int) -> None:
    lengths = {f"{'ab'[n % 2]}{n}": length for n, length in enumerate(seconds)}
    with films_of(lengths) as films:
        plan = RelatedPlan((films,), seed, n_dramas, 2)
        orders = related_orders(plan, Path("out"))
    for order in orders:
        program, spans = (
            order.program,
            [(p.start_seconds, p.start_seconds + p.duration_seconds) for p in order.parts],
        )
        assert {part.source for part in order.parts} == {program.rest}
        if program.group == "films":
            length = lengths[program.program_id]
            assert program.is_stranger == (length < LEAST_FILM_SECONDS)
            first = 0.0 if program.is_stranger else length / 2 + GAP_SECONDS
            assert program.rest != program.indexed
        else:
            # Another file altogether: an episode that is not in the store.
            length, first = plan.episode_seconds, 0.0
            assert program.rest.stem == f"{program.program_id}-e02"
            assert program.indexed is None or program.indexed.stem == f"{program.program_id}-e01"
        assert all(first - 1e-6 <= start < stop <= length + 1e-6 for start, stop in spans)
        ordered = sorted(spans)
        assert all(one[1] <= other[0] + 1e-6 for one, other in itertools.pairwise(ordered))
        if order.kind == "trailer":
            assert len(spans) == max(1, min(PIECES, int((length - first) / PIECE_SECONDS)))
        else:
            speed = np.prod([edit.speed for edit in order.edits])
            assert spans[0][1] - spans[0][0] == pytest.approx(min(UNSEEN_SECONDS * speed, length - first))


def test_a_short_film_of_a_series_in_the_store_is_no_stranger() -> None:
    lengths = {"toy-pig": 8.0, "toy-all": 60.0, "venus": 12.0, "blink": 2.0, "other": 30.0}
    with films_of(lengths) as films:
        found = halved_programs(RelatedPlan((films,), n_dramas=0), Path("out"))
    assert [(program.program_id, program.is_stranger) for program in found] == [
        ("toy-all", False), ("other", False), ("venus", True)
    ]  # fmt: skip


def test_strangers_have_no_sequel_in_the_store() -> None:
    for seed in range(20):
        found = halved_programs(RelatedPlan(seed=seed, n_dramas=8), Path("out"))
        families = Counter(program.family for program in found)
        assert max(families.values()) == 2
        strangers = [program for program in found if program.is_stranger]
        assert len(strangers) == 2
        assert all(families[program.family] == 1 for program in strangers)


def test_a_plan_of_nothing_and_a_folder_without_films_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2 dramas"):
        RelatedPlan(n_dramas=1)
    with pytest.raises(InputError, match="no film in"):
        halved_programs(RelatedPlan((tmp_path,)), tmp_path)
    with pytest.raises(InputError, match="cannot read the folder"):
        halved_programs(RelatedPlan((tmp_path / "none",)), tmp_path)
    write_video(tmp_path / "short.mp4", [moving(n) for n in range(16)], fps=2)
    with pytest.raises(InputError, match="2 programs at least"):
        halved_programs(RelatedPlan((tmp_path,), n_dramas=0), tmp_path)


def test_films_are_called_as_their_table_says(tmp_path: Path) -> None:
    for name in ("one-two", "three"):
        write_video(tmp_path / f"{name}.mp4", [moving(n) for n in range(50)], fps=2)
    (tmp_path / "films.csv").write_text("program_id,title,path\nx,Hero 三,three.mp4\n", encoding="utf-8")
    found = halved_programs(RelatedPlan((tmp_path,), n_dramas=0), tmp_path)
    assert [program.names.title for program in found] == ["one two", "Hero 三"]


def blocks(number: int) -> NDArray[np.uint8]:
    """A picture like no other one."""
    small = np.random.default_rng(number).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


def test_what_stands_in_both_halves_is_told_by_its_pixels(tmp_path: Path) -> None:
    """Two seconds are the same, coded otherwise, two but for a corner; black and others are neither."""
    first = [blocks(number // 4) for number in range(32)]
    cornered = [picture.copy() for picture in first[8:16]]
    for picture in cornered:
        picture[:24, :48] = 128
    rest = [*(blocks(100 + number // 4) for number in range(16)), *first[8:16], *cornered]
    write_video(tmp_path / "first.mp4", [*first, *[flat(0, 128, 72)] * 8], fps=4, crf=20)
    write_video(tmp_path / "rest.mp4", [*rest, *[flat(0, 128, 72)] * 8], fps=4, crf=30)

    def seen(start: float, seconds: float) -> LookBack:
        return look_back([ClipPart(tmp_path / "rest.mp4", start, seconds)], tmp_path / "first.mp4")

    assert seen(0.0, 4.0) == LookBack(0.0, 0.0)
    assert seen(4.0, 2.0) == LookBack(2.0, 2.0)
    assert seen(6.0, 2.0) == LookBack(0.0, 2.0)
    assert seen(8.0, 2.0) == LookBack(0.0, 0.0)
    whole = seen(0.0, 10.0)
    assert (whole.copied_seconds, whole.same_shot_seconds) == pytest.approx((2.0, 4.0), abs=0.3)
    shown = [seen(*span).shows for span in ((0.0, 4.0), (0.0, 5.0), (0.0, 10.0), (6.0, 0.5), (6.0, 2.0))]
    assert shown == ["new", "copy", "copy", "new", "same shot"]


def test_a_dramas_opening_is_a_copy_and_its_scenes_are_not(finished: Finished) -> None:
    for program in halved_programs(PLAN, finished.out):
        if program.indexed is not None:
            found = [
                look_back([ClipPart(program.rest, *span)], program.indexed) for span in ((0, 3), (3, 11))
            ]
            assert found[0].copied_seconds >= 1.5
            assert found[1] == LookBack()


# ---------------------------------------------------------------- titles


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 400), seed=st.integers(0, 1000), of_strangers=st.booleans())
def test_titles_say_things_in_the_shares_of_the_mix(n: int, seed: int, of_strangers: bool) -> None:
    without = NAMES if of_strangers else ()
    dealt = Counter(deal_says(n, np.random.default_rng(seed), without=without))
    assert sum(dealt.values()) == n
    total = sum(share for kind, share in MIX.items() if kind not in without)
    for kind in get_args(Says):
        wanted = 0.0 if kind in without else n * MIX[kind] / total
        assert abs(dealt[kind] - wanted) <= 1 + 1e-9


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), says=st.sampled_from(get_args(Says)))
def test_a_title_says_what_it_is_told_to(seed: int, says: Says) -> None:
    names = {
        "a": Names("Silent Court", "长安往事"),
        "b": Names("Ember Road", "明月追凶"),
        "s": Names("Strange", "旧城无声"),
    }
    found = write_title(says, "a", names, ["a", "b"], np.random.default_rng(seed))
    there = {
        name: [called for called in (one.title, one.second) if called in found.text]
        for name, one in names.items()
    }
    assert there == {
        "a": {"title": ["Silent Court"], "second title": ["长安往事"]}.get(says, []),
        "b": there["b"] if says == "another" else [],
        "s": [],
    }  # fmt: skip
    assert found.names == {"another": "b", "half": "", "nothing": ""}.get(says, "a")
    assert len(there["b"]) == (says == "another")
    if says == "half":
        assert any(part in found.text for part in ("Silent", "Court", "长安", "往事"))


@given(seed=st.integers(0, 1000))
def test_a_slip_changes_little_and_a_half_is_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for title in ("Golden Lantern", "青山归途"):
        slipped = misspelt(title, rng)
        assert slipped != title
        assert len(slipped) == len(title)
        assert sum(a != b for a, b in zip(title, slipped, strict=True)) == (2 if title.isascii() else 1)
    assert half("One Two Three", rng) in ("One", "Two Three")
    assert half("归途", rng) in ("归", "途")
    assert len(set(second_titles(300, rng))) == 300


# ---------------------------------------------------------------- a whole run


def test_every_clip_is_asked_in_every_way(finished: Finished) -> None:
    assert len(finished.rows) == 4 * len(KINDS)
    assert sum(row["is_stranger"] for row in finished.rows) == 2
    for row in finished.rows:
        assert list(row["asked"]["mean"]) == [way.name for way in WAYS]
        for found in row["asked"]["mean"].values():
            confidences = [confidence for _, confidence in found["candidates"]]
            assert confidences == sorted(confidences, reverse=True)
            evidence = np.array(found["evidence"]).reshape(-1, len(EVIDENCE))
            np.testing.assert_allclose(confidences, SHIPPED.confidence(evidence), atol=1e-5)
        titles = row["asked"]["mean"]["title"]["candidates"]
        if row["says"] in ("title", "second title"):
            assert titles[0][0] == row["program_id"]
        if row["says"] == "nothing":
            assert all(confidence < SHIPPED.bar for _, confidence in titles)


def test_the_last_way_is_that_of_the_pipeline(finished: Finished) -> None:
    """What the pipeline named is what reaches the bar, but for programs it is linked to or up for review."""
    for row in finished.rows:
        linked = {name for name, _ in row["links"]}
        named = [name for name in named_of(row, "mean", WAYS[-1].name, most=99) if name not in linked][:3]
        assert [name for name, _ in row["related"]] == named


def test_the_figures_add_up(finished: Finished) -> None:
    value, rows = finished.value, finished.rows
    counts = value["counts"]
    assert counts["about"] + counts["same_shot"] + counts["copies"] + counts["strangers"] == len(rows)
    assert sum(row["linked"]["of"] for row in value["decisions"]) == len(rows)
    about = [row for row in rows if not row["is_stranger"] and row["shows"] == "new"]
    for figure in value["recall"]:
        of = [
            row for row in about
            if figure["group"] in (row["group"], "all") and figure["kind"] in (row["kind"], "all")
        ]  # fmt: skip
        right = 0
        for row in of:
            found = (
                row["votes"] if figure["way"] == VOTES else row["asked"]["mean"][figure["way"]]["candidates"]
            )
            right += bool(found) and found[0][0] == row["program_id"]
        assert (figure["of"], figure["right"]) == (len(of), right)
    assert sum(row["of"] for row in value["by_title"] if row["way"] == VOTES) == len(about)


def test_the_command_shows_a_finished_run_and_does_nothing_again(
    finished: Finished, matcher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "load_encoder_of", lambda _: ThumbnailEncoder())
    before = files_below(finished.out / "seed-1")
    words = (
        "eval", "related", "--dramas", "3", "--clips-per-program", "1", "--episode-seconds", "12",
        "--out", finished.out,
    )  # fmt: skip
    ran = matcher(*words)
    assert ran.code == 0, ran.err
    for title in ("Linked as copies", "recall@1", "Named at the bar", "what the clip's title says"):
        assert title in ran.out
    assert matcher(*words, "--json").object["counts"] == finished.value["counts"]
    assert files_below(finished.out / "seed-1") == before
    other = matcher(*words[:3], "4", *words[4:])
    assert (other.code, "choose another --out" in other.err) == (2, True)
    lost = matcher(*words, "--model", finished.out / "none.safetensors")
    assert (lost.code, "matcher train fusion" in lost.err) == (2, True)


def test_a_run_without_embeddings_is_refused(tmp_path: Path) -> None:
    off = Settings.model_validate({"fusion": {"enabled": False}})
    with pytest.raises(InputError, match="enabled = true"):
        run_related([PLAN], tmp_path, off, ThumbnailEncoder())


# ---------------------------------------------------------------- figures by hand


def row(clip_id: str, program_id: str, *candidates: tuple[str, float], **words: Any) -> dict[str, Any]:
    evidence = [[confidence, 0.0, 0.0, 0.0] for _, confidence in candidates]
    asked = {"candidates": [list(one) for one in candidates], "evidence": evidence, "bar": 0.5}
    return {
        "clip_id": clip_id, "program_id": program_id, "seed": 1, "group": "dramas", "kind": "unseen",
        "is_stranger": False, "shows": "new", "same_shot_seconds": 0.0, "edits": [], "says": "nothing",
        "decision": "none", "links": [], "votes": [], "related": [], "asked": {"mean": {"all": asked}},
        **words,
    }  # fmt: skip


def test_figures_of_five_clips_are_those_counted_by_hand() -> None:
    rows = [
        row("1", "a", ("a", 0.9), ("b", 0.6), decision="linked", links=[["a", 0.99]]),
        row("2", "a", ("b", 0.4), ("a", 0.3), seed=2),
        row("3", "b", votes=[["b", 1.0]]),
        row("4", "c", ("a", 0.8), is_stranger=True, related=[["a", 0.8]]),
        row("5", "b", ("b", 0.95), shows="copy", decision="linked", links=[["b", 0.99]]),
    ]
    value = related_figures(rows)
    assert value["counts"] == {
        "seeds": 2, "programs": 3, "about": 3, "same_shot": 0, "copies": 1, "strangers": 1
    }  # fmt: skip
    assert [wrong["clip_id"] for wrong in value["wrong_links"]] == ["1"]
    every = {one["way"]: one for one in value["recall"] if (one["group"], one["kind"]) == ("all", "all")}
    assert (every["all"]["right"], every["all"]["of"], every["all"]["by_seed"]) == (1, 3, [0.5, 0.0])
    assert (every[VOTES]["right"], every[VOTES]["by_seed"]) == (1, [0.5, 0.0])
    bar = next(one for one in value["at_the_bar"] if one["group"] == "all")
    assert (bar["precision"]["right"], bar["precision"]["of"]) == (1, 3)
    assert (bar["recall"]["right"], bar["recall"]["of"]) == (1, 3)
    assert bar["strangers_named"]["share"] == 1.0
    (calibration,) = value["calibration"]
    assert calibration["clips"] == 3
    assert calibration["calibration_error"] == pytest.approx((0.1 + 0.4 + 0.8) / 3)


def test_bins_hold_as_many_answers_each() -> None:
    confidence = np.array([0.9, 0.1, 0.5, 0.3, 0.7])
    found = equal_bins(confidence, confidence > 0.4, 2)
    assert [one["of"] for one in found] == [3, 2]
    assert [one["mean_confidence"] for one in found] == pytest.approx([0.3, 0.8])
    assert [one["right"] for one in found] == [1, 2]
    assert equal_bins(np.zeros(0), np.zeros(0, np.bool_)) == []


def test_weights_are_fitted_on_one_half_of_the_programs_and_judged_on_the_other() -> None:
    """A curve unlike the shipped one decides: fitted weights find it, on programs not seen."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(400):
        evidence = np.zeros((2, len(EVIDENCE)))
        evidence[:, 2] = rng.random(), 0.0
        is_right = rng.random() < 1 / (1 + np.exp(6 - 12 * evidence[0, 2]))
        names = ["x" if is_right else "no", "none"]
        one = row(str(number), "x", *((name, 0.5) for name in names), group=f"g{number:03d}")
        one["asked"]["mean"]["all"]["evidence"] = evidence.tolist()
        rows.append(one)
    found = refit(rows, "mean", "all")
    assert [(one["half"], one["weights"]) for one in found] == [
        (0, "shipped"), (0, "fitted"), (1, "shipped"), (1, "fitted")
    ]  # fmt: skip
    for shipped, fitted in (found[:2], found[2:]):
        assert fitted["of"]["title"] == pytest.approx(11, abs=4)
        assert fitted["calibration_error"] < shipped["calibration_error"]
        assert fitted["clips"] == shipped["clips"] == 200
    assert refit([row("1", "a", ("a", 0.9))], "mean", "all") == []


# ---------------------------------------------------------------- real films

FILMS = Path(os.environ.get("MATCHER_FILMS") or ROOT.parent / "shared" / "films")


@pytest.mark.films
@pytest.mark.slow
@pytest.mark.skipif(not FILMS.is_dir(), reason=f"no films in {FILMS}; MATCHER_FILMS names their folder")
def test_the_second_half_of_films_is_found_by_its_title_and_never_linked_to_another(tmp_path: Path) -> None:
    from matcher.encoders.registry import load_encoder

    plan = RelatedPlan((FILMS,), n_dramas=0, clips_per_program=1)
    value = run_related([plan], tmp_path / "out", SETTINGS, load_encoder("lite0"), workers=0)
    titles = [one for one in value["by_title"] if (one["way"], one["says"]) == (WAYS[-1].name, "title")]
    assert titles[0]["share"] >= 0.8
    # Same takes go on from one half to the other; what no pixel tells from a copy is known: docs/related.md.
    assert all({name for name, _ in one["links"]} == {one["program_id"]} for one in value["wrong_links"])
    assert sum(one["shows"] == "new" for one in value["wrong_links"]) <= 3
    strangers = [one for one in value["decisions"] if one["clips"] == "stranger"]
    assert sum(one["linked"]["right"] for one in strangers) == 0
