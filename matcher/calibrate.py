"""Fits the decision to the operator's own catalogue; nobody has to label anything.

The catalogue knows the truth of clips that are cut from its own files. They are edited as uploaders edit,
asked of the catalogue, and asked again with their program hidden, as if it were unknown: background
(:mod:`matcher.calibrate_background`), clips (:mod:`matcher.calibrate_clips`), answers
(:mod:`matcher.calibrate_cases`), fit (:mod:`matcher.calibrate_fit`), figures
(:mod:`matcher.calibrate_figures`). The order of these and nothing else is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index.live import LiveIndex
from matcher.background import Background
from matcher.calibrate_background import draw_background
from matcher.calibrate_cases import Examiner, Trial
from matcher.calibrate_clips import make_clips, plan_cuts
from matcher.calibrate_figures import COLUMNS, Figures, measure
from matcher.calibrate_fit import (
    FOLDS,
    best_cases,
    fit,
    fit_by_folds,
    link_threshold,
    review_threshold,
    score,
)
from matcher.calibrate_kept import SelfMade, load_clips, save_clips
from matcher.calibration import FILE_NAME, Calibration, shipped
from matcher.config import Settings
from matcher.decision import FEATURES, Weights
from matcher.decode import Sampling
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError, StoreError

if TYPE_CHECKING:
    from index.catalog import Catalog


#: What the very first calibration looks with. Set by hand: a stranger (similarity 0.7, a tenth of the way
#: from chance to identity, hardly a lead, three frames in two pieces, a third of the clip) to about -4.5, and
#: a copy (0.85, more than half of the way, a clear lead, ten frames, nearly all of the clip) to about 4.5.
START = Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5), -6.8)
START_LINK, START_REVIEW = 0.95, 0.3
#: The clips are asked so often, each time with the weights of the time before.
ROUNDS = 2


@dataclass(frozen=True)
class Plan:
    """How much of a catalogue is used, and what is wanted.

    Attributes:
        clips: To be cut and edited.
        programs: That they are cut from, at most.
        background: Frames of the background, at most.
        false_links: Share of unknown clips that may be linked.
        seed: Draws everything.
    """

    clips: int = 600
    programs: int = 200
    background: int = 2000
    false_links: float = 0.001
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.clips, self.programs, self.background) < 1 or not 0 < self.false_links < 1:
            raise ValueError(f"counts must be at least 1 and false_links in (0, 1): {self}")


@dataclass(frozen=True)
class Calibrated:
    """What came of it.

    Attributes:
        calibration: To be saved.
        clips: How many were asked.
        programs: How many they were cut from.
        before: What the weights and thresholds of before do to the same answers.
        after: What the new ones do, each clip measured by weights that were fitted without its program.
    """

    calibration: Calibration
    clips: int
    programs: int
    before: Figures
    after: Figures

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of :meth:`rows`."""
        return COLUMNS

    def rows(self) -> list[tuple[str, ...]]:
        """Before and after, for a table."""
        return [self.before.row("before"), self.after.row("after")]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        calibration = self.calibration
        return {
            "version": calibration.version,
            "clips": self.clips,
            "programs": self.programs,
            "background_frames": len(calibration.background.vectors),
            "background_programs": calibration.background.n_programs,
            "least": calibration.background.least,
            "weights": dict(zip(FEATURES, calibration.weights.weights, strict=True)),
            "bias": calibration.weights.bias,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def present_calibration(store: Path) -> Calibration:
    """What a store decides by now, whatever the model: its own, the shipped one, or :data:`START`."""
    ways: list[Callable[[], Calibration]] = [partial(Calibration.load, store / FILE_NAME), shipped]
    for read in ways:
        try:
            return read()
        except (FileNotFoundError, StoreError):
            continue
    return Calibration(START, START_LINK, START_REVIEW, Background.empty(1, least=0.0))


def make_material(
    examiner: Examiner,
    live: LiveIndex,
    encoder: FrameEncoder,
    sampling: Sampling,
    plan: Plan,
    *,
    on_clip: Callable[[str], None] | None = None,
) -> list[SelfMade]:
    """Make clips and describe them.

    Args:
        examiner: Of the same catalogue.
        live: The catalogue.
        encoder: Its model.
        sampling: Of clips.
        plan: How many.
        on_clip: Called with the program of each clip that is done.

    Raises:
        InputError: No program has a file at its path.
    """
    cuts = plan_cuts(live.view, clips=plan.clips, programs=plan.programs, sampling=sampling, seed=plan.seed)
    found = []
    for made in make_clips(live.view, cuts, sampling=sampling, seed=plan.seed):
        clip = examiner.describe(made, encoder)
        if len(clip.clip):
            found.append(clip)
        if on_clip is not None:
            on_clip(clip.programs[0])
    return found


def kept_or_made(keep: Path | None, model: str, make: Callable[[], list[SelfMade]]) -> list[SelfMade]:
    """The clips of the file ``keep`` where it is there; else made, and written to it where one is named.

    Raises:
        InputError: The file is none of this model's, or cannot be written.
    """
    if keep is not None and keep.exists():
        return load_clips(keep, model=model)
    made = make()
    if keep is not None:
        save_clips(keep, made, model=model)
    return made


def calibrate(
    live: LiveIndex,
    encoder: FrameEncoder,
    settings: Settings,
    plan: Plan,
    present: Calibration,
    *,
    keep: Path | None = None,
    on_clip: Callable[[str], None] | None = None,
) -> Calibrated:
    """Fit weights and thresholds to a catalogue.

    Args:
        live: The catalogue.
        encoder: Its model.
        settings: Sampling of clips, and voting.
        plan: How much, and what is wanted.
        present: What is decided by now: it is looked with first, and compared with.
        keep: File of clips, read where it is there and else written.
        on_clip: Called with the program of each clip made.

    Raises:
        InputError: There are too few programs, none has a file at its path, or the clips tell nothing apart.
    """
    background = draw_background(live.view, frames=plan.background, seed=plan.seed)
    looking = replace(present, background=background)
    examiner = Examiner(live, settings, looking, seed=plan.seed)
    sampling = Sampling.parse(settings.sampling.clips)
    clips = kept_or_made(
        keep,
        encoder.info.fingerprint,
        lambda: make_material(examiner, live, encoder, sampling, plan, on_clip=on_clip),
    )
    names = {clip.programs[0] for clip in clips}
    if len(names) < FOLDS:
        raise InputError(
            f"clips of at least {FOLDS} programs are needed, got {len(names)}: add programs, or look why "
            "their files cannot be used"
        )
    fitted: Calibration = looking
    before: Figures | None = None
    after: Figures
    for _ in range(ROUNDS):
        trials = [trial for clip in clips for trial in examiner.trials(clip)]
        if before is None:
            best = score(trials, [present.weights] * len(trials))
            before = measure(best, link=present.link, review=present.review)
        fitted, after = _fit(trials, fitted, plan)
        examiner.look_with(fitted.weights, link=fitted.link, review=fitted.review)
    assert before is not None
    notes = f"{len(clips)} clips of {len(names)} programs, seed {plan.seed}; out of fold: {_words(after)}"
    done = replace(fitted, model=encoder.info.fingerprint, notes=notes)
    return Calibrated(done, len(clips), len(names), before, after)


def _fit(trials: Sequence[Trial], looking: Calibration, plan: Plan) -> tuple[Calibration, Figures]:
    """Weights of all answers, thresholds of those measured out of fold, and what these do."""
    try:
        best = score(trials, fit_by_folds(trials, seed=plan.seed))
        weights = fit(best_cases(trials))
    except ValueError as error:
        raise InputError(f"{error}; give more --clips, or add programs") from error
    unknown = best.log_odds[~best.is_known]
    link = link_threshold(unknown, false_links=plan.false_links)
    review = review_threshold(best, link=link)
    fitted = replace(looking, weights=weights, link=link, review=review)
    return fitted, measure(best, link=link, review=review)


def _words(figures: Figures) -> str:
    return (
        f"{figures.linked_right} of {figures.known} known clips linked and {figures.linked_wrong} wrongly, "
        f"{figures.unknown_linked} of {figures.unknown} unknown ones, calibration error {figures.ece:.4f}"
    )


def save(catalog: Catalog, calibration: Calibration, *, wait_seconds: float) -> Path:
    """Make a calibration that of a store, under the store's lock; gives the file.

    Raises:
        CatalogLockedError: Another writer had the lock all the time.
    """
    path = Path(catalog.path) / FILE_NAME
    with catalog.writing(wait_seconds=wait_seconds):
        calibration.save(path)
    return path
