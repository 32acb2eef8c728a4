"""Text encoders: titles, descriptions and burned-in text as vectors whose inner product is a similarity.

The default learns nothing and needs no download: it hashes character n-grams, which Chinese and English
alike are made of.

Shape letters: ``n`` texts, ``d`` dimensions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.names import normal_form, runs
from matcher.encoders.base import Device, ModelInfo, fingerprint, unit_rows
from matcher.errors import InputError

SPEC = "ngrams"
D = 512
LEAST_D, MOST_D = 64, 1 << 16
#: Part of the fingerprint: raise it when anything here or in :mod:`index.names` changes the numbers.
REVISION = "ngrams-r1"
FORMS = f"{SPEC}, {SPEC}:D or open_clip:NAME/PRETRAINED"
#: Characters of the n-grams of a dense script (Chinese, say) and of words. See :class:`NgramTextEncoder`.
DENSE_LENGTHS, WORD_LENGTHS = (1, 2), (2, 3)


class TextEncoder(Protocol):
    """Turns texts into vectors."""

    @property
    def info(self) -> ModelInfo:
        """Words, fingerprint and dimensions."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) of length 1; a row of zeros where a text has nothing in it."""
        ...


class NgramTextEncoder:
    """Hashes the character n-grams of a text into d signed buckets (Weinberger et al. 2009).

    Of Chinese one character is already half a word and two are most often one: n-grams of 1 and 2, across the
    whole stretch, as no space says where a word ends. A letter says nothing, a pair little: n-grams of 2 and
    3, and a word has a space at both ends, so that how it begins and ends counts. On generated titles with
    typos, of 500 and among other words, these found the most; trigrams of Chinese and longer ones of words
    lost to typos what they won in sharpness. An n-gram that comes m times weighs 1 + ln m: a description
    that says one word ten times is not ten times about it. In place of scikit-learn's HashingVectorizer,
    which only counts, its FeatureHasher takes such weights; the hash is the same.

    Nothing is fitted, so no n-gram weighs less for being common, and vectors of different stores agree.

    Args:
        d: Buckets, from 64 to 65,536.
    """

    def __init__(self, d: int = D) -> None:
        if not LEAST_D <= d <= MOST_D:
            raise ValueError(f"d must be from {LEAST_D} to {MOST_D}, got {d}")
        self._hasher: Any = None
        parts = [REVISION, str(d), str(DENSE_LENGTHS), str(WORD_LENGTHS)]
        self.info = ModelInfo(SPEC if d == D else f"{SPEC}:{d}", fingerprint(parts), d)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) of length 1; zeros where a text has no letter, digit or symbol."""
        if len(texts) == 0:
            return np.zeros((0, self.info.d), np.float32)
        if self._hasher is None:
            from sklearn.feature_extraction import FeatureHasher

            self._hasher = FeatureHasher(self.info.d, input_type="pair", alternate_sign=True)
        return unit_rows(self._hasher.transform(map(weighted_ngrams, texts)).toarray())


def weighted_ngrams(text: str) -> list[tuple[str, float]]:
    """The n-grams of a text, each once, with 1 + ln of how often it comes."""
    counts = Counter(_ngrams(text))
    return [(gram, 1.0 + math.log(count)) for gram, count in counts.items()]


def _ngrams(text: str) -> Iterator[str]:
    for sort, run in runs(normal_form(text)):
        lengths = WORD_LENGTHS if sort == "word" else DENSE_LENGTHS
        padded = f" {run} " if sort == "word" else run
        for length in range(lengths[0], lengths[1] + 1):
            for start in range(len(padded) - length + 1):
                yield padded[start : start + length]


def load_text_encoder(spec: str = SPEC, *, device: Device = "auto") -> TextEncoder:
    """The text encoder of some words.

    Args:
        spec: ``ngrams`` (the default), ``ngrams:D`` with another number of dimensions, or
            ``open_clip:NAME/PRETRAINED``: that model's text tower, by tag or with a local file's weights.
        device: For open_clip; "auto" takes CUDA where there is one.

    Raises:
        InputError: The words name no text encoder, or its weights cannot be had.
        MissingDependencyError: CUDA was asked for and is not there.
    """
    if spec == SPEC:
        return NgramTextEncoder()
    family, _, rest = spec.partition(":")
    if family == SPEC and rest:
        d = int(rest) if rest.isascii() and rest.isdecimal() else 0
        if not LEAST_D <= d <= MOST_D:
            raise InputError(f"{spec!r}: the dimensions must be from {LEAST_D} to {MOST_D}")
        return NgramTextEncoder(d)
    if family == "open_clip" and "/" in rest:
        from matcher.encoders.text_open_clip import load_open_clip_text

        name, _, pretrained = rest.partition("/")
        return load_open_clip_text(name, pretrained, device=device, spec=spec)
    raise InputError(f"unknown text encoder {spec!r}: use {FORMS}")
