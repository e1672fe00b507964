"""Episodes by the real planner: a scripted policy, recorded experts, and the tokens that are to be learned from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.learning.router_r1.episodes import Asked, Episode, RecordedExperts, Told, play
from tests.unit.routers.learning.router_r1 import toys
from tests.unit.routers.learning.router_r1.toys import QUESTION, TOKENS, stage


def episode(*turns: str, max_asks: int = 4, policy_tokens: int = 600, window: int = 100_000) -> Episode:
    policy = toys.Told([turns])
    return play(stage(max_asks, policy_tokens, window), [QUESTION], policy, RecordedExperts())[0]


def written(one: Episode) -> str:
    """What the policy may learn from."""
    return TOKENS.decode([token for token, mine in zip(one.row.completion, one.row.mask, strict=True) if mine])


def masked(one: Episode) -> str:
    return TOKENS.decode([token for token, mine in zip(one.row.completion, one.row.mask, strict=True) if not mine])


def test_an_episode_with_one_ask() -> None:
    found = episode("<think>?</think>\n<search>large: a</search>", "<answer>B</answer>")
    assert (found.answer, found.broken, found.right, found.asks, found.cost_usd, found.repaired) == ("B", False, 1.0, 1, 0.09, 0)
    assert written(found) == "<think>?</think>\n<search>large: a</search><answer>B</answer>"
    assert masked(found) == "\n<information>It is (B).</information>\n"
    assert TOKENS.decode(found.row.completion) == (
        "<think>?</think>\n<search>large: a</search>\n<information>It is (B).</information>\n<answer>B</answer>"
    )
    assert TOKENS.decode(found.row.prompt).startswith("[user]You answer a question")


def test_wrong_answers_and_cheap_experts() -> None:
    found = episode("<search>small: a</search>", "<answer>A</answer>")
    assert (found.right, found.cost_usd) == (0.0, 0.01)


def test_grammar_that_breaks_twice_breaks_the_episode_and_all_of_it_may_be_learned_from() -> None:
    found = episode("Well.", "B!")
    assert (found.answer, found.broken, found.right, found.repaired) == (None, True, 0.0, 2)
    assert written(found) == "Well.B!"
    assert "That cannot be used" in masked(found)


def test_a_repaired_turn_is_no_broken_episode() -> None:
    found = episode("Well.", "<answer>B</answer>")
    assert (found.broken, found.right, found.repaired) == (False, 1.0, 1)
    assert written(found) == "Well.<answer>B</answer>"


def test_after_a_repair_what_follows_is_learned_from_where_it_was_written() -> None:
    found = episode("Well.", "<search>large: a</search>", "<answer>B</answer>")
    assert written(found) == "<answer>B</answer>"
    assert TOKENS.decode(found.row.prompt).endswith("[assistant]<search>large: a</search>\n<information>It is (B).</information>\n")


def test_after_the_last_ask_the_answer_is_begun_for_it() -> None:
    found = episode("<search>large: a</search>", "B</answer>", max_asks=1)
    assert (found.answer, found.broken) == ("B", False)
    assert masked(found).endswith("</information>\n<answer>")
    assert written(found) == "<search>large: a</search>B</answer>"


@pytest.mark.parametrize("said", ["", " </answer>"])
def test_an_answer_that_was_begun_for_it_must_say_something(said: str) -> None:
    assert episode("<search>large: a</search>", said, max_asks=1).broken


def test_an_answer_that_was_cut_off_is_none() -> None:
    policy = toys.Told([["<answer>B", "<answer>B"]], finish="length")
    assert play(stage(), [QUESTION], policy, RecordedExperts())[0].broken


def test_a_name_that_is_no_experts_costs_an_ask_and_no_money() -> None:
    found = episode("<search>gpt-9: a</search>", "<answer>B</answer>")
    assert (found.asks, found.cost_usd) == (0, 0.0)
    assert "There is no expert named 'gpt-9'" in masked(found)


def test_a_context_that_does_not_fit_breaks_the_episode() -> None:
    opening = len(TOKENS.encode(stage().opening(QUESTION)))
    assert episode("<answer>B</answer>", policy_tokens=16, window=opening + 16).right == 1.0
    found = episode("<answer>B</answer>", policy_tokens=16, window=opening + 15)
    assert found.broken
    assert found.row.completion == ()


def test_all_policies_write_together_and_all_experts_are_asked_together() -> None:
    class Counting(RecordedExperts):
        sizes: list[int]

        def __init__(self) -> None:
            self.sizes = []

        def answer(self, asked: Sequence[Asked]) -> Sequence[Told]:
            self.sizes.append(len(asked))
            return super().answer(asked)

    scripts = [["<search>large: a</search>", "<answer>B</answer>"], ["<answer>A</answer>"], ["<search>small: a</search>", "no", "no"]]
    policy, experts = toys.Told(scripts), Counting()
    found = play(stage(), [QUESTION] * 3, policy, experts)
    assert [one.answer for one in found] == ["B", "A", None]
    assert [len([one for one in policy.heard if one.place == place]) for place in range(3)] == [2, 1, 3]
    assert [size for size in experts.sizes if size] == [2]


def test_an_expert_that_fails_is_told_of_and_costs_nothing() -> None:
    class Silent:
        def answer(self, asked: Sequence[Asked]) -> Sequence[Told]:
            return [Told(None, 0.0, error="upstream_error") for _ in asked]

    found = play(stage(), [QUESTION], toys.Told([["<search>large: a</search>", "<answer>B</answer>"]]), Silent())[0]
    assert "large did not answer" in masked(found)
    assert found.cost_usd == 0.0


def test_experts_are_named_in_an_order_that_differs_by_question_and_is_always_the_same() -> None:
    def order(seed: int) -> list[str]:
        return [scored.name for scored in stage(seed=seed).task(QUESTION).ranking]

    assert order(3) == order(3)
    assert {tuple(order(seed)) for seed in range(20)} == {("large", "small"), ("small", "large")}


MOVES = st.sampled_from(["<search>small: a</search>", "<search>x: a</search>", "<answer>B</answer>", "rubbish", "<think>", "<answer>B</"])


@given(st.lists(MOVES, min_size=12, max_size=12))
def test_whatever_it_writes_only_its_own_tokens_count_and_they_stand_in_their_context(moves: list[str]) -> None:
    policy = toys.Told([moves])
    found = play(stage(), [QUESTION], policy, RecordedExperts())[0]
    whole = [*found.row.prompt, *found.row.completion]
    last = policy.heard[-1]
    assert tuple(whole[: len(last.context)]) == last.context
    assert len(found.row.mask) == len(found.row.completion)
    assert written(found).endswith(moves[len(policy.heard) - 1])
    assert "<information>" not in written(found)
    assert found.broken == (found.answer is None)
