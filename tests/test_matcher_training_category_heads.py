"""Training of one tier's head: what is learned, what is held out, and what its confidence is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.category_head import calibrate
from matcher.errors import InputError
from matcher.training.category_figures import (
    best_answers,
    calibration_error,
    fit_calibration,
    negative_log_likelihood,
)
from matcher.training.category_heads import HeadOrigin, deal_programs, train_head
from matcher.training.embedding_augmentation import ClassNoise, augment, drop_dimensions, mix_up
from matcher.training.head_config import AugmentationConfig, HeadTraining, augmentation_of
from matcher.training.head_trainer import HeadTrainer

QUICK = HeadTraining(form="logistic", min_examples=2, folds=3, max_steps=200, patience=3, learning_rate=0.02)


def clips(
    *, seed: int, n_classes: int = 4, n_programs: int = 6, n_clips: int = 5, d: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, targets, known and programs: class means, programs off them, clips off these."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((n_classes, d)) * 1.5
    x, y, groups = [], [], []
    for c in range(n_classes):
        for program in range(n_programs):
            off = means[c] + rng.standard_normal(d) * 0.6
            x.append(off + rng.standard_normal((n_clips, d)) * 0.4)
            y += [c] * n_clips
            groups += [c * n_programs + program] * n_clips
    rows = np.concatenate(x).astype(np.float32)
    return rows, np.eye(n_classes, dtype=np.float32)[y], np.ones(len(y), bool), np.array(groups)


def origin(n_classes: int = 4) -> HeadOrigin:
    return HeadOrigin(1, tuple(f"c{n}" for n in range(n_classes)), "site@1", "f", "m")


@pytest.mark.parametrize("form", ["experts", "logistic"])
def test_a_head_answers_programs_that_it_never_saw(form: str) -> None:
    x, targets, known, groups = clips(seed=0, n_programs=12)
    is_new = groups % 12 >= 8
    head = train_head(
        x[~is_new], targets[~is_new], known[~is_new], groups[~is_new], replace(QUICK, form=form), origin()
    )
    p = head.probabilities(x[is_new])
    assert (p.argmax(axis=1) == targets[is_new].argmax(axis=1)).mean() > 0.9
    assert head.figures["accuracy"] > 0.9
    assert head.figures["measured"] == (~is_new).sum()
    assert head.figures["measured_programs"] == 32
    assert (head.class_paths, head.taxonomy, head.model) == (("c0", "c1", "c2", "c3"), "site@1", "m")
    assert head.trained_at.startswith("20")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_head_and_another_another() -> None:
    data = clips(seed=0)
    heads = [train_head(*data, replace(QUICK, seed=seed), origin()) for seed in (1, 1, 2)]
    assert heads[0].fingerprint == heads[1].fingerprint != heads[2].fingerprint


def test_clips_of_unknown_category_are_no_negatives() -> None:
    """What is not known on this tier takes no part, whatever its embeddings and targets are."""
    x, targets, known, groups = clips(seed=0)
    wild = np.random.default_rng(1).standard_normal((50, 12)).astype(np.float32) * 100
    head = train_head(x, targets, known, groups, QUICK, origin())
    more = train_head(
        np.concatenate([x, wild]),
        np.concatenate([targets, np.zeros((50, 4), np.float32)]),
        np.concatenate([known, np.zeros(50, bool)]),
        np.concatenate([groups, np.arange(1000, 1050)]),
        QUICK,
        origin(),
    )
    assert more.fingerprint == head.fingerprint


def test_a_class_with_too_few_clips_is_not_among_the_heads() -> None:
    x, targets, known, groups = clips(seed=0)
    few = targets.copy()
    few[np.flatnonzero(few[:, 2])[1:], 2] = 0
    head = train_head(x, few, known, groups, QUICK, origin())
    assert head.class_paths == ("c0", "c1", "c3")
    with pytest.raises(InputError, match="tier 1: no category has 1000 labelled clips"):
        train_head(x, few, known, groups, replace(QUICK, min_examples=1000), origin())
    with pytest.raises(InputError, match="are of one program, so nothing can be held out"):
        train_head(x, few, known, np.zeros(len(x), np.int64), QUICK, origin())


def test_shapes_that_disagree_are_refused() -> None:
    x, targets, known, groups = clips(seed=0)
    for changed in (
        (x[:, 0], targets, known, groups),
        (x, targets[:, :3], known, groups),
        (x, targets, known[:3], groups),
        (x, targets, known, groups[:3]),
        (x * np.nan, targets, known, groups),
    ):
        with pytest.raises(ValueError, match="must be"):
            train_head(*changed, QUICK, origin())
    for wrong in (
        {"form": "x"}, {"balance": 2}, {"min_examples": 0}, {"folds": 1}, {"learning_rate": 0}, {"batch": 1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            HeadTraining(**wrong)
    for wrong in ({"mixup": -1}, {"dropout": 1}, {"shrink_examples": 0}):
        with pytest.raises(ValueError, match="must be"):
            AugmentationConfig(**wrong)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 7), min_size=4, max_size=40), st.integers(2, 5), st.integers(0, 9))
def test_a_program_stands_in_one_fold_of_several(programs: list[int], folds: int, seed: int) -> None:
    groups = np.array([*programs, 8, 9])
    targets = np.eye(3, dtype=np.float32)[np.random.default_rng(seed).integers(3, size=len(groups))]
    fold = deal_programs(groups, targets, folds)
    for program in np.unique(groups):
        assert len(np.unique(fold[groups == program])) == 1
    assert 2 <= len(set(fold)) <= folds


def test_classes_are_spread_over_the_folds() -> None:
    _, targets, _, groups = clips(seed=0, n_programs=6)
    fold = deal_programs(groups, targets, 3)
    for c in range(4):
        assert set(fold[targets[:, c] > 0]) == {0, 1, 2}


def test_held_out_answers_are_of_heads_that_never_saw_the_program() -> None:
    """Where every program looks like nothing else, nothing can be known of one that is held out."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    x = (rng.standard_normal((40, 64))[groups] * 3 + rng.standard_normal((200, 64)) * 0.1).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[rng.permutation(np.arange(40) % 2)[groups]]
    known, config = np.ones(200, bool), replace(QUICK, max_steps=60)
    head = train_head(x, targets, known, groups, config, origin(2))
    assert head.figures["accuracy"] < 0.75
    assert head.figures["nll"] < 1.6  # as good as saying one half of both, 1.39, or nearly
    # Clips of one program on both sides would look like knowledge.
    assert train_head(x, targets, known, np.arange(200), config, origin(2)).figures["accuracy"] > 0.9


def test_balance_moves_what_is_learned_and_not_how_often_it_is_said() -> None:
    """Two classes that embeddings cannot tell apart are said as often as they come, however balanced."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 4)).astype(np.float32) * 0.01
    targets = np.eye(2, dtype=np.float32)[(np.arange(600) % 10 == 0).astype(int)]
    for balance in (0.0, 1.0):
        config = replace(QUICK, balance=balance, max_steps=50)
        head = train_head(x, targets, np.ones(600, bool), np.arange(600) // 5, config, origin(2))
        np.testing.assert_allclose(head.probabilities(x).mean(axis=0), [0.9, 0.1], atol=0.04)
        assert head.offsets[1] == pytest.approx(balance * math.log(9), abs=1e-5)


def test_an_untrained_head_says_how_common_each_class_is() -> None:
    x = np.zeros((100, 4), np.float32)
    targets = np.eye(3, dtype=np.float32)[np.repeat([0, 1, 2], [60, 35, 5])]
    for form in ("logistic", "experts"):
        trainer = HeadTrainer(x, targets, replace(QUICK, form=form))
        np.testing.assert_allclose(
            1 / (1 + np.exp(-trainer.log_odds(x[:1])[0])), [0.6, 0.35, 0.05], atol=1e-4
        )


# Figures


def test_the_calibration_error_is_that_of_a_worked_example() -> None:
    confidence = np.array([0.1, 0.9, 0.8, 0.2])
    is_right = np.array([False, True, False, True])
    # Two bins: {0.1, 0.2} with 0.5 right, {0.8, 0.9} with 0.5 right.
    assert calibration_error(confidence, is_right, n_bins=2) == pytest.approx((0.35 + 0.35) / 2)
    assert calibration_error(confidence, is_right, n_bins=1) == pytest.approx(0.0)
    assert calibration_error(np.array([0.7]), np.array([True])) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="N > 0"):
        calibration_error(np.zeros(0), np.zeros(0, bool))


def test_bins_hold_as_many_answers_each() -> None:
    """Of a thousand answers near 1, five in the middle are in bins with others and weigh five."""
    confidence = np.concatenate([np.linspace(0.3, 0.7, 5), np.full(995, 0.99)])
    is_right = np.concatenate([np.zeros(5, bool), np.ones(995, bool)])
    assert calibration_error(confidence, is_right, n_bins=10) == pytest.approx(0.01, abs=0.005)


@settings(deadline=None)
@given(st.integers(0, 99))
def test_the_likelihood_leaves_out_what_is_not_asked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, t = rng.standard_normal((4, 3)) * 5, (rng.random((4, 3)) > 0.5).astype(np.float32)
    z[rng.random((4, 3)) < 0.3] = -np.inf
    p = 1 / (1 + np.exp(-z))
    wanted = -sum(
        math.log(p[n, c] if t[n, c] else 1 - p[n, c]) for n in range(4) for c in range(3) if z[n, c] > -np.inf
    )
    assert negative_log_likelihood(z, t) == pytest.approx(wanted / 4, rel=1e-6)


def test_the_fitted_calibration_is_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(0)
    for exclusive in (True, False):
        z = rng.standard_normal((3000, 4)) * 2
        if exclusive:
            powers = np.exp(z)
            p = powers / powers.sum(axis=1, keepdims=True)
            t = np.eye(4, dtype=np.float32)[[rng.choice(4, p=row) for row in p]]
        else:
            t = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(np.float32)
        temperature, rivalry = fit_calibration(z * 2.5, t)
        # Drawn so, the truth is known.
        assert temperature == pytest.approx(2.5, rel=0.1)
        assert rivalry == pytest.approx(float(exclusive), abs=0.06)
        found = negative_log_likelihood(calibrate(z * 2.5, temperature=temperature, rivalry=rivalry), t)
        grid = [
            negative_log_likelihood(calibrate(z * 2.5, temperature=a, rivalry=b), t)
            for a in (1.5, 2.0, 2.25, 2.5, 2.75, 3.0)
            for b in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        assert found <= min(grid) + 1e-4
    assert fit_calibration(np.zeros((0, 3)), np.zeros((0, 3), np.float32)) == (1.0, 0.0)
    assert fit_calibration(np.full((2, 3), -np.inf), np.zeros((2, 3), np.float32)) == (1.0, 0.0)
    assert fit_calibration(z, t, rivals=False)[1] == 0.0
    assert fit_calibration(z[:, :1], t[:, :1])[1] == 0.0  # one class has no rival


def test_the_best_answer_is_right_where_the_clip_is_of_it() -> None:
    z = np.array([[0.0, 2.0], [1.0, -1.0]])
    confidence, is_right = best_answers(z, np.array([[1, 1], [0, 1]], np.float32))
    np.testing.assert_allclose(confidence, [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))])
    assert is_right.tolist() == [True, False]


def test_calibration_brings_confidence_to_what_it_is_worth() -> None:
    """Of clips with one category each, on programs that took no part."""
    x, targets, known, groups = clips(seed=3, n_classes=8, n_programs=20, n_clips=3, d=8)
    is_new = groups % 20 >= 14
    head = train_head(
        x[~is_new],
        targets[~is_new],
        known[~is_new],
        groups[~is_new],
        replace(QUICK, weight_decay=1.0),
        origin(8),
    )
    confidence, is_right = best_answers(head.log_odds(x[is_new]), targets[is_new])
    plain = replace(head, temperature=1.0, rivalry=0.0)
    before, _ = best_answers(plain.log_odds(x[is_new]), targets[is_new])
    assert calibration_error(confidence, is_right, n_bins=5) < calibration_error(before, is_right, n_bins=5)
    assert head.figures["ece"] < head.figures["ece_before"]
    assert head.figures["nll"] < head.figures["nll_before"]
    assert head.rivalry > 0.5


# Augmentation


def test_mixed_clips_stand_between_two_with_targets_in_the_same_shares() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((200, 3))).float()
    targets = torch.eye(200)
    mixed, mixed_targets = mix_up(x, targets, 0.4, rng)
    torch.testing.assert_close(mixed, mixed_targets @ x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(200))
    assert (mixed_targets.diagonal() >= 0.5).all()
    assert (mixed_targets.diagonal() < 0.99).sum() > 50


def test_lost_dimensions_leave_the_mean_as_it_was() -> None:
    x = torch.ones(4000, 3)
    views = drop_dimensions(x, 0.25, np.random.default_rng(0))
    assert set(np.unique(views.numpy().round(4))) == {0.0, np.float32(1.3333)}
    torch.testing.assert_close(views.mean(dim=0), torch.ones(3), atol=0.05, rtol=0)


def test_noise_has_the_shrunk_covariance_of_the_class() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 3)) * [3, 1, 0.1], rng.standard_normal((6, 3)) * [0.1, 1, 3] + 5
    lone = rng.standard_normal((1, 3))
    x = np.concatenate([a, b, lone, lone]).astype(np.float32)
    targets = np.zeros((38, 3), np.float32)
    targets[:30, 0] = targets[30:36, 1] = targets[36:37, 2] = 1  # the last is of no class
    noise = ClassNoise(torch.from_numpy(x), torch.from_numpy(targets), shrink_examples=10)
    own = [np.cov(a.T), np.cov(b.T), np.zeros((3, 3))]
    common = (29 * own[0] + 5 * own[1]) / 34
    for row, c, n in ((0, 0, 30), (30, 1, 6), (36, 2, 1)):
        shrink = 10 / (10 + n - 1)
        wanted = (1 - shrink) * own[c] + shrink * common
        drawn = noise.draw(torch.full((40000,), row), rng).numpy()
        np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.06)
        np.testing.assert_allclose(np.cov(drawn.T), wanted, atol=0.05 * np.abs(wanted).max())
    assert not noise.draw(torch.tensor([37]), rng).any()
    nothing = ClassNoise(torch.from_numpy(x[:2]), torch.eye(2), shrink_examples=10)
    assert not nothing.draw(torch.tensor([0, 1]), rng).any()


def test_noise_and_lost_dimensions_are_for_rare_classes_alone() -> None:
    rng = np.random.default_rng(0)
    x, targets = torch.ones(6, 50), torch.ones(6, 2)
    is_rare = torch.tensor([True, False] * 3)
    config = AugmentationConfig(dropout=0.5, noise=2.0)
    view, same = augment(x, targets, torch.ones(6, 50), is_rare, config, rng)
    assert (view[~is_rare] == 1).all()
    assert set(np.unique(view[is_rare].numpy())) == {0.0, 6.0}
    assert same is targets
    plain, _ = augment(x, targets, None, is_rare, AugmentationConfig(), rng)
    assert plain is x


def test_a_head_learns_with_every_augmentation() -> None:
    x, targets, known, groups = clips(seed=0)
    config = replace(QUICK, augmentation=AugmentationConfig(mixup=0.4, dropout=0.2, noise=0.5))
    head = train_head(x, targets, known, groups, config, origin())
    assert head.figures["accuracy"] > 0.9
    assert head.fingerprint != train_head(x, targets, known, groups, QUICK, origin()).fingerprint


def test_words_name_augmentations_together_and_unknown_ones_are_refused() -> None:
    assert augmentation_of([]) == AugmentationConfig()
    assert augmentation_of(["noise", "mixup"]) == AugmentationConfig(mixup=0.3, noise=1.0)
    with pytest.raises(InputError, match="no augmentation 'blur'; there are mixup, dropout, noise"):
        augmentation_of(["blur"])
