"""Titles as uploaders write them: some name the program, some half of it, some nothing, some another one.

Drawn in a mix that is set, not measured; :data:`MIX` says how much of what. Every program has a title and a
Chinese second title, made up for the purpose, and an uploader uses either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Says = Literal["title", "second title", "typo", "half", "nothing", "another"]
#: What a clip's title says of its program, and how many of a hundred do.
MIX: Mapping[Says, int] = {
    "title": 24, "second title": 10, "typo": 6, "half": 15, "nothing": 30, "another": 15
}  # fmt: skip
#: Those of which a stranger's title says none: they would name a program that is not there.
NAMES: tuple[Says, ...] = ("title", "second title", "typo")

_ENGLISH = (
    "Behind the scenes of {}", "{} - trailer you have not seen", "why everybody talks about {}",
    "{}: cast interview", "fan talk: {} finale explained", "the making of {} | part 2", "new {} teaser!!",
    "reacting to {} so you don't have to",
)  # fmt: skip
_CHINESE = (
    "《{}》幕后花絮", "{} 未播片段", "聊聊{}的结局", "#{}# 主演采访", "追剧日记：{}到底好看吗",
    "【{}】先导预告",
)  # fmt: skip
_NOTHING = (
    "watch till the end", "best moments compilation", "you will not believe this scene",
    "edit by me, no copyright intended",
    "名场面合集", "这段看哭了", "全程高能，一口气看完", "随手剪辑 求关注",
)  # fmt: skip
_FIRST = ("长安", "明月", "青山", "风雪", "海棠", "旧城", "星河", "孤岛", "春江", "白夜", "云水", "铁马")
_SECOND = ("往事", "传说", "来信", "追凶", "归途", "秘闻", "十年", "之约", "风云", "食记", "少年", "无声")


@dataclass(frozen=True)
class Names:
    """What a program is called.

    Attributes:
        title: As the catalogue has it.
        second: The Chinese one.
    """

    title: str
    second: str


@dataclass(frozen=True)
class ClipTitle:
    """What an uploader wrote.

    Attributes:
        text: The title.
        says: What it says of the clip's program.
        names: Program that it names rightly or wrongly; "" where it names none in full.
    """

    text: str
    says: Says
    names: str = ""


def second_titles(n: int, rng: np.random.Generator) -> list[str]:
    """Chinese titles of four characters or more; halves of them recur, as in life.

    Args:
        n: How many; all different.
        rng: The source of randomness.
    """
    pairs = [first + second for first in _FIRST for second in _SECOND]
    order = [pairs[place] for place in rng.permutation(len(pairs))]
    return [f"{order[i % len(order)]}{'' if i < len(order) else i // len(order) + 1}" for i in range(n)]


def deal_says(n: int, rng: np.random.Generator, *, without: Sequence[Says] = ()) -> list[Says]:
    """What n titles say, in the shares of :data:`MIX` as nearly as n allows, in a random order.

    Args:
        n: How many.
        rng: The source of randomness.
        without: What none of them says.
    """
    kinds: list[Says] = [kind for kind in get_args(Says) if kind not in without]
    shares = np.array([MIX[kind] for kind in kinds], np.float64)
    # The places of n evenly spread marks on the shares' scale, so that each share is met within one.
    marks = (np.arange(n) + rng.random()) * shares.sum() / max(1, n)
    dealt = [kinds[place] for place in np.searchsorted(np.cumsum(shares), marks, side="right")]
    return [dealt[place] for place in rng.permutation(n)]


def write_title(
    says: Says, own: str, names: Mapping[str, Names], others: Sequence[str], rng: np.random.Generator
) -> ClipTitle:
    """Write the title of one clip.

    Args:
        says: What it says.
        own: The clip's program.
        names: Of all programs, strangers too.
        others: Programs that a title may name wrongly; its own is passed over.
        rng: The source of randomness.

    Raises:
        ValueError: Another program is to be named, and there is none.
    """
    if says == "nothing":
        return ClipTitle(str(rng.choice(_NOTHING)), says)
    if says == "another":
        among = [name for name in others if name != own]
        if not among:
            raise ValueError(f"no other program can be named in a title of {own}")
        who = among[int(rng.integers(len(among)))]
        called = names[who].title if rng.random() < 0.5 else names[who].second
        return ClipTitle(_phrase(called, rng), says, who)
    called = {
        "title": names[own].title,
        "second title": names[own].second,
        "typo": misspelt(names[own].title if rng.random() < 0.5 else names[own].second, rng),
        "half": half(names[own].title if rng.random() < 0.5 else names[own].second, rng),
    }[says]
    return ClipTitle(_phrase(called, rng), says, "" if says == "half" else own)


def _phrase(called: str, rng: np.random.Generator) -> str:
    """Chinese names go into both kinds of phrases now and then, as English ones do."""
    is_chinese = not called.isascii()
    is_crossed = rng.random() < 0.25
    return str(rng.choice(_CHINESE if is_chinese != is_crossed else _ENGLISH)).format(called)


def misspelt(title: str, rng: np.random.Generator) -> str:
    """A title with one slip: two letters exchanged, or one Chinese character for another."""
    letters = list(title)
    if not title.isascii():
        at = int(rng.integers(len(letters)))
        others = [c for c in "".join(_FIRST + _SECOND) if c != letters[at]]
        letters[at] = str(rng.choice(others))
        return "".join(letters)
    places = [i for i in range(len(letters) - 1) if letters[i] != letters[i + 1]]
    if places:
        at = int(rng.choice(places))
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def half(title: str, rng: np.random.Generator) -> str:
    """The first or the last half of a title: of its words where it has several, else of its characters."""
    words = title.split()
    parts, glue = (words, " ") if len(words) > 1 else (list(title), "")
    middle = len(parts) // 2
    return glue.join(parts[:middle] if rng.random() < 0.5 else parts[middle:])
