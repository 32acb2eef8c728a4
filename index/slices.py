"""An index in slices, each held by another process, here or on other machines: no process holds all of it.

A slice is the engine of some programs' frames. Whoever searches has the times of all frames and asks every
slice; the best of the answers are the answer, as with the shards of one index (:mod:`index.shards`). The
frames' vectors are read from the tables where a clip is aligned.

Nothing here follows the catalog: slices are opened for one piece of work on a store that nobody changes.

Shape letters: ``nq`` queries, ``n`` frames, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from index.base import SearchResult, Vectors
from index.engines import COMPRESSED, TRAIN_PER_LIST, choose_kind, choose_nlist
from index.exact import best_first
from index.half import widened
from index.rows import ORDINAL_BITS, Kind, count_of
from index.serving import EnginePlan
from index.shards import new_engine
from index.state import read_frames
from index.stretches import StoredView, ids_between, stored_view

if TYPE_CHECKING:
    from index.catalog import Catalog

#: Vectors put into an engine at once.
_BLOCK_ROWS = 65536


class Slice:
    """The frames, or sounds, of the programs whose number leaves ``place`` as its remainder by ``count``.

    Args:
        catalog: The store.
        place: Which slice, from 0.
        count: Slices in all.
        plan: Of the engine; its kind is by default the one for so many frames.
        table: "frames" or "sounds".

    Raises:
        BackendMissingError: FAISS is not there.
        CatalogError: The tables are damaged.
        ValueError: ``place`` is not below ``count``; or the engine's kind is one that ranks anew by vectors,
            which a slice has not at hand.
    """

    def __init__(
        self, catalog: Catalog, place: int, count: int, plan: EnginePlan | None = None, table: Kind = "frames"
    ) -> None:
        if not 0 <= place < count:
            raise ValueError(f"place must be in [0, {count}), got {place}")
        plan = plan or EnginePlan()
        model = catalog.model_of(table)
        if model is None:
            raise ValueError(f"the store {catalog.place} holds no sounds: Writer.use_sound was never called")
        assets = [asset for asset in catalog.assets() if asset.number % count == place]
        _, vectors = read_frames(catalog, assets, table, model.d)
        n = vectors.shape[0]
        kind = plan.kind or choose_kind(n)
        if kind in COMPRESSED:
            raise ValueError(f"a slice of {n} {table} cannot be of kind {kind}: make more slices")
        self._engine = new_engine(model.d, kind, [plan.device], nprobe=plan.nprobe)
        if kind != "flat" and n:
            sample = np.linspace(0, n - 1, min(n, TRAIN_PER_LIST * choose_nlist(n))).astype(np.int64)
            self._engine.train(widened(vectors[sample]), expected=n)
        numbers = sorted({asset.number for asset in assets})
        sizes = dict.fromkeys(numbers, 0)
        for asset in assets:
            sizes[asset.number] += count_of(asset, table)
        first = np.array(numbers, dtype=np.int64) << ORDINAL_BITS
        ids = ids_between(first, first + np.array([sizes[number] for number in numbers], dtype=np.int64))
        for start in range(0, n, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            self._engine.add(widened(vectors[rows]), ids[rows])

    @property
    def ntotal(self) -> int:
        """Frames that it holds."""
        return self._engine.ntotal

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest of its frames of each row of ``xq`` (nq, d)."""
        return self._engine.search(xq, k)


class SlicedIndex:
    """A :class:`index.protocols.Searchable` over slices that others hold.

    Args:
        catalog: The store, as it was when the slices were opened.
        ask: Searches every slice: ``ask(xq, k)`` gives the answer of each.
        table: "frames" or "sounds".

    Raises:
        CatalogError: The tables are damaged.
    """

    def __init__(
        self,
        catalog: Catalog,
        ask: Callable[[Vectors, int], Sequence[SearchResult]],
        table: Kind = "frames",
    ) -> None:
        self._ask = ask
        self._view = stored_view(catalog, table)

    @property
    def view(self) -> StoredView:
        """The state that it was opened with."""
        return self._view

    @property
    def version(self) -> int:
        """The catalog's version shown."""
        return self._view.version

    @property
    def ntotal(self) -> int:
        """Frames that a search can return."""
        return self._view.ntotal

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest frames of each row of ``xq`` (nq, d), ties to the lower id."""
        answers = self._ask(xq, k)
        similarities, ids = best_first(
            np.concatenate([answer.similarities for answer in answers], axis=1),
            np.concatenate([answer.ids for answer in answers], axis=1),
            k,
        )
        return SearchResult(similarities=similarities, ids=ids)

    def refresh(self) -> bool:
        """Nothing: slices show what they were opened with."""
        return False
