"""How far an index has moved from what its centroids were made of, and whether to make them anew.

Centroids are frozen when they are trained, so that adding and removing stay incremental. As the catalogue
changes, lists grow unequal and neighbours fall into lists that a search does not visit. Both are watched
whenever a snapshot is written, and ``matcher status`` shows them.

Shape letters: ``n`` vectors, ``nq`` queries, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.base import Ids, SearchResult, Vectors
from index.exact import search_blocks
from index.half import widened
from index.rows import now_utc

K = 10
N_QUERIES = 64
#: How alike a query is to the stored vector that it is a noisy copy of: about what editing leaves.
QUERY_COSINE = 0.85

#: What advises to retrain: recall below, lists so many times as unequal as when trained, and so many
#: times as many vectors.
RECALL_BELOW, IMBALANCE_ABOVE, GROWN_ABOVE = 0.95, 2.0, 4.0


@dataclass(frozen=True)
class Training:
    """When and on what an index's centroids were made.

    Attributes:
        token: Tells these centroids from others.
        at: UTC, ISO 8601.
        n: Vectors that there were.
        imbalance: Of the lists, with these vectors in them.
    """

    token: str
    at: str
    n: int
    imbalance: float

    @classmethod
    def of_now(cls, n: int, imbalance: float) -> Training:
        """The record of a training that is just done."""
        return cls(secrets.token_hex(8), now_utc(), n, imbalance)


@dataclass(frozen=True)
class Drift:
    """How an index stood when it was last saved.

    Attributes:
        at: UTC, ISO 8601.
        n: Vectors.
        imbalance: Of the lists: 1 when all are as long.
        recall: Share of the 10 nearest by brute force that a search finds, over sampled queries.
    """

    at: str
    n: int
    imbalance: float
    recall: float


def advice(training: Training, drift: Drift) -> list[str]:
    """Why to retrain, in words; empty where there is no reason."""
    reasons = []
    if drift.recall < RECALL_BELOW:
        reasons.append(f"recall@{K} is {drift.recall:.3f}, below {RECALL_BELOW}")
    unequal = drift.imbalance / training.imbalance
    if unequal > IMBALANCE_ABOVE:
        reasons.append(f"lists are {unequal:.1f} times as unequal as when trained")
    if drift.n > GROWN_ABOVE * max(training.n, 1):
        reasons.append(f"{drift.n} vectors stand in lists made for {training.n}")
    return reasons


def measure(
    blocks: Callable[[], Iterable[tuple[Ids, NDArray[np.float16]]]],
    sample: NDArray[np.float16],
    search: Callable[[Vectors, int], SearchResult],
    imbalance: float,
    n: int,
) -> Drift:
    """Sampled recall against brute force over all vectors, which are read once.

    Args:
        blocks: Gives all (m,) ids and (m, d) vectors.
        sample: (nq, d) some of them; noisy copies are asked for.
        search: What is measured.
        imbalance: Of its lists.
        n: Vectors in all.
    """
    queries = near(widened(sample), QUERY_COSINE, np.random.default_rng(0))
    wanted = search_blocks(((ids, widened(vectors)) for ids, vectors in blocks()), queries, K)
    recall = recall_of(search(queries, K).ids, wanted.ids)
    return Drift(now_utc(), n, imbalance, recall)


def near(middle: Vectors, cosine: float, rng: np.random.Generator) -> Vectors:
    """Unit vectors at about this cosine to the rows of ``middle`` (n, d), each in its own direction."""
    noise = rng.standard_normal(middle.shape, dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    found = cosine * middle + np.sqrt(np.float32(1 - cosine**2)) * noise
    unit: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def recall_of(got: Ids, wanted: Ids) -> float:
    """Share of ``wanted`` (nq, k), where there are such, that is in the same row of ``got``; 1 of none."""
    hits: NDArray[np.bool_] = (got[:, :, None] == wanted[:, None, :]).any(axis=1)
    return float(hits[wanted >= 0].mean()) if bool((wanted >= 0).any()) else 1.0


def to_json(record: Training | Drift | None) -> dict[str, Any] | None:
    """As a manifest holds it."""
    return None if record is None else asdict(record)


def training_of(content: Mapping[str, Any] | None) -> Training | None:
    """What :func:`to_json` wrote; None where it wrote none."""
    return None if content is None else Training(**content)


def drift_of(content: Mapping[str, Any] | None) -> Drift | None:
    """As :func:`training_of`."""
    return None if content is None else Drift(**content)
