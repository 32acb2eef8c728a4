"""Who makes embeddings: the clip model that a store uses, or the parameter-free mean where none is trained.

An embedder is named by a fingerprint of everything that changes what it gives: the model, and the encoders
whose features it takes.

Shape letters: ``n`` clips, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from index.base import Vectors
from matcher.clip_features import (
    Timed,
    program_words,
    split_by_asset,
    stretches,
    with_scene,
    without_scenes,
)
from matcher.encoders.base import ModelInfo, fingerprint
from matcher.encoders.scene import D as SCENE_D
from matcher.fusion.features import ClipFeatures, parameter_free_embedding

if TYPE_CHECKING:
    from index.catalog import Catalog, ProgramFrames, ProgramRecord
    from matcher.encoders.scene import SceneEncoder
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
        """Of picture, sound and text as it takes them."""
        ...

    @property
    def neutral_scene(self) -> Vectors | None:
        """(64,) what stands for a second that nobody knows the scene of; None where it takes no scenes."""
        ...

    def embed(self, clips: Sequence[ClipFeatures]) -> Vectors:
        """(n, d) float32 of length 1; a row of zeros where a clip has nothing at all.

        Clips come with scenes or without: see :func:`fitting`.
        """
        ...


@dataclass(frozen=True)
class Encoders:
    """The encoders behind a store's features: what a clip model was trained on, and must be used with.

    Attributes:
        picture: Fingerprint of the frame encoder.
        sound: Of the sound encoder.
        text: Of the text encoder.
        dimensions: Of picture, sound and text; those of a scene are at the end of the sound's.
        scene: Of the scene encoder; "" where there is none.
    """

    picture: str
    sound: str
    text: str
    dimensions: tuple[int, int, int]
    scene: str = ""

    @property
    def d_identifying(self) -> int:
        """Dimensions of the sound, less those of a scene."""
        return self.dimensions[1] - (SCENE_D if self.scene else 0)

    def without_scene(self) -> Encoders:
        """The same where nobody says what a second is like."""
        picture, _, text = self.dimensions
        return replace(self, dimensions=(picture, self.d_identifying, text), scene="")


def fitting(clips: Iterable[ClipFeatures], d0: int, neutral: Vectors | None) -> list[ClipFeatures]:
    """Clips as an embedder takes them: all with scenes, or all without.

    A program's sound has no scenes, nor has that of a clip that was kept without. What is not known is filled
    with what says nothing, and not with zeros, which say that a second is silent.

    Args:
        clips: With scenes or without; the dimensions of their sounds tell.
        d0: Dimensions that identify a sound.
        neutral: (64,) for every second of a clip without; None to take the scenes away.
    """
    return [_fitting(clip, d0, neutral) for clip in clips]


def _fitting(clip: ClipFeatures, d0: int, neutral: Vectors | None) -> ClipFeatures:
    d = 0 if clip.sound is None else clip.sound.shape[1]
    if neutral is None and d == d0 + SCENE_D:
        return without_scenes(clip, d0)
    if neutral is not None and d == d0:
        return with_scene(clip, neutral)
    return clip


@dataclass(frozen=True)
class MeanEmbedder:
    """The normalized mean of what a clip has; nothing is trained.

    Scenes play no part: what two seconds of speech have in common is no direction.

    Attributes:
        encoders: Of the features.
    """

    encoders: Encoders

    @property
    def info(self) -> ModelInfo:
        """Name, fingerprint and dimensions."""
        encoders = self.encoders
        mark = fingerprint(["mean embedding", REVISION, encoders.picture, encoders.sound, encoders.text])
        return ModelInfo(MEAN, mark, sum(self.dimensions))

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text as it takes them."""
        return self.encoders.without_scene().dimensions

    @property
    def neutral_scene(self) -> None:
        """It takes no scenes."""
        return None

    def embed(self, clips: Sequence[ClipFeatures]) -> Vectors:
        """See :func:`~matcher.fusion.features.parameter_free_embedding`."""
        alone = fitting(clips, self.dimensions[1], None)
        return parameter_free_embedding(alone, dimensions=self.dimensions)


@dataclass(frozen=True)
class Fusion:
    """What makes embeddings in one store.

    Attributes:
        embedder: The clip model.
        text: The text encoder whose vectors it takes.
        encoders: Of the features of clips.
        scene: Says what a second of a clip's sound is like; None where nobody does.
    """

    embedder: Embedder
    text: TextEncoder
    encoders: Encoders
    scene: SceneEncoder | None = None

    @property
    def info(self) -> ModelInfo:
        """Of the embeddings."""
        return self.embedder.info

    def text_vector(self, text: str | None) -> Vectors | None:
        """(d,) of some words; None where nobody knows any, zeros where there are none."""
        return None if text is None else self.text.encode([text])[0]

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
        names: dict[int, list[str]] = {}
        for asset in catalog.assets():
            names.setdefault(asset.number, []).append(asset.asset_id)
        for record in catalog.programs():
            text = self.text_vector(program_words(record.title, record.aliases))
            assets = timed_assets(catalog, record, names.get(record.number, []))
            yield (
                record.number,
                [self.asset(seen, heard, text, n_assets=len(assets)) for seen, heard in assets],
            )
            if on_program is not None:
                on_program(record.program_id)


def timed_assets(
    catalog: Catalog, record: ProgramRecord, names: Sequence[str]
) -> list[tuple[Timed, Timed | None]]:
    """Frames and sounds of each of a program's assets, given by name; no sounds where there are none."""
    frames = _by_asset(catalog.frames_of(record.number), names)
    if not record.sound_count:
        return [(seen, None) for seen in frames]
    return list(zip(frames, _by_asset(catalog.frames_of(record.number, "sounds"), names), strict=True))


def _by_asset(found: ProgramFrames, names: Sequence[str]) -> list[Timed]:
    return split_by_asset(found.asset_ids, (found.t_seconds, found.vectors), names)
