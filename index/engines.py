"""Which search engine serves how many vectors, and what it takes: rules and arithmetic, no FAISS.

==============  ==========================  ======================================================
kind            by the rule                 what it is
==============  ==========================  ======================================================
``flat``        up to 200,000               exact: a blocked matrix product over all vectors
``ivf-fp16``    up to 30 million            inverted lists of float16: what the catalog stores, so
                                            a similarity is what ``flat`` gives
``ivf-pq``      above                       inverted lists of 4-bit product codes (32 bytes at
                                            d = 512) that choose candidates; their similarities
                                            are computed anew from the vectors, which stay on disk
``ivf``         never; by an operator       inverted lists of float32: for vectors that are no
                                            float16, at twice the memory
==============  ==========================  ======================================================

All can add, take out and be filtered. Graphs (HNSW, NSG) cannot take out, so they are no choice here.
``[index] kind`` in the configuration overrides the rule, ``[index] shards`` cuts any kind by program.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

Kind = Literal["flat", "ivf", "ivf-fp16", "ivf-pq"]
KINDS: tuple[str, ...] = get_args(Kind)
#: Kinds whose answers are candidates only, to be ranked anew; see :mod:`index.rerank`.
COMPRESSED: tuple[str, ...] = ("ivf-pq",)

FLAT_MAX = 200_000
FP16_MAX = 30_000_000
#: Vectors a centroid to train on; FAISS warns below 39, and more than 64 changed no recall measured here.
TRAIN_PER_LIST = 64
#: Bits and largest number of parts of a product code: PQ64x4fs.
PQ_BITS, PQ_PARTS = 4, 64
#: Dimensions that 4 bits can stand for at most.
MAX_PART_DIMENSIONS = 16


def choose_kind(n: int) -> Kind:
    """The engine for ``n`` vectors; the table above says why.

    Raises:
        ValueError: ``n`` < 0.
    """
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if n <= FLAT_MAX:
        return "flat"
    return "ivf-fp16" if n <= FP16_MAX else "ivf-pq"


def choose_nlist(n: int) -> int:
    """Inverted lists for ``n`` vectors: 4·√n, but so few that each has 39 to train on.

    Source: FAISS wiki, "Guidelines to choose an index" (4·√n to 16·√n; 30 to 256 a centroid).
    """
    return max(1, min(4 * math.isqrt(max(n, 0)), n // 39))


def choose_nprobe(nlist: int) -> int:
    """Lists to visit: one in 32, at least 16 and at most 256 (and never more than there are)."""
    return min(nlist, max(16, min(nlist // 32, 256)))


def candidates_for(k: int) -> int:
    """How many candidates of a compressed kind are ranked anew for ``k`` neighbours.

    Measured on descriptors of films and dramas, 64 parts of 4 bits of what the centroid leaves: of the 10
    nearest 400 hold 0.996 and 200 hold 0.987; of the 100 nearest 800 hold 0.990 and 400 hold 0.953.
    """
    return max(400, 8 * k)


def pq_parts(d: int) -> int:
    """Parts that a product code cuts ``d`` dimensions into: the most up to 64 that divide them."""
    return max(parts for parts in range(1, min(d, PQ_PARTS) + 1) if d % parts == 0)


def bytes_a_vector(kind: str, d: int) -> float:
    """What FAISS holds for one vector of ``d`` dimensions, in memory and in a file: its code and its id.

    Centroids come on top, see :func:`engine_bytes`; in memory also what lists hold in reserve while they
    grow, and 8 bytes for the id in :class:`index.ids.IdSet`.

    Raises:
        ValueError: There is no such kind.
    """
    code = {"flat": 4 * d, "ivf": 4 * d, "ivf-fp16": 2 * d, "ivf-pq": -(-pq_parts(d) * PQ_BITS // 8)}
    if kind not in code:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return code[kind] + 8


def engine_bytes(kind: str, d: int, n: int, nlist: int = 0) -> int:
    """Memory of an engine with ``n`` vectors and ``nlist`` centroids, by computation.

    Raises:
        ValueError: There is no such kind.
    """
    extra = 0
    if kind == "ivf-pq":
        # Codes come in blocks of 32, the last of each list half full; and the book of codes.
        extra = int(nlist * 16 * (bytes_a_vector(kind, d) - 8)) + (1 << PQ_BITS) * 4 * d
    return int(n * bytes_a_vector(kind, d)) + nlist * 4 * d + extra
