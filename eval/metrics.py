"""What is measured: each figure as a plain function of scores, truths and time intervals.

Scores are similarities in the wide sense: higher is better, any finite sign. Nothing here knows of files
or of answers; :mod:`eval.figures` brings those into the form that is asked for here.

Letters: ``n`` predictions, ``b`` bins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]

_WILSON_Z = 1.959963984540054  # The 97.5 % point of the normal distribution: 2.5 % left out on either side.
# A share of n that should come out whole, such as 29 % of 100, may be a hair less in floating point.
_COUNT_SLACK = 1e-9


@dataclass(frozen=True)
class PrecisionRecall:
    """A precision-recall curve with one point for each different score, best score first.

    Attributes:
        thresholds: (p,) the scores, strictly descending; a prediction counts if it reaches the threshold.
        precision: (p,) share of right ones among those that count.
        recall: (p,) share of all positives among those that count; never falls.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def average_precision(self) -> float:
        """The sum over the points of precision times what the recall grew by."""
        return float(np.sum(self.precision * np.diff(self.recall, prepend=0.0)))


@dataclass(frozen=True)
class Match:
    """A stretch of a clip beside the stretch of an asset that it is said to show, both half open.

    Attributes:
        clip_id: The query.
        asset_id: The reference.
        clip_start_seconds: Where it begins in the clip.
        clip_end_seconds: Not before the start.
        asset_start_seconds: Where it begins in the asset.
        asset_end_seconds: Not before the start, reversed or not.
        score: How sure the prediction is; of no meaning for a truth.
        is_reversed: The clip shows the asset backwards.
    """

    clip_id: str
    asset_id: str
    clip_start_seconds: float
    clip_end_seconds: float
    asset_start_seconds: float
    asset_end_seconds: float
    score: float = 1.0
    is_reversed: bool = False

    def __post_init__(self) -> None:
        if not self.clip_end_seconds >= self.clip_start_seconds:
            raise ValueError(f"clip {self.clip_interval} of {self.clip_id} ends before it starts")
        if not self.asset_end_seconds >= self.asset_start_seconds:
            raise ValueError(f"asset {self.asset_interval} of {self.clip_id} ends before it starts")

    @property
    def clip_interval(self) -> Interval:
        """Start and end in the clip."""
        return (self.clip_start_seconds, self.clip_end_seconds)

    @property
    def asset_interval(self) -> Interval:
        """Start and end in the asset."""
        return (self.asset_start_seconds, self.asset_end_seconds)

    def meets(self, other: Match) -> bool:
        """Whether both show some of the same asset time in some of the same clip time."""
        return (
            (self.clip_id, self.asset_id) == (other.clip_id, other.asset_id)
            and _common(self.clip_interval, other.clip_interval) > 0
            and _common(self.asset_interval, other.asset_interval) > 0
        )

    def asset_time(self, clip_seconds: float, *, is_reversed: bool) -> float:
        """The asset's moment at a moment of the clip, if time runs evenly, forwards or backwards."""
        length = self.clip_end_seconds - self.clip_start_seconds
        share = (clip_seconds - self.clip_start_seconds) / length if length else 0.0
        if is_reversed:
            share = 1 - share
        return self.asset_start_seconds + share * (self.asset_end_seconds - self.asset_start_seconds)


@dataclass(frozen=True)
class SegmentAgreement:
    """How far predicted segments agree with the true ones, each in [0, 1].

    Attributes:
        precision: Of the predicted time, the share that is true.
        recall: Of the true time, the share that is predicted.
        iou: Of the time that is either, the share that is both.
    """

    precision: float
    recall: float
    iou: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence lies in ``[lower, upper)``; the last bin holds 1 as well.

    Attributes:
        lower: Of the bin.
        upper: Of the bin.
        count: Predictions in it.
        mean_confidence: Of these; what the share of right ones should be.
        share_right: What it is.
    """

    lower: float
    upper: float
    count: int
    mean_confidence: float
    share_right: float


# ---------------------------------------------------------------------------------------- ranked lists


def top1(best: Sequence[str | None], right: Sequence[Collection[str]]) -> float:
    """Share of clips whose best guess is one of the right ones.

    Args:
        best: Each clip's best guess, None where there is none.
        right: Each clip's right answers.

    Returns:
        In [0, 1].

    Raises:
        ValueError: There are no clips, or not as many guesses as truths.
    """
    if not best:
        raise ValueError("no clips: a share of nothing is not defined")
    return sum(guess in truths for guess, truths in zip(best, right, strict=True)) / len(best)


def precision_recall(scores: ArrayLike, is_right: ArrayLike, n_positives: int) -> PrecisionRecall:
    """Precision and recall at each different score.

    Predictions of one score come or go together, since no threshold can tell them apart; hence the order
    that they are given in never matters.

    Args:
        scores: (n,) of the predictions, in any order; infinite ones are allowed.
        is_right: (n,) bool.
        n_positives: Right answers that could have been predicted; more than the right ones given where
            some were not predicted at all.

    Returns:
        The curve; without points if there are no predictions.

    Raises:
        ValueError: The arrays do not fit, a score is NaN, or ``n_positives`` is below 1 or below the number
            of right predictions.
    """
    values, right = _scored(scores, is_right)
    if n_positives < max(1, int(right.sum())):
        raise ValueError(f"n_positives must be at least 1 and at least {right.sum()}, got {n_positives}")
    order = np.argsort(-values, kind="stable")
    values, right = values[order], right[order]
    # A tie's group is judged where it ends.
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if values.size else np.zeros(0, int)
    found = np.cumsum(right)[ends].astype(np.float64)
    return PrecisionRecall(values[ends], found / (ends + 1), found / n_positives)


def micro_average_precision(scores: ArrayLike, is_right: ArrayLike, n_positives: int) -> float:
    """Average precision over the predictions of all queries in one list (µAP).

    The measure of the descriptor track of the Meta AI Video Similarity Challenge (VSC2022): every pair
    (clip, program) is one prediction, and all pairs of all clips are ranked together, so scores must mean
    the same for every clip, and pairs of clips that have no right program lower the precision. By descending
    score it is the sum of ``P_i * (R_i - R_(i-1))`` over the groups of equal scores, where ``P_i`` is the
    precision and ``R_i`` the recall at the end of group ``i``.

    Args:
        scores: (n,) of the predicted pairs, in any order and of any sign.
        is_right: (n,) bool.
        n_positives: All pairs that are right, predicted or not.

    Returns:
        In [0, 1]; 0 without predictions.

    Raises:
        ValueError: As :func:`precision_recall`.
    """
    return precision_recall(scores, is_right, n_positives).average_precision()


def recall_at_precision(scores: ArrayLike, is_right: ArrayLike, n_positives: int, precision: float) -> float:
    """The largest recall that some threshold gives with at least this precision.

    Args:
        scores: (n,) of the predictions.
        is_right: (n,) bool.
        n_positives: All that could have been right.
        precision: In (0, 1].

    Returns:
        In [0, 1]; 0 where no threshold is that precise.

    Raises:
        ValueError: As :func:`precision_recall`, or ``precision`` is out of range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be in (0, 1], got {precision}")
    curve = precision_recall(scores, is_right, n_positives)
    return float(np.max(curve.recall[curve.precision >= precision], initial=0.0))


def false_link_bound(unknown_scores: ArrayLike, rate: float) -> float:
    """The score that a clip has to exceed so that at most ``rate`` of the unknown clips would be linked.

    Args:
        unknown_scores: (n,) best score of each clip whose program is not in the catalogue; minus infinity
            for one without any guess.
        rate: In [0, 1].

    Returns:
        The best score that is not to be linked; minus infinity where all unknown clips may be. Thresholds
        are the values above it: at the bound itself, ties would let too many in.

    Raises:
        ValueError: There are no unknown clips, a score is NaN, or ``rate`` is out of range.
    """
    values = _finite_or_infinite(unknown_scores)
    if not values.size:
        raise ValueError("no unknown clips: a rate of false links is not defined")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be in [0, 1], got {rate}")
    allowed = int(rate * values.size + _COUNT_SLACK)
    return float("-inf") if allowed >= values.size else float(np.sort(values)[::-1][allowed])


def recall_at_false_links(
    known_scores: ArrayLike, known_right: ArrayLike, unknown_scores: ArrayLike, rate: float
) -> float:
    """Share of the known clips that are linked, and rightly, where few unknown clips are linked at all.

    The threshold is the smallest that at most ``rate`` of the unknown clips reach. A known clip that ties
    with the first unknown clip left out is left out as well.

    Args:
        known_scores: (n,) best score of each clip whose program is in the catalogue.
        known_right: (n,) bool, whether its best guess is right.
        unknown_scores: Best score of each of the other clips.
        rate: Share of those that may be linked.

    Returns:
        In [0, 1].

    Raises:
        ValueError: There are no known or no unknown clips, the arrays do not fit, a score is NaN, or
            ``rate`` is out of range.
    """
    values, right = _scored(known_scores, known_right)
    if not values.size:
        raise ValueError("no known clips: a share of nothing is not defined")
    return float(np.mean(right & (values > false_link_bound(unknown_scores, rate))))


def _finite_or_infinite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or bool(np.isnan(values).any()):
        raise ValueError(f"scores must be (n,) and not NaN, got {values.shape}")
    return values


def _scored(scores: ArrayLike, is_right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, right = _finite_or_infinite(scores), np.asarray(is_right, dtype=np.bool_)
    if right.shape != values.shape:
        raise ValueError(f"is_right {right.shape} does not fit scores {values.shape}")
    return values, right


# ---------------------------------------------------------------------------------------- segments


def covered_length(intervals: Iterable[Interval]) -> float:
    """Length of the union of half-open intervals; what several cover counts once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def common_length(one: Collection[Interval], other: Collection[Interval]) -> float:
    """Length of what the unions of both have in common: ``|A ∩ B| = |A| + |B| - |A ∪ B|``."""
    both = covered_length([*one, *other])
    return max(0.0, covered_length(one) + covered_length(other) - both)


def _common(one: Interval, other: Interval) -> float:
    return min(one[1], other[1]) - max(one[0], other[0])


@dataclass
class _Lengths:
    """Seconds on the clip's axis and on the asset's axis."""

    clip: float = 0.0
    asset: float = 0.0

    def __iadd__(self, other: _Lengths) -> _Lengths:
        self.clip += other.clip
        self.asset += other.asset
        return self

    def minus(self, other: _Lengths) -> _Lengths:
        return _Lengths(self.clip - other.clip, self.asset - other.asset)

    def share_of(self, whole: _Lengths) -> float:
        """Geometric mean of the two axes' shares; 0 of nothing is 0."""
        if whole.clip <= 0 or whole.asset <= 0:
            return 0.0
        # Sums of differences may miss a bound by a rounding error.
        clip, asset = (
            min(1.0, max(0.0, part)) for part in (self.clip / whole.clip, self.asset / whole.asset)
        )
        return sqrt(clip * asset)


@dataclass
class _Pair:
    """One clip beside one asset: what is true, and what has been predicted so far."""

    truths: list[Match] = field(default_factory=list)
    predictions: list[Match] = field(default_factory=list)

    def true(self) -> _Lengths:
        return _covered(self.truths)

    def predicted(self) -> _Lengths:
        return _covered(self.predictions)

    def common(self) -> _Lengths:
        """Of the truths that some prediction meets on both axes at once, what is predicted of them."""
        met = [truth for truth in self.truths if any(truth.meets(guess) for guess in self.predictions)]
        return _Lengths(
            common_length([m.clip_interval for m in met], [p.clip_interval for p in self.predictions]),
            common_length([m.asset_interval for m in met], [p.asset_interval for p in self.predictions]),
        )


def _covered(matches: Collection[Match]) -> _Lengths:
    return _Lengths(
        covered_length(match.clip_interval for match in matches),
        covered_length(match.asset_interval for match in matches),
    )


def _pairs(truths: Iterable[Match]) -> defaultdict[tuple[str, str], _Pair]:
    pairs: defaultdict[tuple[str, str], _Pair] = defaultdict(_Pair)
    for truth in truths:
        pairs[truth.clip_id, truth.asset_id].truths.append(truth)
    return pairs


def segment_precision_recall(predicted: Iterable[Match], true: Iterable[Match]) -> PrecisionRecall:
    """Precision and recall in seconds at each different score of the predicted matches.

    The measure of the matching track of VSC2022, which takes its notion of overlap from VCSL (He et al.
    2022). A match is a box: an interval of the clip beside one of the asset. For each pair (clip, asset) and
    each axis, with ``P`` the union of the intervals predicted so far and ``G`` that of the true ones:

    * predicted length: ``|P|``, so what two predictions cover counts once;
    * common length: ``|P ∩ G'|``, where ``G'`` holds only the true boxes that some predicted box overlaps
      on *both* axes: the right stretch of the clip, laid at a wrong place of the asset, earns nothing;
    * true length: ``|G|``, over all pairs and known from the start.

    Each is summed over all pairs. On an axis the precision is common / predicted and the recall is
    common / true; the two axes are joined by the geometric mean, ``P = sqrt(P_clip * P_asset)`` and
    ``R = sqrt(R_clip * R_asset)``. A pair that has no truth adds predicted length only. Since all of a
    pair's boxes enter through unions, a prediction is worth what it adds to those before it, and predictions
    of one score are added together.

    Args:
        predicted: In any order, scored.
        true: Their scores are not looked at.

    Returns:
        One point for each different score; the recall never falls.

    Raises:
        ValueError: There is no true match of some length, or a score is NaN.
    """
    pairs, ranked = _pairs(true), sorted(predicted, key=lambda match: -match.score)
    _finite_or_infinite([match.score for match in ranked])
    whole, common, covered = _Lengths(), _Lengths(), _Lengths()
    for pair in pairs.values():
        whole += pair.true()
    if whole.clip <= 0 or whole.asset <= 0:
        raise ValueError("no true match has a length: segment precision and recall are not defined")
    points = []
    for score, group in groupby(ranked, key=lambda match: match.score):
        by_pair: defaultdict[tuple[str, str], list[Match]] = defaultdict(list)
        for match in group:
            by_pair[match.clip_id, match.asset_id].append(match)
        for name, matches in by_pair.items():
            pair = pairs[name]
            common_before, covered_before = pair.common(), pair.predicted()
            pair.predictions.extend(matches)
            common += pair.common().minus(common_before)
            covered += pair.predicted().minus(covered_before)
        points.append((score, common.share_of(covered), common.share_of(whole)))
    table = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    return PrecisionRecall(table[:, 0], table[:, 1], table[:, 2])


def segment_average_precision(predicted: Iterable[Match], true: Iterable[Match]) -> float:
    """Average precision over time: the area under :func:`segment_precision_recall`.

    Args:
        predicted: In any order, scored.
        true: The truth.

    Returns:
        In [0, 1]; 0 without predictions.

    Raises:
        ValueError: As :func:`segment_precision_recall`.
    """
    return segment_precision_recall(predicted, true).average_precision()


def segment_agreement(predicted: Iterable[Match], true: Iterable[Match]) -> SegmentAgreement:
    """Precision, recall and intersection over union of predicted segments, whatever their scores.

    Lengths are summed over the pairs (clip, asset) as in :func:`segment_precision_recall`, and the axes are
    joined by the geometric mean. A share of nothing is 0, but nothing predicted where nothing is true
    agrees fully.

    Args:
        predicted: Of one clip or of many.
        true: Of the same.

    Returns:
        The three shares.
    """
    pairs = _pairs(true)
    for match in predicted:
        pairs[match.clip_id, match.asset_id].predictions.append(match)
    if not pairs:
        return SegmentAgreement(1.0, 1.0, 1.0)
    common, covered, whole = _Lengths(), _Lengths(), _Lengths()
    for pair in pairs.values():
        common += pair.common()
        covered += pair.predicted()
        whole += pair.true()
    either = _Lengths(covered.clip + whole.clip - common.clip, covered.asset + whole.asset - common.asset)
    return SegmentAgreement(common.share_of(covered), common.share_of(whole), common.share_of(either))


def start_error_seconds(predicted: Iterable[Match], true: Iterable[Match]) -> float | None:
    """How far off in the asset the prediction is at the first moment of the clip where it can be judged.

    That moment is the earliest that a predicted and a true match of the same clip and asset both cover;
    there, each of the two names a moment of the asset, and their distance is the error. So a prediction that
    begins later in the clip, but on the right line, is not off. A match names no direction of play: it is
    read in that of the truth.

    Args:
        predicted: Of one clip.
        true: Of the same clip.

    Returns:
        Seconds, not negative; None where no such moment is.
    """
    earliest: tuple[float, float] | None = None
    guesses = list(predicted)
    for truth in true:
        for guess in guesses:
            same = (guess.clip_id, guess.asset_id) == (truth.clip_id, truth.asset_id)
            if not same or _common(guess.clip_interval, truth.clip_interval) <= 0:
                continue
            at = max(guess.clip_start_seconds, truth.clip_start_seconds)
            times = (match.asset_time(at, is_reversed=truth.is_reversed) for match in (guess, truth))
            error = abs(next(times) - next(times))
            earliest = (at, error) if earliest is None else min(earliest, (at, error))
    return None if earliest is None else earliest[1]


# ---------------------------------------------------------------------------------------- confidence


def reliability_bins(confidences: ArrayLike, is_right: ArrayLike, n_bins: int = 10) -> list[ReliabilityBin]:
    """Predictions by confidence, in bins of equal width; bins without any are left out.

    Args:
        confidences: (n,) in [0, 1].
        is_right: (n,) bool.
        n_bins: Over [0, 1].

    Returns:
        By ascending confidence.

    Raises:
        ValueError: The arrays do not fit, a confidence is out of range, or ``n_bins`` is below 1.
    """
    values, right = _scored(confidences, is_right)
    if n_bins < 1 or not bool(np.all((values >= 0) & (values <= 1))):
        raise ValueError(f"confidences must be in [0, 1] and n_bins at least 1, got {n_bins} bins")
    edges = np.arange(n_bins + 1) / n_bins
    number = np.searchsorted(edges[1:-1], values, side="right")
    return [
        ReliabilityBin(
            float(edges[b]), float(edges[b + 1]), int(inside.sum()),
            float(values[inside].mean()), float(right[inside].mean()),
        )
        for b in range(n_bins)
        if (inside := number == b).any()
    ]  # fmt: skip


def expected_calibration_error(confidences: ArrayLike, is_right: ArrayLike, n_bins: int = 10) -> float:
    """How far confidences are from the shares that they promise (ECE).

    The mean over the bins of equal width, weighted by their counts, of the distance between the mean
    confidence and the share of right predictions (Naeini et al. 2015, with equal bins).

    Args:
        confidences: (n,) in [0, 1].
        is_right: (n,) bool.
        n_bins: Over [0, 1].

    Returns:
        In [0, 1]; 0 is perfect.

    Raises:
        ValueError: There are no predictions, or as :func:`reliability_bins`.
    """
    bins = reliability_bins(confidences, is_right, n_bins)
    if not bins:
        raise ValueError("no predictions: a calibration error is not defined")
    off = sum(part.count * abs(part.mean_confidence - part.share_right) for part in bins)
    return off / sum(part.count for part in bins)


def wilson_interval(n_right: int, n: int) -> Interval:
    """The 95 % interval of a share by Wilson's score: sound for few cases and for shares of 0 and 1.

    Args:
        n_right: Cases that are so.
        n: All cases, at least 1.

    Returns:
        Lower and upper bound, in [0, 1].

    Raises:
        ValueError: Not ``0 <= n_right <= n`` with ``n >= 1``.

    Source: E. B. Wilson 1927; centre ``(p + z²/2n) / (1 + z²/n)``.
    """
    if not 0 <= n_right <= n or n < 1:
        raise ValueError(f"need 0 <= n_right <= n and n >= 1, got {n_right} of {n}")
    share, z2 = n_right / n, _WILSON_Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _WILSON_Z * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At shares of 0 and 1 the bound is exact in algebra but not in floating point.
    lower, upper = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if n_right == 0 else lower, 1.0 if n_right == n else upper)
