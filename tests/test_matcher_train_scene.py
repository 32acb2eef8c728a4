"""``matcher train scene``: labelled sounds in, a scene encoder and its card out; what is said of bad rows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import made_scenes
import media
import numpy as np
import pytest
from commands import Ran, Run
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from matcher import decode
from matcher.config import load_settings
from matcher.decode import read_pieces
from matcher.decode_sound import SoundPiece
from matcher.encoders.scene import load_scene_encoder
from matcher.errors import InputError
from matcher.inputs import SoundJob, read_sound_rows
from matcher.sound import RATE_HZ
from matcher.training import scene_material
from matcher.training.card import heading, origin_of, write_card
from matcher.training.scene import SceneRecipe, scene_figures, train_scene
from matcher.training.scene_material import HeardFile, cut, hold_out, listen
from matcher.training.scene_run import SceneTraining, remarks

pytestmark = pytest.mark.usefixtures("one_thread")

SECONDS, N_FILES, STEPS = 4.0, 5, 12
Rows = Iterable[Iterable[object]]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sounds of speech, five of music, and one file with a second of each kind and of silence."""
    folder = tmp_path_factory.mktemp("sounds")
    for kind in ("music", "speech"):
        for seed in range(N_FILES):
            made_scenes.write_wav(folder / f"{kind}-{seed}.wav", made_scenes.samples(kind, seed, SECONDS))
    both = [made_scenes.samples("music", 50, 3.0), made_scenes.samples("speech", 50, 3.0)]
    made_scenes.write_wav(folder / "both.wav", np.concatenate([*both, np.zeros(3 * RATE_HZ, np.float32)]))
    return folder


def usual() -> list[tuple[object, ...]]:
    files = [(f"{kind}-{n}.wav", kind) for kind in ("music", "speech") for n in range(N_FILES)]
    return [*files, ("both.wav", "music", 0, 3), ("both.wav", "speech", 3.0, 6.0)]


def labels(folder: Path, rows: Rows, header: str = "path,label,start_seconds,end_seconds") -> Path:
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def train(matcher: Run, path: Path, out: Path, *more: str) -> Ran:
    return matcher("train", "scene", "--clips", path, "--out", out, "--steps", str(STEPS), *more)


def test_a_trained_file_serves_as_the_scene_encoder_and_has_a_card(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    out = tmp_path / "own.safetensors"
    ran = train(matcher, labels(sounds, usual()), out, "--held-out", "0.4", "--note", "a try")
    assert ran.code == 0, ran.err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["own.json", "own.md", "own.safetensors"]
    assert f'scene = "scene@{out}" under [fusion] of --config' in ran.lines[-2]
    assert ran.lines[-1].startswith("stretches 12, left out 0 in ")
    card = json.loads((tmp_path / "own.json").read_text())
    config = tmp_path / "config.toml"
    config.write_text(f'[fusion]\nscene = "scene@{out}"\n')
    encoder = load_scene_encoder(load_settings(config).fusion.scene)
    assert encoder.info.fingerprint == card["fingerprint"]
    (piece,) = read_pieces(sounds / "both.wav")
    vectors = encoder.describe(piece.columns)
    assert vectors.shape == (9, 64)
    assert vectors.any(axis=1).tolist() == [True] * 6 + [False] * 3
    music, speech = vectors[:3].mean(axis=0), vectors[3:6].mean(axis=0)
    assert np.abs(music - speech).max() > 0.1
    data = card["data"]
    assert (data["labels"], data["rows"], data["left_out"], data["files"]) == ("labels.csv", 12, 0, 11)
    assert {name: (own["files"], own["stretches"]) for name, own in data["classes"].items()} == {
        "music": (6, 6),
        "speech": (6, 6),
    }
    assert (card["note"], card["settings"]["steps"], card["settings"]["held_out"]) == ("a try", STEPS, 0.4)
    page = (tmp_path / "own.md").read_text()
    assert "a try" in page
    assert f"the net tells {card['figures']['trained']:.3f} right" in page
    table = [line for line in ran.out.splitlines() if "music" in line or "all" in line]
    assert len(table) == 2
    assert f"{card['figures']['by_class']['music']:.3f}" in table[0]
    assert f"{card['figures']['statistics']:.3f}" in table[1]


def test_figures_are_those_of_the_files_held_out_by_a_net_of_the_others(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    """Trained and judged again by hand, of the sounds as they were read."""
    path = labels(sounds, usual())
    card = train(matcher, path, tmp_path / "a.safetensors", "--seed", "3", "--device", "cpu", "--json").object
    assert card["out"] == str(tmp_path / "a.safetensors")
    files = listen(path, read_sound_rows(path)).files
    is_out = hold_out([file.labels for file in files], share=0.2, seed=3)
    learned = [s for file, out in zip(files, is_out, strict=True) if not out for s in file.stretches]
    judged = [s for file, out in zip(files, is_out, strict=True) if out for s in file.stretches]
    net = train_scene(learned, SceneRecipe(steps=STEPS, seed=3), device="cpu")
    figures = scene_figures(net, learned, judged)
    assert card["figures"] == vars(figures)
    assert card["figures"]["seconds"] == pytest.approx(4 * is_out.sum(), abs=2)
    assert figures.statistics == pytest.approx(np.mean(list(figures.statistics_by_class.values())), abs=0.1)
    assert card["data"]["files_held_out"] == is_out.sum()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    path = labels(sounds, usual())
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert train(matcher, path, tmp_path / f"{name}.safetensors", "--seed", seed).code == 0
    one, same, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert one == same
    marks = [json.loads((tmp_path / f"{name}.json").read_text())["fingerprint"] for name in "abc"]
    assert marks[0] == marks[1] != marks[2]
    assert one != other
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        card = json.loads(file.metadata()["card"])
    assert card["data"]["rows"] == 12
    assert card["figures"]["seconds"] > 0


def test_rows_that_cannot_be_used_are_said_each_and_the_rest_is_learned(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    (sounds / "text.wav").write_text("no sound at all, but words")
    media.write(sounds / "mute.mp4", [media.flat(90)] * 5)
    bad = {
        ("gone.wav", "music"): "no file",
        ("text.wav", "music"): "is text",
        ("mute.mp4", "speech"): "has no sound; give a file with a sound track",
        ("music-0.wav", ""): "label is empty; write what is heard",
        ("music-0.wav", "music", 1, 1.5): "from 1 to 1.5 s is less than a second; label a longer stretch",
        ("music-0.wav", "music", 3, 2): "from 3 to 2 s is less than a second",
        ("music-0.wav", "music", 3.5, ""): "is shorter than a second; label a longer stretch",
        ("both.wav", "music", 6, 9): "is silent; label where something is heard",
        ("music-0.wav", "music", 20, ""): "which runs from 0.0 to 3.9 s; correct the times",
        ("music-0.wav", "music", 2, 20): "is outside of the sound of",
        ("music-0.wav", "music", "soon", 3): "start_seconds 'soon' is no number of seconds; write one",
        ("music-0.wav", "music", 0, "nan"): "or leave it empty for the end of the file",
        ("music-0.wav", "music", "-1", 3): "start_seconds '-1' is no number of seconds",
        ("music-1.wav", "speech"): "this stretch is that of row 3; label it once",
        ("music-0.wav", "music", 0, 3, "more"): "more cells than the header",
    }
    path = labels(sounds, [*usual(), *bad])
    out = tmp_path / "own.safetensors"
    ran = train(matcher, path, out, "--json")
    assert ran.code == 4
    assert ran.object["data"]["left_out"] == len(bad)
    assert ran.lines[-1].startswith(f"stretches 12, left out {len(bad)} in ")
    said = ran.lines[: len(bad)]
    assert ran.object["remarks"] == said
    for row, message in enumerate(bad.values(), start=14):
        (line,) = (line for line in said if line.startswith(f"{path} row {row}: "))
        assert message in line
    # As if they were not there.
    path = labels(sounds, usual())
    plain = train(matcher, path, tmp_path / "plain.safetensors", "--json").object
    assert plain["fingerprint"] == ran.object["fingerprint"]


def test_a_card_keeps_the_first_of_many_lines(sounds: Path, tmp_path: Path, matcher: Run) -> None:
    rows = [*usual(), *((f"gone-{n}.wav", "music") for n in range(25))]
    ran = train(matcher, labels(sounds, rows), tmp_path / "own.safetensors", "--json")
    assert sum("no file" in line for line in ran.lines) == 25
    assert len(ran.object["remarks"]) == 21
    assert ran.object["remarks"][-1] == "and 5 more such lines"


def test_rows_of_a_file_that_cannot_be_read_are_said_in_one_line(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    (sounds / "text.wav").write_text("no sound at all, but words")
    rows = [*usual(), ("text.wav", "music", 0, 1), ("text.wav", "music", 1, 2)]
    ran = train(matcher, labels(sounds, rows), tmp_path / "own.safetensors", "--json")
    assert "row 14, 15: " in ran.lines[0]
    assert ran.object["data"]["left_out"] == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("music-0.wav", "music"), ("gone.wav", "speech")], "of one class, music; label stretches of"),
        ([("gone.wav", "speech")], "no row of"),
        ([], "has a header and no rows"),
    ],
)  # fmt: skip
def test_nothing_is_written_where_nothing_can_be_learned(
    rows: Rows, message: str, sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    ran = train(matcher, labels(sounds, rows), tmp_path / "own.safetensors")
    assert ran.code == 2
    assert message in ran.lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_or_file_of_labels_stops(sounds: Path, tmp_path: Path, matcher: Run) -> None:
    path = labels(sounds, [("music-0.wav", "music")], header="path,kind")
    ran = train(matcher, path, tmp_path / "own.safetensors")
    assert (ran.code, "has no column label" in ran.err) == (2, True)
    ran = train(matcher, sounds / "none.csv", tmp_path / "own.safetensors")
    assert (ran.code, "cannot read manifest" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_stops_before_anything_is_heard(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    nowhere = tmp_path / "none.csv"
    for out, message in (
        (tmp_path / "own.bin", "must end in .safetensors"),
        (tmp_path / "gone" / "own.safetensors", "its folder is not there"),
    ):
        ran = train(matcher, nowhere, out)
        assert (ran.code, message in ran.err) == (2, True)
    for name in ("own.safetensors", "own.json", "own.md"):
        (tmp_path / name).write_text("mine")
        ran = train(matcher, nowhere, tmp_path / "own.safetensors")
        assert (ran.code, f"{name} is there already" in ran.err) == (2, True)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    ran = train(matcher, nowhere, tmp_path / "own.safetensors", "--held-out", "1")
    assert (ran.code, "--held-out must be from 0 to below 1, got 1" in ran.err) == (2, True)


def test_a_training_that_is_cut_off_leaves_nothing(
    sounds: Path, tmp_path: Path, matcher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matcher.training import scene_run

    def full(*_: object, **__: object) -> None:
        raise InputError("cut off")

    monkeypatch.setattr(scene_run, "scene_figures", full)
    ran = train(matcher, labels(sounds, usual()), tmp_path / "own.safetensors")
    assert (ran.code, "cut off" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_one_file_is_learned_and_said_not_to_be_judged(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    rows = [*usual(), ("both.wav", "hush", 2, 4)]
    ran = train(matcher, labels(sounds, rows), tmp_path / "own.safetensors", "--json")
    assert ran.code == 0
    assert "all stretches of class 'hush' are of one file" in ran.err
    assert any("'hush'" in line for line in ran.object["remarks"])
    assert ran.object["data"]["classes"]["hush"]["files_held_out"] == 0
    assert set(ran.object["figures"]["by_class"]) == {"music", "speech"}


def test_a_class_whose_files_others_need_is_said_not_to_be_judged() -> None:
    """Of two files of a class each is the only one of another: neither can be held out."""
    names = [frozenset(one) for one in ("ab", "ac", "d", "d")]
    is_held_out = hold_out(names, share=0.5, seed=0)
    assert is_held_out.sum() == 1
    classes = {
        name: {
            "files": sum(name in own for own in names),
            "files_held_out": sum(name in own for own, out in zip(names, is_held_out, strict=True) if out),
        }
        for name in "abcd"
    }
    said = remarks(classes, is_judged=True)
    assert [line.split("'")[1] for line in said] == ["a", "b", "c"]
    assert "of files that other classes need to learn from" in said[0]
    assert [line.split("'")[1] for line in remarks(classes, is_judged=False)] == ["b", "c"]


def test_a_single_second_is_enough(sounds: Path, tmp_path: Path) -> None:
    """As the last of a file, and as all of one: the columns of a second are nine, for each is wider."""
    rows = [(sounds / "music-0.wav", "music", 3, 4), (sounds / "both.wav", "music", 1, 2)]
    path = labels(tmp_path, rows)
    material = listen(path, read_sound_rows(path))
    assert material.n_refused == 0, material.said
    assert sorted(len(one.columns) for file in material.files for one in file.stretches) == [9, 10]


def test_words_that_are_no_text_end_up_in_the_card(tmp_path: Path) -> None:
    """A file name may hold any bytes: that is no reason to lose a training."""
    card = {"kind": "any", **origin_of("matcher train scene --clips \udcff.csv", "a\udcfe")}
    write_card(card, "\n".join(heading("Any", card)), tmp_path / "c.json", tmp_path / "c.md")
    assert json.loads((tmp_path / "c.json").read_text())["command"].endswith(r"\udcff.csv")


def test_with_none_held_out_all_is_learned_and_nothing_judged(
    sounds: Path, tmp_path: Path, matcher: Run
) -> None:
    out = tmp_path / "own.safetensors"
    ran = train(matcher, labels(sounds, usual()), out, "--held-out", "0")
    assert ran.code == 0
    card = json.loads((tmp_path / "own.json").read_text())
    assert (card["figures"], card["data"]["files_held_out"]) == (None, 0)
    assert "No file was held out" in (tmp_path / "own.md").read_text()


def test_a_file_is_read_once_whatever_it_is_called(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> list[SoundPiece]:
        read.append(path)
        return decode.read_pieces(path)

    monkeypatch.setattr(scene_material, "read_pieces", counted)
    (tmp_path / "link.wav").symlink_to(sounds / "both.wav")
    (tmp_path / "sub").mkdir()
    names = (sounds / "both.wav", "link.wav", "sub/../link.wav")
    rows = [(name, "music", n, n + 1) for n, name in enumerate(names)]
    path = labels(tmp_path, rows)
    done: list[Path] = []
    material = listen(path, read_sound_rows(path), on_file=done.append)
    assert read == done == [(sounds / "both.wav").resolve()]
    assert len(material.files[0].stretches) == 3
    assert len(material.files) == 1


def test_a_row_cuts_what_it_says_out_of_the_files_columns(sounds: Path, tmp_path: Path) -> None:
    (piece,) = read_pieces(sounds / "both.wav")
    path = labels(tmp_path, [(sounds / "both.wav", "music", 1.5, 3.2), (sounds / "both.wav", "music", 4, "")])
    stretches = listen(path, read_sound_rows(path)).files[0].stretches
    np.testing.assert_array_equal(stretches[0].columns, piece.columns[15:32])
    np.testing.assert_array_equal(stretches[1].columns, piece.columns[40:])


def test_a_film_is_heard_like_its_sound(sounds: Path, tmp_path: Path) -> None:
    """Of a film whose pictures begin half a second in, times are those of the pictures."""
    import av

    sound = made_scenes.samples("music", 50, 3.0)
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as out:
        shown, heard = (
            out.add_stream("mpeg4", rate=10),
            out.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono"),
        )
        shown.width, shown.height = 32, 32
        for n in range(20):
            frame = av.VideoFrame.from_ndarray(media.flat(90), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = n + 5, Fraction(1, 10)
            out.mux(shown.encode(frame))
        out.mux(shown.encode(None))
        block = av.AudioFrame.from_ndarray(
            (np.clip(sound, -1, 1) * 32767).astype("<i2")[None], format="s16", layout="mono"
        )
        block.sample_rate, block.pts, block.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        out.mux(heard.encode(block))
        out.mux(heard.encode(None))
    (alone,) = read_pieces(sounds / "both.wav")
    (stretch,) = cut(read_pieces(path), SoundJob(path, "music", 2, 0.5, 1.5))
    np.testing.assert_allclose(stretch.columns, alone.columns[10:20], atol=1e-4)


def test_a_stretch_over_a_gap_is_cut_in_two(sounds: Path) -> None:
    (piece,) = read_pieces(sounds / "both.wav")
    pieces = [SoundPiece(-0.5, piece.columns[:20]), SoundPiece(3.0, piece.columns[20:50])]
    job = SoundJob(Path("x.wav"), "music", 2)
    found = [one.columns for one in cut(pieces, job)]
    assert [len(columns) for columns in found] == [15, 30]
    np.testing.assert_array_equal(found[0], piece.columns[5:20])
    # Half a second of the first piece is passed over; the rest is enough.
    (one,) = cut(pieces, SoundJob(Path("x.wav"), "music", 2, 1.0, 5.0))
    np.testing.assert_array_equal(one.columns, piece.columns[20:40])
    with pytest.raises(InputError, match="shorter than a second"):
        cut(pieces, SoundJob(Path("x.wav"), "music", 2, 1.0, 3.5))


SPLITS = st.lists(
    st.sets(st.sampled_from("abcd"), min_size=1).map(frozenset), min_size=1, max_size=20
)  # fmt: skip


@given(SPLITS, st.floats(0, 0.99), st.integers(0, 5))
def test_every_class_keeps_a_file_to_learn_from(files: list[frozenset[str]], share: float, seed: int) -> None:
    is_out = hold_out(files, share=share, seed=seed)
    kept = {label for own, out in zip(files, is_out, strict=True) if not out for label in own}
    assert is_out.shape == (len(files),)
    assert kept == {label for own in files for label in own}
    assert (hold_out(files, share=share, seed=seed) == is_out).all()
    if share == 0:
        assert not is_out.any()


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.floats(0.01, 0.99), st.integers(0, 5))
def test_of_files_of_one_class_each_their_share_is_held_out(
    labels_: list[str], share: float, seed: int
) -> None:
    is_out = hold_out([frozenset(label) for label in labels_], share=share, seed=seed)
    for label in set(labels_):
        own = np.array([one == label for one in labels_])
        n = int(own.sum())
        assert is_out[own].sum() == min(n - 1, max(1, math.floor(share * n + 0.5))) or (
            share * n % 1 == 0.5 and abs(int(is_out[own].sum()) - share * n) <= 0.5
        )


@given(SPLITS, st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_file_is_on_both_sides(files: list[frozenset[str]], share: float, seed: int) -> None:
    """Stretches are told by the one number that their columns hold."""
    from matcher.training.scene import Stretch
    from matcher.training.scene_run import _side

    heard = [
        HeardFile(
            Path(f"{n}.wav"),
            tuple(Stretch(np.full((10, 64), n, np.float32), label) for label in sorted(own) * 2),
        )
        for n, own in enumerate(files)
    ]
    is_out = hold_out([file.labels for file in heard], share=share, seed=seed)
    learned, judged = ({float(s.columns[0, 0]) for s in _side(heard, which)} for which in (~is_out, is_out))
    assert not learned & judged
    assert learned | judged == set(map(float, range(len(files))))


def test_other_seeds_hold_out_other_files() -> None:
    files = [frozenset("a")] * 10
    assert len({tuple(hold_out(files, share=0.3, seed=seed)) for seed in range(8)}) > 3


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="--held-out must be from 0"):
        SceneTraining(Path("x.safetensors"), held_out=-0.1)
