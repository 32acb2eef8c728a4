"""The command line with a store in object storage: each verb as with a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import media
import pytest
from commands import Run

from matcher.background import Background
from matcher.calibrate import present_calibration, save
from matcher.calibration import calibration_of, shipped
from matcher.cli import main
from matcher.encoders.base import ModelInfo
from matcher.errors import StoreError
from matcher.store import create_catalog


def test_the_verbs_work_there_as_with_a_folder(
    address: str, matcher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added, linked, listed, verified; what is wrong is one line and an exit code."""
    film = media.write(tmp_path / "film.mp4", (media.moving(i) for i in range(0, 400, 2)), pts=range(200))
    monkeypatch.setenv("MATCHER_STORE", address)

    none = matcher("status")
    assert (none.code, len(none.lines)) == (2, 1)
    assert f"no store at {address}" in none.err

    assert matcher("add", "film", film, "--no-sound").code == 0
    again = matcher("add", "--store", address, "film", film, "--json", "--no-sound")
    assert again.object["outcome"] == "unchanged"
    assert matcher("programs", "--json").object["program_id"] == "film"
    answer = matcher("query", film, "--json", "--no-sound").object
    assert answer["candidates"][0]["program_id"] == "film"
    assert matcher("link", film, "--json", "--no-sound").object["links"] == answer["links"]
    assert matcher("relink", "--full", "--json").object["decision"] == answer["decision"]
    assert matcher("index", "compact").code == 0

    status = matcher("status", "--json").object
    assert (status["store"], status["programs"], status["clips"]) == (address, 1, 1)
    assert status["bytes"] > 0
    verified = matcher("index", "verify", "--json")
    assert (verified.code, verified.object["ok"], verified.object["frames"]) == (0, True, status["frames"])
    assert list((tmp_path / "user-cache").rglob("vectors.npy"))

    assert matcher("remove", "film").code == 0
    assert matcher("doctor", "--store", address, "--json").code == 0


def test_a_calibration_lies_there_too(address: str) -> None:
    """It is written under the lock and holds from then on; a damaged one is told by its address."""
    model = ModelInfo("m", "fp-1", 4)
    catalog = create_catalog(address, model)
    wanted = replace(shipped(), background=Background.empty(4, least=0.1), model="fp-1", notes="own")
    assert calibration_of(catalog.place, model).notes != "own"
    assert save(catalog, wanted, wait_seconds=0) == f"{address}/calibration.safetensors"
    assert calibration_of(address, model).notes == present_calibration(address).notes == "own"
    assert present_calibration(address).version == wanted.version
    catalog.place.write("calibration.safetensors", b"x")
    with pytest.raises(StoreError, match=f"{address}/calibration.safetensors is no calibration"):
        calibration_of(address, model)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("s3://nobody/store", "there is no such bucket"),
        ("s3://", "s3://BUCKET/PREFIX"),
        ("gs://bucket/store", "s3://BUCKET/PREFIX"),
    ],
)
def test_a_store_that_cannot_be_is_one_line(bucket: str, matcher: Run, store: str, words: str) -> None:
    ran = matcher("status", "--store", store)
    assert (ran.code, ran.out, len(ran.lines)) == (2, "", 1)
    assert words in ran.err
    assert store in ran.err


def test_the_help_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["add", "--help"])
    assert "s3://" in capsys.readouterr().out
