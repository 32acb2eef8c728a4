"""Making many files in worker processes: the pool, unfinished names, and small records kept as JSON.

A file has its name only when it is whole, so whoever is cut off goes on with what is missing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.edits import ClipTruth, TruthSegment
from matcher.errors import InputError, MatcherError

Submit = Callable[..., "Future[Any]"]


@contextmanager
def worker_pool(n: int, *, broken: str) -> Iterator[Submit]:
    """Spawned processes that end with the block, however it ends.

    Args:
        n: How many; 0 does all work at once in this process.
        broken: What to say where a process is ended from outside.

    Yields:
        What takes a function and its words, and gives a future.

    Raises:
        MatcherError: A process was ended from outside.
    """
    if n == 0:
        yield _at_once
        return
    before = {child.pid for child in multiprocessing.active_children()}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, mp_context=context, initializer=_start_worker)
    try:
        yield pool.submit
    except BaseException as error:
        for child in multiprocessing.active_children():
            if child.pid not in before:
                child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise MatcherError(broken) from error
        raise
    pool.shutdown()


def _at_once(work: Callable[..., Any], *words: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(work(*words))
    return future


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def as_done(submit: Submit, tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Results as they come; each task is a function and its words."""
    for future in as_completed([submit(*task) for task in tasks]):
        yield future.result()


def part_name(path: Path) -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


@contextmanager
def saying_why(path: Path, option: str) -> Iterator[None]:
    """Errors that any process can take apart, without what only the worker knows.

    Args:
        path: The file being written.
        option: Which names another folder, as "--keep".

    Raises:
        InputError: The system refused to read or write.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; make room, or choose another {option}"
        ) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write as a whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    part.replace(path)


def truth_json(truth: ClipTruth) -> dict[str, Any]:
    """What is known of a clip, as an object."""
    value = asdict(truth)
    value["path"] = truth.path.as_posix()
    for segment, of in zip(value["segments"], truth.segments, strict=True):
        segment["source"] = of.source.as_posix()
    return {**value, "edits": list(truth.edits), "segments": list(value["segments"])}


def truth_from_json(value: dict[str, Any]) -> ClipTruth:
    """The reverse of :func:`truth_json`."""
    segments = tuple(TruthSegment(**{**s, "source": Path(s["source"])}) for s in value["segments"])
    return ClipTruth(
        **{**value, "path": Path(value["path"]), "edits": tuple(value["edits"]), "segments": segments}
    )
