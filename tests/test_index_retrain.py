"""New centroids beside the index that answers, their record and their drift; searches within programs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from test_index_live import MODEL, D, add, assert_shows, assets_of, catalog, grid, save

from index import live as live_module
from index import subset as subset_module
from index.catalog import Catalog
from index.engines import KINDS
from index.exact import ExactIndex
from index.faiss_backend import FaissIndex
from index.live import LiveIndex, saved_index
from index.rows import id_range
from index.subset import Subset

__all__ = ["catalog"]  # a fixture

INVERTED = [kind for kind in KINDS if kind != "flat"]


@pytest.mark.parametrize("kind", INVERTED)
@pytest.mark.parametrize("shards", [None, 2])
def test_retraining_swaps_centroids_and_readers_take_them(
    catalog: Catalog, kind: str, shards: int | None
) -> None:
    """A reader that knows the old centroids shows the new ones at its next refresh, and the same answers."""
    model = {}
    for i in range(6):
        add(catalog, f"p{i}", i)
        model[f"p{i}"] = assets_of(i)
    options = {"kind": kind, "shards": shards}
    live = LiveIndex.open(catalog, **options)
    save(live, catalog)
    reader = LiveIndex.open(Catalog.open(catalog.path), **options)
    first = live.training
    assert first is not None
    assert (first.n, reader.training) == (66, first)
    assert not reader.refresh()
    with catalog.writing() as writer:
        live.retrain(writer)
    assert live.training is not None
    assert live.training.token != first.token
    assert reader.refresh()
    assert reader.training == live.training
    assert reader.drift == live.drift
    assert not reader.refresh()
    for each in (live, reader, LiveIndex.open(catalog, **options)):
        assert_shows(each, catalog, model)


def test_a_reader_without_centroids_takes_those_that_are_made(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue has grown beyond flat: whoever saved first decides for all."""
    add(catalog, "p", 1)
    live, reader = LiveIndex.open(catalog), LiveIndex.open(Catalog.open(catalog.path))
    assert save(live, catalog)
    add(catalog, "q", 2)
    reader.refresh()
    assert reader.kind == "flat"
    monkeypatch.setattr(live_module, "choose_kind", lambda n: "ivf-fp16" if n > 11 else "flat")
    assert save(live, catalog)
    assert live.kind == "ivf-fp16"
    assert reader.refresh()
    assert reader.kind == "ivf-fp16"
    assert_shows(reader, catalog, {"p": assets_of(1), "q": assets_of(2)})


def test_searches_go_on_while_centroids_are_made(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search in the middle of the training is answered by the old index, at once."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog, kind="ivf")
    in_training, go_on = threading.Event(), threading.Event()
    train = FaissIndex.train

    def slow(self: FaissIndex, *args: object, **options: object) -> None:
        in_training.set()
        assert go_on.wait(30)
        train(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FaissIndex, "train", slow)

    def retrain() -> None:
        with catalog.writing() as writer:
            live.retrain(writer)

    thread = threading.Thread(target=retrain)
    thread.start()
    assert in_training.wait(30)
    before = live.search(grid(9, 3), 4)
    assert (before.ids >= 0).all()
    go_on.set()
    thread.join(30)
    np.testing.assert_array_equal(live.search(grid(9, 3), 4).similarities, before.similarities)


def test_a_flat_index_is_retrained_into_itself(catalog: Catalog) -> None:
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    with catalog.writing() as writer:
        live.retrain(writer)
    assert live.training is live.drift is None
    assert_shows(live, catalog, {"p": assets_of(1)})


def test_what_is_saved_is_told_without_loading_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind, size, training and drift from the manifest; nothing where there is none or it is damaged."""
    assert saved_index(catalog, MODEL.fingerprint) is None
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog, kind="ivf-fp16")
    save(live, catalog)
    monkeypatch.setattr(FaissIndex, "read", lambda *_, **__: pytest.fail("it was loaded"))
    saved = saved_index(catalog, MODEL.fingerprint)
    assert saved is not None
    assert (saved.kind, saved.n, saved.training, saved.drift) == ("ivf-fp16", 11, live.training, live.drift)
    assert saved.drift is not None
    assert saved.drift.recall == 1.0
    manifest = next((catalog.path / "cache").rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace('"n": 11', '"n": 12'))
    assert saved_index(catalog, MODEL.fingerprint) is None


@pytest.mark.parametrize("kind", KINDS)
def test_shards_answer_as_one_index_through_changes_and_reopening(catalog: Catalog, kind: str) -> None:
    """Three shards; another number of shards, or none, makes the index anew from the same snapshot."""
    model = {}
    for i in range(7):
        add(catalog, f"p{i}", i)
        model[f"p{i}"] = assets_of(i)
    live = LiveIndex.open(catalog, kind=kind, shards=3)
    save(live, catalog)
    with catalog.writing() as writer:
        writer.remove_programs(["p0"])
    del model["p0"]
    add(catalog, "p1", 50)
    model["p1"] = assets_of(50)
    for shards in (3, 2, None):
        assert_shows(LiveIndex.open(catalog, kind=kind, shards=shards), catalog, model)
    live.refresh()
    assert_shows(live, catalog, model)


# ---------------------------------------------------------------- which engine, and when it is made


def test_the_kind_that_was_saved_stays_until_it_is_saved_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little over the limit, nobody trains at each opening; the next save turns to the other kind."""
    for i in range(12):
        add(catalog, f"p{i}", i)
    live = LiveIndex.open(catalog)
    save(live, catalog)
    add(catalog, "new", 50)
    monkeypatch.setattr(live_module, "choose_kind", lambda n: "ivf-fp16" if n > 132 else "flat")
    assert LiveIndex.open(catalog).kind == "flat"
    assert not save(live, catalog)
    assert save(live, catalog, force=True)
    assert LiveIndex.open(catalog).kind == "ivf-fp16"


def test_centroids_that_are_not_saved_make_a_save_due(catalog: Catalog) -> None:
    """Trained at opening, because there was no cache or its index is damaged: once saved, never again."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog, kind="ivf")
    assert save(live, catalog)
    assert not save(live, catalog)
    next((catalog.path / "cache").rglob("index.faiss")).write_bytes(b"x")
    damaged = LiveIndex.open(catalog, kind="ivf")
    assert damaged.training != live.training
    assert save(damaged, catalog)
    assert LiveIndex.open(catalog, kind="ivf").training == damaged.training


def test_an_index_opened_empty_is_trained_on_what_comes_and_watched(catalog: Catalog) -> None:
    """Not by FAISS behind our back: it has a record, is saved with its centroids, and can be reopened."""
    live = LiveIndex.open(catalog, kind="ivf-fp16")
    add(catalog, "p", 1)
    assert live.refresh()
    assert live.training is not None
    assert live.training.n == 11
    save(live, catalog)
    assert LiveIndex.open(catalog, kind="ivf-fp16").training == live.training


def test_a_snapshot_replaced_while_it_is_opened_is_left_for_the_new_one(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer saves between the reading of the snapshot and of its FAISS index: nothing is trained."""
    add(catalog, "p", 1)
    writer_side = LiveIndex.open(catalog, kind="ivf")
    save(writer_side, catalog)
    read, times = LiveIndex._read_state, [0]

    def meddle(self: LiveIndex, held: set[int]) -> object:
        times[0] += 1
        if times[0] == 1:
            save(writer_side, catalog, force=True)
        return read(self, held)

    other = Catalog.open(catalog.path)
    with monkeypatch.context() as patch:
        patch.setattr(LiveIndex, "_read_state", meddle)
        patch.setattr(LiveIndex, "_build_faiss", lambda *_: pytest.fail("it was trained"))
        live = LiveIndex.open(other, kind="ivf")
    assert live.training == writer_side.training
    assert_shows(live, other, {"p": assets_of(1)})


@pytest.mark.parametrize(("saved", "wanted"), [(3, None), (1, None), (3, 2)])
def test_a_cache_of_another_number_of_shards_is_used_unless_one_is_asked_for(
    catalog: Catalog, saved: int, wanted: int | None
) -> None:
    add(catalog, "p", 1)
    writer_side = LiveIndex.open(catalog, kind="ivf", shards=saved)
    save(writer_side, catalog)
    live = LiveIndex.open(catalog, kind="ivf", shards=wanted)
    assert (live.training == writer_side.training) == (wanted is None)
    assert_shows(live, catalog, {"p": assets_of(1)})


def test_lists_to_visit_are_those_of_today_not_of_the_cache(catalog: Catalog) -> None:
    for i in range(8):
        add(catalog, f"p{i}", i)
    save(LiveIndex.open(catalog, kind="ivf", nprobe=1), catalog)
    live = LiveIndex.open(catalog, kind="ivf")
    assert live._faiss.raw.nprobe == live._faiss.nlist == 2
    assert LiveIndex.open(catalog, kind="ivf", nprobe=1)._faiss.raw.nprobe == 1


# ---------------------------------------------------------------- verifying a sample


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_compared_by_value(catalog: Catalog, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One program is wrong in FAISS, another in the view: both are found when they are drawn."""
    for i in range(4):
        add(catalog, f"p{i}", i)
    live = LiveIndex.open(catalog, kind=kind)
    assert live.verify(sample=2) == []
    assert live.verify(sample=99) == []
    third, fourth = (live.program_records[i].number for i in (2, 3))
    start, stop = id_range(third)
    live._faiss.remove_range(start, stop)
    live._faiss.add(np.full((11, D), 7, np.float32), np.arange(start, start + 11))
    row = int(live.view.first_row[live.view.program_position.tolist().index(3)])
    live.view.tail[row] += 1
    drawn: list[int] = []

    class Drawing:
        def choice(self, numbers: list[int], n: int, replace: bool) -> np.ndarray:
            return np.array(drawn)

    monkeypatch.setattr(np.random, "default_rng", Drawing)
    for numbers, problems in (([], 0), ([1, 2], 0), ([third], 1), ([fourth], 2), ([1, third, fourth], 2)):
        drawn[:] = numbers
        assert len(live.verify(sample=len(numbers))) == problems, (numbers, live.verify(sample=1))


# ---------------------------------------------------------------- within some programs


@pytest.mark.parametrize("most_exact", [10**6, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_within_some_programs_equals_brute_force_over_them(
    catalog: Catalog, kind: str, most_exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an exact index of their own and by the large one's filter; all other programs are not there."""
    monkeypatch.setattr(subset_module, "FLAT_MAX", most_exact)
    for i in range(8):
        add(catalog, f"p{i}", i)
    live = LiveIndex.open(catalog, kind=kind, nprobe=10**6)
    few = Subset(live, [1, 4, 5])
    exact = ExactIndex(D)
    for position in (1, 4, 5):
        record = live.program_records[position]
        vectors = np.concatenate([asset.vectors for asset in assets_of(int(record.program_id[1:]))])
        exact.add(vectors, np.arange(len(vectors)) + id_range(record.number)[0])
    assert (few.ntotal, few.version) == (33, live.version)
    xq = grid(77, 9)
    got, want = few.search(xq, 12), exact.search(xq, 12)
    np.testing.assert_array_equal(got.similarities, want.similarities)
    assert set(got.ids.ravel().tolist()) <= set(exact._ids.tolist())
    assert (few.search(xq, 40).ids[:, 33:] == -1).all()


def test_some_programs_follow_what_is_committed_of_them(catalog: Catalog, tmp_path: Path) -> None:
    """Replaced, another added, one removed: the same ids, as they are now."""
    for i in range(4):
        add(catalog, f"p{i}", i)
    live = LiveIndex.open(catalog)
    few = Subset(live, [1, 2])
    few.search(grid(1, 1), 1)
    assert not few.refresh()
    add(catalog, "p1", 30, (9,))
    add(catalog, "new", 31)
    with catalog.writing() as writer:
        writer.remove_programs(["p0", "p2"])
    assert few.refresh()
    assert few.ntotal == 9
    found = few.search(grid(1, 3), 20)
    assert np.count_nonzero(found.ids >= 0) == 27
    position = live.view.locate(found.ids[found.ids >= 0]).program_position
    assert {few.view.programs[place] for place in position.tolist()} == {"p1"}
    other = Catalog.create(tmp_path / "other", MODEL)
    assert Subset(LiveIndex.open(other), []).search(grid(1, 1), 2).ids.tolist() == [[-1, -1]]


def test_a_refresh_beside_a_first_search_leaves_no_old_frames(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exact index of the former state, finished later, must not serve the new one."""
    add(catalog, "p", 1)
    live = LiveIndex.open(catalog)
    few = Subset(live, [0])
    in_search, go_on = threading.Event(), threading.Event()
    put_in = FaissIndex.add

    def slow(self: FaissIndex, xb: np.ndarray, ids: np.ndarray) -> None:
        if threading.current_thread() is thread:
            in_search.set()
            assert go_on.wait(30)
        put_in(self, xb, ids)

    monkeypatch.setattr(FaissIndex, "add", slow)
    thread = threading.Thread(target=lambda: few.search(grid(1, 1), 1))
    thread.start()
    assert in_search.wait(30)
    add(catalog, "p", 2)
    assert few.refresh()
    go_on.set()
    thread.join(30)
    found = few.search(grid(1, 2), 5)
    assert (live.view.locate(found.ids).program_position == 0).all()
