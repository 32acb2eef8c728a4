"""From descriptors and words to what a clip model takes: a clip's, and those of a program's stretches.

A clip model compares clips with programs, so both are brought to the same form: some frames, a vector a
second of the sound, one vector of the words. A program is cut into *stretches* of some ten frames, each
with the program's titles for its words.

A second of a clip's sound has two parts: what identifies it, and what it is like (a *scene*: speech, music,
laughter). The second is known of clips alone: of a program's sound the store keeps nothing that it could be
made from.

Shape letters: ``n`` frames, ``m`` sound patches, ``t`` and ``s`` those kept, ``q`` seconds with a scene,
``d`` dimensions, ``d0`` those that identify a sound.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.base import Vectors
from matcher.encoders.base import unit_rows
from matcher.fusion.features import ClipFeatures

#: A clip keeps so many frames and seconds at most, evenly: 32 KB and 8 KB as float16.
MOST_FRAMES, MOST_SECONDS = 32, 32
#: Frames of a stretch: of windows of 10 seconds from a program's second half, 0.40 found its first half by
#: the nearest stretch of 10 frames, 0.36 of 20, 0.35 of 30 and more.
STRETCH_FRAMES = 10
#: A program has about so many stretches at most, however long it is: its later ones are longer.
MOST_STRETCHES = 64

Timed = tuple[NDArray[np.float64], Vectors]
#: Whole seconds, ascending, (q,), and a vector for each, (q, 64).
Scenes = tuple[NDArray[np.int64], Vectors]


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of n rows, ascending and evenly spread; all where there are no more."""
    if n <= most:
        return np.arange(n)
    rows: NDArray[np.int64] = ((np.arange(most) + 0.5) * n / most).astype(np.int64)
    return rows


def pooled_seconds(t_seconds: NDArray[np.float64], vectors: Vectors) -> Vectors:
    """The mean direction of the patches in each second that has any.

    Args:
        t_seconds: (m,) ascending, not negative.
        vectors: (m, d).

    Returns:
        (s, d) float32 of length 1, in time order.
    """
    if len(t_seconds) == 0:
        return np.zeros((0, vectors.shape[1]), np.float32)
    _, first = np.unique(t_seconds.astype(np.int64), return_index=True)
    sums = np.add.reduceat(vectors.astype(np.float64), first, axis=0)
    counts = np.diff(np.append(first, len(t_seconds)))
    return unit_rows(sums / counts[:, None])


def features_of(
    frames: Vectors, sound: Timed | None, text: Vectors | None, *, scene: Scenes | None = None
) -> ClipFeatures:
    """One clip's features.

    Args:
        frames: (n, d) in time order.
        sound: Its patches; None where nobody listened.
        text: Of its words; None where nobody knows any.
        scene: What its seconds are like; None where nobody knows.
    """
    return ClipFeatures(
        picture=frames[evenly(len(frames), MOST_FRAMES)].astype(np.float32),
        sound=None if sound is None else _seconds_of(sound, scene),
        text=text,
    )


# ---------------------------------------------------------------- what a sound is like


def _seconds_of(sound: Timed, scene: Scenes | None) -> Vectors:
    """Rows of at most :data:`MOST_SECONDS` seconds, in time order: (s, d0), or (s, d0 + 64) with ``scene``.

    A row stands for each second that has a patch or a scene; the part that it lacks is zeros. Seconds with a
    patch are chosen first, as they would be without scenes, and the others fill what is left: so nothing that
    looks at what identifies a sound depends on whether scenes are known.
    """
    vectors = pooled_seconds(*sound)
    rows = evenly(len(vectors), MOST_SECONDS)
    vectors = vectors[rows]
    if scene is None:
        return vectors
    seconds = np.unique(sound[0].astype(np.int64))[rows]
    only = np.setdiff1d(scene[0], np.unique(sound[0].astype(np.int64)))
    every = np.union1d(seconds, only[evenly(len(only), MOST_SECONDS - len(seconds))])
    d0 = vectors.shape[1]
    out = np.zeros((len(every), d0 + scene[1].shape[1]), np.float32)
    out[np.searchsorted(every, seconds), :d0] = vectors
    _, of_out, of_scene = np.intersect1d(every, scene[0], assume_unique=True, return_indices=True)
    out[of_out, d0:] = scene[1][of_scene]
    return out


def without_scenes(clip: ClipFeatures, d0: int) -> ClipFeatures:
    """The same with what identifies its sound alone: as if nobody knew what the seconds are like."""
    if clip.sound is None or clip.sound.shape[1] == d0:
        return clip
    alone = clip.sound[:, :d0]
    # A row of zeros is a second that had a scene alone.
    return replace(clip, sound=alone[alone.any(axis=1)])


def with_scene(clip: ClipFeatures, scene: Vectors) -> ClipFeatures:
    """The same with one (64,) scene for each second, of a clip whose seconds nobody knows one of."""
    if clip.sound is None:
        return clip
    rows = np.broadcast_to(scene, (len(clip.sound), len(scene))).astype(np.float32)
    return replace(clip, sound=np.concatenate([clip.sound, rows], axis=1))


# ---------------------------------------------------------------- words


@dataclass(frozen=True)
class Words:
    """What is written of a clip, and in it.

    Attributes:
        title: Of the upload.
        description: Likewise.
        captions: Texts read in its pictures, in time order; None where nobody looked.
    """

    title: str = ""
    description: str = ""
    captions: tuple[str, ...] | None = None

    @property
    def text(self) -> str | None:
        """All of it, a part a line; None where nobody knows any, "" where it is known that there are none."""
        parts = [part for part in (self.title, self.description, *(self.captions or ())) if part.strip()]
        if not parts and self.captions is None:
            return None
        return "\n".join(parts)

    def to_json(self) -> str:
        """As a store keeps it."""
        return json.dumps(
            {"title": self.title, "description": self.description, "captions": self.captions},
            ensure_ascii=False,
        )

    @classmethod
    def of_json(cls, words: str) -> Words:
        """Read what :meth:`to_json` gave; what an earlier version lacks is not known."""
        found: Mapping[str, object] = json.loads(words)
        captions = found.get("captions")
        return cls(
            str(found.get("title") or ""), str(found.get("description") or ""),
            tuple(map(str, captions)) if isinstance(captions, list) else None,
        )  # fmt: skip


def program_words(title: str, aliases: Iterable[str]) -> str | None:
    """The words of a program: its titles; None where it has none."""
    return "\n".join(part for part in (title, *aliases) if part.strip()) or None


# ---------------------------------------------------------------- programs


def count_stretches(n: int, n_assets: int) -> int:
    """Stretches of an asset of ``n`` frames in a program of so many assets."""
    most = max(1, MOST_STRETCHES // max(1, n_assets))
    return min(most, -(-n // STRETCH_FRAMES))


def stretches(
    frames: Timed, sound: Timed | None, text: Vectors | None, *, n_assets: int
) -> Iterator[tuple[float, ClipFeatures]]:
    """Cut one asset of a program into stretches of about as many frames each.

    Args:
        frames: (n,) seconds, ascending, and (n, d).
        sound: Its patches; None where nobody listened.
        text: Of the program's titles; None without any.
        n_assets: Of the program: a long series has a few stretches an episode.

    Yields:
        The second in a stretch's middle, and its features; none of an asset without frames.
    """
    t_seconds, vectors = frames
    if len(t_seconds) == 0:
        return
    parts = np.array_split(np.arange(len(t_seconds)), count_stretches(len(t_seconds), n_assets))
    bounds = [-np.inf, *(float(t_seconds[part[0]]) for part in parts[1:]), np.inf]
    for number, part in enumerate(parts):
        heard = None
        if sound is not None:
            low, high = np.searchsorted(sound[0], bounds[number : number + 2])
            heard = sound[0][low:high], sound[1][low:high]
        middle = float((t_seconds[part[0]] + t_seconds[part[-1]]) / 2)
        yield middle, features_of(vectors[part], heard, text)


def split_by_asset(asset_ids: Sequence[str], timed: Timed, wanted: Sequence[str]) -> list[Timed]:
    """The rows of each wanted asset, of rows that lie asset by asset."""
    spans, start = {}, 0
    for name, group in itertools.groupby(asset_ids):
        stop = start + sum(1 for _ in group)
        spans[name], start = slice(start, stop), stop
    own = [spans.get(name, slice(0)) for name in wanted]
    return [(timed[0][rows], timed[1][rows]) for rows in own]
