"""The nightly batch: what changed since the links that were there before."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from index.rows import LinkRecord
from matcher.records import Answer


@dataclass
class Changes:
    """Counts and lists what a re-link changed.

    Attributes:
        rows: One for each clip whose decision or program changed:
            clip_id, decision and program before, decision and program after, confidence after.
    """

    rows: list[tuple[str, str, str, str, str, float]] = field(default_factory=list)
    _decisions: Counter[str] = field(default_factory=Counter)

    def see(self, answer: Answer, before: LinkRecord | None) -> None:
        """Take note of one clip's new answer and old link."""
        self._decisions[answer.decision] += 1
        was = ("", "") if before is None else (before.decision, before.program_id or "")
        now = (answer.decision, answer.program_id or "")
        if was != now:
            self.rows.append((answer.clip_id, *was, *now, answer.confidence))

    def counts(self) -> dict[str, int]:
        """Clips by decision, and how many changed."""
        return {name: self._decisions[name] for name in ("linked", "review", "none")} | {
            "changed": len(self.rows)
        }

    def write(self, folder: Path, *, catalog_version: int, settings_digest: str) -> None:
        """Write ``changes.csv`` and ``summary.json`` into ``folder``, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "changes.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ("clip_id", "decision_before", "program_before", "decision", "program", "confidence")
            )
            writer.writerows(self.rows)
        figures = {"catalog_version": catalog_version, "settings": settings_digest, **self.counts()}
        (folder / "summary.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
