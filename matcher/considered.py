"""Everything that speaks for any program: look by look, and then picture and sound together.

A clip's pictures and its sound are assessed by the same code, each against its own descriptors. Here they
meet. What is found for one program by both, at the same place of the same asset, adds up; what only one
says stands alone; and where the sound says a program and the pictures are another's, the pictures win.

Log-odds of the two are those of :mod:`matcher.decision`. A place that the sound points to is also looked at
in the pictures, see :func:`sight_of`: a cropped or covered frame that is too poor to be found among millions
can still be recognised where one knows what to look for.

Shape letters: ``n`` frames of a look, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.view import CatalogView
from matcher.decision import LEAST_HEARD, SURE_EXCESS, Evidence, Sight, different_frames
from matcher.elsewhere import BandReader
from matcher.lines import TOLERANCE_SECONDS
from matcher.localize import Match
from matcher.records import Basis, Descriptors, Look
from matcher.refine import similarity_on_line
from matcher.sound import HALF_PATCH_SECONDS

#: Two matches of one asset that are this close at the middle of their common time say the same place.
SAME_PLACE_SECONDS = 1.5 * TOLERANCE_SECONDS
#: Log-odds that two witnesses add who name the same place: by chance they would do so in one of twenty, even
#: in an asset of a minute.
COINCIDENCE = 3.0
#: A frame that resembles a place less than chance does counts against it no more than this.
LEAST_SEEN = -0.25
#: Fewer frames than this show nothing of a place.
FEWEST_SEEN = 2
#: Of a stretch at most so many frames are looked at, evenly spread: one of hours takes no more memory.
MOST_SEEN = 256
#: The rest of an asset is looked at so far around a place.
AROUND_SECONDS = 120.0
#: Similarities to all of it that differ less than this are alike, and a place stands out by no more than so
#: many standard deviations.
LEAST_SPREAD, MOST_OUT = 0.03, 4.0
#: Pictures that show this much of the way from chance to identity, where the sound points, agree with it.
SEEN_ENOUGH = 0.1
#: A match that another place of the same asset fits so well, of 1, may be anywhere: the scene is still.
STILL = 0.75
#: So long must clip and asset both sound where they match, for anything to be said of it.
LEAST_OTHER_SECONDS = 5.0
#: Sounds that go less of the way from chance to identity than this, in the mean, are not the same.
SAME_SOUND = 0.1
#: An asset's patch of sound this far from a clip's moment is of that moment.
SAME_MOMENT_SECONDS = 1.0
#: Log-odds of a still scene whose sound is not the clip's: one copy in ten is taken to have another sound.
OTHER_SOUND = float(np.log(0.1))
#: A sound-only program is this much behind the program that the pictures of the same time surely are.
BEHIND = 1.0


@dataclass(frozen=True)
class Assessed:
    """One candidate with what was found for it, through the view that shows it best, or by the sound.

    Attributes:
        program: Its position.
        look: The look at the clip in which it was found.
        matches: Aligned stretches; rows are frames of ``look``.
        evidence: None without matches.
        log_odds: Of the link; minus infinity without evidence.
        votes: Of the look's frames.
        has_other_sound: The place that the pictures say sounds otherwise than the clip, see
            :func:`has_other_sound`; False of what was heard.
    """

    program: int
    look: Look
    matches: tuple[Match, ...]
    evidence: Evidence | None
    log_odds: float
    votes: float
    has_other_sound: bool = False

    @property
    def is_still(self) -> bool:
        """Whether the places might as well be others: frames of a still scene resemble all of it."""
        if not self.matches:
            return False
        sizes = [match.run.size for match in self.matches]
        return bool(np.average([match.ambiguity for match in self.matches], weights=sizes) >= STILL)

    @property
    def other_sound(self) -> float:
        """What is taken off the log-odds of a still scene with another sound: 0 or less.

        That a clip shows such a scene does not say that this stretch of it was copied; if it was, its sound
        should be there too. Where pictures tell the place from others, sound says nothing against it.
        """
        return OTHER_SOUND if self.has_other_sound and self.is_still else 0.0

    @property
    def confidence(self) -> float:
        """Probability of the link, 0 to 1."""
        return _probability(self.log_odds)


@dataclass(frozen=True)
class Joined:
    """One candidate with what picture and sound say together.

    Attributes:
        program: Its position.
        picture: What was found in the pictures, in the best look; None where no look has it.
        sound: What was found in the sound; None where it says nothing of this program.
        log_odds: Of the link; minus infinity without evidence.
        is_same_place: Both are found, at the same place of the same asset.
    """

    program: int
    picture: Assessed | None
    sound: Assessed | None
    log_odds: float
    is_same_place: bool = False

    @property
    def parts(self) -> tuple[Assessed, ...]:
        """Those of the two that have evidence."""
        return tuple(one for one in (self.picture, self.sound) if one is not None and one.evidence)

    @property
    def confidence(self) -> float:
        """Probability of the link, 0 to 1."""
        return _probability(self.log_odds)

    @property
    def similarity(self) -> float:
        """Mean similarity of aligned frames, of the pictures where they align, else of the sound; else 0."""
        evidence = next((one.evidence for one in self.parts), None)
        return evidence.similarity if evidence else 0.0

    @property
    def votes(self) -> float:
        """Of either."""
        return max((one.votes for one in (self.picture, self.sound) if one is not None), default=0.0)


def _probability(log_odds: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0))))


def key_of(look: Look) -> tuple[str, int]:
    """What tells a clip's looks apart: a view may be tried on a few frames, and then taken of all."""
    return look.view, len(look)


@dataclass(frozen=True, eq=False)
class Rest:
    """What the candidates of one look rest on.

    Attributes:
        bars: (n,) float32: the similarity that another frame must reach to be a neighbour that counts.
        programs: Positions of the programs that have such a neighbour, or are named all the same; ascending.
    """

    bars: NDArray[np.float32]
    programs: NDArray[np.int32]


@dataclass(frozen=True)
class Considered:
    """A clip with everything that speaks for any program.

    Attributes:
        clip: Its descriptors.
        view: The state of the index that was searched.
        by_look: Candidates of each look, in the order of ``clip.looks``.
        rests: What each of these rests on; None of a look that was not searched.
    """

    clip: Descriptors
    view: CatalogView
    by_look: tuple[list[Assessed], ...]
    rests: tuple[Rest | None, ...] = ()

    def by_key(self) -> dict[tuple[str, int], list[Assessed]]:
        """Candidates by :func:`key_of` their look."""
        return {key_of(look): found for look, found in zip(self.clip.looks, self.by_look, strict=True)}

    def rests_by_key(self) -> dict[tuple[str, int], Rest]:
        """What the candidates of each look rest on, by :func:`key_of` the look."""
        pairs = zip(self.clip.looks, self.rests, strict=False)
        return {key_of(look): rest for look, rest in pairs if rest is not None}

    def assessed(self) -> list[Assessed]:
        """Every candidate of the pictures, best first; of several looks at one program the best counts."""
        return _best_of([found for look, found in self._pairs() if look.kind == "picture"])

    def heard(self) -> list[Assessed]:
        """Every candidate of the sound, best first."""
        return _best_of([found for look, found in self._pairs() if look.kind == "sound"])

    @property
    def is_clearly_heard(self) -> bool:
        """Whether the sound is clearly some program's, whatever the pictures show."""
        return any(one.evidence is not None and one.evidence.excess >= SURE_EXCESS for one in self.heard())

    def without_sound(self) -> Considered:
        """The same of the pictures alone."""
        by_look = [
            [replace(one, has_other_sound=False) for one in found]
            for look, found in self._pairs()
            if look.kind == "picture"
        ]
        rests = [
            rest for look, rest in zip(self.clip.looks, self.rests, strict=False) if look.kind == "picture"
        ]
        return Considered(replace(self.clip, sound=None), self.view, tuple(by_look), tuple(rests))

    def without(self, programs: Collection[int]) -> Considered:
        """The same with nothing found for some programs, by position.

        What was found for others stays as it was measured, with those among their rivals.
        """
        by_look = tuple([one for one in found if one.program not in programs] for found in self.by_look)
        return replace(self, by_look=by_look)

    def joined(self, link_log_odds: float) -> list[Joined]:
        """Every candidate of either, best first; see :func:`join`."""
        return join(self.assessed(), self.heard(), link_log_odds)

    def _pairs(self) -> list[tuple[Look, list[Assessed]]]:
        return list(zip(self.clip.looks, self.by_look, strict=True))


def _best_of(by_look: Sequence[Sequence[Assessed]]) -> list[Assessed]:
    best: dict[int, Assessed] = {}
    for assessed in by_look:
        for found in assessed:
            known = best.get(found.program)
            if known is None or _own_log_odds(found) > _own_log_odds(known):
                best[found.program] = found
    # A stable sort: candidates of one confidence stay in the order of their votes.
    by_votes = sorted(best.values(), key=lambda a: (-a.votes, a.program))
    return sorted(by_votes, key=lambda a: -_own_log_odds(a))


def join(pictures: Sequence[Assessed], sounds: Sequence[Assessed], link_log_odds: float) -> list[Joined]:
    """Put together what pictures and sound say of each program.

    Args:
        pictures: One a program.
        sounds: Likewise.
        link_log_odds: From which the pictures by themselves are sure.

    Returns:
        Every program of either, best first.
    """
    by_picture = {found.program: found for found in pictures}
    by_sound = {found.program: found for found in sounds}
    # Programs that only guess at something keep the order in which they came.
    joined = [
        _joined(program, by_picture.get(program), by_sound.get(program))
        for program in dict.fromkeys([*by_picture, *by_sound])
    ]
    sure = [one for one in pictures if one.evidence and _own_log_odds(one) >= link_log_odds]
    return sorted((_behind(one, sure) for one in joined), key=lambda one: -one.log_odds)


def _joined(program: int, picture: Assessed | None, sound: Assessed | None) -> Joined:
    seen, heard = (
        _own_log_odds(one) if one is not None and one.evidence else None for one in (picture, sound)
    )
    agrees = picture is not None and sound is not None and is_same_place(picture.matches, sound.matches)
    return Joined(program, picture, sound, join_log_odds(seen, heard, is_same_place=agrees), agrees)


def _own_log_odds(found: Assessed) -> float:
    """Log-odds by one witness, less what :attr:`Assessed.other_sound` takes off."""
    return found.log_odds + found.other_sound


def join_log_odds(seen: float | None, heard: float | None, *, is_same_place: bool) -> float:
    """Log-odds of a program by what is seen and heard of it; None where it is not.

    Two witnesses who name the same place are independent of each other, and their odds multiply; else the
    better one counts.
    """
    odds = [one for one in (seen, heard) if one is not None]
    best = max(odds, default=-np.inf)
    return max(best, sum(odds) + COINCIDENCE) if is_same_place else best


def _behind(one: Joined, sure: Sequence[Assessed]) -> Joined:
    """A program that is only heard, and whose time surely shows another, comes after that one."""
    if one.sound is None or one.sound.evidence is None or one.is_same_place:
        return one
    shown = [
        other
        for other in sure
        if other.program != one.program and _common_share(one.sound.matches, other.matches) > 0.5
    ]
    if not shown or (one.picture is not None and one.picture in sure):
        return one
    return replace(one, log_odds=min(one.log_odds, min(other.log_odds for other in shown) - BEHIND))


def _common_share(matches: Sequence[Match], others: Sequence[Match]) -> float:
    """The share of the clip time of ``matches`` that ``others``, which share no time, cover too."""
    total = sum(match.clip_end_seconds - match.clip_start_seconds for match in matches)
    common = sum(max(0.0, overlap_seconds(match, other)) for match in matches for other in others)
    return common / total if total > 0 else 0.0


def overlap_seconds(one: Match, other: Match) -> float:
    """Clip time that two matches share; negative, how far they are apart."""
    start = max(one.clip_start_seconds, other.clip_start_seconds)
    return min(one.clip_end_seconds, other.clip_end_seconds) - start


def agree(one: Match, other: Match) -> bool:
    """Whether two matches of one program say the same place of the same asset."""
    if one.asset != other.asset or overlap_seconds(one, other) <= 0:
        return False
    start = max(one.clip_start_seconds, other.clip_start_seconds)
    middle = start + 0.5 * overlap_seconds(one, other)
    return abs(one.line.at(middle) - other.line.at(middle)) <= SAME_PLACE_SECONDS


def is_same_place(pictures: Sequence[Match], sounds: Sequence[Match]) -> bool:
    """Whether any two of them agree."""
    return any(agree(picture, sound) for picture in pictures for sound in sounds)


def sight_of(
    looks: Sequence[tuple[Look, NDArray[np.float32]]], matches: Sequence[Match], read_band: BandReader
) -> Sight | None:
    """Look at the places that the sound points to.

    For each look the frames inside the matches are compared with the asset's frames at their moments, and
    with those around. The best look counts, of each figure: through the others the program is cropped or
    covered.

    Args:
        looks: At the pictures, each with (n,) what chance gives its frames.
        matches: Of the sound, in one program.
        read_band: Gives the picture descriptors of an asset between two times.

    Returns:
        None where no look has :data:`FEWEST_SEEN` frames there.
    """
    excess: list[list[NDArray[np.float32]]] = [[] for _ in looks]
    out: list[list[NDArray[np.float32]]] = [[] for _ in looks]
    for match in matches:
        ends = match.line.at(np.array([match.clip_start_seconds, match.clip_end_seconds]))
        seconds, band = read_band(match.asset, ends.min() - AROUND_SECONDS, ends.max() + AROUND_SECONDS)
        for number, (look, level) in enumerate(looks):
            inside = np.flatnonzero(
                (look.t_seconds >= match.clip_start_seconds) & (look.t_seconds < match.clip_end_seconds)
            )
            if inside.size == 0 or seconds.size == 0:
                continue
            inside = _spread(inside)
            similarity = look.vectors[inside] @ band.T
            on_line = similarity_on_line(similarity, seconds, match.line.at(look.t_seconds[inside]))
            room = np.maximum(1.0 - level[inside], 0.01)
            excess[number].append(np.clip((on_line - level[inside]) / room, LEAST_SEEN, 1.0))
            spread = np.maximum(similarity.std(axis=1), LEAST_SPREAD)
            out[number].append(np.clip((on_line - similarity.mean(axis=1)) / spread, -MOST_OUT, MOST_OUT))
    seen, stands_out = _best_mean(excess), _best_mean(out)
    return None if seen is None or stands_out is None else Sight(seen, stands_out)


def has_other_sound(found: Assessed, sound: Look, level: NDArray[np.float32], read_band: BandReader) -> bool:
    """Whether the place that the pictures say sounds otherwise than the clip does.

    Nothing is said where the clip plays it backwards, where either has no sound for long enough, or where the
    clip's says too little: a tone or a noise that lasts.

    Args:
        found: Of the pictures, for a program of which nothing was found in the sound.
        sound: What was heard of the clip, n patches.
        level: (n,) what chance gives them.
        read_band: Gives the sound descriptors of an asset between two times.
    """
    compared = [
        _compared_sounds(match, sound, level, read_band) for match in found.matches if not match.is_reversed
    ]
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _, _ in compared)])
    step = float(np.median(np.diff(sound.t_seconds))) if len(sound) > 1 else 0.0
    n_patches = sum(n for _, _, n in compared)
    if n_patches * step < LEAST_OTHER_SECONDS or different_frames(sound.vectors[rows]) < LEAST_HEARD:
        return False
    return float(np.concatenate([excess for _, excess, _ in compared]).mean()) < SAME_SOUND


def _compared_sounds(
    match: Match, sound: Look, level: NDArray[np.float32], read_band: BandReader
) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
    """The patches of a clip's sound that are inside a match and have one of the asset at their moment.

    Returns:
        Which these are, of a long match some of them, evenly spread; how much of the way from chance to
        identity each goes to the one that it resembles most, for pictures tell the moment to a fraction of a
        second, in which a sound has changed; and how many there are of the whole match.
    """
    times = sound.t_seconds
    inside = np.flatnonzero((times >= match.clip_start_seconds) & (times < match.clip_end_seconds))
    nothing = np.zeros(0, np.int64), np.zeros(0, np.float32), 0.0
    if inside.size == 0:
        return nothing
    n_inside, inside = inside.size, _spread(inside)
    there = match.line.at(times[inside])
    seconds, band = read_band(
        match.asset, there.min() - SAME_MOMENT_SECONDS, there.max() + SAME_MOMENT_SECONDS
    )
    if seconds.size == 0:
        return nothing
    is_near = np.abs(there[:, None] - seconds) <= SAME_MOMENT_SECONDS  # (rows, patches of the asset)
    similarity = np.where(is_near, sound.vectors[inside] @ band.T, -1.0).max(axis=1)
    has = is_near.any(axis=1)
    rows = inside[has]
    excess = (similarity[has] - level[rows]) / np.maximum(1.0 - level[rows], 0.01)
    return rows, np.clip(excess, LEAST_SEEN, 1.0).astype(np.float32), n_inside * float(has.mean())


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most :data:`MOST_SEEN` of some rows."""
    if rows.size <= MOST_SEEN:
        return rows
    return rows[np.linspace(0, rows.size - 1, MOST_SEEN).astype(np.int64)]


def _best_mean(by_look: Sequence[Sequence[NDArray[np.float32]]]) -> float | None:
    """The highest mean of any look that has enough frames; None if none has."""
    joined = [np.concatenate(values) for values in by_look if values]
    return max((float(one.mean()) for one in joined if one.size >= FEWEST_SEEN), default=None)


def is_seen(heard: Assessed) -> bool:
    """Whether the pictures clearly show the place that was heard."""
    sight = heard.evidence.sight if heard.evidence is not None else None
    return sight is not None and sight.seen >= SEEN_ENOUGH


@dataclass(frozen=True)
class Part:
    """A stretch of a link, with what it rests on.

    Attributes:
        match: Where it is.
        view: Name of the look that shows it.
        basis: Whether picture or sound does, or both.
    """

    match: Match
    view: str
    basis: Basis


def aligned_parts(found: Joined) -> list[Part]:
    """The stretches of a candidate, by clip time: one kind's, and of the other's what these leave over.

    Pictures tell borders to a fraction of a second, a patch of sound to one or two: where both show a
    stretch, the pictures say where it begins and ends. Only where they say another place than the sound, and
    less surely, it is the sound that says where.
    """
    seen = found.picture.matches if found.picture is not None else ()
    heard = found.sound.matches if found.sound is not None else ()
    if _is_led_by_sound(found):
        parts = _heard_parts(found, heard)
        parts += [part for match in seen for part in _seen_parts(found, _left_over(match, heard), heard)]
    else:
        parts = _seen_parts(found, seen, heard)
        parts += [part for match in heard for part in _heard_parts(found, _left_over(match, seen))]
    return sorted(parts, key=lambda part: part.match.clip_start_seconds)


def _is_led_by_sound(found: Joined) -> bool:
    if found.is_same_place or found.picture is None or found.sound is None or not found.sound.evidence:
        return False
    return found.sound.log_odds > found.picture.log_odds


def _seen_parts(found: Joined, matches: Sequence[Match], heard: Sequence[Match]) -> list[Part]:
    if found.picture is None:
        return []
    view = found.picture.look.view
    return [Part(match, view, "both" if is_same_place([match], heard) else "picture") for match in matches]


def _heard_parts(found: Joined, matches: Sequence[Match]) -> list[Part]:
    if found.sound is None:
        return []
    # With pictures that agree at the place that was heard, though they would not have been found alone.
    # Where some were found, it is those that agree, and nothing is known of the rest.
    is_all_seen = is_seen(found.sound) and not (found.picture is not None and found.picture.matches)
    basis: Basis = "both" if is_all_seen else "sound"
    return [Part(match, found.sound.look.view, basis) for match in matches]


def _left_over(match: Match, taken: Sequence[Match]) -> list[Match]:
    """What of a match's clip time the matches ``taken`` leave, if it is long enough to be told by sound."""
    pieces = [(match.clip_start_seconds, match.clip_end_seconds)]
    for other in taken:
        low, high = other.clip_start_seconds, other.clip_end_seconds
        cut = [[(start, min(stop, low)), (max(start, high), stop)] for start, stop in pieces]
        pieces = [(start, stop) for pair in cut for start, stop in pair if start < stop]
    shortest = 0.0 if not taken else 2 * HALF_PATCH_SECONDS
    return [
        replace(match, clip_start_seconds=start, clip_end_seconds=stop)
        for start, stop in pieces
        if stop - start > shortest
    ]
