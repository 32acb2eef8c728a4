"""Which rows have a neighbour among a few new vectors: the question of a re-link, exactly, at a small price.

A row asks whether any new vector is at least so similar to it as its own bar says. Most rows are far from
all of them, and that shows without looking at each: the frames of a scene lie close together, and no frame
of a scene is nearer to a row, as angles go, than the scene's middle less its radius. So rows are compared
with the middles, and only where that leaves the question open with the frames.

Shape letters: ``m`` rows, ``n`` new vectors, ``g`` scenes, ``d`` dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.base import Vectors

#: A vector this close to its scene's first belongs to it.
SCENE_COSINE = 0.7
#: A scene is looked for among so many vectors that follow its first.
_LONGEST = 256
#: Similarities are rounded in their seventh digit, otherwise by each way to compute them.
_ROUNDING = 1e-5
#: The same of middles and radii.
_SLACK = 1e-4
#: So many as the caches hold.
_BLOCK_ROWS = 1024


class Reach:
    """Tells rows that are reached by any of some new vectors.

    Args:
        vectors: (n, d), in time order within an asset: then scenes are found.
    """

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        self._vectors: Vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        lengths = np.linalg.norm(self._vectors, axis=1)
        self._longest = float(lengths.max(initial=0.0))
        units = self._vectors / np.maximum(lengths, 1e-12)[:, None]
        self._starts = _scene_starts(units)
        self._middles = self._described(units)

    @property
    def n_scenes(self) -> int:
        """With how many middles each row is compared."""
        return int(self._starts.size - 1)

    def reached(self, rows: NDArray[np.floating], bars: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which rows have a new vector at least as similar as their bar.

        Args:
            rows: (m, d).
            bars: (m,) inner products.

        Returns:
            (m,); a vector that misses a bar by no more than rounding counts as reaching it.
        """
        found = np.zeros(rows.shape[0], dtype=bool)
        if self.n_scenes:
            for start in range(0, rows.shape[0], _BLOCK_ROWS):
                part = slice(start, start + _BLOCK_ROWS)
                found[part] = self._reached(rows[part], bars[part].astype(np.float32) - np.float32(_ROUNDING))
        return found

    def _reached(self, rows: NDArray[np.floating], bars: NDArray[np.float32]) -> NDArray[np.bool_]:
        asked, least = self._asked(rows, bars)
        scene, row = np.nonzero((asked @ self._middles >= least[:, None]).T)
        found = np.zeros(rows.shape[0], dtype=bool)
        ends = np.searchsorted(scene, np.arange(self.n_scenes), side="right")
        for number, (first, end) in enumerate(zip(np.append(0, ends[:-1]), ends, strict=True)):
            asking = row[first:end]
            asking = asking[~found[asking]]
            if asking.size:
                frames = self._vectors[self._starts[number] : self._starts[number + 1]]
                found[asking] = (asked[asking, :-2] @ frames.T >= bars[asking, None]).any(axis=1)
        return found

    def _described(self, units: Vectors) -> Vectors:
        """(d + 2, g): the middle of each scene, with sine and cosine of its radius below it."""
        d = units.shape[1]
        described = np.zeros((d + 2, self._starts.size - 1), dtype=np.float32)
        for scene, (start, stop) in enumerate(zip(self._starts[:-1], self._starts[1:], strict=True)):
            middle = units[start:stop].sum(axis=0, dtype=np.float64)
            middle /= max(float(np.linalg.norm(middle)), 1e-12)
            least = float(np.clip((units[start:stop] @ middle).min(), -1.0, 1.0))
            described[:d, scene] = middle
            described[d:, scene] = np.sqrt(1.0 - least * least), least
        return described

    def _asked(
        self, rows: NDArray[np.floating], bars: NDArray[np.float32]
    ) -> tuple[Vectors, NDArray[np.float32]]:
        """(m, d + 2) and (m,): the product with :meth:`_described` is at least that where a scene is near.

        With the angle ``a`` of a row's bar and the radius ``r`` of a scene, its middle must be within
        ``a + r`` of the row: cosine at least cos a cos r - sin a sin r. Both sides times the row's length:
        then the rows stand there as they are, and nothing goes over all of their numbers but the cast.
        """
        asked = np.empty((rows.shape[0], rows.shape[1] + 2), dtype=np.float32)
        own = asked[:, :-2]
        own[...] = rows
        lengths = np.maximum(np.sqrt(np.einsum("ij,ij->i", own, own)), np.float32(1e-12))
        # The longest vector needs the smallest angle; a bar below 0 is for any to reach.
        cosines = np.clip(bars / np.maximum(lengths * np.float32(self._longest), 1e-12), -1.0, 1.0)
        asked[:, -2], asked[:, -1] = lengths * np.sqrt(1.0 - cosines * cosines), -lengths * cosines
        # Beyond half a turn the formula turns back: whoever asks for so little gets to see all frames.
        least = np.where(cosines <= 0.0, -np.inf, -_SLACK * lengths)
        return asked, least.astype(np.float32)


def _scene_starts(units: Vectors) -> NDArray[np.int64]:
    """(g + 1,) where runs of vectors begin that are close to their first, and the end."""
    starts, at, n = [], 0, units.shape[0]
    while at < n:
        starts.append(at)
        near = units[at : at + _LONGEST] @ units[at] >= SCENE_COSINE
        near[0] = True  # a vector of zeros too is in a scene
        at += near.size if near.all() else int(np.argmin(near))
    return np.array([*starts, n], dtype=np.int64)
