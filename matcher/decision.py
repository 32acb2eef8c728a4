"""From aligned matches to a calibrated confidence and one of three decisions.

What is known of a candidate is measured on the frames that align with it, against what chance gives
those frames (:mod:`matcher.background`) and against the programs that resemble them next most. None of it is
changed by programs that do not resemble the clip.

Confidence is the probability that such evidence is a match at all (a logistic function, which
``matcher calibrate`` fits) times the probability that it is this program and not the one that
resembles the clip next most: with a lead of 0 that is a coin's throw, whatever the similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.localize import Match
from matcher.records import Decision

#: Similarities count by the logarithm of what they lack of 1, for near 1 a little more says much more: a
#: plain cut lacks half of what a cropped one does. What re-encoding alone takes makes no difference.
ROOM = 0.05
#: A match whose excess is so much explains its frames, whatever the rest of the clip shows.
SURE_EXCESS = 0.4
#: Consecutive frames whose similarity is below one minus this count as fully different.
SAME_FRAME_DROP = 0.05
#: Leads much larger than this say no more.
LEAD_SCALE = 0.05
#: Log-odds that a lead of 1 in one frame gives against the next best program.
DUEL_WEIGHT = 50.0
#: So much of the way from chance to identity shows a place clearly.
CLEARLY_SEEN = 0.15
#: Fewer different patches than this are one sound, a word or a bang, which may come again anywhere: patches
#: that follow each other share nine tenths.
LEAST_HEARD = 3.0
#: Log-odds that a sound is the clip's own, where its pictures show nothing.
UNSEEN = 4.0


@dataclass(frozen=True)
class Sight:
    """What the pictures show of a place that the sound points to.

    Attributes:
        seen: How much of the way from what chance gives to identity its frames go, in the mean.
        stands_out: By how many standard deviations the place resembles the frames more than the rest of the
            asset around it does, in the mean; 0 where all is alike.
    """

    seen: float
    stands_out: float

    def features(self) -> NDArray[np.float64]:
        """As the logistic function takes them: (len(SIGHT_FEATURES),)."""
        return np.array([self.seen, self.stands_out, np.clip(self.seen, 0.0, CLEARLY_SEEN)])


@dataclass(frozen=True)
class Evidence:
    """What speaks for one candidate, in one look; all are finite.

    Attributes:
        similarity: Mean cosine of the frames compared.
        excess: How much of the way from what chance gives to identity the frames that match go, in the
            mean; mostly 0 to 1.
        lead: Mean difference to the best other program, or to chance where that is more: near 0 for twins.
        frames: How many *different* frames agree (a still picture is one frame, however long); at least 1.
        coverage: Share that matches, 0 to 1, of the look's frames that no other program explains: in a
            montage each program has but its part.
        speed: Mean absolute logarithm, to base 2, of the matches' speeds, 0 to 1: chance likes any speed,
            uploaders mostly leave it.
        is_reversed: Played backwards.
        is_further: Found through a view of the second look: of many tries one may succeed by chance.
        pieces: Number of matches that the frames are spread over, as if they were equally long: chance is
            pieced together from many, a clip from one or a few. At least 1.
        agreement: Of what was heard: how far all of it agrees with one line through the program, see
            :attr:`matcher.agreement.Agreement.standing`; 0 of pictures.
        sight: Of what was heard: what the pictures show of that place; None where they show nothing.
    """

    similarity: float
    excess: float
    lead: float
    frames: float
    coverage: float
    speed: float
    is_reversed: bool = False
    is_further: bool = False
    pieces: float = 1.0
    agreement: float = 0.0
    sight: Sight | None = None

    def features(self) -> NDArray[np.float64]:
        """As the logistic function takes them: (len(FEATURES),)."""
        return np.array(
            [
                -np.log(1.0 + ROOM - min(self.similarity, 1.0)),
                -np.log(1.0 + ROOM - min(self.excess, 1.0)),
                np.tanh(self.lead / LEAD_SCALE),
                np.log(self.frames),
                self.coverage,
                self.speed,
                float(self.is_reversed),
                float(self.is_further),
                np.log(self.pieces),
                self.agreement,
            ]
        )


#: What :meth:`Evidence.features` holds, in order.
FEATURES = (
    "similarity", "excess", "lead", "frames", "coverage", "speed", "is_reversed", "is_further", "pieces",
    "agreement",
)  # fmt: skip
#: And :meth:`Sight.features`. A place that chance would not show is the place, and how far beyond chance it
#: is hardly matters then.
SIGHT_FEATURES = ("seen", "stands_out", "beyond_chance")


@dataclass(frozen=True)
class Weights:
    """The logistic function from evidence to log-odds.

    Attributes:
        weights: One for each of :data:`FEATURES`.
        bias: What no evidence amounts to.
    """

    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        if len(self.weights) != len(FEATURES):
            raise ValueError(f"{len(self.weights)} weights for {len(FEATURES)} features")

    def match(self, evidence: Evidence) -> float:
        """Log-odds that the candidate matches at all."""
        return float(evidence.features() @ np.array(self.weights)) + self.bias

    def log_odds(self, evidence: Evidence) -> float:
        """Log-odds that the clip is from the candidate: that it matches, and that no other does better."""
        return all_of(self.match(evidence), DUEL_WEIGHT * evidence.lead * evidence.frames)

    def confidence(self, evidence: Evidence) -> float:
        """Probability in [0, 1] that the clip is from the candidate."""
        return _logistic(self.log_odds(evidence))


@dataclass(frozen=True)
class SoundWeights:
    """The same of what is heard, in two questions, since a sound may lie under another's pictures.

    Is it this program's sound? Then, do the pictures show that very place? Where they show nothing at all,
    nothing speaks against the sound.

    Attributes:
        match: From evidence to the log-odds of the first.
        sight: One weight for each of :data:`SIGHT_FEATURES`, for the second.
        sight_bias: Its log-odds where both are 0.
    """

    match: Weights
    sight: tuple[float, ...]
    sight_bias: float

    def __post_init__(self) -> None:
        if len(self.sight) != len(SIGHT_FEATURES):
            raise ValueError(f"{len(self.sight)} weights for {len(SIGHT_FEATURES)} features")

    def shown(self, sight: Sight | None) -> float:
        """Log-odds that the pictures are those of the place."""
        if sight is None:
            return UNSEEN
        return float(sight.features() @ np.array(self.sight)) + self.sight_bias

    def log_odds(self, evidence: Evidence) -> float:
        """Log-odds that the clip is from the candidate."""
        duel = DUEL_WEIGHT * evidence.lead * evidence.frames
        return all_of(self.match.match(evidence), duel, self.shown(evidence.sight))


def all_of(*log_odds: float) -> float:
    """Log-odds that all of some independent things hold, each given by its own.

    Of two, ``log(p q / (1 - p q))``; no probability is written down, since most are next to 0 or 1.
    """
    log_all = -float(np.logaddexp(0.0, -np.array(log_odds)).sum())
    return float(log_all - np.log(-np.expm1(min(log_all, -1e-300))))


def _logistic(z: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0))))


def weigh(
    matches: Sequence[Match],
    look_vectors: NDArray[np.float32],
    rival: NDArray[np.float32],
    level: NDArray[np.float32],
    *,
    is_further: bool = False,
    explained: NDArray[np.bool_] | None = None,
    agreement: float = 0.0,
) -> Evidence | None:
    """Measure the evidence of one candidate's matches.

    Args:
        matches: Of one program, sharing no frame.
        look_vectors: (nq, d) descriptors of the look.
        rival: (nq,) similarity of the best other program, see :func:`matcher.voting.best_rival`.
        level: (nq,) what chance gives, see :meth:`matcher.background.Background.levels`.
        is_further: The look is not the first.
        explained: (nq,) frames that another program explains, see :func:`explained_frames`; None for none.
        agreement: See :class:`Evidence`.

    Returns:
        None without matches.
    """
    if not matches:
        return None
    similarity = np.concatenate([match.similarities for match in matches]).astype(np.float64)
    # All but the similarity count over all frames: on the frames that one program happens to have sampled,
    # its twin, sampled half a second off, always looks worse.
    run = np.concatenate([match.run for match in matches])
    on_run = np.concatenate([match.run_similarities for match in matches]).astype(np.float64)
    elsewhere = np.zeros(len(look_vectors), bool) if explained is None else explained.copy()
    elsewhere[run] = False
    sizes = np.array([match.frames.size for match in matches], np.float64)
    lengths = np.array([match.run.size for match in matches], np.float64)
    backwards = [match.is_reversed for match in matches]
    return Evidence(
        similarity=float(similarity.mean()),
        excess=_mean_excess(on_run, level[run]),
        lead=float((on_run - rival[run]).mean()),
        frames=different_frames(look_vectors[np.sort(run)]),
        coverage=run.size / (len(look_vectors) - int(elsewhere.sum())),
        speed=float(np.average([abs(np.log2(abs(match.line.speed))) for match in matches], weights=sizes)),
        is_reversed=bool(np.average(backwards, weights=sizes) > 0.5),
        is_further=is_further,
        pieces=float(lengths.sum() ** 2 / (lengths**2).sum()),
        agreement=agreement,
    )


def _mean_excess(similarity: NDArray[np.float64], level: NDArray[np.float32]) -> float:
    """How much of the way from what chance gives (n,) to identity similarities (n,) go, in the mean."""
    return float(((similarity - level) / np.maximum(1.0 - level, 0.01)).mean())


def explained_frames(matches: Sequence[Match], level: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(nq,) which frames a program's matches explain: all that match, if they do so clearly, else none."""
    explained = np.zeros(level.size, dtype=bool)
    if matches:
        run = np.concatenate([match.run for match in matches])
        on_run = np.concatenate([match.run_similarities for match in matches]).astype(np.float64)
        explained[run] = _mean_excess(on_run, level[run]) >= SURE_EXCESS
    return explained


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
