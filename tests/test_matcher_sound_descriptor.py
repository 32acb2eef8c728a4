"""``matcher train descriptor --sound``: stretches, moments, the fit by value, the file and the words."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from media import flat, moving, write
from numpy.typing import NDArray
from safetensors import safe_open
from test_matcher_sound_edits import made_up

from eval.video_writer import write_video
from matcher.encoders.sound import REVISION, SPEC, load_sound_encoder, shipped_sound_encoder
from matcher.encoders.whitening import Whitening
from matcher.errors import InputError, VideoError
from matcher.sound import (
    COLUMN_SECONDS,
    HALF_PATCH_SECONDS,
    RATE_HZ,
    RAW_DIMENSIONS,
    mel_columns,
    patches,
)
from matcher.training import sound_pairs
from matcher.training.descriptor import command_words, fit, validate
from matcher.training.pairs import Film, Pairs, find_films
from matcher.training.sound_descriptor import (
    SoundRecipe,
    SoundTraining,
    sound_grid,
)
from matcher.training.sound_edits import KINDS, SHOW_FOREIGN, mixed
from matcher.training.sound_pairs import collect_sounds, hear, same_moments, stretches
from matcher.training.validation import deal_folds

Samples = NDArray[np.float32]
COLUMN = round(COLUMN_SECONDS * RATE_HZ)


def film_of(path: Path, samples: Samples | None, seconds: float = 4.0) -> Path:
    frames = (moving(n) for n in range(round(seconds * 5)))
    write_video(path, frames, fps=5, sound=samples, sound_rate_hz=RATE_HZ)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of two series that are heard; one mute, one silent, one that is no film."""
    folder = tmp_path_factory.mktemp("heard")
    for number, name in enumerate(("a-1", "a-2", "b-1")):
        film_of(folder / f"{name}.mp4", made_up(20 + number, 7.0), 7.0)
    film_of(folder / "x-mute.mp4", None)
    film_of(folder / "y-silent.mp4", np.zeros(4 * RATE_HZ, np.float32))
    (folder / "z-broken.mp4").write_bytes(b"no film at all")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_pairs, "LEAST_EDITS_A_FILM", 15)


# ---------------------------------------------------------------- stretches and moments


def test_stretches_lie_evenly_and_do_not_overlap() -> None:
    samples = np.concatenate([made_up(seed, 10.0) for seed in range(10)])
    length = int(sound_pairs.STRETCH_SECONDS * RATE_HZ)
    cut = stretches(samples, 3)
    assert [one.size for one in cut] == [length] * 3
    np.testing.assert_array_equal(cut[0], samples[:length])
    np.testing.assert_array_equal(cut[1], samples[43 * RATE_HZ : 43 * RATE_HZ + length])
    np.testing.assert_array_equal(cut[2], samples[-length:])
    assert len(stretches(samples, 100)) == 7
    (short,) = stretches(samples[: 5 * RATE_HZ], 100)
    np.testing.assert_array_equal(short, samples[: 5 * RATE_HZ])


def test_silence_gives_no_stretch() -> None:
    samples = np.concatenate([made_up(1, 14.0), np.zeros(28 * RATE_HZ, np.float32), made_up(2, 14.0)])
    assert len(stretches(samples, 4)) == 2
    assert stretches(np.zeros(RATE_HZ * 20, np.float32), 4) == []
    assert stretches(np.zeros(0, np.float32), 4) == []
    assert stretches(made_up(1, 1.0), 4) == []


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("late", [0.0, 0.07])
def test_moments_are_the_same_within_a_tenth_of_a_second_of_the_copy(speed: float, late: float) -> None:
    """By a loop over every patch, with the middles on the clock of the copy."""
    asked, edited = np.arange(0, 120, 5), np.delete(np.arange(90), slice(30, 40))
    found = same_moments(asked, edited, late, speed, np.random.default_rng(0))
    off = []
    for mine, copy in found:
        middle = asked[mine] * COLUMN_SECONDS + HALF_PATCH_SECONDS
        heard = edited[copy] * COLUMN_SECONDS + HALF_PATCH_SECONDS
        off.append(heard - (middle - late) / speed)
    assert np.abs(off).max() <= 0.1 + 1e-9
    if (speed, late) != (1.0, 0.0):  # there columns meet exactly, and what is within half of one is the same
        assert np.abs(off).max() > 0.03
    # Every one whose copy says something whatever the jitter is there, and none twice.
    exact = ((asked * 0.1 + HALF_PATCH_SECONDS - late) / speed - HALF_PATCH_SECONDS) / 0.1
    sure = [
        n for n, column in enumerate(exact)
        if all(c in edited for c in range(int(np.ceil(column - 1)), int(np.floor(column + 1)) + 1))
    ]  # fmt: skip
    assert set(sure) <= set(found[:, 0].tolist())
    assert len(sure) > 5
    assert len(set(found[:, 0].tolist())) == len(found)


def test_moments_of_nothing_are_none() -> None:
    none = np.zeros(0, np.int64)
    for asked, edited in ((none, np.arange(5)), (np.arange(5), none), (np.array([500]), np.arange(5))):
        assert same_moments(asked, edited, 0.0, 1.0, np.random.default_rng(0)).shape == (0, 2)


# ---------------------------------------------------------------- pairs


def test_pairs_are_of_films_that_are_heard_and_the_others_are_named(
    few: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    films, done = find_films([few]), []
    with caplog.at_level(logging.WARNING):
        pairs = collect_sounds(films, on_film=done.append)
    assert done == films
    assert [film.path.stem for film in pairs.films] == ["a-1", "a-2", "b-1"]
    mute, silent, broken = [line for line in caplog.messages if line.endswith("; left out")]
    assert mute == "x-mute.mp4 has no sound track; left out"
    assert silent == "y-silent.mp4 has a sound track of silence or hums; left out"
    assert "z-broken.mp4' is text, not a video" in broken
    n = len(pairs.edited)
    assert pairs.edited.shape == (n, RAW_DIMENSIONS)
    assert pairs.originals.shape == (len(pairs.film), RAW_DIMENSIONS)
    assert {len(pairs.source), len(pairs.kind), len(pairs.foreign)} == {n}
    np.testing.assert_allclose(np.linalg.norm(pairs.edited, axis=1), 1, atol=1e-5)
    assert set(pairs.kind) == set(KINDS)  # 15 edits a film: the whole deck
    own = np.array([film.series for film in pairs.films])[pairs.film[pairs.source]]
    assert (pairs.foreign != own).all()
    np.testing.assert_array_equal(pairs.foreign != "", np.isin(pairs.kind, list(SHOW_FOREIGN)))


def test_originals_are_the_patches_of_a_film_every_half_second(few: Path, quick: None) -> None:
    pairs = collect_sounds(find_films([few], exclude=["[x-z]*"]))
    for number, film in enumerate(pairs.films):
        (samples,) = hear(film, 5)
        wanted = patches(mel_columns(samples), 5).values
        np.testing.assert_array_equal(pairs.originals[pairs.film == number], wanted)


def test_a_copy_is_most_like_its_own_moment(few: Path, quick: None) -> None:
    """Where little is edited: moved by half a second, no pair would agree so well."""
    pairs = collect_sounds(find_films([few], exclude=["[x-z]*"]))
    rows = np.flatnonzero(np.isin(pairs.kind, ["volume", "equalize", "low_bit_rate"]))
    nearest = (pairs.edited[rows] @ pairs.originals.T).argmax(axis=1)
    assert np.mean(nearest == pairs.source[rows]) > 0.95


def test_the_same_seed_gives_the_same_pairs_and_another_gives_others(few: Path, quick: None) -> None:
    films = find_films([few], exclude=["[x-z]*"])
    one, two, other = (collect_sounds(films, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.edited, two.edited)
    np.testing.assert_array_equal(one.originals, other.originals)
    assert not np.array_equal(one.edited[:50], other.edited[:50])


def test_what_cannot_be_heard_says_why(few: Path) -> None:
    with pytest.raises(VideoError, match=r"x-mute\.mp4 has no sound track"):
        hear(Film(few / "x-mute.mp4", "x", 0, 1.0), 3)


def test_one_series_is_too_few(few: Path, quick: None) -> None:
    with pytest.raises(InputError, match="at least two series are needed; only 'a' can be heard"):
        collect_sounds(find_films([few], exclude=["b*"]))


# ---------------------------------------------------------------- the fit and the folds


def made_up_pairs(seed: int = 0, *, n_films: int = 6) -> Pairs:
    """Few dimensions stand for the 1,280; two films of every series."""
    rng = np.random.default_rng(seed)
    films = tuple(
        Film(Path(f"s{n // 2}-{n}.mp4"), f"s{n // 2}", n % 2, 1.0 - 0.9 * (n % 2)) for n in range(n_films)
    )
    counts = rng.integers(2, 7, n_films)
    owner = np.repeat(np.arange(n_films), counts)
    originals = rng.normal(size=(len(owner), 12)) + rng.normal(size=(n_films, 12))[owner]
    source = rng.integers(0, len(owner), 60)
    edited = originals[source] + rng.normal(size=(60, 12)) * np.linspace(1.5, 0.1, 12)
    kind = rng.choice(["tempo", "sound_over"], 60)
    foreign = np.where(kind == "sound_over", rng.choice(["s0", "s1", "s2"], 60), "")
    return Pairs(films, originals.astype(np.float32), owner, edited.astype(np.float32), source, kind, foreign)


def test_the_fit_is_that_of_the_formula_pair_by_pair() -> None:
    """Slowly: every pair's outer product, weighted by its film's folder and the root of its patches."""
    pairs, recipe = made_up_pairs(), SoundRecipe(d=5)
    c, covariance, total = np.zeros((12, 12)), np.zeros((12, 12)), 0.0
    copies = [int((pairs.film[pairs.source] == n).sum()) for n in range(6)]
    weights = []
    for row, source in enumerate(pairs.source):
        film = pairs.film[source]
        weights.append(pairs.films[film].weight * np.sqrt((pairs.film == film).sum()) / copies[film])
        delta = pairs.originals[source].astype(float) - pairs.edited[row]
        c += weights[-1] * np.outer(delta, delta)
        total += weights[-1]
    c = c / total + 0.1 * np.trace(c / total) / 12 * np.eye(12)
    values, vectors = np.linalg.eigh(c)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    for weight, source in zip(weights, pairs.source, strict=True):
        white = root @ pairs.originals[source].astype(float)
        covariance += weight / total * np.outer(white, white)
    wanted = root @ np.linalg.eigh(covariance)[1][:, ::-1][:, :5]
    fitted = fit(pairs, recipe)
    np.testing.assert_array_equal(fitted.mean, 0)
    got = fitted.apply(pairs.edited) @ fitted.apply(pairs.originals).T
    ask, asked = pairs.edited @ wanted, pairs.originals @ wanted
    ask /= np.linalg.norm(ask, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    np.testing.assert_allclose(got, ask @ asked.T, atol=1e-4)


def test_no_series_is_on_both_sides_of_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, seen = made_up_pairs(), []

    def remember(pairs: Pairs, recipe: SoundRecipe, *, is_learnt: NDArray[np.bool_]) -> Whitening:
        seen.append({pairs.films[n].series for n in np.flatnonzero(is_learnt)})
        assert not seen[-1] & {pairs.films[n].series for n in np.flatnonzero(~is_learnt)}
        return fit(pairs, recipe, is_learnt=is_learnt)

    monkeypatch.setattr("matcher.training.descriptor.fit", remember)
    rows = validate(pairs, SoundRecipe(d=5), ["A", "B"], n_folds=3, seed=7)
    assert sorted(map(sorted, seen)) == [["s0", "s1"], ["s0", "s2"], ["s1", "s2"]]
    assert rows[0].figures.asked == 60
    assert [(row.films, row.kind) for row in rows[3:]] == [("A", "sound_over"), ("A", "tempo")]


def test_the_grid_begins_with_what_is_asked_for() -> None:
    grid = sound_grid(SoundRecipe(regularization=0.3, d=64))
    assert [recipe.regularization for recipe in grid] == [0.3, 0.03, 0.1, 1.0]
    assert {(recipe.d, recipe.mean_share) for recipe in grid} == {(64, 0.0)}


# ---------------------------------------------------------------- the command

Train = Callable[..., list[str | Path]]


@pytest.fixture
def words(few: Path, tmp_path: Path, quick: None) -> Train:
    def given(*more: str | Path, out: str = "own.safetensors") -> list[str | Path]:
        return ["train", "descriptor", "--sound", "--films", few, "--out", tmp_path / out, "--d", "8", *more]

    return given


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), "np") as file:
        return dict(file.metadata())


def test_the_command_writes_a_file_that_hears_and_says_how_it_was_made(
    words: Train, matcher: Run, tmp_path: Path, few: Path
) -> None:
    ran = matcher(*words("--exclude", "[x-z]*", "--note", "made by a test", "--json"))
    assert ran.code == 0, ran.err
    out = tmp_path / "own.safetensors"
    own = load_sound_encoder(f"{SPEC}@{out}")
    assert own.whitening.projection.shape == (RAW_DIMENSIONS, 8)
    *rows, last = ran.objects
    assert last == {"out": str(out), "fingerprint": own.info.fingerprint, "films": 3}
    said = metadata(out)
    assert said["command"] == (
        f"matcher train descriptor --sound --films {few.name.upper()} --seed 7 --d 8 --exclude '[x-z]*'"
    )
    assert str(few.parent) not in json.dumps(said)
    assert json.loads(said["settings"]) == {"d": 8, "regularization": 0.1, "mean_share": 0.0}
    assert said["films"] == "a-1, a-2, b-1"
    assert (said["seed"], said["note"]) == ("7", "made by a test")
    assert json.loads(said["figures"]) == rows
    assert json.loads(said["versions"])["model"] == REVISION
    assert {row["kind"] for row in rows[1:]} == set(KINDS)
    assert int(said["pairs"]) == rows[0]["asked"]
    assert f'spec = "logmel@{out}" under [sound]' in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.slow
def test_the_same_words_write_the_same_file_and_another_seed_another(
    words: Train, matcher: Run, tmp_path: Path
) -> None:
    for out, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert matcher(*words("--seed", seed, out=f"{out}.safetensors")).code == 4
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    assert Whitening.load(a).to_bytes() == Whitening.load(b).to_bytes() != Whitening.load(c).to_bytes()
    assert metadata(a) == metadata(b) != metadata(c)


@pytest.mark.slow
def test_films_without_sound_are_told_of_in_a_line_each_and_the_rest_goes_on(
    words: Train, matcher: Run
) -> None:
    ran = matcher(*words("--grid"))
    assert ran.code == 4
    assert [line for line in ran.lines if line == "x-mute.mp4 has no sound track; left out"]
    assert [line for line in ran.lines if line.startswith("films 3, left out 3 in ")]
    assert "loud_sound_over" in ran.out
    assert "0.03" in ran.out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--exclude", "[bxyz]*"], "at least two series are needed, got 1"),
        (["--exclude", "b*"], "only 'a' can be heard"),
        (["--d", "1281"], "--d must be from 1 to 1280"),
        (["--d", "0"], "--d must be from 1 to"),
        (["--regularization", "0"], "--regularization must be above 0"),
        (["--out", "nowhere/own.safetensors"], "its folder is not there"),
    ],
)
def test_words_that_cannot_be_followed_are_refused_in_one_line(
    words: Train, matcher: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = matcher(*words(*more))
    assert ran.code == 2
    assert said in ran.lines[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
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


# ---------------------------------------------------------------- what is shipped


def test_the_shipped_file_says_how_it_was_made_and_where_from_no_folder() -> None:
    path = Path(sound_pairs.__file__).parents[1] / "encoders" / "logmel_whitening.safetensors"
    said = metadata(path)
    training = SoundTraining(
        (Path("/x/films"), Path("/y/dramas77")), (1.0, 0.1), (), SoundRecipe(), out=Path("o.safetensors")
    )
    assert said["command"] == " ".join(command_words(training))
    assert "/work" not in json.dumps(said)
    assert json.loads(said["versions"])["model"] == REVISION
    assert path.stat().st_size < 10e6


def test_the_shipped_whitening_finds_a_moment_under_a_louder_sound() -> None:
    encoder = shipped_sound_encoder()
    assert encoder.whitening.projection.shape == (RAW_DIMENSIONS, 128)
    samples = made_up(1, 60.0)
    covered = mixed(samples, made_up(2, 60.0), -6.0)
    (times, asked), (heard, asking) = (
        encoder.describe(mel_columns(sound), step=5) for sound in (samples, covered)
    )
    assert len(heard) > 100
    assert np.mean(times[(asking @ asked.T).argmax(axis=1)] == heard) > 0.9


def test_films_that_are_all_mute_are_refused(matcher: Run, tmp_path: Path) -> None:
    for name in ("p", "q"):
        write(tmp_path / f"{name}.mp4", [flat(80)] * 10)
    ran = matcher("train", "descriptor", "--sound", "--films", tmp_path, "--out", tmp_path / "o.safetensors")
    assert ran.code == 2
    assert "films with sound of at least two series are needed, got 0" in ran.lines[-1]


def test_folds_are_dealt_by_series() -> None:
    series = ["toy", "toy", "p01", "p02", "toy"]
    fold = deal_folds(series, [0, 0, 1, 1, 0], n_folds=3, seed=7)
    assert len({fold[0], fold[1], fold[4]}) == 1
