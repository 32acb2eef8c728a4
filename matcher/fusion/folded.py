"""A trained clip model, rewritten to answer many clips fast: the same function in fewer and smaller products.

Out of training, what a model does to a vector before its first non-linearity is one affine map, however many
steps it was learned in. So scales of modalities and batch normalizations are folded into the linear maps
beside them; and NeXtVLAD's attention and assignment, which are linear in the expanded frame, are composed
with its expansion. All that a frame goes through is then one product with a (D, L + G + G K) matrix, instead
of products with (D, L), (L, G) and (L, G K). Heads of single modalities, which only training needs, are left
out.

The products may be made in bfloat16, sums in single precision: on a processor with instructions for it
(AVX-512 BF16, AMX) they are two to three times as fast. Embeddings then keep a cosine above
:data:`LEAST_COSINE` to those of single precision.

Shape letters: ``B`` clips, ``T`` frames of the longest, ``D`` dimensions of a frame, ``L`` expanded
dimensions, ``G`` groups, ``F = L / G`` dimensions of a group, ``K`` clusters, ``E`` dimensions that come out.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import nn

from matcher.fusion.batch import ClipBatch
from matcher.fusion.clip_model import ClipModel, ClipOutput
from matcher.fusion.features import MODALITIES, ModalityState
from matcher.fusion.masking import MaskedBatchNorm, NormalizedLinear, zero_masked
from matcher.fusion.modalities import StoredNormalization
from matcher.fusion.nextvlad import NeXtVLAD

#: Weight (E, D) and bias (E,) of an affine map.
Map = tuple[torch.Tensor, torch.Tensor]
Precision = Literal["auto", "fp32", "bf16"]
#: Of an embedding by products in bfloat16 to that in single precision.
LEAST_COSINE = 0.999


class Affine(nn.Module):
    """x W' + b, the product in a type of its own: (..., D) → (..., E) of that type.

    Args:
        weight: (E, D).
        bias: (E,).
        dtype: Of the product.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", bias.to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``x`` (..., D)."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def before(weight: torch.Tensor, bias: torch.Tensor, scale: StoredNormalization) -> Map:
    """The map of x that ``weight`` and ``bias`` are of (x - mean) / scale."""
    folded = weight / scale.scale
    return folded, bias - folded @ scale.mean


def after(weight: torch.Tensor, bias: torch.Tensor, norm: MaskedBatchNorm) -> Map:
    """The map whose result is that of ``weight`` and ``bias``, normalized."""
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * factor[:, None], (bias - norm.running_mean) * factor + norm.bias


def reduced(linear: NormalizedLinear, dtype: torch.dtype) -> Affine:
    """A linear map and its normalization as one."""
    weight = linear.linear.weight
    return Affine(*after(weight, weight.new_zeros(len(weight)), linear.norm), dtype)


class FoldedNeXtVLAD(nn.Module):
    """:class:`~matcher.fusion.nextvlad.NeXtVLAD` after a scale, out of training: (B, T, D) → (B, E)."""

    centres: torch.Tensor

    def __init__(self, scale: StoredNormalization, pool: NeXtVLAD, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_groups, self.n_clusters = pool.n_groups, pool.n_clusters
        expand, bias = pool.expand.weight, pool.expand.bias
        attend, attend_bias = pool.attend.weight @ expand, pool.attend.weight @ bias + pool.attend.bias
        assign, assign_bias = after(pool.assign.weight @ expand, pool.assign.weight @ bias, pool.assign_norm)
        weight = torch.cat([expand, assign, attend])
        self.of_frames = Affine(*before(weight, torch.cat([bias, assign_bias, attend_bias]), scale), dtype)
        self.parts = [len(expand), len(assign), len(attend)]
        self.register_buffer("centres", pool.centres.detach().to(dtype))
        self.reduce = reduced(pool.reduce, dtype)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool the frames that count; zeros for a clip without any."""
        is_padded = not bool(mask.all())
        if is_padded:
            x = zero_masked(x, mask)
        frames, logits, attention = self.of_frames(x).split(self.parts, dim=-1)
        trust = attention.sigmoid()
        if is_padded:
            trust = zero_masked(trust, mask)
        clips, k = len(x), self.n_clusters
        # (B, T G, K) and (B, T G, F)
        weights = logits.unflatten(-1, (self.n_groups, k)).softmax(dim=-1) * trust.unsqueeze(-1)
        weights = weights.reshape(clips, -1, k)
        groups = frames.reshape(clips, weights.shape[1], -1)
        centres = weights.sum(dim=1).unsqueeze(-1) * self.centres
        residuals = torch.baddbmm(centres, weights.transpose(1, 2), groups, beta=-1)
        pooled: torch.Tensor = self.reduce(F.normalize(residuals, dim=-1).flatten(1)).to(x.dtype)
        return zero_masked(pooled, mask.any(dim=1)) if is_padded else pooled


class FoldedPooling(nn.Module):
    """Any other pooling after a scale, as it is."""

    def __init__(self, scale: StoredNormalization, pool: nn.Module) -> None:
        super().__init__()
        self.scale, self.pool = scale, pool

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool the frames that count; zeros for a clip without any."""
        pooled: torch.Tensor = self.pool(self.scale(x), mask)
        return pooled


class FoldedClipModel(nn.Module):
    """A clip model out of training, folded.

    What it gives has no answers of single modalities.

    Args:
        model: It is not changed, and its weights are not shared.
        dtype: Of the large products: single precision or bfloat16.
    """

    def __init__(self, model: ClipModel, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = model.config
        model = _copied(model)
        self.pool_picture = _folded(model, "picture", dtype)
        self.pool_sound = _folded(model, "sound", dtype)
        self.scale_text, self.fill = model.normalize["text"], model.fill
        self.fuse, self.gate, self.heads = reduced(model.fuse, dtype), model.gate, model.heads
        self.requires_grad_(False)

    def forward(self, batch: ClipBatch) -> ClipOutput:
        """Embed and answer.

        Raises:
            ValueError: The batch has other dimensions than the model.
        """
        got = batch.picture.shape[-1], batch.sound.shape[-1], batch.text.shape[-1]
        if got != self.config.dimensions:
            raise ValueError(f"picture, sound, text of {got} dimensions; wanted {self.config.dimensions}")
        is_present = batch.states == ModalityState.PRESENT
        vectors = (
            self.pool_picture(batch.picture, batch.picture_mask & is_present[:, 0, None]),
            self.pool_sound(batch.sound, batch.sound_mask & is_present[:, 1, None]),
            zero_masked(self.scale_text(batch.text), is_present[:, 2]),
        )
        filled = [
            self.fill[name](vector, batch.states[:, number])
            for number, (name, vector) in enumerate(zip(MODALITIES, vectors, strict=True))
        ]
        fused = self.gate(self.fuse(torch.cat(filled, dim=1)).to(batch.text.dtype))
        return ClipOutput(F.normalize(fused, dim=1), self.heads(fused), {}, is_present)


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by instructions of its own; else floats are faster."""
    # Torch has no public word for it.
    asked = [
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(bool(one()) for one in asked if one is not None)


def folded(model: ClipModel, device: torch.device, precision: Precision = "auto") -> FoldedClipModel:
    """A model folded for a device: by bfloat16 where that is fast, if ``precision`` leaves it open."""
    if precision == "auto":
        is_fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bfloat16()
        precision = "bf16" if is_fast else "fp32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return FoldedClipModel(model, dtype).to(device).eval()


def _copied(model: ClipModel) -> ClipModel:
    """The same on the CPU, out of training and without gradients."""
    copy = ClipModel(model.config)
    copy.to(next(model.parameters()).dtype)
    copy.load_state_dict({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()})
    return copy.eval().requires_grad_(False)


def _folded(model: ClipModel, name: Literal["picture", "sound"], dtype: torch.dtype) -> nn.Module:
    scale = model.normalize[name]
    pool = model.pool_picture if name == "picture" else model.pool_sound
    assert isinstance(scale, StoredNormalization)
    if isinstance(pool, NeXtVLAD):
        return FoldedNeXtVLAD(scale, pool, dtype)
    return FoldedPooling(scale, pool)
