"""The steps of a night's housekeeping, by name; apart, so that the command line need load nothing else."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """In the order in which they are done.

    What is said beside the links comes first, for it writes to the tables that are then made small.
    The caches are verified as they served today, before a new snapshot takes the place of a damaged one.
    """

    RELATED = "related"
    COMPACT = "compact"
    VERIFY = "verify"
    SNAPSHOT = "snapshot"
    DRIFT = "drift"
