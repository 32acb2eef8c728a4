"""What a clip shows is what its truth says: every frame of the source carries its own time as a colour.

The level of red, of green and of blue are the digits of the frame's number and a check digit, so one
patch of the clip is enough to read which frame it shows, wherever an edit puts it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.edit_base import Edit, Picture
from eval.edit_cameras import rotate, slow_zoom
from eval.edit_layouts import (
    borders,
    captioned_bands,
    picture_in_picture,
    reaction,
    reaction_split,
    vertical_blur,
    vertical_crop,
)
from eval.edit_menu import KINDS, draw_edits
from eval.edit_pictures import blur, crop, logo_and_subtitles, low_resolution, mirror_and_crop, reencode
from eval.edit_times import decimate, drop_frames, fades, freeze, intro, outro, reverse, speed
from eval.edits import ClipPart, ClipTruth, write_clip, write_montage
from eval.video_reader import read_frames
from eval.video_writer import write_video

FPS = 10
N_FRAMES = 64
WIDTH, HEIGHT = 160, 90

#: These change the colours themselves; see the tests that compare colours along the clip.
RECOLOURING = {"colour-filter", "strong-colour", "grey-and-grain", "fades-and-flashes", "filmed-screen"}


def _colour(number: int) -> NDArray[np.int64]:
    """Two digits of base 8 and a check digit, so that only one colour in eight is a code."""
    low, high = number % 8, number // 8
    return np.array([low, high, (3 * low + 5 * high + 1) % 8]) * 28 + 28


CODES = np.stack([_colour(n) for n in range(N_FRAMES)])


def _read(image: Picture) -> NDArray[np.int64]:
    """The frame number that each pixel shows; -1 where it is no code."""
    small = image[1::3, 1::3].astype(np.int64)
    digits = np.round((small - 28) / 28).astype(np.int64)
    is_near = (np.abs(small - 28 - digits * 28) <= 11).all(axis=2) & ((digits >= 0) & (digits < 8)).all(
        axis=2
    )
    low, high, check = digits[..., 0], digits[..., 1], digits[..., 2]
    is_code = is_near & ((3 * low + 5 * high + 1) % 8 == check)
    return np.where(is_code, low + 8 * high, -1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6.4 seconds in which every frame says which it is."""
    path = tmp_path_factory.mktemp("coded") / "coded.mp4"
    frames = (np.full((HEIGHT, WIDTH, 3), code, np.uint8) for code in CODES)
    write_video(path, frames, fps=FPS, crf=8, keyframe_interval=10)
    return path


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another video, none of whose frames is a code."""
    path = tmp_path_factory.mktemp("noise") / "noise.mp4"
    rng = np.random.default_rng(0)
    frames = (rng.integers(100, 110, (HEIGHT, WIDTH, 1)).repeat(3, 2).astype(np.uint8) for _ in range(80))
    write_video(path, frames, fps=FPS, crf=12)
    return path


def _shown(truth: ClipTruth) -> list[Picture]:
    return [image for _, image in read_frames(truth.path, 0, 99)]


def _expected(truth: ClipTruth, seconds: float) -> float | None:
    """The source frame, in fractions, that the truth says is shown; None where it claims nothing."""
    for segment in truth.segments:
        if segment.clip_start_seconds <= seconds < segment.clip_end_seconds - 1e-6:
            return segment.asset_time(seconds) * FPS
    return None


def _share(numbers: NDArray[np.int64], wanted: float, slack: float = 2.0) -> float:
    return float(((np.abs(numbers - wanted) <= slack + 1e-6) & (numbers >= 0)).mean())


def _check(truth: ClipTruth, *, least: float, max_unclaimed: float | None = None) -> int:
    """Every frame shows what the truth says; returns how many frames it claims.

    Args:
        truth: Of the clip to be read back.
        least: The share of each picture that must show the right source frame.
        max_unclaimed: The share that may look like any code where the truth claims nothing.
    """
    n_claimed = 0
    for tick, image in enumerate(_shown(truth)):
        # The middle of the time that the picture is shown would be half a frame late.
        wanted, numbers = _expected(truth, tick / FPS), _read(image)
        if wanted is not None:
            n_claimed += 1
            assert _share(numbers, wanted) >= least, (truth.edits, tick, wanted, np.unique(numbers))
        elif max_unclaimed is not None:
            assert (numbers >= 0).mean() <= max_unclaimed, (truth.edits, tick)
    return n_claimed


def _write(source: Path, edits: list[Edit], out: Path, *, seed: int = 1) -> ClipTruth:
    return write_clip(source, 0.8, 5.0, edits, out, seed=seed, crf=8, fps=FPS)


def test_the_code_can_be_read_and_a_wrong_truth_is_found(source: Path, tmp_path: Path) -> None:
    truth = _write(source, [], tmp_path / "a.mp4")
    assert _check(truth, least=0.99) == 50
    assert [int(np.median(_read(image))) for image in _shown(truth)] == list(range(8, 58))
    wrong = ClipTruth(**{**vars(truth), "segments": truth.segments[:0]})
    with pytest.raises(AssertionError):
        _check(wrong, least=0.99, max_unclaimed=0.5)
    (segment,) = truth.segments
    late = type(segment)(**{**vars(segment), "asset_start_seconds": 0.4, "asset_end_seconds": 5.4})
    with pytest.raises(AssertionError):
        _check(ClipTruth(**{**vars(truth), "segments": (late,)}), least=0.5)


@pytest.mark.parametrize(
    ("edit", "n_segments", "n_claimed"),
    [
        (speed(0.5), 1, 100),
        (speed(1.25), 1, 40),
        (speed(2.0), 1, 25),
        (freeze(0.4, 1.0), 2, 50),
        (freeze(0.6, 2.0), 2, 50),
        (freeze(0.4, 1.0, is_inserted=False), 2, 40),
        (freeze(0.7, 2.0, is_inserted=False), 2, 43),
        (reverse(), 1, 50),
        (decimate(2), 1, 50),
        (decimate(3), 1, 50),
        (drop_frames(0.5), 1, 50),
        (drop_frames(1.0), 1, 50),
    ],
    ids=lambda value: value.name if isinstance(value, Edit) else "",
)
def test_edits_of_the_clock(
    edit: Edit, n_segments: int, n_claimed: int, source: Path, tmp_path: Path
) -> None:
    truth = _write(source, [edit], tmp_path / "a.mp4")
    assert len(truth.segments) == n_segments
    assert abs(_check(truth, least=0.95) - n_claimed) <= 1
    assert len(_shown(truth)) == round(truth.duration_seconds * FPS)


def test_reversed_play_says_so_and_its_times_run_back(source: Path, tmp_path: Path) -> None:
    (segment,) = _write(source, [reverse()], tmp_path / "a.mp4").segments
    assert segment.is_reversed
    assert (segment.asset_start_seconds, segment.asset_end_seconds) == pytest.approx((0.8, 5.8))
    assert (segment.asset_time(0.0), segment.asset_time(5.0)) == pytest.approx((5.8, 0.8))
    (twice,) = _write(source, [reverse(), reverse()], tmp_path / "b.mp4").segments
    assert not twice.is_reversed
    _check(_write(source, [reverse(), reverse()], tmp_path / "b.mp4"), least=0.95)


def test_a_held_frame_that_is_inserted_makes_the_clip_longer(source: Path, tmp_path: Path) -> None:
    inserted = _write(source, [freeze(0.4, 1.5)], tmp_path / "a.mp4")
    over = _write(source, [freeze(0.4, 1.5, is_inserted=False)], tmp_path / "b.mp4")
    times = [(s.clip_start_seconds, s.clip_end_seconds, s.asset_start_seconds) for s in inserted.segments]
    np.testing.assert_allclose(times, [(0, 2, 0.8), (3.5, 6.5, 2.8)])
    times = [(s.clip_start_seconds, s.clip_end_seconds, s.asset_start_seconds) for s in over.segments]
    np.testing.assert_allclose(times, [(0, 2, 0.8), (3.5, 5.0, 4.3)])
    for truth in (inserted, over):
        held = [int(np.median(_read(image))) for image in _shown(truth)[20:35]]
        assert held in ([28] * 15, [27] * 15)


@pytest.mark.parametrize("make", [intro, outro])
@pytest.mark.parametrize("kind", ["card", "person", "patterns", "video"])
def test_what_stands_before_or_after_is_not_claimed(
    make: type, kind: str, source: Path, noise: Path, tmp_path: Path
) -> None:
    edit = make(1.5, over=noise) if kind == "video" else make(1.5, kind=kind)
    truth = _write(source, [edit], tmp_path / "a.mp4", seed=4)
    (segment,) = truth.segments
    starts_at = 1.5 if make is intro else 0.0
    assert (segment.clip_start_seconds, segment.clip_end_seconds) == (starts_at, starts_at + 5.0)
    assert (segment.asset_start_seconds, segment.asset_end_seconds) == pytest.approx((0.8, 5.8))
    assert _check(truth, least=0.95, max_unclaimed=0.3) == 50
    assert len(_shown(truth)) == 65


@pytest.mark.parametrize(
    ("edit", "least"),
    [
        (reencode(crf=20, max_side=120), 0.95),
        (low_resolution(max_side=64), 0.95),
        (crop(0.5, x=0.2, y=0.9), 0.95),
        (mirror_and_crop(0.6), 0.95),
        (blur(3), 0.95),
        (rotate(12), 0.9),
        (rotate(-5), 0.9),
        (slow_zoom(1.5), 0.95),
        (slow_zoom(1.3, x=0.9, is_in=False), 0.95),
        (vertical_crop(), 0.95),
        (vertical_blur(width=108, height=192), 0.25),
        (captioned_bands(width=108, height=192, share=0.4), 0.33),
        (captioned_bands(width=108, height=192, share=0.6, is_blurred=True), 0.5),
        (borders(share=0.3), 0.5),
        (borders(kind="pillarbox", share=0.2, is_patterned=True), 0.6),
        (picture_in_picture(share=0.35), 0.08),
        (reaction(share=0.4), 0.5),
        (reaction_split("left", share=0.4), 0.33),
        (reaction_split("right"), 0.42),
        (reaction_split("top"), 0.42),
        (reaction_split("bottom", share=0.6), 0.5),
        (logo_and_subtitles(), 0.5),
    ],
    ids=lambda value: value.name if isinstance(value, Edit) else "",
)
def test_edits_of_the_picture_leave_the_clock_alone(
    edit: Edit, least: float, source: Path, tmp_path: Path
) -> None:
    truth = _write(source, [edit], tmp_path / "a.mp4")
    assert _check(truth, least=least) == 50


def test_other_videos_stand_beside_and_behind(source: Path, noise: Path, tmp_path: Path) -> None:
    edits = [
        picture_in_picture(share=0.4, over=noise, over_start_seconds=7.0),
        reaction_split("right", over=noise),
        reaction(over=noise),
    ]
    for edit in edits:
        truth = _write(source, [edit], tmp_path / "a.mp4")
        assert _check(truth, least=0.1) == 50
        grey = np.mean([(np.ptp(image.astype(int), axis=2) < 12).mean() for image in _shown(truth)])
        assert 0.1 < grey < 0.95, edit.name


@pytest.mark.parametrize("name", sorted(set(KINDS) - RECOLOURING))
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_every_kind_at_both_ends(
    name: str, strength: float, source: Path, noise: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(sum(name.encode()))
    edit = KINDS[name].draw(rng, strength, [noise])
    truth = _write(source, [edit], tmp_path / "a.mp4")
    assert _check(truth, least=0.08) >= 20


def _colours_along(truth: ClipTruth, point: tuple[float, float] = (0.5, 0.5)) -> NDArray[np.float64]:
    """The colour around one point of every picture."""
    found = []
    for image in _shown(truth):
        y, x = (int(share * side) for share, side in zip(point, image.shape[:2], strict=True))
        found.append(image[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3).mean(axis=0))
    return np.array(found)


def _misfit(truth: ClipTruth, late_seconds: float) -> float:
    """How badly a fixed change of colours explains the clip, if it were late by so much; in grey levels."""
    numbers = np.array([_expected(truth, tick / FPS) for tick in range(50)], float) - late_seconds * FPS
    wanted = CODES[np.clip(np.round(numbers), 0, N_FRAMES - 1).astype(int)]
    seen = _colours_along(truth)
    inputs = np.column_stack([wanted, np.ones(50)])
    weights = np.linalg.lstsq(inputs, seen, rcond=None)[0]
    return float(np.sqrt(((inputs @ weights - seen) ** 2).mean()))


@pytest.mark.parametrize("name", sorted(RECOLOURING - {"fades-and-flashes"}))
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_edits_of_the_colour_leave_the_clock_alone(
    name: str, strength: float, source: Path, tmp_path: Path
) -> None:
    """One linear change of colours explains all pictures at the true times, and at no others."""
    edit = KINDS[name].draw(np.random.default_rng(3), strength, [])
    truth = _write(source, [edit], tmp_path / "a.mp4")
    right = _misfit(truth, 0.0)
    for late in (-0.4, -0.3, -0.2, 0.2, 0.3, 0.4):
        assert right < 0.6 * _misfit(truth, late), (edit.name, right, late)


def test_fades_darken_the_ends_flashes_brighten_and_the_clock_goes_on(source: Path, tmp_path: Path) -> None:
    truth = _write(source, [fades(0.6, flashes=(0.5,))], tmp_path / "a.mp4")
    images = _shown(truth)
    untouched = [*range(6, 24), *range(27, 44)]
    for tick in untouched:
        assert (_read(images[tick]) == 8 + tick).mean() > 0.95
    assert images[0].mean() < 3
    # The last picture stands 0.1 s before the end, a sixth of the fade.
    assert images[49].mean() == pytest.approx(CODES[57].mean() / 6, abs=5)
    assert images[25].mean() > 250
    plain = _shown(_write(source, [fades(0.6, is_in=False, is_out=False)], tmp_path / "b.mp4"))
    assert (_read(plain[0]) == 8).mean() > 0.95


@pytest.mark.parametrize("seed", range(24))
def test_random_compositions(seed: int, source: Path, noise: Path, tmp_path: Path) -> None:
    """Whatever is drawn together, the truth holds; at least a few pixels show the right frame."""
    rng = np.random.default_rng(seed)
    edits: list[Edit] = []
    while not edits:
        names, drawn = draw_edits(rng, int(rng.integers(2, 6)), others=[noise])
        edits = [] if RECOLOURING & set(names) else drawn
    truth = _write(source, edits, tmp_path / "a.mp4", seed=seed)
    assert _check(truth, least=0.03) >= 15
    for one, other in zip(truth.segments, truth.segments[1:], strict=False):
        assert one.clip_end_seconds <= other.clip_start_seconds + 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_random_compositions_of_the_clock(seed: int, source: Path, noise: Path, tmp_path: Path) -> None:
    """Any chain of edits of the clock, in any order and each more than once."""
    rng = np.random.default_rng(seed)
    pool = [
        speed(0.6), speed(1.5), freeze(0.3, 0.7), freeze(0.6, 0.8, is_inserted=False), reverse(),
        intro(1.0, over=noise), outro(0.7, over=noise),
    ]  # fmt: skip
    edits = [pool[int(n)] for n in rng.integers(0, len(pool), 4)]
    truth = _write(source, edits, tmp_path / "a.mp4", seed=seed)
    assert _check(truth, least=0.9) >= 15
    assert len(_shown(truth)) == pytest.approx(truth.duration_seconds * FPS, abs=1)


def test_montage_of_coded_parts_with_a_held_frame(source: Path, tmp_path: Path) -> None:
    parts = [ClipPart(source, 3.0, 1.5, "b"), ClipPart(source, 0.5, 2.0, "a")]
    edits = [freeze(0.5, 1.0), speed(0.8), intro(1.0)]
    truth = write_montage(parts, edits, tmp_path / "m.mp4", seed=2, crf=8, fps=FPS)
    assert [s.asset_id for s in truth.segments] == ["b", "a", "a"]
    assert truth.segments[0].clip_start_seconds == 1.0
    assert _check(truth, least=0.9) >= 40


def test_same_seed_same_file_for_every_kind(source: Path, noise: Path, tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        files = []
        for copy in range(2):
            edit = kind.draw(np.random.default_rng(5), 0.5, [noise])
            out = tmp_path / f"{name}-{copy}.mp4"
            write_clip(source, 1.0, 1.2, [edit], out, seed=9, fps=FPS, max_side=96)
            files.append(out.read_bytes())
        assert files[0] == files[1], name
