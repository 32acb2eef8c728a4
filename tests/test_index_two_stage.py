"""Two stages answer as brute force where every stretch is read, whatever happened to the catalog before."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.catalog import Catalog, FrameReader, ModelInfo, NewAsset, NewProgram
from index.errors import CatalogError
from index.exact import ExactIndex
from index.rows import KINDS as TABLES
from index.rows import Kind, id_range
from index.stretches import PAGE_FRAMES, Cut, Pages, runs_of, stretch_starts, stretch_vectors
from index.two_stage import TwoStageIndex

D, DS = 6, 4
EVERY = 1 << 20


def vectors_of(seed: int, n: int, d: int = D) -> np.ndarray:
    """Vectors whose inner products are exact, so that answers can be compared as they stand."""
    return np.random.default_rng(seed).integers(-2, 3, size=(n, d)).astype(np.float32) / 2


def assets_of(seed: int, sizes: tuple[int, ...] = (9, 0, 1, 30)) -> list[NewAsset]:
    """Assets with so many frames two seconds apart, and half as many sounds."""
    return [
        NewAsset(
            f"a{i}", "", "", n * 2.0, np.arange(n) * 2.0 + seed % 5, vectors_of(seed * 10 + i, n),
            (np.arange(n // 2) * 1.5, vectors_of(seed * 10 + i, n // 2, DS)),
        )
        for i, n in enumerate(sizes)
    ]  # fmt: skip


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.create(tmp_path / "store", ModelInfo("fp-1", "embedded", D))
    with catalog.writing() as writer:
        writer.use_sound(ModelInfo("fp-s", "listener", DS))
    return catalog


def add(catalog: Catalog, program_id: str, assets: list[NewAsset]) -> list[NewAsset]:
    with catalog.writing() as writer:
        writer.add_program(NewProgram(program_id), assets)
    return assets


def save(index: TwoStageIndex, catalog: Catalog, *, force: bool = False) -> bool:
    with catalog.writing() as writer:
        return index.save(writer, force=force)


def descriptors_of(asset: NewAsset, table: Kind) -> tuple[np.ndarray, np.ndarray]:
    if table == "frames":
        return asset.t_seconds, asset.vectors
    assert asset.sound is not None
    return asset.sound


def assert_shows(index: TwoStageIndex, catalog: Catalog, model: dict[str, list[NewAsset]]) -> None:
    """Search, locate and frames are those of ``model`` by value, and verify agrees."""
    numbers = {record.program_id: record.number for record in catalog.programs()}
    exact = ExactIndex(index.d)
    view = index.view
    assert sorted(view.programs) == sorted(model)
    assert index.version == view.version == catalog.version()
    positions = {(record.program_id, record.asset_id): i for i, record in enumerate(view.assets)}
    for program_id, assets in model.items():
        first = id_range(numbers[program_id])[0]
        for asset in assets:
            times, vectors = descriptors_of(asset, index.table)
            ids = np.arange(first, first + times.size)
            exact.add(vectors, ids)
            first += times.size
            found = view.locate(ids)
            position = positions[program_id, asset.asset_id]
            assert (found.asset_position == position).all()
            np.testing.assert_array_equal(found.t_seconds, times)
            for got, wanted in zip(view.frames_of_asset(position), (ids, times, vectors), strict=True):
                np.testing.assert_array_equal(got, wanted)
            for got, wanted in zip(
                view.frames_between(position, 3.0, 9.0), (ids, times, vectors), strict=True
            ):
                np.testing.assert_array_equal(got, wanted[(times >= 3.0) & (times < 9.0)])
    assert index.ntotal == exact.ntotal
    xq = vectors_of(999, 5, index.d)
    got, want = index.search(xq, 9), exact.search(xq, 9)
    np.testing.assert_array_equal(got.similarities, want.similarities)
    np.testing.assert_array_equal(got.ids, want.ids)
    ids, rows = view.live_rows()
    backwards = rows[::-1]
    where = {name: row for row, name in enumerate(exact._ids.tolist())}
    np.testing.assert_array_equal(
        view.vectors_at(backwards), exact._vectors[[where[i] for i in ids[::-1].tolist()]]
    )
    assert index.verify() == index.verify(full=True) == []


# ---------------------------------------------------------------- cutting


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 60),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.9]),
    longest=st.sampled_from([0.5, 7.0, 30.0]),
)
def test_stretches_are_whole_short_and_no_more_than_the_share(
    seed: int, n: int, share: float, longest: float
) -> None:
    times = np.cumsum(np.random.default_rng(seed).uniform(0.1, 5.0, n))
    starts = stretch_starts(times, vectors_of(seed, n), Cut(share, longest))
    assert starts.tolist()[:1] == [0][:n]
    assert (np.diff(starts) > 0).all()
    for start, stop in zip(starts.tolist(), [*starts.tolist()[1:], n], strict=False):
        assert times[stop - 1] - times[start] < longest
    if n:
        assert starts.size <= 1 + share * (n - 1) + (times[-1] - times[0]) / longest


def test_a_cut_is_where_neighbours_are_least_alike() -> None:
    shots = np.repeat(np.eye(4, dtype=np.float32), [3, 5, 2, 10], axis=0)
    times = np.arange(20.0)
    assert stretch_starts(times, shots, Cut(0.2)).tolist() == [0, 3, 8, 10]
    assert stretch_starts(times, shots, Cut(0.2, 8.0)).tolist() == [0, 3, 8, 10, 18]
    assert stretch_starts(times, shots, Cut(0.0, 8.0)).tolist() == [0, 8, 16]
    still = np.ones((20, 4), np.float32)
    assert stretch_starts(times, still, Cut(0.2)).tolist() == [0]


def test_a_stretch_is_its_mean_at_unit_length() -> None:
    vectors = np.array([[1, 0], [0, 1], [3, 4], [1, 0], [-1, 0]], np.float32)
    got = stretch_vectors(vectors, np.array([0, 2, 3])).astype(np.float32)
    np.testing.assert_allclose(got, [[2**-0.5, 2**-0.5], [0.6, 0.8], [0, 0]], atol=1e-3)
    assert stretch_vectors(vectors[:0], np.zeros(0, np.int64)).shape == (0, 2)


def test_runs_are_as_few_as_there_can_be() -> None:
    assert runs_of(np.array([3, 4, 5, 9, 11, 12])) == [(3, 6), (9, 10), (11, 13)]
    assert runs_of(np.zeros(0, np.int64)) == []


@pytest.mark.parametrize("cut", [(-0.1, 30.0), (1.0, 30.0), (0.2, 0.0)])
def test_a_cut_that_makes_no_sense_is_refused(cut: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Cut(*cut)


# ---------------------------------------------------------------- searching


@pytest.mark.parametrize("table", TABLES)
def test_changes_are_followed_and_survive_reopening(catalog: Catalog, table: Kind) -> None:
    """Add, replace, remove, save, compact: this index, another reader and one opened anew stay right."""
    index = TwoStageIndex.open(catalog, table=table, stretches=EVERY)
    reader_catalog = Catalog.open(catalog.path)
    reader = TwoStageIndex.open(reader_catalog, table=table, stretches=EVERY)
    assert_shows(index, catalog, {})
    model = {name: add(catalog, name, assets_of(i)) for i, name in enumerate("abc")}
    model["bare"] = add(catalog, "bare", [])
    model["blank"] = add(catalog, "blank", assets_of(7, (0,)))
    assert index.refresh()
    assert_shows(index, catalog, model)
    assert save(index, catalog)
    model["b"] = add(catalog, "b", assets_of(20, (1, 5)))
    with catalog.writing() as writer:
        writer.remove_programs(["a"])
        del model["a"]
    for each, of in ((index, catalog), (reader, reader_catalog)):
        assert each.refresh()
        assert not each.refresh()
        assert_shows(each, of, model)
    reopened = TwoStageIndex.open(Catalog.open(catalog.path), table=table, stretches=EVERY)
    assert_shows(reopened, catalog, model)
    with catalog.writing() as writer:
        writer.compact(keep_seconds=0)
    for each, of in ((index, catalog), (reader, reader_catalog)):
        each.search(vectors_of(1, 1, each.d), 1)  # of a moment whose files may be gone
        each.refresh()
        assert_shows(each, of, model)
    assert save(index, catalog, force=True)
    with catalog.writing() as writer:
        index.rebuild(writer)
    assert_shows(TwoStageIndex.open(catalog, table=table, stretches=EVERY), catalog, model)


def test_after_a_compaction_a_refresh_is_enough(catalog: Catalog) -> None:
    """Though no program has changed: frames are read from the tables as they are now."""
    for i in range(3):
        add(catalog, f"p{i}", assets_of(i, (9,)))
    index = TwoStageIndex.open(catalog)
    with catalog.writing() as writer:
        writer._table("programs").optimize()
    index.refresh()
    before = index.view.frames_of_asset(1)[2]
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p9"), assets_of(9, (9,)))
        writer.remove_programs(["p9"])
        writer.compact(keep_seconds=0)
    index.refresh()
    view = index.view
    view.pages._pages.clear()  # so that the tables are asked
    np.testing.assert_array_equal(view.frames_of_asset(1)[2], before)


def test_rows_do_not_depend_on_one_another_nor_on_how_much_is_read_at_once(catalog: Catalog) -> None:
    for i in range(5):
        add(catalog, f"p{i}", assets_of(i, (40, 40)))
    index = TwoStageIndex.open(catalog, stretches=3)
    xq = vectors_of(5, 12)
    together = index.search(xq, 7)
    read = index.frames_read
    for row in range(12):
        alone = index.search(xq[row : row + 1], 7)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_array_equal(alone.similarities[0], together.similarities[row])
    assert index.frames_read - read > read, "what several rows want is read once"
    few = TwoStageIndex.open(catalog, stretches=3, max_frames=1).search(xq, 7)
    np.testing.assert_array_equal(few.ids, together.ids)


def test_a_query_meets_the_frames_of_its_nearest_stretches_alone(catalog: Catalog) -> None:
    shots = np.repeat(np.eye(D, dtype=np.float32), 4, axis=0)
    add(catalog, "p", [NewAsset("a", "", "", 24.0, np.arange(24.0), shots)])
    index = TwoStageIndex.open(catalog, stretches=1, cut=Cut(0.25))
    assert index.n_stretches == 6
    found = index.search(shots[9:10], 6)
    assert (found.ids[0] & 0xFFFF).tolist()[:4] == [8, 9, 10, 11]
    assert found.ids[0, 4:].tolist() == [-1, -1]
    assert index.frames_read == 4


def test_what_makes_no_sense_is_refused(catalog: Catalog) -> None:
    for words in ({"stretches": 0}, {"max_frames": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            TwoStageIndex.open(catalog, **words)
    index = TwoStageIndex.open(catalog)
    assert index.search(np.zeros((0, D), np.float32), 3).ids.shape == (0, 3)
    with pytest.raises(ValueError, match="k must be"):
        index.search(vectors_of(1, 1), 0)
    with pytest.raises(ValueError, match="must be"):
        index.search(vectors_of(1, 1, D + 1), 1)


def test_a_search_looks_anew_where_its_moment_is_gone(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"p": add(catalog, "p", assets_of(1))}
    index = TwoStageIndex.open(catalog, stretches=EVERY)
    read, fails = FrameReader.read, [True]

    def gone(self: FrameReader, ranges: list[tuple[int, int]]) -> object:
        if fails.pop() if fails else False:
            raise CatalogError("dropped")
        return read(self, ranges)

    monkeypatch.setattr(FrameReader, "read", gone)
    index.search(vectors_of(1, 1), 1)
    assert not fails
    assert_shows(index, catalog, model)
    model["q"] = add(catalog, "q", assets_of(2))
    fails.append(True)
    index.search(vectors_of(1, 1), 1)
    assert_shows(index, catalog, model)  # without a refresh: the search came upon it
    fails += [True, True]
    with pytest.raises(CatalogError, match="dropped"):
        index.search(vectors_of(1, 1), 1)


def test_a_search_within_programs_or_parts_of_them_finds_those_alone(catalog: Catalog) -> None:
    for i in range(4):
        add(catalog, f"p{i}", assets_of(i))
    every = TwoStageIndex.open(catalog, stretches=EVERY)
    xq, ids = vectors_of(5, 6), every.view.live_rows()[0]
    vectors = every.view.vectors_of(ids).astype(np.float32)
    first = id_range(2)[0]
    for within in ([id_range(1), id_range(3)], [(first + 3, first + 8)], [(first, first)], []):
        inside = np.array([any(low <= i < high for low, high in within) for i in ids.tolist()])
        exact = ExactIndex(D)
        exact.add(vectors[inside], ids[inside])
        got, want = every.search(xq, 9, within=within), exact.search(xq, 9)
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.similarities, want.similarities)
    one = TwoStageIndex.open(catalog, stretches=1).search(xq, 1, within=[id_range(3)])
    assert (one.ids >> 24 == 3).all(), "stretches of other programs take no place"


# ---------------------------------------------------------------- the cache, and damage


def test_opening_reads_no_vectors_where_the_snapshot_is_good(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:

    def nothing_to_read(_: Catalog, numbers: dict[int, object], **__: object) -> list[object]:
        assert not numbers
        return []

    model = {"p": add(catalog, "p", assets_of(1))}
    save(TwoStageIndex.open(catalog), catalog)
    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "iter_frames", nothing_to_read)
        index = TwoStageIndex.open(catalog, stretches=EVERY)
    assert_shows(index, catalog, model)
    otherwise = TwoStageIndex.open(catalog, cut=Cut(0.5), stretches=EVERY)  # of another cache, none as yet
    assert otherwise.n_stretches > index.n_stretches
    assert_shows(otherwise, catalog, model)


@pytest.mark.parametrize("name", ["vectors.npy", "assets.npy", "t_seconds.npy", "manifest.json"])
def test_a_damaged_snapshot_is_warned_of_and_made_anew(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    model = {"p": add(catalog, "p", assets_of(1))}
    save(TwoStageIndex.open(catalog), catalog)
    file = next(catalog.path.glob(f"cache/*/snap-*/{name}"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 0x40
    file.write_bytes(bytes(content))
    with caplog.at_level(logging.WARNING):
        index = TwoStageIndex.open(catalog, stretches=EVERY)
    assert len(caplog.records) == 1
    assert len(index.verify()) == 1
    with catalog.writing() as writer:
        index.rebuild(writer)
    assert_shows(index, catalog, model)


def test_stretches_of_other_frames_are_refused(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    """A whole snapshot, but the tables give its number more frames, or others."""
    add(catalog, "p", assets_of(1, (30,)))
    index = TwoStageIndex.open(catalog)
    save(index, catalog)
    view = index._coarse._view
    view.row_seconds[-1] = 40.0
    index._coarse._save()
    with caplog.at_level(logging.WARNING):
        again = TwoStageIndex.open(catalog)
    assert "not of the tables' frames" in caplog.text
    assert again.verify(full=True) == []


def test_frames_lost_or_doubled_in_the_tables_are_an_error(catalog: Catalog) -> None:
    add(catalog, "p", assets_of(1))
    model = {"q": add(catalog, "q", assets_of(2))}
    index = TwoStageIndex.open(catalog, stretches=EVERY)
    save(index, catalog)
    frames, first = catalog._tables["frames"], id_range(1)[0]
    row = frames.search().where(f"id = {first + 3}").to_arrow()
    frames.delete(f"id = {first + 3}")
    for open_anew in (lambda: TwoStageIndex.open(catalog), index.rebuild):
        with pytest.raises(CatalogError, match="'p'"):
            open_anew()
    assert any("'p'" in line for line in index.verify())
    index._coarse.reopen()
    with pytest.raises(CatalogError, match=r"hold \d+ of \d+ frames"):
        index.search(vectors_of(3, 2), 4)
    frames.add(row)
    frames.add(row)
    with pytest.raises(CatalogError, match="'p'"):
        TwoStageIndex.open(catalog, cut=Cut(0.5))
    with catalog.writing() as writer:
        writer.remove_programs(["p"])
    assert_shows(TwoStageIndex.open(catalog, stretches=EVERY), catalog, model)


def test_a_value_that_differs_is_found(catalog: Catalog) -> None:
    add(catalog, "p", assets_of(1))
    index = TwoStageIndex.open(catalog)
    catalog._tables["frames"].update(where=f"id = {id_range(1)[0] + 4}", values={"t_seconds": 9.25})
    assert index.verify() == []
    assert index.verify(full=True) == ["program 'p': 1 assets whose frames differ from the tables"]


def test_ids_are_indexed_once(catalog: Catalog) -> None:
    add(catalog, "p", assets_of(1))
    index = TwoStageIndex.open(catalog, stretches=EVERY)
    assert not catalog._tables["frames"].list_indices()
    save(index, catalog)
    version = catalog._tables["frames"].version
    assert len(catalog._tables["frames"].list_indices()) == 1
    assert not save(index, catalog)
    assert catalog._tables["frames"].version == version


def test_pages_are_bounded_and_read_once(catalog: Catalog) -> None:
    n = 5 * PAGE_FRAMES
    vectors = vectors_of(1, n)
    add(catalog, "p", [NewAsset("a", "", "", n, np.arange(n, dtype=np.float64), vectors)])
    reader, reads = catalog.reader(), []

    class Counted:
        def read(self, ranges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
            reads.append(ranges)
            return reader.read(ranges)

    pages, first = Pages(2 * PAGE_FRAMES), id_range(1)[0]

    def got(start: int, stop: int) -> None:
        ids, found = pages.read(Counted(), first + start, first + stop)  # type: ignore[arg-type]
        np.testing.assert_array_equal(ids, np.arange(first + start, first + stop))
        np.testing.assert_array_equal(found, vectors[start:stop])

    got(3, 10)
    got(0, PAGE_FRAMES)
    assert len(reads) == 1
    got(PAGE_FRAMES - 1, PAGE_FRAMES + 1)
    assert len(reads) == 2
    got(0, n)  # more than is held
    assert len(pages._pages) == 2
