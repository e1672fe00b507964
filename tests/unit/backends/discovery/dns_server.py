"""A name server for tests: answers over UDP, and over TCP what does not fit."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

ZONE = "test."
SOA = "ns.test. admin.test. 1 3600 600 86400 {minimum}"


class DnsServer(asyncio.DatagramProtocol):
    """`records`: by name and type, the TTL and the texts of the records; an empty list is an answer without a record.

    Any other name does not exist. `broken`: by name, the code to answer with instead; None for no answer at all. `asked`: what was asked.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.additional: dict[str, tuple[int, str]] = {}
        self.broken: dict[str, dns.rcode.Rcode | None] = {}
        self.negative_ttl = 1
        self.asked: list[tuple[str, str]] = []
        self.over_tcp = 0
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        answer = self.answer(dns.message.from_wire(data))
        if answer is None or self._transport is None:
            return
        wire = answer.to_wire(max_size=65535)
        if len(wire) > 512:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            wire = answer.to_wire()
        self._transport.sendto(wire, address)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            answer = self.answer(dns.message.from_wire(await reader.readexactly(size)))
            self.over_tcp += 1
            if answer is not None:
                wire = answer.to_wire(max_size=65535)
                writer.write(struct.pack("!H", len(wire)) + wire)
                await writer.drain()
        writer.close()

    def answer(self, question: dns.message.Message) -> dns.message.Message | None:
        asked = question.question[0]
        name, kind = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(question)
        if name in self.broken:
            code = self.broken[name]
            if code is None:
                return None
            answer.set_rcode(code)
            return answer
        cname = self.records.get((name, "CNAME"))
        if cname is not None:
            answer.answer.append(dns.rrset.from_text(name, cname[0], "IN", "CNAME", *cname[1]))
            name = cname[1][0]
        if not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        ttl, texts = self.records.get((name, kind), (0, []))
        if texts:
            answer.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, *texts))
        else:
            answer.authority.append(dns.rrset.from_text(ZONE, 3600, "IN", "SOA", SOA.format(minimum=self.negative_ttl)))
        if kind == "SRV":
            answer.additional.extend(dns.rrset.from_text(host, ttl, "IN", "A", text) for host, (ttl, text) in self.additional.items())
        return answer


@contextlib.asynccontextmanager
async def dns_server() -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    server = DnsServer()
    tcp = await asyncio.start_server(server.serve_tcp, "127.0.0.1", 0)
    server.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", server.port))
    try:
        yield server
    finally:
        udp.close()
        tcp.close()
        await tcp.wait_closed()
