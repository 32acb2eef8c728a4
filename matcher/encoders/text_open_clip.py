"""The text tower of an open_clip model.

Shape letters: ``n`` texts, ``c`` tokens of the model's context, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from index.names import normal_form
from matcher.encoders.base import Device, ModelInfo, fingerprint, unit_rows
from matcher.encoders.torch_engine import first_line, open_clip_model, resolve_device
from matcher.errors import InputError

_BATCH = 64


class ClipTextTower:
    """A :class:`~matcher.encoders.text.TextEncoder` around an open_clip model.

    A text is cut to the model's context, which is most often 77 tokens: about 50 English words, and of
    Chinese, of which the usual English vocabulary makes two or three tokens a character, some 30
    characters. What comes first counts: put the title there.

    Args:
        model: From open_clip, on the CPU.
        tokenizer: Texts → (n, c) tokens.
        architecture: The model's name, for the fingerprint.
        spec: The words that chose it.
        device: Where to run, in fp32.
    """

    def __init__(self, model: Any, tokenizer: Any, *, architecture: str, spec: str, device: Device) -> None:
        self._device = resolve_device(device)
        self._model, self._tokenizer = model.eval(), tokenizer
        # Two models that differ in their picture tower alone describe texts alike.
        weights = {name: w for name, w in model.state_dict().items() if not name.startswith("visual.")}
        content = (w.detach().contiguous().numpy().tobytes() for w in weights.values())
        tokens = np.asarray(tokenizer(["a probe 探针"])).tobytes()
        mark = fingerprint(["open-clip-text-r1", architecture, tokens, *weights, *content])
        self._model.to(self._device)
        self.info = ModelInfo(spec, mark, self._run(["a"]).shape[1])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) of length 1; zeros where a text has no letter, digit or symbol."""
        vectors = np.zeros((len(texts), self.info.d), np.float32)
        told = [row for row, text in enumerate(texts) if normal_form(text)]
        for start in range(0, len(told), _BATCH):
            rows = told[start : start + _BATCH]
            vectors[rows] = unit_rows(self._run([texts[row] for row in rows]))
        return vectors

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        with torch.inference_mode():
            raw = self._model.encode_text(self._tokenizer(texts).to(self._device))
        return raw.float().cpu().numpy()  # type: ignore[no-any-return]


def load_open_clip_text(name: str, pretrained: str, *, device: Device, spec: str) -> ClipTextTower:
    """The text tower of an open_clip model; ``pretrained`` is a tag or a local file.

    Raises:
        InputError: There is no such model, or its weights or its tokenizer cannot be had.
    """
    import open_clip

    model = open_clip_model(name, pretrained)
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # a hub's or another package's tokenizer fails as its own code likes
        raise InputError(f"cannot load the tokenizer of open_clip:{name} ({first_line(error)})") from error
    return ClipTextTower(model, tokenizer, architecture=f"open_clip:{name}", spec=spec, device=device)
