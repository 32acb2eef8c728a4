"""How a title is written where titles are compared: one form for Chinese and English.

People write a program's title in a clip's title as they like: full-width letters, capitals, dots between the
characters so that no filter finds it, emoji. :func:`normal_form` takes away what carries no meaning, so that
one title standing in another text is a matter of comparing characters. Traditional and simplified Chinese
stay apart: give the other form as an alias.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import Literal

#: What a character is part of: a script whose words are not (or not reliably) told apart by spaces, where one
#: character says as much as several letters; a word of letters, digits and marks; a symbol such as an emoji;
#: a gap; nothing at all.
Sort = Literal["dense", "word", "symbol", "gap", "nothing"]

#: First and last code points of the dense scripts: kana, Chinese characters, Hangul; Thai and Lao; Burmese;
#: Khmer.
_DENSE = (
    (0x2E80, 0x2FFF), (0x3005, 0x3007), (0x3040, 0x31FF), (0x3400, 0x9FFF), (0xA960, 0xA97F),
    (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF),
)  # fmt: skip


@lru_cache(maxsize=1 << 16)
def sort_of(character: str) -> Sort:
    """What one character is part of."""
    category, code = unicodedata.category(character), ord(character)
    # Joiners, directions, and the choice between a plain and a coloured emoji show nothing by themselves.
    if category == "Cf" or 0xFE00 <= code <= 0xFE0F:
        return "nothing"
    if category[0] in "LMN":
        return "dense" if any(first <= code <= last for first, last in _DENSE) else "word"
    return "symbol" if category == "So" else "gap"


def normal_form(text: str) -> str:
    """``text`` in small letters of one width, without punctuation.

    Compatible forms become one (NFKC) and letters small (case folding). Whatever is neither letter, mark,
    digit nor a symbol such as an emoji is a gap. A gap between two words is one space; a gap beside a dense
    script is none, so that ``庆·余 年`` is ``庆余年``. The form of a normal form is itself.
    """
    # What was taken away may have stood between two characters that compose, and folding brings forth what
    # has a compatible form; most often the second round changes nothing.
    while (again := _once(text)) != text:
        text = again
    return text


def _once(text: str) -> str:
    out: list[str] = []
    last: Sort = "gap"
    is_after_gap = False
    for character in unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()):
        sort = sort_of(character)
        if sort == "nothing":
            continue
        if sort == "gap":
            is_after_gap = True
            continue
        if is_after_gap and sort == last == "word":
            out.append(" ")
        out.append(character)
        last, is_after_gap = sort, False
    return "".join(out)


def runs(normal: str) -> list[tuple[Sort, str]]:
    """A normal form cut into words, unbroken stretches of dense scripts, and stretches of symbols."""
    cut = [(sort, "".join(group)) for sort, group in groupby(normal, key=sort_of)]
    return [(sort, run) for sort, run in cut if sort not in ("gap", "nothing")]


def stands_in(name: str, text: str) -> bool:
    """Whether a name stands in a text as it is, and does not begin or end inside a word.

    Args:
        name: A normal form; the empty one stands nowhere.
        text: A normal form.
    """
    at = text.find(name) if name else -1
    while at >= 0:
        stop = at + len(name)
        if not _joins(text, at) and not _joins(text, stop):
            return True
        at = text.find(name, at + 1)
    return False


def _joins(text: str, at: int) -> bool:
    """Whether the characters before and at a place belong to one word."""
    return 0 < at < len(text) and sort_of(text[at - 1]) == sort_of(text[at]) == "word"
