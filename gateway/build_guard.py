"""Who is let in, and how much each may use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.account.metrics import Metrics
from gateway.config import Config
from gateway.guard.auth import Gate
from gateway.guard.buckets import Buckets
from gateway.guard.keys import KeysFile
from gateway.guard.limits import Limits
from gateway.guard.tokens import TokenSettings, TokenVerifier
from gateway.memory.store import Store
from gateway.parts import Parts


@dataclass(frozen=True, slots=True)
class Guard:
    """`keys`, `tokens`: None where the configuration names none."""

    gate: Gate
    limits: Limits
    buckets: Buckets
    keys: KeysFile | None
    tokens: TokenVerifier | None


def build_guard(
    config: Config, keys: KeysFile | None, store: Store | None, metrics: Metrics, ids: Callable[[], str], parts: Parts
) -> Guard:
    """`keys`: the keys file, read already."""
    section = None if config.auth is None else config.auth.jwt
    tokens = None
    if section is not None:
        settings = TokenSettings(**{**section.model_dump(), "algorithms": tuple(section.algorithms)})
        tokens = parts.get("tokens", settings, lambda: TokenVerifier(settings))
    share, hold = config.limits.expected_replicas * workers(), config.limits.hold_seconds
    buckets = parts.get("buckets", share, lambda: Buckets(share, time.monotonic, time.time))

    def limits() -> Limits:
        return Limits(
            store,
            buckets,
            hold_seconds=hold,
            clock=time.monotonic,
            wall_clock=time.time,
            new_id=ids,
            local_used=metrics.limits_local.inc,
        )

    return Guard(Gate(keys, tokens), parts.get("limits", (store, buckets, hold), limits), buckets, keys, tokens)


def workers() -> int:
    """How many processes share this gateway's port. The supervisor says so."""
    return int(os.environ.get("POINTSMAN_WORKERS", "1"))
