"""Brute force: what every :class:`index.base.VectorIndex` must answer, written to be read.

Shape letters: ``nq`` queries, ``nb`` stored vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, Ids, SearchResult, Vectors

#: Rows of one block of the similarity matrix, and its columns: 256 × 8192 floats are 8 MiB.
QUERY_BLOCK = 256
BASE_BLOCK = 8192


def as_vectors(x: Vectors, d: int, *, what: str) -> Vectors:
    """Check vectors and bring them into the layout that BLAS and FAISS want.

    Args:
        x: (n, d) finite numbers.
        d: Dimensions wanted.
        what: The argument's name, for the message.

    Returns:
        (n, d) float32, C-contiguous; a copy only if it must be.

    Raises:
        ValueError: ``x`` has another shape, or a value is NaN or infinite.
    """
    vectors = np.ascontiguousarray(x, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != d:
        raise ValueError(f"{what} must be (n, {d}), got {vectors.shape}")
    if not bool(np.isfinite(vectors).all()):
        bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ValueError(f"{what} row {bad} is not finite")
    return vectors


def as_new_ids(ids: Ids, n: int) -> Ids:
    """Check the ids of ``n`` new vectors among themselves.

    Raises:
        ValueError: They are not (n,) integers, one is negative, or one comes twice.
    """
    checked = np.asarray(ids)
    if checked.shape != (n,) or (n > 0 and not np.issubdtype(checked.dtype, np.integer)):
        raise ValueError(f"ids must be ({n},) integers, got {checked.shape} {checked.dtype}")
    checked = np.ascontiguousarray(checked, dtype=np.int64)
    if n and int(checked.min()) < 0:
        raise ValueError(f"ids must not be negative, got {int(checked.min())}")
    if np.unique(checked).size != n:
        values, counts = np.unique(checked, return_counts=True)
        raise ValueError(f"id {int(values[counts > 1][0])} is given twice")
    return checked


def check_k(k: int) -> None:
    """Refuse a number of neighbours below one.

    Raises:
        ValueError: ``k`` < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def best_first(
    similarities: NDArray[np.float32], ids: Ids, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keep the k best of each row: by descending similarity, ties by ascending id.

    Args:
        similarities: (nq, m) inner products; ``-inf`` marks no neighbour.
        ids: (nq, m) ids.
        k: Columns to keep; with m < k the rest is ``-inf`` and ``NO_ID``.

    Returns:
        (nq, k) similarities and ids.
    """
    similarities, ids = _hopeful(similarities, ids, k)
    nq, m = similarities.shape
    # Lower id first, but the padding (NO_ID, -inf) last even so: it has the lowest similarity.
    order = np.lexsort((ids, -similarities), axis=-1)[:, :k]
    out_similarities = np.full((nq, k), -np.inf, dtype=np.float32)
    out_ids = np.full((nq, k), NO_ID, dtype=np.int64)
    rows = np.arange(nq)[:, None]  # of few queries faster than take_along_axis
    out_similarities[:, : min(m, k)] = similarities[rows, order]
    out_ids[:, : min(m, k)] = ids[rows, order]
    return out_similarities, out_ids


def _hopeful(
    similarities: NDArray[np.float32], ids: Ids, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The columns that may be among the k best, of many: sorting all of them takes ten times as long."""
    m = similarities.shape[1]
    if m < 8 * k:
        return similarities, ids
    kth = np.partition(similarities, m - k, axis=1)[:, m - k]
    is_hopeful = similarities >= kth[:, None]  # so that no tie is cut
    counts = is_hopeful.sum(axis=1)
    most = int(counts.max(initial=0))
    if most > m // 2:
        return similarities, ids
    # Moved to the left by hand: argpartition takes as long as sorting where most are -inf.
    filled = np.arange(most) < counts[:, None]
    left = np.full(filled.shape, -np.inf, dtype=np.float32)
    left_ids = np.full(filled.shape, NO_ID, dtype=np.int64)
    left[filled], left_ids[filled] = similarities[is_hopeful], ids[is_hopeful]
    return left, left_ids


class ExactIndex:
    """The specification of :class:`index.base.VectorIndex`, in numpy.

    Args:
        d: Dimensions of a vector.
    """

    def __init__(self, d: int) -> None:
        if d < 1:
            raise ValueError(f"d must be at least 1, got {d}")
        self._vectors: Vectors = np.zeros((0, d), dtype=np.float32)
        self._ids: Ids = np.zeros(0, dtype=np.int64)

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return int(self._vectors.shape[1])

    @property
    def ntotal(self) -> int:
        """Vectors stored."""
        return int(self._ids.size)

    def add(self, xb: Vectors, ids: Ids) -> None:
        """Store ``xb`` (nb, d) under ``ids`` (nb,).

        Raises:
            ValueError: Shapes disagree, a vector is not finite, or an id is used already.
        """
        vectors = as_vectors(xb, self.d, what="xb")
        new_ids = as_new_ids(ids, vectors.shape[0])
        used = np.isin(new_ids, self._ids)
        if bool(used.any()):
            raise ValueError(f"id {int(new_ids[used][0])} is used already")
        self._vectors = np.concatenate([self._vectors, vectors])
        self._ids = np.concatenate([self._ids, new_ids])

    def remove_range(self, start: int, stop: int) -> int:
        """Take out all ids in ``[start, stop)``; returns how many there were."""
        keep = (self._ids < start) | (self._ids >= stop)
        removed = int(self._ids.size - np.count_nonzero(keep))
        self._vectors, self._ids = self._vectors[keep], self._ids[keep]
        return removed

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest of each row of ``xq`` (nq, d), ties to the lower id.

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """

        def blocks() -> Iterator[tuple[Ids, Vectors]]:
            for b in range(0, self.ntotal, BASE_BLOCK):
                yield self._ids[b : b + BASE_BLOCK], self._vectors[b : b + BASE_BLOCK]

        return search_blocks(blocks(), as_vectors(xq, self.d, what="xq"), k)


def search_blocks(blocks: Iterable[tuple[Ids, Vectors]], xq: Vectors, k: int) -> SearchResult:
    """Brute force over vectors that come block by block, so that they need not all be in memory.

    Args:
        blocks: (m,) ids and (m, d) float32 vectors of each.
        xq: (nq, d) float32.
        k: Neighbours of each query, ties to the lower id.

    Raises:
        ValueError: ``k`` < 1.
    """
    check_k(k)
    similarities = np.full((xq.shape[0], k), -np.inf, dtype=np.float32)
    ids = np.full((xq.shape[0], k), NO_ID, dtype=np.int64)
    for base_ids, base in blocks:
        for q in range(0, xq.shape[0], QUERY_BLOCK):
            rows = slice(q, q + QUERY_BLOCK)
            block = xq[rows] @ base.T
            block_ids = np.broadcast_to(base_ids, block.shape)
            similarities[rows], ids[rows] = best_first(
                np.concatenate([similarities[rows], block], axis=1),
                np.concatenate([ids[rows], block_ids], axis=1),
                k,
            )
    return SearchResult(similarities=similarities, ids=ids)
