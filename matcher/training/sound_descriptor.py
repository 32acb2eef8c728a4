"""``matcher train descriptor --sound``: fit the sound model's pair whitening to one's own films.

What :mod:`matcher.training.descriptor` does for pictures, with patches of sound for frames: the same closed
form, the same validation by film, the same table. A figure is of one patch of two seconds that looks among
those of every half second; a clip of ten seconds has 40 patches, which vote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import ClassVar

from matcher.encoders.sound import REVISION, SoundEncoder
from matcher.encoders.whitening import Whitening
from matcher.errors import InputError
from matcher.sound import RAW_DIMENSIONS
from matcher.training.descriptor import Recipe, Row, Training, notes
from matcher.training.pairs import Film, Pairs
from matcher.training.sound_pairs import N_STRETCHES, collect_sounds


@dataclass(frozen=True)
class SoundRecipe(Recipe):
    """What the closed form is told of sounds.

    The mean of a band over time is taken away from every patch, so that hardly any mean is left. From 0.03
    to 0.3 little is to choose in the regularization: lower is better under other sounds, higher at another
    pitch.
    More dimensions find more: of patches of films under a louder sound, with a fit of the same kind, recall
    at 1 % strangers was 0.32 at 96, 0.37 at 128, 0.45 at 192 and 0.51 at 256. A store holds them twice a
    second, hence 128.
    """

    d: int = 128
    regularization: float = 0.1
    mean_share: float = 0.0

    def __post_init__(self) -> None:
        if self.d > RAW_DIMENSIONS:
            raise InputError(f"--d must be from 1 to {RAW_DIMENSIONS}, got {self.d}")
        super().__post_init__()


def sound_grid(recipe: Recipe) -> list[Recipe]:
    """``recipe`` first, then others around it, for the eye: the fit takes the first whatever they say."""
    cells = [replace(recipe, regularization=number) for number in (0.03, 0.1, 0.3, 1.0)]
    return [recipe, *(cell for cell in cells if cell != recipe)]


@dataclass(frozen=True)
class SoundTraining(Training):
    """One run with ``--sound``; ``n_frames`` are stretches of a film, at most."""

    words: ClassVar[tuple[str, ...]] = ("--sound",)

    n_frames: int = N_STRETCHES

    def listen(self, films: Sequence[Film], *, on_film: Callable[[Film], None]) -> Pairs:
        """Describe the films, see :func:`matcher.training.sound_pairs.collect_sounds`."""
        return collect_sounds(films, n_stretches=self.n_frames, seed=self.seed, on_film=on_film)

    def notes(self, pairs: Pairs, rows: Sequence[Row]) -> dict[str, str]:
        """What the file says of itself."""
        return sound_notes(self, pairs, rows)

    def fingerprint(self) -> str:
        """Of the model with the file's whitening."""
        return SoundEncoder(Whitening.load(self.out)).info.fingerprint


def sound_notes(training: SoundTraining, pairs: Pairs, rows: Sequence[Row]) -> dict[str, str]:
    """What the file says of itself, so that it can be made again and judged."""
    packages = {name: version(name) for name in ("numpy", "av")}
    return {
        **notes(training, pairs, rows),
        "versions": json.dumps({"model": REVISION, **packages}),
    }
