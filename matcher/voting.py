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
        agreement: How far votes agree in time, see :attr:`matcher.agreement.Agreement.standing`; 0 where that
            was not asked.
        is_weak: Too little speaks for it to be worth aligning.
    """

    program: int
    votes: float
    agreement: float = 0.0
    is_weak: bool = False


def collect_hits(
    similarity: NDArray[np.float32],
    program: NDArray[np.int32],
    asset: NDArray[np.int32],
    asset_seconds: NDArray[np.float64],
    *,
    floor: NDArray[np.float32],
    per_program: int,
) -> Hits:
    """Keep what counts of a search result.

    Args:
        similarity: (nq, k), any order within a row.
        program: (nq, k) positions; -1 where there is no neighbour.
        asset: (nq, k) likewise.
        asset_seconds: (nq, k).
        floor: (nq,) neighbours below their frame's are dropped.
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
    frame, column = np.nonzero((program >= 0) & (similarity >= floor[:, None]))
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


@dataclass(frozen=True)
class Ballot:
    """Each frame's best similarity in each program that it hits; what it does not hit has its level.

    Attributes:
        programs: (p,) positions of the programs that any frame hits, ascending.
        frame: (e,) row of the clip's frame, ascending.
        column: (e,) which of ``programs``.
        similarity: (e,) falling within a frame; no less than its level.
        level: (nq,) what chance gives each frame, see :mod:`matcher.background`.
    """

    programs: NDArray[np.int32]
    frame: NDArray[np.int64]
    column: NDArray[np.int64]
    similarity: NDArray[np.float32]
    level: NDArray[np.float32]


def ballot(hits: Hits, level: NDArray[np.float32]) -> Ballot:
    """The hits of all frames by program; ``level`` is (nq,)."""
    programs, column = np.unique(hits.program, return_inverse=True)
    by_program = np.lexsort((-hits.similarity, column, hits.frame))
    frame, column = hits.frame[by_program], column[by_program]
    is_best = np.ones(frame.size, dtype=bool)
    is_best[1:] = (np.diff(frame) != 0) | (np.diff(column) != 0)
    frame, column, best = frame[is_best], column[is_best], hits.similarity[by_program][is_best]
    floored = level.astype(np.float32)
    best = np.maximum(best, floored[frame])
    by_similarity = np.lexsort((column, -best, frame))
    return Ballot(programs, frame[by_similarity], column[by_similarity], best[by_similarity], floored)


def vote(ballot: Ballot, *, hub_margin: float, candidates: int) -> list[Candidate]:
    """Rank the programs by the votes of the clip's frames.

    A frame gives a program ``(s - level) / (1 - level)`` for its best similarity ``s`` there, divided by
    how many programs are within ``hub_margin`` of that or better.

    Args:
        ballot: Of one look.
        hub_margin: Programs this close count as equally close.
        candidates: At most so many are returned.

    Returns:
        Candidates by descending votes; ties go to the lower position.
    """
    n_programs = ballot.programs.size
    level = ballot.level[ballot.frame]
    excess = (ballot.similarity - level) / (1.0 - np.minimum(level, 0.999))
    near = ballot.similarity - np.float32(hub_margin)
    # How many programs reach s - hub_margin: (e,), those that the frame does not hit by its level.
    ends = np.append(np.flatnonzero(np.diff(ballot.frame)) + 1, ballot.frame.size)
    reach = np.zeros(ballot.frame.size, np.int64)
    start = 0
    for stop in ends.tolist():
        row = slice(start, stop)
        reach[row] = np.searchsorted(-ballot.similarity[row], -near[row], side="right")
        reach[row] += (level[row] >= near[row]) * (n_programs - (stop - start))
        start = stop
    shares = np.where(excess > 0, excess / np.maximum(reach, 1), 0.0)
    votes = np.bincount(ballot.column, weights=shares, minlength=n_programs)
    order = np.lexsort((ballot.programs, -votes))[:candidates]
    return [Candidate(int(ballot.programs[i]), float(votes[i])) for i in order if votes[i] > 0]


def best_rival(ballot: Ballot, program: int) -> NDArray[np.float32]:
    """What else resembles each frame: (nq,) the best similarity in any other program, or the level.

    A small catalogue has few strangers, and the best of few is no measure of chance.
    """
    best = ballot.level.copy()
    others = ballot.programs[ballot.column] != program
    frame, first = np.unique(ballot.frame[others], return_index=True)
    best[frame] = ballot.similarity[others][first]
    return best
