"""Two-stage search beside one-stage, over one store: what it finds, what it costs, what stands in memory.

The store is made up as :mod:`eval.bench_index` makes its vectors, programs of scenes with a frame every two
seconds, or it is a copy of one that is there. A clip is consecutive frames of one of its programs, each as
noisy as an edit leaves it.

===============  ==================================================================================
``recall``       share of the ten nearest of each frame, by brute force, that are found
``right``        share of clips whose program gets most votes, one a frame: that of its nearest
``milliseconds`` a clip, all its frames asked together; one-stage and two-stage take turns
``vector_bytes`` of the engine's vectors and ids, by computation, a frame of the store; what is mapped from
                 files is not counted
``read``         frames read from the tables a clip
===============  ==================================================================================

Shape letters: ``n`` frames stored, ``nq`` frames of a clip, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from eval.bench import processor_name, take_turns
from eval.bench_index import PROGRAM_FRAMES, D, K, program_vectors
from index.base import Ids, SearchResult, Vectors
from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.drift import near, recall_of
from index.engines import engine_bytes
from index.exact import best_first
from index.live import LiveIndex
from index.rows import ORDINAL_BITS
from index.stretches import Cut
from index.two_stage import TwoStageIndex

#: From one frame of a made-up program to the next, and frames of a clip.
SECONDS_A_FRAME, CLIP_FRAMES = 2.0, 20
#: How alike a clip's frame is to the stored one.
CLIP_COSINE = 0.85
#: Clips that are asked, and those of them that are timed.
N_CLIPS, N_TIMED = 100, 10
#: Programs between two compactions of a store that is being made: small commits make each other slow.
COMPACT_EVERY = 100
#: What is compared: where to cut, and how many stretches a frame is compared with.
SHOTS, HALF_MINUTES = Cut(), Cut(share=0.0)
SETTINGS: tuple[tuple[Cut, int], ...] = (
    (SHOTS, 8), (SHOTS, 32), (SHOTS, 128), (HALF_MINUTES, 8), (HALF_MINUTES, 32),
)  # fmt: skip


@dataclass(frozen=True)
class SearchRow:
    """What one way of searching found and cost.

    Attributes:
        name: Which.
        recall: Of the ten nearest.
        right: Share of clips.
        milliseconds: A clip, median.
        ratio: Of one-stage's.
        vector_bytes: A frame of the store.
        read: Frames a clip.
    """

    name: str
    recall: float
    right: float
    milliseconds: float
    ratio: float
    vector_bytes: float
    read: float


@dataclass(frozen=True)
class TwoStageBench:
    """What one run found.

    Attributes:
        n: Frames stored.
        d: Dimensions.
        clips: How many were asked.
        has_id_index: Whether the tables find frames by an index of their ids.
        rows: One a way of searching, one-stage first.
        machine: The processor.
        seed: Of vectors and clips.
    """

    n: int
    d: int
    clips: int
    has_id_index: bool
    rows: tuple[SearchRow, ...]
    machine: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return asdict(self)


@dataclass(frozen=True)
class _Clip:
    """Frames that are asked for, (nq, d), and the number of their program."""

    number: int
    vectors: Vectors


def make_store(folder: Path, n: int, *, d: int = D, seed: int = 1) -> Catalog:
    """A store of made-up programs, ``n`` frames in all, at least one program of them.

    Raises:
        ValueError: ``n`` is less than a program.
    """
    if n < PROGRAM_FRAMES:
        raise ValueError(f"n must be at least {PROGRAM_FRAMES}, got {n}")
    catalog = Catalog.create(folder, ModelInfo(f"bench-{seed}", "made up", d))
    seconds = np.arange(PROGRAM_FRAMES, dtype=np.float64) * SECONDS_A_FRAME
    with catalog.writing() as writer:
        for number in range(n // PROGRAM_FRAMES):
            vectors = program_vectors(number, PROGRAM_FRAMES, d, seed)
            asset = NewAsset("a", "", "", PROGRAM_FRAMES * SECONDS_A_FRAME, seconds, vectors)
            writer.add_program(NewProgram(f"p{number}"), [asset])
            if number % COMPACT_EVERY == COMPACT_EVERY - 1:
                writer.compact(keep_seconds=0)
        writer.compact(keep_seconds=0)
    return catalog


def bench_two_stage(
    catalog: Catalog,
    *,
    settings: Sequence[tuple[Cut, int]] = SETTINGS,
    n_clips: int = N_CLIPS,
    id_index: bool = True,
    seed: int = 1,
    repeats: int = 3,
    on_step: Callable[[str], None] = lambda _: None,
) -> TwoStageBench:
    """Search a store by one stage and by two.

    Args:
        catalog: The store. What two stages keep is written to it, so let it be a copy.
        settings: Of two-stage: where to cut, and ``stretches``.
        n_clips: Clips, each of a random program that has as many frames.
        id_index: Let the tables find frames by an index of their ids.
        seed: Of the clips.
        repeats: Rounds; the median counts.
        on_step: Told what is done next.

    Raises:
        CatalogError: The tables are damaged.
        ValueError: No program has enough frames for a clip.
    """
    on_step("opening")
    one = LiveIndex.open(catalog)
    clips = _clips(one, n_clips, seed)
    on_step("the nearest by brute force")
    truth = _nearest(one, np.concatenate([clip.vectors for clip in clips]))
    n = one.ntotal
    rows = [
        _row(
            "one-stage, " + one.kind,
            clips,
            truth,
            one.search,
            one.search,
            0,
            repeats,
            engine_bytes(one.kind, one.d, n) / n,
        )
    ]
    for cut, stretches in settings:
        name = f"two-stage, {'shots' if cut.share else f'{cut.longest_seconds:g} s'}, {stretches}"
        on_step(name)
        two = TwoStageIndex.open(catalog, cut=cut, stretches=stretches)
        if id_index:
            with catalog.writing() as writer:
                two.save(writer)
        before = two.frames_read
        for clip in clips:
            two.search(clip.vectors, K)
        read = (two.frames_read - before) / len(clips)
        bytes_a_frame = engine_bytes(two.kind.split()[-1], two.d, two.n_stretches) / n
        rows.append(_row(name, clips, truth, two.search, one.search, read, repeats, bytes_a_frame))
    return TwoStageBench(n, one.d, len(clips), id_index, tuple(rows), processor_name(), seed)


def _clips(one: LiveIndex, n_clips: int, seed: int) -> list[_Clip]:
    """Consecutive frames of random assets, each with its own noise."""
    rng = np.random.default_rng([seed, 4])
    view = one.view
    long_enough = np.flatnonzero(view.frame_count >= CLIP_FRAMES)
    if long_enough.size == 0:
        raise ValueError(f"no program of the store has the {CLIP_FRAMES} frames of a clip")
    clips = []
    for asset in rng.choice(long_enough, n_clips).tolist():
        first = int(rng.integers(view.frame_count[asset] - CLIP_FRAMES + 1)) + int(view.first_row[asset])
        vectors = view.vectors_at(np.arange(first, first + CLIP_FRAMES)).astype(np.float32)
        clips.append(_Clip(view.assets[asset].number, near(vectors, CLIP_COSINE, rng)))
    return clips


def _nearest(one: LiveIndex, xq: Vectors) -> Ids:
    """(nq, k) ids of the nearest by brute force over all frames."""
    best = np.full((len(xq), K), -np.inf, np.float32)
    names = np.full((len(xq), K), -1, np.int64)
    for ids, vectors in one.view.blocks():
        near_block = xq @ vectors.astype(np.float32).T
        top = np.argpartition(-near_block, min(K, ids.size - 1), axis=1)[:, :K]
        best, names = best_first(
            np.concatenate([best, np.take_along_axis(near_block, top, axis=1)], axis=1),
            np.concatenate([names, ids[top]], axis=1), K,
        )  # fmt: skip
    return names


def _row(
    name: str,
    clips: Sequence[_Clip],
    truth: Ids,
    search: Callable[[Vectors, int], SearchResult],
    beside: Callable[[Vectors, int], SearchResult],
    read: float,
    repeats: int,
    vector_bytes: float,
) -> SearchRow:
    """What ``search`` finds, and what it takes in turns with ``beside``."""
    found = np.concatenate([search(clip.vectors, K).ids for clip in clips])
    rights = [
        _voted(ids) == clip.number for ids, clip in zip(np.split(found, len(clips)), clips, strict=True)
    ]

    def all_clips(search: Callable[[Vectors, int], SearchResult]) -> int:
        return sum(len(search(clip.vectors, K).ids) for clip in clips[:N_TIMED])

    steps = {"this": lambda: all_clips(search), "beside": lambda: all_clips(beside)}
    if search == beside:
        del steps["beside"]
    taken, _ = take_turns(steps, repeats, time.perf_counter)
    this, other = (median(taken[side]) / min(N_TIMED, len(clips)) for side in ("this", list(steps)[-1]))
    return SearchRow(
        name, recall_of(found, truth), float(np.mean(rights)), 1000 * this, this / other, vector_bytes, read
    )


def _voted(ids: Ids) -> int:
    """The number of the program that most frames' nearest neighbours, the first column, are of."""
    numbers, votes = np.unique(ids[:, 0] >> ORDINAL_BITS, return_counts=True)
    return int(numbers[np.argmax(votes)])


def table_rows(bench: TwoStageBench) -> Sequence[Sequence[str]]:
    """The figures as a table shows them."""
    return [
        (
            row.name, f"{row.recall:.3f}", f"{row.right:.3f}", f"{row.milliseconds:.1f}", f"{row.ratio:.2f}",
            f"{row.vector_bytes:.0f}", f"{row.read:.0f}",
        )
        for row in bench.rows
    ]  # fmt: skip
