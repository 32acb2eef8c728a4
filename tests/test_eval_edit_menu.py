"""What is drawn from the menu goes together, has the level it says, and comes again with the same seed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eval.edit_base import ClipPart, EditContext, Picture, total_seconds
from eval.edit_cameras import filmed_screen, rotate, slow_zoom
from eval.edit_drawing import Card, Loop, Patterns, Scene, Talker, cover, text_block
from eval.edit_layouts import captioned_bands, reaction_split
from eval.edit_menu import FAMILIES, KINDS, draw_edits, draw_parts
from eval.edit_times import decimate, drop_frames, fades, freeze
from eval.video_writer import write_video


def test_names_are_plain_and_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 24
    for name, kind in KINDS.items():
        assert kind.name == name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert kind.family in FAMILIES
    assert Counter(kind.level for kind in KINDS.values()).keys() == {"light", "heavy"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_level_of_a_kind_is_that_of_its_edits(name: str) -> None:
    for seed in range(20):
        for strength in (0.0, 0.3, 1.0):
            edit = KINDS[name].draw(np.random.default_rng(seed), strength, [])
            assert edit.strength == KINDS[name].level, edit.name


@pytest.mark.parametrize("level", [None, "light", "heavy"])
def test_drawn_edits_are_of_different_families_in_the_uploaders_order(level: str | None) -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        n = seed % 6
        names, edits = draw_edits(np.random.default_rng(seed), n, others=[], level=level)  # type: ignore[arg-type]
        assert len(names) == len(edits) == n
        places = [FAMILIES.index(KINDS[name].family) for name in names]
        assert places == sorted(set(places))
        assert level is None or {KINDS[name].level for name in names} <= {level}
        seen.update(names)
    fitting = {name for name, kind in KINDS.items() if level in (None, kind.level)}
    assert set(seen) == fitting, "every kind comes up"


def test_drawing_again_gives_the_same_and_other_seeds_others() -> None:
    def names(seed: int) -> list[str]:
        return [edit.name for edit in draw_edits(np.random.default_rng(seed), 4, others=[])[1]]

    assert names(3) == names(3)
    assert len({tuple(names(seed)) for seed in range(20)}) == 20


def test_more_edits_than_go_together_are_refused() -> None:
    draw_edits(np.random.default_rng(0), len(FAMILIES), others=[])
    with pytest.raises(ValueError, match="not so many"):
        draw_edits(np.random.default_rng(0), len(FAMILIES) + 1, others=[])
    with pytest.raises(ValueError, match="not so many"):
        draw_edits(np.random.default_rng(0), -1, others=[])


def test_parts_of_a_montage_are_of_different_programs_and_inside_them() -> None:
    stretches = [ClipPart(Path(f"{n}.mp4"), 10.0 * n, 20.0, f"a{n}", f"p{n}") for n in range(5)]
    counts = set()
    for seed in range(100):
        parts = draw_parts(np.random.default_rng(seed), stretches, seconds=8.0)
        counts.add(len(parts))
        assert len({part.program_id for part in parts}) == len(parts)
        assert sum(part.duration_seconds for part in parts) == pytest.approx(8.0)
        for part in parts:
            whole = stretches[int(part.source.stem)]
            assert (part.asset_id, part.program_id) == (whole.asset_id, whole.program_id)
            assert part.duration_seconds >= 0.5 * 8 / len(parts) - 1e-9
            assert whole.start_seconds <= part.start_seconds
            end = part.start_seconds + part.duration_seconds
            assert end <= whole.start_seconds + whole.duration_seconds + 1e-9
    assert counts == {2, 3, 4}
    short = [ClipPart(Path("s.mp4"), 1.0, 0.5), *stretches[:1]]
    assert min(p.duration_seconds for p in draw_parts(np.random.default_rng(0), short)) <= 0.5
    with pytest.raises(ValueError, match="need as many"):
        draw_parts(np.random.default_rng(0), stretches[:1])
    assert len(draw_parts(np.random.default_rng(0), stretches, n_parts=5)) == 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: captioned_bands(share=0.9),
        lambda: reaction_split("left", share=0.1),
        lambda: rotate(60),
        lambda: slow_zoom(0.5),
        lambda: filmed_screen(1.2),
        lambda: decimate(1),
        lambda: drop_frames(1.5),
        lambda: freeze(0.0),
        lambda: fades(0.0),
    ],
)
def test_nonsense_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="must"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_keeps_one_even_size_its_input_and_the_order_of_time(name: str) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90, 160, 3)).astype(np.uint8) for _ in range(12)]
    before = [image.copy() for image in images]
    for strength in (0.0, 1.0):
        edit = KINDS[name].draw(np.random.default_rng(1), strength, [])
        runs = []
        for _ in range(2):
            context = EditContext(np.random.default_rng(2), 1.2, 10.0)
            runs.append(list(edit.apply(((n / 10, image) for n, image in enumerate(images)), context)))
        times = [seconds for seconds, _ in runs[0]]
        assert times == sorted(times)
        assert times[0] == 0
        assert times[-1] < total_seconds(edit.stretches(1.2))
        shapes = {image.shape for _, image in runs[0]}
        assert len(shapes) == 1
        assert all(side % 2 == 0 for side in next(iter(shapes))[:2])
        assert all(image.dtype == np.uint8 for _, image in runs[0])
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(*runs, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))


# --- What stands beside, and single pictures ---


def _numbered(path: Path, n_frames: int) -> Path:
    frames = (np.full((36, 64, 3), 20 + 10 * n, np.uint8) for n in range(n_frames))
    write_video(path, frames, fps=10, crf=8)
    return path


def test_a_loop_begins_where_it_is_told_and_starts_again(tmp_path: Path) -> None:
    loop = Loop(_numbered(tmp_path / "a.mp4", 10), 0.5)
    # The last frame is at 0.9; then comes the first, 0.04 s later: at 0.44 of the loop's own clock.
    for seconds, number in ((0.0, 5), (0.2, 7), (0.4, 9), (0.44, 0), (0.64, 2)):
        assert loop.at(seconds, 32, 18).mean() == pytest.approx(20 + 10 * number, abs=3)
    with pytest.raises(ValueError, match="ends before"):
        Loop(tmp_path / "a.mp4", 5.0)


def test_a_loop_of_one_frame_never_ends(tmp_path: Path) -> None:
    loop = Loop(_numbered(tmp_path / "a.mp4", 1))
    assert loop.at(0.5, 32, 18).mean() == pytest.approx(20, abs=3)


@pytest.mark.parametrize("kind", [Patterns, Talker, Card])
def test_scenes_fill_any_box_with_a_picture_of_one_s_own(kind: type) -> None:
    scene: Scene = kind(np.random.default_rng(2))
    for width, height in ((64, 36), (36, 64), (40, 40), (200, 20)):
        image = scene.at(1.0, width, height)
        assert image.shape == (height, width, 3)
        image[:] = 0
        assert scene.at(1.0, width, height).any()


def test_cover_fills_the_box_and_keeps_the_shape() -> None:
    image: Picture = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 200
    assert (cover(image, 30, 30, x=0.0) < 20).mean() > 0.95
    assert (cover(image, 30, 30, x=1.0) > 180).mean() > 0.95
    half = cover(image, 60, 30)
    assert half.shape == (30, 60, 3)
    assert (half[:, :28] == 0).all()
    assert (half[:, 32:] == 200).all()
    for width in range(2, 60, 2):
        assert cover(image, width, 34).shape == (34, width, 3)


def test_words_stay_inside_their_block() -> None:
    for words in ("a", "one two three four five six seven eight nine ten"):
        alpha = np.asarray(text_block(words, 160, 70, (255, 255, 255)))[..., 3]
        assert alpha.any()
        assert not alpha[:, [0, -1]].any()
        assert not alpha[[0, -1]].any()


def _one(edit_name: str, image: Picture, strength: float) -> Picture:
    edit = KINDS[edit_name].draw(np.random.default_rng(0), strength, [])
    context = EditContext(np.random.default_rng(1), 1.0)
    return next(edit.apply(iter([(0.0, image)]), context))[1]


def test_rotation_turns_and_leaves_no_empty_corner() -> None:
    white: Picture = np.full((90, 160, 3), 255, np.uint8)
    for degrees in (-12, -3, 5, 12, 40):
        edit = rotate(degrees)
        out = next(edit.apply(iter([(0.0, white)]), EditContext(np.random.default_rng(0), 1.0)))[1]
        assert (out == 255).all(), degrees
    bar: Picture = np.zeros((90, 160, 3), np.uint8)
    bar[43:47] = 255
    out = next(rotate(10).apply(iter([(0.0, bar)]), EditContext(np.random.default_rng(0), 1.0)))[1]
    drop = int(out[:, 130, 0].argmax()) - int(out[:, 30, 0].argmax())
    assert drop == pytest.approx(100 * np.tan(np.deg2rad(10)), abs=3)


def test_a_filmed_screen_has_a_dark_room_around_it_that_grows_with_strength() -> None:
    image: Picture = np.full((90, 160, 3), 200, np.uint8)
    weak, strong = (_one("filmed-screen", image, s) for s in (0.0, 1.0))
    shares = [(out.max(axis=2) < 70).mean() for out in (weak, strong)]
    assert 0.02 < shares[0] < shares[1] < 0.7
    assert image.std() == 0
    assert strong[40:50, 70:90].std() > 2, "moire and glare make a flat picture uneven"
