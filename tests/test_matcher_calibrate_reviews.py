"""What people said of kept clips, as examples of a calibration: which are taken, and how they count."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from commands import Library, Run
from test_matcher_calibrate import (
    LENGTH,
    MODEL,
    SEEDS,
    SETTINGS,
    TRUTH,
    drawn,
    looking,
    seen,
    self_made,
    stored,
)
from trajectories import Trajectory, noisy

from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ClipRecord, NewAsset, NewProgram, ReviewRecord, StoredClip
from matcher.calibrate import START, Calibrated, Plan, calibrate
from matcher.calibrate_cases import Case, Trial
from matcher.calibrate_figures import measure
from matcher.calibrate_fit import Fitted, Sample, best_cases, fit, fit_by_folds, score, trust
from matcher.calibrate_kept import save_clips
from matcher.calibrate_reviews import ReviewedClip, ReviewExaminer, Reviews, read_reviews
from matcher.calibration import FILE_NAME, Calibration
from matcher.decision import Weights
from matcher.encoders.base import ModelInfo as EncoderInfo
from matcher.records import Descriptors
from matcher.verdicts import CONFIRMED, NONE, REJECTED, Verdict

PLAN = Plan(clips=48, background=200)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog.create(tmp_path_factory.mktemp("reviews") / "store", MODEL)
    with catalog.writing() as writer:
        for program in SEEDS:
            asset = NewAsset("e1", f"/v/{program}.mp4", "", LENGTH, np.arange(0.0, LENGTH), stored(program))
            writer.add_program(NewProgram(program), [asset])
    return catalog


@pytest.fixture(scope="module")
def live(catalog: Catalog) -> LiveIndex:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")
        return LiveIndex.open(catalog)


def cut(program: str, number: int, noise: float = 0.3) -> Descriptors:
    return replace(self_made(number, program, noise=noise).clip, further=())


def stranger(number: int) -> Descriptors:
    """Of a program outside the catalogue."""
    vectors = noisy(Trajectory(700 + 10 * number, pace=0.4)(np.arange(16) / 2), number, 0.3)
    return Descriptors(np.arange(16) / 2, vectors, 8.0, 16)


def confirmed(clip_id: str, program: str, clip: Descriptors) -> ReviewedClip:
    return ReviewedClip(clip_id, Verdict("program", program, reviews=1), clip)


def rejected(clip_id: str, clip: Descriptors, *programs: str) -> ReviewedClip:
    return ReviewedClip(clip_id, Verdict(rejected=frozenset(programs), reviews=1), clip)


def of_none(clip_id: str, clip: Descriptors) -> ReviewedClip:
    return ReviewedClip(clip_id, Verdict("none", reviews=1), clip)


# ---------------------------------------------------------------- which are taken


def test_the_clips_that_people_spoke_of_are_read(catalog: Catalog) -> None:
    words = [
        ("a", CONFIRMED, "p1"), ("b", REJECTED, "p2"), ("c", NONE, None), ("other model", NONE, None),
        ("not kept", CONFIRMED, "p1"), ("b", REJECTED, "p3"), ("word of later", "perhaps", "p1"),
    ]  # fmt: skip
    with catalog.writing() as writer:
        for clip_id in ("a", "b", "c", "other model", "word of later", "nobody spoke"):
            clip = cut("p1", 1)
            model = "fp-2" if clip_id == "other model" else "fp-1"
            record = ClipRecord(clip_id, "c.mp4", "", clip.duration_seconds, clip.frames_seen, model)
            writer.put_clip(StoredClip(record, clip.t_seconds, clip.vectors))
        for clip_id, verdict, program in words:
            writer.put_review(ReviewRecord(clip_id, program, verdict))
    catalog.refresh()
    found = read_reviews(catalog, most=100, seed=1)
    assert [(one.clip_id, one.verdict.word) for one in found.clips] == [
        ("a", "program"), ("b", None), ("c", "none"),
    ]  # fmt: skip
    assert found.clips[1].verdict.rejected == {"p2", "p3"}
    assert found.left_out == 2
    assert np.abs(found.clips[0].clip.vectors - cut("p1", 1).vectors).max() < 1e-3
    few = read_reviews(catalog, most=2, seed=1)
    assert len(few.clips) <= 2
    assert len(few.clips) + few.left_out == 5


def test_what_cannot_be_held_against_the_catalogue_is_left_out(live: LiveIndex) -> None:
    reviews = Reviews(
        (
            confirmed("gone", "p99", cut("p1", 1)), rejected("gone too", cut("p1", 1), "p99"),
            confirmed("there", "p1", cut("p1", 1)), rejected("half", cut("p1", 1), "p99", "p1"),
            of_none("none", stranger(0)),
        ),
        left_out=3,
    )  # fmt: skip
    examiner = ReviewExaminer(reviews, live, SETTINGS)
    assert examiner.counts() == {"confirmed": 1, "none": 1, "rejected": 1, "left_out": 5}


# ---------------------------------------------------------------- how they count


def trial(live: LiveIndex, one: ReviewedClip) -> Trial:
    told = ReviewExaminer(Reviews((one,)), live, SETTINGS).told(looking(live))
    assert told.asked == told.learned  # without sound
    return told.learned[0]


def test_a_confirmed_clip_is_a_known_one_in_the_fold_of_its_program(live: LiveIndex) -> None:
    found = trial(live, confirmed("c", "p1", cut("p1", 3)))
    assert (found.group, found.kind, found.is_known) == ("p1", "known", True)
    assert found.cases[0].is_right
    others = [Trial(f"p{i % 6}", "known", (case,)) for i, case in enumerate(drawn(300, TRUTH))]
    fits = fit_by_folds(others, seed=1, asked=[found])
    assert len(fits) == 301
    assert fits[-1] == fits[1]
    # What is only asked is not fitted to.
    assert fits[:-1] == fit_by_folds(others, seed=1)


def test_a_confirmed_clip_without_any_evidence_is_a_miss(live: LiveIndex) -> None:
    empty = Descriptors(np.zeros(0), np.zeros((0, MODEL.d), np.float32), 1.0, 1)
    found = [trial(live, confirmed("c", "p2", clip)) for clip in (empty, stranger(1))]
    assert found[0].cases == ()
    figures = measure(score(found, [Fitted(START)] * 2), link=0.95, review=0.3)
    assert (figures.known, figures.linked_right, figures.missed) == (2, 0, 2)


def test_a_clip_from_no_program_is_an_unknown_one_all_by_itself(live: LiveIndex) -> None:
    found = trial(live, of_none("c", cut("p1", 3)))
    assert (found.group, found.kind) == ("clip c", "unknown")
    assert found.cases
    assert not any(case.is_right for case in found.cases)


def test_a_rejected_program_is_a_wrong_candidate_where_it_is_the_best(live: LiveIndex) -> None:
    """Of the others nobody said anything."""
    clip = cut("p1", 3)
    found = trial(live, rejected("c", clip, "p1", "p4"))
    (case,) = found.cases
    assert not case.is_right
    assert case.evidence == trial(live, confirmed("c", "p1", clip)).cases[0].evidence
    assert trial(live, rejected("c", clip, "p4")).cases == ()


def test_what_was_found_once_is_not_looked_for_again(
    live: LiveIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    examiner = ReviewExaminer(Reviews((confirmed("c", "p1", cut("p1", 3)),)), live, SETTINGS)
    first = examiner.told(looking(live))

    def search(*_: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(live, "search", search)
    assert examiner.told(replace(looking(live), weights=replace(START, bias=-5.0))) == first


# ---------------------------------------------------------------- how much


def test_trust_by_hand() -> None:
    """One slip in twenty: of a case with p = 0.95 that is said to be wrong, half are slips."""
    weights = Weights((0.0, 1.0, *([0.0] * 8)), 0.0)
    odds = [np.log(0.95 / 0.05), np.log(0.95 / 0.05), 0.0, np.log(0.999 / 0.001)]
    # A duel that is won for sure leaves the match alone.
    sample = Sample(np.zeros((4, 10)), np.full(4, 1e3), np.array([False, True, False, False]))
    sample.features[:, 1] = odds
    wanted = [0.5, 0.95 * 0.95 / (0.95 * 0.95 + 0.05 * 0.05), 0.95, 0.00095 / (0.00095 + 0.05 * 0.999)]
    assert trust(weights, sample) == pytest.approx(wanted)


def test_slips_of_people_move_the_fit_little_and_their_words_where_it_is_unsure_count() -> None:
    cases = drawn(400, TRUTH)
    sure = [case for case in cases if TRUTH.confidence(seen(case)) > 0.97 and case.is_right][:20]
    slips = [replace(case, is_right=False) for case in sure]
    assert len(slips) == 20

    def fitted(more: list[Case], said: bool) -> float:
        trials = [Trial("p", "known", (case,)) for case in cases]
        trials += [Trial("p", "known", (case,), is_said=said) for case in more]
        weights = fit(best_cases(trials))
        return float(np.mean([weights.confidence(seen(case)) for case in sure]))

    plain = fitted([], said=False)
    assert plain - fitted(slips, said=True) < 0.25 * (plain - fitted(slips, said=False))
    unsure = [case for case in cases if 0.4 < TRUTH.confidence(seen(case)) < 0.6][:20]
    right = [replace(case, is_right=True) for case in unsure]
    taken, in_full = (
        fit(best_cases([Trial("p", "known", (c,)) for c in cases]
                       + [Trial("p", "known", (c,), is_said=said) for c in right]))
        for said in (True, False)
    )  # fmt: skip
    moved = [[w.confidence(seen(case)) for case in unsure] for w in (taken, in_full)]
    assert np.abs(np.subtract(*moved)).max() < 0.03


@dataclass(frozen=True)
class Stub:
    """A model that is never asked: the self-made clips are kept in a file."""

    info = EncoderInfo("synthetic", "fp-1", MODEL.d)
    input_side = 8
    batch_size = 4
    engine = "none"

    def encode(self, images: object) -> object:
        raise AssertionError("asked")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 self-made clips of every strength."""
    names = [name for name in SEEDS if name != "twin"]
    made = [
        self_made(i, names[i % 6], ("twin",) if names[i % 6] == "p5" else (), noise=0.3 + 0.15 * (i // 6))
        for i in range(48)
    ]
    path = tmp_path_factory.mktemp("made") / "clips.npz"
    save_clips(path, made, model="fp-1")
    return path


def calibrated(live: LiveIndex, clips: Path, reviewed: Sequence[ReviewedClip] | None) -> Calibrated:
    present = Calibration(START, 0.95, 0.3, looking(live).background)
    reviews = None if reviewed is None else Reviews(tuple(reviewed))
    return calibrate(live, Stub(), SETTINGS, PLAN, present, keep=clips, reviews=reviews)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(live: LiveIndex, clips: Path) -> Calibrated:
    return calibrated(live, clips, None)


def test_without_reviews_nothing_is_different(live: LiveIndex, clips: Path, plain: Calibrated) -> None:
    empty = calibrated(live, clips, [])
    assert plain.calibration.version == empty.calibration.version
    assert plain.reviews is None
    assert empty.reviews is None
    assert plain.to_json()["reviews"] is None


@pytest.mark.slow
def test_a_few_reviews_are_counted_apart_and_do_not_break_the_calibration(
    live: LiveIndex, clips: Path, plain: Calibrated
) -> None:
    """Right ones, and a dozen that a person got wrong: clips that surely match and are said to be of none."""
    right = [confirmed(f"r{i}", f"p{i % 5}", cut(f"p{i % 5}", 60 + i)) for i in range(4)]
    right += [of_none(f"n{i}", stranger(i)) for i in range(2)]
    wrong = [of_none(f"w{i}", cut(f"p{i % 5}", 80 + i)) for i in range(12)]
    found = calibrated(live, clips, [*right, *wrong])
    assert found.reviews is not None
    assert found.reviews.counts == {"confirmed": 4, "none": 14, "rejected": 0, "left_out": 0}
    after = found.reviews.after
    assert (after.known, after.unknown) == (4, 14)
    assert after.linked_right >= 3
    assert after.unknown_linked >= 6  # as the matcher sees it, against what was said
    # The self-made clips alone are in the other figures, and in the thresholds.
    assert (found.after.known, found.after.unknown) == (plain.after.known, plain.after.unknown)
    assert found.after.linked_right >= 0.9 * plain.after.linked_right
    assert found.after.linked_wrong + found.after.unknown_linked <= 1
    assert len(found.rows()) == 4
    assert json.loads(json.dumps(found.to_json()))["reviews"]["confirmed"] == 4
    assert "18 clips that people spoke of" in found.calibration.notes
    assert found.calibration.version != plain.calibration.version


# ---------------------------------------------------------------- the verb


@pytest.mark.slow
def test_a_store_is_calibrated_with_what_people_said(
    library: Library, store: Path, tmp_path: Path, matcher: Run
) -> None:
    matcher("link", "--store", store, *library.clips.values())
    assert matcher("review", "clip-p01", "--program", "p01", "--store", store).code == 0
    assert matcher("review", "clip-p02", "--reject", "p02", "--store", store).code == 0
    words = ("calibrate", "--store", store, "--clips", 12, "--keep", tmp_path / "kept.npz")
    ran = matcher(*words, "--json")
    assert ran.code == 0, ran.err
    reviews = ran.object["reviews"]
    assert {name: reviews[name] for name in ("confirmed", "none", "rejected", "left_out")} == {
        "confirmed": 1, "none": 0, "rejected": 1, "left_out": 0,
    }  # fmt: skip
    assert (reviews["after"]["known"], reviews["after"]["unknown"]) == (1, 1)
    assert "clips 12, programs 3, reviewed clips 2, left out 0 in " in ran.lines[-1]
    version = Calibration.load(store / FILE_NAME).version
    without = matcher(*words, "--no-reviews", "--json").object
    assert (without["reviews"], without["version"] == version) == (None, False)
    assert "reviewed clips" in matcher(*words).out
    # Another calibration is another epoch: every clip is answered again, and the words hold.
    matcher("relink", "--store", store, "--accept")
    links = {one["clip_id"]: one for one in matcher("links", "--store", store, "--json").objects}
    assert links["clip-p01"]["program_id"] == "p01"
    assert links["clip-p02"]["program_id"] != "p02"
