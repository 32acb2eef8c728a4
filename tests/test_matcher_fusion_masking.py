"""Batch normalization over rows that count: as torch's own would see those rows alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import modules, normalized_by_sums, numbers
from torch import nn

from matcher.fusion.masking import MaskedBatchNorm, NormalizedLinear, check_frames, zero_masked


def case(seed: int, n: int, t: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n, t, d), NaN where the mask is false."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, t, d)) * 3 + 1
    mask = rng.random((n, t)) < 0.6
    x[~mask] = math.nan
    return torch.from_numpy(x), torch.from_numpy(mask)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 4),
    t=st.integers(1, 4),
    d=st.integers(1, 3),
    training=st.booleans(),
)
def test_rows_that_count_are_normalized_as_the_sums_say_and_the_others_are_zeros(
    seed: int, n: int, t: int, d: int, training: bool
) -> None:
    norm = modules(lambda: MaskedBatchNorm(d), seed).train(training)
    x, mask = case(seed, n, t, d)
    before = {f"x.{name}": value for name, value in numbers(norm).items()}
    got = norm(x, mask).detach().numpy()
    want = normalized_by_sums(x[mask].numpy(), before, "x", training=training)
    np.testing.assert_allclose(got[mask.numpy()], want, rtol=1e-9, atol=1e-12)
    assert (got[~mask.numpy()] == 0).all()


@pytest.mark.parametrize("momentum", [0.1, 0.3])
def test_running_statistics_move_as_torch_moves_them(momentum: float) -> None:
    own, theirs = MaskedBatchNorm(3, momentum=momentum), nn.BatchNorm1d(3, momentum=momentum)
    own, theirs = own.double(), theirs.double()
    for seed in range(4):
        x, mask = case(seed, 5, 4, 3)
        torch.testing.assert_close(own(x, mask)[mask], theirs(x[mask]))
    torch.testing.assert_close(own.running_mean, theirs.running_mean)
    torch.testing.assert_close(own.running_var, theirs.running_var)
    assert not torch.allclose(own.running_mean, torch.zeros(3).double(), atol=0.05)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_take_the_running_statistics_and_leave_them(count: int) -> None:
    norm = modules(lambda: MaskedBatchNorm(3)).train()
    before = numbers(norm)
    x = torch.full((2, 2, 3), math.nan, dtype=torch.float64)
    mask = torch.zeros(2, 2, dtype=torch.bool)
    x[0, :count], mask[0, :count] = 5.0, True
    got = norm(x, mask)
    for name, value in numbers(norm).items():
        np.testing.assert_array_equal(value, before[name])
    torch.testing.assert_close(got, norm.eval()(x, mask))
    assert bool(got[mask].any()) == (count > 0)


@pytest.mark.parametrize("training", [True, False])
def test_its_gradient_is_that_of_differences(training: bool) -> None:
    norm = modules(lambda: MaskedBatchNorm(2)).train(training)
    x, mask = case(1, 3, 3, 2)
    x = x.nan_to_num(7.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: norm(x, mask), (x, *norm.parameters()))
    norm(x, mask).square().sum().backward()
    assert x.grad is not None
    assert (x.grad[~mask] == 0).all()
    assert (x.grad[mask] != 0).any()


def test_half_precision_comes_out_as_the_statistics_are() -> None:
    """Sums in half precision would lose the small numbers beside the large ones."""
    norm = MaskedBatchNorm(2).train()
    x = (torch.randn(4000, 2) + 30).half()
    got = norm(x, torch.ones(4000, dtype=torch.bool)).detach()
    assert got.dtype == torch.float32
    assert got.mean().abs() < 1e-3
    assert abs(float(got.var()) - 1) < 0.01


def test_a_linear_map_is_normalized_and_rows_that_do_not_count_stay_zeros() -> None:
    layer = modules(lambda: NormalizedLinear(3, 2)).train()
    x, mask = case(4, 4, 3, 3)
    state = numbers(layer)
    mapped = x[mask].numpy() @ state["linear.weight"].T
    want = normalized_by_sums(mapped, state, "norm", training=True)
    got = layer(x, mask).detach()
    np.testing.assert_allclose(got[mask].numpy(), want, rtol=1e-9)
    assert (got[~mask] == 0).all()
    assert (got < 0).any(), "there is no ReLU"


def test_what_is_masked_is_zero_and_has_no_gradient() -> None:
    x = torch.tensor([[1.0, math.nan], [math.inf, 2.0], [3.0, 4.0]], requires_grad=True)
    mask = torch.tensor([False, False, True])
    y = zero_masked(x, mask)
    assert y.tolist() == [[0, 0], [0, 0], [3, 4]]
    y.square().sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 0], [0, 0], [6, 8]]


@pytest.mark.parametrize(
    ("x", "mask", "said"),
    [
        (torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), r"frames must be \(B, T, 3\)"),
        (torch.zeros(2, 4, 5), torch.ones(2, 4, dtype=torch.bool), r"frames must be \(B, T, 3\)"),
        (torch.zeros(2, 4, 3), torch.ones(2, 3, dtype=torch.bool), r"mask must be \(2, 4\)"),
        (torch.zeros(2, 4, 3), torch.ones(2, 4), r"bool, got .*float32"),
    ],
)
def test_shapes_that_disagree_are_refused(x: torch.Tensor, mask: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_frames(x, mask, 3)
