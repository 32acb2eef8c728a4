"""One state of the catalog in memory: which frames there are, where they are from, their vectors.

In the view of an index of sounds, read "sounds" for "frames": only its records speak of both.

Shape letters: ``n`` frames, ``na`` assets, ``nb`` and ``nt`` rows of base and tail, ``d`` dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.base import Ids, Vectors
from index.half import widened
from index.rows import AssetRecord, ProgramRecord

if TYPE_CHECKING:
    pass

BLOCK_ROWS = 65536


@dataclass(frozen=True, eq=False)
class FrameInfo:
    """Where frames are from.

    Attributes:
        program_position: int32, into ``programs``; -1 for an id that is not there.
        asset_position: int32, into ``assets``; -1 for an id that is not there.
        t_seconds: float64, in the asset's file; NaN for an id that is not there.
    """

    program_position: NDArray[np.int32]
    asset_position: NDArray[np.int32]
    t_seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.program_position.shape == self.asset_position.shape == self.t_seconds.shape:
            raise ValueError("program_position, asset_position and t_seconds must have one shape")


@dataclass(frozen=True, eq=False)
class CatalogView:
    """One state of the catalog; never changes, so positions stay good while others refresh.

    Where the vectors are is the business of its kinds: :class:`LiveView`, which has them all at hand, and
    :class:`index.two_stage.StoredView`, which reads them when asked.

    Attributes:
        version: The catalog's version that it shows.
        program_records: The live programs, by number.
        assets: Their assets, by number and ordinal.
        program_position: (na,) int32: each asset's place in ``program_records``.
        first_id: (na,) int64, ascending: the id of each asset's first frame.
        first_row: (na,) int64: the row of each asset's first frame; its others follow.
        frame_count: (na,) int64.
        row_seconds: (rows,) float64.
    """

    version: int
    program_records: tuple[ProgramRecord, ...]
    assets: tuple[AssetRecord, ...]
    program_position: NDArray[np.int32]
    first_id: NDArray[np.int64]
    first_row: NDArray[np.int64]
    frame_count: NDArray[np.int64]
    row_seconds: NDArray[np.float64]

    @property
    @abstractmethod
    def d(self) -> int:
        """Dimensions of a vector."""

    @property
    def programs(self) -> tuple[str, ...]:
        """Program ids by position."""
        return tuple(record.program_id for record in self.program_records)

    @property
    def ntotal(self) -> int:
        """Frames of the live programs."""
        return int(self.frame_count.sum())

    def locate(self, ids: Ids) -> FrameInfo:
        """Tell where frames are from.

        Args:
            ids: Any shape; ``NO_ID`` and ids of programs gone by are answered with -1 and NaN.

        Returns:
            Arrays of the same shape.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if not self.assets:
            nowhere = np.full(ids.shape, -1, dtype=np.int32)
            return FrameInfo(nowhere, nowhere, np.full(ids.shape, np.nan))
        # An asset without frames begins where the next one does; "right" finds the last of them.
        asset = np.maximum(np.searchsorted(self.first_id, ids, side="right") - 1, 0)
        offset = ids - self.first_id[asset]
        known = (offset >= 0) & (offset < self.frame_count[asset])
        seconds = np.full(ids.shape, np.nan)
        seconds[known] = self.row_seconds[(self.first_row[asset] + offset)[known]]
        return FrameInfo(
            program_position=np.where(known, self.program_position[asset], -1).astype(np.int32),
            asset_position=np.where(known, asset, -1).astype(np.int32),
            t_seconds=seconds,
        )

    def frames_of_asset(self, asset_position: int) -> tuple[Ids, NDArray[np.float64], Vectors]:
        """All frames of one asset, in time order.

        Args:
            asset_position: Into ``assets``.

        Returns:
            (n,) ids, (n,) seconds, (n, d) float32 vectors.

        Raises:
            IndexError: There is no such asset.
        """
        return self.frames_between(asset_position, -np.inf, np.inf)

    def frames_between(
        self, asset_position: int, start_seconds: float, stop_seconds: float
    ) -> tuple[Ids, NDArray[np.float64], Vectors]:
        """The frames of one asset in ``[start_seconds, stop_seconds)``, in time order.

        Args:
            asset_position: Into ``assets``.
            start_seconds: Included.
            stop_seconds: Not included.

        Returns:
            (n,) ids, (n,) seconds, (n, d) float32 vectors.

        Raises:
            IndexError: There is no such asset.
        """
        if not 0 <= asset_position < len(self.assets):
            raise IndexError(f"asset_position {asset_position} is not in [0, {len(self.assets)})")
        first = int(self.first_row[asset_position])
        seconds = self.row_seconds[first : first + int(self.frame_count[asset_position])]
        low, high = (int(i) for i in np.searchsorted(seconds, [start_seconds, stop_seconds]))
        high = max(low, high)
        first_id = int(self.first_id[asset_position])
        ids = np.arange(first_id + low, first_id + high, dtype=np.int64)
        return ids, seconds[low:high].copy(), self._vectors(slice(first + low, first + high))

    def _vectors(self, rows: slice) -> Vectors:
        """(n, d) float32 of consecutive rows of one asset."""
        return widened(self.vectors_at(np.arange(rows.start, rows.stop)))

    @abstractmethod
    def vectors_at(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(m, d) float16 of any rows."""

    def vectors_of(self, ids: Ids) -> NDArray[np.float16]:
        """(m, d) float16 of frames that are there, given by (m,) ids."""
        asset = np.maximum(np.searchsorted(self.first_id, ids, side="right") - 1, 0)
        return self.vectors_at(self.first_row[asset] + ids - self.first_id[asset])

    def live_rows(self, some: NDArray[np.bool_] | None = None) -> tuple[Ids, NDArray[np.int64]]:
        """(n,) ids of all frames, ascending, and (n,) their rows; or those of some assets (na,) alone."""
        chosen = slice(None) if some is None else some
        counts = self.frame_count[chosen]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        ids = np.repeat(self.first_id[chosen], counts) + within
        return ids, np.repeat(self.first_row[chosen], counts) + within

    def blocks(self) -> Iterator[tuple[Ids, NDArray[np.float16]]]:
        """All frames by ascending id, so many at a time."""
        ids, rows = self.live_rows()
        for start in range(0, ids.size, BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            yield ids[part], self.vectors_at(rows[part])

    def rows_at(self, ids: Ids, asset_position: NDArray[np.int32]) -> NDArray[np.int64]:
        """The rows of frames whose assets :meth:`locate` found; nonsense where it found none."""
        rows: NDArray[np.int64] = self.first_row[asset_position] + ids - self.first_id[asset_position]
        return rows


@dataclass(frozen=True, eq=False)
class LiveView(CatalogView):
    """A state of the catalog with all its vectors.

    Attributes:
        base: (nb, d) float16: rows 0 to nb, a memory map. Rows of no asset are gone programs'.
        tail: (nt, d) float16: rows nb to nb + nt, in memory.
    """

    base: NDArray[np.float16]
    tail: NDArray[np.float16]

    def __post_init__(self) -> None:
        if self.row_seconds.shape != (self.base.shape[0] + self.tail.shape[0],):
            raise ValueError("row_seconds must have one row for each of base and tail")

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return int(self.base.shape[1])

    def _vectors(self, rows: slice) -> Vectors:
        """Rows of one asset: an asset lies in the base or in the tail, never in both."""
        nb = self.base.shape[0]
        if rows.start < nb:
            return widened(self.base[rows])
        return widened(self.tail[rows.start - nb : rows.stop - nb])

    def vectors_at(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(m, d) float16 of any rows."""
        nb = self.base.shape[0]
        if rows.size and int(rows.max()) < nb:
            # Twice as fast as indexing, and other threads run meanwhile.
            base: NDArray[np.float16] = np.asarray(self.base).take(rows, axis=0)
            return base
        vectors = np.empty((rows.size, self.base.shape[1]), dtype=np.float16)
        in_base = rows < nb
        vectors[in_base] = self.base[rows[in_base]]
        vectors[~in_base] = self.tail[rows[~in_base] - nb]
        return vectors
