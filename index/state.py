"""What the tables hold at one moment, read and checked: what a view is made of.

Shape letters: ``n`` frames, ``na`` assets, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.errors import CatalogError
from index.rows import MAX_FRAMES, ORDINAL_BITS, AssetRecord, Kind, ProgramRecord, count_of

if TYPE_CHECKING:
    from index.catalog import Catalog


@dataclass(frozen=True, eq=False)
class State:
    """The tables at one moment, with the frames of the assets in ``new``, in their order."""

    table: Kind
    version: int
    programs: tuple[ProgramRecord, ...]
    assets: tuple[AssetRecord, ...]
    new: tuple[AssetRecord, ...]
    seconds: NDArray[np.float64]
    vectors: NDArray[np.float16]


#: Number and ordinal of an asset.
Key = tuple[int, int]


def key_of(asset: AssetRecord) -> Key:
    """What names an asset for ever."""
    return asset.number, asset.ordinal


def keys_of(assets: Sequence[AssetRecord], table: Kind) -> NDArray[np.int64]:
    """(na, 3) number, ordinal, frame count: how a snapshot names assets."""
    keys = [(*key_of(asset), count_of(asset, table)) for asset in assets]
    return np.array(keys, dtype=np.int64).reshape(-1, 3)


def exclusive_cumsum(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) the sum of the counts before each."""
    sums: NDArray[np.int64] = np.cumsum(counts) - counts
    return sums


def first_ids(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(na,) the id of each asset's first frame: ordinals run through the assets of a number."""
    before = exclusive_cumsum(keys[:, 2])
    _, first_of_number, which = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    first: NDArray[np.int64] = (keys[:, 0] << ORDINAL_BITS) + before - before[first_of_number][which]
    return first


def check_assets(programs: Sequence[ProgramRecord], assets: Sequence[AssetRecord], table: Kind) -> None:
    """Each program must have the assets and the frames (or sounds) that its row says.

    Raises:
        CatalogError: One has not.
    """
    found: dict[int, list[int]] = {record.number: [0, 0] for record in programs}
    for asset in assets:
        found[asset.number][0] += 1
        found[asset.number][1] += count_of(asset, table)
    for record in programs:
        count = count_of(record, table)
        if found[record.number] != [record.asset_count, count]:
            raise CatalogError(
                f"program {record.program_id!r} says {record.asset_count} assets with {count} {table}, "
                f"but the table assets has {found[record.number][0]} with {found[record.number][1]}. "
                "Add the program again."
            )


def read_frames(
    catalog: Catalog, assets: Sequence[AssetRecord], table: Kind, d: int
) -> tuple[NDArray[np.float64], NDArray[np.float16]]:
    """The frames (or sounds) of whole programs, given by all their assets, in the assets' order.

    Returns:
        (n,) seconds and (n, d) vectors.

    Raises:
        CatalogError: A frame is missing, or there is one too many.
    """
    counts: dict[int, int] = {}
    for asset in assets:
        counts[asset.number] = counts.get(asset.number, 0) + count_of(asset, table)
    numbers = np.array(list(counts), dtype=np.int64)
    frames = np.array(list(counts.values()), dtype=np.int64)
    starts, n = exclusive_cumsum(frames), int(frames.sum())
    seconds = np.zeros(n, dtype=np.float64)
    vectors = np.zeros((n, d), dtype=np.float16)
    times_seen = np.zeros(n, dtype=np.int8)
    strangers = 0
    for batch in catalog.iter_frames(numbers.tolist(), kind=table):
        which = np.searchsorted(numbers, batch.ids >> ORDINAL_BITS)
        ordinal = batch.ids & (MAX_FRAMES - 1)
        good = ordinal < frames[which]
        strangers += int(np.count_nonzero(~good))
        rows = (starts[which] + ordinal)[good]
        seconds[rows], vectors[rows] = batch.t_seconds[good], batch.vectors[good]
        np.add.at(times_seen, rows, 1)
    bad = np.flatnonzero(times_seen != 1)
    if bad.size or strangers:
        number = int(numbers[np.searchsorted(starts, bad[0], side="right") - 1]) if bad.size else None
        name = next((asset.program_id for asset in assets if asset.number == number), "?")
        raise CatalogError(
            f"the table {table} is damaged: {bad.size} {table} are missing or double and {strangers} "
            f"too many, first in program {name!r}. Add the program again."
        )
    return seconds, vectors
