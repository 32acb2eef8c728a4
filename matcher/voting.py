"""From nearest neighbours of a clip's frames to candidate programs.

Every frame of the clip has one vote. It goes to the programs whose frames are close, each counted
by its best frame there, and it is split between the programs that are about equally close: what
resembles everything (a black frame, a logo, a title card) then says little about anything.

Shape letters: ``nq`` clip frames, ``k`` neighbours a frame, ``m`` hits (neighbours kept).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hits:
    """Neighbours above the floor, at most so many a program and frame; rows by frame, best first.

    Attributes:
        frame: (m,) row of the clip's frame, 0 to nq.
        program: (m,) position of the neighbour's program.
        asset: (m,) position of its asset.
        asset_seconds: (m,) its time in the asset.
        similarity: (m,) cosine.
    """

    frame: NDArray[np.int64]
    program: NDArray[np.int32]
    asset: NDArray[np.int32]
    asset_seconds: NDArray[np.float64]
    similarity: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.frame.size)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Hits:
        """The hits of ``rows``, a mask or positions."""
        return Hits(
            self.frame[rows], self.program[rows], self.asset[rows], self.asset_seconds[rows],
            self.similarity[rows],
        )  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A program that the votes speak for.

    Attributes:
        program: Its position.
        votes: Sum over the clip's frames of the share each gives it; from 0 to nq.
    """

    program: int
    votes: float


def collect_hits(
    similarity: NDArray[np.float32],
    program: NDArray[np.int32],
    asset: NDArray[np.int32],
    asset_seconds: NDArray[np.float64],
    *,
    floor: float,
    per_program: int,
) -> Hits:
    """Keep what counts of a search result.

    Args:
        similarity: (nq, k), any order within a row.
        program: (nq, k) positions; -1 where there is no neighbour.
        asset: (nq, k) likewise.
        asset_seconds: (nq, k).
        floor: Neighbours below it are dropped.
        per_program: At most so many neighbours of one program count for one frame, so that a series
            of a hundred episodes does not crowd out a film.

    Returns:
        The hits; ties go to the lower asset, then the earlier time, so the order of neighbours is
        of no consequence.

    Raises:
        ValueError: The shapes disagree.
    """
    if not similarity.shape == program.shape == asset.shape == asset_seconds.shape or similarity.ndim != 2:
        raise ValueError("similarity, program, asset and asset_seconds must be one (nq, k) shape")
    frame, column = np.nonzero((program >= 0) & (similarity >= floor))
    hits = Hits(
        frame.astype(np.int64), program[frame, column], asset[frame, column], asset_seconds[frame, column],
        similarity[frame, column],
    )  # fmt: skip
    by_program = np.lexsort((hits.asset_seconds, hits.asset, -hits.similarity, hits.program, hits.frame))
    hits = hits.select(by_program)
    hits = hits.select(_rank_in_group(hits.frame, hits.program) < per_program)
    by_similarity = np.lexsort((hits.asset_seconds, hits.asset, -hits.similarity, hits.frame))
    return hits.select(by_similarity)


def _rank_in_group(frame: NDArray[np.int64], program: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count within each run of equal (frame, program), from 0: (m,)."""
    positions = np.arange(frame.size)
    starts = np.ones(frame.size, dtype=bool)
    starts[1:] = (np.diff(frame) != 0) | (np.diff(program) != 0)
    return positions - np.maximum.accumulate(np.where(starts, positions, 0))


def frame_program_table(
    hits: Hits, nq: int, *, floor: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Each frame's best similarity in each program that it hits.

    Returns:
        (p,) positions of the programs hit, ascending, and (nq, p) similarities, ``floor`` where a
        frame has no hit there.
    """
    programs, column = np.unique(hits.program, return_inverse=True)
    table = np.full((nq, programs.size), floor, np.float32)
    np.maximum.at(table, (hits.frame, column), hits.similarity)
    return programs, table


def vote(hits: Hits, nq: int, *, floor: float, hub_margin: float, candidates: int) -> list[Candidate]:
    """Rank the programs by the votes of the clip's frames.

    A frame gives a program ``(s - floor) / (1 - floor)`` for its best similarity ``s`` there, divided by
    how many programs are within ``hub_margin`` of that or better.

    Args:
        hits: Of all frames.
        nq: Frames of the clip.
        floor: As in :func:`collect_hits`.
        hub_margin: Programs this close count as equally close.
        candidates: At most so many are returned.

    Returns:
        Candidates by descending votes; ties go to the lower position.
    """
    programs, table = frame_program_table(hits, nq, floor=floor)
    excess = (table - floor) / (1.0 - floor)
    ordered = -np.sort(-table, axis=1)
    # How many programs reach s - hub_margin: (nq, p), counted in the ordered row.
    reach = np.zeros(table.shape, np.int64)
    for row, (own, best) in enumerate(zip(table, ordered, strict=True)):
        reach[row] = np.searchsorted(-best, -(own - hub_margin), side="right")
    votes = np.where(excess > 0, excess / np.maximum(reach, 1), 0.0).sum(axis=0, dtype=np.float64)
    order = np.lexsort((programs, -votes))[:candidates]
    return [Candidate(int(programs[i]), float(votes[i])) for i in order if votes[i] > 0]


def best_rival(hits: Hits, nq: int, program: int, *, floor: float, background: float) -> NDArray[np.float32]:
    """What else resembles each frame: (nq,) the best similarity in any other program.

    It counts no less than ``background``, what a stranger commonly reaches in a large catalogue: a
    small catalogue has few strangers, and the best of few is no measure of chance.
    """
    programs, table = frame_program_table(hits, nq, floor=floor)
    others = table[:, programs != program]
    best: NDArray[np.float32] = others.max(axis=1, initial=background).astype(np.float32)
    return best
