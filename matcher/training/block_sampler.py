"""In which order clips are shown: at random, yet read from disk in large pieces.

Shape letters: ``N`` rows to show, ``E`` rows that an epoch shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Consecutive rows that stay together until they are mixed; what a source reads at once.
BLOCK = 64
#: Blocks that are mixed with each other, and that a source should keep.
WINDOW = 128


class BlockSampler:
    """Batches of rows, epoch after epoch.

    The rows are cut into blocks of consecutive ones and the blocks are shuffled; then the rows of at most
    :data:`WINDOW` blocks at a time are mixed, in windows as even as can be. So rows are read a block at a
    time, in no order, and two can meet wherever they lie. Blocks are small and windows hold many, as clips
    often lie by class: a window of few large blocks would hold few classes.

    What an epoch shows follows from the seed and the epoch's number alone: the position, in batches, is all
    that a training must remember to go on exactly where it stopped.

    A last batch that is not full is shown as it is, but never a clip alone, as it has no batch statistics:
    where a process would get fewer than two clips of it, they join the batch before.

    Args:
        rows: (N,) to show.
        batch_size: Clips of a step, of all processes together.
        seed: Draws the order.
        weights: (N,) how often each row is shown in an epoch on average; all once where None.
        groups: (N,) int64, the group of each row; below 0 for none. Rows of one group should lie next to
            each other in ``rows``.
        together: So many rows of a group are shown one after the other; what is left of it joins its last.
        rank: Which of ``world_size`` processes this is. Each gets its even share of every batch.
        world_size: How many processes share a step.
        block: Rows of a block.
        window: Blocks that are mixed, at most.

    Raises:
        ValueError: A batch would leave a process without two clips.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
        together: int = 1,
        rank: int = 0,
        world_size: int = 1,
        block: int = BLOCK,
        window: int = WINDOW,
    ) -> None:
        if batch_size < 2 * world_size:
            raise ValueError(f"a batch of {batch_size} leaves {world_size} processes fewer than 2 clips each")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not from 0 to {world_size - 1}")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.block, self.window = block, window
        self._groups, self.together = groups, together
        self._ends = None if weights is None else np.cumsum(weights)
        self.n_shown = len(rows) if self._ends is None else round(float(self._ends[-1])) if len(rows) else 0
        if self.n_shown < 2 * world_size:
            raise ValueError(f"{self.n_shown} clips leave {world_size} processes fewer than 2 each")

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return count_batches(self.n_shown, batch_size=self.batch_size, world_size=self.world_size)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """This process's rows of each batch of an epoch, from batch ``start`` on."""
        order = self.order(number)
        for batch in range(start, self.n_batches):
            end = len(order) if batch == self.n_batches - 1 else (batch + 1) * self.batch_size
            rows = order[batch * self.batch_size : end]
            shares = np.linspace(0, len(rows), self.world_size + 1).round().astype(np.int64)
            yield rows[shares[self.rank] : shares[self.rank + 1]]

    def order(self, number: int) -> NDArray[np.int64]:
        """All rows of an epoch (E,), in the order in which all processes together show them."""
        rng = np.random.default_rng([self.seed, number])
        shown = self._shown(rng)  # places in ``rows``
        blocks = rng.permutation(math.ceil(len(shown) / self.block))
        order: list[NDArray[np.int64]] = []
        for some in np.array_split(blocks, math.ceil(len(blocks) / self.window)):
            mixed = np.concatenate([shown[b * self.block : (b + 1) * self.block] for b in some])
            order.append(mixed[self._mix(mixed, rng)])
        return self.rows[np.concatenate(order)]

    def _mix(self, places: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The order in which the places of one window are shown."""
        shuffled = rng.permutation(len(places))
        if self._groups is None or self.together == 1:
            return shuffled
        found = self._groups[places[shuffled]]
        # One that is of no group gets a number of its own.
        found = np.where(found < 0, -1 - np.arange(len(found)), found)
        by_group = shuffled[np.argsort(found, kind="stable")]
        _, lengths = np.unique(found, return_counts=True)
        # Within each group, which bundle of ``together`` a place is in, and that bundle's place in line.
        within = np.arange(len(places)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        bundles = np.maximum(1, lengths // self.together)
        bundle = np.minimum(within // self.together, np.repeat(bundles - 1, lengths))
        number = bundle + np.repeat(np.cumsum(bundles) - bundles, lengths)
        return by_group[np.argsort(rng.permutation(int(bundles.sum()))[number], kind="stable")]

    def _shown(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Places in ``rows``, each as often as it is shown: of weight 2.3 twice, or with luck three times."""
        if self._ends is None:
            return np.arange(len(self.rows))
        # One offset for all: their sum is then the same in every epoch.
        ends = self._ends * (self.n_shown / self._ends[-1])
        ends[-1] = self.n_shown
        counts = np.diff(np.floor(ends + rng.random()).astype(np.int64), prepend=0)
        return np.repeat(np.arange(len(self.rows)), counts)


def count_batches(n_shown: int, *, batch_size: int, world_size: int) -> int:
    """Batches of an epoch that shows ``n_shown`` clips; see :class:`BlockSampler` for the last one."""
    whole, rest = divmod(n_shown, batch_size)
    return max(1, whole + (rest >= 2 * world_size))
