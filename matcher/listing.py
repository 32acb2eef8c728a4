"""What the listing verbs say: one object for each program, clip or link, as ``--json`` prints it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from index.drift import advice
from index.engines import choose_kind
from index.live import saved_index
from index.rows import ALL_KINDS, Kind
from index.stretches import Cut
from matcher.config import IndexSettings, Settings

if TYPE_CHECKING:
    from index.catalog import Catalog
    from index.rows import LinkRecord


def program_objects(catalog: Catalog) -> Iterator[dict[str, Any]]:
    """The live programs with their assets."""
    assets = defaultdict(list)
    for asset in catalog.assets():
        assets[asset.program_id].append(asset)
    for program in catalog.programs():
        own = assets[program.program_id]
        yield {
            "program_id": program.program_id,
            "title": program.title,
            "aliases": list(program.aliases),
            "categories": list(program.categories),
            "duration_seconds": sum(asset.duration_seconds for asset in own),
            "frames": program.frame_count,
            "added_at": program.added_at,
            "assets": [
                {
                    "asset_id": asset.asset_id,
                    "path": asset.path,
                    "duration_seconds": asset.duration_seconds,
                    "frames": asset.frame_count,
                }
                for asset in own
            ],
        }


def clip_objects(catalog: Catalog) -> Iterator[dict[str, Any]]:
    """The kept clips with their latest decision, None where a clip was never linked."""
    links = {link.clip_id: link for link in catalog.links()}
    for clip in catalog.clips():
        link = links.get(clip.clip_id)
        yield {
            "clip_id": clip.clip_id,
            "path": clip.path,
            "title": clip.title,
            "duration_seconds": clip.duration_seconds,
            "frames_seen": clip.frames_seen,
            "kept_at": clip.kept_at,
            "decision": None if link is None else link.decision,
            "program_id": None if link is None else link.program_id,
        }


def link_objects(catalog: Catalog, *, program: str | None, decision: str | None) -> Iterator[dict[str, Any]]:
    """One object a link; a clip with no link gives one with ``program_id`` null.

    What is up for review is no link yet: it stands in the field ``review`` of that one object.
    ``stale`` is true where a program named has left the catalogue since: the next re-link answers anew.
    ``reviewed`` is what a person said of the clip, its ``decides`` whether the link is that person's; None
    where nobody said anything, or before that was kept.

    Args:
        catalog: The store.
        program: Only links to this program, and clips that may be from it.
        decision: Only clips of this decision.
    """
    live = {record.program_id for record in catalog.programs()}
    records = {record.clip_id: record for record in catalog.links()}
    for clip in catalog.clips():
        record = records.get(clip.clip_id)
        found = _links_of(clip.clip_id, record)
        if decision is not None and found[0]["decision"] != decision:
            continue
        for link in found:
            named = {part["program_id"] for part in (link, *link["review"])} - {None}
            if program is None or program in named:
                yield {**link, "stale": not live.issuperset(named)}


def _links_of(clip_id: str, record: LinkRecord | None) -> list[dict[str, Any]]:
    """At least one object; ``record`` is None where a killed ``link`` kept the clip only."""
    answer = {"links": [], "review": []} if record is None else json.loads(record.answer)
    rest = {
        "review": answer["review"],
        "reviewed": answer.get("reviewed"),
        "related": answer.get("related", []),
        "categories": answer.get("categories"),
        "decision": None if record is None else record.decision,
        "catalog_version": None if record is None else record.catalog_version,
        "linked_at": None if record is None else record.linked_at,
    }
    confidence = 0.0 if record is None else round(record.confidence, 6)
    none: dict[str, Any] = {"program_id": None, "confidence": confidence, "segments": []}
    return [{"clip_id": clip_id, **link, **rest} for link in answer["links"] or [none]]


def status_object(catalog: Catalog, settings: Settings) -> dict[str, Any]:
    """Counts, versions and sizes of a store, and how its indexes stand; loads none of them."""
    counts = catalog.counts()
    states = [
        _index_state(catalog, settings.index, table, counts[table])
        for table in ALL_KINDS
        if catalog.model_of(table) is not None
    ]
    return {
        "store": catalog.place.full_name,
        "catalog_version": catalog.version(),
        "model": catalog.model.fingerprint,
        "encoder": catalog.model.name,
        "dimensions": catalog.model.d,
        "sound_model": None if catalog.sound_model is None else catalog.sound_model.fingerprint,
        "embedding_model": None if catalog.embedding_model is None else catalog.embedding_model.name,
        **counts,
        "index": states[0]["kind"],
        "index_frames": counts["frames"],
        "index_sounds": counts["sounds"],
        "indexes": states,
        "bytes": catalog.place.size(),
        "settings": settings.digest(),
    }


def _index_state(catalog: Catalog, settings: IndexSettings, table: Kind, n: int) -> dict[str, Any]:
    """What the saved search cache of one table says of itself."""
    state: dict[str, Any] = {"table": table, "kind": settings.kind, "saved": 0, "retrain": []}
    if settings.kind == "auto":
        state["kind"] = choose_kind(n)
    model = catalog.model_of(table)
    assert model is not None
    two_stage = settings.search == "two-stage"
    if two_stage:
        state["kind"] = "two-stage"
    saved = saved_index(catalog, Cut().fingerprint(model.fingerprint) if two_stage else model.fingerprint)
    if saved is None:
        return state
    state |= {"kind": f"two-stage {saved.kind}" if two_stage else saved.kind, "saved": saved.n}
    if saved.training is not None and saved.drift is not None:
        state |= {
            "trained_on": saved.training.n,
            "trained_at": saved.training.at,
            "imbalance": saved.drift.imbalance,
            "recall_at_10": saved.drift.recall,
            "measured_at": saved.drift.at,
            "retrain": advice(saved.training, saved.drift),
        }
    return state


def status_rows(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ``status`` prints: :func:`status_object`, the indexes in words."""
    rows = [(key, str(value)) for key, value in status.items() if key != "indexes"]
    for state in status["indexes"]:
        words = f"{state['kind']}, {state['saved']} saved"
        if "recall_at_10" in state:
            words += (
                f"; trained on {state['trained_on']}; recall@10 {state['recall_at_10']:.3f}, "
                f"lists {state['imbalance']:.2f} times as unequal as equal ones"
            )
        if state["retrain"]:
            words += f"; run `matcher index retrain`: {'; '.join(state['retrain'])}"
        rows.append((f"index of {state['table']}", words))
    return rows
