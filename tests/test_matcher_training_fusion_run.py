"""``matcher train fusion`` on a made store: what it writes, and what it says of bad labels and data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, Run
from safetensors import safe_open
from training_clips import probabilities_of

from index.catalog import Catalog, ModelInfo
from index.rows import ClipRecord, FeatureRecord, LinkRecord, StoredClip
from matcher.config import Settings
from matcher.fusion.model_file import load_clip_model
from matcher.training.card import source_revision
from matcher.training.fusion_data import NO_PROGRAM
from matcher.training.fusion_material import encoders_in_use, lines_of, material_of_links, program_numbers
from matcher.training.fusion_run import (
    FusionTraining,
    clip_model_config,
    count_steps,
    train_fusion,
)
from matcher.training.labels import Fault
from matcher.training.loop_records import LoopConfig, Step
from matcher.training.store_embeddings import linked_programs

D = 16
TAXONOMY = """
name = "site"
version = "1"
tiers = 2
[[category]]
name = "drama"
[[category.category]]
name = "period"
[[category.category]]
name = "modern"
[[category]]
name = "show"
[[category.category]]
name = "talk"
"""
PATHS = ("drama/period", "drama/modern", "show/talk")
N_PROGRAMS, N_CLIPS = 12, 72


def program_of(number: int) -> int:
    return number % N_PROGRAMS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of twelve programs of three categories; the frames of one program are alike."""
    path = tmp_path_factory.mktemp("fusion") / "store"
    catalog = Catalog.create(path, ModelInfo("00112233", "made up", D))
    encoders = encoders_in_use(catalog, Settings())
    _, d_sound, d_text = encoders.dimensions
    rng = np.random.default_rng(0)
    kinds = 3 * rng.normal(size=(3, D))
    programs = rng.normal(size=(N_PROGRAMS, D)) + kinds[np.arange(N_PROGRAMS) % 3]
    clips, features, links = [], [], []
    for number in range(N_CLIPS):
        name, program = f"c{number:02}", program_of(number)
        frames = (programs[program] + rng.normal(size=(3, D))).astype(np.float32)
        frames /= np.linalg.norm(frames, axis=1, keepdims=True)
        record = ClipRecord(name, f"{name}.mp4", "", 3.0, 3, "00112233")
        clips.append(StoredClip(record, np.arange(3.0), frames))
        text = rng.normal(size=d_text).astype(np.float32)
        features.append(
            FeatureRecord(
                name, "day", picture=frames,
                sound=None if number % 2 else rng.normal(size=(2, d_sound)).astype(np.float32),
                text=text, text_model=encoders.text if number != 71 else "another",
                scene_model="" if number % 2 else encoders.scene,
            )
        )  # fmt: skip
        links.append(LinkRecord(name, "linked", f"p{program:02}", 0.9, 1, "{}"))
    with catalog.writing() as writer:
        writer.put_clips(clips)
        writer.put_features(features)
        writer.put_links(links[:60])
    (path.parent / "site.toml").write_text(TAXONOMY)
    return path


def labels(folder: Path, *, more: str = "", clips: range = range(N_CLIPS), name: bool = True) -> Path:
    rows = [
        f"c{number:02},{PATHS[program_of(number) % 3]},{f'p{program_of(number):02}' if name else ''}"
        for number in clips
    ]
    path = folder / "labels.csv"
    path.write_text("clip_id,category,program_id\n" + "\n".join(rows) + "\n" + more)
    return path


def words(store: Path, out: Path, path: Path | None, *more: str) -> list[str]:
    given = [] if path is None else ["--clips", str(path), "--taxonomy", str(store.parent / "site.toml")]
    return [
        "train", "fusion", "--store", str(store), "--out", str(out), "--epochs", "6", "--batch-size", "16",
        "--learning-rate", "0.003", "--seed", "3", "--held-out", "0.4", *given, *more,
    ]  # fmt: skip


def test_a_model_and_its_card_are_written(store: Path, tmp_path: Path, matcher: Run) -> None:
    out = tmp_path / "model"
    ran = matcher(*words(store, out, labels(tmp_path), "--json", "--note", "a try", "--start", "2"))
    assert ran.code == 0, ran.err
    assert sorted(one.name for one in out.iterdir()) == ["model.json", "model.md", "model.safetensors"]
    card = json.loads((out / "model.json").read_text())
    assert {**card, "out": str(out)} == ran.object
    assert card["data"]["clips"] == 71, "one clip's text is another encoder's"
    assert card["data"]["programs"] == 12
    assert card["data"]["programs_held_out"] == 5
    assert card["data"]["trained_on"] + card["data"]["held_out"] == 71
    assert card["data"]["classes"] == {"tier1": 2, "tier2": 3}
    assert card["encoders"]["picture"] == "00112233"
    assert card["settings"]["epochs"] == 6
    assert card["settings"]["start_epochs"] == 2
    assert len(card["history"]["start"]["epochs"]) == 2
    assert card["command"].startswith("matcher")
    assert card["note"] == "a try"
    assert card["figures"]["heads"]["accuracy"]["tier1"] > 0.7
    assert card["revision"] == source_revision()
    page = (out / "model.md").read_text()
    assert "71 clips of 12 programs" in page
    assert "accuracy" in page
    assert "1 of 72 labelled clips have no features in the store" in ran.err
    assert "wrote" in ran.lines[-2]
    with safe_open(str(out / "model.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["card"]) == card
    model = load_clip_model(out / "model.safetensors")
    assert [head.name for head in model.config.heads] == ["tier1", "tier2"]


@pytest.mark.slow
def test_torchrun_starts_several_processes_that_write_one_model(store: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    given = words(store, tmp_path / "model", labels(tmp_path), "--json", "--device", "cpu")
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "matcher", *given],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    card = json.loads(ran.stdout)
    assert ran.stderr.count("wrote") == 1
    assert ran.stderr.count("have no features") == 1
    assert sorted(one.name for one in (tmp_path / "model").iterdir()) == [
        "model.json", "model.md", "model.safetensors",
    ]  # fmt: skip
    assert card["figures"]["heads"]["accuracy"]["tier1"] > 0.6


def test_what_the_card_says_is_what_the_model_does(store: Path, tmp_path: Path, matcher: Run) -> None:
    """On the programs held out, by the file alone; and their programs are on neither side of the other."""
    from matcher.taxonomy import Taxonomy
    from matcher.training.fusion_material import material_of_labels
    from matcher.training.labels import read_labels

    out = tmp_path / "model"
    card = matcher(*words(store, out, labels(tmp_path), "--json")).object
    catalog = Catalog.open(store)
    read = read_labels(labels(tmp_path), Taxonomy.load(store.parent / "site.toml"))
    material = material_of_labels(catalog, read, encoders_in_use(catalog, Settings()), held_out=0.4, seed=3)
    held_out = material.validation
    said = probabilities_of(load_clip_model(out / "model.safetensors"), held_out.source)
    for tier in ("tier1", "tier2"):
        wanted = held_out.targets.dense(tier, held_out.positions)
        right = wanted[np.arange(len(wanted)), said[tier].argmax(axis=1)] > 0
        assert right.mean() == pytest.approx(card["figures"]["heads"]["accuracy"][tier])
    assert not set(material.train.targets.program.tolist()) & set(held_out.targets.program.tolist())


def test_without_labels_it_learns_from_the_links(store: Path, tmp_path: Path, matcher: Run) -> None:
    ran = matcher(*words(store, tmp_path / "model", None, "--json", "--start", "3"))
    assert ran.code == 0, ran.err
    assert ran.object["data"]["clips"] == 60
    assert ran.object["data"]["classes"] == {}
    assert list(ran.object["history"]) == ["start"]
    assert load_clip_model(tmp_path / "model" / "model.safetensors").config.heads == ()


@pytest.mark.slow
def test_a_run_that_was_cut_off_is_resumed_to_the_same_model(
    store: Path, tmp_path: Path, matcher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matcher.show import _NoBar

    path = labels(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    more = ("--start", "2", "--checkpoint-steps", "1")
    assert matcher(*words(store, whole, path, *more)).code == 0
    count = 0

    def stop(self: object, name: str, n: int = 1) -> None:
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_NoBar, "step", stop)
        ran = matcher(*words(store, cut, path, *more))
    assert ran.code == 130
    assert not (cut / "model.safetensors").exists()
    ran = matcher(*words(store, cut, path, *more))
    assert ran.code == 2
    assert "go on with it with --resume, or delete" in ran.lines[-1]
    assert matcher(*words(store, cut, path, *more, "--resume")).code == 0
    one, other = (load_clip_model(folder / "model.safetensors").state_dict() for folder in (whole, cut))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    ran = matcher(*words(store, cut, path, *more, "--resume"))
    assert ran.code == 2
    assert "is there already" in ran.lines[-1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("c00,comedy,p00\n", "'comedy'"),
        ("c00,show/period,p00\n", "stands under another parent"),
        ("c00,,p00\n", "the category is empty"),
    ],
)
def test_labels_that_would_teach_something_wrong_stop_it(
    more: str, said: str, store: Path, tmp_path: Path, matcher: Run
) -> None:
    ran = matcher(*words(store, tmp_path / "model", labels(tmp_path, more=more)))
    assert ran.code == 2
    assert len(ran.lines) == 1
    assert said in ran.lines[0]
    assert "labels.csv line 74" in ran.lines[0]
    assert list((tmp_path / "model").iterdir()) == []


def test_what_only_leaves_something_out_is_said_once_and_goes_on(
    store: Path, tmp_path: Path, matcher: Run
) -> None:
    """A class of one clip, one with none, one that no clip held out has, clips without features."""
    taxonomy = store.parent / "site.toml"
    taxonomy.write_text(TAXONOMY + '[[category]]\nname = "sport"\n[[category]]\nname = "news"\n')
    more = "c00,sport,p00\ngone0,sport,p02\n" + "".join(f"gone{n},show/talk,p02\n" for n in range(1, 9))
    try:
        ran = matcher(*words(store, tmp_path / "model", labels(tmp_path, more=more), "--json"))
    finally:
        taxonomy.write_text(TAXONOMY)
    assert ran.code == 0, ran.err
    text = ran.err
    assert "1 of 4 categories of tier 1 have no example and are not learned: news" in text
    assert "category 'sport' has one example" in text, "the other one has no features"
    assert "likeness" not in text
    assert "10 of 81 labelled clips have no features in the store and take no part: c71, gone0" in text
    assert "and 5 more" in text
    assert len([line for line in ran.lines if "validation split" in line]) == 1
    assert ran.object["remarks"] == ran.lines[:-2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--clips", "l.csv"], "--clips and --taxonomy belong together"),
        (["--held-out", "1"], "--held-out must be between"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--start", "0"], "without labels there is only the self-supervised start"),
        (["--device", "cuda:9"], "no CUDA"),
        (["--out", "nowhere/deep/m"], "cannot be made a folder there"),
    ],
)
def test_words_that_cannot_be_used_are_refused(
    given: list[str], said: str, store: Path, tmp_path: Path, matcher: Run
) -> None:
    ran = matcher(*words(store, tmp_path / "model", None, *given))
    assert ran.code == 2
    assert said in ran.lines[-1]
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_clips_of_one_program_or_with_no_features_are_nothing_to_learn_from(
    store: Path, tmp_path: Path, matcher: Run
) -> None:
    ran = matcher(*words(store, tmp_path / "m", labels(tmp_path, clips=range(0, 60, 12))))
    assert (ran.code, "of one program" in ran.lines[-1]) == (2, True)
    ran = matcher(*words(store, tmp_path / "m", labels(tmp_path, clips=range(90, 95))))
    assert (ran.code, "none of the 5 labelled clips has features" in ran.lines[-1]) == (2, True)
    empty = tmp_path / "empty"
    Catalog.create(empty, ModelInfo("00112233", "made up", D))
    ran = matcher(*words(empty, tmp_path / "m", None))
    assert (ran.code, "no linked clip" in ran.lines[-1]) == (2, True)


def test_a_label_without_a_program_takes_that_of_the_link(store: Path, tmp_path: Path) -> None:
    from matcher.taxonomy import Taxonomy
    from matcher.training.fusion_material import material_of_labels
    from matcher.training.labels import read_labels

    catalog = Catalog.open(store)
    read = read_labels(labels(tmp_path, name=False), Taxonomy.load(store.parent / "site.toml"))
    material = material_of_labels(catalog, read, encoders_in_use(catalog, Settings()), held_out=0.4, seed=3)
    assert material.facts["clips_without_program"] == 11, "those without a link"
    assert material.facts["programs"] == 12


@pytest.mark.parametrize("left_over", [0, 1, 2])
def test_as_many_steps_are_counted_as_are_taken(left_over: int, store: Path, tmp_path: Path) -> None:
    """A single clip that is left over joins the batch before, in the start as with the labels."""
    from matcher.taxonomy import Taxonomy
    from matcher.training.fusion_material import material_of_labels
    from matcher.training.labels import read_labels

    catalog = Catalog.open(store)
    read = read_labels(labels(tmp_path), Taxonomy.load(store.parent / "site.toml"))
    material = material_of_labels(catalog, read, encoders_in_use(catalog, Settings()), held_out=0.4, seed=3)
    loop = LoopConfig(epochs=2, batch_size=len(material.train) - left_over)
    training = FusionTraining(tmp_path / "model", loop, start_epochs=1, device="cpu")
    steps: list[Step] = []
    train_fusion(material, training, on_step=steps.append)
    assert len(steps) == count_steps(material, training) == 3 * (2 if left_over == 2 else 1)


def test_a_store_of_links_is_split_by_program(store: Path) -> None:
    catalog = Catalog.open(store)
    material = material_of_links(catalog, encoders_in_use(catalog, Settings()), held_out=0.25, seed=0)
    assert len(material.train) + len(material.validation) == 60
    program = material.train.targets.program
    assert (np.diff(program) >= 0).all(), "clips of a program lie together on disk's way"


def test_programs_are_numbered_by_name_and_an_empty_one_has_none() -> None:
    assert program_numbers(["b", "", "a", "b"]).tolist() == [1, NO_PROGRAM, 0, 1]


def test_faults_are_said_once_a_kind() -> None:
    faults = [Fault("one_example", f"line {number}") for number in range(3)] + [Fault("no_features", "x")]
    assert lines_of(faults) == ["line 0 (and 2 more like it)", "x"]


def test_the_usual_model_fits_features_of_any_dimensions() -> None:
    config = clip_model_config((9, 7, 5), ())
    assert config.dimensions == (9, 7, 5)
    assert config.picture.n_groups == 6
    assert clip_model_config((512, 128, 256), ()).picture.n_groups == 8


def test_the_revision_is_that_of_the_source() -> None:
    revision = source_revision()
    if (ROOT / ".git").exists():
        assert len(revision.removesuffix("+")) == 40
    else:
        assert revision == ""


def test_linked_programs_are_those_of_the_whole_links_in_order(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", ModelInfo("00112233", "made up", D))
    assert linked_programs(catalog) == {}
    rng = np.random.default_rng(0)
    links = [
        LinkRecord(f"c{number}", str(decision), None if number % 7 == 0 else f"p{number % 5}", 0.9, 1, "{}")
        for number, decision in enumerate(rng.choice(["linked", "review", "none"], 60))
    ]
    with catalog.writing() as writer:
        for part in np.array_split(rng.permutation(60), 4):
            writer.put_links([links[number] for number in part])
    slow = {
        link.clip_id: link.program_id
        for link in catalog.links()
        if link.decision == "linked" and link.program_id is not None
    }
    assert 10 < len(slow) < 30
    assert list(linked_programs(catalog).items()) == list(slow.items())
