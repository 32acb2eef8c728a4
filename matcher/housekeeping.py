"""What a night does after its links: the tables made small, the search caches saved and looked after.

Each step can be left out. They come after the commit of the links, and none of them changes an answer: where
one fails, the links stand and the next night does it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.protocols import CatalogIndex
from matcher.config import IndexSettings
from matcher.steps import Step
from matcher.store import open_every, translated

if TYPE_CHECKING:
    from index.catalog import Writer

#: Programs whose cached frames are compared with the tables, by value.
VERIFIED = 100


@dataclass(frozen=True)
class Kept:
    """What the housekeeping found.

    Attributes:
        done: The steps that were done.
        problems: A line for each thing that is wrong.
        advice: A line for each index that has drifted from its centroids.
    """

    done: tuple[Step, ...]
    problems: tuple[str, ...]
    advice: tuple[str, ...]


def keep_house(
    writer: Writer,
    settings: IndexSettings,
    *,
    skip: Collection[Step] = (),
    on_step: Callable[[Step], None] | None = None,
) -> Kept:
    """Merge small files and delete old versions; save the caches, with how far they drifted; verify a sample.

    Args:
        writer: Of the store; its lock is held.
        settings: Of its indexes.
        skip: Steps to leave out.
        on_step: Called before each one.

    Raises:
        StoreError: The tables are damaged, or cannot be written.
    """
    from index.drift import advice

    steps = [step for step in Step if step not in skip]
    problems: list[str] = []
    told: list[str] = []
    lives: list[CatalogIndex] = []
    for step in steps:
        if on_step is not None:
            on_step(step)
        with translated():
            if step is Step.COMPACT:
                writer.compact()
                continue
            lives = lives or open_every(writer.catalog, settings)
            for live in lives:
                if step is Step.SNAPSHOT:
                    live.save(writer)
                    if live.training is not None and live.drift is not None:
                        told += [f"{live.table}: {line}" for line in advice(live.training, live.drift)]
                else:
                    problems += [f"{live.table}: {line}" for line in live.verify(sample=VERIFIED)]
    return Kept(tuple(steps), tuple(problems), tuple(told))
