"""One picture that shows results at a glance: each clip's frame beside the frame it was matched with.

The file stays small enough for a README: the thumbnails shrink until it fits.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_PAPER: Colour = (250, 249, 246)
_CARD: Colour = (255, 255, 255)
_RULE: Colour = (222, 219, 212)
_INK: Colour = (28, 30, 34)
_SOFT: Colour = (112, 114, 120)
_EMPTY: Colour = (238, 236, 231)
_GOOD: Colour = (24, 128, 72)
_BAD: Colour = (196, 44, 44)
_UNSURE: Colour = (178, 116, 14)
_THUMB_WIDTHS = (208, 192, 176, 160, 144, 128, 112, 96, 80)
_PAD = 10
_LINE = 17
_SIZE = 13


@dataclass(frozen=True)
class SheetRow:
    """One clip and what became of it.

    Attributes:
        clip_image: (h, w, 3) uint8, a frame of the clip.
        match_image: (h, w, 3) uint8, the program's frame at the matched time; None if nothing matched.
        clip_id: The clip's name.
        edit: What was done to the clip.
        program_title: Of the matched program; "" if nothing matched.
        clip_seconds: When in the clip ``clip_image`` is.
        asset_id: The matched file; "" if nothing matched.
        asset_seconds: When in the matched file ``match_image`` is; None if nothing matched.
        confidence: In [0, 1].
        decision: "linked", "review" or "none".
        is_right: Whether the answer agrees with the truth; None where the truth is not known.
        verdict: What the card says of that; "" for a plain right or wrong.
    """

    clip_image: NDArray[np.uint8]
    match_image: NDArray[np.uint8] | None
    clip_id: str
    edit: str
    program_title: str
    clip_seconds: float
    asset_id: str
    asset_seconds: float | None
    confidence: float
    decision: str
    is_right: bool | None
    verdict: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence must be in [0, 1], got {self.confidence}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _shorten(text: str, width: float, size: int) -> str:
    """``text`` cut to ``width`` pixels, with three dots where it was."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _thumb(image: NDArray[np.uint8] | None, width: int, message: str = "") -> Image.Image:
    """A 16:9 tile with the whole picture in it; grey with a message where there is none."""
    height = width * 9 // 16
    tile = Image.new("RGB", (width, height), _EMPTY)
    if image is None:
        ImageDraw.Draw(tile).multiline_text(
            (width / 2, height / 2), message, fill=_SOFT, font=_font(12), anchor="mm", align="center"
        )
        return tile
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    tile.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return tile


def _mark(row: SheetRow) -> tuple[str, Colour]:
    if row.is_right is None:
        word, tone = "unchecked", _SOFT
    elif not row.is_right:
        word, tone = "wrong", _BAD
    else:
        word, tone = ("right, for review", _UNSURE) if row.decision == "review" else ("right", _GOOD)
    return row.verdict or word, tone


def _card(row: SheetRow, thumb: int) -> Image.Image:
    """Two thumbnails, three lines of captions, and a coloured edge that says right or wrong."""
    tall, inner = thumb * 9 // 16, 2 * thumb + 6
    card = Image.new("RGB", (inner + 2 * _PAD + 4, tall + 3 * _LINE + 2 * _PAD + 6), _CARD)
    draw = ImageDraw.Draw(card)
    mark, tone = _mark(row)
    draw.rectangle((0, 0, card.width - 1, card.height - 1), outline=_RULE)
    draw.rectangle((0, 0, 4, card.height - 1), fill=tone)
    left, top = _PAD + 4, _PAD
    card.paste(_thumb(row.clip_image, thumb), (left, top))
    # The embedded font has no dashes.
    empty = "no match found:\nnone" if row.is_right is False else "not in the catalogue:\nnone"
    card.paste(_thumb(row.match_image, thumb, empty), (left + thumb + 6, top))

    second = left + thumb + 6
    lines = [top + tall + 6 + k * _LINE for k in range(3)]
    title = row.program_title if row.match_image is not None else "no program"
    at = "" if row.asset_seconds is None else f"{row.asset_id} at {_clock(row.asset_seconds)}"
    for x, y, text, ink, size in (
        (left, lines[0], row.clip_id, _INK, _SIZE),
        (left, lines[1], row.edit, _SOFT, _SIZE - 1),
        (left, lines[2], f"at {_clock(row.clip_seconds)}", _SOFT, _SIZE - 1),
        (second, lines[0], title, _INK, _SIZE),
        (second, lines[1], at, _SOFT, _SIZE - 1),
    ):
        draw.text((x, y), _shorten(text, thumb - 2, size), fill=ink, font=_font(size))
    verdict = f"{row.decision} {row.confidence:.2f}"
    draw.text((second, lines[2]), verdict, fill=_INK, font=_font(_SIZE - 1))
    draw.text((left + inner, lines[2]), mark, fill=tone, font=_font(_SIZE - 1), anchor="ra")
    return card


def _sheet(rows: Sequence[SheetRow], columns: int, thumb: int, heading: str) -> Image.Image:
    cards = [_card(row, thumb) for row in rows]
    wide, high = cards[0].size
    n_lines = -(-len(cards) // columns)
    columns = min(columns, len(cards))
    top = _PAD + (34 if heading else 0)
    sheet = Image.new("RGB", (columns * (wide + _PAD) + _PAD, top + n_lines * (high + _PAD)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        draw.text(
            (_PAD + 2, _PAD + 2), _shorten(heading, sheet.width - 3 * _PAD, 18), fill=_INK, font=_font(18)
        )
    for number, card in enumerate(cards):
        line, column = divmod(number, columns)
        sheet.paste(card, (_PAD + column * (wide + _PAD), top + line * (high + _PAD)))
    return sheet


def _to_palette(sheet: Image.Image) -> Image.Image:
    """256 colours: the layout's own as they are, the rest for the pictures, with dithering."""
    own = [_PAPER, _CARD, _RULE, _INK, _SOFT, _EMPTY, _GOOD, _BAD, _UNSURE]
    found = sheet.quantize(256 - len(own), method=Image.Quantize.FASTOCTREE).getpalette() or []
    found = found[: 3 * (256 - len(own))]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for tone in own for value in tone] + found)
    return sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def contact_sheet(
    rows: Sequence[SheetRow],
    path: Path,
    *,
    columns: int = 3,
    heading: str = "",
    max_bytes: int = 700_000,
) -> int:
    """Write the sheet as a PNG of 256 colours.

    Args:
        rows: What to show, in order.
        path: Where to; its folder is made.
        columns: Cards side by side.
        heading: One line above the cards; "" for none.
        max_bytes: The thumbnails shrink until the file is at most this large.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: There is no row, or so many that not even small thumbnails fit.
    """
    if not rows or columns < 1:
        raise ValueError(f"a contact sheet needs rows and columns, got {len(rows)} and {columns}")
    for thumb in _THUMB_WIDTHS:
        buffer = io.BytesIO()
        _to_palette(_sheet(rows, columns, thumb, heading)).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= max_bytes:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())
            return buffer.tell()
    raise ValueError(f"{len(rows)} rows do not fit into {max_bytes} bytes; show fewer")
