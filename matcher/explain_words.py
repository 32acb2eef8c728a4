"""What is said of an explanation: a headline, sentences for and against, and the object of ``--json``.

The sentences give the figures that they rest on. What counts as much or little in them is for reading only:
the decision is made from the weighted evidence, which the explanation's balance shows.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from matcher.decision import Evidence
from matcher.explain import Explanation
from matcher.inputs import one_line
from matcher.localize import Match
from matcher.records import WHOLE
from matcher.show import clock

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
    said = (_YES if explanation.decision != "none" else _NO)[explanation.answer.decision]
    bars = f"links from {explanation.link_bar:.4g}, review from {explanation.review_bar:.4g}"
    return f"{said} {one_line(name)}: confidence {sureness(explanation.confidence)} ({bars})"


def sureness(confidence: float) -> str:
    """A confidence in few letters that is never rounded to 0 or 1."""
    if confidence < 0.001:
        return "below 0.001"
    return "above 0.999" if confidence > 0.999 else f"{confidence:.3f}"


def instead(explanation: Explanation) -> str:
    """Which other programs the clip is linked to or reviewed for; empty where there is none."""
    own = None if explanation.record is None else explanation.record.program_id
    others = [link for link in explanation.answer.links if link.program_id != own]
    if not others:
        return ""
    names = ", ".join(f"{link.program_id} ({sureness(link.confidence)})" for link in others)
    verb = "linked to" if explanation.answer.decision == "linked" else "up for review with"
    also = "also " if explanation.decision != "none" else ""
    return f"The clip is {also}{verb} {names}"


def speaks(explanation: Explanation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences for the program, and sentences against it."""
    evidence = explanation.evidence
    if evidence is None:
        return (), tuple(_why_nothing(explanation))
    found = [
        _similarity(explanation, evidence), _lead(explanation, evidence), _frames(evidence),
        _coverage(evidence), *_oddities(explanation, evidence),
    ]  # fmt: skip
    better = _better(explanation)
    if better:
        found.append((False, better))
    return (
        tuple(text for is_for, text in found if is_for is True),
        tuple(text for is_for, text in found if is_for is False),
    )


#: True speaks for, False against, None is neither.
_Said = tuple[bool | None, str]


def _grade(value: float, much: float, little: float) -> bool | None:
    return True if value >= much else False if value < little else None


def _why_nothing(explanation: Explanation) -> list[str]:
    """Why a program without evidence has none."""
    series, n = explanation.series, len(explanation.look)
    if n == 0:
        return ["the clip has no frame that shows anything"]
    if explanation.program is None:
        return ["the store holds no program"]
    above = int(series.above_chance.sum())
    if above == 0:
        best = int(np.nanargmax(series.similarity)) if np.isfinite(series.similarity).any() else 0
        said = [
            f"no frame is above what chance gives (best {series.similarity[best]:.2f},"
            f" chance {series.chance[best]:.2f})"
        ]
    else:
        said = [f"{above} of {n} frames are above what chance gives, but no stretch of them aligns"]
    rival = series.rival()
    if rival >= 0:
        nearer = int((series.other > series.similarity).sum())
        said.append(f"other programs, mostly {explanation.name(rival)}, resemble {nearer} of {n} frames more")
    if explanation.program not in {voted.program for voted in explanation.votes}:
        said.append("no frame votes for it")
    better = _better(explanation)
    return [*said, better] if better else said


def _similarity(explanation: Explanation, evidence: Evidence) -> _Said:
    series = explanation.series
    chance = float(series.chance[series.matched].mean())
    figures = f"(similarity {evidence.similarity:.2f}, chance {chance:.2f})"
    grade = _grade(evidence.excess, FAR, LITTLE)
    return grade, f"the matching frames are {'far' if grade else 'little'} above what chance gives {figures}"


def _lead(explanation: Explanation, evidence: Evidence) -> _Said:
    rival = explanation.series.rival()
    grade = _grade(evidence.lead, CLEAR_LEAD, NO_LEAD)
    if rival < 0:
        said = "no other program resembles the matching frames more than chance does"
        return grade, said if grade else f"it leads what chance gives by no more than {evidence.lead:.2f}"
    name = explanation.name(rival)
    if evidence.lead < 0:
        return False, f"{name} resembles the matching frames more (lead {evidence.lead:.2f})"
    if grade is False:
        return False, f"{name} resembles the matching frames about as much (lead {evidence.lead:.2f})"
    return grade, f"the next program, {name}, resembles them clearly less (lead {evidence.lead:.2f})"


def _frames(evidence: Evidence) -> _Said:
    grade = _grade(evidence.frames, MANY_FRAMES, FEW_FRAMES)
    count = f"{evidence.frames:.0f} different frame{'s' if round(evidence.frames) != 1 else ''}"
    return grade, f"{count} agree" if grade else f"only {count}"


def _coverage(evidence: Evidence) -> _Said:
    grade = _grade(evidence.coverage, MOST, SMALL_PART)
    share = f"{100 * evidence.coverage:.0f} % of the frames that no other program explains"
    return grade, f"{share} match" if grade else f"only {share} match"


def _oddities(explanation: Explanation, evidence: Evidence) -> list[_Said]:
    said: list[_Said] = []
    if evidence.is_further:
        said.append((False, f"found only in the second look, through the view “{explanation.look.view}”"))
    if evidence.is_reversed:
        said.append((False, "it fits only played backwards"))
    if evidence.speed >= OTHER_SPEED:
        longest = max(explanation.matches, key=lambda match: match.run.size)
        said.append((False, f"it fits only at {abs(longest.line.speed):.2f} times the speed"))
    if evidence.pieces >= MANY_PIECES:
        said.append((False, f"it is pieced together from {len(explanation.matches)} stretches"))
    if any(match.ambiguity >= UNSURE_PLACE for match in explanation.matches):
        said.append((False, "the place is unsure: another one of the program fits about as well"))
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
    """The object that ``--json`` prints, with the numbers of the picture."""
    record, answer = explanation.record, explanation.answer
    speaks_for, speaks_against = speaks(explanation)
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
        "view": explanation.look.view,
        "is_second_look": explanation.look.view != WHOLE,
        "evidence": None if explanation.evidence is None else asdict(explanation.evidence),
        "balance": None if explanation.balance is None else _balance_object(explanation),
        "matches": [_match_object(explanation, match) for match in explanation.matches],
        "frames": _frame_objects(explanation),
        "votes": [
            {"program_id": explanation.name(voted.program), "votes": voted.votes}
            for voted in explanation.votes
        ],
        "candidates": [asdict(guess) for guess in answer.candidates],
        "speaks_for": list(speaks_for),
        "speaks_against": list(speaks_against),
        "model": answer.model,
        "catalog_version": answer.catalog_version,
    }
    rounded = _rounded(value)
    assert isinstance(rounded, dict)
    return rounded


def _balance_object(explanation: Explanation) -> dict[str, Any]:
    balance = explanation.balance
    assert balance is not None
    return {
        "plain_cut": balance.plain,
        "contributions": [asdict(part) for part in balance.contributions],
        "rivalry": balance.rivalry,
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


def _frame_objects(explanation: Explanation) -> list[dict[str, Any]]:
    series = explanation.series
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
        for row in range(len(explanation.look))
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
