"""What people said of clips: a CSV file with a category each, read against a taxonomy.

Columns ``clip_id,category`` and, where it is known, ``program_id``; others are passed over. A category is a
path ``tier1[/tier2[/tier3]]``, or a name or alias that fits one category alone. A clip may have several, in
several rows or with semicolons between. One that is labelled on upper tiers alone is masked on the lower
ones: that nobody looked does not make it a negative.

Which faults stop a run: what would teach something wrong (an unknown or ambiguous category, one under another
parent than the taxonomy's, a row that cannot be read). Those are said and the run goes on which only leave
something out: a class with no example is not learned, one with a single example is answered by its nearest
examples until it has more, one that no validation clip has gets no figure of its own, and a clip without
features takes no part.

Shape letters: ``N`` clips, ``C`` categories of a tier.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from matcher.errors import InputError
from matcher.inputs import check_id, listed, one_line
from matcher.taxonomy import SEPARATOR, SLASH, Category, Taxonomy

FaultKind = Literal[
    "bad_row",
    "unknown_category",
    "ambiguous_category",
    "two_parents",
    "two_programs",
    "empty_class",
    "one_example",
    "few_examples",
    "other_scene",
    "missing_from_training",
    "missing_from_validation",
    "no_features",
]
STOPPING: frozenset[FaultKind] = frozenset(
    {"bad_row", "unknown_category", "ambiguous_category", "two_parents"}
)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with labels.

    Attributes:
        kind: What it is.
        message: One line for a person, with the file and the remedy where there is one.
    """

    kind: FaultKind
    message: str

    @property
    def stops(self) -> bool:
        """Whether nothing may be trained before it is put right."""
        return self.kind in STOPPING


@dataclass(frozen=True)
class Labels:
    """Labelled clips, in the order of their first row.

    Attributes:
        taxonomy: What they are labelled by.
        clip_ids: (N,).
        program_ids: (N,) the program that a clip is known to be from; "" where nobody knows.
        categories: (N,) those of each clip, at least one.
        faults: What is wrong with the file; the rows that stop a run are not among the clips.
    """

    taxonomy: Taxonomy
    clip_ids: tuple[str, ...]
    program_ids: tuple[str, ...]
    categories: tuple[tuple[Category, ...], ...]
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.clip_ids) == len(self.program_ids) == len(self.categories):
            raise ValueError(
                f"{len(self.clip_ids)} clips, {len(self.program_ids)} programs and"
                f" {len(self.categories)} categories must be as many of each"
            )

    def __len__(self) -> int:
        return len(self.clip_ids)

    def targets(self, tier: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What a head of ``tier`` is to say.

        Returns:
            (N, C) 1 where a clip is of a category of the tier, in the taxonomy's order, else 0; and (N,)
            whether that is known. A clip is unknown where one of its categories stands above the tier and has
            others below it there.
        """
        sets, of_clip = self._category_sets
        targets = np.zeros((len(sets), len(self.taxonomy.tier(tier))), np.float32)
        known = np.ones(len(sets), bool)
        for row, categories in enumerate(sets):
            for one in categories:
                if one.tier >= tier:
                    targets[row, self.taxonomy.index_of(self.taxonomy.lineage_of(one)[tier - 1])] = 1.0
            open_ends = [
                one
                for one in categories
                if one.tier < tier and self.taxonomy.reaches(one, tier) and not _is_continued(one, categories)
            ]
            known[row] = not open_ends
        return targets[of_clip], known[of_clip]

    @cached_property
    def _category_sets(self) -> tuple[tuple[tuple[Category, ...], ...], NDArray[np.int64]]:
        """The categories that some clip has together, each once, and (N,) which of these each clip has.

        There are hundreds where there may be millions of clips, and each is looked up several times a run.
        """
        numbers: dict[tuple[Category, ...], int] = {}
        of_clip = [numbers.setdefault(own, len(numbers)) for own in self.categories]
        return tuple(numbers), np.array(of_clip, np.int64)

    def groups(self) -> NDArray[np.int64]:
        """(N,) a number for each program; clips of unknown programs are one of their own each.

        Clips of one program share its faces and its sets: they stand on the same side of a split.
        """
        names = [
            program or f"\0{clip}" for program, clip in zip(self.program_ids, self.clip_ids, strict=True)
        ]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return np.array([numbers[name] for name in names], dtype=np.int64)

    def rows(self, which: Sequence[int] | NDArray[np.int64]) -> Labels:
        """The clips at these places."""
        places = [int(place) for place in which]
        return Labels(
            self.taxonomy,
            tuple(self.clip_ids[place] for place in places),
            tuple(self.program_ids[place] for place in places),
            tuple(self.categories[place] for place in places),
            self.faults,
        )

    def stop_on_faults(self) -> None:
        """Raise where the file may not be trained on.

        Raises:
            InputError: With the first fault that stops, and how many more there are.
        """
        stopping = [fault for fault in self.faults if fault.stops]
        if stopping:
            more = f" (and {len(stopping) - 1} more such faults)" if len(stopping) > 1 else ""
            raise InputError(f"{stopping[0].message}{more}; nothing was trained")


def read_labels(path: Path, taxonomy: Taxonomy) -> Labels:
    """Read a labels file; what is wrong with single rows is collected in ``faults``.

    Raises:
        InputError: The file cannot be read, is no CSV in UTF-8, lacks a column, or has no rows.
    """
    clips: dict[str, dict[str, Category]] = {}
    programs: dict[str, str] = {}
    faults: list[Fault] = []
    for line, clip_id, text, program_id in _cells(path, faults):
        place = f"{one_line(str(path))} line {line}"
        found = _categories(text, taxonomy, place, faults)
        if found:
            clips.setdefault(clip_id, {}).update((one.path, one) for one in found)
        before = programs.setdefault(clip_id, program_id)
        if program_id and not before:
            programs[clip_id] = program_id
        elif program_id and before != program_id:
            faults.append(
                Fault(
                    "two_programs",
                    f"{place}: clip {one_line(clip_id)} is of program {one_line(program_id)} here and of"
                    f" {one_line(before)} above; the first is taken",
                )
            )
    return Labels(
        taxonomy,
        tuple(clips),
        tuple(programs[clip_id] for clip_id in clips),
        tuple(tuple(own.values()) for own in clips.values()),
        tuple(faults),
    )


def check_counts(labels: Labels, tiers: Iterable[int], *, min_examples: int | None = None) -> list[Fault]:
    """Classes with too few examples; a line for each, one for the empty.

    Args:
        labels: The clips that take part.
        tiers: Those that are looked at.
        min_examples: A class with fewer is answered by its examples; where None, every class is learned and
            a single example is too few.
    """
    least = 2 if min_examples is None else min_examples
    faults = []
    for tier in tiers:
        targets, known = labels.targets(tier)
        categories = labels.taxonomy.tier(tier)
        counts = dict(zip(categories, targets[known].sum(axis=0).astype(int), strict=True))
        empty = [one.path for one, count in counts.items() if count == 0]
        if len(empty) == len(categories):
            message = f"no clip is labelled with a category of tier {tier}; it has no head"
            faults.append(Fault("empty_class", message))
        elif empty:
            message = (
                f"{len(empty)} of {len(categories)} categories of tier {tier} have no example and are not"
                f" learned: {listed(empty)}; label clips of them"
            )
            faults.append(Fault("empty_class", message))
        for one, count in counts.items():
            if 0 < count < least:
                kind: FaultKind = "one_example" if count == 1 else "few_examples"
                has = "one example" if count == 1 else f"{count} examples"
                then = "that is too few to tell it by; label more clips of it"
                if min_examples is not None:
                    then = f"it is answered by likeness until it has {min_examples}"
                faults.append(Fault(kind, f"category {one.path!r} has {has}: {then}"))
    return faults


def check_programs(labels: Labels, tiers: Iterable[int], *, min_examples: int = 2) -> list[Fault]:
    """Classes whose examples are all of one program: held out, nothing of them is left to learn from.

    Args:
        labels: The clips that take part.
        tiers: Those that are looked at.
        min_examples: Classes with fewer are none of a head's.
    """
    faults = []
    groups = labels.groups()
    for tier in tiers:
        targets, known = labels.targets(tier)
        for one, column in zip(labels.taxonomy.tier(tier), (targets * known[:, None]).T, strict=True):
            if column.sum() >= min_examples and len(np.unique(groups[column > 0])) == 1:
                faults.append(
                    Fault(
                        "missing_from_validation",
                        f"category {one.path!r} has {int(column.sum())} clips, all of one program: it is"
                        " trained, but how well is not known; label clips of it from more programs",
                    )
                )
    return faults


def check_split(
    labels: Labels,
    train_rows: Sequence[int] | NDArray[np.int64],
    validation_rows: Sequence[int] | NDArray[np.int64],
) -> list[Fault]:
    """Classes with examples that one side of a split lacks; one line for each.

    Args:
        labels: All clips.
        train_rows: Places of the clips that are learned from.
        validation_rows: Places of those that are not, and are measured.
    """
    faults = []
    for tier in range(1, labels.taxonomy.n_tiers + 1):
        targets, known = labels.targets(tier)
        targets = targets * known[:, None]
        trained = targets[np.asarray(train_rows, np.int64)].sum(axis=0)
        measured = targets[np.asarray(validation_rows, np.int64)].sum(axis=0)
        for one, n_trained, n_measured in zip(labels.taxonomy.tier(tier), trained, measured, strict=True):
            if n_trained and not n_measured:
                faults.append(
                    Fault(
                        "missing_from_validation",
                        f"category {one.path!r} has no clip in the validation split: it is trained, but how"
                        " well is not known; label clips of it from more programs",
                    )
                )
            elif n_measured and not n_trained:
                faults.append(
                    Fault(
                        "missing_from_training",
                        f"category {one.path!r} has clips in the validation split alone and is not trained;"
                        " label clips of it from more programs",
                    )
                )
    return faults


def check_features(labels: Labels, known_ids: Collection[str]) -> list[Fault]:
    """One line with the labelled clips that the store has no features of; nothing where it has all.

    Args:
        labels: Labelled clips.
        known_ids: Clips with features; a set, as every clip is looked up in it.
    """
    lacking = [clip_id for clip_id in labels.clip_ids if clip_id not in known_ids]
    if not lacking:
        return []
    return [
        Fault(
            "no_features",
            f"{len(lacking)} of {len(labels)} labelled clips have no features in the store and take no part:"
            f" {listed(lacking)}; keep them with: matcher link",
        )
    ]


def _categories(text: str, taxonomy: Taxonomy, place: str, faults: list[Fault]) -> list[Category]:
    """What one cell names; nothing where a part of it is at fault, which is said."""
    found = []
    for part in text.split(SEPARATOR):
        if not part.strip():
            continue
        try:
            found.append(taxonomy.resolve(part))
        except InputError as error:
            faults.append(_unresolved(part.strip(), taxonomy, place, error))
            return []
    if not found:
        faults.append(Fault("bad_row", f"{place}: the category is empty; write one, or take the row out"))
    return found


def _unresolved(text: str, taxonomy: Taxonomy, place: str, error: InputError) -> Fault:
    """Why a text names no category: under another parent, of several, or of none."""
    *_, name = text.split(SLASH)
    tier = text.count(SLASH) + 1
    elsewhere = [one for one in taxonomy.categories if one.tier == tier > 1 and one.is_called(name)]
    if len(elsewhere) == 1:
        return Fault(
            "two_parents",
            f"{place}: category {one_line(text)!r} stands under another parent in taxonomy {taxonomy.label}:"
            f" {elsewhere[0].path!r}; correct the row or the taxonomy",
        )
    kind: FaultKind = "ambiguous_category" if taxonomy.candidates(text) else "unknown_category"
    return Fault(kind, f"{place}: {error}")


def _cells(path: Path, faults: list[Fault]) -> Iterator[tuple[int, str, str, str]]:
    """Line number, clip, category and program of each row that has a clip."""
    name = one_line(str(path))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except OSError as error:
        raise InputError(f"cannot read labels {name}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"labels {name} are not a CSV file in UTF-8: {error}") from error
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    missing = [column for column in ("clip_id", "category") if column not in header]
    if missing:
        raise InputError(
            f"labels {name} have no column {', '.join(missing)}; the header must name clip_id,category and"
            " may name program_id"
        )
    if len(lines) == 1:
        raise InputError(f"labels {name} have a header and no rows")
    for line, cells in lines[1:]:
        try:
            if len(cells) > len(header):
                raise InputError("more cells than the header has columns; put quotes around text with commas")
            own = {column: cell.strip() for column, cell in zip(header, cells, strict=False)}
            check_id("clip_id", own["clip_id"])
        except InputError as error:
            faults.append(Fault("bad_row", f"{name} line {line}: {error}"))
            continue
        yield line, own["clip_id"], own.get("category", ""), own.get("program_id", "")


def _is_continued(one: Category, categories: Sequence[Category]) -> bool:
    """Whether another of a clip's categories stands below ``one``."""
    return any(other.tier > one.tier and other.names[: one.tier] == one.names for other in categories)
