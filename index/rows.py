"""The records of the catalog: frozen, checked when made, and free of ``lancedb``.

Shape letters: ``n`` frames, ``d`` dimensions; ``m`` sounds, ``ds`` their dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.base import Ids, Vectors

#: What vectors of programs are of; also the name of the table that holds them. Each kind has its own model.
#: Embeddings are of stretches of an asset, made from its frames, its sounds and the program's titles.
Kind = Literal["frames", "sounds", "embeddings"]
#: What a file itself gives, and a clip is linked by.
KINDS: tuple[Kind, ...] = ("frames", "sounds")
#: Whose table is there only once their model is.
LATER_KINDS: tuple[Kind, ...] = ("sounds", "embeddings")
ALL_KINDS: tuple[Kind, ...] = ("frames", *LATER_KINDS)

#: Bits of an id that count the frames (or the sounds) of one program: 16.7 million, 194 days at one a second.
ORDINAL_BITS = 24
MAX_FRAMES = 1 << ORDINAL_BITS


def id_range(number: int) -> tuple[int, int]:
    """The half-open range of the frame ids of a program's number; its sounds' ids have the same, apart."""
    return number << ORDINAL_BITS, (number + 1) << ORDINAL_BITS


def now_utc() -> str:
    """The time, ISO 8601 in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _check_text(name: str, value: str, *, empty_ok: bool = True) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r}")
    if not value and not empty_ok:
        raise ValueError(f"{name} must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} {value!r} is no valid Unicode") from error
    if "\0" in value:
        raise ValueError(f"{name} {value!r} holds a NUL character")


def _check_seconds(name: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {value}")


@dataclass(frozen=True)
class ModelInfo:
    """The model that made a store's descriptors.

    Attributes:
        fingerprint: Changes with anything that changes a descriptor.
        name: What a person calls it.
        d: Dimensions of a descriptor.
        config: Whatever the caller wants kept; must go into JSON.
    """

    fingerprint: str
    name: str
    d: int
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("fingerprint", self.fingerprint, empty_ok=False)
        _check_text("name", self.name)
        if self.d < 1:
            raise ValueError(f"d must be at least 1, got {self.d}")
        json.dumps(dict(self.config))


@dataclass(frozen=True)
class NewProgram:
    """A program about to be added; one already there under this id is replaced.

    Attributes:
        program_id: Any text but the empty one.
        title: What it is called.
        aliases: Other titles.
        categories: ``tier1/tier2/tier3`` paths.
        source_fingerprint: Tells the caller that the same files were added before.
    """

    program_id: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    source_fingerprint: str = ""

    def __post_init__(self) -> None:
        _check_text("program_id", self.program_id, empty_ok=False)
        for name in ("title", "source_fingerprint"):
            _check_text(name, getattr(self, name))
        for name in ("aliases", "categories"):
            for value in getattr(self, name):
                _check_text(name, value)


@dataclass(frozen=True)
class NewAsset:
    """One file of a program with its descriptors, in time order.

    Attributes:
        asset_id: Unique in its program.
        path: Where the file was.
        title: What it is called.
        duration_seconds: Length of the file.
        t_seconds: (n,) strictly increasing.
        vectors: (n, d) finite; stored as float16.
        sound: The file's sounds: (m,) times and (m, ds) vectors, as those of the frames; None where
            nobody listened.
        embedding: Its stretches likewise: their middles, and what the clip model makes of them; None where
            the store holds none.
    """

    asset_id: str
    path: str
    title: str
    duration_seconds: float
    t_seconds: NDArray[np.float64]
    vectors: Vectors
    sound: tuple[NDArray[np.float64], Vectors] | None = None
    embedding: tuple[NDArray[np.float64], Vectors] | None = None

    def __post_init__(self) -> None:
        _check_text("asset_id", self.asset_id, empty_ok=False)
        _check_text("path", self.path)
        _check_text("title", self.title)
        _check_seconds("duration_seconds", self.duration_seconds)
        _check_descriptors(self.t_seconds, self.vectors)
        for further in (self.sound, self.embedding):
            if further is not None:
                _check_descriptors(*further)


def _check_descriptors(t_seconds: NDArray[np.float64], vectors: Vectors) -> None:
    if vectors.ndim != 2 or t_seconds.shape != (vectors.shape[0],):
        raise ValueError(f"t_seconds {t_seconds.shape} does not fit vectors {vectors.shape}")
    if not bool(np.isfinite(t_seconds).all()) or not bool(np.all(np.diff(t_seconds) > 0)):
        raise ValueError("t_seconds must be finite and strictly increasing")
    if not bool(np.isfinite(vectors).all()) or (vectors.size and float(np.abs(vectors).max()) > 65504.0):
        raise ValueError("vectors must be finite, and so after rounding to float16")


@dataclass(frozen=True)
class ProgramRecord:
    """A row of ``programs``.

    Attributes:
        program_id: The caller's id.
        number: The generation shown; its frame ids are ``[number << 24, (number + 1) << 24)``.
        title: What it is called.
        aliases: Other titles.
        categories: ``tier1/tier2/tier3`` paths.
        added_at: UTC, ISO 8601.
        state: "live" or "removed".
        source_fingerprint: As the caller gave it.
        asset_count: Files; 0 once removed.
        frame_count: Descriptors of frames; 0 once removed.
        sound_count: Descriptors of sounds; 0 once removed.
        embedding_count: Embeddings; 0 once removed.
    """

    program_id: str
    number: int
    title: str
    aliases: tuple[str, ...]
    categories: tuple[str, ...]
    added_at: str
    state: str
    source_fingerprint: str
    asset_count: int
    frame_count: int
    sound_count: int = 0
    embedding_count: int = 0

    def __post_init__(self) -> None:
        if self.state not in ("live", "removed"):
            raise ValueError(f"state must be live or removed, got {self.state!r}")


@dataclass(frozen=True)
class AssetRecord:
    """A row of ``assets``.

    Attributes:
        program_id: Whose file it is.
        number: The generation of the program.
        asset_id: Unique in the program.
        path: Where the file was when it was added.
        title: What it is called.
        duration_seconds: Length of the file.
        frame_count: Its descriptors of frames.
        ordinal: Its place in the program, from 0; ids of frames, and those of sounds, run through the
            assets in this order.
        sound_count: Its descriptors of sounds.
        embedding_count: Its embeddings.
    """

    program_id: str
    number: int
    asset_id: str
    path: str
    title: str
    duration_seconds: float
    frame_count: int
    ordinal: int
    sound_count: int = 0
    embedding_count: int = 0


def count_of(record: ProgramRecord | AssetRecord, kind: Kind) -> int:
    """How many vectors of one kind a program or an asset has."""
    if kind == "frames":
        return record.frame_count
    return record.sound_count if kind == "sounds" else record.embedding_count


@dataclass(frozen=True)
class ClipRecord:
    """A kept clip, without its descriptors.

    Attributes:
        clip_id: The caller's id.
        path: Where the file was.
        title: What it is called.
        duration_seconds: Length of the file.
        frames_seen: Frames decoded, blank ones included.
        model: Fingerprint of the model of its descriptors.
        source_fingerprint: Tells the caller that the file is the same.
        kept_at: UTC, ISO 8601; set by :meth:`Writer.put_clips` where empty.
        sound_model: Fingerprint of the model of its sounds; "" where nobody listened.
    """

    clip_id: str
    path: str
    title: str
    duration_seconds: float
    frames_seen: int
    model: str
    source_fingerprint: str = ""
    kept_at: str = ""
    sound_model: str = ""

    def __post_init__(self) -> None:
        _check_text("clip_id", self.clip_id, empty_ok=False)
        for name in ("path", "title", "model", "source_fingerprint", "kept_at", "sound_model"):
            _check_text(name, getattr(self, name))
        _check_seconds("duration_seconds", self.duration_seconds)


@dataclass(frozen=True)
class StoredClip:
    """A kept clip with its descriptors.

    Attributes:
        record: The rest of the row.
        t_seconds: (n,) strictly increasing.
        vectors: (n, d) float32; stored as float16.
        further: More descriptors of the same clip under names of the caller's: times and vectors of each.
        sound: (m,) times and (m, ds) vectors of its sounds; None or no rows where it has none. Read
            back, it is None only where the record names no ``sound_model``.
    """

    record: ClipRecord
    t_seconds: NDArray[np.float64]
    vectors: Vectors
    further: tuple[tuple[str, NDArray[np.float64], Vectors], ...] = ()
    sound: tuple[NDArray[np.float64], Vectors] | None = None

    def __post_init__(self) -> None:
        _check_descriptors(self.t_seconds, self.vectors)
        for name, t_seconds, vectors in self.further:
            _check_text("name", name, empty_ok=False)
            _check_descriptors(t_seconds, vectors)
            if vectors.shape[1] != self.vectors.shape[1]:
                raise ValueError(f"{name} has d = {vectors.shape[1]}, not {self.vectors.shape[1]}")
        if self.sound is not None:
            _check_descriptors(*self.sound)
            if not self.record.sound_model:
                raise ValueError(f"clip {self.record.clip_id} has sound but names no sound_model")


@dataclass(frozen=True, eq=False)
class FeatureRecord:
    """What a clip model takes, and gives, of one kept clip.

    Attributes:
        clip_id: Which clip.
        kept_at: When its descriptors were kept: of other descriptors these are not the features.
        picture: (t, d) some of its frames; None where nobody knows, no rows where there is nothing to see.
        sound: (s, ds) a vector a second; likewise.
        sound_replaced: It is known not to be the sound of what the clip was cut from.
        scene_model: Fingerprint of the model of the scene part that the rows of ``sound`` end with; "" where
            they have none.
        text: (r,) of its words; None where nobody knows, zeros where it is known to have none.
        words: The words themselves, a JSON object.
        text_model: Fingerprint of the model of ``text``; "" without.
        embedding: (e,) of length 1; None where none was made.
        embedding_model: Fingerprint of the clip model that made it; "" without.
        wordless: (e,) the embedding of picture and sound alone, by the same model; None without any.

    Raises:
        ValueError: The shapes are others, a number is not finite, or a model is not named.
    """

    clip_id: str
    kept_at: str
    picture: Vectors | None = None
    sound: Vectors | None = None
    text: Vectors | None = None
    words: str = "{}"
    text_model: str = ""
    embedding: Vectors | None = None
    embedding_model: str = ""
    scene_model: str = ""
    wordless: Vectors | None = None
    sound_replaced: bool = False

    def __post_init__(self) -> None:
        _check_text("clip_id", self.clip_id, empty_ok=False)
        for name in ("kept_at", "words", "text_model", "embedding_model", "scene_model"):
            _check_text(name, getattr(self, name))
        for name, axes in (("picture", 2), ("sound", 2), ("text", 1), ("embedding", 1), ("wordless", 1)):
            found = getattr(self, name)
            if found is not None and (found.ndim != axes or not bool(np.isfinite(found).all())):
                raise ValueError(f"{name} of clip {self.clip_id} must be finite, with {axes} axes")
        for name in ("text", "embedding"):
            if (getattr(self, name) is None) != (getattr(self, f"{name}_model") == ""):
                raise ValueError(f"clip {self.clip_id} must have both {name} and {name}_model, or neither")
        if self.wordless is not None and self.embedding is None:
            raise ValueError(f"clip {self.clip_id} has an embedding without words and none with them")
        if self.scene_model and self.sound is None:
            raise ValueError(f"clip {self.clip_id} has a scene_model and no sound")

    @property
    def state(self) -> FeatureState:
        """What it was made from, without the arrays."""
        seconds = 0 if self.sound is None else len(self.sound)
        return FeatureState(self.kept_at, self.text_model, self.embedding_model, self.scene_model, seconds)


class FeatureState(NamedTuple):
    """What a clip's features were made from.

    Attributes:
        kept_at: As of :class:`FeatureRecord`.
        text_model: Likewise.
        embedding_model: Likewise.
        scene_model: Likewise.
        seconds: Rows of its sound; 0 also where nobody listened.
    """

    kept_at: str
    text_model: str
    embedding_model: str
    scene_model: str
    seconds: int


@dataclass(frozen=True, eq=False)
class LinkBasis:
    """What an answer rests on: while none of this changes, asking again gives the same answer.

    Attributes:
        epoch: Of everything that is not the catalogue's: settings, calibration, rules; "" if not known.
        known: The highest number that a program of the catalogue had.
        night: Re-links that were committed before; those that came later looked at this answer too.
        reviews: How many times people had spoken of the clip.
        kept_at: When the clip's descriptors were kept.
        numbers: (m,) int64, ascending: the programs that any descriptor had a neighbour of that counts.
        bars: (r,) float32: the similarity that a frame must reach to count for each of the clip's
            descriptors: those of its frames as they are stored, then those of its sounds.
    """

    epoch: str = ""
    known: int = 0
    night: int = 0
    reviews: int = 0
    kept_at: str = ""
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    bars: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class LinkRecord:
    """The answer for one clip; a later one replaces it.

    Attributes:
        clip_id: Which clip.
        decision: "linked", "review" or "none".
        program_id: The best program, or None.
        confidence: 0 to 1.
        catalog_version: What :meth:`Catalog.version` was.
        linked_at: UTC, ISO 8601; set by :meth:`Writer.put_links` where empty.
        answer: The whole answer, a JSON object.
        basis: What it rests on; None where that is not known, or was not asked for.
        history: What the answer was before and why it changed, the oldest first: goes into JSON.
    """

    clip_id: str
    decision: str
    program_id: str | None
    confidence: float
    catalog_version: int
    answer: str
    linked_at: str = ""
    basis: LinkBasis | None = field(default=None, compare=False)
    history: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        _check_text("clip_id", self.clip_id, empty_ok=False)
        _check_text("answer", self.answer)
        if self.decision not in ("linked", "review", "none"):
            raise ValueError(f"decision must be linked, review or none, got {self.decision!r}")
        if self.program_id is not None:
            _check_text("program_id", self.program_id, empty_ok=False)
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence must be in [0, 1], got {self.confidence}")


@dataclass(frozen=True)
class ReviewRecord:
    """What a person said of a clip; all are kept, the latest counts.

    Attributes:
        clip_id: Which clip.
        program_id: Which program, or None for "none of them".
        verdict: Like "confirmed" or "rejected"; the caller's words.
        at: UTC, ISO 8601; set by :meth:`Writer.put_review` where empty.
    """

    clip_id: str
    program_id: str | None
    verdict: str
    at: str = ""

    def __post_init__(self) -> None:
        _check_text("clip_id", self.clip_id, empty_ok=False)
        _check_text("verdict", self.verdict, empty_ok=False)
        if self.program_id is not None:
            _check_text("program_id", self.program_id, empty_ok=False)


@dataclass(frozen=True)
class NightRecord:
    """A re-link that was committed.

    Attributes:
        night: Its number, from 1.
        epoch: Of all answers since, see :class:`LinkBasis`.
        known: The highest number that a program of the catalogue had.
        catalog_version: What :meth:`Catalog.version` was.
        summary: What it did, a JSON object.
        at: UTC, ISO 8601; set by :meth:`Writer.put_night` where empty.
    """

    night: int
    epoch: str
    known: int
    catalog_version: int
    summary: str = "{}"
    at: str = ""


@dataclass(frozen=True)
class ProgramFrames:
    """All frames, or all sounds, of one number.

    Attributes:
        ids: (n,) ascending.
        t_seconds: (n,) in the file of each one's asset.
        asset_ids: n asset ids.
        vectors: (n, d) float32, as float16 rounded them.
    """

    ids: Ids
    t_seconds: NDArray[np.float64]
    asset_ids: list[str]
    vectors: Vectors


@dataclass(frozen=True)
class FrameBatch:
    """Some frames, or some sounds, in no promised order.

    Attributes:
        ids: (n,) int64.
        t_seconds: (n,) float64.
        vectors: (n, d) float16.
        asset_ids: n asset ids; None unless asked for.
    """

    ids: Ids
    t_seconds: NDArray[np.float64]
    vectors: NDArray[np.float16]
    asset_ids: list[str] | None
