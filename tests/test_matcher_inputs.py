"""Words and manifests become jobs; what cannot be used is named with its place and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matcher.errors import InputError
from matcher.inputs import (
    ClipJob,
    Refused,
    check_category,
    check_id,
    clip_jobs,
    fingerprint_files,
    one_line,
    program_job,
    read_clip_manifest,
    read_clip_rows,
    read_program_manifest,
)


def _manifest(folder: Path, *rows: str) -> Path:
    path = folder / "m.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", " c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_rows_of_one_program_are_its_files_in_order(folder: Path) -> None:
    manifest = _manifest(
        folder,
        "program_id,path,asset_id,title,alias,category",
        "p,b.mp4,e2,Title,A|B,drama/x",
        "q,a.mp4,,,,",
        "p,a.mp4,e1,Other,B|C,film",
    )
    (p, q), refused = read_program_manifest(manifest)
    assert refused == []
    assert [(asset.asset_id, asset.path, asset.row) for asset in p.assets] == [
        ("e2", folder / "b.mp4", 2),
        ("e1", folder / "a.mp4", 4),
    ]
    assert (p.title, p.aliases, p.categories) == ("Title", ("A", "B", "C"), ("drama/x", "film"))
    assert (q.assets[0].asset_id, q.title, q.aliases, q.categories) == ("a", "", (), ())


def test_columns_come_in_any_order_and_others_are_passed_over(folder: Path) -> None:
    manifest = _manifest(folder, "note, path ,clip_id", "n,a.mp4,c1", ",,", "", "n, b.mp4 ,c2")
    assert read_clip_rows(manifest) == [ClipJob("c1", folder / "a.mp4"), ClipJob("c2", folder / "b.mp4")]


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder: Path) -> None:
    (folder / "m.csv").write_bytes("clip_id,path\nc,a.mp4\n".encode("utf-8-sig"))
    assert read_clip_manifest(folder / "m.csv") == ([ClipJob("c", folder / "a.mp4")], [])


def test_spaces_of_a_name_count_where_there_is_such_a_file(folder: Path) -> None:
    (job,) = read_clip_rows(_manifest(folder, "clip_id,path", "c, c.mp4"))
    assert job == ClipJob("c", folder / " c.mp4")


def test_rows_are_numbered_as_a_spreadsheet_does(folder: Path) -> None:
    """Blank rows count, a cell with a line break is one row."""
    manifest = _manifest(
        folder, "clip_id,path,title", "c1,a.mp4,x", "", 'c2,b.mp4,"two', 'lines"', "c3,gone.mp4,"
    )
    found = read_clip_rows(manifest)
    assert isinstance(found[1], ClipJob)
    assert found[1].title == "two\nlines"
    assert isinstance(found[2], Refused)
    assert (found[2].name, found[2].path) == ("c3", "gone.mp4")
    assert "row 5: no file" in found[2].message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a.mp4,", "clip_id is empty"),
        ("c,,", "path is empty"),
        ("c,nope.mp4,", "no file"),
        ("c,a.mp4,One, two", "1 more cells"),
        ("first,a.mp4,", "second time"),
        ("c\0d,a.mp4,", "NUL"),
        ("c,a\0.mp4,", "no file"),
    ],
)
def test_a_bad_row_is_refused_in_its_place(folder: Path, row: str, reason: str) -> None:
    manifest = _manifest(folder, "clip_id,path,title", "first,b.mp4,", row, "last,b.mp4,")
    found = read_clip_rows(manifest)
    assert [type(job) for job in found] == [ClipJob, Refused, ClipJob]
    assert isinstance(found[1], Refused)
    assert "m.csv row 3: " in found[1].message
    assert reason in found[1].message
    assert read_clip_manifest(manifest) == ([found[0], found[2]], [found[1]])


def test_a_name_too_long_is_left_to_the_decoder(folder: Path) -> None:
    (job,) = read_clip_rows(_manifest(folder, "clip_id,path", f"c,{'x' * 300}.mp4"))
    assert isinstance(job, ClipJob)


def test_a_program_with_a_bad_row_is_refused_whole_and_once(folder: Path) -> None:
    manifest = _manifest(
        folder, "program_id,path,category", "p,a.mp4,", "q,b.mp4,", "p,x.mp4,", "p,y.mp4,",
        ",a.mp4,", ",b.mp4,",
        "row 6,a.mp4,", "r,a.mp4,a/b/c/d",
    )  # fmt: skip
    jobs, refused = read_program_manifest(manifest)
    assert [job.program_id for job in jobs] == ["q", "row 6"]
    assert [r.name for r in refused] == ["p", "row 6", "row 7", "r"]
    assert "row 4: no file" in refused[0].message
    assert "tier1/tier2/tier3" in refused[3].message


def test_clips_are_named_by_stem_or_by_path_where_stems_are_shared() -> None:
    jobs = clip_jobs([Path("x/a.mp4"), Path("y/a.mp4"), Path("b.mp4")], title="T")
    assert jobs == [
        ClipJob("x/a.mp4", Path("x/a.mp4"), "T"),
        ClipJob("y/a.mp4", Path("y/a.mp4"), "T"),
        ClipJob("b", Path("b.mp4"), "T"),
    ]


def test_one_clip_named_twice_and_two_that_come_to_one_name_are_refused_the_second_time() -> None:
    jobs = clip_jobs([Path("a.mp4"), Path("a.mp4"), Path("a.mp4.mkv")], title="")
    assert [type(job) for job in jobs] == [ClipJob, Refused, Refused]


def test_what_is_no_unicode_is_refused() -> None:
    (bad,) = clip_jobs([Path("caf\udce9.mp4")], title="")
    assert isinstance(bad, Refused)
    assert bad.message == r"file name 'caf\udce9.mp4' is no valid Unicode; rename the file"
    with pytest.raises(InputError, match="title"):
        clip_jobs([Path("a.mp4")], title="\udcff")
    good = {"program_id": "p", "paths": [Path("a.mp4")], "title": "", "aliases": [], "categories": []}
    program_job(**good)  # type: ignore[arg-type]
    for name, value in (
        ("program_id", "\udcff"), ("paths", [Path("\udcff")]), ("title", "\udcff"), ("aliases", ["\udcff"]),
        ("categories", ["\udcff"]),
    ):  # fmt: skip
        with pytest.raises(InputError, match="no valid Unicode"):
            program_job(**{**good, name: value})  # type: ignore[arg-type]


def test_files_of_one_stem_have_asset_ids_of_their_own() -> None:
    paths = [Path(name) for name in ("1/e.mp4", "2/e.mp4", "e-2.mp4", "3/e.mp4")]
    job = program_job("p", paths, title="", aliases=[], categories=[])
    ids = [asset.asset_id for asset in job.assets]
    assert ids[:2] == ["e", "e-2"]
    assert len(set(ids)) == 4
    with pytest.raises(InputError, match="named twice"):
        program_job("p", [Path("e.mp4"), Path("./e.mp4")], title="", aliases=[], categories=[])


@pytest.mark.parametrize("value", ["", " ", "a\0b", "\udc80"])
def test_ids_that_no_table_holds(value: str) -> None:
    with pytest.raises(InputError):
        check_id("clip_id", value)


@pytest.mark.parametrize("value", ["a", "a/b", "a/b/c", "剧/古装"])
def test_categories(value: str) -> None:
    check_category(value)


@pytest.mark.parametrize("value", ["", "/", "a/", "a//c", "a/b/c/d", " /b"])
def test_categories_of_another_form(value: str) -> None:
    with pytest.raises(InputError):
        check_category(value)


@given(st.text())
def test_one_line_is_one_line_and_leaves_what_prints(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    if text.isprintable():
        assert line == text


def test_fingerprints_follow_name_size_and_both_ends(tmp_path: Path) -> None:
    """Where the file lies is no part of it; the words and their order are."""
    data = bytes(range(256)) * 1024
    (tmp_path / "moved").mkdir()
    path, moved = tmp_path / "a.mp4", tmp_path / "moved" / "a.mp4"
    for file in (path, moved):
        file.write_bytes(data)
    mark = fingerprint_files([path], "m", "n")
    assert fingerprint_files([moved], "m", "n") == mark
    others = {fingerprint_files([path], "n", "m"), fingerprint_files([path, moved], "m", "n")}
    for changed in (b"\1" + data[1:], data[:-1] + b"\1", data + b"x", b""):
        moved.write_bytes(changed)
        others.add(fingerprint_files([moved], "m", "n"))
    moved.unlink()
    others.add(fingerprint_files([moved], "m", "n"))
    assert mark not in others
    assert len(others) >= 6
    fingerprint_files([tmp_path, Path("/dev/null")])
