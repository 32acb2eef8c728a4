"""Programs that a clip's text names: candidates from the catalog's search, scored exactly.

A score says how much of a program's title, or of one of its aliases, stands in the text at one place, and
how much that tells. Both count *grams*: pairs of characters of Chinese and other dense scripts, and of words
three letters, with the spaces between and around them. A gram weighs by how rare it is among titles.

Let ``I`` be the weight of the title's grams that stand in the text, and ``c`` their share of all its grams'.
The score is ``(1 - exp(-I² / 6)) c²``. A title of two Chinese characters or of three letters has an ``I`` of
about 1 and stays below 0.25 by itself: too many texts hold it by chance. Of three characters it reaches 0.5,
of five 0.93. One of a single character is never found.

Shape letters: none; texts are in the normal form of :mod:`index.names`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from index.names import normal_form, sort_of, stands_in

if TYPE_CHECKING:
    from index.catalog import Catalog

#: What a trigram of letters says, where a pair of Chinese characters says 1.
_WORD_UNITS = 0.4
#: The I at which the evidence is 1 - 1/e is the root of this.
_SCALE = 6.0
#: Of a title that does not stand in the text letter by letter.
_INEXACT = 0.9
#: Titles that are taken to be there at least: of few, nothing is known to be common.
_LEAST_TITLES = 1000
#: Candidates that are scored at least, and for each that is asked for.
_LEAST_SCORED, _SCORED_A_MATCH = 50, 4
#: Title marks, and the signs of a topic on sites for short videos, which end at a second sign or a space.
_MARKED = re.compile(
    r"《([^《》]+)》|〈([^〈〉]+)〉|『([^『』]+)』|「([^「」]+)」|#([^#\s]+)(?=[#\s]|$)|#([^#]+)#"
)


@dataclass(frozen=True)
class TitleMatch:
    """A program that a text names.

    Attributes:
        program_id: Which.
        score: In (0, 1], higher is better; no probability.
        matched: The title or alias, as the store has it.
    """

    program_id: str
    score: float
    matched: str

    def __post_init__(self) -> None:
        if not 0.0 < self.score <= 1.0:
            raise ValueError(f"score must be in (0, 1], got {self.score}")


@dataclass(frozen=True)
class TitleRarity:
    """How many names hold each gram.

    Attributes:
        n: Names counted.
        counts: Of the grams that at least two names hold; any other counts as rare.
    """

    n: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, documents: Iterable[str]) -> TitleRarity:
        """Count over documents of names, as :meth:`index.catalog.Catalog.names_by_program` gives them.

        Texts of clips may be among them: a title that is a common word among these then weighs less.
        """
        counts: Counter[str] = Counter()
        n = 0
        for document in documents:
            n += 1
            counts.update({gram for name in document.split("\n") for gram, _, _ in _grams(name)})
        return cls(n, {gram: count for gram, count in counts.items() if count > 1})

    def weight(self, gram: str) -> float:
        """1 where no other name has it, 0 where all have it."""
        others = self.counts.get(gram, 1) - 1
        return max(0.0, 1.0 - math.log1p(others) / self._most)

    @cached_property
    def _most(self) -> float:
        return math.log(max(self.n, _LEAST_TITLES))


def title_candidates(catalog: Catalog, text: str, *, k: int = 10) -> list[TitleMatch]:
    """The live programs whose title or alias stands in a text, wholly or in part.

    Args:
        catalog: As of its last refresh.
        text: A clip's title, description or burned-in text, taken literally; of any length.
        k: At most so many.

    Returns:
        By descending score; of equals those with the longer name first, then the older ones.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    found = catalog.search_titles(text, limit=max(_LEAST_SCORED, _SCORED_A_MATCH * k))
    if not found:
        return []
    rarity, reading = title_rarity(catalog), _Text(text)
    scored = []
    for record in found:
        names = [(normal_form(name), name) for name in (record.title, *record.aliases) if name]
        score, length, name = max(
            ((reading.score(normal, rarity), len(normal), name) for normal, name in names),
            key=lambda found: found[:2],
        )
        if score > 0:
            scored.append((-score, -length, record.number, TitleMatch(record.program_id, score, name)))
    return [match for *_, match in sorted(scored, key=lambda entry: entry[:3])[:k]]


def title_score(name: str, text: str, rarity: TitleRarity) -> float:
    """How much a text names a program called ``name``, in [0, 1]; see the module's head."""
    return _Text(text).score(normal_form(name), rarity)


def title_rarity(catalog: Catalog) -> TitleRarity:
    """Counted over all names of the catalog (30,000: 0.25 s), and kept until it changes."""
    version = catalog.version()
    kept = _RARITIES.get(catalog)
    if kept is None or kept[0] != version:
        kept = _RARITIES[catalog] = version, TitleRarity.of(catalog.names_by_program().values())
    return kept[1]


_RARITIES: WeakKeyDictionary[Catalog, tuple[int, TitleRarity]] = WeakKeyDictionary()


class _Text:
    """A text that names are looked for in."""

    def __init__(self, text: str) -> None:
        self.normal = normal_form(text)
        self.places: dict[str, list[int]] = {}
        for gram, _, at in _grams(self.normal):
            self.places.setdefault(gram, []).append(at)
        plain = unicodedata.normalize("NFKC", text)
        pieces = (next(filter(None, found.groups())) for found in _MARKED.finditer(plain))
        self.marked = {normal_form(piece) for piece in pieces}

    def score(self, normal: str, rarity: TitleRarity) -> float:
        """That of a name in the normal form."""
        weights = {gram: units * rarity.weight(gram) for gram, units, _ in _grams(normal)}
        total = sum(weights.values())
        if total <= 0:
            return 0.0
        if stands_in(normal, self.normal):
            told, exact = total, 1.0
        else:
            told, exact = self._told_at_one_place(weights, span=len(normal) * 3 // 2 + 1), _INEXACT
        evidence = 1.0 - math.exp(-(told**2) / _SCALE)
        if normal in self.marked:
            # Whoever marks a title means one: half of the doubt that its shortness leaves is gone.
            evidence = (1.0 + evidence) / 2
        return exact * evidence * (told / total) ** 2

    def _told_at_one_place(self, weights: Mapping[str, float], *, span: int) -> float:
        """The most weight of grams that begin within so many characters of each other."""
        hits = sorted((at, gram) for gram in weights for at in self.places.get(gram, ()))
        most, inside, count, start = 0.0, 0.0, Counter[str](), 0
        for at, gram in hits:
            while hits[start][0] <= at - span:
                gone = hits[start][1]
                count[gone] -= 1
                inside -= weights[gone] if not count[gone] else 0.0
                start += 1
            inside += weights[gram] if not count[gram] else 0.0
            count[gram] += 1
            most = max(most, inside)
        return min(most, sum(weights.values()))


def _grams(normal: str) -> Iterator[tuple[str, float, int]]:
    """Each gram of a normal form with its units and where it begins."""

    def sort(character: str) -> str:
        return "word" if character == " " else sort_of(character)

    at = 0
    for kind, group in groupby(normal, key=sort):
        stretch = "".join(group)
        if kind == "word":
            padded = f" {stretch.strip()} "
            for start in range(len(padded) - 2):
                yield padded[start : start + 3], _WORD_UNITS, at + start
        elif kind == "dense":
            for start in range(len(stretch) - 1):
                yield stretch[start : start + 2], 1.0, at + start
        at += len(stretch)
