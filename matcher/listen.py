"""What a file's sound says, as one look at it: the sound's side of :mod:`matcher.describe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matcher.clip_features import Scenes
from matcher.config import SoundSettings
from matcher.decode_sound import SoundPiece
from matcher.encoders.scene import SceneEncoder, is_silent
from matcher.encoders.sound import SoundEncoder, load_sound_encoder
from matcher.records import SOUND, Look
from matcher.sound import COLUMN_SECONDS, slowed


@dataclass(frozen=True)
class Listener:
    """Describes sounds.

    Attributes:
        encoder: Makes the descriptors.
        step: Columns of 100 ms from one patch to the next.
    """

    encoder: SoundEncoder
    step: int

    @property
    def mark(self) -> str:
        """Changes with anything that changes what is heard."""
        return f"{self.encoder.info.fingerprint}/{self.step}"

    def look(self, pieces: Sequence[SoundPiece], *, speed: float = 1.0) -> Look:
        """Describe the pieces of one file's sound, in time order; silence gives no patch.

        Args:
            pieces: Of the file.
            speed: At which the file is thought to play its sound, pitch and all; it is heard as it was
                before that. Times are the file's own.
        """
        times = [np.zeros(0)]
        vectors = [np.zeros((0, self.encoder.info.d), np.float32)]
        last = -np.inf
        for piece in pieces:
            columns = piece.columns if speed == 1.0 else slowed(piece.columns, speed)
            t_seconds, found = self.encoder.describe(columns, step=self.step)
            t_seconds = t_seconds / speed + piece.start_seconds
            # Pieces of a damaged file may overlap; what is before its first frame is in no clip's time.
            new = t_seconds > max(last, 0.0)
            times.append(t_seconds[new])
            vectors.append(found[new])
            last = float(times[-1][-1]) if times[-1].size else last
        return Look(SOUND, np.concatenate(times), np.concatenate(vectors), "sound")


def scenes_of(encoder: SceneEncoder, pieces: Sequence[SoundPiece]) -> Scenes:
    """What the seconds of one file's sound are like, from its first frame on; none of silent ones.

    Args:
        encoder: Makes the vectors.
        pieces: Of the file, in time order. One rarely begins with a second of the file: its seconds count as
            those that their middles are in.
    """
    seconds = [np.zeros(0, np.int64)]
    vectors = [np.zeros((0, encoder.info.d), np.float32)]
    last = -1
    for piece in pieces:
        found = encoder.describe(piece.columns)
        own = np.floor(piece.start_seconds + np.arange(len(found)) + 0.5).astype(np.int64)
        # As for the patches: pieces of a damaged file may overlap.
        is_taken = (own > last) & ~is_silent(found)
        seconds.append(own[is_taken])
        vectors.append(found[is_taken])
        last = max(last, int(own.max(initial=-1)))
    return np.concatenate(seconds), np.concatenate(vectors)


def listener_of(settings: SoundSettings, hop_seconds: float) -> Listener | None:
    """The listener of some settings; None where nobody is to listen.

    Raises:
        InputError: The model is not known.
    """
    if not settings.enabled:
        return None
    return Listener(load_sound_encoder(settings.spec), max(1, round(hop_seconds / COLUMN_SECONDS)))
