"""What is said of a clip beside its link: what it is about, and what it is.

For every answer: features of the clip's descriptors and words → its embedding → related programs, and
categories. None of it changes a link, and a clip that is linked to a program is not also related to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from index.base import Vectors
from index.rows import FeatureRecord, StoredClip
from matcher.clip_features import Words
from matcher.embedding import Fusion
from matcher.fusion.features import ClipFeatures
from matcher.records import Answer, Related
from matcher.related import RelatedSearch

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
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
        embeddings = _as_kept(self.fusion.embedder.embed(features))
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
        found = self.beside(
            records, [{link.program_id for link in answer.links} for answer in answers],
            [answer.program_id for answer in answers],
        )  # fmt: skip
        return [
            replace(answer, related=related, categories=categories, features=record)
            for answer, record, (related, categories) in zip(answers, records, found, strict=True)
        ]

    def beside(
        self,
        records: Sequence[FeatureRecord | None],
        linked: Sequence[Collection[str]],
        program_ids: Sequence[str | None],
    ) -> list[tuple[tuple[Related, ...], Mapping[str, Any] | None]]:
        """Related programs and categories of n clips.

        Args:
            records: n; nothing is said where there is none.
            linked: Of each clip the programs that it is linked to, or up for review with.
            program_ids: Of each clip the program that it is linked to.
        """
        x = np.zeros((len(records), self.fusion.info.d), np.float32)
        for row, record in enumerate(records):
            if record is not None and record.embedding is not None:
                x[row] = record.embedding
        related: list[tuple[Related, ...]] = [()] * len(records)
        if self.search is not None and records:
            words = [None if one is None else Words.of_json(one.words).text for one in records]
            wordless = self._without_words(records)
            related = self.search.related(wordless, words, most=MOST_RELATED + max(map(len, linked)))
        categories = self._categories(program_ids, x)
        return [
            ((), None) if one is None else (_without(found, own), what)
            for one, found, own, what in zip(records, related, linked, categories, strict=True)
        ]

    def _without_words(self, records: Sequence[FeatureRecord | None]) -> Vectors:
        """(n, d) embeddings of what is seen and heard alone; zeros where there is no record.

        Words are searched for titles, and that is enough of them: in the embedding they draw a clip to
        whatever its title resembles, also where it names nothing (docs/related.md). It is so that the
        confidence is fitted, too: a stretch that is asked has no words.
        """
        x = np.zeros((len(records), self.fusion.info.d), np.float32)
        there = [(row, one) for row, one in enumerate(records) if one is not None]
        if there:
            d, sound_d, _ = self.fusion.embedder.dimensions
            features = [
                ClipFeatures(_features_as_kept(one.picture, d), _features_as_kept(one.sound, sound_d))
                for _, one in there
            ]
            x[[row for row, _ in there]] = self.fusion.embedder.embed(features)
        return _as_kept(x)

    def _categories(self, program_ids: Sequence[str | None], x: Vectors) -> list[Mapping[str, Any] | None]:
        """Of each clip; from the linked program alone where nothing was trained."""
        own = [self.program_categories.get(program_id or "", ()) for program_id in program_ids]
        if self.categories is not None:
            model = self.categories
            predictions = model.predict(x, min_confidence=self.min_confidence)
            return [
                model.words(one, model.agreement(one, paths) if program_id else None)
                for one, paths, program_id in zip(predictions, own, program_ids, strict=True)
            ]
        return [self._of_program(paths) if paths else None for paths in own]

    def _of_program(self, paths: Sequence[str]) -> Mapping[str, Any] | None:
        from matcher.categories import agreement, category_words, program_prediction

        if self.taxonomy is None:
            return None
        prediction = program_prediction(paths, self.taxonomy)
        evidence = agreement(prediction, paths, self.taxonomy)
        return category_words(prediction, evidence, model=None, taxonomy=self.taxonomy.label)


def _as_kept(vectors: Vectors) -> Vectors:
    """As the store gives them back: a clip asked and a clip kept are answered alike."""
    return vectors.astype(np.float16).astype(np.float32)


def _features_as_kept(vectors: Vectors | None, d: int) -> Vectors | None:
    """Likewise; of nothing a store does not know how wide it would be."""
    return None if vectors is None else _as_kept(vectors).reshape(len(vectors), d)


def _without(found: Iterable[Related], linked: Collection[str]) -> tuple[Related, ...]:
    """Those that a clip is not linked to anyway."""
    return tuple(one for one in found if one.program_id not in linked)[:MOST_RELATED]


def complete_kept(
    writer: Writer, surroundings: Surroundings, answers: Sequence[tuple[Answer, str]]
) -> list[tuple[Answer, str]]:
    """Answers of kept clips with what is said beside their links; features that are not fresh are made anew.

    Those are put into the store at once: they follow from the clips, whatever becomes of the answers.

    Args:
        writer: Of the store.
        surroundings: Of the same store, at its present state.
        answers: Each with when the clip's descriptors were kept.
    """
    known, new = surroundings.refreshed(writer.catalog, [answer.clip_id for answer, _ in answers])
    writer.put_features(new)
    records = [known.get(answer.clip_id) for answer, _ in answers]
    whole = surroundings.complete([answer for answer, _ in answers], records)
    return list(zip(whole, (kept_at for _, kept_at in answers), strict=True))


def state_of(record: FeatureRecord | None) -> tuple[str, str, str] | None:
    """A record as ``feature_states`` tells of it."""
    return None if record is None else (record.kept_at, record.text_model, record.embedding_model)


def words_of(clip: StoredClip, record: FeatureRecord | None) -> Words:
    """The words of a kept clip: its present title, and what was read in its pictures."""
    known = Words() if record is None else Words.of_json(record.words)
    return replace(known, title=clip.record.title)
