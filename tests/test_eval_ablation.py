"""Each variation lacks one part and nothing else; a finished run gets its rows without a new query."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run
from numpy.typing import NDArray
from test_eval_link_run import PLAN, ThumbnailEncoder
from test_matcher_linking import live_of
from trajectories import D, Trajectory, noisy, unit

from eval import link_run
from eval.ablation import (
    SIMILARITY_BAR,
    SIMILARITY_WEIGHT,
    SimilarityAlone,
    ablation_rows,
    median_level,
    row_of_run,
    show_ablation,
    variations,
)
from eval.benchmark_material import Material, make_material
from eval.link_run import ablate_run, run_link_benchmark, run_link_truth
from eval.run_files import load_answers, load_clips
from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip
from matcher import cli
from matcher.background import Background
from matcher.calibration import Calibration
from matcher.config import DecisionSettings, Settings
from matcher.decision import Evidence, Weights
from matcher.errors import InputError
from matcher.linking import NO_EVIDENCE, Linker
from matcher.records import Answer, Descriptors, Look
from matcher.store import open_catalog

NAMES = ["nothing", "sound", "second look", "background", "hub share", "alignment", "decision"]
MODEL = ModelInfo("fp-1", "synthetic", D)
CALIBRATION = Calibration(
    Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5, 0.0), -6.8),
    0.95,
    0.3,
    Background.empty(D, least=0.6),
)
PACE = 0.4
LENGTH = 60.0
#: ``twin`` shows what ``p1`` shows.
SEEDS = {"p0": 0, "p1": 10, "p2": 20, "twin": 10}


def shown(program: str, t_seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    return Trajectory(SEEDS[program], pace=PACE)(t_seconds)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveIndex:
    """Four programs of one asset, a frame a second."""
    catalog = Catalog.create(tmp_path_factory.mktemp("ablation") / "store", MODEL)
    t = np.arange(0.0, LENGTH)
    with catalog.writing() as writer:
        for name in SEEDS:
            asset = NewAsset(f"{name}-e1", f"/v/{name}.mp4", "", LENGTH, t, shown(name, t))
            writer.add_program(NewProgram(name, name), [asset])
    return live_of(catalog)


def linkers(
    live: LiveIndex, calibration: Calibration = CALIBRATION, level: float = 0.6, **decision: float
) -> dict[str, Linker]:
    settings = Settings(decision=DecisionSettings.model_validate(decision))
    found = variations(live, settings, calibration, level)
    assert list(found) == NAMES
    return found


def clip_of(program: str, start: float, *, seconds: float = 15.0, step: float = 0.5) -> Descriptors:
    t = np.arange(0.0, seconds, step)
    return Descriptors(t, noisy(shown(program, start + t), 0, 0.15), seconds, t.size)


def ask(linker: Linker, clip: Descriptors) -> Answer:
    return linker.link("c", "/c.mp4", clip, model="fp-1", top=5)


# --- The variations, by value ---


def test_without_nothing_is_the_whole_system(live: LiveIndex) -> None:
    clip = clip_of("p0", 20.3)
    answer = ask(linkers(live)["nothing"], clip)
    assert answer == ask(Linker(live, Settings(), CALIBRATION), clip)
    assert answer.program_id == "p0"


def test_without_the_second_look_only_the_first_counts(live: LiveIndex) -> None:
    """The whole picture shows a stranger, a part of it p2: only the second look can find that."""
    found, part = linkers(live), clip_of("p2", 10.0)
    stranger = Trajectory(5000, pace=PACE)(part.t_seconds)
    clip = replace(part, vectors=stranger, further=(Look("centre", part.t_seconds, part.vectors),))
    whole, first = ask(found["nothing"], clip), ask(found["second look"], clip)
    assert (whole.program_id, whole.looks) == ("p2", 2)
    assert (first.decision, first.candidates, first.looks) == ("none", (), 1)
    assert ask(found["second look"], part) == ask(found["nothing"], part)


def test_without_the_background_chance_gives_every_frame_the_same(live: LiveIndex) -> None:
    """Six programs of a background that shows the clip's own frames say that they are everyone's."""
    clip = clip_of("p0", 20.0)
    vectors = np.tile(clip.vectors, (6, 1))
    common = Background(vectors, np.repeat(np.arange(6, dtype=np.int32), len(clip)), 0.6)
    found = linkers(live, replace(CALIBRATION, background=common))

    def only_guessed(linker: Linker) -> bool:
        """Its nearest program is named, and nothing speaks for it."""
        answer = ask(linker, clip)
        guesses = [(guess.program_id, guess.log_odds) for guess in answer.candidates]
        return answer.decision == "none" and guesses == [("p0", NO_EVIDENCE)]

    assert only_guessed(found["nothing"])
    assert ask(found["background"], clip) == ask(linkers(live)["nothing"], clip)
    assert ask(found["background"], clip).program_id == "p0"
    assert only_guessed(linkers(live, level=0.999)["background"])


def test_without_the_hub_share_twins_get_the_whole_vote(live: LiveIndex) -> None:
    """Programs of the same frames share each frame's vote; p0 has its frames to itself."""
    found = linkers(live)

    def votes(name: str, program: str) -> dict[str, float]:
        (assessed,) = found[name].consider(clip_of(program, 20.3)).by_look
        return {live.programs[one.program]: one.votes for one in assessed}

    shared, full = votes("nothing", "p1"), votes("hub share", "p1")
    assert full["p1"] == full["twin"] == pytest.approx(2 * shared["p1"])
    assert votes("hub share", "p0") == votes("nothing", "p0")


def test_without_alignment_frames_match_in_any_order(live: LiveIndex) -> None:
    """Seconds 40, 7 and 23 of p0 in turn: no line goes through them, and all of them are p0's.

    The second frame is the very frame of second 7, shown at second 1 of the clip, so the clip would lie
    at 6 to 9.
    """
    t = np.array([0.0, 1.0, 2.0])
    vectors = shown("p0", np.array([40.0, 7.0, 23.0]))
    vectors[[0, 2]] = noisy(vectors[[0, 2]], 0, 0.3)
    clip = Descriptors(t, vectors, 3.0, 3)
    found = linkers(live, link=0.2, review=0.2)
    (unordered,) = found["alignment"].consider(clip).by_look
    (match,) = unordered[0].matches
    assert match.frames.tolist() == match.run.tolist() == [0, 1, 2]
    at = shown("p0", np.array([40.0, 7.0, 23.0]))
    assert match.similarities == pytest.approx(np.einsum("nd,nd->n", vectors, at), abs=1e-3)
    evidence = unordered[0].evidence
    assert evidence is not None
    assert (evidence.coverage, evidence.speed, evidence.is_reversed) == (1.0, 0.0, False)
    (link,) = ask(found["alignment"], clip).links
    (segment,) = link.segments
    assert (segment.asset_id, segment.clip_start_seconds, segment.clip_end_seconds) == ("p0-e1", 0.0, 3.0)
    assert (segment.asset_start_seconds, segment.asset_end_seconds) == (6.0, 9.0)

    (aligned,) = found["nothing"].consider(clip).by_look
    assert all(one.run.size < 3 for one in aligned[0].matches)


def test_without_alignment_a_frame_that_does_not_vote_does_not_match(live: LiveIndex) -> None:
    clip = clip_of("p0", 20.0, seconds=6.0)
    vectors = clip.vectors.copy()
    vectors[4:8] = Trajectory(5000, pace=PACE)(clip.t_seconds[4:8])
    (assessed,) = linkers(live)["alignment"].consider(replace(clip, vectors=vectors)).by_look
    (match,) = assessed[0].matches
    assert match.run.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize("bar", [{}, {"link": 0.7, "review": 0.1}])
def test_without_the_decision_the_similarity_alone_decides(live: LiveIndex, bar: dict[str, float]) -> None:
    """Of twins the lead is 0, which is a coin's throw for the whole system and nothing for this one."""
    found, link = linkers(live, **bar), bar.get("link", CALIBRATION.link)
    answer = ask(found["decision"], clip_of("p1", 20.3))
    assert answer.candidates[0].score > SIMILARITY_BAR
    assert answer.decision == "linked"
    for guess in answer.candidates:
        if guess.score:
            nearer = np.log((1.05 - SIMILARITY_BAR) / (1.05 - guess.score))
            expected = np.log(link / (1 - link)) + SIMILARITY_WEIGHT * nearer
            assert guess.log_odds == pytest.approx(expected)
    assert ask(found["nothing"], clip_of("p1", 20.3)).candidates[0].confidence <= 0.5


def test_the_similarity_alone_reaches_the_bar_at_its_place() -> None:
    weights = SimilarityAlone.with_bar(0.9787)
    at = Evidence(SIMILARITY_BAR, 0.1, -0.2, 1.0, 0.1, 1.0, is_reversed=True, is_further=True)
    assert weights.confidence(at) == pytest.approx(0.9787)
    assert weights.confidence(replace(at, similarity=0.91)) > 0.9787
    assert weights.confidence(replace(at, similarity=0.89)) < 0.9787
    # From 0.9 to 1 a third of what is lacking is left, counted from 1.05.
    gain = weights.log_odds(replace(at, similarity=1.0)) - weights.log_odds(at)
    assert gain == pytest.approx(4.5 * np.log(3.0))
    assert np.isfinite(SimilarityAlone.with_bar(1.0).log_odds(at))


def test_the_median_level_by_hand(tmp_path: Path) -> None:
    """Three programs of a background, each one axis: a frame's level is the mean of its second and third
    most similar one. Frames (0.8, 0.6, 0), (0, 0.6, 0.8) and (0.48, 0.64, 0.6) give 0.3, 0.3 and 0.54;
    the least is 0.2, and a frame of another axis gives that."""
    axes = np.eye(D, dtype=np.float32)
    background = Background(axes[:3], np.arange(3, dtype=np.int32), 0.2)

    def frame(*parts: float) -> NDArray[np.float32]:
        return unit(np.array([[*parts, *[0.0] * (D - len(parts))]]))[0]

    frames = {
        "a": [frame(0.8, 0.6), frame(0.48, 0.64, 0.6), axes[5]],
        "b": [frame(0.0, 0.6, 0.8), frame(0.48, 0.64, 0.6)],
        "other": [axes[5]] * 9,
        "empty": [],
    }
    catalog = Catalog.create(tmp_path / "store", MODEL)
    with catalog.writing() as writer:
        for name, vectors in frames.items():
            record = ClipRecord(name, f"/{name}.mp4", "", 5.0, 5, "fp-1", "m")
            stacked = np.array(vectors, np.float32).reshape(-1, D)
            writer.put_clips([StoredClip(record, np.arange(float(len(vectors))), stacked)])
    assert median_level(catalog, background, ["a", "b", "empty"]) == pytest.approx(0.3, abs=1e-3)
    assert median_level(catalog, background, ["a"]) == pytest.approx(0.3, abs=1e-3)
    assert median_level(catalog, background, ["other"]) == pytest.approx(0.2)
    assert median_level(catalog, background, ["empty"]) == pytest.approx(0.2)


# --- A finished run ---


@pytest.fixture(autouse=True)
def few_simulated_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The aligners' table is measured elsewhere."""
    monkeypatch.setattr(link_run, "SEEDS", range(1))


@dataclass(frozen=True)
class Finished:
    material: Material
    out: Path
    value: dict[str, Any]


SMALL = replace(PLAN, n_dramas=3, clips_per_known=2, n_unknown=2)


@pytest.fixture(scope="module")
def light_report() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.report.write_report", lambda out, **_: (out / "report.html").write_text("!"))
        yield


@pytest.fixture(scope="module")
def finished(light_report: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("ablated")
    value = run_link_benchmark(
        SMALL, folder / "out", Settings(), ThumbnailEncoder(), material=folder / "material", workers=0
    )
    return Finished(make_material(SMALL, folder / "material", workers=0), folder / "out", value)


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.out, tmp_path / "copy"))


@pytest.fixture
def nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads an encoder or asks for files fails."""

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a finished run is not queried again")

    monkeypatch.setattr(cli, "load_encoder_of", refused)
    monkeypatch.setattr(link_run, "query_clips", refused)
    monkeypatch.setattr(link_run, "add_programs", refused)


def timeless(groups: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**group, "seconds": None} for name, group in groups.items()}


def another_run(copy: Path, **changes: Any) -> Path:
    """A copy of a run's figures and clips under another model's name."""
    folder = copy.with_name("other")
    folder.mkdir(exist_ok=True)
    value = json.loads((copy / "figures.json").read_text())
    value["run"] = {**value["run"], "model": "plain-1", **changes}
    value["groups"]["all"]["micro_ap"] = 0.125
    (folder / "figures.json").write_text(json.dumps(value))
    shutil.copy(copy / "clips.parquet", folder)
    return folder


@pytest.mark.usefixtures("nothing_new")
def test_a_finished_run_gets_its_rows_and_keeps_its_figures(finished: Finished, copy: Path) -> None:
    (copy / "report.html").write_text("old")
    before = {p.name: p.read_bytes() for p in copy.iterdir() if p.suffix in (".parquet", ".csv")}
    value = ablate_run(copy)
    assert [row["without"] for row in value["ablation"]] == NAMES
    added = ("ablation", "alignment")
    assert {name: part for name, part in value.items() if name not in added} == finished.value
    assert {row["aligner"] for row in value["alignment"]} == {"hough", "network", "dynamic"}
    assert json.loads((copy / "figures.json").read_text()) == value
    assert (copy / "report.html").read_text() == "!"
    assert {p.name: p.read_bytes() for p in copy.iterdir() if p.name in before} == before

    rows = {row["without"]: timeless(row["groups"]) for row in value["ablation"]}
    assert rows["nothing"] == timeless(finished.value["groups"])
    # The thumbnails have no calibration of their own, and so no background to lose; the sounds have.
    assert rows["background"]["all"]["top1"] == rows["nothing"]["all"]["top1"]
    assert rows["background"] != rows["nothing"]
    assert rows["second look"]["all"]["passes"]["second"]["right"] == 0
    assert rows["nothing"]["all"]["passes"]["second"]["right"] > 0
    assert rows["alignment"]["all"]["segments"] != rows["nothing"]["all"]["segments"]


@pytest.mark.usefixtures("nothing_new")
def test_the_command_adds_them_and_shows_a_table(copy: Path, matcher: Run) -> None:
    other = another_run(copy)
    ran = matcher("eval", "link", "--out", copy, "--ablation", "--ablation-run", other)
    assert ran.code == 0, ran.err
    table = ran.out[ran.out.index("Without a part") :]
    for name in (*NAMES, "pair whitening", "recall at 1 %", "median IoU"):
        assert name in table
    (line,) = [line for line in table.splitlines() if "pair whitening" in line]
    assert "0.125" in line
    ran = matcher("eval", "link", "--out", copy, "--ablation", "--json")
    assert [row["without"] for row in ran.object["ablation"]] == NAMES


def test_the_command_makes_a_run_and_its_rows_in_one(
    finished: Finished, copy: Path, matcher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "load_encoder_of", lambda _: ThumbnailEncoder())
    words = ("eval", "link", "--material", finished.material.folder, "--out", copy, "--json")
    ran = matcher(*words, "--ablation")
    assert ran.code == 0, ran.err
    assert [row["without"] for row in ran.object["ablation"]] == NAMES
    assert "ablation" not in matcher(*words).object


def test_a_clip_that_could_not_be_read_stays_so(finished: Finished, copy: Path) -> None:
    answers: list[dict[str, Any]] = load_answers(copy / "answers.parquet")
    lost = next(clip.info.clip_id for clip in finished.material.clips if clip.info.is_known)
    failed = {"decision": "none", "program_id": None, "confidence": 0.0, "links": [], "review": [],
              "candidates": [], "error": {"kind": "input", "message": "broken"}}  # fmt: skip
    answers = [a | failed if a["clip_id"] == lost else a for a in answers]
    catalog = open_catalog(copy / "store")
    clips, truth = load_clips(copy / "clips.parquet"), finished.material.truth
    # Its descriptors are not there either, as after a real failure.
    read = [answer for answer in answers if answer["clip_id"] != lost]
    catalog = _store_of(catalog, read, copy.with_name("less"))
    rows = ablation_rows(catalog, Settings(), clips, truth, answers, top=5)
    assert [row["groups"]["all"]["counts"]["failed"] for row in rows] == [1] * len(NAMES)
    whole = load_answers(copy / "answers.parquet")
    with pytest.raises(InputError, match=f"no descriptors of 1 clips \\({lost} among them"):
        ablation_rows(catalog, Settings(), clips, truth, whole, top=5)


def _store_of(catalog: Catalog, answers: list[dict[str, Any]], path: Path) -> Catalog:
    """A store that keeps the clips of some answers, and no program."""
    new = Catalog.create(path, catalog.model)
    with new.writing() as writer:
        if catalog.sound_model is not None:
            writer.use_sound(catalog.sound_model)
        writer.put_clips(list(catalog.iter_clips([answer["clip_id"] for answer in answers])))
    return new


# --- Words and folders that do not fit ---


def test_the_other_run_must_be_of_the_same_clips_and_another_encoder(finished: Finished, copy: Path) -> None:
    clips = load_clips(copy / "clips.parquet")
    row = row_of_run(another_run(copy), clips, "thumbnail-1")
    assert (row["without"], row["groups"]["all"]["micro_ap"]) == ("pair whitening", 0.125)
    assert row_of_run(another_run(copy), clips[::-1], "thumbnail-1") == row
    with pytest.raises(InputError, match="same encoder"):
        row_of_run(another_run(copy), clips, "plain-1")
    with pytest.raises(InputError, match="other clips"):
        row_of_run(another_run(copy), clips[1:], "thumbnail-1")
    with pytest.raises(InputError, match="no finished run"):
        row_of_run(copy / "store", clips, "thumbnail-1")


def test_a_run_that_keeps_no_descriptors_is_refused(finished: Finished, tmp_path: Path) -> None:
    own = tmp_path / "own"
    run_link_truth(
        finished.out / "truth.csv", finished.material.clips_manifest, finished.out / "store", own, Settings(),
        ThumbnailEncoder(),
    )  # fmt: skip
    with pytest.raises(InputError, match="keeps no descriptors"):
        ablate_run(own)
    with pytest.raises(InputError, match="no finished run"):
        ablate_run(tmp_path)


def test_settings_of_another_version_are_refused(copy: Path) -> None:
    value = json.loads((copy / "figures.json").read_text())
    value["run"]["settings"]["voting"]["gone"] = 3
    (copy / "figures.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="this version does not have"):
        ablate_run(copy)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ablation", "--truth", "t.csv", "--clips", "c.csv"], "--truth keeps none"),
        (["--ablation-run", "other"], "belongs to --ablation"),
        (["--ablation"], "nothing to make"),
    ],
)
def test_words_that_make_no_sense_exit_2(
    matcher: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    ran = matcher("eval", "link", "--out", tmp_path / "out", *words)
    assert ran.code == 2
    assert message in ran.lines[-1]


def test_a_table_of_rows_without_figures_has_empty_cells(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"right": 0, "of": 0, "share": None, "low": None, "high": None}
    third = {**nothing, "right": 1, "of": 3, "share": 1 / 3}
    group = {
        "top1": third, "top1_by_level": {"heavy": third}, "micro_ap": None,
        "recall_at_false_links": {"0.01": third, "0.001": nothing}, "unknown_linked": nothing,
        "segments": {"median_iou": 0.87654},
    }  # fmt: skip
    show_ablation([{"without": "it", "groups": {"all": group}}])
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if " it " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["it", "33.3%", "33.3%", "", "33.3%", "", "", "0.877"]
    assert "heavy" in shown
    assert "stacked" not in shown
