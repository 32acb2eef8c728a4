"""The second look at a clip that the first said too little about: through insets, halves, corners and so on.

It comes in two steps, since most clips that need it are unknown and no view will help: a few frames
through every view, and only where these point at a program, all frames through that view.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from matcher.decode import Sampling, sample_frames
from matcher.describe import Album
from matcher.encoders.base import FrameEncoder
from matcher.layout import find_boxes
from matcher.records import Look
from matcher.views import Box, Picture, View, is_blank, square

#: Frames that every view is tried on.
PROBES = 4
#: Views that are then taken of all frames, at most.
FULL_LOOKS = 2
#: What a view of a part shows must not be much smaller than this, in pixels of the decoded picture.
LEAST_PIXELS = 48

#: Tried on every clip; insets and split screens are found by their edges.
STANDING_VIEWS = (
    View("centre", Box(0.2, 0.2, 0.8, 0.8)),
    View("left half", Box(0.0, 0.0, 0.5, 1.0)),
    View("right half", Box(0.5, 0.0, 1.0, 1.0)),
    View("top half", Box(0.0, 0.0, 1.0, 0.5)),
    View("bottom half", Box(0.0, 0.5, 1.0, 1.0)),
)

Item = TypeVar("Item")


@dataclass(frozen=True)
class SecondLook:
    """Looks again at clips.

    Attributes:
        encoder: Makes the descriptors.
        sampling: Of clips, for those too long to be kept in an album.
    """

    encoder: FrameEncoder
    sampling: Sampling

    def probes(self, album: Album) -> tuple[Look, ...]:
        """A few frames through every view worth trying."""
        rows = np.unique(np.linspace(0, len(album.pictures) - 1, PROBES).round().astype(int))
        return _looks(album, views_of(album), rows, self.encoder)

    def full(
        self, path: Path, album: Album, probes: Sequence[Look], names: Sequence[str]
    ) -> tuple[Look, ...]:
        """The probes, but for the first few of ``names`` looks at all frames in their place."""
        views = {view.name: view for view in views_of(album)}
        wanted = names[:FULL_LOOKS]
        return tuple(
            self._full(path, album, views[probe.view]) if probe.view in wanted else probe for probe in probes
        )

    def _full(self, path: Path, album: Album, view: View) -> Look:
        if album.stride == 1:
            return look_through(album, view, self.encoder)
        # Too long a clip for its album: its file is read once more.
        times: list[float] = []
        vectors = [np.zeros((0, self.encoder.info.d), np.float32)]
        for block in _batches(self._seen(path, view), self.encoder.batch_size):
            times += [t_seconds for t_seconds, _ in block]
            vectors.append(self.encoder.encode(np.stack([picture for _, picture in block])))
        return Look(view.name, np.array(times, np.float64), np.concatenate(vectors))

    def _seen(self, path: Path, view: View) -> Iterator[tuple[float, Picture]]:
        for frame in sample_frames(path, self.sampling):
            seen = view.through(frame.image)
            if not is_blank(seen):
                yield frame.t_seconds, square(seen, self.encoder.input_side)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while block := list(itertools.islice(rest, size)):
        yield block


def views_of(album: Album) -> list[View]:
    """The views worth trying on a clip, other than that of the first look."""
    boxes = find_boxes(album.pictures)
    insets = [View(f"inset {b.left:.2f},{b.top:.2f},{b.right:.2f},{b.bottom:.2f}", b) for b in boxes]
    views = [replace(album.view, name="mirror", is_mirrored=True), *insets]
    for view in STANDING_VIEWS:
        assert view.box is not None
        if all(box.iou(view.box) < 0.8 for box in boxes):
            views.append(view)
    if not album.pictures:
        return []
    height, width = album.pictures[0].shape[:2]
    return [view for view in views if view.box is None or _pixels(view.box, height, width) >= LEAST_PIXELS]


def _pixels(box: Box, height: int, width: int) -> float:
    return min((box.right - box.left) * width, (box.bottom - box.top) * height)


def look_through(album: Album, view: View, encoder: FrameEncoder) -> Look:
    """All of the album's pictures through one view."""
    return _looks(album, [view], np.arange(len(album.pictures)), encoder)[0]


def _looks(
    album: Album, views: Sequence[View], rows: NDArray[np.int64], encoder: FrameEncoder
) -> tuple[Look, ...]:
    """The album's pictures ``rows`` through each view, all encoded at one go; blank ones are left out."""
    pictures, owner, times = [], [], []
    for number, view in enumerate(views):
        for row in rows:
            seen = view.through(album.pictures[row])
            if not is_blank(seen):
                pictures.append(square(seen, encoder.input_side))
                owner.append(number)
                times.append(album.t_seconds[row])
    d = encoder.info.d
    vectors = encoder.encode(np.stack(pictures)) if pictures else np.zeros((0, d), np.float32)
    owners, at = np.array(owner, dtype=np.int64), np.array(times, dtype=np.float64)
    return tuple(
        Look(view.name, at[owners == number], vectors[owners == number]) for number, view in enumerate(views)
    )
