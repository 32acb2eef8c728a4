"""What a training of the clip model is told, and what it tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from matcher.errors import InputError

Precision = Literal["auto", "fp32", "bf16"]
Watch = Literal["loss", "accuracy"]


@dataclass(frozen=True)
class LoopConfig:
    """How the clip model is trained.

    Attributes:
        epochs: Times that every clip is shown, at most.
        batch_size: Clips of a step, of all processes together.
        learning_rate: The highest; it rises to it in a straight line and falls to 0 as a cosine.
        weight_decay: Of weight matrices; not of biases, normalizations, centres and absence tokens.
        warmup_share: Of all steps, in which the learning rate rises.
        modality_weight: How much the heads of single modalities count against the fused ones.
        program_weight: How much it counts that clips of one program lie near each other and those of others
            do not (:mod:`matcher.training.program_loss`), beside the answers of the heads. Without it the
            embedding forgets what tells programs of one category apart.
        frames_per_clip: So many of a clip's frames, and of its sound patches, are shown in a step, others
            each time; all where None.
        patience: Epochs without a better validation after which it stops; never where None.
        watch: What of the validation is to get better: the fused heads' loss, or their mean accuracy.
        clip_norm: Length to which a longer gradient is cut.
        seed: Draws the order of the clips and what is dropped.
        precision: Of the products: "auto" is half precision on a GPU (bfloat16 where it has it) and single
            precision on the CPU.
        checkpoint_steps: Steps between two checkpoints; one more is written after every epoch.

    Raises:
        InputError: A value is out of its range.
    """

    epochs: int = 30
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    modality_weight: float = 1.0
    program_weight: float = 0.0
    frames_per_clip: int | None = None
    patience: int | None = 5
    watch: Watch = "loss"
    clip_norm: float = 1.0
    seed: int = 0
    precision: Precision = "auto"
    checkpoint_steps: int = 1000

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 2, "frames_per_clip": 1, "patience": 1, "seed": 0,
                 "checkpoint_steps": 1}  # fmt: skip
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InputError(f"{name} must be at least {bound}, got {value}")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "modality_weight", "program_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.warmup_share < 1:
            raise InputError(f"warmup_share must be from 0 to below 1, got {self.warmup_share}")
        for name, words in (("precision", get_args(Precision)), ("watch", get_args(Watch))):
            if getattr(self, name) not in words:
                raise InputError(f"{name} must be one of {', '.join(words)}, got {getattr(self, name)!r}")

    def to_words(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def rate(self, step: int, n_steps: int) -> float:
        """The learning rate of a step, of ``n_steps`` in all."""
        n_rising = round(self.warmup_share * n_steps)
        if step < n_rising:
            return self.learning_rate * (step + 1) / n_rising
        done = (step - n_rising) / max(1, n_steps - n_rising)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Step:
    """One step that was taken.

    Attributes:
        epoch: From 0.
        batch: Of the epoch, from 0.
        n_batches: Of an epoch.
        step: Of the whole training, from 0.
        loss: Of this process's clips, as last looked at: on a GPU not of every step.
        learning_rate: Of this step.
    """

    epoch: int
    batch: int
    n_batches: int
    step: int
    loss: float
    learning_rate: float


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Judgement:
    """How good the model is on clips that it does not learn from.

    Attributes:
        loss: Lower is better.
        accuracy: By head the share of clips whose likeliest class is right; empty where there is none.
    """

    loss: float
    accuracy: dict[str, float]

    def score(self, watch: Watch) -> float:
        """Higher is better; the loss where there is no accuracy."""
        if watch == "accuracy" and self.accuracy:
            return sum(self.accuracy.values()) / len(self.accuracy)
        return -self.loss


@dataclass(frozen=True)
class Epoch:
    """One epoch that was finished.

    Attributes:
        number: From 0.
        loss: Mean over its steps.
        validation: None where nothing was held out.
        seconds: It took, the validation counted.
        clips_per_second: Learned from, by all processes, the validation not counted.
    """

    number: int
    loss: float
    validation: Judgement | None
    seconds: float
    clips_per_second: float


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes:
        epochs: In order.
        best_epoch: The one whose weights the model has: the best on the validation, else the last.
        stopped_early: No epoch after the best one was better, so often that patience ended.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped_early: bool

    @property
    def best(self) -> Epoch:
        """The epoch whose weights the model has."""
        return self.epochs[self.best_epoch]

    def to_words(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def epoch_of_words(words: dict[str, Any]) -> Epoch:
    """Read what ``asdict`` made of an epoch."""
    judged = words["validation"]
    parts = {field.name: words[field.name] for field in fields(Epoch)}
    return Epoch(**{**parts, "validation": None if judged is None else Judgement(**judged)})
