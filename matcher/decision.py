"""From aligned matches to a calibrated confidence and one of three decisions.

Five things are known of a candidate, all measured on the frames that align with it and none of
them changed by programs that do not resemble the clip:

* ``similarity``: how much its frames resemble the clip's,
* ``margin``: how much more than the next best programs do,
* ``lead``: how much more than the very best other program does: near 0 for twins,
* ``frames``: how many *different* frames agree (a still picture is one frame, however long),
* ``coverage``: which share of the aligned stretch matches.

Confidence is a logistic function of them; ``scripts/fit_decision.py`` fits its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from matcher.localize import Match
from matcher.records import Decision

#: Consecutive frames whose similarity is below this count as fully different.
SAME_FRAME_DROP = 0.05


@dataclass(frozen=True)
class Evidence:
    """What speaks for one candidate; see the module. All are finite."""

    similarity: float
    margin: float
    lead: float
    frames: float
    coverage: float

    def features(self) -> NDArray[np.float64]:
        """(5,) as the logistic function takes them: frames by their logarithm, lead saturating."""
        return np.array(
            [self.similarity, self.margin, np.tanh(self.lead / 0.05), np.log(self.frames), self.coverage]
        )


@dataclass(frozen=True)
class Calibration:
    """Weights of the logistic function, with what they were fitted on.

    Attributes:
        weights: One for each of the features.
        bias: Added to their sum.
        made_by: The command and figures.
    """

    weights: tuple[float, ...]
    bias: float
    made_by: str = ""

    def __post_init__(self) -> None:
        if len(self.weights) != len(fields(Evidence)):
            raise ValueError(f"wanted {len(fields(Evidence))} weights, got {len(self.weights)}")

    def confidence(self, evidence: Evidence) -> float:
        """Probability in [0, 1] that the clip is from the candidate."""
        z = float(evidence.features() @ np.array(self.weights)) + self.bias
        return float(1.0 / (1.0 + np.exp(-np.clip(z, -60, 60))))


def weigh(
    matches: Sequence[Match],
    clip_vectors: NDArray[np.float32],
    rival_mean: NDArray[np.float32],
    rival_best: NDArray[np.float32],
) -> Evidence | None:
    """Measure the evidence of one candidate's matches.

    Args:
        matches: Of one program, sharing no frame.
        clip_vectors: (nq, d) descriptors of the clip.
        rival_mean: (nq,) mean similarity of the next best programs, see :func:`matcher.voting.rivals`.
        rival_best: (nq,) similarity of the best other program.

    Returns:
        None without matches.
    """
    if not matches:
        return None
    frames = np.concatenate([match.frames for match in matches])
    similarity = np.concatenate([match.similarities for match in matches]).astype(np.float64)
    spans = [(int(match.frames[0]), int(match.frames[-1]) + 1) for match in matches]
    within = sum(stop - start for start, stop in spans)
    return Evidence(
        similarity=float(similarity.mean()),
        margin=float((similarity - rival_mean[frames]).mean()),
        lead=float((similarity - rival_best[frames]).mean()),
        frames=different_frames(clip_vectors[np.sort(frames)]),
        coverage=frames.size / within,
    )


def different_frames(vectors: NDArray[np.float32]) -> float:
    """How many frames (n, d), n ≥ 1, differ from the one before: 1 for a still picture, at most n."""
    if len(vectors) < 2:
        return float(len(vectors))
    consecutive = np.einsum("nd,nd->n", vectors[1:], vectors[:-1])  # n frames, d dimensions
    return float(1.0 + np.clip((1.0 - consecutive) / SAME_FRAME_DROP, 0.0, 1.0).sum())


def decide(confidence: float, *, link: float, review: float) -> Decision:
    """The decision at a confidence: linked at ``link`` or more, review at ``review`` or more."""
    if confidence >= link:
        return "linked"
    return "review" if confidence >= review else "none"


#: Placeholder weights until fitted.
SHIPPED = Calibration(weights=(30.0, 20.0, 1.5, 1.0, 2.0), bias=-31.0)
