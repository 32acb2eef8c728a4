"""A run's report: one HTML file with tables, plots and the worst answers as pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval import plots
from eval.failures import Failure, worst_failures
from eval.figures import DECISIONS, FALSE_LINK_RATES, PRECISIONS
from eval.ground_truth import read_truth
from eval.judging import Judged, judge
from eval.metrics import PrecisionRecall, precision_recall, segment_precision_recall
from eval.report_page import image, is_share, share_cell
from eval.run_files import ANSWERS, CLIPS, FIGURES, REPORT, TRUTH, load_answers, load_clips
from matcher.errors import InputError
from matcher.page import figure, number, page, percent, section, table, text
from matcher.page import plots as side_by_side

PictureOf = Callable[[str], bytes | None]
"""Gives a clip's picture as a PNG or JPEG file, or None where there is none."""

Figures = Mapping[str, Any]
_Row = tuple[str, Callable[[Figures], str]]

# What is drawn over the number of distractors, and what is compared without a part of the system.
_LINES: Mapping[str, Callable[[Figures], float | None]] = {
    "top-1": lambda group: _value(group["top1"]["share"]),
    "micro-AP": lambda group: _value(group["micro_ap"]),
    "recall at 1 % false links": lambda group: _value(group["recall_at_false_links"]["0.01"]["share"]),
    "unknown clips linked": lambda group: _value(group["unknown_linked"]["share"]),
}


def write_report(
    run_folder: Path,
    *,
    picture_of: PictureOf | None = None,
    title: str = "Link benchmark",
    n_failures: int = 24,
) -> Path:
    """Write ``report.html`` into a run's folder.

    Besides ``groups``, the figures may hold ``distractors`` (rows of ``n`` and a run's figures),
    ``ablation`` (rows of ``without`` and a run's figures) and ``alignment`` (rows of any columns, all alike);
    what else they hold is shown as the run's description.

    Args:
        run_folder: Holds ``figures.json``, ``clips.parquet``, ``truth.csv`` and ``answers.parquet``.
        picture_of: Called with the clip ids of the worst answers; without it they are listed in words.
        title: Of the page.
        n_failures: The most of these.

    Returns:
        The file written.

    Raises:
        InputError: A file is missing or broken, or they do not fit together.
    """
    figures = _read_figures(run_folder / FIGURES)
    clips, answers = load_clips(run_folder / CLIPS), load_answers(run_folder / ANSWERS)
    truth = read_truth(run_folder / TRUTH)
    try:
        judged = judge(clips, truth, answers)
    except ValueError as error:
        raise InputError(f"the files in {run_folder} are not of one run: {error}") from error
    everything = figures["groups"]["all"]
    parts = [
        _summary(figures["groups"]),
        _edits(everything),
        _quality(judged, everything),
        _places(judged),
        _distractors(figures.get("distractors", [])),
        _ablation(figures.get("ablation", [])),
        _alignment(figures.get("alignment", [])),
        _failures(worst_failures(judged, n_failures), picture_of),
        _description(figures),
    ]
    path = run_folder / REPORT
    part = path.with_name(path.name + ".part")
    part.write_text(page(title, parts), encoding="utf-8")
    part.replace(path)
    return path


def _read_figures(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the figures {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict) or "all" not in value.get("groups", {}):
        raise InputError(f"{path} holds no figures of a run: it has no groups with 'all' among them")
    return value


def _value(value: Any) -> float | None:
    return None if value is None else float(value)


def _at(*names: str) -> Callable[[Figures], str]:
    """Shows the figure that stands under these names, a share or a plain value."""

    def show(group: Figures) -> str:
        value: Any = group
        for name in names:
            value = None if value is None else value.get(name)
        return share_cell(value) if is_share(value) else number(value)

    return show


_SUMMARY: Sequence[_Row] = (
    ("Clips", _at("counts", "clips")),
    ("… known, unknown, failed",
     lambda g: f"{g['counts']['known']}, {g['counts']['unknown']}, {g['counts']['failed']}"),
    ("Top-1", _at("top1")),
    ("Micro-AP of clip and program", _at("micro_ap")),
    ("Segment AP", _at("segment_ap")),
    *((f"Recall at precision {100 * p:g} %", _at("recall_at_precision", f"{p:g}")) for p in PRECISIONS),
    *((f"Recall at {100 * r:g} % false links", _at("recall_at_false_links", f"{r:g}"))
      for r in FALSE_LINK_RATES),
    ("Unknown clips linked", _at("unknown_linked")),
    ("Known clips linked to a wrong program", _at("known_linked_wrong")),
    ("Links that are right", _at("links_right")),
    *((f"Known clips: {name}", _at("known_decisions", name)) for name in DECISIONS),
    ("Segments: precision in seconds", _at("segments", "precision")),
    ("Segments: recall in seconds", _at("segments", "recall")),
    ("Segments: median IoU", _at("segments", "median_iou")),
    ("Segments: median start error, s", _at("segments", "median_start_error_seconds")),
    ("Montages: programs linked", _at("montages", "programs_linked")),
    ("Montages: programs among candidates", _at("montages", "programs_among_candidates")),
    ("Expected calibration error", _at("calibration", "expected_calibration_error")),
    ("Clips looked at twice", _at("passes", "second")),
    ("Seconds a clip, mean", _at("seconds", "mean")),
)  # fmt: skip


def _summary(groups: Mapping[str, Figures]) -> str:
    rows = [(text(name), *(show(group) for group in groups.values())) for name, show in _SUMMARY]
    return section(
        "Summary",
        table(["", *groups], rows),
        note="Below a share: its 95 % interval in per cent and its count. A dash: not defined for these.",
    )


def _edits(group: Figures) -> str:
    shown = []
    if group["top1_by_level"]:
        shown.append(figure("By level", plots.svg(plots.share_bars(group["top1_by_level"]))))
    alone, within = group["top1_by_single_kind"], group["top1_by_kind"]
    if alone:
        caption = "By kind of edit, applied alone; diamonds: in any clip that has it"
        shown.append(figure(caption, plots.svg(plots.share_bars(alone, within))))
    elif within:
        shown.append(figure("By kind of edit, in any clip that has it", plots.svg(plots.share_bars(within))))
    note = "Share of known clips whose best candidate is right, with 95 % intervals; in brackets, the clips."
    return section("Edits", side_by_side(*shown), note=note)


def _quality(judged: Sequence[Judged], group: Figures) -> str:
    curves = _curves(judged)
    bins = group["calibration"]["bins"]
    scores = _scores(judged)
    return section(
        "Sureness",
        side_by_side(
            figure("Precision and recall", plots.svg(plots.precision_recall_plot(curves))) if curves else "",
            figure("Reliability of the best candidate's confidence", plots.svg(plots.reliability_plot(bins)))
            if bins
            else "",
            figure("Scores of known and unknown clips", plots.svg(plots.score_histogram(scores)))
            if scores
            else "",
        ),
    )


def _curves(judged: Sequence[Judged]) -> dict[str, PrecisionRecall]:
    pairs = [(score, p in one.programs) for one in judged for p, score in one.program_scores.items()]
    n_positives = sum(len(one.programs) for one in judged)
    if not n_positives:
        return {}
    true = [match for one in judged for match in one.true_matches]
    predicted = [match for one in judged for match in one.all_matches]
    return {
        "clip and program": precision_recall([p[0] for p in pairs], [p[1] for p in pairs], n_positives),
        "seconds of segments": segment_precision_recall(predicted, true),
    }


def _scores(judged: Sequence[Judged]) -> dict[str, list[float]]:
    guessed = [one for one in judged if one.best is not None]
    named = {
        "known, right": [one.score for one in guessed if one.best_is_right],
        "unknown": [one.score for one in guessed if not one.clip.is_known],
        "known, wrong": [one.score for one in guessed if one.clip.is_known and not one.best_is_right],
    }
    return {name: values for name, values in named.items() if values}


def _places(judged: Sequence[Judged]) -> str:
    placed = [one for one in judged if one.has_right_link]
    errors = [one.start_error for one in placed if one.start_error is not None]
    ious = [one.iou for one in placed]
    return section(
        "Where in the program",
        side_by_side(
            figure("Start error", plots.svg(plots.start_error_histogram(errors))) if errors else "",
            figure("Overlap of segments", plots.svg(plots.iou_histogram(ious))) if ious else "",
        ),
        note="Of clips with a right program linked.",
    )


def _all_of(row: Figures) -> Figures:
    """The figures of all clips in a row; a run's figures stand in it, or under "figures"."""
    groups: Mapping[str, Figures] = row.get("figures", row)["groups"]
    return groups["all"]


def _distractors(rows: Sequence[Figures]) -> str:
    if not rows:
        return ""
    rows = sorted(rows, key=lambda row: int(row["n"]))
    lines = {name: [value(_all_of(row)) for row in rows] for name, value in _LINES.items()}
    drawn = plots.svg(plots.distractor_plot([int(row["n"]) for row in rows], lines))
    cells = [(f"{int(row['n']):,}", *_line_cells(_all_of(row))) for row in rows]
    return section(
        "Distractors",
        side_by_side(figure("As the index grows", drawn)),
        table(["frames added", *_LINES], cells),
        note="The same clips, with frames of other programs added to the index.",
    )


def _ablation(rows: Sequence[Figures]) -> str:
    cells = [(text(row["without"]), *_line_cells(_all_of(row))) for row in rows]
    return section("Without a part", table(["without", *_LINES], cells), note="The same clips each time.")


def _line_cells(group: Figures) -> list[str]:
    return [percent(value(group)) for value in _LINES.values()]


def _alignment(rows: Sequence[Figures]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[number(row.get(name)) for name in columns] for row in rows]
    return section("Alignment", table([name.replace("_", " ") for name in columns], cells))


def _failures(failures: Sequence[Failure], picture_of: PictureOf | None) -> str:
    shown = [_failure(one, picture_of(one.judged.clip.clip_id) if picture_of else None) for one in failures]
    return section("Worst answers", side_by_side(*shown), note="Each kind of failure in its turn.")


def _failure(failure: Failure, picture: bytes | None) -> str:
    one = failure.judged
    right = ", ".join(sorted(one.programs)) or "none in the catalogue"
    best = "no candidate" if one.best is None else f"{one.best}, {one.candidates[0]['confidence']:.3f}"
    caption = (
        f'<span class="bad">{text(failure.reason)}</span><br>{text(one.clip.clip_id)}'
        f' <span class="soft">{text(", ".join(one.clip.kinds) or one.clip.level)}</span><br>'
        f"{text(one.decision)}; best: {text(best)}; right: {text(right)}"
    )
    error = one.answer.get("error")
    if error is not None:
        caption += f"<br>{text(error.get('message', error))}"
    return figure(caption, "" if picture is None else image(picture, f"{one.clip.clip_id}: {failure.reason}"))


def _description(figures: Figures) -> str:
    own = {"groups", "distractors", "ablation", "alignment"}
    rows = [
        (text(name), text(value))
        for key in figures
        if key not in own
        for name, value in _flat(key, figures[key])
    ]
    return section("The run", table(["", ""], rows))


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Nested objects as rows with dotted names."""
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [row for key, part in value.items() for row in _flat(f"{name}.{key}", part)]
