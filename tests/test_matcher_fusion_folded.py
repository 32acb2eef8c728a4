"""The folded model gives what the model gives."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import modules

from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.config import ClipModelConfig, FramesConfig, Gating, HeadConfig, HeadKind, Pooling
from matcher.fusion.features import ClipFeatures, ModalityState
from matcher.fusion.folded import LEAST_COSINE, FoldedClipModel, folded

CONFIG = ClipModelConfig(
    heads=(HeadConfig("type", 3), HeadConfig("tier.2", 2)),
    picture=FramesConfig(d=6, d_out=5, n_clusters=3, n_groups=2),
    sound=FramesConfig(d=4, d_out=3, n_clusters=2, n_groups=1),
    d_text=4, d_embedding=7,
)  # fmt: skip


def model_of(config: ClipModelConfig, seed: int = 0) -> ClipModel:
    model = modules(lambda: ClipModel(config), seed)
    assert isinstance(model, ClipModel)
    for normalize in model.normalize.values():
        normalize.scale.abs_().add_(0.5)  # type: ignore[operator, union-attr]
    return model.eval()


def clips(seed: int, n: int, *, is_whole: bool) -> ClipBatch:
    """Clips of any lengths, some of them without this or that; with NaN where nothing is looked at."""
    rng = np.random.default_rng(seed)

    def some(d: int) -> np.ndarray | None:
        length = 3 if is_whole else int(rng.integers(-1, 4))
        return None if length < 0 else rng.normal(size=(length, d)).astype(np.float32)

    features = [
        ClipFeatures(some(6), some(4), rng.normal(size=4).astype(np.float32) if is_whole or i % 3 else None)
        for i in range(n)
    ]
    batch = ClipBatch.of(features, dimensions=CONFIG.dimensions).to("cpu", torch.float64)
    text = batch.text.masked_fill((batch.states[:, 2] != ModalityState.PRESENT)[:, None], math.nan)
    picture = batch.picture.masked_fill(~batch.picture_mask[..., None], math.nan)
    return replace(batch, text=text, picture=picture)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["nextvlad", "netvlad", "mean", "max", "attention"]),
    st.sampled_from(["context", "excitation", "none"]), st.sampled_from(["experts", "logistic"]),
    st.integers(0, 99), st.booleans(),
)  # fmt: skip
def test_it_gives_what_the_model_gives(
    pooling: Pooling, gating: Gating, head: HeadKind, seed: int, is_whole: bool
) -> None:
    """To rounding, for every configuration and whatever a clip lacks."""
    config = replace(CONFIG, picture=replace(CONFIG.picture, pooling=pooling), gating=gating, head=head)
    model, batch = model_of(config, seed), clips(seed, 5, is_whole=is_whole)
    with torch.no_grad():
        want, got = model(batch), FoldedClipModel(model, torch.float64).double()(batch)
    torch.testing.assert_close(got.embedding, want.embedding)
    assert got.log_odds.keys() == want.log_odds.keys()
    for name, log_odds in want.log_odds.items():
        torch.testing.assert_close(got.log_odds[name], log_odds)
    assert torch.equal(got.is_present, want.is_present)


def test_bfloat16_keeps_the_cosine_that_is_promised() -> None:
    heads = (HeadConfig("tier1", 10), HeadConfig("tier2", 60))
    torch.manual_seed(0)
    model = ClipModel(ClipModelConfig(heads=heads))
    rng = np.random.default_rng(0)
    features = [
        ClipFeatures(
            rng.normal(size=(1 + i % 12, 512)).astype(np.float32),
            None if i % 3 else rng.normal(size=(5, 128)).astype(np.float32),
            rng.normal(size=256).astype(np.float32),
        )
        for i in range(40)
    ]
    batch = ClipBatch.of(features, dimensions=model.config.dimensions)
    for _ in range(3):  # running statistics that are some batch's
        model.train()(batch)
    with torch.no_grad():
        want = model.eval()(batch)
        exact, rough = (FoldedClipModel(model, dtype)(batch) for dtype in (torch.float32, torch.bfloat16))
    assert (exact.embedding * want.embedding).sum(dim=1).min() > 1 - 1e-5
    cosines = (rough.embedding * want.embedding).sum(dim=1)
    assert cosines.min() > LEAST_COSINE
    assert cosines.max() < 1 - 1e-7, "bfloat16 was used"
    assert rough.embedding.dtype == torch.float32
    for name, log_odds in want.log_odds.items():
        torch.testing.assert_close(rough.log_odds[name].sigmoid(), log_odds.sigmoid(), atol=0.02, rtol=0)


def test_the_model_itself_is_left_alone() -> None:
    model = model_of(CONFIG).float().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = folded(model, torch.device("cpu"), "fp32")
    assert not any(p.requires_grad for p in fast.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for tensor in fast.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_other_dimensions_are_refused() -> None:
    batch = ClipBatch.of([ClipFeatures()], dimensions=(6, 4, 3))
    with pytest.raises(ValueError, match=r"\(6, 4, 3\) dimensions; wanted \(6, 4, 4\)"):
        FoldedClipModel(model_of(CONFIG).float())(batch)
