"""A lock in the order of asking."""

from __future__ import annotations

import threading
import time

import pytest

from index.turns import Turns


def _ask(turns: Turns, name: str, order: list[str], wait: float = 0.0) -> threading.Thread:
    """A thread that has begun to wait for its turn."""
    n = len(turns._queue)

    def take() -> None:
        with turns:
            order.append(name)
            time.sleep(wait)

    thread = threading.Thread(target=take)
    thread.start()
    while len(turns._queue) == n:
        time.sleep(0.001)
    return thread


def test_turns_come_in_the_order_of_asking() -> None:
    turns, order = Turns(), list[str]()
    with turns:
        threads = [_ask(turns, name, order) for name in "abcdef"]
        assert order == []
    for thread in threads:
        thread.join(10)
    assert "".join(order) == "abcdef"
    assert not turns._queue


def test_one_who_asks_again_and_again_keeps_nobody_out() -> None:
    """The other is let in at the first change of turns, where a plain lock may keep it waiting for ever."""
    turns, order = Turns(), list[str]()
    with turns:
        thread = _ask(turns, "other", order)
    for _ in range(3):
        with turns:
            order.append("busy")
    thread.join(10)
    assert order == ["other", "busy", "busy", "busy"]


def test_one_at_a_time_and_free_after_an_error() -> None:
    """What is raised inside passes through, and the next one has its turn."""
    turns, order = Turns(), list[str]()

    def fail() -> threading.Thread:
        with turns:
            waiting.append(_ask(turns, "next", order))
            assert order == []
            raise KeyError

    waiting: list[threading.Thread] = []
    with pytest.raises(KeyError):
        fail()
    waiting[0].join(10)
    assert order == ["next"]


def test_one_who_gives_up_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting: those behind get their turns."""
    turns, order = Turns(), list[str]()

    def interrupted(_: object) -> bool:
        raise KeyboardInterrupt

    with turns:
        with monkeypatch.context() as patch:
            patch.setattr(turns._changed, "wait_for", interrupted)
            with pytest.raises(KeyboardInterrupt):
                turns.__enter__()
        thread = _ask(turns, "behind", order)
    thread.join(10)
    assert order == ["behind"]
