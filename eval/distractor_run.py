"""Links a benchmark's clips again while strangers' frames fill the index; nothing is decoded again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eval.benchmark_material import Material
from eval.distractors import distractor_blocks, sizes
from eval.figures import figures
from index.rows import NewAsset, NewProgram
from matcher.config import Settings
from matcher.linking import Linker
from matcher.pipeline import descriptors_of
from matcher.show import progress_bar, say
from matcher.store import open_catalog, open_linker, save_caches, translated

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from matcher.encoders.base import FrameEncoder

PublicObject = dict[str, Any]


def with_distractors(
    made: Material,
    out: Path,
    settings: Settings,
    encoder: FrameEncoder,
    n_distractors: int,
    answers: Sequence[Mapping[str, Any]],
    *,
    top: int,
) -> list[PublicObject]:
    """Take the figures at several numbers of distractors, from none to all.

    Args:
        made: The benchmark.
        out: The run's folder with the store in it; a copy of the store is filled, and deleted at the end.
        settings: Of the pipeline.
        encoder: Describes the distractors, once.
        n_distractors: Frames, at most.
        answers: Those without distractors: a clip that could not be read stays as it is.
        top: Best guesses named for each clip.

    Returns:
        For each number ``{"n": distractors, "frames": in the index, "groups": …}`` as
        :func:`eval.figures.figures` gives them.
    """
    blocks = distractor_blocks(made.plan, made.folder, encoder, n_distractors)
    clips = [clip.info for clip in made.clips]
    copy = out / "store-with-distractors"
    shutil.rmtree(copy, ignore_errors=True)
    rows: list[PublicObject] = []
    try:
        shutil.copytree(out / "store", copy)
        catalog = open_catalog(copy, encoder.info)
        filled = 0
        with translated(), catalog.writing() as writer:
            for size in sizes(n_distractors):
                started = time.monotonic()
                fill(writer, blocks, filled, size)
                filled = size
                live = save_caches(catalog, settings.index, writer)
                linker = open_linker(catalog, settings, live)
                again = (
                    relinked(catalog, linker, encoder.info.fingerprint, answers, top=top) if size else answers
                )
                rows.append({"n": size, "frames": live.ntotal, **figures(clips, made.truth, again)})
                say(f"distractors: {size}, {time.monotonic() - started:.1f} s")
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return rows


def fill(writer: Writer, blocks: Sequence[NDArray[np.float16]], start: int, stop: int) -> None:
    """Add the distractors from ``start`` to ``stop``, a program for each block or part of one."""
    first = 0
    for block in blocks:
        low, high = max(start - first, 0), min(stop - first, len(block))
        if low < high:
            name = f"distractor-{first + low:08d}"
            vectors = np.asarray(block[low:high], np.float32)
            t_seconds = np.arange(len(vectors), dtype=np.float64)
            asset = NewAsset(f"{name}-e01", name, name, float(len(vectors)), t_seconds, vectors)
            writer.add_program(NewProgram(name, name), [asset])
            if writer.needs_compaction():
                writer.compact()
        first += len(block)


def relinked(
    catalog: Catalog, linker: Linker, model: str, answers: Sequence[Mapping[str, Any]], *, top: int
) -> list[Mapping[str, Any]]:
    """Answers from kept descriptors, in the order of ``answers``; those of clips not kept stay."""
    found: dict[str, Mapping[str, Any]] = {answer["clip_id"]: answer for answer in answers}
    with progress_bar("linking again", len(found)) as bar:
        for clip in catalog.iter_clips(list(found)):
            record = clip.record
            answer = linker.link(record.clip_id, record.path, descriptors_of(clip), model=model, top=top)
            found[record.clip_id] = answer.to_json()
            bar.step(record.clip_id)
    return list(found.values())
