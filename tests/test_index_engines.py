"""The rules of size, the rerank, selections, shards and drift: each by value against the slow way."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_index_exact import ExactContract, IndexContract

from index import drift
from index.base import NO_ID, VectorIndex
from index.drift import Drift, Training, advice, recall_of
from index.engines import KINDS, bytes_a_vector, candidates_for, engine_bytes, pq_parts
from index.errors import IndexStoreError
from index.exact import ExactIndex, best_first
from index.faiss_backend import FaissIndex, load_faiss
from index.half import widened
from index.ids import IdSet
from index.rows import ORDINAL_BITS
from index.selectors import Selector, merged
from index.shards import ShardedIndex, devices_of, new_engine, read_engine, write_engine

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)

# ---------------------------------------------------------------- rules


def test_product_codes_have_parts_that_fit() -> None:
    """64 where they divide the dimensions, else the most that do."""
    assert [pq_parts(d) for d in (1, 5, 64, 100, 128, 512, 672, 1280)] == [1, 5, 64, 50, 64, 64, 56, 64]
    assert candidates_for(10) == 400
    assert candidates_for(100) == 800


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_as_computed(kind: str, tmp_path: Path) -> None:
    """Against the file that FAISS writes, which holds what the memory does."""
    n, d = 20_000, 32
    index = FaissIndex(d, kind=kind, nlist=50)
    index.add(np.random.default_rng(0).standard_normal((n, d)).astype(np.float32), np.arange(n))
    index.write(tmp_path / "x")
    assert (tmp_path / "x").stat().st_size == pytest.approx(engine_bytes(kind, d, n, index.nlist), rel=0.02)
    with pytest.raises(ValueError, match="kind must be"):
        bytes_a_vector("hnsw", d)


def test_half_is_widened_exactly() -> None:
    """All 65,536 patterns, in any shape and from a part of an array."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(widened(every), every.astype(np.float32))
    square = every[np.isfinite(every)][:60_000].reshape(100, 600)
    np.testing.assert_array_equal(widened(square[::3]), square[::3].astype(np.float32))
    assert widened(square[:0]).shape == (0, 600)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 200), st.integers(0, 10**6))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_the_best_of_many_are_those_of_sorting_all(nq: int, k: int, m: int, seed: int) -> None:
    """With many ties, with and without places that hold nobody."""
    rng = np.random.default_rng(seed)
    similarities = rng.integers(0, 1 + seed % 50, (nq, m)).astype(np.float32)
    ids = np.stack([rng.permutation(m) for _ in range(nq)]).astype(np.int64)
    nobody = rng.random((nq, m)) < (seed % 3) / 3
    similarities[nobody], ids[nobody] = -np.inf, NO_ID
    got, got_ids = best_first(similarities, ids, k)
    for row in range(nq):
        order = sorted(range(m), key=lambda i: (-similarities[row, i], ids[row, i]))[:k]
        assert got[row, : len(order)].tolist() == similarities[row, order].tolist()
        assert got_ids[row, : len(order)].tolist() == ids[row, order].tolist()


# ---------------------------------------------------------------- ids and ranges


@given(RANGES)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_merged_ranges_hold_the_same_numbers(ranges: list[tuple[int, int]]) -> None:
    """No number lost or won; in order, apart, none empty."""
    got = merged(ranges)
    assert {i for start, stop in got for i in range(start, stop)} == {
        i for start, stop in ranges for i in range(start, stop)
    }
    assert all(start < stop for start, stop in got)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(got))


@given(RANGES, st.sets(st.integers(0, 60)))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_set_of_ids_counts_and_removes_by_range(ranges: list[tuple[int, int]], ids: set[int]) -> None:
    held = IdSet(np.array(sorted(ids), dtype=np.int64))
    inside = {i for i in ids if any(start <= i < stop for start, stop in ranges)}
    assert held.count(merged(ranges)) == len(inside)
    assert held.remove_ranges(merged(ranges)) == len(inside)
    assert held.sorted().tolist() == sorted(ids - inside)
    assert held.size == len(ids) - len(inside)
    if ids:
        assert (held.first_used(np.array(sorted(ids))) is None) == (not ids - inside)


@given(RANGES)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_a_selector_selects_what_is_in_its_ranges(ranges: list[tuple[int, int]]) -> None:
    """By what FAISS takes out with it."""
    if not merged(ranges):
        return
    faiss = load_faiss()
    index = faiss.IndexIDMap(faiss.IndexFlatIP(2))
    index.add_with_ids(np.ones((61, 2), np.float32), np.arange(61))
    inside = {i for start, stop in ranges for i in range(start, stop) if i <= 60}
    assert Selector(faiss, merged(ranges)).remove_from(index) == len(inside)
    assert set(faiss.vector_to_array(index.id_map).tolist()) == set(range(61)) - inside


def test_a_selector_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one range"):
        Selector(load_faiss(), [])


# ---------------------------------------------------------------- shards


class TestShardsExact(ExactContract):
    """Three flat shards keep the exact contract; ids below 2²⁴ all fall to one."""

    def make(self, d: int) -> VectorIndex:
        return ShardedIndex([FaissIndex(d) for _ in range(3)])


class TestShardsInverted(IndexContract):
    def make(self, d: int) -> VectorIndex:
        return ShardedIndex([FaissIndex(d, kind="ivf-fp16", nlist=3, nprobe=9) for _ in range(2)])


@pytest.mark.parametrize("kind", KINDS)
def test_shards_share_programs_and_centroids_and_survive_files(kind: str, tmp_path: Path) -> None:
    """Every program lies in one shard; the answers are those of one index; so after a file each."""
    rng = np.random.default_rng(0)
    sharded = new_engine(8, kind, devices_of("cpu", 3), nprobe=10**6)
    exact = ExactIndex(8)
    assert isinstance(sharded, ShardedIndex)
    if kind != "flat":
        sharded.train(rng.standard_normal((400, 8)).astype(np.float32))
    sharded.add(np.eye(2, 8, dtype=np.float32), np.array([5, 6]))
    with pytest.raises(ValueError, match="used already"):
        sharded.add(np.eye(2, 8, dtype=np.float32), np.array([4, 5]))
    assert sharded.remove_range(0, 7) == 2
    for number in range(9):
        xb = rng.standard_normal((60, 8)).astype(np.float16).astype(np.float32)
        for each in (sharded, exact):
            each.add(xb, (number << ORDINAL_BITS) + np.arange(60))
    assert [set((shard.ids >> ORDINAL_BITS).tolist()) for shard in sharded.shards] == [
        {0, 3, 6}, {1, 4, 7}, {2, 5, 8},
    ]  # fmt: skip
    write_engine(sharded, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["index-000.faiss", "index-001.faiss", "index-002.faiss"]
    again = read_engine(files, devices_of("cpu", 3), nprobe=10**6)
    xq = rng.standard_normal((5, 8)).astype(np.float32)
    within = [(2 << ORDINAL_BITS, 4 << ORDINAL_BITS), (7 << ORDINAL_BITS, (7 << ORDINAL_BITS) + 30)]
    few = ExactIndex(8)
    stored = np.concatenate([vectors for _, vectors in again.contents()])
    order = np.concatenate([ids for ids, _ in again.contents()])
    inside = np.array([any(a <= i < b for a, b in within) for i in order.tolist()])
    few.add(stored[inside], order[inside])
    for engine in (sharded, again):
        assert (engine.ntotal, engine.kind, engine.d, engine.device) == (540, kind, 8, "cpu")
        np.testing.assert_array_equal(engine.ids, np.sort(order))
        assert engine.imbalance >= 1
        assert recall_of(engine.search(xq, 300).ids, exact.search(xq, 5).ids) == 1.0
        got = engine.search(xq, 100, within=within)
        assert set(got.ids[got.ids >= 0].tolist()) <= set(order[inside].tolist())
        assert recall_of(got.ids, few.search(xq, 5).ids) == 1.0
    with pytest.raises(IndexStoreError, match="3 shards are on disk, 2"):
        read_engine(files, devices_of("cpu", 2))
    with pytest.raises(ValueError, match="at least one shard"):
        ShardedIndex([])
    with pytest.raises(ValueError, match="one kind"):
        ShardedIndex([FaissIndex(2), FaissIndex(2, kind="ivf")])


# ---------------------------------------------------------------- drift


def test_recall_counts_what_is_wanted() -> None:
    got = np.array([[1, 2, 3], [4, 5, 6]])
    assert recall_of(got, got[:, ::-1]) == 1.0
    assert recall_of(got, np.array([[1, 9, 8], [7, 7, 7]])) == pytest.approx(1 / 6)
    assert recall_of(got, np.array([[1, -1, -1], [4, 5, -1]])) == 1.0
    assert recall_of(got, np.full((2, 3), NO_ID)) == 1.0


def test_drift_is_measured_against_brute_force() -> None:
    """An index that finds everything recalls 1, one that lacks half the vectors about half."""
    rng = np.random.default_rng(0)
    xb = rng.standard_normal((500, 16)).astype(np.float16)
    ids = np.arange(500, dtype=np.int64)

    def blocks() -> list[tuple[np.ndarray, np.ndarray]]:
        return [(ids[a : a + 100], xb[a : a + 100]) for a in range(0, 500, 100)]

    whole, half = ExactIndex(16), ExactIndex(16)
    whole.add(xb.astype(np.float32), ids)
    half.add(xb[::2].astype(np.float32), ids[::2])
    assert drift.measure(blocks, xb[:64], whole.search, 1.5, 500).recall == 1.0
    found = drift.measure(blocks, xb[:64], half.search, 1.5, 500)
    assert 0.4 < found.recall < 0.6
    assert (found.imbalance, found.n) == (1.5, 500)


def test_there_is_advice_when_recall_falls_lists_grow_unequal_or_vectors_many() -> None:
    training = Training("t", "2026-01-01", 1000, 1.2)
    assert advice(training, Drift("2026-01-02", 1500, 1.5, 0.99)) == []
    reasons = advice(training, Drift("2026-01-02", 5000, 3.0, 0.9))
    assert len(reasons) == 3
    assert "0.900" in reasons[0]
    assert "2.5 times" in reasons[1]
    assert "5000" in reasons[2]
    assert drift.training_of(drift.to_json(training)) == training
    assert drift.training_of(None) is drift.drift_of(None) is drift.to_json(None) is None
