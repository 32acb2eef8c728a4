"""Labels of clips: targets by tier, what is masked, and every fault in a line of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import InputError
from matcher.taxonomy import Category, Taxonomy
from matcher.training.labels import (
    Labels,
    check_counts,
    check_features,
    check_programs,
    check_split,
    read_labels,
)

PATHS = ("drama", "show", "drama/period", "drama/modern", "drama/period/palace", "drama/period/war")
SITE = Taxonomy("site", "3", tuple(Category(tuple(path.split("/"))) for path in PATHS))


def read(folder: Path, text: str, taxonomy: Taxonomy = SITE) -> Labels:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return read_labels(path, taxonomy)


def kinds(labels: Labels) -> list[str]:
    return [fault.kind for fault in labels.faults]


def test_targets_hold_every_tier_of_every_category_of_a_clip(tmp_path: Path) -> None:
    labels = read(
        tmp_path,
        "program_id,clip_id,category,note\np1,c1,drama/period/war,x\n,c2,show; drama/modern,\n"
        "\np1,c1,palace\np2,c3,\"drama;drama/period/war\"\n",
    )  # fmt: skip
    assert labels.clip_ids == ("c1", "c2", "c3")
    assert labels.program_ids == ("p1", "", "p2")
    first, known = labels.targets(1)
    np.testing.assert_array_equal(first, [[1, 0], [1, 1], [1, 0]])
    assert first.dtype == np.float32
    assert known.all()
    second, known = labels.targets(2)
    np.testing.assert_array_equal(second, [[1, 0], [0, 1], [1, 0]])
    assert known.all()
    third, known = labels.targets(3)
    np.testing.assert_array_equal(third, [[1, 1], [0, 0], [0, 1]])
    # Nothing stands below "show" and "drama/modern": that c2 is of none is known.
    assert known.all()
    np.testing.assert_array_equal(labels.groups(), [0, 1, 2])
    assert labels.rows([2, 0]).clip_ids == ("c3", "c1")


def test_what_is_labelled_on_upper_tiers_alone_is_masked_below(tmp_path: Path) -> None:
    labels = read(
        tmp_path, "clip_id,category\nc1,drama\nc2,drama/period\nc3,drama/period/war;show\nc4,show\n"
    )
    assert [labels.targets(tier)[1].tolist() for tier in (1, 2, 3)] == [
        [True] * 4,
        [False, True, True, True],
        [False, False, True, True],
    ]


@st.composite
def some_labels(draw: st.DrawFn) -> Labels:
    own = draw(st.lists(st.sets(st.sampled_from(PATHS), min_size=1), min_size=1, max_size=6))
    return Labels(
        SITE,
        tuple(f"c{number}" for number in range(len(own))),
        ("",) * len(own),
        tuple(tuple(SITE.resolve(path) for path in sorted(paths)) for paths in own),
    )


@settings(deadline=None)
@given(some_labels(), st.integers(1, 3))
def test_a_clip_is_unknown_on_a_tier_where_a_category_of_it_has_an_open_end(
    labels: Labels, tier: int
) -> None:
    targets, known = labels.targets(tier)
    for row, categories in enumerate(labels.categories):
        own = {one.path for one in categories}
        for column, one in enumerate(SITE.tier(tier)):
            assert targets[row, column] == any(f"{path}/".startswith(f"{one.path}/") for path in own)
        lowest = [path for path in own if not any(other.startswith(f"{path}/") for other in own)]
        # Above the tier, though the tree goes on down to it from there.
        open_ends = [
            path
            for path in lowest
            if path.count("/") + 1 < tier
            and any(other.startswith(f"{path}/") and other.count("/") + 1 >= tier for other in PATHS)
        ]
        assert known[row] == (not open_ends)


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ("c1,drama/perod", "unknown_category", "line 2: category 'drama/perod' is not in .* 'drama/period'"),
        ("c1,drama;nothing", "unknown_category", "'nothing' is not in taxonomy site@3"),
        ("c1,show/period", "two_parents", "'show/period' stands under another parent .*: 'drama/period';"),
        ("c1,drama/modern/war", "two_parents", "'drama/period/war'"),
        ("c1, ; ", "bad_row", "the category is empty"),
        (",drama", "bad_row", "line 2: clip_id is empty"),
        ("c1", "bad_row", "line 2: the category is empty"),
        ("c1,drama,p1,and,more", "bad_row", "more cells than the header"),
    ],
)
def test_a_row_that_would_teach_something_wrong_stops_the_run(
    tmp_path: Path, row: str, kind: str, message: str
) -> None:
    labels = read(tmp_path, f"clip_id,category,program_id\n{row}\nc9,drama/period/war,p1\n")
    (fault,) = [fault for fault in labels.faults if fault.stops]
    assert fault.kind == kind
    assert "labels.csv" in fault.message
    assert "\n" not in fault.message
    with pytest.raises(InputError, match=message):
        labels.stop_on_faults()
    assert labels.clip_ids == ("c9",)


def test_all_stopping_faults_are_collected_and_counted(tmp_path: Path) -> None:
    labels = read(tmp_path, "clip_id,category\nc1,x\nc2,drama\n" + "\n" * 3 + "c3,y\nc4,show/war\n")
    stopping = [fault for fault in labels.faults if fault.stops]
    assert [fault.message.split(":")[0].rsplit(" ", 1)[-1] for fault in stopping] == ["2", "7", "8"]
    with pytest.raises(InputError, match=r"line 2: .*and 2 more such faults\); nothing was trained"):
        labels.stop_on_faults()


def test_a_word_for_several_categories_stops_the_run(tmp_path: Path) -> None:
    site = Taxonomy("t", "1", (Category(("a",), ("z",)), Category(("b",), ("z",))), 1)
    labels = read(tmp_path, "clip_id,category\nc1,z\n", site)
    assert kinds(labels)[0] == "ambiguous_category"
    assert "'a' or 'b'" in labels.faults[0].message


def test_classes_without_and_with_one_example_are_said_and_stop_nothing(tmp_path: Path) -> None:
    labels = read(tmp_path, "clip_id,category\nc1,drama/period/war\nc2,drama/period/war\nc3,drama/modern\n")
    labels.stop_on_faults()
    counts = check_counts(labels, (1, 2, 3), min_examples=2)
    assert sorted(fault.kind for fault in counts) == ["empty_class", "empty_class", "one_example"]
    assert not any(fault.stops for fault in counts)
    said = " ".join(fault.message for fault in counts)
    assert "1 of 2 categories of tier 1 have no example and are not learned: show" in said
    assert "'drama/modern' has one example: it is answered by likeness" in said
    upper = read(tmp_path, "clip_id,category\nc1,drama\nc2,show\nc3,drama\nc4,show\n")
    assert "no clip is labelled with a category of tier 3" in check_counts(upper, (1, 2, 3))[-1].message
    assert labels.faults == upper.faults == (), "which clips take part is not known yet"


def test_where_every_class_is_learned_one_example_is_said_to_be_too_few(tmp_path: Path) -> None:
    labels = read(tmp_path, "clip_id,category\nc1,drama/modern\nc2,show\nc3,show\n")
    assert [fault.message for fault in check_counts(labels, [1])] == [
        "category 'drama' has one example: that is too few to tell it by; label more clips of it"
    ]


def test_a_class_below_what_a_head_wants_or_of_one_program_is_said(tmp_path: Path) -> None:
    rows = "c1,show,p1\nc2,show,p1\nc3,drama/modern,p2\nc4,drama/modern,p3\nc5,drama/modern,p3\n"
    labels = read(tmp_path, "clip_id,category,program_id\n" + rows)
    (few,) = check_counts(labels, [1], min_examples=3)
    assert few.kind == "few_examples"
    assert "'show' has 2 examples: it is answered by likeness until it has 3" in few.message
    (one,) = check_programs(labels, [1, 2])
    assert one.kind == "missing_from_validation"
    assert "'show' has 2 clips, all of one program" in one.message
    assert check_programs(labels, [1, 2], min_examples=3) == []


def test_a_clip_of_two_programs_is_said_and_keeps_the_first(tmp_path: Path) -> None:
    labels = read(tmp_path, "clip_id,category,program_id\nc1,drama,\nc1,show,p1\nc1,show,p2\n")
    assert labels.program_ids == ("p1",)
    assert "two_programs" in kinds(labels)
    labels.stop_on_faults()


def test_a_split_that_lacks_a_class_on_a_side_is_said(tmp_path: Path) -> None:
    labels = read(
        tmp_path, "clip_id,category\nc1,drama/modern\nc2,show\nc3,drama/modern\nc4,drama/period/war\n"
    )
    faults = check_split(labels, [0, 1], [2, 3])
    assert [(fault.kind, fault.message.split("'")[1]) for fault in faults] == [
        ("missing_from_validation", "show"),
        ("missing_from_training", "drama/period"),
        ("missing_from_training", "drama/period/war"),
    ]
    assert not any(fault.stops for fault in faults)
    assert check_split(labels.rows([0, 2]), [0], [1]) == []


def test_clips_without_features_are_listed_in_one_line(tmp_path: Path) -> None:
    rows = "".join(f"c{number},drama\n" for number in range(9))
    labels = read(tmp_path, "clip_id,category\n" + rows)
    (fault,) = check_features(labels, {"c0"})
    assert fault.kind == "no_features"
    assert not fault.stops
    assert "8 of 9 labelled clips" in fault.message
    assert "c1, c2, c3, c4, c5 and 3 more" in fault.message
    assert check_features(labels, set(labels.clip_ids)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column clip_id, category"),
        (b"clip_id,tag\nc1,x\n", "no column category"),
        (b"clip_id,category\n\n", "a header and no rows"),
        (b"clip_id,category\n\xff,drama\n", "not a CSV file in UTF-8"),
        (b'clip_id,category\n"c1,drama\n', "not a CSV file"),
    ],
)
def test_a_file_that_is_no_labels_file_is_refused_by_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_labels(path, SITE)
    assert "odd.csv" in str(caught.value)
    with pytest.raises(InputError, match=r"cannot read labels .*none\.csv"):
        read_labels(tmp_path / "none.csv", SITE)
