"""Made-up titles in two languages, and their vectors.

Words are drawn from syllables and from common characters; they mean nothing, so that a title tells of its
class only what the generator lets it tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.encoders.text import NgramTextEncoder

LANGUAGES = ("zh", "en")
#: Synonyms of a class in each language: a model has to learn several words for one thing.
N_SYNONYMS = 2
_N_FILLERS = 60
_SYLLABLES = tuple(first + last for first in "bdfgklmnprst" for last in "aeio")
_CHARACTERS = (
    "天地人山水火风云日月星光花草树木春夏秋冬东西南北江河湖海城门宫殿王后将军公主书剑琴画龙凤虎马"
    "红白青黄金银玉石心情爱恨生死梦醒来去归路远近长短新旧古今家国村镇楼台亭阁夜雨晨雪霜露笑哭言语"
)


@dataclass(frozen=True)
class Words:
    """The words of a world, by language and class.

    Attributes:
        tier2: By language, class and synonym.
        tier3: Likewise.
        fillers: By language: words that say nothing.
    """

    tier2: dict[str, list[list[str]]]
    tier3: dict[str, list[list[str]]]
    fillers: dict[str, list[str]]


def make_words(n_classes: tuple[int, int, int], rng: np.random.Generator) -> Words:
    """Draw words for the classes of tiers 2 and 3; none is used twice."""
    _, n2, n3 = n_classes
    tier2, tier3, fillers = {}, {}, {}
    for language in LANGUAGES:
        drawn = draw_words(language, (n2 + n3) * N_SYNONYMS + _N_FILLERS, rng)
        of_classes = [drawn[N_SYNONYMS * k : N_SYNONYMS * (k + 1)] for k in range(n2 + n3)]
        tier2[language], tier3[language] = of_classes[:n2], of_classes[n2:]
        fillers[language] = drawn[-_N_FILLERS:]
    return Words(tier2, tier3, fillers)


def draw_words(language: str, n: int, rng: np.random.Generator) -> list[str]:
    """``n`` different words: two characters, or three syllables."""
    letters, length = (tuple(_CHARACTERS), 2) if language == "zh" else (_SYLLABLES, 3)
    words: dict[str, None] = {}
    while len(words) < n:
        words["".join(letters[k] for k in rng.integers(len(letters), size=length))] = None
    return list(words)


def join_words(language: str, words: Sequence[str]) -> str:
    """As the language writes them: with spaces, or without."""
    return ("" if language == "zh" else " ").join(words)


def encode_titles(titles: Sequence[str], d: int) -> NDArray[np.float32]:
    """By the program's own text encoder, which hashes what Chinese and English words are made of.

    Args:
        titles: n of them; an empty one becomes zeros.
        d: Dimensions.

    Returns:
        (n, d) float32 rows of length 1.
    """
    return NgramTextEncoder(d).encode(titles)
