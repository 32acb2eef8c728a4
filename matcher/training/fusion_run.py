"""``matcher train fusion``: a clip model from a store's features, with a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from matcher.errors import InputError
from matcher.fusion.clip_model import ClipModel, make_clip_model, n_parameters
from matcher.fusion.config import ClipModelConfig, FramesConfig, HeadConfig
from matcher.fusion.model_file import save_clip_model
from matcher.training.block_sampler import count_batches
from matcher.training.card import heading, origin_of, versions_line, write_card
from matcher.training.contrastive import fit_contrastive
from matcher.training.fusion_loop import fit
from matcher.training.fusion_material import Material, lines_of
from matcher.training.loop_records import History, LoopConfig, OnStep
from matcher.training.processes import count_processes, joined

MODEL, CARD, PAGE = "model.safetensors", "model.json", "model.md"
_START, _HEADS = "start.checkpoint", "heads.checkpoint"


@dataclass(frozen=True)
class FusionTraining:
    """One run of ``matcher train fusion``, from the words of the command line.

    Attributes:
        out: Folder of the model.
        loop: How it is trained.
        start_epochs: Epochs of the self-supervised start; with no labels they are all there is.
        is_resumed: Go on from a checkpoint that lies there.
        device: As :func:`~matcher.training.processes.choose_device` takes it.
        tensorboard: Folder of curves.
        command: For the card.
        note: Likewise.

    Raises:
        InputError: The epochs are negative.
    """

    out: Path
    loop: LoopConfig
    start_epochs: int = 0
    is_resumed: bool = False
    device: str = "auto"
    tensorboard: Path | None = None
    command: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.start_epochs < 0:
            raise InputError(f"the epochs of the start must be at least 0, got {self.start_epochs}")

    def check_target(self) -> None:
        """Make the folder, and refuse one that holds something else than this run may go on from.

        Raises:
            InputError: A model lies there, or the checkpoint of a run that is not to be resumed.
        """
        if (self.out / MODEL).exists():
            raise InputError(f"{self.out / MODEL} is there already; give another folder with --out")
        kept = [self.out / name for name in (_START, _HEADS) if (self.out / name).exists()]
        if kept and not self.is_resumed:
            raise InputError(
                f"a training that was cut off lies in {self.out}: go on with it with --resume, or delete"
                f" {', '.join(one.name for one in kept)}"
            )
        if not self.out.parent.is_dir() or (self.out.exists() and not self.out.is_dir()):
            raise InputError(f"--out {self.out} cannot be made a folder there")
        self.out.mkdir(exist_ok=True)


def clip_model_config(dimensions: tuple[int, int, int], heads: tuple[HeadConfig, ...]) -> ClipModelConfig:
    """The usual clip model for features of these dimensions (picture, sound, text)."""
    usual = ClipModelConfig(heads=heads)
    picture, sound, d_text = dimensions
    return replace(
        usual, picture=_fitting(usual.picture, picture), sound=_fitting(usual.sound, sound), d_text=d_text
    )


def _fitting(usual: FramesConfig, d: int) -> FramesConfig:
    """The same for ``d`` dimensions, with as many of its groups as divide them."""
    groups = next(g for g in range(usual.n_groups, 0, -1) if usual.expansion * d % g == 0)
    return replace(usual, d=d, n_groups=groups)


def train_fusion(
    material: Material, training: FusionTraining, *, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train a clip model and write it with its card; until it is done the folder holds checkpoints alone.

    With ``torchrun`` every process calls it, and the first one writes.

    Args:
        material: What it learns from.
        training: How.
        on_step: Called after every step.

    Returns:
        The card.

    Raises:
        InputError: As :meth:`FusionTraining.check_target` and :func:`~matcher.training.fusion_loop.fit`, or
            there are neither labels nor epochs of a start.
    """
    if not material.heads and not training.start_epochs:
        raise InputError("without labels there is only the self-supervised start; give its epochs")
    with joined(training.device) as processes:
        training.check_target()
        config = clip_model_config(material.encoders.dimensions, material.heads)
        model = make_clip_model(config, seed=training.loop.seed)
        histories = dict(_trained(model, material, training, on_step))
        card = card_of(material, training, model, histories)
        if processes.is_first:
            write_model(model, card, training.out)
    return card


def _trained(
    model: ClipModel, material: Material, training: FusionTraining, on_step: OnStep | None
) -> Iterator[tuple[str, History]]:
    """Train ``model`` in place, part by part."""
    loop, folder = training.loop, training.tensorboard
    if training.start_epochs:
        start = replace(loop, epochs=training.start_epochs, watch="loss")
        yield (
            "start",
            fit_contrastive(
                model, material.train, material.validation, start, device=training.device,
                checkpoint=training.out / _START, on_step=on_step,
                tensorboard=None if folder is None else folder / "start",
            ),
        )  # fmt: skip
    if material.heads:
        yield (
            "heads",
            fit(
                model, material.train, material.validation, loop, device=training.device,
                checkpoint=training.out / _HEADS, on_step=on_step,
                tensorboard=None if folder is None else folder / "heads",
                has_statistics=training.start_epochs > 0,
            ),
        )  # fmt: skip


def write_model(model: ClipModel, card: dict[str, Any], out: Path) -> None:
    """Write the card and the page, then the model, and take the checkpoints away.

    The model comes last: where it lies, the rest is whole.
    """
    write_card(card, page_of(card), out / CARD, out / PAGE)
    save_clip_model(model, out / MODEL, notes={"card": json.dumps(card, ensure_ascii=False)})
    for name in (_START, _HEADS):
        (out / name).unlink(missing_ok=True)


def count_steps(material: Material, training: FusionTraining) -> int:
    """Steps that a run takes, if it does not stop early."""
    per_epoch = count_batches(
        len(material.train), batch_size=training.loop.batch_size, world_size=count_processes()
    )
    return per_epoch * (training.start_epochs + (training.loop.epochs if material.heads else 0))


def card_of(
    material: Material, training: FusionTraining, model: ClipModel, histories: dict[str, History]
) -> dict[str, Any]:
    """What is known of a model: JSON values."""
    judged = {name: history.best.validation for name, history in histories.items()}
    figures = {name: asdict(one) for name, one in judged.items() if one is not None}
    return {
        "kind": "clip model",
        **origin_of(training.command, training.note),
        "data": material.facts,
        "remarks": lines_of(material.faults),
        "encoders": asdict(material.encoders),
        "figures": figures,
        "settings": {**training.loop.to_words(), "start_epochs": training.start_epochs},
        "model": model.config.to_words(),
        "parameters": n_parameters(model),
        "history": {name: history.to_words() for name, history in histories.items()},
    }


def page_of(card: dict[str, Any]) -> str:
    """The card for people, in Markdown."""
    data, encoders = card["data"], card["encoders"]
    lines = [
        *heading("Clip model", card),
        "## Data", "",
        f"- {data['clips']} clips of {data['programs']} programs; {data['clips_without_program']} of no known"
        " program.",
        f"- {data['trained_on']} learned from, {data['held_out']} of {data['programs_held_out']} other"
        " programs held out.",
        *([f"- Taxonomy {data['taxonomy']}."] if "taxonomy" in data else []),
        *(f"- {name}: {count} classes." for name, count in data["classes"].items()),
        *(f"- {remark}" for remark in card["remarks"]), "",
        "## Figures on the programs held out", "",
    ]  # fmt: skip
    for part, judged in card["figures"].items():
        history = card["history"][part]
        how = f"best of {len(history['epochs'])} epochs: {history['best_epoch'] + 1}"
        lines += [f"- {part}: loss {judged['loss']:.4f} ({how})."]
        lines += [f"- {name}: accuracy {share:.3f}." for name, share in judged["accuracy"].items()]
    lines += [
        "",
        "Accuracy counts clips whose likeliest class is one of theirs; probabilities are not calibrated here"
        " (`matcher train categories` does that).",
        "", "## How", "",
        f"- `{card['command']}`",
        f"- {card['parameters']} numbers; settings: "
        + ", ".join(f"{name} {value}" for name, value in card["settings"].items()) + ".",
        f"- Encoders: picture {encoders['picture']}, sound {encoders['sound']}, text {encoders['text']}, of"
        f" {' + '.join(str(d) for d in encoders['dimensions'])} dimensions.",
        versions_line(card), "",
    ]  # fmt: skip
    return "\n".join(lines)


def table_rows(card: dict[str, Any]) -> list[tuple[str, ...]]:
    """The figures of a card for people: part, epochs, clips held out, name and value."""
    rows: list[tuple[str, ...]] = []
    for part, judged in card["figures"].items():
        epochs, clips = str(len(card["history"][part]["epochs"])), str(card["data"]["held_out"])
        rows.append((part, epochs, clips, "loss", f"{judged['loss']:.4f}"))
        rows += [
            (part, epochs, clips, f"accuracy {name}", f"{share:.3f}")
            for name, share in judged["accuracy"].items()
        ]
    return rows
