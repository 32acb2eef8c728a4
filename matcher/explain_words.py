"""What is said of an explanation: a headline, sentences for and against, and the object of ``--json``.

The sentences give the figures that they rest on. What counts as much or little in them is for reading only:
the decision is made from the weighted evidence, which the explanation's balance shows.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from matcher.considered import is_seen
from matcher.decision import Evidence
from matcher.explain import Balance, Common, Explanation, Side
from matcher.explain_series import Series
from matcher.inputs import one_line
from matcher.localize import Match
from matcher.records import WHOLE, Kind
from matcher.show import AS_SAID, clock

#: Share of the way from chance to identity that is said to be far, and little.
FAR, LITTLE = 0.5, 0.4
#: Lead over the next program that is said to be clear, and none.
CLEAR_LEAD, NO_LEAD = 0.05, 0.02
#: Different frames that are said to be many, and few.
MANY_FRAMES, FEW_FRAMES = 6.0, 4.0
#: Share of the clip that is said to be most of it, and a small part.
MOST, SMALL_PART = 0.8, 0.4
#: A match of so many stretches, as if of one length, may be chance's.
MANY_PIECES = 2.5
#: A speed this much (in octaves) from the plain one is said.
OTHER_SPEED = 0.05
#: From this ambiguity on, another place fits about as well.
UNSURE_PLACE = 0.95

#: What a look consists of.
UNIT: dict[Kind, str] = {"picture": "frame", "sound": "moment of sound"}
UNITS: dict[Kind, str] = {"picture": "frames", "sound": "moments of sound"}
_MATCHING: dict[Kind, str] = {"picture": "matching frames", "sound": "matching sound"}


#: What is said of a program by the clip's decision, where it is meant and where it is not.
_YES = {"linked": "LINKED to", "review": "FOR REVIEW: perhaps"}
_NO = {"linked": "NOT linked to", "review": "NOT up for review:", "none": "NO LINK to"}


def headline(explanation: Explanation) -> str:
    """The decision, of which program, how sure, and what would be needed."""
    record = explanation.record
    if record is None:
        return "No program to explain: " + (
            "the store is empty" if not explanation.view.programs else "the clip has no frame to compare"
        )
    name = record.program_id + (f" ({record.title})" if record.title else "")
    verb = (_YES if explanation.decision != "none" else _NO)[explanation.answer.decision]
    bars = f"links from {explanation.link_bar:.4g}, review from {explanation.review_bar:.4g}"
    by = f", {AS_SAID}" if _is_said(explanation) else ""
    return f"{verb} {one_line(name)}{by}: confidence {sureness(explanation.confidence)} ({bars})"


def _is_said(explanation: Explanation) -> bool:
    """Whether a person decided what is said of the program explained."""
    reviewed, record = explanation.answer.reviewed, explanation.record
    if reviewed is None or record is None:
        return False
    return reviewed.decides or record.program_id in reviewed.rejected


def spoken(explanation: Explanation) -> str:
    """What people said of the clip, and what would be answered without; empty where nothing of it holds."""
    reviewed, words = explanation.answer.reviewed, list[str]()
    if reviewed is None:
        return ""
    if reviewed.word == "program":
        words.append(f"it is from {reviewed.program_id}" + ("" if reviewed.decides else ", which is gone"))
    if reviewed.word == "none":
        words.append("it is from no program")
    if reviewed.rejected:
        words.append(f"it is not from {', '.join(reviewed.rejected)}")
    best = "" if reviewed.best is None else f" {reviewed.best}"
    without = f"{reviewed.decision}{best}, confidence {sureness(reviewed.confidence)}"
    said = f"A person said: {'; '.join(words)} ({reviewed.at[:10]})"
    return f"{said}. The evidence alone says: {without}" if words else ""


def sureness(confidence: float) -> str:
    """A confidence in few letters that is never rounded to 0 or 1."""
    if confidence < 0.001:
        return "below 0.001"
    return "above 0.999" if confidence > 0.999 else f"{confidence:.3f}"


def instead(explanation: Explanation) -> str:
    """What else is to be said of the clip, a line each: see :func:`remarks`."""
    return "\n".join(remarks(explanation))


def remarks(explanation: Explanation) -> tuple[str, ...]:
    """What people said, which other programs it is linked to, what makes the sum, and why nothing is heard.

    Each where there is something to say.
    """
    unheard = f"Nothing is heard: {explanation.unheard}" if explanation.unheard else ""
    found = (spoken(explanation), others(explanation), together(explanation), unheard)
    return tuple(remark for remark in found if remark)


def others(explanation: Explanation) -> str:
    """Which other programs the clip is linked to or reviewed for; empty where there is none."""
    own = None if explanation.record is None else explanation.record.program_id
    found = [link for link in explanation.answer.links if link.program_id != own]
    if not found:
        return ""
    names = ", ".join(f"{link.program_id} ({sureness(link.confidence)})" for link in found)
    verb = "linked to" if explanation.answer.decision == "linked" else "up for review with"
    also = "also " if explanation.decision != "none" else ""
    return f"The clip is {also}{verb} {names}"


def together(explanation: Explanation) -> str:
    """How picture and sound make the log-odds; empty where nothing is heard, or nothing aligns."""
    common = explanation.common
    if explanation.sound is None or common is None:
        return ""
    said = ", ".join(
        f"{kind} {'not found' if odds is None else signed(odds)}"
        for kind, odds in (("picture", common.picture), ("sound", common.sound))
    )
    if common.coincidence is not None:
        said += f", the same place {signed(common.coincidence)}"
    elif common.picture is not None and common.sound is not None:
        said += ", of which the better one counts"
    if common.behind < 0:
        said += f", the pictures are another’s {signed(common.behind)}"
    if common.other_sound < 0:
        said += f", a still scene with another sound {signed(common.other_sound)}"
    return f"Log-odds: {said}; together {signed(common.total)}"


def signed(value: float) -> str:
    """Log-odds to a tenth, with their sign."""
    tenths = round(value, 1)
    return "0" if tenths == 0 else f"{tenths:+.1f}"


#: True speaks for, False against, None is neither.
_Said = tuple[bool | None, str]


def speaks(explanation: Explanation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences for the program, and sentences against it, of the pictures and then of the sound."""
    seen, heard = speaks_of_picture(explanation), speaks_of_sound(explanation)
    return (*seen[0], *heard[0]), (*seen[1], *heard[1])


def speaks_of_picture(explanation: Explanation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the pictures."""
    found = _of_side(explanation, explanation.picture)
    better = _better(explanation)
    return _parted([*found, (False, better)] if better else found)


def speaks_of_sound(explanation: Explanation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the sound, and of the two together; none where nothing is heard."""
    sound = explanation.sound
    if sound is None or explanation.program is None:
        return (), ()
    found = _of_side(explanation, sound)
    if sound.evidence is not None:
        found.insert(
            0,
            (
                sound.log_odds > 0,
                f"the sound and what is seen where it points give log-odds {signed(sound.log_odds)}",
            ),
        )
        found.append(_sight(sound, sound.evidence))
    if explanation.common is not None:
        found += _of_both(explanation.common, is_same_place=_is_same_place(explanation))
    other = disagreement(explanation)
    return _parted([*found, (False, other)] if other else found)


def disagreement(explanation: Explanation) -> str:
    """Whose the sound is, where it is another program's than the one explained; else empty."""
    owner, sound = explanation.owner, explanation.sound
    if owner is None or sound is None or owner.program == explanation.program:
        return ""
    name = explanation.name(owner.program)
    # A clip of several programs has the sound of each.
    is_montage = explanation.decision != "none" and name in {
        link.program_id for link in explanation.answer.links
    }
    bar = explanation.review_bar
    if is_montage or owner.confidence < bar or sound.confidence >= bar:
        return ""
    said = f"the sound is {name}’s (confidence {sureness(owner.confidence)})"
    return f"picture and sound disagree: {said}" if explanation.picture.confidence >= bar else said


def _parted(found: list[_Said]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(text for is_for, text in found if is_for is True),
        tuple(text for is_for, text in found if is_for is False),
    )


def _of_side(explanation: Explanation, side: Side) -> list[_Said]:
    """What one kind says by itself."""
    evidence = side.evidence
    if evidence is None:
        return [(False, said) for said in _why_nothing(explanation, side)]
    return [
        _similarity(side, evidence), _lead(explanation, side, evidence), _frames(side, evidence),
        _coverage(side, evidence), *_oddities(side, evidence),
    ]  # fmt: skip


def _sight(sound: Side, evidence: Evidence) -> _Said:
    """What the pictures show of the place that is heard."""
    sight, balance, assessed = evidence.sight, sound.balance, sound.assessed
    if sight is None or balance is None or balance.shown is None or assessed is None:
        return True, "the pictures show nothing there, so nothing in them speaks against the sound"
    figures = (
        f"({100 * sight.seen:.0f} % of the way from chance to identical,"
        f" {signed(sight.stands_out)} deviations above the rest of the file)"
    )
    if balance.shown < 0:
        return False, f"the pictures do not clearly show the place that is heard {figures}"
    how = "show" if is_seen(assessed) else "may well be of"
    return True, f"the pictures {how} the place that is heard {figures}"


def _is_same_place(explanation: Explanation) -> bool:
    return explanation.joined is not None and explanation.joined.is_same_place


def _of_both(common: Common, *, is_same_place: bool) -> list[_Said]:
    """Whether picture and sound say the same."""
    said: list[_Said] = []
    if is_same_place:
        more = "" if common.coincidence is None else f", which adds {signed(common.coincidence)}"
        said.append((True, f"picture and sound name the same place{more}"))
    elif common.picture is not None and common.sound is not None:
        said.append((False, "picture and sound name different places, so only the better one counts"))
    if common.behind < 0:
        taken = signed(common.behind)
        said.append((False, f"the pictures of the same time are surely another program’s ({taken})"))
    if common.other_sound < 0:
        taken = signed(common.other_sound)
        said.append((False, f"other places show this still scene, and the sound here is another ({taken})"))
    return said


def _grade(value: float, much: float, little: float) -> bool | None:
    return True if value >= much else False if value < little else None


def _why_nothing(explanation: Explanation, side: Side) -> list[str]:
    """Why a program without evidence has none."""
    series, n, unit, units = side.series, len(side.look), UNIT[side.kind], UNITS[side.kind]
    if n == 0:
        return [f"the clip has no {unit} that shows anything"]
    if explanation.program is None:
        return ["the store holds no program"]
    above = int(series.above_chance.sum())
    if side.kind == "sound" and not np.isfinite(series.similarity).any():
        said = ["the store holds no sound of it"]
    elif above == 0:
        best = int(np.nanargmax(series.similarity)) if np.isfinite(series.similarity).any() else 0
        said = [
            f"no {unit} is above what chance gives (best {series.similarity[best]:.2f},"
            f" chance {series.chance[best]:.2f})"
        ]
    else:
        said = [f"{above} of {n} {units} are above what chance gives, but no stretch of them aligns"]
    rival = series.rival()
    if rival >= 0:
        nearer = int((series.other > series.similarity).sum())
        said.append(
            f"other programs, mostly {explanation.name(rival)}, resemble {nearer} of {n} {units} more"
        )
    if explanation.program not in {voted.program for voted in side.votes}:
        said.append(f"no {unit} votes for it")
    return said


def _similarity(side: Side, evidence: Evidence) -> _Said:
    series = side.series
    chance = float(series.chance[series.matched].mean())
    figures = f"(similarity {evidence.similarity:.2f}, chance {chance:.2f})"
    grade = _grade(evidence.excess, FAR, LITTLE)
    what, how = _MATCHING[side.kind], "far" if grade else "little"
    verb = "are" if side.kind == "picture" else "is"
    return grade, f"the {what} {verb} {how} above what chance gives {figures}"


def _lead(explanation: Explanation, side: Side, evidence: Evidence) -> _Said:
    rival, what = side.series.rival(), _MATCHING[side.kind]
    grade = _grade(evidence.lead, CLEAR_LEAD, NO_LEAD)
    if rival < 0:
        said = f"no other program resembles the {what} more than chance does"
        return grade, said if grade else f"it leads what chance gives by no more than {evidence.lead:.2f}"
    name = explanation.name(rival)
    if evidence.lead < 0:
        return False, f"{name} resembles the {what} more (lead {evidence.lead:.2f})"
    if grade is False:
        return False, f"{name} resembles the {what} about as much (lead {evidence.lead:.2f})"
    them = "them" if side.kind == "picture" else "it"
    return grade, f"the next program, {name}, resembles {them} clearly less (lead {evidence.lead:.2f})"


def _frames(side: Side, evidence: Evidence) -> _Said:
    grade = _grade(evidence.frames, MANY_FRAMES, FEW_FRAMES)
    unit = (UNITS if round(evidence.frames) != 1 else UNIT)[side.kind]
    count = f"{evidence.frames:.0f} different {unit}"
    return grade, f"{count} agree" if grade else f"only {count}"


def _coverage(side: Side, evidence: Evidence) -> _Said:
    grade = _grade(evidence.coverage, MOST, SMALL_PART)
    share = f"{100 * evidence.coverage:.0f} % of the {UNITS[side.kind]} that no other program explains"
    return grade, f"{share} match" if grade else f"only {share} match"


def _oddities(side: Side, evidence: Evidence) -> list[_Said]:
    said: list[_Said] = []
    it = "it" if side.kind == "picture" else "the sound"
    if evidence.is_further:
        said.append((False, f"found only in the second look, through the view “{side.look.view}”"))
    if evidence.is_reversed:
        said.append((False, f"{it} fits only played backwards"))
    if evidence.speed >= OTHER_SPEED:
        longest = max(side.matches, key=lambda match: match.run.size)
        said.append((False, f"{it} fits only at {abs(longest.line.speed):.2f} times the speed"))
    if evidence.pieces >= MANY_PIECES:
        said.append((False, f"{it} is pieced together from {len(side.matches)} stretches"))
    if any(match.ambiguity >= UNSURE_PLACE for match in side.matches):
        of = "" if side.kind == "picture" else " of the sound"
        said.append((False, f"the place{of} is unsure: another one of the program fits about as well"))
    return said


def _better(explanation: Explanation) -> str:
    """A program that is more likely, if there is one."""
    best = explanation.answer.candidates[:1]
    if not best or explanation.record is None or best[0].program_id == explanation.record.program_id:
        return ""
    if best[0].log_odds <= explanation.log_odds:
        return ""
    return f"{best[0].program_id} is the better candidate (confidence {sureness(best[0].confidence)})"


def where(explanation: Explanation, match: Match) -> str:
    """One match in words: which seconds of the clip are which of the asset."""
    asset = explanation.asset(match.asset)
    said = (
        f"{clock(match.clip_start_seconds)}–{clock(match.clip_end_seconds)} is {asset.asset_id}"
        f" {clock(match.asset_start_seconds)}–{clock(match.asset_end_seconds)}"
    )
    if match.is_reversed:
        said += " backwards"
    also = [f"{explanation.asset(p.asset).asset_id} {clock(p.asset_start_seconds)}" for p in match.also]
    return f"{said} (also at {', '.join(also)})" if also else said


# ---------------------------------------------------------------- JSON


def to_json(explanation: Explanation) -> dict[str, Any]:
    """The object that ``--json`` prints, with the numbers of the picture.

    ``confidence`` and ``log_odds`` are those of the link; all that stands beside ``view`` is of the pictures,
    and ``sound`` holds the same of what is heard.
    """
    record, answer, picture = explanation.record, explanation.answer, explanation.picture
    speaks_for, speaks_against = speaks(explanation)
    common = explanation.common
    value = {
        "clip_id": explanation.subject.clip_id,
        "path": str(explanation.subject.path),
        "decision": explanation.decision,
        "program_id": None if record is None else record.program_id,
        "title": "" if record is None else record.title,
        "confidence": explanation.confidence,
        "log_odds": explanation.log_odds,
        "link_from": explanation.link_bar,
        "review_from": explanation.review_bar,
        "clip_decision": answer.decision,
        "clip_programs": [link.program_id for link in answer.links],
        "reviewed": None if answer.reviewed is None else asdict(answer.reviewed),
        "view": picture.look.view,
        "is_second_look": picture.look.view != WHOLE,
        **_side_object(explanation, picture),
        "sound": None if explanation.sound is None else _sound_object(explanation, explanation.sound),
        "unheard": explanation.unheard or None,
        "common": None if common is None else {**asdict(common), "log_odds": common.total},
        "candidates": [asdict(guess) for guess in answer.candidates],
        "speaks_for": list(speaks_for),
        "speaks_against": list(speaks_against),
        "model": answer.model,
        "catalog_version": answer.catalog_version,
    }
    rounded = _rounded(value)
    assert isinstance(rounded, dict)
    return rounded


def _side_object(explanation: Explanation, side: Side) -> dict[str, Any]:
    return {
        "evidence": None if side.evidence is None else asdict(side.evidence),
        "balance": None if side.balance is None else _balance_object(side.balance),
        "matches": [_match_object(explanation, match) for match in side.matches],
        "frames": _frame_objects(explanation, side.series),
        "votes": [
            {"program_id": explanation.name(voted.program), "votes": voted.votes} for voted in side.votes
        ],
    }


def _sound_object(explanation: Explanation, sound: Side) -> dict[str, Any]:
    return {
        "confidence": sound.confidence,
        "log_odds": sound.log_odds,
        "is_same_place": _is_same_place(explanation),
        "disagreement": disagreement(explanation) or None,
        **_side_object(explanation, sound),
    }


def _balance_object(balance: Balance) -> dict[str, Any]:
    return {
        "plain_cut": balance.plain,
        "contributions": [asdict(part) for part in balance.contributions],
        "rivalry": balance.rivalry,
        "sight": balance.sight,
        "shown": balance.shown,
        "log_odds": balance.total,
    }


def _match_object(explanation: Explanation, match: Match) -> dict[str, Any]:
    return {
        "clip_start_seconds": match.clip_start_seconds,
        "clip_end_seconds": match.clip_end_seconds,
        "asset_id": explanation.asset(match.asset).asset_id,
        "asset_start_seconds": match.asset_start_seconds,
        "asset_end_seconds": match.asset_end_seconds,
        "similarity": float(match.similarities.mean()),
        "speed": match.line.speed,
        "offset_seconds": match.line.offset_seconds,
        "offset_slack_seconds": match.offset_slack_seconds,
        "is_reversed": match.is_reversed,
        "ambiguity": match.ambiguity,
        "also": [
            {
                "asset_id": explanation.asset(place.asset).asset_id,
                "asset_start_seconds": place.asset_start_seconds,
                "asset_end_seconds": place.asset_end_seconds,
                "similarity": place.similarity,
            }
            for place in match.also
        ],
    }


def _frame_objects(explanation: Explanation, series: Series) -> list[dict[str, Any]]:
    return [
        {
            "t_seconds": float(series.t_seconds[row]),
            "similarity": float(series.similarity[row]),
            "asset_id": explanation.asset(int(series.asset[row])).asset_id
            if series.asset[row] >= 0
            else None,
            "asset_seconds": float(series.asset_seconds[row]),
            "matched": bool(series.matched[row]),
            "aligned": float(series.aligned[row]),
            "other": float(series.other[row]),
            "other_program_id": (
                explanation.name(int(series.other_program[row])) if series.other_program[row] >= 0 else None
            ),
            "chance": float(series.chance[row]),
        }
        for row in range(series.t_seconds.size)
    ]


def _rounded(value: Any) -> Any:
    """Floats to a millionth, NaN as null (JSON has none), tuples as lists; all the way down."""
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
