"""Clips that a calibration makes itself: stretches of the catalogue's own files, edited as uploaders edit.

Pictures stay in memory. An edit is drawn once a clip and done alike to every frame of it, for what stands
still in an upload (a bar, a logo, an inset) stands still here as well.
"""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.view import CatalogView
from matcher.calibrate_layouts import FOREIGN_LAYOUTS, OWN_LAYOUTS
from matcher.decode import Sampling, sample_frames
from matcher.errors import InputError, VideoError
from matcher.inputs import one_line
from matcher.records import Frame
from matcher.training.frame_edits import EDITS
from matcher.views import Picture

logger = logging.getLogger(__name__)

#: How long a clip is, in seconds of its own.
SHORTEST_SECONDS, LONGEST_SECONDS = 4.0, 15.0
#: Files are decoded from their start, so stretches are taken from so much of it.
WITHIN_SECONDS = 600.0
#: Source frames are decoded this densely, and at this size: more than a query's, for edits take some away.
SOURCE_FPS, SOURCE_SIDE = 8.0, 480
#: Clips shorter than this many frames, since a file broke off, are not used.
FEWEST_FRAMES = 4
#: Shares of clips.
SPED_SHARE, REVERSED_SHARE, MIXED_SHARE, LAYOUT_SHARE = 0.2, 0.02, 0.05, 0.35
#: Cut out of its canvas already, which is the matcher's task here.
PICTURE_EDITS = tuple(name for name in EDITS if name != "captioned_bands")
#: Foreign pictures come from this many clips made before.
POOL_CLIPS = 8


@dataclass(frozen=True)
class Stretch:
    """Where a clip was cut.

    Attributes:
        program: Position in the catalogue.
        asset: Likewise.
        start_seconds: In the asset.
        stop_seconds: In the asset.
    """

    program: int
    asset: int
    start_seconds: float
    stop_seconds: float


@dataclass(frozen=True)
class Cut:
    """One clip to be made.

    Attributes:
        number: Among the clips of the calibration; with the seed it draws the edits.
        stretch: Where from.
        times: (n,) seconds in the asset of the clip's frames; descending where it plays backwards.
    """

    number: int
    stretch: Stretch
    times: NDArray[np.float64]


@dataclass(frozen=True)
class MadeClip:
    """A clip with its truth.

    Attributes:
        number: Of its cut.
        stretches: What it shows; the first is the one that was meant.
        edits: What was done to it, for people.
        frames: As a decoder would give them.
    """

    number: int
    stretches: tuple[Stretch, ...]
    edits: tuple[str, ...]
    frames: tuple[Frame, ...]


def plan_cuts(
    view: CatalogView, *, clips: int, programs: int, sampling: Sampling, seed: int
) -> list[list[Cut]]:
    """Draw programs and cut stretches out of random assets of theirs.

    Args:
        view: The catalogue.
        clips: How many to cut in all.
        programs: Of at most so many programs, the same number of each, give or take one.
        sampling: Of clips.
        seed: Draws everything.

    Returns:
        The cuts of each asset that has any, in random order of programs.

    Raises:
        InputError: No program has a file at its path.
    """
    rng = np.random.default_rng([seed, 0])
    chosen = _programs_with_files(view, programs, rng)
    cuts: dict[int, list[Cut]] = {}
    for number in range(clips):
        program, assets = chosen[number % len(chosen)]
        asset = int(rng.choice(assets))
        cut = _cut(number, program, asset, view.assets[asset].duration_seconds, _step_seconds(sampling), rng)
        cuts.setdefault(asset, []).append(cut)
    return list(cuts.values())


def _programs_with_files(
    view: CatalogView, most: int, rng: np.random.Generator
) -> list[tuple[int, list[int]]]:
    """At most so many programs at random, with those of their assets whose files are there."""
    assets_of: dict[int, list[int]] = {}
    for asset, position in enumerate(view.program_position):
        assets_of.setdefault(int(position), []).append(asset)
    chosen: list[tuple[int, list[int]]] = []
    missing: list[str] = []
    for program in rng.permutation(len(view.program_records)):
        if len(chosen) == most:
            break
        there = []
        for asset in assets_of.get(int(program), []):
            path = view.assets[asset].path
            if path and Path(path).is_file():
                there.append(asset)
            else:
                missing.append(path)
        if there:
            chosen.append((int(program), there))
    if not chosen:
        raise InputError(
            "no file of the catalogue is at its path any more, so no clips can be cut; put the files back"
        )
    if missing:
        logger.warning(
            "%d files are not at their paths, as %s; going on without", len(missing), one_line(missing[0])
        )
    return chosen


def _step_seconds(sampling: Sampling) -> float:
    """Between two frames of a clip; key frames are about as far apart as they may be close."""
    return 1.0 / sampling.fps if sampling.mode == "fps" else max(sampling.min_gap_seconds, 1.0 / SOURCE_FPS)


def _cut(number: int, program: int, asset: int, seconds: float, step: float, rng: np.random.Generator) -> Cut:
    speed = float(2.0 ** rng.uniform(-1, 1)) if rng.random() < SPED_SHARE else 1.0
    within = min(seconds, WITHIN_SECONDS)
    length = min(rng.uniform(SHORTEST_SECONDS, LONGEST_SECONDS), max(step, within / speed))
    start = rng.uniform(0, max(0.0, within - length * speed))
    times = start + speed * np.arange(0, length, step)
    if rng.random() < REVERSED_SHARE:
        times = times[::-1]
    return Cut(number, Stretch(program, asset, start, start + length * speed), times)


def make_clips(
    view: CatalogView, cuts: Sequence[Sequence[Cut]], *, sampling: Sampling, seed: int
) -> Iterator[MadeClip]:
    """Decode each asset once and make its clips.

    A file that cannot be read is warned of and passed over.

    Args:
        view: The catalogue.
        cuts: By asset, as :func:`plan_cuts` gives them.
        sampling: Of clips: how large their pictures come out.
        seed: Draws the edits.
    """
    pool: deque[tuple[Stretch, list[Picture]]] = deque(maxlen=POOL_CLIPS)
    step = _step_seconds(sampling)
    for of_asset in cuts:
        path = Path(view.assets[of_asset[0].stretch.asset].path)
        try:
            shown = pictures_at(path, [cut.times for cut in of_asset])
        except VideoError as error:
            logger.warning("%s; going on without", error)
            continue
        for cut, pictures in zip(of_asset, shown, strict=True):
            if len(pictures) >= FEWEST_FRAMES:
                strange = [entry for entry in pool if entry[0].program != cut.stretch.program]
                yield _make(
                    cut,
                    pictures,
                    strange,
                    np.random.default_rng([seed, 1, cut.number]),
                    step,
                    sampling.max_side,
                )
                pool.append((cut.stretch, pictures))


def pictures_at(path: Path, wanted: Sequence[NDArray[np.float64]]) -> list[list[Picture]]:
    """What a file shows at some times: the frames that are nearest on a grid of :data:`SOURCE_FPS`.

    Args:
        path: The file, decoded from its start to the last of these times.
        wanted: Lists of times.

    Returns:
        For each list its pictures, in its order; times beyond the file's end have none.

    Raises:
        VideoError: The file cannot be decoded.
    """
    cells = [np.round(times * SOURCE_FPS).astype(np.int64) for times in wanted]
    needed = deque(np.unique(np.concatenate(cells)).tolist())
    found: dict[int, Picture] = {}
    shown: Picture | None = None
    for frame in sample_frames(path, Sampling(fps=SOURCE_FPS, max_side=SOURCE_SIDE)):
        cell = round(frame.t_seconds * SOURCE_FPS)
        # A file of fewer frames a second leaves cells out: there the frame before is still on the screen.
        while needed and needed[0] < cell and shown is not None:
            found[needed.popleft()] = shown
        if needed and needed[0] == cell:
            found[needed.popleft()] = frame.image
        if not needed:
            break
        shown = frame.image
    return [[found[int(cell)] for cell in times if int(cell) in found] for times in cells]


def _make(
    cut: Cut,
    pictures: list[Picture],
    strange: Sequence[tuple[Stretch, list[Picture]]],
    rng: np.random.Generator,
    step: float,
    max_side: int,
) -> MadeClip:
    """Mix, edit and re-encode one clip; ``strange`` are stretches of other programs."""
    other, foreign = strange[int(rng.integers(len(strange)))] if strange else (cut.stretch, pictures)
    is_mixed = bool(strange) and rng.random() < MIXED_SHARE
    names = draw_edits(rng, has_foreign=bool(strange) and not is_mixed)
    shows = (
        (cut.stretch, other) if is_mixed or any(name in FOREIGN_LAYOUTS for name in names) else (cut.stretch,)
    )
    shown = [*pictures, *foreign] if is_mixed else pictures
    seed = int(rng.integers(2**62))
    frames = tuple(
        Frame(i * step, edit(picture, foreign[i % len(foreign)], names, seed, max_side=max_side))
        for i, picture in enumerate(shown)
    )
    return MadeClip(cut.number, shows, (*(["mixed"] if is_mixed else []), *names), frames)


def draw_edits(rng: np.random.Generator, *, has_foreign: bool) -> tuple[str, ...]:
    """One to three edits; a layout, at most one, comes last, as it does in an upload."""
    n_edits = int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
    if rng.random() >= LAYOUT_SHARE:
        return tuple(map(str, rng.choice(PICTURE_EDITS, n_edits, replace=False)))
    layouts = [*OWN_LAYOUTS, *(FOREIGN_LAYOUTS if has_foreign else ())]
    return (*map(str, rng.choice(PICTURE_EDITS, n_edits - 1, replace=False)), str(rng.choice(layouts)))


def edit(image: Picture, foreign: Picture, names: Sequence[str], seed: int, *, max_side: int) -> Picture:
    """Do ``names`` to one frame (h, w, 3), then compress it; the same is done to all frames of one seed."""
    picture, strange = Image.fromarray(image), Image.fromarray(foreign)
    layouts = OWN_LAYOUTS | FOREIGN_LAYOUTS
    for place, name in enumerate(names):
        rng = np.random.default_rng([seed, place])
        picture = layouts[name](picture, strange, rng) if name in layouts else EDITS[name](picture, rng)
    return _compressed(picture, max_side, np.random.default_rng([seed, len(names)]))


def _compressed(picture: Image.Image, max_side: int, rng: np.random.Generator) -> Picture:
    """As JPEG of quality 25 to 85, at half the size up to all of it, then no larger than ``max_side``."""
    scale = min(1.0, rng.uniform(0.5, 1.2))
    small = picture.resize((max(16, round(picture.width * scale)), max(16, round(picture.height * scale))))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=int(rng.integers(25, 86)))
    out = Image.open(buffer).convert("RGB")
    out.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    return np.asarray(out)
