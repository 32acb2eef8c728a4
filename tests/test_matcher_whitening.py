"""Pair whitening against its definition written out in sums, and what it is for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open

from matcher.encoders import lite0
from matcher.encoders.base import unit_rows
from matcher.encoders.whitening import MEAN_SHARE, REGULARIZATION, Whitening, fit_pair_whitening

Matrix = list[list[float]]


def jacobi(a: Matrix) -> tuple[list[float], Matrix]:
    """Eigenvalues and eigenvectors (columns) of a symmetric matrix, by Jacobi's rotations."""
    n = len(a)
    a = [row[:] for row in a]
    v = [[float(i == j) for j in range(n)] for i in range(n)]
    for _ in range(60):
        for p in range(n):
            for q in range(p + 1, n):
                if a[p][q] == 0.0:
                    continue
                angle = 0.5 * math.atan2(2 * a[p][q], a[q][q] - a[p][p])
                c, s = math.cos(angle), math.sin(angle)
                for k in range(n):
                    a[k][p], a[k][q] = c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]
                for k in range(n):
                    a[p][k], a[q][k] = c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]
                for k in range(n):
                    v[k][p], v[k][q] = c * v[k][p] - s * v[k][q], s * v[k][p] + c * v[k][q]
    return [a[i][i] for i in range(n)], v


def whitened_by_sums(
    x: Matrix, y: Matrix, *, d: int, regularization: float, mean_share: float, weights: list[float]
) -> Matrix:
    """(n, d) descriptors of the originals, each entry from explicit sums; columns up to their sign."""
    n, r = len(x), len(x[0])
    total = sum(weights)
    w = [weight / total for weight in weights]
    delta = [[x[i][j] - y[i][j] for j in range(r)] for i in range(n)]
    c = [[sum(w[i] * delta[i][a] * delta[i][b] for i in range(n)) for b in range(r)] for a in range(r)]
    ridge = regularization * sum(c[a][a] for a in range(r)) / r
    for a in range(r):
        c[a][a] += ridge
    values, v = jacobi(c)
    root = [
        [sum(v[a][k] * v[b][k] / math.sqrt(values[k]) for k in range(r)) for b in range(r)] for a in range(r)
    ]
    mean = [mean_share * sum(w[i] * x[i][a] for i in range(n)) for a in range(r)]
    z = [[sum((x[i][a] - mean[a]) * root[a][b] for a in range(r)) for b in range(r)] for i in range(n)]
    second = [[sum(w[i] * z[i][a] * z[i][b] for i in range(n)) for b in range(r)] for a in range(r)]
    strength, u = jacobi(second)
    kept = sorted(range(r), key=lambda k: -strength[k])[:d]
    out = [[sum(z[i][a] * u[a][k] for a in range(r)) for k in kept] for i in range(n)]
    return [[value / math.sqrt(sum(o * o for o in row)) for value in row] for row in out]


def pairs(seed: int, n: int, r: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    originals = unit_rows(rng.normal(size=(n, r)) * np.linspace(0.5, 2, r) + 0.6)
    edited = unit_rows(originals + 0.2 * rng.normal(size=(n, r)) * np.linspace(2, 0.3, r))
    return originals, edited


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    r=st.integers(2, 5),
    regularization=st.sampled_from([0.01, 0.3]),
    mean_share=st.sampled_from([0.0, 0.5, 1.0]),
    weighted=st.booleans(),
)
def test_whitening_is_that_of_the_sums(
    seed: int, r: int, regularization: float, mean_share: float, weighted: bool
) -> None:
    """Compared by inner products, to which the signs of eigenvectors are of no consequence."""
    rng = np.random.default_rng(seed)
    originals, edited = pairs(seed, 14, r)
    weights = rng.uniform(0.2, 3, 14).astype(np.float32) if weighted else None
    d = int(rng.integers(1, r + 1))
    fitted = fit_pair_whitening(
        originals, edited, d=d, regularization=regularization, mean_share=mean_share, weights=weights
    )
    want = np.array(
        whitened_by_sums(
            originals.astype(float).tolist(), edited.astype(float).tolist(), d=d,
            regularization=regularization, mean_share=mean_share,
            weights=[1.0] * 14 if weights is None else weights.astype(float).tolist(),
        )
    )  # fmt: skip
    got = fitted.apply(originals)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got @ got.T, want @ want.T, atol=3e-3)


def test_edits_move_descriptors_less_and_frames_stay_apart() -> None:
    """What it is for: the pair's cosine rises against that of strangers."""
    rng = np.random.default_rng(3)
    n, r = 400, 24
    frames = rng.normal(size=(n, r)) * np.linspace(1, 0.4, r)
    edits = rng.normal(size=(n, r)) * np.r_[np.full(8, 1.5), np.full(16, 0.05)]
    x, y = unit_rows(frames), unit_rows(frames + edits)
    fitted = fit_pair_whitening(x[:200], y[:200], d=12, regularization=0.05)

    def found(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(((b @ a.T).argmax(axis=1) == np.arange(len(a))).mean())

    before, after = found(x[200:], y[200:]), found(fitted.apply(x[200:]), fitted.apply(y[200:]))
    assert after > before + 0.1


def test_what_is_not_said_is_regularized_by_one_and_a_half_and_keeps_most_of_the_mean() -> None:
    x, y = pairs(1, 30, 5)
    usual = fit_pair_whitening(x, y, d=3)
    said = fit_pair_whitening(x, y, d=3, regularization=1.5, mean_share=0.4)
    assert (REGULARIZATION, MEAN_SHARE) == (1.5, 0.4)
    assert usual.to_bytes() == said.to_bytes()
    np.testing.assert_allclose(usual.mean, 0.4 * x.mean(axis=0), rtol=1e-5)


def test_more_regularization_trusts_few_pairs_less() -> None:
    """Fitted on far fewer pairs than dimensions, and asked about others."""
    rng = np.random.default_rng(5)
    n, r = 600, 60
    frames = rng.normal(size=(n, r))
    x = unit_rows(frames)
    y = unit_rows(frames + rng.normal(size=(n, r)) * np.r_[np.full(6, 2.0), np.full(54, 0.8)])

    def found(regularization: float) -> float:
        fitted = fit_pair_whitening(x[:40], y[:40], d=30, regularization=regularization)
        a, b = fitted.apply(x[40:]), fitted.apply(y[40:])
        return float(((b @ a.T).argmax(axis=1) == np.arange(len(a))).mean())

    assert found(REGULARIZATION) > found(0.01) + 0.05


def test_the_order_of_pairs_is_of_no_consequence() -> None:
    x, y = pairs(1, 30, 5)
    order = np.random.default_rng(0).permutation(30)
    a = fit_pair_whitening(x, y, d=3, regularization=0.1).apply(x)
    b = fit_pair_whitening(x[order], y[order], d=3, regularization=0.1).apply(x)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-3)


def test_a_weight_of_two_is_a_pair_that_stands_twice() -> None:
    x, y = pairs(2, 10, 4)
    weights = np.ones(10, np.float32)
    weights[3] = 2.0
    a = fit_pair_whitening(x, y, d=3, regularization=0.1, weights=weights).apply(x)
    twice = [*range(10), 3]
    b = fit_pair_whitening(x[twice], y[twice], d=3, regularization=0.1).apply(x)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-3)


def test_rows_come_out_of_length_1_and_nothing_comes_out_of_nothing() -> None:
    x, y = pairs(4, 20, 6)
    fitted = fit_pair_whitening(x, y, d=4, regularization=0.1)
    assert fitted.d == 4
    np.testing.assert_allclose(np.linalg.norm(fitted.apply(x), axis=1), 1.0, rtol=1e-5)
    assert fitted.apply(x[:0]).shape == (0, 4)
    # The mean itself has no direction left: it stays zero and is no NaN.
    assert fitted.apply(fitted.mean[None]).tolist() == [[0.0] * 4]


@pytest.mark.parametrize("d", [0, 7, -1])
def test_more_dimensions_than_there_are_or_none_are_refused(d: int) -> None:
    x, y = pairs(5, 10, 6)
    with pytest.raises(ValueError, match=f"cannot keep {d} of 6"):
        fit_pair_whitening(x, y, d=d, regularization=0.1)


def test_shapes_that_disagree_are_refused() -> None:
    x, y = pairs(5, 10, 6)
    with pytest.raises(ValueError, match=r"\(n, r\)"):
        fit_pair_whitening(x, y[:9], d=2, regularization=0.1)
    with pytest.raises(ValueError, match=r"\(n, r\)"):
        fit_pair_whitening(x[0], y[0], d=2, regularization=0.1)
    with pytest.raises(ValueError, match="does not fit"):
        Whitening(np.zeros(3, np.float32), np.zeros((4, 2), np.float32))


def test_what_is_saved_loads_as_the_same_map(tmp_path: Path) -> None:
    """Saved in half precision: what is loaded again stays as it is, byte for byte."""
    x, y = pairs(6, 40, 12)
    fitted = fit_pair_whitening(x, y, d=8, regularization=0.1)
    fitted.save(tmp_path / "w.safetensors", notes={"made_by": "a test"})
    loaded = Whitening.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(loaded.mean, fitted.mean)
    np.testing.assert_allclose(loaded.apply(x), fitted.apply(x), atol=5e-3)
    loaded.save(tmp_path / "again.safetensors", notes={})
    assert Whitening.load(tmp_path / "again.safetensors").to_bytes() == loaded.to_bytes()
    assert loaded.to_bytes() != fitted.to_bytes()


def test_bytes_tell_shape_and_numbers_apart() -> None:
    a = Whitening(np.zeros(2, np.float32), np.ones((2, 3), np.float32))
    assert a.to_bytes() == Whitening(np.zeros(2, np.float32), np.ones((2, 3), np.float32)).to_bytes()
    assert a.to_bytes() != Whitening(np.zeros(3, np.float32), np.ones((3, 2), np.float32)).to_bytes()
    assert a.to_bytes() != Whitening(np.ones(2, np.float32), np.ones((2, 3), np.float32)).to_bytes()


def test_the_shipped_whitening_fits_the_default_model() -> None:
    shipped = lite0.whitening()
    assert shipped.projection.shape == (lite0.RAW_DIMENSIONS, 512)
    assert np.isfinite(shipped.projection).all()
    assert np.isfinite(shipped.mean).all()
    # What the verb writes is what the shipped file must say of itself.
    path = Path(lite0.__file__).with_name("lite0_whitening.safetensors")
    with safe_open(str(path), "np") as file:
        said = file.metadata()
    assert said["command"] == (
        "matcher train descriptor --films FILMS --films DRAMAS --weight 1 --weight 0.2 --seed 7"
    )
    settings = json.loads(said["settings"])
    assert settings == {"d": 512, "regularization": REGULARIZATION, "mean_share": MEAN_SHARE}
    kept = np.linalg.eigvalsh(shipped.projection.T @ shipped.projection)
    assert kept.min() > 1e-5 * kept.max()  # no dimension is a copy of others
