"""Reads the load of vLLM servers from their `/metrics`."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Protocol

from backends.api import BackendError, Call, Header, Timeouts, Transport
from backends.load import Load, Sample, root_url

MAX_BODY_BYTES = 8_000_000
MAX_PAUSE = 30.0
"""Seconds at most between two attempts at a server that gives no readings."""

MAX_LINE_BYTES = 65_536

# V0, and V1 before 0.10, call the cache's usage gpu_cache_usage_perc; 0.10 exposes both names; later ones kv_cache_usage_perc alone.
# V0 labels by model_name, V1 also by engine, of which there is one for each data-parallel rank.
_USAGES = (b"kv_cache_usage_perc", b"gpu_cache_usage_perc")
_ADAPTERS = b"lora_requests_info"
_NAMES = (b"num_requests_running", b"num_requests_waiting", *_USAGES, _ADAPTERS)
_PREFIXES = tuple(b"vllm:" + name for name in _NAMES)
_GAUGE = re.compile(rb"vllm:(%s)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\s*" % b"|".join(_NAMES))
_RUNNING_ADAPTERS = re.compile(rb'running_lora_adapters="([^"]*)"')
_ADAPTER_SLOTS = re.compile(rb'max_lora="(\d{1,6})"')


def parse(text: bytes) -> Sample | None:
    """A reading, from vLLM's Prometheus text: counts are summed over models and engines, of cache usages the highest counts.

    None if none of vLLM's gauges are in it. A value that is no number is left out. (https://docs.vllm.ai/en/stable/usage/metrics/)
    """
    counts: dict[bytes, float] = {}
    usage: float | None = None
    adapters: list[tuple[float, bytes]] = []
    for line in text.split(b"\n"):
        if not line.startswith(_PREFIXES) or len(line) > MAX_LINE_BYTES:
            continue
        found = _GAUGE.fullmatch(line)
        value = None if found is None else _number(found[3])
        if found is None or value is None:
            continue
        name = found[1]
        if name == _ADAPTERS:
            adapters.append((value, found[2] or b""))
        elif name in _USAGES:
            usage = max(usage or 0.0, min(1.0, max(0.0, value)))
        else:
            counts[name] = counts.get(name, 0.0) + max(0.0, value)
    if not counts and usage is None and not adapters:
        return None
    resident, slots = _resident(adapters) if adapters else (None, None)
    running, waiting = (counts.get(name) for name in _NAMES[:2])
    return Sample(None if running is None else int(running), None if waiting is None else int(waiting), usage, resident, slots)


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _resident(series: list[tuple[float, bytes]]) -> tuple[frozenset[str], int | None]:
    """Which adapters are probably in GPU memory, and how many fit there.

    Each series names the adapters that ran together, and its value is when they last did. vLLM keeps the `max_lora` adapters that were
    used last, so those are taken in order of time until the places are full. Where all values are 1 (V0), the last lines are the newest.
    """
    newest = [labels for _, _, labels in sorted(((at, line, labels) for line, (at, labels) in enumerate(series)), reverse=True)]
    places = _ADAPTER_SLOTS.search(newest[0])
    slots = int(places[1]) if places else None
    names: dict[str, None] = {}
    for labels in newest:
        running = _RUNNING_ADAPTERS.search(labels)
        for name in running[1].decode(errors="replace").split(",") if running else ():
            if name.strip() and (slots is None or len(names) < max(1, slots)):
                names[name.strip()] = None
        if slots is None or len(names) >= max(1, slots):
            break
    return frozenset(names), slots


class Scraper:
    """Reads one server's load every `interval` seconds, give or take a fifth, each time within `timeout` seconds.

    When that fails, the last reading stays until it is stale, and the next attempt waits longer. `failures`: of all time.
    """

    def __init__(
        self,
        transport: Transport,
        load: Load,
        *,
        interval: float,
        timeout: float,
        rng: Random,
        clock: Callable[[], float],
        headers: Sequence[Header] = (),
    ) -> None:
        self._transport = transport
        self._load = load
        self._interval = interval
        self._timeouts = Timeouts(timeout, timeout, timeout, timeout)
        self._rng = rng
        self._clock = clock
        self._headers = (*headers, (b"accept-encoding", b"identity"), (b"accept", b"text/plain"))
        self._in_a_row = 0
        self.failures = 0

    async def run(self) -> None:
        """Reads until it is cancelled. The first time comes after a part of the interval, so that not all servers are asked at once."""
        await asyncio.sleep(self._interval * self._rng.random())
        while True:
            await self.scrape()
            await asyncio.sleep(self.pause())

    async def scrape(self) -> bool:
        """One attempt; returns whether there is a new reading."""
        text = await self._get()
        sample = None if text is None else parse(text)
        if sample is None:
            self._in_a_row += 1
            self.failures += 1
            return False
        self._in_a_row = 0
        self._load.observe(sample, self._clock())
        return True

    def pause(self) -> float:
        """Seconds until the next attempt: after each failure in a row twice as many, up to MAX_PAUSE."""
        longer = min(self._interval * float(2 ** min(self._in_a_row, 10)), max(MAX_PAUSE, self._interval))
        return longer * self._rng.uniform(0.8, 1.2)

    async def _get(self) -> bytes | None:
        try:
            response = await self._transport.send(Call("GET", "/metrics", self._headers, b"", self._timeouts, from_root=True))
        except BackendError:
            return None
        parts: list[bytes] = []
        size = 0
        try:
            while data := await response.read():
                parts.append(data)
                size += len(data)
                if size > MAX_BODY_BYTES:
                    return None
        except BackendError:
            return None
        finally:
            response.close()
        return b"".join(parts) if response.status == 200 else None


class Scraped(Protocol):
    """A backend, as far as reading its server's load goes."""

    @property
    def url(self) -> str: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def headers(self) -> tuple[Header, ...]: ...

    @property
    def load(self) -> Load: ...


class Scrapers:
    """A scraper for each server among the backends that there are at the moment."""

    def __init__(
        self,
        backends: Callable[[], Iterable[Scraped]],
        *,
        interval: float,
        timeout: float,
        rng: Random,
        clock: Callable[[], float],
    ) -> None:
        self._backends = backends
        self._interval = interval
        self._timeout = timeout
        self._rng = rng
        self._clock = clock
        self._running: dict[str, tuple[Transport, Scraper, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def failures(self) -> int:
        """Attempts that brought no reading, of the servers that there are now."""
        return sum(scraper.failures for _, scraper, _ in self._running.values())

    async def run(self) -> None:
        """Reads until it is cancelled. Backends that join or leave are noticed after one interval."""
        try:
            while True:
                self._follow()
                await asyncio.sleep(self._interval)
        finally:
            tasks = [task for _, _, task in self._running.values()]
            self._running.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self) -> None:
        """A server that stays is not disturbed unless the backend through which it is asked has left."""
        backends = list(self._backends())
        transports = {id(backend.transport) for backend in backends}
        wanted = {root_url(backend.url): backend for backend in reversed(backends)}
        for root, (transport, _, task) in tuple(self._running.items()):
            if root not in wanted or id(transport) not in transports or task.done():
                task.cancel()
                del self._running[root]
        for root in wanted.keys() - self._running.keys():
            backend = wanted[root]
            scraper = Scraper(
                backend.transport,
                backend.load,
                interval=self._interval,
                timeout=self._timeout,
                rng=self._rng,
                clock=self._clock,
                headers=backend.headers,
            )
            self._running[root] = (backend.transport, scraper, asyncio.create_task(scraper.run()))
