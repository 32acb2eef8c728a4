"""Tables of experiments: means and spreads by hand, differences seed by seed, refusals."""

from __future__ import annotations

import json

import pytest

from eval.experiments.results import Collector, Measure, Result, Row

MEASURES = (
    Measure("right"),
    Measure("time", "seconds"),
    Measure("size", "count"),
    Measure("kept", is_shown=False),
)
ROWS = (
    Row("first", {"right": (0.5, 0.6, 0.7), "time": (1.0, 2.0, 3.0), "size": (1234.0,) * 3}),
    Row("second", {"right": (0.6, 0.6, 0.9), "kept": (0.0, 0.5, 1.0)}),
)


def _result(rows: tuple[Row, ...] = ROWS, compared: str = "right") -> Result:
    return Result("made", "a claim", "small", (0, 1, 2), MEASURES, rows, compared, 1.0)


def test_cells_are_mean_and_sample_deviation() -> None:
    cells = list(_result().cells())
    assert _result().columns() == ("condition", "right", "time", "size", "right, to first")
    assert cells[0] == ("first", "60.0 ± 10.0 %", "2.00 ± 1.00 s", "1,234", "–")
    # Differences 0.1, 0 and 0.2 seed by seed, whose spread is not that of the two columns.
    assert cells[1] == ("second", "70.0 ± 17.3 %", "–", "–", "+10.0 ± 10.0 %")


def test_one_seed_has_no_spread() -> None:
    row = Row("alone", {"right": (0.25,)})
    result = Result("made", "a claim", "small", (7,), MEASURES, (row,), "", 1.0)
    assert next(result.cells())[1] == "25.0 %"
    assert row.spread("right") is None
    assert row.mean("time") is None


def test_json_keeps_every_seed() -> None:
    lines = [json.loads(json.dumps(line)) for line in _result().to_json()]
    assert [line["condition"] for line in lines] == ["first", "second"]
    assert lines[1]["measures"]["kept"] == {"mean": 0.5, "spread": 0.5, "values": [0.0, 0.5, 1.0]}
    assert lines[0]["seeds"] == [0, 1, 2]


def test_markdown_has_a_cell_for_each_column() -> None:
    lines = _result().markdown().splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {6}


def test_conditions_keep_the_order_in_which_they_came() -> None:
    found = Collector()
    for seed in range(2):
        for name in ("b", "a"):
            found.add(name, {"right": seed})
    assert found.rows() == (Row("b", {"right": (0.0, 1.0)}), Row("a", {"right": (0.0, 1.0)}))


@pytest.mark.parametrize(
    ("rows", "compared"),
    [
        ((Row("x", {"other": (1.0, 1.0, 1.0)}),), ""),
        ((Row("x", {"right": (1.0,)}),), ""),
        (ROWS, "other"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(rows: tuple[Row, ...], compared: str) -> None:
    with pytest.raises(ValueError, match=r"columns|must"):
        _result(rows, compared)
