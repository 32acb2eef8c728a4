"""A torch net as a file: its numbers as safetensors, and what it is built from in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from index.files import write_atomically
from matcher.errors import InputError

Net = TypeVar("Net", bound=nn.Module)


def save_net(
    net: nn.Module, path: Path, *, key: str, revision: str, words: Mapping[str, Any], notes: Mapping[str, str]
) -> None:
    """Write the file in one step: after a crash the old one is there, or the new one.

    The same net and words give the same bytes.

    Args:
        net: On any device.
        path: The file.
        key: Says what kind of net it is: "clip_model".
        revision: As :func:`load_net` wants it.
        words: What the net is built from; JSON values.
        notes: How it was made, and what it measured.

    Raises:
        ValueError: A note takes the place of the words.
    """
    from safetensors.torch import save

    if key in notes:
        raise ValueError(f"a note cannot be called {key!r}: what the net is built from is")
    own = json.dumps({"revision": revision, **words}, ensure_ascii=False)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_atomically(path, _in_order(save(tensors, metadata={**notes, key: own})))


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its words by name: safetensors writes them in an order that changes."""
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[8 + n :]


def load_net(
    path: Path, build: Callable[[Mapping[str, Any]], Net], *, key: str, revision: str, maker: str
) -> Net:
    """Read what :func:`save_net` wrote, as a net on the CPU that is not in training.

    Args:
        path: The file.
        build: Makes the net of its words; its numbers are then filled in.
        key: What kind of net is wanted; messages say it with spaces.
        revision: Of the file; another one is refused.
        maker: What writes such files, for messages.

    Raises:
        InputError: There is no such file, it is no net of this kind, it is of another version of the
            program, or its numbers are not finite.
    """
    kind = key.replace("_", " ")
    if not path.is_file():
        raise InputError(f"no {kind} {str(path)!r}; give a file that {maker} wrote")
    try:
        words, tensors = _read(path, key)
        if words["revision"] != revision:
            raise InputError(f"{path} is a {kind} of another version of the program; train it again")
        net = build(words)
        net.load_state_dict(tensors)
    except InputError:
        raise
    except Exception as error:  # parsing raises anything on a foreign file
        # What torch says of tensors that do not fit comes in several lines.
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} is no {kind} that can be read ({said}); wanted a safetensors file as {maker} writes it"
        ) from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise InputError(f"{path} holds numbers that are not finite; train it again")
    return net.eval()


def _read(path: Path, key: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The words and the tensors by name."""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        words: dict[str, Any] = json.loads(file.metadata()[key])
        return words, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
