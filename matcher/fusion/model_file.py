"""A clip model as a file, with its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matcher.encoders.net_file import load_net, save_net
from matcher.fusion.clip_model import ClipModel
from matcher.fusion.config import ClipModelConfig

#: Raise it when the same numbers would give other embeddings, so that older files are refused.
REVISION = "2"
_KEY = "clip_model"


def save_clip_model(model: ClipModel, path: Path, *, notes: Mapping[str, str]) -> None:
    """Write the file in one step; see :func:`~matcher.encoders.net_file.save_net`.

    Raises:
        ValueError: A note takes the configuration's place.
    """
    words = {"config": model.config.to_words()}
    save_net(model, path, key=_KEY, revision=REVISION, words=words, notes=notes)


def load_clip_model(path: Path) -> ClipModel:
    """Read what :func:`save_clip_model` wrote, as a model on the CPU that is not in training.

    Raises:
        InputError: There is no such file, it is no clip model, it is of another version of the program, or
            its numbers are not finite.
    """
    return load_net(
        path,
        lambda words: ClipModel(ClipModelConfig.of_words(words["config"])),
        key=_KEY,
        revision=REVISION,
        maker="`matcher train`",
    )
