"""The contract that every vector index keeps, by value, and brute force itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.base import NO_ID, SearchResult, VectorIndex
from index.exact import BASE_BLOCK, QUERY_BLOCK, ExactIndex, best_first

#: One contract runs for several classes; they share nothing, so which one runs it is no matter.
INHERITED = [HealthCheck.differing_executors]


def grid(seed: int, n: int, d: int) -> np.ndarray:
    """Vectors whose inner products are exact in float16 and float32, so that ties are ties."""
    return np.random.default_rng(seed).integers(-2, 3, size=(n, d)).astype(np.float32) / 2


def naive(xb: np.ndarray, ids: np.ndarray, xq: np.ndarray, k: int) -> SearchResult:
    """The definition, with Python's own sort."""
    similarities = np.full((len(xq), k), -np.inf, dtype=np.float32)
    found = np.full((len(xq), k), NO_ID, dtype=np.int64)
    for row, query in enumerate(xq):
        pairs = sorted((-float(np.dot(query, x)), int(i)) for x, i in zip(xb, ids, strict=True))[:k]
        for column, (negated, i) in enumerate(pairs):
            similarities[row, column], found[row, column] = -negated, i
    return SearchResult(similarities, found)


def assert_same(got: SearchResult, want: SearchResult) -> None:
    np.testing.assert_array_equal(got.similarities, want.similarities)
    np.testing.assert_array_equal(got.ids, want.ids)
    assert got.similarities.dtype == np.float32
    assert got.ids.dtype == np.int64


class IndexContract:
    """Inherit and override :meth:`make` (and let approximate kinds visit everything)."""

    def make(self, d: int) -> VectorIndex:
        raise NotImplementedError

    def test_is_a_vector_index(self) -> None:
        """Every implementation has the protocol's members."""
        index = self.make(3)
        assert isinstance(index, VectorIndex)
        assert (index.d, index.ntotal) == (3, 0)

    def test_real_vectors_agree_with_brute_force(self) -> None:
        """On unit vectors the similarities agree to float rounding, and so do the ids."""
        rng = np.random.default_rng(3)
        xb = rng.standard_normal((700, 32)).astype(np.float16).astype(np.float32)
        xq = rng.standard_normal((40, 32)).astype(np.float32)
        ids = rng.permutation(700).astype(np.int64)
        index, exact = self.make(32), ExactIndex(32)
        index.add(xb, ids)
        exact.add(xb, ids)
        got, want = index.search(xq, 10), exact.search(xq, 10)
        np.testing.assert_allclose(got.similarities, want.similarities, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(got.ids, want.ids)

    def test_negative_similarities_are_kept(self) -> None:
        """A neighbour at −1 is a neighbour, and better than none."""
        index = self.make(2)
        index.add(np.array([[-1.0, 0.0]], np.float32), np.array([5]))
        got = index.search(np.array([[1.0, 0.0]], np.float32), 2)
        assert got.similarities.tolist() == [[-1.0, -np.inf]]
        assert got.ids.tolist() == [[5, NO_ID]]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite_is_refused(self, bad: float) -> None:
        """NaN and infinities are refused when stored and when asked, and change nothing."""
        index = self.make(2)
        index.add(np.eye(2, dtype=np.float32), np.array([1, 2]))
        with pytest.raises(ValueError, match="row 1 is not finite"):
            index.add(np.array([[1, 0], [0, bad]], np.float32), np.array([3, 4]))
        with pytest.raises(ValueError, match="xq row 0 is not finite"):
            index.search(np.array([[bad, 0]], np.float32), 1)
        assert index.ntotal == 2

    def test_ids_must_be_new_and_not_negative(self) -> None:
        """An id in use, twice in one call, negative, or no integer is refused, and changes nothing."""
        index, x = self.make(2), np.eye(2, dtype=np.float32)
        index.add(x, np.array([1, 7]))
        for ids, why in (
            ([9, 7], "id 7 is used already"),
            ([0, 1], "id 1 is used already"),
            ([8, 8], "id 8 is given twice"),
            ([-1, 8], "negative"),
            ([1.5, 8.0], "integers"),
            ([8], "integers"),
        ):
            with pytest.raises(ValueError, match=why):
                index.add(x, np.array(ids))
        assert index.ntotal == 2
        index.remove_range(7, 8)
        index.add(x[:1], np.array([7]))
        assert index.ntotal == 2

    def test_wrong_shapes_are_refused(self) -> None:
        """Vectors of another d, of one dimension, and k below one."""
        index = self.make(3)
        with pytest.raises(ValueError, match=r"xb must be \(n, 3\)"):
            index.add(np.zeros((1, 2), np.float32), np.array([1]))
        with pytest.raises(ValueError, match=r"xq must be \(n, 3\)"):
            index.search(np.zeros(3, np.float32), 1)
        with pytest.raises(ValueError, match="k must be"):
            index.search(np.zeros((1, 3), np.float32), 0)

    def test_empty_and_emptied(self) -> None:
        """Nothing stored, nothing asked, nothing added, and everything removed are all answered."""
        index = self.make(2)
        nothing = np.zeros((0, 2), np.float32)
        index.add(nothing, np.zeros(0, np.int64))
        assert index.remove_range(0, 10) == 0
        assert index.search(nothing, 3).ids.shape == (0, 3)
        index.add(np.eye(2, dtype=np.float32), np.array([4, 5]))
        assert index.search(nothing, 3).ids.shape == (0, 3)
        assert index.remove_range(0, 100) == 2
        got = index.search(np.eye(2, dtype=np.float32), 3)
        assert (got.ids == NO_ID).all()
        assert np.isneginf(got.similarities).all()

    def test_other_layouts_are_taken(self) -> None:
        """Float64, Fortran order and int32 ids are as good."""
        index = self.make(2)
        index.add(np.asfortranarray(np.eye(2)), np.array([3, 4], np.int32))
        assert index.search(np.asfortranarray(np.eye(2)), 1).ids.tolist() == [[3], [4]]


class ExactContract(IndexContract):
    """For the exact types: every tie goes to the lower id, so answers are equal as they stand."""

    @settings(max_examples=40, deadline=None, suppress_health_check=INHERITED)
    @given(
        seed=st.integers(0, 2**32 - 1),
        n=st.integers(0, 60),
        d=st.integers(1, 9),
        nq=st.integers(0, 25),
        k=st.integers(1, 70),
    )
    def test_equals_the_definition(self, seed: int, n: int, d: int, nq: int, k: int) -> None:
        """Ids and similarities are the naive ones, ties and negative ones included."""
        rng = np.random.default_rng(seed)
        xb, xq = grid(seed, n, d), grid(seed + 1, nq, d)
        ids = rng.choice(1000, n, replace=False).astype(np.int64) + (1 << 40)
        index = self.make(d)
        half = n // 2
        index.add(xb[:half], ids[:half])
        index.add(xb[half:], ids[half:])
        assert index.ntotal == n
        assert_same(index.search(xq, k), naive(xb, ids, xq, k))

    @settings(max_examples=25, deadline=None, suppress_health_check=INHERITED)
    @given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 8))
    def test_equals_the_definition_after_changes(self, seed: int, steps: int) -> None:
        """Any sequence of adding and removing answers as what is left by then."""
        rng = np.random.default_rng(seed)
        index, kept = self.make(4), {}
        for step in range(steps):
            xb = grid(seed + step, int(rng.integers(1, 12)), 4)
            ids = step * 100 + rng.permutation(len(xb)).astype(np.int64)
            index.add(xb, ids)
            kept |= dict(zip(ids.tolist(), xb, strict=True))
            start = int(rng.integers(0, steps * 100))
            stop = start + int(rng.integers(0, 150))
            gone = [i for i in kept if start <= i < stop]
            assert index.remove_range(start, stop) == len(gone)
            for i in gone:
                del kept[i]
            assert index.ntotal == len(kept)
            left = np.array(list(kept.values()), dtype=np.float32).reshape(-1, 4)
            xq = grid(seed - step - 1 & 0xFFFF, 3, 4)
            assert_same(index.search(xq, 7), naive(left, np.array(list(kept), dtype=np.int64), xq, 7))

    def test_many_equal_vectors_give_the_lowest_ids(self) -> None:
        """The k-th place is tied hundreds of times over, whatever the order of adding."""
        ids = np.random.default_rng(0).permutation(500).astype(np.int64)
        index = self.make(3)
        index.add(np.tile(np.array([[1, 0, 0]], np.float32), (500, 1)), ids)
        index.add(np.array([[2, 0, 0]], np.float32), np.array([999]))
        got = index.search(np.tile(np.array([[1, 0, 0]], np.float32), (30, 1)), 5)
        assert got.ids.tolist() == [[999, 0, 1, 2, 3]] * 30

    def test_order_of_adding_does_not_matter(self) -> None:
        """The same vectors under the same ids, in another order, give the same answer."""
        xb, ids, xq = grid(1, 50, 5), np.arange(50), grid(2, 6, 5)
        order = np.random.default_rng(1).permutation(50)
        first, second = self.make(5), self.make(5)
        first.add(xb, ids)
        second.add(xb[order], ids[order])
        assert_same(first.search(xq, 9), second.search(xq, 9))


class TestExactIndex(ExactContract):
    def make(self, d: int) -> VectorIndex:
        return ExactIndex(d)

    def test_blocks_join(self) -> None:
        """More queries and vectors than one block hold: the same as one product."""
        n, nq = BASE_BLOCK + 50, QUERY_BLOCK + 3
        xb, xq = grid(5, n, 3), grid(6, nq, 3)
        index = ExactIndex(3)
        ids = np.arange(n)[::-1].copy()
        index.add(xb, ids)
        product = xq @ xb.T
        order = np.lexsort((np.broadcast_to(ids, product.shape), -product), axis=-1)[:, :4]
        got = index.search(xq, 4)
        np.testing.assert_array_equal(got.ids, ids[order])
        np.testing.assert_array_equal(got.similarities, np.take_along_axis(product, order, 1))

    def test_d_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="d must be"):
            ExactIndex(0)


def test_best_first_pads_and_orders() -> None:
    """Padding goes last although its id is the lowest."""
    similarities, ids = best_first(
        np.array([[-np.inf, 0.5, 0.5]], np.float32), np.array([[NO_ID, 9, 2]], np.int64), 4
    )
    assert ids.tolist() == [[2, 9, NO_ID, NO_ID]]
    assert similarities.tolist() == [[0.5, 0.5, -np.inf, -np.inf]]


def test_search_result_checks_its_shape() -> None:
    """Similarities and ids of two shapes are no result."""
    with pytest.raises(ValueError, match="one \\(nq, k\\) shape"):
        SearchResult(np.zeros((1, 2), np.float32), np.zeros((2, 1), np.int64))
