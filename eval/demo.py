"""The demonstration: makes films and clips, adds, links, and shows what came out right and what did not.

Everything runs through the real pipeline and stays in one folder. What a clip really shows is known
from the moment it was cut (:class:`eval.edits.ClipTruth`); nothing else decides what is right. A
second run of the same plan makes only what is missing.
"""

from __future__ import annotations

import csv
import functools
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.contact_sheet import SheetRow, contact_sheet
from eval.dramas import (
    CatalogueRow,
    DramaSpec,
    asset_id,
    catalogue,
    write_episode,
    write_manifest,
)
from eval.edits import ClipPart, ClipTruth, Edit, demo_edits, write_montage
from eval.making import (
    as_done,
    part_name,
    read_json,
    saying_why,
    truth_from_json,
    truth_json,
    worker_pool,
    write_json,
)
from eval.video_reader import read_frames
from matcher.config import Settings
from matcher.errors import InputError
from matcher.records import Answer, Link
from matcher.show import clock, print_json, print_table, progress_bar, say, summary

if TYPE_CHECKING:
    from matcher.encoders.base import FrameEncoder

Verdict = Literal[
    "right", "partly", "wrong program", "review", "missed", "unknown linked", "rightly none", "failed"
]

#: In the order in which they should be looked at.
VERDICTS: tuple[Verdict, ...] = (
    "wrong program", "unknown linked", "failed", "missed", "partly", "review", "rightly none", "right",
)  # fmt: skip
VERDICT_MEANS: dict[Verdict, str] = {
    "right": "linked to the program it is from, and to no other",
    "partly": "a montage linked to some of its programs, and to no other",
    "wrong program": "linked to a program that it is not from",
    "review": "put up for a person to look at",
    "missed": "of a program in the catalogue, and not found",
    "unknown linked": "of no program in the catalogue, and linked to one",
    "rightly none": "of no program in the catalogue, and not linked",
    "failed": "could not be read",
}
_TABLE_COLUMNS = (
    "clip", "edit", "truth", "decision", "program", "confidence", "start error", "verdict"
)  # fmt: skip

PLAIN, MIXED, MONTAGE, UNKNOWN = "plain cut", "several edits", "montage", "not in the catalogue"
#: Changes when films or clips of the same plan would come out otherwise.
_FORMAT = 1
_STAMP = "demo.json"
_CLIP_SECONDS = (5.0, 10.0)
_PART_SECONDS = (4.0, 6.0)
_SHEET_FAULTS, _SHEET_UNKNOWN, _SHEET_ROWS = 15, 3, 24
_SHEET_SIDE = 416
_BYTES_A_SECOND = 60_000  # of film and of clip, generously
_BYTES_BESIDE = 50_000_000


@dataclass(frozen=True)
class DemoPlan:
    """What the demonstration makes; equal plans make equal files.

    Attributes:
        seed: Of films and clips.
        n_programs: In the catalogue; the last is a sequel that looks like the first.
        n_edited: Clips with one edit each, every kind of :func:`eval.edits.demo_edits` in turn.
        n_plain: Clips cut and not edited.
        n_mixed: Clips with three edits each.
        n_montages: Clips of two or three programs.
        n_unknown: Clips of programs that are not in the catalogue.
        n_outsiders: Those programs.
        n_episodes: Of each program in the catalogue.
        episode_seconds: Length of each.
    """

    seed: int = 1
    n_programs: int = 12
    n_edited: int = 30
    n_plain: int = 8
    n_mixed: int = 4
    n_montages: int = 2
    n_unknown: int = 10
    n_outsiders: int = 5
    n_episodes: int = 2
    episode_seconds: float = 48.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"the demo's seed must be 0 or more, got {self.seed}")
        if self.n_programs < 4 or self.n_outsiders < 1 or self.episode_seconds < 2 * _CLIP_SECONDS[0]:
            raise ValueError(f"a demo needs 4 programs, an outsider and episodes of 10 seconds, got {self}")

    @property
    def programs(self) -> list[DramaSpec]:
        """Those in the catalogue."""
        return catalogue(
            self.n_programs, seed=self.seed, n_episodes=self.n_episodes, episode_seconds=self.episode_seconds
        )

    @property
    def outsiders(self) -> list[DramaSpec]:
        """Those that are not: another seed, ids "x01" and so on."""
        specs = catalogue(
            self.n_outsiders,
            seed=self.seed + 1_000_003,
            n_twin_pairs=0,
            n_episodes=1,
            episode_seconds=self.episode_seconds,
        )
        return [replace(spec, program_id=spec.program_id.replace("p", "x")) for spec in specs]

    @property
    def n_clips(self) -> int:
        """How many clips."""
        return self.n_edited + self.n_plain + self.n_mixed + self.n_montages + self.n_unknown


@dataclass(frozen=True)
class Film:
    """One episode to be made, at ``path`` inside the demo's folder."""

    spec: DramaSpec
    episode: int
    path: Path

    @property
    def asset_id(self) -> str:
        """Its name in the catalogue."""
        return asset_id(self.spec, self.episode)


@dataclass(frozen=True)
class ClipOrder:
    """One clip to be made: what is cut from where (paths inside the demo's folder) and what is done to it."""

    clip_id: str
    kind: str
    parts: tuple[ClipPart, ...]
    edits: tuple[Edit, ...]
    seed: int

    @property
    def path(self) -> Path:
        """The clip inside the demo's folder."""
        return Path("clips") / f"{self.clip_id}.mp4"


@dataclass(frozen=True)
class Outcome:
    """One clip's answer held against the truth.

    Attributes:
        answer: Of the pipeline.
        truth: Of the cutter; its paths are inside the demo's folder.
        kind: Class of the edits, for the table.
        programs: The programs of the catalogue that the clip really shows.
        verdict: See :data:`VERDICT_MEANS`.
        start_error_seconds: By how much the best link's first segment begins too late in the asset; None
            where nothing was found, or not in that asset.
    """

    answer: Answer
    truth: ClipTruth
    kind: str
    programs: tuple[str, ...]
    verdict: Verdict
    start_error_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The query's object with what is known added under "truth"."""
        truth = {
            "program_ids": list(self.programs),
            "kind": self.kind,
            "verdict": self.verdict,
            "start_error_seconds": self.start_error_seconds,
            **truth_json(self.truth),
        }
        return {**self.answer.to_json(), "truth": truth}


def run_demo(keep: Path, *, n_programs: int, seed: int, as_json: bool) -> None:
    """Make films and clips, add, link, and show what came out: ``matcher demo``.

    Args:
        keep: Folder for everything that is made; new, empty, or that of an earlier demo.
        n_programs: In the catalogue.
        seed: Of films and clips.
        as_json: One object a clip on stdout and nothing else, in place of the tables.

    Raises:
        InputError: The folder cannot be written, is full, or holds something else.
    """
    demonstrate(keep, DemoPlan(seed=seed, n_programs=n_programs), as_json=as_json)


def demonstrate(keep: Path, plan: DemoPlan, *, as_json: bool, workers: int = 2) -> list[Outcome]:
    """:func:`run_demo` for any plan.

    Args:
        keep: As there.
        plan: What to make.
        as_json: As there.
        workers: Processes that make films and clips; 0 makes them in this one.

    Returns:
        What became of each clip, in order.

    Raises:
        InputError: As there.
    """
    started = time.monotonic()
    settings = Settings()
    with _disk_faults(keep):
        encoder = _encoder(settings)
        _prepare(keep, plan, encoder.info.fingerprint)
        truths = _make(keep, plan, workers)
        outcomes = []
        for outcome in _linked(keep, plan, truths, encoder, settings):
            outcomes.append(outcome)
            if as_json:
                print_json(outcome.to_json())
        sheet = _draw(keep, plan, outcomes)
    if not as_json:
        _show(outcomes)
        sys.stdout.write(_farewell(keep, sheet))
        sys.stdout.flush()
    counts = Counter(outcome.verdict for outcome in outcomes)
    summary({name: counts[name] for name in VERDICTS if counts[name]}, time.monotonic() - started)
    return outcomes


# --- What to make ---


def films(plan: DemoPlan) -> list[Film]:
    """All films: those of the catalogue, and those that stay outside it in a folder of their own."""
    inside = [
        Film(spec, episode, Path("films") / f"{asset_id(spec, episode)}.mp4")
        for spec in plan.programs
        for episode in range(1, spec.n_episodes + 1)
    ]
    outside = [
        Film(spec, 1, Path("films") / "outside" / f"{asset_id(spec, 1)}.mp4") for spec in plan.outsiders
    ]
    return inside + outside


@functools.lru_cache(maxsize=4)
def clip_orders(plan: DemoPlan) -> tuple[ClipOrder, ...]:
    """All clips, by kind. The twins come first in every round, so that even few clips show both."""
    made = films(plan)
    inside = [film for film in made if film.spec.program_id in {s.program_id for s in plan.programs}]
    outside = [film for film in made if film not in inside]
    orders: list[ClipOrder] = []
    for kind, edits in _kinds(plan):
        number = len(orders)
        rng = np.random.default_rng([plan.seed, 20, number])
        if kind == MONTAGE:
            parts = _montage_parts(inside, 2 + number % 2, plan, rng)
        elif kind == UNKNOWN:
            parts = (_part(outside[number % len(outside)], edits, rng),)
        else:
            parts = (_part(_film_of(inside, plan, number, rng), edits, rng),)
        orders.append(ClipOrder(f"c{number + 1:02d}", kind, parts, edits, plan.seed * 1000 + number))
    return tuple(orders)


def _kinds(plan: DemoPlan) -> Iterator[tuple[str, tuple[Edit, ...]]]:
    """The edits of each clip in order, with what the tables call them."""
    for number in range(plan.n_edited):
        choice = _edits(plan, number)
        edit = choice[number % len(choice)]
        yield edit_class(edit.name), (edit,)
    for _ in range(plan.n_plain):
        yield PLAIN, ()
    for number in range(plan.n_mixed):
        rng = np.random.default_rng([plan.seed, 22, number])
        light = [edit for edit in demo_edits(rng) if edit.strength == "light"]
        picked = sorted(rng.choice(len(light), 3, replace=False))
        yield MIXED, tuple(light[i] for i in picked)
    for _ in range(plan.n_montages):
        yield MONTAGE, ()
    for number in range(plan.n_unknown):
        # Every second one is edited, too.
        choice = _edits(plan, 0)
        yield UNKNOWN, (choice[3 * (number // 2) % len(choice)],) if number % 2 else ()


def _edits(plan: DemoPlan, number: int) -> list[Edit]:
    """One of each kind; every round of clips has parameters of its own."""
    first = demo_edits(np.random.default_rng([plan.seed, 21, 0]))
    return demo_edits(np.random.default_rng([plan.seed, 21, number // len(first)]))


def edit_class(name: str) -> str:
    """The name of an edit without its parameters: "crop 0.80" is "crop"."""
    return re.sub(r" (crf|[bcsh]?-?\d).*", "", name)


def _film_of(inside: Sequence[Film], plan: DemoPlan, number: int, rng: np.random.Generator) -> Film:
    """A film for the clip of this number: all programs in turn, and any of their episodes."""
    programs = plan.programs
    order = [programs[0].program_id, programs[-1].program_id, *(p.program_id for p in programs[1:-1])]
    mine = [film for film in inside if film.spec.program_id == order[number % len(order)]]
    return mine[int(rng.integers(len(mine)))]


def _part(film: Film, edits: Sequence[Edit], rng: np.random.Generator) -> ClipPart:
    factor = float(np.prod([edit.speed for edit in edits])) if edits else 1.0
    return _cut(film, float(rng.uniform(*_CLIP_SECONDS)) * factor, rng)


def _cut(film: Film, seconds: float, rng: np.random.Generator) -> ClipPart:
    """``seconds`` from anywhere in the film, on a tenth."""
    seconds = min(round(seconds, 1), film.spec.episode_seconds)
    start = round(float(rng.uniform(0, film.spec.episode_seconds - seconds)), 1)
    return ClipPart(film.path, start, seconds, film.asset_id, film.spec.program_id)


def _montage_parts(
    inside: Sequence[Film], n_parts: int, plan: DemoPlan, rng: np.random.Generator
) -> tuple[ClipPart, ...]:
    chosen = rng.choice(plan.n_programs, n_parts, replace=False)
    parts = []
    for program in chosen:
        mine = [film for film in inside if film.spec.program_id == plan.programs[program].program_id]
        parts.append(_cut(mine[int(rng.integers(len(mine)))], float(rng.uniform(*_PART_SECONDS)), rng))
    return tuple(parts)


# --- Making it ---


@contextmanager
def _disk_faults(keep: Path) -> Iterator[None]:
    """Say in one line what is wrong with the folder, whoever wrote to it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or keep
        raise InputError(f"{where}: {error.strerror or error}; choose another folder with --keep") from error
    except RuntimeError as error:
        # LanceDB's errors carry no number.
        if "No space left" not in str(error):
            raise
        raise InputError(f"{keep}: no space left on the disk; choose another folder with --keep") from error


def _encoder(settings: Settings) -> FrameEncoder:
    from matcher.encoders.registry import load_encoder

    started = time.monotonic()
    chosen = settings.encoder
    encoder = load_encoder(
        chosen.spec, device=chosen.device, precision=chosen.precision, threads=chosen.threads
    )
    _tell(f"encoder ready ({encoder.engine})", started)
    return encoder


def _tell(what: str, started: float) -> None:
    say(f"{what}, {time.monotonic() - started:.1f} s")


def _prepare(keep: Path, plan: DemoPlan, model: str) -> None:
    """Make the folder ready for this plan; what another plan, or another model, left is cleared away.

    Raises:
        InputError: The folder holds something that is not a demo's, or the disk is too full.
    """
    keep.mkdir(parents=True, exist_ok=True)
    stamp = {"format": _FORMAT, "plan": asdict(plan), "model": model}
    there = read_json(keep / _STAMP)
    if there is None and any(not path.name.startswith(f".{_STAMP}") for path in keep.iterdir()):
        raise InputError(f"{keep} is not empty and holds no demo; choose another folder with --keep")
    if there is not None and (there.get("plan"), there.get("format")) != (stamp["plan"], _FORMAT):
        say(f"{keep} holds another demo, which is made anew")
        for name in ("films", "clips", "store"):
            shutil.rmtree(keep / name, ignore_errors=True)
        for name in ("truth.json", "programs.csv", "clips.csv", "contact-sheet.png"):
            (keep / name).unlink(missing_ok=True)
    elif there is not None and there.get("model") != model:
        say(f"{keep} has descriptors of another encoder, which are made anew")
        shutil.rmtree(keep / "store", ignore_errors=True)
    write_json(keep / _STAMP, stamp)
    _check_room(keep, plan)


def _check_room(keep: Path, plan: DemoPlan) -> None:
    missing = [film for film in films(plan) if not (keep / film.path).exists()]
    seconds = sum(film.spec.episode_seconds for film in missing) + (10.0 * plan.n_clips if missing else 0)
    wanted = round(seconds * _BYTES_A_SECOND) + (_BYTES_BESIDE if missing else 0)
    free = shutil.disk_usage(keep).free
    if free < wanted:
        raise InputError(
            f"{keep}: {free / 1e6:.0f} MB are free on this disk and the demo needs {wanted / 1e6:.0f} MB;"
            " make room, or choose another folder with --keep"
        )


_workers = functools.partial(
    worker_pool, broken="a process that makes films was ended from outside; run the demo again, it goes on"
)


def _make(keep: Path, plan: DemoPlan, workers: int) -> dict[str, ClipTruth]:
    """Make the films and clips that are not there, write the manifests, and return every clip's truth."""
    all_films, orders = films(plan), clip_orders(plan)
    wanted = [film for film in all_films if not (keep / film.path).exists()]
    truths = _read_truths(keep, orders)
    left = [n for n, order in enumerate(orders) if order.clip_id not in truths]
    with _workers(workers if wanted or left else 0) as submit:
        started = time.monotonic()
        with progress_bar("making films", len(wanted)) as bar:
            for film in as_done(submit, [(make_film, keep, film) for film in wanted]):
                bar.step(film.asset_id)
        _tell(f"films: {len(wanted)} made, {len(all_films) - len(wanted)} there already", started)
        started = time.monotonic()
        with progress_bar("cutting clips", len(left)) as bar:
            for number, truth in as_done(submit, [(make_clip, keep, plan, number) for number in left]):
                order = orders[number]
                truths[order.clip_id] = truth
                _write_truths(keep, orders, truths)
                part_name(keep / order.path).replace(keep / order.path)
                bar.step(order.clip_id)
        _tell(f"clips: {len(left)} made, {len(orders) - len(left)} there already", started)
    _write_manifests(keep, plan, orders)
    return truths


def make_film(keep: Path, film: Film) -> Film:
    """Make one film; it has its name only when it is whole. Runs in a worker."""
    path = keep / film.path
    with saying_why(path, "--keep"):
        write_episode(film.spec, film.episode, part_name(path))
        part_name(path).replace(path)
    return film


def make_clip(keep: Path, plan: DemoPlan, number: int) -> tuple[int, ClipTruth]:
    """Cut one clip and leave it under its unfinished name until its truth is written. Runs in a worker."""
    order = clip_orders(plan)[number]
    path = keep / order.path
    with saying_why(path, "--keep"):
        parts = [replace(part, source=keep / part.source) for part in order.parts]
        truth = write_montage(parts, order.edits, part_name(path), seed=order.seed)
    segments = tuple(replace(segment, source=segment.source.relative_to(keep)) for segment in truth.segments)
    return number, replace(truth, path=order.path, segments=segments)


# --- What is known ---


def _write_truths(keep: Path, orders: Sequence[ClipOrder], truths: dict[str, ClipTruth]) -> None:
    """Keep what is known before a clip gets its name: a clip without its truth is never taken for whole."""
    known = {
        order.clip_id: {"kind": order.kind, **truth_json(truths[order.clip_id])}
        for order in orders
        if order.clip_id in truths
    }
    write_json(keep / "truth.json", known)


def _read_truths(keep: Path, orders: Sequence[ClipOrder]) -> dict[str, ClipTruth]:
    """What is known of the clips that are there."""
    known = read_json(keep / "truth.json") or {}
    return {
        order.clip_id: truth_from_json(
            {name: part for name, part in known[order.clip_id].items() if name != "kind"}
        )
        for order in orders
        if order.clip_id in known and (keep / order.path).exists()
    }


def _write_manifests(keep: Path, plan: DemoPlan, orders: Sequence[ClipOrder]) -> None:
    inside = {spec.program_id for spec in plan.programs}
    rows = [
        CatalogueRow(
            film.spec.program_id, keep / film.path, film.asset_id, film.spec.title, film.spec.category
        )
        for film in films(plan)
        if film.spec.program_id in inside
    ]
    write_manifest(rows, keep / "programs.csv")
    with (keep / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "path"])
        writer.writerows([order.clip_id, order.path.as_posix()] for order in orders)


# --- Adding and linking ---


def _linked(
    keep: Path, plan: DemoPlan, truths: dict[str, ClipTruth], encoder: FrameEncoder, settings: Settings
) -> Iterator[Outcome]:
    """Add the catalogue and link the clips as ``matcher add`` and ``matcher link`` do."""
    from matcher import pipeline
    from matcher.inputs import read_clip_manifest, read_program_manifest
    from matcher.store import create_catalog, open_linker, save_caches, translated

    programs, _ = read_program_manifest(keep / "programs.csv")
    clips, _ = read_clip_manifest(keep / "clips.csv")
    catalog = create_catalog(keep / "store", encoder.info)
    with translated(), catalog.writing() as writer:
        started = time.monotonic()
        counts: Counter[str] = Counter()
        with progress_bar("adding programs", len(programs)) as bar:
            for added in pipeline.add_programs(writer, programs, encoder, settings, on_frames=bar.frames):
                counts[added.outcome] += 1
                bar.step(added.program_id)
                if added.outcome == "failed":
                    say(f"{added.program_id}: {added.message}")
        live = save_caches(catalog, settings.index, writer)
        _tell("programs: " + ", ".join(f"{n} {name}" for name, n in counts.items()), started)
        started = time.monotonic()
        linker = open_linker(catalog, settings, live)
        in_catalogue = {spec.program_id for spec in plan.programs}
        kinds = {order.clip_id: order.kind for order in clip_orders(plan)}
        with progress_bar("linking clips", len(clips)) as bar:
            answers = pipeline.query_clips(
                linker, clips, encoder, settings, top=5, kept=catalog, on_frames=bar.frames
            )
            for answer in pipeline.keep(writer, answers):
                yield judge(answer, truths[answer.clip_id], kinds[answer.clip_id], in_catalogue)
                bar.step(answer.clip_id)
        _tell(f"linked: {len(clips)} clips", started)


def judge(answer: Answer, truth: ClipTruth, kind: str, in_catalogue: set[str]) -> Outcome:
    """Hold an answer against the truth.

    A clip is right only if it is linked to every program of the catalogue that it shows, and to no
    other; of a clip that shows none, only if it is not linked.

    Args:
        answer: Of the pipeline.
        truth: Of the cutter.
        kind: Class of the edits.
        in_catalogue: Ids of the programs that could be found.
    """
    shown = dict.fromkeys(segment.program_id for segment in truth.segments)
    programs = tuple(name for name in shown if name in in_catalogue)
    error = _start_error(answer.links[0], truth) if answer.links else None
    return Outcome(answer, truth, kind, programs, _verdict(answer, set(programs)), error)


def _verdict(answer: Answer, programs: set[str]) -> Verdict:
    if answer.error is not None:
        return "failed"
    if answer.decision == "review":
        return "review"
    linked = {link.program_id for link in answer.links} if answer.decision == "linked" else set()
    if not programs:
        return "unknown linked" if linked else "rightly none"
    if not linked:
        return "missed"
    if not linked <= programs:
        return "wrong program"
    return "right" if linked == programs else "partly"


def _start_error(link: Link, truth: ClipTruth) -> float | None:
    """Asset seconds from where the first segment really begins to where it is said to begin."""
    said = link.segments[0]
    middle = (said.clip_start_seconds + said.clip_end_seconds) / 2
    of_asset = [
        segment
        for segment in truth.segments
        if (segment.program_id, segment.asset_id) == (link.program_id, said.asset_id)
    ]
    if not of_asset:
        return None
    real = min(of_asset, key=lambda s: max(s.clip_start_seconds - middle, middle - s.clip_end_seconds, 0.0))
    return said.asset_start_seconds - real.asset_time(said.clip_start_seconds)


# --- Showing it ---


def _show(outcomes: Sequence[Outcome]) -> None:
    """Every clip, then the sums by edit and over all."""
    print_table("Every clip", _TABLE_COLUMNS, [_clip_row(outcome) for outcome in outcomes])
    by_kind: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.kind, Counter())[outcome.verdict] += 1
    present = [name for name in VERDICT_MEANS if any(counts[name] for counts in by_kind.values())]
    print_table(
        "By edit",
        ("edit", "clips", *present),
        [
            (kind, str(counts.total()), *(str(counts[name] or "") for name in present))
            for kind, counts in by_kind.items()
        ],
    )
    counts = Counter(outcome.verdict for outcome in outcomes)
    always = ("right", "wrong program", "review", "missed", "unknown linked", "rightly none")
    rows = [
        (name, str(counts[name]), VERDICT_MEANS[name])
        for name in VERDICT_MEANS
        if counts[name] or name in always
    ]
    print_table("All clips", ("verdict", "clips", "meaning"), rows)
    sys.stdout.write(_start_errors(outcomes) + "\n")


def _clip_row(outcome: Outcome) -> tuple[str, ...]:
    answer = outcome.answer
    truth = "\n".join(
        f"{s.asset_id} {clock(s.asset_start_seconds)}" if s.program_id in outcome.programs else "none"
        for s in outcome.truth.segments
    )
    found = "\n".join(
        f"{link.segments[0].asset_id} {clock(link.segments[0].asset_start_seconds)}" for link in answer.links
    )
    sure = "\n".join(f"{link.confidence:.3f}" for link in answer.links) or f"{answer.confidence:.3f}"
    decision = "failed" if answer.error is not None else answer.decision
    edits = _edit_words(outcome, outcome.truth.edits)
    return answer.clip_id, edits, truth, decision, found, sure, _error_words(outcome), _mark(outcome)


def _edit_words(outcome: Outcome, edits: Iterable[str]) -> str:
    """What was done, and that the clip is of no program in the catalogue where it is not."""
    return ", ".join([UNKNOWN, *edits] if outcome.kind == UNKNOWN else edits) or outcome.kind


def _error_words(outcome: Outcome) -> str:
    if not outcome.answer.links:
        return ""
    if outcome.start_error_seconds is not None:
        return f"{outcome.start_error_seconds:+.1f} s"
    right_program = outcome.answer.links[0].program_id in outcome.programs
    return "wrong episode" if right_program else "wrong program"


def _mark(outcome: Outcome) -> str:
    """The verdict; of a review also whether it names the right program."""
    if outcome.verdict != "review":
        return outcome.verdict
    return f"review, {'right' if _names_right(outcome) else 'wrong'} program"


def _names_right(outcome: Outcome) -> bool:
    """Whether the best program named is one that the clip shows."""
    return bool(outcome.answer.links) and outcome.answer.links[0].program_id in outcome.programs


def _start_errors(outcomes: Sequence[Outcome]) -> str:
    right = [outcome for outcome in outcomes if outcome.verdict == "right"]
    errors = [abs(o.start_error_seconds) for o in right if o.start_error_seconds is not None]
    if not errors:
        return "No clip was linked rightly, so there is no start to speak of."
    return (
        f"Starts of the {len(right)} clips that are right: off by {np.median(errors):.1f} s (median),"
        f" {max(errors):.1f} s (worst); {len(right) - len(errors)} in another episode."
    )


def _draw(keep: Path, plan: DemoPlan, outcomes: Sequence[Outcome]) -> Path:
    """The contact sheet, faults first."""
    started = time.monotonic()
    titles = {spec.program_id: spec.title for spec in plan.programs}
    paths = {film.asset_id: keep / film.path for film in films(plan)}
    chosen = sheet_choice(outcomes)
    rows = []
    with progress_bar("drawing", len(chosen)) as bar:
        for outcome in chosen:
            rows.append(_sheet_row(keep, outcome, titles, paths))
            bar.step(outcome.answer.clip_id)
    sheet = keep / "contact-sheet.png"
    if rows:
        counts = Counter(outcome.verdict for outcome in outcomes)
        words = ", ".join(f"{counts[name]} {name}" for name in reversed(VERDICTS) if counts[name])
        heading = f"{len(outcomes)} clips, {plan.n_programs} programs: {words}. Clip left, program right."
        contact_sheet(rows, sheet, heading=heading)
    _tell(f"drawn: {sheet}", started)
    return sheet


def sheet_choice(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Which clips the sheet shows: the faults first, then right ones of every edit, then unknown ones."""
    readable = [outcome for outcome in outcomes if outcome.verdict != "failed"]
    ranked = sorted(readable, key=lambda outcome: (VERDICTS.index(outcome.verdict), _names_right(outcome)))
    faults = [o for o in ranked if o.verdict not in ("right", "rightly none")][:_SHEET_FAULTS]
    unknown = [o for o in ranked if o.verdict == "rightly none"][:_SHEET_UNKNOWN]
    seen: Counter[str] = Counter()
    turns = []
    # Montages and mixed edits come last in the plan, and should not be those that find no room.
    for outcome in reversed([o for o in ranked if o.verdict == "right"]):
        turns.append((seen[outcome.kind], outcome))
        seen[outcome.kind] += 1
    right = [outcome for _, outcome in sorted(turns, key=lambda turn: turn[0])]
    return [*faults, *right[: _SHEET_ROWS - len(faults) - len(unknown)], *unknown]


def _sheet_row(keep: Path, outcome: Outcome, titles: dict[str, str], paths: dict[str, Path]) -> SheetRow:
    answer = outcome.answer
    best = answer.links[0] if answer.links else None
    said = None if best is None else best.segments[0]
    if said is None:
        clip_seconds, asset_seconds = outcome.truth.duration_seconds / 2, None
    else:
        clip_seconds = (said.clip_start_seconds + said.clip_end_seconds) / 2
        asset_seconds = (said.asset_start_seconds + said.asset_end_seconds) / 2
    is_right = outcome.verdict in ("right", "rightly none")
    return SheetRow(
        clip_image=frame_at(keep / outcome.truth.path, clip_seconds),
        match_image=None
        if said is None or asset_seconds is None
        else frame_at(paths[said.asset_id], asset_seconds),
        clip_id=answer.clip_id,
        edit=_edit_words(outcome, map(edit_class, outcome.truth.edits)),
        program_title="" if best is None else titles[best.program_id],
        clip_seconds=clip_seconds,
        asset_id="" if said is None else said.asset_id,
        asset_seconds=asset_seconds,
        confidence=answer.confidence,
        decision=answer.decision,
        is_right=_names_right(outcome) if outcome.verdict == "review" else is_right,
        verdict=_mark(outcome),
    )


def frame_at(path: Path, seconds: float) -> NDArray[np.uint8]:
    """The picture on show at a moment; the last one after the end.

    Raises:
        InputError: The file shows nothing.
    """
    for start in (max(0.0, seconds - 0.5), 0.0):
        shown = None
        for _, image in read_frames(path, start, seconds + 0.01, max_side=_SHEET_SIDE):
            shown = image
        if shown is not None:
            return shown
    raise InputError(f"{path} has no picture at {clock(seconds)}")


def _farewell(keep: Path, sheet: Path) -> str:
    """Where everything lies, and how to do the same with one's own files."""
    matcher, store = _command(), shlex.quote(str(keep / "store"))
    manifests = " and ".join(shlex.quote(str(keep / name)) for name in ("programs.csv", "clips.csv"))
    return f"""
Look at {sheet}: clips beside the moments they were matched with.
The store is {store}; list what it holds:
  {matcher} links --store {store}

The same with your own files:
  {matcher} add my-drama episode-1.mp4 episode-2.mp4 --title 'My Drama'
  {matcher} query clip.mp4
  {matcher} link --manifest clips.csv
The first adds a program, the second says where one clip is from, the third links many and keeps
the links. For the form of manifests see {manifests}.
They use the store ./matcher-store unless --store, or MATCHER_STORE, names another.
"""


def _command() -> str:
    """How this matcher is called from here."""
    script = Path(sys.executable).with_name("matcher")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m matcher"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))
