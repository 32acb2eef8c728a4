"""Files of programs, decoded and encoded by the workers of a cluster."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from matcher.cluster.crew import Crew, Post, Worker, on_this_host, spread_over
from matcher.decode import Sampling
from matcher.describe import Described, describe_files
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError, StoreError

if TYPE_CHECKING:
    from matcher.config import Settings
    from matcher.pipeline import Describer

#: Files described, or being described, before their turn: so many a worker. They bound memory.
_FILES_AHEAD = 4


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
        with on_this_host():
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
