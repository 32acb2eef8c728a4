"""The start without labels: its loss, and that it draws programs together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_clips import made_clips, new_model, split

from matcher.errors import InputError
from matcher.training.contrastive import fit_contrastive
from matcher.training.fusion_data import Labelled, Targets, split_by_program
from matcher.training.fusion_loop import fit
from matcher.training.inference import embed
from matcher.training.loop_records import LoopConfig
from matcher.training.program_loss import program_loss

CONFIG = LoopConfig(epochs=20, batch_size=30, learning_rate=0.01, patience=None)


def transcribed(
    rows: list[list[float]], clip: list[int], program: list[int], temperature: float
) -> tuple[float, int]:
    """Pair by pair."""
    total, anchors = 0.0, 0
    for i in range(len(rows)):
        logits, positives = [], []
        for j in range(len(rows)):
            if program[i] < 0 or program[j] < 0 or clip[i] == clip[j]:
                continue
            s = sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) / temperature
            logits.append(s)
            if program[i] == program[j]:
                positives.append(s)
        if positives:
            log_all = math.log(sum(math.exp(s) for s in logits))
            total -= sum(s - log_all for s in positives) / len(positives)
            anchors += 1
    return total, anchors


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.integers(1, 9), st.sampled_from([0.1, 0.5]))
def test_the_loss_is_that_of_a_literal_transcription(seed: int, n: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    rows = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True)).requires_grad_()
    clip, program = rng.integers(0, 4, n), rng.integers(-1, 3, n)
    total, count = program_loss(
        rows, torch.from_numpy(clip), torch.from_numpy(program), temperature=temperature
    )
    want, anchors = transcribed(rows.tolist(), clip.tolist(), program.tolist(), temperature)
    assert total.item() == pytest.approx(want, abs=1e-9)
    assert int(count) == anchors
    total.backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_views_of_one_clip_neither_attract_nor_repel_each_other() -> None:
    rows = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1).requires_grad_()
    clip, program = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 0, 1])
    total, _ = program_loss(rows, clip, program)
    total.backward()
    assert rows.grad is not None
    # By the product rule the gradient of row 0 would contain row 1, were the pair looked at.
    basis = torch.stack([rows[2], rows[3]]).detach()
    rest = rows.grad[0] - torch.linalg.lstsq(basis.T, rows.grad[0]).solution @ basis
    torch.testing.assert_close(rest, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    alone, count = program_loss(rows[:2], clip[:2], program[:2])
    assert (alone.item(), int(count)) == (0.0, 0)


def nearest_of_own_program(embedding: np.ndarray, program: np.ndarray) -> float:
    similarity = embedding @ embedding.T
    np.fill_diagonal(similarity, -1)
    return float((program[similarity.argmax(axis=1)] == program).mean())


def test_it_draws_clips_of_new_programs_together_and_leaves_the_heads_alone() -> None:
    source, targets = made_clips(240, 40, seed=3)
    learned, held_out = split_by_program(targets.program, share=0.3, seed=0)
    train_on, validation = Labelled(source, targets, learned), Labelled(source, targets, held_out)
    model = new_model(dropout=0.0, d_embedding=16)
    heads = {name: p.clone() for name, p in model.named_parameters() if "heads" in name}
    program = targets.program[held_out]
    before = nearest_of_own_program(embed(model, source, rows=held_out), program)
    history = fit_contrastive(model, train_on, validation, CONFIG)
    after = nearest_of_own_program(embed(model, source, rows=held_out), program)
    assert after > before + 0.1
    losses = [epoch.validation.loss for epoch in history.epochs]  # type: ignore[union-attr]
    assert min(losses) < losses[0]
    for name, p in model.named_parameters():
        assert p.requires_grad
        assert name not in heads or torch.equal(p, heads[name])
    scales = {name: one.scale.clone() for name, one in model.normalize.items()}  # type: ignore[operator, union-attr]
    fit(model, train_on, validation, replace(CONFIG, epochs=2), has_statistics=True)
    for name, scale in scales.items():
        assert torch.equal(model.normalize[name].scale, scale)  # type: ignore[arg-type, union-attr]


def test_programs_of_one_clip_each_are_nothing_to_learn_from() -> None:
    train_on, validation = split()
    lonely = Targets.of_programs(np.where(np.arange(60) < 30, np.arange(60), -1))
    with pytest.raises(InputError, match="no program has two clips"):
        fit_contrastive(new_model(), Labelled(train_on.source, lonely), None, CONFIG)
    lone, steps = replace(validation, rows=validation.positions[:1]), []
    with pytest.raises(InputError, match="no program held out has two clips"):
        fit_contrastive(new_model(), train_on, lone, CONFIG, on_step=steps.append)
    assert steps == [], "it is said before anything is learned"
    with pytest.raises(ValueError, match="dimensions"):
        fit_contrastive(new_model(d_text=5), train_on, None, CONFIG)
