"""The encoder protocol, and what names a model.

Shape letters: ``n`` frames, ``s`` side of the square input, ``d`` descriptor dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from matcher.errors import InputError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "int8"]

Images = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ModelInfo:
    """What a store remembers of the model that made its descriptors.

    Attributes:
        spec: The words that load it, as ``--encoder`` takes them.
        fingerprint: Hash of architecture, weights, whitening and preprocessing. Engines of one model
            (torch, ONNX Runtime, int8) share it, because a gate holds them to the same answers.
        d: Descriptor dimensions.
    """

    spec: str
    fingerprint: str
    d: int


class FrameEncoder(Protocol):
    """Turns square pictures into descriptors whose inner product is a similarity."""

    @property
    def info(self) -> ModelInfo:
        """Name, fingerprint and dimensions."""
        ...

    @property
    def input_side(self) -> int:
        """Side ``s`` of the pictures that :meth:`encode` takes, in pixels."""
        ...

    @property
    def batch_size(self) -> int:
        """How many pictures a call handles best."""
        ...

    @property
    def engine(self) -> str:
        """Where it runs, in words: for ``matcher doctor`` and the benchmarks."""
        ...

    def encode(self, images: Images) -> Vectors:
        """Describe ``images`` (n, s, s, 3) uint8 sRGB as (n, d) float32 of length 1; n may be 0."""
        ...


def fingerprint(parts: Iterable[bytes | str]) -> str:
    """Hash ``parts`` in order into 16 hex digits; part boundaries count."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:16]


def unit_rows(x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Each row of ``x`` (n, d) scaled to length 1; a zero row stays zero."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (x / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)
    return scaled


def check_images(images: Images, side: int) -> None:
    """Raise ValueError unless ``images`` is (n, side, side, 3) uint8."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
        raise ValueError(f"images must be (n, {side}, {side}, 3) uint8, got {images.shape} {images.dtype}")


def check_device(device: str) -> Device:
    """The device word as a literal.

    Raises:
        InputError: It is none of auto, cpu and cuda.
    """
    if device == "auto":
        return "auto"
    if device == "cpu":
        return "cpu"
    if device == "cuda":
        return "cuda"
    raise InputError(f"unknown device {device!r}: use auto, cpu or cuda")
