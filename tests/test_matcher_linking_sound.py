"""Clips with sound: it adds to the pictures, stands alone, or is another's, and is never made of silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_matcher_linking import (
    CALIBRATION,
    LENGTH,
    LINK,
    MODEL,
    REVIEW,
    SEEDS,
    SETTINGS,
    ask,
    clip_of,
    cut,
    half,
    live_of,
    look_of,
    new_assets,
    stranger,
)
from test_matcher_linking import add as add_pictures
from trajectories import D, Trajectory, noisy

from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration, SoundCalibration
from matcher.config import Settings, SoundSettings
from matcher.considered import OTHER_SOUND, STILL, is_seen
from matcher.decision import UNSEEN, SoundWeights, Weights
from matcher.linking import Linker
from matcher.pipeline import descriptors_of
from matcher.records import SOUND, WHOLE, Answer, Descriptors, Heard, Look
from matcher.show import answer_row
from matcher.sound import HALF_PATCH_SECONDS
from matcher.store import open_linker

SOUND_MODEL = ModelInfo("fp-sound", "curves of sound", D)
#: Of the form that a fit gives.
SOUNDS = SoundCalibration(
    SoundWeights(
        Weights((0.5, 4.0, 2.0, 1.0, 2.0, -2.0, 0.0, 0.0, -1.5, 2.0), -6.0), (10.0, 0.3, 30.0), -1.0
    ),
    Background.empty(D, least=0.6),
    "fp-sound",
)
BOTH = replace(CALIBRATION, sound=SOUNDS)
#: All programs begin with the same theme.
THEME_SECONDS = 15.0


def said(program: str, t_seconds: NDArray[np.float64], *, asset: int = 0) -> NDArray[np.float32]:
    """(n, D) what is heard in a program at (n,) times: its theme, then what only it says."""
    own = Trajectory(7000 + SEEDS[program][asset], pace=1.5)(t_seconds)
    theme = Trajectory(6999, pace=1.5)(t_seconds)
    return np.where((t_seconds < THEME_SECONDS)[:, None], theme, own)


def with_sound(program: str) -> list[NewAsset]:
    """Two patches a second."""
    t = np.arange(HALF_PATCH_SECONDS, LENGTH - HALF_PATCH_SECONDS, 0.5)
    return [
        replace(asset, sound=(t, said(program, t, asset=number)))
        for number, asset in enumerate(new_assets(program))
    ]


def add(catalog: Catalog, *programs: str) -> None:
    with catalog.writing() as writer:
        writer.use_sound(SOUND_MODEL)
        for program in programs:
            writer.add_program(NewProgram(program, title=f"Title of {program}"), with_sound(program))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog.create(tmp_path_factory.mktemp("sounds") / "store", MODEL)
    add(catalog, *SEEDS)
    return catalog


@pytest.fixture(scope="module")
def lives(catalog: Catalog) -> tuple[LiveIndex, LiveIndex]:
    return live_of(catalog), live_of(catalog, "sounds")


def linker_of(
    lives: tuple[LiveIndex, LiveIndex],
    calibration: Calibration = BOTH,
    *,
    settings: Settings = SETTINGS,
    hidden: Sequence[int] = (),
) -> Linker:
    return Linker(lives[0], settings, calibration, hidden=hidden, sound=lives[1])


@pytest.fixture
def linker(lives: tuple[LiveIndex, LiveIndex]) -> Linker:
    return linker_of(lives)


def patch_times(seconds: float) -> NDArray[np.float64]:
    """Five patches a second, as far as they fit into a clip."""
    return np.arange(HALF_PATCH_SECONDS, seconds - HALF_PATCH_SECONDS, 0.2)


def sound_of(
    program: str, start: float, *, seconds: float = 15.0, asset: int = 0, noise: float = 0.15, seed: int = 3
) -> Look:
    """A cut of a program's sound, rounded as a store rounds it."""
    t = patch_times(seconds)
    return Look(SOUND, t, half(noisy(said(program, start + t, asset=asset), seed, noise)), "sound")


def strange_sound(seed: int = 0, *, seconds: float = 15.0) -> Look:
    t = patch_times(seconds)
    return Look(SOUND, t, half(Trajectory(9000 + seed, pace=1.5)(t)), "sound")


SILENCE = Look(SOUND, np.zeros(0), np.zeros((0, D), np.float32), "sound")
#: Nothing but blank pictures.
BLANK = Descriptors(np.zeros(0), np.zeros((0, D), np.float32), 15.0, 30)


def bases(answer: Answer) -> list[tuple[str, float, float]]:
    return [
        (segment.evidence, segment.clip_start_seconds, segment.clip_end_seconds)
        for link in answer.links
        for segment in link.segments
    ]


# ---------------------------------------------------------------- the four cases


@pytest.mark.parametrize("asset", [0, 1])
@pytest.mark.parametrize("program", ["p0", "p3"])
def test_a_clip_without_pictures_is_linked_by_its_sound(linker: Linker, program: str, asset: int) -> None:
    answer = ask(linker, replace(BLANK, sound=sound_of(program, 30.4, asset=asset)))
    assert (answer.decision, answer.program_id) == ("linked", program)
    (segment,) = answer.links[0].segments
    assert (segment.asset_id, segment.view, segment.evidence) == (f"{program}-e{asset}", SOUND, "sound")
    # A patch tells of a second to either side of its middle: the whole clip is told.
    assert (segment.clip_start_seconds, segment.clip_end_seconds) == (0.0, 15.0)
    assert segment.asset_start_seconds == pytest.approx(30.4, abs=0.3)
    assert answer.heard == Heard(program, pytest.approx(1.0, abs=0.01), True)
    assert answer.candidates[0].log_odds <= UNSEEN
    assert answer.looks == 1


def test_picture_and_sound_that_agree_are_surer_than_either(linker: Linker) -> None:
    clip = clip_of(noisy(cut("p1", 30.4), 1, 0.6))
    said_too = replace(clip, sound=sound_of("p1", 30.4, noise=0.6))
    seen, heard, both = (ask(linker, one) for one in (clip, replace(BLANK, sound=said_too.sound), said_too))
    assert [answer.candidates[0].program_id for answer in (seen, heard, both)] == ["p1"] * 3
    alone = max(seen.candidates[0].log_odds, heard.candidates[0].log_odds)
    assert both.candidates[0].log_odds > alone + 1
    assert both.decision == "linked"
    assert {basis for basis, _, _ in bases(both)} == {"both"}
    assert both.links[0].segments[0].view == WHOLE
    assert both.heard is not None
    assert both.heard.agrees


def test_another_programs_sound_is_said_and_the_pictures_win(linker: Linker) -> None:
    pictures = clip_of(cut("p1", 30.4))
    answer = ask(linker, replace(pictures, sound=sound_of("p3", 50.2)))
    assert (answer.decision, answer.program_id) == ("linked", "p1")
    assert [link.program_id for link in answer.links] == ["p1"]
    assert bases(answer) == [("picture", 0.0, 15.0)]
    assert answer.heard == Heard("p3", pytest.approx(1.0, abs=0.01), False)
    assert answer.links == ask(linker, pictures).links
    said_so = answer.to_json()
    assert (said_so["sound"]["program_id"], said_so["sound"]["agrees"]) == ("p3", False)
    assert said_so["links"][0]["segments"][0]["evidence"] == "picture"


def test_a_sound_under_a_strangers_pictures_is_said_and_not_linked(linker: Linker) -> None:
    answer = ask(linker, replace(clip_of(stranger()), sound=sound_of("p3", 50.2)))
    assert (answer.decision, answer.links) == ("none", ())
    assert answer.heard is not None
    assert (answer.heard.program_id, answer.heard.agrees) == ("p3", False)


def test_pictures_too_poor_to_be_found_are_seen_where_the_sound_points(linker: Linker) -> None:
    """A clip whose frames no one would link: the place that is heard shows them all the same."""
    pictures = clip_of(noisy(cut("p1", 30.4), 1, 1.1))
    assert ask(linker, pictures).decision != "linked"
    answer = ask(linker, replace(pictures, sound=sound_of("p1", 30.4)))
    assert (answer.decision, answer.program_id) == ("linked", "p1")
    assert {basis for basis, _, _ in bases(answer)} == {"both"}
    elsewhere = ask(linker, replace(pictures, sound=sound_of("p1", 65.0)))
    assert elsewhere.decision != "linked"


def test_the_sound_goes_on_where_the_pictures_stop(linker: Linker) -> None:
    """Fifteen seconds of p1, then a stranger's pictures over p1's sound: told apart."""
    clip = clip_of(np.concatenate([cut("p1", 30.4), stranger()]))
    answer = ask(linker, replace(clip, sound=sound_of("p1", 30.4, seconds=30.0)))
    assert answer.program_id == "p1"
    (first, second) = bases(answer)
    assert first == ("both", 0.0, pytest.approx(15.0, abs=0.5))
    assert second == ("sound", first[2], 30.0)
    assert answer.links[0].segments[1].asset_start_seconds == pytest.approx(45.4, abs=0.6)


def test_two_programs_after_each_other_are_both_heard(linker: Linker) -> None:
    one, other = sound_of("p0", 20.2), sound_of("p4", 60.7, asset=1)
    both = Look(SOUND, np.r_[one.t_seconds, 15 + other.t_seconds], np.r_[one.vectors, other.vectors], "sound")
    answer = ask(linker, replace(BLANK, duration_seconds=30.0, sound=both))
    assert {link.program_id for link in answer.links} == {"p0", "p4"}
    assert {basis for basis, _, _ in bases(answer)} == {"sound"}


# ---------------------------------------------------------------- a still scene


def scene(t_seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """One take that hardly moves."""
    return Trajectory(8000, pace=0.002)(t_seconds)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveIndex, LiveIndex]:
    """The programs, and two of one still scene: ``talk`` has sound, ``mute`` has none."""
    catalog = Catalog.create(tmp_path_factory.mktemp("still") / "store", MODEL)
    add(catalog, *SEEDS)
    t, heard_at = np.arange(0.0, LENGTH), np.arange(HALF_PATCH_SECONDS, LENGTH - HALF_PATCH_SECONDS, 0.5)
    own = Trajectory(8001, pace=1.5)(heard_at)
    turned = np.roll(scene(t), 1, axis=1)
    with catalog.writing() as writer:
        for name, vectors, sound in (("talk", scene(t), (heard_at, own)), ("mute", turned, None)):
            asset = NewAsset(f"{name}-e0", f"/v/{name}.mp4", "", LENGTH, t, vectors, sound=sound)
            writer.add_program(NewProgram(name), [asset])
    return live_of(catalog), live_of(catalog, "sounds")


@pytest.mark.parametrize(
    ("name", "sound", "takes"),
    [
        ("talk", strange_sound(), True),
        ("talk", SILENCE, False),
        ("talk", Look(SOUND, patch_times(15), half(Trajectory(8001, pace=1.5)(30 + patch_times(15)))), False),
        ("mute", strange_sound(), False),
    ],
    ids=["of another", "none", "its own", "of a program without"],
)
def test_a_still_scene_with_another_sound_is_less_sure(
    stills: tuple[LiveIndex, LiveIndex], name: str, sound: Look, *, takes: bool
) -> None:
    """Its frames are anywhere alike: that this stretch was copied is told by its sound, if it has one."""
    linker = linker_of(stills)
    vectors = scene(30 + np.arange(0, 15, 0.5))
    clip = clip_of(vectors if name == "talk" else np.roll(vectors, 1, axis=1), noise=0.6)
    seen, both = ask(linker, clip), ask(linker, replace(clip, sound=replace(sound, kind="sound")))
    assert seen.program_id == both.candidates[0].program_id == name
    assert seen.links[0].segments[0].ambiguity > STILL
    assert both.sound_replaced == (takes and both.decision == "linked")
    assert not seen.sound_replaced
    gained = both.candidates[0].log_odds - seen.candidates[0].log_odds
    assert gained == pytest.approx(OTHER_SOUND, abs=1e-6) if takes else gained >= 0


def test_pictures_that_move_are_as_sure_whatever_is_heard(linker: Linker) -> None:
    """And say that the sound is another's."""
    seen = clip_of(cut("p2", 30.4), noise=0.6)
    dubbed, own, mute = (
        ask(linker, replace(seen, sound=sound)) for sound in (strange_sound(), sound_of("p2", 30.4), SILENCE)
    )
    assert dubbed.candidates[0].log_odds == ask(linker, seen).candidates[0].log_odds
    assert [one.sound_replaced for one in (dubbed, own, mute)] == [True, False, False]
    assert dubbed.to_json()["sound_replaced"] is True
    fast = ask(linker, replace(clip_of(cut("p2", 30.4, speed=1.25)), sound=strange_sound()))
    assert (fast.program_id, fast.sound_replaced) == ("p2", False), "its own would not be known either"
    unknown = ask(linker, replace(clip_of(stranger()), sound=strange_sound()))
    assert (unknown.decision, unknown.sound_replaced) == ("none", False)


def test_where_nobody_listens_nothing_is_known_of_the_sound(lives: tuple[LiveIndex, LiveIndex]) -> None:
    """Though the clip was kept with its own."""
    clip = replace(clip_of(cut("p2", 30.4)), sound=sound_of("p2", 30.4))
    deaf = Linker(lives[0], SETTINGS, BOTH)
    for linker in (deaf, linker_of(lives, CALIBRATION)):
        answer = ask(linker, clip)
        assert (answer.program_id, answer.patches, answer.sound_replaced) == ("p2", None, False)


def test_a_steady_sound_that_says_nothing_is_not_anothers(lives: tuple[LiveIndex, LiveIndex]) -> None:
    """One word for all of the clip, which a search for sounds passes over."""
    one = sound_of("p2", 30.4)
    steady = replace(one, vectors=np.repeat(one.vectors[:1], len(one), axis=0))
    answer = ask(linker_of(lives), replace(clip_of(cut("p2", 30.4)), sound=steady))
    assert (answer.decision, answer.sound_replaced) == ("linked", False)


def test_a_clip_that_is_heard_again_is_asked_anew(stills: tuple[LiveIndex, LiveIndex]) -> None:
    """What was said of a still scene's sound goes when its own sound is found, or none is asked."""
    linker = linker_of(stills)
    clip = replace(clip_of(scene(30 + np.arange(0, 15, 0.5)), noise=0.6), sound=strange_sound())
    first = linker.consider(clip)
    assert linker.joined(first)[0].picture.has_other_sound  # type: ignore[union-attr]
    assert not any(one.has_other_sound for found in first.without_sound().by_look for one in found)
    own = Look(SOUND, patch_times(15), half(Trajectory(8001, pace=1.5)(30 + patch_times(15))), "sound")
    again = linker.consider(replace(clip, sound=own), first.without_sound())
    alone = linker.consider(replace(clip, sound=own))
    assert [(one.program, one.log_odds) for one in linker.joined(again)] == [
        (one.program, one.log_odds) for one in linker.joined(alone)
    ]
    assert not linker.joined(again)[0].picture.has_other_sound  # type: ignore[union-attr]


# ---------------------------------------------------------------- what is no evidence


def test_a_silent_clip_is_answered_by_its_pictures(linker: Linker) -> None:
    """Silence has no patch, and so no neighbour."""
    for vectors in (cut("p1", 30.4), stranger()):
        clip = clip_of(vectors)
        answer = ask(linker, replace(clip, sound=SILENCE))
        assert answer.patches == 0
        assert replace(answer, patches=None) == ask(linker, clip)
    nothing = ask(linker, replace(BLANK, sound=SILENCE))
    assert (nothing.decision, nothing.candidates, nothing.heard) == ("none", (), None)


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_of_no_program_is_not_linked(linker: Linker, seed: int) -> None:
    answer = ask(linker, replace(BLANK, sound=strange_sound(seed)))
    assert (answer.decision, answer.links, answer.heard) == ("none", (), None)
    seen = clip_of(cut("p2", 30.4))
    assert ask(linker, replace(seen, sound=strange_sound(seed))).links == ask(linker, seen).links


def test_a_theme_that_all_programs_share_links_nothing(linker: Linker) -> None:
    """Whichever it is given to, every other has as good a claim."""
    theme = sound_of("p2", 0.0, seconds=THEME_SECONDS)
    answer = ask(linker, replace(BLANK, sound=theme))
    assert answer.decision != "linked"
    assert answer.confidence <= 0.5 + 1e-6
    under = ask(linker, replace(clip_of(stranger()), sound=theme))
    assert (under.decision, under.links) == ("none", ())
    # The pictures say which program it is, and the theme is no objection.
    shown = ask(linker, replace(clip_of(cut("p2", 0.0)), sound=theme))
    assert (shown.decision, shown.program_id) == ("linked", "p2")


def test_one_word_is_no_evidence(linker: Linker) -> None:
    """Patches that follow each other share nine tenths: fewer than three different ones may come again."""
    word = sound_of("p1", 30.4, seconds=2 * HALF_PATCH_SECONDS + 0.35)
    assert 1 < len(word) < 3
    answer = ask(linker, replace(BLANK, duration_seconds=2.4, sound=word))
    assert (answer.decision, answer.heard) == ("none", None)


def test_a_sound_that_plays_backwards_is_not_found(linker: Linker) -> None:
    """Pictures may be reversed, and are found; of a patch of sound nothing is left then."""
    forwards = sound_of("p1", 30.4)
    backwards = replace(forwards, vectors=np.ascontiguousarray(forwards.vectors[::-1]))
    assert ask(linker, replace(BLANK, sound=backwards)).decision != "linked"


# ---------------------------------------------------------------- a second look


def test_a_sure_sound_whose_place_the_frames_show_needs_no_second_look(linker: Linker) -> None:
    poor = clip_of(noisy(cut("p1", 30.4), 1, 1.1))
    assert linker.is_unsure(linker.consider(poor))
    considered = linker.consider(replace(poor, sound=sound_of("p1", 30.4)))
    assert not linker.is_unsure(considered)
    # As little where frames and sound, neither of them sure, found the same place.
    poorer = clip_of(noisy(cut("p1", 30.4), 1, 1.3))
    both = linker.consider(replace(poorer, sound=sound_of("p1", 30.4)))
    best = linker.joined(both)[0]
    assert best.sound is not None
    assert (best.is_same_place, is_seen(best.sound)) == (True, False)
    assert best.confidence >= LINK > max(one.confidence for one in best.parts)
    assert not linker.is_unsure(both)
    # Also where no frame was found by itself.
    assert not linker.is_unsure(replace(considered, by_look=([], considered.by_look[1])))


def test_a_sound_that_is_sure_alone_needs_one(linker: Linker) -> None:
    """One frame says nothing of the place, and the clip is linked; another view may show another program."""
    one = clip_of(stranger(seconds=0.5))
    considered = linker.consider(replace(one, duration_seconds=15.0, sound=sound_of("p1", 30.4)))
    assert linker.joined(considered)[0].confidence >= LINK
    assert linker.is_unsure(considered)
    # Without any picture there is nothing to look at; what is not sure may be heard again.
    assert not linker.is_unsure(linker.consider(replace(BLANK, sound=sound_of("p1", 30.4))))
    assert linker.is_unsure(linker.consider(replace(BLANK, sound=strange_sound())))
    assert not linker.is_unsure(linker.consider(replace(BLANK, sound=SILENCE)))


def test_pictures_that_are_sure_need_none_whatever_is_heard(linker: Linker) -> None:
    for sound in (SILENCE, strange_sound(), sound_of("p3", 50.2), sound_of("p1", 30.4)):
        assert not linker.is_unsure(linker.consider(replace(clip_of(cut("p1", 30.4)), sound=sound)))


def test_further_looks_join_in_and_are_not_considered_twice(linker: Linker) -> None:
    """The answer is the same whether the looks came one by one or at once."""
    first = replace(clip_of(stranger()), sound=sound_of("p1", 30.4))
    clip = replace(first, further=(look_of("mirror", stranger(1)), look_of("centre", cut("p1", 30.4))))
    step = linker.consider(clip, linker.consider(first))
    answers = [linker.answer("c", "c", one, model="fp-1", top=5) for one in (step, linker.consider(clip))]
    assert answers[0] == answers[1]
    (segment,) = answers[0].links[0].segments
    assert (answers[0].looks, segment.evidence, segment.view) == (3, "both", "centre")
    # A sound promises nothing that a view could show.
    assert linker.promising(step) == ["centre"]
    # It is the first and only look of its kind, however many the pictures had.
    assert [one.evidence.is_further for one in step.heard() if one.evidence] == [False]


# ---------------------------------------------------------------- hidden, kept, without, two indexes


def test_hidden_programs_are_not_heard_either(tmp_path: Path, lives: tuple[LiveIndex, LiveIndex]) -> None:
    """Compared with a store that never had them, by value."""
    hidden = ("p1", "twin", "p3")
    less = Catalog.create(tmp_path / "store", MODEL)
    add(less, *(program for program in SEEDS if program not in hidden))
    without = linker_of((live_of(less), live_of(less, "sounds")))
    blind = linker_of(lives, hidden=[lives[0].programs.index(program) for program in hidden])
    for clip in (
        replace(BLANK, sound=sound_of("p1", 30.4)),
        replace(BLANK, sound=sound_of("p5", 30.4)),
        replace(clip_of(cut("p5", 30.4)), sound=sound_of("p3", 50.0)),
        replace(clip_of(cut("p3", 30.4)), sound=sound_of("p0", 50.0)),
    ):
        answer = ask(blind, clip)
        assert replace(answer, catalog_version=0) == replace(ask(without, clip), catalog_version=0)
        assert answer.heard is None or answer.heard.program_id not in hidden


def test_a_kept_clip_is_answered_as_when_it_was_asked(tmp_path: Path, linker: Linker) -> None:
    """To the last digit, also where nothing was heard, and where nobody listened."""
    kept = Catalog.create(tmp_path / "clips", MODEL)
    clips = {
        "both": replace(clip_of(noisy(cut("p1", 30.4), 1, 0.6)), sound=sound_of("p1", 30.4, noise=0.6)),
        "heard": replace(BLANK, sound=sound_of("p0", 30.4)),
        "other": replace(clip_of(cut("p1", 30.4)), sound=sound_of("p3", 50.2)),
        "silent": replace(clip_of(cut("p2", 30.4)), sound=SILENCE),
        "looked": replace(
            clip_of(stranger()), further=(look_of("mirror", cut("p1", 30.4)),), sound=sound_of("p1", 30.4)
        ),
        "mute": clip_of(cut("p2", 30.4)),
    }
    answers = {}
    with kept.writing() as writer:
        writer.use_sound(SOUND_MODEL)
        for name, clip in clips.items():
            model = "" if clip.sound is None else "fp-sound"
            record = ClipRecord(
                name, "/c.mp4", "", clip.duration_seconds, clip.frames_seen, "fp-1", "mark", sound_model=model
            )
            further = tuple((k.view, k.t_seconds, half(k.vectors)) for k in clip.further)
            sound = None if clip.sound is None else (clip.sound.t_seconds, clip.sound.vectors)
            stored = StoredClip(record, clip.t_seconds, half(clip.vectors), further, sound)
            answers[name] = ask(linker, descriptors_of(stored))
            writer.put_clip(stored)
    for name, clip in clips.items():
        stored_clip = kept.clip(name)
        assert stored_clip is not None
        again = descriptors_of(stored_clip)
        assert (again.sound is None) == (clip.sound is None)
        assert ask(linker, again) == answers[name]
    assert answers["both"].heard is not None
    assert answers["heard"].program_id == "p0"
    assert replace(answers["silent"], patches=None) == answers["mute"]


def test_a_store_without_sounds_looks_only(tmp_path: Path) -> None:
    silent = Catalog.create(tmp_path / "store", MODEL)
    add_pictures(silent, "p0", "p1")
    linker = Linker(live_of(silent), SETTINGS, BOTH)
    assert linker.listener() is None
    clip = clip_of(cut("p1", 30.4))
    answer = ask(linker, replace(clip, sound=sound_of("p0", 30.4)))
    assert replace(answer, patches=None) == ask(linker, clip)
    assert (answer.program_id, answer.heard) == ("p1", None)
    assert ask(linker, replace(BLANK, sound=sound_of("p0", 30.4))).decision == "none"
    replace(BOTH, model="fp-1").save(tmp_path / "store" / FILE_NAME)
    opened = open_linker(silent, SETTINGS)
    assert opened.listener() is None
    assert ask(opened, replace(clip, sound=sound_of("p0", 30.4))) == answer


def test_nobody_listens_where_it_is_switched_off_or_never_was_calibrated(
    lives: tuple[LiveIndex, LiveIndex],
) -> None:
    deaf = Settings(sound=SoundSettings(enabled=False))
    clip = replace(clip_of(cut("p1", 30.4)), sound=sound_of("p3", 50.2))
    wanted = ask(Linker(lives[0], SETTINGS, BOTH), replace(clip, sound=None))
    for linker in (linker_of(lives, settings=deaf), linker_of(lives, CALIBRATION)):
        assert linker.listener() is None
        assert replace(ask(linker, clip), patches=None) == wanted
    listener = linker_of(lives).listener()
    assert listener is not None
    assert listener.step == 2


def test_programs_without_sound_live_beside_others(tmp_path: Path) -> None:
    mixed = Catalog.create(tmp_path / "store", MODEL)
    add_pictures(mixed, "p0")
    add(mixed, "p1")
    add_pictures(mixed, "p2")
    linker = linker_of((live_of(mixed), live_of(mixed, "sounds")))
    for program in ("p0", "p1", "p2"):
        assert ask(linker, replace(clip_of(cut(program, 30.4)), sound=SILENCE)).program_id == program
    assert ask(linker, replace(BLANK, sound=sound_of("p1", 30.4))).program_id == "p1"
    assert ask(linker, replace(BLANK, sound=sound_of("p0", 30.4))).decision == "none"


@pytest.mark.parametrize("ahead", [0, 1])
def test_two_indexes_of_different_states_are_brought_together(tmp_path: Path, ahead: int) -> None:
    """One of them was refreshed after a change, the other not yet: positions would be other programs'."""
    changing = Catalog.create(tmp_path / "store", MODEL)
    add(changing, "p0", "p1", "p2")
    lives = live_of(changing), live_of(changing, "sounds")
    linker = linker_of(lives)
    clip = replace(clip_of(noisy(cut("p2", 30.4), 1, 0.6)), sound=sound_of("p2", 30.4))
    before = ask(linker, clip)
    assert before.program_id == "p2"
    with changing.writing() as writer:
        writer.remove_programs(["p0"])
    add(changing, "p3")
    lives[ahead].refresh()
    assert lives[0].version != lives[1].version
    after = ask(linker, clip)
    assert lives[0].version == lives[1].version == after.catalog_version > before.catalog_version
    assert replace(after, catalog_version=0) == replace(before, catalog_version=0)
    assert ask(linker, replace(BLANK, sound=sound_of("p3", 30.4))).program_id == "p3"
    assert ask(linker, replace(BLANK, sound=sound_of("p0", 30.4))).decision == "none"


def test_an_answer_depends_on_the_clips_neighbours_alone(tmp_path: Path) -> None:
    """Programs that neither look nor sound like the clip change nothing."""
    growing = Catalog.create(tmp_path / "store", MODEL)
    add(growing, "p0", "p1")
    lives = live_of(growing), live_of(growing, "sounds")
    linker = linker_of(lives)
    clips = [
        replace(clip_of(noisy(cut("p1", 30.4), 1, 0.6)), sound=sound_of("p1", 30.4)),
        replace(clip_of(cut("p1", 30.4)), sound=sound_of("p0", 50.2)),
        replace(BLANK, sound=sound_of("p0", 50.2)),
    ]
    before = [ask(linker, clip) for clip in clips]
    add(growing, "p2", "p3")
    for live in lives:
        live.refresh()
    after = [ask(linker, clip) for clip in clips]
    assert [replace(one, catalog_version=0) for one in after] == [
        replace(one, catalog_version=0) for one in before
    ]


def test_the_review_bar_holds_for_what_is_heard(lives: tuple[LiveIndex, LiveIndex]) -> None:
    """A sound that is hardly anyone's is not told."""
    weights = SOUNDS.weights
    doubtful = replace(SOUNDS, weights=replace(weights, match=replace(weights.match, bias=-40.0)))
    answer = ask(linker_of(lives, replace(BOTH, sound=doubtful)), replace(BLANK, sound=sound_of("p1", 30.4)))
    assert (answer.decision, answer.heard) == ("none", None)
    assert answer.candidates[0].program_id == "p1"
    assert answer.confidence < REVIEW


# ---------------------------------------------------------------- rough answers


def test_standings_are_those_of_each_sound_alone(linker: Linker) -> None:
    own, strange = sound_of("p1", 40.0), strange_sound()
    sounds = [(1.0, own), (1.25, own), (1.0, strange), (1.0, SILENCE)]
    together = linker.standings(sounds)
    assert together == pytest.approx([linker.standings([one])[0] for one in sounds])
    assert together[0] > 1.5 * max(together[1:])
    assert together[3] == 0.0
    assert linker.standings([]) == []


def test_nothing_stands_where_nobody_listens(lives: tuple[LiveIndex, LiveIndex]) -> None:
    linker = linker_of(lives, replace(BOTH, sound=None))
    assert linker.standings([(1.0, sound_of("p1", 40.0))]) == [0.0]


def test_evidence_of_a_sound_says_how_far_all_of_it_agrees(linker: Linker) -> None:
    sound = sound_of("p1", 40.0)
    found = linker.consider(replace(BLANK, sound=sound)).heard()[0]
    assert found.evidence is not None
    assert found.evidence.agreement == pytest.approx(linker.standings([(1.0, sound)])[0], abs=1e-3)
    assert found.evidence.agreement > 2.0


# ---------------------------------------------------------------- sound that outlasts the pictures


@pytest.mark.parametrize("shown_seconds", [0.0, 4.0, 10.0, 14.9])
def test_a_sound_that_goes_on_after_the_pictures_is_one_segment(linker: Linker, shown_seconds: float) -> None:
    """A cover over a song of fifteen seconds is the extreme: one picture, no length."""
    clip = replace(BLANK, duration_seconds=shown_seconds, sound=sound_of("p1", 30.4))
    (found, *_) = linker.consider(clip).heard()
    assert found.evidence is not None
    assert found.evidence.coverage <= 1.0
    assert found.evidence.pieces == 1.0
    rows = np.concatenate([match.run for match in found.matches])
    assert len(set(rows.tolist())) == len(rows)
    answer = ask(linker, clip)
    ((_, start, end),) = bases(answer)
    assert (start, end) == (pytest.approx(0.0, abs=0.3), pytest.approx(15.0, abs=0.3))
    answer_row(answer)


def test_one_word_of_another_program_explains_nothing(linker: Linker) -> None:
    """What says too little to be evidence takes no time from the others."""
    own = sound_of("p1", 30.4)
    word = sound_of("p3", 50.0, seconds=2 * HALF_PATCH_SECONDS + 0.35)
    vectors = own.vectors.copy()
    vectors[30 : 30 + len(word)] = word.vectors
    found = linker.consider(replace(BLANK, sound=replace(own, vectors=vectors))).heard()
    best = found[0]
    assert best.evidence is not None
    run = np.concatenate([match.run for match in best.matches])
    assert best.evidence.coverage == pytest.approx(run.size / len(own))
    assert all(one.evidence is None for one in found[1:])
