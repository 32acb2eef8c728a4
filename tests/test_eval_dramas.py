"""Generated dramas: the same seed gives the same film, other programs look and sound different."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval import drama_sets, dramas
from eval.drama_cast import N_TALK_POSES, N_WALK_POSES, figure, make_person
from eval.drama_sound import SOUND_RATE_HZ, music, speech
from eval.dramas import (
    DramaSpec,
    asset_id,
    catalogue,
    episode_sound,
    render_episode,
    write_catalogue,
    write_episode,
    write_manifest,
)
from eval.video_reader import read_frames, read_shape, read_sound


def _small(**words: object) -> DramaSpec:
    spec = DramaSpec("p01", "The Jade Court", "drama/costume/palace", seed=3, look_seed=4)
    return replace(spec, **{"width": 128, "height": 72, "fps": 6, "episode_seconds": 10.0, **words})


def _stack(spec: DramaSpec, episode: int = 1) -> np.ndarray:
    return np.stack(list(render_episode(spec, episode)))


def test_same_specification_gives_the_same_frames_and_sound() -> None:
    """Also after every cache has been emptied, so that nothing depends on what was drawn before."""
    spec = _small(channel="NOVA")
    first, first_sound = _stack(spec), episode_sound(spec, 1)
    for cached in (dramas._look, dramas._set, dramas._plan, dramas._text, dramas._weather, figure):
        cached.cache_clear()
    drama_sets._noise_pool.cache_clear()
    np.testing.assert_array_equal(_stack(spec), first)
    np.testing.assert_array_equal(episode_sound(spec, 1), first_sound)


def test_episode_has_the_length_size_and_rate_asked_for() -> None:
    spec = _small(episode_seconds=9.5)
    frames = _stack(spec)
    assert frames.shape == (57, 72, 128, 3)
    assert frames.dtype == np.uint8
    assert abs(len(episode_sound(spec, 1)) - 9.5 * SOUND_RATE_HZ) <= 1


def test_programs_episodes_and_shots_differ() -> None:
    specs = [
        replace(spec, width=128, height=72, fps=2, episode_seconds=14.0)
        for spec in catalogue(6, seed=5, n_twin_pairs=0)
    ]
    films = [_stack(spec).astype(np.float32) for spec in specs]
    films.append(_stack(specs[0], 2).astype(np.float32))
    for one, other in itertools.combinations(films, 2):
        body = slice(8, -2)  # after the title, before the black
        assert np.abs(one[body] - other[body]).mean() > 12
    moving = np.abs(np.diff(films[1], axis=0)).mean(axis=(1, 2, 3))
    assert np.median(moving) > 1
    assert films[1][6:].std(axis=(1, 2)).mean() > 20  # no flat pictures


def test_title_card_is_common_to_the_episodes_and_the_end_is_black() -> None:
    spec = _small()
    first, second = _stack(spec, 1), _stack(spec, 2)
    title = round(dramas.TITLE_SECONDS * spec.fps)
    np.testing.assert_array_equal(first[:title], second[:title])
    assert not np.array_equal(first[title:], second[title:])
    assert first[0].max() == 0
    assert first[-1].max() == 0
    assert first[title // 2].max() > 150


def test_twin_shares_the_look_but_no_frame() -> None:
    """Sets, cast and palette are the original's; what happens is not."""
    specs = [
        replace(spec, width=128, height=72, fps=3, episode_seconds=12.0)
        for spec in catalogue(4, seed=2, n_twin_pairs=1)
    ]
    original, twin = specs[0], specs[3]
    assert twin.twin_of == original.program_id
    assert twin.title == f"{original.title} 2"
    assert dramas._look(twin.look_seed, twin.category) == dramas._look(original.look_seed, original.category)
    assert dramas._look(specs[1].look_seed, specs[1].category) != dramas._look(
        original.look_seed, original.category
    )
    mine, theirs = _stack(twin)[9:-3].astype(np.float32), _stack(original)[9:-3].astype(np.float32)
    nearest = min(np.abs(mine - frame).mean(axis=(1, 2, 3)).min() for frame in theirs)
    assert nearest > 4


def test_channel_logo_is_burned_in() -> None:
    with_logo, without = _stack(_small(channel="NOVA")), _stack(_small(channel=None))
    changed = np.abs(with_logo.astype(int) - without).max(axis=(0, 3)) > 0
    assert changed[:16].any()
    assert not changed[24:].any()


@pytest.mark.parametrize("kind", sorted(drama_sets.PAINTERS))
def test_every_set_is_textured_and_drawn_from_its_seed(kind: str) -> None:
    def paint(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        palette = drama_sets.make_palette(rng, hue=0.6, saturation=0.6, night_chance=seed % 2)
        return np.asarray(drama_sets.paint_set(kind, palette, rng, 384, 216))

    one, other = paint(1), paint(2)
    assert one.shape == (216, 384, 3)
    np.testing.assert_array_equal(one, paint(1))
    assert np.abs(one.astype(int) - other).mean() > 5
    blocks = one.reshape(27, 8, 48, 8, 3).astype(np.float32)
    assert np.median(blocks.std(axis=(1, 3))) > 1  # grain everywhere, not flat colour


def test_people_move_and_differ() -> None:
    rng = np.random.default_rng(1)
    cast = [make_person(rng, ((200, 60, 60), (60, 90, 200)), robe_chance=0.5) for _ in range(24)]
    assert {person.has_robe for person in cast} == {True, False}
    for person in cast:
        for is_bust, size in ((True, (400, 300)), (False, (270, 400))):
            drawn = figure(person, N_WALK_POSES + 1, is_bust=is_bust)
            assert drawn.size == size
            assert drawn.getchannel("A").getextrema() == (0, 255)
    poses = {
        figure(cast[0], number, is_bust=False).tobytes() for number in range(N_WALK_POSES + N_TALK_POSES)
    }
    assert len(poses) == N_WALK_POSES + N_TALK_POSES


def test_sound_is_loud_enough_bounded_and_differs_by_program() -> None:
    spec = _small()
    sound, other = episode_sound(spec, 1), episode_sound(replace(spec, look_seed=99), 1)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() <= 1
    assert np.sqrt(np.mean(sound**2)) > 0.02
    theme = slice(0, int(dramas.TITLE_SECONDS * SOUND_RATE_HZ))
    assert abs(np.corrcoef(sound[theme], other[theme])[0, 1]) < 0.5
    np.testing.assert_array_equal(sound[theme], episode_sound(spec, 2)[theme])


def test_music_follows_its_style_and_speech_its_voice() -> None:
    tunes = [music(np.random.default_rng(1), style_seed=style, seconds=1.0) for style in (1, 1, 2)]
    np.testing.assert_array_equal(tunes[0], tunes[1])
    assert not np.array_equal(tunes[0], tunes[2])
    said = speech(np.random.default_rng(1), voice_hz=120, seconds=2.0)
    spectrum = np.abs(np.fft.rfft(said))
    hertz = np.fft.rfftfreq(len(said), 1 / SOUND_RATE_HZ)
    assert spectrum[hertz < 4000].sum() > 3 * spectrum[hertz > 4000].sum()


def test_catalogue_is_distinct_and_stable() -> None:
    specs = catalogue(150, seed=7, n_twin_pairs=3)
    assert specs == catalogue(150, seed=7, n_twin_pairs=3)
    for field in ("program_id", "title", "seed"):
        assert len({getattr(spec, field) for spec in specs}) == 150
    assert len({spec.look_seed for spec in specs}) == 147
    assert all(spec.title.isascii() and spec.category.count("/") == 2 for spec in specs)
    assert [spec.twin_of for spec in specs[-3:]] == ["p001", "p002", "p003"]
    assert catalogue(20, seed=7)[:12] == catalogue(40, seed=7)[:12]
    assert len({spec.channel for spec in specs}) > 2


@pytest.mark.parametrize(("n_programs", "n_twin_pairs"), [(0, 0), (3, 2), (4, -1)])
def test_catalogue_refuses_more_twins_than_originals(n_programs: int, n_twin_pairs: int) -> None:
    with pytest.raises(ValueError, match="twins"):
        catalogue(n_programs, seed=1, n_twin_pairs=n_twin_pairs)


@pytest.mark.parametrize(
    "words",
    [
        {"width": 127},
        {"height": 20},
        {"category": "x/y/z"},
        {"n_episodes": 0},
        {"fps": 0},
        {"episode_seconds": 4},
    ],
)
def test_specification_checks_itself(words: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|category|needs"):
        _small(**words)


@pytest.mark.parametrize("episode", [0, 3])
def test_there_is_no_such_episode(episode: int) -> None:
    with pytest.raises(ValueError, match="episodes 1 to 2"):
        next(render_episode(_small(), episode))


def test_written_episode_shows_and_sounds_what_was_rendered(tmp_path: Path) -> None:
    spec, path = _small(), tmp_path / "new" / "e1.mp4"
    write_episode(spec, 1, path)
    shape = read_shape(path)
    assert (shape.width, shape.height, shape.fps, shape.has_sound) == (128, 72, 6, True)
    assert shape.duration_seconds == pytest.approx(10.0, abs=0.02)
    frames = _stack(spec)
    read = list(read_frames(path, 0, 99))
    assert len(read) == len(frames)
    assert (
        max(np.abs(image.astype(int) - frame).mean() for (_, image), frame in zip(read, frames, strict=True))
        < 8
    )
    sound, heard = episode_sound(spec, 1), read_sound(path, 0, 10, rate_hz=SOUND_RATE_HZ)
    assert len(heard) == len(sound)
    loudness, echo = (np.sqrt(np.mean(x.reshape(-1, 1000) ** 2, axis=1)) for x in (sound, heard))
    assert np.corrcoef(loudness, echo)[0, 1] > 0.9


def test_catalogue_is_written_alike_by_one_process_and_by_two(tmp_path: Path) -> None:
    specs = catalogue(2, seed=1, n_twin_pairs=0, n_episodes=1, episode_seconds=6, width=96, height=64, fps=4)
    seen: list[tuple[int, int]] = []
    rows = write_catalogue(specs, tmp_path / "one", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert [row.asset_id for row in rows] == ["p01-e01", "p02-e01"]
    assert asset_id(specs[0], 1) == "p01-e01"
    again = write_catalogue(
        specs, tmp_path / "two", workers=2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[2:] == [(1, 2), (2, 2)]
    for row, other in zip(rows, again, strict=True):
        assert row.path.read_bytes() == other.path.read_bytes()
        assert (row.title, row.category) == (other.title, other.category)


def test_manifest_paths_are_relative_to_its_folder(tmp_path: Path) -> None:
    row = dramas.CatalogueRow("p01", tmp_path / "videos" / "p01-e01.mp4", "p01-e01", "A, B", "a/b/c")
    (tmp_path / "lists").mkdir()
    write_manifest([row], tmp_path / "lists" / "programs.csv")
    with (tmp_path / "lists" / "programs.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                "program_id": "p01",
                "path": "../videos/p01-e01.mp4",
                "asset_id": "p01-e01",
                "title": "A, B",
                "category": "a/b/c",
            }
        ]
