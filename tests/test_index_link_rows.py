"""Links as rows: what goes in comes out, by row and by column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from index.catalog import Catalog, ClipRecord, LinkRecord, ModelInfo, StoredClip
from index.link_rows import LinkBases, Ragged, joined, ragged, rounded_down
from index.rows import LinkBasis, NightRecord

MODEL = ModelInfo("fp", "made up", 4)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path / "store", MODEL)


def basis(seed: int) -> LinkBasis:
    rng = np.random.default_rng(seed)
    return LinkBasis(
        f"e{seed % 2}", seed, seed + 1, seed + 2, f"2026-0{seed}", np.sort(rng.integers(1, 99, seed)),
        rng.uniform(-1, 1, 2 * seed).astype(np.float32),
    )  # fmt: skip


def test_bars_are_never_rounded_up() -> None:
    rng = np.random.default_rng(0)
    bars = np.concatenate([rng.uniform(-1, 1, 5000), [0.0, 1.0, -1.0, 0.6]]).astype(np.float32)
    half = rounded_down(bars)
    assert half.dtype == np.float16
    assert (half.astype(np.float32) <= bars).all()
    assert (np.nextafter(half, np.float16(np.inf)).astype(np.float32) > bars).all()


def test_a_link_comes_back_with_its_basis_and_history(catalog: Catalog) -> None:
    history = ({"at": "2026", "decision": "none", "programs": []}, {"at": "2027", "why": "review 影"})
    whole = LinkRecord("a", "linked", "p", 0.5, 3, "{}", "2027", basis(3), history)
    with catalog.writing() as writer:
        writer.put_links([whole, LinkRecord("b", "none", None, 0.0, 3, "{}")])
    found = catalog.whole_links(["a", "b", "strange"])
    assert set(found) == {"a", "b"}
    assert found["a"] == whole
    assert found["a"].history == history
    kept, wanted = found["a"].basis, whole.basis
    assert kept is not None
    assert wanted is not None
    for name in ("epoch", "known", "night", "reviews", "kept_at"):
        assert getattr(kept, name) == getattr(wanted, name)
    np.testing.assert_array_equal(kept.numbers, wanted.numbers)
    np.testing.assert_array_equal(kept.bars, rounded_down(wanted.bars))
    assert found["b"].basis is None
    assert found["b"].history == ()
    plain = catalog.links()
    assert [(link.clip_id, link.basis, link.history) for link in plain] == [("a", None, ()), ("b", None, ())]


def test_bases_by_column_are_those_of_the_rows(catalog: Catalog) -> None:
    records = [
        LinkRecord(f"c{i}", "none", None, 0.0, 1, "{}", "", basis(i) if i % 3 else None) for i in range(9)
    ]
    with catalog.writing() as writer:
        writer.put_all_links([records[:4], [], records[4:]])
        writer.put_all_links([[records[2]], []])  # in place of the former
        writer.put_all_links([])
    bases = catalog.link_bases()
    assert len(bases) == 9
    rows = catalog.whole_links(bases.clip_ids)
    for i, clip_id in enumerate(bases.clip_ids):
        wanted = rows[clip_id].basis or LinkBasis()
        assert bases.decisions[i] == "none"
        assert (bases.epochs[i], bases.kept_at[i]) == (wanted.epoch, wanted.kept_at)
        numbers = bases.known[i], bases.night[i], bases.reviews[i]
        assert numbers == (wanted.known, wanted.night, wanted.reviews)
        np.testing.assert_array_equal(bases.numbers.of(i), wanted.numbers)
        np.testing.assert_array_equal(bases.bars.of(i), wanted.bars.astype(np.float16))


def test_lists_in_a_column_are_read_through_slices_and_nulls() -> None:
    lists = [np.array([1, 2]), None, np.array([], np.int64), np.array([3]), np.array([4, 5, 6])]
    column = pa.array(
        [None if one is None else one.astype("<i8").tobytes() for one in lists], pa.large_binary()
    )
    for start in range(5):
        for stop in range(start, 6):
            found = ragged(column.slice(start, stop - start), "<i8")
            assert found.starts.size == stop - start + 1 if stop > start else found.starts.size == 1
            for i, one in enumerate(lists[start:stop]):
                assert found.of(i).tolist() == ([] if one is None else one.tolist())


def test_lists_are_taken_and_joined() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 9, size) for size in (3, 0, 2, 5, 0, 1)]
    whole = Ragged(np.concatenate(lists), np.concatenate([[0], np.cumsum([len(one) for one in lists])]))
    rows = np.array([5, 1, 3, 3, 0], np.int64)
    taken = whole.take(rows)
    assert [taken.of(i).tolist() for i in range(5)] == [lists[row].tolist() for row in rows]
    both = joined([whole, taken], np.int64)
    assert [both.of(i).tolist() for i in range(11)] == [
        one.tolist() for one in (*lists, *(lists[r] for r in rows))
    ]
    assert joined([], np.int64).starts.tolist() == [0]
    assert len(LinkBases.of([])) == 0


def test_clips_by_column_are_those_of_the_rows(catalog: Catalog) -> None:
    """With further looks and sounds, without either, and in batches smaller than all."""
    rng = np.random.default_rng(0)
    sound = ModelInfo("fp-sound", "made up", 3)

    def rows(n: int, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(n, dtype=np.float64), rng.uniform(-1, 1, (n, d)).astype(np.float16).astype(
            np.float32
        )

    clips = []
    for i in range(7):
        record = ClipRecord(f"c{i}", "/c", "", 1.0, i, "fp", sound_model="fp-sound" if i % 2 else "")
        further = (("inset", *rows(i)),) if i in (2, 3) else ()
        clips.append(StoredClip(record, *rows(i), further, rows(2 * i, 3) if i % 2 else None))
    with catalog.writing() as writer:
        writer.use_sound(sound)
        writer.put_clips(clips)
    dates = catalog.clip_dates()
    assert list(dates) == [f"c{i}" for i in range(7)]
    seen = []
    for batch in catalog.iter_clip_batches(3):
        for place, clip_id in enumerate(batch.clip_ids):
            stored = clips[int(clip_id[1:])]
            own = slice(*batch.frame_starts[place : place + 2])
            wanted = np.concatenate([stored.vectors, *(vectors for _, _, vectors in stored.further)])
            np.testing.assert_array_equal(batch.frames[own].astype(np.float32), wanted)
            heard = batch.sounds[slice(*batch.sound_starts[place : place + 2])].astype(np.float32)
            np.testing.assert_array_equal(heard, stored.sound[1] if stored.sound else np.zeros((0, 3)))
            assert batch.kept_at[place] == dates[clip_id]
            seen.append(clip_id)
    assert sorted(seen) == list(dates)


def test_nights_are_kept_by_number(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        for number, known in ((1, 5), (2, 7), (2, 8)):
            writer.put_night(NightRecord(number, "e", known, 3, "{}"))
    nights = catalog.nights()
    assert [(night.night, night.known) for night in nights] == [(1, 5), (2, 8)]
    assert all(night.at for night in nights)


def test_a_store_of_before_has_links_without_a_basis(catalog: Catalog) -> None:
    """Its table lacks the columns; a reader knows nothing of any answer, a writer adds them."""
    with catalog.writing() as writer:
        writer.put_links([LinkRecord("a", "none", None, 0.0, 1, "{}", "2026", basis(2))])
        catalog._tables["links"].drop_columns(
            ["epoch", "known", "night", "reviews", "kept_at", "numbers", "bars", "history"]
        )
        catalog._connection.drop_table("nights")
    old = Catalog.open(catalog.path)
    assert len(old.link_bases()) == 0
    assert old.nights() == []
    assert [link.clip_id for link in old.links()] == ["a"]
    assert old.whole_links(["a"])["a"].basis is None
    with old.writing():
        bases = old.link_bases()
    assert (bases.clip_ids, bases.epochs) == (["a"], [""])
    assert old.whole_links(["a"])["a"].basis is None
