"""What the listing verbs say: one object for each program, clip or link, as ``--json`` prints it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matcher.config import Settings
from matcher.store import open_live

if TYPE_CHECKING:
    from index.catalog import Catalog


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

    ``stale`` is true where the program has left the catalogue since: the next re-link answers anew.
    """
    live = {record.program_id for record in catalog.programs()}
    for record in catalog.links():
        if decision is not None and record.decision != decision:
            continue
        answer = json.loads(record.answer)
        rest = {
            "decision": record.decision,
            "catalog_version": record.catalog_version,
            "linked_at": record.linked_at,
        }
        found = [*answer["links"], *answer["review"]]
        for link in found:
            if program is None or link["program_id"] == program:
                stale = link["program_id"] not in live
                yield {"clip_id": record.clip_id, **link, **rest, "stale": stale}
        if not found and program is None:
            yield {
                "clip_id": record.clip_id, "program_id": None, "confidence": record.confidence,
                "segments": [], **rest, "stale": False,
            }  # fmt: skip


def status_object(catalog: Catalog, settings: Settings) -> dict[str, Any]:
    """Counts, versions and sizes of a store."""
    live = open_live(catalog, settings.index)
    return {
        "store": str(catalog.path.resolve()),
        "catalog_version": catalog.version(),
        "model": catalog.model.fingerprint,
        "encoder": catalog.model.name,
        "dimensions": catalog.model.d,
        **catalog.counts(),
        "index": live.kind,
        "index_frames": live.ntotal,
        "bytes": folder_bytes(catalog.path),
        "settings": settings.digest(),
    }


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below ``folder``; one that vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
