"""The main jobs: add programs, query clips, keep their links. The order of the stages and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from index.rows import ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip, now_utc
from matcher.agreement import LEAST_STANDING
from matcher.changes import link_record
from matcher.clip_features import Scenes, Words, evenly, program_words
from matcher.config import Settings
from matcher.considered import Considered
from matcher.decode import Sampling
from matcher.describe import Album, Described, describe_files
from matcher.encoders.base import FrameEncoder, fingerprint
from matcher.errors import InputError, StoreError
from matcher.inputs import ClipJob, ProgramJob, Refused, fingerprint_files, one_line
from matcher.linking import Linker, failed
from matcher.listen import Listener, listener_of, scenes_of
from matcher.records import SOUND, Answer, Descriptors, Failure, Look, rounded
from matcher.second_look import SecondLook
from matcher.store import default_fusion, open_fusion, translated
from matcher.verdicts import verdicts_of

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from matcher.embedding import Fusion
    from matcher.encoders.scene import SceneEncoder
    from matcher.ocr import TextReader
    from matcher.surroundings import Asked, Surroundings

OnFrames = Callable[[Path, float], None]
#: Describes files in order, one result a file, as :func:`matcher.describe.describe_files`; it may read ahead.
Describer = Callable[[Iterable[Path]], Iterator[Described]]

#: A rough listening takes every so manyth patch.
ROUGH = 2
#: Pictures of a clip in which texts are read, evenly: each takes some tenths of a second.
READ_PICTURES = 24
#: Clips whose descriptors and links are committed together: LanceDB pays by the commit.
KEEP_BATCH = 64


@dataclass(frozen=True)
class Added:
    """What became of one program.

    Attributes:
        program_id: Which.
        outcome: "added", "replaced", "unchanged" or "failed".
        frames: Descriptors stored of its pictures.
        seconds: Length of its files.
        sounds: Descriptors stored of its sound.
        message: Why it failed.
    """

    program_id: str
    outcome: Literal["added", "replaced", "unchanged", "failed"]
    frames: int = 0
    seconds: float = 0.0
    message: str = ""
    sounds: int = 0


def add_programs(
    writer: Writer,
    jobs: Sequence[ProgramJob],
    encoder: FrameEncoder,
    settings: Settings,
    *,
    on_frames: OnFrames | None = None,
    describer: Describer | None = None,
) -> Iterator[Added]:
    """Add programs one after the other; each becomes visible as a whole, or not at all.

    A program whose files, sampling and model are those already there is left alone, so a batch that
    was cut off can simply be run again.

    Args:
        writer: Of the store; its lock is held throughout.
        jobs: What to add.
        encoder: Must be the store's model.
        settings: Sampling of programs, and whether to listen to them.
        on_frames: Called with the file and the time reached in it.
        describer: Decodes and encodes the files, as the encoder and the settings say; default: this process.

    Yields:
        One :class:`Added` for each job, in order.

    Raises:
        StoreError: The store's sounds are another model's; or it cannot be written, as when its disk is
            full, where the programs yielded before are kept.
    """
    sampling = Sampling.parse(settings.sampling.programs)
    listener = listener_of(settings.sound, settings.sound.program_hop_seconds)
    if listener is not None:
        info = listener.encoder.info
        with translated():
            writer.use_sound(ModelInfo(info.fingerprint, info.spec, info.d))
    fusion = begin_fusion(writer, settings)
    marks = {job.program_id: _mark(job, encoder, settings, listener) for job in jobs}
    there = {record.program_id: record for record in writer.catalog.programs()}
    new = [
        job
        for job in jobs
        if job.program_id not in there or there[job.program_id].source_fingerprint != marks[job.program_id]
    ]
    describer = describer or partial(
        describe_files, encoder=encoder, sampling=sampling, on_frames=on_frames, listener=listener
    )
    described = describer(asset.path for job in new for asset in job.assets)
    pending = {job.program_id for job in new}
    for job in jobs:
        if job.program_id not in pending:
            record = there[job.program_id]
            yield Added(job.program_id, "unchanged", record.frame_count, sounds=record.sound_count)
            continue
        yield _add_one(
            writer, job, described, marks[job.program_id], fusion, replaces=job.program_id in there
        )


def begin_fusion(writer: Writer, settings: Settings) -> Fusion | None:
    """What embeds the programs that are about to be added; None where the store has no embeddings.

    A store without programs begins with the parameter-free ones. One that has programs and no embeddings, of
    an earlier version, gets them by ``matcher models use``: until then none would be found but the new ones.

    Raises:
        StoreError: The embeddings there are were made with other encoders.
    """
    catalog = writer.catalog
    if settings.fusion.enabled and catalog.embedding_model is None and not catalog.programs():
        info = default_fusion(catalog, settings).info
        with translated():
            writer.replace_embeddings(ModelInfo(info.fingerprint, info.spec, info.d), [])
    return open_fusion(catalog, settings)


def _mark(job: ProgramJob, encoder: FrameEncoder, settings: Settings, listener: Listener | None) -> str:
    # As JSON, so that a word moved from one field to another is a change.
    words = json.dumps(
        [job.program_id, job.title, job.aliases, job.categories, [asset.asset_id for asset in job.assets]]
    )
    return fingerprint_files(
        (asset.path for asset in job.assets), _models(encoder, listener), settings.sampling.programs, words
    )


def _models(encoder: FrameEncoder, listener: Listener | None) -> str:
    """What describes a file: with another model, or another ear, its descriptors are others."""
    picture = encoder.info.fingerprint
    return picture if listener is None else f"{picture} {listener.mark}"


def _add_one(
    writer: Writer,
    job: ProgramJob,
    described: Iterator[Described],
    mark: str,
    fusion: Fusion | None,
    *,
    replaces: bool,
) -> Added:
    results = (next(described) for _ in job.assets)
    program = NewProgram(job.program_id, job.title, job.aliases, job.categories, mark)
    titles = None if fusion is None else fusion.text_vector(program_words(job.title, job.aliases))
    seconds = 0.0

    def assets() -> Iterator[NewAsset]:
        nonlocal seconds
        for asset, result in zip(job.assets, results, strict=True):
            if result.descriptors is None:
                assert result.error is not None
                where = "" if asset.row is None else f"row {asset.row}: "
                raise InputError(f"{where}{result.error}") from result.error
            found = result.descriptors
            if len(found) == 0:
                raise InputError(
                    f"{one_line(str(asset.path))} shows nothing but blank pictures; leave it out"
                )
            seconds += found.duration_seconds
            frames, sound = (found.t_seconds, found.vectors), _pair(found.sound)
            embedded = None
            if fusion is not None:
                embedded = fusion.asset(frames, sound, titles, n_assets=len(job.assets))
            yield NewAsset(
                asset.asset_id, str(asset.path.absolute()), asset.asset_id, found.duration_seconds, *frames,
                sound, embedded,
            )  # fmt: skip

    try:
        with translated():
            record = writer.add_program(program, assets())
    except StoreError:
        raise  # a full disk, say: no fault of this program, and the others would fare no better
    except InputError as error:
        # The decoder goes on with this program's other files: pass over them.
        for _ in results:
            pass
        return Added(job.program_id, "failed", message=str(error))
    outcome: Literal["added", "replaced"] = "replaced" if replaces else "added"
    return Added(job.program_id, outcome, record.frame_count, seconds, sounds=record.sound_count)


def _pair(look: Look | None) -> tuple[NDArray[np.float64], NDArray[np.float32]] | None:
    """What was heard, as the rows of the index take it."""
    return None if look is None else (look.t_seconds, look.vectors)


def query_clips(
    linker: Linker,
    jobs: Sequence[ClipJob | Refused],
    encoder: FrameEncoder,
    settings: Settings,
    *,
    top: int,
    kept: Catalog | None = None,
    on_frames: OnFrames | None = None,
    surroundings: Surroundings | None = None,
) -> Iterator[tuple[Answer, StoredClip | None]]:
    """Answer clips in order.

    Args:
        linker: Of the store.
        jobs: Which clips, ids distinct; a refused one is answered by its error, in its place.
        encoder: Must be the store's model.
        settings: Sampling of clips, and whether to listen to them, where the store holds sounds.
        top: Best guesses named for each.
        kept: Where clips kept earlier are looked up: one whose file has not changed is not decoded again,
            unless another scene encoder is set than described its sound.
        on_frames: Called with the file and the time reached in it.
        surroundings: Says what clips are about, and what they are; None to say nothing of it.

    Yields:
        For each job its answer (with ``error`` set for a bad file) and its descriptors, to be kept.
    """
    sampling = Sampling.parse(settings.sampling.clips)
    model = encoder.info.fingerprint
    listener = linker.listener()
    models = _models(encoder, listener)
    clips = [job for job in jobs if isinstance(job, ClipJob)]
    marks = {job.clip_id: fingerprint_files([job.path], models, settings.sampling.clips) for job in clips}
    reader = _text_reader(settings) if surroundings is not None else None
    if reader is not None:  # a clip in whose pictures nobody has read yet counts as changed
        marks = {clip_id: _as_read(mark) for clip_id, mark in marks.items()}
    scene = None if surroundings is None or listener is None else surroundings.fusion.scene
    known = set() if kept is None else _unchanged(kept, marks, scene)
    verdicts = {} if kept is None else verdicts_of(kept.reviews())
    described = describe_files(
        (job.path for job in clips if job.clip_id not in known), encoder, sampling,
        on_frames=on_frames, are_clips=True, listener=listener,
    )  # fmt: skip
    second_look = SecondLook(encoder, sampling) if settings.decision.second_look else None

    def again(first: Considered, path: Path, album: Album) -> Considered:
        if listener is not None and linker.is_unsure(first):
            first = listen_again(linker, listener, first, album, settings.sound.speeds)
        if second_look is not None and len(first.clip) and linker.is_unsure(first):
            first = look_again(linker, second_look, path, first, album)
        return first

    def no_answer(clip_id: str, path: str, failure: Failure) -> tuple[Answer, None]:
        return failed(clip_id, path, failure, model=model, catalog_version=linker.version), None

    for job in jobs:
        if isinstance(job, Refused):
            yield no_answer(job.name, job.path, Failure(InputError.kind, job.message))
            continue
        # Read one by one: the descriptors of a million clips do not fit into memory.
        stored = kept.clip(job.clip_id) if kept is not None and job.clip_id in known else None
        if stored is None:
            result = next(described)
            if result.descriptors is None:
                assert result.error is not None
                yield no_answer(job.clip_id, str(job.path), Failure(result.error.kind, str(result.error)))
                continue
            seen = _seen(result.album, reader, scene)
            considered = linker.consider(_rounded(result.descriptors))
            if result.album is not None:
                considered = again(considered, job.path, result.album)
            stored = _stored_clip(job, considered.clip, model, marks[job.clip_id], listener)
        else:  # the same pictures, but the file may lie elsewhere and be called otherwise
            stored = replace(
                stored, record=replace(stored.record, path=str(job.path.absolute()), title=job.title)
            )
            considered = linker.consider(descriptors_of(stored))
            seen = None
        answer = linker.answer(
            job.clip_id, str(job.path), considered, model=model, top=top, verdict=verdicts.get(job.clip_id)
        )
        if surroundings is not None:
            asked = replace(_asked(job, stored, seen, kept), is_sound_replaced=answer.sound_replaced)
            (answer,) = surroundings.complete([answer], surroundings.records([asked]))
        yield answer, stored


def _text_reader(settings: Settings) -> TextReader | None:
    """What reads in pictures; None where nobody asks for it.

    Raises:
        MissingDependencyError: It is asked for, and the extra is not installed.
    """
    if not settings.fusion.ocr:
        return None
    from matcher.ocr import load_reader

    return load_reader()


@dataclass(frozen=True)
class _Seen:
    """What only a clip's file tells, beside its descriptors: captions, and what its seconds are like."""

    captions: tuple[str, ...] | None = None
    scene: Scenes | None = None


def _seen(album: Album | None, reader: TextReader | None, scene: SceneEncoder | None) -> _Seen:
    if album is None:
        return _Seen()
    return _Seen(
        None if reader is None else read_captions(reader, album),
        None if scene is None else scenes_of(scene, album.sound),
    )


def _asked(job: ClipJob, stored: StoredClip, seen: _Seen | None, kept: Catalog | None) -> Asked:
    """What features are made from: of a clip that was not opened, what the store has of it."""
    from matcher.surroundings import Asked

    if seen is not None:
        return Asked(stored, Words(job.title, job.description, seen.captions), scene=seen.scene)
    asked = Asked.again(stored, None if kept is None else kept.features([job.clip_id]).get(job.clip_id))
    # A description that is not given again is not taken back.
    return replace(asked, words=replace(asked.words, description=job.description or asked.words.description))


def read_captions(reader: TextReader, album: Album) -> tuple[str, ...]:
    """The texts that are seen in a clip's pictures, each once, in time order."""
    rows = evenly(len(album.pictures), READ_PICTURES)
    found = reader.read((album.t_seconds[row], album.pictures[row]) for row in rows)
    return tuple(dict.fromkeys(caption.text for caption in found))


def listen_again(
    linker: Linker, listener: Listener, first: Considered, album: Album, speeds: Iterable[float]
) -> Considered:
    """Consider a clip once more, heard as if it had been sped up or slowed down, pitch and all.

    A rough listening to each says whether any program agrees; most clips that are heard again are unknown,
    and none does. The speed at which most agrees is listened to in full, and it is the one that the clip
    keeps if it says more than the first and is more likely than not: of several tries one says something by
    chance.
    """
    if first.is_clearly_heard or not any(len(piece.columns) for piece in album.sound):
        return first
    rough = replace(listener, step=ROUGH * listener.step)
    tries = tuple(speeds)
    standings = linker.standings([(s, rounded(rough.look(album.sound, speed=s))) for s in tries])
    standing, speed = max(zip(standings, tries, strict=True), default=(0.0, 1.0))
    if standing < LEAST_STANDING:
        return first
    heard = rounded(listener.look(album.sound, speed=speed))
    tried = linker.consider(replace(first.clip, sound=heard), first.without_sound())
    return tried if _best_heard(tried) > max(0.0, _best_heard(first)) else first


def _best_heard(considered: Considered) -> float:
    return max((one.log_odds for one in considered.heard() if one.evidence), default=-np.inf)


def look_again(
    linker: Linker, second_look: SecondLook, path: Path, first: Considered, album: Album
) -> Considered:
    """Consider a clip once more: a few frames through every view, then all through promising ones."""
    probes = tuple(rounded(look) for look in second_look.probes(album))
    tried = linker.consider(replace(first.clip, further=probes), first)
    # A few frames may be all that was missing, where the sound says what to look for.
    names = linker.promising(tried) if linker.is_unsure(tried) else []
    if not names:
        return tried
    further = tuple(rounded(look) for look in second_look.full(path, album, probes, names))
    return linker.consider(replace(first.clip, further=further), tried)


def keep(
    writer: Writer, answers: Iterable[tuple[Answer, StoredClip | None]]
) -> Generator[Answer, None, None]:
    """Store clips and links as they come, :data:`KEEP_BATCH` a commit, and pass the answers on.

    A clip is stored before its link, so a crash between the two leaves a clip that the next run links.
    What was passed on is stored also where the caller stops early (Ctrl-C) and closes this generator.
    """
    batch: list[tuple[Answer, StoredClip]] = []
    night = last_night(writer.catalog)
    try:
        for answer, stored in answers:
            if stored is not None:
                batch.append((answer, stored))
            if len(batch) == KEEP_BATCH:
                full, batch = batch, []
                _store(writer, full, night)
            yield answer
    finally:
        _store(writer, batch, night)


def last_night(catalog: Catalog) -> int:
    """The number of the last re-link that was committed; 0 before the first."""
    return max((record.night for record in catalog.nights()), default=0)


def _store(writer: Writer, batch: Sequence[tuple[Answer, StoredClip]], night: int) -> None:
    if batch:
        before = writer.catalog.whole_links([answer.clip_id for answer, _ in batch])
        writer.put_clips([stored for _, stored in batch])
        writer.put_features(
            [
                replace(answer.features, kept_at=stored.record.kept_at)
                for answer, stored in batch
                if answer.features is not None
            ]
        )
        writer.put_links(
            [
                link_record(answer, before.get(answer.clip_id), kept_at=stored.record.kept_at, night=night)
                for answer, stored in batch
            ]
        )


def _as_read(mark: str) -> str:
    """The mark of a file in whose pictures texts were read, too."""
    return fingerprint([mark, "read"])


def _unchanged(kept: Catalog, marks: Mapping[str, str], scene: SceneEncoder | None) -> set[str]:
    """Those of these clips that are kept and have not changed; more may be known of one than is asked.

    One whose seconds are not described by ``scene`` counts as changed: only its file can tell it now.
    """
    same = {
        record.clip_id
        for record in kept.clips()
        if (mark := marks.get(record.clip_id)) and record.source_fingerprint in (mark, _as_read(mark))
    }
    if scene is None:
        return same
    states, used = kept.feature_states(sorted(same)), scene.info.fingerprint
    return same - {name for name, state in states.items() if state.seconds and state.scene_model != used}


def _stored_clip(
    job: ClipJob, clip: Descriptors, model: str, mark: str, listener: Listener | None
) -> StoredClip:
    record = ClipRecord(
        job.clip_id, str(job.path.absolute()), job.title, clip.duration_seconds, clip.frames_seen, model,
        mark, kept_at=now_utc(),
        sound_model="" if listener is None else listener.encoder.info.fingerprint,
    )  # fmt: skip
    further = tuple((look.view, look.t_seconds, look.vectors) for look in clip.further)
    return StoredClip(record, clip.t_seconds, clip.vectors, further, _pair(clip.sound))


def _rounded(clip: Descriptors) -> Descriptors:
    """A first look, and what was heard, as a store rounds it."""
    sound = None if clip.sound is None else rounded(clip.sound)
    return replace(clip, vectors=rounded(clip.looks[0]).vectors, sound=sound)


def descriptors_of(stored: StoredClip) -> Descriptors:
    """A kept clip as the linker takes it."""
    record = stored.record
    further = tuple(Look(*look) for look in stored.further)
    sound = None if stored.sound is None else Look(SOUND, *stored.sound, "sound")
    return Descriptors(
        stored.t_seconds, stored.vectors, record.duration_seconds, record.frames_seen, further, sound
    )
