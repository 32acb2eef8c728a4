"""The contact sheet shows what it is given and stays within its size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import contact_sheet as module
from eval.contact_sheet import SheetRow, contact_sheet

RED, BLUE = (220, 30, 30), (30, 30, 220)


def _flat(tone: tuple[int, int, int], height: int = 90, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), tone, np.uint8)


def _row(**words: object) -> SheetRow:
    row = SheetRow(
        clip_image=_flat(RED),
        match_image=_flat(BLUE),
        clip_id="clip-001",
        edit="mirror",
        program_title="The Jade Court",
        clip_seconds=3.5,
        asset_id="p01-e02",
        asset_seconds=83.5,
        confidence=0.98,
        decision="linked",
        is_right=True,
    )
    return replace(row, **words)


def _none(**words: object) -> SheetRow:
    return _row(match_image=None, program_title="", asset_id="", asset_seconds=None, decision="none", **words)


def _pixels(rows: list[SheetRow], path: Path, **words: object) -> np.ndarray:
    contact_sheet(rows, path, **words)  # type: ignore[arg-type]
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image.convert("RGB")).astype(int)


def _share(pixels: np.ndarray, tone: tuple[int, int, int]) -> float:
    return float((np.abs(pixels - tone).max(axis=2) < 24).mean())


def test_clip_stands_left_and_match_right(tmp_path: Path) -> None:
    pixels = _pixels([_row()], tmp_path / "new" / "sheet.png")
    half = pixels.shape[1] // 2
    assert _share(pixels[:, :half], RED) > 0.3
    assert _share(pixels[:, half:], BLUE) > 0.3
    assert _share(pixels[:, :half], BLUE) == 0


def test_without_a_match_the_right_side_is_empty(tmp_path: Path) -> None:
    pixels = _pixels([_none()], tmp_path / "sheet.png")
    half = pixels.shape[1] // 2
    assert _share(pixels[:, :half], RED) > 0.3
    assert _share(pixels, BLUE) == 0
    assert _share(pixels[:, half:], module._EMPTY) > 0.3
    missed = _pixels([_none(is_right=False)], tmp_path / "missed.png")
    assert not np.array_equal(missed, pixels)


@pytest.mark.parametrize(
    ("words", "tone"),
    [
        ({"is_right": True}, module._GOOD),
        ({"is_right": False}, module._BAD),
        ({"is_right": True, "decision": "review"}, module._UNSURE),
        ({"is_right": None}, module._SOFT),
    ],
)
def test_the_edge_of_a_card_says_right_or_wrong(
    words: dict[str, object], tone: tuple[int, int, int], tmp_path: Path
) -> None:
    pixels = _pixels([_row(**words)], tmp_path / "sheet.png")
    edge = pixels[pixels.shape[0] // 2, module._PAD + 2]
    np.testing.assert_allclose(edge, tone, atol=8)


def test_cards_fill_lines_of_so_many_columns(tmp_path: Path) -> None:
    one = _pixels([_row()], tmp_path / "1.png", columns=3)
    five = _pixels([_row()] * 5, tmp_path / "5.png", columns=2)
    pad = module._PAD
    assert five.shape[1] - pad == 2 * (one.shape[1] - pad)
    assert five.shape[0] - pad == 3 * (one.shape[0] - pad)
    headed = _pixels([_row()], tmp_path / "h.png", heading="A heading that is far too long for it " * 9)
    assert headed.shape[0] > one.shape[0]
    assert headed.shape[1] == one.shape[1]


def test_upright_clips_keep_their_shape(tmp_path: Path) -> None:
    pixels = _pixels([_row(clip_image=_flat(RED, 160, 90))], tmp_path / "sheet.png")
    red = np.argwhere(np.abs(pixels - RED).max(axis=2) < 24)
    tall, wide = red.max(axis=0) - red.min(axis=0) + 1
    assert wide / tall == pytest.approx(9 / 16, abs=0.03)


def test_thumbnails_shrink_until_the_file_fits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 256, (180, 320, 3)).astype(np.uint8)
    rows = [_row(clip_image=noisy, match_image=noisy, edit="an edit with a very long name indeed " * 2)] * 8
    free = contact_sheet(rows, tmp_path / "free.png", max_bytes=10_000_000)
    bound = contact_sheet(rows, tmp_path / "bound.png", max_bytes=free // 2)
    assert bound <= free // 2
    assert (tmp_path / "bound.png").stat().st_size == bound
    with pytest.raises(ValueError, match="show fewer"):
        contact_sheet(rows, tmp_path / "none.png", max_bytes=2000)
    assert not (tmp_path / "none.png").exists()


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        contact_sheet([], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="rows and columns"):
        contact_sheet([_row()], tmp_path / "sheet.png", columns=0)
    with pytest.raises(ValueError, match="confidence"):
        _row(confidence=1.2)
