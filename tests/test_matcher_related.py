"""Related programs: the candidates and what speaks for them, against loops over everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.catalog import Catalog, ModelInfo, NewAsset, NewProgram
from index.live import LiveIndex
from matcher.clip_features import count_stretches
from matcher.related import (
    LEAST_SPREAD,
    PROGRAMS,
    RIVALS,
    SHIPPED,
    RelatedSearch,
    RelatedWeights,
    nearest_programs,
    weigh_related,
)
from matcher.related_fit import Cases, fit_weights
from matcher.titles import TitleMatch


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_programs=st.integers(1, 50), k=st.integers(1, 80))
def test_programs_are_ranked_by_their_nearest_stretch(seed: int, n_programs: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    similarities = np.sort(rng.integers(-5, 6, (2, k)) / 8, axis=1)[:, ::-1].astype(np.float32)
    program = rng.integers(-1, n_programs, (2, k)).astype(np.int32)
    hidden = rng.integers(0, n_programs, 2).tolist()
    for row, (positions, best) in enumerate(nearest_programs(similarities, program, hidden=hidden)):
        want: dict[int, float] = {}
        for s, p in zip(similarities[row].tolist(), program[row].tolist(), strict=True):
            if p >= 0 and p not in hidden:
                want[p] = max(want.get(p, -9.0), s)
        ranked = sorted(want, key=lambda p: (-want[p], p))[:PROGRAMS]
        assert positions.tolist() == ranked
        assert best.tolist() == [want[p] for p in ranked]


def test_a_lead_is_measured_in_the_rivals_spread() -> None:
    best = np.array([0.9, 0.5, 0.4, 0.3])
    lead = weigh_related(
        np.array([7, 2, 5, 1]), best, {2: TitleMatch("p2", 0.5, "T"), 9: TitleMatch("p9", 0.8, "U")}
    )
    assert lead.positions.tolist() == [7, 2, 5, 1, 9]
    for place in range(4):
        rivals = [s for other, s in enumerate(best) if other != place][:RIVALS]
        mean = sum(rivals) / len(rivals)
        spread = max(LEAST_SPREAD, (sum((s - mean) ** 2 for s in rivals) / len(rivals)) ** 0.5)
        assert lead.evidence[place, 0] == pytest.approx(max(0, min(10, (best[place] - mean) / spread)))
        assert lead.evidence[place, 1] == pytest.approx(best[place] - max(rivals))
    assert lead.evidence[:, 2].tolist() == [0, 0.5, 0, 0, 0.8]
    assert lead.evidence[:, 3].tolist() == pytest.approx([0, -0.3, 0, 0, 0.3])
    assert np.isnan(lead.similarity[4])
    alone = weigh_related(np.array([3]), np.array([0.9]), {})
    assert not alone.evidence.any()  # one program alone is the nearest of whatever


def test_what_is_shipped_says_what_its_comment_says() -> None:
    def confidence(lead: float, title: float, title_margin: float) -> float:
        return float(SHIPPED.confidence(np.array([[lead, 0.0, title, title_margin]]))[0])

    assert confidence(0, 0, 0) < 0.05
    assert confidence(0, 1, 1) == pytest.approx(0.75, abs=0.02)
    assert confidence(0, 1, 0) < 0.5
    assert confidence(0, 0.5, 0.5) < 0.5
    assert confidence(6, 0, 0) > 0.9


@pytest.mark.parametrize(
    ("words", "why"),
    [({"weights": (1.0,)}, "4 finite"), ({"bias": float("nan")}, "finite"), ({"bar": 0.0}, "bar")],
)
def test_weights_check_themselves(words: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RelatedWeights(**{"bias": 0.0, "weights": (1.0, 1.0, 1.0, 1.0), **words})


# ---------------------------------------------------------------- over an index

D = 8
EMBEDDING = ModelInfo("fp-e", "mean", D)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Programs whose stretches point about one way each."""
    catalog = Catalog.create(tmp_path_factory.mktemp("related") / "store", ModelInfo("fp", "frames", 2))
    rng = np.random.default_rng(3)
    with catalog.writing() as writer:
        writer.replace_embeddings(EMBEDDING, [])
        for number in range(6):
            rows = np.eye(D)[number] + rng.normal(scale=0.1, size=(4, D))
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            asset = NewAsset(
                "a", "", "", 9.0, np.arange(9.0), np.ones((9, 2), np.float32), None, (np.arange(4.0), rows)
            )
            writer.add_program(NewProgram(f"p{number}", f"Title {number}"), [asset])
    return catalog


def searching(catalog: Catalog, *titles: TitleMatch) -> RelatedSearch:
    live = LiveIndex.open(catalog, table="embeddings")
    return RelatedSearch(live, lambda text, k: [one for one in titles if one.matched in text][:k], SHIPPED)


def test_a_clip_near_a_programs_stretches_is_about_it(catalog: Catalog) -> None:
    search = searching(catalog)
    x = np.eye(D, dtype=np.float32)[[2, 4]]
    for number, (found,) in zip((2, 4), search.related(x, [None, None]), strict=True):
        assert (found.program_id, found.title) == (f"p{number}", f"Title {number}")
        assert found.confidence > 0.9
        rows = np.concatenate([catalog.frames_of(n, "embeddings").vectors for n in range(1, 7)])
        assert found.similarity == pytest.approx(float((rows @ np.eye(D)[number]).max()), abs=1e-5)
        assert found.to_json()["basis"] == ["embedding"]


def test_a_clip_near_nothing_or_with_no_embedding_is_about_nothing(catalog: Catalog) -> None:
    search = searching(catalog)
    assert search.related(np.stack([np.eye(D)[7], np.zeros(D)]).astype(np.float32), [None, None]) == [(), ()]
    assert search.related(np.zeros((0, D), np.float32), []) == []


def test_words_name_a_program_that_no_picture_resembles(catalog: Catalog) -> None:
    search = searching(catalog, TitleMatch("p5", 1.0, "Title 5"), TitleMatch("gone", 1.0, "Title"))
    ((found,),) = search.related(np.zeros((1, D), np.float32), ["making of Title 5"])
    assert (found.program_id, found.similarity, found.title_score) == ("p5", None, 1.0)
    assert found.to_json()["basis"] == ["title"]


def test_a_hidden_program_is_nobodys(catalog: Catalog) -> None:
    (lead,) = searching(catalog).leads(np.eye(D, dtype=np.float32)[[2]], [None], hidden=[2])
    assert 2 not in lead.positions


# ---------------------------------------------------------------- the fit


def cases_of(seed: int, n_programs: int) -> Cases:
    """Candidates whose lead decides, by a logistic curve that is known."""
    rng = np.random.default_rng(seed)
    stretch = np.repeat(np.arange(n_programs * 5), 8)
    evidence = np.zeros((len(stretch), 4))
    evidence[:, 0] = rng.normal(1, 2, len(stretch))
    is_right = rng.random(len(stretch)) < 1 / (1 + np.exp(4 - 1.5 * evidence[:, 0]))
    return Cases(evidence, is_right, stretch, stretch // 5)


def test_the_fit_finds_the_curve_that_made_the_cases_and_leaves_titles_as_shipped() -> None:
    fitted = fit_weights(cases_of(0, 200), embedding="fp-e")
    assert fitted is not None
    assert (fitted.bias, fitted.weights[0]) == (pytest.approx(-4, abs=0.3), pytest.approx(1.5, abs=0.1))
    assert abs(fitted.weights[1]) < 0.1
    assert fitted.weights[2:] == SHIPPED.weights[2:]
    assert (fitted.embedding, fitted.cases) == ("fp-e", 1000)


def test_too_few_programs_say_nothing() -> None:
    assert fit_weights(cases_of(0, 6), embedding="fp-e") is None


def test_stretches_of_a_store_are_asked_without_their_neighbours(tmp_path: Path) -> None:
    """Programs of one look each: a stretch finds its own program, and none where that is hidden."""
    from matcher.config import Settings
    from matcher.related_fit import EACH, collect_cases
    from matcher.store import default_fusion, open_live

    catalog = Catalog.create(tmp_path / "store", ModelInfo("fp", "frames", 16))
    rng = np.random.default_rng(0)
    with catalog.writing() as writer:
        for number in range(14):
            rows = np.eye(16)[number] + rng.normal(scale=0.2, size=(60, 16))
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            writer.add_program(NewProgram(f"p{number}"), [NewAsset("a", "", "", 60.0, np.arange(60.0), rows)])
        fusion = default_fusion(catalog, Settings())
        writer.replace_embeddings(
            ModelInfo(fusion.info.fingerprint, "mean", fusion.info.d), fusion.programs(catalog)
        )
    assert [record.embedding_count for record in catalog.programs()] == [count_stretches(60, 1)] * 14
    cases = collect_cases(catalog, fusion, open_live(catalog, Settings().index, table="embeddings"))
    assert len(np.unique(cases.stretch)) == 14 * EACH
    right = np.array([cases.is_right[cases.stretch == one].sum() for one in np.unique(cases.stretch)])
    assert set(right.tolist()) == {0, 1}
    assert abs(int(right.sum()) - 35) <= 1
    best = [
        bool(cases.is_right[rows[cases.evidence[rows, 0].argmax()]])
        for one in np.flatnonzero(right)
        for rows in [np.flatnonzero(cases.stretch == one)]
    ]
    assert np.mean(best) > 0.95
    fitted = fit_weights(cases, embedding=fusion.info.fingerprint)
    assert fitted is not None
    confidence = fitted.confidence(cases.evidence)
    assert confidence[cases.is_right].mean() > 0.8
    assert confidence[~cases.is_right].mean() < 0.05
