"""The vector index protocol and the records that pass through it.

Shape letters: ``nq`` queries, ``nb`` stored vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

#: Marks "no neighbour" in :attr:`SearchResult.ids`; its similarity is ``-inf``.
NO_ID = -1


@dataclass(frozen=True)
class SearchResult:
    """The k nearest stored vectors of each query, best first.

    Attributes:
        similarities: (nq, k) inner products, descending; ``-inf`` where there is no neighbour.
        ids: (nq, k) ids of the neighbours; ``NO_ID`` where there is none.
    """

    similarities: NDArray[np.float32]
    ids: Ids

    def __post_init__(self) -> None:
        if self.similarities.ndim != 2 or self.similarities.shape != self.ids.shape:
            raise ValueError(
                f"similarities {self.similarities.shape} and ids {self.ids.shape} must be one (nq, k) shape"
            )


@runtime_checkable
class VectorIndex(Protocol):
    """Inner-product search over unit vectors named by int64 ids.

    Every implementation answers as :class:`index.exact.ExactIndex` does, up to float rounding
    (approximate types: up to their recall). Ties go to the lower id where the type is exact.
    """

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        ...

    @property
    def ntotal(self) -> int:
        """Vectors that a search can return."""
        ...

    def add(self, xb: Vectors, ids: Ids) -> None:
        """Store ``xb`` (nb, d) under ``ids`` (nb,). The ids must be new and not negative.

        Raises:
            ValueError: Shapes disagree, a vector is not finite, or an id is used already.
        """
        ...

    def remove_range(self, start: int, stop: int) -> int:
        """Take out all ids in ``[start, stop)``; returns how many there were."""
        ...

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest of each row of ``xq`` (nq, d); fewer stored than k pads with ``NO_ID``."""
        ...
