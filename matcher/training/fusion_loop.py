"""Train the clip model on clips whose answers are known.

Shape letters: ``N`` clips, ``B`` of them in a step, ``C`` classes of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.errors import InputError
from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel, summed_loss
from matcher.fusion.experts import binary_loss
from matcher.fusion.features import MODALITIES, ModalityState
from matcher.training.block_sampler import BLOCK
from matcher.training.clip_views import fewer_rows
from matcher.training.fusion_data import Labelled
from matcher.training.loop_engine import Files, digest_of, train
from matcher.training.loop_records import History, Judgement, LoopConfig, OnStep
from matcher.training.prefetch import prefetched
from matcher.training.processes import Processes
from matcher.training.program_loss import TOGETHER, program_loss

#: Clips whose features give each modality its scale.
STATISTICS_CLIPS = 4096
#: Consecutive ones that are drawn together, so that a source on disk reads in pieces.
_STATISTICS_BLOCK = BLOCK


@dataclass(frozen=True)
class LabelledBatch:
    """What a step learns from.

    Attributes:
        clips: Features of B clips.
        targets: By head (B, C).
        known: By head (B,) bool.
        clip: (B,) which clip each is: one may be shown twice.
        program: (B,) of each.
    """

    clips: ClipBatch
    targets: dict[str, torch.Tensor]
    known: dict[str, torch.Tensor]
    clip: torch.Tensor
    program: torch.Tensor

    @classmethod
    def of(cls, labelled: Labelled, rows: NDArray[np.int64]) -> Self:
        """The clips at ``rows`` (B,) of the source."""
        program = torch.from_numpy(labelled.targets.program[rows])
        clips, clip = labelled.batch(rows), torch.from_numpy(rows)
        return cls(clips, *labelled.targets.tensors(rows), clip, program)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(
            self.clips.to(device),
            {name: one.to(device) for name, one in self.targets.items()},
            {name: one.to(device) for name, one in self.known.items()},
            self.clip.to(device),
            self.program.to(device),
        )


def fit(
    model: ClipModel,
    train_on: Labelled,
    validation: Labelled | None,
    config: LoopConfig,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    tensorboard: Path | None = None,
    has_statistics: bool = False,
) -> History:
    """Train ``model`` in place: every head, of the fused vector and of each modality.

    Args:
        model: Its weights are the start; it ends on the device, out of training, with the weights of the
            epoch that was best on ``validation``, or else of the last one.
        train_on: What it learns from.
        validation: What it is judged by, of other programs; then it can stop early.
        config: How.
        device: auto, cpu, cuda or cuda:N.
        checkpoint: File from which the training goes on where it is there, exactly as if it had not been cut
            off. It is left there at the end.
        on_step: Called after every step.
        tensorboard: Folder of curves.
        has_statistics: The model has the scales of its modalities already, as after
            :func:`~matcher.training.contrastive.fit_contrastive`; else they are taken from ``train_on``.

    Raises:
        InputError: There are too few clips, the checkpoint is of another training, the loss is no longer a
            number, or there is no such device.
        MissingDependencyError: Curves are wanted, and TensorBoard is not installed.
        ValueError: Features or targets do not fit the model.
    """
    _check(model, train_on)
    if validation is not None:
        _check(model, validation)
    if not has_statistics and not (checkpoint is not None and checkpoint.is_file()):
        fit_statistics(model, train_on, seed=config.seed)
    rows, weights, groups = train_on.positions, train_on.weights, None
    if config.program_weight:
        # Clips of a program next to each other, so that some of them can be shown together.
        order = np.argsort(train_on.targets.program[rows], kind="stable")
        rows, weights = rows[order], None if weights is None else weights[order]
        groups = train_on.targets.program[rows]
    return train(
        model, _Supervised(train_on, validation, config), rows, config, weights=weights, groups=groups,
        together=TOGETHER, device=device, files=Files(checkpoint, tensorboard),
        data_digest=digest_of(*_parts(train_on), *([] if validation is None else _parts(validation))),
        on_step=on_step,
    )  # fmt: skip


def _check(model: ClipModel, labelled: Labelled) -> None:
    wanted = {head.name: head.n_classes for head in model.config.heads}
    if labelled.targets.n_classes != wanted or not wanted:
        raise ValueError(f"targets are {labelled.targets.n_classes}, the heads {wanted}")
    if labelled.source.dimensions != model.config.dimensions:
        raise ValueError(
            f"features are of {labelled.source.dimensions} dimensions, the model of {model.config.dimensions}"
        )


def _parts(labelled: Labelled) -> list[NDArray[np.int64] | NDArray[np.float64] | str]:
    """What tells one set of clips from another, short of reading their features."""
    counts = [
        labelled.targets.class_counts(name, labelled.positions) for name in sorted(labelled.targets.values)
    ]
    weights = [] if labelled.weights is None else [labelled.weights]
    return [labelled.positions, labelled.targets.program, *counts, *weights]


def fit_statistics(model: ClipModel, train_on: Labelled, *, seed: int) -> None:
    """Take each modality's mean and scale from a sample of the clips that are learned from.

    A modality that no clip of the sample has keeps the scale it has.
    """
    rows = np.sort(train_on.positions)
    if len(rows) > STATISTICS_CLIPS:
        n_blocks = -(-len(rows) // _STATISTICS_BLOCK)
        drawn = np.random.default_rng(seed).permutation(n_blocks)[: STATISTICS_CLIPS // _STATISTICS_BLOCK]
        rows = np.concatenate(
            [rows[b * _STATISTICS_BLOCK : (b + 1) * _STATISTICS_BLOCK] for b in np.sort(drawn)]
        )
    found: dict[str, list[torch.Tensor]] = {name: [] for name in MODALITIES}
    for start in range(0, len(rows), 512):
        batch = train_on.batch(rows[start : start + 512])
        is_there = batch.states == ModalityState.PRESENT
        found["picture"].append(batch.picture[batch.picture_mask & is_there[:, 0, None]])
        found["sound"].append(batch.sound[batch.sound_mask & is_there[:, 1, None]])
        found["text"].append(batch.text[is_there[:, 2]])
    for name, parts in found.items():
        all_rows = torch.cat(parts) if parts else torch.zeros(0, 0)
        if len(all_rows):
            model.normalize[name].fit(all_rows)  # type: ignore[operator]


class _Supervised:
    """Answers of the heads against what is known."""

    name = "heads"
    untouched: tuple[str, ...] = ()

    def __init__(self, train_on: Labelled, validation: Labelled | None, config: LoopConfig) -> None:
        self.train_on, self.validation, self.config = train_on, validation, config

    def prepare(self, rows: NDArray[np.int64], rng: np.random.Generator) -> LabelledBatch:
        batch = LabelledBatch.of(self.train_on, rows)
        return replace(batch, clips=fewer_rows(batch.clips, self.config.frames_per_clip, rng))

    def loss(self, model: ClipModel, item: LabelledBatch, processes: Processes) -> torch.Tensor:
        mean_counts = None if processes.world_size == 1 else processes.mean_counts
        said = model(item.clips)
        loss = summed_loss(
            said, item.targets, known=item.known, modality_weight=self.config.modality_weight,
            mean_counts=mean_counts,
        )  # fmt: skip
        if not self.config.program_weight:
            return loss
        total, count = program_loss(said.embedding, item.clip, item.program)
        share = count.clamp(min=1) if mean_counts is None else mean_counts(count)
        return loss + self.config.program_weight * total / share

    def judge(self, model: ClipModel, processes: Processes) -> Judgement | None:
        return None if self.validation is None else judge(model, self.validation, processes)


def judge(model: ClipModel, held_out: Labelled, processes: Processes, *, batch_size: int = 512) -> Judgement:
    """The fused heads' loss and accuracy on clips held out, each process asking about its share.

    A clip counts for a head where its answer is known and it has a class; it is right where the likeliest
    class is one of its own.

    Raises:
        InputError: No clip counts for any head.
    """
    names = list(held_out.targets.values)
    mine = held_out.positions[processes.rank :: processes.world_size]
    parts = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    # Of each head: clips that are known, their loss, clips with a class, those that are right.
    sums = torch.zeros(len(names), 4, dtype=torch.float64, device=processes.device)

    def read(rows: NDArray[np.int64]) -> LabelledBatch:
        return LabelledBatch.of(held_out, rows)

    with prefetched(parts, read) as batches:
        for item in batches:
            here = item.to(processes.device)
            said = model(here.clips)
            for number, name in enumerate(names):
                sums[number] += _head_sums(said.log_odds[name], here.targets[name], here.known[name])
    total = processes.sum(sums).cpu()
    if not total[:, 0].any():
        raise InputError("none of the clips held out has a known answer; hold out others")
    known, losses, asked, right = total.unbind(dim=1)
    return Judgement(
        float((losses / known.clamp(min=1)).sum()),
        {name: float(right[i] / asked[i]) for i, name in enumerate(names) if asked[i] > 0},
    )


def _head_sums(log_odds: torch.Tensor, targets: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Clips known, sum of their losses, clips with a class, clips whose likeliest class is theirs: (4,)."""
    loss = binary_loss(log_odds.float(), targets, known, count=known.new_ones((), dtype=torch.float32))
    asked = known & (targets > 0.5).any(dim=1)
    is_right = targets.gather(1, log_odds.argmax(dim=1, keepdim=True)).squeeze(1) > 0.5
    counts = [known.sum(), loss, asked.sum(), (asked & is_right).sum()]
    return torch.stack([one.to(torch.float64) for one in counts])
