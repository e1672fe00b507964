"""From an answer that has begun to the client's last byte. The first byte sent is the commit point: after it nothing is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from backends.api import BackendError, Header
from gateway.account.costs import Usage
from gateway.errors import Code, GatewayError
from gateway.flow.answers import BODY, Body
from gateway.flow.client import Client
from gateway.flow.execute import Reply
from gateway.flow.inner import with_usage
from gateway.flow.sse import EventTooLarge, data_of, event, events

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = b"[DONE]"
DRAIN_SECONDS = 0.5


class Relayed(Struct, gc=False):
    """What has gone to the client so far. `usage`: as the backend counted; None if it did not say. `error`: what cut the stream off.

    `events`: of the stream; about one for each token.
    """

    usage: Usage | None = None
    error: Code | None = None
    events: int = 0


def rename(block: bytes, renamed: tuple[bytes, bytes] | None) -> bytes:
    """The answer names the model as clients know it. In an answer's text quotes are escaped, so that it is never touched."""
    if renamed is None:
        return block
    served, name = renamed
    return block.replace(b'"model":' + served, b'"model":' + name).replace(b'"model": ' + served, b'"model": ' + name)


def add_member(document: bytes, name: bytes, value: bytes) -> bytes:
    """Puts a member at the end of a JSON object. Bytes after the object's last brace stay where they are."""
    cut = document.rfind(b"}")
    comma = b"" if document[:cut].rstrip().endswith(b"{") else b","
    return document[:cut] + comma + b'"' + name + b'":' + value + document[cut:]


def explain(document: bytes, decision: bytes) -> bytes:
    """Puts the decision into a JSON object as its member `router`."""
    return add_member(document, b"router", decision)


def explain_first(block: bytes, decision: bytes) -> bytes:
    """Puts the decision into the first event of a block that holds an object."""
    parts = list(events(block))
    place = next((index for index, part in enumerate(parts) if (data_of(part) or b"").startswith(b"{")), None)
    if place is not None:
        parts[place] = explain(parts[place], decision)
    return b"".join(parts)


class StreamFilter:
    """Finds the usage in a stream without parsing its chunks, and takes the usage chunk out if the client did not ask for it.

    vLLM names itself (`system_fingerprint`) in the last chunk that it sends, and as usage is asked for, that is the usage chunk. So the
    chunk before, the one with the finish reason, waits for the usage chunk, which comes together with it, and gets the name that it has
    where nobody asks for usage.
    """

    __slots__ = ("_held", "_keep", "_rounds", "done", "usage")

    def __init__(self, keep_usage: bool, rounds: Usage | None = None) -> None:
        self._keep = keep_usage
        self._rounds = rounds
        self._held = b""
        self.usage: Usage | None = None
        self.done = False

    def pass_on(self, block: bytes) -> bytes:
        """What of a block of whole events goes to the client now."""
        if self._held:
            block = self.rest() + block
        if _DONE in block[-32:] and (data_of(list(events(block[-64:]))[-1]) or b"").strip() == _DONE:
            self.done = True
        if b'"usage"' in block and (found := _USAGE.search(block)) is not None:
            return self._read_usage(block, found.start())
        return block if self._keep or self.done else self._hold_finish(block)

    def rest(self) -> bytes:
        """What was held back so far."""
        held, self._held = self._held, b""
        return held

    def _hold_finish(self, block: bytes) -> bytes:
        start = _start_of_event(block, max(0, len(block) - 2))
        if _FINISH.search(block, start) is None:
            return block
        self._held = block[start:]
        return block[:start]

    def _read_usage(self, block: bytes, place: int) -> bytes:
        """`place`: of the first usage. What comes before the chunk in front of it needs no look: often most of a block."""
        start = _chunk_before(block, _start_of_event(block, place))
        kept = [block[:start]]
        for part in events(block[start:]):
            body = _usage_chunk(part)
            if body is None:
                kept.append(part)
                continue
            self.usage = body.usage
            if self._keep or body.choices:
                kept.append(part if self._rounds is None else _counted(part, body.usage, self._rounds))
            else:
                _name_server(kept, bytes(body.system_fingerprint))
        return b"".join(kept)


def _start_of_event(block: bytes, place: int) -> int:
    """Where the event begins that holds a place; an earlier one's beginning, where other line breaks than \\n end events."""
    before = block.rfind(b"\n\n", 0, place)
    return before + 2 if before >= 0 else 0


def _chunk_before(block: bytes, start: int) -> int:
    """Where the last chunk in front of an event begins; 0 if there is none."""
    while start > 0:
        start = _start_of_event(block, start - 2)
        if block.startswith((b"data: {", b"data:{"), start):
            break
    return start


def _usage_chunk(part: bytes) -> Body | None:
    """An event that holds usage; None for all others."""
    data = data_of(part) if b'"usage"' in part else None
    if data is None:
        return None
    try:
        body = BODY.decode(data)
    except msgspec.DecodeError:
        return None
    return body if body.usage is not None else None


def _counted(part: bytes, usage: Usage | None, rounds: Usage) -> bytes:
    """A usage chunk that counts the rounds before the answer too."""
    return event(with_usage(data_of(part) or b"{}", usage, rounds))


def _name_server(parts: list[bytes], fingerprint: bytes) -> None:
    """Gives the last chunk of `parts` the fingerprint (JSON), if it has none."""
    for index in range(len(parts) - 1, -1, -1):
        if (data_of(parts[index]) or b"").startswith(b"{"):
            if fingerprint != b"null" and b'"system_fingerprint"' not in parts[index]:
                parts[index] = add_member(parts[index], b"system_fingerprint", fingerprint)
            return


async def relay_stream(
    reply: Reply,
    client: Client,
    headers: Sequence[Header],
    keep_usage: bool,
    decision: bytes | None,
    relayed: Relayed,
    rounds: Usage | None = None,
) -> None:
    """Streams an answer event by event. `decision`: JSON for the first event, None if the client did not ask why.

    `rounds`: what calls before this one took, to be counted in the usage that the client sees.

    A backend that fails from here on ends the stream with an error event and without `[DONE]`; the connection stays whole. `relayed` is
    kept up to date all the while, since a client that leaves ends this at any await.
    """
    stream = StreamFilter(keep_usage, rounds)
    pipe = _Pipe(reply, client, stream, relayed)
    error: Code = "upstream_aborted"
    if not client.committed:
        client.head(reply.status, headers)
    pipe.put(reply.first if decision is None else explain_first(reply.first, decision))
    try:
        while not stream.done and not pipe.broken:
            if client.jammed:
                await client.drain()
            if not await reply.pour(pipe.take):
                pipe.flush()
                break
    except BackendError as failure:
        error = "upstream_timeout" if failure.kind.endswith("timeout") else "upstream_aborted"
    if stream.done:
        await _drain(reply)
        return
    relayed.error = error
    cut_off = GatewayError(error, "the backend broke off amid its answer; what came so far is incomplete")
    await client.write(rename(stream.rest(), reply.served.renamed) + event(cut_off.body()), more=False)


class _Pipe:
    """From a backend's bytes to the client's, within the call that brings them: nobody has to wake up for a chunk.

    `broken`: an event exceeds the bound.
    """

    __slots__ = ("_client", "_relayed", "_renamed", "_splitter", "_stream", "broken")

    def __init__(self, reply: Reply, client: Client, stream: StreamFilter, relayed: Relayed) -> None:
        assert reply.splitter is not None
        self._splitter = reply.splitter
        self._renamed = reply.served.renamed
        self._client = client
        self._stream = stream
        self._relayed = relayed
        self.broken = False

    def take(self, data: bytes) -> bool:
        """The next bytes. Returns whether more can be taken now."""
        try:
            block = self._splitter.feed(data)
        except EventTooLarge:
            self.broken = True
            return False
        if block:
            self.put(block)
        return not self._stream.done and not self._client.jammed

    def flush(self) -> None:
        """Nothing comes any more."""
        if rest := self._splitter.flush():
            self.put(rest)

    def put(self, block: bytes) -> None:
        """Whole events."""
        stream, relayed = self._stream, self._relayed
        passed = rename(stream.pass_on(block), self._renamed)
        relayed.usage = stream.usage
        relayed.events += passed.count(b"data:")
        if passed or stream.done:
            self._client.put(passed, more=not stream.done)


async def _drain(reply: Reply) -> None:
    """Reads what follows the last event, so that the connection can be used again. The client has its answer already."""
    with contextlib.suppress(BackendError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while await reply.read():
                pass
