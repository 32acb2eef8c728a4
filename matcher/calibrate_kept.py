"""What is kept of clips that a calibration made itself, so that they can be asked again in seconds.

A clip is asked several times, of catalogues with and without its program, and each answer may want other
views. Kept are the first look, a few frames through every view, and all frames through those views that
any of the questions found promising.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.errors import InputError
from matcher.records import Descriptors, Look

REVISION = 1
#: Times and vectors of one look.
Piece = tuple[NDArray[np.float64], NDArray[np.float32]]


@dataclass(frozen=True)
class SelfMade:
    """One clip with its truth and its descriptors, rounded as a store rounds them.

    Attributes:
        number: Among the clips of the calibration.
        programs: Ids of those that it shows; the first is the one that was meant.
        kin: Ids of others that hold the same footage.
        edits: What was done to it.
        clip: Its first look, and as further looks its probes through all views.
        full: Looks at all frames, through some of those views.
    """

    number: int
    programs: tuple[str, ...]
    kin: tuple[str, ...]
    edits: tuple[str, ...]
    clip: Descriptors
    full: tuple[Look, ...]

    def __post_init__(self) -> None:
        if not self.programs:
            raise ValueError("a clip shows at least one program")

    def full_or_probe(self, name: str) -> Look:
        """The view's look at all frames, or what there is."""
        return next(look for look in (*self.full, *self.clip.further) if look.view == name)


def save_clips(path: Path, clips: Sequence[SelfMade], *, model: str) -> None:
    """Write clips to one ``.npz`` file, with the fingerprint of their encoder."""
    looks = [look for clip in clips for look in (*clip.clip.looks, *clip.full)]
    words = {
        "revision": REVISION,
        "model": model,
        "clips": [
            {
                "number": clip.number, "programs": clip.programs, "kin": clip.kin, "edits": clip.edits,
                "duration": clip.clip.duration_seconds, "seen": clip.clip.frames_seen,
                "views": [look.view for look in clip.clip.further], "full": [look.view for look in clip.full],
            }
            for clip in clips
        ],
    }  # fmt: skip
    with path.open("wb") as file:
        np.savez(
            file,
            words=np.array(json.dumps(words)),
            sizes=np.array([len(look) for look in looks], np.int64),
            t_seconds=np.concatenate([look.t_seconds for look in looks]),
            vectors=np.concatenate([look.vectors for look in looks]).astype(np.float16),
        )


def load_clips(path: Path, *, model: str) -> list[SelfMade]:
    """Read what :func:`save_clips` wrote.

    Raises:
        InputError: It is no such file, or of another encoder.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            words = json.loads(str(file["words"]))
            sizes, times = file["sizes"], file["t_seconds"]
            vectors = file["vectors"].astype(np.float32)
        if words["revision"] != REVISION or words["model"] != model:
            raise InputError(
                f"{path} holds clips of another model or version; remove it, and they are made anew"
            )
        ends = np.cumsum(sizes)[:-1]
        pieces = zip(np.split(times, ends), np.split(vectors, ends), strict=True)
        return [_clip(entry, pieces) for entry in words["clips"]]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds no clips of a calibration ({error}); remove it, or name another"
        ) from error


def _clip(entry: dict[str, Any], pieces: Iterator[Piece]) -> SelfMade:
    times, vectors = next(pieces)
    further = tuple(Look(view, *next(pieces)) for view in entry["views"])
    return SelfMade(
        entry["number"],
        tuple(entry["programs"]),
        tuple(entry["kin"]),
        tuple(entry["edits"]),
        Descriptors(times, vectors, entry["duration"], entry["seen"], further),
        tuple(Look(view, *next(pieces)) for view in entry["full"]),
    )
