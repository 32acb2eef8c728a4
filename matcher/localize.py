"""From a candidate's hits to aligned segments: which stretch of the clip is which stretch of an asset.

An edit at constant speed puts the hits of a true match on a line ``asset = speed * clip + offset``.
:func:`find_lines` finds such lines by Hough voting over a grid of speeds; the best line is then
refined on the full similarity band around it and cut into runs.

Shape letters: ``m`` hits, ``nq`` clip frames, ``nr`` asset frames in the band.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from matcher.voting import Hits

MIN_SPEED = 0.5
MAX_SPEED = 2.0
#: Speeds this close to 1 are taken as 1: the clock of a re-encoding is exact.
UNIT_SPEED_BAND = 0.03
#: A line at another speed must beat the one at speed 1 by this factor: most clips are not sped up.
OTHER_SPEED_PENALTY = 0.92
#: Hits this far off the line still belong to it, at a reference of one frame a second or denser.
TOLERANCE_SECONDS = 1.0
#: Bins of offsets begin this many times a tolerance: a line's hits lose at most a part of them to an edge.
STRIDES = 4
#: A line at another speed than 1 must pass so many different frames of the asset: through two goes any.
OTHER_SPEED_FRAMES = 4
#: A run of the clip without evidence longer than this ends a segment.
MAX_GAP_SECONDS = 3.0
#: A frame this much less similar than its segment's median is not part of it.
RUN_DROP = 0.12
#: A frame that resembles another program this much more than this one is not part of the match: in a
#: montage it belongs to that one.
RIVAL_MARGIN = 0.03
#: With fewer frames a segment cannot place a line of its own.
SPLINTER_FRAMES = 3
#: At most so many segments are looked for in one candidate.
MAX_SEGMENTS = 6

Times = TypeVar("Times", float, NDArray[np.float64])
#: ``(asset, start_seconds, stop_seconds) -> (nr,) times, (nr, d) descriptors`` in time order.
BandReader = Callable[[int, float, float], tuple[NDArray[np.float64], NDArray[np.float32]]]


@dataclass(frozen=True)
class Line:
    """``asset_seconds = speed * clip_seconds + offset_seconds`` with its weight of hits."""

    speed: float
    offset_seconds: float
    score: float

    def at(self, clip_seconds: Times) -> Times:
        """Asset times of clip times, or of one."""
        return self.speed * clip_seconds + self.offset_seconds


@dataclass(frozen=True)
class Match:
    """A stretch of the clip aligned with a stretch of an asset, half-open, in seconds.

    Attributes:
        asset: Position of the asset.
        clip_start_seconds: First clip time that matches.
        clip_end_seconds: Where the match ends.
        line: From clip time to asset time.
        frames: Rows of the clip's frames that were compared, ascending: those that show the moments of the
            asset's samples.
        similarities: Their cosines on the line.
        run: Rows of all the clip's frames that match, ascending.
        run_similarities: Their cosines on the line.
    """

    asset: int
    clip_start_seconds: float
    clip_end_seconds: float
    line: Line
    frames: NDArray[np.int64]
    similarities: NDArray[np.float32]
    run: NDArray[np.int64]
    run_similarities: NDArray[np.float32]

    @property
    def asset_start_seconds(self) -> float:
        """Where it starts in the asset."""
        return max(0.0, self.line.at(self.clip_start_seconds))

    @property
    def asset_end_seconds(self) -> float:
        """Where it ends in the asset."""
        return max(0.0, self.line.at(self.clip_end_seconds))


def speed_grid(duration_seconds: float, tolerance_seconds: float) -> NDArray[np.float64]:
    """Speeds from 0.5 to 2, 1 among them, so close that none is off by the tolerance at the clip's ends.

    Steps are between 1.1 and 9 %: beyond three minutes, at a tolerance of a second, a sped-up clip is
    found in part, and the refinement and the next segments take up the rest.
    """
    step = max(np.log(2.0) / 64, min(np.log(2.0) / 8, 2 * tolerance_seconds / max(duration_seconds, 1e-9)))
    half = int(np.ceil(np.log(MAX_SPEED) / step))
    exponents = np.linspace(-1.0, 1.0, 2 * half + 1)
    speeds: NDArray[np.float64] = np.exp(exponents * np.log(MAX_SPEED))
    return speeds


def find_line(
    clip_seconds: NDArray[np.float64],
    asset_seconds: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    tolerance_seconds: float,
) -> Line | None:
    """The line that most hits lie on, by weight; each clip time counts once, with its best hit.

    Offsets are voted for in overlapping bins of twice the tolerance, so a line's hits that agree
    within the tolerance always share a bin. :func:`brute_force_line` says the same without bins.

    Args:
        clip_seconds: (m,) of each hit.
        asset_seconds: (m,).
        weights: (m,) positive.
        tolerance_seconds: How far from the line a hit may lie.

    Returns:
        The heaviest line, centred on its hits; None without hits. Ties go to the speed nearest 1,
        then to the earlier offset.
    """
    if clip_seconds.size == 0:
        return None
    times, row = np.unique(clip_seconds, return_inverse=True)
    frame = np.unique(asset_seconds, return_inverse=True)[1]
    best: Line | None = None
    speeds = speed_grid(float(np.ptp(times)), tolerance_seconds)
    for speed in speeds[np.argsort(np.abs(np.log(speeds)), kind="stable")]:
        offsets = asset_seconds - speed * clip_seconds
        is_other = abs(speed - 1.0) >= 1e-9
        needed = OTHER_SPEED_FRAMES if is_other else 1
        low, score = _heaviest_bin(offsets, row, frame, weights, tolerance_seconds, least_frames=needed)
        score *= OTHER_SPEED_PENALTY if is_other else 1.0
        if score > 0 and (best is None or score > best.score * (1 + 1e-9)):
            inside = (offsets >= low) & (offsets < low + 2 * tolerance_seconds)
            centre = float(np.average(offsets[inside], weights=weights[inside]))
            best = Line(float(speed), centre, float(score))
    return best


def _heaviest_bin(
    offsets: NDArray[np.float64],
    row: NDArray[np.int64],
    frame: NDArray[np.int64],
    weights: NDArray[np.float64],
    tolerance: float,
    *,
    least_frames: int,
) -> tuple[float, float]:
    """Lower edge and weight of the best bin of width 2 * tolerance, at strides of a part of the tolerance.

    Each clip time (``row``) counts once in a bin, with its best hit; a bin with fewer than
    ``least_frames`` different asset frames (``frame``) weighs nothing.
    """
    stride = tolerance / STRIDES
    cell = np.floor(offsets / stride).astype(np.int64)
    shifts = np.arange(2 * STRIDES)
    names, column = np.unique(cell[None, :] - shifts[:, None], return_inverse=True)
    column = column.ravel()
    # The best hit of each (bin, clip time): the greatest of its group once sorted.
    n_rows = int(row.max()) + 1
    group = column * n_rows + np.tile(row, shifts.size)
    order = np.argsort(group, kind="stable")
    group = group[order]
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    best = np.maximum.reduceat(np.tile(weights, shifts.size)[order], first)
    totals = np.bincount(group[first] // n_rows, weights=best, minlength=names.size)
    if least_frames > 1:
        n_frames = int(frame.max()) + 1
        pairs = np.unique(column * n_frames + np.tile(frame, shifts.size))
        totals[np.bincount(pairs // n_frames, minlength=names.size) < least_frames] = 0.0
    winner = int(np.argmax(totals))
    return float(names[winner] * stride), float(totals[winner])


def brute_force_line(
    clip_seconds: NDArray[np.float64],
    asset_seconds: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    tolerance_seconds: float,
) -> float:
    """Specification of :func:`find_line`'s score: every speed, a window begun at every hit."""
    best = 0.0
    for speed in speed_grid(float(np.ptp(clip_seconds)), tolerance_seconds):
        offsets = asset_seconds - speed * clip_seconds
        for low in offsets:
            inside = (offsets >= low) & (offsets < low + 2 * tolerance_seconds)
            if abs(speed - 1.0) >= 1e-9 and np.unique(asset_seconds[inside]).size < OTHER_SPEED_FRAMES:
                continue
            score = sum(
                float(weights[inside & (clip_seconds == t)].max()) for t in np.unique(clip_seconds[inside])
            )
            best = max(best, score * (1.0 if abs(speed - 1.0) < 1e-9 else OTHER_SPEED_PENALTY))
    return best


def localize(
    clip_seconds: NDArray[np.float64],
    clip_vectors: NDArray[np.float32],
    hits: Hits,
    read_band: BandReader,
    *,
    floor: float,
    rival: NDArray[np.float32],
    clip_end_seconds: float,
) -> list[Match]:
    """Align one candidate: its heaviest line first, then what the frames left over agree on.

    Args:
        clip_seconds: (nq,) times of the clip's frames.
        clip_vectors: (nq, d) their descriptors.
        hits: Of one program.
        read_band: Gives the frames of an asset between two times.
        floor: Similarity below which a frame does not match.
        rival: (nq,) similarity of each frame to the best other program; a match holds no run of frames
            that resemble another one clearly more.
        clip_end_seconds: Where the clip ends; no match goes beyond.

    Returns:
        Matches that share no frame, by clip time.
    """
    matches: list[Match] = []
    left = np.ones(clip_seconds.size, dtype=bool)
    for _ in range(MAX_SEGMENTS):
        rest = hits.select(left[hits.frame])
        found = _best_line(clip_seconds, rest, floor)
        if found is None:
            break
        asset, line, rows = found
        match = _follow(
            clip_seconds, clip_vectors, asset, line, rows, left, read_band,
            floor=np.maximum(rival - RIVAL_MARGIN, floor), clip_end_seconds=clip_end_seconds,
        )  # fmt: skip
        if match is None:
            left[rows] = False
            continue
        matches.append(match)
        # All of its time is taken, also frames between those compared.
        left &= (clip_seconds < match.clip_start_seconds) | (clip_seconds >= match.clip_end_seconds)
        if not left.any():
            break
    return _joined(sorted(matches, key=lambda match: match.clip_start_seconds))


def _joined(matches: list[Match]) -> list[Match]:
    """Give splinters to the neighbour that they were cut from.

    A frame next to a shot change may find its asset frame a second off, for the shot goes on there
    only so long. It is no segment of its own: too few frames to place a line, beside one that
    nearly goes through them.
    """
    joined: list[Match] = []
    for match in matches:
        before = joined[-1] if joined else None
        if before is not None and _is_splinter(before, match):
            longer = max(before, match, key=lambda m: m.frames.size)
            joined[-1] = Match(
                longer.asset, before.clip_start_seconds, match.clip_end_seconds, longer.line,
                np.concatenate([before.frames, match.frames]),
                np.concatenate([before.similarities, match.similarities]),
                np.concatenate([before.run, match.run]),
                np.concatenate([before.run_similarities, match.run_similarities]),
            )  # fmt: skip
        else:
            joined.append(match)
    return joined


def _is_splinter(before: Match, after: Match) -> bool:
    seam = 0.5 * (before.clip_end_seconds + after.clip_start_seconds)
    apart = abs(before.line.at(seam) - after.line.at(seam))
    return (
        before.asset == after.asset
        and after.clip_start_seconds - before.clip_end_seconds <= MAX_GAP_SECONDS
        and min(before.frames.size, after.frames.size) < SPLINTER_FRAMES
        and apart <= 2 * TOLERANCE_SECONDS
    )


def _best_line(
    clip_seconds: NDArray[np.float64], hits: Hits, floor: float
) -> tuple[int, Line, NDArray[np.int64]] | None:
    """Asset, line and frames of the heaviest line over the assets; ties go to the one with more hits.

    No line of an asset weighs more than the best hits of all frames there, so assets whose sum is
    below the best line found are not looked at: a series has a hundred, and few of them matter.
    """
    # Squared, so that the very frame outweighs the many that look alike.
    weights = (hits.similarity - floor).astype(np.float64) ** 2 + 1e-9
    assets, column = np.unique(hits.asset, return_inverse=True)
    table = np.zeros((assets.size, clip_seconds.size))
    np.maximum.at(table, (column, hits.frame), weights)
    bounds = table.sum(axis=1)
    best: tuple[int, Line, NDArray[np.int64]] | None = None
    for position in np.argsort(-bounds, kind="stable"):
        if best is not None and bounds[position] < best[1].score:
            break
        rows = np.nonzero(column == position)[0]
        times, asset_seconds = clip_seconds[hits.frame[rows]], hits.asset_seconds[rows]
        line = find_line(times, asset_seconds, weights[rows], tolerance_seconds=TOLERANCE_SECONDS)
        if line is not None and (best is None or line.score > best[1].score):
            near = np.abs(asset_seconds - line.at(times)) <= 2 * TOLERANCE_SECONDS
            best = (int(assets[position]), line, np.unique(hits.frame[rows[near]]))
    return best


def _follow(
    clip_seconds: NDArray[np.float64],
    clip_vectors: NDArray[np.float32],
    asset: int,
    line: Line,
    rows: NDArray[np.int64],
    left: NDArray[np.bool_],
    read_band: BandReader,
    *,
    floor: NDArray[np.float32],
    clip_end_seconds: float,
) -> Match | None:
    """Refine a line on the full similarities around it and keep the run that holds its hits."""
    span = line.at(clip_seconds)
    margin = 3 * TOLERANCE_SECONDS
    band_seconds, band = read_band(asset, float(span.min()) - margin, float(span.max()) + margin)
    if band_seconds.size == 0:
        return None
    similarity = clip_vectors @ band.T
    line = refine(clip_seconds[rows], band_seconds, similarity[rows], line)
    targets = line.at(clip_seconds)
    on_line = similarity_on_line(similarity, band_seconds, targets)
    distance = np.abs(targets[:, None] - band_seconds[None, :])
    # A frame far from any sample of the asset (key frames may be seconds apart) is no evidence against it.
    sampled = distance.min(axis=1) <= TOLERANCE_SECONDS
    bar = np.maximum(floor, float(np.median(on_line[rows])) - RUN_DROP)
    run = _longest_run(clip_seconds, on_line >= np.where(sampled, bar, floor), left, rows)
    if run.size == 0:
        return None
    step = float(np.median(np.diff(clip_seconds))) if clip_seconds.size > 1 else clip_end_seconds
    start = 0.0 if run[0] == 0 and clip_seconds[0] <= step else float(clip_seconds[run[0]])
    end = min(clip_end_seconds, float(clip_seconds[run[-1]]) + step)
    frames = _compared(run, similarity, distance, min(TOLERANCE_SECONDS, step * line.speed))
    return Match(asset, start, max(end, start), line, frames, on_line[frames], run, on_line[run])


def _compared(
    run: NDArray[np.int64],
    similarity: NDArray[np.float32],
    distance: NDArray[np.float64],
    reach_seconds: float,
) -> NDArray[np.int64]:
    """The frames of a run that show the moments of the asset's samples, one for each sample.

    Only there are the two pictures of one moment. The others lie between samples, where what moves
    has moved on, and would tell of the motion rather than of the match. Of the frames on either side
    of a sample the more similar one counts: key frames stand where shots change.

    Args:
        run: Rows of the clip's frames.
        similarity: (nq, nr).
        distance: (nq, nr) seconds between each frame's place on the line and each asset frame.
        reach_seconds: How far a frame may be from the sample whose moment it shows.
    """
    near = distance[run] <= reach_seconds
    sampled = near.any(axis=0)
    best = np.where(near, similarity[run], -np.inf).argmax(axis=0)
    return np.unique(run[best[sampled]]) if sampled.any() else run


def similarity_on_line(
    similarity: NDArray[np.float32], band_seconds: NDArray[np.float64], asset_seconds: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(nq,) the better of the two asset frames around each clip frame's place on the line.

    Outside the asset (more than the tolerance before its first or after its last frame) it is -1.
    """
    after = np.clip(np.searchsorted(band_seconds, asset_seconds), 0, band_seconds.size - 1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(asset_seconds.size)
    value = np.maximum(similarity[rows, before], similarity[rows, after])
    beyond = (asset_seconds < band_seconds[0] - TOLERANCE_SECONDS) | (
        asset_seconds > band_seconds[-1] + TOLERANCE_SECONDS
    )
    return np.where(beyond, np.float32(-1.0), value)


def refine(
    clip_seconds: NDArray[np.float64],
    band_seconds: NDArray[np.float64],
    similarity: NDArray[np.float32],
    line: Line,
) -> Line:
    """Place a line between samples, by where similarity peaks.

    Peaks are sought along the denser axis: for each clip frame among the asset's frames, or, where
    those are key frames seconds apart, for each of these among the clip's.

    Args:
        clip_seconds: (nq,) times of frames on the line.
        band_seconds: (nr,) times of the asset's frames.
        similarity: (nq, nr).
        line: Where to look.

    Returns:
        The line through the peaks: at speed 1 if it was within 3 % of it, else by weighted least squares.
    """
    gap = float(np.median(np.diff(band_seconds))) if band_seconds.size > 1 else np.inf
    if gap <= 2 * TOLERANCE_SECONDS:
        rows, y, weights = _peaks(band_seconds, similarity, line.at(clip_seconds), 1.5 * TOLERANCE_SECONDS)
        x = clip_seconds[rows]
    else:
        reach = min(gap / 2, 3 * TOLERANCE_SECONDS)
        line = _slide(clip_seconds, band_seconds, similarity, line, reach)
        if line.speed != 1.0:
            middle = float(clip_seconds.mean())
            plain = Line(1.0, line.at(middle) - middle, line.score)
            plain = _slide(clip_seconds, band_seconds, similarity, plain, 2 * reach)
            # Few samples can be met at any speed, so another than 1 must be clearly better.
            line = plain if plain.score >= OTHER_SPEED_PENALTY * line.score else line
        targets = (band_seconds - line.offset_seconds) / line.speed
        reach = max(1.5 * TOLERANCE_SECONDS, reach)
        rows, x, weights = _peaks(clip_seconds, similarity.T, targets, reach)
        y = band_seconds[rows]
    return _fit(x, y, weights, line) if rows.size else line


def _slide(
    clip_seconds: NDArray[np.float64],
    band_seconds: NDArray[np.float64],
    similarity: NDArray[np.float32],
    line: Line,
    reach_seconds: float,
) -> Line:
    """Move a line over sparse samples to where they fit best, by trying every offset within reach.

    Among key frames seconds apart a clip's frames all find the same few samples, so the line through
    the hits may be off by half a gap. The score of an offset is the sum over the asset's frames that
    fall into the clip of their similarity, above what any frame has, to the clip frame of that moment;
    the line that is returned carries it.
    """
    step = float(np.median(np.diff(clip_seconds))) if clip_seconds.size > 1 else 1.0
    level = float(similarity.min())
    best, best_shift = -np.inf, 0.0
    shifts = np.arange(-reach_seconds, reach_seconds + step / 4, step / 2)
    for shift in shifts[np.argsort(np.abs(shifts), kind="stable")]:
        moments = (band_seconds - line.offset_seconds - shift) / line.speed
        apart = np.abs(moments[:, None] - clip_seconds[None, :])
        inside = apart.min(axis=1) <= step
        columns = np.nonzero(inside)[0]
        score = float((similarity[apart[inside].argmin(axis=1), columns] - level).sum())
        if score > best + 1e-9:
            best, best_shift = score, float(shift)
    return Line(line.speed, line.offset_seconds + best_shift, best)


def _peaks(
    seconds: NDArray[np.float64],
    similarity: NDArray[np.float32],
    targets: NDArray[np.float64],
    reach_seconds: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Where each row's similarity peaks along the columns, between the columns' samples.

    Near its peak similarity falls off about linearly on both sides, so the peak between samples is
    that of two equal slopes through the best sample and its neighbours. Rows whose peak is
    sharp weigh most: in a static scene every offset is as good.

    Args:
        seconds: (c,) times of the columns.
        similarity: (r, c).
        targets: (r,) where each row's peak is expected.
        reach_seconds: Peaks farther off are passed over.

    Returns:
        Rows with a peak inside the columns, its times and weights.
    """
    near = np.abs(seconds[None, :] - targets[:, None]) <= reach_seconds
    best = np.where(near, similarity, -np.inf).argmax(axis=1)
    rows = np.nonzero(near.any(axis=1) & (best > 0) & (best < seconds.size - 1))[0]
    best = best[rows]
    peak, before, after = (similarity[rows, best + shift].astype(np.float64) for shift in (0, -1, 1))
    drop = np.maximum(peak - np.minimum(before, after), 1e-6)
    shift = (0.5 * (after - before) / drop).clip(-0.5, 0.5)
    gap = np.where(shift < 0, seconds[best] - seconds[best - 1], seconds[best + 1] - seconds[best])
    return rows, seconds[best] + shift * gap, drop**2


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64], line: Line) -> Line:
    """Weighted least squares, twice: the second time without what lies off the first."""
    speed, offset = line.speed, line.offset_seconds
    for _ in range(2):
        total = weights.sum()
        if total <= 0:
            break
        mx, my = float((weights * x).sum() / total), float((weights * y).sum() / total)
        variance = float((weights * (x - mx) ** 2).sum() / total)
        if abs(line.speed - 1.0) <= UNIT_SPEED_BAND or variance < 1.0:
            speed = 1.0 if abs(line.speed - 1.0) <= UNIT_SPEED_BAND else line.speed
        else:
            speed = float((weights * (x - mx) * (y - my)).sum() / total / variance)
            speed = float(np.clip(speed, MIN_SPEED, MAX_SPEED))
            speed = 1.0 if abs(speed - 1.0) <= UNIT_SPEED_BAND else speed
        offset = my - speed * mx
        residual = np.abs(y - speed * x - offset)
        weights = np.where(residual <= max(0.5, 2 * float(np.median(residual))), weights, 0.0)
    return Line(speed, offset, line.score)


def _longest_run(
    clip_seconds: NDArray[np.float64],
    matching: NDArray[np.bool_],
    left: NDArray[np.bool_],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Rows of the run of matching frames that holds most of ``rows``.

    Gaps up to the limit are bridged, but never over a frame that another match has taken.
    """
    positions = np.nonzero(matching & left)[0]
    if positions.size == 0:
        return positions
    taken = np.cumsum(~left)[positions]
    apart = (np.diff(clip_seconds[positions]) > MAX_GAP_SECONDS) | (np.diff(taken) > 0)
    breaks = np.nonzero(apart)[0] + 1
    runs = np.split(positions, breaks)
    held = [np.isin(run, rows).sum() for run in runs]
    return runs[int(np.argmax(held))]
