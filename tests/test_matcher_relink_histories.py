"""Whatever happens to a store, the re-link of what can have changed leaves what a full one would."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from test_matcher_linking import CALIBRATION, MODEL, PACE, SETTINGS, clip_of, half, live_of
from test_matcher_linking_sound import SILENCE, SOUND_MODEL, SOUNDS, patch_times
from trajectories import Trajectory, noisy

from index.catalog import Catalog, NewAsset, NewProgram
from index.rows import ClipRecord, ReviewRecord, StoredClip
from matcher.background import Background
from matcher.changes import link_record
from matcher.config import SoundSettings, VotingSettings
from matcher.linking import Linker
from matcher.pipeline import last_night
from matcher.records import SOUND, Descriptors, Look
from matcher.relink import Night, Order, relink, relink_shard
from matcher.sound import HALF_PATCH_SECONDS
from matcher.verdicts import CONFIRMED, NONE, REJECTED, verdicts_of

#: So few neighbours that a twin pushes others out.
FEW = SETTINGS.model_copy(
    update={
        "voting": VotingSettings(k=4, candidates=3), "sound": SoundSettings(k=3, candidates=2),
    }
)  # fmt: skip
NAMES = [f"p{i}" for i in range(5)]
LENGTH = 40.0
TOP = 3
programs = st.sampled_from(NAMES)
#: What a program shows and says; two programs may show the same.
contents = st.integers(0, 5)
clips = st.sampled_from([f"c{i}" for i in range(8)])


def assets(content: int, *, sound: bool) -> list[NewAsset]:
    t = np.arange(0.0, LENGTH)
    heard = np.arange(HALF_PATCH_SECONDS, LENGTH - HALF_PATCH_SECONDS, 0.5)
    said = (heard, Trajectory(7000 + content, pace=1.5)(heard)) if sound else None
    return [NewAsset("e0", "/v.mp4", "", LENGTH, t, Trajectory(content, pace=PACE)(t), said)]


def clip(content: int, start: float, seed: int, *, muted: bool, inset: bool) -> Descriptors:
    """Ten seconds of a content that some program may hold."""
    t = start + np.arange(0, 10, 0.5)
    found = clip_of(Trajectory(content, pace=PACE)(t), seed=seed, noise=0.3)
    found = replace(found, vectors=half(found.vectors))
    if inset:
        other = half(noisy(Trajectory(content + 1, pace=PACE)(t), seed, 0.3))
        found = replace(found, further=(Look("inset", found.t_seconds, other),))
    times = patch_times(10.0)
    heard = half(noisy(Trajectory(7000 + content, pace=1.5)(start + times), seed, 0.3))
    return replace(found, sound=SILENCE if muted else Look(SOUND, times, heard, "sound"))


def stored(clip_id: str, clip: Descriptors) -> StoredClip:
    record = ClipRecord(
        clip_id, "/c.mp4", "", clip.duration_seconds, clip.frames_seen, MODEL.fingerprint,
        sound_model=SOUND_MODEL.fingerprint,
    )  # fmt: skip
    further = tuple((look.view, look.t_seconds, look.vectors) for look in clip.further)
    assert clip.sound is not None
    return StoredClip(
        record, clip.t_seconds, clip.vectors, further, (clip.sound.t_seconds, clip.sound.vectors)
    )


def said(answer: dict[str, Any]) -> dict[str, Any]:
    """What an answer says of its clip; a guess that nothing speaks for is no part of it, nor is the date."""
    dated = ("catalog_version", "candidates")
    shown = {name: value for name, value in answer.items() if name not in dated}
    return shown | {"candidates": [guess for guess in answer["candidates"] if guess["score"] > 0]}


def assert_alike(one: Any, other: Any, where: str) -> None:
    """Equal, but for the last digits of floats."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            assert_alike(value, other[name], f"{where}.{name}")
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), f"{where}: {one} {other}"
        for number, (value, wanted) in enumerate(zip(one, other, strict=True)):
            assert_alike(value, wanted, f"{where}[{number}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert one == pytest.approx(other, abs=2e-5), where
    else:
        assert one == other, where


class Histories(RuleBasedStateMachine):
    """One store, changed in every way that there is; each change is followed by a night."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="histories-"))
        self.catalog = Catalog.create(self.folder / "store", MODEL)
        self.calibration = replace(CALIBRATION, sound=SOUNDS)
        self.n_compared = 0
        with self.catalog.writing() as writer:
            writer.use_sound(SOUND_MODEL)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        """Three programs and a clip of each; one of what is in none."""
        for number in range(3):
            self.add(f"p{number}", number, True)
        for number in range(4):
            self.keep(f"c{number}", number, 8.0, number == 1, number == 2)

    @rule(name=programs, content=contents, sound=st.booleans())
    def add(self, name: str, content: int, sound: bool) -> None:
        with self.catalog.writing() as writer:
            writer.add_program(NewProgram(name, f"Title of {content}"), assets(content, sound=sound))

    @rule(names=st.sets(programs, min_size=1, max_size=2))
    def remove(self, names: set[str]) -> None:
        with self.catalog.writing() as writer:
            writer.remove_programs(names)

    @rule(
        clip_id=clips, content=contents, start=st.floats(0, 28), muted=st.booleans(), inset=st.booleans(),
        linked=st.booleans(),
    )  # fmt: skip
    def keep(
        self, clip_id: str, content: int, start: float, muted: bool, inset: bool, linked: bool = True
    ) -> None:
        """Keep a clip, linked as ``matcher link`` does; or killed before it came to that."""
        one = stored(clip_id, clip(content, start, content, muted=muted, inset=inset))
        with self.catalog.writing() as writer:
            writer.put_clip(one)
            if linked:
                verdicts = verdicts_of(self.catalog.reviews())
                before = self.catalog.whole_links([clip_id])
                for answer, kept_at in relink_shard(
                    self.catalog, self.linker(), [clip_id], verdicts, top=TOP
                ):
                    night = last_night(self.catalog)
                    record = link_record(answer, before.get(clip_id), kept_at=kept_at, night=night)
                    writer.put_links([record])

    @rule(clip_id=clips)
    def forget(self, clip_id: str) -> None:
        with self.catalog.writing() as writer:
            writer.remove_clips([clip_id])

    @rule(
        clip_id=clips, name=programs, verdict=st.sampled_from([CONFIRMED, REJECTED, REJECTED, NONE]),
    )  # fmt: skip
    def review(self, clip_id: str, name: str, verdict: str) -> None:
        with self.catalog.writing() as writer:
            writer.put_review(ReviewRecord(clip_id, None if verdict == NONE else name, verdict))

    @rule(least=st.sampled_from([0.1, 0.3, 0.6]), link=st.sampled_from([0.5, 0.95]), seed=st.integers(0, 3))
    def calibrate(self, least: float, link: float, seed: int) -> None:
        """Another level of chance: at the lower ones, most frames have strangers above it."""
        t = np.arange(0.0, 20.0, 2.0)
        vectors = np.concatenate([Trajectory(4000 + seed + i, pace=PACE)(t) for i in range(8)])
        background = Background(vectors, np.repeat(np.arange(8, dtype=np.int32), t.size), least)
        self.calibration = replace(
            self.calibration, link=link, background=background,
            sound=replace(SOUNDS, background=replace(SOUNDS.background, least=least)),
        )  # fmt: skip

    @rule()
    def compact(self) -> None:
        with self.catalog.writing() as writer:
            writer.compact(keep_seconds=0)

    @rule()
    def night_of_all(self) -> None:
        self.night(Order(TOP, full=True, accept=True))

    @invariant()
    def a_night_leaves_what_a_full_one_would(self) -> None:
        if not self.catalog.programs() and not self.catalog.clip_dates():
            return
        night = self.night(Order(TOP, accept=True))
        ids = list(self.catalog.clip_dates())
        links = self.catalog.whole_links(ids)
        assert set(links) == set(ids)
        verdicts = verdicts_of(self.catalog.reviews())
        for answer, _ in relink_shard(self.catalog, self.linker(), ids, verdicts, top=TOP):
            kept = json.loads(links[answer.clip_id].answer)
            assert_alike(said(kept), said(answer.to_json()), answer.clip_id)
            self.assert_history(answer.clip_id, kept)
            rejected = verdicts[answer.clip_id].rejected if answer.clip_id in verdicts else frozenset()
            assert rejected.isdisjoint(guess.program_id for guess in answer.candidates)
        # And the next night has nothing to do, but for those whose program a person named.
        again = self.night(Order(TOP))
        assert set(again.why) <= {"review"}
        assert not again.changes
        assert night.kept == len(ids)

    def assert_history(self, clip_id: str, kept: dict[str, Any]) -> None:
        """It ends with what is kept, and no two entries on end say the same."""
        history = self.catalog.whole_links([clip_id])[clip_id].history
        assert history
        parts = kept["links"] or kept["review"]
        assert history[-1]["decision"] == kept["decision"]
        assert history[-1]["programs"] == [part["program_id"] for part in parts]
        assert max(Counter(json.dumps(entry, sort_keys=True) for entry in history).values()) == 1

    def night(self, order: Order) -> Night:
        with self.catalog.writing() as writer:
            return relink(writer, self.linker(), order)

    def linker(self) -> Linker:
        return Linker(live_of(self.catalog), FEW, self.calibration, sound=live_of(self.catalog, "sounds"))


def _run(*, examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Histories,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, derandomize=True, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate, Phase.shrink],
            print_blob=True,
        ),
    )  # fmt: skip


def test_after_any_history_a_night_leaves_what_a_full_one_would() -> None:
    """Add, replace, remove, keep, forget, review, calibrate, compact; links, segments, confidences."""
    _run(examples=2, steps=10)


@pytest.mark.slow
def test_after_hundreds_of_changes_a_night_leaves_what_a_full_one_would() -> None:
    """The same, 1,500 steps."""
    _run(examples=50, steps=30)
