"""The training loop itself, whatever is learned: steps, checkpoints, validation, early stop.

Everything that is drawn in a step (what is dropped, which frames are shown) follows from the seed, the
epoch, the number of the step and the process: each step is seeded anew. So a training that goes on from a
checkpoint is the same, to the bit on the CPU, as one that was never cut off, and it does not matter how far
batches were made ahead.

With several processes (``torchrun``) each takes its share of every batch and gradients are averaged by
torch's ``DistributedDataParallel``. :class:`~matcher.fusion.masking.MaskedBatchNorm` normalizes each share by
its own statistics, as torch's own batch normalization does, and the running ones are those of the first
process: with shares of some hundred clips that is no matter, with a handful it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from matcher.errors import InputError, MissingDependencyError
from matcher.fusion.clip_model import ClipModel
from matcher.training.block_sampler import BlockSampler
from matcher.training.loop_checkpoint import Progress, load_checkpoint, save_checkpoint
from matcher.training.loop_records import Epoch, History, Judgement, LoopConfig, OnStep, Step
from matcher.training.prefetch import prefetched
from matcher.training.processes import Processes, joined

#: On a GPU the loss is looked at every so many steps: to ask for it makes the CPU wait.
LOOK_EVERY = 20
#: Below this scale half precision cannot be saved by scaling further down.
LEAST_SCALE = 1e-4


class Movable(Protocol):
    """Tensors that can go to another device."""

    def to(self, device: torch.device) -> Self:
        """The same there."""
        ...


Item = TypeVar("Item", bound=Movable)


class Objective(Protocol[Item]):
    """What is learned, and how it is judged."""

    @property
    def name(self) -> str:
        """In a checkpoint, to tell trainings apart."""
        ...

    def prepare(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Item:
        """Read a batch; called in a thread of its own, so all that it draws is drawn from ``rng``."""
        ...

    def loss(self, model: ClipModel, item: Item, processes: Processes) -> torch.Tensor:
        """A scalar whose mean over the processes is to get smaller."""
        ...

    @property
    def untouched(self) -> tuple[str, ...]:
        """How the names of parameters begin that are to stay as they are."""
        ...

    def judge(self, model: ClipModel, processes: Processes) -> Judgement | None:
        """Judge the model, which is not in training, on clips held out; the same in every process."""
        ...


class _Whole(nn.Module, Generic[Item]):
    """Model and loss as one module, which is what torch averages gradients of."""

    def __init__(self, model: ClipModel, objective: Objective[Item], processes: Processes) -> None:
        super().__init__()
        self.model = model
        self._objective, self._processes = objective, processes

    def forward(self, item: Item) -> torch.Tensor:
        return self._objective.loss(self.model, item, self._processes)


@dataclass(frozen=True)
class Files:
    """Where a training leaves what.

    Attributes:
        checkpoint: The file it goes on from where it is there; nowhere where None.
        tensorboard: Folder of curves; none where None.
    """

    checkpoint: Path | None = None
    tensorboard: Path | None = None


def train(
    model: ClipModel,
    objective: Objective[Item],
    rows: NDArray[np.int64],
    config: LoopConfig,
    *,
    weights: NDArray[np.float64] | None = None,
    groups: NDArray[np.int64] | None = None,
    together: int = 1,
    device: str,
    files: Files,
    data_digest: str,
    on_step: OnStep | None = None,
) -> History:
    """Train ``model`` in place.

    Args:
        model: It ends on the device, out of training, with the weights of the best epoch.
        objective: What is learned.
        rows: Clips to learn from, as :meth:`Objective.prepare` takes them.
        config: How.
        weights: How often each is shown in an epoch.
        groups: See :class:`~matcher.training.block_sampler.BlockSampler`.
        together: Likewise.
        device: As :func:`~matcher.training.processes.choose_device` takes it.
        files: Where the checkpoint lies.
        data_digest: Of the data, so that a checkpoint of others is refused.
        on_step: Called after every step, in the first process.

    Raises:
        InputError: There are too few clips, the checkpoint is of another training, or the loss is no longer
            a number.
        MissingDependencyError: Curves are wanted, and TensorBoard is not installed.
    """
    with joined(device) as processes:
        try:
            sampler = BlockSampler(
                rows, batch_size=config.batch_size, seed=config.seed, weights=weights,
                groups=groups, together=together, rank=processes.rank, world_size=processes.world_size,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(f"too few clips to train on: {error}") from error
        with _own_randomness(processes.device), _curves(files.tensorboard, processes) as curves:
            trainer = Trainer(model, objective, sampler, config, processes, files, data_digest)
            return trainer.run(on_step, curves)


class Trainer(Generic[Item]):
    """One training, in one process; see :func:`train`."""

    def __init__(
        self,
        model: ClipModel,
        objective: Objective[Item],
        sampler: BlockSampler,
        config: LoopConfig,
        processes: Processes,
        files: Files,
        data_digest: str,
    ) -> None:
        self.model = model.to(processes.device)
        self.objective, self.sampler, self.config = objective, sampler, config
        self.processes, self.device, self.files = processes, processes.device, files
        self.progress = Progress()
        self.half = half_precision(config, self.device)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(objective.untouched))
        self.optimizer = make_optimizer(model, config)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.half == torch.float16)
        self.n_steps = config.epochs * sampler.n_batches
        self._identity = {
            **{f"config.{name}": value for name, value in config.to_words().items()},
            "objective": objective.name,
            "model": model.config.to_words(),
            "data": data_digest,
        }
        self._resume()
        whole: nn.Module = _Whole(model, objective, processes)
        if processes.world_size > 1:
            whole = nn.parallel.DistributedDataParallel(whole)
        self.whole = whole
        # Of the steps since somebody looked: their sum, and whether all were numbers.
        self._losses = torch.zeros((), dtype=torch.float64, device=self.device)
        self._last_loss = math.nan

    def run(self, on_step: OnStep | None, curves: Any) -> History:
        """Train to the end."""
        while not self.progress.is_over:
            self._epoch(on_step, curves)
        if self.progress.best_weights is not None:
            self.model.load_state_dict(self.progress.best_weights)
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self.model.eval()
        return History(
            tuple(self.progress.epochs),
            self.progress.best_epoch,
            stopped_early=len(self.progress.epochs) < self.config.epochs,
        )

    def _epoch(self, on_step: OnStep | None, curves: Any) -> None:
        state, started = self.progress, time.monotonic()
        first = state.batch
        numbered = enumerate(self.sampler.epoch(state.epoch, start=first), start=first)
        epoch = state.epoch
        self.model.train()
        with prefetched(numbered, lambda one: self._prepared(epoch, *one)) as items:
            for item in items:
                step = self._step(item)
                self._tell(step, on_step, curves)
                if state.step % self.config.checkpoint_steps == 0 and state.batch < self.sampler.n_batches:
                    self._save()
        self._look()
        seconds_learning = time.monotonic() - started
        with self.precision(), torch.inference_mode():
            self.model.eval()
            judged = self.objective.judge(self.model, self.processes)
        if judged is not None and not math.isfinite(judged.loss):
            self._give_up("on the clips held out")
        share = (self.sampler.n_batches - first) / self.sampler.n_batches
        finished = Epoch(
            epoch, state.loss_sum / self.sampler.n_batches, judged, time.monotonic() - started,
            share * self.sampler.n_shown / max(seconds_learning, 1e-9),
        )  # fmt: skip
        self._finish(finished)
        if curves is not None:
            _draw(curves, finished, state.step)
        self._save()

    def _prepared(self, epoch: int, number: int, rows: NDArray[np.int64]) -> Item:
        rng = np.random.default_rng([self.config.seed, epoch, number, self.processes.rank])
        return self.objective.prepare(rows, rng)

    def _step(self, item: Item) -> Step:
        state, config = self.progress, self.config
        seeds = np.random.SeedSequence([config.seed, state.epoch, state.batch, self.processes.rank, 1])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        rate = config.rate(state.step, self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision():
            loss = self.whole(item.to(self.device))
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        learned = [p for p in self.model.parameters() if p.grad is not None]
        length = nn.utils.clip_grad_norm_(learned, config.clip_norm, foreach=True)
        # A gradient that overflows is scaling's own affair: it leaves that step out and scales down.
        self._losses += loss.detach() if self.scaler.is_enabled() else loss.detach() + 0.0 * length
        done = Step(state.epoch, state.batch, self.sampler.n_batches, state.step, self._last_loss, rate)
        if self.device.type == "cpu" or state.step % LOOK_EVERY == 0:
            self._look()
            self._last_loss = float(loss.detach())
            done = Step(state.epoch, state.batch, self.sampler.n_batches, state.step, self._last_loss, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        state.step, state.batch = state.step + 1, state.batch + 1
        return done

    def _look(self) -> None:
        """Add up the losses since the last look; give up where one was no number."""
        found = float(self.processes.mean(self._losses))
        self._losses.zero_()
        is_lost = self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE
        if not math.isfinite(found) or is_lost:
            self._give_up("")
        self.progress.loss_sum += found

    def _give_up(self, where: str) -> None:
        state, kept = self.progress, self.files.checkpoint
        is_kept = kept is not None and kept.is_file()
        raise InputError(
            f"the loss {where + ' ' if where else ''}is not finite at step {state.step} (epoch"
            f" {state.epoch + 1}): train again with a learning rate below {self.config.learning_rate:g}"
            + (f"; the last good checkpoint is kept in {kept}" if is_kept else "")
        )

    def _finish(self, epoch: Epoch) -> None:
        """Count an epoch in, and decide whether it was the last."""
        state, config = self.progress, self.config
        state.epochs.append(epoch)
        score = None if epoch.validation is None else epoch.validation.score(config.watch)
        if score is None or state.best_score is None or score > state.best_score:
            state.best_score, state.best_epoch, state.n_worse = score, epoch.number, 0
            if score is not None:
                state.best_weights = {
                    name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()
                }
        else:
            state.n_worse += 1
        state.epoch, state.batch, state.loss_sum = epoch.number + 1, 0, 0.0
        is_hopeless = config.patience is not None and state.n_worse >= config.patience
        state.is_over = is_hopeless or state.epoch >= config.epochs

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Half precision while the block runs, or nothing."""
        if self.half is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.half)

    def _tell(self, step: Step, on_step: OnStep | None, curves: Any) -> None:
        if not self.processes.is_first:
            return
        if on_step is not None:
            on_step(step)
        if curves is not None and step.step % LOOK_EVERY == 0:
            curves.add_scalar("loss/training", step.loss, step.step)
            curves.add_scalar("learning_rate", step.learning_rate, step.step)

    def _save(self) -> None:
        if self.files.checkpoint is None:
            return
        self._look()
        # A step may have spoiled the weights, which the next loss would show.
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            self._give_up("")
        if self.processes.is_first:
            parts = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            save_checkpoint(self.files.checkpoint, self.progress, parts, identity=self._identity)

    def _resume(self) -> None:
        if self.files.checkpoint is None or not self.files.checkpoint.is_file():
            return
        self.progress, parts = load_checkpoint(self.files.checkpoint, identity=self._identity)
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.scaler.load_state_dict(parts["scaler"])


def half_precision(config: LoopConfig, device: torch.device) -> torch.dtype | None:
    """The type that products are made in, where it is not single precision."""
    if config.precision == "bf16":
        return torch.bfloat16
    if config.precision == "fp32" or device.type == "cpu":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def make_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW over what is to be learned.

    Weights of linear maps decay. Biases, normalizations, centres and absence tokens are places and not maps:
    to draw them to 0 would say something about the data.

    Source: Loshchilov & Hutter 2019 (decoupled weight decay).
    """
    decays: list[nn.Parameter] = []
    stays: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_place = parameter.ndim < 2 or name.rpartition(".")[2] in ("centres", "tokens")
            (stays if is_place else decays).append(parameter)
    groups = [
        {"params": decays, "weight_decay": config.weight_decay},
        {"params": stays, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


@contextlib.contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def _curves(folder: Path | None, processes: Processes) -> Iterator[Any]:
    """A TensorBoard writer while the block runs; None where no curves are wanted, or by another process."""
    if folder is None or not processes.is_first:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "curves need TensorBoard; install it with: pip install 'program-matcher[train]'"
        ) from error
    with SummaryWriter(str(folder)) as writer:
        yield writer


def _draw(curves: Any, epoch: Epoch, step: int) -> None:
    curves.add_scalar("loss/epoch", epoch.loss, step)
    curves.add_scalar("clips_per_second", epoch.clips_per_second, step)
    if epoch.validation is not None:
        curves.add_scalar("loss/validation", epoch.validation.loss, step)
        for head, share in epoch.validation.accuracy.items():
            curves.add_scalar(f"accuracy/{head}", share, step)
    curves.flush()


def digest_of(*parts: NDArray[Any] | str) -> str:
    """Of data, so that a checkpoint of other data is refused."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(json.dumps([str(part.dtype), part.shape]).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]
