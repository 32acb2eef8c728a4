"""Real films: cuts of them are linked to the right place, cuts of others to none.

The folder is MATCHER_FILMS, or ``shared/films`` beside the repository.
"""

from __future__ import annotations

import csv
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ROOT, run_process
from numpy.typing import NDArray

from eval.video_reader import even, read_frames, read_shape
from eval.video_writer import write_video

FILMS = Path(os.environ.get("MATCHER_FILMS") or ROOT.parent / "shared" / "films")
LEFT_OUT = ("agent-327", "llama-drama", "sls-hot-fire")

pytestmark = [
    pytest.mark.films,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FILMS / "films.csv").is_file(),
        reason=f"no films in {FILMS}; MATCHER_FILMS names their folder",
    ),
]


@dataclass(frozen=True)
class Cut:
    """A re-encoded stretch of a film."""

    path: Path
    program_id: str
    start_seconds: float


def _films() -> list[dict[str, str]]:
    with (FILMS / "films.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cut(film: dict[str, str], path: Path, rng: np.random.Generator) -> Cut:
    """6 to 12 seconds of a film at a random place, 360 lines, crf 32."""
    source = FILMS / film["path"]
    length = float(film["duration_seconds"])
    seconds = min(rng.uniform(6.0, 12.0), length)
    start = rng.uniform(0.0, max(0.0, length - seconds - 0.1))
    shape = read_shape(source)
    scale = 360 / min(shape.width, shape.height)
    times: list[float] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        side = even(max(shape.width, shape.height) * min(1.0, scale))
        for t_seconds, picture in read_frames(source, start, start + seconds, max_side=side):
            times.append(t_seconds)
            yield picture

    write_video(path, pictures(), fps=shape.fps, crf=32)
    return Cut(path, film["program_id"], times[0])


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> list[Cut]:
    """Sixty: two of every film, the rest of films drawn at random."""
    rng = np.random.default_rng(1)
    folder, films = tmp_path_factory.mktemp("cuts"), _films()
    chosen = [films[i % len(films) if i < 36 else rng.integers(len(films))] for i in range(60)]
    return [_cut(film, folder / f"k{i:02d}.mp4", rng) for i, film in enumerate(chosen)]


@pytest.fixture(scope="module")
def strange_cuts(tmp_path_factory: pytest.TempPathFactory) -> list[Cut]:
    """Twenty of the films that are left out."""
    rng = np.random.default_rng(2)
    folder = tmp_path_factory.mktemp("strange")
    films = [film for film in _films() if film["program_id"] in LEFT_OUT]
    return [_cut(films[i % 3], folder / f"u{i:02d}.mp4", rng) for i in range(20)]


def _answers(store: Path, cuts: Sequence[Cut]) -> list[dict[str, Any]]:
    ran = run_process("query", "--store", store, *(cut.path for cut in cuts), "--json")
    assert ran.code == 0, ran.err
    return ran.objects


def _start(answer: dict[str, Any]) -> float:
    segment = answer["links"][0]["segments"][0]
    return float(segment["asset_start_seconds"] - segment["clip_start_seconds"])


@pytest.fixture(scope="module")
def film_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All films, a frame a second."""
    store = tmp_path_factory.mktemp("films") / "store"
    added = run_process("add", "--store", store, "--manifest", FILMS / "films.csv")
    assert added.code == 0, added.err
    print(added.lines[-1])  # noqa: T201
    return store


def test_cuts_are_linked_to_their_film_and_place(cuts: list[Cut], film_store: Path) -> None:
    """At least 59 of 60 to the right film, at least 50 of 60 to within a second of the right place."""
    answers = _answers(film_store, cuts)
    right = [a["program_id"] == cut.program_id for a, cut in zip(answers, cuts, strict=True)]
    near = [
        ok and abs(_start(a) - cut.start_seconds) <= 1.0
        for ok, a, cut in zip(right, answers, cuts, strict=True)
    ]
    print(f"{sum(right)} of {len(cuts)} right, {sum(near)} within a second")  # noqa: T201
    wrong = [(c.path.stem, c.program_id, a["decision"], a["program_id"], a["confidence"])
             for ok, a, c in zip(right, answers, cuts, strict=True) if not ok]  # fmt: skip
    assert sum(right) >= 59, wrong
    assert sum(near) >= 50


def test_cuts_of_films_that_are_not_there_are_linked_to_none(strange_cuts: list[Cut], tmp_path: Path) -> None:
    manifest = tmp_path / "films.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["program_id", "path", "title"])
        for film in _films():
            if film["program_id"] not in LEFT_OUT:
                writer.writerow([film["program_id"], FILMS / film["path"], film["title"]])
    store = tmp_path / "store"
    assert run_process("add", "--store", store, "--manifest", manifest).code == 0
    answers = _answers(store, strange_cuts)
    highest = max(answer["confidence"] for answer in answers)
    reviews = sum(answer["decision"] == "review" for answer in answers)
    print(f"highest confidence {highest:.3f}, {reviews} up for review")  # noqa: T201
    linked = [(cut.path.stem, cut.program_id, a["program_id"], a["confidence"])
              for a, cut in zip(answers, strange_cuts, strict=True) if a["decision"] == "linked"]  # fmt: skip
    assert linked == []


def test_keyframes_alone_still_link(cuts: list[Cut], film_store: Path, tmp_path: Path) -> None:
    """Faster to add, and enough to find clips by among the other films."""
    seconds = {}
    film = FILMS / "big-buck-bunny.mp4"
    for sampling in ("fps=1", "keyframes"):
        store = tmp_path / sampling
        started = time.perf_counter()
        assert run_process("add", "--store", store, "big-buck-bunny", film, "--sampling", sampling).code == 0
        seconds[sampling] = time.perf_counter() - started
    own = [cut for cut in cuts if cut.program_id == "big-buck-bunny"]
    store = Path(shutil.copytree(film_store, tmp_path / "store"))
    assert run_process("add", "--store", store, "big-buck-bunny", film, "--sampling", "keyframes").code == 0
    answers = _answers(store, own)
    print(f"keyframes {seconds['fps=1'] / seconds['keyframes']:.1f} times as fast: {seconds}")  # noqa: T201
    found = [(answer["program_id"], answer["confidence"]) for answer in answers]
    assert [name for name, _ in found] == ["big-buck-bunny"] * len(own), found
