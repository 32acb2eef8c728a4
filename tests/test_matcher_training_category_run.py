"""``matcher train categories``: what is written, what is kept, and what stops it, nothing half trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from matcher.categories import CategoryModel
from matcher.category_head import TierHead
from matcher.errors import InputError
from matcher.taxonomy import Category, Taxonomy
from matcher.training.category_run import CategoryRun, train_categories
from matcher.training.head_config import HeadTraining
from matcher.training.labels import Labels, read_labels

PATHS = (
    "drama",
    "drama/period",
    "drama/modern",
    "drama/crime",
    "show",
    "show/talk",
    "show/game",
    "show/music",
)
SITE = Taxonomy("site", "1", tuple(Category(tuple(path.split("/"))) for path in PATHS), 2)
QUICK = HeadTraining(form="logistic", min_examples=2, folds=3, max_steps=60, patience=2, learning_rate=0.02)


class FakeStore:
    """Embeddings by clip, as a store has them."""

    def __init__(self, vectors: dict[str, NDArray[np.float32]], model: str = "m") -> None:
        self.vectors, self.model = vectors, model

    def read(self, clip_ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32], str]:
        found = sorted(clip_id for clip_id in clip_ids if clip_id in self.vectors)
        rows = [self.vectors[clip_id] for clip_id in found]
        return found, np.array(rows, np.float32).reshape(len(found), 10), self.model


def made(folder: Path, counts: dict[str, int], *, lines: str = "") -> tuple[FakeStore, Labels]:
    """A store and labels with so many clips of each category, two a program."""
    rng = np.random.default_rng(0)
    means = {path: rng.standard_normal(10) * 2 for path in PATHS}
    vectors, rows = {}, ["clip_id,category,program_id"]
    for path in PATHS:
        for number in range(counts.get(path, 0)):
            clip_id = f"{path.replace('/', '-')}-{number}"
            upper = means[path.split("/")[0]]
            vectors[clip_id] = (upper + means[path] + rng.standard_normal(10) * 0.5).astype(np.float32)
            rows.append(f"{clip_id},{path},{path}{number // 2}")
    csv = folder / "labels.csv"
    csv.write_text("\n".join(rows) + "\n" + lines)
    return FakeStore(vectors), read_labels(csv, SITE)


FULL = {
    "drama/period": 8, "drama/modern": 8, "drama/crime": 1, "show/talk": 8, "show/game": 8,
}  # fmt: skip


def run(folder: Path, store: FakeStore, labels: Labels, *tiers: int) -> CategoryRun:
    return train_categories(store, labels, tiers=tiers, folder=folder, config=QUICK)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_run_writes_heads_examples_cards_and_the_taxonomy(tmp_path: Path) -> None:
    store, labels = made(tmp_path, FULL)
    done = run(tmp_path / "out", store, labels, 1, 2)
    assert names(tmp_path / "out") == [
        "examples.safetensors", "taxonomy.toml", "tier1.md", "tier1.safetensors", "tier2.md",
        "tier2.safetensors",
    ]  # fmt: skip
    model = CategoryModel.load(tmp_path / "out")
    assert model.model == "m"
    assert model.taxonomy == SITE
    assert [len(head.class_paths) for head in model.heads] == [2, 4]
    x = np.array([store.vectors[clip_id] for clip_id in labels.clip_ids])
    right = [
        one.path == categories[0].path
        for one, categories in zip(model.predict(x), labels.categories, strict=True)
    ]
    assert np.mean(right) > 0.85
    (lone,) = model.predict(store.vectors["drama-crime-0"][None])
    crime = next(p for p in (*lone.tiers, *lone.alternatives) if p.category and p.category.name == "crime")
    assert crime.basis == "examples"
    assert model.bank is not None
    assert model.bank.likeness.is_calibrated
    assert [fault.kind for fault in done.faults] == ["empty_class", "one_example"]
    assert done.table()[1][:5] == ["1", "33", "17", "2/2", "0"]
    assert done.table()[2][3:5] == ["4/6", "1"]
    words = json.loads(json.dumps(done.words()))
    assert words["tiers"][1]["learned"] == 4
    assert words["tiers"][1]["figures"]["accuracy"] > 0.8
    card = (tmp_path / "out" / "tier2.md").read_text()
    assert "| drama/crime | 1 | examples |" in card
    assert "| show/music | 0 | nothing yet |" in card
    assert "'drama/crime' has one example" in card


def test_a_tier_is_trained_and_released_apart(tmp_path: Path) -> None:
    store, labels = made(tmp_path, FULL)
    out = tmp_path / "out"
    run(out, store, labels, 1, 2)
    first, second = ((out / f"tier{tier}.safetensors").read_bytes() for tier in (1, 2))
    store, labels = made(tmp_path, {**FULL, "drama/crime": 8})
    run(out, store, labels, 2)
    assert (out / "tier1.safetensors").read_bytes() == first
    assert (out / "tier2.safetensors").read_bytes() != second
    assert "drama/crime" in TierHead.load(out / "tier2.safetensors").class_paths
    assert CategoryModel.load(out).bank.paths == ()  # type: ignore[union-attr]


def test_examples_of_other_tiers_are_kept(tmp_path: Path) -> None:
    store, labels = made(tmp_path, FULL)
    out = tmp_path / "out"
    run(out, store, labels, 2)
    run(out, store, labels, 1)
    assert CategoryModel.load(out).bank.paths == ("drama/crime",)  # type: ignore[union-attr]


def test_a_tier_of_few_examples_alone_has_no_head_and_answers(tmp_path: Path) -> None:
    store, labels = made(tmp_path, {"drama/period": 1, "show/talk": 1})
    done = run(tmp_path / "out", store, labels, 2)
    assert done.tiers[0].head is None
    assert names(tmp_path / "out") == ["examples.safetensors", "taxonomy.toml", "tier2.md"]
    model = CategoryModel.load(tmp_path / "out")
    assert model.bank is not None
    assert not model.bank.likeness.is_calibrated
    (found,) = model.predict(store.vectors["show-talk-0"][None])
    assert (found.path, found.basis) == ("show/talk", "examples")
    assert "no head" in (tmp_path / "out" / "tier2.md").read_text()


def test_clips_without_embeddings_are_said_and_classes_counted_without_them(tmp_path: Path) -> None:
    store, labels = made(tmp_path, FULL)
    for number in range(7):
        del store.vectors[f"show-game-{number}"]
    done = run(tmp_path / "out", store, labels, 2)
    kinds = [fault.kind for fault in done.faults]
    assert kinds == ["no_features", "empty_class", "one_example", "one_example"]
    assert "7 of 33 labelled clips have no features" in done.faults[0].message


@pytest.mark.parametrize(
    ("counts", "lines", "tiers", "message"),
    [
        (FULL, "x,drama/perod,p\n", (2,), r"line 35: category 'drama/perod' .*; nothing was trained"),
        (FULL, "x,show/period,p\n", (2,), "stands under another parent"),
        (FULL, "", (3,), r"tiers \[3\] are not in taxonomy site@1, which has 2"),
        (FULL, "", (), "name one with --tier"),
        (
            {"drama": 8, "show": 8},
            "",
            (1, 2),
            "no clip with an embedding is labelled with a category of tier 2",
        ),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    tmp_path: Path, counts: dict[str, int], lines: str, tiers: tuple[int, ...], message: str
) -> None:
    store, labels = made(tmp_path, counts, lines=lines)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "out", store, labels, *tiers)
    assert names(tmp_path / "out") == []


def test_a_store_without_any_of_the_clips_stops_the_run(tmp_path: Path) -> None:
    _, labels = made(tmp_path, FULL)
    with pytest.raises(InputError, match="no labelled clip has an embedding"):
        run(tmp_path / "out", FakeStore({}), labels, 1)


def test_heads_of_other_embeddings_are_not_put_beside_new_ones(tmp_path: Path) -> None:
    store, labels = made(tmp_path, FULL)
    out = tmp_path / "out"
    run(out, store, labels, 1)
    store.model = "n"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(
        InputError, match=r"tier1\.safetensors, which would stand beside .* of model m, these are of n"
    ):
        run(out, store, labels, 2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    run(out, store, labels, 1, 2)
    assert CategoryModel.load(out).model == "n"


def test_a_run_that_is_cut_off_in_training_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, labels = made(tmp_path, FULL)
    out = tmp_path / "out"
    run(out, store, labels, 1, 2)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    import matcher.training.category_heads as heads

    train = heads.train_head

    def cut(x, targets, known, groups, config, origin):  # type: ignore[no-untyped-def]
        if origin.tier == 2:
            raise KeyboardInterrupt
        return train(x, targets, known, groups, config, origin)

    monkeypatch.setattr(heads, "train_head", cut)
    with pytest.raises(KeyboardInterrupt):
        train_categories(store, labels, tiers=(1, 2), folder=out, config=replace(QUICK, seed=5))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
