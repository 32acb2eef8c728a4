"""``kill -9`` at any moment of an add: each program is wholly there or wholly not, and the store goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import Library, Run, command, environment

from index.catalog import Catalog

# Of one program: per asset its id and frame count, and every frame's time and vector.
Content = tuple[tuple[tuple[str, int], ...], bytes]


def _contents(store: Path) -> dict[str, Content]:
    """What a store shows, by value; empty where there is no store."""
    if not (store / "store.json").is_file():
        return {}
    catalog = Catalog.open(store)
    found = {}
    for program in catalog.programs():
        assets = tuple((asset.asset_id, asset.frame_count) for asset in catalog.assets(program.program_id))
        frames = catalog.frames_of(program.number)
        assert program.frame_count == sum(n for _, n in assets) == len(frames.ids)
        found[program.program_id] = assets, frames.t_seconds.tobytes() + frames.vectors.tobytes()
    return found


@pytest.fixture(scope="module")
def before(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which p01 and p02 have other files than the manifest says; p03 is not there."""
    store = tmp_path_factory.mktemp("before") / "store"
    for program_id, other in (("p01", "p02"), ("p02", "p03")):
        words = command("add", "--store", store, program_id, library.episodes(other)[0])
        subprocess.run(words, check=True, capture_output=True, env=environment())
    return store


@pytest.fixture(scope="module")
def undisturbed(
    library: Library, before: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """The store after the whole add, and how long that took."""
    store = tmp_path_factory.mktemp("after") / "store"
    shutil.copytree(before, store)
    started = time.perf_counter()
    words = command("add", "--store", store, "--manifest", library.manifest)
    subprocess.run(words, check=True, capture_output=True, env=environment())
    return store, time.perf_counter() - started


def _kill_and_check(
    matcher: Run,
    library: Library,
    before: Path | None,
    wanted: dict[str, Content],
    store: Path,
    seconds: float,
) -> bool:
    """One round; returns whether the kill came before the end."""
    old = {}
    if before is not None:
        shutil.copytree(before, store)
        old = _contents(before)
    add = ("add", "--store", store, "--manifest", library.manifest)
    child = subprocess.Popen(
        command(*add), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
    killed = child.wait() == -signal.SIGKILL

    if (store / "store.json").is_file():
        # Before anybody repairs anything: all that reads works, and shows whole programs.
        found = _contents(store)
        assert set(old) <= set(found) <= set(wanted)
        for program_id, content in found.items():
            assert content in (old.get(program_id), wanted[program_id])
        listed = matcher("programs", "--store", store, "--json")
        assert [program["program_id"] for program in listed.objects] == list(found)
        status = matcher("status", "--store", store, "--json").object
        assert status["programs"] == len(found)
        assert status["index_frames"] == status["frames"] == sum(n for a, _ in found.values() for _, n in a)
        assert matcher("index", "verify", "--store", store).code == 0
        answers = matcher("query", "--store", store, *library.clips.values(), "--json").objects
        for answer, program_id in zip(answers, library.clips, strict=True):
            if found.get(program_id) == wanted[program_id]:
                assert answer["program_id"] == program_id

    again = matcher(*add, "--json")
    assert again.code == 0, again.err
    assert _contents(store) == wanted
    assert matcher("index", "verify", "--store", store).code == 0
    with Catalog.open(store).writing() as writer:
        writer.compact(keep_seconds=0)
        visible = {program.number for program in writer.catalog.programs()}
        assert set(writer.catalog.frame_counts()) == visible
    assert _contents(store) == wanted
    shutil.rmtree(store)
    return killed


def _kills(
    n: int,
    seed: int,
    matcher: Run,
    library: Library,
    before: Path,
    undisturbed: tuple[Path, float],
    folder: Path,
) -> None:
    whole, seconds = undisturbed
    wanted = _contents(whole)
    assert len(wanted) == 3
    rng = np.random.default_rng(seed)
    # One moment in each of n equal parts of the run, without most of the start-up, where nothing is written.
    start, stop = 0.25 * seconds, 0.9 * seconds
    moments = start + (stop - start) * (np.arange(n) + rng.random(n)) / n
    killed = [
        _kill_and_check(matcher, library, before if i % 3 else None, wanted, folder / f"s{i}", moment)
        for i, moment in enumerate(rng.permutation(moments).tolist())
    ]
    print(f"{sum(killed)} of {n} kills came before the end of a run of {seconds:.1f} s")  # noqa: T201
    assert any(killed)


def test_two_kills(
    matcher: Run, library: Library, before: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    """Some replace programs that are there, some make the store."""
    _kills(2, 1, matcher, library, before, undisturbed, tmp_path)


@pytest.mark.slow
def test_twenty_kills(
    matcher: Run, library: Library, before: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    _kills(20, 2, matcher, library, before, undisturbed, tmp_path)
