"""Makes the checkout's ``.venv`` from the lock, completes a half-made one, leaves a current one alone.

Runs under a bare Python of the standard library. With uv (on the PATH, or fetched with pip into ``.cache``)
the environment comes from ``uv.lock``; else with venv and pip from ``requirements.txt``, which is exported
from that lock, hashes included. ``MATCHER_NO_UV=1`` asks for the second way.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CACHE = ROOT / ".cache"
STAMP = VENV / ".matcher-stamp"  # what the finished environment was made from
UNFINISHED = CACHE / "venv-unfinished"  # there from the first change to the last: an interruption leaves it
LOCKED_FROM = ("pyproject.toml", "uv.lock", "requirements.txt")
OLDEST_UV = (0, 8)
EXIT_NOT_INSTALLED = 3

# The machine's own pip settings stay (index, certificates), but for two that contradict a target folder.
PIP_ENV = os.environ | {
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


def main() -> int:
    """Bring ``.venv`` to the state that the lock describes."""
    CACHE.mkdir(exist_ok=True)
    with _only_one():
        wanted = _fingerprint()
        if _made_from() == wanted and not UNFINISHED.exists() and _works():
            return 0
        if UNFINISHED.exists() or (VENV.exists() and not _runs(PYTHON, "-c", "")):
            _say("an interrupted or broken .venv is made anew")
            shutil.rmtree(VENV, ignore_errors=True)
        started = time.monotonic()
        UNFINISHED.touch()
        how = _install()
        if not _works():
            _stop("the packages are installed, but .venv/bin/matcher does not start: see the lines above")
        STAMP.write_text(json.dumps({"made_from": wanted, "with": how}) + "\n")
        UNFINISHED.unlink()
        _say(f".venv is ready ({how}, {time.monotonic() - started:.0f} s)")
    return 0


def _install() -> str:
    """Install project and packages; returns the name of the installer."""
    uv = None if os.environ.get("MATCHER_NO_UV") else _find_uv()
    if uv is not None:
        _say(f"making .venv with {uv}; the first time downloads about 3 GB")
        if _sync(uv):
            return "uv"
        _say("uv could not; trying pip, which may be set up for another package index")
    _say("making .venv with venv and pip; the first time downloads about 3 GB")
    _pip_install()
    return "pip"


def _sync(uv: str) -> bool:
    # fmt: off
    command = [
        uv, "sync", "--project", str(ROOT), "--frozen", "--extra", "cpu", "--group", "dev",
        "--python", sys.executable, "--no-progress",
    ]
    # fmt: on
    env = os.environ | {"UV_PYTHON_DOWNLOADS": "never", "UV_PROJECT_ENVIRONMENT": str(VENV)}
    env.pop("VIRTUAL_ENV", None)
    return subprocess.run(command, env=env, stdout=sys.stderr, check=False).returncode == 0


def _find_uv() -> str | None:
    """A uv that reads our lock: the machine's, or the locked one fetched with pip; None where neither."""
    on_path = shutil.which("uv")
    if on_path and _uv_version(on_path) >= OLDEST_UV:
        return on_path
    home = CACHE / "uv"
    fetched = str(home / "bin" / "uv")
    if _uv_version(fetched) >= OLDEST_UV:
        return fetched
    if not _has("pip"):
        return None  # without pip nothing can be fetched before there is a .venv
    block = re.search(r"^uv==.*(\n[ ]{4}--hash.*)+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    if block is None:
        return None
    _say("fetching uv")
    requirement = CACHE / "uv-requirement.txt"
    requirement.write_text(block.group() + "\n")
    shutil.rmtree(home, ignore_errors=True)
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "--no-deps",
        "--target", str(home), "--requirement", str(requirement),
    ]
    # fmt: on
    subprocess.run(command, env=PIP_ENV, stdout=sys.stderr, check=False)
    return fetched if _uv_version(fetched) >= OLDEST_UV else None


def _pip_install() -> None:
    if not _runs(PYTHON, "-c", ""):
        # Without pip at first: Debian's python3 has venv but may lack the ensurepip that puts pip into it.
        _run([sys.executable, "-m", "venv", "--without-pip", str(VENV)])
    if not _runs(PYTHON, "-m", "pip", "--version") and not _runs(PYTHON, "-m", "ensurepip"):
        if _has("pip"):
            _run([sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--no-input", "pip"])
        else:
            _stop(
                f"{sys.executable} has neither pip nor ensurepip, so nothing can be installed: "
                "install python3-venv (Debian, Ubuntu: apt install python3-venv) or uv, and run this again"
            )
    pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    _run([*pip, "--require-hashes", "--requirement", str(ROOT / "requirements.txt")])
    _run([*pip, "--no-deps", "--editable", str(ROOT)])


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in LOCKED_FROM:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _made_from() -> str | None:
    try:
        return str(json.loads(STAMP.read_text())["made_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _works() -> bool:
    return (VENV / "bin" / "matcher").exists() and _runs(PYTHON, "-c", "import matcher")


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _uv_version(uv: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    found = re.search(r"(\d+)\.(\d+)", answer)
    return tuple(int(number) for number in found.groups()) if found else ()


def _runs(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, cwd="/", env=PIP_ENV, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(command: list[str]) -> None:
    code = subprocess.run(command, env=PIP_ENV, stdout=sys.stderr, check=False).returncode
    if code != 0:
        _stop(f"this failed with exit code {code}: {' '.join(command)}")


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Two scripts started together make one environment, one after the other."""
    with (CACHE / "venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another script that is making .venv")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"env: {text}", file=sys.stderr, flush=True)


def _stop(text: str) -> None:
    _say(text)
    sys.exit(EXIT_NOT_INSTALLED)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _say("interrupted; the next run makes .venv anew")
        sys.exit(130)
