"""Labels of kept clips to heads in use: the whole way on the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Run

from index.catalog import Catalog, ClipRecord, FeatureRecord, LinkRecord, ModelInfo, StoredClip
from matcher.taxonomy import Taxonomy

D = 16
PATHS = ["drama/period/palace", "drama/period/war", "drama/city/office", "comedy/family/school"]
EMBEDDING = ModelInfo("fp-e", "mean", D)


def labels_of(path: Path, rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]], header: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A store of clips whose embeddings tell their category and their program, labels, and a taxonomy."""
    folder = tmp_path_factory.mktemp("kept")
    catalog = Catalog.create(folder / "store", ModelInfo("fp", "frames", 4))
    rng = np.random.default_rng(0)
    rows, records, links, clips = [], [], [], []
    for program in range(20):
        category = program % len(PATHS)
        own = rng.normal(scale=0.12, size=D)
        for number in range(3):
            clip_id = f"c{program:02d}-{number}"
            x = np.eye(D)[category] + own + rng.normal(scale=0.1, size=D)
            x = (x / np.linalg.norm(x)).astype(np.float32)
            records.append(FeatureRecord(clip_id, "day", embedding=x, embedding_model="fp-e"))
            links.append(LinkRecord(clip_id, "linked", f"p{program}", 1.0, 1, "{}"))
            clips.append(
                StoredClip(
                    ClipRecord(clip_id, "", "", 1.0, 1, "fp", kept_at="day"),
                    np.zeros(1),
                    np.ones((1, 4), np.float32),
                )
            )
            rows.append((clip_id, PATHS[category]))
    with catalog.writing() as writer:
        writer.replace_embeddings(EMBEDDING, [])
        writer.put_clips(clips)
        writer.put_features(records)
        writer.put_links(links)
    Taxonomy.of_paths(PATHS).save(folder / "site.toml")
    return folder / "store", labels_of(folder / "labels.csv", rows, "clip_id,category"), folder / "site.toml"


def trained(matcher: Run, kept: tuple[Path, Path, Path], out: Path, *words: str):
    store, labels, taxonomy = kept
    return matcher(
        "train", "categories", "--store", store, "--clips", labels, "--taxonomy", taxonomy, "--out", out,
        "--json", *words,
    )  # fmt: skip


@pytest.mark.slow
def test_heads_are_trained_used_and_answer(
    matcher: Run, kept: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    ran = trained(matcher, kept, tmp_path / "cats", "--head", "logistic", "--tier", "2", "--tier", "3")
    assert ran.code == 0, ran.err
    found = ran.object
    assert [tier["learned"] for tier in found["tiers"]] == [3, 4]
    assert all(tier["figures"]["accuracy"] > 0.9 for tier in found["tiers"])
    # Programs come from the links: whole ones were held out.
    assert [tier["programs"] for tier in found["tiers"]] == [20, 20]
    assert (tmp_path / "cats" / "tier2.md").is_file()
    used = matcher("models", "use", "--categories", tmp_path / "cats", "--store", kept[0], "--json")
    assert used.code == 0, used.err
    from matcher.categories import CategoryModel

    model = CategoryModel.load(tmp_path / "cats")
    assert model.predict(np.eye(D, dtype=np.float32)[[1]])[0].path == PATHS[1]
    # One tier is trained anew, and the other stays.
    before = {path.name: path.read_bytes() for path in (tmp_path / "cats").glob("*.safetensors")}
    words = ("--head", "logistic", "--tier", "3", "--augment", "mixup", "--augment", "noise")
    ran = trained(matcher, kept, tmp_path / "cats", *words)
    assert ran.code == 0, ran.err
    after = {path.name: path.read_bytes() for path in (tmp_path / "cats").glob("*.safetensors")}
    assert [name for name in before if before[name] != after[name]] == ["tier3.safetensors"]


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([("c00-0", "drama/space")], "clip_id,category", "drama/space"),
        ([("nobody", PATHS[0])], "clip_id,category", "no labelled clip has an embedding"),
        ([("c00-0", PATHS[0])], "clip,category", "no column clip_id"),
        ([], "clip_id,category", "no rows"),
    ],
)
def test_bad_labels_are_one_line_and_nothing_is_written(
    matcher: Run, kept: tuple[Path, Path, Path], tmp_path: Path, rows: list, header: str, said: str
) -> None:
    labels = labels_of(tmp_path / "labels.csv", rows, header)
    ran = trained(matcher, (kept[0], labels, kept[2]), tmp_path / "cats")
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "cats").exists()


def test_words_that_are_none_are_refused(matcher: Run, kept: tuple[Path, Path, Path], tmp_path: Path) -> None:
    for words, said in ((("--augment", "flip"), "mixup"), (("--head", "tree"), "logistic")):
        ran = trained(matcher, kept, tmp_path / "cats", *words)
        assert ran.code == 2
        assert said in ran.err


def test_embeddings_of_another_model_are_told_with_a_remedy(
    matcher: Run, kept: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(kept[0], tmp_path / "store"))
    catalog = Catalog.open(copy)
    with catalog.writing() as writer:
        writer.replace_embeddings(ModelInfo("fp-new", "mean", D), [])
    ran = trained(matcher, (copy, kept[1], kept[2]), tmp_path / "cats")
    assert ran.code == 2
    assert "matcher relink" in ran.err
    with catalog.writing() as writer:
        writer._delete("models", "kind = 'embedding'")
    assert "models use mean" in trained(matcher, (copy, kept[1], kept[2]), tmp_path / "cats").err


def test_a_category_of_few_clips_is_answered_by_them_at_once(
    matcher: Run, kept: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    few = [
        (f"c{program:02d}-{n}", PATHS[program % 4])
        for program in range(20)
        for n in range(3)
        if program % 4 != 3
    ]
    few += [("c03-0", PATHS[3]), ("c07-0", PATHS[3])]
    labels = labels_of(tmp_path / "few.csv", few, "clip_id,category")
    ran = trained(
        matcher, (kept[0], labels, kept[2]), tmp_path / "cats", "--min-examples", "5", "--tier", "3",
        "--head", "logistic",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert [tier["by_examples"] for tier in json.loads(ran.out)["tiers"]] == [1]
    from matcher.categories import CategoryModel

    (found,) = CategoryModel.load(tmp_path / "cats").predict(np.eye(D, dtype=np.float32)[[3]])
    assert (found.path, found.basis) == (PATHS[3], "examples")
