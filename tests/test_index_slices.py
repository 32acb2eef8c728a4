"""Slices of an index, without the processes that hold them: by value what the whole index says."""

from __future__ import annotations

from pathlib import Path

import made_store
import numpy as np
import pytest

from index.base import NO_ID
from index.catalog import Catalog
from index.live import LiveIndex
from index.serving import EnginePlan
from index.slices import Slice, SlicedIndex


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = made_store.make_store(tmp_path_factory.mktemp("made") / "store", programs=6, clips=1)
    catalog = Catalog.open(path)
    with catalog.writing() as writer:
        writer.remove_programs(["p1"])
    return catalog


def _sliced(catalog: Catalog, count: int) -> SlicedIndex:
    slices = [Slice(catalog, place, count) for place in range(count)]
    return SlicedIndex(catalog, lambda xq, k: [each.search(xq, k) for each in slices])


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_what_slices_say_together_is_what_the_whole_index_says(catalog: Catalog, count: int) -> None:
    """Also where a slice is empty, and where all of them have fewer frames than are asked for."""
    live, sliced = LiveIndex.open(catalog), _sliced(catalog, count)
    xq = np.random.default_rng(2).normal(size=(20, made_store.D)).astype(np.float32)
    assert (sliced.ntotal, sliced.version) == (live.ntotal, live.version)
    for k in (1, 7, live.ntotal + 3):
        one, several = live.search(xq, k), sliced.search(xq, k)
        np.testing.assert_array_equal(several.ids, one.ids)
        np.testing.assert_allclose(several.similarities, one.similarities, rtol=0, atol=1e-6)
    assert (several.ids[:, -1] == NO_ID).all()


def test_the_view_of_slices_reads_what_the_whole_index_holds(catalog: Catalog) -> None:
    view, whole = _sliced(catalog, 2).view, LiveIndex.open(catalog).view
    ids, _ = whole.live_rows()
    for name in ("program_position", "asset_position", "t_seconds"):
        np.testing.assert_array_equal(getattr(view.locate(ids), name), getattr(whole.locate(ids), name))
    for asset in range(len(whole.assets)):
        for one, other in zip(
            view.frames_between(asset, 3.0, 17.5), whole.frames_between(asset, 3.0, 17.5), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert view.programs == whole.programs


def test_ties_go_to_the_lower_id_across_slices(tmp_path: Path) -> None:
    """The same frame in every program: neighbours come by id, whichever slice they are of."""
    from index.rows import NewAsset, NewProgram

    catalog = Catalog.create(tmp_path / "store", made_store.MODEL)
    frame = np.eye(1, made_store.D, dtype=np.float32)
    with catalog.writing() as writer:
        for number in range(5):
            writer.add_program(NewProgram(f"p{number}"), [NewAsset("a", "", "", 1.0, np.zeros(1), frame)])
    found = _sliced(catalog, 3).search(frame, 5)
    assert found.ids[0].tolist() == sorted(found.ids[0].tolist())


def test_a_slice_with_lists_finds_its_own_frames(catalog: Catalog) -> None:
    part = Slice(catalog, 0, 2, EnginePlan("ivf-fp16", nprobe=1000))
    numbers = {record.number for record in catalog.programs() if record.number % 2 == 0}
    assert part.ntotal == made_store.SECONDS * len(numbers)
    vectors = catalog.frames_of(min(numbers)).vectors
    found = part.search(vectors, 1)
    np.testing.assert_array_equal(found.ids[:, 0], catalog.frames_of(min(numbers)).ids)


def test_what_cannot_be_cut_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="make more slices"):
        Slice(catalog, 0, 2, EnginePlan("ivf-pq"))
    with pytest.raises(ValueError, match=r"place must be in \[0, 2\), got 2"):
        Slice(catalog, 2, 2)
    with pytest.raises(ValueError, match="holds no sounds"):
        Slice(catalog, 0, 2, table="sounds")
