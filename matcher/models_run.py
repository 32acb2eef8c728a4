"""``matcher models``: which models a store has, and taking others into use.

A store keeps every clip model and every set of categories that it ever used, so one can go back. Changing
the clip model makes the embeddings of all programs anew from their descriptors; no video is opened. Kept
clips get theirs at the next re-link.

Shape letters: ``n`` clips, ``d`` dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.base import Vectors
from index.rows import ALL_KINDS, ModelInfo
from matcher.embedding import MEAN, Fusion
from matcher.errors import InputError, StoreError
from matcher.related_fit import fit_related
from matcher.store import default_fusion, open_live, translated
from matcher.used_models import (
    UsedModels,
    categories_folder,
    clip_model_file,
    clip_model_path,
    keep_categories,
    keep_clip_model,
    mark_of,
)

if TYPE_CHECKING:
    from index.catalog import Catalog, Writer
    from matcher.config import Settings

logger = logging.getLogger(__name__)


# ---------------------------------------------------------------- list


def list_models(catalog: Catalog) -> list[dict[str, Any]]:
    """One object a model: what it is for, its name and fingerprint, whether it is in use."""
    rows: list[dict[str, Any]] = []
    for kind in ALL_KINDS:
        model = catalog.model_of(kind)
        if model is not None:
            rows.append(
                {
                    "use": kind,
                    "model": model.name,
                    "fingerprint": model.fingerprint,
                    "d": model.d,
                    "used": True,
                }
            )
    used = UsedModels.read(catalog.place)
    own = catalog.embedding_model
    for name in sorted(catalog.place.entries()):
        if name.startswith("clip-model-") and (own is None or name != clip_model_file(own.fingerprint)):
            mark = mark_of(name)
            rows.append({"use": "embeddings", "model": name, "fingerprint": mark, "d": None, "used": False})
        if name.startswith("categories-"):
            mark = name.removeprefix("categories-").removesuffix(".zip")
            rows.append(
                {"use": "categories", "model": name, "fingerprint": mark, "d": None,
                 "used": name == used.categories}
            )  # fmt: skip
    return rows


# ---------------------------------------------------------------- use


@dataclass(frozen=True)
class NowUsed:
    """What was taken into use.

    Attributes:
        use: "embeddings" or "categories".
        model: Its name.
        fingerprint: Of it.
        programs: Whose embeddings were made anew.
        embeddings: How many.
        fitted: Stretches that the confidence of related programs was fitted on; 0 where that is as shipped.
        notes: What a person should know of it, a line each.
    """

    use: str
    model: str
    fingerprint: str
    programs: int = 0
    embeddings: int = 0
    fitted: int = 0
    notes: tuple[str, ...] = ()


def use_embeddings(
    writer: Writer, settings: Settings, what: str, *, on_program: Callable[[str], None] | None = None
) -> NowUsed:
    """Make the embeddings of all programs anew with the mean, with a clip model, or with one used before.

    Args:
        writer: Of the store.
        settings: Name the text encoder.
        what: "mean", a file that ``matcher train fusion`` wrote, or a name that ``matcher models list``
            shows.
        on_program: Called with the id of each program done.

    Raises:
        InputError: There is no such model, or it is none.
        StoreError: It takes other features than the store has.
    """
    catalog = writer.catalog
    fusion = named_fusion(catalog, settings, what)
    info = fusion.info
    used = _used(catalog)
    if info.spec != MEAN:
        # Also one that was kept: with other encoders than then its embeddings have another fingerprint.
        path = Path(what)
        kept = path if path.is_file() else clip_model_path(catalog.place, mark_of(what))
        keep_clip_model(catalog.place, kept, info.fingerprint)
    with translated():
        model = ModelInfo(info.fingerprint, info.spec, info.d)
        writer.replace_embeddings(model, fusion.programs(catalog, on_program=on_program))
    live = open_live(catalog, settings.index, table="embeddings")
    with translated():
        live.save(writer, force=True)
    fitted = fit_related(catalog, fusion, live)
    replace(used, related=fitted).write(catalog.place)
    return NowUsed(
        "embeddings", info.spec, info.fingerprint, len(catalog.programs()), live.ntotal,
        0 if fitted is None else fitted.cases,
    )  # fmt: skip


def _used(catalog: Catalog) -> UsedModels:
    """What is used now; nothing where the file that says so is damaged, for it is written anew."""
    try:
        return UsedModels.read(catalog.place)
    except StoreError as error:
        logger.warning("%s", error)
        return UsedModels()


def named_fusion(catalog: Catalog, settings: Settings, what: str) -> Fusion:
    """What makes embeddings with a model that is given by name or by file.

    Raises:
        InputError: There is no such model, or it is none.
        StoreError: It takes other features than the store has.
    """
    fusion = default_fusion(catalog, settings)
    if what == MEAN:
        return fusion
    from matcher.fusion.embedder import TrainedEmbedder

    path = Path(what)
    if path.is_file():
        return replace(fusion, embedder=TrainedEmbedder.load(path, fusion.encoders))
    if what.startswith("clip-model-") and what in catalog.place.entries():
        mark = mark_of(what)
        kept = clip_model_path(catalog.place, mark)
        return replace(fusion, embedder=TrainedEmbedder.load(kept, fusion.encoders, name=mark))
    raise InputError(
        f"there is no clip model {what!r}; give {MEAN}, a file that `matcher train fusion` wrote, or a name"
        " that `matcher models list` shows"
    )


def use_categories(writer: Writer, what: str) -> NowUsed:
    """Take a folder of categories into use, or one used before.

    Args:
        writer: Of the store.
        what: A folder that ``matcher train categories`` wrote, a name that ``matcher models list`` shows, or
            "none".

    Raises:
        InputError: There is none such, or it holds no categories.
        StoreError: They are of other embeddings than the store's.
    """
    from matcher.categories import CategoryModel

    writer.check_open()
    catalog = writer.catalog
    used = _used(catalog)
    if what == "none":
        replace(used, categories="").write(catalog.place)
        return NowUsed("categories", "none", "")
    if not Path(what).is_dir() and what not in catalog.place.entries():
        raise InputError(
            f"there are no categories {what!r}; give a folder that `matcher train categories` wrote, or a"
            " name that `matcher models list` shows"
        )
    source = Path(what) if Path(what).is_dir() else categories_folder(catalog.place, what)
    model = CategoryModel.load(source)
    own = catalog.embedding_model
    if model.model and (own is None or model.model != own.fingerprint):
        raise InputError(
            f"the categories in {what} were trained on embeddings of {model.model}, the store's are of"
            f" {'none' if own is None else own.fingerprint}; train them again: matcher train categories"
        )
    name = keep_categories(catalog.place, source) if Path(what).is_dir() else what
    replace(used, categories=name).write(catalog.place)
    return NowUsed("categories", name, model.fingerprint, notes=model.notes)


# ---------------------------------------------------------------- compare


@dataclass(frozen=True)
class Compared:
    """How good the embeddings of one model are on kept clips.

    Attributes:
        model: Its name.
        clips: That are linked to a program.
        program_recall: Share of them whose program's own stretches come first; these show what the clips do.
        neighbour_recall: Share of the clips whose nearest clip, the copies of it set aside, is of its
            program, among those of programs with two clips or more.
        category_recall: By tier, where labels are given: share of the clips whose nearest clip of another
            program is of its category.
    """

    model: str
    clips: int
    program_recall: float
    neighbour_recall: float
    category_recall: Mapping[int, float]


def compare_models(
    catalog: Catalog,
    fusions: Mapping[str, Fusion],
    *,
    categories: Mapping[str, Sequence[str]] | None = None,
    most: int = 5000,
    seed: int = 0,
) -> list[Compared]:
    """Embed the same linked clips with several models.

    Args:
        catalog: The store.
        fusions: By the name that is shown.
        categories: Paths of labelled clips by clip id.
        most: Clips that are drawn.
        seed: Of the draw.

    Raises:
        InputError: No kept clip is linked.
    """
    from matcher.surroundings import Asked, features_for

    linked = {link.clip_id: link.program_id for link in catalog.links() if link.program_id is not None}
    if not linked:
        raise InputError(
            "no kept clip is linked to a program, so there is nothing to compare by: matcher link"
        )
    rng = np.random.default_rng(seed)
    drawn = sorted(rng.permutation(sorted(linked))[:most].tolist())
    known = catalog.features(drawn)
    clips = [(clip, known.get(clip.record.clip_id)) for clip in catalog.iter_clips(drawn)]
    programs = np.array([str(linked[clip.record.clip_id]) for clip, _ in clips])
    names = [clip.record.clip_id for clip, _ in clips]
    rows = []
    for name, fusion in fusions.items():
        x = fusion.embedder.embed(
            [features_for(fusion, Asked.again(clip, record)).usable(fusion) for clip, record in clips]
        )
        stretch, whose = _program_rows(catalog, fusion)
        rows.append(
            Compared(
                name, len(clips), _first_is(x @ stretch.T, whose[None] == programs[:, None]),
                _neighbour_recall(x, programs), _category_recall(x, programs, names, categories or {}),
            )
        )  # fmt: skip
    return rows


def _program_rows(catalog: Catalog, fusion: Fusion) -> tuple[Vectors, NDArray[np.str_]]:
    """All stretches and whose they are."""
    names = {record.number: record.program_id for record in catalog.programs()}
    rows, whose = [np.zeros((0, fusion.info.d), np.float32)], []
    for number, assets in fusion.programs(catalog):
        for _, vectors in assets:
            rows.append(vectors)
            whose += [names[number]] * len(vectors)
    return np.concatenate(rows), np.array(whose, dtype=np.str_)


def _first_is(similarity: NDArray[np.float32], is_right: NDArray[np.bool_]) -> float:
    """Share of rows whose most similar column is right, of those that have a right one."""
    asked = is_right.any(axis=1)
    if not asked.any():
        return float("nan")
    best = similarity[asked].argmax(axis=1)
    return float(is_right[asked][np.arange(len(best)), best].mean())


def _neighbour_recall(x: Vectors, programs: NDArray[np.str_]) -> float:
    similarity = x @ x.T
    # A copy of the same stretch says nothing of the model.
    similarity[similarity > _COPY] = -np.inf
    np.fill_diagonal(similarity, -np.inf)
    same = programs[:, None] == programs[None]
    np.fill_diagonal(same, val=False)
    return _first_is(similarity, same & np.isfinite(similarity))


#: Similarity above which two clips are taken to show the same.
_COPY = 0.95


def _category_recall(
    x: Vectors, programs: NDArray[np.str_], names: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> dict[int, float]:
    """Nearest clips of *other* programs: what is learned of a program by heart does not help."""
    rows = [row for row, name in enumerate(names) if categories.get(name)]
    found: dict[int, float] = {}
    if not rows:
        return found
    similarity = x[rows] @ x[rows].T
    similarity[programs[rows][:, None] == programs[rows][None]] = -np.inf
    for tier in (1, 2, 3):
        own = [
            {
                "/".join(path.split("/")[:tier])
                for path in categories[names[row]]
                if path.count("/") >= tier - 1
            }
            for row in rows
        ]
        paths = sorted(set().union(*own))
        place = {path: column for column, path in enumerate(paths)}
        is_of = np.zeros((len(rows), len(paths)), np.float32)
        for row, of in enumerate(own):
            is_of[row, [place[path] for path in of]] = 1.0
        same = is_of @ is_of.T > 0
        found[tier] = _first_is(similarity, same & np.isfinite(similarity))
    return {tier: value for tier, value in found.items() if not np.isnan(value)}
