"""Cascades, votes and their judges before real models: what judges read, what is asked, and what it comes to."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx
import pytest

from routers.api import Turn
from tests.vllm.conftest import Stand
from tests.vllm.planned import PATIENCE, Seen, Told, body, expert, planning, tell
from tests.vllm.test_real_vllm import wait_for

pytestmark = pytest.mark.timeout(1800)

QUESTION = "What is the capital of France?"
CHOICE = "What is 2 + 3? Answer with a letter.\nA. 4\nB. 5\nC. 6\nD. 7"
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def models(stand: Stand) -> list[dict[str, Any]]:
    return [expert(name, url) for name, url in stand.experts.items()]


def logprob(threshold: float | None, **judge: Any) -> dict[str, Any]:
    return {"type": "cascade", "judge": {"type": "logprob", **judge}, "threshold": threshold}


def direct(stand: Stand, **more: Any) -> dict[str, Any]:
    """The small model's own choice, asked without a gateway."""
    answer = httpx.post(f"{stand.experts['small']}/chat/completions", json={**body(QUESTION, **more), "model": "small"}, timeout=PATIENCE)
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def show(told: Told, *more: object) -> None:
    rounds = [(one["purpose"], one["model"], one["prompt_tokens"], one["completion_tokens"], one["error"]) for one in told.rounds]
    print(f"\n{told.model}: {told.text!r}, {told.decision['cost_usd']:.3g} USD, rounds {rounds}, then {told.decision['usage']}", *more)


def sureness(turn: Turn) -> float:
    assert turn.logprobs
    return math.exp(math.fsum(turn.logprobs) / len(turn.logprobs))


@STREAM
async def test_a_judge_reads_real_logprobs_and_a_threshold_of_0_stops_at_the_first(stand: Stand, stream: bool) -> None:
    seen, own = Seen(), direct(stand, logprobs=True)
    async with planning(models(stand), logprob(0), seen) as running:
        told = await tell(running, QUESTION, stream=stream)
    assert told.purposes() == ["answer"]
    assert (told.model, told.text, told.decision["usage"]) == ("small", own["message"]["content"], None)
    (turn,) = seen.transcripts[-1].turns
    assert turn.logprobs == pytest.approx([token["logprob"] for token in own["logprobs"]["content"]], abs=0.01)
    assert len(turn.logprobs) == turn.tokens_out
    assert all(found <= 0 for found in turn.logprobs)
    assert all(chunk["choices"][0]["logprobs"] is None for chunk in told.chunks[:-1]), "the client did not ask for them"
    show(told, f"sure {sureness(turn):.4f} of {[round(found, 3) for found in turn.logprobs]}")


@STREAM
async def test_an_answer_that_was_cut_off_says_so(stand: Stand, stream: bool) -> None:
    async with planning(models(stand), logprob(0)) as running:
        told = await tell(running, QUESTION, stream=stream, max_tokens=3, router={"explain": True})
    assert (told.finish, told.purposes()) == ("length", ["answer"])
    assert not stream or [chunk for chunk in told.chunks if "router" in chunk], "the decision stands in a composed stream too"


@STREAM
async def test_a_threshold_of_1_goes_on_and_the_last_one_is_relayed(stand: Stand, stream: bool) -> None:
    seen = Seen()
    async with planning(models(stand), logprob(1), seen) as running:
        told = await tell(running, QUESTION, stream=stream)
    (turn,) = seen.transcripts[-1].turns
    assert sureness(turn) < 1
    assert told.purposes() == ["answer"]
    assert (told.rounds[0]["model"], told.model) == ("small", "large")
    assert told.decision["usage"]["completion_tokens"] > 0
    assert told.usage["completion_tokens_details"]["reasoning_tokens"] == told.rounds[0]["completion_tokens"]
    assert not stream or len(told.chunks) > 3, "the last answer comes token by token"
    show(told)


@pytest.mark.parametrize("measure", ["mean", "tail", "lowest"])
async def test_a_threshold_parts_the_sure_from_the_unsure(stand: Stand, measure: str) -> None:
    tokens = [token["logprob"] for token in direct(stand, logprobs=True)["logprobs"]["content"]]
    few = max(1, math.ceil(0.25 * len(tokens)))
    heard = {"mean": tokens, "tail": tokens[-few:], "lowest": sorted(tokens)[:few]}[measure]
    sure = math.exp(math.fsum(heard) / len(heard))
    for threshold, ends in ((max(0.0, sure - 0.01), "small"), (min(1.0, sure + 0.01), "large")):
        async with planning(models(stand), logprob(threshold, measure=measure, share=0.25)) as running:
            assert (await tell(running, QUESTION)).model == ends, (sure, threshold)
    print(f"\n{measure}: sure {sure:.4f}")


@pytest.mark.parametrize("seed", [None, 7])
async def test_samples_of_one_model_really_differ(stand: Stand, seed: int | None) -> None:
    seen = Seen()
    planner = {"type": "cascade", "judge": {"type": "self_consistency", "k": 3, "temperature": 1.5}, "max_calls": 4}
    async with planning(models(stand), planner, seen) as running:
        told = await tell(running, "Tell me about a place.", **({} if seed is None else {"seed": seed}))
    first, *samples = [turn for turn in seen.transcripts[-1].turns if turn.model == "small"]
    assert told.purposes()[:3] == ["answer", "sample", "sample"]
    assert first.ask.temperature is None
    assert {sample.ask.temperature for sample in samples} == {1.5}
    assert len({sample.text for sample in samples}) == 2
    assert told.model == "large", "long free texts are never alike"
    show(told, [turn.text for turn in (first, *samples)])


async def test_an_answer_that_its_samples_repeat_is_given(stand: Stand) -> None:
    planner = {"type": "cascade", "judge": {"type": "self_consistency", "k": 3, "temperature": 0.05}, "max_calls": 4}
    async with planning(models(stand), planner) as running:
        told = await tell(running, CHOICE)
    assert (told.purposes(), told.model) == (["answer", "sample", "sample"], "small")
    show(told)


@pytest.mark.parametrize("judge", ["small", "large"])
async def test_a_model_judges_and_its_words_are_paid_for(stand: Stand, judge: str) -> None:
    planner = {"type": "cascade", "judge": {"type": "llm", "model": judge, "max_tokens": 48}, "max_calls": 4}
    async with planning(models(stand), planner) as running:
        told = await tell(running, QUESTION, stream=judge == "small")
    assert told.purposes()[:2] == ["answer", "judge: small"]
    assert told.rounds[1]["model"] == judge
    assert told.rounds[1]["prompt_tokens"] > 100
    assert told.model in ("small", "large")
    show(told, repr(told.rounds[1]["text"]))


@STREAM
async def test_a_vote_that_is_decided_does_not_wait_for_the_slowest(stand: Stand, stream: bool) -> None:
    """`twin` is the small model under another name, so that two agree while the large one has 1,000 tokens to write."""
    three = [*models(stand), expert("twin", stand.experts["small"].replace("127.0.0.1", "localhost"), "small")]
    async with planning(three, {"type": "ensemble", "k": 3}, candidates=("small", "twin", "large")) as running:
        told = await tell(running, CHOICE, stream=stream, max_tokens=1000)
        freed = await asyncio.to_thread(wait_for, stand, "large", False, 20)
    answered = [one for one in told.rounds if one["error"] is None]
    assert {one["model"] for one in answered} >= {"small", "twin"}
    assert told.model in ("small", "twin")
    assert told.text == answered[0]["text"] == answered[1]["text"]
    assert freed is not None, "the large one still writes 20 s after the vote was decided"
    show(told, f"idle again after {freed:.2f} s")


async def test_a_majority_of_two_is_that_of_the_ranking(stand: Stand) -> None:
    async with planning(models(stand), {"type": "ensemble", "k": 2}) as running:
        told = await tell(running, CHOICE)
    assert sorted(one["model"] for one in told.rounds) == ["large", "small"]
    assert told.text in [one["text"] for one in told.rounds]
    show(told)


@STREAM
async def test_what_is_left_of_the_money_pays_for_one_call(stand: Stand, stream: bool) -> None:
    """The small model costs 1.1e-6 USD here. The large one is expected to cost 3.2e-6, and so much is not left then."""
    most = 3.5e-6
    async with planning(models(stand), logprob(1)) as running:
        told = await tell(running, QUESTION, stream=stream, router={"max_cost_usd": most})
    assert (told.model, told.purposes(), told.decision["usage"]) == ("small", ["answer"], None)
    assert 0 < told.decision["cost_usd"] <= most
    show(told)
