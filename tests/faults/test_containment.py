"""A backend that fails is kept away from the others' requests, and only as long as it fails. (Faults 1, 3, 4, 5, 7, 8, 16.)"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from backends.fake.engine import Latency
from tests.faults.fleets import ask, backend, break_down, calls, condition, fleet, is_idle, statuses
from tests.gateways import chat, events, fake, model, route, serving, until
from tests.processes import free_port, process, wait_until_ready

QUICK = {"connect": 0.5, "first_byte": 0.5, "idle": 0.5, "total": 8}
NO_CHECKS = {"interval_seconds": 3600}
"""Health checks would find most faults too; here it is the calls that must."""


@pytest.mark.parametrize("fault", ["reset_before_headers", "close_before_headers", "status:500", "status:503", "hang_before_headers"])
async def test_one_of_four_is_ejected_and_nobody_notices(fault: str) -> None:
    """Rows 1, 4, 5: whatever the fault, no request is lost, and after a few attempts the backend gets none."""
    async with fleet([[fault], [], [], []], timeouts=QUICK, health=NO_CHECKS) as running:
        bad = running.fakes["small-0"]
        asked = 0
        while not backend(running).standing.ejected and asked < 1000:
            assert statuses(await ask(running, 12, at_once=6)) == {200: 12}
            asked += 12
        at_most = 10  # five in a row, and those that were under way
        before = len(calls(bad))
        assert before <= at_most
        assert statuses(await ask(running, 30, at_once=3)) == {200: 30}
        assert len(calls(bad)) == before
        assert sum(len(calls(one)) for one in running.fakes.values()) <= asked + 30 + at_most
        assert is_idle(running)


async def test_it_comes_back_by_one_probe() -> None:
    """Row 11: when its time is over one call tries it; the others do not wait for that."""
    async with fleet(
        [["status:500"], []], latency=Latency(ttft=30), health=NO_CHECKS, ejection={"seconds": 0.6, "max_seconds": 5}
    ) as running:
        bad = running.fakes["small-0"]
        await ask(running, 30, at_once=4)
        assert backend(running).standing.ejected
        while backend(running).standing.total < 3:  # it fails its probes
            before, total = len(calls(bad)), backend(running).standing.total
            assert statuses(await ask(running, 20, at_once=10)) == {200: 20}
            assert len(calls(bad)) - before == backend(running).standing.total - total, "one call each time"
            await asyncio.sleep(0.05)
        break_down(bad)
        assert await until(lambda: backend(running).breaker.allows(), 10)
        assert statuses(await ask(running, 40, at_once=4)) == {200: 40}
        assert backend(running).breaker.state == "closed"
        assert len([one for one in calls(bad) if one.fault is None]) > 5


async def test_of_three_that_fail_one_is_ejected_and_the_others_pause() -> None:
    """Row 10: at most a tenth of the pool and one in any case is out; breakers keep calls from the others for a moment all the same."""
    async with fleet([["status:500"], ["status:500"], ["status:500"], []], health=NO_CHECKS) as running:
        for _ in range(4):
            assert statuses(await ask(running, 20, at_once=2)) == {200: 20}
        pool = running.gateway.fleet["small"].pool
        assert pool.ejections.count == 1
        assert [one.breaker.state for one in pool.backends[:3]] == ["open"] * 3
        assert pool.backends[3].breaker.state == "closed"


async def test_while_the_rest_is_down_the_ejected_one_is_asked() -> None:
    """Row 10, panic: with most of the pool out of service, ejections are ignored."""
    async with fleet([["status:500@first=5"], []], health={"interval_seconds": 0.1}) as running:
        assert await until(lambda: backend(running, 1).health == "up", 10)
        await ask(running, 30)
        assert backend(running).standing.ejected
        await running.fakes["small-1"].stop()
        assert await until(lambda: backend(running, 1).health == "down", 10)
        found = await ask(running, 10, at_once=5)
        assert statuses(found) == {200: 10}
        assert not backend(running).standing.ejected, "it answers: it is back"


async def test_a_model_whose_backends_all_fail_is_passed_over() -> None:
    """Row 10: with the breakers of all backends open, the next model is asked at once, without a failing attempt before."""
    async with fleet([["status:500"], ["status:500"]], [[]], health=NO_CHECKS) as running:
        assert statuses(await ask(running, 30)) == {200: 30}
        before = sum(len(calls(running.fakes[name])) for name in ("small-0", "small-1"))
        found = await ask(running, 40, at_once=4)
        assert statuses(found) == {200: 40}
        more = sum(len(calls(running.fakes[name])) for name in ("small-0", "small-1")) - before
        assert more <= 8, "probes alone"
        assert sum(answer.headers["x-router-attempts"] == "1" for answer in found) >= 32


async def test_client_errors_and_full_queues_never_eject() -> None:
    """Row 5: 4xx are the client's, and 429 is a rest, not a fault."""
    async with fleet([["status:400"], ["status:429@every=2"]], health=NO_CHECKS) as running:
        await ask(running, 40, at_once=4)
        for place in (0, 1):
            assert backend(running, place).breaker.state == "closed"
            assert backend(running, place).standing.total == 0


@pytest.mark.parametrize("fault", ["status:429:1", "status:503:1"])
async def test_a_backend_that_asks_for_a_rest_gets_it(fault: str) -> None:
    """Row 5: no call until `Retry-After` is over; the others take them."""
    async with fleet([[f"{fault}@first=1"], []], health=NO_CHECKS) as running:
        bad = running.fakes["small-0"]
        while not calls(bad):
            assert statuses(await ask(running, 1)) == {200: 1}
        clock = asyncio.get_running_loop().time
        asked = clock()
        assert statuses(await ask(running, 20, at_once=4)) == {200: 20}
        assert clock() - asked > 0.9 or len(calls(bad)) == 1
        assert await until(lambda: backend(running).breaker.rest_left == 0, 5)
        assert statuses(await ask(running, 20, at_once=4)) == {200: 20}
        assert len(calls(bad)) > 1


async def test_the_clients_own_hurry_is_no_fault_of_a_backend() -> None:
    """Rows 4, 5: requests with a `max_latency_ms` that nobody can keep must not take backends away from the others."""
    async with fleet([[], []], latency=Latency(ttft=300), health=NO_CHECKS) as running:
        found = await ask(running, 24, at_once=8, router={"max_latency_ms": 30})
        assert {answer.json()["error"]["code"] for answer in found} == {"deadline_exceeded"}
        for place in (0, 1):
            assert backend(running, place).breaker.in_a_row == 0
            assert backend(running, place).standing.total == 0
        assert statuses(await ask(running, 4, at_once=4)) == {200: 4}


async def test_a_whole_answer_keeps_the_deadline_too() -> None:
    """Row 4: `max_latency_ms` is for all of an answer that is not streamed; what drips is given up in time."""
    async with fleet([["drip:20"]]) as running:
        clock = asyncio.get_running_loop().time
        started = clock()
        found = await running.post(**chat(router={"max_latency_ms": 500}))
        assert (found.status_code, found.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert clock() - started < 5
        assert await until(lambda: is_idle(running), 5)


@pytest.mark.parametrize(
    ("fault", "outcome", "timeouts"),
    [
        ("hang_before_headers", "first_byte_timeout", {"first_byte": 0.3, "idle": 7, "total": 7}),
        ("hang_after_headers", "first_byte_timeout", {"first_byte": 0.3, "idle": 7, "total": 7}),
        ("hang_after:1", "idle_timeout", {"first_byte": 7, "idle": 0.3, "total": 7}),
        ("drip:100", "total_timeout", {"first_byte": 0.6, "idle": 0.6, "total": 0.6}),
    ],
)
async def test_each_timeout_fires_by_itself(fault: str, outcome: str, timeouts: dict[str, float]) -> None:
    """Row 4: what fired is written down, the socket is closed and the place is free."""
    async with fleet([[fault]], [[]], timeouts=timeouts, health=NO_CHECKS) as running:
        found = await running.post(**chat())
        assert (found.status_code, found.headers["x-router-model"]) == (200, "large")
        decision = (await running.client.get(f"/v1/decisions/{found.headers['x-router-decision-id']}")).json()
        assert [attempt["outcome"] for attempt in decision["attempts"]] == [outcome, "ok"]
        record = calls(running.fakes["small-0"])[0]
        assert await until(lambda: record.peer_closed_at_chunk is not None, 5)
        assert await until(lambda: is_idle(running), 5)


async def test_a_stream_that_breaks_off_is_counted_and_paid() -> None:
    """Row 3: an error event for the client; the operator sees what came, estimated, and no gauge stays up."""
    async with fleet([["cut_after:6"]], health=NO_CHECKS) as running:
        found = await running.post(**chat(content="Tell me a story", stream=True))
        assert events(found.text)[-1]["error"]["code"] == "upstream_aborted"
        decision = (await running.client.get(f"/v1/decisions/{found.headers['x-router-decision-id']}")).json()
        assert decision["error"] == "upstream_aborted"
        assert decision["estimated"]
        assert decision["cost_usd"] > 0
        assert is_idle(running)
        assert backend(running).breaker.in_a_row == 1, "it broke off, though it began well"
        metrics = (await running.client.get("/metrics")).text
        assert f'pointsman_backend_inflight{{backend="{backend(running).name}",model="small"}} 0.0' in metrics


async def test_answers_that_break_off_eject_though_they_begin_well() -> None:
    """Row 3: streams that are cut again and again are failures in a row."""
    async with fleet([["cut_after:3"], []], health=NO_CHECKS) as running:
        for _ in range(40):
            await running.post(**chat(content="Tell me a story", stream=True))
            if backend(running).standing.ejected:
                break
        assert backend(running).standing.ejected
        found = await ask(running, 10, stream=True)
        assert all("[DONE]" in answer.text for answer in found)


async def test_a_giant_line_is_stopped_where_the_bound_is() -> None:
    """Row 7: of 50 MB a few are read."""
    async with fleet([["giant_line:50"]], [[]], server={"max_answer_bytes": 1_000_000}) as running:
        for stream in (False, True):
            found = await running.post(**chat(content=f"{stream}", stream=stream))
            assert (found.status_code, found.headers["x-router-model"]) == (200, "large")
        for record in calls(running.fakes["small-0"]):
            assert await until(lambda record=record: record.peer_closed_at_chunk is not None, 5)  # type: ignore[misc]
            assert record.bytes_sent < 12_000_000, "sockets hold some MB as well"


async def test_a_redirect_leads_nowhere() -> None:
    """Row 8: where a backend sends us is never asked."""
    async with fake("small") as elsewhere, fleet([[f"redirect:{elsewhere.url}/chat/completions"]]) as running:
        found = await running.post(**chat())
        assert (found.status_code, found.json()["error"]["code"]) == (502, "upstream_invalid")
        assert not elsewhere.records


async def test_the_operator_sees_state_why_since_ejections_and_the_next_probe() -> None:
    """Row 1: `GET /admin/backends` and the metrics tell the same."""
    async with fleet([["reset_before_headers"], []], health={"interval_seconds": 0.2}) as running:
        assert await until(lambda: backend(running).health == "up", 10)
        before = await condition(running)
        assert (before["state"], before["why"], before["ejections"]) == ("up", None, 0)
        while not backend(running).standing.ejected:
            assert statuses(await ask(running, 4, at_once=2)) == {200: 4}
        seen = await condition(running)
        assert (seen["state"], seen["health"], seen["ejections"]) == ("ejected", "up", 1)
        assert seen["why"] == "out of reach 3 times in a row, the last: lost"
        assert before["since"] <= seen["since"]
        assert 25 < seen["next_probe"] - seen["since"] < 35
        text = (await running.client.get("/metrics")).text
        assert f'pointsman_breaker_state{{backend="{seen["backend"]}",model="small"}} 2.0' in text
        assert f'pointsman_backend_up{{backend="{seen["backend"]}",model="small"}} 0.0' in text
        assert f'pointsman_ejections_total{{backend="{seen["backend"]}",model="small"}} 1.0' in text
        assert f'pointsman_ejections_total{{backend="{backend(running, 1).name}",model="small"}} 0.0' in text
        await running.fakes["small-1"].stop()
        assert await until(lambda: backend(running, 1).health == "down", 10)
        gone = await condition(running, 1)
        assert (gone["state"], gone["why"]) == ("down", "no answer")
        assert gone["next_probe"] is not None


async def test_frozen_and_thawed(tmp_path: Path) -> None:
    """Row 4: a server that is stopped (SIGSTOP) takes nothing along; continued, it gets calls again."""
    command = [str(Path(sys.executable).parent / "pointsman"), "fake-vllm", "--model", "small", "--latency", "ttft=20", "--port"]
    ports = [free_port(), free_port()]
    logs = [tmp_path / f"{port}.log" for port in ports]
    with process([*command, str(ports[0])], logs[0]) as frozen, process([*command, str(ports[1])], logs[1]) as other:
        for port, started, log in zip(ports, (frozen, other), logs, strict=True):
            await asyncio.to_thread(wait_until_ready, f"http://127.0.0.1:{port}/health", started, log, 60)
        config = {
            "models": [model("small", *(f"http://127.0.0.1:{port}/v1" for port in ports))],
            "routes": [route("small")],
            "timeouts": {"first_byte": 1.5, "idle": 1.5, "total": 30},
            "health": {"interval_seconds": 0.5, "timeout_seconds": 0.5},
        }
        async with serving(config) as running:
            assert statuses(await ask(running, 20, at_once=8)) == {200: 20}
            os.kill(frozen.pid, signal.SIGSTOP)
            try:
                found = await ask(running, 120, at_once=12)
                assert statuses(found) == {200: 120}
                assert await until(lambda: not backend(running).usable(), 10)
                assert statuses(await ask(running, 20, at_once=8)) == {200: 20}
            finally:
                os.kill(frozen.pid, signal.SIGCONT)
            assert await until(lambda: backend(running).usable(), 20)

            async def serves() -> bool:
                await ask(running, 8, at_once=4)
                return backend(running).breaker.state == "closed" and backend(running).health == "up"

            assert await until(serves, 20)
