"""The verbs that train models and take them into use: ``matcher train`` and ``matcher models``."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matcher.cli_words import (
    DEFAULT_STORE,
    Config,
    DeviceWord,
    Json,
    Store,
    Wait,
    exit_by,
    list_objects,
    settings_of,
)
from matcher.errors import InputError

if TYPE_CHECKING:
    from matcher.config import Settings
    from matcher.training.descriptor import Training
    from matcher.training.fusion_run import FusionTraining
    from matcher.training.scene_run import SceneTraining

train_app = typer.Typer(
    help="Learn from one's own films and clips.", no_args_is_help=True, rich_markup_mode=None
)
models_app = typer.Typer(
    help="Which models a store has; take others into use.", no_args_is_help=True, rich_markup_mode=None
)


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
    _train_descriptor(training, settings_of(config, device=device), has_grid=grid, as_json=json)


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
    exit_by(done=len(pairs.films), failed=left_out)


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

    list_objects(
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
    settings = settings_of(config)
    catalog = open_catalog(store)
    with translated(), catalog.writing(wait_seconds=wait) as writer:
        if categories is not None:
            used = use_categories(writer, categories)
        else:
            assert model is not None
            with progress_bar("embedding", len(catalog.programs())) as bar:
                used = use_embeddings(writer, settings, model, on_program=bar.step)
    for note in used.notes:
        say(note)
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

    settings = settings_of(config)
    if (clips is None) != (taxonomy is None):
        raise InputError("--clips and --taxonomy belong together")
    labelled = None if clips is None or taxonomy is None else _category_paths(clips, taxonomy)
    with translated():
        catalog = open_catalog(store)
        fusions = {name: named_fusion(catalog, settings, name) for name in models}
        found = compare_models(catalog, fusions, categories=labelled, most=most, seed=seed)
    if json:
        for one in found:
            words = vars(one).items()
            # NaN, where no clip could tell, is no JSON.
            print_json({name: None if value != value else value for name, value in words})
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
    _train_fusion(store, labels, training, settings_of(config), held_out=held_out, as_json=json)


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


@train_app.command(
    "scene",
    epilog="Examples:  matcher train scene --clips sounds.csv --out scene.safetensors  |  matcher train scene"
    " --clips sounds.csv --held-out 0 --steps 800 --out scene-2.safetensors",
)
def train_scene(
    clips: Annotated[
        Path,
        typer.Option(
            "--clips", help="CSV file: path,label[,start_seconds,end_seconds]; paths relative to its folder."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write, *.safetensors.")],
    held_out: Annotated[float, typer.Option(help="Share of the files to judge by; 0 for none.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Another split, order and start.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Batches that it learns from (400).")] = None,
    note: Annotated[str, typer.Option(help="A line to keep in the file and its card.")] = "",
    device: DeviceWord = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Learn what seconds of sound are like from labelled stretches: `scene = "scene@FILE"` then uses it.

    Any films and sounds serve, and any labels, such as speech, music and laughter. Whole files are held out
    to judge by. The file is written with its card (.json, .md) when all is done, not before.
    """
    from matcher.training.scene import SceneRecipe
    from matcher.training.scene_run import SceneTraining

    settings = settings_of(config, device=device)
    recipe = SceneRecipe(seed=seed) if steps is None else SceneRecipe(seed=seed, steps=steps)
    training = SceneTraining(
        out, recipe, held_out=held_out, device=settings.encoder.device, note=note,
        command=shlex.join(["matcher", *sys.argv[1:]]),
    )  # fmt: skip
    _train_scene(clips, training, as_json=json)


def _train_scene(labels: Path, training: SceneTraining, *, as_json: bool) -> None:
    from matcher.inputs import read_sound_rows
    from matcher.show import print_json, print_table, progress_bar, say, summary
    from matcher.training.scene_material import files_of, listen
    from matcher.training.scene_run import TABLE_COLUMNS, remarks, table_rows, train_scene_encoder

    started = time.monotonic()
    training.check_target()
    rows = read_sound_rows(labels)
    with progress_bar("listening", len(files_of(rows))) as bar:
        material = listen(labels, rows, on_file=lambda path: bar.step(path.name))
    for line in material.said:
        say(line)
    with progress_bar("training", training.recipe.steps) as bar:
        card = train_scene_encoder(
            material, training, on_step=lambda _, loss: bar.step(f"loss {loss:.4g}")
        )  # fmt: skip
    for line in remarks(card["data"]["classes"], is_judged=card["figures"] is not None):
        say(line)
    if as_json:
        print_json({"out": str(training.out), **card})
    else:
        print_table("", TABLE_COLUMNS, table_rows(card))
    say(
        f'wrote {training.out}; use it with scene = "scene@{training.out}" under [fusion] of --config;'
        " kept clips are described anew with: matcher link"
    )
    used = material.n_rows - material.n_refused
    summary({"stretches": used, "left out": material.n_refused}, time.monotonic() - started)
    exit_by(done=used, failed=material.n_refused)
