"""The engine behind a view: what an operator wants of it, and how it answers.

Shape letters: ``nq`` queries, ``m`` frames, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, SearchResult, Vectors
from index.drift import Drift, Training
from index.engines import COMPRESSED, candidates_for
from index.exact import as_vectors, best_first, check_k
from index.rerank import reranked
from index.rows import ORDINAL_BITS
from index.selectors import Range
from index.shards import Engine
from index.view import LiveView


@dataclass(frozen=True)
class EnginePlan:
    """What an operator wants of the engine; None leaves it to the rules of :mod:`index.engines`.

    Attributes:
        kind: One of :data:`index.engines.KINDS`.
        device: "cpu", "cuda" or "cuda:N".
        shards: Parts that the programs are dealt to.
        nprobe: Inverted lists to visit.
    """

    kind: str | None = None
    device: str = "cpu"
    shards: int | None = None
    nprobe: int | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """An engine with what is known of its centroids."""

    engine: Engine
    training: Training | None
    drift: Drift | None


def answer(
    engine: Engine,
    view: LiveView,
    xq: Vectors,
    k: int,
    within: Sequence[Range] | None,
    hidden: tuple[int, ...] = (),
) -> SearchResult:
    """The k nearest, of an engine that holds the frames of ``view``, and of the hidden numbers besides."""
    if engine.kind not in COMPRESSED:
        return _search_without(engine, xq, k, within, hidden)
    check_k(k)
    candidates = _search_without(engine, xq, candidates_for(k), within, hidden).ids
    return reranked(as_vectors(xq, engine.d, what="xq"), candidates, k, view.vectors_of)


def spread(view: LiveView, wanted: int) -> NDArray[np.float16]:
    """(m, d) so many of the frames' vectors, spread evenly; all where there are fewer."""
    _, rows = view.live_rows()
    sample = np.linspace(0, rows.size - 1, min(rows.size, wanted)).astype(np.int64)
    return view.vectors_at(rows[sample])


def _search_without(
    faiss: Engine, xq: Vectors, k: int, within: Sequence[Range] | None, hidden: tuple[int, ...]
) -> SearchResult:
    """As :meth:`FaissIndex.search`, as if the frames of the hidden numbers were not there."""
    if not hidden:
        return faiss.search(xq, k, within=within)
    wide = 2 * k
    while True:
        found = faiss.search(xq, wide, within=within)
        is_hidden = np.isin(found.ids >> ORDINAL_BITS, hidden)
        if wide >= faiss.ntotal or not bool(((~is_hidden).sum(axis=1) < k).any()):
            break
        wide = min(4 * wide, faiss.ntotal)
    similarities = np.where(is_hidden, np.float32(-np.inf), found.similarities)
    return SearchResult(*best_first(similarities, np.where(is_hidden, NO_ID, found.ids), k))
