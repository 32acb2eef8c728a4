"""One clip's descriptors to its answer: neighbours → votes → matches → evidence → links.

Nothing here decodes, encodes or writes; a re-link runs the same code on kept descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.live import LiveIndex
from index.view import LiveView
from matcher.config import Settings
from matcher.decision import SHIPPED, Calibration, Evidence, decide, weigh
from matcher.localize import RIVAL_MARGIN, Match, localize
from matcher.records import Answer, Descriptors, Failure, Guess, Link, Segment
from matcher.voting import Hits, best_rival, collect_hits, vote


@dataclass(frozen=True)
class Assessed:
    """One candidate with what was found for it."""

    program: int
    matches: tuple[Match, ...]
    evidence: Evidence | None
    confidence: float


class Linker:
    """Answers clips from one live index; safe to share between threads.

    Args:
        live: The catalog's frames.
        settings: Voting and decision.
        calibration: From evidence to confidence.
    """

    def __init__(self, live: LiveIndex, settings: Settings, calibration: Calibration = SHIPPED) -> None:
        self._live = live
        self._settings = settings
        self._calibration = calibration

    @property
    def version(self) -> int:
        """The state of the catalog that is searched."""
        return self._live.version

    def link(self, clip_id: str, path: str, clip: Descriptors, *, model: str, top: int) -> Answer:
        """Answer one clip; ``top`` best guesses are named."""
        view = self._live.view
        assessed = self.assess(clip, view)
        links = self._accepted(assessed)
        best = links[0][1].confidence if links else max((a.confidence for a in assessed), default=0.0)
        decision = decide(best, link=self._settings.decision.link, review=self._settings.decision.review)
        kept = [link for link in links if decision != "none" and link[1].confidence >= self._bar(decision)]
        titles = view.program_records
        return Answer(
            clip_id=clip_id,
            path=path,
            decision=decision if kept else "none",
            links=tuple(_link(view, a) for _, a in kept),
            candidates=tuple(
                Guess(
                    program_id=titles[a.program].program_id,
                    title=titles[a.program].title,
                    confidence=a.confidence,
                    score=a.evidence.similarity if a.evidence else 0.0,
                )
                for a in assessed[:top]
            ),
            model=model,
            catalog_version=view.version,
        )

    def assess(self, clip: Descriptors, view: LiveView) -> list[Assessed]:
        """Every candidate with matches and confidence, best first."""
        hits = self.hits(clip, view)
        voting = self._settings.voting
        candidates = vote(
            hits, len(clip), floor=voting.floor, hub_margin=voting.hub_margin, candidates=voting.candidates
        )
        assessed = []
        for candidate in candidates:
            rival = best_rival(
                hits, len(clip), candidate.program, floor=voting.floor, background=voting.background
            )
            matches = tuple(self._localize(clip, hits, candidate.program, rival, view))
            evidence = weigh(matches, clip.vectors, rival)
            confidence = self._calibration.confidence(evidence) if evidence else 0.0
            assessed.append(Assessed(candidate.program, matches, evidence, confidence))
        # A stable sort: candidates of one confidence stay in the order of their votes.
        return sorted(assessed, key=lambda a: -a.confidence)

    def hits(self, clip: Descriptors, view: LiveView) -> Hits:
        """The clip's neighbours that count."""
        voting = self._settings.voting
        if len(clip) == 0 or self._live.ntotal == 0:
            empty = np.zeros((len(clip), 0))
            position = empty.astype(np.int32)
            return collect_hits(
                empty.astype(np.float32), position, position, empty,
                floor=voting.floor, per_program=voting.per_program,
            )  # fmt: skip
        found = self._live.search(clip.vectors, voting.k)
        where = view.locate(found.ids)
        return collect_hits(
            found.similarities, where.program_position, where.asset_position, where.t_seconds,
            floor=voting.floor, per_program=voting.per_program,
        )  # fmt: skip

    def _localize(
        self, clip: Descriptors, hits: Hits, program: int, rival: NDArray[np.float32], view: LiveView
    ) -> list[Match]:
        own = hits.select(hits.program == program)
        # Only frames that may be on a match, which most candidates have none of, are worth aligning.
        if not np.any(own.similarity >= rival[own.frame] - RIVAL_MARGIN):
            return []

        def read_band(
            asset: int, start: float, stop: float
        ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
            _, t_seconds, vectors = view.frames_between(asset, start, stop)
            return t_seconds, vectors

        return localize(
            clip.t_seconds,
            clip.vectors,
            own,
            read_band,
            floor=self._settings.voting.floor,
            rival=rival,
            clip_end_seconds=clip.duration_seconds,
        )

    def _bar(self, decision: str) -> float:
        return self._settings.decision.link if decision == "linked" else self._settings.decision.review

    def _accepted(self, assessed: list[Assessed]) -> list[tuple[NDArray[np.int64], Assessed]]:
        """Programs that may be linked together: each must explain frames that no better one explains."""
        taken: NDArray[np.int64] = np.zeros(0, np.int64)
        accepted = []
        for candidate in assessed:
            if candidate.evidence is None or candidate.confidence < self._settings.decision.review:
                continue
            frames = np.concatenate([match.run for match in candidate.matches])
            if np.isin(frames, taken).mean() > 0.5:
                continue
            accepted.append((frames, candidate))
            taken = np.union1d(taken, frames)
        return accepted


def failed(clip_id: str, path: str, failure: Failure, *, model: str, catalog_version: int) -> Answer:
    """The answer for a file that could not be read."""
    return Answer(clip_id, path, "none", (), (), model, catalog_version, failure)


def _link(view: LiveView, assessed: Assessed) -> Link:
    segments = tuple(
        Segment(
            clip_start_seconds=match.clip_start_seconds,
            clip_end_seconds=match.clip_end_seconds,
            asset_id=view.assets[match.asset].asset_id,
            asset_start_seconds=match.asset_start_seconds,
            asset_end_seconds=match.asset_end_seconds,
            similarity=float(match.similarities.mean()),
        )
        for match in assessed.matches
    )
    return Link(view.program_records[assessed.program].program_id, assessed.confidence, segments)
