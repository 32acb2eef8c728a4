"""The bare work of a model on tensors that lie ready, for the loop to be measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel, summed_loss
from matcher.fusion.folded import FoldedClipModel, Precision, folded
from matcher.training.fusion_loop import LabelledBatch
from matcher.training.loop_engine import half_precision, make_optimizer
from matcher.training.loop_records import LoopConfig
from matcher.training.processes import choose_device


def raw_step(
    model: ClipModel, batches: Sequence[LabelledBatch], config: LoopConfig, *, device: str
) -> Callable[[], None]:
    """Forward, backward and the optimizer's step, and nothing else: each call takes the next batch.

    Args:
        model: It is trained.
        batches: In turn; they are moved to the device once.
        config: Its optimizer and precision.
        device: As :func:`~matcher.training.processes.choose_device` takes it.
    """
    chosen = choose_device(device)
    model.to(chosen).train()
    ready = [batch.to(chosen) for batch in batches]
    optimizer, half, taken = make_optimizer(model, config), half_precision(config, chosen), 0

    def step() -> None:
        nonlocal taken
        batch = ready[taken % len(ready)]
        taken += 1
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(chosen.type, half or torch.bfloat16, enabled=half is not None):
            loss = summed_loss(
                model(batch.clips), batch.targets, known=batch.known, modality_weight=config.modality_weight
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _wait(chosen)

    return step


def raw_inference(
    model: ClipModel, batches: Sequence[ClipBatch], *, device: str, precision: Precision | None
) -> Callable[[], None]:
    """A pass over batches: of the model as it was trained where ``precision`` is None, else folded."""
    chosen = choose_device(device)
    ready = [batch.to(chosen) for batch in batches]
    asked: ClipModel | FoldedClipModel = model.to(chosen).eval()
    if precision is not None:
        asked = folded(model, chosen, precision)

    def run() -> None:
        with torch.inference_mode():
            for batch in ready:
                asked(batch)
        _wait(chosen)

    return run


def use_threads(n: int) -> None:
    """Let torch compute with ``n`` threads from now on."""
    torch.set_num_threads(n)


def where(device: str) -> str:
    """The device in words, with torch's threads."""
    chosen = choose_device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    return f"CPU, {torch.get_num_threads()} threads of torch, {torch.backends.cpu.get_cpu_capability()}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
