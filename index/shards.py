"""One index cut by program into several: for several GPUs, and for catalogues that no one index can hold.

A program lies whole in one shard, so adding and removing it touch one shard. Every shard answers every
query, and the best of their answers are the answer: what a shard misses, it would have missed alone.

Shape letters: ``nq`` queries, ``nb`` stored vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np

from index.base import Ids, SearchResult, Vectors
from index.errors import BackendMissingError, IndexStoreError
from index.exact import as_new_ids, as_vectors, best_first
from index.faiss_backend import FaissIndex, gpu_count, require_gpu
from index.rows import ORDINAL_BITS
from index.selectors import Range

_log = logging.getLogger(__name__)


class ShardedIndex:
    """A :class:`index.base.VectorIndex` of others, of one kind; makes the answers of one.

    Args:
        shards: Empty or not; each holds the ids of the program numbers that leave its place as the
            remainder.

    Raises:
        ValueError: There are none, or they differ in kind or d.
    """

    def __init__(self, shards: Sequence[FaissIndex]) -> None:
        if len({(shard.kind, shard.d) for shard in shards}) != 1:
            raise ValueError("an index needs at least one shard, and all of one kind and d")
        self._shards = tuple(shards)
        # A GPU works beside the others; on the CPU each search has all cores already.
        self._together = len(shards) > 1 and all(shard.device != "cpu" for shard in shards)

    @property
    def shards(self) -> tuple[FaissIndex, ...]:
        """The parts, in order."""
        return self._shards

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return self._shards[0].d

    @property
    def kind(self) -> str:
        """The shards' kind."""
        return self._shards[0].kind

    @property
    def device(self) -> str:
        """The shards' devices."""
        return ", ".join(sorted({shard.device for shard in self._shards}))

    @property
    def ntotal(self) -> int:
        """Vectors stored."""
        return sum(shard.ntotal for shard in self._shards)

    @property
    def nlist(self) -> int:
        """Inverted lists of all shards; 0 for ``flat`` and before training."""
        return sum(shard.nlist for shard in self._shards)

    @property
    def is_trained(self) -> bool:
        """Whether every shard is."""
        return all(shard.is_trained for shard in self._shards)

    @property
    def imbalance(self) -> float:
        """The worst shard's; see :attr:`FaissIndex.imbalance`."""
        return max(shard.imbalance for shard in self._shards)

    @property
    def ids(self) -> Ids:
        """(ntotal,) the ids stored, ascending."""
        return np.sort(np.concatenate([shard.ids for shard in self._shards]))

    def train(self, xb: Vectors, *, expected: int | None = None) -> None:
        """Set the centroids, once and the same for all; see :meth:`FaissIndex.train`.

        Raises:
            ValueError: As :meth:`FaissIndex.train`.
        """
        first, *others = self._shards
        first.train(xb, expected=None if expected is None else -(-expected // len(self._shards)))
        self._shards = (first, *(first.empty_copy(shard.device) for shard in others))

    def add(self, xb: Vectors, ids: Ids) -> None:
        """Store ``xb`` (nb, d) under ``ids`` (nb,). Untrained shards train on ``xb`` first.

        Raises:
            ValueError: Shapes disagree, a vector is not finite, or an id is used already.
        """
        vectors = as_vectors(xb, self.d, what="xb")
        new_ids = as_new_ids(ids, vectors.shape[0])
        owner = (new_ids >> ORDINAL_BITS) % len(self._shards)
        for place, shard in enumerate(self._shards):
            used = shard.first_used(new_ids[owner == place])
            if used is not None:  # before any shard is changed
                raise ValueError(f"id {used} is used already")
        if new_ids.size and not self.is_trained:
            self.train(vectors)
        for place, shard in enumerate(self._shards):
            own = owner == place
            if bool(own.any()):
                shard.add(vectors[own], new_ids[own])

    def remove_range(self, start: int, stop: int) -> int:
        """Take out all ids in ``[start, stop)``; returns how many there were."""
        return self.remove_ranges([(start, stop)])

    def remove_ranges(self, ranges: Sequence[Range]) -> int:
        """Take out all ids of many half-open ranges; returns how many there were."""
        return sum(shard.remove_ranges(ranges) for shard in self._shards)

    def search(self, xq: Vectors, k: int, *, within: Sequence[Range] | None = None) -> SearchResult:
        """The k nearest of each row of ``xq`` (nq, d); see :meth:`FaissIndex.search`.

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """

        def ask(shard: FaissIndex) -> SearchResult:
            return shard.search(xq, k, within=within)

        if self._together:
            with ThreadPoolExecutor(len(self._shards)) as pool:
                answers = list(pool.map(ask, self._shards))
        else:
            answers = [ask(shard) for shard in self._shards]
        similarities, ids = best_first(
            np.concatenate([answer.similarities for answer in answers], axis=1),
            np.concatenate([answer.ids for answer in answers], axis=1),
            k,
        )
        return SearchResult(similarities=similarities, ids=ids)

    def contents(self, block: int = 65536) -> Iterator[tuple[Ids, Vectors]]:
        """What is stored; see :meth:`FaissIndex.contents`."""
        for shard in self._shards:
            yield from shard.contents(block)

    def count_wrong(self, vectors_of: Callable[[Ids], Vectors], within: Sequence[Range] | None = None) -> int:
        """How many vectors are stored wrongly; see :meth:`FaissIndex.count_wrong`."""
        return sum(shard.count_wrong(vectors_of, within) for shard in self._shards)


Engine: TypeAlias = FaissIndex | ShardedIndex


def devices_of(device: str, shards: int | None) -> list[str]:
    """Where the shards of an index search: one device for each.

    Args:
        device: "cpu", "cuda" (all GPUs that FAISS sees) or "cuda:N".
        shards: How many; default one, or as many as there are GPUs.

    Returns:
        "cpu" only, with a line of warning, where GPUs are asked for and none is there.

    Raises:
        BackendMissingError: FAISS is not installed, or has no GPU of that number though others.
        ValueError: ``device`` is no device's name, or ``shards`` < 1.
    """
    if shards is not None and shards < 1:
        raise ValueError(f"shards must be at least 1, got {shards}")
    if device == "cpu":
        return ["cpu"] * (shards or 1)
    count = gpu_count()
    if count == 0:
        try:
            require_gpu(device)
        except BackendMissingError as error:
            _log.warning("%s The CPU searches instead.", error)
        return ["cpu"] * (shards or 1)
    require_gpu(device)
    names = [device] if device != "cuda" else [f"cuda:{number}" for number in range(count)]
    return [names[place % len(names)] for place in range(shards or len(names))]


def new_engine(d: int, kind: str, devices: Sequence[str], *, nprobe: int | None = None) -> Engine:
    """An empty index, with a shard for each device.

    Args:
        d: Dimensions of a vector.
        kind: See :data:`index.engines.KINDS`.
        devices: From :func:`devices_of`.
        nprobe: Lists to visit in each shard; default by rule.
    """
    shards = [FaissIndex(d, kind=kind, nprobe=nprobe, device=device) for device in devices]
    return shards[0] if len(shards) == 1 else ShardedIndex(shards)


def write_engine(engine: Engine, folder: Path) -> None:
    """Write an index into a folder as ``index.faiss``, or ``index-N.faiss`` for each shard."""
    if isinstance(engine, FaissIndex):
        engine.write(folder / "index.faiss")
        return
    for place, shard in enumerate(engine.shards):
        shard.write(folder / f"index-{place:03d}.faiss")


def read_engine(files: Sequence[Path], devices: Sequence[str], *, nprobe: int | None = None) -> Engine:
    """Read what :func:`write_engine` wrote.

    Args:
        files: The folder's index files, in order.
        devices: As many.
        nprobe: Lists to visit; default as the files say.

    Raises:
        BackendMissingError: FAISS, or the GPU asked for, is not there.
        IndexStoreError: A file is damaged, or there are more or fewer than devices.
    """
    if len(files) != len(devices):
        raise IndexStoreError(f"{len(files)} shards are on disk, {len(devices)} are wanted")
    shards = [
        FaissIndex.read(file, nprobe=nprobe, device=device)
        for file, device in zip(files, devices, strict=True)
    ]
    return shards[0] if len(shards) == 1 else ShardedIndex(shards)
