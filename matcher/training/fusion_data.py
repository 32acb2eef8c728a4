"""What the clip model learns from: features by clip, and what is known of each.

Shape letters: ``N`` clips, ``B`` of them in a batch, ``C`` classes of a head, ``P``, ``Q`` and ``R``
dimensions of picture, sound and text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.errors import InputError
from matcher.fusion.batch import ClipBatch
from matcher.fusion.features import ClipFeatures
from matcher.training.packed_clips import PackedClips

#: A clip whose program nobody knows; two of them are not of the same one.
NO_PROGRAM = -1


class ClipSource(Protocol):
    """Features of N clips, by position."""

    def __len__(self) -> int:
        """N."""
        ...

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """P, Q and R."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> ClipBatch:
        """The clips at ``rows`` (B,), in that order; consecutive blocks are cheap."""
        ...


class ArraySource:
    """Clips that lie in memory.

    Args:
        clips: N of them; they are copied.
        dimensions: P, Q and R.
        dtype: float32, or float16 for half the memory.

    Raises:
        ValueError: An array has other dimensions.
    """

    def __init__(
        self, clips: Sequence[ClipFeatures], dimensions: Sequence[int], *, dtype: type = np.float32
    ) -> None:
        self._clips = PackedClips.of(clips, dimensions=dimensions, dtype=dtype)

    @classmethod
    def packed(cls, clips: PackedClips) -> ArraySource:
        """Of arrays that are packed already; they are not copied."""
        source = cls.__new__(cls)
        source._clips = clips
        return source

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """P, Q and R."""
        return self._clips.dimensions

    def batch(self, rows: NDArray[np.int64]) -> ClipBatch:
        """The clips at ``rows`` (B,)."""
        return self._clips.batch(rows)


@dataclass(frozen=True)
class ClassLists:
    """Which of C classes each of N clips has, where a table (N, C) would be mostly zeros.

    Attributes:
        starts: (N + 1,) int64: the classes of clip i are ``classes[starts[i]:starts[i + 1]]``.
        classes: Class indices, int64.
        n_classes: C.

    Raises:
        ValueError: A class is out of range, or the starts do not run from 0 to the number of classes given.
    """

    starts: NDArray[np.int64]
    classes: NDArray[np.int64]
    n_classes: int

    def __post_init__(self) -> None:
        if self.starts[:1].tolist() != [0] or self.starts[-1] != len(self.classes):
            raise ValueError(f"starts must run from 0 to {len(self.classes)}")
        if (np.diff(self.starts) < 0).any():
            raise ValueError("starts must not fall")
        if ((self.classes < 0) | (self.classes >= self.n_classes)).any():
            raise ValueError(f"classes must be from 0 to {self.n_classes - 1}")

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, lists: Sequence[Sequence[int] | None], n_classes: int) -> ClassLists:
        """Of one list a clip; None counts as empty."""
        starts = np.cumsum([0, *(len(one or ()) for one in lists)], dtype=np.int64)
        classes = np.array([c for one in lists for c in one or ()], np.int64)
        return cls(starts, classes, n_classes)

    def dense(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The table (B, C) of ones and zeros of the clips at ``rows`` (B,)."""
        counts = self.starts[rows + 1] - self.starts[rows]
        table = np.zeros((len(rows), self.n_classes), np.float32)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        classes = self.classes[np.repeat(self.starts[rows], counts) + within]
        table[np.repeat(np.arange(len(rows)), counts), classes] = 1.0
        return table

    def class_counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the clips at ``rows`` have each class: (C,)."""
        total = np.zeros(self.n_classes, np.int64)
        for start in range(0, len(rows), 65536):
            total += self.dense(rows[start : start + 65536]).sum(axis=0).astype(np.int64)
        return total


Answers = NDArray[np.float32] | ClassLists


@dataclass(frozen=True)
class Targets:
    """What is known of N clips.

    Attributes:
        values: By head (N, C) in [0, 1], or class lists.
        known: By head (N,) bool, false where nobody knows the answer; a head not named is known of all.
        program: (N,) int64, the number of each clip's program; :data:`NO_PROGRAM` where nobody knows.

    Raises:
        ValueError: The parts are not of the same number of clips, or a known value is not in [0, 1].
    """

    values: Mapping[str, Answers]
    known: Mapping[str, NDArray[np.bool_]]
    program: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.program)
        for name, values in self.values.items():
            if len(values) != n or len(self.known_of(name)) != n:
                raise ValueError(f"targets {name!r} are of {len(values)} clips, the programs of {n}")
            if isinstance(values, ClassLists):
                continue
            answers = values[self.known_of(name)]
            if values.ndim != 2 or not ((answers >= 0) & (answers <= 1)).all():
                raise ValueError(f"targets {name!r} must be (N, C) and, where known, in [0, 1]")
        if not self.known.keys() <= self.values.keys():
            raise ValueError(f"known are {sorted(self.known)}, the targets {sorted(self.values)}")

    def __len__(self) -> int:
        return len(self.program)

    @classmethod
    def of_classes(
        cls,
        classes: Mapping[str, Sequence[Sequence[int] | None]],
        n_classes: Mapping[str, int],
        program: NDArray[np.int64],
    ) -> Targets:
        """Of class indices by head, one list a clip; None where nobody knows."""
        return cls(
            {name: ClassLists.of(lists, n_classes[name]) for name, lists in classes.items()},
            {name: np.array([one is not None for one in lists], bool) for name, lists in classes.items()},
            program,
        )

    @classmethod
    def of_programs(cls, program: NDArray[np.int64]) -> Targets:
        """Nothing but the programs: enough for a self-supervised start."""
        return cls({}, {}, program)

    @property
    def n_classes(self) -> dict[str, int]:
        """C by head."""
        return {
            name: values.n_classes if isinstance(values, ClassLists) else values.shape[1]
            for name, values in self.values.items()
        }

    def known_of(self, head: str) -> NDArray[np.bool_]:
        """(N,) bool of one head."""
        found = self.known.get(head)
        return np.ones(len(self.program), bool) if found is None else found

    def dense(self, head: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, C) of one head; zeros where nobody knows."""
        values = self.values[head]
        if isinstance(values, ClassLists):
            return values.dense(rows)
        return np.where(self.known_of(head)[rows, None], values[rows], 0.0).astype(np.float32)

    def tensors(self, rows: NDArray[np.int64]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """By head (B, C) and what is known (B,), as :func:`~matcher.fusion.clip_model.summed_loss` takes."""
        values = {name: torch.from_numpy(self.dense(name, rows)) for name in self.values}
        return values, {name: torch.from_numpy(self.known_of(name)[rows]) for name in self.values}

    def class_counts(self, head: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the clips at ``rows`` are known to have each class: (C,)."""
        rows = rows[self.known_of(head)[rows]]
        values = self.values[head]
        if isinstance(values, ClassLists):
            return values.class_counts(rows)
        counts: NDArray[np.int64] = (values[rows] > 0.5).sum(axis=0)
        return counts


@dataclass(frozen=True)
class Labelled:
    """Clips to learn from, or to be judged by: some rows of a source.

    Attributes:
        source: Features of N clips.
        targets: Of the same clips.
        rows: Which of them, int64; all where None.
        weights: How often each of them is shown in an epoch, on average; once where None.

    Raises:
        ValueError: Source and targets are not of the same clips, a row is not among them, or the weights are
            not one a row and at least 0.
    """

    source: ClipSource
    targets: Targets
    rows: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if len(self.source) != len(self.targets):
            raise ValueError(f"features of {len(self.source)} clips and targets of {len(self.targets)}")
        positions = self.positions
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self.source)):
            raise ValueError(f"rows must be from 0 to {len(self.source) - 1}")
        if self.weights is not None and (self.weights.shape != positions.shape or (self.weights < 0).any()):
            raise ValueError(f"weights must be one a row ({len(positions)}) and at least 0")

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Rows of the source, int64."""
        return np.arange(len(self.source)) if self.rows is None else self.rows

    def batch(self, rows: NDArray[np.int64]) -> ClipBatch:
        """Features of some rows of the source (not of :attr:`rows`)."""
        return self.source.batch(rows)


def split_by_program(
    program: NDArray[np.int64], *, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold whole programs out: clips of one program are too alike to judge by what was learned from another.

    Args:
        program: (N,) of each clip. One whose program nobody knows counts as a program of its own.
        share: Of the programs to hold out, between 0 and 1; at least one is, and one is not.
        seed: Draws them.

    Returns:
        Rows to learn from and rows held out, both ascending.

    Raises:
        InputError: There are fewer than two programs.
        ValueError: The share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    own = np.where(program == NO_PROGRAM, -1 - np.arange(len(program), dtype=np.int64), program)
    programs, of_clip = np.unique(own, return_inverse=True)
    if len(programs) < 2:
        raise InputError(
            "all clips are of one program: none can be held out to judge by; give clips of two or more"
        )
    count = min(max(1, round(share * len(programs))), len(programs) - 1)
    is_held_out = np.zeros(len(programs), bool)
    is_held_out[np.random.default_rng(seed).permutation(len(programs))[:count]] = True
    return np.flatnonzero(~is_held_out[of_clip]), np.flatnonzero(is_held_out[of_clip])
