"""Sets of ids as FAISS's selectors: which vectors a search may return.

The ids of a program are one range, and a search within thousands of programs asks for every vector
whether it is in one of thousands of ranges. FAISS has one range, or a hash of single ids (of which a
catalogue has too many); so ranges hang in a balanced tree here, and a vector takes the logarithm of
their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.base import Ids

Range = tuple[int, int]


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The half-open ranges in order, those that touch or overlap as one, empty ones left out."""
    found: list[Range] = []
    for start, stop in sorted(r for r in ranges if r[0] < r[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def lie_in(ids: Ids, ranges: Sequence[Range]) -> NDArray[np.bool_]:
    """Which ids, of any shape, lie in one of the half-open ranges, which :func:`merged` gave."""
    # Starts and stops alternate, so an id inside has passed an odd number of them.
    bounds = np.array(ranges, dtype=np.int64).reshape(-1)
    inside: NDArray[np.bool_] = np.searchsorted(bounds, ids, side="right") % 2 == 1
    return inside


class Selector:
    """A FAISS selector of ranges.

    What FAISS is handed holds bare pointers to its parts, which live as long as this object: so it is
    used by the methods here and never given out.

    Args:
        faiss: The module.
        ranges: From :func:`merged`; at least one.
    """

    def __init__(self, faiss: Any, ranges: Sequence[Range]) -> None:
        if not ranges:
            raise ValueError("a selector needs at least one range")
        self._faiss = faiss
        self._parts: list[Any] = []
        self._root = self._tree(ranges)

    def remove_from(self, index: Any) -> int:
        """Take what is selected out of a FAISS index; returns how many there were."""
        return int(index.remove_ids(self._root))

    def search(self, index: Any, queries: Any, k: int, *, nprobe: int | None = None) -> tuple[Any, Any]:
        """FAISS's answer from what is selected: (nq, k) similarities and ids.

        Args:
            index: Of FAISS.
            queries: (nq, d) float32.
            k: Neighbours.
            nprobe: Lists to visit, of an index that has some.
        """
        faiss = self._faiss
        if nprobe is None:
            params = faiss.SearchParameters(sel=self._root)
        else:
            params = faiss.SearchParametersIVF(sel=self._root, nprobe=nprobe)
        found, found_ids = index.search(queries, k, params=params)
        return found, found_ids

    def _tree(self, ranges: Sequence[Range]) -> Any:
        if len(ranges) == 1:
            return self._kept(self._faiss.IDSelectorRange(*ranges[0]))
        middle = len(ranges) // 2
        below, above = self._tree(ranges[:middle]), self._tree(ranges[middle:])
        # The outer ranges say which half to ask.
        left = self._kept(self._faiss.IDSelectorRange(ranges[0][0], ranges[middle][0]))
        right = self._kept(self._faiss.IDSelectorRange(ranges[middle][0], ranges[-1][1]))
        return self._kept(
            self._faiss.IDSelectorOr(
                self._kept(self._faiss.IDSelectorAnd(left, below)),
                self._kept(self._faiss.IDSelectorAnd(right, above)),
            )
        )

    def _kept(self, part: Any) -> Any:
        self._parts.append(part)
        return part
