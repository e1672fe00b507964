"""The configuration file: one model a section, every key described, unknown keys refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from gateway.memory.redis_urls import parse as parse_redis_url
from gateway.source import ConfigError, Key, Problem, Source, load
from routers.api import Capability
from routers.registry import nearest

NAME = r"^[A-Za-z0-9._:/\-]{1,128}$"
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceSection(Section):
    """USD per 1,000,000 tokens."""

    input: float = Field(ge=0, allow_inf_nan=False, description="USD per 1M prompt tokens")
    output: float = Field(ge=0, allow_inf_nan=False, description="USD per 1M answer tokens")
    cached_input: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="USD per 1M prompt tokens from the prefix cache; default: as `input`"
    )
    reasoning: float | None = Field(None, ge=0, allow_inf_nan=False, description="USD per 1M reasoning tokens; default: as `output`")
    request: float = Field(0.0, ge=0, allow_inf_nan=False, description="USD for each call")


class TimeoutsSection(Section):
    """How long a backend may take, in seconds."""

    connect: Seconds = Field(5, description="to make a connection")
    first_byte: Seconds = Field(120, description="from the request sent to the first byte of the answer's body")
    idle: Seconds = Field(60, description="between two reads of an answer")
    total: Seconds = Field(600, description="for a whole call")


class ModelSection(Section):
    """An expert that answers."""

    name: str = Field(pattern=NAME, description="the name that clients and routes use")
    served_as: str | None = Field(None, min_length=1, max_length=256, description="the name that the backends know; default: `name`")
    backends: list[str] = Field(min_length=1, description="URLs of the servers that serve it, such as `http://host:8000/v1`")
    price: PriceSection | None = Field(None, description="without it, costs of this model are unknown")
    context_window: int | None = Field(None, ge=1, description="tokens of prompt and answer together; default: unknown, not checked")
    capabilities: list[Capability] = Field(["chat", "completions"], description="what it can do: " + ", ".join(get_args(Capability)))
    description: str = Field("", description="a few words for routers that read descriptions")
    api_key: SecretStr | None = Field(None, description="sent to its backends as a bearer token")
    timeouts: TimeoutsSection | None = Field(None, description="instead of the common `timeouts`")
    transport: Literal["http1", "httpx"] = Field("http1", description="`httpx` for proxies and HTTP/2")

    @field_validator("backends")
    @classmethod
    def _urls(cls, urls: list[str]) -> list[str]:
        for url in urls:
            parts = urlsplit(url)
            if "@" in url or parts.query or parts.fragment:
                raise ValueError("a URL like http://host:8000/v1 has no user, query or fragment; keys go to `api_key`")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is not a URL like http://host:8000/v1")
        return urls


class PluginSection(BaseModel):
    """A plugin by name (`type`) and its own parameters beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="the plugin's name, see `pointsman plugins`")

    @property
    def options(self) -> dict[str, object]:
        return dict(self.model_extra or {})


class ScorerSection(PluginSection):
    """A scorer, its weight, and its own parameters beside them."""

    weight: float = Field(1.0, ge=0, le=1000, description="how much its opinion counts")


class PolicySection(Section):
    """How a route decides."""

    filters: list[PluginSection] | None = Field(None, description="hard rules; default: all built-in filters")
    scorers: list[ScorerSection] = Field([], description="opinions on each candidate, weighted")
    picker: PluginSection = Field(PluginSection(type="best"), description="turns scores into who serves")
    planner: PluginSection = Field(PluginSection(type="single"), description="how many calls make one answer")


class RouteSection(Section):
    """A virtual model that clients name."""

    name: str = Field(pattern=NAME, description="the name that clients send as `model`")
    models: list[str] = Field(min_length=1, description="names of the candidate models")
    policy: PolicySection = Field(PolicySection(), description="how it decides")
    default: str | None = Field(None, description="serves when the policy cannot decide in time; default: the first of `models`")
    decision_deadline_ms: float = Field(50, gt=0, le=60_000, description="milliseconds for one decision")
    text_cap: int = Field(8192, ge=256, le=1_000_000, description="characters of the prompt that routers read: the head and the tail")


class ServerSection(Section):
    """The HTTP server."""

    max_body_bytes: int = Field(10_485_760, ge=1024, description="largest request body")
    max_answer_bytes: int = Field(67_108_864, ge=65_536, description="largest whole answer, and largest single event of a stream")
    drain_seconds: float = Field(30, ge=0, le=3600, description="how long running requests may go on after SIGTERM")
    write_seconds: Seconds = Field(60, description="a client that takes no byte for so long is cut off")


class RetriesSection(Section):
    """What happens before the first byte of an answer has gone to the client."""

    max_attempts: int = Field(4, ge=1, le=20, description="attempts for one request, the first one included")
    budget_ratio: float = Field(0.2, ge=0, le=1, description="retries that may run at once, as a share of the active requests")
    budget_minimum: int = Field(3, ge=0, le=1000, description="retries that may always run at once")


class HealthSection(Section):
    """How backends are watched."""

    interval_seconds: Seconds = Field(5, description="between two checks of a backend")
    timeout_seconds: Seconds = Field(2, description="for one check")
    failures: int = Field(5, ge=1, le=1000, description="failed requests in a row that open a backend's breaker")


class CacheSection(Section):
    """The decision cache."""

    size: int = Field(10_000, ge=0, le=10_000_000, description="decisions kept; 0 turns it off")
    ttl_seconds: Seconds = Field(300, description="age at which a decision is taken anew")


class SessionsSection(Section):
    """Conversations, which keep their model."""

    size: int = Field(100_000, ge=0, le=10_000_000, description="conversations kept in memory")
    ttl_seconds: Seconds = Field(3600, description="a conversation is forgotten so long after its last turn")
    prefill_tokens_per_second: float = Field(5000, gt=0, description="how fast a model reads a prompt that is not in its prefix cache")
    second_weight: float = Field(0.05, ge=0, le=1000, description="score that a second of waiting for the first token is worth")
    inertia: float = Field(0.5, ge=0, le=1000, description="a gain in score up to this never moves a conversation")


class DecisionsSection(Section):
    """What `GET /v1/decisions/{id}` can show."""

    kept: int = Field(10_000, ge=0, le=10_000_000, description="newest decisions kept in memory")
    ttl_seconds: Seconds = Field(3600, description="how long Redis keeps them, and how long feedback can be given")


class IdempotencySection(Section):
    """Answers to calls with an `Idempotency-Key`."""

    size: int = Field(10_000, ge=1, le=10_000_000, description="answers kept in memory")
    ttl_seconds: Seconds = Field(600, description="how long the same call gets the same answer")


class RedisSection(Section):
    """What several processes share. Without it everything stays in this process."""

    url: SecretStr = Field(
        description="`redis://`, `rediss://`, `unix://`; `redis+sentinel://HOST:PORT,…/SERVICE`; `redis+cluster://HOST:PORT,…`"
    )
    timeout_ms: float = Field(50, gt=0, le=10_000, description="for one call; past it the request goes on without Redis")
    prefix: str = Field("pointsman", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="first part of every key")

    @field_validator("url")
    @classmethod
    def _known(cls, url: SecretStr) -> SecretStr:
        parse_redis_url(url.get_secret_value())
        return url


class LimitsSection(Section):
    """How callers are kept within their allowances."""

    expected_replicas: int = Field(1, ge=1, le=10_000, description="gateways; while Redis is away each keeps to its part of every bound")
    hold_seconds: Seconds = Field(900, description="a reservation is given back after so long, if its process died")


class LedgerSection(Section):
    """One record of each request, for sums and for learning."""

    path: str | None = Field(None, min_length=1, description="a JSONL file, from the working directory; default: none is written")
    max_bytes: int = Field(104_857_600, ge=4096, description="the file is rotated beyond this size")
    keep: int = Field(10, ge=1, le=1000, description="rotated files kept")
    redis: bool = Field(False, description="also to a stream in Redis")
    stream_length: int = Field(100_000, ge=1, le=100_000_000, description="records kept in that stream, about")
    prompts: bool = Field(False, description="also what was asked (needed by `pointsman ledger outcomes`)")


class TokensSection(Section):
    """JSON Web Tokens of one issuer, as well as keys or instead of them."""

    jwks_url: str = Field(description="where the issuer publishes its keys, such as `https://issuer/.well-known/jwks.json`")
    issuer: str = Field(min_length=1, max_length=512, description="what `iss` must say")
    audience: str = Field(min_length=1, max_length=512, description="what `aud` must hold")
    algorithms: list[Literal["RS256", "ES256"]] = Field(["RS256", "ES256"], min_length=1, description="accepted: RS256, ES256")
    leeway_seconds: float = Field(30, ge=0, le=600, description="how far clocks may differ")
    cache_seconds: Seconds = Field(300, description="age at which the issuer's keys are fetched anew")
    claim: str = Field("pointsman", min_length=1, description="the claim that holds models, routes, rpm, tpm, budget_usd, …")

    @field_validator("jwks_url")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
            raise ValueError("is not a URL like https://issuer/.well-known/jwks.json")
        return url


class AuthSection(Section):
    """Who may call. Without it every caller is let in."""

    keys: str | None = Field(
        None, min_length=1, description="the keys file, beside this file unless its path is absolute; a change is noticed within a second"
    )
    jwt: TokensSection | None = Field(None, description="tokens of an identity provider")


class Config(Section):
    """The whole file."""

    models: list[ModelSection] = Field(min_length=1, description="the experts")
    routes: list[RouteSection] = Field([], description="the virtual models")
    server: ServerSection = Field(ServerSection(), description="the HTTP server")
    timeouts: TimeoutsSection = Field(TimeoutsSection(), description="for all backends")
    retries: RetriesSection = Field(RetriesSection(), description="before the first byte")
    health: HealthSection = Field(HealthSection(), description="how backends are watched")
    cache: CacheSection = Field(CacheSection(), description="the decision cache")
    sessions: SessionsSection = Field(SessionsSection(), description="conversations")
    decisions: DecisionsSection = Field(DecisionsSection(), description="records of decisions")
    idempotency: IdempotencySection = Field(IdempotencySection(), description="calls that are sent twice")
    redis: RedisSection | None = Field(None, description="what several processes share")
    auth: AuthSection | None = Field(None, description="who may call")
    limits: LimitsSection = Field(LimitsSection(), description="how callers are kept within their allowances")
    ledger: LedgerSection = Field(LedgerSection(), description="records of requests")

    @property
    def hash(self) -> str:
        """Of everything that the file says, secrets included but not readable from it: 16 hex digits."""
        secrets = [m.api_key for m in self.models] + [self.redis.url if self.redis else None]
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
    path: tuple[Key, ...] = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = _known_keys(path)
        return source.problem(path, f"unknown key{nearest(str(path[-1]), known)}; known here: {', '.join(known)}")
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "missing":
        return source.problem(path, "is required")
    if detail["type"] == "string_pattern_mismatch":
        message = "may hold letters, digits and . _ : / - (at most 128)"
    return source.problem(path, message[0].lower() + message[1:])


def _known_keys(path: tuple[Key, ...]) -> list[str]:
    """The keys of the section that a path leads to."""
    section: type[BaseModel] = Config
    for key in path[:-1]:
        if isinstance(key, str) and key in section.model_fields:
            inner = inner_section(section.model_fields[key].annotation)
            section = inner or section
    return list(section.model_fields)


def inner_section(annotation: object) -> type[BaseModel] | None:
    """The section that a field holds, alone or in a list; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := inner_section(part))), None)


def _contradictions(config: Config) -> list[tuple[tuple[Key, ...], str]]:
    """What each section alone cannot see: names that clash or lead nowhere."""
    found: list[tuple[tuple[Key, ...], str]] = []
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
        for place, url in enumerate(model.backends):
            if url.rstrip("/") in [other.rstrip("/") for other in model.backends[:place]]:
                found.append((("models", index, "backends", place), f"{url} is named twice"))
    return found
