"""What can go wrong with vectors and rows; ``matcher`` turns these into its own errors."""

from __future__ import annotations


class IndexStoreError(Exception):
    """Base of this package's errors."""


class CatalogError(IndexStoreError):
    """The tables are damaged, foreign, or of another layout."""


class CatalogLockedError(CatalogError):
    """Another process holds the writer lock; ``holder`` says which."""

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class LeaseLostError(CatalogError):
    """This writer's lock ran out and another writer took over; nothing may be written on."""


class NotWritableError(CatalogError):
    """The system lets nothing be written: a full disk, a read-only one, no right to."""


class ModelMismatchError(CatalogError):
    """The store's descriptors were made by another model."""


class BackendMissingError(IndexStoreError):
    """A package is not installed (or two FAISS builds are); the message names the extra."""
