"""A taxonomy file: what it says, what is refused, and what became of it from one version to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import InputError
from matcher.taxonomy import Category, Taxonomy

SITE = """
name = "site"
version = "3"

[[category]]
name = "drama"
aliases = ["电视剧", "series"]

    [[category.category]]
    name = "period"
    aliases = ["古装"]

        [[category.category.category]]
        name = "palace intrigue"
        aliases = ["宫斗"]

        [[category.category.category]]
        name = "war"

    [[category.category]]
    name = "modern"

[[category]]
name = "show"

    [[category.category]]
    name = "talk"
    aliases = ["series"]
"""


@pytest.fixture
def site(tmp_path: Path) -> Taxonomy:
    return loaded(tmp_path, SITE)


def loaded(folder: Path, text: str) -> Taxonomy:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return Taxonomy.load(path)


def tree(*paths: str, version: str = "1", **aliases: str) -> Taxonomy:
    """A taxonomy of these paths in this order; an alias for names whose spaces are underscores."""
    nodes = tuple(
        Category(
            tuple(path.split("/")),
            tuple(alias for name, alias in aliases.items() if path.split("/")[-1] == name.replace("_", " ")),
        )
        for path in paths
    )
    return Taxonomy("t", version, nodes, max(one.tier for one in nodes))


def test_tiers_are_in_the_order_of_the_file_with_parents_by_nesting(site: Taxonomy) -> None:
    assert [one.path for one in site.tier(1)] == ["drama", "show"]
    assert [one.path for one in site.tier(2)] == ["drama/period", "drama/modern", "show/talk"]
    assert [one.path for one in site.tier(3)] == ["drama/period/palace intrigue", "drama/period/war"]
    np.testing.assert_array_equal(site.parents_array(2), [0, 0, 1])
    np.testing.assert_array_equal(site.parents_array(3), [0, 0])
    palace = site.tier(3)[0]
    assert site.children_of(site.tier(2)[0]) == site.tier(3)
    assert site.children_of(palace) == ()
    assert [one.name for one in site.lineage_of(palace)] == ["drama", "period", "palace intrigue"]
    assert [site.index_of(one) for one in site.tier(2)] == [0, 1, 2]
    assert (site.label, site.n_tiers) == ("site@3", 3)
    with pytest.raises(ValueError, match="no parents"):
        site.parents_array(1)
    with pytest.raises(ValueError, match="from 1 to 3"):
        site.tier(4)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("drama/period/war", "drama/period/war"),
        (" Drama / PERIOD /war ", "drama/period/war"),
        ("palace  Intrigue", "drama/period/palace intrigue"),
        ("宫斗", "drama/period/palace intrigue"),
        ("电视剧/古装", "drama/period"),
        ("series/古装/宫斗", "drama/period/palace intrigue"),
        ("show/series", "show/talk"),
        ("ｗａｒ", "drama/period/war"),
    ],
)
def test_a_path_a_name_or_an_alias_names_a_category(site: Taxonomy, text: str, path: str) -> None:
    assert site.resolve(text).path == path


def test_a_word_for_two_categories_names_both_and_one_for_none_names_the_nearest(site: Taxonomy) -> None:
    with pytest.raises(
        InputError, match=r"'series' of taxonomy site@3 may be 'drama' or 'show/talk'; write which"
    ):
        site.resolve("series")
    with pytest.raises(InputError, match=r"'drama/perod' is not in .*did you mean 'drama/period'"):
        site.resolve("drama/perod")
    with pytest.raises(InputError, match="did you mean 'drama/period/palace intrigue'"):
        site.resolve("show/talk/palace intrige")
    with pytest.raises(InputError, match="see the taxonomy file"):
        site.resolve("zzzzzz")
    with pytest.raises(InputError, match="is not in"):
        site.resolve("drama/period/war/siege")
    assert site.find("series") is not None  # as a whole path it can only stand on tier 1
    assert site.find("talk") is None


def test_a_name_goes_before_an_alias_of_another_and_tier_1_before_the_rest() -> None:
    site = Taxonomy(
        "t", "1", (Category(("a",), ("b",)), Category(("b",)), Category(("a", "x")), Category(("b", "a"))), 2
    )
    assert site.resolve("b").path == "b"
    assert site.resolve("b/a").path == "b/a"
    assert site.resolve("a").path == "a"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "war"', 'name = "Palace Intrigue"', "comes twice below 'drama/period'; keep one"),
        ('name = "show"', 'name = "drama"', "'drama' comes twice on tier 1"),
        ('name = "talk"', 'name = "period"', "'period' of tier 2 has two parents, 'drama' and 'show'"),
        ('name = "war"', 'name = "love/war"', "'love/war' has a '/' in it"),
        ('name = "war"', 'name = "love;war"', "has a ';' in it"),
        ('name = "war"', 'name = " "', "is empty"),
        ('name = "war"', 'name = "a\\nb"', r"'a\\\\nb' is no name of one line"),
        ('name = "war"', "name = 3", "a category below category 'drama/period' has no name"),
        ('name = "war"', 'title = "war"', "has no name"),
        ('aliases = ["古装"]', 'aliases = "古装"', "aliases of category 'drama/period' must be a list"),
        ('aliases = ["古装"]', "parent = 3", "category 'drama/period' has the unknown key 'parent'"),
        ('version = "3"', 'version = "3"\nsince = 3', "top of the file has the unknown key 'since'"),
        ('version = "3"', "", "needs a version"),
        ('version = "3"', 'version = "3"\ntiers = 4', "tiers must be from 1 to 3"),
        ('version = "3"', 'version = "3"\ntiers = true', "tiers must be a number"),
        ('version = "3"', 'version = "3"\ntiers = 2', "there is a category on tier 3"),
        ('version = "3"', 'version = "3', r"not TOML \(.*\); see docs/categories.md"),
    ],
)
def test_what_is_no_taxonomy_is_refused_with_file_and_remedy(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in SITE
    with pytest.raises(InputError, match=message) as caught:
        loaded(tmp_path, SITE.replace(old, new))
    assert "site.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_tiers_a_fourth_one_and_odd_files_are_refused(tmp_path: Path) -> None:
    head = 'name = "t"\nversion = "1"\n'
    deep = "".join(f'[[{".".join(["category"] * n)}]]\nname = "{n}"\n' for n in range(1, 5))
    for text, message in [
        (head, "it has no category"),
        (head + '[[category]]\nname = "a"\n', "tier 2 is empty; give it a category, or write 'tiers = 1'"),
        (head + '[[category]]\nname = "a"\ncategory = []\n', "tier 2 is empty"),
        (head + deep, "'1/2/3/4' stands on a tier 4; there are 3"),
        (head + 'category = "a"\n', r"must be tables; write \[\[category\]\]"),
    ]:
        with pytest.raises(InputError, match=message):
            loaded(tmp_path, text)
    assert loaded(tmp_path, head + 'tiers = 1\n[[category]]\nname = "a"\n').n_tiers == 1
    with pytest.raises(InputError, match=r"cannot read taxonomy .*none.toml: No such file"):
        Taxonomy.load(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not TOML"):
        Taxonomy.load(tmp_path / "b.toml")


def test_the_categories_of_programs_span_a_taxonomy_in_any_order() -> None:
    paths = ["drama/period/war", "", "show", "drama/ period", "drama/modern"]
    site = Taxonomy.of_paths(paths)
    assert [one.path for one in site.tier(1)] == ["drama", "show"]
    assert [one.path for one in site.tier(2)] == ["drama/modern", "drama/period"]
    assert Taxonomy.of_paths(paths[::-1]) == site
    assert Taxonomy.of_paths([*paths, "show/talk"]).version != site.version
    assert Taxonomy.of_paths(["a", "b/c"]).n_tiers == 2
    for wrong, message in [
        ([], "no program has a category"),
        (["a/b/c/d"], "tier 4"),
        (["a/b", "c/b"], "two parents"),
        (["a//b"], "is empty"),
    ]:
        with pytest.raises(InputError, match=message):
            Taxonomy.of_paths(wrong)


words = st.text("aBé电 \"'\\#[]=.", min_size=1, max_size=6).map(lambda word: word.strip() or "x")


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Trees of one to three tiers with names that differ within a tier."""
    n_tiers = draw(st.integers(1, 3))
    above: list[tuple[str, ...]] = [()]
    nodes = []
    for tier in range(n_tiers):
        names = [f"{tier}{number}{draw(words)}".strip() for number in range(draw(st.integers(1, 4)))]
        own = [(*draw(st.sampled_from(above)), name) for name in names]
        nodes += [Category(one, tuple(draw(st.lists(words, max_size=2)))) for one in own]
        above = own
    return Taxonomy(draw(words), draw(words), tuple(nodes), n_tiers)


@settings(deadline=None, max_examples=60)
@given(taxonomies())
def test_a_saved_taxonomy_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, site: Taxonomy
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.toml"
    site.save(path)
    again = Taxonomy.load(path)
    again.save(path)
    assert Taxonomy.load(path).fingerprint() == again.fingerprint()
    assert (again.label, again.n_tiers) == (site.label, site.n_tiers)
    assert again == site
    for one in again.categories:
        assert again.resolve(one.path) == again.find(one.path) == one
        if one.tier > 1:
            parent = again.lineage_of(one)[-2]
            assert one in again.children_of(parent)
            column = again.parents_array(one.tier)[again.index_of(one)]
            assert again.tier(one.tier - 1)[int(column)] == parent


def test_a_fingerprint_changes_with_anything_in_the_file(site: Taxonomy, tmp_path: Path) -> None:
    prints = {site.fingerprint()}
    for old, new in [('"3"', '"4"'), ('"war"', '"wars"'), ('"古装"', '"古"'), ('"site"', '"sites"')]:
        prints.add(loaded(tmp_path, SITE.replace(old, new)).fingerprint())
    assert len(prints) == 5
    assert loaded(tmp_path, SITE).fingerprint() == site.fingerprint()


def test_a_tree_whose_parent_is_lacking_is_refused() -> None:
    with pytest.raises(ValueError, match="'a/b' stands below 'a', which is not there"):
        Taxonomy("t", "1", (Category(("x",)), Category(("a", "b"))), 2)
