"""What a night does after its links: the tables made small, the search caches looked after.

Each step can be left out. They come after the commit of the links, and none of them changes an answer: where
one fails, the links stand, the other steps go on, and the next night does it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from index.protocols import CatalogIndex
from matcher.config import IndexSettings
from matcher.errors import MatcherError
from matcher.relate import relate
from matcher.steps import Step
from matcher.store import open_every, translated

if TYPE_CHECKING:
    from index.catalog import Writer
    from matcher.surroundings import Surroundings

#: Programs whose cached frames are compared with the tables, by value.
VERIFIED = 100
#: Seconds that a reader may go without looking at the tables anew before it must.
KEEP_SECONDS = 3600.0


@dataclass(frozen=True)
class Kept:
    """What the housekeeping did and found.

    Attributes:
        seconds: Of each step that was done.
        failed: A line for each step that was not, though it should have been.
        problems: A line for each difference between a cache and the tables.
        figures: A line for each index that has centroids: how far it has drifted from them.
        advice: A line for each reason to make new ones.
    """

    seconds: Mapping[Step, float]
    failed: tuple[str, ...]
    problems: tuple[str, ...]
    figures: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether everything was done, and nothing is wrong."""
        return not self.failed and not self.problems


def keep_house(
    writer: Writer,
    settings: IndexSettings,
    *,
    skip: Collection[Step] = (),
    keep_seconds: float = KEEP_SECONDS,
    on_step: Callable[[Step], None] | None = None,
    surroundings: Surroundings | None = None,
) -> Kept:
    """Merge small files and delete old versions; verify a sample of the caches; save them; tell of drift.

    A cache that differs from the tables is not written anew: which of the two is right is for a person to
    say, who then runs ``matcher index rebuild``.

    Args:
        writer: Of the store; its lock is held.
        settings: Of its indexes.
        skip: Steps to leave out.
        keep_seconds: Old versions of the tables stay for so long.
        on_step: Called before each one.
        surroundings: Says what all kept clips are about, and what they are; None to say nothing of it.
    """
    house = _House(writer, settings, keep_seconds, surroundings)
    do: dict[Step, Callable[[], None]] = {
        Step.RELATED: house.relate,
        Step.COMPACT: house.compact, Step.VERIFY: house.verify, Step.SNAPSHOT: house.snapshot,
        Step.DRIFT: house.tell_drift,
    }  # fmt: skip
    seconds: dict[Step, float] = {}
    failed: list[str] = []
    for step in Step:
        if step in skip or (step is Step.RELATED and surroundings is None):
            continue
        if on_step is not None:
            on_step(step)
        started = time.monotonic()
        try:
            with translated():
                do[step]()
        except MatcherError as error:
            failed.append(f"{step} failed: {error}")
        except Exception as error:
            # The links are in: whatever this is, it must not keep the other steps from being done.
            failed.append(f"{step} failed: unexpected {type(error).__name__}: {error}")
        else:
            seconds[step] = time.monotonic() - started
    return Kept(seconds, tuple(failed), tuple(house.problems), tuple(house.figures), tuple(house.advice))


@dataclass
class _House:
    writer: Writer
    settings: IndexSettings
    keep_seconds: float
    surroundings: Surroundings | None
    problems: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    _lives: Sequence[CatalogIndex] = ()
    _differing: list[CatalogIndex] = field(default_factory=list)

    @property
    def lives(self) -> Sequence[CatalogIndex]:
        """The indexes, opened by the first step that needs them."""
        self._lives = self._lives or open_every(self.writer.catalog, self.settings)
        return self._lives

    def relate(self) -> None:
        assert self.surroundings is not None
        done = relate(self.writer, self.surroundings)
        if done.changed or done.embedded:
            self.figures.append(
                f"beside the links: {done.clips} clips looked at, {done.changed} changed, {done.embedded}"
                " embedded anew"
            )

    def compact(self) -> None:
        self.writer.compact(keep_seconds=self.keep_seconds)

    def verify(self) -> None:
        for live in self.lives:
            found = live.verify(sample=VERIFIED)
            if found:
                self._differing.append(live)
            self.problems += [f"{live.table}: {line}; see: matcher index verify" for line in found]

    def snapshot(self) -> None:
        for live in self.lives:
            if live not in self._differing:
                live.save(self.writer)

    def tell_drift(self) -> None:
        from index.drift import K, advice

        for live in self.lives:
            training, drift = live.training, live.drift
            if training is None or drift is None:  # flat, or not saved yet
                continue
            unequal = drift.imbalance / training.imbalance
            self.figures.append(
                f"{live.table}: recall@{K} {drift.recall:.3f}, lists {unequal:.2f} times as unequal as when "
                f"trained, {drift.n} vectors in lists made for {training.n} (measured {drift.at})"
            )
            self.advice += [
                f"{live.table}: run `matcher index retrain`: {why}" for why in advice(training, drift)
            ]
