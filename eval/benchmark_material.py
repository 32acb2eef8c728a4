"""Makes the benchmark's dramas and clips in one folder, with the truth beside every clip.

The folder holds ``benchmark.json`` (the plan), ``dramas/``, ``clips/`` with a JSON file for each
clip, and, once all is made, ``programs.csv``, ``clips.csv``, ``truth.csv`` and ``clips.parquet``.
A clip has its name only when its truth is written, so a second run makes only what is missing. A
folder that is whole is taken as it is, by later versions too: so the same clips measure old and new.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.benchmark import (
    BenchmarkPlan,
    ClipOrder,
    Slot,
    Source,
    drama_path,
    drama_specs,
    draw_clip,
    slots,
    sources,
)
from eval.dramas import CatalogueRow, DramaSpec, write_episode, write_manifest
from eval.edit_menu import KINDS
from eval.edits import ClipTruth, write_montage
from eval.figures import ClipInfo
from eval.ground_truth import TruthRow, write_truth
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
from eval.run_files import CLIPS, TRUTH, save_clips
from matcher.errors import InputError
from matcher.show import progress_bar, say

#: Changes when the same plan would come out otherwise.
_FORMAT = 1
_STAMP = "benchmark.json"
_OPTION = "--material"
_BROKEN = "a process that makes clips was ended from outside; run the same command again, it goes on"


@dataclass(frozen=True)
class MadeClip:
    """One clip that is there: what it is, and what it shows."""

    info: ClipInfo
    truth: ClipTruth


@dataclass(frozen=True)
class Material:
    """A benchmark that is made.

    Attributes:
        folder: Holds everything but the films.
        plan: What it was made from.
        clips: By number, the known ones first.
    """

    folder: Path
    plan: BenchmarkPlan
    clips: tuple[MadeClip, ...]

    @property
    def programs_manifest(self) -> Path:
        """The catalogue, as ``matcher add --manifest`` takes it."""
        return self.folder / "programs.csv"

    @property
    def clips_manifest(self) -> Path:
        """The clips, as ``matcher query --manifest`` takes them."""
        return self.folder / "clips.csv"

    @property
    def truth(self) -> list[TruthRow]:
        """What the known clips show of the catalogue, in order."""
        return [row for clip in self.clips if clip.info.is_known for row in truth_rows(clip)]


def plan_of(folder: Path) -> BenchmarkPlan | None:
    """The plan of the benchmark in a folder; None if there is none.

    Raises:
        InputError: The folder is of another version.
    """
    stamp = read_json(folder / _STAMP)
    if stamp is None:
        return None
    try:
        if stamp["format"] != _FORMAT:
            raise ValueError(stamp["format"])
        return BenchmarkPlan.from_json(stamp["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder} holds a benchmark that this version cannot read; choose another {_OPTION}"
        ) from error


def make_material(plan: BenchmarkPlan, folder: Path, *, workers: int = 2) -> Material:
    """Make what is missing of a benchmark's dramas and clips.

    Args:
        plan: What to make.
        folder: Where to; new, empty, or that of the same plan.
        workers: Processes; 0 makes everything in this one. The files do not depend on it.

    Returns:
        The whole material.

    Raises:
        InputError: The folder holds something else or cannot be written, or a film cannot be read.
        MatcherError: A worker was ended from outside.
    """
    if plan.films is not None:
        plan = replace(plan, films=plan.films.resolve())
    folder = folder.resolve()
    with saying_why(folder, _OPTION):
        _prepare(plan, folder)
    whole = _read_whole(plan, folder)
    if whole is not None:
        say(f"clips: {len(whole.clips)} there already")
        return whole
    _write_stamp(plan, folder, [])
    all_slots = slots(plan, folder)
    with worker_pool(workers, broken=_BROKEN) as submit:
        started = time.monotonic()
        specs = drama_specs(plan)
        missing = [spec for spec in specs if not drama_path(folder, spec).exists()]
        with progress_bar("making dramas", len(missing)) as bar:
            for name in as_done(submit, [(make_drama, folder, spec) for spec in missing]):
                bar.step(name)
        _tell("dramas", len(missing), len(specs), started)
        started = time.monotonic()
        left = [slot for slot in all_slots if not _is_made(folder, draw_clip(plan, folder, slot).clip_id)]
        with progress_bar("cutting clips", len(left)) as bar:
            for name in as_done(submit, [(make_clip, plan, folder, slot) for slot in left]):
                bar.step(name)
        _tell("clips", len(left), len(all_slots), started)
    return _finished(plan, folder, all_slots)


def _tell(what: str, made: int, of: int, started: float) -> None:
    seconds = time.monotonic() - started
    each = f", {seconds / made:.2f} s each" if made else ""
    say(f"{what}: {made} made, {of - made} there already, {seconds:.1f} s{each}")


def _prepare(plan: BenchmarkPlan, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    there = plan_of(folder)
    if there is None and any(not path.name.startswith(f".{_STAMP}") for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no benchmark; choose another {_OPTION}")
    if there is not None and there != plan:
        raise InputError(f"{folder} holds a benchmark of another plan; choose another {_OPTION}")


def _write_stamp(plan: BenchmarkPlan, folder: Path, clip_ids: Sequence[str]) -> None:
    """The plan, the kinds of edits that there were, and at the very end all that was made.

    Raises:
        InputError: A part was made with other kinds of edits.
    """
    kinds = list(KINDS)
    before = (read_json(folder / _STAMP) or {}).get("kinds", kinds)
    if before != kinds:
        raise InputError(
            f"{folder} was begun by a version with other kinds of edits; choose another {_OPTION}"
        )
    stamp = {"format": _FORMAT, "plan": plan.to_json(), "kinds": kinds, "clips": list(clip_ids)}
    write_json(folder / _STAMP, stamp)


def _read_whole(plan: BenchmarkPlan, folder: Path) -> Material | None:
    """What lies in a folder that was once finished; None if it never was, or a file is missing now."""
    clip_ids = (read_json(folder / _STAMP) or {}).get("clips", [])
    material = Material(folder, plan, ())
    tables = (material.programs_manifest, material.clips_manifest)
    if not clip_ids or not all(path.exists() for path in tables):
        return None
    if not all(_is_made(folder, name) for name in clip_ids):
        return None
    return replace(material, clips=tuple(_read_clip(folder, name) for name in clip_ids))


# --- One file; runs in a worker ---


def make_drama(folder: Path, spec: DramaSpec) -> str:
    """Render one drama; it has its name only when it is whole. Returns the program's id."""
    path = drama_path(folder, spec)
    with saying_why(path, _OPTION):
        write_episode(spec, 1, part_name(path))
        part_name(path).replace(path)
    return spec.program_id


def make_clip(plan: BenchmarkPlan, folder: Path, slot: Slot) -> str:
    """Cut and edit one clip, and write down what it shows. Returns its id."""
    order = draw_clip(plan, folder, slot)
    path = clip_path(folder, order.clip_id)
    with saying_why(path, _OPTION):
        truth = write_montage(
            order.parts, order.edits, part_name(path), seed=order.seed, fps=plan.fps, max_side=plan.max_side
        )
        write_json(_truth_path(path), _described(order, _movable(truth, path, folder)))
        part_name(path).replace(path)
    return order.clip_id


def _movable(truth: ClipTruth, path: Path, folder: Path) -> ClipTruth:
    """With paths inside the folder seen from there, so that it may be moved; films stay where they are."""
    segments = tuple(
        replace(segment, source=segment.source.relative_to(folder))
        if segment.source.is_relative_to(folder)
        else segment
        for segment in truth.segments
    )
    return replace(truth, path=path.relative_to(folder), segments=segments)


def clip_path(folder: Path, clip_id: str) -> Path:
    """Where a clip lies."""
    return folder / "clips" / f"{clip_id}.mp4"


def _truth_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_made(folder: Path, clip_id: str) -> bool:
    path = clip_path(folder, clip_id)
    return path.exists() and _truth_path(path).exists()


def _described(order: ClipOrder, truth: ClipTruth) -> dict[str, Any]:
    return {
        "clip_id": order.clip_id,
        "group": order.group,
        "is_known": order.is_known,
        "level": order.level,
        "kinds": list(order.kinds),
        "truth": truth_json(truth),
    }


# --- The whole ---


def _finished(plan: BenchmarkPlan, folder: Path, all_slots: Sequence[Slot]) -> Material:
    """Read what was made and write the tables of it."""
    orders = [draw_clip(plan, folder, slot) for slot in all_slots]
    material = Material(folder, plan, tuple(_read_clip(folder, order.clip_id) for order in orders))
    with saying_why(folder, _OPTION):
        _write_programs(sources(plan, folder), material.programs_manifest)
        _write_clips([clip.info.clip_id for clip in material.clips], material.clips_manifest)
        write_truth(folder / TRUTH, material.truth)
        save_clips(folder / CLIPS, [clip.info for clip in material.clips])
        _write_stamp(plan, folder, [clip.info.clip_id for clip in material.clips])
    return material


def _read_clip(folder: Path, clip_id: str) -> MadeClip:
    path = _truth_path(clip_path(folder, clip_id))
    value = read_json(path)
    if value is None:
        raise InputError(f"{path} is damaged; delete it, and run the same command again")
    info = ClipInfo(
        clip_id=clip_id,
        group=value["group"],
        is_known=value["is_known"],
        kinds=tuple(value["kinds"]),
        level=value["level"],
    )
    return MadeClip(info, truth_from_json(value["truth"]))


def truth_rows(clip: MadeClip) -> list[TruthRow]:
    """What a clip shows, as rows of the truth."""
    return [
        TruthRow(
            clip_id=clip.info.clip_id,
            program_id=segment.program_id,
            asset_id=segment.asset_id,
            clip_start_seconds=segment.clip_start_seconds,
            clip_end_seconds=segment.clip_end_seconds,
            asset_start_seconds=segment.asset_start_seconds,
            asset_end_seconds=segment.asset_end_seconds,
            is_reversed=segment.is_reversed,
        )
        for segment in clip.truth.segments
    ]


def _write_programs(found: Iterable[Source], path: Path) -> None:
    write_manifest(
        [
            CatalogueRow(source.program_id, source.path, source.asset_id, source.title, source.category)
            for source in found
            if source.is_known
        ],
        path,
    )


def _write_clips(clip_ids: Iterable[str], path: Path) -> None:
    part = part_name(path)
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "path"])
        writer.writerows([name, f"clips/{name}.mp4"] for name in clip_ids)
    part.replace(path)
