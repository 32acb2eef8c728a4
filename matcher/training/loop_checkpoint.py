"""A training that was cut off, as a file from which it goes on exactly.

There is no random state in it: what is drawn in a step follows from the seed, the epoch and the number of
the step (see :mod:`matcher.training.loop_engine`), and the sampler's place is the epoch and the batch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from index.files import replacing
from matcher.errors import InputError
from matcher.training.loop_records import Epoch, epoch_of_words

#: Raise it when the same file would go on in another way, so that older ones are refused.
REVISION = 2


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: The present one, from 0.
        batch: The next one of it, from 0.
        step: The next one of the whole training.
        loss_sum: Of the epoch's steps so far, float64: the mean over the processes.
        epochs: Those that are finished.
        best_score: Of the validation, higher is better; None before the first.
        best_epoch: Whose it is; the last where nothing is held out.
        n_worse: Epochs since.
        best_weights: The model's then, on the CPU; None where they are the present ones.
        is_over: It has ended, by patience or by its last epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    best_score: float | None = None
    best_epoch: int = 0
    n_worse: int = 0
    best_weights: dict[str, torch.Tensor] | None = None
    is_over: bool = False


_COUNTS = ("epoch", "batch", "step", "loss_sum", "best_score", "best_epoch", "n_worse", "is_over")


def save_checkpoint(
    path: Path, progress: Progress, parts: dict[str, dict[str, Any]], *, identity: dict[str, Any]
) -> None:
    """Write the file in one step: after a crash the old one is there, or the new one.

    Args:
        path: The file.
        progress: How far it has come.
        parts: State dictionaries by name: model, optimizer, scaler.
        identity: What must be the same for going on to make sense; JSON values.
    """
    words = {
        "revision": REVISION,
        "identity": identity,
        "progress": {name: getattr(progress, name) for name in _COUNTS},
        "epochs": [asdict(epoch) for epoch in progress.epochs],
    }
    content = {"words": json.dumps(words), "best_weights": progress.best_weights, "parts": parts}
    with replacing(path) as file:
        torch.save(content, file)


def load_checkpoint(path: Path, *, identity: dict[str, Any]) -> tuple[Progress, dict[str, dict[str, Any]]]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU; no code in the file is run.

    Returns:
        The progress, and the state dictionaries by name.

    Raises:
        InputError: The file is no checkpoint, is of another version of the program, or of another training.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        words = json.loads(content["words"])
        revision, theirs = words["revision"], words["identity"]
        progress = Progress(
            **words["progress"],
            epochs=[epoch_of_words(one) for one in words["epochs"]],
            best_weights=content["best_weights"],
        )
        parts = content["parts"]
    except Exception as error:  # parsing raises anything on a foreign file
        raise InputError(
            f"{path} is no checkpoint that can be read ({type(error).__name__}); delete it to train afresh"
        ) from error
    if revision != REVISION:
        raise InputError(f"{path} is of another version of the program; delete it to train afresh")
    ours = json.loads(json.dumps(identity))
    if theirs != ours:
        names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
        raise InputError(
            f"{path} is of another training: {', '.join(names)} differ; give the same words and data as then,"
            " or delete it to train afresh"
        )
    return progress, parts
