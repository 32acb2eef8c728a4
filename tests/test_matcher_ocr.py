"""Captions: what is read frame by frame, told once; and reading itself."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from matcher import ocr
from matcher.errors import MissingDependencyError
from matcher.ocr import Caption, Line, TextReader, captions_of, load_reader, reading_distance

BOTTOM, TOP = 0.9, 0.1


def frames_of(
    texts: Sequence[str], *, y: float = BOTTOM, step: float = 1.0
) -> list[tuple[float, list[Line]]]:
    """A frame a step with one line each; none where the text is empty."""
    return [(i * step, [Line(text, 0.9, 0.5, y)] if text else []) for i, text in enumerate(texts)]


def told(captions: list[Caption]) -> list[tuple[str, float, float]]:
    return [(caption.text, caption.start_seconds, caption.end_seconds) for caption in captions]


# ---------------------------------------------------------------- one line after another


def test_a_caption_over_several_frames_is_told_once() -> None:
    texts = ["", "我们走吧", "我们走吧", "去哪里", "", "Where to?", "Where to?", "Where to?"]
    assert told(captions_of(frames_of(texts, step=0.5))) == [
        ("我们走吧", 0.5, 1.5),
        ("去哪里", 1.5, 2.0),
        ("Where to?", 2.5, 4.0),
    ]


def test_readings_that_differ_a_little_are_one_and_most_frames_have_their_way() -> None:
    texts = ["We were never her friends", "We were never her fr1ends", "we were never her friends!"]
    texts += ["We were never her friends"]
    assert told(captions_of(frames_of(texts))) == [("We were never her friends", 0.0, 4.0)]
    unsure = [
        (0.0, [Line("琅琊傍之风云起", 0.55, 0.5, BOTTOM)]),
        (1.0, [Line("琅琊榜之风云起", 0.99, 0.5, BOTTOM)]),
    ]
    assert told(captions_of(unsure)) == [("琅琊榜之风云起", 0.0, 2.0)]


def test_a_frame_that_was_not_read_does_not_part_a_caption_and_two_do() -> None:
    assert told(captions_of(frames_of(["走吧走吧", "", "走吧走吧"]))) == [("走吧走吧", 0.0, 3.0)]
    assert told(captions_of(frames_of(["走吧走吧", "", "", "走吧走吧"]))) == [
        ("走吧走吧", 0.0, 1.0),
        ("走吧走吧", 3.0, 4.0),
    ]


def test_short_readings_must_be_the_same() -> None:
    assert len(captions_of(frames_of(["走吧", "来吧"]))) == 2
    assert len(captions_of(frames_of(["好", "好"]))) == 1


def test_two_lines_of_a_frame_are_two_captions_from_top_to_bottom() -> None:
    lines = [Line("second line here", 0.9, 0.5, 0.92), Line("first line here", 0.9, 0.5, 0.84)]
    assert told(captions_of([(3.0, lines), (4.0, lines[::-1])])) == [
        ("first line here", 3.0, 5.0),
        ("second line here", 3.0, 5.0),
    ]


def test_the_same_words_elsewhere_in_the_picture_are_another_line() -> None:
    frames = [
        (0.0, [Line("open all night", 0.9, 0.5, TOP)]),
        (1.0, [Line("open all night", 0.9, 0.5, BOTTOM)]),
    ]
    assert told(captions_of(frames)) == [("open all night", 0.0, 1.0), ("open all night", 1.0, 2.0)]


def test_the_same_words_twice_in_a_frame_stay_two() -> None:
    twice = [Line("ha ha ha ha", 0.9, 0.2, 0.5), Line("ha ha ha ha", 0.9, 0.8, 0.5)]
    assert told(captions_of([(0.0, twice), (1.0, twice)])) == [("ha ha ha ha", 0.0, 2.0)] * 2


def test_guesses_and_specks_are_left_out() -> None:
    frames = [(0.0, [Line("guess", 0.3, 0.5, TOP), Line("…", 0.9, 0.5, 0.5), Line("sure", 0.8, 0.5, BOTTOM)])]
    (caption,) = captions_of(frames)
    assert (caption.text, caption.confidence) == ("sure", 0.8)


# ---------------------------------------------------------------- logos


def test_text_that_is_there_nearly_all_the_time_is_kept_apart_from_subtitles() -> None:
    says = [
        "one fine day",
        "",
        "two fine days",
        "three of them",
        "",
        "",
        "four fine days",
        "five",
        "six",
        "ten",
    ]
    frames = [
        (
            float(i),
            [Line("LOGO TV", 0.8, 0.9, TOP)] * (i not in (3, 4))
            + ([Line(text, 0.9, 0.5, BOTTOM)] if text else []),
        )
        for i, text in enumerate(says)
    ]
    captions = captions_of(frames)
    assert [(c.text, c.start_seconds, c.end_seconds) for c in captions if c.is_persistent] == [
        ("LOGO TV", 0.0, 10.0)
    ]
    assert [c.text for c in captions if not c.is_persistent] == [text for text in says if text]
    # Below the share it is text like any other, told as often as it came.
    rare = captions_of(
        [(t, lines if i not in (0, 1, 7) else lines[1:]) for i, (t, lines) in enumerate(frames)]
    )
    assert [c.is_persistent for c in rare if c.text == "LOGO TV"] == [False] * 2


def test_in_a_few_frames_nothing_is_persistent() -> None:
    assert not captions_of(frames_of(["a headline"] * 4))[0].is_persistent
    assert captions_of(frames_of(["a headline"] * 5))[0].is_persistent


# ---------------------------------------------------------------- edges


def test_no_frames_and_no_text_are_no_captions() -> None:
    assert captions_of([]) == []
    assert captions_of([(0.0, []), (1.0, [])]) == []


def test_the_last_caption_ends_a_step_after_its_frame() -> None:
    assert captions_of(frames_of(["only one"]))[0].end_seconds == 1.0
    frames = [
        (t, [Line(text, 0.9, 0.5, BOTTOM)]) for t, text in ((0.0, "aaaa"), (2.0, "bbbb"), (4.0, "cccc"))
    ]
    assert captions_of(frames)[-1].end_seconds == 6.0


def test_seconds_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="strictly ascend"):
        captions_of([(1.0, []), (1.0, [])])


def test_records_check_themselves() -> None:
    with pytest.raises(ValueError, match="must last"):
        Caption("x", 1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match="confidence"):
        Caption("x", 1.0, 2.0, 1.5)


_TEXTS = st.lists(st.sampled_from(["", "我们走吧", "我们走巴吧", "where to go", "where to g0"]), max_size=12)


@given(_TEXTS, _TEXTS)
def test_two_places_are_read_as_each_by_itself_and_no_line_is_lost(top: list[str], bottom: list[str]) -> None:
    n = max(len(top), len(bottom))
    above, below = (frames_of((texts + [""] * n)[:n], y=y) for texts, y in ((top, TOP), (bottom, BOTTOM)))
    both = [(t, [*upper, *lower]) for (t, upper), (_, lower) in zip(above, below, strict=True)]
    captions = captions_of(both)
    assert Counter(captions) == Counter(captions_of(above)) + Counter(captions_of(below))
    for t, lines in both:
        shown = [c.text for c in captions if c.start_seconds <= t < c.end_seconds]
        assert all(any(reading_distance(text, line.text) is not None for text in shown) for line in lines)


@given(st.text("ab我", max_size=9), st.text("ab我", max_size=9))
def test_the_edit_distance_is_the_least_number_of_changes(a: str, b: str) -> None:
    """Against the definition, without a table."""

    def slow(x: str, y: str) -> int:
        if not x or not y:
            return len(x) + len(y)
        if x[0] == y[0]:
            return slow(x[1:], y[1:])
        return 1 + min(slow(x[1:], y), slow(x, y[1:]), slow(x[1:], y[1:]))

    a, b = a[:6], b[:6]
    assert ocr._edit_distance(a, b) == slow(a, b)


def test_readings_of_two_texts_have_no_distance() -> None:
    assert reading_distance("joy of life", "JOY of-life!") == 0
    assert reading_distance("joy of life", "joy of lifes") == pytest.approx(1 / 12)
    assert reading_distance("joy of life", "the wolf") is None
    assert reading_distance("一二三四五六七", "一二三四五六七八九十") is None


# ---------------------------------------------------------------- reading


def test_a_reader_reads_frame_by_frame() -> None:
    """With a stand-in that reads the first pixel; one picture at a time is held."""
    words = {1: "hello there", 2: "good bye"}
    asked: list[int] = []

    def read_lines(image: np.ndarray) -> list[Line]:
        asked.append(int(image[0, 0, 0]))
        return [Line(words[asked[-1]], 0.9, 0.5, BOTTOM)] if asked[-1] else []

    def images() -> object:
        for t, value in enumerate((0, 1, 1, 2)):
            assert len(asked) == t
            yield float(t), np.full((4, 6, 3), value, np.uint8)
        yield 4.0, np.zeros((0, 0, 3), np.uint8)

    captions = TextReader(read_lines).read(images())  # type: ignore[arg-type]
    assert told(captions) == [("hello there", 1.0, 3.0), ("good bye", 3.0, 4.0)]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be \\(h, w, 3\\) uint8"):
        TextReader(lambda _: []).read([(0.0, image)])


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'program-matcher\[ocr\]'"):
        load_reader()


def drawn(text: str, logo: str = "") -> np.ndarray:
    image = Image.fromarray(
        np.linspace((30, 60, 90), (90, 70, 40), 640).astype(np.uint8)[None].repeat(360, 0)
    )
    draw = ImageDraw.Draw(image)
    draw.text((60, 300), text, fill="white", font=ImageFont.load_default(30))
    draw.text((480, 20), logo, fill="yellow", font=ImageFont.load_default(22))
    return np.asarray(image)


def test_drawn_captions_are_read_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("the reader asked the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    says = ["", "Hello brave new world", "Hello brave new world", "", "", "We never meet again"]
    captions = load_reader(threads=1).read((i * 1.0, drawn(text, "LOGO TV")) for i, text in enumerate(says))
    assert [c.text for c in captions if c.is_persistent] == ["LOGO TV"]
    assert told([c for c in captions if not c.is_persistent]) == [
        ("Hello brave new world", 1.0, 3.0),
        ("We never meet again", 5.0, 6.0),
    ]
    assert all(c.confidence > 0.8 for c in captions)


def test_a_picture_without_text_has_no_captions() -> None:
    blank = [(0.0, np.zeros((360, 640, 3), np.uint8)), (1.0, np.full((8, 8, 3), 255, np.uint8))]
    assert load_reader(threads=1).read(blank) == []


def test_a_version_without_its_models_is_refused_not_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    import rapidocr

    monkeypatch.setattr(rapidocr, "__file__", f"{tmp_path}/__init__.py")
    with pytest.raises(MissingDependencyError, match="carries 0 models called det"):
        load_reader()
