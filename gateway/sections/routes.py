"""The virtual models and how they decide."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gateway.sections.base import NAME, Section


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
