"""The tables of a store as schemas of Arrow, and what their later columns held before there were any.

Shape letters: ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from index import feature_rows, link_rows
from index.rows import Kind

PRIMARY = {"lance-schema:unenforced-primary-key": "true"}


def table_schemas(d: int, later: Mapping[Kind, int] | None = None) -> dict[str, pa.Schema]:
    """The tables, those of ``later`` kinds with their d; Lance takes no nullable column as a key."""

    def key(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, kind, nullable=False, metadata=PRIMARY)

    def whole(name: str) -> pa.Field:
        return pa.field(name, pa.int64(), nullable=False)

    def descriptors(d: int) -> pa.Schema:
        return pa.schema(
            [
                key("id", pa.int64()),
                ("program_id", text),
                ("asset_id", text),
                ("t_seconds", real),
                ("model", text),
                whole("generation"),
                ("vector", pa.list_(pa.float16(), d)),
            ]
        )

    text, real = pa.string(), pa.float64()
    schemas = {
        "models": pa.schema(
            [key("fingerprint", text), ("name", text), whole("d"), ("config", text), ("kind", text)]
        ),
        "programs": pa.schema(
            [
                key("program_id", text),
                whole("number"),
                ("title", text),
                ("aliases", pa.list_(text)),
                ("categories", pa.list_(text)),
                ("added_at", text),
                ("state", text),
                ("source_fingerprint", text),
                whole("asset_count"),
                whole("frame_count"),
                whole("sound_count"),
                whole("embedding_count"),
                # See index/titles.py; "" of a removed one, null where no writer has filled it in yet.
                ("names", text),
            ]
        ),
        "assets": pa.schema(
            [
                whole("number"),
                ("program_id", text),
                ("asset_id", text),
                ("path", text),
                ("title", text),
                ("duration_seconds", real),
                whole("frame_count"),
                whole("ordinal"),
                whole("sound_count"),
                whole("embedding_count"),
            ]
        ),
        "frames": descriptors(d),
        "clips": pa.schema(
            [
                key("clip_id", text),
                ("path", text),
                ("title", text),
                ("duration_seconds", real),
                whole("frames_seen"),
                ("model", text),
                ("source_fingerprint", text),
                ("kept_at", text),
                ("t_seconds", pa.list_(real)),
                # (n, d) little-endian float16, row by row.
                ("vectors", pa.large_binary()),
                # JSON [[name, rows], …]: what the rows after the clip's own belong to; "" without any.
                ("further", text),
                # "" and null where nobody listened; the vectors as those above, with a d of their own.
                ("sound_model", text),
                ("sound_seconds", pa.list_(real)),
                ("sound_vectors", pa.large_binary()),
            ]
        ),
        "features": feature_rows.schema(key("clip_id", text)),
        "links": link_rows.schema(key("clip_id", text)),
        "reviews": pa.schema([("clip_id", text), ("program_id", text), ("verdict", text), ("at", text)]),
        "nights": pa.schema(
            [key("night", pa.int64()), ("at", text), ("epoch", text)]
            + [whole(name) for name in ("known", "catalog_version")]
            + [("summary", text)]
        ),
    }
    for kind, later_d in (later or {}).items():
        schemas[kind] = descriptors(later_d)
    return schemas


#: What a column that came later holds in the rows of before, by its type.
BEFORE = {
    pa.string(): "''",
    pa.int64(): "CAST(0 AS BIGINT)",
    pa.list_(pa.float64()): "arrow_cast(NULL, 'List(Float64)')",
    pa.large_binary(): "arrow_cast(NULL, 'LargeBinary')",
    pa.bool_(): "false",
}
#: And by its name, where the type does not tell.
BEFORE_OF = {"names": "CAST(NULL AS STRING)"}
