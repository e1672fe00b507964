"""Backends from DNS records, asked for again when their time to live is over."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from backends.discovery.api import Backoff, Sleep, SourceError, Standing, Unusable, found, server_url

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.name import Name
    from dns.resolver import Answer

Record = Literal["A", "AAAA", "SRV"]

_TARGETS_AT_ONCE = 16
_DOUBT_SECONDS = 30.0
"""The longest pause while answers say that there is no record: a server's negative answer may live for long."""


@dataclass(frozen=True, slots=True)
class DnsName:
    """What is asked, and how URLs are made of the answer. `port`: of every server; None for SRV, whose records say it."""

    name: str
    record: Record = "A"
    port: int | None = None
    scheme: Literal["http", "https"] = "http"
    path: str = "/v1"


@dataclass(frozen=True, slots=True)
class DnsPace:
    """Seconds between two questions: the time to live, but no less than `shortest` and no more than `longest`.

    `timeout`: for one question, over all name servers. `confirmations`: so many answers in a row must say that there is no record before
    it is believed.
    """

    shortest: float = 1.0
    longest: float = 300.0
    timeout: float = 5.0
    confirmations: int = 3


@dataclass(frozen=True, slots=True)
class _Told:
    """What an answer says. `ttl`: seconds. `problem`: what could not be found out."""

    urls: frozenset[str] = frozenset()
    ttl: float = 0.0
    problem: str = ""


def name_server(text: str) -> tuple[str, int]:
    """Address and port of a name server, from `10.0.0.2`, `10.0.0.2:8600`, `fd00::2` or `[fd00::2]:8600`. Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest:
            port = rest.removeprefix(":") if rest.startswith(":") else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has no port between 1 and 65535")
    return str(ipaddress.ip_address(host)), int(port)


class DnsSource:
    """The addresses of a name, or the servers of an SRV record (RFC 2782).

    Of SRV records, only those of the lowest priority count: the others are for when all of those are down, which a set cannot say.
    Weights do not count: a pool balances by load. With `https` the name that a record gives stays in the URL, since certificates are for
    names; otherwise it is resolved here too, and each of its addresses is a backend.
    An error (no such name, SERVFAIL, no answer in time) changes nothing, and is retried after pauses that grow to 30 s.
    """

    def __init__(
        self,
        name: DnsName,
        pace: DnsPace = DnsPace(),
        *,
        servers: Sequence[str] = (),
        rng: Random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`servers`: see `name_server`; without them those of /etc/resolv.conf. Raises SourceError without dnspython, ValueError."""
        try:
            import dns.asyncresolver  # noqa: F401
        except ImportError:
            raise SourceError("discovery by DNS needs dnspython: pip install pointsman[dns]") from None
        self._name = name
        self._pace = pace
        self._servers = [name_server(server) for server in servers]
        self._rng = rng
        self._sleep = sleep
        self._backoff = Backoff(max(0.5, pace.shortest), 30.0, rng)
        self._resolver: Resolver | None = None
        self._addresses: dict[Name, frozenset[str]] = {}
        self.standing = Standing(f"the {name.record} records of {name.name}")

    async def watch(self) -> AsyncGenerator[frozenset[str], None]:
        """See `Source.watch`."""
        known: frozenset[str] | None = None
        empty = 0
        while True:
            try:
                answer = await self._look_up()
            except Unusable as error:
                self._resolver = None  # its settings may have changed with the network
                self.standing.failed(str(error))
                await self._sleep(self._backoff.next())
                continue
            self._backoff.reset()
            empty = 0 if answer.urls else empty + 1
            if known and 0 < empty < self._pace.confirmations:
                self.standing.failed("the answer is that there are none")
                await self._sleep(self._pause(min(answer.ttl, _DOUBT_SECONDS)))
                continue
            if answer.problem:
                self.standing.failed(answer.problem)
            else:
                self.standing.worked()
            if answer.urls != known:
                known = answer.urls
                yield known
            await self._sleep(self._pause(answer.ttl))

    def _pause(self, ttl: float) -> float:
        """Seconds to the next question. Everybody's time to live ends at the same moment, and a little later is soon enough."""
        return min(self._pace.longest, max(self._pace.shortest, ttl)) * self._rng.uniform(1.0, 1.1)

    async def _look_up(self) -> _Told:
        """Raises Unusable."""
        if self._name.record == "SRV":
            return await self._services()
        answer = await self._ask(self._name.name, self._name.record)
        port = self._name.port or 0
        return _Told(self._urls([(record.address, port) for record in answer.rrset or ()]), answer.chaining_result.minimum_ttl)

    async def _services(self) -> _Told:
        answer = await self._ask(self._name.name, "SRV")
        records = list(answer.rrset or ())
        first = min((record.priority for record in records), default=0)
        # A target that is the root says that there is decidedly no such service.
        chosen = [(record.target, record.port) for record in records if record.priority == first and len(record.target.labels) > 1]
        ttl: float = answer.chaining_result.minimum_ttl
        if self._name.scheme == "https":
            return _Told(self._urls([(target.to_text(omit_final_dot=True), port) for target, port in chosen]), ttl)
        targets = {target for target, _ in chosen}
        self._addresses = {target: known for target, known in self._addresses.items() if target in targets}
        places = asyncio.Semaphore(_TARGETS_AT_ONCE)
        resolved = await asyncio.gather(*(self._resolve(target, answer, places) for target in sorted(targets)))
        if targets and not self._addresses:
            raise Unusable(resolved[0].problem)
        urls = self._urls([(address, port) for target, port in chosen for address in self._addresses.get(target, ())])
        return _Told(urls, min([ttl, *(one.ttl for one in resolved)]), next((one.problem for one in resolved if one.problem), ""))

    async def _resolve(self, target: Name, answer: Answer, places: asyncio.Semaphore) -> _Told:
        """Finds the addresses of a server that an SRV record names. If that fails those from before stay, and it is tried again soon."""
        import dns.rdatatype

        for rrset in answer.response.additional:
            if rrset.name == target and rrset.rdtype == dns.rdatatype.A:
                self._addresses[target] = frozenset(record.address for record in rrset)
                return _Told(ttl=rrset.ttl)
        async with places:
            try:
                told = await self._ask(target, "A")
                if not told.rrset:
                    told = await self._ask(target, "AAAA")
            except Unusable as error:
                return _Told(ttl=self._pace.shortest, problem=f"{target.to_text(omit_final_dot=True)} cannot be resolved: {error}")
        self._addresses[target] = frozenset(record.address for record in told.rrset or ())
        return _Told(ttl=told.chaining_result.minimum_ttl)

    async def _ask(self, name: Name | str, record: Record) -> Answer:
        """Raises Unusable. An answer without a record is one."""
        import dns.exception
        import dns.resolver

        try:
            if self._resolver is None:
                self._resolver = self._make_resolver()
            search = not self._servers  # the search domains of the system are for its own servers
            return await self._resolver.resolve(name, record, search=search, raise_on_no_answer=False, lifetime=self._pace.timeout)
        except dns.resolver.NXDOMAIN:
            raise Unusable("there is no such name (NXDOMAIN)") from None
        except dns.resolver.LifetimeTimeout:
            raise Unusable("no answer in time") from None
        except dns.resolver.NoNameservers:
            raise Unusable("every name server failed or refused (SERVFAIL)") from None
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise Unusable(f"cannot be asked for: {type(error).__name__}") from None

    def _make_resolver(self) -> Resolver:
        import dns.asyncresolver
        import dns.nameserver

        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
        return resolver

    def _urls(self, servers: Sequence[tuple[str, int]]) -> frozenset[str]:
        try:
            return found(server_url(self._name.scheme, host, port, self._name.path) for host, port in servers)
        except ValueError as error:
            raise Unusable(str(error)) from None
