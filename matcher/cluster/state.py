"""What every process of a cluster must find in the store, or its answers would be of something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matcher.errors import StoreError
from matcher.linking import Linker

if TYPE_CHECKING:
    from index.catalog import Catalog


@dataclass(frozen=True)
class StoreState:
    """What a worker must find when it opens the store, or its answers would be of something else.

    Attributes:
        store: By its name that is good from everywhere.
        versions: Of the tables that answers are made from.
        epoch: Of the answers: the settings, the calibration, the rules of this version of the program.
    """

    store: str
    versions: Mapping[str, int]
    epoch: str

    @classmethod
    def of(cls, catalog: Catalog, epoch: str) -> StoreState:
        """The present one."""
        versions = {name: catalog.version_of(name) for name in ("programs", "clips")}
        return cls(catalog.place.full_name, versions, epoch)

    def check(self, catalog: Catalog, linker: Linker | None = None, *, top: int = 1) -> None:
        """Make sure that another process has the same before it; without a linker, but for the epoch.

        Raises:
            StoreError: It has not.
        """
        seen = StoreState.of(catalog, self.epoch if linker is None else linker.epoch(top))
        if seen.versions != self.versions:
            words = ", ".join(f"{name} {n}" for name, n in seen.versions.items())
            wanted = ", ".join(f"{name} {n}" for name, n in self.versions.items())
            raise StoreError(
                f"the store {self.store} is at {words}, where this command sees {wanted}: "
                "every machine must reach the same store by this name"
            )
        if seen.epoch != self.epoch:
            raise StoreError(
                f"the store {self.store} would be linked otherwise than here ({seen.epoch}, not "
                f"{self.epoch}): every machine needs the same version of this package and the same "
                "calibration"
            )
