"""The books of plans of more than one call: every ask is counted and billed, however it ends, and any plan can be run again."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.fake.engine import Latency
from gateway.account.consistency import contradictions
from gateway.account.ledger import RequestEntry
from gateway.account.ledger_rounds import PlanEntry
from gateway.account.ledger_sources import FileSource
from gateway.account.sums import sum_up
from gateway.flow.replay import Replay, run_again
from routers.api import Answer, Ask, Budget, Task, Transcript
from tests.faults.test_rounds import asks_both, asks_then_relays, planned
from tests.gateways import Running, chat, events, until

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PICTURE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


def ledger(folder: Path, prompts: bool = True) -> dict[str, Any]:
    return {"ledger": {"path": str(folder / "ledger.jsonl"), "prompts": prompts}}


async def entries(running: Running, folder: Path) -> list[RequestEntry]:
    """The ledger's requests so far; each agrees with itself."""
    await running.gateway.ledger.flush()
    found = [one for one in FileSource(folder / "ledger.jsonl").entries() if isinstance(one, RequestEntry)]
    assert [contradictions(one) for one in found] == [[]] * len(found)
    return found


async def replayed(running: Running, entry: RequestEntry) -> Replay:
    """A line, run again by the gateway's own planner."""
    models = {served.model.name: served.model for served in running.gateway.fleet}
    with ThreadPoolExecutor(1) as threads:
        return await run_again(entry, running.gateway.routes["auto"], models, threads)


def counted(running: Running, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in running.gateway.metrics.text().decode().splitlines():
        if line.startswith((f"{name}{{", f"{name} ")) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


async def decision(running: Running, response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = (await running.client.get(f"/v1/decisions/{response.headers['x-router-decision-id']}")).json()
    return found


async def test_every_ask_counts_under_the_model_that_answered_it(tmp_path: Path) -> None:
    async with planned(asks_both, **ledger(tmp_path)) as running:
        response = await running.post(**chat())
        rounds = (await decision(running, response))["rounds"]
        for one in rounds:
            name = one["model"]
            assert counted(running, "pointsman_tokens_total", model=name, kind="prompt") == one["prompt_tokens"]
            assert counted(running, "pointsman_tokens_total", model=name, kind="completion") == one["completion_tokens"]
            assert counted(running, "pointsman_cost_usd_total", route="auto", model=name) == pytest.approx(one["cost_usd"])
        assert counted(running, "pointsman_rounds_sum", route="auto") == 2
        (entry,) = await entries(running, tmp_path)
        assert [(one.model, one.purpose, one.number) for one in sorted(entry.asks, key=lambda one: one.number)] == [
            ("small", "small", 0),
            ("large", "large", 1),
        ]
        assert entry.cost_usd == pytest.approx(sum(one.cost_usd or 0 for one in entry.asks))
        groups, total = sum_up([entry], ["model"])
        assert {key[0]: found.cost_usd for key, found in groups.items()} == {one["model"]: one["cost_usd"] for one in rounds}
        assert (total.requests, total.prompt_tokens) == (1, sum(one["prompt_tokens"] for one in rounds))
        again = await replayed(running, entry)
        assert (again.differences, again.notes, len(again.asks)) == ([], [], 2)


async def test_what_is_relayed_at_the_end_counts_too(tmp_path: Path) -> None:
    async with planned(asks_then_relays, **ledger(tmp_path)) as running:
        for stream in (False, True):
            await running.post(**chat(stream=stream))
        assert counted(running, "pointsman_rounds_count", route="auto") == 2
        assert counted(running, "pointsman_rounds_sum", route="auto") == 4
        assert await until(lambda: len(running.lines()) == 2)
        found = await entries(running, tmp_path)
        for entry, line in zip(found, running.lines(), strict=True):
            assert (len(entry.asks), entry.asks[0].model, entry.model) == (1, "small", "large")
            assert entry.usage is not None
            assert entry.own_cost_usd is not None
            assert 0 < entry.own_cost_usd < (entry.cost_usd or 0)
            assert (line["calls"], line["single"], line["cost_usd"]) == (2, None, entry.cost_usd)
            assert line["completion_tokens"] == (entry.usage.completion_tokens or 0) + (entry.asks[0].completion_tokens or 0)
            assert (await replayed(running, entry)).differences == []
        small, large = (counted(running, "pointsman_cost_usd_total", model=name) for name in ("small", "large"))
        assert small + large == pytest.approx(sum(entry.cost_usd or 0 for entry in found))
        assert small == pytest.approx(sum(entry.asks[0].cost_usd or 0 for entry in found))


@pytest.mark.parametrize("prompts", [True, False])
async def test_answers_are_kept_where_prompts_are(tmp_path: Path, prompts: bool) -> None:
    async with planned(asks_both, **ledger(tmp_path, prompts)) as running:
        text = (await running.post(**chat(content="The secret word is Xyzzy."))).text
        (entry,) = await entries(running, tmp_path)
        assert all((one.text is not None and one.text in text) == prompts for one in entry.asks)
        assert ("Xyzzy" in (tmp_path / "ledger.jsonl").read_text()) == prompts
        notes = (await replayed(running, entry)).notes
        assert (notes == []) == prompts


def first_wins(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
    if so_far.turns:
        return Answer(so_far.turns[0].text or "", so_far.turns[0].model)
    return [Ask((name,), final=False, purpose="vote") for name in ("small", "large")]


async def test_what_is_cancelled_is_billed_for_what_it_read(tmp_path: Path) -> None:
    async with planned(first_wins, large=["hang_before_headers"], **ledger(tmp_path)) as running:
        response = await running.post(**chat(content="What is 17 + 25? " * 20))
        document = await decision(running, response)
        won, cancelled = document["rounds"]
        assert (won["model"], won["error"], won["estimated"]) == ("small", None, False)
        assert (cancelled["model"], cancelled["error"], cancelled["estimated"]) == ("large", "cancelled", True)
        assert (cancelled["prompt_tokens"], cancelled["completion_tokens"]) == (document["prompt_tokens_estimate"], 0)
        assert cancelled["cost_usd"] == pytest.approx(cancelled["prompt_tokens"] * 1.0 / 1e6)
        assert document["cost_usd"] == pytest.approx(won["cost_usd"] + cancelled["cost_usd"])
        assert response.json()["usage"]["prompt_tokens"] == won["prompt_tokens"] + cancelled["prompt_tokens"]
        assert counted(running, "pointsman_tokens_total", model="large", kind="prompt") == cancelled["prompt_tokens"]
        assert counted(running, "pointsman_attempts_total", model="large", outcome="cancelled") == 1
        (entry,) = await entries(running, tmp_path)
        assert [one.error for one in entry.asks] == [None, "cancelled"]
        assert (await replayed(running, entry)).differences == []


async def test_an_ask_that_never_went_out_costs_nothing(tmp_path: Path) -> None:
    """The large model is asked once at a time: the second ask waits in line until nobody needs it any more."""

    def waits(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if so_far.turns:
            return Answer(so_far.turns[0].text or "", so_far.turns[0].model)
        return [Ask((name,), final=False) for name in ("large", "large", "small")]

    more = {"admission": {"max_inflight": 1}, **ledger(tmp_path)}
    async with planned(waits, large=["hang_before_headers"], **more) as running:
        await running.post(**chat())
        (entry,) = await entries(running, tmp_path)
        cancelled = [one for one in entry.asks if one.error == "cancelled"]
        assert sorted((one.estimated, one.cost_usd is not None) for one in cancelled) == [(False, False), (True, True)]
        assert await until(lambda: all(b.inflight == 0 for served in running.gateway.fleet for b in served.pool.backends), 3)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_billed_for_what_was_under_way(tmp_path: Path, stream: bool) -> None:
    async with planned(asks_both, small=["hang_before_headers"], large=["hang_before_headers"], **ledger(tmp_path)) as running:
        task = asyncio.create_task(running.post(**chat(stream=stream)))
        backends = [backend for served in running.gateway.fleet for backend in served.pool.backends]
        assert await until(lambda: all(backend.inflight == 1 for backend in backends), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await until(lambda: bool(running.lines()), 5)
        (entry,) = await entries(running, tmp_path)
        assert (entry.status, entry.usage, entry.estimated) == (499, None, False), "no answer was begun"
        assert [(one.error, one.estimated) for one in entry.asks] == [("cancelled", True)] * 2
        assert entry.cost_usd == pytest.approx(sum(one.cost_usd or 0 for one in entry.asks))
        assert entry.cost_usd > 0
        assert [attempt.outcome for attempt in entry.attempts] == ["cancelled", "cancelled"]
        assert (await replayed(running, entry)).differences == []
        assert all(backend.inflight == 0 for backend in backends)


async def test_time_that_is_over_is_billed_for_what_was_under_way(tmp_path: Path) -> None:
    async with planned(asks_both, large=["hang_before_headers"], **ledger(tmp_path)) as running:
        response = await running.post(**chat(router={"max_latency_ms": 1500}))
        assert response.status_code == 200
        (entry,) = await entries(running, tmp_path)
        late = next(one for one in entry.asks if one.model == "large")
        assert (late.error, late.estimated, late.completion_tokens) == ("deadline_exceeded", True, 0)
        assert (late.cost_usd or 0) > 0


async def test_each_ask_has_attempts_of_its_own(tmp_path: Path) -> None:
    """Asks that failed before do not use up what the last one may try."""

    def many(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if len(so_far.turns) < 4:
            return [Ask(("small",), final=False)]
        return [Ask(("large", "small"))]

    async with planned(
        many, small=["status:500@first=4"], retries={"max_attempts": 2, "budget_minimum": 50}, **ledger(tmp_path)
    ) as running:
        response = await running.post(**chat())
        assert (response.status_code, response.headers["x-router-model"]) == (200, "large")
        (entry,) = await entries(running, tmp_path)
        assert [one.error for one in entry.asks] == ["upstream_error", "upstream_error", None, None]
        assert len(entry.attempts) == 7
        assert counted(running, "pointsman_rounds_sum", route="auto") == 5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"functions": [TOOL["function"]]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": False, "metadata": {"logprobs": True}}, None),
    ],
)
async def test_what_belongs_to_one_model_gets_one_call_and_says_why(tmp_path: Path, body: dict[str, Any], reason: str | None) -> None:
    async with planned(asks_both, **ledger(tmp_path)) as running:
        response = await running.post(**chat(**body, router={"explain": True}))
        assert response.status_code == 200
        document = await decision(running, response)
        calls = 2 if reason is None else 1
        assert (document["single"], len(document["rounds"])) == (reason, 0 if reason else 2)
        assert response.json()["router"]["single"] == reason
        assert (running.lines()[-1]["single"], running.lines()[-1]["calls"]) == (reason, calls)
        assert counted(running, "pointsman_rounds_sum", route="auto") == calls
        (entry,) = await entries(running, tmp_path)
        assert isinstance(entry.plan, PlanEntry)
        assert (entry.plan.single, entry.plan.calls) == (reason, calls)
        assert (await running.post("/v1/route", **chat(**body))).json()["single"] == reason
        assert (await replayed(running, entry)).differences == []


async def test_pictures_and_other_endpoints_get_one_call(tmp_path: Path) -> None:
    async with planned(asks_both, **ledger(tmp_path)) as running:
        dry = await running.post("/v1/route", model="auto", messages=[{"role": "user", "content": PICTURE}])
        assert dry.status_code == 400, "no model here sees pictures, and the filters say so first"
        response = await running.post("/v1/completions", model="auto", prompt="The train")
        assert (await decision(running, response))["single"] == "endpoint"
        assert counted(running, "pointsman_rounds_sum", route="auto") == 1


async def test_a_long_transcript_is_shown_in_part(tmp_path: Path) -> None:
    def talks(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if len(so_far.turns) < 40:
            return [Ask(("small",), prompt=(("user", "Say it again. " * 300),), final=False) for _ in range(40)]
        return Answer("done", "small")

    async with planned(talks, words=2000, **ledger(tmp_path)) as running:
        response = await running.post(**chat())
        document = await decision(running, response)
        assert len(document["rounds"]) == 40
        shown = [one for one in document["rounds"] if "characters" in one]
        assert shown, "answers are long enough to be cut"
        assert all(len(one["text"]) <= 800 < one["characters"] for one in shown)
        assert len(json.dumps(document)) < 80_000
        (entry,) = await entries(running, tmp_path)
        assert max(len(one.text or "") for one in entry.asks) == max(one["characters"] for one in shown)
        assert all(one["started_ms"] >= 0 for one in document["rounds"])
        assert (await replayed(running, entry)).differences == []


async def test_a_planner_without_an_end_is_run_again_to_the_same_end(tmp_path: Path) -> None:
    def forever(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        return [Ask(("small",), final=False, max_tokens=1)]

    async with planned(forever, **ledger(tmp_path)) as running:
        assert (await running.post(**chat())).status_code == 200
        (entry,) = await entries(running, tmp_path)
        again = await replayed(running, entry)
        assert (again.differences, len(again.asks), len(entry.asks)) == ([], 64, 64)


async def test_answers_are_heard_again_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """What a planner does may hang on who was first."""

    def races(task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
        if not so_far.turns and not so_far.running:
            return [Ask((name,), final=False, purpose=f"{n}") for n, name in enumerate(("large", "small", "small"))]
        if len(so_far.turns) == 3:
            return [Ask((so_far.turns[0].model,), final=False, purpose="first again")]
        if len(so_far.turns) < 3:
            return ()
        return [Ask((so_far.turns[1].model,), purpose="second answers")]

    async with planned(races, large=["drip:1500"], **ledger(tmp_path)) as running:
        response = await running.post(**chat())
        assert response.status_code == 200
        (entry,) = await entries(running, tmp_path)
        assert entry.asks[2].number == 0, "the first that was asked came last"
        again = await replayed(running, entry)
        assert (again.differences, len(again.asks)) == ([], 4)


async def test_a_stream_counts_its_rounds_once(tmp_path: Path) -> None:
    async with planned(asks_both, latency=Latency(tpot=1), **ledger(tmp_path)) as running:
        response = await running.post(**chat(stream=True, stream_options={"include_usage": True}))
        usage = events(response.text)[-2]["usage"]
        assert await until(lambda: bool(running.lines()))
        (entry,) = await entries(running, tmp_path)
        assert usage["completion_tokens"] == sum(one.completion_tokens or 0 for one in entry.asks)
        assert re.fullmatch(r"\d+", str(usage["prompt_tokens"]))
        assert counted(running, "pointsman_rounds_sum", route="auto") == 2
