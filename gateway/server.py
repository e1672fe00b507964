"""Runs the gateway's app in uvicorn."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Mapping

import uvicorn

from gateway.app import build, create_app
from gateway.config import Config
from gateway.flow.decide import Route
from gateway.guard.keys import KeysFile


def run(config: Config, routes: Mapping[str, Route], keys: KeysFile | None, host: str, port: int, share_port: bool = False) -> int:
    """Serves until SIGTERM or SIGINT. `share_port`: other processes listen on the same port. Returns the exit code."""
    try:
        listener = listen(host, port, share_port)
    except OSError as error:
        print(f"cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    gateway = build(config, routes, sys.stdout, sys.stdout.isatty(), keys)
    server = uvicorn.Server(settings(create_app(gateway), host, port, config.server.drain_seconds))
    # What was built stays for good: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    print(f"pointsman listens on http://{host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def listen(host: str, port: int, share_port: bool) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def settings(app: object, host: str, port: int, drain_seconds: float) -> uvicorn.Config:
    """uvicorn as the gateway needs it: uvloop and httptools, no access log, no server header."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        timeout_keep_alive=75,
        backlog=4096,
        proxy_headers=False,
    )
