"""FAISS keeps the contract by value, and says what is missing."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_index_exact import ExactContract, IndexContract, assert_same, grid, naive

from index import faiss_backend
from index.base import NO_ID, VectorIndex
from index.drift import recall_of
from index.engines import KINDS, choose_kind, choose_nlist, choose_nprobe
from index.errors import BackendMissingError, IndexStoreError
from index.faiss_backend import FaissIndex
from index.selectors import Selector

EVERYTHING = 10**6


class TestFlat(ExactContract):
    def make(self, d: int) -> VectorIndex:
        return FaissIndex(d)


def _assert_same_up_to_ties(got: Any, want: Any, xb: np.ndarray, ids: np.ndarray, xq: np.ndarray) -> None:
    np.testing.assert_array_equal(got.similarities, want.similarities)
    rows = {int(i): row for row, i in enumerate(ids)}
    for query, row_ids, row_similarities in zip(xq, got.ids, got.similarities, strict=True):
        real = row_ids[row_ids != NO_ID]
        assert len(set(real.tolist())) == real.size
        for i, similarity in zip(real.tolist(), row_similarities.tolist(), strict=False):
            assert float(np.dot(query, xb[rows[i]])) == similarity


@pytest.mark.parametrize("kind", ["ivf", "ivf-fp16"])
@pytest.mark.parametrize("seed", range(6))
def test_inverted_lists_equal_the_definition_by_value(kind: str, seed: int) -> None:
    """With every list visited: the same similarities, each id's own, through adding and removing."""
    rng = np.random.default_rng(seed)
    n, d, k = int(rng.integers(1, 300)), int(rng.integers(1, 12)), int(rng.integers(1, 40))
    xb, xq = grid(seed, n, d), grid(seed + 99, 11, d)
    ids = rng.choice(10**6, n, replace=False).astype(np.int64)
    index = FaissIndex(d, kind=kind, nlist=5, nprobe=EVERYTHING)
    index.add(xb[: n // 2 + 1], ids[: n // 2 + 1])
    index.add(xb[n // 2 + 1 :], ids[n // 2 + 1 :])
    _assert_same_up_to_ties(index.search(xq, k), naive(xb, ids, xq, k), xb, ids, xq)
    keep = (ids < 300_000) | (ids >= 700_000)
    assert index.remove_range(300_000, 700_000) == np.count_nonzero(~keep)
    _assert_same_up_to_ties(index.search(xq, k), naive(xb[keep], ids[keep], xq, k), xb, ids, xq)
    np.testing.assert_array_equal(index.ids, np.sort(ids[keep]))


class TestIvf(IndexContract):
    """With every list visited; ties are compared by the test above."""

    kind = "ivf"

    def make(self, d: int) -> VectorIndex:
        return FaissIndex(d, kind=self.kind, nlist=4, nprobe=EVERYTHING)


class TestIvfFp16(TestIvf):
    kind = "ivf-fp16"


@pytest.mark.parametrize("kind", KINDS)
def test_written_and_read_is_the_same(kind: str, tmp_path: Path) -> None:
    """Answers, ids, contents and centroids survive the file, and it can be changed further."""
    xb, ids, xq = grid(1, 120, 6), np.arange(120) * 3, grid(2, 9, 6)
    index = FaissIndex(6, kind=kind, nlist=4, nprobe=4)
    index.add(xb, ids)
    index.write(tmp_path / "索引.faiss")
    again = FaissIndex.read(tmp_path / "索引.faiss")
    assert (again.kind, again.d, again.ntotal, again.nlist) == (kind, 6, 120, index.nlist)
    assert_same(again.search(xq, 5), index.search(xq, 5))
    with pytest.raises(ValueError, match="used already"):
        again.add(xb[:1], ids[5:6])
    assert again.remove_ranges([(0, 30), (60, 90), (1000, 2000)]) == 20
    left = dict(zip(ids.tolist(), xb, strict=True))
    stored = {int(i): x for block, vectors in again.contents(7) for i, x in zip(block, vectors, strict=True)}
    assert sorted(stored) == [i for i in left if not (i < 30 or 60 <= i < 90)]
    got, wanted = np.array(list(stored.values())), np.array([left[i] for i in stored])
    assert again.count_wrong(lambda some: np.array([left[i] for i in some.tolist()])) == 0
    assert again.count_wrong(lambda some: np.array([left[i] + (i == 33) for i in some.tolist()])) == 1
    if kind != "ivf-pq":
        np.testing.assert_array_equal(got, wanted)


def test_reading_what_is_no_index_is_an_error(tmp_path: Path) -> None:
    """Missing, damaged and foreign files each say so."""
    with pytest.raises(IndexStoreError, match="no readable FAISS index"):
        FaissIndex.read(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"not an index")
    with pytest.raises(IndexStoreError, match="no readable FAISS index"):
        FaissIndex.read(tmp_path / "bad")
    faiss = faiss_backend.load_faiss()
    faiss.write_index(faiss.IndexFlatL2(3), str(tmp_path / "l2"))
    with pytest.raises(IndexStoreError, match="IndexFlatL2"):
        FaissIndex.read(tmp_path / "l2")


def test_an_untrained_index_cannot_be_written_and_an_emptied_one_can(tmp_path: Path) -> None:
    index = FaissIndex(2, kind="ivf")
    assert list(index.contents()) == []
    with pytest.raises(ValueError, match="untrained"):
        index.write(tmp_path / "x")
    index.add(np.eye(2, dtype=np.float32), np.arange(2))
    index.remove_range(0, 9)
    index.write(tmp_path / "x")
    assert FaissIndex.read(tmp_path / "x").ntotal == 0


def test_training_is_once_and_on_a_sample() -> None:
    """Centroids freeze; the same vectors give the same centroids; empty training is refused."""
    rng = np.random.default_rng(0)
    xb = rng.standard_normal((3000, 8)).astype(np.float32)
    first, second = (FaissIndex(8, kind="ivf", nlist=8) for _ in range(2))
    for index in (first, second):
        index.train(xb, expected=3000)
        assert index.nlist == 8
        index.add(xb, np.arange(3000))
    assert_same(first.search(xb[:5], 10), second.search(xb[:5], 10))
    with pytest.raises(ValueError, match="trained already"):
        first.train(xb)
    with pytest.raises(ValueError, match="at least one"):
        FaissIndex(8, kind="ivf").train(xb[:0])
    by_rule = FaissIndex(8, kind="ivf")
    by_rule.train(xb, expected=10_000)
    assert by_rule.nlist == choose_nlist(10_000)


def test_approximate_search_recalls() -> None:
    """With the default nprobe on clustered vectors, nearly all nearest neighbours are found."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((100, 16))
    xb = (np.repeat(centres, 80, axis=0) + 0.3 * rng.standard_normal((8000, 16))).astype(np.float32)
    xb /= np.linalg.norm(xb, axis=1, keepdims=True)
    approximate, exact = FaissIndex(16, kind="ivf"), FaissIndex(16)
    for index in (approximate, exact):
        index.add(xb, np.arange(8000))
    got, want = approximate.search(xb[::40], 1), exact.search(xb[::40], 1)
    assert np.mean(got.ids == want.ids) > 0.95
    assert approximate.nlist == choose_nlist(8000)


def test_the_rules_of_size() -> None:
    """The documented thresholds, and lists that are never more than can be trained."""
    sizes = (0, 200_000, 200_001, 30_000_000, 30_000_001)
    assert [choose_kind(n) for n in sizes] == ["flat", "flat", "ivf-fp16", "ivf-fp16", "ivf-pq"]
    assert (choose_nlist(0), choose_nlist(10), choose_nlist(100), choose_nlist(10**6)) == (1, 1, 2, 4000)
    assert (choose_nprobe(4), choose_nprobe(100), choose_nprobe(4000), choose_nprobe(10**5)) == (
        4,
        16,
        125,
        256,
    )
    with pytest.raises(ValueError, match="negative"):
        choose_kind(-1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"d": 0}, "d must"),
        ({"kind": "hnsw"}, "kind must"),
        ({"nlist": 0}, "nlist"),
        ({"nprobe": 0}, "nprobe"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FaissIndex(**{"d": 2, **options})


@pytest.mark.parametrize("found", [(), ("faiss-cpu", "faiss-gpu")])
def test_none_or_two_distributions_are_refused(
    found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names all three extras, and those found."""

    def version(name: str) -> str:
        if name in found:
            return "1"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    faiss_backend.load_faiss.cache_clear()
    with pytest.raises(BackendMissingError) as caught:
        FaissIndex(2)
    faiss_backend.load_faiss.cache_clear()
    for extra in ("[cpu]", "[gpu]", "[gpu-cuvs]", *found):
        assert extra in str(caught.value)


def test_a_distribution_that_does_not_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    faiss_backend.load_faiss.cache_clear()
    with pytest.raises(BackendMissingError, match="does not import"):
        FaissIndex(2)
    faiss_backend.load_faiss.cache_clear()


def test_describe_tells_what_is_installed() -> None:
    info = faiss_backend.describe()
    assert info.distribution in faiss_backend.DISTRIBUTIONS
    assert info.version == faiss_backend.load_faiss().__version__
    assert info.gpu_count >= 0


def test_a_gpu_that_is_not_there_is_an_error_not_an_empty_index() -> None:
    """FAISS would give an index that finds nothing."""
    missing = f"cuda:{faiss_backend.gpu_count()}"
    with pytest.raises(BackendMissingError, match=r"\[gpu-cuvs\]"):
        FaissIndex(2, device=missing)
    for wrong in ("gpu", "cuda:x", "cuda:"):
        with pytest.raises(ValueError, match="device must be"):
            FaissIndex(2, device=wrong)
    assert faiss_backend.gpu_number("cuda") == 0
    assert faiss_backend.gpu_number("cuda:3") == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_within_ranges_equals_the_definition_of_what_is_in_them(kind: str, seed: int) -> None:
    """Many, adjacent, overlapping and empty ranges; only what is in them is found, and all of it.

    Lists are as many as visited, so that an approximate kind misses nothing by itself.
    """
    rng = np.random.default_rng(seed)
    n, d, k = 400, 8, 12
    xb, xq = grid(seed, n, d), grid(seed + 50, 9, d)
    ids = np.sort(rng.choice(10**5, n, replace=False)).astype(np.int64)
    index = FaissIndex(d, kind=kind, nlist=6, nprobe=6)
    index.add(xb, ids)
    starts = rng.integers(0, 10**5, 25)
    ranges = [(int(start), int(start + rng.integers(0, 4000))) for start in starts]
    inside = np.array([any(start <= i < stop for start, stop in ranges) for i in ids.tolist()])
    assert 0 < inside.sum() < n
    got = index.search(xq, k, within=ranges)
    if kind == "ivf-pq":
        assert set(got.ids.ravel().tolist()) <= set(ids[inside].tolist())
        # FAISS drops some of the farthest, whose rounded similarity is the lowest there is.
        candidates = index.search(xq, n, within=ranges).ids
        want = naive(xb[inside], ids[inside], xq, 1).ids[:, 0]
        assert all(best in row for best, row in zip(want.tolist(), candidates.tolist(), strict=True))
    else:
        _assert_same_up_to_ties(got, naive(xb[inside], ids[inside], xq, k), xb, ids, xq)
    assert (index.search(xq, k, within=[]).ids == NO_ID).all()
    assert (index.search(xq, k, within=[(10**6, 10**7), (5, 5)]).ids == NO_ID).all()


def test_within_few_ids_more_lists_are_visited() -> None:
    """One program in a hundred: what the plain nprobe would miss is found."""
    rng = np.random.default_rng(3)
    xb = rng.standard_normal((20_000, 16)).astype(np.float32)
    ids = np.arange(20_000, dtype=np.int64)
    index = FaissIndex(16, kind="ivf-fp16", nprobe=2)
    index.add(xb, ids)
    xq = rng.standard_normal((50, 16)).astype(np.float32)
    want = naive(xb[4000:4200], ids[4000:4200], xq, 5).ids
    selector = Selector(faiss_backend.load_faiss(), [(4000, 4200)])
    assert recall_of(selector.search(index.raw, xq, 5, nprobe=2)[1], want) < 0.3
    assert recall_of(index.search(xq, 5, within=[(4000, 4200)]).ids, want) > 0.95


def test_codes_of_products_find_candidates_and_follow_changes() -> None:
    """Rough similarities, but with enough candidates the true neighbours are among them, gone ones never."""
    rng = np.random.default_rng(4)
    xb = rng.standard_normal((3000, 32)).astype(np.float32)
    xb /= np.linalg.norm(xb, axis=1, keepdims=True)
    ids = np.arange(3000, dtype=np.int64)
    index = FaissIndex(32, kind="ivf-pq", nprobe=EVERYTHING)
    index.add(xb[:2000], ids[:2000])
    index.add(xb[2000:], ids[2000:])
    assert index.remove_ranges([(0, 500), (1000, 1100)]) == 600
    left = np.r_[500:1000, 1100:3000]
    got, want = index.search(xb[::10], 300), naive(xb[left], ids[left], xb[::10], 10)
    assert not np.isin(got.ids, np.r_[0:500, 1000:1100]).any()
    assert np.mean([np.isin(b, a).mean() for a, b in zip(got.ids, want.ids, strict=True)]) > 0.97


def test_codes_added_after_a_removal_are_their_own() -> None:
    """FAISS mixes them with what was removed unless its free places are cleared."""
    xb = grid(7, 300, 6)
    index = FaissIndex(6, kind="ivf-pq", nlist=3)
    index.add(xb[:120], np.arange(120))
    for start, stop in ((0, 40), (45, 46), (80, 120)):
        index.remove_range(start, stop)
        index.add(xb[start + 120 : stop + 120], np.arange(start + 120, stop + 120))
        assert index.count_wrong(lambda ids: xb[ids]) == 0
    assert index.remove_range(0, 1000) == 120
    index.add(xb, np.arange(300))
    assert index.count_wrong(lambda ids: xb[ids]) == 0


@pytest.mark.parametrize("same", [1, 4, 40])
def test_product_codes_of_identical_vectors_find_what_comes_later(same: int) -> None:
    """What their centroid leaves is nothing, and a code book of nothing would find nothing, for ever."""
    rng = np.random.default_rng(0)
    xb = rng.standard_normal((500, 64)).astype(np.float32)
    index = FaissIndex(64, kind="ivf-pq")
    index.add(np.repeat(xb[:1], same, axis=0), 1000 + np.arange(same))
    index.add(xb, np.arange(500))
    assert (index.search(xb[:20], 400).ids >= 0).all()


def test_dimensions_that_make_no_product_codes_are_refused() -> None:
    """A prime has one part, and four bits do not tell 500,000 frames apart."""
    with pytest.raises(ValueError, match="use kind ivf-fp16"):
        FaissIndex(67, kind="ivf-pq")
    assert FaissIndex(130, kind="ivf-pq").d == 130


def test_few_vectors_train_product_codes_too() -> None:
    """Fewer than a code book has entries: they stand for themselves."""
    xb = np.eye(5, dtype=np.float32)
    index = FaissIndex(5, kind="ivf-pq")
    index.add(xb, np.arange(5))
    np.testing.assert_array_equal(index.search(xb, 1).ids[:, 0], np.arange(5))


def test_importing_index_loads_no_heavy_package() -> None:
    """The package, its records and its FAISS seam load neither faiss nor lancedb."""
    code = (
        "import sys, index.base, index.rows, index.errors, index.exact, index.faiss_backend, index.live;"
        "print([m for m in ('faiss', 'lancedb', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
