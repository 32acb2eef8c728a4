"""Which kept clips a re-link must answer again: those whose answer can have changed, and no others.

An answer rests on the neighbours of the clip's descriptors that stand out from chance, on what was frozen
(settings, calibration) and on what people said; see :class:`index.rows.LinkBasis`. So it can change

- where there is none yet, or the clip was kept anew;
- where the settings or the calibration are others (another *epoch*);
- where somebody spoke of the clip since;
- where a program that it had a neighbour in, or that somebody named, is gone or was replaced;
- where the program that somebody named is back;
- where a program that came later has a frame that is near enough to be such a neighbour.

Only the last one needs the descriptors, and it is decided exactly (:mod:`index.reach`). What earlier nights
have seen is not compared again: a night that is committed vouches for every answer older than itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from index.link_rows import LinkBases, Ragged
from index.reach import Reach
from index.rows import KINDS, Kind
from matcher.verdicts import Verdict

if TYPE_CHECKING:
    from index.catalog import Catalog
    from index.clip_rows import ClipBatch

Way = Literal["full", "nothing new", "new against kept"]
#: In a word, why a clip is answered again; "all" where every clip is, asked to or for it is cheaper.
NEW, EPOCH, REVIEW, GONE, CAME, ALL = "new clip", "new epoch", "review", "program gone", "program new", "all"
#: Seconds of processor time that an answer takes, until a night has measured it.
SECONDS_A_CLIP = 0.03
#: More new vectors than this are not held in memory: then all clips are answered.
MOST_NEW = 2_000_000
#: Clips that are compared before the way is chosen.
SAMPLE_CLIPS = 4096


@dataclass(frozen=True)
class Affected:
    """The clips to answer again.

    Attributes:
        why: The reason of each, by clip id, in the order in which they are to be answered.
        kept: How many clips there are.
        way: How those were found that new programs reach.
        new_vectors: Descriptors of new programs that the clips were compared with.
        scenes: In so many scenes; see :mod:`index.reach`.
        estimates: Seconds of processor time that either way would take, as far as estimated.
    """

    why: Mapping[str, str]
    kept: int
    way: Way
    new_vectors: int = 0
    scenes: int = 0
    estimates: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Question:
    """What a night asks.

    Attributes:
        epoch: Of the answers that are good, see :meth:`matcher.linking.Linker.epoch`.
        verdicts: Of clips that people spoke of.
        full: Answer all clips.
        since: Compare again with programs that came after this version of the catalogue, whatever earlier
            nights have seen.
        seconds_a_clip: Of processor time that an answer takes.
    """

    epoch: str
    verdicts: Mapping[str, Verdict]
    full: bool = False
    since: int | None = None
    seconds_a_clip: float = SECONDS_A_CLIP


def affected_clips(
    catalog: Catalog, question: Question, *, on_clips: Callable[[int], None] | None = None
) -> Affected:
    """Find the clips whose answers can have changed; reads, and writes nothing.

    Args:
        catalog: As it is to be linked.
        question: What is asked.
        on_clips: Called with how many more clips were compared with new programs.
    """
    dates = catalog.clip_dates()
    if question.full:
        return Affected(dict.fromkeys(dates, ALL), len(dates), "full")
    bases = catalog.link_bases()
    numbers = {record.program_id: record.number for record in catalog.programs()}
    live = np.fromiter(numbers.values(), np.int64, len(numbers))
    known = _known(catalog, bases, question.since)
    why = _without_descriptors(bases, dates, numbers, known, question)
    row_of = {
        clip_id: row for row, clip_id in enumerate(bases.clip_ids) if clip_id in dates and clip_id not in why
    }
    rows = np.fromiter(row_of.values(), np.int64, len(row_of))
    new = live[live > known[rows].min(initial=np.iinfo(np.int64).max)] if rows.size else live[:0]
    if new.size == 0:
        return Affected(_in_order(why, dates), len(dates), "nothing new")
    vectors = sum(_count(catalog, new, kind) for kind in KINDS)
    if vectors > MOST_NEW:
        return Affected(dict.fromkeys(dates, ALL), len(dates), "full", vectors)
    search = _Comparison(catalog, new, bases, row_of)
    return search.run(why, dates, question, on_clips)


def _count(catalog: Catalog, numbers: NDArray[np.int64], kind: Kind) -> int:
    """Descriptors of one kind that some programs have."""
    wanted = set(numbers.tolist())
    return sum(
        record.frame_count if kind == "frames" else record.sound_count
        for record in catalog.programs()
        if record.number in wanted
    )


def _known(catalog: Catalog, bases: LinkBases, since: int | None) -> NDArray[np.int64]:
    """(n,) the highest number of a program that each answer has been held against."""
    nights = catalog.nights()
    known = bases.known.copy()
    if nights:
        # A night that is committed has looked at every answer that was there before it.
        older = bases.night < nights[-1].night
        known[older] = np.maximum(known[older], nights[-1].known)
    if since is not None:
        then = max((night.known for night in nights if night.catalog_version <= since), default=0)
        known = np.minimum(known, then)
    return known


def _without_descriptors(
    bases: LinkBases,
    dates: Mapping[str, str],
    number_of: Mapping[str, int],
    known: NDArray[np.int64],
    question: Question,
) -> dict[str, str]:
    """The clips whose answers can have changed by what the tables say of them, and why."""
    lost = _any_of(bases.numbers, ~np.isin(bases.numbers.values, list(number_of.values())))
    why: dict[str, str] = {}
    for row, clip_id in enumerate(bases.clip_ids):
        verdict = question.verdicts.get(clip_id)
        if bases.kept_at[row] != dates.get(clip_id, ""):
            why[clip_id] = NEW
        elif bases.epochs[row] != question.epoch:
            why[clip_id] = EPOCH
        elif bases.reviews[row] != (0 if verdict is None else verdict.reviews):
            why[clip_id] = REVIEW
        elif lost[row]:
            why[clip_id] = GONE
        elif verdict is not None and number_of.get(verdict.program_id or "", 0) > known[row]:
            why[clip_id] = CAME  # what a person named is back, whether it resembles the clip or not
    answered = set(bases.clip_ids)
    return {clip_id: reason for clip_id, reason in why.items() if clip_id in dates} | {
        clip_id: NEW for clip_id in dates if clip_id not in answered
    }


def _any_of(lists: Ragged, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) whether any element of each list is marked."""
    before = np.concatenate([[0], np.cumsum(marked)])
    found: NDArray[np.bool_] = before[lists.starts[1:]] > before[lists.starts[:-1]]
    return found


def _in_order(why: Mapping[str, str], dates: Mapping[str, str]) -> dict[str, str]:
    return {clip_id: why[clip_id] for clip_id in dates if clip_id in why}


class _Comparison:
    """Kept clips against the descriptors of new programs."""

    def __init__(
        self, catalog: Catalog, new: NDArray[np.int64], bases: LinkBases, row_of: Mapping[str, int]
    ) -> None:
        self._catalog, self._bases, self._row_of = catalog, bases, row_of
        vectors = {kind: _vectors_of(catalog, new, kind) for kind in KINDS}
        self._reach = {kind: Reach(own) for kind, own in vectors.items()}
        self._n_new = sum(own.shape[0] for own in vectors.values())

    def run(
        self,
        why: dict[str, str],
        dates: Mapping[str, str],
        question: Question,
        on_clips: Callable[[int], None] | None,
    ) -> Affected:
        scenes = sum(reach.n_scenes for reach in self._reach.values())
        started, compared, reached = time.process_time(), 0, 0
        estimates: dict[str, float] = {}
        for names in self._batches():
            why |= dict.fromkeys(names.reached, CAME)
            compared, reached = compared + names.compared, reached + len(names.reached)
            if on_clips is not None:
                on_clips(names.compared)
            if not estimates and compared >= SAMPLE_CLIPS:
                spent = time.process_time() - started
                rest = len(self._row_of) / compared
                estimates = {
                    "full": len(dates) * question.seconds_a_clip,
                    "new against kept": spent * rest
                    + (len(why) - reached + reached * rest) * question.seconds_a_clip,
                }
                if estimates["full"] < estimates["new against kept"]:
                    return Affected(
                        dict.fromkeys(dates, ALL), len(dates), "full", self._n_new, scenes, estimates
                    )
        return Affected(
            _in_order(why, dates), len(dates), "new against kept", self._n_new, scenes, estimates or None
        )

    def _batches(self) -> Iterator[_Compared]:
        for batch in self._catalog.iter_clip_batches():
            yield self._compared(batch)

    def _compared(self, batch: ClipBatch) -> _Compared:
        places = np.array([self._row_of.get(clip_id, -1) for clip_id in batch.clip_ids], np.int64)
        clips = np.flatnonzero(places >= 0)
        bars = self._bases.bars.take(places[clips])
        n_bars = np.diff(bars.starts)
        frames = Ragged(batch.frames, batch.frame_starts)
        sounds = Ragged(batch.sounds, batch.sound_starts)
        n_frames, n_sounds = (np.diff(rows.starts)[clips] for rows in (frames, sounds))
        # Where nobody listened, sounds have no bars. Else bars that do not fit are another clip's.
        reached = (n_bars != n_frames) & (n_bars != n_frames + n_sounds)
        rests: tuple[tuple[Kind, Ragged, NDArray[np.int64]], ...] = (
            ("frames", frames, np.zeros_like(n_frames)), ("sounds", sounds, n_frames),
        )  # fmt: skip
        for kind, rows, before in rests:
            asked = np.flatnonzero(~reached & (n_bars > before))
            own = rows.take(clips[asked])
            sizes = np.diff(own.starts)
            first = bars.starts[:-1][asked] + before[asked]
            at = np.repeat(first - own.starts[:-1], sizes) + np.arange(int(own.starts[-1]))
            near = self._reach[kind].reached(own.values, bars.values[at])
            reached[asked] |= _any_of(own, near)
        return _Compared(len(clips), [batch.clip_ids[clip] for clip in clips[reached]])


@dataclass(frozen=True)
class _Compared:
    compared: int
    reached: list[str]


def _vectors_of(catalog: Catalog, numbers: NDArray[np.int64], kind: Kind) -> NDArray[np.float16]:
    """(n, d) the descriptors of some programs, by id: in time order within an asset."""
    batches = list(catalog.iter_frames(numbers.tolist(), kind=kind))
    if not batches:
        return np.zeros((0, 1), np.float16)
    ids = np.concatenate([batch.ids for batch in batches])
    vectors = np.concatenate([batch.vectors for batch in batches])
    return vectors[np.argsort(ids, kind="stable")]
