"""From aligned matches to a calibrated confidence and one of three decisions.

Four things are known of a candidate, all measured on the frames that align with it and none of
them changed by programs that do not resemble the clip:

* ``similarity``: how much its frames resemble the clip's,
* ``lead``: how much more than any other program does: near 0 for twins,
* ``frames``: how many *different* frames agree (a still picture is one frame, however long),
* ``speed``: how far the alignment is from the speed at which it was shot: chance likes any speed,
  uploaders mostly leave it.

Confidence is the probability that such evidence is a match at all (a logistic function, which
``scripts/fit_decision.py`` fits) times the probability that it is this program and not the one that
resembles the clip next most: with a lead of 0 that is a coin's throw, whatever the similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.localize import Match
from matcher.records import Decision

#: Consecutive frames whose similarity is below one minus this count as fully different.
SAME_FRAME_DROP = 0.05
#: Leads much larger than this say no more.
LEAD_SCALE = 0.05
#: Log-odds that a lead of 1 in one frame gives against the next best program.
DUEL_WEIGHT = 50.0


@dataclass(frozen=True)
class Evidence:
    """What speaks for one candidate; see the module. All are finite.

    Attributes:
        similarity: Mean cosine.
        lead: Mean difference to the best other program.
        frames: At least 1.
        speed: Mean absolute logarithm, to base 2, of the matches' speeds: 0 to 1.
    """

    similarity: float
    lead: float
    frames: float
    speed: float

    def features(self) -> NDArray[np.float64]:
        """(4,) as the logistic function takes them: the lead saturating, frames by their logarithm."""
        lead = np.tanh(self.lead / LEAD_SCALE)
        return np.array([self.similarity, lead, np.log(self.frames), self.speed])


@dataclass(frozen=True)
class Calibration:
    """Weights of the logistic function, in the order of :meth:`Evidence.features`, and its bias."""

    weights: tuple[float, float, float, float]
    bias: float

    def confidence(self, evidence: Evidence) -> float:
        """Probability in [0, 1] that the clip is from the candidate."""
        match = _logistic(float(evidence.features() @ np.array(self.weights)) + self.bias)
        return match * _logistic(DUEL_WEIGHT * evidence.lead * evidence.frames)


def _logistic(z: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0))))


def weigh(
    matches: Sequence[Match], clip_vectors: NDArray[np.float32], rival: NDArray[np.float32]
) -> Evidence | None:
    """Measure the evidence of one candidate's matches.

    Args:
        matches: Of one program, sharing no frame.
        clip_vectors: (nq, d) descriptors of the clip.
        rival: (nq,) similarity of the best other program, see :func:`matcher.voting.best_rival`.

    Returns:
        None without matches.
    """
    if not matches:
        return None
    similarity = np.concatenate([match.similarities for match in matches]).astype(np.float64)
    # The lead counts over all frames: on the frames that one program happens to have sampled, its twin,
    # sampled half a second off, always looks worse.
    run = np.concatenate([match.run for match in matches])
    on_run = np.concatenate([match.run_similarities for match in matches]).astype(np.float64)
    speeds = [abs(np.log2(match.line.speed)) for match in matches]
    return Evidence(
        similarity=float(similarity.mean()),
        lead=float((on_run - rival[run]).mean()),
        frames=different_frames(clip_vectors[np.sort(run)]),
        speed=float(np.average(speeds, weights=[match.frames.size for match in matches])),
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


#: Made by ``scripts/fit_decision.py --films DIR --seed 11 --dramas 12 --clips 8``, which prints its figures.
SHIPPED = Calibration(weights=(119.09, 1.08, 2.32, -3.06), bias=-116.16)
