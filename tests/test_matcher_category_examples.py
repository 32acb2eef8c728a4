"""A bank of examples: likeness to the mean direction of a class, and what it is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matcher.category_examples import FIXED_MAP, ExampleBank, LikenessMap, check_model
from matcher.errors import InputError
from matcher.training.likeness import fit_likeness, fit_metric


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def a_bank(seed: int = 0) -> ExampleBank:
    rng = np.random.default_rng(seed)
    return ExampleBank(
        rng.standard_normal((5, 8)).astype(np.float32),
        ("a/x", "b", "a/x", "a/x", "b"),
        rng.standard_normal(8).astype(np.float32),
        LikenessMap(4.0, 0.5, 0.25, -3.0, is_calibrated=True),
        rng.standard_normal((8, 8)).astype(np.float32),
        "m",
    )


def test_likeness_is_the_cosine_to_the_mean_direction_and_the_map_its_formula() -> None:
    bank = a_bank()
    x = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    assert bank.class_paths == ("a/x", "b")
    np.testing.assert_array_equal(bank.counts, [3, 2])
    for row, clip in enumerate(x):
        for column, path in enumerate(bank.class_paths):
            rows = [
                unit((v - bank.center) @ bank.metric)
                for v, own in zip(bank.vectors, bank.paths, strict=True)
                if own == path
            ]
            s = float(unit((clip - bank.center) @ bank.metric) @ unit(np.sum(rows, axis=0)))
            assert bank.likenesses(x)[row, column] == pytest.approx(s, abs=1e-5)
            k = np.log(len(rows))
            z = 4.0 * s + 0.5 * k + 0.25 * s * k - 3.0
            assert bank.probabilities(x)[row, column] == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-5)


def test_an_example_answers_as_soon_as_it_is_added() -> None:
    rng = np.random.default_rng(0)
    means = rng.standard_normal((2, 16)) * 3
    bank = ExampleBank(np.zeros((0, 16), np.float32), (), np.zeros(16, np.float32))
    assert bank.probabilities(np.zeros((3, 16), np.float32)).shape == (3, 0)
    for c, path in enumerate(("new", "other")):
        bank = bank.add((means[c] + rng.standard_normal((3, 16))).astype(np.float32), [path] * 3)
    asked = (means[0] + rng.standard_normal((20, 16))).astype(np.float32)
    p = bank.probabilities(asked)
    assert (p[:, 0] > 0.5).all()
    assert (p[:, 1] < 0.5).all()
    assert not bank.likeness.is_calibrated


def test_a_saved_bank_answers_the_same(tmp_path: Path) -> None:
    bank = a_bank()
    path = tmp_path / "examples.safetensors"
    bank.save(path)
    again = ExampleBank.load(path)
    x = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    np.testing.assert_array_equal(again.probabilities(x), bank.probabilities(x))
    assert (again.fingerprint, again.likeness, again.model) == (bank.fingerprint, bank.likeness, "m")
    others = [replace(bank, likeness=FIXED_MAP), replace(bank, metric=None), replace(bank, model="n")]
    assert len({one.fingerprint for one in (bank, *others)}) == 4
    replace(bank, metric=None).save(path)
    assert ExampleBank.load(path).metric is None
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"examples\.safetensors cannot be read"):
        ExampleBank.load(path)


def test_banks_that_do_not_fit_themselves_are_refused() -> None:
    for changes in (
        {"paths": ("a",)},
        {"center": np.zeros(3, np.float32)},
        {"metric": np.zeros((8, 3), np.float32)},
        {"vectors": np.full((5, 8), np.inf, np.float32)},
    ):
        with pytest.raises(ValueError, match=r"."):
            replace(a_bank(), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="embeddings must be"):
        a_bank().likenesses(np.zeros((2, 3), np.float32))


def test_embeddings_of_another_model_are_refused_with_the_remedy() -> None:
    check_model("", "m", "it")
    check_model("m", "m", "it")
    with pytest.raises(InputError, match="the head was made with embeddings of model m, these are of n; run"):
        check_model("m", "n", "the head")


def classes(
    *, seed: int, n_classes: int = 10, n_programs: int = 8, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips (N, 16), targets (N, C) and programs: means of length 3, programs off them, clips off these."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((n_classes, 16)) * 0.75
    x, targets, groups = [], [], []
    for c in range(n_classes):
        for program in range(n_programs):
            off = means[c] + rng.standard_normal(16) * 0.4 * spread
            x.append(off + rng.standard_normal((6, 16)) * 0.3 * spread)
            targets += [np.eye(n_classes)[c]] * 6
            groups += [c * n_programs + program] * 6
    return np.concatenate(x).astype(np.float32), np.array(targets, np.float32), np.array(groups)


def test_a_fitted_map_is_calibrated_on_classes_that_it_was_not_fitted_to() -> None:
    """A new class with k examples: of those it calls likely so, about that share is of it."""
    x, targets, groups = classes(seed=0, n_classes=20)
    fitted = fit_likeness(x[:480], targets[:480, :10], groups[:480])
    assert fitted.is_calibrated
    rng = np.random.default_rng(1)
    confidence, truth = [], []
    for c in range(10, 20):
        own = np.flatnonzero((targets[:, c] > 0) & (groups % 8 < 4))
        for k in (1, 3, 10):
            bank = ExampleBank(x[rng.choice(own, k, replace=False)], ("c",) * k, x.mean(axis=0), fitted)
            asked = (groups % 8 >= 4) & (targets[:, 10:].any(axis=1))
            confidence.append(bank.probabilities(x[asked])[:, 0])
            truth.append(targets[asked, c] > 0)
    p, y = np.concatenate(confidence), np.concatenate(truth)
    assert abs(p.mean() - y.mean()) < 0.03
    likely = p > 0.5
    assert likely.sum() > 100
    assert abs(p[likely].mean() - y[likely].mean()) < 0.1
    assert p[y].mean() > 5 * p[~y].mean()


def test_in_the_metric_clips_of_one_class_differ_by_as_much_in_every_direction() -> None:
    rng = np.random.default_rng(0)
    spread = np.diag([5.0, 1.0, 0.2]) @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    classes = np.repeat(np.arange(10), 400)
    x = (rng.standard_normal((10, 3))[classes] * 7 + rng.standard_normal((4000, 3)) @ spread).astype(
        np.float32
    )
    targets = np.eye(10, dtype=np.float32)[classes]
    metric = fit_metric(x, targets)
    assert metric is not None
    within = np.concatenate([x[classes == c] - x[classes == c].mean(axis=0) for c in range(10)]) @ metric
    np.testing.assert_allclose(np.cov(within.T), np.eye(3), atol=0.2)  # shrunk
    several = np.concatenate([targets, np.ones((5, 10), np.float32), np.zeros((5, 10), np.float32)])
    same = fit_metric(np.concatenate([x, 99 * np.ones((10, 3), np.float32)]), several)
    np.testing.assert_array_equal(same, metric)  # clips of several classes or none take no part
    assert fit_metric(x[::400], targets[::400]) is None
    assert fit_metric(np.ones((4, 3), np.float32), targets[:4]) is None


def test_the_fixed_map_stands_in_where_nothing_can_be_fitted() -> None:
    x, targets, groups = classes(seed=0, n_classes=3, n_programs=1)
    assert fit_likeness(x, targets, groups) == FIXED_MAP  # no class has a second program
    x, targets, groups = classes(seed=0, n_classes=1)
    assert fit_likeness(x, targets, groups) == FIXED_MAP  # nothing else to compare with
    x, targets, groups = classes(seed=0, n_classes=3)
    shuffled = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    fitted = fit_likeness(shuffled, targets, groups)
    assert fitted == FIXED_MAP or abs(fitted.slope) < 2  # likeness says nothing there
