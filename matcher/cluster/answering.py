"""Clips of a night, answered by the workers of a cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matcher.cluster.crew import Crew, Post, Worker, on_this_host, spread_over
from matcher.cluster.slices import open_slices, sliced_linker
from matcher.cluster.state import StoreState
from matcher.linking import Linker
from matcher.records import Answer
from matcher.relink import Answerer, Part, PartAnswers, relink_shard
from matcher.store import open_catalog, open_linker, translated
from matcher.verdicts import Verdict

if TYPE_CHECKING:
    from index.catalog import Catalog
    from matcher.config import Settings


class AnsweringWorker(Worker[tuple[Part, Mapping[str, Verdict]], tuple[list[tuple[Answer, str]], float]]):
    """Answers parts of the kept clips; gives the answers and the processor time that they took.

    Args:
        state: Of the store, as the driver sees it.
        settings: Of the linker.
        top: Best guesses that are named.
        slices: Actors that hold the index, where the worker itself shall not.
    """

    def __init__(self, state: StoreState, settings: Settings, top: int, slices: Sequence[Any] = ()) -> None:
        self._state, self._settings, self._top, self._slices = state, settings, top, slices

    def open(self) -> None:
        """Open the store and its index, and compare with what the driver has."""
        with on_this_host(), translated():
            self._catalog = open_catalog(self._state.store)
            self._linker = (
                sliced_linker(self._slices, self._catalog, self._settings)
                if self._slices
                else open_linker(self._catalog, self._settings)
            )
            self._state.check(self._catalog, self._linker, top=self._top)

    def work(self, task: tuple[Part, Mapping[str, Verdict]]) -> tuple[list[tuple[Answer, str]], float]:
        """Answer one part."""
        part, verdicts = task
        started = time.process_time()
        with translated():
            answers = list(relink_shard(self._catalog, self._linker, part.clip_ids, verdicts, top=self._top))
        return answers, time.process_time() - started


def relinking(
    crew: Crew, catalog: Catalog, settings: Settings, *, top: int, slices: int | None = None
) -> tuple[Linker, Answerer]:
    """What :func:`matcher.relink.relink` needs to have clips answered by a cluster.

    Args:
        crew: Of the cluster.
        catalog: The store, its lock held.
        settings: Of the index, voting and decision.
        top: Best guesses that are named.
        slices: Processes that hold a part of the index each; None: every worker, and this process, has all.

    Raises:
        MatcherError: The store or its index cannot be opened, here or there.
    """
    if slices is None:
        linker, holders = open_linker(catalog, settings), []
    else:
        holders = open_slices(catalog, settings, slices)
        linker = sliced_linker(holders, catalog, settings)
    return linker, answerer(crew, catalog, linker, settings, top=top, slices=holders)


def answerer(
    crew: Crew,
    catalog: Catalog,
    linker: Linker,
    settings: Settings,
    *,
    top: int,
    slices: Sequence[Any] = (),
) -> Answerer:
    """Answers the parts of a night by the workers of a cluster; for :func:`matcher.relink.relink`.

    Args:
        crew: Of the cluster.
        catalog: The store; nobody else may write it meanwhile.
        linker: Of the store: the workers' must be as this one.
        settings: That it was opened with.
        top: Best guesses that are named.
        slices: From :func:`open_slices`; without any, each worker has the whole index.
    """

    def answer(parts: Iterable[Part], verdicts: Mapping[str, Verdict]) -> Generator[PartAnswers, None, None]:
        state = StoreState.of(catalog, linker.epoch(top))
        post = Post(AnsweringWorker, (state, settings, top, slices), int(settings.index.device == "gpu"))
        tasks = (
            (part, {name: verdicts[name] for name in part.clip_ids if name in verdicts}) for part in parts
        )
        with contextlib.closing(spread_over(crew, post, tasks)) as done:
            for (part, _), (answers, cpu_seconds) in done:
                yield PartAnswers(part, answers, cpu_seconds)

    return answer
