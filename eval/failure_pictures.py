"""Pictures of answers that are wrong: the clip above what was taken for it and what it really is.

Three moments of the clip stand in the first row. Below stand the best candidate and the right program,
each at the times that the answer, or the truth, aligns with those moments.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eval.ground_truth import TruthRow
from eval.video_reader import read_frames, read_shape

Picture = NDArray[np.uint8]

#: Of a strip; where in the clip, or in the stretch that is shown, the moments lie.
MOMENTS = (1 / 6, 1 / 2, 5 / 6)
TILE_WIDTH, TILE_HEIGHT, CAPTION_HEIGHT, GAP = 192, 128, 18, 4
_PAPER, _INK, _EMPTY = (250, 250, 248), (30, 30, 30), (222, 222, 218)
#: A file without an index is read from its beginning, so the search for one moment ends somewhere.
_AHEAD_SECONDS = 0.5


@dataclass(frozen=True)
class Stretch:
    """Seconds of a clip and the seconds of a file that are held to be the same pictures."""

    clip_start_seconds: float
    clip_end_seconds: float
    path: Path
    asset_start_seconds: float
    asset_end_seconds: float
    is_reversed: bool = False

    def asset_time(self, clip_seconds: float) -> float | None:
        """The file's second shown at a clip's second; None outside the stretch."""
        if not self.clip_start_seconds <= clip_seconds < self.clip_end_seconds:
            return None
        length = self.clip_end_seconds - self.clip_start_seconds
        share = (clip_seconds - self.clip_start_seconds) / length
        if self.is_reversed:
            share = 1 - share
        return self.asset_start_seconds + share * (self.asset_end_seconds - self.asset_start_seconds)


@dataclass(frozen=True)
class FailurePictures:
    """Draws one clip's strip; the report asks for those it shows.

    Attributes:
        clips: Files by clip id.
        assets: Files by (program id, asset id), of the catalogue.
        truth: What clips really show.
        answers: The public objects, by clip id.
    """

    clips: Mapping[str, Path]
    assets: Mapping[tuple[str, str], Path]
    truth: Mapping[str, Sequence[TruthRow]]
    answers: Mapping[str, Mapping[str, Any]]

    def __call__(self, clip_id: str) -> bytes | None:
        """The strip as a PNG file; None where the clip itself cannot be shown."""
        path = self.clips.get(clip_id)
        seconds = None if path is None else _length(path)
        if path is None or seconds is None:
            return None
        times = [share * seconds for share in MOMENTS]
        shown = [_frame_at(path, moment) for moment in times]
        if all(picture is None for picture in shown):
            return None
        rows = [(f"clip {clip_id}", shown)]
        rows += [(words, _aligned(stretches, times)) for words, stretches in self._others(clip_id, seconds)]
        return _png(_drawn(rows))

    def _others(self, clip_id: str, seconds: float) -> list[tuple[str, list[Stretch]]]:
        answer, found = self.answers.get(clip_id, {}), []
        guess = next(iter(answer.get("candidates", ())), None)
        if guess is not None:
            words = f"best {guess['program_id']}, confidence {guess['confidence']:.3f}"
            said = self._said(answer, guess["program_id"])
            if not said:
                words += ", not aligned: from all over it"
                said = self._all_over(guess["program_id"], seconds)
            found.append((words, said))
        rows = self.truth.get(clip_id, ())
        names = ", ".join(dict.fromkeys(row.program_id for row in rows))
        real = [
            Stretch(
                row.clip_start_seconds, row.clip_end_seconds, self.assets[row.program_id, row.asset_id],
                row.asset_start_seconds, row.asset_end_seconds, row.is_reversed,
            )
            for row in rows
            if (row.program_id, row.asset_id) in self.assets
        ]  # fmt: skip
        found.append((f"right {names}" if names else "not in the catalogue", real))
        return found

    def _said(self, answer: Mapping[str, Any], program_id: str) -> list[Stretch]:
        """What the answer aligns with a program; nothing for a guess that was neither linked nor doubted."""
        named = [*answer.get("links", ()), *answer.get("review", ())]
        return [
            Stretch(
                segment["clip_start_seconds"], segment["clip_end_seconds"],
                self.assets[program_id, segment["asset_id"]],
                segment["asset_start_seconds"], segment["asset_end_seconds"],
                bool(segment.get("is_reversed", False)),
            )
            for link in named
            if link["program_id"] == program_id
            for segment in link["segments"]
            if (program_id, segment["asset_id"]) in self.assets
        ]  # fmt: skip

    def _all_over(self, program_id: str, clip_seconds: float) -> list[Stretch]:
        """The whole of a program's first file against the whole of the clip: shows what kind it is."""
        path = next((path for (program, _), path in self.assets.items() if program == program_id), None)
        length = None if path is None else _length(path)
        if path is None or length is None:
            return []
        return [Stretch(0.0, clip_seconds, path, 0.0, length)]


def _length(path: Path) -> float | None:
    try:
        return read_shape(path).duration_seconds
    except (OSError, ValueError):
        return None


def _frame_at(path: Path, seconds: float) -> Picture | None:
    """The picture on show at a moment; None where the file has none there."""
    shown = None
    try:
        for _, image in read_frames(
            path, max(0.0, seconds - _AHEAD_SECONDS), seconds + 0.01, max_side=TILE_WIDTH * 2
        ):
            shown = image
    except (OSError, ValueError):
        return None
    return shown


def _aligned(stretches: Sequence[Stretch], times: Sequence[float]) -> list[Picture | None]:
    pictures: list[Picture | None] = []
    for moment in times:
        places = [(stretch.path, stretch.asset_time(moment)) for stretch in stretches]
        place = next(((path, at) for path, at in places if at is not None), None)
        pictures.append(None if place is None else _frame_at(*place))
    return pictures


def _drawn(rows: Sequence[tuple[str, Sequence[Picture | None]]]) -> Image.Image:
    row_height = CAPTION_HEIGHT + TILE_HEIGHT + GAP
    width = len(MOMENTS) * (TILE_WIDTH + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * row_height + GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, (words, pictures) in enumerate(rows):
        top = number * row_height
        draw.text((GAP, top + 2), words, fill=_INK, font=font)
        for column, picture in enumerate(pictures):
            left = GAP + column * (TILE_WIDTH + GAP)
            _put(sheet, picture, left, top + CAPTION_HEIGHT)
    return sheet


def _put(sheet: Image.Image, picture: Picture | None, left: int, top: int) -> None:
    """A picture in the middle of its tile, whole; an empty tile where there is none."""
    sheet.paste(_EMPTY, (left, top, left + TILE_WIDTH, top + TILE_HEIGHT))
    if picture is None:
        return
    image = Image.fromarray(picture)
    image.thumbnail((TILE_WIDTH, TILE_HEIGHT))
    sheet.paste(image, (left + (TILE_WIDTH - image.width) // 2, top + (TILE_HEIGHT - image.height) // 2))


def _png(image: Image.Image) -> bytes:
    # A palette: a third of the bytes, and the report holds dozens of these.
    file = io.BytesIO()
    image.quantize(128).save(file, "PNG", optimize=True)
    return file.getvalue()
