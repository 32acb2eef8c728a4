"""LanceDB's own approximate search, to be held against FAISS; nothing of the product uses it.

Shape letters: ``nq`` queries, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfRq

from index.base import NO_ID, Ids, Vectors

#: Lists to visit and how many times k are ranked anew from the vectors, from cheap to dear.
LADDER = ((10, 2), (20, 5), (20, 10), (40, 10), (80, 20), (160, 40), (320, 80))


#: A recall that is lower by less counts as equal.
AS_MUCH = 0.005


@dataclass(frozen=True)
class Effort:
    """What one search of LanceDB does.

    Attributes:
        nprobes: Lists to visit.
        refine_factor: Times k candidates, ranked anew by their vectors.
    """

    nprobes: int
    refine_factor: int


class LanceAnn:
    """One table with an inverted index of binary codes over unit vectors.

    Args:
        folder: Where the table is made.
        d: Dimensions of a vector.
        programs: (m,) ids and (m, d) vectors, one program after the other.
    """

    def __init__(self, folder: Path, d: int, programs: Iterable[tuple[Ids, Vectors]]) -> None:
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float16(), d))])

        def batches() -> Iterator[pa.RecordBatch]:
            for ids, vectors in programs:
                half = pa.array(vectors.astype(np.float16).reshape(-1))
                columns = [pa.array(ids), pa.FixedSizeListArray.from_arrays(half, d)]
                yield pa.record_batch(columns, schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self._table = lancedb.connect(folder).create_table("vectors", data=reader)
        n = self._table.count_rows()
        # A bit a dimension, ranked anew by the vectors: it recalls as much as product codes (IvfPq) in less
        # time, and is made in seconds where those take minutes. Lists of about 4,096, as LanceDB advises.
        codes = IvfRq(distance_type="dot", num_partitions=max(1, n // 4096))
        self._table.create_index("vector", config=codes)

    def search(self, xq: Vectors, k: int, effort: Effort) -> Ids:
        """(nq, k) ids of the nearest of each row of ``xq`` (nq, d), best first; padded with ``NO_ID``."""
        query: Any = self._table.search(list(xq) if len(xq) > 1 else xq[0], vector_column_name="vector")
        found = (
            query.nprobes(effort.nprobes)
            .refine_factor(effort.refine_factor)
            .limit(k)
            .select(["id", "_distance"])
            .to_arrow()
        )
        ids = np.full((len(xq), k), NO_ID, dtype=np.int64)
        row = found["query_index"].to_numpy() if len(xq) > 1 else np.zeros(len(found), dtype=np.int64)
        for number in range(len(xq)):
            own = found["id"].to_numpy()[row == number]
            ids[number, : own.size] = own
        return ids

    def effort_for(
        self, xq: Vectors, k: int, recall: float, recall_of: Callable[[Ids], float]
    ) -> tuple[Effort, float]:
        """The least effort whose recall reaches ``recall``, else the greatest; and what it reaches."""
        for nprobes, refine_factor in LADDER:
            effort = Effort(nprobes, refine_factor)
            reached = recall_of(self.search(xq, k, effort))
            if reached >= recall - AS_MUCH:
                break
        return effort, reached
