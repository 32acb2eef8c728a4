"""The rerank: by value against ranking every candidate, on clear data and on data made to be hard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_index_exact import grid, naive

from index.base import NO_ID, Ids, SearchResult, Vectors
from index.drift import near
from index.engines import candidates_for
from index.faiss_backend import FaissIndex
from index.rerank import reranked

D, K, NQ = 64, 10, 70  # more queries than one block


def slow(xq: Vectors, candidates: Ids, k: int, xb: Vectors) -> SearchResult:
    """The k best of all candidates, query by query; ids are rows of ``xb``."""
    rows = [
        naive(xb[own[own != NO_ID]], own[own != NO_ID], xq[row : row + 1], k)
        for row, own in enumerate(candidates)
    ]
    return SearchResult(np.concatenate([r.similarities for r in rows]), np.concatenate([r.ids for r in rows]))


def in_order(similarities: np.ndarray, ids: Ids) -> SearchResult:
    """As an engine gives them: best first."""
    order = np.argsort(-similarities, axis=1, kind="stable")
    return SearchResult(
        np.take_along_axis(similarities, order, axis=1).astype(np.float32),
        np.take_along_axis(ids, order, axis=1),
    )


def units(rng: np.random.Generator, n: int) -> Vectors:
    x = rng.standard_normal((n, D)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_candidates_are_ranked_as_by_brute_force() -> None:
    """Of each query its own, in any order, with gaps; fewer than k are padded; a tie goes to the lower id."""
    d, k = 5, 4
    xb = grid(1, 60, d).astype(np.float16)
    rng = np.random.default_rng(0)
    candidates = np.stack([rng.choice(60, 12, replace=False) for _ in range(9)])
    candidates[rng.random(candidates.shape) < 0.3] = NO_ID
    candidates[3] = NO_ID
    candidates[4, 2:] = NO_ID
    xq = grid(2, 9, d)
    rough = SearchResult(np.where(candidates == NO_ID, -np.inf, 0.0).astype(np.float32), candidates)
    got = reranked(xq, rough, k, lambda ids: xb[ids])
    want = slow(xq, candidates, k, xb.astype(np.float32))
    np.testing.assert_array_equal(got.similarities, want.similarities)
    np.testing.assert_array_equal(got.ids, want.ids)


@pytest.mark.parametrize("nq", [0, 1, NQ])
@pytest.mark.parametrize("m", [1, 9, 33, 400])
def test_ties_go_to_the_lower_id_however_many(nq: int, m: int) -> None:
    """All true similarities of few values: what is not read ties with nothing that is kept."""
    rng = np.random.default_rng(m)
    xb = np.repeat(grid(3, 6, 5), 100, axis=0)[:500].astype(np.float16)
    xq = grid(4, nq, 5)
    ids = np.array([rng.choice(500, m, replace=False) for _ in range(nq)], dtype=np.int64).reshape(nq, m)
    true = np.einsum("qd,qmd->qm", xq, xb[ids].astype(np.float32))
    rough = in_order(true, ids)
    got = reranked(xq, rough, K, lambda some: xb[some])
    want = slow(xq, ids, K, xb.astype(np.float32)) if nq else got
    assert got.ids.shape == (nq, K)
    np.testing.assert_array_equal(got.similarities, want.similarities)
    np.testing.assert_array_equal(got.ids, want.ids)


def _scenes(rng: np.random.Generator) -> tuple[Vectors, Vectors]:
    """Scenes of 20 frames, asked for by noisy copies."""
    xb = near(np.repeat(units(rng, 150), 20, axis=0), 0.9, rng)
    return xb, near(xb[rng.choice(3000, NQ)], 0.85, rng)


def _unlike(rng: np.random.Generator) -> tuple[Vectors, Vectors]:
    """Nothing is near anything."""
    return units(rng, 3000), units(rng, NQ)


def _alike(rng: np.random.Generator) -> tuple[Vectors, Vectors]:
    """All frames of one still scene."""
    one = units(rng, 1)
    return near(np.repeat(one, 3000, axis=0), 0.995, rng), near(np.repeat(one, NQ, axis=0), 0.95, rng)


def _copies(rng: np.random.Generator) -> tuple[Vectors, Vectors]:
    """Long still scenes with many frames the same, and some nearly."""
    xb = np.repeat(units(rng, 20), 150, axis=0)
    xb[::7] = near(xb[::7], 0.95, rng)
    return xb, near(xb[rng.choice(3000, NQ)], 0.9, rng)


@pytest.mark.parametrize("made", [_scenes, _unlike, _alike, _copies])
def test_what_is_not_read_is_not_missed(
    made: Callable[[np.random.Generator], tuple[Vectors, Vectors]],
) -> None:
    """The ten nearest of product codes' candidates are those of reading all of them."""
    xb, xq = made(np.random.default_rng(5))
    half = xb.astype(np.float16)
    index = FaissIndex(D, kind="ivf-pq")
    index.add(half.astype(np.float32), np.arange(3000))
    rough = index.search(xq, candidates_for(K))
    read = []

    def vectors_of(ids: Ids) -> np.ndarray:
        read.append(ids.size)
        return half[ids]

    got, want = reranked(xq, rough, K, vectors_of), slow(xq, rough.ids, K, half.astype(np.float32))
    np.testing.assert_allclose(got.similarities, want.similarities, atol=1e-6)
    assert sum(read) <= (rough.ids != NO_ID).sum()
    if made is _scenes:
        assert sum(read) < 100 * NQ


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    """One query at a time is answered to the last bit as all together."""
    rng = np.random.default_rng(6)
    half, xq = (x.astype(t) for x, t in zip(_scenes(rng), (np.float16, np.float32), strict=True))
    ids = np.array([rng.choice(3000, 400, replace=False) for _ in range(NQ)])
    true = np.einsum("qd,qmd->qm", xq, half[ids].astype(np.float32))
    rough = in_order(true + rng.normal(0, 0.05, true.shape), ids)
    together = reranked(xq, rough, K, lambda some: half[some])
    for row in range(NQ):
        own = slice(row, row + 1)
        alone = reranked(
            xq[own], SearchResult(rough.similarities[own], rough.ids[own]), K, lambda some: half[some]
        )
        np.testing.assert_array_equal(alone.ids, together.ids[own])
        np.testing.assert_array_equal(alone.similarities, together.similarities[own])


def test_rough_similarities_that_tell_nothing_have_all_candidates_read() -> None:
    """Noise: every candidate may be the best, so every one is read, once."""
    rng = np.random.default_rng(7)
    half, xq = units(rng, 3000).astype(np.float16), units(rng, NQ)
    ids = np.array([rng.choice(3000, 400, replace=False) for _ in range(NQ)])
    read = []

    def vectors_of(some: Ids) -> np.ndarray:
        read.append(some.size)
        return half[some]

    got = reranked(xq, in_order(rng.normal(0, 0.01, ids.shape), ids), K, vectors_of)
    want = slow(xq, ids, K, half.astype(np.float32))
    np.testing.assert_allclose(got.similarities, want.similarities, atol=1e-6)
    assert 0.97 * ids.size < sum(read) <= ids.size


def test_a_search_for_more_than_there_are_leaves_none_out() -> None:
    """FAISS's own scan of 4-bit codes drops vectors of the lowest rounded score."""
    index = FaissIndex(4, kind="ivf-pq")
    xb = (np.random.default_rng(0).integers(-3, 4, (7, 4)) / 2).astype(np.float32)
    index.train(xb, expected=7)
    index.add(xb, np.arange(7))
    for seed in range(50):
        xq = (np.random.default_rng(seed).integers(-3, 4, (4, 4)) / 2).astype(np.float32)
        for ids in index.search(xq, 40).ids:
            assert sorted(ids[:7]) == list(range(7))
        for ids in index.search(xq, 40, within=[(2, 6)]).ids:
            assert sorted(ids[:4]) == [2, 3, 4, 5]
            assert (ids[4:] == -1).all()
