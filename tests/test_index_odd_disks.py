"""A disk that is full, and one that may only be read: one clear line, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Library, Ran, Run, files_below
from disks import ROOMS, assets_of, on_disk, sum_of

from index.errors import NotWritableError
from index.files import storing, write_atomically

STORE = Path("/s")


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """Adding, replacing, saving and compacting, with no room or too little; with room all go through."""
    *said, last = on_disk("fill_up", tmp_path)
    old = {f"p{i}": sum_of(assets_of(i)) for i in range(3)}
    new = old | {"p1": sum_of(assets_of(101)), "new": sum_of(assets_of(100))}
    assert [step["room"] for step in said] == [room for room in (*ROOMS, None) for _ in range(4)]
    for step in said:
        assert (step["problems"], step["rubbish"]) == ([], []), step
        if step["error"] is None:
            if step["change"] in ("add", "replace"):
                name = "new" if step["change"] == "add" else "p1"
                assert step["shown"][name] == new[name]
        else:
            assert step["error"] == "NotWritableError", step
            assert "no space is left" in step["message"]
            assert "make room" in step["message"]
            assert "\n" not in step["message"]
        assert set(old) <= set(step["shown"]) <= set(new)
        for name, content in step["shown"].items():
            assert content in (old.get(name), new[name])
    full = [step for step in said if step["room"] == 0]
    assert all(step["error"] and step["shown"] == old for step in full)
    assert [step["error"] for step in said[-4:]] == [None] * 4
    assert said[-1]["shown"] == new
    assert last == {"orphans": []}


def test_a_full_disk_is_one_line_of_the_command_line(
    library: Library, kept_store: Path, tmp_path: Path
) -> None:
    """No traceback, the remedy, exit 2; the same command goes through when there is room."""
    rows = library.manifest.read_text().splitlines()
    mine = [f"new-{i},{library.episodes(f'p0{i}')[0]}" for i in (1, 2)]
    (tmp_path / "more.csv").write_text("\n".join([",".join(rows[0].split(",")[:2]), *mine]))
    (tmp_path / "disk").mkdir()
    *steps, verified = on_disk(
        "fill_up_under_the_command_line", tmp_path / "disk", kept_store, tmp_path / "more.csv"
    )
    there = {"p01", "p02", "p03"}
    for added, listed in zip(steps[::2], steps[1::2], strict=True):
        ran, programs = Ran(added["code"], added["out"], added["err"]), Ran(0, listed["out"], "").objects
        names = {program["program_id"] for program in programs}
        if added["room"] is None:
            assert ran.code == 0, ran.err
            assert names == there | {"new-1", "new-2"}
            continue
        assert ran.code == 2
        (line,) = ran.lines
        assert "no space is left on its disk" in line
        assert "run the same command again" in line
        assert names == there
    assert verified["code"] == 0, verified["err"]


def test_a_night_on_a_full_disk_loses_no_link(
    matcher: Run, library: Library, store: Path, tmp_path: Path
) -> None:
    """With no room, the links of yesterday stand; filled up after the commit, those of today do."""
    assert matcher("link", "--store", store, *library.clips.values()).code == 0
    matcher("remove", "--store", store, "p02")
    yesterday = matcher("links", "--store", store, "--json").objects
    (tmp_path / "disk").mkdir()
    full, filled, roomy, verified = on_disk("nights_on_a_full_disk", tmp_path / "disk", store)

    def shown(step: dict[str, str]) -> dict[str, str | None]:
        return {link["clip_id"]: link["program_id"] for link in Ran(0, step["links"], "").objects}

    assert full["code"] == 2
    (line,) = full["err"].splitlines()
    assert "no space is left on its disk" in line
    assert shown(full) == {link["clip_id"]: link["program_id"] for link in yesterday}
    assert shown(full)["clip-p02"] == "p02"

    today = {"clip-p01": "p01", "clip-p02": None, "clip-p03": "p03"}
    assert filled["code"] == 4, filled["err"]
    assert "Traceback" not in filled["err"]
    failed = [line for line in filled["err"].splitlines() if "failed: " in line]
    assert [line.split()[0] for line in failed] == ["related", "compact"]
    assert all("no space is left on its disk" in line for line in failed)
    assert "housekeeping: verify " in filled["err"]
    assert filled["err"].splitlines()[-1].startswith("linked 2, review 0, none 1, changed 1 in ")
    assert shown(filled) == today

    assert (roomy["code"], verified["code"]) == (0, 0), roomy["err"]
    assert shown(roomy) == today


def test_a_store_that_may_only_be_read_is_searched_and_not_changed(
    library: Library, store: Path, tmp_path: Path
) -> None:
    """All that reads works; all that writes is one line and exit 2."""
    clip = str(library.clips["p01"])
    reads = [["query", clip, "--json"], ["status", "--json"], ["programs", "--json"], ["index", "verify"]]
    writes = [
        ["add", "new", clip], ["remove", "p01"], ["link", clip], ["relink"], ["index", "compact"],
        ["index", "rebuild"],
    ]  # fmt: skip
    commands = [[*words, "--store", str(store)] for words in (*reads, *writes)]
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    before = files_below(store)
    probe, *said = on_disk("read_only", store, tmp_path / "commands.json")
    assert "Read-only" in probe["message"]
    assert files_below(store) == before
    query, status, programs, verify = said[: len(reads)]
    for read in (query, status, programs, verify):
        assert read["code"] == 0, read["err"]
    assert json.loads(query["out"])["program_id"] == "p01"
    assert json.loads(status["out"])["programs"] == len(programs["out"].splitlines()) == 3
    assert len(said) == len(commands)
    for write in said[len(reads) :]:
        assert (write["code"], write["out"]) == (2, ""), write
        (line,) = write["err"].splitlines()
        assert f"{store} cannot be written: its file system is read-only" in line


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(28, "No space left on device"), "no space"),
        (RuntimeError("lance error: Disk quota exceeded (os error 122), /x.rs:1"), "no space"),
        (RuntimeError("write error in /x: 7 != 9 (Read-only file system)"), "read-only"),
        (PermissionError(13, "Permission denied", "/x"), "this user may not"),
    ],
)
def test_the_systems_words_are_known_whoever_passes_them_on(error: Exception, word: str) -> None:
    """Python, Lance and FAISS; what the system did not say passes through as it is."""
    with pytest.raises(NotWritableError, match=rf"^/s cannot be written: .*{word}") as caught, storing(STORE):
        raise error
    assert caught.value.__cause__ is error
    for other in (RuntimeError("conflict"), FileNotFoundError(2, "No such file or directory")):
        with pytest.raises(type(other)) as passed, storing(STORE):
            raise other
        assert passed.value is other


def test_a_small_file_that_cannot_be_replaced_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old text stays, and no temporary file beside it."""
    write_atomically(tmp_path / "x", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("index.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]
