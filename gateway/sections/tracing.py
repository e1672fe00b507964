"""Traces: what is sent of each request to an OpenTelemetry collector."""

from __future__ import annotations

import re
from importlib.util import find_spec
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from gateway.sections.base import Seconds, Section
from gateway.source import Key

NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
SIGNAL_PATH = "/v1/traces"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


class TracingSection(Section):
    """Spans of each request, sent to an OpenTelemetry collector (needs `pip install pointsman[otel]`)."""

    endpoint: str | None = Field(
        None, description="of the collector, OTLP over HTTP, such as `http://collector:4318`; default: nothing is traced"
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="share of requests that are traced; a `traceparent` that comes along decides instead"
    )
    prompts: bool = Field(False, description="also what was asked")
    headers: dict[str, SecretStr] = Field({}, max_length=20, description="sent to the collector, such as `authorization`")
    service_name: str = Field("pointsman", min_length=1, max_length=128, description="`service.name` of the spans")
    timeout_seconds: Seconds = Field(5, description="for one batch of spans; then it is dropped and counted")
    queue: int = Field(4096, ge=512, le=1_000_000, description="spans that wait to be sent; beyond them they are dropped and counted")

    @field_validator("endpoint")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in url or parts.query or parts.fragment:
            raise ValueError("is not a URL like http://collector:4318, without user, query or fragment; keys go to `headers`")
        return url

    @field_validator("headers")
    @classmethod
    def _fields(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not the name of a header")
            if not (value.get_secret_value().isascii() and value.get_secret_value().isprintable()):
                raise ValueError(f"the value of {name} may hold visible ASCII characters and spaces only")
        return headers

    @property
    def url(self) -> str:
        """Where spans go: the path of the signal is added where the endpoint has none."""
        endpoint = (self.endpoint or "").rstrip("/")
        return endpoint if urlsplit(endpoint).path else endpoint + SIGNAL_PATH


def contradictions(section: TracingSection) -> list[tuple[tuple[Key, ...], str]]:
    """What is wrong with the section as a whole: where, and why."""
    if section.endpoint is None or all(_is_installed(name) for name in NEEDED):
        return []
    return [(("tracing", "endpoint"), "needs OpenTelemetry: pip install pointsman[otel]")]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:  # not even the package around it is
        return False
