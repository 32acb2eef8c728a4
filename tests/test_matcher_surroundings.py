"""What is said of a clip beside its link, from the command line to the table and through the nights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Library, Run
from media import moving, write

from index.catalog import NewAsset, NewProgram
from index.rows import ClipRecord, StoredClip
from matcher.clip_features import Words
from matcher.config import Settings
from matcher.encoders.base import unit_rows
from matcher.relate import relate
from matcher.store import open_catalog, open_fusion, open_surroundings, translated
from matcher.surroundings import Asked

SETTINGS = Settings()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that is from no program."""
    path = tmp_path_factory.mktemp("stranger") / "fans.mp4"
    write(path, [moving(number) for number in range(40)])
    return path


def title_of(store: Path, program_id: str) -> str:
    record = open_catalog(store).program(program_id)
    assert record is not None
    return record.title


def kept(store: Path, clip_id: str) -> dict[str, Any]:
    (link,) = open_catalog(store).links([clip_id])
    found: dict[str, Any] = json.loads(link.answer)
    return found


def test_adding_embeds_every_program_by_its_stretches(store: Path) -> None:
    catalog = open_catalog(store)
    fusion = open_fusion(catalog, SETTINGS)
    assert fusion is not None
    assert (fusion.info.spec, catalog.embedding_model.name) == ("mean", "mean")
    for number, assets in fusion.programs(catalog):
        found = catalog.frames_of(number, "embeddings")
        assert len(found.ids) == sum(len(seconds) for seconds, _ in assets) > 0
        np.testing.assert_allclose(found.vectors, np.concatenate([rows for _, rows in assets]), atol=2e-3)


def test_words_that_name_a_program_make_it_related_and_never_linked(
    matcher: Run, store: Path, stranger: Path
) -> None:
    title = title_of(store, "p02")
    ran = matcher("query", stranger, "--title", f"Behind the scenes of {title}", "--store", store, "--json")
    answer = ran.object
    assert (answer["decision"], answer["program_id"], answer["links"]) == ("none", None, [])
    assert answer["related"][0]["program_id"] == "p02"
    assert "title" in answer["related"][0]["basis"]
    assert "segments" not in answer["related"][0]
    (untitled,) = matcher("query", stranger, "--store", store, "--json").objects
    assert all("title" not in one["basis"] for one in untitled["related"])


def test_words_that_name_nothing_change_nothing_of_what_pictures_say(store: Path) -> None:
    catalog = open_catalog(store)
    surroundings = open_surroundings(catalog, SETTINGS)
    assert surroundings is not None
    frames = catalog.frames_of(2).vectors[:8]
    record = ClipRecord("c", "", "", 8.0, 8, catalog.model.fingerprint, "mark")
    clip = StoredClip(record, np.arange(8.0), frames, (), None)
    said = [Words(), Words("watch till the end"), Words("名场面合集", "no copyright intended", ("字幕",))]
    records = surroundings.records([Asked(clip, words) for words in said])
    assert len({one.embedding.tobytes() for one in records if one.embedding is not None}) == len(said)
    found = [related for related, _ in surroundings.beside(records, [()] * 3, [None] * 3)]
    assert [one.program_id for one in found[0]] == ["p02"]
    assert len({tuple((one.program_id, one.similarity) for one in related) for related in found}) == 1


def test_a_linked_clip_is_not_related_to_its_program_as_well(
    matcher: Run, store: Path, library: Library
) -> None:
    title = title_of(store, "p01")
    answer = matcher("query", library.clips["p01"], "--title", title, "--store", store, "--json").object
    assert answer["program_id"] == "p01"
    assert "p01" not in {one["program_id"] for one in answer["related"]}


def test_link_keeps_features_and_a_second_link_makes_the_same(
    matcher: Run, store: Path, library: Library
) -> None:
    words = ("link", library.clips["p01"], "--title", "第一集", "--store", store, "--json")
    first = matcher(*words).object
    record = open_catalog(store).features()["clip-p01"]
    assert json.loads(record.words)["title"] == "第一集"
    assert record.embedding is not None
    assert np.linalg.norm(record.embedding) == pytest.approx(1, abs=1e-2)
    again = matcher(*words).object
    assert again["related"] == first["related"]
    second = open_catalog(store).features()["clip-p01"]
    for name in ("picture", "sound", "text", "embedding"):
        assert np.array_equal(getattr(second, name), getattr(record, name)), name


def test_a_program_that_comes_later_is_named_by_the_night_and_gone_with_it(
    matcher: Run, store: Path, stranger: Path
) -> None:
    """The clip's link rests on nothing of it, so that the clip itself is not answered again."""
    matcher("link", stranger, "--title", "fan talk: Crane Harbour finale", "--store", store)
    assert kept(store, "fans")["related"] == []
    catalog = open_catalog(store)
    fusion = open_fusion(catalog, SETTINGS)
    assert fusion is not None
    rows = unit_rows(np.random.default_rng(0).normal(size=(30, catalog.model.d)))
    seconds = np.arange(30.0)
    embedded = fusion.asset((seconds, rows), None, fusion.text_vector("Crane Harbour"), n_assets=1)
    with catalog.writing() as writer:
        asset = NewAsset("a", "", "", 30.0, seconds, rows, None, embedded)
        writer.add_program(NewProgram("crane", "Crane Harbour"), [asset])
    ran = matcher("relink", "--store", store)
    assert ran.code == 0
    assert "beside the links" in ran.err
    assert [one["program_id"] for one in kept(store, "fans")["related"]] == ["crane"]
    before = kept(store, "fans")
    assert "beside the links" not in matcher("relink", "--store", store).err
    assert kept(store, "fans") == before
    matcher("remove", "crane", "--store", store)
    matcher("relink", "--store", store)
    assert kept(store, "fans")["related"] == []


def test_a_night_leaves_what_asking_every_clip_anew_would(
    matcher: Run, store: Path, library: Library, stranger: Path
) -> None:
    clips = [*library.clips.values(), stranger]
    title = title_of(store, "p03")
    matcher("link", *clips, "--title", title, "--store", store)
    matcher("remove", "p02", "--store", store)
    matcher("relink", "--store", store, "--accept")
    asked = matcher("query", *clips, "--title", title, "--store", store, "--json")
    for answer in asked.objects:
        was = kept(store, answer["clip_id"])
        for name in ("decision", "program_id", "related", "categories"):
            assert was[name] == answer[name], (answer["clip_id"], name)


def test_a_kill_between_chunks_is_made_good_by_the_next_night(
    matcher: Run, store: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matcher import relate as module

    matcher("link", *library.clips.values(), "--store", store)
    monkeypatch.setattr(module, "CHUNK_CLIPS", 1)
    catalog = open_catalog(store)
    with translated(), catalog.writing() as writer:
        writer.put_features([record_without_embedding(catalog, clip_id) for clip_id in catalog.clip_dates()])
        opened = open_surroundings(catalog, SETTINGS)
        assert opened is not None
        surroundings = dataclasses.replace(opened, min_confidence=0.125)  # something has changed
        seen: list[int] = []

        def stop(n: int) -> None:
            seen.append(n)
            if len(seen) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            relate(writer, surroundings, on_clips=stop)
        done = relate(writer, surroundings)
        assert (done.clips, done.embedded) == (3, 1)
        assert relate(writer, surroundings).clips == 0
    assert all(record.embedding is not None for record in open_catalog(store).features().values())


def record_without_embedding(catalog: Any, clip_id: str) -> Any:
    from dataclasses import replace

    record = catalog.features([clip_id])[clip_id]
    return replace(record, embedding=None, embedding_model="", wordless=None)


def test_nothing_is_said_where_nobody_wants_it(
    matcher: Run, store: Path, library: Library, tmp_path: Path
) -> None:
    config = tmp_path / "plain.toml"
    config.write_text("[fusion]\nenabled = false\n")
    words = ("query", library.clips["p01"], "--store", store, "--config", config, "--json")
    answer = matcher(*words).object
    assert (answer["related"], answer["categories"]) == ([], None)
    assert answer["program_id"] == "p01"


def test_another_text_encoder_is_refused_with_a_remedy(
    matcher: Run, store: Path, library: Library, tmp_path: Path
) -> None:
    config = tmp_path / "other.toml"
    config.write_text('[fusion]\ntext = "ngrams:128"\n')
    ran = matcher("query", library.clips["p01"], "--store", store, "--config", config)
    assert ran.code != 0
    assert "matcher models use mean" in ran.err
    assert matcher("models", "use", "mean", "--store", store, "--config", config).code == 0
    assert matcher("query", library.clips["p01"], "--store", store, "--config", config).code == 0


def test_a_bad_file_is_answered_as_before(matcher: Run, store: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    answer = matcher("query", bad, "--store", store, "--json").object
    assert answer["error"] is not None
    assert (answer["related"], answer["categories"]) == ([], None)


def test_a_store_of_before_gets_its_embeddings_when_asked(
    matcher: Run, store: Path, library: Library
) -> None:
    """Without them a clip is linked as ever, and nothing is said beside the link."""
    catalog = open_catalog(store)
    with catalog.writing() as writer:
        writer._delete("models", "kind = 'embedding'")
    answer = matcher("query", library.clips["p01"], "--store", store, "--json").object
    assert (answer["program_id"], answer["related"], answer["categories"]) == ("p01", [], None)
    ran = matcher("classify", library.clips["p01"], "--store", store)
    assert ran.code == 2
    assert "matcher models use mean" in ran.err
    used = matcher("models", "use", "mean", "--store", store, "--json").object
    assert (used["use"], used["model"], used["programs"]) == ("embeddings", "mean", 3)
    assert open_catalog(store).embedding_model is not None
    assert matcher("query", library.clips["p01"], "--store", store, "--json").object["categories"] is not None


def test_categories_come_from_the_linked_program_where_nothing_is_trained(
    matcher: Run, store: Path, library: Library, stranger: Path
) -> None:
    record = open_catalog(store).program("p01")
    assert record is not None
    assert record.categories
    words = record.categories[0].split("/")
    answer = matcher("classify", library.clips["p01"], "--store", store, "--json").object
    assert answer["program_id"] == "p01"
    assert answer["categories"]["basis"] == "program"
    assert answer["categories"]["model"] is None
    assert [tier["name"] for tier in answer["categories"]["tiers"] if tier["name"]] == words
    assert answer["categories"]["program"]["agrees"] is True
    unknown = matcher("classify", stranger, "--store", store, "--json").object
    assert (unknown["categories"], unknown["error"]) == (None, None)
    table = matcher("classify", library.clips["p01"], stranger, "--store", store)
    assert words[-1] in table.out
    assert "nothing says" in table.out


def test_a_copy_of_a_store_is_whole(matcher: Run, store: Path, library: Library, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    assert matcher("query", library.clips["p01"], "--store", copy, "--json").object["program_id"] == "p01"


def test_what_is_read_in_the_pictures_is_kept_and_names_a_program(
    matcher: Run, store: Path, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that sees a title in every picture; kept clips are not read again."""
    from matcher import ocr

    title, seen = title_of(store, "p02"), 0

    def read_lines(picture: np.ndarray) -> list[ocr.Line]:
        nonlocal seen
        seen += 1
        assert picture.ndim == 3
        return [ocr.Line(title, 0.9, 0.5, 0.1)]

    monkeypatch.setattr(ocr, "load_reader", lambda: ocr.TextReader(read_lines))
    config = tmp_path / "read.toml"
    config.write_text("[fusion]\nocr = true\n")
    words = ("link", stranger, "--store", store, "--config", config, "--json")
    answer = matcher(*words).object
    assert answer["related"][0]["program_id"] == "p02"
    assert answer["decision"] == "none"
    assert seen > 0
    assert json.loads(open_catalog(store).features()["fans"].words)["captions"] == [title]
    seen = 0
    assert matcher(*words).object["related"] == answer["related"]
    assert seen == 0
    # A night knows them too, and so does a link by somebody who does not read.
    matcher("relink", "--full", "--store", store)
    assert kept(store, "fans")["related"] == answer["related"]
    assert matcher("link", stranger, "--store", store, "--json").object["related"] == answer["related"]


# ---------------------------------------------------------------- what others left behind


def test_categories_that_make_no_tree_keep_nobody_from_linking(
    matcher: Run, store: Path, library: Library
) -> None:
    for name, category in (("one", "drama/comedy"), ("two", "film/comedy")):
        assert (
            matcher("add", name, library.episodes("p01")[0], "--category", category, "--store", store).code
            == 0
        )
    ran = matcher("query", library.clips["p02"], "--store", store, "--json")
    assert (ran.code, ran.object["program_id"]) == (0, "p02")
    assert "no tree" in ran.err


def test_what_somebody_answered_without_embeddings_is_said_by_the_next_night(
    matcher: Run, store: Path, library: Library, stranger: Path, tmp_path: Path
) -> None:
    title = title_of(store, "p02")
    matcher("link", stranger, "--title", title, "--store", store)
    before = kept(store, "fans")
    assert before["related"]
    config = tmp_path / "off.toml"
    config.write_text("[fusion]\nenabled = false\n")
    matcher("relink", "--full", "--store", store, "--config", config)
    assert kept(store, "fans")["related"] == []
    matcher("relink", "--store", store)
    assert kept(store, "fans")["related"] == before["related"]


def test_a_night_after_a_compaction_does_not_say_everything_again(
    matcher: Run, store: Path, library: Library
) -> None:
    matcher("link", *library.clips.values(), "--store", store)
    for _ in range(2):
        matcher("relink", "--store", store)
    catalog = open_catalog(store)
    with translated(), catalog.writing() as writer:
        writer.compact(keep_seconds=0.0)
        surroundings = open_surroundings(catalog, SETTINGS)
        assert surroundings is not None
        assert relate(writer, surroundings).clips == 0


def test_a_title_that_changed_while_nobody_embedded_is_noticed(
    matcher: Run, store: Path, stranger: Path, tmp_path: Path
) -> None:
    config = tmp_path / "off.toml"
    config.write_text("[fusion]\nenabled = false\n")
    matcher("link", stranger, "--title", "nothing of that", "--store", store)
    matcher("link", stranger, "--title", title_of(store, "p02"), "--store", store, "--config", config)
    matcher("relink", "--store", store)
    assert [one["program_id"] for one in kept(store, "fans")["related"]] == ["p02"]


def test_a_description_is_searched_for_titles_and_stays_with_the_clip(
    matcher: Run, store: Path, stranger: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "clips.csv"
    manifest.write_text(
        f"clip_id,path,title,description\nfans,{stranger},talk,all about {title_of(store, 'p02')}\n"
    )
    (answer,) = matcher("link", "--manifest", manifest, "--store", store, "--json").objects
    assert [one["program_id"] for one in answer["related"]] == ["p02"]
    manifest.write_text(f"clip_id,path,title\nfans,{stranger},talk\n")
    (again,) = matcher("link", "--manifest", manifest, "--store", store, "--json").objects
    assert again["related"] == answer["related"]
    matcher("relink", "--full", "--store", store)
    assert kept(store, "fans")["related"] == answer["related"]


def test_words_of_an_old_file_are_not_the_new_ones(store: Path) -> None:
    from dataclasses import replace

    from index.catalog import ClipRecord, FeatureRecord, StoredClip
    from matcher.clip_features import Words

    clip = StoredClip(
        ClipRecord("c", "", "new", 1.0, 1, "fp", kept_at="2030"), np.zeros(1), np.ones((1, 4), np.float32)
    )
    record = FeatureRecord("c", "2029", words=Words("old", captions=("read",)).to_json())
    assert Asked.again(clip, record).words == Words("new")
    assert Asked.again(clip, replace(record, kept_at="2030")).words == Words("new", captions=("read",))


def test_a_clip_kept_before_anybody_read_in_it_is_opened_once_more(
    matcher: Run, store: Path, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matcher import ocr

    seen = 0

    def read_lines(picture: np.ndarray) -> list[ocr.Line]:
        nonlocal seen
        seen += 1
        return [ocr.Line("a caption", 0.9, 0.5, 0.1)]

    def captions() -> object:
        return json.loads(open_catalog(store).features()["fans"].words)["captions"]

    monkeypatch.setattr(ocr, "load_reader", lambda: ocr.TextReader(read_lines))
    config = tmp_path / "read.toml"
    config.write_text("[fusion]\nocr = true\n")
    matcher("link", stranger, "--store", store)
    assert captions() is None
    matcher("link", stranger, "--store", store, "--config", config)
    assert captions() == ["a caption"]
    assert seen > 0
    seen, kept_at = 0, open_catalog(store).clip_dates()
    for words in ((), ("--config", config)):
        matcher("link", stranger, "--store", store, *words)
        assert captions() == ["a caption"]
    assert (seen, open_catalog(store).clip_dates()) == (0, kept_at)


def test_an_answer_of_other_settings_is_said_anew_though_one_like_it_was_compared(
    matcher: Run, store: Path, library: Library, stranger: Path, tmp_path: Path
) -> None:
    """Of two clips linked with another bar for related programs, the first comes out the same by this one."""
    config = tmp_path / "bold.toml"
    config.write_text("[fusion]\nrelated = 0.001\n")
    matcher("link", library.clips["p01"], "--store", store, "--config", config)
    catalog = open_catalog(store)
    with translated(), catalog.writing() as writer:
        surroundings = open_surroundings(catalog, SETTINGS)
        assert surroundings is not None
        assert relate(writer, surroundings).clips == 1
        assert relate(writer, surroundings).clips == 0
    matcher("link", stranger, "--store", store, "--config", config)
    bold = kept(store, "fans")["related"]
    assert bold
    matcher("relink", "--store", store)
    (plain,) = matcher("query", stranger, "--store", store, "--json").objects
    assert kept(store, "fans")["related"] == plain["related"] != bold
