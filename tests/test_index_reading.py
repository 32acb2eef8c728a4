"""Lists that are read with several cores are those that FAISS reads, and a damaged file is an error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_index_exact import assert_same, grid

from index import reading
from index.errors import IndexStoreError
from index.faiss_backend import FaissIndex, load_faiss
from index.reading import read_lists
from index.rows import ORDINAL_BITS

D, N, NLIST = 6, 400, 24
KINDS = ("ivf", "ivf-fp16")


def _written(kind: str, path: Path) -> FaissIndex:
    """An index whose lists are unequal, some of them empty, and out of order, written to a file."""
    index = FaissIndex(D, kind=kind, nlist=NLIST, nprobe=3)
    ids = (np.arange(N, dtype=np.int64) // 40 << ORDINAL_BITS) + np.arange(N) % 40
    xb = grid(3, N, D)
    index.add(xb, ids)
    biggest = max(range(NLIST), key=index.raw.invlists.list_size)
    for number in range(0, NLIST, 5):
        if number != biggest:
            own = _lists_of(index.raw)[number][0]
            index.remove_ranges([(i, i + 1) for i in own.tolist()])
    index.remove_ranges([(7, 11), (3 << ORDINAL_BITS, (3 << ORDINAL_BITS) + 5)])
    index.write(path)
    return index


def _lists_of(raw: Any) -> list[tuple[np.ndarray, bytes]]:
    """Ids and codes of each list."""
    faiss, lists = load_faiss(), raw.invlists
    found = []
    for number in range(raw.nlist):
        size = lists.list_size(number)
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size).copy() if size else np.zeros(0, np.int64)
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * raw.code_size).tobytes() if size else b""
        found.append((ids, codes))
    return found


def _assert_same_lists(got: Any, want: Any) -> None:
    for (ids, codes), (wanted_ids, wanted_codes) in zip(_lists_of(got), _lists_of(want), strict=True):
        np.testing.assert_array_equal(ids, wanted_ids)
        assert codes == wanted_codes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cores", [1, 2, 5])
@pytest.mark.parametrize(("block_bytes", "block_lists"), [(1, 512), (500, 512), (1 << 22, 3), (1 << 22, 512)])
def test_lists_equal_those_that_faiss_reads(
    kind: str,
    cores: int,
    block_bytes: int,
    block_lists: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By value, with any number of cores and however the lists are cut into blocks."""
    index = _written(kind, tmp_path / "x")
    monkeypatch.setattr(reading, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(reading, "_BLOCK_LISTS", block_lists)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    again = FaissIndex.read(tmp_path / "x", nprobe=3)
    plain = load_faiss().read_index(str(tmp_path / "x"))
    assert 0 in [len(ids) for ids, _ in _lists_of(plain)]
    _assert_same_lists(again.raw, plain)
    assert (again.raw.ntotal, again.raw.nprobe, again.kind) == (plain.ntotal, 3, kind)
    np.testing.assert_array_equal(again.ids, index.ids)
    xq = grid(4, 9, D)
    assert_same(again.search(xq, 7), index.search(xq, 7))


@pytest.mark.parametrize("keep", [0, 1])
def test_lists_that_are_mostly_empty(keep: int, tmp_path: Path) -> None:
    """FAISS writes the sizes of such in another form; none at all is one too."""
    index = _written("ivf-fp16", tmp_path / "x")
    index.remove_ranges([(keep, 1 << 62)])
    index.write(tmp_path / "x")
    again = FaissIndex.read(tmp_path / "x")
    assert again.ids.tolist() == list(range(keep))
    _assert_same_lists(again.raw, index.raw)
    again.add(grid(1, 5, D), np.arange(5) + 90)
    assert again.ntotal == keep + 5


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_the_indexs_own(kind: str, tmp_path: Path) -> None:
    """The file may go, no map of it stays, and what is added and removed is as in the index written."""
    path = tmp_path / "x"
    index = _written(kind, path)
    before = path.read_bytes()
    again = FaissIndex.read(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    for one in (index, again):
        one.remove_ranges([(0, 3), (5 << ORDINAL_BITS, 7 << ORDINAL_BITS)])
        one.add(grid(8, 60, D), np.arange(60) + (50 << ORDINAL_BITS))
    assert path.read_bytes() == before
    path.unlink()
    _assert_same_lists(again.raw, index.raw)
    again.write(path)
    _assert_same_lists(FaissIndex.read(path).raw, index.raw)


def test_short_reads_are_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may give any part of what was asked for, up to the middle of an id."""
    index = _written("ivf-fp16", tmp_path / "x")
    whole = os.preadv
    given = iter(np.random.default_rng(0).integers(1, 90, 10**5).tolist())

    def some(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        room = next(given)
        cut = []
        for buffer in buffers:
            part = memoryview(buffer)[:room]
            cut.append(part)
            room -= len(part)
            if room == 0:
                break
        return whole(descriptor, cut, offset)

    monkeypatch.setattr(os, "preadv", some)
    _assert_same_lists(FaissIndex.read(tmp_path / "x").raw, index.raw)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_an_error_wherever(kind: str, tmp_path: Path) -> None:
    """Never a crash: no page of a map is touched that the file does not have."""
    _written(kind, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    for size in {*range(0, len(content), 97), len(content) - 1}:
        (tmp_path / "cut").write_bytes(content[:size])
        with pytest.raises(IndexStoreError, match="cut"):
            FaissIndex.read(tmp_path / "cut")


@pytest.mark.parametrize("damage", [10**6, 1 << 40, (1 << 64) - 1])
def test_a_damaged_size_asks_for_no_memory(damage: int, tmp_path: Path) -> None:
    """The size of a list, which stands before the lists, cannot be more than the file has."""
    index = _written("ivf-fp16", tmp_path / "x")
    content = bytearray((tmp_path / "x").read_bytes())
    sizes = np.array([index.raw.invlists.list_size(number) for number in range(NLIST)], dtype=np.uint64)
    at = content.index(sizes.tobytes())
    content[at : at + 8] = damage.to_bytes(8, "little")
    (tmp_path / "x").write_bytes(content)
    # Newer versions of FAISS find it themselves.
    with pytest.raises(IndexStoreError, match=r"cut off|no readable FAISS index"):
        FaissIndex.read(tmp_path / "x")


def test_a_file_that_shrinks_or_goes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even after its size was looked at."""
    faiss, path = load_faiss(), tmp_path / "x"
    _written("ivf-fp16", path)
    raw = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    filled = reading._filled

    def cut_first(*args: Any) -> Any:
        os.truncate(path, path.stat().st_size - 1)
        return filled(*args)

    monkeypatch.setattr(reading, "_filled", cut_first)
    with pytest.raises(IndexStoreError, match="before its lists do"):
        read_lists(faiss, raw, path)
    with pytest.raises(IndexStoreError, match="is cut off: its lists would end"):
        read_lists(faiss, raw, path)
    path.unlink()
    with pytest.raises(IndexStoreError, match="cannot be read"):
        read_lists(faiss, raw, path)


def test_lists_in_another_file_are_refused(tmp_path: Path) -> None:
    """FAISS can write an index that only names the file of its lists; we make none such."""
    faiss = load_faiss()
    raw = _written("ivf", tmp_path / "x").raw
    elsewhere = faiss.OnDiskInvertedLists(raw.nlist, raw.code_size, str(tmp_path / "lists"))
    elsewhere.merge_from_1(raw.invlists)
    raw.replace_invlists(elsewhere, False)
    faiss.write_index(raw, str(tmp_path / "y"))
    with pytest.raises(IndexStoreError, match="another file"):
        FaissIndex.read(tmp_path / "y")
    raw.replace_invlists(faiss.ArrayInvertedLists(raw.nlist, raw.code_size), False)


def test_reading_leaves_no_memory_behind(tmp_path: Path) -> None:
    """Lists of 8 MB, read often: neither they nor a map of their file stay."""
    d, n = 128, 30_000
    index = FaissIndex(d, kind="ivf-fp16", nlist=8)
    index.train(grid(1, 300, d))
    index.add(np.resize(grid(2, 1000, d), (n, d)), np.arange(n))
    index.write(tmp_path / "x")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(3):
        FaissIndex.read(tmp_path / "x")
    before = resident()
    for _ in range(12):
        FaissIndex.read(tmp_path / "x")
    assert resident() - before < 4 * n * (2 * d + 8)
