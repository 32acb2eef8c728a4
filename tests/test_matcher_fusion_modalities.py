"""Scale, absence and dropout of whole modalities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from padded import ragged

from matcher.fusion.features import ModalityState
from matcher.fusion.modalities import AbsenceTokens, ModalityDropout, StoredNormalization

PRESENT, MISSING, SILENT, REPLACED = ModalityState


def test_rows_are_normalized_by_the_statistics_of_those_it_was_fitted_on() -> None:
    (rows,) = ragged(0, (40,), 3)
    rows = rows * [1, 5, 0.2] + [0, 10, -1]
    module = StoredNormalization(3).double()
    x = torch.from_numpy(rows)
    assert torch.equal(module(x), x), "before it is fitted it changes nothing"
    module.fit(x)
    got = module(torch.from_numpy(rows[:4].reshape(2, 2, 3)))
    for i in range(4):
        for j in range(3):
            mean = sum(rows[:, j]) / 40
            deviation = math.sqrt(sum((v - mean) ** 2 for v in rows[:, j]) / 40)
            assert float(got[i // 2, i % 2, j]) == pytest.approx((rows[i, j] - mean) / deviation)
    assert {"mean", "scale"} == set(module.state_dict()), "they are stored with the model"
    assert not list(module.parameters())


def test_a_dimension_that_hardly_varies_is_not_blown_up() -> None:
    module = StoredNormalization(3).double()
    rows = torch.tensor([[0.0, 0.3, 1e-9], [2.0, 0.3, 0.0]]).double()
    module.fit(rows)
    torch.testing.assert_close(module.scale, torch.tensor([1.0, 1e-3, 1e-3]).double())
    # All rows alike but for errors in their last digits, which are nothing to scale by.
    module.fit(0.1 + 1e-15 * torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 4.0]]).double())
    assert module.scale.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.zeros(0, 3), "at least one"),
        (torch.zeros(4, 2), r"\(N, 3\)"),
        (torch.zeros(3), r"\(N, 3\)"),
        (torch.full((4, 3), math.nan), "not finite"),
    ],
)
def test_rows_that_cannot_be_fitted_on_are_refused(rows: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StoredNormalization(3).fit(rows)


def test_missing_silent_and_replaced_have_tokens_of_their_own_which_are_learned() -> None:
    module = AbsenceTokens(2).double()
    x = torch.ones(5, 2).double()
    states = torch.tensor([PRESENT, MISSING, SILENT, MISSING, REPLACED])
    assert module(x, states).tolist() == [[1, 1], *[[0, 0]] * 4], "they begin as zeros"
    with torch.no_grad():
        module.tokens.copy_(torch.tensor([[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]))
    got = module(x.masked_fill((states != PRESENT)[:, None], math.nan), states)
    assert got.tolist() == [[1, 1], [2, 3], [4, 5], [2, 3], [6, 7]]
    x = torch.randn(5, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, _: module(x, states), (x, module.tokens))
    module(x, states).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1], *[[0, 0]] * 4]
    assert module.tokens.grad is not None
    assert module.tokens.grad.tolist() == [[2, 2], [1, 1], [1, 1]]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("row", [(0, 0, 0), (0, 1, 0), (2, 0, 0), (1, 0, 2)])
def test_each_present_modality_is_lost_as_often_as_said_and_the_last_never(
    rate: float, row: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    n = 20_000
    states = torch.tensor(row).repeat(n, 1)
    got = ModalityDropout(rate).train()(states)
    was_present = states == PRESENT
    m = row.count(0)
    lost = ((got == MISSING) & was_present).double().mean(dim=0)
    want = rate - rate**m / m
    for modality, state in enumerate(row):
        if state == PRESENT:
            # Four standard deviations.
            assert abs(float(lost[modality]) - want) < 4 * math.sqrt(max(want, 1e-9) / n) + 1e-9
    assert torch.equal(got[~was_present], states[~was_present]), "what is absent stays what it was"
    assert ((got == PRESENT).any(dim=1)).all()
    # How many go at once: all but one more often than by chance, for that is what becomes of all.
    for gone in range(m):
        chance = math.comb(m, gone) * rate**gone * (1 - rate) ** (m - gone)
        chance += rate**m if gone == m - 1 else 0.0
        share = float((((got == MISSING) & was_present).sum(dim=1) == gone).double().mean())
        assert abs(share - chance) < 4 * math.sqrt(chance / n) + 1e-9


def test_clips_lose_modalities_independently_of_each_other() -> None:
    torch.manual_seed(1)
    got = ModalityDropout(0.5).train()(torch.zeros(20_000, 3, dtype=torch.int64))
    lost = (got[:, 0] == MISSING).double().numpy()
    assert abs(np.corrcoef(lost[:-1], lost[1:])[0, 1]) < 0.03


def test_a_clip_with_nothing_stays_as_it_is() -> None:
    states = torch.tensor([[MISSING, SILENT, MISSING], [SILENT, SILENT, SILENT]])
    assert torch.equal(ModalityDropout(1.0).train()(states), states)


def test_at_rate_one_a_single_modality_stays_and_outside_of_training_all_do() -> None:
    torch.manual_seed(2)
    states = torch.zeros(3_000, 3, dtype=torch.int64)
    module = ModalityDropout(1.0).train()
    stays = module(states) == PRESENT
    assert (stays.sum(dim=1) == 1).all()
    assert (abs(stays.double().mean(dim=0) - 1 / 3) < 0.04).all()
    assert module.eval()(states) is states
    assert ModalityDropout(0.0).train()(states) is states


def test_the_same_seed_loses_the_same() -> None:
    states = torch.zeros(50, 3, dtype=torch.int64)
    module = ModalityDropout(0.5).train()
    torch.manual_seed(3)
    once = module(states)
    torch.manual_seed(3)
    assert torch.equal(once, module(states))
    assert not torch.equal(once, module(states))


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        ModalityDropout(rate)


def test_where_no_token_is_learned_absence_is_zeros_and_has_no_parameters() -> None:
    tokens = AbsenceTokens(3, is_learned=False)
    states = torch.tensor([ModalityState.PRESENT, ModalityState.MISSING, ModalityState.SILENT])
    filled = tokens(torch.ones(3, 3), states)
    assert filled.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert not list(tokens.parameters())
    assert "tokens" in tokens.state_dict()
