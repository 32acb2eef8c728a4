"""The report's plots: plain data in, one SVG text out that takes its colours from the page around it.

The only module that imports matplotlib. Figures are made without pyplot, so nothing is kept between them
and no display is asked for. Each is about as wide as a phone, so that its letters stay readable there.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from eval.metrics import PrecisionRecall

Share = Mapping[str, Any]
"""As :func:`eval.figures.share` gives it."""

_WIDTH, _HEIGHT = 4.6, 3.2
_BAR_HEIGHT = 0.24
# Colours that stand for those of the page; matplotlib writes them as they are and they are exchanged in
# the SVG. They are the light page's own, so that a picture drawn elsewhere looks like it.
_INK, _RULE = "#1c1e22", "#d8d5cd"
# Told apart by the colour-blind too (Okabe and Ito), and visible on light and dark paper.
BLUE, ORANGE, GREEN, PINK = "#2f7fc1", "#d98a00", "#00936c", "#c0629b"
_COLOURS = (BLUE, ORANGE, GREEN, PINK)
_PAGE_COLOURS = {_INK: "currentColor", _RULE: "var(--rule)"}

_SETTINGS: Any = {  # its keys' type differs between releases of matplotlib
    "font.size": 9,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "plots",
    "text.color": _INK,
    "text.parse_math": False,  # names are data; a $ in one is a $
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

# Bounds of the log-odds drawn: sureness of one in 160,000 either way; what lies beyond is put at the edge.
_ODDS_EDGE = 12.0
_START_ERROR_EDGE = 3.0


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Runs with this module's settings and leaves those of the process as they were."""

    @functools.wraps(draw)
    def inside(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return inside


@_styled
def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element to stand in a page.

    Args:
        figure: Any of this module's.

    Returns:
        The element alone: without the XML head and without rules that would hold for the whole page.
        Text and lines have the page's colour, and thin lines that of its variable ``--rule``.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    # Every plot would have the same ids of groups; nothing refers to those, unlike the ids of shapes.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for colour, name in _PAGE_COLOURS.items():
        text = text.replace(colour, name)
    return text.strip()


@_styled
def png(figure: Figure, *, dots_per_inch: int = 120) -> bytes:
    """The figure as a PNG file on white, for places that show no SVG.

    Args:
        figure: Any of this module's.
        dots_per_inch: Its size.

    Returns:
        The file's bytes.
    """
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


@_styled
def share_bars(shares: Mapping[str, Share], other: Mapping[str, Share] | None = None) -> Figure:
    """Horizontal bars with 95 % whiskers, lowest share first.

    Args:
        shares: By name; those of nothing are left out.
        other: Shares of the same names, drawn as small diamonds.

    Returns:
        The figure, as high as there are bars.
    """
    rows = sorted(((name, s) for name, s in shares.items() if s["of"]), key=lambda row: -row[1]["share"])
    figure, axes = _figure(height=max(1.2, 0.7 + _BAR_HEIGHT * len(rows)))
    at = np.arange(len(rows))
    values = np.asarray([row["share"] for _, row in rows], dtype=np.float64)
    whiskers = [[r["share"] - r["low"] for _, r in rows], [r["high"] - r["share"] for _, r in rows]]
    axes.barh(at, values, color=BLUE, height=0.66, alpha=0.75)
    if rows:
        axes.errorbar(values, at, xerr=np.maximum(whiskers, 0), fmt="none", ecolor=_INK, elinewidth=0.9)
    marks = [(n, other[name]["share"]) for n, (name, _) in enumerate(rows) if other and name in other]
    marks = [(n, value) for n, value in marks if value is not None]
    if marks:
        axes.plot([value for _, value in marks], [n for n, _ in marks], "D", color=ORANGE, markersize=4)
    axes.set_yticks(at, [f"{name} ({row['of']})" for name, row in rows])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(-0.6, max(1, len(rows)) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    return figure


@_styled
def precision_recall_plot(curves: Mapping[str, PrecisionRecall]) -> Figure:
    """Precision over recall, one line for each name; a dot where a curve is one point.

    Args:
        curves: By name; at most four.

    Returns:
        The figure.
    """
    figure, axes = _figure()
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        if not curve.recall.size:
            continue
        # From recall 0 at the first point's precision on: nothing is measured before it.
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([curve.precision[:1], curve.precision])
        axes.plot(recall, precision, color=colour, label=name, linewidth=1.6)
        if curve.recall.size == 1:
            axes.plot(curve.recall, curve.precision, "o", color=colour, markersize=4)
    _unit_axes(axes, "recall", "precision")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left")
    return figure


@_styled
def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """What share of guesses is right where this much confidence is stated.

    Args:
        bins: As in the figures' ``calibration``: shares with ``mean_confidence``.

    Returns:
        The figure; a dot's size tells how many guesses it stands for.
    """
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
    at = [part["mean_confidence"] for part in bins]
    values = [part["share"] for part in bins]
    if bins:
        spread = [
            [part["share"] - part["low"] for part in bins],
            [part["high"] - part["share"] for part in bins],
        ]
        axes.errorbar(at, values, yerr=np.maximum(spread, 0), fmt="none", ecolor=BLUE, elinewidth=1)
        most = max(part["of"] for part in bins)
        sizes = [14 + 90 * part["of"] / most for part in bins]
        axes.scatter(at, values, s=sizes, color=BLUE, zorder=3, alpha=0.85)
    _unit_axes(axes, "confidence stated", "share right")
    return figure


@_styled
def score_histogram(scores: Mapping[str, Sequence[float]]) -> Figure:
    """How the best candidates' scores are spread, one outline for each name.

    Args:
        scores: Log-odds by name; at most four names. Infinite ones are put at the edge.

    Returns:
        The figure; heights are shares of the name's own clips, on a logarithmic axis.
    """
    figure, axes = _figure()
    edges = np.linspace(-_ODDS_EDGE, _ODDS_EDGE, 37).tolist()
    for colour, (name, values) in zip(_COLOURS, scores.items(), strict=False):
        if values:
            shown = np.clip(values, -_ODDS_EDGE, _ODDS_EDGE)
            weights = np.full(len(values), 1 / len(values))
            axes.hist(shown, edges, weights=weights, histtype="stepfilled", color=colour, alpha=0.18)
            label = f"{name} ({len(values)})"
            axes.hist(
                shown, edges, weights=weights, histtype="step", color=colour, label=label, linewidth=1.5
            )
    axes.set_yscale("log")
    axes.set_ylim(top=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel("log-odds of the best candidate")
    axes.set_ylabel("share of clips")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
    return figure


@_styled
def start_error_histogram(errors: Sequence[float]) -> Figure:
    """How far off segments begin in the asset.

    Args:
        errors: Seconds, not negative; those of more than 3 s stand in the last bar.

    Returns:
        The figure.
    """
    figure, axes = _figure()
    edges = np.linspace(0, _START_ERROR_EDGE + 0.1, 32).tolist()
    axes.hist(np.clip(errors, 0, _START_ERROR_EDGE + 0.05), edges, color=BLUE, alpha=0.8)
    axes.set_xticks([0, 1, 2, _START_ERROR_EDGE], ["0", "1", "2", "3 and more"])
    axes.set_xlabel("start error, seconds")
    axes.set_ylabel("clips")
    return figure


@_styled
def iou_histogram(values: Sequence[float]) -> Figure:
    """How far linked segments and true ones cover each other.

    Args:
        values: In [0, 1].

    Returns:
        The figure.
    """
    figure, axes = _figure()
    axes.hist(values, np.linspace(0, 1, 26).tolist(), color=BLUE, alpha=0.8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("intersection over union")
    axes.set_ylabel("clips")
    return figure


@_styled
def distractor_plot(sizes: Sequence[int], lines: Mapping[str, Sequence[float | None]]) -> Figure:
    """How figures change as frames of other programs are added to the index.

    Args:
        sizes: Frames added, ascending; 0 is allowed.
        lines: Shares by name, one for each size; at most four names.

    Returns:
        The figure; sizes stand on a logarithmic axis that begins with 0.
    """
    figure, axes = _figure()
    for colour, (name, values) in zip(_COLOURS, lines.items(), strict=False):
        kept = [(n, value) for n, value in zip(sizes, values, strict=True) if value is not None]
        axes.plot([n for n, _ in kept], [v for _, v in kept], "o-", color=colour, label=name, markersize=4)
    smallest = min((n for n in sizes if n > 0), default=1)
    # Linear from 0 up to the smallest size, so that 0 has a place at all.
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    axes.set_xticks(list(sizes), [_short(n) for n in sizes])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("frames of other programs in the index")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@_styled
def cost_plot(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], x: str) -> Figure:
    """How costs grow with a size: one panel below the other, both axes logarithmic.

    Args:
        panels: What is measured, in words, to its lines: (size, cost) points by name, at most eight names
            in all, which look the same in each panel.
        x: What the sizes are of.

    Returns:
        The figure.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure = Figure(figsize=(_WIDTH, _HEIGHT * 0.8 * len(panels)))
    every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    sizes = sorted({size for lines in panels.values() for points in lines.values() for size, _ in points})
    for axes, (title, lines) in zip(every, panels.items(), strict=True):
        for name, points in lines.items():
            more, place = divmod(names.index(name), len(_COLOURS))
            style = "s--" if more else "o-"
            axes.plot(
                *zip(*sorted(points), strict=True), style, color=_COLOURS[place], label=name, markersize=4
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xticks(sizes, [_short(int(size)) for size in sizes])
        axes.minorticks_off()
        axes.set_ylabel(title)
    every[-1].set_xlabel(x)
    handles = {label: handle for axes in every for handle, label in zip(*axes.get_legend_handles_labels())}  # noqa: B905
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=2)
    return figure


@_styled
def share_cost_plot(
    lines: Mapping[str, Sequence[tuple[float, float]]], *, full: float, cheaper_from: float | None
) -> Figure:
    """What a re-link costs by the share that changed, beside one of everything; both axes logarithmic.

    Args:
        lines: (share, processor seconds) points by name; at most three names.
        full: Processor seconds of everything, whatever changed.
        cheaper_from: The share from which that is cheaper; None where it is not known.

    Returns:
        The figure.
    """
    figure, axes = _figure()
    for colour, (name, points) in zip(_COLOURS[1:], lines.items(), strict=False):
        at, costs = zip(*points, strict=True)
        axes.plot(at, np.maximum(costs, 0.01), "o-", color=colour, label=name, markersize=4)
    shares = sorted({share for points in lines.values() for share, _ in points})
    axes.axhline(full, color=BLUE, linewidth=1.6, label="full")
    if cheaper_from is not None:
        axes.axvline(cheaper_from, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            f"full is cheaper\nfrom {cheaper_from:.0%} on", (cheaper_from, full), (-5, -6),
            textcoords="offset points", ha="right", va="top",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    axes.minorticks_off()
    axes.set_xlim(right=max(1.0, *shares))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("share of the programs that changed")
    axes.set_ylabel("seconds of processor time")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@_styled
def condition_plot(conditions: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Shares by condition: a large dot for the mean over seeds, small ones for the seeds themselves.

    Args:
        conditions: From the first, at the top, to the last; by measure one share a seed. At most four
            measures in all.

    Returns:
        The figure, as high as there are conditions.
    """
    measures = list(dict.fromkeys(name for found in conditions.values() for name in found))
    figure, axes = _figure(height=max(1.6, 1.0 + 1.4 * _BAR_HEIGHT * len(conditions)))
    at = np.arange(len(conditions))[::-1]
    # Measures of one condition stand above each other, so that their dots do not hide each other.
    steps = np.linspace(0.24, -0.24, len(measures)) if len(measures) > 1 else np.zeros(1)
    for colour, step, name in zip(_COLOURS, steps, measures, strict=False):
        places = zip(at, conditions.values(), strict=True)
        rows = [(y + step, found[name]) for y, found in places if name in found]
        for y, values in rows:
            axes.plot(values, [y] * len(values), "o", color=colour, markersize=2.5, alpha=0.5)
        means = [float(np.mean(values)) for _, values in rows]
        axes.plot(means, [y for y, _ in rows], "o", color=colour, markersize=5.5, label=name)
    axes.set_yticks(at, list(conditions))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, max(1, len(conditions)) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if measures:
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def _short(n: int) -> str:
    """A count in few letters: 950, 10k, 1.5M."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return str(n)


def _figure(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots()


def _unit_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
