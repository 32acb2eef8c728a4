"""The linking benchmark: which programs, which clips of them, and what is done to each clip.

Real films and generated dramas are divided into a catalogue and programs outside it. Known clips are
cut from the catalogue, unknown ones from outside, and both go through the same edits, so that an
unknown clip differs from a known one in nothing but that its program is not there. Films are divided
by series and dramas by look: a sequel never stands on the other side.

Everything is drawn from the plan's seed and the clip's number, so any process can draw any clip.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eval.dramas import DramaSpec, asset_id, catalogue
from eval.edit_menu import KINDS, draw_edits, draw_parts
from eval.edits import ClipPart, Edit
from eval.video_reader import read_shape
from matcher.errors import InputError
from matcher.inputs import film_files

Group = Literal["films", "dramas"]
Level = Literal["none", "light", "heavy", "stacked", "montage"]

#: Of the clips of each group; what is left has one edit.
NONE_SHARE, STACKED_SHARE, MONTAGE_SHARE = 0.08, 0.22, 0.10
#: Programs in a montage, and the seconds that each is shown in the mean, at least.
MONTAGE_PARTS = (2, 3, 4)
PART_SECONDS = 2.5
#: One drama in so many has a sequel.
_DRAMAS_A_TWIN = 50
_GROUPS: tuple[Group, ...] = ("films", "dramas")
# First words of the seeds of what is drawn, so that no two draws share a stream.
_SIDES, _PROGRAMS, _CLIPS, _KINDS = 40, 41, 42, 44


@dataclass(frozen=True)
class BenchmarkPlan:
    """What the benchmark is made of; equal plans make equal files.

    Attributes:
        films: Folder of films, read where they lie; None for dramas alone.
        seed: Of everything that is drawn.
        n_dramas: Generated programs, sequels included.
        outside_share: Of the series, and of the dramas, that are not put into the catalogue.
        clips_per_known: Known clips for each program of the catalogue, in the mean over all programs;
            films and dramas have half of the clips each.
        min_per_kind: Known clips with one edit of a kind, at least, for each kind and each group.
        n_unknown: Clips of programs outside the catalogue.
        clip_seconds: Shortest and longest clip.
        fps: Of the clips.
        max_side: Longest side of the clips, unless an edit changes the frame.
        episode_seconds: Of a drama, which has one episode.
        drama_width: Of its frames.
        drama_height: Of its frames.
        drama_fps: Its frames a second.
    """

    films: Path | None = None
    seed: int = 1
    n_dramas: int = 150
    outside_share: float = 0.3
    clips_per_known: int = 12
    min_per_kind: int = 8
    n_unknown: int = 1500
    clip_seconds: tuple[float, float] = (6.0, 12.0)
    fps: int = 12
    max_side: int = 400
    episode_seconds: float = 40.0
    drama_width: int = 400
    drama_height: int = 224
    drama_fps: int = 12

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"the seed must be 0 or more, got {self.seed}")
        if self.n_dramas < 0 or (self.n_dramas < 2 and self.films is None):
            raise InputError(f"a benchmark needs films or at least 2 dramas, got {self.n_dramas} dramas")
        if self.n_unknown < 0 or self.clips_per_known < 1 or self.min_per_kind < 0:
            raise InputError("numbers of clips must not be negative, and a program needs one clip at least")
        if not 0 < self.outside_share < 1:
            raise InputError(f"the share outside must lie between 0 and 1, got {self.outside_share}")
        low, high = self.clip_seconds
        if not 1 <= low <= high or self.episode_seconds < 6:
            raise ValueError(f"clips must last a second, and episodes 6 at least, got {self}")

    @classmethod
    def quick(cls) -> BenchmarkPlan:
        """A small plan, to see that everything works: every kind of edit once a group."""
        return cls(
            n_dramas=12, clips_per_known=3, min_per_kind=1, n_unknown=60, episode_seconds=24.0
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The plan as an object; :meth:`from_json` reads it."""
        return {
            **asdict(self),
            "films": None if self.films is None else str(self.films),
            "clip_seconds": list(self.clip_seconds),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BenchmarkPlan:
        """The reverse of :meth:`to_json`."""
        films, (low, high) = value["films"], value["clip_seconds"]
        return cls(**{**value, "films": None if films is None else Path(films), "clip_seconds": (low, high)})


@dataclass(frozen=True)
class Source:
    """One file that clips are cut from.

    Attributes:
        program_id: Its program.
        asset_id: Its own name.
        path: The file.
        seconds: Its length.
        group: Real or generated.
        family: Programs of one family are of one series, or one look.
        title: Of the program.
        category: "tier1/tier2/tier3" or nothing.
        is_known: It is put into the catalogue.
    """

    program_id: str
    asset_id: str
    path: Path
    seconds: float
    group: Group
    family: str
    title: str
    category: str = ""
    is_known: bool = True


@dataclass(frozen=True)
class Slot:
    """One clip's place in the benchmark, before anything is drawn for it.

    Attributes:
        number: Among the known clips, or among the unknown ones.
        is_known: Of the catalogue, or of outside.
        group: Of which sources.
        sort: What is done: nothing, one edit, several, or a montage.
        turn: Counts the clips of this sort in this group.
    """

    number: int
    is_known: bool
    group: Group
    sort: Literal["none", "single", "stacked", "montage"]
    turn: int


@dataclass(frozen=True)
class ClipOrder:
    """One clip to be made: what is cut from where and what is done to it."""

    clip_id: str
    group: Group
    is_known: bool
    level: Level
    kinds: tuple[str, ...]
    parts: tuple[ClipPart, ...]
    edits: tuple[Edit, ...]
    seed: int


# --- Programs ---


def drama_specs(plan: BenchmarkPlan) -> list[DramaSpec]:
    """The generated programs; the last ones are sequels."""
    if plan.n_dramas == 0:
        return []
    return catalogue(
        plan.n_dramas,
        seed=plan.seed,
        n_twin_pairs=-(-plan.n_dramas // _DRAMAS_A_TWIN) if plan.n_dramas >= 4 else 0,
        n_episodes=1,
        episode_seconds=plan.episode_seconds,
        width=plan.drama_width,
        height=plan.drama_height,
        fps=plan.drama_fps,
    )


def drama_path(material: Path, spec: DramaSpec) -> Path:
    """Where a drama's episode lies."""
    return material / "dramas" / f"{asset_id(spec, 1)}.mp4"


@functools.lru_cache(maxsize=2)
def sources(plan: BenchmarkPlan, material: Path) -> tuple[Source, ...]:
    """All programs, each marked as of the catalogue or not; films first.

    Args:
        plan: The plan.
        material: Folder that the dramas lie in, or will.

    Raises:
        InputError: There is no such folder, no film in it, a file that is none, or two of one name.
    """
    found = _films(plan) + _dramas(plan, material)
    ids = [source.program_id for source in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"two programs are called {twice[0]}; give the film another name")
    outside = {
        group: _outside_families(plan, number, [source for source in found if source.group == group])
        for number, group in enumerate(_GROUPS)
    }
    return tuple(replace(source, is_known=source.family not in outside[source.group]) for source in found)


def _films(plan: BenchmarkPlan) -> list[Source]:
    if plan.films is None:
        return []
    return [
        Source(path.stem, path.stem, path, _seconds(path), "films", film_family(path), path.stem)
        for path in film_paths(plan.films)
    ]


def _seconds(path: Path) -> float:
    seconds = film_seconds(path)
    if seconds < 1:
        raise InputError(f"{path} lasts {seconds:.1f} seconds; films must last one at least")
    return seconds


def film_paths(films: Path) -> list[Path]:
    """The films of a folder.

    Raises:
        InputError: It cannot be read, or has none.
    """
    try:
        paths = film_files(films)
    except OSError as error:
        raise InputError(f"cannot read the folder of films {films}: {error.strerror}") from error
    if not paths:
        raise InputError(f"no film in {films}; wanted are files *.mp4, *.mkv, *.mov, *.webm or *.m4v")
    return paths


@functools.lru_cache(maxsize=4096)  # programs are listed several times in a run
def film_seconds(path: Path) -> float:
    """How long a film is.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return read_shape(path).duration_seconds
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a film: {error}") from error


def film_family(path: Path) -> str:
    """The series that a film's name says it is of."""
    return path.stem.split("-")[0]


def _dramas(plan: BenchmarkPlan, material: Path) -> list[Source]:
    return [
        Source(
            program_id=spec.program_id,
            asset_id=asset_id(spec, 1),
            path=drama_path(material, spec),
            seconds=spec.n_frames / spec.fps,
            group="dramas",
            family=spec.twin_of or spec.program_id,
            title=spec.title,
            category=spec.category,
        )
        for spec in drama_specs(plan)
    ]


def _outside_families(plan: BenchmarkPlan, stream: int, of_group: Sequence[Source]) -> set[str]:
    """Families drawn to stay outside: the share asked for, yet at least one on either side."""
    families = list(dict.fromkeys(source.family for source in of_group))
    if len(families) < 2:
        return set()
    count = min(max(1, round(plan.outside_share * len(families))), len(families) - 1)
    rng = np.random.default_rng([plan.seed, _SIDES, stream])
    return {families[i] for i in rng.permutation(len(families))[:count]}


# --- Clips ---


@functools.lru_cache(maxsize=2)
def slots(plan: BenchmarkPlan, material: Path) -> tuple[Slot, ...]:
    """All clips by number: the known ones, then the unknown ones."""
    found = sources(plan, material)
    n_programs = len({source.program_id for source in found if source.is_known})
    wanted = {True: plan.clips_per_known * n_programs, False: plan.n_unknown}
    return tuple(slot for is_known in (True, False) for slot in _slots(plan, found, wanted, is_known))


def _slots(
    plan: BenchmarkPlan, found: Sequence[Source], wanted: dict[bool, int], is_known: bool
) -> Iterator[Slot]:
    programs = {
        group: {s.program_id for s in found if s.group == group and s.is_known == is_known}
        for group in _GROUPS
    }
    groups = [group for group in _GROUPS if programs[group]]
    number = 0
    for place, group in enumerate(groups):
        share = (wanted[is_known] + place) // len(groups)
        least = plan.min_per_kind * len(KINDS) if is_known else 0
        for sort, count in sort_counts(share, least, can_mix=len(programs[group]) > 1).items():
            for turn in range(count):
                yield Slot(number, is_known, group, sort, turn)
                number += 1


def sort_counts(
    n_clips: int, least_single: int, *, can_mix: bool
) -> dict[Literal["none", "single", "stacked", "montage"], int]:
    """How many clips of each sort there are among ``n_clips``.

    Args:
        n_clips: Of one group on one side.
        least_single: Clips with a single edit, at least; there are more than ``n_clips`` if it must be.
        can_mix: There are two programs, so that montages can be made.
    """
    none = round(NONE_SHARE * n_clips)
    stacked = round(STACKED_SHARE * n_clips)
    montage = round(MONTAGE_SHARE * n_clips) if can_mix else 0
    single = max(n_clips - none - stacked - montage, least_single)
    return {"none": none, "single": single, "stacked": stacked, "montage": montage}


def draw_clip(plan: BenchmarkPlan, material: Path, slot: Slot) -> ClipOrder:
    """Draw what one clip is cut from and what is done to it.

    What is shown behind, beside or before a clip is always of outside the catalogue, and never of the
    clip's own program: a background that is itself a program of the catalogue would be a second truth.
    Those files must be there, for their lengths are looked at.
    """
    found = sources(plan, material)
    mine = [s for s in found if s.group == slot.group and s.is_known == slot.is_known]
    rng = np.random.default_rng([plan.seed, _CLIPS, int(slot.is_known), slot.number])
    source = _in_turn(plan, mine, slot)
    others = [s.path for s in found if not s.is_known and s.family != source.family]
    kinds: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    if slot.sort == "single":
        kinds, edits = _single(plan, slot, rng, others)
    elif slot.sort == "stacked":
        names, drawn = draw_edits(rng, 2 + slot.turn % 2, others=others)
        kinds, edits = tuple(names), tuple(drawn)
    if slot.sort == "montage":
        parts = _montage_parts(plan, source, mine, MONTAGE_PARTS[slot.turn % len(MONTAGE_PARTS)], rng)
    else:
        speed = float(np.prod([edit.speed for edit in edits]))
        parts = (_cut(source, float(rng.uniform(*plan.clip_seconds)) * speed, rng),)
    return ClipOrder(
        clip_id=f"{'k' if slot.is_known else 'u'}{slot.number:05d}-{'+'.join(kinds) or slot.sort}",
        group=slot.group,
        is_known=slot.is_known,
        level=_level(slot, kinds),
        kinds=kinds,
        parts=parts,
        edits=edits,
        seed=int(rng.integers(2**31)),
    )


def _level(slot: Slot, kinds: Sequence[str]) -> Level:
    return KINDS[kinds[0]].level if slot.sort == "single" else slot.sort


def _single(
    plan: BenchmarkPlan, slot: Slot, rng: np.random.Generator, others: Sequence[Path]
) -> tuple[tuple[str, ...], tuple[Edit, ...]]:
    """All kinds in turn, each as strong as it may come."""
    name = _one_in_turn(plan, tuple(KINDS), slot, _KINDS)
    return (name,), (KINDS[name].draw(rng, float(rng.uniform()), others),)


def _in_turn(plan: BenchmarkPlan, mine: Sequence[Source], slot: Slot) -> Source:
    """All programs in turn."""
    program = _one_in_turn(plan, list(dict.fromkeys(s.program_id for s in mine)), slot, _PROGRAMS)
    return next(source for source in mine if source.program_id == program)


def _one_in_turn(plan: BenchmarkPlan, names: Sequence[str], slot: Slot, stream: int) -> str:
    """Every name once a round; rounds are shuffled, so that no kind of edit keeps to one program."""
    lap, place = divmod(slot.turn, len(names))
    seed = [plan.seed, stream, int(slot.is_known), _GROUPS.index(slot.group), *slot.sort.encode(), lap]
    return names[int(np.random.default_rng(seed).permutation(len(names))[place])]


def _cut(source: Source, seconds: float, rng: np.random.Generator) -> ClipPart:
    """``seconds`` from anywhere in the file, on a tenth; all of a file that is shorter."""
    seconds = min(round(seconds, 1), source.seconds)
    start = round(float(rng.uniform(0, source.seconds - seconds)), 1)
    return ClipPart(
        source.path, min(start, source.seconds - seconds), seconds, source.asset_id, source.program_id
    )


def _montage_parts(
    plan: BenchmarkPlan, first: Source, mine: Sequence[Source], n_parts: int, rng: np.random.Generator
) -> tuple[ClipPart, ...]:
    """Pieces of different programs, none of them very short."""
    rest = [source for source in mine if source.program_id != first.program_id]
    n_parts = min(n_parts, 1 + len(rest))
    chosen = [first, *(rest[i] for i in rng.choice(len(rest), n_parts - 1, replace=False))]
    low, high = plan.clip_seconds
    total = float(rng.uniform(max(low, n_parts * PART_SECONDS), max(high, n_parts * PART_SECONDS)))
    whole = [ClipPart(s.path, 0.0, s.seconds, s.asset_id, s.program_id) for s in chosen]
    return tuple(draw_parts(rng, whole, n_parts=n_parts, seconds=total))
