"""The tables of a run's folder: which clips were asked for and what was answered, as Parquet files.

A run's folder holds ``clips.parquet``, ``truth.csv`` (:mod:`eval.ground_truth`), ``answers.parquet`` and
``figures.json`` (:mod:`eval.figures`); from these four the report is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.judging import ClipInfo, PublicAnswer
from matcher.errors import InputError

CLIPS = "clips.parquet"
TRUTH = "truth.csv"
ANSWERS = "answers.parquet"
FIGURES = "figures.json"
REPORT = "report.html"

_CLIP_FIELDS = [
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("group", pa.string(), nullable=False),
    pa.field("is_known", pa.bool_(), nullable=False),
    pa.field("level", pa.string(), nullable=False),
    pa.field("kinds", pa.string(), nullable=False),
]
_ANSWER_FIELDS = [
    pa.field("decision", pa.string(), nullable=False),
    pa.field("program_id", pa.string()),
    pa.field("confidence", pa.float64(), nullable=False),
    pa.field("seconds", pa.float64()),
    pa.field("passes", pa.int32()),
    pa.field("answer", pa.string(), nullable=False),
]


def save_clips(path: Path, clips: Iterable[ClipInfo]) -> None:
    """Write ``clips.parquet``, in one step.

    Args:
        path: The file; its folder must exist.
        clips: In the order that they are to stand in.
    """
    _write(path, [_clip_cells(clip) for clip in clips], _CLIP_FIELDS)


def load_clips(path: Path) -> list[ClipInfo]:
    """Read what :func:`save_clips` wrote.

    Args:
        path: The file.

    Returns:
        The clips in the file's order.

    Raises:
        InputError: The file cannot be read, or is no such table.
    """
    return [_clip(row) for row in _read(path, _CLIP_FIELDS)]


def save_answers(path: Path, clips: Sequence[ClipInfo], answers: Sequence[PublicAnswer]) -> None:
    """Write ``answers.parquet``, in one step: each answer with its clip's columns, so that it reads alone.

    Args:
        path: The file; its folder must exist.
        clips: Those of the answers; others may be among them.
        answers: Public objects, of which ``seconds`` and ``passes`` get columns where they are present.

    Raises:
        ValueError: An answer's clip is not among the clips.
    """
    by_id = {clip.clip_id: clip for clip in clips}
    strange = [answer["clip_id"] for answer in answers if answer["clip_id"] not in by_id]
    if strange:
        raise ValueError(f"answers to clips that were not asked: {strange[:3]}")
    rows = [
        _clip_cells(by_id[answer["clip_id"]])
        | {name: answer.get(name) for name in ("decision", "program_id", "confidence", "seconds", "passes")}
        | {"answer": json.dumps(answer, allow_nan=False)}
        for answer in answers
    ]
    _write(path, rows, _CLIP_FIELDS + _ANSWER_FIELDS)


def load_answers(path: Path) -> list[dict[str, Any]]:
    """Read the public objects back from what :func:`save_answers` wrote.

    Args:
        path: The file.

    Returns:
        In the file's order, with ``seconds`` and ``passes`` where they were present.

    Raises:
        InputError: The file cannot be read, or is no such table.
    """
    answers = []
    for row in _read(path, _CLIP_FIELDS + _ANSWER_FIELDS):
        timing = {name: row[name] for name in ("seconds", "passes") if row[name] is not None}
        answers.append(timing | json.loads(row["answer"]))
    return answers


def _clip_cells(clip: ClipInfo) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "group": clip.group,
        "is_known": clip.is_known,
        "level": clip.level,
        "kinds": "+".join(clip.kinds),
    }


def _clip(row: Mapping[str, Any]) -> ClipInfo:
    kinds = tuple(row["kinds"].split("+")) if row["kinds"] else ()
    return ClipInfo(row["clip_id"], row["group"], row["is_known"], kinds, row["level"])


def _write(path: Path, rows: list[dict[str, Any]], columns: list[pa.Field]) -> None:
    part = path.with_name(path.name + ".part")
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), part, compression="zstd")
    part.replace(path)


def _read(path: Path, columns: list[pa.Field]) -> list[dict[str, Any]]:
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there; it is written by `matcher eval link`") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a Parquet file: {error}") from error
    lacking = [column.name for column in columns if column.name not in table.column_names]
    if lacking:
        raise InputError(f"{path} is not a table of this run: it lacks {', '.join(lacking)}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
