"""How many requests backends get at once, and what the others wait for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gateway.sections.base import Seconds, Section
from gateway.source import Key


class AdaptiveSection(Section):
    """A limit that follows the time to the first token."""

    initial: int = Field(32, ge=1, le=100_000, description="calls at a time, until something is known of the backend")
    min: int = Field(4, ge=1, le=100_000, description="never fewer calls at a time")
    max: int = Field(1024, ge=1, le=100_000, description="never more calls at a time")
    tolerance: float = Field(
        2.0, ge=1.1, le=100, description="the limit falls when first tokens take so many times as long as they usually do"
    )


class LineSection(Section):
    """Those of one class who wait."""

    size: int = Field(1000, ge=0, le=100_000, description="requests that may wait for one model; 0: nobody waits")
    max_wait_seconds: Seconds = Field(10, description="a request that has no backend after so long is refused")


class QueueSection(Section):
    """Where requests wait when every backend that may answer is full."""

    interactive: LineSection = Field(LineSection(), description="requests that somebody waits for")
    batch: LineSection = Field(LineSection(max_wait_seconds=300), description="requests that have time, see `priority` of a key")


class AdmissionSection(Section):
    """How many requests each backend gets at once, and how the others wait."""

    max_inflight: int | Literal["adaptive"] | None = Field(
        None, description="calls that each backend gets at a time: a number, or `adaptive`; default: unlimited"
    )
    adaptive: AdaptiveSection = Field(AdaptiveSection(), description="for `max_inflight: adaptive`")
    queue: QueueSection = Field(QueueSection(), description="where requests wait")
    batch_share: float = Field(0.05, ge=0, le=0.5, description="share of a model's free places that batch gets while interactive waits")

    @field_validator("max_inflight", mode="before")
    @classmethod
    def _calls(cls, given: object) -> object:
        calls = int(given) if isinstance(given, str) and given.isdecimal() and given.isascii() else given
        if calls is None or calls == "adaptive" or (isinstance(calls, int) and not isinstance(calls, bool) and 0 < calls <= 100_000):
            return calls
        raise ValueError("is neither a number of calls (1 or more) nor `adaptive`")


def contradictions(section: AdmissionSection) -> list[tuple[tuple[Key, ...], str]]:
    """What cannot hold together, each with its path in the file."""
    found: list[tuple[tuple[Key, ...], str]] = []
    adaptive, queue = section.adaptive, section.queue
    if adaptive.min > adaptive.max:
        found.append((("admission", "adaptive", "min"), f"is more than `max` ({adaptive.max})"))
    elif not adaptive.min <= adaptive.initial <= adaptive.max:
        found.append((("admission", "adaptive", "initial"), f"is not between `min` ({adaptive.min}) and `max` ({adaptive.max})"))
    if queue.batch.max_wait_seconds < queue.interactive.max_wait_seconds:
        found.append(
            (("admission", "queue", "batch", "max_wait_seconds"), "is less than that of `interactive`, though batch comes after it")
        )
    return found
