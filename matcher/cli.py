"""The command line: words → settings → pipeline → print. Heavy imports wait for the verb that needs them."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from matcher.cli_train import models_app, train_app
from matcher.cli_words import (
    DEFAULT_STORE,
    PARTLY_DONE,
    Clips,
    Config,
    DeviceWord,
    Encoder,
    Json,
    Manifest,
    NoSound,
    PrecisionWord,
    Ray,
    RayWorkers,
    SamplingWord,
    Store,
    Top,
    Wait,
    exit_by,
    list_objects,
    load_encoder_of,
    open_store,
    settings_of,
)
from matcher.errors import InputError, MatcherError, MissingDependencyError
from matcher.steps import Step

if TYPE_CHECKING:
    from eval.bench import BenchTable
    from matcher.cluster.crew import Crew
    from matcher.config import Settings
    from matcher.inputs import ClipJob, Refused
    from matcher.records import Answer
    from matcher.store import Within

INTERRUPTED = 130

# Typer carries click under a name that changes; this is its class of errors in the words.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="matcher",
    help="Link short clips to the long programs they were cut from, and say where.",
    epilog="Start with: matcher demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
index_app = typer.Typer(help="Look after the search cache.", no_args_is_help=True, rich_markup_mode=None)
bench_app = typer.Typer(
    help="Measure speed, as ratios taken in one run.", no_args_is_help=True, rich_markup_mode=None
)
eval_app = typer.Typer(
    help="Measure how right the answers are, on clips whose truth is known.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(index_app, name="index")
app.add_typer(bench_app, name="bench")
app.add_typer(eval_app, name="eval")
app.add_typer(train_app, name="train")
app.add_typer(models_app, name="models")


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every error becomes one line and an exit code.

    With ``MATCHER_DEBUG=1`` an error's traceback comes before its line, and nothing that libraries
    have to say is held back.

    Raises:
        SystemExit: Always.
    """
    debug = os.environ.get("MATCHER_DEBUG", "") not in ("", "0")
    _set_up_logs(debug)
    _calm_threads()
    try:
        code = app(args=words, prog_name="matcher", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; what was finished is kept, and the same command goes on from there", INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        _fail(*_line_and_code(error))
    raise SystemExit(code or 0)


def _calm_threads() -> None:
    """Let idle worker threads of numpy and FAISS sleep at once, unless the caller says otherwise.

    By default they spin for the next product, on the core that the decoder needs. These are those
    libraries' own switches, read when they load.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _line_and_code(error: Exception) -> tuple[str, int]:
    """What is said of an error, and the exit code that it makes."""
    if isinstance(error, MatcherError):
        return str(error), error.exit_code
    if isinstance(error, _USAGE_ERROR):
        return _usage_line(error), InputError.exit_code
    if isinstance(error, ModuleNotFoundError):
        what = f"{error}; install it with: pip install 'program-matcher[cpu]'"
        return what, MissingDependencyError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}", InputError.exit_code
    kind = "input/output" if isinstance(error, OSError) else f"unexpected {type(error).__name__}"
    return f"{kind}: {str(error)[:500]} (MATCHER_DEBUG=1 shows where)", MatcherError.exit_code


def _usage_line(error: Any) -> str:
    """Typer's error in the words of a command line; the help itself where no verb was given."""
    message = str(error.format_message())
    if "\n" in message:
        sys.stderr.write(message + "\n")
        raise SystemExit(InputError.exit_code)
    verb = error.ctx.command_path if error.ctx else "matcher"
    return f"{message.rstrip('.')}; see: {verb} --help"


def _fail(message: str, code: int) -> NoReturn:
    _remark(f"matcher: {message}")
    raise SystemExit(code)


def _remark(message: str) -> None:
    """One line to what stderr is at this moment."""
    from matcher.inputs import one_line

    sys.stderr.write(one_line(message) + "\n")
    sys.stderr.flush()


class _LinesToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Each record as one line."""
        _remark(record.getMessage())


def _set_up_logs(debug: bool) -> None:
    """Our own remarks go to stderr; what libraries log or warn of goes nowhere, unless ``debug``."""
    ours = [logging.getLogger(name) for name in ("matcher", "index", "eval")]
    if any(isinstance(handler, _LinesToStderr) for handler in ours[0].handlers):
        return
    for log in ours:
        log.addHandler(_LinesToStderr())
        log.setLevel(logging.INFO)
    if not debug:
        logging.getLogger().addHandler(logging.NullHandler())
        logging.captureWarnings(True)


@app.command(
    epilog="Examples:  matcher add lost-city e01.mkv e02.mkv --title 'The Lost City' --category drama/mystery"
    "  |  matcher add --manifest programs.csv --sampling keyframes"
    "  |  matcher add --store s3://bucket/dramas --manifest programs.csv --ray 10.0.0.1:6379"
)
def add(
    program_id: Annotated[str | None, typer.Argument(help="Id of the program.")] = None,
    videos: Annotated[list[Path] | None, typer.Argument(help="Its files, in order.", readable=False)] = None,
    manifest: Manifest = None,
    title: Annotated[str, typer.Option(help="What the program is called.")] = "",
    alias: Annotated[list[str] | None, typer.Option(help="Another title; may be repeated.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="tier1/tier2/tier3; may be repeated.")] = None,
    sampling: SamplingWord = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    ray: Ray = None,
    ray_workers: RayWorkers = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Add programs to the catalogue, or replace them.

    A program is visible as a whole or not at all. Unchanged ones are skipped, so a batch that
    was cut off can be run again. With --ray the files are read by the machines of a cluster.
    """
    from matcher.inputs import program_job, read_program_manifest

    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, programs=sampling, no_sound=no_sound
    )
    refused: list[Any] = []
    if manifest is not None:
        if program_id is not None:
            raise InputError("give either PROGRAM_ID VIDEO... or --manifest, not both")
        if title or alias or category:
            raise InputError("titles, aliases and categories of a manifest stand in its own columns")
        jobs, refused = read_program_manifest(manifest)
    elif program_id is None or not videos:
        raise InputError("nothing to add: give PROGRAM_ID VIDEO... or --manifest FILE")
    else:
        jobs = [program_job(program_id, videos, title=title, aliases=alias or [], categories=category or [])]
    with _crew(ray, ray_workers) as crew:
        _add(store, jobs, refused, settings, crew, wait=wait, as_json=json)


@contextlib.contextmanager
def _crew(address: str | None, workers: int | None) -> Iterator[Crew | None]:
    """The workers that ``--ray`` names, while the block runs; None without it."""
    if address is None:
        if workers is not None:
            raise InputError("--ray-workers belongs to --ray")
        yield None
        return
    from matcher.cluster.crew import joined

    with joined(address, workers=workers) as crew:
        yield crew


def _add(
    store: str,
    jobs: list[Any],
    refused: list[Any],
    settings: Settings,
    crew: Crew | None,
    *,
    wait: float,
    as_json: bool,
) -> None:
    from matcher.decode import Sampling
    from matcher.pipeline import add_programs
    from matcher.show import print_json, progress_bar, say, summary
    from matcher.store import create_catalog, save_caches, translated

    Sampling.parse(settings.sampling.programs)
    started = time.monotonic()
    counts = {"added": 0, "replaced": 0, "unchanged": 0, "failed": len(refused)}
    for row in refused:
        say(f"{row.name}: {row.message}")
        if as_json:
            print_json({"program_id": row.name, "outcome": "failed", "message": row.message})
    if jobs:
        model = load_encoder_of(settings)
        catalog = create_catalog(store, model.info)
        describer = None
        if crew is not None:
            from matcher.cluster.describing import describer as describer_of

            describer = describer_of(crew, model, settings)
        with translated(), catalog.writing(wait_seconds=wait) as writer:
            with progress_bar("adding", len(jobs)) as bar:
                for result in add_programs(
                    writer, jobs, model, settings, on_frames=bar.frames, describer=describer
                ):
                    counts[result.outcome] += 1
                    bar.step(result.program_id)
                    if result.outcome == "failed":
                        say(f"{result.program_id}: {result.message}")
                    if as_json:
                        print_json(dict(vars(result)))
                    if writer.needs_compaction():
                        writer.compact()
            if counts["added"] + counts["replaced"]:
                save_caches(catalog, settings.index, writer)
    summary(counts, time.monotonic() - started)
    exit_by(done=sum(counts.values()) - counts["failed"], failed=counts["failed"])


@app.command(epilog="Example:  matcher remove lost-city")
def remove(
    program_ids: Annotated[list[str], typer.Argument(help="Ids of programs.")],
    store: Store = DEFAULT_STORE,
    config: Config = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Take programs out of the catalogue at once."""
    from matcher.show import print_json, say, summary
    from matcher.store import open_catalog, save_caches, translated

    started = time.monotonic()
    settings = settings_of(config)
    catalog = open_catalog(store)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        gone = writer.remove_programs(program_ids)
        if gone:
            save_caches(catalog, settings.index, writer)
    unknown = [name for name in dict.fromkeys(program_ids) if name not in gone]
    for name in gone:
        if json:
            print_json({"program_id": name, "outcome": "removed"})
    for name in unknown:
        say(f"{name}: no such program in {catalog.place}; see `matcher programs`")
        if json:
            print_json({"program_id": name, "outcome": "failed", "message": "no such program"})
    summary({"removed": len(gone), "failed": len(unknown)}, time.monotonic() - started)
    exit_by(done=len(gone), failed=len(unknown))


@app.command(
    epilog="Examples:  matcher query clip.mp4  |  matcher query --manifest clips.csv --json > answers.jsonl"
    "  |  matcher query clip.mp4 --category drama/family"
)
def query(
    clips: Clips = None,
    manifest: Manifest = None,
    title: Annotated[str, typer.Option(help="Title of the upload.")] = "",
    top: Top = 5,
    program: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Search only this program; may be repeated.")
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="TIER1/...", help="Search only programs of this category; may be repeated."),
    ] = None,
    sampling: SamplingWord = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say which programs clips are from, and where."""
    from matcher.store import Within

    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    within = Within(tuple(program or ()), tuple(category or ())) if program or category else None
    _answer(clips, manifest, title, store, settings, top=top, as_json=json, wait=None, within=within)


@app.command(epilog="Example:  matcher link --manifest clips.csv")
def link(
    clips: Clips = None,
    manifest: Manifest = None,
    title: Annotated[str, typer.Option(help="Title of the upload.")] = "",
    top: Top = 5,
    sampling: SamplingWord = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """As query, and keep the clips and their links in the store.

    Clips kept before and unchanged are answered without being decoded, so a batch that was cut
    off can be run again.
    """
    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    _answer(clips, manifest, title, store, settings, top=top, as_json=json, wait=wait)


def _answer(
    clips: list[Path] | None,
    manifest: Path | None,
    title: str,
    store: str,
    settings: Settings,
    *,
    top: int,
    as_json: bool,
    wait: float | None,
    within: Within | None = None,
) -> None:
    """Query, or with ``wait`` link, and print."""
    from matcher.pipeline import keep, query_clips
    from matcher.show import progress_bar, summary
    from matcher.store import open_linker, open_surroundings, translated

    jobs = _clip_jobs(clips, manifest, title)
    started = time.monotonic()
    model, catalog = open_store(store, settings)
    printer = _AnswerPrinter(as_json)
    with translated(), contextlib.ExitStack() as stack:
        # The lock comes first: what another writer does while this one waits must be seen.
        writer = None if wait is None else stack.enter_context(catalog.writing(wait_seconds=wait))
        linker = open_linker(catalog, settings, within=within)
        # Whoever searches some programs alone asks of those alone.
        surroundings = None if within is not None else open_surroundings(catalog, settings)
        bar = stack.enter_context(progress_bar("linking", len(jobs)))
        pairs = query_clips(
            linker, jobs, model, settings, top=top, on_frames=bar.frames,
            kept=None if writer is None else catalog, surroundings=surroundings,
        )  # fmt: skip
        answers = (answer for answer, _ in pairs) if writer is None else keep(writer, pairs)
        # Closed before the lock is let go, so that an interrupted run keeps what it has.
        for answer in stack.enter_context(contextlib.closing(answers)):
            printer(answer)
            bar.step(answer.clip_id)
    printer.close()
    summary(printer.counts, time.monotonic() - started)
    bad = printer.counts["failed"]
    exit_by(done=sum(printer.counts.values()) - bad, failed=bad)


def _clip_jobs(clips: list[Path] | None, manifest: Path | None, title: str) -> list[ClipJob | Refused]:
    """The clips that the words name, one by one or in a manifest."""
    from matcher.inputs import clip_jobs, read_clip_rows

    if (manifest is None) == (not clips):
        raise InputError("give either CLIP... or --manifest FILE")
    if manifest is None:
        return clip_jobs(clips or [], title=title)
    if title:
        raise InputError("titles of a manifest stand in its column title")
    return read_clip_rows(manifest)


class _AnswerPrinter:
    """Prints answers as they come (JSON) or as one table at the end; counts them."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._answers: list[Answer] = []
        self.counts = {"linked": 0, "review": 0, "none": 0, "failed": 0}

    def __call__(self, answer: Answer) -> None:
        from matcher.show import print_json, say

        self.counts["failed" if answer.error else answer.decision] += 1
        if answer.error is not None:
            say(f"{answer.clip_id}: {answer.error.message}")
        if self._as_json:
            print_json(answer.to_json())
        else:
            self._answers.append(answer)

    def close(self) -> None:
        from matcher.show import ANSWER_COLUMNS, answer_row, print_table

        if not self._as_json:
            print_table("", ANSWER_COLUMNS, [answer_row(answer) for answer in self._answers])


@app.command(
    epilog="Examples:  matcher classify clip.mp4  |  matcher classify --manifest clips.csv --json"
    " --min-confidence 0.7"
)
def classify(
    clips: Clips = None,
    manifest: Manifest = None,
    title: Annotated[str, typer.Option(help="Title of the upload.")] = "",
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="A category less confident is not named; default 0.5."),
    ] = None,
    sampling: SamplingWord = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what clips are, on three tiers.

    By the heads and examples that the store uses (matcher models use --categories). Where it uses none,
    the category of the program that a clip is linked to stands in, and its basis says so.
    """
    from matcher.classify import classified, classify_row
    from matcher.show import print_json, print_table, progress_bar, say, summary
    from matcher.store import open_linker, translated

    jobs = _clip_jobs(clips, manifest, title)
    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    started = time.monotonic()
    counts = {"named": 0, "none": 0, "failed": 0}
    rows = []
    model, catalog = open_store(store, settings)
    with translated(), progress_bar("classifying", len(jobs)) as bar:
        linker = open_linker(catalog, settings)
        for found in classified(
            catalog, linker, jobs, model, settings, min_confidence=min_confidence, on_frames=bar.frames
        ):
            counts[found.outcome] += 1
            if found.error is not None:
                say(f"{found.clip_id}: {found.error.message}")
            if json:
                print_json(found.to_json())
            else:
                rows.append(classify_row(found))
            bar.step(found.clip_id)
    if not json:
        print_table("", ("clip", "tier 1", "tier 2", "tier 3", "program", "by"), rows)
    summary(counts, time.monotonic() - started)
    exit_by(done=counts["named"] + counts["none"], failed=counts["failed"])


@app.command(epilog="Examples:  matcher relink --report reports/tonight  |  matcher relink --full --accept")
def relink(
    full: Annotated[bool, typer.Option("--full", help="Every kept clip, whatever has changed.")] = False,
    since: Annotated[
        int | None, typer.Option(min=0, help="Compare again with programs newer than this catalog version.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for what changed, and why.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Commit, whatever share changes.")] = False,
    brake: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of links above which nothing is committed.")
    ] = 0.05,
    skip: Annotated[
        list[Step] | None, typer.Option(help="Leave out a step of the housekeeping; may be repeated.")
    ] = None,
    top: Top = 5,
    store: Store = DEFAULT_STORE,
    config: Config = None,
    ray: Ray = None,
    ray_workers: RayWorkers = None,
    ray_slices: Annotated[
        int | None,
        typer.Option(
            "--ray-slices",
            min=1,
            help="Processes of --ray that hold a slice of the index each, in place of all of it in every"
            " worker; the housekeeping then only relates and compacts.",
        ),
    ] = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Answer again the kept clips whose links can have changed, and commit all of it at once.

    No video is decoded. Stopped or killed, it goes on where it was when run again. With --ray the clips
    are answered by the machines of a cluster. Then what is said beside the links of all clips is brought up
    to date, the tables are compacted, and the search cache is verified and saved; whatever fails there, the
    links stand (exit 4).
    """
    from matcher.housekeeping import keep_house
    from matcher.relink import Order
    from matcher.relink import relink as relink_clips
    from matcher.relink_report import check_folder, write_report
    from matcher.show import print_json, say, summary
    from matcher.show_night import NightBars, described, told
    from matcher.store import open_catalog, open_linker, open_surroundings, translated

    started = time.monotonic()
    check_folder(report)
    settings = settings_of(config)
    catalog = open_catalog(store)
    order = Order(top, full, since, accept, brake)
    show = (lambda answer: print_json(answer.to_json())) if json else None
    if ray_slices is not None:
        if ray is None:
            raise InputError("--ray-slices belongs to --ray")
        # The others open the whole index here, where it may not fit.
        kept_steps = (Step.RELATED, Step.COMPACT)
        skip = [step for step in Step if step not in kept_steps or step in (skip or ())]
    with translated(), _crew(ray, ray_workers) as crew, catalog.writing(wait_seconds=wait) as writer:
        answerer = None
        if crew is None:
            linker = open_linker(catalog, settings)
        else:
            from matcher.cluster.answering import relinking

            linker, answerer = relinking(crew, catalog, settings, top=top, slices=ray_slices)
        surroundings = open_surroundings(catalog, settings)
        with NightBars(show) as bars:
            night = relink_clips(
                writer, linker, order, watch=bars, answerer=answerer,
                before_commit=lambda night: write_report(report, night, catalog), surroundings=surroundings,
            )  # fmt: skip
        say(described(night))
        del linker  # or its indexes and those of the housekeeping would be in memory at once
        kept = keep_house(writer, settings.index, skip=skip or (), surroundings=surroundings)
    for line in told(kept):
        say(line)
    summary({**night.decisions, "changed": night.moving}, time.monotonic() - started)
    if not kept.is_well:
        raise typer.Exit(PARTLY_DONE)


@app.command(
    epilog="Examples:  matcher review clip-17 --program lost-city  |  matcher review clip-18 --reject"
    " lost-city  |  matcher review clip-19 --none"
)
def review(
    clip: Annotated[str, typer.Argument(help="Id of a kept clip.")],
    program: Annotated[str | None, typer.Option(metavar="ID", help="It is from this program.")] = None,
    reject: Annotated[str | None, typer.Option(metavar="ID", help="It is not from this program.")] = None,
    none: Annotated[bool, typer.Option("--none", help="It is from no program.")] = False,
    top: Top = 5,
    store: Store = DEFAULT_STORE,
    config: Config = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Say where a kept clip is from, or is not: that holds from now on, whatever the matcher finds.

    A later word goes before an earlier one; `matcher history` shows them all.
    """
    from matcher.review import check_review, decide, review_of
    from matcher.store import open_catalog, open_linker, open_surroundings, translated

    said = review_of(clip, program=program, reject=reject, none=none)
    settings = settings_of(config)
    catalog = open_catalog(store)
    printer = _AnswerPrinter(json)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        check_review(catalog, said)  # before the index is loaded
        linker, surroundings = open_linker(catalog, settings), open_surroundings(catalog, settings)
        printer(decide(writer, linker, said, top=top, surroundings=surroundings))
    printer.close()


@app.command(epilog="Example:  matcher history clip-17 --json")
def history(
    clip: Annotated[str, typer.Argument(help="Id of a kept clip.")],
    store: Store = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Show how a clip came by its link: what was answered when, and why, and what people said."""
    from matcher.history import HISTORY_COLUMNS, history_objects, history_row

    list_objects(store, json, lambda c: history_objects(c, clip), HISTORY_COLUMNS, history_row)


@app.command(
    epilog="Examples:  matcher explain clip.mp4 --out why.png  |  matcher explain clip-17 --program lost-city"
)
def explain(
    clip: Annotated[str, typer.Argument(help="A file, or the id of a kept clip.")],
    program: Annotated[str | None, typer.Option(help="Program to explain; else the best candidate.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="PNG to write; without --json, CLIP-explained.png.")
    ] = None,
    sampling: SamplingWord = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show why a clip is from a program, or why it is not.

    The picture shows where the frames align, what each of them resembles, and what the confidence is
    made of.
    """
    from matcher.explain import open_explainer, picture_path
    from matcher.explain_frames import is_file
    from matcher.explain_words import headline, instead, speaks, to_json
    from matcher.show import print_json, print_table, say
    from matcher.store import open_catalog, translated

    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    # Before the work, so that a bad name costs none.
    target = picture_path(out, clip) if out is not None or not json else None
    model, catalog = open_store(store, settings) if is_file(Path(clip)) else (None, open_catalog(store))
    with translated():
        explainer = open_explainer(catalog, settings)
        subject = explainer.kept(clip) if model is None else explainer.described(Path(clip), model)
        found = explainer.explain(subject, program_id=program)
    if json:
        print_json(to_json(found))
    else:
        rows = [("", said) for said in (headline(found), instead(found)) if said]
        rows += [(mark, said) for mark, part in zip("+-", speaks(found), strict=True) for said in part]
        print_table("", ("", "why"), rows)
    if target is not None:
        from matcher.explain_picture import write_picture

        write_picture(found, target)
        say(f"wrote {target}")


@app.command(epilog="Example:  matcher programs --json | head -3")
def programs(store: Store = DEFAULT_STORE, json: Json = False) -> None:
    """List the programs of the catalogue."""
    from matcher.listing import program_objects
    from matcher.show import clock

    list_objects(
        store, json, program_objects, ("program", "title", "category", "files", "length", "frames"),
        lambda o: (o["program_id"], o["title"], ", ".join(o["categories"]), str(len(o["assets"])),
                   clock(o["duration_seconds"]), str(o["frames"])),
    )  # fmt: skip


@app.command(epilog="Example:  matcher clips --json > clips.jsonl")
def clips(store: Store = DEFAULT_STORE, json: Json = False) -> None:
    """List the kept clips."""
    from matcher.listing import clip_objects
    from matcher.show import clock

    list_objects(
        store, json, clip_objects, ("clip", "decision", "program", "length", "file"),
        lambda o: (o["clip_id"], o["decision"] or "", o["program_id"] or "", clock(o["duration_seconds"]),
                   o["path"]),
    )  # fmt: skip


@app.command(epilog="Examples:  matcher links --decision review  |  matcher links --program lost-city --json")
def links(
    program: Annotated[str | None, typer.Option(help="Only links to this program.")] = None,
    decision: Annotated[str | None, typer.Option(help="Only linked, review or none.")] = None,
    store: Store = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """List the kept links, one line a link."""
    from matcher.listing import link_objects

    if decision not in (None, "linked", "review", "none"):
        raise InputError(f"unknown decision {decision!r}: use linked, review or none")
    list_objects(
        store, json, lambda c: link_objects(c, program=program, decision=decision),
        ("clip", "decision", "program", "confidence", "segments"),
        lambda o: (o["clip_id"], _decision(o), o["program_id"] or _to_review(o),
                   f"{o['confidence']:.3f}", str(len(o["segments"]))),
    )  # fmt: skip


def _decision(link: dict[str, Any]) -> str:
    from matcher.show import AS_SAID

    reviewed = link["reviewed"]
    said = f", {AS_SAID}" if reviewed is not None and reviewed.get("decides") else ""
    return f"{link['decision'] or ''}{said}"


def _to_review(link: dict[str, Any]) -> str:
    return ", ".join(f"{part['program_id']}?" for part in link["review"])


@app.command(epilog="Example:  matcher status --store S --json")
def status(store: Store = DEFAULT_STORE, config: Config = None, json: Json = False) -> None:
    """Say what the store holds."""
    from matcher.listing import status_object, status_rows
    from matcher.show import print_json, print_table
    from matcher.store import open_catalog, translated

    settings = settings_of(config)
    with translated():
        value = status_object(open_catalog(store), settings)
    if json:
        print_json(value)
    else:
        print_table("", ("what", "value"), status_rows(value))


@app.command(epilog="Example:  matcher doctor --store S")
def doctor(
    store: Annotated[
        str | None,
        typer.Option("--store", envvar="MATCHER_STORE", metavar="DIR", help="Also check this store."),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what is installed, what will be used, and whether the store is whole."""
    from matcher.doctor import examine
    from matcher.show import print_json, print_table

    if store is None and Path(DEFAULT_STORE).exists():
        store = DEFAULT_STORE
    checks = examine(store, settings_of(config))
    if json:
        print_json({"ok": all(c.ok for c in checks), "checks": [dict(vars(c)) for c in checks]})
    else:
        print_table(
            "", ("check", "", "finding"), [(c.name, "ok" if c.ok else "FAULT", c.finding) for c in checks]
        )
    worst = max((c.exit_code for c in checks if not c.ok), default=0)
    if worst:
        raise typer.Exit(worst)


@app.command(epilog="Example:  matcher demo --keep my-demo")
def demo(
    keep: Annotated[Path, typer.Option("--keep", help="Folder for everything that it makes.")] = Path(
        "matcher-demo"
    ),
    programs: Annotated[int, typer.Option(min=12, help="Generated programs.")] = 12,
    seed: Annotated[int, typer.Option(help="Other films, other clips.")] = 1,
    json: Json = False,
) -> None:
    """Make films and clips, add, link, and show what came out."""
    from eval.demo import run_demo

    run_demo(keep, n_programs=programs, seed=seed, as_json=json)


@app.command(
    epilog="Examples:  matcher calibrate --store S  |  matcher calibrate --store S --clips 2000 --out own.st"
)
def calibrate(
    clips: Annotated[int, typer.Option(min=1, help="Clips to cut and edit.")] = 600,
    programs: Annotated[int, typer.Option(min=1, help="Programs to cut them from, at most.")] = 200,
    background: Annotated[int, typer.Option(min=1, help="Frames that say what chance is, at most.")] = 2000,
    false_links: Annotated[
        float, typer.Option("--false-links", help="Share of unknown clips that may be linked.")
    ] = 0.001,
    seed: Annotated[int, typer.Option(min=0, help="Other programs, other clips.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Write here instead of into the store.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="File (.npz) that keeps the clips' descriptors, to fit again soon."),
    ] = None,
    no_reviews: Annotated[
        bool, typer.Option("--no-reviews", help="Leave out what people said of kept clips.")
    ] = False,
    sampling: SamplingWord = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    wait: Wait = 60.0,
    json: Json = False,
) -> None:
    """Fit confidence and thresholds to the catalogue, without labels.

    Clips are cut from the catalogue's own files, edited, and asked with their program there and with it
    hidden. Kept clips that people spoke of (`matcher review`) count as one such clip each. Answers given
    before keep their old confidence until `matcher relink`.
    """
    from matcher.calibrate import Plan, present_calibration, save
    from matcher.calibrate import calibrate as fit
    from matcher.calibrate_reviews import read_reviews
    from matcher.show import print_json, print_table, progress_bar, say, summary
    from matcher.store import open_live, open_sounds, translated

    if not 0 < false_links < 1:
        raise InputError(f"--false-links must be above 0 and below 1, got {false_links}")
    started = time.monotonic()
    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    model, catalog = open_store(store, settings)
    plan = Plan(clips, programs, background, false_links, seed)
    with translated():
        live = open_live(catalog, settings.index)
        sound = open_sounds(catalog, settings)
        present = present_calibration(catalog.place)
        with progress_bar("calibrating", clips) as bar:
            reviews = None if no_reviews else read_reviews(catalog, most=clips, seed=seed)
            done = fit(
                live, model, settings, plan, present, sound=sound, keep=keep, reviews=reviews,
                on_clip=bar.step,
            )  # fmt: skip
        if out is None:
            path = save(catalog, done.calibration, wait_seconds=wait)
        else:
            path = str(out)
            done.calibration.save(out)
    if json:
        print_json(done.to_json() | {"out": str(path)})
    else:
        print_table("", done.columns, done.rows())
    say(f"wrote {path}, version {done.calibration.version}")
    counts = {"clips": done.clips, "programs": done.programs}
    if done.reviews is not None:
        counts |= {"reviewed clips": done.reviews.used, "left out": done.reviews.counts["left_out"]}
    summary(counts, time.monotonic() - started)


@index_app.command(
    "verify",
    epilog="Examples:  matcher index verify --store S && echo whole  |  matcher index verify --sample 100",
)
def index_verify(
    store: Store = DEFAULT_STORE,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Compare the vectors of N programs, drawn anew each time."),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Compare the search cache with the tables, by value; exit 0 only if they are equal."""
    from matcher.show import print_json, say
    from matcher.store import open_catalog, open_every, translated

    with translated():
        every = open_every(open_catalog(store), settings_of(config).index)
        problems = [p for live in every for p in live.verify(full=sample is None, sample=sample)]
    if json:
        held = {"frames": 0, "sounds": 0, "embeddings": 0} | {live.table: live.ntotal for live in every}
        print_json({"ok": not problems, **held, "problems": problems})
    for problem in problems:
        say(problem)
    say("the cache equals the tables" if not problems else "the cache differs; run `matcher index rebuild`")
    if problems:
        raise typer.Exit(2)


@index_app.command("rebuild", epilog="Example:  matcher index rebuild --store S")
def index_rebuild(store: Store = DEFAULT_STORE, config: Config = None, wait: Wait = 0.0) -> None:
    """Make the search cache anew from the tables."""
    from matcher.show import say
    from matcher.store import open_catalog, open_every, translated

    catalog = open_catalog(store)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        every = open_every(catalog, settings_of(config).index)
        for live in every:
            live.rebuild(writer)
    say(f"rebuilt: {'; '.join(f'{live.ntotal} {live.table}, {live.kind}' for live in every)}")


@index_app.command("compact", epilog="Example:  matcher index compact --store S --wait 600")
def index_compact(store: Store = DEFAULT_STORE, config: Config = None, wait: Wait = 0.0) -> None:
    """Merge small files of the tables, drop old versions, and write the cache anew."""
    from matcher.show import say
    from matcher.store import open_catalog, save_caches, translated

    catalog = open_catalog(store)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        writer.compact()
        save_caches(catalog, settings_of(config).index, writer, force=True)
    say("compacted")


@index_app.command("retrain", epilog="Example:  matcher index retrain --store S --wait 600")
def index_retrain(store: Store = DEFAULT_STORE, config: Config = None, wait: Wait = 0.0) -> None:
    """Make new centroids of what there is now, beside the index that serves, and swap.

    `matcher status` says when it is worth it. Processes that search take the new ones by themselves.
    """
    from matcher.show import say
    from matcher.store import open_catalog, open_every, translated

    catalog = open_catalog(store)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        for live in open_every(catalog, settings_of(config).index):
            live.retrain(writer)
            training, drift = live.training, live.drift
            if training is None or drift is None:
                say(f"{live.table}: {live.ntotal} vectors, {live.kind}, which has no centroids")
            else:
                say(
                    f"{live.table}: retrained on {training.n} vectors, {live.kind}; recall@10 "
                    f"{drift.recall:.3f}, lists {drift.imbalance:.2f} times as unequal as equal ones"
                )


@bench_app.command("ingest", epilog="Example:  matcher bench ingest film.mp4 --sampling fps=1")
def bench_ingest(
    videos: Annotated[list[Path], typer.Argument(help="Films.")],
    sampling: SamplingWord = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Decode alone, encode alone, and both side by side."""
    from eval.bench import bench_ingest as measure
    from matcher.decode import Sampling
    from matcher.listen import listener_of

    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, programs=sampling, no_sound=no_sound
    )
    table = measure(
        videos, load_encoder_of(settings), Sampling.parse(settings.sampling.programs), repeats=repeat,
        listener=listener_of(settings.sound, settings.sound.program_hop_seconds),
    )  # fmt: skip
    _print_bench(table, json)


@bench_app.command("query", epilog="Example:  matcher bench query clips/*.mp4 --store S")
def bench_query(
    clips: Annotated[list[Path], typer.Argument(help="Clips.")],
    sampling: SamplingWord = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """A whole query against decoding the same clips alone, start-up aside."""
    from eval.bench import bench_query as measure
    from matcher.decode import Sampling
    from matcher.store import open_linker

    settings = settings_of(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    model, catalog = open_store(store, settings)
    linker = open_linker(catalog, settings)
    table = measure(
        clips, model, Sampling.parse(settings.sampling.clips),
        lambda path, found: linker.link(path.stem, str(path), found, model=model.info.fingerprint, top=5),
        listener=linker.listener(), repeats=repeat,
    )  # fmt: skip
    _print_bench(table, json)


@bench_app.command(
    "index",
    epilog="Examples:  matcher bench index --size 100k  |  matcher bench index --size 1M --gpu"
    "  |  matcher bench index --size 1M --lancedb --runs runs.jsonl --plot growth.png",
)
def bench_index(
    size: Annotated[str, typer.Option(help="Vectors, as 100k, 1M or 10M.")] = "100k",
    kind: Annotated[str | None, typer.Option(help="flat, ivf-fp16, ivf-pq or ivf; default by size.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Search on the first GPU.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Other vectors.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    lancedb: Annotated[bool, typer.Option("--lancedb", help="Also LanceDB's own search.")] = False,
    runs: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="Append the figures to this file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw cost and memory by size, of all in --runs.")
    ] = None,
    json: Json = False,
) -> None:
    """An engine of the index beside raw FAISS of the same type: search, recall, add, remove, open, bytes."""
    import tempfile

    from eval.bench_index import bench_index as measure
    from eval.bench_index import kept_runs, parse_size, table_rows, write_plot
    from index.engines import KINDS
    from matcher.errors import InputError
    from matcher.show import print_json, print_table, say
    from matcher.store import translated

    try:
        n = parse_size(size)
    except ValueError as error:
        raise InputError(str(error)) from None
    if kind is not None and kind not in KINDS:
        raise InputError(f"--kind {kind} is none of {', '.join(KINDS)}")
    for file in (runs, plot):
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{file} cannot be written: there is no folder {file.parent}")
    with translated(), tempfile.TemporaryDirectory(prefix="matcher-bench-") as folder:
        device = "cuda" if gpu else "cpu"
        bench = measure(
            n, Path(folder), kind=kind, device=device, seed=seed, repeats=repeat, lancedb=lancedb, on_step=say
        )
    benches = kept_runs(bench, runs)
    if plot is not None:
        write_plot(benches, plot)
    if json:
        print_json(bench.to_json())
        return
    print_table(
        f"index, {bench.n} vectors of {bench.d}, {bench.kind}, {bench.nlist} lists, {bench.machine}",
        ("step", "ours", "raw", "ratio", "wanted", "met"),
        table_rows(bench),
    )


@bench_app.command("cluster", epilog="Example:  matcher bench cluster --store S --clips 600")
def bench_cluster(
    clips: Annotated[int, typer.Option(min=1, help="Kept clips to answer, at most.")] = 600,
    workers: Annotated[
        list[int] | None, typer.Option("--workers", min=1, help="Of a cluster; may be repeated (1 and 2).")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 1,
    store: Store = DEFAULT_STORE,
    config: Config = None,
    json: Json = False,
) -> None:
    """Kept clips answered by one process, and by the workers of Ray clusters on this machine."""
    from eval.bench_cluster import COLUMNS
    from eval.bench_cluster import bench_cluster as measure
    from matcher.show import print_json, print_table, say
    from matcher.store import open_catalog, translated

    with translated():
        try:
            rows = measure(
                open_catalog(store), settings_of(config), clips=clips, workers=workers or (1, 2),
                repeats=repeat, on_step=say,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(str(error)) from error
    if json:
        for row in rows:
            print_json(row.to_json())
        return
    print_table(f"{rows[0].clips} kept clips", COLUMNS, [row.cells(rows[0]) for row in rows])


@bench_app.command(
    "two-stage",
    epilog="Examples:  matcher bench two-stage --size 100k  |  matcher bench two-stage --from S",
)
def bench_two_stage(
    size: Annotated[str, typer.Option(help="Vectors of a made-up store, as 100k or 1M.")] = "100k",
    from_store: Annotated[
        Path | None, typer.Option("--from", help="A copy of this store in place of a made-up one.")
    ] = None,
    no_id_index: Annotated[
        bool, typer.Option("--no-id-index", help="Let the tables go through all ids at each read.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Other vectors and clips.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    json: Json = False,
) -> None:
    """Frames read from the tables after a search of shots, beside all frames in memory: recall and cost."""
    import shutil
    import tempfile

    from eval.bench_index import parse_size
    from eval.bench_two_stage import bench_two_stage as measure
    from eval.bench_two_stage import make_store, table_rows
    from matcher.errors import InputError
    from matcher.show import print_json, print_table, say
    from matcher.store import open_catalog, translated

    try:
        with translated(), tempfile.TemporaryDirectory(prefix="matcher-bench-") as folder:
            if from_store is None:
                n = parse_size(size)
                say(f"making a store of {n} frames")
                catalog = make_store(Path(folder) / "store", n, seed=seed)
            else:
                open_catalog(from_store)
                catalog = open_catalog(shutil.copytree(from_store, Path(folder) / "store"))
            bench = measure(catalog, id_index=not no_id_index, seed=seed, repeats=repeat, on_step=say)
    except ValueError as error:
        raise InputError(str(error)) from None
    if json:
        print_json(bench.to_json())
        return
    print_table(
        f"two stages, {bench.n} frames of {bench.d}, {bench.clips} clips, {bench.machine}",
        ("search", "recall@10", "right program", "ms a clip", "of one-stage", "bytes a frame", "frames read"),
        table_rows(bench),
    )


@bench_app.command(
    "relink",
    epilog="Examples:  matcher bench relink --clips 20000 --programs 500  |  matcher bench relink --folder"
    " kept --shares 0.0001,0.001,0.01,0.1 --plot cost.png",
)
def bench_relink(
    clips: Annotated[int, typer.Option(min=1, help="Kept clips, of 12 frames.")] = 1_000_000,
    programs: Annotated[int, typer.Option(min=1, help="Programs, of 100 frames.")] = 20_000,
    changed: Annotated[float, typer.Option(help="Share of the programs that changed.")] = 0.001,
    shares: Annotated[
        str, typer.Option(metavar="A,B,...", help="Then also nights of these shares, for their cost alone.")
    ] = "",
    full_sample: Annotated[
        int, typer.Option(min=0, help="Clips that the full run is measured on; 0 for all.")
    ] = 20_000,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the store here, for the next run.", file_okay=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw cost by share: those of --shares.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other vectors and changes.")] = 1,
    json: Json = False,
) -> None:
    """A night's re-link after some programs changed, beside a full one: processor time, and what differs."""
    import tempfile

    from eval.bench_relink import bench_relink as measure
    from eval.bench_relink import parse_shares, table_rows, words_of, write_plot
    from eval.relink_store import Size
    from matcher.errors import InputError
    from matcher.show import print_json, print_table, say
    from matcher.store import translated

    if plot is not None and not plot.parent.is_dir():
        raise InputError(f"{plot} cannot be written: there is no folder {plot.parent}")
    try:
        with translated(), tempfile.TemporaryDirectory(prefix="matcher-bench-") as own:
            bench = measure(
                folder or Path(own), Size(clips, programs, seed), changed=changed,
                shares=parse_shares(shares), full_sample=full_sample, on_step=say,
            )  # fmt: skip
    except ValueError as error:
        raise InputError(str(error)) from None
    if plot is not None:
        write_plot(bench, plot)
    if json:
        print_json(bench.to_json())
        return
    print_table(
        f"re-link, {bench.clips} clips, {bench.programs} programs of {bench.frames} frames, {bench.kind}, "
        f"{bench.machine}",
        (
            "changed",
            "programs",
            "new frames",
            "answered",
            "way",
            "comparing s",
            "answering s",
            "CPU s",
            "of full",
        ),
        table_rows(bench),
    )
    for line in words_of(bench):
        say(line)


@bench_app.command(
    "fusion",
    epilog="Examples:  matcher bench fusion  |  matcher bench fusion --device cuda --clips 65536 --batch-size"
    " 2048",
)
def bench_fusion(
    clips: Annotated[int, typer.Option(min=1, help="In the store that is made for it.")] = 8192,
    steps: Annotated[int, typer.Option(min=2, help="Training steps of a round.")] = 6,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    frames: Annotated[int, typer.Option(min=1, help="Of a clip, and seconds of sound.")] = 12,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 2,
    batch_size: Annotated[int, typer.Option(min=2, help="Clips of a training step.")] = 512,
    bench_precision: Annotated[
        str, typer.Option("--precision", help="auto, fp32 or bf16, of the folded model's products.")
    ] = "auto",
    clusters: Annotated[
        int | None, typer.Option(min=1, help="Of the pooling of pictures, to try a smaller model (64).")
    ] = None,
    device: DeviceWord = None,
    json: Json = False,
) -> None:
    """Fusion of stored features in clips a second, and the training loop beside bare steps."""
    import tempfile

    from eval.bench_fusion import bench_config, goal_lines, table_rows
    from eval.bench_fusion import bench_fusion as measure
    from matcher.show import print_json, print_table, say
    from matcher.store import translated

    if bench_precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"unknown precision {bench_precision!r}: use auto, fp32 or bf16")
    with translated(), tempfile.TemporaryDirectory(prefix="matcher-bench-") as folder:
        try:
            bench = measure(
                Path(folder), clips=clips, steps=steps, repeats=repeat, frames=frames, threads=threads,
                batch_size=batch_size, device=device or "cpu", config=bench_config(clusters),
                precision=bench_precision, on_step=say,  # type: ignore[arg-type]
            )  # fmt: skip
        except ValueError as error:
            raise InputError(str(error)) from error
    if json:
        print_json(bench.to_json())
        return
    print_table(
        f"fusion, {bench.frames} frames a clip, {bench.engine}, {bench.processor}",
        ("way", "clips/s", "ratio", "by the processor's time", "ratio"),
        table_rows(bench),
    )
    for line in goal_lines(bench.goals):
        say(line)


def _print_bench(table: BenchTable, as_json: bool) -> None:
    from matcher.show import print_json, print_table

    value = table.to_json()
    if as_json:
        print_json(value)
        return
    low, high = value["ratio_range"]
    goal = f"{'at least' if value['bench'] == 'ingest' else 'at most'} {value['goal']}"
    print_table(
        f"{value['bench']}, {value['sampling']}: {value['ratio']:.2f} ({low:.2f}–{high:.2f}), wanted {goal}",
        ("step", "frames", "seconds", "frames/s", "ratio"),
        [_bench_row(row) for row in value["rows"]],
    )


def _bench_row(row: dict[str, Any]) -> Sequence[str]:
    rate, ratio = f"{row['frames_per_second']:.1f}", f"{row['ratio']:.2f}"
    return row["name"], str(row["frames"]), f"{row['seconds']:.3f}", rate, ratio


@eval_app.command(
    "link",
    epilog="Examples:  matcher eval link --films films --out runs/full  |  matcher eval link --quick --out"
    " runs/try  |  matcher eval link --truth truth.csv --clips clips.csv --store S --out runs/own"
    "  |  matcher eval link --out runs/full --ablation  |  matcher eval link --films films --by-film 2"
    " --out runs/held-out",
)
def eval_link(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: figures, tables and report.")],
    films: Annotated[
        Path | None, typer.Option(help="Folder of films; without it, generated dramas alone.")
    ] = None,
    material: Annotated[
        Path | None, typer.Option(help="Folder of dramas and clips, made or to be made; else in --out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Other dramas, other clips.")] = None,
    dramas: Annotated[int | None, typer.Option(help="Generated programs (150).")] = None,
    unknown: Annotated[
        int | None, typer.Option(help="Clips of programs outside the catalogue (1500).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small benchmark, in minutes.")] = False,
    distractors: Annotated[
        int, typer.Option(min=0, help="Strangers' frames to fill the index with, at several sizes.")
    ] = 0,
    ablation: Annotated[
        bool,
        typer.Option("--ablation", help="Link the clips again without each part; also of a finished --out."),
    ] = False,
    ablation_run: Annotated[
        Path | None,
        typer.Option(help="Run of the same clips with a plain descriptor, to be listed under --ablation."),
    ] = None,
    by_film: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Deal the films into so many parts, and ask each by a descriptor and a calibration that are"
            " learned from the others here.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make dramas and clips.")] = 2,
    truth: Annotated[
        Path | None, typer.Option(help="Your own truth (CSV), for your own --clips and --store.")
    ] = None,
    clips: Annotated[Path | None, typer.Option(help="Manifest of your own clips, as query takes it.")] = None,
    store: Store = DEFAULT_STORE,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Link clips whose truth is known, and write figures and a report.

    The clips are cut from films and generated dramas and edited as uploaders edit, or they are your
    own. A run that was cut off goes on with the same command.
    """
    from eval.link_run import ablate_run, chosen_plan, run_link_benchmark, run_link_truth, show_figures

    settings = settings_of(config, encoder=encoder, device=device, precision=precision, no_sound=no_sound)
    made_here = films or material or quick or distractors or by_film
    if (truth is None) != (clips is None):
        raise InputError("--truth and --clips belong together")
    if truth is not None and (made_here or any(word is not None for word in (seed, dramas, unknown))):
        raise InputError("--truth measures your own clips: nothing is made, so give no other words for that")
    if ablation and truth is not None:
        raise InputError("--ablation links kept clips again, and --truth keeps none; leave one of them out")
    if by_film is not None and (ablation or distractors or encoder is not None):
        raise InputError(
            "--by-film learns a default encoder of its own: leave out --encoder, --ablation and --distractors"
        )
    if ablation_run is not None and not ablation:
        raise InputError("--ablation-run belongs to --ablation")
    numbers, described_by = (seed, dramas, unknown), (encoder, device, precision, config)
    has_words = made_here or any(word is not None for word in (*numbers, *described_by)) or no_sound
    started, words = time.monotonic(), shlex.join(["matcher", *sys.argv[1:]])
    if truth is not None and clips is not None:
        value = run_link_truth(truth, clips, store, out, settings, load_encoder_of(settings), command=words)
    elif ablation and not has_words and (out / "figures.json").is_file():
        value = ablate_run(out, other=ablation_run)  # a finished run, with its own settings
    else:
        plan = chosen_plan(
            material or out / "material", films=films, seed=seed, n_dramas=dramas, n_unknown=unknown,
            is_quick=quick,
        )  # fmt: skip
        if by_film is not None:
            from eval.held_out import run_by_film

            value = run_by_film(
                plan, out, settings, n_parts=by_film, material=material, workers=workers, command=words
            )
        else:
            value = run_link_benchmark(
                plan, out, settings, load_encoder_of(settings), material=material, workers=workers,
                n_distractors=distractors, command=words,
            )  # fmt: skip
        value = ablate_run(out, other=ablation_run) if ablation else value
    show_figures(value, as_json=json, seconds=time.monotonic() - started)
    counts = value["groups"]["all"]["counts"]
    exit_by(done=counts["clips"] - counts["failed"], failed=counts["failed"])


@eval_app.command(
    "experiment",
    epilog="Examples:  matcher eval experiment main  |  matcher eval experiment pooling --seeds 5 --out"
    " runs/pooling",
)
def eval_experiment(
    name: Annotated[
        str,
        typer.Argument(
            help="main, difficulty, title-shortcut, pooling, gating, experts, missing, twins, tiers, growth."
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Worlds of clips, each with trainings of its own.")] = 3,
    scale: Annotated[str, typer.Option(help="small (minutes on two cores) or gpu.")] = "small",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table, all values and a picture.", file_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Put one claim about the clip model to the test, on generated clips of known difficulty."""
    from eval.experiments.catalogue import run_experiment, write_result
    from matcher.show import print_json, print_table, say

    result = run_experiment(name, n_seeds=seeds, scale=scale, on_step=say)
    if json:
        for line in result.to_json():
            print_json(line)
    else:
        print_table(f"{result.name}: {result.claim}", result.columns(), result.cells())
    if out is not None:  # after minutes of work, a folder that cannot be written must not cost the table
        write_result(result, out)
    say(f"{len(result.rows)} conditions, {len(result.seeds)} seeds, {result.seconds:.0f} s")


@eval_app.command(
    "few-examples", epilog="Examples:  matcher eval few-examples  |  matcher eval few-examples --balance"
)
def eval_few_examples(
    balance: Annotated[
        bool, typer.Option("--balance", help="Measure unbalanced categories instead.")
    ] = False,
    count: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Examples of a new category; may be repeated. Ignored with --balance."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="A draw of categories and clips; may be repeated (10 to 14)."),
    ] = None,
    json: Json = False,
) -> None:
    """How well a new category is answered by a few examples, and by heads that learn from as few.

    On generated embeddings; clips of held-out programs are asked. Prints the table of docs/categories.md.
    """
    from dataclasses import replace

    from eval import few_examples as measuring
    from matcher.show import print_json, say

    config = measuring.FewExamplesConfig()
    if balance:
        config = replace(config, difficulty=measuring.Difficulty(n_programs=60))
    config = replace(config, counts=tuple(count or config.counts), seeds=tuple(seed or config.seeds))
    rows: Sequence[Any]
    if balance:
        rows = unbalanced = measuring.measure_balance(config)
        table = measuring.balance_table(unbalanced)
    else:
        rows = outcomes = measuring.measure(config, say=say)
        table = measuring.table(outcomes)
    if json:
        for one in rows:
            print_json(dict(vars(one)))
    else:
        sys.stdout.write(f"{table}\n")


@eval_app.command(
    "sound",
    epilog="Examples:  matcher eval sound --films films --out runs/sound  |  matcher eval sound --films films"
    " --material runs/full/material --hops 0.5,1 --out runs/hops",
)
def eval_sound(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: figures, and stores.")],
    films: Annotated[
        Path | None, typer.Option(help="Folder of films; without it, generated dramas alone.")
    ] = None,
    material: Annotated[
        Path | None, typer.Option(help="Folder of a benchmark of `eval link`; else dramas are made in --out.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Store of the same catalogue, added with sound; else made in --out."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other clips.")] = 1,
    dramas: Annotated[int | None, typer.Option(min=0, help="Generated programs, if made (150).")] = None,
    clips_per_program: Annotated[
        int, typer.Option(min=1, help="Stretches of each program; each goes through every edit.")
    ] = 2,
    unknown: Annotated[int, typer.Option(min=0, help="Clips of programs outside the catalogue.")] = 1000,
    silent: Annotated[int, typer.Option(min=0, help="Clips in which nothing is said.")] = 200,
    hops: Annotated[
        str | None, typer.Option(help="Seconds between a program's patches, as 0.5,1: a store for each.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make dramas.")] = 2,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Link clips by their sound alone, and write figures.

    Stretches of ten seconds of every program with sound are edited as uploaders edit, and asked without
    any picture; so are stretches of programs outside the catalogue, and silence.
    """
    from eval.sound_run import SoundPlan, parse_hops, programs_plan, run_sound, show_sound

    settings = settings_of(config, encoder=encoder, device=device, precision=precision)
    programs = programs_plan(material, films=films, n_dramas=dramas)
    plan = SoundPlan(programs, material or out / "material", seed, clips_per_program, unknown, silent)
    started, words = time.monotonic(), shlex.join(["matcher", *sys.argv[1:]])
    value = run_sound(
        plan, out, settings, load_encoder_of(settings), store=store, hops=parse_hops(hops), workers=workers,
        command=words,
    )  # fmt: skip
    show_sound(value, as_json=json, seconds=time.monotonic() - started)


@eval_app.command(
    "related",
    epilog="Examples:  matcher eval related --films films --out runs/related  |  matcher eval related --films"
    " films --seed 1 --seed 2 --model models/start/model.safetensors --out runs/related-model",
)
def eval_related(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: figures, clips and stores.")],
    films: Annotated[
        list[Path] | None, typer.Option("--films", help="Folder of films; may be repeated.")
    ] = None,
    dramas: Annotated[int, typer.Option(min=0, help="Generated programs in the store.")] = 24,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Of dramas, clips and titles; may be repeated (1).")
    ] = None,
    clips_per_program: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 2,
    episode_seconds: Annotated[float, typer.Option(min=12, help="Of a drama's two episodes.")] = 36.0,
    model: Annotated[
        Path | None, typer.Option(help="File of a clip model, to be compared with the mean.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make dramas and clips.")] = 2,
    encoder: Encoder = None,
    device: DeviceWord = None,
    precision: PrecisionWord = None,
    no_sound: NoSound = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Ask what clips are about that show nothing of what the store has, and write figures.

    The store has the first half of every program; clips and trailers are cut from the second. Some
    titles name the program, others nothing or another one. A run that was cut off goes on with the same
    command.
    """
    from eval.related_material import RelatedPlan
    from eval.related_run import run_related, show_related

    settings = settings_of(config, encoder=encoder, device=device, precision=precision, no_sound=no_sound)
    folders = tuple(folder.resolve() for folder in films or ())
    plans = [
        RelatedPlan(folders, one, dramas, clips_per_program, episode_seconds)
        for one in dict.fromkeys(seed or [1])
    ]
    if model is not None and not model.is_file():
        raise InputError(f"there is no clip model {model}; give a file that `matcher train fusion` wrote")
    started, words = time.monotonic(), shlex.join(["matcher", *sys.argv[1:]])
    value = run_related(
        plans, out.resolve(), settings, load_encoder_of(settings), model=model, workers=workers, command=words
    )
    show_related(value, as_json=json, seconds=time.monotonic() - started)


if __name__ == "__main__":
    main()
