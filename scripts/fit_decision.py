#!/usr/bin/env python3
"""Fit the weights from evidence to confidence, and say how good they are by film.

    .venv/bin/python scripts/fit_decision.py --films ../shared/films --seed 11

Films, and dramas generated for the purpose, are cut and edited at random. Every clip is asked of a
catalogue that holds its series, of one that does not, and of tiny ones. The best three candidates of each
answer are the cases, right or wrong. Three folds by series measure: no series is on both sides.
The fit on all of them is printed as the line for matcher/decision.py.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.dramas import catalogue, write_catalogue
from eval.edits import demo_edits, write_clip
from index.rows import NewAsset, NewProgram
from matcher.config import Settings
from matcher.decision import Calibration, Evidence
from matcher.decode import Sampling, probe
from matcher.describe import describe_files
from matcher.encoders.base import FrameEncoder
from matcher.encoders.registry import load_encoder
from matcher.linking import Linker
from matcher.records import Descriptors
from matcher.store import create_catalog, open_live

PENALTY = 1.0
LIGHT_SHARE = 0.5


@dataclass(frozen=True)
class Film:
    """One source: a program of one file, and the series that it belongs to."""

    program_id: str
    series: str
    path: Path


@dataclass(frozen=True)
class Case:
    """One candidate of one answer."""

    series: str
    evidence: Evidence
    is_right: bool
    is_first: bool


def sources(films: Path, scratch: Path, n_dramas: int, seed: int) -> list[Film]:
    """The films of a folder, and generated dramas (a sequel belongs to the series of its original)."""
    real = [
        Film(path.stem, path.stem.split("-")[0], path)
        for path in sorted(films.iterdir())
        if path.suffix in {".mp4", ".mkv", ".webm", ".mov"}
    ]
    specs = catalogue(n_dramas, seed=seed, n_twin_pairs=2, n_episodes=1, episode_seconds=30.0)
    rows = write_catalogue(specs, scratch / "dramas", workers=1)
    series = {spec.program_id: spec.twin_of or spec.program_id for spec in specs}
    return real + [Film(f"drama-{r.program_id}", f"drama-{series[r.program_id]}", Path(r.path)) for r in rows]


def make_clips(films: list[Film], scratch: Path, clips_a_film: int, seed: int) -> list[tuple[Film, Path]]:
    """Cut and edit: one to three edits, at random, a clip."""
    rng = np.random.default_rng(seed)
    made = []
    for film in films:
        length = probe(film.path).duration_seconds or 30.0
        for number in range(clips_a_film):
            duration = min(float(rng.uniform(4, 12)), length - 0.5)
            start = float(rng.uniform(0, length - duration - 0.2))
            edits = demo_edits(rng)
            n_edits = int(rng.choice([1, 1, 2, 3]))
            chosen = [edits[i] for i in sorted(rng.choice(len(edits), n_edits, replace=False))]
            out = scratch / f"{film.program_id}-{number}.mp4"
            write_clip(film.path, start, duration, chosen, out, seed=seed + number, max_side=480)
            made.append((film, out))
        print(f"{film.program_id}: {clips_a_film} clips", flush=True)
    return made


def describe(paths: list[Path], encoder: FrameEncoder, sampling: str) -> list[Descriptors | None]:
    """Descriptors of files in order."""
    return [found.descriptors for found in describe_files(paths, encoder, Sampling.parse(sampling))]


@dataclass(frozen=True)
class Material:
    """Everything that takes long: films and clips with their descriptors."""

    films: list[Film]
    programs: list[Descriptors | None]
    clip_films: list[Film]
    clips: list[Descriptors | None]


def prepare(words: argparse.Namespace, scratch: Path) -> Material:
    """Make films and clips and describe them."""
    encoder, settings = load_encoder(), Settings()
    films = sources(words.films, scratch, words.dramas, words.seed)
    clips = make_clips(films, scratch, words.clips, words.seed)
    return Material(
        films,
        describe([film.path for film in films], encoder, settings.sampling.programs),
        [film for film, _ in clips],
        describe([path for _, path in clips], encoder, settings.sampling.clips),
    )


def collect(material: Material, scratch: Path) -> list[Case]:
    """Ask every clip of catalogues with and without its series, large and tiny; keep the best three."""
    names = sorted({film.series for film in material.films})
    rng = np.random.default_rng(0)
    folds = np.array_split(rng.permutation(names), 3)
    cases = ask(material, set(names), set(names), scratch / "all")
    for number, fold in enumerate(folds):
        cases += ask(material, set(names) - set(fold), set(fold), scratch / f"without-{number}")
    for number, size in enumerate((1, 1, 2, 4)):
        few = {str(name) for name in rng.choice(names, size, replace=False)}
        cases += ask(material, few, set(names), scratch / f"few-{number}")
    return cases


def ask(material: Material, inside: set[str], asking: set[str], store_path: Path) -> list[Case]:
    """Put the series ``inside`` into a store and ask it the clips of the series ``asking``."""
    encoder, settings = load_encoder(), Settings()
    store = create_catalog(store_path, encoder.info)
    with store.writing() as writer:
        for film, found in zip(material.films, material.programs, strict=True):
            if found is not None and film.series in inside:
                asset = NewAsset(
                    film.program_id, "", "", found.duration_seconds, found.t_seconds, found.vectors
                )
                writer.add_program(NewProgram(film.program_id), [asset])
    live = open_live(store, settings.index)
    linker = Linker(live, settings)
    cases = []
    for film, clip in zip(material.clip_films, material.clips, strict=True):
        if clip is None or film.series not in asking:
            continue
        for rank, found in enumerate(linker.assess(clip, live.view)[:3]):
            if found.evidence is not None:
                right = live.programs[found.program] == film.program_id
                cases.append(Case(film.series, found.evidence, right, rank == 0))
    return cases


def fit(cases: list[Case]) -> Calibration:
    """Logistic regression with a ridge on standardized features, by Newton's method."""
    x = np.stack([case.evidence.features() for case in cases])
    y = np.array([case.is_right for case in cases], dtype=float)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = np.column_stack([(x - mean) / scale, np.ones(len(x))])
    ridge = np.diag([PENALTY] * x.shape[1] + [0.0])
    w = np.zeros(z.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ w))
        gradient = z.T @ (p - y) + ridge @ w
        hessian = (z * (p * (1 - p) + 1e-9)[:, None]).T @ z + ridge
        w -= np.linalg.solve(hessian, gradient)
    similarity, lead, frames, speed = (float(v) for v in w[:-1] / scale)
    weights = (similarity, lead, frames, speed)
    return Calibration(weights, float(w[-1] - np.array(weights) @ mean))


def confidences(calibration: Calibration, cases: list[Case]) -> NDArray[np.float64]:
    """Confidence of each case."""
    return np.array([calibration.confidence(case.evidence) for case in cases])


def report(name: str, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    """Calibration error in ten equal bins, and what the default thresholds do."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * np.mean(bins == b)
        for b in range(10)
        if np.any(bins == b)
    )
    settings = Settings().decision
    linked = confidence >= settings.link
    asked = (confidence >= settings.review) & ~linked
    print(
        f"{name}: {right.size} cases, {right.sum()} right; calibration error {error:.4f};"
        f" linked {linked.sum()} of which wrong {np.sum(linked & ~right)}; review {asked.sum()}"
        f" of which right {np.sum(asked & right)}; missed {np.sum(right & (confidence < settings.review))}"
    )


def main() -> None:
    """Collect or load the cases, measure by series, fit on all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dramas", type=int, default=18)
    parser.add_argument("--clips", type=int, default=10, help="clips a film")
    parser.add_argument("--keep", type=Path, help="keep the descriptors in this file, or take them from it")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if words.keep and words.keep.exists():
            material: Material = pickle.loads(words.keep.read_bytes())  # noqa: S301, our own file
        else:
            material = prepare(words, Path(folder))
            if words.keep:
                words.keep.write_bytes(pickle.dumps(material))
        cases = collect(material, Path(folder))
    names = sorted({case.series for case in cases})
    folds = {name: index % 3 for index, name in enumerate(np.random.default_rng(1).permutation(names))}
    held_out = np.zeros(len(cases))
    for fold in range(3):
        inside = np.array([folds[case.series] == fold for case in cases])
        fitted = fit([case for case, held in zip(cases, inside, strict=True) if not held])
        held_out[inside] = confidences(fitted, [c for c, held in zip(cases, inside, strict=True) if held])
    right = np.array([case.is_right for case in cases])
    first = np.array([case.is_first for case in cases])
    report("best candidates, by series", held_out[first], right[first])
    report("best three, by series", held_out, right)
    print(f"unknown or wrong, highest confidences: {np.round(np.sort(held_out[~right])[-5:], 3)}")
    final = fit(cases)
    weights = ", ".join(f"{w:.2f}" for w in final.weights)
    print(f"SHIPPED = Calibration(weights=({weights}), bias={final.bias:.2f})")


if __name__ == "__main__":
    main()
