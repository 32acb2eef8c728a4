"""What an experiment gives: measures by condition and seed, as a table, as JSON and for a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["share", "number", "seconds", "count", "mebibytes"]


@dataclass(frozen=True)
class Measure:
    """What is measured.

    Attributes:
        name: Of the column.
        kind: How its numbers are written.
        is_shown: In the table; all are in the JSON.
        is_drawn: In the picture.
    """

    name: str
    kind: Kind = "share"
    is_shown: bool = True
    is_drawn: bool = False


@dataclass(frozen=True)
class Row:
    """One condition.

    Attributes:
        condition: In words.
        values: By measure, one a seed; a measure that has no sense here is left out.
    """

    condition: str
    values: Mapping[str, tuple[float, ...]]

    def mean(self, measure: str) -> float | None:
        """None where it was not measured."""
        found = self.values.get(measure)
        return statistics.fmean(found) if found else None

    def spread(self, measure: str) -> float | None:
        """Sample standard deviation over the seeds; None of fewer than two."""
        found = self.values.get(measure, ())
        return statistics.stdev(found) if len(found) > 1 else None


class Collector:
    """Gathers what is measured, seed by seed."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, condition: str, values: Mapping[str, float]) -> None:
        """One seed's measures of a condition."""
        kept = self._values.setdefault(condition, {})
        for name, value in values.items():
            kept.setdefault(name, []).append(float(value))

    def rows(self) -> tuple[Row, ...]:
        """In the order in which the conditions were first named."""
        return tuple(
            Row(condition, {name: tuple(found) for name, found in values.items()})
            for condition, values in self._values.items()
        )


@dataclass(frozen=True)
class Result:
    """An experiment that was run.

    Attributes:
        name: As the command line says it.
        claim: What the talk says, which is put to the test.
        scale: Name of the scale.
        seeds: Worlds and trainings.
        measures: Columns.
        rows: Conditions; the first is the one that others are compared with.
        compared: The measure whose difference to the first row is given, seed by seed; none where empty.
        seconds: That all took.

    Raises:
        ValueError: A row has a measure that is no column, or not one value a seed.
    """

    name: str
    claim: str
    scale: str
    seeds: tuple[int, ...]
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    compared: str
    seconds: float

    def __post_init__(self) -> None:
        names = {measure.name for measure in self.measures}
        for row in self.rows:
            if not row.values.keys() <= names:
                raise ValueError(
                    f"{row.condition!r} has {sorted(row.values)}, the columns are {sorted(names)}"
                )
            if any(len(found) != len(self.seeds) for found in row.values.values()):
                raise ValueError(f"{row.condition!r} must have {len(self.seeds)} values a measure")
        if self.compared and self.compared not in names:
            raise ValueError(f"{self.compared!r} is none of the columns")

    def differences(self, row: Row) -> tuple[float, ...]:
        """The compared measure's, seed by seed, to the first row; empty where there is nothing to compare."""
        first, own = (one.values.get(self.compared, ()) for one in (self.rows[0], row))
        if row is self.rows[0] or not first or not own:
            return ()
        return tuple(mine - theirs for mine, theirs in zip(own, first, strict=True))

    def columns(self) -> tuple[str, ...]:
        """Heads of the table."""
        shown = tuple(measure.name for measure in self.measures if measure.is_shown)
        return ("condition", *shown, *((f"{self.compared}, to first",) if self.compared else ()))

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Rows of the table: mean ± spread."""
        for row in self.rows:
            shown = [
                _cell(row.values.get(measure.name, ()), measure.kind)
                for measure in self.measures
                if measure.is_shown
            ]
            if self.compared:
                kind = next(measure.kind for measure in self.measures if measure.name == self.compared)
                shown.append(_cell(self.differences(row), kind, signed=True))
            yield (row.condition, *shown)

    def to_json(self) -> Iterator[dict[str, Any]]:
        """One object a condition."""
        for row in self.rows:
            yield {
                "experiment": self.name,
                "scale": self.scale,
                "seeds": list(self.seeds),
                "condition": row.condition,
                "measures": {
                    name: {"mean": row.mean(name), "spread": row.spread(name), "values": list(found)}
                    for name, found in row.values.items()
                },
            }

    def markdown(self) -> str:
        """The table as Markdown."""
        head = self.columns()
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *self.cells()]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(values: Sequence[float], kind: Kind, *, signed: bool = False) -> str:
    """Mean ± sample standard deviation."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    scale, digits, unit = {
        "share": (100.0, 1, " %"),
        "number": (1.0, 3, ""),
        "seconds": (1.0, 2 if mean < 10 else 1, " s"),
        "count": (1.0, 0, ""),
        "mebibytes": (1.0, 1, " MiB"),
    }[kind]
    sign = "+" if signed else ""
    if kind == "count" and not spread:
        return f"{mean:{sign},.0f}"
    around = "" if spread is None else f" ± {scale * spread:.{digits}f}"
    return f"{scale * mean:{sign}.{digits}f}{around}{unit}"
