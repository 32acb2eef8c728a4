"""A night as a page: what changed and why, by program, and which clips a person should look at.

It stands alone: no script, no picture, no other file. Everything that has a name of its own (clips, programs,
titles) comes from outside and goes through :func:`_name`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from matcher.changes import CHANGE_KINDS, Change, ChangeKind
from matcher.page import figure, number, page, percent, plots, section, table, text
from matcher.relink import Night
from matcher.relink_look import REASONS, WorthALook
from matcher.relink_programs import ProgramChange

#: Rows of a table; the rest is in the other files.
MOST_ROWS = 100
#: What each kind of change means.
KIND_WORDS: Mapping[ChangeKind, str] = {
    "new": "its first answer",
    "added": "linked, where there was no link",
    "removed": "linked no more",
    "moved": "to another program",
    "raised": "more confident, or up for review",
    "lowered": "less confident, or for review no more",
    "retimed": "the same program, another place in it",
    "same": "as before",
}
#: Control characters as their pictures: they are allowed in ids, but not in HTML.
_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}


def night_page(
    night: Night,
    programs: Sequence[ProgramChange],
    looks: Sequence[WorthALook],
    titles: Mapping[str, str],
    at: datetime,
) -> str:
    """The whole page.

    Args:
        night: What was done.
        programs: Those whose links changed, in the order in which they are shown.
        looks: The clips to look at, likewise.
        titles: Of programs, by id.
        at: When it was done.
    """
    title = f"Re-link, night {night.number}" if night.is_committed else "Re-link, stopped by the brake"
    parts = [
        _outcome(night, at),
        _kinds(night),
        _looks(looks, titles),
        _programs(programs),
        *(_changes(night, kind, titles) for kind in CHANGE_KINDS if kind != "same"),
        _figures(night),
    ]
    return page(title, parts)


def _outcome(night: Night, at: datetime) -> str:
    share = night.moving / night.kept if night.kept else 0.0
    answered = (
        f"{night.answered:,} of {night.kept:,} kept clips were answered again; the links or the decision of "
        f"{night.moving:,} of them ({percent(share)} of all) change, those that people changed not counted."
    )
    when = f'<p class="soft">{text(at.strftime("%Y-%m-%d %H:%M %Z"))}</p>'
    if night.is_committed:
        return f"{when}\n<p>{text(answered)}</p>"
    stopped = (
        "Nothing was committed: so many links would change that somebody must say that it is right. "
        "If it is, run the same again with --accept: what was answered is kept."
    )
    return f'{when}\n<p class="bad">{text(stopped)}</p>\n<p>{text(answered)}</p>'


def _kinds(night: Night) -> str:
    """What became of the clips, by why they were answered again."""
    reasons = list(night.why)
    changed = Counter((change.kind, change.why) for change in night.changes)
    same = {why: n - sum(changed[kind, why] for kind in CHANGE_KINDS) for why, n in night.why.items()}
    rows = []
    for kind in CHANGE_KINDS:
        counts = [same[why] if kind == "same" else changed[kind, why] for why in reasons]
        head = f"{text(kind)}<small>{text(KIND_WORDS[kind])}</small>"
        rows.append((head, _count(night.counts[kind]), *map(_count, counts)))
    rows.append(("answered again", _count(night.answered), *(_count(n) for n in night.why.values())))
    bars: dict[str, int] = {kind: night.counts[kind] for kind in CHANGE_KINDS if kind != "same"}
    drawn = plots(
        figure("Clips by what became of them", bar_chart(bars)) if any(bars.values()) else "",
        figure("Clips by why they were answered again", bar_chart(night.why)) if night.why else "",
    )
    note = "" if any(bars.values()) else "Nothing has changed."
    return section("What changed, and why", drawn, table(["", "clips", *reasons], rows), note=note)


def _looks(looks: Sequence[WorthALook], titles: Mapping[str, str]) -> str:
    rows = [
        (
            _name(look.change.clip_id),
            f"{text(REASONS[look.reason])}<small>{_program(look.program_id, titles)}, "
            f"{look.confidence:.3f}</small>",
            *_before_and_now(look.change, titles),
            text(look.change.why),
        )
        for look in looks
    ]
    note = "The likeliest mistakes, each reason in its turn; `matcher explain CLIP` shows how one came about."
    return section("Worth a look", table(["clip", "reason", "before", "now", "why"], rows), note=note)


def _programs(programs: Sequence[ProgramChange]) -> str:
    rows = [
        (
            _program(one.program_id, {one.program_id: one.title})
            + ("" if one.in_catalog else '<small class="soft">no longer in the catalogue</small>'),
            _count(one.gained), _count(one.lost), f"{one.links_before:,}", f"{one.links_after:,}",
        )
        for one in programs[:MOST_ROWS]
    ]  # fmt: skip
    shown = table(["program", "gained", "lost", "links before", "links after"], rows)
    return section("By program", shown, _more(len(programs), "programs", "summary.json"))


def _changes(night: Night, kind: ChangeKind, titles: Mapping[str, str]) -> str:
    chosen = [change for change in night.changes if change.kind == kind]
    rows = [
        (_name(change.clip_id), *_before_and_now(change, titles), text(change.why) + _said(change))
        for change in chosen[:MOST_ROWS]
    ]
    shown = table(["clip", "before", "now", "why"], rows)
    more = _more(len(chosen), "clips", "changes.parquet")
    return section(kind.capitalize(), shown, more, note=f"{len(chosen):,} clips: {KIND_WORDS[kind]}.")


def _figures(night: Night) -> str:
    figures = {
        "night": night.number if night.is_committed else None,
        "catalog version": night.catalog_version,
        "epoch": night.epoch,
        "way": night.way,
        "answered by an interrupted run": night.resumed,
        **{f"decided: {name}": n for name, n in night.decisions.items()},
        **dict(_flat(night.figures)),
    }
    note = (
        "Written before the links are committed: if the commit fails, the run says so, and the next makes up."
    )
    return section(
        "The run",
        table(["", ""], [(text(name), number(value)) for name, value in figures.items()]),
        note=note if night.is_committed else "",
    )


def _flat(figures: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    for name, value in figures.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from ((f"{words}: {key}", part) for key, part in value.items())
        elif value is not None:
            yield words, value


def _before_and_now(change: Change, titles: Mapping[str, str]) -> tuple[str, str]:
    return (
        _answer(change.decision_before, change.programs_before, change.confidence_before, titles),
        _answer(change.decision, change.programs, change.confidence, titles),
    )


def _answer(decision: str, programs: Sequence[str], confidence: float, titles: Mapping[str, str]) -> str:
    if not decision:
        return "–"
    named = "; ".join(_program(program, titles) for program in programs)
    sure = f" {confidence:.3f}" if programs else ""
    return f"{text(decision)}{sure}" + (f"<small>{named}</small>" if named else "")


def _said(change: Change) -> str:
    return "<small>a person's word</small>" if change.is_said else ""


def _program(program_id: str, titles: Mapping[str, str]) -> str:
    """Title and id; the id alone where there is no title."""
    title = titles.get(program_id, "")
    return f"{_name(title)} ({_name(program_id)})" if title and title != program_id else _name(program_id)


def _name(value: str) -> str:
    """A name from outside; its direction of writing, and what overrides it, ends with it."""
    return f"<bdi>{text(value.translate(_PICTURES))}</bdi>"


def _count(n: int) -> str:
    return f"{n:,}" if n else "–"


def _more(n: int, what: str, file: str) -> str:
    return (
        f'<p class="soft">… and {n - MOST_ROWS:,} more {text(what)} in {text(file)}.</p>'
        if n > MOST_ROWS
        else ""
    )


def bar_chart(counts: Mapping[str, int]) -> str:
    """Counts as bars, one below the other, as an ``<svg>`` that takes the page's colours.

    Args:
        counts: By name, at least one; none negative.

    Returns:
        HTML.
    """
    row, left, room, width = 24, 110, 230, 420
    longest = max(1, *counts.values())
    parts = []
    for i, (name, n) in enumerate(counts.items()):
        middle = i * row + row // 2
        # What is there at all can be seen.
        length = max(2.0, room * n / longest) if n else 0.0
        parts.append(
            f'<text x="{left - 8}" y="{middle}" text-anchor="end" dominant-baseline="middle">'
            f"{text(name)}</text>"
            f'<rect x="{left}" y="{middle - 8}" width="{length:.1f}" height="16" rx="2"></rect>'
            f'<text x="{left + length + 6:.1f}" y="{middle}" dominant-baseline="middle">{n:,}</text>'
        )
    told = ", ".join(f"{name} {n}" for name, n in counts.items())
    return (
        f'<svg class="bars" role="img" aria-label="{text(told)}" viewBox="0 0 {width} {len(counts) * row}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )
