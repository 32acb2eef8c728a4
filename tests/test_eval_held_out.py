"""A clip is never asked by what was learned from its own film, and every clip is asked once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from test_eval_link_run import PLAN, SETTINGS, ThumbnailEncoder

from eval import held_out as module
from eval.benchmark import BenchmarkPlan, sources
from eval.benchmark_material import Material, make_material
from eval.dramas import DramaSpec, catalogue, write_episode
from eval.held_out import deal_parts, run_by_film
from eval.run_files import load_answers
from matcher.config import Settings, SoundSettings
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError
from matcher.store import open_catalog

NAMES = ("one-a", "one-b", "two-a", "three", "four", "five")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkPlan:
    """Six short films, two of one series, beside the five dramas of :data:`PLAN`."""
    folder = tmp_path_factory.mktemp("films")
    specs = catalogue(
        len(NAMES), seed=91, n_twin_pairs=0, n_episodes=1, episode_seconds=12, width=128, height=72, fps=6
    )
    for name, spec in zip(NAMES, specs, strict=True):
        write_episode(spec, 1, folder / f"{name}.mp4")
    return replace(PLAN, films=folder)


@pytest.fixture(scope="module")
def material(plan: BenchmarkPlan, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(plan, tmp_path_factory.mktemp("material"), workers=0)


@pytest.fixture(scope="module")
def ran(
    plan: BenchmarkPlan, material: Material, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run in two parts; the descriptor is not learned, the calibration is."""
    out = tmp_path_factory.mktemp("held-out") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _small(patch)
        return out, run_by_film(plan, out, SETTINGS, n_parts=2, material=material.folder, workers=0)


def _small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "helper_specs", _helpers)
    patch.setattr(module, "CALIBRATION_CLIPS", 16)
    patch.setattr(module, "_encoder", lambda *_: ThumbnailEncoder())


def _helpers() -> list[DramaSpec]:
    return catalogue(
        4, seed=92, n_twin_pairs=0, n_episodes=1, episode_seconds=12, width=128, height=72, fps=6
    )


def _shown(material: Material) -> dict[str, set[str]]:
    return {
        clip.info.clip_id: {segment.program_id for segment in clip.truth.segments} for clip in material.clips
    }


def test_series_and_their_clips_are_dealt_into_parts(plan: BenchmarkPlan, material: Material) -> None:
    found = sources(plan, material.folder)
    parts = deal_parts(found, material.clips, n_parts=2, seed=1)
    programs = [part.programs for part in parts]
    assert not programs[0] & programs[1]
    assert programs[0] | programs[1] == {source.program_id for source in found}
    family = {source.program_id: source.family for source in found}
    assert not {family[p] for p in programs[0]} & {family[p] for p in programs[1]}
    assert all(any(source.program_id in part for source in found if source.group == "films")
               for part in programs)  # fmt: skip
    shown = _shown(material)
    for part in parts:
        assert all(shown[clip] <= part.programs for clip in part.clip_ids)
    left = {clip.info.clip_id for clip in material.clips} - parts[0].clip_ids - parts[1].clip_ids
    assert all(len(shown[clip]) > 1 for clip in left)


@pytest.mark.slow  # a part learns for a minute
def test_what_is_asked_was_not_learned_from(ran: tuple[Path, dict[str, Any]], material: Material) -> None:
    out, value = ran
    shown = _shown(material)
    asked: list[str] = []
    for number, part in enumerate(value["by_film"]["parts"], start=1):
        assert part["asked"]
        assert not set(part["asked"]) & set(part["learned"])
        learned = {program.program_id for program in open_catalog(out / f"part-{number}/learned").programs()}
        assert set(part["learned"]) <= learned
        mine = [answer["clip_id"] for answer in load_answers(out / f"part-{number}/answers.parquet")]
        assert len(mine) == part["clips"]
        assert not any(shown[clip] & learned for clip in mine)
        asked += mine
    assert len(set(asked)) == len(asked)
    assert len(asked) + value["by_film"]["montages_left_out"] == len(material.clips)
    assert sorted(asked) == sorted(answer["clip_id"] for answer in load_answers(out / "answers.parquet"))
    assert json.loads((out / "figures.json").read_text()) == value
    assert (out / "report.html").is_file()


@pytest.mark.slow  # a part learns for a minute
def test_a_part_decides_by_its_own_calibration(ran: tuple[Path, dict[str, Any]]) -> None:
    out, _ = ran
    own = [(out / f"part-{n}" / "calibration.safetensors").read_bytes() for n in (1, 2)]
    used = [(out / f"part-{n}" / "store" / "calibration.safetensors").read_bytes() for n in (1, 2)]
    assert own == used
    assert own[0] != own[1]


@pytest.mark.slow  # a part learns for a minute
def test_run_again_it_learns_and_asks_nothing(
    ran: tuple[Path, dict[str, Any]],
    plan: BenchmarkPlan,
    material: Material,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, value = ran
    _small(monkeypatch)
    monkeypatch.setattr(module, "calibrate", None)
    encoder = ThumbnailEncoder()
    monkeypatch.setattr(module, "_encoder", lambda *_: encoder)
    monkeypatch.setattr("eval.report.write_report", lambda out, **_: None)
    again = run_by_film(plan, out, SETTINGS, n_parts=2, material=material.folder, workers=0)
    assert again["groups"] == value["groups"]
    assert encoder.n_encoded == 0


@pytest.mark.slow  # a part learns for a minute
def test_the_descriptor_is_learned_without_the_parts_films(
    plan: BenchmarkPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real fit, on raw descriptors that are cheap; what it was told is in its file."""
    helpers = tmp_path / "helpers"
    monkeypatch.setattr(module, "helper_specs", _helpers)
    paths = module.make_helpers(helpers)
    assert module.make_helpers(helpers) == paths
    learned = [
        s for s in sources(plan, tmp_path) if s.group == "films" and not s.program_id.startswith("one")
    ]

    def raw(images: Any) -> Any:
        n = len(images)
        small = images.reshape(n, -1)[:, :1952].astype("float32") + 1
        return small / (small**2).sum(axis=1, keepdims=True) ** 0.5

    loaded: list[str] = []

    def load(spec: str, **_: Any) -> FrameEncoder:
        loaded.append(spec)
        return ThumbnailEncoder()

    monkeypatch.setattr(module, "load_raw_lite0", lambda **_: raw)
    monkeypatch.setattr(module, "load_encoder", load)
    assert plan.films is not None
    module._encoder(tmp_path, plan.films, learned, paths, SETTINGS)
    file = tmp_path / "whitening.safetensors"
    assert loaded == [f"lite0@{file}"]
    from safetensors import safe_open

    with safe_open(str(file), framework="numpy") as opened:
        films = opened.metadata()["films"].split(", ")
    assert {"two-a", "three", "four", "five"} < set(films)
    assert not {"one-a", "one-b"} & set(films)
    assert len(films) == 4 + len(paths)


@pytest.mark.slow  # a part learns for a minute
def test_what_listens_is_learned_without_the_parts_films(
    plan: BenchmarkPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "helper_specs", _helpers)
    paths = module.make_helpers(tmp_path / "helpers")
    learned = [s for s in sources(plan, tmp_path) if s.group == "films" and s.program_id != "three"]
    assert plan.films is not None
    settings = Settings()
    found = module._listening(tmp_path, plan.films, learned, paths, settings)
    file = tmp_path / "sound_whitening.safetensors"
    assert found.sound.spec == f"logmel@{file}"
    assert found.model_copy(update={"sound": settings.sound}) == settings
    from safetensors import safe_open

    with safe_open(str(file), framework="numpy") as opened:
        films = set(opened.metadata()["films"].split(", "))
    assert films == {"one-a", "one-b", "two-a", "four", "five", *(path.stem for path in paths)}
    monkeypatch.setattr(module, "SoundTraining", None)  # it is there: nothing is learned again
    assert module._listening(tmp_path, plan.films, learned, paths, settings) == found
    deaf = settings.model_copy(update={"sound": SoundSettings(enabled=False)})
    assert module._listening(tmp_path, plan.films, learned, paths, deaf) is deaf


def test_too_few_series_are_refused(plan: BenchmarkPlan, material: Material, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --films"):
        run_by_film(replace(plan, films=None), tmp_path / "a", SETTINGS, n_parts=2)
    with pytest.raises(InputError, match="6 parts need films of as many series, got 5"):
        deal_parts(sources(plan, material.folder), material.clips, n_parts=6, seed=1)


def test_words_that_do_not_go_with_it(matcher: Run, tmp_path: Path) -> None:
    for words in (["--ablation"], ["--distractors", "5"], ["--encoder", "lite0"]):
        told = matcher("eval", "link", "--films", str(tmp_path), "--by-film", "2", "--out", "x", *words)
        assert told.code == 2
        assert "--by-film learns" in told.err
