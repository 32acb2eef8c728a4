"""The default model as a torch module (apart, so that the CPU path never imports torch).

Shape letters: ``n`` frames, ``c`` channels, ``h w`` map size, ``s`` input side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import nn


def gem(maps: torch.Tensor, *, eps: float = 1e-6) -> torch.Tensor:
    """Generalized mean pooling with p = 3: (n, c, h, w) → (n, c) of length 1.

    Source: Radenović et al. 2018, eq. 3. Cubes are written as products: ``pow`` costs ONNX Runtime
    more than the convolution before it.
    """
    x = maps.clamp(min=eps)
    return F.normalize((x * x * x).mean(dim=(2, 3)).pow(1.0 / 3.0), dim=1)


class Lite0Descriptor(nn.Module):
    """timm's EfficientNet-Lite0 with a tap at stride 16.

    Args:
        backbone: ``timm.create_model("tf_efficientnet_lite0")`` with its weights.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(backbone.conv_stem, backbone.bn1)  # type: ignore[arg-type]
        blocks = list(backbone.blocks)  # type: ignore[arg-type]
        self.stages_to_stride_16 = nn.Sequential(*blocks[:5])
        tapped, *rest = list(blocks[5])
        self.expand = nn.Sequential(tapped.conv_pw, tapped.bn1)
        self.reduce = nn.Sequential(tapped.conv_dw, tapped.bn2, tapped.conv_pwl, tapped.bn3)
        self.stages_to_stride_32 = nn.Sequential(*rest, blocks[6])
        self.head = nn.Sequential(backbone.conv_head, backbone.bn2)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, s, s, 3) uint8 → (n, 1952)."""
        x = images.permute(0, 3, 1, 2).to(self.head[0].weight.dtype) / 127.5 - 1.0  # type: ignore[arg-type]
        x = self.stages_to_stride_16(self.stem(x))
        expanded = self.expand(x)
        deep = self.head(self.stages_to_stride_32(self.reduce(expanded)))
        return torch.cat([gem(deep), gem(expanded)], dim=1)
