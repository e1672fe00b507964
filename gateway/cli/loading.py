"""Reading the configuration file for a command: what is wrong goes to stderr, and the exit code is 2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from gateway.blueprint import Blueprint
    from gateway.config import Config
    from gateway.flow.decide import Route

WRONG_INPUT = 2


def load(path: Path) -> tuple[Config, Mapping[str, Route]]:
    """The configuration and its routes, fully built, as `serve` would; but for the keys."""
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
        raise refuse(error.lines()) from None


def load_blueprint(path: Path) -> Blueprint:
    """All that a gateway is built from, its keys file included."""
    import os

    from gateway.blueprint import read
    from gateway.source import ConfigError

    try:
        return read(path, os.environ)
    except ConfigError as error:
        raise refuse(error.lines()) from None


def refuse(lines: list[str]) -> typer.Exit:
    """Says what is wrong; to be raised."""
    for line in lines:
        typer.echo(line, err=True)
    return typer.Exit(WRONG_INPUT)
