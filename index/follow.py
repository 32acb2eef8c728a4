"""Keeps live indexes in step with a store that other processes write to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import TracebackType

from index.protocols import CatalogIndex

_log = logging.getLogger(__name__)

#: Looking for news costs some milliseconds, and what was added is to be found within two seconds.
EVERY_SECONDS = 0.5


class Follower:
    """Refreshes live indexes from a thread of its own, for as long as a ``with`` block lasts.

    Searches go on meanwhile. What goes wrong is logged in one line, once until it is well again; the
    former state is still shown, and the next attempt follows.

    Args:
        lives: The indexes of one or several stores; those of a store's frames and sounds, say.
        every_seconds: Pause between looking for news.

    Raises:
        ValueError: ``every_seconds`` is not above 0.
    """

    def __init__(self, lives: Sequence[CatalogIndex], *, every_seconds: float = EVERY_SECONDS) -> None:
        if not every_seconds > 0:
            raise ValueError(f"every_seconds must be above 0, got {every_seconds}")
        self._lives = tuple(lives)
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: str | None = None

    @property
    def error(self) -> str | None:
        """Why the last attempt failed; None where it did not."""
        return self._error

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to follow; nothing where it does so already."""
        if not self.is_running:
            self._stop.clear()
            # A daemon: a process that forgets to stop it ends all the same.
            self._thread = threading.Thread(target=self._run, name="index-follower", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, after the refresh that is under way; may be called again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Follower:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            errors = [error for error in map(_refreshed, self._lives) if error is not None]
            news = errors[0] if errors else None
            if news is not None and news != self._error:
                _log.warning("%s; what was there is still shown, and the next attempt follows", news)
            self._error = news


def _refreshed(live: CatalogIndex) -> str | None:
    """Refresh; returns what went wrong. A thread that died of it would show old programs for ever."""
    try:
        live.refresh()
    except Exception as error:  # whatever it was
        return f"{type(error).__name__}: {error}"
    return None
