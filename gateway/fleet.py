"""The models that can answer, each with its pool of backends and what was observed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import msgspec

from backends.api import Header, Timeouts
from backends.pool import Pool
from gateway.account.costs import Usage
from routers.api import Candidate, Model

_MEMORY = 0.05
"""Share of the newest observation in a running mean: about the last twenty count."""


class Served:
    """A model and where it is served.

    `served_as`: the name that its backends know. `headers`: sent with each call. `answer_tokens`: running mean of the length of its
    answers, in tokens; None before the first.
    """

    __slots__ = ("answer_tokens", "headers", "model", "pool", "renamed", "served_json", "timeouts")

    def __init__(self, model: Model, served_as: str, pool: Pool, headers: tuple[Header, ...], timeouts: Timeouts) -> None:
        self.model = model
        self.pool = pool
        self.headers = headers
        self.timeouts = timeouts
        self.served_json = msgspec.json.encode(served_as)
        self.renamed = None if served_as == model.name else (self.served_json, msgspec.json.encode(model.name))
        self.answer_tokens: float | None = None

    def candidate(self) -> Candidate:
        """The model as it stands now."""
        return Candidate(self.model, self.pool.usable(), self.pool.load(), self.answer_tokens)

    def observe(self, usage: Usage) -> None:
        """Learns from one answer."""
        tokens = usage.completion_tokens
        if tokens is not None:
            self.answer_tokens = tokens if self.answer_tokens is None else self.answer_tokens + _MEMORY * (tokens - self.answer_tokens)


class TokenEstimate:
    """How many tokens a prompt has, from its size in bytes: a ratio that the backends' own counts keep right."""

    __slots__ = ("_bytes_per_token",)

    def __init__(self, bytes_per_token: float = 4.0) -> None:
        self._bytes_per_token = bytes_per_token

    def tokens(self, size: int) -> int:
        return math.ceil(size / self._bytes_per_token)

    def observe(self, size: int, tokens: int) -> None:
        """`tokens`: what a backend counted for a prompt of `size` bytes. Short prompts say more of the chat template than of the text."""
        if size >= 200 and tokens > 0:
            ratio = min(8.0, max(1.0, size / tokens))
            self._bytes_per_token += _MEMORY * (ratio - self._bytes_per_token)


class Fleet:
    """All models by name."""

    __slots__ = ("_served", "estimate")

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = dict(served)
        self.estimate = TokenEstimate()

    def __contains__(self, name: str) -> bool:
        return name in self._served

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())
