"""One tier's head as a file, and its answers in numpy: nobody who only asks needs torch.

Shape letters: ``N`` clips, ``D`` dimensions of an embedding, ``C`` classes of the head, ``H`` experts each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from index.files import write_atomically
from matcher.inputs import TIERS, one_line
from matcher.tensor_file import pack, read_file, unpack, unreadable

#: Raise it when the same numbers would give other answers, so that older files are refused.
REVISION = "1"
_KEY = "category_head"
#: So many clips at once: bounds the memory of the experts, N times C times H.
_ROWS_AT_ONCE = 4096

Floats = NDArray[np.float64]
HeadForm = Literal["experts", "logistic"]
#: The tensors of each form, as ``state_dict`` of the torch module names them.
TENSORS: dict[HeadForm, tuple[str, ...]] = {
    "experts": ("gates.weight", "experts.weight", "experts.bias"),
    "logistic": ("linear.weight", "linear.bias"),
}


@dataclass(frozen=True)
class TierHead:
    """A trained head of one tier.

    Attributes:
        tier: 1, 2 or 3.
        class_paths: (C,) the categories that it knows: a subset of the tier's, in the taxonomy's order.
        form: The torch module that it comes from.
        weights: That module's tensors, float32.
        center: (D,) taken from an embedding before anything else.
        scale: What is left is divided by it.
        offsets: (C,) taken from the log odds: what the balance of classes added to them in training.
        temperature: The log odds are then divided by it.
        rivalry: How far a class that is likely makes the others less so; see :func:`calibrate`.
        taxonomy: ``name@version`` that it was trained by.
        taxonomy_fingerprint: That taxonomy's.
        model: Fingerprint of the model that made the embeddings.
        figures: What it measured on held-out programs.
        trained_at: ISO 8601 in UTC.
        notes: How it was trained.

    Raises:
        ValueError: A shape disagrees with another, or a number is not finite.
    """

    tier: int
    class_paths: tuple[str, ...]
    form: HeadForm
    weights: Mapping[str, NDArray[np.float32]]
    center: NDArray[np.float32]
    scale: float
    offsets: NDArray[np.float32]
    temperature: float
    rivalry: float = 0.0
    taxonomy: str = ""
    taxonomy_fingerprint: str = ""
    model: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    trained_at: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.tier <= TIERS:
            raise ValueError(f"tier must be from 1 to {TIERS}, got {self.tier}")
        if self.form not in get_args(HeadForm) or set(self.weights) != set(TENSORS[self.form]):
            raise ValueError(f"a head of form {self.form!r} cannot have the tensors {sorted(self.weights)}")
        c, d = len(self.class_paths), len(self.center)
        if c < 1 or len(set(self.class_paths)) < c:
            raise ValueError(f"a head needs classes that differ, got {c}")
        if any(path.count("/") + 1 != self.tier for path in self.class_paths):
            raise ValueError(f"a class is not of tier {self.tier}")
        weights = {name: one.shape for name, one in self.weights.items()}
        h = weights["experts.bias"][0] // c if self.form == "experts" else 0
        wanted = {
            "gates.weight": (c * (h + 1), d), "experts.weight": (c * h, d), "experts.bias": (c * h,),
            "linear.weight": (c, d), "linear.bias": (c,),
        }  # fmt: skip
        for name, shape in (*weights.items(), ("offsets", self.offsets.shape)):
            if shape != wanted.get(name, (c,)) or 0 in shape:
                raise ValueError(f"{name} {shape} does not fit {c} classes of {d} dimensions")
        if self.center.ndim != 1 or self.scale <= 0 or self.temperature <= 0:
            raise ValueError("center must be (D,), scale and temperature above 0")
        if not 0 <= self.rivalry <= (c > 1):
            raise ValueError(f"rivalry must be from 0 to 1, and 0 for one class alone; got {self.rivalry}")
        arrays = (*self.weights.values(), self.center, self.offsets, np.array([self.scale, self.temperature]))
        if not all(np.isfinite(one).all() for one in arrays):
            raise ValueError("it holds numbers that are not finite; train it again")

    @property
    def d(self) -> int:
        """D."""
        return len(self.center)

    def probabilities(self, x: NDArray[np.float32]) -> Floats:
        """(N, C) calibrated probabilities of embeddings (N, D); classes do not exclude each other.

        Raises:
            ValueError: The embeddings have other dimensions.
        """
        return logistic(self.log_odds(x))

    def log_odds(self, x: NDArray[np.float32]) -> Floats:
        """(N, C) calibrated log odds of embeddings (N, D).

        Raises:
            ValueError: The embeddings have other dimensions.
        """
        if x.ndim != 2 or x.shape[1] != self.d:
            raise ValueError(f"embeddings must be (N, {self.d}), got {x.shape}")
        centered = (x.astype(np.float32, copy=False) - self.center) / np.float32(self.scale)
        parts = [
            self._raw_log_odds(centered[start : start + _ROWS_AT_ONCE])
            for start in range(0, len(x), _ROWS_AT_ONCE)
        ]
        raw = np.concatenate(parts) if parts else np.zeros((0, len(self.class_paths)))
        return calibrate(raw - self.offsets, temperature=self.temperature, rivalry=self.rivalry)

    def _raw_log_odds(self, x: NDArray[np.float32]) -> Floats:
        """(N, C) as the torch module of ``form`` gives them."""
        own = self.weights
        if self.form == "logistic":
            return (x @ own["linear.weight"].T + own["linear.bias"]).astype(np.float64)
        shape = (len(x), len(self.class_paths), -1)
        gates = (x @ own["gates.weight"].T).reshape(shape).astype(np.float64)
        experts = (x @ own["experts.weight"].T + own["experts.bias"]).reshape(shape).astype(np.float64)
        # The gates need not be normalized: their sum falls out of the difference.
        trust, dummy = gates[..., :-1], gates[..., -1:]
        log_yes = np.logaddexp.reduce(trust - np.logaddexp(0.0, -experts), axis=-1)
        log_no = np.logaddexp.reduce(
            np.concatenate([trust - np.logaddexp(0.0, experts), dummy], axis=-1), axis=-1
        )
        log_odds: Floats = log_yes - log_no
        return log_odds

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that an answer depends on, 12 hex digits."""
        words = [REVISION, self.tier, self.class_paths, self.form, self.scale, self.model]
        words += [self.temperature, self.rivalry]
        digest = hashlib.sha256(json.dumps(words).encode())
        for one in (self.center, self.offsets, *(self.weights[name] for name in TENSORS[self.form])):
            digest.update(np.ascontiguousarray(one, np.float32).tobytes())
        return digest.hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the file in one step: after a crash the old one is there, or the new one."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of a file: safetensors, with everything else as JSON in its metadata."""
        words = {
            "tier": self.tier, "class_paths": list(self.class_paths), "form": self.form, "scale": self.scale,
            "temperature": self.temperature, "rivalry": self.rivalry, "taxonomy": self.taxonomy,
            "taxonomy_fingerprint": self.taxonomy_fingerprint, "model": self.model,
            "figures": dict(self.figures), "trained_at": self.trained_at, "notes": dict(self.notes),
        }  # fmt: skip
        tensors = {**self.weights, "center": self.center, "offsets": self.offsets}
        return pack(_KEY, REVISION, words, tensors)

    @classmethod
    def load(cls, path: Path) -> TierHead:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: There is no such file, it is no head, or of another version of the program.
        """
        name = one_line(str(path))
        words, tensors = unpack(_KEY, REVISION, read_file(path, "category head"), name)
        try:
            words["class_paths"] = tuple(words["class_paths"])
            return cls(center=tensors.pop("center"), offsets=tensors.pop("offsets"), weights=tensors, **words)
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(name, error) from error


def calibrate(log_odds: Floats, *, temperature: float, rivalry: float) -> Floats:
    """Log odds of classes that were learned apart, brought to what they are worth together.

    For a class c with log odds z::

        z[c] / T - rivalry * log(sum over the other classes of exp(z / T))

    Rivalry 0 is temperature scaling of classes that say nothing of each other. Rivalry 1 is a softmax: one of
    the classes holds and no other. Heads that are learned class by class know nothing of that, so that where
    clips have one category, as most have, a temperature alone leaves the best one's confidence too low.

    Args:
        log_odds: (N, C); -inf where a class is not asked, which counts nothing.
        temperature: T.
        rivalry: From 0 to 1.

    Source: Guo et al. 2017, section 4.2, for the temperature.
    """
    scaled: Floats = log_odds / temperature
    if rivalry == 0.0 or scaled.size == 0:
        return scaled
    # The largest and the second largest, so that taking a class itself off loses no digits.
    best = scaled.argmax(axis=1)
    rows = np.arange(len(scaled))
    without_best = scaled.copy()
    without_best[rows, best] = -np.inf
    rest = np.logaddexp.reduce(without_best, axis=1)
    largest = scaled[rows, best]
    # Of others than the best one: log(exp(largest) + exp(rest) - exp(z)) = largest + log1p(exp(…) - exp(…)).
    share = np.exp(rest - largest)[:, None] - np.exp(without_best - largest[:, None])
    others = largest[:, None] + np.log1p(np.maximum(share, 0.0))
    others[rows, best] = rest
    calibrated = scaled - rivalry * others
    return np.where(np.isneginf(scaled), scaled, calibrated)


def logistic(log_odds: Floats) -> Floats:
    """Probabilities of log odds, without overflow."""
    p: Floats = np.exp(-np.logaddexp(0.0, -log_odds))
    return p
