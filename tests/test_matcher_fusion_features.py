"""What is known of a clip, its batch, and the embedding where nothing is trained."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from matcher.fusion.batch import ClipBatch
from matcher.fusion.features import ClipFeatures, ModalityState, parameter_free_embedding

DIMENSIONS = (3, 2, 2)
PRESENT, MISSING, SILENT, REPLACED = ModalityState


def some(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_modality_is_present_silent_or_missing() -> None:
    full = ClipFeatures(some(0, 2, 3), some(1, 1, 2), some(2, 2))
    empty = ClipFeatures(np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32), np.zeros(2, np.float32))
    names = ("picture", "sound", "text")
    assert [full.state(name) for name in names] == [PRESENT] * 3
    assert [empty.state(name) for name in names] == [SILENT] * 3
    assert [ClipFeatures().state(name) for name in names] == [MISSING] * 3
    assert ClipFeatures(np.zeros((1, 3), np.float32)).state("picture") == PRESENT
    others = replace(full, is_sound_replaced=True)
    assert [others.state(name) for name in names] == [PRESENT, REPLACED, PRESENT]


def test_features_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"picture must have 2 axes, got shape \(3,\)"):
        ClipFeatures(picture=some(0, 3))
    with pytest.raises(ValueError, match="text must have 1 axes"):
        ClipFeatures(text=some(0, 1, 3))
    with pytest.raises(ValueError, match="sound holds numbers that are not finite"):
        ClipFeatures(sound=np.full((1, 2), math.nan, np.float32))
    for sound in (None, np.zeros((0, 2), np.float32)):
        with pytest.raises(ValueError, match="no sound is there to be replaced"):
            ClipFeatures(sound=sound, is_sound_replaced=True)


def test_anothers_sound_is_in_no_embedding() -> None:
    clip = ClipFeatures(some(0, 4, 3), some(1, 2, 2), some(2, 2))
    without, others = replace(clip, sound=None), replace(clip, is_sound_replaced=True)
    embed = partial(parameter_free_embedding, dimensions=DIMENSIONS)
    np.testing.assert_array_equal(embed([others]), embed([without]))
    assert not np.array_equal(embed([clip]), embed([without]))


def test_the_embedding_joins_mean_directions() -> None:
    clips = [
        ClipFeatures(some(0, 4, 3), some(1, 2, 2), some(2, 2)),
        ClipFeatures(some(3, 1, 3), None, some(4, 2)),
        ClipFeatures(None, np.zeros((0, 2), np.float32), some(5, 2)),
        ClipFeatures(),
    ]
    got = parameter_free_embedding(clips, dimensions=DIMENSIONS)
    assert got.dtype == np.float32
    assert got.shape == (4, 7)
    for clip, row in zip(clips, got, strict=True):
        want: list[float] = []
        for found, d in zip((clip.picture, clip.sound, clip.text), DIMENSIONS, strict=True):
            rows = [] if found is None else np.atleast_2d(found).tolist()
            rows = [[v / math.sqrt(sum(u * u for u in r)) for v in r] for r in rows]
            want += [sum(r[j] for r in rows) / len(rows) if rows else 0.0 for j in range(d)]
        length = math.sqrt(sum(v * v for v in want))
        np.testing.assert_allclose(row, [v / length if length else 0.0 for v in want], atol=1e-6)
    assert (got[3] == 0).all()


def test_full_clips_compare_by_the_mean_of_their_modalities_cosines() -> None:
    a, b = (ClipFeatures(some(s, 1, 3) * 9, some(s + 1, 1, 2), some(s + 2, 2) / 9) for s in (0, 10))
    x, y = parameter_free_embedding([a, b], dimensions=DIMENSIONS)

    def cosine(u: NDArray[np.float32], v: NDArray[np.float32]) -> float:
        return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))

    assert a.picture is not None and b.picture is not None and a.sound is not None and b.sound is not None  # noqa: PT018
    assert a.text is not None and b.text is not None  # noqa: PT018
    cosines = [
        cosine(a.picture[0], b.picture[0]), cosine(a.sound[0], b.sound[0]), cosine(a.text, b.text)
    ]  # fmt: skip
    assert float(x @ y) == pytest.approx(sum(cosines) / 3, abs=1e-6)


def test_a_modality_whose_rows_disagree_counts_less() -> None:
    agreed, torn = np.array([[1, 0, 0]] * 2, np.float32), np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    sound = np.array([[0, 1]], np.float32)
    rows = parameter_free_embedding(
        [ClipFeatures(agreed, sound), ClipFeatures(torn, sound)], dimensions=DIMENSIONS
    )
    shares = np.square(rows[:, :3]).sum(axis=1)
    np.testing.assert_allclose(shares, [1 / 2, 1 / 3], atol=1e-6)  # lengths 1 and sqrt(1/2) beside 1


def test_no_clips_have_no_rows_and_frames_that_cancel_no_direction() -> None:
    assert parameter_free_embedding([], dimensions=DIMENSIONS).shape == (0, 7)
    opposite = ClipFeatures(picture=np.array([[1, 2, 3], [-1, -2, -3]], np.float32))
    assert (parameter_free_embedding([opposite], dimensions=DIMENSIONS) == 0).all()


def test_other_dimensions_are_refused() -> None:
    clips = [ClipFeatures(), ClipFeatures(some(0, 4, 3))]
    for fails in (parameter_free_embedding, ClipBatch.of):
        with pytest.raises(ValueError, match="clip 1 has a picture of 3 dimensions, wanted 5"):
            fails(clips, dimensions=(5, 2, 2))
        with pytest.raises(ValueError, match="picture, sound, text; got 2"):
            fails(clips, dimensions=(3, 2))


def test_without_a_model_torch_is_not_loaded() -> None:
    code = "import matcher.fusion.features, matcher.fusion.config, sys; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_a_batch_is_padded_and_says_where() -> None:
    clips = [
        ClipFeatures(some(0, 4, 3), some(1, 2, 2), some(2, 2)),
        ClipFeatures(some(3, 1, 3), None, np.zeros(2, np.float32)),
        ClipFeatures(None, np.zeros((0, 2), np.float32), None),
    ]
    batch = ClipBatch.of(clips, dimensions=DIMENSIONS)
    assert len(batch) == 3
    assert batch.states.tolist() == [[0, 0, 0], [0, 1, 2], [1, 2, 1]]
    assert batch.picture.shape == (3, 4, 3)
    assert batch.sound.shape == (3, 2, 2)
    assert batch.picture_mask.tolist() == [[True] * 4, [True, False, False, False], [False] * 4]
    assert batch.sound_mask.tolist() == [[True] * 2, [False] * 2, [False] * 2]
    for number, clip in enumerate(clips):
        for name in ("picture", "sound"):
            mask = getattr(batch, f"{name}_mask")[number]
            want = getattr(clip, name)
            want = np.zeros((0, getattr(batch, name).shape[2])) if want is None else want
            np.testing.assert_array_equal(getattr(batch, name)[number][mask].numpy(), want)
            assert (getattr(batch, name)[number][~mask] == 0).all()
        np.testing.assert_array_equal(batch.text[number].numpy(), 0 if clip.text is None else clip.text)


def test_a_batch_of_no_clips_or_of_nothing_has_its_axes() -> None:
    assert ClipBatch.of([], dimensions=DIMENSIONS).picture.shape == (0, 1, 3)
    nothing = ClipBatch.of([ClipFeatures()], dimensions=DIMENSIONS)
    assert nothing.sound.shape == (1, 1, 2)
    assert not nothing.sound_mask.any()


def test_a_batch_moves_with_its_masks() -> None:
    batch = ClipBatch.of([ClipFeatures(some(0, 2, 3))], dimensions=DIMENSIONS).to("cpu", torch.float64)
    assert (batch.picture.dtype, batch.text.dtype) == (torch.float64, torch.float64)
    assert (batch.picture_mask.dtype, batch.states.dtype) == (torch.bool, torch.int64)


def test_a_batch_that_contradicts_itself_is_refused() -> None:
    good = vars(ClipBatch.of([ClipFeatures(some(0, 2, 3)), ClipFeatures()], dimensions=DIMENSIONS))
    for change, said in (
        ({"picture_mask": torch.zeros(2, 2, dtype=torch.bool)}, "picture is said to be present"),
        ({"sound_mask": torch.zeros(2, 9, dtype=torch.bool)}, "sound and its mask"),
        ({"sound_mask": torch.zeros(2, 1)}, "bool, got"),
        ({"text": torch.zeros(3, 2)}, "text must be"),
        ({"states": torch.zeros(2, 2, dtype=torch.int64)}, "states must be"),
        ({"states": torch.zeros(2, 3)}, "int64"),
    ):
        with pytest.raises(ValueError, match=said):
            ClipBatch(**{**good, **change})
