"""What is remembered of requests, and what is written of them: in this process, in Redis, in files."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway.account.feedback import Feedback
from gateway.account.ledger import Ledger
from gateway.account.ledger_files import LedgerFile
from gateway.account.metrics import Metrics
from gateway.config import Config
from gateway.memory.cache import ChoiceCache, Choices
from gateway.memory.decisions import Decisions
from gateway.memory.feed import Feed
from gateway.memory.idempotency import Repeats
from gateway.memory.sessions import Sessions
from gateway.memory.store import Store
from gateway.parts import Parts


@dataclass(frozen=True, slots=True)
class Memory:
    """`store` is None without Redis."""

    store: Store | None
    choices: Choices
    sessions: Sessions
    decisions: Decisions
    repeats: Repeats
    feed: Feed


def build_memory(config: Config, metrics: Metrics, ids: Callable[[], str], parts: Parts) -> Memory:
    store, clock = _store(config, metrics, parts), time.monotonic
    cache, sessions, decisions, repeats = config.cache, config.sessions, config.decisions, config.idempotency

    def choices() -> Choices:
        return Choices(ChoiceCache(cache.size, cache.ttl_seconds, clock), store, cache.ttl_seconds)

    return Memory(
        store,
        parts.get("choices", (cache, store), choices),
        parts.get(
            "sessions",
            (sessions.size, sessions.ttl_seconds, store),
            lambda: Sessions(sessions.size, sessions.ttl_seconds, store, clock),
        ),
        parts.get("decisions", (decisions, store), lambda: Decisions(decisions.kept, store, decisions.ttl_seconds)),
        parts.get("repeats", (repeats, store), lambda: Repeats(repeats.size, repeats.ttl_seconds, store, clock, ids)),
        parts.get("feed", store, lambda: Feed(store, f"{platform.node() or 'gateway'}/{os.getpid()}/{ids()[:4]}")),
    )


def _store(config: Config, metrics: Metrics, parts: Parts) -> Store | None:
    section = config.redis
    if section is None:
        return None
    url, timeout, prefix = section.url.get_secret_value(), section.timeout_ms / 1000, section.prefix

    def failed(reason: str) -> None:
        metrics.count(metrics.redis_failures, reason)

    return parts.get("store", section, lambda: Store(url, timeout=timeout, prefix=prefix, failed=failed))


def build_ledger(config: Config, store: Store | None, parts: Parts) -> Ledger:
    section = config.ledger
    prefix = config.redis.prefix if config.redis else "pointsman"
    return parts.get("ledger", (section, store), lambda: _ledger(config, store if section.redis else None, prefix))


def _ledger(config: Config, store: Store | None, prefix: str) -> Ledger:
    section, publish = config.ledger, None
    if store is not None:

        def publish(line: bytes) -> None:
            store.later("XADD", f"{prefix}:1:ledger", "MAXLEN", "~", section.stream_length, "*", "line", line)

    return Ledger(None if section.path is None else LedgerFile(Path(section.path), section.max_bytes, section.keep), publish)


def build_feedback(
    config: Config, memory: Memory, ledger: Ledger, metrics: Metrics, learning: ThreadPoolExecutor, ids: Callable[[], str], parts: Parts
) -> Feedback:
    """Who tells learners of feedback. `learning`: one thread of their own, so that no decision waits for them."""
    ttl = config.decisions.ttl_seconds

    def feedback() -> Feedback:
        return Feedback(memory.decisions, ledger, metrics, learning, memory.store, ttl_seconds=ttl, origin=ids(), wall_clock=time.time)

    return parts.get("feedback", (memory.decisions, ledger, memory.store, ttl), feedback)
