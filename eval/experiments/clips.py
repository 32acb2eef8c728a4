"""Generated clips of generated programs: frames, sound patches, a title, and the truth about them.

A program belongs to one tier-3 class and has its own offset in picture and sound and its own name. Parts
for training, validation and testing hold different *programs*, so that a program's look never gives its
class away.

Shape letters: ``B`` clips, ``P`` programs, ``T`` frames or patches of all clips together, ``D`` dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.experiments.words import LANGUAGES, draw_words, encode_titles, join_words
from eval.experiments.world import N_CHILDREN, N_SCRIPTS, Difficulty, World, make_world, unit_directions
from matcher.fusion.features import ClipFeatures

Ints = NDArray[np.int64]
_Kind = TypeVar("_Kind", bound=np.generic)
_NAME_WORDS = 2
_FILLERS = (2, 5)
_PATCHES = (4, 13)


@dataclass(frozen=True)
class Programs:
    """P programs.

    Attributes:
        ids: (P,) numbers that no other part has.
        tier3: (P,) class.
        labelled: (P,) the class that the catalogue gives; another where the label is wrong.
        looks: (P, d_picture) unit rows.
        scores: (P, d_sound) unit rows: how it sounds.
        languages: P of them.
        names: P of them, words.
    """

    ids: Ints
    tier3: Ints
    labelled: Ints
    looks: NDArray[np.float64]
    scores: NDArray[np.float64]
    languages: list[str]
    names: list[list[str]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Drawn:
    """What was drawn for the clips and no model sees; the oracle does.

    Attributes:
        scenes: By clip, the scene of each frame.
        sounds: By clip, the scene of each patch; None where the sound says nothing or is not there.
        title2: (B,) the tier-2 class whose word stands in the title; -1 for none.
        title3: (B,) likewise of tier 3.
    """

    scenes: list[Ints]
    sounds: list[Ints | None]
    title2: Ints
    title3: Ints


@dataclass(frozen=True)
class Clips:
    """B clips.

    Attributes:
        features: What a model sees.
        titles: None where there is none.
        programs: (B,) ids.
        tier3: (B,) the true class.
        labelled: (B,) the class of the catalogue.
        languages: By clip.
        names: By clip, its program's name, as words.
        drawn: For the oracle.
    """

    features: list[ClipFeatures]
    titles: list[str | None]
    programs: Ints
    tier3: Ints
    labelled: Ints
    languages: list[str]
    names: list[list[str]]
    drawn: Drawn

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Sequence[int] | Ints) -> Clips:
        """The clips of these rows, in this order; a row may come several times."""
        at = [int(row) for row in rows]
        drawn = Drawn(
            [self.drawn.scenes[row] for row in at], [self.drawn.sounds[row] for row in at],
            self.drawn.title2[at], self.drawn.title3[at],
        )  # fmt: skip
        return Clips(
            [self.features[row] for row in at], [self.titles[row] for row in at], self.programs[at],
            self.tier3[at], self.labelled[at], [self.languages[row] for row in at],
            [self.names[row] for row in at], drawn,
        )  # fmt: skip

    def of_tier(self, tier: int, *, labelled: bool = False) -> Ints:
        """(B,) classes of a tier: the true ones, or the catalogue's."""
        return (self.labelled if labelled else self.tier3) // np.int64(N_CHILDREN ** (3 - tier))


@dataclass(frozen=True)
class Parts:
    """Clips of disjoint programs, all of one world."""

    world: World
    train: Clips
    validation: Clips
    test: Clips


@dataclass(frozen=True)
class Sizes:
    """How many programs of each tier-3 class, and clips of each program, the parts hold.

    36 classes of 80 programs of 2 clips are 5,760 clips to learn from. Many programs with few clips each:
    what is learned must hold for programs never seen, and a site has tens of thousands of them.
    """

    train: tuple[int, int] = (80, 2)
    validation: tuple[int, int] = (10, 2)
    test: tuple[int, int] = (20, 2)


def make_parts(difficulty: Difficulty, *, seed: int, sizes: Sizes | None = None) -> Parts:
    """Draw a world and its three parts; the same for the same seed."""
    sizes = sizes or Sizes()
    everyone = np.arange(difficulty.n_classes[2])
    asked = [
        (np.repeat(everyone, per_class), per_program)
        for per_class, per_program in (sizes.train, sizes.validation, sizes.test)
    ]
    return draw_parts(make_world(difficulty, seed=seed), asked, seed=seed, stream=2)


def draw_parts(world: World, asked: Sequence[tuple[Ints, int]], *, seed: int, stream: int) -> Parts:
    """Draw three parts of a world; no program is in two of them.

    Only programs of the training and the validation part may have wrong labels, for both come out of the
    same catalogue.

    Args:
        world: What the clips are made of.
        asked: Of each part the classes (P,) of its programs, and the clips of each program.
        seed: Of the draws.
        stream: Second word of the first part's seed; those of the others follow it.
    """
    made: list[Clips] = []
    first_id = 0
    for number, (classes, per_program) in enumerate(asked):
        rng = np.random.default_rng([seed, stream + number])
        noise = 0.0 if number == 2 else world.difficulty.label_noise
        programs = make_programs(world, classes, rng, first_id=first_id, label_noise=noise)
        made.append(make_clips(world, programs, per_program, rng))
        first_id += len(programs)
    return Parts(world, *made)


def make_programs(
    world: World, tier3: Ints, rng: np.random.Generator, *, first_id: int = 0, label_noise: float = 0.0
) -> Programs:
    """Draw programs of the classes ``tier3`` (P,)."""
    n, n_classes = len(tier3), world.difficulty.n_classes[2]
    is_wrong = rng.random(n) < label_noise
    other = (tier3 + rng.integers(1, n_classes, size=n)) % n_classes
    languages = [LANGUAGES[k] for k in rng.integers(len(LANGUAGES), size=n)]
    return Programs(
        ids=first_id + np.arange(n),
        tier3=np.asarray(tier3, dtype=np.int64),
        labelled=np.where(is_wrong, other, tier3),
        looks=unit_directions(rng, n, world.difficulty.d_picture),
        scores=unit_directions(rng, n, world.difficulty.d_sound),
        languages=languages,
        names=[draw_words(language, _NAME_WORDS, rng) for language in languages],
    )


def make_clips(world: World, programs: Programs, per_program: int, rng: np.random.Generator) -> Clips:
    """Draw ``per_program`` clips of each program, side by side."""
    difficulty = world.difficulty
    owner = np.repeat(np.arange(len(programs)), per_program)
    tier3 = programs.tier3[owner]
    uploaders = rng.integers(difficulty.n_uploaders, size=len(owner))
    picture, scenes = _picture(world, programs, owner, uploaders, rng)
    sound, sounds = _sound(world, programs, owner, uploaders, rng)
    clips = Clips(
        [ClipFeatures(picture=one, sound=other) for one, other in zip(picture, sound, strict=True)],
        [None] * len(owner), programs.ids[owner], tier3, programs.labelled[owner],
        [programs.languages[p] for p in owner], [programs.names[p] for p in owner],
        Drawn(scenes, sounds, np.full(len(owner), -1), np.full(len(owner), -1)),
    )  # fmt: skip
    return retitle(clips, world, difficulty, rng)


def _picture(
    world: World, programs: Programs, owner: Ints, uploaders: Ints, rng: np.random.Generator
) -> tuple[list[NDArray[np.float32]], list[Ints]]:
    """Frames and their scenes by clip. A script is drawn for each clip, then each frame by itself."""
    difficulty = world.difficulty
    lengths = rng.integers(difficulty.shortest, difficulty.longest + 1, size=len(owner))
    scripts = rng.integers(N_SCRIPTS, size=len(owner))
    clip = np.repeat(np.arange(len(owner)), lengths)
    shares = world.scene_shares.reshape(-1, world.scene_shares.shape[-1])
    scenes = _draw_scenes(shares, (programs.tier3[owner] * N_SCRIPTS + scripts)[clip], rng)
    offsets = (
        difficulty.look * programs.looks[owner] + difficulty.uploader * world.uploader_looks[uploaders]
    )[clip]
    frames = _noisy_unit(world.scenes[scenes] + offsets, difficulty.noise, rng)
    return _cut(frames, lengths), _cut(scenes, lengths)


def _sound(
    world: World, programs: Programs, owner: Ints, uploaders: Ints, rng: np.random.Generator
) -> tuple[list[NDArray[np.float32] | None], list[Ints | None]]:
    """Patches and their scenes by clip, some of them silent, missing or replaced."""
    difficulty = world.difficulty
    n = len(owner)
    lengths = rng.integers(*_PATCHES, size=n)
    clip = np.repeat(np.arange(n), lengths)
    heard = _draw_scenes(world.sound_shares, programs.tier3[owner][clip], rng)
    luck = rng.random(n)
    is_missing = luck < difficulty.sound_missing
    is_silent = (luck - difficulty.sound_missing < difficulty.sound_silent) & ~is_missing
    is_replaced = rng.random(n) < difficulty.sound_replaced
    # Other music: one generic sound all along, and nothing of the program's own.
    other = rng.integers(difficulty.n_generic, size=n)
    heard = np.where(is_replaced[clip], other[clip], heard)
    own = difficulty.look * programs.scores[owner] * ~is_replaced[:, None]
    offsets = (own + difficulty.uploader * world.uploader_sounds[uploaders])[clip]
    patches = _cut(_noisy_unit(world.sounds[heard] + offsets, difficulty.noise, rng), lengths)
    sound: list[NDArray[np.float32] | None] = []
    sounds: list[Ints | None] = []
    for row, scenes in enumerate(_cut(heard, lengths)):
        says_nothing = is_missing[row] or is_silent[row] or is_replaced[row]
        sounds.append(None if says_nothing else scenes)
        sound.append(None if is_missing[row] else patches[row][:0] if is_silent[row] else patches[row])
    return sound, sounds


def _draw_scenes(shares: NDArray[np.float64], rows: Ints, rng: np.random.Generator) -> Ints:
    """One scene for each of ``rows`` (T,), which name a distribution in ``shares`` (N, V)."""
    edges = shares.cumsum(axis=1)
    edges[:, -1] = 1.0  # a sum of shares may end a little below 1
    luck = rng.random(len(rows))
    scenes = np.empty(len(rows), dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(rows[order])) + 1):
        if mine.size:
            scenes[mine] = np.searchsorted(edges[rows[mine[0]]], luck[mine], side="right")
    return scenes


def _noisy_unit(rows: NDArray[np.float64], noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows (T, D) and noise of expected length ``noise``, scaled to length 1."""
    d = rows.shape[1]
    noisy = rows + noise / np.sqrt(d) * rng.standard_normal(rows.shape)
    scaled: NDArray[np.float32] = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def _cut(rows: NDArray[_Kind], lengths: Ints) -> list[NDArray[_Kind]]:
    """Rows of all clips one after the other → by clip."""
    return np.split(rows, np.cumsum(lengths)[:-1]) if len(lengths) else []


def retitle(clips: Clips, world: World, difficulty: Difficulty, rng: np.random.Generator) -> Clips:
    """The same clips under new titles, by the ``title_*`` of ``difficulty``."""
    _, n2, n3 = world.difficulty.n_classes
    title2 = _named(clips.of_tier(2), n2, difficulty.title_tier2, difficulty.title_misleading, rng)
    title3 = _named(clips.tier3, n3, difficulty.title_tier3, difficulty.title_misleading, rng)
    is_missing = rng.random(len(clips)) < difficulty.title_missing
    title2[is_missing] = title3[is_missing] = -1
    names_program = rng.random(len(clips)) < difficulty.title_program
    titles = [
        None if is_missing[row]
        else _title(world, clips.languages[row], clips.names[row] * bool(names_program[row]),
                    int(title2[row]), int(title3[row]), rng)
        for row in range(len(clips))
    ]  # fmt: skip
    vectors = encode_titles([title or "" for title in titles], world.difficulty.d_text)
    features = [
        replace(one, text=None if title is None else vector)
        for one, title, vector in zip(clips.features, titles, vectors, strict=True)
    ]
    return replace(
        clips, features=features, titles=titles, drawn=replace(clips.drawn, title2=title2, title3=title3)
    )


def _named(classes: Ints, n: int, share: float, misleading: float, rng: np.random.Generator) -> Ints:
    """(B,) the class that a title names: the true one, sometimes any, or -1."""
    named = np.where(rng.random(len(classes)) < misleading, rng.integers(n, size=len(classes)), classes)
    return np.where(rng.random(len(classes)) < share, named, -1)


def _title(
    world: World, language: str, name: list[str], title2: int, title3: int, rng: np.random.Generator
) -> str:
    """Words in any order: fillers, perhaps the program's name, perhaps a class's word."""
    fillers = world.words.fillers[language]
    parts = [fillers[k] for k in rng.integers(len(fillers), size=rng.integers(*_FILLERS))]
    if name:
        parts.append(join_words(language, name))
    for named, words in ((title2, world.words.tier2), (title3, world.words.tier3)):
        if named >= 0:
            synonyms = words[language][named]
            parts.append(synonyms[int(rng.integers(len(synonyms)))])
    return join_words(language, [parts[k] for k in rng.permutation(len(parts))])
