"""Which programs gain and lose clips by a night, and how many they have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from matcher.relink import Night

if TYPE_CHECKING:
    from index.catalog import Catalog


@dataclass(frozen=True)
class ProgramChange:
    """What a night does to one program's links.

    Attributes:
        program_id: Which.
        title: Its title.
        in_catalog: Whether it is still there.
        gained: Clips that are linked to it and were not.
        lost: Clips that were linked to it and are no more.
        links_before: Clips that were linked to it, in the whole store.
        links_after: Likewise, once the night is committed.
    """

    program_id: str
    title: str
    in_catalog: bool
    gained: int
    lost: int
    links_before: int
    links_after: int


def linked(decision: str, programs: Iterable[str]) -> set[str]:
    """The programs that a clip is linked to: those of an answer for review are not."""
    return set(programs) if decision == "linked" else set()


def program_changes(
    night: Night, catalog: Catalog, titles: Mapping[str, str], live: Collection[str]
) -> list[ProgramChange]:
    """The programs whose links change, those with most changes first.

    Args:
        night: What changes.
        catalog: Before that is committed.
        titles: Of programs, by id.
        live: Ids of the programs that are in the catalogue.
    """
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for change in night.changes:
        before = linked(change.decision_before, change.programs_before)
        now = linked(change.decision, change.programs)
        gained.update(now - before)
        lost.update(before - now)
    changed = gained.keys() | lost.keys()
    # All links of the store are counted only where that is asked for.
    links = _links_by_program(catalog) if changed else Counter()
    return [
        ProgramChange(
            name, titles.get(name, ""), name in live, gained[name], lost[name],
            links[name], links[name] + gained[name] - lost[name],
        )
        for name in sorted(changed, key=lambda name: (-gained[name] - lost[name], name))
    ]  # fmt: skip


def _links_by_program(catalog: Catalog) -> Counter[str]:
    """How many clips are linked to each program."""
    counts: Counter[str] = Counter()
    for batch in catalog.iter_link_batches(("program_id", "answer"), decision="linked"):
        for names in _linked_programs(batch):
            counts.update(names)
    return counts


def _linked_programs(batch: pa.RecordBatch) -> Iterator[list[str]]:
    """The programs of linked clips.

    Nearly all clips have one, which has a column of its own. Only the answers of the others are parsed,
    which would take minutes of tens of millions: those with more than one list of segments. The words
    cannot stand inside a title, where the quote would come after a backslash.
    """
    lists = pc.fill_null(pc.count_substring(batch["answer"], '"segments":'), 0)
    is_one = pc.less_equal(lists, 1)
    yield [name for name in batch["program_id"].filter(is_one).to_pylist() if name is not None]
    for answer in batch["answer"].filter(pc.invert(is_one)).to_pylist():
        yield [link["program_id"] for link in json.loads(answer)["links"]]
