"""The models that can answer, each with its pool of backends and what was observed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from backends.api import Header, Timeouts
from backends.pool import Pool
from backends.quantile import Quantile
from backends.residency.driver import Driver
from backends.roster import Roster
from gateway.account.costs import Usage
from routers.api import Candidate, Model

_MEMORY = 0.05
"""Share of the newest observation in a running mean: about the last twenty count."""

_PRIOR = 10
"""Answers of its own after which a model's length counts as much as that of all models."""


class RunningMean:
    """A mean of what was seen, in which about the last twenty count. `value` is None before the first."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self.count = 0

    def add(self, number: float) -> None:
        self.count += 1
        self.value = number if self.value is None else self.value + max(_MEMORY, 1 / self.count) * (number - self.value)


class Served:
    """A model and where it is served. `served_as`: the name that its backends know. `headers`: sent with each call.

    `answers`: the length of its answers, in tokens. `hedge`: when one is late; None: that is nobody's concern. `roster`: who finds
    backends; None: the configuration names them all.
    """

    __slots__ = ("answers", "headers", "hedge", "model", "pool", "renamed", "roster", "served_json", "starts", "timeouts")

    def __init__(
        self,
        model: Model,
        served_as: str,
        pool: Pool,
        headers: tuple[Header, ...],
        timeouts: Timeouts,
        answers: RunningMean | None = None,
        hedge: Hedge | None = None,
        roster: Roster | None = None,
    ) -> None:
        self.model = model
        self.pool = pool
        self.headers = headers
        self.timeouts = timeouts
        self.served_json = msgspec.json.encode(served_as)
        self.renamed = None if served_as == model.name else (self.served_json, msgspec.json.encode(model.name))
        self.answers = answers or RunningMean()
        self.hedge = hedge
        self.roster = roster
        self.starts = {True: Quantile(0.9), False: Quantile(0.9)}

    def late_after(self, stream: bool) -> float | None:
        """Seconds after which an attempt is late, so that a second one may start beside it; None: none does."""
        return None if self.hedge is None else self.hedge.delay(stream)

    def usual_start(self, stream: bool) -> float | None:
        """Seconds within which nine of ten answers begin (streamed ones with their first token); None while too little is known."""
        return self.starts[stream].value

    def heard(self, seconds: float, stream: bool) -> None:
        """The first bytes of an answer came after so long."""
        self.starts[stream].add(seconds)
        if self.hedge is not None:
            self.hedge.add(seconds, stream)


class Hedge:
    """When an answer of a model is late: later than most. `least`: seconds; never before. `whole`: also answers that are not streamed."""

    def __init__(self, share: float, least: float, whole: bool) -> None:
        self._least = least
        self._times = {True: Quantile(share), False: Quantile(share) if whole else None}

    def delay(self, stream: bool) -> float | None:
        """Seconds; None while too little is known."""
        times = self._times[stream]
        known = None if times is None else times.value
        return None if known is None else max(self._least, known)

    def add(self, seconds: float, stream: bool) -> None:
        times = self._times[stream]
        if times is not None:
            times.add(seconds)


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
    """All models by name, and what the gateway learns of them as they answer."""

    __slots__ = ("_answers", "_served", "drivers", "estimate")

    def __init__(
        self,
        served: Mapping[str, Served],
        answers: RunningMean | None = None,
        estimate: TokenEstimate | None = None,
        drivers: Sequence[Driver] = (),
    ) -> None:
        """`answers`, `estimate`: what was learned of all models before. `drivers`: who wakes and puts to sleep those that take turns."""
        self.drivers = tuple(drivers)
        self._served = dict(served)
        self._answers = answers or RunningMean()
        self.estimate = estimate or TokenEstimate()

    def take_turns(self) -> None:
        """From now on the drivers say which of their models is awake."""
        residences = {name: residence for driver in self.drivers for name, residence in driver.residences.items()}
        for name, served in self._served.items():
            served.pool.take_turns(residences.get(name))

    def __contains__(self, name: str) -> bool:
        return name in self._served

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def candidates(self, names: Sequence[str]) -> list[Candidate]:
        """Models as they stand now. If no backend of any is in service, those are healthy that may answer all the same."""
        found = [self.candidate(name) for name in names]
        if any(candidate.healthy for candidate in found):
            return found
        return [replace(candidate, healthy=self._served[candidate.name].pool.usable()) for candidate in found]

    def candidate(self, name: str) -> Candidate:
        """A model as it stands now.

        The length of its answers is shrunk to that of all models': a model that has answered little must not look cheap or dear
        beside the others for that alone.
        """
        served = self._served[name]
        own, common = served.answers, self._answers.value
        length = common
        if own.value is not None and common is not None:
            length = (own.count * own.value + _PRIOR * common) / (own.count + _PRIOR)
        residence = served.pool.residence
        wake = None if residence is None else residence.wake_seconds()
        return Candidate(served.model, served.pool.in_service(), served.pool.load(), length, wake)

    def observe(self, name: str, usage: Usage, prompt_size: int) -> None:
        """Learns from one answer. `prompt_size`: bytes."""
        if usage.completion_tokens:
            self._served[name].answers.add(usage.completion_tokens)
            self._answers.add(usage.completion_tokens)
        if usage.prompt_tokens is not None:
            self.estimate.observe(prompt_size, usage.prompt_tokens)
