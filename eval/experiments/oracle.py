"""What could be known at best: the posterior of the classes given all that was drawn for a clip.

The oracle is told each frame's and each patch's scene and whose word the title holds, and knows the shares
that they were drawn with. No model sees as much, so none can be expected to do better than it.

Shape letters: ``B`` clips, ``C3`` classes of tier 3, ``S`` scripts, ``V`` scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval.experiments.clips import Clips
from eval.experiments.world import N_CHILDREN, World, parents

Floats = NDArray[np.float64]


def oracle_probabilities(world: World, clips: Clips) -> dict[int, Floats]:
    """By tier, (B, C) probabilities that sum to 1; all classes are as common before a clip is seen."""
    log_likelihood = _of_scenes(world, clips) + _of_sounds(world, clips) + _of_titles(world, clips)
    of_tier3 = np.exp(log_likelihood - np.logaddexp.reduce(log_likelihood, axis=1, keepdims=True))
    widths = {tier: N_CHILDREN ** (3 - tier) for tier in (1, 2, 3)}
    return {tier: of_tier3.reshape(len(clips), -1, width).sum(axis=2) for tier, width in widths.items()}


def _counts(drawn: list[NDArray[np.int64] | None] | list[NDArray[np.int64]], n: int) -> Floats:
    """(B, n) how often each scene was drawn; zeros for None."""
    rows = [np.zeros(n) if one is None else np.bincount(one, minlength=n) for one in drawn]
    return np.asarray(rows, dtype=np.float64).reshape(len(drawn), n)


def _log(shares: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(shares), -1e6)  # not -inf: none of a scene that cannot be is no surprise


def _of_scenes(world: World, clips: Clips) -> Floats:
    """A script is drawn once a clip, so its frames are independent given it."""
    counts = _counts(clips.drawn.scenes, world.scene_shares.shape[2])
    by_script = np.einsum("bv,csv->bcs", counts, _log(world.scene_shares))
    of_scenes: Floats = np.logaddexp.reduce(by_script, axis=2)
    return of_scenes


def _of_sounds(world: World, clips: Clips) -> Floats:
    return _counts(clips.drawn.sounds, world.sound_shares.shape[1]) @ _log(world.sound_shares).T


def _of_titles(world: World, clips: Clips) -> Floats:
    """A word names its class, or by the misleading share any."""
    difficulty = world.difficulty
    total = np.zeros((len(clips), difficulty.n_classes[2]))
    for tier, named in ((2, clips.drawn.title2), (3, clips.drawn.title3)):
        n = difficulty.n_classes[tier - 1]
        is_it = named[:, None] == parents(tier, difficulty.n_tier1)
        share = difficulty.title_misleading / n + (1 - difficulty.title_misleading) * is_it
        total += np.where(named[:, None] >= 0, _log(share), 0.0)
    return total
