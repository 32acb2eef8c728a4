"""Programs that a clip is about without being cut from them: behind the scenes, unseen shots, talk of fans.

Two sources of candidates: the embeddings of programs' stretches, near which the clip's lies, and their
titles, which the clip's words name. What they say becomes a confidence of its own, which has nothing to do
with that of a link: a related program has no segment, is never "copied from", and is not named where it is
linked anyway.

Shape letters: ``n`` clips, ``d`` dimensions, ``p`` candidate programs, ``f`` numbers of evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.base import NO_ID, Vectors
from index.protocols import Searchable
from matcher.records import Related
from matcher.titles import TitleMatch

#: Stretches that are looked up of a clip, and programs that are weighed.
NEIGHBOURS, PROGRAMS = 256, 32
#: Rivals whose similarity says what chance gives a clip.
RIVALS = 8
#: Spread of the rivals below which a lead is measured in this.
LEAST_SPREAD = 0.02
#: A lead counts so much at most.
MOST_LEAD = 10.0
#: Words of whatever length name at most so many programs.
TITLES = 8
#: Of a clip's words so many characters are searched for titles, and so many texts are remembered.
MOST_CHARACTERS, KNOWN_TEXTS = 1000, 4096
EVIDENCE = ("lead", "margin", "title", "title_margin")


@dataclass(frozen=True)
class RelatedWeights:
    """From evidence to confidence: a logistic regression.

    Attributes:
        bias: Log-odds without any evidence.
        weights: (f,) of :data:`EVIDENCE`.
        bar: Confidence from which a program is named.
        embedding: Fingerprint of the embeddings that it was fitted on; "" of the shipped one.
        cases: Clips that it was fitted on.
    """

    bias: float
    weights: tuple[float, ...]
    bar: float = 0.5
    embedding: str = ""
    cases: int = 0

    def __post_init__(self) -> None:
        if len(self.weights) != len(EVIDENCE) or not np.isfinite([self.bias, *self.weights]).all():
            raise ValueError(f"there must be {len(EVIDENCE)} finite weights and a bias")
        if not 0 < self.bar <= 1:
            raise ValueError(f"bar must be above 0 and at most 1, got {self.bar}")

    def confidence(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """(p, f) → (p,) in 0 to 1."""
        log_odds = self.bias + evidence @ np.array(self.weights)
        confidence: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -500, 500)))
        return confidence

    @classmethod
    def of_words(cls, words: Mapping[str, Any]) -> RelatedWeights:
        """Of a mapping of its attributes.

        Raises:
            KeyError: One is lacking.
            TypeError: One is unknown.
            ValueError: A value is out of its range.
        """
        return cls(**{**words, "weights": tuple(words["weights"])})


#: Of the parameter-free embedding. The embedding's part by :mod:`matcher.related_fit` on 448 stretches of 113
#: open-licensed films and generated dramas. The titles' part is set: a whole title that names one program
#: alone makes 0.75, one that two programs share or half of one stays below 0.5. In the mix of titles that
#: `matcher eval related` sets, a whole title is right in 0.68 of the clips of known programs
#: (docs/related.md).
SHIPPED = RelatedWeights(bias=-5.2, weights=(2.7, 0.3, 3.9, 2.4))

#: Programs that words name: the words, and how many at most.
TitleSearch = Callable[[str, int], Sequence[TitleMatch]]


@dataclass(frozen=True)
class Lead:
    """What speaks for each candidate program of one clip.

    Attributes:
        positions: (p,) of the programs in the index's view.
        similarity: (p,) of the nearest stretch; NaN where none is among the neighbours.
        titles: p matches; None where the words do not name it.
        evidence: (p, f), see :data:`EVIDENCE`.
    """

    positions: NDArray[np.int64]
    similarity: NDArray[np.float64]
    titles: tuple[TitleMatch | None, ...]
    evidence: NDArray[np.float64]


def nearest_programs(
    similarities: NDArray[np.float32], program: NDArray[np.int32], *, hidden: Collection[int] = ()
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Of each clip the programs of its neighbours by their best similarity, the best first.

    Args:
        similarities: (n, k) descending.
        program: (n, k) positions; -1 where there is no neighbour.
        hidden: Positions that are passed over.

    Returns:
        n pairs of positions and similarities, at most :data:`PROGRAMS` each.
    """
    out = []
    for row, whose in zip(similarities, program, strict=True):
        counts = (whose >= 0) & ~np.isin(whose, list(hidden))
        programs, first = np.unique(whose[counts], return_index=True)
        best = row[counts][first].astype(np.float64)
        order = np.lexsort((programs, -best))[:PROGRAMS]
        out.append((programs[order].astype(np.int64), best[order]))
    return out


def weigh_related(
    positions: NDArray[np.int64], best: NDArray[np.float64], titles: Mapping[int, TitleMatch]
) -> Lead:
    """What speaks for each program of one clip.

    *lead*: how far its similarity is above the mean of the next programs', in their spread; *margin*: above
    the best other one's; *title*: how much of a title stands in the words; *title_margin*: above the best
    other one's. A program that is not among the neighbours has no lead, nor has one below that mean: talk of
    a program need not look like it, and in a store of a few every program is a neighbour. One that is alone
    has no rival.

    Args:
        positions: (p,) from :func:`nearest_programs`, the best first.
        best: (p,) their similarities.
        titles: Matches by position, of these and of others.
    """
    named = np.array([place for place in titles if place not in set(positions.tolist())], np.int64)
    everyone = np.concatenate([positions, named])
    near = len(positions)
    evidence = np.zeros((len(everyone), len(EVIDENCE)))
    similarity = np.full(len(everyone), np.nan)
    similarity[:near] = best
    for place in range(near):
        rivals = np.delete(best, place)[:RIVALS]
        if len(rivals) == 0:
            continue
        spread = max(LEAST_SPREAD, float(rivals.std()))
        evidence[place, 0] = np.clip((best[place] - rivals.mean()) / spread, 0.0, MOST_LEAD)
        evidence[place, 1] = best[place] - rivals[0]
    scores = np.array([titles[int(place)].score if int(place) in titles else 0.0 for place in everyone])
    for named_place in np.flatnonzero(scores).tolist():
        others = np.delete(scores, named_place)
        evidence[named_place, 2] = scores[named_place]
        evidence[named_place, 3] = scores[named_place] - (others.max() if len(others) else 0.0)
    return Lead(everyone, similarity, tuple(titles.get(int(place)) for place in everyone), evidence)


class RelatedSearch:
    """Finds the programs that clips are about.

    Args:
        live: The embeddings of programs.
        titles: Finds programs by their titles; None where words are not asked.
        weights: From evidence to confidence.
    """

    def __init__(self, live: Searchable, titles: TitleSearch | None, weights: RelatedWeights) -> None:
        self._live, self._titles, self.weights = live, titles, weights
        self._known: dict[tuple[int, str], tuple[TitleMatch, ...]] = {}

    def leads(
        self, embeddings: Vectors, words: Sequence[str | None], *, hidden: Collection[int] = ()
    ) -> list[Lead]:
        """What speaks for each candidate program of each clip.

        Args:
            embeddings: (n, d); a row of zeros has no neighbours.
            words: n.
            hidden: Positions of programs that are passed over.
        """
        view = self._live.view
        found = self._live.search(embeddings, NEIGHBOURS)
        program = view.locate(found.ids).program_position
        is_something = (embeddings != 0).any(axis=1, keepdims=True)
        program = np.where((found.ids != NO_ID) & is_something, program, -1).astype(np.int32)
        place_of = {record.program_id: place for place, record in enumerate(view.program_records)}
        leads = []
        for (positions, best), text in zip(
            nearest_programs(found.similarities, program, hidden=hidden), words, strict=True
        ):
            matches = self._named(text[:MOST_CHARACTERS]) if text else ()
            titles = {
                place_of[match.program_id]: match
                for match in matches
                if match.program_id in place_of and place_of[match.program_id] not in hidden
            }
            leads.append(weigh_related(positions, best, titles))
        return leads

    def program_ids(self, lead: Lead) -> list[str]:
        """The p programs of a lead that this search found."""
        records = self._live.view.program_records
        return [records[place].program_id for place in lead.positions]

    def _named(self, text: str) -> Sequence[TitleMatch]:
        """Programs that words name; clips of one uploader, or of one drama, are often called the same."""
        if self._titles is None:
            return ()
        key = self._live.version, text
        if key not in self._known:
            if len(self._known) >= KNOWN_TEXTS:
                self._known.clear()
            self._known[key] = tuple(self._titles(text, TITLES))
        return self._known[key]

    def related(
        self, embeddings: Vectors, words: Sequence[str | None], *, most: int = 3
    ) -> list[tuple[Related, ...]]:
        """The programs that each clip is about, the most likely first; empty where none is.

        Args:
            embeddings: (n, d).
            words: n.
            most: Programs named of a clip.
        """
        records = self._live.view.program_records
        out = []
        for lead in self.leads(embeddings, words):
            confidence = self.weights.confidence(lead.evidence)
            order = np.lexsort((lead.positions, -confidence))[:most]
            out.append(
                tuple(
                    _related(lead, int(place), records[lead.positions[place]].program_id,
                             records[lead.positions[place]].title, float(confidence[place]))
                    for place in order
                    if confidence[place] >= self.weights.bar
                )
            )  # fmt: skip
        return out


def _related(lead: Lead, place: int, program_id: str, title: str, confidence: float) -> Related:
    similarity, match = float(lead.similarity[place]), lead.titles[place]
    return Related(
        program_id, title, confidence, None if np.isnan(similarity) else similarity,
        0.0 if match is None else match.score, "" if match is None else match.matched,
    )  # fmt: skip
