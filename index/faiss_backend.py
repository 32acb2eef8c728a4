"""FAISS behind :class:`index.base.VectorIndex`; the only module that imports ``faiss``.

Three distributions on the package index (faiss-cpu, faiss-gpu, faiss-gpu-cuvs) install one module,
``faiss``; whichever was unpacked last wins and the others' files lie among its own. So the first
use checks that exactly one is installed.

Shape letters: ``nq`` queries, ``nb`` stored vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, Ids, SearchResult, Vectors
from index.engines import (
    COMPRESSED,
    KINDS,
    MAX_PART_DIMENSIONS,
    PQ_BITS,
    TRAIN_PER_LIST,
    choose_nlist,
    choose_nprobe,
    pq_parts,
)
from index.errors import BackendMissingError, IndexStoreError
from index.exact import as_new_ids, as_vectors, best_first, check_k
from index.gpu import GpuCopy
from index.ids import IdSet
from index.memory import GrowingLists
from index.reading import read_lists
from index.selectors import Range, Selector, lie_in, merged

DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
_EXTRAS = "program-matcher[cpu], program-matcher[gpu] (CUDA 12) or program-matcher[gpu-cuvs] (CUDA 13)"


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


class FaissIndex:
    """A :class:`index.base.VectorIndex` in FAISS, on the CPU or one GPU.

    The CPU index is always the truth; see :mod:`index.gpu` for what a GPU does beside it. The similarities
    that a kind of :data:`index.engines.COMPRESSED` gives are rough: rank its answers anew
    (:mod:`index.rerank`).

    Not safe to change while another thread searches; :class:`index.live.LiveIndex` locks.

    Args:
        d: Dimensions of a vector.
        kind: See :data:`index.engines.KINDS` and :func:`index.engines.choose_kind`.
        nlist: Inverted lists; default by :func:`index.engines.choose_nlist` from the vectors trained on.
        nprobe: Lists to visit; default by :func:`index.engines.choose_nprobe`. ``nprobe == nlist`` is exact.
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
        if kind == "ivf-pq" and d > MAX_PART_DIMENSIONS * pq_parts(d):
            raise ValueError(
                f"d = {d} cannot be cut into parts of at most {MAX_PART_DIMENSIONS} dimensions, which "
                "product codes need; use kind ivf-fp16"
            )
        self._faiss = load_faiss()
        gpu = require_gpu(device)
        self._d, self._kind, self._device = d, kind, device
        self._nlist, self._nprobe = nlist, nprobe
        # Inverted lists begin with training, which wants vectors.
        self._index: Any = self._new_flat() if kind == "flat" else None
        self._ids = IdSet(np.zeros(0, dtype=np.int64))
        self._gpu = None if gpu is None else GpuCopy(self._faiss, gpu, kind)
        self._memory = GrowingLists()
        self._last_selector: tuple[tuple[Range, ...], Selector] | None = None

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return self._d

    @property
    def kind(self) -> str:
        """One of :data:`index.engines.KINDS`."""
        return self._kind

    @property
    def device(self) -> str:
        """Where it searches: "cpu", "cuda" or "cuda:N"."""
        return self._device

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
    def imbalance(self) -> float:
        """How unequal the inverted lists are: 1 when all are as long, n when one list holds all.

        A search visits on average so many times the vectors that it would in equal lists. 1 for ``flat``.
        """
        return float(self._index.invlists.imbalance_factor()) if self.nlist and self.ntotal else 1.0

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
        if self._kind == "ivf-pq":
            vectors = _blurred(vectors)
        index = self._new_ivf(nlist)
        index.train(vectors)
        index.nprobe = min(nlist, self._nprobe or choose_nprobe(nlist))
        self._index = index

    def empty_copy(self, device: str = "cpu") -> FaissIndex:
        """An index with the same centroids and nothing in it, so that training is done once for many.

        Raises:
            BackendMissingError: The GPU asked for is not there.
            ValueError: There are no centroids yet.
        """
        if self.ntotal:
            raise ValueError("only an empty index is copied")
        copy = FaissIndex(self._d, kind=self._kind, nlist=self._nlist, nprobe=self._nprobe, device=device)
        copy._index = self._faiss.clone_index(self.raw)
        return copy

    def first_used(self, ids: Ids) -> int | None:
        """One of ``ids`` that is stored already, or None."""
        return self._ids.first_used(ids)

    def add(self, xb: Vectors, ids: Ids) -> None:
        """Store ``xb`` (nb, d) under ``ids`` (nb,). An untrained index trains on ``xb`` first.

        Raises:
            ValueError: Shapes disagree, a vector is not finite, or an id is used already.
        """
        vectors = as_vectors(xb, self._d, what="xb")
        new_ids = as_new_ids(ids, vectors.shape[0])
        used = self.first_used(new_ids)
        if used is not None:
            raise ValueError(f"id {used} is used already")
        if new_ids.size == 0:
            return
        if not self.is_trained:
            self.train(vectors)
        with self._memory.growing(vectors.nbytes):
            self._index.add_with_ids(vectors, new_ids)
        self._ids.add(new_ids)
        if self._gpu is not None:
            self._gpu.add(vectors, new_ids)

    def remove_range(self, start: int, stop: int) -> int:
        """Take out all ids in ``[start, stop)``; returns how many there were."""
        return self.remove_ranges([(start, stop)])

    def remove_ranges(self, ranges: Sequence[Range]) -> int:
        """Take out all ids of many half-open ranges in one pass; returns how many there were."""
        gone = merged(ranges)
        removed = self._ids.remove_ranges(gone)
        if removed == 0:
            return 0
        before = self._list_sizes() if self._kind == "ivf-pq" else None
        Selector(self._faiss, gone).remove_from(self._index)
        if before is not None:
            for number in np.flatnonzero(before != self._list_sizes()).tolist():
                self._clear_free_places(number)
        if self._gpu is not None:
            self._gpu.remove(gone, removed)
        return removed

    def search(self, xq: Vectors, k: int, *, within: Sequence[Range] | None = None) -> SearchResult:
        """The k nearest of each row of ``xq`` (nq, d).

        Args:
            xq: (nq, d) queries.
            k: Neighbours.
            within: Half-open ranges of ids; only these are found. So many more lists are visited as
                the ids are fewer, on the CPU: what is near is found as surely as without.

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        check_k(k)
        queries = as_vectors(xq, self._d, what="xq")
        selected = None if within is None else merged(within)
        n = self.ntotal if selected is None else self._ids.count(selected)
        similarities = np.full((queries.shape[0], k), -np.inf, dtype=np.float32)
        ids = np.full((queries.shape[0], k), NO_ID, dtype=np.int64)
        if n == 0 or queries.shape[0] == 0:
            return SearchResult(similarities=similarities, ids=ids)
        raw_search = self._raw_search if selected is None else self._search_within(selected, n)
        if self._kind != "flat":
            found, found_ids = raw_search(queries, k)
            if self._kind in COMPRESSED and n <= k and bool((found_ids[:, :n] == NO_ID).any()):
                self._complete(found, found_ids, selected)
            # Ties of rough similarities are many and mean nothing.
            if self._kind not in COMPRESSED and not is_strictly_descending(found):
                found, found_ids = best_first(found, found_ids, k)
            return SearchResult(similarities=found, ids=found_ids)
        # FAISS keeps any of the vectors that tie at the k-th place. One column more shows whether
        # there is such a tie; those rows are searched again, wider, until it is resolved.
        rows = np.arange(queries.shape[0])
        wide = min(k + 1, n)
        while rows.size:
            found, found_ids = raw_search(queries if rows.size == queries.shape[0] else queries[rows], wide)
            if is_strictly_descending(found):
                best, best_ids = found[:, :k], found_ids[:, :k]
            else:
                best, best_ids = best_first(found, found_ids, k)
            m = best.shape[1]
            similarities[rows, :m], ids[rows, :m] = best, best_ids
            if wide == n:
                break
            rows = rows[found[:, -1] == similarities[rows, k - 1]]
            wide = min(4 * wide, n)
        return SearchResult(similarities=similarities, ids=ids)

    def contents(self, block: int = 65536) -> Iterator[tuple[Ids, Vectors]]:
        """What is stored, in no promised order: (m,) ids and (m, d) vectors, ``block`` rows at most.

        A compressed kind gives what its codes stand for.
        """
        for _, ids, vectors in self._parts(block):
            yield ids, vectors

    def count_wrong(self, vectors_of: Callable[[Ids], Vectors], within: Sequence[Range] | None = None) -> int:
        """How many of the vectors stored are not what the index makes of the true ones.

        A product code is chosen by rounded arithmetic, whose last digit depends on how many vectors are
        encoded at once: there, one that is as near as the nearest will do.

        Args:
            vectors_of: Gives the true (m, d) vectors of (m,) ids.
            within: Merged half-open ranges of ids that alone are compared.
        """
        wrong = 0
        for part, ids, stored in self._parts(65536, within):
            wanted = as_vectors(vectors_of(ids), self._d, what="vectors")
            if self._kind == "ivf-pq":
                # Not the index's own sa_encode and sa_decode: the latter crashes after a file was read.
                pq, middle = self._index.pq, self._centroid(part)
                best = pq.decode(pq.compute_codes(wanted - middle)) + middle
                error, least = (((codes - wanted) ** 2).sum(axis=1) for codes in (stored, best))
                wrong += int(np.count_nonzero(error > least * 1.001 + 1e-6))
                continue
            if self._kind == "ivf-fp16":
                wanted = wanted.astype(np.float16).astype(np.float32)
            wrong += int((wanted != stored).any(axis=1).sum())
        return wrong

    def _parts(self, block: int, within: Sequence[Range] | None = None) -> Iterator[tuple[int, Ids, Vectors]]:
        """The inverted lists, or blocks of a flat index: number, (m,) ids and (m, d) vectors.

        With ``within``, only what is in its ranges; lists that have nothing there are not read.
        """
        if self.ntotal == 0:
            return
        if self._kind == "flat":
            order = self._faiss.vector_to_array(self._index.id_map)
            for start in range(0, order.size, block):
                m = min(block, order.size - start)
                own, vectors = order[start : start + m], self._index.index.reconstruct_n(start, m)
                keep = slice(None) if within is None else lie_in(own, within)
                yield 0, own[keep], vectors[keep]
            return
        lists = self._index.invlists
        for number in range(self.nlist):
            size = int(lists.list_size(number))
            if size:
                # A list's memory is FAISS's own and moves at the next add: copy.
                own = self._faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
                keep = slice(None) if within is None else lie_in(own, within)
                if own[keep].size:
                    yield number, own[keep], self._list_vectors(number, size)[keep]

    def write(self, path: Path) -> None:
        """Write the CPU index to a file; the caller sees to atomicity.

        Raises:
            ValueError: An inverted index is not trained yet, so there is nothing to write.
        """
        if not self.is_trained:
            raise ValueError("an untrained index cannot be written")
        self._faiss.write_index(self._index, str(path))

    @classmethod
    def read(cls, path: Path, *, nprobe: int | None = None, device: str = "cpu") -> FaissIndex:
        """Read what :meth:`write` wrote.

        Args:
            path: The file.
            nprobe: Lists to visit; default by rule.
            device: "cpu", "cuda" or "cuda:N".

        Raises:
            BackendMissingError: FAISS, or the GPU asked for, is not there.
            IndexStoreError: The file is missing, damaged, or of a type that this module does not make.
        """
        faiss = load_faiss()
        try:
            # Lists of arrays stay in the file, for read_lists to fetch.
            raw = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise IndexStoreError(f"{path} is no readable FAISS index: {error}") from error
        kind = _KIND_OF.get(type(raw).__name__)
        if kind is None:
            raise IndexStoreError(f"{path} holds a {type(raw).__name__}, which this version does not use")
        index = cls(int(raw.d), kind=kind, nprobe=nprobe, device=device)
        if kind != "flat":
            raw.nprobe = min(int(raw.nlist), nprobe or choose_nprobe(int(raw.nlist)))
        index._index = raw
        index._ids = IdSet(
            faiss.vector_to_array(raw.id_map) if kind == "flat" else read_lists(faiss, raw, path)
        )
        return index

    def _new_flat(self) -> Any:
        return self._faiss.IndexIDMap(self._faiss.IndexFlatIP(self._d))

    def _new_ivf(self, nlist: int) -> Any:
        faiss, d = self._faiss, self._d
        quantizer, metric = faiss.IndexFlatIP(d), faiss.METRIC_INNER_PRODUCT
        if self._kind == "ivf":
            index = faiss.IndexIVFFlat(quantizer, d, nlist, metric)
        elif self._kind == "ivf-fp16":
            # Without residuals, a vector that was float16 is stored as it was.
            fp16 = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexIVFScalarQuantizer(quantizer, d, nlist, fp16, metric, False)
        else:
            # Of what the centroid leaves: of films' descriptors, half the candidates then recall as much.
            index = faiss.IndexIVFPQFastScan(quantizer, d, nlist, pq_parts(d), PQ_BITS, metric)
            index.by_residual = True
            index.pq.cp.min_points_per_centroid = 1
        index.cp.seed = 0
        index.cp.min_points_per_centroid = 1  # few vectors are no fault here; FAISS would print
        return index

    def _raw_search(self, queries: Vectors, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(nq, k) similarities and ids as FAISS orders them, padded with ``-inf`` and ``NO_ID``."""
        answer = None if self._gpu is None else self._gpu.search(self._index, queries, k)
        found, found_ids = answer or self._index.search(queries, k)
        return _padded(found, found_ids)

    def _complete(
        self, found: NDArray[np.float32], found_ids: NDArray[np.int64], ranges: Sequence[Range] | None
    ) -> None:
        """Put in, after the others, what a search for no fewer than there are left out.

        FAISS's scan of 4-bit codes (1.15) drops vectors of the lowest rounded score.
        """
        ids = self._ids.sorted()
        wanted = ids if ranges is None else ids[lie_in(ids, ranges)]
        for row_ids, row in zip(found_ids, found, strict=True):
            free = np.flatnonzero(row_ids == NO_ID)
            missing = np.setdiff1d(wanted, row_ids)
            places = free[: missing.size]
            known = row[row_ids != NO_ID]
            row_ids[places], row[places] = missing, known.min(initial=np.float32(0.0))

    def _search_within(self, ranges: Sequence[Range], n: int) -> _RawSearch:
        """As :meth:`_raw_search`, of the ``n`` vectors in ``ranges`` alone."""
        selector = self._selector(ranges)
        options = {}
        if self._kind != "flat":
            options["nprobe"] = min(self.nlist, math.ceil(self._index.nprobe * self.ntotal / n))

        def search(queries: Vectors, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            return _padded(*selector.search(self._index, queries, k, **options))

        return search

    def _selector(self, ranges: Sequence[Range]) -> Selector:
        """The one of before where the ranges are the same: of thousands it takes a while to make."""
        key, last = tuple(ranges), self._last_selector
        if last is None or last[0] != key:
            last = self._last_selector = key, Selector(self._faiss, ranges)
        return last[1]

    def _list_vectors(self, number: int, size: int) -> Vectors:
        """(size, d) the vectors of one inverted list."""
        lists, faiss = self._index.invlists, self._faiss
        if self._kind == "ivf-pq":
            return self._list_decoded(number, size)
        dtype = np.dtype(np.float32 if self._kind == "ivf" else np.float16)
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * self._d * dtype.itemsize)
        vectors: Vectors = codes.view(dtype).reshape(size, self._d).astype(np.float32)
        return vectors

    def _list_sizes(self) -> NDArray[np.int64]:
        """(nlist,) vectors in each list."""
        lists = self._index.invlists
        return np.array([lists.list_size(number) for number in range(self.nlist)], dtype=np.int64)

    def _clear_free_places(self, number: int) -> None:
        """Zero what was left where codes of a list were taken out.

        FAISS (1.15) adds a code to the free places of a list's last block by "or", as if they were zero,
        but leaves old codes in them when it removes: what was added next came out as a mixture of both.
        """
        faiss, lists = self._faiss, self._faiss.downcast_InvertedLists(self._index.invlists)
        per_block, block_size = int(lists.n_per_block), int(lists.block_size)
        full, used = divmod(int(lists.list_size(number)), per_block)
        if used == 0:
            return
        block = faiss.rev_swig_ptr(lists.get_codes(number), (full + 1) * block_size)[full * block_size :]
        packer = self._index.get_CodePacker()
        codes = np.zeros((per_block, int(self._index.code_size)), dtype=np.uint8)
        packer.unpack_all(faiss.swig_ptr(block), faiss.swig_ptr(codes))
        codes[used:] = 0
        packer.pack_all(faiss.swig_ptr(codes), faiss.swig_ptr(block))

    def _list_decoded(self, number: int, size: int) -> Vectors:
        """As :meth:`_list_vectors`, of 4-bit codes, which lie interleaved in blocks of 32 vectors."""
        index, faiss = self._index, self._faiss
        lists = faiss.downcast_InvertedLists(index.invlists)
        per_block, packer = int(lists.n_per_block), index.get_CodePacker()
        n_blocks = -(-size // per_block)
        packed = faiss.rev_swig_ptr(lists.get_codes(number), n_blocks * int(lists.block_size)).copy()
        codes = np.zeros((n_blocks * per_block, int(index.code_size)), dtype=np.uint8)
        for block in range(n_blocks):
            source = packed[block * int(lists.block_size) :]
            packer.unpack_all(faiss.swig_ptr(source), faiss.swig_ptr(codes[block * per_block :]))
        vectors: Vectors = index.pq.decode(codes[:size]) + self._centroid(number)
        return vectors

    def _centroid(self, number: int) -> Vectors:
        """(d,) the middle of an inverted list."""
        middle: Vectors = self._index.quantizer.reconstruct(number)
        return middle


def _blurred(xb: Vectors) -> Vectors:
    """Training vectors for product codes: as many as a code book has entries, and none quite on another.

    What a centroid leaves of identical vectors is nothing, and of a book of nothing FAISS finds nothing,
    whatever is added later.
    """
    least = 1 << PQ_BITS
    vectors = xb if xb.shape[0] >= least else np.resize(xb, (least, xb.shape[1]))
    size = float(np.abs(vectors).max()) or 1.0
    blurred: Vectors = np.random.default_rng(0).standard_normal(vectors.shape, dtype=np.float32)
    blurred *= np.float32(1e-3 * size)
    blurred += vectors
    return blurred


class HalfSearch:
    """Brute force over a few float16 vectors as they are: making them float32 first takes ten times as long.

    Args:
        d: Dimensions of a vector.
    """

    def __init__(self, d: int) -> None:
        faiss = self._faiss = load_faiss()
        half = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexScalarQuantizer(d, half, faiss.METRIC_INNER_PRODUCT)

    def similarities(
        self, xq: Vectors, xb: NDArray[np.float16], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Inner products of each query with vectors of its own.

        Args:
            xq: (nq, d) queries.
            xb: (nb, d) vectors: those of the first query, then those of the second, and so on.
            counts: (nq,) how many are of each query; nb in all.

        Returns:
            (nb,) similarities in the order of ``xb``.
        """
        similarities = np.empty(xb.shape[0], dtype=np.float32)
        codes = np.ascontiguousarray(xb).view(np.uint8)
        stop = 0
        with _one_core(self._faiss):
            for row, count in enumerate(counts.tolist()):
                if count:
                    start, stop = stop, stop + count
                    self._index.reset()
                    self._index.add_sa_codes(codes[start:stop])
                    found, places = self._index.search(xq[row : row + 1], count)
                    similarities[start:stop][places[0]] = found[0]
        return similarities


@contextlib.contextmanager
def _one_core(faiss: Any) -> Iterator[None]:
    """What the calling thread asks of FAISS takes one core; other threads' searches stay as they are.

    To share out a few microseconds' work takes longer than to do it, and far longer on a busy machine.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


_RawSearch = Callable[[Vectors, int], tuple[NDArray[np.float32], NDArray[np.int64]]]
_KIND_OF = {
    "IndexIDMap": "flat",
    "IndexIDMap2": "flat",
    "IndexIVFFlat": "ivf",
    "IndexIVFScalarQuantizer": "ivf-fp16",
    "IndexIVFPQFastScan": "ivf-pq",
}


def _padded(
    found: NDArray[np.float32], found_ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """FAISS gives places without a neighbour the lowest float, or (by product codes) a made-up one."""
    found[found_ids < 0] = -np.inf
    return found, found_ids


def is_strictly_descending(similarities: NDArray[np.float32]) -> bool:
    """Whether each row of (nq, k) falls from each place to the next, so that sorting would change nothing.

    Two places without a neighbour, both ``-inf``, do not fall; nor do ties, whose ids may be out of order.
    """
    return bool((similarities[:, :-1] > similarities[:, 1:]).all())
