"""From the configuration file, and the files that it names, to what a gateway is built from: checked whole, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Config, validate
from gateway.flow.decide import Route
from gateway.guard.keys import KeysFile
from gateway.parts import Parts
from gateway.policies import build_routes
from gateway.source import Source, load
from routers.registry import Registry


@dataclass(frozen=True, slots=True)
class Blueprint:
    """`routes`: with their policies built. `keys`: None if the configuration names no keys file. `parts`: what was built so far.

    `folder`: where files that the configuration names are looked for.
    """

    config: Config
    routes: Mapping[str, Route]
    keys: KeysFile | None
    parts: Parts
    folder: Path


def read(path: Path, environment: Mapping[str, str], before: Parts | None = None) -> Blueprint:
    """Reads a configuration file. `before`: parts of the gateway that serves now. Raises ConfigError with every problem found.

    Slow where artifacts are loaded; may run in a thread.
    """
    return draw(load(path, environment), path.parent, environment, Registry(), before)


def draw(source: Source, folder: Path, environment: Mapping[str, str], registry: Registry, before: Parts | None = None) -> Blueprint:
    """As `read`, for a file that was parsed already. `folder`: where a keys file is looked for."""
    parts = Parts(before)
    config = validate(source)
    routes = build_routes(config, registry, source, parts)
    return Blueprint(config, routes, read_keys(config, folder, environment, parts), parts, folder)


def read_keys(config: Config, folder: Path, environment: Mapping[str, str], parts: Parts) -> KeysFile | None:
    """The keys file that a configuration names, read. Raises ConfigError."""
    if config.auth is None or config.auth.keys is None:
        return None
    path = folder / config.auth.keys
    models, routes = [model.name for model in config.models], [route.name for route in config.routes]
    return parts.get("keys file", (path, models, routes), lambda: KeysFile(path, models, routes, environment))
