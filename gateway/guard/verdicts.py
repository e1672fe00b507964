"""What the keepers of allowances, Redis and this process, say of a request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from gateway.guard.callers import Allowance, Window

Bound = Literal["requests", "tokens", "budget"]
PICO = 1_000_000_000_000


class Verdict(Struct, frozen=True, gc=False):
    """Whether a request may go on. `refused`: the bound that it exceeds, None if it may.

    Seconds: `retry_after`, `requests_reset`, `tokens_reset` (until the bucket is full again). Counts: `requests_left`, `tokens_left`;
    -1 where there is no such bound. pico-USD: `left` of the budget after this request, -1 without one; `held` by other requests.
    """

    refused: Bound | None
    retry_after: float
    requests_left: int
    requests_reset: float
    tokens_left: int
    tokens_reset: float
    left: int
    held: int


def pico(usd: float) -> int:
    """USD as whole pico-USD: sums of them are exact."""
    return round(usd * PICO)


def window(kind: Window, now: float) -> tuple[str, float]:
    """The name of the budget's window at `now` (Unix time), and how many seconds it still lasts. Windows are days or months in UTC."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return today.strftime("%Y-%m-%d"), (today + timedelta(days=1)).timestamp() - now
    first = today.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return first.strftime("%Y-%m"), following.timestamp() - now


def headers(allowance: Allowance, verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """The `x-ratelimit-*` headers that OpenAI's clients read."""
    found: list[tuple[bytes, bytes]] = []
    rows = (
        (b"requests", allowance.rpm, verdict.requests_left, verdict.requests_reset),
        (b"tokens", allowance.tpm, verdict.tokens_left, verdict.tokens_reset),
    )
    for name, limit, left, reset in rows:
        if limit is not None:
            found.append((b"x-ratelimit-limit-" + name, b"%d" % limit))
            found.append((b"x-ratelimit-remaining-" + name, b"%d" % max(0, left)))
            found.append((b"x-ratelimit-reset-" + name, duration(reset).encode()))
    return found


def duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.4g}s"
