"""Opening a store, with the index package's errors said in this package's words."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from index import errors as index_errors
from matcher import errors
from matcher.calibration import calibration_of
from matcher.config import IndexSettings, Settings
from matcher.encoders.base import ModelInfo
from matcher.inputs import check_unicode

if TYPE_CHECKING:
    from index.catalog import Catalog
    from index.live import LiveIndex
    from index.rows import ModelInfo as StoredModel
    from matcher.linking import Linker


@contextmanager
def translated() -> Iterator[None]:
    """Turn the index package's errors into those the command line knows."""
    try:
        yield
    except index_errors.CatalogLockedError as error:
        raise errors.StoreLockedError(
            f"the store is being written by {error.holder}; try again when it is done, or give --wait SECONDS"
        ) from error
    except index_errors.BackendMissingError as error:
        raise errors.MissingDependencyError(str(error)) from error
    except index_errors.IndexStoreError as error:
        raise errors.StoreError(str(error)) from error


def open_catalog(path: Path, model: ModelInfo | None = None) -> Catalog:
    """A store that is there, for reading.

    Args:
        path: Its folder.
        model: The encoder about to be used with it; None where none is.

    Raises:
        StoreError: There is none, it is damaged, or it holds another model's descriptors.
    """
    from index.catalog import Catalog

    check_unicode("--store", str(path))
    with translated():
        return Catalog.open(path, model=None if model is None else _stored(model))


def create_catalog(path: Path, model: ModelInfo) -> Catalog:
    """A store, made if it is not there.

    Raises:
        StoreError: As :func:`open_catalog`, or the folder cannot be made.
    """
    from index.catalog import Catalog

    check_unicode("--store", str(path))
    try:
        with translated():
            return Catalog.create(path, _stored(model))
    except OSError as error:
        raise errors.StoreError(
            f"cannot make a store at {path}: {error.strerror or error}; choose another --store"
        ) from error


def open_live(catalog: Catalog, settings: IndexSettings) -> LiveIndex:
    """The live index of a catalog.

    Raises:
        StoreError: The tables are damaged.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    from index.live import LiveIndex

    with translated(), warnings.catch_warnings():
        # LanceDB warns of the fork that nobody here makes.
        warnings.filterwarnings("ignore", message=".*fork.*")
        device = "cuda" if settings.device == "gpu" else "cpu"
        return LiveIndex.open(catalog, kind=None if settings.kind == "auto" else settings.kind, device=device)


def open_linker(catalog: Catalog, settings: Settings, live: LiveIndex | None = None) -> Linker:
    """What answers clips from a catalog, as its calibration says.

    Args:
        catalog: The store.
        settings: Of the index, voting and decision.
        live: Its live index, where it is open.

    Raises:
        StoreError: The tables or the calibration are damaged.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    from matcher.linking import Linker

    model = ModelInfo(catalog.model.name, catalog.model.fingerprint, catalog.model.d)
    calibration = calibration_of(Path(catalog.path), model)
    return Linker(live or open_live(catalog, settings.index), settings, calibration)


def _stored(model: ModelInfo) -> StoredModel:
    from index.rows import ModelInfo as StoredModel

    return StoredModel(fingerprint=model.fingerprint, name=model.spec, d=model.d)
