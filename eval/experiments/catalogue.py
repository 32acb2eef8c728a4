"""The experiments by name, and how one is run and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.experiments.fusion_parts import PART_MEASURES, run_experts, run_gating, run_pooling
from eval.experiments.growth import GROWTH_MEASURES, run_growth
from eval.experiments.main_run import DIFFICULTY_MEASURES, MAIN_MEASURES, run_difficulty, run_main
from eval.experiments.modalities_run import (
    MISSING_MEASURES,
    SHORTCUT_MEASURES,
    run_missing,
    run_title_shortcut,
)
from eval.experiments.results import Measure, Result, Row
from eval.experiments.scale import SCALES, OnStep, Scale
from eval.experiments.tiers_run import TIERS_MEASURES, run_tiers
from eval.experiments.twins_run import TWINS_MEASURES, run_twins
from matcher.errors import InputError


@dataclass(frozen=True)
class Experiment:
    """One comparison.

    Attributes:
        claim: What is said, which is put to the test.
        run: Seeds, scale and a listener → conditions.
        measures: Columns.
        compared: The one whose difference to the first condition is given; none where empty.
    """

    claim: str
    run: Callable[[Sequence[int], Scale, OnStep], tuple[Row, ...]]
    measures: tuple[Measure, ...]
    compared: str = ""


EXPERIMENTS = {
    "main": Experiment(
        "The clip model is ahead of mean pooling with logistic regression on tiers 2 and 3.",
        run_main, MAIN_MEASURES, "tier 3",
    ),
    "difficulty": Experiment(
        "How far it is ahead depends on what tells the classes, and on how many programs are learned from.",
        run_difficulty, DIFFICULTY_MEASURES,
    ),
    "title-shortcut": Experiment(
        "Trained on clips collected by title keywords, one head for all collapses when the title lacks them;"
        " a head a modality does not.",
        run_title_shortcut, SHORTCUT_MEASURES, "tier 3 without",
    ),
    "pooling": Experiment(
        "NeXtVLAD sums up frames better than mean, maximum, attention and NetVLAD at as many parameters.",
        run_pooling, PART_MEASURES, "tier 3",
    ),
    "gating": Experiment("Context gating helps.", run_gating, PART_MEASURES, "tier 3"),
    "experts": Experiment(
        "A mixture of experts is better than a logistic regression a class.",
        run_experts, PART_MEASURES, "tier 3",
    ),
    "missing": Experiment(
        "With modality dropout and a learned token a model bears the loss of a modality.",
        run_missing, MISSING_MEASURES, "tier 2, no text",
    ),
    "twins": Experiment(
        "Oversampling the rare of two look-alike classes hurts the other unless their features are apart.",
        run_twins, TWINS_MEASURES,
    ),
    "tiers": Experiment(
        "With a head a tier a new category is learned sooner, and without moving the other answers.",
        run_tiers, TIERS_MEASURES,
    ),
    "growth": Experiment(
        "Retrieval keeps up as programs grow and arrive daily; a trained classifier does not.",
        run_growth, GROWTH_MEASURES,
    ),
}  # fmt: skip


def run_experiment(name: str, *, n_seeds: int, scale: str, on_step: OnStep) -> Result:
    """Run one over seeds 0 to ``n_seeds`` - 1.

    Args:
        name: Of :data:`EXPERIMENTS`.
        n_seeds: Each is a world of its own and a training of its own.
        scale: Of :data:`~eval.experiments.scale.SCALES`.
        on_step: Told what is going on.

    Raises:
        InputError: There is no such experiment or scale, or there are no seeds.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    if scale not in SCALES:
        raise InputError(f"no scale {scale!r}; there are {', '.join(SCALES)}")
    if n_seeds < 1:
        raise InputError(f"seeds must be at least 1, got {n_seeds}")
    return run_at(name, SCALES[scale], tuple(range(n_seeds)), on_step)


def run_at(name: str, scale: Scale, seeds: tuple[int, ...], on_step: OnStep) -> Result:
    """Run one of :data:`EXPERIMENTS` at any scale."""
    experiment = EXPERIMENTS[name]
    clock = time.perf_counter()
    rows = experiment.run(seeds, scale, on_step)
    return Result(
        name, experiment.claim, scale.name, seeds, experiment.measures, rows, experiment.compared,
        time.perf_counter() - clock,
    )  # fmt: skip


def write_result(result: Result, folder: Path) -> list[Path]:
    """Write NAME.md (the table), NAME.json (every seed's values, one condition a line) and NAME.png.

    Raises:
        InputError: The folder cannot be written to.
    """
    import json

    from eval.plots import condition_plot, png

    drawn = [measure for measure in result.measures if measure.is_drawn]
    figure = condition_plot(
        {row.condition: {one.name: row.values[one.name] for one in drawn if one.name in row.values}
         for row in result.rows}
    )  # fmt: skip
    seconds = f"{len(result.seeds)} seeds, scale {result.scale}, {result.seconds:.0f} s"
    contents = {
        ".md": f"# {result.name}\n\n{result.claim}\n\n{seconds}\n\n{result.markdown()}".encode(),
        ".json": "".join(json.dumps(line) + "\n" for line in result.to_json()).encode(),
        ".png": png(figure),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, content in contents.items():
            (folder / f"{result.name}{ending}").write_bytes(content)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}); give another --out") from error
    return [folder / f"{result.name}{ending}" for ending in contents]
