"""Answers that several calls have made: their text as a completion of its own, their usage as a sum, and what a stream says meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from backends.api import Header
from gateway.account.costs import usage_of_turns
from gateway.flow.client import Client
from gateway.flow.inner import usage_document
from gateway.flow.sse import event
from routers.api import Answer, Turn

KEEP_ALIVE = b": the answer is being worked on\n\n"
PIECE = 400
"""Characters of a composed answer in one chunk of a stream."""


class Origin(Struct, frozen=True):
    """What all parts of an answer have in common. `created`: Unix time."""

    id: str
    model: str
    created: int


class Ending(Struct, frozen=True):
    """How a composed answer ends. `usage`: as OpenAI shows it."""

    finish: str
    usage: Mapping[str, object] | None


def ending(answer: Answer, turns: Sequence[Turn]) -> Ending:
    """An answer that is a turn's own words ended as that turn did. What the other turns wrote is reasoning."""
    own = next((turn for turn in reversed(turns) if turn.text and turn.model == answer.model and answer.text in turn.text), None)
    finish = own.finish if own is not None and own.text == answer.text else None
    rounds = usage_of_turns([turn for turn in turns if turn is not own])
    return Ending(finish or "stop", usage_document(usage_of_turns(turns), rounds))


def whole(origin: Origin, answer: Answer, end: Ending) -> bytes:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": end.finish, "logprobs": None}
    document = {"id": origin.id, "object": "chat.completion", "created": origin.created, "model": origin.model, "choices": [choice]}
    return msgspec.json.encode({**document, "usage": end.usage})


def chunk(origin: Origin, delta: Mapping[str, str], finish: str | None = None) -> bytes:
    """An event with one piece of a chat completion."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
    document = {"id": origin.id, "object": "chat.completion.chunk", "created": origin.created, "model": origin.model}
    return event(msgspec.json.encode({**document, "choices": [choice]}))


def chunks(origin: Origin, answer: Answer, end: Ending, wants_usage: bool) -> Sequence[bytes]:
    """The events of a composed answer, up to and with `[DONE]`."""
    pieces = [answer.text[start : start + PIECE] for start in range(0, len(answer.text), PIECE)] or [""]
    found = [chunk(origin, {"role": "assistant", "content": pieces[0]}), *(chunk(origin, {"content": piece}) for piece in pieces[1:])]
    found.append(chunk(origin, {}, end.finish))
    if wants_usage and end.usage is not None:
        document = {"id": origin.id, "object": "chat.completion.chunk", "created": origin.created, "model": origin.model, "choices": []}
        found.append(event(msgspec.json.encode({**document, "usage": end.usage})))
    return [*found, event(b"[DONE]")]


def thought(turn: Turn) -> str:
    """What a client that asked for an explanation reads of a turn."""
    what = turn.error if turn.text is None else turn.text
    cost = "" if turn.cost_usd is None else f", ${turn.cost_usd:.6f}"
    return f"[{turn.ask.purpose or 'ask'}: {turn.model}, {turn.seconds:.1f} s{cost}] {what}\n"


class Told:
    """A stream's client while the answer is worked on: it reads the turns if it asked to, and comments that keep the connection open.

    `headers`: of the answer, which is committed to with the first of these.
    """

    def __init__(self, client: Client, headers: Sequence[Header], origin: Origin, explain: bool) -> None:
        self._client = client
        self._headers = headers
        self._origin = origin
        self._explain = explain

    async def hear(self, turn: Turn) -> None:
        if self._explain:
            await self._say(chunk(self._origin, {"reasoning_content": thought(turn)}))

    async def wait(self) -> None:
        await self._say(KEEP_ALIVE)

    async def _say(self, data: bytes) -> None:
        if not self._client.committed:
            self._client.head(200, self._headers)
        await self._client.write(data, more=True)


class Untold:
    """A client that waits for a whole answer."""

    async def hear(self, turn: Turn) -> None:
        pass

    async def wait(self) -> None:
        pass
