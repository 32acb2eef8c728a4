"""Questions whose answers are known: a self-made clip, asked of catalogues with its program and without.

The catalogue without a clip's program is the same one with it hidden, and the background likewise: for the
matcher the clip is then unknown. Catalogues of a handful of programs are asked as well, for there a clip has
fewer rivals, and what was fitted on many would be too sure of itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from index.protocols import CatalogIndex, Searchable
from index.subset import Subset
from matcher.background import Background
from matcher.calibrate_clips import MadeClip, Stretch
from matcher.calibrate_kept import SelfMade
from matcher.calibration import Calibration
from matcher.config import Settings
from matcher.considered import Assessed, Considered, Joined, key_of
from matcher.decision import Evidence, SoundWeights, Weights
from matcher.decode import Sampling
from matcher.describe import describe_clip
from matcher.encoders.base import FrameEncoder
from matcher.linking import Linker
from matcher.records import Descriptors, Look, rounded
from matcher.second_look import FULL_LOOKS, SecondLook, look_through, views_of

#: Of each answer so many candidates are cases.
CASES_AN_ANSWER = 3
#: Every so manyth clip is asked of small catalogues too, of one to so many programs.
FEW_EVERY, MOST_FEW = 4, 4
#: Another program that a clip's unedited source matches this well, over this share of it, holds the same
#: footage: it is a twin, a recap or a trailer, and a link to it is no mistake for a threshold to prevent.
KIN_EXCESS, KIN_COVERAGE = 0.6, 0.5

Kind = Literal["known", "unknown", "known, few programs", "unknown, few programs"]


@dataclass(frozen=True)
class Case:
    """One candidate of one answer.

    Attributes:
        evidence: Of the pictures; None where they say nothing of it.
        heard: Of the sound; likewise.
        is_same_place: Both name one place.
        is_right: Whether the clip shows it.
        is_source: Whether the clip has its sound.
    """

    evidence: Evidence | None
    is_right: bool
    heard: Evidence | None = None
    is_same_place: bool = False
    is_source: bool = False


@dataclass(frozen=True)
class Trial:
    """One answer.

    Attributes:
        group: The program that the clip was cut from: what is fitted on it is not measured on it.
        kind: What the catalogue held.
        cases: Its best candidates, best first.
        is_heard: Whether the clip was listened to.
        is_said: Whether what is right is known from a person, and not from how the clip was made.
    """

    group: str
    kind: Kind
    cases: tuple[Case, ...]
    is_heard: bool = False
    is_said: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the catalogue held what the clip shows."""
        return self.kind.startswith("known")


def case_of(
    found: Joined, programs: Sequence[str], shown: Collection[str | None], heard: Collection[str | None]
) -> Case:
    """A candidate as a case.

    Args:
        found: With evidence.
        programs: Ids by position.
        shown: Those that the clip shows.
        heard: Those whose sound it has.
    """
    return Case(
        found.picture.evidence if found.picture else None,
        programs[found.program] in shown,
        found.sound.evidence if found.sound else None,
        found.is_same_place,
        programs[found.program] in heard,
    )


#: What was found in each look (its view, its frames) of one clip in one catalogue.
Findings = dict[tuple[str, int], list[Assessed]]


class RememberingLinker(Linker):
    """A linker that aligns no look twice: evidence does not depend on the weights, which change meanwhile.

    Args:
        live: As of :class:`matcher.linking.Linker`, like the next two.
        settings: Of voting.
        calibration: Its background must be that of all calibrations that the findings are used with.
        hidden: Likewise.
        findings: Of one clip; what is missing is added.
        sound: As of :class:`matcher.linking.Linker`.
    """

    def __init__(
        self,
        live: Searchable,
        settings: Settings,
        calibration: Calibration,
        *,
        hidden: Sequence[int],
        findings: Findings,
        sound: Searchable | None = None,
    ) -> None:
        super().__init__(live, settings, calibration, hidden=hidden, sound=sound)
        self._findings = findings

    def consider(self, clip: Descriptors, known: Considered | None = None) -> Considered:
        """As any linker does; ``known`` is not needed."""
        del known
        view = self._live.view
        first, *others = clip.looks
        done = [look for look in others if key_of(look) in self._findings]
        before = None
        if key_of(first) in self._findings:
            found = tuple(self._findings[key_of(look)] for look in (first, *done))
            further = tuple(look for look in done if look.kind == "picture")
            heard = next((look for look in done if look.kind == "sound"), None)
            before = Considered(replace(clip, further=further, sound=heard), view, found)
        considered = super().consider(clip, before)
        for look, assessed in zip(clip.looks, considered.by_look, strict=True):
            self._findings[key_of(look)] = list(assessed)
        return replace(considered, by_look=tuple(self._weighed(look) for look in clip.looks))

    def _weighed(self, look: Look) -> list[Assessed]:
        weights: Weights | SoundWeights = self._calibration.weights
        sound = self._calibration.sound
        if look.kind == "sound" and sound is not None:
            weights = sound.weights
        return [
            replace(found, log_odds=weights.log_odds(found.evidence)) if found.evidence else found
            for found in self._findings[key_of(look)]
        ]


@dataclass(frozen=True)
class _Question:
    kind: Kind
    linker: Linker


class Examiner:
    """Asks self-made clips.

    Args:
        live: The catalogue.
        settings: Of voting.
        calibration: What is looked with; its thresholds say when a second look is taken.
        seed: Draws the small catalogues.
        sound: The catalogue's sounds; None to look only.
    """

    def __init__(
        self,
        live: CatalogIndex,
        settings: Settings,
        calibration: Calibration,
        *,
        seed: int,
        sound: CatalogIndex | None = None,
    ) -> None:
        self._findings: defaultdict[tuple[int, Kind], Findings] = defaultdict(dict)
        self._live = live
        self._sound = sound
        self._settings = settings
        self._calibration = calibration
        self._seed = seed
        self._position = {program: position for position, program in enumerate(live.view.programs)}

    def look_with(self, calibration: Calibration) -> None:
        """Take other weights and thresholds from now on; what was found is not looked for again."""
        self._calibration = calibration

    def describe(self, made: MadeClip, encoder: FrameEncoder) -> SelfMade:
        """Describe a clip's pictures, through all views that any question about it will find promising."""
        names = [self._live.view.programs[stretch.program] for stretch in made.stretches]
        first, album = describe_clip(made.frames, encoder)
        second_look = SecondLook(encoder, Sampling.parse(self._settings.sampling.clips))
        probes = tuple(rounded(look) for look in second_look.probes(album))
        (whole,) = (rounded(look) for look in first.looks)
        clip = Descriptors(whole.t_seconds, whole.vectors, first.duration_seconds, first.frames_seen, probes)
        kin = self.kin(made.stretches)
        bare = SelfMade(made.number, tuple(dict.fromkeys(names)), kin, made.edits, clip, ())
        wanted = {
            name for question in self._questions(bare) for name in self._promising(question.linker, bare)
        }
        full = tuple(
            rounded(look_through(album, view, encoder)) for view in views_of(album) if view.name in wanted
        )
        return replace(bare, full=full)

    def trials(self, made: SelfMade) -> Iterator[Trial]:
        """Every question about one clip, answered as a query would be."""
        for question in self._questions(made):
            mute = replace(made, clip=replace(made.clip, sound=None))
            yield self._trial(question, mute)
            if made.clip.sound is not None and self._sound is not None:
                yield self._trial(question, made)

    def _trial(self, question: _Question, made: SelfMade) -> Trial:
        programs = self._live.view.programs
        considered = question.linker.consider(self._seen(question.linker, made))
        cases = [
            case_of(found, programs, made.programs, made.sounds)
            for found in question.linker.joined(considered)
            if found.parts
        ]
        is_heard = made.clip.sound is not None
        return Trial(made.programs[0], question.kind, tuple(cases[:CASES_AN_ANSWER]), is_heard)

    def _promising(self, linker: Linker, made: SelfMade) -> list[str]:
        """The views that a query would look at all frames through; none where the first look is enough."""
        first = linker.consider(replace(made.clip, further=()))
        if not self._settings.decision.second_look or not linker.is_unsure(first):
            return []
        return linker.promising(linker.consider(made.clip))[:FULL_LOOKS]

    def _seen(self, linker: Linker, made: SelfMade) -> Descriptors:
        """The clip with the looks at its pictures that a query would have taken.

        Its sound is heard once. A query hears one that says nothing again at other speeds; what chance gains
        by those tries is not in the threshold.
        """
        first = replace(made.clip, further=())
        if not self._settings.decision.second_look or not linker.is_unsure(linker.consider(first)):
            return first
        names = self._promising(linker, made)
        probes = made.clip.further
        return replace(
            first,
            further=tuple(made.full_or_probe(look.view) if look.view in names else look for look in probes),
        )

    def _questions(self, made: SelfMade) -> Iterator[_Question]:
        own = [self._position[name] for name in made.programs if name in self._position]
        kin = [self._position[name] for name in made.kin if name in self._position]
        if len(own) < len(made.programs):
            return  # a program has been removed since the clip was kept
        rng = np.random.default_rng([self._seed, 2, made.number])
        rest = [program for program in range(len(self._position)) if program not in {*own, *kin}]
        whole, without = self._calibration, self._without([*own, *kin])
        # A program that is added after the calibration is not in its background.
        background = whole if rng.random() < 0.5 else without
        yield self._question(made, "known", self._live, background)
        if not rest:
            return
        yield self._question(made, "unknown", self._live, without, hidden=[*own, *kin])
        if made.number % FEW_EVERY == 0:
            n_others = min(len(rest), int(rng.integers(1, MOST_FEW + 1)))
            others = [int(program) for program in rng.choice(rest, n_others, replace=False)]
            yield self._question(made, "known, few programs", self._live, without, few=[*own, *others[1:]])
            yield self._question(made, "unknown, few programs", self._live, without, few=others)

    def _question(
        self,
        made: SelfMade,
        kind: Kind,
        live: Searchable,
        calibration: Calibration,
        hidden: Sequence[int] = (),
        few: Sequence[int] | None = None,
    ) -> _Question:
        findings = self._findings[made.number, kind]
        sound: Searchable | None = self._sound
        if few is not None:
            live = Subset(self._live, few)
            sound = None if self._sound is None else Subset(self._sound, few)
        linker = RememberingLinker(
            live, self._settings, calibration, hidden=hidden, findings=findings, sound=sound
        )
        return _Question(kind, linker)

    def _without(self, programs: Sequence[int]) -> Calibration:
        sound = self._calibration.sound
        if sound is not None:
            sound = replace(sound, background=_without(sound.background, programs))
        background = _without(self._calibration.background, programs)
        return replace(self._calibration, background=background, sound=sound)

    def kin(self, stretches: Sequence[Stretch]) -> tuple[str, ...]:
        """Programs that hold the footage of a stretch without being the one it was cut from."""
        own = [stretch.program for stretch in stretches]
        linker = Linker(self._live, self._settings, self._without(own), hidden=own)
        found: dict[str, None] = {}
        for stretch in stretches:
            for candidate in linker.assess(self._source(stretch)):
                evidence = candidate.evidence
                if evidence and evidence.excess >= KIN_EXCESS and evidence.coverage >= KIN_COVERAGE:
                    found[self._live.view.programs[candidate.program]] = None
        return tuple(found)

    def _source(self, stretch: Stretch) -> Descriptors:
        """The catalogue's own frames of a stretch, as a clip."""
        _, times, vectors = self._live.view.frames_between(
            stretch.asset, stretch.start_seconds, stretch.stop_seconds
        )
        length = stretch.stop_seconds - stretch.start_seconds
        t_seconds: NDArray[np.float64] = times - stretch.start_seconds
        return Descriptors(t_seconds, vectors, length, int(t_seconds.size))


def _without(background: Background, programs: Sequence[int]) -> Background:
    for program in programs:
        background = background.without(program)
    return background
