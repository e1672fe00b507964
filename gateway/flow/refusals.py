"""What a client is told when no candidate is left, or when its money pays for none."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gateway.errors import Code, GatewayError

Prices = Mapping[str, float | None]
"""USD by model; None: unknown."""
_DECIMALS = 9

_CAUSES: tuple[tuple[str, Code, str], ...] = (
    ("unhealthy", "no_healthy_backend", "no backend of a model that could answer is up"),
    ("budget", "budget_exceeded", "the key's budget does not pay for what this request may cost"),
    ("max_cost", "max_cost_too_low", "the request's max_cost_usd pays for no candidate"),
    ("context_length", "context_length_exceeded", "the prompt and the answer fit no candidate's context window"),
)


def cheapest(prices: Prices) -> str:
    """To be put after a message: which model might be paid with the least, and with how much, rounded up. Nothing if nobody knows."""
    known = {name: price for name, price in prices.items() if price is not None}
    if not known:
        return ""
    name = min(known, key=lambda model: known[model])
    return f"; the cheapest is {name!r}, for ${math.ceil(known[name] * 10**_DECIMALS) / 10**_DECIMALS:.{_DECIMALS}f}"


def refusal(rejected: Mapping[str, str], more: Mapping[str, str] | None = None) -> GatewayError:
    """The client's error when no candidate is left. A candidate that only lacks a healthy backend is worth waiting for, and so on down.

    `more`: to be put after the message, by the reason that decides.
    """
    listed = ", ".join(f"{name} ({reason})" for name, reason in rejected.items())
    reasons = set(rejected.values())
    for reason, code, message in _CAUSES:
        if reason in reasons:
            param = "router.max_cost_usd" if reason == "max_cost" else "messages" if reason == "context_length" else None
            said = f"{message}{(more or {}).get(reason, '')}: {listed}"
            return GatewayError(code, said, param=param, retry_after=1 if reason == "unhealthy" else None)
    param = "router.models" if reasons == {"not_allowed"} else None
    return GatewayError("no_capable_model", f"no candidate has what the request needs: {listed}", param=param)


def unpaid(bound: str, more: str) -> GatewayError:
    """The client's error when the money of a plan (`bound`: `budget` or `max_cost`) ended before there was any answer."""
    if bound == "budget":
        return GatewayError("budget_exceeded", f"what is left of the key's budget does not pay for the answer{more}")
    return GatewayError("max_cost_too_low", f"the request's max_cost_usd does not pay for the answer{more}", param="router.max_cost_usd")
