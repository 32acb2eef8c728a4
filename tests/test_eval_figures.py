"""eval.figures, eval.judging and eval.run_files: a small run worked out by hand, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.figures import ClipInfo, figures, share
from eval.ground_truth import TruthRow
from eval.judging import judge, score_of
from eval.run_files import load_answers, load_clips, save_answers, save_clips
from matcher.errors import InputError


def segment(asset: str, clip: tuple[float, float], at: tuple[float, float]) -> dict[str, Any]:
    return {
        "clip_start_seconds": clip[0], "clip_end_seconds": clip[1], "asset_id": asset,
        "asset_start_seconds": at[0], "asset_end_seconds": at[1], "similarity": 0.9,
    }  # fmt: skip


def answer(
    clip_id: str,
    decision: str = "none",
    candidates: Sequence[tuple[str, float]] = (),
    links: Sequence[tuple[str, Sequence[dict[str, Any]]]] = (),
    **more: Any,
) -> dict[str, Any]:
    """A public object; links take their confidence from the candidates."""
    sure = dict(candidates)
    found = [{"program_id": p, "confidence": sure[p], "segments": list(parts)} for p, parts in links]
    return {
        "clip_id": clip_id,
        "path": f"{clip_id}.mp4",
        "decision": decision,
        "program_id": links[0][0] if decision == "linked" else None,
        "confidence": candidates[0][1] if candidates else 0.0,
        "links": found if decision == "linked" else [],
        "review": found if decision == "review" else [],
        "candidates": [{"program_id": p, "title": p, "confidence": c, "score": 0.5} for p, c in candidates],
        "categories": None,
        "model": "m",
        "catalog_version": 1,
        "error": None,
        **more,
    }


# Six known clips (one a montage of two programs) and three unknown ones.
CLIPS = [
    ClipInfo("plain", "films", True, (), "none"),
    ClipInfo("mirror", "films", True, ("mirror",), "light"),
    ClipInfo("pip", "films", True, ("picture-in-picture",), "heavy"),
    ClipInfo("both", "dramas", True, ("mirror", "speed"), "stacked"),
    ClipInfo("several", "dramas", True, (), "montage"),
    ClipInfo("lost", "dramas", True, ("speed",), "light"),
    ClipInfo("u1", "films", False, ("mirror",), "light"),
    ClipInfo("u2", "dramas", False, (), "none"),
    ClipInfo("u3", "dramas", False, (), "none"),
]
TRUTH = [
    TruthRow("plain", "p1", "p1-e1", 0, 8, 60, 68),
    TruthRow("mirror", "p1", "p1-e1", 0, 8, 100, 108),
    TruthRow("pip", "p2", "p2-e1", 0, 8, 10, 18),
    TruthRow("both", "p3", "p3-e1", 0, 8, 10, 26),
    TruthRow("several", "p3", "p3-e1", 0, 4, 30, 34),
    TruthRow("several", "p4", "p4-e1", 4, 8, 50, 54),
    TruthRow("lost", "p4", "p4-e1", 0, 8, 5, 13),
    TruthRow("u1", "p9", "p9-e1", 0, 8, 5, 13),  # not in the catalogue: is not looked at
]
ANSWERS = [
    # Right, and exactly so.
    answer("plain", "linked", [("p1", 0.99), ("p2", 0.02)], [("p1", [segment("p1-e1", (0, 8), (60, 68))])],
           seconds=1.0, passes=1),
    # Right, one second late in the asset, two seconds too short on both axes.
    answer("mirror", "linked", [("p1", 0.95)], [("p1", [segment("p1-e1", (0, 6), (101, 107))])],
           seconds=2.0, passes=2),
    # Linked to a wrong program.
    answer("pip", "linked", [("p1", 0.97), ("p2", 0.5)], [("p1", [segment("p1-e1", (0, 8), (0, 8))])],
           seconds=3.0, passes=2),
    # Right, but put up for review.
    answer("both", "review", [("p3", 0.6)], [("p3", [segment("p3-e1", (0, 8), (10, 26))])]),
    # One of two programs linked, the other a candidate; a wrong one linked as well.
    answer("several", "linked", [("p3", 0.98), ("p1", 0.91), ("p4", 0.3)],
           [("p3", [segment("p3-e1", (0, 4), (30, 34))]), ("p1", [segment("p1-e1", (4, 8), (0, 4))])]),
    answer("lost", error={"kind": "video", "message": "no pictures"}),
    answer("u1", "linked", [("p1", 0.96)], [("p1", [segment("p1-e1", (0, 8), (0, 8))])]),
    answer("u2", "none", [("p2", 0.1)]),
    answer("u3", "none"),
]  # fmt: skip


def count(value: dict[str, Any]) -> tuple[int, int]:
    """A share as (right, of), after a look at its other fields."""
    fields = share(value["right"], value["of"])
    assert {name: value[name] for name in fields} == fields
    return value["right"], value["of"]


@pytest.fixture(scope="module")
def groups() -> dict[str, Any]:
    found = figures(CLIPS, TRUTH, ANSWERS)["groups"]
    assert isinstance(found, dict)
    return found


def test_each_group_stands_apart_and_all_comes_first(groups: dict[str, Any]) -> None:
    assert list(groups) == ["all", "dramas", "films"]
    assert groups["all"]["counts"] == {"clips": 9, "known": 6, "unknown": 3, "montages": 1, "failed": 1}
    assert groups["films"]["counts"] == {"clips": 4, "known": 3, "unknown": 1, "montages": 0, "failed": 0}


def test_top1_in_all_and_by_level_and_kind(groups: dict[str, Any]) -> None:
    every = groups["all"]
    assert count(every["top1"]) == (4, 6)
    assert count(groups["films"]["top1"]) == (2, 3)
    assert {level: count(value) for level, value in every["top1_by_level"].items()} == {
        "none": (1, 1), "light": (1, 2), "heavy": (0, 1), "stacked": (1, 1), "montage": (1, 1),
    }  # fmt: skip
    assert {kind: count(value) for kind, value in every["top1_by_kind"].items()} == {
        "mirror": (2, 2), "picture-in-picture": (0, 1), "speed": (1, 2),
    }  # fmt: skip
    assert {kind: count(value) for kind, value in every["top1_by_single_kind"].items()} == {
        "mirror": (1, 1), "picture-in-picture": (0, 1), "speed": (0, 1),
    }  # fmt: skip


def test_micro_ap_ranks_all_pairs_of_all_clips(groups: dict[str, Any]) -> None:
    # Right ones marked: .99* .98* .97 .96 .95* .91 .6* .5* .3* .1 .02; 7 pairs are right, one is not given.
    precisions = [1, 1, 3 / 5, 4 / 7, 5 / 8, 6 / 9]
    assert groups["all"]["micro_ap"] == pytest.approx(sum(precisions) / 7)


def test_recalls_are_of_known_clips_by_their_best_candidate(groups: dict[str, Any]) -> None:
    # Best candidates: .99* .98* .97 .96(unknown) .95* .6* .1(unknown).
    assert {name: count(value) for name, value in groups["all"]["recall_at_precision"].items()} == {
        "0.9": (2, 6), "0.99": (2, 6), "0.999": (2, 6),
    }  # fmt: skip
    # No unknown clip may be linked, of three: above .96.
    assert {name: count(value) for name, value in groups["all"]["recall_at_false_links"].items()} == {
        "0.01": (2, 6), "0.001": (2, 6),
    }  # fmt: skip


def test_decisions_and_wrong_links(groups: dict[str, Any]) -> None:
    every = groups["all"]
    assert {name: count(value) for name, value in every["known_decisions"].items()} == {
        "linked": (4, 6), "review": (1, 6), "none": (1, 6),
    }  # fmt: skip
    assert count(every["unknown_decisions"]["linked"]) == count(every["unknown_linked"]) == (1, 3)
    assert count(every["known_linked_wrong"]) == (2, 6)
    # Links: plain*, mirror*, pip, several* and one wrong, u1.
    assert count(every["links_right"]) == (3, 6)
    assert count(groups["films"]["links_right"]) == (2, 4)


def test_segments_of_the_links(groups: dict[str, Any]) -> None:
    found = groups["films"]["segments"]
    # Predicted 8 + 6 + 8 + 8 (of u1), common 8 + 6, true 8 + 8 + 8, alike on both axes.
    assert found["precision"] == pytest.approx(14 / 30)
    assert found["recall"] == pytest.approx(14 / 24)
    assert (found["clips"], found["with_start_error"]) == (2, 2)
    # IoU 1 and 6/8; start errors 0 and 1.
    assert found["median_iou"] == pytest.approx((1 + 6 / 8) / 2)
    assert found["median_start_error_seconds"] == pytest.approx(0.5)


def test_segment_ap_takes_review_in_and_ranks_by_confidence(groups: dict[str, Any]) -> None:
    # By seconds on either axis of films, 24 true: .99 +8 of 8; .97 +0 of 16; .96 +0 of 24; .95 +6 of 30.
    assert groups["films"]["segment_ap"] == pytest.approx(8 / 24 + 14 / 30 * 6 / 24)
    # Dramas: the clip axis has 8 + 4 + 4 + 8 = 24 true seconds, the asset axis 16 + 4 + 4 + 8 = 32.
    r1, r2 = math.sqrt(4 / 24 * 4 / 32), math.sqrt(12 / 24 * 20 / 32)
    # At .98: 4 of 4; at .91 4 wrong ones; at .6, for review, 8 and 16 more.
    assert groups["dramas"]["segment_ap"] == pytest.approx(r1 + math.sqrt(12 / 16 * 20 / 24) * (r2 - r1))


def test_montages_calibration_and_timing(groups: dict[str, Any]) -> None:
    every = groups["all"]
    assert every["montages"]["clips"] == 1
    assert count(every["montages"]["programs_linked"]) == (1, 2)
    assert count(every["montages"]["programs_among_candidates"]) == (2, 2)
    calibration = every["calibration"]
    assert calibration["clips"] == 7
    assert [count(part) for part in calibration["bins"]] == [(0, 1), (1, 1), (3, 5)]
    error = (abs(0.1 - 0) + abs(0.6 - 1) + abs(0.99 + 0.98 + 0.97 + 0.96 + 0.95 - 3)) / 7
    assert calibration["expected_calibration_error"] == pytest.approx(error)
    assert count(every["passes"]["second"]) == (2, 3)
    assert every["seconds"] == {"clips": 3, "mean": 2.0, "median": 2.0}
    assert groups["dramas"]["passes"] is None
    assert groups["dramas"]["seconds"] is None


def test_the_figures_are_plain_json_without_nan(groups: dict[str, Any]) -> None:
    assert json.loads(json.dumps(groups, allow_nan=False)) == groups


def test_log_odds_rank_what_rounded_confidences_cannot() -> None:
    clips = [replace(CLIPS[0], clip_id="a"), replace(CLIPS[0], clip_id="b", is_known=False)]
    truth = [replace(TRUTH[0], clip_id="a")]
    sure = [answer("a", "none", [("p1", 1.0)]), answer("b", "none", [("p1", 1.0)])]
    assert figures(clips, truth, sure)["groups"]["all"]["micro_ap"] == 0.5
    for one, odds in zip(sure, (25.0, 20.0), strict=True):
        one["candidates"][0]["log_odds"] = odds
    assert figures(clips, truth, sure)["groups"]["all"]["micro_ap"] == 1.0


def test_a_score_is_the_log_odds_given_or_those_of_the_confidence() -> None:
    assert score_of({"confidence": 0.9, "log_odds": -3.5}) == -3.5
    assert score_of({"confidence": 0.9}) == pytest.approx(math.log(9))
    assert score_of({"confidence": 0.5, "log_odds": None}) == 0.0
    assert score_of({"confidence": 1.0}) == math.inf
    assert score_of({"confidence": 0.0}) == -math.inf


def test_a_run_of_unknown_clips_only_and_an_empty_one_have_figures() -> None:
    for chosen in ([CLIPS[6], CLIPS[7]], []):
        answers = [one for one in ANSWERS if one["clip_id"] in {clip.clip_id for clip in chosen}]
        found = figures(chosen, TRUTH, answers)["groups"]["all"]
        assert found["top1"] == share(0, 0)
        assert found["micro_ap"] is None
        assert found["segment_ap"] is None
        assert found["segments"]["precision"] is None
        assert found["recall_at_false_links"]["0.01"]["share"] is None
        assert count(found["unknown_linked"]) == (min(1, len(chosen)), len(chosen))
        json.dumps(found, allow_nan=False)


def test_reversed_play_and_an_exact_answer_are_in_full_agreement() -> None:
    truth = [TruthRow("plain", "p1", "p1-e1", 0, 8, 60, 68, is_reversed=True)]
    found = figures(CLIPS[:1], truth, ANSWERS[:1])["groups"]["all"]["segments"]
    assert (found["median_iou"], found["median_start_error_seconds"]) == (1.0, 0.0)


@given(st.permutations(range(len(CLIPS))), st.permutations(range(len(ANSWERS))))
def test_the_order_of_clips_and_answers_does_not_matter(one: list[int], other: list[int]) -> None:
    shuffled = figures([CLIPS[n] for n in one], TRUTH, [ANSWERS[n] for n in other])
    plain = figures(CLIPS, TRUTH, ANSWERS)
    for name, group in plain["groups"].items():
        for key in ("top1", "links_right", "recall_at_precision", "montages", "known_decisions"):
            assert shuffled["groups"][name][key] == group[key]
        for key in ("micro_ap", "segment_ap"):
            assert shuffled["groups"][name][key] == pytest.approx(group[key])


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="1 clips are without an answer"):
        judge(CLIPS, TRUTH, ANSWERS[1:])
    with pytest.raises(ValueError, match="answers without a clip"):
        judge(CLIPS[1:], TRUTH, ANSWERS)
    with pytest.raises(ValueError, match="stands twice"):
        judge([*CLIPS, CLIPS[0]], TRUTH, ANSWERS)
    with pytest.raises(ValueError, match="stands twice"):
        judge(CLIPS, TRUTH, [*ANSWERS, ANSWERS[0]])
    with pytest.raises(ValueError, match=r"1 known clips have no truth: \['plain'\]"):
        judge(CLIPS, TRUTH[1:], ANSWERS)
    with pytest.raises(ValueError, match="may be called 'all'"):
        figures([replace(CLIPS[0], group="all")], TRUTH, ANSWERS[:1])


def test_a_clip_checks_itself() -> None:
    with pytest.raises(ValueError, match="level must be one of none, light"):
        ClipInfo("q", "films", True, (), "severe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs names"):
        ClipInfo("q", "films", True, ("a+b",), "light")
    with pytest.raises(ValueError, match="needs names"):
        ClipInfo("", "films", True, (), "light")


def test_clips_read_back_as_they_were_written(tmp_path: Path) -> None:
    save_clips(tmp_path / "clips.parquet", CLIPS)
    assert load_clips(tmp_path / "clips.parquet") == CLIPS
    save_clips(tmp_path / "clips.parquet", [])
    assert load_clips(tmp_path / "clips.parquet") == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["clips.parquet"]


def test_answers_read_back_as_they_were_written_and_stand_beside_their_clips(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "answers.parquet"
    save_answers(path, CLIPS, ANSWERS)
    assert load_answers(path) == ANSWERS
    table = pq.read_table(path)
    assert table.column_names == [
        "clip_id", "group", "is_known", "level", "kinds",
        "decision", "program_id", "confidence", "seconds", "passes", "answer",
    ]  # fmt: skip
    row = table.to_pylist()[3]
    assert (row["clip_id"], row["kinds"], row["decision"], row["passes"]) == (
        "both", "mirror+speed", "review", None
    )  # fmt: skip
    save_answers(path, CLIPS, [])
    assert load_answers(path) == []


def test_tables_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="were not asked"):
        save_answers(tmp_path / "answers.parquet", CLIPS[1:], ANSWERS[:1])
    with pytest.raises(InputError, match="is not there"):
        load_clips(tmp_path / "clips.parquet")
    (tmp_path / "clips.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="is not a Parquet file"):
        load_clips(tmp_path / "clips.parquet")
    save_clips(tmp_path / "clips.parquet", CLIPS)
    with pytest.raises(InputError, match="lacks decision, program_id"):
        load_answers(tmp_path / "clips.parquet")
