"""How a night shows on the terminal: two bars, one after the other, and a line that says what was done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from matcher.housekeeping import Kept
from matcher.records import Answer
from matcher.relink import Night, Watch
from matcher.show import Progress, progress_bar, say


class NightBars(Watch):
    """Bars of the comparison with new programs, and of the answers; a context manager.

    Args:
        on_answer: Called with each answer too.
    """

    def __init__(self, on_answer: Callable[[Answer], None] | None = None) -> None:
        self._on_answer = on_answer
        self._stack = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> NightBars:
        """Nothing to show yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._stack.close()

    def comparing(self, n: int) -> None:
        """The first bar."""
        self._next("comparing with new programs", n)

    def compared(self, n: int) -> None:
        """One step, or several, of it."""
        assert self._bar is not None
        self._bar.step("", n)

    def answering(self, n: int, done: int) -> None:
        """The second bar."""
        if done:
            say(f"going on: {done} of {n} clips were answered by a run that was stopped")
        self._next("re-linking", n - done)

    def answered(self, answer: Answer) -> None:
        """One step of it."""
        assert self._bar is not None
        self._bar.step(answer.clip_id)
        if self._on_answer is not None:
            self._on_answer(answer)

    def _next(self, what: str, total: int) -> None:
        self._stack.close()
        self._bar = self._stack.enter_context(progress_bar(what, total))


def described(night: Night) -> str:
    """One line: which clips were answered, how they were found, and why."""
    reasons = ", ".join(f"{why} {n}" for why, n in night.why.items()) or "nothing has changed"
    line = f"answered {night.answered} of {night.kept} kept clips ({reasons})"
    estimates = night.figures.get("estimates")
    if estimates:
        words = ", ".join(f"{way} {seconds:.0f} s" for way, seconds in estimates.items())
        line += f"; way: {night.way} (estimated processor time: {words})"
    return line


def told(kept: Kept) -> list[str]:
    """Lines: what the housekeeping did, how long it took, and all that it found."""
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in kept.seconds.items())
    done = [f"housekeeping: {steps}"] if steps else []
    return [*done, *kept.figures, *kept.advice, *kept.problems, *kept.failed]
