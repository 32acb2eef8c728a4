"""Which of a run's answers are worst: what the report shows as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.judging import Judged

_POOR_IOU = 0.5


@dataclass(frozen=True)
class Failure:
    """One answer that is wrong.

    Attributes:
        judged: The clip and its answer.
        reason: What is wrong, in a few words.
    """

    judged: Judged
    reason: str


def worst_failures(judged: Sequence[Judged], limit: int = 24) -> list[Failure]:
    """The worst answers, each kind of failure in its turn, so that a common kind does not hide a rare one.

    The kinds: an unknown clip linked; a known clip linked to a wrong program; a best candidate that is
    wrong; a right link whose segments cover less than half of the truth; a right candidate not linked. The
    surer a wrong answer, the worse; the less sure a right one, the worse.

    Args:
        judged: All clips.
        limit: The most to return.

    Returns:
        At most ``limit`` failures, kind by kind; a clip stands under its first kind only.
    """
    queues = _by_kind(judged)
    room, chosen = max(0, limit), [0] * len(queues)
    while room and any(taken < len(queue) for taken, queue in zip(chosen, queues, strict=True)):
        for number, queue in enumerate(queues):
            if room and chosen[number] < len(queue):
                chosen[number] += 1
                room -= 1
    return [failure for taken, queue in zip(chosen, queues, strict=True) for failure in queue[:taken]]


def _by_kind(judged: Sequence[Judged]) -> list[list[Failure]]:
    left = list(judged)
    queues: list[list[Failure]] = []
    for reason, holds, badness in _KINDS:
        found = sorted((one for one in left if holds(one)), key=lambda one: (-badness(one), one.clip.clip_id))
        queues.append([Failure(one, reason) for one in found])
        left = [one for one in left if not holds(one)]
    return queues


_KINDS: Sequence[tuple[str, Callable[[Judged], bool], Callable[[Judged], float]]] = (
    ("linked, though its program is not in the catalogue",
     lambda one: not one.clip.is_known and one.wrong_links > 0, lambda one: one.score),
    ("linked to a wrong program",
     lambda one: one.wrong_links > 0, lambda one: one.score),
    ("the best candidate is wrong",
     lambda one: one.clip.is_known and one.best is not None and not one.best_is_right,
     lambda one: one.score),
    ("no candidate at all",
     lambda one: one.clip.is_known and one.best is None, lambda one: one.score),
    ("the right program, at a wrong place",
     lambda one: one.has_right_link and one.iou < _POOR_IOU, lambda one: -one.iou),
    ("the right program, but not linked",
     lambda one: one.clip.is_known and not one.linked, lambda one: -one.score),
)  # fmt: skip
