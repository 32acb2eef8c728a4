"""Stores in object storage: the same catalog, with a lease for a lock and the FAISS cache elsewhere."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest

from index import objects
from index.catalog import Catalog, LinkRecord, ModelInfo, NewAsset, NewProgram
from index.errors import BackendMissingError, CatalogError, CatalogLockedError, LeaseLostError
from index.live import LiveIndex
from index.objects import ObjectPlace
from index.places import LocalPlace, place_of

MODEL = ModelInfo("fp-1", "embedded", 8)
LEASE_SECONDS = 0.8


def asset_of(asset_id: str, value: int = 1, n: int = 5) -> NewAsset:
    """Every vector and time says which one it is of."""
    return NewAsset(asset_id, "/v", "", 99.0, np.arange(n) + value, np.full((n, 8), value, np.float32))


@pytest.fixture
def place(address: str) -> ObjectPlace:
    return ObjectPlace.of(address, lease_seconds=LEASE_SECONDS)


@pytest.fixture
def catalog(place: ObjectPlace) -> Catalog:
    return Catalog.create(place, MODEL)


# ---------------------------------------------------------------- names


def test_a_place_is_known_by_its_name(bucket: str, tmp_path: Path) -> None:
    assert isinstance(place_of(tmp_path), LocalPlace)
    assert isinstance(place_of(str(tmp_path)), LocalPlace)
    assert str(place_of("./x/")) == "x"
    place = place_of("s3://programs/some/store/")
    assert str(place) == place.full_name == "s3://programs/some/store"
    assert place_of(place) is place
    assert place.name_of("store.json") == "s3://programs/some/store/store.json"
    assert place.tables == "s3://programs/some/store/tables"
    assert place.same_as(place_of("s3://programs/some/store"))
    assert not place.same_as(place_of("s3://programs/some"))
    assert not place.same_as(place_of(tmp_path))
    assert str(place_of("s3://programs")) == "s3://programs"


@pytest.mark.parametrize(
    "name", ["s3://", "s3:///x", "s3://b/a?b", "s3://b/a%20b", "s3://b/x/../y", "gs://b/x"]
)
def test_other_addresses_are_refused(name: str) -> None:
    with pytest.raises(CatalogError, match=r"s3://BUCKET/PREFIX.*another --store"):
        place_of(name)


def test_an_address_that_became_a_path_is_no_folder() -> None:
    """It has lost a slash, and a folder of that name would be made without a word."""
    with pytest.raises(ValueError, match="as text"):
        place_of(Path("s3://programs/store"))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "index.objects")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BackendMissingError, match=r"program-matcher\[s3\]"):
        place_of("s3://programs/store")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({}, {"allow_http": "false"}),
        ({"AWS_REGION": "eu-west-1"}, {"allow_http": "false", "region": "eu-west-1"}),
        (
            {"AWS_ENDPOINT_URL": "https://o:1", "AWS_ENDPOINT": "http://p"},
            {"allow_http": "false", "region": "us-east-1", "endpoint": "https://o:1"},
        ),
        (
            {"AWS_ENDPOINT": "http://p:9", "AWS_DEFAULT_REGION": "r"},
            {"allow_http": "true", "region": "r", "endpoint": "http://p:9"},
        ),
        ({"AWS_ALLOW_HTTP": "true"}, {"allow_http": "true"}),
    ],
)
def test_the_usual_variables_lead_to_the_storage(words: dict[str, str], wanted: dict[str, str]) -> None:
    options = ObjectPlace("b", "p", environment=words).storage_options
    assert options is not None
    assert {name: options[name] for name in options if name in ("allow_http", "region", "endpoint")} == wanted


def test_an_endpoint_must_be_one() -> None:
    with pytest.raises(CatalogError, match=r"s3://b/p: AWS_ENDPOINT_URL is 'minio:9000', not https://HOST"):
        ObjectPlace("b", "p", environment=leading_to("minio:9000"))


# ---------------------------------------------------------------- the catalog and the index


def test_a_catalog_there_is_as_one_in_a_folder(address: str, place: ObjectPlace) -> None:
    with pytest.raises(CatalogError, match=rf"no store at {address}.*matcher add --store {address}"):
        Catalog.open(address)
    catalog = Catalog.create(place, MODEL)
    reader = Catalog.open(address, model=MODEL)
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a", 1), asset_of("b", 2)])
        writer.add_program(NewProgram("q"), [asset_of("c", 3)])
        writer.add_program(NewProgram("p"), [asset_of("d", 4, n=6)])
        assert writer.remove_programs(["q"]) == ["q"]
        writer.put_links([LinkRecord("c1", "none", None, 0.5, 3, "", "{}")])
        writer.compact(keep_seconds=0)
    assert reader.programs() == []
    reader.refresh()
    (record,) = reader.programs()
    frames = reader.frames_of(record.number)
    np.testing.assert_array_equal(frames.vectors, np.full((6, 8), 4))
    np.testing.assert_array_equal(frames.t_seconds, np.arange(6) + 4)
    assert reader.frame_counts() == {3: 6}
    assert [link.clip_id for link in reader.links()] == ["c1"]
    assert Catalog.create(address, MODEL).programs() == [record]
    assert sorted(place.entries()) == ["store.json", "tables", "write.lock"]
    assert place.size() > place.size("tables/frames.lance") > 0
    with pytest.raises(CatalogError, match="no folder"):
        _ = catalog.path


def test_titles_there_are_indexed_and_searched(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another one who has it open, too."""
    monkeypatch.setattr("index.catalog.INDEX_NAMES_ABOVE", 2)
    reader = Catalog.open(catalog.place)
    with catalog.writing() as writer:
        for name, title in (("p", "庆余年"), ("q", "Joy of Life"), ("r", "琅琊榜")):
            writer.add_program(NewProgram(name, title), [asset_of("a")])
        reader.refresh()
        stats = reader._tables["programs"].index_stats("names_idx")
        assert (stats.num_indexed_rows, stats.num_unindexed_rows) == (2, 1)
        writer.compact(keep_seconds=0)
    for seen in (reader, Catalog.open(catalog.place)):
        found = [seen.search_titles(text) for text in ("看庆余年", "JOY of life!", "琅琊榜 1")]
        assert [[record.program_id for record in records] for records in found] == [["p"], ["q"], ["r"]]


def test_a_prefix_with_other_things_is_not_made_a_store(place: ObjectPlace) -> None:
    place.write("holiday.mp4", b"x")
    with pytest.raises(CatalogError, match=r"not a store and not empty .*holiday\.mp4"):
        Catalog.create(place, MODEL)
    assert place.entries() == ["holiday.mp4"]


def test_a_lost_table_folder_and_a_damaged_mark_are_told(catalog: Catalog, address: str) -> None:
    empty = ObjectPlace.of(f"{address}/empty")
    mark = catalog.place.read("store.json")
    assert mark is not None
    empty.write("store.json", mark)
    with pytest.raises(CatalogError, match="lost its folder tables"):
        Catalog.open(empty)
    empty.write("store.json", b"{")
    with pytest.raises(CatalogError, match=rf"{address}/empty/store\.json is damaged"):
        Catalog.open(empty)


def test_an_index_there_keeps_its_snapshots_on_this_disk(catalog: Catalog, tmp_path: Path) -> None:
    """It is saved, opened again, and kept in step; nothing of it lies in the bucket."""
    live = LiveIndex.open(catalog)
    with catalog.writing() as writer:
        for i in range(3):
            writer.add_program(NewProgram(f"p{i}"), [asset_of("a", i + 1)])
        assert live.save(writer)
    user_cache = tmp_path / "user-cache" / "program-matcher"
    (snapshot,) = user_cache.glob("*/cache/*/snap-*")
    assert snapshot.is_relative_to(catalog.place.cache_root())
    assert "cache" not in catalog.place.entries()
    again = LiveIndex.open(Catalog.open(str(catalog.place)))
    assert (again.ntotal, again.view.base.shape, again.view.tail.shape) == (15, (15, 8), (0, 8))
    assert again.verify(full=True) == []
    with catalog.writing() as writer:
        writer.remove_programs(["p0"])
        writer.add_program(NewProgram("p3"), [asset_of("a", 9, n=2)])
    assert again.refresh()
    assert again.ntotal == 12
    found = again.search(np.full((1, 8), 9, np.float32), 1)
    assert again.programs[int(again.locate(found.ids).program_position[0, 0])] == "p3"
    assert again.verify(full=True) == []


def test_a_store_made_anew_does_not_believe_the_cache_of_the_old(
    catalog: Catalog, place: ObjectPlace
) -> None:
    """Numbers and counts of the programs are the same, the frames are not."""
    before = place.cache_root()
    place.write("store.json", (place.read("store.json") or b"").replace(b"20", b"19", 1))
    assert place.cache_root() != before


# ---------------------------------------------------------------- the lock, with other processes

_CHILD = """
import sys, time
import numpy as np
from index.catalog import Catalog, NewAsset, NewProgram
from index.errors import LeaseLostError
from index.objects import ObjectPlace

def asset_of(name, value=1, n=5):
    return NewAsset(name, "/v", "", 99.0, np.arange(n) + value, np.full((n, 8), value, np.float32))

what, address, lease, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
catalog = Catalog.open(ObjectPlace.of(address, lease_seconds=lease))
if what == "add":
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(3):
        with catalog.writing(wait_seconds=200) as writer:
            assets = [asset_of("a", seed), asset_of("b", seed)]
            writer.add_program(NewProgram(f"{seed}-{i % 2}", str(seed)), assets)
elif what == "die":
    with catalog.writing() as writer:
        # All is written but the one row that would make it visible.
        writer._merge = lambda *words: (print("ready", flush=True), time.sleep(60))
        writer.add_program(NewProgram("half"), [asset_of("a")])
else:
    with catalog.writing() as writer:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            writer.add_program(NewProgram("late"), [asset_of("a")])
        except LeaseLostError as error:
            print(error, flush=True)
"""


@contextmanager
def child(what: str, address: str, *, lease: float = LEASE_SECONDS, seed: int = 0) -> Iterator[Any]:
    """A process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, what, address, str(lease), str(seed)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=commands.environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def wait_until_ready(process: Any) -> None:
    assert process.stdout.readline() == "ready\n"


def tell(process: Any) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_a_killed_writers_lease_is_taken_over_and_its_rows_are_cleaned(
    catalog: Catalog, place: ObjectPlace
) -> None:
    """Until then others are refused and told who it is; readers are not."""
    with child("die", str(place)) as process:
        wait_until_ready(process)
        time.sleep(LEASE_SECONDS * 1.5)  # it renews: no lease runs out while it lives
        with (
            pytest.raises(CatalogLockedError, match=f"being written by process {process.pid} on"),
            catalog.writing(),
        ):
            pass
        catalog.refresh()
        assert (catalog.programs(), catalog.frame_counts()) == ([], {1: 5})
        process.kill()
        with catalog.writing(wait_seconds=100) as writer:
            assert catalog.frame_counts() == {}
            writer.add_program(NewProgram("p"), [asset_of("a")])
    assert Catalog.open(place).frame_counts() == {1: 5}


def test_a_writer_that_slept_too_long_writes_nothing_on(catalog: Catalog, place: ObjectPlace) -> None:
    """Stopped, overtaken, woken: it says so, and the other's lock and rows are untouched."""
    with child("hold", str(place)) as process:
        wait_until_ready(process)
        process.send_signal(signal.SIGSTOP)
        with catalog.writing(wait_seconds=100) as writer:
            process.send_signal(signal.SIGCONT)
            out, _ = process.communicate("go\n", timeout=200)
            assert f"process {os.getpid()} on" in out
            assert "did not renew its lock" in out
            writer.add_program(NewProgram("p"), [asset_of("a")])
    assert [record.program_id for record in Catalog.open(place).programs()] == ["p"]
    assert Catalog.open(place).frame_counts() == {1: 5}


def test_writers_that_start_at_one_instant_lose_nothing_and_double_nothing(
    catalog: Catalog, place: ObjectPlace
) -> None:
    # A lease that does not run out on a busy machine: they take turns because each lets go.
    words = {"what": "add", "address": str(place), "lease": 30.0}
    with child(**words, seed=1) as one, child(**words, seed=2) as two:
        for step in (wait_until_ready, tell):
            step(one)
            step(two)
        assert (one.wait(200), two.wait(200)) == (0, 0)
    catalog.refresh()
    programs = catalog.programs(removed=True)
    assert sorted(record.program_id for record in programs) == ["1-0", "1-1", "2-0", "2-1"]
    assert len({record.number for record in programs}) == 4
    assert max(record.number for record in programs) == 6
    assert catalog.frame_counts() == {record.number: 10 for record in programs}
    for record in programs:
        frames = catalog.frames_of(record.number)
        assert frames.asset_ids == ["a"] * 5 + ["b"] * 5
        assert (frames.vectors == int(record.title)).all()


def test_makers_of_one_store_at_one_instant_make_one(address: str) -> None:
    """Who comes second waits for the first, and opens what that made."""
    ready, made = threading.Barrier(3), []

    def make() -> None:
        place = ObjectPlace.of(address, lease_seconds=10.0)
        ready.wait(100)
        made.append(Catalog.create(place, MODEL))

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(made) == 3
    assert made[0].model == MODEL


@pytest.mark.parametrize("when", ["before", "in between", "while frames stream"])
def test_no_change_is_made_with_a_lost_lease(
    catalog: Catalog, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks at the lease right before its commit; a failed one does not tidy up either."""
    with catalog.writing() as writer:
        writer.add_program(NewProgram("p"), [asset_of("a")])

    def lose(writer: Any) -> None:
        lock = writer._lock
        lock._ended.set()  # as if it were suspended
        lock._thread.join()
        assert catalog.place.lock()._cell.write(b'{"token": "other"}', lock._tag)
        lock._renewed_at -= LEASE_SECONDS

    def assets(writer: Any) -> Iterator[NewAsset]:
        yield asset_of("a", 2)
        lose(writer)

    before = Catalog.open(catalog.place)
    with catalog.writing() as writer:
        if when == "before":
            lose(writer)
            for change in (
                lambda: writer.remove_programs(["p"]),
                lambda: writer.put_links([LinkRecord("c", "none", None, 0.5, 3, "", "{}")]),
                writer.compact,
            ):
                with pytest.raises(LeaseLostError):
                    change()
        elif when == "in between":
            programs = catalog.programs
            monkeypatch.setattr(catalog, "programs", lambda: lose(writer) or programs())
            with pytest.raises(LeaseLostError):
                writer.remove_programs(["p"])
        else:
            with pytest.raises(LeaseLostError):
                writer.add_program(NewProgram("p"), assets(writer))
    versions = {name: table.version for name, table in before._tables.items()}
    before.refresh()
    assert {name: table.version for name, table in before._tables.items()} == versions
    assert catalog.place.read("write.lock") == b'{"token": "other"}'


# ---------------------------------------------------------------- what goes wrong


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_GET  # noqa: N815, so http.server wants it

    def log_message(self, *words: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def refusing_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def assert_one_line(place: ObjectPlace, why: str, *, seconds: float = 30.0) -> None:
    for work in (lambda: Catalog.open(place), lambda: Catalog.create(place, MODEL)):
        started = time.monotonic()
        with pytest.raises(CatalogError, match=why) as caught:
            work()
        assert time.monotonic() - started < seconds
        assert str(place) in str(caught.value)
        assert "\n" not in str(caught.value)


def leading_to(endpoint: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": endpoint}


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    assert_one_line(ObjectPlace.of("s3://nobody/store"), r"there is no such bucket\. Make the bucket")


def test_credentials_that_are_refused(bucket: str) -> None:
    with refusing_server() as endpoint:
        place = ObjectPlace("programs", "store", environment=leading_to(endpoint))
        assert_one_line(place, r"access is denied\. Check AWS_ACCESS_KEY_ID")


def test_a_storage_out_of_reach(bucket: str) -> None:
    place = ObjectPlace("programs", "store", environment=leading_to("http://127.0.0.1:9"))
    assert_one_line(place, r"at http://127\.0\.0\.1:9: it cannot be reached\. Check AWS_ENDPOINT_URL")


def test_a_storage_that_goes_away_meanwhile(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What LanceDB says of it becomes a line too, in reading and in writing."""
    text = (
        'lance error: LanceError(IO): Generic { store: "S3", source: Http(HttpError { kind: Connect, source'
    )

    def fails(*words: Any, **others: Any) -> Any:
        raise RuntimeError(text)

    with catalog.writing() as writer:
        table = type(catalog._tables["reviews"])
        monkeypatch.setattr(table, "add", fails)
        with pytest.raises(CatalogError, match="it cannot be reached"):
            writer.add_program(NewProgram("p"), [asset_of("a")])
    monkeypatch.setattr(table, "checkout_latest", fails)
    with pytest.raises(CatalogError, match="it cannot be reached"):
        catalog.refresh()
    text = "a table's own fault"
    with pytest.raises(CatalogError, match="cannot be read: a table's own fault"):
        catalog.refresh()
    monkeypatch.undo()


def test_other_faults_are_said_as_they_come(place: ObjectPlace) -> None:
    def raising(error: Exception) -> AbstractContextManager[Any]:
        return pytest.raises(type(error), match="odd")

    for error in (ValueError("odd"), RuntimeError("S3 odd")):
        with raising(error), place.explained():
            raise error
    with pytest.raises(CatalogError, match=rf"{place} at .*: odd$"), place.explained():
        raise objects.BaseError("odd\n\nDebug source:")
