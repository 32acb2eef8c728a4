"""The sound of the clips that a calibration makes itself: the catalogue's own, edited as uploaders edit it.

What is heard in an upload is often not what is seen: it may be muted, or be another's. Both are drawn here
as often as it takes to learn what a sound is worth with the pictures against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.view import CatalogView
from matcher.calibrate_clips import Cut, Stretch
from matcher.decode_sound import SoundPiece, read_sound
from matcher.lines import MAX_SPEED, MIN_SPEED
from matcher.listen import Listener
from matcher.records import Look, rounded
from matcher.sound import RATE_HZ, mel_columns
from matcher.training.sound_edits import EDITS, FOREIGN_EDITS, edit_sound
from matcher.training.sound_filters import filtered, fitted

#: Shares of clips: muted, with another's sound, edited; the rest is but coded again.
MUTED_SHARE, REPLACED_SHARE, EDITED_SHARE = 0.1, 0.25, 0.4
#: A sound that follows the pictures' speed keeps its pitch this often.
PITCH_KEPT_SHARE = 0.6
#: The pictures decide how long a clip is.
KINDS = (*(name for name in EDITS if name not in ("tempo", "playback_speed")), *FOREIGN_EDITS)


@dataclass(frozen=True)
class HeardClip:
    """What is heard in a clip.

    Attributes:
        look: Its patches.
        stretches: Whose sound is in it; none where it is muted.
    """

    look: Look
    stretches: tuple[Stretch, ...]


def heard_of(
    view: CatalogView,
    cut: Cut,
    second: Stretch | None,
    strange: Sequence[Stretch],
    listener: Listener,
    *,
    length_seconds: float,
    seed: int,
) -> HeardClip:
    """Draw the sound of one clip and describe it, rounded as a store rounds it.

    Args:
        view: The catalogue.
        cut: Where the clip was cut.
        second: What it shows after that; None where it shows but one stretch.
        strange: Stretches of other programs, whose sound may come in.
        listener: Describes it.
        length_seconds: Of the clip, both stretches together.
        seed: Draws the edit.

    Returns:
        No patch where the clip is muted, or its file has no sound.
    """
    rng = np.random.default_rng([seed, 5, cut.number])
    length = round(length_seconds * RATE_HZ)
    samples = _own(view, cut, second, length, rng)
    stretches: tuple[Stretch, ...]
    stretches = (cut.stretch,) if second is None else (cut.stretch, second)
    other = strange[int(rng.integers(len(strange)))] if strange else cut.stretch
    dice = rng.random()
    if dice < MUTED_SHARE:
        samples, stretches = np.zeros(length, np.float32), ()
    elif dice < MUTED_SHARE + REPLACED_SHARE and strange:
        samples, stretches = fitted(_played(view, other), length), (other,)
    elif dice < MUTED_SHARE + REPLACED_SHARE + EDITED_SHARE:
        kind = str(rng.choice(KINDS))
        if kind not in FOREIGN_EDITS or strange:
            samples = edit_sound(kind, samples, _played(view, other), rng).samples
        if kind in FOREIGN_EDITS and strange:
            stretches = (*stretches, other)  # both are heard, and either may be found
    samples = edit_sound("low_bit_rate", samples, samples, rng).samples
    return HeardClip(rounded(listener.look([SoundPiece(0.0, mel_columns(samples))])), stretches)


def _own(
    view: CatalogView, cut: Cut, second: Stretch | None, length: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The sound of what the clip shows, as fast and in the direction that it shows it."""
    samples = _played(view, cut.stretch)
    if second is not None:
        return fitted(np.concatenate([samples, _played(view, second)]), length)
    if cut.times.size > 1 and cut.times[0] > cut.times[-1]:
        samples = samples[::-1]
    speed = float(np.clip(samples.size / max(1, length), MIN_SPEED, MAX_SPEED))
    if abs(speed - 1.0) > 0.02 and samples.size:
        keeps_pitch = rng.random() < PITCH_KEPT_SHARE
        words = [f"atempo={speed:.6f}"] if keeps_pitch else [f"asetrate={round(RATE_HZ * speed)}"]
        samples = filtered(np.ascontiguousarray(samples), *words, f"aresample={RATE_HZ}")
    return fitted(np.ascontiguousarray(samples), length)


def _played(view: CatalogView, stretch: Stretch) -> NDArray[np.float32]:
    path = Path(view.assets[stretch.asset].path)
    return read_sound(path, stretch.start_seconds, stretch.stop_seconds)
