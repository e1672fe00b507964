"""The starter set: complete, without repetition, and right by its own graders."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from datetime import date

import pytest

from routers.learning.grading.code import program
from routers.learning.questions import Question, normal, read_questions
from routers.learning.starter import KINDS, starter_questions
from routers.learning.starter.drafts import LANGUAGES, load_texts

pytest.importorskip("jsonschema_rs", reason="the extra `train` is not installed")

SET = starter_questions()


def reference(question: Question) -> str:
    """An answer that a good model may give."""
    found = question.answer
    if isinstance(found, list):
        found = " ".join(term if isinstance(term, str) else term[0] for term in found) if question.grader == "contains_all" else found[0]
    return str(found)


def score(question: Question, text: str) -> float:
    check = question.grade().check
    assert check is not None
    return check(text)


def kind(question: Question) -> str:
    return question.dataset.removeprefix("starter/")


def of(name: str) -> list[Question]:
    return [question for question in SET if kind(question) == name]


def test_its_size() -> None:
    assert 380 <= len(SET) <= 420
    assert {kind(question) for question in SET} == set(KINDS)
    assert len(KINDS) == 12
    assert {question.language for question in SET} == set(LANGUAGES)
    assert len(LANGUAGES) == 6
    counts = Counter((kind(question), question.language) for question in SET)
    assert all(counts[name, language] == count for name, (_, count) in KINDS.items() for language in LANGUAGES)


def test_no_prompt_twice_and_the_same_each_time() -> None:
    assert len({normal(question.prompt) for question in SET}) == len({question.id for question in SET}) == len(SET)
    assert starter_questions() == SET
    assert all("{" not in question.prompt for question in SET if "JSON" not in question.prompt and "```" not in question.prompt)


@pytest.mark.parametrize("question", [one for one in SET if one.grader != "code"], ids=lambda question: question.id)
def test_the_reference_is_right_and_others_are_wrong(question: Question) -> None:
    assert score(question, reference(question)) == 1
    assert score(question, f"  {reference(question)}\n") == 1
    for wrong in ("", "I do not know.", "42424242", "Zebra"):
        assert score(question, wrong) == 0, wrong
    others = [other for other in of(kind(question)) if other.language == question.language and other is not question]
    fooled = [other.id for other in others if reference(other) != reference(question) and score(question, reference(other))]
    assert fooled == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_programs_pass_and_wrong_ones_do_not(language: str) -> None:
    programs = [question for question in of("code_writing") if question.language == language]
    for question, other in zip(programs, [*programs[1:], programs[0]], strict=True):
        assert score(question, f"```python\n{reference(question)}```") == 1, question.id
        if language == "en":
            assert score(question, f"```python\n{reference(other)}```") == 0, question.id


@pytest.mark.parametrize("question", of("code_reading"), ids=lambda question: question.id)
def test_its_programs_print_what_it_says(question: Question) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program(question.prompt), {})
    assert out.getvalue().strip() == question.answer


@pytest.mark.parametrize("question", of("arithmetic"), ids=lambda question: question.id)
def test_its_sums_are_right(question: Question) -> None:
    shown = re.search(r"[\d(][\d ()+×÷-]*\d\)?", question.prompt)
    assert shown is not None
    text = shown[0].replace("×", "*").replace("÷", "/")
    assert eval(text + ")" * (text.count("(") - text.count(")"))) == question.answer


@pytest.mark.parametrize("question", of("dates"), ids=lambda question: question.id)
def test_its_dates_are_right(question: Question) -> None:
    days = [date.fromisoformat(text) for text in re.findall(r"\d{4}-\d\d-\d\d", question.prompt)]
    if question.grader == "number":
        assert (days[1] - days[0]).days == question.answer
        return
    spans = [int(text) for text in re.findall(r"(?<![\d-])\d{2,3}(?![\d-])", question.prompt)]
    assert len(spans) == 1
    end = date.fromordinal(days[0].toordinal() + spans[0])
    names = load_texts().vocabulary["weekdays"][question.language]
    assert question.answer in (end.isoformat(), names[end.weekday()])


@pytest.mark.parametrize("question", of("units"), ids=lambda question: question.id)
def test_its_units_are_looked_at(question: Question) -> None:
    unit = question.parameters["unit"]
    assert score(question, f"{question.answer} {unit}") == 1
    assert score(question, f"**{question.answer}{unit}**") == 1
    assert score(question, f"{question.answer} {'kg' if unit != 'kg' else 'g'}") == 0


def test_its_letters_are_spread() -> None:
    letters = Counter(question.answer for question in SET if question.grader == "choice")
    assert max(letters.values()) <= 0.45 * letters.total()


def test_every_text_is_there_in_every_language() -> None:
    texts = load_texts()
    for name, forms in texts.templates.items():
        assert set(forms) == set(LANGUAGES), name
        assert len({tuple(sorted(set(re.findall(r"\{(\w+)\}", form)))) for form in forms.values()}) == 1, name
    for name in ("languages", "weekdays", "names", "cities", "items"):
        assert set(texts.vocabulary[name]) == set(LANGUAGES), name
    for entry in (*texts.vocabulary["words"], *texts.vocabulary["sentences"]):
        assert set(entry) == set(LANGUAGES)


def test_it_can_be_written_as_a_file_of_prompts() -> None:
    import json

    rows = [
        {"id": one.id, "prompt": one.prompt, "grader": one.grader, "answer": one.answer, "dataset": one.dataset, "language": one.language}
        | {"parameters": dict(one.parameters)}
        for one in SET
    ]
    assert read_questions(json.dumps(row) for row in rows) == SET
