"""The engine behind a view: what an operator wants of it, and how it answers.

Shape letters: ``nq`` queries, ``m`` frames, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.base import SearchResult, Vectors
from index.drift import Drift, Training
from index.engines import COMPRESSED, candidates_for
from index.exact import as_vectors, check_k
from index.rerank import reranked
from index.rows import id_range
from index.selectors import Range, merged
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


def asked(
    engine: Engine, xq: Vectors, k: int, within: Sequence[Range] | None, hidden: Sequence[int]
) -> SearchResult:
    """What an engine says, as if the frames of the hidden numbers were not there; see :func:`answer`."""
    if within is None and hidden:
        within = _all_but([id_range(number) for number in hidden])
    check_k(k)
    return engine.search(xq, candidates_for(k) if engine.kind in COMPRESSED else k, within=within)


def answer(kind: str, view: LiveView, xq: Vectors, k: int, found: SearchResult) -> SearchResult:
    """The k nearest, of what :func:`asked` found in an engine of ``kind``: ranked anew where it must be.

    Reads nothing but ``view``, which never changes; so it needs no lock.
    """
    if kind not in COMPRESSED:
        return found
    return reranked(as_vectors(xq, view.d, what="xq"), found, k, view.vectors_of)


def _all_but(ranges: Sequence[Range]) -> list[Range]:
    """The ids outside of half-open ranges."""
    starts = [0, *(stop for _, stop in merged(ranges))]
    stops = [*(start for start, _ in merged(ranges)), np.iinfo(np.int64).max]
    return list(zip(starts, stops, strict=True))


def spread(view: LiveView, wanted: int) -> NDArray[np.float16]:
    """(m, d) so many of the frames' vectors, spread evenly; all where there are fewer."""
    _, rows = view.live_rows()
    sample = np.linspace(0, rows.size - 1, min(rows.size, wanted)).astype(np.int64)
    return view.vectors_at(rows[sample])
