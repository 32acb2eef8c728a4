"""A Ray cluster, its workers, and tasks that are spread over them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from matcher.errors import InputError, MatcherError, MissingDependencyError

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


class Worker(ABC, Generic[T, R]):
    """What runs on the machines of the cluster: one process each, one task at a time."""

    def host(self) -> str:
        """Where it runs; answered as soon as it does."""
        return socket.gethostname()

    @abstractmethod
    def open(self) -> None:
        """Get ready for the first task.

        Raises:
            MatcherError: It cannot; so could no other, and the driver stops.
        """

    @abstractmethod
    def work(self, task: T) -> R:
        """Do one task."""


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
        raise cause_of(error) from error
    except RayError as error:  # the worker, its machine, or what it sent is lost
        _log.info("a worker was lost, another takes its place: %s", last_line(error))
        ray.kill(actor)
        _hire(shift, post)
        if assignment is None:
            shift.stillborn += 1
            if shift.stillborn > max(_MOST_DEATHS, 2 * len(shift.promises())):
                raise MatcherError(
                    f"workers die before they have done anything: {last_line(error)}"
                ) from error
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
    line = f"{_MOST_DEATHS} workers died of it, the last so: {last_line(error)}"
    if given_up is None:
        raise MatcherError(f"a part of the work cannot be done: {line}") from error
    return assignment.task, given_up(assignment.task, line)


def cause_of(error: RayTaskError) -> Exception:
    """What a worker raised, as it raised it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MatcherError):
        return cause
    return MatcherError(f"a worker failed: {type(cause).__name__}: {cause or last_line(error)}")


def last_line(error: Exception) -> str:
    """What is to be said of one of Ray's errors, whose messages are long and end with the matter itself."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or type(error).__name__
    return text.splitlines()[-1].strip()[:300]


@contextlib.contextmanager
def on_this_host() -> Iterator[None]:
    """Says of what goes wrong where it did."""
    try:
        yield
    except MatcherError as error:
        raise type(error)(f"on {socket.gethostname()}: {error}") from error
