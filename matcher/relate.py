"""What is said beside the links of *all* kept clips, brought up to date: related programs, and categories.

A link that no new program can have changed is left alone by a re-link. What a clip is about can change with
any program that is added or removed, and with any model that is taken into use; so all clips are gone
through, by their embeddings alone. Where nothing of that kind has happened since, it is not done. Links,
confidences and histories stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from index.files import storing, write_atomically
from index.rows import LinkRecord
from matcher.surroundings import Surroundings

if TYPE_CHECKING:
    from index.catalog import Writer

#: Clips that are gone through, and committed, together.
CHUNK_CLIPS = 1024


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
    catalog, state = writer.catalog, surroundings.state
    marker = catalog.place.cache_root() / "cache" / "related.json"
    compared_until, last = _compared_until(marker, state), ""
    stale: list[str] = []
    known_replaced = pa.array(catalog.clips_of_replaced_sound(), pa.string())
    for batch in catalog.iter_link_batches(["clip_id", "answer", "linked_at"]):
        last = max(last, pc.max(batch["linked_at"]).as_py() or "")
        is_stale = pc.or_(_stale(batch, state, compared_until), _resounds(batch, known_replaced))
        stale += batch["clip_id"].filter(is_stale).to_pylist()
    clips = changed = embedded = 0
    for clip_ids in _chunks(sorted(stale)):
        links = list(catalog.whole_links(clip_ids).values())
        answers = [json.loads(link.answer) for link in links]
        replaced = {
            link.clip_id: bool(answer.get("sound_replaced"))
            for link, answer in zip(links, answers, strict=True)
        }
        known, new = surroundings.refreshed(catalog, replaced)
        writer.put_features(new)
        renewed = _renewed(surroundings, links, answers, known)
        writer.put_links(renewed)
        clips, changed, embedded = clips + len(links), changed + len(renewed), embedded + len(new)
        if on_clips is not None:
            on_clips(len(clip_ids))
    with storing(marker):
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, json.dumps({"state": state, "linked_at": last}).encode())
    return Relating(clips, changed, embedded)


def _stale(batch: pa.RecordBatch, state: str, compared_until: str) -> pa.BooleanArray:
    """Which answers were neither made in this state nor compared with it.

    By column: to parse the answers would take minutes of tens of millions. No id can look like what is
    sought, for quotes in it are escaped.
    """
    answer = pc.fill_null(batch["answer"], "")
    good = pc.match_substring(answer, f'"beside": "{state}"')
    if compared_until:
        is_said = pc.match_substring_regex(answer, '"beside": "[0-9a-f]')
        is_before = pc.less_equal(pc.fill_null(batch["linked_at"], ""), compared_until)
        good = pc.or_(good, pc.and_(is_said, is_before))
    return pc.invert(good)


def _resounds(batch: pa.RecordBatch, known_replaced: pa.StringArray) -> pa.BooleanArray:
    """Of which clips the answer says otherwise than the features whether the sound is another's."""
    is_replaced = pc.match_substring(pc.fill_null(batch["answer"], ""), '"sound_replaced": true')
    return pc.xor(is_replaced, pc.is_in(batch["clip_id"], value_set=known_replaced))


def _compared_until(marker: Path, state: str) -> str:
    """When the last of the answers was made that were all compared with this state; "" where none were.

    An answer that would come out the same is not written again, and so goes on naming an earlier state.
    """
    try:
        words = json.loads(marker.read_text(encoding="utf-8"))
        return str(words["linked_at"]) if words["state"] == state else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _renewed(
    surroundings: Surroundings,
    links: Sequence[LinkRecord],
    answers: Sequence[dict[str, Any]],
    known: dict[str, Any],
) -> list[LinkRecord]:
    """The links whose clips are about something else now, or something else; ``answers`` are theirs."""
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
        if not answer.get("beside") or any(answer.get(name) != value for name, value in words.items()):
            said = answer | words | {"beside": surroundings.state}
            renewed.append(replace(link, answer=json.dumps(said)))
    return renewed


def _chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(values), CHUNK_CLIPS):
        yield values[start : start + CHUNK_CLIPS]
