"""Strangers' frames that fill the index, to see how the answers hold as the catalogue grows.

A distractor program is a thousand frames of further generated dramas and of collages from the films
outside the catalogue, each frame in several croppings and colours, in no order of time. They are
described once and kept as ``distractors/<model>/00001.npy``.

Films outside the catalogue are what unknown clips are cut from. A frame of them, however edited, would
be a true match of such a clip; so two places are always put side by side and mixed, which leaves the
look of a real picture and nothing that a clip rightly matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.benchmark import BenchmarkPlan, Source, sources
from eval.dramas import catalogue, render_episode
from eval.making import part_name
from eval.video_reader import read_frames
from matcher.encoders.base import FrameEncoder
from matcher.show import progress_bar
from matcher.views import is_blank, square

Picture = NDArray[np.uint8]

FRAMES_A_PROGRAM = 1000
#: Of each picture that is drawn or read.
VERSIONS = 4
#: Shares of the whole number at which figures are taken.
SHARES = (0.0, 0.01, 0.1, 1.0)
_FILM_SHARE = 0.4
_WINDOW_SECONDS, _WINDOW_PICTURES = 12.0, 60
_READ_SIDE = 320
_EDIT = 43
#: Far from the seeds that people choose for the catalogue itself.
_OTHER_DRAMAS = 2_000_003


def sizes(n_distractors: int) -> list[int]:
    """The numbers of distractors at which figures are taken, ascending: none, a hundredth, a tenth, all."""
    return sorted({round(share * n_distractors) for share in SHARES})


def distractor_blocks(
    plan: BenchmarkPlan, material: Path, encoder: FrameEncoder, n_distractors: int
) -> list[NDArray[np.float16]]:
    """Descriptors of so many distractors, a block a program; what is kept is not made again.

    Args:
        plan: Whose films and seed.
        material: The benchmark's folder, where they are kept.
        encoder: Describes them.
        n_distractors: Frames; a larger number begins with the same ones.

    Returns:
        Blocks of (at most 1000, d) float16, read from the disk as they are used.
    """
    folder = material / "distractors" / encoder.info.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    n_blocks = -(-n_distractors // FRAMES_A_PROGRAM)
    paths = [folder / f"{number + 1:05d}.npy" for number in range(n_blocks)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with progress_bar("making distractors", len(missing)) as bar:
        for number in missing:
            _write_block(plan, material, encoder, number, paths[number])
            bar.step(paths[number].stem)
    blocks = [np.load(path, mmap_mode="r") for path in paths]
    if blocks:
        blocks[-1] = blocks[-1][: n_distractors - FRAMES_A_PROGRAM * (n_blocks - 1)]
    return blocks


def _write_block(plan: BenchmarkPlan, material: Path, encoder: FrameEncoder, number: int, path: Path) -> None:
    vectors, batch = [], []
    for picture in distractor_pictures(plan, sources(plan, material), number):
        batch.append(square(picture, encoder.input_side))
        if len(batch) == encoder.batch_size:
            vectors.append(encoder.encode(np.stack(batch)))
            batch = []
    if batch:
        vectors.append(encoder.encode(np.stack(batch)))
    with part_name(path).open("wb") as file:
        np.save(file, np.concatenate(vectors).astype(np.float16))
    part_name(path).replace(path)


def distractor_pictures(plan: BenchmarkPlan, found: Sequence[Source], number: int) -> list[Picture]:
    """The pictures of one distractor program, in no order of time.

    Args:
        plan: Its seed.
        found: All programs of the benchmark; only films outside the catalogue are read.
        number: Which program, from 0.

    Returns:
        1000 pictures (height, width, 3) that show something.
    """
    rng = np.random.default_rng([plan.seed, _EDIT, number])
    films = [source for source in found if source.group == "films" and not source.is_known]
    n_film = round(_FILM_SHARE * FRAMES_A_PROGRAM) if films else 0
    pictures = _collages(films, n_film, rng) if films else []
    pictures += _versions(_drama_pictures(plan, number), FRAMES_A_PROGRAM - len(pictures), rng)
    return [pictures[i] for i in rng.permutation(len(pictures))]


def _versions(base: Iterator[Picture], count: int, rng: np.random.Generator) -> list[Picture]:
    """``count`` pictures: each one that shows something, whole and edited."""
    found: list[Picture] = []
    for picture in base:
        if is_blank(picture):
            continue
        edited = (_edited(picture, rng) for _ in range(VERSIONS - 1))
        found += [picture, *(version for version in edited if not is_blank(version))]
        if len(found) >= count:
            break
    return found[:count]


def _drama_pictures(plan: BenchmarkPlan, number: int) -> Iterator[Picture]:
    """A frame a second of dramas that are in no catalogue, without end."""
    episode = 0
    while True:
        seed = plan.seed + _OTHER_DRAMAS + 1000 * number + episode
        spec = catalogue(
            12, seed=seed, n_twin_pairs=0, n_episodes=1, episode_seconds=90.0,
            width=plan.drama_width, height=plan.drama_height, fps=1,
        )[number % 12]  # fmt: skip
        yield from render_episode(spec, 1)
        episode += 1


def _collages(films: Sequence[Source], count: int, rng: np.random.Generator) -> list[Picture]:
    """Two places of the films outside side by side, cropped, recoloured and mixed."""
    left, right = (_film_pictures(films, rng) for _ in range(2))
    # Few are read and each pair is put together in several ways.
    pairs = list(zip(left, reversed(right), strict=False))
    found: list[Picture] = []
    for attempt in range(20 * count):
        if len(found) == count or not pairs:
            break
        a, b = pairs[attempt % len(pairs)]
        picture = _collage(_edited(a, rng), _edited(b, rng), rng)
        if not is_blank(picture):
            found.append(picture)
    return found


def _film_pictures(films: Sequence[Source], rng: np.random.Generator) -> list[Picture]:
    """Pictures from one window of one film: reading is what takes the time."""
    film = films[int(rng.integers(len(films)))]
    start = float(rng.uniform(0, max(0.0, film.seconds - _WINDOW_SECONDS)))
    step = min(_WINDOW_SECONDS, film.seconds) / _WINDOW_PICTURES
    found: list[Picture] = []
    for seconds, image in read_frames(film.path, start, start + _WINDOW_SECONDS, max_side=_READ_SIDE):
        if seconds >= start + len(found) * step:
            found.append(image)
    return found


def _edited(picture: Picture, rng: np.random.Generator) -> Picture:
    """A cropping, perhaps mirrored, in other colours."""
    height, width = picture.shape[:2]
    share = rng.uniform(0.45, 0.9, 2)
    high, wide = max(2, int(share[0] * height)), max(2, int(share[1] * width))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    cut = picture[top : top + high, left : left + wide]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    gains = rng.uniform(0.75, 1.25, 3).astype(np.float32)
    recoloured: Picture = np.clip(cut.astype(np.float32) * gains, 0, 255).astype(np.uint8)
    return recoloured


def _collage(a: Picture, b: Picture, rng: np.random.Generator) -> Picture:
    """``b`` shines through ``a`` on one side and the reverse on the other."""
    side = _READ_SIDE // 2
    one, two = (
        np.asarray(Image.fromarray(p).resize((side * 2, side)), np.float32) for p in (a, b)
    )  # fmt: skip
    border = np.clip((np.arange(side * 2) / (side * 2) - rng.uniform(0.3, 0.7)) * 8 + 0.5, 0.25, 0.75)
    weight = border.astype(np.float32)[None, :, None]
    if rng.random() < 0.5:
        weight = 1 - weight
    return np.clip(one * weight + two * (1 - weight), 0, 255).astype(np.uint8)
