"""Packed clips: a batch is what padding the clips one by one gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.fusion.batch import ClipBatch
from matcher.fusion.features import ClipFeatures
from matcher.training.clip_views import fewer_rows
from matcher.training.packed_clips import PackedClips, Ragged

DIMENSIONS = (3, 2, 2)
NAMES = ("picture", "picture_mask", "sound", "sound_mask", "text", "states")

lengths = st.one_of(st.none(), st.integers(0, 4))


@st.composite
def clip_features(draw: st.DrawFn) -> ClipFeatures:
    rng = np.random.default_rng(draw(st.integers(0, 1000)))

    def some(n: int | None, d: int) -> np.ndarray | None:
        return None if n is None else rng.normal(size=(n, d)).astype(np.float32)

    text = draw(st.sampled_from([None, np.zeros(2, np.float32), rng.normal(size=2).astype(np.float32)]))
    sound = some(draw(lengths), 2)
    is_replaced = sound is not None and len(sound) > 0 and draw(st.booleans())
    return ClipFeatures(some(draw(lengths), 3), sound, text, is_replaced)


@settings(deadline=None)
@given(st.lists(clip_features(), min_size=1, max_size=6), st.data())
def test_a_batch_is_the_clips_padded_in_the_order_asked_for(
    clips: list[ClipFeatures], data: st.DataObject
) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(clips) - 1), max_size=6)), np.int64)
    packed = PackedClips.of(clips, dimensions=DIMENSIONS)
    want = ClipBatch.of([clips[i] for i in rows], dimensions=DIMENSIONS)
    for got in (packed.batch(rows), ClipBatch.of(packed.read(rows), dimensions=DIMENSIONS)):
        for name in NAMES:
            assert torch.equal(getattr(got, name), getattr(want, name)), name
    for read, i in zip(packed.read(rows), rows, strict=True):
        for part in ("picture", "sound", "text"):
            assert (read.of(part) is None) == (clips[i].of(part) is None)
            assert read.state(part) == clips[i].state(part)


def test_half_precision_halves_the_memory_and_rounds_to_three_places() -> None:
    clip = ClipFeatures(np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), None, np.ones(2, np.float32))
    packed = PackedClips.of([clip], dimensions=DIMENSIONS, dtype=np.float16)
    assert packed.picture.rows.nbytes == 12
    got = packed.batch(np.array([0])).to("cpu").picture[0].numpy()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, clip.picture, atol=5e-4)
    big = ClipFeatures(text=np.full(2, 1e6, np.float32))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="not finite"):
        PackedClips.of([big], dimensions=DIMENSIONS, dtype=np.float16)


@pytest.mark.parametrize(
    ("rows", "starts", "said"),
    [
        (np.zeros((2, 3), np.float64), [0, 2], "float16 or float32"),
        (np.zeros((2, 3), np.float32), [0, 1], "rise from 0 to 2"),
        (np.zeros((2, 3), np.float32), [0, 2, 1, 2], "rise from 0 to 2"),
        (np.zeros((2, 3), np.float32), [], "rise from 0 to 2"),
    ],
)
def test_rows_that_do_not_add_up_are_refused(rows: np.ndarray, starts: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Ragged(rows, np.array(starts, np.int64))


def test_parts_of_unequal_numbers_of_clips_are_refused() -> None:
    packed = PackedClips.of([ClipFeatures(), ClipFeatures()], dimensions=DIMENSIONS)
    with pytest.raises(ValueError, match=r"\(2, 2, 1\) clips, the states of 2"):
        PackedClips(packed.picture, packed.sound, packed.text[:1], packed.states)


@given(st.lists(clip_features(), min_size=1, max_size=5), st.integers(1, 5), st.integers(0, 99))
@settings(deadline=None)
def test_fewer_rows_are_some_of_a_clips_own_in_their_order(
    clips: list[ClipFeatures], n: int, seed: int
) -> None:
    batch = ClipBatch.of(clips, dimensions=DIMENSIONS)
    got = fewer_rows(batch, n, np.random.default_rng(seed))
    for name in ("picture", "sound"):
        rows, mask = getattr(got, name), getattr(got, f"{name}_mask")
        for i, clip in enumerate(clips):
            own = clip.of(name)
            own = np.zeros((0, 1)) if own is None else own
            kept = rows[i][mask[i]].numpy()
            assert len(kept) == min(n, len(own))
            places = [next(t for t in range(len(own)) if np.array_equal(own[t], row)) for row in kept]
            assert places == sorted(set(places))
    assert torch.equal(got.states, batch.states)


def test_each_row_is_shown_as_often_as_any_other() -> None:
    clip = ClipFeatures(np.arange(4, dtype=np.float32)[:, None] * np.ones(3, np.float32))
    batch = ClipBatch.of([clip] * 2000, dimensions=DIMENSIONS)
    shown = fewer_rows(batch, 2, np.random.default_rng(0)).picture[..., 0].flatten().long()
    counts = torch.bincount(shown, minlength=4)
    assert (counts - 1000).abs().max() < 100  # five standard deviations are 112
    assert fewer_rows(batch, None, np.random.default_rng(0)) is batch
