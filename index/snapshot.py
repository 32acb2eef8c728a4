"""The FAISS cache on disk: one snapshot of the visible frames (or sounds), whole or not there.

``<store>/cache/<model>/`` (of a store in object storage: in the user's cache) holds one folder per
snapshot and the file ``CURRENT`` that names the one to use::

    snap-000012-9f3a…/
        assets.npy      (na, 3) int64: number, ordinal, frame count of each asset, in order
        t_seconds.npy   (n,) float64
        vectors.npy     (n, d) float16, read through a memory map
        index.faiss     only for a kind with centroids; a flat index is faster made than read;
                        index-000.faiss and so on for one that is cut into shards
        manifest.json   written last: what the snapshot is of, sizes and checksums

Rows run through the assets in order, and the frames of a program are numbered in that order, so ids
need no file: asset ``a`` holds the ids ``(number << 24) + frames of the assets before it``.

Shape letters: ``na`` assets, ``n`` frames, ``d`` dimensions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.drift import Drift, Training, drift_of, to_json, training_of
from index.errors import IndexStoreError
from index.files import fsync_folder, storing, write_atomically

#: Format 1 had the CRC-32 of whole files, which takes about as long as reading them.
FORMAT = 2
CURRENT = "CURRENT"
_PAGE = 4096
#: Bytes that are read at a time, and of which one thread makes the sums; whole pages both.
_BLOCK, _STRETCH = 1 << 22, 1 << 26
_NAME = re.compile(r"snap-\d+-[0-9a-f]+")
#: Vectors above this size are checksummed only by a thorough check; sizes always are.
CHECKSUM_MAX_BYTES = 1 << 30
#: How much is compared by checksum: nothing (just written), what is small, what is going to be read, all.
_SIZES, _SMALL, _AS_READ, _EVERYTHING = range(4)


class SnapshotError(IndexStoreError):
    """The snapshot is damaged or of something else; the tables can make another."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What :func:`load_snapshot` found.

    Attributes:
        folder: Where it is.
        version: The catalog's version that it shows.
        kind: The FAISS index's kind.
        assets: (na, 3) int64: number, ordinal, frame count.
        t_seconds: (n,) float64.
        vectors: (n, d) float16, memory-mapped.
        index_files: The FAISS index, where the kind has centroids; one file for each shard.
        training: When its centroids were made; None without any.
        drift: How it stood when it was saved; None without centroids.
    """

    folder: Path
    version: int
    kind: str
    assets: NDArray[np.int64]
    t_seconds: NDArray[np.float64]
    vectors: NDArray[np.float16]
    index_files: tuple[Path, ...]
    training: Training | None = None
    drift: Drift | None = None


def cache_folder(store: Path, fingerprint: str) -> Path:
    """Where the snapshots of one model's descriptors are; ``store`` as a place's ``cache_root`` says."""
    return store / "cache" / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]


def load_snapshot(
    cache: Path, *, fingerprint: str, d: int, thorough: bool = False, with_index: bool = True
) -> Snapshot | None:
    """Read and check the current snapshot; writes nothing.

    Args:
        cache: From :func:`cache_folder`.
        fingerprint: The model whose descriptors are wanted.
        d: Their dimensions.
        thorough: Checksum the vectors too, however large.
        with_index: The FAISS index is going to be read; else its checksum is left alone.

    Returns:
        The snapshot, or None where none was ever saved.

    Raises:
        SnapshotError: It is damaged or foreign; the message says what is wrong.
    """
    while True:
        name = current_name(cache)
        if name is None:
            return None
        try:
            check = _EVERYTHING if thorough else _AS_READ if with_index else _SMALL
            return _load(cache / name, fingerprint=fingerprint, d=d, check=check)
        except (OSError, ValueError, KeyError, TypeError, SnapshotError) as error:
            if current_name(cache) != name:
                continue  # a writer replaced it meanwhile and deleted this one
            if isinstance(error, SnapshotError):
                raise
            raise SnapshotError(f"snapshot {name} is damaged: {error!r}") from error


def current_name(cache: Path) -> str | None:
    """The name of the current snapshot's folder, or None where none was ever saved.

    Raises:
        SnapshotError: ``CURRENT`` cannot be read or names no snapshot.
    """
    try:
        name = (cache / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{cache / CURRENT} cannot be read: {error!r}") from error
    if not _NAME.fullmatch(name):
        raise SnapshotError(f"{cache / CURRENT} names no snapshot: {name[:80]!r}")
    return name


@dataclass(frozen=True)
class SavedIndex:
    """What a snapshot's manifest says, without its arrays.

    Attributes:
        version: The catalog's version that it shows.
        kind: The FAISS index's kind.
        n: Frames.
        training: When its centroids were made; None without any.
        drift: How it stood when it was saved; None without centroids.
    """

    version: int
    kind: str
    n: int
    training: Training | None
    drift: Drift | None


def read_manifest(cache: Path) -> SavedIndex | None:
    """What the current snapshot says of itself; None where there is none that can be read."""
    try:
        name = current_name(cache)
        if name is None:
            return None
        manifest = _manifest(cache / name)
        return SavedIndex(
            int(manifest["version"]),
            str(manifest["kind"]),
            int(manifest["n"]),
            training_of(manifest.get("training")),
            drift_of(manifest.get("drift")),
        )
    except (OSError, ValueError, KeyError, TypeError, SnapshotError):
        return None  # opening the index warns of it


def _check_of(name: str, size: int) -> int:
    """How much checking includes a file."""
    if name.endswith(".faiss"):
        return _AS_READ
    return _EVERYTHING if name == "vectors.npy" and size > CHECKSUM_MAX_BYTES else _SMALL


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest.pop("checksum") != _checksum(manifest):
        raise SnapshotError(f"snapshot {folder.name}: manifest.json is damaged")
    return manifest


def _load(folder: Path, *, fingerprint: str, d: int, check: int) -> Snapshot:
    manifest = _manifest(folder)
    for name, wanted in (("format", (1, FORMAT)), ("fingerprint", (fingerprint,)), ("d", (d,))):
        if manifest[name] not in wanted:
            raise SnapshotError(f"snapshot {folder.name}: {name} is {manifest[name]!r}, not {wanted[-1]!r}")
    checksum_of = _file_crc if manifest["format"] == 1 else _pages_checksum
    for name, (size, checksum) in manifest["files"].items():
        file = folder / name
        if file.stat().st_size != size:
            raise SnapshotError(f"snapshot {folder.name}: {name} has {file.stat().st_size} bytes, not {size}")
        if check >= _check_of(name, size) and checksum_of(file) != checksum:
            raise SnapshotError(f"snapshot {folder.name}: {name} fails its checksum")
    assets = np.load(folder / "assets.npy")
    t_seconds = np.load(folder / "t_seconds.npy")
    n = int(manifest["n"])
    # There is no memory map of nothing.
    vectors = np.load(folder / "vectors.npy", mmap_mode="r" if n else None)
    if int(assets[:, 2].sum()) != n or t_seconds.shape != (n,) or vectors.shape != (n, d):
        raise SnapshotError(f"snapshot {folder.name}: its arrays do not fit one another")
    return Snapshot(
        folder=folder,
        version=int(manifest["version"]),
        kind=str(manifest["kind"]),
        assets=assets,
        t_seconds=t_seconds,
        vectors=vectors,
        index_files=tuple(folder / name for name in sorted(manifest["files"]) if name.endswith(".faiss")),
        training=training_of(manifest.get("training")),
        drift=drift_of(manifest.get("drift")),
    )


def save_snapshot(
    cache: Path,
    *,
    fingerprint: str,
    d: int,
    version: int,
    kind: str,
    assets: NDArray[np.int64],
    t_seconds: NDArray[np.float64],
    vector_blocks: Iterable[NDArray[np.float16]],
    write_index: Callable[[Path], None] | None,
    training: Training | None = None,
    drift: Drift | None = None,
) -> Snapshot:
    """Write a snapshot and make it the current one; the caller holds the store's writer lock.

    A kill at any instant, or a disk that is full, leaves the former snapshot current, or this one. What
    killed savers left, and the former snapshot, is deleted.

    Args:
        cache: From :func:`cache_folder`.
        fingerprint: The model of the descriptors.
        d: Their dimensions.
        version: The catalog's version shown.
        kind: The FAISS index's kind.
        assets: (na, 3) int64: number, ordinal, frame count.
        t_seconds: (n,) float64.
        vector_blocks: (m, d) float16 blocks, n rows in all.
        write_index: Writes the FAISS index into a folder; None for a kind without centroids.
        training: When its centroids were made.
        drift: How it stands.

    Returns:
        The snapshot as it is on disk.

    Raises:
        NotWritableError: The disk is full or read-only.
    """
    name = f"snap-{version:06d}-{secrets.token_hex(8)}"
    temporary = cache / f"tmp-{name}"
    n = int(t_seconds.size)
    with storing(cache):
        temporary.mkdir(parents=True)
        try:
            _write_array(temporary / "assets.npy", [assets], assets.shape, "<i8")
            _write_array(temporary / "t_seconds.npy", [t_seconds], (n,), "<f8")
            _write_array(temporary / "vectors.npy", vector_blocks, (n, d), "<f2")
            if write_index is not None:
                write_index(temporary)
            files = _synced(temporary)
            manifest: dict[str, Any] = {
                "format": FORMAT,
                "fingerprint": fingerprint,
                "d": d,
                "n": n,
                "version": version,
                "kind": kind,
                "training": to_json(training),
                "drift": to_json(drift),
                "files": files,
            }
            manifest["checksum"] = _checksum(manifest)
            write_atomically(temporary / "manifest.json", (json.dumps(manifest) + "\n").encode())
            temporary.rename(cache / name)
            fsync_folder(cache)
            write_atomically(cache / CURRENT, f"{name}\n".encode())
        except BaseException:
            # The disk may be full: what is of no use must not take up what is left of it.
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(SnapshotError):  # it would hide what went wrong
                if current_name(cache) != name:
                    shutil.rmtree(cache / name, ignore_errors=True)
            raise
    _delete_others(cache, name)
    return _load(cache / name, fingerprint=fingerprint, d=d, check=_SIZES)


def _write_array(path: Path, blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], descr: str) -> None:
    """An .npy file written block by block: all vectors may not fit into memory.

    ``np.save`` would not say why it could not write.
    """
    rows = 0
    with path.open("wb") as file:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=descr).data)
            rows += block.shape[0]
    if rows != shape[0]:
        raise ValueError(f"{rows} rows were given for a snapshot of {shape[0]}")


def _synced(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of each file, once it is on the disk."""
    files = {}
    for file in sorted(folder.iterdir()):
        _fsync_file(file)
        files[file.name] = [file.stat().st_size, _pages_checksum(file)]
    return files


def _delete_others(cache: Path, name: str) -> None:
    """Readers of the former snapshot keep their maps: the system frees a file when the last one goes."""
    for entry in cache.iterdir():
        if entry.name in (name, CURRENT):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _checksum(manifest: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _file_crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _pages_checksum(path: Path) -> int:
    """CRC-32 over the sums of a file's pages (4 KiB as 64-bit words): as fast as reading it.

    A changed word, a page of zeros and a page out of place all show, which is what disks and cut-off
    writes do to a file. The sums are made by as many threads as there are cores.
    """
    crc = 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        starts = range(0, size, _STRETCH)
        page_sums = functools.partial(_page_sums, file.fileno(), size)
        with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), max(1, len(starts)))) as pool:
            for sums in pool.map(page_sums, starts) if len(starts) > 1 else map(page_sums, starts):
                crc = zlib.crc32(sums.data, crc)
    return crc


def _page_sums(descriptor: int, size: int, start: int) -> NDArray[np.uint64]:
    """(pages,) the sums of a stretch of a file of ``size`` bytes; its last page is filled up with zeros."""
    stop = min(start + _STRETCH, size)
    sums = np.zeros(-(-(stop - start) // _PAGE), dtype=np.uint64)
    block = np.empty(min(_BLOCK, sums.size * _PAGE), dtype=np.uint8)
    for at in range(start, stop, _BLOCK):
        read = _read_fully(descriptor, block[: min(_BLOCK, stop - at)], at)
        first, whole = (at - start) // _PAGE, -(-read // _PAGE)
        block[read : whole * _PAGE] = 0
        pages = block[: whole * _PAGE].view(np.uint64).reshape(-1, _PAGE // 8)
        pages.sum(axis=1, out=sums[first : first + whole])
    return sums


def _read_fully(descriptor: int, block: NDArray[np.uint8], offset: int) -> int:
    """Read as much as there is room for; the system may give less at a time."""
    read = 0
    while read < block.size and (part := os.preadv(descriptor, [block[read:].data], offset + read)):
        read += part
    return read


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
