"""The three tiers of a clip: heads and examples together, consistent down the tree.

Every tier has a head of its own, trained and released apart; a class that no head knows is answered by its
examples. A head whose classes exclude each other (its ``rivalry``) gives all of a clip to those that it
knows, for it cannot know of others. Where examples say that a clip is of a new class with probability p, the
head's classes share what is left, 1 - rivalry * p each time.

**The rule of the tree**: a category is never more probable than the one above it, nor than any
above that; where it came out so, it is lowered to it. Nothing is raised and upper tiers are left as they are,
so that a new head of tier 3 changes no answer of tiers 1 and 2, which stay as calibrated as they were. A
category that neither a head nor an example answers is as probable as the most probable one below it, which is
the least that it can be; where there is none either, it takes no part.

The **best path** goes down the tree: the best category of tier 1, the best of its children, and so on.

What a linked program's own category says is **evidence, not truth**, and moves no probability. A wrong link
would carry its category along and then look confirmed by it; what is about a program need not be of its kind
(an interview with the cast of a drama); and where labels were taken from programs, a head has already learned
what they say, and would count it twice. Agreement and conflict are reported beside the answer.

Shape letters: ``N`` clips, ``D`` dimensions of an embedding, ``C`` categories of a tier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from matcher.category_examples import ExampleBank, check_model
from matcher.category_head import Floats, TierHead
from matcher.errors import InputError
from matcher.inputs import TIERS, listed, one_line
from matcher.taxonomy import Category, Taxonomy

Basis = Literal["head", "examples", "program"]
Verdict = Literal["agree", "conflict", "unknown"]
TAXONOMY_FILE = "taxonomy.toml"
EXAMPLES_FILE = "examples.safetensors"
#: Other answers that are worth a line have at least this probability; so many a tier.
LEAST_ALTERNATIVE = 0.05
N_ALTERNATIVES = 3


def head_file(tier: int) -> str:
    """The name of a tier's head in a folder of categories."""
    return f"tier{tier}.safetensors"


@dataclass(frozen=True)
class TierAnswer:
    """One tier's answer for one clip.

    Attributes:
        tier: 1, 2 or 3.
        category: The best one; None below the least confidence, or where nobody answers the tier.
        confidence: The best one's, named or not; None where nobody answers.
        basis: By what; None where nobody answers.
    """

    tier: int
    category: Category | None
    confidence: float | None
    basis: Basis | None


@dataclass(frozen=True)
class Alternative:
    """A category that was not chosen, and its probability."""

    category: Category
    confidence: float
    basis: Basis


@dataclass(frozen=True)
class Prediction:
    """What a clip is.

    Attributes:
        tiers: One answer a tier of the taxonomy, down one path.
        alternatives: The next best of every tier, by tier and then by confidence.
    """

    tiers: tuple[TierAnswer, ...]
    alternatives: tuple[Alternative, ...] = ()

    @property
    def path(self) -> str | None:
        """As far down as it is named; None where no tier is."""
        named = [one.category.path for one in self.tiers if one.category is not None]
        return named[-1] if named else None

    @property
    def basis(self) -> Basis | None:
        """That of the lowest named tier; where none is named, of the lowest answered one."""
        answered = [one.basis for one in self.tiers if one.basis is not None]
        named = [one.basis for one in self.tiers if one.category is not None]
        return (named or answered or [None])[-1]


@dataclass(frozen=True)
class Evidence:
    """How a program's own category compares with a prediction.

    Attributes:
        tiers: By tier; "unknown" where either has no category there.
        path: The program's category that agrees furthest down; "" where it has none.
    """

    tiers: tuple[Verdict, ...]
    path: str = ""

    @property
    def agrees(self) -> bool | None:
        """False where any tier conflicts, True where one agrees and none conflicts, else None."""
        if "conflict" in self.tiers:
            return False
        return True if "agree" in self.tiers else None


@dataclass(frozen=True)
class CategoryModel:
    """Up to three heads, a bank of examples, and the taxonomy that the answers are of.

    A head of another version of the taxonomy is used as far as its classes are found in this one by path,
    where an alias is as good as a name; ``notes`` say which are not.

    Attributes:
        taxonomy: Of the answers.
        heads: At most one a tier.
        bank: Examples of classes that no head knows.

    Raises:
        ValueError: Two heads are of one tier.
        InputError: They were made with embeddings of several models.
    """

    taxonomy: Taxonomy
    heads: tuple[TierHead, ...] = ()
    bank: ExampleBank | None = None

    def __post_init__(self) -> None:
        if len({head.tier for head in self.heads}) < len(self.heads):
            raise ValueError("two heads are of one tier")
        for one, name in self._parts():
            check_model(self.model, one.model, name)

    @classmethod
    def load(cls, folder: Path, taxonomy: Taxonomy | None = None) -> CategoryModel:
        """Read a folder that ``matcher train categories`` wrote.

        Args:
            folder: With its taxonomy, and a head or examples.
            taxonomy: Answers are of this one; by default that of the folder.

        Raises:
            InputError: A file is damaged, or there is neither a head nor a bank of examples.
        """
        paths = [folder / head_file(tier) for tier in range(1, TIERS + 1)]
        heads = tuple(TierHead.load(path) for path in paths if path.is_file())
        examples = folder / EXAMPLES_FILE
        bank = ExampleBank.load(examples) if examples.is_file() else None
        if not heads and bank is None:
            raise InputError(
                f"no head and no examples in {one_line(str(folder))}; give a folder that"
                " `matcher train categories` wrote"
            )
        return cls(taxonomy or Taxonomy.load(folder / TAXONOMY_FILE), heads, bank)

    @property
    def model(self) -> str:
        """Fingerprint of the model that made the embeddings; "" where any will do."""
        return next((one.model for one, _ in self._parts() if one.model), "")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that an answer depends on, 12 hex digits."""
        own = [self.taxonomy.fingerprint(), *(one.fingerprint for one, _ in self._parts())]
        return hashlib.sha256(" ".join(own).encode()).hexdigest()[:12]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """A line for each head some of whose classes the taxonomy does not have, and for a bank likewise."""
        lines = []
        for one, name in self._parts():
            lost = [path for path in one.class_paths if self.taxonomy.find(path) is None]
            if lost:
                lines.append(
                    f"{name} knows {len(lost)} categories that are not in taxonomy {self.taxonomy.label} and"
                    f" are left out: {listed(lost)}"
                )
        return tuple(lines)

    def probabilities(self, x: NDArray[np.float32]) -> tuple[Floats, ...]:
        """Consistent probabilities of embeddings (N, D): (N, C) a tier, NaN where nobody answers.

        Raises:
            ValueError: The embeddings have other dimensions.
        """
        n = len(x)
        raw = [np.full((n, len(self.taxonomy.tier(tier))), np.nan) for tier in self._tiers]
        for part, columns in self._columns:
            p = part.probabilities(x)
            if isinstance(part, TierHead):
                p *= np.nanprod(1 - part.rivalry * raw[part.tier - 1], axis=1, keepdims=True)
            for column, category in columns:
                raw[category.tier - 1][:, self.taxonomy.index_of(category)] = p[:, column]
        parents = [self.taxonomy.parents_array(tier) for tier in self._tiers[1:]]
        return make_consistent(raw, parents)

    def predict(self, x: NDArray[np.float32], *, min_confidence: float = 0.0) -> list[Prediction]:
        """Answer for embeddings (N, D).

        Args:
            x: Embeddings of the model that the heads were trained on.
            min_confidence: A category less confident is not named. By the rule of the tree, nothing below
                it is either.

        Raises:
            ValueError: The embeddings have other dimensions, or ``min_confidence`` is not in [0, 1].
        """
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence must be from 0 to 1, got {min_confidence}")
        by_tier = self.probabilities(x)
        return [self._prediction([p[row] for p in by_tier], min_confidence) for row in range(len(x))]

    def agreement(self, prediction: Prediction, program_categories: Iterable[str]) -> Evidence:
        """Compare with the categories of the program that a clip is linked to.

        Args:
            prediction: The clip's.
            program_categories: ``tier1[/tier2[/tier3]]`` each; those that the taxonomy lacks say nothing.
        """
        return agreement(prediction, program_categories, self.taxonomy)

    def words(self, prediction: Prediction, evidence: Evidence | None = None) -> dict[str, Any]:
        """The ``categories`` of a query's JSON object."""
        return category_words(prediction, evidence, model=self.fingerprint, taxonomy=self.taxonomy.label)

    @property
    def _tiers(self) -> range:
        return range(1, self.taxonomy.n_tiers + 1)

    def _parts(self) -> list[tuple[TierHead | ExampleBank, str]]:
        heads: list[tuple[TierHead | ExampleBank, str]] = [
            (head, f"the head of tier {head.tier}") for head in sorted(self.heads, key=lambda one: one.tier)
        ]
        return heads if self.bank is None else [*heads, (self.bank, "the bank of examples")]

    @cached_property
    def _columns(self) -> list[tuple[TierHead | ExampleBank, list[tuple[int, Category]]]]:
        """Which category each column of each part is: the bank's that no head knows, then the heads'."""
        heads = [(head, self._found(head)) for head in self.heads]
        learned = {category.path for _, columns in heads for _, category in columns}
        parts: list[tuple[TierHead | ExampleBank, list[tuple[int, Category]]]] = []
        if self.bank is not None:
            new = [(column, one) for column, one in self._found(self.bank) if one.path not in learned]
            parts.append((self.bank, new))
        parts += heads
        return [(part, columns) for part, columns in parts if columns]

    def _found(self, part: TierHead | ExampleBank) -> list[tuple[int, Category]]:
        found = [(column, self.taxonomy.find(path)) for column, path in enumerate(part.class_paths)]
        return [(column, one) for column, one in found if one is not None]

    @cached_property
    def _bases(self) -> dict[str, Basis]:
        """By path what a category is answered by; that of something below it where it has nothing."""
        bases: dict[str, Basis] = {}
        for part, columns in self._columns:
            bases |= dict.fromkeys(
                (one.path for _, one in columns), "head" if isinstance(part, TierHead) else "examples"
            )
        for tier in reversed(self._tiers):
            for one in self.taxonomy.tier(tier):
                below = [bases[child.path] for child in self.taxonomy.children_of(one) if child.path in bases]
                if one.path not in bases and below:
                    bases[one.path] = "head" if "head" in below else "examples"
        return bases

    def _prediction(self, by_tier: Sequence[Floats], min_confidence: float) -> Prediction:
        """The best path of one clip and what else is likely, of probabilities (C,) a tier."""
        tiers: list[TierAnswer] = []
        chosen: set[str] = set()
        places = self.taxonomy.tier(1)
        for tier, p in zip(self._tiers, by_tier, strict=True):
            answered = [
                (float(p[place]), one)
                for one in places
                if not np.isnan(p[place := self.taxonomy.index_of(one)])
            ]
            if not answered:
                tiers.append(TierAnswer(tier, None, None, None))
                places = ()
                continue
            confidence, best = max(answered, key=lambda pair: pair[0])
            named = best if confidence >= min_confidence else None
            if named is not None:
                chosen.add(named.path)
            tiers.append(TierAnswer(tier, named, confidence, self._bases[best.path]))
            places = self.taxonomy.children_of(best)
        return Prediction(tuple(tiers), tuple(self._alternatives(by_tier, chosen)))

    def _alternatives(self, by_tier: Sequence[Floats], chosen: set[str]) -> Iterable[Alternative]:
        for tier, p in zip(self._tiers, by_tier, strict=True):
            categories = self.taxonomy.tier(tier)
            likely = np.flatnonzero(np.nan_to_num(p, nan=-1.0) >= LEAST_ALTERNATIVE)
            ranked = likely[np.argsort(-p[likely], kind="stable")]
            others = [place for place in ranked if categories[place].path not in chosen]
            for place in others[:N_ALTERNATIVES]:
                one = categories[place]
                yield Alternative(one, float(p[place]), self._bases[one.path])


def make_consistent(
    probabilities: Sequence[Floats], parents: Sequence[NDArray[np.int64]]
) -> tuple[Floats, ...]:
    """Apply the rule of the tree, as the head of this module has it.

    Args:
        probabilities: (N, C) a tier, NaN where nobody answers.
        parents: From tier 2 on, (C,) the place of each category's parent in the tier above.

    Returns:
        The same shapes: everything is at most what is above it. NaN where nothing below is answered either.
    """
    lowered = [probabilities[0].copy()]
    ceilings = np.nan_to_num(probabilities[0], nan=np.inf)
    for own, parent in zip(probabilities[1:], parents, strict=True):
        ceilings = np.fmin(own, ceilings[:, parent])  # passes the ceiling on where nobody answers
        lowered.append(np.where(np.isnan(own), np.nan, ceilings))
    for tier in range(len(parents) - 1, -1, -1):
        below = np.full(lowered[tier].T.shape, np.nan)
        np.fmax.at(below, parents[tier], lowered[tier + 1].T)
        lowered[tier] = np.where(np.isnan(lowered[tier]), below.T, lowered[tier])
    return tuple(lowered)


def agreement(prediction: Prediction, program_categories: Iterable[str], taxonomy: Taxonomy) -> Evidence:
    """Compare a prediction with a program's own categories; see :class:`Evidence`."""
    paths = [path for path in program_categories if path.strip()]
    lineages = [taxonomy.lineage_of(one) for path in paths if (one := taxonomy.find(path)) is not None]
    verdicts: list[Verdict] = []
    for answer in prediction.tiers:
        own = [line[answer.tier - 1] for line in lineages if len(line) >= answer.tier]
        if answer.category is None or not own:
            verdicts.append("unknown")
        else:
            verdicts.append("agree" if answer.category in own else "conflict")
    predicted = {one.category for one in prediction.tiers if one.category is not None}
    nearest = max(lineages, key=lambda line: len(predicted & set(line)), default=None)
    path = nearest[-1].path if nearest else (paths[0] if paths else "")
    return Evidence(tuple(verdicts), path)


def program_prediction(
    program_categories: Iterable[str], taxonomy: Taxonomy, *, confidence: float | None = None
) -> Prediction:
    """What stands in where nothing was trained: the first category of the linked program.

    Args:
        program_categories: The program's, that of most weight first.
        taxonomy: Of the answer.
        confidence: That of the link, or None: how often a clip is of its program's kind is not measured.
    """
    found = [one for path in program_categories if (one := taxonomy.find(path)) is not None]
    line = taxonomy.lineage_of(found[0]) if found else ()
    return Prediction(
        tuple(
            TierAnswer(tier, line[tier - 1], confidence, "program")
            if len(line) >= tier
            else TierAnswer(tier, None, None, None)
            for tier in range(1, taxonomy.n_tiers + 1)
        )
    )


def category_words(
    prediction: Prediction, evidence: Evidence | None, *, model: str | None, taxonomy: str
) -> dict[str, Any]:
    """A prediction as JSON takes it.

    Args:
        prediction: Of a clip.
        evidence: Of its program; None where it is linked to none.
        model: Fingerprint of the category model; None where there is none.
        taxonomy: ``name@version``.
    """
    return {
        "tiers": [_answer_words(one, one.tier) for one in prediction.tiers],
        "alternatives": [_answer_words(one, one.category.tier) for one in prediction.alternatives],
        "program": None
        if evidence is None
        else {"path": evidence.path or None, "agrees": evidence.agrees, "tiers": list(evidence.tiers)},
        "basis": prediction.basis,
        "model": model,
        "taxonomy": taxonomy,
    }


def _answer_words(one: TierAnswer | Alternative, tier: int) -> dict[str, Any]:
    return {
        "tier": tier,
        "name": None if one.category is None else one.category.name,
        "path": None if one.category is None else one.category.path,
        # With the six digits that confidences are shown with.
        "confidence": None if one.confidence is None else round(one.confidence, 6),
        "basis": one.basis,
    }
