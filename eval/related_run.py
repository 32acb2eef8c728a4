"""How well clips find the program that they are about, where they show nothing that the store has of it.

The store has the first half of every program, clips are cut from the second (:mod:`eval.related_material`).
Each goes through the pipeline as any clip does. What it is about is then asked in several ways, each with
less than all that is known: by the votes of its frames alone, by its embedding, by its title, by all of it.

A run's folder holds ``related.json``, the halves of films, and for each seed its dramas, clips and store.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.link_run import RunNotes, prepare
from eval.making import read_json, write_json
from eval.related_figures import ALL, ROWS, related_figures
from eval.related_material import GROUPS, KINDS, RelatedClip, RelatedPlan, halved_programs, make_related
from matcher.config import Settings
from matcher.embedding import MEAN, Fusion
from matcher.errors import InputError
from matcher.models_run import use_embeddings
from matcher.pipeline import add_programs, keep, query_clips
from matcher.related import EVIDENCE, RelatedSearch
from matcher.show import print_json, print_table, progress_bar, say, summary
from matcher.store import create_catalog, open_linker, open_surroundings, save_caches, translated
from matcher.surroundings import Asked, features_for

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from matcher.encoders.base import FrameEncoder
    from matcher.records import Answer
    from matcher.surroundings import Surroundings

RESULT = "related.json"
TOP = 5
#: Candidates whose evidence is noted of a clip, the most likely first.
_NOTED = 16

PublicObject = dict[str, Any]


def run_related(
    plans: Sequence[RelatedPlan],
    out: Path,
    settings: Settings,
    encoder: FrameEncoder,
    *,
    model: Path | None = None,
    workers: int = 2,
    command: str = "",
) -> PublicObject:
    """Make the material of each plan, ask its clips, and say how well it went.

    Args:
        plans: Alike but for their seeds.
        out: The run's folder; new, empty, or that of the same run.
        settings: Of the pipeline.
        encoder: Of the stores' pictures.
        model: File of a clip model that is asked beside the parameter-free mean.
        workers: Processes that make dramas and clips; 0 makes them in this one.
        command: Said in the figures.

    Returns:
        The figures, as ``related.json`` holds them.

    Raises:
        InputError: A folder holds something else, or a film or the model cannot be read.
    """
    if not settings.fusion.enabled:
        raise InputError("the settings make no embeddings: set enabled = true under [fusion]")
    notes = RunNotes(command, settings, encoder.info.fingerprint, encoder.engine)
    made_of = [{name: value for name, value in plan.to_json().items() if name != "seed"} for plan in plans]
    prepare(
        out, notes, {"related": made_of[0], "clip_model": None if model is None else str(model.resolve())}
    )
    rows: list[PublicObject] = []
    for plan in plans:
        path = out / f"seed-{plan.seed}" / ROWS
        there = read_json(path)
        if there is None:
            there = {"rows": _rows_of(plan, out, settings, encoder, model, workers)}
            write_json(path, there)
        rows += there["rows"]
    value = related_figures(rows) | {"run": notes.to_json() | {"plan": plans[0].to_json()}}
    write_json(out / RESULT, value)
    return value


def _rows_of(
    plan: RelatedPlan, out: Path, settings: Settings, encoder: FrameEncoder, model: Path | None, workers: int
) -> list[PublicObject]:
    """Everything that is known of each clip of one seed."""
    clips = make_related(plan, out, workers=workers)
    folder = out / f"seed-{plan.seed}"
    catalog = create_catalog(folder / "store", encoder.info)
    with translated(), catalog.writing() as writer:
        _add(writer, plan, out, encoder, settings)
        answers = _ask(writer, clips, encoder, settings)
    asked = {MEAN: _asked_of(catalog, settings, clips)}
    if model is not None:
        # In a copy: the store itself stays as the clips were asked of it.
        copy = folder / "store-of-model"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder / "store", copy)
        other = create_catalog(copy, encoder.info)
        with translated(), other.writing() as writer:
            use_embeddings(writer, settings, str(model))
        asked["model"] = _asked_of(other, settings, clips)
    return [
        _row(plan, clip, answer) | {"asked": {name: found[clip.clip_id] for name, found in asked.items()}}
        for clip, answer in zip(clips, answers, strict=True)
    ]


def _add(writer: Writer, plan: RelatedPlan, out: Path, encoder: FrameEncoder, settings: Settings) -> None:
    started = time.monotonic()
    jobs = [program.job() for program in halved_programs(plan, out) if not program.is_stranger]
    with progress_bar("adding halves", len(jobs)) as bar:
        for result in add_programs(writer, jobs, encoder, settings, on_frames=bar.frames):
            if result.outcome == "failed":
                raise InputError(f"{result.program_id}: {result.message}")
            bar.step(result.program_id)
    say(f"store: {len(jobs)} programs, {time.monotonic() - started:.1f} s")


def _ask(
    writer: Writer, clips: Sequence[RelatedClip], encoder: FrameEncoder, settings: Settings
) -> list[Answer]:
    """The answers of the pipeline, in order; the store keeps the clips."""
    started = time.monotonic()
    live = save_caches(writer.catalog, settings.index, writer)
    linker = open_linker(writer.catalog, settings, live)
    surroundings = _surroundings(writer.catalog, settings)
    answers = []
    with progress_bar("asking", len(clips)) as bar:
        pairs = query_clips(
            linker, [clip.job() for clip in clips], encoder, settings, top=TOP, kept=writer.catalog,
            on_frames=bar.frames, surroundings=surroundings,
        )  # fmt: skip
        for answer in keep(writer, pairs):
            if answer.error is not None:
                raise InputError(f"{answer.clip_id}: {answer.error.message}")
            answers.append(answer)
            bar.step(answer.clip_id)
    say(f"clips: {len(clips)} asked, {time.monotonic() - started:.1f} s")
    return answers


def _surroundings(catalog: Catalog, settings: Settings) -> Surroundings:
    found = open_surroundings(catalog, settings)
    if found is None or found.search is None:
        raise InputError(
            f"the store {catalog.place} has no embeddings; delete it, and run the same command again"
        )
    return found


# --- Asking with less than all that is known ---


@dataclass(frozen=True)
class Way:
    """What of a clip is shown to the search; the last one of :data:`WAYS` is that of the pipeline.

    Attributes:
        name: In the tables.
        has_pictures: Its frames and sound are embedded.
        is_fused: Its words are part of the embedding.
        has_title: Its words are searched for titles.
    """

    name: str
    has_pictures: bool
    is_fused: bool
    has_title: bool


WAYS = (
    Way("embedding without words", has_pictures=True, is_fused=False, has_title=False),
    Way("embedding with words fused", has_pictures=True, is_fused=True, has_title=False),
    Way("title", has_pictures=False, is_fused=False, has_title=True),
    Way("embedding with words fused, title", has_pictures=True, is_fused=True, has_title=True),
    Way("embedding without words, title", has_pictures=True, is_fused=False, has_title=True),
)


def _asked_of(catalog: Catalog, settings: Settings, clips: Sequence[RelatedClip]) -> dict[str, PublicObject]:
    """By clip and way, what a store's embeddings and titles say of its kept clips."""
    surroundings = _surroundings(catalog, settings)
    assert surroundings.search is not None
    names = [clip.clip_id for clip in clips]
    known = catalog.features(names)
    kept = {clip.record.clip_id: clip for clip in catalog.iter_clips(names)}
    asked = [Asked.again(kept[name], known.get(name)) for name in names]
    found: dict[str, PublicObject] = {name: {} for name in names}
    for way in WAYS:
        for name, one in zip(
            names, ask_in(way, surroundings.fusion, surroundings.search, asked), strict=True
        ):
            found[name][way.name] = one
    return found


def ask_in(way: Way, fusion: Fusion, search: RelatedSearch, clips: Sequence[Asked]) -> Iterator[PublicObject]:
    """What is found of each clip, shown in one way.

    Yields:
        ``candidates``: [program, confidence] by falling confidence, whether they reach the bar or not;
        ``evidence``: of each, as :data:`matcher.related.EVIDENCE` names it; ``bar``.
    """
    features = [features_for(fusion, clip).usable(fusion) for clip in clips]
    if not way.is_fused:
        features = [replace(one, text=None) for one in features]
    x = (
        fusion.embedder.embed(features)
        if way.has_pictures
        else np.zeros((len(clips), fusion.info.d), np.float32)
    )
    # As the store rounds them, and so as the pipeline's own.
    x = x.astype(np.float16).astype(np.float32)
    for lead in search.leads(x, [clip.words.text if way.has_title else None for clip in clips]):
        confidence, ids = search.weights.confidence(lead.evidence), search.program_ids(lead)
        order = np.lexsort((lead.positions, -confidence))[:_NOTED]
        yield {
            "candidates": [[ids[place], round(float(confidence[place]), 6)] for place in order],
            "evidence": np.round(lead.evidence[order], 6).tolist(),
            "bar": search.weights.bar,
        }


def _row(plan: RelatedPlan, clip: RelatedClip, answer: Answer) -> PublicObject:
    return {
        "clip_id": clip.clip_id, "seed": plan.seed, "program_id": clip.program_id, "group": clip.group,
        "kind": clip.kind, "is_stranger": clip.is_stranger, "shows": clip.back.shows,
        "copied_seconds": clip.back.copied_seconds, "same_shot_seconds": clip.back.same_shot_seconds,
        "edits": list(clip.edits), "title": clip.title.text,
        "says": clip.title.says, "names": clip.title.names, "decision": answer.decision,
        "links": [[link.program_id, round(link.confidence, 6)] for link in answer.links],
        "votes": [[guess.program_id, round(guess.log_odds, 4)] for guess in answer.candidates],
        "related": [[one.program_id, round(one.confidence, 6)] for one in answer.related],
    }  # fmt: skip


# --- Shown ---


def show_related(value: PublicObject, *, as_json: bool, seconds: float) -> None:
    """Print a run's figures: tables, or all as one JSON object.

    Args:
        value: As :func:`run_related` returns it.
        as_json: One object on one line, and no table.
        seconds: What the whole run took.
    """
    if as_json:
        print_json(value)
    else:
        _show_decisions(value)
        _show_recall(value)
        _show_bar(value)
        _show_refit(value)
    summary(value["counts"], seconds)


def _show_decisions(value: PublicObject) -> None:
    print_table(
        "Linked as copies",
        ("clips", "group", "clips of it", "linked", "to their own", "review", "related named"),
        [
            (
                row["clips"], row["group"], str(row["linked"]["of"]), str(row["linked"]["right"]),
                str(row["linked_to_own"]), str(row["review"]["right"]), _per_cent(row["related"]),
            )
            for row in value["decisions"]
            if row["linked"]["of"]
        ],
    )  # fmt: skip
    if value["wrong_links"]:
        print_table(
            "Linked, and no copy",
            ("seed", "clip", "shows", "linked to", "confidence", "edits"),
            [
                (
                    str(row["seed"]),
                    row["clip_id"],
                    row["shows"],
                    row["links"][0][0],
                    f"{row['links'][0][1]:.3f}",
                    ", ".join(row["edits"]),
                )
                for row in value["wrong_links"]
            ],
        )


def _show_recall(value: PublicObject) -> None:
    columns = [
        (group, kind) for group in (*GROUPS, ALL) for kind in (*KINDS, ALL) if ALL not in (group, kind)
    ]
    columns.append((ALL, ALL))
    rows: dict[tuple[str, str], dict[tuple[str, str], PublicObject]] = {}
    for row in value["recall"]:
        rows.setdefault((row["model"], row["way"]), {})[row["group"], row["kind"]] = row
    print_table(
        "The clip's program comes first (recall@1)",
        ("model", "shown", *(_column(of, value) for of in columns), "least and most of seeds"),
        [
            (model, way, *(_per_cent(found[of]) for of in columns), _spread(found[ALL, ALL]["by_seed"]))
            for (model, way), found in rows.items()
        ],
    )
    says = list(dict.fromkeys(row["says"] for row in value["by_title"]))
    titles = {(row["model"], row["way"], row["says"]): row for row in value["by_title"]}
    print_table(
        "The same by what the clip's title says",
        ("model", "shown", *says),
        [(model, way, *(_per_cent(titles[model, way, one]) for one in says)) for model, way in rows],
    )


def _column(of: tuple[str, str], value: PublicObject) -> str:
    row = next(row for row in value["recall"] if (row["group"], row["kind"]) == of)
    name = ALL if of == (ALL, ALL) else " ".join(of)
    return f"{name} ({row['of']})"


def _show_bar(value: PublicObject) -> None:
    errors = {(row["model"], row["way"]): row["calibration_error"] for row in value["calibration"]}
    print_table(
        "Named at the bar",
        ("model", "shown", "group", "precision", "recall", "strangers named", "calibration error"),
        [
            (
                row["model"], row["way"], row["group"], _per_cent(row["precision"]), _per_cent(row["recall"]),
                _per_cent(row["strangers_named"]),
                _number(errors[row["model"], row["way"]]) if row["group"] == ALL else "",
            )
            for row in value["at_the_bar"]
        ],
    )  # fmt: skip
    print_table(
        "Strangers that are said to be about a program, by what their title says",
        ("title", "strangers", "named"),
        [(row["says"], str(row["of"]), _per_cent(row)) for row in value["false_by_title"] if row["of"]],
    )
    for row in value["calibration"]:
        if row["way"] == WAYS[-1].name:
            print_table(
                f"How sure it is of the best program, and how often rightly ({row['model']}, {row['way']})",
                ("confidence", "right", "clips"),
                [
                    (f"{part['mean_confidence']:.3f}", _per_cent(part), str(part["of"]))
                    for part in row["bins"]
                ],
            )


def _show_refit(value: PublicObject) -> None:
    print_table(
        "Weights fitted on half of the programs, and the shipped ones, on the other half",
        ("half", "weights", "bias", *EVIDENCE, "recall@1", "precision", "recall", "calibration error"),
        [
            (
                str(row["half"]), row["weights"], f"{row['bias']:.2f}",
                *(f"{row['of'][name]:.2f}" for name in EVIDENCE),
                _per_cent(row["recall_at_1"]), _per_cent(row["precision"]), _per_cent(row["recall"]),
                _number(row["calibration_error"]),
            )
            for row in value["refit"]
        ],
    )  # fmt: skip


def _per_cent(of: PublicObject) -> str:
    return "" if of["share"] is None else f"{of['share']:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _spread(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{min(found):.1%}–{max(found):.1%}" if found else ""
