"""Where the beginning of a conversation is probably still in the prefix cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.scorers.api import Eligible
from backends.work import Work

FULL_BYTES = 2048
"""A match of fewer bytes is no full one, however short the head: it saves too little work to wait for."""


class PrefixAffinity:
    """Prefers backends that lately took calls with the same beginning: an opinion is the share of the call's head that matches.

    A head is cut into blocks of `block_bytes`. Each block's hash goes over all before it too, so that one look-up a block finds the longest
    match, as a radix tree would. What is remembered is who got the block last; that its server still has it is a guess.

    Memory is two generations of at most `blocks` blocks each. When the newer one is full, or `seconds` old, the older one is forgotten. A
    backend that has left is forgotten with it.

    Affinity makes busy backends busier. One with more than `busy_calls` calls above the least busy one, and more than `busy_ratio` times as
    many, gets no preference (the two thresholds of SGLang's cache-aware policy, but for each backend alone).
    """

    def __init__(
        self,
        block_bytes: int = 1024,
        blocks: int = 32_768,
        seconds: float = 600.0,
        busy_calls: int = 8,
        busy_ratio: float = 1.5,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._block = block_bytes
        self._full = FULL_BYTES // block_bytes
        self._busy_calls = busy_calls
        self._busy_ratio = busy_ratio
        self._memory = _Memory(blocks, seconds, clock)
        self._last: tuple[bytes, list[int]] = (b"", [])

    def __len__(self) -> int:
        """Blocks remembered."""
        return len(self._memory)

    def score(self, work: Work, backends: Sequence[Eligible]) -> Sequence[float | None]:
        chain = self._chain(work.head)
        if not chain:
            return [None] * len(backends)
        calls = [backend.inflight for backend in backends]
        least = min(calls)
        bound = max(least + self._busy_calls, int(least * self._busy_ratio))
        matches = self._memory.matches(chain, [backend.url for backend in backends])
        whole = max(len(chain), self._full)
        return [0.0 if busy > bound else depth / whole for busy, depth in zip(calls, matches, strict=True)]

    def chosen(self, work: Work, backend: Eligible) -> None:
        chain = self._chain(work.head)
        if chain:
            self._memory.remember(chain, backend.url)

    def _chain(self, head: bytes) -> list[int]:
        """The hash of each beginning of the head that is a whole number of blocks long. Seeded for each process, so nobody outside can
        make two heads meet.
        """
        if self._last[0] is not head:
            size, found, chain = self._block, 0, []
            for end in range(size, len(head) + 1, size):
                found = hash((found, head[end - size : end]))
                chain.append(found)
            self._last = (head, chain)
        return self._last[1]


class _Memory:
    """Which backends got which blocks. A backend is a bit, so that a block's holders are one number."""

    def __init__(self, blocks: int, seconds: float, clock: Callable[[], float]) -> None:
        self._blocks = blocks
        self._seconds = seconds
        self._clock = clock
        self._turned = clock()
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._bits: dict[str, int] = {}
        self._bits_in_new = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def matches(self, chain: Sequence[int], urls: Sequence[str]) -> list[int]:
        """For each backend, how many blocks from the beginning on it probably holds."""
        self._turn_if_due()
        bits = [self._bits.get(url, 0) for url in urls]
        left = 0
        for bit in bits:
            left |= bit
        new, old = self._new.get, self._old.get
        depths: dict[int, int] = {}
        for depth, block in enumerate(chain):
            held = left & (new(block, 0) | old(block, 0))
            if held != left:
                gone = left & ~held
                for bit in bits:
                    if bit & gone:
                        depths[bit] = depth
                left = held
            if not left:
                break
        return [len(chain) if bit & left else depths.get(bit, 0) for bit in bits]

    def remember(self, chain: Sequence[int], url: str) -> None:
        bit = self._bits.get(url) or self._new_bit(url)
        new, held = self._new, self._new.get
        for block in chain:
            new[block] = held(block, 0) | bit
        self._bits_in_new |= bit
        if len(new) >= self._blocks:
            self._turn()

    def _new_bit(self, url: str) -> int:
        used = 0
        for bit in self._bits.values():
            used |= bit
        bit = ~used & (used + 1)  # the lowest that is free
        self._bits[url] = bit
        return bit

    def _turn_if_due(self) -> None:
        if self._clock() - self._turned > self._seconds:
            self._turn()

    def _turn(self) -> None:
        """The newer generation becomes the older one, and backends that are in neither lose their bits."""
        self._old, self._new = self._new, {}
        self._turned = self._clock()
        self._bits = {url: bit for url, bit in self._bits.items() if bit & self._bits_in_new}
        self._bits_in_new = 0
