"""Retrieval against a trained classifier as programs grow, and as new ones arrive (h).

Here a clip is one vector near one of its program's shots, as a fused embedding is; a program's shots lie
around a centre of its own, and centres of one tier-3 category lie near each other. Retrieval keeps every
shot in an index and lets the nearest vote. The classifier is a softmax over all programs, learned from
edited views of the same shots: other ones in each epoch, so that it sees more than the index does.

Shape letters: ``P`` programs, ``M`` shots of a program, ``B`` clips, ``D`` dimensions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.experiments.results import Collector, Measure, Row
from eval.experiments.scale import OnStep, Scale
from eval.experiments.world import unit_directions
from index.faiss_backend import FaissIndex

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]

GROWTH_MEASURES = (
    Measure("programs", "count", is_shown=False),
    Measure("accuracy", is_drawn=True),
    Measure("new, same day", is_drawn=True),
    Measure("new, next day"),
    Measure("old, next day"),
    Measure("building", "seconds"),
    Measure("adding 100", "seconds"),
    Measure("a query", "seconds", is_shown=False),
    Measure("memory", "mebibytes"),
)

_MEBIBYTE = 1 << 20
_N_CATEGORIES = 36
_NEIGHBOURS = 5
#: How fast a neighbour's vote fades with its distance: by e for 0.05 of similarity.
_FADING = 0.05
_BATCH = 1024
_BITS = 24


@dataclass(frozen=True)
class GrowthDifficulty:
    """How alike programs, shots and clips are.

    Attributes:
        d: Dimensions; an eighth of the fused embedding's.
        shots: Of a program: enough that one centre does not tell all, few enough for 30,000 programs.
        category: Part of a program's centre that its category shares: cosine 0.3 between its programs.
        shot: Length of a shot's offset from its centre of 1: two shots of a program have a cosine of 0.5.
        edit: Length of a clip's offset from its shot of 1: a cosine of 0.64, a heavily edited clip. (At 0.8
            retrieval was right without exception, which tells nothing.)
        n_new: Programs that arrive a day.
        n_days: Days that are followed.
        n_asked: Clips that are asked about, at most.
        epochs: Of the classifier, from the means of the shots on.
        nightly_epochs: Of the classifier when programs have arrived, from where it was.
    """

    d: int = 64
    shots: int = 4
    category: float = 0.3
    shot: float = 1.0
    edit: float = 1.2
    n_new: int = 100
    n_days: int = 5
    n_asked: int = 2000
    epochs: int = 2
    nightly_epochs: int = 1


class ProgramWorld:
    """Programs of vectors, and clips of them; the same for the same seed.

    Args:
        n: P.
        difficulty: How alike they are.
        seed: Draws them.

    Attributes:
        shots: (P, M, D) unit rows.
    """

    def __init__(self, n: int, difficulty: GrowthDifficulty, *, seed: int) -> None:
        rng = np.random.default_rng([seed, 50])
        share = difficulty.category
        categories = unit_directions(rng, _N_CATEGORIES, difficulty.d)
        own = unit_directions(rng, n, difficulty.d)
        category = categories[rng.integers(_N_CATEGORIES, size=n)]
        centres = np.sqrt(share) * category + np.sqrt(1 - share) * own
        self.difficulty = difficulty
        self.shots = around(np.repeat(centres[:, None], difficulty.shots, axis=1), difficulty.shot, rng)

    def clips(self, programs: Ints, rng: np.random.Generator) -> Vectors:
        """One edited view (B, D) of a random shot of each of ``programs`` (B,)."""
        chosen = rng.integers(self.difficulty.shots, size=len(programs))
        return around(self.shots[programs, chosen], self.difficulty.edit, rng)


def around(centres: NDArray[np.floating], length: float, rng: np.random.Generator) -> Vectors:
    """Unit rows at offsets of about this length from ``centres`` (..., D)."""
    d = centres.shape[-1]
    rows = centres + length / np.sqrt(d) * rng.standard_normal(centres.shape, dtype=np.float32)
    unit: Vectors = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit


class Retrieval:
    """An index of all shots, whose nearest vote for their programs."""

    def __init__(self, d: int) -> None:
        self._index = FaissIndex(d, kind="flat")

    def add(self, shots: Vectors, first: int) -> None:
        """Programs (P, M, D) under the numbers from ``first`` on."""
        n, m, d = shots.shape
        programs = (first + np.arange(n, dtype=np.int64)) << _BITS
        self._index.add(shots.reshape(-1, d), (programs[:, None] + np.arange(m)).ravel())

    def answer(self, clips: Vectors) -> Ints:
        """(B,) programs."""
        found = self._index.search(clips, _NEIGHBOURS)
        programs = found.ids >> _BITS
        votes = np.exp((found.similarities - found.similarities[:, :1]) / _FADING)
        sums = np.einsum("bk,bkj->bj", votes, programs[:, :, None] == programs[:, None])
        best: Ints = programs[np.arange(len(clips)), sums.argmax(axis=1)]
        return best

    @property
    def n_bytes(self) -> int:
        """Of the vectors and their ids."""
        return self._index.ntotal * (4 * self._index.d + 8)


class SoftmaxClassifier:
    """A softmax over programs, linear in the vector; rows begin at the means of their shots.

    Trained with momentum on edited views that are drawn anew in each step. The sharpness and the step were
    chosen on world 1000.

    Args:
        world: Gives the views.
        seed: Of their drawing.
    """

    sharpness = 32.0
    learning_rate = 0.1
    momentum = 0.9

    def __init__(self, world: ProgramWorld, *, seed: int) -> None:
        self._world = world
        self._rng = np.random.default_rng([seed, 51])
        self.weights: Vectors = np.zeros((0, world.difficulty.d), np.float32)

    def add(self, shots: Vectors) -> None:
        """New rows for programs (P, M, D)."""
        means = shots.mean(axis=1)
        unit = means / np.linalg.norm(means, axis=1, keepdims=True)
        self.weights = np.concatenate([self.weights, self.sharpness * unit.astype(np.float32)])

    def train(self, epochs: int) -> None:
        """Go through the shots of all programs so often, each time as other views."""
        everyone = np.repeat(np.arange(len(self.weights)), self._world.difficulty.shots)
        velocity = np.zeros_like(self.weights)
        n_steps = epochs * -(-len(everyone) // _BATCH)
        step = 0
        for _ in range(epochs):
            order = self._rng.permutation(everyone)
            for start in range(0, len(order), _BATCH):
                rate = self.learning_rate * (1 - step / n_steps)
                velocity *= np.float32(self.momentum)
                velocity -= np.float32(rate) * self._gradient(order[start : start + _BATCH])
                self.weights += velocity
                step += 1

    def _gradient(self, programs: Ints) -> Vectors:
        """Of the summed log loss of views of ``programs`` (B,), by the weights (P, D).

        Not averaged over the batch: a program's row is moved by its own few clips, however many others
        there are.
        """
        views = self._world.clips(programs, self._rng)
        shares = views @ self.weights.T
        shares -= shares.max(axis=1, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=1, keepdims=True)
        shares[np.arange(len(programs)), programs] -= 1
        gradient: Vectors = (shares.T @ views).astype(np.float32, copy=False)
        return gradient

    def answer(self, clips: Vectors) -> Ints:
        """(B,) programs."""
        said: Ints = (clips @ self.weights.T).argmax(axis=1)
        return said

    @property
    def n_bytes(self) -> int:
        """Of the weights."""
        return self.weights.nbytes


def run_growth(seeds: Sequence[int], scale: Scale, on_step: OnStep) -> tuple[Row, ...]:
    """Both at each number of programs, each then given a day's new ones; and over several days."""
    found = Collector()
    difficulty = GrowthDifficulty()
    for seed in seeds:
        for n in scale.growth:
            on_step(f"seed {seed}: {n} programs")
            world = ProgramWorld(n + difficulty.n_new, difficulty, seed=seed)
            for name, values in (("retrieval", _retrieval(world, n, 1, seed)),
                                 ("classifier", _classifier(world, n, 1, seed))):  # fmt: skip
                found.add(f"{name}, {n:,} programs", {**values, "programs": n})
        n, days = scale.growth[min(1, len(scale.growth) - 1)], difficulty.n_days
        on_step(f"seed {seed}: {days} days")
        world = ProgramWorld(n + days * difficulty.n_new, difficulty, seed=seed)
        found.add(f"retrieval, {n:,} and {days} days", _retrieval(world, n, days, seed))
        found.add(f"classifier, {n:,} and {days} days", _classifier(world, n, days, seed))
    return found.rows()


def _retrieval(world: ProgramWorld, n: int, days: int, seed: int) -> dict[str, float]:
    """Build with ``n`` programs, then add each day's as it comes."""
    index = Retrieval(world.difficulty.d)

    def take_in(start: int, stop: int) -> None:
        index.add(world.shots[start:stop], start)

    return _followed(index, take_in, world, n, days, seed, is_at_once=True)


def _classifier(world: ProgramWorld, n: int, days: int, seed: int) -> dict[str, float]:
    """Train on ``n`` programs, then train on each night with the day's new ones."""
    difficulty = world.difficulty
    model = SoftmaxClassifier(world, seed=seed)

    def take_in(start: int, stop: int) -> None:
        model.add(world.shots[start:stop])
        model.train(difficulty.nightly_epochs if start else difficulty.epochs)

    return _followed(model, take_in, world, n, days, seed, is_at_once=False)


def _followed(
    way: Retrieval | SoftmaxClassifier,
    take_in: Callable[[int, int], None],
    world: ProgramWorld,
    n: int,
    days: int,
    seed: int,
    *,
    is_at_once: bool,
) -> dict[str, float]:
    """Take in ``n`` programs, then each day's; times of adding and of new ones are of the last day.

    ``take_in`` makes ``way`` know the programs from one number to before another. A day's are taken in at
    night, unless that is done ``is_at_once``: then what is asked of them the next day holds on their own.
    """
    clock = time.perf_counter()
    take_in(0, n)
    building = time.perf_counter() - clock
    rng = np.random.default_rng([seed, 52])
    accuracy, query = _asked(way.answer, world, 0, n, rng)
    n_bytes = way.n_bytes
    start, stop = n, n
    for _ in range(days):
        start, stop = stop, stop + world.difficulty.n_new
        if not is_at_once:
            same_day, _ = _asked(way.answer, world, start, stop, rng)
        clock = time.perf_counter()
        take_in(start, stop)
        adding = time.perf_counter() - clock
    new, _ = _asked(way.answer, world, start, stop, rng)
    old, _ = _asked(way.answer, world, 0, n, rng)
    return {
        "accuracy": accuracy, "new, same day": new if is_at_once else same_day, "new, next day": new,
        "old, next day": old, "building": building, "adding 100": adding, "a query": query,
        "memory": n_bytes / _MEBIBYTE,
    }  # fmt: skip


def _asked(
    answer: Callable[[Vectors], Ints], world: ProgramWorld, start: int, stop: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Share of clips of programs ``start`` to ``stop`` that are right, and seconds a clip."""
    programs = rng.integers(start, stop, size=world.difficulty.n_asked)
    clips = world.clips(programs, rng)
    clock = time.perf_counter()
    parts = [answer(clips[first : first + _BATCH]) for first in range(0, len(clips), _BATCH)]
    seconds = (time.perf_counter() - clock) / len(clips)
    return float((np.concatenate(parts) == programs).mean()), seconds
