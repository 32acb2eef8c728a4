"""A GPU beside the CPU's index: it follows changes, hides the dead, and steps aside with a clear line."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_index_exact import assert_same, grid

from index import faiss_backend, gpu, shards
from index.engines import KINDS
from index.errors import BackendMissingError
from index.exact import ExactIndex
from index.faiss_backend import FaissIndex
from index.rows import ORDINAL_BITS
from index.shards import ShardedIndex, devices_of

D = 6


class _FakeGpu:
    """FAISS with GPUs whose copies are CPU copies that cannot remove: what they are asked, without one."""

    def __init__(self, *, keeps: float = 1.0, fails: bool = False, count: int = 1) -> None:
        self._faiss = faiss_backend.load_faiss()
        self._keeps, self._fails, self._count = keeps, fails, count
        self.clones: list[int] = []
        self.searches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._faiss, name)

    def StandardGpuResources(self) -> object:  # noqa: N802
        return SimpleNamespace()

    def get_num_gpus(self) -> int:
        return self._count

    def index_cpu_to_gpu(self, resources: object, number: int, index: Any) -> Any:
        if self._fails:
            raise RuntimeError("Error in alloc: StandardGpuResources: alloc fail: out of memory")
        self.clones.append(number)
        clone = self._faiss.clone_index(index)
        if self._keeps < 1:
            clone.reset()
        return _Copy(clone, self.searches)


class _Copy:
    def __init__(self, index: Any, searches: list[int]) -> None:
        self._index, self._searches = index, searches

    @property
    def ntotal(self) -> int:
        return int(self._index.ntotal)

    def add_with_ids(self, xb: Any, ids: Any) -> None:
        self._index.add_with_ids(xb, ids)

    def search(self, xq: Any, k: int) -> Any:
        assert k <= gpu.MAX_K
        self._searches.append(k)
        return self._index.search(xq, k)


def _fake(monkeypatch: pytest.MonkeyPatch, **options: Any) -> _FakeGpu:
    fake = _FakeGpu(**options)
    monkeypatch.setattr(faiss_backend, "load_faiss", lambda: fake)
    monkeypatch.setattr(gpu, "free_bytes", lambda number: None)
    return fake


def _program(number: int, n: int) -> np.ndarray:
    return (number << ORDINAL_BITS) + np.arange(n, dtype=np.int64)


@pytest.mark.parametrize("kind", gpu.CLONABLE)
def test_a_copy_follows_every_change_without_being_made_anew(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs come and go in any order; the answers are those of brute force, from one copy."""
    fake = _fake(monkeypatch)
    index, exact = FaissIndex(D, kind=kind, nlist=3, nprobe=3, device="cuda"), ExactIndex(D)
    xq = np.random.default_rng(9).standard_normal((7, D)).astype(np.float32)
    for number in range(1, 31):
        xb = np.random.default_rng(number).standard_normal((20, D)).astype(np.float16).astype(np.float32)
        for each in (index, exact):
            each.add(xb, _program(number, 20))
    assert_close(index.search(xq, 10), exact.search(xq, 10))
    for number in (3, 30):
        for each in (index, exact):
            each.remove_range(number << ORDINAL_BITS, (number + 1) << ORDINAL_BITS)
        assert_close(index.search(xq, 10), exact.search(xq, 10))
    new = np.random.default_rng(99).standard_normal((20, D)).astype(np.float16).astype(np.float32)
    for each in (index, exact):
        each.add(new, _program(31, 20))
    assert_close(index.search(xq, 200), exact.search(xq, 200))
    assert fake.clones == [0]


def assert_close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.similarities, want.similarities, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got.ids, want.ids)


def test_the_dead_do_not_push_the_living_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the nearest are gone: the search widens until k living ones are found, at last on the CPU."""
    fake = _fake(monkeypatch)
    monkeypatch.setattr(gpu, "MAX_K", 64)
    monkeypatch.setattr(gpu, "DEAD_ABOVE", 1.0)
    index, exact = FaissIndex(D, device="cuda"), ExactIndex(D)
    near = np.eye(1, D, dtype=np.float32) + 1e-3 * grid(1, 100, D)
    far = grid(2, 30, D)
    for each in (index, exact):
        each.add(near, _program(1, 100))
        each.add(far, _program(2, 30))
    xq = np.eye(1, D, dtype=np.float32)
    index.search(xq, 3)
    for each in (index, exact):
        each.remove_range(*(n << ORDINAL_BITS for n in (1, 2)))
    assert_same(index.search(xq, 5), exact.search(xq, 5))
    assert max(fake.searches) == 64
    assert fake.clones == [0]


def test_a_tenth_dead_makes_the_copy_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _fake(monkeypatch)
    index = FaissIndex(D, device="cuda")
    for number in range(20):
        index.add(grid(number, 10, D), _program(number, 10))
    xq = grid(50, 3, D)
    for number, clones in ((0, 1), (1, 1), (2, 2), (3, 2)):
        index.remove_range(number << ORDINAL_BITS, (number + 1) << ORDINAL_BITS)
        index.search(xq, 3)
        assert len(fake.clones) == clones, number


def test_an_id_that_comes_back_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(monkeypatch)
    monkeypatch.setattr(gpu, "DEAD_ABOVE", 1.0)
    index = FaissIndex(D, device="cuda")
    index.add(np.eye(D, dtype=np.float32), np.arange(D))
    index.search(np.eye(D, dtype=np.float32), 1)
    index.remove_range(0, 2)
    index.add(np.eye(D, dtype=np.float32)[:1], np.arange(1))
    assert index.search(np.eye(1, D, dtype=np.float32), 1).ids.tolist() == [[0]]


@pytest.mark.parametrize(
    ("options", "free", "why"),
    [
        ({"keeps": 0.0}, None, "holds 0 of 6 vectors"),
        ({"fails": True}, None, "out of memory"),
        ({}, 1 << 20, "0.0 GB are free"),
    ],
)
def test_a_gpu_that_cannot_hold_the_index_leaves_it_to_the_cpu(
    options: dict[str, Any],
    free: int | None,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Right answers and one line that says why, however often it is asked; never an empty index."""
    fake = _fake(monkeypatch, **options)
    monkeypatch.setattr(gpu, "free_bytes", lambda number: free)
    index = FaissIndex(D, device="cuda")
    index.add(np.eye(D, dtype=np.float32), np.arange(D))
    for _ in range(3):
        np.testing.assert_array_equal(index.search(np.eye(D, dtype=np.float32), 1).ids[:, 0], np.arange(D))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert why in caplog.text
    assert "the CPU searches instead" in caplog.text
    assert fake.searches == []


def test_an_error_in_a_search_leaves_it_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No scratch memory left, say: the answer comes all the same, and the line that says why comes once."""
    _fake(monkeypatch)

    def fail(self: _Copy, xq: Any, k: int) -> Any:
        raise RuntimeError("Error: cudaMalloc error out of memory")

    monkeypatch.setattr(_Copy, "search", fail)
    index = FaissIndex(D, device="cuda")
    index.add(np.eye(D, dtype=np.float32), np.arange(D))
    for _ in range(2):
        np.testing.assert_array_equal(index.search(np.eye(D, dtype=np.float32), 1).ids[:, 0], np.arange(D))
    assert len(caplog.records) == 1
    assert "out of memory" in caplog.text


def test_product_codes_stay_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = _fake(monkeypatch)
    index = FaissIndex(D, kind="ivf-pq", device="cuda")
    index.add(grid(1, 40, D), np.arange(40))
    index.search(grid(2, 2, D), 3)
    assert "ivf-pq cannot be cloned" in caplog.text
    assert fake.clones == []


def test_more_neighbours_than_a_gpu_keeps_come_from_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _fake(monkeypatch)
    index = FaissIndex(D, device="cuda")
    index.add(np.random.default_rng(1).standard_normal((3000, D)).astype(np.float32), np.arange(3000))
    found = index.search(grid(2, 2, D), gpu.MAX_K + 1)
    assert (found.ids >= 0).all()
    assert fake.searches == []
    index.search(np.ones((1, D), np.float32), 3)
    assert fake.searches == [4]


def test_shards_lie_on_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, three shards: each clones its own, and the answers are those of one index."""
    fake = _fake(monkeypatch, count=2)
    for module in (shards, faiss_backend):
        monkeypatch.setattr(module, "gpu_count", lambda: 2)
    assert devices_of("cuda", None) == ["cuda:0", "cuda:1"]
    assert devices_of("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices_of("cuda:1", 2) == ["cuda:1", "cuda:1"]
    index = ShardedIndex([FaissIndex(D, device=device) for device in devices_of("cuda", 3)])
    exact = ExactIndex(D)
    for number in range(12):
        xb = np.random.default_rng(number).standard_normal((20, D)).astype(np.float32)
        for each in (index, exact):
            each.add(xb, _program(number, 20))
    xq = grid(50, 3, D)
    assert_close(index.search(xq, 30), exact.search(xq, 30))
    assert sorted(fake.clones) == [0, 0, 1]


def test_where_no_gpu_is_the_cpu_serves_with_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (shards, faiss_backend):
        monkeypatch.setattr(module, "gpu_count", lambda: 0)
    assert devices_of("cuda", None) == ["cpu"]
    assert devices_of("cuda:3", 2) == ["cpu", "cpu"]
    assert "sees 0 GPUs" in caplog.text
    assert "The CPU searches instead" in caplog.text
    for module in (shards, faiss_backend):
        monkeypatch.setattr(module, "gpu_count", lambda: 1)
    with pytest.raises(BackendMissingError, match="cuda:3"):  # a number that is wrong is an error
        devices_of("cuda:3", None)
    for words in ({"device": "gpu", "shards": 1}, {"device": "cpu", "shards": 0}):
        with pytest.raises(ValueError, match="must be"):
            devices_of(**words)


def test_free_memory_is_unknown_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(gpu.ctypes, "CDLL", missing)
    assert gpu.free_bytes(0) is None
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: SimpleNamespace(cuInit=lambda flags: 100))
    assert gpu.free_bytes(0) is None


# ---------------------------------------------------------------- on a real GPU


@pytest.fixture
def real_gpu() -> int:
    count = faiss_backend.gpu_count()
    if count == 0:
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("FAIL_WITHOUT_CUDA=1, but FAISS sees no GPU")
        pytest.skip("FAISS sees no GPU")
    return count


def _unit(n: int, d: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float16).astype(np.float32)


def _assert_near(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.similarities, want.similarities, atol=3e-3)
    assert np.mean(got.ids == want.ids) > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_gpu_equals_the_cpu_through_changes(
    kind: str, real_gpu: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Programs added and removed one by one, each followed by a search; product codes step aside."""
    d, each = 64, 400
    on_gpu, on_cpu = (
        FaissIndex(d, kind=kind, nlist=16, nprobe=16, device=device) for device in ("cuda", "cpu")
    )
    xq = _unit(50, d, 1)
    for number in range(30):
        for index in (on_gpu, on_cpu):
            index.add(_unit(each, d, 100 + number), _program(number, each))
        if number % 4 == 3:
            _assert_near(on_gpu.search(xq, 10), on_cpu.search(xq, 10))
    for number in (2, 7, 11, 3, 29):
        for index in (on_gpu, on_cpu):
            index.remove_range(number << ORDINAL_BITS, (number + 1) << ORDINAL_BITS)
        got = on_gpu.search(xq, 100)
        assert not np.isin(got.ids >> ORDINAL_BITS, [number]).any()
        _assert_near(got, on_cpu.search(xq, 100))
    assert (on_gpu._gpu._index is not None) == (kind != "ivf-pq")
    assert ("cannot be cloned" in caplog.text) == (kind == "ivf-pq")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", gpu.CLONABLE)
def test_real_shards_equal_one_index(kind: str, real_gpu: int) -> None:
    """Four shards on all GPUs there are, searched together."""
    d = 64
    sharded = ShardedIndex(
        [FaissIndex(d, kind=kind, nlist=8, nprobe=8, device=device) for device in devices_of("cuda", 4)]
    )
    exact = FaissIndex(d)
    if kind != "flat":
        sharded.train(_unit(4000, d, 5))
    for number in range(20):
        for index in (sharded, exact):
            index.add(_unit(300, d, number), _program(number, 300))
    xq = _unit(40, d, 77)
    _assert_near(sharded.search(xq, 20), exact.search(xq, 20))
    for index in (sharded, exact):
        assert index.remove_range(5 << ORDINAL_BITS, 8 << ORDINAL_BITS) == 900
    _assert_near(sharded.search(xq, 20), exact.search(xq, 20))


@pytest.mark.gpu
def test_a_real_gpu_tells_its_free_memory_and_refuses_what_exceeds_it(
    real_gpu: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver's figure is one of gigabytes; an index that needs more is left to the CPU."""
    free = gpu.free_bytes(0)
    assert free is not None
    assert 1 << 30 < free < 1 << 40
    monkeypatch.setattr(gpu, "_SCRATCH_BYTES", free)
    index = FaissIndex(D, device="cuda")
    index.add(np.eye(D, dtype=np.float32), np.arange(D))
    np.testing.assert_array_equal(index.search(np.eye(D, dtype=np.float32), 1).ids[:, 0], np.arange(D))
    assert "are free" in caplog.text
