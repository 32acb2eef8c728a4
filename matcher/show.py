"""What the command line prints: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from matcher.inputs import one_line
from matcher.records import Answer, Basis


class Progress(Protocol):
    """A bar on stderr."""

    def step(self, name: str, n: int = 1) -> None:
        """One more input is done, or several."""
        ...

    def frames(self, path: Path, seconds: float) -> None:
        """So far the decoder has come in the present file."""
        ...


def say(message: str) -> None:
    """One line to stderr."""
    sys.stderr.write(one_line(message) + "\n")
    sys.stderr.flush()


def print_json(value: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    _print_result(json.dumps(value) + "\n")


def _print_result(text: str) -> None:
    """Write to stdout; where its reader has gone (`| head`), go on without a word.

    An add or a link must not stop midway because nobody reads what it says.

    Raises:
        OSError: It cannot be written for another reason, as on a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered would be written, and fail again, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def summary(counts: dict[str, int], seconds: float) -> None:
    """The line that a run ends with."""
    parts = ", ".join(f"{name} {count}" for name, count in counts.items())
    say(f"{parts} in {seconds:.1f} s")


class _NoBar:
    def step(self, name: str, n: int = 1) -> None:
        """Nothing to show."""

    def frames(self, path: Path, seconds: float) -> None:
        """Nothing to show."""


class _Bar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def step(self, name: str, n: int = 1) -> None:
        self._progress.update(self._task, advance=n, current=one_line(name))

    def frames(self, path: Path, seconds: float) -> None:
        self._progress.update(self._task, current=f"{one_line(path.name)} {clock(seconds)}")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Progress]:
    """A rich bar on stderr while the block runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[current]}", markup=False),
    )  # fmt: skip
    # Rich sends stdout through the bar's console, to stderr: right on one terminal, else results are lost.
    on_terminal = sys.stdout.isatty()
    console = Console(stderr=True)
    with RichProgress(*columns, console=console, transient=True, redirect_stdout=on_terminal) as progress:
        yield _Bar(progress, progress.add_task(escape(what), total=total, current=""))


def clock(seconds: float) -> str:
    """Seconds as m:ss.s, or h:mm:ss from an hour on."""
    tenths = round(seconds * 10)
    if tenths >= 36000:
        whole = round(seconds)
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout, as wide as the terminal; unlimited where stdout is a file."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("\n".join(one_line(line) for line in cell.split("\n"))) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    with console.capture() as shown:
        console.print(table)
    _print_result(shown.get())


ANSWER_COLUMNS = ("clip", "decision", "program", "confidence", "where")
#: What tables say of an answer that a person gave.
AS_SAID = "as a person said"

#: What a segment rests on, where anything was heard.
_BASES: dict[Basis, str] = {"picture": "picture", "sound": "sound", "both": "picture and sound"}


def answer_row(answer: Answer) -> tuple[str, ...]:
    """An answer as a row under :data:`ANSWER_COLUMNS`."""
    if answer.error is not None:
        return answer.clip_id, "failed", "", "", answer.error.message
    heard = answer.heard
    disagrees = (
        []
        if heard is None or heard.agrees
        else [f"the sound is {heard.program_id}’s, {heard.confidence:.2f}"]
    )
    if not answer.links:
        guess = answer.candidates[0] if answer.candidates else None
        best = [] if guess is None else [f"best guess {guess.program_id}, {guess.confidence:.2f}"]
        if answer.is_said:  # what else it may be is asked no more
            best = [AS_SAID]
        about = [f"about {one.program_id}, {one.confidence:.2f}" for one in answer.related[:1]]
        return answer.clip_id, answer.decision, "", "", "\n".join([*best, *disagrees, *about])
    programs = "\n".join(link.program_id for link in answer.links)
    sureness = "\n".join(f"{link.confidence:.3f}" for link in answer.links)
    is_heard = heard is not None or any(
        segment.evidence != "picture" for link in answer.links for segment in link.segments
    )
    where = []
    for link in answer.links:
        if not link.segments:  # a person named it, and nothing shows where
            continue
        first = link.segments[0]
        more = f" and {len(link.segments) - 1} more" if len(link.segments) > 1 else ""
        by = f", by {_BASES[first.evidence]}" if is_heard else ""
        where.append(
            f"{clock(first.clip_start_seconds)}–{clock(first.clip_end_seconds)} is {first.asset_id}"
            f" {clock(first.asset_start_seconds)}–{clock(first.asset_end_seconds)}{by}{more}"
        )
    said = [AS_SAID] if answer.is_said else []
    return answer.clip_id, answer.decision, programs, sureness, "\n".join([*where, *said, *disagrees])
