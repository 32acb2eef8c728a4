"""Features of a store's clips, read as they are needed and never all at once.

Shape letters: ``N`` clips, ``B`` of them in a batch, ``T`` rows (frames, sound patches) of a clip, ``D``
dimensions of a modality, ``P``, ``Q`` and ``R`` those of picture, sound and text.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.errors import StoreError
from matcher.fusion.batch import ClipBatch
from matcher.fusion.features import ClipFeatures, ModalityState
from matcher.training.block_sampler import BLOCK, WINDOW
from matcher.training.packed_clips import PackedClips, Ragged


class FeatureReader(Protocol):
    """Features of N clips of a store as they were at one moment."""

    def __len__(self) -> int:
        """N."""
        ...

    def read(self, positions: NDArray[np.int64]) -> Any:
        """Rows of the table.

        Args:
            positions: Of clips, ascending and none twice.

        Returns:
            A ``pyarrow.Table`` or ``RecordBatch``, one row a position and in their order, with the columns
            ``picture``, ``sound`` and ``text``: binary, half-precision numbers row by row, null where nobody
            knows, empty where there is nothing; and ``sound_replaced``, whether it is known to be another's.
        """
        ...


#: What a reader must give.
COLUMNS = ("picture", "sound", "sound_replaced", "text")
#: Clips of one read, if as many are lacking: of 64 it takes twice as long a clip.
_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class _Piece:
    """Blocks that were read together.

    Attributes:
        numbers: Of the blocks, ascending.
        packed: Their clips, block after block; only the last block of all can be short.
    """

    numbers: NDArray[np.int64]
    packed: PackedClips


class StoreSource:
    """Clips of a store, for :class:`~matcher.training.fusion_data.Labelled`.

    Blocks of consecutive clips are read whole, those that a batch lacks together, and the last ones kept: a
    :class:`~matcher.training.block_sampler.BlockSampler` of the same block size draws from a window of them,
    so each is read once an epoch.

    Args:
        reader: Reads rows.
        dimensions: P, Q and R.
        block: Clips that are read at least.
        keep: Blocks to keep: two windows, as a batch may reach into the next one.
    """

    def __init__(
        self,
        reader: FeatureReader,
        dimensions: tuple[int, int, int],
        *,
        block: int = BLOCK,
        keep: int = 2 * WINDOW,
    ) -> None:
        self._reader, self._dimensions = reader, dimensions
        self._block, self._keep = block, keep
        self._piece_of: dict[int, _Piece] = {}
        #: By the number of their first block; what was used last is last.
        self._kept: OrderedDict[int, _Piece] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """P, Q and R."""
        return self._dimensions

    def read(self, rows: NDArray[np.int64]) -> list[ClipFeatures]:
        """The clips at ``rows`` (B,).

        Raises:
            StoreError: Stored features are not as they should be.
        """
        found: dict[int, ClipFeatures] = {}
        for packed, at, within in self._parts(rows):
            found.update(zip(at.tolist(), packed.read(within), strict=True))
        return [found[place] for place in range(len(rows))]

    def batch(self, rows: NDArray[np.int64]) -> ClipBatch:
        """The clips at ``rows`` (B,), padded to the longest.

        Raises:
            StoreError: Stored features are not as they should be.
        """
        parts = self._parts(rows)
        if len(parts) == 1:
            packed, _, within = parts[0]
            return packed.batch(within)
        if not parts:
            return PackedClips.of([], dimensions=self._dimensions, dtype=np.float16).batch(rows)
        return _laid_out([packed.batch(within) for packed, _, within in parts], [at for _, at, _ in parts])

    def _parts(
        self, rows: NDArray[np.int64]
    ) -> list[tuple[PackedClips, NDArray[np.int64], NDArray[np.int64]]]:
        """Clips read, which places of ``rows`` are among them, and where these lie."""
        numbers = rows // self._block
        parts = []
        for piece in self._pieces(np.unique(numbers).tolist()):
            at = np.flatnonzero(np.isin(numbers, piece.numbers))
            within = np.searchsorted(piece.numbers, numbers[at]) * self._block + rows[at] % self._block
            parts.append((piece.packed, at, within))
        return parts

    def _pieces(self, numbers: list[int]) -> list[_Piece]:
        """What holds these blocks (ascending)."""
        with self._lock:
            lacking = [number for number in numbers if number not in self._piece_of]
            many = max(1, _AT_ONCE // self._block)
            for start in range(0, len(lacking), many):
                piece = self._read(lacking[start : start + many])
                self._piece_of.update(dict.fromkeys(piece.numbers.tolist(), piece))
            found = list(dict.fromkeys(self._piece_of[number] for number in numbers))
            for piece in found:
                first = int(piece.numbers[0])
                self._kept[first] = piece
                self._kept.move_to_end(first)
            while len(self._piece_of) > self._keep:
                _, oldest = self._kept.popitem(last=False)
                for number in oldest.numbers.tolist():
                    del self._piece_of[number]
            return found

    def _read(self, numbers: list[int]) -> _Piece:
        blocks = np.array(numbers)
        positions = (blocks[:, None] * self._block + np.arange(self._block)).ravel()
        table = self._reader.read(positions[positions < len(self._reader)])
        return _Piece(blocks, packed_of(table, self._dimensions))


def packed_of(table: Any, dimensions: tuple[int, int, int]) -> PackedClips:
    """What :meth:`FeatureReader.read` gave, as arrays over the same memory.

    Raises:
        StoreError: A clip's bytes are no whole rows of these dimensions, or not finite.
    """
    picture, no_picture = _column(table, "picture", dimensions[0])
    sound, no_sound = _column(table, "sound", dimensions[1])
    words, no_text = _column(table, "text", dimensions[2])
    counts = np.diff(words.starts)
    if (counts > 1).any():
        raise StoreError(
            f"a clip's stored text has {counts.max()} x {dimensions[2]} numbers; describe the clips again"
        )
    text = np.zeros((len(counts), dimensions[2]), np.float16)
    text[counts == 1] = words.rows
    is_there = np.stack([np.diff(picture.starts) > 0, np.diff(sound.starts) > 0, text.any(axis=1)], axis=1)
    states = np.where(is_there, ModalityState.PRESENT, ModalityState.SILENT).astype(np.int64)
    states[np.stack([no_picture, no_sound, no_text], axis=1)] = ModalityState.MISSING
    replaced = table.column("sound_replaced").to_numpy(zero_copy_only=False).astype(bool)
    states[replaced & is_there[:, 1], 1] = ModalityState.REPLACED
    try:
        return PackedClips(picture, sound, text, states)
    except ValueError as error:
        raise StoreError(f"stored features: {error}; describe the clips again") from error


def _column(table: Any, name: str, d: int) -> tuple[Ragged, NDArray[np.bool_]]:
    """A column's rows, and which clips have null."""
    import pyarrow as pa

    column = table.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # of no chunk, or more than one array can hold
            column = pa.concat_arrays(column.chunks or [pa.array([], pa.large_binary())])
    is_null: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    filled = column.fill_null(b"").cast(pa.large_binary())
    _, offsets, data = filled.buffers()
    ends = np.frombuffer(offsets, np.int64)[filled.offset : filled.offset + len(filled) + 1]
    if (np.diff(ends) % (2 * d)).any():
        wrong = int(np.diff(ends)[np.flatnonzero(np.diff(ends) % (2 * d))[0]])
        raise StoreError(
            f"a clip's stored {name} has {wrong} bytes, which are no rows of {d} numbers: another encoder"
            " made them; describe the clips again"
        )
    raw = np.frombuffer(b"" if data is None else data, np.uint8)[ends[0] : ends[-1]]
    rows = np.frombuffer(raw, np.float16).reshape(-1, d)
    return Ragged(rows, (ends - ends[0]) // (2 * d)), is_null


def _laid_out(parts: list[ClipBatch], places: list[NDArray[np.int64]]) -> ClipBatch:
    """Batches of a few clips each as one, each clip at its place."""
    n = sum(len(part) for part in parts)

    def joined(name: str) -> torch.Tensor:
        found = [getattr(part, name).numpy() for part in parts]
        shape = (n, *(max(one.shape[axis] for one in found) for axis in range(1, found[0].ndim)))
        whole = np.zeros(shape, found[0].dtype)
        for at, one in zip(places, found, strict=True):
            if one.ndim > 1:
                whole[at, : one.shape[1]] = one
            else:
                whole[at] = one
        return torch.from_numpy(whole)

    names = ("picture", "picture_mask", "sound", "sound_mask", "text", "states")
    return ClipBatch(**{name: joined(name) for name in names})
