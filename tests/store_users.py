"""Processes that use one store at the same time; run as a program, this file is one of them.

A program's frames say whose they are: its query, a unit vector, has the similarity 1 with them and 0 with
all others. A last coordinate, the times and the path tell the generation, so an answer is checked by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from commands import environment

from index import live as live_module
from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram, Writer
from index.follow import Follower
from index.live import LiveIndex
from index.view import LiveView

N_PROGRAMS = 6
D = N_PROGRAMS + 1
MODEL = ModelInfo("fp-users", "embedded", D)
#: More than any program has.
K = 64


# ---------------------------------------------------------------- programs that say what they are


def name_of(number: int) -> str:
    return f"p{number}"


def assets_of(number: int, generation: int) -> list[NewAsset]:
    """Two assets of 20 to 26 frames together; generations below 2,000 are exact in float16."""
    sizes = (12, 8 + generation % 7)
    vectors = np.zeros((max(sizes), D), np.float32)
    vectors[:, number], vectors[:, -1] = 1.0, generation
    return [
        NewAsset(f"a{i}", str(generation), "", 99.0, np.arange(n) + 100.0 * generation, vectors[:n])
        for i, n in enumerate(sizes)
    ]


def query_of(number: int) -> np.ndarray:
    return np.eye(D, dtype=np.float32)[[number]]


def check(view: LiveView, live: LiveIndex, number: int) -> int | None:
    """Ask for a program's frames and check the answer; returns its generation, None where it is not there.

    What cannot be judged, as another state has come meanwhile, is only checked to name no stranger.
    """
    got = live.search(query_of(number), K)
    hits = got.ids[0][got.similarities[0] == 1.0]
    info = view.locate(hits)
    if live.view is not view:
        return None
    assert (info.program_position >= 0).all(), "a frame that no program shows"
    names = {view.programs[position] for position in info.program_position.tolist()}
    if name_of(number) not in view.programs:
        assert names == set()
        return None
    assert names == {name_of(number)}
    assets = [asset for asset in view.assets if asset.program_id == name_of(number)]
    (generation,) = {int(asset.path) for asset in assets}
    wanted = assets_of(number, generation)
    times = np.concatenate([asset.t_seconds for asset in wanted])
    np.testing.assert_array_equal(np.sort(info.t_seconds), np.sort(times))
    for position in np.unique(info.asset_position).tolist():
        vectors = view.frames_of_asset(position)[2]
        assert (vectors[:, -1] == generation).all()
    return generation


# ---------------------------------------------------------------- the tests' side


def start(task: str, *words: str | Path | float) -> subprocess.Popen[str]:
    """Begin a task of :data:`TASKS`; it says "ready" and waits for a line."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), task, *map(str, words)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip


def release(*children: subprocess.Popen[str]) -> None:
    """Wait until all are ready, and let them go."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()


def result_of(child: subprocess.Popen[str]) -> dict[str, Any]:
    """What it printed at its end; fails with its traceback if it failed."""
    out, err = child.communicate(timeout=300)
    assert (child.returncode, err) == (0, ""), err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


# ---------------------------------------------------------------- the processes


def _wait_for_go() -> None:
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def write(store: Path, seconds: float) -> dict[str, Any]:
    """Change the store all the time."""
    catalog, rng, done = Catalog.open(store), random.Random(1), dict[str, int]()
    live = LiveIndex.open(catalog)
    generation = 1

    def change(what: str, writer: Writer) -> object:
        number = rng.randrange(N_PROGRAMS)
        if what == "add":
            return writer.add_program(NewProgram(name_of(number)), assets_of(number, generation))
        if what == "remove":
            return writer.remove_programs([name_of(number)])
        return live.save(writer, force=True) if what == "save" else writer.compact(keep_seconds=0)

    _wait_for_go()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        generation += 1
        what = rng.choice(["add"] * 6 + ["remove", "save", "compact"])
        with catalog.writing() as writer:
            change(what, writer)
        done[what] = done.get(what, 0) + 1
    return {"done": done}


def read(store: Path, seconds: float, how: str, kind: str) -> dict[str, Any]:
    """Ask all the time; ``how`` is "follow" for a thread that refreshes, or "refresh" for doing so itself."""
    live = LiveIndex.open(Catalog.open(store), kind=kind)
    live_module._ADD_ROWS = 3  # a program comes in many parts, with searches between them
    _wait_for_go()
    begun = last = time.monotonic()
    longest, n, early, seen = 0.0, 0, 0, set[tuple[int, int]]()
    with Follower([live], every_seconds=0.1) if how == "follow" else contextlib.nullcontext():
        while last < begun + seconds:
            if how == "refresh":
                live.refresh()
            number = n % N_PROGRAMS
            generation = check(live.view, live, number)
            if generation is not None:
                seen.add((number, generation))
            now = time.monotonic()
            longest, last, n = max(longest, now - last), now, n + 1
            if not early and now > begun + seconds / 3:
                early = _resident_bytes()
    return {"n": n, "longest": longest, "early": early, "late": _resident_bytes(), "seen": len(seen)}


def watch(store: Path, generations: int) -> dict[str, Any]:
    """Follow, and tell when each generation of the first program was first found, and the longest pause."""
    live = LiveIndex.open(Catalog.open(store))
    _wait_for_go()
    found: dict[int, float] = {}
    longest, last = 0.0, time.monotonic()
    with Follower([live]):
        while len(found) < int(generations):
            generation = check(live.view, live, 0)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            if generation is not None:
                found.setdefault(generation, now)
    return {"found": found, "longest": longest}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"write": write, "read": read, "watch": watch}

if __name__ == "__main__":
    task, store, number, *more = sys.argv[1:]
    print(json.dumps(TASKS[task](Path(store), float(number), *more)), flush=True)  # noqa: T201
