"""Whatever is done to a store, in whatever order: all that have it open answer as brute force does."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from test_index_live import MODEL, SOUND, Model, assert_answers, assert_shows, assets_of, sounding

from index.catalog import Catalog, NewAsset, NewProgram, Writer
from index.faiss_backend import KINDS
from index.live import LiveIndex
from index.rows import KINDS as TABLES
from index.rows import Kind
from index.snapshot import cache_folder

NAMES = st.sampled_from(["p0", "p1", "p2"])
SEEDS = st.integers(0, 999)
#: Frames, or sounds, of each asset.
SIZES = st.lists(st.integers(0, 9), max_size=3).map(tuple)


class Killed(BaseException):
    """Stands for ``kill -9``: nobody cleans up after it."""


class DecodeError(Exception):
    """A file that turns out to be no good."""


class Warnings(logging.Handler):
    """Keeps what the package ``index`` warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class StoreMachine(RuleBasedStateMachine):
    """One writer, and a reader that refreshes when it likes, against a dictionary of programs."""

    table: Kind = "frames"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="state-machine-"))
        self.warnings = Warnings()
        logging.getLogger("index").addHandler(self.warnings)
        self.catalog = Catalog.create(self.folder / "store", MODEL)
        with self.catalog.writing() as writer:
            writer.use_sound(SOUND)
        self.shown: Model = {}
        self.numbers: dict[str, int] = {}
        self.is_damaged = False

    @initialize(kind=st.sampled_from(KINDS), seed=SEEDS)
    def open_both(self, kind: str, seed: int) -> None:
        """With two programs, so that there is something to replace and to remove from the start."""
        for name in ("p0", "p1"):
            self.add_or_replace(name, seed, (4, 0, 7), (5, 2))
        self.open_writer(kind)
        self.open_reader(kind)

    def teardown(self) -> None:
        try:
            for table in TABLES:
                last = LiveIndex.open(Catalog.open(self.catalog.path), table=table)
                assert_answers(last, self.shown, self.numbers)
        finally:
            logging.getLogger("index").removeHandler(self.warnings)
            shutil.rmtree(self.folder)

    # ------------------------------------------------------------ changes

    @rule(name=NAMES, seed=SEEDS, frames=SIZES, sounds=SIZES)
    def add_or_replace(self, name: str, seed: int, frames: tuple[int, ...], sounds: tuple[int, ...]) -> None:
        assets = sounding(assets_of(seed, frames), seed, sounds)
        with self.catalog.writing() as writer:
            record = writer.add_program(NewProgram(name), iter(assets))
        self.shown[name], self.numbers[name] = assets, record.number

    @rule(names=st.sets(NAMES, min_size=1))
    def remove(self, names: set[str]) -> None:
        with self.catalog.writing() as writer:
            assert set(writer.remove_programs(names)) == names & set(self.shown)
        self.forget(names)

    @rule(thorough=st.booleans())
    def compact(self, thorough: bool) -> None:
        with self.catalog.writing() as writer:
            writer.compact(keep_seconds=0 if thorough else 3600)

    @rule(force=st.booleans())
    def save(self, force: bool) -> None:
        with self.catalog.writing() as writer:
            if self.live.save(writer, force=force):
                self.is_damaged = False

    @rule(is_saved=st.booleans())
    def rebuild(self, is_saved: bool) -> None:
        if not is_saved:
            self.live.rebuild()
            return
        with self.catalog.writing() as writer:
            self.live.rebuild(writer)
        self.is_damaged = False

    @rule()
    def retrain(self) -> None:
        with self.catalog.writing() as writer:
            self.live.retrain(writer)
        self.is_damaged = False

    # ------------------------------------------------------------ what goes wrong

    @rule(name=NAMES, seed=SEEDS, frames=SIZES)
    def add_a_file_that_is_no_good(self, name: str, seed: int, frames: tuple[int, ...]) -> None:
        def broken() -> Iterator[NewAsset]:
            yield from assets_of(seed, frames)
            raise DecodeError

        with self.catalog.writing() as writer, pytest.raises(DecodeError):
            writer.add_program(NewProgram(name), broken())

    @rule(name=NAMES, seed=SEEDS, where=st.sampled_from(["_append", "_merge", "_delete_numbers"]))
    def kill_an_add(self, name: str, seed: int, where: str) -> None:
        """After the frames and sounds, before the flip; or after it, before the old rows are deleted."""
        assets = sounding(assets_of(seed), seed)
        number = 1 + max((record.number for record in self.catalog.programs(removed=True)), default=0)
        is_last = where == "_delete_numbers"
        if is_last and name not in self.shown:
            return  # there is nothing to delete
        with self.killed_at(where) as writer:
            writer.add_program(NewProgram(name), assets)
        if is_last:
            self.shown[name], self.numbers[name] = assets, number

    @precondition(lambda self: self.shown)
    @rule(data=st.data(), where=st.sampled_from(["_merge", "_delete_numbers"]))
    def kill_a_removal(self, data: st.DataObject, where: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.shown)))
        with self.killed_at(where) as writer:
            writer.remove_programs([name])
        if where == "_delete_numbers":
            self.forget({name})

    @rule(kind=st.sampled_from(KINDS), data=st.data(), is_cut=st.booleans())
    def damage_the_snapshot_and_open(self, kind: str, data: st.DataObject, is_cut: bool) -> None:
        """A file lost or cut short (those who have it open keep the old one): a warning, the same answers."""
        cache = cache_folder(self.catalog.path, self.live._model.fingerprint)
        if not (cache / "CURRENT").exists():
            return
        file = data.draw(st.sampled_from(sorted(file for file in cache.rglob("*") if file.is_file())))
        content = file.read_bytes()
        file.unlink()
        if is_cut:
            file.write_bytes(content[: len(content) // 2])
        # Without CURRENT there is no snapshot, and that is no damage.
        self.is_damaged = is_cut or file.name != "CURRENT"
        self.open_writer(kind)
        assert bool(self.live.verify(full=True)) == self.is_damaged

    # ------------------------------------------------------------ opening, and the reader's own time

    @rule(kind=st.sampled_from(KINDS))
    def open_writer(self, kind: str) -> None:
        self.warnings.lines.clear()
        self.catalog = Catalog.open(self.folder / "store")
        self.live = LiveIndex.open(self.catalog, kind=kind, table=self.table)
        assert bool(self.warnings.lines) == self.is_damaged, self.warnings.lines

    @rule(kind=st.sampled_from(KINDS))
    def open_reader(self, kind: str) -> None:
        self.reader_catalog = Catalog.open(self.folder / "store")
        self.reader = LiveIndex.open(self.reader_catalog, kind=kind, table=self.table)
        self.note_what_the_reader_shows()

    @rule()
    def refresh_reader(self) -> None:
        self.reader.refresh()
        self.note_what_the_reader_shows()
        if not self.is_damaged:
            assert_shows(self.reader, self.reader_catalog, self.shown)

    @precondition(lambda self: not self.is_damaged)
    @rule()
    def verify(self) -> None:
        assert_shows(self.live, self.catalog, self.shown)

    @invariant()
    def both_answer_as_brute_force(self) -> None:
        if hasattr(self, "live"):  # not before open_both
            seed = len(self.catalog.programs(removed=True)) + self.catalog.version()
            self.live.refresh()
            assert_answers(self.live, self.shown, self.numbers, seed=seed)
            assert_answers(self.reader, self.reader_shown, self.reader_numbers, seed=seed)

    # ------------------------------------------------------------ inside

    @contextlib.contextmanager
    def killed_at(self, where: str) -> Iterator[Writer]:
        """A writer that dies on entering one of its methods, and leaves everything as it is then."""

        def die(*_: object, **__: object) -> None:
            raise Killed

        try:
            with self.catalog.writing() as writer, pytest.MonkeyPatch.context() as patch:
                patch.setattr(writer, where, die)
                if where != "_delete_numbers":
                    patch.setattr(writer, "_clean_orphans", lambda: None)
                yield writer
        except Killed:
            return
        raise AssertionError(f"it never came to {where}")

    def forget(self, names: set[str]) -> None:
        for name in names & set(self.shown):
            del self.shown[name], self.numbers[name]

    def note_what_the_reader_shows(self) -> None:
        self.reader_shown, self.reader_numbers = dict(self.shown), dict(self.numbers)


class SoundMachine(StoreMachine):
    table: Kind = "sounds"


MACHINES: dict[Kind, type[StoreMachine]] = {"frames": StoreMachine, "sounds": SoundMachine}


def _run(table: Kind, *, examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        MACHINES[table],
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("table", TABLES)
def test_some_steps_answer_as_brute_force(table: Kind) -> None:
    """Add, replace, remove, save, compact, make anew, die half way, damage the cache, reopen; two readers."""
    _run(table, examples=4, steps=10)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_thousands_of_steps_answer_as_brute_force(table: Kind) -> None:
    """The same, 2,000 steps for each table."""
    _run(table, examples=40, steps=50)
