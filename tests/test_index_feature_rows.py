"""Features of kept clips: they read back as they were kept, whole or by position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.catalog import Catalog, FeatureRecord, ModelInfo
from index.feature_rows import COLUMNS, array_of, records, to_row

MODEL = ModelInfo("fp", "frames", 4)


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16).astype(np.float32)


def feature_of(number: int) -> FeatureRecord:
    """Every state comes: known, known to be empty, unknown."""
    return FeatureRecord(
        f"c{number:03}", f"day {number}",
        picture=(None, np.zeros((0, 4), np.float32), array(number, 3, 4))[number % 3],
        sound=(array(number, 2, 5), None, np.zeros((0, 5), np.float32))[number % 3],
        text=None if number % 4 == 0 else array(number, 7),
        words='{"title": "第一集 \\"x\\""}', text_model="" if number % 4 == 0 else "fp-t",
        embedding=None if number % 5 == 0 else array(number, 6),
        embedding_model="" if number % 5 == 0 else "fp-e",
        scene_model="" if number % 3 == 1 or number % 2 else "fp-s",
        wordless=None if number % 5 < 2 else array(number + 7, 6),
    )  # fmt: skip


def assert_same(got: FeatureRecord, want: FeatureRecord) -> None:
    for name in ("clip_id", "kept_at", "words", "text_model", "embedding_model", "scene_model"):
        assert getattr(got, name) == getattr(want, name)
    for name in ("picture", "sound", "text", "embedding", "wordless"):
        found, wanted = getattr(got, name), getattr(want, name)
        assert (found is None) == (wanted is None), name
        if wanted is not None:
            assert len(found) == len(wanted)
            assert np.array_equal(found.ravel(), wanted.ravel())


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    with catalog.writing() as writer:
        for start in (0, 20, 40):  # several files
            writer.put_features([feature_of(number) for number in range(start, start + 20)])
        writer.put_features([feature_of(number) for number in range(5, 9)])
        writer.remove_clips(["c030"])
    catalog.refresh()
    return catalog


def test_features_read_back_as_they_were_kept(catalog: Catalog) -> None:
    found = catalog.features()
    assert sorted(found) == [f"c{number:03}" for number in range(60) if number != 30]
    for number in range(60):
        if number != 30:
            assert_same(found[f"c{number:03}"], feature_of(number))
    some = catalog.features(["c003", "nobody", "c041"])
    assert sorted(some) == ["c003", "c041"]
    states = catalog.feature_states()
    assert states["c003"] == ("day 3", "fp-t", "fp-e", "", 2)
    assert states == {clip_id: record.state for clip_id, record in found.items()}
    assert catalog.feature_states(["c003", "nobody"]) == {"c003": states["c003"]}
    assert catalog.feature_states([]) == {}


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(0, 59).filter(lambda number: number != 30), max_size=30))
def test_positions_are_read_in_the_order_asked_for_and_twice(
    catalog_of_all: Catalog, numbers: list[int]
) -> None:
    wanted = [f"c{number:03}" for number in range(59, -1, -1)]
    reader = catalog_of_all.feature_reader(COLUMNS, [*wanted[:10], "nobody", *wanted[10:]])
    assert reader.clip_ids == [clip_id for clip_id in wanted if clip_id != "c030"]
    places = np.array([reader.clip_ids.index(f"c{number:03}") for number in numbers], np.int64)
    found = list(records(reader.read(places)))
    assert len(found) == len(numbers)
    for got, number in zip(found, numbers, strict=True):
        assert_same(got, feature_of(number))


@pytest.fixture(scope="module")
def catalog_of_all(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog.create(tmp_path_factory.mktemp("features") / "store", MODEL)
    with catalog.writing() as writer:
        for start in range(0, 60, 7):
            writer.put_features([feature_of(number) for number in range(start, min(60, start + 7))])
        writer.remove_clips(["c030"])
    catalog.refresh()
    return catalog


def test_a_reader_stays_at_its_moment(catalog: Catalog) -> None:
    reader = catalog.feature_reader(["clip_id", "kept_at"])
    with catalog.writing() as writer:
        writer.put_features([FeatureRecord("c001", "changed")])
        writer.remove_clips(["c002"])
    rows = reader.read(np.arange(len(reader))).to_pylist()
    assert {row["clip_id"]: row["kept_at"] for row in rows}["c001"] == "day 1"
    assert "c002" in reader.clip_ids
    catalog.refresh()
    assert "c002" not in catalog.feature_reader(["clip_id"]).clip_ids


def test_columns_that_are_not_there_are_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="no column 'colour'"):
        catalog.feature_reader(["clip_id", "colour"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"picture": np.zeros(3, np.float32)}, "picture"),
        ({"text": np.zeros((1, 3), np.float32), "text_model": "m"}, "text"),
        ({"text": np.zeros(3, np.float32)}, "text_model"),
        ({"embedding_model": "m"}, "embedding"),
        ({"scene_model": "m"}, "no sound"),
        ({"sound": np.full((1, 2), np.nan, np.float32)}, "finite"),
    ],
)
def test_records_check_themselves(words: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FeatureRecord("c", "day", **words)


def test_nothing_known_and_known_to_be_nothing_stay_apart() -> None:
    row = to_row(FeatureRecord("c", "day", picture=np.zeros((0, 4), np.float32)))
    assert (row["picture"], row["sound"]) == (b"", None)
    assert array_of(row["sound"], row["seconds"]) is None
    empty = array_of(row["picture"], row["frames"])
    assert empty is not None
    assert len(empty) == 0


def test_a_table_of_before_scenes_gets_the_column(tmp_path: Path) -> None:
    import lancedb

    path = tmp_path / "store"
    catalog = Catalog.create(path, MODEL)
    before = FeatureRecord("c", "day", sound=array(1, 2, 5), embedding=array(2, 6), embedding_model="fp-e")
    with catalog.writing() as writer:
        writer.put_features([before])
    (folder,) = {found.parent for found in path.rglob("features.lance")}
    lancedb.connect(str(folder)).open_table("features").drop_columns(["scene_model"])
    catalog = Catalog.open(path)
    with catalog.writing() as writer:
        assert catalog.feature_states() == {"c": before.state}
        assert_same(catalog.features()["c"], before)
        writer.put_features([FeatureRecord("d", "day", sound=array(1, 2, 5), scene_model="fp-s")])
    catalog.refresh()
    assert catalog.feature_states()["d"].scene_model == "fp-s"
