"""Ranks candidates anew by their true similarity: the second half of a search in a compressed index.

Shape letters: ``nq`` queries, ``m`` candidates of each, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, Ids, SearchResult, Vectors
from index.exact import best_first
from index.faiss_backend import HalfSearch

#: Queries that a thread must have to be worth starting.
_ROWS_A_THREAD = 8


def reranked(
    xq: Vectors, candidates: Ids, k: int, vectors_of: Callable[[Ids], NDArray[np.float16]]
) -> SearchResult:
    """The k best of each query's candidates by inner product, ties to the lower id.

    Args:
        xq: (nq, d) float32.
        candidates: (nq, m) ids; ``NO_ID`` for none.
        k: Neighbours to keep.
        vectors_of: Gives (n, d) vectors of (n,) ids, which ascend: the file behind is read forwards. It is
            asked by several threads.
    """
    nq = candidates.shape[0]
    similarities = np.full((nq, k), -np.inf, dtype=np.float32)
    ids = np.full((nq, k), NO_ID, dtype=np.int64)

    def rank(rows: range) -> None:
        half = HalfSearch(xq.shape[1])
        for row in rows:
            own = np.sort(candidates[row])
            known = own[np.searchsorted(own, NO_ID, side="right") :]
            if known.size:
                found, places = half.search(xq[row : row + 1], vectors_of(known), min(known.size, k + 1))
                best, best_ids = best_first(found, known[places], k)
                similarities[row], ids[row] = best[0], best_ids[0]

    parts = min(len(os.sched_getaffinity(0)), nq // _ROWS_A_THREAD)
    if parts < 2:
        rank(range(nq))
    else:
        # Reading vectors and FAISS let other threads run meanwhile.
        with ThreadPoolExecutor(parts) as pool:
            list(pool.map(rank, [range(part, nq, parts) for part in range(parts)]))
    return SearchResult(similarities=similarities, ids=ids)
