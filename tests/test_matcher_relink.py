"""What a night does where another one was cut short, stopped by the brake, or answered by other settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from test_matcher_linking import CALIBRATION, MODEL, SETTINGS, add, clip_of, cut, live_of

from index.catalog import Catalog, Writer
from index.rows import ClipRecord, LinkRecord, NightRecord, StoredClip
from matcher import relink as relink_module
from matcher.config import IndexSettings
from matcher.linking import Linker
from matcher.relink import BrakeError, Night, Order, relink
from matcher.staging import Staging


class Killed(BaseException):
    """Stands for ``kill -9``."""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Four clips of four programs, two of which are there."""
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, "p0", "p1")
    with catalog.writing() as writer:
        for number in range(4):
            clip = clip_of(cut(f"p{number}", 20.0))
            record = ClipRecord(
                f"c{number}", "/c.mp4", "", clip.duration_seconds, clip.frames_seen, MODEL.fingerprint
            )
            writer.put_clip(StoredClip(record, clip.t_seconds, clip.vectors))
    assert night(catalog).counts["new"] == 4
    return catalog


def linker_of(catalog: Catalog) -> Linker:
    return Linker(live_of(catalog), SETTINGS, CALIBRATION)


def night(catalog: Catalog, order: Order | None = None) -> Night:
    with catalog.writing() as writer:
        return relink(writer, linker_of(catalog), order or Order())


def decisions(catalog: Catalog) -> list[str]:
    return [link.decision for link in catalog.links()]


def killed_at(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A night that dies on entering a method of the writer."""

    def die(self: Writer, what: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Writer, method, die)
        with pytest.raises(Killed):
            night(catalog)


def test_a_night_that_was_not_booked_is_booked_and_tonight_is_done_too(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(catalog, "p2")
    killed_at(catalog, monkeypatch, "put_night")
    assert decisions(catalog) == ["linked", "linked", "linked", "none"]
    add(catalog, "p3")
    done = night(catalog)
    assert (done.number, done.why) == (3, {"program new": 1})
    assert decisions(catalog) == ["linked"] * 4
    assert [record.night for record in catalog.nights()] == [1, 2, 3]


def test_a_night_that_never_was_committed_is_not_booked(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be in the links, of one that was committed, and whose traces were lost."""
    add(catalog, "p2")
    killed_at(catalog, monkeypatch, "put_night")
    Staging(catalog.place).clear()
    with catalog.writing() as writer:
        writer.remove_programs(["p2"])
    add(catalog, "p2", "p3")
    killed_at(catalog, monkeypatch, "put_all_links")
    done = night(catalog)
    assert done.answered > 0
    assert decisions(catalog) == ["linked"] * 4


def test_staging_that_is_half_thrown_away_is_none(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    add(catalog, "p2")
    killed_at(catalog, monkeypatch, "put_all_links")
    folder = Staging(catalog.place)._folder
    assert (folder / "plan.json").is_file()

    def die(path: Path, *, ignore_errors: bool) -> None:
        (path / "affected.json").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("matcher.staging.shutil.rmtree", die)
        with pytest.raises(Killed):
            night(catalog, Order(full=True))
    assert night(catalog).answered > 0
    assert decisions(catalog) == ["linked", "linked", "linked", "none"]


def test_who_accepts_commits_what_was_shown_and_no_more(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relink_module, "FREE_CHANGES", 0)
    with catalog.writing() as writer:
        writer.remove_programs(["p0"])
    with pytest.raises(BrakeError, match=r"1 of 2 links would change, more than 5\.0%"):
        night(catalog)
    with catalog.writing() as writer:
        writer.remove_programs(["p1"])
    with pytest.raises(BrakeError, match="2 of 2 links would change, more than the 1 that were shown"):
        night(catalog, Order(accept=True))
    assert decisions(catalog).count("linked") == 2
    done = night(catalog, Order(accept=True))
    assert (done.number, done.moving, done.resumed) == (2, 2, done.answered)
    assert decisions(catalog).count("linked") == 0


def test_a_stopped_night_goes_on_where_it_was(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relink_module, "PART_CLIPS", 1)
    put, done = Staging.put, [0]

    def dying(self: Staging, part: int, links: Iterable[LinkRecord], changes: Iterable[object]) -> None:
        if done[0] == 2:
            raise Killed
        put(self, part, list(links), list(changes))  # type: ignore[arg-type]
        done[0] += 1

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "put", dying)
        with pytest.raises(Killed):
            night(catalog, Order(full=True))
    again = night(catalog, Order(full=True))
    assert (again.answered, again.resumed) == (4, 2)


def test_other_settings_of_the_search_are_another_epoch(catalog: Catalog) -> None:
    live = live_of(catalog)
    epochs = {
        Linker(live, SETTINGS.model_copy(update={"index": index}), CALIBRATION).epoch(5)
        for index in (IndexSettings(), IndexSettings(nprobe=9), IndexSettings(kind="ivf-pq"))
    }
    assert len(epochs) == 3
    assert linker_of(catalog).epoch(5) in epochs
    assert linker_of(catalog).epoch(4) not in epochs


def test_since_a_version_compares_again_with_what_came_after_it(catalog: Catalog) -> None:
    """Whatever nights have vouched for; with a version before all of them, with everything."""
    add(catalog, "p2")
    assert night(catalog).why == {"program new": 1}
    assert night(catalog).why == {}
    with catalog.writing() as writer:
        first, second = catalog.nights()[:2]
        assert second.known > first.known
        writer.put_night(NightRecord(9, second.epoch, 99, second.catalog_version))
    assert night(catalog, Order(since=second.catalog_version)).way == "nothing new"
    assert night(catalog, Order(since=first.catalog_version)).why == {"program new": 1}
    assert night(catalog, Order(since=0)).why == {"program new": 3}
