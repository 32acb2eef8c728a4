"""Inputs that cannot be used: one clear line each, the right exit code, and nothing half done."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import media
import pytest
from commands import Library, Ran, Run, command, environment, files_below, run_process
from PIL import Image

from index.catalog import Catalog, ModelInfo
from matcher.config import cache_folder


@pytest.fixture(scope="module")
def odd(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are no good, or hardly."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("This is no video.\n" * 50)
    (folder / "folder.mp4").mkdir()
    media.truncate(Path(shutil.copy(library.episodes("p01")[0], folder / "cut.mp4")), 0.5)
    media.truncate(media.write(folder / "cut.mkv", map(media.moving, range(100))), 0.5)
    media.write_sound(folder / "sound.m4a")
    Image.fromarray(media.moving(1)).save(folder / "picture.jpg")
    shutil.copy(folder / "picture.jpg", folder / "picture.mp4")
    with av.open(str(folder / "zero.mp4"), "w", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()
    media.write(folder / "one-frame.mp4", [media.moving(1)])
    media.write(folder / "short.mp4", map(media.moving, range(5)))
    dots = (media.flat(50 * i, 1, 1) for i in range(5))
    media.write(folder / "one-pixel.mkv", dots, codec="ffv1", pix_fmt="bgr0")
    wide = (media.moving(i, 20000, 20) for i in range(3))
    media.write(folder / "wide.mkv", wide, codec="ffv1")
    return folder


# What cannot be read at all, and a word that the line must hold.
UNREADABLE = {
    "missing.mp4": "does not exist",
    "folder.mp4": "folder",
    "empty.mp4": "empty",
    "text.mp4": "text, not a video",
    "cut.mp4": "not a video that can be read",
    "sound.m4a": "sound but no video",
    "picture.jpg": "picture",
    "picture.mp4": "picture",
    "zero.mp4": "no frame",
}
# What can be read, odd as it is.
READABLE = ("one-frame.mp4", "short.mp4", "wide.mkv", "one-pixel.mkv")


def _says_once(ran: Ran, name: str, word: str) -> None:
    """One line on stderr for the fault, then the summary."""
    fault, last = ran.lines
    assert name in fault
    assert word in fault
    assert "failed 1 in " in last


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_single_bad_clip_is_one_line_and_exit_2(
    matcher: Run, odd: Path, kept_store: Path, name: str
) -> None:
    ran = matcher("query", "--store", kept_store, odd / name, "--json")
    assert ran.code == 2
    _says_once(ran, name, UNREADABLE[name])
    assert ran.object["decision"] == "none"
    assert ran.object["program_id"] is None
    assert UNREADABLE[name] in ran.object["error"]["message"]


def test_bad_clips_among_good_ones_are_exit_4_and_the_good_are_answered(
    matcher: Run, odd: Path, library: Library, store: Path
) -> None:
    """Linked, too: only what has an answer is kept."""
    good = list(library.clips.values())
    bad = [odd / name for name in UNREADABLE if name != "picture.jpg"]
    clips = [*bad[:4], good[0], *bad[4:], good[1], good[2]]
    for verb in ("query", "link"):
        ran = matcher(verb, "--store", store, *clips, "--json")
        assert ran.code == 4
        assert [answer["path"] for answer in ran.objects] == [str(clip) for clip in clips]
        assert [a["program_id"] for a in ran.objects if a["error"] is None] == ["p01", "p02", "p03"]
        assert len(ran.lines) == len(bad) + 1
        assert ran.lines[-1].startswith(f"linked 3, review 0, none 0, failed {len(bad)} in ")
    assert len(matcher("clips", "--store", store, "--json").objects) == 3
    assert "failed" in matcher("query", "--store", store, good[0], bad[0]).out


@pytest.mark.parametrize("name", READABLE)
def test_odd_clips_that_can_be_read_have_an_answer(
    matcher: Run, odd: Path, kept_store: Path, name: str
) -> None:
    ran = matcher("query", "--store", kept_store, odd / name, "--json")
    assert ran.code == 0
    assert ran.object["error"] is None
    assert ran.object["decision"] in ("linked", "review", "none")
    assert len(ran.lines) == 1


def test_one_frame_of_a_program_has_an_answer_too(
    matcher: Run, library: Library, kept_store: Path, tmp_path: Path
) -> None:
    with av.open(str(library.clips["p01"])) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    still = media.write(tmp_path / "still.mp4", [picture])
    answer = matcher("query", "--store", kept_store, still, "--json").object
    assert answer["error"] is None
    assert answer["candidates"][0]["program_id"] == "p01"


@pytest.mark.parametrize("name", [*UNREADABLE, "one-pixel.mkv"])
def test_a_program_with_a_bad_file_is_refused_whole(
    matcher: Run, odd: Path, library: Library, store: Path, name: str
) -> None:
    """Wherever the bad file stands, and whether the program was there before or not."""
    before = matcher("programs", "--store", store, "--json").objects
    first, second = library.episodes("p02")
    for program_id, files in (("new", [first, odd / name, second]), ("p01", [odd / name, first])):
        ran = matcher("add", "--store", store, program_id, *files, "--json")
        assert ran.code == 2
        _says_once(ran, name, UNREADABLE.get(name, "blank"))
        assert ran.object["outcome"] == "failed"
    assert matcher("programs", "--store", store, "--json").objects == before
    assert matcher("query", "--store", store, library.clips["p01"], "--json").object["program_id"] == "p01"
    assert matcher("index", "verify", "--store", store).code == 0


def test_a_film_that_breaks_off_is_added_with_what_is_there_and_says_so(
    matcher: Run, odd: Path, tmp_path: Path
) -> None:
    """Where the container can be read at all; both of its verbs agree."""
    ran = matcher("add", "--store", tmp_path / "s", "cut", odd / "cut.mkv", "--json")
    assert ran.code == 0
    assert len(ran.lines) == 2
    assert "breaks off" in ran.lines[0]
    assert 0 < ran.object["frames"] <= 3
    assert matcher("query", "--store", tmp_path / "s", odd / "cut.mkv").code == 0


# Runs the command line as nobody, where root would be let through; before that once as root, as nobody
# may not even be allowed to load the packages.
_AS_NOBODY = """
import contextlib, io, os, sys
from matcher.cli import main
if os.getuid() == 0:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(sys.argv[1:])
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
main(sys.argv[1:])
"""


def test_a_file_that_may_not_be_read_is_one_line(library: Library, store: Path, tmp_path: Path) -> None:
    """And the rest of the batch is answered; a store that may only be read serves queries."""
    shutil.copytree(cache_folder(), tmp_path / "cache")
    secret, good = tmp_path / "secret.mp4", tmp_path / "good.mp4"
    for path in (secret, good):
        shutil.copy(library.clips["p01"], path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for folder in itertools.takewhile(lambda f: f != Path(tempfile.gettempdir()), tmp_path.parents):
        folder.chmod(0o755)
    secret.chmod(0)
    words = [
        sys.executable,
        "-c",
        _AS_NOBODY,
        "query",
        "--store",
        str(store),
        "--json",
        str(secret),
        str(good),
    ]
    surroundings = environment(MATCHER_CACHE=str(tmp_path / "cache"), HOME=str(tmp_path))
    # Coverage could not write its data as that user, and says so on stderr.
    surroundings = {name: value for name, value in surroundings.items() if not name.startswith("COV")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=surroundings)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    assert done.returncode == 4, done.stderr
    ran = Ran(done.returncode, done.stdout, done.stderr)
    assert [answer["program_id"] for answer in ran.objects] == [None, "p01"]
    assert "cannot be read (Permission denied): check its permissions" in ran.lines[0]
    assert len(ran.lines) == 2


NAMES = [
    "with space",
    "it's",
    'say "so"',
    "two\nlines",
    "中文 剧集",
    "-e",
    "tab\there",
    "100%",
    "a;b,c",
    "[x]",
    "%03d",
]


def test_names_of_every_kind_are_taken_as_they_are(matcher: Run, tmp_path: Path) -> None:
    """As file names, program ids and clip ids; in words, in manifests, in JSON."""
    store, folder = tmp_path / "s", tmp_path / "files"
    folder.mkdir()
    film = media.write(tmp_path / "film.mp4", map(media.moving, range(40)))
    clip = media.write(tmp_path / "clip.mp4", map(media.moving, range(5, 30)))
    programs, clips = folder / "programs.csv", folder / "clips.csv"
    with (
        programs.open("w", newline="", encoding="utf-8") as a,
        clips.open("w", newline="", encoding="utf-8") as b,
    ):
        program_rows, clip_rows = csv.writer(a), csv.writer(b)
        program_rows.writerow(["program_id", "path", "title"])
        clip_rows.writerow(["clip_id", "path"])
        for name in NAMES:
            shutil.copy(film, folder / f"{name}.mp4")
            shutil.copy(clip, folder / f"c {name}.mp4")
            program_rows.writerow([name, f"{name}.mp4", name])
            clip_rows.writerow([name, f"c {name}.mp4"])
    added = matcher("add", "--store", store, "--manifest", programs, "--json")
    assert added.code == 0, added.err
    assert [result["program_id"] for result in added.objects] == NAMES
    listed = matcher("programs", "--store", store, "--json").objects
    assert [program["program_id"] for program in listed] == NAMES
    assert [program["assets"][0]["asset_id"] for program in listed] == NAMES
    assert len(matcher("programs", "--store", store).out.splitlines()) >= len(NAMES)

    linked = matcher("link", "--store", store, "--manifest", clips, "--json")
    assert linked.code == 0
    assert [answer["clip_id"] for answer in linked.objects] == NAMES
    assert {answer["candidates"][0]["program_id"] for answer in linked.objects} <= set(NAMES)
    assert {c["clip_id"] for c in matcher("clips", "--store", store, "--json").objects} == set(NAMES)

    by_words = matcher(
        "query", "--store", store, "--json", "--", *(folder / f"c {name}.mp4" for name in NAMES)
    )
    assert [answer["clip_id"] for answer in by_words.objects] == [f"c {name}" for name in NAMES]
    removed = matcher("remove", "--store", store, "--json", "--", *NAMES)
    assert removed.code == 0, removed.err
    assert matcher("programs", "--store", store, "--json").out == ""


def test_a_line_break_in_a_name_does_not_break_the_line(
    matcher: Run, kept_store: Path, tmp_path: Path
) -> None:
    ran = matcher("query", "--store", kept_store, tmp_path / "two\nlines\x1b[31m.mp4")
    assert ran.code == 2
    assert len(ran.lines) == 2
    assert "\x1b" not in ran.err + ran.out


def test_a_file_name_that_is_no_unicode_is_one_line(library: Library, store: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        shutil.copy(os.fsencode(library.clips["p01"]), name)
    except OSError:
        pytest.skip("this file system takes no such name")
    ran = run_process("link", "--store", store, library.clips["p02"], name, "--json")
    assert ran.code == 4
    assert [answer["program_id"] for answer in ran.objects] == ["p02", None]
    assert len(ran.lines) == 2
    assert "caf\\udce9.mp4' is no valid Unicode; rename the file" in ran.lines[0]
    for words in (("add", "p", name), ("add", b"caf\xe9", library.clips["p01"])):
        ran = run_process(*words, "--store", tmp_path / "s")
        assert ran.code == 2
        assert len(ran.lines) == 1
        assert "is no valid Unicode" in ran.lines[0]
    assert not (tmp_path / "s").exists()


def test_a_clip_named_twice_is_answered_once(matcher: Run, library: Library, store: Path) -> None:
    clip = library.clips["p01"]
    ran = matcher("link", "--store", store, clip, clip, "--json")
    assert ran.code == 4
    assert [answer["error"] is None for answer in ran.objects] == [True, False]
    assert "second time" in ran.lines[0]


# ---------------------------------------------------------------- manifests


def _manifest(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no column"),
        ("program_id,clip_id\na,b\n", "no column path"),
        ("program_id,clip_id,path\n", "no rows"),
        ("program_id;clip_id;path\na;b;c.mp4\n", "no column"),
        ('program_id,clip_id,path\n"a,b,c.mp4\n', "row 2"),
    ],
)
def test_a_manifest_that_is_none_is_exit_2(
    matcher: Run, kept_store: Path, tmp_path: Path, text: str, word: str
) -> None:
    manifest = _manifest(tmp_path / "m.csv", text)
    for verb in ("add", "query"):
        ran = matcher(verb, "--store", kept_store, "--manifest", manifest)
        assert ran.code == 2
        assert word in ran.lines[0]
        assert "m.csv" in ran.lines[0]


def test_a_manifest_that_cannot_be_read_is_exit_2(matcher: Run, kept_store: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("clip_id,path\né,x.mp4\n".encode("latin-1"))
    for name, word in (
        ("gone.csv", "No such file"),
        ("latin.csv", "not a CSV file in UTF-8"),
        (".", "directory"),
    ):
        ran = matcher("query", "--store", kept_store, "--manifest", tmp_path / name)
        assert ran.code == 2
        assert len(ran.lines) == 1
        assert word in ran.lines[0]


def test_a_wrong_path_in_row_7_names_the_row_and_the_rest_is_added(
    matcher: Run, library: Library, tmp_path: Path
) -> None:
    """Row 7 as a spreadsheet counts; the program of that row is not there, though its row 3 is good."""
    store = tmp_path / "s"
    first, second = library.episodes("p01")
    other = library.episodes("p02")[0]
    rows = [f"a,{first}", f"b,{second}", f"c,{other}", "", f"d,{first}", "b,wrong.mp4"]
    manifest = _manifest(tmp_path / "m.csv", "\n".join(["program_id,path", *rows]) + "\n")
    ran = matcher("add", "--store", store, "--manifest", manifest, "--json")
    assert ran.code == 4
    assert len(ran.lines) == 2
    assert "row 7" in ran.lines[0]
    assert "wrong.mp4" in ran.lines[0]
    assert ran.lines[0].startswith("b: ")
    assert {result["program_id"]: result["outcome"] for result in ran.objects} == {
        "a": "added", "b": "failed", "c": "added", "d": "added",
    }  # fmt: skip
    assert ran.lines[-1].startswith("added 3, replaced 0, unchanged 0, failed 1 in ")
    assert [p["program_id"] for p in matcher("programs", "--store", store, "--json").objects] == [
        "a",
        "c",
        "d",
    ]


def test_a_bad_file_in_a_manifest_names_its_row(
    matcher: Run, odd: Path, library: Library, tmp_path: Path
) -> None:
    rows = f"program_id,path\na,{library.episodes('p01')[0]}\nb,{odd / 'text.mp4'}\n"
    ran = matcher("add", "--store", tmp_path / "s", "--manifest", _manifest(tmp_path / "m.csv", rows))
    assert ran.code == 4
    assert ran.lines[0].startswith("b: row 3: ")
    assert "text, not a video" in ran.lines[0]


def test_an_asset_id_that_comes_twice_refuses_its_program(
    matcher: Run, library: Library, tmp_path: Path
) -> None:
    first, second = library.episodes("p01")
    rows = f"program_id,path,asset_id\na,{first},e1\na,{second},e1\nb,{first},e1\n"
    ran = matcher("add", "--store", tmp_path / "s", "--manifest", _manifest(tmp_path / "m.csv", rows))
    assert ran.code == 4
    assert "row 3" in ran.lines[0]
    assert "second time" in ran.lines[0]
    assert [p["program_id"] for p in matcher("programs", "--store", tmp_path / "s", "--json").objects] == [
        "b"
    ]


# ---------------------------------------------------------------- stores and settings


def test_a_store_of_another_encoder_is_refused_by_name(
    matcher: Run, library: Library, tmp_path: Path
) -> None:
    other = ModelInfo(fingerprint="0123456789abcdef", name="other-model", d=512)
    store = tmp_path / "s"
    Catalog.create(store, other)
    before = files_below(store)
    for words in (
        ("query", library.clips["p01"]),
        ("link", library.clips["p01"]),
        ("add", "p", library.clips["p01"]),
    ):
        ran = matcher(*words, "--store", store)
        assert ran.code == 2
        assert len(ran.lines) == 1
        assert "other-model" in ran.lines[0]
    assert files_below(store) == before


def test_no_store_is_exit_2_for_all_that_read(matcher: Run, library: Library, tmp_path: Path) -> None:
    clip = library.clips["p01"]
    for words in (
        ["query", clip], ["link", clip], ["relink"], ["remove", "p"], ["programs"], ["clips"], ["links"],
        ["status"], ["index", "verify"], ["index", "rebuild"], ["index", "compact"], ["bench", "query", clip],
    ):  # fmt: skip
        ran = matcher(*words, "--store", tmp_path / "none")
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.lines) == 1
        assert "there is no store at" in ran.lines[0]
    assert not (tmp_path / "none").exists()


def test_a_folder_of_something_else_is_left_alone(matcher: Run, library: Library, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    before = files_below(tmp_path)
    for name in ("thesis", "file"):
        for words in (["add", "p", library.clips["p01"]], ["query", library.clips["p01"]], ["programs"]):
            ran = matcher(*words, "--store", tmp_path / name)
            assert ran.code == 2
            assert len(ran.lines) == 1
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{}", "damaged"),
        ("{", "damaged"),
        ('{"kind": "recipe store", "format": 1}', "kind"),
        ('{"kind": "program-matcher store", "format": 99}', "Update"),
    ],
)
def test_a_damaged_or_newer_store_is_one_line(matcher: Run, store: Path, text: str, word: str) -> None:
    (store / "store.json").write_text(text)
    ran = matcher("programs", "--store", store)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.lines) == 1
    assert word in ran.lines[0]


def test_damaged_tables_are_one_line(matcher: Run, library: Library, store: Path) -> None:
    """Whichever file of them: never a traceback, never a wrong answer."""
    for file in sorted((store / "tables" / "programs.lance").rglob("*.lance")):
        file.write_bytes(b"spoilt" + file.read_bytes()[6:][:-20])
    for words in (["programs"], ["query", library.clips["p01"]], ["index", "verify"], ["doctor"]):
        ran = matcher(*words, "--store", store)
        assert ran.code == 2
        if words != ["doctor"]:
            assert len(ran.lines) == 1
            assert "programs" in ran.lines[0]


@pytest.fixture
def locked(store: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A store that another process is writing to, until its stdin closes."""
    program = (
        "import sys\nfrom index.catalog import Catalog\n"
        "with Catalog.open(sys.argv[1]).writing():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment(),
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"held\n"
    yield store, child
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


def test_a_store_in_use_refuses_writers_by_the_holders_name_and_serves_readers(
    matcher: Run, library: Library, locked: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    store, child = locked
    clip = library.clips["p01"]
    for words in (
        ["add", "new", clip], ["remove", "p01"], ["link", clip], ["relink"], ["index", "rebuild"],
        ["index", "compact"],
    ):  # fmt: skip
        ran = matcher(*words, "--store", store)
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.lines) == 1
        assert f"process {child.pid} " in ran.lines[0]
        assert "--wait SECONDS" in ran.lines[0]
    assert matcher("query", "--store", store, clip, "--json").object["program_id"] == "p01"
    assert len(matcher("programs", "--store", store, "--json").objects) == 3
    assert matcher("index", "verify", "--store", store).code == 0


def test_wait_waits_for_the_other_writer(
    library: Library, locked: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    store, holder = locked
    words = command("link", "--store", store, library.clips["p01"], "--wait", "60", "--json")
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    time.sleep(3.0)
    assert waiting.poll() is None
    assert holder.stdin is not None
    holder.stdin.close()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert b'"linked"' in out


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[decision\n", "not TOML"),
        ("[decision]\nlonk = 0.9\n", "decision.lonk"),
        ("[nonesuch]\na = 1\n", "nonesuch"),
        ("[decision]\nlink = 2.0\n", "decision.link"),
        ('[voting]\nk = "many"\n', "voting.k"),
        ('[encoder]\ndevice = "gpu"\n', "encoder.device"),
        ('[sampling]\nclips = "hourly"\n', "hourly"),
    ],
)
def test_damaged_settings_are_one_line(
    matcher: Run, library: Library, kept_store: Path, tmp_path: Path, text: str, word: str
) -> None:
    config = _manifest(tmp_path / "settings.toml", text)
    ran = matcher("query", "--store", kept_store, library.clips["p01"], "--config", config)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.lines) == 1
    assert word in ran.lines[0]


def test_settings_that_are_not_there_are_one_line(matcher: Run, kept_store: Path, tmp_path: Path) -> None:
    ran = matcher("status", "--store", kept_store, "--config", tmp_path / "none.toml")
    assert ran.code == 2
    assert "none.toml" in ran.lines[0]
    assert len(ran.lines) == 1


def test_a_report_that_cannot_be_written_is_one_line(matcher: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = matcher("relink", "--store", store, "--report", tmp_path / "file")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.lines) == 1
    assert "file" in ran.lines[0]


def test_removing_what_is_not_there(matcher: Run, store: Path) -> None:
    ran = matcher("remove", "--store", store, "nope", "--json")
    assert ran.code == 2
    assert ran.lines[0].startswith("nope: no such program")
    assert ran.object["outcome"] == "failed"
    mixed = matcher("remove", "--store", store, "nope", "p01", "p01")
    assert mixed.code == 4
    assert mixed.lines[-1].startswith("removed 1, failed 1 in ")
