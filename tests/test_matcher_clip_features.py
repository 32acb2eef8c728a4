"""What a clip model takes: against slow transcriptions, one second and one frame at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.clip_features import (
    MOST_FRAMES,
    MOST_SECONDS,
    MOST_STRETCHES,
    STRETCH_FRAMES,
    Words,
    count_stretches,
    evenly,
    features_of,
    pooled_seconds,
    program_words,
    stretches,
    with_scene,
    without_scenes,
)


def rows_of(seed: int, n: int, d: int = 3) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(n=st.integers(0, 300), most=st.integers(1, 60))
def test_rows_are_chosen_evenly_and_all_where_there_is_room(n: int, most: int) -> None:
    rows = evenly(n, most)
    assert len(rows) == min(n, most)
    assert sorted(set(rows.tolist())) == rows.tolist()
    assert all(0 <= row < n for row in rows)
    gaps = np.diff(rows)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@settings(max_examples=50)
@given(times=st.lists(st.floats(0, 20), max_size=40).map(sorted), seed=st.integers(0, 99))
def test_a_second_of_sound_is_the_mean_direction_of_its_patches(times: list[float], seed: int) -> None:
    vectors = rows_of(seed, len(times))
    got = pooled_seconds(np.array(times, np.float64), vectors)
    want = []
    for second in range(21):
        own = [vectors[i].astype(np.float64) for i, t in enumerate(times) if int(t) == second]
        if own:
            mean = sum(own) / len(own)
            want.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    assert got.shape == (len(want), 3)
    np.testing.assert_allclose(got, np.array(want).reshape(-1, 3), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 400), m=st.integers(0, 80), n_assets=st.integers(1, 90), seed=st.integers(0, 9))
def test_stretches_hold_every_frame_and_every_sound_once_in_order(
    n: int, m: int, n_assets: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    seconds = np.arange(n) * 1.5 + 3
    heard_at = np.sort(rng.uniform(0, n * 1.5 + 6, m))
    # Each vector's direction tells its number: too many frames for one stretch are thinned evenly.
    frames, sounds = rows_of(seed, n), rows_of(seed + 1, m)
    found = list(stretches((seconds, frames), (heard_at, sounds), None, n_assets=n_assets))
    assert len(found) == count_stretches(n, n_assets) <= MOST_STRETCHES
    parts = np.array_split(np.arange(n), len(found)) if found else []
    for (middle, features), part in zip(found, parts, strict=True):
        assert seconds[part[0]] <= middle <= seconds[part[-1]]
        assert features.picture is not None
        assert np.array_equal(features.picture, frames[part][evenly(len(part), MOST_FRAMES)])
    if found:
        starts = [-np.inf, *(seconds[part[0]] for part in parts[1:]), np.inf]
        dealt = [
            np.flatnonzero((heard_at >= low) & (heard_at < high)) for low, high in itertools.pairwise(starts)
        ]
        assert np.array_equal(np.concatenate(dealt), np.arange(m))
        for (_, features), own in zip(found, dealt, strict=True):
            want = pooled_seconds(heard_at[own], sounds[own])
            assert features.sound is not None
            assert np.array_equal(features.sound, want[evenly(len(want), MOST_SECONDS)])


@pytest.mark.parametrize(
    ("n", "n_assets", "want"),
    [(0, 1, 0), (1, 1, 1), (STRETCH_FRAMES, 1, 1), (STRETCH_FRAMES + 1, 1, 2), (10**6, 1, MOST_STRETCHES),
     (10**6, 40, 1), (10**6, 500, 1)],
)  # fmt: skip
def test_a_long_program_has_no_more_stretches_than_memory_is_kept_for(
    n: int, n_assets: int, want: int
) -> None:
    assert count_stretches(n, n_assets) == want


def test_what_nobody_knows_is_not_what_is_known_to_be_nothing() -> None:
    silent = features_of(rows_of(0, 2), (np.zeros(0), np.zeros((0, 4), np.float32)), None)
    assert silent.sound is not None
    assert silent.sound.shape == (0, 4)
    assert features_of(rows_of(0, 2), None, None).sound is None
    assert Words().text is None
    assert Words(captions=()).text == ""
    assert Words("  ", captions=("", "好")).text == "好"
    assert program_words(" ", ["", " "]) is None


@pytest.mark.parametrize("words", [Words(), Words("第一集", 'd\n"x"', ("a", "b")), Words("t", captions=())])
def test_words_read_back(words: Words) -> None:
    assert Words.of_json(words.to_json()) == words
    assert Words.of_json("{}") == Words()


# ---------------------------------------------------------------- scenes


def slow_seconds(
    heard_at: list[float], patches: np.ndarray, scene_at: list[int], scenes: np.ndarray
) -> np.ndarray:
    """Second by second, where all of them find room."""
    rows = []
    for second in range(int(max([*heard_at, *scene_at, -1])) + 1):
        own = [patches[i].astype(np.float64) for i, t in enumerate(heard_at) if int(t) == second]
        if not own and second not in scene_at:
            continue
        row = np.zeros(patches.shape[1] + scenes.shape[1])
        if own:
            mean = sum(own) / len(own)
            row[: patches.shape[1]] = mean / np.linalg.norm(mean)
        if second in scene_at:
            row[patches.shape[1] :] = scenes[scene_at.index(second)]
        rows.append(row)
    return np.array(rows).reshape(-1, patches.shape[1] + scenes.shape[1])


@settings(max_examples=60, deadline=None)
@given(
    heard_at=st.lists(st.floats(0, 31.9), max_size=40).map(sorted),
    scene_at=st.lists(st.integers(0, 31), max_size=32, unique=True).map(sorted),
    seed=st.integers(0, 99),
)
def test_a_row_is_a_second_that_has_a_patch_or_a_scene(
    heard_at: list[float], scene_at: list[int], seed: int
) -> None:
    patches, scenes = rows_of(seed, len(heard_at)), rows_of(seed + 1, len(scene_at), 4)
    found = features_of(
        rows_of(0, 2), (np.array(heard_at, np.float64), patches), None,
        scene=(np.array(scene_at, np.int64), scenes),
    )  # fmt: skip
    assert found.sound is not None
    np.testing.assert_allclose(found.sound, slow_seconds(heard_at, patches, scene_at, scenes), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(heard=st.sets(st.integers(0, 99)), scene_at=st.sets(st.integers(0, 99)), seed=st.integers(0, 99))
def test_scenes_change_nothing_of_what_identifies_a_long_clip(
    heard: set[int], scene_at: set[int], seed: int
) -> None:
    patches, scenes = rows_of(seed, len(heard)), rows_of(seed + 1, len(scene_at), 4)
    sound = np.array(sorted(heard), np.float64) + 0.5, patches
    seconds = np.array(sorted(scene_at), np.int64)
    with_them = features_of(rows_of(0, 2), sound, None, scene=(seconds, scenes))
    without = features_of(rows_of(0, 2), sound, None)
    assert with_them.sound is not None
    assert without.sound is not None
    alone = without_scenes(with_them, 3).sound
    assert alone is not None
    assert np.array_equal(alone, without.sound)
    assert len(with_them.sound) == min(MOST_SECONDS, len(heard | scene_at))
    # Each row's scene is that of its own second, and rows of scenes alone are spread out.
    told = {row.tobytes(): second for second, row in zip(seconds.tolist(), scenes, strict=True)}
    named = {row.tobytes(): second for second, row in zip(sorted(heard), unit(patches), strict=True)}
    order = []
    for row in with_them.sound:
        second = named.get(row[:3].tobytes())
        if row[3:].any():
            assert second in (None, told[row[3:].tobytes()])
            second = told[row[3:].tobytes()]
        else:
            assert second not in scene_at
        order.append(second)
    assert order == sorted(order)


def unit(patches: np.ndarray) -> np.ndarray:
    """One patch a second, as it is pooled."""
    return pooled_seconds(np.arange(len(patches), dtype=np.float64), patches)


def test_nobody_who_did_not_listen_knows_a_scene() -> None:
    scene = np.arange(3), rows_of(1, 3, 4)
    assert features_of(rows_of(0, 2), None, None, scene=scene).sound is None
    silent = np.zeros(0), np.zeros((0, 3), np.float32)
    found = features_of(rows_of(0, 2), silent, None, scene=scene).sound
    assert found is not None
    assert np.array_equal(found, np.concatenate([np.zeros((3, 3), np.float32), scene[1]], axis=1))
    filled = with_scene(features_of(rows_of(0, 2), silent, None), scene[1][0]).sound
    assert filled is not None
    assert filled.shape == (0, 7)
