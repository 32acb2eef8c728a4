"""The checksum of a snapshot's files is the same however it is computed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import snapshot
from index.snapshot import _pages_checksum

PAGE = 4096


def _plainly(content: bytes) -> int:
    """CRC-32 over the sum of each page's 64-bit words, page by page."""
    crc = 0
    for start in range(0, len(content), PAGE):
        page = content[start : start + PAGE].ljust(PAGE, b"\0")
        total = sum(int.from_bytes(page[at : at + 8], "little") for at in range(0, PAGE, 8))
        crc = zlib.crc32((total % (1 << 64)).to_bytes(8, "little"), crc)
    return crc


def _content(size: int) -> bytes:
    return np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()


SIZES = [0, 1, 7, 8, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 13, 8 * PAGE, 8 * PAGE + 1, 61 * PAGE + 4095]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("block", "stretch"), [(1, 1), (1, 4), (2, 8), (3, 8), (64, 64), (1024, 16384)])
@pytest.mark.parametrize("cores", [1, 3])
def test_the_checksum_is_by_pages_in_order(
    size: int, block: int, stretch: int, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is read at once and by however many threads; the sizes are in pages."""
    content = _content(size)
    (tmp_path / "x").write_bytes(content)
    monkeypatch.setattr(snapshot, "_BLOCK", block * PAGE)
    monkeypatch.setattr(snapshot, "_STRETCH", stretch * PAGE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert _pages_checksum(tmp_path / "x") == _plainly(content)


def test_a_file_larger_than_a_stretch(tmp_path: Path) -> None:
    """As it is set: several threads, and a last page that is not full."""
    content = _content(1 << 20) * 65 + b"end"
    (tmp_path / "x").write_bytes(content)
    words = np.frombuffer(content.ljust(-(-len(content) // PAGE) * PAGE, b"\0"), dtype=np.uint64)
    assert _pages_checksum(tmp_path / "x") == zlib.crc32(words.reshape(-1, PAGE // 8).sum(axis=1).data)


def test_what_the_checksum_of_a_format_2_file_is(tmp_path: Path) -> None:
    """A number on record: snapshots that were written before must stay readable."""
    (tmp_path / "x").write_bytes(bytes(range(256)) * 100)
    assert _pages_checksum(tmp_path / "x") == 3083409181


def test_short_reads_are_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, whole = _content(9 * PAGE + 77), os.preadv
    (tmp_path / "x").write_bytes(content)

    def some(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        return whole(descriptor, [memoryview(buffers[0])[:1000]], offset)

    monkeypatch.setattr(os, "preadv", some)
    assert _pages_checksum(tmp_path / "x") == _plainly(content)
