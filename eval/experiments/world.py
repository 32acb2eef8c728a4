"""What generated clips are made of: three tiers of classes, scenes that hint at them, looks and words.

A world is what does not change from clip to clip. Its classes form a tree: ``n_tier1`` classes, three
children each, three children each again. Frames show *scenes*; some scenes are *cues* of a class, most are
not. Whether a class has a cue of its own or is known only by which two cues come together is decided group
of siblings by group of siblings, see :class:`Difficulty`.

Shape letters: ``C1``, ``C2`` and ``C3`` classes of the tiers, ``V`` scenes of frames, ``W`` of sound
patches, ``D`` dimensions, ``S`` scripts of a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.experiments.words import Words, make_words

#: Children of a class, and the ways to pair four cues: that these are as many is what makes the cues of a
#: group say nothing one by one.
N_CHILDREN = 3
#: By child, its two scripts: a clip shows both cues of one of them.
PAIRINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
#: Of a class: a pair for tier 2 and one for tier 3, each one of two.
N_SCRIPTS = 4
_CUES = 4


@dataclass(frozen=True)
class Difficulty:
    """How hard the clips are, and why.

    The shares and sizes were set before any model saw a clip. The counts and dimensions (and
    :class:`~eval.experiments.clips.Sizes`) were made smaller, with more programs, while the training's
    settings were looked for on the validation part of world 1000, with the baseline's figures in view; after
    that nothing was changed.

    Attributes:
        n_tier1: Classes of tier 1; 4, 12 and 36 train in half a minute, and guessing is hopeless on tier 3.
        d_picture: Of a frame; an eighth of the descriptors' 512, for speed.
        d_sound: Of a sound patch; a quarter of the stored 128.
        d_text: Of a title; half of the text encoder's own.
        set_share: Share of the tier-1 classes under which tier 2 (and, drawn apart, tier 3) is told by which
            two of four cues come together, each alone saying nothing; the others' children have a cue of
            their own. Half: real categories are of both kinds (a sword is a costume drama; a robe is one or
            a comedy, by what comes with it).
        cue_share: How often a frame shows a given cue: 1.3 times in a clip of 11 frames, as the shots that
            tell are few in a clip.
        tier1_share: How often a frame shows the setting of its tier-1 class: the plain, frequent hint.
        stray_share: How often a frame shows any scene at all, cues of other classes among them.
        n_generic: Scenes that all classes share (faces, black, talk): the rest of the frames.
        shortest: Frames of a clip, at least.
        longest: Frames of a clip, at most.
        cue_own: Part of a cue's direction that is not its tier-1 class's: cues of one class are alike
            (cosine 0.5), as they share a period or a place.
        look: Size of a program's own offset in picture and sound, against a scene of 1. Two frames of one
            scene then have a cosine of about 0.36 across programs and 0.45 within one.
        uploader: Size of an uploader's offset (logo, filter, jingle).
        n_uploaders: Who post clips of any program.
        noise: Length of what is left in a frame: more than the scene itself, in all directions alike, since
            stored descriptors are whitened.
        sound_cue_share: How often a patch holds the sound of its tier-2 class.
        sound_tier1_share: How often the music of its tier-1 class.
        sound_replaced: Clips with other music throughout, which says nothing.
        sound_silent: Clips with a silent track.
        sound_missing: Clips whose sound was not read.
        title_missing: Clips without a title.
        title_tier2: Titles with a word of the tier-2 class.
        title_tier3: Titles with a word of the tier-3 class.
        title_misleading: Class words that are another class's, for clicks.
        title_program: Titles that name the program.
        label_noise: Programs of the training part whose categories are another class's.

    Raises:
        ValueError: A share is outside [0, 1], or a count is below 1.
    """

    n_tier1: int = 4
    d_picture: int = 64
    d_sound: int = 32
    d_text: int = 256
    set_share: float = 0.5
    cue_share: float = 0.12
    tier1_share: float = 0.16
    stray_share: float = 0.08
    n_generic: int = 8
    shortest: int = 6
    longest: int = 16
    cue_own: float = 0.7
    look: float = 0.5
    uploader: float = 0.3
    n_uploaders: int = 40
    noise: float = 1.2
    sound_cue_share: float = 0.1
    sound_tier1_share: float = 0.2
    sound_replaced: float = 0.15
    sound_silent: float = 0.08
    sound_missing: float = 0.05
    title_missing: float = 0.15
    title_tier2: float = 0.35
    title_tier3: float = 0.35
    title_misleading: float = 0.1
    title_program: float = 0.5
    label_noise: float = 0.05

    def __post_init__(self) -> None:
        for name in ("n_tier1", "d_picture", "d_sound", "d_text", "n_generic", "n_uploaders", "shortest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.longest < self.shortest:
            raise ValueError(f"longest ({self.longest}) must not be below shortest ({self.shortest})")
        shares = [name for name in self.__dataclass_fields__ if name.endswith("_share")]
        shares += ["sound_replaced", "sound_silent", "sound_missing", "cue_own", "label_noise"]
        shares += [name for name in self.__dataclass_fields__ if name.startswith("title_")]
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.tier1_share + self.stray_share + 4 * self.cue_share > 1:
            raise ValueError("tier1_share, stray_share and four times cue_share must not pass 1 together")
        if self.sound_tier1_share + self.stray_share + self.sound_cue_share > 1:
            raise ValueError("sound_tier1_share, sound_cue_share and stray_share must not pass 1 together")

    @property
    def n_classes(self) -> tuple[int, int, int]:
        """C1, C2 and C3."""
        return self.n_tier1, self.n_tier1 * N_CHILDREN, self.n_tier1 * N_CHILDREN**2

    @property
    def n_sounds(self) -> int:
        """W: what all classes share, the music of each tier-1 class, the sound of each tier-2 class."""
        return self.n_generic + self.n_tier1 * (1 + N_CHILDREN)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Of picture, sound and text."""
        return self.d_picture, self.d_sound, self.d_text


@dataclass(frozen=True)
class World:
    """Classes, scenes and words.

    Attributes:
        difficulty: What it was made with.
        scenes: (V, d_picture) unit rows: what a scene looks like.
        scene_shares: (C3, S, V) how often a frame shows each, by class and script.
        sounds: (W, d_sound) unit rows.
        sound_shares: (C3, W).
        uploader_looks: (n_uploaders, d_picture) unit rows.
        uploader_sounds: (n_uploaders, d_sound) unit rows.
        words: Of the titles.
    """

    difficulty: Difficulty
    scenes: NDArray[np.float64]
    scene_shares: NDArray[np.float64]
    sounds: NDArray[np.float64]
    sound_shares: NDArray[np.float64]
    uploader_looks: NDArray[np.float64]
    uploader_sounds: NDArray[np.float64]
    words: Words


def parents(tier: int, n_tier1: int) -> NDArray[np.int64]:
    """The class of ``tier`` (1 to 3) that each tier-3 class is under: (C3,)."""
    classes = np.arange(n_tier1 * N_CHILDREN**2, dtype=np.int64)
    return classes // np.int64(N_CHILDREN ** (3 - tier))


def unit_directions(rng: np.random.Generator, n: int, d: int) -> NDArray[np.float64]:
    """(n, d) random rows of length 1."""
    rows = rng.standard_normal((n, d))
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def make_world(difficulty: Difficulty, *, seed: int) -> World:
    """Draw a world; the same one for the same seed."""
    rng = np.random.default_rng([seed, 1])
    n1 = difficulty.n_tier1
    n_set = round(difficulty.set_share * n1)
    is_set2, is_set3 = np.zeros((2, n1), dtype=bool)
    is_set2[rng.permutation(n1)[:n_set]] = True
    is_set3[rng.permutation(n1)[:n_set]] = True
    return World(
        difficulty,
        scenes=_scenes(difficulty, rng),
        scene_shares=_scene_shares(difficulty, is_set2, is_set3),
        sounds=unit_directions(rng, difficulty.n_sounds, difficulty.d_sound),
        sound_shares=_sound_shares(difficulty),
        uploader_looks=unit_directions(rng, difficulty.n_uploaders, difficulty.d_picture),
        uploader_sounds=unit_directions(rng, difficulty.n_uploaders, difficulty.d_sound),
        words=make_words(difficulty.n_classes, rng),
    )


def _cue_rows(n_generic: int, n_tier1: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scene numbers of the cues of tier 2 (C1, 4) and tier 3 (C1, 3, 4), after generic ones and settings."""
    start = n_generic + n_tier1
    of_tier2 = start + np.arange(n_tier1 * _CUES).reshape(n_tier1, _CUES)
    of_tier3 = start + of_tier2.size + np.arange(n_tier1 * N_CHILDREN * _CUES)
    return of_tier2, of_tier3.reshape(n_tier1, N_CHILDREN, _CUES)


def _scenes(difficulty: Difficulty, rng: np.random.Generator) -> NDArray[np.float64]:
    """(V, D): generic, settings, cues of tier 2, cues of tier 3; a cue leans to its tier-1 setting."""
    n1, d, own = difficulty.n_tier1, difficulty.d_picture, difficulty.cue_own
    generic = unit_directions(rng, difficulty.n_generic, d)
    settings = unit_directions(rng, n1, d)
    parts = [generic, settings]
    for n_cues in (_CUES, N_CHILDREN * _CUES):
        leaning = np.repeat(settings, n_cues, axis=0) * np.sqrt(1 - own**2)
        cues = leaning + own * unit_directions(rng, n1 * n_cues, d)
        parts.append(cues / np.linalg.norm(cues, axis=1, keepdims=True))
    return np.concatenate(parts)


def _scene_shares(
    difficulty: Difficulty, is_set2: NDArray[np.bool_], is_set3: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(C3, S, V) by the rules of :class:`Difficulty`.

    Where tier 2 is told by pairs, its children share the cues of tier 3: these would give it away else.
    """
    n1, n_generic = difficulty.n_tier1, difficulty.n_generic
    of_tier2, of_tier3 = _cue_rows(n_generic, n1)
    n_scenes = int(of_tier3.max()) + 1
    shares = np.full((difficulty.n_classes[2], N_SCRIPTS, n_scenes), difficulty.stray_share / n_scenes)
    for tier3, (tier1, child2, child3) in enumerate(np.ndindex(n1, N_CHILDREN, N_CHILDREN)):
        family = of_tier3[tier1, 0 if is_set2[tier1] else child2]
        for script, (pair2, pair3) in enumerate(np.ndindex(2, 2)):
            mine = shares[tier3, script]
            mine[n_generic + tier1] += difficulty.tier1_share
            shown2 = PAIRINGS[child2][pair2] if is_set2[tier1] else (child2,)
            shown3 = PAIRINGS[child3][pair3] if is_set3[tier1] else (child3,)
            mine[of_tier2[tier1, list(shown2)]] += difficulty.cue_share
            mine[family[list(shown3)]] += difficulty.cue_share
            mine[:n_generic] += (1 - mine.sum()) / n_generic
    return shares


def _sound_shares(difficulty: Difficulty) -> NDArray[np.float64]:
    """(C3, W): generic sounds, music of tier 1, sounds of tier 2."""
    n1, n_generic = difficulty.n_tier1, difficulty.n_generic
    n_sounds = difficulty.n_sounds
    shares = np.full((difficulty.n_classes[2], n_sounds), difficulty.stray_share / n_sounds)
    everyone = np.arange(len(shares))
    shares[everyone, n_generic + parents(1, n1)] += difficulty.sound_tier1_share
    shares[everyone, n_generic + n1 + parents(2, n1)] += difficulty.sound_cue_share
    shares[:, :n_generic] += (1 - shares.sum(axis=1, keepdims=True)) / n_generic
    return shares
