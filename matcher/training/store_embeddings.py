"""Embeddings of a store's kept clips, for the heads of the categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.table_rows import from_float16_bytes
from matcher.errors import InputError
from matcher.training.labels import Labels

if TYPE_CHECKING:
    from index.catalog import Catalog

_COLUMNS = ("clip_id", "embedding", "embedding_model")
_LINK_COLUMNS = ("clip_id", "program_id")
#: Clips that are read at once.
_BATCH = 4096


class StoreEmbeddings:
    """Reads the embeddings that the clip model in use made.

    Args:
        catalog: The store.

    Raises:
        InputError: It has none at all.
    """

    def __init__(self, catalog: Catalog) -> None:
        model = catalog.embedding_model
        if model is None:
            raise InputError(
                f"the store {catalog.place} has no embeddings; make them with: matcher models use mean"
            )
        self._catalog, self._model = catalog, model

    def read(self, clip_ids: Sequence[str]) -> tuple[Sequence[str], NDArray[np.float32], str]:
        """Embeddings of those of ``clip_ids`` that have one of the model in use.

        Returns:
            Their ids; (N, D) rows in that order; and the model's fingerprint.

        Raises:
            InputError: All that there are were made by another model.
        """
        reader = self._catalog.feature_reader(_COLUMNS, clip_ids)
        found: list[str] = []
        rows = [np.zeros((0, self._model.d), np.float32)]
        for start in range(0, len(reader), _BATCH):
            table = reader.read(np.arange(start, min(start + _BATCH, len(reader))))
            columns = (table[name].to_pylist() for name in _COLUMNS)
            good = {
                clip_id: content
                for clip_id, content, model in zip(*columns, strict=True)
                if model == self._model.fingerprint
            }
            found += good
            rows.append(from_float16_bytes(b"".join(good.values()), (len(good), self._model.d)))
        if len(reader) and not found:
            raise InputError(
                f"the embeddings of the labelled clips are of another clip model than {self._model.name},"
                " which the store uses now; make them anew with: matcher relink"
            )
        return found, np.concatenate(rows), self._model.fingerprint


def with_programs(labels: Labels, catalog: Catalog) -> Labels:
    """The same labels; a clip of which they name no program is of the one that it is linked to, if any.

    Whole programs are held out to judge by: a clip whose program nobody knows is a program of its own.
    """
    linked = linked_programs(catalog)
    programs = tuple(
        program_id or linked.get(clip_id, "")
        for clip_id, program_id in zip(labels.clip_ids, labels.program_ids, strict=True)
    )
    return replace(labels, program_ids=programs)


def linked_programs(catalog: Catalog) -> dict[str, str]:
    """Programs by clip, of the clips that are linked, in order of the clips' ids.

    Two columns alone are read: the answers beside them are most of the table.
    """
    found: list[tuple[str, str]] = []
    for batch in catalog.iter_link_batches(_LINK_COLUMNS, decision="linked"):
        clip_ids, program_ids = (batch[name].to_pylist() for name in _LINK_COLUMNS)
        pairs = zip(clip_ids, program_ids, strict=True)
        found += [(clip_id, program_id) for clip_id, program_id in pairs if program_id is not None]
    return dict(sorted(found))
