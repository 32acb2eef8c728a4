"""Several processes that share every batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import multiprocessing, nn
from training_clips import new_model, split

from matcher.fusion.clip_model import ClipModel
from matcher.fusion.masking import MaskedBatchNorm
from matcher.training.fusion_loop import fit
from matcher.training.loop_records import History, LoopConfig
from matcher.training.processes import Processes

CONFIG = LoopConfig(epochs=2, batch_size=10, learning_rate=0.01, weight_decay=0.1, checkpoint_steps=2)


class Plain(nn.Module):
    """In place of a batch normalization, whose statistics each process takes of its own share."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x


def without_batch_norm() -> ClipModel:
    model = new_model(modality_dropout=0.0, dropout=0.0)
    for module in list(model.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, MaskedBatchNorm):
                setattr(module, name, Plain())
    return model


def trained(folder: Path) -> tuple[ClipModel, History]:
    train_on, validation = split()
    model = without_batch_norm()
    return model, fit(model, train_on, validation, CONFIG, checkpoint=folder / "c")


def work(rank: int, folder: Path) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model, history = trained(folder)
    torch.save([model.state_dict(), str(replace_times(history))], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def replace_times(history: History) -> list[object]:
    return [(epoch.number, round(epoch.loss, 4), epoch.validation) for epoch in history.epochs]


@pytest.mark.slow
def test_two_processes_train_as_one_does_on_all_the_clips(tmp_path: Path) -> None:
    """Where there is no batch normalization: though absences and unknown answers fall unevenly."""
    own = tmp_path / "alone"
    own.mkdir()
    alone, history = trained(own)
    multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    (one, said), (other, said_too) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert said == said_too
    for name, want in alone.state_dict().items():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(one[name], want, msg=name, atol=1e-4, rtol=1e-3)
    assert said.split(", Judgement")[0] == str(replace_times(history)).split(", Judgement")[0]


def test_alone_a_sum_is_itself_and_a_count_of_none_divides_nothing() -> None:
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.is_first
    assert alone.sum(torch.tensor([2.0])).item() == 2.0
    assert alone.mean_counts(torch.tensor([0, 3])).tolist() == [1, 3]
