"""`pointsman check`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import load


def check(config: Annotated[Path, typer.Argument(help="the configuration file")]) -> None:
    """Validate a configuration file: exit code 0, or 2 with file, line, YAML path and what is wrong."""
    found, routes = load(config)
    typer.echo(f"{config}: good; {len(found.models)} models, {len(routes)} routes, hash {found.hash}")
