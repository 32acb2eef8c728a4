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
from matcher.records import SOUND, Descriptors, Look

REVISION = 2
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
        clip: Its first look, as further looks its probes through all views, and its sound.
        full: Looks at all frames, through some of those views.
        sounds: Ids of the programs whose sound it has; none where it is muted.
    """

    number: int
    programs: tuple[str, ...]
    kin: tuple[str, ...]
    edits: tuple[str, ...]
    clip: Descriptors
    full: tuple[Look, ...]
    sounds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.programs:
            raise ValueError("a clip shows at least one program")

    @property
    def pictures(self) -> tuple[Look, ...]:
        """The looks at its pictures."""
        return tuple(look for look in self.clip.looks if look.kind == "picture")

    def full_or_probe(self, name: str) -> Look:
        """The view's look at all frames, or what there is."""
        return next(look for look in (*self.full, *self.clip.further) if look.view == name)


def save_clips(path: Path, clips: Sequence[SelfMade], *, model: str) -> None:
    """Write clips to one ``.npz`` file, with the fingerprint of their encoder."""
    looks = [look for clip in clips for look in (*clip.pictures, *clip.full)]
    heard = [clip.clip.sound for clip in clips if clip.clip.sound is not None]
    words = {
        "revision": REVISION,
        "model": model,
        "clips": [
            {
                "is_heard": clip.clip.sound is not None, "sounds": clip.sounds,
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
            sound_sizes=np.array([len(look) for look in heard], np.int64),
            sound_seconds=np.concatenate([np.zeros(0), *(look.t_seconds for look in heard)]),
            sound_vectors=np.concatenate(
                [look.vectors for look in heard] or [np.zeros((0, 1), np.float32)]
            ).astype(np.float16),
        )


def load_clips(path: Path, *, model: str) -> list[SelfMade]:
    """Read what :func:`save_clips` wrote.

    Raises:
        InputError: It is no such file, or of another encoder.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            words = json.loads(str(file["words"]))
            pieces = _pieces(file["sizes"], file["t_seconds"], file["vectors"])
            heard = _pieces(file["sound_sizes"], file["sound_seconds"], file["sound_vectors"])
        if words["revision"] != REVISION or words["model"] != model:
            raise InputError(
                f"{path} holds clips of another model or version; remove it, and they are made anew"
            )
        return [_clip(entry, pieces, heard) for entry in words["clips"]]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds no clips of a calibration ({error}); remove it, or name another"
        ) from error


def _pieces(
    sizes: NDArray[np.int64], times: NDArray[np.float64], vectors: NDArray[np.float16]
) -> Iterator[Piece]:
    """Rows that lie one after the other, as looks of these sizes."""
    start = 0
    for size in sizes.tolist():
        yield times[start : start + size], vectors[start : start + size].astype(np.float32)
        start += size


def _clip(entry: dict[str, Any], pieces: Iterator[Piece], heard: Iterator[Piece]) -> SelfMade:
    times, vectors = next(pieces)
    further = tuple(Look(view, *next(pieces)) for view in entry["views"])
    sound = Look(SOUND, *next(heard), "sound") if entry["is_heard"] else None
    return SelfMade(
        entry["number"],
        tuple(entry["programs"]),
        tuple(entry["kin"]),
        tuple(entry["edits"]),
        Descriptors(times, vectors, entry["duration"], entry["seen"], further, sound),
        tuple(Look(view, *next(pieces)) for view in entry["full"]),
        tuple(entry["sounds"]),
    )
