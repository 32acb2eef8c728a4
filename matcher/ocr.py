"""Burned-in text: captions read off sampled frames, each told once with when it was shown.

Reading is RapidOCR's (extra ``[ocr]``): its package carries its models, so that nothing is fetched. What is
read of one frame is noisy; the same line in the frames after it is one caption, told as most frames have it.

Shape letters: ``h`` and ``w`` of a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.names import normal_form
from matcher.errors import MissingDependencyError

#: Two readings are of one line up to so many differing characters in a hundred of the longer one.
_DIFFERING_PER_CENT = 25
#: A line that is not read in this many frames one after another is over; one frame may be read badly.
_GONE_FRAMES = 2
#: Text shown in at least this share of the frames, and in at least so many of them, is persistent.
_PERSISTENT_SHARE, _PERSISTENT_FRAMES = 0.8, 5
#: How far, in heights of the picture, a line may move from one frame to the next: a subtitle that says the
#: same as a sign in the picture is another line.
_MOVED = 0.1
#: Readings below this are guesses.
_LEAST_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Line:
    """A line of text in one picture.

    Attributes:
        text: As read.
        confidence: In [0, 1].
        x: Of its middle, in widths of the picture from the left.
        y: Of its middle, in heights of the picture from the top.
    """

    text: str
    confidence: float
    x: float
    y: float


@dataclass(frozen=True)
class Caption:
    """A line of text over some time, half-open.

    Attributes:
        text: As most of the frames have it.
        start_seconds: Of the first frame that shows it.
        end_seconds: Of the first frame that no longer does.
        confidence: The mean over the frames that show it, in [0, 1].
        is_persistent: It is there nearly all the time: a logo, a watermark, a headline; not speech.
    """

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float
    is_persistent: bool = False

    def __post_init__(self) -> None:
        if not self.start_seconds < self.end_seconds:
            raise ValueError(f"a caption must last, got {self.start_seconds} to {self.end_seconds} s")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence must be in [0, 1], got {self.confidence}")


class TextReader:
    """Reads captions.

    Args:
        read_lines: Reads the lines of one (h, w, 3) uint8 sRGB picture.
    """

    def __init__(self, read_lines: Callable[[NDArray[np.uint8]], Sequence[Line]]) -> None:
        self._read_lines = read_lines

    def read(self, images: Iterable[tuple[float, NDArray[np.uint8]]]) -> list[Caption]:
        """Read sampled frames, one at a time.

        Args:
            images: Seconds, strictly ascending, and (h, w, 3) uint8 sRGB pictures of any size.

        Returns:
            See :func:`captions_of`.

        Raises:
            ValueError: A picture is of another shape, or the seconds do not ascend.
        """
        frames = []
        for t_seconds, image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"a picture must be (h, w, 3) uint8, got {image.shape} {image.dtype}")
            frames.append((t_seconds, self._read_lines(image) if image.size else ()))
        return captions_of(frames)


def captions_of(frames: Sequence[tuple[float, Sequence[Line]]]) -> list[Caption]:
    """Join the lines of frames that follow each other into captions.

    A line goes on where a frame has one at about its place whose text differs in a quarter of the characters
    at most, punctuation and capitals apart; one frame between them may lack it. Text that is there nearly all
    the time is one persistent caption, from its first frame to its last, however often its reading failed.

    Args:
        frames: Seconds, strictly ascending, and what was read there.

    Returns:
        By start, and of equals from top to bottom. A caption of the last frame ends one step, the median of
        the frames', after it; a second after the only one.

    Raises:
        ValueError: The seconds do not ascend.
    """
    seconds = [t_seconds for t_seconds, _ in frames]
    if any(after <= before for before, after in itertools.pairwise(seconds)):
        raise ValueError("the seconds of frames must strictly ascend")
    if not frames:
        return []
    step = median(b - a for a, b in itertools.pairwise(seconds)) if len(seconds) > 1 else 1.0
    ends = [*seconds[1:], seconds[-1] + step]
    tracks = _joined_where_persistent(_tracks([lines for _, lines in frames]), len(frames))
    tracks.sort(key=lambda track: (track.first, track.lines[0].y, track.lines[0].x))
    return [
        Caption(
            text=track.text,
            start_seconds=seconds[track.first],
            end_seconds=ends[track.last],
            confidence=min(1.0, sum(line.confidence for line in track.lines) / len(track.lines)),
            is_persistent=track.is_persistent,
        )
        for track in tracks
    ]


@dataclass
class _Track:
    """One line through the frames; the lines are those read, with the number of the frame of each."""

    rows: list[int]
    lines: list[Line]
    is_persistent: bool = field(default=False)

    @property
    def first(self) -> int:
        return self.rows[0]

    @property
    def last(self) -> int:
        return self.rows[-1]

    @property
    def text(self) -> str:
        """The reading that most confidence stands behind; of equals the first."""
        votes: dict[str, float] = {}
        for line in self.lines:
            votes[line.text] = votes.get(line.text, 0.0) + line.confidence
        return max(votes, key=votes.__getitem__)

    def distance(self, line: Line) -> float | None:
        """The share of differing characters of the last reading and another; None where it is no other."""
        last = self.lines[-1]
        if abs(last.y - line.y) > _MOVED:
            return None
        return reading_distance(last.text, line.text)


def _tracks(frames: Sequence[Sequence[Line]]) -> list[_Track]:
    done: list[_Track] = []
    open_: list[_Track] = []
    for row, lines in enumerate(frames):
        told = [line for line in lines if line.confidence >= _LEAST_CONFIDENCE and normal_form(line.text)]
        pairs = [
            (distance, i, j)
            for i, track in enumerate(open_)
            for j, line in enumerate(told)
            if (distance := track.distance(line)) is not None
        ]
        taken: set[int] = set()
        for _, i, j in sorted(pairs):
            if open_[i].last != row and j not in taken:
                open_[i].rows.append(row)
                open_[i].lines.append(told[j])
                taken.add(j)
        open_ += [_Track([row], [line]) for j, line in enumerate(told) if j not in taken]
        done += [track for track in open_ if row - track.last >= _GONE_FRAMES]
        open_ = [track for track in open_ if row - track.last < _GONE_FRAMES]
    return done + open_


def _joined_where_persistent(tracks: list[_Track], n_frames: int) -> list[_Track]:
    """Put the parts of text together that is there nearly all the time."""
    groups: list[list[_Track]] = []
    for track in sorted(tracks, key=lambda track: track.first):
        for group in groups:
            # One after the other, and one line: what overlaps in time is two lines.
            if group[-1].last < track.first and group[-1].distance(track.lines[0]) is not None:
                group.append(track)
                break
        else:
            groups.append([track])
    least = max(_PERSISTENT_FRAMES, _PERSISTENT_SHARE * n_frames)
    joined: list[_Track] = []
    for group in groups:
        rows = [row for track in group for row in track.rows]
        if len(rows) >= least:
            joined.append(_Track(rows, [line for track in group for line in track.lines], is_persistent=True))
        else:
            joined += group
    return joined


def reading_distance(one: str, other: str) -> float | None:
    """The share of characters in which two readings differ, or None where they are of two texts.

    Punctuation, spaces between Chinese characters and capitals count for nothing.
    """
    a, b = normal_form(one), normal_form(other)
    longer = max(len(a), len(b))
    most = longer * _DIFFERING_PER_CENT // 100
    if abs(len(a) - len(b)) > most:
        return None
    differing = _edit_distance(a, b)
    return None if differing > most else differing / max(1, longer)


def _edit_distance(a: str, b: str) -> int:
    """Levenshtein's: characters to replace, add or leave out."""
    if a == b:
        return 0
    before = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
        before = row
    return before[-1]


def load_reader(*, threads: int = 0) -> TextReader:
    """The reader of Chinese and English that the extra ``[ocr]`` brings.

    Args:
        threads: Of ONNX Runtime; 0 lets it choose.

    Raises:
        MissingDependencyError: RapidOCR is not installed, or it comes without its models.
    """
    try:
        import rapidocr
    except ImportError as error:
        raise MissingDependencyError(
            "reading burned-in text needs RapidOCR: pip install 'program-matcher[ocr]'"
        ) from error
    # Named, as what is not named is fetched.
    models = {part: _model(Path(rapidocr.__file__).parent / "models", part) for part in ("det", "rec")}
    engine = rapidocr.RapidOCR(
        params={
            "Det.model_path": models["det"],
            "Rec.model_path": models["rec"],
            # It turns lines that stand on their heads.
            "Global.use_cls": False,
            "Global.text_score": _LEAST_CONFIDENCE,
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )

    def read_lines(image: NDArray[np.uint8]) -> list[Line]:
        return _lines(engine(np.ascontiguousarray(image[:, :, ::-1])), image.shape)

    return TextReader(read_lines)


def _model(folder: Path, part: str) -> str:
    found = sorted(folder.glob(f"*_{part}_*.onnx"))
    if len(found) != 1:
        raise MissingDependencyError(
            f"this version of RapidOCR carries {len(found)} models called {part} in {folder}, wanted one:"
            " pip install 'program-matcher[ocr]' takes one that does"
        )
    return str(found[0])


def _lines(output: Any, shape: Sequence[int]) -> list[Line]:
    """What RapidOCR found in one picture; it says None for nothing."""
    if output.txts is None:
        return []
    height, width = shape[:2]
    middles = np.asarray(output.boxes, dtype=np.float64).mean(axis=1)
    return [
        Line(text, float(score), float(x) / width, float(y) / height)
        for text, score, (x, y) in zip(output.txts, output.scores, middles, strict=True)
    ]
