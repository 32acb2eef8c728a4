"""How well edited frames of films that took no part in a fit find their own film.

The films are split by *series*: no series is on both sides, since the episodes of one share its set
and its faces. Every edited frame of the films held out asks all frames of all films; the highest
similarity to its own film is set against the highest to a stranger, a film of another series. The
bar for recall is the similarity that so many of these highest strangers pass.

Shape letters: ``n`` asking pictures, ``m`` frames asked, ``r`` raw dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.encoders.whitening import Whitening
from matcher.errors import InputError

#: Asking pictures are compared in blocks of so many, so that memory stays small.
BLOCK_ROWS = 512


@dataclass(frozen=True)
class Figures:
    """What a set of searches came to; everything but ``asked`` is a share or a similarity.

    Attributes:
        asked: Searches.
        top_1: Share whose own film was more similar than every stranger.
        recall_1_percent: Share above the bar that 1 % of the highest strangers pass.
        recall_01_percent: Share above the bar that 0.1 % of them pass.
        bar_1_percent: That similarity.
        bar_01_percent: Likewise.
    """

    asked: int
    top_1: float
    recall_1_percent: float
    recall_01_percent: float
    bar_1_percent: float
    bar_01_percent: float


@dataclass(frozen=True)
class Searches:
    """Both similarities of every search.

    Attributes:
        own: (n,) the highest to a frame of the picture's own film.
        stranger: (n,) the highest to a frame of another series.
    """

    own: NDArray[np.float32]
    stranger: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.own.ndim != 1 or self.own.shape != self.stranger.shape:
            raise ValueError(f"own {self.own.shape} and stranger {self.stranger.shape} must be one (n,)")

    def figures(self, rows: NDArray[np.bool_] | None = None, *, bars_by: Searches | None = None) -> Figures:
        """Count.

        Args:
            rows: (n,) which searches; all by default.
            bars_by: The searches whose strangers set the bars; these ones by default. One edit is
                held to the bars of all, because in use nobody knows which edit it is.

        Raises:
            ValueError: No search is left to count.
        """
        own, stranger = (self.own, self.stranger) if rows is None else (self.own[rows], self.stranger[rows])
        if len(own) == 0:
            raise ValueError("no searches to count")
        high, higher = np.quantile((bars_by or Searches(own, stranger)).stranger, [0.99, 0.999])
        return Figures(
            asked=len(own),
            top_1=float(np.mean(own > stranger)),
            recall_1_percent=float(np.mean(own > high)),
            recall_01_percent=float(np.mean(own > higher)),
            bar_1_percent=float(high),
            bar_01_percent=float(higher),
        )


def deal_folds(
    series: Sequence[str], folders: Sequence[int], *, n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Deal the series of every folder in turn, after shuffling, so that each fold has some of each.

    Args:
        series: Of every film. A series that stands in several folders counts to its first.
        folders: Number of every film's folder.
        n_folds: At most; never more than there are series.
        seed: Of the shuffling.

    Returns:
        The fold of every film; films of one series are always in one fold.

    Raises:
        InputError: There are fewer than two series: no film could be held out.
    """
    first = dict(zip(reversed(series), reversed(folders), strict=True))
    if len(first) < 2:
        raise InputError(
            f"films of at least two series are needed, got {len(first)}; a series is a file name up to its"
            " first '-'"
        )
    names = sorted(first)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order = sorted(shuffled, key=lambda name: first[name])
    fold = {name: place % min(n_folds, len(order)) for place, name in enumerate(order)}
    return np.array([fold[name] for name in series], np.int64)


def search(
    whitening: Whitening,
    asking: NDArray[np.float32],
    asked: NDArray[np.float32],
    *,
    is_own: NDArray[np.bool_],
    is_stranger: NDArray[np.bool_],
    film: NDArray[np.int64],
) -> Searches:
    """Let every picture look among all frames.

    Args:
        whitening: Describes both.
        asking: (n, r) raw descriptors of edited frames.
        asked: (m, r) raw descriptors of frames.
        is_own: (n, films) which films are the picture's own.
        is_stranger: (n, films) which films are of another series and not in the picture.
        film: (m,) of every frame asked.
    """
    frames = whitening.apply(asked)
    own, stranger = [], []
    for start in range(0, len(asking), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        similarity = whitening.apply(asking[block]) @ frames.T
        own.append(np.where(is_own[block][:, film], similarity, -1).max(axis=1))
        stranger.append(np.where(is_stranger[block][:, film], similarity, -1).max(axis=1))
    return Searches(np.concatenate(own), np.concatenate(stranger))
