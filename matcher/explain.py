"""Why a clip is linked to a program, or why it is not: the numbers behind one answer, gathered in one record.

Nothing here decides anything: the answer and the evidence are those of :mod:`matcher.linking`. What is
added is what a person wants to see beside them: every frame's similarity in the program, by brute force,
in the other programs, and by chance; and the share that each piece of evidence has in the log-odds. The
same is gathered of the pictures and, where there is any, of the sound.

Where they are computed is :mod:`matcher.explain_series`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from index.protocols import CatalogIndex
from index.rows import AssetRecord, ProgramRecord
from index.view import CatalogView
from matcher.background import Background
from matcher.calibration import Calibration, calibration_of
from matcher.config import Settings
from matcher.considered import Assessed, Considered, Joined, join_log_odds
from matcher.decision import FEATURES, Evidence, SoundWeights, Weights
from matcher.encoders.base import FrameEncoder, ModelInfo
from matcher.errors import InputError
from matcher.explain_series import Matrix, Neighbours, Series, matrix_of, neighbours, series_of
from matcher.inputs import clip_jobs, one_line
from matcher.linking import NO_EVIDENCE, Linker, positions_of
from matcher.localize import Match
from matcher.pipeline import descriptors_of, query_clips
from matcher.records import Answer, Decision, Descriptors, Kind, Look
from matcher.store import open_live, open_sounds
from matcher.verdicts import Verdict, verdicts_of
from matcher.voting import Candidate

if TYPE_CHECKING:
    from index.catalog import Catalog

#: What the evidence is compared with: a plain cut of ten seconds, put online again without an edit.
PLAIN_CUT = Evidence(similarity=0.98, excess=0.9, lead=0.15, frames=10.0, coverage=1.0, speed=0.0)
#: And what is heard, with the sound of one.
PLAIN_SOUND = Evidence(
    similarity=0.9, excess=0.8, lead=0.5, frames=30.0, coverage=0.8, speed=0.0, agreement=3.0
)
#: Candidates named.
TOP = 8


@dataclass(frozen=True)
class Subject:
    """A clip as a query describes it.

    Attributes:
        clip_id: Its id, or its file's stem.
        path: Its file, which may be gone.
        clip: Its descriptors.
        model: Fingerprint of the encoder.
        verdict: What people said of it; None where nobody did.
    """

    clip_id: str
    path: Path
    clip: Descriptors
    model: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Contribution:
    """What one feature of the evidence adds to the log-odds.

    Attributes:
        feature: One of :data:`matcher.decision.FEATURES`.
        value: Of this evidence.
        typical: Of a plain cut.
        log_odds: How much more this adds than the plain cut's value would.
    """

    feature: str
    value: float
    typical: float
    log_odds: float


@dataclass(frozen=True)
class Balance:
    """The log-odds of one kind as a sum: ``plain + sum of contributions + rivalry + sight``.

    Attributes:
        plain: Log-odds that a plain cut matches.
        contributions: One a feature, in their order.
        rivalry: What the chance that another program is the right one takes off: 0 or less.
        sight: Of what is heard: what the chance that its pictures are not those of the place takes off, 0 or
            less; 0 of the pictures themselves.
        shown: Log-odds that they are those of the place; None of the pictures themselves.
    """

    plain: float
    contributions: tuple[Contribution, ...]
    rivalry: float
    sight: float = 0.0
    shown: float | None = None

    @property
    def total(self) -> float:
        """The log-odds by this kind alone."""
        return self.plain + sum(part.log_odds for part in self.contributions) + self.rivalry + self.sight


@dataclass(frozen=True)
class Common:
    """How what is seen and what is heard make the log-odds of the link.

    Attributes:
        picture: Log-odds by the pictures alone; None where none of them align.
        sound: By the sound alone; likewise.
        coincidence: What both add to their sum by naming the same place; None where the better one counts
            alone.
        behind: What is taken off because the pictures of the same time are surely another program's: 0 or
            less.
        other_sound: What is taken off because the pictures show a still scene, whose sound is not the
            clip's: 0 or less.
    """

    picture: float | None
    sound: float | None
    coincidence: float | None
    behind: float
    other_sound: float = 0.0

    @property
    def total(self) -> float:
        """The log-odds of the link."""
        odds = [one for one in (self.picture, self.sound) if one is not None]
        together = max(odds) if self.coincidence is None else sum(odds) + self.coincidence
        return together + self.behind + self.other_sound


@dataclass(frozen=True)
class Side:
    """What a clip's pictures say of one program, or what its sound says.

    Attributes:
        look: What the clip was looked at through, or what was heard.
        assessed: What was found for the program; None where it was no candidate.
        series: The look's frames, or moments of sound.
        matrix: None where there is nothing to compare.
        votes: The programs that they vote for, best first.
        balance: None without evidence.
    """

    look: Look
    assessed: Assessed | None
    series: Series
    matrix: Matrix | None
    votes: tuple[Candidate, ...]
    balance: Balance | None

    @property
    def kind(self) -> Kind:
        """Which of the two."""
        return self.look.kind

    @property
    def matches(self) -> tuple[Match, ...]:
        """Aligned stretches, by clip time."""
        return () if self.assessed is None else self.assessed.matches

    @property
    def evidence(self) -> Evidence | None:
        """What was measured on them."""
        return None if self.assessed is None else self.assessed.evidence

    @property
    def log_odds(self) -> float:
        """Of the link to this program, by this kind alone."""
        return NO_EVIDENCE if self.assessed is None or self.evidence is None else self.assessed.log_odds

    @property
    def confidence(self) -> float:
        """The same as a probability, 0 to 1."""
        return 0.0 if self.assessed is None or self.evidence is None else self.assessed.confidence


@dataclass(frozen=True)
class Owner:
    """Whose sound it most likely is, whatever the pictures show.

    Attributes:
        program: Its position.
        confidence: Probability of that, 0 to 1.
    """

    program: int
    confidence: float


@dataclass(frozen=True)
class Explanation:
    """One clip against one program.

    Attributes:
        subject: The clip.
        answer: What a query says of it.
        view: The state of the catalogue; positions are into it.
        program: Position of the program that is explained; None in an empty store, or for an empty clip
            where none was asked for.
        joined: What picture and sound say of it together; None where it was no candidate of either.
        picture: What the pictures say.
        sound: What the sound says; None where nothing is heard.
        unheard: Why nothing is; empty where something is.
        owner: Whose sound it is; None where no sound of the store aligns with it.
        link_bar: Confidence from which a link is made.
        review_bar: Confidence from which a person is asked.
    """

    subject: Subject
    answer: Answer
    view: CatalogView
    program: int | None
    joined: Joined | None
    picture: Side
    sound: Side | None
    unheard: str
    owner: Owner | None
    link_bar: float
    review_bar: float

    @property
    def record(self) -> ProgramRecord | None:
        """The program that is explained."""
        return None if self.program is None else self.view.program_records[self.program]

    @property
    def sides(self) -> tuple[Side, ...]:
        """The pictures, and the sound where there is any."""
        return (self.picture,) if self.sound is None else (self.picture, self.sound)

    @property
    def common(self) -> Common | None:
        """What the log-odds are made of; None without evidence."""
        return None if self.joined is None else common_of(self.joined)

    @property
    def log_odds(self) -> float:
        """Of the link to this program."""
        return NO_EVIDENCE if self.joined is None or not self.joined.parts else self.joined.log_odds

    @property
    def confidence(self) -> float:
        """In the link to this program, 0 to 1."""
        return 0.0 if self.joined is None or not self.joined.parts else self.joined.confidence

    @property
    def decision(self) -> Decision:
        """What was decided of this program: "none" also where the clip is linked to another alone."""
        own = None if self.record is None else self.record.program_id
        return self.answer.decision if own in {link.program_id for link in self.answer.links} else "none"

    def name(self, program: int) -> str:
        """The id of a program by position."""
        return self.view.program_records[program].program_id

    def asset(self, position: int) -> AssetRecord:
        """An asset by position."""
        return self.view.assets[position]


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class Explainer:
    """Explains the answers that a store gives.

    Attributes:
        catalog: Where kept clips are.
        live: Its frames.
        settings: As of a query.
        calibration: As of a query.
        sounds: Its sounds; None where it holds none, or nobody is to listen.
    """

    catalog: Catalog
    live: CatalogIndex
    settings: Settings
    calibration: Calibration
    sounds: CatalogIndex | None = None

    @property
    def linker(self) -> Linker:
        """What answers."""
        return Linker(self.live, self.settings, self.calibration, sound=self.sounds)

    @property
    def bars(self) -> tuple[float, float]:
        """Confidences from which a link is made, and from which a person is asked."""
        wanted, frozen = self.settings.decision, self.calibration
        link = frozen.link if wanted.link is None else wanted.link
        return link, min(link, frozen.review if wanted.review is None else wanted.review)

    def described(self, path: Path, encoder: FrameEncoder) -> Subject:
        """Describe a file as a query does, listening too, with a second look where the first is unsure.

        Raises:
            InputError: It cannot be read.
        """
        jobs = clip_jobs([path], title="")
        answer, stored = next(query_clips(self.linker, jobs, encoder, self.settings, top=1))
        if stored is None:
            raise InputError("it cannot be described" if answer.error is None else answer.error.message)
        return Subject(answer.clip_id, path, descriptors_of(stored), answer.model)

    def kept(self, clip_id: str) -> Subject:
        """A clip that ``matcher link`` kept.

        Raises:
            InputError: There is none of this id.
        """
        stored = self.catalog.clip(clip_id)
        if stored is None:
            name = one_line(clip_id)
            raise InputError(f"{name} is neither a file nor the id of a kept clip; see `matcher clips`")
        verdict = verdicts_of(self.catalog.reviews()).get(clip_id)
        return Subject(
            clip_id, Path(stored.record.path), descriptors_of(stored), stored.record.model, verdict
        )  # fmt: skip

    def explain(self, subject: Subject, *, program_id: str | None = None) -> Explanation:
        """Gather what speaks for and against one program.

        Args:
            subject: The clip.
            program_id: Which; without it the one that a person named, else the best candidate that nobody
                rejected, or the most similar one where there is none.

        Raises:
            InputError: There is no such program in the store.
        """
        linker, clip = self.linker, subject.clip
        considered = linker.consider(clip)
        view = considered.view
        wanted = None if program_id is None else _position(view, program_id)
        answer = linker.answer(
            subject.clip_id, str(subject.path), considered, model=subject.model, top=TOP,
            verdict=subject.verdict,
        )  # fmt: skip
        if wanted is None and answer.is_said and answer.program_id is not None:
            wanted = _position(view, answer.program_id)
        rejected = set() if subject.verdict is None else positions_of(view, subject.verdict.rejected)
        proposed = considered.without(rejected) if wanted is None else considered
        joined = _chosen(linker.joined(proposed), wanted)
        seen = None if joined is None else joined.picture
        look = clip.looks[0] if seen is None else seen.look
        pictures = self._pictures(considered)
        near = pictures.near(look)
        program = wanted if joined is None else joined.program
        if program is None:
            program = near.most_similar(but=rejected)
        unheard = self._unheard(clip)
        sound = None
        if not unheard and clip.sound is not None:
            heard, sounds = None if joined is None else joined.sound, self._sounds()
            sound = sounds.side(clip.sound, program, heard, sounds.near(clip.sound))
        link_bar, review_bar = self.bars
        return Explanation(
            subject=subject,
            answer=answer,
            view=view,
            program=program,
            joined=joined,
            picture=pictures.side(look, program, seen, near),
            sound=sound,
            unheard=unheard,
            owner=self._owner(considered),
            link_bar=link_bar,
            review_bar=review_bar,
        )

    def _pictures(self, considered: Considered) -> _Source:
        voting, frozen = self.settings.voting, self.calibration
        return _Source(
            self.live, considered.view, frozen.background, frozen.weights, voting.k, voting.per_program,
            voting.hub_margin, voting.floor,
        )  # fmt: skip

    def _sounds(self) -> _Source:
        """What is heard is looked up here; only where :meth:`_unheard` has nothing to say."""
        heard, frozen = self.settings.sound, self.calibration.sound
        assert self.sounds is not None
        assert frozen is not None
        return _Source(
            self.sounds, self.sounds.view, frozen.background, frozen.weights, heard.k, heard.per_program,
            self.settings.voting.hub_margin, heard.floor,
        )  # fmt: skip

    def _owner(self, considered: Considered) -> Owner | None:
        frozen = self.calibration.sound
        found = [
            Owner(one.program, frozen.weights.match.confidence(one.evidence))
            for one in considered.heard()
            if one.evidence is not None and frozen is not None
        ]
        return max(found, key=lambda owner: owner.confidence, default=None)

    def _unheard(self, clip: Descriptors) -> str:
        """Why nothing is heard of a clip; empty where something is."""
        if not self.settings.sound.enabled:
            return "nobody was to listen"
        if self.sounds is None:
            return "the store holds no sounds"
        if self.calibration.sound is None:
            return "the calibration does not say how sounds count"
        if clip.sound is None:
            return "nobody listened to the clip"
        return "" if len(clip.sound) else "the clip is silent"


@dataclass(frozen=True)
class _Source:
    """What one kind of descriptor is explained from.

    Attributes:
        live: The catalogue's descriptors.
        view: Their state.
        background: What chance gives.
        weights: From evidence to log-odds.
        k: Neighbours looked at.
        per_program: At most so many of one program count.
        hub_margin: See :func:`matcher.voting.vote`.
        floor: Least similarity that counts.
    """

    live: CatalogIndex
    view: CatalogView
    background: Background
    weights: Weights | SoundWeights
    k: int
    per_program: int
    hub_margin: float
    floor: float

    def near(self, look: Look) -> Neighbours:
        """The neighbours of a look's frames."""
        return neighbours(self.live, self.view, look, self.k)

    def side(self, look: Look, program: int | None, assessed: Assessed | None, near: Neighbours) -> Side:
        """Gather what a look says of one program.

        Args:
            look: At the pictures, or what was heard.
            program: Position of the program, or None.
            assessed: What was found for it.
            near: The look's neighbours.
        """
        chance = np.maximum(self.background.levels(look.vectors), np.float32(self.floor))
        matches = () if assessed is None else assessed.matches
        series = series_of(self.view, look, program, matches, near, chance)
        evidence = None if assessed is None else assessed.evidence
        return Side(
            look=look,
            assessed=assessed,
            series=series,
            matrix=matrix_of(self.view, look, series, matches),
            votes=near.votes(chance, per_program=self.per_program, hub_margin=self.hub_margin),
            balance=None if evidence is None else balance_of(evidence, self.weights),
        )


def open_explainer(catalog: Catalog, settings: Settings) -> Explainer:
    """What explains the answers of a store, with its own calibration.

    Raises:
        StoreError: The tables or the calibration are damaged, or the sounds are another model's than the
            settings name.
    """
    sounds = open_sounds(catalog, settings)
    heard = None if catalog.sound_model is None else catalog.sound_model.fingerprint
    model = ModelInfo(catalog.model.name, catalog.model.fingerprint, catalog.model.d)
    calibration = calibration_of(catalog.place, model, heard)
    return Explainer(catalog, open_live(catalog, settings.index), settings, calibration, sounds)


def picture_path(out: Path | None, clip: str) -> Path:
    """The file that the picture goes to: ``out``, else one named for the clip in the working folder.

    Raises:
        InputError: It is no PNG, or its folder is not there.
    """
    path = Path(f"{Path(clip).stem or 'clip'}-explained.png") if out is None else out
    if path.suffix.lower() != ".png":
        raise InputError(f"--out {one_line(str(path))} is no PNG; give a name that ends in .png")
    if not path.parent.is_dir():
        raise InputError(f"the folder of --out {one_line(str(path))} is not there; make it first")
    return path


def balance_of(evidence: Evidence, weights: Weights | SoundWeights) -> Balance:
    """Split the log-odds of what is seen, or heard, into what each feature adds."""
    if isinstance(weights, SoundWeights):
        own, typical, shown = weights.match, PLAIN_SOUND, weights.shown(evidence.sight)
    else:
        own, typical, shown = weights, PLAIN_CUT, None
    contributions = tuple(
        Contribution(
            name, float(getattr(evidence, name)), float(getattr(typical, name)), float(weight * difference)
        )
        for name, weight, difference in zip(
            FEATURES, own.weights, evidence.features() - typical.features(), strict=True
        )
    )
    unrivalled, unseen = own.match(evidence), own.log_odds(evidence)
    return Balance(
        own.match(typical), contributions, unseen - unrivalled, weights.log_odds(evidence) - unseen, shown
    )  # fmt: skip


def common_of(joined: Joined) -> Common | None:
    """Split the log-odds of a link into what is seen and what is heard; None without evidence."""
    if not joined.parts:
        return None
    seen, heard = (
        one.log_odds if one is not None and one.evidence else None for one in (joined.picture, joined.sound)
    )
    together = join_log_odds(seen, heard, is_same_place=joined.is_same_place)
    coincidence = None
    if seen is not None and heard is not None and together > max(seen, heard):
        coincidence = together - seen - heard
    taken = joined.log_odds - together
    if joined.picture is not None and joined.picture.other_sound:
        return Common(seen, heard, coincidence, 0.0, other_sound=taken)
    return Common(seen, heard, coincidence, taken)


def _position(view: CatalogView, program_id: str) -> int:
    try:
        return view.programs.index(program_id)
    except ValueError:
        raise InputError(
            f"there is no program {one_line(program_id)} in the store; see `matcher programs`"
        ) from None


def _chosen(candidates: list[Joined], wanted: int | None) -> Joined | None:
    """The candidate asked for, or the best one."""
    if wanted is None:
        return candidates[0] if candidates else None
    return next((found for found in candidates if found.program == wanted), None)
