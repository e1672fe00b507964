"""One question to one model, by the gateway's own way: pools, keys, timeouts, retries; and within each backend's places."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from backends.api import Call, Header, Response, Take, Transport
from backends.places import Places
from backends.retry import Outcome, RetryBudget
from gateway.account.costs import Usage, cost_usd
from gateway.errors import GatewayError
from gateway.fleet import Fleet
from gateway.flow.execute import Errand, Executor, Place, Reply
from gateway.flow.wire import read
from gateway.guard.admission import Admission
from gateway.guard.lines import Bounds

ATTEMPTS = 8
"""For one answer. Nobody waits for it, so a backend that restarts gets some seconds."""
WAIT_SECONDS = 60.0
"""For a backend that is not well."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))
_THOUGHTS = re.compile(r"\A.*</think>", re.DOTALL)


class NoAnswer(Exception):
    """A model gave no answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """`text`: without a reasoning model's thoughts. `seconds`: of the attempt that succeeded, beginning when the backend had a place.

    `cost_usd`: None if the price or the usage is unknown.
    """

    text: str
    usage: Usage | None
    cost_usd: float | None
    seconds: float


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message


class _Whole(Struct):
    choices: list[_Choice]
    usage: Usage | None = None


_WHOLE = msgspec.json.Decoder(_Whole)


class Starts:
    """When the newest call of each task began, on the clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._began: dict[asyncio.Task[Any] | None, float] = {}

    def mark(self) -> None:
        self._began[asyncio.current_task()] = self.clock()

    def since(self) -> float:
        """Seconds since this task's newest call began."""
        now = self.clock()
        return now - self._began.pop(asyncio.current_task(), now)


class Held:
    """A response that holds one of its backend's places until it is closed."""

    def __init__(self, inner: Response, places: Places) -> None:
        self._inner = inner
        self._places: Places | None = places
        self.status = inner.status

    @property
    def headers(self) -> Sequence[Header]:
        return self._inner.headers

    async def read(self) -> bytes:
        return await self._inner.read()

    async def pour(self, take: Take) -> bool:
        return await self._inner.pour(take)

    def close(self) -> None:
        self._inner.close()
        places, self._places = self._places, None
        if places is not None:
            places.leave()


class Limited:
    """A transport that has so many calls under way at once, and no more. The others wait before their timeouts begin."""

    def __init__(self, inner: Transport, places: Places, starts: Starts) -> None:
        self._inner = inner
        self._places = places
        self._starts = starts

    async def send(self, call: Call) -> Response:
        if not self._places.take():
            await self._places.wait()
        self._starts.mark()
        try:
            return Held(await self._inner.send(call), self._places)
        except BaseException:
            self._places.leave()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


def limit(fleet: Fleet, concurrency: int, starts: Starts) -> None:
    """Gives every backend of the fleet `concurrency` places; models that share a URL share them."""
    places: dict[str, Places] = {}
    for served in fleet:
        for backend in served.pool.backends:
            own = places.setdefault(backend.url.rstrip("/"), Places(concurrency))
            backend.transport = Limited(backend.transport, own, starts)


class Asker:
    """Asks models of a fleet. `max_tokens`: of an answer. `seed`: sent along; None for none."""

    def __init__(
        self, fleet: Fleet, concurrency: int, seed: int | None, *, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self._fleet = fleet
        self._seed = seed
        self._starts = Starts(clock)
        limit(fleet, concurrency, self._starts)
        # The places bound what runs at once, so retries need no budget of their own, and the line no bound.
        budget = RetryBudget(1.0, 1_000_000)
        admission: Admission[Place] = Admission({"interactive": Bounds(1_000_000, WAIT_SECONDS)}, 0.0, clock=clock)
        bounds = (ATTEMPTS, WAIT_SECONDS, MAX_ANSWER_BYTES)
        self._executor = Executor(fleet, admission, budget, *bounds, clock=clock, wall_clock=wall_clock, rng=Random())

    async def ask(self, model: str, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> Answered:
        """A model's answer at temperature 0. Raises NoAnswer after all attempts, or when the backend refuses the request."""
        body: dict[str, Any] = {"model": model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}
        if self._seed is not None:
            body["seed"] = self._seed
        try:
            reply = await self._executor.open(Errand([model], read("chat", {}, msgspec.json.encode(body)), _HEADERS), [])
        except GatewayError as error:
            raise NoAnswer(error.message) from None
        seconds = self._starts.since()
        reply.close(Outcome(status=reply.status))
        return self._read(model, reply, seconds)

    def _read(self, model: str, reply: Reply, seconds: float) -> Answered:
        if reply.passed_on:
            raise NoAnswer(f"the backend refused the request with status {reply.status}: {_reason(reply.first)}")
        try:
            whole = _WHOLE.decode(reply.first)
            text = whole.choices[0].message.content or ""
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
            raise NoAnswer("the backend's answer is not one of an OpenAI-style server") from None
        cost = cost_usd(self._fleet[model].model.price, whole.usage)
        return Answered(_THOUGHTS.sub("", text).strip(), whole.usage, cost, seconds)


class _Reason(Struct):
    message: str = ""


class _Refusal(Struct):
    error: _Reason = msgspec.field(default_factory=_Reason)
    message: str = ""


def _reason(body: bytes) -> str:
    """What a backend says about its refusal, on one line."""
    try:
        found = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no reason given"
    return " ".join((found.error.message or found.message or "no reason given").split())[:200]
