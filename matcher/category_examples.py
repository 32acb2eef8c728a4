"""Categories from a handful of examples: answered by likeness until a head is trained.

A class is the mean direction of its examples, as prototypical networks have it (Snell et al. 2017): with the
mean of all labelled clips taken off first, or every clip would be alike, and in a metric that discounts what
clips of one class differ by anyway (their programs' sets and faces), as far as known classes tell. How alike
a clip is becomes a probability by a logistic map, which depends on the number of examples too: a mean of two
wanders more than a mean of twenty. ``matcher train categories`` fits metric and map on classes that it knows
well; until then the metric is the plain one and the map a fixed guess, and it says so.

Shape letters: ``N`` clips, ``D`` dimensions, ``M`` examples, ``C`` classes of the bank.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.files import write_atomically
from matcher.category_head import Floats, logistic
from matcher.encoders.base import unit_rows
from matcher.errors import InputError
from matcher.inputs import one_line
from matcher.tensor_file import pack, read_file, unpack, unreadable

#: Raise it when the same numbers would give other answers.
REVISION = "1"
_KEY = "category_examples"


@dataclass(frozen=True)
class LikenessMap:
    """From likeness to probability: ``logistic(slope * s + per_log * log(k) + both * s * log(k) + bias)``.

    ``s`` is the cosine to a class and ``k`` the number of its examples.

    Attributes:
        slope: Of s.
        per_log: Of log k.
        both: Of their product.
        bias: The rest.
        is_calibrated: Whether it was fitted, or is the fixed guess.
    """

    slope: float
    per_log: float
    both: float
    bias: float
    is_calibrated: bool

    def log_odds(self, likeness: Floats, counts: NDArray[np.int64]) -> Floats:
        """(N, C) of likenesses (N, C) to classes with ``counts`` (C,) examples."""
        logs = np.log(np.maximum(counts, 1))
        odds: Floats = self.slope * likeness + self.per_log * logs + self.both * likeness * logs + self.bias
        return odds


#: One half at a cosine of 0.5, 0.92 at 0.75 and 0.08 at 0.25: right by luck at most, hence calibrated soon.
FIXED_MAP = LikenessMap(slope=10.0, per_log=0.0, both=0.0, bias=-5.0, is_calibrated=False)


@dataclass(frozen=True)
class ExampleBank:
    """Labelled clips of classes with few of them.

    Attributes:
        vectors: (M, D) embeddings.
        paths: (M,) category of each, on any tier; a clip of several comes several times.
        center: (D,) the mean embedding of labelled clips; of the examples where nothing else is known.
        likeness: The map to probabilities.
        metric: (D, D) that centred embeddings are multiplied by; None for none.
        model: Fingerprint of the model that made the embeddings.

    Raises:
        ValueError: The shapes disagree, or a number is not finite.
    """

    vectors: NDArray[np.float32]
    paths: tuple[str, ...]
    center: NDArray[np.float32]
    likeness: LikenessMap = FIXED_MAP
    metric: NDArray[np.float32] | None = None
    model: str = ""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.paths):
            raise ValueError(f"{len(self.paths)} examples need vectors (M, D), got {self.vectors.shape}")
        if self.center.shape != self.vectors.shape[1:]:
            raise ValueError(f"center {self.center.shape} does not fit vectors {self.vectors.shape}")
        if self.metric is not None and self.metric.shape != self.center.shape * 2:
            raise ValueError(f"metric {self.metric.shape} does not fit vectors {self.vectors.shape}")
        arrays = (self.vectors, self.center, np.zeros(1) if self.metric is None else self.metric)
        if not all(np.isfinite(one).all() for one in arrays):
            raise ValueError("it holds numbers that are not finite")

    @cached_property
    def class_paths(self) -> tuple[str, ...]:
        """(C,) its classes, in the order of their first example."""
        return tuple(self._counted)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(C,) examples of each class."""
        return np.array([*self._counted.values()], dtype=np.int64)

    @cached_property
    def _counted(self) -> Counter[str]:
        return Counter(self.paths)

    def add(self, vectors: NDArray[np.float32], paths: Sequence[str]) -> ExampleBank:
        """One with more examples, answering from now on.

        Raises:
            ValueError: The vectors have other dimensions.
        """
        joined = np.concatenate([self.vectors, vectors])
        return replace(self, vectors=joined, paths=(*self.paths, *paths))

    def probabilities(self, x: NDArray[np.float32]) -> Floats:
        """(N, C) of embeddings (N, D), by the likeness map.

        Raises:
            ValueError: The embeddings have other dimensions.
        """
        return logistic(self.likeness.log_odds(self.likenesses(x), self.counts))

    def likenesses(self, x: NDArray[np.float32]) -> Floats:
        """(N, C) cosines between embeddings (N, D) and the mean direction of each class, in the metric.

        Raises:
            ValueError: The embeddings have other dimensions.
        """
        if x.ndim != 2 or x.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"embeddings must be (N, {self.vectors.shape[1]}), got {x.shape}")
        cosines: Floats = (self._directions(x) @ self._prototypes.T).astype(np.float64)
        return cosines

    @cached_property
    def _prototypes(self) -> NDArray[np.float32]:
        """(C, D) of length 1."""
        directions = self._directions(self.vectors)
        places = {path: place for place, path in enumerate(self.class_paths)}
        sums = np.zeros((len(places), self.vectors.shape[1]))
        np.add.at(sums, np.array([places[path] for path in self.paths], dtype=np.int64), directions)
        return unit_rows(sums)

    def _directions(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) of length 1, centred and in the metric."""
        centered = x - self.center
        return unit_rows(centered if self.metric is None else centered @ self.metric)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that an answer depends on, 12 hex digits."""
        own = self.likeness
        words = [REVISION, self.paths, own.slope, own.per_log, own.both, own.bias, self.model]
        digest = hashlib.sha256(json.dumps(words).encode())
        digest.update(self.vectors.astype(np.float32).tobytes() + self.center.astype(np.float32).tobytes())
        if self.metric is not None:
            digest.update(self.metric.astype(np.float32).tobytes())
        return digest.hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the file in one step."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of a file."""
        words = {"paths": list(self.paths), "likeness": vars(self.likeness), "model": self.model}
        tensors = {"vectors": self.vectors, "center": self.center}
        return pack(_KEY, REVISION, words, tensors | ({} if self.metric is None else {"metric": self.metric}))

    @classmethod
    def load(cls, path: Path) -> ExampleBank:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: There is no such file, or it is no bank of this version of the program.
        """
        name = one_line(str(path))
        words, tensors = unpack(_KEY, REVISION, read_file(path, "bank of examples"), name)
        try:
            return cls(
                tensors["vectors"],
                tuple(words["paths"]),
                tensors["center"],
                LikenessMap(**words["likeness"]),
                tensors.get("metric"),
                words["model"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(name, error) from error


def check_model(wanted: str, got: str, what: str) -> None:
    """Raise InputError where embeddings of model ``got`` meet what was made with ``wanted``; "" fits any."""
    if wanted and got and wanted != got:
        raise InputError(
            f"{what} was made with embeddings of model {wanted}, these are of {got}; run"
            " `matcher train categories` again, or go back to that model with `matcher models use`"
        )
