"""The report of a night, by value: its Parquet, JSON, page and figures for Prometheus."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from index.catalog import Catalog, ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip
from index.files import replacing
from index.rows import LinkRecord
from matcher.changes import CHANGE_KINDS, Change, ChangeKind, change_of, link_record
from matcher.errors import InputError
from matcher.linking import Linker
from matcher.records import Answer, Decision, Guess, Link, Reviewed, Segment
from matcher.relink import BrakeError, Night, Order, is_braked, relink
from matcher.relink_look import MOST_LOOKS, worth_a_look
from matcher.relink_metrics import metrics_text
from matcher.relink_page import MOST_ROWS, bar_chart
from matcher.relink_report import SCHEMA, check_folder, write_report
from matcher.verdicts import Verdict

EVIL = '<script>alert("&\'")</script>'
TITLE = f"</bdi></table>{EVIL}<img src=x onerror=alert(1)>"
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
D = 8
FILES = ["changes.parquet", "metrics.prom", "report.html", "summary.json"]


def change(
    clip_id: str, kind: ChangeKind, before: Any, now: Any, why: str = "program new", **more: Any
) -> Change:
    """``before`` and ``now`` are (decision, programs, confidence)."""
    return Change(clip_id, kind, why, before[0], now[0], before[1], now[1], before[2], now[2], **more)


NO, FIRST = ("none", (), 0.1), ("", (), 0.0)
CHANGES = (
    change(EVIL, "added", NO, ("linked", ("p", "q"), 0.97), best="p"),
    change("went", "removed", ("linked", ("r",), 0.99), NO, "program gone"),
    change("turned", "moved", ("linked", ("q",), 0.98), ("linked", ("p",), 0.96), best="p"),
    change("first", "new", FIRST, ("linked", ("p",), 0.95), "new clip", best="p"),
    change("asked", "raised", NO, ("review", ("q",), 0.7), best="q"),
)


def night_of(changes: Sequence[Change], **more: Any) -> Night:
    """A committed night in which 2 clips beside these were answered as before."""
    counts = {kind: sum(one.kind == kind for one in changes) for kind in CHANGE_KINDS} | {"same": 2}
    why: dict[str, int] = {}
    for one in changes:
        why[one.why] = why.get(one.why, 0) + 1
    why["program new"] = why.get("program new", 0) + 2
    decisions = {name: sum(one.decision == name for one in changes) for name in ("linked", "review", "none")}
    decisions["none"] += 2
    figures = {
        "new_vectors": 120, "scenes": 7, "estimates": {"full": 40.0, "new against kept": 2.5},
        "seconds": 1.5, "cpu_seconds": 1.25,
    }  # fmt: skip
    words: dict[str, Any] = {
        "number": 3, "catalog_version": 9, "epoch": "e1", "way": "new against kept", "kept": 1000, "why": why,
        "decisions": decisions, "changes": tuple(changes), "counts": counts, "figures": figures,
    }  # fmt: skip
    return Night(**(words | more))


NIGHT = night_of(CHANGES)


def answer(
    clip_id: str,
    decision: Decision,
    programs: Mapping[str, float],
    guesses: Mapping[str, float] | None = None,
    reviewed: Reviewed | None = None,
) -> Answer:
    links = tuple(Link(name, sure, (Segment(0, 4, "e1", 10, 14, 0.95),)) for name, sure in programs.items())
    # A title that looks like the JSON around it must not be counted as a link.
    named = tuple(
        Guess(name, '"segments": [{"segments":', sure, 0.5) for name, sure in (guesses or programs).items()
    )
    return Answer(clip_id, f"{clip_id}.mp4", decision, links, named, "m", 3, reviewed=reviewed)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Programs p (hostile title), q (no title), and r, which was removed; clips of them, twelve of p."""
    catalog = Catalog.create(tmp_path / "store", ModelInfo("m", "model", D))
    vectors = np.eye(D, dtype=np.float32)[:2]
    with catalog.writing() as writer:
        for name, title in (("p", TITLE), ("q", ""), ("r", "Gone")):
            assets = [NewAsset("e1", "e1.mp4", "e1", 2.0, np.arange(2.0), vectors)]
            writer.add_program(NewProgram(name, title), assets)
        writer.remove_programs(["r"])
        answers = [answer(f"old-{i:02}", "linked", {"p": 0.9}) for i in range(12)]
        for one in answers:
            record = ClipRecord(one.clip_id, one.path, "", 4.0, 8, "m", "mark")
            writer.put_clip(StoredClip(record, np.arange(2.0), vectors))
        answers += [
            answer("both", "linked", {"p": 0.99, "q": 0.95}),
            answer("turned", "linked", {"q": 0.98}),
            answer("went", "linked", {"r": 0.99}),
            answer("look", "review", {"q": 0.5, "p": 0.4}),
            answer("none", "none", {}, {"q": 0.1}),
        ]
        writer.put_links([link_record(one) for one in answers])
    catalog.refresh()
    return catalog


def report(folder: Path, night: Night, catalog: Catalog) -> dict[str, Any]:
    write_report(folder, night, catalog, at=AT)
    assert sorted(path.name for path in folder.iterdir()) == FILES  # nothing temporary is left
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary


# ---------------------------------------------------------------- summary.json and changes.parquet


def test_the_summary_counts_links_by_program_before_and_after(tmp_path: Path, catalog: Catalog) -> None:
    """All links count, the second one of a clip too; what is up for review is none."""
    summary = report(tmp_path / "a" / "b", NIGHT, catalog)
    assert (summary["committed"], summary["number"], summary["at"]) == (True, 3, "2026-03-04T05:06:07+00:00")
    assert (summary["answered"], summary["moving"], summary["kept"]) == (7, 4, 1000)
    assert summary["counts"] == {
        "new": 1, "added": 1, "removed": 1, "moved": 1, "raised": 1, "lowered": 0, "retimed": 0, "same": 2,
    }  # fmt: skip
    keys = ("program_id", "title", "in_catalog", "gained", "lost", "links_before", "links_after")
    assert [tuple(program[key] for key in keys) for program in summary["programs"]] == [
        ("p", TITLE, True, 3, 0, 13, 16),
        ("q", "", True, 1, 1, 2, 2),
        ("r", "Gone", False, 0, 1, 1, 0),
    ]
    assert [(look["clip_id"], look["reason"]) for look in summary["worth_a_look"]] == [
        ("turned", "lost"), ("asked", "nearly"),
    ]  # fmt: skip
    assert summary["worth_a_look"][0] == {
        "clip_id": "turned", "reason": "lost", "program_id": "q", "confidence": 0.98, "kind": "moved",
        "why": "program new",
        "before": {"decision": "linked", "programs": ["q"], "confidence": 0.98},
        "now": {"decision": "linked", "programs": ["p"], "confidence": 0.96},
    }  # fmt: skip
    assert not {"changes", "contradicted"} & summary.keys()


def test_the_links_of_the_store_are_read_only_where_programs_gain_or_lose(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Catalog, "iter_link_batches", None)
    assert report(tmp_path / "out", night_of([CHANGES[4]]), catalog)["programs"] == []
    with pytest.raises(TypeError):
        report(tmp_path / "out", NIGHT, catalog)


def test_the_changes_are_a_row_each_with_every_field(tmp_path: Path, catalog: Catalog) -> None:
    against = change("x", "retimed", NO, NO, against="p", against_confidence=0.9, rival="q", is_said=True)
    report(tmp_path / "out", night_of([*CHANGES, against]), catalog)
    table = pq.read_table(tmp_path / "out" / "changes.parquet")
    assert table.schema.names == [field.name for field in fields(Change)]
    assert table.schema.equals(SCHEMA)
    assert str(table.schema.field("programs").type).startswith("list<")
    back = [
        Change(
            **{**row, "programs": tuple(row["programs"]), "programs_before": tuple(row["programs_before"])}
        )
        for row in table.to_pylist()
    ]
    assert back == [*CHANGES, against]


def test_many_changes_are_written_a_group_at_a_time(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matcher.relink_report._ROW_GROUP", 2)
    report(tmp_path / "out", NIGHT, catalog)
    file = pq.ParquetFile(tmp_path / "out" / "changes.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 1]
    assert file.read()["clip_id"].to_pylist() == [one.clip_id for one in CHANGES]


def test_a_night_without_changes_has_all_files(tmp_path: Path, catalog: Catalog) -> None:
    """It writes over the files of the night before."""
    report(tmp_path / "out", NIGHT, catalog)
    empty = replace(
        night_of([]), kept=0, why={}, counts=dict.fromkeys(CHANGE_KINDS, 0), figures={}, way="nothing new"
    )
    summary = report(tmp_path / "out", empty, catalog)
    assert (summary["answered"], summary["programs"], summary["worth_a_look"]) == (0, [], [])
    table = pq.read_table(tmp_path / "out" / "changes.parquet")
    assert (table.num_rows, table.schema.names) == (0, SCHEMA.names)
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.headings == ["What changed, and why", "The run"]
    assert "Nothing has changed." in page.words
    assert "matcher_relink_changes" in (tmp_path / "out" / "metrics.prom").read_text()
    write_report(None, NIGHT, catalog)  # nobody asked for one


# ---------------------------------------------------------------- report.html

VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Checks that every element is closed in its turn, and keeps what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.tables.setdefault(self.headings[-1], []).append([])
        if tag in ("th", "td"):
            self.tables[self.headings[-1]][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if {"th", "td"} & set(self.open):
            self.tables[self.headings[-1]][-1][-1] += ("|" if self.open[-1] == "small" else "") + data
        if "style" not in self.open:
            self.words += data


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_shows_what_changed_and_why(tmp_path: Path, catalog: Catalog) -> None:
    report(tmp_path / "out", NIGHT, catalog)
    page = page_of(tmp_path / "out")
    assert page.headings == [
        "What changed, and why", "Worth a look", "By program", "New", "Added", "Removed", "Moved", "Raised",
        "The run",
    ]  # fmt: skip
    assert "Re-link, night 3" in page.words
    assert "7 of 1,000 kept clips were answered again" in page.words
    assert "4 of them (0.4 % of all) change" in page.words
    head, *rows = page.tables["What changed, and why"]
    assert head == ["", "clips", "program new", "program gone", "new clip"]
    assert [row for row in rows if row[0].startswith(("moved", "same", "answered"))] == [
        ["moved|to another program", "1", "1", "–", "–"],
        ["same|as before", "2", "2", "–", "–"],
        ["answered again", "7", "5", "1", "1"],
    ]
    assert page.tables["By program"][1:] == [
        [f"{TITLE} (p)", "3", "–", "13", "16"],
        ["q", "1", "1", "2", "2"],
        ["Gone (r)|no longer in the catalogue", "–", "1", "1", "0"],
    ]
    assert page.tables["Moved"][1][:1] == ["turned"]
    assert page.tables["Moved"][1][3] == "program new"
    assert page.tables["Removed"][1][2:] == ["none", "program gone"]
    run = dict(row for row in page.tables["The run"] if len(row) == 2)
    assert (run["epoch"], run["catalog version"], run["seconds"]) == ("e1", "9", "1.5")
    assert (run["estimates: full"], run["way"]) == ("40", "new against kept")


def test_the_page_needs_no_script_and_no_network(tmp_path: Path, catalog: Catalog) -> None:
    report(tmp_path / "out", NIGHT, catalog)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "img", "object", "a", "form"}
    assert not page.attributes & {"src", "href", "onerror", "onload", "onclick"}
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "url(" not in text
    assert "@import" not in text


def test_hostile_names_are_text_wherever_they_stand(tmp_path: Path, catalog: Catalog) -> None:
    """In every place that a name from outside can come to: clips, programs, titles, reasons, the run."""
    evil = tuple(f"{EVIL}{i}" for i in range(2))
    changes = [
        change(f"{EVIL}{kind}\x01\n", kind, ("linked", evil, 0.99), ("review", evil, 0.6), EVIL, rival=EVIL)
        for kind in CHANGE_KINDS
        if kind != "same"
    ]
    said = change(EVIL, "same", NO, NO, against=EVIL, against_confidence=0.9)
    night = night_of(changes, contradicted=(said,), epoch=EVIL, way=EVIL, decisions={EVIL: 1})
    report(tmp_path / "out", replace(night, figures={EVIL: EVIL, "estimates": {EVIL: 1.0}}), catalog)
    page = page_of(tmp_path / "out")
    assert not page.tags & {"script", "img"}
    assert page.attributes <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "role", "aria-label", "viewbox", "x",
        "y", "width", "height", "rx", "text-anchor", "dominant-baseline",
    }  # fmt: skip
    assert page.tables["Worth a look"][1][0] == EVIL
    assert page.tables["Moved"][1][0] == f"{EVIL}moved␁␊"  # pictures of control characters
    assert page.tables["Moved"][1][3] == EVIL
    report(tmp_path / "out", NIGHT, catalog)
    assert page_of(tmp_path / "out").tables["Added"][1][0] == EVIL


def test_long_tables_say_how_many_more_there_are(tmp_path: Path, catalog: Catalog) -> None:
    many = [change(f"c{i:04}", "added", NO, ("linked", (f"n{i:04}",), 0.95)) for i in range(MOST_ROWS + 1234)]
    report(tmp_path / "out", night_of(many), catalog)
    page = page_of(tmp_path / "out")
    assert "… and 1,234 more clips in changes.parquet." in page.words
    assert "… and 1,234 more programs in summary.json." in page.words
    assert len(page.tables["Added"]) == len(page.tables["By program"]) == MOST_ROWS + 1
    assert "1,334 clips: linked, where there was no link." in page.words


def test_bars_are_as_long_as_their_counts() -> None:
    drawn = bar_chart({"new": 0, "added": 10_000, "moved": 5_000, "<b>": 1})
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]
    assert widths == [0.0, 230.0, 115.0, 2.0]  # one clip can be seen beside ten thousand
    page = Page(drawn)
    assert page.tags == {"svg", "text", "rect"}
    assert "10,000" in page.words
    assert 'viewBox="0 0 420 96"' in drawn


# ---------------------------------------------------------------- metrics.prom

Metrics = dict[str, dict[tuple[tuple[str, str], ...], float]]
_UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'


def read_metrics(text: str) -> Metrics:
    """A strict reader of the text format: HELP, TYPE, then that metric's samples, each once."""
    assert text.endswith("\n")
    found: Metrics = {}
    lines = text[:-1].split("\n")
    while lines:
        help_line = re.fullmatch(rf"# HELP ({_NAME}) (?:[^\\\n]|\\[\\n])+", lines.pop(0))
        assert help_line is not None
        name = help_line[1]
        assert name not in found
        assert lines.pop(0) == f"# TYPE {name} gauge"
        found[name] = {}
        while lines and not lines[0].startswith("#"):
            line = lines.pop(0)
            sample = re.fullmatch(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)", line)
            assert sample is not None, line
            assert sample[1] == name
            labels = tuple(
                (label, re.sub(r"\\.", lambda m: _UNESCAPED[m[0]], value))
                for label, value in re.findall(_LABEL, sample[2] or "")
            )
            assert labels not in found[name]
            found[name][labels] = float(sample.groups()[-1])
            assert math.isfinite(found[name][labels])
        assert found[name]
    return found


def test_the_metrics_are_those_of_the_night(tmp_path: Path, catalog: Catalog) -> None:
    report(tmp_path / "out", NIGHT, catalog)
    found = read_metrics((tmp_path / "out" / "metrics.prom").read_text(encoding="utf-8"))
    plain = {
        name.removeprefix("matcher_relink_"): values[()] for name, values in found.items() if () in values
    }
    assert plain == {
        "committed": 1, "last_run_timestamp_seconds": AT.timestamp(), "night": 3, "catalog_version": 9,
        "clips_kept": 1000, "clips_answered": 7, "clips_resumed": 0, "clips_moving": 4,
        "clips_contradicted": 0, "clips_to_look_at": 2, "vectors_new": 120, "seconds": 1.5,
        "cpu_seconds": 1.25,
    }  # fmt: skip
    assert found["matcher_relink_changes"] == {(("kind", kind),): n for kind, n in NIGHT.counts.items()}
    assert found["matcher_relink_decisions"] == {
        (("decision", "linked"),): 3, (("decision", "review"),): 1, (("decision", "none"),): 3,
    }  # fmt: skip
    assert found["matcher_relink_reasons"][("why", "program new"),] == 5
    assert found["matcher_relink_estimated_cpu_seconds"][("way", "full"),] == 40
    assert found["matcher_relink_info"] == {(("way", "new against kept"), ("epoch", "e1")): 1}


def test_label_values_are_escaped() -> None:
    odd = 'a\\n"b"\nc\\\\'
    found = read_metrics(metrics_text(replace(NIGHT, why={odd: 2, "b": 3}, epoch=odd), AT, n_looks=0))
    assert found["matcher_relink_reasons"] == {(("why", odd),): 2, (("why", "b"),): 3}
    ((labels, _),) = found["matcher_relink_info"].items()
    assert dict(labels)["epoch"] == odd


# ---------------------------------------------------------------- the clips to look at


def looks_of(
    changes: Iterable[Change], contradicted: Sequence[Change] = (), live: Sequence[str] = ("p", "q")
) -> list[tuple[str, str, str]]:
    found = worth_a_look(night_of(list(changes), contradicted=tuple(contradicted)), live)
    return [(look.change.clip_id, look.reason, look.program_id) for look in found]


def test_a_sure_link_that_is_gone_is_worth_a_look_if_its_program_is_there() -> None:
    gone = change("gone", "removed", ("linked", ("p",), 0.95), NO)
    assert looks_of([gone]) == [("gone", "lost", "p")]
    assert looks_of([gone], live=["q"]) == []
    assert looks_of([replace(gone, confidence_before=0.8)]) == []
    assert looks_of([replace(gone, is_said=True)]) == []
    assert looks_of([replace(gone, why="review")]) == []  # a person rejected it
    second = change("second", "moved", ("linked", ("q", "p"), 0.95), ("linked", ("q",), 0.95))
    assert looks_of([second]) == [("second", "lost", "p")]


def test_programs_that_contend_are_worth_a_look() -> None:
    unsure = change("unsure", "moved", ("linked", ("p",), 0.8), ("linked", ("q",), 0.82))
    twins = change("twins", "raised", NO, ("review", ("p",), 0.5), rival="q")
    assert looks_of([unsure, twins]) == [("unsure", "rivals", "p"), ("twins", "rivals", "q")]


def test_new_reviews_come_by_how_near_they_are_to_a_link() -> None:
    near = [change(f"c{sure}", "raised", NO, ("review", ("q",), sure)) for sure in (0.3, 0.8, 0.5)]
    already = change("already", "raised", ("review", ("q",), 0.5), ("review", ("q",), 0.85))
    assert looks_of([*near, already]) == [(f"c{sure}", "nearly", "q") for sure in (0.8, 0.5, 0.3)]


def test_reasons_take_turns_up_to_the_most_and_the_order_of_changes_does_not_count() -> None:
    gone = [change(f"g{i:03}", "removed", ("linked", ("p",), 0.95), NO) for i in range(100)]
    near = change("near", "raised", NO, ("review", ("q",), 0.8))
    said = change("said", "same", NO, NO, against="p", against_confidence=0.9)
    found = looks_of([*gone, near], [said])
    assert [name for name, _, _ in found[:4]] == ["said", "g000", "near", "g001"]
    assert len(found) == MOST_LOOKS
    assert looks_of([near, *reversed(gone)], [said]) == found


def record_of(kept: Answer) -> LinkRecord:
    return link_record(kept)


def said(
    word: Any, program: str | None, decision: Decision, best: str | None, sure: float = 0.93
) -> Reviewed:
    return Reviewed(word, program, (), "2026", decision, best, sure)


def test_a_persons_word_is_contradicted_once() -> None:
    """A person said that the clip is of no program, before the right one came: that night it is named."""
    before = record_of(answer("c", "none", {}, {"q": 0.1}, said("none", None, "none", None, 0.1)))
    after = answer("c", "none", {}, {"p": 0.93}, said("none", None, "linked", "p"))
    first = change_of(after, before, "program new")
    assert (first.kind, first.against, first.against_confidence) == ("same", "p", 0.93)
    assert looks_of([], [first]) == [("c", "contradicted", "p")]
    again = change_of(after, record_of(after), "review")
    assert (again.against, again.against_confidence) == (None, 0.0)


@pytest.mark.parametrize(
    ("reviewed", "against"),
    [
        (said("program", "q", "linked", "p"), "p"),
        (said("program", "p", "linked", "p"), None),
        (said("program", "q", "review", "p"), None),  # not sure enough to contradict
        (said(None, None, "linked", "p"), None),  # only rejected some: the answer is the matcher's
        (None, None),
    ],
)
def test_who_is_contradicted(reviewed: Reviewed | None, against: str | None) -> None:
    kept = record_of(answer("c", "none", {}, {"p": 0.2}))
    assert change_of(answer("c", "linked", {"q": 1.0}, reviewed=reviewed), kept, "w").against == against


def test_a_rival_is_about_as_likely_and_of_the_same_part() -> None:
    def rival(decision: Decision, programs: Mapping[str, float], guesses: Mapping[str, float]) -> str | None:
        return change_of(answer("c", decision, programs, guesses), None, "w").rival

    assert rival("review", {"p": 0.5}, {"p": 0.5, "q": 0.48}) == "q"
    assert rival("review", {"p": 0.5}, {"p": 0.5, "q": 0.2}) is None
    assert rival("review", {"p": 0.5, "q": 0.48}, {"p": 0.5, "q": 0.48}) is None  # a montage
    assert rival("linked", {"p": 0.97}, {"p": 0.97, "q": 0.9}) is None
    assert rival("review", {"p": 0.5}, {"p": 0.5}) is None


# ---------------------------------------------------------------- the brake, and folders


class _Stub:
    """As much of a linker as a night asks for that is given its answers."""

    version = 1

    def epoch(self, top: int) -> str:
        return f"epoch-{top}"


def _to_none(clip_ids: Sequence[str], verdicts: Mapping[str, Verdict]) -> Iterable[tuple[Answer, str]]:
    return [(answer(clip_id, "none", {}, {"p": 0.1}), "") for clip_id in clip_ids]


def test_the_report_tells_of_a_night_that_the_brake_stops(tmp_path: Path, catalog: Catalog) -> None:
    """Twelve links would go: the files say that nothing was committed. Accepted, they say that it was."""
    out = tmp_path / "out"

    def run(order: Order) -> Night:
        with catalog.writing() as writer:
            linker = cast(Linker, _Stub())
            return relink(
                writer, linker, order, answerer=_to_none,
                before_commit=lambda night: write_report(out, night, catalog, at=AT),
            )  # fmt: skip

    with pytest.raises(BrakeError):
        run(Order())
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["committed"], summary["number"], summary["moving"]) == (False, 0, 12)
    metrics = read_metrics((out / "metrics.prom").read_text())
    assert metrics["matcher_relink_committed"][()] == metrics["matcher_relink_night"][()] == 0
    page = page_of(out)
    assert "Re-link, stopped by the brake" in page.words
    assert "Nothing was committed" in page.words
    assert pq.read_table(out / "changes.parquet").num_rows == 12
    assert {link.decision for link in catalog.links([f"old-{i:02}" for i in range(12)])} == {"linked"}

    night = run(Order(accept=True))
    assert (night.number, night.is_committed, night.resumed) == (1, True, 12)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["committed"], summary["number"]) == (True, 1)
    assert [(one["program_id"], one["links_before"], one["links_after"]) for one in summary["programs"]] == [
        ("p", 13, 1)
    ]
    assert read_metrics((out / "metrics.prom").read_text())["matcher_relink_committed"][()] == 1
    assert json.loads(catalog.nights()[0].summary)["committed"] is True


def test_the_brake_holds_above_a_share_and_some_free_changes() -> None:
    many = [change(f"c{i}", "removed", ("linked", ("p",), 0.95), NO) for i in range(60)]
    assert not is_braked(night_of(many[:50]), Order())
    assert is_braked(night_of(many[:51]), Order())
    assert not is_braked(night_of(many[:51]), Order(accept=True))
    assert not is_braked(night_of(many[:10], kept=1), Order(brake=0.0))
    assert is_braked(night_of(many[:11], kept=1), Order(brake=0.0))


def test_a_folder_is_checked_and_not_made(tmp_path: Path) -> None:
    check_folder(None)
    check_folder(tmp_path)
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for folder in ("file", "file/below", "dangling"):
        with pytest.raises(InputError, match=r"no report can be written to .*is not a folder"):
            check_folder(tmp_path / folder)
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(InputError, match=r"its summary\.json is a folder"):
        check_folder(tmp_path)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its rights: root, who runs the tests here and there, may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} may not be written"):
        check_folder(tmp_path / "new")


def test_a_file_that_fails_half_way_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"aft")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
