"""Fits the decision to answered questions: its weights, and the thresholds.

The confidence is ``p = q d``: ``q`` the logistic function that is fitted and ``d`` the duel with the next
best program, which is given (:mod:`matcher.decision`). It is ``p`` that is held against right and wrong, so
the weights need not learn what the duel says already.

Shape letters: ``n`` cases, ``f`` features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.calibrate_cases import Case, Trial
from matcher.considered import join_log_odds
from matcher.decision import DUEL_WEIGHT, FEATURES, SIGHT_FEATURES, Evidence, SoundWeights, Weights

Floats = NDArray[np.float64]

#: Of the weights of standardized features.
RIDGE = 1.0
#: What the sign of each feature's weight must be; a fit that says otherwise has learned an accident.
SIGNS = {
    "similarity": 1, "excess": 1, "lead": 1, "frames": 1, "coverage": 1,
    "speed": -1, "is_reversed": -1, "is_further": -1, "pieces": -1, "agreement": 1,
    "seen": 1, "stands_out": 1, "beyond_chance": 1,
}  # fmt: skip
#: Parts by program that take turns in being measured on.
FOLDS = 3
#: The tail of unknown clips' log-odds that is extrapolated, as a share of them.
TAIL_SHARE = 0.1
#: So many unknown clips beyond the threshold make counting good enough.
COUNTED = 10
#: No threshold for links is below this: at one half it is a coin's throw between twins, and on a lead as
#: small as the rounding of their vectors somewhat more.
LEAST_LINK = 0.75
#: Share of right ones from which a person is asked, and the limits of what that may come to.
REVIEW_SHARE = 0.3
REVIEW_LIMITS = (0.1, 0.4)
#: So often what a person said is taken to be a slip, or to mean something else than these weights are for.
MISTAKEN = 0.05
#: Log-odds of an answer without any candidate.
NOTHING = -60.0


@dataclass(frozen=True)
class Sample:
    """Cases as arrays.

    Attributes:
        features: (n, f).
        duel: (n,) log-odds of the duel.
        is_right: (n,).
        is_said: (n,) whether that is known from a person; None where none of it is.
    """

    features: Floats
    duel: Floats
    is_right: NDArray[np.bool_]
    is_said: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, evidence: Sequence[Evidence], is_right: Sequence[bool], is_said: Sequence[bool] = ()
    ) -> Sample:
        """Of evidence in its order."""
        return cls(
            np.array([one.features() for one in evidence]).reshape(len(evidence), len(FEATURES)),
            np.array([DUEL_WEIGHT * one.lead * one.frames for one in evidence]),
            np.array(is_right, bool),
            np.array(is_said, bool) if any(is_said) else None,
        )

    def rows(self, which: NDArray[np.bool_]) -> Sample:
        """Those of them, with nothing said of where they are from."""
        return Sample(self.features[which], self.duel[which], self.is_right[which])

    @property
    def tells_apart(self) -> bool:
        """Whether some are right and some wrong."""
        return bool(self.is_right.any() and not self.is_right.all())


def best_cases(trials: Sequence[Trial]) -> Sample:
    """The best case of every answer by the pictures alone that has one.

    It is what gets linked or not. The ones behind it are no such questions: most are wrong beyond doubt, and
    a clip that shows two programs makes right ones of some whose evidence is chance's.
    """
    best = [(trial.cases[0], trial.is_said) for trial in trials if trial.cases and not trial.is_heard]
    seen = [(case.evidence, case.is_right, said) for case, said in best if case.evidence is not None]
    return Sample.of([one for one, _, _ in seen], [right for _, right, _ in seen], [s for _, _, s in seen])


def heard_cases(trials: Sequence[Trial]) -> list[Case]:
    """The first case with anything heard, of every answer that has one."""
    firsts = [
        next((case for case in trial.cases if case.heard is not None), None)
        for trial in trials
        if trial.is_heard
    ]
    return [case for case in firsts if case is not None]


def fit_sound(cases: Sequence[Case], start: SoundWeights | None = None) -> SoundWeights:
    """Fit both questions: whose sound it is on all cases, whose pictures on those where that is right.

    Args:
        cases: From :func:`heard_cases`.
        start: Answers a question whose cases are all right or all wrong: a catalogue may have little sound,
            and its clips may all have their own.

    Raises:
        ValueError: There are such cases, and no ``start``.
    """
    heard = [(case.heard, case.is_source) for case in cases if case.heard is not None]
    whose = Sample.of([one for one, _ in heard], [right for _, right in heard])
    seen = [
        (case.heard.sight.features(), case.is_right)
        for case in cases
        if case.is_source and case.heard is not None and case.heard.sight is not None
    ]
    shown = Sample(
        np.array([features for features, _ in seen]).reshape(len(seen), len(SIGHT_FEATURES)),
        np.full(len(seen), np.inf),
        np.array([right for _, right in seen], bool),
    )
    match = fit(whose) if start is None or whose.tells_apart else start.match
    sight, bias = (
        fit_weights(shown, SIGHT_FEATURES)
        if start is None or shown.tells_apart
        else (start.sight, start.sight_bias)
    )
    return SoundWeights(match, sight, bias)


def fit(sample: Sample, *, ridge: float = RIDGE) -> Weights:
    """The weights of :data:`matcher.decision.FEATURES`; see :func:`fit_weights`.

    What people said counts by :func:`trust`, as the rest of the sample sees it.
    """
    said, counts = sample.is_said, np.ones(len(sample.is_right))
    if said is not None:
        without = fit(sample.rows(~said), ridge=ridge)
        counts[said] = trust(without, sample.rows(said))
    return Weights(*fit_weights(sample, FEATURES, ridge=ridge, counts=counts))


def trust(weights: Weights, sample: Sample) -> Floats:
    """(n,) how likely what was said of each case is meant so, if a share of :data:`MISTAKEN` is not.

    It is the first step of expectation and maximization for labels of which some are turned round: a case of
    which the weights are sure is nearly always as they have it, and would pull at them with all its might.
    """
    p = _logistic(log_odds(weights, sample))
    agrees = np.where(sample.is_right, p, 1.0 - p)
    meant: Floats = (1 - MISTAKEN) * agrees / ((1 - MISTAKEN) * agrees + MISTAKEN * (1 - agrees))
    return meant


def fit_weights(
    sample: Sample, names: Sequence[str], *, ridge: float = RIDGE, counts: Floats | None = None
) -> tuple[tuple[float, ...], float]:
    """Maximum likelihood of right and wrong with a ridge, on standardized features.

    A feature whose weight comes out with the wrong sign is left out, the worst first, and the rest is fitted
    again.

    Args:
        sample: Cases.
        names: Of its features.
        ridge: Of the weights.
        counts: (n,) as how many cases each counts; None for one each.

    Raises:
        ValueError: The cases are all right or all wrong.
    """
    if not sample.tells_apart:
        raise ValueError("nothing to tell apart: the cases are all right or all wrong")
    mean = sample.features.mean(axis=0)
    # A feature that is always the same takes no part, whatever its scale.
    scale = np.where(sample.features.std(axis=0) > 1e-9, sample.features.std(axis=0), np.inf)
    standard = (sample.features - mean) / scale
    signs = np.array([SIGNS[name] for name in names])
    kept = np.ones(len(signs), bool)
    counts = np.ones(len(sample.is_right)) if counts is None else counts
    while True:
        found = _maximum(standard[:, kept], sample, ridge, counts)
        weights = np.zeros(len(signs))
        weights[kept] = found[:-1]
        wrong = weights * signs
        if wrong.min() >= 0:
            break
        kept[int(wrong.argmin())] = False
    weights = weights / scale
    return tuple(float(w) for w in weights), float(found[-1] - weights @ mean)


def _maximum(x: Floats, sample: Sample, ridge: float, counts: Floats) -> Floats:
    """Weights of ``x`` (n, f) and the bias by Fisher scoring, each step halved until it gains.

    With z = w·x and the logistic q(z), for p = q d the derivative of log p is 1 - q, that of log(1 - p) is
    -p (1 - q) / (1 - p), and the Fisher information is p (1 - q)² / (1 - p).
    """
    design = np.column_stack([x, np.ones(len(x))])
    penalty = np.diag(
        [ridge] * x.shape[1] + [1e-6]
    )  # the bias is free; a trace of ridge keeps the step finite
    duel = _logistic(sample.duel)
    w = np.zeros(design.shape[1])

    def loss(w: Floats) -> float:
        p = np.clip(_logistic(design @ w) * duel, 1e-12, 1 - 1e-12)
        return float(-counts @ np.where(sample.is_right, np.log(p), np.log1p(-p)) + 0.5 * w @ penalty @ w)

    best = loss(w)
    for _ in range(100):
        q = _logistic(design @ w)
        p = np.clip(q * duel, 1e-12, 1 - 1e-12)
        slope = counts * np.where(sample.is_right, 1 - q, -p * (1 - q) / (1 - p))
        information = counts * p * (1 - q) ** 2 / (1 - p)
        hessian = (design * (information + 1e-9)[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, design.T @ slope - penalty @ w)
        while (now := loss(w + step)) > best and np.abs(step).max() > 1e-9:
            step /= 2
        if best - now < 1e-9 * max(1.0, best):
            break
        w, best = w + step, now
    return w


def log_odds(weights: Weights, sample: Sample) -> Floats:
    """(n,) as :meth:`matcher.decision.Weights.log_odds` gives them one by one."""
    match = sample.features @ np.array(weights.weights) + weights.bias
    log_both = -np.logaddexp(0.0, -match) - np.logaddexp(0.0, -sample.duel)
    odds: Floats = log_both - np.log(-np.expm1(np.minimum(log_both, -1e-300)))
    return odds


@dataclass(frozen=True)
class Scored:
    """The best candidate of every answer.

    Attributes:
        log_odds: (m,) :data:`NOTHING` where there is no candidate.
        is_right: (m,) whether it is what the clip shows.
        is_known: (m,) whether the catalogue held that.
    """

    log_odds: Floats
    is_right: NDArray[np.bool_]
    is_known: NDArray[np.bool_]

    @property
    def confidence(self) -> Floats:
        """(m,)."""
        return _logistic(self.log_odds)


@dataclass(frozen=True)
class Fitted:
    """What was fitted.

    Attributes:
        picture: Weights of what is seen.
        sound: Of what is heard; None where nobody listened.
    """

    picture: Weights
    sound: SoundWeights | None = None

    def log_odds(self, case: Case) -> float:
        """Of a candidate, by what is seen and heard of it."""
        seen = None if case.evidence is None else self.picture.log_odds(case.evidence)
        heard = None if case.heard is None or self.sound is None else self.sound.log_odds(case.heard)
        return join_log_odds(seen, heard, is_same_place=case.is_same_place)


def fit_both(trials: Sequence[Trial], start: SoundWeights | None = None) -> Fitted:
    """Fit the pictures' weights, and the sound's where there are answers with anything heard.

    Args:
        trials: Answers.
        start: See :func:`fit_sound`.

    Raises:
        ValueError: The cases of the pictures are all right or all wrong.
    """
    heard = heard_cases(trials)
    return Fitted(fit(best_cases(trials)), fit_sound(heard, start) if heard else start)


def score(trials: Sequence[Trial], weights: Sequence[Fitted]) -> Scored:
    """The best candidates of ``trials`` by the weights of each (one for each trial)."""
    odds, right = [], []
    for trial, own in zip(trials, weights, strict=True):
        found = [own.log_odds(case) for case in trial.cases]
        best = int(np.argmax(found)) if found else -1
        odds.append(max(NOTHING, found[best]) if found else NOTHING)
        right.append(bool(found) and trial.cases[best].is_right)
    return Scored(np.array(odds), np.array(right, bool), np.array([trial.is_known for trial in trials], bool))


def fit_by_folds(
    trials: Sequence[Trial],
    *,
    seed: int,
    start: SoundWeights | None = None,
    asked: Sequence[Trial] = (),
) -> list[Fitted]:
    """For each trial weights that were fitted without the program that its clip was cut from.

    Args:
        trials: Answers.
        seed: Deals the programs to folds.
        start: See :func:`fit_sound`.
        asked: Answers that are measured, and not fitted to: their weights come after those of ``trials``.

    Raises:
        ValueError: There are fewer programs than :data:`FOLDS`, or a fold has nothing to tell apart.
    """
    groups = sorted({trial.group for trial in (*trials, *asked)})
    if len(groups) < FOLDS:
        raise ValueError(f"clips of at least {FOLDS} programs are needed, got {len(groups)}")
    order = np.random.default_rng([seed, 3]).permutation(len(groups))
    fold = {groups[int(place)]: rank % FOLDS for rank, place in enumerate(order)}
    fits = [
        fit_both([trial for trial in trials if fold[trial.group] != held], start) for held in range(FOLDS)
    ]
    return [fits[fold[trial.group]] for trial in (*trials, *asked)]


def link_threshold(unknown: Floats, *, false_links: float) -> float:
    """The confidence above which a share of ``false_links`` of unknown clips is expected.

    It is counted where enough clips lie beyond it. Otherwise the upper tail of the log-odds, a share
    :data:`TAIL_SHARE` of them, is taken to be exponential, with the mean excess as its scale: beyond a high
    level many distributions are (Pickands 1975), those that end somewhere have less there, and one parameter
    is what some tens of clips can tell. Of what was seen no more than that share, rounded up, is let through.

    Args:
        unknown: (m,) log-odds of the best candidates of unknown clips, m at least 1.
        false_links: Share that may be linked, above 0.

    Returns:
        From :data:`LEAST_LINK` to just below 1.
    """
    ranked = -np.sort(-unknown)
    allowed = int(np.ceil(false_links * unknown.size))
    # A little above the first clip that must not pass.
    bar = float(ranked[allowed]) + 1e-3 if allowed < unknown.size else NOTHING
    if allowed < COUNTED:
        bar = max(bar, _tail_quantile(ranked, false_links))
    # Confidences are shown with six digits: what is above could not be told from 1.
    return float(np.clip(_logistic(np.array(bar)), LEAST_LINK, 0.999999))


def _tail_quantile(ranked: Floats, share: float) -> float:
    """Where ``share`` of an exponential tail lies beyond; ``ranked`` (m,) descends."""
    n_candidates = int(np.count_nonzero(ranked > NOTHING))
    size = min(int(TAIL_SHARE * ranked.size), n_candidates - 1)
    if size < 1 or share * ranked.size >= size:
        return NOTHING
    scale = float(ranked[:size].mean() - ranked[size])
    return float(ranked[size]) + scale * float(np.log(size / ranked.size / share))


def review_threshold(best: Scored, *, link: float) -> float:
    """The confidence from which about :data:`REVIEW_SHARE` of the best candidates are right.

    The share right is taken to rise with the confidence (isotonic regression).
    """
    order = np.argsort(best.log_odds, kind="stable")
    share = isotonic(best.is_right[order].astype(np.float64))
    enough = np.flatnonzero(share >= REVIEW_SHARE)
    low, high = REVIEW_LIMITS
    bar = float(best.confidence[order[enough[0]]]) if enough.size else high
    return min(link, max(low, min(high, bar)))


def isotonic(values: Floats) -> Floats:
    """The rising sequence nearest to ``values`` (n,) in squares, by pooling neighbours that fall."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values:
        means.append(float(value))
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            size = sizes[-2] + sizes[-1]
            means[-2:] = [(means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size]
            sizes[-2:] = [size]
    return np.repeat(means, sizes)


def _logistic(z: Floats) -> Floats:
    out: Floats = 1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0)))
    return out
