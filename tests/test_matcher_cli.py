"""The command line from end to end: every verb, what it prints, its exit code, and what it keeps."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import Library, Run, command, environment, files_below, run_process

from index.rows import Kind
from index.snapshot import cache_folder
from matcher import show
from matcher.records import Answer, Failure, Guess, Link, Segment
from matcher.store import open_catalog

VERBS = [
    "add", "remove", "query", "link", "relink", "programs", "clips", "links", "status", "doctor", "demo",
    "review", "history", "index verify", "index rebuild", "index compact", "bench ingest", "bench query",
    "bench cluster", "train descriptor", "train categories", "train fusion", "train scene",
]  # fmt: skip
HEAVY = [
    "numpy", "av", "lancedb", "lance", "faiss", "torch", "onnxruntime", "onnx", "timm", "open_clip",
    "pyarrow", "pydantic", "PIL", "rich", "ray",
]  # fmt: skip

ANSWER_FIELDS = {
    "clip_id", "path", "decision", "program_id", "confidence", "links", "candidates", "categories", "model",
    "catalog_version", "error",
}  # fmt: skip
SEGMENT_FIELDS = {
    "clip_start_seconds", "clip_end_seconds", "asset_id", "asset_start_seconds", "asset_end_seconds",
    "similarity",
}  # fmt: skip


def _check_answer(answer: dict[str, Any]) -> None:
    """The contract of a query's object: no field missing, every one of its type."""
    assert answer.keys() >= ANSWER_FIELDS
    assert answer["decision"] in ("linked", "review", "none")
    assert (answer["program_id"] is not None) == (answer["decision"] == "linked")
    assert 0.0 <= answer["confidence"] <= 1.0
    assert bool(answer["links"]) == (answer["decision"] == "linked")
    for link in answer["links"]:
        assert link.keys() >= {"program_id", "confidence", "segments"}
        assert link["segments"]
        for segment in link["segments"]:
            assert segment.keys() >= SEGMENT_FIELDS
            assert segment["clip_start_seconds"] <= segment["clip_end_seconds"]
    for guess in answer["candidates"]:
        assert guess.keys() >= {"program_id", "title", "confidence", "score"}
    assert answer["error"] is None or answer["error"].keys() >= {"kind", "message"}
    if answer["links"]:
        assert answer["program_id"] == answer["links"][0]["program_id"]


def _clip_manifest(path: Path, rows: list[tuple[str, ...]], header: str = "clip_id,path,title") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


# ---------------------------------------------------------------- add, query, remove


def test_every_clip_is_linked_to_its_program_and_place(
    matcher: Run, library: Library, kept_store: Path
) -> None:
    """The whole way: one object a clip, in order, as the contract says."""
    ran = matcher("query", "--store", kept_store, *library.clips.values(), "--json")
    assert ran.code == 0
    assert [answer["clip_id"] for answer in ran.objects] == [path.stem for path in library.clips.values()]
    for answer, (program_id, path) in zip(ran.objects, library.clips.items(), strict=True):
        _check_answer(answer)
        assert answer["path"] == str(path)
        assert answer["decision"] == "linked"
        assert answer["program_id"] == program_id
        segment = answer["links"][0]["segments"][0]
        assert segment["asset_id"] == f"{program_id}-e02"
        offset = segment["asset_start_seconds"] - segment["clip_start_seconds"]
        assert abs(offset - library.start_seconds) < 1.0
    assert ran.lines[-1].startswith("linked 3, review 0, none 0, failed 0 in ")
    assert len(ran.lines) == 1


def test_two_stages_answer_a_query_as_one(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    """By one line of the configuration; a compaction then writes what it keeps, and verify finds it whole."""
    config = tmp_path / "two.toml"
    config.write_text('[index]\nsearch = "two-stage"\n')
    words = ("query", "--store", store, *library.clips.values(), "--json")
    one, two = matcher(*words).objects, matcher(*words, "--config", config).objects
    assert one == two
    assert matcher("index", "compact", "--store", store, "--config", config).code == 0
    assert matcher("index", "verify", "--store", store, "--config", config).code == 0
    again = matcher(*words, "--config", config).objects
    assert [{**answer, "catalog_version": 0} for answer in again] == [
        {**answer, "catalog_version": 0} for answer in one
    ]


def test_a_query_within_programs_knows_no_others(matcher: Run, library: Library, store: Path) -> None:
    """Its own program named: found as ever; others: it is nobody's, and only they are guesses."""
    clip = library.clips["p01"]
    own = matcher("query", "--store", store, clip, "--program", "p01", "--json").object
    assert (own["program_id"], {guess["program_id"] for guess in own["candidates"]}) == ("p01", {"p01"})
    others = sorted(set(library.clips) - {"p01"})[:2]
    words = [word for name in others for word in ("--program", name)]
    answer = matcher("query", "--store", store, clip, *words, "--json").object
    assert answer["decision"] != "linked"
    assert {guess["program_id"] for guess in answer["candidates"]} <= set(others)
    for wrong, why in ((("--program", "p99"), "p99"), (("--category", "opera"), "opera")):
        ran = matcher("query", "--store", store, clip, *wrong)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert why in ran.err


def test_centroids_are_made_anew_and_status_tells_how_they_stand(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    """A small store has none; asked for, they are trained, retrained, and measured; the answers stay."""
    ran = matcher("index", "retrain", "--store", store)
    assert ran.code == 0
    assert "no centroids" in ran.err
    config = tmp_path / "ivf.toml"
    config.write_text('[index]\nkind = "ivf-fp16"\n')
    words = ("query", "--store", store, *library.clips.values(), "--json")
    before = [answer["program_id"] for answer in matcher(*words).objects]
    for _ in range(2):
        ran = matcher("index", "retrain", "--store", store, "--config", config)
        assert ran.code == 0
        assert "retrained on" in ran.err
    status = matcher("status", "--store", store, "--config", config, "--json").object
    assert status["index"] == "ivf-fp16"
    for state in status["indexes"]:
        assert (state["kind"], state["retrain"]) == ("ivf-fp16", [])
        assert state["trained_on"] == state["saved"] == status[state["table"]]
        assert state["recall_at_10"] > 0.9
    assert "recall@10" in matcher("status", "--store", store, "--config", config).out
    assert [answer["program_id"] for answer in matcher(*words, "--config", config).objects] == before
    assert matcher("index", "verify", "--store", store, "--config", config).code == 0


def test_query_without_json_prints_a_table_and_nothing_else(
    matcher: Run, library: Library, kept_store: Path
) -> None:
    ran = matcher("query", "--store", kept_store, library.clips["p01"])
    assert "p01" in ran.out
    assert "0:04." in ran.out or "0:03." in ran.out
    assert "failed 0" not in ran.out


def test_top_bounds_the_candidates(matcher: Run, library: Library, kept_store: Path) -> None:
    words = ("query", "--store", kept_store, library.clips["p02"], "--json", "--top")
    assert len(matcher(*words, "1").object["candidates"]) == 1
    assert len(matcher(*words, "3").object["candidates"]) == 3


def test_query_by_manifest_answers_in_order_with_the_manifests_ids(
    matcher: Run, library: Library, kept_store: Path, tmp_path: Path
) -> None:
    """A row that cannot be used has its object too, in its place; paths start at the manifest's folder."""
    shutil.copy(library.clips["p01"], tmp_path / "one.mp4")
    shutil.copy(library.clips["p03"], tmp_path / "three.mp4")
    rows = [
        ("three", "three.mp4", ""),
        ("gone", "gone.mp4", "T"),
        ("one", "one.mp4", ""),
        ("one", "one.mp4", ""),
    ]
    manifest = _clip_manifest(tmp_path / "clips.csv", rows)
    ran = matcher("query", "--store", kept_store, "--manifest", manifest, "--json")
    assert ran.code == 4
    assert [answer["clip_id"] for answer in ran.objects] == ["three", "gone", "one", "one"]
    assert [answer["program_id"] for answer in ran.objects] == ["p03", None, "p01", None]
    for answer in ran.objects:
        _check_answer(answer)
    assert [answer["error"] is None for answer in ran.objects] == [True, False, True, False]
    assert "row 3" in ran.objects[1]["error"]["message"]
    assert "gone.mp4" in ran.objects[1]["error"]["message"]
    assert "row 5" in ran.objects[3]["error"]["message"]
    assert ran.lines[-1].startswith("linked 2, review 0, none 0, failed 2 in ")


def test_add_by_words_keeps_title_aliases_and_categories(
    matcher: Run, library: Library, tmp_path: Path
) -> None:
    store = tmp_path / "s"
    ran = matcher(
        "add", "--store", store, "lost", *library.episodes("p01"), "--title", "Lost", "--alias", "失落",
        "--alias", "L", "--category", "drama/mystery", "--json",
    )  # fmt: skip
    assert ran.code == 0
    assert ran.object["program_id"] == "lost"
    assert ran.object["outcome"] == "added"
    program = matcher("programs", "--store", store, "--json").object
    assert program["program_id"] == "lost"
    assert program["title"] == "Lost"
    assert program["aliases"] == ["失落", "L"]
    assert program["categories"] == ["drama/mystery"]
    assert [asset["asset_id"] for asset in program["assets"]] == ["p01-e01", "p01-e02"]
    assert program["frames"] == sum(asset["frames"] for asset in program["assets"]) > 0
    assert program["duration_seconds"] == pytest.approx(28.0, abs=0.5)


def test_programs_by_manifest_with_their_own_asset_ids(matcher: Run, kept_store: Path) -> None:
    programs = matcher("programs", "--store", kept_store, "--json").objects
    assert [program["program_id"] for program in programs] == ["p01", "p02", "p03"]
    assert [asset["asset_id"] for asset in programs[1]["assets"]] == ["p02-e01", "p02-e02"]
    assert all(program["title"] and len(program["categories"]) == 1 for program in programs)
    assert "p02" in matcher("programs", "--store", kept_store).out


def test_adding_again_skips_what_has_not_changed(matcher: Run, library: Library, store: Path) -> None:
    before = matcher("programs", "--store", store, "--json").objects
    ran = matcher("add", "--store", store, "--manifest", library.manifest, "--json")
    assert ran.code == 0
    assert [result["outcome"] for result in ran.objects] == ["unchanged"] * 3
    assert matcher("programs", "--store", store, "--json").objects == before


def test_adding_with_other_files_replaces_and_the_old_are_no_longer_found(
    matcher: Run, library: Library, store: Path
) -> None:
    query = ("query", "--store", store, library.clips["p01"], "--json")
    assert matcher(*query).object["program_id"] == "p01"
    ran = matcher("add", "--store", store, "p01", library.episodes("p02")[0], "--json")
    assert ran.object["outcome"] == "replaced"
    answer = matcher(*query).object
    assert answer["program_id"] is None
    assert [p["program_id"] for p in matcher("programs", "--store", store, "--json").objects] == [
        "p02", "p03", "p01",
    ]  # fmt: skip
    assert matcher("index", "verify", "--store", store).code == 0


def test_other_sampling_or_title_is_a_change(matcher: Run, library: Library, store: Path) -> None:
    words = ("add", "--store", store, "x", library.episodes("p02")[0], "--json")
    assert matcher(*words).object["outcome"] == "added"
    assert matcher(*words, "--sampling", "fps=2").object["outcome"] == "replaced"
    assert matcher(*words, "--sampling", "fps=2", "--title", "X").object["outcome"] == "replaced"
    assert matcher(*words, "--sampling", "fps=2", "--title", "X").object["outcome"] == "unchanged"


def test_removed_programs_are_not_found_at_once(matcher: Run, library: Library, store: Path) -> None:
    ran = matcher("remove", "--store", store, "p01", "p03", "--json")
    assert ran.code == 0
    assert ran.objects == [{"program_id": name, "outcome": "removed"} for name in ("p01", "p03")]
    answer = matcher("query", "--store", store, library.clips["p01"], "--json").object
    assert answer["program_id"] is None
    assert [guess["program_id"] for guess in answer["candidates"]] == ["p02"]
    assert [p["program_id"] for p in matcher("programs", "--store", store, "--json").objects] == ["p02"]


def test_empty_catalogue_answers_none(matcher: Run, library: Library, store: Path) -> None:
    assert matcher("remove", "--store", store, "p01", "p02", "p03").code == 0
    ran = matcher("query", "--store", store, library.clips["p01"], "--json")
    assert ran.code == 0
    assert (ran.object["decision"], ran.object["candidates"]) == ("none", [])
    assert matcher("programs", "--store", store, "--json").out == ""
    assert matcher("index", "verify", "--store", store).code == 0


# ---------------------------------------------------------------- link, relink and the listings


def test_link_keeps_clips_and_links(matcher: Run, library: Library, store: Path, tmp_path: Path) -> None:
    """What ``link`` prints is what a query prints; the listings show it, one object a clip or link."""
    stranger = tmp_path / "stranger.mp4"
    shutil.copy(library.clips["p01"], stranger)
    matcher("remove", "--store", store, "p01")
    words = ("--store", store, library.clips["p02"], library.clips["p03"], stranger, "--json")
    queried = matcher("query", *words).objects
    linked = matcher("link", *words)
    assert linked.code == 0
    assert linked.objects == queried
    assert linked.objects[2]["program_id"] is None

    clips = matcher("clips", "--store", store, "--json").objects
    assert [clip["clip_id"] for clip in clips] == ["clip-p02", "clip-p03", "stranger"]
    assert [clip["program_id"] for clip in clips] == ["p02", "p03", None]
    assert clips[0]["path"] == str(library.clips["p02"])

    links = matcher("links", "--store", store, "--json").objects
    assert [link["clip_id"] for link in links] == ["clip-p02", "clip-p03", "stranger"]
    assert all(link.keys() >= {"clip_id", "program_id", "confidence", "segments"} for link in links)
    assert [link["program_id"] for link in links] == ["p02", "p03", None]
    assert links[0]["segments"] == queried[0]["links"][0]["segments"]
    assert links[2]["segments"] == []
    of_program = matcher(
        "links", "--store", store, "--program", "p03", "--decision", "linked", "--json"
    ).object
    assert of_program["clip_id"] == "clip-p03"
    of_decision = matcher("links", "--store", store, "--decision", "linked", "--json").objects
    assert len(of_decision) == 2
    assert "clip-p02" in matcher("links", "--store", store).out
    assert "clip-p02" in matcher("clips", "--store", store).out

    status = matcher("status", "--store", store, "--json").object
    assert (status["programs"], status["clips"], status["links"]) == (2, 3, 3)


def test_linking_again_decodes_nothing(
    matcher: Run, library: Library, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("link", "--store", store, *library.clips.values(), "--json")
    first = matcher(*words).objects

    def no_decoding(path: Path, sampling: object) -> Iterator[object]:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr("matcher.describe.sample_frames", no_decoding)
    again = matcher(*words)
    assert again.code == 0
    assert again.objects == first
    assert len(matcher("clips", "--store", store, "--json").objects) == 3


def test_a_changed_clip_of_one_name_is_answered_anew(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "c.mp4"
    shutil.copy(library.clips["p01"], clip)
    assert matcher("link", "--store", store, clip, "--json").object["program_id"] == "p01"
    shutil.copy(library.clips["p02"], clip)
    assert matcher("link", "--store", store, clip, "--json").object["program_id"] == "p02"
    assert matcher("links", "--store", store, "--json").object["program_id"] == "p02"


def test_files_named_from_here_are_kept_by_their_whole_path(
    matcher: Run, library: Library, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later command may run elsewhere; the answer itself repeats the name that was given."""
    clip = Path(shutil.copy(library.clips["p01"], tmp_path / "here.mp4"))
    monkeypatch.chdir(tmp_path)
    assert matcher("link", "--store", store, "here.mp4", "--json").object["path"] == "here.mp4"
    assert matcher("clips", "--store", store, "--json").object["path"] == str(clip)
    matcher("add", "local", "here.mp4", "--store", store)
    programs = {p["program_id"]: p for p in matcher("programs", "--store", store, "--json").objects}
    assert programs["local"]["assets"][0]["path"] == str(clip)


def test_a_precision_that_is_asked_for_is_used(matcher: Run, library: Library, kept_store: Path) -> None:
    """int8 and fp32 are one model to a store: both find the clip, neither is refused."""
    for precision in ("fp32", "int8"):
        ran = matcher(
            "query", "--store", kept_store, library.clips["p01"], "--precision", precision, "--json"
        )
        assert ran.object["program_id"] == "p01"


def test_a_clip_that_moved_is_listed_where_it_is(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        clip = Path(shutil.copy(library.clips["p01"], tmp_path / folder / "c.mp4"))
        matcher("link", "--store", store, clip, "--title", folder)
    listed = matcher("clips", "--store", store, "--json").object
    assert (listed["path"], listed["title"]) == (str(clip), "after")


def test_interrupted_link_keeps_what_it_has_printed(
    matcher: Run, library: Library, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def print_two(value: dict[str, Any]) -> None:
        if len(printed) == 2:
            raise KeyboardInterrupt
        printed.append(value["clip_id"])

    with monkeypatch.context() as patch:
        patch.setattr(show, "print_json", print_two)
        ran = matcher("link", "--store", store, *library.clips.values(), "--json")
    assert ran.code == 130
    assert ran.lines == [
        "matcher: interrupted; what was finished is kept, and the same command goes on from there"
    ]
    kept = [clip["clip_id"] for clip in matcher("clips", "--store", store, "--json").objects]
    assert kept[:2] == printed


def test_relink_follows_the_catalogue_and_reports_the_changes(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    """Nothing is decoded: the clips' files may be gone."""
    clips = [Path(shutil.copy(path, tmp_path / path.name)) for path in library.clips.values()]
    matcher("link", "--store", store, *clips)
    for clip in clips:
        clip.unlink()
    report = tmp_path / "reports" / "tonight"
    same = matcher("relink", "--store", store, "--full", "--report", report, "--json")
    assert same.code == 0
    assert same.lines[-1].startswith("linked 3, review 0, none 0, changed 0 in ")
    assert {answer["clip_id"] for answer in same.objects} == {clip.stem for clip in clips}
    assert pq.read_table(report / "changes.parquet").num_rows == 0
    assert sorted(path.name for path in report.iterdir()) == [
        "changes.parquet", "metrics.prom", "report.html", "summary.json",
    ]  # fmt: skip
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["way"], summary["kept"], summary["answered"], summary["moving"]) == ("full", 3, 3, 0)
    again = matcher("relink", "--store", store, "--json")
    assert (again.code, again.out) == (0, "")
    assert again.lines[0] == "answered 0 of 3 kept clips (nothing has changed)"

    matcher("remove", "--store", store, "p02")
    stale = {link["clip_id"]: link["stale"] for link in matcher("links", "--store", store, "--json").objects}
    assert stale == {"clip-p01": False, "clip-p02": True, "clip-p03": False}
    # Before the relink, whose housekeeping makes further versions of the same content.
    version = matcher("status", "--store", store, "--json").object["catalog_version"]
    ran = matcher("relink", "--store", store, "--report", report)
    assert ran.code == 0
    assert ran.out == ""
    (change,) = pq.read_table(report / "changes.parquet").to_pylist()
    assert (change["clip_id"], change["kind"], change["why"]) == ("clip-p02", "removed", "program gone")
    assert (change["decision_before"], change["programs_before"]) == ("linked", ["p02"])
    assert (change["decision"], change["programs"]) == ("none", [])
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["committed"], summary["kept"], summary["moving"]) == (True, 3, 1)
    (program,) = summary["programs"]
    assert (program["program_id"], program["links_before"], program["links_after"]) == ("p02", 1, 0)
    assert summary["catalog_version"] == version
    # Each clip had a neighbour in the program that is gone; one link went with it.
    assert summary["why"] == {"program gone": 3}
    assert (summary["decisions"]["linked"], summary["moving"]) == (2, 1)
    links = {
        link["clip_id"]: link["program_id"] for link in matcher("links", "--store", store, "--json").objects
    }
    assert links == {"clip-p01": "p01", "clip-p02": None, "clip-p03": "p03"}


# ---------------------------------------------------------------- the store, the cache, the settings


def test_store_is_named_by_word_or_variable_and_lies_here_by_default(
    matcher: Run, library: Library, kept_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATCHER_STORE", str(kept_store))
    assert len(matcher("programs", "--json").objects) == 3
    assert matcher("programs", "--store", tmp_path / "none").code == 2
    monkeypatch.delenv("MATCHER_STORE")
    monkeypatch.chdir(tmp_path)
    assert matcher("add", "p", library.episodes("p01")[0]).code == 0
    assert (tmp_path / "matcher-store" / "store.json").is_file()
    assert matcher("programs", "--json").object["program_id"] == "p"


def test_a_query_changes_no_file_of_the_store(matcher: Run, library: Library, store: Path) -> None:
    before = files_below(store)
    clip = library.clips["p01"]
    for words in (
        ["query", clip],
        ["programs"],
        ["clips"],
        ["links"],
        ["status"],
        ["doctor"],
        ["index", "verify"],
    ):
        assert matcher(*words, "--store", store).code == 0
    assert files_below(store) == before


def test_store_can_be_copied_and_its_cache_thrown_away(matcher: Run, library: Library, store: Path) -> None:
    shutil.rmtree(store / "cache")
    ran = matcher("query", "--store", store, library.clips["p01"], "--json")
    assert ran.object["program_id"] == "p01"
    assert matcher("index", "verify", "--store", store).code == 0


@pytest.mark.parametrize("kind", ["frames", "sounds"])
def test_verify_finds_a_damaged_cache_and_rebuild_repairs_it(
    matcher: Run, library: Library, store: Path, kind: Kind
) -> None:
    model = open_catalog(store).model_of(kind)
    assert model is not None
    (vectors,) = cache_folder(store, model.fingerprint).glob("snap-*/vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[-100] ^= 0x7F
    vectors.write_bytes(bytes(data))
    ran = matcher("index", "verify", "--store", store, "--json")
    assert ran.code == 2
    assert not ran.object["ok"]
    assert "checksum" in ran.object["problems"][0]
    # Until then queries read the tables, and are right.
    assert matcher("query", "--store", store, library.clips["p01"], "--json").object["program_id"] == "p01"
    assert matcher("index", "rebuild", "--store", store).code == 0
    good = matcher("index", "verify", "--store", store, "--json")
    assert good.code == 0
    assert good.object["ok"]
    assert good.object["frames"] > 0
    assert good.object["sounds"] > 0


def test_compaction_changes_no_answer(matcher: Run, library: Library, store: Path) -> None:
    query = ("query", "--store", store, *library.clips.values(), "--json")
    matcher("link", "--store", store, *library.clips.values())
    before = matcher(*query).objects
    ran = matcher("index", "compact", "--store", store)
    assert (ran.code, ran.out, ran.err) == (0, "", "compacted\n")
    after = matcher(*query).objects
    for answer in (*before, *after):
        answer.pop("catalog_version")
    assert after == before
    assert len(matcher("links", "--store", store, "--json").objects) == 3


def test_settings_of_a_file_hold_and_words_come_before_them(
    matcher: Run, library: Library, kept_store: Path, tmp_path: Path
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[decision]\nlink = 1.0\n[sampling]\nclips = "nonsense"\n')
    words = ("query", "--store", kept_store, library.clips["p01"], "--json", "--config", config)
    assert "nonsense" in matcher(*words).err
    answer = matcher(*words, "--sampling", "fps=2").object
    assert answer["decision"] == "review"
    assert answer["program_id"] is None
    digest = [
        matcher("status", "--store", kept_store, "--json", *w).object["settings"] for w in ([], words[-2:])
    ]
    assert digest[0] != digest[1]


def test_bench_verbs_measure(matcher: Run, library: Library, kept_store: Path) -> None:
    clip = library.clips["p01"]
    ingest = matcher("bench", "ingest", clip, "--repeat", "1", "--sampling", "fps=2", "--json")
    assert ingest.code == 0, ingest.err
    assert ingest.object["bench"] == "ingest"
    assert ingest.object["sampling"] == "fps=2"
    query = matcher("bench", "query", clip, "--repeat", "1", "--store", kept_store, "--json")
    assert query.code == 0
    assert query.object["ratio"] > 0
    table = matcher("bench", "query", clip, "--repeat", "1", "--store", kept_store)
    assert table.code == 0
    assert "at most" in table.out


# ---------------------------------------------------------------- help, imports, exit codes, streams


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(matcher: Run, verb: str) -> None:
    ran = matcher(*verb.split(), "--help")
    assert ran.code == 0
    assert f"matcher {verb}" in ran.out.split("Example")[1]
    assert ran.err == ""


def test_help_names_every_verb_and_no_words_give_the_help(matcher: Run) -> None:
    ran = matcher("--help")
    assert ran.code == 0
    assert all(verb.split()[0] in ran.out for verb in VERBS)
    bare = matcher()
    assert (bare.code, bare.out, bare.err) == (2, "", ran.out)


def _modules_after(*words: str | Path) -> set[str]:
    """Top-level modules that a process has loaded when the command is done."""
    program = (
        "import sys\nfrom matcher.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "print(' '.join(sorted({n.split('.')[0] for n in sys.modules})), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, env=environment(),
        check=True,
    )  # fmt: skip
    *modules, code = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    return set(modules)


def test_help_loads_nothing_heavy() -> None:
    assert not _modules_after("--help") & set(HEAVY)
    # Typer itself checks a verb's bounds with pydantic.
    assert not _modules_after("query", "--help") & (set(HEAVY) - {"pydantic"})


def test_a_query_loads_no_torch(library: Library, kept_store: Path) -> None:
    """Torch alone takes longer to load than a whole query; the kept graph needs none."""
    modules = _modules_after("query", "--store", kept_store, library.clips["p01"], "--json")
    assert not modules & {"torch", "timm", "open_clip", "torchvision", "onnx"}
    assert modules >= {"av", "onnxruntime"}


@pytest.mark.slow
def test_help_takes_at_most_three_times_what_importing_typer_takes() -> None:
    def seconds(*words: str) -> float:
        rounds = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, env=environment(), check=True)
            rounds.append(time.perf_counter() - started)
        return float(np.median(rounds))

    ratio = seconds("-m", "matcher", "--help") / seconds("-c", "import typer")
    print(f"matcher --help takes {ratio:.2f} times `import typer`")  # noqa: T201
    assert ratio <= 3.0


@pytest.mark.parametrize(
    "words",
    [
        ["query", "--top", "0", "x.mp4"],
        ["frobnicate"],
        ["query", "--storee", "S", "x.mp4"],
        ["add", "--wait", "soon", "p", "x.mp4"],
        ["remove"],
        ["query"],
        ["query", "--manifest", "m.csv", "x.mp4"],
        ["query", "--manifest", "m.csv", "--title", "T"],
        ["add", "p"],
        ["add", "p", "x.mp4", "--manifest", "m.csv"],
        ["add", "--manifest", "m.csv", "--title", "T"],
        ["add", " ", "x.mp4"],
        ["add", "p", "x.mp4", "x.mp4"],
        ["add", "p", "x.mp4", "--category", "a/b/c/d"],
        ["add", "p", "x.mp4", "--sampling", "hourly"],
        ["query", "x.mp4", "--sampling", "fps=-1"],
        ["query", "x.mp4", "--device", "gpu"],
        ["query", "x.mp4", "--precision", "int4"],
        ["query", "x.mp4", "--encoder", "nonesuch"],
        ["links", "--decision", "maybe"],
    ],
)
def test_wrong_words_are_one_line_and_exit_2(
    matcher: Run, kept_store: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATCHER_STORE", str(kept_store))
    before = files_below(kept_store)
    ran = matcher(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.lines) == 1
    assert ran.lines[0].startswith("matcher: ")
    assert files_below(kept_store) == before


def test_usage_errors_say_where_help_is(matcher: Run) -> None:
    assert matcher("query", "--nonesuch").lines[0].endswith("; see: matcher query --help")


def test_a_package_that_is_missing_is_exit_3(library: Library, kept_store: Path, tmp_path: Path) -> None:
    for name in ("faiss", "lancedb"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\")\n")
        ran = run_process(
            "query",
            "--store",
            kept_store,
            library.clips["p01"],
            PYTHONPATH=f"{folder}:{environment()['PYTHONPATH']}",
        )
        assert ran.code == 3, ran.err
        assert len(ran.lines) == 1
        assert name in ran.lines[0]
        assert "program-matcher[cpu]" in ran.lines[0]


def test_cuda_where_there_is_none_is_exit_3(matcher: Run, library: Library, kept_store: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    ran = matcher("query", "--store", kept_store, library.clips["p01"], "--device", "cuda")
    assert ran.code == 3
    assert len(ran.lines) == 1
    assert "--device cpu" in ran.lines[0]


def test_an_unexpected_error_is_one_line_and_exit_1_and_debug_shows_its_place(
    matcher: Run, library: Library, kept_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("matcher.encoders.registry.load_encoder", broken)
    words = ("query", "--store", kept_store, library.clips["p01"])
    ran = matcher(*words)
    assert (ran.code, ran.out) == (1, "")
    assert ran.lines == [
        "matcher: unexpected RuntimeError: first line\\nsecond line (MATCHER_DEBUG=1 shows where)"
    ]
    monkeypatch.setenv("MATCHER_DEBUG", "1")
    debug = matcher(*words)
    assert debug.code == 1
    assert "Traceback" in debug.err
    assert "in broken" in debug.err
    assert debug.lines[-1] == ran.lines[0]


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_disk_that_is_full_is_one_line_and_exit_1(kept_store: Path, unbuffered: str) -> None:
    """Stdout goes to a device that takes nothing, found at once or when the buffer is written at the end."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("programs", "--store", kept_store, "--json"), stdout=full, stderr=subprocess.PIPE,
            text=True, env=environment(PYTHONUNBUFFERED=unbuffered), check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "matcher: input/output: [Errno 28] No space left on device (MATCHER_DEBUG=1 shows where)"
    ]


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_reader_that_goes_away_ends_the_command_in_silence(
    kept_store: Path, as_json: bool, unbuffered: str
) -> None:
    words = command("programs", "--store", kept_store, *(["--json"] if as_json else []))
    env = environment(PYTHONUNBUFFERED=unbuffered)
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    errors = child.stderr.read()
    assert child.wait(timeout=60) == 0
    assert errors == b""
    child.stderr.close()


def test_processes_keep_stdout_for_results_and_stderr_for_lines(library: Library, tmp_path: Path) -> None:
    """Libraries spill nothing: a whole life of a store as real processes."""
    store, clip = tmp_path / "s", library.clips["p01"]
    lives = [
        (
            ["add", "p01", *library.episodes("p01"), "--json"],
            1,
            "added 1, replaced 0, unchanged 0, failed 0 in ",
        ),
        (["link", clip, "--json"], 1, "linked 1, review 0, none 0, failed 0 in "),
        (["relink", "--full", "--json"], 1, "linked 1, review 0, none 0, changed 0 in "),
        (["index", "verify"], 0, "the cache equals the tables"),
        (["remove", "p01"], 0, "removed 1, failed 0 in "),
    ]
    for words, n_objects, last in lives:
        ran = run_process(*words, "--store", store)
        assert ran.code == 0, ran.err
        assert len(ran.objects) == n_objects
        starts = ["answered 1 of 1 kept clips (all 1)", "housekeeping: "] if words[0] == "relink" else []
        assert len(ran.lines) == len(starts) + 1
        for line, start in zip(ran.lines, [*starts, last], strict=True):
            assert line.startswith(start)


def test_progress_goes_to_a_terminal_and_results_still_to_their_file(
    library: Library, kept_store: Path, tmp_path: Path
) -> None:
    """As with `matcher query … --json > answers.jsonl` typed at a terminal."""
    ours, theirs = pty.openpty()
    answers = tmp_path / "answers.jsonl"
    with answers.open("w") as file:
        child = subprocess.Popen(
            command("query", "--store", kept_store, *library.clips.values(), "--json"),
            stdout=file, stderr=theirs, env=environment(TERM="xterm"),
        )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal's end is an error on Linux
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    assert child.wait(timeout=60) == 0
    assert [json.loads(line)["program_id"] for line in answers.read_text().splitlines()] == [
        "p01",
        "p02",
        "p03",
    ]
    assert b"linking" in seen
    assert b"linked 3, review 0" in seen
    assert b"similarity" not in seen


# ---------------------------------------------------------------- what is shown


def test_clock() -> None:
    assert [show.clock(t) for t in (0.0, 0.04, 9.96, 59.97, 61.5, 3599.97, 7325.4)] == [
        "0:00.0", "0:00.0", "0:10.0", "1:00.0", "1:01.5", "1:00:00", "2:02:05",
    ]  # fmt: skip


def test_answer_rows_say_what_was_decided() -> None:
    segment = Segment(0.0, 4.0, "e1", 60.0, 64.0, 0.9)
    linked = Answer("c", "c.mp4", "linked", (Link("p", 0.987, (segment, segment)),), (), "m", 1)
    assert show.answer_row(linked) == (
        "c",
        "linked",
        "p",
        "0.987",
        "0:00.0–0:04.0 is e1 1:00.0–1:04.0 and 1 more",
    )
    none = replace(linked, decision="none", links=(), candidates=(Guess("q", "Q", 0.3, 0.8),))
    assert show.answer_row(none) == ("c", "none", "", "", "best guess q, 0.30")
    bad = replace(none, error=Failure("video", "no frame"))
    assert show.answer_row(bad) == ("c", "failed", "", "", "no frame")


def test_table_cells_stay_on_their_lines_and_take_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table("", ("a",), [("[bold]x\x1b[31m",)])
    assert "[bold]x\\x1b[31m" in capsys.readouterr().out
