"""Scripts for the warm-up keep to the grammar."""

from __future__ import annotations

from random import Random

import pytest

from routers.learning.router_r1.episodes import RecordedExperts, play
from routers.learning.router_r1.scripted import ScriptedPolicy, script, transcripts
from routers.planners.router_r1.grammar import Broken, read
from tests.unit.routers.learning.router_r1.toys import QUESTION, TOKENS, stage


@pytest.mark.parametrize("asks", [0, 1, 2])
def test_a_script_asks_and_answers(asks: int) -> None:
    turns = script(QUESTION, ["large", "small"], 600, asks, 4, Random(1))
    assert not any(isinstance(read(turn), Broken) for turn in turns)
    found = play(stage(), [QUESTION], ScriptedPolicy([turns], TOKENS), RecordedExperts())[0]
    assert (found.broken, found.repaired, found.asks) == (False, 0, asks)
    assert found.answer == (("A" if "small" in turns[-1] else "B") if asks else "B")


def test_after_its_last_ask_a_script_goes_on_with_the_answer_that_was_begun() -> None:
    turns = script(QUESTION, ["large"], 600, 1, 1, Random(1))
    assert turns[-1] == "B</answer>"
    assert play(stage(max_asks=1), [QUESTION], ScriptedPolicy([turns], TOKENS), RecordedExperts())[0].answer == "B"


def test_transcripts_are_the_same_each_time_and_whole() -> None:
    rows = transcripts(stage(), [QUESTION] * 20, 600, 4, seed=5)
    assert rows == transcripts(stage(), [QUESTION] * 20, 600, 4, seed=5)
    assert len(rows) == 20
    assert all(0 < row.written <= len(row.completion) for row in rows)
    assert len({row.completion for row in rows}) > 3


def test_a_turn_that_is_too_long_for_the_policy_is_nothing_to_imitate() -> None:
    assert transcripts(stage(policy_tokens=16), [QUESTION] * 5, 16, 4, seed=0) == []
