"""Who may call, and how much."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from gateway.sections.base import Seconds, Section


class LimitsSection(Section):
    """How callers are kept within their allowances."""

    expected_replicas: int = Field(1, ge=1, le=10_000, description="gateways; while Redis is away each keeps to its part of every bound")
    hold_seconds: Seconds = Field(900, description="a reservation is given back after so long, if its process died")


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
