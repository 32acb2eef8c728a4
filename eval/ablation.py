"""What each part of the system is worth: the clips of a run linked again, each time with one part taken away.

The kept descriptors go through the real :class:`~matcher.linking.Linker`; nothing is decoded or encoded. The
looks at a clip are those that the whole system took, so a variation that is less sure does not look again.
The descriptor itself cannot be taken away from what is kept: for that, a run with another one is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eval.distractor_run import relinked
from eval.figures import figures
from eval.ground_truth import TruthRow
from eval.judging import LEVELS, ClipInfo
from eval.making import read_json
from eval.run_files import CLIPS, FIGURES, load_clips
from index.protocols import CatalogIndex
from matcher.background import Background
from matcher.calibration import Calibration, calibration_of
from matcher.config import Settings
from matcher.considered import Considered
from matcher.decision import FEATURES, Evidence, Weights
from matcher.encoders.base import ModelInfo
from matcher.errors import InputError
from matcher.lines import Line
from matcher.linking import Kit, Linker
from matcher.localize import Match
from matcher.records import Descriptors, Look
from matcher.show import print_table, say
from matcher.store import open_live, open_sounds, translated
from matcher.voting import Hits

if TYPE_CHECKING:
    from index.catalog import Catalog

PublicObject = dict[str, Any]

NOTHING = "nothing"
PAIR_WHITENING = "pair whitening"
#: No cosine is this much above another, so no program comes close enough to another to share a vote.
UNREACHABLE_MARGIN = -3.0
#: Where the decision is the similarity alone: weight of that feature, about what a fit gives it then.
SIMILARITY_WEIGHT = 4.5
#: Likewise: the mean similarity at which a link is made.
SIMILARITY_BAR = 0.9


# --- The variations ---


class FirstLookLinker(Linker):
    """Leaves every look at the pictures but the first out of account."""

    def consider(self, clip: Descriptors, known: Considered | None = None) -> Considered:
        """As the whole system, of the first look and the sound."""
        return super().consider(replace(clip, further=()), known)


class UnorderedLinker(Linker):
    """Takes every frame that votes for a program as a match, in whatever order the program shows them.

    The one match of a program covers the whole clip at speed 1, and lies where its most similar frame says.
    A montage can then have no second program, since the first one leaves no second of the clip.
    """

    def _localize(
        self,
        clip: Descriptors,
        look: Look,
        hits: Hits,
        program: int,
        rival: NDArray[np.float32],  # noqa: ARG002, the frames of another program are not left out
        level: NDArray[np.float32],  # noqa: ARG002, hits are above it
        kit: Kit,  # noqa: ARG002, nothing is compared but the hits
    ) -> list[Match]:
        own = hits.select(hits.program == program)
        if len(own) == 0:
            return []
        # Hits stand by frame, the best first.
        frames, first = np.unique(own.frame, return_index=True)
        similarity = own.similarity[first]
        best = int(first[similarity.argmax()])
        offset = float(own.asset_seconds[best] - look.t_seconds[own.frame[best]])
        return [
            Match(
                asset=int(own.asset[best]),
                clip_start_seconds=0.0,
                clip_end_seconds=clip.duration_seconds,
                line=Line(1.0, offset, float(similarity.sum())),
                frames=frames,
                similarities=similarity,
                run=frames,
                run_similarities=similarity,
            )
        ]


class SimilarityAlone(Weights):
    """Log-odds that grow with the mean similarity of the frames compared, and with nothing else."""

    @classmethod
    def with_bar(cls, link: float) -> SimilarityAlone:
        """Those whose confidence reaches ``link`` at a similarity of :data:`SIMILARITY_BAR`.

        The bar of the whole system then stays as it is: to move it, or this, orders no clips otherwise.
        """
        bar = float(np.clip(link, 1e-6, 1 - 1e-6))
        bias = float(np.log(bar / (1 - bar))) - SIMILARITY_WEIGHT * _similarity_feature(SIMILARITY_BAR)
        return cls((SIMILARITY_WEIGHT, *[0.0] * (len(FEATURES) - 1)), bias)

    def log_odds(self, evidence: Evidence) -> float:
        """Without the comparison with the next best program."""
        return self.match(evidence)


def _similarity_feature(similarity: float) -> float:
    """As the logistic function takes it."""
    return float(Evidence(similarity, 0.0, 0.0, 1.0, 0.0, 0.0).features()[FEATURES.index("similarity")])


def variations(
    live: CatalogIndex,
    settings: Settings,
    calibration: Calibration,
    level: float,
    *,
    sound: CatalogIndex | None = None,
    sound_level: float = 0.0,
) -> dict[str, Linker]:
    """The whole system and what is left of it without each of its parts.

    Args:
        live: The catalogue's frames.
        settings: Of the whole.
        calibration: Of the whole.
        level: What chance gives every frame, in place of what the background says of each.
        sound: The catalogue's sounds; None where it has none.
        sound_level: Likewise of every patch of sound.

    Returns:
        By what is taken away:

        * "nothing": for reference, on the same footing;
        * "sound": nobody listens;
        * "second look": every look at the pictures but the first is left out;
        * "background": chance gives every frame the same, and every patch of sound;
        * "hub share": a frame's vote goes in full to every program that resembles it;
        * "alignment": :class:`UnorderedLinker`;
        * "decision": :class:`SimilarityAlone` of the pictures, at the same bar, and nobody listens: a sound
          is judged by what the pictures show, too, which is no similarity.
    """
    # As a copy, which is not checked: no one else may ask for a margin below 0.
    voting = settings.voting.model_copy(update={"hub_margin": UNREACHABLE_MARGIN})
    unshared = settings.model_copy(update={"voting": voting})
    even = replace(calibration, background=Background.empty(live.d, least=level))
    if calibration.sound is not None and sound is not None:
        flat = Background.empty(sound.d, least=sound_level)
        even = replace(even, sound=replace(calibration.sound, background=flat))
    link = calibration.link if settings.decision.link is None else settings.decision.link
    similarity = replace(calibration, weights=SimilarityAlone.with_bar(link))
    return {
        NOTHING: Linker(live, settings, calibration, sound=sound),
        "sound": Linker(live, settings, calibration),
        "second look": FirstLookLinker(live, settings, calibration, sound=sound),
        "background": Linker(live, settings, even, sound=sound),
        "hub share": Linker(live, unshared, calibration, sound=sound),
        "alignment": UnorderedLinker(live, settings, calibration, sound=sound),
        "decision": Linker(live, settings, similarity),
    }


def median_level(
    catalog: Catalog, background: Background, clip_ids: Sequence[str], *, is_sound: bool = False
) -> float:
    """The median of what the background says of the frames of some kept clips, by their first looks.

    Args:
        catalog: Keeps the clips.
        background: Of the whole system.
        clip_ids: Whose frames count.
        is_sound: The background is that of sounds, and their patches count.

    Returns:
        The background's least where there is no frame.
    """
    levels = []
    for clip in catalog.iter_clips(list(clip_ids)):
        vectors = (None if clip.sound is None else clip.sound[1]) if is_sound else clip.vectors
        if vectors is not None and len(vectors):
            levels.append(background.levels(vectors))
    every = np.concatenate(levels) if levels else np.zeros(0, np.float32)
    return float(np.median(every)) if every.size else background.least


# --- The rows ---


def ablation_rows(
    catalog: Catalog,
    settings: Settings,
    clips: Sequence[ClipInfo],
    truth: Sequence[TruthRow],
    answers: Sequence[Mapping[str, Any]],
    *,
    top: int,
) -> list[PublicObject]:
    """The figures of a run without each part, from kept descriptors.

    Args:
        catalog: The run's store, with its clips.
        settings: Of the run.
        clips: Of the run.
        truth: Of the run.
        answers: Of the run: a clip that could not be read stays as it is.
        top: Best guesses named for each clip.

    Returns:
        For each of :func:`variations` ``{"without": name, "groups": …}`` as
        :func:`eval.figures.figures` gives them, that without nothing first.

    Raises:
        InputError: Clips that could be read are not kept.
    """
    read = [str(answer["clip_id"]) for answer in answers if answer.get("error") is None]
    lacking = set(read) - {record.clip_id for record in catalog.clips()}
    if lacking:
        raise InputError(
            f"{catalog.place} keeps no descriptors of {len(lacking)} clips ({min(lacking)} among them);"
            " run the command that made it again"
        )
    model = ModelInfo(catalog.model.name, catalog.model.fingerprint, catalog.model.d)
    heard = None if catalog.sound_model is None else catalog.sound_model.fingerprint
    calibration = calibration_of(catalog.place, model, heard)
    rows: list[PublicObject] = []
    with translated():
        live = open_live(catalog, settings.index)
        sound = open_sounds(catalog, settings)
        level = median_level(catalog, calibration.background, read)
        sound_level = (
            0.0
            if calibration.sound is None
            else median_level(catalog, calibration.sound.background, read, is_sound=True)
        )
        varied = variations(live, settings, calibration, level, sound=sound, sound_level=sound_level)
        for name, linker in varied.items():
            again: Sequence[Mapping[str, Any]] = answers
            if name != NOTHING:  # a clip that is kept is answered as it was
                say(f"without {name}: linking {len(read)} clips again")
                again = relinked(catalog, linker, model.fingerprint, answers, top=top)
            rows.append({"without": name, **figures(clips, truth, again)})
    return rows


def row_of_run(other: Path, clips: Sequence[ClipInfo], model: str) -> PublicObject:
    """The row "pair whitening": the figures of a run of the same clips with a plainer descriptor.

    Such a run is made with ``--encoder lite0@FILE``, the file a plain projection. Where that has no
    calibration of its own, it runs without a background too.

    Args:
        other: Folder of the finished run.
        clips: Those of the run that it is compared with.
        model: Fingerprint of that run's encoder.

    Returns:
        ``{"without": "pair whitening", "groups": …}``.

    Raises:
        InputError: The folder holds no finished run, or one of other clips or of the same encoder.
    """
    value = finished_figures(other)
    if value["run"]["model"] == model:
        raise InputError(f"{other} is a run with the same encoder; name one made with --encoder lite0@FILE")
    if sorted(load_clips(other / CLIPS), key=_clip_id) != sorted(clips, key=_clip_id):
        raise InputError(f"{other} is a run of other clips; give it the same --material")
    return {"without": PAIR_WHITENING, "groups": value["groups"]}


def finished_figures(out: Path) -> PublicObject:
    """The figures of a run that came to its end.

    Raises:
        InputError: There are none.
    """
    value = read_json(out / FIGURES)
    if value is None or "groups" not in value or "run" not in value:
        raise InputError(f"{out} holds no finished run: it has no {FIGURES} of `matcher eval link`")
    return value


def _clip_id(clip: ClipInfo) -> str:
    return clip.clip_id


# --- Showing them ---


def show_ablation(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows as one table: the figures of all clips without each part."""
    everything = [(str(row["without"]), row["groups"]["all"]) for row in rows]
    levels = [level for level in LEVELS if any(level in of["top1_by_level"] for _, of in everything)]
    columns = (
        "without", "top-1", *levels, "uAP", "recall at 1 %", "at 0.1 %", "unknown linked", "median IoU",
    )  # fmt: skip
    print_table("Without a part", columns, [_cells(name, of, levels) for name, of in everything])


def _cells(name: str, of: Mapping[str, Any], levels: Sequence[str]) -> tuple[str, ...]:
    recalls = of["recall_at_false_links"]
    return (
        name,
        _share(of["top1"]),
        *(_share(of["top1_by_level"].get(level)) for level in levels),
        _number(of["micro_ap"]),
        _share(recalls["0.01"]),
        _share(recalls["0.001"]),
        _share(of["unknown_linked"]),
        _number(of["segments"]["median_iou"]),
    )


def _share(share: Mapping[str, Any] | None) -> str:
    """In per cent; nothing where there is no such share."""
    return "" if share is None or share["share"] is None else f"{share['share']:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
