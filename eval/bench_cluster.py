"""What a cluster costs and gives: kept clips answered by this process, and by workers of a Ray cluster here.

Nothing is written. The steps take turns, round after round, for a machine shared with others is faster in one
minute than in the next; the median round of each counts. The workers of one machine show the overhead, and
that its cores are used; not what a network costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from matcher.relink import Answerer, Part, answer_here
from matcher.store import open_linker
from matcher.verdicts import verdicts_of

if TYPE_CHECKING:
    from index.catalog import Catalog
    from matcher.config import Settings
    from matcher.records import Answer

#: Clips of a part: fewer than a night's, so that a few hundred clips make enough parts to share out.
PART_CLIPS = 64
TOP = 5
COLUMNS = ("step", "start", "open", "answer", "CPU", "clips/s", "rate", "other answers")


@dataclass(frozen=True)
class Round:
    """One step, once; seconds.

    Attributes:
        start: Until the cluster was there.
        opening: Then, until a worker had opened the store and its index.
        answering: Then, until all clips were answered; workers that were slower to open are in it.
        cpu: Of processors, for the answers alone.
        other: Answers that are not those of this process.
    """

    start: float
    opening: float
    answering: float
    cpu: float
    other: int = 0


@dataclass(frozen=True)
class Row:
    """One step.

    Attributes:
        name: What was done.
        clips: Answered in each round.
        rounds: One or more.
    """

    name: str
    clips: int
    rounds: tuple[Round, ...]

    def middle(self, what: str) -> float:
        """Median of one of the figures of the rounds."""
        return median(float(getattr(one, what)) for one in self.rounds)

    @property
    def rate(self) -> float:
        """Clips a second, once there is a worker to answer."""
        return self.clips / self.middle("answering")

    def cells(self, first: Row) -> tuple[str, ...]:
        """As a row under :data:`COLUMNS`; ``first`` is what the rate is held against."""
        seconds = [f"{self.middle(what):.1f} s" for what in ("start", "opening", "answering", "cpu")]
        other = max(one.other for one in self.rounds)
        return self.name, *seconds, f"{self.rate:.1f}", f"{self.rate / first.rate:.2f}", str(other)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        rounds = [dict(vars(one)) for one in self.rounds]
        return {"step": self.name, "clips": self.clips, "rate": self.rate, "rounds": rounds}


def bench_cluster(
    catalog: Catalog,
    settings: Settings,
    *,
    clips: int,
    workers: Sequence[int] = (1, 2),
    repeats: int = 1,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Answer kept clips in one process, then by so many workers of clusters that are started here.

    Args:
        catalog: The store; it is only read.
        settings: Of the index, voting and decision.
        clips: So many at most, the first by id.
        workers: Of each cluster.
        repeats: Rounds.
        on_step: Told what is done next.

    Raises:
        MissingDependencyError: The package for it is not installed.
        ValueError: The store keeps no clips.
    """
    ids = sorted(catalog.clip_dates())[:clips]
    if not ids:
        raise ValueError("the store keeps no clips: matcher link keeps some")
    steps = ["one process", *(f"Ray, {n} worker{'s' if n > 1 else ''}" for n in workers)]
    rounds: dict[str, list[Round]] = {name: [] for name in steps}
    for _ in range(repeats):
        on_step(steps[0])
        mine, expected = _alone(catalog, settings, ids)
        rounds[steps[0]].append(mine)
        for name, n in zip(steps[1:], workers, strict=True):
            on_step(name)
            rounds[name].append(_spread(catalog, settings, ids, n, expected))
    return [Row(name, len(ids), tuple(found)) for name, found in rounds.items()]


def _alone(catalog: Catalog, settings: Settings, ids: Sequence[str]) -> tuple[Round, dict[str, Answer]]:
    started = time.monotonic()
    linker = open_linker(catalog, settings)
    opened, cpu = time.monotonic(), time.process_time()

    def answerer(parts: Any, verdicts: Any) -> Any:
        return answer_here(parts, verdicts, catalog=catalog, linker=linker, top=TOP)

    answers, _, _ = _answered(answerer, catalog, ids)
    done = time.monotonic()
    return Round(0.0, opened - started, done - opened, time.process_time() - cpu), answers


def _spread(
    catalog: Catalog, settings: Settings, ids: Sequence[str], workers: int, expected: dict[str, Answer]
) -> Round:
    from matcher.cluster.answering import answerer
    from matcher.cluster.crew import joined

    linker = open_linker(catalog, settings)
    started = time.monotonic()
    with joined("local", workers=workers) as crew:
        there = time.monotonic()
        answers, first, cpu = _answered(answerer(crew, catalog, linker, settings, top=TOP), catalog, ids)
        done = time.monotonic()
    other = sum(answers[clip_id].to_json() != expected[clip_id].to_json() for clip_id in ids)
    return Round(there - started, first - there, done - first, cpu, other)


def _answered(
    answerer: Answerer, catalog: Catalog, ids: Sequence[str]
) -> tuple[dict[str, Answer], float, float]:
    """The answers by clip; when the first part was wanted; processor time of other processes."""
    wanted: list[float] = []

    def parts() -> Iterator[Part]:
        for number, start in enumerate(range(0, len(ids), PART_CLIPS)):
            wanted.append(time.monotonic())
            yield Part(number, tuple(ids[start : start + PART_CLIPS]))

    answers: dict[str, Answer] = {}
    elsewhere = 0.0
    for done in answerer(parts(), verdicts_of(catalog.reviews())):
        answers |= {answer.clip_id: answer for answer, _ in done.answers}
        elsewhere += done.cpu_seconds
    return answers, wanted[0], elsewhere
