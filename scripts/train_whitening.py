#!/usr/bin/env python3
"""Make matcher/encoders/lite0_whitening.safetensors: pairs of frames and their edits, closed form.

    .venv/bin/python scripts/train_whitening.py --films ../shared/films --seed 7

First it measures by film (three folds; a film is on one side only): every edited frame of the films
held out looks for its own film among all films, and the similarity that 1 % and 0.1 % of strangers
reach is the bar for recall. Then it fits on all films and writes the file.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.decode import Sampling, probe, sample_frames
from matcher.encoders import lite0
from matcher.encoders.torch_engine import TorchEncoder
from matcher.encoders.whitening import Whitening, fit_pair_whitening
from matcher.training.frame_edits import random_edit
from matcher.views import is_blank, square

EDITS_A_FRAME = 4
FRAMES_A_FILM = 150
TARGET = Path(__file__).parent.parent / "matcher" / "encoders" / "lite0_whitening.safetensors"


@dataclass(frozen=True)
class Pairs:
    """Raw descriptors. ``originals`` (m, r) with ``film`` (m,); ``edited`` (n, r) of row ``source`` (n,)."""

    originals: NDArray[np.float32]
    film: NDArray[np.int64]
    edited: NDArray[np.float32]
    source: NDArray[np.int64]

    def fit(self, films: NDArray[np.int64], *, mean_share: float, regularization: float) -> Whitening:
        """Fit on the pairs of ``films``; a film counts by the root of its length."""
        rows = np.isin(self.film[self.source], films)
        source = self.source[rows]
        counts = np.bincount(self.film[self.source])
        weights = 1 / np.sqrt(counts[self.film[source]])
        return fit_pair_whitening(
            self.originals[source], self.edited[rows], d=512, regularization=regularization,
            mean_share=mean_share, weights=weights.astype(np.float32),
        )  # fmt: skip


def collect(paths: list[Path], seed: int) -> Pairs:
    """Sample, edit and describe every film."""
    rng = np.random.default_rng(seed)
    encoder = TorchEncoder(lite0.torch_model(), lite0.info_without_whitening(), input_side=lite0.INPUT_SIDE)
    originals, film, edited, source = [], [], [], []
    for number, path in enumerate(paths):
        seconds = probe(path).duration_seconds or 600.0
        pictures = [
            frame.image
            for frame in sample_frames(path, Sampling(fps=min(4.0, FRAMES_A_FILM / seconds), max_side=640))
            if not is_blank(frame.image)
        ]
        print(f"{path.name}: {len(pictures)} frames", flush=True)
        for picture in pictures:
            copies = [random_edit(picture, rng)[1] for _ in range(EDITS_A_FRAME)]
            squares = np.stack([square(image, lite0.INPUT_SIDE) for image in [picture, *copies]])
            described = encoder.encode(squares)
            source.extend([len(originals)] * EDITS_A_FRAME)
            originals.append(described[0])
            film.append(number)
            edited.extend(described[1:])
    return Pairs(np.stack(originals), np.array(film), np.stack(edited), np.array(source))


def measure(pairs: Pairs, family: NDArray[np.int64], *, mean_share: float, regularization: float) -> str:
    """Top-1 and recall at rare strangers, each film described by a whitening that never saw it."""
    films = np.unique(pairs.film)
    folds = np.array_split(np.random.default_rng(0).permutation(np.unique(family)), 3)
    own, other = [], []
    for fold in folds:
        held_out = films[np.isin(family, fold)]
        fitted = pairs.fit(
            np.setdiff1d(films, held_out), mean_share=mean_share, regularization=regularization
        )
        asked = np.isin(pairs.film[pairs.source], held_out)
        film = pairs.film[pairs.source[asked]]
        similarity = fitted.apply(pairs.edited[asked]) @ fitted.apply(pairs.originals).T
        own.append(np.where(pairs.film[None] == film[:, None], similarity, -1).max(axis=1))
        stranger = family[pairs.film][None] != family[film][:, None]
        other.append(np.where(stranger, similarity, -1).max(axis=1))
    mine, theirs = np.concatenate(own), np.concatenate(other)
    bars = np.quantile(theirs, [0.99, 0.999])
    return (
        f"top-1 {np.mean(mine > theirs):.4f}, recall {np.mean(mine > bars[0]):.3f} at 1 % and"
        f" {np.mean(mine > bars[1]):.3f} at 0.1 % strangers (similarity {bars[0]:.3f}, {bars[1]:.3f})"
    )


def main() -> None:
    """Read the words, measure by film, fit on all, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="folder of films")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--mean-share", type=float, default=0.5)
    parser.add_argument("--regularization", type=float, default=0.1)
    parser.add_argument("--grid", action="store_true", help="measure other settings too")
    parser.add_argument("--out", type=Path, default=TARGET)
    words = parser.parse_args()
    paths = sorted(p for p in words.films.iterdir() if p.suffix in {".mp4", ".mkv", ".webm", ".mov"})
    pairs = collect(paths, words.seed)
    # Films that share a series share its set: strangers are films of another series.
    names = [path.stem.split("-")[0] for path in paths]
    family = np.unique(names, return_inverse=True)[1]
    grid = [(words.mean_share, words.regularization)]
    if words.grid:
        grid = [(share, reg) for share in (0.0, 0.5, 0.8, 1.0) for reg in (0.01, 0.1, 0.5)]
    for share, reg in grid:
        figures = measure(pairs, family, mean_share=share, regularization=reg)
        print(f"mean share {share}, regularization {reg}: {figures}", flush=True)
    fitted = pairs.fit(
        np.unique(pairs.film), mean_share=words.mean_share, regularization=words.regularization
    )
    command = (
        f"scripts/train_whitening.py --seed {words.seed} --mean-share {words.mean_share}"
        f" --regularization {words.regularization}"
    )
    fitted.save(words.out, notes={"command": command, "films": ", ".join(path.stem for path in paths)})
    print(f"wrote {words.out} ({words.out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
