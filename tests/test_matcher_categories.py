"""Three tiers together: consistent down the tree, best paths, evidence, and the JSON form."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.categories import (
    CategoryModel,
    Evidence,
    agreement,
    category_words,
    head_file,
    make_consistent,
    program_prediction,
)
from matcher.category_examples import ExampleBank, LikenessMap
from matcher.category_head import TierHead
from matcher.errors import InputError
from matcher.taxonomy import Category, Taxonomy

PATHS = (
    "drama",
    "show",
    "drama/period",
    "drama/modern",
    "show/talk",
    "drama/period/palace",
    "drama/period/war",
)
SITE = Taxonomy("site", "3", tuple(Category(tuple(path.split("/"))) for path in PATHS))


def said(tier: int, **probabilities: float) -> TierHead:
    """A head that says these of every clip; names for paths, with double underscores for slashes."""
    z = np.array([math.log(p / (1 - p)) for p in probabilities.values()], np.float32)
    return TierHead(
        tier,
        tuple(name.replace("__", "/") for name in probabilities),
        "logistic",
        {"linear.weight": np.zeros((len(z), 2), np.float32), "linear.bias": z},
        np.zeros(2, np.float32),
        1.0,
        np.zeros(len(z), np.float32),
        1.0,
        model="m",
    )


def all_heads() -> tuple[TierHead, ...]:
    return (
        said(1, drama=0.8, show=0.3),
        said(2, drama__period=0.9, drama__modern=0.2, show__talk=0.6),
        said(3, drama__period__palace=0.1, drama__period__war=0.7),
    )


ONE = np.zeros((1, 2), np.float32)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Probabilities of three clips a tier, some of them not answered, and parents."""
    sizes = [draw(st.integers(1, 5)) for _ in range(draw(st.integers(1, 3)))]
    answer = st.one_of(st.floats(0, 1), st.just(math.nan))
    probabilities = [
        np.array([[draw(answer) for _ in range(size)] for _ in range(3)], dtype=np.float64) for size in sizes
    ]
    parents = [
        np.array([draw(st.integers(0, above - 1)) for _ in range(size)], dtype=np.int64)
        for above, size in itertools.pairwise(sizes)
    ]
    return probabilities, parents


@settings(deadline=None, max_examples=150)
@given(trees())
def test_nothing_is_more_probable_than_what_is_above_it_and_the_rule_is_as_written(
    tree: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    probabilities, parents = tree
    got = make_consistent(probabilities, parents)

    def line(tier: int, place: int) -> list[tuple[int, int]]:
        above = [] if tier == 0 else line(tier - 1, int(parents[tier - 1][place]))
        return [*above, (tier, place)]

    def wanted(row: int, tier: int, place: int) -> float:
        if not np.isnan(probabilities[tier][row, place]):
            known = [probabilities[t][row, c] for t, c in line(tier, place)]
            return min(p for p in known if not np.isnan(p))
        if tier == len(parents):
            return math.nan
        below = [wanted(row, tier + 1, int(c)) for c in np.flatnonzero(parents[tier] == place)]
        return max((p for p in below if not np.isnan(p)), default=math.nan)

    for tier, p in enumerate(got):
        for row in range(3):
            for place in range(p.shape[1]):
                np.testing.assert_equal(p[row, place], wanted(row, tier, place))
        if tier:
            above = got[tier - 1][:, parents[tier - 1]]
            assert (np.isnan(p) | (p <= above)).all()
    for before, after in zip(probabilities, got, strict=True):
        again = make_consistent(got, parents)
        assert (np.isnan(before) | (after <= before)).all()
    for once, twice in zip(got, again, strict=True):
        np.testing.assert_array_equal(once, twice)


def test_a_new_head_of_a_lower_tier_changes_nothing_above_it() -> None:
    first, second, third = all_heads()
    before = CategoryModel(SITE, (first, second)).probabilities(ONE)
    after = CategoryModel(SITE, (first, second, third)).probabilities(ONE)
    for tier in (0, 1):
        np.testing.assert_array_equal(before[tier], after[tier])
    np.testing.assert_allclose(after[0], [[0.8, 0.3]], atol=1e-6)
    np.testing.assert_allclose(after[1], [[0.8, 0.2, 0.3]], atol=1e-6)
    np.testing.assert_allclose(after[2], [[0.1, 0.7]], atol=1e-6)
    assert np.isnan(before[2]).all()


def test_the_best_path_goes_down_the_tree_and_what_else_is_likely_is_listed() -> None:
    (found,) = CategoryModel(SITE, all_heads()).predict(ONE)
    assert [one.category and one.category.path for one in found.tiers] == [
        "drama",
        "drama/period",
        "drama/period/war",
    ]
    np.testing.assert_allclose([one.confidence for one in found.tiers], [0.8, 0.8, 0.7], atol=1e-6)
    assert (found.path, found.basis) == ("drama/period/war", "head")
    assert [one.category.path for one in found.alternatives] == [
        "show",
        "show/talk",
        "drama/modern",
        "drama/period/palace",
    ]


@pytest.mark.parametrize(
    ("least", "names"),
    [
        (0.0, ["drama", "period", "war"]),
        (0.75, ["drama", "period", None]),
        (0.9, [None, None, None]),
    ],
)
def test_what_is_less_confident_than_asked_is_not_named(least: float, names: list[str | None]) -> None:
    (found,) = CategoryModel(SITE, all_heads()).predict(ONE, min_confidence=least)
    assert [one.category and one.category.name for one in found.tiers] == names
    assert all(one.confidence is not None for one in found.tiers)
    others = {one.category.path for one in found.alternatives}
    assert ("drama/period/war" in others) == (names[2] is None)
    with pytest.raises(ValueError, match="min_confidence must be from 0 to 1"):
        CategoryModel(SITE, all_heads()).predict(ONE, min_confidence=1.5)


def test_a_tier_without_a_head_is_as_probable_as_what_is_below_it() -> None:
    _, second, _ = all_heads()
    (found,) = CategoryModel(SITE, (second,)).predict(ONE)
    np.testing.assert_allclose([one.confidence for one in found.tiers[:2]], [0.9, 0.9], atol=1e-6)
    assert found.tiers[0].basis == "head"
    assert found.tiers[2].category is None
    assert found.tiers[2].confidence is None
    assert found.tiers[2].basis is None


def bank_of(*paths: str, model: str = "m") -> ExampleBank:
    """Examples at (1, 0), which are all the same to ask about."""
    sure = LikenessMap(0.0, 0.0, 0.0, math.log(0.95 / 0.05), is_calibrated=True)
    vectors = np.tile(np.array([[1, 0]], np.float32), (len(paths), 1))
    return ExampleBank(vectors, paths, np.zeros(2, np.float32), sure, model=model)


def test_a_class_that_no_head_knows_is_answered_by_its_examples_and_no_other() -> None:
    first, second, _ = all_heads()
    bank = bank_of("drama/period/palace", "drama/modern")  # the second is known to a head
    model = CategoryModel(SITE, (first, second), bank)
    (found,) = model.predict(ONE)
    assert found.path == "drama/period/palace"
    assert [one.basis for one in found.tiers] == ["head", "head", "examples"]
    assert found.basis == "examples"
    p = model.probabilities(ONE)
    np.testing.assert_allclose(p[1], [[0.8, 0.2, 0.3]], atol=1e-6)
    np.testing.assert_allclose(p[2][0, 0], 0.8, atol=1e-6)  # 0.95, no more than what is above
    (alone,) = CategoryModel(SITE, (), bank_of("drama/period/war")).predict(ONE)
    assert [one.basis for one in alone.tiers] == ["examples"] * 3


def test_what_is_of_a_new_class_is_of_no_known_one_as_far_as_classes_exclude_each_other() -> None:
    head = replace(said(2, drama__period=0.8, drama__modern=0.1), rivalry=0.5)
    raw = head.probabilities(ONE)
    p = CategoryModel(SITE, (head,), bank_of("show/talk")).probabilities(ONE)[1]
    np.testing.assert_allclose(p[:, :2], raw * (1 - 0.5 * 0.95), atol=1e-6)
    np.testing.assert_allclose(p[0, 2], 0.95, atol=1e-6)
    # A class that the head knows is no new one, whatever examples there are of it.
    same = CategoryModel(SITE, (head,), bank_of("drama/modern")).probabilities(ONE)[1]
    np.testing.assert_allclose(same[:, :2], raw, atol=1e-6)
    assert np.isnan(same[0, 2])


def test_a_head_of_another_version_is_matched_by_path_and_the_rest_is_noted() -> None:
    new = Taxonomy(
        "site",
        "4",
        (Category(("series",), ("drama",)), Category(("film",)), Category(("series", "period"))),
        2,
    )
    model = CategoryModel(new, all_heads()[:2])
    (found,) = model.predict(ONE)
    assert found.path == "series/period"
    assert found.tiers[1].basis == "head"
    assert np.isnan(model.probabilities(ONE)[0][0, 1])
    assert model.notes == (
        "the head of tier 1 knows 1 categories that are not in taxonomy site@4 and are left out: show",
        "the head of tier 2 knows 2 categories that are not in taxonomy site@4 and are left out:"
        " drama/modern, show/talk",
    )
    assert CategoryModel(SITE, all_heads()).notes == ()


def test_what_was_made_with_embeddings_of_several_models_is_refused() -> None:
    with pytest.raises(InputError, match="the bank of examples was made with embeddings of model m"):
        CategoryModel(SITE, all_heads(), bank_of("drama", model="n"))
    with pytest.raises(ValueError, match="two heads are of one tier"):
        CategoryModel(SITE, (all_heads()[0], all_heads()[0]))
    assert CategoryModel(SITE, all_heads(), bank_of("drama", model="")).model == "m"


def test_a_programs_category_is_evidence_beside_the_answer() -> None:
    model = CategoryModel(SITE, all_heads())
    (found,) = model.predict(ONE, min_confidence=0.75)  # drama/period
    for own, verdicts, path, agrees in [
        (["drama/period/war"], ("agree", "agree", "unknown"), "drama/period/war", True),
        (["show/talk"], ("conflict", "conflict", "unknown"), "show/talk", False),
        (["drama/modern"], ("agree", "conflict", "unknown"), "drama/modern", False),
        (["drama"], ("agree", "unknown", "unknown"), "drama", True),
        (["show", "drama/period"], ("agree", "agree", "unknown"), "drama/period", True),
        (["nothing/known"], ("unknown",) * 3, "nothing/known", None),
        ([], ("unknown",) * 3, "", None),
    ]:
        evidence = model.agreement(found, own)
        assert (evidence.tiers, evidence.path, evidence.agrees) == (verdicts, path, agrees)
    assert model.predict(ONE, min_confidence=0.75) == [found]  # asking moved nothing


def test_without_anything_trained_the_programs_category_stands_in() -> None:
    found = program_prediction(["nothing", "drama/period"], SITE, confidence=0.97)
    assert (found.path, found.basis) == ("drama/period", "program")
    assert [one.confidence for one in found.tiers] == [0.97, 0.97, None]
    assert program_prediction([], SITE).path is None
    assert program_prediction([], SITE).basis is None
    assert agreement(found, ["drama/period"], SITE).agrees is True


def test_the_json_form_is_what_a_query_promises() -> None:
    model = CategoryModel(SITE, all_heads())
    (found,) = model.predict(ONE, min_confidence=0.75)
    words = model.words(found, Evidence(("agree", "unknown", "unknown"), "drama"))
    assert json.loads(json.dumps(words)) == words
    assert words["tiers"][1] == {
        "tier": 2, "name": "period", "path": "drama/period", "confidence": 0.8, "basis": "head",
    }  # fmt: skip
    assert words["tiers"][2] == {"tier": 3, "name": None, "path": None, "confidence": 0.7, "basis": "head"}
    assert words["alternatives"][0] == {
        "tier": 1, "name": "show", "path": "show", "confidence": 0.3, "basis": "head",
    }  # fmt: skip
    assert words["program"] == {"path": "drama", "agrees": True, "tiers": ["agree", "unknown", "unknown"]}
    assert (words["basis"], words["model"], words["taxonomy"]) == ("head", model.fingerprint, "site@3")
    assert category_words(found, None, model=None, taxonomy="site@3")["program"] is None


def test_a_folder_reads_back_the_same_with_any_of_its_parts(tmp_path: Path) -> None:
    SITE.save(tmp_path / "taxonomy.toml")
    with pytest.raises(InputError, match="no head and no examples in"):
        CategoryModel.load(tmp_path)
    model = CategoryModel(SITE, all_heads(), bank_of("show"))
    for head in model.heads:
        head.save(tmp_path / head_file(head.tier))
    assert model.bank is not None
    model.bank.save(tmp_path / "examples.safetensors")
    again = CategoryModel.load(tmp_path)
    assert again.predict(ONE) == model.predict(ONE)
    assert again.fingerprint == model.fingerprint
    (tmp_path / head_file(2)).unlink()
    assert CategoryModel.load(tmp_path).fingerprint != model.fingerprint
    (tmp_path / "taxonomy.toml").unlink()
    with pytest.raises(InputError, match="cannot read taxonomy"):
        CategoryModel.load(tmp_path)
    assert CategoryModel.load(tmp_path, SITE).taxonomy is SITE


def test_predictions_do_not_depend_on_their_neighbours_or_their_number() -> None:
    rng = np.random.default_rng(0)
    heads: list[TierHead] = []
    make: Callable[[int, tuple[str, ...]], TierHead] = lambda tier, paths: TierHead(  # noqa: E731
        tier, paths, "logistic",
        {
            "linear.weight": rng.standard_normal((len(paths), 6)).astype(np.float32),
            "linear.bias": np.zeros(len(paths), np.float32),
        },
        np.zeros(6, np.float32), 1.0, np.zeros(len(paths), np.float32), 1.0,
    )  # fmt: skip
    heads = [make(tier, tuple(one.path for one in SITE.tier(tier))) for tier in (1, 2, 3)]
    model = CategoryModel(SITE, tuple(heads))
    x = rng.standard_normal((7, 6)).astype(np.float32)
    assert model.predict(x[:0]) == []
    together = model.predict(x)
    for row in range(7):
        (alone,) = model.predict(x[row : row + 1])
        assert alone.path == together[row].path
        for one, other in zip(alone.tiers, together[row].tiers, strict=True):
            assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
