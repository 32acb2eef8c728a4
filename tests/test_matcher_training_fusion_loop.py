"""The training loop: what it learns, that it goes on exactly, and when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_clips import DIMENSIONS, made_clips, new_model, probabilities_of, split

from matcher.errors import InputError, MissingDependencyError
from matcher.fusion.clip_model import ClipModel, summed_loss
from matcher.fusion.features import ClipFeatures
from matcher.training import fusion_loop
from matcher.training.contrastive import fit_contrastive
from matcher.training.fusion_data import ArraySource, Labelled, Targets
from matcher.training.fusion_loop import fit
from matcher.training.inference import answers, embed
from matcher.training.loop_engine import make_optimizer
from matcher.training.loop_records import History, LoopConfig, Step
from matcher.training.processes import choose_device
from matcher.training.program_loss import program_loss

CONFIG = LoopConfig(epochs=3, batch_size=10, learning_rate=0.01, frames_per_clip=3, checkpoint_steps=2)
Fit = Callable[..., History]


class Cut(Exception):  # noqa: N818, it is what the test does
    pass


def cut_at(step: int) -> Callable[[Step], None]:
    def on_step(done: Step) -> None:
        if done.step == step:
            raise Cut

    return on_step


def timeless(history: History) -> list[Any]:
    return [replace(epoch, seconds=0.0, clips_per_second=0.0) for epoch in history.epochs]


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("run", "program_weight"), [(fit, 0.0), (fit, 0.5), (fit_contrastive, 0.0)], ids=["fit", "both", "start"]
)
def test_a_training_cut_anywhere_goes_on_as_if_it_had_not_been(
    run: Fit, program_weight: float, tmp_path: Path
) -> None:
    """To the bit: weights, running statistics and history; also if cut twice, and wherever it is cut."""
    train_on, validation = split()
    whole = new_model()
    config = replace(CONFIG, epochs=2, patience=None, program_weight=program_weight)
    wanted = run(whole, train_on, validation, config)
    n_steps = 2 * math.ceil(len(train_on) / 10)
    for step in range(n_steps):
        path = tmp_path / f"{step}.ckpt"
        for stop in (step, step + 3) if step in (1, 4) else (step,):
            torch.manual_seed(step)  # whatever state the process is in
            with pytest.raises(Cut):
                run(new_model(), train_on, validation, config, checkpoint=path, on_step=cut_at(stop))
        went_on = new_model(seed=9)  # its own weights are of no consequence, unless nothing was saved yet
        if not path.exists():
            assert step < 2
            continue
        history = run(went_on, train_on, validation, config, checkpoint=path)
        assert_same(went_on, whole)
        assert timeless(history) == timeless(wanted)
        assert history.best_epoch == wanted.best_epoch


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    train_on, validation = split()
    model = new_model()
    wanted = fit(model, train_on, validation, CONFIG, checkpoint=tmp_path / "c")
    again = new_model(seed=4)
    steps: list[Step] = []
    history = fit(again, train_on, validation, CONFIG, checkpoint=tmp_path / "c", on_step=steps.append)
    assert history == wanted
    assert steps == []
    assert_same(again, model)


def test_the_callers_random_state_is_left_as_it_was() -> None:
    train_on, _ = split()
    model = new_model()
    torch.manual_seed(3)
    want = torch.rand(2)
    torch.manual_seed(3)
    fit(model, train_on, None, replace(CONFIG, epochs=1))
    assert torch.equal(torch.rand(2), want)


def test_it_learns_what_can_be_learned_and_keeps_the_best_epoch() -> None:
    train_on, validation = split()
    model = new_model()
    config = replace(CONFIG, epochs=12, patience=12)
    history = fit(model, train_on, validation, config)
    losses = [epoch.loss for epoch in history.epochs]
    assert losses[-1] < 0.85 * losses[0]
    judged = [epoch.validation for epoch in history.epochs]
    assert history.best.validation == min(judged, key=lambda one: one.loss)  # type: ignore[union-attr]
    best = history.best.validation
    assert best is not None
    assert best.accuracy["kind"] > 0.85
    assert best.accuracy["mood"] < 0.85, "it is noise"
    # What the model has at the end is what was judged.
    said = probabilities_of(model, validation.source, validation.positions)
    rows = validation.positions
    right = said["kind"].argmax(axis=1) == validation.targets.program[rows] % 3
    assert right.mean() == pytest.approx(best.accuracy["kind"])
    loss = 0.0
    for head in ("kind", "mood"):
        known = validation.targets.known_of(head)[rows]
        p, y = said[head][known].astype(float), validation.targets.dense(head, rows)[known]
        loss -= (y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / known.sum()
    assert loss == pytest.approx(best.loss, rel=1e-4)


def test_it_stops_when_the_validation_gets_no_better_for_as_long_as_it_has_patience() -> None:
    train_on, validation = split()
    config = replace(CONFIG, epochs=200, patience=2, learning_rate=0.05)
    history = fit(new_model(), train_on, validation, config)
    assert history.stopped_early
    assert len(history.epochs) == history.best_epoch + 3
    after = [epoch.validation.loss for epoch in history.epochs[history.best_epoch :]]  # type: ignore[union-attr]
    assert min(after) == after[0]
    by_accuracy = fit(new_model(), train_on, validation, replace(config, watch="accuracy"))
    shares = [np.mean(list(epoch.validation.accuracy.values())) for epoch in by_accuracy.epochs]  # type: ignore[union-attr]
    assert by_accuracy.best_epoch == int(np.argmax(shares))
    without = fit(new_model(), train_on, None, replace(config, epochs=4))
    assert (without.best_epoch, without.stopped_early) == (3, False)
    assert without.best.validation is None


def literal_steps(model: ClipModel, train_on: Labelled, config: LoopConfig, n: int) -> None:
    """The loop written down again, with all that draws turned off: AdamW from its paper, a step at a time."""
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in model.named_parameters()}
    order = []
    from matcher.training.block_sampler import BlockSampler

    sampler = BlockSampler(train_on.positions, batch_size=config.batch_size, seed=config.seed)
    for epoch in range(config.epochs):
        order += list(sampler.epoch(epoch))
    n_rising = round(config.warmup_share * len(order))
    for step, rows in enumerate(order[:n]):
        model.train().zero_grad()
        values, known = train_on.targets.tensors(rows)
        summed_loss(
            model(train_on.batch(rows)), values, known=known, modality_weight=config.modality_weight
        ).backward()
        if step < n_rising:
            rate = config.learning_rate * (step + 1) / n_rising
        else:
            share = (step - n_rising) / (len(order) - n_rising)
            rate = config.learning_rate * (1 + math.cos(math.pi * share)) / 2
        length = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))  # type: ignore[union-attr]
        for name, p in model.named_parameters():
            assert p.grad is not None
            g = p.grad * min(1.0, config.clip_norm / (length + 1e-6))
            first, second = moments[name]
            first.mul_(0.9).add_(0.1 * g)
            second.mul_(0.999).add_(0.001 * g * g)
            decay = 0.0 if p.ndim == 1 or "centres" in name or "tokens" in name else config.weight_decay
            with torch.no_grad():
                p.mul_(1 - rate * decay)
                p -= (
                    rate * (first / (1 - 0.9 ** (step + 1)))
                    / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
                )  # fmt: skip


def test_steps_are_those_of_a_literal_transcription() -> None:
    source, targets = made_clips(30)
    train_on = Labelled(source, targets)
    config = replace(
        CONFIG, epochs=2, frames_per_clip=None, weight_decay=0.3, warmup_share=0.4, modality_weight=0.5,
        clip_norm=3.0,
    )  # fmt: skip
    quiet = {"modality_dropout": 0.0, "dropout": 0.0}
    model, other = new_model(**quiet), new_model(**quiet)
    fusion_loop.fit_statistics(other, train_on, seed=0)
    rates: list[float] = []
    fit(model, train_on, None, config, on_step=lambda step: rates.append(step.learning_rate))
    literal_steps(other, train_on, config, 6)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name, atol=2e-5, rtol=1e-3)
    assert rates[:2] == [0.005, 0.01]
    assert len(rates) == 6


def test_what_programs_add_to_the_loss_is_weighed_and_comes_from_bundles_of_their_clips() -> None:
    source, targets = made_clips(48)
    shuffled = np.random.default_rng(0).permutation(48)
    config = replace(CONFIG, program_weight=0.7, batch_size=16, epochs=1, frames_per_clip=None)
    seen: list[torch.Tensor] = []
    losses: list[float] = []

    class Watched(ArraySource):
        def batch(self, rows: Any) -> Any:
            seen.append(torch.from_numpy(rows))
            return super().batch(rows)

    quiet = new_model(modality_dropout=0.0, dropout=0.0)
    watched = Watched.packed(source._clips)
    fit(quiet, Labelled(watched, targets, shuffled), None, config, on_step=lambda s: losses.append(s.loss),
        has_statistics=True)  # fmt: skip
    for rows in seen:
        program = targets.program[rows]
        assert all((program == one).sum() >= 2 for one in program), "no clip without company"
    values, known = targets.tensors(seen[0].numpy())
    said = new_model(modality_dropout=0.0, dropout=0.0).train()(source.batch(seen[0].numpy()))
    total, count = program_loss(said.embedding, seen[0], torch.from_numpy(targets.program[seen[0]]))
    want = summed_loss(said, values, known=known) + 0.7 * total / count
    assert losses[0] == pytest.approx(want.item(), rel=1e-5)


def test_each_modality_is_scaled_by_the_clips_that_are_learned_from() -> None:
    train_on, _ = split()
    model = new_model()
    fusion_loop.fit_statistics(model, train_on, seed=0)
    source, _ = made_clips()
    clips = source._clips.read(train_on.positions)
    for name, rows in (
        ("picture", np.concatenate([clip.picture for clip in clips if clip.picture is not None])),
        ("sound", np.concatenate([clip.sound for clip in clips if clip.sound is not None])),
        ("text", np.stack([clip.text for clip in clips if clip.text is not None])),
    ):
        np.testing.assert_allclose(model.normalize[name].mean, rows.mean(axis=0), atol=1e-5)  # type: ignore[arg-type]
        np.testing.assert_allclose(model.normalize[name].scale, rows.std(axis=0), rtol=1e-4)  # type: ignore[arg-type]


def test_a_modality_that_no_clip_has_keeps_its_scale_and_trains_on() -> None:
    source = ArraySource([ClipFeatures(text=np.full(4, i, np.float32)) for i in range(8)], DIMENSIONS)
    program = np.arange(8)
    targets = Targets.of_classes(
        {"kind": [[i % 3] for i in range(8)], "mood": [None] * 8}, {"kind": 3, "mood": 2}, program
    )
    model = new_model()
    history = fit(model, Labelled(source, targets), Labelled(source, targets), replace(CONFIG, epochs=1))
    assert model.normalize["sound"].scale.tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert set(history.best.validation.accuracy) == {"kind"}  # type: ignore[union-attr]


def test_a_loss_that_is_no_number_stops_with_a_line_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    train_on, validation = split()
    path = tmp_path / "c"
    model = new_model()

    def spoil(step: Step) -> None:
        if step.step == 5:
            with torch.no_grad():
                model.fuse.linear.weight[0, 0] = math.nan

    with pytest.raises(InputError, match=r"not finite at step 6 .*below 0\.01; the last good .*kept in"):
        fit(model, train_on, validation, CONFIG, checkpoint=path, on_step=spoil)
    kept = torch.load(path, weights_only=True)["parts"]["model"]
    assert all(tensor.isfinite().all() for tensor in kept.values())
    with pytest.raises(InputError, match=r"not finite at step \d+ \(epoch \d+\): [^;]*$"):
        fit(new_model(), train_on, None, replace(CONFIG, learning_rate=1e30))


def test_a_checkpoint_is_of_one_training_and_of_nothing_else(tmp_path: Path) -> None:
    train_on, validation = split()
    path = tmp_path / "c"
    fit(new_model(), train_on, validation, CONFIG, checkpoint=path)
    faster = replace(CONFIG, learning_rate=0.1)
    for words, run, model, held_out, config in (
        ("config.learning_rate", fit, new_model(), validation, faster),
        ("data", fit, new_model(), None, CONFIG),
        ("model", fit, new_model(gating="none"), validation, CONFIG),
        ("data, objective", fit_contrastive, new_model(), validation, CONFIG),
    ):
        with pytest.raises(InputError, match=f"of another training: {words} differ"):
            run(model, train_on, held_out, config, checkpoint=path)
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        fit(new_model(), train_on, validation, CONFIG, checkpoint=path)


def test_half_precision_learns_the_same_in_the_main() -> None:
    train_on, validation = split()
    losses = [
        fit(new_model(), train_on, validation, replace(CONFIG, precision=precision)).best.loss
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_curves_are_written_if_wanted_and_name_the_extra_if_they_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on, validation = split()
    pytest.importorskip("tensorboard")
    fit(new_model(), train_on, validation, CONFIG, tensorboard=tmp_path / "curves")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "curves"))
    events.Reload()
    assert len(events.Scalars("loss/validation")) == 3
    assert {"loss/training", "learning_rate", "accuracy/kind"} <= set(events.Tags()["scalars"])
    import builtins

    real = builtins.__import__

    def without(name: str, *args: Any, **words: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    fit(new_model(), train_on, validation, replace(CONFIG, epochs=1))
    with pytest.raises(MissingDependencyError, match=r"program-matcher\[train\]"):
        fit(new_model(), train_on, validation, CONFIG, tensorboard=tmp_path / "curves")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"warmup_share": 1.0}, "warmup_share"),
        ({"frames_per_clip": 0}, "frames_per_clip must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"precision": "fp8"}, "precision must be one of auto"),
        ({"watch": "luck"}, "watch must be one of loss"),
    ],
)
def test_a_configuration_out_of_range_is_refused(words: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        LoopConfig(**words)


def test_what_does_not_fit_is_refused() -> None:
    train_on, validation = split()
    with pytest.raises(ValueError, match="targets are"):
        fit(new_model(), Labelled(train_on.source, Targets.of_programs(np.arange(60))), None, CONFIG)
    with pytest.raises(ValueError, match="dimensions"):
        fit(new_model(d_text=5), train_on, validation, CONFIG)
    with pytest.raises(InputError, match="too few clips to train on: 1 clips"):
        fit(new_model(), replace(train_on, rows=np.array([0])), None, CONFIG)
    nobody, known = np.flatnonzero(np.arange(60) % 4 == 0), np.arange(60) % 4 != 0
    targets = Targets(train_on.targets.values, {"kind": known, "mood": known}, train_on.targets.program)
    with pytest.raises(InputError, match="none of the clips held out has a known answer"):
        fit(
            new_model(),
            Labelled(train_on.source, targets),
            Labelled(train_on.source, targets, nobody),
            CONFIG,
        )


def test_places_do_not_decay_and_maps_do() -> None:
    model = new_model()
    groups = make_optimizer(model, CONFIG).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    stays = {names[id(p)] for p in groups[1]["params"]}
    assert groups[1]["weight_decay"] == 0
    assert {"fill.text.tokens", "pool_picture.centres", "fuse.norm.weight", "gate.gate.bias"} <= stays
    decays = {names[id(p)] for p in groups[0]["params"]}
    assert {"fuse.linear.weight", "pool_picture.expand.weight", "heads.heads.0.gates.weight"} <= decays
    assert stays | decays == set(names.values())


def test_embeddings_and_answers_are_the_models_own_batch_by_batch() -> None:
    source, _ = made_clips()
    model = new_model().eval()
    with torch.no_grad():
        want = model(source.batch(np.arange(60)))
    model.train()
    rows = np.array([5, 3, 59])
    got = embed(model, source, batch_size=7)
    np.testing.assert_allclose(got, want.embedding, atol=1e-6)
    np.testing.assert_allclose(embed(model, source, rows=rows), want.embedding[rows], atol=1e-6)
    said = list(answers(model, source, rows=rows, batch_size=2))
    kind = np.concatenate([part.log_odds["kind"] for part in said])
    np.testing.assert_allclose(kind, want.log_odds["kind"][rows], atol=1e-5)
    assert [part.rows.tolist() for part in said] == [[5, 3], [59]]
    assert model.training, "it is left as it was"
    assert embed(model, source, rows=rows[:0]).shape == (0, 8)
    assert list(answers(model, source, rows=rows[:0])) == []
    parts = list(answers(model, source, batch_size=25))
    assert [len(part.rows) for part in parts] == [25, 25, 10]


def test_an_error_of_the_source_is_raised_where_it_is_waited_for() -> None:
    class Broken(ArraySource):
        def batch(self, rows: Any) -> Any:
            if 40 in rows:
                raise InputError("clip 40 is broken")
            return super().batch(rows)

    source = Broken([ClipFeatures()] * 60, DIMENSIONS)
    with pytest.raises(InputError, match="clip 40 is broken"):
        embed(new_model(), source, batch_size=10)


def test_a_device_that_is_not_there_is_said() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="sees no CUDA"):
            choose_device("cuda")
        assert choose_device("auto").type == "cpu"


@pytest.mark.gpu
def test_cuda_learns_what_the_cpu_learns_and_goes_on_from_a_checkpoint(cuda: str, tmp_path: Path) -> None:
    """By half precision, as is usual there; the weights end where the training ran."""
    train_on, validation = split()
    here = fit(new_model(), train_on, validation, CONFIG)
    model = new_model()
    there = fit(model, train_on, validation, CONFIG, device=cuda)
    assert next(model.parameters()).is_cuda
    assert there.epochs[-1].loss == pytest.approx(here.epochs[-1].loss, rel=0.1)
    with pytest.raises(Cut):
        fit(
            new_model(), train_on, validation, CONFIG, device=cuda, checkpoint=tmp_path / "c",
            on_step=cut_at(6),
        )  # fmt: skip
    again = fit(new_model(seed=9), train_on, validation, CONFIG, device=cuda, checkpoint=tmp_path / "c")
    assert again.epochs[-1].loss == pytest.approx(there.epochs[-1].loss, rel=0.1)
    source = validation.source
    np.testing.assert_allclose(
        embed(model, source, device=cuda), embed(model, source, device="cpu"), atol=1e-3
    )
