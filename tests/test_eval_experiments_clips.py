"""The generator of clips: what it promises of programs, parts, shares and words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.experiments.baselines import MeanFeatures, fit_regression
from eval.experiments.clips import Clips, Sizes, make_clips, make_parts, make_programs, retitle
from eval.experiments.oracle import oracle_probabilities
from eval.experiments.scores import accuracy
from eval.experiments.words import LANGUAGES, encode_titles
from eval.experiments.world import PAIRINGS, Difficulty, make_world, parents
from matcher.fusion.features import MODALITIES, ModalityState, parameter_free_embedding

SMALL = Difficulty(n_tier1=2, d_picture=32, d_sound=16, d_text=64)
FEW = Sizes(train=(3, 3), validation=(1, 2), test=(2, 3))


def _many(difficulty: Difficulty, per_class: int = 20, per_program: int = 4) -> tuple[Clips, float]:
    """Clips of a world, and how often the oracle is right on their tier 3."""
    world = make_world(difficulty, seed=0)
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(difficulty.n_classes[2]), per_class)
    clips = make_clips(world, make_programs(world, classes, rng), per_program, rng)
    return clips, accuracy(oracle_probabilities(world, clips)[3], clips.tier3)


def test_the_same_seed_gives_the_same_clips_and_another_seed_others() -> None:
    one, again, other = (make_parts(SMALL, seed=seed, sizes=FEW) for seed in (3, 3, 4))
    for first, second in zip(one.train.features, again.train.features, strict=True):
        for name in MODALITIES:
            np.testing.assert_array_equal(first.of(name), second.of(name))
    assert one.train.titles == again.train.titles
    assert one.train.titles != other.train.titles
    assert not np.array_equal(one.test.features[0].picture[0], other.test.features[0].picture[0])


def test_no_program_is_in_two_parts_and_each_class_has_as_many() -> None:
    parts = make_parts(SMALL, seed=0, sizes=FEW)
    programs = [set(part.programs.tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert [len(found) for found in programs] == [18 * 3, 18, 18 * 2]
    assert len(set.union(*programs)) == sum(map(len, programs))
    assert np.bincount(parts.train.tier3).tolist() == [9] * 18


def test_frames_are_unit_length_and_as_many_as_asked() -> None:
    clips, _ = _many(replace(SMALL, shortest=3, longest=5), per_class=2)
    lengths = {len(one.picture) for one in clips.features if one.picture is not None}
    assert lengths == {3, 4, 5}
    norms = np.linalg.norm(np.concatenate([one.picture for one in clips.features]), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


def test_the_tree_of_classes_is_three_children_each() -> None:
    assert parents(1, 2).tolist() == [0] * 9 + [1] * 9
    assert parents(2, 2).tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    assert parents(3, 1).tolist() == list(range(9))


def test_every_pairing_uses_each_cue_once_and_no_two_share_a_pair() -> None:
    for scripts in PAIRINGS:
        assert sorted(cue for pair in scripts for cue in pair) == [0, 1, 2, 3]
    assert len({pair for scripts in PAIRINGS for pair in scripts}) == 6


def test_where_pairs_tell_the_mean_over_scripts_tells_nothing_of_the_child() -> None:
    world = make_world(replace(SMALL, set_share=1.0), seed=0)
    mean = world.scene_shares.mean(axis=1).reshape(2, 9, -1)
    np.testing.assert_allclose(mean, np.broadcast_to(mean[:, :1], mean.shape), atol=1e-12)


def test_where_cues_tell_the_mean_differs_between_any_two_classes() -> None:
    world = make_world(replace(SMALL, set_share=0.0), seed=0)
    mean = world.scene_shares.mean(axis=1)
    apart = np.abs(mean[:, None] - mean[None]).sum(axis=2)[~np.eye(len(mean), dtype=bool)]
    assert apart.min() >= 2 * SMALL.cue_share - 1e-9


def test_the_share_of_frames_that_show_a_scene_is_the_worlds() -> None:
    clips, _ = _many(replace(SMALL, set_share=0.0))
    world = make_world(replace(SMALL, set_share=0.0), seed=0)
    mine = np.concatenate([clips.drawn.scenes[row] for row in np.flatnonzero(clips.tier3 == 7)])
    found = np.bincount(mine, minlength=world.scenes.shape[0]) / len(mine)
    np.testing.assert_allclose(found, world.scene_shares[7, 0], atol=0.04)
    assert (world.scene_shares.sum(axis=2) > 1 - 1e-9).all()


def test_scenes_can_be_read_off_frames_without_noise() -> None:
    quiet = replace(SMALL, noise=0.0, look=0.0, uploader=0.0)
    clips, _ = _many(quiet, per_class=2)
    world = make_world(quiet, seed=0)
    frames = np.concatenate([one.picture for one in clips.features])
    np.testing.assert_array_equal(
        (frames @ world.scenes.T).argmax(axis=1), np.concatenate(clips.drawn.scenes)
    )


def test_clips_of_a_program_are_nearer_than_others_of_its_class() -> None:
    clips, _ = _many(SMALL, per_class=4, per_program=3)
    embedded = parameter_free_embedding(clips.features, dimensions=SMALL.dimensions)
    near = embedded @ embedded.T
    same_program = (clips.programs[:, None] == clips.programs) & ~np.eye(len(clips), dtype=bool)
    same_class = (clips.tier3[:, None] == clips.tier3) & (clips.programs[:, None] != clips.programs)
    other_class = clips.tier3[:, None] != clips.tier3
    assert near[same_program].mean() > near[same_class].mean() + 0.05
    assert near[same_class].mean() > near[other_class].mean() + 0.02


@pytest.mark.parametrize(
    ("knob", "state", "name"),
    [
        ("sound_missing", ModalityState.MISSING, "sound"),
        ("sound_silent", ModalityState.SILENT, "sound"),
        ("title_missing", ModalityState.MISSING, "text"),
    ],
)
def test_as_many_clips_lack_a_modality_as_asked(knob: str, state: ModalityState, name: str) -> None:
    clips, _ = _many(replace(SMALL, **{knob: 0.4}))
    share = np.mean([one.state(name) == state for one in clips.features])
    assert 0.35 < share < 0.45
    none, _ = _many(replace(SMALL, **{knob: 0.0}), per_class=2)
    assert not any(one.state(name) == state for one in none.features)


def test_wrong_labels_are_as_many_as_asked_and_never_in_the_test_part() -> None:
    sizes = Sizes(train=(30, 1), validation=(30, 1), test=(5, 1))
    parts = make_parts(replace(SMALL, label_noise=0.3), seed=0, sizes=sizes)
    for part in (parts.train, parts.validation):
        assert 0.25 < (part.labelled != part.tier3).mean() < 0.35
    np.testing.assert_array_equal(parts.test.labelled, parts.test.tier3)


def test_titles_hold_the_words_of_their_class_and_new_ones_need_not() -> None:
    told = replace(SMALL, title_missing=0.0, title_tier3=1.0, title_tier2=0.0, title_misleading=0.0)
    world = make_world(told, seed=0)
    rng = np.random.default_rng(0)
    clips = make_clips(world, make_programs(world, np.repeat(np.arange(18), 3), rng), 2, rng)

    def holds_own_word(found: Clips) -> list[bool]:
        return [
            any(word in (title or "") for word in world.words.tier3[language][tier3])
            for title, language, tier3 in zip(found.titles, found.languages, found.tier3, strict=True)
        ]

    assert all(holds_own_word(clips))
    bare = retitle(clips, world, replace(told, title_tier3=0.0), rng)
    assert sum(holds_own_word(bare)) <= 2  # by chance of joined characters
    assert all(
        (one.picture == other.picture).all() for one, other in zip(clips.features, bare.features, strict=True)
    )
    assert set(clips.languages) == set(LANGUAGES)


def test_titles_that_share_a_word_are_nearer_in_both_languages() -> None:
    vectors = encode_titles(["宫斗大戏 城门", "宫斗 月光", "river song", "river stone", ""], 256)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.1
    assert near[2, 3] > near[1, 2] + 0.1
    assert not vectors[4].any()


def test_the_oracle_beats_the_baseline_and_guessing() -> None:
    parts = make_parts(SMALL, seed=0, sizes=Sizes((6, 4), (2, 4), (4, 4)))
    means = MeanFeatures.fit(parts.train.features, SMALL.dimensions)
    rows = [means(part.features) for part in (parts.train, parts.validation, parts.test)]
    regression = fit_regression(
        (rows[0], parts.train.labelled), (rows[1], parts.validation.labelled), n_classes=18
    )
    baseline = accuracy(regression(rows[2]), parts.test.tier3)
    best = accuracy(oracle_probabilities(parts.world, parts.test)[3], parts.test.tier3)
    assert best > baseline + 0.1
    assert baseline > 2 / 18


def test_the_oracles_tiers_fit_each_other() -> None:
    parts = make_parts(SMALL, seed=0, sizes=FEW)
    found = oracle_probabilities(parts.world, parts.test)
    for tier, n in zip((1, 2, 3), SMALL.n_classes, strict=True):
        assert found[tier].shape == (len(parts.test), n)
        np.testing.assert_allclose(found[tier].sum(axis=1), 1)
    np.testing.assert_allclose(found[3].reshape(-1, 6, 3).sum(axis=2), found[2])


@pytest.mark.parametrize(
    ("harder", "easier"),
    [
        ({"cue_share": 0.03}, {"cue_share": 0.18}),
        ({"set_share": 1.0}, {"set_share": 0.0}),
        ({"title_tier3": 0.0}, {"title_tier3": 1.0}),
        ({"title_tier3": 0.8, "title_misleading": 0.9}, {"title_tier3": 0.8, "title_misleading": 0.0}),
        ({"shortest": 2, "longest": 3}, {"shortest": 15, "longest": 16}),
    ],
)
def test_what_is_said_to_be_harder_is_harder_to_the_oracle(
    harder: dict[str, float], easier: dict[str, float]
) -> None:
    low, high = (_many(replace(SMALL, **knobs), per_class=10)[1] for knobs in (harder, easier))
    assert low < high - 0.02


@pytest.mark.parametrize(
    "wrong", [{"cue_share": 0.3}, {"label_noise": 1.5}, {"n_tier1": 0}, {"shortest": 9, "longest": 8}]
)
def test_a_difficulty_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(SMALL, **wrong)
