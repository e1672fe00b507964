"""More requests than the backends take: they wait in order, within bounds, or hear at once that it is in vain. (Fault 15, in the queue.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from backends.concurrency import GradientLimit
from backends.fake.engine import Latency
from backends.fake.server import FakeServer
from tests.gateways import Running, chat, fake, model, serving, until
from tests.state.callers import Keys

SLOW = Latency(ttft=400)


@asynccontextmanager
async def one_place(latency: Latency = SLOW, queue: dict[str, Any] | None = None, **sections: Any) -> AsyncIterator[Running]:
    """A gateway before one backend that gets one call at a time."""
    async with fake("small", latency=latency) as expert:
        admission = {"max_inflight": 1, "queue": queue or {}}
        async with serving({"models": [model("small", expert.url)], "admission": admission, **sections}) as running:
            running.fakes = {"small": expert}
            yield running


def asked(expert: FakeServer) -> list[str]:
    """What the backend was asked, in order."""
    return [json.loads(record.body)["messages"][0]["content"] for record in expert.records if record.method == "POST"]


def waiting(running: Running) -> dict[str, int]:
    return dict(running.gateway.admission.waiting)


async def ask(running: Running, content: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return await running.client.post("/v1/chat/completions", json=chat("small", content, **more), headers=headers)


def start(running: Running, content: str, headers: dict[str, str] | None = None, **more: Any) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(ask(running, content, headers, **more))


async def in_line(running: Running, count: int) -> None:
    assert await until(lambda: sum(waiting(running).values()) == count, 5.0), waiting(running)


async def test_a_backend_gets_no_more_calls_than_its_limit() -> None:
    async with one_place(Latency(ttft=50)) as running:
        tasks = [start(running, f"question {number}", stream=bool(number % 2)) for number in range(8)]
        most = 0
        while not all(task.done() for task in tasks):
            engine = running.fakes["small"].engine
            most = max(most, engine.running + engine.waiting)
            await asyncio.sleep(0.005)
        assert most == 1
        assert [task.result().status_code for task in tasks] == [200] * 8
        assert waiting(running) == {"interactive": 0, "batch": 0}


async def test_a_full_line_answers_at_once_when_to_come_back() -> None:
    async with one_place(Latency(ttft=1500), {"interactive": {"size": 1}}) as running:
        tasks = [start(running, "first")]
        assert await until(lambda: asked(running.fakes["small"]) == ["first"], 5.0)
        tasks.append(start(running, "second"))
        await in_line(running, 1)
        refused = await ask(running, "third")
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-router-reason"] == "queue_full"
        assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200, 200]
        assert asked(running.fakes["small"]) == ["first", "second"]
        assert 'pointsman_rejections_total{reason="queue_full"} 1.0' in (await running.client.get("/metrics")).text


async def test_batch_yields_to_interactive() -> None:
    async with one_place() as running:
        tasks = [start(running, "first")]
        assert await until(lambda: asked(running.fakes["small"]) == ["first"], 5.0)
        tasks.append(start(running, "batch by header", {"x-router-priority": "batch"}))
        await in_line(running, 1)
        tasks.append(start(running, "batch by tier", service_tier="flex"))
        await in_line(running, 2)
        tasks.append(start(running, "interactive"))
        await in_line(running, 3)
        assert waiting(running) == {"interactive": 1, "batch": 2}
        await asyncio.gather(*tasks)
        assert asked(running.fakes["small"]) == ["first", "interactive", "batch by header", "batch by tier"]


async def test_a_batch_key_cannot_rise_and_keys_take_turns(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    batch, one, other = keys.add(priority="batch"), keys.add(), keys.add()
    async with one_place(Latency(ttft=200), auth=keys.auth) as running:
        tasks = [start(running, "first", one)]
        assert await until(lambda: asked(running.fakes["small"]) == ["first"], 5.0)
        for place, (content, headers) in enumerate(
            [("batch", {**batch, "x-router-priority": "interactive"}), ("one", one), ("one again", one), ("other", other)], 1
        ):
            tasks.append(start(running, content, headers))
            await in_line(running, place)
        await asyncio.gather(*tasks)
        assert asked(running.fakes["small"]) == ["first", "one", "other", "one again", "batch"]


async def test_a_client_that_leaves_the_line_frees_its_place_in_it() -> None:
    async with one_place(Latency(ttft=1000)) as running:
        first = start(running, "first")
        assert await until(lambda: asked(running.fakes["small"]) == ["first"], 5.0)
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        body = json.dumps(chat("small", "leaves")).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await in_line(running, 1)
        last = start(running, "last")
        await in_line(running, 2)
        writer.close()
        assert await until(lambda: waiting(running) == {"interactive": 1, "batch": 0}, 1.0)
        assert [answer.status_code for answer in await asyncio.gather(first, last)] == [200, 200]
        assert asked(running.fakes["small"]) == ["first", "last"]
        assert await until(lambda: running.gateway.fleet["small"].pool.backends[0].inflight == 0, 1.0)
        left = [line for line in running.lines() if line["status"] == 499]
        assert len(left) == 1
        assert not left[0].get("cost_usd"), "no model has worked on it"


async def test_all_leave_at_once_and_the_backend_is_free_again() -> None:
    async with one_place(Latency(ttft=300)) as running:
        tasks = [start(running, f"question {number}", stream=bool(number % 2)) for number in range(20)]
        await in_line(running, 19)
        for task in tasks:
            task.cancel()
        await in_line(running, 0)
        backend = running.gateway.fleet["small"].pool.backends[0]
        assert await until(lambda: backend.inflight == 0, 2.0)
        assert (await ask(running, "last")).status_code == 200


async def test_a_deadline_that_passes_in_the_line() -> None:
    async with one_place(Latency(ttft=1500)) as running:
        first = start(running, "first")
        assert await until(lambda: asked(running.fakes["small"]) == ["first"], 5.0)
        late = await ask(running, "late", {"x-router-max-latency-ms": "200"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert (await first).status_code == 200
        assert asked(running.fakes["small"]) == ["first"]


async def test_nobody_waits_longer_than_anybody_may() -> None:
    async with one_place(Latency(ttft=1500), {"interactive": {"max_wait_seconds": 0.2}}) as running:
        first = start(running, "first")
        assert await until(lambda: asked(running.fakes["small"]) == ["first"], 5.0)
        refused = await ask(running, "second")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert refused.headers["x-router-reason"] == "queue_timeout"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await first).status_code == 200


async def test_a_backend_that_breaks_off_lets_the_next_one_in() -> None:
    async with one_place(Latency(ttft=100)) as running:
        tasks = [start(running, "first", fake_fault="cut_after:1", stream=True), start(running, "second"), start(running, "third")]
        answers = await asyncio.gather(*tasks)
        assert [answer.status_code for answer in answers[1:]] == [200, 200]
        assert waiting(running) == {"interactive": 0, "batch": 0}


async def test_a_clients_own_deadline_says_nothing_of_the_backend() -> None:
    async with fake("small", latency=Latency(ttft=500)) as expert:
        sections = {"models": [model("small", expert.url)], "admission": {"max_inflight": "adaptive"}}
        async with serving(sections) as running:
            for number in range(12):
                late = await ask(running, f"question {number}", {"x-router-max-latency-ms": "60"}, stream=True)
                assert late.json()["error"]["code"] == "deadline_exceeded"
                await asyncio.sleep(0.05)
            backend = running.gateway.fleet["small"].pool.backends[0]
            assert backend.usable()
            assert backend.breaker.state == "closed"
            assert backend.limit is not None
            assert backend.limit.limit == 32
            assert (await ask(running, "patient")).status_code == 200


async def test_errors_that_come_fast_teach_the_limit_nothing() -> None:
    async with fake("small", latency=Latency(ttft=50)) as expert:
        sections = {"models": [model("small", expert.url)], "admission": {"max_inflight": "adaptive"}, "breaker": {"failures": 100}}
        async with serving(sections) as running:
            for number in range(15):
                assert (await ask(running, f"question {number}", stream=True, fake_fault="status:400")).status_code == 400
                await asyncio.sleep(0.03)
            limit = running.gateway.fleet["small"].pool.backends[0].limit
            assert isinstance(limit, GradientLimit)
            assert limit.usual_seconds is None
