"""The lease: who has it when, by clocks that agree on nothing but the length of a second."""

from __future__ import annotations

import json
import threading

import pytest

from index import lease as module
from index.errors import CatalogError, CatalogLockedError, LeaseLostError
from index.lease import Lease, Seen

SECONDS = 8.0


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class MemoryCell:
    """One object; its tag is its content, as S3's is a hash of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seen, self.written_at = clock, None, 0.0
        self.lose_answers = 0
        self.unreachable = False

    def read(self) -> Seen | None:
        if self.unreachable:
            raise CatalogError("out of reach")
        return self.seen

    def write(self, content: bytes, tag: str | None) -> str | None:
        if self.unreachable:
            raise CatalogError("out of reach")
        if tag != (None if self.seen is None else self.seen.tag):
            return None
        self.seen, self.written_at = Seen(content, content.decode()), self.clock.now
        if self.lose_answers:
            # The client asks again and is told that the object has changed.
            self.lose_answers -= 1
            return None
        return self.seen.tag

    def age_seconds(self) -> float:
        return self.clock.now - self.written_at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "_now", lambda: clock.now)
    monkeypatch.setattr(module.time, "sleep", clock.sleep)
    # Renewals come when a test asks for them.
    monkeypatch.setattr(Lease, "_beat", lambda self: None)
    return clock


@pytest.fixture
def cell(clock: Clock) -> MemoryCell:
    return MemoryCell(clock)


def lease_of(cell: MemoryCell, *, seconds: float = SECONDS) -> Lease:
    return Lease(cell, "s3://b/s", seconds=seconds)


def test_one_has_it_and_the_next_after_it_let_go(cell: MemoryCell) -> None:
    first, second = lease_of(cell), lease_of(cell)
    first.acquire(0)
    first.check()
    with pytest.raises(CatalogLockedError, match=r"s3://b/s is being written by process \d+ on"):
        second.acquire(1)
    first.release()
    assert cell.seen is not None
    assert cell.seen.content == b""
    second.acquire(0)
    second.check()
    first.release()  # twice does no harm, to whoever has it now
    second.check()


def test_of_those_who_start_at_one_instant_one_has_it(
    cell: MemoryCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw it free; the second's write is refused, and it looks again."""
    first, second, write = lease_of(cell), lease_of(cell), MemoryCell.write

    def late(self: MemoryCell, content: bytes, tag: str | None) -> str | None:
        monkeypatch.setattr(MemoryCell, "write", write)
        first.acquire(0)
        return write(self, content, tag)

    monkeypatch.setattr(MemoryCell, "write", late)
    with pytest.raises(CatalogLockedError):
        second.acquire(0)
    first.check()


def test_a_dead_ones_is_taken_after_a_whole_lease_and_not_before(cell: MemoryCell, clock: Clock) -> None:
    lease_of(cell).acquire(0)
    clock.now += SECONDS * 0.99  # this counts for nothing: the observer did not see it pass
    with pytest.raises(CatalogLockedError):
        lease_of(cell).acquire(SECONDS * 0.99)
    began = clock.now
    lease_of(cell).acquire(SECONDS * 2)
    assert SECONDS * 0.05 < clock.now - began <= SECONDS * 1.06


def test_the_length_is_the_holders(cell: MemoryCell, clock: Clock) -> None:
    lease_of(cell, seconds=SECONDS * 5).acquire(0)
    with pytest.raises(CatalogLockedError):
        lease_of(cell).acquire(SECONDS * 4.9)
    junk = Seen(b"junk", "junk")
    cell.seen, cell.written_at = junk, clock.now
    lease_of(cell).acquire(SECONDS * 1.1)  # nobody can say: one's own


def test_one_that_lies_there_for_long_is_taken_without_waiting(cell: MemoryCell, clock: Clock) -> None:
    """By the storage's own clock; a command that does not wait would else never get it."""
    lease_of(cell).acquire(0)
    clock.now += SECONDS * 2 + 1.9
    with pytest.raises(CatalogLockedError):
        lease_of(cell).acquire(0)
    clock.now += 0.2
    lease_of(cell).acquire(0)


def test_a_living_ones_is_never_taken(
    cell: MemoryCell, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long another waits, and though it is renewed only just in time."""
    holder = lease_of(cell)
    holder.acquire(0)
    renewed = clock.now

    def sleep(seconds: float) -> None:
        nonlocal renewed
        clock.now += seconds
        if clock.now - renewed > SECONDS * 0.9:
            renewed = clock.now
            holder.check()

    monkeypatch.setattr(module.time, "sleep", sleep)
    with pytest.raises(CatalogLockedError):
        lease_of(cell).acquire(SECONDS * 20)
    holder.check()


def test_who_slept_and_was_overtaken_is_told(cell: MemoryCell, clock: Clock) -> None:
    sleeper, other = lease_of(cell), lease_of(cell)
    sleeper.acquire(0)
    clock.now += SECONDS * 4
    other.acquire(0)
    for _ in range(2):
        with pytest.raises(LeaseLostError, match=r"did not renew .* 8 seconds .* process \d+ .* took it"):
            sleeper.check()
    sleeper.release()
    other.check()
    assert cell.seen is not None
    assert json.loads(cell.seen.content)["lease_seconds"] == SECONDS


def test_who_slept_and_was_not_overtaken_goes_on(cell: MemoryCell, clock: Clock) -> None:
    sleeper = lease_of(cell)
    sleeper.acquire(0)
    clock.now += SECONDS * 4
    sleeper.check()
    with pytest.raises(CatalogLockedError):
        lease_of(cell).acquire(0)


def test_a_check_of_a_fresh_lease_asks_nobody(cell: MemoryCell, clock: Clock) -> None:
    holder = lease_of(cell)
    holder.acquire(0)
    cell.unreachable = True
    clock.now += SECONDS * 0.4
    holder.check()
    clock.now += SECONDS * 0.2
    with pytest.raises(CatalogError, match="out of reach"):
        holder.check()
    cell.unreachable = False
    holder.check()
    cell.unreachable = True
    holder.release()  # it runs out by itself


def test_a_lock_that_was_deleted_is_lost(cell: MemoryCell, clock: Clock) -> None:
    holder = lease_of(cell)
    holder.acquire(0)
    cell.seen = None
    clock.now += SECONDS
    with pytest.raises(LeaseLostError, match="the lock is gone"):
        holder.check()


def test_an_answer_that_was_lost_is_not_taken_for_another(cell: MemoryCell, clock: Clock) -> None:
    cell.lose_answers = 1
    holder = lease_of(cell)
    holder.acquire(0)
    cell.lose_answers = 2
    clock.now += SECONDS
    holder.check()
    cell.lose_answers = 99
    clock.now += SECONDS
    with pytest.raises(CatalogError, match="cannot be renewed"):
        holder.check()
    cell.lose_answers = 0
    holder.check()


@pytest.fixture
def quick_cell() -> MemoryCell:
    return MemoryCell(Clock())


def test_a_thread_renews_it_and_ends_with_it(
    quick_cell: MemoryCell, caplog: pytest.LogCaptureFixture
) -> None:
    """In real time: through a failure, which is said, until another has it."""
    holder = lease_of(quick_cell, seconds=0.2)
    quick_cell.clock.now = 0
    holder.acquire(0)
    assert quick_cell.seen is not None
    first, ended = quick_cell.seen, threading.Event()
    quick_cell.unreachable = True
    ended.wait(0.12)
    quick_cell.unreachable = False
    ended.wait(0.2)
    assert quick_cell.seen != first
    assert "could not be renewed, trying again: out of reach" in caplog.text
    holder.check()
    quick_cell.seen = Seen(b"{}", "other")
    thread = holder._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(LeaseLostError, match="another process took it"):
        holder.check()
    holder.release()
    assert quick_cell.seen.content == b"{}"


def test_a_storage_that_ignores_conditions_is_refused(
    cell: MemoryCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would both believe that they have the lock."""
    write = MemoryCell.write

    def heedless(self: MemoryCell, content: bytes, tag: str | None) -> str | None:
        return write(self, content, None if self.seen is None else self.seen.tag)

    monkeypatch.setattr(MemoryCell, "write", heedless)
    with pytest.raises(CatalogError, match="ignores the conditions of writes"):
        lease_of(cell).acquire(0)


def test_a_lease_has_a_length(cell: MemoryCell) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds"):
        lease_of(cell, seconds=0)
