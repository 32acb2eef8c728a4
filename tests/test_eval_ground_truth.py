"""eval.ground_truth: both forms are read, ours is written, and what is wrong is named by file and line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.ground_truth import COLUMNS, TruthRow, read_truth, write_truth
from matcher.errors import InputError

OWN = "clip_id,program_id,asset_id,clip_start_seconds,clip_end_seconds,asset_start_seconds,asset_end_seconds"
VSC = "query_id,ref_id,query_start,query_end,ref_start,ref_end"


def written(folder: Path, text: str) -> Path:
    path = folder / "truth.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_our_own_form_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"{OWN},is_reversed\nq1,p7,p7-e01,0,8,63,71,false\nq2,p8,p8-e01,1.5,8,3,9,true\n"
    )
    assert read_truth(path) == [
        TruthRow("q1", "p7", "p7-e01", 0, 8, 63, 71),
        TruthRow("q2", "p8", "p8-e01", 1.5, 8, 3, 9, is_reversed=True),
    ]


def test_the_direction_may_be_missing_and_the_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffnote,asset_id, clip_id,program_id,asset_end_seconds,asset_start_seconds,clip_end_seconds,"
        "clip_start_seconds\nhello,p7-e01, q1 ,p7,71,63,8,0\n",
    )
    assert read_truth(path) == [TruthRow("q1", "p7", "p7-e01", 0, 8, 63, 71)]


def test_in_the_challenges_form_a_reference_is_program_and_asset(tmp_path: Path) -> None:
    path = written(tmp_path, f"{VSC},score\nQ100001,R200001,0.0,11.5,30.25,41.75,1.0\n")
    assert read_truth(path) == [TruthRow("Q100001", "R200001", "R200001", 0, 11.5, 30.25, 41.75)]


def test_a_table_without_rows_is_empty(tmp_path: Path) -> None:
    assert read_truth(written(tmp_path, VSC + "\n")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the header lacks clip_id.*got nothing"),
        ("a,b\n1,2\n", r"the header lacks clip_id.*got a, b"),
        (VSC.replace(",ref_end", "") + "\n", r"the header lacks ref_end;"),
        (f"{VSC},ref_id\n", "a column stands twice"),
        (f"{VSC}\nq,r,0,1,0,1\nq,r,0,one,0,1\n", r"line 3: query_end must be a number of seconds, got 'one'"),
        (f"{VSC}\nq,r,0,1,0\n", r"line 2: the row has not as many cells"),
        (f"{VSC}\nq,r,0,1,0,1,2\n", r"line 2: the row has not as many cells"),
        (f"{VSC}\nq,r,5,5,0,1\n", r"line 2: clip segment must have 0 <= start < end, got 5.0 to 5.0"),
        (f"{VSC}\nq,r,0,1,nan,1\n", r"line 2: asset segment"),
        (f"{VSC}\nq,r,0,inf,0,1\n", r"line 2: clip segment"),
        (f"{VSC}\nq, ,0,1,0,1\n", r"line 2: program_id must be a name"),
        (f"{OWN},is_reversed\nq,p,a,0,1,0,1,maybe\n", r"line 2: is_reversed must be true or false"),
        (f'{VSC}\n"q"x,r,0,1,0,1\n', "not a CSV file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_truth(path)
    assert "truth.csv" in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: No such file"):
        read_truth(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe\n")
    with pytest.raises(InputError, match=r"picture\.csv is not a CSV file in UTF-8"):
        read_truth(tmp_path / "picture.csv")


@pytest.mark.parametrize(
    "change",
    [
        {"clip_id": ""}, {"asset_id": "a "}, {"clip_start_seconds": -1.0}, {"clip_end_seconds": 0.0},
        {"asset_end_seconds": math.inf}, {"asset_start_seconds": math.nan},
    ],
)  # fmt: skip
def test_a_row_checks_itself(change: dict[str, object]) -> None:
    good: dict[str, object] = dict(zip(COLUMNS, ("q", "p", "a", 0.0, 1.0, 2.0, 3.0, False), strict=True))
    TruthRow(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must (be a name|have 0 <= start)"):
        TruthRow(**{**good, **change})  # type: ignore[arg-type]


names = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=8).filter(
    lambda name: name == name.strip()
)
spans = st.tuples(st.floats(0, 1e5), st.floats(1e-3, 1e4)).map(lambda p: (p[0], p[0] + p[1]))
rows = st.builds(
    lambda q, p, a, clip, asset, back: TruthRow(q, p, a, *clip, *asset, is_reversed=back),
    names, names, names, spans, spans, st.booleans(),
)  # fmt: skip


@given(st.lists(rows, max_size=4))
def test_what_is_written_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, table: list[TruthRow]
) -> None:
    """Names with commas, quotes and line breaks, and numbers to the last digit."""
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    write_truth(path, table)
    assert read_truth(path) == table
    assert [entry.name for entry in path.parent.iterdir()] == ["truth.csv"]


def test_a_row_becomes_a_match() -> None:
    got = TruthRow("q", "p", "p-e1", 1, 9, 20, 28, is_reversed=True).match()
    assert (got.clip_id, got.asset_id, got.is_reversed) == ("q", "p-e1", True)
    assert (got.clip_interval, got.asset_interval) == ((1, 9), (20, 28))
