"""What changed between two answers for one clip, and the history that a link keeps of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from index.rows import LinkRecord, now_utc
from matcher.records import Answer

#: From what matters most; "new" has no answer before it, "same" differs in nothing that a link says.
ChangeKind = Literal["new", "added", "removed", "moved", "raised", "lowered", "retimed", "same"]
CHANGE_KINDS: tuple[ChangeKind, ...] = (
    "new", "added", "removed", "moved", "raised", "lowered", "retimed", "same",
)  # fmt: skip
#: Confidences and seconds that differ by less are the same.
LEAST_CONFIDENCE, LEAST_SECONDS = 0.001, 0.01
#: A guess of so much of the best one's confidence is a rival: between twins it is a toss of a coin.
RIVAL_SHARE = 0.5
#: Entries of a history that are kept: the first one, and the last ones.
LONGEST_HISTORY = 100


@dataclass(frozen=True)
class Change:
    """What became of one clip.

    Attributes:
        clip_id: Which.
        kind: In a word.
        why: What made its answer be looked at again.
        decision_before: "" where it had no answer.
        decision: Now.
        programs_before: Those linked, or up for review.
        programs: Now.
        confidence_before: 0 where it had no answer.
        confidence: Now.
        best: The best guess now, whatever the decision; None without any.
        is_said: A person decided it.
        against: The program that would be linked were it not for what a person said; None where there is
            none, and where the answer before had the same: it has been seen then.
        against_confidence: Of that; 0 without one.
        rival: The next best guess of a clip for review, where it is about as likely as the best one, and not
            up for review itself, for another part of the clip; else None.
    """

    clip_id: str
    kind: ChangeKind
    why: str
    decision_before: str
    decision: str
    programs_before: tuple[str, ...]
    programs: tuple[str, ...]
    confidence_before: float
    confidence: float
    best: str | None = None
    is_said: bool = False
    against: str | None = None
    against_confidence: float = 0.0
    rival: str | None = None

    @property
    def is_moving(self) -> bool:
        """Whether a link came, went or turned to another program, or the decision is another."""
        return self.kind in ("added", "removed", "moved") or (
            self.kind in ("raised", "lowered") and self.decision != self.decision_before
        )


def change_of(answer: Answer, before: LinkRecord | None, why: str) -> Change:
    """Compare a new answer with the link that was there before."""
    now = answer.to_json()
    was = _content(before)
    programs_before, programs = _programs(was), _programs(now)
    against = _against(now)
    against = None if against == _against(was) else against
    return Change(
        clip_id=answer.clip_id,
        kind="new" if before is None else _kind(was, now),
        why=why,
        decision_before="" if before is None else before.decision,
        decision=answer.decision,
        programs_before=programs_before,
        programs=programs,
        confidence_before=0.0 if before is None else before.confidence,
        confidence=answer.confidence,
        best=next((guess.program_id for guess in answer.candidates), None),
        is_said=answer.is_said,
        against=against,
        against_confidence=0.0 if against is None else now["reviewed"]["confidence"],
        rival=_rival(now),
    )


def link_record(
    answer: Answer,
    before: LinkRecord | None = None,
    *,
    kept_at: str = "",
    night: int = 0,
    why: str = "linked",
) -> LinkRecord:
    """An answer as the row that ``links`` keeps.

    Args:
        answer: What is to be kept.
        before: The row that it replaces, with its history.
        kept_at: When the descriptors behind the answer were kept.
        night: Re-links committed before, or the number of the one under way.
        why: What made the clip be answered, for its history.
    """
    reviews = 0 if answer.reviewed is None else answer.reviewed.reviews
    record = LinkRecord(
        clip_id=answer.clip_id,
        decision=answer.decision,
        program_id=answer.program_id,
        confidence=answer.confidence,
        catalog_version=answer.catalog_version,
        answer=json.dumps(answer.to_json()),
        linked_at=now_utc(),
        basis=None
        if answer.basis is None
        else replace(answer.basis, kept_at=kept_at, night=night, reviews=reviews),
    )
    history = () if before is None else before.history
    if before is not None and _kind(_content(before), answer.to_json()) == "same":
        return replace(record, history=history)
    return replace(record, history=_with(history, _entry(record, answer, night, why)))


def _entry(record: LinkRecord, answer: Answer, night: int, why: str) -> dict[str, Any]:
    return {
        "at": record.linked_at,
        "decision": answer.decision,
        "programs": [link.program_id for link in answer.links],
        "confidence": round(answer.confidence, 6),
        "why": why,
        "night": night,
        "catalog_version": answer.catalog_version,
        "model": answer.model,
        "epoch": "" if answer.basis is None else answer.basis.epoch,
        "by": "person" if answer.is_said else "matcher",
    }


def _with(history: tuple[Mapping[str, Any], ...], entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    longer = (*history, entry)
    return longer if len(longer) <= LONGEST_HISTORY else (longer[0], *longer[-LONGEST_HISTORY + 1 :])


def _content(record: LinkRecord | None) -> Mapping[str, Any]:
    """The answer that was kept."""
    empty: dict[str, Any] = {"decision": "none", "links": [], "review": [], "confidence": 0.0}
    return empty if record is None else {**empty, **json.loads(record.answer or "{}")}


def _parts(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What it links, or puts up for review."""
    parts: list[Mapping[str, Any]] = answer["links"] or answer["review"]
    return parts


def _programs(answer: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(part["program_id"] for part in _parts(answer))


def _against(answer: Mapping[str, Any]) -> str | None:
    """The program that evidence links, though a person said another one, or none."""
    said = answer.get("reviewed")
    if said is None or said["word"] is None or said["decision"] != "linked":
        return None
    best: str | None = said["best"]
    return None if best == said["program_id"] else best


def _rival(answer: Mapping[str, Any]) -> str | None:
    """The second guess, where it keeps the best one from a link."""
    if answer["decision"] != "review" or len(answer["candidates"]) < 2:
        return None
    best, second = answer["candidates"][:2]
    if second["confidence"] < RIVAL_SHARE * best["confidence"] or second["program_id"] in _programs(answer):
        return None
    program: str = second["program_id"]
    return program


def _kind(was: Mapping[str, Any], now: Mapping[str, Any]) -> ChangeKind:
    linked_before, linked = ({part["program_id"] for part in answer["links"]} for answer in (was, now))
    if linked_before != linked:
        return "moved" if linked_before and linked else "added" if linked else "removed"
    if was["decision"] != now["decision"]:  # neither is a link
        return "raised" if now["decision"] == "review" else "lowered"
    if set(_programs(was)) != set(_programs(now)):
        return "moved"
    if now["decision"] != "none":
        higher = now["confidence"] - was["confidence"]
        if abs(higher) >= LEAST_CONFIDENCE:
            return "raised" if higher > 0 else "lowered"
        if _places(was) != _places(now) and not _are_close(_places(was), _places(now)):
            return "retimed"
    return "same"


def _places(answer: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Program, asset and times of every stretch, in order."""
    return sorted(
        (
            part["program_id"], stretch["asset_id"], stretch["clip_start_seconds"],
            stretch["clip_end_seconds"], stretch["asset_start_seconds"], stretch["asset_end_seconds"],
        )
        for part in _parts(answer)
        for stretch in part["segments"]
    )  # fmt: skip


def _are_close(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    return len(one) == len(other) and all(
        a[:2] == b[:2] and all(abs(x - y) < LEAST_SECONDS for x, y in zip(a[2:], b[2:], strict=True))
        for a, b in zip(one, other, strict=True)
    )
