"""The pictures behind an explanation: frames of the clip beside those of the asset that they match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from matcher.decode import Sampling, sample_frames
from matcher.describe import LAYOUT_PICTURES
from matcher.errors import InputError
from matcher.explain import Explanation
from matcher.inputs import one_line
from matcher.layout import inner_box
from matcher.records import WHOLE, Frame
from matcher.second_look import STANDING_VIEWS
from matcher.views import Box, Picture, View, is_blank

#: Pairs shown at most.
MAX_PAIRS = 6
#: Frames are looked for this densely.
FRAMES_A_SECOND = 4.0
#: So far from a moment that is heard the asset's frame may be.
NEAR_SECONDS = 5.0
#: Up to here a file is decoded in full; beyond, its key frames must do, or a film would take minutes.
DECODED_SECONDS = 600.0


@dataclass(frozen=True)
class Pair:
    """A frame of the clip and the asset's frame beside which it is shown.

    Attributes:
        clip_seconds: In the clip.
        asset: Position of the asset.
        asset_seconds: In the asset: the aligned time, that of the frame nearest to the moment that is heard,
            or where nothing aligns that of the most similar frame.
        similarity: Cosine of the two.
    """

    clip_seconds: float
    asset: int
    asset_seconds: float
    similarity: float


@dataclass(frozen=True)
class Shown:
    """A frame that was looked for: the nearest that was decoded, or why there is none."""

    frame: Frame | None
    problem: str = ""


def pairs_of(explanation: Explanation) -> list[Pair]:
    """Up to ``MAX_PAIRS`` pairs by clip time.

    Evenly over the frames compared; where none align, over those of the stretches that were heard; else the
    most similar ones.
    """
    times, series = explanation.picture.look.t_seconds, explanation.picture.series
    found = [
        Pair(float(times[row]), match.asset, max(0.0, float(match.line.at(times[row]))), float(value))
        for match in explanation.picture.matches
        for row, value in zip(match.frames, match.similarities, strict=True)
    ]
    found = found or _heard_pairs(explanation)
    if not found:
        rows = np.flatnonzero(series.asset >= 0)
        rows = np.sort(rows[np.argsort(-series.similarity[rows], kind="stable")][:MAX_PAIRS])
        found = [
            Pair(
                float(times[row]), int(series.asset[row]), float(series.asset_seconds[row]),
                float(series.similarity[row]),
            )
            for row in rows
        ]  # fmt: skip
    kept = np.unique(np.linspace(0, len(found) - 1, min(MAX_PAIRS, len(found))).round().astype(int))
    return [found[i] for i in kept]


def _heard_pairs(explanation: Explanation) -> list[Pair]:
    """The clip's frames of the stretches that were heard, each beside the asset's nearest to that moment."""
    look, found = explanation.picture.look, []
    for match in () if explanation.sound is None else explanation.sound.matches:
        inside = (look.t_seconds >= match.clip_start_seconds) & (look.t_seconds < match.clip_end_seconds)
        for row in np.flatnonzero(inside):
            at = float(match.line.at(look.t_seconds[row]))
            _, seconds, vectors = explanation.view.frames_between(
                match.asset, at - NEAR_SECONDS, at + NEAR_SECONDS
            )
            if seconds.size:
                nearest = int(np.abs(seconds - at).argmin())
                cosine = float(look.vectors[row] @ vectors[nearest])
                found.append(Pair(float(look.t_seconds[row]), match.asset, float(seconds[nearest]), cosine))
    return found


def clip_frames(explanation: Explanation, pairs: Sequence[Pair]) -> list[Shown]:
    """The clip's frame of each pair, seen through the view of the look."""
    path = explanation.subject.path
    shown = nearest_frames(path, [pair.clip_seconds for pair in pairs])
    if not any(one.frame for one in shown):
        return shown
    view = view_named(explanation.picture.look.view, _first_pictures(path))
    return [
        one if one.frame is None else Shown(Frame(one.frame.t_seconds, view.through(one.frame.image)))
        for one in shown
    ]


def asset_frames(explanation: Explanation, pairs: Sequence[Pair]) -> list[Shown]:
    """The asset's frame of each pair."""
    shown: dict[int, Shown] = {}
    for asset in {pair.asset for pair in pairs}:
        rows = [row for row, pair in enumerate(pairs) if pair.asset == asset]
        path = Path(explanation.asset(asset).path)
        shown.update(zip(rows, nearest_frames(path, [pairs[row].asset_seconds for row in rows]), strict=True))
    return [shown[row] for row in range(len(pairs))]


def nearest_frames(path: Path, seconds: Sequence[float]) -> list[Shown]:
    """The decoded frame nearest to each of these times, or why there is none, the same for all."""
    if not seconds:
        return []
    if not is_file(path):
        return [Shown(None, f"the file is not at\n{one_line(str(path))}")] * len(seconds)
    best: list[Frame | None] = [None] * len(seconds)
    try:
        for frame in _frames_up_to(path, max(seconds)):
            for i, (wanted, known) in enumerate(zip(seconds, best, strict=True)):
                if known is None or abs(frame.t_seconds - wanted) < abs(known.t_seconds - wanted):
                    best[i] = frame
    except InputError as error:
        return [Shown(None, str(error))] * len(seconds)
    return [Shown(frame) for frame in best]


def _frames_up_to(path: Path, seconds: float) -> Iterable[Frame]:
    """Frames in time order, up to the first at or after ``seconds``."""
    sampling = Sampling(fps=FRAMES_A_SECOND) if seconds <= DECODED_SECONDS else Sampling("keyframes")
    for frame in sample_frames(path, sampling):
        yield frame
        if frame.t_seconds >= seconds:
            return


def is_file(path: Path) -> bool:
    """Whether there is such a file; no name is too long or too odd to ask."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _first_pictures(path: Path) -> list[Picture]:
    """The pictures that a query reads the layout from, nearly: the first few."""
    pictures = []
    for frame in sample_frames(path, Sampling(fps=2.0)):
        pictures.append(frame.image)
        if len(pictures) == LAYOUT_PICTURES:
            break
    return pictures


def view_named(name: str, first_pictures: Sequence[Picture]) -> View:
    """The view of a look by its name; the clip's first pictures tell the frame of an upright one.

    An unknown name is seen as the whole picture.
    """
    kind, _, numbers = name.partition(" ")
    if kind == "inset":
        left, top, right, bottom = (float(number) for number in numbers.split(","))
        return View(name, Box(left, top, right, bottom))
    for view in STANDING_VIEWS:
        if view.name == name:
            return view
    box = inner_box([picture for picture in first_pictures if not is_blank(picture)])
    return View(WHOLE, box, is_mirrored=name == "mirror")
