"""The torch engine: the default model on CUDA, and every other model on any device.

Shape letters: ``n`` frames, ``s`` input side, ``r`` raw and ``d`` stored dimensions, ``c h w`` a map.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from numpy.typing import NDArray
from torch import nn

from matcher.encoders.base import Device, ModelInfo, check_images, fingerprint, unit_rows
from matcher.encoders.lite0_module import gem
from matcher.encoders.whitening import Whitening
from matcher.errors import InputError, MissingDependencyError


def resolve_device(device: Device) -> str:
    """Name of the device; "auto" takes CUDA where torch sees it, else the CPU.

    Raises:
        MissingDependencyError: CUDA was asked for and is not there.
    """
    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise MissingDependencyError(
            "torch sees no CUDA device: use --device cpu, or install a driver that fits this torch"
        )
    return "cpu"


class TorchEncoder:
    """A :class:`~matcher.encoders.base.FrameEncoder` around a torch module.

    Args:
        module: (n, s, s, 3) uint8 → (n, r) float; normalizes pictures itself.
        info: What the store remembers.
        input_side: s.
        device: Where to run; on CUDA channels-last and bfloat16 autocast.
        whitening: Applied to the raw descriptors; None scales them to length 1.
        batch_size: Pictures a call.
    """

    def __init__(
        self,
        module: nn.Module,
        info: ModelInfo,
        *,
        input_side: int,
        device: Device = "auto",
        whitening: Whitening | None = None,
        batch_size: int = 32,
    ) -> None:
        self._device = resolve_device(device)
        self._module = module.eval().to(self._device)
        if self._device == "cuda":
            self._module = self._module.to(memory_format=torch.channels_last)
        self._whitening = whitening
        self.info = info
        self.input_side = input_side
        self.batch_size = batch_size if self._device == "cpu" else 4 * batch_size

    @property
    def engine(self) -> str:
        """Device in words."""
        if self._device == "cuda":
            return f"torch {torch.__version__} on {torch.cuda.get_device_name()}, channels-last, bfloat16"
        return f"torch {torch.__version__} on CPU, {torch.get_num_threads()} threads"

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe ``images`` (n, s, s, 3) uint8 as (n, d) float32 of length 1."""
        check_images(images, self.input_side)
        blocks = [
            self._run(images[start : start + self.batch_size])
            for start in range(0, len(images), self.batch_size)
        ]
        if not blocks:
            return np.zeros((0, self.info.d), np.float32)
        raw = np.concatenate(blocks)
        return unit_rows(raw) if self._whitening is None else self._whitening.apply(raw)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        cast: Any = contextlib.nullcontext()
        if self._device == "cuda":
            cast = torch.autocast("cuda", dtype=torch.bfloat16)
        with torch.inference_mode(), cast:
            raw = self._module(torch.from_numpy(np.ascontiguousarray(images)).to(self._device))
        return raw.float().cpu().numpy()  # type: ignore[no-any-return]


class PooledBackbone(nn.Module):
    """Any timm model as a descriptor: GeM of a feature map, or the pooled tokens of a transformer.

    Args:
        backbone: A timm model.
        mean: Channel means in [0, 1] that the weights expect.
        std: Channel deviations likewise.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, s, s, 3) uint8 → (n, r)."""
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features = self.backbone.forward_features(x)  # type: ignore[operator]
        # Window transformers give (n, h, w, c); only timm's convolutional nets give (n, c, h, w).
        if features.ndim == 4 and features.shape[1] == self.backbone.num_features:
            return gem(features)
        pooled: torch.Tensor = self.backbone.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return F.normalize(pooled.flatten(1), dim=1)


class ClipImageTower(nn.Module):
    """The image tower of an open_clip model."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, s, s, 3) uint8 → (n, r)."""
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return F.normalize(self.model.encode_image(x), dim=1)  # type: ignore[operator]


def load_timm(name: str, *, checkpoint: Path | None, device: Device, spec: str) -> TorchEncoder:
    """A timm model, with its hub weights or those of a local file.

    Raises:
        InputError: timm has no such model, or its weights cannot be had or do not fit.
    """
    import timm

    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('.')[0][:6]}*")[:5]) or "none close"
        raise InputError(f"timm has no model {name!r} ({close})")
    try:
        if checkpoint is None:
            backbone = timm.create_model(name, pretrained=True, num_classes=0)
        else:
            backbone = timm.create_model(name, pretrained=False, num_classes=0)
            _load_state(backbone, checkpoint)
    except InputError:
        raise
    except Exception as error:  # the hub client raises whatever its transport raises
        raise InputError(
            f"cannot load the weights of timm:{name} ({first_line(error)}); fetch them once and pass"
            f" timm:{name}@FILE"
        ) from error
    config = backbone.pretrained_cfg
    side = int(config["input_size"][1])
    module = PooledBackbone(backbone, config["mean"], config["std"])
    return _wrap(module, f"timm:{name.partition('.')[0]}", spec=spec, side=side, device=device)


def load_open_clip(name: str, pretrained: str, *, device: Device, spec: str) -> TorchEncoder:
    """The image tower of an open_clip model; ``pretrained`` is a tag or a local file.

    Raises:
        InputError: There is no such model or its weights cannot be had.
    """
    model = open_clip_model(name, pretrained)
    mean, std = model.visual.image_mean, model.visual.image_std
    size = model.visual.image_size
    side = int(size if isinstance(size, int) else size[0])
    module = ClipImageTower(model, tuple(mean or (0.5,) * 3), tuple(std or (0.5,) * 3))
    return _wrap(module, f"open_clip:{name}", spec=spec, side=side, device=device)


def open_clip_model(name: str, pretrained: str) -> Any:
    """An open_clip model in fp32 on the CPU; ``pretrained`` is a tag or a local file.

    Raises:
        InputError: There is no such model or its weights cannot be had.
    """
    import open_clip

    if name not in open_clip.list_models():
        raise InputError(f"open_clip has no model {name!r}; see open_clip.list_models()")
    try:
        return open_clip.create_model(name, pretrained=pretrained, precision="fp32")
    except Exception as error:  # as above: hub, file and format errors differ by version
        raise InputError(
            f"cannot load open_clip:{name}/{pretrained} ({first_line(error)}); for a local file pass"
            f" open_clip:{name}/FILE"
        ) from error


def architecture_of(checkpoint: Path) -> str:
    """The encoder words that a checkpoint itself carries.

    A safetensors file says them in its metadata (``architecture``), a torch file under
    ``architecture`` or, as timm's training script writes it, ``arch``.

    Raises:
        InputError: The file cannot be read or does not say.
    """
    try:
        if checkpoint.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(str(checkpoint), "np") as file:
                name = (file.metadata() or {}).get("architecture")
        else:
            stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
            name = stored.get("architecture", stored.get("arch")) if isinstance(stored, dict) else None
    except Exception as error:  # unpickling and parsing raise anything on a foreign file
        raise InputError(f"cannot read checkpoint {checkpoint} ({first_line(error)})") from error
    if not isinstance(name, str):
        raise InputError(f"{checkpoint} does not say its architecture: pass timm:NAME@{checkpoint}")
    return name.removeprefix("timm:")


def _load_state(model: nn.Module, checkpoint: Path) -> None:
    if checkpoint.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(str(checkpoint))
    else:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = stored.get("state_dict", stored)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    # A classifier is not needed; anything else that is left over means another architecture.
    strange = [key for key in unexpected if not key.startswith(("classifier", "head", "fc"))]
    if missing or strange:
        raise InputError(
            f"{checkpoint} does not fit {type(model).__name__}: {len(missing)} weights missing"
            f" ({', '.join(missing[:2])}), {len(strange)} unknown ({', '.join(strange[:2])})"
        )


def _wrap(module: nn.Module, architecture: str, *, spec: str, side: int, device: Device) -> TorchEncoder:
    with torch.inference_mode():
        d = int(module.eval()(torch.zeros((1, side, side, 3), dtype=torch.uint8)).shape[1])
    weights = (value.detach().cpu().contiguous().numpy().tobytes() for value in module.state_dict().values())
    # The architecture by name: two that differ in an activation alone have the same weights.
    mark = fingerprint(["torch-r1", architecture, str(side), *module.state_dict(), *weights])
    return TorchEncoder(module, ModelInfo(spec=spec, fingerprint=mark, d=d), input_side=side, device=device)


def first_line(error: BaseException) -> str:
    """An error's kind and the beginning of what it says, for a message of one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
