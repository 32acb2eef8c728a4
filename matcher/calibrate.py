"""Fits the decision to the operator's own catalogue; nobody has to label anything.

The catalogue knows the truth of clips that are cut from its own files. They are edited as uploaders edit,
asked of the catalogue, and asked again with their program hidden, as if it were unknown: background
(:mod:`matcher.calibrate_background`), clips (:mod:`matcher.calibrate_clips`), answers
(:mod:`matcher.calibrate_cases`), fit (:mod:`matcher.calibrate_fit`), figures
(:mod:`matcher.calibrate_figures`). What people said of kept clips comes on top
(:mod:`matcher.calibrate_reviews`). The order of these and nothing else is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index.places import Place, place_of
from index.protocols import CatalogIndex
from matcher.background import Background
from matcher.calibrate_background import draw_background
from matcher.calibrate_cases import Examiner, Trial
from matcher.calibrate_clips import Cut, Stretch, make_clips, plan_cuts
from matcher.calibrate_figures import COLUMNS, Figures, measure
from matcher.calibrate_fit import (
    FOLDS,
    Fitted,
    fit_both,
    fit_by_folds,
    link_threshold,
    review_threshold,
    score,
)
from matcher.calibrate_kept import SelfMade, load_clips, save_clips
from matcher.calibrate_reviews import ReviewExaminer, ReviewFigures, Reviews, Told
from matcher.calibrate_sound import heard_of
from matcher.calibration import FILE_NAME, Calibration, SoundCalibration, read_own, shipped
from matcher.config import Settings
from matcher.decision import FEATURES, SIGHT_FEATURES, SoundWeights, Weights
from matcher.decode import Sampling
from matcher.encoders.base import FrameEncoder
from matcher.errors import InputError, StoreError
from matcher.listen import Listener, listener_of

if TYPE_CHECKING:
    from index.catalog import Catalog


#: What the very first calibration looks with. Set by hand: a stranger (similarity 0.7, a tenth of the way
#: from chance to identity, hardly a lead, three frames in two pieces, a third of the clip) to about -4.5, and
#: a copy (0.85, more than half of the way, a clear lead, ten frames, nearly all of the clip) to about 4.5.
START = Weights((1.0, 4.5, 2.0, 1.0, 2.5, -2.0, -1.5, -1.0, -1.5, 0.0), -6.8)
#: And what it listens with: a patch of sound resembles hardly any other by chance.
START_SOUND = SoundWeights(
    Weights((0.5, 4.0, 2.0, 1.0, 2.0, -2.0, 0.0, 0.0, -1.5, 2.0), -6.0), (10.0, 0.3, 30.0), -1.0
)
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
        reviews: The same of clips that people spoke of; None where there are none.
    """

    calibration: Calibration
    clips: int
    programs: int
    before: Figures
    after: Figures
    reviews: ReviewFigures | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of :meth:`rows`."""
        return COLUMNS

    def rows(self) -> list[tuple[str, ...]]:
        """Before and after, for a table."""
        rows = [self.before.row("before"), self.after.row("after")]
        return rows if self.reviews is None else [*rows, *self.reviews.rows()]

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
            "weights": _named(calibration.weights),
            "bias": calibration.weights.bias,
            "sound": None if calibration.sound is None else _sound_object(calibration.sound),
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "reviews": None if self.reviews is None else self.reviews.to_json(),
        }


def _named(weights: Weights) -> dict[str, float]:
    return dict(zip(FEATURES, weights.weights, strict=True))


def _sound_object(sound: SoundCalibration) -> dict[str, Any]:
    return {
        "weights": _named(sound.weights.match),
        "bias": sound.weights.match.bias,
        "sight": dict(zip(SIGHT_FEATURES, sound.weights.sight, strict=True)),
        "sight_bias": sound.weights.sight_bias,
        "background_patches": len(sound.background.vectors),
        "least": sound.background.least,
    }


def present_calibration(store: str | Path | Place) -> Calibration:
    """What a store decides by now, whatever the model: its own, the shipped one, or :data:`START`.

    Raises:
        CatalogError: The store is out of reach.
    """
    ways: list[Callable[[], Calibration | None]] = [partial(read_own, place_of(store)), shipped]
    for read in ways:
        with contextlib.suppress(StoreError):
            found = read()
            if found is not None:
                return found
    return Calibration(START, START_LINK, START_REVIEW, Background.empty(1, least=0.0))


def make_material(
    examiner: Examiner,
    live: CatalogIndex,
    encoder: FrameEncoder,
    sampling: Sampling,
    plan: Plan,
    *,
    listener: Listener | None = None,
    on_clip: Callable[[str], None] | None = None,
) -> list[SelfMade]:
    """Make clips and describe them.

    Args:
        examiner: Of the same catalogue.
        live: The catalogue.
        encoder: Its model.
        sampling: Of clips.
        plan: How many.
        listener: Describes their sound; None to look only.
        on_clip: Called with the program of each clip that is done.

    Raises:
        InputError: No program has a file at its path.
    """
    cuts = plan_cuts(live.view, clips=plan.clips, programs=plan.programs, sampling=sampling, seed=plan.seed)
    by_number = {cut.number: cut for of_asset in cuts for cut in of_asset}
    found = []
    for made in make_clips(live.view, cuts, sampling=sampling, seed=plan.seed):
        clip = examiner.describe(made, encoder)
        if listener is not None:
            clip = with_sound(clip, made.stretches, list(by_number.values()), live, listener, seed=plan.seed)
        if len(clip.clip):
            found.append(clip)
        if on_clip is not None:
            on_clip(clip.programs[0])
    return found


def with_sound(
    clip: SelfMade,
    stretches: Sequence[Stretch],
    cuts: Sequence[Cut],
    live: CatalogIndex,
    listener: Listener,
    *,
    seed: int,
) -> SelfMade:
    """A clip with its sound.

    Args:
        clip: Its pictures.
        stretches: What it shows.
        cuts: Of all clips.
        live: The catalogue.
        listener: Describes the sound.
        seed: Draws it.
    """
    cut = next(cut for cut in cuts if cut.number == clip.number)
    strange = [one.stretch for one in cuts if one.stretch.program != cut.stretch.program]
    second = stretches[1] if "mixed" in clip.edits else None
    heard = heard_of(
        live.view, cut, second, strange, listener, length_seconds=clip.clip.duration_seconds, seed=seed
    )
    names = tuple(live.view.programs[stretch.program] for stretch in heard.stretches)
    return replace(clip, clip=replace(clip.clip, sound=heard.look), sounds=names)


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
    live: CatalogIndex,
    encoder: FrameEncoder,
    settings: Settings,
    plan: Plan,
    present: Calibration,
    *,
    sound: CatalogIndex | None = None,
    keep: Path | None = None,
    reviews: Reviews | None = None,
    on_clip: Callable[[str], None] | None = None,
) -> Calibrated:
    """Fit weights and thresholds to a catalogue.

    Args:
        live: The catalogue.
        encoder: Its model.
        settings: Sampling of clips, and voting.
        plan: How much, and what is wanted.
        present: What is decided by now: it is looked with first, and compared with.
        sound: Its sounds; None to look only. Of fewer than :data:`FOLDS` programs with sound nothing is
            learned of it, and what is shipped goes on to hold.
        keep: File of clips, read where it is there and else written.
        reviews: Kept clips that people spoke of; None to leave them out.
        on_clip: Called with the program of each clip made.

    Raises:
        InputError: There are too few programs, none has a file at its path, or the clips tell nothing apart.
    """
    background = draw_background(live.view, frames=plan.background, seed=plan.seed)
    if sound is not None and len(set(sound.view.program_position[sound.view.frame_count > 0])) < FOLDS:
        sound = None
    listener = None if sound is None else listener_of(settings.sound, settings.sound.clip_hop_seconds)
    looking = replace(present, background=background, sound=_start_sound(present, sound, listener, plan))
    examiner = Examiner(live, settings, looking, seed=plan.seed, sound=sound)
    sampling = Sampling.parse(settings.sampling.clips)
    clips = kept_or_made(
        keep,
        encoder.info.fingerprint if listener is None else f"{encoder.info.fingerprint} {listener.mark}",
        lambda: make_material(examiner, live, encoder, sampling, plan, listener=listener, on_clip=on_clip),
    )
    names = {clip.programs[0] for clip in clips}
    if len(names) < FOLDS:
        raise InputError(
            f"clips of at least {FOLDS} programs are needed, got {len(names)}: add programs, or look why "
            "their files cannot be used"
        )
    fitted: Calibration = looking
    people = ReviewExaminer(reviews or Reviews(), live, settings, sound=sound)
    before: tuple[Figures, Figures] | None = None
    after: tuple[Figures, Figures]
    for _ in range(ROUNDS):
        trials = [trial for clip in clips for trial in examiner.trials(clip)]
        told = people.told(fitted)
        if before is None:
            as_before = [_as_fitted(looking)]
            before = (
                _figures(trials, as_before * len(trials), present),
                _figures(told.asked, as_before * len(told.asked), present),
            )
        fitted, after = _fit(trials, told, fitted, plan)
        examiner.look_with(fitted)
    assert before is not None
    notes = f"{len(clips)} clips of {len(names)} programs, seed {plan.seed}; out of fold: {_words(after[0])}"
    spoken = None
    if reviews is not None and (reviews.clips or reviews.left_out):
        spoken = ReviewFigures(people.counts(), before[1], after[1])
        notes += f"; and {spoken.used} clips that people spoke of"
    done = replace(fitted, model=encoder.info.fingerprint, notes=notes)
    return Calibrated(done, len(clips), len(names), before[0], after[0], spoken)


def _figures(trials: Sequence[Trial], fits: Sequence[Fitted], bars: Calibration) -> Figures:
    """What the thresholds of ``bars`` do to answers, each weighed by its own of ``fits``."""
    return measure(score(trials, fits), link=bars.link, review=bars.review)


def _fit(
    trials: Sequence[Trial], told: Told, looking: Calibration, plan: Plan
) -> tuple[Calibration, tuple[Figures, Figures]]:
    """Weights of all answers, thresholds of the self-made ones measured out of fold, and what these do."""
    start = looking.sound.weights if looking.sound is not None else None
    every = [*trials, *told.learned]
    try:
        fits = fit_by_folds(every, seed=plan.seed, start=start, asked=told.asked)
        both = fit_both(every, start)
    except ValueError as error:
        raise InputError(f"{error}; give more --clips, or add programs") from error
    best = score(trials, fits[: len(trials)])
    unknown = best.log_odds[~best.is_known]
    link = link_threshold(unknown, false_links=plan.false_links)
    review = review_threshold(best, link=link)
    sound = looking.sound
    if sound is not None and both.sound is not None:
        sound = replace(sound, weights=both.sound)
    fitted = replace(looking, weights=both.picture, sound=sound, link=link, review=review)
    theirs = _figures(told.asked, fits[len(every) :], fitted)
    return fitted, (measure(best, link=link, review=review), theirs)


def _as_fitted(calibration: Calibration) -> Fitted:
    return Fitted(calibration.weights, calibration.sound.weights if calibration.sound else None)


def _start_sound(
    present: Calibration, sound: CatalogIndex | None, listener: Listener | None, plan: Plan
) -> SoundCalibration | None:
    """What is listened with first: a background of the catalogue, and the weights that there are."""
    if sound is None or listener is None:
        return None
    background = draw_background(sound.view, frames=plan.background, seed=plan.seed)
    weights = present.sound.weights if present.sound is not None else START_SOUND
    return SoundCalibration(weights, background, listener.encoder.info.fingerprint)


def _words(figures: Figures) -> str:
    return (
        f"{figures.linked_right} of {figures.known} known clips linked and {figures.linked_wrong} wrongly, "
        f"{figures.unknown_linked} of {figures.unknown} unknown ones, calibration error {figures.ece:.4f}"
    )


def save(catalog: Catalog, calibration: Calibration, *, wait_seconds: float) -> str:
    """Make a calibration that of a store, under the store's lock; gives the name of the file.

    Raises:
        CatalogLockedError: Another writer had the lock all the time.
    """
    with catalog.writing(wait_seconds=wait_seconds) as writer:
        content = calibration.to_bytes()
        writer.check_open()
        catalog.place.write(FILE_NAME, content)
    return catalog.place.name_of(FILE_NAME)
