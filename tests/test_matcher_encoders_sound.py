"""matcher.encoders.sound: descriptors by matrix arithmetic, in blocks or in one go, and the words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_matcher_sound import noise, slow_patches, talk

from matcher.encoders import sound
from matcher.encoders.sound import SPEC, SoundEncoder, load_sound_encoder, shipped_sound_encoder
from matcher.encoders.whitening import Whitening
from matcher.errors import InputError
from matcher.sound import BANDS, RAW_DIMENSIONS, mel_columns


def small(seed: int = 0, d: int = 5) -> SoundEncoder:
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 0.01, RAW_DIMENSIONS).astype(np.float32)
    return SoundEncoder(Whitening(mean, rng.normal(0, 1, (RAW_DIMENSIONS, d)).astype(np.float32)))


@pytest.mark.parametrize("seconds", [2.5, 9.0])  # few rows and many are multiplied in two ways
@pytest.mark.parametrize("step", [1, 3])
def test_a_descriptor_is_the_whitened_patch_at_unit_length(seconds: float, step: int) -> None:
    columns = mel_columns(talk(1, seconds))
    for encoder in (small(), shipped_sound_encoder()):
        raw = slow_patches(columns, step)
        times, vectors = encoder.describe(columns, step=step)
        mean, projection = (
            a.astype(np.float64) for a in (encoder.whitening.mean, encoder.whitening.projection)
        )
        expected = np.array([(row - mean) @ projection for row in raw.values.astype(np.float64)])
        expected /= np.sqrt((expected**2).sum(axis=1))[:, None]
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
        # The middle of the 99 hops and one transform that a patch is made of.
        middles = [(row * 1600 + (99 * 320 + 1024) / 2) / 16000 for row in raw.rows]
        np.testing.assert_allclose(times, middles, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 130), st.integers(1, 30), st.integers(1, 60))
def test_blocks_give_what_one_go_gives(n: int, step: int, block: int) -> None:
    samples = np.concatenate([talk(2, 5.0), np.zeros(32_000, np.float32), noise(0, 1, 2.0), talk(3, 6.0)])
    columns = mel_columns(samples)[:n]
    encoder = small()
    whole = encoder.describe(columns, step=step)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sound, "_BLOCK_COLUMNS", block)  # also smaller than the step
        times, vectors = encoder.describe(columns, step=step)
    np.testing.assert_array_equal(times, whole[0])
    np.testing.assert_allclose(vectors, whole[1], atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 19])
def test_less_than_a_patch_gives_none(n: int) -> None:
    times, vectors = shipped_sound_encoder().describe(np.zeros((n, BANDS), np.float32), step=2)
    assert times.shape == (0,)
    assert vectors.shape == (0, 128)
    assert vectors.dtype == np.float32


def test_a_step_of_hours_gives_the_first_patch() -> None:
    """Longer than a block."""
    columns = mel_columns(talk(1, 4.0))
    times, vectors = small().describe(columns, step=100_000)
    np.testing.assert_allclose(times, [1.022])
    assert vectors.shape == (1, 5)


def test_the_fingerprint_changes_with_the_whitening_and_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    one, same, other = small(0), small(0), small(1)
    assert one.info == same.info
    assert (one.info.spec, one.info.d) == (SPEC, 5)
    assert one.info.fingerprint != other.info.fingerprint
    monkeypatch.setattr(sound, "REVISION", "another")
    assert replace(one).info.fingerprint != one.info.fingerprint


def test_words_name_the_shipped_model_or_a_file(tmp_path: Path) -> None:
    assert load_sound_encoder("logmel") is shipped_sound_encoder()
    assert shipped_sound_encoder().info.d == 128
    path = tmp_path / "own.safetensors"
    small(3).whitening.save(path, notes={})
    own = load_sound_encoder(f"logmel@{path}")
    assert (own.spec, own.info.d) == (f"logmel@{path}", 5)
    np.testing.assert_array_equal(own.whitening.mean, small(3).whitening.mean)


@pytest.mark.parametrize("spec", ["", "mel", "logmel@", "logmel2", "@x"])
def test_other_words_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="unknown sound model"):
        load_sound_encoder(spec)


def test_a_file_that_is_none_or_fits_other_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no whitening file"):
        load_sound_encoder(f"logmel@{tmp_path / 'none'}")
    path = tmp_path / "frames.safetensors"
    Whitening(np.zeros(7, np.float32), np.zeros((7, 2), np.float32)).save(path, notes={})
    with pytest.raises(InputError, match="7 raw dimensions; logmel has 1280"):
        load_sound_encoder(f"logmel@{path}")
