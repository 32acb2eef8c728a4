"""Adding, answering and keeping files that have sound, with a picture encoder made for the test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import media
import numpy as np
import pytest
from commands import Run
from numpy.typing import NDArray
from test_matcher_pipeline import CALIBRATION, Mosaic, relinked, show

from eval.drama_sound import SOUND_RATE_HZ, music, speech
from eval.video_writer import write_video
from index.catalog import Catalog
from index.rows import StoredClip
from matcher import pipeline
from matcher.background import Background
from matcher.calibration import FILE_NAME, SoundCalibration
from matcher.changes import link_record
from matcher.config import DecisionSettings, Settings, SoundSettings
from matcher.considered import Considered
from matcher.decision import SoundWeights, Weights
from matcher.decode import Sampling, sample_frames
from matcher.decode_sound import SoundTrack
from matcher.describe import Album, describe_files
from matcher.encoders.sound import load_sound_encoder, shipped_sound_encoder
from matcher.encoders.whitening import Whitening
from matcher.errors import StoreError
from matcher.fusion.features import ClipFeatures
from matcher.inputs import AssetJob, ClipJob, ProgramJob
from matcher.linking import Linker
from matcher.listen import Listener
from matcher.pipeline import (
    add_programs,
    descriptors_of,
    keep,
    listen_again,
    query_clips,
)
from matcher.records import Answer, Look
from matcher.relate import relate
from matcher.store import create_catalog, open_linker, open_surroundings, save_caches
from matcher.surroundings import complete_kept

SETTINGS = Settings(decision=DecisionSettings(second_look=False))
DEAF = SETTINGS.model_copy(update={"sound": SoundSettings(enabled=False)})
SOUND_D = shipped_sound_encoder().info.d
#: Of the form that a fit gives; what chance gives is that of no program in particular.
BOTH = replace(
    CALIBRATION,
    sound=SoundCalibration(
        SoundWeights(
            Weights((0.5, 4.0, 2.0, 1.0, 2.0, -2.0, 0.0, 0.0, -1.5, 2.0), -6.0), (10.0, 0.3, 30.0), -1.0
        ),
        Background.empty(SOUND_D, least=0.35),
    ),
)
SECONDS = 16


def pictures(number: int) -> Iterator[NDArray[np.uint8]]:
    """Two a second."""
    return show(number, 2 * SECONDS)


def talk(number: int, seconds: float = SECONDS) -> NDArray[np.float32]:
    """Speech over quiet music, of nobody else."""
    rng = np.random.default_rng([number, 1])
    voice = speech(rng, voice_hz=110.0 + 30 * number, seconds=seconds)
    return 0.7 * voice + 0.2 * music(rng, style_seed=number, seconds=seconds)


def write(path: Path, images: Iterator[NDArray[np.uint8]], sound: NDArray[np.float32] | None) -> Path:
    write_video(path, images, fps=2, sound=sound)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three programs with sound, one without, and clips that mix them up."""
    folder = tmp_path_factory.mktemp("talkies")
    for number in range(3):
        write(folder / f"f{number}.mp4", pictures(number), talk(number))
    write(folder / "mute.mp4", pictures(3), None)
    write(folder / "silent.mp4", pictures(1), np.zeros(SECONDS * SOUND_RATE_HZ, np.float32))
    write(folder / "other.mp4", pictures(1), talk(2))
    write(folder / "strange.mp4", pictures(9), talk(9))
    write(folder / "borrowed.mp4", pictures(9), talk(2))
    blank = itertools.repeat(media.flat(90, 96, 64), 2 * SECONDS)
    write(folder / "blank.mp4", blank, talk(0))
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = create_catalog(tmp_path / "store", Mosaic.info)
    BOTH.save(tmp_path / "store" / FILE_NAME)
    return catalog


def job(path: Path, program_id: str = "") -> ProgramJob:
    return ProgramJob(program_id or path.stem, (AssetJob(path, path.stem),))


def add(catalog: Catalog, *jobs: ProgramJob, settings: Settings = SETTINGS) -> list[pipeline.Added]:
    with catalog.writing() as writer:
        added = list(add_programs(writer, jobs, Mosaic(), settings))
        save_caches(catalog, settings.index, writer)
    catalog.refresh()
    return added


def add_films(catalog: Catalog, films: Path) -> None:
    outcomes = [one.outcome for one in add(catalog, *(job(films / f"f{i}.mp4") for i in range(3)))]
    assert outcomes == ["added"] * 3


def query(
    catalog: Catalog, *paths: Path, settings: Settings = SETTINGS, kept: Catalog | None = None
) -> list[tuple[Answer, StoredClip]]:
    linker = open_linker(catalog, settings)
    jobs = [ClipJob(path.stem, path) for path in paths]
    pairs = []
    for answer, stored in query_clips(linker, jobs, Mosaic(), settings, top=3, kept=kept):
        assert stored is not None
        pairs.append((answer, stored))
    return pairs


def heard_by(listener: Listener, path: Path) -> Look:
    """What a file says, read on its own."""
    track = SoundTrack()
    for _ in sample_frames(path, Sampling(fps=1.0), sound=track):
        pass
    return listener.look(track.pieces())


# ---------------------------------------------------------------- add


def test_sounds_are_stored_beside_the_frames(catalog: Catalog, films: Path) -> None:
    """Those that the model gives of the file, half a second apart, as a store rounds them."""
    talking, mute = add(catalog, job(films / "f0.mp4"), job(films / "mute.mp4"))
    assert (talking.outcome, mute.outcome, mute.sounds) == ("added", "added", 0)
    assert catalog.sound_model is not None
    assert catalog.sound_model.fingerprint == shipped_sound_encoder().info.fingerprint
    wanted = heard_by(Listener(shipped_sound_encoder(), 5), films / "f0.mp4")
    first, second = catalog.programs()
    got = catalog.frames_of(first.number, "sounds")
    assert talking.sounds == len(got.ids) == first.sound_count == len(wanted) > SECONDS
    np.testing.assert_array_equal(got.t_seconds, wanted.t_seconds)
    np.testing.assert_array_equal(got.vectors, wanted.vectors.astype(np.float16).astype(np.float32))
    assert (second.sound_count, len(catalog.frames_of(second.number, "sounds").ids)) == (0, 0)
    assert talking.frames == first.frame_count == len(catalog.frames_of(first.number).ids)


def test_without_sound_nothing_is_said_of_it(catalog: Catalog, films: Path) -> None:
    (added,) = add(catalog, job(films / "f0.mp4"), settings=DEAF)
    assert (added.outcome, added.sounds) == ("added", 0)
    assert catalog.sound_model is None
    ((answer, stored),) = query(catalog, films / "f0.mp4")
    assert (answer.program_id, answer.heard, answer.patches) == ("f0", None, None)
    assert (stored.sound, stored.record.sound_model) == (None, "")
    assert open_linker(catalog, SETTINGS).listener() is None


def test_what_was_added_without_sound_is_added_again_with_it(catalog: Catalog, films: Path) -> None:
    jobs = [job(films / "f0.mp4"), job(films / "mute.mp4")]
    add(catalog, *jobs, settings=DEAF)
    found = [(one.outcome, one.sounds > 0) for one in add(catalog, *jobs)]
    assert found == [("replaced", True), ("replaced", False)]
    assert [one.outcome for one in add(catalog, *jobs)] == ["unchanged"] * 2
    assert add(catalog, *jobs)[0].sounds == catalog.programs()[0].sound_count > 0
    # And the other way round: what nobody wants to hear is taken out.
    assert [(one.outcome, one.sounds) for one in add(catalog, *jobs, settings=DEAF)] == [("replaced", 0)] * 2
    assert catalog.frame_counts("sounds") == {}


def test_a_sound_heard_more_often_is_a_change(catalog: Catalog, films: Path) -> None:
    often = SETTINGS.model_copy(update={"sound": SoundSettings(program_hop_seconds=0.2)})
    (once,) = add(catalog, job(films / "f0.mp4"))
    (again,) = add(catalog, job(films / "f0.mp4"), settings=often)
    assert again.outcome == "replaced"
    assert again.sounds > 2 * once.sounds
    # How often a clip is heard is no matter of programs.
    sound = SoundSettings(program_hop_seconds=0.2, clip_hop_seconds=1.0)
    seldom = SETTINGS.model_copy(update={"sound": sound})
    assert [one.outcome for one in add(catalog, job(films / "f0.mp4"), settings=seldom)] == ["unchanged"]


# ---------------------------------------------------------------- query and keep


def test_clips_are_linked_by_what_they_show_and_say(catalog: Catalog, films: Path) -> None:
    add_films(catalog, films)
    names = ("f0", "silent", "other", "blank", "strange", "borrowed", "mute")
    pairs = dict(zip(names, query(catalog, *(films / f"{name}.mp4" for name in names)), strict=True))
    answers = {name: answer for name, (answer, _) in pairs.items()}
    assert {name: answer.program_id for name, answer in answers.items()} == {
        "f0": "f0", "silent": "f1", "other": "f1", "blank": "f0", "strange": None, "borrowed": None,
        "mute": None,
    }  # fmt: skip
    bases = {
        name: [s.evidence for link in answer.links for s in link.segments] for name, answer in answers.items()
    }
    assert bases["f0"] == ["both"]
    assert bases["silent"] == bases["other"] == ["picture"]
    assert bases["blank"] == ["sound"]
    told = {name: (heard.program_id, heard.agrees) for name, a in answers.items() if (heard := a.heard)}
    assert told == {
        "f0": ("f0", True), "other": ("f2", False), "blank": ("f0", True), "borrowed": ("f2", False),
    }  # fmt: skip
    patches = {name: answer.patches for name, answer in answers.items()}
    assert patches["silent"] == patches["mute"] == 0
    assert all(patches[name] for name in ("f0", "other", "blank", "strange"))
    for name, (answer, stored) in pairs.items():
        assert stored.record.sound_model == shipped_sound_encoder().info.fingerprint
        assert stored.sound is not None
        assert stored.sound[0].size == answer.patches, name


def test_anothers_sound_is_known_and_no_embedding_is_made_of_it(catalog: Catalog, films: Path) -> None:
    """It is a state of the clip's features, and follows from the answer that is kept."""
    add_films(catalog, films)
    surroundings = open_surroundings(catalog, SETTINGS)
    assert surroundings is not None
    names = ("f0", "silent", "other", "blank", "strange", "borrowed")
    jobs = [ClipJob(name, films / f"{name}.mp4") for name in names]
    linker = open_linker(catalog, SETTINGS)

    def query_all() -> Iterator[tuple[Answer, StoredClip | None]]:
        return query_clips(linker, jobs, Mosaic(), SETTINGS, top=3, surroundings=surroundings)

    with catalog.writing() as writer:
        list(keep(writer, query_all()))

    def embedded(*, is_replaced: bool) -> NDArray[np.float32]:
        """Of the clip ``other``, by its features."""
        record = catalog.features(["other"])["other"]
        clip = ClipFeatures(record.picture, None if is_replaced else record.sound, record.text)
        found: NDArray[np.float32] = surroundings.fusion.embedder.embed([clip])[0]
        return found

    features = catalog.features()
    assert {name for name in names if features[name].sound_replaced} == {"other"}
    assert features["other"].sound is not None, "it is kept"
    assert len(features["other"].sound) > 5
    np.testing.assert_allclose(features["other"].embedding, embedded(is_replaced=True), atol=1e-3)
    assert abs(embedded(is_replaced=True) - embedded(is_replaced=False)).max() > 0.01

    # What a night finds out is of no features until it is committed: it may not be.
    (other,) = [answer for answer, _ in query_all() if answer.clip_id == "other"]
    assert other.sound_replaced
    unsaid = replace(other, sound_replaced=False)
    with catalog.writing() as writer:
        ((found, kept_at),) = complete_kept(writer, surroundings, [(unsaid, features["other"].kept_at)])
        assert catalog.features(["other"])["other"].sound_replaced
        writer.put_links([link_record(found, None, kept_at=kept_at)])
        assert relate(writer, surroundings).embedded == 1
        assert relate(writer, surroundings).clips == 0
    now = catalog.features(["other"])["other"]
    assert not now.sound_replaced
    np.testing.assert_allclose(now.embedding, embedded(is_replaced=False), atol=1e-3)


def test_a_kept_clip_holds_its_sound_and_is_answered_alike(catalog: Catalog, films: Path) -> None:
    """To the last digit, from the store, and without reading the file again."""
    add_films(catalog, films)
    paths = [films / f"{name}.mp4" for name in ("f0", "silent", "other", "blank", "strange")]
    with catalog.writing() as writer:
        first = list(keep(writer, iter(query(catalog, *paths))))
    stored = catalog.clip("f0")
    assert stored is not None
    assert stored.sound is not None
    wanted = heard_by(Listener(shipped_sound_encoder(), 2), films / "f0.mp4")
    np.testing.assert_array_equal(stored.sound[0], wanted.t_seconds)
    np.testing.assert_array_equal(stored.sound[1], wanted.vectors.astype(np.float16).astype(np.float32))
    sound = descriptors_of(stored).sound
    assert sound is not None
    assert (sound.view, sound.kind) == ("sound", "sound")
    with catalog.writing() as writer:
        pairs = list(relinked(writer, open_linker(catalog, SETTINGS), top=3))
    assert sorted((answer for answer, _ in pairs), key=lambda a: a.clip_id) == sorted(
        first, key=lambda a: a.clip_id
    )
    for answer, before in pairs:
        assert before is not None
        assert before.answer == link_record(answer).answer
    encoder = Mosaic()
    jobs = [ClipJob(path.stem, path) for path in paths]
    again = list(query_clips(open_linker(catalog, SETTINGS), jobs, encoder, SETTINGS, top=3, kept=catalog))
    assert [answer for answer, _ in again] == first
    assert encoder.n_encoded == 0


def test_a_clip_kept_without_its_sound_is_read_again_to_hear_it(catalog: Catalog, films: Path) -> None:
    add_films(catalog, films)
    with catalog.writing() as writer:
        list(keep(writer, iter(query(catalog, films / "blank.mp4", films / "f1.mp4", settings=DEAF))))
    deaf = catalog.clip("blank")
    assert deaf is not None
    assert deaf.sound is None
    # Re-linked as it was kept: nobody listened then.
    with catalog.writing() as writer:
        pairs = list(relinked(writer, open_linker(catalog, SETTINGS), top=3))
    assert {answer.clip_id: answer.decision for answer, _ in pairs} == {"blank": "none", "f1": "linked"}
    ((answer, stored),) = query(catalog, films / "blank.mp4", kept=catalog)
    assert (answer.program_id, stored.sound is None) == ("f0", False)
    # The other way round what was heard is not asked.
    ((answer, stored),) = query(catalog, films / "blank.mp4", settings=DEAF, kept=catalog)
    assert (answer.decision, stored.sound) == ("none", None)


# ---------------------------------------------------------------- heard again at other speeds


def faster(sound: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Pitch and all."""
    return np.interp(np.arange(0, sound.size - 1, speed), np.arange(sound.size), sound).astype(np.float32)


@pytest.fixture(scope="module")
def sped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blank pictures over the sound of the first program, a quarter faster."""
    long = talk(0)
    blank = itertools.repeat(media.flat(90, 96, 64), round(2 * SECONDS / 1.25))
    return write(tmp_path_factory.mktemp("sped") / "sped.mp4", blank, faster(long, 1.25))


def test_a_sound_played_faster_is_found_by_hearing_it_slower(
    catalog: Catalog, films: Path, sped: Path
) -> None:
    add_films(catalog, films)
    never = SETTINGS.model_copy(update={"sound": SoundSettings(speeds=())})
    ((once, _),) = query(catalog, sped, settings=never)
    assert once.decision != "linked"
    ((answer, stored),) = query(catalog, sped)
    assert (answer.decision, answer.program_id) == ("linked", "f0")
    (longest, *_) = sorted(answer.links[0].segments, key=lambda s: s.clip_start_seconds - s.clip_end_seconds)
    assert longest.clip_end_seconds - longest.clip_start_seconds > 0.8 * SECONDS / 1.25
    assert longest.asset_start_seconds == pytest.approx(1.25 * longest.clip_start_seconds, abs=0.3)
    assert longest.asset_end_seconds == pytest.approx(1.25 * longest.clip_end_seconds, abs=0.3)
    # What was heard at that speed is what is kept.
    linker = open_linker(catalog, SETTINGS)
    again = linker.link("sped", str(sped), descriptors_of(stored), model=answer.model, top=3)
    assert again == answer


def test_what_is_clearly_heard_is_not_heard_again(
    catalog: Catalog, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_films(catalog, films)
    asked: list[float] = []
    look = Listener.look

    def spy(self: Listener, pieces: Sequence, *, speed: float = 1.0) -> Look:
        asked.append(speed)
        return look(self, pieces, speed=speed)

    monkeypatch.setattr(Listener, "look", spy)
    query(catalog, *(films / f"{name}.mp4" for name in ("f0", "other", "blank", "silent", "borrowed")))
    assert asked == [1.0] * 5
    query(catalog, films / "strange.mp4")
    assert asked[5:] == [1.0, *SETTINGS.sound.speeds]


def test_of_several_speeds_the_likeliest_is_kept_and_chance_is_not(
    catalog: Catalog, films: Path, sped: Path
) -> None:
    add_films(catalog, films)
    linker = open_linker(catalog, SETTINGS)
    listener = linker.listener()
    assert listener is not None
    questions: list[tuple[Path, tuple[float, ...], float | None]] = [
        (sped, (0.8, 1.25, 1.5), 1.25),
        (sped, (1.5, 0.8), None),
        (films / "strange.mp4", (0.8, 1.25), None),
    ]
    for path, speeds, kept in questions:
        first, album = considered(linker, path)
        found = listen_again(linker, listener, first, album, speeds)
        if kept is None:
            assert found is first
            continue
        wanted = listener.look(album.sound, speed=kept)
        assert found.clip.sound is not None
        np.testing.assert_array_equal(found.clip.sound.t_seconds, wanted.t_seconds)
        assert found.is_clearly_heard


def considered(linker: Linker, path: Path) -> tuple[Considered, Album]:
    listener = linker.listener()
    sampling = Sampling(fps=2.0)
    (result,) = describe_files([path], Mosaic(), sampling, are_clips=True, listener=listener)
    assert result.descriptors is not None
    assert result.album is not None
    return linker.consider(pipeline._rounded(result.descriptors)), result.album


# ---------------------------------------------------------------- another model


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """The shipped one, turned upside down."""
    shipped = shipped_sound_encoder().whitening
    path = tmp_path / "own.safetensors"
    Whitening(shipped.mean, np.ascontiguousarray(-shipped.projection)).save(
        path, notes={"made": "for a test"}
    )
    return path


def test_a_store_of_another_sound_model_is_refused(catalog: Catalog, films: Path, own_model: Path) -> None:
    add_films(catalog, films)
    other = SETTINGS.model_copy(update={"sound": SoundSettings(spec=f"logmel@{own_model}")})
    name = load_sound_encoder(other.sound.spec).info.fingerprint
    before = catalog.programs()
    with pytest.raises(StoreError, match=r"sound.*under \[sound\].*--no-sound") as raised:
        add(catalog, job(films / "mute.mp4"), settings=other)
    assert name in str(raised.value)
    with pytest.raises(StoreError, match=r"sound.*under \[sound\].*--no-sound") as raised:
        open_linker(catalog, other)
    assert name in str(raised.value)
    catalog.refresh()
    assert catalog.programs() == before
    assert open_linker(catalog, DEAF).listener() is None


def test_the_command_refuses_it_in_one_line(
    matcher: Run, store: Path, films: Path, own_model: Path, tmp_path: Path
) -> None:
    config = tmp_path / "own.toml"
    config.write_text(f'[sound]\nspec = "logmel@{own_model}"\n')
    for words in (("query", films / "f0.mp4"), ("add", "p", films / "f0.mp4")):
        ran = matcher(*words, "--store", store, "--config", config)
        assert (ran.code, ran.out, len(ran.lines)) == (2, "", 1)
        assert "--no-sound" in ran.err
    assert matcher("query", films / "f0.mp4", "--store", store, "--config", config, "--no-sound").code == 0


# ---------------------------------------------------------------- the command


def test_the_command_listens_unless_told_not_to(matcher: Run, films: Path, tmp_path: Path) -> None:
    heard, deaf = tmp_path / "heard", tmp_path / "deaf"
    clip = films / "f0.mp4"
    assert matcher("add", "--store", heard, "f0", clip, "--json").object["sounds"] > 0
    without = matcher("add", "--store", deaf, "f0", clip, "--no-sound", "--json")
    assert without.object["sounds"] == 0
    assert "sound" not in without.err
    status = [matcher("status", "--store", store, "--json").object for store in (heard, deaf)]
    assert status[0]["sound_model"] == shipped_sound_encoder().info.fingerprint
    assert status[0]["index_sounds"] > 0
    assert (status[1]["sound_model"], status[1]["index_sounds"]) == (None, 0)
    for store, words in ((heard, ["--no-sound"]), (deaf, []), (deaf, ["--no-sound"])):
        answer = matcher("query", clip, "--store", store, "--json", *words).object
        assert (answer["sound"], answer["patches"]) == (None, None)
    assert matcher("query", clip, "--store", heard, "--json").object["patches"] > 0
    assert len(list(heard.glob("cache/*"))) == 3
    assert len(list(deaf.glob("cache/*"))) == 2
    assert matcher("add", "--store", deaf, "f0", clip, "--json").object["outcome"] == "replaced"
