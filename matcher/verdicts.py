"""What people said of clips. It goes before anything that is measured, tonight and every other night.

What is said is only ever added to; what holds of a clip is worked out anew from all of it. That a program has
left the catalogue changes nothing here: what was said of it holds again when it is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from index.rows import ReviewRecord

#: Words of the table ``reviews``.
CONFIRMED, REJECTED, NONE = "confirmed", "rejected", "none"


@dataclass(frozen=True)
class Verdict:
    """What holds of everything that people said of one clip.

    Attributes:
        word: "program": it is from ``program_id``; "none": it is from no program; None: only that it is not
            from those of ``rejected``.
        program_id: Which.
        rejected: Programs that it is not from: they are never proposed for it again.
        reviews: How many times anybody spoke of it.
        at: When last: UTC, ISO 8601.
    """

    word: Literal["program", "none"] | None = None
    program_id: str | None = None
    rejected: frozenset[str] = frozenset()
    reviews: int = 0
    at: str = ""


def verdict_of(reviews: Iterable[ReviewRecord]) -> Verdict:
    """What holds after all of one clip's reviews, the oldest first: a later word goes before an earlier one.

    - "It is from p" goes before every earlier word on where the clip is from, and p is rejected no longer;
      other programs that were rejected stay so.
    - "It is not from p" rejects p. Where p was what held until then, nothing holds any more of where the clip
      is from: an earlier word does not come back. Else what held goes on to hold.
    - "It is from no program" goes before every earlier word; rejected programs stay so.

    A word that is none of these, as of a later version, counts in ``reviews`` and changes nothing else.
    """
    held = Verdict()
    for review in reviews:
        word, program_id, rejected = held.word, held.program_id, held.rejected
        if review.verdict == CONFIRMED and review.program_id is not None:
            word, program_id, rejected = "program", review.program_id, rejected - {review.program_id}
        elif review.verdict == REJECTED and review.program_id is not None:
            rejected |= {review.program_id}
            if program_id == review.program_id:
                word, program_id = None, None
        elif review.verdict == NONE:
            word, program_id = "none", None
        held = Verdict(word, program_id, rejected, held.reviews + 1, review.at)
    return held


def verdicts_of(reviews: Iterable[ReviewRecord]) -> Mapping[str, Verdict]:
    """The same of every clip that anybody spoke of, by clip id; the oldest review first."""
    by_clip: dict[str, list[ReviewRecord]] = {}
    for review in reviews:
        by_clip.setdefault(review.clip_id, []).append(review)
    return {clip_id: verdict_of(own) for clip_id, own in by_clip.items()}
