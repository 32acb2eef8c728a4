"""Embeddings of programs: a third kind of vector, whose model may change under the same programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.errors import CatalogError
from index.live import LiveIndex

D, DE = 6, 5
MODEL = ModelInfo("fp-frames", "frames", D)
FIRST, SECOND = ModelInfo("fp-mean", "mean", DE), ModelInfo("fp-trained", "trained", DE + 2)


def vectors_of(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float16).astype(np.float32)


def asset_of(name: str, seed: int) -> NewAsset:
    n = 3 + seed % 4
    return NewAsset(name, name, name, float(n), np.arange(n) * 1.0, vectors_of(seed, n, D))


def stretches_of(number: int, place: int, model: ModelInfo) -> tuple[np.ndarray, np.ndarray]:
    """What a model makes of one asset; another model has another number of stretches."""
    n = (number + place + model.d) % 3
    return np.arange(n) * 30.0 + 15.0, vectors_of(1000 * model.d + 10 * number + place, n, model.d)


def all_of(catalog: Catalog, model: ModelInfo) -> list:
    return [
        (record.number, [stretches_of(record.number, place, model) for place in range(record.asset_count)])
        for record in catalog.programs()
    ]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    with catalog.writing() as writer:
        for number in range(4):
            assets = [asset_of(f"a{place}", 10 * number + place) for place in range(1 + number % 2)]
            writer.add_program(NewProgram(f"p{number}"), assets)
    return catalog


def assert_embedded(catalog: Catalog, model: ModelInfo) -> None:
    """Every live program has this model's embeddings and no other rows are there."""
    catalog.refresh()
    assert catalog.embedding_model == model
    counts = catalog.frame_counts("embeddings")
    for record in catalog.programs():
        want = [stretches_of(record.number, place, model) for place in range(record.asset_count)]
        found = catalog.frames_of(record.number, "embeddings")
        assert np.array_equal(found.vectors, np.concatenate([vectors for _, vectors in want]))
        assert np.array_equal(found.t_seconds, np.concatenate([seconds for seconds, _ in want]))
        assert record.embedding_count == len(found.ids) == counts.pop(record.number, 0)
        assert [asset.embedding_count for asset in catalog.assets(record.program_id)] == [
            len(seconds) for seconds, _ in want
        ]
    assert counts == {}


def test_a_store_gets_embeddings_and_another_models_in_their_place(catalog: Catalog) -> None:
    before = catalog.programs(), catalog.assets()
    with catalog.writing() as writer:
        writer.replace_embeddings(FIRST, all_of(catalog, FIRST))
        assert_embedded(catalog, FIRST)
        writer.replace_embeddings(SECOND, all_of(catalog, SECOND))
    assert_embedded(catalog, SECOND)
    assert_embedded(Catalog.open(catalog.path), SECOND)
    after = catalog.programs(), catalog.assets()
    assert [replace(record, embedding_count=0) for record in after[0]] == before[0]
    assert [replace(asset, embedding_count=0) for asset in after[1]] == before[1]


def test_programs_added_later_bring_their_own_and_take_them_along(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        writer.replace_embeddings(FIRST, all_of(catalog, FIRST))
        number = max(record.number for record in catalog.programs()) + 1
        assets = [
            replace(asset_of(f"a{place}", place), embedding=stretches_of(number, place, FIRST))
            for place in range(3)
        ]
        record = writer.add_program(NewProgram("p1"), assets)
        assert record.number == number
        writer.remove_programs(["p2"])
    assert_embedded(catalog, FIRST)
    assert {record.program_id for record in catalog.programs()} == {"p0", "p1", "p3"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda given: [(99, given[0][1])], "number 99"),
        (lambda given: [given[0], given[0]], "comes twice"),
        (lambda given: [(given[0][0], [])], "other assets"),
        (lambda given: [(given[0][0], [(np.zeros(1), np.zeros((1, 3), np.float32))])], "of d = 3"),
    ],
)
def test_misfits_are_refused_and_the_store_then_has_none(catalog: Catalog, change, why: str) -> None:
    with catalog.writing() as writer:
        writer.replace_embeddings(FIRST, all_of(catalog, FIRST))
        with pytest.raises(ValueError, match=why):
            writer.replace_embeddings(SECOND, change(all_of(catalog, SECOND)))
        catalog.refresh()
        assert catalog.embedding_model is None
        writer.replace_embeddings(SECOND, all_of(catalog, SECOND))
    assert_embedded(catalog, SECOND)


def test_an_embedding_without_a_model_is_refused(catalog: Catalog) -> None:
    asset = replace(asset_of("a", 1), embedding=stretches_of(2, 0, FIRST))
    with catalog.writing() as writer, pytest.raises(ValueError, match="replace_embeddings"):
        writer.add_program(NewProgram("new"), [asset])
    assert catalog.program("new") is None


def test_an_index_finds_them_and_refuses_to_mix_models(catalog: Catalog) -> None:
    with catalog.writing() as writer:
        writer.replace_embeddings(FIRST, all_of(catalog, FIRST))
        live = LiveIndex.open(catalog, table="embeddings")
        for record in catalog.programs():
            found = catalog.frames_of(record.number, "embeddings")
            for row, vector in enumerate(found.vectors):
                unit = vector / np.linalg.norm(vector) ** 2
                got = live.search(unit[None], 50)
                want = np.sort(np.concatenate([_all(catalog) @ unit]))[::-1]
                assert np.allclose(got.similarities[0][: len(want)], want, atol=1e-3)
                assert found.ids[row] in got.ids[0]
        assert live.verify(full=True) == []
        writer.replace_embeddings(SECOND, all_of(catalog, SECOND))
        with pytest.raises(CatalogError, match="another model's now"):
            live.refresh()
        again = LiveIndex.open(catalog, table="embeddings")
    assert again.verify(full=True) == []
    assert again.d == SECOND.d


def _all(catalog: Catalog) -> np.ndarray:
    return np.concatenate(
        [catalog.frames_of(record.number, "embeddings").vectors for record in catalog.programs()]
    )


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_index_embeddings as here
from index.catalog import Catalog
catalog = Catalog.open(Path({store!r}))
with catalog.writing() as writer:
    print("go", flush=True)
    while True:
        for model in (here.FIRST, here.SECOND):
            writer.replace_embeddings(model, here.all_of(catalog, model))
"""


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.11, 0.3])
def test_a_kill_leaves_all_of_one_model_or_none_and_the_rest_untouched(
    catalog: Catalog, delay: float
) -> None:
    """Programs, assets and frames answer as before; the next change makes all of it good."""
    with catalog.writing() as writer:
        writer.replace_embeddings(FIRST, all_of(catalog, FIRST))
    frames = {record.number: catalog.frames_of(record.number).vectors for record in catalog.programs()}
    code = _KILLED.format(tests=str(Path(__file__).parent), store=str(catalog.path))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.wait()
    opened = Catalog.open(catalog.path)
    assert {record.number: 0 for record in opened.programs()} == dict.fromkeys(frames, 0)
    for number, vectors in frames.items():
        assert np.array_equal(opened.frames_of(number).vectors, vectors)
    if opened.embedding_model is not None:
        assert_embedded(opened, opened.embedding_model)
    with opened.writing() as writer:
        writer.compact(keep_seconds=0.0)
        writer.replace_embeddings(SECOND, all_of(opened, SECOND))
    assert_embedded(opened, SECOND)
