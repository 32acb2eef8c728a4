"""Searching titles: BM25 over n-grams, the full-text index against going through all names, and kills."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_titles
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index import catalog as catalog_module
from index import titles
from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram, ProgramRecord, Writer
from index.errors import CatalogError

MODEL = ModelInfo("fp-1", "embedded", 4, {})


def program(program_id: str, title: str, *aliases: str) -> tuple[NewProgram, list[NewAsset]]:
    asset = NewAsset("a", "/a.mp4", "", 1.0, np.zeros(1), np.ones((1, 4), np.float32))
    return NewProgram(program_id, title, aliases), [asset]


def ids_of(found: list[ProgramRecord]) -> list[str]:
    return [record.program_id for record in found]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path / "store", MODEL)


def is_indexed(catalog: Catalog) -> bool:
    return catalog_module._has_names_index(catalog._tables["programs"])


def scanned(catalog: Catalog, text: str, monkeypatch: pytest.MonkeyPatch, limit: int = 50) -> list[str]:
    """The same search by one who sees no index."""
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "_has_names_index", lambda table: False)
        return ids_of(catalog.search_titles(text, limit=limit))


# ---------------------------------------------------------------- the specification


def bm25(documents: list[str], window: str) -> list[float]:
    """Okapi BM25 as a textbook has it, k1 = 1.2 and b = 0.75, over all n-grams of 2 and 3 characters."""

    def grams(text: str) -> list[str]:
        return [text[i : i + n] for n in (2, 3) for i in range(len(text) - n + 1)]

    cut = [grams(document) for document in documents]
    mean = sum(map(len, cut)) / len(cut)
    scores = []
    for own in cut:
        score = 0.0
        for gram in set(grams(window)):
            holders = sum(gram in other for other in cut)
            f = own.count(gram)
            idf = math.log((len(cut) - holders + 0.5) / (holders + 0.5) + 1)
            score += idf * f * 2.2 / (f + 1.2 * (1 - 0.75 + 0.75 * len(own) / mean)) if f else 0
        scores.append(score)
    return scores


@given(
    st.lists(st.text("abc年", max_size=8), min_size=1, max_size=8),
    st.text("abc年", max_size=8),
    st.integers(1, 9),
)
def test_a_scan_is_bm25_as_written_down(documents: list[str], window: str, limit: int) -> None:
    want = bm25(documents, window)
    found = titles.Counted(documents).scan(window, limit=limit)
    assert len(found) == min(limit, sum(score > 0 for score in want))
    np.testing.assert_allclose([score for _, score in found], [want[row] for row, _ in found])
    rest = set(range(len(documents))) - {row for row, _ in found}
    assert all(want[row] <= found[-1][1] + 1e-9 for row in rest) if found else max(want) == 0
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_windows_leave_no_title_out() -> None:
    """Whatever its place in a text, a name of 32 characters stands whole in one of them."""
    text = "".join(made_titles.HAN[:700])
    cut = titles.windows(text)
    assert len(cut) < 9
    assert all(any(text[at : at + 32] in window for window in cut) for at in range(700 - 31))
    assert titles.windows("《庆余年》!") == ["庆余年"]
    assert titles.windows("年") == titles.windows("!") == titles.windows("") == []


def test_a_document_holds_every_name_once() -> None:
    assert titles.names_document("庆余年", ["Joy of Life", "庆·余年", "!", "J"]) == "庆余年\njoy of life\nj"
    assert titles.names_document("", []) == ""


# ---------------------------------------------------------------- with and without an index


def test_the_index_ranks_as_going_through_all_names_does(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 titles: the first is the same, and so are all of ten; nearly, while some came after the index.

    These are scored with how common an n-gram is among themselves.
    """
    names = made_titles.titles(2000, 1)
    rng = random.Random(2)
    with catalog.writing() as writer:
        writer.add_programs(
            program(f"p{i}", title, *([names[(i + 7) % 2000]] if i % 5 == 0 else []))
            for i, title in enumerate(names)
        )
        catalog.refresh()
        assert is_indexed(catalog)
        new = made_titles.titles(2300, 1)[2000:]
        writer.add_programs(program(f"p{2000 + i}", title) for i, title in enumerate(new))
    catalog.refresh()
    assert catalog._tables["programs"].index_stats("names_idx").num_unindexed_rows == 300
    for least in (0.85, 0.999):
        first, ten = [], []
        for i in [*range(0, 2000, 100), *range(2000, 2300, 30)]:
            text = made_titles.around(made_titles.with_typo([*names, *new][i], rng), rng)
            found, want = ids_of(catalog.search_titles(text)), scanned(catalog, text, monkeypatch)
            first.append(found[0] == want[0])
            ten.append(len(set(found[:10]) & set(want[:10])) / len(want[:10]))
        assert min(np.mean(first), np.mean(ten)) > least
        with catalog.writing() as writer:
            writer.compact()
        assert catalog._tables["programs"].index_stats("names_idx").num_unindexed_rows == 0


@pytest.fixture(params=["scan", "index", "index and rows beside it"])
def filled(request: pytest.FixtureRequest, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """Some programs, whichever way their names are searched."""
    if request.param != "scan":
        monkeypatch.setattr(catalog_module, "INDEX_NAMES_ABOVE", 3)
    with catalog.writing() as writer:
        rows = [
            program("joy", "庆余年", "Joy of Life", "JOL"),
            program("joy2", "庆余年 第二季"),
            program("cafe", "Café de Flore"),
            program("laugh", "😂笑傲江湖😂"),
            program("odd", 'it\'s a "100%" (AND) NOT: names*'),
            program("one", "家"),
            program("nameless", ""),
        ]
        if request.param == "index":
            writer.add_programs(rows)
        else:
            for row in rows:
                writer.add_programs([row])
    catalog.refresh()
    assert is_indexed(catalog) == (request.param != "scan")
    return catalog


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("看《庆余年》第三集", "joy"),
        ("庆·余·年 第 二 季 大结局", "joy2"),
        ("watching JOY OF LIFE tonight", "joy"),
        ("CAFÉ de flore!!", "cafe"),
        ("笑傲 江湖 名场面 😂", "laugh"),
        ("It's A 100% and not names", "odd"),
        ("x" * 500 + " 庆余年 " + "y" * 500, "joy"),
    ],
)
def test_a_title_or_alias_in_a_text_is_found(filled: Catalog, text: str, first: str) -> None:
    """Among the first two: a shorter document that shares less may come before it."""
    assert filled.program(first) in filled.search_titles(text)[:2]


@pytest.mark.parametrize("text", ["", " ", "!", "家", "年", "\0", "zzzz", '"', "'", "*", "年 joke 家"])
def test_what_shares_no_two_characters_finds_nothing(filled: Catalog, text: str) -> None:
    assert ids_of(filled.search_titles(text)) == (["joy"] if "jo" in text else [])


_SYNTAX = [
    "'; DROP TABLE programs; --",
    "names:庆余年",
    "+庆余年 -庆余年",
    '"庆余年',
    "庆余年~2",
    "庆余年^9",
    "(庆余年",
    "庆余年 AND NOT joy",
    "[庆余年 TO *]",
    "%庆余年%",
    "\\庆余年",
    '{"match": "庆余年"}',
    "庆余年' OR '1'='1",
]


@pytest.mark.parametrize("text", _SYNTAX)
def test_syntax_in_a_text_is_text(filled: Catalog, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same programs in the same order as brute force gives."""
    found = ids_of(filled.search_titles(text))
    names = filled.names_by_program()
    scores = bm25(list(names.values()), "".join(titles.windows(text)))
    assert set(found) == {program_id for program_id, score in zip(names, scores, strict=True) if score}
    assert found[:1] == scanned(filled, text, monkeypatch)[:1]


def test_a_removed_program_has_no_name_and_a_replaced_one_its_new(filled: Catalog) -> None:
    reader = Catalog.open(filled.path)
    with filled.writing() as writer:
        writer.remove_programs(["joy2"])
        writer.add_programs([program("joy", "雪中悍刀行", "Sword Snow Stride")])
    filled.refresh()
    for seconds in (3600.0, 0.0):
        assert ids_of(filled.search_titles("庆余年 第二季")) == []
        assert ids_of(filled.search_titles("雪中悍刀行 1")) == ["joy"]
        assert ids_of(filled.search_titles("sword snow"))[0] == "joy"
        # Who has not refreshed sees the moment of before.
        assert set(ids_of(reader.search_titles("庆余年 第二季"))) == {"joy", "joy2"}
        with filled.writing() as writer:
            writer.compact(keep_seconds=seconds)
    # Its files are gone now: it sees what its memory holds, or the present.
    assert set(ids_of(reader.search_titles("庆余年 第二季"))) <= {"joy", "joy2"}
    reader.refresh()
    assert ids_of(reader.search_titles("雪中悍刀行 1")) == ["joy"]
    assert ids_of(reader.search_titles("庆余年 第二季")) == []
    with filled.writing() as writer:
        writer.add_programs([program("joy2", "庆余年 第二季")])
    filled.refresh()
    assert ids_of(filled.search_titles("庆余年")) == ["joy2"]


def test_at_most_as_many_as_asked_for_and_equals_by_number(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        writer.add_programs(program(f"p{i}", "庆余年") for i in (3, 1, 2))
    catalog.refresh()
    assert ids_of(catalog.search_titles("庆余年")) == ["p3", "p1", "p2"]
    assert ids_of(catalog.search_titles("庆余年", limit=2)) == ["p3", "p1"]


# ---------------------------------------------------------------- when the index is made


def test_small_stores_have_no_index_and_grown_ones_make_it_anew_at_twice_the_size(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "INDEX_NAMES_ABOVE", 4)
    inside = []
    with catalog.writing() as writer:
        for i in range(18):
            writer.add_programs([program(f"p{i}", f"标题{i}")])
            catalog.refresh()
            table = catalog._tables["programs"]
            inside.append(table.index_stats("names_idx").num_indexed_rows if is_indexed(catalog) else 0)
        assert inside == [0] * 3 + [4] * 4 + [8] * 8 + [16] * 3
        writer.compact()
    assert catalog._tables["programs"].index_stats("names_idx").num_indexed_rows == 18


def test_readers_make_no_index(filled: Catalog) -> None:
    before = {path: path.stat().st_mtime_ns for path in filled.path.rglob("*")}
    reader = Catalog.open(filled.path)
    reader.search_titles("庆余年 " * 100)
    reader.names_by_program()
    assert {path: path.stat().st_mtime_ns for path in filled.path.rglob("*")} == before


def test_a_damaged_index_is_told_in_one_line(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "INDEX_NAMES_ABOVE", 1)
    with catalog.writing() as writer:
        writer.add_programs([program("p", "庆余年")])
    for path in (catalog.path / "tables/programs.lance/_indices").rglob("*.lance"):
        path.write_bytes(b"")
    with pytest.raises(CatalogError, match=r"the table programs of the store .* cannot be read"):
        Catalog.open(catalog.path).search_titles("庆余年")


# ---------------------------------------------------------------- a store of before there were names


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs, one of them removed, in a table without the column."""
    schemas = catalog_module.table_schemas

    def of_before(*args: int) -> dict[str, pa.Schema]:
        return {
            name: pa.schema([field for field in schema if field.name != "names"])
            for name, schema in schemas(*args).items()
        }

    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "table_schemas", of_before)
        patch.setattr(Writer, "_fill_in_names", lambda self: None)
        with Catalog.create(tmp_path / "old", MODEL).writing() as writer:
            writer.add_programs(
                [program("a", "庆余年", "Joy of Life"), program("b", "庆余年"), program("c", "!")]
            )
            writer.remove_programs(["b"])
    return tmp_path / "old"


def test_a_store_of_before_is_searched_as_it_is(old_store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in old_store.rglob("*")}
    catalog = Catalog.open(old_store)
    assert "names" not in catalog._tables["programs"].schema.names
    assert ids_of(catalog.search_titles("joy of life 庆余年")) == ["a"]
    assert catalog.names_by_program() == {"a": "庆余年\njoy of life", "c": ""}
    assert {path: path.stat().st_mtime_ns for path in old_store.rglob("*")} == before


def test_the_first_writer_gives_names_to_a_store_of_before_and_the_next_change_nothing(
    old_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it is killed between the column and the names, the next one does it."""
    catalog = Catalog.open(old_store)
    programs = catalog.programs(removed=True)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_merge", _killed)
        with pytest.raises(KeyboardInterrupt):
            catalog.writing().__enter__()
    assert ids_of(Catalog.open(old_store).search_titles("庆余年")) == ["a"]
    monkeypatch.setattr(catalog_module, "INDEX_NAMES_ABOVE", 1)
    with catalog.writing() as writer:
        catalog.refresh()
        rows = {row["program_id"]: row["names"] for row in catalog._rows("programs")}
        assert rows == {"a": "庆余年\njoy of life", "b": "", "c": ""}
        writer.compact()
    assert catalog.programs(removed=True) == programs
    assert is_indexed(catalog)
    assert ids_of(catalog.search_titles("庆余年")) == ["a"]
    version = catalog.version()
    with catalog.writing():
        assert catalog.refresh() == version


def _killed(*args: object) -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------- kill -9


_USER = """
import sys
sys.path[:0] = sys.argv[2:]
import test_index_titles as t
t.catalog_module.INDEX_NAMES_ABOVE = 2
catalog = t.Catalog.open(sys.argv[1])
start = catalog.version()
print("ready", flush=True)
for i in range(10**6):
    with catalog.writing(wait_seconds=10) as writer:
        name = f"庆余年{start}x{i}"
        writer.add_programs([t.program(f"p{i % 9}", name, "joy")])
        if i % 3 == 2:
            writer.compact(keep_seconds=0)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_kill_9_at_any_instant_leaves_names_that_are_found(catalog: Catalog, kills: int) -> None:
    """Of each program the name that its row says, whatever was being written, indexed or compacted."""
    rng = random.Random(3)
    root = Path(__file__).parents[1]
    for _ in range(kills):
        words = [sys.executable, "-c", _USER, str(catalog.path), str(root), str(root / "tests")]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as user:
            assert user.stdout is not None
            assert user.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.05, 0.8))
            user.send_signal(signal.SIGKILL)
        seen = Catalog.open(catalog.path)
        programs = seen.programs()
        assert set(seen.names_by_program()) == {record.program_id for record in programs}
        for record in programs:
            assert seen.names_by_program()[record.program_id] == titles.names_document(record.title, ["joy"])
            assert record in seen.search_titles(record.title)
        assert set(ids_of(seen.search_titles("joy"))) == {record.program_id for record in programs}
    with catalog.writing(wait_seconds=10) as writer:
        writer.compact(keep_seconds=0)
    assert len(catalog.programs()) > 0
    assert is_indexed(catalog)
