"""From the words of ``--encoder`` to an encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.encoders import lite0
from matcher.encoders.base import Device, FrameEncoder, Images, ModelInfo, Precision, Vectors, check_images
from matcher.encoders.onnx_engine import OnnxRunner, ensure_graph, run_whitened
from matcher.encoders.whitening import Whitening
from matcher.errors import InputError

logger = logging.getLogger(__name__)

FORMS = (
    "lite0, lite0@FILE (another whitening), timm:NAME, timm:NAME@FILE, open_clip:NAME/PRETRAINED"
    " or a checkpoint's path"
)


class Lite0Onnx:
    """The default model on the CPU: ONNX Runtime, no torch once its graph is kept.

    Args:
        precision: "auto" takes int8 where its gate holds.
        threads: ONNX Runtime's threads; 0 is one where there are but two cores, else its own choice.
        whitening: Instead of the shipped one.
        spec: The words that chose it.
    """

    input_side = lite0.INPUT_SIDE

    def __init__(
        self,
        *,
        precision: Precision = "auto",
        threads: int = 0,
        whitening: Whitening | None = None,
        spec: str = lite0.SPEC,
    ) -> None:
        self.info: ModelInfo = lite0.info() if whitening is None else lite0.info_with(whitening, spec)
        self._whitening = lite0.whitening() if whitening is None else whitening
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
        """Describe ``images`` (n, 224, 224, 3) uint8 as (n, d) float32 of length 1; d is 512 as shipped."""
        return run_whitened(self._runner, self._whitening, images, self.input_side)

    def encode_raw(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe ``images`` (n, 224, 224, 3) uint8, at least one, as (n, 1952) before the whitening."""
        check_images(images, self.input_side)
        return self._runner(images)


def load_encoder(
    spec: str = lite0.SPEC, *, device: Device = "auto", precision: Precision = "auto", threads: int = 0
) -> FrameEncoder:
    """The encoder that ``spec`` names.

    Args:
        spec: ``lite0`` (the default), ``lite0@FILE`` (with another whitening), ``timm:NAME`` (weights
            from the hub), ``timm:NAME@FILE``, ``open_clip:NAME/PRETRAINED`` (a tag or a file), or the
            path of a checkpoint that says its architecture.
        device: "auto" takes CUDA where there is one.
        precision: Of the default model on the CPU; others run in fp32 there.
        threads: Of ONNX Runtime; 0 lets it choose.

    Raises:
        InputError: The words name no encoder, or its weights cannot be had.
        MissingDependencyError: CUDA or a package is missing.
    """
    if spec == lite0.SPEC or spec.startswith(f"{lite0.SPEC}@"):
        return _load_lite0(spec, device=device, precision=precision, threads=threads)
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


def load_raw_lite0(*, device: Device = "auto", threads: int = 0) -> Callable[[Images], Vectors]:
    """The default model before its whitening: (n, 224, 224, 3) uint8 → (n, 1952) float32; n at least 1.

    Raises:
        MissingDependencyError: CUDA was asked for and is not there.
    """
    if _wants_cuda(device):
        from matcher.encoders.torch_engine import TorchEncoder

        # Without a whitening this engine scales rows to length 1. They come as two parts of length 1,
        # so it is the same for all, and undone here.
        encoder = TorchEncoder(
            lite0.torch_model(), lite0.info_without_whitening(), input_side=lite0.INPUT_SIDE, device=device
        )
        return lambda images: encoder.encode(images) * np.float32(np.sqrt(2.0))
    return Lite0Onnx(threads=threads).encode_raw


def _load_lite0(spec: str, *, device: Device, precision: Precision, threads: int) -> FrameEncoder:
    _, at, file = spec.partition("@")
    own = lite0.whitening_of(Path(file)) if at else None
    if not _wants_cuda(device):
        return Lite0Onnx(precision=precision, threads=threads, whitening=own, spec=spec)
    from matcher.encoders.torch_engine import TorchEncoder

    return TorchEncoder(
        lite0.torch_model(), lite0.info() if own is None else lite0.info_with(own, spec),
        input_side=lite0.INPUT_SIDE, device=device, whitening=lite0.whitening() if own is None else own,
    )  # fmt: skip


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
