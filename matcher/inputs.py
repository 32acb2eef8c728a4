"""From words and manifests to jobs: which files are which program or clip.

A manifest is a CSV file with a header; its paths are relative to its own folder. A row that cannot
be used is reported with its number and the rest goes on.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matcher.errors import InputError

PROGRAM_COLUMNS = ("program_id", "path", "asset_id", "title", "alias", "category")
CLIP_COLUMNS = ("clip_id", "path", "title")
TIERS = 3
_SAMPLE_BYTES = 65536


@dataclass(frozen=True)
class AssetJob:
    """One file of a program; ``row`` is its line in the manifest, or None."""

    path: Path
    asset_id: str
    row: int | None = None


@dataclass(frozen=True)
class ProgramJob:
    """One program to add, with its files in order."""

    program_id: str
    assets: tuple[AssetJob, ...]
    title: str = ""
    aliases: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipJob:
    """One clip to link."""

    clip_id: str
    path: Path
    title: str = ""


@dataclass(frozen=True)
class Refused:
    """A row or word that cannot be used: what it was called, and why."""

    name: str
    message: str


def one_line(text: str) -> str:
    """``text`` with control characters escaped, so that a message stays one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def program_job(
    program_id: str, paths: Sequence[Path], *, title: str, aliases: Sequence[str], categories: Sequence[str]
) -> ProgramJob:
    """The program that the words of ``matcher add`` name.

    Raises:
        InputError: An id or category is malformed, or a file comes twice.
    """
    check_id("program id", program_id)
    for category in categories:
        check_category(category)
    if len(set(paths)) < len(paths):
        raise InputError(f"program {one_line(program_id)}: one file is named twice")
    names = _distinct(path.stem for path in paths)
    assets = tuple(AssetJob(path, name) for path, name in zip(paths, names, strict=True))
    return ProgramJob(program_id, assets, title, tuple(aliases), tuple(categories))


def clip_jobs(paths: Sequence[Path], *, title: str) -> list[ClipJob]:
    """Clips named by their file's stem, or by the whole path where two share a stem."""
    stems = Counter(path.stem for path in paths)
    return [ClipJob(path.stem if stems[path.stem] == 1 else str(path), path, title) for path in paths]


def read_program_manifest(manifest: Path) -> tuple[list[ProgramJob], list[Refused]]:
    """Programs in order of their first row, and the rows that cannot be used.

    A program with a bad row is refused as a whole: it must never be half there.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    jobs: dict[str, ProgramJob] = {}
    refused: dict[str, str] = {}
    for row, values in _rows(manifest, PROGRAM_COLUMNS, required=2):
        name = values["program_id"]
        try:
            job = _program_row(manifest, row, values)
            before = jobs.get(name)
            jobs[name] = job if before is None else _merged(before, job)
        except InputError as error:
            refused.setdefault(name or f"row {row}", f"{one_line(str(manifest))} row {row}: {error}")
    good = [job for name, job in jobs.items() if name not in refused]
    return good, [Refused(name, message) for name, message in refused.items()]


def read_clip_manifest(manifest: Path) -> tuple[list[ClipJob], list[Refused]]:
    """Clips in order, and the rows that cannot be used; of rows with one id the first counts.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    jobs: dict[str, ClipJob] = {}
    refused = []
    for row, values in _rows(manifest, CLIP_COLUMNS, required=2):
        clip_id = values["clip_id"]
        try:
            check_id("clip_id", clip_id)
            if clip_id in jobs:
                raise InputError(f"clip_id {one_line(clip_id)} comes a second time; ids must differ")
            jobs[clip_id] = ClipJob(clip_id, _path(manifest, values["path"]), values["title"])
        except InputError as error:
            refused.append(Refused(clip_id or f"row {row}", f"{one_line(str(manifest))} row {row}: {error}"))
    return list(jobs.values()), refused


def fingerprint_files(paths: Iterable[Path], *extra: str) -> str:
    """Tells whether files changed: name, size, both ends of the content, and ``extra`` words.

    The whole of a film is not read: its size and 64 KiB at either end differ wherever films do.
    A file that cannot be read counts as empty; opening it will say why.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode(errors="surrogateescape") + b"\0")
        try:
            # A pipe or a device would block here; only files have a size to speak of.
            if not path.is_file():
                continue
            with path.open("rb") as file:
                size = path.stat().st_size
                digest.update(str(size).encode() + b"\0" + file.read(_SAMPLE_BYTES))
                file.seek(max(0, size - _SAMPLE_BYTES))
                digest.update(file.read(_SAMPLE_BYTES))
        except OSError:
            digest.update(b"unreadable")
    for word in extra:
        digest.update(b"\0" + word.encode())
    return digest.hexdigest()[:24]


def check_id(name: str, value: str) -> None:
    """Raise InputError for an empty id, or one that no table can hold."""
    if not value.strip():
        raise InputError(f"{name} is empty")
    if "\0" in value:
        raise InputError(f"{name} {one_line(value)} holds a NUL character")
    _check_unicode(name, value)


def check_category(category: str) -> None:
    """Raise InputError unless ``category`` is one to three names with slashes between."""
    parts = category.split("/")
    if len(parts) > TIERS or not all(part.strip() for part in parts):
        raise InputError(f"category {one_line(category)!r} is not of the form tier1/tier2/tier3")


def _check_unicode(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} {ascii(value)} is no valid Unicode; rename the file") from None


def _rows(manifest: Path, columns: Sequence[str], *, required: int) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in columns[:required] if name not in header]
            if missing:
                raise InputError(
                    f"manifest {one_line(str(manifest))} has no column {', '.join(missing)};"
                    f" its header must name {','.join(columns)} (the first {required} at least)"
                )
            reader.fieldnames = header
            rows = [
                (line, {name: (values.get(name) or "").strip() for name in columns})
                for line, values in enumerate(reader, start=2)
            ]
    except OSError as error:
        raise InputError(f"cannot read manifest {one_line(str(manifest))}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"manifest {one_line(str(manifest))} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise InputError(f"manifest {one_line(str(manifest))} has a header and no rows")
    return rows


def _program_row(manifest: Path, row: int, values: dict[str, str]) -> ProgramJob:
    check_id("program_id", values["program_id"])
    path = _path(manifest, values["path"])
    if values["category"]:
        check_category(values["category"])
    return ProgramJob(
        program_id=values["program_id"],
        assets=(AssetJob(path, values["asset_id"] or path.stem, row),),
        title=values["title"],
        aliases=tuple(part.strip() for part in values["alias"].split("|") if part.strip()),
        categories=(values["category"],) if values["category"] else (),
    )


def _path(manifest: Path, value: str) -> Path:
    if not value:
        raise InputError("path is empty")
    path = manifest.parent / value
    if not path.exists():
        raise InputError(f"no file {one_line(str(path))}")
    return path


def _merged(before: ProgramJob, job: ProgramJob) -> ProgramJob:
    asset = job.assets[0]
    if any(asset.asset_id == other.asset_id for other in before.assets):
        raise InputError(f"asset_id {one_line(asset.asset_id)} comes a second time in its program")
    return replace(
        before,
        assets=(*before.assets, asset),
        title=before.title or job.title,
        aliases=tuple(dict.fromkeys(before.aliases + job.aliases)),
        categories=tuple(dict.fromkeys(before.categories + job.categories)),
    )


def _distinct(names: Iterable[str]) -> list[str]:
    """Each name, numbered from its second use on."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return out
