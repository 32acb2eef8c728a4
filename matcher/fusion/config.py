"""How a clip model is built; saved with its weights. No torch is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Pooling = Literal["nextvlad", "netvlad", "mean", "max", "attention"]
Gating = Literal["context", "excitation", "none"]
HeadKind = Literal["experts", "logistic"]
Absence = Literal["token", "zeros"]


@dataclass(frozen=True)
class FramesConfig:
    """How the frames (or sound patches) of a clip become one vector.

    Attributes:
        d: Dimensions of a frame.
        d_out: Dimensions that go into fusion.
        pooling: The way.
        n_clusters: Of NeXtVLAD and NetVLAD.
        n_groups: Of NeXtVLAD.
        expansion: Of NeXtVLAD.
        d_hidden: Of attention pooling.

    Raises:
        ValueError: A number is below 1, the pooling is none of these, or the groups do not fit.
    """

    d: int
    d_out: int
    pooling: Pooling = "nextvlad"
    n_clusters: int = 64
    n_groups: int = 8
    expansion: int = 2
    d_hidden: int = 128

    def __post_init__(self) -> None:
        _check_word("pooling", self.pooling, get_args(Pooling))
        for name in ("d", "d_out", "n_clusters", "n_groups", "expansion", "d_hidden"):
            _check_count(name, getattr(self, name))
        if self.pooling == "nextvlad" and self.expansion * self.d % self.n_groups:
            raise ValueError(f"{self.n_groups} groups do not divide {self.expansion} x {self.d} dimensions")


@dataclass(frozen=True)
class HeadConfig:
    """One question that the heads answer, such as a tier of the categories.

    Attributes:
        name: Of the question.
        n_classes: How many answers there are; they do not exclude each other.

    Raises:
        ValueError: There is no name or no class.
    """

    name: str
    n_classes: int

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a head needs a name")
        _check_count("n_classes", self.n_classes)


@dataclass(frozen=True)
class ClipModelConfig:
    """A whole clip model.

    Attributes:
        heads: The questions, each asked of the fused vector and of every modality.
        picture: How frames are summed up.
        sound: How sound patches are: they have fewer dimensions and less to tell, so it is smaller.
        d_text: Dimensions of a text vector, which goes into fusion as it is.
        d_embedding: Dimensions that come out.
        gating: Of the fused vector.
        gating_reduction: Of gating "excitation".
        head: The kind of every head.
        n_experts: Of heads "experts", the dummy not counted.
        absence: What stands in place of a modality that is not there: a learned token, or zeros.
        modality_dropout: Rate at which a clip loses a modality in training.
        dropout: Rate at which numbers of the joined vector are lost in training.

    Raises:
        ValueError: A value is out of its range, or two heads share a name.
    """

    heads: tuple[HeadConfig, ...]
    picture: FramesConfig = field(default_factory=lambda: FramesConfig(d=512, d_out=512))
    sound: FramesConfig = field(
        default_factory=lambda: FramesConfig(d=128, d_out=128, n_clusters=16, n_groups=4)
    )
    d_text: int = 256
    d_embedding: int = 512
    gating: Gating = "context"
    gating_reduction: int = 8
    head: HeadKind = "experts"
    n_experts: int = 2
    absence: Absence = "token"
    modality_dropout: float = 0.3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_word("gating", self.gating, get_args(Gating))
        _check_word("head", self.head, get_args(HeadKind))
        _check_word("absence", self.absence, get_args(Absence))
        for name in ("d_text", "d_embedding", "gating_reduction", "n_experts"):
            _check_count(name, getattr(self, name))
        if len({head.name for head in self.heads}) < len(self.heads):
            raise ValueError(f"two heads share a name: {', '.join(head.name for head in self.heads)}")
        if not 0 <= self.modality_dropout <= 1:
            raise ValueError(f"modality_dropout must be from 0 to 1, got {self.modality_dropout}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text as they come in."""
        return self.picture.d, self.sound.d, self.d_text

    @property
    def fused_dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text as they are joined."""
        return self.picture.d_out, self.sound.d_out, self.d_text

    def to_words(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def of_words(cls, words: Mapping[str, Any]) -> ClipModelConfig:
        """Read what :meth:`to_words` gave.

        Raises:
            KeyError: A part is lacking.
            TypeError: A word is unknown, or a part is of another type.
            ValueError: A value is out of its range.
        """
        parts = {
            "heads": tuple(HeadConfig(**head) for head in words["heads"]),
            "picture": FramesConfig(**words["picture"]),
            "sound": FramesConfig(**words["sound"]),
        }
        return cls(**{**words, **parts})


def _check_word(name: str, got: str, wanted: tuple[str, ...]) -> None:
    if got not in wanted:
        raise ValueError(f"{name} must be one of {', '.join(wanted)}, got {got!r}")


def _check_count(name: str, got: int) -> None:
    if got < 1:
        raise ValueError(f"{name} must be at least 1, got {got}")
