"""What the seconds of a clip are like, from its file to its embedding and through every later night."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Library, Run
from test_matcher_models_run import DE

from index.catalog import Catalog, ModelInfo
from index.rows import FeatureRecord
from matcher.clip_features import Words, features_of, stretches
from matcher.config import FusionSettings, Settings
from matcher.embedding import Encoders, MeanEmbedder
from matcher.encoders.scene import load_scene_encoder
from matcher.encoders.scene_net import SceneNet, save_scene_net
from matcher.errors import StoreError
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.config import ClipModelConfig, FramesConfig
from matcher.fusion.embedder import TrainedEmbedder
from matcher.fusion.features import ClipFeatures
from matcher.fusion.model_file import load_clip_model, save_clip_model
from matcher.store import default_fusion, open_catalog
from matcher.training.fusion_material import encoders_in_use, lines_of, material_of_links

SETTINGS = Settings()
NO_SCENES = Settings(fusion=FusionSettings(scene=""))
MELSTATS = load_scene_encoder().info.fingerprint


def model_of(dimensions: tuple[int, int, int], *, seed: int = 0) -> ClipModel:
    """Untrained, but for what the sounds of its training are said to have been like."""
    torch.manual_seed(seed)
    picture, sound, text = dimensions
    config = ClipModelConfig(
        heads=(),
        picture=FramesConfig(d=picture, d_out=16, n_clusters=4, n_groups=4),
        sound=FramesConfig(d=sound, d_out=8, n_clusters=2, n_groups=2),
        d_text=text, d_embedding=DE,
    )  # fmt: skip
    model = ClipModel(config)
    model.normalize["sound"].mean.copy_(torch.randn(sound))
    return model.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clip models for stores of the command line: one that takes scenes, and one that does not."""
    folder = tmp_path_factory.mktemp("models")
    for name, d_sound in (("scenes", 192), ("plain", 128)):
        save_clip_model(model_of((512, d_sound, 512)), folder / f"{name}.safetensors", notes={})
    return {name: folder / f"{name}.safetensors" for name in ("scenes", "plain")}


@pytest.fixture
def off(tmp_path: Path) -> Path:
    path = tmp_path / "no-scenes.toml"
    path.write_text('[fusion]\nscene = ""\n')
    return path


# ---------------------------------------------------------------- embedders

PLAIN = Encoders("p", "s", "t", (8, 16, 5))
WITH = replace(PLAIN, dimensions=(8, 80, 5), scene="sc")


def clip_of(seed: int, *, seconds: int = 12, scene: bool = True) -> ClipFeatures:
    """Some seconds have a patch, some a scene, some both."""
    rng = np.random.default_rng(seed)
    heard_at = np.sort(rng.choice(seconds, seconds // 2, replace=False)) + 0.3
    scene_at = np.sort(rng.choice(seconds, seconds // 2, replace=False))
    patches = rng.normal(size=(len(heard_at), 16)).astype(np.float32)
    scenes = rng.normal(size=(len(scene_at), 64)).astype(np.float32)
    return features_of(
        rng.normal(size=(4, 8)).astype(np.float32), (heard_at, patches),
        rng.normal(size=5).astype(np.float32), scene=(scene_at, scenes) if scene else None,
    )  # fmt: skip


def test_the_mean_is_what_it_is_without_scenes() -> None:
    one, other = MeanEmbedder(WITH), MeanEmbedder(PLAIN)
    assert one.info == other.info
    assert one.info.fingerprint != MeanEmbedder(replace(WITH, sound="another")).info.fingerprint
    assert one.neutral_scene is None
    for seconds in (0, 12, 90):
        whole = [clip_of(seed, seconds=seconds) for seed in range(4)]
        plain = [clip_of(seed, seconds=seconds, scene=False) for seed in range(4)]
        assert np.array_equal(one.embed(whole), other.embed(plain))
        assert np.array_equal(one.embed(plain), other.embed(plain))


def test_scenes_change_the_fingerprint_of_a_model_that_takes_them_alone() -> None:
    takes = TrainedEmbedder(model_of(WITH.dimensions), "m", "mark", WITH)
    another = TrainedEmbedder(model_of(WITH.dimensions), "m", "mark", replace(WITH, scene="other"))
    assert takes.info.fingerprint != another.info.fingerprint
    plain = model_of(PLAIN.dimensions)
    marks = {TrainedEmbedder(plain, "m", "mark", used).info.fingerprint for used in (PLAIN, WITH)}
    assert len(marks) == 1
    assert takes.info.fingerprint not in marks
    with pytest.raises(StoreError, match="dimensions"):
        TrainedEmbedder(model_of(WITH.dimensions), "m", "mark", PLAIN)


def test_a_model_trained_without_scenes_is_used_without_them() -> None:
    model = model_of(PLAIN.dimensions)
    one, other = (TrainedEmbedder(model, "m", "mark", used) for used in (WITH, PLAIN))
    assert one.neutral_scene is None
    assert one.dimensions == PLAIN.dimensions
    whole, plain = ([clip_of(seed, scene=scene) for seed in range(5)] for scene in (True, False))
    assert np.array_equal(one.embed(whole), other.embed(plain))


def test_what_nobody_knows_is_the_mean_scene_of_the_training_and_not_silence() -> None:
    """Of a program's stretches, and of a clip kept without scenes."""
    embedder = TrainedEmbedder(model_of(WITH.dimensions), "m", "mark", WITH)
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(20, 8)).astype(np.float32)
    patches = rng.normal(size=(40, 16)).astype(np.float32)
    heard = np.arange(40) / 2, patches
    cut = [found for _, found in stretches((np.arange(20.0), rows), heard, None, n_assets=1)]
    mean = load_mean(embedder)
    for features in (*cut, clip_of(3, scene=False)):
        assert features.sound is not None
        filled, silent = (
            replace(features, sound=np.concatenate([features.sound, part], axis=1))
            for part in (np.tile(mean, (len(features.sound), 1)), np.zeros((len(features.sound), 64), "f"))
        )
        got, want, wrong = (embedder.embed([one])[0] for one in (features, filled, silent))
        assert np.array_equal(got, want)
        assert not np.allclose(got, wrong, atol=1e-3)


def load_mean(embedder: TrainedEmbedder) -> np.ndarray:
    mean = embedder.neutral_scene
    assert mean is not None
    want = model_of(WITH.dimensions).normalize["sound"]
    both = torch.cat([torch.zeros(16), torch.from_numpy(mean)])
    np.testing.assert_allclose(want(both)[16:].numpy(), 0, atol=1e-6)
    return mean


# ---------------------------------------------------------------- the command line


def test_a_linked_clip_keeps_scenes_and_later_models_take_them(
    matcher: Run, store: Path, library: Library, files: dict[str, Path], tmp_path: Path
) -> None:
    clip = library.clips["p01"]
    matcher("link", clip, "--store", store)
    first = open_catalog(store).features()["clip-p01"]
    assert first.scene_model == MELSTATS
    assert first.sound is not None
    assert first.sound.shape[1] == 192
    assert first.sound[:, 128:].any(axis=1).sum() >= 5
    assert np.linalg.norm(first.sound[:, 128:].mean(axis=0)) > 0.5
    # Taken into use afterwards: the file is not opened, and what it gave is still there.
    said = matcher("models", "use", files["scenes"], "--store", store, "--json").object
    clip.rename(clip.with_suffix(".away"))
    try:
        assert matcher("relink", "--store", store, "--accept").code == 0
    finally:
        clip.with_suffix(".away").rename(clip)
    night = open_catalog(store).features()["clip-p01"]
    assert night.embedding_model == said["fingerprint"]
    assert night.kept_at == first.kept_at
    assert np.array_equal(night.sound, first.sound)
    assert np.array_equal(night.picture, first.picture)
    # By the model itself, of what is kept; and as a clip that is linked while the model is in use.
    catalog = open_catalog(store)
    fusion = default_fusion(catalog, SETTINGS)
    direct = TrainedEmbedder.load(files["scenes"], fusion.encoders)
    kept = ClipFeatures(first.picture, first.sound, first.text)
    np.testing.assert_allclose(night.embedding, direct.embed([kept])[0], atol=1e-3)
    plain = replace(kept, sound=first.sound[:, :128])
    assert not np.allclose(night.embedding, direct.embed([plain])[0], atol=1e-3)
    copy = Path(shutil.copy(clip, tmp_path / "again.mp4"))
    assert matcher("link", copy, "--store", store).code == 0
    fresh = open_catalog(store).features()["again"]
    np.testing.assert_allclose(fresh.embedding, night.embedding, atol=1e-3)
    # An unchanged clip is not described again, and stays as it is.
    matcher("link", clip, "--store", store)
    again = open_catalog(store).features()["clip-p01"]
    assert again.scene_model == MELSTATS
    assert np.array_equal(again.sound, first.sound)
    assert np.array_equal(again.embedding, night.embedding)


def test_without_scenes_everything_is_as_it_was(
    matcher: Run, store: Path, library: Library, off: Path, files: dict[str, Path]
) -> None:
    clips = [library.clips["p01"], library.clips["p02"]]
    matcher("link", clips[0], "--store", store, "--config", off)
    record = open_catalog(store).features()["clip-p01"]
    stored = open_catalog(store).clip("clip-p01")
    assert stored is not None
    assert record.scene_model == ""
    fusion = default_fusion(open_catalog(store), NO_SCENES)
    assert (fusion.scene, fusion.encoders.dimensions) == (None, (512, 128, 512))
    want = features_of(stored.vectors, stored.sound, fusion.text_vector(Words().text))
    np.testing.assert_allclose(record.sound, want.sound, atol=1e-3)
    np.testing.assert_allclose(record.embedding, fusion.embedder.embed([want])[0], atol=1e-3)
    # The mean and a model without scenes say the same of the clip to whom scenes are known.
    matcher("link", clips[1], "--store", store)
    for model in ("mean", files["plain"]):
        matcher("models", "use", model, "--store", store)
        for clip in clips:
            known, unknown = (
                matcher("query", clip, "--store", store, "--json", *more).object
                for more in ((), ("--config", off))
            )
            assert known["related"] == unknown["related"]
    # One that takes them is refused where nobody knows them.
    ran = matcher("models", "use", files["scenes"], "--store", store, "--config", off)
    assert ran.code != 0
    assert "dimensions" in ran.err


def test_scenes_of_another_encoder_are_kept_and_count_as_unknown(
    matcher: Run, store: Path, library: Library, files: dict[str, Path], off: Path
) -> None:
    matcher("link", library.clips["p01"], "--store", store, "--config", off)
    matcher("link", library.clips["p02"], "--store", store)
    catalog = open_catalog(store)
    records = catalog.features()
    with catalog.writing() as writer:
        writer.put_features([replace(records["clip-p02"], scene_model="of before")])
    matcher("models", "use", files["scenes"], "--store", store)
    matcher("relink", "--store", store, "--accept")
    fusion = default_fusion(open_catalog(store), SETTINGS)
    embedder = TrainedEmbedder.load(files["scenes"], fusion.encoders)
    for name, model in (("clip-p01", ""), ("clip-p02", "of before")):
        was, now = records[name], open_catalog(store).features()[name]
        assert now.scene_model == model
        assert np.array_equal(now.sound, was.sound)
        assert was.sound is not None
        alone = was.sound[:, :128]
        unknown = ClipFeatures(was.picture, alone[alone.any(axis=1)], was.text)
        np.testing.assert_allclose(now.embedding, embedder.embed([unknown])[0], atol=1e-3)


def test_a_clip_of_another_scene_encoder_is_described_anew_when_it_is_linked_again(
    matcher: Run, store: Path, library: Library, off: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_scene_net(SceneNet(["music", "speech"]), tmp_path / "own.safetensors", notes={})
    own = load_scene_encoder(f"scene@{tmp_path / 'own.safetensors'}")
    config = tmp_path / "own.toml"
    config.write_text(f'[fusion]\nscene = "{own.info.spec}"\n')

    def linked(*more: str | Path) -> tuple[FeatureRecord, str]:
        assert matcher("link", library.clips["p01"], "--store", store, *more).code == 0
        catalog = open_catalog(store)
        (record,) = (one for one in catalog.clips() if one.clip_id == "clip-p01")
        return catalog.features()["clip-p01"], record.kept_at

    first, at = linked()
    second, later = linked("--config", config)
    assert (first.scene_model, second.scene_model) == (MELSTATS, own.info.fingerprint)
    assert later != at
    assert first.sound is not None
    assert second.sound is not None
    assert np.array_equal(first.sound[:, :128], second.sound[:, :128])
    assert not np.allclose(first.sound[:, 128:], second.sound[:, 128:], atol=0.1)
    # Not once more; and who wants no scenes opens nothing to be rid of them.
    for words in (("--config", config), ("--config", off)):
        again, kept_at = linked(*words)
        assert (again.scene_model, kept_at) == (own.info.fingerprint, later)
        assert np.array_equal(again.sound, second.sound)


def test_a_scene_encoder_that_is_not_there_is_told(
    matcher: Run, store: Path, library: Library, tmp_path: Path
) -> None:
    config = tmp_path / "other.toml"
    config.write_text('[fusion]\nscene = "radio"\n')
    ran = matcher("query", library.clips["p01"], "--store", store, "--config", config)
    assert ran.code == 2
    assert "unknown scene encoder 'radio'" in ran.err


def test_models_are_compared_with_the_scenes_that_are_kept(
    matcher: Run, store: Path, library: Library, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher("link", library.clips["p01"], "--store", store)
    seen: list[int] = []
    embed = TrainedEmbedder.embed

    def watched(self: TrainedEmbedder, clips: list[ClipFeatures]) -> np.ndarray:
        seen.extend(0 if clip.sound is None else clip.sound.shape[1] for clip in clips)
        return embed(self, clips)

    monkeypatch.setattr(TrainedEmbedder, "embed", watched)
    assert matcher("models", "compare", files["scenes"], "--store", store).code == 0
    assert 192 in seen
    assert 128 in seen, "stretches of programs"


# ---------------------------------------------------------------- training and the table


def test_training_takes_clips_of_the_scenes_in_use_and_names_the_others(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", ModelInfo("fp", "made up", 8))
    used, without = (encoders_in_use(catalog, settings) for settings in (SETTINGS, NO_SCENES))
    assert used.without_scene() == without
    assert used.dimensions[1] == without.dimensions[1] + 64
    assert (used.scene, without.scene) == (MELSTATS, "")
    put_linked(catalog, used)
    material = material_of_links(catalog, used, held_out=0.5, seed=0)
    assert material.facts["clips"] == 6, "four with scenes, two that nobody listened to"
    assert material.train.source.dimensions == used.dimensions
    (line,) = lines_of(material.faults)
    assert line.startswith("4 of 10 clips were kept with another `scene`")
    assert material.train.source.batch(np.arange(len(material.train.source))).sound.shape[2] == 192
    plain = material_of_links(catalog, without, held_out=0.5, seed=0)
    assert plain.facts["clips"] == 6
    assert plain.train.source.dimensions == without.dimensions


def put_linked(catalog: Catalog, used: Encoders) -> None:
    """Ten clips of ten programs: four with scenes, four without, two that nobody listened to."""
    from index.rows import ClipRecord, LinkRecord, StoredClip

    rng = np.random.default_rng(0)
    clips, features, links = [], [], []
    for number in range(10):
        name = f"c{number}"
        frames = rng.normal(size=(3, 8)).astype(np.float32)
        clips.append(StoredClip(ClipRecord(name, f"{name}.mp4", "", 3.0, 3, "fp"), np.arange(3.0), frames))
        width = used.dimensions[1] if number < 4 else used.d_identifying
        sound = None if number >= 8 else rng.normal(size=(2, width)).astype(np.float32)
        features.append(
            FeatureRecord(
                name, "day", picture=frames, sound=sound, scene_model=used.scene if number < 4 else ""
            )
        )
        links.append(LinkRecord(name, "linked", f"p{number}", 0.9, 1, json.dumps({})))
    with catalog.writing() as writer:
        writer.put_clips(clips)
        writer.put_features(features)
        writer.put_links(links)
    catalog.refresh()


def test_a_model_file_says_itself_whether_it_takes_scenes(files: dict[str, Path]) -> None:
    dimensions = {name: load_clip_model(path).config.dimensions[1] for name, path in files.items()}
    assert dimensions == {"scenes": 192, "plain": 128}
