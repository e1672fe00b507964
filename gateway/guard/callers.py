"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "admin"]
Window = Literal["day", "month"]
Priority = Literal["interactive", "batch"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a caller may use. None: unbounded. `rpm`, `tpm`: requests and tokens a minute; `budget_usd`: USD in each `window` (UTC)."""

    rpm: int | None = None
    tpm: int | None = None
    budget_usd: float | None = None
    window: Window = "month"

    @property
    def bounded(self) -> bool:
        return self.rpm is not None or self.tpm is not None or self.budget_usd is not None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from. `id` names it in logs, records and keys of the store, and is safe there: `[A-Za-z0-9._-]{1,64}`.

    `models`, `routes`: what it may use; None: everything. `expires`: Unix time; None: never.
    """

    id: str
    name: str
    role: Role = "user"
    models: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    allowance: Allowance = Allowance()
    priority: Priority = "interactive"
    expires: float | None = None

    def may_ask(self, model: str) -> bool:
        """Whether this model may answer it."""
        return self.models is None or model in self.models

    def may_take(self, route: str) -> bool:
        """Whether it may name this route."""
        return self.routes is None or route in self.routes


ANYONE = Caller("anyone", "anyone", "admin")
"""Every caller where there is no `auth` section."""
