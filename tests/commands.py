"""Runs the command line for tests: in this process where that will do, else as a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What ``--json`` printed: every line of stdout must be an object."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        (only,) = self.objects
        return only

    @property
    def lines(self) -> list[str]:
        """Of stderr."""
        return self.err.splitlines()


Run = Callable[..., Ran]


@dataclass(frozen=True)
class Library:
    """A small generated catalogue with a clip of each program.

    Attributes:
        folder: Holds everything.
        manifest: All programs, for ``add --manifest``.
        clips: By program id; each is cut from the second episode.
        start_seconds: Where in it.
        frames: Stored frames by asset, filled from an undisturbed add.
    """

    folder: Path
    manifest: Path
    clips: Mapping[str, Path]
    start_seconds: float

    def episodes(self, program_id: str) -> list[Path]:
        return sorted(self.folder.glob(f"{program_id}-e*.mp4"))


def environment(**words: str) -> dict[str, str]:
    """Of a child: the package is found whether it is installed or not."""
    before = os.environ.get("PYTHONPATH")
    path = str(ROOT) if not before else f"{ROOT}{os.pathsep}{before}"
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", **words}


def command(*words: str | Path | bytes) -> list[str | bytes]:
    return [sys.executable, "-m", "matcher", *(w if isinstance(w, bytes) else str(w) for w in words)]


def run_process(*words: str | Path | bytes, cwd: Path | None = None, **env: str) -> Ran:
    """Run the command line as a process of its own."""
    done = subprocess.run(
        command(*words), capture_output=True, cwd=cwd, env=environment(**env), timeout=300, check=False
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(errors="backslashreplace"))


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file, to show that nothing was written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found
