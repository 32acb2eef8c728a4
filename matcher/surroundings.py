"""What is said of a clip beside its link: what it is about, and what it is.

For every answer: features of the clip's descriptors and words → its embedding → related programs, and
categories. None of it changes a link, and a clip that is linked to a program is not also related to it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from index.base import Vectors
from index.feature_rows import LIGHT
from index.rows import FeatureRecord, StoredClip
from matcher.clip_features import Scenes, Words, features_of, without_scenes
from matcher.embedding import Fusion
from matcher.encoders.base import fingerprint
from matcher.encoders.scene import D as SCENE_D
from matcher.fusion.features import ClipFeatures
from matcher.records import Answer, Related
from matcher.related import RelatedSearch

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from matcher.categories import CategoryModel
    from matcher.taxonomy import Taxonomy

#: Raise it when the same features come to be answered otherwise.
RULES = 2
#: Related programs that an answer names.
MOST_RELATED = 3


@dataclass(frozen=True)
class Asked:
    """A clip whose features are wanted.

    Attributes:
        clip: Its descriptors.
        words: What is written of it.
        kept: What the store has of it. Where that is of these descriptors, picture and sound are taken from
            it: without the file nobody can say again what its seconds are like.
        scene: What they are like, of a clip that was just described; None where nobody knows.
        is_sound_replaced: See :attr:`matcher.records.Answer.sound_replaced`.
    """

    clip: StoredClip
    words: Words
    kept: FeatureRecord | None = None
    scene: Scenes | None = None
    is_sound_replaced: bool = False

    @classmethod
    def again(cls, clip: StoredClip, kept: FeatureRecord | None, *, is_replaced: bool | None = None) -> Asked:
        """A kept clip, with its present title and what was read in its pictures.

        Args:
            clip: What the store has of it.
            kept: Its features.
            is_replaced: Whether its sound is known to be another's; as was known where None.
        """
        if kept is None or kept.kept_at != clip.record.kept_at:
            return cls(clip, Words(clip.record.title), kept, is_sound_replaced=bool(is_replaced))
        words = replace(Words.of_json(kept.words), title=clip.record.title)
        known = kept.sound_replaced if is_replaced is None else is_replaced
        return cls(clip, words, kept, is_sound_replaced=known)


@dataclass(frozen=True)
class KnownFeatures:
    """A clip's features as a store gives them back.

    Attributes:
        features: With scenes, if those are known.
        scene_model: Fingerprint of what made the scenes; "" without.
    """

    features: ClipFeatures
    scene_model: str

    def usable(self, fusion: Fusion) -> ClipFeatures:
        """Those for a clip model: scenes of another encoder than is used now count as not known."""
        if self.scene_model == fusion.encoders.scene:
            return self.features
        return without_scenes(self.features, fusion.encoders.d_identifying)


def features_for(fusion: Fusion, asked: Asked) -> KnownFeatures:
    """The features of a clip, rounded as the store rounds them: one asked and one kept are answered alike."""
    kept, clip = asked.kept, asked.clip
    if kept is None or kept.kept_at != clip.record.kept_at or kept.picture is None:
        made = features_of(clip.vectors, clip.sound, None, scene=asked.scene)
        picture, sound = made.picture, made.sound
        scene_model = "" if asked.scene is None or sound is None else fusion.encoders.scene
    else:
        picture, sound, scene_model = kept.picture, kept.sound, kept.scene_model
    d_sound = fusion.encoders.d_identifying + (SCENE_D if scene_model else 0)
    rounded = ClipFeatures(
        None if picture is None else _as_kept(_rows_of(picture, fusion.encoders.dimensions[0])),
        None if sound is None else _as_kept(_rows_of(sound, d_sound)),
        _text_of(fusion, asked),
        is_sound_replaced=asked.is_sound_replaced and sound is not None and len(sound) > 0,
    )
    return KnownFeatures(rounded, scene_model)


def _text_of(fusion: Fusion, asked: Asked) -> Vectors | None:
    kept, text = asked.kept, asked.words.text
    if (
        kept is not None
        and kept.text_model == fusion.text.info.fingerprint
        and Words.of_json(kept.words).text == text
    ):
        return kept.text
    made = fusion.text_vector(text)
    return None if made is None else _as_kept(made)


def _as_kept(x: Vectors) -> Vectors:
    return x.astype(np.float16).astype(np.float32)


def _rows_of(x: Vectors, d: int) -> Vectors:
    """The store does not keep how wide no rows are."""
    return x if len(x) else np.zeros((0, d), np.float32)


@dataclass(frozen=True)
class Surroundings:
    """What completes the answers of one store; safe to share between threads.

    Attributes:
        fusion: Makes the embeddings.
        search: Finds related programs.
        categories: Answers the three tiers; None where nothing was trained.
        taxonomy: Of the programs' own categories; None where none has any.
        program_categories: By program id.
        min_confidence: A category less confident is not named.
        titles_mark: Changes with the catalogue's programs, their titles and categories.
    """

    fusion: Fusion
    search: RelatedSearch
    categories: CategoryModel | None
    taxonomy: Taxonomy | None
    program_categories: Mapping[str, tuple[str, ...]]
    min_confidence: float
    titles_mark: str = ""

    @cached_property
    def state(self) -> str:
        """Hash of all that is said beside a link depends on, but the clip."""
        categories = self.categories
        words = [
            RULES, self.titles_mark, self.fusion.info.fingerprint,
            asdict(self.search.weights),
            None if categories is None else categories.fingerprint, self.min_confidence,
        ]  # fmt: skip
        return fingerprint([json.dumps(words, sort_keys=True)])

    def records(self, clips: Sequence[Asked]) -> list[FeatureRecord]:
        """What a store keeps of clips beside their descriptors; they go through the clip model together."""
        known = [features_for(self.fusion, clip) for clip in clips]
        usable = [one.usable(self.fusion) for one in known]
        # Words are searched for titles, and that is enough of them where related programs are looked for: in
        # the embedding they draw a clip to whatever its title resembles, also where it names nothing
        # (docs/related.md). It is so that the confidence is fitted, too: a stretch that is asked has none.
        both = [*usable, *(replace(one, text=None) for one in usable)]
        embeddings = _as_kept(self.fusion.embedder.embed(both))
        n = len(clips)
        return [self._record(*row) for row in zip(clips, known, embeddings[:n], embeddings[n:], strict=True)]

    def _record(
        self, asked: Asked, known: KnownFeatures, embedding: Vectors, wordless: Vectors
    ) -> FeatureRecord:
        found, clip = known.features, asked.clip.record
        return FeatureRecord(
            clip.clip_id, clip.kept_at, found.picture, found.sound, found.text, asked.words.to_json(),
            "" if found.text is None else self.fusion.text.info.fingerprint, embedding,
            self.fusion.info.fingerprint, known.scene_model, wordless, asked.is_sound_replaced,
        )  # fmt: skip

    def _is_fresh(self, kept: FeatureRecord, mark: tuple[str, str], *, is_replaced: bool | None) -> bool:
        """Whether what is kept of a clip is of its present descriptors and words, by the models in use.

        Args:
            kept: What is kept.
            mark: When the descriptors were kept, and the title.
            is_replaced: Whether the sound is another's; None where what is kept of that is to stay.
        """
        kept_at, title = mark
        # Scenes are not looked at: they cannot be made again, and an embedder that takes them is named so.
        return (
            kept.kept_at == kept_at
            and kept.text_model in ("", self.fusion.text.info.fingerprint)
            and kept.embedding_model == self.fusion.info.fingerprint
            and is_replaced in (None, kept.sound_replaced)
            and Words.of_json(kept.words).title == title
        )

    def refreshed(
        self, catalog: Catalog, replaced: Mapping[str, bool | None]
    ) -> tuple[dict[str, FeatureRecord], list[FeatureRecord]]:
        """The features of some kept clips; those that are not fresh get new texts and embeddings.

        Args:
            catalog: Of the clips.
            replaced: Their ids, with whether the sound is known to be another's; None where what is kept of
                that is to stay.

        Returns:
            All by clip id, those that were fresh without picture and sound; and those that are new.
        """
        found = catalog.features(list(replaced), columns=LIGHT)
        stale = self._stale(catalog, found, replaced)
        whole = catalog.features(stale) if stale else {}
        new = self.records([
            Asked.again(clip, whole.get(clip.record.clip_id), is_replaced=replaced[clip.record.clip_id])
            for clip in (catalog.iter_clips(stale) if stale else ())
        ])  # fmt: skip
        return found | {record.clip_id: record for record in new}, new

    def _stale(
        self, catalog: Catalog, found: Mapping[str, FeatureRecord], replaced: Mapping[str, bool | None]
    ) -> list[str]:
        return [
            clip_id
            for clip_id, mark in catalog.clip_marks_of(list(replaced)).items()
            if clip_id not in found or not self._is_fresh(found[clip_id], mark, is_replaced=replaced[clip_id])
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
            replace(
                answer,
                related=related,
                categories=categories,
                features=record,
                beside="" if record is None else self.state,
            )
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
        x, wordless = np.zeros((2, len(records), self.fusion.info.d), np.float32)
        for row, record in enumerate(records):
            if record is not None and record.embedding is not None:
                x[row] = record.embedding
            if record is not None and record.wordless is not None:
                wordless[row] = record.wordless
        related: list[tuple[Related, ...]] = [()] * len(records)
        if records:
            words = [None if one is None else Words.of_json(one.words).text for one in records]
            related = self.search.related(wordless, words, most=MOST_RELATED + max(map(len, linked)))
        categories = self._categories(program_ids, x)
        return [
            ((), None) if one is None else (_without(found, own), what)
            for one, found, own, what in zip(records, related, linked, categories, strict=True)
        ]

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


def _without(found: Iterable[Related], linked: Collection[str]) -> tuple[Related, ...]:
    """Those that a clip is not linked to anyway."""
    return tuple(one for one in found if one.program_id not in linked)[:MOST_RELATED]


def complete_kept(
    writer: Writer, surroundings: Surroundings, answers: Sequence[tuple[Answer, str]]
) -> list[tuple[Answer, str]]:
    """Answers of kept clips with what is said beside their links; features that are not fresh are made anew.

    Those are put into the store at once: they follow from the clips, whatever becomes of the answers. Only
    whether a sound is another's follows from the answers, and is brought up to date when these stand: see
    :func:`matcher.relate.relate`.

    Args:
        writer: Of the store.
        surroundings: Of the same store, at its present state.
        answers: Each with when the clip's descriptors were kept.
    """
    known, new = surroundings.refreshed(writer.catalog, {answer.clip_id: None for answer, _ in answers})
    writer.put_features(new)
    records = [known.get(answer.clip_id) for answer, _ in answers]
    whole = surroundings.complete([answer for answer, _ in answers], records)
    return list(zip(whole, (kept_at for _, kept_at in answers), strict=True))
