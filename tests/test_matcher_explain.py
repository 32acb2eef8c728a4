"""An explanation says what the answer rests on: its numbers are worked by hand, its picture opens."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Library, Run
from numpy.typing import NDArray
from PIL import Image

from eval.video_writer import write_video
from index.catalog import Catalog
from index.live import LiveIndex
from index.rows import ClipRecord, ModelInfo, NewAsset, NewProgram, StoredClip
from matcher.background import Background
from matcher.calibration import FILE_NAME, Calibration
from matcher.config import Settings
from matcher.decision import FEATURES, Weights
from matcher.errors import InputError
from matcher.explain import PLAIN_CUT, Explainer, Explanation, Subject, balance_of, picture_path
from matcher.explain_frames import DECODED_SECONDS, MAX_PAIRS, nearest_frames, pairs_of, view_named
from matcher.explain_picture import HEIGHT, WIDTH, write_picture
from matcher.explain_words import headline, instead, speaks, sureness, to_json, where
from matcher.records import Descriptors, Look

D = 24
MODEL = ModelInfo("fp-1", "synthetic", D)
LEAST = 0.625
WEIGHTS = Weights((1.5, 4.0, 2.0, 1.0, 1.5, -1.0, -1.5, -1.0, -1.0, 0.5), -6.0)
CALIBRATION = Calibration(WEIGHTS, 0.9, 0.3, Background.empty(D, least=LEAST), model="fp-1")


def basis(*rows: int) -> NDArray[np.float32]:
    """Frames of which no two resemble each other."""
    return np.eye(D, dtype=np.float32)[list(rows)]


def blend(row: int, other: int, share: float) -> NDArray[np.float32]:
    """One frame that has a cosine of ``share`` with basis vector ``row``; the rest goes to ``other``."""
    return (share * basis(row) + np.sqrt(1 - share**2) * basis(other)).astype(np.float32)


#: Programs of one asset at one frame a second. ``near`` resembles frame 3 of ``own`` by 0.75.
PROGRAMS: Mapping[str, NDArray[np.float32]] = {
    "own": basis(*range(10)),
    "near": np.concatenate([blend(3, 10, 0.75), basis(11, 12, 13)]),
    "far": basis(14, 15, 16),
}


def add(catalog: Catalog, programs: Mapping[str, NDArray[np.float32]]) -> None:
    with catalog.writing() as writer:
        for name, vectors in programs.items():
            n = len(vectors)
            asset = NewAsset(f"{name}-e1", f"/gone/{name}.mp4", "", float(n), np.arange(float(n)), vectors)
            writer.add_program(NewProgram(name, title=f"Title of {name}"), [asset])


def explainer_of(catalog: Catalog, calibration: Calibration = CALIBRATION) -> Explainer:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*")
        return Explainer(catalog, LiveIndex.open(catalog), Settings(), calibration)


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    catalog = Catalog.create(tmp_path_factory.mktemp("explain") / "store", MODEL)
    add(catalog, PROGRAMS)
    return explainer_of(catalog)


def subject(vectors: NDArray[np.float32], further: tuple[Look, ...] = ()) -> Subject:
    n = len(vectors)
    clip = Descriptors(np.arange(float(n)), vectors, float(n), n, further)
    return Subject("c", Path("/gone/c.mp4"), clip, "fp-1")


CUT = subject(basis(3, 4, 5, 6, 7))
STRANGER = subject(basis(20, 21, 22))
EMPTY = subject(np.zeros((0, D), np.float32))


# ---------------------------------------------------------------- the numbers


def test_a_cut_is_explained_by_the_numbers_worked_by_hand(explainer: Explainer) -> None:
    found = explainer.explain(CUT)
    assert (found.decision, found.record.program_id) == ("linked", "own")  # type: ignore[union-attr]
    evidence = found.picture.evidence
    assert evidence is not None
    assert evidence.similarity == pytest.approx(1.0, abs=1e-3)
    assert evidence.excess == pytest.approx(1.0, abs=1e-3)
    # The next best is 0.75 once, and chance four times.
    assert evidence.lead == pytest.approx((0.25 + 4 * 0.375) / 5, abs=1e-3)
    assert evidence.frames == pytest.approx(5.0)
    assert evidence.coverage == 1.0
    series = found.picture.series
    np.testing.assert_allclose(series.similarity, 1.0, atol=1e-3)
    np.testing.assert_allclose(series.aligned, 1.0, atol=1e-3)
    np.testing.assert_allclose(series.asset_seconds, [3, 4, 5, 6, 7])
    np.testing.assert_allclose(series.other, [0.75, 0, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(series.chance, LEAST)
    assert found.name(series.rival()) == "near"
    assert found.name(int(series.other_program[0])) == "near"
    # A frame all its own gives 1; 0.75 is a third of the way from 0.625 to 1, shared with the better one.
    votes = {found.name(voted.program): voted.votes for voted in found.picture.votes}
    assert votes == pytest.approx({"own": 5.0, "near": 1 / 6}, abs=2e-3)


def test_the_balance_adds_up_to_the_log_odds_of_the_link(explainer: Explainer) -> None:
    found = explainer.explain(CUT)
    assert found.picture.balance is not None
    assert found.picture.balance.total == pytest.approx(found.log_odds, abs=1e-9)
    assert found.log_odds == pytest.approx(found.picture.assessed.log_odds)  # type: ignore[union-attr]
    parts = {part.feature: part for part in found.picture.balance.contributions}
    assert tuple(parts) == FEATURES
    # Weight times the difference to the plain cut, in the feature's own form.
    lacking = 1.05 - PLAIN_CUT.excess, 1.05 - 1.0
    assert parts["excess"].log_odds == pytest.approx(4.0 * np.log(lacking[0] / lacking[1]), abs=0.01)
    assert parts["frames"].log_odds == pytest.approx(np.log(5.0) - np.log(PLAIN_CUT.frames), abs=1e-6)
    assert parts["coverage"].log_odds == 0.0


def test_the_rivalry_of_twins_takes_the_confidence_to_one_half() -> None:
    twin = replace(PLAIN_CUT, lead=0.0)
    balance = balance_of(twin, WEIGHTS)
    sure = WEIGHTS.match(twin)
    assert sure > 3
    # log(p q / (1 - p q)) with q = 1/2 and p all but 1.
    p = 1 / (1 + np.exp(-sure))
    assert balance.total == pytest.approx(np.log(p / 2 / (1 - p / 2)))
    assert balance.rivalry == pytest.approx(balance.total - sure)
    assert balance.rivalry < -3


def test_the_matrix_is_the_product_of_the_frames(explainer: Explainer) -> None:
    matrix = explainer.explain(CUT).picture.matrix
    assert matrix is not None
    assert matrix.is_whole
    np.testing.assert_allclose(matrix.similarity, basis(3, 4, 5, 6, 7) @ PROGRAMS["own"].T, atol=1e-3)
    np.testing.assert_allclose(matrix.asset_seconds, np.arange(10.0))


def test_a_long_clip_and_asset_make_a_small_matrix_that_keeps_the_match(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2500, D))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, {"long": vectors})
    matrix = explainer_of(catalog).explain(subject(vectors[400:1600])).picture.matrix
    assert matrix is not None
    assert max(matrix.similarity.shape) <= 600
    assert matrix.is_whole
    # Every clip frame's very own asset frame is in some cell of its row.
    np.testing.assert_allclose(matrix.similarity.max(axis=1), 1.0, atol=2e-3)
    # A short clip of it shows as much again on either side of the match, 1200 to 1300.
    part = explainer_of(catalog).explain(subject(vectors[1200:1300])).picture.matrix
    assert part is not None
    assert not part.is_whole
    assert (part.asset_seconds[0], part.asset_seconds[-1]) == pytest.approx((1101, 1399), abs=1.5)


# ---------------------------------------------------------------- why not


def test_a_program_that_no_frame_votes_for_is_explained_by_brute_force(explainer: Explainer) -> None:
    found = explainer.explain(CUT, program_id="far")
    assert (found.decision, found.confidence, found.picture.evidence, found.picture.balance) == (
        "none",
        0.0,
        None,
        None,
    )
    np.testing.assert_allclose(found.picture.series.similarity, 0.0, atol=1e-3)
    assert not found.picture.series.above_chance.any()
    assert found.name(found.picture.series.rival()) == "own"
    speaks_for, against = speaks(found)
    assert speaks_for == ()
    assert "no frame is above what chance gives" in against[0]
    assert "no frame votes for it" in against
    assert any("mostly own, resemble 5 of 5 frames more" in said for said in against)
    assert any("own is the better candidate" in said for said in against)
    assert headline(found).startswith("NOT linked to far (Title of far)")
    assert instead(found).startswith("The clip is linked to own")


def test_a_program_with_one_frame_above_chance_says_so(explainer: Explainer) -> None:
    found = explainer.explain(CUT, program_id="near")
    assert found.decision == "none"
    assert found.picture.series.similarity[0] == pytest.approx(0.75, abs=1e-3)
    assert found.picture.series.above_chance.tolist() == [True, False, False, False, False]


def test_a_stranger_is_explained_by_the_most_similar_program(explainer: Explainer) -> None:
    found = explainer.explain(subject(np.concatenate([blend(14, 20, 0.5), basis(21)])))
    assert found.answer.decision == "none"
    assert found.record is not None
    assert found.record.program_id == "far"
    assert found.picture.votes == ()
    assert headline(found).startswith("NO LINK to far")


def test_an_empty_clip_and_an_empty_store_are_explained(explainer: Explainer, tmp_path: Path) -> None:
    nobody = explainer.explain(EMPTY)
    assert (nobody.record, nobody.picture.matrix, nobody.picture.votes) == (None, None, ())
    assert "no frame" in headline(nobody)
    asked = explainer.explain(EMPTY, program_id="own")
    assert asked.record is not None
    assert speaks(asked) == ((), ("the clip has no frame that shows anything",))
    nothing = explainer_of(Catalog.create(tmp_path / "store", MODEL)).explain(CUT)
    assert "the store is empty" in headline(nothing)
    assert speaks(nothing)[1] == ("the store holds no program",)
    for found in (nobody, asked, nothing):
        json.dumps(to_json(found), allow_nan=False)


def test_twins_are_called_about_as_much_alike(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, {"a": basis(*range(10)), "b": basis(*range(10))})
    found = explainer_of(catalog).explain(CUT, program_id="b")
    assert found.picture.evidence is not None
    assert found.picture.evidence.lead == pytest.approx(0.0, abs=1e-4)
    against = speaks(found)[1]
    assert any(said.startswith("a resembles the matching frames") for said in against)
    assert found.answer.decision == "review"
    # Only one of the two is put up for review, and its twin's headline says of which program it is not.
    assert (found.decision, found.answer.links[0].program_id) == ("none", "a")
    assert headline(found).startswith("NOT up for review: b")
    assert instead(found).startswith("The clip is up for review with a")


def test_a_find_of_the_second_look_is_said_with_its_view(explainer: Explainer) -> None:
    look = Look("centre", CUT.clip.t_seconds, CUT.clip.vectors)
    found = explainer.explain(subject(basis(18, 19, 20, 21, 22), (look,)))
    assert found.picture.look.view == "centre"
    assert found.record is not None
    assert found.record.program_id == "own"
    assert any("second look, through the view “centre”" in said for said in speaks(found)[1])


def test_footage_that_is_shown_again_is_told_and_marked(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, {"a": basis(*range(20), *range(8), *range(14, 18))})
    found = explainer_of(catalog).explain(subject(basis(1, 2, 3, 4, 5)))
    (match,) = to_json(found)["matches"]
    (place,) = match["also"]
    starts = {round(part["asset_start_seconds"]) for part in (match, place)}
    assert starts == {1, 21}
    assert place["asset_id"] == "a-e1"
    against = speaks(found)[1]
    assert any("the place is unsure" in said for said in against)
    assert where(found, found.picture.matches[0]).endswith("(also at a-e1 0:21.0)")
    picture_of(found, tmp_path / "a.png")


def test_an_unknown_program_is_refused(explainer: Explainer) -> None:
    with pytest.raises(InputError, match="no program nowhere in the store"):
        explainer.explain(CUT, program_id="nowhere")


@pytest.mark.parametrize(
    ("confidence", "said"),
    [(0.0, "below 0.001"), (0.0005, "below 0.001"), (0.5, "0.500"), (0.9995, "above 0.999")],
)
def test_a_confidence_is_never_rounded_to_certainty(confidence: float, said: str) -> None:
    assert sureness(confidence) == said


# ---------------------------------------------------------------- JSON


def test_the_object_holds_the_numbers_of_the_picture(explainer: Explainer) -> None:
    value = json.loads(json.dumps(to_json(explainer.explain(CUT)), allow_nan=False))
    assert (value["decision"], value["program_id"], value["link_from"]) == ("linked", "own", 0.9)
    (match,) = value["matches"]
    assert (match["clip_start_seconds"], match["clip_end_seconds"]) == (0.0, 5.0)
    assert (match["asset_id"], match["asset_start_seconds"]) == ("own-e1", pytest.approx(3.0, abs=0.5))
    assert match["speed"] == 1.0
    assert value["frames"][0]["other_program_id"] == "near"
    assert value["frames"][0]["other"] == pytest.approx(0.75, abs=1e-3)
    balance = value["balance"]
    total = balance["plain_cut"] + sum(p["log_odds"] for p in balance["contributions"]) + balance["rivalry"]
    assert total == pytest.approx(value["log_odds"], abs=1e-5)
    assert value["votes"][0] == {"program_id": "own", "votes": pytest.approx(5.0, abs=1e-2)}
    assert value["candidates"][0]["program_id"] == "own"


def test_what_is_not_known_is_null_and_no_number(explainer: Explainer) -> None:
    value = to_json(explainer.explain(STRANGER, program_id="far"))
    assert value["evidence"] is None
    assert value["balance"] is None
    assert {frame["aligned"] for frame in value["frames"]} == {None}


# ---------------------------------------------------------------- the frames


def test_the_nearest_frames_are_those_of_the_moments(tmp_path: Path) -> None:
    path = tmp_path / "steps.mp4"
    # Each second is one grey: 20, 60, 100, …
    pictures = (np.full((64, 96, 3), 20 + 40 * (i // 8), np.uint8) for i in range(40))
    write_video(path, pictures, fps=8)
    shown = nearest_frames(path, [0.3, 3.5, 2.2])
    greys = [float(one.frame.image.mean()) for one in shown if one.frame is not None]
    assert greys == pytest.approx([20, 140, 100], abs=6)
    assert [one.frame.t_seconds for one in shown if one.frame] == pytest.approx([0.3, 3.5, 2.2], abs=0.13)
    # So late a time is only looked for among key frames; the last there is stands in.
    late = nearest_frames(path, [DECODED_SECONDS + 1])[0]
    assert late.frame is not None


def test_a_file_that_is_gone_or_no_video_is_said(tmp_path: Path) -> None:
    gone = nearest_frames(tmp_path / "gone.mp4", [0.0, 1.0])
    assert len(gone) == 2
    assert all(one.frame is None and "is not at" in one.problem for one in gone)
    (tmp_path / "text.mp4").write_text("no video")
    (bad,) = nearest_frames(tmp_path / "text.mp4", [0.0])
    assert bad.frame is None
    assert "text.mp4" in bad.problem


def test_pairs_lie_on_the_match_evenly_and_in_order(explainer: Explainer) -> None:
    long = subject(basis(*range(10)))
    pairs = pairs_of(explainer.explain(long))
    assert len(pairs) == MAX_PAIRS
    assert [pair.clip_seconds for pair in pairs] == sorted({pair.clip_seconds for pair in pairs})
    assert all(pair.asset_seconds == pytest.approx(pair.clip_seconds, abs=0.3) for pair in pairs)
    unaligned = pairs_of(explainer.explain(STRANGER, program_id="far"))
    assert len(unaligned) == 3
    assert pairs_of(explainer.explain(EMPTY)) == []


@pytest.mark.parametrize(
    ("name", "box", "is_mirrored"),
    [
        ("whole", None, False),
        ("mirror", None, True),
        ("left half", (0.0, 0.0, 0.5, 1.0), False),
        ("inset 0.10,0.20,0.50,0.60", (0.1, 0.2, 0.5, 0.6), False),
    ],
)
def test_a_view_is_known_by_its_name(
    name: str, box: tuple[float, float, float, float] | None, is_mirrored: bool
) -> None:
    view = view_named(name, [])
    assert view.is_mirrored is is_mirrored
    found = None if view.box is None else (view.box.left, view.box.top, view.box.right, view.box.bottom)
    assert found == box


# ---------------------------------------------------------------- the picture


def picture_of(found: Explanation, path: Path) -> NDArray[np.uint8]:
    write_picture(found, path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (WIDTH, HEIGHT))
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("asked", "program_id"),
    [
        (CUT, None),
        (CUT, "far"),
        (STRANGER, None),
        (EMPTY, None),
        (EMPTY, "own"),
        (subject(basis(5)), None),
        (subject(basis(20)), "near"),
    ],
    ids=["linked", "other program", "stranger", "empty", "empty, asked", "one frame", "one strange frame"],
)
def test_every_case_makes_a_picture(
    explainer: Explainer, asked: Subject, program_id: str | None, tmp_path: Path
) -> None:
    pixels = picture_of(explainer.explain(asked, program_id=program_id), tmp_path / "a.png")
    assert 0.005 < (pixels.min(axis=2) < 250).mean() < 0.9


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, {"$\\frac{1$ <b>[/b]" + "x" * 200: basis(*range(10))})
    picture_of(explainer_of(catalog).explain(CUT), tmp_path / "a.png")


# ---------------------------------------------------------------- the verb


@pytest.fixture
def small_store(tmp_path: Path) -> Path:
    """A store with its own calibration and one kept clip whose file is gone."""
    catalog = Catalog.create(tmp_path / "store", MODEL)
    add(catalog, PROGRAMS)
    clip = CUT.clip
    record = ClipRecord("c-17", "/gone/c.mp4", "", 5.0, 5, "fp-1")
    with catalog.writing() as writer:
        writer.put_clips([StoredClip(record, clip.t_seconds, clip.vectors, ())])
    CALIBRATION.save(tmp_path / "store" / FILE_NAME)
    return tmp_path / "store"


def test_a_kept_clip_is_explained_without_its_file(matcher: Run, small_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    ran = matcher("explain", "c-17", "--store", small_store, "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert (ran.object["clip_id"], ran.object["decision"], ran.object["program_id"]) == (
        "c-17",
        "linked",
        "own",
    )
    with Image.open(out) as image:
        assert image.size == (WIDTH, HEIGHT)
    assert f"wrote {out}" in ran.err


def test_the_words_are_printed_and_json_alone_writes_no_file(
    matcher: Run, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert matcher("explain", "c-17", "--store", small_store, "--json").code == 0
    assert set(tmp_path.iterdir()) == before
    ran = matcher("explain", "c-17", "--store", small_store, "--program", "far")
    assert ran.code == 0, ran.err
    assert "NOT linked to far" in ran.out
    assert "no frame votes for it" in ran.out
    assert set(tmp_path.iterdir()) - before == {tmp_path / "c-17-explained.png"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("n" * 300,), "neither a file"),
        (("nothing.mp4",), "neither a file nor the id of a kept clip"),
        (("c-17", "--program", "nowhere"), "no program nowhere"),
        (("c-17", "--out", "why.jpg"), "ends in .png"),
        (("c-17", "--out", "no/such/folder/why.png"), "make it first"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_explained_is_one_line_and_exit_2(
    matcher: Run, small_store: Path, words: tuple[str, ...], said: str
) -> None:
    ran = matcher("explain", *words, "--store", small_store)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.lines[-1]


def test_a_name_is_made_from_the_clip_where_none_is_given(tmp_path: Path) -> None:
    assert picture_path(None, "a/b/clip.mp4") == Path("clip-explained.png")
    assert picture_path(tmp_path / "X.PNG", "c") == tmp_path / "X.PNG"


def test_help_says_what_the_verb_takes(matcher: Run) -> None:
    ran = matcher("explain", "--help")
    assert ran.code == 0
    assert "--program" in ran.out
    assert "--out" in ran.out


def test_a_file_is_described_and_explained_as_a_query_answers_it(
    matcher: Run, library: Library, kept_store: Path, tmp_path: Path
) -> None:
    program_id, clip = next(iter(library.clips.items()))
    out = tmp_path / "why.png"
    explained = matcher("explain", clip, "--store", kept_store, "--json", "--out", out)
    assert explained.code == 0, explained.err
    answer = matcher("query", clip, "--store", kept_store, "--json").object
    value = explained.object
    assert value["program_id"] == answer["candidates"][0]["program_id"] == program_id
    assert value["confidence"] == pytest.approx(answer["candidates"][0]["confidence"], abs=1e-5)
    assert value["clip_decision"] == answer["decision"]
    assert value["matches"][0]["asset_start_seconds"] == pytest.approx(library.start_seconds, abs=1.0)
    with Image.open(out) as image:
        # The frames are in it: more than the lines and letters of a chart.
        pixels = np.asarray(image.convert("RGB"))[-int(0.3 * HEIGHT) :]
    assert (pixels.min(axis=2) < 230).mean() > 0.3
