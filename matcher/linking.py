"""One clip's descriptors to its answer: neighbours → votes → matches → evidence → links.

Nothing here decodes, encodes or writes; a re-link runs the same code on kept descriptors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.protocols import Searchable
from index.rows import LinkBasis
from index.view import CatalogView
from matcher.agreement import FEW_LINES, agreements, rank_agreed
from matcher.background import Background
from matcher.calibration import Calibration
from matcher.config import Settings
from matcher.considered import (
    Assessed,
    Considered,
    Joined,
    Part,
    Rest,
    aligned_parts,
    has_other_sound,
    is_seen,
    key_of,
    sight_of,
)
from matcher.decision import (
    LEAST_HEARD,
    SoundWeights,
    Weights,
    decide,
    different_frames,
    explained_frames,
    weigh,
)
from matcher.elsewhere import BandReader
from matcher.listen import Listener, listener_of
from matcher.localize import RIVAL_MARGIN, Match, localize
from matcher.records import (
    Answer,
    Decision,
    Descriptors,
    Elsewhere,
    Failure,
    Guess,
    Heard,
    Kind,
    Link,
    Look,
    Reviewed,
    Segment,
)
from matcher.sound import HALF_PATCH_SECONDS
from matcher.verdicts import Verdict
from matcher.voting import Candidate, Hits, ballot, best_rival, collect_hits, vote

#: Log-odds of a view's few probes that make all frames worth looking at through it.
PROMISE = -5.0
#: A candidate of the pictures with fewer votes than this share of the first one's is not aligned.
LEAST_VOTES = 0.1
#: A clip that plays faster or slower than this, in octaves, mostly plays its sound so too: its own then
#: resembles the program's no more than another's does.
PLAIN_SPEED = 0.03
#: Log-odds that are reported where nothing aligns.
NO_EVIDENCE = -1000.0
#: Raise it when the same descriptors and settings come to give another answer: all clips are then re-linked.
RULES = 2
#: Tries to answer from one state of a catalogue that another thread keeps refreshing.
_ATTEMPTS = 3


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


@dataclass(frozen=True)
class Kit:
    """What one kind of descriptor is linked with: its index, and how it is looked at.

    Attributes:
        live: The catalogue's descriptors of this kind.
        view: Their state.
        background: What chance looks like.
        weights: From evidence to log-odds.
        k: Neighbours a row.
        per_program: At most so many of one program count for one row.
        floor: Least similarity that counts.
        candidates: Programs that go on to alignment; of sound so many by either way of ranking them.
        further_candidates: The same, of each further look.
        allow_reversed: Whether a stretch may be played backwards.
        reach_seconds: How far to either side of its time a row tells of.
    """

    live: Searchable
    view: CatalogView
    background: Background
    weights: Weights | SoundWeights
    k: int
    per_program: int
    floor: float
    candidates: int
    further_candidates: int
    allow_reversed: bool
    reach_seconds: float


class Linker:
    """Answers clips from one live index, or from two; safe to share between threads.

    Args:
        live: The catalogue's frames, or those of some programs.
        settings: Voting and decision.
        calibration: From evidence to confidence, thresholds and background.
        hidden: Positions of programs that are treated as if they were not there.
        sound: The catalogue's sounds; None to look only.
    """

    def __init__(
        self,
        live: Searchable,
        settings: Settings,
        calibration: Calibration,
        *,
        hidden: Collection[int] = (),
        sound: Searchable | None = None,
    ) -> None:
        self._live = live
        self._sound = sound if settings.sound.enabled and calibration.sound is not None else None
        self._settings = settings
        self._voting = settings.voting
        self._calibration = calibration
        self._hidden = np.array(sorted(hidden), np.int32)
        wanted = settings.decision
        self._link_bar = calibration.link if wanted.link is None else wanted.link
        self._review_bar = min(self._link_bar, calibration.review if wanted.review is None else wanted.review)

    def listener(self) -> Listener | None:
        """What clips are to be listened to with; None where the sound is not asked."""
        if self._sound is None:
            return None
        return listener_of(self._settings.sound, self._settings.sound.clip_hop_seconds)

    @property
    def version(self) -> int:
        """The state of the catalog that is searched."""
        return self._live.version

    def epoch(self, top: int) -> str:
        """Hash of all that an answer with ``top`` guesses depends on but the catalogue: 12 hex digits."""
        index = self._settings.index
        words = [
            RULES, top, self._calibration.version, index.search, index.stretches, index.kind, index.nprobe,
            self._sound is not None,
            self._voting.model_dump_json(), self._settings.sound.model_dump_json(),
            self._settings.decision.model_dump_json(),
        ]  # fmt: skip
        return hashlib.sha256(repr(words).encode()).hexdigest()[:12]

    def basis(self, considered: Considered, *, top: int) -> LinkBasis:
        """What the answer with ``top`` guesses rests on, as far as the catalogue and the settings go."""
        records = considered.view.program_records
        rests = [rest for rest in considered.rests if rest is not None]
        programs = np.unique(np.concatenate([np.zeros(0, np.int32), *(rest.programs for rest in rests)]))
        return LinkBasis(
            epoch=self.epoch(top),
            known=records[-1].number if records else 0,
            numbers=np.array([records[program].number for program in programs], np.int64),
            bars=np.concatenate([np.zeros(0, np.float32), *(rest.bars for rest in rests)]),
        )

    def link(
        self,
        clip_id: str,
        path: str,
        clip: Descriptors,
        *,
        model: str,
        top: int,
        verdict: Verdict | None = None,
    ) -> Answer:
        """Answer one clip; ``top`` best guesses are named."""
        return self.answer(clip_id, path, self.consider(clip), model=model, top=top, verdict=verdict)

    def consider(self, clip: Descriptors, known: Considered | None = None) -> Considered:
        """Everything that speaks for any program, look by look.

        Args:
            clip: With all its looks.
            known: Of the same clip with fewer looks: those are not considered again.
        """
        for _ in range(_ATTEMPTS):
            kits = self._kits()
            considered = self._consider(clip, known, kits)
            # Another thread may refresh between a search and the looking up of what it found, and a
            # program that was replaced meanwhile would be found under ids that the old state lacks.
            if all(kit.live.view is kit.view for kit in kits.values()):
                break
        return considered

    def _consider(self, clip: Descriptors, known: Considered | None, kits: Mapping[Kind, Kit]) -> Considered:
        view = kits["picture"].view
        is_known = known is not None and known.view is view
        done = known.by_key() if known is not None and is_known else {}
        rests = known.rests_by_key() if known is not None and is_known else {}
        for kind, kit in kits.items():
            new = [(number, look) for number, look in enumerate(clip.looks) if key_of(look) not in done]
            new = [(number, look) for number, look in new if look.kind == kind]
            if not new:
                continue
            # One search for all of them: the threads are woken once, and a large index is read once.
            found = self._neighbours(np.concatenate([look.vectors for _, look in new]), kit)
            start = 0
            for number, look in new:
                own = found.rows(slice(start, start + len(look)))
                start += len(look)
                is_further = number > 0 and kind == "picture"
                key = key_of(look)
                done[key] = self._assess(clip, look, own, kit, is_further=is_further)
                rests[key] = _rest(own, kit, [one.program for one in done[key]])
        by_look = [done.get(key_of(look), []) for look in clip.looks]
        if clip.sound is not None and "sound" in kits:
            by_look[-1] = self._with_seen(clip, by_look[-1], kits["picture"], kits["sound"])
        by_look = self._with_other_sound(clip, by_look, kits.get("sound"))
        return Considered(clip, view, tuple(by_look), tuple(rests.get(key_of(look)) for look in clip.looks))

    def is_unsure(self, considered: Considered) -> bool:
        """Whether looking or listening again may help.

        It may where no program explains enough of the clip to be linked, and where one is linked by its
        sound alone: the pictures may be another's.
        """
        if not any(len(look) for look in considered.clip.looks):
            return False
        best = next(iter(self.joined(considered)), None)
        if best is None or best.confidence < self._link_bar:
            return True
        if len(considered.clip) == 0:
            return False
        is_shown = best.picture is not None and best.picture.confidence >= self._link_bar
        return not (is_shown or best.is_same_place or (best.sound is not None and is_seen(best.sound)))

    def joined(self, considered: Considered) -> list[Joined]:
        """Every candidate of a clip that has been considered, best first."""
        return considered.joined(self._link_log_odds)

    def standings(self, sounds: Sequence[tuple[float, Look]]) -> list[float]:
        """How far each of some looks at a clip's sound agrees with the program that it agrees with most.

        See :attr:`matcher.agreement.Agreement.standing`; 0 without any program. One search serves all of
        them, and nothing is aligned.

        Args:
            sounds: Each with the speed at which the clip is thought to play it.
        """
        kit = self._kits().get("sound")
        if kit is None or not sounds:
            return [0.0] * len(sounds)
        found = self._neighbours(np.concatenate([look.vectors for _, look in sounds]), kit)
        standings, start = [], 0
        for speed, look in sounds:
            part = found.rows(slice(start, start + len(look)))
            start += len(look)
            agreed = agreements(
                look.t_seconds, look.vectors, _hits(part, kit), part.level, _band_reader(kit.view),
                speeds=[speed], most=FEW_LINES,
            )  # fmt: skip
            standings.append(max((one.standing for one in agreed), default=0.0))
        return standings

    def promising(self, considered: Considered) -> list[str]:
        """Names of the further looks that point at a program, the most promising first."""
        best = {
            look.view: max((found.log_odds for found in assessed), default=-np.inf)
            for look, assessed in list(zip(considered.clip.looks, considered.by_look, strict=True))[1:]
            if look.kind == "picture"
        }
        return [name for name in sorted(best, key=lambda name: -best[name]) if best[name] >= PROMISE]

    def answer(
        self,
        clip_id: str,
        path: str,
        considered: Considered,
        *,
        model: str,
        top: int,
        verdict: Verdict | None = None,
    ) -> Answer:
        """What is said of a clip that has been considered.

        Args:
            clip_id: The caller's name of it.
            path: Its file.
            considered: What speaks for any program.
            model: Fingerprint of the encoder.
            top: Best guesses that are named.
            verdict: What people said of it; it goes before everything else.
        """
        view, basis = considered.view, self.basis(considered, top=top)
        if verdict is not None:
            considered = considered.without(positions_of(view, verdict.rejected))
        joined = self.joined(considered)
        answer = self._measured_answer(clip_id, path, considered, joined, model=model, top=top)
        if verdict is None:
            return replace(answer, basis=basis)
        said = () if verdict.program_id is None else (verdict.program_id,)
        named = next(iter(positions_of(view, said)), None)
        if named is not None:
            # The answer changes with the program that was named, also where nothing resembles it.
            numbers = np.union1d(basis.numbers, [view.program_records[named].number])
            basis = replace(basis, numbers=numbers)
        return replace(_as_said(answer, verdict, view, joined, named), basis=basis)

    def _measured_answer(
        self,
        clip_id: str,
        path: str,
        considered: Considered,
        joined: Sequence[Joined],
        *,
        model: str,
        top: int,
    ) -> Answer:
        """What the evidence says of a clip by itself."""
        view, sound = considered.view, considered.clip.sound
        links = self._accepted(joined)
        best = links[0].confidence if links else max((a.confidence for a in joined), default=0.0)
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
                    score=a.similarity,
                    log_odds=a.log_odds if a.parts else NO_EVIDENCE,
                )
                for a in joined[:top]
            ),
            model=model,
            catalog_version=view.version,
            looks=1 + len(considered.clip.further),
            heard=self._heard(considered, kept),
            patches=None if sound is None or self._sound is None else len(sound),
            sound_replaced=decision == "linked" and _is_replaced(kept),
        )

    def assess(self, clip: Descriptors) -> list[Assessed]:
        """Every candidate of the pictures, best first; of several looks the best counts."""
        return self.consider(clip).assessed()

    @property
    def _link_log_odds(self) -> float:
        return float(np.log(self._link_bar) - np.log1p(-min(self._link_bar, 1.0 - 1e-12)))

    def _heard(self, considered: Considered, kept: Sequence[Joined]) -> Heard | None:
        """Whose sound it is, whatever the pictures show; None where that is not clear."""
        sound = self._calibration.sound
        if sound is None:
            return None
        whose = {
            one.program: sound.weights.match.confidence(one.evidence)
            for one in considered.heard()
            if one.evidence is not None
        }
        program = max(whose, key=lambda position: whose[position], default=None)
        if program is None or whose[program] < self._review_bar:
            return None
        program_id = considered.view.program_records[program].program_id
        return Heard(program_id, whose[program], any(link.program == program for link in kept))

    def _kits(self) -> dict[Kind, Kit]:
        """What each kind is linked with, all of one state of the catalog."""
        voting, heard = self._voting, self._settings.sound
        view = self._live.view
        pictures = Kit(
            self._live, view, self._calibration.background, self._calibration.weights, voting.k,
            voting.per_program, voting.floor, voting.candidates, voting.further_candidates,
            allow_reversed=True, reach_seconds=0.0,
        )  # fmt: skip
        sound, calibration = self._sound, self._calibration.sound
        if sound is None or calibration is None:
            return {"picture": pictures}
        while sound.view.version != view.version:  # one of them was refreshed, and the other not yet
            (sound if sound.view.version < view.version else self._live).refresh()
            view = self._live.view
        sounds = Kit(
            sound, sound.view, calibration.background, calibration.weights, heard.k,
            heard.per_program, heard.floor, heard.candidates, heard.candidates,
            allow_reversed=False, reach_seconds=HALF_PATCH_SECONDS,
        )  # fmt: skip
        return {"picture": replace(pictures, view=view), "sound": sounds}

    def _with_seen(
        self, clip: Descriptors, heard: Sequence[Assessed], pictures: Kit, sounds: Kit
    ) -> list[Assessed]:
        """The candidates of the sound, with what the pictures show of the places that it points to."""
        looks = [look for look in clip.looks if look.kind == "picture" and len(look)]
        if not any(found.evidence for found in heard):
            return list(heard)
        levels = self._levels(np.concatenate([clip.vectors[:0], *(look.vectors for look in looks)]), pictures)
        ends = np.cumsum([len(look) for look in looks])
        by_look = list(zip(looks, np.split(levels, ends[:-1]) if looks else [], strict=True))
        return [_seen(found, by_look, pictures.view, sounds.weights) for found in heard]

    def _with_other_sound(
        self, clip: Descriptors, by_look: Sequence[list[Assessed]], sounds: Kit | None
    ) -> list[list[Assessed]]:
        """The candidates of each look, with which of the pictures' places sound otherwise than the clip.

        All are asked anew, also those known before: the clip may have been heard again.
        """
        sound, heard, level = clip.sound, set[int](), np.zeros(0, np.float32)
        if sound is not None and sounds is not None:
            heard = {found.program for found in by_look[-1] if found.evidence}
            asked = any(
                found.matches and found.program not in heard for look in by_look[:-1] for found in look
            )
            level = self._levels(sound.vectors, sounds) if asked and len(sound) else level

        def judged(found: Assessed) -> Assessed:
            has = (
                sound is not None
                and sounds is not None
                and found.look.kind == "picture"
                and found.evidence is not None
                and found.program not in heard
                and has_other_sound(found, sound, level, _band_reader(sounds.view))
            )
            return found if found.has_other_sound == has else replace(found, has_other_sound=has)

        return [[judged(found) for found in assessed] for assessed in by_look]

    def _assess(
        self, clip: Descriptors, look: Look, found: _Neighbours, kit: Kit, *, is_further: bool
    ) -> list[Assessed]:
        """The candidates of one look."""
        level = found.level
        hits = _hits(found, kit)
        votes = ballot(hits, level)
        wanted = kit.further_candidates if is_further else kit.candidates
        hub_margin = self._voting.hub_margin
        if look.kind == "sound":
            agreed = agreements(look.t_seconds, look.vectors, hits, level, _band_reader(kit.view))
            voted = vote(votes, hub_margin=hub_margin, candidates=votes.programs.size)
            ranked = rank_agreed(agreed, voted, wanted)
        else:
            ranked = _told_apart(vote(votes, hub_margin=hub_margin, candidates=wanted))
        rivals = [best_rival(votes, candidate.program) for candidate in ranked]
        aligned = [
            ()
            if candidate.is_weak
            else tuple(self._localize(clip, look, hits, candidate.program, rival, level, kit))
            for candidate, rival in zip(ranked, rivals, strict=True)
        ]
        if look.kind == "sound":
            aligned = [matches if _says_enough(look, matches) else () for matches in aligned]
        explained = [explained_frames(matches, level) for matches in aligned]
        times = np.sum(explained, axis=0, dtype=np.int64) if explained else np.zeros(len(look), np.int64)
        assessed = []
        for candidate, rival, matches, own in zip(ranked, rivals, aligned, explained, strict=True):
            evidence = weigh(
                matches, look.vectors, rival, level, is_further=is_further, explained=times - own > 0,
                agreement=candidate.agreement,
            )  # fmt: skip
            log_odds = kit.weights.log_odds(evidence) if evidence else -np.inf
            assessed.append(Assessed(candidate.program, look, matches, evidence, log_odds, candidate.votes))
        if not is_further and look.kind == "picture":
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

    def _levels(self, vectors: NDArray[np.float32], kit: Kit) -> NDArray[np.float32]:
        """(n,) what chance gives each row of ``vectors`` (n, d), or the least that counts."""
        levels: NDArray[np.float32] = np.maximum(kit.background.levels(vectors), np.float32(kit.floor))
        return levels

    def _neighbours(self, vectors: NDArray[np.float32], kit: Kit) -> _Neighbours:
        level = self._levels(vectors, kit)
        if len(vectors) == 0 or kit.live.ntotal == 0:
            empty = np.zeros((len(vectors), 0))
            position = empty.astype(np.int32)
            return _Neighbours(level, empty.astype(np.float32), position, position, empty)
        found = kit.live.search(vectors, kit.k)
        where = kit.view.locate(found.ids)
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
        kit: Kit,
    ) -> list[Match]:
        own = hits.select(hits.program == program)
        # Only frames that may be on a match, which most candidates have none of, are worth aligning.
        if not np.any(own.similarity >= rival[own.frame] - RIVAL_MARGIN):
            return []
        return localize(
            look.t_seconds,
            look.vectors,
            own,
            _band_reader(kit.view),
            floor=level,
            rival=rival,
            clip_end_seconds=_end_of(clip, look, kit),
            allow_reversed=kit.allow_reversed,
            reach_seconds=kit.reach_seconds,
        )

    def _accepted(self, joined: Sequence[Joined]) -> list[Joined]:
        """Programs that may be linked together: each must explain seconds that no better one explains."""
        accepted: list[Joined] = []
        for candidate in joined:
            if not candidate.parts or candidate.confidence < self._review_bar:
                continue
            times = np.concatenate(
                [one.look.t_seconds[match.run] for one in candidate.parts for match in one.matches]
            )
            taken = np.zeros(times.size, dtype=bool)
            for better in accepted:
                for match in (match for one in better.parts for match in one.matches):
                    taken |= (times >= match.clip_start_seconds) & (times < match.clip_end_seconds)
            if taken.mean() <= 0.5:
                accepted.append(candidate)
        return accepted


def _end_of(clip: Descriptors, look: Look, kit: Kit) -> float:
    """Where the clip ends: a sound may go on after the last picture."""
    if look.kind == "picture" or len(look) == 0:
        return clip.duration_seconds
    return max(clip.duration_seconds, float(look.t_seconds[-1]) + kit.reach_seconds)


def _hits(found: _Neighbours, kit: Kit) -> Hits:
    """The neighbours that count."""
    return collect_hits(
        found.similarity, found.program, found.asset, found.asset_seconds,
        floor=found.level, per_program=kit.per_program,
    )  # fmt: skip


def _rest(found: _Neighbours, kit: Kit, named: Sequence[int]) -> Rest:
    """What the candidates of a look rest on: its neighbours above the level of chance, and no others.

    Where there are k of them, a further one counts if it is nearer than the last: as near, it comes after
    those that were there before.
    """
    bars = found.level
    if found.similarity.shape[1] >= kit.k:
        bars = np.maximum(bars, found.similarity[:, -1])
    counts = (found.program >= 0) & (found.similarity >= found.level[:, None])
    return Rest(bars, np.union1d(found.program[counts], named).astype(np.int32))


def _says_enough(look: Look, matches: Sequence[Match]) -> bool:
    """Whether a sound that aligns is more than one word; see :data:`matcher.decision.LEAST_HEARD`."""
    if not matches:
        return False
    run = np.sort(np.concatenate([match.run for match in matches]))
    return different_frames(look.vectors[run]) >= LEAST_HEARD


def _told_apart(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The same; weak are those that have next to no votes beside the first."""
    return [replace(one, is_weak=one.votes < LEAST_VOTES * ranked[0].votes) for one in ranked]


def _band_reader(view: CatalogView) -> BandReader:
    """Reads the descriptors of one asset between two times."""

    def read_band(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        _, t_seconds, vectors = view.frames_between(asset, start, stop)
        return t_seconds, vectors

    return read_band


def _seen(
    found: Assessed,
    looks: Sequence[tuple[Look, NDArray[np.float32]]],
    pictures: CatalogView,
    weights: Weights | SoundWeights,
) -> Assessed:
    """A candidate of the sound with what the pictures show of its places."""
    if found.evidence is None:
        return found
    sight = sight_of(looks, found.matches, _band_reader(pictures))
    evidence = replace(found.evidence, sight=sight)
    return replace(found, evidence=evidence, log_odds=weights.log_odds(evidence))


def _is_replaced(links: Sequence[Joined]) -> bool:
    """Whether a clip's sound is known to be another's: so it is at every place that it is linked to.

    Where a clip plays at another speed nobody knows.
    """
    seen = [one.picture for one in links if one.picture is not None and one.picture.evidence is not None]
    return 0 < len(seen) == len(links) and all(
        one.has_other_sound and one.evidence is not None and one.evidence.speed <= PLAIN_SPEED for one in seen
    )


def positions_of(view: CatalogView, program_ids: Collection[str]) -> set[int]:
    """Where some programs are in the catalogue; those that are not in it are left out."""
    if not program_ids:
        return set()
    return {place for place, record in enumerate(view.program_records) if record.program_id in program_ids}


def _as_said(
    answer: Answer, verdict: Verdict, view: CatalogView, joined: Sequence[Joined], named: int | None
) -> Answer:
    """An answer with what people said in place of what was measured.

    A program that is in the catalogue no more cannot be linked; until it is again, the evidence decides.

    Args:
        answer: By the evidence alone, the rejected programs left aside.
        verdict: What people said.
        view: The catalogue.
        joined: All other candidates.
        named: Position of the program that people named; None where there is none, or it is gone.
    """
    best = answer.links[0] if answer.links else None
    reviewed = Reviewed(
        verdict.word, verdict.program_id, tuple(sorted(verdict.rejected)), verdict.at,
        answer.decision, None if best is None else best.program_id, answer.confidence, verdict.reviews,
        decides=verdict.word == "none" or named is not None,
    )  # fmt: skip
    answer = replace(answer, reviewed=reviewed)
    if not reviewed.decides:
        return answer
    heard, links, is_replaced = answer.heard, tuple[Link, ...](), False
    if named is not None:
        found = next((one for one in joined if one.program == named and one.parts), None)
        is_replaced = found is not None and _is_replaced([found])
        segments = () if found is None else _link(view, found).segments
        links = (Link(view.program_records[named].program_id, 1.0, segments),)
    if heard is not None:
        heard = replace(heard, agrees=heard.program_id in {link.program_id for link in links})
    decision: Decision = "linked" if links else "none"
    return replace(answer, decision=decision, links=links, heard=heard, sound_replaced=is_replaced)


def failed(clip_id: str, path: str, failure: Failure, *, model: str, catalog_version: int) -> Answer:
    """The answer for a file that could not be read."""
    return Answer(clip_id, path, "none", (), (), model, catalog_version, failure)


def _link(view: CatalogView, found: Joined) -> Link:
    parts = aligned_parts(found)
    segments = tuple(_segment(view, part) for part in parts)
    return Link(view.program_records[found.program].program_id, found.confidence, segments)


def _segment(view: CatalogView, part: Part) -> Segment:
    match = part.match
    return Segment(
        clip_start_seconds=match.clip_start_seconds,
        clip_end_seconds=match.clip_end_seconds,
        asset_id=view.assets[match.asset].asset_id,
        asset_start_seconds=match.asset_start_seconds,
        asset_end_seconds=match.asset_end_seconds,
        similarity=float(match.similarities.mean()),
        is_reversed=match.is_reversed,
        view=part.view,
        evidence=part.basis,
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
