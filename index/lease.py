"""The writer lock where there is no ``flock``: a small object that its holder must keep renewing.

Whoever has the lock writes an object that says so, for *seconds* at a time, and renews it every quarter of
them from a thread. Every write is conditional on what was read before (on the object's *tag*, which changes
with its content), so of two that write at the same instant one is refused. A killed holder renews no more,
and after a whole lease another may take over.

No two machines' clocks need to agree. A holder counts its lease from before its last renewal was sent. Who
waits counts from after it first read that renewal, by its own clock, and for a whole lease; so it never
takes over sooner than the holder knows. Only a lock that has lain for two leases by the storage's own clock
is taken without such a watch: without that, one who does not wait could never take over.

What remains is a holder that is stopped (a suspended laptop) between its last look at the lease and the
commit itself for longer than half a lease.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

from index.errors import CatalogError, LeaseLostError
from index.files import holder_of, locked_error, who_am_i

_log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
#: Of a lease: from renewal to renewal, and after which a change renews first.
_BEAT_SHARE, _FRESH_SHARE = 0.25, 0.5
#: Times are told in whole seconds by the storage.
_STORAGE_CLOCK_SLACK_SECONDS = 2.0
#: Writes that one renewal tries: an answer that was lost makes the next one look like another's.
_ATTEMPTS = 3
#: No content has it.
_NO_TAG = '"0"'


@dataclass(frozen=True)
class Seen:
    """An object as it was read, with the tag to make a write conditional on."""

    content: bytes
    tag: str


class Cell(Protocol):
    """One small object with conditional writes."""

    def read(self) -> Seen | None:
        """The object, or None where there is none.

        Raises:
            CatalogError: The storage cannot be reached, or refuses.
        """
        ...

    def write(self, content: bytes, tag: str | None) -> str | None:
        """Write if the object still has this tag (None: is still not there).

        Returns:
            The new tag, or None where another wrote first.

        Raises:
            CatalogError: The storage cannot be reached, or refuses.
        """
        ...

    def age_seconds(self) -> float:
        """Since the last write, by the storage's own clock.

        Raises:
            CatalogError: The storage cannot be reached, or refuses.
        """
        ...


def _now() -> float:
    """Seconds that go on while the machine is suspended, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Lease:
    """The lock in one cell; see the module. An empty object is a lock that nobody holds.

    Args:
        cell: Where it lies.
        store: What the store is called in messages.
        seconds: How long a holder that is gone keeps others out.
    """

    def __init__(self, cell: Cell, store: str, *, seconds: float = LEASE_SECONDS) -> None:
        if seconds <= 0:
            raise ValueError(f"a lease must be of more than 0 seconds, got {seconds}")
        self._cell, self._store, self._seconds = cell, store, seconds
        self._who = who_am_i()
        self._token = secrets.token_hex(8)
        self._writing = threading.Lock()
        self._beats = 0
        self._tag: str | None = None
        self._renewed_at = 0.0
        self._lost: str | None = None
        self._watch = _Watch(cell, seconds)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, wait_seconds: float) -> None:
        """Take the lock, and keep it until :meth:`release`.

        Raises:
            CatalogLockedError: Another had it all of ``wait_seconds``.
            CatalogError: The storage cannot be reached, or refuses, or knows no conditional writes.
        """
        deadline = _now() + wait_seconds
        while True:
            seen = self._cell.read()
            if seen is None or self._is_free(seen):
                started = _now()
                self._tag = self._cell.write(self._content(), None if seen is None else seen.tag)
                if self._tag is not None:
                    self._renewed_at = started
                    break
                continue  # another was faster
            left = deadline - _now()
            if left <= 0:
                raise locked_error(self._store, holder_of(seen.content))
            time.sleep(min(left, self._seconds / 20))
        try:
            self._refuse_heedless_storage()
        except BaseException:
            self.release()  # others need not wait for it to run out
            raise
        self._thread = threading.Thread(target=self._beat, name="writer-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that the lease is held, for half of it at least; renews it first where it is not fresh.

        Raises:
            LeaseLostError: Another took over.
            CatalogError: The storage cannot be reached, or refuses.
        """
        if _now() - self._renewed_at > self._seconds * _FRESH_SHARE:
            self._renew()
        if self._lost is not None:
            raise LeaseLostError(
                f"the store {self._store} is no longer this process's to write: it did not renew its lock "
                f"for {self._seconds:g} seconds (was it suspended?), and {self._lost}. What was finished "
                "before is kept, nothing is written after. Run the same command again."
            )

    def release(self) -> None:
        """Let go of the lock; nothing if it is not held. One that cannot be reached runs out by itself."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        tag, self._tag = self._tag, None
        if tag is not None and self._lost is None:
            with contextlib.suppress(CatalogError):
                # Not deleted: that could not be made conditional, and might hit the lock of another.
                self._cell.write(b"", tag)

    # ------------------------------------------------------------ inside

    def _refuse_heedless_storage(self) -> None:
        """Storage may pass over a condition that it does not know; a lock would then be everyone's."""
        if self._cell.write(self._content(), _NO_TAG) is not None:
            raise CatalogError(
                f"the store {self._store}: its storage ignores the conditions of writes (If-Match), so that "
                "writers cannot be kept apart. Use another --store."
            )

    def _is_free(self, seen: Seen) -> bool:
        # The token: a write of this very lock arrived, though its answer did not.
        return not seen.content or _word(seen, "token") == self._token or self._watch.has_run_out(seen)

    def _content(self) -> bytes:
        self._beats += 1  # another content has another tag
        words = {**self._who, "token": self._token, "lease_seconds": self._seconds, "beats": self._beats}
        return (json.dumps(words) + "\n").encode()

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds * _BEAT_SHARE):
            try:
                self._renew()
            except CatalogError as error:
                _log.warning("the lock could not be renewed, trying again: %s", error)
            if self._lost is not None:
                return

    def _renew(self) -> None:
        with self._writing:
            for _ in range(_ATTEMPTS):
                if self._lost is not None:
                    return
                started = _now()
                tag = self._cell.write(self._content(), self._tag)
                if tag is not None:
                    self._tag, self._renewed_at = tag, started
                    return
                seen = self._cell.read()
                if seen is None or _word(seen, "token") != self._token:
                    taker = None if seen is None else holder_of(seen.content)
                    self._lost = "the lock is gone" if taker is None else f"{taker} took it"
                else:
                    self._tag = seen.tag  # an earlier write arrived, though its answer did not
            raise CatalogError(f"the lock of the store {self._store} cannot be renewed. Try again.")


class _Watch:
    """How long another's lock has not been renewed, as far as this process can know."""

    def __init__(self, cell: Cell, seconds: float) -> None:
        self._cell, self._seconds = cell, seconds
        self._tag: str | None = None
        self._runs_out_at = 0.0

    def has_run_out(self, seen: Seen) -> bool:
        if seen.tag != self._tag:
            is_first, self._tag = self._tag is None, seen.tag
            lease = _word(seen, "lease_seconds")
            patience = float(lease) if isinstance(lease, int | float) else self._seconds
            now = _now()
            if is_first:  # later ones are fresh: the one before them was seen
                lying = self._cell.age_seconds()
                patience = min(patience, 2 * patience + _STORAGE_CLOCK_SLACK_SECONDS - lying)
            self._runs_out_at = now + patience
        return _now() >= self._runs_out_at


def _word(seen: Seen, name: str) -> Any:
    try:
        return json.loads(seen.content)[name]
    except (ValueError, KeyError, TypeError):
        return None
