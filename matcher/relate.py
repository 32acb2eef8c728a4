"""What is said beside the links of *all* kept clips, brought up to date: related programs, and categories.

A link that no new program can have changed is left alone by a re-link. What a clip is about can change with
any program that is added or removed, and with any model that is taken into use; so all clips are gone
through, by their embeddings alone. Where nothing of that kind has happened since, it is not done. Links,
confidences and histories stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from index.files import storing, write_atomically
from index.rows import LinkRecord
from matcher.surroundings import Surroundings

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer

#: Clips that are gone through, and committed, together.
CHUNK_CLIPS = 1024
#: Raise it when the same embeddings come to be answered otherwise.
RULES = 1


@dataclass(frozen=True)
class Relating:
    """What was done.

    Attributes:
        clips: Gone through; 0 where nothing has happened since the last time.
        changed: Whose related programs or categories are others now.
        embedded: Whose embeddings were made anew.
    """

    clips: int = 0
    changed: int = 0
    embedded: int = 0


def relate(
    writer: Writer, surroundings: Surroundings, *, on_clips: Callable[[int], None] | None = None
) -> Relating:
    """Say anew what every kept, answered clip is about, and what it is.

    Killed at any moment, what is done is kept, and the next call does the rest.

    Args:
        writer: Of the store.
        surroundings: Of the same store, at its present state.
        on_clips: Called with how many more clips are done.

    Raises:
        NotWritableError: The disk is full or read-only.
    """
    catalog = writer.catalog
    marker = catalog.place.cache_root() / "cache" / "related.json"
    state = json.dumps(_state(catalog, surroundings), sort_keys=True)
    try:
        if marker.read_text(encoding="utf-8") == state:
            return Relating()
    except (OSError, ValueError):
        pass
    clips = changed = embedded = 0
    for clip_ids in _chunks(sorted(catalog.clip_dates())):
        known, new = surroundings.refreshed(catalog, clip_ids)
        writer.put_features(new)
        links = list(catalog.whole_links(clip_ids).values())
        renewed = _renewed(surroundings, links, known)
        writer.put_links(renewed)
        clips, changed, embedded = clips + len(links), changed + len(renewed), embedded + len(new)
        if on_clips is not None:
            on_clips(len(clip_ids))
    with storing(marker):
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, state.encode())
    return Relating(clips, changed, embedded)


def _state(catalog: Catalog, surroundings: Surroundings) -> dict[str, Any]:
    """All that an answer beside a link depends on, but the clip."""
    search, categories = surroundings.search, surroundings.categories
    return {
        "rules": RULES,
        "programs": catalog.version(),
        "embeddings": surroundings.fusion.info.fingerprint,
        "weights": None if search is None else asdict(search.weights),
        "categories": None if categories is None else categories.fingerprint,
        "min_confidence": surroundings.min_confidence,
    }


def _renewed(
    surroundings: Surroundings, links: Sequence[LinkRecord], known: dict[str, Any]
) -> list[LinkRecord]:
    """The links whose clips are about something else now, or something else."""
    answers = [json.loads(link.answer) for link in links]
    records = [known.get(link.clip_id) for link in links]
    linked = [
        {one["program_id"] for name in ("links", "review") for one in answer.get(name, ())}
        for answer in answers
    ]
    found = surroundings.beside(records, linked, [link.program_id for link in links])
    renewed = []
    for link, answer, (related, categories) in zip(links, answers, found, strict=True):
        words = {
            "related": [one.to_json() for one in related],
            "categories": None if categories is None else dict(categories),
        }
        # As JSON has it: tuples are lists there.
        words = json.loads(json.dumps(words))
        if any(answer.get(name) != value for name, value in words.items()):
            renewed.append(replace(link, answer=json.dumps(answer | words)))
    return renewed


def _chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(values), CHUNK_CLIPS):
        yield values[start : start + CHUNK_CLIPS]
