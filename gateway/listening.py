"""The socket that requests come in by."""

from __future__ import annotations

import socket


def listen(host: str, port: int, share_port: bool) -> socket.socket:
    """A socket bound to the address. `share_port`: other processes may bind the same one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener
