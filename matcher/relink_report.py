"""What a night changed, for people and for machines: see :func:`write_report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from matcher.relink import Night

if TYPE_CHECKING:
    from index.catalog import Catalog


def write_report(folder: Path | None, night: Night, catalog: Catalog) -> None:
    """Write the report into ``folder``, which is made if need be; nothing where it is None."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(night.to_json(), indent=1) + "\n", encoding="utf-8")
