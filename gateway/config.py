"""The configuration file: one model a section, every key described, unknown keys refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from gateway.sections.account import LedgerSection
from gateway.sections.admission import AdmissionSection
from gateway.sections.admission import contradictions as of_admission
from gateway.sections.balancing import BalancingSection, stale_before_read
from gateway.sections.balancing import contradictions as of_balancing
from gateway.sections.base import Section
from gateway.sections.containment import BreakerSection, EjectionSection, HealthSection, HedgingSection, RetriesSection
from gateway.sections.containment import contradictions as of_containment
from gateway.sections.discovery import contradictions as of_discovery
from gateway.sections.guard import AuthSection, LimitsSection
from gateway.sections.kinds import locate, wrong_kind
from gateway.sections.memory import CacheSection, DecisionsSection, IdempotencySection, RedisSection, SessionsSection
from gateway.sections.models import ModelSection, TimeoutsSection
from gateway.sections.residency import ResidencySection
from gateway.sections.residency import contradictions as of_residency
from gateway.sections.routes import RouteSection
from gateway.sections.server import ServerSection
from gateway.sections.tracing import TracingSection
from gateway.sections.tracing import contradictions as of_tracing
from gateway.source import ConfigError, Key, Problem, Source, load
from routers.registry import nearest


class Config(Section):
    """The whole file."""

    models: list[ModelSection] = Field(min_length=1, description="the experts")
    routes: list[RouteSection] = Field([], description="the virtual models")
    server: ServerSection = Field(ServerSection(), description="the HTTP server")
    timeouts: TimeoutsSection = Field(TimeoutsSection(), description="for all backends")
    retries: RetriesSection = Field(RetriesSection(), description="before the first byte")
    health: HealthSection = Field(HealthSection(), description="how backends are watched")
    balancing: BalancingSection = Field(BalancingSection(), description="how a model's backends share its calls")
    breaker: BreakerSection = Field(BreakerSection(), description="when a backend gets no calls for a moment")
    ejection: EjectionSection = Field(EjectionSection(), description="when a backend is out of its pool for longer")
    hedging: HedgingSection = Field(HedgingSection(), description="a second attempt beside a late one")
    residency: list[ResidencySection] = Field([], description="models that share GPUs and take turns on them")
    cache: CacheSection = Field(CacheSection(), description="the decision cache")
    sessions: SessionsSection = Field(SessionsSection(), description="conversations")
    decisions: DecisionsSection = Field(DecisionsSection(), description="records of decisions")
    idempotency: IdempotencySection = Field(IdempotencySection(), description="calls that are sent twice")
    redis: RedisSection | None = Field(None, description="what several processes share")
    auth: AuthSection | None = Field(None, description="who may call")
    admission: AdmissionSection = Field(AdmissionSection(), description="how many requests backends get at once")
    limits: LimitsSection = Field(LimitsSection(), description="how callers are kept within their allowances")
    ledger: LedgerSection = Field(LedgerSection(), description="records of requests")
    tracing: TracingSection = Field(TracingSection(), description="spans of requests, for an OpenTelemetry collector")

    @property
    def hash(self) -> str:
        """Of everything that the file says, secrets included but not readable from it: 16 hex digits."""
        secrets = [m.api_key for m in self.models] + [self.redis.url if self.redis else None, *self.tracing.headers.values()]
        plain = self.model_dump_json() + "".join(secret.get_secret_value() for secret in secrets if secret)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


def read(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Reads and validates a configuration file. Raises ConfigError with every problem found."""
    return validate(load(path, os.environ if environment is None else environment))


def validate(source: Source) -> Config:
    """The configuration in a parsed file. Raises ConfigError."""
    try:
        config = Config.model_validate(source.value)
    except ValidationError as error:
        raise ConfigError(source.file, [_explain(source, dict(detail)) for detail in error.errors()]) from None
    problems = [source.problem(path, message) for path, message in _contradictions(config)]
    if problems:
        raise ConfigError(source.file, problems)
    return config


def _explain(source: Source, detail: Mapping[str, Any]) -> Problem:
    path, section = locate(Config, tuple(detail["loc"]))
    of_kind = wrong_kind(detail, path)
    if of_kind is not None:
        return source.problem(*of_kind)
    if detail["type"] == "extra_forbidden":
        known = list(section.model_fields)
        return source.problem(path, f"unknown key{nearest(str(path[-1]), known)}; known here: {', '.join(known)}")
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "missing":
        return source.problem(path, "is required")
    if detail["type"] == "string_pattern_mismatch":
        message = "may hold letters, digits and . _ : / - (at most 128)"
    return source.problem(path, message[0].lower() + message[1:])


def _contradictions(config: Config) -> list[tuple[tuple[Key, ...], str]]:
    """What each section alone cannot see: names that clash or lead nowhere."""
    found = [*of_admission(config.admission), *of_containment(config), *_balancing(config), *of_residency(config.residency, config.models)]
    found += of_tracing(config.tracing)
    names: dict[str, str] = {}
    for kind, given in (("models", [m.name for m in config.models]), ("routes", [r.name for r in config.routes])):
        for index, name in enumerate(given):
            if name in names:
                found.append(((kind, index, "name"), f"{name!r} is already the name of a {names[name]}"))
            names[name] = kind.removesuffix("s")
    models = [model.name for model in config.models]
    for index, route in enumerate(config.routes):
        for place, name in enumerate(route.models):
            if name not in models:
                found.append((("routes", index, "models", place), f"no model named {name!r}{nearest(name, models)}"))
            elif name in route.models[:place]:
                found.append((("routes", index, "models", place), f"{name!r} is named twice"))
        if route.default is not None and route.default not in route.models:
            found.append(
                (
                    ("routes", index, "default"),
                    f"{route.default!r} is not among the route's models{nearest(route.default, route.models)}",
                )
            )
    if config.auth is not None and config.auth.keys is None and config.auth.jwt is None:
        found.append((("auth",), "needs `keys` or `jwt`; without the section every caller is let in"))
    if config.ledger.redis and config.redis is None:
        found.append((("ledger", "redis"), "needs a `redis` section"))
    for index, model in enumerate(config.models):
        if not model.backends and model.discovery is None:
            found.append((("models", index), "needs `backends`, or `discovery` that finds some"))
        if model.discovery is not None:
            found += of_discovery(model.discovery, ("models", index, "discovery"))
        for place, url in enumerate(model.backends):
            if url.rstrip("/") in [other.rstrip("/") for other in model.backends[:place]]:
                found.append((("models", index, "backends", place), f"{url} is named twice"))
    return found


def _balancing(config: Config) -> list[tuple[tuple[Key, ...], str]]:
    found = [*stale_before_read(config.balancing), *of_balancing(config.balancing.scorers, ("balancing", "scorers"))]
    for index, model in enumerate(config.models):
        if model.balancing is not None:
            found += of_balancing(model.balancing.scorers, ("models", index, "balancing", "scorers"))
    return found
