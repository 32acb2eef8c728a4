"""What is said of a clip beside its link: what it is about, and what it is.

For every answer: features of the clip's descriptors and words → its embedding → related programs, and
categories. None of it changes a link, and a clip that is linked to a program is not also related to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from index.base import Vectors
from index.rows import FeatureRecord, StoredClip
from matcher.clip_features import Words
from matcher.embedding import Fusion
from matcher.fusion.features import ClipFeatures
from matcher.records import Answer
from matcher.related import RelatedSearch

if TYPE_CHECKING:
    from index.catalog import Catalog
    from matcher.categories import CategoryModel
    from matcher.taxonomy import Taxonomy

#: Related programs that an answer names.
MOST_RELATED = 3


@dataclass(frozen=True)
class Surroundings:
    """What completes the answers of one store; safe to share between threads.

    Attributes:
        fusion: Makes the embeddings.
        search: Finds related programs; None where the store has no embeddings of programs.
        categories: Answers the three tiers; None where nothing was trained.
        taxonomy: Of the programs' own categories; None where none has any.
        program_categories: By program id.
        min_confidence: A category less confident is not named.
    """

    fusion: Fusion
    search: RelatedSearch | None
    categories: CategoryModel | None
    taxonomy: Taxonomy | None
    program_categories: Mapping[str, tuple[str, ...]]
    min_confidence: float

    def records(self, clips: Sequence[tuple[StoredClip, Words]]) -> list[FeatureRecord]:
        """What a store keeps of clips beside their descriptors; they go through the clip model together."""
        features = [self.fusion.clip(clip.vectors, clip.sound, words) for clip, words in clips]
        embeddings = self.fusion.embedder.embed(features)
        return [
            self._record(clip, words, found, row)
            for (clip, words), found, row in zip(clips, features, embeddings, strict=True)
        ]

    def _record(
        self, clip: StoredClip, words: Words, found: ClipFeatures, embedding: Vectors
    ) -> FeatureRecord:
        text = found.text
        return FeatureRecord(
            clip.record.clip_id, clip.record.kept_at, found.picture, found.sound, text, words.to_json(),
            "" if text is None else self.fusion.text.info.fingerprint, embedding,
            self.fusion.info.fingerprint,
        )  # fmt: skip

    def is_fresh(self, state: tuple[str, str, str] | None, kept_at: str) -> bool:
        """Whether features that are kept are of these descriptors, and of the models that are used.

        Args:
            state: Of :meth:`index.catalog.Catalog.feature_states`; None where there are none.
            kept_at: When the clip's descriptors were kept.
        """
        if state is None:
            return False
        of, text_model, embedding_model = state
        return (
            of == kept_at
            and text_model in ("", self.fusion.text.info.fingerprint)
            and embedding_model == self.fusion.info.fingerprint
        )

    def refreshed(
        self, catalog: Catalog, clip_ids: Sequence[str]
    ) -> tuple[dict[str, FeatureRecord], list[FeatureRecord]]:
        """The features of some kept clips, made anew where those that are kept are not fresh.

        Returns:
            All by clip id, and those that are new.
        """
        found = catalog.features(clip_ids)
        clips = {
            clip.record.clip_id: clip for clip in catalog.iter_clips(self._stale(catalog, found, clip_ids))
        }
        new = self.records([(clip, words_of(clip, found.get(clip_id))) for clip_id, clip in clips.items()])
        return found | {record.clip_id: record for record in new}, new

    def _stale(
        self, catalog: Catalog, found: Mapping[str, FeatureRecord], clip_ids: Sequence[str]
    ) -> list[str]:
        dates = catalog.clip_dates_of(clip_ids)
        return [
            clip_id
            for clip_id, kept_at in dates.items()
            if not self.is_fresh(state_of(found.get(clip_id)), kept_at)
        ]

    def complete(self, answers: Sequence[Answer], records: Sequence[FeatureRecord | None]) -> list[Answer]:
        """The same answers, with related programs and categories.

        Args:
            answers: Of clips.
            records: Of the same clips; None where a clip could not be read.
        """
        rows = [
            np.zeros(self.fusion.info.d, np.float32)
            if one is None or one.embedding is None
            else one.embedding
            for one in records
        ]
        x = np.stack(rows) if rows else np.zeros((0, self.fusion.info.d), np.float32)
        words = [None if one is None else Words.of_json(one.words).text for one in records]
        related = [()] * len(answers)
        if self.search is not None and len(answers):
            related = self.search.related(x, words, most=MOST_RELATED + max(len(a.links) for a in answers))
        categories = self._categories(answers, x)
        return [
            replace(
                answer,
                related=() if record is None else _beside(answer, found),
                categories=None if record is None else what,
                features=record,
            )
            for answer, record, found, what in zip(answers, records, related, categories, strict=True)
        ]

    def _categories(self, answers: Sequence[Answer], x: Vectors) -> list[Mapping[str, Any] | None]:
        """Of each clip; from the linked program alone where nothing was trained."""
        own = [self.program_categories.get(answer.program_id or "", ()) for answer in answers]
        if self.categories is not None:
            model = self.categories
            predictions = model.predict(x, min_confidence=self.min_confidence)
            return [
                model.words(one, model.agreement(one, paths) if answer.program_id else None)
                for one, paths, answer in zip(predictions, own, answers, strict=True)
            ]
        return [self._of_program(paths) if paths else None for paths in own]

    def _of_program(self, paths: Sequence[str]) -> Mapping[str, Any] | None:
        from matcher.categories import agreement, category_words, program_prediction

        if self.taxonomy is None:
            return None
        prediction = program_prediction(paths, self.taxonomy)
        evidence = agreement(prediction, paths, self.taxonomy)
        return category_words(prediction, evidence, model=None, taxonomy=self.taxonomy.label)


def _beside(answer: Answer, found: Iterable[Any]) -> tuple[Any, ...]:
    """Related programs that the clip is not linked to, nor up for review with."""
    linked = {link.program_id for link in answer.links}
    return tuple(one for one in found if one.program_id not in linked)[:MOST_RELATED]


def state_of(record: FeatureRecord | None) -> tuple[str, str, str] | None:
    """A record as ``feature_states`` tells of it."""
    return None if record is None else (record.kept_at, record.text_model, record.embedding_model)


def words_of(clip: StoredClip, record: FeatureRecord | None) -> Words:
    """The words of a kept clip: its present title, and what was read in its pictures."""
    known = Words() if record is None else Words.of_json(record.words)
    return replace(known, title=clip.record.title)


def chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """So many at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
