"""The steps of a night's housekeeping, by name; apart, so that the command line need load nothing else."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """In the order in which they are done.

    The caches are verified as they served today, before a new snapshot takes the place of a damaged one.
    """

    COMPACT = "compact"
    VERIFY = "verify"
    SNAPSHOT = "snapshot"
    DRIFT = "drift"
