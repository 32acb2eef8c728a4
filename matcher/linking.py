"""One clip's descriptors to its answer: neighbours → votes → matches → evidence → links.

Nothing here decodes, encodes or writes; a re-link runs the same code on kept descriptors.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.live import LiveIndex
from index.view import LiveView
from matcher.calibration import Calibration
from matcher.config import Settings
from matcher.decision import Evidence, decide, explained_frames, weigh
from matcher.localize import RIVAL_MARGIN, Match, localize
from matcher.records import Answer, Descriptors, Elsewhere, Failure, Guess, Link, Look, Segment
from matcher.voting import Hits, ballot, best_rival, collect_hits, vote

#: Log-odds of a view's few probes that make all frames worth looking at through it.
PROMISE = -5.0
#: A candidate with fewer votes than this share of the first one's is not aligned.
LEAST_VOTES = 0.1
#: Log-odds that are reported where nothing aligns.
NO_EVIDENCE = -1000.0


@dataclass(frozen=True)
class Assessed:
    """One candidate with what was found for it, through the view that shows it best.

    Attributes:
        program: Its position.
        look: The look at the clip in which it was found.
        matches: Aligned stretches; rows are frames of ``look``.
        evidence: None without matches.
        log_odds: Of the link; minus infinity without evidence.
        votes: Of the look's frames.
    """

    program: int
    look: Look
    matches: tuple[Match, ...]
    evidence: Evidence | None
    log_odds: float
    votes: float

    @property
    def confidence(self) -> float:
        """Probability of the link, 0 to 1."""
        return float(1.0 / (1.0 + np.exp(-np.clip(self.log_odds, -700.0, 700.0))))


@dataclass(frozen=True)
class _Neighbours:
    """What chance gives each frame, (n,), and its neighbours' similarity, program, asset and time, (n, k)."""

    level: NDArray[np.float32]
    similarity: NDArray[np.float32]
    program: NDArray[np.int32]
    asset: NDArray[np.int32]
    asset_seconds: NDArray[np.float64]

    def rows(self, rows: slice) -> _Neighbours:
        """Those of some frames."""
        return _Neighbours(
            self.level[rows], self.similarity[rows], self.program[rows], self.asset[rows],
            self.asset_seconds[rows],
        )  # fmt: skip


def key_of(look: Look) -> tuple[str, int]:
    """What tells a clip's looks apart: a view may be tried on a few frames, and then taken of all."""
    return look.view, len(look)


@dataclass(frozen=True)
class Considered:
    """A clip with everything that speaks for any program.

    Attributes:
        clip: Its descriptors.
        view: The state of the index that was searched.
        by_look: Candidates of each look, in the order of ``clip.looks``.
    """

    clip: Descriptors
    view: LiveView
    by_look: tuple[list[Assessed], ...]

    def by_key(self) -> dict[tuple[str, int], list[Assessed]]:
        """Candidates by :func:`key_of` their look."""
        return {key_of(look): found for look, found in zip(self.clip.looks, self.by_look, strict=True)}

    def assessed(self) -> list[Assessed]:
        """Every candidate, best first; of several looks at one program the best counts."""
        best: dict[int, Assessed] = {}
        for assessed in self.by_look:
            for found in assessed:
                known = best.get(found.program)
                if known is None or found.log_odds > known.log_odds:
                    best[found.program] = found
        # A stable sort: candidates of one confidence stay in the order of their votes.
        by_votes = sorted(best.values(), key=lambda a: (-a.votes, a.program))
        return sorted(by_votes, key=lambda a: -a.log_odds)


class Linker:
    """Answers clips from one live index; safe to share between threads.

    Args:
        live: The catalog's frames.
        settings: Voting and decision.
        calibration: From evidence to confidence, thresholds and background.
        hidden: Positions of programs that are treated as if they were not there.
    """

    def __init__(
        self, live: LiveIndex, settings: Settings, calibration: Calibration, *, hidden: Collection[int] = ()
    ) -> None:
        self._live = live
        self._voting = settings.voting
        self._calibration = calibration
        self._hidden = np.array(sorted(hidden), np.int32)
        wanted = settings.decision
        self._link_bar = calibration.link if wanted.link is None else wanted.link
        self._review_bar = min(self._link_bar, calibration.review if wanted.review is None else wanted.review)

    @property
    def version(self) -> int:
        """The state of the catalog that is searched."""
        return self._live.version

    def link(self, clip_id: str, path: str, clip: Descriptors, *, model: str, top: int) -> Answer:
        """Answer one clip; ``top`` best guesses are named."""
        return self.answer(clip_id, path, self.consider(clip), model=model, top=top)

    def consider(self, clip: Descriptors, known: Considered | None = None) -> Considered:
        """Everything that speaks for any program, look by look.

        Args:
            clip: With all its looks.
            known: Of the same clip with fewer looks: those are not considered again.
        """
        view = self._live.view
        done = known.by_key() if known is not None and known.view is view else {}
        new = [(number, look) for number, look in enumerate(clip.looks) if key_of(look) not in done]
        # One search for all of them: the threads are woken once, and a large index is read once.
        vectors = [look.vectors for _, look in new]
        found = self._neighbours(np.concatenate(vectors) if vectors else clip.vectors[:0], view)
        start = 0
        for number, look in new:
            rows = slice(start, start + len(look))
            start = rows.stop
            done[key_of(look)] = self._assess(clip, look, found.rows(rows), view, is_further=number > 0)
        return Considered(clip, view, tuple(done[key_of(look)] for look in clip.looks))

    def is_unsure(self, considered: Considered) -> bool:
        """Whether no program explains enough of the clip to be linked, so that a second look may help."""
        best = max((found.confidence for found in considered.assessed()), default=0.0)
        return len(considered.clip) > 0 and best < self._link_bar

    def promising(self, considered: Considered) -> list[str]:
        """Names of the further looks that point at a program, the most promising first."""
        best = {
            look.view: max((found.log_odds for found in assessed), default=-np.inf)
            for look, assessed in list(zip(considered.clip.looks, considered.by_look, strict=True))[1:]
        }
        return [name for name in sorted(best, key=lambda name: -best[name]) if best[name] >= PROMISE]

    def answer(self, clip_id: str, path: str, considered: Considered, *, model: str, top: int) -> Answer:
        """What is said of a clip that has been considered; ``top`` best guesses are named."""
        view = considered.view
        assessed = considered.assessed()
        links = self._accepted(assessed)
        best = links[0].confidence if links else max((a.confidence for a in assessed), default=0.0)
        decision = decide(best, link=self._link_bar, review=self._review_bar)
        bar = self._link_bar if decision == "linked" else self._review_bar
        kept = [found for found in links if decision != "none" and found.confidence >= bar]
        titles = view.program_records
        return Answer(
            clip_id=clip_id,
            path=path,
            decision=decision if kept else "none",
            links=tuple(_link(view, found) for found in kept),
            candidates=tuple(
                Guess(
                    program_id=titles[a.program].program_id,
                    title=titles[a.program].title,
                    confidence=a.confidence,
                    score=a.evidence.similarity if a.evidence else 0.0,
                    log_odds=a.log_odds if a.evidence else NO_EVIDENCE,
                )
                for a in assessed[:top]
            ),
            model=model,
            catalog_version=view.version,
            looks=len(considered.clip.looks),
        )

    def assess(self, clip: Descriptors) -> list[Assessed]:
        """Every candidate with matches and confidence, best first; of several looks the best counts."""
        return self.consider(clip).assessed()

    def _assess(
        self, clip: Descriptors, look: Look, found: _Neighbours, view: LiveView, *, is_further: bool
    ) -> list[Assessed]:
        """The candidates of one look."""
        level = found.level
        hits = collect_hits(
            found.similarity, found.program, found.asset, found.asset_seconds,
            floor=level, per_program=self._voting.per_program,
        )  # fmt: skip
        votes = ballot(hits, level)
        wanted = self._voting.further_candidates if is_further else self._voting.candidates
        ranked = vote(votes, hub_margin=self._voting.hub_margin, candidates=wanted)
        rivals, aligned = [], []
        for candidate in ranked:
            rivals.append(best_rival(votes, candidate.program))
            is_weak = candidate.votes < LEAST_VOTES * ranked[0].votes
            aligned.append(
                ()
                if is_weak
                else tuple(self._localize(clip, look, hits, candidate.program, rivals[-1], level, view))
            )
        explained = [explained_frames(matches, level) for matches in aligned]
        times = np.sum(explained, axis=0, dtype=np.int64) if explained else np.zeros(len(look), np.int64)
        assessed = []
        for candidate, rival, matches, own in zip(ranked, rivals, aligned, explained, strict=True):
            evidence = weigh(
                matches, look.vectors, rival, level, is_further=is_further, explained=times - own > 0
            )
            log_odds = self._calibration.weights.log_odds(evidence) if evidence else -np.inf
            assessed.append(Assessed(candidate.program, look, matches, evidence, log_odds, candidate.votes))
        if not is_further:
            named = {candidate.program for candidate in ranked}
            others = self._nearest(found, wanted - len(ranked), named)
            assessed += [Assessed(program, look, (), None, -np.inf, 0.0) for program in others]
        return assessed

    def _nearest(self, found: _Neighbours, most: int, named: set[int]) -> list[int]:
        """Programs that no frame votes for, by their best similarity: guesses all the same."""
        counts = (found.program >= 0) & (found.similarity >= self._voting.floor)
        programs, column = np.unique(found.program[counts], return_inverse=True)
        best = np.full(programs.size, -1.0, np.float32)
        np.maximum.at(best, column, found.similarity[counts])
        order = [int(programs[i]) for i in np.lexsort((programs, -best))]
        return [program for program in order if program not in named][:most]

    def _neighbours(self, vectors: NDArray[np.float32], view: LiveView) -> _Neighbours:
        level = np.maximum(self._calibration.background.levels(vectors), np.float32(self._voting.floor))
        if len(vectors) == 0 or self._live.ntotal == 0:
            empty = np.zeros((len(vectors), 0))
            position = empty.astype(np.int32)
            return _Neighbours(level, empty.astype(np.float32), position, position, empty)
        found = self._live.search(vectors, self._voting.k)
        where = view.locate(found.ids)
        program = where.program_position
        if self._hidden.size:
            program = np.where(np.isin(program, self._hidden), np.int32(-1), program)
        return _Neighbours(level, found.similarities, program, where.asset_position, where.t_seconds)

    def _localize(
        self,
        clip: Descriptors,
        look: Look,
        hits: Hits,
        program: int,
        rival: NDArray[np.float32],
        level: NDArray[np.float32],
        view: LiveView,
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
            look.t_seconds,
            look.vectors,
            own,
            read_band,
            floor=level,
            rival=rival,
            clip_end_seconds=clip.duration_seconds,
            allow_reversed=True,
        )

    def _accepted(self, assessed: list[Assessed]) -> list[Assessed]:
        """Programs that may be linked together: each must explain seconds that no better one explains."""
        accepted: list[Assessed] = []
        for candidate in assessed:
            if candidate.evidence is None or candidate.confidence < self._review_bar:
                continue
            times = np.concatenate([candidate.look.t_seconds[match.run] for match in candidate.matches])
            taken = np.zeros(times.size, dtype=bool)
            for better in accepted:
                for match in better.matches:
                    taken |= (times >= match.clip_start_seconds) & (times < match.clip_end_seconds)
            if taken.mean() <= 0.5:
                accepted.append(candidate)
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
            is_reversed=match.is_reversed,
            view=assessed.look.view,
            ambiguity=match.ambiguity,
            also=tuple(
                Elsewhere(
                    view.assets[place.asset].asset_id,
                    place.asset_start_seconds,
                    place.asset_end_seconds,
                    place.similarity,
                )
                for place in match.also
            ),
        )
        for match in assessed.matches
    )
    return Link(view.program_records[assessed.program].program_id, assessed.confidence, segments)
