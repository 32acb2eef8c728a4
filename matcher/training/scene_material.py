"""What a scene encoder learns from: labelled stretches of files, listened to, and split by file.

A stretch that cannot be used is said and left out; the rest goes on. Two stretches of one file share its
voices, its room and its microphone, so that whole files stand on one side of the split.

Shape letters: ``f`` files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.decode import read_pieces
from matcher.decode_sound import SoundPiece
from matcher.errors import InputError
from matcher.inputs import Refused, SoundJob, listed, one_line
from matcher.sound import COLUMN_SECONDS
from matcher.training.scene import LEAST_COLUMNS, Stretch, says_something

#: A stretch may end so much after its file's sound: what people read off a player is no more exact.
_SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class HeardFile:
    """One file and what is labelled of it.

    Attributes:
        path: The file.
        stretches: At least one; a row has several where the sound has gaps.
    """

    path: Path
    stretches: tuple[Stretch, ...]

    @property
    def labels(self) -> frozenset[str]:
        """Its classes."""
        return frozenset(stretch.label for stretch in self.stretches)


@dataclass(frozen=True)
class SceneMaterial:
    """What was heard.

    Attributes:
        labels: The labels file.
        files: Those with a stretch that can be used, in the order of their first row.
        n_rows: Rows of the labels file.
        n_refused: Those that were left out.
        said: A line for each thing that left rows out.
    """

    labels: Path
    files: tuple[HeardFile, ...]
    n_rows: int
    n_refused: int
    said: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """By name."""
        return tuple(sorted({label for file in self.files for label in file.labels}))

    def check(self) -> None:
        """Stop where nothing can be learned.

        Raises:
            InputError: No row can be used, or all that can be are of one class.
        """
        name = one_line(str(self.labels))
        if not self.files:
            raise InputError(f"no row of {name} can be used; nothing was written")
        if len(self.classes) < 2:
            raise InputError(
                f"all usable rows of {name} are of one class, {one_line(self.classes[0])}; label stretches of"
                " at least two; nothing was written"
            )


def files_of(rows: Sequence[SoundJob | Refused]) -> dict[Path, list[SoundJob]]:
    """The rows that can be used by file, in the order of the files' first rows; links are followed."""
    by_file: dict[Path, list[SoundJob]] = {}
    for row in rows:
        if isinstance(row, SoundJob):
            by_file.setdefault(row.path.resolve(), []).append(row)
    return by_file


def listen(
    labels: Path, rows: Sequence[SoundJob | Refused], *, on_file: Callable[[Path], None] | None = None
) -> SceneMaterial:
    """Read the sound of every file once, and cut out what is labelled.

    Args:
        labels: The file that the rows are of, for what is said.
        rows: From :func:`matcher.inputs.read_sound_rows`.
        on_file: Called when a file is done with.
    """
    refused = [(1, row.message) for row in rows if isinstance(row, Refused)]
    files: list[HeardFile] = []
    for path, jobs in files_of(rows).items():
        stretches, bad = _heard(one_line(str(labels)), path, jobs)
        refused += bad
        if stretches:
            files.append(HeardFile(path, tuple(stretches)))
        if on_file is not None:
            on_file(path)
    n_refused = sum(n for n, _ in refused)
    return SceneMaterial(labels, tuple(files), len(rows), n_refused, tuple(line for _, line in refused))


def _heard(labels: str, path: Path, jobs: Sequence[SoundJob]) -> tuple[list[Stretch], list[tuple[int, str]]]:
    """The stretches of one file; and how many rows cannot be used, and why."""
    try:
        pieces = _pieces(path)
    except InputError as error:
        return [], [(len(jobs), f"{labels} row {listed([str(job.row) for job in jobs])}: {error}")]
    stretches: list[Stretch] = []
    refused = []
    for job in jobs:
        try:
            stretches += cut(pieces, job)
        except InputError as error:
            refused.append((1, f"{labels} row {job.row}: {error}"))
    return stretches, refused


def _pieces(path: Path) -> list[SoundPiece]:
    """The sound of a file.

    Raises:
        InputError: It cannot be read, or has none.
    """
    pieces = read_pieces(path)
    if not pieces:
        raise InputError(f"{one_line(str(path))} has no sound; give a file with a sound track")
    return pieces


def cut(pieces: Sequence[SoundPiece], job: SoundJob) -> list[Stretch]:
    """The stretch that a row labels: one for each piece of the sound that it reaches into.

    Args:
        pieces: Of the file, at least one.
        job: The row.

    Raises:
        InputError: It lies outside of the sound, or no second of it says anything.
    """
    parts = list(_parts(pieces, job))
    found = [Stretch(part.copy(), job.label) for part in parts if says_something(part)]
    if found:
        return found
    span = f"{one_line(str(job.path))} from {job.start_seconds:g} s on"
    if max((len(part) for part in parts), default=0) < LEAST_COLUMNS:
        raise InputError(f"the sound of {span} is shorter than a second; label a longer stretch")
    raise InputError(f"the sound of {span} is silent; label where something is heard")


def _parts(pieces: Sequence[SoundPiece], job: SoundJob) -> Iterator[NDArray[np.float32]]:
    """(c, 64) columns of each piece that are within the stretch."""
    ends = [piece.start_seconds + len(piece.columns) * COLUMN_SECONDS for piece in pieces]
    first, last = pieces[0].start_seconds, max(ends)
    is_late = np.isfinite(job.end_seconds) and job.end_seconds > last + _SLACK_SECONDS
    if job.start_seconds >= last or job.end_seconds <= first or is_late:
        raise InputError(
            f"from {job.start_seconds:g} to {job.end_seconds:g} s is outside of the sound of"
            f" {one_line(str(job.path))}, which runs from {max(0.0, first):.1f} to {last:.1f} s; correct the"
            " times"
        )
    for piece, end in zip(pieces, ends, strict=True):
        start, stop = max(job.start_seconds, piece.start_seconds), min(job.end_seconds, end)
        begin = round((start - piece.start_seconds) / COLUMN_SECONDS)
        if start < stop:
            yield piece.columns[begin : begin + round((stop - start) / COLUMN_SECONDS)]


def hold_out(labels: Sequence[AbstractSet[str]], *, share: float, seed: int) -> NDArray[np.bool_]:
    """Draw the files to judge by.

    Of each class about ``share`` of its files, rounded, but at least one, and one is always left to learn
    from: a class of one file has none held out. A file of several classes counts for each of them.

    Args:
        labels: (f,) the classes of each file.
        share: From 0 (none) to below 1.
        seed: Of the draw.

    Returns:
        (f,) which files are held out.
    """
    is_held_out = np.zeros(len(labels), bool)
    left = Counter(label for own in labels for label in own)
    if not share:
        return is_held_out
    missing = {label: min(n - 1, max(1, round(share * n))) for label, n in left.items()}
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    # The rarest class first: what is drawn for the others may hold files of it.
    for label in sorted(left, key=lambda name: (left[name], name)):
        for place in order:
            own = labels[place]
            is_free = not is_held_out[place] and all(left[name] > 1 for name in own)
            if label in own and missing[label] > 0 and is_free:
                is_held_out[place] = True
                left.subtract(own)
                missing = {name: n - (name in own) for name, n in missing.items()}
    return is_held_out
