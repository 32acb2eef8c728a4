"""Each experiment at a tiny setting: whole tables of possible numbers; and what its parts promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Run

from eval.experiments import growth, tiers_run, twins_run
from eval.experiments.catalogue import EXPERIMENTS, run_at, run_experiment, write_result
from eval.experiments.clips import Sizes, make_parts
from eval.experiments.fusion_parts import matched
from eval.experiments.growth import GrowthDifficulty, ProgramWorld, Retrieval, SoftmaxClassifier
from eval.experiments.learning import learn, model_config
from eval.experiments.modalities_run import LEFT, collected_by_title, keep_only
from eval.experiments.results import Result
from eval.experiments.scale import Scale
from eval.experiments.tiers_run import new_categories, without
from eval.experiments.twins_run import TwinSizes, alike, make_twins, twin_difficulty, twin_scores
from eval.experiments.world import Difficulty, make_world
from matcher.errors import InputError
from matcher.fusion.clip_model import make_clip_model, n_parameters
from matcher.fusion.features import MODALITIES, ModalityState
from matcher.training.loop_records import LoopConfig

HARD = Difficulty(n_tier1=2, d_picture=16, d_sound=8, d_text=64)
TINY = Scale(
    "tiny", HARD, Sizes(train=(3, 2), validation=(1, 2), test=(2, 2)),
    LoopConfig(epochs=2, batch_size=64, learning_rate=1e-2), growth=(20, 40),
)  # fmt: skip


def quiet(_: str) -> None:
    """Nobody listens."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins_run, "SIZES", (TwinSizes(6, 2, 2, 2, 4, 2),))
    monkeypatch.setattr(growth, "GrowthDifficulty", lambda: GrowthDifficulty(d=16, n_new=5, n_asked=50))
    config = tiers_run.HeadTraining(max_steps=25)
    monkeypatch.setattr(tiers_run, "HeadTraining", lambda **words: replace(config, **words))


def _check_shape(result: Result) -> None:
    shares = {measure.name for measure in result.measures if measure.kind == "share"}
    assert len(result.rows) > 1
    for row in result.rows:
        assert row.values
        for name, values in row.values.items():
            assert np.isfinite(values).all()
            if name in shares:
                assert all(0 <= value <= 1 for value in values), (row.condition, name)
    width = len(result.columns())
    assert all(len(cells) == width for cells in result.cells())
    drawn = [measure.name for measure in result.measures if measure.is_drawn]
    assert 1 <= len(drawn) <= 4
    assert all(name in {name for row in result.rows for name in row.values} for name in drawn)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_gives_a_whole_table_and_files(name: str, tmp_path: Path) -> None:
    result = run_at(name, TINY, (0,), quiet)
    _check_shape(result)
    written = write_result(result, tmp_path / "out")
    assert [path.suffix for path in written] == [".md", ".json", ".png"]
    lines = [json.loads(line) for line in written[1].read_text(encoding="utf-8").splitlines()]
    assert [line["condition"] for line in lines] == [row.condition for row in result.rows]
    assert result.markdown() in written[0].read_text(encoding="utf-8")
    assert written[2].read_bytes().startswith(b"\x89PNG")


def test_an_experiment_gives_the_same_numbers_again() -> None:
    one, again = (run_at("gating", TINY, (0, 1), quiet) for _ in range(2))
    for first, second in zip(one.rows, again.rows, strict=True):
        for name in first.values.keys() - {"training"}:
            assert first.values[name] == second.values[name]
    losses = one.rows[0].values["tier 3 log loss"]
    assert losses[0] != losses[1]


def test_a_trained_model_is_better_than_guessing_on_programs_never_seen() -> None:
    easy = replace(HARD, d_picture=32, set_share=0.0, noise=0.5, cue_share=0.18)
    parts = make_parts(easy, seed=0, sizes=Sizes((16, 2), (2, 2), (4, 2)))
    loop = LoopConfig(epochs=15, batch_size=64, learning_rate=1e-2)
    learned = learn(parts, model_config(easy), loop, seed=0)
    for tier, found in learned.probabilities(parts.test).items():
        right = (found.argmax(axis=1) == parts.test.of_tier(tier)).mean()
        assert right > 3 / easy.n_classes[tier - 1] or right > 0.9
    assert learned.embed(parts.test).shape == (len(parts.test), 256)


@pytest.mark.parametrize("pooling", ["netvlad", "mean", "max", "attention"])
def test_poolings_have_as_many_parameters(pooling: str) -> None:
    wanted = n_parameters(make_clip_model(model_config(Difficulty()), seed=0))
    found = make_clip_model(matched(Difficulty(), pooling, wanted), seed=0)
    assert n_parameters(found) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("left", LEFT)
def test_what_is_taken_away_is_missing_and_the_rest_is_as_before(left: str) -> None:
    clips = make_parts(HARD, seed=0, sizes=TINY.sizes).test
    for before, after in zip(clips.features, keep_only(clips, LEFT[left]).features, strict=True):
        for name in MODALITIES:
            wanted = before.state(name) if name in LEFT[left] else ModalityState.MISSING
            assert after.state(name) == wanted


def test_clips_collected_by_title_are_named_rightly_each() -> None:
    clips = make_parts(collected_by_title(HARD), seed=0, sizes=TINY.sizes).train
    np.testing.assert_array_equal(clips.drawn.title3, clips.tier3)
    assert all(clips.titles)


def test_twins_differ_in_one_cue_of_the_cosine_that_was_asked() -> None:
    world = alike(make_world(twin_difficulty(HARD), seed=3), 0.95, seed=3)
    difference = world.scene_shares[1, 0] - world.scene_shares[0, 0]
    cues = np.flatnonzero(np.abs(difference) > 1e-9)
    assert len(cues) == 2
    one, other = world.scenes[cues]
    assert one @ other == pytest.approx(0.95)
    np.testing.assert_allclose(np.linalg.norm(world.scenes, axis=1), 1)


@pytest.mark.parametrize("sizes", twins_run.SIZES)
def test_the_rare_twin_has_a_twentieth_of_the_programs(sizes: TwinSizes) -> None:
    parts = make_twins(twin_difficulty(HARD), 0.3, replace(sizes, clips=1, test=15), seed=0)
    counts = np.bincount(parts.train.tier3)
    assert counts[0] == 20 * counts[1]
    assert set(np.bincount(parts.test.tier3)[:2]) == {30}


def test_twins_are_scored_by_whom_they_are_taken_for() -> None:
    parts = make_twins(twin_difficulty(HARD), 0.3, TwinSizes(2, 2, 2, 1, 2, 1), seed=0)
    truth = parts.test.tier3
    said = np.where(truth == 0, 1, truth)  # every common one taken for the rare
    found = twin_scores(said, parts.test)
    assert found == {
        "common": 0.0, "rare": 1.0, "common taken for rare": 1.0, "rare taken for common": 0.0,
        "mean of both": 0.5, "others": 1.0,
    }  # fmt: skip


def test_new_categories_are_unseen_before_they_are_added() -> None:
    parts = make_parts(replace(HARD, label_noise=0.3), seed=0, sizes=TINY.sizes)
    new = new_categories(18, seed=0)
    before = without(parts, new)
    assert len(new) == 3
    for part in (before.train, before.validation):
        assert not np.isin(part.tier3, new).any()
        assert not np.isin(part.labelled, new).any()
    assert np.isin(before.test.tier3, new).any()


def test_going_on_from_a_model_leaves_it_as_it_was() -> None:
    parts = make_parts(HARD, seed=0, sizes=TINY.sizes)
    first = learn(parts, model_config(HARD), TINY.loop, seed=0)
    before = first.embed(parts.test)
    second = learn(parts, model_config(HARD), TINY.loop, seed=0, start=first)
    np.testing.assert_array_equal(first.embed(parts.test), before)
    assert not np.array_equal(second.embed(parts.test), before)


def test_retrieval_votes_as_brute_force_does() -> None:
    world = ProgramWorld(30, GrowthDifficulty(d=8, shots=3), seed=0)
    rng = np.random.default_rng(0)
    asked = rng.integers(30, size=40)
    clips = world.clips(asked, rng)
    index = Retrieval(8)
    index.add(world.shots[:20], 0)
    index.add(world.shots[20:], 20)
    near = clips @ world.shots.reshape(-1, 8).T
    for clip, said in enumerate(index.answer(clips)):
        best = np.argsort(-near[clip])[:5]
        votes = np.zeros(30)
        for row in best:
            votes[row // 3] += np.exp(near[clip, row] / 0.05)
        assert said == votes.argmax()
    assert index.n_bytes == 90 * (4 * 8 + 8)


def test_the_classifiers_gradient_is_that_of_its_loss() -> None:
    world = ProgramWorld(6, GrowthDifficulty(d=5), seed=0)
    model = SoftmaxClassifier(world, seed=0)
    model.add(world.shots)
    programs = np.array([0, 3, 3, 5])
    views = world.clips(programs, np.random.default_rng([0, 51]))

    def loss(weights: np.ndarray) -> float:
        logits = views.astype(np.float64) @ weights.T
        return float((np.logaddexp.reduce(logits, axis=1) - logits[np.arange(4), programs]).sum())

    found = model._gradient(programs)
    start = model.weights.astype(np.float64)
    for at in [(0, 0), (3, 2), (5, 4), (1, 1)]:
        moved = start.copy()
        moved[at] += 1e-5
        assert found[at] == pytest.approx((loss(moved) - loss(start)) / 1e-5, abs=1e-3)


def test_a_classifier_never_names_a_program_that_it_was_not_trained_on() -> None:
    world = ProgramWorld(12, GrowthDifficulty(d=8), seed=0)
    model = SoftmaxClassifier(world, seed=0)
    model.add(world.shots[:10])
    model.train(2)
    assert model.answer(world.clips(np.array([10, 11]), np.random.default_rng(0))).max() < 10


@pytest.mark.parametrize(
    ("words", "said"),
    [({"name": "nothing"}, "no experiment"), ({"scale": "huge"}, "no scale"), ({"n_seeds": 0}, "seeds")],
)
def test_words_that_name_nothing_are_input_errors(words: dict[str, object], said: str) -> None:
    asked = {"name": "gating", "n_seeds": 1, "scale": "small"} | words
    name = str(asked.pop("name"))
    with pytest.raises(InputError, match=said):
        run_experiment(name, on_step=quiet, **asked)  # type: ignore[arg-type]


def test_the_command_line_refuses_an_unknown_experiment_in_a_line(matcher: Run) -> None:
    done = matcher("eval", "experiment", "nothing")
    assert done.code == 2
    assert "no experiment 'nothing'; there are main," in done.err
    assert len(done.lines) == 1
