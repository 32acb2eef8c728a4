"""The truth: programs, assets, frames, sounds, clips and links in LanceDB; the only importer of ``lancedb``.

A store is one folder, or one prefix in object storage (index/places.py)::

    store.json     the format's number, written last when the store is made
    write.lock     held (flock, or a lease) by the one writer; says who
    tables/        one Lance table each
    cache/         what index/live.py keeps, of a folder; may be deleted at any time

A program becomes visible by one commit: the flip of its row in ``programs`` to a new *number*. Its
frames, sounds and assets carry that number and were committed before; a reader asks for the numbers
that ``programs`` shows and so never sees half. Whatever a killed writer leaves behind carries a
number that no row shows, and the next writer deletes it.

Ids are ``number << 24 | ordinal``. A number is never given twice, so no id ever means two frames.

Descriptors are of two kinds, each in a table of the same form with a model and ids of its own:
``frames``, and ``sounds``, which is made by :meth:`Writer.use_sound` and is not there before. A store
of an earlier version lacks that table and the columns that came since; it is read as if they were
empty, and the first writer adds the columns.

``embeddings`` has the form of those two and holds what a clip model makes of the programs' stretches. It
follows from the other tables, and so its model may change: :meth:`Writer.replace_embeddings` makes all of
it anew. ``features`` holds what a clip model takes, and gives, of each kept clip (index/feature_rows.py).

The names of programs are searched in a column of ``programs`` of its own, so that they become visible by the
same flip, and leave with it: a table of names would take a second commit. Above some programs a full-text
index of it is kept by the writer; without one, the names are gone through.

Shape letters: ``n`` frames, ``d`` dimensions; ``m`` sounds, ``ds`` their dimensions.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, BTree
from lancedb.query import MatchQuery
from numpy.typing import NDArray

from index import feature_rows, link_rows, titles
from index.asset_stream import (
    BATCH_ROWS,
    AssetStream,
    Columns,
    check_later,
    embedding_batches,
    new_row,
    remembering,
)
from index.base import Ids, Vectors
from index.clip_rows import CLIP_COLUMNS, ClipBatch
from index.errors import CatalogError, ModelMismatchError
from index.feature_rows import FeatureReader
from index.link_rows import BASIS_COLUMNS, LinkBases
from index.places import LocalPlace, Place, WriterLock, place_of
from index.rows import (
    ALL_KINDS,
    LATER_KINDS,
    ORDINAL_BITS,
    AssetRecord,
    ClipRecord,
    FeatureRecord,
    FeatureState,
    FrameBatch,
    Kind,
    LinkRecord,
    ModelInfo,
    NewAsset,
    NewProgram,
    NightRecord,
    ProgramFrames,
    ProgramRecord,
    ReviewRecord,
    StoredClip,
    id_range,
    now_utc,
)
from index.schemas import BEFORE, BEFORE_OF, table_schemas
from index.table_rows import (
    float16_bytes,
    frame_batch,
    known,
    names_of,
    only,
    program_of,
    program_row,
    stored_clip,
    vectors_of,
)

__all__ = [
    "AssetRecord",
    "Catalog",
    "ClipRecord",
    "FrameBatch",
    "FrameReader",
    "Kind",
    "LinkRecord",
    "ModelInfo",
    "NewAsset",
    "NewProgram",
    "NightRecord",
    "ProgramFrames",
    "ProgramRecord",
    "ReviewRecord",
    "StoredClip",
    "Writer",
]

FORMAT = 1
STORE_KIND = "program-matcher store"
_STORE_FILE = "store.json"

_TABLES = (
    "models", "programs", "assets", "frames", "sounds", "embeddings", "clips", "features", "links", "reviews",
    "nights",
)  # fmt: skip
#: What the column ``kind`` of ``models`` says of the model of each kind of descriptor.
_MODEL_KINDS: dict[Kind, str] = {"frames": "", "sounds": "sound", "embeddings": "embedding"}
#: Parts of one SQL filter; longer lists are cut.
_FILTER_PARTS = 200
#: Above so many, filtering in numpy beats a filter of ranges.
_MANY_NUMBERS = 64
#: Of times alone, which are 64 times smaller.
_BATCH_TIMES = 1 << 19
#: Small files of a table above which :meth:`Writer.needs_compaction` says so.
COMPACT_ABOVE = 100
#: Columns that large tables are looked up by, and from how many rows on an index of them pays: at 200,000
#: clips replacing 64 takes 6 instead of 19 ms, at a million frames reading 200 ranges 22 instead of 146.
_KEY_OF = {
    "frames": "id", "sounds": "id", "embeddings": "id", "clips": "clip_id", "features": "clip_id",
    "links": "clip_id",
}  # fmt: skip
INDEX_ABOVE = 50_000
#: Programs from which on their names get a full-text index, and outside of it which it is made anew: to go
#: through a thousand names takes some 20 ms, as the index does.
INDEX_NAMES_ABOVE = 1000
_NAMES_INDEX = "names_idx"

T = TypeVar("T")


# ---------------------------------------------------------------- small helpers


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(_quoted(value) for value in values)})"


def _of_clips(clip_ids: Sequence[str] | None) -> list[str | None]:
    """Filters that give the rows of some clips one after the other; of all where none are named."""
    if clip_ids is None:
        return [None]
    return [_one_of("clip_id", part) for part in _chunks(clip_ids, _FILTER_PARTS)]


def _in_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    return " OR ".join(f"(id >= {start} AND id < {stop})" for start, stop in ranges)


def _chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


# ---------------------------------------------------------------- the catalog


class Catalog:
    """A store, for reading; :meth:`writing` gives the writer.

    Readers take no lock and write nothing. Each sees the moment of its last :meth:`refresh`.
    Make one with :meth:`open` or :meth:`create`.
    """

    def __init__(self, place: str | Path | Place) -> None:
        self.place = place_of(place)
        self._connection = _connect(self.place)
        self._tables: dict[str, Any] = {}
        self._refreshing = threading.RLock()
        self._model: ModelInfo | None = None
        self._later_models: dict[Kind, ModelInfo] = {}
        self._models_version = 0
        #: Of a state of the programs, their ids and names; see :meth:`_scan_names`.
        self._names: tuple[int, list[str], titles.Counted] | None = None
        self.refresh()

    # ------------------------------------------------------------ open and create

    @classmethod
    def open(cls, path: str | Path | Place, *, model: ModelInfo | None = None) -> Catalog:
        """Open a store that is there.

        Args:
            path: The store's folder, or what else :func:`index.places.place_of` knows.
            model: What the caller will make descriptors with; None where it makes none.

        Raises:
            CatalogError: There is no store, or it is foreign or of a newer format.
            BackendMissingError: It is in object storage, and the package for that is not installed.
            ModelMismatchError: The store's descriptors are another model's.
        """
        place = place_of(path)
        _check_store_file(place)
        catalog = cls(place)
        if model is not None:
            catalog._check_model(model)
        return catalog

    @classmethod
    def create(cls, path: str | Path | Place, model: ModelInfo, *, wait_seconds: float = 30.0) -> Catalog:
        """Open a store, making it first where there is none; may be cut off and done again.

        Args:
            path: As for :meth:`open`; a folder and its parents are made as needed.
            model: What the store's descriptors are or will be made with.
            wait_seconds: For another process that is making the same store.

        Raises:
            CatalogError: The folder holds something else, or a newer format.
            CatalogLockedError: Another process held the lock all the time.
            BackendMissingError: It is in object storage, and the package for that is not installed.
            ModelMismatchError: The store's descriptors are another model's.
        """
        place = place_of(path)
        if not _has_store_file(place):
            _make_store(place, model, wait_seconds)
        return cls.open(place, model=model)

    @property
    def path(self) -> Path:
        """The folder of a store that is one.

        Raises:
            CatalogError: It is in object storage.
        """
        if not isinstance(self.place, LocalPlace):
            raise CatalogError(f"the store {self.place} is no folder")
        return self.place.path

    @property
    def model(self) -> ModelInfo:
        """The model of the store's descriptors of frames.

        Raises:
            CatalogError: The table ``models`` is lost.
        """
        if self._model is None:
            self._model = self._read_model("frames")
            if self._model is None:
                raise self._wrong_models(0)
        return self._model

    @property
    def sound_model(self) -> ModelInfo | None:
        """The model of the store's sounds, as of the last :meth:`refresh`; None where it holds none."""
        return self._later_models.get("sounds")

    @property
    def embedding_model(self) -> ModelInfo | None:
        """The clip model of the store's embeddings likewise; None also while they are made anew."""
        return self._later_models.get("embeddings")

    def model_of(self, kind: Kind) -> ModelInfo | None:
        """The model of one kind of vector: :attr:`model`, :attr:`sound_model` or :attr:`embedding_model`."""
        return self.model if kind == "frames" else self._later_models.get(kind)

    def _read_model(self, kind: Kind) -> ModelInfo | None:
        """The model of one kind of descriptor; rows of before there were kinds are of frames."""
        rows = [row for row in self._rows("models") if (row.get("kind") or "") == _MODEL_KINDS[kind]]
        if len(rows) > 1:
            raise self._wrong_models(len(rows))
        for row in rows:
            return ModelInfo(row["fingerprint"], row["name"], row["d"], json.loads(row["config"]))
        return None

    def _wrong_models(self, n: int) -> CatalogError:
        return CatalogError(
            f"the store {self.place} names {n} models where it must name one. "
            "Restore it from a copy, or make a new one with matcher add --store DIR."
        )

    def _check_model(self, wanted: ModelInfo, kind: Kind = "frames") -> None:
        have = self.model_of(kind)
        if have is not None and (have.fingerprint, have.d) != (wanted.fingerprint, wanted.d):
            what, remedy = "descriptors", f"Use the encoder {have.name}"
            if kind == "sounds":
                what = "sound descriptors"
                remedy = f'Write spec = "{have.name}" under [sound] in --config, leave it out with --no-sound'
            raise ModelMismatchError(
                f"the store {self.place} holds {what} of {have.name} ({have.fingerprint}, d = {have.d}), "
                f"but {wanted.name} ({wanted.fingerprint}, d = {wanted.d}) was asked for. "
                f"{remedy}, or use another --store."
            )

    # ------------------------------------------------------------ reading

    def refresh(self) -> int:
        """See what was committed since; returns :meth:`version`.

        ``programs`` must not change while the other tables are looked up, or a number could be
        shown whose rows a later replace has deleted: so look until it stood still.
        """
        with self._refreshing:
            while True:
                before = self._refresh_table("programs")
                for name in _TABLES:
                    if name not in ("programs", *LATER_KINDS):
                        self._refresh_table(name)
                # Not before there is its model: until then a writer may drop the table again.
                for kind in self._read_later_models():
                    self._refresh_table(kind)
                if self._refresh_table("programs") == before:
                    return before

    def version(self) -> int:
        """A number that grows with every change of the programs; 0 before there is a table."""
        return self.version_of("programs")

    def programs(self, *, removed: bool = False) -> list[ProgramRecord]:
        """The programs by number, the removed ones too if asked for."""
        records = map(program_of, self._rows("programs", None if removed else "state = 'live'"))
        return sorted(records, key=lambda record: record.number)

    def program(self, program_id: str) -> ProgramRecord | None:
        """The live program of this id, or None."""
        rows = self._rows("programs", f"state = 'live' AND program_id = {_quoted(program_id)}")
        return program_of(rows[0]) if rows else None

    def search_titles(self, text: str, *, limit: int = 50) -> list[ProgramRecord]:
        """The live programs whose title or aliases share most with a text, best first.

        By BM25 over n-grams of 2 and 3 characters, in the full-text index where there is one, else through
        all names; see :mod:`index.titles`. Which of them the text speaks of is for the caller to say.

        Args:
            text: Taken literally, whatever is in it; of any length. No program for one character alone.
            limit: At most so many.

        Raises:
            CatalogError: The table is damaged.
        """
        best: dict[str, float] = {}
        is_indexed = self._again_if_stale("programs", self._has_names_index)
        search = self._search_index if is_indexed else self._scan_names
        for window in titles.windows(text):
            for program_id, score in search(window, limit):
                best[program_id] = max(score, best.get(program_id, 0.0))
        # By number where equal: Lance returns them in any order.
        records: dict[str, ProgramRecord] = {}
        for part in _chunks(list(best), _FILTER_PARTS):
            rows = self._rows("programs", f"state = 'live' AND {_one_of('program_id', part)}")
            records.update((row["program_id"], program_of(row)) for row in rows)
        ranked = sorted(records.values(), key=lambda record: (-best[record.program_id], record.number))
        return ranked[:limit]

    def names_by_program(self) -> dict[str, str]:
        """Of each live program its title and aliases in normal form, a line each; see :mod:`index.titles`.

        Raises:
            CatalogError: The table is damaged.
        """
        columns = ["program_id", "number", "title", "aliases", "names"]
        rows = sorted(self._rows("programs", "state = 'live'", columns), key=lambda row: row["number"])
        return {row["program_id"]: names_of(row) for row in rows}

    def _has_names_index(self) -> bool:
        table = self._tables.get("programs")
        return table is not None and _has_names_index(table)

    def _search_index(self, window: str, limit: int) -> list[tuple[str, float]]:
        """Ids and scores of the programs for one window of text, by the full-text index."""

        def read() -> list[dict[str, Any]]:
            # Defaults that mypy does not see: the class is of another package's dataclasses.
            match = MatchQuery(window, "names")  # type: ignore[call-arg]
            query = self._tables["programs"].search(match, query_type="fts")
            found: list[dict[str, Any]] = (
                query.where("state = 'live'", prefilter=True)
                .select(["program_id", "_score"])
                .limit(limit)
                .to_list()
            )
            return found

        found = self._again_if_stale("programs", read)
        return [(row["program_id"], float(row["_score"])) for row in found]

    def _scan_names(self, window: str, limit: int) -> list[tuple[str, float]]:
        """The same through all names, whose n-grams are counted once for a state of the programs."""
        if self._names is None or self._names[0] != self.version():
            names = self.names_by_program()
            # The version after the reading: a failed one may have been made good by a refresh.
            self._names = self.version(), list(names), titles.Counted(list(names.values()))
        _, ids, counted = self._names
        return [(ids[row], score) for row, score in counted.scan(window, limit=limit)]

    def assets(self, program_id: str | None = None) -> list[AssetRecord]:
        """The assets of the live programs (or of one), by number and ordinal."""
        visible = {record.number for record in self.programs()}
        where = None if program_id is None else f"program_id = {_quoted(program_id)}"
        records = [
            AssetRecord(**known(AssetRecord, row))
            for row in self._rows("assets", where)
            if row["number"] in visible
        ]
        return sorted(records, key=lambda record: (record.number, record.ordinal))

    def frames_of(self, number: int, kind: Kind = "frames") -> ProgramFrames:
        """All frames (or sounds) of one number, by id; empty for a number that has none.

        Raises:
            CatalogError: The table is damaged.
        """
        batches = list(self.iter_frames([number], with_asset_ids=True, kind=kind))
        if not batches:
            model = self.model_of(kind)
            d = 0 if model is None else model.d
            return ProgramFrames(
                np.zeros(0, np.int64), np.zeros(0, np.float64), [], np.zeros((0, d), np.float32)
            )
        ids = np.concatenate([batch.ids for batch in batches])
        order = np.argsort(ids, kind="stable")
        asset_ids = [asset_id for batch in batches for asset_id in batch.asset_ids or ()]
        return ProgramFrames(
            ids=ids[order],
            t_seconds=np.concatenate([batch.t_seconds for batch in batches])[order],
            asset_ids=[asset_ids[row] for row in order],
            vectors=np.concatenate([batch.vectors for batch in batches])[order].astype(np.float32),
        )

    def iter_frames(
        self, numbers: Iterable[int], *, with_asset_ids: bool = False, kind: Kind = "frames"
    ) -> Iterator[FrameBatch]:
        """Stream the frames (or sounds) of some numbers, in no promised order, in one pass over the table.

        Raises:
            CatalogError: The table is damaged.
        """
        model = self.model_of(kind)
        if model is None:
            return
        columns = ["id", "t_seconds", "vector"] + (["asset_id"] if with_asset_ids else [])
        for batch, keep in self._iter_rows(kind, numbers, columns, BATCH_ROWS):
            yield only(frame_batch(batch, model.d), keep)

    def iter_times(
        self, numbers: Iterable[int], *, kind: Kind = "frames"
    ) -> Iterator[tuple[Ids, NDArray[np.float64]]]:
        """As :meth:`iter_frames`, but only (n,) ids and (n,) seconds: no vector is read.

        Raises:
            CatalogError: The table is damaged.
        """
        for batch, keep in self._iter_rows(kind, numbers, ["id", "t_seconds"], _BATCH_TIMES):
            yield batch["id"].to_numpy()[keep], batch["t_seconds"].to_numpy()[keep]

    def reader(self, kind: Kind = "frames") -> FrameReader:
        """What reads frames (or sounds) by id, of the moment of the last :meth:`refresh` for ever.

        Raises:
            CatalogError: The table is damaged.
            ValueError: Sounds are asked for and the store holds none.
        """
        model = self.model_of(kind)
        if model is None or kind not in self._tables:
            raise ValueError(f"the store {self.place} holds no {kind}")
        with self._reading(kind):
            # A handle of its own: those of the catalog move on with every refresh.
            table = self._connection.open_table(kind)
            table.checkout(self.version_of(kind))
        return FrameReader(self, table, kind, model.d)

    def frame_counts(self, kind: Kind = "frames") -> dict[int, int]:
        """Rows of ``frames`` (or ``sounds``) by number, those of invisible numbers too.

        Reads one column of all rows.

        Raises:
            CatalogError: The table is damaged.
        """
        counts: dict[int, int] = {}
        table = self._tables.get(kind)
        if table is None:
            return counts
        with self._reading(kind):
            for batch in table.search().select(["generation"]).to_batches(1 << 20):
                numbers, rows = np.unique(batch["generation"].to_numpy(), return_counts=True)
                for number, n in zip(numbers.tolist(), rows.tolist(), strict=True):
                    counts[number] = counts.get(number, 0) + n
        return counts

    def clips(self) -> list[ClipRecord]:
        """All kept clips without their descriptors, by id."""
        rows = self._rows("clips", columns=[field.name for field in fields(ClipRecord)])
        return sorted((ClipRecord(**row) for row in rows), key=lambda record: record.clip_id)

    def clip(self, clip_id: str) -> StoredClip | None:
        """One kept clip with its descriptors, or None."""
        return next(self.iter_clips([clip_id]), None)

    def iter_clips(self, clip_ids: Sequence[str] | None = None) -> Iterator[StoredClip]:
        """Stream kept clips with their descriptors: all, or those of some ids; in no promised order.

        Raises:
            CatalogError: The table is damaged.
        """
        table = self._tables.get("clips")
        if table is None:
            return
        d, sound_d = self.model.d, 0 if self.sound_model is None else self.sound_model.d
        with self._reading("clips"):
            for where in _of_clips(clip_ids):
                query = table.search() if where is None else table.search().where(where)
                for batch in query.to_batches(256):
                    for row in batch.to_pylist():
                        yield stored_clip(row, d, sound_d)

    def links(self, clip_ids: Sequence[str] | None = None) -> list[LinkRecord]:
        """The links of all clips (or of some), by clip id; without what they rest on, and their history."""
        rows = self._rows_of_clips("links", clip_ids, list(link_rows.PLAIN))
        return sorted(map(link_rows.plain_link, rows), key=lambda record: record.clip_id)

    def iter_link_batches(
        self, columns: Sequence[str], *, decision: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream some columns of the links of all clips, or of those so decided, in no promised order.

        Raises:
            CatalogError: The table is damaged.
        """
        table = self._tables.get("links")
        if table is None:
            return
        query = table.search().select(list(columns))
        if decision is not None:
            query = query.where(f"decision = {_quoted(decision)}")
        with self._reading("links"):
            yield from query.to_batches(BATCH_ROWS)

    def whole_links(self, clip_ids: Sequence[str]) -> dict[str, LinkRecord]:
        """The links of some clips by clip id, with what they rest on and their history."""
        rows = self._rows_of_clips("links", clip_ids)
        return {row["clip_id"]: link_rows.whole_link(row) for row in rows}

    def link_bases(self) -> LinkBases:
        """What the links of all clips rest on, by column.

        Raises:
            CatalogError: The table is damaged.
        """
        table = self._tables.get("links")
        if table is None or not set(BASIS_COLUMNS) <= set(table.schema.names):
            return LinkBases.of(())  # of an earlier version: nothing is known of any
        with self._reading("links"):
            return LinkBases.of(table.search().select(list(BASIS_COLUMNS)).to_batches(BATCH_ROWS))

    def iter_clip_batches(self, clips: int = 2048) -> Iterator[ClipBatch]:
        """Stream the descriptors of all kept clips, by column, so many clips at a time at most.

        Raises:
            CatalogError: The table is damaged.
        """
        table = self._tables.get("clips")
        if table is None:
            return
        columns = [name for name in CLIP_COLUMNS if name in table.schema.names]
        d, sound_d = self.model.d, 0 if self.sound_model is None else self.sound_model.d
        with self._reading("clips"):
            for batch in table.search().select(columns).to_batches(clips):
                yield ClipBatch.of(batch, d, sound_d)

    def features(
        self, clip_ids: Sequence[str] | None = None, *, columns: Sequence[str] = feature_rows.COLUMNS
    ) -> dict[str, FeatureRecord]:
        """What a clip model takes, and gives, of some kept clips, or of all, by clip id.

        Args:
            clip_ids: Default all.
            columns: Of :data:`index.feature_rows.COLUMNS`; records of :data:`index.feature_rows.LIGHT` lack
                the arrays that a clip model takes, which are nearly all of a row. Such a record is not to be
                kept: it would take them away.

        Raises:
            CatalogError: The table is damaged.
        """
        table = self._tables.get("features")
        if table is None:
            return {}
        found: dict[str, FeatureRecord] = {}
        with self._reading("features"):
            for where in _of_clips(clip_ids):
                query = table.search().select(list(columns))
                for batch in (query if where is None else query.where(where)).to_batches(512):
                    found |= {record.clip_id: record for record in feature_rows.records(batch)}
        return found

    def clips_of_replaced_sound(self) -> list[str]:
        """Ids of the kept clips whose features say that the sound is another's."""
        if "features" not in self._tables:
            return []
        return [row["clip_id"] for row in self._rows("features", "sound_replaced", ["clip_id"])]

    def feature_reader(self, columns: Sequence[str], clip_ids: Sequence[str] | None = None) -> FeatureReader:
        """What reads features by position, of the moment of the last :meth:`refresh` for ever.

        Args:
            columns: Of :data:`index.feature_rows.COLUMNS`.
            clip_ids: In the order of the positions; those without features are left out. Default all.

        Raises:
            CatalogError: The table is damaged.
            ValueError: The store is of an earlier version and has no features, or a column is unknown.
        """
        if "features" not in self._tables:
            raise ValueError(f"the store {self.place} holds no features")
        with self._reading("features"):
            table = self._connection.open_table("features")
            table.checkout(self.version_of("features"))
        return FeatureReader(table, columns, lambda: self._reading("features"), clip_ids)

    def feature_states(self, clip_ids: Sequence[str] | None = None) -> dict[str, FeatureState]:
        """Of every clip with features (or of some) what they were made from; reads no array."""
        rows = self._rows_of_clips("features", clip_ids, ["clip_id", *FeatureState._fields])
        return {row["clip_id"]: FeatureState(*(row[name] for name in FeatureState._fields)) for row in rows}

    def clip_dates(self) -> dict[str, str]:
        """When each clip's descriptors were kept, by clip id, in order of the ids."""
        rows = self._rows("clips", columns=["clip_id", "kept_at"])
        return {row["clip_id"]: row["kept_at"] for row in sorted(rows, key=lambda row: row["clip_id"])}

    def clip_marks_of(self, clip_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """When the descriptors of some clips were kept, and their titles; only of those that are kept."""
        rows = self._rows_of_clips("clips", clip_ids, ["clip_id", "kept_at", "title"])
        return {row["clip_id"]: (row["kept_at"], row["title"]) for row in rows}

    def reviews(self) -> list[ReviewRecord]:
        """All reviews, the oldest first."""
        return sorted((ReviewRecord(**row) for row in self._rows("reviews")), key=lambda record: record.at)

    def count_links(self) -> int:
        """How many clips are linked, or up for review."""
        return self._count("links", "decision != 'none'")

    def nights(self) -> list[NightRecord]:
        """The re-links that were committed, the first one first."""
        return sorted((NightRecord(**row) for row in self._rows("nights")), key=lambda record: record.night)

    def counts(self) -> dict[str, int]:
        """How many live programs, assets, vectors of theirs by kind, clips, links and reviews there are."""
        programs = self.programs()
        rows = {name: self._count(name) for name in ("clips", "links", "reviews")}
        return {
            "programs": len(programs),
            "assets": sum(record.asset_count for record in programs),
            "frames": sum(record.frame_count for record in programs),
            "sounds": sum(record.sound_count for record in programs),
            "embeddings": sum(record.embedding_count for record in programs),
            **rows,
        }

    # ------------------------------------------------------------ writing

    @contextlib.contextmanager
    def writing(self, *, wait_seconds: float = 0.0) -> Iterator[Writer]:
        """Hold the store's one writer lock and give the writer.

        On the way in, the rows that a killed writer left are deleted, and missing tables and the
        columns that a store of an earlier version lacks are made.

        Args:
            wait_seconds: How long to wait for another writer.

        Raises:
            CatalogLockedError: Another writer, of this process or another, still holds the lock.
            NotWritableError: The disk is full or read-only; so says every method of the writer too.
        """
        lock = self.place.lock()
        lock.acquire(wait_seconds)
        try:
            self.refresh()
            self._refuse_lost_tables()
            with self.place.changing():
                _make_tables(self._connection, self._schemas())
            self.refresh()
            writer = Writer(self, lock)
            try:
                writer._clean_orphans()
                writer._fill_in_names()
                yield writer
            finally:
                writer._open = False
        finally:
            lock.release()

    # ------------------------------------------------------------ inside

    def _iter_rows(
        self, kind: Kind, numbers: Iterable[int], columns: list[str], batch_rows: int
    ) -> Iterator[tuple[pa.RecordBatch, NDArray[np.bool_]]]:
        """Stream rows of descriptors in one pass, with which of them are of these numbers; never none."""
        wanted = np.unique(np.fromiter(numbers, dtype=np.int64))
        table = self._tables.get(kind)
        if table is None or wanted.size == 0:
            return
        query = table.search().select(columns)
        if wanted.size <= _MANY_NUMBERS:
            query = query.where(_in_ranges(map(id_range, wanted.tolist())))
        with self._reading(kind):
            for batch in query.to_batches(batch_rows):
                keep = np.isin(batch["id"].to_numpy() >> ORDINAL_BITS, wanted)
                if keep.any():
                    yield batch, keep

    def _schemas(self) -> dict[str, pa.Schema]:
        return table_schemas(self.model.d, {kind: model.d for kind, model in self._later_models.items()})

    def _read_later_models(self) -> tuple[Kind, ...]:
        """The later kinds that have a model by now; another process may have brought or changed one."""
        version = self.version_of("models")
        if version != self._models_version:
            found = {kind: self._read_model(kind) for kind in LATER_KINDS}
            self._later_models = {kind: model for kind, model in found.items() if model is not None}
            self._models_version = version  # last: a read that fails is tried again
        return tuple(self._later_models)

    def _refuse_lost_tables(self) -> None:
        """A store is whole once ``store.json`` is there, so a table that is not has been lost.

        Made anew and empty, ``programs`` would turn every frame into an orphan to be cleaned away.
        """
        kinds = [kind for kind in ALL_KINDS if self.model_of(kind) is not None]
        lost = [name for name in ("programs", "assets", *kinds) if name not in self._tables]
        if lost:
            raise CatalogError(
                f"the store {self.place} has lost its table {', '.join(lost)}: restore it from a copy, "
                "or make a new one with matcher add --store DIR"
            )

    def _refresh_table(self, name: str) -> int:
        """Bring one table to its latest version and return it; 0 where there is no table."""
        table = self._tables.get(name)
        with self._reading(name):
            if table is None:
                table = _open_table(self._connection, name)
                if table is None:
                    return 0
                self._tables[name] = table
            table.checkout_latest()
            return int(table.version)

    def version_of(self, name: str) -> int:
        """Lance's version of one table as of the last :meth:`refresh`; 0 where there is none."""
        table = self._tables.get(name)
        return 0 if table is None else int(table.version)

    def _rows(
        self, name: str, where: str | None = None, columns: list[str] | None = None
    ) -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            table = self._tables.get(name)
            if table is None:
                return []
            query = table.search()
            if where is not None:
                query = query.where(where)
            if columns is not None:
                query = query.select([name for name in columns if name in table.schema.names])
            rows: list[dict[str, Any]] = query.to_arrow().to_pylist()
            return rows

        return self._again_if_stale(name, read)

    def _rows_of_clips(
        self, name: str, clip_ids: Sequence[str] | None, columns: list[str] | None = None
    ) -> list[dict[str, Any]]:
        return [row for where in _of_clips(clip_ids) for row in self._rows(name, where, columns)]

    def _whole_numbers(self, name: str, column: str, where: str | None = None) -> NDArray[np.int64]:
        """One int64 column, without a Python object for each row."""

        def read() -> NDArray[np.int64]:
            table = self._tables.get(name)
            if table is None:
                return np.zeros(0, dtype=np.int64)
            query = table.search().select([column])
            values: NDArray[np.int64] = (
                (query if where is None else query.where(where)).to_arrow()[column].to_numpy()
            )
            return values

        return self._again_if_stale(name, read)

    def _count(self, name: str, where: str | None = None) -> int:
        def count() -> int:
            table = self._tables.get(name)
            return 0 if table is None else int(table.count_rows(where))

        return self._again_if_stale(name, count)

    def _again_if_stale(self, name: str, read: Callable[[], T]) -> T:
        """A compaction deletes the files of versions gone by: a failed read gets a second try."""
        try:
            return read()
        except (RuntimeError, OSError, ValueError):
            with self._reading(name):
                self.refresh()
                return read()

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            with self.place.explained():
                yield
        except (RuntimeError, OSError, ValueError) as error:
            raise CatalogError(
                f"the table {name} of the store {self.place} cannot be read: {error}. If a compaction ran "
                "just now, try again; otherwise restore the store from a copy."
            ) from error


class FrameReader:
    """Frames (or sounds) as they were at one moment, read by id; from :meth:`Catalog.reader`.

    What is committed later does not show, and what is deleted later is still there: until a compaction
    drops the moment, from when on every read fails.
    """

    def __init__(self, catalog: Catalog, table: Any, kind: Kind, d: int) -> None:
        self._catalog, self._table, self._kind, self._d = catalog, table, kind, d
        #: Of the table; another one may have other files.
        self.version = int(table.version)

    def read(self, ranges: Sequence[tuple[int, int]]) -> tuple[Ids, NDArray[np.float16]]:
        """The rows of half-open ranges of ids that do not overlap.

        Where :meth:`Writer.index_ids` was called, the cost is that of the rows; else the ids of all rows
        are gone through.

        Returns:
            (n,) ids, ascending, and (n, d) vectors; of ids that are not there, nothing.

        Raises:
            CatalogError: The table is damaged, or a compaction dropped the moment.
        """
        ids, vectors = [np.zeros(0, np.int64)], [np.zeros((0, self._d), np.float16)]
        with self._catalog._reading(self._kind):
            for part in _chunks(ranges, _FILTER_PARTS):
                query = self._table.search().select(["id", "vector"]).where(_in_ranges(part))
                for batch in query.to_arrow().to_batches():
                    ids.append(batch["id"].to_numpy())
                    vectors.append(vectors_of(batch, self._d))
        found = np.concatenate(ids)
        order = np.argsort(found, kind="stable")
        return found[order], np.concatenate(vectors)[order]


# ---------------------------------------------------------------- the writer


class Writer:
    """Changes to a store, under its lock; from :meth:`Catalog.writing`, and dead after it.

    Every method is one visible change: a kill at any instant leaves the state before it or after.
    Each looks at the lock right before it commits; in object storage another may have taken over.
    """

    def __init__(self, catalog: Catalog, lock: WriterLock) -> None:
        self.catalog = catalog
        self._lock = lock
        self._open = True
        #: False while rows may lie there under the number that is given next.
        self._is_clean = False

    def use_sound(self, model: ModelInfo) -> None:
        """Make the store hold sounds of this model; nothing where it does so already.

        Args:
            model: What the sounds are or will be made with; another one than the frames'.

        Raises:
            CatalogError: There are sounds, but it is lost which model made them.
            ModelMismatchError: The store's sounds are another model's.
            ValueError: It is the model of the frames.
        """
        self.check_open()
        catalog = self.catalog
        if catalog.sound_model is not None:
            catalog._check_model(model, "sounds")
            return
        if model.fingerprint == catalog.model.fingerprint:
            raise ValueError(f"the model of sounds has the fingerprint of the frames': {model.fingerprint}")
        table = _open_table(catalog._connection, "sounds")
        if table is not None and table.count_rows():
            raise CatalogError(
                f"the store {catalog.place} has lost the model of its table sounds: restore it from a copy, "
                "or make a new one with matcher add --store DIR"
            )
        # The table first: with a model but without a table, a store would have lost one.
        with catalog.place.changing():
            _make_tables(
                catalog._connection, catalog._schemas() | table_schemas(catalog.model.d, {"sounds": model.d})
            )
        self._append("models", [_model_row(model, "sounds")])
        catalog.refresh()

    def replace_embeddings(
        self, model: ModelInfo, programs: Iterable[tuple[int, Sequence[tuple[NDArray[np.float64], Vectors]]]]
    ) -> None:
        """Make a clip model's embeddings of all programs anew, or for the first time.

        While it runs, and after a kill in its midst, the store shows none at all: :attr:`Catalog.
        embedding_model` is None. Nothing else is touched, and it can be done again.

        Args:
            model: What they are made with.
            programs: The number of each live program, with what :class:`NewAsset` calls ``embedding`` of each
                of its assets, in order. A program that is left out has none.

        Raises:
            ValueError: A vector has another ``d``, a number is no live program's or comes twice, or it has
                another number of assets.
        """
        self.check_open()
        catalog = self.catalog
        self._delete("models", f"kind = {_quoted(_MODEL_KINDS['embeddings'])}")
        catalog.refresh()
        records = {record.number: record for record in catalog.programs()}
        before: dict[int, list[AssetRecord]] = {number: [] for number in records}
        for asset in catalog.assets():
            before[asset.number].append(asset)
        counts: dict[int, list[int]] = {number: [0] * len(assets) for number, assets in before.items()}
        schema = table_schemas(catalog.model.d, {"embeddings": model.d})["embeddings"]
        batches = embedding_batches(model, programs, before, counts, schema, self.check_open)
        failures: list[Exception] = []
        reader = pa.RecordBatchReader.from_batches(schema, remembering(batches, failures))
        try:
            with catalog.place.changing():
                if _open_table(catalog._connection, "embeddings") is None:
                    # Lance warns on stderr of an overwriting that finds nothing.
                    catalog._connection.create_table("embeddings", schema=schema)
                catalog._connection.create_table("embeddings", data=reader, schema=schema, mode="overwrite")
        except Exception as error:
            # Across Lance, an exception loses its type.
            raise (failures or [error])[0] from error
        self._book_embeddings(records, before, counts)
        self._append("models", [_model_row(model, "embeddings")])
        catalog.refresh()

    def _book_embeddings(
        self,
        records: Mapping[int, ProgramRecord],
        assets: Mapping[int, Sequence[AssetRecord]],
        counts: Mapping[int, Sequence[int]],
    ) -> None:
        """Write how many embeddings programs and assets have, where that has changed."""
        booked = [
            replace(asset, embedding_count=count)
            for number in records
            for asset, count in zip(assets[number], counts[number], strict=True)
            if asset.embedding_count != count
        ]
        if booked:
            rows = pa.Table.from_pylist(
                [asdict(asset) for asset in booked], schema=self.catalog._schemas()["assets"]
            )
            with self._changing("assets") as table:
                table.merge_insert(["number", "ordinal"]).when_matched_update_all().execute(rows)
        changed = [
            program_row(replace(record, embedding_count=sum(counts[number])))
            for number, record in records.items()
            if record.embedding_count != sum(counts[number])
        ]
        if changed:
            self._merge("programs", "program_id", changed)

    def add_program(self, program: NewProgram, assets: Iterable[NewAsset]) -> ProgramRecord:
        """Add a program, or replace the one of the same id; visible at the end, as a whole.

        Args:
            program: What it is.
            assets: Its files. May be a generator: its frames are then written as they come (it runs
                in another thread; the sounds wait in memory), and what it raises is raised here and
                nothing is changed.

        Returns:
            The row that is now visible.

        Raises:
            ValueError: The descriptors have another ``d``, an asset has sound and :meth:`use_sound`
                was never called, an asset id comes twice, or there are more than 16.7 million frames
                or sounds.
        """
        return self.add_programs([(program, assets)])[0]

    def add_programs(self, programs: Iterable[tuple[NewProgram, Iterable[NewAsset]]]) -> list[ProgramRecord]:
        """As :meth:`add_program`, of many in one visible change: commits cost more than small programs do.

        Args:
            programs: Each with its files; asked for as they are written. No id may come twice.

        Returns:
            The rows that are now visible, in order.
        """
        self.check_open()
        if not self._is_clean:
            self._clean_orphans()
        catalog = self.catalog
        first = self._next_number()
        streams: list[AssetStream] = []
        added: list[NewProgram] = []
        stopped = threading.Event()

        def frames() -> Iterator[Columns]:
            for program, assets in programs:
                if stopped.is_set():  # between two programs; see AssetStream.stopped
                    raise RuntimeError("the caller gave up")
                added.append(program)
                stream = AssetStream(
                    program.program_id, first + len(streams), catalog.model, catalog._later_models, assets,
                    self.check_open,
                )  # fmt: skip
                streams.append(stream)
                yield from stream.frames()

        try:
            self._append_descriptors("frames", frames())
            refuse_twice("program_id", [program.program_id for program in added])
            for kind in LATER_KINDS:
                rows = itertools.chain.from_iterable(stream.later(kind) for stream in streams)
                self._append_descriptors(kind, rows)
            records = [asdict(record) for stream in streams for record in stream.records]
            if records:
                self._append("assets", records)
        except BaseException:
            stopped.set()
            for stream in streams:
                stream.stopped = True
            self._clean_orphans()
            raise
        new = [new_row(program, stream) for program, stream in zip(added, streams, strict=True)]
        if new:
            before: list[int] = []
            for part in _chunks([row.program_id for row in new], _FILTER_PARTS):
                where = f"state = 'live' AND {_one_of('program_id', part)}"
                before += catalog._whole_numbers("programs", "number", where).tolist()
            self._merge("programs", "program_id", [program_row(row) for row in new])
            self._delete_numbers(before)
            self._index_names()
        return new

    def remove_programs(self, program_ids: Iterable[str]) -> list[str]:
        """Take programs out, all in one visible change.

        Returns:
            Those of the ids that were there, in the order of the programs.
        """
        self.check_open()
        wanted = set(program_ids)
        gone = [record for record in self.catalog.programs() if record.program_id in wanted]
        if not gone:
            return []
        rows = [
            replace(record, state="removed", asset_count=0, frame_count=0, sound_count=0, embedding_count=0)
            for record in gone
        ]
        # The row stays, for its number: a number must never be given again.
        self._merge("programs", "program_id", [program_row(row) for row in rows])
        self._delete_numbers([record.number for record in gone])
        return [record.program_id for record in gone]

    def put_clip(self, clip: StoredClip) -> None:
        """Keep one clip, in place of the one of the same id; see :meth:`put_clips`."""
        self.put_clips([clip])

    def put_clips(self, clips: Sequence[StoredClip]) -> None:
        """Keep clips with their descriptors, in one commit, in place of those of the same ids.

        Raises:
            ValueError: Descriptors have another ``d``, a clip has sounds and :meth:`use_sound` was never
                called, or a clip id comes twice.
        """
        self.check_open()
        d = self.catalog.model.d
        refuse_twice("clip_id", [clip.record.clip_id for clip in clips])
        rows = []
        for clip in clips:
            if clip.vectors.shape[1] != d:
                raise ValueError(f"clip {clip.record.clip_id} has d = {clip.vectors.shape[1]}, not {d}")
            if clip.sound is not None and clip.sound[0].size:
                check_later("sounds", f"clip {clip.record.clip_id}", clip.sound[1], self.catalog.sound_model)
            row = asdict(clip.record)
            row["kept_at"] = row["kept_at"] or now_utc()
            times = [clip.t_seconds, *(t_seconds for _, t_seconds, _ in clip.further)]
            vectors = [clip.vectors, *(vectors for _, _, vectors in clip.further)]
            row["t_seconds"] = np.concatenate(times, dtype=np.float64)
            row["vectors"] = float16_bytes(np.concatenate(vectors))
            parts = [(name, int(t_seconds.size)) for name, t_seconds, _ in clip.further]
            row["further"] = json.dumps(parts) if parts else ""
            if clip.sound is not None:
                row["sound_seconds"] = np.asarray(clip.sound[0], dtype=np.float64)
                row["sound_vectors"] = float16_bytes(clip.sound[1])
            rows.append(row)
        if rows:
            self._merge("clips", "clip_id", rows)

    def remove_clips(self, clip_ids: Iterable[str]) -> int:
        """Forget clips, their features and links; returns how many clips there were. Reviews are kept."""
        self.check_open()
        ids = sorted(set(clip_ids))
        before = self.catalog._count("clips")
        for name in ("links", "features", "clips"):
            for part in _chunks(ids, _FILTER_PARTS):
                self._delete(name, _one_of("clip_id", part))
        return before - self.catalog._count("clips")

    def put_features(self, features: Sequence[FeatureRecord]) -> None:
        """Keep what a clip model takes, and gives, of clips, in one commit, in place of what there was.

        Raises:
            ValueError: A clip id comes twice.
        """
        self.check_open()
        refuse_twice("clip_id", [record.clip_id for record in features])
        rows = [feature_rows.to_row(record) for record in features]
        if rows:
            self._merge("features", "clip_id", rows)

    def put_links(self, links: Sequence[LinkRecord]) -> None:
        """Set the links of clips, in one commit, in place of those they had.

        Raises:
            ValueError: A clip id comes twice.
        """
        self.check_open()
        refuse_twice("clip_id", [link.clip_id for link in links])
        rows = [link_rows.to_row(link) for link in links]
        if rows:
            self._merge("links", "clip_id", rows)

    def put_all_links(self, parts: Iterable[Sequence[LinkRecord]]) -> None:
        """As :meth:`put_links`, of any number of links, which are asked for as they are written.

        Args:
            parts: Links, some at a time; no clip may come twice.
        """
        self.check_open()
        schema = self.catalog._schemas()["links"]
        batches = (
            pa.RecordBatch.from_pylist([link_rows.to_row(link) for link in part], schema=schema)
            for part in parts
            if part
        )
        first = next(batches, None)
        if first is None:
            return
        reader = pa.RecordBatchReader.from_batches(schema, itertools.chain([first], batches))
        with self._changing("links") as table:
            _upsert(table, "clip_id").execute(reader)

    def put_night(self, night: NightRecord) -> None:
        """Book a re-link that is committed, in place of one of the same number."""
        self.check_open()
        self._merge("nights", "night", [asdict(replace(night, at=night.at or now_utc()))])

    def put_review(self, review: ReviewRecord) -> None:
        """Append what a person said."""
        self.check_open()
        self._append("reviews", [asdict(replace(review, at=review.at or now_utc()))])

    def compact(self, *, keep_seconds: float = 3600.0) -> None:
        """Merge small files, and delete old versions and whatever killed writers left on the disk.

        Tables that have grown large get a scalar index of their key, and those that have one get it brought
        up to date: reading programs by id, and replacing clips and links, then cost what they touch. So does
        the full-text index of the programs' names.

        Args:
            keep_seconds: Readers that have not refreshed for longer than this must refresh before
                they read again (they do so by themselves after one failed read).
        """
        self.check_open()
        self._clean_orphans(thorough=True)
        with warnings.catch_warnings():
            # lancedb warns of readers at 0 seconds; the docstring above tells of them.
            warnings.simplefilter("ignore", UserWarning)
            # Programs last: who looks in between must see that there is something new.
            for name in sorted(self.catalog._tables, key=lambda name: name == "programs"):
                if name in _KEY_OF:
                    self._index_key(name, at_least=INDEX_ABOVE)
                if name == "programs":
                    self._index_names()
                with self._changing(name) as table:
                    table.optimize(
                        cleanup_older_than=timedelta(seconds=keep_seconds),
                        # Safe because of the lock: no other writer's unfinished files can be there.
                        delete_unverified=True,
                    )
        self.catalog.refresh()

    def index_ids(self, kind: Kind = "frames") -> None:
        """Let frames (or sounds) be found by id without going through all ids; nothing where they are.

        Rows that come later are gone through until the next :meth:`compact`.
        """
        self._index_key(kind, at_least=1)
        self.catalog.refresh()

    def index_keys(self) -> None:
        """Let rows of large tables be found by their key, as :meth:`compact` does, and rewrite nothing."""
        for name in _KEY_OF:
            self._index_key(name, at_least=INDEX_ABOVE)
        self.catalog.refresh()

    def _index_key(self, name: str, *, at_least: int) -> None:
        """Make the scalar index of a table's key column, where it has none and so many rows."""
        table = self.catalog._tables.get(name)
        if table is None or table.count_rows() < at_least or table.list_indices():
            return
        with self._changing(name):
            table.create_index(_KEY_OF[name], config=BTree())

    def _index_names(self) -> None:
        """Make the full-text index of the programs' names, or make it anew where half of them came since.

        Those that came since are found too, but gone through one by one; :meth:`compact` takes them in.
        """
        table = self.catalog._tables["programs"]
        rows = known = table.count_rows()
        if rows >= INDEX_NAMES_ABOVE:
            stats = table.index_stats(_NAMES_INDEX) if _has_names_index(table) else None
            known = 0 if stats is None else stats.num_indexed_rows
        if rows - known < max(INDEX_NAMES_ABOVE, known):
            return
        with self._changing("programs"):
            # As the names are in normal form, the index shall change no letter, and drop none.
            form = FTS(
                base_tokenizer="ngram", ngram_min_length=titles.LEAST_NGRAM,
                ngram_max_length=titles.MOST_NGRAM, lower_case=False, ascii_folding=False, stem=False,
                remove_stop_words=False, with_position=False,
            )  # fmt: skip
            table.create_index("names", config=form, name=_NAMES_INDEX)

    def _fill_in_names(self) -> None:
        """Give names to the rows of an earlier version; a writer killed before it leaves them to the next."""
        rows = self.catalog._rows("programs", "names IS NULL")
        if rows:
            self._merge("programs", "program_id", [{**row, "names": names_of(row)} for row in rows])

    def needs_compaction(self) -> bool:
        """Whether many small commits have piled up, so that each new one takes ever longer.

        Measured: 300 programs on, an add takes twice its time. Looks at metadata only.
        """
        self.check_open()
        return any(
            table.stats()["fragment_stats"]["num_small_fragments"] > COMPACT_ABOVE
            for table in self.catalog._tables.values()
        )

    # ------------------------------------------------------------ inside

    def check_open(self) -> None:
        """Make sure that the lock is held.

        Raises:
            ValueError: The ``with`` block of :meth:`Catalog.writing` is left.
            LeaseLostError: It was not renewed in time (the machine slept) and another has it now.
        """
        if not self._open:
            raise ValueError("this writer's lock is released; enter Catalog.writing() again")
        self._lock.check()

    def _table(self, name: str) -> Any:
        return self.catalog._tables[name]

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[Any]:
        """The table, for one commit."""
        self.check_open()
        with self.catalog.place.changing():
            yield self._table(name)

    def _next_number(self) -> int:
        return int(self.catalog._whole_numbers("programs", "number").max(initial=0)) + 1

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        with self._changing(name) as table:
            table.add(pa.Table.from_pylist(rows, schema=self.catalog._schemas()[name]))

    def _merge(self, name: str, key: str, rows: list[dict[str, Any]]) -> None:
        with self._changing(name) as table:
            _upsert(table, key).execute(pa.Table.from_pylist(rows, schema=self.catalog._schemas()[name]))

    def _append_descriptors(self, kind: Kind, batches: Iterator[Columns]) -> None:
        """One commit for all programs, however long: batches are written as they come."""
        failures: list[Exception] = []
        batches = remembering(batches, failures)
        try:
            # An append of nothing would be a commit all the same.
            first = next(batches, None)
            if first is None:
                return
            schema = self.catalog._schemas()[kind]
            parts = (pa.record_batch(columns, schema=schema) for columns in itertools.chain([first], batches))
            with self._changing(kind) as table:
                table.add(pa.RecordBatchReader.from_batches(schema, parts))
        except Exception as error:
            # Across Lance, an exception loses its type.
            raise (failures or [error])[0] from error

    def _delete(self, name: str, where: str) -> None:
        # Deleting nothing would be a commit all the same.
        if self.catalog._count(name, where):
            with self._changing(name) as table:
                table.delete(where)

    def _delete_numbers(self, numbers: Sequence[int]) -> None:
        """Assets last: while an asset row is there, the next writer knows what is left to delete."""
        for part in _chunks(sorted(numbers), _FILTER_PARTS):
            for kind in ALL_KINDS:
                self._delete(kind, _in_ranges(map(id_range, part)))
            self._delete("assets", f"number IN ({', '.join(map(str, part))})")

    def _clean_orphans(self, *, thorough: bool = False) -> None:
        """Delete the frames, sounds and assets of numbers that are not visible.

        They are of two sorts: old generations, whose asset rows are deleted last and so tell of
        them; and the number that a killed add was writing, which is above all numbers given.
        ``thorough`` looks at every frame and sound, whatever it is from.
        """
        self._is_clean = False
        visible = set(self.catalog._whole_numbers("programs", "number", "state = 'live'").tolist())
        seen = set(self.catalog._whole_numbers("assets", "number").tolist())
        if thorough:
            for kind in ALL_KINDS:
                seen.update(self.catalog.frame_counts(kind))
        self._delete_numbers(sorted(seen - visible))
        for kind in ALL_KINDS:
            self._delete(kind, f"id >= {id_range(self._next_number())[0]}")
        self._is_clean = True


def _has_names_index(table: Any) -> bool:
    return any(index.name == _NAMES_INDEX for index in table.list_indices())


def refuse_twice(name: str, values: Sequence[str]) -> None:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{name} {twice!r} comes twice in one call")


# ---------------------------------------------------------------- store files and tables


def _connect(place: Place) -> Any:
    options = place.storage_options
    with place.explained():
        return lancedb.connect(place.tables, storage_options=None if options is None else dict(options))


def _has_store_file(place: Place) -> bool:
    try:
        return place.read(_STORE_FILE) is not None
    except OSError:
        return True  # opening it says what is wrong with it


def _check_store_file(place: Place) -> None:
    file = place.name_of(_STORE_FILE)
    try:
        text = place.read(_STORE_FILE)
        if text is None:
            raise CatalogError(
                f"there is no store at {place}. "
                f"Make one with: matcher add --store {place} PROGRAM_ID VIDEO..."
            )
        content = json.loads(text.decode())
        kind, number = content["kind"], int(content["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{file} is damaged ({error!r}). Restore the store from a copy.") from error
    if kind != STORE_KIND:
        raise CatalogError(f"{file} is of kind {kind!r}, not {STORE_KIND!r}. Use another --store.")
    if number != FORMAT:
        remedy = (
            "Update program-matcher" if number > FORMAT else "Make a new store and add the programs again"
        )
        raise CatalogError(f"the store {place} has format {number}, this version reads {FORMAT}. {remedy}.")
    if "tables" not in place.entries():  # lancedb would make it, and a reader must write nothing
        raise CatalogError(f"the store {place} has lost its folder tables. Restore the store from a copy.")


def _make_store(place: Place, model: ModelInfo, wait_seconds: float) -> None:
    """Make what is missing of a store; ``store.json`` comes last, so a store with it is whole."""
    _refuse_foreign(place)
    place.make()
    lock = place.lock()
    lock.acquire(wait_seconds)
    try:
        if _has_store_file(place):
            return  # another process made it while this one waited
        connection = _connect(place)
        schemas = table_schemas(model.d)
        with place.changing():
            _make_tables(connection, schemas)
            # A creation cut off may have been by another model; there are no descriptors yet.
            models = pa.Table.from_pylist([_model_row(model, "frames")], schema=schemas["models"])
            connection.create_table("models", data=models, mode="overwrite")
        content = {"kind": STORE_KIND, "format": FORMAT, "created_at": now_utc()}
        lock.check()
        place.write(_STORE_FILE, (json.dumps(content) + "\n").encode())
    finally:
        lock.release()


def _model_row(model: ModelInfo, kind: Kind) -> dict[str, Any]:
    return {
        "fingerprint": model.fingerprint,
        "name": model.name,
        "d": model.d,
        "config": json.dumps(dict(model.config), sort_keys=True),
        "kind": _MODEL_KINDS[kind],
    }


def _refuse_foreign(place: Place) -> None:
    """A folder with other things in it, given by mistake, must not be filled with tables."""
    # With store.json, another process has made it this moment.
    own = {"store.json", "write.lock", "write.clock", "tables", "cache"}
    foreign = [name for name in place.entries() if name not in own and not name.startswith("store.json.tmp-")]
    if foreign:
        raise CatalogError(
            f"{place} is not a store and not empty (it holds {min(foreign)!r}). Use another --store."
        )


def _upsert(table: Any, key: str) -> Any:
    return table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all()


def _open_table(connection: Any, name: str) -> Any:
    """The table, or None where there is none."""
    try:
        return connection.open_table(name)
    except (ValueError, FileNotFoundError) as error:
        if "not found" in str(error).lower():
            return None
        raise


def _make_tables(connection: Any, schemas: dict[str, pa.Schema]) -> None:
    """Make the tables and columns that are missing; a table's folder without a version is one of them."""
    for name, schema in schemas.items():
        table = _open_table(connection, name)
        if (
            table is not None
            and name in ALL_KINDS
            and table.schema.field("vector").type != schema.field("vector").type
        ):
            # Only before the model is recorded: a making cut off was by a model of another d.
            if name != "embeddings" and table.count_rows():
                d = schema.field("vector").type.list_size
                raise CatalogError(f"the table {name} has vectors of another length than {d}")
            table = None
            connection.drop_table(name)
        if table is None:
            connection.create_table(name, schema=schema)
            continue
        # A store of an earlier version lacks the columns that came since.
        missing = {
            field.name: BEFORE_OF.get(field.name) or BEFORE[field.type]
            for field in schema
            if field.name not in table.schema.names
        }
        if missing:
            table.add_columns(missing)
