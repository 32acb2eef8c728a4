"""Adding, answering and keeping, with an encoder made for the test: the order of the stages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import media
import numpy as np
import pytest
from numpy.typing import NDArray

from index.catalog import Catalog, Writer
from index.live import LiveIndex
from index.rows import LinkRecord, StoredClip
from matcher import pipeline
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration
from matcher.changes import link_record
from matcher.config import DecisionSettings, Settings
from matcher.decision import Weights
from matcher.encoders.base import ModelInfo, unit_rows
from matcher.errors import StoreError
from matcher.inputs import AssetJob, ClipJob, ProgramJob, Refused
from matcher.linking import Linker
from matcher.pipeline import (
    KEEP_BATCH,
    add_programs,
    descriptors_of,
    keep,
    query_clips,
)
from matcher.records import Answer
from matcher.relink import relink_shard
from matcher.second_look import PROBES
from matcher.store import create_catalog, open_linker, open_live

SETTINGS = Settings()
ONE_LOOK = Settings(decision=DecisionSettings(second_look=False))
#: Of the form that a fit gives, for descriptors as coarse as the mosaic's.
CALIBRATION = Calibration(
    Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5, 0.0), -6.8),
    0.95, 0.3, Background.empty(192, least=0.7),
    model="00112233",
)  # fmt: skip


class Mosaic:
    """Describes a picture by an 8 × 8 × 3 mosaic of it."""

    info = ModelInfo("mosaic", "00112233", 192)
    input_side = 64
    batch_size = 4
    engine = "numpy"

    def __init__(self) -> None:
        self.n_encoded = 0

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n_encoded += len(images)
        cells = images.reshape(-1, 8, 8, 8, 8, 3).astype(np.float32).mean(axis=(2, 4)).reshape(-1, 192)
        return unit_rows(cells - cells.mean(axis=1, keepdims=True))


def show(number: int, n: int = 12) -> Iterator[NDArray[np.uint8]]:
    """A film of coarse cells that slowly turn from one pattern into another; no two films are alike."""
    ends = np.random.default_rng(number).normal(size=(2, 4, 6, 3))
    for angle in np.linspace(0, np.pi / 2, n):
        cells = 128 + 45 * (np.cos(angle) * ends[0] + np.sin(angle) * ends[1])
        yield np.kron(cells.clip(0, 255), np.ones((16, 16, 1))).astype(np.uint8)


def write_show(path: Path, pictures: Iterator[NDArray[np.uint8]]) -> Path:
    """Two pictures a second, nearly."""
    return media.write(path, pictures, pts=[12 * i for i in range(12)])


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short films, a blank one, and one that is none."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(4):
        write_show(folder / f"f{number}.mp4", show(number))
    media.write(folder / "blank.mp4", [media.flat(90)] * 3)
    (folder / "bad.mp4").write_text("no film")
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return create_catalog(tmp_path / "store", Mosaic.info)


def relinked(writer: Writer, linker: Linker, *, top: int) -> list[tuple[Answer, LinkRecord | None]]:
    """Every kept clip answered again, with the link that it had."""
    ids = list(writer.catalog.clip_dates())
    before = writer.catalog.whole_links(ids)
    answers = relink_shard(writer.catalog, linker, ids, {}, top=top)
    return [(answer, before.get(answer.clip_id)) for answer, _ in answers]


def _program(program_id: str, *paths: Path) -> ProgramJob:
    return ProgramJob(program_id, tuple(AssetJob(path, path.stem) for path in paths))


def _add(catalog: Catalog, *jobs: ProgramJob) -> list[pipeline.Added]:
    with catalog.writing() as writer:
        return list(add_programs(writer, jobs, Mosaic(), SETTINGS))


def _linker(catalog: Catalog, settings: Settings = SETTINGS) -> Linker:
    live: LiveIndex = open_live(catalog, SETTINGS.index)
    return Linker(live, settings, CALIBRATION)


def test_one_result_a_program_in_order_whatever_becomes_of_it(catalog: Catalog, films: Path) -> None:
    """A bad file in the middle of a program must not shift the files of the next."""
    f0, f1, f2, f3 = (films / f"f{i}.mp4" for i in range(4))
    jobs = [
        _program("a", f0, f1),
        _program("b", f2, films / "bad.mp4", f3),
        _program("c", films / "blank.mp4", f0),
        _program("d", f2),
        _program("e", films / "missing.mp4"),
    ]
    results = _add(catalog, *jobs)
    assert [(r.program_id, r.outcome) for r in results] == [
        ("a", "added"), ("b", "failed"), ("c", "failed"), ("d", "added"), ("e", "failed"),
    ]  # fmt: skip
    assert "bad.mp4" in results[1].message
    assert "blank" in results[2].message
    assert [p.program_id for p in catalog.programs()] == ["a", "d"]
    assert {(asset.program_id, asset.asset_id) for asset in catalog.assets()} == {
        ("a", "f0"),
        ("a", "f1"),
        ("d", "f2"),
    }
    catalog.refresh()
    assert set(catalog.frame_counts()) == {record.number for record in catalog.programs()}

    again = _add(catalog, *jobs)
    assert [r.outcome for r in again] == ["unchanged", "failed", "failed", "unchanged", "failed"]


def test_a_replaced_program_has_the_new_frames_only(catalog: Catalog, films: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    shutil.copy(films / "f0.mp4", film)
    assert _add(catalog, _program("p", film))[0].outcome == "added"
    old = catalog.frames_of(catalog.programs()[0].number)
    shutil.copy(films / "f1.mp4", film)
    assert _add(catalog, _program("p", film))[0].outcome == "replaced"
    catalog.refresh()
    (record,) = catalog.programs()
    new = catalog.frames_of(record.number)
    assert len(new.ids) == record.frame_count
    assert not np.array_equal(old.vectors, new.vectors)


def test_a_failed_replacement_leaves_the_program_as_it_was(catalog: Catalog, films: Path) -> None:
    _add(catalog, _program("p", films / "f0.mp4"))
    before = catalog.programs()
    assert _add(catalog, _program("p", films / "f1.mp4", films / "bad.mp4"))[0].outcome == "failed"
    catalog.refresh()
    assert catalog.programs() == before
    assert len(catalog.frames_of(before[0].number).ids) == before[0].frame_count


def test_answers_come_in_order_with_refused_and_bad_ones_in_their_places(
    catalog: Catalog, films: Path
) -> None:
    _add(catalog, *(_program(f"p{i}", films / f"f{i}.mp4") for i in range(4)))
    jobs: list[ClipJob | Refused] = [
        Refused("x", "row 2: no file", "x.mp4"),
        ClipJob("c1", films / "f1.mp4"),
        ClipJob("c2", films / "bad.mp4"),
        ClipJob("c3", films / "blank.mp4"),
        ClipJob("c4", films / "f3.mp4"),
    ]
    pairs = list(query_clips(_linker(catalog), jobs, Mosaic(), SETTINGS, top=2))
    assert [answer.clip_id for answer, _ in pairs] == ["x", "c1", "c2", "c3", "c4"]
    assert [answer.error is None for answer, _ in pairs] == [False, True, False, True, True]
    assert [stored is None for _, stored in pairs] == [True, False, True, False, False]
    assert pairs[0][0].error is not None
    assert (pairs[0][0].path, pairs[0][0].error.message) == ("x.mp4", "row 2: no file")
    assert pairs[1][0].candidates[0].program_id == "p1"
    assert pairs[4][0].candidates[0].program_id == "p3"
    assert (pairs[3][0].decision, pairs[3][0].candidates) == ("none", ())


def test_kept_clips_are_not_described_again_and_answered_alike(
    catalog: Catalog, films: Path, tmp_path: Path
) -> None:
    _add(catalog, *(_program(f"p{i}", films / f"f{i}.mp4") for i in range(4)))
    clip = Path(shutil.copy(films / "f2.mp4", tmp_path / "clip.mp4"))
    jobs = [ClipJob("a", clip), ClipJob("b", films / "f1.mp4")]
    with catalog.writing() as writer:
        first = list(
            keep(writer, query_clips(_linker(catalog), jobs, Mosaic(), SETTINGS, top=3, kept=catalog))
        )
    shutil.copy(films / "f0.mp4", clip)
    encoder = Mosaic()
    with catalog.writing() as writer:
        again = list(
            keep(writer, query_clips(_linker(catalog), jobs, encoder, SETTINGS, top=3, kept=catalog))
        )
    assert again[1] == first[1]
    assert again[0].candidates[0].program_id == "p0"
    changed = catalog.clip("a")
    assert changed is not None
    assert encoder.n_encoded == len(changed.t_seconds)


def test_a_relink_of_an_unchanged_catalogue_changes_nothing_at_all(catalog: Catalog, films: Path) -> None:
    """To the last digit: what was kept are the numbers that the first answer was made from."""
    _add(catalog, *(_program(f"p{i}", films / f"f{i}.mp4") for i in range(4)))
    jobs = [ClipJob(f"c{i}", films / f"f{i}.mp4", "T") for i in range(4)]
    with catalog.writing() as writer:
        first = list(keep(writer, query_clips(_linker(catalog), jobs, Mosaic(), SETTINGS, top=3)))
    with catalog.writing() as writer:
        pairs = list(relinked(writer, _linker(catalog), top=3))
    assert sorted((answer for answer, _ in pairs), key=lambda a: a.clip_id) == first
    for answer, before in pairs:
        assert before is not None
        assert before.answer == link_record(answer).answer


# ---------------------------------------------------------------- the second look


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second film with left and right changed, and an unknown one."""
    folder = tmp_path_factory.mktemp("clips")
    write_show(folder / "mirrored.mp4", (picture[:, ::-1] for picture in show(1)))
    write_show(folder / "unknown.mp4", show(9))
    return folder


def _four_films(catalog: Catalog, films: Path) -> None:
    _add(catalog, *(_program(f"p{i}", films / f"f{i}.mp4") for i in range(4)))


def _ask(catalog: Catalog, path: Path, settings: Settings = SETTINGS) -> tuple[Answer, StoredClip, Mosaic]:
    encoder = Mosaic()
    ((answer, stored),) = query_clips(
        _linker(catalog, settings), [ClipJob("c", path)], encoder, settings, top=3
    )
    assert stored is not None
    return answer, stored, encoder


def test_a_clip_that_the_first_look_links_is_looked_at_once(catalog: Catalog, films: Path) -> None:
    _four_films(catalog, films)
    answer, stored, encoder = _ask(catalog, films / "f1.mp4")
    assert (answer.decision, answer.program_id, answer.looks) == ("linked", "p1", 1)
    assert stored.further == ()
    assert encoder.n_encoded == len(stored.t_seconds)


def test_a_mirrored_clip_is_linked_by_the_second_look_alone(
    catalog: Catalog, films: Path, mirrored: Path
) -> None:
    _four_films(catalog, films)
    path = mirrored / "mirrored.mp4"
    once, without, _ = _ask(catalog, path, ONE_LOOK)
    assert (once.decision == "linked", once.looks, without.further) == (False, 1, ())
    answer, stored, encoder = _ask(catalog, path)
    assert (answer.decision, answer.program_id) == ("linked", "p1")
    (segment,) = answer.links[0].segments
    assert segment.view == "mirror"
    looks = {name: len(t_seconds) for name, t_seconds, _ in stored.further}
    assert answer.looks == 1 + len(looks)
    np.testing.assert_array_equal(stored.t_seconds, without.t_seconds)
    np.testing.assert_array_equal(stored.vectors, without.vectors)
    # A few frames through each view made it sure, and no more are looked at.
    assert set(looks.values()) == {PROBES}
    assert encoder.n_encoded == len(stored.t_seconds) + sum(looks.values())


def test_what_a_few_frames_leave_unsure_is_looked_at_in_all_of_them(
    catalog: Catalog, films: Path, mirrored: Path
) -> None:
    """Here the bar is one that hardly anything reaches."""
    _four_films(catalog, films)
    path = mirrored / "mirrored.mp4"
    few, _, tried = _ask(catalog, path)
    answer, stored, encoder = _ask(catalog, path, Settings(decision=DecisionSettings(link=0.9999999)))
    looks = {name: len(t_seconds) for name, t_seconds, _ in stored.further}
    assert looks["mirror"] == len(stored.t_seconds) > PROBES
    assert answer.looks == 1 + len(looks)
    assert encoder.n_encoded > tried.n_encoded
    assert answer.candidates[0].program_id == "p1"
    assert answer.candidates[0].log_odds > few.candidates[0].log_odds


def test_an_unknown_clip_is_tried_through_every_view_and_kept_with_its_probes(
    catalog: Catalog, films: Path, mirrored: Path
) -> None:
    _add(catalog, _program("p0", films / "f0.mp4"))
    answer, stored, _ = _ask(catalog, mirrored / "mirrored.mp4")
    assert answer.decision != "linked"
    assert len(stored.further) > 1
    assert all(len(t_seconds) <= PROBES for _, t_seconds, _ in stored.further)


def test_kept_clips_with_further_looks_are_relinked_to_the_last_digit(
    catalog: Catalog, films: Path, mirrored: Path
) -> None:
    _four_films(catalog, films)
    jobs = [ClipJob(name, mirrored / f"{name}.mp4", "T") for name in ("mirrored", "unknown")]
    with catalog.writing() as writer:
        first = list(keep(writer, query_clips(_linker(catalog), jobs, Mosaic(), SETTINGS, top=3)))
    assert first[0].looks > 1
    with catalog.writing() as writer:
        pairs = list(relinked(writer, _linker(catalog), top=3))
    assert sorted((answer for answer, _ in pairs), key=lambda a: a.clip_id) == first
    encoder = Mosaic()
    again = list(query_clips(_linker(catalog), jobs, encoder, SETTINGS, top=3, kept=catalog))
    assert [answer for answer, _ in again] == first
    assert encoder.n_encoded == 0


def test_a_relink_finds_what_came_since_through_the_looks_that_were_kept(
    catalog: Catalog, films: Path, mirrored: Path
) -> None:
    """The probes of a clip that nothing resembled then are enough to name its program now."""
    _add(catalog, _program("p0", films / "f0.mp4"))
    jobs = [ClipJob("c", mirrored / "mirrored.mp4")]
    with catalog.writing() as writer:
        list(keep(writer, query_clips(_linker(catalog), jobs, Mosaic(), SETTINGS, top=3)))
    _add(catalog, _program("p1", films / "f1.mp4"))
    with catalog.writing() as writer:
        ((answer, before),) = relinked(writer, _linker(catalog), top=3)
    assert before is not None
    assert before.decision != "linked"
    assert answer.candidates[0].program_id == "p1"


def test_kept_clips_are_descriptors_again(catalog: Catalog, films: Path, mirrored: Path) -> None:
    _four_films(catalog, films)
    _, stored, _ = _ask(catalog, mirrored / "mirrored.mp4")
    clip = descriptors_of(stored)
    assert (clip.duration_seconds, clip.frames_seen) == (
        stored.record.duration_seconds,
        stored.record.frames_seen,
    )
    assert [look.view for look in clip.further] == [name for name, _, _ in stored.further]
    for look, (_, t_seconds, vectors) in zip(clip.further, stored.further, strict=True):
        np.testing.assert_array_equal(look.t_seconds, t_seconds)
        np.testing.assert_array_equal(look.vectors, vectors)
        np.testing.assert_array_equal(vectors, vectors.astype(np.float16).astype(np.float32))


def test_a_linker_is_opened_with_the_calibration_of_its_store(catalog: Catalog, films: Path) -> None:
    _four_films(catalog, films)
    path = Path(catalog.path) / FILE_NAME
    jobs = [ClipJob("c", films / "f1.mp4")]
    answers = {}
    for bias in (-11.5, -100.0):
        replace(CALIBRATION, weights=replace(CALIBRATION.weights, bias=bias)).save(path)
        linker = open_linker(catalog, SETTINGS, open_live(catalog, SETTINGS.index))
        ((answers[bias], _),) = query_clips(linker, jobs, Mosaic(), SETTINGS, top=3)
    assert [answer.decision for answer in answers.values()] == ["linked", "none"]
    replace(CALIBRATION, model="of another").save(path)
    with pytest.raises(StoreError, match="matcher calibrate"):
        open_linker(catalog, SETTINGS)


# ---------------------------------------------------------------- keeping


def _pairs(n: int, catalog: Catalog) -> Iterator[tuple[Answer, StoredClip | None]]:
    for i in range(n):
        answer = Answer(f"c{i:03d}", "c.mp4", "none", (), (), Mosaic.info.fingerprint, 1)
        if i == 1:
            yield answer, None
            continue
        record = pipeline.ClipRecord(answer.clip_id, "c.mp4", "", 1.0, 1, Mosaic.info.fingerprint, "mark")
        yield answer, StoredClip(record, np.zeros(1), np.ones((1, 192), np.float32))


@pytest.mark.parametrize("n", [0, 1, 2, KEEP_BATCH, KEEP_BATCH + 1, 2 * KEEP_BATCH + 5])
def test_all_answers_are_passed_on_and_those_with_descriptors_kept(catalog: Catalog, n: int) -> None:
    with catalog.writing() as writer:
        answers = list(keep(writer, _pairs(n, catalog)))
    assert [answer.clip_id for answer in answers] == [f"c{i:03d}" for i in range(n)]
    catalog.refresh()
    kept = [f"c{i:03d}" for i in range(n) if i != 1]
    assert [clip.clip_id for clip in catalog.clips()] == kept
    assert [link.clip_id for link in catalog.links()] == kept


def test_what_was_passed_on_is_kept_when_the_caller_stops_or_the_next_clip_fails(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        answers = keep(writer, _pairs(10, catalog))
        for _ in range(5):
            next(answers)
        answers.close()
    catalog.refresh()
    assert len(catalog.clips()) == 4

    def failing() -> Iterator[tuple[Answer, StoredClip | None]]:
        yield from _pairs(8, catalog)
        raise RuntimeError("the encoder fell over")

    with catalog.writing() as writer, pytest.raises(RuntimeError, match="fell over"):
        list(keep(writer, failing()))
    catalog.refresh()
    assert len(catalog.links()) == 7
