"""`pointsman serve`"""

from __future__ import annotations

import signal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import WRONG_INPUT, load_blueprint


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="the configuration file")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes that share the port")] = 1,
    insecure: Annotated[bool, typer.Option("--insecure", help="listen beyond this machine though every caller is let in")] = False,
    leash: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Run the gateway."""
    # Whoever asks for a reload before the handler is there must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from gateway.watching import Watch

    watch = Watch(config)
    blueprint = load_blueprint(config)
    if blueprint.config.auth is None and leash < 0:
        _warn(host, insecure)
    if workers > 1 and blueprint.config.residency:
        typer.echo("--workers: models that take turns (`residency`) need one process, which knows what is awake", err=True)
        raise typer.Exit(WRONG_INPUT)
    if workers > 1:
        del blueprint
        from gateway.supervisor import run_workers

        raise typer.Exit(run_workers(config, host, port, workers, insecure))
    from gateway.server import run
    from gateway.workers import Leash

    raise typer.Exit(run(config, blueprint, watch, host, port, Leash.of(leash) if leash >= 0 else None))


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
