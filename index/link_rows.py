"""Links as rows of Arrow: what a clip was answered, what the answer rests on, and what it was before.

All of it is one row, so that one commit changes a link together with its basis and its history: after a
crash there is the old row or the new one.

Shape letters: ``n`` clips, ``r`` descriptors of one clip, ``m`` programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.rows import LinkBasis, LinkRecord, now_utc

#: What a list of links shows; the rest is for re-linking.
PLAIN = ("clip_id", "decision", "program_id", "confidence", "catalog_version", "answer", "linked_at")
_BASIS = ("epoch", "known", "night", "reviews", "kept_at", "numbers", "bars")


def schema(key: pa.Field) -> pa.Schema:
    """The table ``links``; ``key`` is its column ``clip_id``."""
    text = pa.string()
    return pa.schema(
        [
            key,
            ("decision", text),
            ("program_id", text),
            ("confidence", pa.float64()),
            pa.field("catalog_version", pa.int64(), nullable=False),
            ("linked_at", text),
            ("answer", text),
            # The basis; "" of the epoch where an earlier version linked, and there is none.
            ("epoch", text),
            pa.field("known", pa.int64(), nullable=False),
            pa.field("night", pa.int64(), nullable=False),
            pa.field("reviews", pa.int64(), nullable=False),
            ("kept_at", text),
            # (m,) int64 and (r,) float16, little-endian.
            ("numbers", pa.large_binary()),
            ("bars", pa.large_binary()),
            # JSON [{…}, …], the oldest first.
            ("history", text),
        ]
    )


def to_row(link: LinkRecord) -> dict[str, Any]:
    """The row of a link, dated now where it has no date."""
    row: dict[str, Any] = {name: getattr(link, name) for name in PLAIN}
    row["linked_at"] = link.linked_at or now_utc()
    basis = link.basis or LinkBasis()
    row |= {name: getattr(basis, name) for name in ("epoch", "known", "night", "reviews", "kept_at")}
    row["numbers"] = basis.numbers.astype("<i8").tobytes()
    row["bars"] = rounded_down(basis.bars).tobytes()
    row["history"] = json.dumps(link.history) if link.history else ""
    return row


def rounded_down(bars: NDArray[np.floating]) -> NDArray[np.float16]:
    """To float16, never up: a neighbour that reaches a bar must reach it as it is stored."""
    half = bars.astype("<f2")
    return np.where(half.astype(np.float64) > bars, np.nextafter(half, np.float16(-np.inf)), half).astype(
        "<f2"
    )


def plain_link(row: dict[str, Any]) -> LinkRecord:
    """A link as lists show it: without basis and history."""
    return LinkRecord(**{name: row[name] for name in PLAIN})


def whole_link(row: dict[str, Any]) -> LinkRecord:
    """A link with its history, and its basis where it has one."""
    history = tuple(json.loads(row.get("history") or "[]"))
    basis = None
    if row.get("epoch"):
        basis = LinkBasis(
            epoch=row["epoch"], known=row["known"], night=row["night"], reviews=row["reviews"],
            kept_at=row["kept_at"], numbers=np.frombuffer(row["numbers"], "<i8").astype(np.int64),
            bars=np.frombuffer(row["bars"], "<f2").astype(np.float32),
        )  # fmt: skip
    return LinkRecord(**{name: row[name] for name in PLAIN}, basis=basis, history=history)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Lists of numbers, one after the other.

    Attributes:
        values: Of all.
        starts: (n + 1,) where each begins, and the end.
    """

    values: NDArray[Any]
    starts: NDArray[np.int64]

    def of(self, i: int) -> NDArray[Any]:
        """The ``i``-th list."""
        return self.values[self.starts[i] : self.starts[i + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Some of the lists, in the order asked for."""
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(self.starts[rows] - starts[:-1], sizes) + np.arange(int(starts[-1]))
        return Ragged(self.values[places], starts)


def joined(parts: Sequence[Ragged], dtype: Any) -> Ragged:
    """Several after one another."""
    values = np.concatenate([np.zeros(0, dtype), *(part.values for part in parts)])
    sizes = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.starts) for part in parts)])
    return Ragged(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def ragged(column: pa.Array, dtype: str) -> Ragged:
    """A column of ``large_binary``, each a list of numbers, without a copy; null is an empty list."""
    size = np.dtype(dtype).itemsize
    if len(column) == 0:
        return Ragged(np.zeros(0, dtype), np.zeros(1, np.int64))
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64, len(column) + 1, column.offset * 8)
    content = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.zeros(0, np.uint8)
    # Null values take no room where Arrow is written by Lance or pyarrow; none is left where they might.
    return Ragged(content.view(dtype), (ends - ends[0]) // size)


@dataclass(frozen=True, eq=False)
class LinkBases:
    """What the links of many clips rest on, by column.

    Attributes:
        clip_ids: Of each clip.
        decisions: Likewise.
        epochs: Likewise; "" where there is no basis.
        kept_at: Likewise.
        known: (n,) int64.
        night: (n,) int64.
        reviews: (n,) int64.
        numbers: Of each clip (m,) int64.
        bars: Of each clip (r,) float16.
    """

    clip_ids: list[str]
    decisions: list[str]
    epochs: list[str]
    kept_at: list[str]
    known: NDArray[np.int64]
    night: NDArray[np.int64]
    reviews: NDArray[np.int64]
    numbers: Ragged
    bars: Ragged

    def __len__(self) -> int:
        return len(self.clip_ids)

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> LinkBases:
        """Collect the columns of :data:`BASIS_COLUMNS`."""
        texts: dict[str, list[str]] = {name: [] for name in ("clip_id", "decision", "epoch", "kept_at")}
        whole: dict[str, list[NDArray[np.int64]]] = {name: [] for name in ("known", "night", "reviews")}
        numbers, bars = [], []
        for batch in batches:
            for name, values in texts.items():
                is_one_of_few = name in ("decision", "epoch")
                values.extend(_few_words(batch[name]) if is_one_of_few else _words(batch[name]))
            for name, parts in whole.items():
                parts.append(batch[name].to_numpy(zero_copy_only=False).astype(np.int64))
            # Copies: a batch must not be kept for the sake of two columns.
            numbers.append(_copied(ragged(batch["numbers"], "<i8")))
            bars.append(_copied(ragged(batch["bars"], "<f2")))
        known, night, reviews = (
            np.concatenate([np.zeros(0, np.int64), *whole[name]]) for name in ("known", "night", "reviews")
        )
        return cls(
            texts["clip_id"], texts["decision"], texts["epoch"], texts["kept_at"], known, night, reviews,
            joined(numbers, "<i8"), joined(bars, "<f2"),
        )  # fmt: skip


def _words(column: pa.Array) -> list[str]:
    """A column of text; null is ""."""
    texts: list[str] = column.fill_null("").to_pylist()
    return texts


def _few_words(column: pa.Array) -> list[str]:
    """The same of few words and many rows: one object for each word.

    By way of numpy: pyarrow's ``to_pylist`` of a dictionary takes twenty times as long as that of a text.
    """
    coded = column.fill_null("").dictionary_encode()
    texts: list[str] = np.array(coded.dictionary.to_pylist(), object)[coded.indices.to_numpy()].tolist()
    return texts


BASIS_COLUMNS = ("clip_id", "decision", *_BASIS)


def _copied(part: Ragged) -> Ragged:
    return Ragged(part.values.copy(), part.starts)
