"""Budgets of keys whose requests make several calls: every ask is reserved before it goes out, and no budget is exceeded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.errors import GatewayError
from gateway.guard.buckets import Buckets
from gateway.guard.callers import Allowance, Caller
from gateway.guard.funds import Funds
from gateway.guard.limits import Grant, Limits
from gateway.guard.verdicts import PICO
from gateway.memory.store import Store
from routers.api import Answer, Ask, Budget, Task, Transcript
from tests.faults.test_rounds import Says, asks_both, planned
from tests.gateways import Running, chat, until
from tests.redis_servers import RedisServer, redis_server
from tests.state.callers import Keys

PATH = "/v1/chat/completions"
MAX_TOKENS = 100
ASK_USD = 0.0003
"""An ask of the large model for so many tokens, but for its prompt, which costs some 0.00002."""


@asynccontextmanager
async def limited(server: RedisServer | None, keys: Keys, says: Says, **more: Any) -> AsyncIterator[Running]:
    redis = {} if server is None else {"redis": {"url": server.url, "timeout_ms": 2000}}
    async with planned(says, auth=keys.auth, **redis, **more) as running:
        yield running


def eight(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
    """Eight asks side by side; the answer is how they ended."""
    if not so_far.turns and not so_far.running:
        return [Ask(("large",), final=False, max_tokens=MAX_TOKENS, purpose=str(place)) for place in range(8)]
    if so_far.running:
        return ()
    return Answer(" ".join(turn.error or "ok" for turn in so_far.turns), "large")


async def ask(running: Running, key: dict[str, str], **body: Any) -> httpx.Response:
    return await running.client.post(PATH, json=chat(**{"max_tokens": 20, **body}), headers=key)


async def settled(running: Running, server: RedisServer | None, caller: str) -> tuple[float, float]:
    """What a key has spent and holds in the end, in USD."""
    store = running.gateway.memory.store
    if server is None or store is None:
        account = running.gateway.guard.buckets._accounts[caller]
        return account.spent / PICO, sum(account.held.values()) / PICO
    assert await until(lambda: store.pending == 0, 5)
    (name,) = server.command("KEYS", f"*{caller}*:budget:*")
    spent, held = server.command("HMGET", name, "spent", "held")
    assert server.command("ZCARD", name.decode().replace(":budget:", ":held:")) == 0
    return int(spent or 0) / PICO, int(held or 0) / PICO


async def costs(running: Running, folder: Path) -> list[float]:
    await running.gateway.ledger.flush()
    return [json.loads(line)["cost_usd"] or 0.0 for line in (folder / "ledger.jsonl").read_text().splitlines()]


async def test_of_eight_asks_side_by_side_as_many_go_out_as_the_budget_pays_for(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=5.5 * ASK_USD)
    more = {"ledger": {"path": str(tmp_path / "ledger.jsonl")}}
    async with limited(server, keys, eight, large=["drip:2000"], **more) as running:
        response = await ask(running, key)
        outcomes = response.json()["choices"][0]["message"]["content"].split()
        assert outcomes.count("budget") in (3, 4)
        assert outcomes.count("ok") == 8 - outcomes.count("budget")
        assert await until(lambda: bool(running.lines()))
        spent, held = await settled(running, server, keys.id())
        assert held == 0
        assert spent == pytest.approx(sum(await costs(running, tmp_path)))
        assert 0 < spent <= 5.5 * ASK_USD


async def test_two_requests_of_a_key_do_not_spend_the_same_money(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=9.5 * ASK_USD)
    more = {"ledger": {"path": str(tmp_path / "ledger.jsonl")}}
    async with limited(server, keys, eight, large=["drip:2000"], **more) as running:
        answers = await asyncio.gather(*(ask(running, key, content=f"What is {n} + 25?") for n in range(2)))
        outcomes = " ".join(answer.json()["choices"][0]["message"]["content"] for answer in answers).split()
        assert outcomes.count("ok") in (8, 9)
        assert len(outcomes) == 16
        assert await until(lambda: len(running.lines()) == 2)
        spent, held = await settled(running, server, keys.id())
        assert held == 0
        assert spent == pytest.approx(sum(await costs(running, tmp_path)))
        assert spent <= 9.5 * ASK_USD


async def test_the_purse_is_what_the_key_has_left(server: RedisServer | None, tmp_path: Path) -> None:
    seen: list[float | None] = []

    def looks(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        seen.append(left.cost_usd)
        if so_far.turns:
            return Answer(so_far.turns[0].text or "", "small")
        return [Ask(("large",), final=False, max_tokens=MAX_TOKENS)]

    keys = Keys(tmp_path)
    key = keys.add(budget_usd=0.001)
    async with limited(server, keys, looks) as running:
        for _ in range(2):
            assert (await ask(running, key)).status_code == 200
            assert await until(lambda: running.gateway.memory.store is None or running.gateway.memory.store.pending == 0)
        spent, _ = await settled(running, server, keys.id())
        first, after, second, last = (found for found in seen if found is not None)
        assert first == pytest.approx(0.001)
        assert second == pytest.approx(after)
        assert last == pytest.approx(0.001 - spent)
        await ask(running, key, router={"max_cost_usd": 0.0004})
        assert seen[-2] == pytest.approx(0.0004)


async def test_a_client_that_leaves_leaves_nothing_reserved(server: RedisServer | None, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    key = keys.add(budget_usd=1.0)
    async with limited(server, keys, eight, large=["hang_before_headers"]) as running:
        backends = [backend for served in running.gateway.fleet for backend in served.pool.backends]
        task = asyncio.create_task(ask(running, key))
        assert await until(lambda: sum(backend.inflight for backend in backends) == 8, 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await until(lambda: bool(running.lines()), 5)
        spent, held = await settled(running, server, keys.id())
        assert held == 0
        assert spent == pytest.approx(running.lines()[-1]["cost_usd"])
        assert 0 < spent < 8 * ASK_USD, "for what was read"
        assert sum(backend.inflight for backend in backends) == 0


async def test_a_final_ask_that_cannot_be_paid_gives_the_planner_another_word(server: RedisServer | None, tmp_path: Path) -> None:
    def too_dear(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if not so_far.turns:
            return [Ask(("small",), final=False, purpose="answer")]
        if left.cost_usd == 0:
            return Answer(f"all that there is: {so_far.turns[0].text}", "small")
        return [Ask(("large",), max_tokens=3000)]

    keys = Keys(tmp_path)
    key = keys.add(budget_usd=0.0005)
    async with limited(server, keys, too_dear) as running:
        response = await ask(running, key)
        assert "all that there is" in response.json()["choices"][0]["message"]["content"]
        document = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}", headers=key)).json()
        assert [one["error"] for one in document["rounds"]] == [None, "budget"]
        assert (await settled(running, server, keys.id()))[1] == 0


async def test_a_planner_that_insists_gets_the_newest_answer_or_an_error(server: RedisServer | None, tmp_path: Path) -> None:
    def insists(purpose: str) -> Says:
        def says(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
            if not so_far.turns:
                return [Ask(("small",), final=False, purpose=purpose)]
            return [Ask(("large",), max_tokens=3000)]

        return says

    keys = Keys(tmp_path)
    key = keys.add(budget_usd=0.0005)
    async with limited(server, keys, insists("answer")) as running:
        response = await ask(running, key)
        assert (response.status_code, response.headers["x-router-model"]) == (200, "small")
    async with limited(server, keys, insists("think")) as running:
        response = await ask(running, key)
        assert (response.status_code, response.json()["error"]["code"]) == (402, "budget_exceeded")
        assert re.search(r"the cheapest is 'large', for \$0\.00901\d+", response.json()["error"]["message"])
        assert await until(lambda: bool(running.lines()))
        assert running.lines()[-1]["cost_usd"] > 0, "what was asked before costs all the same"
        assert (await settled(running, server, keys.id()))[1] == 0


def named(response: httpx.Response) -> tuple[str, float]:
    """The model and the price that an error names."""
    found = re.search(r"the cheapest is '(\w+)', for \$([0-9.]+)", response.json()["error"]["message"])
    assert found is not None, response.text
    return found[1], float(found[2])


@pytest.mark.parametrize("name", ["auto", "small"])
async def test_who_cannot_pay_for_one_ask_is_told_what_the_cheapest_costs(server: RedisServer | None, tmp_path: Path, name: str) -> None:
    keys = Keys(tmp_path)
    poor, rich, spends = keys.add(budget_usd=1e-9), keys.add(), keys.add(budget_usd=0.0000135)
    async with limited(server, keys, asks_both) as running:
        refused = await ask(running, poor, model=name)
        model, price = named(refused)
        assert (refused.status_code, refused.json()["error"]["code"], model) == (402, "budget_exceeded", "small")
        assert 20 * 0.1e-6 < price < 1e-5
        refused = await ask(running, rich, model=name, router={"max_cost_usd": 1e-9})
        model, price = named(refused)
        assert (refused.status_code, refused.json()["error"]["code"], model) == (402, "max_cost_too_low", "small")
        assert (await ask(running, rich, model=name, router={"max_cost_usd": price})).status_code == 200, "it is what it takes"
        refused = await ask(running, spends, model=name, max_tokens=100)
        for _ in range(10):
            if refused.status_code != 200:
                break
            assert await until(lambda: running.gateway.memory.store is None or running.gateway.memory.store.pending == 0)
            refused = await ask(running, spends, model=name, max_tokens=100)
        model, price = named(refused)
        assert (refused.json()["error"]["code"], model) == ("budget_exceeded", "small")
        assert 1e-5 < price < 1.35e-5, "the whole budget would pay for it, and what is left does not"


class Clock:
    def __call__(self) -> float:
        return 1000.0


def limits(store: Store | None) -> Limits:
    ids = iter(range(10**9))
    buckets = Buckets(1, Clock(), lambda: 0.0)
    return Limits(
        store,
        buckets,
        hold_seconds=900,
        clock=Clock(),
        wall_clock=lambda: 0.0,
        new_id=lambda: f"r{next(ids)}",
        local_used=lambda: None,
    )


WHO = Caller("key_1", "test", allowance=Allowance(rpm=1, tpm=10, budget_usd=1.0))


async def test_money_that_is_free_again_pays_for_the_next_ask() -> None:
    found, more = limits(None), list[Grant]()
    grant = await found.reserve(WHO, 5, 0.3)
    funds = Funds(found, grant, more)
    assert funds.left == PICO
    assert [await funds.take(amount) for amount in (PICO // 5, PICO // 5)] == [True, True]
    assert [one.cost for one in more] == [PICO // 10], "the budget is asked for what is missing alone, and for no second request"
    funds.settle(PICO // 5, PICO // 50)
    assert await funds.take(PICO // 10)
    assert len(more) == 1
    assert not await funds.take(PICO)
    assert funds.left == PICO - PICO // 5 - PICO // 50 - PICO // 10
    with pytest.raises(GatewayError, match="requests a minute"):
        await found.reserve(WHO, 1, 0.0)
    for one in more:
        found.release(one)
    found.settle(grant, 5, 0.32)
    other = Funds(found, await found.reserve(Caller("key_1", "test", allowance=Allowance(budget_usd=1.0)), 0, 0.0), [])
    assert other.left == PICO - round(0.32 * PICO)


async def test_who_is_cancelled_while_money_is_reserved_holds_none() -> None:
    with redis_server() as server:
        store = Store(server.url, timeout=2)
        found = limits(store)
        work = asyncio.create_task(store.run())
        for _ in range(20):
            task = asyncio.create_task(found.extend(WHO, PICO // 100))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            granted = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(granted, Grant):
                found.release(granted)
        assert await until(lambda: store.pending == 0, 5)
        assert await until(
            lambda: all(int(server.command("HGET", name, "held") or 0) == 0 for name in server.command("KEYS", "*:budget:*"))
        )
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await store.aclose()
