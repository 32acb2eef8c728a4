"""What a clip model takes of a kept clip, and its embedding, as rows of Arrow; read by position for training.

Everything here follows from the other tables, but for the words that were read in a clip's pictures. It is
kept because training goes through it many times: a clip takes some 20 KB, and no video is opened.

Shape letters: ``n`` clips, ``t`` frames, ``s`` seconds of sound, ``d``, ``ds``, ``r`` and ``e`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.rows import FeatureRecord
from index.table_rows import float16_bytes

_PLAIN = ("clip_id", "kept_at", "words", "text_model", "embedding_model", "scene_model", "sound_replaced")
#: The columns that are arrays: little-endian float16, row by row, with the column that says how many rows.
ARRAYS = {"picture": "frames", "sound": "seconds", "text": None, "embedding": None, "wordless": None}
COLUMNS = (*_PLAIN, *ARRAYS, *filter(None, ARRAYS.values()))
#: All but what a clip model takes, and the scenes' model, which speaks of that.
LIGHT = tuple(
    name for name in COLUMNS if name not in ("picture", "frames", "sound", "seconds", "scene_model")
)


def schema(key: pa.Field) -> pa.Schema:
    """The table ``features``; ``key`` is its column ``clip_id``."""
    text, raw = pa.string(), pa.large_binary()
    return pa.schema(
        [
            key,
            ("kept_at", text),
            # Null where nobody knows; the counts tell 0 rows from that.
            ("picture", raw),
            pa.field("frames", pa.int64(), nullable=False),
            ("sound", raw),
            pa.field("seconds", pa.int64(), nullable=False),
            ("text", raw),
            ("words", text),
            ("text_model", text),
            ("embedding", raw),
            ("embedding_model", text),
            ("scene_model", text),
            ("wordless", raw),
            ("sound_replaced", pa.bool_()),
        ]
    )


def to_row(record: FeatureRecord) -> dict[str, Any]:
    """The row of a record."""
    row: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    for name, count in ARRAYS.items():
        found = getattr(record, name)
        row[name] = None if found is None else float16_bytes(found)
        if count is not None:
            row[count] = 0 if found is None else len(found)
    return row


def records(batch: pa.RecordBatch | pa.Table) -> Iterator[FeatureRecord]:
    """The records of rows with :data:`COLUMNS`, or with :data:`LIGHT`: the rest is then not known."""
    there = set(batch.schema.names)
    plain, arrays = there.intersection(_PLAIN), there.intersection(ARRAYS)
    for row in batch.to_pylist():
        found: dict[str, Any] = {name: row[name] for name in plain}
        for name in arrays:
            count = ARRAYS[name]
            found[name] = array_of(row[name], None if count is None else row[count])
        yield FeatureRecord(**found)


def array_of(content: bytes | None, count: int | None) -> NDArray[np.float32] | None:
    """One cell as float32: (count, -1), or one axis where ``count`` is None; None for a null."""
    if content is None:
        return None
    flat = np.frombuffer(content, "<f2").astype(np.float32)
    if count is None:
        return flat
    return flat.reshape(count, -1) if count else np.zeros((0, 0), np.float32)


class FeatureReader:
    """Features as they were at one moment, read by position; a catalog's ``feature_reader`` makes it.

    Args:
        table: Of Lance, at a version that stays.
        columns: What to read.
        reading: Explains what fails.
        wanted: Ids in the order of the positions; None for all, in the table's order.

    Attributes:
        clip_ids: By position; wanted ids that have no features are left out.
    """

    def __init__(
        self,
        table: Any,
        columns: Sequence[str],
        reading: Callable[[], AbstractContextManager[None]],
        wanted: Sequence[str] | None,
    ) -> None:
        unknown = sorted(set(columns) - set(COLUMNS))
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r} of features; they are {', '.join(COLUMNS)}")
        self._table, self._columns, self._reading = table, list(columns), reading
        with reading():
            rows = table.search().select(["clip_id"]).with_row_id(True).to_arrow()
        ids = rows["clip_id"].to_pylist()
        row_ids = rows["_rowid"].to_numpy()
        if wanted is not None:
            place = {clip_id: number for number, clip_id in enumerate(ids)}
            ids = [clip_id for clip_id in wanted if clip_id in place]
            row_ids = row_ids[[place[clip_id] for clip_id in ids]] if ids else row_ids[:0]
        self.clip_ids: list[str] = ids
        self._row_ids: NDArray[np.uint64] = row_ids

    def __len__(self) -> int:
        return len(self.clip_ids)

    def read(self, positions: NDArray[np.int64]) -> pa.Table:
        """The columns of some clips, in the order asked for; a position may come twice.

        Raises:
            CatalogError: The table is damaged, or a compaction dropped the moment.
            IndexError: There is no such position.
        """
        wanted = self._row_ids[positions]
        unique, inverse = np.unique(wanted, return_inverse=True)
        with self._reading():
            query = self._table.take_row_ids(unique.tolist()).select(self._columns).with_row_id()
            found = query.to_arrow()
        # Rows come in an order that Lance promises nothing of.
        order = np.argsort(found["_rowid"].to_numpy(), kind="stable")
        return found.select(self._columns).take(pa.array(order[inverse]))
