"""The benchmark asked by a descriptor and a calibration that have never seen the clip's program.

The shipped ones were learned from films that a benchmark may hold; what they reach there is no measure of
films to come. Here the series are dealt into parts. For each part the whitenings, of pictures and of sounds,
and the calibration are made from the films of the other parts and from generated helper dramas, by the code
of ``matcher train descriptor`` and ``matcher calibrate``; then the clips of the part's own programs are
asked. Dramas of the benchmark are never learned from, and are dealt like films so that each is asked once.

A montage of programs of several parts has been seen by each of them, and is left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.benchmark import BenchmarkPlan, Source, sources
from eval.benchmark_material import MadeClip, clip_path, make_material
from eval.dramas import DramaSpec, asset_id, catalogue, write_episode
from eval.figures import figures
from eval.link_run import RunNotes, link_clips, prepare, write_run
from eval.making import part_name
from matcher.background import Background
from matcher.calibrate import START, START_LINK, START_REVIEW, Plan, calibrate
from matcher.calibration import FILE_NAME, Calibration
from matcher.config import Settings
from matcher.encoders.registry import load_encoder, load_raw_lite0
from matcher.encoders.sound import SPEC as SOUND_SPEC
from matcher.errors import InputError
from matcher.inputs import AssetJob, ProgramJob
from matcher.pipeline import add_programs
from matcher.show import progress_bar, say
from matcher.store import create_catalog, open_sounds, save_caches, translated
from matcher.training.descriptor import Recipe, Training
from matcher.training.sound_descriptor import SoundRecipe, SoundTraining
from matcher.training.validation import deal_folds

if TYPE_CHECKING:
    from matcher.encoders.base import FrameEncoder

PublicObject = dict[str, Any]

#: Generated programs that are learned from beside the films: few films tell too little of what chance is.
N_HELPERS = 40
HELPER_SEED = 77
#: What a film counts and what a helper, of what is seen and of what is heard.
WEIGHTS, SOUND_WEIGHTS = (1.0, 0.2), (1.0, 0.1)
#: Made for each calibration.
CALIBRATION_CLIPS = 450


@dataclass(frozen=True)
class Part:
    """What is asked together.

    Attributes:
        number: From 1.
        programs: Whose clips are asked; the films among them are not learned from.
        clip_ids: Clips that show nothing but these programs.
    """

    number: int
    programs: frozenset[str]
    clip_ids: frozenset[str]


def helper_specs() -> list[DramaSpec]:
    """The dramas that are learned from; none of them is in any benchmark."""
    return catalogue(
        N_HELPERS, seed=HELPER_SEED, n_twin_pairs=0, n_episodes=1, episode_seconds=30, width=400, height=224,
        fps=6,
    )  # fmt: skip


def make_helpers(folder: Path) -> list[Path]:
    """Render the helper dramas that are missing; gives all of them."""
    specs = helper_specs()
    paths = [folder / f"{asset_id(spec, 1)}.mp4" for spec in specs]
    missing = [(spec, path) for spec, path in zip(specs, paths, strict=True) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("making helper dramas", len(missing)) as bar:
        for spec, path in missing:
            write_episode(spec, 1, part_name(path))
            part_name(path).replace(path)
            bar.step(path.stem)
    return paths


def deal_parts(found: Sequence[Source], clips: Sequence[MadeClip], *, n_parts: int, seed: int) -> list[Part]:
    """Deal programs by series, those of films and of dramas apart, and clips by the programs they show.

    Raises:
        InputError: There are fewer series of films than parts.
    """
    films = {source.family for source in found if source.group == "films"}
    if len(films) < max(2, n_parts):
        raise InputError(f"{n_parts} parts need films of as many series, got {len(films)}")
    folders = [int(source.group == "dramas") for source in found]
    part_of = deal_folds([source.family for source in found], folders, n_folds=n_parts, seed=seed)
    of_program = {source.program_id: int(part) for source, part in zip(found, part_of, strict=True)}
    shown: list[set[int]] = [
        {of_program[segment.program_id] for segment in clip.truth.segments} for clip in clips
    ]
    return [
        Part(
            number + 1,
            frozenset(program for program, part in of_program.items() if part == number),
            frozenset(
                clip.info.clip_id for clip, parts in zip(clips, shown, strict=True) if parts == {number}
            ),
        )
        for number in range(n_parts)
    ]


def run_by_film(
    plan: BenchmarkPlan,
    out: Path,
    settings: Settings,
    *,
    n_parts: int,
    material: Path | None = None,
    workers: int = 2,
    command: str = "",
) -> PublicObject:
    """Run the benchmark in parts, each asked by what was learned from the other parts' films.

    Args:
        plan: What to make; it must name films.
        out: The run's folder; new, empty, or that of the same run.
        settings: Of the pipeline; the encoder is the default one with a whitening of each part.
        n_parts: How many.
        material: Folder of the dramas and clips; ``out/material`` unless given.
        workers: Processes that make them.
        command: Said in the figures.

    Returns:
        The figures of all clips asked, as ``figures.json`` holds them, with ``by_film``: what each part held.

    Raises:
        InputError: No films are named, or too few; a folder holds something else; a file cannot be read.
    """
    if plan.films is None:
        raise InputError("--by-film deals films into parts: give --films DIR")
    notes = RunNotes(command, settings, f"{n_parts} parts", "", plan.seed)
    prepare(out, notes, {"plan": plan.to_json(), "by_film": n_parts})
    made = make_material(plan, material or out / "material", workers=workers)
    found = sources(plan, made.folder)
    helpers = make_helpers(out / "helpers")
    parts = deal_parts(found, made.clips, n_parts=n_parts, seed=plan.seed)
    answers: dict[str, PublicObject] = {}
    said = []
    for part in parts:
        folder = out / f"part-{part.number}"
        folder.mkdir(exist_ok=True)
        started = time.monotonic()
        learned = [s for s in found if s.group == "films" and s.program_id not in part.programs]
        encoder = _encoder(folder, plan.films, learned, helpers, settings)
        own = _listening(folder, plan.films, learned, helpers, settings)
        _calibration(folder, learned, helpers, encoder, own)
        calibration = Calibration.load(folder / FILE_NAME)
        found_answers, catalog = link_clips(
            made, folder, encoder, own, only=part.clip_ids, calibration=calibration
        )
        answers |= {answer["clip_id"]: answer for answer in found_answers}
        said.append(_said(part, found, learned))
        say(f"part {part.number}: {len(found_answers)} clips, {time.monotonic() - started:.1f} s")
    clips = [clip.info for clip in made.clips if clip.info.clip_id in answers]
    truth = [row for row in made.truth if row.clip_id in answers]
    in_order = [answers[clip.clip_id] for clip in clips]
    value = figures(clips, truth, in_order)
    value |= {
        "by_film": {"parts": said, "montages_left_out": len(made.clips) - len(clips)},
        "run": notes.to_json(),
    }
    paths = {clip.clip_id: clip_path(made.folder, clip.clip_id) for clip in clips}
    return write_run(out, clips, truth, in_order, value, paths, catalog)


def _said(part: Part, found: Sequence[Source], learned: Sequence[Source]) -> PublicObject:
    asked = sorted(s.program_id for s in found if s.group == "films" and s.program_id in part.programs)
    return {"asked": asked, "learned": sorted(s.program_id for s in learned), "clips": len(part.clip_ids)}


def _encoder(
    folder: Path, films: Path, learned: Sequence[Source], helpers: Sequence[Path], settings: Settings
) -> FrameEncoder:
    """The default encoder with a whitening of the learned films, fitted where it is not there yet."""
    path = folder / "whitening.safetensors"
    if not path.exists():
        training = Training((films, helpers[0].parent), WEIGHTS, _others(films, learned), Recipe(), out=path)
        chosen = training.find_films()
        encode = load_raw_lite0(device=settings.encoder.device, threads=settings.encoder.threads)
        with progress_bar("describing films to learn from", len(chosen)) as bar:
            pairs = training.collect(chosen, encode, on_film=lambda film: bar.step(film.path.name))
        training.write(pairs, [])  # its figures are those of the clips
    chosen_engine = settings.encoder
    return load_encoder(
        f"lite0@{path}", device=chosen_engine.device, precision=chosen_engine.precision,
        threads=chosen_engine.threads,
    )  # fmt: skip


def _others(films: Path, learned: Sequence[Source]) -> tuple[str, ...]:
    """Files of the folder of films that are not learned from."""
    kept = {source.path.name for source in learned}
    return tuple(sorted(file.name for file in films.iterdir() if file.name not in kept))


def _listening(
    folder: Path, films: Path, learned: Sequence[Source], helpers: Sequence[Path], settings: Settings
) -> Settings:
    """The settings, with a sound model of the learned films where anybody listens."""
    if not settings.sound.enabled:
        return settings
    path = folder / "sound_whitening.safetensors"
    if not path.exists():
        training = SoundTraining(
            (films, helpers[0].parent), SOUND_WEIGHTS, _others(films, learned), SoundRecipe(), out=path
        )
        chosen = training.find_films()
        with progress_bar("listening to films to learn from", len(chosen)) as bar:
            pairs = training.listen(chosen, on_film=lambda film: bar.step(film.path.name))
        training.write(pairs, [])
    sound = settings.sound.model_copy(update={"spec": f"{SOUND_SPEC}@{path}"})
    return settings.model_copy(update={"sound": sound})


def _calibration(
    folder: Path,
    learned: Sequence[Source],
    helpers: Sequence[Path],
    encoder: FrameEncoder,
    settings: Settings,
) -> None:
    """Calibrate a store of the learned films and the helpers; nothing that was fitted before is looked at."""
    path = folder / FILE_NAME
    if path.exists():
        return
    jobs = [_job(source.program_id, source.path) for source in learned]
    jobs += [_job(f"helper-{helper.stem}", helper) for helper in helpers]
    catalog = create_catalog(folder / "learned", encoder.info)
    with translated(), catalog.writing() as writer:
        with progress_bar("adding what is learned from", len(jobs)) as bar:
            for added in add_programs(writer, jobs, encoder, settings, on_frames=bar.frames):
                if added.outcome == "failed":
                    raise InputError(f"{added.program_id}: {added.message}")
                bar.step(added.program_id)
        live = save_caches(catalog, settings.index, writer)
    start = Calibration(START, START_LINK, START_REVIEW, Background.empty(encoder.info.d, least=0.0))
    plan = Plan(clips=CALIBRATION_CLIPS)
    with progress_bar("calibrating", plan.clips) as bar:
        done = calibrate(
            live, encoder, settings, plan, start, sound=open_sounds(catalog, settings), on_clip=bar.step
        )
    done.calibration.save(path)


def _job(program_id: str, path: Path) -> ProgramJob:
    return ProgramJob(program_id, (AssetJob(path, f"{program_id}-e01"),))
