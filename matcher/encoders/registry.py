"""From the words of ``--encoder`` to an encoder."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.encoders import lite0
from matcher.encoders.base import Device, FrameEncoder, ModelInfo, Precision
from matcher.encoders.onnx_engine import OnnxRunner, ensure_graph, run_whitened
from matcher.errors import InputError

logger = logging.getLogger(__name__)

FORMS = "lite0, timm:NAME, timm:NAME@FILE, open_clip:NAME/PRETRAINED or a checkpoint's path"


class Lite0Onnx:
    """The default model on the CPU: ONNX Runtime, no torch once its graph is kept.

    Args:
        precision: "auto" takes int8 where its gate holds.
        threads: ONNX Runtime's threads; 0 is one where there are but two cores, else its own choice.
    """

    input_side = lite0.INPUT_SIDE

    def __init__(self, *, precision: Precision = "auto", threads: int = 0) -> None:
        self.info: ModelInfo = lite0.info()
        self._whitening = lite0.whitening()
        self._graph = ensure_graph(
            self.info.fingerprint,
            lite0.torch_model,
            side=self.input_side,
            whitening=self._whitening,
            precision=precision,
        )
        self._runner = OnnxRunner(self._graph.path, threads=threads)
        self.batch_size = self._runner.batch

    @property
    def engine(self) -> str:
        """Precision and gate in words."""
        return (
            f"ONNX Runtime on CPU, {self._graph.precision}, worst cosine to torch"
            f" {self._graph.worst_cosine:.4f}"
        )

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe ``images`` (n, 224, 224, 3) uint8 as (n, 512) float32 of length 1."""
        return run_whitened(self._runner, self._whitening, images, self.input_side)


def load_encoder(
    spec: str = lite0.SPEC, *, device: Device = "auto", precision: Precision = "auto", threads: int = 0
) -> FrameEncoder:
    """The encoder that ``spec`` names.

    Args:
        spec: ``lite0`` (the default), ``timm:NAME`` (weights from the hub), ``timm:NAME@FILE``,
            ``open_clip:NAME/PRETRAINED`` (a tag or a file), or the path of a checkpoint that
            says its architecture.
        device: "auto" takes CUDA where there is one.
        precision: Of the default model on the CPU; others run in fp32 there.
        threads: Of ONNX Runtime; 0 lets it choose.

    Raises:
        InputError: The words name no encoder, or its weights cannot be had.
        MissingDependencyError: CUDA or a package is missing.
    """
    if spec == lite0.SPEC:
        if _wants_cuda(device):
            from matcher.encoders.torch_engine import TorchEncoder

            return TorchEncoder(
                lite0.torch_model(), lite0.info(), input_side=lite0.INPUT_SIDE, device=device,
                whitening=lite0.whitening(),
            )  # fmt: skip
        return Lite0Onnx(precision=precision, threads=threads)
    family, _, rest = spec.partition(":")
    if family == "timm" and rest:
        from matcher.encoders.torch_engine import load_timm

        name, _, file = rest.partition("@")
        return load_timm(name, checkpoint=_existing(file) if file else None, device=device, spec=spec)
    if family == "open_clip" and "/" in rest:
        from matcher.encoders.torch_engine import load_open_clip

        name, _, pretrained = rest.partition("/")
        return load_open_clip(name, pretrained, device=device, spec=spec)
    if Path(spec).suffix in {".safetensors", ".pth", ".pt", ".tar"}:
        from matcher.encoders.torch_engine import architecture_of, load_timm

        checkpoint = _existing(spec)
        return load_timm(architecture_of(checkpoint), checkpoint=checkpoint, device=device, spec=spec)
    raise InputError(f"unknown encoder {spec!r}: use {FORMS}")


def _existing(path: str) -> Path:
    found = Path(path)
    if not found.is_file():
        raise InputError(f"no checkpoint {path!r}")
    return found


def _wants_cuda(device: Device) -> bool:
    """Whether the default model goes to CUDA; answered without torch where there is no driver."""
    if device == "cpu":
        return False
    if device == "auto" and not _driver_present():
        return False
    from matcher.encoders.torch_engine import resolve_device

    return resolve_device(device) == "cuda"


def _driver_present() -> bool:
    # Importing torch takes seconds; the driver's control device tells as much in microseconds.
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
