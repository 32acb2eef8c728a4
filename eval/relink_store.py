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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
        on_step(f"making {size.clips} clips and their links")
        lastly = _LastNight(catalog, size, epoch)
        for start in range(0, size.clips, _CLIPS_A_COMMIT):
            clips = np.arange(start, min(start + _CLIPS_A_COMMIT, size.clips))
            stored = lastly.clips(clips)
            writer.put_clips(stored)
            writer.put_links([lastly.link(int(clip), one) for clip, one in zip(clips, stored, strict=True)])
            if start // _CLIPS_A_COMMIT % 16 == 15:
                on_step(f"{start + len(clips)} clips")
        writer.put_night(NightRecord(1, lastly.epoch, lastly.known, catalog.version()))
        on_step("indexing keys")
        writer.index_keys()


class _LastNight:
    """Clips, and what a re-link of all of them would have kept of each."""

    def __init__(self, catalog: Catalog, size: Size, epoch: str) -> None:
        catalog.refresh()
        self._size, self._catalog = size, catalog
        numbers = {program_number(record): record.number for record in catalog.programs()}
        self._number = np.array([numbers.get(i, -1) for i in range(size.every_program)], np.int64)
        self.known = max(numbers.values())
        self._voting = Settings().voting
        model = catalog.model
        calibration = calibration_of(catalog.place, EncoderInfo(model.name, model.fingerprint, model.d))
        self.epoch, self._background = epoch, calibration.background
        self._frames = np.empty((size.every_program, PROGRAM_FRAMES, size.d), np.float16)
        for program in range(size.every_program):
            self._frames[program] = frames_of(size, program)

    def clips(self, clips: NDArray[np.int64]) -> list[StoredClip]:
        """Some clips; the same whichever others are asked for with them only for the same first one."""
        size = self._size
        rows = size.first_of[clips][:, None] + np.arange(CLIP_FRAMES)
        middle = widened(self._frames[size.program_of[clips][:, None], rows]).reshape(-1, size.d)
        rng = np.random.default_rng([size.seed, 7, int(clips[0])])
        vectors = near(middle, CLIP_COSINE, rng).astype(np.float16).astype(np.float32)
        seconds = np.arange(CLIP_FRAMES, dtype=np.float64)
        fingerprint = self._catalog.model.fingerprint
        return [
            StoredClip(
                ClipRecord(
                    clip_name(clip), "", "", float(CLIP_FRAMES), CLIP_FRAMES, fingerprint, kept_at="0"
                ),
                seconds,
                own,
            )
            for clip, own in zip(clips.tolist(), vectors.reshape(-1, CLIP_FRAMES, size.d), strict=True)
        ]

    def link(self, clip: int, stored: StoredClip) -> LinkRecord:
        """Its link, with what it rests on."""
        program = int(self._size.program_of[clip])
        number = int(self._number[program])
        levels = np.maximum(self._background.levels(stored.vectors), np.float32(self._voting.floor))
        bars, numbers = levels, np.zeros(0, np.int64)
        if number >= 0:
            similar = stored.vectors @ widened(self._frames[program]).T
            bars, is_near = bars_of(similar, levels, self._voting.k)
            numbers = np.array([number] if is_near else [], np.int64)
        basis = LinkBasis(self.epoch, self.known, numbers=numbers, bars=bars)
        answer = _answer_as_made(self._size, clip, stored.record, basis, self._catalog.version())
        return link_record(answer, kept_at=stored.record.kept_at, night=1)


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


def _answer_as_made(size: Size, clip: int, record: ClipRecord, basis: LinkBasis, version: int) -> Answer:
    """The answer that the clip was made for; its figures are about what is found."""
    links: tuple[Link, ...] = ()
    guesses: tuple[Guess, ...] = ()
    if basis.numbers.size:
        first = float(size.first_of[clip])
        program_id = program_name(int(size.program_of[clip]))
        segment = Segment(0.0, float(CLIP_FRAMES), "a", first, first + CLIP_FRAMES, CLIP_COSINE)
        links = (Link(program_id, 1.0, (segment,)),)
        guesses = (Guess(program_id, "", 1.0, CLIP_COSINE, 10.0),)
    return Answer(
        record.clip_id, record.path, "linked" if links else "none", links, guesses, record.model, version,
        basis=basis,
    )  # fmt: skip
