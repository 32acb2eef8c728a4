"""Synthetic programs: smooth random curves on the unit sphere, to be looked at at any time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

D = 96


class Trajectory:
    """Descriptors of an endless program.

    Frames ``dt`` seconds apart have a cosine of about exp(-(pace dt)²/2); those far apart, or of other
    programs, one of 0 ± 0.15.
    """

    def __init__(self, seed: int, *, pace: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self._frequency = pace * rng.normal(size=D)
        self._phase = rng.uniform(0, 2 * np.pi, D)

    def __call__(self, t_seconds: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n, D) at (n,) times."""
        return unit(np.cos(np.multiply.outer(t_seconds, self._frequency) + self._phase))


def unit(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length 1."""
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def noisy(x: NDArray[np.float32], seed: int, amount: float = 0.2) -> NDArray[np.float32]:
    """Rows moved in a random direction by about ``amount`` of their length."""
    noise = np.random.default_rng(seed).normal(size=x.shape) / np.sqrt(x.shape[1])
    return unit(x + amount * noise)
