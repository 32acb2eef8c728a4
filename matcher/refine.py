"""Placing a line between samples, on the similarities around it.

A clip of hours against an asset of hours has a matrix of a gigabyte, of which only a band around the
line matters. :class:`Block` holds a part of that band: a run of the clip's frames and the asset's frames
near them. Most clips are one block.

Shape letters: ``n`` clip frames of a block, ``nr`` asset frames of a block, ``nq`` clip frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.lines import (
    MAX_SPEED,
    MIN_SPEED,
    OTHER_SPEED_PENALTY,
    TOLERANCE_SECONDS,
    UNIT_SPEED_BAND,
    Line,
)

#: Clip frames in a block: four minutes at two frames a second, half a megabyte of similarities.
BLOCK_FRAMES = 512
#: A line is laid at offsets so far apart to see where it fits best.
SHIFT_SECONDS = 0.25
#: A mean similarity this much lower is about as good a fit.
SLACK_SIMILARITY = 0.01


@dataclass(frozen=True)
class Block:
    """Consecutive frames of the clip and the asset's frames near a line through them.

    Attributes:
        clip_seconds: (n,) ascending.
        band_seconds: (nr,) ascending; none where the line leaves the asset.
        similarity: (n, nr).
    """

    clip_seconds: NDArray[np.float64]
    band_seconds: NDArray[np.float64]
    similarity: NDArray[np.float32]

    def within(self, line: Line, margin_seconds: float) -> Block:
        """The part so near to ``line``."""
        low, high = _reach(self.clip_seconds, self.band_seconds, line, margin_seconds)
        return Block(self.clip_seconds, self.band_seconds[low:high], self.similarity[:, low:high])

    def select(self, mask: NDArray[np.bool_]) -> Block:
        """The clip frames of an (n,) mask."""
        return Block(self.clip_seconds[mask], self.band_seconds, self.similarity[mask])


def band_blocks(
    clip_seconds: NDArray[np.float64],
    clip_vectors: NDArray[np.float32],
    band_seconds: NDArray[np.float64],
    band: NDArray[np.float32],
    line: Line,
    *,
    margin_seconds: float,
) -> tuple[Block, ...]:
    """Similarities around a line, block by block of the clip.

    Args:
        clip_seconds: (nq,) ascending.
        clip_vectors: (nq, d).
        band_seconds: (nr,) ascending, of all frames that may be near the line.
        band: (nr, d) their descriptors.
        line: Where to look.
        margin_seconds: How far on either side of it.
    """
    blocks = []
    for first in range(0, clip_seconds.size, BLOCK_FRAMES):
        own = clip_seconds[first : first + BLOCK_FRAMES]
        low, high = _reach(own, band_seconds, line, margin_seconds)
        similarity = clip_vectors[first : first + BLOCK_FRAMES] @ band[low:high].T
        blocks.append(Block(own, band_seconds[low:high], similarity))
    return tuple(blocks)


def _reach(
    clip_seconds: NDArray[np.float64], band_seconds: NDArray[np.float64], line: Line, margin: float
) -> tuple[int, int]:
    """First and last but one position of the band's frames within the margin of a line."""
    ends = line.at(clip_seconds[[0, -1]])
    low, high = np.searchsorted(band_seconds, [ends.min() - margin, ends.max() + margin])
    return int(low), int(high)


def select_rows(blocks: Sequence[Block], rows: NDArray[np.int64]) -> list[Block]:
    """The clip frames ``rows`` of blocks that follow each other."""
    sizes = [block.clip_seconds.size for block in blocks]
    mask = np.zeros(sum(sizes), dtype=bool)
    mask[rows] = True
    parts = np.split(mask, np.cumsum(sizes)[:-1])
    return [block.select(part) for block, part in zip(blocks, parts, strict=True)]


def even_shifts(reach_seconds: float) -> NDArray[np.float64]:
    """(j,) offsets from minus to plus the reach in even steps, 0 in the middle."""
    half = round(reach_seconds / SHIFT_SECONDS)
    return np.arange(-half, half + 1).astype(np.float64) * SHIFT_SECONDS


def similarity_on_line(
    similarity: NDArray[np.float32], band_seconds: NDArray[np.float64], asset_seconds: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The better of the two asset frames around each clip frame's place on the line.

    Outside the asset (more than the tolerance before its first or after its last frame) it is -1.

    Args:
        similarity: (nq, nr).
        band_seconds: (nr,) ascending.
        asset_seconds: (nq,) places, or (nq, j) for several a frame.

    Returns:
        Of the shape of ``asset_seconds``.
    """
    if band_seconds.size == 0:
        return np.full(asset_seconds.shape, np.float32(-1.0))
    after = np.clip(np.searchsorted(band_seconds, asset_seconds), 0, band_seconds.size - 1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(asset_seconds)).reshape(-1, *([1] * (asset_seconds.ndim - 1)))
    value = np.maximum(similarity[rows, before], similarity[rows, after])
    return np.where(_beyond(band_seconds, asset_seconds), np.float32(-1.0), value)


def between_samples(
    similarity: NDArray[np.float32], band_seconds: NDArray[np.float64], asset_seconds: NDArray[np.float64]
) -> NDArray[np.float32]:
    """As :func:`similarity_on_line`, but linear between the two asset frames rather than the better one.

    The better one stays the same over a second's shift of the line; this tells offsets apart that are
    closer, though as a similarity it is too low between samples.
    """
    if band_seconds.size < 2:
        return similarity_on_line(similarity, band_seconds, asset_seconds)
    after = np.clip(np.searchsorted(band_seconds, asset_seconds), 1, band_seconds.size - 1)
    gap = np.maximum(band_seconds[after] - band_seconds[after - 1], 1e-9)
    share = np.clip((asset_seconds - band_seconds[after - 1]) / gap, 0.0, 1.0).astype(np.float32)
    rows = np.arange(len(asset_seconds)).reshape(-1, *([1] * (asset_seconds.ndim - 1)))
    value = (1 - share) * similarity[rows, after - 1] + share * similarity[rows, after]
    return np.where(_beyond(band_seconds, asset_seconds), np.float32(-1.0), value)


def _beyond(band_seconds: NDArray[np.float64], asset_seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where places are outside the asset."""
    beyond: NDArray[np.bool_] = (asset_seconds < band_seconds[0] - TOLERANCE_SECONDS) | (
        asset_seconds > band_seconds[-1] + TOLERANCE_SECONDS
    )
    return beyond


def on_line(blocks: Sequence[Block], line: Line) -> NDArray[np.float32]:
    """(nq,) similarity of every clip frame on the line; see :func:`similarity_on_line`."""
    return np.concatenate([
        similarity_on_line(b.similarity, b.band_seconds, line.at(b.clip_seconds)) for b in blocks
    ])  # fmt: skip


def near_line(blocks: Sequence[Block], line: Line, shifts: NDArray[np.float64]) -> NDArray[np.float32]:
    """(nq, j) of every clip frame on the line moved by each of ``shifts``; see :func:`between_samples`."""
    return np.concatenate([
        between_samples(b.similarity, b.band_seconds, line.at(b.clip_seconds)[:, None] + shifts)
        for b in blocks
    ])  # fmt: skip


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
        The line through the peaks: at speed 1 (or -1) if it was within 3 % of it, else by weighted least
        squares.
    """
    return refine_blocks([Block(clip_seconds, band_seconds, similarity)], line)


def refine_blocks(blocks: Sequence[Block], line: Line) -> Line:
    """As :func:`refine`, for a clip in blocks of which some may be empty."""
    blocks = [block for block in blocks if block.similarity.size]
    if not blocks:
        return line
    gap = frame_gap(blocks)
    if gap <= 2 * TOLERANCE_SECONDS:
        reach = 1.5 * TOLERANCE_SECONDS
        found = [_clip_peaks(block, line, reach) for block in blocks]
    else:
        reach = min(gap / 2, 3 * TOLERANCE_SECONDS)
        line = _slide_to_best(blocks, line, reach)
        reach = max(1.5 * TOLERANCE_SECONDS, reach)
        found = [_asset_peaks(block, line, reach) for block in blocks]
    x, y, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    return _fit(x, y, weights, line) if x.size else line


def frame_gap(blocks: Sequence[Block]) -> float:
    """Median seconds between the asset's frames; infinite when none has a neighbour."""
    gaps = np.concatenate([np.diff(block.band_seconds) for block in blocks])
    return float(np.median(gaps)) if gaps.size else np.inf


Peaks = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _clip_peaks(block: Block, line: Line, reach: float) -> Peaks:
    """Clip times, asset times and weights of where the clip's frames peak."""
    targets = line.at(block.clip_seconds)
    rows, y, weights = _peaks(block.band_seconds, block.similarity, targets, reach)
    return block.clip_seconds[rows], y, weights


def _asset_peaks(block: Block, line: Line, reach: float) -> Peaks:
    """The same, of where the asset's frames peak along the clip."""
    targets = (block.band_seconds - line.offset_seconds) / line.speed
    rows, x, weights = _peaks(block.clip_seconds, block.similarity.T, targets, reach)
    return x, block.band_seconds[rows], weights


def _slide_to_best(blocks: Sequence[Block], line: Line, reach: float) -> Line:
    """Slide a line over sparse samples, and one at the plain speed too, which wins unless clearly worse.

    Few samples can be met at any speed.
    """
    slid = _slide(blocks, line, reach)
    plain_speed = float(np.sign(line.speed))
    if slid.speed == plain_speed:
        return slid
    times = np.concatenate([block.clip_seconds for block in blocks])
    middle = float(times.mean())
    plain = Line(plain_speed, slid.at(middle) - plain_speed * middle, slid.score)
    plain = _slide(blocks, plain, 2 * reach)
    return plain if plain.score >= OTHER_SPEED_PENALTY * slid.score else slid


def _slide(blocks: Sequence[Block], line: Line, reach_seconds: float) -> Line:
    """Move a line over sparse samples to where they fit best, by trying every offset within reach.

    Among key frames seconds apart a clip's frames all find the same few samples, so the line through
    the hits may be off by half a gap. The score of an offset is the sum over the asset's frames that
    fall into the clip of their similarity, above what any frame has, to the clip frame of that moment;
    the line that is returned carries it.
    """
    steps = np.concatenate([np.diff(block.clip_seconds) for block in blocks])
    step = float(np.median(steps)) if steps.size else 1.0
    level = min(float(block.similarity.min()) for block in blocks)
    best, best_shift = -np.inf, 0.0
    shifts = np.arange(-reach_seconds, reach_seconds + step / 4, step / 2)
    for shift in shifts[np.argsort(np.abs(shifts), kind="stable")]:
        moved = Line(line.speed, line.offset_seconds + float(shift), line.score)
        score = sum(_met(block, moved, step, level) for block in blocks)
        if score > best + 1e-9:
            best, best_shift = score, float(shift)
    return Line(line.speed, line.offset_seconds + best_shift, best)


def _met(block: Block, line: Line, step: float, level: float) -> float:
    """Sum over the asset's frames inside the clip of their similarity to the clip frame of their moment."""
    moments = (block.band_seconds - line.offset_seconds) / line.speed
    apart = np.abs(moments[:, None] - block.clip_seconds[None, :])
    inside = apart.min(axis=1) <= step
    columns = np.nonzero(inside)[0]
    return float((block.similarity[apart[inside].argmin(axis=1), columns] - level).sum())


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
    plain = abs(abs(line.speed) - 1.0) <= UNIT_SPEED_BAND
    for _ in range(2):
        total = weights.sum()
        if total <= 0:
            break
        mx, my = float((weights * x).sum() / total), float((weights * y).sum() / total)
        variance = float((weights * (x - mx) ** 2).sum() / total)
        if plain or variance < 1.0:
            speed = _settled(line.speed, line.speed) if plain else line.speed
        else:
            slope = float((weights * (x - mx) * (y - my)).sum() / total / variance)
            speed = _settled(slope, line.speed)
        offset = my - speed * mx
        residual = np.abs(y - speed * x - offset)
        weights = np.where(residual <= max(0.5, 2 * float(np.median(residual))), weights, 0.0)
    return Line(speed, offset, line.score)


def _settled(slope: float, like: float) -> float:
    """A fitted slope as a speed in the direction of ``like``: within its limits, 1 if next to it."""
    direction = float(np.sign(like))
    pace = float(np.clip(direction * slope, MIN_SPEED, MAX_SPEED))
    return direction * (1.0 if abs(pace - 1.0) <= UNIT_SPEED_BAND else pace)
