"""Edits that change the sound alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.drama_sound import music
from eval.edit_base import SOUND_RATE_HZ, Edit, EditContext, Picture, Sound, per_frame
from eval.video_reader import read_sound


def _same(image: Picture) -> Picture:
    return image


def mute() -> Edit:
    """Without sound."""
    return Edit("mute", "light", per_frame(_same), is_mute=True)


def replace_sound(over: Path | None = None, *, start_seconds: float = 0.0, rest: float = 0.0) -> Edit:
    """Another sound under the pictures.

    Args:
        over: A video whose sound is taken, silent where it has ended; None for made-up music.
        start_seconds: Where in that video to begin.
        rest: How much of the clip's own sound stays, in [0, 1].
    """
    if not 0 <= rest <= 1:
        raise ValueError(f"rest must be in [0, 1], got {rest}")

    def sound(heard: Sound, context: EditContext) -> Sound:
        seconds = context.duration_seconds
        if over is not None:
            new = read_sound(over, start_seconds, start_seconds + seconds, rate_hz=SOUND_RATE_HZ)
        else:
            new = music(context.rng, style_seed=int(context.rng.integers(2**31)), seconds=seconds)
        n_samples = min(len(heard), len(new))
        mixed = new * np.float32(1 - rest / 2)
        mixed[:n_samples] += heard[:n_samples] * np.float32(rest)
        return np.asarray(np.clip(mixed, -1, 1), np.float32)

    return Edit("sound replaced" if rest == 0 else "music over", "light", per_frame(_same), sound=sound)
