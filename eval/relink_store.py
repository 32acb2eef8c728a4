"""A made-up store for the bench of the re-link: programs, very many kept clips, and last night's links.

Programs are made as :mod:`eval.bench_index` makes them, bundles of scenes of frames. A clip is so many
consecutive frames of one program, each as noisy as an edit leaves it; nine in ten are of programs that the
store holds, the others of programs that it does not hold, or not yet. Nothing has sound.

To answer a million clips takes hours, so a clip's link is written down as it must be by construction. Its
neighbours above the level of chance are frames of its own program, whose similarities are computed; frames of
other programs are nowhere near: unit vectors drawn apart in so many dimensions. From these follow, as in
:mod:`matcher.linking`, the bars and the programs that the answer rests on. The words of the answer are a
guess, but nothing rests on them: :mod:`eval.bench_relink` answers a sample in earnest, and compares.

Shape letters: ``n`` clips, ``p`` programs, ``f`` frames of a program, ``r`` of a clip, ``d`` dimensions.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.bench_index import D, program_vectors
from index.base import Vectors
from index.catalog import (
    Catalog,
    ClipRecord,
    ModelInfo,
    NewAsset,
    NewProgram,
    NightRecord,
    StoredClip,
    Writer,
)
from index.drift import near
from index.half import widened
from index.rows import LinkBasis, LinkRecord, ProgramRecord
from matcher.background import Background
from matcher.calibration import calibration_of
from matcher.changes import link_record
from matcher.config import Settings
from matcher.encoders.base import ModelInfo as EncoderInfo
from matcher.records import Answer, Guess, Link, Segment
from matcher.store import open_linker

PROGRAM_FRAMES, CLIP_FRAMES = 100, 12
#: How alike a clip's frame is to the program's, and a frame of a new version of a program to the old one.
CLIP_COSINE, VERSION_COSINE = 0.85, 0.95
#: For each program of the store, so many that it does not hold; clips are cut from all of them alike.
OTHERS = 1 / 9
TOP = 5
#: Of one commit; LanceDB pays by the commit, and Python by the memory.
_CLIPS_A_COMMIT, _PROGRAMS_A_COMMIT = 8192, 2000
_MARK = "bench.json"
#: Processes that make clips; and when all were kept.
_MAKERS = 2
_KEPT = "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Size:
    """What is made.

    Attributes:
        clips: Kept clips.
        programs: In the store at first.
        seed: Of everything.
        d: Dimensions.
    """

    clips: int
    programs: int
    seed: int = 1
    d: int = D

    def __post_init__(self) -> None:
        if self.clips < 1 or self.programs < 1:
            raise ValueError(f"clips ({self.clips}) and programs ({self.programs}) must be at least 1")

    @property
    def every_program(self) -> int:
        """With those that the store does not hold."""
        return self.programs + max(1, round(self.programs * OTHERS))

    @cached_property
    def program_of(self) -> NDArray[np.int64]:
        """(n,) the program that each clip is of."""
        return np.random.default_rng([self.seed, 4]).integers(0, self.every_program, self.clips)

    @cached_property
    def first_of(self) -> NDArray[np.int64]:
        """(n,) the first frame of it."""
        most = PROGRAM_FRAMES - CLIP_FRAMES + 1
        return np.random.default_rng([self.seed, 5]).integers(0, most, self.clips)


def frames_of(size: Size, program: int, version: int = 0) -> Vectors:
    """(f, d) the frames of one program; of a later version other copies of the same scenes."""
    frames = program_vectors(program, PROGRAM_FRAMES, size.d, size.seed)
    if version == 0:
        return frames
    return near(frames, VERSION_COSINE, np.random.default_rng([size.seed, 6, program, version]))


def program_name(program: int) -> str:
    """The id of a program in the store."""
    return f"p{program:06d}"


def program_number(record: ProgramRecord) -> int:
    """The reverse of :func:`program_name`."""
    return int(record.program_id[1:])


def clip_name(clip: int) -> str:
    """The id of a clip in the store."""
    return f"c{clip:08d}"


def clip_number(clip_id: str) -> int:
    """The reverse of :func:`clip_name`."""
    return int(clip_id[1:])


def new_programs(
    size: Size, programs: Iterable[int], version: int
) -> Iterator[tuple[NewProgram, list[NewAsset]]]:
    """Programs as a writer takes them; their version stands in the fingerprint of their source."""
    seconds = np.arange(PROGRAM_FRAMES, dtype=np.float64)
    for program in programs:
        asset = NewAsset("a", "", "", float(PROGRAM_FRAMES), seconds, frames_of(size, program, version))
        yield NewProgram(program_name(program), source_fingerprint=f"v{version}"), [asset]


def put_programs(writer: Writer, size: Size, programs: Sequence[int], version: int) -> None:
    """Add programs, or replace them, many a commit."""
    for start in range(0, len(programs), _PROGRAMS_A_COMMIT):
        writer.add_programs(new_programs(size, programs[start : start + _PROGRAMS_A_COMMIT], version))


def open_store(folder: Path, size: Size, on_step: Callable[[str], None] = lambda _: None) -> Catalog:
    """The store of this size in a folder, made where it is not there; a run that was cut off starts over.

    Raises:
        ValueError: The folder holds another one, or half of one.
    """
    mark = folder / _MARK
    if not mark.is_file():
        if (folder / "store").exists():
            raise ValueError(f"{folder} holds a store that was not finished: remove it, or name another")
        folder.mkdir(parents=True, exist_ok=True)
        _make_store(folder / "store", size, on_step)
        mark.write_text(json.dumps(asdict(size)) + "\n", encoding="utf-8")
    have = Size(**json.loads(mark.read_text(encoding="utf-8")))
    if have != size:
        raise ValueError(f"{folder} holds {have}, not {size}: name another folder")
    return Catalog.open(folder / "store")


def _make_store(folder: Path, size: Size, on_step: Callable[[str], None]) -> None:
    catalog = Catalog.create(folder, ModelInfo(f"bench-{size.seed}-{size.d}", "made up", size.d))
    with catalog.writing() as writer:
        # While there is nothing to search: no index of millions is trained for the sake of its epoch.
        epoch = open_linker(catalog, Settings()).epoch(TOP)
        on_step(f"making {size.programs} programs")
        put_programs(writer, size, range(size.programs), 0)
        catalog.refresh()
        on_step(f"making {size.clips} clips and their links")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="frames-") as frames:
            maker = _Maker.of(catalog, size, epoch, Path(frames) / "frames")
            for done, (stored, links) in enumerate(_made(maker)):
                writer.put_clips(stored)
                writer.put_links(links)
                if done % 16 == 15:
                    on_step(f"{(done + 1) * maker.at_once} clips")
        writer.put_night(NightRecord(1, epoch, maker.known, catalog.version()))
        on_step("indexing keys")
        writer.index_keys()


def _made(maker: _Maker) -> Iterator[tuple[list[StoredClip], list[LinkRecord]]]:
    """All clips and links, so many at a time; several processes make what this one writes."""
    n = maker.size.clips
    if n <= maker.at_once:
        vectors, links = maker.make(0)
        yield maker.stored(0, vectors), links
        return
    # Spawned: a fork after OpenMP has run hangs. Few wait at a time, for each is 100 MB.
    with ProcessPoolExecutor(_MAKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        starts = list(range(0, n, maker.at_once))
        waiting = deque((start, pool.submit(maker.make, start)) for start in starts[: _MAKERS + 1])
        for ahead in [*starts[_MAKERS + 1 :], *([None] * len(waiting))]:
            start, made = waiting.popleft()
            vectors, links = made.result()
            if ahead is not None:
                waiting.append((ahead, pool.submit(maker.make, ahead)))
            yield maker.stored(start, vectors), links


@dataclass(frozen=True)
class _Maker:
    """Makes clips, and what a re-link of all of them would have kept of each.

    Attributes:
        size: Of the store.
        frames_file: Where the frames of all programs are, (p, f, d) float16.
        fingerprint: Of the store's model.
        version: Of its catalogue.
        epoch: Of the answers.
        known: The highest number of a program.
        first_number: That of the first one; the others follow.
        background: What chance looks like.
        at_once: Clips of one commit.
    """

    size: Size
    frames_file: Path
    fingerprint: str
    version: int
    epoch: str
    known: int
    first_number: int
    background: Background
    at_once: int = _CLIPS_A_COMMIT

    @classmethod
    def of(cls, catalog: Catalog, size: Size, epoch: str, frames_file: Path) -> _Maker:
        """For a store that has its programs."""
        shape = (size.every_program, PROGRAM_FRAMES, size.d)
        frames = np.memmap(frames_file, np.float16, "w+", shape=shape)
        for program in range(size.every_program):
            frames[program] = frames_of(size, program)
        frames.flush()
        model, records = catalog.model, catalog.programs()
        calibration = calibration_of(catalog.place, EncoderInfo(model.name, model.fingerprint, model.d))
        return cls(
            size, frames_file, model.fingerprint, catalog.version(), epoch, records[-1].number,
            records[0].number, calibration.background,
        )  # fmt: skip

    def make(self, start: int) -> tuple[NDArray[np.float16], list[LinkRecord]]:
        """:meth:`vectors` and :meth:`links`."""
        vectors = self.vectors(start)
        return vectors, self.links(start, vectors)

    def vectors(self, start: int) -> NDArray[np.float16]:
        """(n, r, d) of the clips of one commit."""
        size, every, frames = self.size, self._clips(start), self._frames()
        made = np.empty((every.size, CLIP_FRAMES, size.d), np.float16)
        rng = np.random.default_rng([size.seed, 7, start])
        # Some at a time: what fits the caches, and what the allocator need not ask the system for.
        for at in range(0, every.size, 128):
            clips = every[at : at + 128]
            rows = size.first_of[clips][:, None] + np.arange(CLIP_FRAMES)
            middle = widened(frames[size.program_of[clips][:, None], rows]).reshape(-1, size.d)
            made[at : at + 128] = near(middle, CLIP_COSINE, rng).reshape(-1, CLIP_FRAMES, size.d)
        return made

    def stored(self, start: int, vectors: NDArray[np.float16]) -> list[StoredClip]:
        """The same clips as a writer takes them."""
        seconds = np.arange(CLIP_FRAMES, dtype=np.float64)
        length = float(CLIP_FRAMES)
        return [
            StoredClip(
                ClipRecord(clip_name(clip), "", "", length, CLIP_FRAMES, self.fingerprint, kept_at=_KEPT),
                seconds,
                own,
            )
            for clip, own in zip(self._clips(start).tolist(), vectors, strict=True)
        ]

    def links(self, start: int, vectors: NDArray[np.float16]) -> list[LinkRecord]:
        """Their links, with what they rest on."""
        frames, voting = self._frames(), Settings().voting
        links = []
        for clip, own in zip(self._clips(start).tolist(), vectors, strict=True):
            rows, program = widened(own), int(self.size.program_of[clip])
            levels = np.maximum(self.background.levels(rows), np.float32(voting.floor))
            bars, numbers = levels, np.zeros(0, np.int64)
            if program < self.size.programs:
                bars, is_near = bars_of(rows @ widened(frames[program]).T, levels, voting.k)
                numbers = np.array([self.first_number + program] if is_near else [], np.int64)
            basis = LinkBasis(self.epoch, self.known, numbers=numbers, bars=bars)
            links.append(link_record(self._answer(clip, basis), kept_at=_KEPT, night=1))
        return links

    def _clips(self, start: int) -> NDArray[np.int64]:
        return np.arange(start, min(start + self.at_once, self.size.clips))

    def _frames(self) -> NDArray[np.float16]:
        shape = (self.size.every_program, PROGRAM_FRAMES, self.size.d)
        frames: NDArray[np.float16] = np.memmap(self.frames_file, np.float16, "r", shape=shape)
        return frames

    def _answer(self, clip: int, basis: LinkBasis) -> Answer:
        """The answer that the clip was made for; its figures are about what is found."""
        links: tuple[Link, ...] = ()
        guesses: tuple[Guess, ...] = ()
        if basis.numbers.size:
            first = float(self.size.first_of[clip])
            program_id = program_name(int(self.size.program_of[clip]))
            segment = Segment(0.0, float(CLIP_FRAMES), "a", first, first + CLIP_FRAMES, CLIP_COSINE)
            links = (Link(program_id, 1.0, (segment,)),)
            guesses = (Guess(program_id, "", 1.0, CLIP_COSINE, 10.0),)
        return Answer(
            clip_name(clip), "", "linked" if links else "none", links, guesses, self.fingerprint,
            self.version, basis=basis,
        )  # fmt: skip


def bars_of(
    similar: NDArray[np.float32], levels: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], bool]:
    """What a clip's rows rest on where only one program's frames come near them.

    Args:
        similar: (r, f) to that program's frames.
        levels: (r,) what chance gives each row; no frame of another program reaches it.
        k: Neighbours of a row.

    Returns:
        (r,) the level, or the similarity of the last of k neighbours where that is above it; and whether
        any frame reaches a level.
    """
    bars = levels
    if similar.shape[1] >= k:
        last = np.partition(similar, similar.shape[1] - k, axis=1)[:, similar.shape[1] - k]
        bars = np.maximum(levels, last)
    return bars, bool((similar >= levels[:, None]).any())
