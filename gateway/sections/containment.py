"""How failures of backends are contained."""

from __future__ import annotations

from pydantic import Field

from gateway.sections.base import Seconds, Section


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
