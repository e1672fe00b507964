"""`pointsman serve`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import load


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="the configuration file")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes")] = 1,
) -> None:
    """Run the gateway."""
    found, routes = load(config)
    from gateway.server import run

    raise typer.Exit(run(found, routes, host, port, workers))
