"""``matcher doctor``: what is installed, what will be used, whether the store is whole."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matcher.config import Settings, cache_folder
from matcher.errors import MatcherError
from matcher.inputs import one_line

PACKAGES = ("av", "lancedb", "numpy", "onnxruntime", "timm", "torch", "open_clip_torch", "typer")


@dataclass(frozen=True)
class Check:
    """One finding; ``exit_code`` is what a fault makes of the whole run."""

    name: str
    ok: bool
    finding: str
    exit_code: int = 1


def examine(store: str | Path | None, settings: Settings) -> list[Check]:
    """Look at everything that a run relies on; nothing raises."""
    checks = [_python(), _packages(), _attempt("faiss", _faiss), _attempt("cache", _cache)]
    checks.append(_attempt("encoder", lambda: _encoder(settings)))
    checks.append(_attempt("text", lambda: _text(settings)))
    if store is not None:
        checks.extend(_store(store, settings))
    return checks


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except MatcherError as error:
        return Check(name, False, one_line(str(error)), error.exit_code)
    except Exception as error:  # a broken package may raise anything, and saying so is the job here
        return Check(name, False, one_line(f"{type(error).__name__}: {error}"))


def _python() -> Check:
    return Check(
        "python", True, f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"
    )


def _packages() -> Check:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", False, f"missing: {', '.join(missing)}; pip install program-matcher[cpu]", 3)
    return Check("packages", True, ", ".join(versions))


def _faiss() -> str:
    from index.faiss_backend import describe
    from matcher.store import translated

    with translated():
        found = describe()
    return f"{found.distribution} {found.version}, {found.gpu_count} GPUs"


def _cache() -> str:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise MatcherError(f"{folder} cannot be written; set MATCHER_CACHE to a folder that can")
    return str(folder)


def _encoder(settings: Settings) -> str:
    from matcher.encoders.registry import load_encoder

    chosen = settings.encoder
    encoder = load_encoder(chosen.spec, device=chosen.device, precision=chosen.precision)
    return f"{encoder.info.spec} ({encoder.info.fingerprint}, {encoder.info.d} dimensions): {encoder.engine}"


def _text(settings: Settings) -> str:
    from matcher.encoders.scene import load_scene_encoder
    from matcher.encoders.text import load_text_encoder

    if not settings.fusion.enabled:
        return "no embeddings are made"
    if settings.fusion.scene:
        load_scene_encoder(settings.fusion.scene)
    info = load_text_encoder(settings.fusion.text, device=settings.encoder.device).info
    reader = ""
    if settings.fusion.ocr:
        from matcher.ocr import load_reader

        load_reader()
        reader = "; texts in pictures are read"
    return f"{info.spec} ({info.fingerprint}, {info.d} dimensions){reader}"


def _store(store: str | Path, settings: Settings) -> Iterator[Check]:
    from matcher.store import open_catalog, open_every, translated

    try:
        with translated():
            catalog = open_catalog(store)
            counts = ", ".join(f"{count} {name}" for name, count in catalog.counts().items())
            yield Check("store", True, f"{catalog.place}: {counts}; made by {catalog.model.name}")
            every = open_every(catalog, settings.index)
            problems = [problem for live in every for problem in live.verify(full=True)]
    except MatcherError as error:
        yield Check("store", False, one_line(str(error)), error.exit_code)
        return
    if problems:
        finding = f"{len(problems)} faults, first: {problems[0]}; run `matcher index rebuild`"
        yield Check("index", False, one_line(finding), 2)
    else:
        held = ", ".join(f"{live.ntotal} {live.table} ({live.kind})" for live in every)
        yield Check("index", True, f"{held}, equal to the tables")
