"""Why a clip is linked to a program, or why it is not: the numbers behind one answer, gathered in one record.

Nothing here decides anything: the answer and the evidence are those of :mod:`matcher.linking`. What is
added is what a person wants to see beside them: every frame's similarity in the program, by brute force,
in the other programs, and by chance; and the share that each piece of evidence has in the log-odds.

Where they are computed is :mod:`matcher.explain_series`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from index.live import LiveIndex
from index.rows import AssetRecord, ProgramRecord
from index.view import LiveView
from matcher.calibration import Calibration, calibration_of
from matcher.config import Settings
from matcher.considered import Assessed
from matcher.decision import FEATURES, Evidence, Weights
from matcher.encoders.base import FrameEncoder, ModelInfo
from matcher.errors import InputError
from matcher.explain_series import Matrix, Series, matrix_of, neighbours, series_of
from matcher.inputs import clip_jobs, one_line
from matcher.linking import NO_EVIDENCE, Linker
from matcher.localize import Match
from matcher.pipeline import descriptors_of, query_clips
from matcher.records import Answer, Decision, Descriptors, Look
from matcher.store import open_live
from matcher.voting import Candidate

if TYPE_CHECKING:
    from index.catalog import Catalog

#: What the evidence is compared with: a plain cut of ten seconds, put online again without an edit.
PLAIN_CUT = Evidence(similarity=0.98, excess=0.9, lead=0.15, frames=10.0, coverage=1.0, speed=0.0)
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
    """

    clip_id: str
    path: Path
    clip: Descriptors
    model: str


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
    """The log-odds as a sum: ``plain + sum of contributions + rivalry``.

    Attributes:
        plain: Log-odds that a plain cut matches.
        contributions: One a feature, in their order.
        rivalry: What the chance that another program is the right one takes off: 0 or less.
    """

    plain: float
    contributions: tuple[Contribution, ...]
    rivalry: float

    @property
    def total(self) -> float:
        """The log-odds of the link."""
        return self.plain + sum(part.log_odds for part in self.contributions) + self.rivalry


@dataclass(frozen=True)
class Explanation:
    """One clip against one program.

    Attributes:
        subject: The clip.
        answer: What a query says of it.
        view: The state of the catalogue; positions are into it.
        program: Position of the program that is explained; None in an empty store, or for an empty clip
            where none was asked for.
        look: What the clip was looked at through.
        assessed: What was found for the program; None where it was no candidate.
        series: The look's frames.
        matrix: None where there is nothing to compare.
        votes: The programs that the look's frames vote for, best first.
        balance: None without evidence.
        link_bar: Confidence from which a link is made.
        review_bar: Confidence from which a person is asked.
    """

    subject: Subject
    answer: Answer
    view: LiveView
    program: int | None
    look: Look
    assessed: Assessed | None
    series: Series
    matrix: Matrix | None
    votes: tuple[Candidate, ...]
    balance: Balance | None
    link_bar: float
    review_bar: float

    @property
    def record(self) -> ProgramRecord | None:
        """The program that is explained."""
        return None if self.program is None else self.view.program_records[self.program]

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
        """Of the link to this program."""
        return NO_EVIDENCE if self.assessed is None or self.evidence is None else self.assessed.log_odds

    @property
    def confidence(self) -> float:
        """In the link to this program, 0 to 1."""
        return 0.0 if self.assessed is None or self.evidence is None else self.assessed.confidence

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
    """

    catalog: Catalog
    live: LiveIndex
    settings: Settings
    calibration: Calibration

    @property
    def linker(self) -> Linker:
        """What answers."""
        return Linker(self.live, self.settings, self.calibration)

    @property
    def bars(self) -> tuple[float, float]:
        """Confidences from which a link is made, and from which a person is asked."""
        wanted, frozen = self.settings.decision, self.calibration
        link = frozen.link if wanted.link is None else wanted.link
        return link, min(link, frozen.review if wanted.review is None else wanted.review)

    def described(self, path: Path, encoder: FrameEncoder) -> Subject:
        """Describe a file as a query does, with a second look where the first is unsure.

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
        return Subject(clip_id, Path(stored.record.path), descriptors_of(stored), stored.record.model)

    def explain(self, subject: Subject, *, program_id: str | None = None) -> Explanation:
        """Gather what speaks for and against one program.

        Args:
            subject: The clip.
            program_id: Which; without it the best candidate, or the most similar one where there is none.

        Raises:
            InputError: There is no such program in the store.
        """
        view, linker, clip = self.live.view, self.linker, subject.clip
        wanted = None if program_id is None else _position(view, program_id)
        answer = linker.link(subject.clip_id, str(subject.path), clip, model=subject.model, top=TOP)
        assessed = _chosen(linker.assess(clip), wanted)
        look = clip.looks[0] if assessed is None else assessed.look
        floor = np.float32(self.settings.voting.floor)
        chance = np.maximum(self.calibration.background.levels(look.vectors), floor)
        near = neighbours(self.live, view, look, self.settings.voting.k)
        program = wanted if assessed is None else assessed.program
        if program is None:
            program = near.most_similar()
        matches = () if assessed is None else assessed.matches
        series = series_of(view, look, program, matches, near, chance)
        evidence = None if assessed is None else assessed.evidence
        link_bar, review_bar = self.bars
        return Explanation(
            subject=subject,
            answer=answer,
            view=view,
            program=program,
            look=look,
            assessed=assessed,
            series=series,
            matrix=matrix_of(view, look, series, matches),
            votes=near.votes(chance, self.settings.voting),
            balance=None if evidence is None else balance_of(evidence, self.calibration.weights),
            link_bar=link_bar,
            review_bar=review_bar,
        )


def open_explainer(catalog: Catalog, settings: Settings) -> Explainer:
    """What explains the answers of a store, with its own calibration.

    Raises:
        StoreError: The tables or the calibration are damaged.
    """
    model = ModelInfo(catalog.model.name, catalog.model.fingerprint, catalog.model.d)
    calibration = calibration_of(Path(catalog.path), model)
    return Explainer(catalog, open_live(catalog, settings.index), settings, calibration)


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


def balance_of(evidence: Evidence, weights: Weights) -> Balance:
    """Split the log-odds of a link into what each feature adds."""
    here, plain = evidence.features(), PLAIN_CUT.features()
    contributions = tuple(
        Contribution(
            name, float(getattr(evidence, name)), float(getattr(PLAIN_CUT, name)), float(weight * difference)
        )
        for name, weight, difference in zip(FEATURES, weights.weights, here - plain, strict=True)
    )
    return Balance(
        weights.match(PLAIN_CUT), contributions, weights.log_odds(evidence) - weights.match(evidence)
    )


def _position(view: LiveView, program_id: str) -> int:
    try:
        return view.programs.index(program_id)
    except ValueError:
        raise InputError(
            f"there is no program {one_line(program_id)} in the store; see `matcher programs`"
        ) from None


def _chosen(candidates: list[Assessed], wanted: int | None) -> Assessed | None:
    """The candidate asked for, or the best one."""
    if wanted is None:
        return candidates[0] if candidates else None
    return next((found for found in candidates if found.program == wanted), None)
