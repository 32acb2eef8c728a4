"""Edits do what their names say, and the truth of a written clip is what the file shows."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from eval.edits import (
    ClipPart,
    Edit,
    EditContext,
    Picture,
    TimedFrames,
    blur,
    borders,
    colour,
    crop,
    demo_edits,
    fit,
    grey_noise,
    logo_and_subtitles,
    mirror,
    mute,
    picture_in_picture,
    reaction,
    reencode,
    resample,
    speed,
    stickers,
    vertical_blur,
    vertical_crop,
    write_clip,
    write_montage,
)
from eval.video_reader import even, read_frames, read_shape, read_sound
from eval.video_writer import write_video

FPS = 10
WIDTH, HEIGHT = 160, 90


def _frame(number: int, tint: int = 0) -> Picture:
    """A smooth picture that is different at every time and nowhere symmetric."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = 128 + 100 * np.sin(x / 17 + number * 0.37 + tint)
    green = 128 + 100 * np.sin(y / 11 - number * 0.23)
    blue = (x + 2 * y + number * 4 + tint * 90) % 256 * 0.6 + 40
    return np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two films of 8 seconds with a tone that rises."""
    folder = tmp_path_factory.mktemp("sources")
    t = np.arange(8 * 16000) / 16000
    paths = []
    for tint in (0, 2):
        path = folder / f"film{tint}.mp4"
        tone = (0.4 * np.sin(2 * np.pi * (200 + 100 * tint + 50 * t) * t)).astype(np.float32)
        frames = (_frame(n, tint) for n in range(8 * FPS))
        write_video(path, frames, fps=FPS, crf=12, keyframe_interval=25, sound=tone, sound_rate_hz=16000)
        paths.append(path)
    return paths


def _run(edit: Edit, images: list[Picture], *, seed: int = 1) -> list[tuple[float, Picture]]:
    context = EditContext(np.random.default_rng(seed), len(images) / FPS)
    return list(edit.apply(((n / FPS, image) for n, image in enumerate(images)), context))


def _one(edit: Edit, image: Picture) -> Picture:
    return _run(edit, [image])[0][1]


def _all_edits(over: Path) -> list[Edit]:
    return [
        *demo_edits(np.random.default_rng(5)),
        reencode(max_side=None),
        colour(hue_degrees=90),
        stickers(9),
        mute(),
        picture_in_picture(over=over),
    ]


def test_every_edit_keeps_even_sizes_bytes_times_and_its_input(sources: list[Path]) -> None:
    images = [_frame(n) for n in range(25)]
    before = [image.copy() for image in images]
    for edit in _all_edits(sources[1]):
        out = _run(edit, images)
        assert len(out) == 25, edit.name
        for n, (seconds, image) in enumerate(out):
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[0] % 2 == 0, edit.name
            assert image.shape[1] % 2 == 0, edit.name
            assert image.shape == out[0][1].shape
            assert seconds == pytest.approx(n / FPS / edit.speed)
        again = _run(edit, images)
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(out, again, strict=True)), edit.name
    assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))


def test_demo_edits_are_distinct_and_light_ones_come_first() -> None:
    edits = demo_edits(np.random.default_rng(1))
    assert len({edit.name for edit in edits}) == len(edits) >= 14
    strengths = [edit.strength for edit in edits]
    assert strengths == sorted(strengths, key=["light", "heavy"].index)
    assert {*strengths} == {"light", "heavy"}


def test_mirror_twice_is_nothing() -> None:
    image = _frame(3)
    once = _one(mirror(), image)
    assert not np.array_equal(once, image)
    np.testing.assert_array_equal(_one(mirror(), once), image)


def test_crop_cuts_the_box_asked_for() -> None:
    image = _frame(3)
    out = _one(crop(0.5, x=0.0, y=1.0), image)
    np.testing.assert_array_equal(out, image[HEIGHT - 44 :, :80])
    np.testing.assert_array_equal(_one(crop(1.0), image), image)
    tall = _one(vertical_crop(x=1.0), image)
    assert tall.shape[:2] == (HEIGHT, even(HEIGHT * 9 / 16))
    np.testing.assert_array_equal(tall, image[:, -tall.shape[1] :])


def test_borders_leave_the_picture_as_it_is() -> None:
    image = _frame(3)
    wide = _one(borders(kind="pillarbox", share=0.2), image)
    assert wide.shape[:2] == (HEIGHT, WIDTH + 64)
    np.testing.assert_array_equal(wide[:, 32:-32], image)
    assert len(np.unique(wide[:, :32].reshape(-1, 3), axis=0)) == 1
    high = _one(borders(kind="letterbox", share=0.2), image)
    assert high.shape[:2] == (HEIGHT + 36, WIDTH)
    np.testing.assert_array_equal(high[18:-18], image)


def test_border_colours_vary_with_the_seed() -> None:
    tones = {tuple(_run(borders(), [_frame(0)], seed=seed)[0][1][0, 0].tolist()) for seed in range(12)}
    assert (0, 0, 0) in tones
    assert len(tones) > 2


def test_blurred_fill_holds_the_whole_picture_in_the_middle() -> None:
    out = _one(vertical_blur(width=160, height=284), _frame(3))
    assert out.shape == (284, 160, 3)
    np.testing.assert_array_equal(out[97:187], _frame(3))
    edge = np.abs(np.diff(out[:90].astype(int), axis=1)).mean()
    assert 0 < edge < np.abs(np.diff(_frame(3).astype(int), axis=1)).mean()


def test_colour_without_change_is_nothing_and_its_parts_do_what_they_say() -> None:
    image = _frame(3)
    np.testing.assert_array_equal(_one(colour(), image), image)
    assert _one(colour(brightness=0.5), image).mean() == pytest.approx(image.mean() / 2, abs=1)
    grey = _one(colour(saturation=0), image)
    assert int(np.ptp(grey.astype(int), axis=2).max()) <= 1
    assert _one(colour(contrast=0.5), image).std() < image.std()
    red = np.full((4, 4, 3), (200, 20, 20), np.uint8)
    np.testing.assert_allclose(_one(colour(hue_degrees=120), red)[0, 0], (20, 200, 20), atol=1)


def test_grey_noise_is_grey_and_other_in_every_frame() -> None:
    (_, first), (_, second) = _run(grey_noise(), [_frame(3), _frame(3)])
    assert int(np.ptp(first.astype(int), axis=2).max()) == 0
    assert np.abs(first.astype(int) - second).mean() > 5


def test_blur_takes_detail_away() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    assert _one(blur(1), noise).std() > _one(blur(4), noise).std() > 0
    assert (blur(1).strength, blur(4).strength) == ("light", "heavy")


def test_reencode_shrinks_but_never_enlarges() -> None:
    assert _one(reencode(max_side=80), _frame(0)).shape[:2] == (44, 80)
    assert _one(reencode(max_side=800), _frame(0)).shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize("edit", [logo_and_subtitles(), stickers(5), reaction()])
def test_decorations_cover_some_of_the_picture_and_leave_most(edit: Edit) -> None:
    images = [_frame(n) for n in range(25)]
    out = _run(edit, images)
    covered = np.mean([(a != b).any(axis=2).mean() for (_, a), b in zip(out, images, strict=True)])
    assert 0.02 < covered < 0.5


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_picture_in_picture_holds_the_clip_in_a_corner(share: float, sources: list[Path]) -> None:
    image = _frame(3)
    for over in (None, sources[1]):
        out = _one(picture_in_picture(share=share, over=over), image)
        assert out.shape == image.shape
        small = _one(reencode(max_side=even(WIDTH * share)), image)
        height, width = even(HEIGHT * share), even(WIDTH * share)
        errors = [
            np.abs(out[top : top + height, left : left + width].astype(int) - small[:height, :width]).mean()
            for top in (int(0.04 * (HEIGHT - height)), int(0.96 * (HEIGHT - height)))
            for left in (int(0.04 * (WIDTH - width)), int(0.96 * (WIDTH - width)))
            if small.shape[:2] == (height, width)
        ]
        assert min(errors, default=0) < 3


def test_picture_in_picture_starts_the_film_behind_again(sources: list[Path]) -> None:
    """A clip longer than what is behind it is no error."""
    edit = picture_in_picture(share=0.1, over=sources[0])
    out = list(
        edit.apply(
            iter([(0.0, _frame(0)), (7.9, _frame(0)), (8.05, _frame(0))]),
            EditContext(np.random.default_rng(0), 9.0),
        )
    )
    middle = [image[30:60, 40:120].astype(int) for _, image in out]
    assert np.abs(middle[2] - middle[0]).mean() < np.abs(middle[2] - middle[1]).mean()


@pytest.mark.parametrize(
    "make",
    [
        lambda: crop(0),
        lambda: picture_in_picture(share=0.95),
        lambda: speed(9),
        lambda: ClipPart(Path("x"), -1, 2),
        lambda: ClipPart(Path("x"), 0, 0),
    ],
)
def test_nonsense_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="must"):
        make()  # type: ignore[operator]


def test_fit_keeps_the_shape_of_the_picture() -> None:
    image = np.full((40, 80, 3), 200, np.uint8)
    out = fit(image, 100, 100)
    assert out.shape == (100, 100, 3)
    assert (out[25:75] == 200).all()
    assert (out[:25] == 0).all()
    assert (out[75:] == 0).all()


def test_resample_shows_the_last_picture_whose_time_has_come() -> None:
    def frames(times: list[float]) -> Iterator[tuple[float, Picture]]:
        yield from ((t, np.full((2, 2, 3), n, np.uint8)) for n, t in enumerate(times))

    def shown(times: list[float], seconds: float) -> list[int]:
        return [int(i[0, 0, 0]) for i in resample(frames(times), fps=Fraction(4), duration_seconds=seconds)]

    assert shown([0, 0.25, 0.5, 0.75], 1.0) == [0, 1, 2, 3]
    assert shown([0, 0.5], 1.0) == [0, 0, 1, 1]
    assert shown([0, 0.1, 0.2, 0.3, 0.4, 0.5], 0.75) == [0, 2, 5]
    assert shown([0.1, 0.2], 0.5) == [0, 1]
    assert shown([0, 0.25, 0.5], 0.25) == [0]
    assert shown([], 1.0) == []


def _error_at(clip: Path, source_frame: object, times: list[float]) -> float:
    """Mean difference of the clip's frames at ``times`` and what ``source_frame`` says they are."""
    errors = []
    for t in times:
        image = next(read_frames(clip, t, 99))[1]
        errors.append(np.abs(image.astype(int) - source_frame(t)).mean())  # type: ignore[operator]
    return max(errors)


def test_plain_clip_shows_the_seconds_it_says(sources: list[Path], tmp_path: Path) -> None:
    truth = write_clip(sources[0], 2.5, 3.0, [], tmp_path / "sub" / "c.mp4", seed=1, crf=12)
    (segment,) = truth.segments
    assert (segment.clip_start_seconds, segment.clip_end_seconds) == (0, 3)
    assert (segment.asset_start_seconds, segment.asset_end_seconds) == (2.5, 5.5)
    assert (segment.asset_id, segment.program_id, segment.source) == ("film0", "film0", sources[0])
    assert (truth.speed, truth.is_mirrored, truth.strength, truth.edits) == (1.0, False, "light", ())
    assert truth.duration_seconds == pytest.approx(3.0)
    assert len(list(read_frames(truth.path, 0, 99))) == 30
    times = [0.0, 0.7, 1.5, 2.9]
    assert _error_at(truth.path, lambda t: _frame(round(segment.asset_time(t) * FPS)), times) < 5
    assert _error_at(truth.path, lambda t: _frame(round(t * FPS)), times) > 20


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_speed_changes_the_length_and_the_truth(factor: float, sources: list[Path], tmp_path: Path) -> None:
    edits = [speed(factor), mirror()]
    truth = write_clip(
        sources[0], 1.0, 4.0, edits, tmp_path / "c.mp4", seed=1, crf=12, asset_id="a", program_id="p"
    )
    (segment,) = truth.segments
    assert truth.speed == factor
    assert truth.is_mirrored
    assert (segment.asset_id, segment.program_id) == ("a", "p")
    assert truth.duration_seconds == pytest.approx(4 / factor)
    assert segment.clip_end_seconds == pytest.approx(4 / factor)
    assert read_shape(truth.path).duration_seconds == pytest.approx(4 / factor, abs=0.15)
    times = [0.0, 0.4, 1.0, 1.8]
    assert _error_at(truth.path, lambda t: _frame(round(segment.asset_time(t) * FPS))[:, ::-1], times) < 5
    heard = read_sound(truth.path, 0, truth.duration_seconds, rate_hz=16000)
    crossings = np.count_nonzero(np.diff(np.sign(heard[1600:-1600])))
    plain = read_sound(sources[0], 1.0, 5.0, rate_hz=16000)
    plain_crossings = np.count_nonzero(np.diff(np.sign(plain)))
    seconds = (len(heard) - 3200) / 16000
    assert crossings / seconds == pytest.approx(factor * plain_crossings / 4, rel=0.15)


def test_montage_names_each_part(sources: list[Path], tmp_path: Path) -> None:
    parts = [ClipPart(sources[0], 1.0, 2.0), ClipPart(sources[1], 4.0, 1.5), ClipPart(sources[0], 6.0, 1.0)]
    truth = write_montage(parts, [], tmp_path / "m.mp4", seed=1, crf=12)
    assert [(s.clip_start_seconds, s.clip_end_seconds) for s in truth.segments] == [
        (0, 2),
        (2, 3.5),
        (3.5, 4.5),
    ]
    assert [s.asset_id for s in truth.segments] == ["film0", "film2", "film0"]
    assert truth.strength == "heavy"
    for segment, tint in zip(truth.segments, (0, 2, 0), strict=True):
        for t in (segment.clip_start_seconds, segment.clip_end_seconds - 0.1):
            wanted = _frame(round(segment.asset_time(t) * FPS), tint)
            shown = next(read_frames(truth.path, t, 99))[1]
            assert np.abs(shown.astype(int) - wanted).mean() < 5


def test_parts_of_other_sizes_are_fitted_into_the_first(sources: list[Path], tmp_path: Path) -> None:
    square = tmp_path / "square.mp4"
    write_video(square, (np.full((64, 64, 3), 220, np.uint8) for _ in range(20)), fps=FPS)
    parts = [ClipPart(sources[0], 0, 1), ClipPart(square, 0, 1)]
    truth = write_montage(parts, [mute()], tmp_path / "m.mp4", seed=1, max_side=80)
    frames = list(read_frames(truth.path, 0, 99))
    assert frames[0][1].shape == (44, 80, 3)
    assert frames[-1][1][22, 40].min() > 200
    assert frames[-1][1][22, 4].max() < 40
    assert not read_shape(truth.path).has_sound


def test_clip_past_the_end_is_as_long_as_there_is(sources: list[Path], tmp_path: Path) -> None:
    truth = write_clip(sources[0], 7.0, 5.0, [], tmp_path / "c.mp4", seed=1)
    assert truth.segments[0].asset_end_seconds == pytest.approx(8.0, abs=0.01)
    assert truth.duration_seconds == pytest.approx(1.0, abs=0.11)
    with pytest.raises(ValueError, match="ends before"):
        write_clip(sources[0], 9.0, 1.0, [], tmp_path / "d.mp4", seed=1)
    with pytest.raises(ValueError, match="at least one part"):
        write_montage([], [], tmp_path / "d.mp4", seed=1)


def test_same_seed_same_file_and_the_edit_asks_for_quality(sources: list[Path], tmp_path: Path) -> None:
    def write(name: str, seed: int, edits: list[Edit]) -> bytes:
        return write_clip(
            sources[0], 1, 1, edits, tmp_path / name, seed=seed, crf=20, fps=5
        ).path.read_bytes()

    assert write("a.mp4", 3, [stickers()]) == write("b.mp4", 3, [stickers()])
    assert write("a.mp4", 3, [stickers()]) != write("c.mp4", 4, [stickers()])
    assert len(write("d.mp4", 3, [reencode(crf=45, max_side=None), mute()])) < len(
        write("e.mp4", 3, [mute()])
    )


# --- The reader ---


def test_reader_gives_exactly_the_frames_of_the_stretch(sources: list[Path]) -> None:
    every = list(read_frames(sources[0], 0, 99))
    assert [t for t, _ in every] == pytest.approx([n / FPS for n in range(80)])
    for start, stop in ((0.0, 0.3), (2.4, 2.7), (3.05, 5.15), (7.9, 12.0), (9.0, 10.0)):
        some = list(read_frames(sources[0], start, stop))
        wanted = [(t, image) for t, image in every if start - 1e-3 < t < stop - 1e-3]
        assert [t for t, _ in some] == pytest.approx([t for t, _ in wanted])
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(some, wanted, strict=True))


def test_reader_counts_from_the_first_frame_whatever_the_files_clock_says(tmp_path: Path) -> None:
    """A transport stream starts at 1.4 seconds; Matroska keeps milliseconds."""
    for suffix in ("ts", "mkv"):
        path = tmp_path / f"film.{suffix}"
        write_video(path, (_frame(n) for n in range(40)), fps=FPS, crf=12, keyframe_interval=10)
        read = list(read_frames(path, 1.5, 2.0, max_side=80))
        assert [t for t, _ in read] == pytest.approx([1.5, 1.6, 1.7, 1.8, 1.9], abs=1e-3)
        assert read[0][1].shape == (44, 80, 3)
        whole = next(read_frames(path, 1.5, 2.0))[1]
        assert np.abs(whole.astype(int) - _frame(15)).mean() < 5


def test_sound_is_cut_at_the_sample_and_padded(sources: list[Path], tmp_path: Path) -> None:
    whole = read_sound(sources[0], 0, 8, rate_hz=16000)
    part = read_sound(sources[0], 3.0, 4.0, rate_hz=16000)
    assert np.corrcoef(whole[48000:64000], part)[0, 1] > 0.99
    assert (read_sound(sources[0], 7.5, 9.5, rate_hz=16000)[-8000:] == 0).all()
    silent = tmp_path / "silent.mp4"
    write_video(silent, (_frame(n) for n in range(5)), fps=FPS)
    assert (read_sound(silent, 0, 1, rate_hz=8000) == np.zeros(8000)).all()


def test_a_file_of_sound_alone_holds_no_video(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    with pytest.raises(ValueError, match="no video"):
        read_shape(tmp_path / "a.wav")


def test_writer_refuses_to_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", iter([]), fps=FPS)


def test_edits_may_be_written_as_any_function_over_frames() -> None:
    """The next kinds need nothing but a function: this one drops every other frame."""

    def every_other(frames: TimedFrames, _: EditContext) -> TimedFrames:
        return ((t, image) for n, (t, image) in enumerate(frames) if n % 2 == 0)

    assert [t for t, _ in _run(Edit("stutter", "heavy", every_other), [_frame(n) for n in range(4)])] == [
        0,
        0.2,
    ]
