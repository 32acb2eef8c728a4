"""What a calibration does to clips whose truth is known, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.calibrate_fit import Scored

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Best candidates of about one confidence."""

    low: float
    high: float
    answers: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Figures:
    """Answers to clips, by what the catalogue held.

    Attributes:
        link: Threshold.
        review: Threshold.
        known: Answers with the program in the catalogue, and of these:
        linked_right: linked to it,
        linked_wrong: linked to another,
        review_right: put up for review with it first,
        review_wrong: with another first,
        missed: neither.
        unknown: Answers without, and of these:
        unknown_linked: linked,
        unknown_review: put up for review.
        ece: Expected calibration error of best candidates' confidences, in ten equal bins.
        bins: Those of them that hold any.
    """

    link: float
    review: float
    known: int
    linked_right: int
    linked_wrong: int
    review_right: int
    review_wrong: int
    missed: int
    unknown: int
    unknown_linked: int
    unknown_review: int
    ece: float
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)

    def row(self, name: str) -> tuple[str, ...]:
        """As a row under :data:`COLUMNS`."""
        return (
            name, f"{self.link:.4f}", f"{self.review:.3f}",
            f"{self.linked_right} of {self.known}", str(self.linked_wrong),
            f"{self.review_right} + {self.review_wrong}", str(self.missed),
            f"{self.unknown_linked} of {self.unknown}", str(self.unknown_review), f"{self.ece:.4f}",
        )  # fmt: skip


#: Headings of :meth:`Figures.row`.
COLUMNS = (
    "calibration", "link", "review", "known, linked right", "linked wrong", "review right + wrong", "missed",
    "unknown, linked", "in review", "calibration error",
)  # fmt: skip


def measure(best: Scored, *, link: float, review: float) -> Figures:
    """Count what the thresholds do to answers."""
    linked = best.confidence >= link
    asked = (best.confidence >= review) & ~linked
    known, right = best.is_known, best.is_right

    def count(which: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(which))

    bins = reliability(best.confidence, right)
    return Figures(
        link=link,
        review=review,
        known=count(known),
        linked_right=count(known & linked & right),
        linked_wrong=count(known & linked & ~right),
        review_right=count(known & asked & right),
        review_wrong=count(known & asked & ~right),
        missed=count(known & ~linked & ~asked),
        unknown=count(~known),
        unknown_linked=count(~known & linked),
        unknown_review=count(~known & asked),
        ece=calibration_error(bins),
        bins=tuple(bins),
    )


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """Confidences (m,) in :data:`BINS` equal bins, with the share that is right; empty ones are left out."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(np.count_nonzero(place == number)),
            float(confidence[place == number].mean()),
            float(right[place == number].mean()),
        )
        for number in range(BINS)
        if bool(np.any(place == number))
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean difference of confidence and share right, by how many answers each bin holds (Guo et al. 2017)."""
    total = sum(one.answers for one in bins)
    return sum(abs(one.confidence - one.right) * one.answers for one in bins) / max(1, total)
