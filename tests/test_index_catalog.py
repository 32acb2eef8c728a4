"""The catalog: what is visible when, who may write, and what a kill leaves."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from index import catalog as catalog_module
from index.catalog import (
    AssetRecord,
    Catalog,
    ClipRecord,
    LinkRecord,
    ModelInfo,
    NewAsset,
    NewProgram,
    ProgramRecord,
    ReviewRecord,
    StoredClip,
)
from index.errors import CatalogError, CatalogLockedError, ModelMismatchError
from index.live import LiveIndex
from index.rows import id_range

D, DS = 8, 5
MODEL = ModelInfo("fp-1", "embedded", D, {"size": 224})
SOUND = ModelInfo("fp-s", "listener", DS, {"rate": 16000})
ODD_IDS = ["it's", 'say "x"', "第一集\n下", "a' OR '1'='1", "100%_\\", "--;DROP"]


def vectors_of(seed: int, n: int, d: int = D) -> np.ndarray:
    """Vectors that float16 holds as they are."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float16).astype(np.float32)


def asset_of(asset_id: str, seed: int = 0, n: int = 5) -> NewAsset:
    return NewAsset(
        asset_id, f"/videos/{asset_id}.mp4", "T", n + 0.5, np.arange(n) * 1.0, vectors_of(seed, n)
    )


def sounding(asset: NewAsset, m: int, seed: int = 50) -> NewAsset:
    """The asset with m sounds."""
    return replace(asset, sound=(np.arange(m) * 2.5 + 0.25, vectors_of(seed, m, DS)))


def clip_of(clip_id: str, n: int = 3) -> StoredClip:
    record = ClipRecord(clip_id, f"/clips/{clip_id}", "title", n + 0.5, n + 1, MODEL.fingerprint, "src")
    return StoredClip(record, np.arange(n) * 0.5, vectors_of(len(clip_id), n))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    Catalog.create(tmp_path / "store", MODEL)
    return tmp_path / "store"


@pytest.fixture
def catalog(store: Path) -> Catalog:
    return Catalog.open(store)


@pytest.fixture
def heard(catalog: Catalog) -> Catalog:
    """A store that holds sounds."""
    with catalog.writing() as writer:
        writer.use_sound(SOUND)
    return catalog


def counts_of(catalog: Catalog) -> tuple[dict[int, int], dict[int, int]]:
    """Rows of frames and of sounds by number."""
    return catalog.frame_counts(), catalog.frame_counts("sounds")


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---------------------------------------------------------------- programs


def test_a_program_reads_back_as_it_was_added(catalog: Catalog) -> None:
    """Every field, frame, time and vector; ids are number << 24 and up, through the assets in order."""
    program = NewProgram("p1", "庆余年", ("Joy of Life", "JOL"), ("drama/costume/court",), "files-v1")
    assets = [asset_of("e1", 1, 4), asset_of("blank", 2, 0), asset_of("e2", 3, 6)]
    with catalog.writing() as writer:
        row = writer.add_program(program, assets)
    assert catalog.programs() == [row]
    assert catalog.program("p1") == row
    assert (row.title, row.aliases, row.categories) == (program.title, program.aliases, program.categories)
    assert (row.state, row.source_fingerprint) == ("live", "files-v1")
    assert (row.asset_count, row.frame_count) == (3, 10)
    records = catalog.assets()
    assert [(r.asset_id, r.ordinal, r.frame_count) for r in records] == [
        ("e1", 0, 4),
        ("blank", 1, 0),
        ("e2", 2, 6),
    ]
    assert records[0] == AssetRecord("p1", row.number, "e1", "/videos/e1.mp4", "T", 4.5, 4, 0)
    frames = catalog.frames_of(row.number)
    np.testing.assert_array_equal(frames.ids, np.arange(10) + id_range(row.number)[0])
    np.testing.assert_array_equal(frames.t_seconds, np.concatenate([a.t_seconds for a in assets]))
    np.testing.assert_array_equal(frames.vectors, np.concatenate([a.vectors for a in assets]))
    assert frames.vectors.dtype == np.float32
    assert frames.asset_ids == ["e1"] * 4 + ["e2"] * 6
    assert catalog.frames_of(row.number + 1).vectors.shape == (0, D)
    assert catalog.counts() == {
        "programs": 1,
        "assets": 3,
        "frames": 10,
        "sounds": 0,
        "embeddings": 0,
        "clips": 0,
        "links": 0,
        "reviews": 0,
    }


def test_replacing_takes_a_new_number_and_leaves_nothing_of_the_old(catalog: Catalog) -> None:
    """One row per program; the old generation's frames and assets are gone."""
    with catalog.writing() as writer:
        old = writer.add_program(NewProgram("p"), [asset_of("a"), asset_of("b")])
        writer.add_program(NewProgram("q"), [asset_of("a")])
        new = writer.add_program(NewProgram("p", "again"), [asset_of("c", n=2)])
    assert new.number > old.number
    assert [record.program_id for record in catalog.programs()] == ["q", "p"]
    assert [record.asset_id for record in catalog.assets("p")] == ["c"]
    assert catalog.frame_counts() == {2: 5, new.number: 2}


def test_numbers_are_never_given_again(catalog: Catalog) -> None:
    """Not after removing the highest, nor after removing it and coming back."""
    with catalog.writing() as writer:
        for name in ("a", "b"):
            writer.add_program(NewProgram(name), [asset_of("x")])
        assert writer.remove_programs(["b", "nobody", "a"]) == ["a", "b"]
        assert writer.remove_programs(["b"]) == []
    assert catalog.programs() == []
    assert [(r.program_id, r.state, r.frame_count) for r in catalog.programs(removed=True)] == [
        ("a", "removed", 0),
        ("b", "removed", 0),
    ]
    assert catalog.program("a") is None
    assert catalog.frame_counts() == {}
    with catalog.writing() as writer:
        assert writer.add_program(NewProgram("b"), [asset_of("x")]).number == 3


def test_many_programs_are_one_visible_change(heard: Catalog) -> None:
    with heard.writing() as writer:
        old = writer.add_program(NewProgram("b"), [asset_of("e1")])
        before = heard.refresh()
        sounds = sounding(asset_of("e2", 3), 4)
        programs = [("a", [asset_of("e1", 1)]), ("b", [asset_of("e1", 2), sounds]), ("c", [])]
        rows = writer.add_programs((NewProgram(name, title=name), assets) for name, assets in programs)
        assert writer.add_programs([]) == []
    assert heard.refresh() == before + 1
    assert heard.programs() == rows
    assert [row.number for row in rows] == [old.number + 1, old.number + 2, old.number + 3]
    assert [(row.frame_count, row.sound_count, row.asset_count) for row in rows] == [
        (5, 0, 1),
        (10, 4, 2),
        (0, 0, 0),
    ]
    assert counts_of(heard) == ({rows[0].number: 5, rows[1].number: 10}, {rows[1].number: 4})
    np.testing.assert_array_equal(
        heard.frames_of(rows[1].number).vectors[5:], sounds.vectors.astype(np.float16).astype(np.float32)
    )


def test_an_error_among_many_programs_changes_nothing(catalog: Catalog) -> None:
    def programs() -> Iterator[tuple[NewProgram, list[NewAsset]]]:
        yield NewProgram("a"), [asset_of("e1")]
        yield NewProgram("b"), [asset_of("e1"), asset_of("e1")]

    with catalog.writing() as writer:
        kept = writer.add_program(NewProgram("a"), [asset_of("e1", 7)])
        with pytest.raises(ValueError, match="comes twice in program 'b'"):
            writer.add_programs(programs())
        with pytest.raises(ValueError, match="program_id 'a' comes twice"):
            writer.add_programs([(NewProgram("a"), [asset_of("e1")])] * 2)
        assert catalog.programs() == [kept]
        assert counts_of(catalog) == ({kept.number: 5}, {})


def test_ids_with_quotes_and_newlines_name_only_themselves(catalog: Catalog) -> None:
    """Ids go into filters as text, whatever they hold."""
    with catalog.writing() as writer:
        for i, odd in enumerate(ODD_IDS):
            writer.add_program(NewProgram(odd), [asset_of(odd, i)])
        writer.put_clips([clip_of(odd) for odd in ODD_IDS])
        writer.put_links([LinkRecord(odd, "none", None, 0.0, 1, "{}") for odd in ODD_IDS])
        for i, odd in enumerate(ODD_IDS):
            assert [asset.asset_id for asset in catalog.assets(odd)] == [odd]
            assert writer.remove_programs([odd]) == [odd]
            assert writer.remove_clips([odd]) == 1
            assert len(catalog.programs()) == len(catalog.clips()) == len(ODD_IDS) - i - 1


def test_version_grows_with_every_change_of_programs_and_with_no_other(catalog: Catalog) -> None:
    seen = [catalog.version()]
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
        seen.append(catalog.version())
        writer.put_clip(clip_of("c"))
        writer.put_review(ReviewRecord("c", "p", "confirmed"))
        writer.put_links([LinkRecord("c", "linked", "p", 0.9, 1, "{}")])
        assert catalog.version() == seen[-1]
        writer.add_program(NewProgram("p"), [asset_of("a")])
        seen.append(catalog.version())
        writer.remove_programs(["p"])
        seen.append(catalog.version())
    assert seen == sorted(set(seen))
    assert Catalog.open(catalog.path).version() == seen[-1]


def test_a_reader_stands_still_until_it_refreshes(store: Path, catalog: Catalog) -> None:
    """And then sees programs, assets and frames of one moment."""
    reader = Catalog.open(store)
    with catalog.writing() as writer:
        row = writer.add_program(NewProgram("p"), [asset_of("a")])
    assert reader.programs() == reader.assets() == []
    assert reader.refresh() == catalog.version()
    assert reader.programs() == [row]
    assert reader.frames_of(row.number).ids.size == 5


def test_many_programs_stream_in_one_pass(catalog: Catalog) -> None:
    """More numbers than a filter takes: the same frames, with and without asset ids."""
    many = catalog_module._MANY_NUMBERS + 3
    with catalog.writing() as writer:
        numbers = [
            writer.add_program(NewProgram(f"p{i}"), [asset_of(f"a{i}", i, 2)]).number for i in range(many)
        ]
    wanted = numbers[1:]
    for chosen in (wanted, wanted[:3]):
        batches = list(catalog.iter_frames(chosen, with_asset_ids=True))
        ids = np.concatenate([batch.ids for batch in batches])
        asset_ids = [asset_id for batch in batches for asset_id in batch.asset_ids or ()]
        assert sorted(zip(ids.tolist(), asset_ids, strict=True)) == [
            (id_range(number)[0] + row, f"a{number - 1}") for number in chosen for row in range(2)
        ]
    assert list(catalog.iter_frames([])) == []
    assert all(batch.asset_ids is None for batch in catalog.iter_frames(wanted))
    with catalog.writing() as writer:
        assert len(writer.remove_programs([f"p{i}" for i in range(many)])) == many
    assert catalog.frame_counts() == {}


def test_a_program_longer_than_a_batch(catalog: Catalog) -> None:
    n = catalog_module._BATCH_ROWS * 2 + 7
    asset = NewAsset("long", "", "", float(n), np.arange(n) * 1.0, vectors_of(1, n))
    with catalog.writing() as writer:
        row = writer.add_program(NewProgram("p"), iter([asset, asset_of("short", 2)]))
    frames = catalog.frames_of(row.number)
    np.testing.assert_array_equal(frames.vectors[:n], asset.vectors)
    np.testing.assert_array_equal(frames.ids, id_range(row.number)[0] + np.arange(n + 5))


class DecodeError(Exception):
    """An error of the caller's own."""


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_error_while_frames_stream_changes_nothing(catalog: Catalog, after: int) -> None:
    """The caller gets its own exception, and neither rows nor numbers are lost."""

    def broken() -> Iterator[NewAsset]:
        for i in range(after):
            yield asset_of(f"a{i}")
        raise DecodeError("no such codec")

    with catalog.writing() as writer:
        before = writer.add_program(NewProgram("p"), [asset_of("a")])
        with pytest.raises(DecodeError, match="no such codec"):
            writer.add_program(NewProgram("p"), broken())
        assert catalog.programs() == [before]
        assert catalog.frame_counts() == {before.number: 5}
        assert writer.add_program(NewProgram("q"), [asset_of("a")]).number == before.number + 1


def test_misfits_are_refused_and_change_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another d, an asset id twice, too many frames."""
    other_d = NewAsset("a", "", "", 1.0, np.zeros(1), vectors_of(0, 1, D + 1))
    with catalog.writing() as writer:
        with pytest.raises(ValueError, match="d = 9"):
            writer.add_program(NewProgram("p"), [other_d])
        with pytest.raises(ValueError, match="comes twice"):
            writer.add_program(NewProgram("p"), [asset_of("a"), asset_of("a")])
        monkeypatch.setattr(catalog_module, "MAX_FRAMES", 6)
        with pytest.raises(ValueError, match="more than 6 frames"):
            writer.add_program(NewProgram("p"), [asset_of("a"), asset_of("b")])
        assert writer.add_program(NewProgram("none"), []).frame_count == 0
    assert catalog.frame_counts() == {}
    assert [record.program_id for record in catalog.programs()] == ["none"]


# ---------------------------------------------------------------- sounds


def assert_sounds(catalog: Catalog, number: int, assets: list[NewAsset]) -> None:
    """The sounds of a number are those of the assets: ids from number << 24 on, times, vectors, assets."""
    sounds = [(asset.asset_id, *asset.sound) for asset in assets if asset.sound is not None]
    got = catalog.frames_of(number, "sounds")
    n = sum(times.size for _, times, _ in sounds)
    np.testing.assert_array_equal(got.ids, id_range(number)[0] + np.arange(n))
    np.testing.assert_array_equal(got.t_seconds, np.concatenate([[], *(times for _, times, _ in sounds)]))
    nothing = np.zeros((0, DS), np.float32)
    np.testing.assert_array_equal(got.vectors, np.concatenate([nothing, *(v for *_, v in sounds)]))
    assert got.vectors.dtype == np.float32
    assert got.asset_ids == [asset_id for asset_id, times, _ in sounds for _ in range(times.size)]


def test_sounds_read_back_as_they_were_added(heard: Catalog) -> None:
    """Beside frames, which stay as they are: some assets with, some without, one with none to hear."""
    mixed = [
        asset_of("mute", 1, 4),
        sounding(asset_of("e1", 2, 3), 2, seed=51),
        sounding(asset_of("silent", 3, 2), 0),
        sounding(asset_of("black", 4, 0), 6, seed=52),
        sounding(asset_of("long", 5, 1), catalog_module._BATCH_ROWS + 3, seed=53),
    ]
    with heard.writing() as writer:
        row = writer.add_program(NewProgram("p"), iter(mixed))
        mute = writer.add_program(NewProgram("q"), [asset_of("a")])
    n = catalog_module._BATCH_ROWS + 11
    assert (row.frame_count, row.sound_count, mute.sound_count) == (10, n, 0)
    for catalog in (heard, Catalog.open(heard.path)):
        assert catalog.sound_model == SOUND
        assert catalog.model == MODEL
        assert catalog.programs() == [row, mute]
        assert [(r.frame_count, r.sound_count) for r in catalog.assets("p")] == [
            (4, 0),
            (3, 2),
            (2, 0),
            (0, 6),
            (1, n - 8),
        ]
        assert_sounds(catalog, row.number, mixed)
        assert_sounds(catalog, mute.number, [])
        np.testing.assert_array_equal(
            catalog.frames_of(row.number).vectors, np.concatenate([asset.vectors for asset in mixed])
        )
        assert counts_of(catalog) == ({1: 10, 2: 5}, {1: n})
        assert (catalog.counts()["frames"], catalog.counts()["sounds"]) == (15, n)
        models = {row["model"] for row in catalog._rows("sounds", "id % 1000 = 0")}
        assert models == {SOUND.fingerprint}


def test_replacing_and_removing_take_the_sounds_along(heard: Catalog) -> None:
    new = [sounding(asset_of("b", n=2), 4, seed=60)]
    with heard.writing() as writer:
        writer.add_program(NewProgram("p"), [sounding(asset_of("a"), 3)])
        writer.add_program(NewProgram("q"), [sounding(asset_of("a"), 2)])
        assert writer.add_program(NewProgram("p"), new).sound_count == 4
        assert counts_of(heard) == ({2: 5, 3: 2}, {2: 2, 3: 4})
        assert_sounds(heard, 3, new)
        writer.remove_programs(["q"])
        assert counts_of(heard) == ({3: 2}, {3: 4})
        assert [(r.program_id, r.sound_count) for r in heard.programs(removed=True)] == [("q", 0), ("p", 4)]
        assert writer.add_program(NewProgram("p"), [asset_of("c")]).sound_count == 0
        assert counts_of(heard) == ({4: 5}, {})
    assert heard.counts()["sounds"] == 0


@pytest.mark.parametrize("kind", ["frames", "sounds"])
def test_an_error_while_a_kind_is_written_changes_nothing(
    heard: Catalog, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that were written before it are deleted; numbers go on."""
    with heard.writing() as writer:
        before = writer.add_program(NewProgram("p"), [sounding(asset_of("a"), 3)])
        append = writer._append_descriptors

        def fail(which: Any, *args: Any) -> None:
            append(which, *args)
            if which == kind:
                raise OSError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(writer, "_append_descriptors", fail)
            with pytest.raises(OSError, match="no space"):
                writer.add_program(NewProgram("p"), [sounding(asset_of("b", n=7), 4)])
        assert heard.programs() == [before]
        assert counts_of(heard) == ({1: 5}, {1: 3})
        assert len(heard._rows("assets")) == 1
        assert writer.add_program(NewProgram("q"), [sounding(asset_of("a"), 1)]).number == 2
    assert counts_of(Catalog.open(heard.path)) == ({1: 5, 2: 5}, {1: 3, 2: 1})


def test_sounds_that_do_not_fit_are_refused_and_change_nothing(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store without sounds, another d, too many."""
    other_d = replace(asset_of("a"), sound=(np.zeros(1), vectors_of(0, 1, DS + 1)))
    with catalog.writing() as writer:
        for m in (3, 0):
            with pytest.raises(ValueError, match="asset a has sound, the store none: call"):
                writer.add_program(NewProgram("p"), [asset_of("b"), sounding(asset_of("a"), m)])
        writer.use_sound(SOUND)
        with pytest.raises(ValueError, match="asset a has sounds of d = 6, the store of d = 5"):
            writer.add_program(NewProgram("p"), [sounding(asset_of("b"), 2), other_d])
        monkeypatch.setattr(catalog_module, "MAX_FRAMES", 6)
        with pytest.raises(ValueError, match="more than 6 sounds"):
            writer.add_program(
                NewProgram("p"), [sounding(asset_of("a", n=1), 4), sounding(asset_of("b", n=1), 3)]
            )
        assert catalog.programs() == []
    assert counts_of(catalog) == ({}, {})


def test_a_store_has_one_model_of_sounds(catalog: Catalog) -> None:
    """The first says which; again is no commit; another is refused with both names."""
    assert catalog.sound_model is None
    assert catalog.frames_of(1, "sounds").ids.size == catalog.counts()["sounds"] == 0
    assert list(catalog.iter_frames([1], kind="sounds")) == []
    with catalog.writing() as writer:
        with pytest.raises(ValueError, match="fingerprint of the frames': fp-1"):
            writer.use_sound(replace(SOUND, fingerprint=MODEL.fingerprint))
        writer.use_sound(SOUND)
        before = files_of(catalog.path / "tables")
        writer.use_sound(SOUND)
        assert files_of(catalog.path / "tables") == before
        for other in (replace(SOUND, fingerprint="fp-t"), replace(SOUND, d=DS + 1)):
            with pytest.raises(ModelMismatchError, match=r"sound descriptors of listener.*another --store"):
                writer.use_sound(other)
    with pytest.raises(ValueError, match="released"):
        writer.use_sound(SOUND)
    assert Catalog.open(catalog.path, model=MODEL).sound_model == SOUND


def test_a_reader_sees_the_first_sounds_at_its_refresh(store: Path, catalog: Catalog) -> None:
    """Opened before there were any; and what was read before the refresh stays so."""
    reader = Catalog.open(store)
    asset = sounding(asset_of("a"), 3)
    with catalog.writing() as writer:
        writer.use_sound(SOUND)
        row = writer.add_program(NewProgram("p"), [asset])
    assert (reader.sound_model, reader.programs()) == (None, [])
    reader.refresh()
    assert (reader.sound_model, reader.programs()) == (SOUND, [row])
    assert_sounds(reader, row.number, [asset])


def test_a_first_use_of_sound_that_was_cut_off_goes_on(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making the table and recording the model: the next may be of another d even."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    reader = Catalog.open(catalog.path)
    with catalog.writing() as writer, monkeypatch.context() as patch:
        patch.setattr(writer, "_append", die)
        with pytest.raises(KeyboardInterrupt):
            writer.use_sound(replace(SOUND, d=DS + 2))
    for seen in (catalog, reader, Catalog.open(catalog.path)):
        seen.refresh()
        assert seen.sound_model is None
        assert counts_of(seen) == ({}, {})
    asset = sounding(asset_of("a"), 3)
    with Catalog.open(catalog.path).writing() as writer:
        writer.add_program(NewProgram("before"), [asset_of("a")])
        writer.use_sound(SOUND)
        number = writer.add_program(NewProgram("p"), [asset]).number
    for seen in (catalog, reader, Catalog.open(catalog.path)):
        seen.refresh()
        assert_sounds(seen, number, [asset])


def test_sounds_that_lost_their_model_or_table_are_not_made_anew(heard: Catalog) -> None:
    """Nobody could tell what made them; and programs that have some must not seem to have none."""
    with heard.writing() as writer:
        writer.add_program(NewProgram("p"), [sounding(asset_of("a"), 3)])
        heard._tables["models"].delete("kind = 'sound'")
    with Catalog.open(heard.path).writing() as writer:
        with pytest.raises(CatalogError, match=r"lost the model of its table sounds.*copy"):
            writer.use_sound(SOUND)
        assert writer.catalog._connection.open_table("sounds").count_rows() == 3
    heard._tables["models"].restore(heard._tables["models"].version - 1)
    (heard.path / "tables" / "sounds.lance").rename(heard.path.parent / "kept")
    reader = Catalog.open(heard.path)
    assert reader.frames_of(1).ids.size == 5
    with pytest.raises(CatalogError, match="lost its table sounds"), reader.writing():
        raise AssertionError("a writer must not be given")


def test_sounds_are_compacted_and_cleaned_like_frames(
    heard: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of an invisible number whose asset rows are lost are found by the thorough cleaning."""
    kept = [sounding(asset_of("a", n=0), 4, seed=70)]
    with heard.writing() as writer:
        for i in range(5):
            writer.add_program(NewProgram(f"p{i}"), [sounding(asset_of("a", n=0), 3)])
        writer.add_program(NewProgram("p1"), kept)
        monkeypatch.setattr(catalog_module, "COMPACT_ABOVE", 3)
        for name in ("programs", "assets"):
            writer._table(name).optimize()
        assert writer.needs_compaction()
        writer._delete("assets", "number = 1")
        writer._merge("programs", "program_id", [_row(heard, "p0", "removed")])
        writer.compact(keep_seconds=0)
        assert heard.frame_counts("sounds") == {3: 3, 4: 3, 5: 3, 6: 4}
        assert not writer.needs_compaction()
        assert_sounds(heard, 6, kept)


# ---------------------------------------------------------------- a store of before there were sounds

_NEW_COLUMNS = {"kind", "sound_count", "sound_model", "sound_seconds", "sound_vectors"}


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program, a removed program and a clip in tables without the columns that sounds brought."""
    schemas = catalog_module._schemas

    def of_before(*args: Any) -> dict[str, Any]:
        return {
            name: pa.schema([field for field in schema if field.name not in _NEW_COLUMNS])
            for name, schema in schemas(*args).items()
        }

    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "_schemas", of_before)
        with Catalog.create(tmp_path / "old", MODEL).writing() as writer:
            for name in ("p", "gone"):
                writer.add_program(NewProgram(name, "T", ("alias",)), [asset_of("a", 1), asset_of("b", 2)])
            writer.remove_programs(["gone"])
            writer.put_clip(with_further(clip_of("c"), ("mirror", 2)))
    return tmp_path / "old"


def _columns_of(store: Path) -> set[str]:
    tables = Catalog(store)._tables
    return {column for table in tables.values() for column in table.schema.names}


def test_a_store_of_before_sounds_is_read_as_it_is(old_store: Path) -> None:
    """No sounds, counts of 0, no file changed; another model is still refused."""
    before = files_of(old_store)
    assert not _NEW_COLUMNS & _columns_of(old_store)
    catalog = Catalog.open(old_store, model=MODEL)
    assert catalog.sound_model is None
    assert [(r.frame_count, r.sound_count) for r in catalog.programs(removed=True)] == [(10, 0), (0, 0)]
    assert [(r.asset_id, r.frame_count, r.sound_count) for r in catalog.assets()] == [
        ("a", 5, 0),
        ("b", 5, 0),
    ]
    assert catalog.program("p") == catalog.programs()[0]
    assert catalog.clips()[0].sound_model == ""
    assert_same_clip(catalog.clip("c"), with_further(clip_of("c"), ("mirror", 2)))
    assert (catalog.counts()["frames"], catalog.counts()["sounds"]) == (10, 0)
    assert counts_of(catalog) == ({1: 10}, {})
    with pytest.raises(ModelMismatchError):
        Catalog.open(old_store, model=replace(MODEL, fingerprint="fp-2"))
    assert files_of(old_store) == before


def test_a_store_of_before_sounds_is_written_and_takes_sounds(old_store: Path) -> None:
    """The columns come with the first writer, once; what was there stays as it was."""
    catalog, reader = Catalog.open(old_store), Catalog.open(old_store)
    programs, assets = catalog.programs(), catalog.assets()
    with catalog.writing() as writer:
        assert _columns_of(old_store) >= _NEW_COLUMNS
        added = writer.add_program(NewProgram("q"), [asset_of("a", 3)])
    assert catalog.programs() == [*programs, added]
    before = files_of(old_store / "tables")
    with catalog.writing():
        assert files_of(old_store / "tables") == before
    asset, clip = sounding(asset_of("a", 4), 3), with_sound(clip_of("new"), 2)
    with catalog.writing() as writer:
        writer.use_sound(SOUND)
        number = writer.add_program(NewProgram("q"), [asset]).number
        writer.put_clip(clip)
        writer.remove_programs(["nobody"])
    reader.refresh()
    for seen in (reader, Catalog.open(old_store, model=MODEL)):
        assert (seen.model, seen.sound_model) == (MODEL, SOUND)
        assert seen.programs()[:1] == programs
        assert seen.assets("p") == assets
        assert_sounds(seen, number, [asset])
        assert_same_clip(seen.clip("new"), clip)
        assert_same_clip(seen.clip("c"), with_further(clip_of("c"), ("mirror", 2)))
        assert seen.counts()["sounds"] == 3
    assert json.loads((old_store / "store.json").read_text())["format"] == 1


# ---------------------------------------------------------------- records


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: NewProgram(""), "program_id must not be empty"),
        (lambda: NewProgram("a\0b"), "NUL"),
        (lambda: NewProgram("\ud800"), "Unicode"),
        (lambda: NewProgram(3), "must be text"),  # type: ignore[arg-type]
        (lambda: NewProgram("p", aliases=("\0",)), "aliases"),
        (lambda: ModelInfo("f", "n", 0), "d must"),
        (lambda: ClipRecord("c", "", "", -1.0, 0, "m"), "duration_seconds"),
        (lambda: ClipRecord("c", "", "", float("nan"), 0, "m"), "duration_seconds"),
        (lambda: LinkRecord("c", "maybe", None, 0.0, 1, "{}"), "decision"),
        (lambda: LinkRecord("c", "none", None, 1.5, 1, "{}"), "confidence"),
        (lambda: LinkRecord("c", "none", "", 0.5, 1, "{}"), "program_id"),
        (lambda: ReviewRecord("c", "", "no"), "program_id"),
        (lambda: NewAsset("a", "", "", 1.0, np.zeros(2), vectors_of(0, 1)), "does not fit"),
        (lambda: NewAsset("a", "", "", 1.0, np.zeros(2), vectors_of(0, 2)), "strictly increasing"),
        (lambda: NewAsset("a", "", "", 1.0, np.array([np.nan]), vectors_of(0, 1)), "finite"),
        (lambda: NewAsset("a", "", "", 1.0, np.zeros(1), np.full((1, D), np.nan, "f4")), "finite"),
        (lambda: NewAsset("a", "", "", 1.0, np.zeros(1), np.full((1, D), 1e6, "f4")), "float16"),
        (lambda: replace(asset_of("a"), sound=(np.zeros(2), vectors_of(0, 1))), "does not fit"),
        (lambda: replace(asset_of("a"), sound=(np.zeros(2), vectors_of(0, 2))), "strictly increasing"),
        (lambda: ClipRecord("c", "", "", 1.0, 0, "m", sound_model="\0"), "sound_model"),
        (lambda: replace(clip_of("c"), sound=(np.zeros(1), vectors_of(0, 1))), "names no sound_model"),
        (lambda: replace(with_sound(clip_of("c"), 1), sound=(np.zeros(2), vectors_of(0, 1))), "not fit"),
        (lambda: ProgramRecord("p", 1, "", (), (), "", "gone", "", 0, 0), "state"),
    ],
)
def test_records_check_themselves(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


# ---------------------------------------------------------------- clips, links, reviews


def test_clips_keep_their_descriptors(catalog: Catalog) -> None:
    """By value, replaced under the same id, a clip without frames too; times of keeping are set."""
    clips = [clip_of("c1", 3), clip_of("c22", 0)]
    with catalog.writing() as writer:
        writer.put_clips([clip_of("c1", 7)])
        writer.put_clips(clips)
        writer.put_clips([])
        with pytest.raises(ValueError, match="twice"):
            writer.put_clips([clips[0], clips[0]])
        with pytest.raises(ValueError, match="d = 9"):
            writer.put_clip(StoredClip(clips[0].record, np.zeros(1), vectors_of(0, 1, D + 1)))
    assert [record.clip_id for record in catalog.clips()] == ["c1", "c22"]
    for clip in clips:
        kept = catalog.clip(clip.record.clip_id)
        assert kept is not None
        assert kept.record.kept_at
        assert replace(kept.record, kept_at="") == clip.record
        np.testing.assert_array_equal(kept.t_seconds, clip.t_seconds)
        np.testing.assert_array_equal(kept.vectors, clip.vectors)
        assert kept.vectors.dtype == np.float32
    assert catalog.clip("nobody") is None
    assert len(list(catalog.iter_clips())) == 2
    assert len(list(catalog.iter_clips([f"x{i}" for i in range(500)] + ["c1"]))) == 1


def with_further(clip: StoredClip, *parts: tuple[str, int]) -> StoredClip:
    """The clip with further descriptors: a name and how many."""
    further = tuple(
        (name, np.arange(n) * 0.75 + i, vectors_of(100 + i, n)) for i, (name, n) in enumerate(parts)
    )
    return replace(clip, further=further)


def with_sound(clip: StoredClip, m: int) -> StoredClip:
    """The clip with m sounds."""
    sound = np.arange(m) * 1.5, vectors_of(200 + m, m, DS)
    return replace(clip, record=replace(clip.record, sound_model=SOUND.fingerprint), sound=sound)


def assert_same_clip(got: StoredClip | None, want: StoredClip) -> None:
    assert got is not None
    assert replace(got.record, kept_at="") == replace(want.record, kept_at="")
    assert (got.sound is None) == (want.sound is None)
    mine, theirs = (
        [("", clip.t_seconds, clip.vectors), *clip.further, *([("s", *clip.sound)] if clip.sound else [])]
        for clip in (got, want)
    )
    assert [name for name, *_ in mine] == [name for name, *_ in theirs]
    for (_, *arrays), (_, *wanted) in zip(mine, theirs, strict=True):
        for array, right in zip(arrays, wanted, strict=True):
            assert array.dtype == right.dtype
            np.testing.assert_array_equal(array, right)


def test_clips_keep_further_descriptors_under_their_names(catalog: Catalog) -> None:
    """By value and in order: with and without rows, beside clips without any, and none of the clip's own."""
    clips = [
        with_further(clip_of("a", 3), ("mirror", 3), ("第一 “inset” 0.04,0.04", 2), ("blank", 0)),
        clip_of("b", 4),
        with_further(clip_of("c", 0), ("mirror", 2)),
        with_further(clip_of("d", 2), ("mirror", 0)),
    ]
    with catalog.writing() as writer:
        writer.put_clips(clips)
    for clip in clips:
        assert_same_clip(catalog.clip(clip.record.clip_id), clip)
    assert [len(clip.further) for clip in catalog.iter_clips()] == [3, 0, 1, 1]


def test_clips_keep_their_sounds(heard: Catalog) -> None:
    """By value, beside further descriptors; asked for and none is not the same as never asked for."""
    clips = [
        with_sound(with_further(clip_of("a", 3), ("mirror", 2)), 4),
        with_sound(clip_of("b", 0), 1),
        with_sound(clip_of("c", 2), 0),
        clip_of("d", 2),
    ]
    none = replace(with_sound(clip_of("e", 2), 0), sound=None)
    with heard.writing() as writer:
        writer.put_clips([with_sound(clip_of("d"), 3), *clips[:3]])
        writer.put_clips([none, clips[3]])
        with pytest.raises(ValueError, match="clip a has sounds of d = 6, the store of d = 5"):
            writer.put_clip(replace(clips[0], sound=(np.zeros(1), vectors_of(0, 1, DS + 1))))
    for clip in clips:
        assert_same_clip(heard.clip(clip.record.clip_id), clip)
    assert_same_clip(heard.clip("e"), with_sound(clip_of("e", 2), 0))
    assert [record.sound_model for record in heard.clips()] == ["fp-s", "fp-s", "fp-s", "", "fp-s"]


def test_clips_without_a_sound_can_be_kept_where_there_are_no_sounds(catalog: Catalog) -> None:
    """With sounds they are refused: nobody could say what made them."""
    with catalog.writing() as writer:
        writer.put_clip(with_sound(clip_of("a"), 0))
        with pytest.raises(ValueError, match="clip a has sound, the store none"):
            writer.put_clip(with_sound(clip_of("a"), 2))
        kept = catalog.clip("a")
        assert kept is not None
        assert kept.sound is not None
        assert kept.sound[1].shape == (0, 0)
        writer.use_sound(SOUND)
        writer.put_clip(kept)
    assert_same_clip(catalog.clip("a"), with_sound(clip_of("a"), 0))


def test_a_clip_kept_again_has_the_new_further_descriptors_only(catalog: Catalog) -> None:
    rich, poor = with_further(clip_of("a", 3), ("mirror", 3)), clip_of("a", 2)
    with catalog.writing() as writer:
        for clip in (rich, poor, with_further(poor, ("centre", 1))):
            writer.put_clip(clip)
            assert_same_clip(catalog.clip("a"), clip)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (("", np.zeros(1), vectors_of(0, 1)), "name"),
        (("mirror", np.zeros(2), vectors_of(0, 1)), "fit"),
        (("mirror", np.zeros(2), vectors_of(0, 2)), "increasing"),
        (("mirror", np.zeros(1), vectors_of(0, 1, D + 1)), "d = 9"),
    ],
)
def test_further_descriptors_that_do_not_fit_are_refused(part: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(clip_of("a"), further=(part,))


def test_a_store_of_before_further_descriptors_is_read_and_gets_the_column_at_the_first_write(
    store: Path,
) -> None:
    """Reading changes nothing; what was kept before stays as it was, and has none."""
    old = clip_of("old", 3)
    with Catalog.open(store).writing() as writer:
        writer.put_clip(old)
        writer._table("clips").drop_columns(["further"])
    catalog = Catalog.open(store)
    before = files_of(store / "tables")
    assert_same_clip(catalog.clip("old"), old)
    assert [clip.record.clip_id for clip in catalog.iter_clips()] == ["old"]
    assert files_of(store / "tables") == before
    new = with_further(clip_of("new", 2), ("mirror", 2))
    with catalog.writing() as writer:
        assert "further" in writer._table("clips").schema.names
        writer.put_clip(new)
        writer.put_clips([with_further(clip_of("third", 1), ("centre", 1))])
    again = Catalog.open(store)
    assert_same_clip(again.clip("old"), old)
    assert_same_clip(again.clip("new"), new)
    assert again.counts()["clips"] == 3


def test_a_clip_has_one_link_and_all_its_reviews(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        writer.put_clips([clip_of("a"), clip_of("b")])
        writer.put_links(
            [LinkRecord("a", "linked", "p", 0.9, 3, '{"x": 1}'), LinkRecord("b", "none", None, 0, 3, "")]
        )
        writer.put_links([LinkRecord("a", "review", None, 0.4, 4, '{"x": 2}', "2026-01-01")])
        writer.put_links([])
        with pytest.raises(ValueError, match="'b' comes twice"):
            writer.put_links([LinkRecord("b", "none", None, 0, 3, "")] * 2)
        writer.put_review(ReviewRecord("a", "p", "rejected", "2026-01-02"))
        writer.put_review(ReviewRecord("a", None, "none", "2026-01-01"))
        links = catalog.links()
        assert links[0] == LinkRecord("a", "review", None, 0.4, 4, '{"x": 2}', "2026-01-01")
        assert [link.clip_id for link in links] == ["a", "b"]
        assert links[1].linked_at
        assert catalog.links(["b"]) == links[1:]
        assert writer.remove_clips(["a", "nobody"]) == 1
    assert [link.clip_id for link in catalog.links()] == ["b"]
    assert [review.verdict for review in catalog.reviews()] == ["none", "rejected"]


# ---------------------------------------------------------------- making and opening


def test_opening_what_is_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"there is no store at .*matcher add --store"):
        Catalog.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"kind": "program-matcher store"}', "damaged"),
        ('{"kind": "other", "format": 1}', "of kind 'other'"),
        ('{"kind": "program-matcher store", "format": 99}', "Update program-matcher"),
        ('{"kind": "program-matcher store", "format": 0}', "Make a new store"),
    ],
)
def test_a_foreign_or_newer_store_is_refused(store: Path, content: str, why: str) -> None:
    (store / "store.json").write_text(content)
    for opened in (lambda: Catalog.open(store), lambda: Catalog.create(store, MODEL)):
        with pytest.raises(CatalogError, match=why):
            opened()


def test_a_folder_with_other_things_is_not_made_a_store(tmp_path: Path) -> None:
    """Nor is a file; and nothing is left in the folder."""
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(CatalogError, match=r"holiday\.mp4"):
        Catalog.create(tmp_path, MODEL)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.mp4"]
    with pytest.raises(CatalogError, match="not a folder"):
        Catalog.create(tmp_path / "holiday.mp4", MODEL)


def test_another_model_is_refused_with_both_names(store: Path) -> None:
    for other in (ModelInfo("fp-2", "larger", D), ModelInfo("fp-1", "larger", D + 1)):
        for opened in (
            lambda other=other: Catalog.open(store, model=other),
            lambda other=other: Catalog.create(store, other),
        ):
            with pytest.raises(ModelMismatchError, match=r"embedded.*larger.*another --store"):
                opened()
    assert Catalog.open(store, model=MODEL).model == MODEL


@pytest.mark.parametrize("name", ["库 #1%20", "it's", "a?b=c&d"])
def test_a_store_may_be_called_anything(tmp_path: Path, name: str) -> None:
    catalog = Catalog.create(tmp_path / "deep" / name, MODEL)
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
    assert Catalog.open(tmp_path / "deep" / name).counts()["frames"] == 5
    assert sorted(entry.name for entry in (tmp_path / "deep").iterdir()) == [name]


@pytest.mark.parametrize("missing", ["programs", "assets", "frames"])
def test_a_writer_refuses_a_store_that_lost_a_table(store: Path, missing: str) -> None:
    """A partial copy, say: a new, empty `programs` would make every frame an orphan to be cleaned away."""
    catalog = Catalog.open(store)
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
    kept = store.parent / "kept"
    (store / "tables" / f"{missing}.lance").rename(kept)
    with pytest.raises(CatalogError, match=f"lost its table {missing}"), Catalog.open(store).writing():
        raise AssertionError("a writer must not be given")
    kept.rename(store / "tables" / f"{missing}.lance")
    assert Catalog.open(store).counts()["frames"] == 5


@pytest.mark.parametrize("missing", ["clips", "links", "reviews"])
def test_a_store_with_only_some_tables_opens(store: Path, missing: str) -> None:
    """For reading as if the table were empty; a writer makes it."""
    shutil.rmtree(store / "tables" / f"{missing}.lance")
    if missing == "clips":  # cut off while it was being made
        (store / "tables" / "clips.lance" / "_versions").mkdir(parents=True)
    reader = Catalog.open(store)
    assert set(reader.counts().values()) == {0}
    assert reader.programs() == reader.assets() == reader.clips() == reader.links() == reader.reviews() == []
    assert list(reader.iter_clips()) == list(reader.iter_frames([1])) == []
    assert reader.frame_counts() == {}
    with reader.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
        writer.put_clip(clip_of("c"))
    assert Catalog.open(store).counts()["frames"] == 5


def test_creation_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """Without store.json there is no store; making it again, by another model even, completes it."""
    store = tmp_path / "s"
    Catalog.create(store, MODEL)
    (store / "store.json").rename(store / "store.json.tmp-1")
    with pytest.raises(CatalogError, match="no store"):
        Catalog.open(store)
    other = ModelInfo("fp-2", "larger", D * 2)
    with Catalog.create(store, other).writing() as writer:
        asset = NewAsset("a", "", "", 1.0, np.zeros(1), vectors_of(0, 1, D * 2))
        writer.add_program(NewProgram("p"), [asset])
    assert Catalog.open(store).model == other


def test_rows_of_another_d_are_never_dropped(store: Path) -> None:
    """A store that lost its store.json is not emptied for a model of another d."""
    with Catalog.open(store).writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
    (store / "store.json").unlink()
    with pytest.raises(CatalogError, match="another length"):
        Catalog.create(store, ModelInfo("fp-2", "larger", D * 2))


def test_lost_or_damaged_tables_are_told_apart_from_bugs(store: Path) -> None:
    """No folder of tables, no model, and a file gone: CatalogError each, with what to do."""
    with Catalog.open(store).writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
        writer.put_review(ReviewRecord("c", None, "x"))
    reader = Catalog.open(store)
    for file in (store / "tables" / "reviews.lance" / "data").iterdir():
        file.unlink()
    with pytest.raises(CatalogError, match=r"table reviews .* cannot be read"):
        reader.reviews()
    for file in (store / "tables" / "frames.lance" / "data").iterdir():
        file.unlink()
    with pytest.raises(CatalogError, match=r"table frames .* cannot be read"):
        reader.frames_of(1)
    shutil.rmtree(store / "tables" / "models.lance")
    with pytest.raises(CatalogError, match="names 0 models"):
        Catalog.open(store).model  # noqa: B018
    shutil.rmtree(store / "tables")
    with pytest.raises(CatalogError, match="lost its folder tables"):
        Catalog.open(store)
    assert not (store / "tables").exists()


def test_reading_changes_no_file(store: Path) -> None:
    """A reader works on a read-only folder: it writes nothing, not even the lock."""
    with Catalog.open(store).writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
        writer.put_clip(clip_of("c"))
    (store / "write.lock").unlink()
    before = files_of(store)
    reader = Catalog.create(store, MODEL)
    reader.refresh()
    assert reader.counts()["programs"] == 1
    assert reader.frames_of(1).ids.size == 5
    assert reader.frame_counts() == {1: 5}
    assert reader.clip("c") is not None
    assert (reader.links(), reader.reviews()) == ([], [])
    assert files_of(store) == before


# ---------------------------------------------------------------- compaction


def test_compaction_bounds_files_and_keeps_values(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions and files do not pile up; a stale reader finds its way by itself."""
    catalog, stale = Catalog.open(store), Catalog.open(store)
    with catalog.writing() as writer:
        for i in range(12):
            writer.add_program(NewProgram(f"p{i % 4}"), [asset_of("a", i)])
            writer.put_clip(clip_of("c"))
        stale.refresh()
        writer.add_program(NewProgram("p0"), [asset_of("a", 77)])
        assert not writer.needs_compaction()
        monkeypatch.setattr(catalog_module, "COMPACT_ABOVE", 3)
        assert writer.needs_compaction()
        many = len(files_of(store))
        writer.compact(keep_seconds=0)
        assert len(files_of(store)) < many / 3
        writer.compact(keep_seconds=0)
        assert not writer.needs_compaction()
        np.testing.assert_array_equal(catalog.frames_of(13).vectors, vectors_of(77, 5))
    assert [record.number for record in stale.programs()] == [10, 11, 12, 13]
    assert stale.clip("c") is not None
    assert stale.refresh() == catalog.version()


def test_compaction_lets_large_tables_be_looked_up_by_key(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From so many rows on, once; what was there, replaced or added later reads back the same."""
    clips = [clip_of(f"c{i}") for i in range(5)]
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a", 1, 9)])
        writer.put_clips(clips)
        writer.compact()
        assert not any(table.list_indices() for table in catalog._tables.values())
        monkeypatch.setattr(catalog_module, "INDEX_ABOVE", 5)
        for _ in range(2):
            writer.compact()
            indexed = {name: table.list_indices() for name, table in catalog._tables.items()}
            found = {name: [index.columns for index in each] for name, each in indexed.items() if each}
            assert found == {"frames": [["id"]], "clips": [["clip_id"]]}
        writer.put_clips([clip_of("c2", 7), clip_of("new")])
        writer.add_program(NewProgram("p"), [asset_of("a", 2, 4)])
    assert counts_of(catalog) == ({2: 4}, {})
    np.testing.assert_array_equal(catalog.frames_of(2).vectors, vectors_of(2, 4))
    assert {clip.record.clip_id: len(clip.t_seconds) for clip in catalog.iter_clips()} == {
        "c0": 3, "c1": 3, "c2": 7, "c3": 3, "c4": 3, "new": 3,
    }  # fmt: skip


def test_a_thorough_cleaning_finds_rows_without_a_witness(catalog: Catalog) -> None:
    """Frames of an invisible number whose asset rows are lost."""
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])
        writer.add_program(NewProgram("q"), [asset_of("a")])
        writer._delete("assets", "number = 1")
        writer._merge("programs", "program_id", [_row(catalog, "p", "removed")])
        assert catalog.frame_counts() == {1: 5, 2: 5}
        writer.compact()
        assert catalog.frame_counts() == {2: 5}


def _row(catalog: Catalog, program_id: str, state: str) -> dict[str, Any]:
    record = catalog.program(program_id)
    assert record is not None
    return {**record.__dict__, "state": state}


def test_what_was_cut_off_is_never_seen_and_is_deleted_by_the_next_writer(
    heard: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the flip: the new number's rows. After it: the old generation's. As kill -9 leaves them."""
    with heard.writing() as writer:
        old = writer.add_program(NewProgram("p"), [sounding(asset_of("a"), 3)])

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for where, cleaned in (
        ("_append", "_clean_orphans"),
        ("_merge", "_clean_orphans"),
        ("_delete_numbers", ""),
    ):
        with heard.writing() as writer, monkeypatch.context() as patch:
            patch.setattr(writer, where, die)
            if cleaned:
                patch.setattr(writer, cleaned, lambda: None)
            with pytest.raises(KeyboardInterrupt):
                writer.add_program(NewProgram("p"), [sounding(asset_of("b", n=7), 2)])
        reader = Catalog.open(heard.path)
        flipped = where == "_delete_numbers"
        assert [asset.asset_id for asset in reader.assets()] == (["b"] if flipped else ["a"])
        assert counts_of(reader) == ({1: 5, 2: 7}, {1: 3, 2: 2})
        with reader.writing():
            assert counts_of(reader) == (({2: 7}, {2: 2}) if flipped else ({1: 5}, {1: 3}))
            assert len(reader._rows("assets")) == 1
    assert old.number == 1


def test_programs_and_assets_are_of_one_moment(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replace that falls between looking up two tables does not show a program without its assets."""
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("old")])
    reader, refresh_table, replaced = Catalog.open(catalog.path), Catalog._refresh_table, []

    def meddle(self: Catalog, name: str) -> int:
        version = refresh_table(self, name)
        if self is reader and name == "programs" and not replaced:
            replaced.append(True)
            with catalog.writing() as writer:
                writer.add_program(NewProgram("p"), [asset_of("new")])
        return version

    monkeypatch.setattr(Catalog, "_refresh_table", meddle)
    reader.refresh()
    assert replaced
    assert [asset.asset_id for asset in reader.assets()] == ["new"]


# ---------------------------------------------------------------- the lock


def test_one_writer_in_a_process(catalog: Catalog, store: Path) -> None:
    """A second writer, of the same object or another, is refused at once and told who holds it."""
    with catalog.writing() as writer:
        for other in (catalog, Catalog.open(store)):
            with pytest.raises(CatalogLockedError, match="being written by process") as caught:
                other.writing().__enter__()
            assert str(json.loads((store / "write.lock").read_text())["pid"]) in caught.value.holder
    with pytest.raises(ValueError, match="released"):
        writer.put_clips([clip_of("c")])
    (store / "write.lock").write_text("junk")
    with catalog.writing():
        (store / "write.lock").write_text("junk")
        with pytest.raises(CatalogLockedError, match="another process"), catalog.writing():
            pass


def test_waiting_for_the_lock(catalog: Catalog) -> None:
    """A writer that may wait gets the lock when the other is done."""
    with catalog.writing():
        waiting = threading.Thread(target=_write_when_free, args=(catalog.path,))
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
    waiting.join(20)
    catalog.refresh()
    assert [record.program_id for record in catalog.programs()] == ["waited"]


def _write_when_free(store: Path) -> None:
    with Catalog.open(store).writing(wait_seconds=20) as writer:
        writer.add_program(NewProgram("waited"), [asset_of("a")])


def test_the_lock_is_free_after_an_error(catalog: Catalog) -> None:
    with pytest.raises(DecodeError), catalog.writing():
        raise DecodeError
    with catalog.writing():
        pass


def test_a_full_disk_keeps_no_writer_out(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the holder's name cannot be written down, the lock is held and let go of all the same."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("index.files.os.pwrite", full)
    for _ in range(2):
        with catalog.writing() as writer:
            writer.add_program(NewProgram("p"), [asset_of("a")])
            with pytest.raises(CatalogLockedError, match="another process"), catalog.writing():
                pass
    assert [record.program_id for record in catalog.programs()] == ["p"]


def test_an_add_after_a_cleaning_that_failed_takes_no_others_rows(
    heard: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same writer goes on after a disk was full: the failed add's frames do not become the next one's."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with heard.writing() as writer:
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_append", full)
            patch.setattr(writer, "_delete", full)
            with pytest.raises(OSError, match="No space"):
                writer.add_program(NewProgram("p"), [sounding(asset_of("a", n=7), 3)])
        assert counts_of(heard) == ({1: 7}, {1: 3})
        assert writer.add_program(NewProgram("q"), [asset_of("a")]).number == 1
        assert counts_of(heard) == ({1: 5}, {})


# ---------------------------------------------------------------- other processes

_CHILD = """
import os, random, sys
import numpy as np
from pathlib import Path
from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.live import LiveIndex

what, store, seed, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
model = ModelInfo("fp-1", "embedded", 8, {"size": 224})
sound_model = ModelInfo("fp-s", "listener", 5, {"rate": 16000})

def assets(value):
    # Every vector and time tells which program generation it is of.
    for i in range(3):
        n = 40 + 7 * i
        sound = np.arange(i * 9) + value, np.full((i * 9, 5), value, "f4")
        yield NewAsset(
            f"a{i}", str(value), "", 99.0, np.arange(n) + value, np.full((n, 8), value, "f4"), sound
        )

if what == "hold":
    with Catalog.open(store).writing():
        print("ready", flush=True)
        sys.stdin.read()
elif what == "add":
    for i in range(rounds):
        with Catalog.open(store).writing(wait_seconds=60) as writer:
            writer.use_sound(sound_model)
            name = f"own-{seed}" if i % 3 == 2 else f"both-{i % 3}"
            writer.add_program(NewProgram(name, str(100 * seed + i)), assets(100 * seed + i))
elif what == "create":
    print("ready", flush=True)
    for i in range(100000):
        with open(store / "last", "w") as file:
            file.write(str(i))
        Catalog.create(store / f"s{i}", model)
else:
    random.seed(seed)
    wanted = sys.stdin.readline().strip()
    catalog, value = Catalog.open(store), seed
    with catalog.writing() as writer:
        writer.use_sound(sound_model)
    lives = [LiveIndex.open(catalog, kind="ivf"), LiveIndex.open(catalog, table="sounds")]
    # Add a change here and to OPERATIONS below: it is given the writer, and a program's id.
    operations = {
        "add": lambda writer, name: writer.add_program(NewProgram(name, str(value)), assets(value % 1000)),
        "remove": lambda writer, name: writer.remove_programs([name]),
        "save": lambda writer, _: [live.save(writer, force=True) for live in lives],
        "rebuild": lambda writer, _: [live.rebuild(writer) for live in lives],
        "retrain": lambda writer, _: [live.retrain(writer) for live in lives],
        "compact": lambda writer, _: writer.compact(keep_seconds=0),
    }
    for step in range(1000):
        value += 1
        what = "add" if step < 2 else random.choice([*operations, "add", *[wanted] * 4])
        name = f"p{random.randrange(5)}"
        with catalog.writing() as writer:
            print("begin", what, name, value, flush=True)
            operations[what](writer, name)
            print("done", flush=True)
"""


def _child(what: str, store: Path, seed: int = 0, rounds: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, what, str(store), str(seed), str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def _wait_until_ready(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"


def _kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    assert child.wait(20) == -signal.SIGKILL, "the child ended before it was killed"
    for stream in (child.stdin, child.stdout):
        assert stream is not None
        stream.close()


def test_the_lock_holds_across_processes_and_dies_with_its_holder(catalog: Catalog) -> None:
    """The refusal names the other process; after kill -9 the lock is free."""
    child = _child("hold", catalog.path)
    _wait_until_ready(child)
    with pytest.raises(CatalogLockedError) as caught, catalog.writing():
        pass
    assert f"process {child.pid} on" in caught.value.holder
    assert catalog.programs() == []  # readers go on
    _kill(child)
    with catalog.writing(wait_seconds=5) as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_two_processes_add_and_replace_in_turn(catalog: Catalog, rounds: int) -> None:
    """Writers that wait for each other lose nothing, double no row and share no number."""
    children = [_child("add", catalog.path, seed, rounds) for seed in (1, 2)]
    for child in children:
        child.communicate(timeout=300)
        assert child.returncode == 0
    catalog.refresh()
    _assert_whole(catalog)
    programs = {record.program_id: record for record in catalog.programs()}
    assert sorted(programs) == ["both-0", "both-1", "own-1", "own-2"]
    numbers = {record.number for record in catalog.programs(removed=True)}
    assert len(numbers) == 4
    assert max(numbers) == 2 * rounds
    assert counts_of(catalog) == (dict.fromkeys(numbers, 141), dict.fromkeys(numbers, 27))
    # The last of each writer's own, and of either for those of both.
    for name, of_writer in (("own-1", [1]), ("own-2", [2]), ("both-0", [1, 2]), ("both-1", [1, 2])):
        last = rounds - 3 + int(name[-1]) if len(of_writer) == 2 else rounds - 1
        assert int(programs[name].title) in [100 * seed + last for seed in of_writer]
    for kind in ("frames", "sounds"):
        assert LiveIndex.open(catalog, table=kind).verify(full=True) == []


def _assert_whole(catalog: Catalog) -> None:
    """Every visible program is there entirely, and of one generation."""
    for record in catalog.programs():
        frames = catalog.frames_of(record.number)
        value = int(record.title) % 1000
        counts = [40, 47, 54]
        assert frames.asset_ids == [f"a{i}" for i, n in enumerate(counts) for _ in range(n)]
        np.testing.assert_array_equal(
            frames.t_seconds, np.concatenate([np.arange(n) + value for n in counts])
        )
        assert (frames.vectors == np.float32(np.float16(value))).all()
        assert [asset.frame_count for asset in catalog.assets(record.program_id)] == counts
        assert record.frame_count == sum(counts)
        sounds = catalog.frames_of(record.number, "sounds")
        assert sounds.asset_ids == ["a1"] * 9 + ["a2"] * 18
        np.testing.assert_array_equal(sounds.t_seconds, np.concatenate([np.arange(9), np.arange(18)]) + value)
        assert (sounds.vectors == np.float32(np.float16(value))).all()
        assert [asset.sound_count for asset in catalog.assets(record.program_id)] == [0, 9, 18]
        assert record.sound_count == 27


OPERATIONS = ("add", "remove", "save", "rebuild", "retrain", "compact")
#: Value of each program, by its id.
Programs = dict[str, int]


def _lines(child: subprocess.Popen[str]) -> Iterator[list[str]]:
    """Words of the lines of a child that changes a store."""
    assert child.stdout is not None
    for line in child.stdout:
        yield line.split()


def _after(programs: Programs, change: list[str]) -> Programs:
    """The programs after a change that a child began."""
    _, what, name, value = change
    others = {other: worth for other, worth in programs.items() if other != name}
    if what == "add":
        return others | {name: int(value)}
    return others if what == "remove" else programs


def _kill_during(
    child: subprocess.Popen[str], what: str, programs: Programs, seconds: dict[str, float], rng: random.Random
) -> tuple[list[Programs], str]:
    """Kill a child at a random instant of a change.

    Args:
        child: Waits to be told what it is to do most.
        what: In which change to kill it.
        programs: What is there.
        seconds: How long each change took last; kept up to date.
        rng: Chooses the instant.

    Returns:
        What may be there: the programs after all that the child said it had done, and after what it had
        begun; and the change that it had begun, or "".
    """
    assert child.stdin is not None
    child.stdin.write(what + "\n")
    child.stdin.flush()
    lines, began = _lines(child), 0.0
    for change in lines:
        began = time.perf_counter()
        if change[1] == what:
            break
        assert next(lines) == ["done"]
        programs = _after(programs, change)
        seconds[change[1]] = time.perf_counter() - began
    time.sleep(rng.uniform(0.0, 1.1 * seconds.get(what, 0.1)))
    child.send_signal(signal.SIGKILL)
    # It may have gone on to the next changes.
    may_be, begun = [programs, _after(programs, change)], change[1]
    for line in lines:
        if line == ["done"]:
            may_be, begun = may_be[1:], ""
        else:
            may_be, begun = [*may_be, _after(may_be[-1], line)], line[1]
    _kill(child)
    return may_be, begun


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_at_any_instant_leaves_a_whole_store(
    catalog: Catalog, kills: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In each kind of change: what was said to be done is there, no half of anything, a clean start."""
    rng, seconds, programs, cut_off = random.Random(kills), dict[str, float](), Programs(), list[str]()
    following = _child("churn", catalog.path)
    for kill in range(kills):
        # The next child imports while this one is looked at; it starts when told to.
        child, following = following, _child("churn", catalog.path, seed=(kill + 1) * 1000)
        may_be, begun = _kill_during(child, OPERATIONS[kill % len(OPERATIONS)], programs, seconds, rng)
        cut_off.append(begun)
        reader = Catalog.open(catalog.path)
        programs = {record.program_id: int(record.title) for record in reader.programs()}
        assert programs in may_be
        _assert_whole(reader)
        for kind, how in (("frames", "ivf"), ("sounds", "flat")):
            assert LiveIndex.open(reader, table=kind, kind=how).verify(full=True) == []
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
        with reader.writing():
            pass
        numbers = {record.number for record in reader.programs()}
        assert counts_of(reader) == (dict.fromkeys(numbers, 141), dict.fromkeys(numbers, 27))
        assert set(reader._whole_numbers("assets", "number").tolist()) == numbers
    _kill(following)
    assert len(programs) > 1
    assert set(cut_off) >= set(OPERATIONS) if kills > 100 else any(cut_off), cut_off


def test_kill_9_while_a_store_is_made(tmp_path: Path) -> None:
    """What was cut off is completed by making it again."""
    rng = random.Random(0)
    for kill in range(2):
        folder = tmp_path / str(kill)
        folder.mkdir()
        child = _child("create", folder)
        _wait_until_ready(child)
        time.sleep(rng.uniform(0.05, 0.4))
        _kill(child)
        last = (folder / "last").read_text() or "0"
        with Catalog.create(folder / f"s{last}", MODEL).writing() as writer:
            writer.add_program(NewProgram("p"), [asset_of("a")])
        assert Catalog.open(folder / f"s{last}").counts()["frames"] == 5
