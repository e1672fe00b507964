"""Requests on a connection in memory: what the handler sees, and what is written back, write by write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from backends.api import Header
from gateway.errors import ClientGone
from gateway.sections.server import ServerSection
from gateway.serving.connection import Connection, House
from gateway.serving.inbound import Inbound

GET = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: x\r\n"
PLAIN: list[Header] = [(b"content-type", b"text/plain")]


class Wire(asyncio.Transport):
    """The other end: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    @property
    def text(self) -> bytes:
        return b"".join(self.writes)


class State:
    """What uvicorn keeps."""

    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.default_headers: list[Header] = [(b"date", b"now")]
        self.total_requests = 0


def opened(serve: Callable[[Inbound], Awaitable[None]], leaving: bool = False) -> tuple[Connection, Wire, State]:
    state, wire = State(), Wire()
    connection = Connection(House(serve, ServerSection, lambda: leaving), state, 75)
    connection.connection_made(wire)
    return connection, wire, state


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def plain(inbound: Inbound) -> None:
    """Says what was asked."""
    body = b""
    while part := await inbound.read():
        body += part
    inbound.respond(200, PLAIN, inbound.method + b" " + inbound.target + b" " + body)


async def stream(inbound: Inbound) -> None:
    inbound.begin(200, PLAIN)
    inbound.put(b"one")
    inbound.put(b"two", more=False)


async def test_a_whole_answer_is_one_write() -> None:
    connection, wire, state = opened(plain)
    connection.data_received(GET)
    await settle()
    head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n\r\n"
    assert wire.writes == [head + b"GET /a?b=c "]
    assert (state.total_requests, state.tasks, wire.closed) == (1, set(), False)


async def test_the_head_of_a_stream_goes_out_with_its_first_part() -> None:
    connection, wire, _ = opened(stream)
    connection.data_received(GET)
    await settle()
    first, second = wire.writes
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding: chunked\r\n" in first
    assert first.endswith(b"\r\n\r\n3\r\none\r\n")
    assert second == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_of_requests_that_come_together_each_waits_for_the_one_before() -> None:
    turns: list[bytes] = []
    gate = asyncio.Event()

    async def serve(inbound: Inbound) -> None:
        turns.append(inbound.target)
        await gate.wait()
        inbound.respond(200, PLAIN, inbound.target)

    connection, wire, _ = opened(serve)
    connection.data_received(GET.replace(b"/a", b"/1") + GET.replace(b"/a", b"/2") + GET.replace(b"/a", b"/3"))
    await settle()
    assert turns == [b"/1?b=c"]
    assert wire.paused
    gate.set()
    await settle()
    await settle()
    assert turns == [b"/1?b=c", b"/2?b=c", b"/3?b=c"]
    assert [part.rpartition(b"\r\n\r\n")[2] for part in wire.writes] == turns
    assert not wire.paused


async def test_http_1_0_gets_no_chunks_and_its_connection_ends() -> None:
    connection, wire, _ = opened(stream)
    connection.data_received(GET.replace(b"1.1", b"1.0"))
    await settle()
    assert b"chunked" not in wire.text
    assert wire.text.endswith(b"connection: close\r\n\r\nonetwo")
    assert wire.closed


@pytest.mark.parametrize("wanted", [True, False], ids=["read", "not read"])
async def test_a_client_that_waits_to_send_is_told_to_when_the_body_is_wanted(wanted: bool) -> None:
    async def serve(inbound: Inbound) -> None:
        if wanted:
            await plain(inbound)
        else:
            inbound.respond(413, PLAIN, b"no")

    connection, wire, _ = opened(serve)
    connection.data_received(POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    await settle()
    assert (b"HTTP/1.1 100 Continue\r\n\r\n" in wire.text) == wanted
    if wanted:
        connection.data_received(b"hi")
        await settle()
        assert wire.text.endswith(b"POST /a hi")


async def test_head_has_no_body() -> None:
    connection, wire, _ = opened(plain)
    connection.data_received(GET.replace(b"GET", b"HEAD"))
    await settle()
    assert b"content-length: 12\r\n" in wire.text
    assert wire.text.endswith(b"\r\n\r\n")


async def test_an_offer_to_upgrade_is_not_taken_and_nothing_behind_it_is_read() -> None:
    connection, wire, state = opened(plain)
    connection.data_received(GET[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n" + GET)
    await settle()
    assert state.total_requests == 1
    assert b"connection: close\r\n" in wire.text
    assert wire.closed


async def test_a_body_that_breaks_its_own_framing_is_refused_and_its_handler_hears_of_it() -> None:
    heard: list[bool] = []

    async def serve(inbound: Inbound) -> None:
        try:
            while await inbound.read():
                pass
        except ClientGone:
            heard.append(True)

    connection, wire, _ = opened(serve)
    connection.data_received(POST + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
    await settle()
    connection.data_received(b"nonsense\r\n")
    await settle()
    assert len(wire.writes) == 1
    assert wire.text.startswith(b"HTTP/1.1 400 ")
    assert (heard, wire.closed) == ([True], True)


async def test_what_is_no_http_behind_a_request_does_not_cost_its_answer() -> None:
    connection, wire, _ = opened(plain)
    connection.data_received(GET + b"\x00\x01 nonsense\r\n\r\n")
    await settle()
    assert wire.text.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b" 400 " not in wire.text
    assert wire.closed


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0b", b"a\r\n\r\nb"])
async def test_no_header_of_an_answer_can_bring_in_another(value: bytes) -> None:
    async def serve(inbound: Inbound) -> None:
        with pytest.raises(ValueError, match="line break"):
            inbound.respond(200, [(b"x", value)], b"")
        inbound.started = False
        inbound.respond(200, PLAIN, b"fine")

    connection, wire, _ = opened(serve)
    connection.data_received(GET)
    await settle()
    assert wire.text.endswith(b"fine")
    assert b"cookie" not in wire.text


async def test_a_handler_that_breaks_leaves_an_error_behind() -> None:
    async def serve(inbound: Inbound) -> None:
        raise RuntimeError(inbound.target)

    caught: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))
    connection, wire, _ = opened(serve)
    connection.data_received(GET)
    await settle()
    assert wire.text.startswith(b"HTTP/1.1 500 ")
    assert b'"code":"internal_error"' in wire.text
    assert wire.closed


async def test_a_client_that_is_gone_is_told_nothing() -> None:
    gone = asyncio.Event()

    async def serve(inbound: Inbound) -> None:
        inbound.on_gone = gone.set
        await gone.wait()
        inbound.respond(200, PLAIN, b"late")

    connection, wire, state = opened(serve)
    connection.data_received(GET)
    await settle()
    connection.connection_lost(ConnectionResetError())
    await settle()
    assert (wire.writes, state.connections, state.tasks) == ([], set(), set())


async def test_who_writes_waits_while_the_client_takes_nothing() -> None:
    written: list[int] = []

    async def serve(inbound: Inbound) -> None:
        inbound.begin(200, PLAIN)
        for number in range(3):
            if inbound.jammed:
                await inbound.drain()
            inbound.put(b"x", more=number < 2)
            written.append(number)
            connection.pause_writing()

    connection, _, _ = opened(serve)
    connection.data_received(GET)
    for number in range(3):
        await settle()
        assert written == list(range(number + 1))
        connection.resume_writing()


async def test_while_the_process_is_leaving_no_connection_is_kept() -> None:
    connection, wire, _ = opened(plain, leaving=True)
    connection.data_received(GET)
    await settle()
    assert b"connection: close\r\n" in wire.text
    assert wire.closed


async def test_one_task_answers_them_all_unless_one_lingers_behind_its_answer() -> None:
    tasks: list[asyncio.Task[None] | None] = []
    gate = asyncio.Event()

    async def serve(inbound: Inbound) -> None:
        tasks.append(asyncio.current_task())
        inbound.respond(200, PLAIN, inbound.target)
        if b"/slow" in inbound.target:
            await gate.wait()

    connection, wire, state = opened(serve)
    for target in (b"/1", b"/2", b"/slow", b"/3", b"/4"):
        connection.data_received(GET.replace(b"/a", target))
        await settle()
        assert wire.writes.pop().endswith(target + b"?b=c")
    assert len({*tasks[:3]}) == 1
    assert len({*tasks[3:]}) == 1, "the one that was free last goes on"
    assert tasks[0] is not tasks[3]
    assert state.tasks == {tasks[0]}, "it has something to do yet"
    gate.set()
    await settle()
    assert state.tasks == set()
    connection.connection_lost(None)
    await settle()
    assert [task.done() for task in tasks if task is not None] == [True] * 5


async def test_a_handler_that_breaks_behind_its_answer_does_not_cost_the_next_one() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))

    async def serve(inbound: Inbound) -> None:
        inbound.respond(200, PLAIN, inbound.target)
        if b"/bad" in inbound.target:
            raise RuntimeError("later")

    connection, wire, state = opened(serve)
    for target in (b"/bad", b"/1"):
        connection.data_received(GET.replace(b"/a", target))
        await settle()
        assert wire.writes[-1].endswith(target + b"?b=c")
    assert (state.tasks, wire.closed) == (set(), False)
    connection.connection_lost(None)
    await settle()
