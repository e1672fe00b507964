"""A gateway whose routes make several calls, before real models: what it answers, and what its planners saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from routers.api import Answer, Ask, Budget, Task, Transcript
from routers.planners.cascade import Cascade
from routers.planners.ensemble import Ensemble
from routers.planners.router_r1 import RouterR1
from routers.registry import Registry
from tests.gateways import Running, events, serving

PATIENCE = 500.0
"""Seconds for one answer: three servers, and whatever else this machine does, share a few processors."""
PRICES = {"small": (0.02, 0.04), "large": (0.05, 0.10)}
"""USD for a million tokens in and out."""
DESCRIPTIONS = {"small": "fast and cheap, for simple questions", "large": "knows the most"}
"""Of the experts, in the order of a route that asks the cheapest first."""


@dataclass
class Seen:
    """What planners were told, in order: a transcript each time that one was asked what it wants."""

    transcripts: list[Transcript] = field(default_factory=list)

    def watch(self, planner: type) -> type:
        """A planner that does as `planner`, and whose transcripts are kept here."""
        seen = self.transcripts

        class Watched(planner):  # type: ignore[misc]
            def next(self, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer:
                seen.append(so_far)
                wanted: Sequence[Ask] | Answer = super().next(task, so_far, left)
                return wanted

        return Watched


def priced(name: str) -> tuple[float, float]:
    return PRICES.get(name, PRICES["small"])


def cost_of(name: str, usage: Mapping[str, int]) -> float:
    """USD of one call."""
    read, written = priced(name)
    return (read * usage["prompt_tokens"] + written * usage["completion_tokens"]) / 1e6


def expert(name: str, url: str, served_as: str | None = None) -> dict[str, Any]:
    """A model's section of the configuration. `served_as`: the name that its server knows."""
    price = dict(zip(("input", "output"), priced(name), strict=True))
    section = {"name": name, "backends": [url], "price": price, "context_window": 2048}
    return {**section, "served_as": served_as or name, "description": DESCRIPTIONS.get(name, "")}


@asynccontextmanager
async def planning(
    models: Sequence[Mapping[str, Any]],
    planner: Mapping[str, Any],
    seen: Seen | None = None,
    candidates: Sequence[str] = ("small", "large"),
) -> AsyncIterator[Running]:
    """A route `auto` over `candidates`, from the cheapest up, whose planner is configured so."""
    seen = seen or Seen()
    kinds = {"cascade": Cascade, "ensemble": Ensemble, "router_r1": RouterR1}
    registry = Registry({("planners", name): seen.watch(kind) for name, kind in kinds.items()})
    route = {"name": "auto", "models": list(candidates), "policy": {"scorers": [{"type": "cost"}], "planner": dict(planner)}}
    route["decision_deadline_ms"] = 10_000
    patient = {
        "timeouts": {"first_byte": PATIENCE, "idle": PATIENCE},
        "health": {"interval_seconds": 60, "timeout_seconds": 60},
        "retries": {"max_attempts": 1},
    }
    async with serving({"models": list(models), "routes": [route], **patient}, registry) as running:
        running.client.timeout = httpx.Timeout(PATIENCE)
        yield running


def body(content: str, **more: Any) -> dict[str, Any]:
    """A chat that a model answers alike each time, in few words."""
    return {"model": "auto", "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 24, **more}


@dataclass(frozen=True)
class Told:
    """An answer, whole or streamed, as a client reads it. `chunks`: of a stream. `decision`: as it stood afterwards."""

    headers: Mapping[str, str]
    text: str
    thoughts: str
    model: str
    finish: str
    usage: Mapping[str, Any]
    chunks: Sequence[Mapping[str, Any]]
    decision: Mapping[str, Any]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return list(self.decision["rounds"])

    def purposes(self) -> list[str]:
        return [one["purpose"] for one in self.rounds]


async def tell(running: Running, content: str, **more: Any) -> Told:
    """Asks, checks that what comes is an OpenAI chat completion, and reads it."""
    streamed = bool(more.get("stream"))
    if streamed:
        more["stream_options"] = {"include_usage": True}
    answer = await running.post(**body(content, **more))
    assert answer.status_code == 200, answer.text
    found = _of_stream(answer) if streamed else _of_whole(answer)
    document = (await running.client.get(f"/v1/decisions/{answer.headers['x-router-decision-id']}")).json()
    told = Told(answer.headers, decision=document, **found)
    _check_books(told, streamed)
    return told


def _of_whole(answer: httpx.Response) -> dict[str, Any]:
    document = answer.json()
    (choice,) = document["choices"]
    assert (document["object"], choice["index"], choice["message"]["role"]) == ("chat.completion", 0, "assistant")
    assert document["id"].startswith("chatcmpl-")
    assert isinstance(document["created"], int)
    found = {"text": choice["message"]["content"], "thoughts": "", "model": document["model"], "finish": choice["finish_reason"]}
    return {**found, "usage": document["usage"], "chunks": ()}


def _of_stream(answer: httpx.Response) -> dict[str, Any]:
    *chunks, last = events(answer.text)
    assert last == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    *spoken, end = chunks
    assert end["choices"] == []
    (finish,) = [chunk["choices"][0]["finish_reason"] for chunk in spoken if chunk["choices"][0]["finish_reason"]]
    text = "".join(_pieces(spoken, "content"))
    thoughts = "".join(_pieces(spoken, "reasoning_content"))
    return {"text": text, "thoughts": thoughts, "model": end["model"], "finish": finish, "usage": end["usage"], "chunks": chunks}


def _pieces(chunks: Sequence[Mapping[str, Any]], member: str) -> Iterator[str]:
    for chunk in chunks:
        yield chunk["choices"][0]["delta"].get(member) or ""


def _check_books(told: Told, streamed: bool) -> None:
    """Usage, cost and the decision say the same: the sum of all rounds and of what was relayed."""
    final = told.decision["usage"] or {}
    for kind in ("prompt_tokens", "completion_tokens"):
        rounds = sum(one[kind] or 0 for one in told.rounds)
        assert told.usage[kind] == rounds + (final.get(kind) or 0), (kind, told.usage, told.rounds, final)
    assert told.usage["total_tokens"] == told.usage["prompt_tokens"] + told.usage["completion_tokens"]
    assert told.decision["status"] == 200
    costs = [one["cost_usd"] or 0 for one in told.rounds]
    if final:
        costs.append(
            sum(p * (final[kind] or 0) / 1e6 for p, kind in zip(priced(told.model), ("prompt_tokens", "completion_tokens"), strict=True))
        )
    assert abs(told.decision["cost_usd"] - sum(costs)) < 1e-12, (told.decision["cost_usd"], costs)
    if not streamed:
        assert abs(float(told.headers["x-router-cost-usd"]) - told.decision["cost_usd"]) < 2e-9
        assert told.headers["x-router-model"] == told.model
