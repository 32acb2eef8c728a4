"""Clip models and categories that a store takes into use, compares, and goes back from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Library, Run

from index.catalog import Catalog
from matcher.categories import head_file
from matcher.category_head import TierHead
from matcher.clip_features import Words, features_of
from matcher.config import Settings
from matcher.encoders.base import fingerprint
from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.config import ClipModelConfig, FramesConfig, HeadConfig
from matcher.fusion.model_file import save_clip_model
from matcher.models_run import _category_recall, _neighbour_recall
from matcher.store import default_fusion, open_catalog, open_fusion
from matcher.taxonomy import Taxonomy
from matcher.used_models import UsedModels

SETTINGS = Settings()
DE = 24


def clip_model(path: Path, *, seed: int = 0, d_text: int = 512) -> Path:
    """A small one, untrained: what it says is nothing, but it always says the same."""
    torch.manual_seed(seed)
    config = ClipModelConfig(
        heads=(HeadConfig("tier1", 2),),
        picture=FramesConfig(d=512, d_out=16, n_clusters=4, n_groups=4),
        sound=FramesConfig(d=128, d_out=8, n_clusters=2, n_groups=2),
        d_text=d_text, d_embedding=DE,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save_clip_model(ClipModel(config), path, notes={})
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_model(tmp_path_factory.mktemp("models") / "small.safetensors")


def used(matcher: Run, store: Path, kind: str) -> list[str]:
    return [
        one["model"] for one in matcher("models", "list", "--store", store, "--json").objects
        if one["use"] == kind and one["used"]
    ]  # fmt: skip


def test_a_clip_model_makes_all_embeddings_anew_and_one_can_go_back(
    matcher: Run, store: Path, library: Library, model: Path
) -> None:
    matcher("link", library.clips["p01"], "--store", store)
    mean = open_catalog(store).embedding_model
    said = matcher("models", "use", model, "--store", store, "--json").object
    assert (said["use"], said["model"], said["programs"]) == ("embeddings", "clip-model:small", 3)
    catalog = open_catalog(store)
    assert catalog.embedding_model is not None
    assert (catalog.embedding_model.fingerprint, catalog.embedding_model.d) == (said["fingerprint"], DE)
    assert catalog.counts()["frames"] > 0
    assert matcher("index", "verify", "--store", store).code == 0
    # The clip's embedding is made by the model itself, slowly, one clip at a time.
    answer = matcher("link", library.clips["p02"], "--store", store, "--json").object
    assert answer["program_id"] == "p02"
    record = open_catalog(store).features()["clip-p02"]
    assert record.embedding_model == said["fingerprint"]
    from matcher.fusion.model_file import load_clip_model

    stored = open_catalog(store).clip("clip-p02")
    assert stored is not None
    text = default_fusion(catalog, SETTINGS).text_vector(Words().text)
    features = features_of(stored.vectors, stored.sound, text)
    with torch.inference_mode():
        want = (
            load_clip_model(model)(ClipBatch.of([features], dimensions=(512, 128, 512))).embedding[0].numpy()
        )
    np.testing.assert_allclose(record.embedding, want, atol=2e-3)
    # The clip of before gets its own at the next night.
    assert open_catalog(store).features()["clip-p01"].embedding_model == mean.fingerprint
    matcher("relink", "--store", store, "--accept")
    assert open_catalog(store).features()["clip-p01"].embedding_model == said["fingerprint"]
    assert matcher("models", "use", "mean", "--store", store).code == 0
    assert open_catalog(store).embedding_model == mean
    listed = matcher("models", "list", "--store", store, "--json").objects
    (other,) = [one for one in listed if one["use"] == "embeddings" and not one["used"]]
    again = matcher("models", "use", other["model"], "--store", store, "--json").object
    assert again["fingerprint"] == said["fingerprint"]


def test_programs_added_while_a_clip_model_is_used_are_embedded_by_it(
    matcher: Run, store: Path, library: Library, model: Path
) -> None:
    matcher("models", "use", model, "--store", store)
    assert matcher("add", "again", *library.episodes("p01"), "--store", store).code == 0
    catalog = open_catalog(store)
    fusion = open_fusion(catalog, SETTINGS)
    assert fusion is not None
    want = dict(fusion.programs(catalog))
    record = catalog.program("again")
    assert record is not None
    found = catalog.frames_of(record.number, "embeddings")
    assert len(found.ids) == record.embedding_count > 0
    np.testing.assert_allclose(
        found.vectors, np.concatenate([rows for _, rows in want[record.number]]), atol=2e-3
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: "nothing.safetensors", "no clip model"),
        (lambda folder: clip_model(folder / "wide.safetensors", d_text=64), "dimensions"),
        (
            lambda folder: (folder / "text.safetensors").write_text("x") and folder / "text.safetensors",
            "no clip",
        ),
    ],
)
def test_what_is_no_fitting_clip_model_is_refused_and_changes_nothing(
    matcher: Run, store: Path, tmp_path: Path, make, why: str
) -> None:
    before = open_catalog(store).embedding_model
    ran = matcher("models", "use", str(make(tmp_path)), "--store", store)
    assert ran.code != 0
    assert why in ran.err
    assert ran.err.count("\n") == 1
    assert open_catalog(store).embedding_model == before


def test_a_lost_clip_model_is_told_with_a_remedy(
    matcher: Run, store: Path, library: Library, model: Path
) -> None:
    matcher("models", "use", model, "--store", store)
    for path in store.rglob("clip-model-*.safetensors"):
        path.unlink()
    ran = matcher("query", library.clips["p01"], "--store", store)
    assert ran.code != 0
    assert "models use mean" in ran.err
    assert matcher("models", "use", "mean", "--store", store).code == 0


# ---------------------------------------------------------------- categories


def categories(folder: Path, mark: str, d: int) -> Path:
    """A taxonomy and a head of tier 1 that says "drama" of everything."""
    folder.mkdir()
    taxonomy = Taxonomy.of_paths(["drama/period/palace", "comedy/city/office"])
    taxonomy.save(folder / "taxonomy.toml")
    paths = [one.path for one in taxonomy.tier(1)]
    bias = np.array([3.0 if path == "drama" else -3.0 for path in paths], np.float32)
    weights = {"linear.weight": np.zeros((len(paths), d), np.float32), "linear.bias": bias}
    TierHead(
        1, tuple(paths), "logistic", weights, np.zeros(d, np.float32), 1.0, np.zeros(len(paths), np.float32),
        1.0, model=mark,
    ).save(folder / head_file(1))  # fmt: skip
    return folder


def test_categories_that_are_used_answer_query_link_and_classify(
    matcher: Run, store: Path, library: Library, tmp_path: Path
) -> None:
    own = open_catalog(store).embedding_model
    assert own is not None
    folder = categories(tmp_path / "mine", own.fingerprint, own.d)
    said = matcher("models", "use", "--categories", folder, "--store", store, "--json").object
    assert said["use"] == "categories"
    assert used(matcher, store, "categories") == [said["model"]]
    answer = matcher("query", library.clips["p01"], "--store", store, "--json").object
    first = answer["categories"]["tiers"][0]
    assert (first["name"], first["basis"]) == ("drama", "head")
    assert first["confidence"] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
    asked = ("classify", library.clips["p01"], "--store", store, "--json")
    assert matcher(*asked).object["categories"]["tiers"][0]["name"] == "drama"
    assert matcher(*asked, "--min-confidence", "0.99").object["categories"]["tiers"][0]["name"] is None
    matcher("link", library.clips["p02"], "--store", store)
    (link,) = open_catalog(store).links(["clip-p02"])
    assert json.loads(link.answer)["categories"]["tiers"][0]["name"] == "drama"
    # The cache may go at any time; the store has them still.
    import shutil

    shutil.rmtree(store / "cache")
    assert matcher(*asked).object["categories"]["tiers"][0]["name"] == "drama"
    matcher("models", "use", "--categories", "none", "--store", store)
    matcher("relink", "--store", store)
    (link,) = open_catalog(store).links(["clip-p02"])
    assert json.loads(link.answer)["categories"]["basis"] == "program"
    matcher("models", "use", "--categories", said["model"], "--store", store)
    assert used(matcher, store, "categories") == [said["model"]]


def test_what_a_head_knows_and_the_taxonomy_lacks_is_said_when_it_is_taken_into_use(
    matcher: Run, store: Path, tmp_path: Path
) -> None:
    own = open_catalog(store).embedding_model
    assert own is not None
    folder = categories(tmp_path / "mine", own.fingerprint, own.d)
    asked = ("models", "use", "--categories", folder, "--store", store)
    assert matcher(*asked, "--json").object["notes"] == []
    assert "left out" not in matcher(*asked).err
    taxonomy = Taxonomy.of_paths(["drama/period/palace"])
    taxonomy.save(folder / "taxonomy.toml")
    note = (
        f"the head of tier 1 knows 1 categories that are not in taxonomy {taxonomy.label} and are left out:"
        " comedy"
    )
    ran = matcher(*asked, "--json")
    assert ran.object["notes"] == [note]
    assert note in ran.err.splitlines()
    assert note in matcher(*asked).err.splitlines()


def test_categories_of_other_embeddings_are_refused_and_later_left_out(
    matcher: Run, store: Path, library: Library, model: Path, tmp_path: Path
) -> None:
    own = open_catalog(store).embedding_model
    assert own is not None
    ran = matcher(
        "models", "use", "--categories", categories(tmp_path / "x", "0" * 16, own.d), "--store", store
    )
    assert ran.code == 2
    assert "train them again" in ran.err
    mine = categories(tmp_path / "mine", own.fingerprint, own.d)
    matcher("models", "use", "--categories", mine, "--store", store)
    matcher("models", "use", model, "--store", store)
    ran = matcher("query", library.clips["p01"], "--store", store, "--json")
    assert ran.code == 0
    assert ran.object["categories"]["basis"] == "program"
    assert "left out" in ran.err


@pytest.mark.parametrize("content", [b"not json", b"[]", b'{"related": {"bias": 1}}'])
def test_a_damaged_list_of_models_is_told(
    matcher: Run, store: Path, library: Library, content: bytes
) -> None:
    (store / "models.json").write_bytes(content)
    ran = matcher("query", library.clips["p01"], "--store", store)
    assert ran.code != 0
    assert "models.json is damaged" in ran.err


def test_weights_fitted_on_other_embeddings_say_nothing(tmp_path: Path) -> None:
    from matcher.related import SHIPPED, RelatedWeights

    own = RelatedWeights(-1.0, (1.0, 2.0, 3.0, 4.0), embedding="a", cases=7)
    assert UsedModels(related=own).weights_for("a") is own
    assert UsedModels(related=own).weights_for("b") is SHIPPED
    assert UsedModels().weights_for("a") is SHIPPED


# ---------------------------------------------------------------- compare


def test_models_are_compared_on_linked_clips(
    matcher: Run, store: Path, library: Library, model: Path
) -> None:
    matcher("link", *library.clips.values(), "--store", store)
    before = Catalog.open(store).embedding_model
    ran = matcher("models", "compare", "mean", model, "--store", store, "--json")
    mean, small = ran.objects
    assert (mean["model"], mean["clips"], small["clips"]) == ("mean", 3, 3)
    assert mean["program_recall"] == 1.0
    assert 0 <= small["program_recall"] <= 1
    assert Catalog.open(store).embedding_model == before


def test_nothing_to_compare_by_is_an_error(matcher: Run, store: Path) -> None:
    ran = matcher("models", "compare", "mean", "--store", store)
    assert ran.code == 2
    assert "matcher link" in ran.err


def test_recalls_are_those_of_loops() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[3] = x[2]
    programs = np.array([f"p{n % 7}" for n in range(30)])
    names = [f"c{n}" for n in range(30)]
    paths = {name: [f"a{n % 2}/b{n % 3}"] for n, name in enumerate(names) if n % 5}
    hits = []
    for i in range(30):
        others = [j for j in range(30) if j != i and x[i] @ x[j] <= 0.95]
        if any(programs[j] == programs[i] for j in others):
            hits.append(programs[max(others, key=lambda j: x[i] @ x[j])] == programs[i])
    assert _neighbour_recall(x, programs) == pytest.approx(np.mean(hits))
    found = _category_recall(x, programs, names, paths)
    for tier in (1, 2):
        own = {name: "/".join(paths[name][0].split("/")[:tier]) for name in paths}
        hits = []
        for i, name in enumerate(names):
            others = [j for j in range(30) if names[j] in own and programs[j] != programs[i]]
            if name in own and any(own[names[j]] == own[name] for j in others):
                hits.append(own[names[max(others, key=lambda j: x[i] @ x[j])]] == own[name])
        assert found[tier] == pytest.approx(np.mean(hits))
    assert 3 not in found


def test_fingerprints_tell_a_model_and_its_encoders_apart(store: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from matcher.fusion.embedder import TrainedEmbedder
    from matcher.store import encoders_of

    catalog = open_catalog(store)
    fusion = default_fusion(catalog, SETTINGS)
    encoders = encoders_of(catalog, SETTINGS, fusion.text.info)
    one, two = (clip_model(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1))
    marks = {
        TrainedEmbedder.load(path, used).info.fingerprint
        for path in (one, two)
        for used in (encoders, replace(encoders, picture=fingerprint(["other"])))
    }
    assert len(marks) == 4


def test_a_damaged_list_of_models_is_made_good_by_using_one(
    matcher: Run, store: Path, library: Library
) -> None:
    (store / "models.json").write_bytes(b"not json")
    assert matcher("models", "use", "mean", "--store", store).code == 0
    assert matcher("query", library.clips["p01"], "--store", store).code == 0


def test_a_kept_model_is_used_with_other_encoders_than_then(
    matcher: Run, store: Path, library: Library, tmp_path: Path, model: Path
) -> None:
    matcher("models", "use", model, "--store", store)
    (kept,) = [path.name for path in store.glob("clip-model-*.safetensors")]
    config = tmp_path / "scene.toml"
    config.write_text('[sound]\nspec = "logmel"\n[fusion]\nscene = ""\n')
    said = matcher("models", "use", kept, "--store", store, "--config", config)
    assert said.code == 0, said.err
    assert matcher("query", library.clips["p01"], "--store", store, "--config", config).code == 0
    ran = matcher("models", "use", "models.json", "--store", store)
    assert ran.code == 2
    assert "no clip model" in ran.err


def test_every_damage_to_kept_categories_is_one_line_with_a_remedy(store: Path, tmp_path: Path) -> None:
    from matcher.errors import StoreError
    from matcher.used_models import categories_folder, keep_categories

    catalog = open_catalog(store)
    name = keep_categories(catalog.place, categories(tmp_path / "mine", "", 8))
    content = (store / name).read_bytes()
    for place in range(0, len(content), 97):
        (store / name).write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        import shutil

        shutil.rmtree(store / "cache" / "categories", ignore_errors=True)
        try:
            categories_folder(catalog.place, name)
        except StoreError as error:
            assert "matcher models use" in str(error)  # noqa: PT017
