"""Small files on a local disk: replaced in one step, the writer's lock, what a full disk says."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from index.errors import CatalogLockedError, NotWritableError
from index.rows import now_utc

_FULL = "no space is left on its disk. What was finished is kept; make room and run the same command again."
_READ_ONLY = "its file system is read-only. It can be searched, but changed only where it may be written."
_FORBIDDEN = "this user may not write there. It can be searched, but changed only by one who may."
_REFUSALS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
}


@contextlib.contextmanager
def storing(place: Path) -> Iterator[None]:
    """Say in one line why the system lets nothing be written, whoever was told so.

    Lance and FAISS pass the system's words on in errors of their own, without its number.

    Args:
        place: What is written, for the message.

    Raises:
        NotWritableError: The disk is full or read-only, or the user has no right to write.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        for number, why in _REFUSALS.items():
            if os.strerror(number).lower() in str(error).lower():
                raise NotWritableError(f"{place} cannot be written: {why}") from error
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a small file so that a reader, or a crash, sees the old content or the new one."""
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """The same of a file of any size, which is written bit by bit; left as it was if that fails."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below ``folder``; one that vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def user_cache_folder() -> Path:
    """Where this user keeps what can be made again: ``MATCHER_CACHE``, else the user's cache folder."""
    named = os.environ.get("MATCHER_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "program-matcher"


def who_am_i() -> dict[str, str | int]:
    """What the holder of a lock writes into it."""
    return {
        "pid": os.getpid(),
        "command": " ".join(sys.argv)[:500] or "python",
        "host": socket.gethostname(),
        "started_at": now_utc(),
    }


def holder_of(content: bytes) -> str:
    """Who holds a lock, by what :func:`who_am_i` said; "another process" where it did not come to that."""
    try:
        who = json.loads(content)
        return f"process {who['pid']} on {who['host']} ({who['command']}) since {who['started_at']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def locked_error(store: str, holder: str) -> CatalogLockedError:
    """The refusal of a second writer."""
    return CatalogLockedError(
        f"the store {store} is being written by {holder}. Wait until it is done and "
        "try again, or wait for it with a longer wait.",
        holder=holder,
    )


class WriteLock:
    """``flock`` on ``write.lock``: the system lets go of it however the holder dies."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._path = store / "write.lock"
        self._descriptor: int | None = None

    def acquire(self, wait_seconds: float) -> None:
        """Take the lock and write down who has it.

        Raises:
            CatalogLockedError: Another, of this process or not, had it all of ``wait_seconds``.
            NotWritableError: The store may only be read.
        """
        deadline = time.monotonic() + wait_seconds
        with storing(self._store):
            # Python opens it non-inheritable: a spawned child does not hold the lock on.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = self._holder()
                    os.close(descriptor)
                    raise locked_error(str(self._store), holder) from None
                time.sleep(0.02)
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        self._write_holder(descriptor)

    def check(self) -> None:
        """Nothing to do: the system takes it from nobody."""

    def release(self) -> None:
        """Let go of the lock; nothing if it is not held."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _write_holder(descriptor: int) -> None:
        """A courtesy to those who are refused: a full disk must not keep a writer from making room."""
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(who_am_i()) + "\n").encode(), 0)

    def _holder(self) -> str:
        try:
            return holder_of(self._path.read_bytes())
        except OSError:
            return "another process"
