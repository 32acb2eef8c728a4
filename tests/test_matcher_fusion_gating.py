"""Gates against their formulas in loops."""

from __future__ import annotations

import pytest
import torch
from padded import modules, numbers, ragged, sigmoid

from matcher.fusion.gating import ContextGating, ExcitationGating


def test_context_gating_is_a_sigmoid_of_all_dimensions_times_each() -> None:
    module = modules(lambda: ContextGating(4))
    (x,) = ragged(0, (5,), 4)
    state = numbers(module)
    got = module(torch.from_numpy(x)).detach()
    for i in range(5):
        for j in range(4):
            logit = sum(state["gate.weight"][j, k] * x[i, k] for k in range(4)) + state["gate.bias"][j]
            assert float(got[i, j]) == pytest.approx(sigmoid(logit) * x[i, j])


def test_excitation_goes_through_a_bottleneck_and_a_relu() -> None:
    module = modules(lambda: ExcitationGating(6, reduction=3))
    (x,) = ragged(1, (5,), 6)
    state = numbers(module)
    assert state["squeeze.weight"].shape == (2, 6)
    got = module(torch.from_numpy(x)).detach()
    for i in range(5):
        narrow = [
            max(
                0.0, sum(state["squeeze.weight"][r, k] * x[i, k] for k in range(6)) + state["squeeze.bias"][r]
            )
            for r in range(2)
        ]
        for j in range(6):
            logit = sum(state["excite.weight"][j, r] * narrow[r] for r in range(2)) + state["excite.bias"][j]
            assert float(got[i, j]) == pytest.approx(sigmoid(logit) * x[i, j])


@pytest.mark.parametrize("make", [lambda: ContextGating(4), lambda: ExcitationGating(4, reduction=2)])
def test_gradients_are_those_of_differences(make) -> None:  # type: ignore[no-untyped-def]
    module = modules(make)
    x = torch.from_numpy(ragged(2, (3,), 4)[0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


def test_a_bottleneck_is_never_narrower_than_one() -> None:
    assert ExcitationGating(4, reduction=100).squeeze.out_features == 1
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ExcitationGating(4, reduction=0)
