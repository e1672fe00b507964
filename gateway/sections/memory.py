"""What is remembered of requests, here and in Redis."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from gateway.memory.redis_urls import parse as parse_redis_url
from gateway.sections.base import Seconds, Section


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
