"""Work spread over a Ray cluster: two nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_store
import numpy as np
import pytest
from commands import Library, Run, run_process
from made_store import links_of

from index.catalog import Catalog
from matcher.config import Settings
from matcher.errors import MatcherError, StoreError
from matcher.inputs import read_program_manifest
from matcher.pipeline import add_programs
from matcher.relink import Night, Order, Part, PartAnswers, answer_here, relink
from matcher.store import create_catalog, open_linker

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

    from matcher.cluster.crew import Crew

SETTINGS = Settings()
FULL = Order(full=True, accept=True)
STORE_BYTES = 80 * 2**20


# ---------------------------------------------------------------- without any cluster


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return made_store.make_store(tmp_path / "made")


@pytest.fixture
def alone(made: Path, tmp_path: Path) -> Path:
    """The store, re-linked by this process alone."""
    path = Path(shutil.copytree(made, tmp_path / "alone"))
    _relink(path)
    return path


def _relink(path: Path, **words: Any) -> Night:
    catalog = Catalog.open(path)
    with catalog.writing() as writer:
        return relink(writer, open_linker(catalog, SETTINGS), FULL, **words)


def _assert_same_links(one: Path, other: Path) -> None:
    """All of a link but when it was made: decision, programs, confidences, segments, and what it rests on."""
    links, wanted = links_of(one), links_of(other)
    assert links.keys() == wanted.keys()
    for clip_id, link in links.items():
        expected = wanted[clip_id]
        assert link.answer == expected.answer
        assert link.basis is not None
        assert expected.basis is not None
        np.testing.assert_array_equal(link.basis.numbers, expected.basis.numbers)
        np.testing.assert_allclose(link.basis.bars, expected.basis.bars, rtol=0, atol=1e-6)
    decisions = [link.answer for link in wanted.values() if '"linked"' in link.answer]
    assert 0 < len(decisions) < len(wanted), "a test of links needs some, and clips without"


def test_parts_may_come_in_any_order_and_their_cost_counts(
    made: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matcher.relink.PART_CLIPS", 8)
    catalog = Catalog.open(made)
    linker = open_linker(catalog, SETTINGS)

    def backwards(parts: Any, verdicts: Any) -> Iterator[PartAnswers]:
        every = [replace(done, answers=list(done.answers), cpu_seconds=100.0) for done in
                 answer_here(parts, verdicts, catalog=catalog, linker=linker, top=5)]  # fmt: skip
        yield from reversed(every)

    night = _relink(made, answerer=backwards)
    assert night.figures["cpu_seconds"] >= 500
    _assert_same_links(made, alone)


def test_what_several_workers_left_undone_is_done_by_the_next_run(
    made: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts 1 and 3 are kept, 0 is not: the order in which they came does not matter."""
    monkeypatch.setattr("matcher.relink.PART_CLIPS", 8)
    catalog = Catalog.open(made)
    linker = open_linker(catalog, SETTINGS)
    closed = []

    def stopped(parts: Any, verdicts: Any) -> Iterator[PartAnswers]:
        try:
            every = list(parts)
            yield from answer_here([every[3], every[1]], verdicts, catalog=catalog, linker=linker, top=5)
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        _relink(made, answerer=stopped)
    assert closed == [True]
    assert _relink(made).resumed == 16
    _assert_same_links(made, alone)


def test_without_the_extra_its_name_is_said(
    matcher: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("crew", "slices", "answering", "describing"):
        monkeypatch.delitem(sys.modules, f"matcher.cluster.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    for words in (["relink", "--store", made], ["add", "p", made / "store.json", "--store", made]):
        ran = matcher(*words, "--ray", "local")
        assert (ran.code, len(ran.lines)) == (3, 1), ran.err
        assert "program-matcher[ray]" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "127.0.0.1:9"], "there is no Ray cluster at 127.0.0.1:9"),
        (["--ray", "no.such.host.invalid:6379"], "there is no Ray cluster at no.such.host.invalid:6379"),
        (["--ray", "ray://127.0.0.1:10001"], "neither local, auto nor HOST:PORT"),
        (["--ray", "somewhere"], "neither local, auto nor HOST:PORT"),
        (["--ray", "auto"], "cannot join the Ray cluster auto: Could not find any running Ray instance"),
        (["--ray-workers", "2"], "--ray-workers belongs to --ray"),
        (["--ray-slices", "2"], "--ray-slices belongs to --ray"),
    ],
)
def test_a_cluster_out_of_reach_is_one_line(
    matcher: Run, made: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ran = matcher("relink", "--store", made, *words)
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert said in ran.err


def test_what_answers_but_is_no_cluster_is_told_at_once(matcher: Run, made: Path) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _ = server.accept()
            caller.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            caller.close()

        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        ran = matcher("relink", "--store", made, "--ray", f"127.0.0.1:{port}")
        thread.join()
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert "what answers there is something else" in ran.err


@pytest.mark.slow
def test_a_night_on_a_cluster_started_here_is_the_night_of_one_process(made: Path, alone: Path) -> None:
    """The command itself; and nothing of Ray is left when it ends."""
    words = ["relink", "--store", made, "--full", "--accept", "--ray", "local", "--ray-workers", "1"]
    ran = run_process(*words, MATCHER_TEST_MARK=made.as_posix())
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert "answered 40 of 40 kept clips" in ran.err
    assert len(ran.lines) == 3, ran.err
    _assert_same_links(made, alone)
    assert _marked(made.as_posix()) == []


def _marked(mark: str) -> list[str]:
    """The processes that inherited a mark, as all do that a marked one starts."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MATCHER_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
    return found


# ---------------------------------------------------------------- two nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head node of one processor; tests add the second, which they may kill."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    words = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=words)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


@pytest.fixture
def crew(cluster: Cluster, second: Any) -> Iterator[Crew]:
    from matcher.cluster.crew import joined

    with joined(cluster.address) as crew:
        assert crew.size == 2
        yield crew


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with a line for every worker that is lost."""
    from matcher.cluster import crew

    lost: list[str] = []
    hire = crew._hire

    def counted(shift: Any, post: Any) -> None:
        lost.append(post.kind.__name__)
        hire(shift, post)

    monkeypatch.setattr(crew, "_hire", counted)
    return lost


@pytest.fixture
def killed(cluster: Cluster, second: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Kills the second node as soon as the workers of both are at work; gives the nodes killed so far.

    Whichever worker opens first waits with its first task for the other to open.
    """
    import ray

    from matcher.cluster import crew as module

    kept, gone = module._kept, list[Any]()

    def killing(shift: Any, crew: Any) -> list[Any]:
        if not gone and len(shift.working) == 2:
            gone.append(second)
            _kill_children(second)
            cluster.remove_node(second, allow_graceful=False)
        if not gone:
            return list(ray.wait([*shift.starting, *shift.opening])[0])
        return kept(shift, crew)

    monkeypatch.setattr(module, "_kept", killing)
    return gone


def _kill_children(node: Any) -> None:
    """The workers of a node: a machine that dies takes them along, and would else leave them for a while."""
    (raylet,) = node.all_processes["raylet"]
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(raylet.process.pid)], capture_output=True)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("slices", [None, 2, 3])
def test_a_node_that_dies_in_the_middle_changes_nothing(
    made: Path,
    alone: Path,
    crew: Crew,
    killed: list[Any],
    losses: list[str],
    slices: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the whole index in every worker, and with slices of it, some of which die too."""
    from matcher.cluster.answering import relinking

    monkeypatch.setattr("matcher.relink.PART_CLIPS", 2)
    catalog = Catalog.open(made)
    with catalog.writing() as writer:
        linker, answerer = relinking(crew, catalog, SETTINGS, top=5, slices=slices)
        night = relink(writer, linker, FULL, answerer=answerer)
    assert night.answered == 40
    assert len(killed) == 1
    assert len(losses) > 2, "no worker was lost"
    assert capsys.readouterr().out == "", "stdout is for results"
    assert night.figures["cpu_seconds"] > 0
    _assert_same_links(made, alone)


@pytest.mark.slow
def test_a_worker_that_sees_another_store_is_refused(made: Path, crew: Crew) -> None:
    """Another version of it, another calibration, none at all: one line that names the machine."""
    from matcher.cluster.answering import AnsweringWorker
    from matcher.cluster.crew import Post, spread_over
    from matcher.cluster.state import StoreState

    catalog = Catalog.open(made)
    linker = open_linker(catalog, SETTINGS)
    state = StoreState.of(catalog, linker.epoch(5))

    def said(state: Any, worker: Any = AnsweringWorker) -> str:
        post = Post(worker, (state, SETTINGS, 5))
        with pytest.raises(StoreError) as raised:
            list(spread_over(crew, post, [(Part(0, ("c00",)), {})]))
        return str(raised.value)

    assert "every machine must reach the same store" in said(
        replace(state, versions={**state.versions, "programs": 77})
    )
    assert "same calibration" in said(replace(state, epoch="another"))
    assert "there is no store at /no/where" in said(replace(state, store="/no/where"))


@pytest.mark.slow
def test_programs_added_by_a_cluster_are_those_added_alone(
    library: Library,
    kept_store: Path,
    crew: Crew,
    killed: list[Any],
    losses: list[str],
    tmp_path: Path,
) -> None:
    """In order, by value, a bad file reported in its place, and a node killed in the middle."""
    from matcher.cluster.describing import describer
    from matcher.encoders.registry import load_encoder
    from matcher.inputs import program_job

    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    jobs, _ = read_program_manifest(library.manifest)
    jobs.insert(1, program_job("bad", [bad, library.clips["p01"]], title="", aliases=[], categories=[]))
    encoder = load_encoder()
    catalog = create_catalog(tmp_path / "store", encoder.info)
    outcomes = []
    with catalog.writing() as writer:
        for added in add_programs(
            writer, jobs, encoder, SETTINGS, describer=describer(crew, encoder, SETTINGS)
        ):
            outcomes.append((added.program_id, added.outcome))
        assert outcomes == [("p01", "added"), ("bad", "failed"), ("p02", "added"), ("p03", "added")]
        again = add_programs(
            writer, jobs[:1], encoder, SETTINGS, describer=describer(crew, encoder, SETTINGS)
        )
        assert [added.outcome for added in again] == ["unchanged"]
    assert len(killed) == 1
    assert len(losses) > 2, "no worker was lost"
    _assert_same_programs(Catalog.open(tmp_path / "store"), Catalog.open(kept_store))


def _assert_same_programs(one: Catalog, other: Catalog) -> None:
    assert [(r.program_id, r.source_fingerprint) for r in one.programs()] == [
        (r.program_id, r.source_fingerprint) for r in other.programs()
    ]
    for program, wanted in zip(one.programs(), other.programs(), strict=True):
        for kind in ("frames", "sounds"):
            got, expected = one.frames_of(program.number, kind), other.frames_of(wanted.number, kind)
            assert len(expected.t_seconds)
            np.testing.assert_array_equal(got.t_seconds, expected.t_seconds)
            np.testing.assert_array_equal(got.vectors, expected.vectors)
            assert got.asset_ids == expected.asset_ids


class _Breaking:
    """A worker that a task named "kill" ends, and "fail" makes raise."""

    def host(self) -> str:
        return "here"

    def open(self) -> None:
        pass

    def work(self, task: str) -> str:
        if task == "kill":
            os._exit(1)
        if task == "fail":
            raise ZeroDivisionError("no such thing")
        return task.upper()


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_given_up_and_the_rest_is_done(crew: Crew) -> None:
    from ray import cloudpickle

    from matcher.cluster.crew import Post, spread_over

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see the tests
    post: Any = Post(_Breaking, ())  # type: ignore[arg-type]
    tasks = ["a", "kill", "b", "c"]
    found = dict(spread_over(crew, post, tasks, given_up=lambda task, why: why))
    assert {task: result for task, result in found.items() if task != "kill"} == {
        "a": "A",
        "b": "B",
        "c": "C",
    }
    assert found["kill"].startswith("3 workers died of it")
    with pytest.raises(MatcherError, match="a part of the work cannot be done: 3 workers died of it"):
        list(spread_over(crew, post, tasks))
    with pytest.raises(MatcherError, match="ZeroDivisionError: no such thing"):
        list(spread_over(crew, post, ["a", "fail"]))


@pytest.mark.slow
def test_a_cluster_without_a_free_processor_is_told(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    from matcher.cluster import crew as module
    from matcher.errors import InputError

    monkeypatch.setattr(module, "_START_SECONDS", 3.0)
    post: Any = module.Post(_Breaking, (), n_gpus=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="started no worker in 3 s"):
        list(module.spread_over(crew, post, ["a"]))
