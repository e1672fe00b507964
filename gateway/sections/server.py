"""The HTTP server."""

from __future__ import annotations

from pydantic import Field

from gateway.sections.base import Seconds, Section


class ServerSection(Section):
    """The HTTP server."""

    max_body_bytes: int = Field(10_485_760, ge=1024, description="largest request body")
    max_header_bytes: int = Field(65_536, ge=4096, le=262_144, description="largest head of a request, its first line included")
    max_headers: int = Field(200, ge=20, le=10_000, description="most header fields of a request")
    header_seconds: Seconds = Field(20, description="how long a request's head may take, from the connection or its own first byte on")
    body_seconds: Seconds = Field(60, description="how long a request's body may take")
    max_answer_bytes: int = Field(67_108_864, ge=65_536, description="largest whole answer, and largest single event of a stream")
    pre_stop_seconds: float = Field(
        0, ge=0, le=600, description="how long requests are still taken after SIGTERM, while `/readyz` says 503; in Kubernetes about 10"
    )
    drain_seconds: float = Field(30, ge=0, le=3600, description="how long running requests may go on after that")
    write_seconds: Seconds = Field(60, description="a client that takes no byte for so long is cut off")
