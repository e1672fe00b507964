"""`pointsman demo`: three fake experts and the gateway on this machine."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="send a dozen requests, print what became of them, and end")] = False,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port to listen on; default 8080, or a free one with --once")] = None,
) -> None:
    """Run the gateway and three fake experts on this machine: no GPU, no Redis, no download."""
    from gateway.demo import run

    raise typer.Exit(run(once, host, (0 if once else 8080) if port is None else port))
