"""From rows of the tables to records, and back.

Shape letters: ``n`` rows, ``d`` dimensions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index import titles
from index.base import Vectors
from index.rows import ClipRecord, FrameBatch, ProgramRecord, StoredClip

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def program_row(record: ProgramRecord) -> dict[str, Any]:
    """The row of ``programs`` of a record."""
    row = asdict(record)
    return {**row, "names": names_of(row)}


def names_of(row: dict[str, Any]) -> str:
    """The names of a row of ``programs``: as they stand there, or from its title and aliases."""
    if row.get("state", "live") != "live":
        return ""
    names: str | None = row.get("names")
    return titles.names_document(row["title"] or "", row["aliases"] or ()) if names is None else names


def float16_bytes(vectors: Vectors) -> bytes:
    """(n, d) as a cell holds it: little-endian float16, row by row."""
    return np.ascontiguousarray(vectors, dtype="<f2").tobytes()


def frame_batch(batch: pa.RecordBatch, d: int) -> FrameBatch:
    """Rows of a table of descriptors."""
    return FrameBatch(
        ids=batch["id"].to_numpy(),
        t_seconds=batch["t_seconds"].to_numpy(),
        vectors=vectors_of(batch, d),
        asset_ids=batch["asset_id"].to_pylist() if "asset_id" in batch.schema.names else None,
    )


def vectors_of(batch: pa.RecordBatch, d: int) -> NDArray[np.float16]:
    """(n, d) of their column ``vector``."""
    # `flatten` heeds the slice that the batch is; `values` would not.
    vectors: NDArray[np.float16] = batch["vector"].flatten().to_numpy(zero_copy_only=False)
    return vectors.reshape(-1, d)


def only(frames: FrameBatch, keep: NDArray[np.bool_]) -> FrameBatch:
    """The rows where ``keep`` (n,) is true."""
    if bool(keep.all()):
        return frames
    asset_ids = frames.asset_ids
    if asset_ids is not None:
        asset_ids = [asset_ids[row] for row in np.flatnonzero(keep)]
    return FrameBatch(frames.ids[keep], frames.t_seconds[keep], frames.vectors[keep], asset_ids)


def known(record: type[DataclassInstance], row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row that are fields of the record: those of a store of another version differ."""
    return {field.name: row[field.name] for field in fields(record) if field.name in row}


def program_of(row: dict[str, Any]) -> ProgramRecord:
    """A row of ``programs``."""
    lists = {name: tuple(row[name] or ()) for name in ("aliases", "categories")}
    return ProgramRecord(**{**known(ProgramRecord, row), **lists})


def stored_clip(row: dict[str, Any], d: int, sound_d: int) -> StoredClip:
    """A row of ``clips``, where frames have d dimensions and sounds ``sound_d``."""
    record = ClipRecord(**known(ClipRecord, row))
    vectors = from_float16_bytes(row["vectors"], (-1, d))
    times = np.asarray(row["t_seconds"], dtype=np.float64)
    parts = json.loads(row.get("further") or "[]")
    stops = np.cumsum([len(times) - sum(count for _, count in parts), *(count for _, count in parts)])
    further = tuple(
        (name, times[stop - count : stop], vectors[stop - count : stop])
        for (name, count), stop in zip(parts, stops[1:], strict=True)
    )
    sound = None
    if record.sound_model:
        seconds = np.asarray(row["sound_seconds"] or (), dtype=np.float64)
        # Their own d where there are any: the clip may be newer than the model that this reader knows.
        shape = (seconds.size, -1) if seconds.size else (0, sound_d)
        sound = seconds, from_float16_bytes(row["sound_vectors"] or b"", shape)
    return StoredClip(record, times[: stops[0]], vectors[: stops[0]], further, sound)


def from_float16_bytes(content: bytes, shape: tuple[int, int]) -> Vectors:
    """What :func:`float16_bytes` made, as float32."""
    return np.frombuffer(content, dtype="<f2").reshape(shape).astype(np.float32)
