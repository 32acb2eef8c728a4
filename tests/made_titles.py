"""Titles in Chinese and English made of a few hundred made-up words, and what people write around them."""

from __future__ import annotations

import random

LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: 1,200 Chinese characters; the first ones are drawn most often.
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 1200)]
_CONSONANTS = [*"bdfghklmnprstvz", "th", "sh", "st", "br"]
_SYLLABLES = [c + v for c in _CONSONANTS for v in [*"aeiou", "ar", "en"]]
_rng = random.Random(0)
WORDS = sorted({"".join(_rng.choices(_SYLLABLES, k=_rng.choice([1, 2, 2, 3]))) for _ in range(700)})
_rng.shuffle(WORDS)
HAN_WORDS = sorted(
    {
        "".join(_rng.choices(HAN, [1 / (i + 20) for i in range(len(HAN))], k=_rng.choice([1, 2, 2, 2, 3])))
        for _ in range(900)
    }
)
_rng.shuffle(HAN_WORDS)


def _drawn(rng: random.Random, words: list[str], k: int) -> list[str]:
    """So many of the words, the first ones most often, as in any language."""
    return rng.choices(words, [1 / (i + 5) for i in range(len(words))], k=k)


def chinese(rng: random.Random) -> str:
    """Some 3 to 9 characters."""
    return "".join(dict.fromkeys(_drawn(rng, HAN_WORDS, rng.randint(2, 4))))


def english(rng: random.Random) -> str:
    """2 to 4 words with capitals."""
    return " ".join(dict.fromkeys(_drawn(rng, WORDS, rng.randint(2, 4)))).title()


def titles(n: int, seed: int, *, least: int = 4) -> list[str]:
    """n different ones of at least so many characters, half of them Chinese, in no order."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        title = (chinese, english)[len(found) % 2](rng)
        if len(title) >= (least if title[0] in HAN else 2 * least):
            found[title] = None
    return list(found)


def with_typo(title: str, rng: random.Random) -> str:
    """One character replaced, added or left out."""
    letters = HAN if title[0] in HAN else list(LETTERS)
    at = rng.randrange(len(title))
    middle = rng.choice([rng.choice(letters), title[at] + rng.choice(letters), ""])
    return title[:at] + middle + title[at + 1 :]


def around(title: str, rng: random.Random, *, words: int = 2) -> str:
    """A clip's title: the title among some words of its language, punctuation and an episode's number."""
    is_chinese = title[0] in HAN
    before, after = (_drawn(rng, HAN_WORDS if is_chinese else WORDS, rng.randint(0, words)) for _ in range(2))
    gap = "" if is_chinese else " "
    number = rng.randint(1, 40)
    episode = rng.choice(["", f"第{number}集" if is_chinese else f"Ep.{number}"])
    quoted = rng.choice([title, f"《{title}》" if is_chinese else f'"{title}"', f"#{title}#", title.upper()])
    return f"{gap.join(before)} {quoted} {episode} {gap.join(after)} {rng.choice(['', '!!', '😂', '…'])}"
