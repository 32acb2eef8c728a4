"""What a large catalogue takes: rates measured on a small store, and what they make when multiplied.

``python -m eval.capacity`` prints the arithmetic of ``docs/capacity.md``; with a store, what that page
measures of one: bytes of a row, the rate of comparing kept descriptors with new ones, and what share of the
clips a program reaches. It reads the store and writes nothing.

Shape letters: ``n`` vectors, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from index.base import Vectors
from index.catalog import Catalog
from index.drift import near
from index.files import folder_bytes
from index.reach import Reach
from index.rows import KINDS, Kind

#: The example, and the rates that docs/capacity.md says the origin of.
PLAN: dict[str, float] = {"programs": 60_000, "hours": 30, "clips": 30e6, "new_programs": 20}
RATES: dict[str, float] = {
    "frame_bytes": 1032, "sound_bytes": 263, "clip_bytes": 43_810, "link_bytes": 2015,
    "frames_a_clip": 38.5, "sounds_a_clip": 28.0, "frames_a_scene": 15.3, "sounds_a_scene": 1.0,
    "scene_ns": 14.5, "sound_ns": 7.3, "held_bytes": 1470, "peak_bytes": 2463,
    "realtime": 109, "cores": 2, "with_sound": 1.08, "key_frames": 5.4,
    "link_seconds": 0.31, "relink_seconds": 0.03, "pq_bytes": 56, "shot_share": 0.2,
}  # fmt: skip
#: What, by which formula of the names above and of the rows before, in which unit, divided by what.
ROWS: tuple[tuple[str, str, str, str, float], ...] = (
    ("frames", "frames", "programs * hours * 3600", "G", 1e9),
    ("sounds, two a second", "sounds", "2 * frames", "G", 1e9),
    ("tables of frames", "frame_disk", "frames * frame_bytes", "TB", 1e12),
    ("tables of sounds", "sound_disk", "sounds * sound_bytes", "TB", 1e12),
    ("kept clips", "clip_disk", "clips * clip_bytes", "TB", 1e12),
    ("links with what they rest on", "link_disk", "clips * link_bytes", "GB", 1e9),
    ("memory, one stage, frames (`ivf-pq`)", "one_stage", "frames * pq_bytes", "GB", 1e9),
    ("the same of sounds", "one_stage_sounds", "sounds * pq_bytes", "GB", 1e9),
    ("memory, two stages, frames", "two_stage", "frames * (8 + shot_share * (pq_bytes - 8 + 24))", "GB", 1e9),
    ("memory of a night: held", "held", "clips * held_bytes", "GB", 1e9),
    ("and at its peak, while it reads them", "peak", "clips * peak_bytes", "GB", 1e9),
    ("first ingest, 1 frame a second", "ingest", "programs * hours / realtime * cores * with_sound",
     "1,000 core hours", 1e3),
    ("the same of key frames", "ingest_keys", "ingest / key_frames", "1,000 core hours", 1e3),
    ("first link of the clips, small index", "link", "clips * link_seconds / 3600", "core hours", 1),
    ("a night: full, small index", "full", "clips * relink_seconds / 3600", "core hours", 1),
    ("new vectors", "new_vectors", "new_programs * hours * 3600 * 3", "M", 1e6),
    ("a night: new frames against kept", "compare_frames",
     "clips * frames_a_clip * new_programs * hours * 3600 / frames_a_scene * scene_ns / 1e9 / 3600",
     "core hours", 1),
    ("a night: new sounds against kept", "compare_sounds",
     "clips * sounds_a_clip * new_programs * hours * 7200 / sounds_a_scene * sound_ns / 1e9 / 3600",
     "core hours", 1),
    ("share of the k nearest that is new", "x", "100 * new_programs / programs", "%", 0.01),
)  # fmt: skip


def arithmetic(plan: Mapping[str, float] = PLAN, rates: Mapping[str, float] = RATES) -> dict[str, float]:
    """The value of every row, by its name; the formulas use no more than numbers and ``+ * / - ()``."""
    values = {**plan, **rates}
    for _, name, formula, _, _ in ROWS:
        values[name] = float(eval(formula, {"__builtins__": {}}, values))  # noqa: S307 - our own words, above
    return values


def table() -> str:
    """The arithmetic in Markdown."""
    values = arithmetic()
    lines = ["| what | formula | makes |", "|---|---|---|"]
    for what, name, formula, unit, divided in ROWS:
        value = values[name] / divided
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        lines.append(f"| {what} | `{name} = {formula}` | {shown} {unit} |")
    return "\n".join(lines)


def row_bytes(catalog: Catalog) -> dict[str, float]:
    """Bytes on the disk of a row of each table; of a compacted store they are those of the rows alone."""
    folder, counts = catalog.path / "tables", catalog.counts()
    return {
        name: folder_bytes(folder / f"{name}.lance") / counts[name]
        for name in ("frames", "sounds", "clips", "links")
        if counts.get(name)
    }


def program_vectors(catalog: Catalog, kind: Kind = "frames") -> list[Vectors]:
    """(n, d) of each program, in time order."""
    return [catalog.frames_of(record.number, kind).vectors for record in catalog.programs()]


def clip_vectors(catalog: Catalog, kind: Kind, most: int) -> list[Vectors]:
    """(n, d) of each of so many clips, evenly from among all."""
    every = max(1, catalog.counts()["clips"] // most)
    found: list[Vectors] = []
    for batch in catalog.iter_clip_batches():
        rows, starts = (
            (batch.frames, batch.frame_starts) if kind == "frames" else (batch.sounds, batch.sound_starts)
        )
        spans = list(pairwise(starts.tolist()))[::every]
        found += [rows[start:stop].astype(np.float32) for start, stop in spans]
    return found


def made_up_scenes(n: int, d: int, each: int = 4) -> Vectors:
    """So many scenes of ``each`` vectors at cosine 0.95 to their middle."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((n, d), dtype=np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    return near(np.repeat(middles, each, axis=0), 0.95, rng)


def scene_rate(new: Vectors, rows: Vectors, *, repeat: int = 3) -> tuple[float, float]:
    """Vectors a scene, and ns of processor time for a row and a scene, where a row is near none of them.

    What a row costs by itself counts too, so there must be thousands of scenes.

    Args:
        new: (n, d) of new programs.
        rows: (m, d) kept; the best of several goes counts.
        repeat: How many.
    """
    reach = Reach(new)
    bars = np.full(len(rows), 0.99, np.float32)
    bars[0] = -1.0  # one is near all of them
    times = []
    for _ in range(repeat):
        started = time.process_time()
        reach.reached(rows, bars)
        times.append(time.process_time() - started)
    return len(new) / reach.n_scenes, min(times) / len(rows) / reach.n_scenes * 1e9


def reached_shares(
    programs: Sequence[Vectors], clips: Sequence[Vectors], ks: Sequence[int]
) -> dict[int, float]:
    """The share of clips that have a frame of a program among the k nearest of any of their own, on average.

    Programs are exchangeable: one of those that are there stands for one that comes.
    """
    owner = np.repeat(np.arange(len(programs)), [len(vectors) for vectors in programs])
    stored = np.concatenate(programs)
    most = min(max(ks), len(stored))
    named: dict[int, list[int]] = {k: [] for k in ks}
    for clip in (clip for clip in clips if len(clip)):
        nearest = owner[np.argsort(-(clip @ stored.T), axis=1, kind="stable")[:, :most]]
        for k, counts in named.items():
            counts.append(len(np.unique(nearest[:, :k])))
    return {k: float(np.mean(counts)) / len(programs) for k, counts in named.items()}


def measure(store: Path, *, most: int = 600) -> dict[str, object]:
    """What ``docs/capacity.md`` measures of a store with programs and kept clips."""
    catalog = Catalog.open(store)
    found: dict[str, object] = {"bytes": row_bytes(catalog)}
    for kind in KINDS:
        if catalog.model_of(kind) is None:
            continue
        programs, clips = program_vectors(catalog, kind), clip_vectors(catalog, kind, most)
        stored, kept = np.concatenate(programs), np.concatenate(clips)[:8192]
        _, ns = scene_rate(made_up_scenes(5000, stored.shape[1]), kept)
        found[kind] = {
            "a_clip": float(np.mean([len(clip) for clip in clips])),
            "vectors_a_scene": len(stored) / Reach(stored).n_scenes,
            "ns_a_row_and_scene": ns,
        }
        if kind == "frames":
            found["reached"] = reached_shares(programs, clips, (1, 4, 20, 100))
    return found


def main() -> None:
    """The arithmetic; with a store, what is measured of it."""
    words = sys.argv[1:]
    sys.stdout.write((json.dumps(measure(Path(words[0])), indent=1) if words else table()) + "\n")


if __name__ == "__main__":
    main()
