"""Odd disks: a small one that fills up, and one that may only be read.

Both are mounted in a mount namespace of a process of their own, which needs root or a user namespace.
Run as a program, this file is that process: it does things to a store and prints what came of each,
one JSON object a line.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment

from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.live import LiveIndex

D = 64
MODEL = ModelInfo("fp-disk", "embedded", D)
DISK_BYTES = 6 << 20
#: Small enough to fail in the first table, in a later one, and at the commit.
ROOMS = (0, 16_384, 120_000)


# ---------------------------------------------------------------- the tests' side


@functools.cache
def _unshare() -> tuple[str, ...] | None:
    """The words that begin a process with mounts of its own; None where the system allows none."""
    for words in (("unshare", "-m"), ("unshare", "-rm")):
        probe = [*words, "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]
        try:
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return words
        except FileNotFoundError:
            return None
    return None


def on_disk(task: str, *words: str | Path) -> list[dict[str, Any]]:
    """Run a task of :data:`TASKS` among mounts of its own; returns what it printed."""
    unshare = _unshare()
    if unshare is None:
        pytest.skip("needs a mount namespace: root, or user namespaces and util-linux")
    done = subprocess.run(
        [*unshare, sys.executable, str(Path(__file__)), task, *map(str, words)], capture_output=True,
        env=environment(), text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assets_of(seed: int, n: int = 600) -> list[NewAsset]:
    vectors = np.random.default_rng(seed).standard_normal((n, D)).astype(np.float16).astype(np.float32)
    return [NewAsset("a", "", "", float(n), np.arange(n) + seed / 8, vectors)]


def sum_of(assets: list[NewAsset]) -> int:
    """Tells the times and vectors of a program from those of any other."""
    crc = 0
    for asset in assets:
        crc = zlib.crc32(asset.vectors.tobytes(), zlib.crc32(asset.t_seconds.tobytes(), crc))
    return crc


# ---------------------------------------------------------------- the process among the mounts


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def _fill(disk: Path, room: int) -> None:
    """Leave so many bytes free, to the block."""
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"0" * 4096)
    os.truncate(disk / "filler", max(0, (disk / "filler").stat().st_size - room))


def _shown(store: Path) -> dict[str, int]:
    catalog = Catalog.open(store)
    shown = {}
    for record in catalog.programs():
        frames = catalog.frames_of(record.number)
        asset = NewAsset("a", "", "", 0.0, frames.t_seconds, frames.vectors)
        shown[record.program_id] = sum_of([asset])
    return shown


def _said(change: Callable[[], object]) -> dict[str, Any]:
    try:
        change()
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None, "message": ""}


def _matcher(*words: str | Path) -> dict[str, Any]:
    """Run the command line in this process."""
    from matcher.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
    return {"words": list(map(str, words)), "code": code, "out": out.getvalue(), "err": err.getvalue()}


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


def fill_up(folder: Path) -> None:
    """Change a store on a disk that is full, or as good as, and again with room made."""
    _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder)
    catalog = Catalog.create(folder / "store", MODEL)
    with catalog.writing() as writer:
        for i in range(3):
            writer.add_program(NewProgram(f"p{i}"), assets_of(i))
        live = LiveIndex.open(catalog, kind="ivf")
        live.save(writer, force=True)

    def changed(change: str) -> None:
        # Another size each time: what is written first, and last, is found too large once.
        with catalog.writing() as writer:
            if change == "add":
                writer.add_program(NewProgram("new"), assets_of(100))
            elif change == "replace":
                writer.add_program(NewProgram("p1"), assets_of(101))
            elif change == "save":
                live.save(writer, force=True)
            else:
                writer.compact(keep_seconds=0)

    for room in (*ROOMS, None):
        if room is not None:
            _fill(folder, room)
        else:
            (folder / "filler").unlink()
        for change in ("add", "replace", "save", "compact"):
            said = _said(lambda change=change: changed(change))  # type: ignore[misc]
            opened = LiveIndex.open(Catalog.open(folder / "store"), kind="ivf")
            rubbish = [str(path) for path in (folder / "store" / "cache").rglob("*tmp-*")]
            _say(
                room=room, change=change, **said, shown=_shown(folder / "store"),
                problems=opened.verify(full=True), rubbish=rubbish,
            )  # fmt: skip
    _say(orphans=sorted(set(catalog.frame_counts()) - {record.number for record in catalog.programs()}))


def fill_up_under_the_command_line(folder: Path, store: Path, manifest: Path) -> None:
    """Add programs to a copy of a store on a full disk, and again with room made."""
    _mount("-t", "tmpfs", "-o", "size=64m", "none", folder)
    copy = shutil.copytree(store, folder / "store")
    for room in (0, None):
        if room is not None:
            _fill(folder, room)
        else:
            (folder / "filler").unlink()
        _say(room=room, **_matcher("add", "--store", copy, "--manifest", manifest))
        _say(room=room, **_matcher("programs", "--store", copy, "--json"))
    _say(room=None, **_matcher("index", "verify", "--store", copy))


def nights_on_a_full_disk(folder: Path, store: Path) -> None:
    """Re-link a copy of a store: with no room at all; with none after the commit of the links; with room."""
    from matcher import housekeeping

    _mount("-t", "tmpfs", "-o", "size=64m", "none", folder)
    copy = shutil.copytree(store, folder / "store")
    keep_house = housekeeping.keep_house

    def without_room(*words: Any, **more: Any) -> housekeeping.Kept:
        _fill(folder, 0)
        return keep_house(*words, **more)

    def links() -> Any:
        return _matcher("links", "--store", copy, "--json")["out"]

    _fill(folder, 0)
    _say(**_matcher("relink", "--store", copy, "--full", "--json"), links=links())
    (folder / "filler").unlink()
    housekeeping.keep_house = without_room
    _say(**_matcher("relink", "--store", copy, "--full", "--json"), links=links())
    housekeeping.keep_house = keep_house
    (folder / "filler").unlink()
    _say(**_matcher("relink", "--store", copy, "--json"), links=links())
    _say(**_matcher("index", "verify", "--store", copy), links=links())


def read_only(store: Path, commands: Path) -> None:
    """Run commands, listed in a JSON file, with the store mounted so that it may only be read."""
    _mount("--bind", store, store)
    _mount("-o", "remount,ro,bind", store)
    _say(**_said(lambda: (store / "x").touch()))
    for words in json.loads(commands.read_text()):
        _say(**_matcher(*words))


TASKS: dict[str, Callable[..., None]] = {
    task.__name__: task
    for task in (fill_up, fill_up_under_the_command_line, nights_on_a_full_disk, read_only)
}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*map(Path, sys.argv[2:]))
