"""Votes that agree in time: the places that many rows of a look point to together.

Under louder music the right neighbour of a patch of sound is one among many, and rarely the nearest: votes
by program drown in chance. But right neighbours lie on one line ``asset = speed * clip + offset``, which
chance hits only with a few. The lines that gather most votes are then measured whole: the mean similarity of
*all* rows on the line, those whose neighbours were not found too. Chance averages out over twenty patches,
and what is faintly there in each of them stays.

Shape letters: ``nq`` rows of the look, ``m`` hits, ``nr`` rows of an asset in the band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matcher.elsewhere import BandReader
from matcher.lines import OTHER_SPEED_PENALTY, Line
from matcher.voting import Candidate, Hits

#: Speeds that are tried: so close that a clip of ten seconds drifts a third of a second to either side at
#: most. A longer one at a speed between two agrees in part, and is found by its votes.
SPEEDS = (1.0, 0.8, 0.86, 0.93, 1.08, 1.16, 1.25, 1.36, 1.5)
#: Hits whose offsets fall into one cell of this width agree; cells overlap by half.
CELL_SECONDS = 0.5
#: Lines that are measured, each of another program; and where a rough answer will do.
LINES, FEW_LINES = 40, 15
#: A program whose line has less than both of these, of standing and of votes, is not worth aligning: three in
#: four unknown clips have none beyond. Votes count, since a montage agrees with each of its programs in part.
LEAST_STANDING, LEAST_VOTES = 0.8, 0.12
#: A line is moved so far to either side, in such steps, and the best counts.
SHIFT_SECONDS, SHIFT_STEP_SECONDS = 0.5, 0.1
#: So much of the asset around a line is read.
AROUND_SECONDS = SHIFT_SECONDS + 0.1
#: Of an asset at most so many rows are compared, evenly spread: more tell a clip of hours no better.
MOST_ROWS = 1000
#: Times that differ by less are one.
ROUNDING_SECONDS = 0.01


@dataclass(frozen=True)
class Agreement:
    """The line of one program that the look agrees with best.

    Attributes:
        program: Its position.
        asset: Position of the asset.
        line: From clip time to asset time; its score is its votes.
        similarity: Mean cosine of the asset's rows with the look's of the same moments, see :func:`measured`.
        standing: The same times the root of how many rows that is of: what chance reaches is then about 0.7,
            in a short look as in a long one.
    """

    program: int
    asset: int
    line: Line
    similarity: float
    standing: float


def agreements(
    seconds: NDArray[np.float64],
    vectors: NDArray[np.float32],
    hits: Hits,
    level: NDArray[np.float32],
    read_band: BandReader,
    *,
    speeds: Sequence[float] = SPEEDS,
    most: int = LINES,
) -> list[Agreement]:
    """The programs that some rows of a look point to, each at its best line.

    Args:
        seconds: (nq,) times of the look's rows.
        vectors: (nq, d) their descriptors.
        hits: Of the look, at any programs.
        level: (nq,) what chance gives each row.
        read_band: Gives the rows of an asset between two times.
        speeds: Of lines; the first has no handicap.
        most: Lines that are measured.

    Returns:
        By descending standing; ties go to the lower program.
    """
    found = []
    for program, asset, line in voted_lines(seconds, hits, level, speeds=speeds, most=most):
        ends = line.at(seconds[[0, -1]])
        times, band = read_band(asset, float(ends[0]) - AROUND_SECONDS, float(ends[1]) + AROUND_SECONDS)
        if times.size:
            moved, similarity, root = measured(seconds, vectors, line, times, band)
            found.append(Agreement(program, asset, moved, similarity, similarity * root))
    return sorted(found, key=lambda one: (-one.standing, one.program))


def voted_lines(
    seconds: NDArray[np.float64],
    hits: Hits,
    level: NDArray[np.float32],
    *,
    speeds: Sequence[float] = SPEEDS,
    most: int = LINES,
) -> list[tuple[int, int, Line]]:
    """Program, asset and line of the heaviest cell of each of ``most`` programs, heaviest first.

    A cell weighs the squared excess over chance of each row's best hit in it, less at other speeds than the
    first.
    """
    if len(hits) == 0:
        return []
    assets, column = np.unique(hits.asset, return_inverse=True)
    weights = (hits.similarity - level[hits.frame]).astype(np.float64) ** 2
    # Best hits of a row first, as `_heaviest_cells` takes them.
    order = np.lexsort((-weights, hits.frame))
    row, column, weights = hits.frame[order], column[order], weights[order]
    clip, there = seconds[row], hits.asset_seconds[order]
    # (speeds, assets)
    by_speed = [_heaviest_cells(there - speed * clip, row, column, weights, assets.size) for speed in speeds]
    offsets, totals = (np.stack(part) for part in zip(*by_speed, strict=True))
    totals[1:] *= OTHER_SPEED_PENALTY
    fastest = totals.argmax(axis=0)
    best = totals[fastest, np.arange(assets.size)]
    program_of = dict(zip(hits.asset.tolist(), hits.program.tolist(), strict=True))
    found: dict[int, tuple[int, int, Line]] = {}
    for i in np.argsort(-best, kind="stable"):
        asset = int(assets[i])
        program = program_of[asset]
        if program not in found:
            line = Line(speeds[fastest[i]], float(offsets[fastest[i], i]), float(best[i]))
            found[program] = program, asset, line
        if len(found) == most:
            break
    return list(found.values())


def _heaviest_cells(
    offsets: NDArray[np.float64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    weights: NDArray[np.float64],
    n_assets: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each asset the middle of its heaviest cell of offsets, and that cell's weight.

    Args:
        offsets: (m,) of each hit from the line through 0.
        row: (m,) of the look, ascending.
        column: (m,) number of the hit's asset.
        weights: (m,) falling within a row.
        n_assets: How many there are, each with a hit.
    """
    half = 0.5 * CELL_SECONDS
    begins = np.floor(offsets / half).astype(np.int64)
    lowest = int(begins.min()) - 1
    width = int(begins.max()) - lowest + 1
    n_rows = int(row[-1]) + 1
    # Every hit is in the cell that begins at its half, and in the one before: (m, 2), hits in their order.
    cell = column[:, None] * width + begins[:, None] - lowest - np.array([0, 1])
    key = (cell * n_rows + row[:, None]).ravel()
    by_key = np.argsort(key, kind="stable")
    first = by_key[np.flatnonzero(np.r_[True, np.diff(key[by_key]) != 0])]  # the best of its row in the cell
    names = key[first] // n_rows
    starts = np.flatnonzero(np.r_[True, np.diff(names) != 0])
    names, totals = names[starts], np.add.reduceat(weights[first // 2], starts)
    owner = names // width
    # The last of an asset's cells, ordered by weight, is its heaviest; of equal ones the earliest.
    ordered = np.lexsort((-names, totals, owner))
    last = ordered[np.searchsorted(owner[ordered], np.arange(n_assets), side="right") - 1]
    return (names[last] % width + lowest + 1.0) * half, totals[last]


def measured(
    seconds: NDArray[np.float64],
    vectors: NDArray[np.float32],
    line: Line,
    times: NDArray[np.float64],
    band: NDArray[np.float32],
) -> tuple[Line, float, float]:
    """Move a line to where the look resembles the asset most.

    Each of the asset's rows is compared with the look's row of the same moment, for the look's lie closer:
    a patch of sound a quarter of a second off resembles itself but half.

    Args:
        seconds: (nq,) times of the look's rows, ascending, nq at least 1.
        vectors: (nq, d) their descriptors.
        line: From clip time to asset time.
        times: (nr,) of the asset's rows around the line, ascending.
        band: (nr, d) their descriptors.

    Returns:
        The line, the mean similarity and the root of how many rows that is of, if the asset has any for more
        than half of the look; else as if it had them for half of it, and resembled nothing there.
    """
    if times.size > MOST_ROWS:
        some = np.linspace(0, times.size - 1, MOST_ROWS).astype(np.int64)
        times, band = times[some], band[some]
    shifts = np.arange(-SHIFT_SECONDS, SHIFT_SECONDS + 1e-9, SHIFT_STEP_SECONDS)
    # (shifts, nr) clip times at which the asset's rows are heard.
    heard = (times - line.offset_seconds - shifts[:, None]) / line.speed
    step = float(np.median(np.diff(seconds))) if seconds.size > 1 else 0.0
    near = 0.5 * step + ROUNDING_SECONDS
    after = np.minimum(np.searchsorted(seconds, heard), seconds.size - 1)
    before = np.maximum(after - 1, 0)
    row = np.where(heard - seconds[before] < seconds[after] - heard, before, after)
    # s shifts, r rows of the asset, d dimensions
    values = np.einsum("srd,rd->sr", vectors[row], band)
    values[np.abs(seconds[row] - heard) > near] = 0.0
    inside = (heard >= seconds[0] - near) & (heard <= seconds[-1] + near)
    values[~inside] = 0.0
    gap = float(np.median(np.diff(times))) if times.size > 1 else 1.0
    expected = 1.0 + (seconds[-1] - seconds[0]) * line.speed / max(gap, 1e-3)
    counts = np.maximum(inside.sum(axis=1), 0.5 * expected)
    sums = values.sum(axis=1)
    best = int(np.argmax(sums / counts))
    moved = Line(line.speed, line.offset_seconds + float(shifts[best]), line.score)
    return moved, float(sums[best] / counts[best]), float(np.sqrt(counts[best]))


def rank_agreed(agreed: Sequence[Agreement], voted: Sequence[Candidate], most: int) -> list[Candidate]:
    """The programs that are worth aligning, and after them those with most votes, as guesses.

    Args:
        agreed: From :func:`agreements`.
        voted: All programs that have votes, by descending votes.
        most: So many of those that agree best, so many of those whose line has most votes, and so many
            altogether where these are fewer.
    """
    votes = {one.program: one for one in voted}
    by_votes = sorted(agreed, key=lambda one: (-one.line.score, one.program))
    strong = [
        one
        for one in dict.fromkeys([*agreed[:most], *by_votes[:most]])
        if one.standing >= LEAST_STANDING or one.line.score >= LEAST_VOTES
    ]
    ranked = [
        replace(votes.get(one.program, Candidate(one.program, 0.0)), agreement=one.standing) for one in strong
    ]
    named = {one.program for one in ranked}
    guesses = [replace(one, is_weak=True) for one in voted if one.program not in named]
    return ranked + guesses[: max(0, most - len(ranked))]
