"""Stretches of programs, a vector each: what stands in memory where the frames do not.

A stretch is consecutive frames of one asset: a shot, or a piece of one that is too long. Its vector is the
mean of its frames' at unit length. Where to cut is told by the descriptors alone: at the joins where
neighbours are least alike, as many of an asset's joins as a share says, so that what memory holds is known
beforehand, whatever model made the descriptors. Cuts every so many seconds find less at the same memory: a
mean over several shots resembles none of them.

Shape letters: ``n`` frames, ``ns`` stretches, ``d`` dimensions.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.base import Ids, Vectors
from index.errors import CatalogError
from index.half import widened
from index.live import LiveIndex
from index.rows import ORDINAL_BITS, AssetRecord, Kind, ProgramRecord, count_of, id_range
from index.selectors import Range
from index.serving import EnginePlan
from index.snapshot import Snapshot, SnapshotError, cache_folder
from index.state import State, check_assets, first_ids, keys_of
from index.view import CatalogView, LiveView

if TYPE_CHECKING:
    from index.catalog import Catalog, FrameReader

#: Frames of a page, and of all that are held.
PAGE_FRAMES, PAGES_FRAMES = 128, 1 << 16
_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Cut:
    """Where assets are cut into stretches.

    Attributes:
        share: Of the joins between neighbouring frames of an asset, so many are cut at most for being those
            where neighbours are least alike; 0 cuts by time alone. At one frame a second 0.2 makes a
            stretch of each shot of usual films; memory holds this share of the frames' vectors, and a
            little more for what is too long.
        longest_seconds: A stretch that lasts longer is cut into pieces of this length.
    """

    share: float = 0.2
    longest_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise ValueError(f"share must be at least 0 and below 1, got {self.share}")
        if not self.longest_seconds > 0.0:
            raise ValueError(f"longest_seconds must be above 0, got {self.longest_seconds}")

    def fingerprint(self, model: str) -> str:
        """What names stretches that are cut so, of the descriptors of a model of this fingerprint."""
        return f"{model} in stretches, {self.share} {self.longest_seconds}"


def stretch_starts(t_seconds: NDArray[np.float64], vectors: Vectors, cut: Cut) -> NDArray[np.int64]:
    """Which frames of one asset begin a stretch.

    Args:
        t_seconds: (n,) strictly increasing.
        vectors: (n, d) in the same order.
        cut: Where to cut.

    Returns:
        (ns,) rows, ascending, the first of them 0; empty for no frames.
    """
    n = t_seconds.size
    if n == 0:
        return _NOTHING
    begins = np.zeros(n, dtype=np.bool_)
    begins[0] = True
    most = int(cut.share * (n - 1))
    if most:
        alike = np.einsum("nd,nd->n", vectors[1:], vectors[:-1])
        # Strictly below: of a picture that stands still, no join is less alike than the others.
        begins[1:] = alike < np.partition(alike, most)[most]
    shot = np.cumsum(begins) - 1
    piece = ((t_seconds - t_seconds[begins][shot]) // cut.longest_seconds).astype(np.int64)
    begins[1:] |= np.diff(piece) != 0
    return np.flatnonzero(begins)


def stretch_vectors(vectors: Vectors, starts: NDArray[np.int64]) -> NDArray[np.float16]:
    """(ns, d) the mean of each stretch's frames at unit length; zeros where they cancel out.

    Args:
        vectors: (n, d) of one asset.
        starts: (ns,) as :func:`stretch_starts` gives them.
    """
    if starts.size == 0:
        return np.zeros((0, vectors.shape[1]), dtype=np.float16)
    sums = np.add.reduceat(vectors, starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(lengths > 0, lengths, 1)).astype(np.float16)


class Pages:
    """The runs of frames last read, in memory: a clip is aligned with the same places over and over.

    An id never means two frames, so what is held stays right whatever is added or replaced.

    Args:
        max_frames: So many are held, and those used longest ago go first.
    """

    def __init__(self, max_frames: int = PAGES_FRAMES) -> None:
        self._most = max(1, max_frames // PAGE_FRAMES)
        self._pages: OrderedDict[int, tuple[Ids, NDArray[np.float16]]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, reader: FrameReader, first_id: int, stop_id: int) -> tuple[Ids, NDArray[np.float16]]:
        """As :meth:`index.catalog.FrameReader.read` of one range, read by whole pages where it is not held.

        Raises:
            CatalogError: As there.
        """
        wanted = range(first_id // PAGE_FRAMES, -(-stop_id // PAGE_FRAMES))
        with self._lock:
            have = {page: self._pages[page] for page in wanted if page in self._pages}
        have |= _read_pages(reader, [page for page in wanted if page not in have])
        with self._lock:
            for page in wanted:
                self._pages[page] = have[page]
                self._pages.move_to_end(page)
            while len(self._pages) > self._most:
                self._pages.popitem(last=False)
        ids = np.concatenate([have[page][0] for page in wanted])
        vectors = np.concatenate([have[page][1] for page in wanted])
        rows = slice(*np.searchsorted(ids, [first_id, stop_id]).tolist())
        return ids[rows], vectors[rows]


def _read_pages(reader: FrameReader, pages: Sequence[int]) -> dict[int, tuple[Ids, NDArray[np.float16]]]:
    """Ids and vectors of ascending pages."""
    if not pages:
        return {}
    ranges = runs_of(np.array(pages, dtype=np.int64))
    ids, vectors = reader.read([(start * PAGE_FRAMES, stop * PAGE_FRAMES) for start, stop in ranges])
    stops = np.searchsorted(ids, (np.array(pages) + 1) * PAGE_FRAMES).tolist()
    rows = [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
    # Copies: a part of an array would keep all of it.
    return {page: (ids[own].copy(), vectors[own].copy()) for page, own in zip(pages, rows, strict=True)}


@dataclass(frozen=True, eq=False)
class StoredView(CatalogView):
    """A state of the catalog whose vectors are read from the tables when they are asked for.

    Rows run through the assets in order, without gaps.

    Attributes:
        reader: Of the moment shown; None of a state without any frames.
        pages: What it has read of late.
        dimensions: Of a vector.
    """

    reader: FrameReader | None
    pages: Pages
    dimensions: int

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return self.dimensions

    def vectors_at(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(m, d) float16 of any rows.

        Raises:
            CatalogError: The table is damaged, or a compaction dropped the moment shown.
        """
        asset = np.searchsorted(self.first_row, rows, side="right") - 1
        wanted, where = np.unique(self.first_id[asset] + rows - self.first_row[asset], return_inverse=True)
        return self.read(runs_of(wanted))[where]

    def _vectors(self, rows: slice) -> Vectors:
        if self.reader is None or rows.stop <= rows.start:
            return np.zeros((0, self.d), dtype=np.float32)
        asset = int(np.searchsorted(self.first_row, rows.start, side="right")) - 1
        first = int(self.first_id[asset] - self.first_row[asset]) + rows.start
        stop = first + rows.stop - rows.start
        found = self.pages.read(self.reader, first, stop)
        return widened(_all_of([(first, stop)], *found))

    def read(self, ranges: Sequence[tuple[int, int]]) -> NDArray[np.float16]:
        """(m, d) vectors of ascending half-open ranges of ids, all of which this state shows.

        Raises:
            CatalogError: A frame is missing or double, or as :meth:`index.catalog.FrameReader.read`.
        """
        if self.reader is None or not ranges:
            return np.zeros((0, self.d), dtype=np.float16)
        return _all_of(ranges, *self.reader.read(ranges))


def _all_of(ranges: Sequence[tuple[int, int]], ids: Ids, vectors: NDArray[np.float16]) -> NDArray[np.float16]:
    """The vectors that were read, if they are of all ids of the ranges."""
    wanted = ids_of(ranges)
    if not np.array_equal(ids, wanted):
        raise CatalogError(
            f"the tables hold {ids.size} of {wanted.size} frames that were asked for. Refresh, and if that "
            "does not help, add their programs again."
        )
    return vectors


def runs_of(ids: Ids) -> list[tuple[int, int]]:
    """Ascending, distinct ids as half-open ranges, as few as there can be."""
    if ids.size == 0:
        return []
    ends = np.flatnonzero(np.diff(ids) != 1)
    starts = ids[np.concatenate([[0], ends + 1])]
    stops = ids[np.concatenate([ends, [ids.size - 1]])] + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def ids_of(ranges: Sequence[tuple[int, int]]) -> Ids:
    """All ids of half-open ranges, in their order."""
    return ids_between(*np.array(ranges, dtype=np.int64).reshape(-1, 2).T)


def ids_between(first_id: Ids, stop_id: Ids) -> Ids:
    """As :func:`ids_of`, of ranges given as two arrays (m,)."""
    sizes = stop_id - first_id
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ids: Ids = np.repeat(first_id, sizes) + within
    return ids


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the stretches of one state lie; rows by ascending key.

    Attributes:
        frames: The frames of that state.
        keys: (ns,) ids of the stretches.
        first_id: (ns,) id of each one's first frame.
        stop_id: (ns,) id after its last one.
    """

    frames: StoredView
    keys: Ids
    first_id: Ids
    stop_id: Ids

    @classmethod
    def of(cls, stretches: LiveView, frames: StoredView) -> _Places:
        """Of a state by stretches and by frames, whose assets are the same."""
        keys, rows = stretches.live_rows()
        asset = np.repeat(np.arange(len(stretches.assets)), stretches.frame_count)
        first = frames.first_id[asset] + stretches.row_seconds[rows].astype(np.int64)
        stop = np.append(first[1:], 0)
        is_last = np.append(np.diff(asset) != 0, True)[: asset.size]
        ends = (frames.first_id + frames.frame_count)[asset]
        return cls(frames, keys, first, np.where(is_last, ends, stop[: asset.size]))

    def cover_all(self) -> bool:
        """Whether every frame is in one stretch."""
        lengths = self.stop_id - self.first_id
        return bool((lengths > 0).all()) and int(lengths.sum()) == self.frames.ntotal


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches that were found.

    Attributes:
        first_id: (nq, k) id of each one's first frame, best first; 0 where there is none.
        stop_id: (nq, k) id after its last one; ``first_id`` where there is none.
        frames: The state of the catalog that they are of.
    """

    first_id: Ids
    stop_id: Ids
    frames: StoredView


class StretchIndex(LiveIndex):
    """A :class:`index.live.LiveIndex` of stretches in place of frames.

    Its rows, ids, snapshot and FAISS index are of stretches: what ``frame_count`` says of an asset is how
    many stretches it has, ids are ``number << 24 | stretch``, and a row's "seconds" are the place of its
    first frame among the asset's, from 0. :attr:`frames` has the frames of the same state.
    """

    def __init__(self, catalog: Catalog, plan: EnginePlan, table: Kind, cut: Cut | None = None) -> None:
        super().__init__(catalog, plan, table)
        self._cut = cut = cut or Cut()
        # A snapshot of stretches cut otherwise is as another model's, and lies elsewhere.
        words = cut.fingerprint(self._model.fingerprint)
        self._model = replace(self._model, fingerprint=words)
        self._cache = cache_folder(catalog.place.cache_root(), words)
        #: How many stretches an asset has, of the snapshot and of what was read since.
        self._counts: dict[tuple[int, int], int] = {}
        self._pages = Pages()
        #: By version, the frames of the state shown, of none, and of one that is being read.
        self._frames = {self._view.version: self._no_frames()}
        self._places = _Places.of(self._view, self.frames)

    @classmethod
    def opened(cls, catalog: Catalog, plan: EnginePlan | None, table: Kind, cut: Cut | None) -> StretchIndex:
        """As :meth:`index.live.LiveIndex.open`, of stretches that are cut so."""
        index = cls(catalog, plan or EnginePlan(), table, cut)
        index._start(index._load_snapshot())
        return index

    @property
    def frames(self) -> StoredView:
        """The frames of the state of the last refresh."""
        while True:
            frames = self._frames.get(self._view.version)
            if frames is not None:
                return frames  # else a refresh came between the two looks

    def find(self, xq: Vectors, k: int, within: Sequence[Range] | None = None) -> Stretches:
        """The k nearest stretches of each row of ``xq`` (nq, d), or all where there are fewer.

        Args:
            xq: (nq, d).
            k: Stretches.
            within: Only those of these half-open ranges of their ids; None for all.

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        while True:
            found, view = self._search(xq, max(1, min(k, self.ntotal)), within)
            frames = self._frames.get(view.version)
            if frames is not None:
                break  # else two refreshes came between
        keys, places = found.ids, self._places
        if places.frames is not frames:
            self._places = places = _Places.of(view, frames)
        if places.keys.size == 0:
            return Stretches(np.zeros_like(keys), np.zeros_like(keys), places.frames)
        row = np.searchsorted(places.keys, np.maximum(keys, places.keys[0]))
        there = keys >= 0
        first = np.where(there, places.first_id[row], 0)
        return Stretches(first, np.where(there, places.stop_id[row], 0), places.frames)

    def reopen(self) -> None:
        """Refresh, and read frames from the tables as they are now, even if they show the same programs.

        Raises:
            CatalogError: The tables are damaged; the former state is still shown.
        """
        with self._changing:
            self.refresh()
            self._renew_reader()

    def refresh(self) -> bool:
        """As :meth:`index.live.LiveIndex.refresh`; frames are read from the tables as they are now.

        A compaction changes no program, but drops the moment that was read.
        """
        with self._changing:
            changed = super().refresh()
            reader = self.frames.reader
            if reader is not None and reader.version != self._catalog.version_of(self._table):
                self._renew_reader()
            return changed

    def _renew_reader(self) -> None:
        frames = self.frames
        if frames.reader is not None:
            self._frames[frames.version] = replace(frames, reader=self._catalog.reader(self._table))

    # ------------------------------------------------------------ inside: starting

    @property
    def _frames_view(self) -> CatalogView:
        return self.frames

    def _no_frames(self) -> StoredView:
        nothing, none = self._empty_view(), np.zeros(0, dtype=np.int64)
        return StoredView(
            version=nothing.version,
            program_records=(),
            assets=(),
            program_position=nothing.program_position,
            first_id=none,
            first_row=none,
            frame_count=none,
            row_seconds=nothing.row_seconds,
            reader=None,
            pages=self._pages,
            dimensions=self._model.d,
        )

    def _view_on(self, snapshot: Snapshot) -> LiveView:
        self._counts = {(number, ordinal): count for number, ordinal, count in snapshot.assets.tolist()}
        try:
            view = super()._view_on(snapshot)
        except KeyError as error:  # an asset of the tables that the snapshot lacks
            raise SnapshotError(f"snapshot {snapshot.folder.name}: no stretches of {error}") from error
        if not _Places.of(view, self._frames[view.version]).cover_all():
            raise SnapshotError(
                f"snapshot {snapshot.folder.name}: its stretches are not of the tables' frames"
            )
        return view

    # ------------------------------------------------------------ inside: the tables

    def _read_tables(self, version: int, held: set[int]) -> State:
        """Stretches of the numbers not ``held``, read program by program, and the times of all frames."""
        programs, assets = self._catalog.programs(), self._catalog.assets()
        check_assets(programs, assets, self._table)
        reader = self._catalog.reader(self._table)
        new = [asset for asset in assets if asset.number not in held]
        seconds = self._known_seconds([asset for asset in assets if asset.number in held])
        starts: dict[tuple[int, int], NDArray[np.float64]] = {}
        vectors: dict[tuple[int, int], NDArray[np.float16]] = {}
        for asset, t_seconds, frames in iter_assets(self._catalog, new, self._table, self._model.d):
            key = asset.number, asset.ordinal
            first = stretch_starts(t_seconds, frames, self._cut)
            seconds[key], starts[key] = t_seconds, first.astype(np.float64)
            vectors[key] = stretch_vectors(frames, first)
        self._counts |= {key: first.size for key, first in starts.items()}
        for gone in self._frames.keys() - {-1, self._view.version}:
            del self._frames[gone]
        self._frames[version] = _stored_view(
            version, programs, assets, seconds, reader, self._pages, self._model.d, self._table
        )
        counted = [_with_count(asset, self._counts[asset.number, asset.ordinal]) for asset in assets]
        none = np.zeros((0, self._model.d), dtype=np.float16)
        return State(
            self._table,
            version,
            tuple(programs),
            tuple(counted),
            tuple(asset for asset in counted if asset.number not in held),
            np.concatenate([np.zeros(0), *(starts[asset.number, asset.ordinal] for asset in new)]),
            np.concatenate([none, *(vectors[asset.number, asset.ordinal] for asset in new)]),
        )

    def _known_seconds(self, assets: Sequence[AssetRecord]) -> dict[tuple[int, int], NDArray[np.float64]]:
        """Times of the frames of assets whose stretches are held: from the state shown, or else read."""
        shown = self.frames
        rows = zip(shown.assets, shown.first_row.tolist(), shown.frame_count.tolist(), strict=True)
        have = {
            (asset.number, asset.ordinal): shown.row_seconds[row : row + count] for asset, row, count in rows
        }
        lacking = [asset for asset in assets if (asset.number, asset.ordinal) not in have]
        return have | _read_seconds(self._catalog, lacking, self._table)

    # ------------------------------------------------------------ inside: verifying

    def _verify_tables_by_value(self, numbers: Sequence[int]) -> list[str]:
        """Whether the frames of these programs have the times shown, and make the stretches held."""
        stretches, frames = self._view, self.frames
        position = {(asset.number, asset.ordinal): i for i, asset in enumerate(frames.assets)}
        wrong: dict[str, int] = {}
        wanted = set(numbers)
        some = [asset for asset in frames.assets if asset.number in wanted]
        for asset, t_seconds, vectors in iter_assets(self._catalog, some, self._table, self._model.d):
            i = position[asset.number, asset.ordinal]
            row, first_row = int(frames.first_row[i]), int(stretches.first_row[i])
            first = stretch_starts(t_seconds, vectors, self._cut)
            held = slice(first_row, first_row + int(stretches.frame_count[i]))
            same = (
                np.array_equal(t_seconds, frames.row_seconds[row : row + t_seconds.size])
                and np.array_equal(first, stretches.row_seconds[held])
                and np.array_equal(
                    stretch_vectors(vectors, first), stretches.vectors_at(np.arange(held.start, held.stop))
                )
            )
            if not same:
                wrong[asset.program_id] = wrong.get(asset.program_id, 0) + 1
        return [
            f"program {name!r}: {n} assets whose {self._table} differ from the tables"
            for name, n in wrong.items()
        ]


# ---------------------------------------------------------------- functions of the above


def stored_view(catalog: Catalog, table: Kind) -> StoredView:
    """What a catalog shows now, its vectors left in the tables.

    Raises:
        CatalogError: The tables are damaged.
        ValueError: Sounds are asked for and the store holds none.
    """
    model = catalog.model_of(table)
    if model is None:
        raise ValueError(f"the store {catalog.place} holds no sounds: Writer.use_sound was never called")
    programs, assets = catalog.programs(), catalog.assets()
    check_assets(programs, assets, table)
    seconds = _read_seconds(catalog, assets, table)
    reader = catalog.reader(table)
    return _stored_view(catalog.version(), programs, assets, seconds, reader, Pages(), model.d, table)


def _stored_view(
    version: int,
    programs: Sequence[ProgramRecord],
    assets: Sequence[AssetRecord],
    seconds: Mapping[tuple[int, int], NDArray[np.float64]],
    reader: FrameReader,
    pages: Pages,
    d: int,
    table: Kind,
) -> StoredView:
    """The view of one state, given the times of each asset's frames."""
    position = {record.number: i for i, record in enumerate(programs)}
    keys = keys_of(assets, table)
    return StoredView(
        version=version,
        program_records=tuple(programs),
        assets=tuple(assets),
        program_position=np.array([position[asset.number] for asset in assets], dtype=np.int32),
        first_id=first_ids(keys),
        first_row=np.cumsum(keys[:, 2]) - keys[:, 2],
        frame_count=keys[:, 2],
        row_seconds=np.concatenate(
            [np.zeros(0), *(seconds[asset.number, asset.ordinal] for asset in assets)]
        ),
        reader=reader,
        pages=pages,
        dimensions=d,
    )


def _with_count(asset: AssetRecord, stretches: int) -> AssetRecord:
    """The same asset as an index of stretches counts it, whichever table it is of."""
    return replace(asset, frame_count=stretches, sound_count=stretches)


def iter_assets(
    catalog: Catalog, assets: Sequence[AssetRecord], table: Kind, d: int
) -> Iterator[tuple[AssetRecord, NDArray[np.float64], Vectors]]:
    """Stream whole programs, given by all their assets: each asset's (n,) seconds and (n, d) float32.

    One pass over the table. Memory holds the programs whose rows have begun and not ended: one, as a
    program's rows are written together.

    Raises:
        CatalogError: A frame is missing, or there is one too many.
    """
    of_number: dict[int, list[AssetRecord]] = {}
    for asset in assets:
        of_number.setdefault(asset.number, []).append(asset)
    lacking = {number: sum(count_of(a, table) for a in own) for number, own in of_number.items()}
    begun: dict[int, list[tuple[Ids, NDArray[np.float64], NDArray[np.float16]]]] = {}
    for batch in catalog.iter_frames(of_number, kind=table):
        numbers = batch.ids >> ORDINAL_BITS
        for number in np.unique(numbers).tolist():
            own = numbers == number
            rows = batch.ids[own], batch.t_seconds[own], batch.vectors[own]
            begun.setdefault(number, []).append(rows)
            lacking[number] -= rows[0].size
            if lacking[number] <= 0:
                yield from _assets_of(of_number[number], begun.pop(number), table)
    for number, left in lacking.items():
        if left:
            raise _damaged(table, of_number[number][0].program_id)
        if not any(count_of(asset, table) for asset in of_number[number]):
            for asset in of_number[number]:
                yield asset, np.zeros(0), np.zeros((0, d), np.float32)


def _assets_of(
    assets: Sequence[AssetRecord],
    parts: Sequence[tuple[Ids, NDArray[np.float64], NDArray[np.float16]]],
    table: Kind,
) -> Iterator[tuple[AssetRecord, NDArray[np.float64], Vectors]]:
    """The rows of one program by asset."""
    ids, t_seconds, vectors = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    counts = [count_of(asset, table) for asset in assets]
    first = id_range(assets[0].number)[0]
    order = np.argsort(ids)
    if not np.array_equal(ids[order], np.arange(first, first + sum(counts))):
        raise _damaged(table, assets[0].program_id)
    row = 0
    for asset, count in zip(assets, counts, strict=True):
        rows = order[row : row + count]
        row += count
        yield asset, t_seconds[rows], widened(vectors[rows])


def _read_seconds(
    catalog: Catalog, assets: Sequence[AssetRecord], table: Kind
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Times of all frames of some assets, in order.

    Raises:
        CatalogError: A frame is missing, or there is one too many.
    """
    if not assets:
        return {}
    parts = list(catalog.iter_times({asset.number for asset in assets}, kind=table))
    ids = np.concatenate([np.zeros(0, np.int64), *(ids for ids, _ in parts)])
    seconds = np.concatenate([np.zeros(0), *(seconds for _, seconds in parts)])
    order = np.argsort(ids)
    keys = keys_of(assets, table)
    first = first_ids(keys)
    ids, seconds = ids[order], seconds[order]
    if not np.array_equal(ids, ids_between(first, first + keys[:, 2])):
        counts = np.searchsorted(ids, first + keys[:, 2]) - np.searchsorted(ids, first)
        wrong = np.flatnonzero(counts != keys[:, 2])
        raise _damaged(table, assets[int(wrong[0])].program_id if wrong.size else "?")
    stops = np.cumsum(keys[:, 2])
    return {
        (asset.number, asset.ordinal): seconds[stop - count : stop]
        for asset, stop, count in zip(assets, stops.tolist(), keys[:, 2].tolist(), strict=True)
    }


def _damaged(table: Kind, program_id: str) -> CatalogError:
    return CatalogError(
        f"the table {table} is damaged: {table} of program {program_id!r} are missing, double or too many. "
        "Add the program again."
    )
