"""Aligners compared on simulated clips: how well and how fast.

``python -m eval.alignment`` prints the table.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any

from eval.aligners import ALIGNERS, Aligned, Aligner
from eval.trajectories import Case, simulated_cases

#: A segment is found when its stretches are covered so far.
FOUND_IOU = 0.5
#: A segment that overlaps no true one by as much is made up.
FALSE_IOU = 0.1
SEEDS = range(12)


@dataclass(frozen=True)
class Row:
    """How one aligner did.

    Attributes:
        aligner: Its name.
        iou: Median over the true segments of the best :func:`overlap`, 0 for one that is missed.
        start_error_seconds: Median over the found ones of how far the asset's start is off; infinite
            when none is found.
        recall: Share of the true segments that are found.
        false_segments: Made-up segments a clip.
        milliseconds: Mean a clip.
    """

    aligner: str
    iou: float
    start_error_seconds: float
    recall: float
    false_segments: float
    milliseconds: float


def interval_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two intervals; 0 where both are empty."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def overlap(said: Aligned, true: Aligned) -> float:
    """The lesser of the IoU in the clip and in the asset; 0 in another asset or the other direction."""
    if said.asset != true.asset or said.is_reversed != true.is_reversed:
        return 0.0
    in_clip = interval_iou(
        (said.clip_start_seconds, said.clip_end_seconds), (true.clip_start_seconds, true.clip_end_seconds)
    )
    in_asset = interval_iou(
        (said.asset_start_seconds, said.asset_end_seconds), (true.asset_start_seconds, true.asset_end_seconds)
    )
    return min(in_clip, in_asset)


def compare(
    cases: Sequence[Case],
    aligners: Mapping[str, Aligner] = ALIGNERS,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Run every aligner on every case.

    Raises:
        ValueError: There are no cases.
    """
    if not cases:
        raise ValueError("compare wants at least one case")
    return [_row(name, aligner, cases, clock) for name, aligner in aligners.items()]


def _row(name: str, aligner: Aligner, cases: Sequence[Case], clock: Callable[[], float]) -> Row:
    ious: list[float] = []
    errors: list[float] = []
    false = 0
    seconds = 0.0
    for case in cases:
        started = clock()
        said = aligner(case.matrix)
        seconds += clock() - started
        for true in case.truth:
            best = max(said, key=lambda one: overlap(one, true), default=None)
            ious.append(overlap(best, true) if best else 0.0)
            if best and ious[-1] >= FOUND_IOU:
                errors.append(abs(best.asset_start_seconds - true.asset_start_seconds))
        false += sum(_is_made_up(one, case.truth) for one in said)
    return Row(
        aligner=name,
        iou=median(ious) if ious else 0.0,
        start_error_seconds=median(errors) if errors else float("inf"),
        recall=len(errors) / len(ious) if ious else 0.0,
        false_segments=false / len(cases),
        milliseconds=1000.0 * seconds / len(cases),
    )


def _is_made_up(said: Aligned, truth: Sequence[Aligned]) -> bool:
    return all(overlap(said, true) < FALSE_IOU for true in truth)


def by_name(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of each kind, in the order in which the kinds come."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.name, []).append(case)
    return groups


def table_rows(cases: Sequence[Case], aligners: Mapping[str, Aligner] = ALIGNERS) -> list[dict[str, Any]]:
    """The rows of all cases together, then of each kind, as a run's report shows them."""
    return [
        {
            "clips": name,
            "aligner": row.aligner,
            "median IoU": row.iou,
            # JSON knows no infinity.
            "start error, s": row.start_error_seconds if isfinite(row.start_error_seconds) else None,
            "recall": row.recall,
            "made up a clip": row.false_segments,
            "ms a clip": row.milliseconds,
        }
        for name, own in {"all": list(cases), **by_name(cases)}.items()
        for row in compare(own, aligners)
    ]


def table(cases: Sequence[Case], aligners: Mapping[str, Aligner] = ALIGNERS) -> str:
    """Rows of all cases together, then of each kind, as Markdown."""
    lines = [
        "| clips | aligner | median IoU | start error s | recall | false a clip | ms a clip |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, own in {"all": list(cases), **by_name(cases)}.items():
        lines += [
            f"| {name} | {r.aligner} | {r.iou:.3f} | {r.start_error_seconds:.2f} | {r.recall:.2f} "
            f"| {r.false_segments:.2f} | {r.milliseconds:.1f} |"
            for r in compare(own, aligners)
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(simulated_cases(SEEDS)) + "\n")
