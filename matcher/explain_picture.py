"""An explanation as one PNG, to be read at a glance; the only module of this package that imports matplotlib.

Top left are the similarities of the clip's frames (across) and the asset's (upwards), in which a match is a
line; under it, on the same clip time, what each frame has in this program, in others and by chance. Top right
is what speaks for and against, and the sum that makes the confidence. Where sound was heard, the same
follows of the sound, and the picture is so much taller. At the bottom are the frames themselves.
Figures are made without pyplot, so nothing is kept between them and no display is asked for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from matcher.explain import Balance, Contribution, Explanation, Side
from matcher.explain_frames import MAX_PAIRS, Shown, asset_frames, clip_frames, pairs_of
from matcher.explain_series import Matrix, Series
from matcher.explain_words import (
    UNIT,
    UNITS,
    headline,
    remarks,
    signed,
    speaks_of_picture,
    speaks_of_sound,
    sureness,
    together,
    where,
)
from matcher.localize import Match
from matcher.records import WHOLE
from matcher.show import clock

#: Size of the picture, in pixels, and what the sound adds to its height.
WIDTH, HEIGHT = 1600, 1300
SOUND_HEIGHT = 890
_DPI = 100
#: Pixels above the charts, with a line more where there is sound, between them, and below.
_HEAD, _LINE, _GAP, _FOOT = 136, 29, 66, 46
#: Heights of the rows, to each other: similarities and series, what parts the kinds, and the frames.
_SIDE_ROWS, _PART_ROW, _FRAME_ROW = (4.3, 2.2), 0.01, 4.0

_INK, _FAINT, _RULE = "#1c1e22", "#6b6f76", "#d8d5cd"
# Told apart by the colour-blind too (Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _RED = "#2f7fc1", "#d98a00", "#00805e", "#b3342d"
_COLOUR_OF = {"linked": _GREEN, "review": _ORANGE, "none": _RED}

_SETTINGS: Any = {  # its keys' type differs between releases of matplotlib
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,  # names are data; a $ in one is a $
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
#: Fonts for titles that are not in Latin letters, where the machine has one.
_WIDE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "PingFang SC", "Microsoft YaHei", "SimHei",
)  # fmt: skip

#: Features in plain words.
_WORDS = {
    "similarity": "similarity of the frames compared",
    "excess": "way from chance to identical (0–1)",
    "lead": "lead over the next program",
    "frames": "different frames that agree",
    "coverage": "share that matches, of what no other explains",
    "speed": "change of speed (octaves)",
    "is_reversed": "played backwards",
    "is_further": "found in the second look only",
    "pieces": "stretches that it is pieced together from",
}
#: Those that are said otherwise of sound.
_SOUND_WORDS = {
    **_WORDS,
    "similarity": "similarity of the moments compared",
    "frames": "different moments that agree",
    "agreement": "agreement of all moments (chance: 0.7)",
}
#: And those that either never has.
_ABSENT = {"picture": ("agreement",), "sound": ("is_reversed", "is_further")}


def write_picture(explanation: Explanation, out: Path) -> None:
    """Draw an explanation and write it as a PNG.

    Args:
        explanation: What to draw.
        out: The file; it is replaced.

    Raises:
        OSError: It cannot be written.
    """
    fonts = set(font_manager.get_font_names())
    family = ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in fonts)]
    with rc_context({**_SETTINGS, "font.family": family}):
        figure = draw(explanation)
        FigureCanvasAgg(figure).print_figure(str(out), format="png", dpi=_DPI, facecolor="white")


def draw(explanation: Explanation) -> Figure:
    """The whole picture as a figure of ``WIDTH`` by :func:`height_of` pixels."""
    height = height_of(explanation)
    figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI)
    ratios: list[float] = [*_SIDE_ROWS]
    for _ in explanation.sides[1:]:
        ratios += [_PART_ROW, *_SIDE_ROWS]
    head, n_rows = _HEAD + _LINE * (len(explanation.sides) - 1), len(ratios) + 1
    # Gaps are told in mean heights of a row.
    row = (height - head - _FOOT - _GAP * (n_rows - 1)) / n_rows
    grid = GridSpec(
        n_rows, 2, figure=figure, left=0.065, right=0.98, top=1 - head / height, bottom=_FOOT / height,
        hspace=_GAP / row, wspace=0.2, height_ratios=(*ratios, _FRAME_ROW), width_ratios=(1.1, 1.0),
    )  # fmt: skip
    _titles(figure, explanation)
    for number, side in enumerate(explanation.sides):
        _draw_side(figure, grid, 3 * number, explanation, side)
    _draw_pairs(figure, grid, explanation)
    return figure


def height_of(explanation: Explanation) -> int:
    """How tall the picture is, in pixels."""
    return HEIGHT + SOUND_HEIGHT * (len(explanation.sides) - 1)


def _draw_side(figure: Figure, grid: GridSpec, row: int, explanation: Explanation, side: Side) -> None:
    """One kind, in two rows of the grid: similarities on the left, words and votes on the right."""
    matrix = figure.add_subplot(grid[row, 0])
    _draw_matrix(matrix, explanation, side)
    _draw_series(figure.add_subplot(grid[row + 1, 0], sharex=matrix), explanation, side)
    _draw_words(figure.add_subplot(grid[row, 1]), explanation, side)
    _draw_votes(figure.add_subplot(grid[row + 1, 1]), explanation, side)
    times = [one.look.t_seconds for one in explanation.sides if len(one.look)]
    if len(explanation.sides) > 1 and len(side.look):  # so that the two are read one below the other
        edges = np.concatenate([_edges(one)[[0, -1]] for one in times])
        matrix.set_xlim(float(edges.min()), float(edges.max()))


def _titles(figure: Figure, explanation: Explanation) -> None:
    """The headline, and below it the clip, what aligns, and with sound how the two make the confidence."""
    title = headline(explanation)
    size = min(17.0, 1650 / min(len(title), 150))
    view = explanation.picture.look.view
    seen = "" if view == WHOLE else f", seen through the view “{view}”"
    subject = explanation.subject
    counts = " and ".join(f"{len(side.look)} {UNITS[side.kind]}" for side in explanation.sides)
    said = f"Clip {subject.clip_id}: {subject.clip.duration_seconds:.1f} s, {counts} compared{seen}."
    sums = together(explanation)
    more = [remark for remark in remarks(explanation) if remark != sums]
    _title(figure, 36, _cut(title, 150), size=size, weight="bold", color=_COLOUR_OF[explanation.decision])
    _title(figure, 68, _cut(" ".join([said, ". ".join(more)]).strip(), 150), size=11, color=_INK)
    _title(figure, 96, _cut(_aligned(explanation), 170), size=11, color=_FAINT)
    if explanation.sound is not None:
        sums = (
            f"{sums}, confidence {sureness(explanation.confidence)}."
            if sums
            else "Nothing aligns in the sound either."
        )
        _title(figure, 96 + _LINE, _cut(sums, 150), size=11, weight="bold", color=_INK)


def _title(figure: Figure, down: int, text: str, **style: Any) -> None:
    """A line of text so many pixels from the top."""
    figure.text(0.015, 1 - down / (figure.get_figheight() * _DPI), text, **style)


def _aligned(explanation: Explanation) -> str:
    """Which stretches align, by kind where there are two."""
    verb = "Aligned" if explanation.decision == "none" else "Matches"
    parts = [
        ("" if explanation.sound is None else f" in the {side.kind}")
        + ": "
        + "; ".join(where(explanation, match) for match in side.matches)
        for side in explanation.sides
        if side.matches
    ]
    return f"{verb}{';'.join(parts)}." if parts else "No stretch of the clip aligns."


# ---------------------------------------------------------------- similarities


def _heading(explanation: Explanation, side: Side, said: str) -> str:
    """A chart's title, with the kind in front where there are two of them."""
    if explanation.sound is None:
        return said
    return f"{side.kind.upper()}: {said[0].lower()}{said[1:]}"


def _draw_matrix(axes: Axes, explanation: Explanation, side: Side) -> None:
    matrix, units = side.matrix, UNITS[side.kind]
    if matrix is None:
        title = f"{units.capitalize()} of the clip and of the asset"
        _nothing(axes, _heading(explanation, side, title), f"There are no {units} to compare.")
        return
    asset, what = explanation.asset(matrix.asset), "frames" if side.kind == "picture" else "sound"
    part = "" if matrix.is_whole else " (a part)"
    title = f"Similarity of the clip’s {what} and {_cut(asset.asset_id, 40)}{part}"
    axes.set_title(_heading(explanation, side, title))
    shown = axes.pcolormesh(
        _edges(matrix.clip_seconds), _edges(matrix.asset_seconds), matrix.similarity.T,
        cmap="Greys", vmin=_white(side.series, matrix), vmax=1.0, rasterized=True,
    )  # fmt: skip
    # An inset, for a bar of its own would make the axes narrower than those below, which share their times.
    axes.figure.colorbar(shown, cax=axes.inset_axes((1.012, 0.0, 0.018, 1.0)), label="cosine")
    axes.set_ylabel("in the asset")
    axes.yaxis.set_major_formatter(_clock_ticks())
    axes.xaxis.set_major_formatter(_clock_ticks())
    axes.tick_params(labelbottom=False)
    low, high = axes.get_ylim()
    for match in side.matches:
        if match.asset == matrix.asset:
            _draw_path(axes, match)
        _draw_also(axes, match, matrix)
    axes.set_ylim(low, high)
    if axes.get_legend_handles_labels()[0]:
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axes.legend(unique.values(), unique.keys(), loc="upper left", frameon=True, framealpha=0.9)


def _white(series: Series, matrix: Matrix) -> float:
    """Similarities up to this stay white: a little below chance, so that what counts stands out."""
    low = float(np.percentile(matrix.similarity, 10))
    return min(float(series.chance.min()) - 0.08, low, 0.95)


def _draw_path(axes: Axes, match: Match) -> None:
    ends = np.array([match.clip_start_seconds, match.clip_end_seconds])
    axes.plot(ends, match.line.at(ends), "o-", color=_BLUE, lw=1.6, markersize=4, label="where it aligns")


def _draw_also(axes: Axes, match: Match, matrix: Matrix) -> None:
    for place in match.also:
        if place.asset != matrix.asset:
            continue
        begin, end = place.asset_start_seconds, place.asset_end_seconds
        if match.is_reversed:
            begin, end = end, begin
        axes.plot(
            [match.clip_start_seconds, match.clip_end_seconds], [begin, end],
            "--", color=_ORANGE, lw=1.6, label="the same footage again",
        )  # fmt: skip


def _draw_series(axes: Axes, explanation: Explanation, side: Side) -> None:
    series, unit = side.series, UNIT[side.kind]
    each = _heading(explanation, side, f"Each {unit} of the clip")
    axes.set_title(f"{each} (shaded: it matches)")
    if len(side.look) == 0:
        _nothing(axes, each, f"The clip has no {unit} that shows anything.")
        return
    times = series.t_seconds
    edges = _edges(times)
    # A series of one frame is no line, so every frame is a dot too.
    marker = "o" if times.size <= 120 else ""
    style: dict[str, Any] = {"marker": marker, "markersize": 3, "lw": 1.4}
    for first, last in _runs(series.matched):
        axes.axvspan(edges[first], edges[last], color=_BLUE, alpha=0.12, lw=0)
    record = explanation.record
    name = "this program" if record is None else f"this program, {_cut(record.program_id, 24)}"
    rival = series.rival()
    mostly = "none above chance" if rival < 0 else f"mostly {_cut(explanation.name(rival), 24)}"
    axes.plot(times, series.similarity, color=_BLUE, label=name, **style)
    axes.plot(times, series.other, color=_ORANGE, label=f"best other, {mostly}", **style)
    axes.plot(times, series.chance, color=_FAINT, ls="--", lw=1.2, label="what chance gives")
    axes.set_ylim(_least(series.similarity, series.other, series.chance) - 0.05, 1.02)
    axes.set_ylabel("cosine")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9))
    axes.grid(axis="y", color=_RULE, lw=0.6)
    axes.legend(loc="upper center", ncols=3, fontsize=9, bbox_to_anchor=(0.5, -0.11), borderaxespad=0)


def _least(*values: NDArray[np.float32]) -> float:
    known = np.concatenate(values)
    return float(known[np.isfinite(known)].min(initial=1.0))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last position of each run of true values."""
    steps = np.diff(np.r_[False, mask, False].astype(np.int8))
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n + 1,) borders between n ≥ 1 times; a single one is a second wide."""
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = 0.5 * (centres[1:] + centres[:-1])
    ends = np.array([2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]])
    return np.concatenate([ends[:1], middle, ends[1:]])


# ---------------------------------------------------------------- words and sums


def _draw_words(axes: Axes, explanation: Explanation, side: Side) -> None:
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    says = speaks_of_picture if side.kind == "picture" else speaks_of_sound
    speaks_for, speaks_against = says(explanation)
    pro, contra = (
        _heading(explanation, side, f"What speaks {way} it") for way in ("for", "against")
    )  # fmt: skip
    y = _write_list(axes, 1.02, pro, speaks_for, _GREEN, "+")
    y = _write_list(axes, y - 0.015, contra, speaks_against, _RED, "–")
    if side.balance is not None:
        _write_balance(axes, min(y - 0.03, 0.60), side, side.balance, is_alone=explanation.sound is None)
    else:
        axes.text(0.0, y - 0.05, "Nothing aligns, so there is no evidence to weigh.", color=_FAINT, va="top")


def _write_list(axes: Axes, y: float, title: str, sentences: Sequence[str], colour: str, mark: str) -> float:
    """A titled list of sentences from ``y`` down; gives where it ends."""
    axes.text(0.0, y, title, size=11, weight="bold", color=colour, va="top")
    y -= 0.055
    for sentence in sentences or ("nothing",):
        for number, line in enumerate(textwrap.wrap(sentence, 84)):
            if number == 0 and sentences:
                axes.text(0.0, y, mark, size=10, color=colour, weight="bold", va="top")
            axes.text(0.025, y, line, size=10, va="top", color=_INK if sentences else _FAINT)
            y -= 0.045
    return y


def _write_balance(axes: Axes, y: float, side: Side, balance: Balance, *, is_alone: bool) -> None:
    """The sum that makes the confidence by one kind, down to the foot."""
    rows: list[tuple[str, str, str, float]] = [("a plain cut of ten seconds", "", "", balance.plain)]
    words = _WORDS if side.kind == "picture" else _SOUND_WORDS
    rows += [
        (words.get(part.feature, part.feature), *_shorts(part), part.log_odds)
        for part in balance.contributions
        if part.feature not in _ABSENT[side.kind]
    ]
    rows.append(("another program may be the right one", "", "", balance.rivalry))
    if side.kind == "sound":
        rows.append(("the pictures may be of another place", _seen(side), "", balance.sight))
    step = min(0.046, y / (len(rows) + 2))
    columns = (0.0, 0.60, 0.74, 0.995)
    heads = ("How the confidence comes about", "here", "plain cut", "adds to log-odds")
    for x, head in zip(columns, heads, strict=True):
        bold = "bold" if x == 0 else "normal"
        axes.text(
            x, y, head, size=11 if x == 0 else 9, va="top", weight=bold, ha="left" if x == 0 else "right",
            color=_INK if x == 0 else _FAINT,
        )  # fmt: skip
    for number, (name, value, typical, added) in enumerate(rows, start=1):
        at = y - step * (number + 0.2)
        colour = _INK if abs(added) < 0.05 or number == 1 else _GREEN if added > 0 else _RED
        for x, text in zip(columns, (name, value, typical, signed(added)), strict=True):
            axes.text(
                x, at, text, size=9.5, va="top", ha="left" if x == 0 else "right",
                color=colour if x == columns[-1] else _INK,
            )  # fmt: skip
    at = y - step * (len(rows) + 1.2)
    axes.axhline(at + 0.1 * step, color=_INK, lw=0.8)
    foot = f"log-odds; confidence {sureness(side.confidence)}"
    axes.text(0.0, at, foot if is_alone else f"{foot} by the {side.kind} alone", weight="bold", va="top")
    axes.text(0.995, at, signed(side.log_odds), weight="bold", va="top", ha="right")


def _seen(sound: Side) -> str:
    """How much of the way to identity the pictures go at the place that is heard."""
    sight = None if sound.evidence is None else sound.evidence.sight
    return "nothing seen" if sight is None else _short(sight.seen)


def _shorts(part: Contribution) -> tuple[str, str]:
    """A feature's value and the typical one."""
    if part.feature.startswith("is_"):
        return "yes" if part.value else "no", "yes" if part.typical else "no"
    return _short(part.value), _short(part.typical)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.2f}".rstrip("0").rstrip(".")


def _draw_votes(axes: Axes, explanation: Explanation, side: Side) -> None:
    title = _heading(explanation, side, f"Votes of the clip’s {len(side.look)} {UNITS[side.kind]}")
    if not side.votes:
        _nothing(axes, title, f"No {UNIT[side.kind]} resembles any program more than chance gives.")
        return
    axes.set_title(title)
    names = [explanation.name(voted.program) for voted in side.votes]
    values = [voted.votes for voted in side.votes]
    sure = {guess.program_id: guess.confidence for guess in explanation.answer.candidates}
    own = None if explanation.record is None else explanation.record.program_id
    at = range(len(names))
    axes.barh(at, values, color=[_BLUE if name == own else _RULE for name in names], height=0.7)
    for y, (name, value) in enumerate(zip(names, values, strict=True)):
        confidence = f", confidence {sureness(sure[name])}" if name in sure else ""
        axes.text(value, y, f" {value:.1f}{confidence}", va="center", size=9)
    axes.set_yticks(at, [_cut(name, 28) for name in names], color=_INK)
    axes.set_ylim(max(len(names), 4) - 0.4, -0.6)
    axes.set_xlim(0, max(values) * 1.45)
    axes.tick_params(axis="y", length=0)


# ---------------------------------------------------------------- frames


def _draw_pairs(figure: Figure, grid: GridSpec, explanation: Explanation) -> None:
    pairs = pairs_of(explanation)
    if not pairs:
        axes = figure.add_subplot(grid[-1, :])
        _nothing(axes, "Frames of the clip and of the program", "There are no frames to show.")
        return
    cells = grid[-1, :].subgridspec(2, MAX_PAIRS, hspace=0.03, wspace=0.04)
    clip, asset = clip_frames(explanation, pairs), asset_frames(explanation, pairs)
    for column, (pair, upper, lower) in enumerate(zip(pairs, clip, asset, strict=True)):
        top, foot = (figure.add_subplot(cells[line, column]) for line in range(2))
        # The two meet in the middle, however narrow the view of the clip is.
        _draw_frame(top, upper, anchor="S")
        _draw_frame(foot, lower, anchor="N")
        top.set_title(
            f"{clock(pair.clip_seconds)} in the clip", size=9.5, weight="normal", loc="center", pad=4
        )
        at = pair.asset_seconds if lower.frame is None else lower.frame.t_seconds
        name = _cut(explanation.asset(pair.asset).asset_id, 22)
        foot.set_xlabel(f"{name} {clock(at)}\ncosine {pair.similarity:.2f}", size=9.5)
        if column == 0:
            is_whole = explanation.picture.look.view == WHOLE
            top.set_ylabel("CLIP" if is_whole else "CLIP, in the view", weight="bold")
            foot.set_ylabel("PROGRAM", weight="bold")
    if not explanation.picture.matches:
        said = "Nothing aligns; these are the frames of the clip that the program resembles most."
        if explanation.sound is not None and explanation.sound.matches:
            said = "The pictures do not align; these are the frames of the place that is heard."
        figure.text(0.065, 10 / height_of(explanation), said, color=_FAINT, size=10)


def _draw_frame(axes: Axes, shown: Shown, *, anchor: Literal["N", "S"]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if shown.frame is None:
        problem = "\n".join(textwrap.wrap(shown.problem, 34))
        axes.text(0.5, 0.5, problem, ha="center", va="center", size=8, color=_RED, transform=axes.transAxes)
        return
    axes.imshow(shown.frame.image)
    axes.set_anchor(anchor)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _nothing(axes: Axes, title: str, said: str) -> None:
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, said, ha="center", va="center", color=_FAINT, transform=axes.transAxes)


def _clock_ticks() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"−{clock(-value)}" if value < 0 else clock(value))


def _cut(text: str, length: int) -> str:
    """Text on one line, shortened where it is too long."""
    return text if len(text) <= length else text[: length - 1] + "…"
