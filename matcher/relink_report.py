"""What a night changed, for people and for machines: see :func:`write_report`.

In the report's folder, each written whole, so that whoever reads sees the night before or this one::

    changes.parquet  one row a clip whose answer changed: the fields of matcher.changes.Change
    report.html      the same for people, and what they should look at
    summary.json     what was done, the programs whose links changed, the clips to look at
    metrics.prom     figures for Prometheus

It is written before the links are committed, and says whether they are going to be: a commit that then fails
(a full disk) ends the run with an error, and the next run makes up for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from index.files import replacing, storing, write_atomically
from matcher.changes import Change
from matcher.errors import InputError
from matcher.relink import Night
from matcher.relink_look import WorthALook, worth_a_look
from matcher.relink_metrics import metrics_text
from matcher.relink_page import night_page
from matcher.relink_programs import ProgramChange, program_changes

if TYPE_CHECKING:
    from index.catalog import Catalog

CHANGES, PAGE, SUMMARY, METRICS = "changes.parquet", "report.html", "summary.json", "metrics.prom"
#: Columns of ``changes.parquet``: the fields of :class:`matcher.changes.Change`.
SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("decision_before", pa.string(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("programs_before", pa.list_(pa.string()), nullable=False),
        pa.field("programs", pa.list_(pa.string()), nullable=False),
        pa.field("confidence_before", pa.float64(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("best", pa.string()),
        pa.field("is_said", pa.bool_(), nullable=False),
        pa.field("against", pa.string()),
        pa.field("against_confidence", pa.float64(), nullable=False),
        pa.field("rival", pa.string()),
    ]
)
#: Rows that are turned into columns, and can be read, at a time.
_ROW_GROUP = 65_536


def check_folder(folder: Path | None) -> None:
    """Refuse a folder that cannot be written before there is any work to lose; makes nothing.

    Raises:
        InputError: There is a file in its place, or this user may not write there.
    """
    if folder is None:
        return
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path())
    if not there.is_dir():
        raise InputError(f"no report can be written to {folder}: {there} is not a folder; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"no report can be written to {folder}: {there} may not be written; name another one"
        )
    for name in (CHANGES, PAGE, SUMMARY, METRICS):
        if (folder / name).is_dir():
            raise InputError(
                f"no report can be written to {folder}: its {name} is a folder; name another one"
            )


def write_report(folder: Path | None, night: Night, catalog: Catalog, *, at: datetime | None = None) -> None:
    """Write the report into ``folder``, which is made if need be; nothing where it is None.

    Args:
        folder: Where; the files of a night before are replaced.
        night: What was done.
        catalog: Before the night's links are committed.
        at: When it was done; default: now.

    Raises:
        NotWritableError: The disk is full or read-only.
        CatalogError: The links cannot be read.
    """
    if folder is None:
        return
    at = at or datetime.now(UTC)
    records = {record.program_id: record for record in catalog.programs(removed=True)}
    titles = {name: record.title for name, record in records.items()}
    live = {name for name, record in records.items() if record.state == "live"}
    programs = program_changes(night, catalog, titles, live)
    looks = worth_a_look(night, live)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / CHANGES) as file:
            write_changes(file, night.changes)
        page = night_page(night, programs, looks, titles, at)
        write_atomically(folder / PAGE, page.encode())
        summary = json.dumps(_summary(night, programs, looks, at), indent=1, ensure_ascii=False)
        write_atomically(folder / SUMMARY, f"{summary}\n".encode())
        metrics = metrics_text(night, at, n_looks=len(looks))
        write_atomically(folder / METRICS, metrics.encode())


def write_changes(file: BinaryIO, changes: Iterable[Change]) -> None:
    """Write changes as Parquet, by and by; a file without rows where there are none."""
    rows = iter(changes)
    with pq.ParquetWriter(file, SCHEMA) as writer:
        while part := [vars(change) for change in islice(rows, _ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(part, schema=SCHEMA))


def _summary(
    night: Night, programs: Iterable[ProgramChange], looks: Iterable[WorthALook], at: datetime
) -> dict[str, Any]:
    return {
        **night.to_json(),
        "at": at.isoformat(timespec="seconds"),
        "programs": [asdict(program) for program in programs],
        "worth_a_look": [look.to_json() for look in looks],
    }
