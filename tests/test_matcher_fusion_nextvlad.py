"""NeXtVLAD and NetVLAD against their formulas, written out in loops over single clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import Array, modules, normalized_by_sums, numbers, pad, ragged, reduced_by_sums, sigmoid, softmax

from matcher.fusion.netvlad import NetVLAD
from matcher.fusion.nextvlad import NeXtVLAD


def unit(row: Array) -> Array:
    length = math.sqrt(sum(float(v) ** 2 for v in row))
    return row / max(length, 1e-12)


def nextvlad_by_loops(
    clips: list[Array], state: dict[str, Array], *, d_out: int, n_clusters: int, n_groups: int, training: bool
) -> Array:
    """The paper's equations for each clip alone; batch statistics are over the frames of all clips."""
    expanded = [[state["expand.weight"] @ frame + state["expand.bias"] for frame in clip] for clip in clips]
    every = [frame for clip in expanded for frame in clip]
    logits = np.array([state["assign.weight"] @ frame for frame in every])
    if every:
        logits = normalized_by_sums(logits, state, "assign_norm", training=training)
    centres = state["centres"]
    d_group = centres.shape[1]
    pooled: list[Array | None] = []
    number = 0
    for clip in expanded:
        v = np.zeros((n_clusters, d_group))
        for frame in clip:
            for g in range(n_groups):
                attention = sigmoid(float(state["attend.weight"][g] @ frame + state["attend.bias"][g]))
                assignment = softmax(logits[number, g * n_clusters : (g + 1) * n_clusters])
                x = frame[g * d_group : (g + 1) * d_group]
                for k in range(n_clusters):
                    for j in range(d_group):
                        v[k, j] += attention * assignment[k] * (x[j] - centres[k, j])
            number += 1
        pooled.append(np.concatenate([unit(row) for row in v]) if clip else None)
    return reduced_by_sums(pooled, state, d_out, training=training)


def netvlad_by_loops(
    clips: list[Array], state: dict[str, Array], *, d_out: int, n_clusters: int, training: bool
) -> Array:
    pooled: list[Array | None] = []
    for clip in clips:
        v = np.zeros_like(state["centres"])
        for x in clip:
            assignment = softmax(state["assign.weight"] @ x + state["assign.bias"])
            for k in range(n_clusters):
                v[k] += assignment[k] * (x - state["centres"][k])
        rows = np.concatenate([unit(row) for row in v])
        pooled.append(unit(rows) if len(clip) else None)
    return reduced_by_sums(pooled, state, d_out, training=training)


sizes = st.lists(st.integers(0, 4), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=sizes,
    groups=st.sampled_from([1, 2, 4]),
    clusters=st.integers(1, 3),
    expansion=st.sampled_from([1, 2]),
    training=st.booleans(),
)
def test_nextvlad_of_a_padded_batch_is_that_of_the_loops(
    seed: int, lengths: list[int], groups: int, clusters: int, expansion: int, training: bool
) -> None:
    """In training too, where the frames of all clips, and no padding, make the batch statistics."""
    clips = ragged(seed, tuple(lengths), 4)
    module = modules(
        lambda: NeXtVLAD(4, d_out=3, n_clusters=clusters, n_groups=groups, expansion=expansion), seed
    ).train(training)
    want = nextvlad_by_loops(
        clips, numbers(module), d_out=3, n_clusters=clusters, n_groups=groups, training=training
    )
    got = module(*pad(clips, extra=1)).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), lengths=sizes, clusters=st.integers(1, 3), training=st.booleans())
def test_netvlad_of_a_padded_batch_is_that_of_the_loops(
    seed: int, lengths: list[int], clusters: int, training: bool
) -> None:
    clips = ragged(seed, tuple(lengths), 3)
    module = modules(lambda: NetVLAD(3, d_out=2, n_clusters=clusters), seed).train(training)
    want = netvlad_by_loops(clips, numbers(module), d_out=2, n_clusters=clusters, training=training)
    got = module(*pad(clips, extra=1)).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_every_cluster_counts_the_same_however_many_frames_it_has() -> None:
    """Before the linear map each cluster's part has length 1."""
    module = modules(lambda: NeXtVLAD(4, d_out=2, n_clusters=3, n_groups=2))
    seen: list[torch.Tensor] = []
    module.reduce.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    module(*pad(ragged(0, (5, 2), 4)))
    torch.testing.assert_close(seen[0].unflatten(1, (3, 4)).norm(dim=2), torch.ones(2, 3).double())


def test_an_attention_of_zero_takes_its_group_out() -> None:
    """The group that is not attended to may change at will, and the sums do not."""
    module = modules(lambda: NeXtVLAD(4, d_out=2, n_clusters=2, n_groups=2)).eval()
    with torch.no_grad():
        module.attend.weight.zero_()
        module.attend.bias.copy_(torch.tensor([0.0, -800.0]))
        module.assign.weight[:, 4:] = 0  # nor does the assignment look at the second group's part
    x, mask = pad(ragged(2, (3, 2), 4))
    before = module(x, mask)
    with torch.no_grad():
        module.expand.weight[4:] += 1
    torch.testing.assert_close(module(x, mask), before)
    with torch.no_grad():
        module.expand.weight[:4] += 1
    assert not torch.allclose(module(x, mask), before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"n_clusters": 2, "n_groups": 3}, "3 groups do not divide 2 x 4"),
        ({"n_clusters": 0, "n_groups": 2}, "at least 1"),
        ({"n_clusters": 2, "n_groups": 0}, "at least 1"),
        ({"n_clusters": 2, "n_groups": 1, "expansion": 0}, "at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(words: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        NeXtVLAD(4, d_out=2, **words)


def test_netvlad_without_a_cluster_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NetVLAD(4, d_out=2, n_clusters=0)
