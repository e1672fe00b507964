"""router_r1 before real models: an LLM that was taught the grammar thinks, asks two others, and answers; and one that was not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from routers.api import Turn
from routers.planners.router_r1.conversation import EXPERT, POLICY
from tests.gateways import Running
from tests.processes import wait_until_ready
from tests.vllm import policies, servers
from tests.vllm.conftest import Stand
from tests.vllm.planned import Seen, Told, body, expert, planning, tell
from tests.vllm.test_real_vllm import wait_for

pytestmark = pytest.mark.timeout(3600)  # the first test teaches the policy and starts its server

QUESTION = "Which ocean lies between Africa and Australia?"
POLICY_TOKENS, EXPERT_TOKENS = 96, 48
TAGS = ("think", "search", "answer", "information")
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def policy(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a policy that keeps to the grammar. `stand`: here, so that nothing is taught where no vLLM can be started."""
    log = tmp_path_factory.mktemp("policy") / "log"
    with servers.vllm(policies.POLICY, log, policies.taught()) as (url, started):
        wait_until_ready(f"{url.removesuffix('/v1')}/health", started, log, servers.BOOT_SECONDS)
        yield url


@pytest.fixture
def models(stand: Stand, policy: str) -> list[dict[str, Any]]:
    return [expert(name, url) for name, url in {**stand.experts, policies.POLICY: policy}.items()]


def router_r1(policy_model: str = policies.POLICY, **more: Any) -> dict[str, Any]:
    planner = {"type": "router_r1", "policy_model": policy_model, "policy_tokens": POLICY_TOKENS, "expert_tokens": EXPERT_TOKENS}
    return {**planner, **more}


def show(told: Told) -> None:
    print(f"\n{told.model}: {told.text!r}, {told.decision['cost_usd']:.3g} USD, usage {told.usage}")
    for one in told.rounds:
        spent = f"{one['prompt_tokens']}+{one['completion_tokens']} tokens, {one['ms']:.0f} ms"
        print(f"  {one['purpose']} {one['model']}: {one['text']!r} ({spent}; {one['error']})")


def of_policy(turns: Sequence[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn.ask.purpose == POLICY]


def free_of_tags(text: str) -> bool:
    return not any(f"<{tag}>" in text or f"</{tag}>" in text for tag in TAGS)


@STREAM
@pytest.mark.parametrize(("question", "wanted"), [(QUESTION, "small"), ("Who wrote Hamlet?", "large")], ids=["small", "large"])
async def test_it_thinks_asks_an_expert_reads_and_answers(models: list[dict[str, Any]], question: str, wanted: str, stream: bool) -> None:
    seen = Seen()
    async with planning(models, router_r1(), seen) as running:
        told = await tell(running, question, stream=stream)
    show(told)
    assert told.purposes()[:3] == [POLICY, EXPERT, POLICY]
    turns = seen.transcripts[-1].turns
    first, asked, again = turns[:3]
    assert first.text is not None
    assert first.text.startswith("<think>")
    assert first.text.endswith("</search>"), "the stop string stays in what vLLM returns"
    assert first.finish == "stop"
    assert asked.model == wanted
    assert asked.text
    assert again.ask.continues
    assert again.ask.prompt is not None
    assert again.ask.prompt[-1][1].endswith("</information>\n")
    assert told.text
    assert free_of_tags(told.text)
    assert told.model == policies.POLICY
    assert told.decision["usage"] is None or told.purposes().count(EXPERT) == 4
    last = told.rounds[-1]["completion_tokens"] if told.decision["usage"] is None else told.decision["usage"]["completion_tokens"]
    assert told.usage["completion_tokens_details"]["reasoning_tokens"] == told.usage["completion_tokens"] - last


async def test_a_begun_answer_is_gone_on_with_as_it_stands(models: list[dict[str, Any]], policy: str) -> None:
    """vLLM adds nothing to what the policy has written: no turn's end, no new turn, no white space less."""
    seen, root = Seen(), policy.removesuffix("/v1")
    async with planning(models, router_r1(), seen) as running:
        await tell(running, QUESTION)
        for turn in of_policy(seen.transcripts[-1].turns):
            messages = [{"role": role, "content": text} for role, text in turn.ask.prompt or ()]
            wanted = {"add_generation_prompt": not turn.ask.continues, "continue_final_message": turn.ask.continues}
            tokens = {"model": policies.POLICY, "messages": messages, **wanted}
            found = (await running.client.post(f"{root}/tokenize", json=tokens)).json()
            assert turn.tokens_in == found["count"]
            back = await running.client.post(f"{root}/detokenize", json={"model": policies.POLICY, "tokens": found["tokens"]})
            assert back.json()["prompt"].endswith(messages[-1]["content"]) == turn.ask.continues


@STREAM
async def test_after_its_last_ask_it_must_answer_and_that_is_streamed(models: list[dict[str, Any]], stream: bool) -> None:
    async with planning(models, router_r1(max_asks=1)) as running:
        told = await tell(running, QUESTION, stream=stream)
    show(told)
    assert told.purposes() == [POLICY, EXPERT]
    assert told.model == policies.POLICY
    assert told.decision["usage"]["completion_tokens"] > 0
    assert told.usage["completion_tokens_details"]["reasoning_tokens"] == sum(one["completion_tokens"] for one in told.rounds)
    assert told.text.strip()
    assert free_of_tags(told.text)
    assert not stream or len(told.chunks) > 3, "it comes token by token"


async def test_a_stream_tells_its_rounds_to_those_who_ask(models: list[dict[str, Any]]) -> None:
    async with planning(models, router_r1()) as running:
        told = await tell(running, QUESTION, stream=True, router={"explain": True})
        silent = await tell(running, QUESTION, stream=True)
    show(told)
    lines = [one for one in told.thoughts.split("\n[") if one]
    assert [line.lstrip("[").split(":")[0] for line in lines] == told.purposes()
    assert all(one["text"] in told.thoughts for one in told.rounds)
    assert silent.thoughts == ""


async def test_an_untaught_policy_breaks_the_grammar_twice_and_the_route_answers(models: list[dict[str, Any]]) -> None:
    seen = Seen()
    async with planning(models, router_r1("small"), seen) as running:
        told = await tell(running, QUESTION)
    show(told)
    assert told.purposes() == [POLICY, POLICY]
    repair = seen.transcripts[-1].turns[1].ask
    assert repair.prompt is not None
    assert repair.prompt[-1][1].startswith("That cannot be used")
    assert told.model == "small"
    assert told.decision["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("most", "purposes", "answers"),
    [(1.3e-5, [POLICY], "small"), (2.05e-5, [POLICY], policies.POLICY), (4e-5, [POLICY, EXPERT, POLICY], policies.POLICY)],
    ids=["one turn", "two turns", "enough"],
)
async def test_money_is_spent_as_far_as_it_goes(models: list[dict[str, Any]], most: float, purposes: list[str], answers: str) -> None:
    """The policy's first turn costs 8.3e-6 USD, an expert is taken to cost 1.3e-6, and another turn may come to 1.15e-5.

    So after one turn the route's cheapest model answers; money for two makes the policy answer without having asked.
    """
    async with planning(models, router_r1()) as running:
        told = await tell(running, QUESTION, router={"max_cost_usd": most})
    show(told)
    assert 0 < told.decision["cost_usd"] <= most
    assert (told.purposes(), told.model) == (purposes, answers)
    assert told.text.strip()


@pytest.mark.parametrize(("most", "status"), [(2e-6, 200), (3e-7, 402)])
async def test_too_little_for_the_policy_is_one_call_or_a_refusal(models: list[dict[str, Any]], most: float, status: int) -> None:
    async with planning(models, router_r1()) as running:
        answer = await running.post(**body(QUESTION, router={"max_cost_usd": most}))
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.headers["x-router-model"] == "small"
        assert float(answer.headers["x-router-cost-usd"]) <= most
    else:
        assert answer.json()["error"]["code"] == "max_cost_too_low"


async def timed(running: Running, milliseconds: float) -> tuple[httpx.Response, float]:
    """An answer within a deadline, and the seconds that it took."""
    began = time.monotonic()
    answer = await running.post(**body(QUESTION, router={"max_latency_ms": milliseconds}))
    return answer, time.monotonic() - began


async def test_a_deadline_is_kept_with_the_best_there_is(models: list[dict[str, Any]]) -> None:
    async with planning(models, router_r1()) as running:
        rounds = (await tell(running, QUESTION)).rounds
        ends = [one["started_ms"] + one["ms"] for one in rounds]
        for milliseconds in (ends[0] / 4, ends[1] + rounds[2]["ms"] / 4, 20 * ends[-1]):
            answer, seconds = await timed(running, milliseconds)
            assert seconds < milliseconds / 1000 + 5
            document = (await running.client.get(f"/v1/decisions/{answer.headers['x-router-decision-id']}")).json()
            heard = [one["text"] for one in document["rounds"] if one["purpose"] == EXPERT and one["error"] is None]
            asked = [(one["purpose"], one["error"], round(one["ms"])) for one in document["rounds"]]
            print(f"\n{milliseconds:.0f} ms: {answer.status_code} after {seconds:.1f} s, {asked}, experts said {heard}")
            assert answer.status_code in ((200,) if heard else (200, 504)), answer.text
            assert answer.status_code == 200 or answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.status_code == 200


async def test_a_long_thought_keeps_the_connection_alive_and_ends_with_its_client(stand: Stand) -> None:
    """A policy so hot that it hardly ever ends writes on and on. The client hears comments, then leaves, and the engine is free again."""
    models = [expert(name, url) for name, url in stand.experts.items()]
    async with planning(models, router_r1("small", policy_tokens=1600)) as running:
        heard = b""
        async with running.client.stream("POST", "/v1/chat/completions", json=body(QUESTION, stream=True, temperature=2.0)) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for part in answer.aiter_raw():
                heard += part
                if heard.count(b"\n\n") >= 1:
                    break
        freed = await asyncio.to_thread(wait_for, stand, "small", False, 20)
    assert heard.startswith(b": ")
    assert b"data:" not in heard
    assert freed is not None, "the policy still writes 20 s after its client left"
    print(f"\nheard {heard!r}, idle again after {freed:.2f} s")
