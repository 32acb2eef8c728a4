"""How a tier's head is trained; no torch is needed to say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from matcher.category_head import HeadForm
from matcher.errors import InputError
from matcher.inputs import one_line


@dataclass(frozen=True)
class AugmentationConfig:
    """Which augmentations, all off by default.

    Attributes:
        mixup: Parameter of the Beta distribution of mix-up; 0 is off.
        dropout: Rate at which dimensions of a view are lost; 0 is off.
        noise: Standard deviations of the class's own covariance that are added; 0 is off.
        shrink_examples: So many examples are worth as much as the covariance common to all classes.

    Raises:
        ValueError: A value is out of its range.
    """

    mixup: float = 0.0
    dropout: float = 0.0
    noise: float = 0.0
    shrink_examples: float = 20.0

    def __post_init__(self) -> None:
        if self.mixup < 0 or self.noise < 0 or self.shrink_examples <= 0:
            raise ValueError("mixup and noise must be at least 0, shrink_examples above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")


@dataclass(frozen=True)
class HeadTraining:
    """How one head is trained.

    Attributes:
        form: A mixture of experts a class, or a logistic regression.
        n_experts: Of a mixture, the dummy not counted.
        balance: 0: every clip counts the same; 1: every class does.
        min_examples: A class with fewer is left to the bank of examples, which is the better one up to about
            this many (docs/categories.md).
        folds: At most so many.
        max_steps: At most so many steps.
        check_steps: The held-out loss is looked at every so many.
        patience: Looks without a gain before training stops.
        batch: Clips a step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        augmentation: Which.
        augment_below: Noise and lost dimensions are for classes with fewer examples than this alone.
        seed: Of everything by chance.

    Raises:
        ValueError: A value is out of its range.
    """

    form: HeadForm = "experts"
    n_experts: int = 2
    balance: float = 0.0
    min_examples: int = 10
    folds: int = 5
    max_steps: int = 2000
    check_steps: int = 25
    patience: int = 8
    batch: int = 256
    learning_rate: float = 0.003
    weight_decay: float = 0.5
    augmentation: AugmentationConfig = AugmentationConfig()
    augment_below: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.form not in get_args(HeadForm):
            raise ValueError(f"form must be one of {', '.join(get_args(HeadForm))}, got {self.form!r}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance must be from 0 to 1, got {self.balance}")
        for name, least in (
            ("n_experts", 1), ("min_examples", 1), ("folds", 2), ("max_steps", 1), ("check_steps", 1),
            ("patience", 1), ("batch", 2), ("seed", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be above 0 and weight_decay at least 0")

    @classmethod
    def of_words(
        cls, *, head: str | None, augment: Sequence[str], min_examples: int | None, seed: int
    ) -> HeadTraining:
        """From the words of the command line; what is not given is as usual.

        Args:
            head: "experts" or "logistic".
            augment: Of :data:`AUGMENTATIONS`.
            min_examples: Clips from which on a category has a head.
            seed: Of everything by chance.

        Raises:
            InputError: A word is unknown.
        """
        if head not in (None, *get_args(HeadForm)):
            raise InputError(f"--head {head} is none of {', '.join(get_args(HeadForm))}")
        given: dict[str, Any] = {"form": head, "min_examples": min_examples}
        return cls(
            augmentation=augmentation_of(augment), seed=seed,
            **{name: value for name, value in given.items() if value is not None},
        )  # fmt: skip


#: What each word of ``--augment`` puts on, as strong as docs/categories.md measures it.
AUGMENTATIONS: dict[str, float] = {"mixup": 0.3, "dropout": 0.3, "noise": 1.0}


def augmentation_of(words: Sequence[str]) -> AugmentationConfig:
    """What the words of ``--augment`` ask for together.

    Raises:
        InputError: A word is none of ``AUGMENTATIONS``.
    """
    unknown = [word for word in words if word not in AUGMENTATIONS]
    if unknown:
        raise InputError(f"no augmentation {one_line(unknown[0])!r}; there are {', '.join(AUGMENTATIONS)}")
    return AugmentationConfig(**{word: AUGMENTATIONS[word] for word in words})
