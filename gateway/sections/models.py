"""The experts and how their backends are called."""

from __future__ import annotations

from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from gateway.sections.balancing import ModelBalancingSection
from gateway.sections.base import NAME, Seconds, Section
from gateway.sections.discovery import Discovery
from routers.api import Capability


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
    backends: list[str] = Field([], description="URLs of the servers that serve it, such as `http://host:8000/v1`")
    discovery: Discovery | None = Field(None, description="where more of its servers are found")
    price: PriceSection | None = Field(None, description="without it, costs of this model are unknown")
    context_window: int | None = Field(None, ge=1, description="tokens of prompt and answer together; default: unknown, not checked")
    capabilities: list[Capability] = Field(["chat", "completions"], description="what it can do: " + ", ".join(get_args(Capability)))
    description: str = Field("", description="a few words for routers that read descriptions")
    api_key: SecretStr | None = Field(None, description="sent to its backends as a bearer token")
    balancing: ModelBalancingSection | None = Field(None, description="how its backends share its calls; default: the common `balancing`")
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
