"""What a failed call says of the store: why, and whether the next call would fail in the same way."""

from __future__ import annotations

from typing import Literal, get_args

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    InvalidResponse,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as LibraryTimeout

Reason = Literal["timeout", "connection", "readonly", "oom", "auth", "loading", "script", "other"]
REASONS: tuple[Reason, ...] = get_args(Reason)

# All that redis-py lets through: its own, the socket's, and what uvloop says of a transport that has gone (RuntimeError).
# UnicodeError: a text that cannot be encoded.
FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError, EOFError, RuntimeError, UnicodeError)

# Errors by their first word where redis-py has no class of its own. These are the server's state and not the command's fault.
_STATES: dict[str, Reason] = {
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "NOPERM": "auth",
    "OOM": "oom",
    "READONLY": "readonly",
    "LOADING": "loading",
    "MISCONF": "other",
    "MASTERDOWN": "other",
    "CLUSTERDOWN": "other",
    "BUSY": "other",
    "NOREPLICAS": "other",
    "TRYAGAIN": "other",
}
_CLASSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Reason], ...] = (
    ((TimeoutError, LibraryTimeout), "timeout"),
    (ReadOnlyError, "readonly"),
    (OutOfMemoryError, "oom"),
    ((AuthenticationError, AuthorizationError, NoPermissionError), "auth"),
    (BusyLoadingError, "loading"),
    ((LostConnection, OSError, EOFError, RuntimeError), "connection"),
    ((ClusterError, InvalidResponse), "other"),
)


def judge(error: BaseException) -> tuple[Reason, bool]:
    """The reason, and whether it is the store's state (True) or the fault of this one call (False)."""
    if isinstance(error, MaxConnectionsError):
        return "connection", False
    for classes, reason in _CLASSES:
        if isinstance(error, classes):
            return reason, True
    if isinstance(error, RedisClusterException):
        # It has no class of its own for "no node answers".
        return "connection", True
    if isinstance(error, ResponseError):
        state = _STATES.get(str(error).partition(" ")[0])
        return (state, True) if state else ("script", False)
    return "other", False
