"""Which programs a clip's text names, and how sure that is."""

from __future__ import annotations

import random
from pathlib import Path

import made_titles
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index import catalog as catalog_module
from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from matcher.titles import TitleMatch, TitleRarity, title_candidates, title_rarity, title_score

MODEL = ModelInfo("fp-1", "embedded", 4, {})
ANY = TitleRarity(0, {})


def program(program_id: str, title: str, *aliases: str) -> tuple[NewProgram, list[NewAsset]]:
    asset = NewAsset("a", "/a.mp4", "", 1.0, np.zeros(1), np.ones((1, 4), np.float32))
    return NewProgram(program_id, title, aliases), [asset]


def store(path: Path, programs: list[tuple[NewProgram, list[NewAsset]]]) -> Catalog:
    catalog = Catalog.create(path, MODEL)
    with catalog.writing() as writer:
        writer.add_programs(programs)
    catalog.refresh()
    return catalog


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, list[str]]:
    """2,000 titles, every fifth program with another's as an alias besides; with a full-text index."""
    names = made_titles.titles(2400, 5)
    rows = [program(f"p{i}", names[i], *([names[2000 + i // 5]] if i % 5 == 0 else [])) for i in range(2000)]
    catalog = store(tmp_path_factory.mktemp("titles") / "store", rows)
    assert catalog_module._has_names_index(catalog._tables["programs"])
    return catalog, names


@pytest.fixture
def few(tmp_path: Path) -> Catalog:
    return store(
        tmp_path / "store",
        [
            program("joy", "庆余年", "Joy of Life", "JOL"),
            program("joy2", "庆余年 第二季"),
            program("home", "家"),
            program("lurk", "潜伏", "Lurk"),
            program("her", "Her"),
            program("nirvana", "琅琊榜"),
            program("odd", 'The "100%" Wolf & (NOT) Me!'),
            program("laugh", "😂笑傲江湖😂"),
            program("nameless", ""),
        ],
    )


# ---------------------------------------------------------------- 2,000 titles


def test_a_title_in_a_text_is_first_and_certain(many: tuple[Catalog, list[str]]) -> None:
    """Among 2,000 made of the same words, with words around it: nearly always, by title and by alias."""
    catalog, names = many
    rng = random.Random(1)
    by_title = [(f"p{i}", names[i]) for i in range(0, 2000, 17)]
    by_alias = [(f"p{5 * j}", names[2000 + j]) for j in range(0, 400, 7)]
    for wanted in (by_title, by_alias):
        first, scores = [], []
        for program_id, name in wanted:
            found = title_candidates(catalog, made_titles.around(name, rng), k=5)
            first.append(found[0].program_id == program_id)
            own = next(match for match in found if match.program_id == program_id)
            assert own.matched == name
            scores.append(own.score)
        assert np.median(scores) > 0.8
        assert min(scores) > 0.15  # two short words that many titles hold
        assert np.mean(first) > 0.95


def test_a_title_with_a_typo_is_mostly_first_and_less_certain(many: tuple[Catalog, list[str]]) -> None:
    catalog, names = many
    rng = random.Random(2)
    first, less = [], []
    for i in range(0, 2000, 17):
        found = title_candidates(catalog, made_titles.around(made_titles.with_typo(names[i], rng), rng), k=5)
        first.append(bool(found) and found[0].program_id == f"p{i}")
        whole = title_score(names[i], names[i], title_rarity(catalog))
        less.append(all(match.score < whole for match in found if match.program_id == f"p{i}"))
    assert np.mean(first) > 0.75
    assert np.mean(less) > 0.95


@pytest.mark.slow
def test_the_search_loses_no_title_that_scoring_all_of_them_finds(many: tuple[Catalog, list[str]]) -> None:
    """Brute force: every name of every program scored; the best is the same."""
    catalog, names = many
    rng, rarity = random.Random(3), title_rarity(catalog)
    records = catalog.programs()
    for i in range(0, 2000, 97):
        text = made_titles.around(made_titles.with_typo(names[i], rng), rng)
        best = max(title_score(name, text, rarity) for r in records for name in (r.title, *r.aliases))
        found = title_candidates(catalog, text, k=1)
        assert found[0].score == pytest.approx(best)


def test_texts_about_none_of_them_score_low(many: tuple[Catalog, list[str]]) -> None:
    catalog, _ = many
    strangers = [name for name in made_titles.titles(300, 99, least=6) if name not in set(many[1])]
    best = [max([0.0, *(match.score for match in title_candidates(catalog, name))]) for name in strangers]
    assert np.median(best) < 0.3
    assert np.mean(np.array(best) > 0.8) < 0.1


# ---------------------------------------------------------------- what a name is worth


def test_longer_names_tell_more_and_short_ones_next_to_nothing() -> None:
    names = ["家", "潜伏", "琅琊榜", "庆余年传", "庆余年外传"]
    scores = [title_score(name, f"看了{name}之后", ANY) for name in names]
    assert scores == sorted(scores)
    assert scores[0] == 0
    assert scores[1] < 0.25
    assert 0.4 < scores[2] < 0.6
    assert scores[4] > 0.9
    words = ["it", "her", "lurk", "joy of life"]
    scores = [title_score(word, f"we saw {word} yesterday", ANY) for word in words]
    assert scores == sorted(scores)
    assert scores[1] < 0.25
    assert scores[3] > 0.9


def test_a_marked_title_tells_more() -> None:
    for text in ("《潜伏》大结局", "#潜伏# 大结局", "#潜伏 大结局", "看 #潜伏", "『潜伏』", "＃潜伏＃"):
        assert title_score("潜伏", text, ANY) > 0.5, text
    for text in ("潜伏大结局", "《潜伏者》", "《潜》伏"):
        assert title_score("潜伏", text, ANY) < 0.25, text


def test_common_grams_tell_less() -> None:
    rarity = TitleRarity.of([f"的故事{i}" for i in range(2000)] + ["琅琊榜"])
    assert title_score("的故事", "的故事", rarity) < 0.05
    assert title_score("琅琊榜", "琅琊榜", rarity) > 0.4
    assert rarity.weight("琅琊") == rarity.weight("从来") == 1.0
    assert 0 <= rarity.weight("故事") < 0.01


def test_few_titles_make_nothing_common() -> None:
    rarity = TitleRarity.of(["琅琊榜", "琅琊榜", "庆余年"])
    assert title_score("琅琊榜", "琅琊榜", rarity) > 0.35


def test_a_part_tells_less_than_the_whole_and_scattered_parts_nothing() -> None:
    whole, part, other = (
        title_score("庆余年外传", text, ANY)
        for text in ("庆余年外传", "庆余年大结局", "庆祝余下年轻外面传说")
    )
    assert whole > 3 * part > 0
    assert other == 0
    near = title_score("black mirror", "blacks mirrors", ANY)
    far = title_score("black mirror", "blacks " + "of the house " * 9 + "mirrors", ANY)
    assert near > far > 0


def test_words_are_whole() -> None:
    inside, alone = (
        title_score("joy of life", text, ANY) for text in ("enjoy of lifes", "enjoy joy of life")
    )
    assert alone > inside
    assert title_score("her", "there where others", ANY) < title_score("her", "with her", ANY)


@given(st.text(max_size=12), st.text(max_size=30))
def test_a_score_is_a_share(name: str, text: str) -> None:
    score = title_score(name, text, ANY)
    assert 0 <= score <= 1
    assert title_score(name, f"{text} {name}", ANY) >= title_score(name, name, ANY) * 0.999


@given(st.text("abc 年余庆外传", max_size=10), st.text("abc 年余庆外传", max_size=40))
def test_the_place_that_tells_most_is_found(name: str, text: str) -> None:
    """Against all places tried one by one."""
    from index.names import normal_form, stands_in
    from matcher.titles import _grams, _Text

    own, whole = normal_form(name), normal_form(text)
    if stands_in(own, whole):
        return
    weights = {gram: units for gram, units, _ in _grams(own)}
    span = max(1, len(own))
    grams = [(gram, at) for gram, _, at in _grams(whole)]
    best = max(
        (
            sum(
                weights[gram]
                for gram in {gram for gram, at in grams if start <= at < start + span} & set(weights)
            )
            for start in range(len(whole) + 1)
        ),
        default=0.0,
    )
    assert _Text(text)._told_at_one_place(weights, span=span) == pytest.approx(best)


# ---------------------------------------------------------------- of a small store


@pytest.mark.parametrize(
    ("text", "first", "matched"),
    [
        ("看完《庆余年》第三集哭了", "joy", "庆余年"),
        ("庆余年第二季大结局", "joy2", "庆余年 第二季"),
        ("庆 余 年 · 名场面", "joy", "庆余年"),
        ("JOY OF LIFE ep 3", "joy", "Joy of Life"),
        ("“joy-of-life” is great", "joy", "Joy of Life"),
        ("#潜伏# 余则成", "lurk", "潜伏"),
        ("the 100 wolf, not me", "odd", 'The "100%" Wolf & (NOT) Me!'),
        ("笑傲江湖😂😂", "laugh", "😂笑傲江湖😂"),
        ("'; DROP TABLE programs; -- 琅琊榜", "nirvana", "琅琊榜"),
        ('names:(琅琊榜 OR "x)', "nirvana", "琅琊榜"),
        ("a" * 3000 + " 琅琊榜 " + "b" * 3000, "nirvana", "琅琊榜"),
    ],
)
def test_the_program_named_comes_first(few: Catalog, text: str, first: str, matched: str) -> None:
    found = title_candidates(few, text)
    assert (found[0].program_id, found[0].matched) == (first, matched)
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)


@pytest.mark.parametrize("text", ["", "!!", "😂", "家", "我的家", "《家》", "与此无关的一句话", "DROP TABLE"])
def test_what_names_none_has_no_candidates(few: Catalog, text: str) -> None:
    assert title_candidates(few, text) == []


def test_a_season_that_is_not_named_comes_after_the_one_that_is(few: Catalog) -> None:
    first, second = title_candidates(few, "庆余年第二季大结局", k=2)
    assert (first.program_id, second.program_id) == ("joy2", "joy")
    first, second = title_candidates(few, "庆余年大结局", k=2)
    assert (first.program_id, second.program_id) == ("joy", "joy2")
    assert title_candidates(few, "庆余年第二季大结局", k=1) == title_candidates(few, "庆余年第二季大结局")[:1]


def test_names_of_removed_programs_never_show(few: Catalog) -> None:
    rarity = title_rarity(few)
    with few.writing() as writer:
        writer.remove_programs(["joy", "joy2"])
    few.refresh()
    assert title_candidates(few, "庆余年第二季 joy of life") == []
    assert title_rarity(few) != rarity


def test_the_rarity_is_counted_anew_after_a_change_alone(few: Catalog) -> None:
    reader = Catalog.open(few.path)
    before = title_rarity(reader)
    with few.writing() as writer:
        writer.add_programs([program("nirvana2", "琅琊榜之风起长林")])
    assert title_rarity(reader) is before
    assert "琅琊" not in before.counts
    reader.refresh()
    assert title_rarity(reader).counts["琅琊"] == 2


def test_a_name_tells_less_once_others_share_its_grams(few: Catalog) -> None:
    before = title_candidates(few, "看琅琊榜")
    with few.writing() as writer:
        writer.add_programs(program(f"x{i}", f"琅琊阁{i}") for i in range(30))
    few.refresh()
    assert title_candidates(few, "看琅琊榜")[0].score < before[0].score


def test_misuse_is_refused(few: Catalog) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        title_candidates(few, "x", k=0)
    with pytest.raises(ValueError, match="score must be"):
        TitleMatch("p", 1.5, "x")
