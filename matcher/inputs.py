"""From words and manifests to jobs: which files are which program or clip.

A manifest is a CSV file with a header; its paths are relative to its own folder. A row that cannot
be used is reported with its number and the rest goes on.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matcher.errors import InputError

PROGRAM_COLUMNS = ("program_id", "path", "asset_id", "title", "alias", "category")
CLIP_COLUMNS = ("clip_id", "path", "title", "description")
SOUND_COLUMNS = ("path", "label", "start_seconds", "end_seconds")
TIERS = 3
_FILM_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".m4v"})
_SAMPLE_BYTES = 65536


def film_files(folder: Path) -> list[Path]:
    """What in a folder is named like a film, by name.

    Raises:
        OSError: The folder cannot be read.
    """
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _FILM_SUFFIXES)


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
    description: str = ""


@dataclass(frozen=True)
class SoundJob:
    """A labelled stretch of a file's sound; ``row`` is its line in the manifest.

    Attributes:
        path: A film or a sound.
        label: What is heard there.
        row: Its line in the manifest.
        start_seconds: From the beginning of the file.
        end_seconds: Likewise; infinity for the end of the file.
    """

    path: Path
    label: str
    row: int
    start_seconds: float = 0.0
    end_seconds: float = math.inf


@dataclass(frozen=True)
class Refused:
    """A row or word that cannot be used: what it was called, why, and the path that it gave."""

    name: str
    message: str
    path: str = ""


def one_line(text: str) -> str:
    """``text`` with control characters escaped, so that a message stays one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def listed(names: Sequence[str], most: int = 5) -> str:
    """``names`` with commas between, in one line; of more than ``most`` the first, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(one_line(name) for name in names[:most]) + more


def program_job(
    program_id: str, paths: Sequence[Path], *, title: str, aliases: Sequence[str], categories: Sequence[str]
) -> ProgramJob:
    """The program that the words of ``matcher add`` name.

    Raises:
        InputError: An id or category is malformed, or a file comes twice.
    """
    check_id("program id", program_id)
    for name, text in [("title", title), *(("alias", alias) for alias in aliases)]:
        check_unicode(name, text)
    for category in categories:
        check_category(category)
    for path in paths:
        check_unicode("file name", str(path))
    if len(set(paths)) < len(paths):
        raise InputError(f"program {one_line(program_id)}: one file is named twice")
    names = _distinct(path.stem for path in paths)
    assets = tuple(AssetJob(path, name) for path, name in zip(paths, names, strict=True))
    return ProgramJob(program_id, assets, title, tuple(aliases), tuple(categories))


def clip_jobs(paths: Sequence[Path], *, title: str) -> list[ClipJob | Refused]:
    """Clips named by their file's stem, or by the whole path where two share a stem; in order.

    Raises:
        InputError: The title is no valid Unicode.
    """
    check_unicode("title", title)
    stems = Counter(path.stem for path in paths)
    jobs: dict[str, ClipJob] = {}
    found: list[ClipJob | Refused] = []
    for path in paths:
        clip_id = path.stem if stems[path.stem] == 1 else str(path)
        try:
            check_unicode("file name", str(path))
            if clip_id in jobs:
                raise InputError(f"clip {one_line(clip_id)} is named a second time")
            jobs[clip_id] = ClipJob(clip_id, path, title)
            found.append(jobs[clip_id])
        except InputError as error:
            found.append(Refused(clip_id, str(error), str(path)))
    return found


def read_program_manifest(manifest: Path) -> tuple[list[ProgramJob], list[Refused]]:
    """Programs in order of their first row, and the rows that cannot be used.

    A program with a bad row is refused as a whole: it must never be half there.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    jobs: dict[str, ProgramJob] = {}
    refused: dict[str | int, Refused] = {}  # by id, or by row where there is none
    for row, values in _rows(manifest, PROGRAM_COLUMNS, required=2):
        name = values.cells["program_id"]
        try:
            job = _program_row(manifest, row, values)
            before = jobs.get(name)
            jobs[name] = job if before is None else _merged(before, job)
        except InputError as error:
            refused.setdefault(name or row, _refused_row(manifest, row, name, values, error))
    good = [job for name, job in jobs.items() if name not in refused]
    return good, list(refused.values())


def read_clip_rows(manifest: Path) -> list[ClipJob | Refused]:
    """Every row in order, as a clip or with why it is none; of rows with one id the first counts.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    seen: set[str] = set()
    found: list[ClipJob | Refused] = []
    for row, values in _rows(manifest, CLIP_COLUMNS, required=2):
        clip_id = values.cells["clip_id"]
        try:
            check_id("clip_id", clip_id)
            if clip_id in seen:
                raise InputError(f"clip_id {one_line(clip_id)} comes a second time; ids must differ")
            path = _path(manifest, values)
            seen.add(clip_id)
            found.append(ClipJob(clip_id, path, values.cells["title"], values.cells["description"]))
        except InputError as error:
            found.append(_refused_row(manifest, row, clip_id, values, error))
    return found


def read_clip_manifest(manifest: Path) -> tuple[list[ClipJob], list[Refused]]:
    """:func:`read_clip_rows`, the clips apart from the rest."""
    rows = read_clip_rows(manifest)
    clips = [row for row in rows if isinstance(row, ClipJob)]
    return clips, [row for row in rows if isinstance(row, Refused)]


def read_sound_rows(manifest: Path) -> list[SoundJob | Refused]:
    """Every labelled stretch in order, or why a row is none; one that comes twice counts once.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    seen: dict[tuple[Path, float, float], int] = {}
    found: list[SoundJob | Refused] = []
    for row, values in _rows(manifest, SOUND_COLUMNS, required=2):
        try:
            job = _sound_row(manifest, row, values)
            before = seen.setdefault((job.path.resolve(), job.start_seconds, job.end_seconds), row)
            if before != row:
                raise InputError(f"this stretch is that of row {before}; label it once")
            found.append(job)
        except InputError as error:
            found.append(_refused_row(manifest, row, values.cells["label"], values, error))
    return found


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
    check_unicode(name, value)


def check_category(category: str) -> None:
    """Raise InputError unless ``category`` is one to three names with slashes between."""
    check_unicode("category", category)
    parts = category.split("/")
    if len(parts) > TIERS or not all(part.strip() for part in parts):
        raise InputError(f"category {one_line(category)!r} is not of the form tier1/tier2/tier3")


def check_unicode(name: str, value: str) -> None:
    """Raise InputError for what came from the system as bytes that are not UTF-8: no table holds it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        remedy = "rename the file" if name == "file name" else "write it in UTF-8"
        raise InputError(f"{name} {value!a} is no valid Unicode; {remedy}") from None


@dataclass(frozen=True)
class _Row:
    """One row: its cells without the spaces around them by column, and the path with them."""

    cells: dict[str, str]
    raw_path: str
    surplus: int

    def check(self) -> None:
        """Raise InputError where cells have no column: a comma in a title would shift the rest unseen."""
        if self.surplus:
            raise InputError(
                f"{self.surplus} more cells than the header has columns; put quotes around text with commas"
            )


def _rows(manifest: Path, columns: Sequence[str], *, required: int) -> list[tuple[int, _Row]]:
    """The rows that are not empty, numbered as a spreadsheet does: the header is row 1."""
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"cannot read manifest {one_line(str(manifest))}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"manifest {one_line(str(manifest))} is not a CSV file in UTF-8: {error}") from error
    header = [name.strip() for name in lines[0]] if lines else []
    missing = [name for name in columns[:required] if name not in header]
    if missing:
        raise InputError(
            f"manifest {one_line(str(manifest))} has no column {', '.join(missing)};"
            f" its header must name {','.join(columns)} (the first {required} at least)"
        )
    rows = [
        (number, _row(header, cells, columns))
        for number, cells in enumerate(lines[1:], start=2)
        if any(cells)
    ]
    if not rows:
        raise InputError(f"manifest {one_line(str(manifest))} has a header and no rows")
    return rows


def _row(header: Sequence[str], cells: Sequence[str], columns: Sequence[str]) -> _Row:
    values = dict(zip(header, cells, strict=False))
    named = {name: values.get(name, "").strip() for name in columns}
    return _Row(named, values.get("path", ""), sum(1 for cell in cells[len(header) :] if cell.strip()))


def _refused_row(manifest: Path, row: int, name: str, values: _Row, error: InputError) -> Refused:
    message = f"{one_line(str(manifest))} row {row}: {error}"
    return Refused(name or f"row {row}", message, values.cells["path"])


def _program_row(manifest: Path, row: int, values: _Row) -> ProgramJob:
    cells = values.cells
    check_id("program_id", cells["program_id"])
    path = _path(manifest, values)
    if cells["category"]:
        check_category(cells["category"])
    return ProgramJob(
        program_id=cells["program_id"],
        assets=(AssetJob(path, cells["asset_id"] or path.stem, row),),
        title=cells["title"],
        aliases=tuple(part.strip() for part in cells["alias"].split("|") if part.strip()),
        categories=(cells["category"],) if cells["category"] else (),
    )


def _sound_row(manifest: Path, row: int, values: _Row) -> SoundJob:
    cells = values.cells
    path = _path(manifest, values)
    if not cells["label"]:
        raise InputError("label is empty; write what is heard, or take the row out")
    check_id("label", cells["label"])
    start_seconds = _seconds(cells, "start_seconds", 0.0)
    end_seconds = _seconds(cells, "end_seconds", math.inf)
    if end_seconds - start_seconds < 1 - 1e-9:
        raise InputError(
            f"from {start_seconds:g} to {end_seconds:g} s is less than a second; label a longer stretch"
        )
    return SoundJob(path, cells["label"], row, start_seconds, end_seconds)


def _seconds(cells: dict[str, str], name: str, usual: float) -> float:
    if not cells[name]:
        return usual
    try:
        seconds = float(cells[name])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(
            f"{name} {one_line(cells[name])!r} is no number of seconds; write one such as 12.5, or leave it"
            f" empty for the {'beginning' if usual == 0 else 'end'} of the file"
        )
    return seconds


def _path(manifest: Path, values: _Row) -> Path:
    """The row's file; a name may begin or end with spaces, but spaces after a comma are none of it."""
    values.check()
    if not values.cells["path"]:
        raise InputError("path is empty")
    paths = [manifest.parent / name for name in (values.cells["path"], values.raw_path)]
    check_unicode("file name", str(paths[0]))
    found = next((path for path in paths if _exists(path)), None)
    if found is None:
        raise InputError(f"no file {one_line(str(paths[0]))}")
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be looked into: opening it says why
        return True


def _merged(before: ProgramJob, job: ProgramJob) -> ProgramJob:
    asset = job.assets[0]
    if any(asset.asset_id == other.asset_id for other in before.assets):
        raise InputError(
            f"asset_id {one_line(asset.asset_id)} comes a second time in its program;"
            " give each file its own asset_id"
        )
    return replace(
        before,
        assets=(*before.assets, asset),
        title=before.title or job.title,
        aliases=tuple(dict.fromkeys(before.aliases + job.aliases)),
        categories=tuple(dict.fromkeys(before.categories + job.categories)),
    )


def _distinct(names: Iterable[str]) -> list[str]:
    """Each name, numbered from its second use on."""
    out: list[str] = []
    for name in names:
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        out.append(name if name not in out else next(new for new in numbered if new not in out))
    return out
