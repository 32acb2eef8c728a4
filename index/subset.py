"""A search within some programs alone: those that a person names, of a category, or not of a test.

Hiding the answers of all other programs would not do: a frame's neighbours are found before the hidden ones
are dropped, and of a handful of programs none may be among them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from index.base import SearchResult, Vectors
from index.engines import FLAT_MAX
from index.faiss_backend import FaissIndex
from index.rows import id_range
from index.selectors import merged
from index.view import CatalogView

if TYPE_CHECKING:
    from index.protocols import CatalogIndex


class Subset:
    """What a live index shows of some of its programs; positions are those of all of them.

    Up to 200,000 frames are searched exactly, whatever the index's kind. More are searched by the index
    itself with all other ids left out, visiting so many more lists as they are fewer: either way, what is
    near is found as surely as without the others.

    Args:
        live: The index.
        programs: Positions in its ``view``.
    """

    def __init__(self, live: CatalogIndex, programs: Sequence[int]) -> None:
        self._live = live
        names = live.view.programs
        self._ids = frozenset(names[position] for position in programs)
        self._few = _Few(live.view, self._ids)

    def refresh(self) -> bool:
        """Show what was committed of the same programs since; returns whether anything changed.

        Raises:
            CatalogError: The tables are damaged; the former state is still shown.
        """
        self._live.refresh()
        view = self._live.view
        changed = view is not self._few.view
        if changed:
            self._few = _Few(view, self._ids)
        return changed

    @property
    def view(self) -> CatalogView:
        """The state of the last :meth:`refresh`; it never changes itself."""
        return self._few.view

    @property
    def version(self) -> int:
        """The catalog's version shown."""
        return self.view.version

    @property
    def ntotal(self) -> int:
        """Frames that a search can return."""
        return self._few.ntotal

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest frames of each row of ``xq`` (nq, d).

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        few = self._few
        if few.ntotal <= FLAT_MAX:
            return few.exact.search(xq, k)
        return self._live.search(xq, k, within=few.ranges)


class _Few:
    """The programs of some ids in one state of the catalog; replaced as a whole when that changes."""

    def __init__(self, view: CatalogView, ids: Collection[str]) -> None:
        self.view = view
        positions = [place for place, name in enumerate(view.programs) if name in ids]
        self._assets = np.flatnonzero(np.isin(view.program_position, np.array(positions, dtype=np.int64)))
        #: The ids of their frames, as half-open ranges.
        self.ranges = merged([id_range(view.program_records[place].number) for place in positions])
        self.ntotal = int(view.frame_count[self._assets].sum())

    @cached_property
    def exact(self) -> FaissIndex:
        """All their frames; two threads that ask first at once make it twice."""
        index = FaissIndex(self.view.d)
        for asset in self._assets.tolist():
            ids, _, vectors = self.view.frames_of_asset(asset)
            index.add(vectors, ids)
        return index
