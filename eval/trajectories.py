"""Simulated programs and clips with a known truth, as similarity matrices, for comparing aligners.

A program is a sequence of shots. Frames of one shot resemble each other, the more the closer they are;
frames of two shots do not. A clip shows stretches of it, edited, two frames a second and with noise;
the program is sampled once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.aligners import Aligned, Matrix

D = 96
FLOOR = 0.35
CLIP_STEP_SECONDS = 0.5
ASSET_SECONDS = 240.0
#: Of the noise that re-encoding, captions and logos add to a clip's descriptors.
NOISE = 0.5
TITLE_SECONDS = 14.0


@dataclass(frozen=True)
class Case:
    """One clip: what an aligner sees and what is true."""

    name: str
    matrix: Matrix
    truth: tuple[Aligned, ...]


@dataclass(frozen=True)
class Piece:
    """A stretch of the clip; ``asset`` -1 is of a stranger and no part of the truth."""

    seconds: float
    asset: int
    start_seconds: float
    speed: float = 1.0


class Film:
    """Descriptors of an endless program of shots of ``shot_seconds``, at any time.

    Args:
        seed: Of all that is random.
        shot_seconds: Mean length of a shot.
        pace: How fast the picture changes within a shot.
    """

    def __init__(self, seed: int, *, shot_seconds: float = 4.0, pace: float = 0.7) -> None:
        rng = np.random.default_rng(seed)
        lengths = shot_seconds * rng.uniform(0.4, 1.6, 600)
        self._cuts = np.cumsum(lengths)
        self._shots = rng.normal(size=(lengths.size + 1, D))
        self._frequency = pace * rng.normal(size=D)
        self._phase = rng.uniform(0, 2 * np.pi, D)

    def __call__(self, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n, D) of unit length, at (n,) times."""
        shot = np.searchsorted(self._cuts, seconds, side="right")
        moving = np.sqrt(2.0) * np.cos(np.multiply.outer(seconds, self._frequency) + self._phase)
        return _unit(self._shots[shot] + moving)


def _unit(x: NDArray[np.floating]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return rows


def make_case(
    name: str,
    films: Sequence[Callable[[NDArray[np.float64]], NDArray[np.float32]]],
    pieces: Sequence[Piece],
    seed: int,
    *,
    noise: float = NOISE,
    dropped: float = 0.0,
    flashes: Sequence[tuple[float, float]] = (),
) -> Case:
    """A clip of pieces, one after the other.

    Args:
        name: What it shows.
        films: The assets.
        pieces: Of the clip. Pieces that go on where the last one ended are one true segment.
        seed: Of noise.
        noise: Length of a random vector that is added.
        dropped: Share of the clip's frames that show the frame before them instead.
        flashes: Stretches of the clip that show nothing of it.
    """
    rng = np.random.default_rng(seed)
    borders = np.cumsum([0.0] + [piece.seconds for piece in pieces])
    clip_seconds = np.arange(0.0, borders[-1] - 1e-9, CLIP_STEP_SECONDS)
    which = np.searchsorted(borders, clip_seconds, side="right") - 1
    stranger = Film(seed + 7_000_003)
    shown = clip_seconds.copy()
    late = np.flatnonzero(rng.random(shown.size) < dropped)
    shown[late[late > 0]] -= CLIP_STEP_SECONDS
    vectors = stranger(clip_seconds)
    for i, piece in enumerate(pieces):
        own = which == i
        if piece.asset >= 0:
            into = np.maximum(shown[own] - borders[i], 0.0)
            vectors[own] = films[piece.asset](piece.start_seconds + piece.speed * into)
    for low, high in flashes:
        vectors[(clip_seconds >= low) & (clip_seconds < high)] = _unit(rng.normal(size=(1, D)))
    vectors = _unit(vectors + noise * rng.normal(size=vectors.shape) / np.sqrt(D))
    seconds = np.arange(0.0, ASSET_SECONDS)
    assets = np.concatenate([film(seconds) for film in films])
    matrix = Matrix(
        similarity=vectors @ assets.T,
        clip_seconds=clip_seconds,
        asset=np.repeat(np.arange(len(films), dtype=np.int32), seconds.size),
        asset_seconds=np.tile(seconds, len(films)),
        clip_end_seconds=float(borders[-1]),
        floor=FLOOR,
    )
    return Case(name, matrix, _truth(pieces, borders))


def _truth(pieces: Sequence[Piece], borders: NDArray[np.float64]) -> tuple[Aligned, ...]:
    found = []
    for piece, start, end in zip(pieces, borders[:-1], borders[1:], strict=True):
        if piece.asset < 0 or piece.speed == 0.0:
            continue
        last = piece.start_seconds + piece.speed * piece.seconds
        low, high = sorted((piece.start_seconds, last))
        found.append(Aligned(float(start), float(end), piece.asset, low, high, piece.speed < 0))
    return tuple(found)


def _films(seed: int, n: int) -> list[Film]:
    return [Film(1000 * seed + i) for i in range(n)]


def _with_titles(films: Sequence[Film], titles: Film) -> list[Callable[..., NDArray[np.float32]]]:
    """Episodes that all begin with the same opening titles."""

    def episode(film: Film) -> Callable[[NDArray[np.float64]], NDArray[np.float32]]:
        return lambda t: np.where((t < TITLE_SECONDS)[:, None], titles(t), film(t))

    return [episode(film) for film in films]


def simulated_cases(seeds: Sequence[int]) -> list[Case]:
    """Every kind of edit, once a seed."""
    return [case for seed in seeds for case in _cases(seed)]


def _cases(seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    films = _films(seed, 3)
    a, b, c = rng.uniform(30, 90), rng.uniform(100, 150), rng.uniform(170, 200)
    length = float(rng.uniform(9, 15))
    still = [Film(1000 * seed + 9, shot_seconds=40.0, pace=0.02), *films[1:]]
    titled = _with_titles(films, Film(1000 * seed + 99))
    freeze = [Piece(7, 0, a), Piece(1.5, 0, a + 7, 0.0), Piece(7, 0, a + 7)]
    montage = [Piece(5.3, 1, b), Piece(3.2, -1, 0), Piece(6.1, 0, a), Piece(4.7, 1, c)]
    opening = [Piece(length, 2, TITLE_SECONDS - length / 2)]

    def make(name: str, pieces: Sequence[Piece], **how: object) -> Case:
        return make_case(name, films, pieces, seed, **how)  # type: ignore[arg-type]

    return [
        make("plain", [Piece(length, 0, a)]),
        make("noise", [Piece(length, 0, a)], noise=1.2),
        make("faster", [Piece(length, 0, a, 1.3)]),
        make("slower", [Piece(length, 0, a, 0.75)]),
        make("twice as fast", [Piece(length, 0, a, 2.0)]),
        make("reversed", [Piece(length, 0, b, -1.0)]),
        make("frames dropped", [Piece(length, 0, a)], dropped=0.2),
        make("frozen 1.5 s", freeze),
        make("jump of 6 s", [Piece(6.2, 0, a), Piece(7.3, 0, a + 12.2)]),
        make("flash", [Piece(length, 0, a)], flashes=[(4.0, 5.5)]),
        make("montage", montage),
        make("within a stranger", [Piece(4.4, -1, 0), Piece(length, 0, b), Piece(3.3, -1, 0)]),
        make_case("still scene", still, [Piece(length, 0, a)], seed),
        make_case("opening titles", titled, opening, seed),
    ]
