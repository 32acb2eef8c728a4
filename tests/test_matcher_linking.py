"""Clips cut from a small real store go to their program and place; strangers, twins and nothing do not."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from trajectories import D, Trajectory, noisy

from index.base import SearchResult
from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ClipRecord, Kind, ModelInfo, NewAsset, NewProgram, StoredClip
from matcher.background import Background
from matcher.calibration import Calibration
from matcher.config import DecisionSettings, IndexSettings, Settings, VotingSettings
from matcher.considered import Assessed
from matcher.decision import FEATURES, Weights
from matcher.linking import NO_EVIDENCE, Linker, failed
from matcher.pipeline import descriptors_of
from matcher.records import WHOLE, Answer, Descriptors, Failure, Look
from matcher.store import open_live

MODEL = ModelInfo("fp-1", "synthetic", D)
SETTINGS = Settings()
LINK, REVIEW = 0.95, 0.3
#: Of the form that a fit gives; what chance gives is that of no program in particular.
CALIBRATION = Calibration(
    Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5, 0.0), -6.8),
    LINK,
    REVIEW,
    Background.empty(D, least=0.6),
)
INSET = "inset 0.04,0.04,0.50,0.51"
PACE = 0.4
LENGTH = 90.0
#: Two assets a program; those of ``twin`` are those of ``p5``.
SEEDS = {f"p{i}": (10 * i, 10 * i + 1) for i in range(6)} | {"twin": (50, 51)}


def curve(program: str, asset: int = 0) -> Trajectory:
    return Trajectory(SEEDS[program][asset], pace=PACE)


def new_assets(program: str) -> list[NewAsset]:
    t = np.arange(0.0, LENGTH)
    return [
        NewAsset(f"{program}-e{i}", f"/v/{program}-{i}.mp4", "", LENGTH, t, curve(program, i)(t))
        for i in range(2)
    ]


def add(catalog: Catalog, *programs: str) -> None:
    with catalog.writing() as writer:
        for program in programs:
            writer.add_program(NewProgram(program, title=f"Title of {program}"), new_assets(program))


def live_of(catalog: Catalog, table: Kind = "frames") -> LiveIndex:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")
        return LiveIndex.open(catalog, table=table)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveIndex:
    catalog = Catalog.create(tmp_path_factory.mktemp("linking") / "store", MODEL)
    add(catalog, *SEEDS)
    return live_of(catalog)


@pytest.mark.parametrize("program", ["p0", "p3"])
def test_two_stages_answer_as_one(live: LiveIndex, linker: Linker, program: str) -> None:
    """Of every clip the same answer, segments and all, from frames that are read from the tables."""
    settings = IndexSettings(search="two-stage", stretches=1000)
    two = Linker(open_live(live._catalog, settings), SETTINGS, CALIBRATION)
    for vectors in (cut(program, 20.0), cut(program, 50.0, asset=1), stranger()):
        got, want = ask(two, clip_of(vectors)), ask(linker, clip_of(vectors))
        assert got.decision == want.decision
        assert [guess.program_id for guess in got.candidates] == [
            guess.program_id for guess in want.candidates
        ]
        for link, wanted in zip(got.links, want.links, strict=True):
            assert (link.program_id, len(link.segments)) == (wanted.program_id, len(wanted.segments))
            assert link.confidence == pytest.approx(wanted.confidence, abs=1e-5)
            for segment, other in zip(link.segments, wanted.segments, strict=True):
                assert segment.asset_id == other.asset_id
                assert segment.asset_start_seconds == pytest.approx(other.asset_start_seconds, abs=1e-3)


@pytest.fixture
def linker(live: LiveIndex) -> Linker:
    return Linker(live, SETTINGS, CALIBRATION)


def flat(similarity: float, bias: float) -> Calibration:
    """One that looks at nothing but the similarity."""
    weights = Weights((similarity, *[0.0] * (len(FEATURES) - 1)), bias)
    return replace(CALIBRATION, weights=weights)


def look_of(view: str, vectors: NDArray[np.float32], *, seed: int = 0, step: float = 0.5) -> Look:
    return Look(view, np.arange(len(vectors)) * step, noisy(vectors, seed, 0.15))


def stranger(seed: int = 0, *, seconds: float = 15.0) -> NDArray[np.float32]:
    """Frames of no program."""
    return Trajectory(5000 + seed, pace=PACE)(np.arange(0, seconds, 0.5))


def clip_of(vectors: NDArray[np.float32], *, seed: int = 0, noise: float = 0.15) -> Descriptors:
    """Two frames a second."""
    n = len(vectors)
    return Descriptors(np.arange(n) / 2, noisy(vectors, seed, noise) if n else vectors, n / 2, n)


def cut(
    program: str, start: float, *, asset: int = 0, seconds: float = 15.0, speed: float = 1.0
) -> NDArray[np.float32]:
    return curve(program, asset)(start + speed * np.arange(0, seconds, 0.5))


def ask(linker: Linker, clip: Descriptors, *, top: int = 5) -> Answer:
    return linker.link("c", "/c.mp4", clip, model="fp-1", top=top)


# ---------------------------------------------------------------- linked


@pytest.mark.parametrize("program", ["p0", "p1", "p2", "p3", "p4"])
def test_a_clip_is_linked_to_its_program_asset_and_times(linker: Linker, program: str) -> None:
    start = 20.3 + int(program[1])
    for asset in (0, 1):
        answer = ask(linker, clip_of(cut(program, start, asset=asset)))
        assert (answer.decision, answer.program_id) == ("linked", program)
        (link,) = answer.links
        (segment,) = link.segments
        assert segment.asset_id == f"{program}-e{asset}"
        assert (segment.clip_start_seconds, segment.clip_end_seconds) == (0.0, 15.0)
        assert segment.asset_start_seconds == pytest.approx(start, abs=0.5)
        assert segment.asset_end_seconds == pytest.approx(start + 15, abs=0.5)
        assert segment.similarity > 0.9
        assert LINK <= link.confidence <= 1.0


def test_the_answer_says_what_was_asked_and_searched(linker: Linker, live: LiveIndex) -> None:
    answer = ask(linker, clip_of(cut("p1", 30.0)))
    assert (answer.clip_id, answer.path, answer.model) == ("c", "/c.mp4", "fp-1")
    assert answer.catalog_version == live.version == linker.version
    assert answer.error is None
    best = answer.candidates[0]
    assert (best.program_id, best.title) == ("p1", "Title of p1")
    assert best.score == pytest.approx(answer.links[0].segments[0].similarity, abs=1e-6)
    assert best.confidence == answer.confidence


def test_a_clip_at_another_speed_is_linked(linker: Linker) -> None:
    answer = ask(linker, clip_of(cut("p2", 12.4, speed=1.5, seconds=24.0)))
    assert answer.program_id == "p2"
    segments = answer.links[0].segments
    assert min(s.asset_start_seconds for s in segments) == pytest.approx(12.4, abs=1.0)
    assert max(s.asset_end_seconds for s in segments) == pytest.approx(12.4 + 36, abs=1.5)


def test_a_clip_with_an_intro_of_its_own_is_linked_where_it_begins(linker: Linker) -> None:
    intro = Trajectory(999, pace=PACE)(np.arange(0, 8, 0.5))
    answer = ask(linker, clip_of(np.concatenate([intro, cut("p3", 41.6)])))
    assert answer.program_id == "p3"
    (segment,) = answer.links[0].segments
    assert segment.clip_start_seconds == pytest.approx(8.0, abs=0.5)
    assert segment.asset_start_seconds == pytest.approx(41.6, abs=0.7)


def test_what_one_program_of_a_montage_explains_is_no_gap_in_the_other(linker: Linker) -> None:
    """Each has all of what the other leaves; a stranger's stretch beside a program is a gap in it."""

    def coverage(vectors: NDArray[np.float32]) -> dict[str, float]:
        (assessed,) = linker.consider(clip_of(vectors)).by_look
        names = linker._live.programs
        return {names[one.program]: one.evidence.coverage for one in assessed if one.evidence}

    both = coverage(np.concatenate([cut("p0", 20.0), cut("p4", 60.0, asset=1)]))
    assert both == pytest.approx({"p0": 1.0, "p4": 1.0}, abs=0.05)
    own = cut("p0", 20.0)
    strange = stranger(seconds=len(own) / 2)
    assert coverage(np.concatenate([own, strange]))["p0"] == pytest.approx(0.5, abs=0.05)


def test_a_montage_of_two_programs_gives_two_links(linker: Linker) -> None:
    answer = ask(linker, clip_of(np.concatenate([cut("p0", 20.2), cut("p4", 60.7, asset=1)])))
    assert answer.decision == "linked"
    assert {link.program_id for link in answer.links} == {"p0", "p4"}
    assert answer.program_id == answer.links[0].program_id
    assert answer.links[0].confidence >= answer.links[1].confidence
    segments = {link.program_id: link.segments for link in answer.links}
    (first,), (second,) = segments["p0"], segments["p4"]
    assert (first.asset_id, second.asset_id) == ("p0-e0", "p4-e1")
    assert first.clip_end_seconds == pytest.approx(15.0, abs=0.5)
    assert second.clip_start_seconds == pytest.approx(15.0, abs=0.5)
    assert second.asset_start_seconds == pytest.approx(60.7, abs=0.5)


def test_two_assets_of_one_program_are_one_link_of_two_segments(linker: Linker) -> None:
    answer = ask(linker, clip_of(np.concatenate([cut("p1", 20.2), cut("p1", 50.0, asset=1)])))
    (link,) = answer.links
    assert [segment.asset_id for segment in link.segments] == ["p1-e0", "p1-e1"]


def test_a_program_replaced_in_the_midst_of_a_question_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames come back under new ids, which the state that the question began with lacks."""
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, *SEEDS)
    live = live_of(catalog)
    search, times = LiveIndex.search, [0]

    def meddle(self: LiveIndex, xq: np.ndarray, k: int) -> SearchResult:
        times[0] += 1
        if times[0] == 1:
            add(catalog, "p0")
            live.refresh()
        return search(self, xq, k)

    monkeypatch.setattr(LiveIndex, "search", meddle)
    answer = ask(Linker(live, SETTINGS, CALIBRATION), clip_of(cut("p0", 20.0)))
    assert (answer.decision, answer.program_id) == ("linked", "p0")
    assert times[0] == 2


def test_the_same_answer_from_many_threads(linker: Linker) -> None:
    clips = [clip_of(cut(f"p{i % 5}", 20.0 + i)) for i in range(20)]
    alone = [ask(linker, clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda clip: ask(linker, clip), clips)) == alone


# ---------------------------------------------------------------- not linked


@pytest.mark.parametrize("seed", range(5))
def test_a_clip_of_no_program_is_not_linked(linker: Linker, seed: int) -> None:
    answer = ask(linker, clip_of(stranger(seed)))
    assert (answer.decision, answer.program_id, answer.links) == ("none", None, ())
    assert answer.confidence < REVIEW


def test_frames_of_a_program_in_no_order_are_worth_less_than_its_cut(linker: Linker) -> None:
    """Resembling frames alone are no alignment."""
    vectors = cut("p2", 20.0, seconds=40.0)
    mixed = vectors[np.random.default_rng(0).permutation(len(vectors))]
    ordered, shuffled = ask(linker, clip_of(vectors)), ask(linker, clip_of(mixed))
    covered = sum(s.clip_end_seconds - s.clip_start_seconds for k in shuffled.links for s in k.segments)
    assert shuffled.confidence < ordered.confidence
    assert covered < 40.0


def test_twins_are_both_named_and_neither_leads(linker: Linker, live: LiveIndex) -> None:
    """Two programs with the same frames: less sure than of a program without a twin."""
    clip = clip_of(cut("p5", 30.4))
    answer = ask(linker, clip)
    assert {guess.program_id for guess in answer.candidates[:2]} == {"p5", "twin"}
    assert answer.candidates[0].confidence == pytest.approx(answer.candidates[1].confidence)
    alone = ask(linker, clip_of(cut("p4", 30.4)))
    assert answer.confidence < alone.confidence
    assert len(answer.links) <= 1
    evidence = {live.programs[a.program]: a.evidence for a in assess(linker, clip, live)}
    assert evidence["p5"] is not None
    assert evidence["p5"].lead == pytest.approx(0.0, abs=0.01)


def test_twins_are_not_linked_without_a_person(linker: Linker) -> None:
    """Nothing in the frames says which of them it is."""
    assert ask(linker, clip_of(cut("p5", 30.4))).decision != "linked"


def assess(linker: Linker, clip: Descriptors, live: LiveIndex) -> list[Assessed]:
    return linker.assess(clip)


def test_a_clip_without_frames_has_no_answer(linker: Linker) -> None:
    answer = ask(linker, Descriptors(np.zeros(0), np.zeros((0, D), np.float32), 12.0, 12))
    assert (answer.decision, answer.program_id, answer.confidence) == ("none", None, 0.0)
    assert (answer.links, answer.candidates) == ((), ())


def test_an_empty_store_has_no_answer(tmp_path: Path) -> None:
    empty = live_of(Catalog.create(tmp_path / "store", MODEL))
    answer = ask(Linker(empty, SETTINGS, CALIBRATION), clip_of(cut("p0", 20.0)))
    assert (answer.decision, answer.links, answer.candidates) == ("none", (), ())
    assert answer.catalog_version == empty.version


def test_one_frame_alone_is_less_sure_than_a_cut(linker: Linker) -> None:
    one = ask(linker, clip_of(cut("p0", 20.0, seconds=0.5)))
    many = ask(linker, clip_of(cut("p0", 20.0)))
    assert one.candidates[0].program_id == "p0"
    assert one.confidence < many.confidence


def test_descriptors_that_are_no_number_are_refused(linker: Linker) -> None:
    vectors = cut("p0", 20.0)
    vectors[3, 5] = np.nan
    with pytest.raises(ValueError, match="finite"):
        ask(linker, Descriptors(np.arange(len(vectors)) / 2, vectors, 15.0, 30))


# ---------------------------------------------------------------- several looks


def test_what_an_inset_shows_is_linked_where_the_whole_picture_says_nothing(linker: Linker) -> None:
    whole = clip_of(stranger())
    assert ask(linker, whole).decision == "none"
    clip = replace(whole, further=(look_of("mirror", stranger(1)), look_of(INSET, cut("p1", 30.4, asset=1))))
    answer = ask(linker, clip)
    assert (answer.decision, answer.program_id, answer.looks) == ("linked", "p1", 3)
    (segment,) = answer.links[0].segments
    assert (segment.view, segment.asset_id) == (INSET, "p1-e1")
    assert segment.asset_start_seconds == pytest.approx(30.4, abs=0.5)
    assert (segment.clip_start_seconds, segment.clip_end_seconds) == (0.0, 15.0)


def test_of_several_looks_at_one_program_the_best_counts(linker: Linker, live: LiveIndex) -> None:
    """The whole picture where it is as good: what is found by trying views counts for a little less."""
    vectors = cut("p1", 30.4)
    poor, same = look_of("centre", noisy(vectors, 3, 0.7)), look_of("mirror", vectors)
    alone = ask(linker, clip_of(vectors))
    answer = ask(linker, replace(clip_of(vectors), further=(poor, same)))
    assert answer.links == alone.links
    assert answer.links[0].segments[0].view == WHOLE
    (better,) = ask(linker, replace(clip_of(noisy(vectors, 3, 0.7)), further=(poor, same))).links
    assert better.segments[0].view == "mirror"
    found = assess(linker, replace(clip_of(vectors), further=(poor, same)), live)
    assert [live.programs[a.program] for a in found].count("p1") == 1


def test_two_programs_seen_through_two_views_are_both_linked_where_they_share_no_time(linker: Linker) -> None:
    """Half a clip of one film as it is, then another one small in a corner."""
    first, second = cut("p0", 20.2), cut("p4", 60.7, asset=1)
    whole = clip_of(np.concatenate([first, stranger()]))
    inset = look_of(INSET, np.concatenate([stranger(1), second]))
    answer = ask(linker, replace(whole, further=(inset,)))
    views = {link.program_id: {segment.view for segment in link.segments} for link in answer.links}
    assert views == {"p0": {WHOLE}, "p4": {INSET}}


def test_of_two_programs_side_by_side_at_one_time_the_better_is_linked(linker: Linker) -> None:
    left, right = look_of("left half", cut("p0", 20.2)), look_of("right half", noisy(cut("p4", 60.7), 5, 0.3))
    answer = ask(linker, replace(clip_of(stranger()), further=(left, right)))
    assert [link.program_id for link in answer.links] == ["p0"]
    assert {guess.program_id for guess in answer.candidates} >= {"p0", "p4"}


def test_the_order_of_further_looks_is_of_no_consequence(linker: Linker) -> None:
    looks = (
        look_of("mirror", stranger(1)),
        look_of(INSET, cut("p1", 30.4)),
        look_of("centre", cut("p2", 9.1)),
    )
    clip = clip_of(stranger())
    one, other = (ask(linker, replace(clip, further=order)) for order in (looks, looks[::-1]))
    assert one == other


def test_an_unsure_clip_is_one_that_would_not_be_linked(linker: Linker) -> None:
    for vectors, unsure in (
        (cut("p1", 30.0), False),
        (stranger(), True),
        (cut("p5", 30.0), True),  # it has a twin
        (np.concatenate([cut("p0", 20.2), cut("p4", 60.7)]), False),
    ):
        clip = clip_of(vectors)
        assert linker.is_unsure(linker.consider(clip)) == unsure == (ask(linker, clip).decision != "linked")


def test_a_clip_without_frames_needs_no_second_look(linker: Linker) -> None:
    assert not linker.is_unsure(
        linker.consider(Descriptors(np.zeros(0), np.zeros((0, D), np.float32), 12.0, 12))
    )


def test_few_probes_point_at_a_program_and_the_clearest_comes_first(linker: Linker) -> None:
    """Four frames over the whole clip; strangers promise nothing, nor does the first look, known already."""

    def probe(view: str, vectors: NDArray[np.float32], noise: float = 0.15) -> Look:
        rows = np.linspace(0, len(vectors) - 1, 4).round().astype(int)
        return Look(view, rows / 2, noisy(vectors[rows], 1, noise))

    clip = replace(
        clip_of(stranger()),
        further=(
            probe("mirror", stranger(1)),
            probe("centre", cut("p2", 40.2), 0.35),
            probe(INSET, cut("p1", 30.4)),
            Look("blank", np.zeros(0), np.zeros((0, D), np.float32)),
            probe("top half", stranger(2)),
        ),
    )
    assert linker.promising(linker.consider(clip)) == [INSET, "centre"]
    assert linker.promising(linker.consider(clip_of(cut("p1", 30.4)))) == []


def test_answers_from_kept_descriptors_are_those_of_the_query(tmp_path: Path, linker: Linker) -> None:
    """To the last digit, further looks too: both are rounded as the store rounds."""
    catalog = Catalog.create(tmp_path / "clips", MODEL)
    looks = (
        look_of("mirror", stranger(1)),
        look_of(INSET, cut("p1", 30.4)),
        look_of("centre", noisy(cut("p2", 9.1), 3, 0.5)),
    )
    clips = {
        "plain": clip_of(cut("p3", 20.3)),
        "montage": clip_of(np.concatenate([cut("p0", 20.2), cut("p4", 60.7, asset=1)])),
        "looked": replace(clip_of(stranger()), further=looks),
        "empty": Descriptors(np.zeros(0), np.zeros((0, D), np.float32), 12.0, 12),
    }
    answers = {}
    with catalog.writing() as writer:
        for name, clip in clips.items():
            record = ClipRecord(name, "/c.mp4", "", clip.duration_seconds, clip.frames_seen, "fp-1", "mark")
            further = tuple((k.view, k.t_seconds, half(k.vectors)) for k in clip.further)
            stored = StoredClip(record, clip.t_seconds, half(clip.vectors), further)
            answers[name] = ask(linker, descriptors_of(stored))
            writer.put_clip(stored)
    for name in clips:
        kept = catalog.clip(name)
        assert kept is not None
        assert ask(linker, descriptors_of(kept)) == answers[name]
    assert answers["looked"].program_id == "p1"
    assert answers["looked"].looks == 4


def half(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors.astype(np.float16).astype(np.float32)


# ---------------------------------------------------------------- backwards, hidden, twins


def test_a_clip_that_plays_backwards_is_linked_and_says_so(linker: Linker) -> None:
    answer = ask(linker, clip_of(cut("p2", 30.2)[::-1]))
    assert answer.program_id == "p2"
    (segment,) = answer.links[0].segments
    assert segment.is_reversed
    assert segment.asset_start_seconds == pytest.approx(30.2, abs=0.7)
    assert segment.asset_end_seconds == pytest.approx(45.2, abs=0.7)
    forward = ask(linker, clip_of(cut("p2", 30.2)))
    assert not any(segment.is_reversed for segment in forward.links[0].segments)


def position_of(live: LiveIndex, program: str) -> int:
    return live.programs.index(program)


def test_hidden_programs_are_as_if_they_were_not_there(tmp_path: Path, live: LiveIndex) -> None:
    """Compared with a store that never had them, by value."""
    hidden = ("p1", "twin", "p3")
    rest = [program for program in SEEDS if program not in hidden]
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, *rest)
    without = Linker(live_of(catalog), SETTINGS, CALIBRATION)
    blind = Linker(live, SETTINGS, CALIBRATION, hidden=[position_of(live, program) for program in hidden])
    seeing = Linker(live, SETTINGS, CALIBRATION)
    for program in ("p0", "p1", "p5"):
        clip = clip_of(cut(program, 30.4))
        clip = replace(clip, further=(look_of("mirror", cut("p3", 12.0)),))
        answer = ask(blind, clip)
        assert replace(answer, catalog_version=0) == replace(ask(without, clip), catalog_version=0)
        assert answer != ask(seeing, clip)
        assert not {guess.program_id for guess in answer.candidates} & set(hidden)


def test_without_its_twin_a_program_is_linked(live: LiveIndex) -> None:
    clip = clip_of(cut("p5", 30.4))
    for hidden, left in (("twin", "p5"), ("p5", "twin")):
        answer = ask(Linker(live, SETTINGS, CALIBRATION, hidden=[position_of(live, hidden)]), clip)
        assert (answer.decision, answer.program_id) == ("linked", left)


def test_log_odds_are_finite_also_of_what_does_not_align(tmp_path: Path) -> None:
    """A program that resembles every frame, but another one far more: named, and out of the question."""
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, "p0", "p1")
    t = np.arange(0.0, LENGTH)
    near = [NewAsset("near-e0", "/v/near.mp4", "", LENGTH, t, noisy(curve("p1")(t), 8, 0.6))]
    with catalog.writing() as writer:
        writer.add_program(NewProgram("near"), near)
    linker = Linker(live_of(catalog), SETTINGS, CALIBRATION)
    answer = ask(linker, clip_of(cut("p1", 30.0)))
    assert answer.program_id == "p1"
    odds = {guess.program_id: guess.log_odds for guess in answer.candidates}
    assert odds["near"] == NO_EVIDENCE
    assert 0 < odds["p1"] < 1000
    guesses = json.loads(json.dumps(answer.to_json(), allow_nan=False))["candidates"]
    assert [(g["program_id"], g["confidence"], g["score"]) for g in guesses if g["program_id"] == "near"] == [
        ("near", 0.0, 0.0)
    ]
    assert guesses[0]["confidence"] == pytest.approx(1 / (1 + np.exp(-guesses[0]["log_odds"])), abs=1e-5)


# ---------------------------------------------------------------- words and thresholds


@pytest.mark.parametrize("top", [0, 1, 2, 50])
def test_so_many_candidates_as_asked_for_best_first(live: LiveIndex, top: int) -> None:
    """Whatever the decision: here two programs hold the clip, one better than the other."""
    linker = Linker(live, SETTINGS, CALIBRATION)
    answer = ask(linker, clip_of(np.concatenate([cut("p0", 20.0), cut("p4", 20.0, seconds=4)])), top=top)
    assert len(answer.candidates) == min(top, 2)
    confidences = [guess.confidence for guess in answer.candidates]
    assert confidences == sorted(confidences, reverse=True)
    assert answer.program_id == "p0"


@pytest.mark.parametrize(("link", "review", "decision"), [(1.0, 1e-6, "review"), (1e-6, 1e-6, "linked")])
def test_the_thresholds_decide(live: LiveIndex, link: float, review: float, decision: str) -> None:
    settings = Settings(decision=DecisionSettings(link=link, review=review))
    # Never certain, never out of the question.
    answer = ask(Linker(live, settings, flat(1.0, -1.9)), clip_of(cut("p1", 30.0)))
    assert answer.decision == decision
    assert [k.program_id for k in answer.links] == ["p1"]
    assert answer.to_json()["program_id"] == ("p1" if decision == "linked" else None)


@pytest.mark.parametrize(
    ("wanted", "decision"),
    [
        (DecisionSettings(), "review"),
        (DecisionSettings(link=0.6), "linked"),
        (DecisionSettings(review=0.8), "none"),
        (DecisionSettings(link=0.1), "linked"),  # below the calibration's review
    ],
)
def test_thresholds_that_are_not_set_are_the_calibrations(
    live: LiveIndex, wanted: DecisionSettings, decision: str
) -> None:
    calibration = flat(1.0, -1.9)
    clip = clip_of(cut("p1", 30.0))
    answer = ask(Linker(live, Settings(decision=wanted), calibration), clip)
    assert 0.65 < answer.confidence < 0.75
    assert answer.decision == decision
    assert REVIEW < 0.65 < 0.75 < LINK


def test_what_chance_gives_a_frame_is_no_evidence(live: LiveIndex) -> None:
    """With a background that resembles the clip as closely as its program does, nothing is linked."""
    t = np.arange(25.0, 50.0, 0.5)
    like = np.concatenate([noisy(curve("p1")(t), seed, 0.1) for seed in range(4)])
    background = Background(like, np.repeat(np.arange(4), t.size).astype(np.int32), 0.6)
    clip = clip_of(cut("p1", 30.0))
    answer = ask(Linker(live, SETTINGS, replace(CALIBRATION, background=background)), clip)
    assert answer.decision != "linked"
    other = ask(Linker(live, SETTINGS, replace(CALIBRATION, background=background)), clip_of(cut("p2", 30.0)))
    assert other.program_id == "p2"


def test_candidates_without_enough_confidence_are_named_but_not_linked(live: LiveIndex) -> None:
    answer = ask(Linker(live, SETTINGS, flat(0.0, -5.0)), clip_of(cut("p1", 30.0)))
    assert (answer.decision, answer.links) == ("none", ())
    assert answer.candidates[0].program_id == "p1"
    assert answer.confidence == answer.candidates[0].confidence


def test_of_two_programs_over_the_same_frames_only_the_better_is_linked(live: LiveIndex) -> None:
    """Even settings that would link both twins give the clip to one of them."""
    eager = Settings(decision=DecisionSettings(link=0.2, review=0.1))
    answer = ask(Linker(live, eager, CALIBRATION), clip_of(cut("p5", 30.4)))
    assert answer.decision == "linked"
    assert len(answer.links) == 1
    assert len(answer.candidates) == 2


def test_a_floor_above_all_neighbours_leaves_nothing(live: LiveIndex) -> None:
    settings = Settings(voting=VotingSettings(floor=0.9999))
    answer = ask(Linker(live, settings, CALIBRATION), clip_of(cut("p1", 30.0)))
    assert (answer.decision, answer.candidates) == ("none", ())


# ---------------------------------------------------------------- changes of the store


def background_of(seeds: Iterable[int]) -> Background:
    """Frames of programs that the store has not, and of some that it has."""
    t = np.arange(0.0, 40.0, 2.0)
    seeds = list(seeds)
    vectors = np.concatenate([Trajectory(seed, pace=PACE)(t) for seed in seeds])
    return Background(vectors, np.repeat(np.arange(len(seeds)), t.size).astype(np.int32), 0.3)


@pytest.mark.parametrize("background", [CALIBRATION.background, background_of([10, 20, 700, 701, 702, 703])])
@pytest.mark.parametrize("kind", ["cut", "montage", "inset", "stranger"])
def test_a_link_depends_on_the_clips_neighbours_alone(
    tmp_path: Path, kind: str, background: Background
) -> None:
    """What makes the incremental re-link exact: programs that do not resemble the clip change nothing."""
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, "p0", "p1")
    live = live_of(catalog)
    linker = Linker(live, SETTINGS, replace(CALIBRATION, background=background))
    clip = {
        "cut": clip_of(cut("p1", 30.0)),
        "montage": clip_of(np.concatenate([cut("p1", 30.0), cut("p0", 50.0, asset=1)])),
        "inset": replace(clip_of(stranger()), further=(look_of(INSET, cut("p1", 30.0)),)),
        "stranger": clip_of(stranger()),
    }[kind]
    before = ask(linker, clip)
    assert before.decision == ("none" if kind == "stranger" else "linked")
    add(catalog, "p2", "p3")
    live.refresh()
    after = ask(linker, clip)
    assert after.catalog_version > before.catalog_version
    assert replace(after, catalog_version=0) == replace(before, catalog_version=0)


def test_a_removed_program_is_no_longer_linked_and_a_new_one_is(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, "p0", "p1")
    live = live_of(catalog)
    linker, clip = Linker(live, SETTINGS, CALIBRATION), clip_of(cut("p1", 30.0))
    assert ask(linker, clip).program_id == "p1"
    with catalog.writing() as writer:
        writer.remove_programs(["p1"])
    live.refresh()
    assert ask(linker, clip).decision == "none"
    add(catalog, "p1")
    live.refresh()
    assert ask(linker, clip).program_id == "p1"


def test_a_file_that_could_not_be_read_has_an_answer_too() -> None:
    failure = Failure("video", "no frame")
    answer = failed("c", "/c.mp4", failure, model="fp", catalog_version=3)
    assert answer.to_json()["error"] == {"kind": "video", "message": "no frame"}
    assert (answer.decision, answer.links, answer.candidates, answer.catalog_version) == ("none", (), (), 3)
