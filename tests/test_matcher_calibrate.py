"""A catalogue calibrates itself: what is drawn from it, what is asked of it, and what is fitted."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import media
import numpy as np
import pytest
from commands import Run
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from trajectories import D, Trajectory, noisy

from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ModelInfo, NewAsset, NewProgram
from index.subset import Subset
from matcher.calibrate import START, Plan, present_calibration
from matcher.calibrate_background import FEWEST_FRAMES, MOST_FRAMES, draw_background
from matcher.calibrate_cases import Case, Examiner, RememberingLinker, Trial
from matcher.calibrate_clips import (
    PICTURE_EDITS,
    SOURCE_FPS,
    Stretch,
    draw_edits,
    edit,
    make_clips,
    pictures_at,
    plan_cuts,
)
from matcher.calibrate_figures import calibration_error, measure, reliability
from matcher.calibrate_fit import (
    LEAST_LINK,
    NOTHING,
    RIDGE,
    SIGNS,
    Fitted,
    Sample,
    Scored,
    best_cases,
    fit,
    fit_by_folds,
    isotonic,
    link_threshold,
    log_odds,
    review_threshold,
    score,
)
from matcher.calibrate_kept import SelfMade, load_clips, save_clips
from matcher.calibrate_layouts import FOREIGN_LAYOUTS, OWN_LAYOUTS
from matcher.calibration import FILE_NAME, Calibration, calibration_of
from matcher.config import Settings, VotingSettings
from matcher.decision import FEATURES, Evidence, Weights
from matcher.decode import Sampling
from matcher.encoders.base import ModelInfo as EncoderInfo
from matcher.encoders.sound import shipped_sound_encoder
from matcher.errors import InputError
from matcher.linking import Linker
from matcher.records import Descriptors, Look

#: Curves of two programs resemble each other less than any two films do.
SETTINGS = Settings(voting=VotingSettings(floor=0.1))
SAMPLING = Sampling(fps=2.0)
MODEL = ModelInfo("fp-1", "synthetic", D)
LENGTH = 80.0


# ---------------------------------------------------------------- fit


def evidence_of(rng: np.random.Generator, *, strong: bool) -> Evidence:
    return Evidence(
        similarity=float(rng.uniform(0.7, 0.9) + 0.1 * strong),
        excess=float(rng.uniform(0.0, 0.5) + 0.3 * strong),
        lead=float(rng.uniform(-0.01, 0.05) + 0.05 * strong),
        frames=float(rng.uniform(1, 8)),
        coverage=float(rng.uniform(0.1, 1.0)),
        speed=float(rng.uniform(0, 1)),
        is_reversed=bool(rng.random() < 0.1),
        is_further=bool(rng.random() < 0.3),
        pieces=float(rng.uniform(1, 4)),
        agreement=float(rng.uniform(0, 3)),
    )


def drawn(n: int, weights: Weights, seed: int = 0) -> list[Case]:
    """Cases that are right as often as ``weights`` say."""
    rng = np.random.default_rng(seed)
    found = [evidence_of(rng, strong=bool(i % 2)) for i in range(n)]
    return [Case(one, bool(rng.random() < weights.confidence(one))) for one in found]


TRUTH = Weights((1.0, 3.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 0.5), -4.0)


def sample_of(cases: Sequence[Case]) -> Sample:
    """Of cases that are seen."""
    return Sample.of([seen(case) for case in cases], [case.is_right for case in cases])


def seen(case: Case) -> Evidence:
    assert case.evidence is not None
    return case.evidence


def penalized(weights: Weights, sample: Sample) -> float:
    """What the fit is to make small, written out with the one-by-one formula of the decision."""
    odds = log_odds(weights, sample)
    likelihood = np.where(sample.is_right, -np.logaddexp(0, -odds), -np.logaddexp(0, odds)).sum()
    standard = np.array(weights.weights) * sample.features.std(axis=0)
    return float(-likelihood + 0.5 * RIDGE * (standard**2).sum())


def test_log_odds_of_many_are_those_of_each() -> None:
    cases = drawn(50, TRUTH)
    each = [TRUTH.log_odds(seen(case)) for case in cases]
    assert log_odds(TRUTH, sample_of(cases)) == pytest.approx(each, abs=1e-9)


def test_the_fit_finds_the_confidences_that_the_cases_were_drawn_by() -> None:
    sample = sample_of(drawn(6000, TRUTH))
    found = fit(sample)
    wanted, got = (1 / (1 + np.exp(-log_odds(w, sample))) for w in (TRUTH, found))
    assert np.abs(wanted - got).mean() < 0.02
    assert found.weights[1] == pytest.approx(3.0, rel=0.3)


def test_only_the_best_case_of_an_answer_is_fitted_to() -> None:
    cases = drawn(6, TRUTH)
    trials = [
        Trial("a", "known", (cases[0], cases[1])),
        Trial("b", "unknown", ()),
        Trial("c", "unknown", (cases[2],)),
        # What is heard as well is fitted on apart, and what is only heard says nothing of pictures.
        Trial("c", "known", (cases[3],), is_heard=True),
        Trial("d", "known", (Case(None, True, heard=seen(cases[4])),)),
    ]
    found, wanted = best_cases(trials), sample_of([cases[0], cases[2]])
    np.testing.assert_array_equal(found.features, wanted.features)
    np.testing.assert_array_equal(found.is_right, wanted.is_right)
    np.testing.assert_array_equal(found.duel, wanted.duel)


def test_no_step_away_from_the_fit_is_better() -> None:
    sample = sample_of(drawn(800, TRUTH, seed=3))
    found = fit(sample)
    best = penalized(found, sample)
    free = [i for i, weight in enumerate(found.weights) if weight != 0]
    assert len(free) >= 5
    for place, sign in itertools.product(free, (-1, 1)):
        moved = list(found.weights)
        moved[place] += sign * 0.1
        assert penalized(Weights(tuple(moved), found.bias), sample) > best
    for sign in (-1, 1):
        assert penalized(Weights(found.weights, found.bias + sign * 0.1), sample) > best


def test_a_weight_of_the_wrong_sign_is_left_out_and_the_others_stay() -> None:
    backwards = Weights((1.0, 3.0, 1.0, 1.0, 1.0, 2.0, -1.0, -1.0, -1.0, 0.5), -5.0)
    found = dict(zip(FEATURES, fit(sample_of(drawn(3000, backwards))).weights, strict=True))
    assert found["speed"] == 0.0
    assert found["excess"] > 2
    assert all(found[name] * SIGNS[name] >= 0 for name in FEATURES)


def test_a_feature_that_never_changes_has_no_weight() -> None:
    cases = [Case(replace(seen(c), is_reversed=False), c.is_right) for c in drawn(400, TRUTH)]
    assert fit(sample_of(cases)).weights[FEATURES.index("is_reversed")] == 0.0


def test_cases_that_are_all_right_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="nothing to tell apart"):
        fit(sample_of([replace(case, is_right=True) for case in drawn(20, TRUTH)]))


def test_a_program_is_not_measured_by_weights_that_were_fitted_on_it() -> None:
    """One program's answers are turned upside down: it is the other folds' fits that it spoils."""
    trials = [Trial(f"p{i % 6}", "known", (case,)) for i, case in enumerate(drawn(600, TRUTH))]
    spoiled = [
        replace(t, cases=tuple(replace(c, is_right=not c.is_right) for c in t.cases))
        if t.group == "p0"
        else t
        for t in trials
    ]
    clean, other = fit_by_folds(trials, seed=1), fit_by_folds(spoiled, seed=1)
    same = {trial.group for trial, a, b in zip(trials, clean, other, strict=True) if a == b}
    assert "p0" in same
    assert len(same) == 2  # six programs in three folds


def test_too_few_programs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 programs"):
        fit_by_folds([Trial("p0", "known", (case,)) for case in drawn(20, TRUTH)], seed=1)


# ---------------------------------------------------------------- thresholds


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_with_many_unknown_clips_the_threshold_is_counted() -> None:
    """20,000 clips at log-odds 0, 0.001, 0.002, …: a thousandth of them lies above 19.979."""
    unknown = np.arange(20000) / 1000 - 15
    bar = logit(link_threshold(unknown, false_links=0.001))
    assert np.count_nonzero(unknown >= bar) == 20
    assert bar == pytest.approx(4.98, abs=0.002)


def test_with_few_the_tail_is_extrapolated() -> None:
    """Log-odds of an exponential law of scale 1.5: a thousandth of it lies above 1.5 ln 1000."""
    unknown = -1.5 * np.log((np.arange(200) + 0.5) / 200) - 6
    bar = logit(link_threshold(unknown, false_links=0.001))
    assert bar == pytest.approx(1.5 * np.log(1000) - 6, abs=0.3)
    assert bar > unknown.max()


def test_one_stray_clip_does_not_set_the_threshold_and_two_do() -> None:
    unknown = np.full(400, -6.0) + np.random.default_rng(0).normal(0, 0.5, 400)
    unknown[0] = 8.0
    once = logit(link_threshold(unknown, false_links=0.001))
    unknown[1] = 7.0
    twice = logit(link_threshold(unknown, false_links=0.001))
    assert once < 7.0 < twice


@pytest.mark.parametrize("unknown", [np.full(50, NOTHING), np.full(50, -20.0), np.array([-3.0])])
def test_a_link_is_never_a_coins_throw(unknown: NDArray[np.float64]) -> None:
    assert link_threshold(unknown, false_links=0.01) == LEAST_LINK > 0.5


def scored(odds: list[float], right: list[int], known: list[int]) -> Scored:
    return Scored(np.array(odds, float), np.array(right, bool), np.array(known, bool))


def test_review_begins_where_three_in_ten_are_right() -> None:
    odds = np.linspace(-4, 4, 400)
    confidence = 1 / (1 + np.exp(-odds))
    right = np.random.default_rng(0).random(400) < confidence
    best = Scored(odds, right, np.ones(400, bool))
    assert review_threshold(best, link=0.9) == pytest.approx(0.3, abs=0.1)
    assert review_threshold(best, link=0.15) == 0.15


def test_review_keeps_to_its_limits() -> None:
    assert review_threshold(scored([-5, -4], [1, 1], [1, 1]), link=0.9) == 0.1
    assert review_threshold(scored([-5, 5], [0, 0], [0, 0]), link=0.9) == 0.4


def test_isotonic_by_hand() -> None:
    assert isotonic(np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])) == pytest.approx(
        [0, 0.5, 0.5, 2 / 3, 2 / 3, 2 / 3, 1]
    )


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_isotonic_is_the_max_min_of_means(values: list[float]) -> None:
    """The formula of Robertson, Wright and Dykstra (1988): max over a ≤ i of min over b ≥ i of the mean."""
    x, n = np.array(values), len(values)
    brute = [max(min(x[a : b + 1].mean() for b in range(i, n)) for a in range(i + 1)) for i in range(n)]
    assert isotonic(x) == pytest.approx(brute, abs=1e-9)


def test_the_best_candidate_counts_whatever_its_place() -> None:
    poor, good = (evidence_of(np.random.default_rng(0), strong=strong) for strong in (False, True))
    trials = [
        Trial("p", "known", (Case(poor, False), Case(good, True))),
        Trial("p", "unknown", ()),
    ]
    best = score(trials, [Fitted(TRUTH)] * 2)
    assert best.log_odds.tolist() == [TRUTH.log_odds(good), NOTHING]
    assert (best.is_right.tolist(), best.is_known.tolist()) == ([True, False], [True, False])


# ---------------------------------------------------------------- figures


def test_figures_by_hand() -> None:
    confidence = [0.95, 0.92, 0.6, 0.5, 0.2, 0.9, 0.4, 0.1]
    best = scored([logit(c) + 1e-9 for c in confidence], [1, 0, 1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0])
    found = measure(best, link=0.9, review=0.3)
    assert (found.known, found.linked_right, found.linked_wrong) == (5, 1, 1)
    assert (found.review_right, found.review_wrong, found.missed) == (1, 1, 1)
    assert (found.unknown, found.unknown_linked, found.unknown_review) == (3, 1, 1)
    assert len(json.dumps(found.to_json())) > 0


def test_calibration_error_by_hand() -> None:
    """Two answers at 0.92 and 0.98, one right: |0.95 - 0.5|; two at 0.12, none right: 0.12; halves."""
    bins = reliability(np.array([0.92, 0.98, 0.12, 0.12]), np.array([True, False, False, False]))
    assert [(one.low, one.answers, one.right) for one in bins] == [(0.1, 2, 0.0), (0.9, 2, 0.5)]
    assert calibration_error(bins) == pytest.approx(0.5 * 0.12 + 0.5 * 0.45)
    assert calibration_error([]) == 0.0


# ---------------------------------------------------------------- a catalogue of curves

#: ``twin`` is ``p5`` but for rounding.
SEEDS = {f"p{i}": 10 * i for i in range(6)} | {"twin": 50}


def stored(program: str) -> NDArray[np.float32]:
    vectors = Trajectory(SEEDS[program], pace=0.4)(np.arange(0.0, LENGTH))
    return noisy(vectors, 9, 1e-4) if program == "twin" else vectors


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveIndex:
    catalog = Catalog.create(tmp_path_factory.mktemp("calibrate") / "store", MODEL)
    with catalog.writing() as writer:
        for program in SEEDS:
            asset = NewAsset("e1", f"/v/{program}.mp4", "", LENGTH, np.arange(0.0, LENGTH), stored(program))
            writer.add_program(NewProgram(program), [asset])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")
        return LiveIndex.open(catalog)


def looking(live: LiveIndex, seed: int = 1) -> Calibration:
    return Calibration(START, 0.95, 0.3, draw_background(live.view, frames=200, seed=seed))


def self_made(number: int, program: str, kin: tuple[str, ...] = (), noise: float = 0.5) -> SelfMade:
    rng = np.random.default_rng(number)
    n = int(rng.integers(8, 24))
    start = rng.uniform(0, LENGTH - n / 2)
    vectors = noisy(Trajectory(SEEDS[program], pace=0.4)(start + np.arange(n) / 2), number, noise)
    further = (Look("centre", np.arange(4) * 1.0, noisy(vectors[:4], number + 1, 1.0)),)
    clip = Descriptors(np.arange(n) / 2, vectors, n / 2, n, further)
    return SelfMade(number, (program,), kin, ("crop",), clip, ())


def test_the_background_is_spread_evenly(live: LiveIndex) -> None:
    found = draw_background(live.view, frames=70, seed=1)
    assert np.bincount(found.program).tolist() == [10] * 7
    first = found.vectors[:10] @ stored(live.programs[0]).T
    assert first.argmax(axis=1).tolist() == list(range(4, 80, 8))
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-3)
    levels = found.levels(found.vectors)
    assert found.least == pytest.approx(np.quantile(levels, 0.01), abs=0.02)


def test_the_background_has_three_to_forty_frames_of_a_program(live: LiveIndex) -> None:
    assert set(np.bincount(draw_background(live.view, frames=10**6, seed=1).program)) == {MOST_FRAMES}
    few = draw_background(live.view, frames=10, seed=1)
    assert len(few.vectors) <= 10
    assert few.n_programs == 3
    assert min(np.bincount(few.program)[np.unique(few.program)]) >= FEWEST_FRAMES
    other = draw_background(live.view, frames=10, seed=5)
    assert set(other.program) != set(few.program)


def test_a_few_programs_are_searched_as_by_brute_force(live: LiveIndex) -> None:
    names = ["p1", "p4"]
    few = Subset(live, [live.programs.index(name) for name in names])
    assert few.ntotal == 2 * LENGTH
    queries = noisy(stored("p1")[:5], 1, 0.5)
    found = few.search(queries, 6)
    vectors = np.concatenate([stored(name) for name in names]).astype(np.float16).astype(np.float32)
    wanted = -np.sort(-(queries @ vectors.T), axis=1)[:, :6]
    assert found.similarities == pytest.approx(wanted, abs=1e-3)
    where = live.view.locate(found.ids)
    assert {live.programs[p] for p in where.program_position.ravel()} <= set(names)


def test_a_clip_is_asked_with_its_program_and_without(live: LiveIndex) -> None:
    examiner = Examiner(live, SETTINGS, looking(live), seed=1)
    trials = {trial.kind: trial for trial in examiner.trials(self_made(0, "p1"))}
    assert set(trials) == {"known", "unknown", "known, few programs", "unknown, few programs"}
    for kind, trial in trials.items():
        assert any(case.is_right for case in trial.cases) == kind.startswith("known") == trial.is_known
        assert trial.group == "p1"
    assert len(list(examiner.trials(self_made(1, "p1")))) == 2


def test_a_clip_of_a_program_that_is_gone_is_not_asked(live: LiveIndex) -> None:
    examiner = Examiner(live, SETTINGS, looking(live), seed=1)
    assert list(examiner.trials(replace(self_made(0, "p1"), programs=("p1", "gone")))) == []


def test_twins_are_kin_and_are_hidden_together(live: LiveIndex) -> None:
    examiner = Examiner(live, SETTINGS, looking(live), seed=1)
    five, one = live.programs.index("p5"), live.programs.index("p1")
    assert examiner.kin([Stretch(five, five, 10.0, 22.0)]) == ("twin",)
    assert examiner.kin([Stretch(one, one, 10.0, 22.0)]) == ()
    alone, together = (
        next(t for t in examiner.trials(self_made(n, "p5", kin, 0.2)) if t.kind == "unknown")
        for n, kin in ((2, ()), (3, ("twin",)))
    )
    assert seen(alone.cases[0]).similarity > 0.95
    assert all(seen(case).similarity < 0.9 for case in together.cases)


def test_a_remembering_linker_answers_as_any_other(live: LiveIndex) -> None:
    calibration, clip = looking(live), self_made(1, "p2").clip
    findings: dict = {}
    other = replace(calibration, weights=replace(START, bias=-5.0))
    for one in (calibration, other):
        plain = Linker(live, SETTINGS, one)
        remembering = RememberingLinker(live, SETTINGS, one, hidden=(), findings=findings)
        for asked in (replace(clip, further=()), clip, clip):
            a, b = plain.consider(asked), remembering.consider(asked)
            assert plain.promising(a) == remembering.promising(b)
            assert plain.is_unsure(a) == remembering.is_unsure(b)
        wanted, got = plain.assess(clip), remembering.assess(clip)
        assert [(a.program, a.evidence, a.log_odds) for a in got] == [
            (a.program, a.evidence, a.log_odds) for a in wanted
        ]
    assert len(findings) == 2


@pytest.fixture(scope="module")
def fitted(live: LiveIndex) -> Calibration:
    """Weights of noisy clips of the curves: each program at each of eight strengths."""
    calibration = looking(live)
    examiner = Examiner(live, SETTINGS, calibration, seed=1)
    names = [name for name in SEEDS if name != "twin"]
    clips = [
        self_made(i, names[i % 6], ("twin",) if names[i % 6] == "p5" else (), noise=0.3 + 0.15 * (i // 6))
        for i in range(48)
    ]
    trials = [trial for clip in clips for trial in examiner.trials(clip)]
    best = score(trials, fit_by_folds(trials, seed=1))
    link = link_threshold(best.log_odds[~best.is_known], false_links=0.001)
    figures = measure(best, link=link, review=0.3)
    assert figures.unknown_linked == figures.linked_wrong == 0
    assert figures.linked_right > figures.known / 2
    weights = fit(sample_of([case for trial in trials for case in trial.cases]))
    return replace(calibration, weights=weights, link=link, review=review_threshold(best, link=link))


def test_twins_are_put_up_for_review_not_thrown_for(live: LiveIndex, fitted: Calibration) -> None:
    for number in range(6):
        clip = replace(self_made(number, "p5", noise=0.2).clip, further=())
        answer = Linker(live, SETTINGS, fitted).link("c", "c.mp4", clip, model="fp-1", top=3)
        assert answer.decision == "review"
        assert {guess.program_id for guess in answer.candidates[:2]} == {"p5", "twin"}
        # But for the rounding of their vectors, one half.
        assert 0.4 < answer.candidates[1].confidence <= answer.candidates[0].confidence < 0.6


def test_without_a_twin_the_same_clip_is_linked(live: LiveIndex, fitted: Calibration) -> None:
    hidden = [live.programs.index("twin")]
    calibration = replace(fitted, background=fitted.background.without(hidden[0]))
    clip = replace(self_made(0, "p5", noise=0.2).clip, further=())
    answer = Linker(live, SETTINGS, calibration, hidden=hidden).link("c", "c.mp4", clip, model="fp-1", top=3)
    assert answer.program_id == "p5"


# ---------------------------------------------------------------- kept clips


def test_kept_clips_come_back_as_they_were(tmp_path: Path) -> None:
    first, second = self_made(3, "p1"), self_made(8, "p2", ("twin",))
    second = replace(second, full=(Look("centre", second.clip.t_seconds, second.clip.vectors),))
    save_clips(tmp_path / "kept.npz", [first, second], model="fp-1")
    for before, after in zip([first, second], load_clips(tmp_path / "kept.npz", model="fp-1"), strict=True):
        assert (after.number, after.programs, after.kin, after.edits) == (
            before.number, before.programs, before.kin, before.edits,
        )  # fmt: skip
        assert after.clip.duration_seconds == before.clip.duration_seconds
        for a, b in zip((*after.clip.looks, *after.full), (*before.clip.looks, *before.full), strict=True):
            assert a.view == b.view
            assert a.t_seconds.tolist() == b.t_seconds.tolist()
            assert np.abs(a.vectors - b.vectors).max() < 1e-3
    assert len(after.full_or_probe("centre")) == len(after.clip)


def test_kept_clips_of_another_model_or_no_clips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.npz"
    save_clips(path, [self_made(3, "p1")], model="fp-1")
    with pytest.raises(InputError, match="another model"):
        load_clips(path, model="fp-2")
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match="no clips of a calibration"):
        load_clips(path, model="fp-1")


# ---------------------------------------------------------------- clips


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> LiveIndex:
    """Three programs of 10 s whose files are there, and one whose file is not."""
    folder = tmp_path_factory.mktemp("films")
    catalog = Catalog.create(folder / "store", MODEL)
    with catalog.writing() as writer:
        for number, name in enumerate(("a", "b", "c", "gone")):
            path = folder / f"{name}.mp4"
            if name != "gone":
                media.write(path, [media.moving(i + 1000 * number) for i in range(250)])
            asset = NewAsset("e1", str(path), "", 10.0, np.arange(10.0), Trajectory(number)(np.arange(10.0)))
            writer.add_program(NewProgram(name), [asset])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")
        return LiveIndex.open(catalog)


def test_pictures_are_those_of_their_times(tmp_path: Path) -> None:
    """Grey says which frame it is; at four frames a second each fills two cells of the grid."""
    path = media.write(
        tmp_path / "grey.mp4", [media.flat(media.level(i)) for i in range(24)],
        pts=range(24), time_base=media.Fraction(1, 4), rate=4, options={"crf": "0"},
    )  # fmt: skip
    forwards, backwards = np.array([0.0, 0.5, 1.125, 5.75]), np.array([3.0, 2.5, 2.0])
    first, second = pictures_at(path, [forwards, backwards])
    wanted = ([0, 2, 4, 23], [12, 10, 8])
    for pictures, numbers in zip((first, second), wanted, strict=True):
        shown = [float(picture.mean()) for picture in pictures]
        assert shown == pytest.approx([media.level(number) for number in numbers], abs=4)
    (late,) = pictures_at(path, [np.array([5.0, 60.0])])
    assert len(late) == 1
    assert SOURCE_FPS == 8


def test_cuts_are_spread_over_programs_whose_files_are_there(
    films: LiveIndex, caplog: pytest.LogCaptureFixture
) -> None:
    cuts = plan_cuts(films.view, clips=200, programs=10, sampling=SAMPLING, seed=1)
    assert sorted(len(of_asset) for of_asset in cuts) == [66, 67, 67]
    assert caplog.text.count("not at their paths") == 1
    every = [cut for of_asset in cuts for cut in of_asset]
    assert sorted(cut.number for cut in every) == list(range(200))
    for cut in every:
        stretch = cut.stretch
        assert 0 <= stretch.start_seconds < stretch.stop_seconds <= 10 + 1e-9
        assert stretch.start_seconds <= min(cut.times) <= max(cut.times) <= stretch.stop_seconds
    speeds = np.array([abs(cut.times[1] - cut.times[0]) * 2 for cut in every])
    assert 0.1 < np.mean(np.abs(speeds - 1) > 1e-9) < 0.3
    assert 0.5 <= speeds.min() < speeds.max() <= 2
    assert 0 < np.mean([cut.times[0] > cut.times[1] for cut in every]) < 0.06
    again = plan_cuts(films.view, clips=200, programs=10, sampling=SAMPLING, seed=1)
    assert [[cut.stretch for cut in one] for one in again] == [[cut.stretch for cut in one] for one in cuts]


def test_without_any_file_there_is_nothing_to_cut(live: LiveIndex) -> None:
    with pytest.raises(InputError, match="no file of the catalogue is at its path"):
        plan_cuts(live.view, clips=5, programs=5, sampling=SAMPLING, seed=1)


def test_clips_say_what_they_show(films: LiveIndex) -> None:
    cuts = plan_cuts(films.view, clips=60, programs=3, sampling=SAMPLING, seed=2)
    made = list(make_clips(films.view, cuts, sampling=SAMPLING, seed=2))
    assert len(made) > 50
    lengths = {cut.number: len(cut.times) for one in cuts for cut in one}
    for clip in made:
        is_mixed = clip.edits[0] == "mixed"
        shows_two = is_mixed or clip.edits[-1] in FOREIGN_LAYOUTS
        assert len({stretch.program for stretch in clip.stretches}) == 1 + shows_two
        assert (len(clip.frames) > lengths[clip.number]) == is_mixed
        assert {frame.image.shape for frame in clip.frames} == {clip.frames[0].image.shape}
        assert max(clip.frames[0].image.shape) <= SAMPLING.max_side
        assert [frame.t_seconds for frame in clip.frames] == [i / 2 for i in range(len(clip.frames))]
    assert {len(clip.stretches) for clip in made} == {1, 2}


@pytest.mark.parametrize("name", [*PICTURE_EDITS, *OWN_LAYOUTS, *FOREIGN_LAYOUTS])
def test_an_edit_is_the_same_for_every_frame(name: str) -> None:
    picture, foreign = media.moving(3), media.corners()
    once, again, other = (edit(picture, foreign, [name], seed, max_side=96) for seed in (5, 5, 6))
    assert once.tolist() == again.tolist()
    assert once.shape != other.shape or once.tolist() != other.tolist()
    still = edit(media.moving(4), foreign, [name], 5, max_side=96)
    assert still.shape == once.shape


def test_edits_are_one_to_three_and_a_layout_comes_last() -> None:
    rng = np.random.default_rng(0)
    drawn_edits = [draw_edits(rng, has_foreign=True) for _ in range(300)]
    layouts = {*OWN_LAYOUTS, *FOREIGN_LAYOUTS}
    assert {len(names) for names in drawn_edits} == {1, 2, 3}
    assert all(name not in layouts for names in drawn_edits for name in names[:-1])
    assert 0.25 < np.mean([names[-1] in layouts for names in drawn_edits]) < 0.45
    assert {names[-1] for names in drawn_edits} & layouts == layouts
    assert not any(draw_edits(rng, has_foreign=False)[-1] in FOREIGN_LAYOUTS for _ in range(100))


# ---------------------------------------------------------------- the verb


def test_a_store_calibrates_itself(store: Path, tmp_path: Path, matcher: Run) -> None:
    words = ("calibrate", "--store", store, "--clips", 12, "--keep", tmp_path / "kept.npz", "--json")
    ran = matcher(*words)
    assert ran.code == 0, ran.err
    own = Calibration.load(store / FILE_NAME)
    assert (ran.object["version"], ran.object["clips"]) == (own.version, 12)
    assert ran.object["after"]["known"] >= 12
    assert own.background.n_programs == 3
    assert own.link >= LEAST_LINK
    again = matcher(*words, "--out", tmp_path / "other.safetensors")
    assert again.code == 0, again.err
    assert Calibration.load(tmp_path / "other.safetensors").model == own.model
    assert own.version == Calibration.load(store / FILE_NAME).version
    assert present_calibration(store).version == own.version
    model = EncoderInfo("lite0", own.model, own.background.vectors.shape[1])
    assert own.sound is not None
    assert own.sound.model == shipped_sound_encoder().info.fingerprint
    assert own.sound.background.n_programs == 3
    assert ran.object["sound"]["bias"] == own.sound.weights.match.bias
    assert calibration_of(store, model, own.sound.model).version == own.version


def test_words_that_cannot_be_are_refused(store: Path, matcher: Run) -> None:
    ran = matcher("calibrate", "--store", store, "--false-links", 2)
    assert (ran.code, len(ran.lines)) == (2, 1)
    with pytest.raises(ValueError, match="false_links"):
        Plan(false_links=0.0)
