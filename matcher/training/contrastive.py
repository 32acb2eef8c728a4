"""A start without labels: clips of one program are to lie near each other, those of different ones apart.

What a program is, is known from the links long before anybody has said what category a clip is of. Two views
of a clip (other frames, other modalities dropped) are shown; they are neither positives nor negatives of each
other, for that they are alike is no news, and so are two clips of which one's program is not known.

Shape letters: ``B`` clips, ``V = 2 B`` views of them, ``D`` dimensions of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.errors import InputError
from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel
from matcher.training.clip_views import fewer_rows
from matcher.training.fusion_data import Labelled
from matcher.training.fusion_loop import fit_statistics
from matcher.training.loop_engine import Files, digest_of, train
from matcher.training.loop_records import History, Judgement, LoopConfig, OnStep
from matcher.training.processes import Processes
from matcher.training.program_loss import (
    TEMPERATURE,
    TOGETHER,
    has_company,
    program_loss,
    rows_by_program,
)


@dataclass(frozen=True)
class Views:
    """Clips as they are shown in one step.

    Attributes:
        clips: Features of V views.
        clip: (V,) which clip each is of.
        program: (V,).
    """

    clips: ClipBatch
    clip: torch.Tensor
    program: torch.Tensor

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.clips.to(device), self.clip.to(device), self.program.to(device))


def fit_contrastive(
    model: ClipModel,
    train_on: Labelled,
    validation: Labelled | None,
    config: LoopConfig,
    *,
    temperature: float = TEMPERATURE,
    together: int = TOGETHER,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    tensorboard: Path | None = None,
) -> History:
    """Train all of ``model`` but its heads, by programs alone.

    :func:`~matcher.training.fusion_loop.fit` with ``has_statistics`` goes on with what the heads learn from.

    The same loop as there, so the same checkpoints, early stop and curves. With several processes each
    compares the clips of its own share.

    Args:
        model: As there. Its modality dropout makes views differ, so it should not be 0.
        train_on: Clips and their programs; targets and weights are not looked at.
        validation: Clips of other programs.
        config: How. ``frames_per_clip`` makes views differ, too.
        temperature: See :func:`~matcher.training.program_loss.program_loss`.
        together: Clips of a program that are shown together.
        device: As there.
        checkpoint: As there; of a file of its own.
        on_step: As there.
        tensorboard: As there.

    Raises:
        InputError: As there, or no program has two clips, or none of those held out.
        MissingDependencyError: As there.
        ValueError: Features do not fit the model.
    """
    if train_on.source.dimensions != model.config.dimensions:
        raise ValueError(
            f"features are of {train_on.source.dimensions} dimensions, the model of {model.config.dimensions}"
        )
    rows, program = rows_by_program(train_on)
    if not has_company(program):
        raise InputError("no program has two clips, so there is nothing to draw together; link more clips")
    held_out = [] if validation is None else [*rows_by_program(validation)]
    if held_out and not has_company(held_out[1]):
        raise InputError("no program held out has two clips to judge by; hold out more")
    if not (checkpoint is not None and checkpoint.is_file()):
        fit_statistics(model, train_on, seed=config.seed)
    return train(
        model, _Contrastive(train_on, validation, config, temperature), rows, config, groups=program,
        together=together, device=device, files=Files(checkpoint, tensorboard), on_step=on_step,
        data_digest=digest_of(rows, program, *held_out, f"{temperature} {together}"),
    )  # fmt: skip


class _Contrastive:
    """Clips of one program near each other, of different ones apart."""

    name = "programs"
    untouched = ("heads.", "modality_heads.")

    def __init__(
        self, train_on: Labelled, validation: Labelled | None, config: LoopConfig, temperature: float
    ) -> None:
        self.train_on, self.validation = train_on, validation
        self.config, self.temperature = config, temperature

    def prepare(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Views:
        batch, n = self.train_on.batch(rows), self.config.frames_per_clip
        views = [fewer_rows(batch, n, rng) for _ in range(2)]
        names = [field.name for field in fields(ClipBatch)]
        parts = {name: torch.cat([getattr(view, name) for view in views]) for name in names}
        return Views(
            ClipBatch(**parts),
            torch.from_numpy(rows).repeat(2),
            torch.from_numpy(self.train_on.targets.program[rows]).repeat(2),
        )

    def loss(self, model: ClipModel, item: Views, processes: Processes) -> torch.Tensor:
        total, count = program_loss(
            model(item.clips).embedding, item.clip, item.program, temperature=self.temperature
        )
        share = count.clamp(min=1) if processes.world_size == 1 else processes.mean_counts(count)
        return total / share

    def judge(self, model: ClipModel, processes: Processes) -> Judgement | None:
        """The loss on clips held out, one view each; every process does all of it."""
        if self.validation is None:
            return None
        rows, program = rows_by_program(self.validation)
        sums = torch.zeros(2, dtype=torch.float64, device=processes.device)
        # In batches as large as those that are learned from: the loss grows with the number of negatives.
        for start in range(0, len(rows), 2 * self.config.batch_size):
            part = rows[start : start + 2 * self.config.batch_size]
            of = torch.from_numpy(program[start : start + len(part)]).to(processes.device)
            said = model(self.validation.batch(part).to(processes.device))
            clip = torch.from_numpy(part).to(processes.device)
            total, count = program_loss(said.embedding, clip, of, temperature=self.temperature)
            sums += torch.stack([total.to(torch.float64), count.to(torch.float64)])
        return Judgement(float(sums[0] / sums[1].clamp(min=1)), {})
