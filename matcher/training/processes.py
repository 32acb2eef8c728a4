"""Several processes that train one model, as ``torchrun`` starts them.

Shape letters: ``W`` processes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from matcher.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: From 0.
        world_size: W; 1 where it is alone.
        device: Where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of every process's ``x``, the same in all of them."""
        if self.world_size == 1:
            return x
        total = x.clone()
        dist.all_reduce(total)
        return total

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of every process's ``x``."""
        return x if self.world_size == 1 else self.sum(x) / self.world_size

    def mean_counts(self, counts: torch.Tensor) -> torch.Tensor:
        """The mean over the processes of counts, for what is divided by them: 1 where none has any."""
        total = self.sum(counts)
        return torch.where(total > 0, total / self.world_size, 1.0)


def is_first_process() -> bool:
    """Whether this process is the one that speaks, also before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


def count_processes() -> int:
    """How many processes train together, also before this one has joined the others."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def choose_device(word: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names; of ``torchrun`` each process its own.

    Raises:
        InputError: There is no such device here.
    """
    if word not in ("auto", "cpu", "cuda") and not word.startswith("cuda:"):
        raise InputError(f"unknown device {word!r}: use auto, cpu or cuda")
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    if word == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(f"device {word!r} was asked for, and torch sees no CUDA here; use --device cpu")
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if word == "cuda" else word)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the other processes while the block runs, if ``torchrun`` started this one; else be alone.

    Processes that have met already stay together.

    Raises:
        InputError: There is no such device here.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    is_ours = not dist.is_initialized() and count_processes() > 1
    if is_ours:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        if dist.is_initialized():
            yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
        else:
            yield Processes(0, 1, chosen)
    finally:
        if is_ours:
            dist.destroy_process_group()
