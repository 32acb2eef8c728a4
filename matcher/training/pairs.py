"""From folders of films to pairs: raw descriptors of frames and of their edited copies.

Shape letters: ``m`` frames, ``n`` edited copies, ``s`` input side, ``r`` raw dimensions.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.decode import Sampling, probe, sample_frames
from matcher.encoders import lite0
from matcher.errors import InputError, VideoError
from matcher.inputs import film_files
from matcher.training.frame_edits import KINDS, SHOW_FOREIGN, edit_picture
from matcher.views import Picture, is_blank, square, trim_bars

logger = logging.getLogger(__name__)

#: Of a film, at most.
N_FRAMES = 60
EDITS_A_FRAME = 4
#: Frames are taken no closer than this, however short the film: closer ones are the same picture.
MOST_FPS = 4.0
MAX_SIDE = 400
#: Foreign pictures come from so many films seen before, so many frames of each.
POOL_FILMS, POOL_FRAMES = 24, 4

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Film:
    """One file to learn from.

    Attributes:
        path: The file.
        series: Its name up to the first "-": films that share it are never on both sides of a fold.
        folder: Number of the folder it was found in.
        weight: Of that folder.
    """

    path: Path
    series: str
    folder: int
    weight: float


@dataclass(frozen=True)
class Pairs:
    """Raw descriptors of frames and of their edited copies.

    Attributes:
        films: Those that gave at least one frame.
        originals: (m, r).
        film: (m,) place in ``films``.
        edited: (n, r).
        source: (n,) row in ``originals``.
        kind: (n,) name of the edit.
        foreign: (n,) series of the other picture that the edit may show; "" where there is none.
    """

    films: tuple[Film, ...]
    originals: NDArray[np.float32]
    film: NDArray[np.int64]
    edited: NDArray[np.float32]
    source: NDArray[np.int64]
    kind: NDArray[np.str_]
    foreign: NDArray[np.str_]


def find_films(
    folders: Sequence[Path], weights: Sequence[float] = (), *, exclude: Sequence[str] = ()
) -> list[Film]:
    """List the films of ``folders``, by name.

    Args:
        folders: Searched one level deep.
        weights: One a folder; all 1 where none is given.
        exclude: Patterns as of a shell, for file names with or without their suffix.

    Raises:
        InputError: A folder is none or has no film, or the weights do not fit.
    """
    if weights and len(weights) != len(folders):
        raise InputError(f"give one --weight for each --films, got {len(weights)} for {len(folders)}")
    if not all(weight > 0 and math.isfinite(weight) for weight in weights):
        raise InputError(f"every --weight must be above 0, got {', '.join(map(str, weights))}")
    found = []
    for number, folder in enumerate(folders):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder")
        paths = film_files(folder)
        kept = [path for path in paths if not _is_excluded(path, exclude)]
        if not kept:
            why = f"all {len(paths)} films are excluded" if paths else "no *.mp4, *.mkv, *.mov, *.webm, *.m4v"
            raise InputError(f"{folder} has nothing to learn from: {why}")
        weight = weights[number] if weights else 1.0
        found += [Film(path, path.stem.split("-")[0], number, weight) for path in kept]
    return found


def _is_excluded(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns for name in (path.name, path.stem))


def collect(
    films: Sequence[Film],
    encode: Encode,
    *,
    n_frames: int = N_FRAMES,
    seed: int = 7,
    on_film: Callable[[Film], None] | None = None,
) -> Pairs:
    """Sample, edit and describe every film; one that cannot be read is told of in the log.

    Args:
        films: Of at least two series.
        encode: (n, s, s, 3) pictures → (n, r) raw descriptors.
        n_frames: Of a film, at most, evenly; near-blank ones are left out.
        seed: Draws the edits; a film's own do not depend on the other films, but for the foreign
            pictures that they show.
        on_film: Called when a film is done with.

    Raises:
        InputError: Fewer than two series gave a frame.
    """
    pool = _ForeignPictures(films)
    good: list[Film] = []
    rows: list[FilmRows] = []
    for film in films:
        try:
            pictures = list(_frames(film.path, n_frames))
            rng = random_of(seed, film.path.name)
            described = _describe(film, pictures, encode, pool, rng) if pictures else None
        except VideoError as error:
            logger.warning("%s; left out", error)
        else:
            if described is None:
                logger.warning("%s shows nothing; left out", film.path.name)
            else:
                good.append(film)
                rows.append(described)
        if on_film is not None:
            on_film(film)
    if len({film.series for film in good}) < 2:
        raise InputError(
            f"films of at least two series are needed, got {len({film.series for film in good})} that can be"
            " read; a series is a file name up to its first '-'"
        )
    return joined(good, rows)


def random_of(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one film: the same whatever other films there are."""
    return np.random.default_rng([seed, *name.encode()])


@dataclass(frozen=True)
class FilmRows:
    """What one film gives; ``source`` counts its own originals."""

    originals: NDArray[np.float32]
    edited: NDArray[np.float32]
    source: NDArray[np.int64]
    kind: list[str]
    foreign: list[str]


def _frames(path: Path, n_frames: int) -> Iterator[Picture]:
    """At most ``n_frames`` evenly, trimmed of bars as every frame is before it is described."""
    # Without a declared length: as if ten minutes, which gives a longer film's beginning alone.
    seconds = max(probe(path).duration_seconds or 600.0, 1.0)
    sampling = Sampling(fps=min(MOST_FPS, n_frames / seconds), max_side=MAX_SIDE)
    for frame in islice(sample_frames(path, sampling), n_frames):
        if not is_blank(frame.image):
            yield frame.image


def _describe(
    film: Film, pictures: list[Picture], encode: Encode, pool: _ForeignPictures, rng: np.random.Generator
) -> FilmRows:
    originals, edited, kinds, foreign = [], [], [], []
    for picture in pictures:
        shown = [picture]
        for kind in map(str, rng.choice(KINDS, EDITS_A_FRAME, replace=False)):
            other, strange = pool.draw(film, rng)
            shown.append(edit_picture(kind, picture, strange, rng))
            kinds.append(kind)
            foreign.append(other.series if kind in SHOW_FOREIGN else "")
        raw = encode(np.stack([square(trim_bars(image), lite0.INPUT_SIDE) for image in shown]))
        originals.append(raw[0])
        edited.append(raw[1:])
    pool.keep(film, pictures)
    source = np.repeat(np.arange(len(pictures)), EDITS_A_FRAME)
    return FilmRows(np.stack(originals), np.concatenate(edited), source, kinds, foreign)


def joined(films: list[Film], rows: list[FilmRows]) -> Pairs:
    """The pairs of all films, one after the other."""
    counts = [len(one.originals) for one in rows]
    starts = np.cumsum([0, *counts[:-1]])
    return Pairs(
        films=tuple(films),
        originals=np.concatenate([one.originals for one in rows]),
        film=np.repeat(np.arange(len(rows)), counts),
        edited=np.concatenate([one.edited for one in rows]),
        source=np.concatenate([one.source + start for one, start in zip(rows, starts, strict=True)]),
        kind=np.array([kind for one in rows for kind in one.kind]),
        foreign=np.array([series for one in rows for series in one.foreign]),
    )


class _ForeignPictures:
    """Frames of the films seen last, so that none has to be decoded for an edit alone."""

    def __init__(self, films: Sequence[Film]) -> None:
        self._films = films
        self._kept: deque[tuple[Film, list[Picture]]] = deque(maxlen=POOL_FILMS)

    def keep(self, film: Film, pictures: list[Picture]) -> None:
        """Remember some of a film's frames, evenly."""
        chosen = np.unique(np.linspace(0, len(pictures) - 1, POOL_FRAMES).round().astype(int))
        self._kept.append((film, [pictures[i].copy() for i in chosen]))

    def draw(self, film: Film, rng: np.random.Generator) -> tuple[Film, Picture]:
        """A film of another series and a frame of it.

        Raises:
            InputError: There is no other series that can be read.
        """
        strange = [entry for entry in self._kept if entry[0].series != film.series]
        if not strange:
            strange = [self._look_ahead(film)]
        other, pictures = strange[int(rng.integers(len(strange)))]
        return other, pictures[int(rng.integers(len(pictures)))]

    def _look_ahead(self, film: Film) -> tuple[Film, list[Picture]]:
        """For the first film: the beginning of one that comes later."""
        for other in self._films:
            if other.series == film.series:
                continue
            try:
                pictures = list(islice(_frames(other.path, N_FRAMES), POOL_FRAMES))
            except VideoError:
                continue  # told of when its turn comes
            if pictures:
                self._kept.append((other, pictures))
                return self._kept[-1]
        raise InputError(f"films of at least two series are needed; only {film.series!r} can be read")
