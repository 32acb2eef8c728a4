"""Settings come from one TOML file, whole or not at all, and every fault is the input's and named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from matcher.config import Settings, cache_folder, load_settings
from matcher.errors import InputError


def written(folder: Path, text: str) -> Path:
    path = folder / "matcher.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings(None) == Settings()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "")) == Settings()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    got = load_settings(written(tmp_path, '[encoder]\nspec = "timm:x"\n[voting]\nk = 7\n'))
    assert (got.encoder.spec, got.voting.k) == ("timm:x", 7)
    assert got.voting.model_copy(update={"k": Settings().voting.k}) == Settings().voting
    assert got.decision == Settings().decision


def test_thresholds_that_are_not_set_are_the_calibrations(tmp_path: Path) -> None:
    assert (Settings().decision.link, Settings().decision.review) == (None, None)
    got = load_settings(written(tmp_path, "[decision]\nlink = 0.8\nsecond_look = false\n")).decision
    assert (got.link, got.review, got.second_look) == (0.8, None, False)
    both = load_settings(written(tmp_path, "[decision]\nlink = 0.8\nreview = 0.8\n")).decision
    assert (both.link, both.review, both.second_look) == (0.8, 0.8, True)


def test_what_is_dumped_loads_again() -> None:
    assert Settings.model_validate_json(Settings().model_dump_json()) == Settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[voting]\nkk = 3\n", "voting.kk"),
        ("[votes]\nk = 3\n", "votes"),
        ("[voting]\nk = 0\n", "voting.k"),
        ('[voting]\nk = "many"\n', "voting.k"),
        ("[voting]\nfloor = 1.0\n", "voting.floor"),
        ("[voting]\nfloor = nan\n", "voting.floor"),
        ("[voting]\nhub_margin = -0.1\n", "voting.hub_margin"),
        ('[encoder]\ndevice = "tpu"\n', "encoder.device"),
        ('[encoder]\nprecision = "fp64"\n', "encoder.precision"),
        ("[encoder]\nthreads = -1\n", "encoder.threads"),
        ("[voting]\nfurther_candidates = 0\n", "voting.further_candidates"),
        ("[voting]\nbackground = 0.7\n", "voting.background"),
        ("[decision]\nlink = 1.5\n", "decision.link"),
        ("[decision]\nlink = 0.0\n", "decision.link"),
        ("[decision]\nreview = 1.5\n", "decision.review"),
        ("[decision]\nlink = 0.5\nreview = 0.6\n", "must not be above link"),
        ('[decision]\nsecond_look = "perhaps"\n', "decision.second_look"),
        ('[index]\nkind = "hnsw"\n', "index.kind"),
        ("k = = 3\n", "not TOML"),
    ],
)
def test_keys_and_values_that_do_not_exist_are_named(tmp_path: Path, text: str, named: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as raised:
        load_settings(path)
    assert named in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_or_a_folder_is_the_inputs_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputError, match="cannot read settings"):
            load_settings(path)


def test_a_file_of_other_bytes_is_the_inputs_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00k")
    with pytest.raises(InputError, match="not TOML"):
        load_settings(path)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().voting.k = 3


def test_the_digest_changes_with_any_setting_and_with_nothing_else(tmp_path: Path) -> None:
    base = Settings().digest()
    assert len(base) == 12
    assert load_settings(written(tmp_path, "# a word\n")).digest() == base
    digests = {base}
    for text in ("[voting]\nk = 99\n", "[decision]\nlink = 0.91\n", '[encoder]\nspec = "x"\n'):
        digests.add(load_settings(written(tmp_path, text)).digest())
    assert len(digests) == 4


def test_graphs_are_kept_where_one_says_else_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MATCHER_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MATCHER_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "program-matcher"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "program-matcher"
