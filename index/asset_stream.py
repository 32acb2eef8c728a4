"""Programs on their way into the tables: assets become the columns of descriptors, and are counted.

Shape letters: ``n`` rows, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.base import Vectors
from index.rows import (
    ALL_KINDS,
    LATER_KINDS,
    MAX_FRAMES,
    AssetRecord,
    Kind,
    ModelInfo,
    NewAsset,
    NewProgram,
    ProgramRecord,
    id_range,
    now_utc,
)

#: Rows of descriptors that are handed over at a time.
BATCH_ROWS = 8192

T = TypeVar("T")
Columns = dict[str, Any]


def new_row(program: NewProgram, stream: AssetStream) -> ProgramRecord:
    """The row of a program whose descriptors are written."""
    return ProgramRecord(
        program_id=program.program_id,
        number=stream.number,
        title=program.title,
        aliases=tuple(program.aliases),
        categories=tuple(program.categories),
        added_at=now_utc(),
        state="live",
        source_fingerprint=program.source_fingerprint,
        asset_count=len(stream.records),
        frame_count=stream.counts["frames"],
        sound_count=stream.counts["sounds"],
        embedding_count=stream.counts["embeddings"],
    )


class AssetStream:
    """Turns assets into the columns of ``frames`` and of the later kinds, and keeps their ``assets`` rows.

    A program's frames may be more than memory holds and go through; its sounds and embeddings, far fewer,
    are kept until the frames are through.
    """

    def __init__(
        self,
        program_id: str,
        number: int,
        model: ModelInfo,
        later_models: Mapping[Kind, ModelInfo],
        assets: Iterable[NewAsset],
        check_open: Callable[[], None],
    ) -> None:
        self._check_open = check_open
        self._program_id, self.number = program_id, number
        self._model, self._later_models = model, later_models
        self._assets = assets
        self._later: dict[Kind, list[Run]] = {kind: [] for kind in LATER_KINDS}
        self.records: list[AssetRecord] = []
        self.counts: dict[Kind, int] = dict.fromkeys(ALL_KINDS, 0)
        #: Set when the caller gave up (Ctrl-C): Lance's thread must not commit what it has.
        self.stopped = False

    def frames(self) -> Iterator[Columns]:
        """The frames of all assets; to be read to its end before :meth:`later`."""
        return self._guarded(map(self._take, self._assets))

    def later(self, kind: Kind) -> Iterator[Columns]:
        """What the assets had of a later kind."""
        return self._guarded(iter(self._later[kind]))

    def _guarded(self, runs: Iterator[Run]) -> Iterator[Columns]:
        for run in runs:
            for start in range(0, run.t_seconds.size, BATCH_ROWS):
                self._heed_the_caller()
                yield run_columns(run, slice(start, start + BATCH_ROWS), self._program_id, self.number)
        self._heed_the_caller()

    def _heed_the_caller(self) -> None:
        if self.stopped:
            raise RuntimeError("the caller gave up")
        # The last look is after the last batch: Lance commits next.
        self._check_open()

    def _take(self, asset: NewAsset) -> Run:
        """Book the asset and keep its sounds; returns its frames."""
        if asset.vectors.shape[1] != self._model.d:
            raise ValueError(
                f"asset {asset.asset_id} has d = {asset.vectors.shape[1]}, the store d = {self._model.d}"
            )
        if any(asset.asset_id == record.asset_id for record in self.records):
            raise ValueError(f"asset id {asset.asset_id!r} comes twice in program {self._program_id!r}")
        frames = self._run("frames", asset.asset_id, self._model, asset.t_seconds, asset.vectors)
        sound_count = self._keep("sounds", asset.asset_id, asset.sound)
        embedding_count = self._keep("embeddings", asset.asset_id, asset.embedding)
        self.records.append(
            AssetRecord(
                program_id=self._program_id,
                number=self.number,
                asset_id=asset.asset_id,
                path=asset.path,
                title=asset.title,
                duration_seconds=float(asset.duration_seconds),
                frame_count=int(asset.t_seconds.size),
                ordinal=len(self.records),
                sound_count=sound_count,
                embedding_count=embedding_count,
            )
        )
        return frames

    def _keep(self, kind: Kind, asset_id: str, given: tuple[NDArray[np.float64], Vectors] | None) -> int:
        """Keep an asset's vectors of a later kind; returns how many there are."""
        if given is None:
            return 0
        t_seconds, vectors = given
        model = check_later(kind, f"asset {asset_id}", vectors, self._later_models.get(kind))
        # Copies: what gives the assets may use its arrays again.
        own = t_seconds.astype(np.float64), vectors.astype(np.float16)
        self._later[kind].append(self._run(kind, asset_id, model, *own))
        return int(t_seconds.size)

    def _run(
        self,
        kind: Kind,
        asset_id: str,
        model: ModelInfo,
        t_seconds: NDArray[np.float64],
        vectors: NDArray[np.floating],
    ) -> Run:
        """Give ids to an asset's descriptors of one kind: they follow those of the assets before it."""
        before, n = self.counts[kind], int(t_seconds.size)
        if before + n > MAX_FRAMES:
            raise ValueError(f"program {self._program_id!r} has more than {MAX_FRAMES} {kind}")
        self.counts[kind] = before + n
        return Run(asset_id, model, id_range(self.number)[0] + before, t_seconds, vectors)


def run_columns(run: Run, rows: slice, program_id: str, number: int) -> Columns:
    """Some rows of one run as the columns of its table."""
    vectors = np.ascontiguousarray(run.vectors[rows], dtype=np.float16)
    n = vectors.shape[0]
    return {
        "id": np.arange(run.first_id + rows.start, run.first_id + rows.start + n, dtype=np.int64),
        "program_id": [program_id] * n,
        "asset_id": [run.asset_id] * n,
        "t_seconds": np.asarray(run.t_seconds[rows], dtype=np.float64),
        "model": [run.model.fingerprint] * n,
        "generation": np.full(n, number, dtype=np.int64),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), run.model.d),
    }


def remembering(rows: Iterator[T], failures: list[Exception]) -> Iterator[T]:
    """The same rows; what going on raises is kept in ``failures``."""
    try:
        yield from rows
    except Exception as error:  # not where Lance closes it because of an error of its own
        failures.append(error)
        raise


def embedding_batches(
    model: ModelInfo,
    programs: Iterable[tuple[int, Sequence[tuple[NDArray[np.float64], Vectors]]]],
    assets: Mapping[int, Sequence[AssetRecord]],
    counts: Mapping[int, list[int]],
    schema: pa.Schema,
    check_open: Callable[[], None],
) -> Iterator[pa.RecordBatch]:
    """The rows of the embeddings of programs that are there; ``counts`` are set as they go by."""
    seen: set[int] = set()
    for number, given in programs:
        if number in seen or number not in assets or len(given) != len(assets[number]):
            raise ValueError(f"number {number} comes twice, is not there, or has other assets than given")
        seen.add(number)
        check_open()
        first = id_range(number)[0]
        for place, (asset, (t_seconds, vectors)) in enumerate(zip(assets[number], given, strict=True)):
            check_later("embeddings", f"asset {asset.asset_id}", vectors, model)
            n = counts[number][place] = int(t_seconds.size)
            run = Run(asset.asset_id, model, first, t_seconds, vectors)
            first += n
            if n:
                yield pa.record_batch(run_columns(run, slice(0, n), asset.program_id, number), schema=schema)


@dataclass(frozen=True, eq=False)
class Run:
    """The descriptors of one kind of one asset, with the id of the first; the others follow."""

    asset_id: str
    model: ModelInfo
    first_id: int
    t_seconds: NDArray[np.float64]
    vectors: NDArray[np.floating]


def check_later(kind: Kind, whose: str, vectors: Vectors, model: ModelInfo | None) -> ModelInfo:
    """Refuse sounds or embeddings that the store cannot hold; returns their model."""
    what, use = ("sound", "use_sound") if kind == "sounds" else ("embedding", "replace_embeddings")
    if model is None:
        raise ValueError(f"{whose} has {what}, the store none: call Writer.{use} first")
    if vectors.shape[1] != model.d:
        raise ValueError(f"{whose} has {what}s of d = {vectors.shape[1]}, the store of d = {model.d}")
    return model
