"""The seam between those who find backends and those who use them: a source tells the whole set of base URLs each time it changed."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from random import Random
from typing import Literal, Protocol
from urllib.parse import urlsplit

Sleep = Callable[[float], Awaitable[None]]

MAX_BACKENDS = 1000
"""Backends of one source. More of them is a selector or a name that catches too much, and each one is checked every few seconds."""

_REASONS_KEPT = 16
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_log = logging.getLogger("pointsman.discovery")


class SourceError(Exception):
    """A source that cannot be made. The text says why, and what to do."""


class Unusable(Exception):
    """What a source was told is of no use. The text says why; it is safe to log."""


class Source(Protocol):
    """Finds the backends of one model."""

    @property
    def standing(self) -> Standing:
        """Whether it works."""

    def watch(self) -> AsyncGenerator[frozenset[str], None]:
        """Tells the base URLs of all backends, such as `http://10.0.0.7:8000/v1`: first when they are known, then each time they changed.

        Never ends by itself. What goes wrong is told to `standing` and tried again; it never raises, and it never changes the set: the
        last one that was good stays. An empty set means that whoever is asked says so: there is no backend. Close it, or cancel the task
        that waits for it, to end it.
        """


class Standing:
    """Whether a source works: `problem` is why it does not, "" while it does; `failures` are counted from the start.

    The log hears of each change between the two, and of each new reason, once.
    """

    __slots__ = ("_reasons", "_where", "failures", "problem")

    def __init__(self, where: str) -> None:
        """`where`: what is asked, for the log, such as `the file backends.yaml`."""
        self._where = where
        self._reasons: set[str] = set()
        self.failures = 0
        self.problem = ""

    def failed(self, reason: str) -> None:
        self.failures += 1
        self.problem = reason
        if reason not in self._reasons and len(self._reasons) < _REASONS_KEPT:
            self._reasons.add(reason)
            _log.warning("discovery from %s: %s; the backends found before stay", self._where, reason)

    def worked(self) -> None:
        if self.problem:
            _log.info("discovery from %s works again", self._where)
        self.problem = ""
        self._reasons.clear()


class Backoff:
    """Pauses that double from `first` to `cap` seconds, each shortened at random by up to a half."""

    __slots__ = ("_cap", "_first", "_rng", "_tries")

    def __init__(self, first: float, cap: float, rng: Random) -> None:
        self._first = first
        self._cap = cap
        self._rng = rng
        self._tries = 0

    def next(self) -> float:
        pause = min(self._cap, self._first * float(2 ** min(self._tries, 20)))
        self._tries += 1
        return pause * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._tries = 0


def base_url(text: str) -> str:
    """A backend's URL in the one form in which two of them can be compared: scheme and host in lower case, no slash at the end.

    Raises ValueError for anything that is not like `http://host:8000/v1`.
    """
    strange = not text.isprintable() or " " in text
    parts = urlsplit(text)
    if strange or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError(f"{text[:200]!r} is not a URL like http://host:8000/v1")
    if parts.port == 0:
        raise ValueError(f"{text[:200]!r} has port 0")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def server_url(scheme: Literal["http", "https"], host: str, port: int, path: str) -> str:
    """The base URL of a server that was found. `host`: a name or an address; `path`: such as `/v1`. Raises ValueError."""
    if not 0 < port < 65_536:
        raise ValueError(f"{port} is no port")
    if ":" in host:
        host = f"[{ipaddress.IPv6Address(host)}]"
    elif _HOST.fullmatch(host) is None:
        raise ValueError(f"{host[:200]!r} is not a name or an address")
    return f"{scheme}://{host.lower()}:{port}{path.rstrip('/')}"


def found(urls: Iterable[str]) -> frozenset[str]:
    """The set of them. Raises Unusable if there are too many."""
    whole = frozenset(urls)
    if len(whole) > MAX_BACKENDS:
        raise Unusable(f"{len(whole)} backends are more than {MAX_BACKENDS}")
    return whole
