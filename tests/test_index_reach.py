"""Rows that new vectors reach, by scenes and by looking at every one: the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from index.reach import Reach


def slow(
    new: NDArray[np.floating], rows: NDArray[np.floating], bars: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Whether any of all similarities reaches each row's bar."""
    if len(new) == 0:
        return np.zeros(len(rows), dtype=bool)
    best = (rows.astype(np.float64) @ new.astype(np.float64).T).max(axis=1)
    return np.asarray(best >= bars)


def scenes(rng: np.random.Generator, n: int, d: int, noise: float, length: float) -> NDArray[np.float32]:
    """Runs of similar vectors, of about one length."""
    middles = rng.standard_normal((max(1, n // 6), d))
    vectors = middles[np.sort(rng.integers(0, len(middles), n))] + noise * rng.standard_normal((n, d))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return (length * vectors * rng.uniform(0.8, 1.2, (n, 1))).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(0, 40), m=st.integers(0, 30), d=st.integers(1, 12),
    noise=st.sampled_from([0.0, 0.2, 0.6, 2.0]), length=st.sampled_from([0.1, 1.0, 5.0]),
    is_half=st.booleans(),
)  # fmt: skip
def test_rows_are_reached_as_by_looking_at_every_vector(
    seed: int, n: int, m: int, d: int, noise: float, length: float, is_half: bool
) -> None:
    """Of any length, in any number of dimensions; a bar within rounding of the best counts either way."""
    rng = np.random.default_rng(seed)
    new, rows = scenes(rng, n, d, noise, length), scenes(rng, m, d, noise, 1.0)
    if is_half:
        new, rows = new.astype(np.float16), rows.astype(np.float16)
    bars = rng.uniform(-1.1, 1.1, m).astype(np.float32) * np.float32(length)
    got, want = Reach(new).reached(rows, bars), slow(new, rows, bars)
    best = np.full(m, -np.inf)
    if n and m:
        best = (rows.astype(np.float64) @ new.astype(np.float64).T).max(axis=1)
    sure = np.abs(best - bars) > 2e-5 * max(1.0, length)
    np.testing.assert_array_equal(got[sure], want[sure])
    assert (got | ~want).all()  # none that is reached is missed


def test_a_bar_at_the_very_similarity_is_reached() -> None:
    rng = np.random.default_rng(1)
    new, rows = scenes(rng, 60, 64, 0.3, 1.0), scenes(rng, 40, 64, 0.3, 1.0)
    best = (rows @ new.T).max(axis=1)
    assert Reach(new).reached(rows, best).all()
    assert not Reach(new).reached(rows, best + 1e-3).any()


def test_vectors_of_zeros_reach_what_zero_does() -> None:
    rows = np.eye(3, dtype=np.float32)
    reach = Reach(np.zeros((2, 3), np.float32))
    assert reach.reached(rows, np.array([-0.1, 0.0, 0.1], np.float32)).tolist() == [True, True, False]
    zero_rows = Reach(np.eye(3, dtype=np.float32)).reached(
        np.zeros((2, 3), np.float32), np.array([-0.1, 0.1])
    )
    assert zero_rows.tolist() == [True, False]


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_frames_of_a_scene_are_looked_at_together(noise: float) -> None:
    """Ten scenes of 50 frames are ten comparisons, not 500."""
    rng = np.random.default_rng(2)
    middles = rng.standard_normal((10, 256))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    vectors = np.repeat(middles, 50, axis=0) + noise * rng.standard_normal((500, 256)) / 16
    reach = Reach(vectors)
    assert reach.n_scenes == 10
    rows = rng.standard_normal((300, 256))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[::10] = middles[rng.integers(0, 10, 30)]
    bars = np.full(300, 0.7)
    np.testing.assert_array_equal(reach.reached(rows, bars), slow(vectors, rows, bars))
    assert reach.reached(rows, bars).sum() == 30


def test_more_rows_than_are_compared_at_once() -> None:
    rng = np.random.default_rng(3)
    new = scenes(rng, 30, 16, 0.3, 1.0)
    rows = scenes(rng, 20_000, 16, 0.3, 1.0)
    bars = np.full(len(rows), 0.8, np.float32)
    np.testing.assert_array_equal(Reach(new).reached(rows, bars), slow(new, rows, bars - 1e-5))
