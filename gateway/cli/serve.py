"""`pointsman serve`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import load


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="the configuration file")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes that share the port")] = 1,
    share_port: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the gateway."""
    found, routes = load(config)
    typer.echo("every caller is let in: there is no `auth` section", err=True)
    if workers > 1:
        from gateway.supervisor import run_workers

        raise typer.Exit(run_workers(config, host, port, workers))
    from gateway.server import run

    raise typer.Exit(run(found, routes, host, port, share_port))
