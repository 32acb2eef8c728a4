"""From the stretches of a store's own programs to the confidence of related ones: nobody labels anything.

A stretch, asked as if it were a clip without words, is about its program: that is the truth. What lies beside
it would make it easy, so its own asset is hidden, or in a program of one asset the stretches next to it; for
half of the stretches the whole program is, and then no answer is right.

Shape letters: ``n`` stretches asked, ``f`` numbers of evidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from index.base import Ids, Vectors
from index.protocols import CatalogIndex
from matcher.clip_features import MOST_STRETCHES, stretches
from matcher.embedding import Fusion, timed_assets
from matcher.related import NEIGHBOURS, SHIPPED, RelatedWeights, nearest_programs, weigh_related

if TYPE_CHECKING:
    from index.catalog import Catalog

#: Programs that are drawn, and stretches of each, at most; fewer than these say nothing.
PROGRAMS, EACH = 400, 5
LEAST_PROGRAMS, LEAST_ASKED = 12, 40
#: Stretches to either side of one, in a program of one asset, that are hidden with it.
BESIDE = 1
#: Evidence that the fit speaks of; a stretch has no words.
_FITTED = 2


@dataclass(frozen=True)
class Cases:
    """Candidates of stretches, and whether each is right.

    Attributes:
        evidence: (m, f) of all candidates of all stretches.
        is_right: (m,) bool.
        stretch: (m,) which stretch.
        program: (m,) position of the stretch's own program: the group of a split.
    """

    evidence: NDArray[np.float64]
    is_right: NDArray[np.bool_]
    stretch: NDArray[np.int64]
    program: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A stretch that is asked: its embedding without words, its program, and the ids that are hidden."""

    embedding: Vectors
    position: int
    hidden: Ids
    is_known: bool


def collect_cases(catalog: Catalog, fusion: Fusion, live: CatalogIndex, *, seed: int = 0) -> Cases:
    """Ask stretches of programs drawn at random.

    Args:
        catalog: The store.
        fusion: Made its embeddings.
        live: Of those.
        seed: Other programs, other stretches.
    """
    asked = list(_asked(catalog, fusion, live, np.random.default_rng(seed)))
    evidence = [np.zeros((0, len(SHIPPED.weights)))]
    right = [np.zeros(0, np.bool_)]
    whose: list[int] = []
    for number, one in enumerate(asked):
        found = live.search(one.embedding[None], NEIGHBOURS + 2 * MOST_STRETCHES)
        position = live.view.locate(found.ids).program_position
        position = np.where(np.isin(found.ids, one.hidden), -1, position)
        ((programs, best),) = nearest_programs(
            found.similarities, position, hidden=() if one.is_known else (one.position,)
        )
        lead = weigh_related(programs, best, {})
        evidence.append(lead.evidence)
        right.append(lead.positions == one.position)
        whose += [number] * len(lead.positions)
    stretch = np.array(whose, np.int64)
    program = np.array([one.position for one in asked], np.int64)
    return Cases(np.concatenate(evidence), np.concatenate(right), stretch, program[stretch])


def _asked(
    catalog: Catalog, fusion: Fusion, live: CatalogIndex, rng: np.random.Generator
) -> Iterator[_Asked]:
    view = live.view
    drawn = rng.permutation(len(view.program_records))[:PROGRAMS]
    is_known = itertools.cycle((True, False))
    numbers = np.array([asset.number for asset in view.assets])
    for position in sorted(drawn.tolist()):
        record = view.program_records[position]
        places = np.flatnonzero(numbers == record.number)
        counts = view.frame_count[places]
        if counts.sum() < 2 * BESIDE + 2:
            continue
        first = view.first_id[places]
        features = [
            [found for _, found in stretches(seen, heard, None, n_assets=len(places))]
            for seen, heard in timed_assets(
                catalog, record, [view.assets[place].asset_id for place in places]
            )
        ]
        everyone = [(asset, row) for asset, count in enumerate(counts) for row in range(int(count))]
        for one in rng.permutation(len(everyone))[:EACH]:
            asset, row = everyone[one]
            own = np.arange(first[asset], first[asset] + counts[asset])
            hidden = own if len(places) > 1 else own[max(0, row - BESIDE) : row + BESIDE + 1]
            (embedding,) = fusion.embedder.embed([features[asset][row]])
            yield _Asked(embedding, position, hidden, next(is_known))


def fit_weights(cases: Cases, *, embedding: str) -> RelatedWeights | None:
    """Weights for what the embeddings say; what titles say is as shipped. None of too few cases.

    Args:
        cases: Of one store.
        embedding: Fingerprint of its embeddings.
    """
    from sklearn.linear_model import LogisticRegression

    asked = len(np.unique(cases.stretch))
    if len(np.unique(cases.program)) < LEAST_PROGRAMS or asked < LEAST_ASKED or not cases.is_right.any():
        return None
    fitted = LogisticRegression(C=10.0, max_iter=1000).fit(cases.evidence[:, :_FITTED], cases.is_right)
    own = tuple(float(weight) for weight in fitted.coef_[0])
    return replace(
        SHIPPED, bias=float(fitted.intercept_[0]), weights=(*own, *SHIPPED.weights[_FITTED:]),
        embedding=embedding, cases=asked,
    )  # fmt: skip


def fit_related(
    catalog: Catalog, fusion: Fusion, live: CatalogIndex, *, seed: int = 0
) -> RelatedWeights | None:
    """Calibrate related programs on a store's own; None where it has too few to tell."""
    cases = collect_cases(catalog, fusion, live, seed=seed)
    return fit_weights(cases, embedding=fusion.info.fingerprint)
