"""From a candidate's hits to aligned segments: which stretch of the clip is which stretch of an asset.

The heaviest line through the hits (:mod:`matcher.lines`) is refined on the similarities around it
(:mod:`matcher.refine`), cut into runs, and compared with where else it would fit
(:mod:`matcher.elsewhere`); then the frames that are left over are looked at in the same way.

Shape letters: ``m`` hits, ``nq`` clip frames, ``nr`` asset frames in the band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matcher.elsewhere import BandReader, Place, Run, look_elsewhere
from matcher.lines import TOLERANCE_SECONDS, Line, find_line
from matcher.parts import SPLINTER_FRAMES, TILT_SECONDS, better_line
from matcher.refine import Block, band_blocks, on_line, refine_blocks, select_rows
from matcher.voting import Hits

#: A run of the clip without evidence longer than this ends a segment.
MAX_GAP_SECONDS = 3.0
#: A frame this much less similar than its segment's median is not part of it.
RUN_DROP = 0.12
#: A frame that resembles another program this much more than this one is not part of the match: in a
#: montage it belongs to that one.
RIVAL_MARGIN = 0.03
#: At most so many segments are looked for in one candidate.
MAX_SEGMENTS = 6
#: A frame's hits this close to its best one are as good: so many places show the same.
REPEAT_SIMILARITY = 0.02
#: The line is laid over the band within so far on either side.
BAND_SECONDS = 3 * TOLERANCE_SECONDS
#: The line of a run is put right at most so often.
MAX_CHANGES = 3


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
        ambiguity: How much, from 0 to 1, of the similarity above the floor the best other place of the
            same asset reaches: 1 in a still scene, or where the footage is shown again.
        offset_slack_seconds: How wide the offsets are that fit about as well as the line's.
        also: Places where the same footage is shown again, in this asset or others; best first.
    """

    asset: int
    clip_start_seconds: float
    clip_end_seconds: float
    line: Line
    frames: NDArray[np.int64]
    similarities: NDArray[np.float32]
    run: NDArray[np.int64]
    run_similarities: NDArray[np.float32]
    ambiguity: float = 0.0
    offset_slack_seconds: float = 0.0
    also: tuple[Place, ...] = ()

    @property
    def is_reversed(self) -> bool:
        """Whether the clip plays this stretch backwards."""
        return self.line.is_reversed

    @property
    def asset_start_seconds(self) -> float:
        """Where it starts in the asset; played backwards, what the clip shows last."""
        return max(0.0, min(self._asset_ends()))

    @property
    def asset_end_seconds(self) -> float:
        """Where it ends in the asset; never before it starts."""
        return max(0.0, *self._asset_ends())

    def _asset_ends(self) -> tuple[float, float]:
        return self.line.at(self.clip_start_seconds), self.line.at(self.clip_end_seconds)


@dataclass(frozen=True)
class _Clip:
    """What is known of the clip, whatever the candidate's assets.

    Attributes:
        seconds: (nq,) times of its frames.
        vectors: (nq, d) their descriptors.
        floor: (nq,) similarity that is chance.
        bar: (nq,) below which a frame does not match: the floor, or what another program has.
        end_seconds: Where it ends.
        reach_seconds: How far to either side of its time a frame tells of the clip.
    """

    seconds: NDArray[np.float64]
    vectors: NDArray[np.float32]
    floor: NDArray[np.float32]
    bar: NDArray[np.float32]
    end_seconds: float
    reach_seconds: float = 0.0

    @property
    def step_seconds(self) -> float:
        """Median time between frames."""
        return float(np.median(np.diff(self.seconds))) if self.seconds.size > 1 else self.end_seconds


def localize(
    clip_seconds: NDArray[np.float64],
    clip_vectors: NDArray[np.float32],
    hits: Hits,
    read_band: BandReader,
    *,
    floor: float | NDArray[np.float32],
    rival: NDArray[np.float32],
    clip_end_seconds: float,
    allow_reversed: bool = False,
    reach_seconds: float = 0.0,
) -> list[Match]:
    """Align one candidate: its heaviest line first, then what the frames left over agree on.

    Args:
        clip_seconds: (nq,) times of the clip's frames.
        clip_vectors: (nq, d) their descriptors.
        hits: Of one program.
        read_band: Gives the frames of an asset between two times.
        floor: Similarity below which a frame does not match, of all frames or (nq,) of each.
        rival: (nq,) similarity of each frame to the best other program; a match holds no run of frames
            that resemble another one clearly more.
        clip_end_seconds: Where the clip ends; no match goes beyond.
        allow_reversed: Whether a stretch may be played backwards.
        reach_seconds: How far to either side of its time a frame tells of the clip: a picture of its moment
            alone, a patch of sound half its length.

    Returns:
        Matches that share no frame, by clip time.
    """
    floors = np.broadcast_to(np.asarray(floor, np.float32), clip_seconds.shape)
    bar = np.maximum(rival - RIVAL_MARGIN, floors)
    clip = _Clip(clip_seconds, clip_vectors, floors, bar, clip_end_seconds, reach_seconds)
    hits = hits.select(hits.similarity >= floors[hits.frame])
    places = count_places(hits)
    matches: list[Match] = []
    left = np.ones(clip_seconds.size, dtype=bool)
    for _ in range(MAX_SEGMENTS):
        is_left = left[hits.frame]
        found = _best_line(
            clip_seconds, hits.select(is_left), floors, places=places[is_left], allow_reversed=allow_reversed
        )
        if found is None:
            break
        asset, line, rows = found
        match = _follow(clip, asset, line, rows, left, read_band)
        if match is None:
            left[rows] = False
            continue
        matches.append(_with_doubt(match, clip, hits, read_band))
        # All of its time is taken, also frames between those compared.
        left &= (clip_seconds < match.clip_start_seconds) | (clip_seconds >= match.clip_end_seconds)
        left[match.run] = False  # also those at the clip's very end
        if not left.any():
            break
    return _joined(sorted(matches, key=lambda match: match.clip_start_seconds))


def count_places(hits: Hits) -> NDArray[np.int64]:
    """How many places of the program show about the same as each hit's clip frame does: (m,), at least 1.

    Only hits about as similar as the frame's best count, and those of one asset that follow each other
    within two tolerances are one place: a still scene, however long, is one. What is in every episode, a
    title or a recap, then weighs little, and the frames of the one episode decide.
    """
    if len(hits) == 0:
        return np.ones(0, np.int64)
    best = np.full(int(hits.frame.max()) + 1, -np.inf, np.float32)
    np.maximum.at(best, hits.frame, hits.similarity)
    near = np.flatnonzero(hits.similarity >= best[hits.frame] - REPEAT_SIMILARITY)
    near = near[np.lexsort((hits.asset_seconds[near], hits.asset[near], hits.frame[near]))]
    frame, asset, seconds = hits.frame[near], hits.asset[near], hits.asset_seconds[near]
    same = (np.diff(frame) == 0) & (np.diff(asset) == 0) & (np.diff(seconds) <= 2 * TOLERANCE_SECONDS)
    counts = np.bincount(frame[np.r_[True, ~same]], minlength=best.size)
    return counts[hits.frame]


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
            joined[-1] = replace(
                longer,
                clip_start_seconds=before.clip_start_seconds,
                clip_end_seconds=match.clip_end_seconds,
                frames=np.concatenate([before.frames, match.frames]),
                similarities=np.concatenate([before.similarities, match.similarities]),
                run=np.concatenate([before.run, match.run]),
                run_similarities=np.concatenate([before.run_similarities, match.run_similarities]),
            )
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
    clip_seconds: NDArray[np.float64],
    hits: Hits,
    floor: float | NDArray[np.float32],
    *,
    places: NDArray[np.int64] | None = None,
    allow_reversed: bool = False,
) -> tuple[int, Line, NDArray[np.int64]] | None:
    """Asset, line and frames of the heaviest line over the assets; ties go to the one with more hits.

    No line of an asset weighs more than the best hits of all frames there, so assets whose sum is
    below the best line found are not looked at: a series has a hundred, and few of them matter.
    """
    floors = np.broadcast_to(np.asarray(floor, np.float32), clip_seconds.shape)
    # Squared, so that the very frame outweighs the many that look alike.
    weights = (hits.similarity - floors[hits.frame]).astype(np.float64) ** 2 + 1e-9
    if places is not None:
        weights /= places
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
        line = find_line(
            times, asset_seconds, weights[rows],
            tolerance_seconds=TOLERANCE_SECONDS, allow_reversed=allow_reversed,
        )  # fmt: skip
        if line is not None and (best is None or line.score > best[1].score):
            near = np.abs(asset_seconds - line.at(times)) <= 2 * TOLERANCE_SECONDS
            best = (int(assets[position]), line, np.unique(hits.frame[rows[near]]))
    return best


def _follow(
    clip: _Clip,
    asset: int,
    line: Line,
    rows: NDArray[np.int64],
    left: NDArray[np.bool_],
    read_band: BandReader,
) -> Match | None:
    """Refine a line on the full similarities around it and keep the run that holds its hits.

    When a part of the run fits clearly better elsewhere nearby (the clip stood still for a moment, or
    skipped one) the larger part is kept; the frames of the other stay left.
    """
    span = line.at(clip.seconds)
    margin = BAND_SECONDS + 2 * TILT_SECONDS
    band_seconds, band = read_band(asset, float(span.min()) - margin, float(span.max()) + margin)
    wide = band_blocks(clip.seconds, clip.vectors, band_seconds, band, line, margin_seconds=margin)
    for changes in range(MAX_CHANGES + 1):
        blocks = [block.within(line, BAND_SECONDS) for block in wide]
        if not any(block.band_seconds.size for block in blocks):
            return None
        line = refine_blocks(select_rows(blocks, rows), line)
        match = _matched(clip, asset, line, rows, left, blocks)
        if match is None or changes == MAX_CHANGES:
            break
        better = better_line(select_rows(wide, match.run), match.line)
        if better is None:
            break
        kept, line = match.run[better.part], better.line
        # Only the other part is out of bounds: at the far end a better line may reach farther.
        left = left.copy()
        if kept[-1] != match.run[-1]:
            left[kept[-1] + 1 :] = False
        if kept[0] != match.run[0]:
            left[: kept[0]] = False
        rows = np.intersect1d(rows, kept) if np.isin(rows, kept).any() else kept
    return match


def _matched(
    clip: _Clip,
    asset: int,
    line: Line,
    rows: NDArray[np.int64],
    left: NDArray[np.bool_],
    blocks: Sequence[Block],
) -> Match | None:
    """The run on a line that holds its hits, with its borders."""
    values = on_line(blocks, line)
    # A frame far from any sample of the asset (key frames may be seconds apart) is no evidence against it.
    sampled = np.concatenate([
        _distance(block, line).min(axis=1, initial=np.inf) <= TOLERANCE_SECONDS for block in blocks
    ])  # fmt: skip
    bar = np.maximum(clip.bar, float(np.median(values[rows])) - RUN_DROP)
    run = _longest_run(clip.seconds, values >= np.where(sampled, bar, clip.bar), left, rows)
    if run.size == 0:
        return None
    start, end = _borders(clip, run)
    frames = _compared(run, blocks, line, min(TOLERANCE_SECONDS, clip.step_seconds * abs(line.speed)))
    return Match(asset, start, max(end, start), line, frames, values[frames], run, values[run])


def _borders(clip: _Clip, run: NDArray[np.int64]) -> tuple[float, float]:
    """Where a run starts and ends in the clip.

    Beside a frame that does not match, the cut lies anywhere between the two: half-way is right in the
    mean. At the clip's own ends nothing speaks against the run going on.
    """
    seconds, step = clip.seconds, clip.step_seconds
    first, last = int(run[0]), int(run[-1])
    if first == 0:
        before = float(seconds[0]) - clip.reach_seconds
        start = 0.0 if before <= step else before
    else:
        start = float(seconds[first] - 0.5 * min(step, seconds[first] - seconds[first - 1]))
    if last == seconds.size - 1:
        end = float(seconds[last]) + step + clip.reach_seconds
    else:
        end = float(seconds[last] + 0.5 * min(step, seconds[last + 1] - seconds[last]))
    return start, min(clip.end_seconds, end)


def _with_doubt(match: Match, clip: _Clip, hits: Hits, read_band: BandReader) -> Match:
    """The match with where else it would fit."""
    position = np.full(clip.seconds.size, -1, np.int64)
    position[match.run] = np.arange(match.run.size)
    own = hits.select(position[hits.frame] >= 0)
    doubt = look_elsewhere(
        Run(
            clip.seconds[match.run], clip.vectors[match.run], clip.floor[match.run], match.asset, match.line,
            match.clip_start_seconds, match.clip_end_seconds,
        ),
        replace(own, frame=position[own.frame]),
        read_band,
    )  # fmt: skip
    return replace(
        match, ambiguity=doubt.ambiguity, offset_slack_seconds=doubt.offset_slack_seconds, also=doubt.also
    )


def _distance(block: Block, line: Line) -> NDArray[np.float64]:
    """(n, nr) seconds between each frame's place on the line and each asset frame."""
    return np.abs(line.at(block.clip_seconds)[:, None] - block.band_seconds[None, :])


def _compared(
    run: NDArray[np.int64], blocks: Sequence[Block], line: Line, reach_seconds: float
) -> NDArray[np.int64]:
    """The frames of a run that show the moments of the asset's samples, one for each sample.

    Only there are the two pictures of one moment. The others lie between samples, where what moves
    has moved on, and would tell of the motion rather than of the match. Of the frames on either side
    of a sample the more similar one counts: key frames stand where shots change.

    Args:
        run: Rows of the clip's frames.
        blocks: Of all the clip.
        line: From clip time to asset time.
        reach_seconds: How far a frame may be from the sample whose moment it shows.
    """
    found = []
    first = 0
    for block in blocks:
        own = run[(run >= first) & (run < first + block.clip_seconds.size)]
        inside = np.zeros(block.clip_seconds.size, dtype=bool)
        inside[own - first] = True
        part = block.select(inside)
        near = _distance(part, line) <= reach_seconds
        sampled = near.any(axis=0)
        if sampled.any():
            found.append(own[np.where(near, part.similarity, -np.inf).argmax(axis=0)[sampled]])
        first += block.clip_seconds.size
    return np.unique(np.concatenate(found)) if found else run


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
    # A look's few probes lie farther apart than that.
    step = float(np.median(np.diff(clip_seconds))) if clip_seconds.size > 1 else 0.0
    widest = max(MAX_GAP_SECONDS, 1.5 * step)
    apart = (np.diff(clip_seconds[positions]) > widest) | (np.diff(taken) > 0)
    breaks = np.nonzero(apart)[0] + 1
    runs = np.split(positions, breaks)
    held = [np.isin(run, rows).sum() for run in runs]
    return runs[int(np.argmax(held))]
