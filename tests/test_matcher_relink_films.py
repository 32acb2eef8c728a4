"""Real films come and go: the clips of theirs are re-linked, and no others."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from commands import run_process
from test_matcher_films import FILMS, Cut, _cut, _films, pytestmark  # noqa: F401 - marks this file's tests too

N_CLIPS = 200
CAME = ("agent-327", "sintel-trailer", "corridor", "coffee-run", "car-park", "toy-frog")
WENT = ("agent-327", "car-park")


def _manifest(path: Path, *, only: tuple[str, ...] = (), but: tuple[str, ...] = ()) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["program_id", "path", "title"])
        for film in _films():
            if film["program_id"] not in but and (not only or film["program_id"] in only):
                writer.writerow([film["program_id"], FILMS / film["path"], film["title"]])
    return path


def _night(store: Path, report: Path) -> dict[str, dict[str, object]]:
    """Re-link and give what moved, by clip id, as the report says."""
    ran = run_process("relink", "--store", store, "--report", report, "--accept", "--json")
    assert ran.code == 0, ran.err
    print(ran.lines)  # noqa: T201
    summary = json.loads((report / "summary.json").read_text())
    assert summary["moving"] <= summary["answered"] <= N_CLIPS
    return {answer["clip_id"]: answer for answer in ran.objects}


def _links(store: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Decision and programs of every kept clip."""
    found: dict[str, tuple[str, set[str]]] = {}
    for link in run_process("links", "--store", store, "--json").objects:
        programs = found.setdefault(link["clip_id"], (link["decision"], set()))[1]
        programs |= {part["program_id"] for part in (link, *link["review"])} - {None}
    return {clip_id: (decision, frozenset(programs)) for clip_id, (decision, programs) in found.items()}


def test_the_clips_of_six_films_change_and_no_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    films, store = _films(), tmp_path / "store"
    cuts: dict[str, Cut] = {}
    for number in range(N_CLIPS):
        cut = _cut(films[rng.integers(len(films))], tmp_path / f"k{number:03d}.mp4", rng)
        cuts[cut.path.stem] = cut
    without = _manifest(tmp_path / "without.csv", but=CAME)
    assert run_process("add", "--store", store, "--manifest", without).code == 0
    assert run_process("link", "--store", store, *(cut.path for cut in cuts.values())).code == 0
    first = _links(store)
    assert len(first) == N_CLIPS

    six = _manifest(tmp_path / "six.csv", only=CAME)
    assert run_process("add", "--store", store, "--manifest", six).code == 0
    _night(store, tmp_path / "came")
    second = _links(store)
    changed = {clip_id for clip_id in first if first[clip_id] != second[clip_id]}
    theirs = {clip_id for clip_id, cut in cuts.items() if cut.program_id in CAME}
    print(f"{len(changed)} of {len(theirs)} clips of the six films changed")  # noqa: T201
    assert changed <= theirs
    assert len(changed) >= 0.95 * len(theirs)
    assert all(second[clip_id][1] >= {cuts[clip_id].program_id} for clip_id in changed)

    assert run_process("remove", "--store", store, *WENT).code == 0
    _night(store, tmp_path / "went")
    third = _links(store)
    lost = {clip_id for clip_id in second if second[clip_id] != third[clip_id]}
    assert lost == {clip_id for clip_id, (_, programs) in second.items() if programs & set(WENT)}
    assert all(third[clip_id][0] != "linked" for clip_id in lost)
    summary = json.loads((tmp_path / "went" / "summary.json").read_text())
    assert summary["moving"] == len(lost)
    assert summary["why"] == {"program gone": summary["answered"]}
