"""What a calibration freezes: the weights of the decision, its thresholds, and the background.

One file holds all of it, so that they change together or not at all. The package ships one for the
default model; ``matcher calibrate`` writes one into a store, which then goes before the shipped one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from matcher.background import Background
from matcher.decision import FEATURES, Weights
from matcher.encoders.base import ModelInfo
from matcher.errors import StoreError

#: Name of the file in a store.
FILE_NAME = "calibration.safetensors"
SHIPPED_NAME = "shipped_calibration.safetensors"
#: Raise it when evidence is measured otherwise, so that older files are refused.
REVISION = "3"


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
    """

    weights: Weights
    link: float
    review: float
    background: Background
    model: str = ""
    notes: str = ""

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
        digest.update(self.background.vectors.astype(np.float16).tobytes())
        digest.update(self.background.program.astype(np.int32).tobytes())
        return digest.hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the file in one step: after a crash the old one is there, or the new one."""
        from safetensors.numpy import save_file

        words = {
            "revision": REVISION, "features": list(FEATURES), "weights": list(self.weights.weights),
            "bias": self.weights.bias, "link": self.link, "review": self.review,
            "least": self.background.least, "model": self.model, "notes": self.notes,
        }  # fmt: skip
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file(self.background.tensors(), str(draft), metadata={"calibration": json.dumps(words)})
            draft.chmod(0o644)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: The file is damaged, or of another revision.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                words = json.loads((file.metadata() or {})["calibration"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
            if words["revision"] != REVISION or words["features"] != list(FEATURES):
                raise StoreError(f"{path} is of another version of the program; run: matcher calibrate")
            return cls(
                Weights(tuple(float(weight) for weight in words["weights"]), float(words["bias"])),
                float(words["link"]),
                float(words["review"]),
                Background.of_tensors(tensors, least=float(words["least"])),
                words["model"],
                words["notes"],
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path} is no calibration that can be read ({error}); remove it, or run: matcher calibrate"
            ) from error


@cache
def shipped() -> Calibration:
    """The default model's, made from open-licensed films and generated dramas."""
    with resources.as_file(resources.files("matcher") / SHIPPED_NAME) as path:
        return Calibration.load(path)


def calibration_of(store: Path, model: ModelInfo) -> Calibration:
    """The calibration that holds in a store.

    That of the store where there is one for the model; else the shipped one, whose background is left out
    with another model than its own, for it means nothing there.

    Raises:
        StoreError: The store's file is damaged or of another model.
    """
    path = store / FILE_NAME
    if path.exists():
        own = Calibration.load(path)
        if own.model != model.fingerprint:
            raise StoreError(f"{path} was made with another model; run: matcher calibrate")
        return own
    default = shipped()
    if default.model == model.fingerprint:
        return default
    return replace(default, background=Background.empty(model.d, least=default.background.least), model="")
