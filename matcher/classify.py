"""``matcher classify``: what clips are, on three tiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from matcher.config import Settings
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError
from matcher.inputs import ClipJob, Refused
from matcher.linking import Linker
from matcher.pipeline import OnFrames, query_clips
from matcher.records import Failure
from matcher.store import open_surroundings

if TYPE_CHECKING:
    from index.catalog import Catalog


@dataclass(frozen=True)
class Classified:
    """One clip's categories.

    Attributes:
        clip_id: The caller's name of the clip.
        path: Its file.
        categories: As an answer of ``query`` has them; None where nothing says anything.
        program_id: The program that it is linked to.
        error: Set when the file could not be read.
    """

    clip_id: str
    path: str
    categories: Mapping[str, Any] | None
    program_id: str | None
    error: Failure | None = None

    @property
    def outcome(self) -> Literal["named", "none", "failed"]:
        """Whether any tier is named."""
        if self.error is not None:
            return "failed"
        tiers = () if self.categories is None else self.categories["tiers"]
        return "named" if any(tier["name"] is not None for tier in tiers) else "none"

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "clip_id": self.clip_id, "path": self.path,
            "categories": None if self.categories is None else dict(self.categories),
            "program_id": self.program_id, "error": None if self.error is None else asdict(self.error),
        }  # fmt: skip


def classified(
    catalog: Catalog,
    linker: Linker,
    jobs: Sequence[ClipJob | Refused],
    encoder: FrameEncoder,
    settings: Settings,
    *,
    min_confidence: float | None = None,
    on_frames: OnFrames | None = None,
) -> Iterator[Classified]:
    """Classify clips in order.

    Args:
        catalog: The store.
        linker: Of it: a linked program's own category is evidence.
        jobs: Which clips.
        encoder: Must be the store's model.
        settings: As for a query.
        min_confidence: A category less confident is not named; default that of the settings.
        on_frames: Called with the file and the time reached in it.

    Raises:
        InputError: The store has no embeddings.
    """
    surroundings = open_surroundings(catalog, settings)
    if surroundings is None:
        raise InputError(
            f"the store {catalog.place} has no embeddings, so nothing says what clips are; make them with:"
            " matcher models use mean"
        )
    if min_confidence is not None:
        surroundings = replace(surroundings, min_confidence=min_confidence)
    for answer, _ in query_clips(
        linker, jobs, encoder, settings, top=1, on_frames=on_frames, surroundings=surroundings
    ):
        yield Classified(answer.clip_id, answer.path, answer.categories, answer.program_id, answer.error)


def classify_row(found: Classified) -> tuple[str, ...]:
    """A row of the table: one cell a tier, its confidence behind the name."""
    tiers = ["", "", ""]
    words = found.categories or {"tiers": (), "basis": None}
    for tier in words["tiers"]:
        sure = "" if tier["confidence"] is None else f" {tier['confidence']:.2f}"
        tiers[tier["tier"] - 1] = f"{tier['name'] or '—'}{sure}"
    basis = "unreadable" if found.error is not None else (words["basis"] or "nothing says")
    return found.clip_id, *tiers, found.program_id or "", basis
