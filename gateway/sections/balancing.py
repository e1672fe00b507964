"""Which of a model's backends takes a call: scorers and their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from backends.chooser import Chooser
from backends.scorers.adapter import ResidentAdapter
from backends.scorers.api import Scorer
from backends.scorers.in_flight import InFlight
from backends.scorers.load import ServerLoad
from backends.scorers.prefix import PrefixAffinity
from backends.scorers.round_robin import RoundRobin
from backends.scorers.session import StickySession
from backends.scorers.tokens import TokenWork
from gateway.sections.base import Seconds, Section
from gateway.source import Key

Clock = Callable[[], float]
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Half = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
WEIGHT = "how much its opinion counts"


class InFlightScorer(Section):
    """Few calls in flight. Alone: the power of two choices."""

    type: Literal["in_flight"] = Field(description="`in_flight`")
    weight: Weight = Field(1.0, description=WEIGHT)
    half: Half = Field(1.0, description="calls more than the least busy backend has, at which the opinion is 1/2")

    def build(self, clock: Clock) -> Scorer:
        return InFlight(self.half)


class LoadScorer(Section):
    """Few requests at the server, whoever sent them, and room in its KV cache: from its `/metrics`."""

    type: Literal["load"] = Field(description="`load`")
    weight: Weight = Field(1.0, description=WEIGHT)
    half: Half = Field(2.0, description="requests more than the least busy server has, at which the opinion is 1/2")

    def build(self, clock: Clock) -> Scorer:
        return ServerLoad(self.half, clock=clock)


class PrefixScorer(Section):
    """The beginning of the conversation is probably in the server's prefix cache."""

    type: Literal["prefix"] = Field(description="`prefix`")
    weight: Weight = Field(1.0, description=WEIGHT)
    block_bytes: int = Field(1024, ge=64, le=16_384, description="beginnings are compared in blocks of so many bytes")
    blocks: int = Field(32_768, ge=16, le=10_000_000, description="blocks remembered in each of two generations")
    seconds: Seconds = Field(600, description="a beginning that is not seen again is forgotten after once to twice so long")
    busy_calls: int = Field(8, ge=0, le=100_000, description="a backend with so many calls more than the least busy one …")
    busy_ratio: float = Field(1.5, ge=1, le=1000, description="… and so many times as many gets no preference")

    def build(self, clock: Clock) -> Scorer:
        return PrefixAffinity(self.block_bytes, self.blocks, self.seconds, self.busy_calls, self.busy_ratio, clock=clock)


class SessionScorer(Section):
    """Calls of one session (`router.session`) go to one backend, the same from every gateway, unless it is overfull."""

    type: Literal["session"] = Field(description="`session`")
    weight: Weight = Field(1.0, description=WEIGHT)
    overload: float = Field(1.25, gt=1, le=1000, description="a backend with so many times the mean calls in flight is overfull …")
    unharmed: int = Field(4, ge=1, le=100_000, description="… unless it has no more than so many")

    def build(self, clock: Clock) -> Scorer:
        return StickySession(self.overload, self.unharmed)


class AdapterScorer(Section):
    """The LoRA adapter that serves the model is in the server's GPU memory: from its `/metrics`."""

    type: Literal["adapter"] = Field(description="`adapter`")
    weight: Weight = Field(1.0, description=WEIGHT)

    def build(self, clock: Clock) -> Scorer:
        return ResidentAdapter(clock=clock)


class TokensScorer(Section):
    """Few prompt tokens in flight, and a lane for long prompts."""

    type: Literal["tokens"] = Field(description="`tokens`")
    weight: Weight = Field(1.0, description=WEIGHT)
    half: Half = Field(2000.0, description="tokens more than the least busy backend has, at which the opinion is 1/2")
    long: int = Field(8000, ge=1, le=100_000_000, description="a prompt of so many tokens is long")
    lane: int = Field(1, ge=0, le=100_000, description="backends that take the long prompts, at most all but one; 0: all take them")

    def build(self, clock: Clock) -> Scorer:
        return TokenWork(self.half, self.long, self.lane)


class RoundRobinScorer(Section):
    """One backend after the other, for comparison."""

    type: Literal["round_robin"] = Field(description="`round_robin`")
    weight: Weight = Field(1.0, description=WEIGHT)

    def build(self, clock: Clock) -> Scorer:
        return RoundRobin()


AnyScorer = Annotated[
    InFlightScorer | LoadScorer | PrefixScorer | SessionScorer | AdapterScorer | TokensScorer | RoundRobinScorer,
    Field(discriminator="type"),
]
Scorers = Annotated[list[AnyScorer], Field(min_length=1)]


class BalancingSection(Section):
    """How a model's backends share its calls."""

    scorers: Scorers = Field(
        [PrefixScorer(type="prefix", weight=3.0), LoadScorer(type="load"), InFlightScorer(type="in_flight")],
        description="opinions on each backend, weighted; default: `prefix` (3), `load` (1), `in_flight` (1)",
    )
    scrape_seconds: Seconds = Field(1, description="between two readings of a server's `/metrics`")
    stale_seconds: Seconds = Field(5, description="a reading older than this says nothing")


class ModelBalancingSection(Section):
    """How the backends of this model share its calls."""

    scorers: Scorers = Field(description="instead of the common `balancing.scorers`")


def contradictions(scorers: Sequence[AnyScorer], place: tuple[Key, ...]) -> list[tuple[tuple[Key, ...], str]]:
    """What is wrong with scorers as a whole: where, and why. `place`: their own path in the file."""
    kinds = [scorer.type for scorer in scorers]
    found = [((*place, index, "type"), f"{kind!r} is named twice") for index, kind in enumerate(kinds) if kind in kinds[:index]]
    if not any(scorer.weight for scorer in scorers):
        found.append((place, "no weight is above 0, so nothing would count"))
    return found


def stale_before_read(section: BalancingSection) -> list[tuple[tuple[Key, ...], str]]:
    """Whether readings are stale before the next one comes."""
    if section.stale_seconds < 2 * section.scrape_seconds:
        return [(("balancing", "stale_seconds"), f"is less than two readings take (scrape_seconds is {section.scrape_seconds:g})")]
    return []


def build_chooser(scorers: Sequence[AnyScorer], rng: Random, clock: Clock) -> Chooser:
    """Who chooses among the backends of one model; it learns of these alone. `clock`: monotonic seconds."""
    return Chooser([(scorer.build(clock), scorer.weight) for scorer in scorers], rng)
