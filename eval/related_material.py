"""Programs of which a store has the first half, and clips of the second: what is about them, but no copy.

A film is cut in two in the middle; a generated drama has two episodes. The first part goes into the store. Of
the second, *unseen* clips are one stretch, edited as uploaders edit, and *trailers* a few short pieces in any
order. *Strangers* are clips of programs that the store has nothing of: films too short to be halved, and
dramas that are kept out.

A picture of the second part may stand in the first too: the title of a drama is the same in each episode, and
a camera that never moves shows one room with others in it, or with nobody. Such clips are told apart by their
pixels (:func:`look_back`), which no descriptor has a say in: a *copy* has a picture that the first part has,
the *same shot* has pictures of which all but a part stand there.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eval.benchmark import film_family, film_paths, film_seconds
from eval.dramas import DramaSpec, asset_id, catalogue, write_episode
from eval.edit_menu import draw_edits
from eval.edits import ClipPart, Edit, write_clip, write_montage
from eval.making import as_done, part_name, read_json, saying_why, worker_pool, write_json
from eval.related_titles import NAMES, ClipTitle, Names, Says, deal_says, second_titles, write_title
from eval.video_reader import read_frames
from matcher.errors import InputError
from matcher.inputs import AssetJob, ClipJob, ProgramJob
from matcher.show import progress_bar, say

Group = Literal["films", "dramas"]
Kind = Literal["unseen", "trailer"]
GROUPS: tuple[Group, ...] = get_args(Group)
KINDS: tuple[Kind, ...] = get_args(Kind)
#: What a clip shows: nothing that the store has, the same shot going on, or a picture that it has.
Shows = Literal["new", "same shot", "copy"]

#: A film as long as this is halved; of shorter ones clips of strangers are cut.
LEAST_FILM_SECONDS = 24.0
#: Of a film nothing is shown so long after its first half: the shot in the middle goes on.
GAP_SECONDS = 1.0
UNSEEN_SECONDS, PIECES, PIECE_SECONDS = 10.0, 5, 2.0
#: Edits of an unseen clip, at most; a trailer has one less.
MOST_EDITS = 2
#: One drama is kept out for so many that go into the store.
DRAMAS_A_STRANGER = 4
_MAX_SIDE, _FPS = 400, 12
_BROKEN = "a process that makes clips was ended from outside; run the same command again, it goes on"
_OPTION = "--out"
# First words of seeds, so that no two draws share a stream.
_OUTSIDE, _CLIPS, _TITLES, _SECOND = 70, 71, 72, 73

#: Pictures are compared as grey ones of this size, twice a second.
_GREY, _LOOK_FPS = (64, 36), 2.0
#: Root mean square difference, of 255, up to which two pictures are the same one. Of a drama's title 0; the
#: least of its scenes is 19, of films that are not of one camera 10.
SAME_PICTURE = 3.0
#: Difference up to which a pixel is the same, and share of those from which a shot is. Of films of one camera
#: half of all pictures have 0.84 to 0.98, and the most of any other's is 0.80.
SAME_PIXEL, SAME_SHOT = 8.0, 0.85
#: Spread below which a picture says nothing: black, or a fade's end.
_BLANK = 8.0
#: So many seconds of the same shot tell; of a copy, one picture does.
SAME_SHOT_SECONDS = 1.0


@dataclass(frozen=True)
class RelatedPlan:
    """What is made; equal plans make equal clips.

    Attributes:
        films: Folders of films, read where they lie.
        seed: Of dramas, clips and titles.
        n_dramas: Generated programs in the store; a quarter as many are strangers.
        clips_per_program: Of each kind.
        episode_seconds: Of a drama's two episodes.
    """

    films: tuple[Path, ...] = ()
    seed: int = 1
    n_dramas: int = 24
    clips_per_program: int = 2
    episode_seconds: float = 36.0

    def __post_init__(self) -> None:
        if self.seed < 0 or self.n_dramas < 0 or self.clips_per_program < 1:
            raise InputError(
                "the seed and the dramas must be 0 or more, and a program needs one clip at least"
            )
        if not self.films and self.n_dramas < 2:
            raise InputError(f"give --films, or at least 2 dramas; got {self.n_dramas}")
        if self.episode_seconds < UNSEEN_SECONDS + 2:
            raise ValueError(
                f"an episode must last {UNSEEN_SECONDS + 2:g} seconds, got {self.episode_seconds}"
            )

    def to_json(self) -> dict[str, Any]:
        """As a run's folder keeps it."""
        return {**asdict(self), "films": [str(folder) for folder in self.films]}


@dataclass(frozen=True)
class HalvedProgram:
    """One program: what the store has of it, and what clips are cut from.

    Attributes:
        program_id: Its name.
        group: Real or generated.
        family: Programs of one family are of one series, or one look.
        names: What it is called.
        indexed: File of its first half; None of a stranger.
        rest: File that clips are cut from.
        first_seconds: Where in it they begin at the earliest.
        last_seconds: Where they end at the latest.
        category: "tier1/tier2/tier3" or nothing.
    """

    program_id: str
    group: Group
    family: str
    names: Names
    indexed: Path | None
    rest: Path
    first_seconds: float
    last_seconds: float
    category: str = ""

    @property
    def is_stranger(self) -> bool:
        """The store has nothing of it."""
        return self.indexed is None

    def job(self) -> ProgramJob:
        """As ``matcher add`` takes it.

        Raises:
            ValueError: It is a stranger.
        """
        if self.indexed is None:
            raise ValueError(f"{self.program_id} is a stranger")
        return ProgramJob(
            self.program_id, (AssetJob(self.indexed, self.indexed.stem),), self.names.title,
            (self.names.second,), (self.category,) if self.category else (),
        )  # fmt: skip


@dataclass(frozen=True)
class LookBack:
    """What stretches show of a file that they are not cut from.

    Attributes:
        copied_seconds: How long they show a picture that the file has too.
        same_shot_seconds: How long they show what the file has, but for a part of the picture; copies too.
    """

    copied_seconds: float = 0.0
    same_shot_seconds: float = 0.0

    @property
    def shows(self) -> Shows:
        """In one word."""
        if self.copied_seconds > 0:
            return "copy"
        return "same shot" if self.same_shot_seconds >= SAME_SHOT_SECONDS else "new"


@dataclass(frozen=True)
class RelatedOrder:
    """One clip to be made.

    Attributes:
        clip_id: Its name.
        program: What it is cut from.
        kind: How.
        parts: Stretches of the program's rest.
        edits: Done to the whole.
        edit_names: Of these.
        title: As it is uploaded.
        seed: Of the edits.
    """

    clip_id: str
    program: HalvedProgram
    kind: Kind
    parts: tuple[ClipPart, ...]
    edits: tuple[Edit, ...]
    edit_names: tuple[str, ...]
    title: ClipTitle
    seed: int


@dataclass(frozen=True)
class RelatedClip:
    """One clip that is there.

    Attributes:
        clip_id: Its name.
        path: Its file.
        program_id: What it is cut from.
        group: Of that program.
        kind: How.
        is_stranger: The store has nothing of the program.
        title: As it is uploaded.
        edits: Names.
        back: What of its program's indexed half it shows.
    """

    clip_id: str
    path: Path
    program_id: str
    group: Group
    kind: Kind
    is_stranger: bool
    title: ClipTitle
    edits: tuple[str, ...]
    back: LookBack

    def job(self) -> ClipJob:
        """As ``matcher query`` takes it."""
        return ClipJob(self.clip_id, self.path, self.title.text)


# --- Programs ---


def halved_programs(plan: RelatedPlan, folder: Path) -> list[HalvedProgram]:
    """All programs, those of the store first in each group; films first.

    Args:
        plan: The plan.
        folder: Where files are made, or will be.

    Raises:
        InputError: A folder of films cannot be read or has none, or two programs have one name.
    """
    found = [*_films(plan, folder), *_dramas(plan, folder)]
    second = second_titles(len(found), np.random.default_rng([plan.seed, _SECOND]))
    found = [
        replace(program, names=replace(program.names, second=called))
        for program, called in zip(found, second, strict=True)
    ]
    ids = [program.program_id for program in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"two programs are called {twice[0]}; give the film another name")
    if sum(not program.is_stranger for program in found) < 2:
        raise InputError(
            f"a store needs 2 programs at least: give --dramas, or films of {LEAST_FILM_SECONDS:g}"
            " seconds or more"
        )
    return found


def _films(plan: RelatedPlan, folder: Path) -> Iterator[HalvedProgram]:
    paths = [path for films in plan.films for path in film_paths(films)]
    seconds = {path: film_seconds(path) for path in paths}
    kept = {film_family(path) for path in paths if seconds[path] >= LEAST_FILM_SECONDS}
    strangers = []
    for path in paths:
        names = Names(_film_title(path), "")
        program = HalvedProgram(path.stem, "films", film_family(path), names, None, path, 0.0, seconds[path])
        if seconds[path] >= LEAST_FILM_SECONDS:
            yield replace(
                program, indexed=folder / "halves" / f"{path.stem}.mp4",
                first_seconds=seconds[path] / 2 + GAP_SECONDS,
            )  # fmt: skip
        elif film_family(path) not in kept and seconds[path] >= 3 * PIECE_SECONDS:
            strangers.append(program)
    yield from strangers


def _film_title(path: Path) -> str:
    """From ``films.csv`` beside the film, if that names it; else its file name."""
    return _titles(path.parent).get(path.name, path.stem.replace("-", " "))


@functools.lru_cache(maxsize=8)
def _titles(folder: Path) -> dict[str, str]:
    try:
        with (folder / "films.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return {row["path"]: row["title"] for row in rows if row.get("path") and row.get("title")}


def related_specs(plan: RelatedPlan) -> tuple[list[DramaSpec], set[str]]:
    """The generated programs, and which of them are strangers: never one that has a sequel, or is one."""
    if plan.n_dramas == 0:
        return [], set()
    n_strangers = -(-plan.n_dramas // DRAMAS_A_STRANGER)
    specs = catalogue(
        plan.n_dramas + n_strangers, seed=plan.seed, n_twin_pairs=1 if plan.n_dramas >= 4 else 0,
        n_episodes=2, episode_seconds=plan.episode_seconds, width=320, height=180, fps=8,
    )  # fmt: skip
    twins = {spec.program_id for spec in specs if spec.twin_of} | {spec.twin_of for spec in specs}
    alone = [spec.program_id for spec in specs if spec.program_id not in twins]
    drawn = np.random.default_rng([plan.seed, _OUTSIDE]).permutation(len(alone))[:n_strangers]
    return specs, {alone[place] for place in drawn}


def _dramas(plan: RelatedPlan, folder: Path) -> Iterator[HalvedProgram]:
    specs, strangers = related_specs(plan)
    for spec in sorted(specs, key=lambda spec: spec.program_id in strangers):
        first, last = (drama_file(plan, folder, spec, episode) for episode in (1, 2))
        yield HalvedProgram(
            spec.program_id, "dramas", spec.twin_of or spec.program_id, Names(spec.title, ""),
            None if spec.program_id in strangers else first, last, 0.0, spec.episode_seconds, spec.category,
        )  # fmt: skip


def drama_file(plan: RelatedPlan, folder: Path, spec: DramaSpec, episode: int) -> Path:
    """Where an episode lies; of another seed elsewhere."""
    return folder / f"seed-{plan.seed}" / "dramas" / f"{asset_id(spec, episode)}.mp4"


# --- Clips ---


def related_orders(plan: RelatedPlan, folder: Path) -> list[RelatedOrder]:
    """All clips to be made, program by program.

    What each is cut from, and what is done to it, is drawn from the plan's seed; a program's clips do not
    depend on what other programs there are, only their titles do.
    """
    programs = halved_programs(plan, folder)
    names = {program.program_id: program.names for program in programs}
    there = [program.program_id for program in programs if not program.is_stranger]
    says = _says(plan, programs)
    orders = []
    for program in programs:
        for kind in KINDS:
            for number in range(plan.clips_per_program):
                clip_id = f"{program.program_id}-{kind}-{number + 1}"
                rng = np.random.default_rng([plan.seed, _CLIPS, number, *clip_id.encode()])
                title = write_title(next(says[program.is_stranger]), program.program_id, names, there, rng)
                orders.append(_order(clip_id, program, kind, title, rng))
    return orders


def _says(plan: RelatedPlan, programs: Sequence[HalvedProgram]) -> dict[bool, Iterator[Says]]:
    """What the titles say, dealt over all clips of the programs in the store, and over all strangers'."""
    each = len(KINDS) * plan.clips_per_program
    out = {}
    for is_stranger in (False, True):
        n = each * sum(program.is_stranger == is_stranger for program in programs)
        rng = np.random.default_rng([plan.seed, _TITLES, int(is_stranger)])
        out[is_stranger] = iter(deal_says(n, rng, without=NAMES if is_stranger else ()))
    return out


def _order(
    clip_id: str, program: HalvedProgram, kind: Kind, title: ClipTitle, rng: np.random.Generator
) -> RelatedOrder:
    # Beside and before a clip cards and people are shown, never a program: that would be a second truth.
    n_edits = int(rng.integers(0, (MOST_EDITS if kind == "unseen" else MOST_EDITS - 1) + 1))
    edit_names, edits = draw_edits(rng, n_edits)
    speed = float(np.prod([edit.speed for edit in edits])) if kind == "unseen" else 1.0
    parts = _stretch(program, UNSEEN_SECONDS * speed, rng) if kind == "unseen" else _pieces(program, rng)
    return RelatedOrder(
        clip_id, program, kind, parts, tuple(edits), edit_names, title, int(rng.integers(2**31))
    )


def _stretch(program: HalvedProgram, seconds: float, rng: np.random.Generator) -> tuple[ClipPart, ...]:
    whole = program.last_seconds - program.first_seconds
    seconds = min(seconds, whole)
    start = program.first_seconds + float(rng.uniform(0, whole - seconds))
    return (_part(program, start, seconds),)


def _pieces(program: HalvedProgram, rng: np.random.Generator) -> tuple[ClipPart, ...]:
    """Each from another part of what there is, in any order; fewer where it is short."""
    whole = program.last_seconds - program.first_seconds
    count = max(1, min(PIECES, int(whole / PIECE_SECONDS)))
    each = whole / count
    starts = program.first_seconds + each * np.arange(count) + rng.uniform(0, each - PIECE_SECONDS, count)
    return tuple(_part(program, float(starts[place]), PIECE_SECONDS) for place in rng.permutation(count))


def _part(program: HalvedProgram, start: float, seconds: float) -> ClipPart:
    return ClipPart(program.rest, start, seconds, program.rest.stem, program.program_id)


# --- Making ---


def make_related(plan: RelatedPlan, folder: Path, *, workers: int = 2) -> list[RelatedClip]:
    """Make what is missing of the halves, the dramas and the clips.

    Args:
        plan: What to make.
        folder: Where to.
        workers: Processes; 0 makes everything in this one. The files do not depend on it.

    Raises:
        InputError: The folder cannot be written, or a film cannot be read.
        MatcherError: A worker was ended from outside.
    """
    orders = related_orders(plan, folder)
    with worker_pool(workers, broken=_BROKEN) as submit:
        tasks: list[tuple[Any, ...]] = [
            (_make_episode, path, spec, n) for path, spec, n in _episodes(plan, folder)
        ]
        tasks += [
            (_make_half, program)
            for program in halved_programs(plan, folder)
            if program.group == "films" and program.indexed is not None and not program.indexed.exists()
        ]
        with progress_bar("making programs", len(tasks)) as bar:
            for name in as_done(submit, tasks):
                bar.step(name)
        say(f"programs: {len(tasks)} files made")
        left = [
            order
            for order in orders
            if not clip_file(plan, folder, order.clip_id).with_suffix(".json").exists()
        ]
        with progress_bar("cutting clips", len(left)) as bar:
            for name in as_done(submit, [(_make_clip, plan, folder, order.clip_id) for order in left]):
                bar.step(name)
        say(f"clips: {len(left)} made, {len(orders) - len(left)} there already")
    return [_read_clip(plan, folder, order) for order in orders]


def _episodes(plan: RelatedPlan, folder: Path) -> Iterator[tuple[Path, DramaSpec, int]]:
    """Episodes that are missing: of a stranger the first is not needed."""
    specs, strangers = related_specs(plan)
    for spec in specs:
        for episode in (2,) if spec.program_id in strangers else (1, 2):
            path = drama_file(plan, folder, spec, episode)
            if not path.exists():
                yield path, spec, episode


def _make_episode(path: Path, spec: DramaSpec, episode: int) -> str:
    with saying_why(path, _OPTION):
        write_episode(spec, episode, part_name(path))
        part_name(path).replace(path)
    return path.stem


def _make_half(program: HalvedProgram) -> str:
    """The first half of a film, as a file of its own."""
    assert program.indexed is not None
    with saying_why(program.indexed, _OPTION):
        seconds = program.last_seconds / 2
        write_clip(
            program.rest, 0.0, seconds, [], part_name(program.indexed), seed=0, fps=_FPS, max_side=_MAX_SIDE
        )
        part_name(program.indexed).replace(program.indexed)
    return program.program_id


def clip_file(plan: RelatedPlan, folder: Path, clip_id: str) -> Path:
    """Where a clip lies."""
    return folder / f"seed-{plan.seed}" / "clips" / f"{clip_id}.mp4"


@functools.lru_cache(maxsize=1)
def _orders_by_id(plan: RelatedPlan, folder: Path) -> dict[str, RelatedOrder]:
    return {order.clip_id: order for order in related_orders(plan, folder)}


def _make_clip(plan: RelatedPlan, folder: Path, clip_id: str) -> str:
    """Cut and edit one clip, and note how much of it the store has too."""
    order, path = _orders_by_id(plan, folder)[clip_id], clip_file(plan, folder, clip_id)
    with saying_why(path, _OPTION):
        write_montage(order.parts, order.edits, path, seed=order.seed, fps=_FPS, max_side=_MAX_SIDE)
        indexed = order.program.indexed
        back = LookBack() if indexed is None else look_back(order.parts, indexed)
        write_json(path.with_suffix(".json"), asdict(back))
    return clip_id


def _read_clip(plan: RelatedPlan, folder: Path, order: RelatedOrder) -> RelatedClip:
    path = clip_file(plan, folder, order.clip_id)
    noted = read_json(path.with_suffix(".json"))
    if noted is None:
        raise InputError(f"{path.with_suffix('.json')} is damaged; delete it, and run the same command again")
    program = order.program
    return RelatedClip(
        order.clip_id, path, program.program_id, program.group, order.kind, program.is_stranger, order.title,
        order.edit_names, LookBack(**noted),
    )  # fmt: skip


# --- What stands in both halves ---


def look_back(parts: Iterable[ClipPart], indexed: Path) -> LookBack:
    """What stretches show of a file that they are not cut from, before anything is edited.

    Pictures are compared at half a second's distance, small and grey; blank ones count as none.

    Args:
        parts: Stretches of other files.
        indexed: The file.
    """
    known = _grey_pictures(indexed)
    copied = same = 0.0
    for part in parts:
        stop = part.start_seconds + part.duration_seconds
        pictures = list(_greys(part.source, part.start_seconds, stop, fps=_LOOK_FPS))
        found = [_compared(picture, known) for picture in pictures if not _is_blank(picture)]
        each = part.duration_seconds / max(1, len(pictures))
        copied += each * sum(is_copied for is_copied, _ in found)
        same += each * sum(is_same for _, is_same in found)
    return LookBack(round(copied, 3), round(same, 3))


def _compared(picture: NDArray[np.float32], known: NDArray[np.float32]) -> tuple[bool, bool]:
    """Whether one of the known pictures is the same, and whether it is but for a part."""
    apart = np.abs(known - picture)
    is_copied = bool((np.sqrt((apart**2).mean(axis=1)) <= SAME_PICTURE).any())
    return is_copied, is_copied or bool(((apart <= SAME_PIXEL).mean(axis=1) >= SAME_SHOT).any())


@functools.lru_cache(maxsize=2)
def _grey_pictures(path: Path) -> NDArray[np.float32]:
    found = [
        picture for picture in _greys(path, 0.0, float("inf"), fps=2 * _LOOK_FPS) if not _is_blank(picture)
    ]
    return np.stack(found) if found else np.zeros((0, _GREY[0] * _GREY[1]), np.float32)


def _is_blank(picture: NDArray[np.float32]) -> bool:
    return bool(picture.std() < _BLANK)


def _greys(path: Path, start: float, stop: float, *, fps: float) -> Iterator[NDArray[np.float32]]:
    from PIL import Image

    for _, image in read_frames(path, start, stop, max_side=2 * _GREY[0], fps=fps):
        small = Image.fromarray(image).convert("L").resize(_GREY, Image.Resampling.BOX)
        yield np.asarray(small, np.float32).ravel()
