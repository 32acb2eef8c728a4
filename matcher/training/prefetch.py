"""Make the next batches in a thread while the model is busy with this one."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _End(Generic[R]):
    """After the last item: why there is no more."""

    error: BaseException | None


@contextlib.contextmanager
def prefetched(items: Iterable[T], make: Callable[[T], R], *, depth: int = 3) -> Iterator[Iterator[R]]:
    """Iterate over ``make(item)`` of every item, made in order in one thread, at most ``depth`` ahead.

    The thread ends with the block, however the block ends. What it raises is raised at the item's place.

    Args:
        items: Consumed in the thread.
        make: Called in the thread.
        depth: How many finished ones may wait.
    """
    waiting: queue.Queue[R | _End[R]] = queue.Queue(maxsize=depth)
    is_over = threading.Event()

    def put(one: R | _End[R]) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(one, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                if is_over.is_set():
                    return
                put(make(item))
            put(_End(None))
        except BaseException as error:  # whatever it is, it is raised where the item was waited for
            put(_End(error))

    def made() -> Iterator[R]:
        while True:
            one = waiting.get()
            if isinstance(one, _End):
                if one.error is not None:
                    raise one.error
                return
            yield one

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield made()
    finally:
        is_over.set()
        thread.join()
