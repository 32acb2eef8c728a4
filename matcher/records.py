"""The records that flow through the pipeline: frozen, and checked when made.

Shape letters: ``n`` frames, ``d`` descriptor dimensions. Times are seconds from the first frame
of their own file. Similarities are cosines: higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from index.rows import FeatureRecord, LinkBasis

Decision = Literal["linked", "review", "none"]
#: What a look is of, and what an aligned stretch rests on.
Kind = Literal["picture", "sound"]
Basis = Literal["picture", "sound", "both"]


@dataclass(frozen=True)
class Frame:
    """One decoded picture.

    Attributes:
        t_seconds: Presentation time, from the first frame of the file.
        image: (height, width, 3) uint8 sRGB, upright, square pixels, at most as large as asked for.
    """

    t_seconds: float
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (h, w, 3) uint8, got {self.image.shape} {self.image.dtype}")


@dataclass(frozen=True)
class Look:
    """What one view of a file's frames shows, or what its sound says, in time order.

    Attributes:
        view: Name of the view, see :class:`matcher.views.View`; :data:`SOUND` of the sound.
        t_seconds: (n,) float64, strictly increasing; of a patch of sound, its middle.
        vectors: (n, d) float32, each of length 1.
        kind: Which of the two; their descriptors are not compared.
    """

    view: str
    t_seconds: NDArray[np.float64]
    vectors: NDArray[np.float32]
    kind: Kind = "picture"

    def __post_init__(self) -> None:
        _check_descriptors(self.t_seconds, self.vectors)

    def __len__(self) -> int:
        return int(self.t_seconds.size)


def rounded(look: Look) -> Look:
    """A look as a store rounds it, so that descriptors that were kept answer like those at hand."""
    return replace(look, vectors=look.vectors.astype(np.float16).astype(np.float32))


#: Name of the first look: the whole picture, trimmed of bars and fill.
WHOLE = "whole"
#: That of what was heard.
SOUND = "sound"


@dataclass(frozen=True)
class Descriptors:
    """The unit-length descriptors of one file's informative frames, in time order.

    Attributes:
        t_seconds: (n,) float64, strictly increasing.
        vectors: (n, d) float32, each of length 1.
        duration_seconds: Length of the file, frames skipped as blank included.
        frames_seen: Frames decoded, blank ones included.
        further: Looks through other views, at some of the frames or all; none where the first look
            said enough.
        sound: What was heard: no patch where the file is silent; None where nobody listened.
    """

    t_seconds: NDArray[np.float64]
    vectors: NDArray[np.float32]
    duration_seconds: float
    frames_seen: int
    further: tuple[Look, ...] = ()
    sound: Look | None = None

    def __post_init__(self) -> None:
        _check_descriptors(self.t_seconds, self.vectors)

    @property
    def looks(self) -> tuple[Look, ...]:
        """All of them: the first look first, what was heard last."""
        heard = () if self.sound is None else (self.sound,)
        return (Look(WHOLE, self.t_seconds, self.vectors), *self.further, *heard)

    def __len__(self) -> int:
        return int(self.t_seconds.size)


def _check_descriptors(t_seconds: NDArray[np.float64], vectors: NDArray[np.float32]) -> None:
    if vectors.ndim != 2 or t_seconds.shape != (vectors.shape[0],):
        raise ValueError(f"t_seconds {t_seconds.shape} does not fit vectors {vectors.shape}")
    if t_seconds.size > 1 and not bool(np.all(np.diff(t_seconds) > 0)):
        raise ValueError("t_seconds must be strictly increasing")
    if not bool(np.isfinite(vectors).all()):
        raise ValueError("vectors must be finite")


@dataclass(frozen=True)
class Elsewhere:
    """Another place that shows a segment's stretch about as well: a title, a recap, a repeat."""

    asset_id: str
    asset_start_seconds: float
    asset_end_seconds: float
    similarity: float


@dataclass(frozen=True)
class Segment:
    """A stretch of the clip and the stretch of an asset that it was cut from; half-open.

    Attributes:
        clip_start_seconds: In the clip.
        clip_end_seconds: In the clip; never before it starts.
        asset_id: The asset.
        asset_start_seconds: In the asset, its earliest second, also where the clip plays backwards.
        asset_end_seconds: In the asset.
        similarity: Mean cosine of the frames compared.
        is_reversed: The clip plays the stretch backwards.
        view: What the clip was looked at through; :data:`SOUND` where it rests on the sound alone.
        evidence: Whether picture or sound shows it, or both.
        ambiguity: 0 where the place is sure, 1 where another one of the asset fits as well (a still scene).
        also: Other places that show the same, best first.
    """

    clip_start_seconds: float
    clip_end_seconds: float
    asset_id: str
    asset_start_seconds: float
    asset_end_seconds: float
    similarity: float
    is_reversed: bool = False
    view: str = WHOLE
    evidence: Basis = "picture"
    ambiguity: float = 0.0
    also: tuple[Elsewhere, ...] = ()

    def __post_init__(self) -> None:
        if self.clip_end_seconds < self.clip_start_seconds:
            raise ValueError(f"segment ends ({self.clip_end_seconds}) before it starts")


@dataclass(frozen=True)
class Link:
    """A program accepted, or put up for review, with its evidence."""

    program_id: str
    confidence: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Guess:
    """A program considered.

    Attributes:
        program_id: Which.
        title: Its title.
        confidence: Probability of a link, 0 to 1.
        score: Mean similarity of its aligned frames, 0 if none align.
        log_odds: The confidence before it is squeezed between 0 and 1: what to rank clips by.
    """

    program_id: str
    title: str
    confidence: float
    score: float
    log_odds: float = 0.0


@dataclass(frozen=True)
class Heard:
    """Whose sound it is, whatever the pictures show.

    Attributes:
        program_id: Of the program most likely.
        confidence: Probability of that, 0 to 1.
        agrees: Whether the program is one that the clip is linked to or put up for review with; False where
            the pictures are another's.
    """

    program_id: str
    confidence: float
    agrees: bool


@dataclass(frozen=True)
class Reviewed:
    """What a person said of the clip, and what would be answered without.

    Attributes:
        word: "program" or "none"; None where only some programs were rejected.
        program_id: The program named.
        rejected: Programs that the clip is not from.
        at: When last: UTC, ISO 8601.
        decision: What the matcher would have decided, the rejected programs left aside.
        best: The program it would have put first; None without any.
        confidence: Of that.
        reviews: How many times anybody spoke of the clip.
        decides: Whether the answer is that person's. It is the matcher's where only some programs were
            rejected, and where the program named is not in the catalogue.
    """

    word: Literal["program", "none"] | None
    program_id: str | None
    rejected: tuple[str, ...]
    at: str
    decision: Decision
    best: str | None
    confidence: float
    reviews: int = 1
    decides: bool = False


@dataclass(frozen=True)
class Related:
    """A program that a clip is about.

    Attributes:
        program_id: Which.
        title: Of it.
        confidence: Probability that it is, 0 to 1.
        similarity: Of the clip's embedding and that of the program's nearest stretch; None where that is far.
        title_score: How much of a title stands in the clip's words, 0 to 1.
        matched: The title that does; "" without.
    """

    program_id: str
    title: str
    confidence: float
    similarity: float | None
    title_score: float
    matched: str = ""

    def to_json(self) -> dict[str, Any]:
        """As an answer shows it.

        To four digits: with the clips that it is asked beside, the last ones of a similarity change.
        """
        sources = (("embedding", self.similarity is not None), ("title", self.title_score > 0))
        words = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return words | {"basis": [name for name, there in sources if there]}


@dataclass(frozen=True)
class Failure:
    """Why a file has no answer."""

    kind: str
    message: str


@dataclass(frozen=True)
class Answer:
    """The answer for one clip; :meth:`to_json` is the public form.

    Attributes:
        clip_id: The caller's name of the clip.
        path: Its file.
        decision: "linked", "review" or "none".
        links: Programs accepted, best first; for "review" those to look at.
        candidates: The best guesses, whatever the decision.
        model: Fingerprint of the encoder.
        catalog_version: The state of the catalog that was searched.
        error: Set when the file could not be read; the decision is then "none".
        looks: Views that the clip was looked at through; 1 where the first look was enough.
        heard: Whose sound it is; None where it is nobody's, or nobody listened.
        patches: Patches of its sound that say something: 0 of a silent clip; None where nobody listened.
        sound_replaced: It is linked, and its sound is known to be another's at all these places.
        reviewed: What a person said of it, and whether that decides; None where nobody said anything.
        basis: What it rests on, for whoever keeps it.
        related: Programs that it is about without being cut from them, the most likely first.
        categories: What it is, on three tiers, as JSON takes it; None where nothing says.
        features: What its embedding was made of, and that, for whoever keeps it.
        beside: Hash of what ``related`` and ``categories`` rest on but the clip; "" where nobody said them.
    """

    clip_id: str
    path: str
    decision: Decision
    links: tuple[Link, ...]
    candidates: tuple[Guess, ...]
    model: str
    catalog_version: int
    error: Failure | None = None
    looks: int = 1
    heard: Heard | None = None
    patches: int | None = None
    reviewed: Reviewed | None = None
    basis: LinkBasis | None = field(default=None, compare=False)
    related: tuple[Related, ...] = ()
    categories: Mapping[str, Any] | None = None
    features: FeatureRecord | None = field(default=None, compare=False)
    beside: str = field(default="", compare=False)
    sound_replaced: bool = False

    @property
    def program_id(self) -> str | None:
        """The best program accepted."""
        return self.links[0].program_id if self.decision == "linked" else None

    @property
    def is_said(self) -> bool:
        """Whether a person decided it, and not the matcher."""
        return self.reviewed is not None and self.reviewed.decides

    @property
    def confidence(self) -> float:
        """That of the best link, else of the best guess."""
        best = self.links or self.candidates
        return best[0].confidence if best else 0.0

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints: fields may be added to it, none renamed or dropped."""
        return {
            "clip_id": self.clip_id,
            "path": self.path,
            "decision": self.decision,
            "program_id": self.program_id,
            "confidence": round(self.confidence, 6),
            "links": [_rounded(asdict(link)) for link in self.links] if self.decision == "linked" else [],
            "review": [_rounded(asdict(link)) for link in self.links] if self.decision == "review" else [],
            "candidates": [_rounded(asdict(guess)) for guess in self.candidates],
            "categories": None if self.categories is None else dict(self.categories),
            "model": self.model,
            "catalog_version": self.catalog_version,
            "error": None if self.error is None else asdict(self.error),
            "looks": self.looks,
            "passes": 1 if self.looks == 1 else 2,
            "sound": None if self.heard is None else _rounded(asdict(self.heard)),
            "patches": self.patches,
            "sound_replaced": self.sound_replaced,
            "reviewed": None if self.reviewed is None else _rounded(asdict(self.reviewed)),
            "related": [related.to_json() for related in self.related],
            "beside": self.beside,
        }


def _rounded(value: Any) -> Any:
    """Floats to a millionth and tuples to lists, all the way down."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
