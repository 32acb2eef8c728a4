"""How large an experiment is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eval.experiments.clips import Sizes
from eval.experiments.world import Difficulty
from matcher.training.loop_records import LoopConfig

#: Told in words what an experiment is doing.
OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """Sizes of the data and of the training.

    Attributes:
        name: As the command line says it.
        difficulty: Of the clips.
        sizes: How many.
        loop: How a clip model is trained on them.
        growth: Numbers of programs that retrieval and a classifier are compared at.
        device: Where models are trained.
    """

    name: str
    difficulty: Difficulty
    sizes: Sizes
    loop: LoopConfig
    growth: tuple[int, ...]
    device: str = "cpu"


#: Learning rate, weight decay, dropout and frames a step were chosen by the validation part of world 1000,
#: which is in no table.
_LOOP = LoopConfig(epochs=20, batch_size=256, learning_rate=1e-2, weight_decay=1.0, frames_per_clip=8)

SCALES = {
    "small": Scale("small", Difficulty(), Sizes(), _LOOP, growth=(100, 1000, 10_000, 30_000)),
    "gpu": Scale(
        "gpu",
        Difficulty(n_tier1=10, d_picture=512, d_sound=128, d_text=512),
        Sizes(train=(400, 4), validation=(20, 2), test=(40, 2)),
        LoopConfig(epochs=20, batch_size=1024, learning_rate=3e-3, weight_decay=0.3, frames_per_clip=8),
        growth=(100, 1000, 10_000, 30_000, 100_000),
        device="auto",
    ),
}
