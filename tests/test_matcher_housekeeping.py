"""What a night does after its links: on real small stores, by value."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Library, Run
from test_index_live import add, add_heard, catalog, heard

from index import snapshot as snapshot_module
from index.catalog import Catalog, Writer
from index.errors import NotWritableError
from index.live import LiveIndex
from matcher import housekeeping
from matcher.config import IndexSettings
from matcher.housekeeping import Kept, keep_house
from matcher.steps import Step

__all__ = ["catalog", "heard"]  # fixtures

FLAT, INVERTED = IndexSettings(), IndexSettings(kind="ivf-fp16")


def kept_by(
    catalog: Catalog, settings: IndexSettings = FLAT, *skip: Step, keep_seconds: float = 0.0, **words: Any
) -> Kept:
    with catalog.writing() as writer:
        return keep_house(writer, settings, skip=skip, keep_seconds=keep_seconds, **words)


def snapshot_of(catalog: Catalog) -> Path:
    """The folder of the one snapshot."""
    (folder,) = (catalog.path / "cache").rglob("snap-*")
    return folder


def damage(path: Path) -> None:
    """Turn one byte of the last vector."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)


def test_a_night_makes_the_tables_small_and_saves_a_cache_that_is_good(catalog: Catalog) -> None:
    for i in range(6):
        add(catalog, f"p{i}", i)
    before = catalog._tables["frames"].stats()["fragment_stats"]["num_fragments"]
    begun: list[Step] = []
    kept = kept_by(catalog, on_step=begun.append)
    assert begun == list(kept.seconds) == [Step.COMPACT, Step.VERIFY, Step.SNAPSHOT, Step.DRIFT]
    assert kept.is_well
    assert (kept.failed, kept.problems, kept.figures, kept.advice) == ((), (), (), ())  # flat: no centroids
    catalog.refresh()
    assert before == 6
    assert catalog._tables["frames"].stats()["fragment_stats"]["num_fragments"] == 1
    live = LiveIndex.open(catalog)
    assert live.view.base.shape[0] == live.ntotal == 66
    assert live.verify(full=True) == []


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.RELATED])
def test_a_step_that_is_skipped_is_left_out_and_no_other(catalog: Catalog, step: Step) -> None:
    """Shown by what it leaves: fragments and versions, the look at the snapshot, its folder, the figures."""
    for i in range(4):
        add(catalog, f"p{i}", i)
    with catalog.writing() as writer:
        LiveIndex.open(catalog, kind="ivf-fp16").save(writer)
    damage(snapshot_of(catalog) / "vectors.npy")
    damaged = snapshot_of(catalog).name
    kept = kept_by(catalog, INVERTED, step)
    assert list(kept.seconds) == [other for other in Step if other not in (step, Step.RELATED)]
    catalog.refresh()
    fragments = catalog._tables["frames"].stats()["fragment_stats"]["num_fragments"]
    assert fragments == (4 if step is Step.COMPACT else 1)
    assert bool(kept.problems) == (step is not Step.VERIFY)
    # What is not verified is saved: it was read from the tables, as the snapshot could not be.
    assert (snapshot_of(catalog).name != damaged) == (step is Step.VERIFY)
    assert len(kept.figures) == (1 if step is Step.VERIFY else 0)


def test_everything_can_be_skipped(catalog: Catalog) -> None:
    add(catalog, "p", 1)
    version = {name: catalog.version_of(name) for name in ("programs", "frames", "assets")}
    assert kept_by(catalog, FLAT, *Step) == Kept({}, (), (), (), ())
    assert {name: catalog.version_of(name) for name in version} == version
    assert not list((catalog.path / "cache").rglob("snap-*"))


@pytest.mark.parametrize("is_seen_at_once", [True, False])
def test_a_damaged_snapshot_is_found_and_not_written_over(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, is_seen_at_once: bool
) -> None:
    """By its checksum, or, where the file is too large for that at every opening, by comparing vectors."""
    if not is_seen_at_once:
        monkeypatch.setattr(snapshot_module, "CHECKSUM_MAX_BYTES", 0)
    for i in range(4):
        add(catalog, f"p{i}", i)
    assert kept_by(catalog).is_well
    damage(snapshot_of(catalog) / "vectors.npy")
    name, content = snapshot_of(catalog).name, (snapshot_of(catalog) / "vectors.npy").read_bytes()
    for _ in range(2):
        kept = kept_by(catalog)
        assert not kept.is_well
        assert kept.failed == ()
        (problem,) = kept.problems
        wanted = "fails its checksum" if is_seen_at_once else "program 'p3': 1 frames differ from the tables"
        assert problem.startswith("frames: ")
        assert wanted in problem
        assert "matcher index verify" in problem
        assert snapshot_of(catalog).name == name
        assert (snapshot_of(catalog) / "vectors.npy").read_bytes() == content
    with catalog.writing() as writer:
        LiveIndex.open(catalog).rebuild(writer)
    assert kept_by(catalog).is_well


def test_the_vectors_of_so_many_programs_are_compared(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample, drawn anew: damage that a night does not see is seen by another."""
    monkeypatch.setattr(snapshot_module, "CHECKSUM_MAX_BYTES", 0)
    monkeypatch.setattr(housekeeping, "VERIFIED", 1)
    for i in range(2):
        add(catalog, f"p{i}", i)
    assert kept_by(catalog).is_well
    damage(snapshot_of(catalog) / "vectors.npy")
    found = [bool(kept_by(catalog, FLAT, Step.COMPACT).problems) for _ in range(24)]
    assert set(found) == {True, False}  # by chance not: 1e-7


def test_sounds_are_kept_house_for_too(heard: Catalog) -> None:
    for i in range(4):
        add_heard(heard, f"p{i}", i)
    kept = kept_by(heard, INVERTED)
    assert kept.is_well
    assert [line.split(":")[0] for line in kept.figures] == ["frames", "sounds"]
    folders = [path for path in (heard.path / "cache").rglob("snap-*") if (path / "vectors.npy").is_file()]
    assert len(folders) == 2
    sounds = next(path for path in folders if np.load(path / "vectors.npy").shape == (28, 4))
    damage(sounds / "vectors.npy")
    (problem,) = kept_by(heard, INVERTED).problems
    assert problem.startswith("sounds: ")


def test_drift_is_told_in_figures_and_with_advice(catalog: Catalog) -> None:
    """Five times the vectors that the lists were made for: told each night until somebody retrains."""
    add(catalog, "p0", 0, (60,))
    first = kept_by(catalog, INVERTED)
    assert first.advice == ()
    (figures,) = first.figures
    assert figures.startswith("frames: recall@10 1.000, lists 1.00 times as unequal as when trained, 60 ")
    for i in range(1, 6):
        add(catalog, f"p{i}", i, (60,))
    for _ in range(2):
        kept = kept_by(catalog, INVERTED)
        assert kept.is_well  # advice is no fault
        (figures,) = kept.figures
        assert "360 vectors in lists made for 60" in figures
        assert [line for line in kept.advice if "360 vectors stand in lists made for 60" in line]
        assert all(line.startswith("frames: run `matcher index retrain`: ") for line in kept.advice)
    with catalog.writing() as writer:
        LiveIndex.open(catalog, kind="ivf-fp16").retrain(writer)
    assert not [line for line in kept_by(catalog, INVERTED).advice if "360 vectors" in line]


@pytest.mark.parametrize("error", [NotWritableError("/s cannot be written: full"), RuntimeError("lance: no")])
def test_a_step_that_fails_is_one_line_and_the_others_are_done(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for i in range(3):
        add(catalog, f"p{i}", i)

    def fails(self: Writer, *, keep_seconds: float) -> None:
        raise error

    monkeypatch.setattr(Writer, "compact", fails)
    kept = kept_by(catalog)
    assert list(kept.seconds) == [Step.VERIFY, Step.SNAPSHOT, Step.DRIFT]
    (line,) = kept.failed
    assert line.startswith("compact failed: ")
    assert str(error) in line
    assert not kept.is_well
    assert LiveIndex.open(catalog).view.base.shape[0] == 33  # saved all the same


def test_stopping_is_no_failure(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the night, and is not told as a step that failed."""

    def stopped(self: Writer, *, keep_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "compact", stopped)
    with pytest.raises(KeyboardInterrupt):
        kept_by(catalog)


def test_versions_and_files_stay_bounded_over_many_nights(catalog: Catalog) -> None:
    """A program replaced and a night kept house for, again and again: the store does not grow."""
    for i in range(4):
        add(catalog, f"p{i}", i)

    def state() -> tuple[dict[str, int], int]:
        catalog.refresh()
        versions = {name: len(table.list_versions()) for name, table in catalog._tables.items()}
        return versions, sum(path.is_file() for path in catalog.path.rglob("*"))

    seen = []
    for night in range(6):
        add(catalog, "p1", 100 + night)
        assert kept_by(catalog).is_well
        seen.append(state())
    assert max(max(versions.values()) for versions, _ in seen[1:]) <= 4
    assert max(n for _, n in seen[1:]) <= seen[0][1] + 4
    assert LiveIndex.open(catalog).verify(full=True) == []


def test_old_versions_go_only_after_their_time(catalog: Catalog) -> None:
    """A reader that has not looked for a while can still read what it opened."""
    for i in range(3):
        add(catalog, f"p{i}", i)
    n = len(catalog._tables["frames"].list_versions())
    kept_by(catalog, keep_seconds=3600)
    catalog.refresh()
    assert len(catalog._tables["frames"].list_versions()) > n
    time.sleep(0.01)
    kept_by(catalog, keep_seconds=0)
    catalog.refresh()
    assert len(catalog._tables["frames"].list_versions()) <= 4


# ---------------------------------------------------------------- the verb


def test_relink_tells_what_it_kept_and_skips_what_it_is_told_to(
    matcher: Run, library: Library, store: Path
) -> None:
    matcher("link", "--store", store, library.clips["p01"])
    ran = matcher("relink", "--store", store)
    assert ran.code == 0
    (line,) = (line for line in ran.lines if line.startswith("housekeeping: "))
    assert [part.split()[0] for part in line.removeprefix("housekeeping: ").split(", ")] == list(Step)
    ran = matcher("relink", "--store", store, "--skip", "related", "--skip", "compact", "--skip", "drift")
    assert ran.code == 0
    (line,) = (line for line in ran.lines if line.startswith("housekeeping: "))
    assert [part.split()[0] for part in line.removeprefix("housekeeping: ").split(", ")] == [
        "verify",
        "snapshot",
    ]
    every = [word for step in Step for word in ("--skip", step)]
    ran = matcher("relink", "--store", store, *every)
    assert ran.code == 0
    assert "housekeeping" not in ran.err
    ran = matcher("relink", "--store", store, "--skip", "sweep")
    assert ran.code == 2
    assert "sweep" in ran.err


def test_what_is_wrong_with_the_cache_does_not_cost_the_links(
    matcher: Run, library: Library, store: Path
) -> None:
    """Exit 4 and a line; the answers are right, for a damaged snapshot is not used."""
    matcher("link", "--store", store, *library.clips.values())
    matcher("remove", "--store", store, "p02")
    folder = next(path.parent for path in (store / "cache").rglob("vectors.npy"))
    damage(folder / "vectors.npy")
    ran = matcher("relink", "--store", store, "--json")
    assert ran.code == 4
    assert [line for line in ran.lines if "fails its checksum; see: matcher index verify" in line]
    assert ran.lines[-1].startswith("linked 2, review 0, none 1, changed 1 in ")
    links = matcher("links", "--store", store, "--json").objects
    assert {link["clip_id"]: link["program_id"] for link in links} == {
        "clip-p01": "p01", "clip-p02": None, "clip-p03": "p03",
    }  # fmt: skip
    assert matcher("index", "rebuild", "--store", store).code == 0
    assert matcher("relink", "--store", store).code == 0
