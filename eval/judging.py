"""Each clip's answer held against its truth: what the figures and the report count and draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from eval.ground_truth import TruthRow
from eval.metrics import Match, segment_agreement, start_error_seconds

Level = Literal["none", "light", "heavy", "stacked", "montage"]
LEVELS: tuple[Level, ...] = get_args(Level)

PublicAnswer = Mapping[str, Any]
"""The object that ``matcher query --json`` prints; ``passes`` and ``seconds`` may have been added."""


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip of a benchmark but for its truth.

    Attributes:
        clip_id: The clip.
        group: Where it comes from, such as "films" or "dramas".
        is_known: Whether its program is in the catalogue.
        kinds: Names of its edits, in the order applied; none contains a ``+``.
        level: How much was done to it.
    """

    clip_id: str
    group: str
    is_known: bool
    kinds: tuple[str, ...]
    level: Level

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {self.level!r}")
        if not self.clip_id or not self.group or not all(self.kinds) or any("+" in k for k in self.kinds):
            raise ValueError(f"clip {self.clip_id!r} needs names, and kinds without +, got {self}")


@dataclass(frozen=True)
class Judged:
    """One clip, its truth and its answer.

    Attributes:
        clip: The clip.
        truth: Its rows; none for a clip whose program is not in the catalogue.
        answer: The public object.
    """

    clip: ClipInfo
    truth: tuple[TruthRow, ...]
    answer: PublicAnswer

    @cached_property
    def programs(self) -> frozenset[str]:
        """The right programs."""
        return frozenset(row.program_id for row in self.truth)

    @property
    def decision(self) -> str:
        """As answered."""
        return str(self.answer["decision"])

    @property
    def candidates(self) -> Sequence[Mapping[str, Any]]:
        """As answered, best first."""
        return list(self.answer["candidates"])

    @cached_property
    def linked(self) -> tuple[str, ...]:
        """Programs of the links that were accepted, best first."""
        return tuple(dict.fromkeys(str(link["program_id"]) for link in self.answer["links"]))

    @property
    def best(self) -> str | None:
        """The best guess, linked or not; None where there is no guess."""
        return str(self.candidates[0]["program_id"]) if self.candidates else None

    @property
    def best_is_right(self) -> bool:
        """Whether the best guess is one of the clip's programs."""
        return self.best in self.programs

    @property
    def score(self) -> float:
        """That of the best guess; minus infinity where there is none."""
        return score_of(self.candidates[0]) if self.candidates else float("-inf")

    @property
    def wrong_links(self) -> int:
        """Programs linked that are none of the clip's; each one of a clip whose program is not there."""
        return sum(program not in self.programs for program in self.linked)

    @property
    def has_right_link(self) -> bool:
        """Whether one of its programs is linked."""
        return not self.programs.isdisjoint(self.linked)

    @cached_property
    def program_scores(self) -> dict[str, float]:
        """The best score of each candidate program."""
        scores: dict[str, float] = {}
        for guess in self.candidates:
            program = str(guess["program_id"])
            scores[program] = max(score_of(guess), scores.get(program, float("-inf")))
        return scores

    @cached_property
    def true_matches(self) -> list[Match]:
        """The truth as the metrics take it."""
        return [row.match() for row in self.truth]

    @cached_property
    def linked_matches(self) -> list[Match]:
        """The segments of the links that were accepted."""
        return self._matches("links")

    @cached_property
    def all_matches(self) -> list[Match]:
        """The segments of all links, those put up for review as well, scored by their programs."""
        return self.linked_matches + self._matches("review")

    @cached_property
    def iou(self) -> float:
        """Of the segments linked with the true ones."""
        return segment_agreement(self.linked_matches, self.true_matches).iou

    @cached_property
    def start_error(self) -> float | None:
        """Seconds by which the first true moment linked is off in the asset; None where there is none."""
        return start_error_seconds(self.linked_matches, self.true_matches)

    def _matches(self, name: str) -> list[Match]:
        # "review" was added to the public object later than "links" and may be missing.
        return [
            Match(
                self.clip.clip_id,
                str(segment["asset_id"]),
                float(segment["clip_start_seconds"]),
                float(segment["clip_end_seconds"]),
                float(segment["asset_start_seconds"]),
                float(segment["asset_end_seconds"]),
                # A link's confidence may be rounded; the candidate's log-odds, where given, are not.
                score=self.program_scores.get(str(link["program_id"]), score_of(link)),
            )
            for link in self.answer.get(name, ())
            for segment in link["segments"]
        ]


def score_of(guess: Mapping[str, Any]) -> float:
    """What a candidate or a link is ranked by: its ``log_odds``, else those of its confidence.

    Confidences near 1 are rounded to equal ones, which log-odds keep apart; on one scale, guesses with and
    without the field can be ranked together.

    Args:
        guess: An object of the answer's ``candidates`` or ``links``.

    Returns:
        A finite number, or infinite for a confidence of 0 or 1.
    """
    if guess.get("log_odds") is not None:
        return float(guess["log_odds"])
    confidence = float(guess["confidence"])
    if confidence in (0.0, 1.0):
        return math.copysign(math.inf, confidence - 0.5)
    return math.log(confidence / (1 - confidence))


def judge(
    clips: Sequence[ClipInfo], truth: Sequence[TruthRow], answers: Sequence[PublicAnswer]
) -> list[Judged]:
    """Bring each clip together with its truth and its answer.

    Args:
        clips: The clips that were asked for.
        truth: Rows of all clips; those of clips that are not known are left aside.
        answers: One for each clip, in any order.

    Returns:
        In the order of ``clips``.

    Raises:
        ValueError: A clip stands twice or has no answer, an answer belongs to no clip or to one answered
            already, or a known clip has no truth.
    """
    by_id = {str(answer["clip_id"]): answer for answer in answers}
    names = {clip.clip_id for clip in clips}
    if len(names) < len(clips) or len(by_id) < len(answers):
        raise ValueError("a clip stands twice among the clips or the answers")
    if names != set(by_id):
        odd = sorted(names ^ set(by_id))
        raise ValueError(f"{len(odd)} clips are without an answer or answers without a clip: {odd[:3]}")
    rows: dict[str, list[TruthRow]] = {}
    for row in truth:
        rows.setdefault(row.clip_id, []).append(row)
    lacking = [clip.clip_id for clip in clips if clip.is_known and clip.clip_id not in rows]
    if lacking:
        raise ValueError(f"{len(lacking)} known clips have no truth: {lacking[:3]}")
    return [
        Judged(clip, tuple(rows[clip.clip_id]) if clip.is_known else (), by_id[clip.clip_id])
        for clip in clips
    ]
