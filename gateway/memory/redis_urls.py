"""Where a Redis or Valkey is, read from a URL. Pure: nothing is looked up or opened.

| URL | what |
|---|---|
| `redis://[user:password@]host[:6379][/db]` | one server; `rediss://` with TLS |
| `unix://[user:password@]/path/to/socket[?db=0]` | one server on this machine |
| `redis+sentinel://[user:password@]host[:26379],host…/service[/db]` | the primary that Sentinels name; `rediss+sentinel://` with TLS |
| `redis+cluster://[user:password@]host[:6379],host…` | a Cluster, found through any of these nodes; `rediss+cluster://` with TLS |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

Mode = Literal["single", "unix", "sentinel", "cluster"]
SCHEMES: dict[str, tuple[Mode, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says. `tls`: options for the TLS layer by redis-py's names; None without TLS."""

    mode: Mode
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    tls: dict[str, str] | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """For logs: hosts and ports, or the path. Never a user or a password."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return self.path if self.mode == "unix" else hosts


def parse(url: str) -> Address:
    """Reads a URL. Raises ValueError, which says what would be right and holds no piece of the URL, as any could be a password."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"a Redis URL starts with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    mode, tls = SCHEMES[scheme]
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    user, _, hosts = place.rpartition("@")
    if "@" in user or "@" in path or "#" in url:
        raise ValueError("in a Redis URL's user or password, write @ as %40, / as %2F, ? as %3F, # as %23 and : as %3A")
    username, password = _credentials(user)
    options = _options(query, mode, tls)
    db = options.pop("db", None)
    sentinel_username, sentinel_password = options.pop("sentinel_username", None), options.pop("sentinel_password", None)
    if mode == "unix":
        if hosts or not path:
            raise ValueError("a unix:// URL names an absolute path, as in unix:///run/redis.sock?db=0")
        return Address(mode, path=unquote(slash + path), db=_db(db), username=username, password=password)
    service = ""
    if mode == "sentinel":
        service, _, path = path.partition("/")
        if not _SERVICE.fullmatch(service):
            raise ValueError("a Sentinel URL names the service, as in redis+sentinel://host1:26379,host2:26379/mymaster/0")
    if mode == "cluster" and (path or db):
        raise ValueError("a Redis Cluster has one database: nothing follows the hosts, as in redis+cluster://host1:6379,host2:6379")
    if path and db is not None:
        raise ValueError("a Redis URL gives the database once, after the last / or as ?db=")
    return Address(
        mode,
        _hosts(hosts, 26379 if mode == "sentinel" else 6379, several=mode != "single"),
        service=service,
        db=_db(path or db),
        tls=options if tls else None,
        username=username,
        password=password,
        sentinel_username=sentinel_username,
        sentinel_password=sentinel_password,
    )


def _credentials(user: str) -> tuple[str | None, str | None]:
    name, colon, password = user.partition(":")
    if ":" in password:
        raise ValueError("in a Redis URL's user or password, write : as %3A")
    if user and not (colon and password):
        raise ValueError("a Redis URL gives user and password as user:password@, or the password alone as :password@")
    return unquote(name) or None, unquote(password) or None


def _hosts(text: str, port: int, several: bool) -> tuple[tuple[str, int], ...]:
    found = []
    for one in text.split(","):
        match = _HOST.fullmatch(one)
        if match is None:
            raise ValueError("a Redis URL's host is a name or an address with a port, as in redis-1.example.com:6379 or [::1]:6379")
        number = int(match[2] or port)
        if not 0 < number < 65536:
            raise ValueError("a Redis URL's port is a number from 1 to 65535")
        found.append((match[1].strip("[]"), number))
    if len(found) > 1 and not several:
        raise ValueError("a redis:// URL names one host; several go with redis+sentinel:// or redis+cluster://")
    return tuple(found)


def _db(text: str | None) -> int:
    if text is None or text == "":
        return 0
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("a Redis URL's database is a number, as in redis://host:6379/0")
    return int(text)


def _options(query: str, mode: Mode, tls: bool) -> dict[str, str]:
    allowed = ["db"] + (list(TLS_OPTIONS) if tls else []) + (["sentinel_username", "sentinel_password"] if mode == "sentinel" else [])
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs) or not set(options) <= set(allowed) or (query and not pairs):
        raise ValueError(f"this Redis URL takes the options {', '.join(allowed)}, each once, as in ?db=0")
    if options.get("ssl_cert_reqs", "required") not in ("required", "optional", "none"):
        raise ValueError("a Redis URL's ssl_cert_reqs is required, optional or none")
    if options.get("ssl_check_hostname", "true") not in ("true", "false"):
        raise ValueError("a Redis URL's ssl_check_hostname is true or false")
    return options
