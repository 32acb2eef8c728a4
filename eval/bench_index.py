"""What an engine of the index costs beside raw FAISS of the same type, centroids and parameters.

The vectors are made up as a catalogue's are: a program is a bundle of scenes, a scene some frames that
differ by noise, and what is asked are noisy copies of stored frames, as an edit leaves them. Raw FAISS is the
very index that ours is built around, called without it, so that memory is taken once (on a GPU: FAISS's own
clone of it there); what is added goes to a second one with the same centroids. Both sides take turns, so that
a ratio is of one run. A compressed kind is asked for as many candidates on both sides, and ours ranks them
anew from vectors in a file beside it.

=============  ====================================================================================
``search``     our search over raw FAISS's, at each batch size: at most 1.10; 1.3 with a rerank
``recall``     of the 10 nearest, against brute force over all vectors: at least 0.99
``add``        raw time over ours, of programs added one by one: at least 0.85
``remove``     one program out of all, in milliseconds
``open``       bandwidth of opening a file over that of reading it: at least 0.5
``bytes``      of the file a vector, and what they are by computation
``memory``     the most that the process held so far, in GB: at most 12 at 10 million
``LanceDB``    its own approximate search over ours, at the least effort that recalls as much
=============  ====================================================================================

Shape letters: ``n`` vectors, ``nq`` queries, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench import processor_name, take_turns
from index.base import Ids, SearchResult, Vectors
from index.drift import near, recall_of
from index.engines import (
    COMPRESSED,
    TRAIN_PER_LIST,
    candidates_for,
    choose_kind,
    choose_nlist,
    engine_bytes,
)
from index.exact import as_vectors, search_blocks
from index.faiss_backend import FaissIndex, describe, gpu_number, load_faiss
from index.gpu import card_name
from index.rerank import reranked
from index.rows import MAX_FRAMES, ORDINAL_BITS

D, K = 512, 10
#: Frames of a program and of a scene; how alike a scene's frames are to its middle, and a query to its
#: frame.
PROGRAM_FRAMES, SCENE_FRAMES = 1000, 20
SCENE_COSINE, QUERY_COSINE = 0.9, 0.85
#: How alike the scenes of one program are to its own middle.
PROGRAM_COSINE = 0.5
BATCHES = (1, 64, 1024)
#: Programs that are added to both sides, and that are taken out, one by one.
ADDED_TO_BOTH, N_CHANGES = 200, 8
QUERIES_FOR_RECALL = 256
#: LanceDB takes seconds for so many, at each of several efforts.
QUERIES_FOR_LANCE = 32

SEARCH_GOAL, RERANK_GOAL, RECALL_GOAL, ADD_GOAL, REMOVE_GOAL_MS, OPEN_GOAL = 1.10, 1.3, 0.99, 0.85, 15.0, 0.5
MEMORY_GOAL_GB = 12.0
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Ratio:
    """One figure of a table.

    Attributes:
        name: What was done.
        ours: Seconds, or what ``unit`` says.
        raw: Likewise, of what it is held against; None where there is nothing.
        ratio: The figure that the goal is for.
        goal: What it should be, in words.
        is_met: Whether it is; None where nothing is asked.
        unit: Of ``ours`` and ``raw``.
    """

    name: str
    ours: float
    raw: float | None
    ratio: float
    goal: str
    is_met: bool | None
    unit: str = "s"


@dataclass(frozen=True)
class IndexBench:
    """What one run found.

    Attributes:
        n: Vectors stored.
        d: Dimensions.
        kind: Of the index.
        device: Where it searched.
        nlist: Inverted lists; 0 for none.
        rows: The figures.
        machine: Processor, FAISS and, where one searched, the GPU's name.
        seed: Of the vectors.
    """

    n: int
    d: int
    kind: str
    device: str
    nlist: int
    rows: tuple[Ratio, ...]
    machine: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return asdict(self)


def parse_size(words: str) -> int:
    """A number of vectors, as "100k", "1M" or "5000".

    Raises:
        ValueError: It is none, or below one program.
    """
    unit = words[-1:] if words[-1:] in ("k", "M") else ""
    try:
        n = int(float(words.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, OverflowError):
        raise ValueError(f"{words!r} is no number of vectors; write 100k, 1M or 10M") from None
    if n < PROGRAM_FRAMES:
        raise ValueError(f"{words!r} is less than one program of {PROGRAM_FRAMES} frames")
    return n


# --- Vectors ---


def program_vectors(number: int, n: int, d: int, seed: int) -> Vectors:
    """(n, d) the frames of one program, each as a store rounds it; the same whichever others there are."""
    rng = np.random.default_rng([seed, 1, number])
    middle = near(np.zeros((1, d), np.float32), 0.0, rng)
    n_scenes = -(-n // SCENE_FRAMES)
    scenes = near(np.repeat(middle, n_scenes, axis=0), PROGRAM_COSINE, rng)
    frames = near(np.repeat(scenes, SCENE_FRAMES, axis=0)[:n], SCENE_COSINE, rng)
    return frames.astype(np.float16).astype(np.float32)


def programs(n: int, d: int, seed: int) -> Iterator[tuple[Ids, Vectors]]:
    """Ids and vectors of as many programs as ``n`` frames make, one after the other."""
    for number in range(-(-n // PROGRAM_FRAMES)):
        size = min(PROGRAM_FRAMES, n - number * PROGRAM_FRAMES)
        yield program_ids(number, size), program_vectors(number, size, d, seed)


def program_ids(number: int, n: int) -> Ids:
    """(n,) ids of a program's frames, as a store gives them; numbers begin at 1 there."""
    first = (number + 1) << ORDINAL_BITS
    return np.arange(first, first + n, dtype=np.int64)


def queries(n: int, nq: int, d: int, seed: int) -> Vectors:
    """(nq, d) noisy copies of stored frames of ``n``."""
    rng = np.random.default_rng([seed, 2])
    numbers = rng.integers(0, max(1, n // PROGRAM_FRAMES), nq)
    rows = np.array([int(rng.integers(PROGRAM_FRAMES)) for _ in range(nq)])
    found = np.empty((nq, d), np.float32)
    for number in np.unique(numbers).tolist():  # each program is made up once
        own = numbers == number
        found[own] = program_vectors(number, PROGRAM_FRAMES, d, seed)[rows[own]]
    return near(found, QUERY_COSINE, rng)


# --- The run ---


def bench_index(
    n: int,
    folder: Path,
    *,
    kind: str | None = None,
    device: str = "cpu",
    d: int = D,
    seed: int = 1,
    repeats: int = 5,
    lancedb: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> IndexBench:
    """Fill an index, and measure.

    Args:
        n: Vectors, at least one program of them.
        folder: Where the file that is opened is written.
        kind: See :data:`index.engines.KINDS`; default by size.
        device: "cpu", "cuda" or "cuda:N"; raw FAISS searches there too.
        d: Dimensions.
        seed: Of the vectors.
        repeats: Rounds of each batch size; the median counts.
        lancedb: Also measure LanceDB's own search, whose index takes minutes to make.
        on_step: Told what is done next.
    """
    if n < PROGRAM_FRAMES:
        raise ValueError(f"n must be at least {PROGRAM_FRAMES}, got {n}")
    kind = kind or choose_kind(n)
    on_step(f"training {kind}")
    ours = FaissIndex(d, kind=kind, device=device)
    if kind != "flat":
        ours.train(_sample(n, d, seed), expected=n)
    on_step("adding")
    vectors = _VectorFile(folder / "vectors", n, d) if kind in COMPRESSED else None
    add_seconds = _fill(ours, n, d, seed, vectors)
    asked = queries(n, max(*BATCHES, QUERIES_FOR_RECALL), d, seed)
    sides = _Sides(ours, vectors)
    rows: list[Ratio] = []
    for batch in BATCHES:
        on_step(f"searching, {batch} at a time")
        rows.append(_search_row(sides, asked, batch, repeats))
    on_step("recall against brute force")
    wanted = search_blocks(programs(n, d, seed), asked[:QUERIES_FOR_RECALL], K).ids
    recall = recall_of(sides.ours(asked[:QUERIES_FOR_RECALL]).ids, wanted)
    rows.append(_recall_row(recall))
    rows.append(_add_row(*add_seconds))
    rows.append(_memory_row())
    fits = engine_bytes(kind, d, n, ours.nlist) * 1.1 < available_bytes()
    on_step("opening" if fits else "writing; there is no memory left to open it beside")
    rows += _file_rows(ours, folder / f"{kind}.faiss", device, open_it=fits)
    if lancedb:
        on_step("LanceDB")
        rows += _lance_rows(folder / "lance", sides, asked, wanted, n, seed, repeats)
    on_step("removing")
    rows.append(_remove_row(ours, n))
    return IndexBench(n, d, kind, device, ours.nlist, tuple(rows), _machine(device), seed)


def _machine(device: str) -> str:
    info, gpu = describe(), gpu_number(device)
    card = [] if gpu is None else [card_name(gpu) or "a GPU that does not tell its name"]
    return "; ".join([processor_name(), f"{info.distribution} {info.version}", *card])


class _VectorFile:
    """The vectors as a store's snapshot keeps them: float16 in a file that is mapped, not read."""

    def __init__(self, path: Path, n: int, d: int) -> None:
        self._rows = np.memmap(path, dtype=np.float16, mode="w+", shape=(n, d))
        path.unlink()  # it stays as long as it is mapped

    def put(self, ids: Ids, vectors: Vectors) -> None:
        """Keep one program's."""
        self._rows[_row_of(ids)] = vectors

    def of(self, ids: Ids) -> NDArray[np.float16]:
        """(m, d) the vectors of (m,) ids."""
        found: NDArray[np.float16] = np.asarray(self._rows).take(_row_of(ids), axis=0)
        return found


def _row_of(ids: Ids) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = ((ids >> ORDINAL_BITS) - 1) * PROGRAM_FRAMES + (ids & (MAX_FRAMES - 1))
    return rows


class _Sides:
    """Our search, and raw FAISS asked for the same."""

    def __init__(self, ours: FaissIndex, vectors: _VectorFile | None) -> None:
        self._index, self._vectors = ours, vectors
        self._raw, gpu = ours.raw, gpu_number(ours.device)
        self.k = K if vectors is None else candidates_for(K)
        if gpu is not None:
            faiss = load_faiss()
            self._resources = faiss.StandardGpuResources()
            self._raw = faiss.index_cpu_to_gpu(self._resources, gpu, ours.raw)

    @property
    def goal(self) -> float:
        """What ours may take of the raw search's time."""
        return SEARCH_GOAL if self._vectors is None else RERANK_GOAL

    def ours(self, xq: Vectors) -> SearchResult:
        """The K nearest, as :class:`index.live.LiveIndex` finds them."""
        if self._vectors is None:
            return self._index.search(xq, K)
        candidates = self._index.search(xq, self.k)
        return reranked(as_vectors(xq, self._index.d, what="xq"), candidates, K, self._vectors.of)

    def raw(self, xq: Vectors) -> object:
        """FAISS's answer."""
        return self._raw.search(xq, self.k)


def _sample(n: int, d: int, seed: int) -> Vectors:
    """As many vectors as training wants, spread over the programs."""
    wanted = min(n, choose_nlist(n) * TRAIN_PER_LIST)
    n_programs = max(1, n // PROGRAM_FRAMES)
    each = -(-wanted // n_programs)
    rng = np.random.default_rng([seed, 3])
    parts = []
    for number in range(n_programs):
        frames = program_vectors(number, PROGRAM_FRAMES, d, seed)
        parts.append(frames[np.sort(rng.choice(len(frames), min(each, len(frames)), replace=False))])
    return np.concatenate(parts)


def _fill(ours: FaissIndex, n: int, d: int, seed: int, kept: _VectorFile | None) -> tuple[float, float]:
    """Add all programs, the first ones to raw FAISS with the same centroids in turn; seconds of those."""
    raw = load_faiss().clone_index(ours.raw)
    # Untimed: numpy compiles a part of itself at its first use.
    FaissIndex(d).add(program_vectors(0, PROGRAM_FRAMES, d, seed), program_ids(0, PROGRAM_FRAMES))
    spent = [0.0, 0.0]
    for number, (ids, vectors) in enumerate(programs(n, d, seed)):
        if kept is not None:
            kept.put(ids, vectors)
        if number == ADDED_TO_BOTH:
            raw = None
        if raw is None:
            ours.add(vectors, ids)
            continue
        steps: list[tuple[int, Callable[[Vectors, Ids], None]]] = [(0, ours.add), (1, raw.add_with_ids)]
        for side, add in steps if number % 2 else steps[::-1]:
            started = time.perf_counter()
            add(vectors, ids)
            spent[side] += time.perf_counter() - started
    return spent[0], spent[1]


def _search_row(sides: _Sides, asked: Vectors, batch: int, repeats: int) -> Ratio:
    """Rounds of both in turn, several batches of queries in each."""
    calls = max(1, min(64, 256 // batch))
    firsts = [(call * batch) % max(1, len(asked) - batch + 1) for call in range(calls)]

    def all_batches(search: Callable[[Vectors], object]) -> int:
        for first in firsts:
            search(asked[first : first + batch])
        return batch * calls

    steps = {"ours": lambda: all_batches(sides.ours), "raw": lambda: all_batches(sides.raw)}
    taken, _ = take_turns(steps, repeats, time.perf_counter)
    a, b = (median(taken[side]) / calls for side in ("ours", "raw"))
    return Ratio(f"search, batch {batch}", a, b, a / b, f"at most {sides.goal}", a <= sides.goal * b)


def _recall_row(recall: float) -> Ratio:
    """Share of the ten nearest by brute force that the index finds."""
    return Ratio(f"recall@{K}", recall, None, recall, f"at least {RECALL_GOAL}", recall >= RECALL_GOAL, "")


def _lance_rows(
    folder: Path, sides: _Sides, asked: Vectors, wanted: Ids, n: int, seed: int, repeats: int
) -> list[Ratio]:
    """LanceDB's search at the recall of ours, in turn with ours."""
    from eval.lance_ann import LanceAnn

    d = asked.shape[1]
    lance = LanceAnn(folder, d, programs(n, d, seed))
    wanted = wanted[:QUERIES_FOR_LANCE]
    some = asked[: wanted.shape[0]]
    ours_recall = recall_of(sides.ours(some).ids, wanted)
    effort, recall = lance.effort_for(some, K, ours_recall, lambda ids: recall_of(ids, wanted))
    words = f"recall {recall:.3f} with {effort.nprobes} probes, {effort.refine_factor} times k refined"
    rows = []
    for batch in (1, 64):
        xq = asked[:batch]

        def lance_side(xq: Vectors = xq) -> int:
            return int(lance.search(xq, K, effort).shape[0])

        def our_side(xq: Vectors = xq) -> int:
            return int(sides.ours(xq).ids.shape[0])

        taken, _ = take_turns({"lance": lance_side, "ours": our_side}, max(repeats, 5), time.perf_counter)
        a, b = median(taken["ours"]), median(taken["lance"])
        rows.append(Ratio(f"LanceDB, batch {batch}", a, b, b / a, words, None))
    return rows


def _add_row(ours: float, raw: float) -> Ratio:
    return Ratio("add", ours, raw, raw / ours, f"at least {ADD_GOAL}", raw >= ADD_GOAL * ours)


def _memory_row() -> Ratio:
    """The peak of the whole process: training, both sides of adding, Python and all."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    goal = f"at most {MEMORY_GOAL_GB:g} GB at 10M"
    return Ratio("peak memory", peak, None, peak, goal, peak <= MEMORY_GOAL_GB, "GB")


def available_bytes() -> int:
    """Memory that is free or can be freed at once."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, value = line.split(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 1 << 62  # it does not tell


def _file_rows(ours: FaissIndex, path: Path, device: str, *, open_it: bool) -> list[Ratio]:
    """Opening against reading the same bytes, both from the page cache, and what a vector takes."""
    ours.write(path)
    size = path.stat().st_size
    per_vector = size / ours.ntotal
    computed = engine_bytes(ours.kind, ours.d, ours.ntotal, ours.nlist) / ours.ntotal
    size_row = Ratio(
        "bytes a vector", per_vector, computed, per_vector / computed, "as computed, within 2 %",
        abs(per_vector / computed - 1) <= 0.02, "B",
    )  # fmt: skip
    if not open_it:
        path.unlink()
        return [size_row]

    def read() -> int:
        with path.open("rb", buffering=0) as file:
            block = bytearray(1 << 24)
            while file.readinto(block):
                pass
        return ours.ntotal

    def opened() -> int:
        return FaissIndex.read(path, device=device).ntotal

    taken, _ = take_turns({"read": read, "open": opened}, 3, time.perf_counter)
    path.unlink()
    a, b = median(taken["open"]), median(taken["read"])
    return [Ratio("open", a, b, b / a, f"at least {OPEN_GOAL} of reading", b >= OPEN_GOAL * a), size_row]


def _remove_row(ours: FaissIndex, n: int) -> Ratio:
    """Some programs spread over all, taken out one by one."""
    n_programs = max(1, n // PROGRAM_FRAMES)
    taken = []
    for number in np.unique(np.linspace(0, n_programs - 1, N_CHANGES).astype(int)).tolist():
        ids = program_ids(number, PROGRAM_FRAMES)
        started = time.perf_counter()
        removed = ours.remove_range(int(ids[0]), int(ids[-1]) + 1)
        taken.append(time.perf_counter() - started)
        assert removed == PROGRAM_FRAMES
    spent = 1000 * median(taken)
    return Ratio(
        "remove a program", spent, None, spent, f"at most {REMOVE_GOAL_MS:g} ms at 1M",
        spent <= REMOVE_GOAL_MS, "ms",
    )  # fmt: skip


def table_rows(bench: IndexBench) -> Sequence[Sequence[str]]:
    """The figures as a table shows them."""
    return [
        (
            row.name, _number(row.ours, row.unit), "" if row.raw is None else _number(row.raw, row.unit),
            f"{row.ratio:.3f}", row.goal, "" if row.is_met is None else "yes" if row.is_met else "no",
        )
        for row in bench.rows
    ]  # fmt: skip


def _number(value: float, unit: str) -> str:
    return f"{value * 1000:.2f} ms" if unit == "s" else f"{value:.3f} {unit}".rstrip()


def growth(benches: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Cost and memory as the size grows, of several runs, as :func:`eval.plots.cost_plot` takes them.

    Args:
        benches: As :meth:`IndexBench.to_json` gives them; of two of one kind and size the later counts.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {"ms a query, 64 at a time": {}, "GB": {}}
    cost, memory = panels.values()
    for bench in {(bench["kind"], bench["n"], bench["device"]): bench for bench in benches}.values():
        rows = {row["name"]: row for row in bench["rows"]}
        where = "" if bench["device"] == "cpu" else " on a GPU"
        name = f"{bench['kind']}{where}"
        cost.setdefault(name, []).append((bench["n"], 1000 * rows["search, batch 64"]["ours"] / 64))
        memory.setdefault(name, []).append((bench["n"], rows["bytes a vector"]["ours"] * bench["n"] / 1e9))
        lance = rows.get("LanceDB, batch 64")
        if lance is not None:
            cost.setdefault("LanceDB", []).append((bench["n"], 1000 * lance["raw"] / 64))
    return panels


def kept_runs(bench: IndexBench, file: Path | None) -> list[dict[str, Any]]:
    """This run after those of a JSONL file, to which it is appended; alone where there is none."""
    value = bench.to_json()
    if file is None:
        return [value]
    with file.open("a+", encoding="utf-8") as runs:
        runs.write(json.dumps(value) + "\n")
        runs.seek(0)
        return [json.loads(line) for line in runs if line.strip()]


def write_plot(benches: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw :func:`growth` into a PNG file."""
    from eval.plots import cost_plot, png

    file.write_bytes(png(cost_plot(growth(benches), "vectors in the index")))
