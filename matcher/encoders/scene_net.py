"""The trainable scene encoder: a small convolutional net over log-mel columns.

Shape letters: ``n`` sounds, ``c`` columns, ``b`` = 64 bands, ``s`` seconds, ``d`` = 64, ``k`` classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from matcher.encoders.base import ModelInfo, fingerprint
from matcher.encoders.net_file import load_net, save_net
from matcher.encoders.scene import COLUMNS_A_SECOND, D, whole_seconds

#: Raise it when the same numbers would give other vectors, so that older files are refused.
REVISION = "1"
_KEY = "scene_net"
#: Columns to both sides whose loudest is what levels are measured from.
_LEVEL_COLUMNS = 15
#: Nepers of power: what is so far below is as good as nothing; and what a unit of the input is.
_DEEPEST, _UNIT = 10.0, 4.0
#: Seconds at a time, and to both sides besides: more than the 11 columns that a vector sees there.
_BLOCK_SECONDS, _BESIDE_SECONDS = 300, 2


class SceneNet(nn.Module):
    """Levels → a vector a second, and the classes' logits.

    Three convolutions over time and bands, two over time alone, and of each second's ten columns the mean and
    the maximum. A vector sees its second and 1.1 s to both sides.

    Args:
        classes: What the seconds are told apart by, k of them.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.over_bands = nn.Sequential(*_step(1, 16), *_step(16, 32), *_step(32, 32))
        self.over_time = nn.Sequential(
            nn.Conv1d(32 * 8, D, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(D, D, 5, padding=6, dilation=3),
            nn.GELU(),
        )
        self.project = nn.Sequential(nn.Linear(2 * D, D), nn.LayerNorm(D, elementwise_affine=False))
        self.head = nn.Linear(D, len(self.classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 10 s, b) from :func:`levels` → (n, s, d)."""
        n, c, _ = x.shape
        # (n, channels, c, 8) → (n, channels * 8, c)
        bands = self.over_bands(x.unsqueeze(1)).transpose(2, 3).reshape(n, -1, c)
        columns = self.over_time(bands).reshape(n, D, c // COLUMNS_A_SECOND, COLUMNS_A_SECOND)
        pooled = torch.cat([columns.mean(dim=3), columns.amax(dim=3)], dim=1)
        vectors: torch.Tensor = self.project(pooled.transpose(1, 2))
        return vectors

    def logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """(…, d) → (…, k)."""
        out: torch.Tensor = self.head(vectors)
        return out


def _step(before: int, after: int) -> tuple[nn.Module, ...]:
    # Half as many bands after it.
    return nn.Conv2d(before, after, 3, stride=(1, 2), padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()


def levels(filled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns as the net takes them: below the loudest near them, so that a gain does not show.

    Args:
        filled: (c, b), of whole seconds.

    Returns:
        (c, b) from -2.5 to about 1 or 2.
    """
    if len(filled) == 0:
        return filled
    loudness = np.pad(filled.mean(axis=1), _LEVEL_COLUMNS, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(loudness, 2 * _LEVEL_COLUMNS + 1).max(axis=1)
    below = np.maximum(filled - near[:, None], -_DEEPEST) / _UNIT
    return np.ascontiguousarray(below, dtype=np.float32)


class TrainedScene:
    """A :class:`~matcher.encoders.scene.SceneEncoder` around a :class:`SceneNet`, on the CPU.

    Args:
        net: The net.
        spec: The words that chose it.
    """

    def __init__(self, net: SceneNet, spec: str) -> None:
        self.net = net.eval()
        weights = (value.detach().cpu().contiguous().numpy().tobytes() for value in net.state_dict().values())
        mark = fingerprint(["scene-net", REVISION, *net.classes, *weights])
        self.info = ModelInfo(spec, mark, D)

    def describe(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """(c, 64) log-mel columns → (s, 64), a row a begun second; zeros where it is silent."""
        filled, silent = whole_seconds(columns)
        x = torch.from_numpy(levels(filled))
        vectors = np.zeros((len(silent), D), np.float32)
        for start in range(0, len(silent), _BLOCK_SECONDS):
            stop = min(start + _BLOCK_SECONDS, len(silent))
            first, last = max(0, start - _BESIDE_SECONDS), min(len(silent), stop + _BESIDE_SECONDS)
            with torch.inference_mode():
                out = self.net(x[None, first * COLUMNS_A_SECOND : last * COLUMNS_A_SECOND])[0]
            vectors[start:stop] = out[start - first : stop - first].numpy()
        vectors[silent] = 0.0
        return vectors

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(s, 64) of :meth:`describe` → (s, k) of the net's classes, which add up to 1; zeros of silence."""
        with torch.inference_mode():
            shares = self.net.logits(torch.from_numpy(vectors)).softmax(dim=1).numpy()
        told: NDArray[np.float32] = np.where(vectors.any(axis=1, keepdims=True), shares, np.float32(0))
        return told


def save_scene_net(net: SceneNet, path: Path, *, notes: Mapping[str, str]) -> None:
    """Write the file in one step; see :func:`~matcher.encoders.net_file.save_net`."""
    words = {"classes": net.classes}
    save_net(net, path, key=_KEY, revision=REVISION, words=words, notes=notes)


def load_trained_scene(path: Path, *, spec: str) -> TrainedScene:
    """Read what :func:`save_scene_net` wrote.

    Raises:
        InputError: There is no such file, it is no scene net, it is of another version of the program, or
            its numbers are not finite.
    """
    net = load_net(
        path,
        lambda words: SceneNet(words["classes"]),
        key=_KEY,
        revision=REVISION,
        maker="`matcher train scene`",
    )
    return TrainedScene(net, spec)
