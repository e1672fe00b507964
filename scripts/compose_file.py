"""What a compose file says of its services, as far as a program needs it that starts them without a container engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::?-([^}]*))?\}")
_UNITS = {"s": 1, "m": 60, "h": 3600}


class ComposeError(Exception):
    """Something in the file that is not understood here."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine at a path of the container; without a `source` an empty folder."""

    target: str
    source: Path | None


@dataclass(frozen=True)
class Check:
    """How a service says that it is well. `test`: a program and its arguments."""

    test: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float


@dataclass(frozen=True)
class Service:
    """One service. `image`: the repository without its tag; `names`: its own and its aliases; `ports`: those that it listens on."""

    name: str
    image: str
    names: frozenset[str]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[int, ...]
    published: frozenset[int]
    mounts: tuple[Mount, ...]
    check: Check | None
    after: Mapping[str, str]
    grace: float


def read(file: Path, profile: str, environment: Mapping[str, str]) -> dict[str, Service]:
    """The services of a profile, by name, with `${VARIABLE:-default}` filled in. Raises ComposeError."""
    document = _filled(yaml.safe_load(file.read_text(encoding="utf-8")), environment)
    chosen = {name: given for name, given in document["services"].items() if profile in given.get("profiles", [profile])}
    secrets = {name: file.parent / given["file"] for name, given in document.get("secrets", {}).items()}
    return {name: _service(name, given, file.parent, secrets, chosen) for name, given in chosen.items()}


def variables(file: Path) -> dict[str, str]:
    """The lines `NAME=value` of an `.env` file."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, environment) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _variable(found, environment), value)
    return value


def _variable(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    value = environment.get(found[1]) or found[2]
    if value is None:
        raise ComposeError(f"{found[0]}: the variable is not set and has no default")
    return value


def _service(name: str, given: Mapping[str, Any], folder: Path, secrets: Mapping[str, Path], chosen: Mapping[str, Any]) -> Service:
    networks = given.get("networks", {})
    aliases = [alias for network in networks.values() for alias in (network or {}).get("aliases", [])] if isinstance(networks, dict) else []
    after = {}
    for other, how in given.get("depends_on", {}).items():
        if other in chosen:
            after[other] = how["condition"]
        elif how.get("required", True):
            raise ComposeError(f"{name} depends on {other}, which this profile does not have")
    return Service(
        name=name,
        image=given["image"].rsplit(":", 1)[0],
        names=frozenset({name, *aliases}),
        command=tuple(_listed(name, given.get("command", []))),
        environment={key: str(value) for key, value in given.get("environment", {}).items()},
        ports=tuple(int(port) for port in given.get("expose", [])),
        published=frozenset(int(port.rsplit(":", 1)[1]) for port in given.get("ports", [])),
        mounts=tuple(_mounts(given, folder, secrets)),
        check=_check(name, given["healthcheck"]) if "healthcheck" in given else None,
        after=after,
        grace=_seconds(given.get("stop_grace_period", "10s")),
    )


def _listed(name: str, command: object) -> Sequence[str]:
    if not isinstance(command, list):
        raise ComposeError(f"{name}: a command should be a list, so that no shell is needed")
    return [str(word) for word in command]


def _mounts(given: Mapping[str, Any], folder: Path, secrets: Mapping[str, Path]) -> list[Mount]:
    mounts = []
    for text in given.get("volumes", []):
        source, target = text.split(":")[:2]
        mounts.append(Mount(target, folder / source if source.startswith(".") else None))
    mounts += [Mount(text.split(":", 1)[0], None) for text in given.get("tmpfs", [])]
    for secret in given.get("secrets", []):
        source, target = (secret, secret) if isinstance(secret, str) else (secret["source"], secret["target"])
        mounts.append(Mount(f"/run/secrets/{target}", secrets[source]))
    return mounts


def _check(name: str, given: Mapping[str, Any]) -> Check:
    kind, *test = _listed(name, given["test"])
    if kind != "CMD":
        raise ComposeError(f"{name}: a health check should be `CMD` and a program, so that no shell is needed")
    seconds = {key: _seconds(given.get(key, default)) for key, default in (("interval", "30s"), ("timeout", "30s"), ("start_period", "0s"))}
    return Check(tuple(test), seconds["interval"], seconds["timeout"], int(given.get("retries", 3)), seconds["start_period"])


def _seconds(text: str) -> float:
    """`1m30s` as 90."""
    parts = re.findall(r"(\d+)([smh])", text)
    if "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ComposeError(f"{text!r} is no time like 90s or 1m30s")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))
