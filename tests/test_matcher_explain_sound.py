"""An explanation tells what is heard beside what is seen: by value, their sum, and where they disagree."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from numpy.typing import NDArray
from PIL import Image

from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration, SoundCalibration
from matcher.config import Settings, SoundSettings
from matcher.considered import COINCIDENCE, Assessed, Joined
from matcher.decision import (
    DUEL_WEIGHT,
    FEATURES,
    SIGHT_FEATURES,
    UNSEEN,
    Evidence,
    Sight,
    SoundWeights,
    Weights,
)
from matcher.encoders.sound import load_sound_encoder
from matcher.explain import PLAIN_SOUND, Explainer, Explanation, Subject, balance_of, common_of
from matcher.explain_frames import pairs_of
from matcher.explain_picture import HEIGHT, SOUND_HEIGHT, WIDTH, write_picture
from matcher.explain_words import disagreement, headline, instead, speaks, to_json
from matcher.lines import Line
from matcher.localize import Match
from matcher.records import SOUND, WHOLE, Answer, Basis, Descriptors, Guess, Heard, Link, Look, Segment
from matcher.show import answer_row

D, DS = 64, 128
MODEL, SOUND_MODEL = ModelInfo("fp-1", "synthetic", D), ModelInfo("fs-1", "synthetic sound", DS)
WEIGHTS = Weights((1.5, 4.0, 2.0, 1.0, 1.5, -1.0, -1.5, -1.0, -1.0, 0.5), -6.0)
#: Only what is seen counts of what the pictures show: -1, and 10 more where it is the very place.
SOUND_WEIGHTS = SoundWeights(
    Weights((0.5, 4.0, 2.0, 1.0, 2.0, -2.0, 0.0, 0.0, -1.5, 2.0), -6.0),
    (10.0, *[0.0] * (len(SIGHT_FEATURES) - 1)),
    -1.0,
)
SOUND_CALIBRATION = SoundCalibration(SOUND_WEIGHTS, Background.empty(DS, least=0.3), "fs-1")
CALIBRATION = Calibration(
    WEIGHTS, 0.9, 0.3, Background.empty(D, least=0.625), model="fp-1", sound=SOUND_CALIBRATION
)
#: From one patch to the next, in the store and in clips.
HOP_SECONDS = 0.5


def basis(start: int, stop: int, d: int = D) -> NDArray[np.float32]:
    """Frames, or patches of sound, of which no two resemble each other."""
    return np.eye(d, dtype=np.float32)[start:stop]


#: Programs of twenty seconds, a frame a second, and 39 patches of sound from the first second on; ``mute``
#: has no sound.
OWN, OTHER, MUTE = basis(0, 20), basis(20, 40), basis(40, 50)
OWN_SOUND, OTHER_SOUND = basis(0, 39, DS), basis(39, 78, DS)


def patch_times(n: int) -> NDArray[np.float64]:
    return 1.0 + HOP_SECONDS * np.arange(n, dtype=np.float64)


def add(catalog: Catalog, sound_model: ModelInfo = SOUND_MODEL) -> None:
    sounds = {"own": OWN_SOUND, "other": OTHER_SOUND, "mute": basis(0, 0, DS)}
    frames = {"own": OWN, "other": OTHER, "mute": MUTE}
    with catalog.writing() as writer:
        writer.use_sound(sound_model)
        for name, vectors in frames.items():
            n, sound = len(vectors), sounds[name]
            asset = NewAsset(
                f"{name}-e1", f"/gone/{name}.mp4", "", float(n), np.arange(float(n)), vectors,
                (patch_times(len(sound)), sound),
            )  # fmt: skip
            writer.add_program(NewProgram(name, title=f"Title of {name}"), [asset])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made = Catalog.create(tmp_path_factory.mktemp("explain-sound") / "store", MODEL)
    add(made)
    return made


@pytest.fixture(scope="module")
def explainer(catalog: Catalog) -> Explainer:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")
        live, sounds = LiveIndex.open(catalog), LiveIndex.open(catalog, table="sounds")
    return Explainer(catalog, live, Settings(), CALIBRATION, sounds)


def subject(frames: NDArray[np.float32], sound: NDArray[np.float32] | None) -> Subject:
    """A clip of ten seconds; its pictures one a second, its patches two."""
    look = None if sound is None else Look(SOUND, patch_times(len(sound)), sound, "sound")
    clip = Descriptors(np.arange(float(len(frames))), frames, 10.0, 10, sound=look)
    return Subject("c", Path("/gone/c.mp4"), clip, "fp-1")


#: Cut from the sixth second on, with its own sound, another's, none, and only the sound.
CUT = subject(OWN[5:15], OWN_SOUND[10:27])
DUBBED = subject(OWN[5:15], OTHER_SOUND[10:27])
SILENT = subject(OWN[5:15], basis(0, 0, DS))
DARK = subject(basis(0, 0), OWN_SOUND[10:27])
COVERED = subject(basis(50, 60), OWN_SOUND[10:27])
STRANGER = subject(basis(50, 60), basis(100, 117, DS))


def logistic(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def odds(p: float) -> float:
    return float(np.log(p / (1 - p)))


# ---------------------------------------------------------------- the numbers


def test_what_is_heard_of_a_cut_is_told_by_value(explainer: Explainer) -> None:
    found = explainer.explain(CUT)
    sound = found.sound
    assert sound is not None
    assert (found.record.program_id, sound.kind, found.picture.kind) == ("own", "sound", "picture")  # type: ignore[union-attr]
    np.testing.assert_allclose(sound.series.similarity, 1.0, atol=1e-3)
    np.testing.assert_allclose(sound.series.asset_seconds, 6.0 + HOP_SECONDS * np.arange(17))
    np.testing.assert_allclose(sound.series.chance, 0.3)
    assert sound.matrix is not None
    np.testing.assert_allclose(sound.matrix.similarity, OWN_SOUND[10:27] @ OWN_SOUND.T, atol=1e-3)
    np.testing.assert_allclose(sound.matrix.asset_seconds, patch_times(39))
    assert sound.matrix.is_whole
    votes = {found.name(voted.program): voted.votes for voted in sound.votes}
    assert votes == pytest.approx({"own": 17.0}, abs=1e-2)
    (match,) = sound.matches
    assert match.line.at(3.0) == pytest.approx(8.0, abs=0.3)
    assert match.run.tolist() == list(range(17))
    # The pictures are explained as they are without sound.
    np.testing.assert_allclose(found.picture.series.similarity, 1.0, atol=1e-3)
    assert found.picture.matrix is not None
    assert found.picture.matrix.similarity.shape == (10, 20)


def test_both_at_one_place_add_up_to_the_log_odds_of_the_link(explainer: Explainer) -> None:
    found = explainer.explain(CUT)
    assert found.sound is not None
    for side in found.sides:
        assert side.balance is not None
        assert side.balance.total == pytest.approx(side.log_odds, abs=1e-9)
    common = found.common
    assert common is not None
    assert common.coincidence == pytest.approx(COINCIDENCE)
    assert common.behind == 0.0
    total = found.picture.log_odds + found.sound.log_odds + COINCIDENCE
    assert common.total == found.log_odds == pytest.approx(total)
    assert found.confidence == found.answer.links[0].confidence
    speaks_for, against = speaks(found)
    assert "picture and sound name the same place, which adds +3.0" in speaks_for
    assert found.sound.evidence is not None
    sight = found.sound.evidence.sight
    assert sight is not None
    assert sight.seen == pytest.approx(1.0, abs=1e-3)
    seen = "the pictures show the place that is heard (100 % of the way from chance to identical"
    assert any(said.startswith(seen) for said in speaks_for)
    assert against == ()
    assert instead(found).startswith("Log-odds: picture +")
    assert ", the same place +3.0; together +" in instead(found)


@pytest.mark.parametrize("sight", [None, Sight(1.0, 2.0), Sight(-0.2, -0.5), Sight(0.1, 0.0)])
@pytest.mark.parametrize("lead", [0.5, 0.01, 0.0, -0.05])
def test_the_balance_of_what_is_heard_adds_up(sight: Sight | None, lead: float) -> None:
    evidence = Evidence(0.7, 0.6, lead, 12.0, 0.6, 0.1, pieces=2.0, sight=sight)
    balance = balance_of(evidence, SOUND_WEIGHTS)
    assert tuple(part.feature for part in balance.contributions) == FEATURES
    assert balance.plain == SOUND_WEIGHTS.match.match(PLAIN_SOUND)
    # Three questions, each with its probability: does it match, is it this program, do the pictures show it?
    matches = logistic(balance.plain + sum(part.log_odds for part in balance.contributions))
    assert matches == pytest.approx(logistic(SOUND_WEIGHTS.match.match(evidence)))
    leads = logistic(DUEL_WEIGHT * lead * 12.0)
    shown = logistic(UNSEEN if sight is None else 10.0 * sight.seen - 1.0)
    assert balance.rivalry == pytest.approx(odds(matches * leads) - odds(matches), abs=1e-6)
    assert balance.sight == pytest.approx(odds(matches * leads * shown) - odds(matches * leads), abs=1e-6)
    assert balance.sight < 0
    assert balance.shown == pytest.approx(odds(shown))
    assert balance.total == pytest.approx(SOUND_WEIGHTS.log_odds(evidence), abs=1e-9)


def test_the_pictures_have_no_sight_to_take_anything_off() -> None:
    evidence = Evidence(0.9, 0.6, 0.1, 8.0, 0.6, 0.0)
    balance = balance_of(evidence, WEIGHTS)
    assert (balance.sight, balance.shown) == (0.0, None)
    assert balance.total == pytest.approx(WEIGHTS.log_odds(evidence))


def joined(picture: float | None, sound: float | None, log_odds: float, *, is_same_place: bool) -> Joined:
    """What is seen and heard with these log-odds, whatever it rests on."""
    evidence = Evidence(0.9, 0.6, 0.1, 8.0, 0.6, 0.0)
    looks = Look(WHOLE, np.zeros(0), basis(0, 0)), Look(SOUND, np.zeros(0), basis(0, 0, DS), "sound")
    seen, heard = (
        Assessed(0, look, (), None if value is None else evidence, -np.inf if value is None else value, 1.0)
        for look, value in zip(looks, (picture, sound), strict=True)
    )
    return Joined(0, seen, heard, log_odds, is_same_place)


@pytest.mark.parametrize(
    ("picture", "sound", "is_same_place", "coincidence", "behind"),
    [
        (2.0, 3.0, True, COINCIDENCE, 0.0),
        (-2.0, 3.0, True, COINCIDENCE, 0.0),
        (-8.0, 3.0, True, None, 0.0),  # together they would be less than the better one
        (2.0, 3.0, False, None, 0.0),
        (None, 3.0, False, None, -4.5),
        (2.0, None, False, None, 0.0),
    ],
)
def test_the_common_sum_is_that_of_the_link(
    picture: float | None,
    sound: float | None,
    *,
    is_same_place: bool,
    coincidence: float | None,
    behind: float,
) -> None:
    known = [value for value in (picture, sound) if value is not None]
    total = (max(known) if coincidence is None else sum(known) + coincidence) + behind
    common = common_of(joined(picture, sound, total, is_same_place=is_same_place))
    assert common is not None
    assert (common.picture, common.sound) == (picture, sound)
    assert common.coincidence == coincidence
    assert common.behind == pytest.approx(behind)
    assert common.total == pytest.approx(total)


def test_what_another_sound_takes_off_is_in_the_sum() -> None:
    one = joined(4.0, None, 1.7, is_same_place=False)
    assert one.picture is not None
    rows, values = np.arange(3), np.ones(3, np.float32)
    place = Match(0, 0.0, 5.0, Line(1.0, 0.0, 1.0), rows, values, rows, values, ambiguity=1.0)
    common = common_of(replace(one, picture=replace(one.picture, has_other_sound=True, matches=(place,))))
    assert common is not None
    assert (common.behind, common.other_sound) == (0.0, pytest.approx(-2.3))
    assert common.total == pytest.approx(1.7)


def test_nothing_has_no_common_sum() -> None:
    assert common_of(joined(None, None, -np.inf, is_same_place=False)) is None


# ---------------------------------------------------------------- where they disagree


def test_anothers_sound_is_said_and_the_pictures_are_explained(explainer: Explainer) -> None:
    found = explainer.explain(DUBBED)
    assert (found.decision, found.record.program_id) == ("linked", "own")  # type: ignore[union-attr]
    assert found.sound is not None
    assert found.sound.evidence is None
    assert found.owner is not None
    assert found.name(found.owner.program) == "other"
    assert disagreement(found).startswith("picture and sound disagree: the sound is other’s (confidence ")
    assert disagreement(found) in speaks(found)[1]
    assert "no moment of sound votes for it" in speaks(found)[1]
    assert "sound not found" in instead(found)


def test_the_program_that_is_only_heard_is_explained_when_asked(explainer: Explainer) -> None:
    found = explainer.explain(DUBBED, program_id="other")
    sound, common = found.sound, found.common
    assert sound is not None
    assert sound.evidence is not None
    assert sound.balance is not None
    assert common is not None
    assert found.decision == "none"
    assert headline(found).startswith("NOT linked to other")
    assert instead(found).startswith("The clip is linked to own")
    # It is heard, and takes its loss from what is not seen.
    assert sound.balance.total - sound.balance.sight > 3
    assert sound.balance.sight < -3
    assert common.picture is None
    assert common.sound == pytest.approx(sound.log_odds)
    assert common.total == pytest.approx(found.log_odds)
    assert disagreement(found) == ""
    against = speaks(found)[1]
    assert any(
        said.startswith("the pictures do not clearly show the place that is heard") for said in against
    )
    # The frames are those of the place: second t of the clip beside second t + 5 of the program.
    pairs = pairs_of(found)
    assert [pair.asset_seconds - pair.clip_seconds for pair in pairs] == [5.0] * len(pairs)
    assert [pair.similarity for pair in pairs] == pytest.approx([0.0] * len(pairs), abs=1e-3)


def test_a_clip_of_two_programs_does_not_disagree_with_itself(explainer: Explainer) -> None:
    half = subject(
        np.concatenate([OWN[5:15], OTHER[5:15]]),
        np.concatenate([OWN_SOUND[10:27], basis(100, 103, DS), OTHER_SOUND[10:27]]),
    )
    both = replace(half, clip=replace(half.clip, duration_seconds=20.0, frames_seen=20))
    assert {link.program_id for link in explainer.explain(both).answer.links} == {"own", "other"}
    for program_id in ("own", "other"):
        assert disagreement(explainer.explain(both, program_id=program_id)) == ""


def test_dark_pictures_are_explained_by_what_is_heard(explainer: Explainer) -> None:
    found = explainer.explain(DARK)
    assert (found.decision, found.record.program_id) == ("linked", "own")  # type: ignore[union-attr]
    assert found.sound is not None
    assert found.sound.evidence is not None
    assert found.sound.evidence.sight is None
    assert found.log_odds == pytest.approx(found.sound.log_odds)
    speaks_for, against = speaks(found)
    assert "the pictures show nothing there, so nothing in them speaks against the sound" in speaks_for
    assert against == ("the clip has no frame that shows anything",)


def test_a_program_without_sound_has_none_to_compare(explainer: Explainer) -> None:
    found = explainer.explain(CUT, program_id="mute")
    assert found.sound is not None
    assert found.sound.matrix is None
    assert np.isnan(found.sound.series.similarity).all()
    assert "the store holds no sound of it" in speaks(found)[1]


# ---------------------------------------------------------------- where nothing is heard


def test_why_nothing_is_heard_is_said(explainer: Explainer) -> None:
    deaf = replace(explainer, settings=Settings(sound=SoundSettings(enabled=False)))
    uncalibrated = replace(explainer, calibration=replace(CALIBRATION, sound=None))
    for asked, clip, why in [
        (explainer, SILENT, "the clip is silent"),
        (explainer, subject(OWN[5:15], None), "nobody listened to the clip"),
        (replace(explainer, sounds=None), CUT, "the store holds no sounds"),
        (deaf, CUT, "nobody was to listen"),
        (uncalibrated, CUT, "the calibration does not say how sounds count"),
    ]:
        found = asked.explain(clip)
        assert (found.sound, found.unheard) == (None, why)
        assert instead(found) == f"Nothing is heard: {why}"
        assert found.log_odds == pytest.approx(found.picture.log_odds)
        assert disagreement(found) == ""
        value = to_json(found)
        assert (value["sound"], value["unheard"]) == (None, why)


# ---------------------------------------------------------------- JSON and the picture


def test_the_object_holds_both_kinds(explainer: Explainer) -> None:
    value = json.loads(json.dumps(to_json(explainer.explain(CUT)), allow_nan=False))
    sound = value["sound"]
    assert (sound["is_same_place"], sound["disagreement"], value["unheard"]) == (True, None, None)
    assert len(value["frames"]) == 10
    assert len(sound["frames"]) == 17
    for side in (value, sound):
        (match,) = side["matches"]
        assert match["asset_id"] == "own-e1"
        assert match["offset_seconds"] == pytest.approx(5.0, abs=0.3)
        balance = side["balance"]
        parts = sum(part["log_odds"] for part in balance["contributions"])
        total = balance["plain_cut"] + parts + balance["rivalry"] + balance["sight"]
        assert balance["log_odds"] == pytest.approx(total, abs=1e-5)
    assert sound["balance"]["log_odds"] == pytest.approx(sound["log_odds"], abs=1e-5)
    assert value["common"]["log_odds"] == pytest.approx(value["log_odds"], abs=1e-5)
    assert sound["evidence"]["sight"]["seen"] == pytest.approx(1.0, abs=1e-3)
    assert to_json(explainer.explain(DUBBED))["sound"]["disagreement"].endswith(")")


def pixels_of(found: Explanation, path: Path, height: int) -> NDArray[np.uint8]:
    write_picture(found, path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (WIDTH, height))
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("asked", "program_id"),
    [
        (CUT, None),
        (CUT, "mute"),
        (DUBBED, None),
        (DUBBED, "other"),
        (DARK, None),
        (COVERED, None),
        (STRANGER, None),
        (subject(OWN[5:6], OWN_SOUND[10:11]), None),
    ],
    ids=["both", "no sound of it", "dubbed", "only heard", "dark", "covered", "stranger", "one of each"],
)
def test_every_case_makes_a_taller_picture(
    explainer: Explainer, asked: Subject, program_id: str | None, tmp_path: Path
) -> None:
    found = explainer.explain(asked, program_id=program_id)
    pixels = pixels_of(found, tmp_path / "a.png", HEIGHT + SOUND_HEIGHT)
    assert 0.005 < (pixels.min(axis=2) < 250).mean() < 0.9


def test_the_picture_without_sound_is_as_tall_as_before(explainer: Explainer, tmp_path: Path) -> None:
    pixels_of(explainer.explain(SILENT), tmp_path / "a.png", HEIGHT)


# ---------------------------------------------------------------- the verb


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with sounds of the shipped model, its own calibration, and a kept clip whose file is gone."""
    info = load_sound_encoder("logmel").info
    path = tmp_path / "store"
    catalog = Catalog.create(path, MODEL)
    add(catalog, ModelInfo(info.fingerprint, info.spec, info.d))
    clip = CUT.clip
    assert clip.sound is not None
    record = ClipRecord("c-17", "/gone/c.mp4", "", 10.0, 10, "fp-1", sound_model=info.fingerprint)
    with catalog.writing() as writer:
        stored = StoredClip(
            record, clip.t_seconds, clip.vectors, (), (clip.sound.t_seconds, clip.sound.vectors)
        )
        writer.put_clips([stored])
    heard = replace(SOUND_CALIBRATION, model=info.fingerprint)
    replace(CALIBRATION, sound=heard).save(path / FILE_NAME)
    return path


def test_a_kept_clip_is_explained_by_both(matcher: Run, store: Path, tmp_path: Path) -> None:
    ran = matcher("explain", "c-17", "--store", store, "--json", "--out", tmp_path / "why.png")
    assert ran.code == 0, ran.err
    assert ran.object["sound"]["is_same_place"] is True
    assert ran.object["common"]["coincidence"] == pytest.approx(COINCIDENCE)
    with Image.open(tmp_path / "why.png") as image:
        assert image.size == (WIDTH, HEIGHT + SOUND_HEIGHT)
    words = matcher("explain", "c-17", "--store", store, "--out", tmp_path / "why.png")
    assert "picture and sound name the same place" in words.out


def test_without_sound_only_the_pictures_are_explained(matcher: Run, store: Path) -> None:
    ran = matcher("explain", "c-17", "--store", store, "--json", "--no-sound")
    assert ran.code == 0, ran.err
    assert (ran.object["sound"], ran.object["unheard"]) == (None, "nobody was to listen")
    assert ran.object["log_odds"] == pytest.approx(ran.object["balance"]["log_odds"], abs=1e-5)


# ---------------------------------------------------------------- the table of answers


def answer(*segments: Segment, heard: Heard | None) -> Answer:
    links = (Link("own", 0.99, segments),) if segments else ()
    guesses = (Guess("own", "", 0.99, 0.9),)
    return Answer("c", "c.mp4", "linked" if links else "none", links, guesses, "fp-1", 1, heard=heard)


@pytest.mark.parametrize(
    ("basis_of", "heard", "said"),
    [
        ("picture", None, ""),
        ("picture", Heard("own", 0.8, True), ", by picture"),
        ("picture", Heard("other", 0.875, False), ", by picture\nthe sound is other’s, 0.88"),
        ("sound", Heard("own", 0.8, True), ", by sound"),
        ("both", Heard("own", 0.8, True), ", by picture and sound"),
        ("sound", None, ", by sound"),
    ],
)
def test_a_row_says_what_a_segment_rests_on(basis_of: Basis, heard: Heard | None, said: str) -> None:
    segment = replace(Segment(0.0, 4.0, "e1", 60.0, 64.0, 0.9), evidence=basis_of)
    assert answer_row(answer(segment, heard=heard))[-1] == f"0:00.0–0:04.0 is e1 1:00.0–1:04.0{said}"


def test_a_row_without_a_link_says_whose_sound_it_is() -> None:
    row = answer_row(answer(heard=Heard("other", 0.5, False)))
    assert row[-1] == "best guess own, 0.99\nthe sound is other’s, 0.50"
