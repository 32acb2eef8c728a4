"""Keeps FAISS in step with the catalog: a base from a snapshot, a tail from the tables, and gaps.

One index is of one kind of vector: of the table ``frames``, which the words here speak of, or of
``sounds`` or ``embeddings``, where all is the same but for the model, the counts and the folder of the cache.

The tables are the truth. What is kept here is named by program *numbers*: opening, and every
refresh, takes out the numbers that the catalog no longer shows and reads in those that are new. So
a snapshot of any age is good, and nothing relies on what Lance calls a version.

Only a writer saves, and only when a tenth of the base has changed: adding one program to a large
catalog writes that program and nothing else.

Shape letters: ``nq`` queries, ``n`` frames, ``na`` assets, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index import drift
from index.base import Ids, SearchResult, Vectors
from index.drift import Drift, Training
from index.engines import TRAIN_PER_LIST, choose_kind, choose_nlist
from index.errors import CatalogError, IndexStoreError
from index.half import widened
from index.rows import ORDINAL_BITS, AssetRecord, Kind, ProgramRecord, count_of, id_range
from index.selectors import Range, merged
from index.serving import EnginePlan, Trained, answer, asked, spread
from index.shards import Engine, devices_of, new_engine, read_engine, write_engine
from index.snapshot import (
    SavedIndex,
    Snapshot,
    SnapshotError,
    cache_folder,
    current_name,
    load_snapshot,
    read_manifest,
    save_snapshot,
)
from index.state import Key, State, check_assets, exclusive_cumsum, first_ids, key_of, keys_of, read_frames
from index.turns import Turns
from index.view import BLOCK_ROWS, CatalogView, FrameInfo, LiveView

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer

_log = logging.getLogger(__name__)

#: Part of the base that may be new or gone before a writer saves a new one.
SAVE_ABOVE = 0.1
#: Attempts to read a state of the tables that no writer changes meanwhile.
_ATTEMPTS = 3
#: Rows that a refresh puts into inverted lists while searches wait: some 40 ms on one core.
_ADD_ROWS = 2048


class LiveIndex:
    """Search over what the catalog shows; open with :meth:`open`.

    Searches and a refresh may come from several threads: a search waits for a refresh to put some
    frames in, not for it to put in all or to read them. A thread that needs positions to stay good
    over several calls takes :attr:`view` once and asks that.
    """

    def __init__(self, catalog: Catalog, plan: EnginePlan, table: Kind) -> None:
        if catalog.model_of(table) is None:
            catalog.refresh()  # the first sounds may have come since
        model = catalog.model_of(table)
        if model is None:
            raise ValueError(f"the store {catalog.place} holds no {table}: no model of them was ever named")
        self._catalog = catalog
        self._plan = plan
        self._devices = devices_of(plan.device, plan.shards)
        self._table, self._model = table, model
        self._cache = cache_folder(catalog.place.cache_root(), self._model.fingerprint)
        self._changing = threading.RLock()
        self._using_faiss = Turns()
        #: Numbers of which FAISS holds frames that :attr:`view` does not show yet.
        self._arriving: tuple[int, ...] = ()
        self._view = self._empty_view()
        self._faiss = self._new_engine("flat")
        self._training: Training | None = None
        self._drift: Drift | None = None
        self._saved_training: Training | None = None
        self._snapshot_name: str | None = None

    @classmethod
    def open(
        cls,
        catalog: Catalog,
        *,
        kind: str | None = None,
        device: str = "cpu",
        shards: int | None = None,
        nprobe: int | None = None,
        table: Kind = "frames",
    ) -> LiveIndex:
        """Load the snapshot, if a good one is there, and bring it to what the catalog shows.

        Writes nothing. A snapshot that is damaged or foreign is warned of, and everything is read
        from the tables.

        Args:
            catalog: The store; it is refreshed.
            kind: One of :data:`index.engines.KINDS`; default by the number of frames.
            device: "cpu", "cuda" (all GPUs there are) or "cuda:N". Where no GPU is there, or the index
                does not fit on it, the CPU serves, with a line of warning.
            shards: Parts that the programs are dealt to; default one, or one for each GPU.
            nprobe: Inverted lists to visit; default by rule.
            table: What to search. Programs and assets are the same, at the same positions, for every kind.

        Raises:
            BackendMissingError: FAISS, or the GPU of that number, is not there.
            CatalogError: The tables are damaged.
            ValueError: The store holds none of that kind, or an argument is out of range.
        """
        live = cls(catalog, EnginePlan(kind, device, shards, nprobe), table)
        live._start(live._load_snapshot())
        return live

    # ------------------------------------------------------------ reading

    @property
    def view(self) -> LiveView:
        """The state of the last refresh; it never changes itself."""
        return self._view

    @property
    def version(self) -> int:
        """The catalog's version shown."""
        return self._view.version

    @property
    def ntotal(self) -> int:
        """Frames that a search can return."""
        return self._view.ntotal

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        return self._model.d

    @property
    def table(self) -> Kind:
        """What is searched: "frames" or "sounds"."""
        return self._table

    @property
    def kind(self) -> str:
        """The FAISS index's kind."""
        return self._faiss.kind

    @property
    def programs(self) -> tuple[str, ...]:
        """Program ids by position."""
        return self._view.programs

    @property
    def program_records(self) -> tuple[ProgramRecord, ...]:
        """Programs by position."""
        return self._view.program_records

    @property
    def assets(self) -> tuple[AssetRecord, ...]:
        """Assets by position."""
        return self._view.assets

    @property
    def training(self) -> Training | None:
        """When the centroids were made; None for a kind without any."""
        return self._training

    @property
    def drift(self) -> Drift | None:
        """How the index stood when a snapshot was last written; None for a kind without centroids."""
        return self._drift

    def search(self, xq: Vectors, k: int, *, within: Sequence[Range] | None = None) -> SearchResult:
        """The k nearest frames of each row of ``xq`` (nq, d); see :class:`index.base.VectorIndex`.

        Args:
            xq: (nq, d) queries.
            k: Neighbours.
            within: Half-open ranges of ids that alone are found; :class:`index.subset.Subset` makes them
                of programs.

        Raises:
            ValueError: ``xq`` is not (nq, d) or not finite, or ``k`` < 1.
        """
        return self._search(xq, k, within)[0]

    def _search(
        self, xq: Vectors, k: int, within: Sequence[Range] | None = None
    ) -> tuple[SearchResult, LiveView]:
        """As :meth:`search`, with the state that was searched."""
        with self._using_faiss:
            found = asked(self._faiss, xq, k, within, self._arriving)
            kind, view = self._faiss.kind, self._view
        return answer(kind, view, xq, k, found), view

    def locate(self, ids: Ids) -> FrameInfo:
        """Where frames are from; see :meth:`LiveView.locate`."""
        return self._view.locate(ids)

    def frames_of_asset(self, asset_position: int) -> tuple[Ids, NDArray[np.float64], Vectors]:
        """All frames of one asset; see :meth:`LiveView.frames_of_asset`."""
        return self._view.frames_of_asset(asset_position)

    def frames_between(
        self, asset_position: int, start_seconds: float, stop_seconds: float
    ) -> tuple[Ids, NDArray[np.float64], Vectors]:
        """Some frames of one asset; see :meth:`LiveView.frames_between`."""
        return self._view.frames_between(asset_position, start_seconds, stop_seconds)

    # ------------------------------------------------------------ keeping in step

    def refresh(self) -> bool:
        """Show what was committed since; returns whether anything changed.

        Raises:
            CatalogError: The tables are damaged; the former state is still shown, as it is after any other
                error but one in the midst of taking vectors out: then nothing is, until the next refresh.
        """
        with self._changing:
            if self._view.version < 0:  # nothing is shown
                self._start(self._load_snapshot())
                return True
            if self._catalog.refresh() == self._view.version:
                return self._adopt_snapshot()
            old = self._view
            held = {asset.number for asset in old.assets}
            state = self._read_state(held)
            view = _extended(old, _rows_of_view(old), state)
            gone = sorted(held - {record.number for record in state.programs})
            self._change_faiss(view, gone, new_from=old.row_seconds.size)
            self._adopt_snapshot()
            return True

    def retrain(self, writer: Writer) -> None:
        """Make centroids of what there is now, beside the index that answers, and swap; save a snapshot.

        Other processes take the new centroids from the snapshot at their next :meth:`refresh`. A kind
        without centroids is made anew all the same.

        Raises:
            CatalogError: The tables are damaged.
            ValueError: The writer is another store's, or its lock is released.
        """
        with self._changing:
            self._check_writer(writer)
            self.refresh()
            self._show(self._view, self._build_faiss(self._view, self._kind_for(self._view)))
            self._save()

    def rebuild(self, writer: Writer | None = None) -> None:
        """Read everything from the tables and train anew; with a writer, also save it.

        Raises:
            CatalogError: The tables are damaged.
            ValueError: The writer is another store's, or its lock is released.
        """
        with self._changing:
            if writer is not None:
                self._check_writer(writer)
            self._start(None)
            if writer is not None:
                self._save()

    def save(self, writer: Writer, *, force: bool = False) -> bool:
        """Refresh, and write a snapshot if a tenth of the last one is new or gone.

        Args:
            writer: Shows that the store's lock is held.
            force: Write one in any case.

        Returns:
            Whether one was written.

        Raises:
            CatalogError: The tables are damaged.
            ValueError: The writer is another store's, or its lock is released.
        """
        with self._changing:
            self._check_writer(writer)
            self.refresh()
            if not (force or self._save_is_due()):
                return False
            kind = self._kind_for(self._view)
            if kind != self.kind:
                self._show(self._view, self._build_faiss(self._view, kind))
            self._save()
            return True

    def _kind_for(self, view: LiveView) -> str:
        return self._plan.kind or choose_kind(view.ntotal)

    def verify(self, *, full: bool = False, sample: int | None = None) -> list[str]:
        """Refresh, and compare the cache with the tables.

        Args:
            full: Compare every time and every vector, in this index, in FAISS and (by checksum) in
                the snapshot; else only which frames there are.
            sample: Compare times and vectors of so many programs, drawn anew each time.

        Returns:
            One line for each difference; empty when they are equal.
        """
        with self._changing:
            problems = self._verify_snapshot(full)
            try:
                self.refresh()
                problems += self._verify_rows()
                numbers = [record.number for record in self._view.program_records]
                if not full:
                    drawn = min(len(numbers), sample or 0)
                    numbers = np.random.default_rng().choice(numbers, drawn, replace=False).tolist()
                if numbers:
                    problems += self._verify_tables_by_value(numbers)
            except CatalogError as error:
                return [*problems, str(error)]
            return problems + self._verify_faiss(numbers)

    # ------------------------------------------------------------ inside: starting

    def _empty_view(self) -> LiveView:
        nothing = np.zeros(0, dtype=np.int64)
        vectors = np.zeros((0, self._model.d), dtype=np.float16)
        return LiveView(
            version=-1,
            program_records=(),
            assets=(),
            program_position=np.zeros(0, dtype=np.int32),
            first_id=nothing,
            first_row=nothing,
            frame_count=nothing,
            row_seconds=np.zeros(0, dtype=np.float64),
            base=vectors,
            tail=vectors,
        )

    def _load_snapshot(self) -> Snapshot | None:
        try:
            self._snapshot_name = current_name(self._cache)
            return load_snapshot(self._cache, fingerprint=self._model.fingerprint, d=self._model.d)
        except SnapshotError as error:
            _log.warning("%s; reading everything from the tables (matcher index rebuild repairs it)", error)
            return None

    def _start(self, snapshot: Snapshot | None) -> None:
        """Take the state of the catalog, with what the snapshot holds of it."""
        view = None
        if snapshot is not None:
            try:
                view = self._view_on(snapshot)
                self._snapshot_name = snapshot.folder.name
            except SnapshotError as error:
                _log.warning("%s; reading everything from the tables", error)
                snapshot = None
        if view is None:
            view = _extended(self._empty_view(), {}, self._read_state(set()))
        engine = self._read_faiss(snapshot, view) if snapshot is not None else None
        if engine is None and snapshot is not None and self._is_replaced(snapshot):
            self._start(self._load_snapshot())  # another process saved meanwhile
            return
        if engine is None:
            # What was right for fewer stays right for a while: only a save turns to another kind.
            kind = self._plan.kind or (snapshot.kind if snapshot else choose_kind(view.ntotal))
            engine = self._build_faiss(view, kind)
        self._saved_training = snapshot.training if snapshot else None
        self._show(view, engine)

    def _is_replaced(self, snapshot: Snapshot) -> bool:
        try:
            return current_name(self._cache) not in (None, snapshot.folder.name)
        except SnapshotError:
            return False

    def _new_engine(self, kind: str) -> Engine:
        return new_engine(self._model.d, kind, self._devices, nprobe=self._plan.nprobe)

    def _view_on(self, snapshot: Snapshot) -> LiveView:
        """The catalog's state with the snapshot as the base and the rest read from the tables.

        Raises:
            SnapshotError: The tables give a number of the snapshot other frames.
        """
        state = self._read_state(set(np.unique(snapshot.assets[:, 0]).tolist()))
        base = replace(self._empty_view(), base=snapshot.vectors, row_seconds=snapshot.t_seconds)
        return _extended(base, _rows_of_snapshot(snapshot, state.assets, self._table), state)

    def _adopt_snapshot(self) -> bool:
        """Move this reader to a newer snapshot, so that its tail does not grow for ever.

        FAISS stays as it is, for frames keep their ids and only where their rows lie changes; unless
        another process has made new centroids. Returns whether it did.
        """
        try:
            name = current_name(self._cache)
            if name in (None, self._snapshot_name):
                return False
            self._snapshot_name = name  # good or not, it is looked at once
            saved = read_manifest(self._cache)
            is_new = saved is not None and saved.training not in (None, self._training)
            snapshot = load_snapshot(
                self._cache, fingerprint=self._model.fingerprint, d=self._model.d, with_index=is_new
            )
            if snapshot is None:
                return False
            self._move_to(snapshot)
        except SnapshotError:
            return False  # the next open warns of it; this reader has all it needs
        engine = self._read_faiss(snapshot, self._view) if is_new else None
        if engine is None:
            return False
        self._saved_training = snapshot.training
        self._show(self._view, engine)
        return True

    def _move_to(self, snapshot: Snapshot) -> None:
        """Show the same state with the snapshot as the base; the tail is what it lacks."""
        old = self._view
        held = set(np.unique(snapshot.assets[:, 0]).tolist())
        new = tuple(asset for asset in old.assets if asset.number not in held)
        old_rows = _rows_of_view(old)
        starts = [(old_rows[key_of(asset)], count_of(asset, self._table)) for asset in new]
        spans = [np.arange(row, row + count) for row, count in starts]
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *spans])
        state = State(
            self._table,
            old.version,
            old.program_records,
            old.assets,
            new,
            old.row_seconds[rows],
            old.vectors_at(rows),
        )
        base = replace(self._empty_view(), base=snapshot.vectors, row_seconds=snapshot.t_seconds)
        self._view = _extended(base, _rows_of_snapshot(snapshot, old.assets, self._table), state)
        self._snapshot_name = snapshot.folder.name

    def _read_faiss(self, snapshot: Snapshot, view: LiveView) -> Trained | None:
        """The snapshot's FAISS index brought to ``view``; None where it is better made anew."""
        if self._plan.kind not in (None, snapshot.kind) or not snapshot.index_files:
            return None
        # As many shards as it has, unless somebody wants another number.
        shards = self._plan.shards or len(snapshot.index_files)
        try:
            devices = devices_of(self._plan.device, shards)
            faiss = read_engine(snapshot.index_files, devices, nprobe=self._plan.nprobe)
        except IndexStoreError as error:
            _log.warning("%s; making the FAISS index anew", error)
            return None
        shown = {record.number for record in view.program_records}
        gone = sorted(set(np.unique(faiss.ids >> ORDINAL_BITS).tolist()) - shown)
        if gone:
            faiss.remove_ranges([id_range(number) for number in gone])
        for ids, rows in _new_parts(view, view.base.shape[0], BLOCK_ROWS):
            faiss.add(widened(view.vectors_at(rows)), ids)
        if not np.array_equal(faiss.ids, view.live_rows()[0]):
            _log.warning(
                "snapshot %s: its FAISS index holds other %s; making it anew",
                snapshot.folder.name,
                self._table,
            )
            return None
        return Trained(faiss, snapshot.training, snapshot.drift)

    def _build_faiss(self, view: LiveView, kind: str) -> Trained:
        engine = self._new_engine(kind)
        if kind != "flat" and view.ntotal:
            _, rows = view.live_rows()
            # As many as train() uses for the lists of so many vectors, spread evenly.
            wanted = min(rows.size, TRAIN_PER_LIST * choose_nlist(rows.size))
            engine.train(widened(spread(view, wanted)), expected=view.ntotal)
        for ids, vectors in view.blocks():
            engine.add(widened(vectors), ids)
        if kind == "flat" or not engine.is_trained:
            return Trained(engine, None, None)
        return Trained(engine, Training.of_now(view.ntotal, engine.imbalance), None)

    # ------------------------------------------------------------ inside: changing

    def _show(self, view: LiveView, trained: Trained) -> None:
        with self._using_faiss:
            self._faiss, self._training, self._drift = trained.engine, trained.training, trained.drift
            self._view = view

    def _change_faiss(self, view: LiveView, gone: Sequence[int], *, new_from: int) -> None:
        """Put rows from ``new_from`` in, then take gone numbers out and show ``view`` at once.

        Rows go in few at a time with searches between them, which do not see them yet.
        """
        if not self._faiss.is_trained:
            # Centroids are wanted from as many vectors as there are.
            self._show(view, self._build_faiss(view, self.kind))
            return
        is_taking_out = False
        try:
            # A flat index takes them at once.
            size = BLOCK_ROWS if self.kind == "flat" else _ADD_ROWS
            *first, last = _new_parts(view, new_from, size)
            for ids, rows in first:
                vectors = widened(view.vectors_at(rows))
                with self._using_faiss:
                    self._arriving += tuple(np.unique(ids >> ORDINAL_BITS).tolist())
                    self._faiss.add(vectors, ids)
            ids, rows = last
            vectors = widened(view.vectors_at(rows))
            with self._using_faiss:
                self._faiss.add(vectors, ids)
                is_taking_out = True
                if gone:
                    self._faiss.remove_ranges([id_range(number) for number in gone])
                self._view, self._arriving = view, ()
        except BaseException:
            # Memory ran out, or Ctrl-C.
            self._undo(view, new_from, is_half_gone=is_taking_out)
            raise

    def _undo(self, view: LiveView, new_from: int, *, is_half_gone: bool) -> None:
        """Take out what came of ``view``; where that fails too, or old frames are gone, show nothing."""
        new = np.unique(view.first_id[view.first_row >= new_from] >> ORDINAL_BITS).tolist()
        with self._using_faiss:
            try:
                if is_half_gone:
                    raise RuntimeError("what was taken out cannot be put back")
                self._faiss.remove_ranges([id_range(number) for number in new])
            except Exception:
                self._faiss = self._new_engine("flat")
                self._training = self._drift = None
                self._view = self._empty_view()
            self._arriving = ()

    def _check_writer(self, writer: Writer) -> None:
        writer.check_open()
        if not writer.catalog.place.same_as(self._catalog.place):
            raise ValueError(f"the writer is of {writer.catalog.place}, this index of {self._catalog.place}")

    def _save_is_due(self) -> bool:
        view = self._view
        base, tail = view.base.shape[0], view.tail.shape[0]
        gone = base + tail - view.ntotal
        # Centroids that are not saved would be made at each opening.
        due: bool = max(tail, gone) > SAVE_ABOVE * base or self._training != self._saved_training
        return due

    def _save(self) -> None:
        view, faiss = self._view, self._faiss
        if self._training is not None:
            self._drift = drift.measure(
                view.blocks,
                spread(view, drift.N_QUERIES),
                lambda xq, k: self._search(xq, k)[0],
                faiss.imbalance,
                view.ntotal,
            )
        snapshot = save_snapshot(
            self._cache,
            fingerprint=self._model.fingerprint,
            d=self._model.d,
            version=view.version,
            kind=self.kind,
            assets=keys_of(view.assets, self._table),
            t_seconds=view.row_seconds[view.live_rows()[1]],
            vector_blocks=(vectors for _, vectors in view.blocks()),
            write_index=None if self._training is None else partial(write_engine, faiss),
            training=self._training,
            drift=self._drift,
        )
        self._saved_training = self._training
        self._move_to(snapshot)

    # ------------------------------------------------------------ inside: the tables

    def _read_state(self, held: set[int]) -> State:
        """Programs, assets, and the frames of the numbers not ``held``, all of one moment.

        A replace or a compaction by another process may delete rows between two reads; that shows
        as rows that are missing, and reading anew finds the state after it.
        """
        for attempt in range(_ATTEMPTS):
            version = self._catalog.refresh()
            try:
                state = self._read_tables(version, held)
            except CatalogError:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if self._catalog.version() == version:
                return state
        raise CatalogError(f"the store {self._catalog.place} changes while it is read; try again")

    def _read_tables(self, version: int, held: set[int]) -> State:
        """What :meth:`_read_state` reads at one attempt."""
        model = self._catalog.model_of(self._table)
        if model is None or model.fingerprint != self._model.fingerprint:
            raise CatalogError(
                f"the {self._table} of the store {self._catalog.place} are another model's now; open it anew"
            )
        programs, assets = self._catalog.programs(), self._catalog.assets()
        check_assets(programs, assets, self._table)
        new = tuple(asset for asset in assets if asset.number not in held)
        seconds, vectors = read_frames(self._catalog, new, self._table, self._model.d)
        return State(self._table, version, tuple(programs), tuple(assets), new, seconds, vectors)

    # ------------------------------------------------------------ inside: verifying

    @property
    def _frames_view(self) -> CatalogView:
        """The state by frames, as the tables count them."""
        return self._view

    def _verify_snapshot(self, full: bool) -> list[str]:
        try:
            load_snapshot(self._cache, fingerprint=self._model.fingerprint, d=self._model.d, thorough=full)
        except SnapshotError as error:
            return [str(error)]
        return []

    def _verify_rows(self) -> list[str]:
        """Whether the tables have as many frames of each program as this index shows."""
        counts = self._catalog.frame_counts(self._table)
        shown = {record.number: record for record in self._catalog.programs()}
        held: dict[int, int] = {}
        for asset, count in zip(
            self._frames_view.assets, self._frames_view.frame_count.tolist(), strict=True
        ):
            held[asset.number] = held.get(asset.number, 0) + count
        problems = []
        for number, record in shown.items():
            in_table, here = counts.get(number, 0), held.pop(number, 0)
            if in_table != here:
                problems.append(
                    f"program {record.program_id!r}: the tables hold {in_table} {self._table}, "
                    f"the index {here}"
                )
        problems += [f"number {number}: in the index, but not in the tables" for number in held]
        return problems

    def _verify_tables_by_value(self, numbers: Sequence[int]) -> list[str]:
        """Whether every frame of these programs in the tables is here with its asset, time and vector."""
        view = self._view
        wrong: dict[str, int] = {}
        names = {record.number: record.program_id for record in view.program_records}
        asset_ids = np.array([asset.asset_id for asset in view.assets] + [""], dtype=object)
        for batch in self._catalog.iter_frames(numbers, with_asset_ids=True, kind=self._table):
            info = view.locate(batch.ids)
            known = info.asset_position >= 0
            rows = np.where(known, view.rows_at(batch.ids, info.asset_position), 0)
            same = known & (asset_ids[info.asset_position] == np.array(batch.asset_ids, dtype=object))
            same &= info.t_seconds == batch.t_seconds
            if view.row_seconds.size:
                same &= (view.vectors_at(rows) == batch.vectors).all(axis=1)
            for number in (batch.ids[~same] >> ORDINAL_BITS).tolist():
                wrong[names[number]] = wrong.get(names[number], 0) + 1
        return [f"program {name!r}: {n} {self._table} differ from the tables" for name, n in wrong.items()]

    def _verify_faiss(self, numbers: Sequence[int]) -> list[str]:
        """Whether FAISS holds the ids of all programs, and the vectors of these."""
        view, faiss = self._view, self._faiss
        if not np.array_equal(faiss.ids, view.live_rows()[0]):
            return [f"FAISS holds {faiss.ntotal} {self._table} that are not the {view.ntotal} of the tables"]
        within = merged([id_range(number) for number in numbers])
        wrong = faiss.count_wrong(lambda ids: widened(view.vectors_of(ids)), within)
        return [f"FAISS holds other vectors for {wrong} {self._table}"] if wrong else []


# ---------------------------------------------------------------- functions of the above


def saved_index(catalog: Catalog, fingerprint: str) -> SavedIndex | None:
    """What the saved cache of a model's descriptors says of itself, without loading it; None without one."""
    return read_manifest(cache_folder(catalog.place.cache_root(), fingerprint))


def _rows_of_view(view: LiveView) -> dict[Key, int]:
    return {key_of(asset): row for asset, row in zip(view.assets, view.first_row.tolist(), strict=True)}


def _rows_of_snapshot(snapshot: Snapshot, assets: Sequence[AssetRecord], table: Kind) -> dict[Key, int]:
    """The row of each of the snapshot's assets.

    Raises:
        SnapshotError: ``assets``, from the tables, give one of its numbers other assets or counts.
    """
    numbers = set(snapshot.assets[:, 0].tolist())
    live = keys_of([asset for asset in assets if asset.number in numbers], table)
    held = snapshot.assets[np.isin(snapshot.assets[:, 0], live[:, 0])]
    if not np.array_equal(held, live):
        raise SnapshotError(f"snapshot {snapshot.folder.name}: its programs have other {table} in the tables")
    rows = exclusive_cumsum(snapshot.assets[:, 2]).tolist()
    keys = snapshot.assets[:, :2].tolist()
    return {(number, ordinal): row for (number, ordinal), row in zip(keys, rows, strict=True)}


def _extended(old: LiveView, old_rows: dict[Key, int], state: State) -> LiveView:
    """The view of ``state``: rows that ``old`` has stay where they are, new ones go to the end."""
    starts = exclusive_cumsum(keys_of(state.new, state.table)[:, 2])
    rows = dict(old_rows)
    for asset, start in zip(state.new, (starts + old.row_seconds.size).tolist(), strict=True):
        rows[key_of(asset)] = start
    position = {record.number: i for i, record in enumerate(state.programs)}
    keys = keys_of(state.assets, state.table)
    return LiveView(
        version=state.version,
        program_records=state.programs,
        assets=state.assets,
        program_position=np.array([position[asset.number] for asset in state.assets], dtype=np.int32),
        first_id=first_ids(keys),
        first_row=np.array([rows[key_of(asset)] for asset in state.assets], dtype=np.int64),
        frame_count=keys[:, 2],
        row_seconds=np.concatenate([old.row_seconds, state.seconds]),
        base=old.base,
        tail=np.concatenate([old.tail, state.vectors]),
    )


def _new_parts(view: LiveView, new_from: int, size: int) -> list[tuple[Ids, NDArray[np.int64]]]:
    """(m,) ids and rows of the live frames at rows ``new_from`` and above; one part or more."""
    ids, rows = view.live_rows(view.first_row >= new_from)
    parts = [slice(start, start + size) for start in range(0, max(ids.size, 1), size)]
    return [(ids[part], rows[part]) for part in parts]
