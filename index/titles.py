"""How titles are searched by text, in plain Python: the specification of the catalog's full-text index.

A program's title and aliases, in their normal form, are one document, and its words are its n-grams of 2 and
3 characters: of Chinese and English alike, with nothing to download. Documents are ranked by Okapi BM25
(Robertson and Zaragoza 2009), with the numbers that Lance takes. Where all rows are in the index the two give
the same scores; rows that came since are scored by Lance with what is common among themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from index.names import normal_form

LEAST_NGRAM, MOST_NGRAM = 2, 3
#: BM25's k1 and b, as Lance has them.
_K1, _B = 1.2, 0.75
#: A longer text is cut into windows that overlap by more than most titles are long: a search costs what its
#: n-grams cost, and in a text of thousands of characters those of one title would drown.
_WINDOW, _OVERLAP = 128, 32


def names_document(title: str, aliases: Iterable[str]) -> str:
    """What is indexed of a program: the normal forms of its title and aliases, a line each, none twice."""
    return "\n".join(filter(None, dict.fromkeys(map(normal_form, (title, *aliases)))))


def windows(text: str) -> list[str]:
    """The normal form of a text, cut into windows; none where nothing can be searched for."""
    normal = normal_form(text)
    starts = range(0, max(1, len(normal) - _OVERLAP), _WINDOW - _OVERLAP)
    cut = (normal[start : start + _WINDOW] for start in starts)
    return [window for window in cut if len(window) >= LEAST_NGRAM]


def ngrams(document: str) -> Iterator[str]:
    """Every stretch of 2 and of 3 characters, across spaces and lines."""
    for length in range(LEAST_NGRAM, MOST_NGRAM + 1):
        for start in range(len(document) - length + 1):
            yield document[start : start + length]


class Counted:
    """Documents whose n-grams are counted once, to be scored against any number of windows.

    Args:
        documents: In any order; a score names them by row.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        self._counts = [Counter(ngrams(document)) for document in documents]
        self._frequency: Counter[str] = Counter()
        for count in self._counts:
            self._frequency.update(count.keys())
        self._lengths = [count.total() for count in self._counts]
        self._mean_length = sum(self._lengths) / max(1, len(self._lengths))

    def scan(self, window: str, *, limit: int) -> list[tuple[int, float]]:
        """Score every document against a window.

        Returns:
            The row and score of at most ``limit`` documents that share an n-gram with it, best first, and of
            equals the first ones.
        """
        wanted = set(ngrams(window))
        frequency = self._frequency
        scored = []
        for row, (count, length) in enumerate(zip(self._counts, self._lengths, strict=True)):
            shared = wanted & count.keys()
            if shared:
                saturation = _K1 * (1 - _B + _B * length / self._mean_length)
                score = sum(
                    math.log(1 + (len(self._counts) - frequency[gram] + 0.5) / (frequency[gram] + 0.5))
                    * count[gram] * (_K1 + 1) / (count[gram] + saturation)
                    for gram in sorted(shared)
                )  # fmt: skip
                scored.append((row, score))
        return sorted(scored, key=lambda pair: -pair[1])[:limit]
