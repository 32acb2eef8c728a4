"""What a night has done so far, on the local disk: so that it can be stopped, or killed, and goes on.

``cache/relink/`` in the store (of one in object storage: in the user's cache)::

    plan.json        what is re-linked: of what state of the store, by which settings
    affected.json    [[clip id, why], …] in the order in which they are answered
    part-00000.parquet, part-00000.json
                     the links of the first clips, and what changed in them; and so on

A part is written in one step. What was done for another state of the store is thrown away. Only the holder
of the store's lock comes here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from index import link_rows
from index.files import fsync_folder, storing, write_atomically
from index.places import Place
from index.rows import LinkRecord
from matcher.changes import Change

_SCHEMA = link_rows.schema(pa.field("clip_id", pa.string(), nullable=False))
#: Clips of a part: some seconds of work, which a kill can cost.
PART_CLIPS = 256


class Staging:
    """The folder of one store's night.

    Args:
        place: Of the store.
    """

    def __init__(self, place: Place) -> None:
        self._folder = place.cache_root() / "cache" / "relink"

    def plan(self) -> Mapping[str, Any] | None:
        """What :meth:`begin` wrote; None where nothing is under way."""
        try:
            plan: dict[str, Any] = json.loads((self._folder / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return plan

    def begin(self, plan: Mapping[str, Any], why: Mapping[str, str]) -> None:
        """Throw away what is there and begin anew; ``plan.json`` is written last.

        Raises:
            NotWritableError: The disk is full or read-only.
        """
        self.clear()
        with storing(self._folder):
            self._folder.mkdir(parents=True)
            write_atomically(self._folder / "affected.json", json.dumps(list(why.items())).encode())
        self.note(plan)

    def note(self, plan: Mapping[str, Any]) -> None:
        """Replace the plan."""
        with storing(self._folder):
            write_atomically(self._folder / "plan.json", json.dumps(plan).encode())

    def affected(self) -> list[tuple[str, str]]:
        """The clips to answer, and why."""
        pairs = json.loads((self._folder / "affected.json").read_text(encoding="utf-8"))
        return [(clip_id, why) for clip_id, why in pairs]

    def has(self, part: int) -> bool:
        """Whether a part is done."""
        return self._path(part, "json").is_file()

    def put(self, part: int, links: Sequence[LinkRecord], changes: Sequence[Change]) -> None:
        """Keep a part; the file that says that it is there comes last.

        Raises:
            NotWritableError: The disk is full or read-only.
        """
        table = pa.Table.from_pylist([link_rows.to_row(link) for link in links], schema=_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        with storing(self._folder):
            write_atomically(self._path(part, "parquet"), sink.getvalue().to_pybytes())
            words = json.dumps([asdict(change) for change in changes])
            write_atomically(self._path(part, "json"), words.encode())

    def links(self, part: int) -> list[LinkRecord]:
        """The links of a part that is done."""
        # Not by its path: pyarrow would take a folder called a=b for a partition.
        content = pa.BufferReader(self._path(part, "parquet").read_bytes())
        return [link_rows.whole_link(row) for row in pq.read_table(content).to_pylist()]

    def changes(self, part: int) -> list[Change]:
        """What changed in a part that is done."""
        rows = json.loads(self._path(part, "json").read_text(encoding="utf-8"))
        tuples = ("programs_before", "programs")
        return [Change(**{**row, **{name: tuple(row[name]) for name in tuples}}) for row in rows]

    def parts(self) -> Iterator[list[LinkRecord]]:
        """The links of all parts, in order."""
        part = 0
        while self.has(part):
            yield self.links(part)
            part += 1

    def clear(self) -> None:
        """Throw away what is there; the plan first, for without it the rest is nothing."""
        (self._folder / "plan.json").unlink(missing_ok=True)
        if self._folder.is_dir():
            fsync_folder(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, part: int, kind: str) -> Path:
        return self._folder / f"part-{part:05d}.{kind}"
