"""An index that no single worker holds: some processes have the engine of some programs each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matcher.cluster.crew import cause_of, last_line, on_this_host
from matcher.cluster.state import StoreState
from matcher.errors import InputError, MatcherError
from matcher.linking import Linker
from matcher.store import hears, linker_over, open_catalog, translated

# After `crew`, which says what is missing where it is not there.
import ray  # isort: skip
from ray.exceptions import RayError, RayTaskError  # isort: skip

if TYPE_CHECKING:
    from index.base import SearchResult, Vectors
    from index.catalog import Catalog
    from index.rows import Kind
    from index.slices import Slice
    from matcher.config import Settings


class SliceHolder:
    """Holds one slice of a store's index, of its frames and its sounds, and searches it for the workers.

    Ray starts it anew, on another machine if need be, when it dies, and asks again what it had been asked.

    Args:
        state: Of the store, as the driver sees it.
        settings: Of the index and the sound.
        place: Which slice.
        count: Of how many.
    """

    def __init__(self, state: StoreState, settings: Settings, place: int, count: int) -> None:
        self._failure: MatcherError | None = None
        try:
            with on_this_host(), translated():
                self._slices = self._opened(state, settings, place, count)
        except MatcherError as error:
            # Raised where it is asked for: here it would come out as the death of an actor.
            self._failure = error

    def _opened(self, state: StoreState, settings: Settings, place: int, count: int) -> dict[Kind, Slice]:
        from index.serving import EnginePlan
        from index.slices import Slice

        catalog = open_catalog(state.store)
        state.check(catalog)
        plan = EnginePlan(None if settings.index.kind == "auto" else settings.index.kind)
        tables = _tables(catalog, settings)
        try:
            return {table: Slice(catalog, place, count, plan, table) for table in tables}
        except ValueError as error:  # of a kind that cannot be cut
            raise InputError(str(error)) from error

    def check(self) -> None:
        """Raise what went wrong when it was opened."""
        if self._failure is not None:
            raise self._failure

    def search(self, table: Kind, xq: Vectors, k: int) -> SearchResult:
        """The k nearest of its frames, or sounds."""
        self.check()
        with translated():
            return self._slices[table].search(xq, k)


def open_slices(catalog: Catalog, settings: Settings, count: int) -> list[Any]:
    """Have a store's index opened in slices, spread over the cluster's machines; gives their actors.

    They take no processor from the workers: one of them or the other waits. They end with the cluster.

    Args:
        catalog: The store; nobody else may write it meanwhile.
        settings: Of the index and the sound.
        count: Slices.

    Raises:
        MatcherError: A slice cannot be opened.
    """
    state = StoreState.of(catalog, "")
    remote = ray.remote(SliceHolder).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
    )
    slices: list[Any] = [remote.remote(state, settings, place, count) for place in range(count)]
    try:
        ray.get([each.check.remote() for each in slices])
    except RayTaskError as error:
        raise cause_of(error) from error
    except RayError as error:
        raise MatcherError(f"the index cannot be opened in {count} slices: {last_line(error)}") from error
    return slices


def sliced_linker(slices: Sequence[Any], catalog: Catalog, settings: Settings) -> Linker:
    """What answers clips by an index that other processes hold.

    Args:
        slices: From :func:`open_slices`.
        catalog: The same store, at the same state.
        settings: That they were opened with.

    Raises:
        StoreError: The tables or the calibration are damaged.
    """
    from index.slices import SlicedIndex

    def asking(table: Kind) -> Callable[[Vectors, int], Sequence[SearchResult]]:
        return lambda xq, k: ray.get([each.search.remote(table, xq, k) for each in slices])

    with translated():
        every = {table: SlicedIndex(catalog, asking(table), table) for table in _tables(catalog, settings)}
    return linker_over(catalog, settings, every["frames"], every.get("sounds"))


def _tables(catalog: Catalog, settings: Settings) -> list[Kind]:
    return ["frames", "sounds"] if hears(catalog, settings) else ["frames"]
