"""``matcher train descriptor``: fit the default model's pair whitening to one's own films.

Frames of every film, each with a few edited copies, are described by the raw default model; the
closed form of :mod:`matcher.encoders.whitening` does the rest. First it is validated by film (see
:mod:`matcher.training.validation`), then fitted on all.

Shape letters: ``m`` frames, ``n`` edited copies, ``r`` raw dimensions, ``d`` kept dimensions.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from matcher.encoders import lite0
from matcher.encoders.whitening import MEAN_SHARE, REGULARIZATION, Whitening, fit_pair_whitening
from matcher.errors import InputError
from matcher.training.card import check_target
from matcher.training.pairs import N_FRAMES, Encode, Film, Pairs, collect, find_films
from matcher.training.validation import Figures, Searches, deal_folds, search


@dataclass(frozen=True)
class Recipe:
    """What the closed form is told.

    Attributes:
        d: Dimensions to keep.
        regularization: See :func:`~matcher.encoders.whitening.fit_pair_whitening`.
        mean_share: Likewise.
    """

    d: int = 512
    regularization: float = REGULARIZATION
    mean_share: float = MEAN_SHARE

    def __post_init__(self) -> None:
        if not 1 <= self.d <= lite0.RAW_DIMENSIONS:
            raise InputError(f"--d must be from 1 to {lite0.RAW_DIMENSIONS}, got {self.d}")
        if not (self.regularization > 0 and math.isfinite(self.regularization)):
            raise InputError(f"--regularization must be above 0, got {self.regularization}")
        if not 0 <= self.mean_share <= 1:
            raise InputError(f"--mean-share must be from 0 to 1, got {self.mean_share}")

    @classmethod
    def of(cls, *, d: int | None, regularization: float | None, mean_share: float | None) -> Recipe:
        """As given, and as usual where nothing is given."""
        return cls(
            cls.d if d is None else d,
            cls.regularization if regularization is None else regularization,
            cls.mean_share if mean_share is None else mean_share,
        )


@dataclass(frozen=True)
class Row:
    """One line of the validation table.

    Attributes:
        recipe: What was fitted, once a fold.
        films: Name of the folder whose films were held out, or "all".
        kind: The edit, or "all".
        figures: What came out.
    """

    recipe: Recipe
    films: str
    kind: str
    figures: Figures


def fit(pairs: Pairs, recipe: Recipe, *, is_learnt: NDArray[np.bool_] | None = None) -> Whitening:
    """Fit on the pairs of the films marked (films,), or of all.

    A film counts by the square root of its frames, times its folder's weight.
    """
    mine = pairs.film[pairs.source]
    rows = np.ones(len(mine), bool) if is_learnt is None else is_learnt[mine]
    frames = np.bincount(pairs.film, minlength=len(pairs.films))
    share = np.array([film.weight for film in pairs.films]) * np.sqrt(frames)
    copies = np.bincount(mine, minlength=len(pairs.films))
    return fit_pair_whitening(
        pairs.originals[pairs.source[rows]], pairs.edited[rows], d=recipe.d,
        regularization=recipe.regularization, mean_share=recipe.mean_share,
        weights=(share / copies)[mine[rows]].astype(np.float32),
    )  # fmt: skip


def validate(
    pairs: Pairs, recipe: Recipe, folder_names: Sequence[str], *, n_folds: int, seed: int
) -> list[Row]:
    """Fit once a fold on the other folds' films, and let the held-out ones look for themselves.

    Returns:
        One row for all films, one a folder where there are several, then one a kind of edit.
    """
    film = pairs.film[pairs.source]
    series = np.array([one.series for one in pairs.films])
    folder = np.array([one.folder for one in pairs.films])
    fold = deal_folds([one.series for one in pairs.films], folder.tolist(), n_folds=n_folds, seed=seed)
    own = np.zeros(len(film), np.float32)
    stranger = np.zeros(len(film), np.float32)
    numbers = np.arange(len(pairs.films))
    for held_out in range(int(fold.max()) + 1):
        fitted = fit(pairs, recipe, is_learnt=fold != held_out)
        rows = np.flatnonzero(fold[film] == held_out)
        mine, foreign = film[rows], pairs.foreign[rows]
        found = search(
            fitted, pairs.edited[rows], pairs.originals, film=pairs.film,
            is_own=mine[:, None] == numbers,
            # What an edit shows of another film is that film: it is no stranger.
            is_stranger=(series[mine][:, None] != series) & (foreign[:, None] != series),
        )  # fmt: skip
        own[rows], stranger[rows] = found.own, found.stranger
    return _rows(Searches(own, stranger), recipe, folder[film], pairs.kind, folder_names)


def _rows(
    found: Searches,
    recipe: Recipe,
    folder: NDArray[np.int64],
    kind: NDArray[np.str_],
    folder_names: Sequence[str],
) -> list[Row]:
    rows = [Row(recipe, "all", "all", found.figures())]
    groups: list[tuple[str, NDArray[np.bool_]]] = [("all", np.ones(len(kind), bool))]
    if len(folder_names) > 1:
        groups = [(name, folder == number) for number, name in enumerate(folder_names)]
        groups = [(name, inside) for name, inside in groups if inside.any()]
        rows += [Row(recipe, name, "all", found.figures(inside)) for name, inside in groups]
    # Edits are told apart for the first folder: the films that matter, where generated ones help along.
    name, inside = groups[0]
    bars = Searches(found.own[inside], found.stranger[inside])
    for edit in sorted(set(kind[inside].tolist())):
        rows.append(Row(recipe, name, edit, found.figures(inside & (kind == edit), bars_by=bars)))
    return rows


def grid(recipe: Recipe) -> list[Recipe]:
    """``recipe`` first, then others around it, for the eye: the fit takes the first whatever they say."""
    cells = [
        Recipe(recipe.d, regularization, share)
        for share in (0.3, 0.4, 0.5)
        for regularization in (0.1, 0.5, 1.5, 5.0)
    ]
    return [recipe, *(cell for cell in cells if cell != recipe)]


@dataclass(frozen=True)
class Training:
    """One run of ``matcher train descriptor``, from the words of the command line.

    Attributes:
        folders: Of films.
        weights: One a folder, or none.
        exclude: Patterns of file names to leave out.
        recipe: What is fitted in the end.
        out: The file to write.
        seed: Draws the edits and the folds.
        n_frames: Of a film, at most.
        n_folds: Of the validation, at most.
        note: A line to keep in the file.
    """

    words: ClassVar[tuple[str, ...]] = ()

    folders: tuple[Path, ...]
    weights: tuple[float, ...]
    exclude: tuple[str, ...]
    recipe: Recipe
    out: Path
    seed: int = 7
    n_frames: int = N_FRAMES
    n_folds: int = 3
    note: str = ""

    @property
    def folder_names(self) -> list[str]:
        """What the folders are called in the table and in the file: never where they are."""
        return [folder.resolve().name.upper() for folder in self.folders]

    def find_films(self) -> list[Film]:
        """List the films, after a look at what would stop the run only after minutes of work.

        Raises:
            InputError: A folder has no film, there is but one series, or ``out`` cannot be written.
        """
        check_target(self.out)
        found = find_films(self.folders, self.weights, exclude=self.exclude)
        deal_folds([film.series for film in found], [0] * len(found), n_folds=self.n_folds, seed=self.seed)
        return found

    def collect(self, films: Sequence[Film], encode: Encode, *, on_film: Callable[[Film], None]) -> Pairs:
        """Describe the films, see :func:`matcher.training.pairs.collect`."""
        return collect(films, encode, n_frames=self.n_frames, seed=self.seed, on_film=on_film)

    def validate(self, pairs: Pairs, recipe: Recipe) -> list[Row]:
        """Measure one recipe on films that its fits did not see."""
        return validate(pairs, recipe, self.folder_names, n_folds=self.n_folds, seed=self.seed)

    def write(self, pairs: Pairs, rows: Sequence[Row]) -> str:
        """Fit on all pairs and write the file, whole or not at all.

        Returns:
            The fingerprint of the model with this whitening.
        """
        draft = self.out.with_name(f".{self.out.name}.part")
        try:
            fit(pairs, self.recipe).save(draft, notes=self.notes(pairs, rows))
            draft.replace(self.out)
        finally:
            draft.unlink(missing_ok=True)
        return self.fingerprint()

    def notes(self, pairs: Pairs, rows: Sequence[Row]) -> dict[str, str]:
        """What the file says of itself."""
        return notes(self, pairs, rows)

    def fingerprint(self) -> str:
        """Of the model with the file's whitening."""
        return lite0.info_with(lite0.whitening_of(self.out), lite0.SPEC).fingerprint


def command_words(training: Training) -> list[str]:
    """The command that makes the file again; where the folders are and what it is called is left out."""
    words = ["matcher", "train", "descriptor", *training.words]
    for name in training.folder_names:
        words += ["--films", name]
    for weight in training.weights:
        words += ["--weight", f"{weight:g}"]
    words += ["--seed", str(training.seed)]
    recipe = training.recipe
    # What is usual differs from pictures to sounds.
    usually, as_usual = type(recipe), type(training)
    for name, value, usual in (
        ("--d", recipe.d, usually.d),
        ("--regularization", recipe.regularization, usually.regularization),
        ("--mean-share", recipe.mean_share, usually.mean_share),
        ("--frames", training.n_frames, as_usual.n_frames),
        ("--folds", training.n_folds, as_usual.n_folds),
    ):
        words += [name, f"{value:g}"] if value != usual else []
    for pattern in training.exclude:
        words += ["--exclude", pattern]
    return words


def notes(training: Training, pairs: Pairs, rows: Sequence[Row]) -> dict[str, str]:
    """What the file says of itself, so that it can be made again and judged."""
    packages = {name: version(name) for name in ("numpy", "onnxruntime", "pillow", "av")}
    said = {
        "command": shlex.join(command_words(training)),
        "seed": str(training.seed),
        "settings": json.dumps(asdict(training.recipe)),
        "films": ", ".join(film.path.stem for film in pairs.films),
        "pairs": str(len(pairs.edited)),
        "versions": json.dumps({"model": lite0.REVISION, **packages}),
        "figures": json.dumps([row_object(row) for row in rows if row.recipe == training.recipe]),
    }
    return {**said, "note": training.note} if training.note else said


def row_object(row: Row) -> dict[str, Any]:
    """A row for ``--json`` and for the file."""
    figures = {
        name: value if name == "asked" else round(value, 4) for name, value in asdict(row.figures).items()
    }
    return {**asdict(row.recipe), "films": row.films, "kind": row.kind, **figures}


TABLE_COLUMNS = (
    "regularization", "mean share", "films", "edit", "asked", "top-1", "recall at 1 % strangers", "at 0.1 %",
)  # fmt: skip


def table_row(row: Row) -> tuple[str, ...]:
    """A row under :data:`TABLE_COLUMNS`."""
    recipe, figures = row.recipe, row.figures
    shares = (figures.top_1, figures.recall_1_percent, figures.recall_01_percent)
    return (
        f"{recipe.regularization:g}", f"{recipe.mean_share:g}", row.films, row.kind, str(figures.asked),
        *(f"{share:.3f}" for share in shares),
    )  # fmt: skip
