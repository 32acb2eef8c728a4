"""A clip model as a file: its numbers as safetensors, its configuration in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from index.files import write_atomically
from matcher.errors import InputError
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.config import ClipModelConfig

#: Raise it when the same numbers would give other embeddings, so that older files are refused.
REVISION = "1"
_KEY = "clip_model"


def save_clip_model(model: ClipModel, path: Path, *, notes: Mapping[str, str]) -> None:
    """Write the file in one step: after a crash the old one is there, or the new one.

    Args:
        model: On any device.
        path: The file.
        notes: How the model was made, and what it measured.

    Raises:
        ValueError: A note takes the configuration's place.
    """
    from safetensors.torch import save

    if _KEY in notes:
        raise ValueError(f"a note cannot be called {_KEY!r}: the configuration is")
    words = json.dumps({"revision": REVISION, "config": model.config.to_words()})
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, save(tensors, metadata={**notes, _KEY: words}))


def load_clip_model(path: Path) -> ClipModel:
    """Read what :func:`save_clip_model` wrote, as a model on the CPU that is not in training.

    Raises:
        InputError: There is no such file, it is no clip model, it is of another version of the program, or
            its numbers are not finite.
    """
    if not path.is_file():
        raise InputError(f"no clip model {str(path)!r}; give a file that `matcher train` wrote")
    try:
        words, tensors = _read(path)
        if words["revision"] != REVISION:
            raise InputError(f"{path} is a clip model of another version of the program; train it again")
        model = ClipModel(ClipModelConfig.of_words(words["config"]))
        model.load_state_dict(tensors)
    except InputError:
        raise
    except Exception as error:  # parsing raises anything on a foreign file
        raise InputError(
            f"{path} is no clip model that can be read ({error}); wanted a safetensors file with its"
            " configuration, as `matcher train` writes it"
        ) from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise InputError(f"{path} holds numbers that are not finite; train it again")
    return model.eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The configuration's words and the tensors by name."""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        words: dict[str, Any] = json.loads(file.metadata()[_KEY])
        return words, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
