"""What clips really show, as a table in a CSV file: read in two forms, written in one."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from eval.metrics import Match
from matcher.errors import InputError


@dataclass(frozen=True)
class TruthRow:
    """One stretch of a clip and the stretch of an asset that it shows, both half open.

    Attributes:
        clip_id: The clip; has several rows where it shows several stretches, or several programs.
        program_id: The program.
        asset_id: The file of it.
        clip_start_seconds: From the clip's first frame.
        clip_end_seconds: After the start.
        asset_start_seconds: From the asset's first frame.
        asset_end_seconds: After the start, reversed or not.
        is_reversed: Whether the clip shows it backwards.
    """

    clip_id: str
    program_id: str
    asset_id: str
    clip_start_seconds: float
    clip_end_seconds: float
    asset_start_seconds: float
    asset_end_seconds: float
    is_reversed: bool = False

    def __post_init__(self) -> None:
        for name in ("clip_id", "program_id", "asset_id"):
            value = getattr(self, name)
            # Readers strip cells, so an id with space around it would not come back as it was written.
            if not value or value != value.strip():
                raise ValueError(f"{name} must be a name without space around it, got {value!r}")
        for axis in ("clip", "asset"):
            start, end = getattr(self, f"{axis}_start_seconds"), getattr(self, f"{axis}_end_seconds")
            if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
                raise ValueError(f"{axis} segment must have 0 <= start < end, got {start} to {end}")

    def match(self) -> Match:
        """The row as the metrics take it."""
        return Match(
            self.clip_id,
            self.asset_id,
            self.clip_start_seconds,
            self.clip_end_seconds,
            self.asset_start_seconds,
            self.asset_end_seconds,
            is_reversed=self.is_reversed,
        )


COLUMNS = tuple(column.name for column in fields(TruthRow))
"""Of our own form, in the order they are written in."""

VSC_COLUMNS = ("query_id", "ref_id", "query_start", "query_end", "ref_start", "ref_end")
"""Of the form of the Video Similarity Challenge."""

_OPTIONAL = ("is_reversed",)
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


def read_truth(path: Path) -> list[TruthRow]:
    """Read a table of truths; which form it has is told by its header.

    Our own form has the columns of :class:`TruthRow`, of which ``is_reversed`` may be missing. The form of
    VSC2022 has ``query_id, ref_id, query_start, query_end, ref_start, ref_end``; a reference is one video
    there, so it gives both the program and the asset. The order of columns is free, and others are ignored.

    Args:
        path: A CSV file in UTF-8.

    Returns:
        The rows, in the file's order.

    Raises:
        InputError: The file cannot be read, its header is of neither form, or a row is broken; the message
            names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            parse = _parser(path, [name.strip() for name in reader.fieldnames or ()])
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            return [_parsed(parse, row, path, reader.line_num) for row in reader]
    except OSError as error:
        raise InputError(f"cannot read the truth {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {error}") from error


def write_truth(path: Path, rows: Iterable[TruthRow]) -> None:
    """Write rows in our own form, with as many digits as it takes to read the same numbers back.

    Args:
        path: Replaced in one step if it is there; its folder must exist.
        rows: In the order that they are to stand in.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    part.replace(path)


def _cell(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(float(value))


_Parser = Callable[[Mapping[str, str]], TruthRow]


def _parser(path: Path, header: list[str]) -> _Parser:
    """The reader of rows for this header."""
    if len(set(header)) < len(header):
        raise InputError(f"{path}: a column stands twice in the header: {', '.join(header)}")
    needed = [name for name in COLUMNS if name not in _OPTIONAL]
    if set(VSC_COLUMNS) <= set(header):
        return _from_vsc
    if set(needed) <= set(header):
        return _from_own
    is_vsc = "query_id" in header or "ref_id" in header
    missing = [name for name in (VSC_COLUMNS if is_vsc else needed) if name not in header]
    raise InputError(
        f"{path}: the header lacks {', '.join(missing)}; wanted are either {', '.join(needed)}"
        f" or {', '.join(VSC_COLUMNS)}, got {', '.join(header) or 'nothing'}"
    )


def _parsed(parse: _Parser, row: Mapping[str | None, object], path: Path, line: int) -> TruthRow:
    if None in row or None in row.values():
        raise InputError(f"{path}, line {line}: the row has not as many cells as the header")
    try:
        return parse({str(name): str(cell).strip() for name, cell in row.items()})
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {error}") from error


def _from_own(row: Mapping[str, str]) -> TruthRow:
    word = row.get("is_reversed", "")
    if word.lower() not in _BOOLEANS:
        raise ValueError(f"is_reversed must be true or false, got {word!r}")
    return TruthRow(
        row["clip_id"], row["program_id"], row["asset_id"],
        _seconds(row, "clip_start_seconds"), _seconds(row, "clip_end_seconds"),
        _seconds(row, "asset_start_seconds"), _seconds(row, "asset_end_seconds"),
        _BOOLEANS[word.lower()],
    )  # fmt: skip


def _from_vsc(row: Mapping[str, str]) -> TruthRow:
    return TruthRow(
        row["query_id"], row["ref_id"], row["ref_id"],
        _seconds(row, "query_start"), _seconds(row, "query_end"),
        _seconds(row, "ref_start"), _seconds(row, "ref_end"),
    )  # fmt: skip


def _seconds(row: Mapping[str, str], name: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds, got {row[name]!r}") from None
