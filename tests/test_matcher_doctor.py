"""The doctor finds what is missing or broken, says it in a line each, and raises nothing."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from commands import Run

from index.rows import Kind
from index.snapshot import cache_folder
from matcher import doctor
from matcher.config import Settings
from matcher.errors import MissingDependencyError
from matcher.store import open_catalog


def _found(store: Path | None = None, settings: Settings | None = None) -> dict[str, doctor.Check]:
    checks = doctor.examine(store, settings or Settings())
    assert all(len(check.finding.splitlines()) == 1 for check in checks)
    return {check.name: check for check in checks}


def test_all_is_well_here(matcher: Run, kept_store: Path) -> None:
    ran = matcher("doctor", "--store", kept_store, "--json")
    assert ran.code == 0
    assert ran.object["ok"]
    found = {check["name"]: check for check in ran.object["checks"]}
    assert found.keys() == {"python", "packages", "faiss", "cache", "encoder", "text", "store", "index"}
    assert all(check["ok"] for check in found.values())
    assert "3 programs, 6 assets" in found["store"]["finding"]
    assert "equal to the tables" in found["index"]["finding"]
    assert re.search(r"\d frames \(flat\), [1-9]\d* sounds \(flat\)", found["index"]["finding"])


def test_it_looks_at_the_store_in_this_folder_only_if_there_is_one(
    matcher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "store" not in {check["name"] for check in matcher("doctor", "--json").object["checks"]}
    (tmp_path / "matcher-store").mkdir()
    assert matcher("doctor").code == 2


def test_a_store_that_is_not_there(matcher: Run, tmp_path: Path) -> None:
    ran = matcher("doctor", "--store", tmp_path / "none")
    assert ran.code == 2
    assert "FAULT" in ran.out
    assert "there is no store" in ran.out


@pytest.mark.parametrize("kind", ["frames", "sounds"])
def test_a_damaged_cache_is_a_fault_with_its_remedy(matcher: Run, store: Path, kind: Kind) -> None:
    model = open_catalog(store).model_of(kind)
    assert model is not None
    (cache_folder(store, model.fingerprint) / "CURRENT").write_text("nonsense\n")
    check = _found(store)["index"]
    assert (check.ok, check.exit_code) == (False, 2)
    assert "matcher index rebuild" in check.finding
    assert matcher("index", "rebuild", "--store", store).code == 0
    assert _found(store)["index"].ok


def test_missing_packages_are_exit_3(matcher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_av(name: str) -> str:
        if name == "av":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", without_av)
    check = _found()["packages"]
    assert (check.ok, check.exit_code) == (False, 3)
    assert "missing: av;" in check.finding
    assert matcher("doctor").code == 3


def test_whatever_an_encoder_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((MissingDependencyError("no\nCUDA"), 3), (OSError("broken\nlibrary"), 1)):

        def broken(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("matcher.encoders.registry.load_encoder", broken)
        check = _found()["encoder"]
        assert (check.ok, check.exit_code) == (False, code)
        assert "\\n" in check.finding


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MATCHER_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("matcher.encoders.registry.load_encoder", lambda *_, **__: None)
    assert not _found()["cache"].ok


def test_a_cache_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MATCHER_CACHE", str(tmp_path))
    monkeypatch.setattr("matcher.encoders.registry.load_encoder", lambda *_, **__: None)
    monkeypatch.setattr("os.access", lambda *_: False)
    check = _found()["cache"]
    assert not check.ok
    assert "MATCHER_CACHE" in check.finding
