"""The measurement of few examples: what its clips are, what it compares, and its table."""

from __future__ import annotations

import numpy as np
import pytest

from eval.few_examples import (
    METHODS,
    Difficulty,
    FewExamplesConfig,
    Outcome,
    balance_table,
    make_clips,
    measure,
    measure_balance,
    table,
)
from matcher.training.head_config import HeadTraining

SMALL = Difficulty(n_known=6, n_new=2, n_programs=6, n_clips=3, d=16, d_classes=8, program_offset=0.3)
QUICK = HeadTraining(form="logistic", folds=2, max_steps=40, learning_rate=0.02)


def test_clips_of_one_program_are_more_alike_than_those_of_one_class() -> None:
    clips = make_clips(Difficulty(), 0)
    np.testing.assert_allclose(np.linalg.norm(clips.x, axis=1), 1, atol=1e-5)
    alike = clips.x @ clips.x.T
    same_program = clips.groups[:, None] == clips.groups
    same_class = clips.classes[:, None] == clips.classes
    off = ~np.eye(len(alike), dtype=bool)
    means = [alike[own & off].mean() for own in (same_program, same_class & ~same_program, ~same_class)]
    assert means[0] > means[1] + 0.1 > means[2] + 0.2
    # No program is both learned from and asked about.
    assert not set(clips.groups[clips.is_learned]) & set(clips.groups[~clips.is_learned])
    np.testing.assert_array_equal(make_clips(Difficulty(), 0).x, clips.x)
    assert not np.array_equal(make_clips(Difficulty(), 1).x, clips.x)


@pytest.mark.slow
def test_more_examples_serve_better_and_every_method_is_measured() -> None:
    outcomes = measure(
        FewExamplesConfig(counts=(1, 8), seeds=(0, 1), difficulty=SMALL, head=QUICK), say=lambda _: None
    )
    assert len(outcomes) == 2 * 2 * len(METHODS)
    for method in METHODS:
        few, many = (
            np.mean([one.precision for one in outcomes if (one.method, one.count) == (method, count)])
            for count in (1, 8)
        )
        assert many > few
    # Far above chance, which is one class in eight.
    assert np.mean([one.precision for one in outcomes if one.method == "nearest examples"]) > 0.5
    with pytest.raises(ValueError, match="a new class has 9 clips to draw examples from, got 10"):
        measure(FewExamplesConfig(counts=(10,), difficulty=SMALL))


def test_the_table_has_a_row_for_each_number_and_method_with_its_spread() -> None:
    outcomes = [
        Outcome("a", 1, 0, 0.2, 0.1, 1.0),
        Outcome("a", 1, 1, 0.4, 0.1, 1.0),
        Outcome("b", 5, 0, 1, 1, 1),
    ]
    lines = table(outcomes).splitlines()
    assert lines[2] == "| 1 | a | 0.30 ± 0.14 | 0.10 ± 0.00 | 1.00 ± 0.00 |"
    assert lines[3] == "| 5 | b | 1.00 ± 0.00 | 1.00 ± 0.00 | 1.00 ± 0.00 |"


def test_balance_is_measured_on_common_and_rare_classes_apart() -> None:
    config = FewExamplesConfig(counts=(1,), seeds=(0,), difficulty=SMALL, head=QUICK)
    outcomes = measure_balance(config, balances=(0.0, 1.0))
    assert [one.balance for one in outcomes] == [0.0, 1.0]
    assert all(0.3 < one.common <= 1 for one in outcomes)
    assert balance_table(outcomes).splitlines()[2].startswith(f"| 0 | {outcomes[0].common:.2f} ± 0.00 |")
