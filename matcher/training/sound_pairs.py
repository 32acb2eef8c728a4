"""From folders of films to pairs: raw sound patches and the same moments of edited copies.

Stretches of every film are cut out and each is edited in several ways. What is asked later are the patches
of the stretches every half second, as a store has them; the patch of an edited copy that belongs to one is
up to 0.1 seconds off, as it is in a clip whose patches are five a second.

Shape letters: ``m`` patches, ``n`` edited copies, ``r`` = 1280 raw dimensions.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from matcher.decode import probe
from matcher.errors import InputError, VideoError
from matcher.sound import (
    COLUMN_SECONDS,
    HALF_PATCH_SECONDS,
    HOP,
    HOPS_A_COLUMN,
    RATE_HZ,
    Patches,
    mel_columns,
    patches,
)
from matcher.training.pairs import Film, FilmRows, Pairs, joined, random_of
from matcher.training.sound_edits import AUDIBLE, KINDS, SHOW_FOREIGN, edit_sound, loudness
from matcher.training.sound_filters import Samples, read_mono

logger = logging.getLogger(__name__)

STRETCH_SECONDS = 14.0
#: Of a film, at most.
N_STRETCHES = 40
#: Short films have few stretches; these are edited more often. With three times as many a patch of another
#: tempo or pitch is found more often (recall at 1 % strangers 0.75 for 0.60, 0.61 for 0.51), but a clip of
#: ten seconds under another sound at -6 dB less often: top-1 0.64 for 0.67, of 435 clips of films held out.
EDITS_A_STRETCH, LEAST_EDITS_A_FILM = 4, 40
#: Patches of one edited stretch, at random: neighbours have most of their sound in common.
PATCHES_AN_EDIT = 8
#: Columns from one asked patch to the next: half a second.
STEP = 5
#: Foreign sounds come from so many films heard before, so many stretches of each.
POOL_FILMS, POOL_STRETCHES = 24, 4

_COLUMN_SAMPLES = HOP * HOPS_A_COLUMN


def collect_sounds(
    films: Sequence[Film],
    *,
    n_stretches: int = N_STRETCHES,
    seed: int = 7,
    on_film: Callable[[Film], None] | None = None,
) -> Pairs:
    """Cut, edit and describe every film; one that cannot be heard is told of in the log.

    Args:
        films: Of at least two series.
        n_stretches: Of a film, at most, evenly.
        seed: Draws the edits; a film's own do not depend on the other films, but for the foreign sounds
            that are laid over it.
        on_film: Called when a film is done with.

    Returns:
        Raw patches as ``originals`` and ``edited``.

    Raises:
        InputError: Fewer than two series can be heard.
    """
    pool = _ForeignSounds(films)
    good: list[Film] = []
    rows: list[FilmRows] = []
    for film in films:
        try:
            cut = hear(film, n_stretches)
        except VideoError as error:
            logger.warning("%s; left out", error)
        else:
            good.append(film)
            rows.append(_describe(film, cut, pool, random_of(seed, film.path.name)))
        if on_film is not None:
            on_film(film)
    n_series = len({film.series for film in good})
    if n_series < 2:
        raise InputError(
            f"films with sound of at least two series are needed, got {n_series}; a series is a file name up"
            " to its first '-'"
        )
    return joined(good, rows)


def hear(film: Film, n_stretches: int) -> list[Samples]:
    """Stretches of a film.

    Raises:
        VideoError: It cannot be read, or has no sound, or none that says anything.
    """
    if not probe(film.path).has_sound:
        raise VideoError(f"{film.path.name} has no sound track")
    cut = stretches(read_mono(film.path), n_stretches)
    if not cut:
        raise VideoError(f"{film.path.name} has a sound track of silence or hums")
    return cut


def stretches(samples: Samples, n_stretches: int) -> list[Samples]:
    """At most ``n_stretches``, evenly, none overlapping; the whole of a short sound; none of a silent one."""
    size = int(STRETCH_SECONDS * RATE_HZ)
    count = max(1, min(n_stretches, samples.size // size))
    starts = np.linspace(0, max(0, samples.size - size), count).astype(int)
    cut = [samples[start : start + size] for start in starts]
    return [one for one in cut if len(_patches(one, STEP).rows)]


def _describe(film: Film, cut: list[Samples], pool: _ForeignSounds, rng: np.random.Generator) -> FilmRows:
    asked = [_patches(one, STEP) for one in cut]
    first = np.cumsum([0, *(len(one.rows) for one in asked)])
    edited, source, kinds, foreign = [], [], [], []
    deck: list[str] = []
    for number in range(max(LEAST_EDITS_A_FILM, EDITS_A_STRETCH * len(cut))):
        deck = deck or [str(kind) for kind in rng.permutation(KINDS)]
        kind, place = deck.pop(), number % len(cut)
        other, strange = pool.draw(film, rng)
        late = int(rng.integers(_COLUMN_SAMPLES))
        heard = edit_sound(kind, cut[place][late:], strange, rng)
        found = _patches(heard.samples, 1)
        pairs = same_moments(asked[place].rows, found.rows, late / RATE_HZ, heard.speed, rng)
        pairs = pairs[rng.permutation(len(pairs))[:PATCHES_AN_EDIT]]
        edited.append(found.values[pairs[:, 1]])
        source.append(first[place] + pairs[:, 0])
        kinds += [kind] * len(pairs)
        foreign += [other.series if kind in SHOW_FOREIGN else ""] * len(pairs)
    pool.keep(film, cut)
    originals = np.concatenate([one.values for one in asked])
    return FilmRows(originals, np.concatenate(edited), np.concatenate(source), kinds, foreign)


def same_moments(
    asked: NDArray[np.int64],
    edited: NDArray[np.int64],
    late_seconds: float,
    speed: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Which patches of an edited copy belong to which of the original.

    Args:
        asked: (m,) first columns of the original's patches, ascending.
        edited: (n,) likewise of the copy's; every tenth of a second that says something.
        late_seconds: The copy begins so much later in the original.
        speed: See :class:`~matcher.training.sound_edits.EditedSound`.
        rng: Draws how far off each is, evenly within 0.1 seconds of the copy.

    Returns:
        (k, 2) places in ``asked`` and in ``edited``.
    """
    middle = asked * COLUMN_SECONDS + HALF_PATCH_SECONDS
    column = ((middle - late_seconds) / speed - HALF_PATCH_SECONDS) / COLUMN_SECONDS
    # Half a column of jitter, and half of rounding.
    wanted = np.round(column + rng.uniform(-0.5, 0.5, len(column))).astype(np.int64)
    place = np.searchsorted(edited, wanted)
    is_there = place < len(edited)
    is_there[is_there] = edited[place[is_there]] == wanted[is_there]
    return np.stack([np.flatnonzero(is_there), place[is_there]], axis=1)


def _patches(samples: Samples, step: int) -> Patches:
    return patches(mel_columns(samples), step)


class _ForeignSounds:
    """Stretches of the films heard last, so that none has to be read for an edit alone."""

    def __init__(self, films: Sequence[Film]) -> None:
        self._films = films
        self._kept: deque[tuple[Film, list[Samples]]] = deque(maxlen=POOL_FILMS)

    def keep(self, film: Film, cut: list[Samples]) -> bool:
        """Remember some of a film's audible stretches, evenly; False if it has none."""
        audible = [one for one in cut if loudness(one) > AUDIBLE]
        if audible:
            chosen = np.unique(np.linspace(0, len(audible) - 1, POOL_STRETCHES).round().astype(int))
            self._kept.append((film, [audible[i].copy() for i in chosen]))
        return bool(audible)

    def draw(self, film: Film, rng: np.random.Generator) -> tuple[Film, Samples]:
        """A film of another series and a stretch of it, from a random moment on.

        Raises:
            InputError: There is no other series that can be heard.
        """
        strange = [entry for entry in self._kept if entry[0].series != film.series]
        if not strange:
            strange = [self._listen_ahead(film)]
        other, cut = strange[int(rng.integers(len(strange)))]
        stretch = cut[int(rng.integers(len(cut)))]
        return other, np.roll(stretch, -int(rng.integers(stretch.size)))

    def _listen_ahead(self, film: Film) -> tuple[Film, list[Samples]]:
        """For the first film: one that comes later."""
        for other in self._films:
            if other.series == film.series:
                continue
            try:
                cut = hear(other, POOL_STRETCHES)
            except VideoError:
                continue  # told of when its turn comes
            if self.keep(other, cut):
                return self._kept[-1]
        raise InputError(
            f"films with sound of at least two series are needed; only {film.series!r} can be heard"
        )
