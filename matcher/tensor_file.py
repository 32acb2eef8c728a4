"""Numbers and words in one safetensors file, the words as JSON in its metadata; no torch is needed.

What cannot be read is refused as a file of ``matcher train categories``, which writes those packed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.errors import InputError
from matcher.inputs import one_line


def pack(key: str, revision: str, words: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file with ``words`` under ``key`` of its metadata."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return save(contiguous, metadata={key: json.dumps({"revision": revision, **words})})


def unpack(
    key: str, revision: str, content: bytes, name: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """The words and tensors that :func:`pack` took.

    Raises:
        InputError: It is no such file, or of another version of the program.
    """
    from safetensors.numpy import load

    try:
        tensors = load(content)
        words: dict[str, Any] = json.loads(metadata_of(content)[key])
        found = words.pop("revision")
    except Exception as error:  # parsing raises anything on a foreign file
        raise unreadable(name, error) from error
    if found != revision:
        raise InputError(f"{name} is of another version of the program; run: matcher train categories")
    return words, tensors


def metadata_of(content: bytes) -> dict[str, str]:
    """The words of a safetensors file: in its JSON header, whose length the first eight bytes say."""
    n = int.from_bytes(content[:8], "little")
    words: dict[str, str] = json.loads(content[8 : 8 + n]).get("__metadata__") or {}
    return words


def read_file(path: Path, what: str) -> bytes:
    """The content of ``path``.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the {what} {one_line(str(path))} ({error.strerror}); give one that"
            " `matcher train categories` wrote"
        ) from error


def unreadable(name: str, error: Exception) -> InputError:
    """The refusal of a damaged or foreign file."""
    return InputError(
        f"{name} cannot be read ({one_line(str(error))}); wanted a safetensors file as"
        " `matcher train categories` writes it"
    )
