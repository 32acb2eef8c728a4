"""Opening a store, with the index package's errors said in this package's words."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from index import errors as index_errors
from matcher import errors
from matcher.calibration import calibration_of
from matcher.config import IndexSettings, Settings
from matcher.encoders.base import ModelInfo, fingerprint
from matcher.encoders.sound import load_sound_encoder
from matcher.inputs import check_unicode

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from index.places import Place
    from index.protocols import CatalogIndex, Searchable
    from index.rows import Kind, ProgramRecord
    from index.rows import ModelInfo as StoredModel
    from matcher.embedding import Encoders, Fusion
    from matcher.linking import Linker
    from matcher.surroundings import Surroundings
    from matcher.taxonomy import Taxonomy

logger = logging.getLogger(__name__)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the index package's errors into those the command line knows."""
    try:
        yield
    except index_errors.CatalogLockedError as error:
        raise errors.StoreLockedError(
            f"the store is being written by {error.holder}; try again when it is done, or give --wait SECONDS"
        ) from error
    except index_errors.BackendMissingError as error:
        raise errors.MissingDependencyError(str(error)) from error
    except index_errors.IndexStoreError as error:
        raise errors.StoreError(str(error)) from error


def open_catalog(path: str | Path | Place, model: ModelInfo | None = None) -> Catalog:
    """A store that is there, for reading.

    Args:
        path: Its folder, or as text ``s3://BUCKET/PREFIX``.
        model: The encoder about to be used with it; None where none is.

    Raises:
        StoreError: There is none, it is damaged or out of reach, or it holds another model's descriptors.
        MissingDependencyError: It is in object storage, and the package for that is missing.
    """
    from index.catalog import Catalog

    check_unicode("--store", str(path))
    with translated():
        return Catalog.open(path, model=None if model is None else _stored(model))


def create_catalog(path: str | Path | Place, model: ModelInfo) -> Catalog:
    """A store, made if it is not there.

    Raises:
        StoreError: As :func:`open_catalog`, or the folder cannot be made.
        MissingDependencyError: As :func:`open_catalog`.
    """
    from index.catalog import Catalog

    check_unicode("--store", str(path))
    try:
        with translated():
            return Catalog.create(path, _stored(model))
    except OSError as error:
        raise errors.StoreError(
            f"cannot make a store at {path}: {error.strerror or error}; choose another --store"
        ) from error


@dataclass(frozen=True)
class Within:
    """Programs that a search is narrowed to: those named, and those of the categories.

    Attributes:
        programs: Their ids.
        categories: ``tier1``, ``tier1/tier2`` or ``tier1/tier2/tier3``; what is below is of it too.
    """

    programs: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def positions(self, records: Sequence[ProgramRecord]) -> list[int]:
        """The places of those programs among ``records``.

        Raises:
            InputError: A program is not among them, or no program is of any of the categories.
        """
        missing = sorted(set(self.programs) - {record.program_id for record in records})
        if missing:
            raise errors.InputError(f"there is no program {missing[0]!r} in the store; see: matcher programs")
        found = [
            place
            for place, record in enumerate(records)
            if record.program_id in self.programs or any(map(self._is_of, record.categories))
        ]
        if not found:
            words = ", ".join(self.categories)
            raise errors.InputError(f"no program is of category {words}; see: matcher programs --json")
        return found

    def _is_of(self, category: str) -> bool:
        return any(f"{category}/".startswith(f"{wanted.strip('/')}/") for wanted in self.categories)


def open_live(catalog: Catalog, settings: IndexSettings, *, table: Kind = "frames") -> CatalogIndex:
    """The live index of a catalog's frames, or of its sounds.

    Raises:
        StoreError: The tables are damaged.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    from index.live import LiveIndex
    from index.serving import EnginePlan
    from index.two_stage import TwoStageIndex

    with translated(), warnings.catch_warnings():
        # LanceDB warns of the fork that nobody here makes.
        warnings.filterwarnings("ignore", message=".*fork.*")
        device = "cuda" if settings.device == "gpu" else "cpu"
        kind = None if settings.kind == "auto" else settings.kind
        plan = EnginePlan(kind, device, settings.shards, settings.nprobe)
        # Embeddings are few: a vector a stretch as it is.
        if settings.search == "two-stage" and table != "embeddings":
            return TwoStageIndex.open(catalog, plan, table=table, stretches=settings.stretches)
        return LiveIndex.open(
            catalog, kind=kind, device=device, shards=settings.shards, nprobe=settings.nprobe, table=table
        )


def open_every(catalog: Catalog, settings: IndexSettings) -> list[CatalogIndex]:
    """The live indexes of everything that a catalog holds: frames, and sounds and embeddings if it has any.

    Raises:
        StoreError: The tables are damaged.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    from index.rows import ALL_KINDS

    there = [table for table in ALL_KINDS if catalog.model_of(table) is not None]
    return [open_live(catalog, settings, table=table) for table in there]


def save_caches(
    catalog: Catalog, settings: IndexSettings, writer: Writer, *, force: bool = False
) -> CatalogIndex:
    """Bring the search caches on the disk up to date; gives the live index of the frames.

    Args:
        catalog: The store.
        settings: Of its indexes.
        writer: Shows that the store's lock is held.
        force: Write them in any case.

    Raises:
        StoreError: The tables are damaged.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    every = open_every(catalog, settings)
    with translated():
        for live in every:
            live.save(writer, force=force)
    return every[0]


def open_linker(
    catalog: Catalog, settings: Settings, live: CatalogIndex | None = None, within: Within | None = None
) -> Linker:
    """What answers clips from a catalog, as its calibration says.

    Args:
        catalog: The store.
        settings: Of the index, voting and decision.
        live: Its live index, where it is open.
        within: Programs that alone are searched; default all.

    Raises:
        InputError: ``within`` names a program that is not there, or nothing is in its categories.
        StoreError: The tables or the calibration are damaged.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    from index.subset import Subset

    live = live or open_live(catalog, settings.index)
    sound = open_sounds(catalog, settings)
    if within is None:
        return linker_over(catalog, settings, live, sound)
    few = Subset(live, within.positions(live.view.program_records))
    heard_few = None if sound is None else Subset(sound, within.positions(sound.view.program_records))
    return linker_over(catalog, settings, few, heard_few)


def linker_over(catalog: Catalog, settings: Settings, live: Searchable, sound: Searchable | None) -> Linker:
    """What answers clips from a catalog by given indexes of its frames, and of its sounds.

    Raises:
        StoreError: The calibration is damaged.
    """
    from matcher.linking import Linker

    model = ModelInfo(catalog.model.name, catalog.model.fingerprint, catalog.model.d)
    heard = None if catalog.sound_model is None else catalog.sound_model.fingerprint
    with translated():
        calibration = calibration_of(catalog.place, model, heard)
    return Linker(live, settings, calibration, sound=sound)


def default_fusion(catalog: Catalog, settings: Settings) -> Fusion:
    """The parameter-free embedding of a store, whatever it uses now.

    Raises:
        InputError: The text encoder or the scene encoder is not known.
    """
    from matcher.embedding import Fusion, MeanEmbedder
    from matcher.encoders.scene import load_scene_encoder
    from matcher.encoders.text import load_text_encoder

    text = load_text_encoder(settings.fusion.text, device=settings.encoder.device)
    scene = load_scene_encoder(settings.fusion.scene) if settings.fusion.scene else None
    encoders = encoders_of(catalog, settings, text.info, None if scene is None else scene.info)
    return Fusion(MeanEmbedder(encoders), text, encoders, scene)


def encoders_of(
    catalog: Catalog, settings: Settings, text: ModelInfo, scene: ModelInfo | None = None
) -> Encoders:
    """What describes the clips and programs of a store, with a text encoder and a scene encoder.

    Where it holds no sounds yet, they are taken to be those of the settings: when they come, what was made
    without them stays good.

    Raises:
        InputError: The sound encoder is not known.
    """
    from matcher.embedding import Encoders

    heard = catalog.sound_model
    if heard is None:
        info = load_sound_encoder(settings.sound.spec).info
        sound = info.fingerprint, info.d
    else:
        sound = heard.fingerprint, heard.d

    picture = catalog.model
    return Encoders(
        picture.fingerprint, sound[0], text.fingerprint,
        (picture.d, sound[1] + (0 if scene is None else scene.d), text.d),
        scene="" if scene is None else scene.fingerprint,
    )  # fmt: skip


def open_fusion(catalog: Catalog, settings: Settings) -> Fusion | None:
    """What makes the embeddings of a store; None where it has none, or nobody wants any.

    Raises:
        StoreError: The clip model that made them is lost, or they are another text encoder's.
    """
    from matcher.embedding import MEAN
    from matcher.used_models import clip_model_path

    stored = catalog.embedding_model
    if stored is None or not settings.fusion.enabled:
        return None
    fusion = default_fusion(catalog, settings)
    if stored.name != MEAN:
        from matcher.fusion.embedder import PREFIX, TrainedEmbedder

        path = clip_model_path(catalog.place, stored.fingerprint)
        own = TrainedEmbedder.load(path, fusion.encoders, name=stored.name.removeprefix(PREFIX))
        fusion = replace(fusion, embedder=own)
    if fusion.info.fingerprint != stored.fingerprint:
        raise errors.StoreError(
            f"the embeddings of the store {catalog.place} ({stored.name}) were made with other encoders than"
            f" now, such as the text encoder {fusion.text.info.spec}; make them anew with: matcher models"
            " use mean, or leave them out with: enabled = false under [fusion] in --config"
        )
    return fusion


def open_surroundings(catalog: Catalog, settings: Settings) -> Surroundings | None:
    """What says of clips what they are about, and what they are; None where a store has no embeddings.

    Raises:
        StoreError: As :func:`open_fusion`, or the categories that it uses are damaged or lost.
    """
    from matcher.related import RelatedSearch
    from matcher.surroundings import Surroundings
    from matcher.titles import title_candidates
    from matcher.used_models import UsedModels, categories_folder

    fusion = open_fusion(catalog, settings)
    if fusion is None:
        return None
    used = UsedModels.read(catalog.place)
    weights = used.weights_for(fusion.info.fingerprint)
    if settings.fusion.related is not None:
        weights = replace(weights, bar=settings.fusion.related)
    live = open_live(catalog, settings.index, table="embeddings")
    search = RelatedSearch(live, lambda text, k: title_candidates(catalog, text, k=k), weights)
    categories = None
    if used.categories:
        from matcher.categories import CategoryModel

        categories = CategoryModel.load(categories_folder(catalog.place, used.categories))
        if categories.model not in ("", fusion.info.fingerprint):
            logger.warning(
                "the categories that the store uses are of other embeddings than it has now, and are left"
                " out; train them again: matcher train categories"
            )
            categories = None
    records = catalog.programs()
    own = {record.program_id: record.categories for record in records if record.categories}
    paths = sorted({path for paths in own.values() for path in paths})
    return Surroundings(
        fusion, search, categories, _taxonomy_of(paths), own, settings.fusion.min_confidence,
        _titles_mark(records),
    )  # fmt: skip


def _taxonomy_of(paths: Sequence[str]) -> Taxonomy | None:
    """The tree that the programs' own categories make; None where they make none.

    No answer depends on it: without, a linked program's category does not stand in for a trained one.
    """
    from matcher.taxonomy import Taxonomy

    if not paths:
        return None
    try:
        return Taxonomy.of_paths(paths)
    except errors.InputError as error:
        logger.warning(
            "the programs' categories make no tree, so none is told of a linked program: %s", error
        )
        return None


def _titles_mark(records: Sequence[ProgramRecord]) -> str:
    """Changes with any program that comes, goes or is replaced; a compaction changes nothing."""
    words = ([str(one.number), one.title, *one.aliases, *one.categories] for one in records)
    return fingerprint(json.dumps(row) for row in words)


def open_sounds(catalog: Catalog, settings: Settings) -> CatalogIndex | None:
    """The live index of a catalog's sounds; None where it holds none, or nobody is to listen.

    Raises:
        StoreError: The tables are damaged, or the sounds are another model's than the settings name.
        MissingDependencyError: FAISS or the GPU asked for is missing.
    """
    return open_live(catalog, settings.index, table="sounds") if hears(catalog, settings) else None


def hears(catalog: Catalog, settings: Settings) -> bool:
    """Whether clips are to be linked by a catalog's sounds too.

    Raises:
        StoreError: The sounds are another model's than the settings name.
    """
    stored = catalog.sound_model
    if stored is None or not settings.sound.enabled:
        return False
    asked = load_sound_encoder(settings.sound.spec).info
    if asked.fingerprint != stored.fingerprint:
        raise errors.StoreError(
            f"the store {catalog.place} holds sounds described by {stored.name} ({stored.fingerprint}), not "
            f"by {asked.spec} ({asked.fingerprint}); name that one under [sound] in --config, make a new "
            "store, or leave the sound out with --no-sound"
        )
    return True


def _stored(model: ModelInfo) -> StoredModel:
    from index.rows import ModelInfo as StoredModel

    return StoredModel(fingerprint=model.fingerprint, name=model.spec, d=model.d)
