"""`pointsman check`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.loading import load_blueprint

if TYPE_CHECKING:
    from gateway.guard.keys import KeysFile


def check(config: Annotated[Path, typer.Argument(help="the configuration file")]) -> None:
    """Validate a configuration file: exit code 0, or 2 with file, line, YAML path and what is wrong."""
    blueprint = load_blueprint(config)
    found, keys = blueprint.config, blueprint.keys
    typer.echo(f"{config}: good; {len(found.models)} models, {len(blueprint.routes)} routes, {_keys(keys)}, hash {found.hash}")


def _keys(file: KeysFile | None) -> str:
    return "no keys" if file is None else f"{len(file.ring)} keys"
