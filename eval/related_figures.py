"""Figures of a run of :mod:`eval.related_run`, from one row a clip.

A clip has a program that it is about, or is a stranger's. Clips that show what the store has too, or the same
shot going on, are counted apart: what is said of the others is never said of them.

Shape letters: ``n`` clips, ``f`` numbers of evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from eval.figures import share, share_of
from eval.related_material import GROUPS, KINDS
from eval.related_titles import Says
from matcher.related import EVIDENCE, SHIPPED, RelatedWeights
from matcher.surroundings import MOST_RELATED
from matcher.training.category_figures import calibration_error

#: File of the rows of one seed.
ROWS = "rows.json"
#: The way that is not a way of :data:`eval.related_run.WAYS`: the pipeline's own candidates.
VOTES = "frame votes"
ALL = "all"
N_BINS = 10

Row = Mapping[str, Any]
Figures = dict[str, Any]


def related_figures(rows: Sequence[Row]) -> Figures:
    """All figures of a run.

    Args:
        rows: Of clips, as :func:`eval.related_run.run_related` notes them; at least one.

    Returns:
        Objects that JSON takes; a share of nothing is None.
    """
    about = [row for row in rows if not row["is_stranger"] and row["shows"] == "new"]
    strangers = [row for row in rows if row["is_stranger"]]
    models = list(rows[0]["asked"])
    ways = list(rows[0]["asked"][models[0]])
    return {
        "counts": {
            "seeds": len({row["seed"] for row in rows}),
            "programs": len({_program(row) for row in about}),
            "about": len(about),
            "same_shot": sum(row["shows"] == "same shot" for row in rows),
            "copies": sum(row["shows"] == "copy" for row in rows),
            "strangers": len(strangers),
        },
        "decisions": _decisions(rows),
        "wrong_links": [
            _wrong_link(row) for row in rows if row["decision"] == "linked" and row["shows"] != "copy"
        ],
        "recall": [
            _recall(about, model, way, group, kind)
            for model, way in _every_way(models, ways)
            for group in (*GROUPS, ALL)
            for kind in (*KINDS, ALL)
        ],
        "by_title": [
            _by_title(about, model, way, says)
            for model, way in _every_way(models, ways)
            for says in get_args(Says)
        ],
        "at_the_bar": [
            _at_the_bar(about, strangers, model, way, group)
            for model in models for way in ways for group in (*GROUPS, ALL)
        ],
        "false_by_title": [
            {"says": says, **share_of([row for row in strangers if row["says"] == says], _is_related)}
            for says in get_args(Says)
        ],
        "calibration": [_calibration([*about, *strangers], model, way) for model in models for way in ways],
        "refit": refit([*about, *strangers], models[0], ways[-1]),
    }  # fmt: skip


def _every_way(models: Sequence[str], ways: Sequence[str]) -> list[tuple[str, str]]:
    return [("", VOTES), *((model, way) for model in models for way in ways)]


def _program(row: Row) -> tuple[str, int, str]:
    """A film is the same one under every seed, a drama is not."""
    return row["group"], row["seed"] if row["group"] == "dramas" else 0, row["program_id"]


def _is_related(row: Row) -> bool:
    return bool(row["related"])


def best_of(row: Row, model: str, way: str) -> tuple[str, float] | None:
    """The program that one way puts first, and how sure it is; None where it has no candidate."""
    found = row["votes"] if way == VOTES else row["asked"][model][way]["candidates"]
    return (found[0][0], found[0][1]) if found else None


def named_of(row: Row, model: str, way: str, *, most: int = MOST_RELATED) -> list[str]:
    """The programs that reach the bar, as an answer would name them."""
    found = row["asked"][model][way]
    return [name for name, confidence in found["candidates"][:most] if confidence >= found["bar"]]


def is_first(row: Row, model: str, way: str) -> bool:
    """Whether one way puts the clip's program first."""
    best = best_of(row, model, way)
    return best is not None and not row["is_stranger"] and best[0] == row["program_id"]


# --- Copied or not ---


def _decisions(rows: Sequence[Row]) -> list[Figures]:
    """What was decided of clips that show nothing of the store, of copies, and of strangers."""
    out = []
    for name in (*KINDS, "stranger", "same shot", "copy"):
        for group in GROUPS:
            of = [row for row in rows if row["group"] == group and _sort(row) == name]
            linked = [row for row in of if row["decision"] == "linked"]
            out.append(
                {
                    "clips": name, "group": group, "linked": share(len(linked), len(of)),
                    "linked_to_own": sum(row["program_id"] in dict(row["links"]) for row in linked),
                    "review": share_of(of, lambda row: row["decision"] == "review"),
                    "related": share_of(of, _is_related),
                }
            )  # fmt: skip
    return out


def _sort(row: Row) -> str:
    """How a clip is cut that shows nothing of the store but is about a program of it; else what it is."""
    if row["is_stranger"]:
        return "stranger"
    return str(row["kind"] if row["shows"] == "new" else row["shows"])


def _wrong_link(row: Row) -> Figures:
    names = ("seed", "clip_id", "program_id", "kind", "shows", "edits", "same_shot_seconds", "links")
    return {name: row[name] for name in names}


# --- Found or not ---


def _recall(about: Sequence[Row], model: str, way: str, group: str, kind: str) -> Figures:
    of = [row for row in about if group in (row["group"], ALL) and kind in (row["kind"], ALL)]
    seeds = sorted({row["seed"] for row in of})
    by_seed = [
        share_of([row for row in of if row["seed"] == seed], lambda row: is_first(row, model, way))
        for seed in seeds
    ]
    return {
        "model": model, "way": way, "group": group, "kind": kind,
        **share_of(of, lambda row: is_first(row, model, way)), "by_seed": [one["share"] for one in by_seed],
    }  # fmt: skip


def _by_title(about: Sequence[Row], model: str, way: str, says: str) -> Figures:
    of = [row for row in about if row["says"] == says]
    return {"model": model, "way": way, "says": says, **share_of(of, lambda row: is_first(row, model, way))}


def _at_the_bar(about: Sequence[Row], strangers: Sequence[Row], model: str, way: str, group: str) -> Figures:
    of = [row for row in [*about, *strangers] if group in (row["group"], ALL)]
    named = [(name, row) for row in of for name in named_of(row, model, way)]
    right = sum(name == row["program_id"] and not row["is_stranger"] for name, row in named)
    known = [row for row in of if not row["is_stranger"]]
    return {
        "model": model, "way": way, "group": group, "precision": share(right, len(named)),
        "recall": share(right, len(known)),
        "strangers_named": share_of(
            [row for row in of if row["is_stranger"]], lambda row: bool(named_of(row, model, way))
        ),
    }  # fmt: skip


# --- As sure as it says, or not ---


def equal_bins(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_], n_bins: int = N_BINS
) -> list[Figures]:
    """Answers by confidence, as many in each bin.

    Args:
        confidence: (n,) in [0, 1].
        is_right: (n,).
        n_bins: At most so many, and no more than answers.
    """
    if len(confidence) == 0:
        return []
    order = np.argsort(confidence, kind="stable")
    return [
        {"mean_confidence": float(confidence[own].mean()), **share(int(is_right[own].sum()), len(own))}
        for own in np.array_split(order, min(n_bins, len(order)))
    ]


def _best(rows: Sequence[Row], model: str, way: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n,) confidence of each clip's best candidate, and whether it is right; clips without one left out."""
    found = [(best[1], is_first(row, model, way)) for row in rows if (best := best_of(row, model, way))]
    return np.array([one[0] for one in found], np.float64), np.array([one[1] for one in found], np.bool_)


def _calibration(rows: Sequence[Row], model: str, way: str) -> Figures:
    confidence, is_right = _best(rows, model, way)
    error = calibration_error(confidence, is_right, n_bins=N_BINS) if len(confidence) else None
    return {
        "model": model, "way": way, "clips": len(confidence), "calibration_error": error,
        "bins": equal_bins(confidence, is_right),
    }  # fmt: skip


# --- Other weights ---


def refit(rows: Sequence[Row], model: str, way: str) -> list[Figures]:
    """The shipped weights beside ones fitted on half of the programs, both on the other half.

    What the titles here say is drawn in a mix that is set (:data:`eval.related_titles.MIX`): fitted weights
    know that mix, and shipped ones do not.

    Args:
        rows: Of clips that are no copies.
        model: Whose embeddings.
        way: In which they were asked.

    Returns:
        A row for each half and each set of weights; none where a half has one class alone.
    """
    names = sorted({(row["group"], row["program_id"]) for row in rows})
    side = {name: place % 2 for place, name in enumerate(names)}
    halves = [[row for row in rows if side[row["group"], row["program_id"]] == half] for half in (0, 1)]
    out = []
    for half, (learned, held) in enumerate((halves, halves[::-1])):
        fitted = _fitted(learned, model, way)
        if fitted is None or not held:
            return []
        for name, weights in (("shipped", SHIPPED), ("fitted", fitted)):
            out.append({"half": half, "weights": name, **_weighed(held, model, way, weights)})
    return out


def _evidence(rows: Iterable[Row], model: str, way: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(m, f) of all candidates of all clips, and (m,) whether each is right."""
    evidence, right = [np.zeros((0, len(EVIDENCE)))], [np.zeros(0, np.bool_)]
    for row in rows:
        found = row["asked"][model][way]
        evidence.append(np.array(found["evidence"], np.float64).reshape(-1, len(EVIDENCE)))
        right.append(np.array([name == row["program_id"] for name, _ in found["candidates"]], np.bool_))
    return np.concatenate(evidence), np.concatenate(right)


def _fitted(rows: Sequence[Row], model: str, way: str) -> RelatedWeights | None:
    from sklearn.linear_model import LogisticRegression

    evidence, right = _evidence(rows, model, way)
    if right.all() or not right.any():
        return None
    found = LogisticRegression(C=10.0, max_iter=1000).fit(evidence, right)
    return RelatedWeights(float(found.intercept_[0]), tuple(float(weight) for weight in found.coef_[0]))


def _weighed(rows: Sequence[Row], model: str, way: str, weights: RelatedWeights) -> Figures:
    """How other weights do on the same evidence."""
    best, is_right, named, n_right = [], [], 0, 0
    for row in rows:
        evidence, right = _evidence([row], model, way)
        if not len(right):
            continue
        confidence = weights.confidence(evidence)
        first = int(confidence.argmax())
        best.append(float(confidence[first]))
        is_right.append(bool(right[first]))
        named += int((confidence >= weights.bar).sum())
        n_right += int((right & (confidence >= weights.bar)).sum())
    known = sum(not row["is_stranger"] for row in rows)
    error = calibration_error(np.array(best), np.array(is_right), n_bins=N_BINS) if best else None
    return {
        "bias": weights.bias, "of": dict(zip(EVIDENCE, weights.weights, strict=True)), "clips": len(rows),
        "recall_at_1": share(sum(is_right), known), "precision": share(n_right, named),
        "recall": share(n_right, known),
        "calibration_error": error,
    }  # fmt: skip
