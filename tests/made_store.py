"""A store of made-up programs and kept clips, for tests of what answers many clips: no video, no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.rows import ClipRecord, LinkRecord, StoredClip
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration
from matcher.decision import Weights
from matcher.encoders.base import unit_rows

D, SECONDS, CLIP_SECONDS = 64, 60, 10
MODEL = ModelInfo("00112233", "made up", D)
CALIBRATION = Calibration(
    Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5, 0.0), -6.8),
    0.95, 0.3, Background.empty(D, least=0.7),
    model=MODEL.fingerprint,
)  # fmt: skip


def make_store(path: Path, *, programs: int = 9, clips: int = 40) -> Path:
    """Programs of a frame a second, none like another, and clips that are noisy copies of stretches of them.

    Every fifth clip is of a program that is not there, and some are of two.
    """
    rng = np.random.default_rng(1)
    frames = unit_rows(rng.normal(size=(programs, SECONDS, D)).astype(np.float32))
    catalog = Catalog.create(path, MODEL)
    with catalog.writing() as writer:
        for number in range(programs - 1):
            asset = NewAsset("a", "", "", SECONDS, np.arange(SECONDS, dtype=np.float64), frames[number])
            writer.add_program(NewProgram(f"p{number}"), [asset])
        for number in range(clips):
            program = programs - 1 if number % 5 == 4 else number % (programs - 1)
            start = int(rng.integers(0, SECONDS - CLIP_SECONDS))
            shown = frames[program, start : start + CLIP_SECONDS]
            if number % 7 == 6:
                shown = np.concatenate([shown[:5], frames[(program + 1) % (programs - 1), :5]])
            noise = rng.normal(scale=0.05, size=shown.shape).astype(np.float32)
            seconds = np.arange(CLIP_SECONDS, dtype=np.float64)
            record = ClipRecord(
                f"c{number:02d}", f"c{number}.mp4", "", CLIP_SECONDS, CLIP_SECONDS, "00112233"
            )
            writer.put_clips([StoredClip(record, seconds, unit_rows(shown + noise))])
    CALIBRATION.save(path / FILE_NAME)
    return path


def links_of(path: Path) -> dict[str, LinkRecord]:
    """The kept links, by clip; what they rest on and their history too."""
    catalog = Catalog.open(path)
    return catalog.whole_links(list(catalog.clip_dates()))
