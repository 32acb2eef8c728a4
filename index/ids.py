"""The ids that an engine holds: what refuses an id twice and tells how many a range has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index.base import Ids
from index.rows import ORDINAL_BITS
from index.selectors import Range

#: Bytes that :func:`ascending` may take for an id.
_PLACES_AN_ID = 16


class IdSet:
    """The ids in use, sorted; appending ids above the highest (the usual case) copies nothing."""

    def __init__(self, ids: Ids) -> None:
        self._chunks: list[Ids] = [ascending(ids)]
        self._highest = int(ids.max()) if ids.size else -1
        self.size = int(ids.size)

    def sorted(self) -> Ids:
        """All ids, ascending; not to be written to."""
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks)]
        return self._chunks[0]

    def first_used(self, ids: Ids) -> int | None:
        """One of ``ids`` that is in the set already, or None."""
        if ids.size == 0 or int(ids.min()) > self._highest:
            return None
        used = np.isin(ids, self.sorted())
        return int(ids[used][0]) if bool(used.any()) else None

    def add(self, ids: Ids) -> None:
        """Put in ids that :meth:`first_used` did not find."""
        if ids.size == 0:
            return
        if int(ids.min()) > self._highest:
            self._chunks.append(np.sort(ids))
        else:
            self._chunks = [np.sort(np.concatenate([self.sorted(), ids]))]
        self._highest = max(self._highest, int(ids.max()))
        self.size += int(ids.size)

    def count(self, ranges: Sequence[Range]) -> int:
        """How many ids lie in the merged half-open ranges."""
        low, high = self._places(ranges)
        return int((high - low).sum())

    def remove_ranges(self, ranges: Sequence[Range]) -> int:
        """Take out the ids of merged half-open ranges; returns how many there were."""
        low, high = self._places(ranges)
        removed = int((high - low).sum())
        if removed:
            ids = self.sorted()
            starts, stops = [0, *high.tolist()], [*low.tolist(), ids.size]
            kept = np.concatenate([ids[i:j] for i, j in zip(starts, stops, strict=True)])
            self._chunks = [kept]
            self.size = int(kept.size)
            self._highest = int(kept[-1]) if kept.size else -1
        return removed

    def _places(self, ranges: Sequence[Range]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each range begins and ends among the sorted ids."""
        bounds = np.array(ranges, dtype=np.int64).reshape(-1, 2)
        low, high = np.searchsorted(self.sorted(), bounds.T)
        return low, high


def ascending(ids: Ids) -> Ids:
    """(n,) ids in order, as ``np.sort`` gives them, which takes four times as long on some processors.

    The frames of a program are numbered without gaps, so that marking the places that are taken, program
    after program, leaves few free ones between.
    """
    if ids.size == 0:
        return ids.copy()
    places, ordinals = ids >> ORDINAL_BITS, ids & ((1 << ORDINAL_BITS) - 1)
    first, width = int(places.min()), int(ordinals.max()) + 1
    n_places = (int(places.max()) - first + 1) * width
    if n_places > _PLACES_AN_ID * ids.size:
        return np.sort(ids)
    places -= first
    places *= width
    places += ordinals
    is_taken = np.zeros(n_places, dtype=bool)
    is_taken[places] = True
    places = np.flatnonzero(is_taken)
    if places.size != ids.size:  # an id that is there twice, in a file that is not ours
        return np.sort(ids)
    numbers = places // width
    places -= numbers * width
    numbers += first
    numbers <<= ORDINAL_BITS
    numbers += places
    return numbers
