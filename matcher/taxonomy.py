"""The three tiers of categories: a TOML file that a person keeps, read into records.

A taxonomy file nests the tiers, so that every category has exactly one parent::

    name = "site"
    version = "2024-05"

    [[category]]
    name = "drama"
    aliases = ["电视剧"]

        [[category.category]]
        name = "period"
        aliases = ["古装"]

            [[category.category.category]]
            name = "palace intrigue"

``tiers = 2`` (or 1) at the top says that there are fewer than three. Within a tier no two categories have the
same name: a name tells people, labels and reports what is meant. Names are compared without regard to case
and spaces.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.files import write_atomically
from matcher.errors import InputError
from matcher.inputs import TIERS, one_line

#: Between the names of a path.
SLASH = "/"
#: Between the categories of one cell of a labels file.
SEPARATOR = ";"
_TOP_KEYS = ("name", "version", "tiers", "category")
_NODE_KEYS = ("name", "aliases", "category")
_NEAREST = 3
#: Names whose form for comparing is kept: those of a taxonomy and of its labels, which come again and again.
_KEPT_KEYS = 65536


@dataclass(frozen=True)
class Category:
    """One node of the tree.

    Attributes:
        names: From tier 1 down to its own name.
        aliases: Other words for it, such as its name in other languages.

    Raises:
        ValueError: A name is empty, is not plain text of one line, or holds a slash or a semicolon; or there
            are more than three.
    """

    names: tuple[str, ...]
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) > TIERS:
            raise ValueError(
                f"{one_line(SLASH.join(self.names))!r} stands on a tier {len(self.names)}; there are {TIERS},"
                " so take it up a tier or out"
            )
        for word in (*self.names, *self.aliases):
            _check_word(word)

    @property
    def name(self) -> str:
        """Its own name, without those above."""
        return self.names[-1]

    @property
    def path(self) -> str:
        """``tier1/tier2/tier3``, as far down as it stands."""
        return SLASH.join(self.names)

    @property
    def tier(self) -> int:
        """1, 2 or 3."""
        return len(self.names)

    @property
    def parent_path(self) -> str:
        """The path of the one above; "" on tier 1."""
        return SLASH.join(self.names[:-1])

    def is_called(self, word: str) -> bool:
        """Whether ``word`` is its name or an alias."""
        return any(_key(word) == _key(own) for own in (self.name, *self.aliases))


@dataclass(frozen=True)
class Taxonomy:
    """A version of the tree.

    Attributes:
        name: Of the taxonomy.
        version: Which one of it.
        categories: Every node; given with a parent before its children, and kept depth first, as in the file.
        n_tiers: How many tiers there are; each holds a category.

    Raises:
        ValueError: A parent is not there, a name comes twice, or a tier is empty.
    """

    name: str
    version: str
    categories: tuple[Category, ...]
    n_tiers: int = TIERS

    def __post_init__(self) -> None:
        if not 1 <= self.n_tiers <= TIERS:
            raise ValueError(f"tiers must be from 1 to {TIERS}, got {self.n_tiers}")
        deepest = max((one.tier for one in self.categories), default=0)
        if deepest > self.n_tiers:
            raise ValueError(f"tiers is {self.n_tiers}, but there is a category on tier {deepest}; raise it")
        _check_names(self.categories)
        # So that a taxonomy is the same, columns of heads included, before it is saved and after.
        object.__setattr__(self, "categories", tuple(_depth_first(self.categories)))
        if not self.tier(1):
            raise ValueError("it has no category; write [[category]] and a name")
        empty = next((tier for tier in range(2, self.n_tiers + 1) if not self.tier(tier)), None)
        if empty:
            raise ValueError(f"tier {empty} is empty; give it a category, or write 'tiers = {empty - 1}'")

    @classmethod
    def load(cls, path: Path) -> Taxonomy:
        """Read a taxonomy file.

        Raises:
            InputError: It cannot be read, is not TOML, has an unknown key, or is no tree of three tiers.
        """
        name = one_line(str(path))
        try:
            return _of_words(tomllib.loads(path.read_text(encoding="utf-8-sig")))
        except OSError as error:
            raise InputError(f"cannot read taxonomy {name}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"taxonomy {name} is not TOML ({one_line(str(error))}); see docs/categories.md"
            ) from error
        except ValueError as error:
            raise InputError(f"taxonomy {name}: {error}") from error

    @classmethod
    def of_paths(cls, paths: Iterable[str], *, name: str = "programs") -> Taxonomy:
        """The tree that the categories of a store's programs span.

        Its order is that of the alphabet, and its version is made from its paths, so that it is the same
        whatever the order of the programs and another one when a category comes or goes.

        Args:
            paths: ``tier1[/tier2[/tier3]]``; empty ones are passed over.
            name: Of the taxonomy.

        Raises:
            InputError: There is no category at all, or the paths are no tree.
        """
        wanted = {
            tuple(part.strip() for part in path.split(SLASH))[:end]
            for path in paths
            if path.strip()
            for end in range(1, path.count(SLASH) + 2)
        }
        if not wanted:
            raise InputError(
                "no program has a category; give a taxonomy file, or add programs with --category tier1/tier2"
            )
        try:
            categories = tuple(Category(names) for names in sorted(wanted))
            version = hashlib.sha256("\n".join(one.path for one in categories).encode()).hexdigest()[:8]
            return cls(name, version, categories, max(one.tier for one in categories))
        except ValueError as error:
            raise InputError(f"the categories of the programs are no taxonomy: {error}") from error

    def save(self, path: Path) -> None:
        """Write it as a taxonomy file, in one step."""
        lines = [f"name = {_quoted(self.name)}", f"version = {_quoted(self.version)}"]
        if self.n_tiers != TIERS:
            lines.append(f"tiers = {self.n_tiers}")
        for one in self.categories:
            table = ".".join(["category"] * one.tier)
            lines += ["", f"[[{table}]]", f"name = {_quoted(one.name)}"]
            if one.aliases:
                lines.append(f"aliases = [{', '.join(_quoted(alias) for alias in one.aliases)}]")
        write_atomically(path, ("\n".join(lines) + "\n").encode())

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def fingerprint(self) -> str:
        """Hash of everything in it, 12 hex digits."""
        words = [self.name, self.version, [[one.names, one.aliases] for one in self.categories]]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]

    def tier(self, tier: int) -> tuple[Category, ...]:
        """The categories of tier 1, 2 or 3, in the order of the file; none where it has fewer tiers.

        Raises:
            ValueError: There is no such tier.
        """
        if not 1 <= tier <= TIERS:
            raise ValueError(f"tier must be from 1 to {TIERS}, got {tier}")
        return self._tiers[tier - 1]

    def children_of(self, category: Category) -> tuple[Category, ...]:
        """Those right below, in the order of the file."""
        return self._children.get(category.path, ())

    def lineage_of(self, category: Category) -> tuple[Category, ...]:
        """The categories from tier 1 down to ``category`` itself."""
        return tuple(self._by_path[_path_key(category.names[:end])] for end in range(1, category.tier + 1))

    def reaches(self, category: Category, tier: int) -> bool:
        """Whether ``category`` stands on ``tier`` or deeper, or anything below it does."""
        if category.tier >= tier:
            return True
        return any(self.reaches(child, tier) for child in self.children_of(category))

    def index_of(self, category: Category) -> int:
        """Its place in its tier: the column of a head, of targets and of probabilities."""
        return self._places[category.path]

    def parents_array(self, tier: int) -> NDArray[np.int64]:
        """(C,) the place, in the tier above, of the parent of each category of ``tier``.

        Raises:
            ValueError: On tier 1, or where there is no such tier.
        """
        if tier == 1:
            raise ValueError("the categories of tier 1 have no parents")
        return np.array([self._places[one.parent_path] for one in self.tier(tier)], dtype=np.int64)

    def find(self, path: str) -> Category | None:
        """The category of a full path whose every part is a name or an alias; None where there is none.

        A name goes before an alias. None too where aliases fit several.
        """
        parts = [part.strip() for part in path.split(SLASH)]
        exact = self._by_path.get(_path_key(parts))
        if exact is not None:
            return exact
        found = self._at_end_of(parts)
        return found[0] if len(found) == 1 else None

    def resolve(self, text: str) -> Category:
        """What a person means: a full path, or a name or an alias of one category alone.

        A name of tier 1 is a full path, and so always means tier 1.

        Raises:
            InputError: It fits no category (the nearest ones are named), or several.
        """
        found = self.candidates(text)
        if len(found) == 1:
            return found[0]
        if found:
            which = " or ".join(repr(one.path) for one in found)
            raise InputError(
                f"category {one_line(text)!r} of taxonomy {self.label} may be {which}; write which"
            )
        near = self.nearest(text)
        meant = f"did you mean {' or '.join(repr(one) for one in near)}?" if near else "see the taxonomy file"
        raise InputError(f"category {one_line(text)!r} is not in taxonomy {self.label}; {meant}")

    def candidates(self, text: str) -> tuple[Category, ...]:
        """Every category that ``text`` may mean: one alone where it is a full path of names."""
        parts = [part.strip() for part in text.split(SLASH)]
        exact = self._by_path.get(_path_key(parts))
        if exact is not None:
            return (exact,)
        if len(parts) == 1:
            return tuple(self._called.get(_key(text), ()))
        return self._at_end_of(parts)

    def nearest(self, text: str) -> list[str]:
        """Paths of the categories that are called most like ``text``, the nearest first; up to three."""
        words: dict[str, str] = {}
        for one in self.categories:
            for word in (one.path, one.name, *one.aliases):
                words.setdefault(_key(word), one.path)
        # The last name of a path counts too, as it is mostly the one above that is mistaken.
        asked = dict.fromkeys((_key(text), _key(text.rsplit(SLASH, 1)[-1])))
        near = [word for ask in asked for word in difflib.get_close_matches(ask, list(words), n=_NEAREST)]
        return list(dict.fromkeys(words[word] for word in near))[:_NEAREST]

    def _at_end_of(self, parts: Sequence[str]) -> tuple[Category, ...]:
        """Where the parts of a path lead; several where an alias is shared."""
        places = self.tier(1)
        found: tuple[Category, ...] = ()
        for part in parts:
            called = tuple(one for one in places if one.is_called(part))
            found = tuple(one for one in called if _key(one.name) == _key(part)) or called
            places = tuple(child for one in found for child in self.children_of(one))
        return found

    @cached_property
    def _tiers(self) -> tuple[tuple[Category, ...], ...]:
        return tuple(
            tuple(one for one in self.categories if one.tier == tier) for tier in range(1, TIERS + 1)
        )

    @cached_property
    def _by_path(self) -> dict[tuple[str, ...], Category]:
        return {_path_key(one.names): one for one in self.categories}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {one.path: place for tier in self._tiers for place, one in enumerate(tier)}

    @cached_property
    def _children(self) -> dict[str, tuple[Category, ...]]:
        found: dict[str, tuple[Category, ...]] = {}
        for one in self.categories:
            found[one.parent_path] = (*found.get(one.parent_path, ()), one)
        return found

    @cached_property
    def _called(self) -> dict[str, list[Category]]:
        found: dict[str, list[Category]] = {}
        for one in self.categories:
            for word in {_key(word) for word in (one.name, *one.aliases)}:
                found.setdefault(word, []).append(one)
        return found


def _of_words(words: Mapping[str, Any]) -> Taxonomy:
    """The taxonomy of a parsed file.

    Raises:
        ValueError: A key is unknown or lacking, or a value of another type; or it is no tree.
    """
    _check_keys(words, _TOP_KEYS, "the top of the file")
    for key in ("name", "version"):
        if not isinstance(words.get(key), str) or not words[key].strip():
            raise ValueError(f"it needs a {key}; write '{key} = \"…\"' at the top")
    n_tiers = words.get("tiers", TIERS)
    if not isinstance(n_tiers, int) or isinstance(n_tiers, bool):
        raise ValueError(f"tiers must be a number from 1 to {TIERS}, got {n_tiers!r}")
    categories = tuple(_nodes(words.get("category", []), ()))
    return Taxonomy(words["name"].strip(), words["version"].strip(), categories, n_tiers)


def _nodes(tables: object, above: tuple[str, ...]) -> Iterable[Category]:
    """The categories below the one with the names ``above``, depth first."""
    place = f"category {SLASH.join(above)!r}" if above else "the top of the file"
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"'category' of {place} must be tables; write [[category]] for each")
    for table in tables:
        name, aliases = table.get("name"), table.get("aliases", [])
        if not isinstance(name, str):
            raise ValueError(f"a category below {place} has no name; write 'name = \"…\"'")
        names = (*above, name.strip())
        _check_keys(table, _NODE_KEYS, f"category {one_line(SLASH.join(names))!r}")
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            raise ValueError(f"aliases of category {one_line(SLASH.join(names))!r} must be a list of words")
        yield Category(names, tuple(alias.strip() for alias in aliases))
        yield from _nodes(table.get("category", []), names)


def _check_keys(table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    unknown = next((key for key in table if key not in known), None)
    if unknown is not None:
        raise ValueError(f"{place} has the unknown key {one_line(unknown)!r}; there are {', '.join(known)}")


def _check_names(categories: Sequence[Category]) -> None:
    """Raise ValueError unless every parent is there and every name is the only one of its tier."""
    paths: set[str] = set()
    seen: dict[tuple[int, str], Category] = {}
    for one in categories:
        if one.parent_path and one.parent_path not in paths:
            raise ValueError(f"category {one.path!r} stands below {one.parent_path!r}, which is not there")
        other = seen.get((one.tier, _key(one.name)))
        if other is not None and other.parent_path == one.parent_path:
            below = f"below {one.parent_path!r}" if one.parent_path else "on tier 1"
            raise ValueError(f"category {one.name!r} comes twice {below}; keep one of them")
        if other is not None:
            raise ValueError(
                f"category {one.name!r} of tier {one.tier} has two parents, {other.parent_path!r} and"
                f" {one.parent_path!r}; keep one of them, or give the two names of their own"
            )
        seen[(one.tier, _key(one.name))] = one
        paths.add(one.path)


def _depth_first(categories: Sequence[Category]) -> Iterator[Category]:
    """Each followed by all that is below it; siblings in the order given."""
    below: dict[str, list[Category]] = {}
    for one in categories:
        below.setdefault(one.parent_path, []).append(one)
    left = below.get("", [])[::-1]
    while left:
        one = left.pop()
        yield one
        left += below.get(one.path, [])[::-1]


def _check_word(word: str) -> None:
    shown = one_line(word)
    if not word.strip() or word != word.strip():
        raise ValueError(f"a name or alias is empty or has spaces around it: {shown!r}")
    if not word.isprintable():
        raise ValueError(f"{shown!r} is no name of one line of text; take the control characters out")
    for sign, use in ((SLASH, "it parts the tiers of a path"), (SEPARATOR, "it parts the labels of a clip")):
        if sign in word:
            raise ValueError(f"{shown!r} has a {sign!r} in it, and {use}; write the name without")


def _quoted(text: str) -> str:
    """As a TOML string: those of JSON are such where there are no control characters."""
    return json.dumps(text, ensure_ascii=False)


@lru_cache(maxsize=_KEPT_KEYS)
def _key(word: str) -> str:
    """What names are compared by: compatibility forms, case and runs of spaces do not count."""
    return " ".join(unicodedata.normalize("NFKC", word).casefold().split())


def _path_key(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_key(name) for name in names)
