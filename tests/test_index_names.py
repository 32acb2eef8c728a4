"""The one form of a title in which titles are compared."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.names import normal_form, runs, sort_of, stands_in


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ""),
        (" \t\n", ""),
        ("!?…《》", ""),
        ("庆余年", "庆余年"),
        ("《庆·余 年》", "庆余年"),
        ("庆余年 第２季", "庆余年第2季"),
        ("Joy  of—Life", "joy of life"),
        ("ＪＯＹ", "joy"),
        ("Straße", "strasse"),
        ("ﬁlm", "film"),
        ("Amélie", "amélie"),
        ("Ame\u0301lie", "amélie"),
        ("S01E02 大结局", "s01e02大结局"),
        ("soft\u00adhyphen", "softhyphen"),
        ("사랑의 불시착", "사랑의불시착"),
        ("हिन्दी फ़िल्म", "हिन्दी फ़िल्म"),
        ("笑死😂😂！", "笑死😂😂"),
        ("❤️ love", "❤love"),
        ("👨‍👩‍👧", "👨👩👧"),
        ("it's", "it s"),
        ("100%_\\", "100"),
        ("か\u3099", "が"),
    ],
)
def test_what_carries_no_meaning_is_taken_away(text: str, normal: str) -> None:
    assert normal_form(text) == normal


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    normal = normal_form(text)
    assert normal_form(normal) == normal
    assert unicodedata.normalize("NFC", normal) == normal
    assert {sort_of(character) for character in normal} <= {"dense", "word", "symbol", "gap"}
    assert "  " not in normal
    assert normal == normal.strip()
    assert "".join(run for _, run in runs(normal)) == normal.replace(" ", "")


@given(st.text(st.sampled_from("ab 年余.-《"), max_size=10))
def test_gaps_show_between_words_alone(text: str) -> None:
    """Against a literal second way: cut at gaps, join word to word with a space, all else without."""
    pieces = "".join(c if c in "ab年余" else " " for c in text).split()
    want = ""
    for piece in pieces:
        want += " " * (want[-1:] in {"a", "b"} and piece[0] in "ab") + piece
    assert normal_form(text) == want


def test_runs_tell_scripts_and_symbols_apart() -> None:
    normal = normal_form("看 joy of Life 第2季😂")
    assert runs(normal) == [
        ("dense", "看"),
        ("word", "joy"),
        ("word", "of"),
        ("word", "life"),
        ("dense", "第"),
        ("word", "2"),
        ("dense", "季"),
        ("symbol", "😂"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "stands"),
    [
        ("庆余年", "昨天看了庆余年第三集", True),
        ("庆余年", "庆余", False),
        ("her", "there", False),
        ("her", "where is her cat", True),
        ("her", "hers", False),
        ("her", "there is her", True),
        ("1917", "看1917年", True),
        ("1917", "219173", False),
        ("joy of life", "the joy of life", True),
        ("joy of life", "joy of lifes", False),
        ("年2", "庆余年2第一集", True),
        ("年2", "庆余年25", False),
        ("", "anything", False),
        ("anything", "", False),
    ],
)
def test_a_name_stands_where_its_words_are_whole(name: str, text: str, stands: bool) -> None:
    assert stands_in(name, text) is stands
