"""From an answer that has begun to the client's last byte. The first byte sent is the commit point: after it nothing is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from backends.api import BackendError, Header
from gateway.account.costs import Usage
from gateway.errors import Code, GatewayError
from gateway.flow.client import Client
from gateway.flow.execute import Reply
from gateway.flow.sse import EventTooLarge, data_of, event, events

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DONE = b"[DONE]"
DRAIN_SECONDS = 0.5


class _Body(Struct):
    usage: Usage | None = None
    choices: list[Raw] | None = None


_BODY = msgspec.json.Decoder(_Body)


class Relayed(Struct, frozen=True):
    """What went to the client. `usage`: as the backend counted; None if it did not say. `error`: what cut the stream off."""

    usage: Usage | None = None
    error: Code | None = None


def usage_of(body: bytes) -> Usage | None:
    """The usage in a whole answer; None if there is none."""
    try:
        return _BODY.decode(body).usage
    except msgspec.DecodeError:
        return None


def rename(block: bytes, renamed: tuple[bytes, bytes] | None) -> bytes:
    """The answer names the model as clients know it. In an answer's text quotes are escaped, so that it is never touched."""
    if renamed is None:
        return block
    served, name = renamed
    return block.replace(b'"model":' + served, b'"model":' + name).replace(b'"model": ' + served, b'"model": ' + name)


def explain(document: bytes, decision: bytes) -> bytes:
    """Puts the decision into a JSON object as its member `router`. Bytes after the object's last brace stay where they are."""
    cut = document.rfind(b"}")
    comma = b"" if document[:cut].rstrip().endswith(b"{") else b","
    return document[:cut] + comma + b'"router":' + decision + document[cut:]


def explain_first(block: bytes, decision: bytes) -> bytes:
    """Puts the decision into the first event of a block that holds an object."""
    parts = list(events(block))
    place = next((index for index, part in enumerate(parts) if (data_of(part) or b"").startswith(b"{")), None)
    if place is not None:
        parts[place] = explain(parts[place], decision)
    return b"".join(parts)


class StreamFilter:
    """Finds the usage in a stream without parsing its chunks, and takes the usage chunk out if the client did not ask for it."""

    __slots__ = ("_keep", "done", "usage")

    def __init__(self, keep_usage: bool) -> None:
        self._keep = keep_usage
        self.usage: Usage | None = None
        self.done = False

    def pass_on(self, block: bytes) -> bytes:
        """What of a block of whole events goes to the client."""
        if _DONE in block[-32:] and (data_of(list(events(block))[-1]) or b"").strip() == _DONE:
            self.done = True
        if b'"usage"' not in block or _USAGE.search(block) is None:
            return block
        return b"".join(part for part in events(block) if self._wanted(part))

    def _wanted(self, part: bytes) -> bool:
        data = data_of(part)
        if data is None or b'"usage"' not in data:
            return True
        try:
            body = _BODY.decode(data)
        except msgspec.DecodeError:
            return True
        if body.usage is None:
            return True
        self.usage = body.usage
        return self._keep or bool(body.choices)


async def relay_whole(reply: Reply, client: Client, headers: Sequence[Header], body: bytes) -> None:
    """Sends a whole answer."""
    await client.head(reply.status, [*headers, (b"content-length", b"%d" % len(body))])
    await client.write(body, more=False)


async def relay_stream(reply: Reply, client: Client, headers: Sequence[Header], keep_usage: bool, decision: bytes | None) -> Relayed:
    """Streams an answer event by event. `decision`: JSON for the first event, None if the client did not ask why.

    A backend that fails from here on ends the stream with an error event and without `[DONE]`; the connection stays whole.
    """
    stream = StreamFilter(keep_usage)
    error: Code = "upstream_aborted"
    await client.head(reply.status, headers)
    block = reply.first if decision is None else explain_first(reply.first, decision)
    try:
        while block and not stream.done:
            passed = rename(stream.pass_on(block), reply.served.renamed)
            if passed or stream.done:
                await client.write(passed, more=not stream.done)
            block = await _next_block(reply) if not stream.done else b""
    except BackendError as failure:
        error = "upstream_timeout" if failure.kind.endswith("timeout") else "upstream_aborted"
    except EventTooLarge:
        pass
    if stream.done:
        await _drain(reply)
        return Relayed(stream.usage)
    cut_off = GatewayError(error, "the backend broke off amid its answer; what came so far is incomplete")
    await client.write(event(cut_off.body()), more=False)
    return Relayed(stream.usage, error)


async def _next_block(reply: Reply) -> bytes:
    """The next whole events, what is left after the last one, or b"" at the end. Raises BackendError, EventTooLarge."""
    assert reply.splitter is not None
    while data := await reply.read():
        block = reply.splitter.feed(data)
        if block:
            return block
    return reply.splitter.flush()


async def _drain(reply: Reply) -> None:
    """Reads what follows the last event, so that the connection can be used again. The client has its answer already."""
    with contextlib.suppress(BackendError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while await reply.read():
                pass
