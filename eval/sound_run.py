"""How well programs are found by their sound alone: no picture is shown to the linker at all.

The catalogue's programs are added with pictures and sound, as ever; the clips (:mod:`eval.sound_clips`) are
sounds. Where there is no picture, nothing speaks against a sound, and it stands alone
(:data:`matcher.decision.UNSEEN`). At several reference hops the same clips are asked of a store for each:
what a denser store finds, against the bytes that it takes.

A run's folder holds ``sound.json``, the store or stores, and the dramas unless they lie elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.benchmark import BenchmarkPlan, Source, drama_path, drama_specs, sources
from eval.benchmark_material import make_drama, plan_of
from eval.link_run import RunNotes, prepare
from eval.making import as_done, worker_pool, write_json
from eval.metrics import wilson_interval
from eval.sound_clips import (
    EDITS,
    SILENCES,
    HeardClip,
    audible,
    known_clips,
    outside_stretches,
    silent_clip,
    stretches_of,
    unknown_clip,
)
from index.places import place_of
from matcher.config import Settings
from matcher.describe import Album
from matcher.errors import InputError, StoreError
from matcher.inputs import AssetJob, ProgramJob
from matcher.linking import Linker
from matcher.listen import Listener, listener_of
from matcher.pipeline import add_programs, listen_again
from matcher.records import Answer, Descriptors
from matcher.show import Progress, print_json, print_table, progress_bar, say, summary
from matcher.store import create_catalog, open_catalog, open_linker, save_caches, translated

if TYPE_CHECKING:
    from index.catalog import Catalog
    from matcher.encoders.base import FrameEncoder

RESULT = "sound.json"
#: Rows of a table are given for each and for all.
GROUPS = ("films", "dramas", "all")
ANY_EDIT = "any"
_BROKEN = "a process that makes dramas was ended from outside; run the same command again, it goes on"

PublicObject = dict[str, Any]


@dataclass(frozen=True)
class SoundPlan:
    """What is asked; equal plans ask equal clips.

    Attributes:
        programs: Which films and dramas there are, and which of them are in the catalogue.
        material: Folder of the dramas.
        seed: Of the clips.
        clips_per_program: Stretches of each program of the catalogue; each goes through every edit.
        n_unknown: Clips of programs outside the catalogue, all edits in turn.
        n_silent: Clips in which nothing is said.
    """

    programs: BenchmarkPlan
    material: Path
    seed: int = 1
    clips_per_program: int = 2
    n_unknown: int = 1000
    n_silent: int = 200

    def __post_init__(self) -> None:
        if self.seed < 0 or self.clips_per_program < 1 or self.n_unknown < 0 or self.n_silent < 0:
            raise InputError(
                "the seed and numbers of clips must be 0 or more, and a program needs one clip at least"
            )

    def to_json(self) -> PublicObject:
        """As a run's folder keeps it."""
        return {
            "programs": self.programs.to_json(), "seed": self.seed, "unknown": self.n_unknown,
            "clips_per_program": self.clips_per_program, "silent": self.n_silent,
        }  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """All clips of a run.

    Attributes:
        known: Of the catalogue.
        unknown: Of outside it.
        silent: Of nothing.
        notes: How many there are of what, and what was left out.
    """

    known: Sequence[HeardClip]
    unknown: Sequence[HeardClip]
    silent: Sequence[HeardClip]
    notes: PublicObject


@dataclass(frozen=True)
class Judged:
    """What was answered to one clip.

    Attributes:
        clip: The clip.
        answer: The answer.
    """

    clip: HeardClip
    answer: Answer

    @property
    def is_first(self) -> bool:
        """Its program is the best guess."""
        guesses = self.answer.candidates
        return bool(guesses) and guesses[0].program_id == self.clip.program_id

    @property
    def linked(self) -> list[str]:
        """Programs that it is linked to."""
        return [link.program_id for link in self.answer.links] if self.answer.decision == "linked" else []

    @property
    def is_linked_right(self) -> bool:
        """It is linked to its program."""
        return self.clip.program_id in self.linked

    @property
    def is_linked_wrong(self) -> bool:
        """It is linked to another one."""
        return any(name != self.clip.program_id for name in self.linked)


def programs_plan(material: Path | None, *, films: Path | None, n_dramas: int | None) -> BenchmarkPlan:
    """Which films and dramas there are, from the command's words.

    Args:
        material: A benchmark of ``eval link`` that is made, whose plan holds; None for new dramas.
        films: In place of that plan's.
        n_dramas: Of new dramas; None for as many as a benchmark has.

    Raises:
        InputError: There is no benchmark in ``material``, or it has dramas of its own number.
    """
    if material is None:
        base = BenchmarkPlan()
        count = base.n_dramas if n_dramas is None else n_dramas
        return BenchmarkPlan(films=None if films is None else films.resolve(), n_dramas=count)
    if n_dramas is not None:
        raise InputError("--material has its dramas: leave out --dramas")
    plan = plan_of(material)
    if plan is None:
        raise InputError(
            f"{material} holds no benchmark; make one with: matcher eval link --material {material}, or leave"
            " out --material for dramas of this run's own"
        )
    if films is not None and films.resolve() != plan.films:
        plan = BenchmarkPlan.from_json(plan.to_json() | {"films": str(films.resolve())})
    return plan


def parse_hops(words: str | None) -> list[float]:
    """The numbers of ``--hops``, as "0.5,1"; none of None.

    Raises:
        InputError: One of them is no number.
    """
    try:
        return [] if words is None else [float(word) for word in words.split(",")]
    except ValueError:
        raise InputError(f"--hops {words} is no list of seconds; give one as 0.5,1") from None


def run_sound(
    plan: SoundPlan,
    out: Path,
    settings: Settings,
    encoder: FrameEncoder,
    *,
    store: str | Path | None = None,
    hops: Sequence[float] = (),
    workers: int = 2,
    command: str = "",
) -> PublicObject:
    """Add the catalogue, ask the clips by their sound, and say how well it went.

    Args:
        plan: What is asked.
        out: The run's folder; new, empty, or that of the same run.
        settings: Of the pipeline.
        encoder: Of the store's pictures.
        store: A store of the same catalogue that was added with sound, read and left as it is; None for one
            in the run's folder.
        hops: Seconds from one patch of a program's to the next, a store for each; none for that of the
            settings.
        workers: Processes that make dramas that are missing; 0 makes them in this one.
        command: Said in the figures.

    Returns:
        The figures, as ``sound.json`` holds them.

    Raises:
        InputError: A folder holds something else, a file cannot be read, or nothing is to be heard.
        StoreError: The store holds no sounds, other programs, or no calibration says what a sound is worth.
    """
    if store is not None and hops:
        raise InputError("--hops makes its own stores: leave out --store")
    listener = listener_of(settings.sound, settings.sound.clip_hop_seconds)
    if listener is None:
        raise InputError("the settings say that nobody listens: set enabled = true under [sound]")
    by_hop = [_at_hop(settings, hop) for hop in dict.fromkeys(hops)] or [settings]
    notes = RunNotes(command, settings, encoder.info.fingerprint, encoder.engine, plan.seed)
    prepare(
        out, notes, {"sound": plan.to_json(), "store": None if store is None else place_of(store).full_name}
    )
    _make_dramas(plan, workers)
    every = sources(plan.programs, plan.material)
    # All stores first: clips take minutes, and a store that does not listen says so at once.
    opened = [_opened(out, every, one, encoder, store=store, name=_store_name(one, hops)) for one in by_hop]
    asked = _listen(plan, every, listener)
    rows = [
        _figures(asked, linker, catalog, one, hop_is_known=store is None)
        for one, (catalog, linker) in zip(by_hop, opened, strict=True)
    ]
    value = {
        "asked": asked.notes,
        "hops": rows,
        "run": notes.to_json() | {"sound_model": listener.encoder.info.fingerprint},
    }
    write_json(out / RESULT, value)
    return value


def _at_hop(settings: Settings, hop_seconds: float) -> Settings:
    values = settings.model_dump()
    values["sound"]["program_hop_seconds"] = hop_seconds
    try:
        return Settings.model_validate(values)
    except ValueError as error:
        raise InputError(f"a patch every {hop_seconds:g} seconds is none: give --hops 0.1 to 10") from error


def _store_name(settings: Settings, hops: Sequence[float]) -> str:
    return f"store-{settings.sound.program_hop_seconds:g}" if hops else "store"


# --- Programs ---


def _opened(
    out: Path,
    every: Sequence[Source],
    settings: Settings,
    encoder: FrameEncoder,
    *,
    store: str | Path | None,
    name: str,
) -> tuple[Catalog, Linker]:
    """The store that was given, or one of the run's folder; either listens."""
    if store is None:
        catalog, linker = _added(out / name, every, settings, encoder)
    else:
        catalog = _checked(open_catalog(store, encoder.info), every)
        linker = open_linker(catalog, settings)
    _check_listens(linker, catalog)
    return catalog, linker


def _make_dramas(plan: SoundPlan, workers: int) -> None:
    missing = [s for s in drama_specs(plan.programs) if not drama_path(plan.material, s).exists()]
    if not missing:
        return
    with worker_pool(workers, broken=_BROKEN) as submit, progress_bar("making dramas", len(missing)) as bar:
        for name in as_done(submit, [(make_drama, plan.material, spec) for spec in missing]):
            bar.step(name)


def _added(
    path: Path, every: Sequence[Source], settings: Settings, encoder: FrameEncoder
) -> tuple[Catalog, Linker]:
    """A store of the catalogue; what is there of it is not added again."""
    jobs = [
        ProgramJob(
            source.program_id, (AssetJob(source.path, source.asset_id),), source.title, (),
            (source.category,) if source.category else (),
        )
        for source in every
        if source.is_known
    ]  # fmt: skip
    started, counts = time.monotonic(), {"added": 0, "there already": 0}
    catalog = create_catalog(path, encoder.info)
    with translated(), catalog.writing() as writer:
        with progress_bar(f"adding to {path.name}", len(jobs)) as bar:
            for result in add_programs(writer, jobs, encoder, settings, on_frames=bar.frames):
                if result.outcome == "failed":
                    raise InputError(f"{result.program_id}: {result.message}")
                counts["there already" if result.outcome == "unchanged" else "added"] += 1
                bar.step(result.program_id)
        live = save_caches(catalog, settings.index, writer)
    say(f"{path.name}: {counts['added']} programs added, {counts['there already']} there already,"
        f" {time.monotonic() - started:.1f} s")  # fmt: skip
    return catalog, open_linker(catalog, settings, live)


def _checked(catalog: Catalog, every: Sequence[Source]) -> Catalog:
    """A store that was given, if it is of this catalogue."""
    there = {record.program_id for record in catalog.programs()}
    lacking = [source.program_id for source in every if source.is_known and source.program_id not in there]
    surplus = [source.program_id for source in every if not source.is_known and source.program_id in there]
    if lacking or surplus:
        what = f"lacks {lacking[0]}" if lacking else f"holds {surplus[0]}, which is to be unknown"
        raise StoreError(f"the store {catalog.place} is of another catalogue: it {what}; leave out --store")
    return catalog


def _check_listens(linker: Linker, catalog: Catalog) -> None:
    if linker.listener() is not None:
        return
    if catalog.sound_model is None:
        raise StoreError(f"the store {catalog.place} holds no sounds; add its programs without --no-sound")
    raise StoreError(
        f"no calibration says what a sound is worth in {catalog.place}; run: matcher calibrate --store"
        f" {catalog.place}, and then the same command again"
    )


# --- Clips ---


def _listen(plan: SoundPlan, every: Sequence[Source], listener: Listener) -> Asked:
    """Cut, edit and describe all clips."""
    inside = audible([source for source in every if source.is_known])
    outside = audible([source for source in every if not source.is_known])
    wanted = stretches_of(inside, plan.clips_per_program, plan.seed)
    started = time.monotonic()
    with progress_bar("listening", len(wanted) + plan.n_unknown + plan.n_silent) as bar:
        known = []
        for stretch in wanted:
            known.append(known_clips(stretch, outside, listener, plan.seed))
            bar.step(stretch.source.program_id)
        unknown, n_passed_over = _unknown(plan, outside, listener, bar)
        silent = []
        for number in range(plan.n_silent):
            silent.append(silent_clip(number, listener, plan.seed))
            bar.step(silent[-1].clip_id)
    clips = [clip for one in known for clip in one.clips]
    if not clips:
        raise InputError("no program of the catalogue can be heard; give --films with sound, or dramas")
    asked = {one.stretch.source for one in known if one.clips}
    n_silent = sum(not one.clips for one in known)
    notes = {
        "catalogue": sum(source.is_known for source in every),
        "catalogue_with_sound": len(inside),
        "programs_asked": len(asked),
        "films_asked": sum(source.group == "films" for source in asked),
        "programs_silent": [source.program_id for source in inside if source not in asked],
        "outside_with_sound": len(outside),
        "stretches": len(known) - n_silent,
        "stretches_silent": n_silent,
        "outside_stretches_silent": n_passed_over,
        "unknown": len(unknown),
        "silent": len(silent),
        "silent_with_a_patch": sum(len(clip.look) > 0 for clip in silent),
    }
    say(
        f"clips: {len(clips)} known, {len(unknown)} unknown, {len(silent)} silent; {n_silent} silent"
        f" stretches left out, {time.monotonic() - started:.1f} s"
    )
    return Asked(clips, unknown, silent, notes)


def _unknown(
    plan: SoundPlan, outside: Sequence[Source], listener: Listener, bar: Progress
) -> tuple[list[HeardClip], int]:
    """Clips of outside, and how many stretches were silent and passed over."""
    clips: list[HeardClip] = []
    n_silent = 0
    # Where nearly all of it is silent, what there is has to do.
    for stretch in islice(outside_stretches(outside, plan.seed), 3 * plan.n_unknown):
        if len(clips) == plan.n_unknown:
            break
        found = unknown_clip(stretch, outside, listener, plan.seed, turn=len(clips))
        if found.clips:
            bar.step(stretch.source.program_id)
        n_silent += not found.clips
        clips += found.clips
    return clips, n_silent


# --- Figures ---


def _figures(
    asked: Asked, linker: Linker, catalog: Catalog, settings: Settings, *, hop_is_known: bool
) -> PublicObject:
    """What one store answers, and what its sounds take."""
    clips = [*asked.known, *asked.unknown, *asked.silent]
    d, started = catalog.model.d, time.monotonic()
    with progress_bar("linking", len(clips)) as bar:
        judged = []
        for clip in clips:
            judged.append(_judged(linker, clip, d, settings.sound.speeds))
            bar.step(clip.clip_id)
    seconds = (time.monotonic() - started) / len(clips)
    n_known, n_unknown = len(asked.known), len(asked.unknown)
    known, unknown = judged[:n_known], judged[n_known : n_known + n_unknown]
    silent = judged[n_known + n_unknown :]
    return {
        "hop_seconds": settings.sound.program_hop_seconds if hop_is_known else None,
        "settings_digest": settings.digest(),
        **_sizes(catalog),
        "seconds_a_clip": seconds,
        "known": [
            _known_row(edit, group, [one for one in known if one.clip.edit == edit and _is_of(one, group)])
            for group in GROUPS
            for edit in EDITS
        ],
        "unknown": [
            _unlinked_row(ANY_EDIT, group, [one for one in unknown if _is_of(one, group)])
            for group in GROUPS
        ] + [_unlinked_row(edit, "all", [one for one in unknown if one.clip.edit == edit]) for edit in EDITS],
        "silent": [
            _unlinked_row(name, "all", [one for one in silent if name in (one.clip.edit, ANY_EDIT)])
            for name in (*SILENCES, ANY_EDIT)
        ],
        "wrong": [_wrong(one) for one in judged if one.is_linked_wrong],
    }  # fmt: skip


def _judged(linker: Linker, clip: HeardClip, d: int, speeds: Sequence[float]) -> Judged:
    """Ask as the pipeline asks a clip whose pictures say nothing: what is not linked is heard again."""
    nothing = np.zeros(0), np.zeros((0, d), np.float32)
    considered = linker.consider(Descriptors(*nothing, clip.seconds, 0, sound=clip.look))
    answer = linker.answer(clip.clip_id, clip.clip_id, considered, model="", top=1)
    listener = linker.listener()
    if answer.decision != "linked" and listener is not None:
        again = listen_again(linker, listener, considered, Album(sound=list(clip.pieces)), speeds)
        answer = linker.answer(clip.clip_id, clip.clip_id, again, model="", top=1)
    return Judged(clip, answer)


def _is_of(one: Judged, group: str) -> bool:
    return group in ("all", one.clip.group)


def _sizes(catalog: Catalog) -> PublicObject:
    """What sounds take, for each hour of the programs that have some."""
    heard = {record.program_id for record in catalog.programs() if record.sound_count}
    hours = sum(a.duration_seconds for a in catalog.assets() if a.program_id in heard) / 3600
    sounds = sum(record.sound_count for record in catalog.programs())
    table = catalog.place.size("tables/sounds.lance")
    return {
        "hours": hours,
        "sounds": sounds,
        "sounds_an_hour": sounds / hours if hours else None,
        "bytes_an_hour": table / hours if hours else None,
    }


def _share(ones: Iterable[bool]) -> tuple[float | None, list[float] | None]:
    """The share that is so, with its interval; neither of nothing."""
    found = list(ones)
    if not found:
        return None, None
    return sum(found) / len(found), list(wilson_interval(sum(found), len(found)))


def _known_row(edit: str, group: str, judged: Sequence[Judged]) -> PublicObject:
    top1, interval = _share(one.is_first for one in judged)
    return {
        "edit": edit, "group": group, "asked": len(judged), "top1": top1, "top1_interval": interval,
        "linked_right": _share(one.is_linked_right for one in judged)[0],
        "linked_wrong": _share(one.is_linked_wrong for one in judged)[0],
        "review": _share(one.answer.decision == "review" for one in judged)[0],
    }  # fmt: skip


def _unlinked_row(edit: str, group: str, judged: Sequence[Judged]) -> PublicObject:
    """Of clips that are to be linked to nothing."""
    linked, interval = _share(bool(one.linked) for one in judged)
    return {
        "edit": edit, "group": group, "asked": len(judged), "linked": linked, "linked_interval": interval,
        "review": _share(one.answer.decision == "review" for one in judged)[0],
    }  # fmt: skip


def _wrong(one: Judged) -> PublicObject:
    return {
        "clip_id": one.clip.clip_id, "edit": one.clip.edit, "program_id": one.clip.program_id,
        "linked": one.linked, "confidence": one.answer.links[0].confidence,
    }  # fmt: skip


# --- Shown ---


def show_sound(value: PublicObject, *, as_json: bool, seconds: float) -> None:
    """Print a run's figures: two tables for each hop, or all as one JSON object.

    Args:
        value: As :func:`run_sound` returns it.
        as_json: One object on one line, and no table.
        seconds: What the whole run took.
    """
    asked = value["asked"]
    if as_json:
        print_json(value)
    else:
        for of in value["hops"]:
            _show_hop(of, asked["catalogue"])
    summary(
        {
            name: asked[name]
            for name in ("programs_asked", "stretches", "stretches_silent", "unknown", "silent")
        },
        seconds,
    )


def _show_hop(of: PublicObject, n_programs: int) -> None:
    hop = "" if of["hop_seconds"] is None else f", a patch every {of['hop_seconds']:g} s"
    size = "" if of["bytes_an_hour"] is None else f", {of['bytes_an_hour'] / 1e6:.2f} MB an hour"
    print_table(
        f"Sound alone, {n_programs} programs{hop}{size}",
        ("edit", "group", "asked", "top-1", "95 %", "linked right", "linked wrong", "review"),
        [
            (
                row["edit"], row["group"], str(row["asked"]), _number(row["top1"]),
                _range(row["top1_interval"]), _number(row["linked_right"]), _number(row["linked_wrong"]),
                _number(row["review"]),
            )
            for row in of["known"]
            if row["asked"]
        ],
    )  # fmt: skip
    print_table(
        "Clips that are of no program of the catalogue",
        ("clips", "edit", "group", "asked", "linked", "95 %", "review"),
        [
            (
                name, row["edit"], row["group"], str(row["asked"]), _number(row["linked"]),
                _range(row["linked_interval"]), _number(row["review"]),
            )
            for name in ("unknown", "silent")
            for row in of[name]
            if row["asked"]
        ],
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _range(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"
