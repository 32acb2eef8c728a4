"""The command line: words → settings → pipeline → print. Heavy imports wait for the verb that needs them."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from matcher.errors import InputError, MatcherError, MissingDependencyError
from matcher.steps import Step

if TYPE_CHECKING:
    from eval.bench import BenchTable
    from index.catalog import Catalog
    from matcher.cluster.crew import Crew
    from matcher.config import Settings
    from matcher.encoders.base import FrameEncoder
    from matcher.records import Answer
    from matcher.store import Within
    from matcher.training.descriptor import Training
    from matcher.training.fusion_run import FusionTraining

PARTLY_DONE = 4
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
train_app = typer.Typer(help="Learn from one's own films.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(index_app, name="index")
app.add_typer(bench_app, name="bench")
app.add_typer(eval_app, name="eval")
app.add_typer(train_app, name="train")
models_app = typer.Typer(
    help="Which models a store has; take others into use.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models_app, name="models")

# Text, for a path would lose a slash of s3://.
Store = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="MATCHER_STORE",
        metavar="DIR",
        help="Folder of the store, or s3://BUCKET/PREFIX.",
        show_default=True,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", help="lite0[@FILE], timm:NAME[@FILE], open_clip:NAME/PRETRAINED or a path."),
]
DeviceWord = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
PrecisionWord = Annotated[
    str | None, typer.Option("--precision", help="auto, int8 or fp32, of the default encoder on the CPU.")
]
SamplingWord = Annotated[str | None, typer.Option("--sampling", help="fps=RATE or keyframes[=SECONDS].")]
# Typer would refuse the whole batch for one file that may not be read.
Clips = Annotated[list[Path] | None, typer.Argument(help="Clips.", readable=False)]
Manifest = Annotated[Path | None, typer.Option("--manifest", help="CSV file; paths relative to its folder.")]
Top = Annotated[int, typer.Option("--top", min=1, help="Best guesses to name.")]
NoSound = Annotated[bool, typer.Option("--no-sound", help="Look only; do not listen.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for another writer.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Spread the work over a Ray cluster: HOST:PORT, auto or local."
    ),
]
RayWorkers = Annotated[
    int | None, typer.Option("--ray-workers", min=1, help="Workers of --ray; default one a processor.")
]
DEFAULT_STORE = "matcher-store"


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

    settings = _settings(
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
        model = _load_encoder(settings)
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
    _exit_by(done=sum(counts.values()) - counts["failed"], failed=counts["failed"])


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
    settings = _settings(config)
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
    _exit_by(done=len(gone), failed=len(unknown))


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

    settings = _settings(
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
    settings = _settings(
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
    from matcher.inputs import clip_jobs, read_clip_rows
    from matcher.pipeline import keep, query_clips
    from matcher.show import progress_bar, summary
    from matcher.store import open_linker, open_surroundings, translated

    if (manifest is None) == (not clips):
        raise InputError("give either CLIP... or --manifest FILE")
    if manifest is not None and title:
        raise InputError("titles of a manifest stand in its column title")
    jobs = clip_jobs(clips or [], title=title) if manifest is None else read_clip_rows(manifest)
    started = time.monotonic()
    model, catalog = _open(store, settings)
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
    _exit_by(done=sum(printer.counts.values()) - bad, failed=bad)


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
    from matcher.inputs import clip_jobs, read_clip_rows
    from matcher.show import print_json, print_table, progress_bar, say, summary
    from matcher.store import open_linker, translated

    if (manifest is None) == (not clips):
        raise InputError("give either CLIP... or --manifest FILE")
    jobs = clip_jobs(clips or [], title=title) if manifest is None else read_clip_rows(manifest)
    settings = _settings(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    started = time.monotonic()
    counts = {"named": 0, "none": 0, "failed": 0}
    rows = []
    model, catalog = _open(store, settings)
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
    _exit_by(done=counts["named"] + counts["none"], failed=counts["failed"])


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
            " worker; the housekeeping then only compacts.",
        ),
    ] = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Answer again the kept clips whose links can have changed, and commit all of it at once.

    No video is decoded. Stopped or killed, it goes on where it was when run again. With --ray the clips
    are answered by the machines of a cluster. Then the tables are compacted, and the search cache is
    verified and saved; whatever fails there, the links stand (exit 4).
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
    settings = _settings(config)
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
    settings = _settings(config)
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

    _list(store, json, lambda c: history_objects(c, clip), HISTORY_COLUMNS, history_row)


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

    settings = _settings(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    # Before the work, so that a bad name costs none.
    target = picture_path(out, clip) if out is not None or not json else None
    model, catalog = _open(store, settings) if is_file(Path(clip)) else (None, open_catalog(store))
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

    _list(
        store, json, program_objects, ("program", "title", "category", "files", "length", "frames"),
        lambda o: (o["program_id"], o["title"], ", ".join(o["categories"]), str(len(o["assets"])),
                   clock(o["duration_seconds"]), str(o["frames"])),
    )  # fmt: skip


@app.command(epilog="Example:  matcher clips --json > clips.jsonl")
def clips(store: Store = DEFAULT_STORE, json: Json = False) -> None:
    """List the kept clips."""
    from matcher.listing import clip_objects
    from matcher.show import clock

    _list(
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
    _list(
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


def _list(
    store: str,
    as_json: bool,
    objects: Callable[[Catalog], Any],
    columns: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[str]],
) -> None:
    from matcher.show import print_json, print_table
    from matcher.store import open_catalog, translated

    with translated():
        found = objects(open_catalog(store))
        if as_json:
            for value in found:
                print_json(value)
        else:
            print_table("", columns, [row(value) for value in found])


@app.command(epilog="Example:  matcher status --store S --json")
def status(store: Store = DEFAULT_STORE, config: Config = None, json: Json = False) -> None:
    """Say what the store holds."""
    from matcher.listing import status_object, status_rows
    from matcher.show import print_json, print_table
    from matcher.store import open_catalog, translated

    settings = _settings(config)
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
    checks = examine(store, _settings(config))
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
    settings = _settings(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    model, catalog = _open(store, settings)
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
        every = open_every(open_catalog(store), _settings(config).index)
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
        every = open_every(catalog, _settings(config).index)
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
        save_caches(catalog, _settings(config).index, writer, force=True)
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
        for live in open_every(catalog, _settings(config).index):
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

    settings = _settings(
        config, encoder=encoder, device=device, precision=precision, programs=sampling, no_sound=no_sound
    )
    table = measure(
        videos, _load_encoder(settings), Sampling.parse(settings.sampling.programs), repeats=repeat,
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

    settings = _settings(
        config, encoder=encoder, device=device, precision=precision, clips=sampling, no_sound=no_sound
    )
    model, catalog = _open(store, settings)
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
                open_catalog(store), _settings(config), clips=clips, workers=workers or (1, 2),
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
    clips: Annotated[int, typer.Option(min=1, help="In the store that is made for it.")] = 4096,
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

    settings = _settings(config, encoder=encoder, device=device, precision=precision, no_sound=no_sound)
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
        value = run_link_truth(truth, clips, store, out, settings, _load_encoder(settings), command=words)
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
                plan, out, settings, _load_encoder(settings), material=material, workers=workers,
                n_distractors=distractors, command=words,
            )  # fmt: skip
        value = ablate_run(out, other=ablation_run) if ablation else value
    show_figures(value, as_json=json, seconds=time.monotonic() - started)
    counts = value["groups"]["all"]["counts"]
    _exit_by(done=counts["clips"] - counts["failed"], failed=counts["failed"])


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
    if out is not None:
        write_result(result, out)
    if json:
        for line in result.to_json():
            print_json(line)
    else:
        print_table(f"{result.name}: {result.claim}", result.columns(), result.cells())
    say(f"{len(result.rows)} conditions, {len(result.seeds)} seeds, {result.seconds:.0f} s")


@eval_app.command(
    "few-examples", epilog="Examples:  matcher eval few-examples  |  matcher eval few-examples --balance"
)
def eval_few_examples(
    balance: Annotated[
        bool, typer.Option("--balance", help="Measure unbalanced categories instead.")
    ] = False,
    count: Annotated[
        list[int] | None, typer.Option(min=1, help="Examples of a new category; may be repeated.")
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

    settings = _settings(config, encoder=encoder, device=device, precision=precision)
    programs = programs_plan(material, films=films, n_dramas=dramas)
    plan = SoundPlan(programs, material or out / "material", seed, clips_per_program, unknown, silent)
    started, words = time.monotonic(), shlex.join(["matcher", *sys.argv[1:]])
    value = run_sound(
        plan, out, settings, _load_encoder(settings), store=store, hops=parse_hops(hops), workers=workers,
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

    settings = _settings(config, encoder=encoder, device=device, precision=precision, no_sound=no_sound)
    folders = tuple(folder.resolve() for folder in films or ())
    plans = [
        RelatedPlan(folders, one, dramas, clips_per_program, episode_seconds)
        for one in dict.fromkeys(seed or [1])
    ]
    if model is not None and not model.is_file():
        raise InputError(f"there is no clip model {model}; give a file that `matcher train fusion` wrote")
    started, words = time.monotonic(), shlex.join(["matcher", *sys.argv[1:]])
    value = run_related(
        plans, out.resolve(), settings, _load_encoder(settings), model=model, workers=workers, command=words
    )
    show_related(value, as_json=json, seconds=time.monotonic() - started)


@train_app.callback()
def _train() -> None:
    """Keep ``descriptor`` a word of its own, also while it is the only verb."""


@train_app.command(
    "descriptor",
    epilog="Examples:  matcher train descriptor --films films --out own.safetensors && matcher add"
    " --encoder lite0@own.safetensors --store S --manifest programs.csv;  matcher train descriptor --sound"
    " --films films --films dramas --weight 1 --weight 0.1 --out sounds.safetensors",
)
def train_descriptor(
    films: Annotated[list[Path], typer.Option("--films", help="Folder of films; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, *.safetensors.")],
    sound: Annotated[bool, typer.Option("--sound", help="Descriptors of sounds, not of frames.")] = False,
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="How much a film of a folder counts, one a folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other edits, other folds.")] = 7,
    d: Annotated[
        int | None, typer.Option("--d", help="Dimensions of a descriptor (512; of a sound 128).")
    ] = None,
    regularization: Annotated[
        float | None, typer.Option(help="Higher trusts the pairs less; see --grid.")
    ] = None,
    mean_share: Annotated[
        float | None, typer.Option(help="How much of the mean is taken away, 0 to 1.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of a film, evenly, at most (60; with --sound stretches of 14 seconds, 40)."
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts that the films are validated in.")] = 3,
    grid: Annotated[bool, typer.Option("--grid", help="Validate other settings too.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Pattern of file names to leave out; may be repeated.")
    ] = None,
    note: Annotated[str, typer.Option(help="A line to keep in the file.")] = "",
    device: DeviceWord = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Fit the default encoder to one's own films: `--encoder lite0@FILE` then uses it.

    Frames and edited copies of them say in which directions edits move a descriptor; those then count
    little. It is validated by series first: a file name up to its first "-" names the series. With --sound
    the same is done for the descriptors of sounds.
    """
    from matcher.training.descriptor import Recipe, Training
    from matcher.training.sound_descriptor import SoundRecipe, SoundTraining

    recipe = (SoundRecipe if sound else Recipe).of(d=d, regularization=regularization, mean_share=mean_share)
    kind = SoundTraining if sound else Training
    training = kind(
        tuple(films), tuple(weight or ()), tuple(exclude or ()), recipe, out=out, seed=seed,
        n_frames=kind.n_frames if frames is None else frames, n_folds=folds, note=note,
    )  # fmt: skip
    _train_descriptor(training, _settings(config, device=device), has_grid=grid, as_json=json)


def _train_descriptor(training: Training, settings: Settings, *, has_grid: bool, as_json: bool) -> None:
    from matcher.encoders.registry import load_raw_lite0
    from matcher.show import print_json, print_table, progress_bar, say, summary
    from matcher.training.descriptor import TABLE_COLUMNS, grid, row_object, table_row
    from matcher.training.sound_descriptor import SoundTraining, sound_grid

    started = time.monotonic()
    found = training.find_films()
    with contextlib.ExitStack() as stack:
        if isinstance(training, SoundTraining):
            bar = stack.enter_context(progress_bar("listening", len(found)))
            pairs = training.listen(found, on_film=lambda film: bar.step(film.path.name))
            around, use = sound_grid, f'spec = "logmel@{training.out}" under [sound] of --config'
        else:
            encode = load_raw_lite0(device=settings.encoder.device, threads=settings.encoder.threads)
            bar = stack.enter_context(progress_bar("describing", len(found)))
            pairs = training.collect(found, encode, on_film=lambda film: bar.step(film.path.name))
            around, use = grid, f"--encoder lite0@{training.out}"
    recipes = around(training.recipe) if has_grid else [training.recipe]
    rows = []
    with progress_bar("fitting", len(recipes) + 1) as bar:
        for recipe in recipes:
            rows += training.validate(pairs, recipe)
            bar.step(str(recipe.regularization))
        fingerprint = training.write(pairs, rows)
    if as_json:
        for row in rows:
            print_json(row_object(row))
        print_json({"out": str(training.out), "fingerprint": fingerprint, "films": len(pairs.films)})
    else:
        print_table("", TABLE_COLUMNS, [table_row(row) for row in rows])
    say(f"wrote {training.out}; use it with {use}")
    left_out = len(found) - len(pairs.films)
    summary({"films": len(pairs.films), "left out": left_out}, time.monotonic() - started)
    _exit_by(done=len(pairs.films), failed=left_out)


@train_app.command(
    "categories",
    epilog="Examples:  matcher train categories --store S --clips labels.csv --taxonomy site.toml --out cats"
    " && matcher models use --categories cats --store S  |  matcher train categories --clips labels.csv"
    " --taxonomy site.toml --tier 3 --augment mixup --out cats",
)
def train_categories(
    out: Annotated[Path, typer.Option("--out", help="Folder of the heads; made if need be.")],
    clips: Annotated[
        Path, typer.Option("--clips", help="CSV file of labels: clip_id,category[,program_id].")
    ],
    taxonomy: Annotated[Path, typer.Option("--taxonomy", help="TOML file of the categories.")],
    tier: Annotated[
        list[int] | None, typer.Option(min=1, max=3, help="Which tier; may be repeated. Default all.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="experts or logistic.")] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(help="mixup, dropout or noise, for categories of few clips; may be repeated."),
    ] = None,
    min_examples: Annotated[
        int | None, typer.Option(min=2, help="Clips from which on a category is learned by a head.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another split and start.")] = 0,
    store: Store = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Train the heads of the tiers on the embeddings of kept clips, each tier apart.

    A head of another tier that lies in the folder stays, so a new category re-trains its own tier alone.
    Categories of few clips are answered by those clips, as examples, until there are more.
    """
    from matcher.show import print_json, print_table, say, summary
    from matcher.store import open_catalog, translated
    from matcher.taxonomy import Taxonomy
    from matcher.training.category_run import train_categories as train
    from matcher.training.head_config import HeadTraining
    from matcher.training.labels import read_labels
    from matcher.training.store_embeddings import StoreEmbeddings, with_programs

    started = time.monotonic()
    tree = Taxonomy.load(taxonomy)
    config = HeadTraining.of_words(head=head, augment=augment or (), min_examples=min_examples, seed=seed)
    with translated():
        catalog = open_catalog(store)
        labels = with_programs(read_labels(clips, tree), catalog)
        tiers = tier or list(range(1, tree.n_tiers + 1))
        run = train(StoreEmbeddings(catalog), labels, tiers=tiers, folder=out, config=config)
    for fault in run.faults:
        say(fault.message)
    if json:
        print_json(run.words())
    else:
        columns, *rows = run.table()
        print_table("", columns, rows)
    say(f"wrote {out}; use it with: matcher models use --categories {shlex.quote(str(out))}")
    counts = {
        "learned": sum(0 if one.head is None else len(one.head.class_paths) for one in run.tiers),
        "by examples": sum(one.n_by_examples for one in run.tiers),
    }
    summary(counts, time.monotonic() - started)


@models_app.command("list", epilog="Example:  matcher models list --store S --json")
def models_list(store: Store = DEFAULT_STORE, json: Json = False) -> None:
    """Every model that the store has, and which are in use."""
    from matcher.models_run import list_models

    _list(
        store, json, list_models, ("for", "model", "fingerprint", "dimensions", "in use"),
        lambda o: (o["use"], o["model"], o["fingerprint"], "" if o["d"] is None else str(o["d"]),
                   "yes" if o["used"] else ""),
    )  # fmt: skip


@models_app.command(
    "use",
    epilog="Examples:  matcher models use runs/fusion/model.safetensors  |  matcher models use --categories"
    " runs/categories  |  matcher models use mean",
)
def models_use(
    model: Annotated[
        str | None,
        typer.Argument(help="File of a clip model; mean, for none; or a name that `models list` shows."),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option("--categories", help="Folder of categories, a name that `models list` shows, or none."),
    ] = None,
    store: Store = DEFAULT_STORE,
    config: Config = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Take a clip model, or categories, into use.

    With another clip model the embeddings of all programs are made anew from their descriptors; no video
    is opened. Kept clips get theirs at the next re-link. What was used before is kept: one can go back.
    """
    from matcher.models_run import use_categories, use_embeddings
    from matcher.show import print_json, progress_bar, say
    from matcher.store import open_catalog, translated

    if (model is None) == (categories is None):
        raise InputError("give either a clip model or --categories")
    settings = _settings(config)
    catalog = open_catalog(store)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        if categories is not None:
            used = use_categories(writer, categories)
        else:
            assert model is not None
            with progress_bar("embedding", len(catalog.programs())) as bar:
                used = use_embeddings(writer, settings, model, on_program=bar.step)
    if json:
        print_json(dict(vars(used)))
        return
    if categories is not None:
        say(f"the store uses {used.model}; kept clips are answered by it at the next: matcher relink")
        return
    how = f"fitted on {used.fitted} stretches" if used.fitted else "as shipped: too few programs to fit it"
    say(
        f"the store uses {used.model} ({used.fingerprint}): {used.embeddings} embeddings of {used.programs}"
        f" programs; the confidence of related programs is {how}. Kept clips get theirs at the next: matcher"
        " relink. Categories are trained on embeddings: train them again for these"
    )


@models_app.command("compare", epilog="Example:  matcher models compare mean runs/fusion/model.safetensors")
def models_compare(
    models: Annotated[list[str], typer.Argument(help="As for `models use`; two or more.")],
    clips: Annotated[
        Path | None, typer.Option("--clips", help="CSV of clip_id,category, to compare by categories too.")
    ] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="That these categories are of.")] = None,
    most: Annotated[int, typer.Option(min=2, help="Linked clips that are drawn.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    store: Store = DEFAULT_STORE,
    config: Config = None,
    json: Json = False,
) -> None:
    """Embed the kept, linked clips with several clip models, and say how near clips of one program come.

    Nothing is changed. For a decision use clips and programs that none of the models was trained on.
    """
    from matcher.models_run import compare_models, named_fusion
    from matcher.show import print_json, print_table
    from matcher.store import open_catalog, translated

    settings = _settings(config)
    if (clips is None) != (taxonomy is None):
        raise InputError("--clips and --taxonomy belong together")
    labelled = None if clips is None or taxonomy is None else _category_paths(clips, taxonomy)
    with translated():
        catalog = open_catalog(store)
        fusions = {name: named_fusion(catalog, settings, name) for name in models}
        found = compare_models(catalog, fusions, categories=labelled, most=most, seed=seed)
    if json:
        for one in found:
            print_json(dict(vars(one)))
        return
    print_table(
        "", ("model", "clips", "own program first", "nearest clip of it", "nearest of the category, by tier"),
        [
            (one.model, str(one.clips), f"{one.program_recall:.3f}", f"{one.neighbour_recall:.3f}",
             ", ".join(f"{tier}: {value:.3f}" for tier, value in one.category_recall.items()))
            for one in found
        ],
    )  # fmt: skip


def _category_paths(clips: Path, taxonomy: Path) -> dict[str, list[str]]:
    """Category paths by clip id of a labels file."""
    from matcher.taxonomy import Taxonomy
    from matcher.training.labels import read_labels

    labels = read_labels(clips, Taxonomy.load(taxonomy))
    labels.stop_on_faults()
    return {
        clip_id: [one.path for one in own]
        for clip_id, own in zip(labels.clip_ids, labels.categories, strict=True)
    }


@train_app.command(
    "fusion",
    epilog="Examples:  matcher train fusion --store S --clips labels.csv --taxonomy site.toml --out models/1"
    "  |  matcher train fusion --store S --start 10 --out models/start"
    "  |  torchrun --nproc-per-node 4 -m matcher train fusion --store S --clips labels.csv --taxonomy"
    " site.toml --out models/2",
)
def train_fusion(
    out: Annotated[Path, typer.Option("--out", help="Folder of the model; made if need be.")],
    clips: Annotated[
        Path | None, typer.Option("--clips", help="CSV file of labels: clip_id,category[,program_id].")
    ] = None,
    taxonomy: Annotated[Path | None, typer.Option("--taxonomy", help="TOML file of the categories.")] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--start", min=0, help="Epochs of a start without labels, by programs (0; without --clips 30)."
        ),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the programs to judge by.")] = 0.2,
    epochs: Annotated[int | None, typer.Option(help="Times that every clip is shown, at most (30).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips of a step (512).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest (0.001).")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of weight matrices (0.01).")] = None,
    program_weight: Annotated[
        float | None,
        typer.Option(help="How much it counts that clips of a program lie together, beside the labels (0)."),
    ] = None,
    frames_per_clip: Annotated[
        int | None, typer.Option(help="Frames of a clip in a step, others each time (all).")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs that get no better after which it stops (5).")
    ] = None,
    watch: Annotated[str | None, typer.Option(help="What is to get better: loss or accuracy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another split, order and start.")] = None,
    train_precision: Annotated[
        str | None, typer.Option("--precision", help="auto, fp32 or bf16, of the products.")
    ] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Steps between checkpoints (1000).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was cut off.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of curves.")] = None,
    note: Annotated[str, typer.Option(help="A line to keep in the model's card.")] = "",
    store: Store = DEFAULT_STORE,
    device: DeviceWord = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Train the clip model: picture, sound and text of a clip become one embedding, and answers.

    It learns from the features of the store's kept clips and is judged on whole programs held out. The
    folder gets model.safetensors with its card (model.json, model.md) when it is done, not before.
    """
    from matcher.training.fusion_run import FusionTraining
    from matcher.training.loop_records import LoopConfig

    if (clips is None) != (taxonomy is None):
        raise InputError("--clips and --taxonomy belong together")
    if not 0 < held_out < 1:
        raise InputError(f"--held-out must be between 0 and 1, got {held_out:g}")
    words = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "program_weight": program_weight, "frames_per_clip": frames_per_clip,
        "patience": patience,
        "watch": watch, "seed": seed, "precision": train_precision, "checkpoint_steps": checkpoint_steps,
    }  # fmt: skip
    loop = LoopConfig(**{name: word for name, word in words.items() if word is not None})  # type: ignore[arg-type]
    training = FusionTraining(
        out, loop, start_epochs=(0 if clips else 30) if start is None else start, is_resumed=resume,
        device=device or "auto", tensorboard=tensorboard, note=note,
        command=shlex.join(["matcher", *sys.argv[1:]]),
    )  # fmt: skip
    labels = None if clips is None or taxonomy is None else (clips, taxonomy)
    _train_fusion(store, labels, training, _settings(config), held_out=held_out, as_json=json)


def _train_fusion(
    store: str,
    labels: tuple[Path, Path] | None,
    training: FusionTraining,
    settings: Settings,
    *,
    held_out: float,
    as_json: bool,
) -> None:
    from matcher.show import print_json, print_table, progress_bar, say, summary
    from matcher.store import open_catalog, translated
    from matcher.taxonomy import Taxonomy
    from matcher.training.fusion_material import (
        encoders_in_use,
        lines_of,
        material_of_labels,
        material_of_links,
    )
    from matcher.training.fusion_run import MODEL, count_steps, table_rows
    from matcher.training.fusion_run import train_fusion as train
    from matcher.training.labels import read_labels
    from matcher.training.processes import is_first_process

    started = time.monotonic()
    training.check_target()
    with translated():
        catalog = open_catalog(store)
        encoders = encoders_in_use(catalog, settings)
        if labels is None:
            material = material_of_links(catalog, encoders, held_out=held_out, seed=training.loop.seed)
        else:
            read = read_labels(labels[0], Taxonomy.load(labels[1]))
            material = material_of_labels(catalog, read, encoders, held_out=held_out, seed=training.loop.seed)
        is_first = is_first_process()
        for line in lines_of(material.faults) if is_first else []:
            say(line)
        with progress_bar("training", count_steps(material, training)) as bar:
            card = train(
                material, training,
                on_step=lambda step: bar.step(f"epoch {step.epoch + 1}, loss {step.loss:.4g}"),
            )  # fmt: skip
    if not is_first:
        return
    if as_json:
        print_json({"out": str(training.out), **card})
    else:
        print_table("", ("part", "epochs", "held-out clips", "figure", "value"), table_rows(card))
    say(f"wrote {training.out / MODEL}; use it with: matcher models use {training.out / MODEL}")
    summary(
        {"clips": card["data"]["clips"], "programs": card["data"]["programs"]}, time.monotonic() - started
    )


def _settings(path: Path | None, *, no_sound: bool = False, **words: str | None) -> Settings:
    """The settings of a file with the command's own words on top."""
    from matcher.config import load_settings

    settings = load_settings(path)
    place = {
        "encoder": ("encoder", "spec"),
        "device": ("encoder", "device"),
        "precision": ("encoder", "precision"),
        "programs": ("sampling", "programs"),
        "clips": ("sampling", "clips"),
    }
    values = settings.model_dump()
    for name, word in words.items():
        if word is not None:
            section, key = place[name]
            values[section][key] = word
    if no_sound:
        values["sound"]["enabled"] = False
    if words.get("device") is not None:
        from matcher.encoders.base import check_device

        check_device(str(words["device"]))
    if words.get("precision") not in (None, "auto", "int8", "fp32"):
        raise InputError(f"unknown precision {words['precision']!r}: use auto, int8 or fp32")
    return type(settings).model_validate(values)


def _load_encoder(settings: Settings) -> FrameEncoder:
    from matcher.encoders.registry import load_encoder

    chosen = settings.encoder
    return load_encoder(chosen.spec, device=chosen.device, precision=chosen.precision, threads=chosen.threads)


def _open(store: str, settings: Settings) -> tuple[FrameEncoder, Catalog]:
    """Encoder and catalog of a store that is there; what is quickly known to be wrong is said first."""
    from matcher.decode import Sampling
    from matcher.store import open_catalog

    Sampling.parse(settings.sampling.clips)
    open_catalog(store)
    encoder = _load_encoder(settings)
    return encoder, open_catalog(store, encoder.info)


def _exit_by(*, done: int, failed: int) -> None:
    if failed:
        raise typer.Exit(PARTLY_DONE if done else InputError.exit_code)


if __name__ == "__main__":
    main()
