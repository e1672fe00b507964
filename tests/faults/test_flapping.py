"""A backend that is up and down, up and down. (Fault 11.)"""

from __future__ import annotations

import asyncio

from backends.fake.engine import Latency
from tests.faults.fleets import ask, backend, break_down, calls, fleet, statuses
from tests.gateways import chat, until

NO_CHECKS = {"interval_seconds": 3600}


async def test_health_that_flaps_loses_no_request() -> None:
    """Row 11: whatever its health says at the moment, requests are answered, with hardly an attempt more."""
    async with fleet([["flap:0.4"], []], health={"interval_seconds": 0.1}) as running:
        changes = 0
        before = backend(running).health
        for _ in range(60):
            assert statuses(await ask(running, 4, at_once=4)) == {200: 4}
            await asyncio.sleep(0.05)
            changes += backend(running).health != before
            before = backend(running).health
        assert changes >= 2, "it did flap"
        assert sum(len(calls(one)) for one in running.fakes.values()) <= 240 * 1.2


async def test_calls_that_flap_keep_it_out_for_longer_and_longer() -> None:
    """Row 11: each time that it fails again its ejection is longer, so that flapping costs less and less."""
    async with fleet([[], []], health=NO_CHECKS, ejection={"seconds": 0.4, "max_seconds": 60}) as running:
        bad, pauses = running.fakes["small-0"], []
        for _ in range(4):
            break_down(bad, "reset_before_headers")
            while not backend(running).standing.ejected:
                assert statuses(await ask(running, 10, at_once=4)) == {200: 10}
            breaker = backend(running).breaker
            pauses.append(breaker.retry_at - breaker.since)
            break_down(bad)

            async def is_back() -> bool:
                await ask(running, 4, at_once=2)
                return backend(running).breaker.state == "closed"

            assert await until(is_back, 20)
        assert all(0.4 * number <= pause <= 0.5 * number for number, pause in enumerate(pauses, 1)), pauses


async def test_one_probe_and_no_herd() -> None:
    """Row 11: of forty requests at once that could try it, one does; the others are answered elsewhere meanwhile."""
    async with fleet([["status:500@first=5"], []], latency=Latency(ttft=300), health=NO_CHECKS) as running:
        bad = running.fakes["small-0"]
        while backend(running).breaker.state == "closed":
            await ask(running, 8, at_once=8)
        backend(running).breaker.look_again()
        before = len(calls(bad))
        found = await asyncio.gather(*(running.post(**chat(content=f"{number}")) for number in range(40)))
        assert statuses(found) == {200: 40}
        probe, *others = calls(bad)[before:]
        assert all(one.started >= probe.started + 0.28 for one in others), "until the probe is answered there is no other call"
        assert backend(running).breaker.state == "closed"


async def test_probes_of_many_gateways_do_not_fall_together() -> None:
    """Row 11: pauses have jitter, so that those who saw the same failure do not come back at the same moment."""
    pauses = set()
    for _ in range(6):
        async with fleet([["status:500"], []], health=NO_CHECKS) as running:
            while backend(running).breaker.state == "closed":
                await ask(running, 10, at_once=2)
            breaker = backend(running).breaker
            pauses.add(round(breaker.retry_at - breaker.since, 3))
    assert len(pauses) == 6
