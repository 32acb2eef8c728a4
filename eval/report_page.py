"""What the report of a run has beyond :mod:`matcher.page`: pictures, and shares with their intervals."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from matcher.page import percent, text

_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def image(data: bytes, description: str) -> str:
    """A PNG or JPEG file as an element that holds it.

    Args:
        data: The file's bytes.
        description: For those who do not see it.

    Returns:
        HTML.

    Raises:
        ValueError: The bytes are of another kind.
    """
    kind = next((name for head, name in _TYPES.items() if data.startswith(head)), None)
    if kind is None:
        raise ValueError(f"a picture must be a PNG or JPEG file, got bytes that begin with {data[:4]!r}")
    return f'<img alt="{text(description)}" src="data:{kind};base64,{base64.b64encode(data).decode()}">'


def share_cell(share: Mapping[str, Any]) -> str:
    """A share with its interval and its count below it."""
    if share["share"] is None:
        return "–"
    low, high = 100 * share["low"], 100 * share["high"]
    counts = f"{low:.1f}–{high:.1f} · {share['right']} of {share['of']}"
    return f"{percent(share['share'])}<small>{counts}</small>"


def is_share(value: object) -> bool:
    """Whether a figure has the form that :func:`share_cell` shows."""
    return isinstance(value, Mapping) and {"right", "of", "share", "low", "high"} <= set(value)
