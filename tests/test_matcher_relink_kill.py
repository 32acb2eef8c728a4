"""``kill -9`` at any moment of a night: the next run leaves what an undisturbed one would, once.

Run as a program, this file is the night: STORE. It says "ready" when it begins.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment
from test_matcher_linking import CALIBRATION, MODEL, SETTINGS, add, clip_of, cut, live_of, stranger
from trajectories import Trajectory

from index.catalog import Catalog, NewAsset, NewProgram
from index.rows import ClipRecord, StoredClip
from matcher import relink as relink_module
from matcher.linking import Linker
from matcher.relink import Order, relink

N_CLIPS = 120
PART = 16


def night(store: Path) -> None:
    """One night, in small parts."""
    relink_module.PART_CLIPS = PART
    catalog = Catalog.open(store)
    with catalog.writing(wait_seconds=10) as writer:
        linker = Linker(live_of(catalog), SETTINGS, CALIBRATION)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        relink(writer, linker, Order(accept=True))


def links_of(store: Path) -> dict[str, tuple[Any, ...]]:
    """What every link says, rests on and was before, less the dates."""
    catalog = Catalog.open(store)
    found = {}
    for clip_id, link in catalog.whole_links(list(catalog.clip_dates())).items():
        basis = link.basis
        assert basis is not None
        history = [{name: value for name, value in entry.items() if name != "at"} for entry in link.history]
        rests = (basis.epoch, basis.known, basis.night, basis.numbers.tolist(), basis.bars.tolist())
        found[clip_id] = (json.loads(link.answer), history, rests)
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after a night, in which one program was then removed, one replaced and one added."""
    store = tmp_path_factory.mktemp("before") / "store"
    catalog = Catalog.create(store, MODEL)
    add(catalog, "p0", "p1", "p2", "p3")
    with catalog.writing() as writer:
        clips = []
        for number in range(N_CLIPS):
            shown = number % 6
            vectors = cut(f"p{shown}", 5.0 + number / 2, seconds=8.0) if shown < 5 else stranger(number)
            clip = clip_of(vectors, seed=number)
            record = ClipRecord(
                f"c{number:03d}", "/c.mp4", "", clip.duration_seconds, clip.frames_seen, MODEL.fingerprint
            )
            clips.append(StoredClip(record, clip.t_seconds, clip.vectors))
        writer.put_clips(clips)
        relink(writer, Linker(live_of(catalog), SETTINGS, CALIBRATION), Order())
        writer.remove_programs(["p0"])
        t = np.arange(0.0, 60.0)
        writer.add_program(
            NewProgram("p1"), [NewAsset("new", "/v.mp4", "", 60.0, t, Trajectory(10, pace=0.4)(t + 20))]
        )
    add(catalog, "p4")
    return store


@pytest.fixture(scope="module")
def undisturbed(before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The store after the whole night, and how long that took."""
    store = tmp_path_factory.mktemp("after") / "store"
    shutil.copytree(before, store)
    child = start(store)
    started = time.perf_counter()
    assert child.wait(timeout=120) == 0
    return store, time.perf_counter() - started


def start(store: Path) -> subprocess.Popen[str]:
    """A night that has begun."""
    child = subprocess.Popen(
        [sys.executable, __file__, str(store)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def _kill(rounds: int, seed: int, before: Path, undisturbed: tuple[Path, float], folder: Path) -> None:
    whole, seconds = undisturbed
    old, new = links_of(before), links_of(whole)
    answers = [json.loads(record.summary)["answered"] for record in Catalog.open(whole).nights()]
    assert sum(old[clip_id][0] != new[clip_id][0] for clip_id in old) > N_CLIPS // 4
    rng = random.Random(seed)
    killed = number = 0
    # What is killed is luck: a machine that was busy while the whole night was timed may be faster now.
    while number < rounds or (killed < max(1, rounds // 2) and number < 10 * rounds):
        number += 1
        store = folder / f"store-{number}"
        shutil.copytree(before, store)
        for _ in range(rng.randint(1, 2)):
            child = start(store)
            try:
                child.wait(timeout=rng.uniform(0, 1.05 * seconds))
            except subprocess.TimeoutExpired:
                child.kill()
            killed += child.wait() == -signal.SIGKILL
            # Readers see yesterday's links, or all of today's.
            assert links_of(store) in (old, new)
        assert start(store).wait(timeout=120) == 0
        assert links_of(store) == new
        # Booked once; where a run came to its end, those after it had nothing to do.
        answered = [json.loads(record.summary)["answered"] for record in Catalog.open(store).nights()]
        assert answered == [*answers, *[0] * (len(answered) - 2)]
        assert not list((store / "cache" / "relink").glob("part-*"))
        shutil.rmtree(store)
    assert killed >= max(1, rounds // 2)


def test_a_night_that_is_killed_ends_as_if_it_had_not_been(
    before: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    _kill(1, 1, before, undisturbed, tmp_path)


@pytest.mark.slow
def test_thirty_nights_that_are_killed_end_as_if_they_had_not_been(
    before: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    _kill(30, 2, before, undisturbed, tmp_path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    night(Path(sys.argv[1]))
