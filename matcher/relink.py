"""The nightly batch: answers again the clips whose links can have changed, and commits all of it at once.

The order of the stages: which clips (:mod:`matcher.affected`) → their answers, part by part, each kept as it
is done (:mod:`matcher.staging`) → what changed (:mod:`matcher.changes`) → a brake, if that is too much → one
commit of the links, and one that books the night. Readers see the links of yesterday until then.

A clip is answered from its kept descriptors; no video is decoded. Who answers, this process or several
machines (:mod:`matcher.cluster`), makes no difference to anything else.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from index.rows import LinkRecord, NightRecord
from matcher.affected import SECONDS_A_CLIP, Question, affected_clips
from matcher.changes import CHANGE_KINDS, Change, change_of, link_record
from matcher.errors import InputError
from matcher.linking import Linker
from matcher.pipeline import descriptors_of, last_night
from matcher.records import Answer
from matcher.staging import PART_CLIPS, Staging
from matcher.surroundings import Surroundings, complete_kept
from matcher.verdicts import Verdict, verdicts_of

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer

#: Share of the links that may change in a night before somebody must say that it is right.
BRAKE = 0.05
#: So few changes stop nobody, whatever the share.
FREE_CHANGES = 10


class BrakeError(InputError):
    """More links would change than are allowed to without a person's word; nothing was committed."""

    kind = "brake"


@dataclass(frozen=True)
class Order:
    """How a night is to be done.

    Attributes:
        top: Best guesses that are named.
        full: Answer all clips.
        since: See :class:`matcher.affected.Question`.
        accept: Commit whatever share of the links changes.
        brake: The share above which it does not without.
    """

    top: int = 5
    full: bool = False
    since: int | None = None
    accept: bool = False
    brake: float = BRAKE


#: What of a night is one entry a clip.
_SINGLE = ("changes", "contradicted")


@dataclass(frozen=True)
class Night:
    """What a night did.

    Attributes:
        number: From 1; 0 where it is not committed.
        catalog_version: The state of the catalogue.
        epoch: Of the answers.
        way: How the clips were found.
        kept: Clips that are kept.
        why: How many were answered, by why.
        decisions: Those answered, by decision.
        changes: All but "same".
        counts: Of clips by kind of change.
        figures: New vectors, scenes, estimates, seconds.
        resumed: Clips that an interrupted run had answered already.
        contradicted: Clips that are answered otherwise than a person said, were it not for that; also those
            whose answer is the same. See :attr:`matcher.changes.Change.against`.
        is_committed: Whether its links go into the store; not where the brake stops it.
        links: Clips that were linked, or up for review, before.
    """

    number: int
    catalog_version: int
    epoch: str
    way: str
    kept: int
    why: Mapping[str, int]
    decisions: Mapping[str, int]
    changes: tuple[Change, ...]
    counts: Mapping[str, int]
    figures: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0
    contradicted: tuple[Change, ...] = ()
    is_committed: bool = True
    links: int = 0

    @property
    def answered(self) -> int:
        """Clips that were answered again."""
        return sum(self.counts.values())

    @property
    def moving(self) -> int:
        """Links that came, went or turned, and decisions that changed, but for those that people changed."""
        return sum(change.is_moving and not change.is_said for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Everything but the single changes."""
        words = {name: value for name, value in vars(self).items() if name not in _SINGLE}
        committed = words.pop("is_committed")
        return {"committed": committed, **words, "answered": self.answered, "moving": self.moving}


class Watch:
    """Who is told how far a night is; this one tells nobody."""

    def comparing(self, n: int) -> None:
        """There are so many clips to compare with new programs, at most."""

    def compared(self, n: int) -> None:
        """So many more were."""

    def answering(self, n: int, done: int) -> None:
        """There are so many clips to answer, and so many of them are done already."""

    def answered(self, answer: Answer) -> None:
        """One more was."""


@dataclass(frozen=True)
class Part:
    """Some clips that are answered, and kept, together.

    Attributes:
        number: Which part of the night, from 0.
        clip_ids: At most :data:`matcher.staging.PART_CLIPS`.
    """

    number: int
    clip_ids: tuple[str, ...]


@dataclass(frozen=True)
class PartAnswers:
    """What became of one part.

    Attributes:
        part: Which.
        answers: Each clip's answer, and when its descriptors were kept; in any order.
        cpu_seconds: Processor time that they took in other processes than this.
    """

    part: Part
    answers: Iterable[tuple[Answer, str]]
    cpu_seconds: float = 0.0


#: Answers parts in any order, several at once if it likes. It takes the next part when it can use one, and it
#: may be closed before it is done.
Answerer = Callable[[Iterable[Part], Mapping[str, Verdict]], Generator[PartAnswers, None, None]]
#: Adds to the answers of a part what is said beside their links.
Completed = Callable[[Sequence[tuple[Answer, str]]], Iterable[tuple[Answer, str]]]


def relink_shard(
    catalog: Catalog, linker: Linker, clip_ids: Sequence[str], verdicts: Mapping[str, Verdict], *, top: int
) -> Iterator[tuple[Answer, str]]:
    """Answer some kept clips from their descriptors; the same wherever it runs, and it writes nothing.

    Yields:
        Each clip's answer, and when its descriptors were kept; in no promised order.
    """
    for clip in catalog.iter_clips(clip_ids):
        record = clip.record
        answer = linker.link(
            record.clip_id, record.path, descriptors_of(clip), model=record.model, top=top,
            verdict=verdicts.get(record.clip_id),
        )  # fmt: skip
        yield answer, record.kept_at


def answer_here(
    parts: Iterable[Part], verdicts: Mapping[str, Verdict], *, catalog: Catalog, linker: Linker, top: int
) -> Generator[PartAnswers, None, None]:
    """Answer parts in this process, one after the other, each clip when it is asked for."""
    for part in parts:
        yield PartAnswers(part, relink_shard(catalog, linker, part.clip_ids, verdicts, top=top))


def relink(
    writer: Writer,
    linker: Linker,
    order: Order,
    *,
    watch: Watch | None = None,
    answerer: Answerer | None = None,
    before_commit: Callable[[Night], None] | None = None,
    surroundings: Surroundings | None = None,
) -> Night:
    """Do one night's work.

    Stopped or killed at any moment, it goes on where it was when called again, if nothing has changed in
    the store since; else it begins anew. Its commit is one: there is no half of it.

    Args:
        writer: Of the store; its lock is held throughout.
        linker: Of the same store, at its present state.
        order: How.
        watch: Who is told how far it is.
        answerer: Answers the clips; default: this process, one after the other.
        before_commit: Called when all is answered, also where the brake then stops it: the night says so.
        surroundings: Says what the clips are about, and what they are; None to say nothing of it.

    Raises:
        BrakeError: Too many links would change; what was done is kept for a run that accepts it.
        NotWritableError: The disk is full or read-only.
    """
    catalog, watch = writer.catalog, watch or Watch()
    staging = Staging(catalog.place)
    _finish(writer, staging)
    started, cpu = time.monotonic(), time.process_time()
    verdicts = verdicts_of(catalog.reviews())
    plan = _begin(catalog, staging, linker, order, verdicts, watch)
    affected, number = staging.affected(), last_night(catalog) + 1
    answerer = answerer or partial(answer_here, catalog=catalog, linker=linker, top=order.top)
    done = sum(len(clips) for part, clips in _parts(affected) if staging.has(part.number))
    watch.answering(len(affected), done)
    answering = time.process_time()
    completed = None if surroundings is None else partial(complete_kept, writer, surroundings)
    elsewhere = answer_parts(catalog, staging, affected, verdicts, answerer, number, watch, completed)
    ended = time.process_time() + elsewhere
    spent = {
        "seconds": time.monotonic() - started, "cpu_seconds": ended - cpu,
        "answering_cpu_seconds": ended - answering,
    }  # fmt: skip
    night = _night(staging, plan, affected, number, resumed=done, spent=spent)
    is_stopped = is_braked(night, order, shown=plan["shown"])
    if is_stopped:
        night = replace(night, number=0, is_committed=False)
    if before_commit is not None:
        before_commit(night)
    if is_stopped:
        staging.note({**plan, "shown": night.moving})
        raise _brake_error(night, order, shown=plan["shown"])
    _commit(writer, staging, plan, night)
    return night


def _begin(
    catalog: Catalog,
    staging: Staging,
    linker: Linker,
    order: Order,
    verdicts: Mapping[str, Verdict],
    watch: Watch,
) -> Mapping[str, Any]:
    """The plan that is under way, if the store is as it was then; else a new one."""
    epoch = linker.epoch(order.top)
    key = {
        **{name: catalog.version_of(name) for name in ("programs", "clips", "links", "reviews", "nights")},
        "epoch": epoch, "full": order.full, "since": order.since,
        # Of what is staged: another version of the program may write it otherwise.
        "form": [PART_CLIPS, *(field.name for field in fields(Change))],
    }  # fmt: skip
    before = staging.plan()
    if before is not None and before["key"] == key:
        return before
    question = Question(epoch, verdicts, order.full, order.since, _seconds_a_clip(catalog))
    watch.comparing(catalog.counts()["clips"])
    found = affected_clips(catalog, question, on_clips=watch.compared)
    records = catalog.programs()
    plan = {
        "key": key,
        "catalog_version": linker.version,
        "known": records[-1].number if records else 0,
        "phase": "answering",
        "links": catalog.count_links(),
        # What the brake told of last, of whatever state: who accepts has seen no more than that.
        "shown": None if before is None else before.get("shown"),
        "found": {name: value for name, value in asdict(found).items() if name != "why"},
    }
    staging.begin(plan, found.why)
    return plan


def _seconds_a_clip(catalog: Catalog) -> float:
    """What an answer took in the last night that gave enough of them to tell."""
    for night in reversed(catalog.nights()):
        measured = json.loads(night.summary).get("figures", {}).get("cpu_seconds_a_clip")
        if measured:
            return float(measured)
    return SECONDS_A_CLIP


def _parts(affected: Sequence[tuple[str, str]]) -> list[tuple[Part, dict[str, str]]]:
    """The parts of a night, with why each of their clips is answered."""
    starts = range(0, len(affected), PART_CLIPS)
    reasons = [dict(affected[start : start + PART_CLIPS]) for start in starts]
    return [(Part(number, tuple(why)), why) for number, why in enumerate(reasons)]


def answer_parts(
    catalog: Catalog,
    staging: Staging,
    affected: Sequence[tuple[str, str]],
    verdicts: Mapping[str, Verdict],
    answerer: Answerer,
    number: int,
    watch: Watch,
    completed: Completed | None = None,
) -> float:
    """Answer what is not answered yet, part by part, and stage it; gives the processor time spent elsewhere.

    Args:
        catalog: The store.
        staging: Where the parts are kept.
        affected: Clips and why, in order.
        verdicts: Of clips that people spoke of.
        answerer: Answers the parts.
        number: Of the night.
        watch: Who is told how far it is.
        completed: Adds what is said beside the links; default nothing.

    Returns:
        Seconds of processor time of other processes than this.
    """
    reasons = {part: why for part, why in _parts(affected) if not staging.has(part.number)}
    elsewhere = 0.0
    if not reasons:
        return elsewhere  # workers would be started for nothing
    # Closed here, so that workers are let go at once where something stops this.
    with contextlib.closing(answerer(reasons, verdicts)) as answered:
        for done in answered:
            why = reasons[done.part]
            before = catalog.whole_links(done.part.clip_ids)
            links: list[LinkRecord] = []
            changes: list[Change] = []
            for answer, kept_at in done.answers if completed is None else completed(list(done.answers)):
                clip_id = answer.clip_id
                was = before.get(clip_id)
                links.append(link_record(answer, was, kept_at=kept_at, night=number, why=why[clip_id]))
                changes.append(change_of(answer, was, why[clip_id]))
                watch.answered(answer)
            staging.put(done.part.number, links, changes)
            elsewhere += done.cpu_seconds
    return elsewhere


def _night(
    staging: Staging,
    plan: Mapping[str, Any],
    affected: Sequence[tuple[str, str]],
    number: int,
    *,
    resumed: int,
    spent: Mapping[str, float],
) -> Night:
    """What was done, from the parts."""
    counts: Counter[str] = Counter()
    decisions: Counter[str] = Counter()
    changes: list[Change] = []
    contradicted: list[Change] = []
    for part in range(-(-len(affected) // PART_CLIPS)):
        for change in staging.changes(part):
            counts[change.kind] += 1
            decisions[change.decision] += 1
            if change.kind != "same":
                changes.append(change)
            if change.against is not None:
                contradicted.append(change)
    found = plan["found"]
    figures: dict[str, Any] = {
        **{name: found[name] for name in ("new_vectors", "scenes", "estimates")}, **spent,
    }  # fmt: skip
    fresh = len(affected) - resumed
    if fresh >= PART_CLIPS:
        # Of answers alone: comparing a million clips for the sake of a few says nothing of those.
        figures["cpu_seconds_a_clip"] = spent["answering_cpu_seconds"] / fresh
    return Night(
        number=number,
        catalog_version=plan["catalog_version"],
        epoch=plan["key"]["epoch"],
        way=found["way"],
        kept=found["kept"],
        links=plan["links"],
        why=dict(Counter(why for _, why in affected)),
        decisions={name: decisions[name] for name in ("linked", "review", "none")},
        changes=tuple(changes),
        counts={name: counts[name] for name in CHANGE_KINDS},
        figures=figures,
        resumed=resumed,
        contradicted=tuple(contradicted),
    )


def is_braked(night: Night, order: Order, *, shown: int | None = None) -> bool:
    """Whether more links would change than may without a person's word.

    Args:
        night: That is to be committed.
        order: Whether a person has given it.
        shown: How many changes the brake told of when it last stopped: a person's word is for so many.
    """
    if order.accept:
        return shown is not None and night.moving > shown
    links = night.links + night.counts.get("added", 0)
    return night.moving > max(FREE_CHANGES, order.brake * links)


def _brake_error(night: Night, order: Order, *, shown: int | None) -> BrakeError:
    links = night.links + night.counts.get("added", 0)
    reason = (
        f"more than the {shown} that were shown before, for something has changed in the store since"
        if order.accept
        else f"more than {order.brake:.1%}"
    )
    return BrakeError(
        f"{night.moving} of {links} links would change, {reason}: nothing was committed. Look at the report "
        "(--report DIR); if that is right, run it again with --accept"
    )


def _commit(writer: Writer, staging: Staging, plan: Mapping[str, Any], night: Night) -> None:
    """Put the links in, then book the night: from then on it vouches for the answers that it left alone."""
    record = NightRecord(
        night.number, night.epoch, int(plan["known"]), night.catalog_version, json.dumps(night.to_json())
    )
    staging.note({**plan, "phase": "committing", "night": asdict(record)})
    writer.put_all_links(staging.parts())
    writer.put_night(record)
    staging.clear()


def _finish(writer: Writer, staging: Staging) -> None:
    """Book a night that was killed between its commit and the booking; nothing where there is none.

    Its links are there as they were staged, to the microsecond: a number alone may be another night's, for
    one that was not booked is given again.
    """
    plan = staging.plan()
    if plan is None or plan["phase"] != "committing":
        return
    first = next((links[0] for links in staging.parts() if links), None)
    there = None if first is None else writer.catalog.whole_links([first.clip_id]).get(first.clip_id)
    if first is None or there is None or there.linked_at != first.linked_at:
        return
    record = NightRecord(**plan["night"])
    if last_night(writer.catalog) < record.night:
        writer.put_night(record)
    staging.clear()
