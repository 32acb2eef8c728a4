"""The whole model: what it fuses, what it does not feel, what it learns, and its file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from padded import modules, norms_of
from safetensors import safe_open
from safetensors.torch import save_file

from matcher.errors import InputError
from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel, ClipOutput, make_clip_model, summed_loss
from matcher.fusion.config import ClipModelConfig, FramesConfig, Gating, HeadConfig, HeadKind, Pooling
from matcher.fusion.experts import binary_loss
from matcher.fusion.features import ClipFeatures, ModalityState
from matcher.fusion.model_file import REVISION, load_clip_model, save_clip_model

MODALITIES = ("picture", "sound", "text")
CONFIG = ClipModelConfig(
    heads=(HeadConfig("type", 3), HeadConfig("tier.2", 2)),
    picture=FramesConfig(d=4, d_out=3, n_clusters=2, n_groups=2),
    sound=FramesConfig(d=2, d_out=2, n_clusters=2, n_groups=1),
    d_text=2, d_embedding=5, modality_dropout=0.0,
)  # fmt: skip


def some(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def clips() -> list[ClipFeatures]:
    """Full, without sound, silent, text alone, nothing, full again, and under another's sound."""
    return [
        ClipFeatures(some(0, 5, 4), some(1, 3, 2), some(2, 2)),
        ClipFeatures(some(3, 1, 4), None, some(4, 2)),
        ClipFeatures(some(5, 2, 4), np.zeros((0, 2), np.float32), np.zeros(2, np.float32)),
        ClipFeatures(text=some(6, 2)),
        ClipFeatures(),
        ClipFeatures(some(7, 3, 4), some(8, 1, 2), some(9, 2)),
        ClipFeatures(some(10, 2, 4), some(11, 3, 2), some(12, 2), is_sound_replaced=True),
    ]


def batch_of(features: list[ClipFeatures]) -> ClipBatch:
    return ClipBatch.of(features, dimensions=CONFIG.dimensions).to("cpu", torch.float64)


def model_of(config: ClipModelConfig = CONFIG, *, training: bool = False, seed: int = 0) -> ClipModel:
    model = modules(lambda: ClipModel(config), seed)
    assert isinstance(model, ClipModel)
    for normalize in model.normalize.values():
        normalize.scale.abs_().add_(0.5)  # type: ignore[operator, union-attr]
    return model.train(training)


def flat(output: ClipOutput) -> torch.Tensor:
    """Everything that the model says, side by side: (B, ...); what says nothing as zeros."""
    parts = [output.embedding, *output.log_odds.values()]
    for number, name in enumerate(MODALITIES):
        absent = ~output.is_present[:, number, None]
        parts += [x.masked_fill(absent, 0.0) for x in output.modality_log_odds[name].values()]
    return torch.cat(parts, dim=1)


def targets(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {head.name: torch.from_numpy(rng.random((n, head.n_classes))) for head in CONFIG.heads}


def garbled(batch: ClipBatch, *, extra: int = 2) -> ClipBatch:
    """The same clips with more padding, and NaN wherever there is nothing."""

    def longer(x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        more = torch.nn.functional.pad(mask, (0, extra))
        x = torch.nn.functional.pad(x, (0, 0, 0, extra))
        return x.masked_fill(~more[..., None], math.nan), more

    picture, picture_mask = longer(batch.picture, batch.picture_mask)
    sound, sound_mask = longer(batch.sound, batch.sound_mask)
    text = batch.text.masked_fill((batch.states[:, 2] != ModalityState.PRESENT)[:, None], math.nan)
    return ClipBatch(picture, picture_mask, sound, sound_mask, text, batch.states)


def test_a_batch_is_its_clips_one_by_one() -> None:
    model = model_of()
    got = flat(model(batch_of(clips())))
    for number, clip in enumerate(clips()):
        torch.testing.assert_close(flat(model(batch_of([clip])))[0], got[number])


@pytest.mark.parametrize("training", [True, False])
def test_padding_and_what_stands_for_nothing_are_not_felt(training: bool) -> None:
    """Nor by the gradients and the running statistics."""
    batch = batch_of(clips())
    plain, other = model_of(training=training), model_of(training=training)
    a, b = plain(batch), other(garbled(batch))
    torch.testing.assert_close(flat(a), flat(b))
    summed_loss(a, targets(7)).backward()
    summed_loss(b, targets(7)).backward()
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    for m, n in zip(norms_of(plain), norms_of(other), strict=True):
        torch.testing.assert_close(m.running_mean, n.running_mean)
        torch.testing.assert_close(m.running_var, n.running_var)


def test_parts_are_joined_in_order_and_gated_and_scaled() -> None:
    """The way through the model, step by step by its own parts."""
    model, batch = model_of(), batch_of(clips())
    picture = model.pool_picture(model.normalize["picture"](batch.picture), batch.picture_mask)
    sound = model.pool_sound(model.normalize["sound"](batch.sound), batch.sound_mask)
    text = model.normalize["text"](batch.text)
    rows = []
    for i, state in enumerate(batch.states.tolist()):
        parts = [
            x[i] if one == ModalityState.PRESENT else model.fill[name].tokens[one - 1]  # type: ignore[index, union-attr]
            for x, name, one in zip((picture, sound, text), MODALITIES, state, strict=True)
        ]
        rows.append(torch.cat(parts))
    joined = torch.stack(rows)
    norm = model.fuse.norm
    mapped = joined @ model.fuse.linear.weight.T
    fused = (mapped - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    gated = torch.sigmoid(fused @ model.gate.gate.weight.T + model.gate.gate.bias) * fused  # type: ignore[union-attr, operator]
    got = model(batch)
    torch.testing.assert_close(got.embedding, gated / gated.norm(dim=1, keepdim=True))
    for number, head in enumerate(CONFIG.heads):
        torch.testing.assert_close(got.log_odds[head.name], model.heads.heads[number](gated))
        for name, x in zip(MODALITIES, (picture, sound, text), strict=True):
            own = model.modality_heads[name].heads[number](x)  # type: ignore[index, union-attr]
            here = got.is_present[:, MODALITIES.index(name)]
            torch.testing.assert_close(got.modality_log_odds[name][head.name][here], own[here])
    assert got.is_present.tolist() == (batch.states == ModalityState.PRESENT).tolist()


def test_every_state_of_a_modality_is_told_apart() -> None:
    model = model_of()
    silent = ClipFeatures(some(0, 2, 4), np.zeros((0, 2), np.float32), some(1, 2))
    missing, heard = replace(silent, sound=None), replace(silent, sound=some(2, 1, 2))
    rows = model(batch_of([silent, missing, heard])).embedding.detach()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert float(rows[i] @ rows[j]) < 0.999


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_of_nothing_is_defined(training: bool) -> None:
    model = model_of(training=training)
    output = model(garbled(batch_of([ClipFeatures(), ClipFeatures()])))
    loss = summed_loss(output, targets(2))
    loss.backward()
    assert flat(output).isfinite().all()
    torch.testing.assert_close(output.embedding[0], output.embedding[1])
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    # In training both rows are the batch's mean, which batch normalization takes away.
    assert training or model.fill["text"].tokens.grad[0].any()  # type: ignore[union-attr, index]


def test_a_dropped_modality_is_one_that_was_never_there() -> None:
    """In the embedding, the losses and the batch statistics of its pooling."""
    torch.manual_seed(5)
    model = model_of(replace(CONFIG, modality_dropout=0.6), training=True)
    batch = batch_of([clips()[0], clips()[5]] * 4)
    torch.manual_seed(1)
    output = model(batch)
    assert 0 < int(output.is_present.sum()) < 24
    here = output.is_present
    never_there = ClipBatch(
        batch.picture, batch.picture_mask & here[:, :1], batch.sound, batch.sound_mask & here[:, 1:2],
        batch.text * here[:, 2:], torch.where(here, ModalityState.PRESENT, ModalityState.MISSING),
    )  # fmt: skip
    reference = model_of(training=True)
    want = reference(never_there)
    torch.testing.assert_close(flat(output), flat(want))
    torch.testing.assert_close(summed_loss(output, targets(8)), summed_loss(want, targets(8)))
    for m, n in zip(norms_of(model), norms_of(reference), strict=True):
        torch.testing.assert_close(m.running_mean, n.running_mean)


def test_the_loss_sums_the_fused_and_each_modality_that_is_there() -> None:
    output, wanted = model_of()(batch_of(clips())), targets(7)
    total = 0.0
    for head in CONFIG.heads:
        rows = [(output.log_odds[head.name], [True] * 7, 1.0)]
        for number, name in enumerate(MODALITIES):
            rows.append(
                (output.modality_log_odds[name][head.name], output.is_present[:, number].tolist(), 0.5)
            )
        for log_odds, counts, weight in rows:
            each = []
            for i in range(7):
                p = log_odds[i].sigmoid().tolist()
                y = wanted[head.name][i].tolist()
                if counts[i]:
                    each.append(
                        -sum(b * math.log(a) + (1 - b) * math.log(1 - a) for a, b in zip(p, y, strict=True))
                    )
            total += weight * sum(each) / len(each)
    assert summed_loss(output, wanted, modality_weight=0.5).item() == pytest.approx(total)
    fused_alone = sum(
        binary_loss(output.log_odds[name], y, torch.ones(7, dtype=torch.bool)).item()
        for name, y in wanted.items()
    )
    assert summed_loss(output, wanted, modality_weight=0.0).item() == pytest.approx(fused_alone)
    with pytest.raises(ValueError, match="targets are of"):
        summed_loss(output, {"type": wanted["type"]})


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_the_loss_are_those_of_differences(training: bool) -> None:
    model, batch, wanted = model_of(training=training), batch_of(clips()), targets(7)
    # In one random direction each: entry by entry it takes many times as long, and the parts have had that.
    assert torch.autograd.gradcheck(
        lambda *_: summed_loss(model(batch), wanted), tuple(model.parameters()), fast_mode=True
    )


@pytest.mark.parametrize(
    ("pooling", "gating", "head"),
    [
        ("nextvlad", "context", "experts"),
        ("netvlad", "excitation", "logistic"),
        ("mean", "none", "experts"),
        ("max", "context", "logistic"),
        ("attention", "excitation", "experts"),
    ],
)
def test_every_configuration_learns(pooling: Pooling, gating: Gating, head: HeadKind) -> None:
    """A few steps on a handful of clips lower the loss; the embedding keeps its length."""
    config = replace(CONFIG, picture=replace(CONFIG.picture, pooling=pooling), gating=gating, head=head)
    torch.manual_seed(0)
    model = ClipModel(replace(config, dropout=0.1)).double()
    batch, wanted = batch_of(clips()), {name: target.round() for name, target in targets(7).items()}
    losses = []
    for _ in range(20):
        model.zero_grad()
        output = model(batch)
        loss = summed_loss(output, wanted)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * p.grad
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(7).double())


def test_the_same_seed_is_the_same_model_and_training() -> None:
    def trained() -> torch.Tensor:
        torch.manual_seed(7)
        model = ClipModel(replace(CONFIG, modality_dropout=0.5, dropout=0.5)).double().train()
        summed_loss(model(batch_of(clips())), targets(7)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    assert torch.equal(trained(), trained())


def test_other_dimensions_are_refused() -> None:
    batch = ClipBatch.of([ClipFeatures()], dimensions=(4, 2, 3)).to("cpu", torch.float64)
    with pytest.raises(ValueError, match=r"\(4, 2, 3\) dimensions; wanted \(4, 2, 2\)"):
        model_of()(batch)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(CONFIG, gating="gate"), "gating must be one of context"),
        (lambda: replace(CONFIG, head="softmax"), "head must be one of experts"),
        (lambda: replace(CONFIG, d_embedding=0), "d_embedding must be at least 1"),
        (lambda: replace(CONFIG, modality_dropout=1.5), "modality_dropout must be"),
        (lambda: replace(CONFIG, dropout=1.0), "dropout must be from 0 to below 1"),
        (lambda: replace(CONFIG, heads=CONFIG.heads * 2), "two heads share a name"),
        (lambda: replace(CONFIG.picture, pooling="sum"), "pooling must be one of nextvlad"),
        (lambda: replace(CONFIG.picture, n_groups=3), "3 groups do not divide 2 x 4"),
        (lambda: replace(CONFIG.picture, n_clusters=0), "n_clusters must be at least 1"),
        (lambda: HeadConfig("", 2), "needs a name"),
        (lambda: HeadConfig("a", 0), "n_classes must be at least 1"),
    ],
)
def test_a_configuration_out_of_range_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_configuration_survives_json_and_refuses_unknown_words() -> None:
    words = json.loads(json.dumps(CONFIG.to_words()))
    assert ClipModelConfig.of_words(words) == CONFIG
    with pytest.raises(TypeError, match="unknown"):
        ClipModelConfig.of_words({**words, "unknown": 1})


def test_what_is_saved_loads_as_the_same_model(tmp_path: Path) -> None:
    model = model_of().float()
    path = tmp_path / "clip.safetensors"
    save_clip_model(model, path, notes={"made_by": "a test"})
    loaded = load_clip_model(path)
    assert loaded.config == CONFIG
    assert not loaded.training
    assert list(loaded.state_dict()) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    batch = batch_of(clips()).to("cpu", torch.float32)
    assert torch.equal(flat(loaded(batch)), flat(model(batch)))
    with safe_open(str(path), "pt") as file:
        assert file.metadata()["made_by"] == "a test"
    with pytest.raises(ValueError, match="cannot be called 'clip_model'"):
        save_clip_model(model, path, notes={"clip_model": "x"})
    assert [one.name for one in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


def rewritten(path: Path, *, words: dict[str, Any] | None = None, drop: str = "", nan: str = "") -> None:
    """Write the file again with a part of it changed."""
    model = model_of().float()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if name != drop}
    if nan:
        tensors[nan].view(-1)[0] = math.nan
    words = {"revision": REVISION, "config": CONFIG.to_words()} if words is None else words
    save_file(tensors, str(path), metadata={"clip_model": json.dumps(words)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"words": {"revision": "0"}}, "another version"),
        ({"words": {}}, "no clip model that can be read"),
        ({"words": {"revision": REVISION, "config": {"heads": []}}}, "no clip model that can be read"),
        (
            {"words": {"revision": REVISION, "config": replace(CONFIG, d_embedding=6).to_words()}},
            "size mismatch",
        ),
        ({"drop": "gate.gate.bias"}, "gate.gate.bias"),
        ({"nan": "gate.gate.bias"}, "not finite"),
    ],
)
def test_a_file_that_is_no_model_is_an_input_error(tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "clip.safetensors"
    rewritten(path)
    load_clip_model(path)
    rewritten(path, **change)
    with pytest.raises(InputError, match=said):
        load_clip_model(path)


def test_a_file_that_is_none_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip model"):
        load_clip_model(tmp_path / "not-there.safetensors")
    path = tmp_path / "words.safetensors"
    path.write_text("not a model")
    with pytest.raises(InputError, match="no clip model that can be read"):
        load_clip_model(path)
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(InputError, match="no clip model that can be read"):
        load_clip_model(path)


def test_a_new_models_weights_follow_from_its_seed_and_leave_the_process_its_luck() -> None:
    config = ClipModelConfig(heads=(HeadConfig("tier1", 3),), absence="zeros")
    torch.manual_seed(7)
    wanted = torch.rand(4)
    torch.manual_seed(7)
    one, again, other = (make_clip_model(config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(4), wanted)
    weights = [model.fuse.linear.weight for model in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not any(name.startswith("fill.") for name, _ in one.named_parameters())
