"""What searches a catalog, as its users see it.

Shape letters: ``nq`` queries, ``d`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from index.base import SearchResult, Vectors
from index.rows import Kind
from index.view import CatalogView

if TYPE_CHECKING:
    from index.catalog import Writer
    from index.drift import Drift, Training
    from index.selectors import Range


class Searchable(Protocol):
    """What there is to search of frames, or of sounds: all of a live index, or some programs of it."""

    @property
    def view(self) -> CatalogView:
        """What an answer's ids mean."""
        ...

    @property
    def version(self) -> int:
        """The catalog's version shown."""
        ...

    @property
    def ntotal(self) -> int:
        """Frames that a search can return."""
        ...

    def search(self, xq: Vectors, k: int) -> SearchResult:
        """The k nearest frames of each row of ``xq`` (nq, d)."""
        ...

    def refresh(self) -> bool:
        """Show what was committed since; returns whether anything changed."""
        ...


class CatalogIndex(Searchable, Protocol):
    """Search over what a catalog shows: what :mod:`index.live` and :mod:`index.two_stage` have in common.

    Searches and a refresh may come from several threads. A thread that needs positions to stay good over
    several calls takes :attr:`view` once and asks that.
    """

    @property
    def d(self) -> int:
        """Dimensions of a vector."""
        ...

    @property
    def kind(self) -> str:
        """What searches, in a word or two."""
        ...

    @property
    def table(self) -> Kind:
        """What is searched: "frames" or "sounds"."""
        ...

    def search(self, xq: Vectors, k: int, *, within: Sequence[Range] | None = None) -> SearchResult:
        """The k nearest frames of each row of ``xq`` (nq, d), of all or of half-open ranges of ids."""
        ...

    @property
    def training(self) -> Training | None:
        """What the centroids were trained on; None where the kind has none."""
        ...

    @property
    def drift(self) -> Drift | None:
        """How far the frames have moved on from the centroids; None where that is not known."""
        ...

    def retrain(self, writer: Writer) -> None:
        """Set the centroids anew, where the kind has some, and save; nothing else changes."""
        ...

    def rebuild(self, writer: Writer | None = None) -> None:
        """Read everything from the tables; with a writer, also save what is kept on the disk."""
        ...

    def save(self, writer: Writer, *, force: bool = False) -> bool:
        """Refresh, and bring what is kept on the disk up to date if it is due; returns whether it was."""
        ...

    def verify(self, *, full: bool = False, sample: int | None = None) -> list[str]:
        """One line for each difference between this index and the tables; empty when they are equal."""
        ...
