"""How a clip came by its link: every answer that differed from the one before, and all that people said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matcher.errors import InputError
from matcher.inputs import check_id, one_line
from matcher.verdicts import CONFIRMED, REJECTED

if TYPE_CHECKING:
    from index.catalog import Catalog

#: Headings of :func:`history_row`.
HISTORY_COLUMNS = ("at", "decision", "programs", "confidence", "by", "why", "catalog version")


def history_objects(catalog: Catalog, clip_id: str) -> list[dict[str, Any]]:
    """The events of one clip, in order of time.

    ``event`` is "answer" (with ``decision``, ``programs``, ``confidence``, ``why``, ``night``,
    ``catalog_version``, ``model`` and ``epoch``) or "review" (with ``verdict`` and ``program_id``); ``by`` is
    "matcher" or "person".

    Raises:
        InputError: No such clip is kept, and nobody spoke of one.
    """
    check_id("the clip's id", clip_id)
    link = catalog.whole_links([clip_id]).get(clip_id)
    reviews = [review for review in catalog.reviews() if review.clip_id == clip_id]
    if link is None and not reviews and catalog.clip(clip_id) is None:
        name = one_line(clip_id)
        raise InputError(f"there is no kept clip {name} in {catalog.place}; see `matcher clips`")
    said: list[dict[str, Any]] = [
        {
            "clip_id": clip_id, "at": review.at, "event": "review", "by": "person",
            "verdict": review.verdict, "program_id": review.program_id,
        }
        for review in reviews
    ]  # fmt: skip
    answered = [{"clip_id": clip_id, "event": "answer", **entry} for entry in (link.history if link else ())]
    # What was said goes before the answer to it.
    return sorted([*said, *answered], key=lambda event: event["at"])


def history_row(event: dict[str, Any]) -> tuple[str, ...]:
    """An event as a row under :data:`HISTORY_COLUMNS`."""
    at = event["at"][:19].replace("T", " ")
    if event["event"] == "review":
        what = {CONFIRMED: "it is from {}", REJECTED: "it is not from {}"}.get(
            event["verdict"], "it is from no program"
        )
        return at, f"said: {what.format(event['program_id'])}", "", "", event["by"], "", ""
    return (
        at, event["decision"], ", ".join(event["programs"]), f"{event['confidence']:.3f}", event["by"],
        event["why"], str(event["catalog_version"]),
    )  # fmt: skip
