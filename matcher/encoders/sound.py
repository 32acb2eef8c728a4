"""The default sound model: log-mel patches (:mod:`matcher.sound`), pair whitening to 128.

``matcher train descriptor --sound`` makes the whitening, from sounds and edited copies of them.

Shape letters: ``c`` columns, ``p`` patches, ``d`` = 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.encoders.base import ModelInfo, fingerprint
from matcher.encoders.whitening import Whitening, read_whitening
from matcher.errors import InputError
from matcher.sound import COLUMN_SECONDS, COLUMNS_A_PATCH, HALF_PATCH_SECONDS, RAW_DIMENSIONS, patches

SPEC = "logmel"
#: Part of the fingerprint: raise it when anything in :mod:`matcher.sound` changes the numbers.
REVISION = "logmel-64x20-r1"
SHIPPED_NAME = "logmel_whitening.safetensors"
#: Patches multiplied at a time: a film of hours has 100 MB of them.
_BLOCK_COLUMNS = 6000


@dataclass(frozen=True)
class SoundEncoder:
    """Describes a sound, patch by patch.

    Attributes:
        whitening: From ``RAW_DIMENSIONS`` to d.
        spec: What the model is called.
    """

    whitening: Whitening
    spec: str = SPEC

    @cached_property
    def info(self) -> ModelInfo:
        """Name, fingerprint and dimensions."""
        mark = fingerprint([REVISION, self.whitening.to_bytes()])
        return ModelInfo(self.spec, mark, self.whitening.d)

    def describe(
        self, columns: NDArray[np.float32], *, step: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Describe what a sound says.

        Args:
            columns: (c, 64) from :func:`matcher.sound.mel_columns`.
            step: Columns of 100 ms from one patch to the next.

        Returns:
            (p,) seconds from the first column to the middle of each patch that is not silent nor a hum, and
            (p, d) descriptors of length 1.
        """
        times: list[NDArray[np.float64]] = [np.zeros(0)]
        vectors = [np.zeros((0, self.whitening.d), np.float32)]
        block = max(step, _BLOCK_COLUMNS - _BLOCK_COLUMNS % step)
        for start in range(0, len(columns), block):
            # A patch reaches into the next block; it begins in this one.
            cut = patches(columns[start : start + block + COLUMNS_A_PATCH - 1], step)
            own = cut.rows < block
            begins = (start + cut.rows[own]).astype(np.float64)
            times.append(begins * COLUMN_SECONDS + HALF_PATCH_SECONDS)
            vectors.append(self.whitening.apply(cut.values[own]))
        return np.concatenate(times), np.concatenate(vectors)


@cache
def shipped_sound_encoder() -> SoundEncoder:
    """The default, with the whitening that the package ships."""
    with resources.as_file(resources.files("matcher.encoders") / SHIPPED_NAME) as path:
        return SoundEncoder(Whitening.load(path))


def load_sound_encoder(spec: str) -> SoundEncoder:
    """The sound model of some words: ``logmel``, or ``logmel@FILE`` with another whitening.

    Raises:
        InputError: There is no such model, no such file, or it is no whitening of sounds.
    """
    name, at, file = spec.partition("@")
    if name != SPEC or (at and not file):
        raise InputError(f"unknown sound model {spec!r}: write {SPEC}, or {SPEC}@FILE with a whitening")
    if not at:
        return shipped_sound_encoder()
    path = Path(file)
    own = read_whitening(path, RAW_DIMENSIONS, SPEC, command="matcher train descriptor --sound")
    return SoundEncoder(own, spec)
