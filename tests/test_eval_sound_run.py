"""Programs are asked for by their sound alone; what is counted is what was asked, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Ran, Run, files_below
from media import moving
from numpy.typing import NDArray
from test_eval_link_run import ThumbnailEncoder

from eval.benchmark import BenchmarkPlan, Source, sources
from eval.making import write_json
from eval.sound_clips import (
    EDITS,
    SILENCES,
    Stretch,
    known_clips,
    outside_stretches,
    overlay,
    silent_clip,
    stretches_of,
)
from eval.sound_run import Judged, SoundPlan, programs_plan, show_sound
from eval.video_writer import write_video
from matcher import cli
from matcher import store as store_module
from matcher.background import Background
from matcher.calibration import Calibration, SoundCalibration, shipped
from matcher.config import SoundSettings
from matcher.decision import SIGHT_FEATURES, SoundWeights, Weights
from matcher.encoders.base import ModelInfo
from matcher.errors import InputError
from matcher.listen import Listener, listener_of
from matcher.records import Answer, Link
from matcher.sound import RATE_HZ
from matcher.training.sound_edits import loudness

Samples = NDArray[np.float32]
#: Of the films here: two tell nothing, for one has no track, and the other a silent one.
WITH_SOUND = tuple(f"film{i}" for i in range(7))
SECONDS = 13
WORDS = ("--clips-per-program", "1", "--unknown", "9", "--silent", "8", "--dramas", "0")


def bursts(seed: int, seconds: float = SECONDS) -> Samples:
    """Harmonics that come and go: no moment is like another."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE_HZ), np.float32)
    at = 0
    while at < out.size:
        n = int(rng.uniform(0.1, 0.5) * RATE_HZ)
        t = np.arange(n) / RATE_HZ
        tone = sum(np.sin(2 * np.pi * rng.uniform(120, 300) * k * t + k) / k for k in range(1, 15))
        burst = 0.1 * tone * np.minimum(1, np.minimum(t, t[::-1]) * 200)
        out[at : at + n] += burst[: out.size - at].astype(np.float32)
        at += n + int(rng.uniform(0.05, 0.5) * RATE_HZ)
    return out


def write_film(path: Path, sound: Samples | None, *, first: int = 0) -> Path:
    frames = (moving(first + i) for i in range(2 * SECONDS))
    write_video(path, frames, fps=2, sound=sound, sound_rate_hz=RATE_HZ)
    return path


def calibration(*, listens: bool = True) -> Callable[..., Calibration]:
    """As if a calibration were there whose sound links what goes most of the way to identity."""
    heard = SoundCalibration(
        SoundWeights(
            Weights((0.0, 6.0, *[0.0] * 8), -2.0), (0.0,) * len(SIGHT_FEATURES), 0.0
        ),
        Background.empty(1, least=0.2),
    )  # fmt: skip

    def of(store: Path, model: ModelInfo, sound_model: str | None = None) -> Calibration:
        return replace(
            shipped(), background=Background.empty(model.d, least=0.6), link=0.9, model="",
            sound=heard if listens else None,
        )  # fmt: skip

    return of


@dataclass(frozen=True)
class Films:
    folder: Path
    known: frozenset[str]
    unknown: frozenset[str]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate(WITH_SOUND):
        write_film(folder / f"{name}.mp4", bursts(number), first=50 * number)
    write_film(folder / "a_silent.mp4", np.zeros(SECONDS * RATE_HZ, np.float32), first=400)
    write_film(folder / "trackless.mp4", None, first=450)
    found = sources(BenchmarkPlan(films=folder, n_dramas=0), folder)
    sides = [{s.program_id for s in found if s.is_known == side} for side in (True, False)]
    return Films(folder, *map(frozenset, sides))


@pytest.fixture
def ask(matcher: Run, films: Films, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    monkeypatch.setattr(cli, "load_encoder_of", lambda _: ThumbnailEncoder())
    monkeypatch.setattr(store_module, "calibration_of", calibration())

    def run(out: Path, *words: str | Path) -> Ran:
        return matcher("eval", "sound", "--films", films.folder, *WORDS, "--out", out, *words)

    return run


@pytest.fixture(scope="module")
def listener() -> Listener:
    found = listener_of(SoundSettings(), 0.2)
    assert found is not None
    return found


def row(rows: list[dict[str, Any]], edit: str, group: str = "all") -> dict[str, Any]:
    (found,) = (one for one in rows if (one["edit"], one["group"]) == (edit, group))
    return found


def source(path: Path, *, family: str = "one", seconds: float = SECONDS, group: Any = "films") -> Source:
    return Source(family, f"{family}-e01", path, seconds, group, family, family)


# --- The command ---


def test_untouched_clips_are_found_and_silent_ones_are_not(
    ask: Callable[..., Ran], tmp_path: Path, films: Films
) -> None:
    ran = ask(tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    value = ran.object
    assert json.loads((tmp_path / "run" / "sound.json").read_text()) == value
    (of,) = value["hops"]
    n_asked = len(films.known & set(WITH_SOUND))
    untouched = row(of["known"], "untouched")
    assert (untouched["asked"], untouched["top1"], untouched["linked_right"]) == (n_asked, 1.0, 1.0)
    assert untouched["top1_interval"][1] == 1.0
    assert untouched["top1_interval"][0] < 1.0
    assert {one["edit"] for one in of["known"]} == set(EDITS)
    assert row(of["known"], "untouched", "dramas")["top1"] is None
    assert row(of["silent"], "mute") == {
        "edit": "mute", "group": "all", "asked": 2, "linked": 0.0, "review": 0.0,
        "linked_interval": pytest.approx([0.0, 0.6576], abs=1e-3),
    }  # fmt: skip
    assert row(of["silent"], "any")["linked"] == 0.0
    assert row(of["silent"], "any")["asked"] == 8


@pytest.mark.slow
def test_what_says_nothing_is_left_out_and_named(
    ask: Callable[..., Ran], tmp_path: Path, films: Films
) -> None:
    asked = ask(tmp_path / "run", "--json").object["asked"]
    assert {"a_silent", "trackless"} <= films.known, "another draw of sides: choose other names"
    assert asked["programs_silent"] == ["a_silent"]
    assert asked["stretches_silent"] == 1
    assert asked["catalogue"] == len(films.known)
    assert asked["catalogue_with_sound"] == len(films.known) - 1
    assert asked["programs_asked"] == asked["stretches"] == len(films.known) - 2


def test_unknown_clips_count_as_no_programs(ask: Callable[..., Ran], tmp_path: Path, films: Films) -> None:
    value = ask(tmp_path / "run", "--json").object
    of = value["hops"][0]
    assert len(films.unknown & set(WITH_SOUND)) == value["asked"]["outside_with_sound"] > 0
    unknown = row(of["unknown"], "any")
    assert (unknown["asked"], unknown["linked"]) == (9, 0.0)
    # Nine of eight edits in turn, and none of them among the known ones.
    assert [row(of["unknown"], edit)["asked"] for edit in EDITS] == [2, 1, 1, 1, 1, 1, 1, 1]
    n_known = len(EDITS) * value["asked"]["stretches"]
    assert sum(one["asked"] for one in of["known"] if one["group"] == "all") == n_known


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(ask: Callable[..., Ran], tmp_path: Path) -> None:
    def figures(out: str, *words: str) -> tuple[Any, ...]:
        value = ask(tmp_path / out, "--json", *words).object
        of = value["hops"][0]
        return value["asked"], of["known"], of["unknown"], of["silent"], of["wrong"]

    first = figures("one")
    assert figures("other") == first
    assert figures("one") == first, "a second run of the same folder"
    refused = ask(tmp_path / "one", "--seed", "2")
    assert refused.code == 2
    assert "differs from this one in: sound" in refused.err


def test_another_seed_asks_other_clips(films: Films) -> None:
    found = [s for s in sources(BenchmarkPlan(films=films.folder, n_dramas=0), films.folder) if s.is_known]
    one, same, other = (stretches_of(found, 1, seed) for seed in (1, 1, 2))
    assert one == same
    assert [s.start_seconds for s in one] != [s.start_seconds for s in other]


@pytest.mark.slow
def test_each_hop_has_a_store_and_a_denser_one_takes_more(ask: Callable[..., Ran], tmp_path: Path) -> None:
    ran = ask(tmp_path / "run", "--hops", "0.5,1.0", "--json")
    assert ran.code == 0, ran.err
    dense, thin = ran.object["hops"]
    assert (dense["hop_seconds"], thin["hop_seconds"]) == (0.5, 1.0)
    assert dense["sounds_an_hour"] == pytest.approx(2 * thin["sounds_an_hour"], rel=0.1)
    assert 2000 < thin["sounds_an_hour"] <= 3600
    assert dense["bytes_an_hour"] > 1.3 * thin["bytes_an_hour"] > 1.3 * 128 * 2 * thin["sounds_an_hour"]
    assert row(thin["known"], "untouched")["top1"] == 1.0
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"store-0.5", "store-1", "sound.json"}


@pytest.mark.slow
def test_a_store_that_is_there_is_read_and_left_alone(ask: Callable[..., Ran], tmp_path: Path) -> None:
    made = ask(tmp_path / "run", "--json").object
    before = files_below(tmp_path / "run" / "store")
    again = ask(tmp_path / "second", "--store", tmp_path / "run" / "store", "--json").object
    assert again["hops"][0]["known"] == made["hops"][0]["known"]
    assert again["hops"][0]["hop_seconds"] is None, "a store does not say it"
    assert files_below(tmp_path / "run" / "store") == before
    assert not (tmp_path / "second" / "store").exists()


@pytest.mark.slow
def test_a_store_that_holds_an_unknown_program_is_refused(
    ask: Callable[..., Ran], matcher: Run, tmp_path: Path, films: Films
) -> None:
    name = min(films.unknown)
    assert ask(tmp_path / "run").code == 0
    store = tmp_path / "run" / "store"
    assert matcher("add", name, films.folder / f"{name}.mp4", "--store", store).code == 0
    ran = ask(tmp_path / "second", "--store", store)
    assert ran.code == 2
    assert f"holds {name}, which is to be unknown" in ran.err
    assert matcher("remove", name, min(films.known), "--store", store).code == 0
    assert f"lacks {min(films.known)}" in ask(tmp_path / "third", "--store", store).err


def test_a_table_is_printed_for_each_hop(ask: Callable[..., Ran], tmp_path: Path) -> None:
    out = " ".join(ask(tmp_path / "run").out.split())
    assert "a patch every 0.5 s" in out
    assert "MB an hour" in out
    assert all(name in out for name in (*EDITS, *SILENCES))


def test_without_a_calibration_of_sounds_it_is_said_what_to_do(
    ask: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "calibration_of", calibration(listens=False))
    ran = ask(tmp_path / "run")
    assert ran.code == 2
    assert "no calibration says what a sound is worth" in ran.err
    assert "matcher calibrate" in ran.err


def test_a_store_without_sounds_is_refused(
    ask: Callable[..., Ran], matcher: Run, tmp_path: Path, films: Films
) -> None:
    for name in sorted(films.known):
        path = films.folder / f"{name}.mp4"
        assert matcher("add", name, path, "--store", tmp_path / "store", "--no-sound").code == 0
    ran = ask(tmp_path / "run", "--store", tmp_path / "store")
    assert ran.code == 2
    assert "holds no sounds" in ran.err


def test_words_that_make_no_sense_are_refused(ask: Callable[..., Ran], tmp_path: Path) -> None:
    def refused(*words: str | Path) -> str:
        ran = ask(tmp_path / "run", *words)
        assert ran.code == 2, ran.err
        return ran.err

    assert "no list of seconds" in refused("--hops", "0.5;1")
    assert "0.1 to 10" in refused("--hops", "0.01")
    assert "leave out --store" in refused("--hops", "0.5", "--store", tmp_path)
    assert "leave out --dramas" in refused("--material", tmp_path)
    off = tmp_path / "off.toml"
    off.write_text("[sound]\nenabled = false\n")
    assert "nobody listens" in refused("--config", off)


# --- Plans ---


def test_a_benchmark_that_is_made_says_which_programs_there_are(tmp_path: Path, films: Films) -> None:
    plan = BenchmarkPlan(films=Path("/elsewhere"), seed=5, n_dramas=4)
    with pytest.raises(InputError, match="holds no benchmark"):
        programs_plan(tmp_path, films=None, n_dramas=None)
    write_json(tmp_path / "benchmark.json", {"format": 1, "plan": plan.to_json(), "kinds": [], "clips": []})
    assert programs_plan(tmp_path, films=None, n_dramas=None) == plan
    assert programs_plan(tmp_path, films=films.folder, n_dramas=None) == replace(plan, films=films.folder)
    assert programs_plan(None, films=None, n_dramas=3).n_dramas == 3


def test_numbers_of_clips_are_checked(tmp_path: Path) -> None:
    plan = BenchmarkPlan(n_dramas=4)
    for words in ({"seed": -1}, {"clips_per_program": 0}, {"n_unknown": -1}, {"n_silent": -1}):
        with pytest.raises(InputError):
            SoundPlan(plan, tmp_path, **words)


# --- Stretches and edits ---


def test_stretches_are_spread_over_a_file_and_stay_in_it() -> None:
    long, short = source(Path("long"), seconds=60.0), source(Path("short"), seconds=7.0)
    found = stretches_of([long, short], 5, 1)
    assert [s.number for s in found] == list(range(6))
    starts = [s.start_seconds for s in found[:5]]
    assert all(10 * i <= start <= 10 * (i + 1) for i, start in enumerate(starts))
    assert (found[5].start_seconds, found[5].seconds) == (0.0, 7.0)


def test_outside_stretches_take_every_file_in_turn() -> None:
    files = [source(Path(name), family=name, seconds=20.0) for name in "abc"]
    found = outside_stretches(files, 1)
    rounds = [{next(found).source.program_id for _ in files} for _ in range(4)]
    assert rounds == [set("abc")] * 4
    assert list(outside_stretches([], 1)) == []


def test_edits_are_as_loud_and_as_long_as_they_say(films: Films, listener: Listener) -> None:
    samples, rng = bursts(3, 10.0), np.random.default_rng(0)
    over = bursts(4, 10.0)
    made = {name: edit(samples, over, rng) for name, edit in EDITS.items()}
    lengths = {name: out.size / RATE_HZ for name, out in made.items()}
    assert lengths == {name: 8.0 if "1.25" in name else 10.0 for name in EDITS}
    for name, decibels in (("music, 0 dB", 0.0), ("music, -6 dB", -6.0)):
        found = 20 * np.log10(loudness(samples) / loudness(made[name] - samples))
        assert found == pytest.approx(decibels, abs=0.01)
    assert np.array_equal(made["untouched"], samples)

    def pitch(heard: Samples) -> float:
        """Of a tone of 440 Hz, after an edit."""
        spectrum = np.abs(np.fft.rfft(heard[RATE_HZ : 3 * RATE_HZ]))
        return float(np.argmax(spectrum)) / 2

    tone = np.sin(2 * np.pi * 440 * np.arange(10 * RATE_HZ) / RATE_HZ).astype(np.float32)
    played = {name: pitch(edit(tone, over, rng)) for name, edit in EDITS.items() if "music" not in name}
    assert played == {
        name: pytest.approx({"speed 1.25": 550.0, "pitch +2": 493.9}.get(name, 440.0), rel=0.01)
        for name in played
    }


def test_nothing_of_a_programs_own_family_is_laid_over_it(films: Films) -> None:
    path = films.folder / "film0.mp4"
    stretch = Stretch(0, source(path, family="own"), 0.0, 10.0)
    own, other = (source(path, family=name, group="dramas") for name in ("own", "other"))

    def drawn(*outside: Source) -> list[Samples]:
        return [overlay(stretch, outside, np.random.default_rng(i)) for i in range(8)]

    tunes = drawn()
    assert all(np.array_equal(one, tune) for one, tune in zip(drawn(own), tunes, strict=True))
    # Tunes are made half a second longer; what is read is as long as the stretch.
    from_other = [one for one in drawn(own, other) if one.size == 10 * RATE_HZ]
    assert 0 < len(from_other) < 8
    assert all(one.size > 10 * RATE_HZ for one in tunes)
    assert all(loudness(one) > 0.5 * loudness(bursts(0)) for one in from_other)


def test_a_silent_stretch_makes_no_clips(films: Films, listener: Listener) -> None:
    silent = Stretch(0, source(films.folder / "a_silent.mp4"), 1.0, 10.0)
    assert known_clips(silent, [], listener, 1).clips == ()
    heard = Stretch(0, source(films.folder / "film0.mp4"), 1.0, 10.0)
    assert [clip.edit for clip in known_clips(heard, [], listener, 1).clips] == list(EDITS)


@pytest.mark.parametrize("number", range(3), ids=list(SILENCES)[:3])
def test_nothing_is_heard_in_silence(listener: Listener, number: int) -> None:
    clip = silent_clip(number, listener, 1)
    assert clip.edit == list(SILENCES)[number]
    assert len(clip.look) == 0


# --- Judging ---


def test_an_answer_may_be_right_and_wrong_at_once(listener: Listener) -> None:
    clip = replace(silent_clip(0, listener, 1), program_id="p")

    def judged(decision: Any, *names: str) -> Judged:
        links = tuple(Link(name, 0.99, ()) for name in names)
        return Judged(clip, Answer("c", "c", decision, links, (), "", 1))

    assert [(j.is_linked_right, j.is_linked_wrong) for j in (
        judged("linked", "p"), judged("linked", "q"), judged("linked", "p", "q"), judged("review", "p"),
    )] == [(True, False), (False, True), (True, True), (False, False)]  # fmt: skip
    assert not judged("none").is_first


def test_nothing_asked_is_no_row_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    empty = {"asked": 0, "top1": None, "top1_interval": None, "linked_right": None, "linked_wrong": None}
    known = {"edit": "untouched", "group": "films", "review": None, **empty}
    hop = {"hop_seconds": None, "bytes_an_hour": None, "known": [known], "unknown": [], "silent": []}
    notes = dict.fromkeys(("programs_asked", "stretches", "stretches_silent", "unknown", "silent"), 0)
    show_sound({"asked": {"catalogue": 3, **notes}, "hops": [hop]}, as_json=False, seconds=1.0)
    out = capsys.readouterr().out
    assert "3 programs" in out
    assert "films" not in out
