"""``matcher train descriptor``: pairs, folds by series, figures by hand, the file and the words.

The encoder is a stand-in of few dimensions: what is shown here is that the right pictures are described
and the right rows compared.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Library, Run
from media import flat, moving, write
from numpy.typing import NDArray
from safetensors import safe_open

from matcher.encoders import lite0, registry
from matcher.encoders.whitening import Whitening, fit_pair_whitening
from matcher.errors import InputError
from matcher.training import descriptor
from matcher.training.descriptor import Recipe, Training, command_words, fit, grid, validate
from matcher.training.frame_edits import KINDS, SHOW_FOREIGN
from matcher.training.pairs import EDITS_A_FRAME, Film, Pairs, collect, find_films
from matcher.training.validation import BLOCK_ROWS, Figures, Searches, deal_folds, search

RAW = 24
RECIPE = Recipe(d=8, regularization=1.0, mean_share=0.4)
Vectors = NDArray[np.float32]


def encode(images: NDArray[np.uint8]) -> Vectors:
    """A grid of 2 × 4 mean colours."""
    n, s = images.shape[:2]
    cells = images.reshape(n, 2, s // 2, 4, s // 4, 3).mean(axis=(2, 4)) / 255
    return cells.reshape(n, RAW).astype(np.float32) + np.float32(0.01)


def film(name: str, folder: int = 0, weight: float = 1.0) -> Film:
    return Film(Path(f"{name}.mp4"), name.split("-")[0], folder, weight)


def made_up_pairs(seed: int = 0, *, n_films: int = 7, weight: float = 1.0) -> Pairs:
    """Frames about a centre of each film, copies about each frame; two films of every other series."""
    rng = np.random.default_rng(seed)
    films = tuple(film(f"s{n // 2}-{n}", n % 2, 1.0 if n % 2 else weight) for n in range(n_films))
    counts = rng.integers(2, 7, n_films)
    owner = np.repeat(np.arange(n_films), counts)
    originals = rng.normal(size=(n_films, RAW))[owner] + 0.8 * rng.normal(size=(len(owner), RAW)) + 0.5
    source = np.repeat(np.arange(len(owner)), 3)
    edited = originals[source] + 1.2 * rng.normal(size=(len(source), RAW)) * np.linspace(2, 0.2, RAW)
    kind = rng.choice(["crop", "inset", "blur"], len(source))
    foreign = np.where(kind == "inset", rng.choice(["s0", "s1", "s2"], len(source)), "")
    return Pairs(films, originals.astype(np.float32), owner, edited.astype(np.float32), source, kind, foreign)


# ---------------------------------------------------------------- films


def test_films_are_found_by_name_with_series_folder_and_weight(tmp_path: Path) -> None:
    names = {"a": ["x-2.mp4", "x-1.MKV", "y.webm", "notes.txt"], "b": ["x-1.mp4"]}
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).touch()
    found = find_films([tmp_path / "a", tmp_path / "b"], [1.0, 0.2], exclude=["y", "x-2.*"])
    assert [(f.path.name, f.series, f.folder, f.weight) for f in found] == [
        ("x-1.MKV", "x", 0, 1.0), ("x-1.mp4", "x", 1, 0.2),
    ]  # fmt: skip
    assert len(find_films([tmp_path / "a"])) == 3
    with pytest.raises(InputError, match="all 1 films are excluded"):
        find_films([tmp_path / "b"], exclude=["x-*"])
    with pytest.raises(InputError, match="one --weight for each --films, got 1 for 2"):
        find_films([tmp_path / "a", tmp_path / "b"], [1.0])
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="above 0"):
            find_films([tmp_path / "a"], [weight])


# ---------------------------------------------------------------- pairs


@pytest.fixture(scope="module")
def few(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode of each of three programs, a film of nothing, and one that is no film."""
    folder = tmp_path_factory.mktemp("few")
    for path in library.folder.glob("*-e01.mp4"):
        shutil.copy(path, folder)
    write(folder / "zz-black.mp4", [flat(0)] * 50)
    (folder / "broken.mp4").write_bytes(b"no film at all")
    return folder


def test_pairs_are_frames_and_edited_copies_of_every_film_that_can_be_read(
    few: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films, done = find_films([few]), []
    with caplog.at_level(logging.WARNING):
        pairs = collect(films, encode, n_frames=5, on_film=done.append)
    assert done == films
    assert [f.path.name for f in pairs.films] == [
        f.path.name for f in films if f.path.name not in ("broken.mp4", "zz-black.mp4")
    ]
    broken, black = [line for line in caplog.messages if line.endswith("; left out")]
    assert "broken.mp4' is text, not a video" in broken
    assert black.startswith("zz-black.mp4 shows nothing")
    m = len(pairs.originals)
    assert np.bincount(pairs.film).max() <= 5
    assert np.bincount(pairs.film).min() >= 2
    assert pairs.edited.shape == (m * EDITS_A_FRAME, RAW)
    np.testing.assert_array_equal(pairs.source, np.repeat(np.arange(m), EDITS_A_FRAME))
    assert set(pairs.kind) <= set(KINDS)
    for row in range(m):  # a frame's copies are of different kinds
        assert len(set(pairs.kind[pairs.source == row])) == EDITS_A_FRAME
    own = np.array([f.series for f in pairs.films])[pairs.film[pairs.source]]
    assert (pairs.foreign != own).all()
    np.testing.assert_array_equal(pairs.foreign != "", np.isin(pairs.kind, list(SHOW_FOREIGN)))


def test_the_same_seed_gives_the_same_pairs_and_another_gives_others(few: Path) -> None:
    films = find_films([few], exclude=["broken*", "zz*"])
    one, two, other = (collect(films, encode, n_frames=3, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.edited, two.edited)
    np.testing.assert_array_equal(one.kind, two.kind)
    np.testing.assert_array_equal(one.originals, other.originals)
    assert not np.array_equal(one.edited, other.edited)


def test_films_are_told_by_their_frames_not_by_their_order(few: Path) -> None:
    """Another order changes what is shown of other films, and nothing else."""
    films = find_films([few], exclude=["broken*", "zz*"])
    one, other = (collect(order, encode, n_frames=3) for order in (films, films[::-1]))
    there = np.concatenate([np.flatnonzero(other.film == len(films) - 1 - n) for n in range(len(films))])
    np.testing.assert_array_equal(one.originals, other.originals[there])


def test_bars_are_trimmed_before_a_frame_is_described(tmp_path: Path) -> None:
    """As in every other place where frames are described."""
    for name in ("a", "b"):
        boxed = np.zeros((128, 96, 3), np.uint8)
        boxed[32:96] = moving(ord(name))
        write(tmp_path / f"{name}.mp4", [boxed] * 25)
    seen: list[NDArray[np.uint8]] = []

    def looking(images: NDArray[np.uint8]) -> Vectors:
        seen.append(images[0])
        return encode(images)

    collect(find_films([tmp_path]), looking, n_frames=2)
    assert all(image[:20].mean() > 30 for image in seen)


def test_one_series_is_not_enough(few: Path, tmp_path: Path) -> None:
    for name in ("a-1.mp4", "a-2.mp4"):
        shutil.copy(next(few.glob("*-e01.mp4")), tmp_path / name)
    (tmp_path / "b.mp4").write_bytes(b"no film at all")
    with pytest.raises(InputError, match="at least two series"):
        collect(find_films([tmp_path]), encode, n_frames=2)


# ---------------------------------------------------------------- the fit


def test_a_film_counts_by_the_root_of_its_frames_times_its_folders_weight() -> None:
    pairs = made_up_pairs(weight=0.2)
    mine = pairs.film[pairs.source]
    frames = [int((pairs.film == n).sum()) for n in range(len(pairs.films))]
    weights = [
        pairs.films[n].weight * frames[n] ** 0.5 / int((mine == n).sum()) for n in mine
    ]  # fmt: skip
    wanted = fit_pair_whitening(
        pairs.originals[pairs.source], pairs.edited, d=8, regularization=1.0, mean_share=0.4,
        weights=np.array(weights, np.float32),
    )  # fmt: skip
    a, b = (w.apply(pairs.originals) for w in (fit(pairs, RECIPE), wanted))
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-3)
    even = fit(made_up_pairs(weight=1.0), RECIPE).apply(pairs.originals)
    assert np.abs(a @ a.T - even @ even.T).max() > 0.02


def test_a_fit_on_some_films_knows_nothing_of_the_others() -> None:
    pairs = made_up_pairs()
    learnt = np.array([True, False, True, True, False, True, True])
    mine = learnt[pairs.film[pairs.source]]
    disturbed = replace(
        pairs,
        edited=np.where(mine[:, None], pairs.edited, np.float32(9.0)),
        originals=np.where(learnt[pairs.film][:, None], pairs.originals, np.float32(-3.0)),
    )
    one, two = (fit(given, RECIPE, is_learnt=learnt) for given in (pairs, disturbed))
    np.testing.assert_array_equal(one.projection, two.projection)
    np.testing.assert_array_equal(one.mean, two.mean)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"d": 0}, "--d must be from 1"),
        ({"d": 1953}, "--d must be from 1"),
        ({"regularization": 0.0}, "--regularization must be above 0"),
        ({"regularization": float("nan")}, "--regularization must be above 0"),
        ({"mean_share": 1.1}, "--mean-share must be from 0 to 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(words: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Recipe(**words)  # type: ignore[arg-type]


def test_what_is_not_given_is_as_usual() -> None:
    assert Recipe.of(d=None, regularization=None, mean_share=None) == Recipe() == Recipe(512, 1.5, 0.4)
    assert Recipe.of(d=9, regularization=0.5, mean_share=0.0) == Recipe(9, 0.5, 0.0)


def test_a_grid_has_the_chosen_recipe_first_and_each_once() -> None:
    cells = grid(Recipe(64))
    assert cells[0] == Recipe(64)
    assert len(set(cells)) == len(cells) == 12
    assert {cell.d for cell in cells} == {64}


# ---------------------------------------------------------------- folds


@pytest.mark.parametrize("n_folds", [2, 3, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_no_series_is_on_both_sides_and_every_fold_has_some_of_each_folder(n_folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = [f"s{n}" for n in rng.integers(0, 14, 60)]
    folders = [int(name[1:]) % 2 for name in series]
    fold = deal_folds(series, folders, n_folds=n_folds, seed=seed)
    n_series = len(set(series))
    assert len({(name, int(number)) for name, number in zip(series, fold, strict=True)}) == n_series
    assert set(fold.tolist()) == set(range(min(n_folds, n_series)))
    sizes = [
        len({s for s, f in zip(series, fold, strict=True) if f == number}) for number in set(fold.tolist())
    ]
    assert max(sizes) - min(sizes) <= 1
    if n_folds <= 5:
        for number in range(n_folds):
            assert {f for f, mine in zip(folders, fold, strict=True) if mine == number} == {0, 1}
    np.testing.assert_array_equal(fold, deal_folds(series, folders, n_folds=n_folds, seed=seed))


def test_folds_need_two_series() -> None:
    with pytest.raises(InputError, match="at least two series are needed, got 1"):
        deal_folds(["a", "a"], [0, 1], n_folds=2, seed=0)


# ---------------------------------------------------------------- figures


def test_figures_by_hand() -> None:
    """101 searches, strangers at 0.00, 0.01 … 1.00: 1 % of them pass 0.99, 0.1 % pass 0.999."""
    stranger = np.arange(101, dtype=np.float32) / 100
    own = np.full(101, 0.5, np.float32)
    own[:4] = 0.995  # above the bar for 1 %, below that for 0.1 %
    own[4] = 0.9995  # above both
    found = Searches(own, stranger).figures()
    assert found.bar_1_percent == pytest.approx(0.99)
    assert found.bar_01_percent == pytest.approx(0.999)
    assert found.recall_1_percent == pytest.approx(5 / 101)
    assert found.recall_01_percent == pytest.approx(1 / 101)
    assert found.top_1 == pytest.approx(50 / 101)  # 0.00 to 0.49; a tie at 0.50 is not found
    assert found.asked == 101


def test_one_kind_is_held_to_the_bars_of_all() -> None:
    searches = Searches(np.array([0.5, 0.9, 0.2], np.float32), np.array([0.1, 0.2, 0.8], np.float32))
    rows = np.array([True, True, False])
    alone, among_all = searches.figures(rows), searches.figures(rows, bars_by=searches)
    assert alone.recall_1_percent == 1.0
    assert among_all.recall_1_percent == 0.5
    assert (alone.top_1, among_all.top_1, alone.asked) == (1.0, 1.0, 2)
    with pytest.raises(ValueError, match="no searches"):
        searches.figures(np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"one \(n,\)"):
        Searches(np.zeros(2, np.float32), np.zeros(3, np.float32))


def test_a_search_is_the_one_written_out_in_loops() -> None:
    rng = np.random.default_rng(4)
    n, m, n_films = BLOCK_ROWS + 30, 40, 6
    asking, asked = (rng.normal(size=(rows, RAW)).astype(np.float32) for rows in (n, m))
    film_of = rng.permutation(np.arange(m) % n_films)
    is_own, is_stranger = np.zeros((n, n_films), bool), rng.random((n, n_films)) < 0.5
    is_own[np.arange(n), rng.integers(0, n_films, n)] = True
    whitening = Whitening(
        rng.normal(size=RAW).astype(np.float32), rng.normal(size=(RAW, 5)).astype(np.float32)
    )
    got = search(whitening, asking, asked, is_own=is_own, is_stranger=is_stranger, film=film_of)
    x, y = whitening.apply(asking), whitening.apply(asked)
    for i in range(n):
        own, stranger = -1.0, -1.0
        for j in range(m):
            similarity = float(np.dot(x[i], y[j]))
            own = max(own, similarity) if is_own[i, film_of[j]] else own
            stranger = max(stranger, similarity) if is_stranger[i, film_of[j]] else stranger
        assert (got.own[i], got.stranger[i]) == pytest.approx((own, stranger), abs=1e-5)


def test_validation_is_that_of_the_loops() -> None:
    """Each fold fitted without its series; own film, strangers of other series, none that the edit shows."""
    pairs = made_up_pairs(3, n_films=9)
    series = [f.series for f in pairs.films]
    fold = deal_folds(series, [f.folder for f in pairs.films], n_folds=3, seed=5)
    own, stranger = [], []
    for row, source in enumerate(pairs.source):
        mine = pairs.film[source]
        held_out = fold[mine]
        learnt = np.array([fold[n] != held_out for n in range(len(series))])
        assert not {series[n] for n in np.flatnonzero(learnt)} & {series[n] for n in np.flatnonzero(~learnt)}
        fitted = fit(pairs, RECIPE, is_learnt=learnt)
        similarity = (fitted.apply(pairs.edited[row : row + 1]) @ fitted.apply(pairs.originals).T)[0]
        own.append(max(s for s, f in zip(similarity, pairs.film, strict=True) if f == mine))
        stranger.append(
            max(
                s for s, f in zip(similarity, pairs.film, strict=True)
                if series[f] not in (series[mine], pairs.foreign[row])
            )
        )  # fmt: skip
    rows = validate(pairs, RECIPE, ["A", "B"], n_folds=3, seed=5)
    assert [(row.films, row.kind) for row in rows] == [
        ("all", "all"), ("A", "all"), ("B", "all"), ("A", "blur"), ("A", "crop"), ("A", "inset"),
    ]  # fmt: skip
    wanted = Searches(np.array(own, np.float32), np.array(stranger, np.float32))
    folder = np.array([pairs.films[n].folder for n in pairs.film[pairs.source]])
    assert_alike(rows[0].figures, wanted.figures())
    assert_alike(rows[2].figures, wanted.figures(folder == 1))
    bars = Searches(wanted.own[folder == 0], wanted.stranger[folder == 0])
    assert_alike(rows[4].figures, wanted.figures((folder == 0) & (pairs.kind == "crop"), bars_by=bars))
    assert 0.3 < rows[0].figures.top_1 < 1.0  # neither too easy nor too hard to show a fault


def assert_alike(got: Figures, wanted: Figures) -> None:
    assert vars(got) == pytest.approx(vars(wanted), abs=1e-4)


# ---------------------------------------------------------------- the command


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in where the default model is loaded."""
    monkeypatch.setattr(registry, "load_raw_lite0", lambda **_: encode)
    monkeypatch.setattr(lite0, "RAW_DIMENSIONS", RAW)


Train = Callable[..., list[str | Path]]


@pytest.fixture
def words(few: Path, tmp_path: Path, small_model: None) -> Train:
    def given(*more: str | Path, out: str = "own.safetensors") -> list[str | Path]:
        start = ["train", "descriptor", "--films", few, "--out", tmp_path / out, "--d", "8", "--frames", "4"]
        return [*start, *more]

    return given


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), "np") as file:
        return dict(file.metadata())


def test_the_command_writes_a_file_that_says_how_it_was_made(
    words: Train, matcher: Run, tmp_path: Path, few: Path
) -> None:
    ran = matcher(*words("--exclude", "broken*", "--exclude", "zz*", "--note", "made by a test", "--json"))
    assert ran.code == 0, ran.err
    out = tmp_path / "own.safetensors"
    own = Whitening.load(out)
    assert own.projection.shape == (RAW, 8)
    with safe_open(str(out), "np") as file:
        assert file.get_tensor("projection").dtype == np.float16
    *rows, last = ran.objects
    assert last == {
        "out": str(out), "fingerprint": lite0.info_with(own, "lite0").fingerprint, "films": 3,
    }  # fmt: skip
    said = metadata(out)
    assert said["command"] == (
        f"matcher train descriptor --films {few.name.upper()} --seed 7 --d 8 --frames 4"
        " --exclude 'broken*' --exclude 'zz*'"
    )
    assert str(few.parent) not in json.dumps(said)
    assert json.loads(said["settings"]) == {"d": 8, "regularization": 1.5, "mean_share": 0.4}
    assert said["films"].split(", ") == sorted(path.stem for path in few.glob("*-e01.mp4"))
    assert (said["seed"], said["note"]) == ("7", "made by a test")
    assert json.loads(said["figures"]) == rows
    assert json.loads(said["versions"])["numpy"] == np.__version__
    assert int(said["pairs"]) == rows[0]["asked"]
    assert {row["kind"] for row in rows[1:]} <= set(KINDS)
    assert "wrote" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_same_words_write_the_same_file_and_another_seed_another(
    words: Train, matcher: Run, tmp_path: Path
) -> None:
    for out, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert matcher(*words("--seed", seed, out=f"{out}.safetensors")).code == 4
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    assert Whitening.load(a).to_bytes() == Whitening.load(b).to_bytes() != Whitening.load(c).to_bytes()
    assert metadata(a) == metadata(b) != metadata(c)


def test_a_film_that_cannot_be_read_is_told_of_in_one_line_and_the_rest_goes_on(
    words: Train, matcher: Run, tmp_path: Path
) -> None:
    ran = matcher(*words())
    assert ran.code == 4
    assert [line for line in ran.lines if "broken.mp4" in line and "left out" in line]
    assert [line for line in ran.lines if line.startswith("films 3, left out 2 in ")]
    assert "broken" not in metadata(tmp_path / "own.safetensors")["films"]
    assert "recall at 1 %" in ran.out
    assert "crop" in ran.out


def test_a_grid_is_shown_and_the_given_settings_are_fitted(
    words: Train, matcher: Run, tmp_path: Path
) -> None:
    ran = matcher(*words("--grid", "--regularization", "0.7", "--json"))
    settings = {(row["regularization"], row["mean_share"]) for row in ran.objects[:-1]}
    assert len(settings) == 13
    said = metadata(tmp_path / "own.safetensors")
    assert json.loads(said["settings"])["regularization"] == 0.7
    assert {row["regularization"] for row in json.loads(said["figures"])} == {0.7}


def test_folders_are_told_apart_and_weighted(words: Train, matcher: Run, few: Path, tmp_path: Path) -> None:
    more = tmp_path / "dramas"
    more.mkdir()
    write(more / "q1.mp4", [moving(n) for n in range(30)])
    ran = matcher(*words("--films", more, "--weight", "1", "--weight", "0.2", "--json"))
    assert ran.code == 4, ran.err
    assert {row["films"] for row in ran.objects[:-1]} == {"all", few.name.upper(), "DRAMAS"}
    assert (
        "--films DRAMAS --weight 1 --weight 0.2 --seed 7" in metadata(tmp_path / "own.safetensors")["command"]
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--exclude", "*"], "nothing to learn from: all 5 films are excluded"),
        (["--exclude", "[!z]*"], "at least two series are needed, got 1"),
        (["--weight", "1", "--weight", "2"], "one --weight for each --films"),
        (["--regularization", "0"], "--regularization must be above 0"),
        (["--mean-share", "2"], "--mean-share must be from 0 to 1"),
        (["--d", "99"], "--d must be from 1 to"),
        (["--films", "nowhere"], "nowhere is no folder"),
        (["--out", "own.pt"], "must end in .safetensors"),
        (["--out", "nowhere/own.safetensors"], "its folder is not there"),
        (["--folds", "1"], "--folds"),
    ],
)
def test_words_that_cannot_be_followed_are_refused_before_any_work(
    words: Train, matcher: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str], said: str
) -> None:
    def never(**_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(registry, "load_raw_lite0", never)
    monkeypatch.chdir(tmp_path)
    ran = matcher(*words(*more))
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.lines) == 1


def test_an_empty_folder_is_told_what_was_looked_for(matcher: Run, tmp_path: Path) -> None:
    ran = matcher("train", "descriptor", "--films", tmp_path, "--out", tmp_path / "own.safetensors")
    assert ran.code == 2
    assert "has nothing to learn from: no *.mp4" in ran.err


def test_a_fit_that_fails_leaves_the_old_file_and_no_draft(
    words: Train, matcher: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "own.safetensors"
    old.write_bytes(b"as it was")

    def fails(self: Whitening, path: Path, *, notes: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Whitening, "save", fails)
    assert matcher(*words()).code == 1
    assert old.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [old]


def test_the_command_in_the_file_is_that_of_the_shipped_one() -> None:
    training = Training(
        (Path("/x/films"), Path("/y/dramas")), (1.0, 0.2), (), Recipe(), out=Path("o.safetensors")
    )
    assert " ".join(command_words(training)) == (
        "matcher train descriptor --films FILMS --films DRAMAS --weight 1 --weight 0.2 --seed 7"
    )
    assert descriptor.shlex.join(command_words(replace(training, n_folds=2, exclude=("a b",)))).endswith(
        "--seed 7 --folds 2 --exclude 'a b'"
    )
