"""The ids in use are in order, however they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index import ids as ids_module
from index.ids import IdSet, ascending
from index.rows import ORDINAL_BITS

_IDS = st.builds(
    lambda number, ordinal: (number << ORDINAL_BITS) + ordinal, st.integers(-2, 40), st.integers(0, 30)
)


@given(st.lists(_IDS, max_size=300))
def test_ascending_is_sorting(numbers: list[int]) -> None:
    """Also where an id is there twice, and it leaves what it is given as it was."""
    given_ids = np.array(numbers, dtype=np.int64)
    kept = given_ids.copy()
    np.testing.assert_array_equal(ascending(given_ids), np.sort(kept))
    np.testing.assert_array_equal(given_ids, kept)


@given(st.lists(st.integers(-(1 << 62), 1 << 62), max_size=50))
def test_ascending_of_ids_far_apart(numbers: list[int]) -> None:
    """No memory for all that could lie between them."""
    given_ids = np.array(numbers, dtype=np.int64)
    np.testing.assert_array_equal(ascending(given_ids), np.sort(given_ids))


def test_a_catalogue_is_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of unequal length, in any order, take the short way; what is given is not sorted in place."""
    sizes = np.random.default_rng(0).integers(20, 300, 50)
    whole = np.concatenate(
        [(n << ORDINAL_BITS) + np.arange(size) for n, size in enumerate(sizes.tolist(), 1)]
    )
    mixed = np.random.default_rng(1).permutation(whole)

    def sort(*args: object, **options: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(ids_module.np, "sort", sort)
        found = IdSet(mixed)
    np.testing.assert_array_equal(found.sorted(), whole)
