"""A night as figures for Prometheus, in its text format, for node_exporter's textfile collector.

Every figure is a gauge of the last run, whether it was committed or not: alert on
``matcher_relink_committed`` and on the age of ``matcher_relink_last_run_timestamp_seconds``.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from matcher.relink import Night

#: A value with its labels.
_Sample = tuple[Mapping[str, str], float]


def metrics_text(night: Night, at: datetime, *, n_looks: int) -> str:
    """All figures of a night.

    Args:
        night: What it did.
        at: When it ended.
        n_looks: Clips that are named for a person to look at.
    """
    return "".join(
        line
        for name, words, samples in _metrics(night, at, n_looks)
        for line in _lines(f"matcher_relink_{name}", words, samples)
    )


def _metrics(night: Night, at: datetime, n_looks: int) -> Iterator[tuple[str, str, list[_Sample]]]:
    figures = night.figures
    plain: tuple[tuple[str, str, float], ...] = (
        ("committed", "Whether the links of the last run went into the store; 0 where the brake stopped it.",
         night.is_committed),
        ("last_run_timestamp_seconds", "When the last run ended.", at.timestamp()),
        ("night", "Number of the last run; 0 where it was not committed.", night.number),
        ("catalog_version", "State of the catalogue that was linked.", night.catalog_version),
        ("clips_kept", "Clips in the store.", night.kept),
        ("clips_answered", "Clips that were answered again.", night.answered),
        ("clips_resumed", "Of these, those that an interrupted run had answered.", night.resumed),
        ("clips_moving", "Clips whose links or decision changed, but for those that people changed.",
         night.moving),
        ("clips_contradicted", "Clips newly answered otherwise than a person said, were it not for that.",
         len(night.contradicted)),
        ("clips_to_look_at", "Clips that the report names for a person.", n_looks),
        ("vectors_new", "Descriptors of new programs that the clips were compared with.",
         figures.get("new_vectors", 0)),
        ("seconds", "Time that the last run took.", figures.get("seconds", 0.0)),
        ("cpu_seconds", "Processor time that the last run took.", figures.get("cpu_seconds", 0.0)),
    )  # fmt: skip
    for name, words, value in plain:
        yield name, words, [({}, value)]
    labelled: tuple[tuple[str, str, str, Mapping[str, float]], ...] = (
        ("changes", "Clips that were answered again, by what became of them.", "kind", night.counts),
        ("decisions", "Clips that were answered again, by decision.", "decision", night.decisions),
        ("reasons", "Clips that were answered again, by why.", "why", night.why),
        ("estimated_cpu_seconds", "Processor time that each way was estimated to take.", "way",
         figures.get("estimates") or {}),
    )  # fmt: skip
    for name, words, label, values in labelled:
        yield name, words, [({label: key}, value) for key, value in values.items()]
    yield (
        "info",
        "How the clips were found, and the epoch of the answers.",
        [({"way": night.way, "epoch": night.epoch}, 1)],
    )


def _lines(name: str, words: str, samples: list[_Sample]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {_escaped(words)}\n# TYPE {name} gauge\n"
    for labels, value in samples:
        told = ",".join(f'{label}="{_escaped(text, quote=True)}"' for label, text in labels.items())
        yield f"{name}{{{told}}} {_number(value)}\n" if told else f"{name} {_number(value)}\n"


def _escaped(text: str, *, quote: bool = False) -> str:
    """As the format demands: of a label's value the double quote too."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    """As Go reads it; all figures are finite. Booleans are 0 and 1."""
    return str(int(value)) if isinstance(value, int) else repr(float(value))
