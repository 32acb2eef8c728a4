"""The order in which clips are shown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.training.block_sampler import BlockSampler

sizes = {
    "n": st.integers(6, 90), "batch": st.integers(6, 20), "seed": st.integers(0, 5),
    "block": st.integers(1, 9), "window": st.integers(1, 4), "world": st.integers(1, 3),
}  # fmt: skip


def sampler(n: int, batch: int, *, rows: np.ndarray | None = None, **words: object) -> BlockSampler:
    return BlockSampler(np.arange(n) * 10 if rows is None else rows, batch_size=batch, **words)  # type: ignore[arg-type]


@settings(deadline=None)
@given(**sizes)
def test_an_epoch_shows_every_row_once_to_one_process(
    n: int, batch: int, seed: int, block: int, window: int, world: int
) -> None:
    shares = [
        sampler(n, batch, seed=seed, block=block, window=window, rank=rank, world_size=world)
        for rank in range(world)
    ]
    batches = [list(one.epoch(3)) for one in shares]
    assert {len(one) for one in batches} == {shares[0].n_batches}
    shown = np.concatenate([rows for one in batches for rows in one])
    assert sorted(shown) == list(range(0, 10 * n, 10))
    for step in zip(*batches, strict=True):
        counts = [len(rows) for rows in step]
        assert min(counts) >= 2, "no batch statistics of a clip alone"
        assert max(counts) - min(counts) <= 1
        assert sum(counts) <= batch + 2 * world - 1
    assert all(sum(map(len, step)) >= batch for step in list(zip(*batches, strict=True))[:-1])


@settings(deadline=None)
@given(**sizes)
def test_an_epoch_taken_up_at_a_batch_goes_on_as_it_would_have(
    n: int, batch: int, seed: int, block: int, window: int, world: int
) -> None:
    one = sampler(n, batch, seed=seed, block=block, window=window, rank=world - 1, world_size=world)
    whole = list(one.epoch(1))
    for start in range(len(whole) + 1):
        rest = list(one.epoch(1, start=start))
        assert [rows.tolist() for rows in rest] == [rows.tolist() for rows in whole[start:]]


def test_rows_of_a_window_lie_in_few_blocks() -> None:
    order = sampler(1000, 10, seed=0, block=50, window=4).order(0) // 10
    for window in order.reshape(5, 200):
        assert len(set((window // 50).tolist())) == 4
        assert (np.diff(window) < 0).mean() > 0.4, "and are mixed"


@pytest.mark.parametrize(
    ("n_blocks", "windows"), [(16, [16]), (17, [9, 8]), (33, [11, 11, 11]), (35, [12, 12, 11])]
)
def test_windows_differ_by_at_most_one_block(n_blocks: int, windows: list[int]) -> None:
    """No epoch ends with a window of one block, whose rows would meet none but each other."""
    for epoch in range(5):
        order = sampler(4 * n_blocks, 8, seed=1, block=4, window=16).order(epoch) // 10
        shown = np.split(order, 4 * np.cumsum(windows)[:-1])
        assert [len(set((rows // 4).tolist())) for rows in shown] == windows
        assert all((np.diff(rows) < 0).mean() > 0.3 for rows in shown), "each is mixed"


def test_rows_that_lie_by_class_meet_those_of_nearly_all_others() -> None:
    """Of 36 classes of 320 rows each, 11,520 in all, which are more than are mixed at once."""
    one = BlockSampler(np.arange(36 * 320), batch_size=512, seed=0)
    assert one.block * one.window < len(one.rows)
    for epoch in range(10):
        windows = np.split(one.order(epoch) // 320, 2)
        counts = np.array([np.bincount(window, minlength=36) for window in windows])
        # Five blocks to a class: by chance one class in 16 is in one window alone.
        assert ((counts > 0).sum(axis=1) >= 30).all()
        batches = [len(set((rows // 320).tolist())) for rows in one.epoch(epoch)]
        assert min(batches[:-1]) >= 30


def test_epochs_and_seeds_differ_and_nothing_else_does() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return sampler(200, 10, seed=seed, block=8).order(epoch).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_a_row_is_shown_as_often_as_its_weight_says() -> None:
    weights = np.array([1.0, 2.0, 0.0, 2.5, 0.25, 0.25])
    one = BlockSampler(np.arange(6), batch_size=2, seed=1, weights=weights)
    counts: Counter[int] = Counter()
    for epoch in range(400):
        shown = Counter(one.order(epoch).tolist())
        assert sum(shown.values()) == one.n_shown == 6
        for row, weight in enumerate(weights):
            assert np.floor(weight) <= shown[row] <= np.ceil(weight)
        counts += shown
    for row, weight in enumerate(weights):
        assert abs(counts[row] / 400 - weight) < 0.1


@settings(deadline=None)
@given(
    st.lists(st.integers(-1, 4), min_size=4, max_size=60).map(sorted), st.integers(2, 4), st.integers(0, 9)
)
def test_groups_are_shown_in_bundles(groups: list[int], together: int, seed: int) -> None:
    n = len(groups)
    one = BlockSampler(
        np.arange(n), batch_size=4, seed=seed, groups=np.array(groups), together=together, block=100
    )
    order = one.order(0)
    assert sorted(order) == list(range(n))
    sizes = Counter(group for group in groups if group >= 0)
    runs: list[list[int]] = []
    for row in order:
        if runs and groups[row] >= 0 and groups[runs[-1][0]] == groups[row]:
            runs[-1].append(row)
        else:
            runs.append([row])
    for run in runs:  # two bundles of one group may happen to follow each other
        group = groups[run[0]]
        assert group < 0 or len(run) >= min(together, sizes[group])


def test_bundles_are_drawn_anew_in_every_epoch() -> None:
    groups = np.repeat(np.arange(10), 8)
    one = BlockSampler(np.arange(80), batch_size=4, seed=0, groups=groups, together=2)

    def companions(epoch: int) -> set[tuple[int, ...]]:
        return {tuple(sorted(pair)) for pair in one.order(epoch).reshape(-1, 2).tolist()}

    assert len(companions(0) & companions(1)) < 20  # of 40, one in seven by chance


@pytest.mark.parametrize(
    ("n", "words", "said"),
    [
        (10, {"batch_size": 1}, "fewer than 2"),
        (10, {"batch_size": 3, "world_size": 2}, "fewer than 2"),
        (1, {"batch_size": 4}, "1 clips"),
        (0, {"batch_size": 4}, "0 clips"),
        (0, {"batch_size": 4, "weights": np.zeros(0)}, "0 clips"),
        (10, {"batch_size": 4, "rank": 1}, "rank 1"),
    ],
)
def test_too_few_clips_are_refused(n: int, words: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BlockSampler(np.arange(n), seed=0, **words)  # type: ignore[arg-type]
