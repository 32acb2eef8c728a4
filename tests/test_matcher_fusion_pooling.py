"""What every pooling promises, then the plain ones against loops."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from padded import LENGTHS, modules, norms_of, numbers, pad, ragged, softmax
from torch import nn

from matcher.fusion.clip_model import make_pooling
from matcher.fusion.config import FramesConfig, Pooling
from matcher.fusion.pooling import AttentionPooling, MaxPooling, MeanPooling

POOLINGS = get_args(Pooling)
D = 4


def pooling(name: Pooling, *, training: bool = False, seed: int = 0) -> nn.Module:
    config = FramesConfig(d=D, d_out=3, pooling=name, n_clusters=2, n_groups=2, d_hidden=3)
    return modules(lambda: make_pooling(config), seed).train(training)


@pytest.mark.parametrize("name", POOLINGS)
class TestEveryPooling:
    def test_a_padded_batch_is_its_clips_one_by_one(self, name: Pooling) -> None:
        module = pooling(name)
        clips = ragged(1, LENGTHS, D)
        got = module(*pad(clips, extra=2))
        for clip, row in zip(clips, got, strict=True):
            torch.testing.assert_close(module(*pad([clip]))[0], row)

    @pytest.mark.parametrize("training", [True, False])
    def test_padding_is_not_felt(self, name: Pooling, training: bool) -> None:
        """However much of it and whatever it holds; nor do running statistics feel it."""
        clips = ragged(2, LENGTHS, D)
        results = []
        for extra, fill in ((0, 0.0), (3, 1e6), (1, math.nan), (2, math.inf)):
            module = pooling(name, training=training)
            pooled = module(*pad(clips, extra=extra, fill=fill))
            results.append([pooled, *(norm.running_mean for norm in norms_of(module))])
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("training", [True, False])
    def test_a_clip_without_frames_does_not_change_the_others(self, name: Pooling, training: bool) -> None:
        clips = ragged(3, (3, 2, 0), D)
        with_it = pooling(name, training=training)(*pad(clips))
        without = pooling(name, training=training)(*pad(clips[:2]))
        torch.testing.assert_close(with_it[:2], without)
        assert with_it[2].tolist() == [0.0] * 3

    @pytest.mark.parametrize("training", [True, False])
    def test_gradients_are_those_of_differences(self, name: Pooling, training: bool) -> None:
        module = pooling(name, training=training)
        x, mask = pad(ragged(4, LENGTHS, D), fill=3.0)
        x.requires_grad_()
        assert torch.autograd.gradcheck(lambda x, *_: module(x, mask), (x, *module.parameters()))
        module(x, mask).square().sum().backward()
        assert x.grad is not None
        assert (x.grad[~mask] == 0).all()
        assert (x.grad[mask] != 0).any()

    @pytest.mark.parametrize("training", [True, False])
    def test_no_frame_at_all_is_zeros_and_their_gradient_is_no_nan(
        self, name: Pooling, training: bool
    ) -> None:
        module = pooling(name, training=training)
        x, mask = pad(ragged(5, (0, 0), D), extra=2)
        x.requires_grad_()
        pooled = module(x, mask)
        assert pooled.tolist() == [[0.0] * 3] * 2
        (pooled + 1).square().sum().backward()
        assert all(part.grad is None or part.grad.isfinite().all() for part in (x, *module.parameters()))
        assert module(*pad(ragged(5, (0, 0), D))).tolist() == [[0.0] * 3] * 2, "nor is a batch of no length"

    def test_the_order_of_frames_is_of_no_consequence(self, name: Pooling) -> None:
        module = pooling(name)
        (clip,) = ragged(6, (5,), D)
        torch.testing.assert_close(module(*pad([clip])), module(*pad([clip[::-1].copy()])))

    def test_twice_the_same_is_the_same(self, name: Pooling) -> None:
        x, mask = pad(ragged(7, LENGTHS, D))
        assert torch.equal(pooling(name)(x, mask), pooling(name)(x, mask))
        assert not torch.equal(pooling(name)(x, mask), pooling(name, seed=1)(x, mask))

    def test_one_frame_of_one_clip_can_be_learned_from(self, name: Pooling) -> None:
        """No batch statistics can be had of it: the running ones stand in and stay."""
        module = pooling(name, training=True)
        before = [norm.running_var.clone() for norm in norms_of(module)]
        pooled = module(*pad(ragged(8, (1,), D)))
        torch.testing.assert_close(pooled, module.eval()(*pad(ragged(8, (1,), D))))
        pooled.sum().backward()
        assert module.reduce.linear.weight.grad.abs().sum() > 0
        for norm, was in zip(norms_of(module), before, strict=True):
            assert torch.equal(norm.running_var, was)

    def test_frames_of_other_dimensions_are_refused(self, name: Pooling) -> None:
        with pytest.raises((ValueError, RuntimeError)):
            pooling(name)(torch.zeros(2, 3, D + 1), torch.ones(2, 3, dtype=torch.bool))
        with pytest.raises(ValueError, match="mask must be"):
            pooling(name)(torch.zeros(2, 3, D), torch.ones(2, 4, dtype=torch.bool))


def test_mean_and_max_are_of_the_frames_that_count() -> None:
    clips = ragged(9, LENGTHS, D)
    mean, largest = MeanPooling()(*pad(clips)).numpy(), MaxPooling()(*pad(clips)).numpy()
    for number, clip in enumerate(clips):
        for j in range(D):
            column = [float(frame[j]) for frame in clip]
            assert mean[number, j] == pytest.approx(sum(column) / len(column) if column else 0.0)
            assert largest[number, j] == (max(column) if column else 0.0)


def test_attention_weighs_frames_by_their_scores() -> None:
    module = modules(lambda: AttentionPooling(D, d_hidden=3))
    clips = ragged(10, LENGTHS, D)
    state = numbers(module)
    got = module(*pad(clips, extra=1)).detach().numpy()
    for number, clip in enumerate(clips):
        if len(clip) == 0:
            assert (got[number] == 0).all()
            continue
        hidden = [np.tanh(state["hidden.weight"] @ frame + state["hidden.bias"]) for frame in clip]
        weights = softmax(np.array([float(state["score.weight"][0] @ one) for one in hidden]))
        want = sum(w * frame for w, frame in zip(weights, clip, strict=True))
        np.testing.assert_allclose(got[number], want, rtol=1e-9)
