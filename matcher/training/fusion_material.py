"""From a store's kept clips and what people said of them to what the clip model learns from.

Shape letters: ``N`` clips, ``C`` classes of a tier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matcher.embedding import Encoders
from matcher.errors import InputError
from matcher.fusion.config import HeadConfig
from matcher.store import default_fusion
from matcher.training.fusion_data import NO_PROGRAM, ClassLists, Labelled, Targets, split_by_program
from matcher.training.labels import Fault, Labels, check_counts, check_features, check_split
from matcher.training.store_embeddings import linked_programs, with_programs
from matcher.training.store_source import COLUMNS, StoreSource

if TYPE_CHECKING:
    from index.catalog import Catalog
    from matcher.config import Settings


@dataclass(frozen=True)
class Material:
    """What a clip model is trained on.

    Attributes:
        train: Clips that it learns from.
        validation: Clips of other programs.
        heads: One a tier with labels; none where there are no labels.
        encoders: Of the features.
        facts: For the model card; JSON values.
        faults: What is wrong with the data, short of stopping.
    """

    train: Labelled
    validation: Labelled
    heads: tuple[HeadConfig, ...]
    encoders: Encoders
    facts: dict[str, Any]
    faults: tuple[Fault, ...]


def encoders_in_use(catalog: Catalog, settings: Settings) -> Encoders:
    """The encoders behind a store's features.

    Raises:
        InputError: An encoder that the settings name is not known.
    """
    return default_fusion(catalog, settings).encoders


def material_of_labels(
    catalog: Catalog, labels: Labels, encoders: Encoders, *, held_out: float, seed: int
) -> Material:
    """Clips that people gave a category.

    The program of one whose label names none is that of its link, if it has one.

    Args:
        catalog: The store.
        labels: Read against a taxonomy.
        encoders: The fingerprints of the text and scene encoders say whose features are good.
        held_out: Share of the programs to judge by.
        seed: Draws them.

    Raises:
        InputError: A label would teach something wrong, no clip has features, or all are of one program.
    """
    labels.stop_on_faults()
    has_features, faults = _ids_with_features(catalog, encoders)
    faults = [*labels.faults, *faults, *check_features(labels, has_features)]
    places = [place for place, clip_id in enumerate(labels.clip_ids) if clip_id in has_features]
    if not places:
        raise InputError(
            f"none of the {len(labels)} labelled clips has features in the store {catalog.place}; keep them"
            f" with: matcher link{_besides(faults)}"
        )
    labels = with_programs(labels.rows(places), catalog)
    program = program_numbers(labels.program_ids)
    learned, judged = split_by_program(program, share=held_out, seed=seed)
    faults += check_counts(labels, range(1, labels.taxonomy.n_tiers + 1))
    faults += check_split(labels, learned, judged)
    values, known = {}, {}
    for tier in range(1, labels.taxonomy.n_tiers + 1):
        table, is_known = labels.targets(tier)
        if (table * is_known[:, None]).any():
            values[f"tier{tier}"], known[f"tier{tier}"] = _lists(table), is_known
    targets = Targets(values, known, program)
    sides = [_side(catalog, labels.clip_ids, targets, rows, encoders) for rows in (learned, judged)]
    heads = tuple(HeadConfig(name, one.n_classes) for name, one in values.items())
    facts = {
        **_counts(labels.clip_ids, program, learned, judged),
        "taxonomy": labels.taxonomy.label,
        "taxonomy_fingerprint": labels.taxonomy.fingerprint(),
        "classes": {head.name: head.n_classes for head in heads},
    }
    return Material(sides[0], sides[1], heads, encoders, facts, tuple(faults))


def material_of_links(catalog: Catalog, encoders: Encoders, *, held_out: float, seed: int) -> Material:
    """All linked clips and their programs: enough for a self-supervised start, with no labels at all.

    Raises:
        InputError: No linked clip has features, or all are of one program.
    """
    has_features, faults = _ids_with_features(catalog, encoders)
    linked = {clip_id: name for clip_id, name in linked_programs(catalog).items() if clip_id in has_features}
    if not linked:
        raise InputError(
            f"no linked clip of the store {catalog.place} has features; keep clips with: matcher link, or"
            f" give labels with --clips{_besides(faults)}"
        )
    clip_ids, names = list(linked), list(linked.values())
    program = program_numbers(names)
    learned, judged = split_by_program(program, share=held_out, seed=seed)
    targets = Targets.of_programs(program)
    sides = [_side(catalog, clip_ids, targets, rows, encoders) for rows in (learned, judged)]
    facts = {**_counts(clip_ids, program, learned, judged), "classes": {}}
    return Material(sides[0], sides[1], (), encoders, facts, tuple(faults))


def lines_of(faults: Iterable[Fault]) -> list[str]:
    """What is said of faults: of each kind the first, and how many more there are."""
    by_kind: dict[str, list[str]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault.message)
    return [first + (f" (and {len(more)} more like it)" if more else "") for first, *more in by_kind.values()]


def program_numbers(names: Sequence[str]) -> NDArray[np.int64]:
    """(N,) a number for each name; :data:`~matcher.training.fusion_data.NO_PROGRAM` for an empty one."""
    numbers = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
    return np.array([numbers.get(name, NO_PROGRAM) for name in names], np.int64)


def _ids_with_features(catalog: Catalog, encoders: Encoders) -> tuple[set[str], list[Fault]]:
    """Clips whose features are of the encoders that are used now, and a line on those of other scenes.

    A clip without any second of sound is of every scene encoder.
    """
    states = catalog.feature_states()
    fit = {name for name, state in states.items() if state.text_model in ("", encoders.text)}
    other = {name for name in fit if states[name].seconds and states[name].scene_model != encoders.scene}
    if not other:
        return fit, []
    said = (
        f"{len(other)} of {len(fit)} clips were kept with another `scene` under [fusion] in --config than is"
        f" set now, such as {min(other)}, and take no part; set the one of before to train on them, or"
        " describe them anew with: matcher link"
    )
    return fit - other, [Fault("other_scene", said)]


def _besides(faults: Sequence[Fault]) -> str:
    """Why clips may have no features that fit, although they are kept."""
    return "".join(f"; {fault.message}" for fault in faults if fault.kind == "other_scene")


def _lists(table: NDArray[np.float32]) -> ClassLists:
    """(N, C) of ones and zeros as class lists."""
    rows, classes = np.nonzero(table)
    starts = np.searchsorted(rows, np.arange(len(table) + 1))
    return ClassLists(starts.astype(np.int64), classes.astype(np.int64), table.shape[1])


def _side(
    catalog: Catalog,
    clip_ids: Sequence[str],
    targets: Targets,
    rows: NDArray[np.int64],
    encoders: Encoders,
) -> Labelled:
    """One side of the split as a source of its own, those of a program next to each other.

    So no block that is read holds clips that are not wanted.
    """
    rows = rows[np.argsort(targets.program[rows], kind="stable")]
    reader = catalog.feature_reader(COLUMNS, [clip_ids[row] for row in rows])
    return Labelled(StoreSource(reader, encoders.dimensions), _rows_of(targets, rows))


def _rows_of(targets: Targets, rows: NDArray[np.int64]) -> Targets:
    values = {name: _lists(targets.dense(name, rows)) for name in targets.values}
    return Targets(
        values, {name: targets.known_of(name)[rows] for name in targets.values}, targets.program[rows]
    )


def _counts(
    clip_ids: Sequence[str],
    program: NDArray[np.int64],
    learned: NDArray[np.int64],
    judged: NDArray[np.int64],
) -> dict[str, Any]:
    return {
        "clips": len(clip_ids),
        "programs": len(set(program.tolist()) - {NO_PROGRAM}),
        "clips_without_program": int((program == NO_PROGRAM).sum()),
        "trained_on": len(learned),
        "held_out": len(judged),
        "programs_held_out": len(set(program[judged].tolist()) - {NO_PROGRAM}),
    }
