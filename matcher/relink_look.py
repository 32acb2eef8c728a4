"""Which of the clips that a night changed a person should look at first, and why.

A night may change thousands of links, and a person looks at some dozens. Worth most are those where the
matcher was sure and turned out otherwise, or is sure against a person's word; a link that went because its
program left is none of these.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from matcher.affected import REVIEW
from matcher.changes import Change
from matcher.relink import Night
from matcher.relink_programs import linked

Reason = Literal["contradicted", "lost", "rivals", "nearly"]
#: What is said of each, from what matters most.
REASONS: dict[Reason, str] = {
    "contradicted": "a person said otherwise, and the matcher would now link it to another program",
    "lost": "a sure link is gone, though its program is still there",
    "rivals": "two programs contend for it",
    "nearly": "new for review, and not far from a link",
}
#: A link so confident was sure.
SURE = 0.9
#: Clips that are named.
MOST_LOOKS = 50


@dataclass(frozen=True)
class WorthALook:
    """One clip that a person should look at.

    Attributes:
        change: What became of it.
        reason: Why, one of :data:`REASONS`.
        program_id: The program that it is about: the one that a person's word keeps out, that lost the link,
            that contends for it, or that it is nearly linked to.
        confidence: Of the link to that program, or the best guess for it where two contend.
    """

    change: Change
    reason: Reason
    program_id: str
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """As ``summary.json`` has it."""
        change = self.change
        return {
            "clip_id": change.clip_id,
            "reason": self.reason,
            "program_id": self.program_id,
            "confidence": round(self.confidence, 6),
            "kind": change.kind,
            "why": change.why,
            "before": _side(change.decision_before, change.programs_before, change.confidence_before),
            "now": _side(change.decision, change.programs, change.confidence),
        }


def _side(decision: str, programs: tuple[str, ...], confidence: float) -> dict[str, Any]:
    return {"decision": decision, "programs": list(programs), "confidence": round(confidence, 6)}


def worth_a_look(night: Night, live: Collection[str], *, most: int = MOST_LOOKS) -> list[WorthALook]:
    """The clips to look at, each once, by its first reason in the order of :data:`REASONS`.

    The reasons take turns, so that many clips of one do not hide the only one of another; within a reason
    the most confident come first, and equal ones by clip id.

    Args:
        night: What changed.
        live: Ids of the programs in the catalogue.
        most: So many clips at most.
    """
    contradicted = {change.clip_id for change in night.contradicted}
    changes = [
        change for change in night.changes if change.clip_id not in contradicted and not _is_said(change)
    ]
    rules: tuple[Callable[[Change], WorthALook | None], ...] = (
        lambda change: _lost(change, live),
        lambda change: _rivals(change, live),
        _nearly,
    )
    found: dict[Reason, list[WorthALook]] = {reason: [] for reason in REASONS}
    found["contradicted"] = [
        WorthALook(change, "contradicted", change.against, change.against_confidence)
        for change in night.contradicted
        if change.against is not None
    ]
    for change in changes:
        look = next((look for look in (rule(change) for rule in rules) if look is not None), None)
        if look is not None:
            found[look.reason].append(look)
    turns = zip_longest(*(_first(looks, most) for looks in found.values()))
    return [look for turn in turns for look in turn if look is not None][:most]


def _first(looks: Iterable[WorthALook], most: int) -> list[WorthALook]:
    return heapq.nsmallest(most, looks, key=lambda look: (-look.confidence, look.change.clip_id))


def _is_said(change: Change) -> bool:
    """Whether a person made the change; then that person has looked at the clip."""
    return change.is_said or change.why == REVIEW


def _left(change: Change, live: Collection[str]) -> str | None:
    """The best program of the catalogue that the clip is linked to no more."""
    now = linked(change.decision, change.programs)
    before = change.programs_before if change.decision_before == "linked" else ()
    return next((name for name in before if name not in now and name in live), None)


def _lost(change: Change, live: Collection[str]) -> WorthALook | None:
    left = _left(change, live)
    if left is None or change.confidence_before < SURE:
        return None
    return WorthALook(change, "lost", left, change.confidence_before)


def _rivals(change: Change, live: Collection[str]) -> WorthALook | None:
    if change.rival is not None:
        return WorthALook(change, "rivals", change.rival, change.confidence)
    left = _left(change, live)
    if left is None or change.kind != "moved":
        return None
    return WorthALook(change, "rivals", left, change.confidence_before)


def _nearly(change: Change) -> WorthALook | None:
    if change.decision != "review" or change.decision_before == "review" or not change.programs:
        return None
    return WorthALook(change, "nearly", change.programs[0], change.confidence)
