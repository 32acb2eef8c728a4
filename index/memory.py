"""How the system's allocator is told to keep inverted lists small, where it is glibc's.

A list that is full moves to memory of twice its size and leaves the old behind. Among what others left, the
half that it does not need yet is taken all the same, and what it leaves is kept: lists filled program by
program took 1.3 times their size. On pages of their own, and with what is free given back now and then, they
take 1.04 times.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator

#: The number of the setting, what is set while lists grow, and the largest value that glibc sets by itself.
_M_MMAP_THRESHOLD, _WHILE_GROWING, _AT_MOST = -3, 1 << 14, 1 << 25
#: Bytes added after which free memory is given back, which takes a millisecond.
_GIVE_BACK_EVERY = 1 << 27


class GrowingLists:
    """The memory of one index's lists."""

    def __init__(self) -> None:
        self._added = 0

    @contextlib.contextmanager
    def growing(self, n_bytes: int) -> Iterator[None]:
        """Around the adding of so many bytes of vectors."""
        set_to = functools.partial(_function("mallopt"), _M_MMAP_THRESHOLD)
        set_to(_WHILE_GROWING)
        try:
            yield
        finally:
            set_to(_AT_MOST)
        self._added += n_bytes
        if self._added >= _GIVE_BACK_EVERY:
            self._added = 0
            _function("malloc_trim")(0)


@functools.cache
def _function(name: str) -> Callable[..., object]:
    """One of glibc's functions; one that does nothing where there is none."""
    found: Callable[..., object] = getattr(ctypes.CDLL(None), name, lambda *_: None)
    return found
