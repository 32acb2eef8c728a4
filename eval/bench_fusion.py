"""How fast the clip model fuses stored features, and how little its training loop adds to a step.

Clips of equal length with random features lie in a store of LanceDB on this machine's disk; speed does not
depend on what the numbers are. The rows take turns, round after round:

inference
    The model as it was trained and the folded one (:mod:`matcher.fusion.folded`) on batches that lie ready;
    then the whole way from the store to embeddings and answers, as re-embedding a store takes it.
training
    Forward, backward and the optimizer's step on batches that lie ready; then the loop
    (:func:`matcher.training.fusion_loop.fit`) on the same model and clips, read from memory and from the
    store. The ratio of a loop is its steps a second over those of the bare ones.

On a machine that others use at the same time the wall clock says little of the processor; so rates are given
by the processor's time, too: what this process would do on as many cores if it had them to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from eval.bench import processor_name
from index.catalog import Catalog, ModelInfo
from index.rows import FeatureRecord
from matcher.fusion.clip_model import ClipModel, n_parameters
from matcher.fusion.config import ClipModelConfig, HeadConfig
from matcher.training.fusion_data import ArraySource, ClassLists, ClipSource, Labelled, Targets
from matcher.training.fusion_loop import LabelledBatch, fit
from matcher.training.inference import answers
from matcher.training.loop_records import LoopConfig
from matcher.training.raw_steps import raw_inference, raw_step, use_threads, where
from matcher.training.store_source import COLUMNS, StoreSource

#: Clips a second from the store to embeddings, on two cores.
INFERENCE_GOAL = 5000.0
#: The loop's steps a second as a share of the bare ones'.
TRAINING_GOAL = 0.8
#: Of a clip of ten seconds or so.
N_FRAMES = 12
#: Categories of three tiers.
CLASSES = (12, 60, 300)
_BATCH = 256
_RAW, _STORE = "training: bare steps", "inference: folded, from the store"


@dataclass(frozen=True)
class FusionRow:
    """One way to go through some clips.

    Attributes:
        name: What was done.
        clips: How many a round.
        seconds: By the clock, one a round.
        cpu_seconds: Of the processor, of all threads of this process.
    """

    name: str
    clips: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def clips_per_second(self) -> float:
        """By the median round."""
        return self.clips / max(median(self.seconds), 1e-9)

    def clips_per_second_alone(self, cores: int) -> float:
        """By the median of the processor's time, if the work filled so many cores."""
        return cores * self.clips / max(median(self.cpu_seconds), 1e-9)


@dataclass(frozen=True)
class FusionBench:
    """What the benchmark found.

    Attributes:
        rows: In the order of the module's description.
        threads: Of torch.
        frames: Of a clip.
        batch_size: Of a training step.
        config: Of the model, in words.
        parameters: Numbers of the model.
        engine: The device in words.
        processor: Its name.
    """

    rows: tuple[FusionRow, ...]
    threads: int
    frames: int
    batch_size: int
    config: dict[str, Any]
    parameters: int
    engine: str
    processor: str

    def row(self, name: str) -> FusionRow:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def ratio(self, row: FusionRow) -> float | None:
        """A training loop's rate over that of bare steps; None for other rows.

        The median over rounds of each round's ratio: the two ran right after each other.
        """
        if not row.name.startswith("training"):
            return None
        bare = self.row(_RAW)
        pairs = zip(bare.seconds, row.seconds, strict=True)
        return median(b / bare.clips * row.clips / max(r, 1e-9) for b, r in pairs)

    def cpu_ratio(self, row: FusionRow) -> float | None:
        """The same by the processor's time: what the loop adds, whatever else the machine does."""
        if not row.name.startswith("training"):
            return None
        bare = self.row(_RAW)
        return row.clips_per_second_alone(1) / bare.clips_per_second_alone(1)

    @property
    def goals(self) -> list[tuple[str, float, float]]:
        """What was asked for: its name, what was found, and the least that is wanted."""
        loops = [row for row in self.rows if row.name.startswith("training: loop")]
        return [
            ("clips a second from the store", self.row(_STORE).clips_per_second, INFERENCE_GOAL),
            *((row.name, self.ratio(row) or 0.0, TRAINING_GOAL) for row in loops),
        ]

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        rows = []
        for row in self.rows:
            ratio, cpu_ratio = self.ratio(row), self.cpu_ratio(row)
            rows.append(
                {
                    "name": row.name,
                    "clips": row.clips,
                    "rounds_seconds": [round(one, 4) for one in row.seconds],
                    "rounds_cpu_seconds": [round(one, 4) for one in row.cpu_seconds],
                    "clips_per_second": round(row.clips_per_second, 1),
                    "clips_per_second_alone": round(row.clips_per_second_alone(self.threads), 1),
                    "ratio": None if ratio is None else round(ratio, 4),
                    "cpu_ratio": None if cpu_ratio is None else round(cpu_ratio, 4),
                }
            )
        return {
            "bench": "fusion",
            "rows": rows,
            "goals": [
                {"name": name, "found": round(found, 4), "goal": goal, "goal_is_met": found >= goal}
                for name, found, goal in self.goals
            ],
            "threads": self.threads,
            "frames": self.frames,
            "batch_size": self.batch_size,
            "parameters": self.parameters,
            "config": self.config,
            "engine": self.engine,
            "processor": self.processor,
        }


def bench_config(n_clusters: int | None = None) -> ClipModelConfig:
    """The usual clip model with heads of three tiers; with another number of clusters for pictures."""
    heads = tuple(HeadConfig(f"tier{tier}", n) for tier, n in enumerate(CLASSES, start=1))
    usual = ClipModelConfig(heads=heads)
    if n_clusters is None:
        return usual
    return replace(usual, picture=replace(usual.picture, n_clusters=n_clusters))


def bench_fusion(
    folder: Path,
    *,
    clips: int = 8192,
    steps: int = 6,
    repeats: int = 3,
    frames: int = N_FRAMES,
    threads: int = 2,
    batch_size: int = 512,
    device: str = "cpu",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    config: ClipModelConfig | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> FusionBench:
    """Measure inference and training.

    Args:
        folder: Empty; a store is made in it.
        clips: In the store.
        steps: Training steps of a round.
        repeats: Rounds, after one that does not count.
        frames: Of a clip, and as many seconds of sound.
        threads: Of torch.
        batch_size: Of a training step.
        device: auto, cpu or cuda.
        precision: Of the folded model's products.
        config: The model; by default the usual one.
        on_step: Told what is being done.

    Raises:
        InputError: There is no such device.
        ValueError: There are too few clips, steps or rounds.
    """
    if repeats < 1 or steps < 2 or clips < 2 * batch_size:
        raise ValueError(
            f"at least 1 round, 2 steps and {2 * batch_size} clips are needed; got {repeats}, {steps} and"
            f" {clips}"
        )
    use_threads(threads)
    config = bench_config() if config is None else config
    on_step(f"keeping {clips} clips")
    stored = _make_store(folder / "store", clips, frames, config)
    memory = ArraySource(stored().read(np.arange(clips)), config.dimensions, dtype=np.float16)
    model = ClipModel(config)
    ways = {
        **_inference(model, memory, stored, device, precision),
        **_training(config, memory, stored, steps, batch_size, device),
    }
    taken: dict[str, list[tuple[int, float, float]]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        on_step("warming up" if number == 0 else f"round {number} of {repeats}")
        for name, way in ways.items():
            taken[name].append(way())
    rows = [
        FusionRow(name, rounds[0][0], tuple(r[1] for r in rounds[1:]), tuple(r[2] for r in rounds[1:]))
        for name, rounds in taken.items()
    ]
    return FusionBench(
        tuple(rows), threads, frames, batch_size, config.to_words(),
        n_parameters(model), where(device), processor_name(),
    )  # fmt: skip


Way = Callable[[], tuple[int, float, float]]


def _inference(
    model: ClipModel,
    memory: ArraySource,
    stored: Callable[[], StoreSource],
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
) -> dict[str, Way]:
    n = len(memory)
    batches = [memory.batch(np.arange(start, min(start + _BATCH, n))) for start in range(0, n, _BATCH)]

    def from_store() -> None:
        for _ in answers(model, stored(), batch_size=_BATCH, device=device, precision=precision):
            pass

    def ready(chosen: Literal["auto", "fp32", "bf16"] | None) -> Way:
        return lambda: _timed(n, raw_inference(model, batches, device=device, precision=chosen))

    return {
        "inference: as trained": ready(None),
        "inference: folded, fp32": ready("fp32"),
        **({} if precision == "fp32" else {f"inference: folded, {precision}": ready(precision)}),
        _STORE: lambda: _timed(n, from_store),
    }


def _training(
    config: ClipModelConfig,
    memory: ArraySource,
    stored: Callable[[], StoreSource],
    steps: int,
    batch_size: int,
    device: str,
) -> dict[str, Way]:
    rng = np.random.default_rng(0)
    n = len(memory)
    program = np.arange(n) // 8
    values = {
        head.name: ClassLists(np.arange(n + 1), rng.integers(0, head.n_classes, n), head.n_classes)
        for head in config.heads
    }
    targets = Targets(values, {}, program)
    rows = np.arange(n)
    batches = [
        LabelledBatch.of(Labelled(memory, targets), part)
        for part in (rows[start : start + batch_size] for start in range(0, 2 * batch_size, batch_size))
    ]
    loop = LoopConfig(epochs=1, batch_size=batch_size, patience=None, checkpoint_steps=1_000_000)

    def bare() -> tuple[int, float, float]:
        step = raw_step(ClipModel(config), batches, loop, device=device)
        step()  # the optimizer's state is made in the first
        return _timed(steps * batch_size, lambda: [step() for _ in range(steps)])

    def looped(source: Callable[[], ClipSource]) -> Way:
        shown = np.resize(rows, steps * batch_size)

        def run() -> tuple[int, float, float]:
            model, labelled = ClipModel(config), Labelled(source(), targets, shown)
            # The first batch counts, too: it waits for all blocks that are mixed to be read.
            return _timed(
                len(shown), lambda: fit(model, labelled, None, loop, device=device, has_statistics=True)
            )

        return run

    return {
        _RAW: bare,
        "training: loop, from memory": looped(lambda: memory),
        "training: loop, from the store": looped(stored),
    }


def _timed(clips: int, run: Callable[[], Any]) -> tuple[int, float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return clips, time.perf_counter() - clock, time.process_time() - cpu


def _make_store(path: Path, n: int, frames: int, config: ClipModelConfig) -> Callable[[], StoreSource]:
    """A store of ``n`` clips with random features; each call gives a source that has read nothing yet."""
    catalog = Catalog.create(path, ModelInfo("bench", "bench", config.picture.d))
    rng = np.random.default_rng(0)
    d_picture, d_sound, d_text = config.dimensions

    def some(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[-1])

    with catalog.writing() as writer:
        for start in range(0, n, 1024):
            writer.put_features(
                [
                    FeatureRecord(
                        f"c{number:07}", "day", picture=some(frames, d_picture), sound=some(frames, d_sound),
                        text=some(d_text), text_model="bench",
                    )
                    for number in range(start, min(start + 1024, n))
                ]
            )  # fmt: skip
    catalog.refresh()
    reader = catalog.feature_reader(COLUMNS)
    return lambda: StoreSource(reader, config.dimensions)


def table_rows(bench: FusionBench) -> list[tuple[str, ...]]:
    """Rows for people: name, clips a second and ratio, both by the clock and by the processor's time."""
    rows: list[tuple[str, ...]] = []
    for row in bench.rows:
        ratios = ["" if one is None else f"{one:.2f}" for one in (bench.ratio(row), bench.cpu_ratio(row))]
        alone = row.clips_per_second_alone(bench.threads)
        rows.append((row.name, f"{row.clips_per_second:.0f}", ratios[0], f"{alone:.0f}", ratios[1]))
    return rows


def goal_lines(goals: Sequence[tuple[str, float, float]]) -> list[str]:
    """What was asked for and what was found, a line each."""
    return [
        f"{name}: {found:.4g}, wanted at least {goal:g}: {'met' if found >= goal else 'not met'}"
        for name, found, goal in goals
    ]
