"""A new category from 1 to 20 examples: nearest examples against a head, with and without augmentation.

Embeddings are generated, so that their difficulty is known. All classes but a few are known well; the few are
new and have k labelled clips each. What is asked is whether clips of *other programs* are found to be of the
new class, among all other clips, and whether what was known before suffers.

Shape letters: ``N`` clips, ``D`` dimensions, ``C`` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eval.metrics import micro_average_precision
from matcher.categories import CategoryModel
from matcher.category_examples import ExampleBank
from matcher.encoders.base import unit_rows
from matcher.taxonomy import Taxonomy
from matcher.training.category_heads import HeadOrigin, train_head
from matcher.training.head_config import AugmentationConfig, HeadTraining, augmentation_of
from matcher.training.likeness import fit_likeness, fit_metric

#: In the order of the table. "examples" trains nothing.
METHODS: dict[str, AugmentationConfig | None] = {
    "nearest examples": None,
    "nearest examples, plain metric": None,
    "head": augmentation_of(()),
    "head, mix-up": augmentation_of(["mixup"]),
    "head, lost dimensions": augmentation_of(["dropout"]),
    "head, class noise": augmentation_of(["noise"]),
    "head, all three": augmentation_of(["mixup", "dropout", "noise"]),
}


@dataclass(frozen=True)
class Difficulty:
    """How embeddings are made.

    A class's mean lies in a subspace that all classes share, a program's off it, a clip's off its program's;
    then each is scaled to length 1. What programs differ by is not the same in all directions: it falls off
    as one over the root of a direction's number, and overlaps with what classes differ by.

    Attributes:
        n_known: Classes that are known well.
        n_new: Classes with few examples.
        n_programs: Of each class; a half is learned from, the other half asked about.
        n_clips: Of each program.
        d: D.
        d_classes: Dimensions of the subspace.
        separation: Standard deviation of a mean along each direction of it.
        program_offset: Root mean square of a program's offset along a direction.
        clip_noise: Standard deviation of a clip along each direction.
    """

    n_known: int = 20
    n_new: int = 5
    n_programs: int = 16
    n_clips: int = 5
    d: int = 64
    d_classes: int = 16
    separation: float = 1.0
    program_offset: float = 0.7
    clip_noise: float = 0.5


@dataclass(frozen=True)
class FewExamplesConfig:
    """What is measured.

    Attributes:
        counts: Examples of a new class.
        seeds: Each draws its own classes, programs and examples. Those below 10 served to choose the
            metric of the examples and the defaults of the head, and would flatter both.
        difficulty: Of the embeddings.
        head: How heads are trained; its augmentation, number of examples and seed are set here.
    """

    counts: tuple[int, ...] = (1, 2, 5, 10, 20)
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    difficulty: Difficulty = field(default_factory=Difficulty)
    head: HeadTraining = field(
        default_factory=lambda: HeadTraining(form="logistic", folds=2, max_steps=300, learning_rate=0.02)
    )


@dataclass(frozen=True)
class Outcome:
    """One method at one number of examples with one seed.

    Attributes:
        precision: Average precision of a new class among all clips that are asked about, mean over classes.
        found: Share of the new classes' clips whose best category is theirs.
        known: Share of the known classes' clips whose best category is theirs.
    """

    method: str
    count: int
    seed: int
    precision: float
    found: float
    known: float


@dataclass(frozen=True)
class Clips:
    """Generated clips.

    Attributes:
        x: (N, D) rows of length 1.
        classes: (N,) the new ones have the highest numbers.
        groups: (N,) programs.
        is_learned: (N,) whether the program is learned from; else it is asked about.
    """

    x: NDArray[np.float32]
    classes: NDArray[np.int64]
    groups: NDArray[np.int64]
    is_learned: NDArray[np.bool_]


def make_clips(difficulty: Difficulty, seed: int) -> Clips:
    """Generate them, as :class:`Difficulty` says."""
    rng = np.random.default_rng([seed, 17])
    own = difficulty
    n_classes, d = own.n_known + own.n_new, own.d
    subspace = np.linalg.qr(rng.standard_normal((d, own.d_classes)))[0]
    means = own.separation * rng.standard_normal((n_classes, own.d_classes)) @ subspace.T
    spectrum = 1 / np.sqrt(np.arange(1, d + 1))
    spectrum *= own.program_offset / np.sqrt(np.mean(spectrum**2))
    directions = np.linalg.qr(rng.standard_normal((d, d)))[0] * spectrum[:, None]
    groups = np.repeat(np.arange(n_classes * own.n_programs), own.n_clips)
    offsets = rng.standard_normal((n_classes * own.n_programs, d)) @ directions
    noise = own.clip_noise * rng.standard_normal((len(groups), d))
    classes = groups // own.n_programs
    x = unit_rows(means[classes] + offsets[groups] + noise)
    return Clips(x, classes, groups, groups % own.n_programs < own.n_programs // 2)


def measure(
    config: FewExamplesConfig, *, methods: Sequence[str] = tuple(METHODS), say: Callable[[str], None] = print
) -> list[Outcome]:
    """Every method at every number of examples with every seed.

    Args:
        config: What.
        methods: Names of ``METHODS``.
        say: Told what is done.

    Raises:
        ValueError: More examples are asked for than a new class has.
    """
    own = config.difficulty
    most = own.n_programs // 2 * own.n_clips
    if max(config.counts) > most:
        raise ValueError(f"a new class has {most} clips to draw examples from, got {max(config.counts)}")
    outcomes = []
    for seed in config.seeds:
        outcomes += list(_measure_seed(config, seed, methods))
        say(f"seed {seed}: done")
    return outcomes


def _measure_seed(config: FewExamplesConfig, seed: int, methods: Sequence[str]) -> Iterator[Outcome]:
    own, clips = config.difficulty, make_clips(config.difficulty, seed)
    rng = np.random.default_rng([seed, 18])
    is_known = clips.classes < own.n_known
    base = np.flatnonzero(clips.is_learned & is_known)
    asked = np.flatnonzero(~clips.is_learned)
    # One order of each new class's clips: more examples are the fewer ones and further ones.
    orders = [
        rng.permutation(np.flatnonzero(clips.is_learned & (clips.classes == c)))
        for c in range(own.n_known, own.n_known + own.n_new)
    ]
    head = replace(config.head, seed=seed, min_examples=1)
    known_head = _train(clips, base, head, AugmentationConfig())
    targets = np.eye(own.n_known, dtype=np.float32)[clips.classes[base]]
    empty = ExampleBank(
        clips.x[:0],
        (),
        clips.x[base].mean(axis=0),
        fit_likeness(clips.x[base], targets, clips.groups[base], seed=seed),
        fit_metric(clips.x[base], targets),
    )
    for count in config.counts:
        examples = np.concatenate([order[:count] for order in orders])
        for method in methods:
            augmentation = METHODS[method]
            if augmentation is None:
                bank = replace(empty, metric=None) if method.endswith("plain metric") else empty
                names = [_path(c) for c in clips.classes[examples]]
                model = replace(known_head, bank=bank.add(clips.x[examples], names))
            else:
                model = _train(clips, np.concatenate([base, examples]), head, augmentation)
            yield Outcome(method, count, seed, *_scored(model, clips, asked, own.n_known))


def _path(c: int) -> str:
    return f"class {c:03d}"


def _train(
    clips: Clips, rows: NDArray[np.int64], head: HeadTraining, augmentation: AugmentationConfig
) -> CategoryModel:
    """A model of one tier whose head learns from ``rows``."""
    n_classes = int(clips.classes.max()) + 1
    paths = tuple(_path(c) for c in range(n_classes))
    targets = np.eye(n_classes, dtype=np.float32)[clips.classes[rows]]
    known = np.ones(len(rows), bool)
    config = replace(head, augmentation=augmentation)
    origin = HeadOrigin(1, paths)
    trained = train_head(clips.x[rows], targets, known, clips.groups[rows], config, origin)
    return CategoryModel(Taxonomy.of_paths(paths), (trained,))


def _scored(
    model: CategoryModel, clips: Clips, asked: NDArray[np.int64], first: int
) -> tuple[float, float, float]:
    """Scores of the clips that are asked about, the classes from ``first`` on apart from those before.

    Returns:
        Average precision of a class from ``first`` on among all these clips, mean over classes; of the clips
        of such a class the share whose best category is theirs; and that of the others.
    """
    (p,) = model.probabilities(clips.x[asked])
    p = np.nan_to_num(p, nan=-1.0)
    classes = clips.classes[asked]
    is_right, is_apart = p.argmax(axis=1) == classes, classes >= first
    precision = [
        micro_average_precision(p[:, c], classes == c, int((classes == c).sum()))
        for c in np.unique(classes[is_apart])
    ]
    return float(np.mean(precision)), float(is_right[is_apart].mean()), float(is_right[~is_apart].mean())


@dataclass(frozen=True)
class BalanceOutcome:
    """Unbalanced classes learned with one balance and one seed, asked about on other programs.

    Attributes:
        common: Share of clips of the more common half of classes whose best category is theirs.
        rare: The same of the rarer half.
        precision: Average precision of the rarer half's classes, mean over classes.
        ece_before: Calibration error on held-out programs without calibration, as the head's figures have it.
        ece_temperature: By temperature alone.
        ece: By temperature and rivalry.
    """

    balance: float
    seed: int
    common: float
    rare: float
    precision: float
    ece_before: float
    ece_temperature: float
    ece: float


def measure_balance(
    config: FewExamplesConfig, *, balances: Sequence[float] = (0.0, 0.5, 1.0)
) -> list[BalanceOutcome]:
    """Learn from known classes of which the n-th has a share 1/n of its programs left, at least two."""
    own, outcomes = config.difficulty, []
    for seed in config.seeds:
        clips = make_clips(own, seed)
        left = np.maximum(2, (own.n_programs // 2) // (1 + np.arange(own.n_known + own.n_new)))
        is_left = clips.groups % own.n_programs < left[clips.classes]
        is_known = clips.classes < own.n_known
        base = np.flatnonzero(clips.is_learned & is_known & is_left)
        asked = np.flatnonzero(~clips.is_learned & is_known)
        for balance in balances:
            head = replace(config.head, seed=seed, min_examples=1, balance=balance)
            model = _train(clips, base, head, AugmentationConfig())
            precision, rare, common = _scored(model, clips, asked, own.n_known // 2)
            outcomes.append(
                BalanceOutcome(
                    balance,
                    seed,
                    common,
                    rare,
                    precision,
                    *(model.heads[0].figures[name] for name in ("ece_before", "ece_temperature", "ece")),
                )
            )
    return outcomes


def balance_table(outcomes: Sequence[BalanceOutcome]) -> str:
    """A Markdown table, mean ± standard deviation over seeds."""
    lines = [
        "| balance | common clips named | rare clips named | average precision, rare"
        " | ECE before | ECE, temperature | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for balance in dict.fromkeys(one.balance for one in outcomes):
        own = [one for one in outcomes if one.balance == balance]
        names = ("common", "rare", "precision", "ece_before", "ece_temperature", "ece")
        cells = [_spread([getattr(one, name) for one in own]) for name in names]
        lines.append(f"| {balance:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table: a row for each number and method, mean ± standard deviation over seeds."""
    lines = [
        "| examples | method | average precision | new clips named | known clips named |",
        "|---|---|---|---|---|",
    ]
    for count in dict.fromkeys(one.count for one in outcomes):
        for method in dict.fromkeys(one.method for one in outcomes):
            own = [one for one in outcomes if (one.count, one.method) == (count, method)]
            if not own:
                continue
            cells = [_spread([getattr(one, name) for one in own]) for name in ("precision", "found", "known")]
            lines.append(f"| {count} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.2f} ± {deviation:.2f}"
