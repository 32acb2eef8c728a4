"""The arithmetic of docs/capacity.md, and what it measures of a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from test_index_live import MODEL, add

from eval.capacity import arithmetic, reached_shares, row_bytes, scene_rate, table
from index.catalog import Catalog


def test_the_page_shows_what_is_computed() -> None:
    assert table() in (ROOT / "docs" / "capacity.md").read_text()


def test_the_arithmetic_of_a_catalogue_that_can_be_counted_by_hand() -> None:
    values = arithmetic({"programs": 2, "hours": 1, "clips": 10, "new_programs": 1})
    assert (values["frames"], values["sounds"]) == (7200, 14400)
    assert values["clip_disk"] == 438_100
    assert values["new_vectors"] == 3600 + 7200
    assert values["x"] == 50
    assert values["full"] == pytest.approx(10 * 0.03 / 3600)
    assert values["ingest"] == pytest.approx(2 / 109 * 2 * 1.08)


def test_a_program_reaches_the_clips_that_are_near_it() -> None:
    """Three programs on three axes: by one neighbour a frame of a clip sees its own, by three all."""
    axes = np.eye(3, dtype=np.float32)
    programs = [axes[[i]] for i in range(3)]
    one, two, none = axes[[0]], axes[[0, 1]], np.zeros((0, 3), np.float32)
    assert reached_shares(programs, [one, none], [1, 3]) == pytest.approx({1: 1 / 3, 3: 1.0})
    assert reached_shares(programs, [one, two], [1]) == pytest.approx({1: (1 / 3 + 2 / 3) / 2})


def test_scenes_are_counted_and_the_rate_is_a_time() -> None:
    axes = np.eye(8, dtype=np.float32)
    each, ns = scene_rate(np.repeat(axes, 5, axis=0), np.tile(axes, (50, 1)))
    assert each == 5
    assert ns > 0


def test_bytes_of_rows_are_those_of_the_tables_on_the_disk(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    for i in range(3):
        add(catalog, f"p{i}", i)
    catalog.refresh()
    size = sum(p.stat().st_size for p in (tmp_path / "store/tables/frames.lance").rglob("*") if p.is_file())
    assert row_bytes(catalog) == {"frames": size / 33}
