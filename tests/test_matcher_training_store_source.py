"""Features of a store by column and batch, against the same clips in memory."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from matcher.errors import StoreError
from matcher.fusion.features import ClipFeatures, ModalityState
from matcher.training.block_sampler import BlockSampler
from matcher.training.fusion_data import ArraySource
from matcher.training.store_source import StoreSource, packed_of

DIMENSIONS = (3, 2, 2)
NAMES = ("picture", "picture_mask", "sound", "sound_mask", "text", "states")


def clips(n: int) -> list[ClipFeatures]:
    rng = np.random.default_rng(0)

    def some(length: int, d: int) -> np.ndarray:
        return rng.normal(size=(length, d)).astype(np.float16).astype(np.float32)

    made = [
        ClipFeatures(
            None if i % 7 == 3 else some(i % 5, 3),
            None if i % 3 == 1 else some(i % 2, 2),
            [None, np.zeros(2, np.float32), some(1, 2)[0]][i % 3],
        )
        for i in range(n)
    ]
    has_sound = [clip.sound is not None and len(clip.sound) > 0 for clip in made]
    return [
        replace(clip, is_sound_replaced=has and i % 4 == 1)
        for i, (clip, has) in enumerate(zip(made, has_sound, strict=True))
    ]


class Reader:
    """A table in memory that counts what is read."""

    def __init__(self, features: list[ClipFeatures]) -> None:
        def raw(one: np.ndarray | None) -> bytes | None:
            return None if one is None else one.astype(np.float16).tobytes()

        columns = {
            name: pa.array([raw(clip.of(name)) for clip in features], pa.binary())
            for name in ("picture", "sound", "text")
        }
        columns["sound_replaced"] = pa.array([clip.is_sound_replaced for clip in features])
        self.table = pa.table(columns).combine_chunks()
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.table)

    def read(self, positions: np.ndarray) -> pa.RecordBatch:
        self.asked.append(positions.tolist())
        # A slice of a larger table, whose buffers do not begin with its rows.
        return self.table.take([0, *positions.tolist()]).slice(1).combine_chunks().to_batches()[0]


def test_batches_are_those_of_the_same_clips_in_memory() -> None:
    features = clips(50)
    source = StoreSource(Reader(features), DIMENSIONS, block=8, keep=2)
    assert len(source) == 50
    memory = ArraySource(features, DIMENSIONS)
    rng = np.random.default_rng(1)
    for n in (0, 1, 3, 20):
        rows = rng.integers(0, 50, n)
        for name in NAMES:
            got, want = getattr(source.batch(rows).to("cpu"), name), getattr(memory.batch(rows), name)
            assert torch.equal(got, want), (n, name)
        for one, row in zip(source.read(rows), rows, strict=True):
            assert one.state("sound") == features[row].state("sound")
            for name in ("picture", "sound", "text"):
                np.testing.assert_array_equal(one.of(name), features[row].of(name))


def test_an_epoch_reads_every_block_once_and_whole() -> None:
    reader = Reader(clips(100))
    source = StoreSource(reader, DIMENSIONS, block=10, keep=6)
    for rows in BlockSampler(np.arange(100), batch_size=7, seed=0, block=10, window=3).epoch(0):
        source.batch(rows)
    assert sorted(itertools.chain(*reader.asked)) == list(range(100))
    for asked in reader.asked:
        blocks = np.array(asked).reshape(-1, 10)
        np.testing.assert_array_equal(blocks, blocks[:, :1] // 10 * 10 + np.arange(10))


def test_what_a_batch_lacks_is_read_together_and_no_more_is_kept_than_was_said() -> None:
    reader = Reader(clips(2000))
    source = StoreSource(reader, DIMENSIONS, block=64, keep=16)
    source.batch(np.arange(0, 2000, 64))
    assert [len(asked) for asked in reader.asked] == [512, 512, 512, 464], "the last block is short"
    assert sorted(source._piece_of) == list(range(16, 32)), "the last two pieces"
    source.batch(np.array([1100, 1999]))
    assert len(reader.asked) == 4
    source.batch(np.array([0, 1100]))
    assert reader.asked[4:] == [list(range(64))]
    assert sorted(source._piece_of) == [0, *range(16, 24)], "what was used longest ago is gone whole"


def test_null_is_unknown_and_empty_is_nothing_and_zeros_are_no_text() -> None:
    table = pa.record_batch(
        {
            "picture": pa.array([None, b"", np.ones(6, np.float16).tobytes()]),
            "sound": pa.array([None, b"", np.ones(2, np.float16).tobytes()]),
            "text": pa.array([None, b"", np.zeros(2, np.float16).tobytes()]),
            "sound_replaced": pa.array([False] * 3),
        }
    )
    present, missing, silent, replaced = ModalityState
    assert packed_of(table, DIMENSIONS).states.tolist() == [
        [missing] * 3, [silent] * 3, [present, present, silent],
    ]  # fmt: skip
    # Only where there is a sound can it be another's.
    others = table.set_column(3, "sound_replaced", pa.array([True] * 3))
    assert packed_of(others, DIMENSIONS).states[:, 1].tolist() == [missing, silent, replaced]


@pytest.mark.parametrize(
    ("name", "numbers", "said"),
    [
        ("picture", [1.0] * 4, "picture has 8 bytes, which are no rows of 3 numbers"),
        ("text", [1.0] * 4, "text has 2 x 2 numbers"),
        ("sound", [np.nan, 1.0], "sound holds numbers that are not finite"),
    ],
)
def test_stored_bytes_that_do_not_fit_are_said(name: str, numbers: list[float], said: str) -> None:
    empty: dict[str, pa.Array] = {one: pa.array([b""]) for one in ("picture", "sound", "text")}
    empty["sound_replaced"] = pa.array([False])
    table = pa.record_batch({**empty, name: pa.array([np.array(numbers, np.float16).tobytes()])})
    with pytest.raises(StoreError, match=said):
        packed_of(table, DIMENSIONS)
