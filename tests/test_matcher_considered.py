"""Picture and sound together: joined, sorted and laid out as loops and grids say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from index.view import LiveView
from matcher.considered import (
    AROUND_SECONDS,
    BEHIND,
    COINCIDENCE,
    FEWEST_SEEN,
    LEAST_OTHER_SECONDS,
    LEAST_SEEN,
    LEAST_SPREAD,
    MOST_OUT,
    OTHER_SOUND,
    SAME_MOMENT_SECONDS,
    SAME_PLACE_SECONDS,
    SAME_SOUND,
    SEEN_ENOUGH,
    STILL,
    Assessed,
    Considered,
    Joined,
    _compared_sounds,
    agree,
    aligned_parts,
    has_other_sound,
    is_same_place,
    is_seen,
    join,
    join_log_odds,
    overlap_seconds,
    sight_of,
)
from matcher.decision import LEAST_HEARD, SURE_EXCESS, Evidence, Sight
from matcher.elsewhere import BandReader
from matcher.lines import TOLERANCE_SECONDS, Line
from matcher.localize import Match
from matcher.records import SOUND, WHOLE, Descriptors, Look
from matcher.sound import HALF_PATCH_SECONDS

#: From here on the pictures are sure.
LINK = 3.0
PATCH = 2 * HALF_PATCH_SECONDS
NO_ROWS, NO_VALUES = np.zeros(0, np.int64), np.zeros(0, np.float32)


def a_match(start: float, end: float, *, asset: int = 0, offset: float = 0.0, speed: float = 1.0) -> Match:
    """The clip's ``[start, end)`` is the asset's ``speed * t + offset``."""
    line = Line(speed, offset, 1.0)
    return Match(asset, start, end, line, NO_ROWS, NO_VALUES, NO_ROWS, NO_VALUES)


def a_look(view: str = WHOLE, n: int = 1, d: int = 2) -> Look:
    vectors = np.zeros((n, d), np.float32)
    vectors[:, 0] = 1.0
    return Look(view, np.arange(float(n)), vectors, "sound" if view == SOUND else "picture")


EVIDENCE = Evidence(similarity=0.9, excess=0.6, lead=0.05, frames=5.0, coverage=0.9, speed=0.0)


def found(
    program: int,
    log_odds: float,
    *matches: Match,
    view: str = WHOLE,
    votes: float = 1.0,
    sight: Sight | None = None,
) -> Assessed:
    """A candidate; without matches one that is only guessed at."""
    if not matches:
        return Assessed(program, a_look(view), (), None, -math.inf, votes)
    return Assessed(program, a_look(view), matches, replace(EVIDENCE, sight=sight), log_odds, votes)


def heard(program: int, log_odds: float, *matches: Match, sight: Sight | None = None) -> Assessed:
    return found(program, log_odds, *matches, view=SOUND, sight=sight)


def by_program(joined: Sequence[Joined]) -> dict[int, float]:
    return {one.program: one.log_odds for one in joined}


# ---------------------------------------------------------------- the same place


@pytest.mark.parametrize(
    ("one", "other", "seconds"),
    [
        (a_match(0, 10), a_match(4, 6), 2.0),
        (a_match(0, 5), a_match(3, 9), 2.0),
        (a_match(0, 5), a_match(5, 9), 0.0),
        (a_match(0, 5), a_match(7, 9), -2.0),
        (a_match(0, 5), a_match(0, 5, asset=3), 5.0),
    ],
)
def test_shared_time_is_negative_where_there_is_a_gap(one: Match, other: Match, seconds: float) -> None:
    assert overlap_seconds(one, other) == overlap_seconds(other, one) == seconds


@pytest.mark.parametrize(
    ("offset", "same"),
    [
        (0.0, True),
        (SAME_PLACE_SECONDS, True),
        (-SAME_PLACE_SECONDS, True),
        (SAME_PLACE_SECONDS + 1e-6, False),
        (-SAME_PLACE_SECONDS - 1e-6, False),
    ],
)
def test_places_agree_up_to_the_border_and_no_further(offset: float, same: bool) -> None:
    one, other = a_match(0, 8), a_match(2, 12, offset=offset)
    assert agree(one, other) == agree(other, one) == same


def test_places_do_not_agree_without_shared_time_or_in_another_asset() -> None:
    one = a_match(0, 8, asset=1)
    assert agree(one, a_match(7.99, 12, asset=1))
    assert not agree(one, a_match(8, 12, asset=1))
    assert not agree(one, a_match(9, 12, asset=1))
    assert not agree(one, a_match(0, 8, asset=2))


def test_the_middle_of_the_shared_time_decides() -> None:
    """At another speed the two lines cross: only where they are compared do they say the same place."""
    one, fast = a_match(0, 20), a_match(10, 30, speed=1.5, offset=-7.5)
    assert fast.line.at(15.0) == one.line.at(15.0)
    assert agree(one, fast)
    off = SAME_PLACE_SECONDS / 0.5
    assert agree(a_match(0, 20 + 2 * off), fast)
    assert not agree(a_match(0, 20 + 2 * off + 0.1), replace(fast, clip_end_seconds=90.0))


def test_one_pair_that_agrees_is_enough() -> None:
    seen = [a_match(0, 4), a_match(4, 8, offset=50)]
    assert is_same_place(seen, [a_match(5, 9, offset=51)])
    assert not is_same_place(seen, [a_match(5, 9, offset=25)])
    assert not is_same_place([], [a_match(0, 4)])
    assert not is_same_place(seen, [])


# ---------------------------------------------------------------- join


@pytest.mark.parametrize(
    ("seen", "said", "same", "wanted"),
    [
        (1.0, 2.0, True, 3.0 + COINCIDENCE),
        (1.0, 2.0, False, 2.0),
        (2.0, -1.0, False, 2.0),
        (-9.0, 4.0, True, 4.0),  # the sum is no better than the sound alone
        (-1.0, 4.0, True, 3.0 + COINCIDENCE),
        (None, 2.0, False, 2.0),
        (-3.0, None, False, -3.0),
        (None, None, False, -math.inf),
    ],
)
def test_two_witnesses_of_one_place_multiply_their_odds(
    seen: float | None, said: float | None, same: bool, wanted: float
) -> None:
    assert join_log_odds(seen, said, is_same_place=same) == wanted


def test_programs_of_either_are_there_once_best_first() -> None:
    pictures = [found(1, 2.0, a_match(0, 5)), found(2, 1.0, a_match(5, 9)), found(7, 0.0)]
    sounds = [
        heard(2, 0.5, a_match(5, 9)),
        heard(3, 1.5, a_match(0, 9)),
        heard(1, 2.5, a_match(0, 5, asset=4)),
    ]
    joined = join(pictures, sounds, LINK)
    assert [(one.program, one.log_odds) for one in joined] == [
        (2, 1.5 + COINCIDENCE),
        (1, 2.5),
        (3, 1.5),
        (7, -math.inf),
    ]
    assert [one.is_same_place for one in joined] == [True, False, False, False]
    assert [len(one.parts) for one in joined] == [2, 2, 1, 0]
    assert joined[0].picture is pictures[1]
    assert joined[0].sound is sounds[0]
    assert joined[2].picture is None
    assert joined[0].confidence == pytest.approx(1 / (1 + math.exp(-1.5 - COINCIDENCE)))
    assert joined[3].confidence == pytest.approx(0.0, abs=1e-300)
    assert (joined[0].similarity, joined[3].similarity) == (0.9, 0.0)


def test_what_is_only_guessed_at_keeps_its_order_and_adds_nothing() -> None:
    """Programs without evidence come in the order given, those of the pictures first."""
    joined = join([found(5, 0, votes=3), found(2, 0, votes=2)], [heard(9, 0), heard(2, 0), heard(1, 0)], LINK)
    assert [one.program for one in joined] == [5, 2, 9, 1]
    assert all(one.log_odds == -math.inf for one in joined)
    assert joined[1].votes == 2
    (one,) = join([found(4, 0)], [heard(4, 1.0, a_match(0, 3))], LINK)
    assert (one.log_odds, one.parts) == (1.0, (one.sound,))


def test_the_sound_of_another_program_comes_behind_what_is_surely_seen() -> None:
    """However sure of itself: the pictures of that very time are another's."""
    shown = found(1, 4.0, a_match(0, 10))
    joined = join([shown], [heard(2, 9.0, a_match(0, 10, asset=5))], LINK)
    assert [(one.program, one.log_odds) for one in joined] == [(1, 4.0), (2, 4.0 - BEHIND)]
    # It never gains by that.
    joined = join([shown], [heard(2, -2.0, a_match(0, 10, asset=5))], LINK)
    assert by_program(joined) == {1: 4.0, 2: -2.0}


@pytest.mark.parametrize(
    ("pictures", "sound"),
    [
        ([found(1, LINK - 0.01, a_match(0, 10))], heard(2, 9.0, a_match(0, 10))),  # not surely seen
        ([found(1, 4.0, a_match(0, 5))], heard(2, 9.0, a_match(0, 10))),  # in half of its time
        ([found(1, 4.0, a_match(20, 30))], heard(2, 9.0, a_match(0, 10))),  # at another time
        ([found(1, 4.0, a_match(0, 10)), found(2, 1.0, a_match(2, 9))], heard(2, 9.0, a_match(0, 10))),
        (
            [found(1, 4.0, a_match(0, 10)), found(2, LINK, a_match(2, 9, offset=50))],
            heard(2, 9.0, a_match(0, 10)),
        ),
        ([found(2, 4.0, a_match(0, 10, offset=50))], heard(2, 9.0, a_match(0, 10))),  # its own
    ],
)
def test_elsewhere_the_sound_stands(pictures: list[Assessed], sound: Assessed) -> None:
    joined = join(pictures, [sound], LINK)
    assert joined[0].program == 2
    assert joined[0].log_odds >= 9.0


def test_a_sound_is_behind_where_several_surely_seen_ones_share_its_time() -> None:
    """The least sure of those over most of it counts: none of them may be overtaken."""
    shown = [
        found(1, 6.0, a_match(0, 10)),
        found(3, 4.0, a_match(1, 9, asset=2)),
        found(4, 3.5, a_match(9, 11)),
    ]
    joined = by_program(join(shown, [heard(2, 9.0, a_match(0, 10, asset=5))], LINK))
    assert joined[2] == 4.0 - BEHIND


cells = st.integers(0, 12)


@st.composite
def some_matches(draw: st.DrawFn, *, most: int = 3, least: int = 0) -> tuple[Match, ...]:
    """Matches that share no time, with ends on whole seconds."""
    n = draw(st.integers(least, most))
    edges = sorted(draw(st.lists(cells, min_size=2 * n, max_size=2 * n, unique=True)))
    return tuple(
        a_match(
            start,
            end,
            asset=draw(st.integers(0, 1)),
            offset=float(draw(st.sampled_from([0, 1, 2, 9]))),
            speed=draw(st.sampled_from([1.0, 0.5, 2.0])),
        )
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    )


@st.composite
def some_candidates(draw: st.DrawFn, view: str) -> list[Assessed]:
    programs = draw(st.lists(st.integers(0, 3), unique=True))
    return [
        found(program, draw(st.integers(-6, 8)) + 0.01 * program, *draw(some_matches()), view=view)
        for program in programs
    ]


def covered(matches: Sequence[Match]) -> set[int]:
    """Seconds of the clip."""
    return {
        second
        for match in matches
        for second in range(13)
        if match.clip_start_seconds <= second < match.clip_end_seconds
    }


def joined_by_loops(pictures: Sequence[Assessed], sounds: Sequence[Assessed]) -> dict[int, float]:
    odds: dict[int, float] = {}
    for program in {one.program for one in (*pictures, *sounds)}:
        seen = next((one for one in pictures if one.program == program), None)
        said = next((one for one in sounds if one.program == program), None)
        values = [one.log_odds for one in (seen, said) if one is not None and one.evidence is not None]
        same = False
        for a in seen.matches if seen else ():
            for b in said.matches if said else ():
                low = max(a.clip_start_seconds, b.clip_start_seconds)
                high = min(a.clip_end_seconds, b.clip_end_seconds)
                middle = (low + high) / 2
                apart = abs(
                    a.line.speed * middle
                    + a.line.offset_seconds
                    - b.line.speed * middle
                    - b.line.offset_seconds
                )
                same |= a.asset == b.asset and low < high and apart <= SAME_PLACE_SECONDS
        odds[program] = max(values, default=-math.inf)
        if same:
            odds[program] = max(odds[program], sum(values) + COINCIDENCE)
        is_sure = seen is not None and seen.evidence is not None and seen.log_odds >= LINK
        if said is None or said.evidence is None or same or is_sure:
            continue
        own = covered(said.matches)
        for other in pictures:
            if other.program == program or other.evidence is None or other.log_odds < LINK:
                continue
            if 2 * len(own & covered(other.matches)) > len(own):
                odds[program] = min(odds[program], other.log_odds - BEHIND)
    return odds


@settings(deadline=None)
@given(pictures=some_candidates(WHOLE), sounds=some_candidates(SOUND), seed=st.integers(0, 99))
def test_joined_is_that_of_the_loops_in_any_order(
    pictures: list[Assessed], sounds: list[Assessed], seed: int
) -> None:
    joined = join(pictures, sounds, LINK)
    assert by_program(joined) == pytest.approx(joined_by_loops(pictures, sounds))
    assert len(joined) == len(by_program(joined))
    odds = [one.log_odds for one in joined]
    assert odds == sorted(odds, reverse=True)
    rng = np.random.default_rng(seed)
    mixed = [[one[i] for i in rng.permutation(len(one))] for one in (pictures, sounds)]
    assert by_program(join(*mixed, LINK)) == by_program(joined)


# ---------------------------------------------------------------- of several looks


def considered(*looks: tuple[Look, list[Assessed]]) -> Considered:
    first = looks[0][0]
    further = tuple(look for look, _ in looks[1:] if look.kind == "picture")
    sound = next((look for look, _ in looks if look.kind == "sound"), None)
    clip = Descriptors(first.t_seconds, first.vectors, 9.0, 9, further, sound)
    return Considered(clip, cast(LiveView, None), tuple(assessed for _, assessed in looks))


def test_the_best_look_at_a_program_counts_and_the_sound_stays_apart() -> None:
    whole, mirror, sound = a_look(n=4), a_look("mirror", n=4), a_look(SOUND, n=2)
    poor, good = found(1, -1.0, a_match(0, 4)), found(1, 2.0, a_match(0, 4), view="mirror")
    other = found(2, 0.5, a_match(0, 3))
    said = heard(2, 1.0, a_match(0, 3))
    got = considered((whole, [other, poor]), (mirror, [good]), (sound, [said, heard(3, 0)]))
    assert got.assessed() == [good, other]
    assert got.heard()[0] is said
    assert by_program(got.joined(LINK)) == {1: 2.0, 2: 1.5 + COINCIDENCE, 3: -math.inf}
    assert set(got.by_key()) == {(WHOLE, 4), ("mirror", 4), (SOUND, 2)}
    mute = got.without_sound()
    assert mute.clip.sound is None
    assert (mute.by_look, mute.heard()) == (got.by_look[:2], [])
    assert by_program(mute.joined(LINK)) == {1: 2.0, 2: 0.5}


def test_of_equal_candidates_the_one_with_more_votes_comes_first() -> None:
    one, two, three = (found(p, 1.0, a_match(0, 4), votes=v) for p, v in ((1, 2.0), (2, 3.0), (3, 2.0)))
    assert considered((a_look(), [three, one, two])).assessed() == [two, one, three]
    assert considered((a_look(), [one, two, three])).assessed() == [two, one, three]


def test_clearly_heard_is_what_explains_its_patches() -> None:
    clear = heard(1, -5.0, a_match(0, 4))
    assert clear.evidence is not None
    for excess, clearly in ((SURE_EXCESS, True), (SURE_EXCESS - 0.01, False)):
        one = replace(clear, evidence=replace(clear.evidence, excess=excess))
        assert considered((a_look(), []), (a_look(SOUND), [heard(2, 0), one])).is_clearly_heard == clearly
    assert not considered((a_look(), [found(1, 9.0, a_match(0, 4))])).is_clearly_heard


# ---------------------------------------------------------------- what the pictures show of a place

#: Seconds and descriptors of two assets.
ASSETS = {
    0: (np.arange(0.0, 300.0), 0),
    1: (np.arange(0.5, 40.0, 2.0), 1),
}


def asset_of(number: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    seconds, seed = ASSETS[number]
    vectors = np.random.default_rng(seed).normal(size=(seconds.size, 8))
    return seconds, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def read_band(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    seconds, vectors = asset_of(asset)
    near = (seconds >= start) & (seconds < stop)
    return seconds[near], vectors[near]


def sight_by_loops(
    looks: Sequence[tuple[Look, NDArray[np.float32]]], matches: Sequence[Match]
) -> tuple[float, float] | None:
    seen_of, out_of = [], []
    for look, level in looks:
        seen, out = [], []
        for match in matches:
            ends = [match.line.at(match.clip_start_seconds), match.line.at(match.clip_end_seconds)]
            seconds, band = read_band(match.asset, min(ends) - AROUND_SECONDS, max(ends) + AROUND_SECONDS)
            for t, vector, chance in zip(look.t_seconds, look.vectors, level, strict=True):
                if not match.clip_start_seconds <= t < match.clip_end_seconds or not len(seconds):
                    continue
                similarity = [float(vector @ other) for other in band]
                at = match.line.at(float(t))
                if seconds[0] - TOLERANCE_SECONDS <= at <= seconds[-1] + TOLERANCE_SECONDS:
                    after = min(int(np.searchsorted(seconds, at)), len(seconds) - 1)
                    here = max(similarity[after], similarity[max(0, after - 1)])
                else:
                    here = -1.0
                seen.append(min(1.0, max(LEAST_SEEN, (here - chance) / max(1 - chance, 0.01))))
                spread = max(LEAST_SPREAD, float(np.std(similarity)))
                out.append(min(MOST_OUT, max(-MOST_OUT, (here - float(np.mean(similarity))) / spread)))
        if len(seen) >= FEWEST_SEEN:
            seen_of.append(float(np.mean(seen)))
            out_of.append(float(np.mean(out)))
    return (max(seen_of), max(out_of)) if seen_of else None


def shown_at(
    asset: int, at: NDArray[np.float64], rng: np.random.Generator, noise: float
) -> NDArray[np.float32]:
    seconds, vectors = asset_of(asset)
    picture = vectors[np.clip(np.searchsorted(seconds, at), 0, seconds.size - 1)]
    picture = picture + noise * rng.normal(size=picture.shape)
    return (picture / np.linalg.norm(picture, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    matches=some_matches(),
    n_looks=st.integers(0, 3),
    noise=st.sampled_from([0, 0.3, 2]),
)
def test_the_sight_of_a_place_is_that_of_the_loops(
    seed: int, matches: tuple[Match, ...], n_looks: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    looks = []
    for number in range(n_looks):
        t = np.sort(rng.choice(np.arange(0, 13, 0.5), int(rng.integers(0, 12)), replace=False))
        look = Look(f"view {number}", t, shown_at(0, t, rng, noise))
        looks.append((look, rng.uniform(-0.2, 1.0, t.size).astype(np.float32)))
    got, wanted = sight_of(looks, matches, read_band), sight_by_loops(looks, matches)
    assert (got is None) == (wanted is None)
    if got is not None and wanted is not None:
        assert (got.seen, got.stands_out) == pytest.approx(wanted, abs=1e-4)
    assert sight_of(looks[::-1], matches[::-1], read_band) == (
        None
        if got is None
        else Sight(pytest.approx(got.seen, abs=1e-5), pytest.approx(got.stands_out, abs=1e-5))
    )


def whole(
    t: Sequence[float], vectors: NDArray[np.float32], level: float = 0.2
) -> tuple[Look, NDArray[np.float32]]:
    return Look(WHOLE, np.array(t, np.float64), vectors), np.full(len(t), level, np.float32)


def test_the_very_frames_are_fully_seen_and_stand_out() -> None:
    t = np.arange(10.0)
    got = sight_of([whole(t.tolist(), asset_of(0)[1][50:60])], [a_match(0, 10, offset=50.0)], read_band)
    assert got is not None
    assert got.seen == pytest.approx(1.0, abs=1e-5)
    assert got.stands_out > 2.0
    # Of a still asset every place is alike, and none stands out.
    still = np.tile(asset_of(0)[1][:1], (20, 1))
    same = sight_of([whole(t.tolist(), still[:10])], [a_match(0, 10)], lambda *_: (np.arange(20.0), still))
    assert same is not None
    assert (same.seen, same.stands_out) == pytest.approx((1.0, 0.0), abs=1e-4)


# ---------------------------------------------------------------- another sound


def still(start: float, end: float, *, ambiguity: float = 0.9, n: int = 4) -> Match:
    return replace(a_match(start, end), ambiguity=ambiguity, run=np.arange(n))


def noise(n: int, seed: int) -> NDArray[np.float32]:
    """(n, 8) rows of length 1 that have nothing to do with each other."""
    rows = np.random.default_rng(seed).normal(size=(n, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def a_sound(first: float, last: float, step: float = 0.25, *, seed: int = 1) -> Look:
    times = np.arange(first, last, step)
    return Look(SOUND, times, noise(times.size, seed), "sound")


def sounds_at(*stretches: tuple[float, float], vectors: NDArray[np.float32] | None = None) -> BandReader:
    """The sounds of asset 0, a patch half a second; any other asset has none."""
    times = np.unique(np.concatenate([np.zeros(0), *(np.arange(*one, 0.5) for one in stretches)]))
    rows = noise(times.size, 2) if vectors is None else vectors

    def read(asset: int, start: float, stop: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        own = (times >= start) & (times < stop) & (asset == 0)
        return times[own], rows[own]

    return read


def sounds_otherwise(seen: Assessed, clip: Look, read: BandReader, *, chance: float = 0.8) -> bool:
    return has_other_sound(seen, clip, np.full(len(clip), chance, np.float32), read)


def test_a_place_sounds_otherwise_where_both_sound_for_long_enough() -> None:
    everywhere, clip = sounds_at((0, 100)), a_sound(0, 10)
    seen = found(0, 3.0, a_match(0, 10, offset=20))
    assert sounds_otherwise(seen, clip, everywhere)
    assert not sounds_otherwise(seen, clip, sounds_at()), "the program has no sound"
    assert not sounds_otherwise(seen, clip, sounds_at((40, 100))), "nor has it there"
    assert not sounds_otherwise(seen, a_sound(0, 0), everywhere), "the clip has none"
    assert not sounds_otherwise(seen, a_sound(12, 30), everywhere), "nor has it there"
    assert not sounds_otherwise(found(0, 3.0, a_match(0, 10, asset=1)), clip, everywhere)
    assert not sounds_otherwise(found(0, 3.0, a_match(0, 10, speed=-1.0, offset=50)), clip, everywhere)
    assert not sounds_otherwise(found(0, 3.0), clip, everywhere)
    two = found(0, 3.0, a_match(0, 3, offset=20), a_match(6, 9, offset=50))
    assert sounds_otherwise(two, clip, everywhere), "three seconds here and three there"


def test_a_place_that_sounds_alike_or_a_sound_that_says_little_is_no_other() -> None:
    times, clip = np.arange(0, 100, 0.5), a_sound(0, 10)
    seen = found(0, 3.0, a_match(0, 10, offset=20))
    # The clip's own patches, each a little beside its moment.
    rows = clip.vectors[np.clip(np.round((times - 20.2) / 0.25).astype(int), 0, len(clip) - 1)]
    assert not sounds_otherwise(seen, clip, sounds_at((0, 100), vectors=rows))
    assert sounds_otherwise(seen, clip, sounds_at((0, 100), vectors=np.roll(rows, 40, axis=0)))
    # A hum, or one word for all of the time, is a sound that anything may have.
    hum = replace(clip, vectors=np.repeat(clip.vectors[:1], len(clip), axis=0))
    assert not sounds_otherwise(seen, hum, sounds_at((0, 100)))


def test_hours_of_another_sound_are_compared_here_and_there() -> None:
    clip, read = a_sound(0, 7200), sounds_at((0, 8000))
    seen = found(0, 3.0, a_match(0, 7200, offset=20))
    assert sounds_otherwise(seen, clip, read)
    rows, excess, n = _compared_sounds(seen.matches[0], clip, np.full(len(clip), 0.8, np.float32), read)
    assert (rows.size, excess.size, n) == (256, 256, len(clip))


@settings(deadline=None, max_examples=60)
@given(
    heard_at=st.tuples(st.integers(0, 8), st.integers(1, 12)),
    # Beside the moments of the clip, so that no distance is a whole second.
    there=st.lists(
        st.tuples(st.floats(0, 60).map(lambda t: round(t, 1) + 0.037), st.floats(0.5, 12)), max_size=3
    ),
    speed=st.sampled_from([0.8, 1.0, 1.25]),
    chance=st.sampled_from([0.3, 0.5, 0.7]),
)
def test_the_sound_of_a_place_is_compared_as_by_loops(
    heard_at: tuple[int, int], there: list[tuple[float, float]], speed: float, chance: float
) -> None:
    clip = a_sound(heard_at[0], sum(heard_at))
    read = sounds_at(*((start, start + seconds) for start, seconds in there))
    matches = [a_match(0, 4, offset=20, speed=speed), a_match(4, 9, offset=-2, speed=speed)]
    excess: list[float] = []
    rows: list[int] = []
    patches = list(zip(*read(0, -np.inf, np.inf), strict=True))
    for row, (t, vector) in enumerate(zip(clip.t_seconds, clip.vectors, strict=True)):
        match = next((m for m in matches if m.clip_start_seconds <= t < m.clip_end_seconds), None)
        if match is None:
            continue
        at = match.line.at(float(t))
        near = [float(vector @ other) for p, other in patches if abs(p - at) <= SAME_MOMENT_SECONDS]
        if near:
            excess.append(max(LEAST_SEEN, (max(near) - chance) / (1 - chance)))
            rows.append(row)
    seconds = 0.25 * len(rows)
    mean = float(np.mean(excess)) if excess else 0.0
    assume(abs(seconds - LEAST_OTHER_SECONDS) > 0.01)
    assume(abs(mean - SAME_SOUND) > 1e-4)
    differ = 1 + sum(
        min(1.0, (1 - float(clip.vectors[a] @ clip.vectors[b])) / 0.05) for a, b in pairwise(rows)
    )
    want = seconds > LEAST_OTHER_SECONDS and differ >= LEAST_HEARD and mean < SAME_SOUND
    assert sounds_otherwise(found(0, 3.0, *matches), clip, read, chance=chance) == want


@pytest.mark.parametrize(
    ("matches", "is_still"),
    [
        ((still(0, 10, ambiguity=STILL),), True),
        ((still(0, 10, ambiguity=STILL - 0.01),), False),
        ((still(0, 5, ambiguity=0.5, n=10), still(5, 10, ambiguity=0.9, n=2)), False),
        ((still(0, 5, ambiguity=0.5, n=1), still(5, 10, ambiguity=0.9, n=3)), True),
        ((), False),
    ],
)
def test_a_scene_is_still_where_most_frames_fit_elsewhere_too(
    matches: tuple[Match, ...], *, is_still: bool
) -> None:
    assert found(0, 3.0, *matches).is_still == is_still


def test_another_sound_takes_off_from_a_still_scene_alone() -> None:
    seen = replace(found(1, LINK + 0.5, still(0, 8)), has_other_sound=True)
    assert by_program(join([seen], [], LINK)) == {1: LINK + 0.5 + OTHER_SOUND}
    for sure in (replace(seen, has_other_sound=False), replace(seen, matches=(still(0, 8, ambiguity=0.5),))):
        assert by_program(join([sure], [], LINK)) == {1: LINK + 0.5}
    # No longer sure, it says nothing against a program that is heard meanwhile.
    other = heard(2, LINK - 0.5, a_match(0, 8))
    assert by_program(join([seen], [other], LINK))[2] == LINK - 0.5
    surely = replace(seen, log_odds=LINK, has_other_sound=False)
    assert by_program(join([surely], [other], LINK))[2] == LINK - BEHIND


def test_the_look_that_says_most_after_all_counts() -> None:
    """Of two looks at a program the better one is a still scene with another sound."""
    doubtful = replace(found(1, 5.0, still(0, 8), view="left half"), has_other_sound=True)
    told = found(1, 4.9, still(0, 8, ambiguity=0.1), view="centre")
    got = considered((a_look(n=4), []), (doubtful.look, [doubtful]), (told.look, [told]))
    assert got.assessed() == [told]
    assert by_program(got.joined(LINK)) == {1: 4.9}


def test_too_few_frames_show_nothing() -> None:
    one = asset_of(0)[1][50:52]
    place = [a_match(0, 10, offset=50.0)]
    assert sight_of([whole([0.0, 1.0], one)], place, read_band) is not None
    assert sight_of([whole([0.0, 10.0], one)], place, read_band) is None  # the end is not inside
    assert sight_of([whole([0.0], one[:1])], place, read_band) is None
    assert sight_of([whole([], one[:0])], place, read_band) is None
    assert sight_of([], place, read_band) is None
    assert sight_of([whole([0.0, 1.0], one)], [], read_band) is None
    # An asset whose pictures are all blank has none to compare with.
    nothing = np.zeros(0), np.zeros((0, 8), np.float32)
    assert sight_of([whole([0.0, 1.0], one)], place, lambda *_: nothing) is None


def test_a_place_beyond_the_asset_is_seen_as_little_as_can_be() -> None:
    got = sight_of(
        [whole([0.0, 1.0], asset_of(1)[1][:2])], [a_match(0, 10, asset=1, offset=100.0)], read_band
    )
    assert got is not None
    assert got.seen == LEAST_SEEN
    assert -MOST_OUT <= got.stands_out < -2


def test_the_look_that_shows_it_best_counts() -> None:
    """Through the others the program is cropped or covered; a look of one frame does not count."""
    rng = np.random.default_rng(0)
    t, place = np.arange(6.0), [a_match(0, 6, offset=50.0)]
    poor = whole(t.tolist(), shown_at(0, t + 150, rng, 0.0))
    good = whole(t.tolist(), shown_at(0, t + 50, rng, 0.5))
    lucky = whole([0.0], shown_at(0, t[:1] + 50, rng, 0.0))
    alone = sight_of([good], place, read_band)
    assert alone is not None
    assert alone.seen > 0.2
    assert sight_of([poor, good, lucky], place, read_band) == alone
    worse = sight_of([poor], place, read_band)
    assert worse is not None
    assert worse.seen < SEEN_ENOUGH


def test_only_what_is_clearly_seen_is_seen() -> None:
    place = a_match(0, 6)
    assert is_seen(heard(1, 0.0, place, sight=Sight(SEEN_ENOUGH, 0.0)))
    assert not is_seen(heard(1, 0.0, place, sight=Sight(SEEN_ENOUGH - 1e-6, 4.0)))
    assert not is_seen(heard(1, 9.0, place))
    assert not is_seen(heard(1, 0.0))


# ---------------------------------------------------------------- parts


def parts_of(
    seen: Sequence[Match], said: Sequence[Match], sight: Sight | None = None
) -> list[tuple[float, float, str, str]]:
    joined = Joined(
        1,
        found(1, 0.0, *seen, view="mirror") if seen else None,
        heard(1, 0.0, *said, sight=sight) if said else None,
        0.0,
    )
    return [
        (part.match.clip_start_seconds, part.match.clip_end_seconds, part.view, part.basis)
        for part in aligned_parts(joined)
    ]


def test_pictures_say_the_borders_where_both_show_a_stretch() -> None:
    assert parts_of([a_match(1, 9)], [a_match(0, 10)]) == [(1, 9, "mirror", "both")]
    assert parts_of([a_match(1, 9)], []) == [(1, 9, "mirror", "picture")]
    assert parts_of([], [a_match(0, 10)]) == [(0, 10, SOUND, "sound")]
    assert parts_of([], []) == []


def test_the_sound_tells_what_the_pictures_leave_over() -> None:
    """At both ends and between, if there is a patch of it; at another place of the asset it is no witness."""
    seen, said = [a_match(5, 9), a_match(20, 30, offset=90)], [a_match(0, 40)]
    assert parts_of(seen, said) == [
        (0, 5, SOUND, "sound"), (5, 9, "mirror", "both"), (9, 20, SOUND, "sound"),
        (20, 30, "mirror", "picture"), (30, 40, SOUND, "sound"),
    ]  # fmt: skip
    short = PATCH / 2
    assert parts_of([a_match(short, 9)], [a_match(0, 9)]) == [(short, 9, "mirror", "both")]
    assert parts_of([], [a_match(0, short)]) == [(0, short, SOUND, "sound")]


@pytest.mark.parametrize(("seen_odds", "heard_odds"), [(-6.0, 5.0), (5.0, -6.0), (5.0, 5.0)])
def test_of_two_places_the_surer_witness_says_which(seen_odds: float, heard_odds: float) -> None:
    """The odds of the link are its own; the other fills what time it leaves."""
    seen, said = a_match(2, 8, offset=500), a_match(0, 10, offset=100)
    (joined,) = join([found(1, seen_odds, seen)], [heard(1, heard_odds, said)], LINK)
    assert joined.log_odds == max(seen_odds, heard_odds)
    parts = [(part.match.asset_start_seconds, part.basis) for part in aligned_parts(joined)]
    assert parts == ([(100, "sound")] if heard_odds > seen_odds else [(502, "picture")])
    long = a_match(0, 30, offset=500)
    (joined,) = join([found(1, -6.0, long)], [heard(1, 5.0, said)], LINK)
    spans = [(p.match.clip_start_seconds, p.match.clip_end_seconds, p.basis) for p in aligned_parts(joined)]
    assert spans == [(0, 10, "sound"), (10, 30, "picture")]


def test_a_stretch_of_hours_is_looked_at_here_and_there() -> None:
    """As well as everywhere, in bounded memory."""
    rng = np.random.default_rng(1)
    t = np.arange(0.0, 100.0, 0.1)
    place = a_match(0, 100, offset=50.0)
    thin = sight_of([whole(t.tolist(), shown_at(0, t + 50, rng, 0.5))], [place], read_band)
    few = sight_of([whole(t[::4].tolist(), shown_at(0, t[::4] + 50, rng, 0.5))], [place], read_band)
    assert thin is not None
    assert few is not None
    assert thin.seen == pytest.approx(few.seen, abs=0.05)


def test_what_is_heard_and_seen_though_not_found_rests_on_both() -> None:
    place = [a_match(0, 10)]
    assert parts_of([], place, Sight(SEEN_ENOUGH, 1.0)) == [(0, 10, SOUND, "both")]
    assert parts_of([], place, Sight(0.0, 1.0)) == [(0, 10, SOUND, "sound")]
    # The frames that were found are those that are seen: the rest may be another's.
    assert parts_of([a_match(0, 6)], place, Sight(0.5, 1.0)) == [
        (0, 6, "mirror", "both"), (6, 10, SOUND, "sound"),
    ]  # fmt: skip


def test_the_rest_of_a_sound_keeps_its_line() -> None:
    """Half as fast: the seconds 4 to 10 of the clip are 32 to 35 of the asset."""
    joined = Joined(1, found(1, 0.0, a_match(0, 4)), heard(1, 0.0, a_match(0, 10, offset=30, speed=0.5)), 0.0)
    (_, rest) = aligned_parts(joined)
    assert (rest.match.asset_start_seconds, rest.match.asset_end_seconds) == (32.0, 35.0)


@settings(deadline=None)
@given(seen=some_matches(), said=some_matches())
def test_parts_share_no_time_and_cover_all_but_splinters(
    seen: tuple[Match, ...], said: tuple[Match, ...]
) -> None:
    parts = parts_of(seen, said)
    assert all(before[1] <= after[0] for before, after in pairwise(parts))
    assert [(start, end) for start, end, _, basis in parts if basis != "sound"] == [
        (match.clip_start_seconds, match.clip_end_seconds) for match in seen
    ]
    taken = covered(seen)
    wanted = []
    for match in said:
        run: list[int] = []
        for second in range(14):
            if second in covered([match]) - taken:
                run.append(second)
                continue
            # Without any picture even a splinter is told.
            if run and (len(run) > PATCH or not seen):
                wanted.append((run[0], run[-1] + 1))
            run = []
    assert [(start, end) for start, end, _, basis in parts if basis == "sound"] == wanted
    for start, end, view, basis in parts:
        own = [match for match in seen if (match.clip_start_seconds, match.clip_end_seconds) == (start, end)]
        assert view == (SOUND if basis == "sound" else "mirror")
        if basis != "sound":
            assert (basis == "both") == is_same_place(own, said)
