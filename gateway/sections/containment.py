"""How failures of backends are contained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field

from gateway.sections.base import Seconds, Section
from gateway.sections.models import ModelSection, TimeoutsSection
from gateway.source import Key

if TYPE_CHECKING:
    from gateway.config import Config

Found = tuple[tuple[Key, ...], str]


class RetriesSection(Section):
    """What happens before the first byte of an answer has gone to the client."""

    max_attempts: int = Field(4, ge=1, le=20, description="attempts for one request, the first one included")
    budget_ratio: float = Field(0.2, ge=0, le=1, description="retries, as a share of the active requests and of the last ten seconds'")
    budget_minimum: int = Field(3, ge=0, le=1000, description="retries that may always run at once, and start in a second")
    wait_seconds: float = Field(
        30, ge=0, le=3600, description="a request waits so long for room in the budget, if a backend is there that was not tried"
    )


class HealthSection(Section):
    """How backends are watched."""

    interval_seconds: Seconds = Field(5, description="between two checks of a backend; 1 at most while it is not up or calls to it fail")
    timeout_seconds: Seconds = Field(2, description="for one check")
    late_checks: int = Field(3, ge=1, le=100, description="checks in a row without an answer in time that make a backend count as down")
    down_checks: int = Field(1, ge=1, le=100, description="checks in a row that fail in another way, until it counts as down")
    up_checks: int = Field(1, ge=1, le=100, description="checks in a row that go well, until it counts as up again")
    wait_while_loading: bool = Field(False, description="requests wait in line for a model whose only backends still load their weights")


class BreakerSection(Section):
    """When a backend that fails gets no calls for a moment, whatever the others do."""

    failures: int = Field(5, ge=1, le=1000, description="failed requests in a row that open a backend's breaker")
    pause_seconds: Seconds = Field(1, description="then no call for so long, then one as a probe; the pause doubles with each opening")
    max_pause_seconds: Seconds = Field(30, description="the longest pause; so long without an opening takes one doubling back")


class EjectionSection(Section):
    """When a backend that does worse than it may is out of its pool for longer."""

    failures: int = Field(5, ge=0, le=1000, description="failed requests in a row; 0: they never eject")
    unreachable: int = Field(3, ge=0, le=1000, description="requests in a row that met nobody (lost, late, 502, 503, 504); 0: never")
    seconds: Seconds = Field(30, description="the first ejection; the n-th is n times as long, and one is forgotten for so long in service")
    max_seconds: Seconds = Field(300, description="the longest ejection")
    max_percent: float = Field(10, ge=0, le=100, description="of a pool, out at a time; one may always, if there is another")
    panic_percent: float = Field(50, ge=0, le=100, description="with less than this of a pool in service, ejections are ignored")
    window_seconds: Seconds = Field(60, description="success rates are taken over so long")
    min_requests: int = Field(20, ge=1, le=1_000_000, description="requests within it that a backend's success rate needs")
    min_backends: int = Field(2, ge=2, le=1000, description="backends with so many requests that a comparison needs")
    deviations: float = Field(1.9, ge=0.1, le=100, description="standard deviations below the mean of the others that eject")


class HedgingSection(Section):
    """A second attempt beside one whose first byte is late, within the budget of retries; the first to answer wins."""

    enabled: bool = Field(False, description="whether there is one")
    quantile: float = Field(0.95, ge=0.5, lt=1, description="an attempt is late that takes longer than this share of the model's attempts")
    min_delay_ms: float = Field(50, gt=0, le=600_000, description="an attempt is never late before")
    whole_answers: bool = Field(False, description="also for answers that are not streamed, whose first byte comes when all of it is there")


def contradictions(config: Config) -> list[Found]:
    """What cannot hold together, each with its path in the file."""
    return [*_timeouts(config), *_watching(config), *_ejecting(config), *_hedging(config), *_claims(config.models)]


def _timeouts(config: Config) -> Iterator[Found]:
    """Only what the file says itself: a default that is longer than a given total is simply never reached."""
    yield from _beyond_total(("timeouts",), config.timeouts)
    for index, model in enumerate(config.models):
        if model.timeouts is not None:
            yield from _beyond_total(("models", index, "timeouts"), model.timeouts)


def _beyond_total(path: tuple[Key, ...], section: TimeoutsSection) -> Iterator[Found]:
    for name in ("connect", "first_byte", "idle"):
        if name in section.model_fields_set and getattr(section, name) > section.total:
            yield (*path, name), f"is more than `total` ({section.total:g}), so that it could never run out"


def _watching(config: Config) -> Iterator[Found]:
    health, breaker = config.health, config.breaker
    if "timeout_seconds" in health.model_fields_set and health.timeout_seconds > health.interval_seconds:
        yield ("health", "timeout_seconds"), f"is more than `interval_seconds` ({health.interval_seconds:g})"
    if breaker.pause_seconds > breaker.max_pause_seconds:
        yield ("breaker", "pause_seconds"), f"is more than `max_pause_seconds` ({breaker.max_pause_seconds:g})"


def _ejecting(config: Config) -> Iterator[Found]:
    section = config.ejection
    if section.max_percent >= 100:
        yield ("ejection", "max_percent"), "would leave nobody to answer"
    elif section.max_percent > 100 - section.panic_percent:
        yield (
            ("ejection", "max_percent"),
            f"leaves less in service than `panic_percent` ({section.panic_percent:g}), which ends all ejections",
        )
    if section.seconds > section.max_seconds:
        yield ("ejection", "seconds"), f"is more than `max_seconds` ({section.max_seconds:g})"


def _hedging(config: Config) -> Iterator[Found]:
    section, retries = config.hedging, config.retries
    if not section.enabled:
        return
    if retries.max_attempts < 2:
        yield ("hedging", "enabled"), "a hedge is a second attempt, and `retries.max_attempts` allows one"
    if retries.budget_ratio == 0 and retries.budget_minimum == 0:
        yield ("hedging", "enabled"), "hedges come out of the budget of retries, and `budget_ratio` and `budget_minimum` are 0"
    shortest = min((model.timeouts or config.timeouts).first_byte for model in config.models)
    if section.min_delay_ms >= shortest * 1000:
        yield ("hedging", "min_delay_ms"), f"an attempt that is late has timed out by then (`first_byte`: {shortest:g} s)"


def _claims(models: list[ModelSection]) -> Iterator[Found]:
    """One model of a server has one owner: prices, limits and breakers of two would contradict each other."""
    owners: dict[tuple[str, str], str] = {}
    for index, model in enumerate(models):
        served_as = model.served_as or model.name
        for place, url in enumerate(model.backends):
            owner = owners.setdefault((_plain(url), served_as), model.name)
            if owner != model.name:
                yield ("models", index, "backends", place), f"{served_as!r} at {url} is already the model {owner!r}"


def _plain(url: str) -> str:
    """Equal for URLs that lead to the same place."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    return f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}:{port}{parts.path.rstrip('/')}"
