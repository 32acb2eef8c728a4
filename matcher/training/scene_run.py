"""``matcher train scene``: a scene encoder from labelled sounds, with a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.encoders.base import Device
from matcher.encoders.scene import COLUMNS_A_SECOND
from matcher.encoders.scene_net import SceneNet, TrainedScene, save_scene_net
from matcher.errors import InputError
from matcher.inputs import one_line
from matcher.training.card import check_target, heading, origin_of, versions_line, write_card
from matcher.training.scene import OnStep, SceneFigures, SceneRecipe, Stretch, scene_figures, train_scene
from matcher.training.scene_material import HeardFile, SceneMaterial, hold_out

#: Of the lines on rows that were left out, so many stand in a card.
_MOST_SAID = 20


@dataclass(frozen=True)
class SceneTraining:
    """One run of ``matcher train scene``, from the words of the command line.

    Attributes:
        out: The file to write; its card goes beside it.
        recipe: How the net is trained.
        held_out: Share of the files to judge by; 0 for none.
        device: Where to train.
        command: For the card.
        note: Likewise, and for the file.

    Raises:
        InputError: The share is not from 0 to below 1.
    """

    out: Path
    recipe: SceneRecipe = field(default_factory=SceneRecipe)
    held_out: float = 0.2
    device: Device = "auto"
    command: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise InputError(f"--held-out must be from 0 to below 1, got {self.held_out:g}")

    @property
    def card_files(self) -> tuple[Path, Path]:
        """The card as JSON, and as a page."""
        return self.out.with_suffix(".json"), self.out.with_suffix(".md")

    def check_target(self) -> None:
        """Refuse a file that cannot be written, or that is there.

        Raises:
            InputError: It is called otherwise, its folder is not there, or it or a card is there already.
        """
        check_target(self.out)
        for path in (self.out, *self.card_files):
            if path.exists():
                raise InputError(f"{path} is there already; give another file with --out, or delete it")


def train_scene_encoder(
    material: SceneMaterial, training: SceneTraining, *, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train on the files that are not held out, judge on the others, and write the net with its card.

    Nothing is written before all is done; the net comes last.

    Args:
        material: What was heard.
        training: How.
        on_step: Called after every step.

    Returns:
        The card.

    Raises:
        InputError: As :meth:`SceneTraining.check_target` and :meth:`SceneMaterial.check`.
        MissingDependencyError: CUDA was asked for and is not there.
    """
    training.check_target()
    material.check()
    is_held_out = hold_out(
        [file.labels for file in material.files], share=training.held_out, seed=training.recipe.seed
    )
    learned, judged = _side(material.files, ~is_held_out), _side(material.files, is_held_out)
    net = train_scene(learned, training.recipe, device=training.device, on_step=on_step)
    figures = scene_figures(net, learned, judged) if judged else None
    card = card_of(material, training, is_held_out, net, figures)
    write_card(card, page_of(card), *training.card_files)
    save_scene_net(net, training.out, notes=_notes(card))
    return card


def _side(files: Sequence[HeardFile], which: NDArray[np.bool_]) -> list[Stretch]:
    return [one for file, is_in in zip(files, which, strict=True) if is_in for one in file.stretches]


def _notes(card: dict[str, Any]) -> dict[str, str]:
    """What the file says of itself: nothing that the same sounds and words would not give again."""
    names = ("data", "figures", "settings", "revision", "versions", "note")
    return {"card": json.dumps({name: card[name] for name in names}, ensure_ascii=False)}


def card_of(
    material: SceneMaterial,
    training: SceneTraining,
    is_held_out: NDArray[np.bool_],
    net: SceneNet,
    figures: SceneFigures | None,
) -> dict[str, Any]:
    """What is known of a net: JSON values."""
    classes = _classes(material.files, is_held_out)
    return {
        "kind": "scene encoder",
        **origin_of(training.command, training.note),
        "data": {
            "labels": one_line(material.labels.name),
            "rows": material.n_rows,
            "left_out": material.n_refused,
            "files": len(material.files),
            "files_held_out": int(is_held_out.sum()),
            "classes": classes,
        },
        "remarks": [*_first(material.said), *remarks(classes, is_judged=figures is not None)],
        "figures": None if figures is None else asdict(figures),
        "settings": {**asdict(training.recipe), "held_out": training.held_out},
        "parameters": sum(one.numel() for one in net.parameters()),
        "fingerprint": TrainedScene(net, "").info.fingerprint,
    }


def _first(said: Sequence[str]) -> list[str]:
    """What a card keeps of many lines."""
    more = len(said) - _MOST_SAID
    return [*said[:_MOST_SAID], *([f"and {more} more such lines"] if more > 0 else [])]


def _classes(files: Sequence[HeardFile], is_held_out: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Files, stretches and seconds of each class, by name."""
    found: dict[str, dict[str, float]] = {}
    for file, is_out in zip(files, is_held_out.tolist(), strict=True):
        for label in file.labels:
            of_class = found.setdefault(
                label, {"files": 0, "files_held_out": 0, "stretches": 0, "seconds": 0.0}
            )
            own = [stretch for stretch in file.stretches if stretch.label == label]
            of_class["files"] += 1
            of_class["files_held_out"] += is_out
            of_class["stretches"] += len(own)
            of_class["seconds"] += sum(len(stretch.columns) for stretch in own) / COLUMNS_A_SECOND
    return {label: found[label] for label in sorted(found)}


def remarks(classes: dict[str, dict[str, float]], *, is_judged: bool) -> list[str]:
    """A line for each class that cannot be judged: of one file, or, if any is judged, with none held out."""
    said = []
    for label, own in classes.items():
        why = ""
        if own["files"] == 1:
            why = "are of one file"
        elif is_judged and not own["files_held_out"]:
            why = "are of files that other classes need to learn from"
        if why:
            said.append(
                f"all stretches of class {one_line(label)!r} {why}: it is learned, but how well it is told"
                " cannot be judged; label stretches of other files"
            )
    return said


TABLE_COLUMNS = ("class", "files", "held out", "stretches", "seconds", "told right", "by statistics")


def table_rows(card: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each class under :data:`TABLE_COLUMNS`, and one for all; shares are of seconds held out."""
    figures = card["figures"]

    def share(part: str, label: str) -> str:
        return "–" if figures is None or label not in figures[part] else f"{figures[part][label]:.3f}"

    rows: list[tuple[str, ...]] = []
    for label, own in card["data"]["classes"].items():
        counts = (str(own["files"]), str(own["files_held_out"]), str(own["stretches"]))
        shares = share("by_class", label), share("statistics_by_class", label)
        rows.append((label, *counts, f"{own['seconds']:.0f}", *shares))
    classes = card["data"]["classes"].values()
    sums = (str(sum(own["stretches"] for own in classes)), f"{sum(own['seconds'] for own in classes):.0f}")
    ends = ("–", "–") if figures is None else tuple(f"{figures[n]:.3f}" for n in ("trained", "statistics"))
    return [*rows, ("all", str(card["data"]["files"]), str(card["data"]["files_held_out"]), *sums, *ends)]


def page_of(card: dict[str, Any]) -> str:
    """The card for people, in Markdown."""
    data, figures = card["data"], card["figures"]
    judged = "No file was held out, so nothing is known of how well it tells them apart."
    if figures is not None:
        judged = (
            f"Of {figures['seconds']} seconds of the files held out, the net tells {figures['trained']:.3f}"
            f" right, a logistic regression over the fixed statistics {figures['statistics']:.3f}."
        )
    lines = [
        *heading("Scene encoder", card),
        "## Data", "",
        f"- {data['rows']} rows of {one_line(data['labels'])}, {data['left_out']} of them left out;"
        f" {data['files']} files, {data['files_held_out']} held out.",
        *(f"- {remark}" for remark in card["remarks"]), "",
        "## Figures on the files held out", "",
        judged, "",
        "| " + " | ".join(TABLE_COLUMNS) + " |",
        "|---" * len(TABLE_COLUMNS) + "|",
        *("| " + " | ".join(one_line(cell).replace("|", "¦") for cell in row) + " |"
          for row in table_rows(card)), "",
        "## How", "",
        f"- `{card['command']}`",
        f"- {card['parameters']} numbers, fingerprint {card['fingerprint']}; settings: "
        + ", ".join(f"{name} {value}" for name, value in card["settings"].items()) + ".",
        versions_line(card), "",
    ]  # fmt: skip
    return "\n".join(lines)
