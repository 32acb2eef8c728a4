"""Batches are made ahead in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from matcher.training.prefetch import prefetched


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_in_order_and_are_made_ahead_but_not_far() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number * number

    with prefetched(range(10), make, depth=2) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 5
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert made == [0, 1, 2, 3], "one taken, two waiting, one in hand"
        assert list(items) == [number * number for number in range(1, 10)]
    assert threads() == []


def test_an_error_comes_at_its_place_from_either_side() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with prefetched(numbers(), lambda number: 10 // number) as items:
        assert next(items) == 10
        with pytest.raises(OSError, match="no more"):
            next(items)
    with prefetched([5, 0, 1], lambda number: 10 // number) as items:
        assert next(items) == 2
        with pytest.raises(ZeroDivisionError):
            next(items)
    assert threads() == []


def test_the_thread_ends_with_the_block_however_much_is_left() -> None:
    with prefetched(iter(int, 1), lambda number: number, depth=1) as items:
        next(items)
    assert threads() == []
    with pytest.raises(KeyError), prefetched(range(1000), lambda number: number) as items:
        raise KeyError
    assert threads() == []


def test_nothing_to_do_is_done() -> None:
    with prefetched([], lambda number: number) as items:
        assert list(items) == []
