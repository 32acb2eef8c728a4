"""Several processes at one store: every answer is right while others change it, and news comes soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import store_users

from index.catalog import Catalog, NewProgram

#: A reader's memory may grow by so much in a minute of changes: the store has some 150 frames, so all that
#: grows is what Lance keeps of some hundred commits, and the allocator's slack.
GROWTH_BYTES = 64 << 20


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """All programs, in their first generation."""
    catalog = Catalog.create(tmp_path / "store", store_users.MODEL)
    with catalog.writing() as writer:
        for number in range(store_users.N_PROGRAMS):
            writer.add_program(NewProgram(store_users.name_of(number)), store_users.assets_of(number, 1))
    return catalog


@pytest.mark.parametrize(("readers", "seconds"), [(2, 3.0), pytest.param(4, 60.0, marks=pytest.mark.slow)])
def test_readers_are_right_all_the_time_while_a_writer_changes_everything(
    catalog: Catalog, readers: int, seconds: float
) -> None:
    """No wrong answer, no exception, no growth; flat and inverted, refreshing themselves and followed."""
    ways = [("follow", "ivf"), ("refresh", "flat"), ("follow", "flat"), ("refresh", "ivf-fp16")]
    children = [store_users.start("read", catalog.path, seconds, *way) for way in ways[:readers]]
    writer = store_users.start("write", catalog.path, seconds)
    store_users.release(*children, writer)
    done = store_users.result_of(writer)["done"]
    for way, child in zip(ways, children, strict=False):
        got = store_users.result_of(child)
        print(way, got, "beside", done)  # noqa: T201
        assert got["seen"] > store_users.N_PROGRAMS, "no news in all that time"
        assert got["late"] - got["early"] < GROWTH_BYTES
    assert done["add"] > 3


def test_a_new_program_is_found_within_two_seconds(catalog: Catalog) -> None:
    """By a process that follows, from the moment at which the add was done; and it answers all the time."""
    generations = range(1, 5)
    watcher = store_users.start("watch", catalog.path, len(generations))
    store_users.release(watcher)
    done = {}
    for generation in generations[1:]:
        time.sleep(0.7)  # not in step with the half second of the follower
        with catalog.writing() as writer:
            writer.add_program(NewProgram("p0"), store_users.assets_of(0, generation))
        done[generation] = time.monotonic()
    got = store_users.result_of(watcher)
    delays = {generation: got["found"][str(generation)] - done[generation] for generation in done}
    print("found after", delays, "longest pause", got["longest"])  # noqa: T201
    assert max(delays.values()) < 2.0
