"""Reading the configuration file for a command: what is wrong goes to stderr, and the exit code is 2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.flow.decide import Route
    from gateway.guard.keys import KeysFile

WRONG_INPUT = 2


def load_keys(config: Config, path: Path) -> KeysFile | None:
    """The keys file that the configuration names; its path is relative to the configuration's folder."""
    import os

    from gateway.guard.keys import KeysFile
    from gateway.source import ConfigError

    if config.auth is None or config.auth.keys is None:
        return None
    names = [model.name for model in config.models], [route.name for route in config.routes]
    try:
        return KeysFile(path.parent / config.auth.keys, *names, os.environ)
    except ConfigError as error:
        for line in error.lines():
            typer.echo(line, err=True)
        raise typer.Exit(WRONG_INPUT) from None


def load(path: Path) -> tuple[Config, Mapping[str, Route]]:
    """The configuration and its routes, fully built, as `serve` would."""
    import os

    from gateway.config import validate
    from gateway.policies import build_routes
    from gateway.source import ConfigError
    from gateway.source import load as read
    from routers.registry import Registry

    try:
        source = read(path, os.environ)
        config = validate(source)
        return config, build_routes(config, Registry(), source)
    except ConfigError as error:
        for line in error.lines():
            typer.echo(line, err=True)
        raise typer.Exit(WRONG_INPUT) from None
