"""Judges say which answer they would give, and how sure they are."""

from __future__ import annotations

import math
from typing import Any

import pytest

from routers.api import Ask, Task, Turn
from routers.judges.agreement import Agreement
from routers.judges.api import ANSWER, Verdict
from routers.judges.logprob import Logprob
from routers.judges.self_consistency import SAMPLE, SelfConsistency
from routers.judges.verifier import Verifier
from routers.registry import BadPlugin, Registry
from tests.unit.routers.planners.playing import task

REGISTRY = Registry({("judges", "verifier"): Verifier, ("judges", "self_consistency"): SelfConsistency, ("judges", "logprob"): Logprob})
QUESTION = "Which?\nA. this\nB. that\nC. another"


def turn(text: str | None, model: str = "small", purpose: str = ANSWER, **more: Any) -> Turn:
    return Turn(Ask((model,), final=False, purpose=purpose), model, text, 0.0, 1.0, None if text is not None else "upstream_error", **more)


def asked(text: str = QUESTION) -> Task:
    return task(text=text)


def verdict(found: object) -> Verdict:
    assert isinstance(found, Verdict), found
    return found


def test_self_consistency_asks_for_samples_of_the_same_model_and_counts_them() -> None:
    judge = SelfConsistency(k=3, temperature=0.9)
    first = [turn("The answer is (A).", "middle")]
    wanted = judge.judge(asked(), first, 10)
    assert wanted == (Ask(("middle",), final=False, temperature=0.9, purpose=SAMPLE),) * 2
    turns = [*first, turn("B", "middle", SAMPLE), turn("The answer is (B).", "middle", SAMPLE)]
    found = verdict(judge.judge(asked(), turns, 8))
    assert (found.turn.text, found.confidence) == ("B", pytest.approx(2 / 3))


def test_a_sample_that_fails_agrees_with_nobody_and_is_not_asked_for_again() -> None:
    turns = [turn("A"), turn(None, purpose=SAMPLE), turn("A", purpose=SAMPLE)]
    found = verdict(SelfConsistency(k=3).judge(asked(), turns, 8))
    assert (found.turn.text, found.confidence) == ("A", pytest.approx(2 / 3))


def test_self_consistency_asks_for_no_more_than_it_may() -> None:
    assert len(SelfConsistency(k=5).judge(asked(), [turn("A")], 1)) == 1  # type: ignore[arg-type]
    assert verdict(SelfConsistency(k=5).judge(asked(), [turn("A")], 0)).confidence == 0


def test_agreement_is_sure_once_two_models_say_the_same() -> None:
    judge = Agreement()
    turns = [turn("A", "small"), turn("B", "middle")]
    assert verdict(judge.judge(asked(), turns[:1], 0)).confidence == 0
    found = verdict(judge.judge(asked(), turns, 0))
    assert (found.turn.model, found.confidence) == ("middle", 0)
    found = verdict(judge.judge(asked(), [*turns, turn("The answer is (A)", "large")], 0))
    assert (found.turn.model, found.confidence) == ("small", 1)


def test_agreement_of_answers_that_settle_on_nothing_gives_the_last() -> None:
    found = verdict(Agreement().judge(asked(), [turn("well", "small"), turn("hm", "large")], 0))
    assert (found.turn.model, found.confidence) == ("large", 0)


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        ({"json_schema": {"type": "object", "required": ["a"]}}, '```json\n{"a": 1}\n```', '{"b": 1}'),
        ({"pattern": r"\d{3}", "whole": True}, " 123 ", "1234"),
        ({"pattern": "yes", "whole": False}, "oh yes.", "no"),
        ({"number": {"least": 0, "most": 10}}, "The answer is 7", "The answer is 70"),
        ({"number": {"unit": "km"}}, "5 kilometres", "5 kg"),
        ({"contains": ["Paris", "Seine"]}, "Paris lies on the Seine", "Paris"),
        ({"code": {"entry": "add"}}, "```python\ndef add(a, b):\n    return a + b\n```", "```python\ndef add(a, b:\n```"),
    ],
)
def test_a_verifier_is_sure_of_what_passes(options: dict[str, Any], right: str, wrong: str) -> None:
    judge = REGISTRY.build("judges", "verifier", options)
    assert judge.instant
    assert verdict(judge.judge(asked(), [turn(right)], 0)).confidence == 1
    assert verdict(judge.judge(asked(), [turn(wrong)], 0)).confidence == 0
    found = verdict(judge.judge(asked(), [turn(right, "small"), turn(wrong, "large")], 0))
    assert (found.turn.model, found.confidence) == ("small", 1)


def test_an_answer_that_was_cut_off_does_not_pass() -> None:
    judge = Verifier(pattern="a+")
    assert verdict(judge.judge(asked(), [turn("aaa", finish="length")], 0)).confidence == 0


def test_a_verifier_that_runs_tests_says_that_it_blocks() -> None:
    judge = REGISTRY.build("judges", "verifier", {"code": {"entry": "f", "tests": ["assert f(1) == 2"], "seconds": 2}})
    assert not judge.instant
    assert verdict(judge.judge(asked(), [turn("no code at all, I am afraid")], 0)).confidence == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "something to check"),
        ({"pattern": "("}, "regular expression"),
        ({"json_schema": {"type": 5}}, "JSON schema"),
        ({"code": {"tests": ["def"]}}, "no Python"),
        ({"contains": []}, "list of texts"),
    ],
)
def test_a_verifier_without_a_usable_check_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadPlugin, match=said):
        REGISTRY.build("judges", "verifier", options)


def test_chances_of_tokens_tell_how_sure_a_model_was() -> None:
    logprobs = tuple(math.log(p) for p in (0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.5, 0.5))
    sure = {
        (measure, share): verdict(Logprob(measure, share).judge(asked(), [turn("x", logprobs=logprobs)], 0)).confidence  # type: ignore[arg-type]
        for measure, share in (("mean", 0.1), ("tail", 0.2), ("lowest", 0.1))
    }
    assert sure["mean", 0.1] == pytest.approx((0.9**7 * 0.1 * 0.25) ** 0.1)
    assert sure["tail", 0.2] == pytest.approx(0.5)
    assert sure["lowest", 0.1] == pytest.approx(0.1)


@pytest.mark.parametrize("logprobs", [None, (), (math.nan,)])
def test_without_chances_nobody_is_sure(logprobs: tuple[float, ...] | None) -> None:
    assert verdict(Logprob().judge(asked(), [turn("x", logprobs=logprobs)], 0)).confidence == 0


def test_the_surest_answer_is_given() -> None:
    turns = [turn("x", "small", logprobs=(-0.1,)), turn("y", "large", logprobs=(-0.5,))]
    assert verdict(Logprob().judge(asked(), turns, 0)).turn.model == "small"
