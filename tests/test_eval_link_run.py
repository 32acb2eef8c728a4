"""A run answers every clip once with the real pipeline, goes on where it was cut off, and writes it down."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run, files_below
from media import moving, write
from numpy.typing import NDArray
from PIL import Image

from eval import distractors as strangers
from eval import link_run as module
from eval.benchmark import BenchmarkPlan, Source, sources
from eval.benchmark_material import Material, make_material
from eval.distractor_run import fill
from eval.failure_pictures import (
    CAPTION_HEIGHT,
    GAP,
    MOMENTS,
    TILE_HEIGHT,
    TILE_WIDTH,
    FailurePictures,
    Stretch,
)
from eval.ground_truth import TruthRow, read_truth
from eval.link_run import chosen_plan, own_clips, run_link_benchmark, run_link_truth, show_figures
from eval.run_files import load_answers, load_clips
from matcher import cli
from matcher.config import Settings
from matcher.encoders.base import ModelInfo
from matcher.errors import InputError
from matcher.linking import Linker
from matcher.records import Answer
from matcher.store import open_catalog

PLAN = BenchmarkPlan(
    seed=3,
    n_dramas=5,
    clips_per_known=3,
    min_per_kind=0,
    n_unknown=4,
    clip_seconds=(4.0, 5.0),
    fps=6,
    episode_seconds=14.0,
    drama_width=128,
    drama_height=72,
    drama_fps=6,
)
SETTINGS = Settings()


class ThumbnailEncoder:
    """Sixty-four patches without their mean: enough to tell generated dramas apart, at once."""

    info = ModelInfo("thumbnail", "thumbnail-1", 192)
    input_side, batch_size, engine = 32, 16, "numpy"

    def __init__(self) -> None:
        self.n_encoded = 0

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n_encoded += len(images)
        patches = images.reshape(len(images), 8, 4, 8, 4, 3).astype(np.float32).mean(axis=(2, 4))
        flat = (patches - patches.mean(axis=(1, 2), keepdims=True)).reshape(len(images), -1)
        unit: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
        return unit


@dataclass(frozen=True)
class Finished:
    material: Material
    out: Path
    value: dict[str, Any]


def _run(material: Path, out: Path, **words: Any) -> dict[str, Any]:
    return run_link_benchmark(
        PLAN, out, words.pop("settings", SETTINGS), words.pop("encoder", ThumbnailEncoder()),
        material=material, workers=0, **words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("linked")
    value = _run(folder / "material", folder / "out", command="matcher eval link --quick")
    return Finished(make_material(PLAN, folder / "material", workers=0), folder / "out", value)


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.out, tmp_path / "copy"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the clips that the pipeline links, as they come."""
    ids: list[str] = []
    real = Linker.answer

    def link(self: Linker, clip_id: str, *words: Any, **named: Any) -> Answer:
        ids.append(clip_id)
        return real(self, clip_id, *words, **named)

    monkeypatch.setattr(Linker, "answer", link)
    return ids


@pytest.fixture
def light_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report's plots take seconds; where they are not the matter, a word stands for them."""
    monkeypatch.setattr("eval.report.write_report", lambda out, **_: (out / "report.html").write_text("!"))


def _timeless(value: dict[str, Any]) -> dict[str, Any]:
    return {name: {**group, "seconds": None} for name, group in value["groups"].items()}


# --- A whole run ---


def test_a_run_answers_every_clip_and_writes_everything_down(finished: Finished) -> None:
    names = {path.name for path in finished.out.iterdir()}
    assert names == {
        "run.json", "store", "answers.parquet", "clips.parquet", "truth.csv", "figures.json", "report.html"
    }  # fmt: skip
    ids = [clip.info.clip_id for clip in finished.material.clips]
    answers = load_answers(finished.out / "answers.parquet")
    assert [answer["clip_id"] for answer in answers] == ids
    assert all(answer["seconds"] > 0 for answer in answers)
    assert [clip.clip_id for clip in load_clips(finished.out / "clips.parquet")] == ids
    assert read_truth(finished.out / "truth.csv") == finished.material.truth
    assert json.loads((finished.out / "figures.json").read_text()) == finished.value
    counts = finished.value["groups"]["all"]["counts"]
    assert counts["clips"] == len(ids)
    assert (counts["unknown"], counts["failed"]) == (4, 0)
    run = finished.value["run"]
    assert (run["seed"], run["command"]) == (3, "matcher eval link --quick")
    assert (run["model"], run["settings_digest"]) == ("thumbnail-1", SETTINGS.digest())
    assert {"python", "numpy"} <= set(run["versions"])


def test_only_the_catalogue_is_in_the_store(finished: Finished) -> None:
    inside = {s.program_id for s in sources(PLAN, finished.material.folder) if s.is_known}
    catalog = open_catalog(finished.out / "store")
    assert {record.program_id for record in catalog.programs()} == inside
    assert {record.clip_id for record in catalog.clips()} == {c.info.clip_id for c in finished.material.clips}


def test_untouched_clips_are_found_in_their_place(finished: Finished) -> None:
    """Checks the truth against the pipeline: even thumbnails find a clip whose layout is not changed."""
    easy = {"muted", "sound-replaced", "reencoded", "low-resolution", "blur", "slight-speed"}
    answers = {answer["clip_id"]: answer for answer in load_answers(finished.out / "answers.parquet")}
    checked = 0
    for clip in finished.material.clips:
        if clip.info.is_known and set(clip.info.kinds) <= easy and clip.info.level != "montage":
            best = answers[clip.info.clip_id]["candidates"][0]["program_id"]
            assert best == clip.truth.segments[0].program_id
            checked += 1
    assert checked


@pytest.mark.usefixtures("light_report")
def test_a_second_run_asks_nothing_and_says_the_same(
    finished: Finished, copy: Path, asked: list[str]
) -> None:
    encoder = ThumbnailEncoder()
    again = _run(finished.material.folder, copy, encoder=encoder)
    assert asked == []
    assert encoder.n_encoded == 0
    assert again["groups"] == finished.value["groups"]


@pytest.mark.usefixtures("light_report")
def test_a_run_that_was_cut_off_goes_on(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ids = tmp_path / "out", [clip.info.clip_id for clip in finished.material.clips]
    real = Linker.answer
    linked: list[str] = []

    def link(self: Linker, clip_id: str, *words: Any, **named: Any) -> Answer:
        if len(linked) == 3:
            raise KeyboardInterrupt
        linked.append(clip_id)
        return real(self, clip_id, *words, **named)

    monkeypatch.setattr(Linker, "answer", link)
    with pytest.raises(KeyboardInterrupt):
        _run(finished.material.folder, out)
    assert [answer["clip_id"] for answer in load_answers(out / "answers.parquet")] == ids[:3]
    assert not (out / "figures.json").exists()
    linked[:] = ["room for all the others"] * 4
    value = _run(finished.material.folder, out)
    assert linked[4:] == ids[3:]
    assert _timeless(value) == _timeless(finished.value)
    assert {record.clip_id for record in open_catalog(out / "store").clips()} == set(ids)


@pytest.mark.usefixtures("light_report")
def test_answers_to_another_state_of_the_catalogue_are_asked_again(
    finished: Finished, copy: Path, asked: list[str]
) -> None:
    with open_catalog(copy / "store").writing() as writer:
        fill(writer, [np.eye(192, dtype=np.float16)[:5]], 0, 5)
    _run(finished.material.folder, copy)
    assert asked == [clip.info.clip_id for clip in finished.material.clips]


def test_a_clip_that_cannot_be_read_is_counted_and_the_rest_goes_on(
    finished: Finished, tmp_path: Path
) -> None:
    material = Path(shutil.copytree(finished.material.folder, tmp_path / "material"))
    (material / "clips" / f"{finished.material.clips[0].info.clip_id}.mp4").write_bytes(b"broken")
    value = _run(material, tmp_path / "out", n_distractors=0)
    assert value["groups"]["all"]["counts"]["failed"] == 1
    assert (tmp_path / "out" / "report.html").exists()


def test_another_run_in_the_same_folder_is_refused(finished: Finished, copy: Path, tmp_path: Path) -> None:
    before = files_below(copy)
    other = SETTINGS.model_copy(update={"voting": SETTINGS.voting.model_copy(update={"k": 50})})
    with pytest.raises(InputError, match="differs from this one in: settings_digest"):
        _run(finished.material.folder, copy, settings=other)
    assert files_below(copy) == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no run"):
        _run(finished.material.folder, tmp_path / "foreign")
    with pytest.raises(InputError, match="--out"):
        _run(finished.material.folder, tmp_path / "foreign" / "thesis.txt")


def test_seconds_run_from_answer_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands at 10 at the start; answers come at 12 and 17, and what the caller does between
    14 and 12 does not count."""
    ticks = iter([10.0, 12.0, 14.0, 17.0, 18.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    answers = [Answer(name, "x.mp4", "none", (), (), "m", 1) for name in "ab"]
    assert [value["seconds"] for value in module._timed(lambda: iter(answers))] == [2.0, 3.0]


# --- Distractors ---


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "FRAMES_A_PROGRAM", 40)


@pytest.mark.usefixtures("small_blocks", "light_report")
def test_distractors_grow_the_index_and_change_nothing_where_there_are_none(
    finished: Finished, copy: Path, tmp_path: Path, asked: list[str]
) -> None:
    material = Path(shutil.copytree(finished.material.folder, tmp_path / "material"))
    value = _run(material, copy, n_distractors=100)
    rows = value["distractors"]
    assert [row["n"] for row in rows] == [0, 1, 10, 100]
    assert [row["frames"] - rows[0]["frames"] for row in rows] == [0, 1, 10, 100]
    assert {"groups": _timeless(rows[0])} == {"groups": _timeless(finished.value)}
    # Without any, the answers stand as they are.
    assert len(asked) == 3 * len(finished.material.clips)
    assert not (copy / "store-with-distractors").exists()
    programs = {record.program_id for record in open_catalog(copy / "store").programs()}
    assert not any(name.startswith("distractor") for name in programs)
    assert json.loads((copy / "figures.json").read_text())["distractors"] == rows

    encoder = ThumbnailEncoder()
    again = _run(material, copy, n_distractors=100, encoder=encoder)
    assert encoder.n_encoded == 0
    assert again["distractors"] == rows


@pytest.mark.usefixtures("small_blocks")
def test_more_distractors_begin_with_the_same_ones(finished: Finished, tmp_path: Path) -> None:
    few = strangers.distractor_blocks(PLAN, tmp_path, ThumbnailEncoder(), 50)
    many = strangers.distractor_blocks(PLAN, tmp_path, ThumbnailEncoder(), 90)
    assert [len(block) for block in few] == [40, 10]
    assert [len(block) for block in many] == [40, 40, 10]
    assert np.array_equal(np.concatenate(few), np.concatenate(many)[:50])
    lengths = np.linalg.norm(np.concatenate(many).astype(np.float32), axis=1)
    assert np.allclose(lengths, 1, atol=2e-3)
    assert not np.array_equal(many[0], many[1])


def test_sizes_by_hand() -> None:
    assert strangers.sizes(100_000) == [0, 1000, 10_000, 100_000]
    assert strangers.sizes(10) == [0, 1, 10]
    assert strangers.sizes(0) == [0]


@pytest.mark.usefixtures("small_blocks")
def test_distractors_show_films_of_outside_only_and_never_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        write(tmp_path / f"{n}.mp4", map(moving, range(20)), rate=5, time_base=Fraction(1, 5)) for n in "ab"
    ]
    found = [
        Source(path.stem, path.stem, path, 4.0, "films", path.stem, path.stem, is_known=path.stem == "a")
        for path in paths
    ]
    read: list[Path] = []
    real = strangers.read_frames

    def reading(path: Path, *words: Any, **named: Any) -> Iterator[Any]:
        read.append(path)
        return real(path, *words, **named)

    monkeypatch.setattr(strangers, "read_frames", reading)
    pictures = strangers.distractor_pictures(PLAN, found, 0)
    assert len(pictures) == 40
    assert set(read) == {paths[1]}
    encoder = ThumbnailEncoder()
    shown = encoder.encode(np.stack([_thumbnail(image) for image in pictures]))
    plain = encoder.encode(np.stack([_thumbnail(moving(n)) for n in range(20)]))
    assert (shown @ plain.T).max() < 0.99


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((32, 32)))


# --- An operator's own clips ---


@pytest.mark.usefixtures("light_report")
def test_own_clips_give_the_figures_of_the_benchmark_and_leave_the_store_alone(
    finished: Finished, copy: Path, tmp_path: Path
) -> None:
    store, before = copy / "store", files_below(copy / "store")
    value = run_link_truth(
        finished.out / "truth.csv", finished.material.clips_manifest, store, tmp_path / "own", SETTINGS,
        ThumbnailEncoder(),
    )  # fmt: skip
    assert files_below(store) == before
    own, all_ = value["groups"]["all"], finished.value["groups"]["all"]
    for name in ("top1", "micro_ap", "segment_ap", "unknown_linked", "calibration"):
        assert own[name] == all_[name]
    assert set(value["groups"]) == {"all", "clips"}
    assert (tmp_path / "own" / "report.html").exists()
    assert not (tmp_path / "own" / "store").exists()


def test_own_clips_with_a_truth_are_known() -> None:
    def row(clip: str, program: str) -> TruthRow:
        return TruthRow(clip, program, f"{program}-e1", 0, 2, 5, 7)

    rows = [row("a", "p"), row("b", "p"), row("b", "q")]
    infos = own_clips(rows, ["a", "b", "c"], {"p", "q"})
    assert [(i.clip_id, i.is_known, i.level) for i in infos] == [
        ("a", True, "none"), ("b", True, "montage"), ("c", False, "none")
    ]  # fmt: skip
    with pytest.raises(InputError, match="names the clip b"):
        own_clips(rows, ["a"], {"p", "q"})
    with pytest.raises(InputError, match="is of q, which is not in the store"):
        own_clips(rows, ["a", "b"], {"p"})
    with pytest.raises(InputError, match="a comes twice"):
        own_clips([], ["a", "a"], set())


# --- Pictures of failures ---


def _tile(strip: Image.Image, row: int, column: int) -> NDArray[np.float32]:
    left = GAP + column * (TILE_WIDTH + GAP)
    top = row * (CAPTION_HEIGHT + TILE_HEIGHT + GAP) + CAPTION_HEIGHT
    return np.asarray(strip.crop((left, top, left + TILE_WIDTH, top + TILE_HEIGHT)), np.float32)


def _is_empty(strip: Image.Image, row: int, column: int) -> bool:
    return bool(_tile(strip, row, column).std(axis=(0, 1)).max() == 0)


def test_a_strip_shows_the_right_program_at_the_moments_of_the_clip(tmp_path: Path) -> None:
    """The clip is seconds 2 to 5 of the asset, so the tiles below it are the same pictures; played
    backwards the outer ones change places; the answer names another place, whose pictures differ."""

    def film(name: str, first: int, count: int) -> Path:
        images = (_shade(n) for n in range(first, first + count))
        return write(tmp_path / name, images, rate=10, time_base=Fraction(1, 10), gop=10)

    clip, asset = film("c.mp4", 20, 30), film("p.mp4", 0, 60)
    truth = TruthRow("c", "p", "e1", 0, 3, 2, 5)
    segment = {
        "clip_start_seconds": 0.0, "clip_end_seconds": 1.2, "asset_id": "e1", "asset_start_seconds": 3.5,
        "asset_end_seconds": 4.7, "similarity": 0.9,
    }  # fmt: skip
    answer = {
        "candidates": [{"program_id": "p", "confidence": 0.7}],
        "links": [],
        "review": [{"program_id": "p", "confidence": 0.7, "segments": [segment]}],
    }
    pictures = FailurePictures({"c": clip}, {("p", "e1"): asset}, {"c": [truth]}, {"c": answer})
    strip = _opened(pictures("c"))
    for column in range(len(MOMENTS)):
        assert np.abs(_tile(strip, 0, column) - _tile(strip, 2, column)).mean() < 4
    assert np.abs(_tile(strip, 0, 0) - _tile(strip, 1, 0)).mean() > 10
    # What the answer says covers the first moment only.
    assert [_is_empty(strip, 1, column) for column in range(3)] == [False, True, True]

    backwards = replace(pictures, truth={"c": [replace(truth, is_reversed=True)]})
    strip = _opened(backwards("c"))
    assert np.abs(_tile(strip, 0, 0) - _tile(strip, 2, 2)).mean() < 4
    assert np.abs(_tile(strip, 0, 0) - _tile(strip, 2, 0)).mean() > 10


def _shade(number: int) -> NDArray[np.uint8]:
    """A grey that grows with time, with an edge so that no codec smooths it away."""
    image = np.full((TILE_HEIGHT, TILE_WIDTH, 3), 20 + 3 * number, np.uint8)
    image[:, : TILE_WIDTH // 2] = 10
    return image


def _opened(png: bytes | None) -> Image.Image:
    assert png is not None
    assert len(png) < 100_000
    return Image.open(io.BytesIO(png)).convert("RGB")


def test_a_guess_that_was_not_aligned_is_shown_from_all_over(tmp_path: Path) -> None:
    clip = write(tmp_path / "c.mp4", map(_shade, range(20)), rate=10, time_base=Fraction(1, 10))
    other = write(tmp_path / "p.mp4", map(_shade, range(40)), rate=10, time_base=Fraction(1, 10))
    answer = {"candidates": [{"program_id": "p", "confidence": 0.1}], "links": [], "review": []}
    strip = _opened(FailurePictures({"c": clip}, {("p", "e"): other}, {}, {"c": answer})("c"))
    assert not any(_is_empty(strip, 1, column) for column in range(3))
    assert all(_is_empty(strip, 2, column) for column in range(3))


def test_what_cannot_be_shown_gives_no_picture_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    clip = write(tmp_path / "c.mp4", map(_shade, range(20)), rate=10, time_base=Fraction(1, 10))
    pictures = FailurePictures({"b": tmp_path / "broken.mp4", "c": clip}, {}, {}, {})
    assert pictures("b") is None
    assert pictures("unheard of") is None
    gone = FailurePictures(
        {"c": clip}, {("p", "e"): tmp_path / "gone.mp4"}, {"c": [TruthRow("c", "p", "e", 0, 2, 0, 2)]}, {}
    )
    assert _is_empty(_opened(gone("c")), 1, 1)


def test_a_stretch_ends_where_it_ends() -> None:
    stretch = Stretch(1.0, 3.0, Path("p"), 10.0, 14.0)
    assert [stretch.asset_time(t) for t in (0.9, 1.0, 2.0, 3.0)] == [None, 10.0, 12.0, None]
    assert replace(stretch, is_reversed=True).asset_time(1.5) == 13.0


# --- Words ---


def test_the_plan_is_that_of_the_words_else_that_of_the_material(finished: Finished, tmp_path: Path) -> None:
    none: dict[str, Any] = {"films": None, "seed": None, "n_dramas": None, "n_unknown": None}
    assert chosen_plan(finished.material.folder, **none, is_quick=False) == PLAN
    with pytest.raises(InputError, match="nothing to make"):
        chosen_plan(tmp_path, **none, is_quick=False)
    assert chosen_plan(tmp_path, **none, is_quick=True) == BenchmarkPlan.quick()
    films = chosen_plan(tmp_path, **{**none, "films": tmp_path, "seed": 0, "n_unknown": 0}, is_quick=False)
    assert films == BenchmarkPlan(films=tmp_path.resolve(), seed=0, n_unknown=0)
    many = chosen_plan(tmp_path, **{**none, "n_dramas": 30}, is_quick=True)
    assert many == replace(BenchmarkPlan.quick(), n_dramas=30)


@pytest.fixture
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_encoder_of", lambda _: ThumbnailEncoder())


@pytest.mark.usefixtures("thumbnails", "light_report")
def test_the_command_prints_one_object_or_a_table(
    finished: Finished, copy: Path, matcher: Run, tmp_path: Path
) -> None:
    words = ["eval", "link", "--material", finished.material.folder, "--out", copy]
    ran = matcher(*words, "--json")
    assert ran.code == 0, ran.err
    assert ran.object["groups"] == finished.value["groups"]
    assert ran.lines[-1].startswith(f"answered {len(finished.material.clips)}, failed 0 in ")
    ran = matcher(*words)
    assert ran.code == 0
    assert "dramas" in ran.out
    own = ["--truth", finished.out / "truth.csv", "--clips", finished.material.clips_manifest]
    ran = matcher("eval", "link", *own, "--store", copy / "store", "--out", tmp_path / "own", "--json")
    assert ran.code == 0, ran.err
    assert ran.object["groups"]["all"]["top1"] == finished.value["groups"]["all"]["top1"]


@pytest.mark.usefixtures("thumbnails")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--truth", "t.csv"], "belong together"),
        (["--clips", "c.csv"], "belong together"),
        (["--truth", "t.csv", "--clips", "c.csv", "--quick"], "nothing is made"),
        (["--truth", "t.csv", "--clips", "c.csv", "--seed", "0"], "nothing is made"),
        (["--truth", "t.csv", "--clips", "c.csv"], "cannot read the truth"),
        ([], "nothing to make"),
        (["--dramas", "1"], "at least 2 dramas"),
        (["--films", "no-such-folder"], "cannot read the folder of films"),
    ],
)
def test_words_that_make_no_sense_are_one_line_and_exit_2(
    matcher: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    ran = matcher("eval", "link", "--out", tmp_path / "out", *words)
    assert ran.code == 2
    assert message in ran.lines[-1]


def test_help_shows_an_example(matcher: Run) -> None:
    ran = matcher("eval", "link", "--help")
    assert ran.code == 0
    assert "matcher eval link --films films --out" in " ".join(ran.out.split())
    assert "link" in matcher("eval", "--help").out


@pytest.mark.usefixtures("thumbnails")
def test_a_run_with_failed_clips_exits_4(monkeypatch: pytest.MonkeyPatch, matcher: Run, finished: Finished,
                                         tmp_path: Path) -> None:  # fmt: skip
    value = json.loads(json.dumps(finished.value))
    value["groups"]["all"]["counts"]["failed"] = 1
    monkeypatch.setattr(module, "run_link_benchmark", lambda *_, **__: value)
    assert matcher("eval", "link", "--quick", "--out", tmp_path).code == 4


def test_figures_that_are_not_defined_leave_their_cell_empty(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(json.dumps(finished.value))
    for group in value["groups"].values():
        group["micro_ap"] = group["seconds"] = None
        group["top1"] = {"right": 0, "of": 0, "share": None, "low": None, "high": None}
    show_figures(value, as_json=False, seconds=1.0)
    assert "dramas" in capsys.readouterr().out
