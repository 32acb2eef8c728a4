"""The trained models that a store uses: files in the store itself, so that a copy of it is whole.

``models.json`` names them; it is written in one step, and what it named before stays where it is, so that one
can go back::

    clip-model-9f3a….safetensors     a clip model; which one made the embeddings says the table ``models``
    categories-04be….zip             taxonomy, heads and examples, together
    models.json                      {"categories": …, "related": {…}}
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from index.files import write_atomically
from index.places import Place
from matcher.encoders.base import fingerprint
from matcher.errors import StoreError
from matcher.related import SHIPPED, RelatedWeights

FILE = "models.json"
#: Bytes of one file of categories above which something else was given by mistake.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class UsedModels:
    """What ``models.json`` says.

    Attributes:
        categories: Name of the file of the categories; "" where none is used.
        related: From evidence to the confidence of a related program; None for the shipped one.
    """

    categories: str = ""
    related: RelatedWeights | None = None

    @classmethod
    def read(cls, place: Place) -> UsedModels:
        """That of a store; nothing where there is no file.

        Raises:
            StoreError: It is damaged.
        """
        name = place.name_of(FILE)
        try:
            content = place.read(FILE)
            words: Mapping[str, Any] = {} if content is None else json.loads(content)
            related = words.get("related")
            weights = None if related is None else RelatedWeights.of_words(related)
            return cls(str(words.get("categories") or ""), weights)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{name} is damaged ({error}); restore it from a copy, or run: matcher models use"
            ) from error

    def write(self, place: Place) -> None:
        """Make it that of a store, in one step."""
        related = None if self.related is None else asdict(self.related)
        words = {"categories": self.categories, "related": related}
        place.write(FILE, (json.dumps(words, indent=1) + "\n").encode())

    def weights_for(self, embedding: str) -> RelatedWeights:
        """From evidence to confidence for the embeddings of this fingerprint.

        Weights that were fitted on other embeddings say nothing of these.
        """
        fits = self.related is not None and self.related.embedding == embedding
        return self.related if self.related is not None and fits else SHIPPED


def keep_categories(place: Place, folder: Path) -> str:
    """Copy a folder that ``matcher train categories`` wrote into a store; returns the file's name.

    Raises:
        InputError: The folder holds no categories.
    """
    from matcher.categories import CategoryModel

    CategoryModel.load(folder)  # it says what is wrong with it
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".toml", ".safetensors", ".json", ".md"):
                # A fixed date: the same folder is the same file.
                archive.writestr(zipfile.ZipInfo(path.name, (1980, 1, 1, 0, 0, 0)), path.read_bytes())
    content = sink.getvalue()
    name = f"categories-{fingerprint([content])}.zip"
    place.write(name, content)
    return name


def categories_folder(place: Place, name: str) -> Path:
    """Where the files of kept categories lie, unpacked into the cache if they are not there yet.

    Raises:
        StoreError: The file is lost or damaged.
    """
    folder = place.cache_root() / "cache" / "categories" / name.removesuffix(".zip")
    if (folder / "whole").is_file():
        return folder
    content = place.read(name)
    remedy = "restore it from a copy, or run: matcher models use FOLDER"
    if content is None:
        raise StoreError(f"{place.name_of(name)} is lost; {remedy}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if Path(entry.filename).name != entry.filename or entry.file_size > _MOST_BYTES:
                    raise StoreError(f"{place.name_of(name)} holds {entry.filename!r}; {remedy}")
                write_atomically(folder / entry.filename, archive.read(entry))
        write_atomically(folder / "whole", b"")
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError) as error:
        raise StoreError(f"{place.name_of(name)} is damaged ({error}); {remedy}") from error
    return folder


def clip_model_file(mark: str) -> str:
    """The name of the clip model whose embeddings have this fingerprint."""
    return f"clip-model-{mark}.safetensors"


def mark_of(name: str) -> str:
    """The fingerprint in such a name."""
    return name.removeprefix("clip-model-").removesuffix(".safetensors")


def keep_clip_model(place: Place, path: Path, mark: str) -> None:
    """Copy a clip model into a store under the fingerprint of its embeddings."""
    place.write(clip_model_file(mark), path.read_bytes())


def clip_model_path(place: Place, mark: str) -> Path:
    """Where the clip model lies whose embeddings have this fingerprint, copied into the cache if need be.

    Raises:
        StoreError: It is lost.
    """
    path = place.cache_root() / "cache" / "clip-models" / clip_model_file(mark)
    if not path.is_file():
        content = place.read(clip_model_file(mark))
        if content is None:
            raise StoreError(
                f"{place.name_of(clip_model_file(mark))} is lost, which made the store's embeddings; restore"
                " it from a copy, or run: matcher models use mean"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path
