"""A trained clip model as the maker of a store's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from index.base import Vectors
from matcher.embedding import REVISION, Encoders, fitting
from matcher.encoders.base import ModelInfo, fingerprint
from matcher.errors import StoreError
from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.features import ClipFeatures, ModalityState
from matcher.fusion.folded import folded
from matcher.fusion.modalities import StoredNormalization
from matcher.fusion.model_file import load_clip_model

#: What a trained embedding is called, before the name of its file.
PREFIX = "clip-model:"
#: Clips that go through the model together.
_BATCH = 256


class TrainedEmbedder:
    """Embeds clips with a clip model.

    Args:
        model: Not in training.
        name: What a person calls it.
        mark: Fingerprint of the file.
        encoders: Of the features that it is used with. A model that was trained without scenes is used
            without them.

    Raises:
        StoreError: The model takes features of other dimensions.
    """

    def __init__(self, model: ClipModel, name: str, mark: str, encoders: Encoders) -> None:
        if model.config.dimensions == encoders.without_scene().dimensions:
            encoders = encoders.without_scene()
        if model.config.dimensions != encoders.dimensions:
            raise StoreError(
                f"the clip model {name} takes picture, sound and text of {model.config.dimensions}"
                f" dimensions, the store has {encoders.dimensions}; train one on features of this store"
            )
        # Half precision would be twice as fast on some processors: a store is searched from any.
        self._model = folded(model, torch.device("cpu"), "fp32")
        self._dimensions = model.config.dimensions
        self._d_identifying = encoders.d_identifying
        self.neutral_scene = _neutral_scene(model, encoders)
        words = {key: value for key, value in asdict(encoders).items() if key != "scene" or value}
        own = fingerprint([REVISION, mark, *(f"{key}={value}" for key, value in words.items())])
        self.info = ModelInfo(f"{PREFIX}{name}", own, model.config.d_embedding)

    @classmethod
    def load(cls, path: Path, encoders: Encoders, *, name: str = "") -> TrainedEmbedder:
        """Read a clip model.

        Raises:
            InputError: It is none.
            StoreError: It takes features of other dimensions.
        """
        model = load_clip_model(path)
        return cls(model, name or path.stem, fingerprint([path.read_bytes()]), encoders)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text as it takes them."""
        return self._dimensions

    def embed(self, clips: Sequence[ClipFeatures]) -> Vectors:
        """(n, d) float32 of length 1; a row of zeros where a clip has nothing at all."""
        rows = [np.zeros((0, self.info.d), np.float32)]
        for start in range(0, len(clips), _BATCH):
            whole = fitting(clips[start : start + _BATCH], self._d_identifying, self.neutral_scene)
            batch = ClipBatch.of(whole, dimensions=self.dimensions)
            with torch.inference_mode():
                embedded = self._model(batch).embedding
            # From the tokens alone every such clip would come out near every other one.
            is_something = (batch.states == ModalityState.PRESENT).any(dim=1, keepdim=True)
            rows.append((embedded * is_something).numpy().astype(np.float32))
        return np.concatenate(rows)


def _neutral_scene(model: ClipModel, encoders: Encoders) -> Vectors | None:
    """The mean scene of what the model was trained on, which is zeros once it is normalized."""
    if not encoders.scene:
        return None
    normalize = model.normalize["sound"]
    assert isinstance(normalize, StoredNormalization)
    mean: Vectors = normalize.mean[encoders.d_identifying :].numpy().astype(np.float32)
    return mean
