"""Two-stage search, for catalogues that outgrow memory: stretches first, then the frames of the best of them.

In memory stand a vector for each stretch (:mod:`index.stretches`: of usual films one for five frames), and of
each frame its time. The vectors of the frames are read from the tables, by id: those of the stretches that a
query resembles most, and of them the nearest by exact inner products.

A row of queries is compared with the frames of its own stretches only, so its answer depends on no row beside
it; but all rows read at once, and what several of them want is read once.

Shape letters: ``nq`` queries, ``n`` frames, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from index.base import NO_ID, SearchResult, Vectors
from index.drift import Drift, Training
from index.errors import CatalogError
from index.exact import as_vectors, best_first, check_k
from index.half import widened
from index.rows import ORDINAL_BITS, Kind, id_range
from index.selectors import Range, lie_in, merged
from index.serving import EnginePlan
from index.stretches import Cut, StoredView, StretchIndex, ids_between, runs_of

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer

_log = logging.getLogger(__name__)

#: Stretches whose frames a query is compared with.
STRETCHES = 32
#: Frames read at once, 128 MiB of d = 512.
MAX_FRAMES = 1 << 17


class TwoStageIndex:
    """Search over what the catalog shows, the frames' vectors left in the tables; open with :meth:`open`.

    To be used as :class:`index.live.LiveIndex` is (:class:`index.view.CatalogIndex`), threads included. Its
    :attr:`view` reads vectors from the tables too.
    """

    def __init__(self, coarse: StretchIndex, *, stretches: int, max_frames: int) -> None:
        for name, value in (("stretches", stretches), ("max_frames", max_frames)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._coarse = coarse
        self._stretches, self._max_frames = stretches, max_frames
        self._counting = threading.Lock()
        self._frames_read = 0

    @classmethod
    def open(
        cls,
        catalog: Catalog,
        plan: EnginePlan | None = None,
        *,
        table: Kind = "frames",
        cut: Cut | None = None,
        stretches: int = STRETCHES,
        max_frames: int = MAX_FRAMES,
    ) -> TwoStageIndex:
        """Load the stretches, if a good snapshot of them is there, and bring them to what the catalog shows.

        Writes nothing. A snapshot that is damaged is warned of, and the stretches are made from the tables.

        Args:
            catalog: The store; it is refreshed.
            plan: Of the engine that searches the stretches; default by their number.
            table: What to search: "frames" or "sounds".
            cut: Where to cut.
            stretches: So many nearest stretches of each query are read: this bounds the work, and what is
                found. Frames of other stretches are no neighbours, however near.
            max_frames: So many frames are held at once: this bounds memory, and leaves nothing out. What the
                rows of one search want beyond it is read in several goes; the stretches of a single row
                are read in one, however many frames they have.

        Raises:
            BackendMissingError: FAISS, or the GPU asked for, is not there.
            CatalogError: The tables are damaged.
            ValueError: Sounds are asked for and the store holds none, or a number is below 1.
        """
        coarse = StretchIndex.opened(catalog, plan, table, cut)
        return cls(coarse, stretches=stretches, max_frames=max_frames)

    # ------------------------------------------------------------ reading

    @property
    def view(self) -> StoredView:
        """The state of the last refresh; it never changes itself."""
        return self._coarse.frames

    @property
    def version(self) -> int:
        """The catalog's version shown."""
        return self._coarse.version

    @property
    def ntotal(self) -> int:
        """Frames that a search can return."""
        return self.view.ntotal

    @property
    def n_stretches(self) -> int:
        """Stretches, a vector each in memory."""
        return self._coarse.ntotal

    @property
    def frames_read(self) -> int:
        """Frames that searches have read so far."""
        return self._frames_read

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return self._coarse.d

    @property
    def table(self) -> Kind:
        """What is searched: "frames" or "sounds"."""
        return self._coarse.table

    @property
    def kind(self) -> str:
        """That there are two stages, and the FAISS index's kind of the first."""
        return f"two-stage {self._coarse.kind}"

    def search(self, xq: Vectors, k: int, *, within: Sequence[Range] | None = None) -> SearchResult:
        """The k nearest of the frames of each row's nearest stretches; see :meth:`open` for what bounds what.

        Args:
            xq: (nq, d).
            k: Neighbours; where the stretches have fewer frames, the rest is ``NO_ID``.
            within: Only frames of these half-open ranges of ids; the stretches are chosen among those of
                the programs that the ranges touch. None for all.

        Raises:
            CatalogError: The tables are damaged.
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        check_k(k)
        queries = as_vectors(xq, self.d, what="xq")
        try:
            return self._search(queries, k, within)
        except CatalogError as error:
            # A compaction may have dropped the moment shown; there is a later one.
            _log.info("%s; looking at the tables anew, searching again", error)
            self._coarse.reopen()
            return self._search(queries, k, within)

    # ------------------------------------------------------------ keeping in step

    @property
    def training(self) -> Training | None:
        """Of the stretches' engine; None where it has no centroids."""
        return self._coarse.training

    @property
    def drift(self) -> Drift | None:
        """Of the stretches' engine; None where it has no centroids or none was measured."""
        return self._coarse.drift

    def refresh(self) -> bool:
        """Show what was committed since; returns whether anything changed.

        Raises:
            CatalogError: The tables are damaged; the former state is still shown.
        """
        return self._coarse.refresh()

    def retrain(self, writer: Writer) -> None:
        """Set the centroids of the stretches' engine anew; see :meth:`index.live.LiveIndex.retrain`."""
        self._coarse.retrain(writer)

    def rebuild(self, writer: Writer | None = None) -> None:
        """Cut everything anew, from the tables; with a writer, also save it and let ids be found fast.

        Raises:
            CatalogError: The tables are damaged.
            ValueError: The writer is another store's, or its lock is released.
        """
        self._coarse.rebuild(writer)
        if writer is not None:
            self._index_ids(writer)

    def save(self, writer: Writer, *, force: bool = False) -> bool:
        """Refresh, and write a snapshot of the stretches if a tenth of the last one is new or gone.

        The tables' index of ids is made here, where there is none yet.

        Args:
            writer: Shows that the store's lock is held.
            force: Write one in any case.

        Returns:
            Whether one was written.

        Raises:
            CatalogError: The tables are damaged.
            ValueError: The writer is another store's, or its lock is released.
        """
        saved = self._coarse.save(writer, force=force)
        self._index_ids(writer)
        return saved

    def verify(self, *, full: bool = False, sample: int | None = None) -> list[str]:
        """Refresh, and compare the stretches with the tables; see :meth:`index.live.LiveIndex.verify`."""
        return self._coarse.verify(full=full, sample=sample)

    # ------------------------------------------------------------ inside

    def _index_ids(self, writer: Writer) -> None:
        writer.index_ids(self.table)
        self._coarse.reopen()

    def _search(self, queries: Vectors, k: int, within: Sequence[Range] | None) -> SearchResult:
        nq = queries.shape[0]
        similarities = np.full((nq, k), -np.inf, dtype=np.float32)
        ids = np.full((nq, k), NO_ID, dtype=np.int64)
        programs = (
            None if within is None else [_whole_programs(*each) for each in within if each[0] < each[1]]
        )
        found = self._coarse.find(queries, self._stretches, programs)
        own = [ids_between(found.first_id[row], found.stop_id[row]) for row in range(nq)]
        if within is not None:
            inside = merged(within)
            own = [ids[lie_in(ids, inside)] for ids in own]
        for rows in _goes([each.size for each in own], self._max_frames):
            wanted = np.unique(np.concatenate(own[rows]))
            vectors = found.frames.read(runs_of(wanted))
            with self._counting:
                self._frames_read += wanted.size
            for row in range(rows.start, rows.stop):
                near = widened(vectors[np.searchsorted(wanted, own[row])]) @ queries[row]
                best = best_first(near[np.newaxis], own[row][np.newaxis], k)
                similarities[row], ids[row] = best[0][0], best[1][0]
        return SearchResult(similarities=similarities, ids=ids)


def _whole_programs(start: int, stop: int) -> Range:
    """A range of ids widened to all of the programs that it touches; ids of stretches lie there too."""
    return id_range(start >> ORDINAL_BITS)[0], id_range((stop - 1) >> ORDINAL_BITS)[1]


def _goes(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Rows that are read together: as many as want ``most`` frames, counted twice where they share them."""
    start, frames = 0, 0
    for row, size in enumerate(sizes):
        if frames + size > most and row > start:
            yield slice(start, row)
            start, frames = row, 0
        frames += size
    if start < len(sizes):
        yield slice(start, len(sizes))
