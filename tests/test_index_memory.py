"""Inverted lists that grow take little more than their size, and whatever the allocator, they work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from index import memory
from index.memory import GrowingLists

_GROW = """
import contextlib, resource, sys
import numpy as np
from index import memory
from index.faiss_backend import FaissIndex
d, n = 256, 120_000
rng = np.random.default_rng(0)
memory._GIVE_BACK_EVERY = 1 << 24
index = FaissIndex(d, kind="ivf-fp16", nlist=40)
if sys.argv[1] == "plain":
    index._memory.growing = lambda n_bytes: contextlib.nullcontext()
index.train(rng.standard_normal((2000, d), dtype=np.float32), expected=n)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
for start in range(0, n, 500):
    index.add(rng.standard_normal((500, d), dtype=np.float32), np.arange(start, start + 500))
print((resident() - before) / (n * (2 * d + 8)))
"""


def _grown(how: str) -> float:
    """Memory of lists filled by 240 programs, in their size; in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _GROW, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_lists_that_grow_take_less_than_the_allocator_would_give_them() -> None:
    """By itself it gives them 1.2 times their size; what else the process does is the same in both."""
    ours, plain = _grown("ours"), _grown("plain")
    assert ours < plain - 0.05, (ours, plain)


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
