"""Inverted lists that grow take little more than their size, and whatever the allocator, they work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from index import memory
from index.memory import GrowingLists

_GROW = """
import numpy as np, resource
from index.faiss_backend import FaissIndex
d, n = 256, 120_000
rng = np.random.default_rng(0)
index = FaissIndex(d, kind="ivf-fp16", nlist=40)
index.train(rng.standard_normal((2000, d), dtype=np.float32), expected=n)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
for start in range(0, n, 500):
    index.add(rng.standard_normal((500, d), dtype=np.float32), np.arange(start, start + 500))
print((resident() - before) / (n * (2 * d + 8)))
"""


def test_lists_that_grow_take_little_more_than_their_size() -> None:
    """In a process of its own: 240 programs, and each list has moved many times."""
    done = subprocess.run([sys.executable, "-c", _GROW], capture_output=True, text=True, check=True)
    assert 0.85 < float(done.stdout) < 1.08  # 1.16 without


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the functions are not there, nothing happens; an error within passes through."""
    memory._function.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    lists = GrowingLists()
    with lists.growing(1 << 30):
        pass
    with pytest.raises(MemoryError), lists.growing(1):
        raise MemoryError
    memory._function.cache_clear()
