"""``matcher train categories``: labels and stored embeddings in, a folder of heads, examples and cards out.

Every tier is trained before anything is written; what is trained is then put in place file by file, each in
one step. The heads of tiers that were not asked for stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.files import write_atomically
from matcher.categories import EXAMPLES_FILE, TAXONOMY_FILE, head_file
from matcher.category_examples import ExampleBank, check_model
from matcher.category_head import TierHead
from matcher.errors import InputError
from matcher.inputs import TIERS, one_line
from matcher.training.head_config import HeadTraining
from matcher.training.labels import Fault, Labels, check_counts, check_features, check_programs
from matcher.training.likeness import fit_likeness, fit_metric


class EmbeddingReader(Protocol):
    """Where stored embeddings come from."""

    def read(self, clip_ids: Sequence[str]) -> tuple[Sequence[str], NDArray[np.float32], str]:
        """Embeddings of those of ``clip_ids`` that have one.

        Returns:
            Their ids in any order; (N, D) rows in that order; and the fingerprint of the model behind them.
        """
        ...


@dataclass(frozen=True)
class TierRun:
    """What became of one tier.

    Attributes:
        head: Its head; None where no category has enough clips, so that examples answer it.
        n_clips: Clips whose category on this tier is known.
        n_programs: Programs that they are of.
        n_categories: Categories of the tier.
        n_by_examples: Those that are answered by examples.
    """

    tier: int
    head: TierHead | None
    n_clips: int
    n_programs: int
    n_categories: int
    n_by_examples: int

    def words(self) -> dict[str, Any]:
        """As JSON takes it."""
        head = self.head
        return {
            "tier": self.tier, "clips": self.n_clips, "programs": self.n_programs,
            "categories": self.n_categories, "learned": 0 if head is None else len(head.class_paths),
            "by_examples": self.n_by_examples, "head": None if head is None else head.fingerprint,
            "temperature": None if head is None else head.temperature,
            "rivalry": None if head is None else head.rivalry,
            "figures": {} if head is None else dict(head.figures),
        }  # fmt: skip


@dataclass(frozen=True)
class CategoryRun:
    """What one run did.

    Attributes:
        tiers: By tier.
        faults: What was said of the labels and went on.
        bank: Examples of the categories without a head.
        folder: Where it was written.
    """

    tiers: tuple[TierRun, ...]
    faults: tuple[Fault, ...]
    bank: ExampleBank
    folder: Path

    def words(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "folder": str(self.folder),
            "tiers": [one.words() for one in self.tiers],
            "examples": len(self.bank.paths),
            "examples_calibrated": self.bank.likeness.is_calibrated,
            "faults": [{"kind": fault.kind, "message": fault.message} for fault in self.faults],
        }

    def table(self) -> list[list[str]]:
        """A header, and a row for each tier."""
        rows = [["tier", "clips", "programs", "learned", "by examples", "accuracy", "ECE before", "ECE"]]
        for one in self.tiers:
            figures = {} if one.head is None else one.head.figures
            learned = 0 if one.head is None else len(one.head.class_paths)
            shown = [
                f"{figures[name]:.3f}" if name in figures else "–"
                for name in ("accuracy", "ece_before", "ece")
            ]
            counts = (
                one.tier,
                one.n_clips,
                one.n_programs,
                f"{learned}/{one.n_categories}",
                one.n_by_examples,
            )
            rows.append([*(str(count) for count in counts), *shown])
        return rows


def train_categories(
    reader: EmbeddingReader,
    labels: Labels,
    *,
    tiers: Sequence[int],
    folder: Path,
    config: HeadTraining | None = None,
) -> CategoryRun:
    """Train, calibrate and write the heads of ``tiers``.

    Args:
        reader: Of the labelled clips' embeddings.
        labels: As :func:`matcher.training.labels.read_labels` gives them.
        tiers: 1, 2 or 3.
        folder: Made where it is not there. A head of another tier in it stays.
        config: How heads are trained.

    Raises:
        InputError: The labels have a fault that stops a run; no labelled clip has an embedding, or none is
            labelled on a tier; or the folder holds a head made with another model's embeddings. Nothing is
            written then.
    """
    config = config or HeadTraining()
    labels.stop_on_faults()
    wanted = sorted(set(tiers))
    beyond = [tier for tier in wanted if not 1 <= tier <= labels.taxonomy.n_tiers]
    if beyond or not wanted:
        raise InputError(
            f"tiers {beyond} are not in taxonomy {labels.taxonomy.label}, which has"
            f" {labels.taxonomy.n_tiers}; name one with --tier"
        )
    labels, x, model, lacking = _with_embeddings(reader, labels)
    faults = [*labels.faults, *lacking]
    faults += check_counts(labels, wanted, min_examples=config.min_examples)
    faults += check_programs(labels, wanted, min_examples=config.min_examples)
    others = [tier for tier in range(1, TIERS + 1) if tier not in wanted]
    kept = _kept(folder, others, model)
    runs = tuple(_train_tier(x, labels, tier, model, config) for tier in wanted)
    bank = _bank(x, labels, runs, kept, model, config)
    run = CategoryRun(runs, tuple(faults), bank, folder)
    _write(run, labels, config)
    return run


def _with_embeddings(
    reader: EmbeddingReader, labels: Labels
) -> tuple[Labels, NDArray[np.float32], str, list[Fault]]:
    """The clips that have an embedding, (N, D) in their order, the model, and what is said of the others."""
    found, vectors, model = reader.read(labels.clip_ids)
    places = {clip_id: place for place, clip_id in enumerate(found)}
    lacking = check_features(labels, places.keys())
    rows = [row for row, clip_id in enumerate(labels.clip_ids) if clip_id in places]
    if not rows:
        raise InputError(
            "no labelled clip has an embedding in the store; keep them with `matcher link`, or compare the"
            " clip_id column with `matcher clips --json`"
        )
    own = labels.rows(rows)
    x = np.asarray(vectors, np.float32)[[places[clip_id] for clip_id in own.clip_ids]]
    return own, x, model, lacking


def _kept(folder: Path, others: Sequence[int], model: str) -> ExampleBank | None:
    """The folder's bank, after a look at whether its other heads fit this run's embeddings."""
    for tier in others:
        path = folder / head_file(tier)
        if path.is_file():
            head = TierHead.load(path)
            check_model(head.model, model, f"{one_line(str(path))}, which would stand beside the new heads,")
    path = folder / EXAMPLES_FILE
    if not path.is_file():
        return None
    bank = ExampleBank.load(path)
    return bank if bank.model == model else None


def _train_tier(
    x: NDArray[np.float32], labels: Labels, tier: int, model: str, config: HeadTraining
) -> TierRun:
    from matcher.training.category_heads import HeadOrigin, train_head

    taxonomy = labels.taxonomy
    targets, known = labels.targets(tier)
    counts = targets[known].sum(axis=0)
    if not counts.any():
        raise InputError(
            f"no clip with an embedding is labelled with a category of tier {tier}; label some, or leave the"
            " tier out"
        )
    paths = tuple(one.path for one in taxonomy.tier(tier))
    origin = HeadOrigin(tier, paths, taxonomy.label, taxonomy.fingerprint(), model)
    groups = labels.groups()
    is_enough = bool((counts >= config.min_examples).any()) and len(np.unique(groups[known])) > 1
    head = train_head(x, targets, known, groups, config, origin) if is_enough else None
    learned = set(head.class_paths) if head is not None else set()
    by_examples = sum(1 for path, count in zip(paths, counts, strict=True) if count and path not in learned)
    return TierRun(tier, head, int(known.sum()), len(np.unique(groups[known])), len(paths), by_examples)


def _bank(
    x: NDArray[np.float32],
    labels: Labels,
    runs: Sequence[TierRun],
    kept: ExampleBank | None,
    model: str,
    config: HeadTraining,
) -> ExampleBank:
    """Examples of what no head of this run knows, and of the other tiers what the folder had."""
    rows: list[int] = []
    paths: list[str] = []
    for run in runs:
        learned = set() if run.head is None else set(run.head.class_paths)
        targets, known = labels.targets(run.tier)
        for column, category in enumerate(labels.taxonomy.tier(run.tier)):
            if category.path not in learned:
                own = np.flatnonzero((targets[:, column] > 0) & known)
                rows += own.tolist()
                paths += [category.path] * len(own)
    # The lowest tier has the most classes, from which to learn what a new one is like.
    best = max(runs, key=lambda run: 0 if run.head is None else len(run.head.class_paths))
    targets, known = labels.targets(best.tier)
    likeness = fit_likeness(x[known], targets[known], labels.groups()[known], seed=config.seed)
    # Metric and map belong together: a guessed map is for the plain metric.
    metric = fit_metric(x[known], targets[known]) if likeness.is_calibrated else None
    center = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    bank = ExampleBank(x[rows], tuple(paths), center, likeness, metric, model)
    if kept is None:
        return bank
    tiers = {run.tier for run in runs}
    others = [place for place, path in enumerate(kept.paths) if path.count("/") + 1 not in tiers]
    if not likeness.is_calibrated:
        bank = replace(bank, likeness=kept.likeness, metric=kept.metric, center=kept.center)
    return bank.add(kept.vectors[others], [kept.paths[place] for place in others])


def _write(run: CategoryRun, labels: Labels, config: HeadTraining) -> None:
    """Put everything in place; heads last, as they are what is answered by."""
    run.folder.mkdir(parents=True, exist_ok=True)
    labels.taxonomy.save(run.folder / TAXONOMY_FILE)
    run.bank.save(run.folder / EXAMPLES_FILE)
    for one in run.tiers:
        path = run.folder / head_file(one.tier)
        write_atomically(path.with_suffix(".md"), _card(one, run, labels, config).encode())
        if one.head is not None:
            one.head.save(path)
        else:
            path.unlink(missing_ok=True)  # an older head would go before the examples


def _card(one: TierRun, run: CategoryRun, labels: Labels, config: HeadTraining) -> str:
    """What a person should know before putting a head to use."""
    head = one.head
    targets, known = labels.targets(one.tier)
    counts = Counter(
        {
            category.path: int(count)
            for category, count in zip(
                labels.taxonomy.tier(one.tier), targets[known].sum(axis=0), strict=True
            )
        }
    )
    learned = () if head is None else head.class_paths
    lines = [
        f"# Categories, tier {one.tier}",
        "",
        f"- taxonomy: {labels.taxonomy.label} ({labels.taxonomy.fingerprint()})",
        f"- embeddings of model: {run.bank.model or 'unknown'}",
        f"- data: {one.n_clips} clips of {one.n_programs} programs, {len(learned)} of {one.n_categories}"
        f" categories learned, {one.n_by_examples} answered by examples",
    ]
    if head is None:
        lines.append(f"- no head: no category has {config.min_examples} clips of several programs")
    else:
        lines += [
            f"- trained: {head.trained_at}, head {head.fingerprint}, {head.form}, seed {config.seed}",
            f"- calibration: temperature {head.temperature:.3f}, rivalry {head.rivalry:.3f}",
            f"- settings: `{head.notes.get('config', '')}`",
            "",
            "Measured on programs that the head did not learn from:",
            "",
            "| figure | value |",
            "|---|---|",
            *(f"| {name} | {value:.4g} |" for name, value in head.figures.items()),
        ]
    lines += ["", "| category | clips | answered by |", "|---|---|---|"]
    for path, count in counts.most_common():
        by = "head" if path in learned else ("examples" if count else "nothing yet")
        lines.append(f"| {path.replace('|', '¦')} | {count} | {by} |")
    if run.faults:
        lines += ["", "Said of the labels:", "", *(f"- {fault.message}" for fault in run.faults)]
    return "\n".join(lines) + "\n"
