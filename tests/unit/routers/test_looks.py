"""How options look in numbers."""

from __future__ import annotations

import numpy as np
import pytest

from routers.looks import LOOKS, UNKNOWN, Options

QUESTION = "How many are there?\nA. 1,000 of them\nB. 2\nC. none\nD. -3.5\nE. 40"


def test_an_option_is_told_by_place_length_digits_and_the_order_of_its_number() -> None:
    found = Options.of(QUESTION)
    assert found.letters == "ABCDE"
    assert found.looks.shape == (6, LOOKS)
    place, length, digits, order, count, mean, share, whole = found.looks[:-1].T
    assert place.tolist() == [0, 1, 2, 3, 4]
    assert length * mean == pytest.approx([13, 1, 4, 4, 2])
    assert digits == pytest.approx([4 / 13, 1, 0, 2 / 4, 1])
    assert order == pytest.approx([1, 1 / 3, UNKNOWN, 0, 2 / 3])
    assert count.tolist() == [5] * 5
    assert share == pytest.approx(np.full(5, digits.mean()))
    assert whole.tolist() == [len(QUESTION)] * 5


def test_what_is_no_option_has_the_looks_of_its_question_alone() -> None:
    found = Options.of(QUESTION)
    strange = found.named(["F"])[0]
    assert strange[:4].tolist() == [UNKNOWN] * 4
    assert strange[4:].tolist() == found.looks[0, 4:].tolist()
    open_question = Options.of("How many?").named([""])[0]
    assert open_question.tolist() == [UNKNOWN] * 7 + [9]


def test_few_numbers_have_no_order() -> None:
    assert Options.of("?\nA. 1\nB. 2\nC. x").looks[:, 3].tolist() == [UNKNOWN] * 4


def test_what_may_still_be_said_comes_after_what_was() -> None:
    found = Options.of("?\nA. one\nB. two\nC. three")
    assert found.said(["B"], 4)[:, 0].tolist() == [1, 0, 2, UNKNOWN, UNKNOWN]
    assert found.said([], 0).shape == (0, LOOKS)
