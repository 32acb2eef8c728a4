"""Runs the real pipeline over clips whose truth is known and writes what came of it into one folder.

Either over a benchmark that is made for the purpose (:mod:`eval.benchmark`), with a store of its own in
the run's folder, or over an operator's own clips, truth and store, to which nothing is written. A run
that was cut off goes on: programs that are there are not added again, clips that are answered are not
asked again.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.ablation import ablation_rows, finished_figures, row_of_run, show_ablation
from eval.alignment import SEEDS, table_rows
from eval.benchmark import BenchmarkPlan
from eval.benchmark_material import Material, clip_path, make_material, plan_of
from eval.distractor_run import with_distractors
from eval.failure_pictures import FailurePictures
from eval.figures import figures
from eval.ground_truth import TruthRow, read_truth, write_truth
from eval.judging import ClipInfo
from eval.making import read_json, write_json
from eval.run_files import ANSWERS, CLIPS, FIGURES, TRUTH, load_answers, load_clips, save_answers, save_clips
from eval.trajectories import simulated_cases
from index.places import place_of
from matcher.calibration import FILE_NAME, Calibration
from matcher.config import Settings
from matcher.errors import InputError
from matcher.inputs import ClipJob, Refused, read_clip_manifest, read_clip_rows, read_program_manifest
from matcher.linking import Linker
from matcher.pipeline import KEEP_BATCH, add_programs, keep, query_clips
from matcher.records import Answer
from matcher.show import print_json, print_table, progress_bar, say, summary
from matcher.store import create_catalog, open_catalog, open_linker, save_caches, translated

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from matcher.encoders.base import FrameEncoder

TOP = 5
#: Of an operator's clips, of which nothing is known but the truth.
OWN_GROUP = "clips"
_RUN = "run.json"
_PACKAGES = ("program-matcher", "numpy", "av", "faiss-cpu", "lancedb", "onnxruntime", "torch")

PublicObject = dict[str, Any]


@dataclass(frozen=True)
class RunNotes:
    """What is said of a run beside its figures.

    Attributes:
        command: The words that started it.
        settings: Resolved.
        model: Fingerprint of the encoder.
        engine: Where the encoder ran.
        seed: Of the benchmark; None for an operator's own clips.
    """

    command: str
    settings: Settings
    model: str
    engine: str
    seed: int | None = None

    def to_json(self) -> PublicObject:
        """As ``figures.json`` holds it."""
        return {
            "command": self.command,
            "seed": self.seed,
            "model": self.model,
            "engine": self.engine,
            "settings_digest": self.settings.digest(),
            "settings": self.settings.model_dump(mode="json"),
            "versions": {"python": platform.python_version(), **_installed(_PACKAGES)},
            "machine": platform.machine(),
        }


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def chosen_plan(
    material: Path,
    *,
    films: Path | None,
    seed: int | None,
    n_dramas: int | None,
    n_unknown: int | None,
    is_quick: bool,
) -> BenchmarkPlan:
    """The plan of the command's words; without any, that of the benchmark which is there.

    Args:
        material: The benchmark's folder.
        films: None for dramas alone.
        seed: None for the default; likewise the next two.
        n_dramas: Generated programs.
        n_unknown: Clips of programs outside the catalogue.
        is_quick: Start from the small plan.

    Raises:
        InputError: There is neither a word nor a benchmark, or a number makes no sense.
    """
    if films is None and not is_quick and (seed, n_dramas, n_unknown) == (None, None, None):
        there = plan_of(material)
        if there is None:
            raise InputError(
                "nothing to make: give --films DIR, --dramas N or --quick, or a --material that is made"
                f" ({material} holds none)"
            )
        return there
    base = BenchmarkPlan.quick() if is_quick else BenchmarkPlan()
    return replace(
        base,
        films=None if films is None else films.resolve(),
        seed=base.seed if seed is None else seed,
        n_dramas=base.n_dramas if n_dramas is None else n_dramas,
        n_unknown=base.n_unknown if n_unknown is None else n_unknown,
    )


def run_link_benchmark(
    plan: BenchmarkPlan,
    out: Path,
    settings: Settings,
    encoder: FrameEncoder,
    *,
    material: Path | None = None,
    workers: int = 2,
    n_distractors: int = 0,
    command: str = "",
) -> PublicObject:
    """Make a benchmark, add its catalogue, link its clips and say how well it went.

    Args:
        plan: What to make.
        out: The run's folder; new, empty, or that of the same run.
        settings: Of the pipeline.
        encoder: Of the store.
        material: Folder of the dramas and clips; ``out/material`` unless given.
        workers: Processes that make them; 0 makes them in this one.
        n_distractors: Strangers' frames that are added to the index, for figures at several sizes.
        command: Said in the figures.

    Returns:
        The figures, as ``figures.json`` holds them.

    Raises:
        InputError: A folder holds something else or cannot be written, or a film cannot be read.
    """
    if n_distractors < 0:
        raise InputError(f"the number of distractors must be 0 or more, got {n_distractors}")
    notes = RunNotes(command, settings, encoder.info.fingerprint, encoder.engine, plan.seed)
    prepare(out, notes, {"plan": plan.to_json()})
    made = make_material(plan, material or out / "material", workers=workers)
    clips = [clip.info for clip in made.clips]
    answers, catalog = link_clips(made, out, encoder, settings)
    value = figures(clips, made.truth, answers)
    if n_distractors:
        value["distractors"] = with_distractors(made, out, settings, encoder, n_distractors, answers, top=TOP)
    paths = {clip.clip_id: clip_path(made.folder, clip.clip_id) for clip in clips}
    return write_run(out, clips, made.truth, answers, value | {"run": notes.to_json()}, paths, catalog)


def link_clips(
    made: Material,
    out: Path,
    encoder: FrameEncoder,
    settings: Settings,
    *,
    only: Collection[str] | None = None,
    calibration: Calibration | None = None,
) -> tuple[list[PublicObject], Catalog]:
    """Answer a benchmark's clips from a store of its catalogue, ``out/store``, which keeps them.

    Args:
        made: The benchmark.
        out: Folder of the store and of the answers; what is there is not made or asked again.
        encoder: Of the store.
        settings: Of the pipeline.
        only: Ids of the clips to ask; None for all.
        calibration: That the store is to have; None for the one that it has.

    Returns:
        The answers in the order of the clips, and the store.

    Raises:
        InputError: A file of the benchmark cannot be read.
    """
    clips = [clip.info for clip in made.clips if only is None or clip.info.clip_id in only]
    jobs, refused = read_clip_manifest(made.clips_manifest)
    if refused:
        raise InputError(f"{refused[0].message}; delete it, and run the same command again")
    asked = {clip.clip_id for clip in clips}
    catalog = create_catalog(out / "store", encoder.info)
    with translated(), catalog.writing() as writer:
        if calibration is not None:
            calibration.save(catalog.path / FILE_NAME)
        _add_catalogue(writer, made.programs_manifest, encoder, settings)
        live = save_caches(catalog, settings.index, writer)
        linker = open_linker(catalog, settings, live)
        wanted = [job for job in jobs if job.clip_id in asked]
        answers = _answered(out, clips, wanted, linker, encoder, settings, writer=writer)
    return answers, catalog


def run_link_truth(
    truth: Path,
    clips: Path,
    store: str | Path,
    out: Path,
    settings: Settings,
    encoder: FrameEncoder,
    *,
    command: str = "",
) -> PublicObject:
    """Link an operator's own clips with an operator's own store, and hold the answers against the truth.

    Args:
        truth: CSV file in our own form or that of VSC2022; a clip without a row is of no program.
        clips: Manifest as ``matcher query`` takes it.
        store: Read and left as it is.
        out: The run's folder; new, empty, or that of the same run.
        settings: Of the pipeline.
        encoder: Must be the store's.
        command: Said in the figures.

    Returns:
        The figures, as ``figures.json`` holds them.

    Raises:
        InputError: A file cannot be read, or the truth names a clip or program that is not there.
    """
    rows = read_truth(truth)
    jobs = read_clip_rows(clips)
    notes = RunNotes(command, settings, encoder.info.fingerprint, encoder.engine)
    catalog = open_catalog(store, encoder.info)
    infos = own_clips(rows, [_name(job) for job in jobs], {p.program_id for p in catalog.programs()})
    prepare(out, notes, {"store": place_of(store).full_name, "clips": str(clips.resolve())})
    with translated():
        linker = open_linker(catalog, settings)
        answers = _answered(out, infos, jobs, linker, encoder, settings, writer=None)
    paths = {job.clip_id: job.path for job in jobs if isinstance(job, ClipJob)}
    value = figures(infos, rows, answers) | {"run": notes.to_json()}
    return write_run(out, infos, rows, answers, value, paths, catalog)


def ablate_run(out: Path, *, other: Path | None = None) -> PublicObject:
    """Add to a finished benchmark run what it is without each of its parts, from kept descriptors.

    Args:
        out: The run's folder; its figures and its report are written again.
        other: Folder of a run of the same clips with a plainer descriptor, to be listed with them.

    Returns:
        The run's figures with ``ablation``: see :func:`eval.ablation.ablation_rows`; and ``alignment``: the
        aligners that could stand in its place, on simulated clips (:mod:`eval.alignment`).

    Raises:
        InputError: The folder holds no finished run or keeps no descriptors, or the other run does not fit.
    """
    value = finished_figures(out)
    if not (out / "store").is_dir():
        raise InputError(f"{out} keeps no descriptors, which a run of your own clips does not; nothing to do")
    clips, truth, answers = load_clips(out / CLIPS), read_truth(out / TRUTH), load_answers(out / ANSWERS)
    more = [] if other is None else [row_of_run(other, clips, value["run"]["model"])]
    catalog = open_catalog(out / "store")
    settings = _settings_of(out, value)
    started = time.monotonic()
    rows = ablation_rows(catalog, settings, clips, truth, answers, top=TOP)
    say(f"ablation: {len(rows)} times {len(clips)} clips, {time.monotonic() - started:.1f} s")
    value = {**value, "ablation": rows + more, "alignment": table_rows(simulated_cases(SEEDS))}
    write_json(out / FIGURES, value)
    kept = {record.clip_id: Path(record.path) for record in catalog.clips()}
    _report(out, truth, answers, kept, catalog)
    return value


def _settings_of(out: Path, value: PublicObject) -> Settings:
    """Those that a finished run was made with.

    Raises:
        InputError: This version has others.
    """
    try:
        return Settings.model_validate(value["run"]["settings"])
    except ValueError as error:
        raise InputError(
            f"{out / FIGURES} names settings that this version does not have; run it again"
        ) from error


def own_clips(rows: Sequence[TruthRow], names: Sequence[str], programs: set[str]) -> list[ClipInfo]:
    """What is known of an operator's clips: those with a truth are known, and nothing of their edits.

    Raises:
        InputError: The truth names a clip that is not in the manifest or a program that is not in the
            store, or a clip comes twice.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InputError(f"clip {twice} comes twice in the manifest; ids must differ")
    strange = next((row for row in rows if row.clip_id not in set(names)), None)
    if strange is not None:
        raise InputError(f"the truth names the clip {strange.clip_id}, which the manifest does not")
    absent = next((row for row in rows if row.program_id not in programs), None)
    if absent is not None:
        raise InputError(
            f"the truth says that {absent.clip_id} is of {absent.program_id}, which is not in the store;"
            " leave out the rows of clips whose program is not there"
        )
    shown: dict[str, set[str]] = {}
    for row in rows:
        shown.setdefault(row.clip_id, set()).add(row.program_id)
    return [
        ClipInfo(name, OWN_GROUP, name in shown, (), "montage" if len(shown.get(name, ())) > 1 else "none")
        for name in names
    ]


# --- The run's folder ---


def prepare(out: Path, notes: RunNotes, source: PublicObject) -> None:
    """Make the run's folder ready; answers of another run in it would be mixed with this one's.

    Args:
        out: The folder.
        notes: Of the run.
        source: What is asked of what, as an object.

    Raises:
        InputError: It holds something else, or a run of other settings, model, plan or files.
    """
    stamp = {"settings_digest": notes.settings.digest(), "model": notes.model, **source}
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = read_json(out / _RUN)
        others = [path.name for path in out.iterdir() if not path.name.startswith(f".{_RUN}")]
        if there is None and others:
            raise InputError(f"{out} is not empty and holds no run; choose another --out")
        if there is not None and there != stamp:
            differing = ", ".join(sorted(k for k in {*there, *stamp} if there.get(k) != stamp.get(k)))
            raise InputError(
                f"{out} holds a run that differs from this one in: {differing}; choose another --out"
            )
        write_json(out / _RUN, stamp)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror or error}; choose another --out") from error


def write_run(
    out: Path,
    clips: Sequence[ClipInfo],
    truth: Sequence[TruthRow],
    answers: Sequence[PublicObject],
    value: PublicObject,
    paths: Mapping[str, Path],
    catalog: Catalog,
) -> PublicObject:
    """Write the tables, the figures and the report of the run."""
    save_clips(out / CLIPS, clips)
    write_truth(out / TRUTH, truth)
    save_answers(out / ANSWERS, clips, answers)
    write_json(out / FIGURES, value)
    _report(out, truth, answers, paths, catalog)
    return value


def _report(
    out: Path,
    truth: Sequence[TruthRow],
    answers: Sequence[PublicObject],
    paths: Mapping[str, Path],
    catalog: Catalog,
) -> None:
    """Write the report of what stands in the run's folder, with pictures of the worst answers."""
    from eval.report import write_report  # draws with matplotlib, which nothing before this needs

    rows: dict[str, list[TruthRow]] = {}
    for row in truth:
        rows.setdefault(row.clip_id, []).append(row)
    pictures = FailurePictures(
        clips=paths,
        assets={(asset.program_id, asset.asset_id): Path(asset.path) for asset in catalog.assets()},
        truth=rows,
        answers={answer["clip_id"]: answer for answer in answers},
    )
    started = time.monotonic()
    write_report(out, picture_of=pictures)
    say(f"report: {out / 'report.html'}, {time.monotonic() - started:.1f} s")


# --- The pipeline ---


def _add_catalogue(writer: Writer, manifest: Path, encoder: FrameEncoder, settings: Settings) -> None:
    """As ``matcher add --manifest`` does."""
    started = time.monotonic()
    jobs, refused = read_program_manifest(manifest)
    if refused:
        raise InputError(refused[0].message)
    added = 0
    with progress_bar("adding programs", len(jobs)) as bar:
        for result in add_programs(writer, jobs, encoder, settings, on_frames=bar.frames):
            if result.outcome == "failed":
                raise InputError(f"{result.program_id}: {result.message}")
            added += result.outcome != "unchanged"
            bar.step(result.program_id)
            if added and writer.needs_compaction():
                writer.compact()
    seconds = time.monotonic() - started
    say(f"programs: {added} added, {len(jobs) - added} there already, {seconds:.1f} s")


def _answered(
    out: Path,
    clips: Sequence[ClipInfo],
    jobs: Sequence[ClipJob | Refused],
    linker: Linker,
    encoder: FrameEncoder,
    settings: Settings,
    *,
    writer: Writer | None,
) -> list[PublicObject]:
    """The answers to all clips, in order; those that an earlier run wrote are taken as they are."""
    started = time.monotonic()
    kept = None if writer is None else {record.clip_id for record in writer.catalog.clips()}
    done = _still_good(out / ANSWERS, linker.version, kept)
    left = [job for job in jobs if _name(job) not in done]
    with progress_bar("linking clips", len(left)) as bar:

        def ask() -> Iterator[Answer]:
            pairs = query_clips(linker, left, encoder, settings, top=TOP, on_frames=bar.frames)
            return keep(writer, pairs) if writer is not None else (answer for answer, _ in pairs)

        try:
            for number, value in enumerate(_timed(ask), start=1):
                done[value["clip_id"]] = value
                bar.step(value["clip_id"])
                if number % KEEP_BATCH == 0:
                    save_answers(out / ANSWERS, clips, list(done.values()))
        finally:  # also when interrupted
            save_answers(out / ANSWERS, clips, list(done.values()))
    seconds = time.monotonic() - started
    say(f"clips: {len(left)} linked, {len(jobs) - len(left)} there already, {seconds:.1f} s")
    return [done[clip.clip_id] for clip in clips]


def _name(job: ClipJob | Refused) -> str:
    return job.clip_id if isinstance(job, ClipJob) else job.name


def _still_good(path: Path, version: int, kept: set[str] | None) -> dict[str, PublicObject]:
    """Answers of an earlier run to the same catalogue, whose descriptors, where they are kept, are there."""
    if not path.exists():
        return {}
    return {
        answer["clip_id"]: answer
        for answer in load_answers(path)
        if answer["catalog_version"] == version
        and (kept is None or answer["error"] is not None or answer["clip_id"] in kept)
    }


def _timed(ask: Callable[[], Iterator[Answer]]) -> Iterator[PublicObject]:
    """Public objects with the seconds from one answer to the next.

    The decoder works ahead on the next clips meanwhile: the mean is the pace of a batch, and a single
    clip's seconds are not the time that it would take alone.
    """
    before = time.perf_counter()
    answers = ask()
    try:
        for answer in answers:
            now = time.perf_counter()
            yield {**answer.to_json(), "seconds": round(now - before, 6)}
            before = time.perf_counter()
    finally:
        close = getattr(answers, "close", None)
        if close is not None:  # so that what was answered is kept before the lock is let go
            close()


# --- Showing it ---

_SHARES = (
    ("top-1", ("top1",)),
    ("recall at 1 % false links", ("recall_at_false_links", "0.01")),
    ("known linked", ("known_decisions", "linked")),
    ("known linked wrong", ("known_linked_wrong",)),
    ("unknown linked", ("unknown_linked",)),
)


def show_figures(value: PublicObject, *, as_json: bool, seconds: float) -> None:
    """Print a run's main figures: a table by group and that of the ablation, or all as one JSON object.

    Args:
        value: As :func:`run_link_benchmark` returns it.
        as_json: One object on one line, and no table.
        seconds: What the whole run took.
    """
    groups: dict[str, PublicObject] = value["groups"]
    if as_json:
        print_json(value)
    else:
        columns = ("group", "known", "unknown", "uAP", *(name for name, _ in _SHARES), "s a clip")
        print_table("Linking", columns, [_figures_row(name, of) for name, of in groups.items()])
        if "ablation" in value:
            show_ablation(value["ablation"])
    counts = groups["all"]["counts"]
    summary({"answered": counts["clips"] - counts["failed"], "failed": counts["failed"]}, seconds)


def _figures_row(name: str, of: PublicObject) -> tuple[str, ...]:
    counts, pace = of["counts"], of["seconds"]
    return (
        name, str(counts["known"]), str(counts["unknown"]), _number(of["micro_ap"]),
        *(_share_words(of, place) for _, place in _SHARES),
        "" if pace is None else f"{pace['mean']:.2f}",
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share_words(of: PublicObject, place: Sequence[str]) -> str:
    """A share and its interval, in per cent; nothing where it is a share of nothing."""
    found: Any = of
    for name in place:
        found = found[name]
    if found["share"] is None:
        return ""
    return f"{found['share']:.1%} ({found['low']:.1%}–{found['high']:.1%})"
