"""The follower keeps indexes in step by itself, survives what goes wrong, and ends when told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_index_live import MODEL, SOUND, Model, add_heard, assert_shows

from index.catalog import Catalog
from index.errors import CatalogError
from index.follow import Follower
from index.live import LiveIndex


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    with catalog.writing() as writer:
        writer.use_sound(SOUND)
    return catalog


def test_frames_and_sounds_follow_what_another_adds_and_removes(catalog: Catalog) -> None:
    """By value, without a word from the one who searches."""
    reader = Catalog.open(catalog.path)
    lives = [LiveIndex.open(reader, table="frames"), LiveIndex.open(reader, table="sounds")]
    model: Model = {}
    with Follower(lives, every_seconds=0.01) as follower:
        for seed in range(3):
            model["p"] = add_heard(catalog, "p", seed)
            model[f"q{seed}"] = add_heard(catalog, f"q{seed}", seed + 10)
            wait_until(lambda: all(live.version == catalog.version() for live in lives))
        with catalog.writing() as writer:
            writer.remove_programs(["q1"])
        del model["q1"]
        wait_until(lambda: all(live.version == catalog.version() for live in lives))
        assert follower.error is None
    for live in lives:
        assert_shows(live, catalog, model)


def test_it_stops_when_told_and_may_start_again(catalog: Catalog) -> None:
    """Its thread is gone, and nothing is refreshed any more."""
    live = LiveIndex.open(Catalog.open(catalog.path))
    follower = Follower([live], every_seconds=0.01)
    assert not follower.is_running
    follower.stop()
    for seed in range(2):
        follower.start()
        follower.start()
        assert follower.is_running
        assert [thread.name for thread in threading.enumerate()].count("index-follower") == 1
        add_heard(catalog, f"p{seed}", seed)
        wait_until(lambda: live.version == catalog.version())
        follower.stop()
        follower.stop()
        assert not follower.is_running
        add_heard(catalog, f"late{seed}", seed)
        time.sleep(0.1)
        assert live.version < catalog.version()


def test_a_long_pause_does_not_delay_the_stop(catalog: Catalog) -> None:
    """It waits for being told, not for the time to pass."""
    started = time.monotonic()
    with Follower([LiveIndex.open(catalog)], every_seconds=3600):
        pass
    assert time.monotonic() - started < 10


def test_an_error_is_one_line_and_it_goes_on(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once however often it comes again; the other index goes on; then all is well."""
    add_heard(catalog, "p", 1)
    reader = Catalog.open(catalog.path)
    broken, sound = LiveIndex.open(reader), LiveIndex.open(reader, table="sounds")
    refresh, tries = broken.refresh, []

    def fail() -> bool:
        tries.append(1)
        raise CatalogError("the table frames is damaged")

    with caplog.at_level(logging.WARNING), Follower([broken, sound], every_seconds=0.01) as follower:
        monkeypatch.setattr(broken, "refresh", fail)
        model = {"p": add_heard(catalog, "p", 2)}
        wait_until(lambda: len(tries) > 3 and sound.version == catalog.version())
        assert follower.error == "CatalogError: the table frames is damaged"
        assert follower.is_running
        assert broken.version < catalog.version()
        monkeypatch.setattr(broken, "refresh", refresh)
        wait_until(lambda: follower.error is None)
        assert_shows(broken, catalog, model)
        monkeypatch.setattr(broken, "refresh", fail)
        wait_until(lambda: follower.error is not None)
    (line, again) = [record.getMessage() for record in caplog.records]
    assert line == again
    assert line.startswith("CatalogError: the table frames is damaged; what was there is still shown")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_pause_of_nothing_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="every_seconds must be above 0"):
        Follower([], every_seconds=seconds)
