"""matcher.listen: pieces of a sound to one look, in time order whatever the pieces are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_matcher_decode_sound import Track, listen, write
from test_matcher_encoders_sound import small
from test_matcher_sound import talk

from matcher.config import SoundSettings
from matcher.decode_sound import SoundPiece
from matcher.encoders.scene import load_scene_encoder
from matcher.encoders.sound import shipped_sound_encoder
from matcher.errors import InputError
from matcher.listen import Listener, listener_of, scenes_of
from matcher.sound import BANDS, mel_columns

COLUMNS = mel_columns(talk(1, 12.0))
LISTENER = Listener(small(), 2)


def test_a_look_is_the_descriptors_at_their_times_from_the_first_frame() -> None:
    pieces = [SoundPiece(0.25, COLUMNS[:50]), SoundPiece(9.0, COLUMNS[50:])]
    look = LISTENER.look(pieces)
    assert (look.view, look.kind) == ("sound", "sound")
    (t_one, one), (t_two, two) = (LISTENER.encoder.describe(p.columns, step=2) for p in pieces)
    np.testing.assert_array_equal(look.t_seconds, [*(t_one + 0.25), *(t_two + 9.0)])
    np.testing.assert_array_equal(look.vectors, np.concatenate([one, two]))
    assert len(look) > 40


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.one_of(st.floats(-20, 20), st.sampled_from([-1e8, 0.0, 1e8])), st.integers(0, 90)),
        max_size=6,
    ),
    st.integers(1, 12),
)
def test_times_increase_strictly_and_begin_after_the_first_frame(
    cuts: list[tuple[float, int]], step: int
) -> None:
    """Whatever overlaps: a patch is there unless it is before the first frame or one that came earlier."""
    listener = Listener(small(), step)
    pieces = [SoundPiece(start, COLUMNS[:n]) for start, n in sorted(cuts)]
    look = listener.look(pieces)
    expected: list[float] = []
    rows = []
    for piece in pieces:
        for t_seconds, vector in zip(*listener.encoder.describe(piece.columns, step=step), strict=True):
            if t_seconds + piece.start_seconds > max([0.0, *expected]):
                expected.append(t_seconds + piece.start_seconds)
                rows.append(vector)
    np.testing.assert_array_equal(look.t_seconds, expected)
    np.testing.assert_array_equal(look.vectors, np.array(rows).reshape(-1, 5))
    assert (np.diff(look.t_seconds) > 0).all()


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [SoundPiece(0.0, np.zeros((0, BANDS), np.float32))],
        [SoundPiece(0.0, COLUMNS[:19])],
        [SoundPiece(0.0, mel_columns(np.zeros(160_000, np.float32)))],
        [SoundPiece(-100.0, COLUMNS)],
    ],
    ids=["no track", "no column", "less than a patch", "silence", "before the first frame"],
)
def test_what_says_nothing_is_a_look_without_rows(pieces: list[SoundPiece]) -> None:
    look = Listener(shipped_sound_encoder(), 5).look(pieces)
    assert len(look) == 0
    assert look.vectors.shape == (0, 128)
    assert look.vectors.dtype == np.float32
    assert look.kind == "sound"


def test_a_file_is_heard_from_its_first_frame_on(tmp_path: Path) -> None:
    """A silent one gives no row, one whose sound begins before the pictures none before them."""
    listener = Listener(shipped_sound_encoder(), 5)
    assert len(listener.look(listen(write(tmp_path / "none.mkv"))[0])) == 0
    silent = Track([(0.0, np.zeros(48000 * 8, np.float32))])
    assert len(listener.look(listen(write(tmp_path / "silent.mkv", [silent]))[0])) == 0
    talking = Track([(0.0, talk(1, 8.0, 48000))])
    on_time = listener.look(listen(write(tmp_path / "a.mkv", [talking]))[0])
    early = listener.look(listen(write(tmp_path / "b.mkv", [talking], video_start=3.0))[0])
    np.testing.assert_allclose(early.t_seconds, on_time.t_seconds[on_time.t_seconds > 3] - 3, atol=1e-6)
    np.testing.assert_allclose(early.vectors, on_time.vectors[on_time.t_seconds > 3], atol=1e-4)
    assert early.t_seconds[0] < 0.5


def test_the_mark_changes_with_model_and_step() -> None:
    marks = {Listener(small(seed), step).mark for seed in (0, 1) for step in (2, 5)}
    assert len(marks) == 4
    assert Listener(small(0), 2).mark in marks


@pytest.mark.parametrize(("hop", "step"), [(0.1, 1), (0.2, 2), (0.24, 2), (0.26, 3), (0.5, 5), (10.0, 100)])
def test_the_settings_hop_is_a_whole_number_of_columns(hop: float, step: int) -> None:
    listener = listener_of(SoundSettings(), hop)
    assert listener is not None
    assert listener.step == step
    assert listener.encoder is shipped_sound_encoder()


def test_nobody_listens_where_sound_is_off_and_an_unknown_model_is_refused() -> None:
    assert listener_of(SoundSettings(enabled=False, spec="none such"), 0.5) is None
    with pytest.raises(InputError, match="unknown sound model"):
        listener_of(SoundSettings(spec="none such"), 0.5)


# ---------------------------------------------------------------- scenes


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-20, 20), st.integers(0, 90), st.booleans()), max_size=6),
)
def test_scenes_are_those_of_the_seconds_that_hold_their_middles(
    cuts: list[tuple[float, int, bool]],
) -> None:
    """None of silence, none before the first frame, and of two in one second the first that was heard."""
    quiet = np.full((90, BANDS), np.log(1e-9), np.float32)
    encoder = load_scene_encoder()
    pieces = [SoundPiece(start, (quiet if is_quiet else COLUMNS)[:n]) for start, n, is_quiet in sorted(cuts)]
    taken: list[int] = []
    wanted = {}
    for piece in pieces:
        for number, row in enumerate(encoder.describe(piece.columns)):
            second = math.floor(piece.start_seconds + number + 0.5)
            if second < 0 or second <= max(taken, default=-1):
                continue
            if row.any():
                wanted[second] = row
        taken += [math.floor(piece.start_seconds + i + 0.5) for i in range(-(-len(piece.columns) // 10))]
    seconds, vectors = scenes_of(encoder, pieces)
    assert seconds.tolist() == sorted(wanted)
    assert vectors.shape == (len(wanted), 64)
    assert all(np.array_equal(row, wanted[second]) for second, row in zip(seconds, vectors, strict=True))
