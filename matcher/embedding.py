"""Who makes embeddings: the clip model that a store uses, or the parameter-free mean where none is trained.

An embedder is named by a fingerprint of everything that changes what it gives: the model, and the encoders
whose features it takes.

Shape letters: ``n`` clips, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from index.base import Vectors
from matcher.clip_features import Timed, Words, features_of, program_words, split_by_asset, stretches
from matcher.encoders.base import ModelInfo, fingerprint
from matcher.fusion.features import ClipFeatures, parameter_free_embedding

if TYPE_CHECKING:
    from index.catalog import Catalog, ProgramFrames
    from matcher.encoders.text import TextEncoder

#: What the parameter-free embedding is called.
MEAN = "mean"
#: Raise it when the same descriptors come to give other features or another mean.
REVISION = "1"


class Embedder(Protocol):
    """Turns features of clips into embeddings whose inner product is a similarity."""

    @property
    def info(self) -> ModelInfo:
        """Name, fingerprint and dimensions."""
        ...

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text as they come in."""
        ...

    def embed(self, clips: Sequence[ClipFeatures]) -> Vectors:
        """(n, d) float32 of length 1; a row of zeros where a clip has nothing at all."""
        ...


@dataclass(frozen=True)
class Encoders:
    """The encoders behind a store's features: what a clip model was trained on, and must be used with.

    Attributes:
        picture: Fingerprint of the frame encoder.
        sound: Of the sound encoder; "" where the store holds no sounds.
        text: Of the text encoder.
        dimensions: Of the three; of sound also where there is none.
    """

    picture: str
    sound: str
    text: str
    dimensions: tuple[int, int, int]

    @classmethod
    def of(cls, catalog: Catalog, text: ModelInfo, *, sound_d: int) -> Encoders:
        """Those of a store.

        Args:
            catalog: The store.
            text: Of the text encoder that is used with it.
            sound_d: Dimensions of sounds where it holds none.
        """
        sound = catalog.sound_model
        return cls(
            catalog.model.fingerprint, "" if sound is None else sound.fingerprint, text.fingerprint,
            (catalog.model.d, sound_d if sound is None else sound.d, text.d),
        )  # fmt: skip


@dataclass(frozen=True)
class MeanEmbedder:
    """The normalized mean of what a clip has; nothing is trained.

    Attributes:
        encoders: Of the features.
    """

    encoders: Encoders

    @property
    def info(self) -> ModelInfo:
        """Name, fingerprint and dimensions."""
        encoders = self.encoders
        mark = fingerprint(["mean embedding", REVISION, encoders.picture, encoders.sound, encoders.text])
        return ModelInfo(MEAN, mark, sum(encoders.dimensions))

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text as they come in."""
        return self.encoders.dimensions

    def embed(self, clips: Sequence[ClipFeatures]) -> Vectors:
        """See :func:`~matcher.fusion.features.parameter_free_embedding`."""
        return parameter_free_embedding(clips, dimensions=self.dimensions)


@dataclass(frozen=True)
class Fusion:
    """What makes embeddings in one store.

    Attributes:
        embedder: The clip model.
        text: The text encoder whose vectors it takes.
    """

    embedder: Embedder
    text: TextEncoder

    @property
    def info(self) -> ModelInfo:
        """Of the embeddings."""
        return self.embedder.info

    def text_vector(self, text: str | None) -> Vectors | None:
        """(d,) of some words; None where nobody knows any, zeros where there are none."""
        return None if text is None else self.text.encode([text])[0]

    def clip(self, frames: Vectors, sound: Timed | None, words: Words) -> ClipFeatures:
        """The features of a clip's descriptors and words."""
        return features_of(frames, sound, self.text_vector(words.text))

    def asset(self, frames: Timed, sound: Timed | None, text: Vectors | None, *, n_assets: int) -> Timed:
        """Embed the stretches of one asset.

        Args:
            frames: Seconds and vectors.
            sound: Likewise; None where nobody listened.
            text: Vector of the program's titles.
            n_assets: Of the program.

        Returns:
            (n,) seconds of their middles and (n, d) embeddings.
        """
        cut = list(stretches(frames, sound, text, n_assets=n_assets))
        if not cut:
            return np.zeros(0), np.zeros((0, self.info.d), np.float32)
        middles, features = zip(*cut, strict=True)
        return np.array(middles, np.float64), self.embedder.embed(features)

    def programs(
        self, catalog: Catalog, *, on_program: Callable[[str], None] | None = None
    ) -> Iterator[tuple[int, list[Timed]]]:
        """Embed all programs of a store, from their descriptors, as ``Writer.replace_embeddings`` takes them.

        Args:
            catalog: The store.
            on_program: Called with the id of each one done.
        """
        assets: dict[int, list[str]] = {}
        for asset in catalog.assets():
            assets.setdefault(asset.number, []).append(asset.asset_id)
        for record in catalog.programs():
            names = assets.get(record.number, [])
            frames = _by_asset(catalog.frames_of(record.number), names)
            sounds: list[Timed] | list[None] = [None] * len(names)
            if record.sound_count:
                sounds = _by_asset(catalog.frames_of(record.number, "sounds"), names)
            text = self.text_vector(program_words(record.title, record.aliases))
            yield (
                record.number,
                [
                    self.asset(seen, heard, text, n_assets=len(names))
                    for seen, heard in zip(frames, sounds, strict=True)
                ],
            )
            if on_program is not None:
                on_program(record.program_id)


def _by_asset(found: ProgramFrames, names: Sequence[str]) -> list[Timed]:
    return split_by_asset(found.asset_ids, (found.t_seconds, found.vectors), names)
