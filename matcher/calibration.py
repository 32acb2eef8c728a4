"""What a calibration freezes: the weights of the decision, its thresholds, and the background.

One file holds all of it, so that they change together or not at all. The package ships one for the
default model; ``matcher calibrate`` writes one into a store, which then goes before the shipped one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.files import write_atomically
from index.places import Place, place_of
from matcher.background import Background
from matcher.decision import FEATURES, SIGHT_FEATURES, SoundWeights, Weights
from matcher.encoders.base import ModelInfo
from matcher.errors import StoreError
from matcher.tensor_file import metadata_of

#: Name of the file in a store.
FILE_NAME = "calibration.safetensors"
SHIPPED_NAME = "shipped_calibration.safetensors"
#: Raise it when evidence is measured otherwise, so that older files are refused.
REVISION = "4"


@dataclass(frozen=True)
class SoundCalibration:
    """The same of sound.

    Attributes:
        weights: From evidence to confidence, what the pictures show of the place included.
        background: What chance sounds like.
        model: Fingerprint of the sound model that it was measured with; "" fits any.
    """

    weights: SoundWeights
    background: Background
    model: str = ""


@dataclass(frozen=True)
class Calibration:
    """How evidence becomes an answer.

    Attributes:
        weights: From evidence to confidence.
        link: Confidence at which a link is made.
        review: Confidence at which a person is asked.
        background: What chance looks like.
        model: Fingerprint of the encoder that it was measured with; "" fits any.
        notes: How it was made, and what it measured.
        sound: How what is heard counts; None where nobody is to listen.
    """

    weights: Weights
    link: float
    review: float
    background: Background
    model: str = ""
    notes: str = ""
    sound: SoundCalibration | None = None

    def __post_init__(self) -> None:
        if not 0 < self.review <= self.link <= 1:
            raise ValueError(f"thresholds must be 0 < review ({self.review}) <= link ({self.link}) <= 1")

    @property
    def version(self) -> str:
        """Hash of everything that an answer depends on, 12 hex digits."""
        # As plain floats: a fit may give numpy's, which are written otherwise.
        thresholds = self.link, self.review, self.background.least
        numbers = [float(x) for x in (*self.weights.weights, self.weights.bias, *thresholds)]
        digest = hashlib.sha256(repr((REVISION, numbers)).encode())
        digest.update(self.background.to_bytes())
        if self.sound is not None:
            own, least = self.sound.weights, self.sound.background.least
            heard = (*own.match.weights, own.match.bias, *own.sight, own.sight_bias, least)
            digest.update(repr([float(x) for x in heard]).encode())
            digest.update(self.sound.background.to_bytes())
        return digest.hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the file in one step: after a crash the old one is there, or the new one."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of a file."""
        from safetensors.numpy import save

        words: dict[str, Any] = {
            "revision": REVISION, "features": list(FEATURES), "weights": list(self.weights.weights),
            "bias": self.weights.bias, "link": self.link, "review": self.review,
            "least": self.background.least, "model": self.model, "notes": self.notes,
        }  # fmt: skip
        tensors = self.background.tensors()
        if self.sound is not None:
            heard = self.sound
            words["sound"] = {
                "features": list(FEATURES), "sight_features": list(SIGHT_FEATURES),
                "weights": list(heard.weights.match.weights), "bias": heard.weights.match.bias,
                "sight": list(heard.weights.sight), "sight_bias": heard.weights.sight_bias,
                "least": heard.background.least, "model": heard.model,
            }  # fmt: skip
            tensors |= {f"sound_{name}": tensor for name, tensor in heard.background.tensors().items()}
        return save(tensors, metadata={"calibration": json.dumps(words)})

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: The file is damaged, or of another revision.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _unreadable(str(path), error) from error
        return cls.of_bytes(content, str(path))

    @classmethod
    def of_bytes(cls, content: bytes, name: str) -> Calibration:
        """Read what :meth:`to_bytes` gave; ``name`` says in messages where it is from.

        Raises:
            StoreError: It is damaged, or of another revision.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(content)
            words = json.loads(metadata_of(content)["calibration"])
            if words["revision"] != REVISION or words["features"] != list(FEATURES):
                raise StoreError(f"{name} is of another version of the program; run: matcher calibrate")
            return cls(
                Weights(tuple(float(weight) for weight in words["weights"]), float(words["bias"])),
                float(words["link"]),
                float(words["review"]),
                Background.of_tensors(tensors, least=float(words["least"])),
                words["model"],
                words["notes"],
                _sound_of(words.get("sound"), tensors),
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> StoreError:
    return StoreError(
        f"{name} is no calibration that can be read ({error}); remove it, or run: matcher calibrate"
    )


def _sound_of(
    words: dict[str, Any] | None, tensors: Mapping[str, NDArray[np.generic]]
) -> SoundCalibration | None:
    """The sound's part of a file; None where it has none."""
    if words is None:
        return None
    if words["features"] != list(FEATURES) or words["sight_features"] != list(SIGHT_FEATURES):
        raise ValueError("its sound is measured otherwise")
    own = {name.removeprefix("sound_"): tensor for name, tensor in tensors.items() if "sound_" in name}
    weights, sight = (tuple(float(weight) for weight in words[name]) for name in ("weights", "sight"))
    return SoundCalibration(
        SoundWeights(Weights(weights, float(words["bias"])), sight, float(words["sight_bias"])),
        Background.of_tensors(own, least=float(words["least"])),
        words["model"],
    )


@cache
def shipped() -> Calibration:
    """The default model's, made from open-licensed films and generated dramas."""
    with resources.as_file(resources.files("matcher") / SHIPPED_NAME) as path:
        return Calibration.load(path)


def calibration_of(
    store: str | Path | Place, model: ModelInfo, sound_model: str | None = None
) -> Calibration:
    """The calibration that holds in a store.

    That of the store where there is one for the model; else the shipped one, whose background is left out
    with another model than its own, for it means nothing there. The sound's part likewise.

    Args:
        store: Where it is.
        model: Of its pictures.
        sound_model: Fingerprint of that of its sounds; None where it has none.

    Raises:
        StoreError: The store's file is damaged or of another model.
        CatalogError: The store is out of reach.
    """
    own = _calibration_of(place_of(store), model)
    ways = [one.sound for one in (own, shipped()) if one.sound is not None]
    fitting = next((one for one in ways if one.model in ("", sound_model)), None)
    if fitting is None and ways and sound_model is not None:
        weights = ways[-1].weights
        fitting = SoundCalibration(weights, Background.empty(1, least=ways[-1].background.least))
    return replace(own, sound=fitting)


def read_own(place: Place) -> Calibration | None:
    """What ``matcher calibrate`` wrote into a store; None where it did not.

    Raises:
        StoreError: The file is damaged, or of another revision.
        CatalogError: The store is out of reach.
    """
    name = place.name_of(FILE_NAME)
    try:
        content = place.read(FILE_NAME)
    except OSError as error:
        raise _unreadable(name, error) from error
    return None if content is None else Calibration.of_bytes(content, name)


def _calibration_of(place: Place, model: ModelInfo) -> Calibration:
    own = read_own(place)
    if own is not None:
        if own.model != model.fingerprint:
            raise StoreError(
                f"{place.name_of(FILE_NAME)} was made with another model; run: matcher calibrate"
            )
        return own
    default = shipped()
    if default.model == model.fingerprint:
        return default
    return replace(default, background=Background.empty(model.d, least=default.background.least), model="")
