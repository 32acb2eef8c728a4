"""How fast the pipeline is, held against its own parts on the same files in the same run.

A machine shared with others is faster in one minute than in the next, so what counts are ratios: the
steps take turns, round after round, and a ratio is made of the medians of one run.

:func:`bench_ingest`
    The decoding side alone, the encoder alone, and both side by side as they run. Two sides that do not
    get in each other's way take as long as the slower one: ratio 1.
:func:`bench_query`
    Plain decoding of the clips, and the whole query: decode, encode, link. Loading the model and opening
    the index are in neither.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from matcher.decode import Sampling, decode_all
from matcher.describe import Block, describe_files, prepared_blocks
from matcher.encoders.base import FrameEncoder
from matcher.listen import Listener
from matcher.records import Descriptors

#: The pipeline's rate should be at least this share of the slower side's.
INGEST_GOAL = 0.85
#: A query should take at most this many times as long as plain decoding of its clips.
QUERY_GOAL = 1.6
#: Prepared pictures held for the encoder's turn (of the default model 150 kB each); what is more is
#: stood in for by these, so that a long film does not fill the memory.
KEPT_IMAGES = 4096

Clock = Callable[[], float]
Step = Callable[[], int]

_PACKAGES = ("program-matcher", "av", "numpy", "onnxruntime", "pillow", "torch")


@dataclass(frozen=True)
class Machine:
    """Where the figures were taken.

    Attributes:
        processor: Its name, as the system tells it.
        cpu_count: Cores that this process may use.
        engine: Where the encoder runs, in its own words.
        versions: Of Python and of the packages that do the work.
    """

    processor: str
    cpu_count: int
    engine: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class BenchRow:
    """One step.

    Attributes:
        name: What was done.
        frames: Frames got through: all of the video's where it is decoded plainly, else the sampled ones,
            blank ones included.
        rounds_seconds: What each round took.
        ratio: ``ingest``: the pipeline's rate as a share of this step's, both on the same files.
            ``query``: the query's time as a multiple of this step's.
    """

    name: str
    frames: int
    rounds_seconds: tuple[float, ...]
    ratio: float

    def __post_init__(self) -> None:
        if not self.rounds_seconds or min(self.rounds_seconds) < 0.0:
            raise ValueError(f"{self.name}: rounds must be one or more times of 0 s or more")

    @property
    def seconds(self) -> float:
        """Median of the rounds."""
        return median(self.rounds_seconds)

    @property
    def frames_per_second(self) -> float:
        """Frames over the median; 0 for a step that took no time at all."""
        return _over(self.frames, self.seconds)


@dataclass(frozen=True)
class BenchTable:
    """What one benchmark found.

    Attributes:
        bench: "ingest" or "query".
        rows: One a step; what is under test comes last.
        ratio: The figure that the goal is for, see :func:`bench_ingest` and :func:`bench_query`.
        ratio_range: Least and greatest of the single rounds: how restless the machine is.
        goal: What ``ratio`` should be at least (ingest) or at most (query).
        files: How many.
        sampling: Which frames, in the command line's words.
        machine: Where.
    """

    bench: Literal["ingest", "query"]
    rows: tuple[BenchRow, ...]
    ratio: float
    ratio_range: tuple[float, float]
    goal: float
    files: int
    sampling: str
    machine: Machine

    @property
    def repeats(self) -> int:
        """Rounds taken."""
        return len(self.rows[0].rounds_seconds)

    @property
    def goal_is_met(self) -> bool:
        """Whether ``ratio`` is on the right side of ``goal``."""
        return self.ratio >= self.goal if self.bench == "ingest" else self.ratio <= self.goal

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; seconds and ratios to four places."""
        return {
            "bench": self.bench,
            "sampling": self.sampling,
            "files": self.files,
            "repeats": self.repeats,
            "rows": [
                {
                    "name": row.name,
                    "frames": row.frames,
                    "seconds": round(row.seconds, 4),
                    "frames_per_second": round(row.frames_per_second, 2),
                    "ratio": round(row.ratio, 4),
                    "rounds_seconds": [round(seconds, 4) for seconds in row.rounds_seconds],
                }
                for row in self.rows
            ],
            "ratio": round(self.ratio, 4),
            "ratio_range": [round(ratio, 4) for ratio in self.ratio_range],
            "goal": self.goal,
            "goal_is_met": self.goal_is_met,
            "machine": {
                "processor": self.machine.processor,
                "cpu_count": self.machine.cpu_count,
                "engine": self.machine.engine,
                "versions": dict(self.machine.versions),
            },
        }


def bench_ingest(
    paths: Sequence[Path],
    encoder: FrameEncoder,
    sampling: Sampling,
    *,
    listener: Listener | None = None,
    repeats: int = 3,
    clock: Clock = time.perf_counter,
) -> BenchTable:
    """Hold the pipeline against its two sides.

    The rows: "plain decoding" decodes every frame and converts none; "decode" is all that the decoding
    thread does (choose, convert, leave out blank frames, trim, square); "encode" is the encoder over the
    same prepared pictures, lying in memory, in the same batches; "pipeline" is
    :func:`matcher.describe.describe_files`.

    Args:
        paths: Videos.
        encoder: As it would run.
        sampling: Which frames.
        listener: Listens in the same pass; there is then a row without it, too.
        repeats: Rounds, after one that does not count.
        clock: Seconds from some start.

    Returns:
        A table whose ``ratio`` is the pipeline's rate over that of the slower of "decode" and "encode".

    Raises:
        InputError: A file cannot be read.
        ValueError: There is no file, or ``repeats`` is below 1.
    """
    _check(paths, repeats)
    batches, n_sampled = _prepared(paths, encoder, sampling)

    def encode() -> int:
        for batch in batches:
            encoder.encode(batch)
        return n_sampled

    steps = {
        "plain decoding": _plain_decoding(paths),
        "decode": _decoding_side(paths, encoder, sampling, listener),
        "encode": encode,
    }

    def pipeline_with(ear: Listener | None) -> Step:
        return lambda: sum(found.frames_seen for _, found in _described(paths, encoder, sampling, ear))

    if listener is not None:
        steps["pipeline without sound"] = pipeline_with(None)
    steps["pipeline"] = pipeline_with(listener)
    rounds, frames = take_turns(steps, repeats, clock)
    pipeline = median(rounds["pipeline"])
    rows = tuple(
        BenchRow(name, frames[name], seconds, _over(median(seconds), pipeline))
        for name, seconds in rounds.items()
    )
    slower = max(median(rounds["decode"]), median(rounds["encode"]))
    by_round = [
        _over(max(decode, encode), whole)
        for decode, encode, whole in zip(rounds["decode"], rounds["encode"], rounds["pipeline"], strict=True)
    ]
    return BenchTable(
        "ingest", rows, _over(slower, pipeline), (min(by_round), max(by_round)), INGEST_GOAL,
        len(paths), words_of(sampling), machine_of(encoder),
    )  # fmt: skip


def bench_query(
    paths: Sequence[Path],
    encoder: FrameEncoder,
    sampling: Sampling,
    link: Callable[[Path, Descriptors], object],
    *,
    listener: Listener | None = None,
    repeats: int = 3,
    clock: Clock = time.perf_counter,
) -> BenchTable:
    """Hold a whole query against plain decoding of its clips.

    The rows: "plain decoding" decodes every frame and converts none; "decode" is all that the decoding
    thread does; "link" answers from descriptors that are there; "query" is decode, encode and link as
    they run.

    Args:
        paths: Clips.
        encoder: As it would run.
        sampling: Which frames of a clip.
        link: Answers one clip, such as ``Linker.link``.
        listener: Listens in the same pass.
        repeats: Rounds, after one that does not count.
        clock: Seconds from some start.

    Returns:
        A table whose ``ratio`` is the query's time over that of plain decoding.

    Raises:
        InputError: A file cannot be read.
        ValueError: There is no file, or ``repeats`` is below 1.
    """
    _check(paths, repeats)
    known = list(_described(paths, encoder, sampling, listener))

    def link_all(clips: Iterator[tuple[Path, Descriptors]]) -> int:
        n_frames = 0
        for path, found in clips:
            link(path, found)
            n_frames += found.frames_seen
        return n_frames

    steps = {
        "plain decoding": _plain_decoding(paths),
        "decode": _decoding_side(paths, encoder, sampling, listener),
        "link": lambda: link_all(iter(known)),
        "query": lambda: link_all(_described(paths, encoder, sampling, listener)),
    }
    rounds, frames = take_turns(steps, repeats, clock)
    query = median(rounds["query"])
    rows = tuple(
        BenchRow(name, frames[name], seconds, _over(query, median(seconds)))
        for name, seconds in rounds.items()
    )
    by_round = [
        _over(whole, plain) for whole, plain in zip(rounds["query"], rounds["plain decoding"], strict=True)
    ]
    return BenchTable(
        "query", rows, rows[0].ratio, (min(by_round), max(by_round)), QUERY_GOAL,
        len(paths), words_of(sampling), machine_of(encoder),
    )  # fmt: skip


def words_of(sampling: Sampling) -> str:
    """A sampling as the command line's words, which :meth:`Sampling.parse` reads."""
    return f"fps={sampling.fps:g}" if sampling.mode == "fps" else f"keyframes={sampling.min_gap_seconds:g}"


def machine_of(encoder: FrameEncoder) -> Machine:
    """This machine, and what would run on it."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Machine(processor_name(), _cpu_count(), encoder.engine, versions)


# --- Steps -----------------------------------------------------------------------------------------


def take_turns(
    steps: Mapping[str, Step], repeats: int, clock: Clock
) -> tuple[dict[str, tuple[float, ...]], dict[str, int]]:
    """Seconds of every round, and frames, by step: round after round, so that a restless machine meets all.

    The first round warms caches and is not counted.
    """
    frames = {name: step() for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    return {name: tuple(taken) for name, taken in seconds.items()}, frames


def _plain_decoding(paths: Sequence[Path]) -> Step:
    return lambda: sum(decode_all(path) for path in paths)


def _decoding_side(
    paths: Sequence[Path], encoder: FrameEncoder, sampling: Sampling, listener: Listener | None
) -> Step:
    return lambda: sum(
        block.frames_seen for block in _blocks(paths, encoder, sampling, listener) if block.last
    )


def _blocks(
    paths: Sequence[Path], encoder: FrameEncoder, sampling: Sampling, listener: Listener | None = None
) -> Iterator[Block]:
    """What the decoding thread makes of all files, on this thread."""
    for path in paths:
        for block in prepared_blocks(path, encoder, sampling, listener=listener):
            if block.error is not None:
                raise block.error
            yield block


def _prepared(
    paths: Sequence[Path], encoder: FrameEncoder, sampling: Sampling
) -> tuple[list[NDArray[np.uint8]], int]:
    """The encoder's batches in order, and how many frames were sampled for them.

    Beyond :data:`KEPT_IMAGES` pictures a batch is one of those before it of the same size, in turn.
    """
    batches: list[NDArray[np.uint8]] = []
    by_size: dict[int, list[NDArray[np.uint8]]] = {}
    n_kept = n_sampled = 0
    for block in _blocks(paths, encoder, sampling):
        if block.last:
            n_sampled += block.frames_seen
        size = len(block.images)
        if size == 0:
            continue
        same = by_size.setdefault(size, [])
        if not same or n_kept + size <= KEPT_IMAGES:
            same.append(np.stack(block.images))
            n_kept += size
            batches.append(same[-1])
        else:
            batches.append(same[len(batches) % len(same)])
    return batches, n_sampled


def _described(
    paths: Sequence[Path], encoder: FrameEncoder, sampling: Sampling, listener: Listener | None
) -> Iterator[tuple[Path, Descriptors]]:
    for result in describe_files(paths, encoder, sampling, listener=listener):
        if result.descriptors is None:
            assert result.error is not None
            raise result.error
        yield result.path, result.descriptors


def _check(paths: Sequence[Path], repeats: int) -> None:
    if not paths:
        raise ValueError("there is no file to measure with")
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}")


def _over(a: float, b: float) -> float:
    return a / b if b > 0.0 else 0.0


def _cpu_count() -> int:
    """Cores that this process may use; a container or ``taskset`` leaves it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name; Linux tells it only in a file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
