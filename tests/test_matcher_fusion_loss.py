"""The summed loss where some answers are not known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.fusion.clip_model import ClipOutput, summed_loss

MODALITIES = ("picture", "sound", "text")
HEADS = {"tier1": 2, "tier2": 3}


def output(seed: int, n: int) -> ClipOutput:
    torch.manual_seed(seed)

    def heads() -> dict[str, torch.Tensor]:
        return {name: torch.randn(n, c, dtype=torch.float64, requires_grad=True) for name, c in HEADS.items()}

    return ClipOutput(
        torch.randn(n, 2, dtype=torch.float64), heads(), {name: heads() for name in MODALITIES},
        torch.rand(n, 3) < 0.6,
    )  # fmt: skip


def transcribed(
    said: ClipOutput, targets: dict[str, torch.Tensor], known: dict[str, torch.Tensor], weight: float
) -> float:
    """Clip by clip and class by class."""
    total = 0.0
    for head, c in HEADS.items():
        for modality in (None, *MODALITIES):
            log_odds = said.log_odds[head] if modality is None else said.modality_log_odds[modality][head]
            losses = []
            for i in range(len(log_odds)):
                if not known[head][i]:
                    continue
                if modality is not None and not said.is_present[i, MODALITIES.index(modality)]:
                    continue
                loss = 0.0
                for j in range(c):
                    p = 1 / (1 + math.exp(-log_odds[i, j].item()))
                    y = targets[head][i, j].item()
                    loss -= y * math.log(p) + (1 - y) * math.log(1 - p)
                losses.append(loss)
            if losses:
                total += (1.0 if modality is None else weight) * sum(losses) / len(losses)
    return total


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_answers_that_are_not_known_do_not_count(seed: int, n: int, weight: float, nobody: bool) -> None:
    said = output(seed, n)
    targets = {name: torch.rand(n, c, dtype=torch.float64) for name, c in HEADS.items()}
    known = {name: torch.rand(n) < (0.0 if nobody else 0.6) for name in HEADS}
    want = transcribed(said, targets, known, weight)
    for name, target in targets.items():
        target[~known[name]] = math.nan
    loss = summed_loss(said, targets, known=known, modality_weight=weight)
    assert loss.item() == pytest.approx(want)
    loss.backward()
    for name, log_odds in said.log_odds.items():
        assert log_odds.grad is not None
        assert log_odds.grad.isfinite().all()
        assert (log_odds.grad != 0).any(dim=1).tolist() == known[name].tolist()


def test_a_head_that_is_not_named_is_known_of_all() -> None:
    said = output(0, 4)
    targets = {name: torch.rand(4, c, dtype=torch.float64) for name, c in HEADS.items()}
    everyone = torch.ones(4, dtype=torch.bool)
    whole = summed_loss(said, targets)
    for known in (dict.fromkeys(HEADS, everyone), {"tier1": everyone}, {}):
        torch.testing.assert_close(summed_loss(said, targets, known=known), whole)
    with pytest.raises(ValueError, match=r"known are \['other'\]"):
        summed_loss(said, targets, known={"other": everyone})


def part_of(said: ClipOutput, rows: slice) -> ClipOutput:
    return ClipOutput(
        said.embedding[rows],
        {name: one[rows] for name, one in said.log_odds.items()},
        {m: {name: one[rows] for name, one in by.items()} for m, by in said.modality_log_odds.items()},
        said.is_present[rows],
    )


def test_the_mean_over_processes_is_the_loss_of_all_their_clips() -> None:
    """However unevenly the clips, their absences and what is known are dealt out."""
    said = output(3, 7)
    targets = {name: torch.rand(7, c, dtype=torch.float64) for name, c in HEADS.items()}
    known = {"tier1": torch.arange(7) < 5, "tier2": torch.arange(7) < 0}
    shares = [slice(0, 2), slice(2, 7)]
    counts: list[torch.Tensor] = []

    def record(own: torch.Tensor) -> torch.Tensor:
        counts.append(own)
        return own.clamp(min=1)

    def loss(rows: slice, mean_counts: object) -> torch.Tensor:
        return summed_loss(
            part_of(said, rows), {name: one[rows] for name, one in targets.items()},
            known={name: one[rows] for name, one in known.items()}, mean_counts=mean_counts,  # type: ignore[arg-type]
        )  # fmt: skip

    for rows in shares:
        loss(rows, record)
    total = counts[0] + counts[1]
    mean = torch.where(total > 0, total / 2, 1.0)
    got = sum(loss(rows, lambda _: mean) for rows in shares) / 2
    torch.testing.assert_close(got, summed_loss(said, targets, known=known))
