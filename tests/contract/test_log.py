"""The log: one line for each request, however it ends, with the same members each time."""

from __future__ import annotations

import io
import json
import re

import pytest

from backends.fake.engine import Latency
from gateway.account.costs import Usage
from gateway.account.journal import Journal
from gateway.account.records import Attempt, Decision, Record
from gateway.account.visit import Visit
from gateway.errors import STATUS
from routers.api import Choice, Scored
from tests.faults.test_disconnect import leave
from tests.faults.test_rounds import asks_then_relays, planned
from tests.gateways import chat, pair, until

ROUTED = (
    "event time request_id decision_id trace_id caller endpoint stream route model policy reason why cache status error attempts "
    "prompt_tokens completion_tokens cost_usd overhead_ms first_byte_ms ms"
).split()
REFUSED = "event time request_id trace_id caller endpoint status error ms".split()


def record() -> Record:
    choice = Choice("cost", "best_score", (Scored("small", 0.8), Scored("large", 0.2)))
    decision = Decision("dec-0", "auto", choice, "hit", 1_700_000_000.0, 9)
    found = Record(
        decision, "chat", "req-0", True, "ann", "small", [Attempt("small", "a:1", "500", 0.1), Attempt("small", "b:1", "ok", 0.1)]
    )
    found.status, found.usage, found.cost_usd, found.seconds = 200, Usage(9, 24), 0.00000285, 0.01234567
    found.overhead_seconds, found.first_byte_seconds, found.trace_id = 0.0005, 0.003, "0af7651916cd43dd8448eb211c80319c"
    return found


async def test_a_line_for_machines() -> None:
    out = io.StringIO()
    journal = Journal(out, False, lambda: 1_700_000_001.0)
    journal.request(record())
    journal.refused(Visit(0.0, {b"x-request-id": b"req-1"}, lambda: "0"), "chat", 401, "invalid_api_key", 0.0015)
    journal.flush()
    assert out.getvalue() == (
        '{"event":"request","time":1700000000.0,"request_id":"req-0","decision_id":"dec-0",'
        '"trace_id":"0af7651916cd43dd8448eb211c80319c","caller":"ann","endpoint":"chat","stream":true,"route":"auto","model":"small",'
        '"policy":"cost","reason":"best_score","why":"small scores 0.8, large 0.2; decided before, for the same prompt","cache":"hit",'
        '"status":200,"error":null,"attempts":2,"prompt_tokens":9,"completion_tokens":24,"cost_usd":2.85e-6,"overhead_ms":0.5,'
        '"first_byte_ms":3.0,"ms":12.346}\n'
        '{"event":"request","time":1700000000.9985,"request_id":"req-1","trace_id":null,"caller":"anyone","endpoint":"chat","status":401,'
        '"error":"invalid_api_key","ms":1.5}\n'
    )


async def test_lines_for_people() -> None:
    out = io.StringIO()
    journal = Journal(out, True, lambda: 1_700_000_001.0)
    journal.request(record())
    journal.refused(Visit(0.0, {b"x-request-id": b"req-1"}, lambda: "0"), "chat", 401, "invalid_api_key", 0.0015)
    journal.flush()
    assert out.getvalue().splitlines() == [
        "200  chat        auto       -> small        $0.0000028  12.3 ms  2 attempts  small scores 0.8, large 0.2; decided before, "
        "for the same prompt  dec-0",
        "401  chat        invalid_api_key  1.5 ms  req-1",
    ]


async def test_every_request_has_one_line_and_its_members() -> None:
    async with pair(small=["status:500@first=1"]) as running:
        asked = [
            {"model": "auto", "messages": [{"role": "user", "content": "canary"}]},
            {"model": "auto", "messages": [{"role": "user", "content": "canary"}], "stream": True},
            {"model": "large", "messages": [{"role": "user", "content": "canary"}]},
            {"model": "canary", "messages": [{"role": "user", "content": "canary"}]},
            {"model": "auto", "messages": "canary"},
        ]
        answers = [await running.client.post("/v1/chat/completions", json=body) for body in asked]
        lines = running.lines()
    assert [line["request_id"] for line in lines] == [answer.headers["x-request-id"] for answer in answers]
    assert [line["status"] for line in lines] == [200, 200, 200, 404, 400]
    assert [list(line) for line in lines] == [ROUTED] * 3 + [REFUSED] * 2
    assert [line["why"] for line in lines[:3]] == [
        "small scores 1, large 0; large answered in its place",
        "small scores 1, large 0; decided before, for the same prompt",
        "the request names large",
    ]
    assert {line["error"] for line in lines} <= {None, *STATUS}
    assert "canary" not in json.dumps(lines)


async def test_a_plan_has_one_line() -> None:
    async with planned(asks_then_relays) as running:
        await running.post(**chat())
        (line,) = running.lines()
    assert list(line) == [*ROUTED, "calls", "single"]
    assert line["calls"] == 2


@pytest.mark.parametrize(("after", "members"), [(1500, ROUTED), (0, ROUTED)], ids=["amid the stream", "before it"])
async def test_a_client_that_leaves_has_one_line(after: int, members: list[str]) -> None:
    async with pair(latency=Latency(tpot=50) if after else Latency(ttft=5_000, seqs=1), words=200) as running:
        await leave(running, chat(content="Tell me a long story", stream=True), after)
        assert await until(lambda: bool(running.lines()), 5)
        (line,) = running.lines()
    assert list(line) == members
    assert (line["status"], line["error"]) == (499, "client_closed")
    assert re.fullmatch(r"small scores .*", line["why"])
