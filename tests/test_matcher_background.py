"""What chance gives each frame, against plain loops; nothing but the background itself changes it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matcher.background import AVERAGED, SKIPPED, Background


def unit(x: NDArray[np.floating]) -> NDArray[np.float32]:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def frames(seed: int, n: int, d: int = 4, *, coarse: bool = False) -> NDArray[np.float32]:
    """Unit vectors; ``coarse`` ones point along few directions, so that many are equally close."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(-1, 2, (n, d)).astype(float) if coarse else rng.normal(size=(n, d))
    raw[~raw.any(axis=1), 0] = 1.0
    return unit(raw)


def drawn(seed: int, sizes: list[int], *, least: float = -1.0, coarse: bool = False) -> Background:
    """``sizes[i]`` frames of the i-th program, whose numbers have gaps."""
    program = np.repeat(3 * np.arange(len(sizes)) + 1, sizes).astype(np.int32)
    return Background(frames(seed, sum(sizes), coarse=coarse), program, least)


def level_by_loops(background: Background, frame: NDArray[np.float32]) -> float:
    best: dict[int, float] = {}
    for vector, program in zip(background.vectors, background.program.tolist(), strict=True):
        similarity = float(np.dot(frame.astype(np.float64), vector.astype(np.float64)))
        best[program] = max(best.get(program, -2.0), similarity)
    counted = sorted(best.values(), reverse=True)[1:6]
    return max(background.least, sum(counted) / len(counted)) if counted else background.least


sizes = st.lists(st.integers(1, 5), max_size=12)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), sizes=sizes, nq=st.integers(0, 5),
    least=st.sampled_from([-1.0, 0.0, 0.5, 0.9]), coarse=st.booleans(),
)  # fmt: skip
def test_levels_are_those_of_the_loops(
    seed: int, sizes: list[int], nq: int, least: float, coarse: bool
) -> None:
    background = drawn(seed, sizes, least=least, coarse=coarse)
    asked = frames(seed + 1, nq, coarse=coarse)
    got = background.levels(asked)
    assert (got.shape, got.dtype) == ((nq,), np.float32)
    np.testing.assert_allclose(got, [level_by_loops(background, frame) for frame in asked], atol=1e-6)
    assert background.n_programs == len(sizes)


def test_the_loops_skip_and_average_what_the_module_says() -> None:
    assert (SKIPPED, AVERAGED) == (1, 5)


def test_by_hand() -> None:
    """The best program is passed over, however many of its frames are close; then five count, each once."""
    cosines = [0.9, 0.89, 0.88, 0.8, 0.1, 0.7, 0.6, 0.5, 0.4, 0.3]
    program = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6], np.int32)
    vectors = np.array([[c, np.sqrt(1 - c * c)] for c in cosines], np.float32)
    frame = np.array([[1.0, 0.0]], np.float32)
    assert Background(vectors, program, 0.0).levels(frame) == pytest.approx((0.8 + 0.7 + 0.6 + 0.5 + 0.4) / 5)
    assert Background(vectors, program, 0.65).levels(frame) == pytest.approx(0.65)


@pytest.mark.parametrize("sizes", [[], [1], [7]])
def test_fewer_than_two_programs_say_nothing(sizes: list[int]) -> None:
    """The only one may be the clip's own."""
    background = drawn(3, sizes, least=0.25)
    np.testing.assert_array_equal(
        background.levels(background.vectors), np.full(sum(sizes), 0.25, np.float32)
    )


def test_two_programs_say_what_the_worse_one_does() -> None:
    background = drawn(5, [3, 2])
    own, other = background.vectors[:3], background.vectors[3:]
    np.testing.assert_allclose(background.levels(own), (own @ other.T).max(axis=1), atol=1e-6)


def test_an_empty_one_says_the_least_of_every_frame() -> None:
    background = Background.empty(4, least=0.5)
    assert (background.n_programs, background.vectors.shape) == (0, (0, 4))
    np.testing.assert_array_equal(background.levels(frames(1, 3)), np.full(3, 0.5, np.float32))
    assert background.levels(np.zeros((0, 4), np.float32)).shape == (0,)
    assert drawn(1, [2, 2]).levels(np.zeros((0, 4), np.float32)).shape == (0,)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_equally_close_programs_count_each(seed: int, sizes: list[int]) -> None:
    """Copies of one frame in every program: each is a program of its own, none twice."""
    frame = frames(seed, 1)
    n = sum(sizes)
    program = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    background = Background(np.repeat(frame, n, axis=0), program, -1.0)
    assert background.levels(frame) == pytest.approx(1.0 if len(sizes) > 1 else -1.0)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    at=st.integers(0, 9),
)
def test_without_a_program_it_is_as_if_drawn_from_the_others(seed: int, sizes: list[int], at: int) -> None:
    background = drawn(seed, sizes)
    left = background.without(3 * at + 1)
    kept = [i for i in range(len(sizes)) if i != at]
    assert left.n_programs == len(kept)
    assert sorted(set(left.program.tolist())) == [3 * i + 1 for i in kept]
    for frame, got in zip(background.vectors, left.levels(background.vectors), strict=True):
        assert got == pytest.approx(level_by_loops(left, frame), abs=1e-6)
    if at >= len(sizes):
        np.testing.assert_array_equal(left.vectors, background.vectors)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 6), more=st.integers(1, 6))
def test_a_frame_has_its_level_whatever_it_is_asked_with(seed: int, n: int, more: int) -> None:
    """Frames of other clips and programs change nothing: the level is the frame's own."""
    background = drawn(seed, [2, 1, 3, 2])
    asked, others = frames(seed + 1, n), frames(seed + 2, more)
    alone = background.levels(asked)
    among = background.levels(np.concatenate([others, asked]))
    np.testing.assert_allclose(among[more:], alone, atol=1e-6)
    np.testing.assert_allclose(background.levels(asked[::-1])[::-1], alone, atol=1e-6)


def test_the_order_of_a_programs_frames_is_of_no_consequence() -> None:
    background = drawn(9, [4, 4, 4])
    order = np.concatenate([np.random.default_rng(i).permutation(4) + 4 * i for i in range(3)])
    mixed = Background(background.vectors[order], background.program, -1.0)
    asked = frames(10, 5)
    np.testing.assert_allclose(mixed.levels(asked), background.levels(asked), atol=1e-6)


def test_it_survives_being_kept_up_to_the_files_precision() -> None:
    background = drawn(11, [2, 3, 1], least=0.25)
    again = Background.of_tensors(background.tensors(), least=0.25)
    np.testing.assert_array_equal(again.program, background.program)
    assert (again.program.dtype, again.vectors.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(again.vectors, background.vectors.astype(np.float16).astype(np.float32))
    twice = Background.of_tensors(again.tensors(), least=0.25)
    np.testing.assert_array_equal(twice.vectors, again.vectors)
    assert again.least == background.least


@pytest.mark.parametrize(
    ("vectors", "program", "why"),
    [
        (np.zeros((2, 3)), [0], "does not fit"),
        (np.zeros(3), [0, 0, 0], "does not fit"),
        (np.zeros((3, 2)), [0, 1, 0], "grouped"),
        (np.zeros((2, 2)), [1, 0], "grouped"),
    ],
)
def test_frames_that_are_not_grouped_are_refused(
    vectors: NDArray[np.float64], program: list[int], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Background(vectors.astype(np.float32), np.array(program, np.int32), 0.0)


def test_it_does_not_change() -> None:
    background = drawn(1, [1, 1])
    with pytest.raises(FrozenInstanceError):
        background.least = 0.0  # type: ignore[misc]
