"""Work on several machines: a Ray cluster answers clips and describes films; the only importer of ``ray``.

This process, the driver, holds the store's lock, plans, stages and commits, just as it does alone. What takes
the time is done by workers: Ray actors, one a processor, that read the store or the films and write nothing.
A worker opens what it needs once and is then given one task after the other; the task of one that dies goes
to another. So neither the number of workers nor the death of any changes a result.

Every machine must have this package, and reach the store and the films by the names that the driver uses.

Sources: docs.ray.io, "Actors" and "Fault tolerance" for what a call to a dead actor raises.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from matcher.decode import Sampling
from matcher.describe import Described, describe_files
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError, MatcherError, MissingDependencyError, StoreError
from matcher.linking import Linker
from matcher.records import Answer
from matcher.relink import Answerer, Part, PartAnswers, relink_shard
from matcher.store import hears, linker_over, open_catalog, open_linker, translated
from matcher.verdicts import Verdict

# Said before the import, where the caller says nothing else: Ray tells nobody of its use; and under `uv run`
# it does not make environments of its own for the workers.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"work on several machines needs a package that is not installed ({error}): "
        "pip install 'program-matcher[ray]'"
    ) from error

if TYPE_CHECKING:
    from index.base import SearchResult, Vectors
    from index.catalog import Catalog
    from index.rows import Kind
    from index.slices import Slice
    from matcher.config import Settings
    from matcher.pipeline import Describer

_log = logging.getLogger(__name__)

LOCAL, AUTO = "local", "auto"
#: Shared memory of a cluster on this machine, by which results come back.
_STORE_BYTES = 256 * 2**20
#: Seconds in which a head node must take a connection, and in which the first worker must start.
_CONNECT_SECONDS, _START_SECONDS = 5.0, 120.0
#: What the head node, a gRPC server, is greeted with; the type of frame that it must answer (RFC 9113, 3.4).
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_HTTP2_SETTINGS = b"\4"
#: A task that so many workers died of is given up.
_MOST_DEATHS = 3
#: Files described, or being described, before their turn: so many a worker. They bound memory.
_FILES_AHEAD = 4

T = TypeVar("T")
R = TypeVar("R")


# ---------------------------------------------------------------- the cluster


@dataclass(frozen=True)
class Crew:
    """What a cluster offers.

    Attributes:
        size: Workers at a time.
        address: Of the cluster, for messages.
    """

    size: int
    address: str


@contextlib.contextmanager
def joined(address: str, *, workers: int | None = None, store_bytes: int = _STORE_BYTES) -> Iterator[Crew]:
    """Be the driver of a Ray cluster while the block runs.

    Args:
        address: HOST:PORT of a cluster's head node, of which this machine is a node; "auto" for the one that
            this machine is a node of; "local" for one that is started here and ends with the block.
        workers: How many; default one for each of the cluster's processors.
        store_bytes: Shared memory of a cluster that is started here.

    Raises:
        InputError: There is no cluster at the address, or it has no processor.
    """
    if address not in (LOCAL, AUTO):
        _check_address(address)
    words: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        cores = max(workers or 1, len(os.sched_getaffinity(0)))
        words |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": store_bytes}
    _hush()
    try:
        ray.init(address=address, **words)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot join the Ray cluster {address}: {line}") from error
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        processors = int(resources.get("CPU", 0))
        if processors < 1:
            raise InputError(f"the Ray cluster {address} has no processor to work on")
        yield Crew(workers or processors, address)
    finally:
        ray.shutdown()


def _hush() -> None:
    """Keep Ray from printing its machines' complaints to stdout, which is for results; it has no word for it.

    Whatever they mean for the work comes out of the calls.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _check_address(address: str) -> None:
    """Knock first: Ray itself tries for minutes where none of its kind answers, and then ends the process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise InputError(
            f"--ray {address} is neither local, auto nor HOST:PORT of a cluster that this machine is a "
            "node of"
        )
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS) as knocking:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                knocking.sendall(_HTTP2_GREETING)
                if knocking.recv(9, socket.MSG_WAITALL)[3:4] != _HTTP2_SETTINGS:
                    raise OSError("what answers there is something else")
    except (OSError, OverflowError) as error:
        raise InputError(
            f"there is no Ray cluster at {address} ({error}); start one with: ray start --head, or use "
            "--ray local"
        ) from error


# ---------------------------------------------------------------- tasks and workers


class Worker(Generic[T, R]):
    """What runs on the machines of the cluster: one process each, one task at a time."""

    def host(self) -> str:
        """Where it runs; answered as soon as it does."""
        return socket.gethostname()

    def open(self) -> None:
        """Get ready for the first task.

        Raises:
            MatcherError: It cannot; so could no other, and the driver stops.
        """
        raise NotImplementedError

    def work(self, task: T) -> R:
        """Do one task."""
        raise NotImplementedError


@dataclass(frozen=True)
class Post(Generic[T, R]):
    """What workers are hired for.

    Attributes:
        kind: Of worker.
        words: That each is made with.
        n_gpus: That each needs for itself.
    """

    kind: type[Worker[T, R]]
    words: tuple[Any, ...]
    n_gpus: int = 0

    def hire(self) -> Any:
        """Start one on the machine that has most room: the actor's handle. Ray never starts it anew."""
        remote = ray.remote(self.kind).options(
            num_cpus=1, num_gpus=self.n_gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        return remote.remote(*self.words)


@dataclass
class _Assignment(Generic[T]):
    task: T
    deaths: int = 0


@dataclass
class _Shift(Generic[T]):
    """What the workers are at: by the promise of its end each call's actor, and its task."""

    starting: dict[Any, Any] = field(default_factory=dict)
    opening: dict[Any, Any] = field(default_factory=dict)
    working: dict[Any, tuple[Any, _Assignment[T]]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    again: deque[_Assignment[T]] = field(default_factory=deque)
    #: Workers that died before they were open, since one last was.
    stillborn: int = 0

    def promises(self) -> list[Any]:
        return [*self.working, *self.opening, *self.starting]


def spread_over(
    crew: Crew,
    post: Post[T, R],
    tasks: Iterable[T],
    *,
    may_take: Callable[[], bool] = lambda: True,
    given_up: Callable[[T, str], R] | None = None,
) -> Generator[tuple[T, R], None, None]:
    """Have tasks done by workers; gives each with its result, as they come.

    Args:
        crew: How many workers.
        post: What they are.
        tasks: Taken one by one, when a worker is free.
        may_take: Whether another task may be taken yet; if not, some result must be under way.
        given_up: The result of a task that killed every worker that it was given to.

    Raises:
        MatcherError: A worker could not open, or a task was given up and ``given_up`` is None.
        InputError: The cluster starts no worker.
    """
    shift, coming = _Shift[T](), iter(tasks)
    is_over = False

    def assign() -> None:
        nonlocal is_over
        while shift.idle and (shift.again or (not is_over and may_take())):
            if shift.again:
                assignment = shift.again.popleft()
            else:
                try:
                    assignment = _Assignment(next(coming))
                except StopIteration:
                    is_over = True
                    return
            actor = shift.idle.pop()
            shift.working[actor.work.remote(assignment.task)] = actor, assignment

    try:
        for _ in range(crew.size):
            _hire(shift, post)
        while True:
            assign()
            if is_over and not shift.working and not shift.again:
                return
            for promise in _kept(shift, crew):
                found = _result(shift, promise, post, given_up)
                assign()  # before anything is made of the result: nobody waits for that
                if found is not None:
                    yield found
    finally:
        # Ray starts itself anew when it is asked for anything after its end.
        if ray.is_initialized():
            _dismiss(shift)


def _dismiss(shift: _Shift[T]) -> None:
    at_work = [actor for actor, _ in shift.working.values()]
    for actor in [*shift.idle, *shift.starting.values(), *shift.opening.values(), *at_work]:
        ray.kill(actor)


def _hire(shift: _Shift[T], post: Post[T, R]) -> None:
    actor = post.hire()
    shift.starting[actor.host.remote()] = actor


def _kept(shift: _Shift[T], crew: Crew) -> list[Any]:
    """Promises that are kept or broken by now: one at least."""
    started = time.monotonic()
    while True:
        ready, _ = ray.wait(shift.promises(), timeout=1.0)
        if ready:
            return list(ready)
        # One that works may do so for long; but a cluster that is full, or has shrunk, starts none.
        if not shift.working and not shift.opening and time.monotonic() - started > _START_SECONDS:
            raise InputError(
                f"the Ray cluster {crew.address} started no worker in {_START_SECONDS:.0f} s: "
                "it has no free processor (see: ray status)"
            )


def _result(
    shift: _Shift[T], promise: Any, post: Post[T, R], given_up: Callable[[T, str], R] | None
) -> tuple[T, R] | None:
    """What came of one call: a task's result, or None for a step on the way to one.

    Raises:
        MatcherError: As :func:`spread_over`.
    """
    assignment: _Assignment[T] | None = None
    if promise in shift.working:
        actor, assignment = shift.working.pop(promise)
    else:
        is_open = promise in shift.opening
        actor = (shift.opening if is_open else shift.starting).pop(promise)
    try:
        value = ray.get(promise)
    except RayTaskError as error:
        raise _cause(error) from error
    except RayError as error:  # the worker, its machine, or what it sent is lost
        _log.info("a worker was lost, another takes its place: %s", _line(error))
        ray.kill(actor)
        _hire(shift, post)
        if assignment is None:
            shift.stillborn += 1
            if shift.stillborn > max(_MOST_DEATHS, 2 * len(shift.promises())):
                raise MatcherError(f"workers die before they have done anything: {_line(error)}") from error
            return None
        return _died(shift, assignment, error, given_up)
    if assignment is not None:
        shift.idle.append(actor)
        return assignment.task, value
    if is_open:
        shift.stillborn = 0
        shift.idle.append(actor)
    else:
        shift.opening[actor.open.remote()] = actor
    return None


def _died(
    shift: _Shift[T], assignment: _Assignment[T], error: RayError, given_up: Callable[[T, str], R] | None
) -> tuple[T, R] | None:
    """A worker died at a task: another gets it, unless it has killed too many."""
    # Those without a task may have died with it, of no task's fault: ask before they get one.
    shift.opening |= {actor.host.remote(): actor for actor in shift.idle}
    shift.idle.clear()
    assignment.deaths += 1
    if assignment.deaths < _MOST_DEATHS:
        shift.again.append(assignment)
        return None
    line = f"{_MOST_DEATHS} workers died of it, the last so: {_line(error)}"
    if given_up is None:
        raise MatcherError(f"a part of the work cannot be done: {line}") from error
    return assignment.task, given_up(assignment.task, line)


def _cause(error: RayTaskError) -> Exception:
    """What a worker raised, as it raised it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MatcherError):
        return cause
    return MatcherError(f"a worker failed: {type(cause).__name__}: {cause or _line(error)}")


def _line(error: Exception) -> str:
    """What is to be said of one of Ray's errors, whose messages are long and end with the matter itself."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or type(error).__name__
    return text.splitlines()[-1].strip()[:300]


@contextlib.contextmanager
def _on_this_host() -> Iterator[None]:
    """Says of what goes wrong where it did."""
    try:
        yield
    except MatcherError as error:
        raise type(error)(f"on {socket.gethostname()}: {error}") from error


# ---------------------------------------------------------------- answering


@dataclass(frozen=True)
class StoreState:
    """What a worker must find when it opens the store, or its answers would be of something else.

    Attributes:
        store: By its name that is good from everywhere.
        versions: Of the tables that answers are made from.
        epoch: Of the answers: the settings, the calibration, the rules of this version of the program.
    """

    store: str
    versions: Mapping[str, int]
    epoch: str

    @classmethod
    def of(cls, catalog: Catalog, epoch: str) -> StoreState:
        """The present one."""
        versions = {name: catalog.version_of(name) for name in ("programs", "clips")}
        return cls(catalog.place.full_name, versions, epoch)

    def check(self, catalog: Catalog, linker: Linker | None = None, *, top: int = 1) -> None:
        """Make sure that another process has the same before it; without a linker, but for the epoch.

        Raises:
            StoreError: It has not.
        """
        seen = StoreState.of(catalog, self.epoch if linker is None else linker.epoch(top))
        if seen.versions != self.versions:
            words = ", ".join(f"{name} {n}" for name, n in seen.versions.items())
            wanted = ", ".join(f"{name} {n}" for name, n in self.versions.items())
            raise StoreError(
                f"the store {self.store} is at {words}, where this command sees {wanted}: "
                "every machine must reach the same store by this name"
            )
        if seen.epoch != self.epoch:
            raise StoreError(
                f"the store {self.store} would be linked otherwise than here ({seen.epoch}, not "
                f"{self.epoch}): every machine needs the same version of this package and the same "
                "calibration"
            )


class AnsweringWorker(Worker[tuple[Part, Mapping[str, Verdict]], tuple[list[tuple[Answer, str]], float]]):
    """Answers parts of the kept clips; gives the answers and the processor time that they took.

    Args:
        state: Of the store, as the driver sees it.
        settings: Of the linker.
        top: Best guesses that are named.
        slices: Actors that hold the index, where the worker itself shall not.
    """

    def __init__(self, state: StoreState, settings: Settings, top: int, slices: Sequence[Any] = ()) -> None:
        self._state, self._settings, self._top, self._slices = state, settings, top, slices

    def open(self) -> None:
        """Open the store and its index, and compare with what the driver has."""
        with _on_this_host(), translated():
            self._catalog = open_catalog(self._state.store)
            self._linker = (
                sliced_linker(self._slices, self._catalog, self._settings)
                if self._slices
                else open_linker(self._catalog, self._settings)
            )
            self._state.check(self._catalog, self._linker, top=self._top)

    def work(self, task: tuple[Part, Mapping[str, Verdict]]) -> tuple[list[tuple[Answer, str]], float]:
        """Answer one part."""
        part, verdicts = task
        started = time.process_time()
        with translated():
            answers = list(relink_shard(self._catalog, self._linker, part.clip_ids, verdicts, top=self._top))
        return answers, time.process_time() - started


def relinking(
    crew: Crew, catalog: Catalog, settings: Settings, *, top: int, slices: int | None = None
) -> tuple[Linker, Answerer]:
    """What :func:`matcher.relink.relink` needs to have clips answered by a cluster.

    Args:
        crew: Of the cluster.
        catalog: The store, its lock held.
        settings: Of the index, voting and decision.
        top: Best guesses that are named.
        slices: Processes that hold a part of the index each; None: every worker, and this process, has all.

    Raises:
        MatcherError: The store or its index cannot be opened, here or there.
    """
    if slices is None:
        linker, holders = open_linker(catalog, settings), []
    else:
        holders = open_slices(catalog, settings, slices)
        linker = sliced_linker(holders, catalog, settings)
    return linker, answerer(crew, catalog, linker, settings, top=top, slices=holders)


def answerer(
    crew: Crew,
    catalog: Catalog,
    linker: Linker,
    settings: Settings,
    *,
    top: int,
    slices: Sequence[Any] = (),
) -> Answerer:
    """Answers the parts of a night by the workers of a cluster; for :func:`matcher.relink.relink`.

    Args:
        crew: Of the cluster.
        catalog: The store; nobody else may write it meanwhile.
        linker: Of the store: the workers' must be as this one.
        settings: That it was opened with.
        top: Best guesses that are named.
        slices: From :func:`open_slices`; without any, each worker has the whole index.
    """

    def answer(parts: Iterable[Part], verdicts: Mapping[str, Verdict]) -> Generator[PartAnswers, None, None]:
        state = StoreState.of(catalog, linker.epoch(top))
        post = Post(AnsweringWorker, (state, settings, top, slices), int(settings.index.device == "gpu"))
        tasks = (
            (part, {name: verdicts[name] for name in part.clip_ids if name in verdicts}) for part in parts
        )
        with contextlib.closing(spread_over(crew, post, tasks)) as done:
            for (part, _), (answers, cpu_seconds) in done:
                yield PartAnswers(part, answers, cpu_seconds)

    return answer


# ---------------------------------------------------------------- an index in slices


class SliceHolder:
    """Holds one slice of a store's index, of its frames and its sounds, and searches it for the workers.

    Ray starts it anew, on another machine if need be, when it dies, and asks again what it had been asked.

    Args:
        state: Of the store, as the driver sees it.
        settings: Of the index and the sound.
        place: Which slice.
        count: Of how many.
    """

    def __init__(self, state: StoreState, settings: Settings, place: int, count: int) -> None:
        self._failure: MatcherError | None = None
        try:
            with _on_this_host(), translated():
                self._slices = self._opened(state, settings, place, count)
        except MatcherError as error:
            # Raised where it is asked for: here it would come out as the death of an actor.
            self._failure = error

    def _opened(self, state: StoreState, settings: Settings, place: int, count: int) -> dict[Kind, Slice]:
        from index.serving import EnginePlan
        from index.slices import Slice

        catalog = open_catalog(state.store)
        state.check(catalog)
        plan = EnginePlan(None if settings.index.kind == "auto" else settings.index.kind)
        tables = _tables(catalog, settings)
        try:
            return {table: Slice(catalog, place, count, plan, table) for table in tables}
        except ValueError as error:  # of a kind that cannot be cut
            raise InputError(str(error)) from error

    def check(self) -> None:
        """Raise what went wrong when it was opened."""
        if self._failure is not None:
            raise self._failure

    def search(self, table: Kind, xq: Vectors, k: int) -> SearchResult:
        """The k nearest of its frames, or sounds."""
        self.check()
        with translated():
            return self._slices[table].search(xq, k)


def open_slices(catalog: Catalog, settings: Settings, count: int) -> list[Any]:
    """Have a store's index opened in slices, spread over the cluster's machines; gives their actors.

    They take no processor from the workers: one of them or the other waits. They end with the cluster.

    Args:
        catalog: The store; nobody else may write it meanwhile.
        settings: Of the index and the sound.
        count: Slices.

    Raises:
        MatcherError: A slice cannot be opened.
    """
    state = StoreState.of(catalog, "")
    remote = ray.remote(SliceHolder).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
    )
    slices: list[Any] = [remote.remote(state, settings, place, count) for place in range(count)]
    try:
        ray.get([each.check.remote() for each in slices])
    except RayTaskError as error:
        raise _cause(error) from error
    except RayError as error:
        raise MatcherError(f"the index cannot be opened in {count} slices: {_line(error)}") from error
    return slices


def sliced_linker(slices: Sequence[Any], catalog: Catalog, settings: Settings) -> Linker:
    """What answers clips by an index that other processes hold.

    Args:
        slices: From :func:`open_slices`.
        catalog: The same store, at the same state.
        settings: That they were opened with.

    Raises:
        StoreError: The tables or the calibration are damaged.
    """
    from index.slices import SlicedIndex

    def asking(table: Kind) -> Callable[[Vectors, int], Sequence[SearchResult]]:
        return lambda xq, k: ray.get([each.search.remote(table, xq, k) for each in slices])

    with translated():
        every = {table: SlicedIndex(catalog, asking(table), table) for table in _tables(catalog, settings)}
    return linker_over(catalog, settings, every["frames"], every.get("sounds"))


def _tables(catalog: Catalog, settings: Settings) -> list[Kind]:
    return ["frames", "sounds"] if hears(catalog, settings) else ["frames"]


# ---------------------------------------------------------------- describing


class DescribingWorker(Worker[tuple[int, Path], Described]):
    """Decodes and encodes files of programs.

    Args:
        settings: Of the encoder, the sampling and the sound.
        fingerprint: Of the driver's encoder.
    """

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        self._settings, self._fingerprint = settings, fingerprint

    def open(self) -> None:
        """Load the models."""
        from matcher.encoders.registry import load_encoder
        from matcher.listen import listener_of

        chosen, sound = self._settings.encoder, self._settings.sound
        with _on_this_host():
            # One processor is a worker's own, whatever the machine has.
            self._encoder = load_encoder(
                chosen.spec, device=chosen.device, precision=chosen.precision, threads=chosen.threads or 1
            )
            found = self._encoder.info.fingerprint
            if found != self._fingerprint:
                raise StoreError(
                    f"the encoder {chosen.spec} is another one ({found}, not {self._fingerprint}): "
                    "every machine needs the same version of this package and the same files"
                )
            self._listener = listener_of(sound, sound.program_hop_seconds)
        self._sampling = Sampling.parse(self._settings.sampling.programs)

    def work(self, task: tuple[int, Path]) -> Described:
        """Describe one file; what is wrong with it is said in the result."""
        _, path = task
        if not path.exists():
            where = f"there is no {path} on {socket.gethostname()}"
            return Described(path, None, InputError(f"{where}: every machine must reach it by this name"))
        (found,) = describe_files([path], self._encoder, self._sampling, listener=self._listener)
        return found


def describer(crew: Crew, encoder: FrameEncoder, settings: Settings) -> Describer:
    """Describes files in order by the workers of a cluster; for :func:`matcher.pipeline.add_programs`.

    Args:
        crew: Of the cluster.
        encoder: The workers' must be this one.
        settings: Of the encoder, the sampling and the sound.
    """

    def lost(task: tuple[int, Path], why: str) -> Described:
        return Described(task[1], None, InputError(f"{task[1]} cannot be described: {why}"))

    def describe(paths: Iterable[Path]) -> Generator[Described, None, None]:
        needs_gpu = settings.encoder.device == "cuda"
        post = Post(DescribingWorker, (settings, encoder.info.fingerprint), int(needs_gpu))
        taken = given = 0
        early: dict[int, Described] = {}

        def tasks() -> Iterator[tuple[int, Path]]:
            nonlocal taken
            for number, path in enumerate(paths):
                taken = number + 1
                yield number, path.absolute()

        done = spread_over(
            crew, post, tasks(), may_take=lambda: taken - given < _FILES_AHEAD * crew.size, given_up=lost
        )
        with contextlib.closing(done):
            for (number, _), described in done:
                early[number] = described
                while given in early:
                    given += 1
                    yield early.pop(given - 1)

    return describe
