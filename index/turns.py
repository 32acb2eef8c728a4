"""A lock that is taken in the order of asking."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """One at a time, first come first served; a ``with`` block, not to be entered twice by one thread.

    ``threading.Lock`` goes to whoever asks while it is free: a thread that searches without a pause
    takes it again and again, and one that wants to change something waits for seconds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    def __enter__(self) -> None:
        mine = object()
        with self._changed:
            self._queue.append(mine)
            try:
                self._changed.wait_for(lambda: self._queue[0] is mine)
            except BaseException:  # Ctrl-C: those behind must not wait for one who has gone
                self._queue.remove(mine)
                self._changed.notify_all()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()
