"""What is known of clips, and which of them are held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matcher.errors import InputError
from matcher.fusion.features import ClipFeatures
from matcher.training.fusion_data import (
    NO_PROGRAM,
    ArraySource,
    ClassLists,
    Labelled,
    Targets,
    split_by_program,
)

CLASSES = st.lists(st.one_of(st.none(), st.lists(st.integers(0, 3), max_size=3, unique=True)), max_size=8)


@given(CLASSES, st.data())
def test_class_lists_say_what_a_table_says(lists: list[list[int] | None], data: st.DataObject) -> None:
    n = len(lists)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=8)) if n else [], np.int64)
    table = np.array([[float(c in (one or ())) for c in range(4)] for one in lists], np.float32).reshape(n, 4)
    known = np.array([one is not None for one in lists], bool)
    program = np.zeros(n, np.int64)
    by_lists = Targets.of_classes({"kind": lists}, {"kind": 4}, program)
    by_table = Targets({"kind": table}, {"kind": known}, program)
    assert by_lists.n_classes == by_table.n_classes == {"kind": 4}
    for targets in (by_lists, by_table):
        values, is_known = targets.tensors(rows)
        assert torch.equal(values["kind"], torch.from_numpy(table[rows]))
        assert values["kind"].dtype == torch.float32
        assert torch.equal(is_known["kind"], torch.from_numpy(known[rows]))
        want = [sum(c in (lists[i] or ()) for i in rows) for c in range(4)]
        assert targets.class_counts("kind", rows).tolist() == want


def test_what_nobody_knows_is_no_number_that_could_be_learned() -> None:
    values = np.array([[np.nan, np.nan], [0.0, 1.0]], np.float32)
    targets = Targets({"a": values}, {"a": np.array([False, True])}, np.zeros(2, np.int64))
    assert targets.dense("a", np.array([0, 1])).tolist() == [[0, 0], [0, 1]]
    with pytest.raises(ValueError, match="where known, in"):
        Targets({"a": values}, {}, np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Targets({"a": np.zeros((3, 2), np.float32)}, {}, np.zeros(2, np.int64)), "3 clips"),
        (
            lambda: Targets({"a": np.full((2, 2), 2.0, np.float32)}, {}, np.zeros(2, np.int64)),
            "in \\[0, 1\\]",
        ),
        (lambda: Targets({}, {"a": np.ones(2, bool)}, np.zeros(2, np.int64)), "known are"),
        (lambda: ClassLists.of([[0], [4]], 4), "from 0 to 3"),
        (lambda: ClassLists(np.array([0, 2]), np.array([0]), 4), "from 0 to 1"),
        (lambda: ClassLists(np.array([0, 1, 0, 1]), np.array([0]), 4), "not fall"),
    ],
)
def test_targets_that_do_not_fit_are_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_labelled_clips_are_some_of_a_source() -> None:
    source = ArraySource([ClipFeatures(text=np.full(2, i, np.float32)) for i in range(4)], (3, 2, 2))
    targets = Targets.of_programs(np.arange(4))
    assert Labelled(source, targets).positions.tolist() == [0, 1, 2, 3]
    some = Labelled(source, targets, np.array([3, 1]), np.array([1.0, 2.0]))
    assert len(some) == 2
    assert some.batch(some.positions).text[:, 0].tolist() == [3, 1]
    for words, said in (
        ({"rows": np.array([4])}, "from 0 to 3"),
        ({"rows": np.array([-1])}, "from 0 to 3"),
        ({"weights": np.ones(3)}, r"one a row \(4\)"),
        ({"weights": -np.ones(4)}, "at least 0"),
    ):
        with pytest.raises(ValueError, match=said):
            Labelled(source, targets, **words)
    with pytest.raises(ValueError, match="4 clips and targets of 3"):
        Labelled(source, Targets.of_programs(np.arange(3)))


@given(
    st.lists(st.integers(NO_PROGRAM, 6), min_size=2, max_size=40), st.floats(0.05, 0.95), st.integers(0, 5)
)
def test_no_program_is_on_both_sides(programs: list[int], share: float, seed: int) -> None:
    program = np.array(programs, np.int64)
    n_programs = len(set(programs) - {NO_PROGRAM}) + programs.count(NO_PROGRAM)
    if n_programs < 2:
        with pytest.raises(InputError, match="all clips are of one program"):
            split_by_program(program, share=share, seed=seed)
        return
    learned, held_out = split_by_program(program, share=share, seed=seed)
    assert sorted([*learned, *held_out]) == list(range(len(programs)))
    assert len(learned)
    assert len(held_out)
    both = set(program[learned].tolist()) & set(program[held_out].tolist())
    assert both <= {NO_PROGRAM}
    again = split_by_program(program, share=share, seed=seed)
    assert again[1].tolist() == held_out.tolist()


def test_a_share_of_the_programs_is_held_out_whatever_their_size() -> None:
    program = np.repeat(np.arange(100), np.arange(1, 101))
    held_out = split_by_program(program, share=0.2, seed=3)[1]
    assert len(set(program[held_out].tolist())) == 20
    assert set(program[held_out].tolist()) != set(
        program[split_by_program(program, share=0.2, seed=4)[1]].tolist()
    )
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_by_program(program, share=1.0, seed=0)
