"""Who makes embeddings: the clip model that a store uses, or the parameter-free mean where none is trained.

An embedder is named by a fingerprint of everything that changes what it gives: the model, and the encoders
whose features it takes.

Shape letters: ``n`` clips, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from index.base import Vectors
from matcher.encoders.base import ModelInfo, fingerprint
from matcher.fusion.features import ClipFeatures, parameter_free_embedding

if TYPE_CHECKING:
    from index.catalog import Catalog
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


def text_features(encoder: TextEncoder, text: str | None) -> Vectors | None:
    """(d,) of some words; None where nobody knows any, zeros where there are none."""
    if text is None:
        return None
    row: Vectors = encoder.encode([text])[0]
    return np.asarray(row, np.float32)
