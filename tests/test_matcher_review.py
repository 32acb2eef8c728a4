"""A person's word goes before all that is measured: at once, every night, and when programs come and go."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Ran, Run
from test_matcher_pipeline import CALIBRATION, Mosaic, show, write_show

from index.catalog import Catalog, Writer
from index.rows import LinkRecord, ReviewRecord
from matcher.affected import Question, affected_clips
from matcher.calibration import FILE_NAME
from matcher.config import Settings
from matcher.explain import open_explainer
from matcher.explain_words import headline, instead
from matcher.inputs import AssetJob, ClipJob, ProgramJob
from matcher.pipeline import add_programs, keep, query_clips
from matcher.records import Answer, Heard, Link, Reviewed
from matcher.relink import relink_shard
from matcher.show import answer_row
from matcher.store import create_catalog, open_catalog, open_linker, open_surroundings
from matcher.verdicts import CONFIRMED, REJECTED, verdicts_of

SETTINGS = Settings()
TOP = 5


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number in (0, 1, 2, 3, 9):
        write_show(folder / f"f{number}.mp4", show(number))
    return folder


@pytest.fixture(scope="module")
def kept(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs p0 to p3; clips c0 to c2 of the first three, and c9 of none."""
    path = tmp_path_factory.mktemp("kept") / "store"
    catalog = create_catalog(path, Mosaic.info)
    CALIBRATION.save(path / FILE_NAME)
    with catalog.writing() as writer:
        list(add_programs(writer, [program(n, films) for n in range(4)], Mosaic(), SETTINGS))
        jobs = [ClipJob(f"c{n}", films / f"f{n}.mp4") for n in (0, 1, 2, 9)]
        linker = open_linker(catalog, SETTINGS)
        list(keep(writer, query_clips(linker, jobs, Mosaic(), SETTINGS, top=TOP, kept=catalog)))
    return path


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "store"))


def program(number: int, films: Path, film: int | None = None) -> ProgramJob:
    path = films / f"f{number if film is None else film}.mp4"
    return ProgramJob(f"p{number}", (AssetJob(path, path.stem),))


def put(store: Path, *jobs: ProgramJob) -> None:
    with open_catalog(store).writing() as writer:
        assert all(one.outcome != "failed" for one in add_programs(writer, jobs, Mosaic(), SETTINGS))


def answer_of(store: Path, clip_id: str) -> dict[str, Any]:
    """What is kept."""
    found: dict[str, Any] = json.loads(open_catalog(store).links([clip_id])[0].answer)
    return found


def named(answer: dict[str, Any]) -> set[str]:
    """Every program that an answer proposes anywhere."""
    parts = [*answer["links"], *answer["review"], *answer["candidates"]]
    heard = [] if answer["sound"] is None else [answer["sound"]["program_id"]]
    return {part["program_id"] for part in parts} | {*heard}


def night(matcher: Run, store: Path, *words: str) -> Ran:
    ran = matcher("relink", "--store", store, "--accept", *words, "--json")
    assert ran.code == 0, ran.err
    return ran


def links(matcher: Run, store: Path) -> dict[str, dict[str, Any]]:
    return {one["clip_id"]: one for one in matcher("links", "--store", store, "--json").objects}


# ---------------------------------------------------------------- the verb


def test_a_confirmed_program_is_the_link_at_once_and_the_next_night_leaves_it(
    matcher: Run, store: Path
) -> None:
    """Though nothing of the clip resembles it."""
    said = matcher("review", "c0", "--program", "p3", "--store", store, "--json")
    assert said.code == 0, said.err
    assert (said.object["decision"], said.object["program_id"]) == ("linked", "p3")
    assert said.object["links"] == [{"program_id": "p3", "confidence": 1.0, "segments": []}]
    reviewed = said.object["reviewed"]
    assert (reviewed["word"], reviewed["program_id"], reviewed["decides"]) == ("program", "p3", True)
    assert (reviewed["decision"], reviewed["best"]) == ("linked", "p0")
    before = links(matcher, store)
    assert (before["c0"]["program_id"], before["c0"]["reviewed"]) == ("p3", reviewed)
    assert before["c1"]["reviewed"] is None
    ran = night(matcher, store)
    assert ran.objects == []
    assert "answered 0 of 4 kept clips" in ran.err
    assert links(matcher, store) == before


def test_a_confirmed_program_that_is_found_keeps_its_segments(matcher: Run, store: Path) -> None:
    segments = links(matcher, store)["c1"]["segments"]
    answer = matcher("review", "c1", "--program", "p1", "--store", store, "--json").object
    assert answer["links"] == [{"program_id": "p1", "confidence": 1.0, "segments": segments}]


def test_a_clip_from_no_program_is_linked_to_none(matcher: Run, store: Path) -> None:
    answer = matcher("review", "c0", "--none", "--store", store, "--json").object
    assert (answer["decision"], answer["program_id"], answer["links"], answer["review"]) == (
        "none", None, [], [],
    )  # fmt: skip
    night(matcher, store, "--full")
    assert answer_of(store, "c0")["decision"] == "none"


def test_the_later_word_holds(matcher: Run, store: Path) -> None:
    for words, wanted in (
        (("--none",), None), (("--program", "p3"), "p3"), (("--program", "p2"), "p2"),
        (("--reject", "p2"), "p0"), (("--reject", "p0"), None),
    ):  # fmt: skip
        ran = matcher("review", "c0", *words, "--store", store, "--json")
        assert ran.object["program_id"] == wanted
    assert ran.object["reviewed"]["rejected"] == ["p0", "p2"]
    assert ran.object["reviewed"]["decides"] is False


def test_a_clock_that_is_behind_does_not_make_the_last_word_an_earlier_one(matcher: Run, store: Path) -> None:
    ahead = "2999-12-31T23:59:59.999999+00:00"
    with open_catalog(store).writing() as writer:
        writer.put_review(ReviewRecord("c0", "p3", CONFIRMED, ahead))
    matcher("review", "c0", "--program", "p2", "--store", store)
    matcher("review", "c0", "--program", "p1", "--store", store)
    assert answer_of(store, "c0")["program_id"] == "p1"
    assert verdicts_of(open_catalog(store).reviews())["c0"].program_id == "p1"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("c0",), "give one of --program ID, --reject ID and --none"),
        (("c0", "--none", "--reject", "p1"), "give one of --program ID, --reject ID and --none"),
        (("c0", "--program", "p1", "--reject", "p2"), "give one of --program ID, --reject ID and --none"),
        (("c0", "--program", ""), "--program is empty"),
        (("nobody", "--none"), "there is no kept clip nobody in {}; see `matcher clips`"),
        (("c0", "--program", "p7"), "there is no program p7 in {}; see `matcher programs`"),
    ],
)
def test_what_cannot_be_said_is_refused_and_leaves_nothing(
    matcher: Run, store: Path, words: tuple[str, ...], line: str
) -> None:
    ran = matcher("review", *words, "--store", store)
    assert (ran.code, ran.lines) == (2, [f"matcher: {line.format(store)}"])
    assert open_catalog(store).counts()["reviews"] == 0


def test_a_program_that_is_not_there_may_be_rejected(matcher: Run, store: Path, films: Path) -> None:
    assert matcher("review", "c9", "--reject", "p9", "--store", store).code == 0
    put(store, program(9, films))
    night(matcher, store)
    assert "p9" not in named(answer_of(store, "c9"))
    put(store, replace(program(9, films), program_id="other"))
    night(matcher, store)
    assert answer_of(store, "c9")["candidates"][0]["program_id"] == "other"


def test_tables_say_that_a_person_said_it(matcher: Run, store: Path) -> None:
    assert "as a person said" in matcher("review", "c0", "--program", "p3", "--store", store).out
    assert "as a person said" in matcher("review", "c1", "--none", "--store", store).out
    # The matcher answers where only one program was rejected.
    assert "as a person said" not in matcher("review", "c2", "--reject", "p0", "--store", store).out
    table = matcher("links", "--store", store).out.splitlines()
    said = {line.split()[1]: "as a person said" in line for line in table if line.startswith("│")}
    assert said == {"c0": True, "c1": True, "c2": False, "c9": False}


def test_linking_a_file_again_keeps_the_word(store: Path, films: Path, matcher: Run) -> None:
    matcher("review", "c0", "--program", "p3", "--store", store)
    catalog = open_catalog(store)
    for film in ("f0", "f1"):  # the same file, and another one of the same name
        with catalog.writing() as writer:
            jobs = [ClipJob("c0", films / f"{film}.mp4")]
            pairs = query_clips(
                open_linker(catalog, SETTINGS), jobs, Mosaic(), SETTINGS, top=TOP, kept=catalog
            )
            (answer,) = keep(writer, pairs)
        assert answer.program_id == "p3"
    assert answer_of(store, "c0")["program_id"] == "p3"


def test_killed_between_the_word_and_the_answer_the_night_answers(
    matcher: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Writer, links: list[LinkRecord]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "put_links", killed)
        assert matcher("review", "c0", "--program", "p3", "--store", store).code == 130
    assert open_catalog(store).counts()["reviews"] == 1
    assert answer_of(store, "c0")["program_id"] == "p0"
    ran = night(matcher, store)
    assert [answer["clip_id"] for answer in ran.objects] == ["c0"]
    assert "(review 1)" in ran.err
    assert answer_of(store, "c0")["program_id"] == "p3"


def test_what_people_change_does_not_hold_the_brake(matcher: Run, store: Path) -> None:
    with open_catalog(store).writing() as writer:
        for clip_id in ("c0", "c1", "c2", "c9"):
            writer.put_review(ReviewRecord(clip_id, "p3", CONFIRMED))
    ran = matcher("relink", "--brake", 0, "--store", store)
    assert ran.code == 0, ran.err
    assert "changed 0 in" in ran.lines[-1]


# ---------------------------------------------------------------- a rejected program


def test_a_rejected_program_is_never_proposed_again(matcher: Run, store: Path, films: Path) -> None:
    """Not by the answer, nor any night, nor when it is replaced, nor by another calibration."""
    assert "p0" in named(answer_of(store, "c0"))

    def check() -> None:
        answer = answer_of(store, "c0")
        assert "p0" not in named(answer)
        assert answer_of(store, "c1")["program_id"] == "p1"

    matcher("review", "c0", "--reject", "p0", "--store", store)
    check()
    night(matcher, store, "--full")
    check()
    put(store, program(0, films, film=9))
    assert "c0" in {answer["clip_id"] for answer in night(matcher, store).objects}
    put(store, program(0, films))
    night(matcher, store)
    check()
    easier = replace(CALIBRATION, link=0.76, review=0.1, weights=replace(CALIBRATION.weights, bias=-3.0))
    easier.save(store / FILE_NAME)
    assert len(night(matcher, store).objects) == 4
    check()
    explained = matcher("explain", "c0", "--store", store, "--json").object
    assert explained["program_id"] != "p0"


def test_a_rejected_program_does_not_push_others_back(store: Path) -> None:
    """What it would have been is left aside: the next best decides, as if nothing were found for it."""
    catalog = open_catalog(store)
    linker = open_linker(catalog, SETTINGS)
    verdicts = verdicts_of([ReviewRecord("c0", "p0", REJECTED, "2026")])
    ((answer, _),) = relink_shard(catalog, linker, ["c0"], verdicts, top=TOP)
    ((plain, _),) = relink_shard(catalog, linker, ["c0"], {}, top=TOP)
    assert answer.candidates == plain.candidates[1:]
    assert answer.basis is not None
    assert plain.basis is not None
    # It is one of those that the answer rests on still.
    assert answer.basis.numbers.tolist() == plain.basis.numbers.tolist()


# ---------------------------------------------------------------- a confirmed program that comes and goes


def content(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """The answers that are kept, but for the state of the catalogue that they were made from."""
    answers = {link.clip_id: json.loads(link.answer) for link in catalog.links()}
    return {clip_id: {**one, "catalog_version": None, "beside": None} for clip_id, one in answers.items()}


def in_full(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """What answering every clip would keep."""
    linker = open_linker(catalog, SETTINGS)
    verdicts = verdicts_of(catalog.reviews())
    pairs = list(relink_shard(catalog, linker, list(catalog.clip_dates()), verdicts, top=TOP))
    surroundings = open_surroundings(catalog, SETTINGS)
    assert surroundings is not None
    known = catalog.features()
    whole = surroundings.complete(
        [answer for answer, _ in pairs], [known.get(answer.clip_id) for answer, _ in pairs]
    )
    return {answer.clip_id: {**answer.to_json(), "catalog_version": None, "beside": None} for answer in whole}


def test_a_confirmed_program_holds_whenever_it_is_there_and_nights_find_out(
    matcher: Run, store: Path, films: Path
) -> None:
    """Step by step the incremental night leaves what answering all clips would."""
    for clip_id, said in (("c0", "p3"), ("c1", "p1"), ("c9", "p3")):
        matcher("review", clip_id, "--program", said, "--store", store)
    matcher("review", "c2", "--reject", "p3", "--store", store)

    def step(*wanted: str | None) -> set[str]:
        ran = night(matcher, store)
        catalog = open_catalog(store)
        assert content(catalog) == in_full(catalog)
        assert tuple(answer_of(store, clip_id)["program_id"] for clip_id in ("c0", "c1", "c9")) == wanted
        epoch = open_linker(catalog, SETTINGS).epoch(TOP)
        assert affected_clips(catalog, Question(epoch, verdicts_of(catalog.reviews()))).why == {}
        return {answer["clip_id"] for answer in ran.objects}

    assert step("p3", "p1", "p3") == set()
    matcher("remove", "p3", "--store", store)
    assert step("p0", "p1", None) >= {"c0", "c9"}
    gone = answer_of(store, "c0")["reviewed"]
    assert (gone["word"], gone["program_id"], gone["decides"]) == ("program", "p3", False)
    put(store, replace(program(9, films), program_id="new"))
    step("p0", "p1", "new")
    put(store, program(3, films))
    assert step("p3", "p1", "p3") >= {"c0", "c9"}
    put(store, program(3, films, film=2))
    assert step("p3", "p1", "p3") >= {"c0", "c9"}
    matcher("remove", "p1", "p0", "--store", store)
    step("p3", None, "p3")
    put(store, program(1, films, film=9))  # something else by that name: a person said so all the same
    step("p3", "p1", "p3")


# ---------------------------------------------------------------- history


def test_the_history_is_what_was_answered_and_said_in_order(matcher: Run, store: Path) -> None:
    matcher("review", "c0", "--reject", "p0", "--store", store)
    matcher("review", "c0", "--program", "p3", "--store", store)
    matcher("remove", "p3", "--store", store)
    night(matcher, store)
    found = matcher("history", "c0", "--store", store, "--json").objects
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    assert {one["clip_id"] for one in found} == {"c0"}
    assert [
        (one["event"], one["by"], one.get("verdict", one.get("why")), one.get("program_id")) for one in found
    ] == [
        ("answer", "matcher", "linked", None), ("review", "person", "rejected", "p0"),
        ("answer", "matcher", "review", None), ("review", "person", "confirmed", "p3"),
        ("answer", "person", "review", None), ("answer", "matcher", "program gone", None),
    ]  # fmt: skip
    answers = [one for one in found if one["event"] == "answer"]
    assert [one["programs"] for one in answers][::2] == [["p0"], ["p3"]]
    assert answers[0].keys() >= {
        "at", "decision", "programs", "confidence", "why", "night", "catalog_version", "model", "epoch", "by",
    }  # fmt: skip
    table = matcher("history", "c0", "--store", store).out
    assert "said: it is not from p0" in table
    assert "said: it is from p3" in table


def test_the_history_of_nobody_is_refused_and_that_of_a_clip_nobody_keeps_is_what_was_said(
    matcher: Run, store: Path
) -> None:
    ran = matcher("history", "nobody", "--store", store)
    assert (ran.code, len(ran.lines)) == (2, 1)
    assert "matcher clips" in ran.err
    matcher("review", "c0", "--none", "--store", store)
    with open_catalog(store).writing() as writer:
        writer.remove_clips(["c0"])
    (said,) = matcher("history", "c0", "--store", store, "--json").objects
    assert (said["event"], said["verdict"], said["program_id"]) == ("review", "none", None)


# ---------------------------------------------------------------- explain, and rows


def words_of(store: Path, clip_id: str, program_id: str | None = None) -> str:
    explainer = open_explainer(open_catalog(store), SETTINGS)
    found = explainer.explain(explainer.kept(clip_id), program_id=program_id)
    return f"{headline(found)}\n{instead(found)}"


def test_an_explanation_says_that_a_person_decided(matcher: Run, store: Path, tmp_path: Path) -> None:
    matcher("review", "c0", "--program", "p3", "--store", store)
    matcher("review", "c1", "--none", "--store", store)
    matcher("review", "c2", "--reject", "p2", "--store", store)
    found = matcher("explain", "c0", "--store", store, "--json").object
    assert (found["decision"], found["program_id"], found["clip_programs"]) == ("linked", "p3", ["p3"])
    assert found["reviewed"]["decides"] is True
    ran = matcher("explain", "c0", "--store", store, "--out", tmp_path / "why.png")
    assert (ran.code, (tmp_path / "why.png").stat().st_size > 1000) == (0, True)
    words = " ".join(ran.out.split())
    assert "LINKED to p3, as a person said" in words
    assert "A person said: it is from p3 (20" in words
    assert "The evidence alone says: linked p0" in words
    assert words_of(store, "c1").startswith("NO LINK to p1, as a person said: confidence")
    assert "A person said: it is from no program (20" in words_of(store, "c1")
    # By default not the one that was rejected, though nothing else resembles the clip as much.
    assert " p2" not in words_of(store, "c2").splitlines()[0]
    assert "p2, as a person said: confidence" in words_of(store, "c2", "p2")
    assert "A person said: it is not from p2 (20" in words_of(store, "c2", "p2")
    matcher("remove", "p3", "--store", store)
    assert words_of(store, "c0").startswith("LINKED to p0: confidence")
    assert "it is from p3, which is gone (20" in words_of(store, "c0")


def test_a_row_of_an_answer_that_a_person_gave() -> None:
    reviewed = Reviewed("program", "p", (), "2026", "none", None, 0.1, 1, decides=True)
    answer = Answer("c", "c.mp4", "linked", (Link("p", 1.0, ()),), (), "m", 1, reviewed=reviewed)
    assert answer_row(answer) == ("c", "linked", "p", "1.000", "as a person said")
    heard = Heard("q", 0.9, agrees=False)
    assert answer_row(replace(answer, heard=heard))[-1] == "as a person said\nthe sound is q’s, 0.90"
    assert not replace(answer, reviewed=replace(reviewed, decides=False)).is_said
    assert not replace(answer, reviewed=None).is_said
