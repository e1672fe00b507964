"""How long a fake server takes: a queue before `max_num_seqs` places, prefill with a prefix cache, and time for each token."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

from backends.places import Places

BLOCK_CHARACTERS = 64
MAX_BLOCKS = 20_000


@dataclass(frozen=True, slots=True)
class Latency:
    """`ttft`: milliseconds before the first token of an idle server. `prefill`: milliseconds for 1,000 prompt tokens that are not in
    the prefix cache. `tpot`: milliseconds for each answer token. `seqs`: requests that run at once; the others wait in a line.
    """

    ttft: float = 0.0
    prefill: float = 0.0
    tpot: float = 0.0
    seqs: int = 256


PRESETS = {"none": Latency(), "small": Latency(15, 20, 4, 64), "medium": Latency(30, 60, 9, 32), "large": Latency(60, 150, 18, 16)}


def parse(text: str) -> Latency:
    """A preset's name, or `ttft=20,tpot=5,…`. Raises ValueError."""
    if text in PRESETS:
        return PRESETS[text]
    values: dict[str, float] = {}
    known = [field.name for field in fields(Latency)]
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"{key!r} is neither a preset ({', '.join(PRESETS)}) nor one of {', '.join(known)}")
        values[key] = float(value)
    seqs = int(values.pop("seqs", Latency().seqs))
    return Latency(**values, seqs=seqs)


class Engine:
    """The places and the prefix cache of one server."""

    def __init__(self, latency: Latency, clock: Callable[[], float]) -> None:
        self.latency = latency
        self._clock = clock
        self._blocks: OrderedDict[bytes, None] = OrderedDict()
        self._places = Places(latency.seqs)
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.first_token_seconds: deque[float] = deque(maxlen=1000)

    @property
    def running(self) -> int:
        return self._places.taken

    @property
    def waiting(self) -> int:
        return self._places.waiting

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the places; waits in line for it. Cancelling whoever waits or runs frees it at once."""
        if not self._places.take():
            await self._places.wait()
        try:
            yield
        finally:
            self._places.leave()

    async def prefill(self, prompt: str) -> int:
        """Waits for as long as the prompt takes. Returns how many of its tokens were cached."""
        cached = self._remember(prompt)
        tokens = max(0, len(prompt) // 4 - cached)
        seconds = (self.latency.ttft + self.latency.prefill * tokens / 1000) / 1000
        if seconds > 0:
            await asyncio.sleep(seconds)
        return cached

    def forget(self) -> None:
        """Empties the prefix cache."""
        self._blocks.clear()

    async def token(self) -> None:
        """Waits for one answer token."""
        if self.latency.tpot > 0:
            await asyncio.sleep(self.latency.tpot / 1000)

    def _remember(self, prompt: str) -> int:
        """Cached tokens of a prompt: its longest known chain of whole blocks. All its blocks are known afterwards."""
        chain, cached, unbroken = b"", 0, True
        for start in range(0, len(prompt) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
            chain = hashlib.blake2b(chain + prompt[start : start + BLOCK_CHARACTERS].encode(errors="replace"), digest_size=8).digest()
            self.prefix_queries += BLOCK_CHARACTERS // 4
            if chain in self._blocks:
                self._blocks.move_to_end(chain)
                cached += BLOCK_CHARACTERS // 4 if unbroken else 0
            else:
                unbroken = False
                self._blocks[chain] = None
        while len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)
        self.prefix_hits += cached
        return cached
