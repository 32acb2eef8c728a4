"""FAISS behind :class:`index.base.VectorIndex`; the only module that imports ``faiss``.

Three distributions on the package index (faiss-cpu, faiss-gpu, faiss-gpu-cuvs) install one module,
``faiss``; whichever was unpacked last wins and the others' files lie among its own. So the first
use checks that exactly one is installed.

Shape letters: ``nq`` queries, ``nb`` stored vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, Ids, SearchResult, Vectors
from index.errors import BackendMissingError, IndexStoreError
from index.exact import as_new_ids, as_vectors, best_first, check_k

DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
_EXTRAS = "program-matcher[cpu], program-matcher[gpu] (CUDA 12) or program-matcher[gpu-cuvs] (CUDA 13)"

#: ``flat``: exact. ``ivf``: inverted lists of float32. ``ivf-fp16``: inverted lists of float16, half
#: the memory and, for vectors that were float16 already (as the catalog's are), the same answers.
Kind = Literal["flat", "ivf", "ivf-fp16"]
KINDS: tuple[str, ...] = get_args(Kind)

FLAT_MAX = 200_000
IVF_MAX = 4_000_000
#: FAISS's GPU kernels keep at most so many neighbours.
GPU_MAX_K = 2048
#: Vectors a centroid to train on; FAISS warns below 39 and samples down above 256.
TRAIN_PER_LIST = 64


def choose_kind(n: int) -> Kind:
    """The index type for ``n`` vectors.

    Up to 200,000 an exact search costs single milliseconds, so nothing is approximated; up to 4
    million (8 GB at d = 512) inverted lists hold float32; beyond, float16. Both inverted types can
    remove and can be cloned to a GPU; HNSW cannot remove, so it is no choice here.

    Raises:
        ValueError: ``n`` < 0.
    """
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if n <= FLAT_MAX:
        return "flat"
    return "ivf" if n <= IVF_MAX else "ivf-fp16"


def choose_nlist(n: int) -> int:
    """Inverted lists for ``n`` vectors: 4·√n, but so few that each has 39 to train on.

    Source: FAISS wiki, "Guidelines to choose an index" (4·√n to 16·√n; 30 to 256 a centroid).
    """
    return max(1, min(4 * math.isqrt(max(n, 0)), n // 39))


def choose_nprobe(nlist: int) -> int:
    """Lists to visit: one in 32, at least 16 and at most 256 (and never more than there are)."""
    return min(nlist, max(16, min(nlist // 32, 256)))


@dataclass(frozen=True)
class FaissInfo:
    """The FAISS that is installed, as ``matcher doctor`` prints it.

    Attributes:
        version: Of the module, like "1.15.1".
        distribution: The package that installed it, like "faiss-cpu".
        gpu_count: GPUs it can use; 0 for a CPU build.
    """

    version: str
    distribution: str
    gpu_count: int


def installed_distributions() -> tuple[str, ...]:
    """Those of :data:`DISTRIBUTIONS` that are installed; imports nothing."""
    found = []
    for name in DISTRIBUTIONS:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


@functools.cache
def load_faiss() -> Any:
    """The module ``faiss``, imported at the first use.

    Raises:
        BackendMissingError: No distribution is installed, or several, or it does not import.
    """
    found = installed_distributions()
    if not found:
        raise BackendMissingError(f"FAISS is not installed. Install exactly one of {_EXTRAS}.")
    if len(found) > 1:
        raise BackendMissingError(
            f"{', '.join(found)} are installed together and overwrite each other's files. "
            f"Uninstall all of them, then install exactly one of {_EXTRAS}."
        )
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise BackendMissingError(
            f"{found[0]} is installed but does not import ({error}). Reinstall exactly one of {_EXTRAS}."
        ) from error


def gpu_count() -> int:
    """GPUs that the installed FAISS can use; 0 for a CPU build.

    Raises:
        BackendMissingError: FAISS is not installed properly.
    """
    faiss = load_faiss()
    # A CPU build may lack the function, or have it and answer 0; only a GPU build has resources.
    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    return int(faiss.get_num_gpus())


def describe() -> FaissInfo:
    """What is installed.

    Raises:
        BackendMissingError: FAISS is not installed properly.
    """
    faiss = load_faiss()
    return FaissInfo(
        version=str(faiss.__version__),
        distribution=installed_distributions()[0],
        gpu_count=gpu_count(),
    )


def gpu_number(device: str) -> int | None:
    """The GPU that ``device`` names: None for "cpu", 0 for "cuda", 3 for "cuda:3".

    Raises:
        ValueError: ``device`` is none of these.
    """
    if device == "cpu":
        return None
    if device == "cuda":
        return 0
    head, _, number = device.partition(":")
    if head == "cuda" and number.isdecimal():
        return int(number)
    raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}")


def require_gpu(device: str) -> int | None:
    """As :func:`gpu_number`, and make sure that the GPU is there.

    FAISS itself answers ``index_cpu_to_all_gpus`` without a GPU with an empty index and no error.

    Raises:
        BackendMissingError: The installed FAISS sees no such GPU.
        ValueError: ``device`` is no device's name.
    """
    number = gpu_number(device)
    if number is not None and number >= gpu_count():
        raise BackendMissingError(
            f"device {device!r} was asked for, but {installed_distributions()[0]} sees {gpu_count()} GPUs. "
            "Use --device cpu, or install program-matcher[gpu] (CUDA 12) or program-matcher[gpu-cuvs] "
            "(CUDA 13) in place of program-matcher[cpu]."
        )
    return number


class _IdSet:
    """The ids in use, sorted; appending ids above the highest (the usual case) copies nothing."""

    def __init__(self, ids: Ids) -> None:
        self._chunks: list[Ids] = [np.sort(ids)]
        self._highest = int(ids.max()) if ids.size else -1
        self.size = int(ids.size)

    def sorted(self) -> Ids:
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks)]
        return self._chunks[0]

    def first_used(self, ids: Ids) -> int | None:
        """One of ``ids`` that is in the set already, or None."""
        if ids.size == 0 or int(ids.min()) > self._highest:
            return None
        used = np.isin(ids, self.sorted())
        return int(ids[used][0]) if bool(used.any()) else None

    def add(self, ids: Ids) -> None:
        if ids.size == 0:
            return
        if int(ids.min()) > self._highest:
            self._chunks.append(np.sort(ids))
        else:
            self._chunks = [np.sort(np.concatenate([self.sorted(), ids]))]
        self._highest = max(self._highest, int(ids.max()))
        self.size += int(ids.size)

    def remove_ranges(self, ranges: Sequence[tuple[int, int]]) -> Ids:
        """Take out the ids of the half-open ranges; returns those that there were."""
        ids = self.sorted()
        gone = np.zeros(ids.size, dtype=np.bool_)
        for start, stop in ranges:
            low, high = np.searchsorted(ids, [start, stop])
            gone[low:high] = True
        kept, removed = ids[~gone], ids[gone]
        self._chunks = [kept]
        self.size = int(kept.size)
        self._highest = int(kept[-1]) if kept.size else -1
        return removed


class FaissIndex:
    """A :class:`index.base.VectorIndex` in FAISS, on the CPU or one GPU.

    The CPU index is always the truth. With a GPU, the first search after a change clones it there
    anew: GPU indexes cannot remove ids, and a program comes or goes seldom beside the searches.

    Not safe to change while another thread searches; :class:`index.live.LiveIndex` locks.

    Args:
        d: Dimensions of a vector.
        kind: "flat", "ivf" or "ivf-fp16"; see :func:`choose_kind`.
        nlist: Inverted lists; default by :func:`choose_nlist` from the vectors trained on.
        nprobe: Lists to visit; default by :func:`choose_nprobe`. ``nprobe == nlist`` is exact.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        BackendMissingError: FAISS, or the GPU asked for, is not there.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        d: int,
        *,
        kind: str = "flat",
        nlist: int | None = None,
        nprobe: int | None = None,
        device: str = "cpu",
    ) -> None:
        if d < 1:
            raise ValueError(f"d must be at least 1, got {d}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        for name, value in (("nlist", nlist), ("nprobe", nprobe)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._faiss = load_faiss()
        self._gpu = require_gpu(device)
        self._d, self._kind = d, kind
        self._nlist, self._nprobe = nlist, nprobe
        # Inverted lists begin with training, which wants vectors.
        self._index: Any = self._new_flat() if kind == "flat" else None
        self._ids = _IdSet(np.zeros(0, dtype=np.int64))
        self._on_gpu: Any = None
        self._gpu_resources: Any = None

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return self._d

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        return self._kind

    @property
    def ntotal(self) -> int:
        """Vectors stored."""
        return self._ids.size

    @property
    def nlist(self) -> int:
        """Inverted lists; 0 for ``flat`` and before training."""
        return int(self._index.nlist) if self._kind != "flat" and self.is_trained else 0

    @property
    def is_trained(self) -> bool:
        """Whether centroids are there (``flat`` needs none)."""
        return self._index is not None

    @property
    def ids(self) -> Ids:
        """(ntotal,) the ids stored, ascending; not to be written to."""
        return self._ids.sorted()

    @property
    def raw(self) -> Any:
        """The FAISS index on the CPU, to be measured against; not to be changed.

        Raises:
            ValueError: There are no centroids yet, and so no index.
        """
        if not self.is_trained:
            raise ValueError("an untrained index holds nothing")
        return self._index

    def train(self, xb: Vectors, *, expected: int | None = None) -> None:
        """Set the centroids, once; they stay as they are whatever is added or removed.

        Args:
            xb: (nb, d) a sample of what will be stored; more than 64 a list are sampled down, by a
                fixed seed.
            expected: Vectors that will be stored, which sets ``nlist``; default nb.

        Raises:
            ValueError: ``xb`` is empty, of another shape or not finite; or the index is trained.
        """
        if self.is_trained:
            raise ValueError("the index is trained already; make a new one to train anew")
        vectors = as_vectors(xb, self._d, what="xb")
        if vectors.shape[0] == 0:
            raise ValueError("training needs at least one vector")
        n = vectors.shape[0]
        nlist = min(self._nlist or choose_nlist(max(expected or 0, n)), n)
        if n > nlist * TRAIN_PER_LIST:
            rows = np.random.default_rng(0).choice(n, nlist * TRAIN_PER_LIST, replace=False)
            vectors = vectors[np.sort(rows)]
        index = self._new_ivf(nlist)
        index.train(vectors)
        index.nprobe = min(nlist, self._nprobe or choose_nprobe(nlist))
        self._index = index

    def add(self, xb: Vectors, ids: Ids) -> None:
        """Store ``xb`` (nb, d) under ``ids`` (nb,). An untrained index trains on ``xb`` first.

        Raises:
            ValueError: Shapes disagree, a vector is not finite, or an id is used already.
        """
        vectors = as_vectors(xb, self._d, what="xb")
        new_ids = as_new_ids(ids, vectors.shape[0])
        used = self._ids.first_used(new_ids)
        if used is not None:
            raise ValueError(f"id {used} is used already")
        if new_ids.size == 0:
            return
        if not self.is_trained:
            self.train(vectors)
        self._index.add_with_ids(vectors, new_ids)
        self._ids.add(new_ids)
        self._on_gpu = None

    def remove_range(self, start: int, stop: int) -> int:
        """Take out all ids in ``[start, stop)``; returns how many there were."""
        return self.remove_ranges([(start, stop)])

    def remove_ranges(self, ranges: Sequence[tuple[int, int]]) -> int:
        """Take out all ids of many half-open ranges in one pass; returns how many there were."""
        removed = self._ids.remove_ranges(ranges)
        if removed.size == 0:
            return 0
        if len(ranges) == 1:
            selector = self._faiss.IDSelectorRange(*ranges[0])
        else:
            selector = self._faiss.IDSelectorBatch(removed)
        self._index.remove_ids(selector)
        self._on_gpu = None
        return int(removed.size)

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest of each row of ``xq`` (nq, d).

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        check_k(k)
        queries = as_vectors(xq, self._d, what="xq")
        similarities = np.full((queries.shape[0], k), -np.inf, dtype=np.float32)
        ids = np.full((queries.shape[0], k), NO_ID, dtype=np.int64)
        if self.ntotal == 0:
            return SearchResult(similarities=similarities, ids=ids)
        # FAISS keeps any of the vectors that tie at the k-th place. One column more shows whether
        # there is such a tie; those rows are searched again, wider, until it is resolved.
        rows = np.arange(queries.shape[0])
        wide = min(k + 1, self.ntotal)
        while rows.size:
            found, found_ids = self._raw_search(queries[rows], wide)
            similarities[rows], ids[rows] = best_first(found, found_ids, k)
            if self._kind != "flat" or wide == self.ntotal:
                break
            rows = rows[found[:, -1] == similarities[rows, k - 1]]
            wide = min(4 * wide, self.ntotal)
        return SearchResult(similarities=similarities, ids=ids)

    def contents(self, block: int = 65536) -> Iterator[tuple[Ids, Vectors]]:
        """What is stored, in no promised order: (m,) ids and (m, d) vectors, ``block`` rows at most."""
        if self.ntotal == 0:
            return
        if self._kind == "flat":
            order = self._faiss.vector_to_array(self._index.id_map)
            for start in range(0, order.size, block):
                m = min(block, order.size - start)
                yield order[start : start + m], self._index.index.reconstruct_n(start, m)
            return
        lists = self._index.invlists
        dtype = np.dtype(np.float32 if self._kind == "ivf" else np.float16)
        for number in range(self.nlist):
            size = int(lists.list_size(number))
            if size == 0:
                continue
            # A list's memory is FAISS's own and moves at the next add: copy.
            list_ids = self._faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
            codes = self._faiss.rev_swig_ptr(lists.get_codes(number), size * self._d * dtype.itemsize)
            yield list_ids, codes.view(dtype).reshape(size, self._d).astype(np.float32)

    def write(self, path: Path) -> None:
        """Write the CPU index to a file; the caller sees to atomicity.

        Raises:
            ValueError: An inverted index is not trained yet, so there is nothing to write.
        """
        if not self.is_trained:
            raise ValueError("an untrained index cannot be written")
        self._faiss.write_index(self._index, str(path))

    @classmethod
    def read(cls, path: Path, *, device: str = "cpu") -> FaissIndex:
        """Read what :meth:`write` wrote.

        Raises:
            BackendMissingError: FAISS, or the GPU asked for, is not there.
            IndexStoreError: The file is missing, damaged, or of a type that this module does not make.
        """
        faiss = load_faiss()
        try:
            raw = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexStoreError(f"{path} is no readable FAISS index: {error}") from error
        kinds = {"IndexIDMap2": "flat", "IndexIVFFlat": "ivf", "IndexIVFScalarQuantizer": "ivf-fp16"}
        kind = kinds.get(type(raw).__name__)
        if kind is None:
            raise IndexStoreError(f"{path} holds a {type(raw).__name__}, which this version does not use")
        index = cls(int(raw.d), kind=kind, device=device)
        index._index = raw
        index._ids = _IdSet(_stored_ids(faiss, raw, kind))
        return index

    def _new_flat(self) -> Any:
        return self._faiss.IndexIDMap2(self._faiss.IndexFlatIP(self._d))

    def _new_ivf(self, nlist: int) -> Any:
        faiss = self._faiss
        quantizer = faiss.IndexFlatIP(self._d)
        if self._kind == "ivf":
            index = faiss.IndexIVFFlat(quantizer, self._d, nlist, faiss.METRIC_INNER_PRODUCT)
        else:
            # Without residuals, a vector that was float16 is stored as it was.
            index = faiss.IndexIVFScalarQuantizer(
                quantizer,
                self._d,
                nlist,
                faiss.ScalarQuantizer.QT_fp16,
                faiss.METRIC_INNER_PRODUCT,
                False,
            )
        index.cp.seed = 0
        index.cp.min_points_per_centroid = 1  # few vectors are no fault here; FAISS would print
        return index

    def _raw_search(self, queries: Vectors, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(nq, k) similarities and ids as FAISS orders them, padded with ``-inf`` and ``NO_ID``."""
        index = self._index
        if self._gpu is not None and k <= GPU_MAX_K:
            index = self._gpu_index()
        found, found_ids = index.search(queries, k)
        found[found_ids < 0] = -np.inf
        return found, found_ids

    def _gpu_index(self) -> Any:
        if self._on_gpu is None:
            if self._gpu_resources is None:
                self._gpu_resources = self._faiss.StandardGpuResources()
            self._on_gpu = self._faiss.index_cpu_to_gpu(self._gpu_resources, self._gpu, self._index)
            if int(self._on_gpu.ntotal) != self.ntotal:
                raise BackendMissingError(
                    f"the GPU holds {int(self._on_gpu.ntotal)} of {self.ntotal} vectors; use --device cpu"
                )
        return self._on_gpu


def _stored_ids(faiss: Any, raw: Any, kind: str) -> Ids:
    """(ntotal,) ids of an index that was read from a file."""
    if kind == "flat":
        ids: Ids = faiss.vector_to_array(raw.id_map)
        return ids
    lists = raw.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(number), int(lists.list_size(number))).copy()
        for number in range(int(raw.nlist))
        if int(lists.list_size(number))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
