"""Ranks candidates anew by their true similarity: the second half of a search in a compressed index.

Reading a candidate's vector costs more than finding the candidate, and where a query is clear most of 400
are far behind. So not all are read. First come those that seem best and some spread evenly over the others.
The line that fits them, true similarity over rough, and how far they scatter about it, foretell the others:
one is read unless it would miss the k best even at :data:`DEVIATIONS` standard deviations above the line.
Where rough similarities tell little, as of vectors that are all alike or have nothing in common, that is all
of them.

An answer depends on the query and its candidates alone, not on what else is asked with it.

Shape letters: ``nq`` queries, ``m`` candidates of each, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, Ids, SearchResult, Vectors
from index.exact import best_first
from index.faiss_backend import HalfSearch

#: Queries whose vectors are fetched together: those of more leave the cache before they are used.
BLOCK = 64
#: How many of those that seem best are read whatever they are: so many times k, and at least so many.
BEST_PER_K, BEST_LEAST = 2, 32
#: How many of the others are, to see how these compare.
SPREAD = 24
#: Standard deviations above what is foretold. Of the ten nearest of 400 candidates, 4 lost 0.0014 and 5 lost
#: 0.0004 of real descriptors; neither lost any of vectors made up to be hard.
DEVIATIONS = 5.0

_VectorsOf = Callable[[Ids], NDArray[np.float16]]


def reranked(xq: Vectors, rough: SearchResult, k: int, vectors_of: _VectorsOf) -> SearchResult:
    """The k best of each query's candidates by inner product, ties to the lower id.

    Args:
        xq: (nq, d) float32.
        rough: (nq, m) candidates, best first, with similarities that are about right.
        k: Neighbours to keep.
        vectors_of: Gives (n, d) vectors of (n,) ids, in any order and some of them several times. It is
            asked by several threads.
    """
    nq = xq.shape[0]
    if nq <= BLOCK:
        found, found_ids = _ranked(xq, rough.similarities, rough.ids, k, vectors_of)
        return SearchResult(similarities=found, ids=found_ids)
    similarities = np.empty((nq, k), dtype=np.float32)
    ids = np.empty((nq, k), dtype=np.int64)

    def rank(start: int) -> None:
        rows = slice(start, start + BLOCK)
        similarities[rows], ids[rows] = _ranked(
            xq[rows], rough.similarities[rows], rough.ids[rows], k, vectors_of
        )

    starts = range(0, nq, BLOCK)
    # Reading vectors and FAISS let other threads run meanwhile.
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(starts))) as pool:
        list(pool.map(rank, starts))
    return SearchResult(similarities=similarities, ids=ids)


def _ranked(
    xq: Vectors, rough: NDArray[np.float32], ids: Ids, k: int, vectors_of: _VectorsOf
) -> tuple[NDArray[np.float32], Ids]:
    """(nq, k) similarities and ids of one block of queries."""
    half = HalfSearch(xq.shape[1])
    known = ids != NO_ID
    true = np.full(ids.shape, -np.inf, dtype=np.float32)

    def read(wanted: NDArray[np.bool_]) -> None:
        true[wanted] = half.similarities(xq, vectors_of(ids[wanted]), wanted.sum(axis=1))

    columns = _sampled(ids.shape[1], k)
    sampled = np.zeros_like(known)
    sampled[:, columns] = known[:, columns]
    read(sampled)
    found, found_ids = best_first(true[:, columns], ids[:, columns], k)
    others = known & ~sampled & (rough >= _hopeless_below(rough[:, columns], true[:, columns], found[:, -1]))
    rows = np.flatnonzero(others.any(axis=1))
    if rows.size:
        read(others)
        found[rows], found_ids[rows] = best_first(true[rows], ids[rows], k)
    return found, found_ids


@functools.cache
def _sampled(m: int, k: int) -> NDArray[np.int64]:
    """(n,) places of those of ``m`` candidates that are read whatever they are, ascending."""
    n_best = min(m, max(BEST_PER_K * k, BEST_LEAST))
    spread = np.linspace(n_best, m - 1, min(SPREAD, m - n_best)).astype(np.int64)
    return np.concatenate([np.arange(n_best), spread])


def _hopeless_below(
    rough: NDArray[np.float32], true: NDArray[np.float32], kth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(nq, 1) the rough similarity below which a candidate will not be as good as the k-th best.

    Args:
        rough: (nq, n) similarities of those sampled; ``-inf`` for none.
        true: Likewise.
        kth: (nq,) the k-th best true one; ``-inf`` where there are not k.
    """
    n = rough.shape[1]
    # In float64 the mean of equal numbers is that number, so that of ties none is below.
    x, y = rough.astype(np.float64), true.astype(np.float64)
    with np.errstate(all="ignore"):  # without a slope it is all or nothing; without n candidates, nothing
        x_mean, y_mean = x.sum(axis=1) / n, y.sum(axis=1) / n
        x -= x_mean[:, None]
        y -= y_mean[:, None]
        variance, covariance = np.einsum("qn,qn->q", x, x), np.einsum("qn,qn->q", x, y)
        slope = np.maximum(covariance / np.maximum(variance, np.finfo(np.float64).tiny), 0.0)
        y -= slope[:, None] * x
        deviation = np.sqrt(np.einsum("qn,qn->q", y, y) / n)
        below: NDArray[np.float64] = x_mean + (kth - y_mean - DEVIATIONS * deviation) / slope
    return np.where(np.isnan(below), -np.inf, below)[:, None]
