"""The clip model: frames, sound and text of a clip become one embedding and answers.

picture frames → NeXtVLAD ┐
sound patches → NeXtVLAD  ├→ joined → linear, batch norm → context gating ┬→ length 1: the embedding
text vector               ┘                                               └→ heads

Shape letters: ``B`` clips, ``M`` modalities, ``D`` dimensions of the embedding, ``C`` classes of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import nn

from matcher.fusion.batch import ClipBatch
from matcher.fusion.config import ClipModelConfig, FramesConfig
from matcher.fusion.experts import LogisticHead, MixtureOfExperts, binary_loss
from matcher.fusion.features import MODALITIES, ModalityState
from matcher.fusion.gating import ContextGating, ExcitationGating
from matcher.fusion.masking import NormalizedLinear, zero_masked
from matcher.fusion.modalities import AbsenceTokens, ModalityDropout, StoredNormalization
from matcher.fusion.netvlad import NetVLAD
from matcher.fusion.nextvlad import NeXtVLAD
from matcher.fusion.pooling import AttentionPooling, MaxPooling, MeanPooling, ReducedPooling


@dataclass(frozen=True)
class ClipOutput:
    """What the clip model says of B clips.

    Attributes:
        embedding: (B, D) rows of length 1, for the index.
        log_odds: (B, C) by head.
        modality_log_odds: By modality the same, by its own vector alone.
        is_present: (B, M) bool: the modalities that a clip has and has not lost in training. Where false,
            ``modality_log_odds`` say nothing.
    """

    embedding: torch.Tensor
    log_odds: dict[str, torch.Tensor]
    modality_log_odds: dict[str, dict[str, torch.Tensor]]
    is_present: torch.Tensor


class Heads(nn.Module):
    """One head a question, on one vector: (B, d) → (B, C) log odds by head.

    Args:
        d: Dimensions of the vector.
        config: Names the questions and the kind of head.
    """

    def __init__(self, d: int, config: ClipModelConfig) -> None:
        super().__init__()
        # A list and not a dictionary of modules: that one refuses names such as "type" and "a.b".
        self.names = [head.name for head in config.heads]
        self.heads = nn.ModuleList(
            MixtureOfExperts(d, head.n_classes, n_experts=config.n_experts)
            if config.head == "experts"
            else LogisticHead(d, head.n_classes)
            for head in config.heads
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Answer every question for rows (B, d)."""
        return {name: head(x) for name, head in zip(self.names, self.heads, strict=True)}


class ClipModel(nn.Module):
    """Fuse a clip's modalities.

    The heads take the fused vector before it is scaled to length 1, for its length says how sure it is. A
    clip with no modality at all is fused from the tokens alone.

    Before training, :meth:`StoredNormalization.fit` of ``normalize[modality]`` takes the training set's
    statistics.

    Args:
        config: How it is built.

    Source: after Miech et al. 2017 and Lin et al. 2018 (NeXtVLAD), who join picture and sound so.
    """

    def __init__(self, config: ClipModelConfig) -> None:
        super().__init__()
        self.config = config
        came_in = dict(zip(MODALITIES, config.dimensions, strict=True))
        joined = dict(zip(MODALITIES, config.fused_dimensions, strict=True))
        self.normalize = nn.ModuleDict({name: StoredNormalization(d) for name, d in came_in.items()})
        self.pool_picture = make_pooling(config.picture)
        self.pool_sound = make_pooling(config.sound)
        self.drop_modalities = ModalityDropout(config.modality_dropout)
        self.fill = nn.ModuleDict(
            {name: AbsenceTokens(d, is_learned=config.absence == "token") for name, d in joined.items()}
        )
        self.modality_heads = nn.ModuleDict({name: Heads(d, config) for name, d in joined.items()})
        self.dropout = nn.Dropout(config.dropout)
        self.fuse = NormalizedLinear(sum(joined.values()), config.d_embedding)
        self.gate = make_gating(config)
        self.heads = Heads(config.d_embedding, config)

    def forward(self, batch: ClipBatch) -> ClipOutput:
        """Embed and answer.

        Raises:
            ValueError: The batch has other dimensions than the model.
        """
        states = self.drop_modalities(batch.states)
        is_present = states == ModalityState.PRESENT
        vectors = self._vectors(batch, is_present)
        filled = [
            self.fill[name](vector, states[:, number])
            for number, (name, vector) in enumerate(vectors.items())
        ]
        everyone = torch.ones(len(batch), dtype=torch.bool, device=states.device)
        fused = self.gate(self.fuse(self.dropout(torch.cat(filled, dim=1)), everyone))
        return ClipOutput(
            embedding=F.normalize(fused, dim=1),
            log_odds=self.heads(fused),
            modality_log_odds={name: self.modality_heads[name](x) for name, x in vectors.items()},
            is_present=is_present,
        )

    def _vectors(self, batch: ClipBatch, is_present: torch.Tensor) -> dict[str, torch.Tensor]:
        """One vector a clip and modality, in the order of ``MODALITIES``; zeros where it is not present."""
        got = batch.picture.shape[-1], batch.sound.shape[-1], batch.text.shape[-1]
        if got != self.config.dimensions:
            raise ValueError(f"picture, sound, text of {got} dimensions; wanted {self.config.dimensions}")
        # A modality that was dropped must not be felt in the batch statistics of its pooling either.
        picture_mask = batch.picture_mask & is_present[:, 0, None]
        sound_mask = batch.sound_mask & is_present[:, 1, None]
        return {
            "picture": self.pool_picture(self.normalize["picture"](batch.picture), picture_mask),
            "sound": self.pool_sound(self.normalize["sound"](batch.sound), sound_mask),
            "text": zero_masked(self.normalize["text"](batch.text), is_present[:, 2]),
        }


def summed_loss(
    output: ClipOutput,
    targets: Mapping[str, torch.Tensor],
    *,
    modality_weight: float = 1.0,
    known: Mapping[str, torch.Tensor] | None = None,
    mean_counts: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The fused vector's loss plus that of every modality alone.

    Its own loss keeps a modality learning where another already answers the question.

    Args:
        output: Of B clips.
        targets: By head (B, C) in [0, 1].
        modality_weight: How much a modality's loss counts against the fused one.
        known: By head (B,) bool, false where nobody knows the clip's answer; what its target holds is then
            of no consequence. A head that is not named is known of all.
        mean_counts: Where several processes share a step: turns a vector of this one's counts of clips into
            the mean over them all. The mean of the processes' gradients is then that of all their clips at
            once, however unevenly absences fell.

    Returns:
        A scalar: the sum over heads of :func:`~matcher.fusion.experts.binary_loss`, averaged over the clips
        whose answer is known. A modality's is averaged over those of them where it is present.

    Raises:
        ValueError: The targets, or what is known, are not those of the heads.
    """
    known = known or {}
    if targets.keys() != output.log_odds.keys():
        raise ValueError(f"targets are of {sorted(targets)}, the heads are {sorted(output.log_odds)}")
    if not known.keys() <= targets.keys():
        raise ValueError(f"known are {sorted(known)}, the heads are {sorted(targets)}")
    everyone = torch.ones_like(output.is_present[:, 0])
    terms: list[tuple[float, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for name, target in targets.items():
        counts = known.get(name, everyone)
        # A NaN in a target that does not count would come back through the gradient.
        wanted = target.masked_fill(~counts.unsqueeze(-1), 0.0)
        terms.append((1.0, output.log_odds[name], wanted, counts))
        for number, modality in enumerate(MODALITIES):
            own = output.modality_log_odds[modality][name]
            terms.append((modality_weight, own, wanted, counts & output.is_present[:, number]))
    total = output.embedding.new_zeros(())
    if not terms:
        return total
    shares = torch.stack([mask.sum() for *_, mask in terms])
    shares = shares.clamp(min=1) if mean_counts is None else mean_counts(shares)
    for (weight, log_odds, target, mask), count in zip(terms, shares, strict=True):
        total = total + weight * binary_loss(log_odds, target, mask, count=count)
    return total


def make_clip_model(config: ClipModelConfig, *, seed: int) -> ClipModel:
    """A new model; its weights follow from ``seed`` alone, and the process's own luck stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClipModel(config)


def n_parameters(model: nn.Module) -> int:
    """Numbers that a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_pooling(config: FramesConfig) -> nn.Module:
    """The pooling that a configuration names: (B, T, d) and (B, T) → (B, d_out)."""
    d, d_out = config.d, config.d_out
    if config.pooling == "nextvlad":
        return NeXtVLAD(
            d, d_out=d_out, n_clusters=config.n_clusters, n_groups=config.n_groups, expansion=config.expansion
        )
    if config.pooling == "netvlad":
        return NetVLAD(d, d_out=d_out, n_clusters=config.n_clusters)
    if config.pooling == "attention":
        return ReducedPooling(AttentionPooling(d, d_hidden=config.d_hidden), d, d_out)
    return ReducedPooling(MeanPooling() if config.pooling == "mean" else MaxPooling(), d, d_out)


def make_gating(config: ClipModelConfig) -> nn.Module:
    """The gating that a configuration names: (B, d_embedding) → same."""
    if config.gating == "context":
        return ContextGating(config.d_embedding)
    if config.gating == "excitation":
        return ExcitationGating(config.d_embedding, reduction=config.gating_reduction)
    return nn.Identity()
