"""How each fault is carried out on the socket."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

from backends.fake.faults import Fault
from backends.fake.server import Connection, Request

FOR_EVER = 3600.0
PIECE = 64 * 1024


async def instead_of_answer(connection: Connection, request: Request, fault: Fault) -> bool:
    """Faults that leave no room for an answer. Returns whether it was one of them."""
    name = fault.name
    if name == "reset_before_headers":
        connection.reset()
    elif name == "close_before_headers":
        connection.close()
    elif name == "hang_before_headers":
        await asyncio.sleep(FOR_EVER)
    elif name == "status":
        _status(connection, fault)
    elif name == "html":
        connection.respond(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")
    elif name == "no_content":
        connection.respond(204, b"")
    elif name == "redirect":
        connection.respond(302, b"", headers=[("location", fault.argument or "http://127.0.0.1:9/")])
    elif name == "bad_http":
        connection.write(b"HELLO I AM NO WEB SERVER\r\n\r\n")
        connection.close()
    elif name == "gzip_bomb":
        bomb = gzip.compress(b" " * int(fault.number or 10) * 1_000_000)
        connection.respond(200, bomb, headers=[("content-encoding", "gzip")])
    elif name == "slow_headers":
        for byte in b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + b"x-filler: y\r\n" * 1000:
            connection.write(bytes([byte]))
            await asyncio.sleep(0.05)
    else:
        return False
    return True


def _status(connection: Connection, fault: Fault) -> None:
    code, _, retry_after = fault.argument.partition(":")
    status = int(code or 500)
    document = {"error": {"message": f"a fault was asked for: {status}", "type": "BadRequestError", "param": None, "code": status}}
    connection.respond_json(document, status, [("retry-after", retry_after)] if retry_after else [])


async def respond_whole(connection: Connection, body: bytes, fault: Fault | None) -> None:
    """A whole answer, or what a fault makes of it."""
    name = fault.name if fault is not None else ""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    if name in ("close_after_headers", "hang_after_headers", "truncated", "cut_after", "reset_after", "hang_after"):
        connection.write(head + (b"" if name.endswith("headers") else body[: len(body) // 2]))
        await asyncio.sleep(0.02)
        await _stop(connection, name)
    elif name == "drip" and fault is not None:
        connection.write(head)
        for byte in body:
            connection.write(bytes([byte]))
            await asyncio.sleep(1 / max(0.1, fault.number))
    elif name == "malformed_json":
        connection.respond(200, body[:-2])
    elif name in ("giant_line", "endless"):
        megabytes = int(fault.number or 50) if name == "giant_line" and fault is not None else 1_000_000
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        await _flood(connection, megabytes)
        connection.end_stream()
    else:
        connection.respond(200, body)


async def _stop(connection: Connection, name: str) -> None:
    if name.startswith("hang"):
        await asyncio.sleep(FOR_EVER)
    elif name.startswith("reset"):
        connection.reset()
    else:
        connection.close()


async def _flood(connection: Connection, megabytes: int) -> None:
    for _ in range(megabytes * 1_000_000 // PIECE):
        if connection.closed:
            return
        connection.chunk(b"x" * PIECE)
        await connection.drained()
        await asyncio.sleep(0)


async def instead_of_stream(connection: Connection, fault: Fault | None) -> bool:
    """Faults after the head of a stream. Returns whether the stream is over."""
    if fault is None:
        return False
    if fault.name in ("close_after_headers", "hang_after_headers"):
        await asyncio.sleep(0.02)
        await _stop(connection, fault.name)
        return True
    if fault.name == "error_first":
        connection.chunk(b'data: {"error":{"message":"the engine died","type":"InternalServerError","param":null,"code":500}}\n\n')
        connection.chunk(b"data: [DONE]\n\n")
        connection.end_stream()
        return True
    if fault.name == "giant_line":
        connection.chunk(b"data: ")
        await _flood(connection, int(fault.number or 50))
        connection.end_stream()
        return True
    return False


async def amid_stream(connection: Connection, place: int, fault: Fault | None) -> bool:
    """Faults after `place` events. Returns whether the stream is over."""
    if fault is None:
        return False
    if fault.name in ("cut_after", "truncated") and place >= fault.number:
        connection.write(b"ff\r\ndata: {")
        await asyncio.sleep(0.02)
        connection.close()
        return True
    if fault.name in ("reset_after", "hang_after") and place >= fault.number:
        await asyncio.sleep(0.02)
        await _stop(connection, fault.name)
        return True
    if fault.name == "endless" and place == 2:
        more = b'data: {"choices":[{"index":0,"delta":{"content":"' + b" and more" * 400 + b'"}}]}\n\n'
        while not connection.closed:
            connection.chunk(more)
            await connection.drained()
            await asyncio.sleep(0.0005)
        return True
    return False


def event_bytes(data: bytes, place: int, fault: Fault | None) -> bytes:
    """One event, framed as the fault wants it."""
    name = fault.name if fault is not None else ""
    plain = b"data: " + data + b"\n\n"
    if name == "malformed_json" and place == 2:
        return b'data: {"choices": [\n\n'
    if name == "missing_blank_line":
        return plain[:-1]
    if name == "crlf":
        return b"data: " + data + b"\r\n\r\n"
    if name == "comments":
        return b": keep-alive\n\n" + plain
    if name == "event_field":
        return b"event: message\nid: %d\n" % place + plain
    if name == "bom" and place == 0:
        return b"\xef\xbb\xbf" + plain
    if name == "no_done" and data == b"[DONE]":
        return b""
    return plain


def writes(block: bytes, fault: Fault | None) -> Iterator[bytes]:
    """The writes of one event: one, unless the fault wants it otherwise."""
    name = fault.name if fault is not None else ""
    if not block:
        return
    if name == "split_utf8":
        yield from (block[at : at + 1] for at in range(len(block)))
    elif name == "halved":
        middle = len(block) // 2
        yield block[:middle]
        yield block[middle:]
    else:
        yield block


async def pause(size: int, fault: Fault | None) -> None:
    """Time for `size` bytes of a dripping server."""
    if fault is not None and fault.name == "drip":
        await asyncio.sleep(size / max(0.1, fault.number))
