"""The live index answers as brute force over what the catalog shows, whatever happened before."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import live as live_module
from index import snapshot as snapshot_module
from index.base import NO_ID
from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.engines import KINDS
from index.errors import CatalogError, IndexStoreError
from index.exact import ExactIndex
from index.faiss_backend import FaissIndex
from index.live import LiveIndex
from index.rows import Kind, count_of, id_range
from index.snapshot import SnapshotError, load_snapshot, save_snapshot
from index.view import FrameInfo, LiveView

D, DS = 6, 4
#: Program ids and the assets that they must show.
Model = dict[str, list[NewAsset]]
MODEL = ModelInfo("fp-1", "embedded", D)
SOUND = ModelInfo("fp-s", "listener", DS)


def grid(seed: int, n: int, d: int = D) -> np.ndarray:
    """Vectors whose inner products are exact, so that answers can be compared as they stand."""
    return np.random.default_rng(seed).integers(-2, 3, size=(n, d)).astype(np.float32) / 2


def assets_of(seed: int, sizes: tuple[int, ...] = (4, 0, 7)) -> list[NewAsset]:
    return [
        NewAsset(
            f"a{i}", f"/v/{seed}-{i}", "", n * 2.0, np.arange(n) * 2.0 + seed % 5, grid(seed * 10 + i, n)
        )
        for i, n in enumerate(sizes)
    ]


def sounding(assets: list[NewAsset], seed: int, sizes: tuple[int, ...] = (5, 2)) -> list[NewAsset]:
    """The assets, as many as there are sizes with so many sounds."""
    sounds = [(np.arange(n) * 1.5, grid(seed * 10 + i, n, DS)) for i, n in enumerate(sizes, start=7)]
    heard = [replace(asset, sound=sound) for asset, sound in zip(assets, sounds, strict=False)]
    return heard + assets[len(heard) :]


def add_heard(catalog: Catalog, program_id: str, seed: int) -> list[NewAsset]:
    """Add a program with sounds: 5, 2 and none, beside 4, 0 and 7 frames."""
    assets = sounding(assets_of(seed), seed)
    with catalog.writing() as writer:
        writer.add_program(NewProgram(program_id), assets)
    return assets


def descriptors_of(asset: NewAsset, table: Kind) -> tuple[np.ndarray, np.ndarray]:
    if table == "frames":
        return asset.t_seconds, asset.vectors
    return asset.sound or (np.zeros(0), np.zeros((0, DS), np.float32))


def add(catalog: Catalog, program_id: str, seed: int, sizes: tuple[int, ...] = (4, 0, 7)) -> None:
    with catalog.writing() as writer:
        writer.add_program(NewProgram(program_id), assets_of(seed, sizes))


def save(live: LiveIndex, catalog: Catalog, *, force: bool = False) -> bool:
    with catalog.writing() as writer:
        return live.save(writer, force=force)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path / "store", MODEL)


@pytest.fixture
def heard(catalog: Catalog) -> Catalog:
    """A store that holds sounds."""
    with catalog.writing() as writer:
        writer.use_sound(SOUND)
    return catalog


def assert_shows(live: LiveIndex, catalog: Catalog, model: Model) -> None:
    """Search, locate and frames (or sounds) are those of ``model``, by value; and verify agrees."""
    assert live.version == catalog.version()
    assert_answers(live, model, {record.program_id: record.number for record in catalog.programs()})
    assert live.verify(full=True) == []
    assert live.verify() == []


def assert_answers(live: LiveIndex, model: Model, numbers: dict[str, int], *, seed: int = 999) -> None:
    """Search, locate and frames (or sounds) are those of ``model``, by value; asks no table.

    Args:
        live: What is asked, as it stands.
        model: What it must show.
        numbers: Of the programs.
        seed: Of the queries.
    """
    assert sorted(live.programs) == sorted(model)
    exact = ExactIndex(live.d)
    where: dict[int, tuple[str, str, float]] = {}
    vector_of: dict[int, np.ndarray] = {}
    for program_id, assets in model.items():
        first = id_range(numbers[program_id])[0]
        for asset in assets:
            times, vectors = descriptors_of(asset, live.table)
            n = times.size
            exact.add(vectors, np.arange(first, first + n))
            for i, t in enumerate(times.tolist()):
                where[first + i] = (program_id, asset.asset_id, t)
                vector_of[first + i] = vectors[i]
            first += n
    assert live.ntotal == exact.ntotal
    xq = grid(seed, 4, live.d)
    got, want = live.search(xq, 9), exact.search(xq, 9)
    np.testing.assert_array_equal(got.similarities, want.similarities)
    if live.kind == "flat":
        np.testing.assert_array_equal(got.ids, want.ids)
    # The other kinds may keep any of those that tie, each with its own similarity.
    for query, row, similarities in zip(xq, got.ids.tolist(), got.similarities.tolist(), strict=True):
        found = [i for i in row if i != NO_ID]
        assert len(set(found)) == len(found) == min(9, len(where))
        assert [float(vector_of[i] @ query) for i in found] == similarities[: len(found)]
    ids = np.array([*where, NO_ID, 0, 1 << 60, 5], dtype=np.int64)
    info = live.locate(ids)
    for i, program, position, t in zip(
        ids.tolist(), info.program_position, info.asset_position, info.t_seconds, strict=True
    ):
        if i in where:
            record = live.assets[position]
            assert (live.programs[program], record.asset_id, t) == where[i]
            assert record.program_id == live.programs[program]
        else:
            assert (program, position) == (-1, -1)
            assert np.isnan(t)
    assert len(live.assets) == sum(len(assets) for assets in model.values())
    for position, record in enumerate(live.assets):
        asset = next(a for a in model[record.program_id] if a.asset_id == record.asset_id)
        found_ids, seconds, vectors = live.frames_of_asset(position)
        for array, wanted in zip((seconds, vectors), descriptors_of(asset, live.table), strict=True):
            np.testing.assert_array_equal(array, wanted)
        assert vectors.dtype == np.float32
        assert live.view.frame_count[position] == count_of(record, live.table) == len(seconds)
        assert [where[i][:2] for i in found_ids.tolist()] == [(record.program_id, record.asset_id)] * len(
            seconds
        )
        assert record.path == asset.path


# ---------------------------------------------------------------- sounds


@pytest.mark.parametrize("kind", [None, "ivf"])
def test_an_index_of_sounds_survives_saving_and_changes(heard: Catalog, kind: str | None) -> None:
    """Saved, reopened and changed beside the frames' index, with programs that have no sounds."""
    model = {f"p{i}": add_heard(heard, f"p{i}", i) for i in range(4)}
    model["mute"] = assets_of(9)
    add(heard, "mute", 9)
    frames = LiveIndex.open(heard)
    sounds = LiveIndex.open(heard, kind=kind, table="sounds")
    assert (sounds.table, sounds.d, sounds.ntotal, frames.ntotal) == ("sounds", DS, 28, 55)
    for live in (frames, sounds):
        assert save(live, heard)
        assert_shows(live, heard, model)
    assert len(list((heard.path / "cache").iterdir())) == 2, "a folder for each model"
    reopened = LiveIndex.open(Catalog.open(heard.path), kind=kind, table="sounds")
    assert (reopened.view.base.shape[0], reopened.view.tail.shape[0]) == (28, 0)
    assert_shows(reopened, heard, model)
    with heard.writing() as writer:
        writer.remove_programs(["p0"])
        del model["p0"]
    model["p1"] = add_heard(heard, "p1", 77)
    model["new"] = add_heard(heard, "new", 78)
    for live in (sounds, reopened, frames):
        assert live.refresh()
        assert_shows(live, heard, model)
        assert not live.refresh()
    assert sounds.program_records == frames.program_records
    assert sounds.assets == frames.assets
    np.testing.assert_array_equal(sounds.view.program_position, frames.view.program_position)
    assert save(sounds, heard)
    with heard.writing() as writer:
        sounds.rebuild(writer)
    for live in (sounds, LiveIndex.open(heard, kind=kind, table="sounds")):
        assert live.view.tail.shape == (0, DS)
        assert_shows(live, heard, model)
    asset = next(i for i, record in enumerate(sounds.assets) if record.sound_count == 5)
    assert sounds.frames_between(asset, 1.5, 4.5)[1].tolist() == [1.5, 3.0]


def test_there_is_no_index_of_sounds_where_there_are_none(catalog: Catalog) -> None:
    """Until they come; the one who opens need not have refreshed."""
    add(catalog, "mute", 1)
    reader = Catalog.open(catalog.path)
    with pytest.raises(ValueError, match="holds no sounds"):
        LiveIndex.open(reader, table="sounds")
    with catalog.writing() as writer:
        writer.use_sound(SOUND)
    live = LiveIndex.open(reader, table="sounds")
    assert (live.ntotal, live.programs) == (0, ("mute",))
    model = {"mute": assets_of(1), "p": add_heard(catalog, "p", 2)}
    live.refresh()
    assert_shows(live, catalog, model)


def test_damaged_sounds_are_found_and_the_frames_go_on(heard: Catalog) -> None:
    """A value, a row lost, one doubled, and a count that is not so: named as sounds, of the program."""
    for name, seed in (("p", 1), ("q", 2)):
        add_heard(heard, name, seed)
    live, table, first = LiveIndex.open(heard, table="sounds"), heard._tables["sounds"], id_range(2)[0]
    save(live, heard)
    table.update(where=f"id = {first}", values={"t_seconds": 0.25})
    assert live.verify() == []
    assert live.verify(full=True) == ["program 'q': 1 sounds differ from the tables"]
    table.add(table.search().where(f"id = {first}").to_arrow())
    assert live.verify() == ["program 'q': the tables hold 8 sounds, the index 7"]
    with pytest.raises(CatalogError, match=r"table sounds is damaged: 1 sounds are missing or double.*'q'"):
        live.rebuild()
    table.delete(f"id = {first}")
    assert live.verify() == ["program 'q': the tables hold 6 sounds, the index 7"]
    live._faiss.remove_range(first, first + 1)
    assert "FAISS holds 13 sounds that are not the 14 of the tables" in live.verify()
    frames = LiveIndex.open(heard)
    assert frames.verify(full=True) == []
    heard._tables["programs"].update(where="program_id = 'p'", values={"sound_count": 9})
    with pytest.raises(CatalogError, match=r"'p' says 3 assets with 9 sounds, but .* has 3 with 7"):
        LiveIndex.open(heard, table="sounds")
    assert LiveIndex.open(heard).verify(full=True) == []
    _flip(_files(heard.path) / "vectors.npy")
    assert any("vectors.npy fails its checksum" in line for line in live.verify(full=True))


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_survives_saving_and_changes(catalog: Catalog, kind: str) -> None:
    """Saved, reopened, changed, reopened: with few lists all are visited, so answers are exact."""
    model = {}
    for i in range(8):
        model[f"p{i}"] = assets_of(i)
        add(catalog, f"p{i}", i)
    live = LiveIndex.open(catalog, kind=kind)
    assert live.kind == kind
    assert save(live, catalog)
    has_index = any((catalog.path / "cache").rglob("index.faiss"))
    assert has_index == (kind != "flat")
    live = LiveIndex.open(catalog, kind=kind)
    assert_shows(live, catalog, model)
    with catalog.writing() as writer:
        del model["p0"]
        writer.remove_programs(["p0"])
    model["p1"] = assets_of(77)
    add(catalog, "p1", 77)
    for again in (live, LiveIndex.open(catalog, kind=kind)):
        again.refresh()
        assert (again.view.base.shape[0], again.view.tail.shape[0]) == (88, 11)
        assert_shows(again, catalog, model)


def test_the_kind_follows_the_size(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grown beyond flat: the next save trains, a reopen loads it, and another kind may be asked for."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    assert live.kind == "flat"
    monkeypatch.setattr(live_module, "choose_kind", lambda n: "ivf" if n > 11 else "flat")
    add(catalog, "q", 2)
    live.refresh()
    assert live.kind == "flat"
    assert save(live, catalog)
    assert live.kind == "ivf"
    assert live.verify(full=True) == []
    trained: list[int] = []
    monkeypatch.setattr(FaissIndex, "train", lambda self, xb, **_: trained.append(len(xb)))
    assert LiveIndex.open(catalog).kind == "ivf"
    assert trained == []
    assert LiveIndex.open(catalog, kind="flat").kind == "flat"


def test_an_empty_catalog_is_answered(catalog: Catalog) -> None:
    """No program; then one without frames; then saved and opened so."""
    live = LiveIndex.open(catalog, kind="ivf")
    for _ in range(2):
        assert (live.ntotal, live.d) == (0, D)
        assert (live.search(grid(1, 2), 3).ids == NO_ID).all()
        info = live.locate(np.array([[NO_ID, 3]]))
        assert info.asset_position.tolist() == [[-1, -1]]
        with pytest.raises(IndexError):
            live.frames_of_asset(0)
        assert live.verify(full=True) == []
        save(live, catalog, force=True)
        with catalog.writing() as writer:
            writer.add_program(NewProgram("none"), [])
        live = LiveIndex.open(catalog, kind="ivf")
    assert live.programs == ("none",)
    assert live.program_records == tuple(catalog.programs())


# ---------------------------------------------------------------- views


def test_locate_keeps_the_shape(catalog: Catalog) -> None:
    """Any shape in, the same shape out, of the types promised."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    first = id_range(1)[0]
    info = live.locate(np.array([[first, NO_ID], [first + 10, first + 11]]))
    assert info.asset_position.tolist() == [[0, -1], [2, -1]]
    assert info.program_position.tolist() == [[0, -1], [0, -1]]
    assert (info.asset_position.dtype, info.program_position.dtype) == (np.int32, np.int32)
    assert live.locate(np.int64(first)).t_seconds.shape == ()
    assert live.locate(np.zeros((0, 3), np.int64)).t_seconds.shape == (0, 3)
    with pytest.raises(ValueError, match="one shape"):
        FrameInfo(info.program_position, info.asset_position[:1], info.t_seconds)


@pytest.mark.parametrize("saved", [True, False])
def test_frames_between_is_half_open(catalog: Catalog, saved: bool) -> None:
    """Start included, stop not; from the memory map as from the tail."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    if saved:
        save(live, catalog)
    asset = assets_of(1)[2]  # seconds 1, 3, 5, … 13
    ids, seconds, vectors = live.frames_between(2, 3.0, 7.0)
    assert seconds.tolist() == [3.0, 5.0]
    assert ids.tolist() == [id_range(1)[0] + 5, id_range(1)[0] + 6]
    np.testing.assert_array_equal(vectors, asset.vectors[1:3])
    np.testing.assert_array_equal(live.search(vectors, 1).similarities[:, 0] >= 0, [True, True])
    for start, stop in ((7.0, 3.0), (100.0, 200.0), (3.5, 4.0)):
        assert [part.shape[0] for part in live.frames_between(2, start, stop)] == [0, 0, 0]
    assert live.frames_of_asset(1)[2].shape == (0, D)
    for position in (-1, 3):
        with pytest.raises(IndexError, match="asset_position"):
            live.frames_of_asset(position)


def test_a_view_stays_as_it_is(catalog: Catalog) -> None:
    """A thread that took the view answers by it, whatever is removed and saved meanwhile."""
    add(catalog, "p", 1)
    add(catalog, "q", 2)
    live = LiveIndex.open(catalog)
    view = live.view
    before = view.frames_of_asset(0)
    with catalog.writing() as writer:
        writer.remove_programs(["p"])
        live.save(writer, force=True)
    assert view.programs == ("p", "q")
    for then, now in zip(before, view.frames_of_asset(0), strict=True):
        np.testing.assert_array_equal(then, now)
    assert live.programs == ("q",)


def test_searching_while_another_thread_refreshes(catalog: Catalog) -> None:
    """No search fails or sees an id that was never there."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    stop, failures = threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            try:
                ids = live.search(grid(3, 3), 5).ids
                assert ((ids >> 24) <= 12).all()
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    other = Catalog.open(catalog.path)
    for seed in range(10):
        add(other, f"p{seed % 3}", seed)
        live.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_frames_on_their_way_in_are_not_seen(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """While a refresh puts in a program part by part, searches answer as before it; then as after it."""
    before = {"p": assets_of(1, (20, 9)), "q": assets_of(2)}
    after = before | {"twin": assets_of(1, (20, 9, 30))}
    add(catalog, "p", 1, (20, 9))
    add(catalog, "q", 2)
    live = LiveIndex.open(catalog, kind=kind)
    add(catalog, "p", 1, (20, 9))
    add(catalog, "twin", 1, (20, 9, 30))
    monkeypatch.setattr(live_module, "_ADD_ROWS", 6)
    vectors_at, held = LiveView.vectors_at, list[int]()

    def look(view: LiveView, rows: np.ndarray) -> np.ndarray:
        held.append(live._faiss.ntotal)
        assert_answers(live, before, {"p": 1, "q": 2}, seed=len(held))
        return vectors_at(view, rows)

    with monkeypatch.context() as patch:
        patch.setattr(LiveView, "vectors_at", look)
        assert live.refresh()
    new = 2 * 29 + 30
    assert held == ([40] if kind == "flat" else [40 + n for n in range(0, new, 6)])
    assert_shows(live, catalog, after)


def test_one_who_searches_without_a_pause_keeps_no_refresh_waiting(catalog: Catalog) -> None:
    """A refresh has its turn after the search that is under way, and before the next one."""
    add(catalog, "p", 1)
    live = LiveIndex.open(Catalog.open(catalog.path))
    add(catalog, "q", 2)
    thread = threading.Thread(target=live.refresh)
    with live._using_faiss:  # as a search does
        thread.start()
        while len(live._using_faiss._queue) < 2:
            assert thread.is_alive()
            time.sleep(0.001)
        assert live.programs == ("p",)
    live.search(grid(1, 1), 1)
    assert live.programs == ("p", "q")
    thread.join(20)


# ---------------------------------------------------------------- saving


def test_saving_waits_for_a_tenth(catalog: Catalog) -> None:
    """A small program beside a large base is not worth a rewrite; a tenth new or gone is."""
    add(catalog, "large", 1, (100,))
    live = LiveIndex.open(catalog)
    assert save(live, catalog)
    assert not save(live, catalog)
    add(catalog, "small", 2, (10,))
    assert not save(live, catalog)
    assert save(live, catalog, force=True)
    add(catalog, "small", 3, (12,))
    assert save(live, catalog)
    assert (live.view.base.shape[0], live.view.tail.shape[0]) == (112, 0)
    with catalog.writing() as writer:
        writer.remove_programs(["small"])
        assert not live.save(writer) or live.view.base.shape[0] == 100
        writer.remove_programs(["large"])
        assert live.save(writer)
    assert live.view.base.shape == (0, D)
    cache = next((catalog.path / "cache").iterdir())
    assert len(list(cache.iterdir())) == 2, "one snapshot and CURRENT"


def test_what_killed_savers_left_is_deleted(catalog: Catalog) -> None:
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    save(live, catalog)
    cache = next((catalog.path / "cache").iterdir())
    (cache / "tmp-snap-000009-00").mkdir()
    (cache / "tmp-snap-000009-00" / "vectors.npy").write_bytes(b"half")
    (cache / "CURRENT.tmp-1").write_text("half")
    assert LiveIndex.open(catalog).verify(full=True) == []
    save(live, catalog, force=True)
    assert len(list(cache.iterdir())) == 2


def test_saving_wants_a_writer_of_the_same_store(catalog: Catalog, tmp_path: Path) -> None:
    live, other = LiveIndex.open(catalog), Catalog.create(tmp_path / "other", MODEL)
    with other.writing() as writer, pytest.raises(ValueError, match="the writer is of"):
        live.save(writer)
    with catalog.writing() as writer:
        pass
    for change in (live.save, live.rebuild):
        with pytest.raises(ValueError, match="released"):
            change(writer)


def test_a_long_lived_reader_moves_to_a_newer_snapshot(catalog: Catalog) -> None:
    """Its tail does not grow for ever; what it shows is the same."""
    model = {"p0": assets_of(0)}
    add(catalog, "p0", 0)
    writer_live, reader = LiveIndex.open(catalog), LiveIndex.open(Catalog.open(catalog.path))
    save(writer_live, catalog)
    for i in range(1, 6):
        model[f"p{i}"] = assets_of(i)
        add(catalog, f"p{i}", i)
        if i == 4:
            save(writer_live, catalog)
        reader.refresh()
    assert (reader.view.base.shape[0], reader.view.tail.shape[0]) == (55, 11)
    assert_shows(reader, catalog, model)


# ---------------------------------------------------------------- damage


def _files(store: Path) -> Path:
    cache = next((store / "cache").iterdir())
    return cache / (cache / "CURRENT").read_text().strip()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 0x10
    path.write_bytes(content)


def _manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads(path.read_text()) | changes
    del manifest["checksum"]
    manifest["checksum"] = snapshot_module._checksum(manifest)
    path.write_text(json.dumps(manifest))


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{
        f"{name} {how.__name__}": (lambda f, name=name, how=how: how(f / name))
        for name in ("vectors.npy", "t_seconds.npy", "assets.npy", "index.faiss", "manifest.json")
        for how in (_truncate, _flip, Path.unlink)
    },
    "foreign model": lambda f: _manifest(f / "manifest.json", fingerprint="fp-9"),
    "other d": lambda f: _manifest(f / "manifest.json", d=D + 1),
    "newer format": lambda f: _manifest(f / "manifest.json", format=99),
    "arrays disagree": lambda f: _manifest(f / "manifest.json", n=3),
    "no folder": shutil.rmtree,
    "CURRENT is junk": lambda f: (f.parent / "CURRENT").write_text("../../etc"),
    "CURRENT is no text": lambda f: (f.parent / "CURRENT").write_bytes(b"\xff\xfe\xff"),
}


@pytest.fixture(scope="module")
def saved_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two programs and a snapshot with centroids, to be copied."""
    catalog = Catalog.create(tmp_path_factory.mktemp("saved") / "store", MODEL)
    for seed, name in ((1, "p"), (2, "q")):
        add(catalog, name, seed)
    save(LiveIndex.open(catalog, kind="ivf"), catalog)
    return catalog.path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_warned_of_and_rebuilt(
    saved_store: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; the same answers from the tables; verify says so until a rebuild repairs it."""
    shutil.copytree(saved_store, tmp_path / "copy")
    catalog = Catalog.open(tmp_path / "copy")
    model = {"p": assets_of(1), "q": assets_of(2)}
    DAMAGES[damage](_files(catalog.path))
    with caplog.at_level(logging.WARNING):
        live = LiveIndex.open(Catalog.open(catalog.path), kind="ivf")
    assert len(caplog.records) == 1
    assert "reading everything from the tables" in caplog.text
    problems = live.verify(full=True)
    assert len(problems) == 1
    with catalog.writing() as writer:
        live.rebuild(writer)
    caplog.clear()
    for again in (live, LiveIndex.open(Catalog.open(catalog.path), kind="ivf")):
        assert_shows(again, catalog, model)
    assert caplog.records == []


def test_no_cache_at_all_is_no_fault(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    save(live, catalog)
    shutil.rmtree(catalog.path / "cache")
    assert_shows(LiveIndex.open(catalog), catalog, {"p": assets_of(1)})
    assert caplog.records == []


def test_large_vectors_are_checksummed_only_when_asked(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening 30 GB must not read 30 GB; verify does, and finds the flipped bit."""
    add(catalog, "p", 1)
    save(LiveIndex.open(catalog, kind="ivf"), catalog)
    monkeypatch.setattr(snapshot_module, "CHECKSUM_MAX_BYTES", 10)
    _flip(_files(catalog.path) / "vectors.npy")
    live = LiveIndex.open(catalog, kind="ivf")
    assert live.verify() == []
    problems = live.verify(full=True)
    assert any("vectors.npy fails its checksum" in line for line in problems)
    assert any("'p': 1 frames differ" in line for line in problems)
    assert any("FAISS holds other vectors for 1" in line for line in problems)


def test_a_snapshot_of_another_history_is_not_believed(
    catalog: Catalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cache of another store, copied here: the same numbers, other frames."""
    add(catalog, "p", 1, (9, 9))
    save(LiveIndex.open(catalog), catalog)
    other = Catalog.create(tmp_path / "other", MODEL)
    add(other, "x", 2, (3,))
    shutil.copytree(catalog.path / "cache", other.path / "cache")
    live = LiveIndex.open(other)
    assert "other frames in the tables" in caplog.text
    assert_shows(live, other, {"x": assets_of(2, (3,))})


def test_a_faiss_index_of_other_frames_is_made_anew(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """index.faiss is whole, but not of this snapshot; or is no index at all."""
    add(catalog, "p", 1)
    add(catalog, "q", 2)
    model = {"p": assets_of(1), "q": assets_of(2)}
    save(LiveIndex.open(catalog, kind="ivf"), catalog)
    folder = _files(catalog.path)
    fewer = FaissIndex(D, kind="ivf")
    fewer.add(grid(1, 3), np.arange(3) + id_range(1)[0])
    for write, why in (
        (fewer.write, "holds other frames"),
        (lambda path: path.write_bytes(b"x"), "no readable FAISS"),
    ):
        write(folder / "index.faiss")
        files = json.loads((folder / "manifest.json").read_text())["files"]
        size = (folder / "index.faiss").stat().st_size
        files["index.faiss"] = [size, snapshot_module._pages_checksum(folder / "index.faiss")]
        _manifest(folder / "manifest.json", files=files)
        caplog.clear()
        live = LiveIndex.open(catalog, kind="ivf")
        assert why in caplog.text
        assert_shows(live, catalog, model)


def test_a_snapshot_replaced_while_it_is_read(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that finds its snapshot deleted by a saver takes the new one."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    save(live, catalog)
    load, calls = snapshot_module._load, []

    def slow_load(folder: Path, **options: Any) -> Any:
        calls.append(folder)
        if len(calls) == 1:
            monkeypatch.setattr(snapshot_module, "_load", load)
            save(live, catalog, force=True)
            monkeypatch.setattr(snapshot_module, "_load", slow_load)
        return load(folder, **options)

    monkeypatch.setattr(snapshot_module, "_load", slow_load)
    cache = _files(catalog.path).parent
    snapshot = load_snapshot(cache, fingerprint=MODEL.fingerprint, d=D)
    assert snapshot is not None
    assert len(set(calls)) == 2


def test_damaged_tables_are_an_error_not_a_partial_answer(catalog: Catalog) -> None:
    """Missing frames and missing assets: opening fails; a running reader keeps its state."""
    add(catalog, "p", 1)
    add(catalog, "q", 2)
    live = LiveIndex.open(catalog)
    catalog._tables["frames"].delete(f"id = {id_range(2)[0] + 1}")
    assert live.verify() == ["program 'q': the tables hold 10 frames, the index 11"]
    with pytest.raises(CatalogError, match=r"1 frames are missing or double .*'q'"):
        LiveIndex.open(catalog)
    add(catalog, "r", 3)
    assert live.refresh()  # q's frames are held since before
    catalog._tables["assets"].delete("program_id = 'r' AND ordinal = 0")
    with pytest.raises(CatalogError, match=r"'r' says 3 assets with 11 frames, .* has 2 with 7"):
        LiveIndex.open(catalog)
    add(catalog, "s", 4)
    with pytest.raises(CatalogError, match="'r' says"):
        live.refresh()
    assert live.programs == ("p", "q", "r")
    assert any("'r' says" in line for line in live.verify())


def test_rows_doubled_in_the_tables_are_found(catalog: Catalog) -> None:
    """Two processes that merged without the lock, say; and ordinals beyond the program's frames."""
    add(catalog, "p", 1)
    frames = catalog._tables["frames"]
    frames.add(frames.search().where(f"id = {id_range(1)[0]}").to_arrow())
    with pytest.raises(CatalogError, match="1 frames are missing or double and 0 too many"):
        LiveIndex.open(catalog)
    frames.delete(f"id = {id_range(1)[0] + 10}")
    catalog._tables["assets"].delete("ordinal = 2")
    catalog._tables["programs"].update(values={"asset_count": 2, "frame_count": 4})
    with pytest.raises(CatalogError, match="6 too many"):
        LiveIndex.open(catalog)


def test_verify_finds_values_that_differ(catalog: Catalog) -> None:
    """A time, an asset, and a vector changed in the tables; a vector and a frame lost in FAISS."""
    add(catalog, "p", 1)
    live, frames, first = LiveIndex.open(catalog), catalog._tables["frames"], id_range(1)[0]
    frames.update(where=f"id = {first}", values={"t_seconds": 0.25})
    frames.update(where=f"id = {first + 1}", values={"asset_id": "a2"})
    assert live.verify() == []
    assert live.verify(full=True) == ["program 'p': 2 frames differ from the tables"]
    live.rebuild()
    assert live.frames_of_asset(0)[1][0] == 0.25
    live._faiss.remove_range(first, first + 1)
    assert live.verify() == ["FAISS holds 10 frames that are not the 11 of the tables"]
    live._faiss.add(np.ones((1, D), np.float32) * 9, np.array([first]))
    assert live.verify() == []
    assert "FAISS holds other vectors for 1 frames" in live.verify(full=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_refresh_that_dies_putting_in_shows_the_former_state(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, kind: str, dies_at: int
) -> None:
    """Memory runs out at some part of a program: nothing of it stays, and the next refresh shows all."""
    add(catalog, "p", 1)
    add(catalog, "q", 3)
    live = LiveIndex.open(catalog, kind=kind)
    add(catalog, "p", 2)
    put_in, times = type(live._faiss).add, [0]

    def dying(self: FaissIndex, xb: np.ndarray, ids: np.ndarray) -> None:
        times[0] += 1
        if times[0] == dies_at:
            raise MemoryError
        put_in(self, xb, ids)

    monkeypatch.setattr(live_module, "_ADD_ROWS", 4)
    monkeypatch.setattr(live_module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(FaissIndex, "add", dying)
    with pytest.raises(MemoryError):
        live.refresh()
    monkeypatch.undo()
    assert (live.ntotal, live.kind) == (22, kind)
    numbers = {record.program_id: record.number for record in live.program_records}
    assert_answers(live, {"p": assets_of(1), "q": assets_of(3)}, numbers)
    assert live.refresh()
    assert live.kind == kind
    assert_shows(live, catalog, {"p": assets_of(2), "q": assets_of(3)})


def test_a_refresh_that_dies_taking_out_starts_over(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is gone from FAISS cannot be put back: nothing is shown until the next refresh."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog, kind="ivf")
    add(catalog, "p", 2)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(FaissIndex, "remove_ranges", fail)
    with pytest.raises(MemoryError):
        live.refresh()
    monkeypatch.undo()
    assert live.ntotal == 0
    assert live.refresh()
    assert live.kind == "ivf"
    assert_shows(live, catalog, {"p": assets_of(2)})


def test_tables_that_change_while_they_are_read(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading starts over; with no end to it, an error."""
    add(catalog, "p", 1)
    other, seeds = Catalog.open(catalog.path), iter(range(2, 100))
    read, times = live_module.read_frames, [1]

    def meddle(from_catalog: Catalog, *args: Any) -> Any:
        if times[0]:
            times[0] -= 1
            add(other, "p", next(seeds))
            from_catalog.refresh()
        return read(from_catalog, *args)

    monkeypatch.setattr(live_module, "read_frames", meddle)
    live = LiveIndex.open(catalog)
    assert_shows(live, catalog, {"p": assets_of(2)})
    times[0] = 100
    with pytest.raises(CatalogError):
        LiveIndex.open(catalog)


def test_reading_changes_no_file(catalog: Catalog) -> None:
    """Opening, searching, refreshing and verifying write nothing, with a good snapshot or a bad one."""
    add(catalog, "p", 1)
    save(LiveIndex.open(catalog, kind="ivf"), catalog)

    def files() -> dict[str, tuple[int, int]]:
        found = (path for path in catalog.path.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    for _ in range(2):
        before = files()
        live = LiveIndex.open(Catalog.open(catalog.path), kind="ivf")
        live.search(grid(1, 2), 3)
        live.refresh()
        live.verify(full=True)
        live.rebuild()
        live.frames_of_asset(0)
        assert files() == before
        _truncate(_files(catalog.path) / "index.faiss")


def test_a_snapshot_of_the_wrong_number_of_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 rows were given for a snapshot of 2"):
        save_snapshot(
            tmp_path,
            fingerprint="f",
            d=2,
            version=1,
            kind="flat",
            assets=np.array([[1, 0, 2]]),
            t_seconds=np.zeros(2),
            vector_blocks=[np.zeros((1, 2), np.float16)],
            write_index=None,
        )
    assert load_snapshot(tmp_path, fingerprint="f", d=2) is None
    assert issubclass(SnapshotError, IndexStoreError)
