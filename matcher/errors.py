"""One tree of errors; the command line turns each kind into its exit code.

A programmer's misuse of a function is a plain ``ValueError`` and is not in this tree.
"""

from __future__ import annotations

from typing import ClassVar


class MatcherError(Exception):
    """Something went wrong by the program's own fault (exit 1)."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "internal"


class InputError(MatcherError):
    """An input or the words of a command cannot be used (exit 2).

    In a batch the input is recorded and the rest goes on.
    """

    exit_code: ClassVar[int] = 2
    kind: ClassVar[str] = "input"


class VideoError(InputError):
    """A file is not a video that can be decoded."""

    kind: ClassVar[str] = "video"


class StoreError(InputError):
    """The store is damaged, foreign, or made by another encoder."""

    kind: ClassVar[str] = "store"


class StoreLockedError(StoreError):
    """Another process is writing to the store."""

    kind: ClassVar[str] = "locked"


class MissingDependencyError(MatcherError):
    """A package that the wanted feature needs is not installed (exit 3)."""

    exit_code: ClassVar[int] = 3
    kind: ClassVar[str] = "missing-dependency"
