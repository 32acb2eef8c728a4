"""Heads and their loss against the probabilities themselves, computed with many digits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import modules, numbers, ragged

from matcher.fusion.experts import LogisticHead, MixtureOfExperts, binary_loss

#: 1 - p of p near 1 is at least exp(-600), 10^-261.
DIGITS = 290


def yes_and_no(gates: list[float], experts: list[float]) -> tuple[Decimal, Decimal]:
    """p and 1 - p of one class: gates of H experts and the dummy, logits of H experts."""
    powers = [Decimal(gate).exp() for gate in gates]
    total = sum(powers, Decimal(0))
    yes = sum(
        (
            power / total / (1 + Decimal(-expert).exp())
            for power, expert in zip(powers, experts, strict=False)
        ),
        Decimal(0),
    )
    return yes, 1 - yes


def head_of(gates: list[float], experts: list[float]) -> MixtureOfExperts:
    """A head of one class which, asked about (1,), has these gates and experts' logits."""
    head = MixtureOfExperts(1, 1, n_experts=len(experts)).double()
    with torch.no_grad():
        head.gates.weight.copy_(torch.tensor(gates).double()[:, None])
        head.experts.weight.copy_(torch.tensor(experts).double()[:, None])
        head.experts.bias.zero_()
    return head


logits = st.floats(-200, 200, width=32)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(logits, logits), min_size=1, max_size=3), logits)
def test_log_odds_and_loss_are_those_of_the_mixture_at_any_logits(
    gates_and_experts: list[tuple[float, float]], dummy: float
) -> None:
    """Where a probability in floating point is 0 or 1 and its logarithm infinite, too."""
    gates = [gate for gate, _ in gates_and_experts] + [dummy]
    experts = [expert for _, expert in gates_and_experts]
    log_odds = head_of(gates, experts)(torch.ones(1, 1).double()).detach()
    everyone = torch.ones(1, dtype=torch.bool)
    with localcontext(prec=DIGITS):
        yes, no = yes_and_no(gates, experts)
        assert float(log_odds) == pytest.approx(float(yes.ln() - no.ln()), rel=1e-9, abs=1e-9)
        for target in (0.0, 1.0, 0.25):
            want = -float(Decimal(target) * yes.ln() + (1 - Decimal(target)) * no.ln())
            got = binary_loss(log_odds, torch.full((1, 1), target).double(), everyone)
            assert float(got) == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_single_precision_at_absurd_logits_gives_finite_losses_and_gradients(size: float) -> None:
    for gate, expert, dummy in ((size, size, -size), (-size, size, size), (size, -size, 0.0)):
        head = head_of([gate, dummy], [expert]).float()
        log_odds = head(torch.ones(1, 1))
        loss = binary_loss(log_odds, torch.zeros(1, 1), torch.ones(1, dtype=torch.bool))
        loss.backward()
        assert loss.isfinite()
        assert head.gates.weight.grad.isfinite().all()
        assert head.experts.weight.grad.isfinite().all()


def test_a_mixture_is_dealt_to_classes_as_the_formula_says() -> None:
    """Three classes, two experts: whose weights are whose."""
    head = modules(lambda: MixtureOfExperts(4, 3, n_experts=2))
    (x,) = ragged(0, (5,), 4)
    state = numbers(head)
    assert "gates.bias" not in state
    got = head(torch.from_numpy(x)).sigmoid().detach()
    assert got.shape == (5, 3)
    for i in range(5):
        gates = state["gates.weight"] @ x[i]
        experts = state["experts.weight"] @ x[i] + state["experts.bias"]
        for c in range(3):
            powers = [math.exp(gates[3 * c + h]) for h in range(3)]
            want = sum(powers[h] / sum(powers) / (1 + math.exp(-experts[2 * c + h])) for h in range(2))
            assert float(got[i, c]) == pytest.approx(want)


def test_the_dummy_says_no_whatever_the_experts_say() -> None:
    assert float(head_of([0.0, 40.0], [40.0])(torch.ones(1, 1).double()).detach()) == pytest.approx(
        -40, rel=1e-6
    )


@pytest.mark.parametrize("make", [lambda: MixtureOfExperts(3, 2), lambda: LogisticHead(3, 2)])
def test_gradients_are_those_of_differences_and_what_does_not_count_has_none(make) -> None:  # type: ignore[no-untyped-def]
    head = modules(make)
    x = torch.from_numpy(ragged(1, (4,), 3)[0]).requires_grad_()
    targets = torch.from_numpy(np.random.default_rng(2).random((4, 2)))
    mask = torch.tensor([True, False, True, True])
    assert torch.autograd.gradcheck(
        lambda x, *_: binary_loss(head(x), targets, mask), (x, *head.parameters())
    )
    binary_loss(head(x), targets, mask).backward()
    assert x.grad is not None
    assert x.grad[1].tolist() == [0.0] * 3
    assert (x.grad[mask] != 0).any(dim=1).all()


def test_a_logistic_head_is_a_linear_map() -> None:
    head = modules(lambda: LogisticHead(3, 2))
    (x,) = ragged(3, (4,), 3)
    state = numbers(head)
    want = x @ state["linear.weight"].T + state["linear.bias"]
    np.testing.assert_allclose(head(torch.from_numpy(x)).detach().numpy(), want)


def test_the_loss_is_summed_over_classes_and_averaged_over_clips_that_count() -> None:
    p = np.array([[0.9, 0.2], [0.5, 0.6], [0.1, 0.3]])
    y = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
    log_odds = torch.from_numpy(np.log(p / (1 - p)))
    each = [
        -sum(y[i, c] * math.log(p[i, c]) + (1 - y[i, c]) * math.log(1 - p[i, c]) for c in (0, 1))
        for i in (0, 1, 2)
    ]
    mask = torch.tensor([True, False, True])
    assert float(binary_loss(log_odds, torch.from_numpy(y), mask)) == pytest.approx((each[0] + each[2]) / 2)
    assert float(binary_loss(log_odds, torch.from_numpy(y), mask & False)) == 0.0


def test_what_does_not_fit_is_refused() -> None:
    everyone = torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(B, C\)"):
        binary_loss(torch.zeros(3, 2), torch.zeros(3, 1), everyone)
    with pytest.raises(ValueError, match=r"\(B, C\)"):
        binary_loss(torch.zeros(3, 2), torch.zeros(3, 2), everyone[:2])
    with pytest.raises(ValueError, match="at least 1"):
        MixtureOfExperts(3, 2, n_experts=0)
    with pytest.raises(ValueError, match="at least 1"):
        LogisticHead(3, 0)
