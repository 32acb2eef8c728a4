"""A catalogue calibrates what it hears: whose sound its clips have, what is asked, and what is fitted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from numpy.typing import NDArray
from test_matcher_calibrate import TRUTH, drawn, evidence_of, seen
from test_matcher_linking import MODEL, clip_of, half, live_of
from test_matcher_linking import cut as pictures_of
from test_matcher_linking_sound import (
    BOTH,
    SETTINGS,
    SILENCE,
    SOUND_MODEL,
    SOUNDS,
    sound_of,
    strange_sound,
    with_sound,
)
from test_matcher_linking_sound import SEEDS as PROGRAMS
from test_matcher_pipeline_sound import SECONDS, pictures, talk, write
from trajectories import Trajectory, noisy

from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import NewAsset, NewProgram
from index.subset import Subset
from matcher import calibrate_sound
from matcher.calibrate import START_SOUND
from matcher.calibrate_cases import Case, Examiner, RememberingLinker, Trial
from matcher.calibrate_clips import Cut, Stretch, plan_cuts
from matcher.calibrate_fit import (
    RIDGE,
    SIGNS,
    Fitted,
    Sample,
    best_cases,
    fit,
    fit_both,
    fit_by_folds,
    fit_sound,
    fit_weights,
    heard_cases,
    score,
)
from matcher.calibrate_kept import SelfMade, load_clips, save_clips
from matcher.calibrate_sound import EDITED_SHARE, KINDS, MUTED_SHARE, REPLACED_SHARE, HeardClip, heard_of
from matcher.calibration import FILE_NAME, Calibration
from matcher.considered import COINCIDENCE
from matcher.decision import CLEARLY_SEEN, SIGHT_FEATURES, Sight, SoundWeights
from matcher.decode import Sampling
from matcher.decode_sound import read_sound
from matcher.encoders.sound import shipped_sound_encoder
from matcher.linking import Linker
from matcher.listen import Listener
from matcher.records import Look
from matcher.sound import RATE_HZ, mel_columns
from matcher.training.sound_edits import FOREIGN_EDITS

LISTENER = Listener(shipped_sound_encoder(), 2)
SAMPLING = Sampling(fps=2.0)
N_CUTS = 90


# ---------------------------------------------------------------- the sound of a clip


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> LiveIndex:
    """Three programs that talk and one that is mute."""
    folder = tmp_path_factory.mktemp("talkies")
    catalog = Catalog.create(folder / "store", MODEL)
    t = np.arange(float(SECONDS))
    with catalog.writing() as writer:
        for number, name in enumerate(("a", "b", "c", "mute")):
            path = write(folder / f"{name}.mp4", pictures(number), None if name == "mute" else talk(number))
            asset = NewAsset("e1", str(path), "", float(SECONDS), t, Trajectory(number)(t))
            writer.add_program(NewProgram(name), [asset])
    return live_of(catalog)


@pytest.fixture(scope="module")
def cuts(films: LiveIndex) -> list[Cut]:
    """Of the programs that talk."""
    every = plan_cuts(films.view, clips=N_CUTS * 4 // 3, programs=4, sampling=SAMPLING, seed=1)
    mute = films.programs.index("mute")
    return [cut for of_asset in every for cut in of_asset if cut.stretch.program != mute]


def length_of(cut: Cut) -> float:
    return len(cut.times) / 2


def heard(
    films: LiveIndex, cuts: Sequence[Cut], cut: Cut, *, seed: int = 1, second: Stretch | None = None
) -> HeardClip:
    strange = [one.stretch for one in cuts if one.stretch.program != cut.stretch.program]
    return heard_of(films.view, cut, second, strange, LISTENER, length_seconds=length_of(cut), seed=seed)


def nearest_program(films: LiveIndex, look: Look) -> int:
    """Which film most patches resemble most, by brute force."""
    best = []
    for asset in films.view.assets:
        samples = read_sound(Path(asset.path), 0.0, SECONDS + 1.0)
        _, vectors = LISTENER.encoder.describe(mel_columns(samples), step=1)
        best.append((look.vectors @ vectors.T).max(axis=1) if len(vectors) else np.full(len(look), -1.0))
    (program, _) = Counter(np.argmax(best, axis=0).tolist()).most_common(1)[0]
    return int(films.view.program_position[program])


@pytest.fixture(scope="module")
def drawn_sounds(films: LiveIndex, cuts: list[Cut]) -> list[tuple[Cut, HeardClip, str]]:
    """Of each cut what is heard, and the edit that it went through."""
    done: list[str] = []
    edit = calibrate_sound.edit_sound

    def spy(kind: str, *rest: object) -> object:
        done.append(kind)
        return edit(kind, *rest)  # type: ignore[arg-type]

    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate_sound, "edit_sound", spy)
        for cut in cuts:
            done.clear()
            one = heard(films, cuts, cut)
            found.append((cut, one, done[0] if len(done) > 1 else ""))
            assert done[-1] == "low_bit_rate"
    return found


@pytest.mark.slow
def test_muted_replaced_and_edited_ones_all_occur_as_often_as_they_should(
    drawn_sounds: list[tuple[Cut, HeardClip, str]],
) -> None:
    n = len(drawn_sounds)
    muted = [one for _, one, _ in drawn_sounds if not one.stretches]
    replaced = [
        one
        for cut, one, _ in drawn_sounds
        if one.stretches and one.stretches[0].program != cut.stretch.program
    ]
    edits = [edit for _, _, edit in drawn_sounds if edit]
    for found, share in ((muted, MUTED_SHARE), (replaced, REPLACED_SHARE), (edits, EDITED_SHARE)):
        spread = (share * (1 - share) / n) ** 0.5
        assert len(found) / n == pytest.approx(share, abs=3 * spread)
        assert found
    assert all(len(one.look) == 0 for one in muted)
    assert len(set(edits)) > 5
    assert set(edits) <= set(KINDS)
    # The pictures say how fast a clip is.
    assert not {"tempo", "playback_speed"} & set(KINDS)


@pytest.mark.slow
def test_the_source_that_is_named_is_the_one_that_is_heard(
    films: LiveIndex, drawn_sounds: list[tuple[Cut, HeardClip, str]]
) -> None:
    """Where the clip is as fast as its source, and nothing else is laid over it."""
    checked = Counter[bool]()
    for cut, one, edit in drawn_sounds:
        is_own = bool(one.stretches) and one.stretches[0] == cut.stretch
        plain = np.allclose(np.diff(cut.times), 0.5)
        if edit or not one.stretches or len(one.look) < 5 or (is_own and not plain):
            continue
        assert nearest_program(films, one.look) == one.stretches[0].program
        checked[is_own] += 1
    assert min(checked[True], checked[False]) > 5


def test_a_sound_that_is_laid_over_is_a_source_too(
    films: LiveIndex, drawn_sounds: list[tuple[Cut, HeardClip, str]]
) -> None:
    """Else a link to it would count as wrong, though it is heard."""
    loud = []
    for cut, one, edit in drawn_sounds:
        if edit not in FOREIGN_EDITS:
            assert len(one.stretches) <= 1
            continue
        own, other = one.stretches
        assert own == cut.stretch
        assert other.program != own.program
        if edit == "loud_sound_over" and len(one.look) > 5:
            loud.append(nearest_program(films, one.look) == other.program)
    assert np.mean(loud) > 0.5


@pytest.mark.slow
def test_what_is_heard_is_drawn_by_the_seed(films: LiveIndex, cuts: list[Cut]) -> None:
    once, again = ([heard(films, cuts, cut) for cut in cuts[:12]] for _ in range(2))
    other = [heard(films, cuts, cut, seed=2) for cut in cuts[:12]]
    for a, b in zip(once, again, strict=True):
        assert a.stretches == b.stretches
        np.testing.assert_array_equal(a.look.t_seconds, b.look.t_seconds)
        np.testing.assert_array_equal(a.look.vectors, b.look.vectors)
        np.testing.assert_array_equal(a.look.vectors, half(a.look.vectors))
    assert any(
        a.stretches != b.stretches or a.look.vectors.tolist() != b.look.vectors.tolist()
        for a, b in zip(once, other, strict=True)
    )


@pytest.mark.slow
def test_without_another_program_no_sound_is_replaced(films: LiveIndex, cuts: list[Cut]) -> None:
    for cut in cuts[:20]:
        one = heard_of(films.view, cut, None, [], LISTENER, length_seconds=length_of(cut), seed=1)
        assert one.stretches in ((cut.stretch,), ())


@pytest.mark.slow
def test_of_two_stretches_both_are_heard(films: LiveIndex, cuts: list[Cut]) -> None:
    """One after the other, as the pictures show them."""
    first = next(cut for cut in cuts if np.allclose(np.diff(cut.times), 0.5) and len(cut.times) > 10)
    second = next(one.stretch for one in cuts if one.stretch.program != first.stretch.program)
    named = {heard(films, cuts, replace(first, number=n), second=second).stretches for n in range(16)}
    assert (first.stretch, second) in named
    length = round((first.stretch.stop_seconds - first.stretch.start_seconds + 2.0) * RATE_HZ)
    both = calibrate_sound._own(films.view, first, second, length, np.random.default_rng(0))
    one = read_sound(
        asset_path(films, first.stretch), first.stretch.start_seconds, first.stretch.stop_seconds
    )
    other = read_sound(asset_path(films, second), second.start_seconds, second.stop_seconds)
    np.testing.assert_array_equal(both, np.concatenate([one, other])[:length])


def asset_path(films: LiveIndex, stretch: Stretch) -> Path:
    return Path(films.view.assets[stretch.asset].path)


def test_the_sound_goes_the_way_of_the_pictures(films: LiveIndex) -> None:
    """Backwards, and at their speed: half as long at double speed, an octave up or not."""
    stretch = Stretch(0, 0, 2.0, 8.0)
    own = read_sound(asset_path(films, stretch), 2.0, 8.0)
    n = own.size
    rng = np.random.default_rng(0)
    backwards = calibrate_sound._own(films.view, Cut(0, stretch, np.arange(8.0, 2.0, -0.5)), None, n, rng)
    np.testing.assert_array_equal(backwards, own[::-1])
    forwards = calibrate_sound._own(films.view, Cut(0, stretch, np.arange(2.0, 8.0, 0.5)), None, n, rng)
    np.testing.assert_array_equal(forwards, own)
    pitches = set()
    for seed in range(8):
        fast = calibrate_sound._own(
            films.view, Cut(0, stretch, np.arange(2.0, 8.0, 1.0)), None, n // 2, np.random.default_rng(seed)
        )
        assert fast.size == n // 2
        loud = [float(np.sqrt(np.mean(part**2))) for part in np.array_split(fast, 6)]
        wanted = [float(np.sqrt(np.mean(part**2))) for part in np.array_split(own, 6)]
        assert np.corrcoef(loud, wanted)[0, 1] > 0.8
        pitches.add(round(centroid(fast) / centroid(own), 1))
    assert min(pitches) < 1.3
    assert max(pitches) > 1.5


def centroid(samples: NDArray[np.float32]) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float((power * np.arange(power.size)).sum() / power.sum() / samples.size)


def test_a_mute_film_has_nothing_to_be_heard(films: LiveIndex) -> None:
    mute = films.programs.index("mute")
    stretch, times = Stretch(mute, mute, 1.0, 7.0), np.arange(1.0, 7.0, 0.5)
    for number in range(6):
        cut = Cut(number, stretch, times)
        one = heard_of(films.view, cut, None, [], LISTENER, length_seconds=6.0, seed=1)
        assert len(one.look) == 0


# ---------------------------------------------------------------- questions about clips with sound


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveIndex, LiveIndex]:
    """The curves of the linking tests; the last program has no sound."""
    catalog = Catalog.create(tmp_path_factory.mktemp("curves") / "store", MODEL)
    with catalog.writing() as writer:
        writer.use_sound(SOUND_MODEL)
        for program in PROGRAMS:
            writer.add_program(NewProgram(program), with_sound(program))
    return live_of(catalog), live_of(catalog, "sounds")


def self_made(
    number: int, program: str, sound: Look | None, sounds: tuple[str, ...], noise: float = 0.4
) -> SelfMade:
    clip = replace(clip_of(noisy(pictures_of(program, 30.4), number, noise)), sound=sound)
    further = (Look("centre", np.arange(4) * 1.0, half(noisy(clip.vectors[:4], number + 1, 1.0))),)
    return SelfMade(number, (program,), (), ("crop",), replace(clip, further=further), (), sounds)


def examiner_of(lives: tuple[LiveIndex, LiveIndex], calibration: Calibration = BOTH) -> Examiner:
    return Examiner(lives[0], SETTINGS, calibration, seed=1, sound=lives[1])


def test_a_clip_with_sound_is_asked_without_it_and_with_it(lives: tuple[LiveIndex, LiveIndex]) -> None:
    trials = list(examiner_of(lives).trials(self_made(0, "p1", sound_of("p1", 30.4), ("p1",))))
    assert [(trial.kind, trial.is_heard) for trial in trials] == [
        (kind, is_heard)
        for kind in ("known", "unknown", "known, few programs", "unknown, few programs")
        for is_heard in (False, True)
    ]
    for trial in trials:
        assert trial.is_heard or all(case.heard is None for case in trial.cases)
        assert all(case.is_right == case.is_source for case in trial.cases)
        assert any(case.is_right for case in trial.cases) == trial.is_known
    known = next(trial for trial in trials if trial.is_heard and trial.is_known)
    best = known.cases[0]
    assert best.evidence is not None
    assert best.heard is not None
    assert best.heard.sight is not None
    assert (best.is_same_place, best.is_source, best.is_right) == (True, True, True)
    assert best.heard.sight.seen > CLEARLY_SEEN


def test_a_clip_that_nobody_listened_to_is_asked_as_before(lives: tuple[LiveIndex, LiveIndex]) -> None:
    clip = self_made(0, "p1", None, ("p1",))
    assert not any(trial.is_heard for trial in examiner_of(lives).trials(clip))
    deaf = Examiner(lives[0], SETTINGS, replace(BOTH, sound=None), seed=1)
    heard_too = self_made(0, "p1", sound_of("p1", 30.4), ("p1",))
    assert list(deaf.trials(heard_too)) == list(deaf.trials(clip))


def test_whose_sound_it_is_is_told_apart_from_what_is_shown(lives: tuple[LiveIndex, LiveIndex]) -> None:
    trials = examiner_of(lives).trials(self_made(1, "p1", sound_of("p3", 50.2), ("p3",)))
    known = next(trial for trial in trials if trial.kind == "known" and trial.is_heard)
    by_kind = {(case.is_right, case.is_source): case for case in known.cases}
    shown, said_by = by_kind[True, False], by_kind[False, True]
    assert shown.evidence is not None
    assert shown.heard is None
    assert said_by.heard is not None
    assert said_by.heard.sight is not None
    assert said_by.heard.sight.seen < 0
    assert not said_by.is_same_place


def test_a_remembering_linker_hears_as_any_other(lives: tuple[LiveIndex, LiveIndex]) -> None:
    """With other weights, and with the looks coming one after the other."""
    clip = self_made(1, "p2", sound_of("p2", 30.4, noise=0.5), ("p2",)).clip
    findings: dict = {}
    own = SOUNDS.weights
    other = replace(SOUNDS, weights=replace(own, match=replace(own.match, bias=-3.0), sight_bias=-2.0))
    for one in (BOTH, replace(BOTH, sound=other)):
        plain = Linker(lives[0], SETTINGS, one, sound=lives[1])
        remembering = RememberingLinker(lives[0], SETTINGS, one, hidden=(), findings=findings, sound=lives[1])
        for asked in (replace(clip, further=()), replace(clip, sound=None), clip, clip):
            a, b = plain.joined(plain.consider(asked)), remembering.joined(remembering.consider(asked))
            assert [(x.program, x.log_odds, x.is_same_place) for x in b] == [
                (x.program, x.log_odds, x.is_same_place) for x in a
            ]
            assert [x.sound.evidence for x in b if x.sound] == [x.sound.evidence for x in a if x.sound]
    assert len(findings) == 3


def test_few_programs_are_heard_as_by_brute_force(lives: tuple[LiveIndex, LiveIndex]) -> None:
    names = ["p1", "p4"]
    few = Subset(lives[1], [lives[1].programs.index(name) for name in names])
    queries = sound_of("p1", 40.0, seconds=4.0).vectors
    stored = np.concatenate(
        [half(asset.sound[1]) for name in names for asset in with_sound(name) if asset.sound]
    )
    assert few.ntotal == len(stored)
    wanted = -np.sort(-(queries @ stored.T), axis=1)[:, :6]
    assert few.search(queries, 6).similarities == pytest.approx(wanted, abs=1e-3)


# ---------------------------------------------------------------- kept clips


def test_kept_clips_come_back_with_their_sound(tmp_path: Path) -> None:
    """Heard, silent and never listened to, in any order."""
    path = tmp_path / "kept.npz"
    clips = [
        self_made(0, "p1", None, ()),
        self_made(1, "p2", sound_of("p3", 50.0), ("p3",)),
        self_made(2, "p3", SILENCE, ()),
        self_made(3, "p1", strange_sound(), ("p1", "p4")),
    ]
    clips[1] = replace(clips[1], full=(Look("centre", clips[1].clip.t_seconds, half(clips[1].clip.vectors)),))
    for some in (clips, clips[::-1], clips[:1]):
        save_clips(path, some, model="fp-1 heard")
        for before, after in zip(some, load_clips(path, model="fp-1 heard"), strict=True):
            assert (after.number, after.programs, after.sounds) == (
                before.number, before.programs, before.sounds,
            )  # fmt: skip
            looks = [(*one.clip.looks, *one.full) for one in (after, before)]
            for a, b in zip(*looks, strict=True):
                assert (a.view, a.kind, a.t_seconds.tolist()) == (b.view, b.kind, b.t_seconds.tolist())
                np.testing.assert_array_equal(a.vectors.size, b.vectors.size)
                if b.vectors.size:
                    np.testing.assert_array_equal(a.vectors, half(b.vectors))


# ---------------------------------------------------------------- fit

SIGHT_TRUTH = ((6.0, 0.5, 8.0), -2.0)
SOUND_TRUTH = SoundWeights(TRUTH, *SIGHT_TRUTH)


def sight_of(rng: np.random.Generator) -> Sight:
    return Sight(float(rng.uniform(-0.2, 0.5)), float(rng.uniform(-2, 4)))


def chance(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(log_odds, -500, 500))))


def heard_and_seen(n: int, seed: int = 0) -> list[Case]:
    """Cases whose sound is the program's, and whose pictures are, as often as the truth says."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(n):
        said_so = replace(evidence_of(rng, strong=bool(number % 2)), sight=sight_of(rng))
        if rng.random() < 0.1:
            said_so = replace(said_so, sight=None)
        is_source = bool(rng.random() < TRUTH.confidence(said_so))
        is_shown = bool(rng.random() < chance(SOUND_TRUTH.shown(said_so.sight)))
        cases.append(Case(None, is_source and is_shown, heard=said_so, is_source=is_source))
    return cases


def test_the_fit_of_sound_finds_what_the_cases_were_drawn_by() -> None:
    cases = heard_and_seen(8000)
    found = fit_sound(cases)
    sights = [case.heard.sight for case in cases if case.heard and case.heard.sight]
    wanted, got = (np.array([chance(w.shown(sight)) for sight in sights]) for w in (SOUND_TRUTH, found))
    assert np.abs(wanted - got).mean() < 0.03
    every = [case.heard for case in cases if case.heard]
    wanted, got = (np.array([chance(w.match.log_odds(one)) for one in every]) for w in (SOUND_TRUTH, found))
    assert np.abs(wanted - got).mean() < 0.02
    both = [np.array([chance(w.log_odds(one)) for one in every if one.sight]) for w in (SOUND_TRUTH, found)]
    assert np.abs(both[0] - both[1]).mean() < 0.02


def shown_sample(cases: Sequence[Case]) -> Sample:
    """The second question as it is written: of clips whose sound is the program's, are the pictures too?"""
    rows = [
        (case.heard.sight.features(), case.is_right)
        for case in cases
        if case.is_source and case.heard is not None and case.heard.sight is not None
    ]
    return Sample(
        np.array([row for row, _ in rows]), np.full(len(rows), np.inf), np.array([right for _, right in rows])
    )


def test_no_step_away_from_the_fit_of_sight_is_better() -> None:
    cases = heard_and_seen(2500, seed=5)
    sample, found = shown_sample(cases), fit_sound(cases)

    def penalized(sight: Sequence[float], bias: float) -> float:
        z = sample.features @ np.array(sight) + bias
        likelihood = np.where(sample.is_right, -np.logaddexp(0, -z), -np.logaddexp(0, z)).sum()
        return float(-likelihood + 0.5 * RIDGE * ((np.array(sight) * sample.features.std(axis=0)) ** 2).sum())

    best = penalized(found.sight, found.sight_bias)
    free = [place for place, weight in enumerate(found.sight) if weight != 0]
    assert len(free) >= 2
    for place, sign in itertools.product(free, (-1, 1)):
        moved = list(found.sight)
        moved[place] += sign * 0.05
        assert penalized(moved, found.sight_bias) > best
    for sign in (-1, 1):
        assert penalized(found.sight, found.sight_bias + sign * 0.05) > best
    # The slope there is none at all, by the formula of the logistic function.
    z = sample.features @ np.array(found.sight) + found.sight_bias
    rest = sample.is_right - 1 / (1 + np.exp(-z))
    assert rest.sum() == pytest.approx(0.0, abs=0.02)
    for place in free:
        column = sample.features[:, place]
        slope = rest @ column - RIDGE * found.sight[place] * column.var()
        assert slope == pytest.approx(0.0, abs=0.05)


def test_the_match_of_sound_is_fitted_to_whose_sound_it_is() -> None:
    cases = heard_and_seen(400)
    every = [case.heard for case in cases if case.heard is not None]
    assert fit_sound(cases).match == fit(Sample.of(every, [case.is_source for case in cases]))
    # What is not heard, and what pictures say of a sound that is not the program's, are no part of it.
    more = [*cases, Case(every[0], True)]
    assert fit_sound(more) == fit_sound(cases)
    spoiled = [replace(case, is_right=True) if not case.is_source else case for case in cases]
    assert fit_sound(spoiled) == fit_sound(cases)
    assert fit_sound(cases[::-1]).sight == pytest.approx(fit_sound(cases).sight, rel=1e-4)


def test_a_sight_that_speaks_the_wrong_way_is_left_out() -> None:
    """More of the place seen where the pictures are another's: an accident that is not learned."""
    rng = np.random.default_rng(0)
    sights = [sight_of(rng) for _ in range(600)]
    right = [bool(rng.random() < chance(-3 * one.seen + 0.8 * one.stands_out - 0.5)) for one in sights]
    features = np.array([one.features() for one in sights])
    sight, _ = fit_weights(Sample(features, np.full(600, np.inf), np.array(right)), SIGHT_FEATURES)
    found = dict(zip(SIGHT_FEATURES, sight, strict=True))
    assert found["seen"] == found["beyond_chance"] == 0.0
    assert found["stands_out"] == pytest.approx(0.8, abs=0.25)
    assert all(SIGNS[name] == 1 for name in SIGHT_FEATURES)


def test_a_question_with_one_answer_keeps_what_there_was() -> None:
    """A catalogue whose clips all have their own sound cannot say what another's pictures would show."""
    cases = heard_and_seen(400)
    own = [replace(case, is_right=case.is_source) for case in cases]
    with pytest.raises(ValueError, match="nothing to tell apart"):
        fit_sound(own)
    found = fit_sound(own, START_SOUND)
    assert found.match == fit_sound(cases).match
    assert (found.sight, found.sight_bias) == (START_SOUND.sight, START_SOUND.sight_bias)
    all_own = [case for case in cases if case.is_source]
    found = fit_sound(all_own, START_SOUND)
    assert found.match == START_SOUND.match
    assert found.sight == fit_sound(cases).sight
    assert fit_sound([], START_SOUND) == START_SOUND
    assert fit_sound(cases, START_SOUND) == fit_sound(cases)


def test_the_first_thing_heard_of_each_answer_is_fitted_to() -> None:
    a, b, c = heard_and_seen(3)
    mute = Case(seen(drawn(1, TRUTH)[0]), True)
    trials = [
        Trial("p", "known", (mute, a, b), is_heard=True),
        Trial("p", "known", (mute, mute), is_heard=True),
        Trial("p", "unknown", (), is_heard=True),
        Trial("p", "known", (c,)),  # nobody listened: whatever it holds is no answer of the ear
        Trial("p", "known", (b, a), is_heard=True),
    ]
    assert heard_cases(trials) == [a, b]


def trials_of(n: int = 400) -> list[Trial]:
    """Of six programs, each clip asked without sound and with it."""
    seen_ones, heard_ones = drawn(n, TRUTH, seed=3), heard_and_seen(n, seed=4)
    found = []
    for number, (picture, sound) in enumerate(zip(seen_ones, heard_ones, strict=True)):
        group = f"p{number % 6}"
        found.append(Trial(group, "known", (picture,)))
        found.append(
            Trial(group, "known", (replace(picture, heard=sound.heard, is_source=sound.is_source),), True)
        )
    return found


def test_both_are_fitted_each_to_its_own_answers() -> None:
    trials = trials_of()
    found = fit_both(trials)
    assert found.picture == fit(best_cases(trials))
    assert found.sound == fit_sound(heard_cases(trials))
    mute = [trial for trial in trials if not trial.is_heard]
    assert fit_both(mute) == Fitted(found.picture)
    assert fit_both(mute, START_SOUND) == Fitted(found.picture, START_SOUND)
    for one, trial in zip(fit_by_folds(trials, seed=1), trials, strict=True):
        assert one.sound is not None
        assert one != found, trial


def test_a_program_is_not_heard_by_weights_that_were_fitted_on_it() -> None:
    trials = trials_of()
    spoiled = [
        replace(t, cases=tuple(replace(c, is_source=not c.is_source) for c in t.cases))
        if t.group == "p0" and t.is_heard
        else t
        for t in trials
    ]
    clean, other = fit_by_folds(trials, seed=1), fit_by_folds(spoiled, seed=1)
    same = {trial.group for trial, a, b in zip(trials, clean, other, strict=True) if a == b}
    assert "p0" in same
    assert len(same) == 2  # six programs in three folds


def test_a_case_counts_by_what_is_seen_and_heard_of_it() -> None:
    rng = np.random.default_rng(0)
    shown, talked = (
        evidence_of(rng, strong=True),
        replace(evidence_of(rng, strong=True), sight=Sight(0.3, 2.0)),
    )
    fitted = Fitted(TRUTH, SOUND_TRUTH)
    seen_odds, heard_odds = TRUTH.log_odds(shown), SOUND_TRUTH.log_odds(talked)
    assert fitted.log_odds(Case(shown, True)) == seen_odds
    assert fitted.log_odds(Case(None, True, heard=talked)) == heard_odds
    assert fitted.log_odds(Case(shown, True, heard=talked)) == max(seen_odds, heard_odds)
    joined = fitted.log_odds(Case(shown, True, heard=talked, is_same_place=True))
    assert joined == max(seen_odds, heard_odds, seen_odds + heard_odds + COINCIDENCE)
    # Without an ear nothing is heard.
    assert Fitted(TRUTH).log_odds(Case(shown, True, heard=talked, is_same_place=False)) == seen_odds
    best = score([Trial("p", "known", (Case(shown, False), Case(None, True, heard=talked)), True)], [fitted])
    assert best.log_odds[0] == max(seen_odds, heard_odds)
    assert best.is_right[0] == (heard_odds > seen_odds)


# ---------------------------------------------------------------- the verb


@pytest.mark.slow
def test_a_store_in_which_hardly_anything_is_said_calibrates_its_pictures(
    matcher: Run, tmp_path: Path
) -> None:
    """Of one program with sound nothing can be learned of sound; what is shipped goes on to hold."""
    store = tmp_path / "store"
    for number in range(4):
        path = write(tmp_path / f"f{number}.mp4", pictures(number), talk(0) if number == 0 else None)
        assert matcher("add", "--store", store, f"f{number}", path).code == 0
    ran = matcher("calibrate", "--store", store, "--clips", 40, "--json")
    assert ran.code == 0, ran.err
    assert ran.object["sound"] is None
    assert Calibration.load(store / FILE_NAME).sound is None
    assert matcher("query", "--store", store, tmp_path / "f0.mp4", "--json").object["patches"] > 0


@pytest.mark.slow
def test_calibrating_without_sound_listens_to_nothing(matcher: Run, store: Path, tmp_path: Path) -> None:
    kept, out = tmp_path / "kept.npz", tmp_path / "out.safetensors"
    words = ("calibrate", "--store", store, "--clips", 12, "--keep", kept, "--out", out, "--json")
    ran = matcher(*words, "--no-sound")
    assert ran.code == 0, ran.err
    assert ran.object["sound"] is None
    assert Calibration.load(out).sound is None
    # Clips that nobody listened to are no clips to listen to.
    ran = matcher(*words)
    assert (ran.code, len(ran.lines)) == (2, 1)
    assert "another model" in ran.err
