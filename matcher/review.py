"""A person decides where a clip is from: that is kept, and the clip is answered by it at once and ever after.

Two commits: what was said, then the answer. Killed between them, the next night answers the clip, for its
answer does not count the last word; see :class:`index.rows.LinkBasis`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from index.rows import ReviewRecord, now_utc
from matcher.affected import REVIEW
from matcher.changes import link_record
from matcher.errors import InputError
from matcher.inputs import check_id, one_line
from matcher.linking import Linker
from matcher.pipeline import last_night
from matcher.records import Answer
from matcher.relink import relink_shard
from matcher.surroundings import Surroundings, complete_kept
from matcher.verdicts import CONFIRMED, NONE, REJECTED, verdict_of

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer


def review_of(
    clip_id: str, *, program: str | None = None, reject: str | None = None, none: bool = False
) -> ReviewRecord:
    """What a person says, as the row that is kept.

    Args:
        clip_id: Of which clip.
        program: The program that it is from.
        reject: A program that it is not from.
        none: It is from no program.

    Raises:
        InputError: It is not exactly one of the three, or an id that no table can hold.
    """
    check_id("the clip's id", clip_id)
    if (program is not None) + (reject is not None) + none != 1:
        raise InputError("give one of --program ID, --reject ID and --none")
    named = program if program is not None else reject
    if named is not None:
        check_id("--reject" if program is None else "--program", named)
    return ReviewRecord(clip_id, named, NONE if none else REJECTED if program is None else CONFIRMED)


def check_review(catalog: Catalog, review: ReviewRecord) -> None:
    """See whether a store can take it in.

    Any program may be rejected: it may have left the catalogue, and be back tomorrow.

    Raises:
        InputError: The clip is not kept, or the program that it is said to be from is not in the catalogue.
    """
    if catalog.clip(review.clip_id) is None:
        name = one_line(review.clip_id)
        raise InputError(f"there is no kept clip {name} in {catalog.place}; see `matcher clips`")
    if review.verdict == CONFIRMED and review.program_id and catalog.program(review.program_id) is None:
        name = one_line(review.program_id)
        raise InputError(f"there is no program {name} in {catalog.place}; see `matcher programs`")


def decide(
    writer: Writer,
    linker: Linker,
    review: ReviewRecord,
    *,
    top: int,
    surroundings: Surroundings | None = None,
) -> Answer:
    """Keep what a person said, and answer the clip by it.

    Args:
        writer: Of the store.
        linker: Of the same store, at its present state.
        review: From :func:`review_of`.
        top: Best guesses that are named, as the nightly re-link names them: else it answers the clip again.
        surroundings: Says what the clip is about, and what it is; None to say nothing of it.

    Raises:
        InputError: See :func:`check_review`.
    """
    catalog, clip_id = writer.catalog, review.clip_id
    check_review(catalog, review)
    earlier = [one for one in catalog.reviews() if one.clip_id == clip_id]
    review = replace(review, at=_after(earlier[-1].at if earlier else ""))
    writer.put_review(review)
    verdicts = {clip_id: verdict_of([*earlier, review])}
    answers = list(relink_shard(catalog, linker, [clip_id], verdicts, top=top))
    if surroundings is not None:
        answers = complete_kept(writer, surroundings, answers)
    ((answer, kept_at),) = answers
    before = catalog.whole_links([clip_id]).get(clip_id)
    night = last_night(catalog)
    writer.put_links([link_record(answer, before, kept_at=kept_at, night=night, why=REVIEW)])
    return answer


def _after(last: str) -> str:
    """Now; but just after ``last`` where this machine's clock is behind: the last word must be the last."""
    now = now_utc()
    if now > last:
        return now
    return (datetime.fromisoformat(last) + timedelta(microseconds=1)).isoformat(timespec="microseconds")
