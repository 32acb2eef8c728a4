"""What holds after everything that people said of a clip, against a slow and literal reading."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from index.rows import ReviewRecord
from matcher.verdicts import CONFIRMED, NONE, REJECTED, Verdict, verdict_of, verdicts_of

WORDS = st.one_of(
    st.tuples(st.just(CONFIRMED), st.sampled_from("pqr")),
    st.tuples(st.just(REJECTED), st.sampled_from("pqr")),
    st.tuples(st.just(NONE), st.none()),
    st.tuples(st.just("of a later version"), st.sampled_from([None, "p"])),
)


def said(*words: tuple[str, str | None], clip_id: str = "c") -> list[ReviewRecord]:
    return [
        ReviewRecord(clip_id, program, verdict, f"2026-01-01T00:00:{i:02d}")
        for i, (verdict, program) in enumerate(words)
    ]


def is_rejected(words: list[tuple[str, str | None]], program: str) -> bool:
    """The last word on the program by name is that the clip is not from it."""
    own = [verdict for verdict, named in words if named == program and verdict in (CONFIRMED, REJECTED)]
    return own[-1:] == [REJECTED]


def literal(words: list[tuple[str, str | None]]) -> tuple[str | None, str | None]:
    """The last word on where the clip is from, unless the program that it names was rejected after it."""
    for place in range(len(words) - 1, -1, -1):
        verdict, program = words[place]
        if verdict == NONE:
            return "none", None
        if verdict == CONFIRMED:
            is_taken_back = (REJECTED, program) in words[place + 1 :]
            return (None, None) if is_taken_back else ("program", program)
    return None, None


@given(st.lists(WORDS, max_size=8))
def test_a_verdict_is_the_literal_reading(words: list[tuple[str, str | None]]) -> None:
    held, reviews = verdict_of(said(*words)), said(*words)
    assert (held.word, held.program_id) == literal(words)
    assert held.rejected == {program for program in "pqr" if is_rejected(words, program)}
    assert held.reviews == len(words)
    assert held.at == (reviews[-1].at if reviews else "")
    assert held.program_id not in held.rejected


def test_the_cases_that_people_ask_about() -> None:
    p, q = (CONFIRMED, "p"), (CONFIRMED, "q")
    assert verdict_of(said(p, q)).program_id == "q"
    assert verdict_of(said(p, (REJECTED, "q"))).program_id == "p"
    # Taking a word back does not bring an earlier one back.
    assert verdict_of(said(q, p, (REJECTED, "p"))).word is None
    assert verdict_of(said((NONE, None), p, (REJECTED, "p"))).word is None
    assert verdict_of(said((REJECTED, "p"), (NONE, None))).rejected == {"p"}
    assert verdict_of(said((REJECTED, "p"), p)) == Verdict(
        "program", "p", frozenset(), 2, "2026-01-01T00:00:01"
    )


def test_clips_are_kept_apart() -> None:
    mixed = [*said((CONFIRMED, "p")), *said((NONE, None), clip_id="d"), *said((REJECTED, "q"))]
    found = verdicts_of(mixed)
    assert set(found) == {"c", "d"}
    assert (found["c"].program_id, found["c"].rejected) == ("p", {"q"})
    assert found["d"].word == "none"
    assert verdicts_of([]) == {}
