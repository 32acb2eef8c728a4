"""A calibration file holds all of it, is refused where it does not fit, and is never half written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from matcher import calibration as module
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration, SoundCalibration, calibration_of, shipped
from matcher.decision import FEATURES, SIGHT_FEATURES, Evidence, Sight, SoundWeights, Weights
from matcher.encoders import lite0
from matcher.encoders.base import ModelInfo
from matcher.encoders.sound import shipped_sound_encoder
from matcher.errors import StoreError

D, DS = 6, 5
MODEL = ModelInfo("synthetic", "fp-1", D)


def made(seed: int = 0, *, frames: int = 5) -> Calibration:
    """With numbers that the file holds as they are."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(frames, D)).astype(np.float16).astype(np.float32)
    program = np.sort(rng.integers(0, 4, frames)).astype(np.int32)
    weights = Weights(tuple(float(w) for w in rng.normal(size=len(FEATURES))), float(rng.normal()))
    return Calibration(weights, 0.95, 0.3, Background(vectors, program, 0.55), "fp-1", "第一 made by hand")


def made_sound(seed: int = 0, *, frames: int = 4, model: str = "ear-1") -> SoundCalibration:
    """Of other dimensions than the frames."""
    rng = np.random.default_rng([seed, 1])
    vectors = rng.normal(size=(frames, DS)).astype(np.float16).astype(np.float32)
    program = np.sort(rng.integers(0, 3, frames)).astype(np.int32)
    match = Weights(tuple(float(w) for w in rng.normal(size=len(FEATURES))), float(rng.normal()))
    sight = tuple(float(w) for w in rng.normal(size=len(SIGHT_FEATURES)))
    weights = SoundWeights(match, sight, float(rng.normal()))
    return SoundCalibration(weights, Background(vectors, program, 0.25), model)


def heard(seed: int = 0, *, frames: int = 4, model: str = "ear-1") -> Calibration:
    return replace(made(seed), sound=made_sound(seed, frames=frames, model=model))


def assert_same_sound(got: SoundCalibration | None, want: SoundCalibration | None) -> None:
    if want is None:
        assert got is None
        return
    assert got is not None
    assert (got.weights, got.model, got.background.least) == (want.weights, want.model, want.background.least)
    np.testing.assert_array_equal(got.background.vectors, want.background.vectors)
    np.testing.assert_array_equal(got.background.program, want.background.program)
    assert got.background.vectors.dtype == np.float32


def assert_same(got: Calibration, want: Calibration) -> None:
    assert_same_sound(got.sound, want.sound)
    assert (got.weights, got.link, got.review) == (want.weights, want.link, want.review)
    assert (got.model, got.notes, got.background.least) == (want.model, want.notes, want.background.least)
    np.testing.assert_array_equal(got.background.vectors, want.background.vectors)
    np.testing.assert_array_equal(got.background.program, want.background.program)
    assert got.background.vectors.dtype == np.float32
    assert got.version == want.version


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("frames", [0, 1, 40])
def test_what_is_saved_loads_again(tmp_path: Path, frames: int) -> None:
    path = tmp_path / FILE_NAME
    want = made(frames=frames)
    want.save(path)
    assert_same(Calibration.load(path), want)
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("frames", [0, 1, 40])
def test_what_is_said_of_sound_loads_again_too(tmp_path: Path, frames: int) -> None:
    path = tmp_path / FILE_NAME
    want = heard(frames=frames)
    want.save(path)
    assert_same(Calibration.load(path), want)
    # And a file without it holds none, whatever was there before.
    made().save(path)
    assert Calibration.load(path).sound is None


def test_a_file_of_the_version_before_sound_is_read_as_one_that_has_none(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    heard().save(path)
    rewritten(path, {}, drop="sound")
    assert_same(Calibration.load(path), made())


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["similarity"]},
        {"sight_features": ["seen"]},
        {"weights": [1.0]},
        {"sight": [1.0]},
        {"bias": None},
        {"least": "x"},
    ],
)
def test_a_sound_that_is_measured_otherwise_is_refused_with_the_remedy(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / FILE_NAME
    heard().save(path)
    with safe_open(str(path), framework="numpy") as file:
        words = json.loads(file.metadata()["calibration"])["sound"]
    rewritten(path, {"sound": {**words, **change}})
    with pytest.raises(StoreError, match="matcher calibrate"):
        Calibration.load(path)
    lacking = {name: value for name, value in words.items() if name not in change}
    rewritten(path, {"sound": lacking})
    with pytest.raises(StoreError, match="matcher calibrate"):
        Calibration.load(path)


def test_the_version_survives_the_file_whatever_the_fit_gave_as_numbers(tmp_path: Path) -> None:
    """Numpy's floats, and whole numbers."""
    weights = Weights(tuple(np.arange(len(FEATURES), dtype=np.float64)), -11)
    want = replace(made(), weights=weights, link=1, review=np.float64(0.25))
    want.save(tmp_path / FILE_NAME)
    got = Calibration.load(tmp_path / FILE_NAME)
    assert got.version == want.version
    assert type(got.weights.bias) is type(got.weights.weights[0]) is type(got.review) is float


def test_a_second_one_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    made(1).save(path)
    made(2).save(path)
    assert_same(Calibration.load(path), made(2))


def test_others_may_read_it(tmp_path: Path) -> None:
    """A store is one folder that may be copied, by another user too."""
    made().save(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fault", ["write", "replace"])
def test_a_crash_leaves_the_old_file_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, fault: str
) -> None:
    path = tmp_path / FILE_NAME
    if there:
        made(1).save(path)

    def failing(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    if fault == "replace":
        monkeypatch.setattr(Path, "replace", failing)
    else:
        monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="no space"):
        made(2).save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME] * there
    if there:
        assert_same(Calibration.load(path), made(1))


def rewritten(path: Path, change: dict[str, Any], *, drop: str = "") -> None:
    """The file at ``path`` with other words, or without some."""
    with safe_open(str(path), framework="numpy") as file:
        words = json.loads(file.metadata()["calibration"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    words = {name: value for name, value in {**words, **change}.items() if name != drop}
    save_file(tensors, str(path), metadata={"calibration": json.dumps(words)})


@pytest.mark.parametrize(
    "change",
    [{"revision": "1"}, {"revision": "99"}, {"features": ["similarity"]}, {"features": list(FEATURES[::-1])}],
)
def test_another_revision_is_refused_with_the_remedy(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / FILE_NAME
    made().save(path)
    rewritten(path, change)
    with pytest.raises(StoreError, match="another version of the program; run: matcher calibrate") as raised:
        Calibration.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("drop", ["revision", "weights", "bias", "link", "least", "model", "notes"])
def test_a_file_that_lacks_a_part_is_refused_with_the_remedy(tmp_path: Path, drop: str) -> None:
    path = tmp_path / FILE_NAME
    made().save(path)
    rewritten(path, {}, drop=drop)
    with pytest.raises(StoreError, match="matcher calibrate"):
        Calibration.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0]},
        {"weights": 3},
        {"weights": ["x"] * 8},
        {"bias": None},
        {"link": 0.1},
        {"link": "high"},
        {"review": 0.0},
        {"least": "x"},
    ],
)
def test_a_file_with_values_that_cannot_be_is_refused_with_the_remedy(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / FILE_NAME
    made().save(path)
    rewritten(path, change)
    with pytest.raises(StoreError, match="matcher calibrate"):
        Calibration.load(path)


@pytest.mark.parametrize("spoil", ["empty", "words", "cut", "folder", "tensors", "metadata"])
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / FILE_NAME
    made().save(path)
    whole = path.read_bytes()
    if spoil == "folder":
        path.unlink()
        path.mkdir()
    elif spoil == "tensors":
        with safe_open(str(path), framework="numpy") as file:
            words = file.metadata()
        save_file({"vectors": np.zeros((1, D), np.float16)}, str(path), metadata=words)
    elif spoil == "metadata":
        save_file(made().background.tensors(), str(path))
    else:
        path.write_bytes({"empty": b"", "words": b"no tensors here" * 9, "cut": whole[:-20]}[spoil])
    with pytest.raises(StoreError, match="no calibration that can be read") as raised:
        Calibration.load(path)
    assert str(path) in str(raised.value)
    assert "matcher calibrate" in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="matcher calibrate"):
        Calibration.load(tmp_path / "none")


# ---------------------------------------------------------------- the record


@pytest.mark.parametrize(
    ("link", "review"), [(0.3, 0.5), (1.5, 0.5), (0.9, 0.0), (0.9, -0.1), (float("nan"), 0.1)]
)
def test_thresholds_out_of_order_are_refused(link: float, review: float) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        replace(made(), link=link, review=review)


def test_the_version_changes_with_each_part_that_an_answer_depends_on() -> None:
    base = made()
    weights, background = base.weights, base.background
    vectors, program = background.vectors.copy(), background.program.copy()
    vectors[3, 2] += 0.5
    program[-1] += 1
    others = [
        replace(base, weights=Weights((*weights.weights[:-1], weights.weights[-1] + 1e-9), weights.bias)),
        replace(base, weights=Weights(weights.weights, weights.bias + 1e-9)),
        replace(base, weights=Weights(weights.weights[::-1], weights.bias)),
        replace(base, link=0.951),
        replace(base, review=0.301),
        replace(base, background=replace(background, least=0.56)),
        replace(base, background=replace(background, vectors=vectors)),
        replace(base, background=replace(background, program=program)),
        replace(base, background=Background.empty(D, least=0.55)),
    ]
    versions = [base.version, *(other.version for other in others)]
    assert len(set(versions)) == len(versions)
    assert all(len(version) == 12 for version in versions)


def test_the_version_changes_with_each_part_of_the_sound() -> None:
    base = heard()
    assert base.sound is not None
    sound, weights, background = base.sound, base.sound.weights, base.sound.background
    vectors, program = background.vectors.copy(), background.program.copy()
    vectors[2, 1] += 0.5
    program[-1] += 1
    other_match = replace(weights.match, bias=weights.match.bias + 1e-9)
    others = [
        replace(sound, weights=replace(weights, match=other_match)),
        replace(sound, weights=replace(weights, match=Weights(weights.match.weights[::-1], 0.0))),
        replace(sound, weights=replace(weights, sight=weights.sight[::-1])),
        replace(sound, weights=replace(weights, sight_bias=weights.sight_bias + 1e-9)),
        replace(sound, background=replace(background, least=0.26)),
        replace(sound, background=replace(background, vectors=vectors)),
        replace(sound, background=replace(background, program=program)),
        None,
    ]
    versions = [base.version, *(replace(base, sound=other).version for other in others)]
    assert len(set(versions)) == len(versions)
    assert heard().version == base.version
    assert replace(base, sound=None).version == made().version


def test_the_version_changes_with_the_way_evidence_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made().version
    monkeypatch.setattr(module, "REVISION", "next")
    assert made().version != before


def test_the_version_is_that_of_the_numbers_not_of_the_words(tmp_path: Path) -> None:
    """The same answers, the same version; a copy made by another program run is the same too."""
    assert made().version == replace(made(), notes="else").version == made().version
    finer = replace(made().background, vectors=made().background.vectors + np.float32(1e-7))
    assert replace(made(), background=finer).version == made().version


# ---------------------------------------------------------------- which one holds


def test_a_stores_own_goes_before_the_shipped_one(tmp_path: Path) -> None:
    made(3).save(tmp_path / FILE_NAME)
    assert_same(calibration_of(tmp_path, MODEL), made(3))


def test_a_stores_own_of_another_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    made().save(tmp_path / FILE_NAME)
    with pytest.raises(StoreError, match="made with another model; run: matcher calibrate"):
        calibration_of(tmp_path, replace(MODEL, fingerprint="fp-2"))


def test_a_damaged_one_of_the_store_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"x")
    with pytest.raises(StoreError):
        calibration_of(tmp_path, MODEL)


def test_without_its_own_a_store_of_the_default_model_has_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = replace(made(4), model="fp-1")
    monkeypatch.setattr(module, "shipped", lambda: default)
    assert_same(calibration_of(tmp_path, MODEL), default)


def test_with_another_model_the_shipped_background_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames are another model's: similarities to them mean nothing, even where the lengths agree."""
    default = made(4)
    monkeypatch.setattr(module, "shipped", lambda: default)
    other = ModelInfo("other", "fp-2", D + 1)
    got = calibration_of(tmp_path, other)
    assert (got.weights, got.link, got.review) == (default.weights, default.link, default.review)
    assert (got.background.vectors.shape, got.background.least) == ((0, D + 1), default.background.least)
    assert got.background.levels(np.ones((2, D + 1), np.float32)).tolist() == pytest.approx([0.55, 0.55])


@pytest.mark.parametrize("own", [None, "", "ear-1", "ear-2"])
@pytest.mark.parametrize("default", [None, "", "ear-1"])
@pytest.mark.parametrize("asked", [None, "ear-1", "ear-2"])
def test_the_sound_that_holds_is_that_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, default: str | None, asked: str | None
) -> None:
    """The store's own before the shipped one; of another model its weights alone, chance being another's."""
    parts = [
        None if model is None else made_sound(seed, model=model) for seed, model in ((5, own), (6, default))
    ]
    monkeypatch.setattr(module, "shipped", lambda: replace(made(4), sound=parts[1]))
    replace(made(3), sound=parts[0]).save(tmp_path / FILE_NAME)
    got = calibration_of(tmp_path, MODEL, asked)
    assert_same(replace(got, sound=None), made(3))
    there = [part for part in parts if part is not None]
    fitting = [part for part in there if part.model in ("", asked)]
    if fitting:
        assert_same_sound(got.sound, fitting[0])
    elif there and asked is not None:
        assert got.sound is not None
        assert got.sound.weights == there[-1].weights
        least = there[-1].background.least
        assert got.sound.background.levels(np.ones((2, 128), np.float32)).tolist() == [least] * 2
    else:
        assert got.sound is None


def test_with_another_picture_model_the_shipped_sound_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is heard does not depend on what describes the pictures."""
    monkeypatch.setattr(module, "shipped", lambda: heard(4))
    got = calibration_of(tmp_path, ModelInfo("other", "fp-2", D + 1), "ear-1")
    assert_same_sound(got.sound, made_sound(4))


# ---------------------------------------------------------------- the shipped one


def test_the_shipped_one_is_of_the_default_model() -> None:
    got = shipped()
    assert got.background.vectors.shape[1] == lite0.whitening().projection.shape[1]
    assert got.background.n_programs > 6
    norms = np.linalg.norm(got.background.vectors, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=0.01)
    assert shipped() is got


def test_the_shipped_one_knows_good_from_poor() -> None:
    """Whatever the fit: nearly the same pictures, far ahead, are a link; one frame like any other is none."""
    weights = shipped().weights
    good = Evidence(similarity=0.99, excess=0.95, lead=0.1, frames=10.0, coverage=1.0, speed=0.0)
    poor = Evidence(similarity=0.8, excess=0.0, lead=0.0, frames=1.0, coverage=0.1, speed=1.0)
    assert weights.confidence(good) > 0.95
    assert weights.confidence(poor) < 0.1
    for better in (
        replace(poor, similarity=0.95, excess=0.7, lead=0.05),
        replace(poor, lead=0.05),
        replace(poor, frames=10.0),
        replace(poor, speed=0.0),
    ):
        assert weights.match(better) > weights.match(poor)


def test_the_shipped_one_hears_with_the_default_ear() -> None:
    sound = shipped().sound
    assert sound is not None
    encoder = shipped_sound_encoder()
    assert sound.model == encoder.info.fingerprint
    assert sound.background.vectors.shape[1] == encoder.info.d
    assert sound.background.n_programs > 6
    np.testing.assert_allclose(np.linalg.norm(sound.background.vectors, axis=1), 1.0, atol=0.01)


def test_the_shipped_one_knows_whose_sound_it_is_and_whether_its_pictures_are_shown() -> None:
    sound = shipped().sound
    assert sound is not None
    good = Evidence(similarity=0.9, excess=0.8, lead=0.3, frames=20.0, coverage=1.0, speed=0.0)
    poor = Evidence(similarity=0.4, excess=0.1, lead=0.0, frames=3.0, coverage=0.2, speed=0.5)
    assert sound.weights.match.confidence(good) > 0.95
    assert sound.weights.match.confidence(poor) < 0.1
    shown, other = Sight(seen=0.7, stands_out=3.0), Sight(seen=-0.2, stands_out=0.0)
    assert sound.weights.log_odds(replace(good, sight=shown)) > 3
    assert sound.weights.log_odds(replace(good, sight=other)) < -1
    assert all(weight >= 0 for weight in sound.weights.sight)
