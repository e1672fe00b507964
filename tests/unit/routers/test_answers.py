"""Answers that come down to the same are found to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.answers import Form, alike, groups, point


@pytest.mark.parametrize(
    ("answer", "letters", "text"),
    [
        ("Let us think. 2 + 2 is 4. The answer is (C).", "ABCD", "C"),
        ("**B**", "ABCD", "B"),
        (r"so \boxed{D}", "ABCD", "D"),
        ("c", "ABCD", "C"),
        ("It is either A or B.", "ABCD", None),
        ("The answer is (C).", "", "C"),
    ],
)
def test_a_choice_is_its_letter(answer: str, letters: str, text: str | None) -> None:
    found = point(answer, letters=letters)
    assert (found and found.text) == text
    assert found is None or found.kind == "choice"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The answer is 1,234 km.", "Answer: 1234 kilometres"),
        ("#### 18", "so she has 18."),
        ("The answer is 45 %.", "0.45"),
        ("The answer is $1,000", "1000"),
        ("Answer: 0.333333333", "1/3"),
        ("Paris", "The answer is Paris."),
        ("**The Seine**", "seine"),
    ],
)
def test_answers_that_are_the_same(one: str, other: str) -> None:
    assert alike(point(one), point(other))
    assert alike(point(other), point(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The answer is 5 km", "The answer is 5 kg"),
        ("The answer is 1.2", "The answer is 1.3"),
        ("Paris", "Rome"),
        ("The answer is (A).", "The answer is (B)."),
        ("5 apples and a rather long story " * 10, "5 apples and a rather long story " * 10),
    ],
)
def test_answers_that_are_not(one: str, other: str) -> None:
    assert not alike(point(one), point(other))


def test_what_settles_on_nothing_is_in_no_group() -> None:
    points = [point(text, letters="ABCD") for text in ("The answer is A", "I do not know.", "B", "answer: a", "I do not know.")]
    assert groups(points) == [[0, 3], [2]]


@given(st.text(max_size=300), st.sampled_from(["auto", "choice", "number", "text"]))
def test_any_text_can_be_looked_at(text: str, form: Form) -> None:
    found = point(text, form)
    assert found is None or alike(found, found)


@given(st.lists(st.sampled_from(["A", "B", "C", None]), max_size=12))
def test_groups_hold_every_vote_once(letters: list[str | None]) -> None:
    points = [None if letter is None else point(letter, letters="ABC") for letter in letters]
    found = groups(points)
    assert sorted(place for group in found for place in group) == [place for place, one in enumerate(letters) if one]
    assert all(len({letters[place] for place in group}) == 1 for group in found)
