"""How fast the pipeline is, held against its own parts on the same files in the same run.

A machine shared with others is faster in one minute than in the next, so what counts are ratios: the
steps take turns, round after round, and a ratio is made of the medians of one run.

``bench_ingest``
    The decoding side alone, the encoder alone, and both side by side as they run. Two sides that do not
    get in each other's way take as long as the slower one: ratio 1.
``bench_query``
    Decoding the clips plainly, and the whole query: decode, encode, link. Loading the model and the
    index is left out of both.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from matcher.decode import Sampling, decode_all, sample_frames
from matcher.describe import describe_files, prepared_blocks
from matcher.encoders.base import FrameEncoder
from matcher.records import Descriptors

#: The pipeline's rate should be at least this share of the slower side's.
INGEST_GOAL = 0.85
#: A query should take at most this many times as long as decoding its clips plainly.
QUERY_GOAL = 1.6
#: Prepared pictures held for the encoder's turn; 150 kB each with the default model. What is more is
#: stood in for by these, so that a long film does not fill the memory.
KEPT_IMAGES = 4096

Clock = Callable[[], float]
Step = Callable[[], int]
Batch = NDArray[np.uint8]

_PACKAGES = ("program-matcher", "av", "numpy", "onnxruntime", "pillow", "torch")


@dataclass(frozen=True)
class Machine:
    """Where the figures were taken.

    Attributes:
        processor: Its name, as the system tells it.
        cpu_count: Cores that this process may use.
        engine: Where the encoder runs, in its own words.
        versions: Of Python and the packages that do the work.
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
        frames: Frames that went through: every frame of the video where it is decoded plainly, else
            the sampled ones.
        rounds_seconds: What each round took.
        seconds: Their median.
        ratio: The measured step's rate as a share of this one's (``ingest``), or its time as a multiple
            of this one's (``query``); 1 for the measured step itself.
    """

    name: str
    frames: int
    rounds_seconds: tuple[float, ...]
    seconds: float
    ratio: float

    @property
    def frames_per_second(self) -> float:
        """Frames over the median; 0 for a step that took no time at all."""
        return self.frames / self.seconds if self.seconds > 0.0 else 0.0


@dataclass(frozen=True)
class BenchTable:
    """What one benchmark found.

    Attributes:
        bench: "ingest" or "query".
        rows: One a step; the measured one is last.
        ratio: The figure that the goal is set for, see :func:`bench_ingest` and :func:`bench_query`.
        ratio_range: The least and the greatest that single rounds give: how noisy the machine is.
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
            "machine": asdict(self.machine),
        }


def bench_ingest(
    paths: Sequence[Path],
    encoder: FrameEncoder,
    sampling: Sampling,
    *,
    repeats: int = 3,
    clock: Clock = time.perf_counter,
) -> BenchTable:
    """Hold the pipeline against its two sides.

    The rows: "decode, all frames" decodes plainly and converts nothing; "decode" is everything that the
    decoding thread does (choosing, converting, leaving out blank frames, trimming, squaring); "encode" is
    the encoder over the same prepared pictures, which lie in memory, in the same batches; "pipeline" is
    :func:`matcher.describe.describe_files`.

    Args:
        paths: Videos.
        encoder: Under test.
        sampling: Which frames.
        repeats: Rounds, after one that is not counted.
        clock: Seconds.

    Returns:
        ``ratio`` is the pipeline's rate over the slower one's of "decode" and "encode".

    Raises:
        InputError: A file cannot be read.
        ValueError: There is no file, or ``repeats`` is below 1.
    """
    _check(paths, repeats)
    batches, n_sampled = _prepare(paths, encoder, sampling)

    def decode() -> int:
        return sum(_drain(prepared_batches(path, encoder, sampling)) for path in paths) or n_sampled

    def encode() -> int:
        for batch in batches:
            encoder.encode(batch)
        return n_sampled

    def pipeline() -> int:
        return sum(found.frames_seen for _, found in _describe(paths, encoder, sampling))

    rounds = _take_turns(
        {
            "decode, all frames": lambda: sum(decode_all(path) for path in paths),
            "decode": decode,
            "encode": encode,
            "pipeline": pipeline,
        },
        repeats,
        clock,
    )
