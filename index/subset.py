"""A search within some programs alone: those that a person names, of a category, or not of a test.

Hiding the answers of all other programs would not do: a frame's neighbours are found before the hidden ones
are dropped, and of a handful of programs none may be among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from index.base import SearchResult, Vectors
from index.engines import FLAT_MAX
from index.faiss_backend import FaissIndex
from index.rows import id_range
from index.selectors import Range, merged
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
        self._take(live.view)

    def _take(self, view: CatalogView) -> None:
        self._view = view
        positions = [place for place, name in enumerate(view.programs) if name in self._ids]
        self._numbers = [view.program_records[position].number for position in positions]
        self._assets = np.flatnonzero(np.isin(view.program_position, np.array(positions, dtype=np.int64)))
        self.__dict__.pop("_exact", None)

    def refresh(self) -> bool:
        """Show what was committed of the same programs since; returns whether anything changed.

        Raises:
            CatalogError: The tables are damaged; the former state is still shown.
        """
        self._live.refresh()
        changed = self._live.view is not self._view
        if changed:
            self._take(self._live.view)
        return changed

    @property
    def view(self) -> CatalogView:
        """The state of the last :meth:`refresh`; it never changes itself."""
        return self._view

    @property
    def version(self) -> int:
        """The catalog's version shown."""
        return self.view.version

    @property
    def ntotal(self) -> int:
        """Frames that a search can return."""
        return int(self.view.frame_count[self._assets].sum())

    @property
    def ranges(self) -> list[Range]:
        """The ids of the programs, as half-open ranges."""
        return merged([id_range(number) for number in self._numbers])

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest frames of each row of ``xq`` (nq, d).

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        if self.ntotal <= FLAT_MAX:
            return self._exact.search(xq, k)
        return self._live.search(xq, k, within=self.ranges)

    @cached_property
    def _exact(self) -> FaissIndex:
        view = self.view
        index = FaissIndex(view.d)
        for asset in self._assets.tolist():
            ids, _, vectors = view.frames_of_asset(asset)
            index.add(vectors, ids)
        return index
