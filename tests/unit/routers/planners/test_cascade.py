"""A cascade stops at the first answer that is good enough, and gives the best that it has where it must end."""

from __future__ import annotations

from typing import Any

import pytest

from routers.api import Answer, Ask, Budget, Need, Transcript, Turn
from routers.judges.agreement import Agreement
from routers.judges.logprob import Logprob
from routers.judges.self_consistency import SelfConsistency
from routers.judges.verifier import Verifier
from routers.planners.cascade import Cascade
from routers.planners.plain import BadPlan, why_single
from routers.registry import BadPlugin, Registry
from tests.unit.routers.planners.playing import play, task

REGISTRY = Registry(
    {
        ("planners", "cascade"): Cascade,
        ("judges", "agreement"): Agreement,
        ("judges", "self_consistency"): SelfConsistency,
        ("judges", "verifier"): Verifier,
        ("judges", "logprob"): Logprob,
    }
)
QUESTION = "Which?\nA. this\nB. that\nC. another"


def cascade(judge: dict[str, Any], **more: Any) -> Cascade:
    found: Cascade = REGISTRY.build("planners", "cascade", {"judge": judge, **more})
    return found


def verified(**more: Any) -> Cascade:
    return cascade({"type": "verifier", "pattern": "good.*"}, **more)


def test_the_cheapest_is_asked_first_and_may_be_enough() -> None:
    played = play(verified(), task("large small", costs=(5, 1)), {"small": "good", "large": "good too"})
    assert played.end == Answer("good", "small")
    assert played.asked == ["small"]


def test_an_answer_that_is_not_good_enough_leads_to_the_next_and_the_last_is_relayed() -> None:
    played = play(verified(), task(), {"small": "bad", "middle": "bad"})
    assert played.asked == ["small", "middle", "large"]
    assert isinstance(played.end, Ask)
    assert played.end.final
    assert played.end.models == ("large",)


def test_under_a_deadline_the_last_is_not_relayed_so_that_the_best_can_still_be_given() -> None:
    played = play(verified(), task(), {"small": "bad", "middle": "bad", "large": None}, Budget(seconds=60))
    assert played.end == Answer("bad", "middle")


def test_a_judge_that_compares_judges_the_last_answer_too() -> None:
    judge = {"type": "agreement"}
    played = play(cascade(judge), task(text=QUESTION), {"small": "A", "middle": "B", "large": "The answer is (A)"})
    assert played.end == Answer("A", "small")
    assert played.asked == ["small", "middle", "large"]
    played = play(cascade(judge), task(text=QUESTION), {"small": "A", "middle": "A"})
    assert (played.asked, played.text) == (["small", "middle"], "A")
    played = play(cascade(judge), task(text=QUESTION), {"small": "A", "middle": "B", "large": "C"})
    assert played.text == "C"


def test_samples_are_asked_side_by_side() -> None:
    planner = cascade({"type": "self_consistency", "k": 3}, max_calls=7)
    played = play(planner, task(text=QUESTION), {"small": ["A", "B", "C"], "middle": ["B", "A", "B"]})
    assert played.asked == ["small"] * 3 + ["middle"] * 3
    assert played.text == "B"
    assert sum(ask.temperature == 0.7 for ask in played.asks) == 4


def test_chances_are_asked_for_where_the_judge_reads_them() -> None:
    def sure(ask: Ask) -> Turn:
        assert ask.logprobs
        return Turn(ask, "small", "yes", 0.0, 1.0, logprobs=(-0.01, -0.02))

    assert play(cascade({"type": "logprob"}), task(), {"small": sure}).text == "yes"


def test_a_failing_ask_leads_to_the_next() -> None:
    played = play(verified(), task(), {"small": None, "middle": "good"})
    assert (played.asked, played.text) == (["small", "middle"], "good")


def test_where_nobody_answers_the_ranking_serves() -> None:
    played = play(cascade({"type": "agreement"}), task("a b c d"), {})
    assert isinstance(played.end, Ask)
    assert played.end.final
    assert played.end.models == ("d", "a", "b", "c")


def test_the_best_is_given_when_the_money_ends() -> None:
    played = play(verified(), task(), {"small": "bad"}, Budget(cost_usd=2.5), {"small": 1.0})
    assert (played.asked, played.text) == (["small"], "bad")


def test_a_dearer_model_that_cannot_be_paid_is_passed_over() -> None:
    of = task("small huge middle", costs=(1, 9, 2))
    played = play(
        cascade({"type": "agreement"}, max_calls=5), of, {"small": "x", "middle": "y"}, Budget(cost_usd=4), {"small": 1, "middle": 2}
    )
    assert played.asked == ["small", "middle"]


def test_the_best_is_given_when_the_time_ends() -> None:
    assert play(verified(), task(), {"small": "bad"}, Budget(seconds=1.5)).asked == ["small"]
    assert play(verified(), task(), {"small": "bad"}, Budget(seconds=0.5)).text == "bad"


def test_samples_that_cannot_be_paid_are_not_asked_for() -> None:
    planner = cascade({"type": "self_consistency", "k": 3}, max_calls=7)
    played = play(planner, task(text=QUESTION), {"small": "A"}, Budget(cost_usd=2.5), {"small": 1})
    assert (played.asked, played.text) == (["small"], "A")


@pytest.mark.parametrize("judge", [{"type": "agreement"}, {"type": "self_consistency", "k": 2}, {"type": "verifier", "pattern": "x"}])
@pytest.mark.parametrize("calls", [3, 4, 5])
def test_never_more_calls_than_allowed(judge: dict[str, Any], calls: int) -> None:
    letters = iter("ABCDEFGH" * 9)
    played = play(cascade(judge, max_calls=calls), task("a b c d e f", text=QUESTION), dict.fromkeys("abcdef", lambda _: next(letters)))
    assert len(played.asks) <= calls


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"needs": frozenset({"tools"})}, "tools"),
        ({"needs": frozenset({"json_schema"})}, "response_format"),
        ({"needs": frozenset({"vision"})}, "images"),
        ({"n": 2}, "n"),
        ({"endpoint": "completions"}, "endpoint"),
    ],
)
def test_what_only_one_model_can_give_is_asked_of_one(request_: dict[str, Any], reason: str) -> None:
    played = play(verified(), task(**request_), {})
    assert isinstance(played.end, Ask)
    assert why_single(played.end) == reason
    assert played.end.models == ("small", "middle", "large")


def test_one_candidate_or_no_money_is_one_call() -> None:
    played = play(verified(), task("small"), {})
    assert isinstance(played.end, Ask)
    assert why_single(played.end) == "only_candidate"
    played = play(verified(), task(), {}, Budget(cost_usd=0.5))
    assert isinstance(played.end, Ask)
    assert why_single(played.end) == "budget"


def test_it_waits_for_what_runs() -> None:
    assert verified().next(task(), Transcript((), (Ask(("small",), final=False, purpose="answer"),)), Budget()) == ()


@pytest.mark.parametrize(
    ("options", "path", "said"),
    [
        ({"judge": {"type": "agreement"}, "max_calls": 1}, ("max_calls",), "at least 2"),
        ({"judge": {"type": "agreement"}, "max_calls": 0}, ("max_calls",), "at least 2"),
        ({"judge": {"type": "self_consistency"}}, ("max_calls",), "at least 4"),
        ({"judge": {"type": "agreement"}, "order": "learned"}, ("artifact",), "needs the artifact"),
        ({"judge": {"type": "agreement"}, "artifact": "/nowhere"}, ("artifact",), "cannot be read"),
        ({"judge": {"type": "agrement"}}, ("judge", "type"), "did you mean 'agreement'"),
        ({"judge": {"type": "agreement", "agree": 1}}, ("judge", "agree"), "greater than or equal to 2"),
        ({"judge": {"type": "verifier", "pattern": "("}}, ("judge", "type"), "regular expression"),
        ({"judge": "agreement"}, ("judge",), "must be a judge"),
        ({"judge": None}, ("judge",), "must be a judge"),
        ({}, ("judge",), "is required"),
        ({"judge": {"type": "agreement"}, "threshold": 2}, ("threshold",), "less than or equal to 1"),
    ],
)
def test_impossible_configurations_are_refused(options: dict[str, Any], path: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadPlugin, match=said) as refused:
        REGISTRY.build("planners", "cascade", options)
    assert refused.value.path == path


def test_a_route_of_one_model_is_refused() -> None:
    with pytest.raises(BadPlan, match="at least two models"):
        verified().check(["small"], {"small"})
    verified().check(["small", "large"], {"small", "large"})


def test_what_it_reads_is_what_its_judge_reads() -> None:
    assert cascade({"type": "agreement"}).needs == frozenset[Need]({"text"})
    assert verified().needs == frozenset[Need]()
