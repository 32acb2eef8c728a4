"""eval.report, eval.plots and eval.failures: one page that stands alone, and which answers it shows."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_eval_figures import ANSWERS, CLIPS, TRUTH, answer, segment

from eval import plots
from eval.failures import worst_failures
from eval.figures import figures, share
from eval.ground_truth import write_truth
from eval.judging import judge
from eval.metrics import precision_recall
from eval.report import write_report
from eval.report_page import image, share_cell
from eval.run_files import save_answers, save_clips
from matcher.errors import InputError
from matcher.page import number, percent, table

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that every element is closed, and keeps what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.headings: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.words += data


def run_folder(folder: Path, more: dict[str, Any] | None = None) -> Path:
    value = figures(CLIPS, TRUTH, ANSWERS) | (more or {})
    (folder / "figures.json").write_text(json.dumps(value), encoding="utf-8")
    save_clips(folder / "clips.parquet", CLIPS)
    write_truth(folder / "truth.csv", TRUTH)
    save_answers(folder / "answers.parquet", CLIPS, ANSWERS)
    return folder


def picture(size: tuple[int, int] = (8, 4), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(buffer, kind)
    return buffer.getvalue()


def test_the_report_is_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    asked: list[str] = []

    def picture_of(clip_id: str) -> bytes | None:
        asked.append(clip_id)
        return picture() if clip_id == "pip" else None

    path = write_report(run_folder(tmp_path), picture_of=picture_of)
    assert path == tmp_path / "report.html"
    assert not (tmp_path / "report.html.part").exists()
    page = Page(path.read_text(encoding="utf-8"))
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not page.tags & {"script", "link", "iframe"}
    assert sum(link.startswith("data:") for link in page.links) == 1
    assert page.headings == ["Summary", "Edits", "Sureness", "Where in the program", "Worst answers"]
    # Only of failures; the plain one and the mirrored one are right.
    assert sorted(asked) == ["both", "lost", "pip", "several", "u1"]


def test_the_summary_shows_shares_with_their_counts_for_each_group(tmp_path: Path) -> None:
    text = write_report(run_folder(tmp_path)).read_text(encoding="utf-8")
    row = re.search(r"<tr><th>Top-1</th>(.*?)</tr>", text)
    assert row is not None
    assert re.findall(r"<td>([\d.]+) %<small>[^<]*· (\d of \d)</small></td>", row[1]) == [
        ("66.7", "4 of 6"), ("66.7", "2 of 3"), ("66.7", "2 of 3"),
    ]  # fmt: skip
    assert re.search(r"<th>Seconds a clip, mean</th><td>2</td><td>–</td><td>2</td>", text)
    # Both colour schemes, and a page as wide as the screen.
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_what_else_the_figures_hold_gets_its_section(tmp_path: Path) -> None:
    run = figures(CLIPS, TRUTH, ANSWERS)
    more = {
        "distractors": [{"n": 100_000, "figures": run}, {"n": 0, **run}],
        "ablation": [{"without": "mirrored views", **run}],
        "alignment": [
            {"aligner": "Hough voting", "median_iou": 0.93456},
            {"aligner": "other", "ms_per_clip": 3},
        ],
        "run": {"seed": 7, "versions": {"python": "3.11"}},
    }
    page = Page(write_report(run_folder(tmp_path, more)).read_text(encoding="utf-8"))
    assert page.headings[4:] == ["Distractors", "Without a part", "Alignment", "Worst answers", "The run"]
    for words in (
        "100,000",
        "mirrored views",
        "Hough voting",
        "0.9346",
        "ms per clip",
        "run.versions.python",
    ):
        assert words in page.words


def test_names_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    evil = '<script>alert("&")</script>'
    clip = replace(CLIPS[2], clip_id=evil, group=f"g{evil}", kinds=(f"k{evil}$x$",))
    truth = replace(TRUTH[2], clip_id=evil, program_id=f"p{evil}")
    wrong = answer(evil, "linked", [(f"w{evil}", 0.9)], [(f"w{evil}", [segment("a", (0, 8), (0, 8))])])
    more = {"alignment": [{evil: evil}], "ablation": [], evil: {"x": evil}}
    value = figures([clip], [truth], [wrong]) | more
    (tmp_path / "figures.json").write_text(json.dumps(value), encoding="utf-8")
    save_clips(tmp_path / "clips.parquet", [clip])
    write_truth(tmp_path / "truth.csv", [truth])
    save_answers(tmp_path / "answers.parquet", [clip], [wrong])
    report = write_report(tmp_path, picture_of=lambda _: picture(kind="JPEG"), title=evil)
    page = Page(report.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert f"k{evil}$x$" in page.words
    assert f"right: p{evil}" in page.words


def test_files_that_are_missing_broken_or_of_another_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"figures\.json: No such file"):
        write_report(tmp_path)
    run_folder(tmp_path)
    for text, message in (("{", "is not JSON"), ("[]", "no figures of a run"), ("{}", "no figures of a run")):
        (tmp_path / "figures.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            write_report(tmp_path)
    run_folder(tmp_path)
    save_clips(tmp_path / "clips.parquet", CLIPS[1:])
    with pytest.raises(InputError, match="not of one run: 1 clips"):
        write_report(tmp_path)


def test_a_run_without_clips_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text(json.dumps(figures([], [], [])), encoding="utf-8")
    save_clips(tmp_path / "clips.parquet", [])
    write_truth(tmp_path / "truth.csv", [])
    save_answers(tmp_path / "answers.parquet", [], [])
    assert Page(write_report(tmp_path).read_text(encoding="utf-8")).headings == ["Summary"]


def test_the_worst_of_each_kind_come_first_and_a_clip_stands_once() -> None:
    found = worst_failures(judge(CLIPS, TRUTH, ANSWERS))
    assert [(one.judged.clip.clip_id, one.reason) for one in found] == [
        ("u1", "linked, though its program is not in the catalogue"),
        ("several", "linked to a wrong program"),  # surer than "pip"
        ("pip", "linked to a wrong program"),
        ("lost", "no candidate at all"),
        ("both", "the right program, but not linked"),
    ]
    # One of each kind before the second of any.
    assert [one.judged.clip.clip_id for one in worst_failures(judge(CLIPS, TRUTH, ANSWERS), 3)] == [
        "u1", "several", "lost",
    ]  # fmt: skip
    assert worst_failures(judge(CLIPS, TRUTH, ANSWERS), 0) == []
    assert worst_failures([]) == []


def test_a_right_link_at_a_wrong_place_is_a_failure() -> None:
    away = answer("plain", "linked", [("p1", 0.9)], [("p1", [segment("p1-e1", (0, 8), (300, 308))])])
    wrong = answer("mirror", "review", [("p2", 0.5)], [("p2", [segment("p2-e1", (0, 8), (0, 8))])])
    found = worst_failures(judge(CLIPS[:2], TRUTH, [away, wrong]))
    assert [(one.judged.clip.clip_id, one.reason) for one in found] == [
        ("mirror", "the best candidate is wrong"), ("plain", "the right program, at a wrong place"),
    ]  # fmt: skip


EMPTY: list[Callable[[], Figure]] = [
    lambda: plots.share_bars({}),
    lambda: plots.precision_recall_plot({"none": precision_recall([], [], 1)}),
    lambda: plots.reliability_plot([]),
    lambda: plots.score_histogram({"none": []}),
    lambda: plots.start_error_histogram([]),
    lambda: plots.iou_histogram([]),
    lambda: plots.distractor_plot([0], {"none": [None]}),
]


@pytest.mark.parametrize("draw", EMPTY)
def test_a_plot_of_nothing_is_a_plot(draw: Callable[[], Figure]) -> None:
    ET.fromstring(plots.svg(draw()))


def test_an_svg_takes_the_pages_colours_and_leaves_the_page_alone() -> None:
    before = dict(matplotlib.rcParams)
    shares = {"a $1$ <b>": share(1, 2), "b": share(0, 0), "c": share(2, 2)}
    text = plots.svg(plots.share_bars(shares))
    root = ET.fromstring(text)
    assert "currentColor" in text
    assert "var(--rule)" in text
    assert not re.search(r"<style|<metadata|<\?xml|#1c1e22|#d8d5cd", text)
    words = "".join(root.itertext())
    assert "a $1$ <b> (2)" in words
    assert "c (2)" in words
    assert "b (0)" not in words
    assert dict(matplotlib.rcParams) == before
    assert plots.svg(plots.share_bars(shares)) == text


def test_bars_stand_at_their_shares_and_diamonds_at_the_other_ones() -> None:
    drawing = plots.share_bars({"low": share(1, 4), "high": share(3, 4)}, {"low": share(1, 2)})
    axes = drawing.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["high (4)", "low (4)"]
    diamonds = next(line for line in axes.lines if line.get_marker() == "D")
    assert (list(diamonds.get_xdata()), list(diamonds.get_ydata())) == ([0.5], [1])  # type: ignore[arg-type]


def test_histograms_keep_what_lies_beyond_their_edges() -> None:
    assert sum(bar.get_height() for bar in plots.start_error_histogram([0, 0.2, 99]).axes[0].patches) == 3  # type: ignore[attr-defined]
    assert sum(bar.get_height() for bar in plots.iou_histogram([0, 0.5, 1]).axes[0].patches) == 3  # type: ignore[attr-defined]
    outline = plots.score_histogram({"all": [float("inf"), float("-inf"), 0.0, 40.0]}).axes[0].patches[0]
    heights = np.asarray(outline.get_xy())[:, 1]  # type: ignore[attr-defined]
    assert {0.5, 0.25} <= set(np.round(heights, 6))


def test_the_png_is_of_the_same_plot() -> None:
    with Image.open(io.BytesIO(plots.png(plots.iou_histogram([0.5]), dots_per_inch=50))) as shown:
        assert shown.size == (230, 160)


def test_cells_say_when_a_figure_is_not_defined() -> None:
    assert share_cell(share(0, 0)) == percent(None) == number(None) == "–"
    assert share_cell(share(1, 4)) == "25.0 %<small>4.6–69.9 · 1 of 4</small>"
    assert number(0.000012345) == "1.234e-05"
    assert table(["a"], []) == ""


def test_a_picture_must_be_one() -> None:
    assert image(picture(), 'a "clip"').startswith(
        '<img alt="a &quot;clip&quot;" src="data:image/png;base64,'
    )
    assert "image/jpeg" in image(picture(kind="JPEG"), "")
    with pytest.raises(ValueError, match="PNG or JPEG"):
        image(b"GIF89a", "")
