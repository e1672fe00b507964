"""`pointsman serve`"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import WRONG_INPUT, load, load_keys


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="the configuration file")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes that share the port")] = 1,
    insecure: Annotated[bool, typer.Option("--insecure", help="listen beyond this machine though every caller is let in")] = False,
    share_port: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the gateway."""
    found, routes = load(config)
    keys = load_keys(found, config)
    if found.auth is None:
        _warn(host, insecure)
    if workers > 1:
        from gateway.supervisor import run_workers

        raise typer.Exit(run_workers(config, host, port, workers, insecure))
    from gateway.server import run

    raise typer.Exit(run(found, routes, keys, host, port, share_port))


def _warn(host: str, insecure: bool) -> None:
    """Says that the door is open; beyond this machine it is opened only on purpose."""
    typer.echo("WARNING: every caller is let in: there is no `auth` section in the configuration (see `pointsman keys new`)", err=True)
    if not insecure and not is_loopback(host):
        typer.echo(f"not listening on {host}, which other machines can reach: add an `auth` section, or --insecure", err=True)
        raise typer.Exit(WRONG_INPUT)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
