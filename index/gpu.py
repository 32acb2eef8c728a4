"""A FAISS index's copy on one GPU: follows what is added, hides what is removed, steps aside when it cannot.

The index on the CPU is the truth, and every answer that the copy cannot give comes from there: the copy
holds at most as much as the GPU has room for, and keeps at most 2,048 neighbours. FAISS cannot take ids
out on a GPU. So a removed program stays there as a tombstone: its frames are dropped from the answers,
of which a few more are asked for, until a tenth of the copy is dead and it is made anew.

Shape letters: ``nq`` queries, ``nb`` stored vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.base import Ids, Vectors
from index.engines import engine_bytes
from index.selectors import Range, lie_in, merged

_log = logging.getLogger(__name__)

#: FAISS's GPU kernels keep at most so many neighbours.
MAX_K = 2048
#: Kinds that FAISS can clone to a GPU; 4-bit product codes are none of them.
CLONABLE = ("flat", "ivf", "ivf-fp16")
#: Part of the copy that may be tombstones.
DEAD_ABOVE = 0.1
#: Room that searching takes beside the vectors: FAISS's scratch memory and the context of CUDA.
_SCRATCH_BYTES = 2 << 30

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def free_bytes(number: int) -> int | None:
    """Free memory of a GPU, by CUDA's driver; None where it does not tell."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), number)
        or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        or cuda.cuCtxPushCurrent_v2(context)
    )
    if failed:
        return None
    told = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    cuda.cuDevicePrimaryCtxRelease_v2(device)
    return int(free.value) if told else None


def card_name(number: int) -> str | None:
    """What a GPU is called, by CUDA's driver; None where it does not tell."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), number)
        or cuda.cuDeviceGetName(name, len(name), device)
    )
    return None if failed else name.value.decode(errors="replace")


class GpuCopy:
    """What searches a GPU for one index; made lazily by the first search.

    Args:
        faiss: The module.
        number: Of the GPU.
        kind: Of the index; see :data:`index.engines.KINDS`.
    """

    def __init__(self, faiss: Any, number: int, kind: str) -> None:
        self._faiss, self._number, self._kind = faiss, number, kind
        self._resources: Any = None
        self._index: Any = None
        self._dead: list[Range] = []
        self._n_dead = 0
        self._gave_up = False

    def forget(self) -> None:
        """Drop the copy; the next search makes it anew."""
        self._index, self._dead, self._n_dead = None, [], 0

    def add(self, vectors: Vectors, ids: Ids) -> None:
        """Follow an addition to the CPU's index."""
        if self._index is None:
            return
        if lie_in(ids, self._dead).any():
            self.forget()  # an id that comes back would be taken for dead
            return
        try:
            self._index.add_with_ids(vectors, ids)
        except RuntimeError as error:
            self._give_up(str(error))

    def remove(self, ranges: Sequence[Range], count: int) -> None:
        """Follow a removal of ``count`` vectors from the CPU's index."""
        if self._index is None:
            return
        self._dead = merged([*self._dead, *ranges])
        self._n_dead += count
        if self._n_dead > DEAD_ABOVE * int(self._index.ntotal):
            self.forget()

    def search(self, raw: Any, queries: Vectors, k: int) -> Found | None:
        """The k nearest, (nq, k) similarities and ids, padded by -1; None where the CPU must answer.

        Args:
            raw: The CPU's index, as it is now.
            queries: (nq, d).
            k: Neighbours.
        """
        if k > MAX_K or not self._is_ready(raw):
            return None
        try:
            if self._dead:
                return self._living(raw, queries, k)
            found: Found = self._index.search(queries, k)
        except RuntimeError as error:  # no scratch memory left, say
            self._give_up(str(error).strip().splitlines()[-1])
            return None
        return found

    def _living(self, raw: Any, queries: Vectors, k: int) -> Found:
        """As :meth:`search`, without the dead: some more are asked for, and more yet if too few."""
        wide = min(MAX_K, k + min(self._n_dead, max(k, 64)))
        similarities = np.full((queries.shape[0], k), -np.inf, dtype=np.float32)
        ids = np.full((queries.shape[0], k), -1, dtype=np.int64)
        rows = np.arange(queries.shape[0])
        while rows.size:
            found, found_ids = self._index.search(queries[rows], wide)
            dead = lie_in(found_ids, self._dead)
            # Live ones first, each in its order.
            order = np.argsort(dead | (found_ids < 0), axis=1, kind="stable")[:, :k]
            n_live = np.count_nonzero(~dead & (found_ids >= 0), axis=1)
            is_live = np.arange(k) < n_live[:, None]
            similarities[rows] = np.where(is_live, np.take_along_axis(found, order, 1), -np.inf)
            ids[rows] = np.where(is_live, np.take_along_axis(found_ids, order, 1), -1)
            # The dead ones may have pushed live ones out, unless there was room left.
            short = (n_live < k) & (found_ids[:, -1] >= 0) & (self._n_dead > 0)
            rows = rows[short]
            if wide == MAX_K and rows.size:
                similarities[rows], ids[rows] = raw.search(queries[rows], k)
                break
            wide = min(4 * wide, MAX_K)
        return similarities, ids

    def _is_ready(self, raw: Any) -> bool:
        if self._index is not None:
            return True
        if self._gave_up:
            return False
        self._load(raw)
        return self._index is not None

    def _load(self, raw: Any) -> None:
        """Clone the CPU's index, if there is room and all of it arrives."""
        if self._kind not in CLONABLE:
            return self._give_up(f"an index of kind {self._kind} cannot be cloned to a GPU")
        wanted = engine_bytes(self._kind, int(raw.d), int(raw.ntotal), int(getattr(raw, "nlist", 0)))
        free = free_bytes(self._number)
        if free is not None and wanted + _SCRATCH_BYTES > free:
            return self._give_up(
                f"{int(raw.ntotal)} vectors take {_gb(wanted)} and {_gb(_SCRATCH_BYTES)} to search them, "
                f"but only {_gb(free)} are free"
            )
        try:
            if self._resources is None:
                self._resources = self._faiss.StandardGpuResources()
            clone = self._faiss.index_cpu_to_gpu(self._resources, self._number, raw)
        except RuntimeError as error:
            return self._give_up(str(error).strip().splitlines()[-1])
        if int(clone.ntotal) != int(raw.ntotal):
            return self._give_up(f"it holds {int(clone.ntotal)} of {int(raw.ntotal)} vectors")
        self._index = clone
        return None

    def _give_up(self, why: str) -> None:
        self._index, self._gave_up = None, True
        _log.warning("GPU %d cannot serve this index: %s; the CPU searches instead", self._number, why)


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
