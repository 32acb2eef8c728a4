"""Where a store is: a folder, or a prefix of a bucket in S3-compatible object storage.

LanceDB keeps the tables in either by itself. What else a store holds — ``store.json``, the lock, the
calibration — goes through a :class:`Place`. The FAISS cache is read through memory maps and so lies on a
local disk in any case: in the store where that is a folder, else in the user's cache.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from index.errors import CatalogError
from index.files import WriteLock, folder_bytes, storing, write_atomically

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class WriterLock(Protocol):
    """The lock of a store's one writer."""

    def acquire(self, wait_seconds: float) -> None:
        """Take it and write down who has it.

        Raises:
            CatalogLockedError: Another, of this process or not, had it all of ``wait_seconds``.
        """
        ...

    def check(self) -> None:
        """Make sure that it is still held; cheap, for it comes before every change.

        Raises:
            LeaseLostError: It ran out meanwhile.
        """
        ...

    def release(self) -> None:
        """Let go of it; nothing if it is not held."""
        ...


class Place(ABC):
    """What a store's small files are read from and written to; ``str()`` names it in messages."""

    #: Where LanceDB keeps the tables.
    tables: str | Path
    #: What LanceDB must be told to reach them.
    storage_options: Mapping[str, str] | None = None

    @property
    @abstractmethod
    def full_name(self) -> str:
        """The name that is good from everywhere."""

    @abstractmethod
    def name_of(self, name: str) -> str:
        """What to call one of its files in messages."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none.

        Raises:
            OSError: It cannot be read from its disk.
            CatalogError: The storage cannot be reached, or refuses.
        """

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Replace a file so that a reader, or a crash, sees the old content or the new one.

        Raises:
            OSError: It cannot be written to its disk.
            CatalogError: The storage cannot be reached, or refuses.
        """

    @abstractmethod
    def entries(self) -> list[str]:
        """Names of the files and folders at the top; none where the place is not there yet.

        Raises:
            CatalogError: The storage cannot be reached, or refuses; or it is a file where a folder must be.
        """

    @abstractmethod
    def make(self) -> None:
        """Make the folder and its parents where there must be some."""

    @abstractmethod
    def size(self, part: str = "") -> int:
        """Bytes of all files, or of those below one folder."""

    @abstractmethod
    def cache_root(self) -> Path:
        """The local folder that holds the store's folder ``cache``; it need not be there."""

    @abstractmethod
    def lock(self) -> WriterLock:
        """The writer lock, not yet taken."""

    @abstractmethod
    def same_as(self, other: Place) -> bool:
        """Whether it is the same store, however it was named."""

    def explained(self) -> AbstractContextManager[None]:
        """Turns what LanceDB raises when the storage fails into a CatalogError that says what to do."""
        return contextlib.nullcontext()

    def changing(self) -> AbstractContextManager[None]:
        """As :meth:`explained`, of what writes."""
        return self.explained()


class LocalPlace(Place):
    """A folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables = path / "tables"

    def __str__(self) -> str:
        return str(self.path)

    @property
    def full_name(self) -> str:
        """The absolute path."""
        return str(self.path.resolve())

    def name_of(self, name: str) -> str:
        """Its path."""
        return str(self.path / name)

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Replace a file; the folder must be there."""
        with self.changing():
            write_atomically(self.path / name, content)

    def entries(self) -> list[str]:
        """Names of what is in the folder."""
        if self.path.exists() and not self.path.is_dir():
            raise CatalogError(f"{self.path} is not a folder. Use another --store.")
        return [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []

    def make(self) -> None:
        """Make the folder and its parents."""
        with self.changing():
            self.path.mkdir(parents=True, exist_ok=True)

    def size(self, part: str = "") -> int:
        """Bytes of all files below the folder, or below one in it."""
        return folder_bytes(self.path / part)

    def cache_root(self) -> Path:
        """The store itself: it may be copied with its cache."""
        return self.path

    def lock(self) -> WriterLock:
        """A lock of the file system."""
        return WriteLock(self.path)

    def changing(self) -> AbstractContextManager[None]:
        """A full disk, a read-only one or a missing right in one line."""
        return storing(self.path)

    def same_as(self, other: Place) -> bool:
        """Whether both paths lead to one folder."""
        return isinstance(other, LocalPlace) and self.path.samefile(other.path)


def place_of(store: str | Path | Place) -> Place:
    """Where a store is, by its name.

    Args:
        store: ``s3://BUCKET/PREFIX`` as text; a folder, as text or path; or a place, which is given back.

    Raises:
        CatalogError: It has another scheme, or names no bucket.
        BackendMissingError: It is in object storage, and the package for that is not installed.
        ValueError: It was an address and became a path, which has lost one of its slashes.
    """
    if isinstance(store, Place):
        return store
    if isinstance(store, Path):
        if store.parts[:1] == ("s3:",):
            raise ValueError(f"{store} is no folder: give the address of a store as text")
        return LocalPlace(store)
    scheme = _SCHEME.match(store)
    if scheme is None:
        return LocalPlace(Path(store))
    if scheme[1] != "s3":
        raise CatalogError(
            f"the store {store} is neither a folder nor s3://BUCKET/PREFIX. Use another --store."
        )
    from index.objects import ObjectPlace

    return ObjectPlace.of(store)
