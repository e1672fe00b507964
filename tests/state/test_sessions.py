"""A conversation keeps its model, unless moving it gains more than its prefix cache is worth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flow.wire import read
from routers.api import Model, Price, Scored
from routers.regret import gain, regret
from tests.gateways import Running, chat, pair, route, until
from tests.redis_servers import redis_server

RULES = {
    "type": "rules",
    "weight": 2.0,
    "rules": [{"when": {"code": True}, "prefer": {"small": 0.2, "large": 1.0}}, {"prefer": {"small": 0.8, "large": 0.8}}],
}
BY_RULES = [route("small", "large", scorers=[RULES, {"type": "cost", "weight": 0.4}])]
HELLO = {"role": "user", "content": "Say hello."}
ANSWER = {"role": "assistant", "content": "Hello. " * 20}
CODE = {"role": "user", "content": "Now write a python function that sorts a list of dictionaries.\n```python\ndef sort(items):\n```"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "```python\ndef sort(items): return sorted(items)\n```"}


async def ask(running: Running, *messages: dict[str, Any], **more: Any) -> tuple[str, str]:
    answer = await running.post(model="auto", messages=list(messages), **more)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-router-cache"], answer.headers["x-router-model"]


async def test_from_the_second_turn_on_it_is_pinned() -> None:
    async with pair(routes=BY_RULES) as running:
        assert await ask(running, HELLO) == ("miss", "small")
        assert await ask(running, HELLO) == ("hit", "small"), "a first turn is no continuation"
        assert await ask(running, HELLO, ANSWER, {"role": "user", "content": "And again."}) == ("pin", "small")
        assert await ask(running, HELLO, CALL, RESULT) == ("pin", "small"), "results of tools never move it"


async def test_a_human_turn_moves_it_only_if_that_gains_more_than_it_loses() -> None:
    async with pair(routes=BY_RULES) as running:
        await ask(running, HELLO)
        found = await ask(running, HELLO, ANSWER, CODE)
        assert found == ("miss", "large"), "a short conversation has little to lose"
        assert await ask(running, HELLO, ANSWER, CODE, ANSWER, {"role": "user", "content": "Fine. " * 3}) == ("pin", "large")
    async with pair(routes=BY_RULES) as running:
        await ask(running, HELLO)
        long = {"role": "assistant", "content": "A long story. " * 8000}
        assert await ask(running, HELLO, long, CODE) == ("pin", "small"), "a long one keeps its cache"


async def test_the_callers_own_name_for_a_conversation() -> None:
    async with pair(routes=BY_RULES) as running:
        named = {"router": {"session": "s-1"}}
        assert await ask(running, HELLO, **named) == ("miss", "small")
        assert await ask(running, {"role": "user", "content": "Something else."}, **named) == ("pin", "small")
        assert await ask(running, {"role": "user", "content": "Something other."}, router={"session": "s-2"}) == ("miss", "small")
        text = await running.post("/v1/completions", model="auto", prompt="Once upon a time", router={"session": "s-3"})
        assert text.headers["x-router-cache"] == "miss"
        again = await running.post("/v1/completions", model="auto", prompt="And then", router={"session": "s-3"})
        assert again.headers["x-router-cache"] == "pin"


async def test_a_dry_run_starts_no_conversation_and_no_cache_starts_it_anew() -> None:
    async with pair(routes=BY_RULES) as running:
        named = {"router": {"session": "s-1"}}
        await running.post("/v1/route", **chat(**named))
        assert await ask(running, HELLO, **named) == ("miss", "small")
        fresh = {"model": "auto", "messages": [CODE], **named}
        answer = await running.client.post("/v1/chat/completions", json=fresh, headers={"cache-control": "no-cache"})
        assert (answer.headers["x-router-cache"], answer.headers["x-router-model"]) == ("bypass", "large")
        assert await ask(running, {"role": "user", "content": "Thank you."}, **named) == ("pin", "large")


async def test_a_pinned_model_that_must_not_serve_is_left() -> None:
    async with pair(routes=BY_RULES) as running:
        named = {"session": "s-1"}
        assert await ask(running, HELLO, router=named) == ("miss", "small")
        assert (await ask(running, HELLO, router={**named, "exclude": ["small"]}))[1] == "large"
        assert await ask(running, HELLO, router=named) == ("pin", "large")
        running.gateway.fleet["large"].pool.backends[0].health = "down"
        assert (await ask(running, HELLO, router=named))[1] == "small"


async def test_another_gateway_knows_the_conversation_and_its_changes() -> None:
    with redis_server() as server:
        redis = {"url": server.url, "timeout_ms": 5000}
        async with pair(routes=BY_RULES, redis=redis) as first, pair(routes=BY_RULES, redis=redis) as second:
            turn = (HELLO, ANSWER, {"role": "user", "content": "And again."})
            await ask(first, HELLO)
            store = first.gateway.memory.store
            assert store is not None
            assert await until(lambda: store.pending == 0)
            assert await ask(second, *turn) == ("pin", "small")
            assert (await ask(second, *turn, ANSWER, CODE))[1] == "large"
            other = second.gateway.memory.store
            assert other is not None
            assert await until(lambda: other.pending == 0)
            assert await ask(first, *turn, ANSWER, CODE, CALL, RESULT) == ("pin", "large")
            server.command("FLUSHALL")
            assert await ask(first, *turn) == ("pin", "large"), "what the process remembers itself"
            for key in server.command("KEYS", "*"):
                assert b"Hello" not in key


@pytest.mark.parametrize(
    "value", ["{", "null", '{"v":9,"policy":"p","ranking":[]}', '{"v":1,"policy":"p","ranking":[{"model":"x","score":1}]}']
)
async def test_a_poisoned_session_is_none(value: str) -> None:
    with redis_server() as server:
        async with pair(routes=BY_RULES, redis={"url": server.url, "timeout_ms": 5000}, sessions={"size": 0}) as running:
            await ask(running, HELLO, router={"session": "s"})
            store = running.gateway.memory.store
            assert store is not None
            assert await until(lambda: store.pending == 0)
            (key,) = server.command("KEYS", "*:session:*")
            server.command("SET", key, value)
            assert (await ask(running, HELLO, router={"session": "s"}))[0] == "hit"


def opening(*messages: dict[str, Any], **more: Any) -> bytes:
    import json

    talk = read("chat", {}, json.dumps({"model": "auto", "messages": list(messages), **more}).encode()).prompt.conversation()
    assert talk is not None
    return talk.opening


def test_what_names_a_conversation() -> None:
    system = {"role": "system", "content": "Be brief."}
    one = opening(system, HELLO)
    assert one == opening(system, HELLO, ANSWER, CODE)
    marked = {"role": "user", "content": [{"type": "text", "text": "Say hello.", "cache_control": {"type": "ephemeral"}}]}
    assert one == opening(system, marked), "marks for a cache change nothing"
    others = (
        opening(HELLO),
        opening(system, CODE),
        opening({**system, "content": "Be long."}, HELLO),
        opening(system, HELLO, tools=[{"type": "function"}]),
    )
    assert one not in others
    assert len(set(others)) == 4


PRICE = Price(1.0, 2.0)
RANKING = (Scored("a", 1.0, cost_usd=0.002), Scored("b", 0.5, cost_usd=0.001))


def test_the_formula() -> None:
    # 0.4 * 1000 tokens * 1e-6 USD / 0.001 USD + 0.05 * 1000 / 5000
    assert regret(Model("a", PRICE), RANKING, 1000, 0.4, 5000, 0.05) == pytest.approx(0.4 + 0.01)
    cached = Model("a", Price(1.0, 2.0, cached_input=0.75))
    assert regret(cached, RANKING, 1000, 0.4, 5000, 0.05) == pytest.approx(0.1 + 0.01)
    assert regret(Model("a"), RANKING, 1000, 0.4, 5000, 0.05) == pytest.approx(0.01)
    assert gain(RANKING, "b") == 0.5
    assert gain(RANKING, "gone") == float("inf")


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.floats(0, 10))
def test_a_longer_conversation_has_more_to_lose(one: int, other: int, weight: float) -> None:
    short, long = sorted((one, other))
    model = Model("a", PRICE)
    assert 0 <= regret(model, RANKING, short, weight, 5000, 0.05) <= regret(model, RANKING, long, weight, 5000, 0.05)
