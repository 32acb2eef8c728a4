"""From clips, truths and answers to the figures of a run: one JSON object.

:func:`figures` returns ``{"groups": {"all": …, "films": …, "dramas": …}}``, each with the figures of
:func:`group_figures`. A share stands as ``{"right", "of", "share", "low", "high"}`` with Wilson's 95 %
interval; what is not defined, such as a share of nothing, is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from eval.ground_truth import TruthRow
from eval.judging import LEVELS, ClipInfo, Judged, Level, PublicAnswer, judge
from eval.metrics import (
    expected_calibration_error,
    micro_average_precision,
    recall_at_false_links,
    recall_at_precision,
    reliability_bins,
    segment_agreement,
    segment_average_precision,
    top1,
    wilson_interval,
)

__all__ = ["LEVELS", "ClipInfo", "Level", "figures", "group_figures", "share", "share_of"]

PRECISIONS = (0.90, 0.99, 0.999)
"""At which the recall is taken."""

FALSE_LINK_RATES = (0.01, 0.001)
"""Shares of the unknown clips that may be linked when the recall is taken."""

SOUND_KINDS = frozenset({"muted", "sound-replaced"})
"""Edits that leave nothing of a clip's own sound, or little."""

DECISIONS = ("linked", "review", "none")

Figures = dict[str, Any]
_Case = TypeVar("_Case")


def figures(clips: Sequence[ClipInfo], truth: Sequence[TruthRow], answers: Sequence[PublicAnswer]) -> Figures:
    """All figures of a run.

    Args:
        clips: Those that were asked for.
        truth: Of the known clips; rows of others are left aside.
        answers: The public objects, one for each clip.

    Returns:
        ``{"groups": {name: figures}}`` with "all" first, then the clips' groups by name; and, where anybody
        listened, ``"sounds"``: the same by what became of the known clips' sound, see :func:`_by_sound`.

    Raises:
        ValueError: Clips, truths and answers do not fit each other (:func:`eval.judging.judge`), or a group
            is called "all".
    """
    judged = judge(clips, truth, answers)
    names = sorted({clip.group for clip in clips})
    if "all" in names:
        raise ValueError("no group may be called 'all'")
    groups = {"all": judged} | {name: [one for one in judged if one.clip.group == name] for name in names}
    found: Figures = {"groups": {name: group_figures(members) for name, members in groups.items()}}
    if any(one.answer.get("patches") is not None for one in judged):
        found["sounds"] = {name: group_figures(members) for name, members in _by_sound(judged).items()}
    return found


def _by_sound(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Known clips by what became of their sound, each with all the unknown ones.

    "own" is their own sound, edited or not; "changed" is muted or another's; "silent" are clips in which
    nothing is heard, though nobody has muted them: their program has no sound, or none at that place.
    """
    unknown = [one for one in judged if not one.clip.is_known]
    found: dict[str, list[Judged]] = {"own": [], "changed": [], "silent": []}
    for one in judged:
        if one.clip.is_known:
            is_changed = bool(SOUND_KINDS.intersection(one.clip.kinds))
            is_silent = not one.answer.get("patches")
            found["changed" if is_changed else "silent" if is_silent else "own"].append(one)
    return {name: members + unknown for name, members in found.items()}


def group_figures(judged: Sequence[Judged]) -> Figures:
    """The figures of some clips.

    Args:
        judged: The clips; may be empty.

    Returns:
        ``counts``: clips, known, unknown, montages, and failed (without an answer because of an error).
        ``top1``, ``top1_by_level``, ``top1_by_kind`` (clips with this edit, whatever else was done),
        ``top1_by_single_kind`` (with this edit alone): shares of known clips whose best candidate is right,
        for a montage any of its programs.
        ``micro_ap``: over pairs of clip and program, unknown clips' candidates included.
        ``segment_ap``: over the segments of all links and of those put up for review.
        ``recall_at_precision``, ``recall_at_false_links``: of known clips, by their best candidates.
        ``unknown_linked``, ``known_linked_wrong``: shares of clips with any wrong link at the decision made.
        ``links_right``: share of all links, of known and unknown clips, whose program is right.
        ``known_decisions``, ``unknown_decisions``: shares linked, review, none.
        ``segments``: of the links made; see :func:`_segment_figures`.
        ``montages``: shares of their programs that are linked, and that are among the candidates.
        ``calibration``: of the best candidates of known and unknown clips.
        ``passes``, ``seconds``: where the answers hold them.
    """
    known = [one for one in judged if one.clip.is_known]
    unknown = [one for one in judged if not one.clip.is_known]
    return {
        "counts": {
            "clips": len(judged),
            "known": len(known),
            "unknown": len(unknown),
            "montages": sum(one.clip.level == "montage" for one in judged),
            "failed": sum(one.answer.get("error") is not None for one in judged),
        },
        **_top1_figures(known),
        "micro_ap": _micro_ap(judged),
        "segment_ap": _segment_ap(judged),
        "recall_at_precision": _recalls_at_precisions(judged, len(known)),
        "recall_at_false_links": _recalls_at_false_links(known, unknown),
        "unknown_linked": share_of(unknown, lambda one: one.wrong_links > 0),
        "known_linked_wrong": share_of(known, lambda one: one.wrong_links > 0),
        "links_right": share(
            sum(len(one.linked) - one.wrong_links for one in judged), sum(len(one.linked) for one in judged)
        ),
        "known_decisions": _decisions(known),
        "unknown_decisions": _decisions(unknown),
        "segments": _segment_figures(judged),
        "montages": _montage_figures(known),
        "calibration": _calibration(judged),
        "passes": _passes(judged),
        "seconds": _seconds(judged),
    }


def share(n_right: int, n: int) -> Figures:
    """A share with its count and its interval.

    Args:
        n_right: Cases that are so.
        n: All cases; may be 0.

    Returns:
        ``{"right", "of", "share", "low", "high"}``; the last three None where ``n`` is 0.
    """
    if n == 0:
        return {"right": 0, "of": 0, "share": None, "low": None, "high": None}
    low, high = wilson_interval(n_right, n)
    return {"right": n_right, "of": n, "share": n_right / n, "low": low, "high": high}


def share_of(cases: Sequence[_Case], holds: Callable[[_Case], bool]) -> Figures:
    """The share of some cases of which something holds, as :func:`share` gives it."""
    return share(sum(holds(one) for one in cases), len(cases))


def _decisions(judged: Sequence[Judged]) -> Figures:
    counts = Counter(one.decision for one in judged)
    return {name: share(counts[name], len(judged)) for name in DECISIONS}


def _top1_figures(known: Sequence[Judged]) -> Figures:
    kinds = sorted({kind for one in known for kind in one.clip.kinds})
    single = [one for one in known if len(one.clip.kinds) == 1 and one.clip.level != "montage"]
    return {
        "top1": _top1(known),
        "top1_by_level": {
            level: _top1(members)
            for level in LEVELS
            if (members := [one for one in known if one.clip.level == level])
        },
        "top1_by_kind": {kind: _top1(one for one in known if kind in one.clip.kinds) for kind in kinds},
        "top1_by_single_kind": {
            kind: _top1(members)
            for kind in kinds
            if (members := [one for one in single if kind in one.clip.kinds])
        },
    }


def _top1(judged: Iterable[Judged]) -> Figures:
    members = list(judged)
    if not members:
        return share(0, 0)
    reached = top1([one.best for one in members], [one.programs for one in members])
    return share(round(reached * len(members)), len(members))


def _micro_ap(judged: Sequence[Judged]) -> float | None:
    n_positives = sum(len(one.programs) for one in judged)
    if not n_positives:
        return None
    pairs = [
        (score, program in one.programs) for one in judged for program, score in one.program_scores.items()
    ]
    return micro_average_precision([p[0] for p in pairs], [p[1] for p in pairs], n_positives)


def _segment_ap(judged: Sequence[Judged]) -> float | None:
    true = [match for one in judged for match in one.true_matches]
    predicted = [match for one in judged for match in one.all_matches]
    return segment_average_precision(predicted, true) if true else None


def _recalls_at_precisions(judged: Sequence[Judged], n_known: int) -> Figures:
    guessed = [one for one in judged if one.best is not None]
    scores, right = [one.score for one in guessed], [one.best_is_right for one in guessed]
    return {
        f"{precision:g}": share(
            round(recall_at_precision(scores, right, n_known, precision) * n_known), n_known
        )
        if n_known
        else share(0, 0)
        for precision in PRECISIONS
    }


def _recalls_at_false_links(known: Sequence[Judged], unknown: Sequence[Judged]) -> Figures:
    if not known or not unknown:
        return {f"{rate:g}": share(0, 0) for rate in FALSE_LINK_RATES}
    scores, right = [one.score for one in known], [one.best_is_right for one in known]
    others = [one.score for one in unknown]
    return {
        f"{rate:g}": share(round(recall_at_false_links(scores, right, others, rate) * len(known)), len(known))
        for rate in FALSE_LINK_RATES
    }


def _segment_figures(judged: Sequence[Judged]) -> Figures:
    """Of the links made.

    Precision and recall are of the seconds of all clips: a clip that is not linked lowers the recall, a
    wrong link the precision. The medians are of the clips with a right program linked; a start error
    exists only where a segment linked and a true one share a moment of the clip and the asset.
    """
    agreement = segment_agreement(
        [match for one in judged for match in one.linked_matches],
        [match for one in judged for match in one.true_matches],
    )
    placed = [one for one in judged if one.has_right_link]
    errors = [one.start_error for one in placed if one.start_error is not None]
    is_defined = any(one.truth for one in judged)
    return {
        "precision": agreement.precision if is_defined else None,
        "recall": agreement.recall if is_defined else None,
        "clips": len(placed),
        "median_iou": _median([one.iou for one in placed]),
        "with_start_error": len(errors),
        "median_start_error_seconds": _median(errors),
    }


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _montage_figures(known: Sequence[Judged]) -> Figures:
    montages = [one for one in known if one.clip.level == "montage"]
    n_programs = sum(len(one.programs) for one in montages)
    return {
        "clips": len(montages),
        "programs_linked": share(sum(len(one.programs & set(one.linked)) for one in montages), n_programs),
        "programs_among_candidates": share(
            sum(len(one.programs & set(one.program_scores)) for one in montages), n_programs
        ),
    }


def _calibration(judged: Sequence[Judged]) -> Figures:
    guessed = [one for one in judged if one.best is not None]
    confidences = [float(one.candidates[0]["confidence"]) for one in guessed]
    right = [one.best_is_right for one in guessed]
    bins = [
        {
            "lower": part.lower,
            "upper": part.upper,
            "mean_confidence": part.mean_confidence,
            **share(round(part.share_right * part.count), part.count),
        }
        for part in reliability_bins(confidences, right)
    ]
    error = expected_calibration_error(confidences, right) if guessed else None
    return {"clips": len(guessed), "expected_calibration_error": error, "bins": bins}


def _passes(judged: Sequence[Judged]) -> Figures | None:
    passes = [int(one.answer["passes"]) for one in judged if one.answer.get("passes") is not None]
    return {"second": share(sum(n >= 2 for n in passes), len(passes))} if passes else None


def _seconds(judged: Sequence[Judged]) -> Figures | None:
    seconds = [float(one.answer["seconds"]) for one in judged if one.answer.get("seconds") is not None]
    if not seconds:
        return None
    return {"clips": len(seconds), "mean": float(np.mean(seconds)), "median": _median(seconds)}
