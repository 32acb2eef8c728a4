"""A calibration file holds all of it, is refused where it does not fit, and is never half written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from matcher import calibration as module
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration, calibration_of, shipped
from matcher.decision import FEATURES, Evidence, Weights
from matcher.encoders import lite0
from matcher.encoders.base import ModelInfo
from matcher.errors import StoreError

D = 6
MODEL = ModelInfo("synthetic", "fp-1", D)


def made(seed: int = 0, *, frames: int = 5) -> Calibration:
    """With numbers that the file holds as they are."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(frames, D)).astype(np.float16).astype(np.float32)
    program = np.sort(rng.integers(0, 4, frames)).astype(np.int32)
    weights = Weights(tuple(float(w) for w in rng.normal(size=len(FEATURES))), float(rng.normal()))
    return Calibration(weights, 0.95, 0.3, Background(vectors, program, 0.55), "fp-1", "第一 made by hand")


def assert_same(got: Calibration, want: Calibration) -> None:
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
        monkeypatch.setattr(module.os, "fsync", failing)
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
