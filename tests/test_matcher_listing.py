"""What the listings say: one object a program, a clip, a link, with every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.catalog import Catalog, ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip
from index.files import folder_bytes
from index.rows import ProgramRecord
from matcher.changes import link_record
from matcher.config import Settings
from matcher.errors import InputError
from matcher.listing import clip_objects, link_objects, program_objects, status_object, status_rows
from matcher.records import Answer, Decision, Guess, Link, Segment
from matcher.store import Within

D = 8


def _answer(clip_id: str, decision: Decision, *programs: str) -> Answer:
    links = tuple(
        Link(name, 0.9 - i / 100, (Segment(0.0, 4.0, "e1", 10.0, 14.0, 0.95),))
        for i, name in enumerate(programs)
    )
    return Answer(clip_id, f"{clip_id}.mp4", decision, links, (Guess("p", "P", 0.25, 0.5),), "m", 3)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Programs p and q; a clip linked to both, one up for review, one of none, one without a link's row."""
    catalog = Catalog.create(tmp_path / "store", ModelInfo("m", "model", D))
    vectors = np.eye(D, dtype=np.float32)[:2]
    with catalog.writing() as writer:
        for name in ("p", "q"):
            assets = [
                NewAsset(asset, f"{name}/{asset}.mp4", asset, 2.0, np.arange(2.0), vectors)
                for asset in ("e1", "e2")
            ]
            writer.add_program(NewProgram(name, name.upper(), ("X",), ("a/b",), "mark"), assets)
        for clip_id in ("both", "look", "none", "torn"):
            record = ClipRecord(clip_id, f"{clip_id}.mp4", "T", 4.0, 8, "m", "mark")
            writer.put_clip(StoredClip(record, np.arange(2.0), vectors))
        answers = [
            _answer("both", "linked", "p", "q"),
            _answer("look", "review", "q"),
            _answer("none", "none"),
        ]
        writer.put_links([link_record(answer) for answer in answers])
    catalog.refresh()
    return catalog


def _links(catalog: Catalog, program: str | None = None, decision: str | None = None) -> list[dict[str, Any]]:
    found = list(link_objects(catalog, program=program, decision=decision))
    json.dumps(found)
    assert all(link.keys() >= {"clip_id", "program_id", "confidence", "segments"} for link in found)
    return found


def test_programs_with_their_assets(catalog: Catalog) -> None:
    p, q = program_objects(catalog)
    assert (p["program_id"], p["title"], p["aliases"], p["categories"]) == ("p", "P", ["X"], ["a/b"])
    assert (p["duration_seconds"], p["frames"]) == (4.0, 4)
    assert q["assets"] == [
        {"asset_id": asset, "path": f"q/{asset}.mp4", "duration_seconds": 2.0, "frames": 2}
        for asset in ("e1", "e2")
    ]


def test_clips_with_their_decision(catalog: Catalog) -> None:
    found = {clip["clip_id"]: (clip["decision"], clip["program_id"]) for clip in clip_objects(catalog)}
    assert found == {
        "both": ("linked", "p"), "look": ("review", None), "none": ("none", None), "torn": (None, None),
    }  # fmt: skip


def test_one_object_a_link_and_one_with_null_for_a_clip_without(catalog: Catalog) -> None:
    """What waits for a person is no link: who reads ``program_id`` must not take it for one."""
    found = _links(catalog)
    assert [(link["clip_id"], link["program_id"], link["decision"]) for link in found] == [
        ("both", "p", "linked"), ("both", "q", "linked"), ("look", None, "review"), ("none", None, "none"),
        ("torn", None, None),
    ]  # fmt: skip
    both, look, none, torn = found[0], *found[2:]
    assert both["segments"][0]["asset_start_seconds"] == 10.0
    assert (both["confidence"], look["confidence"], none["confidence"], torn["confidence"]) == (
        0.9,
        0.9,
        0.25,
        0.0,
    )
    assert [part["program_id"] for part in look["review"]] == ["q"]
    assert all(link["segments"] == [] for link in (look, none, torn))
    assert not any(link["stale"] for link in found)


def test_links_of_one_program_or_decision(catalog: Catalog) -> None:
    assert [link["clip_id"] for link in _links(catalog, program="p")] == ["both"]
    assert [link["clip_id"] for link in _links(catalog, program="q")] == ["both", "look"]
    assert _links(catalog, program="nope") == []
    assert [link["program_id"] for link in _links(catalog, decision="linked")] == ["p", "q"]
    assert [link["clip_id"] for link in _links(catalog, decision="none")] == ["none"]
    assert _links(catalog, program="p", decision="review") == []


def test_links_to_a_program_that_left_are_stale(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        writer.remove_programs(["q"])
    catalog.refresh()
    assert [link["stale"] for link in _links(catalog)] == [False, True, True, False, False]


def test_status_counts(catalog: Catalog) -> None:
    status = status_object(catalog, Settings())
    assert {name: status[name] for name in ("programs", "assets", "frames", "clips", "links", "reviews")} == {
        "programs": 2, "assets": 4, "frames": 8, "clips": 4, "links": 3, "reviews": 0,
    }  # fmt: skip
    assert (status["model"], status["encoder"], status["dimensions"]) == ("m", "model", D)
    assert status["index_frames"] == 8
    assert status["bytes"] == folder_bytes(catalog.path) > 0
    assert status["settings"] == Settings().digest()


def test_status_says_of_an_index_what_its_cache_says(catalog: Catalog) -> None:
    """No cache yet; then one whose recall was low and lists unequal when it was saved: a word of advice."""
    rows = dict(status_rows(status_object(catalog, Settings())))
    assert rows["index of frames"] == "flat, 0 saved"
    state = {
        "table": "frames", "kind": "ivf-fp16", "saved": 9, "trained_on": 5,
        "imbalance": 3.0, "recall_at_10": 0.5, "retrain": ["recall@10 is 0.500, below 0.95"],
    }  # fmt: skip
    words = dict(status_rows({"frames": 9, "indexes": [state]}))["index of frames"]
    assert "run `matcher index retrain`: recall@10 is 0.500" in words
    two = Settings.model_validate({"index": {"search": "two-stage"}})
    assert status_object(catalog, two)["index"] == "two-stage"


def test_programs_are_named_or_of_a_category() -> None:
    """A category holds those below it, not those that merely begin alike; an unknown name is an error."""

    def record(program_id: str, *categories: str) -> ProgramRecord:
        return ProgramRecord(program_id, 1, "", (), categories, "", "live", "", 0, 0)

    records = [
        record("a", "drama/family"), record("b", "drama"), record("c", "dramatic/x", "show"), record("d"),
    ]  # fmt: skip
    assert Within(categories=("drama",)).positions(records) == [0, 1]
    assert Within(categories=("drama/family/",)).positions(records) == [0]
    assert Within(("d",), ("show",)).positions(records) == [2, 3]
    with pytest.raises(InputError, match="no program 'x'"):
        Within(("x",)).positions(records)
    with pytest.raises(InputError, match="category opera"):
        Within(categories=("opera",)).positions(records)
