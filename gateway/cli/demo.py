"""`pointsman demo`: three fake experts and the gateway on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.demo import Expert

EXPERTS = (
    # name, skill, latency, USD per 1M tokens in and out, what it is good for
    ("small", 0.3, "small", 0.05, 0.10, "fast general model for short and simple questions"),
    ("medium", 0.6, "medium", 0.20, 0.60, "sums, look-ups, a bit of code"),
    ("large", 0.95, "large", 1.00, 3.00, "long and hard questions"),
)


def demo(
    once: Annotated[bool, typer.Option("--once", help="send a dozen requests, print what became of them, and end")] = False,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port to listen on; default 8080, or a free one with --once")] = None,
) -> None:
    """Run the gateway and three fake experts on this machine: no GPU, no Redis, no download."""
    from gateway.demo import run

    raise typer.Exit(run(once, host, (0 if once else 8080) if port is None else port))
