"""What people said of kept clips, as examples for a calibration on top of those that it makes itself.

A clip that is from a program is one more known clip, a clip that is from none is one more unknown one, and
where a rejected program is what the evidence puts first, that candidate is wrong; of where such a clip is
from nothing is known. Each counts as one answer at most in the fit of the pictures' weights, less where it
contradicts what is sure without it (see :func:`matcher.calibrate_fit.trust`), and not at all

- in the thresholds: people look at what the matcher is unsure of, or got wrong. Unknown clips that were
  chosen so say nothing of how many there are beyond a threshold, and two of them would set it;
- in the weights of the sound: that a clip is from a program does not say whose sound it has.

What comes of these clips is counted apart from the self-made ones, for the same reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from index.protocols import CatalogIndex
from matcher.calibrate_cases import CASES_AN_ANSWER, Findings, Kind, RememberingLinker, Trial, case_of
from matcher.calibrate_figures import Figures
from matcher.calibration import Calibration
from matcher.config import Settings
from matcher.pipeline import descriptors_of
from matcher.records import Descriptors
from matcher.verdicts import Verdict, verdicts_of

if TYPE_CHECKING:
    from index.catalog import Catalog


@dataclass(frozen=True)
class ReviewedClip:
    """A kept clip that people spoke of.

    Attributes:
        clip_id: Which.
        verdict: What holds of all that they said.
        clip: Its descriptors.
    """

    clip_id: str
    verdict: Verdict
    clip: Descriptors


@dataclass(frozen=True)
class Reviews:
    """The clips that people spoke of, as far as a calibration takes them.

    Attributes:
        clips: Those taken.
        left_out: How many are not kept any more, are of another model, or are more than were wanted.
    """

    clips: tuple[ReviewedClip, ...] = ()
    left_out: int = 0


def read_reviews(catalog: Catalog, *, most: int, seed: int) -> Reviews:
    """Read the clips that people spoke of.

    Args:
        catalog: The store.
        most: At most so many, drawn at random.
        seed: Draws them.
    """
    verdicts = {
        clip_id: verdict
        for clip_id, verdict in verdicts_of(catalog.reviews()).items()
        if verdict.word is not None or verdict.rejected
    }
    names = sorted(verdicts)
    if len(names) > most:
        chosen = np.random.default_rng([seed, 6]).choice(len(names), most, replace=False)
        names = [names[int(place)] for place in sorted(chosen)]
    model = catalog.model.fingerprint
    sound = None if catalog.sound_model is None else catalog.sound_model.fingerprint
    clips = []
    for stored in catalog.iter_clips(names):
        if stored.record.model != model:
            continue
        clip = descriptors_of(stored)
        if stored.record.sound_model != sound:
            clip = replace(clip, sound=None)
        clips.append(ReviewedClip(stored.record.clip_id, verdicts[stored.record.clip_id], clip))
    clips.sort(key=lambda one: one.clip_id)
    return Reviews(tuple(clips), len(verdicts) - len(clips))


@dataclass(frozen=True)
class Told:
    """Answers to these clips.

    Attributes:
        learned: By the pictures alone: these are fitted to.
        asked: As a query answers them: these are measured.
    """

    learned: tuple[Trial, ...] = ()
    asked: tuple[Trial, ...] = ()


class ReviewExaminer:
    """Asks the clips that people spoke of, of the whole catalogue.

    Args:
        reviews: Which.
        live: The catalogue.
        settings: Of voting.
        sound: Its sounds; None to look only.
    """

    def __init__(
        self, reviews: Reviews, live: CatalogIndex, settings: Settings, *, sound: CatalogIndex | None = None
    ) -> None:
        programs = set(live.view.programs)
        self._clips = [one for one in reviews.clips if _says_something(one.verdict, programs)]
        self._live, self._settings, self._sound = live, settings, sound
        self._findings: defaultdict[str, Findings] = defaultdict(dict)
        self.left_out = reviews.left_out + len(reviews.clips) - len(self._clips)

    def counts(self) -> dict[str, int]:
        """How many clips were taken, by what was said of them, and how many were not."""
        words = [one.verdict.word or "rejected" for one in self._clips]
        return {
            "confirmed": words.count("program"),
            "none": words.count("none"),
            "rejected": words.count("rejected"),
            "left_out": self.left_out,
        }

    def told(self, calibration: Calibration) -> Told:
        """Ask all of them; what was found is not looked for again."""
        learned, asked = [], []
        for one in self._clips:
            mute = replace(one.clip, sound=None)
            learned.append(self._trial(one, mute, calibration))
            is_heard = one.clip.sound is not None and self._sound is not None
            asked.append(self._trial(one, one.clip, calibration) if is_heard else learned[-1])
        return Told(tuple(learned), tuple(asked))

    def _trial(self, one: ReviewedClip, clip: Descriptors, calibration: Calibration) -> Trial:
        linker = RememberingLinker(
            self._live, self._settings, calibration, hidden=(), findings=self._findings[one.clip_id],
            sound=self._sound,
        )  # fmt: skip
        programs, verdict = self._live.view.programs, one.verdict
        right = {verdict.program_id} - {None}
        found = [joined for joined in linker.joined(linker.consider(clip)) if joined.parts]
        if verdict.word is None:  # of those that were not rejected nobody said whether they are right
            found = [joined for joined in found[:1] if programs[joined.program] in verdict.rejected]
        cases = tuple(case_of(joined, programs, right, right) for joined in found[:CASES_AN_ANSWER])
        kind: Kind = "known" if verdict.word == "program" else "unknown"
        # Where it is not known what a clip shows, no program's fold is its own.
        group = verdict.program_id or f"clip {one.clip_id}"
        return Trial(group, kind, cases, is_heard=clip.sound is not None, is_said=True)


def _says_something(verdict: Verdict, programs: set[str]) -> bool:
    """Whether what was said can be held against this catalogue."""
    if verdict.word == "none":
        return True
    named = verdict.rejected if verdict.word is None else {verdict.program_id}
    return not programs.isdisjoint(named)


@dataclass(frozen=True)
class ReviewFigures:
    """What a calibration does to the clips that people spoke of.

    Attributes:
        counts: See :meth:`ReviewExaminer.counts`.
        before: The weights and thresholds of before; a clip with rejected programs alone counts as unknown,
            with the best of those as its candidate.
        after: The new ones, each clip measured by weights that were fitted without its program.
    """

    counts: Mapping[str, int]
    before: Figures
    after: Figures

    @property
    def used(self) -> int:
        """How many clips."""
        return sum(n for name, n in self.counts.items() if name != "left_out")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Before and after, for a table."""
        yield self.before.row("before, reviewed clips")
        yield self.after.row("after, reviewed clips")

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {**self.counts, "before": self.before.to_json(), "after": self.after.to_json()}
