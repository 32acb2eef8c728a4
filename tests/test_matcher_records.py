"""Records refuse what cannot be, and an answer's JSON object keeps its contract."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Literal

import numpy as np
import pytest

from matcher.records import (
    SOUND,
    WHOLE,
    Answer,
    Descriptors,
    Elsewhere,
    Failure,
    Frame,
    Guess,
    Heard,
    Link,
    Look,
    Segment,
    rounded,
)

#: The contract of `matcher query --json`: a field may be added, none renamed or dropped.
ANSWER_KEYS = {
    "clip_id", "path", "decision", "program_id", "confidence", "links", "candidates", "categories",
    "model", "catalog_version", "error",
}  # fmt: skip
SEGMENT = Segment(0.0, 8.0, "p7-e01", 63.0, 71.0, 0.912345678)
LINK = Link("p7", 0.98, (SEGMENT,))
GUESS = Guess("p7", "Seven", 0.98, 0.93, 3.8918202981)
LINKED = Answer("q1", "/v/q1.mp4", "linked", (LINK,), (GUESS,), "fp", 12)


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_a_frame_of_another_shape_or_type_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(h, w, 3\) uint8"):
        Frame(0.0, image)


def test_a_frame_is_taken() -> None:
    assert Frame(1.5, np.zeros((2, 3, 3), np.uint8)).t_seconds == 1.5


def test_descriptors_count_their_frames() -> None:
    assert len(Descriptors(np.array([0.0, 0.5]), np.eye(2, 4, dtype=np.float32), 1.0, 3)) == 2
    assert len(Descriptors(np.zeros(0), np.zeros((0, 4), np.float32), 0.0, 0)) == 0


def test_the_first_look_comes_first_and_further_ones_may_see_fewer_frames() -> None:
    mirror = Look("mirror", np.array([0.5]), np.ones((1, 4), np.float32))
    clip = Descriptors(np.array([0.0, 0.5]), np.eye(2, 4, dtype=np.float32), 1.0, 3, (mirror,))
    whole, further = clip.looks
    assert (whole.view, len(whole), further, len(further)) == (WHOLE, 2, mirror, 1)
    np.testing.assert_array_equal(whole.t_seconds, clip.t_seconds)
    np.testing.assert_array_equal(whole.vectors, clip.vectors)
    assert len(clip) == 2


def test_a_clip_looked_at_once_has_one_look() -> None:
    clip = Descriptors(np.zeros(1), np.ones((1, 4), np.float32), 1.0, 1)
    assert [look.view for look in clip.looks] == [WHOLE]


def test_what_was_heard_comes_last_and_may_be_nothing() -> None:
    """A silent file has a look without patches, a file that nobody listened to has none."""
    mirror = Look("mirror", np.array([0.5]), np.ones((1, 4), np.float32))
    for heard in (
        Look(SOUND, np.array([1.0, 1.2]), np.ones((2, 3), np.float32), "sound"),
        Look(SOUND, np.zeros(0), np.zeros((0, 3), np.float32), "sound"),
    ):
        clip = Descriptors(np.zeros(1), np.ones((1, 4), np.float32), 1.0, 1, (mirror,), heard)
        assert [look.view for look in clip.looks] == [WHOLE, "mirror", SOUND]
        assert clip.looks[-1] is heard
        assert [look.kind for look in clip.looks] == ["picture", "picture", "sound"]
        assert len(clip) == 1
    assert len(Descriptors(np.zeros(1), np.ones((1, 4), np.float32), 1.0, 1, (mirror,)).looks) == 2


def test_a_rounded_look_is_of_its_kind() -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    got = rounded(Look(SOUND, np.array([1.0, 1.2]), vectors, "sound"))
    assert (got.view, got.kind, got.t_seconds.tolist()) == (SOUND, "sound", [1.0, 1.2])
    np.testing.assert_array_equal(got.vectors, vectors.astype(np.float16).astype(np.float32))
    assert got.vectors.dtype == np.float32


@pytest.mark.parametrize(
    ("times", "vectors", "what"),
    [
        ([0.0], np.zeros((2, 4)), "does not fit"),
        ([1.0, 1.0], np.zeros((2, 4)), "strictly increasing"),
        ([0.0], np.full((1, 4), np.inf), "finite"),
    ],
)
def test_a_further_look_is_checked_like_the_first(times: list[float], vectors: np.ndarray, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Look("centre", np.array(times), vectors.astype(np.float32))
    with pytest.raises(ValueError, match=what):
        Descriptors(np.array(times), vectors.astype(np.float32), 1.0, 1)


@pytest.mark.parametrize(
    ("times", "vectors"),
    [
        ([0.0], np.zeros((2, 4))),
        ([0.0, 1.0], np.zeros(2)),
        ([], np.zeros((1, 4))),
        ([[0.0]], np.zeros((1, 4))),
    ],
)
def test_times_that_do_not_fit_the_vectors_are_refused(times: list[float], vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Descriptors(np.array(times), vectors.astype(np.float32), 1.0, 1)


@pytest.mark.parametrize("times", [[0.0, 0.0], [1.0, 0.5], [0.0, float("nan")], [0.0, 1.0, 1.0]])
def test_times_that_do_not_rise_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        Descriptors(np.array(times), np.zeros((len(times), 2), np.float32), 1.0, 1)


def test_a_segment_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="before it starts"):
        replace(SEGMENT, clip_end_seconds=-0.1)
    assert replace(SEGMENT, clip_end_seconds=0.0).clip_end_seconds == 0.0


def test_records_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        LINKED.decision = "none"  # type: ignore[misc]


# ---------------------------------------------------------------- an answer


def test_a_linked_clips_object_is_that_of_the_contract() -> None:
    got = LINKED.to_json()
    assert set(got) >= ANSWER_KEYS
    assert {key: got[key] for key in ANSWER_KEYS} == {
        "clip_id": "q1",
        "path": "/v/q1.mp4",
        "decision": "linked",
        "program_id": "p7",
        "confidence": 0.98,
        "links": [
            {
                "program_id": "p7",
                "confidence": 0.98,
                "segments": [
                    {
                        "clip_start_seconds": 0.0, "clip_end_seconds": 8.0, "asset_id": "p7-e01",
                        "asset_start_seconds": 63.0, "asset_end_seconds": 71.0, "similarity": 0.912346,
                        "is_reversed": False, "view": "whole", "evidence": "picture", "ambiguity": 0.0,
                        "also": [],
                    }
                ],
            }
        ],
        "candidates": [
            {"program_id": "p7", "title": "Seven", "confidence": 0.98, "score": 0.93, "log_odds": 3.891820}
        ],
        "categories": None,
        "model": "fp",
        "catalog_version": 12,
        "error": None,
    }  # fmt: skip
    assert json.loads(json.dumps(got)) == got


def test_a_segment_tells_how_it_was_found_and_where_else_it_may_be() -> None:
    place = Elsewhere("p7-e02", 5.0, 13.0, 0.9000000004)
    segment = replace(SEGMENT, is_reversed=True, view="mirror", ambiguity=0.25, also=(place,))
    got = replace(LINKED, links=(replace(LINK, segments=(segment,)),)).to_json()
    (said,) = got["links"][0]["segments"]
    assert (said["is_reversed"], said["view"], said["ambiguity"]) == (True, "mirror", 0.25)
    assert said["also"] == [
        {"asset_id": "p7-e02", "asset_start_seconds": 5.0, "asset_end_seconds": 13.0, "similarity": 0.9}
    ]
    assert json.loads(json.dumps(got)) == got


@pytest.mark.parametrize("basis", ["picture", "sound", "both"])
def test_a_segment_tells_what_it_rests_on(basis: Literal["picture", "sound", "both"]) -> None:
    got = replace(LINKED, links=(replace(LINK, segments=(replace(SEGMENT, evidence=basis),)),)).to_json()
    assert got["links"][0]["segments"][0]["evidence"] == basis


def test_an_answer_tells_whose_sound_it_is() -> None:
    got = replace(LINKED, heard=Heard("p9", 0.9123456789, False), patches=41).to_json()
    assert got["sound"] == {"program_id": "p9", "confidence": 0.912346, "agrees": False}
    assert got["patches"] == 41
    assert (LINKED.to_json()["sound"], LINKED.to_json()["patches"]) == (None, None)
    assert json.loads(json.dumps(got)) == got


@pytest.mark.parametrize(("looks", "passes"), [(1, 1), (2, 2), (9, 2)])
def test_a_clip_is_looked_at_in_one_pass_or_two(looks: int, passes: int) -> None:
    got = replace(LINKED, looks=looks).to_json()
    assert (got["looks"], got["passes"]) == (looks, passes)


def test_links_hold_only_what_is_accepted() -> None:
    """A clip up for review names no program; what to look at stands apart."""
    got = replace(LINKED, decision="review").to_json()
    assert (got["program_id"], got["links"]) == (None, [])
    assert [link["program_id"] for link in got["review"]] == ["p7"]
    assert LINKED.to_json()["review"] == []


def test_a_montage_names_its_best_program_and_holds_all() -> None:
    second = Link("p9", 0.93, ())
    got = replace(LINKED, links=(LINK, second)).to_json()
    assert got["program_id"] == "p7"
    assert [link["program_id"] for link in got["links"]] == ["p7", "p9"]


@pytest.mark.parametrize(
    ("links", "candidates", "confidence"), [((), (GUESS,), 0.98), ((), (), 0.0), ((LINK,), (), 0.98)]
)
def test_confidence_is_that_of_the_best_link_else_of_the_best_guess(
    links: tuple[Link, ...], candidates: tuple[Guess, ...], confidence: float
) -> None:
    decision = "linked" if links else "none"
    assert replace(LINKED, decision=decision, links=links, candidates=candidates).confidence == confidence


def test_a_file_that_could_not_be_read_says_why() -> None:
    got = Answer("q", "x", "none", (), (), "fp", 1, Failure("video", "no frame")).to_json()
    assert got["error"] == {"kind": "video", "message": "no frame"}
    assert (got["decision"], got["program_id"], got["confidence"]) == ("none", None, 0.0)
    assert (got["links"], got["candidates"]) == ([], [])
