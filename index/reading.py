"""Reading a FAISS file of inverted lists with several cores, and each byte of it once.

``faiss.read_index`` first makes all lists, filled with zeros, then reads each, on one core. Here FAISS reads
what stands before the lists. Then this thread makes the lists, block by block; a thread that has nothing to
do fills the block, whose memory is still in the processor's cache, and otherwise this one does.

FAISS can leave the lists in a map of the file (``IO_FLAG_MMAP``), which serves only to learn where they lie:
copied from there, the file's pages would count as the process's own memory beside the copy, and a file that
is cut off would end the process. With ``IO_FLAG_MMAP_IFC``, removing would write into a map that may only be
read.

Shape letters: ``n`` vectors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.base import Ids
from index.errors import IndexStoreError

#: Bytes of lists that are read at once, small enough to stay in the cache from making to filling; and lists,
#: of two pieces each, of which the system takes 1,024 in one call.
_BLOCK_BYTES, _BLOCK_LISTS = 1 << 22, 512
_ID_BYTES = 8


def read_lists(faiss: Any, raw: Any, path: Path) -> Ids:
    """Bring the inverted lists of an index into memory, where they can be changed.

    Args:
        faiss: The module.
        raw: The index, as ``faiss.read_index`` gives it with ``IO_FLAG_MMAP``. Its lists are replaced; they
            have no use where this fails.
        path: The file it was read from.

    Returns:
        (n,) the ids stored, in no promised order.

    Raises:
        IndexStoreError: The file ends before its lists do, or is gone, or names another that has them.
    """
    mapped = faiss.downcast_InvertedLists(raw.invlists)
    if not isinstance(mapped, faiss.OnDiskInvertedLists):  # blocks of product codes, which FAISS has read
        return _ids_of(faiss, raw)
    if mapped.filename:
        raise IndexStoreError(f"{path} has its lists in another file, which this version does not use")
    nlist, code_size = int(raw.nlist), int(mapped.code_size)
    sizes = [int(mapped.list_size(number)) for number in range(nlist)]
    starts = _starts(mapped, sizes, code_size + _ID_BYTES)
    lists = faiss.ArrayInvertedLists(nlist, code_size)
    try:
        # Before memory is asked for: a damaged size may be any number.
        if starts[-1] > path.stat().st_size:
            raise IndexStoreError(f"{path} is cut off: its lists would end at byte {starts[-1]}")
        ids = _filled(faiss, lists, sizes, starts, path)
    except OSError as error:
        raise IndexStoreError(f"{path} cannot be read: {error}") from error
    raw.replace_invlists(lists, True)  # the map goes with those before
    lists.this.disown()
    return ids


def _starts(mapped: Any, sizes: Sequence[int], entry: int) -> list[int]:
    """Where in the file each list begins, and the last ends: they lie one after the other."""
    first = int(mapped.lists.at(0).offset) if sizes else 0
    return list(accumulate((size * entry for size in sizes), initial=first))


def _filled(faiss: Any, lists: Any, sizes: Sequence[int], starts: Sequence[int], path: Path) -> Ids:
    """Make and fill the lists; (n,) their ids."""
    helpers = len(os.sched_getaffinity(0)) - 1
    parts: list[Ids] = []
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(max(1, helpers)) as pool:
        given: list[Future[Ids]] = []
        for block in _blocks(starts):
            # Always by this thread: memory that another asks for goes to a pool of its own.
            pieces = _made(faiss, lists, sizes, block)
            if not pieces:
                continue
            parts += [task.result() for task in given if task.done()]
            given = [task for task in given if not task.done()]
            if len(given) < helpers:
                given.append(pool.submit(_read_block, file.fileno(), starts[block.start], pieces))
            else:
                parts.append(_read_block(file.fileno(), starts[block.start], pieces))
        parts += [task.result() for task in given]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _made(faiss: Any, lists: Any, sizes: Sequence[int], block: range) -> list[NDArray[np.uint8]]:
    """Make the lists of a block; the memory of the codes and of the ids of each that is not empty."""
    pieces = []
    for number in block:
        size = sizes[number]
        if size:
            lists.resize(number, size)
            pieces.append(faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size))
            pieces.append(faiss.rev_swig_ptr(lists.get_ids(number), size).view(np.uint8))
    return pieces


def _blocks(starts: Sequence[int]) -> Iterator[range]:
    """Lists, one block of them after the other."""
    first, nlist = 0, len(starts) - 1
    while first < nlist:
        last = first + 1
        while (
            last < nlist and last - first < _BLOCK_LISTS and starts[last + 1] - starts[first] <= _BLOCK_BYTES
        ):
            last += 1
        yield range(first, last)
        first = last


def _read_block(descriptor: int, offset: int, pieces: Sequence[NDArray[np.uint8]]) -> Ids:
    """Read lists, each its codes and then its ids; returns the ids of all."""
    left = [piece.data for piece in pieces]
    while left:
        read = os.preadv(descriptor, left, offset)
        if read == 0:
            raise OSError(f"it ends at byte {offset}, before its lists do")
        offset += read
        # The system reads 2 GB at most, and may read less than it is asked for.
        while left and read >= left[0].nbytes:
            read -= left.pop(0).nbytes
        if read:
            left[0] = left[0][read:]
    return np.concatenate(pieces[1::2]).view(np.int64)


def _ids_of(faiss: Any, raw: Any) -> Ids:
    """(n,) the ids of lists that are in memory."""
    lists = raw.invlists
    sizes = [int(lists.list_size(number)) for number in range(int(raw.nlist))]
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(number), size).copy() for number, size in enumerate(sizes) if size
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
