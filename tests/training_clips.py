"""A handful of clips that a small clip model learns in a moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from matcher.fusion.clip_model import ClipModel
from matcher.fusion.config import ClipModelConfig, FramesConfig, HeadConfig
from matcher.fusion.features import ClipFeatures
from matcher.training.fusion_data import ArraySource, ClipSource, Labelled, Targets, split_by_program
from matcher.training.inference import answers

DIMENSIONS = (6, 3, 4)
CONFIG = ClipModelConfig(
    heads=(HeadConfig("kind", 3), HeadConfig("mood", 2)),
    picture=FramesConfig(d=6, d_out=8, n_clusters=3, n_groups=2),
    sound=FramesConfig(d=3, d_out=4, n_clusters=2, n_groups=1),
    d_text=4, d_embedding=8, dropout=0.2,
)  # fmt: skip


def made_clips(n: int = 60, n_programs: int = 12, seed: int = 0) -> tuple[ArraySource, Targets]:
    """Clips of programs of three kinds; of one in three the sound is missing, of one in four the mood."""
    rng = np.random.default_rng(seed)
    program = np.arange(n) * n_programs // n
    kind = program % 3
    places = rng.normal(size=(n_programs, 6)) + 3 * rng.normal(size=(3, 6))[np.arange(n_programs) % 3]
    clips = [
        ClipFeatures(
            (places[program[i]] + rng.normal(size=(1 + i % 5, 6))).astype(np.float32),
            None if i % 3 == 1 else rng.normal(size=(2, 3)).astype(np.float32),
            (rng.normal(size=4) + kind[i]).astype(np.float32),
        )
        for i in range(n)
    ]
    targets = Targets.of_classes(
        {"kind": [[int(k)] for k in kind], "mood": [None if i % 4 == 0 else [i % 2] for i in range(n)]},
        {"kind": 3, "mood": 2},
        program,
    )
    return ArraySource(clips, DIMENSIONS), targets


def split(share: float = 0.3) -> tuple[Labelled, Labelled]:
    source, targets = made_clips()
    learned, held_out = split_by_program(targets.program, share=share, seed=0)
    return Labelled(source, targets, learned), Labelled(source, targets, held_out)


def new_model(seed: int = 0, **words: object) -> ClipModel:
    torch.manual_seed(seed)
    return ClipModel(replace(CONFIG, **words))  # type: ignore[arg-type]


def probabilities_of(
    model: ClipModel, source: ClipSource, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """By head (N, C) what the model says of each class, of all clips at once."""
    rows = np.arange(len(source)) if rows is None else rows
    (said,) = answers(model, source, rows=rows, batch_size=len(rows))
    return {name: 1 / (1 + np.exp(-log_odds)) for name, log_odds in said.log_odds.items()}
