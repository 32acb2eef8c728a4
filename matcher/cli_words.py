"""Options that several verbs share, and what every verb begins and ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from matcher.errors import InputError

if TYPE_CHECKING:
    from index.catalog import Catalog
    from matcher.config import Settings
    from matcher.encoders.base import FrameEncoder

PARTLY_DONE = 4

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


def list_objects(
    store: str,
    as_json: bool,
    objects: Callable[[Catalog], Any],
    columns: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[str]],
) -> None:
    """Print what a store holds of something: one JSON object a line, or a table."""
    from matcher.show import print_json, print_table
    from matcher.store import open_catalog, translated

    with translated():
        found = objects(open_catalog(store))
        if as_json:
            for value in found:
                print_json(value)
        else:
            print_table("", columns, [row(value) for value in found])


def settings_of(path: Path | None, *, no_sound: bool = False, **words: str | None) -> Settings:
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


def load_encoder_of(settings: Settings) -> FrameEncoder:
    """The encoder that the settings name."""
    from matcher.encoders.registry import load_encoder

    chosen = settings.encoder
    return load_encoder(chosen.spec, device=chosen.device, precision=chosen.precision, threads=chosen.threads)


def open_store(store: str, settings: Settings) -> tuple[FrameEncoder, Catalog]:
    """Encoder and catalog of a store that is there; what is quickly known to be wrong is said first."""
    from matcher.decode import Sampling
    from matcher.store import open_catalog

    Sampling.parse(settings.sampling.clips)
    open_catalog(store)
    encoder = load_encoder_of(settings)
    return encoder, open_catalog(store, encoder.info)


def exit_by(*, done: int, failed: int) -> None:
    """Leave with the code of a batch that is done but for some inputs, or of which nothing could be done."""
    if failed:
        raise typer.Exit(PARTLY_DONE if done else InputError.exit_code)
